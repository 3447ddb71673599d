/*
 * The filter: seven bits of one 64-byte line for each name, one bit in each of seven of its words.
 *
 * `low` chooses the line, `high` and what is left of `low` the bits: six bits of position in each
 * word, and the word that is left out. Some 12 bits a name leave 0.5% to 0.6% of false "maybe" at
 * capacity, of which the blocking costs a part: lines are not all equally full.
 *
 * Bits are only ever set, so that whoever saw an add finished (through an event, which orders it)
 * finds all bits of it. Owns its lines.
 */
#include "store/filter.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_WORDS = 8, LINE_BITS = 512, NAME_BITS = 12 };

static const uint64_t NAMES_MAX = UINT64_C(1) << 32; /* 6 GiB */

struct line {
    _Atomic uint64_t words[LINE_WORDS];
};

struct filter {
    struct line *lines;
    uint64_t line_count;
    uint64_t capacity;
    _Atomic uint64_t count;
};

struct filter *filter_create(uint64_t names)
{
    if (names > NAMES_MAX) {
        return NULL;
    }
    struct filter *filter = calloc(1, sizeof *filter);
    if (filter == NULL) {
        return NULL;
    }
    filter->capacity = names;
    filter->line_count = names * NAME_BITS / LINE_BITS + 1;
    size_t size = (size_t)filter->line_count * sizeof(struct line);
    filter->lines = aligned_alloc(sizeof(struct line), size);
    if (filter->lines == NULL) {
        free(filter);
        return NULL;
    }
    memset((void *)filter->lines, 0, size); /* nobody else sees it yet */
    atomic_init(&filter->count, 0);
    return filter;
}

void filter_destroy(struct filter *filter)
{
    if (filter != NULL) {
        free(filter->lines);
        free(filter);
    }
}

/* The line, and in `masks` the bit of each word (none in the one that is left out). */
static struct line *place(const struct filter *filter, struct index_hash name,
                          uint64_t masks[LINE_WORDS])
{
    /* By multiplication the upper bits of `low` count; the lower ones are free for the rest. */
    uint64_t line = (uint64_t)(((unsigned __int128)name.low * filter->line_count) >> 64);
    uint64_t bits = name.high;
    for (unsigned i = 0; i < LINE_WORDS; i++) {
        masks[i] = UINT64_C(1) << (bits & 63);
        bits >>= 6;
    }
    masks[name.low % LINE_WORDS] = 0;
    return &filter->lines[line];
}

void filter_add(struct filter *filter, struct index_hash name)
{
    uint64_t masks[LINE_WORDS];
    struct line *line = place(filter, name, masks);
    for (unsigned i = 0; i < LINE_WORDS; i++) {
        /* A bit that is there needs no write; the relaxed load pairs with nothing: whoever must
         * find this name learns of it after this returns. */
        if ((atomic_load_explicit(&line->words[i], memory_order_relaxed) & masks[i]) != masks[i]) {
            /* Pairs with the loads in filter_may_have, by way of the event that orders them. */
            atomic_fetch_or_explicit(&line->words[i], masks[i], memory_order_relaxed);
        }
    }
    atomic_fetch_add_explicit(&filter->count, 1, memory_order_relaxed); /* a number */
}

bool filter_may_have(const struct filter *filter, struct index_hash name)
{
    uint64_t masks[LINE_WORDS];
    const struct line *line = place(filter, name, masks);
    uint64_t missing = 0;
    for (unsigned i = 0; i < LINE_WORDS; i++) {
        /* Pairs with filter_add, by way of the event that orders them. */
        missing |= masks[i] & ~atomic_load_explicit(&line->words[i], memory_order_relaxed);
    }
    return missing == 0;
}

uint64_t filter_count(const struct filter *filter)
{
    return atomic_load_explicit(&filter->count, memory_order_relaxed); /* a number */
}

uint64_t filter_capacity(const struct filter *filter)
{
    return filter->capacity;
}

uint64_t filter_bytes(const struct filter *filter)
{
    return filter->line_count * sizeof(struct line) + sizeof *filter;
}
