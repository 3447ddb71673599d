/* Sealed cursors: whole round trip, nothing of the position visible, nothing made up accepted. */
#include "thread/cursor.h"
#include "tests/lib/trial.h"

#include <check.h>
#include <stdlib.h>

static struct threads threads;

static void fill_secret(void)
{
    uint64_t seed = 7;
    for (size_t i = 0; i < sizeof threads.cursor_secret; i++) {
        threads.cursor_secret[i] = (uint8_t)trial_random(&seed);
    }
}

START_TEST(opens_what_it_sealed)
{
    uint64_t seed = 1;
    fill_secret();
    for (int i = 0; i < 10000; i++) {
        struct index_scan scan = {.position = trial_random(&seed),
                                  .after = (uint32_t)trial_random(&seed)};
        struct index_scan opened;
        uint8_t cursor[THREAD_CURSOR_BYTES];
        cursor_seal(&threads, &scan, cursor);
        ck_assert(cursor_open(&threads, bytes_of(cursor, sizeof cursor), &opened));
        ck_assert_uint_eq(opened.position, scan.position);
        ck_assert_uint_eq(opened.after, scan.after);
    }
}
END_TEST

START_TEST(refuses_what_it_did_not_seal)
{
    struct index_scan scan = {.position = 5, .after = 9}, opened;
    uint8_t cursor[THREAD_CURSOR_BYTES + 1] = {0};
    fill_secret();
    cursor_seal(&threads, &scan, cursor);
    for (size_t size = 0; size <= sizeof cursor; size++) {
        bool whole = size == THREAD_CURSOR_BYTES;
        ck_assert(cursor_open(&threads, bytes_of(cursor, size), &opened) == whole);
    }
    for (unsigned bit = 0; bit < THREAD_CURSOR_BYTES * 8; bit++) {
        cursor[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert(!cursor_open(&threads, bytes_of(cursor, THREAD_CURSOR_BYTES), &opened));
        cursor[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}
END_TEST

START_TEST(neighbours_look_unrelated)
{
    fill_secret();
    unsigned same_bits = 0;
    uint8_t before[THREAD_CURSOR_BYTES] = {0};
    enum { TRIALS = 1000 };
    for (uint64_t i = 0; i < TRIALS; i++) {
        struct index_scan scan = {.position = i << 40};
        uint8_t cursor[THREAD_CURSOR_BYTES];
        cursor_seal(&threads, &scan, cursor);
        for (size_t k = 0; k < sizeof cursor; k++) {
            same_bits += 8 - (unsigned)__builtin_popcount(cursor[k] ^ before[k]);
        }
        memcpy(before, cursor, sizeof before);
    }
    /* Half of the bits agree by chance: 64,000 with a deviation of 179. */
    ck_assert_uint_gt(same_bits, 63000);
    ck_assert_uint_lt(same_bits, 65000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cursor");
    TCase *cases = tcase_create("cursor");
    tcase_add_test(cases, opens_what_it_sealed);
    tcase_add_test(cases, refuses_what_it_did_not_seal);
    tcase_add_test(cases, neighbours_look_unrelated);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
