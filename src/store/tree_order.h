/*
 * An order in which to enter names: sorted by their first 64 bits. Private to src/store/tree*.c.
 *
 * Names are hashes, so that some passes over their upper bits all but sort them; that takes a
 * fraction of the time of a sort by comparisons, of which a bite would need a million.
 */
#ifndef RETHREAD_STORE_TREE_ORDER_H
#define RETHREAD_STORE_TREE_ORDER_H

#include <stddef.h>
#include <stdint.h>

struct tree_order {
    uint64_t key;
    uint32_t place; /* whose key it is */
};

/* By key; those of the same key stay in the order in which they were given. `spare` has room for
 * as many, and is overwritten. Fast for keys whose upper halves are spread, right for all. */
void tree_order_sort(struct tree_order *orders, struct tree_order *spare, size_t count);

#endif
