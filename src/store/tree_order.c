/* Sorts by some passes over bytes of the keys, then by insertion; stateless. */
#include "store/tree_order.h"

#include <assert.h>

enum {
    BYTE_VALUES = 256,
    FIRST_SHIFT = 32, /* the lower half of the keys is left to the insertions */
    FEW = 64,         /* so many are inserted at once */
};

/* Stable. */
static void pass(const struct tree_order *from, struct tree_order *to, size_t count, unsigned shift)
{
    size_t starts[BYTE_VALUES] = {0};
    for (size_t i = 0; i < count; i++) {
        starts[from[i].key >> shift & (BYTE_VALUES - 1)]++;
    }
    size_t start = 0;
    for (unsigned value = 0; value < BYTE_VALUES; value++) {
        size_t size = starts[value];
        starts[value] = start;
        start += size;
    }
    assert(start == count);
    for (size_t i = 0; i < count; i++) {
        to[starts[from[i].key >> shift & (BYTE_VALUES - 1)]++] = from[i];
    }
}

/* Stable; few moves for what is all but sorted. */
static void insert(struct tree_order *orders, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct tree_order one = orders[i];
        size_t at = i;
        for (; at > 0 && orders[at - 1].key > one.key; at--) {
            orders[at] = orders[at - 1];
        }
        orders[at] = one;
    }
}

void tree_order_sort(struct tree_order *orders, struct tree_order *spare, size_t count)
{
    if (count > FEW) {
        for (unsigned shift = FIRST_SHIFT; shift < 64; shift += 16) {
            pass(orders, spare, count, shift);
            pass(spare, orders, count, shift + 8);
        }
    }
    insert(orders, count);
}
