/*
 * The filter: which names the disk may know, some 12 bits for each. "No" is certain.
 *
 * A blocked Bloom filter of atomic words: a name sets and tests bits of one 64-byte line, so that a
 * test is one cache miss. Names only come in; what is erased stays a "maybe" until the filter is
 * built anew (store/store.c). Ordering: who learns (through an event) that a name is in the tree
 * finds it in the filter. Add and test are wait-free, from any operating-system thread.
 */
#ifndef RETHREAD_STORE_FILTER_H
#define RETHREAD_STORE_FILTER_H

#include "index/index.h"

struct filter;

struct filter *filter_create(uint64_t names); /* NULL: no memory, or above 2^32 */
void filter_destroy(struct filter *filter);
void filter_add(struct filter *filter, struct index_hash name);
bool filter_may_have(const struct filter *filter, struct index_hash name);
uint64_t filter_count(const struct filter *filter);    /* names added */
uint64_t filter_capacity(const struct filter *filter); /* names it was made for */
uint64_t filter_bytes(const struct filter *filter);

#endif
