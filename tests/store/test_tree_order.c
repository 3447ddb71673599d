/* Orders of names, beside a sort by comparisons. */
#include "store/tree_order.h"

#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <stdlib.h>

enum { COUNT = 5000 };

static struct tree_order orders[COUNT];
static struct tree_order spare[COUNT];
static struct tree_order right[COUNT];

static int compare(const void *left, const void *other)
{
    const struct tree_order *a = left, *b = other;
    int order = a->key < b->key ? -1 : a->key > b->key;
    return order ? order : a->place < b->place ? -1 : a->place > b->place;
}

/* Of so many keys that are alike but for `mask`. */
static void try(size_t count, uint64_t mask, uint64_t *state)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t low = trial_below(state, UINT32_MAX);
        uint64_t key = (trial_below(state, UINT32_MAX) << 32 ^ low) & mask;
        orders[i] = right[i] = (struct tree_order){.key = key, .place = (uint32_t)i};
    }
    tree_order_sort(orders, spare, count);
    qsort(right, count, sizeof *right, compare);
    for (size_t i = 0; i < count; i++) {
        ck_assert_uint_eq(orders[i].key, right[i].key);
        ck_assert_uint_eq(orders[i].place, right[i].place);
    }
}

START_TEST(as_by_comparisons)
{
    static const size_t counts[] = {0, 1, 2, 63, 64, 65, 66, 1000, COUNT};
    static const uint64_t masks[] = {
        UINT64_MAX,
        0,                            /* all alike: as they came */
        UINT64_C(0xff00000000000000), /* one byte of those that are passed over, of each */
        UINT64_C(0x00ff000000000000),
        UINT64_C(0x0000ff0000000000),
        UINT64_C(0x000000ff00000000),
        UINT64_C(0x00000000ffffffff), /* none: inserted alone */
        UINT64_C(0x8000000000000001),
    };
    uint64_t state = 7;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        for (size_t j = 0; j < sizeof masks / sizeof *masks; j++) {
            try(counts[i], masks[j], &state);
        }
    }
}
END_TEST

int main(void)
{
    return SUITE_RUN("store/tree_order", NULL, NULL, 60, as_by_comparisons);
}
