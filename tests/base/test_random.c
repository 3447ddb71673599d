/* Random bytes: every byte asked for is filled, none beside it, and never the same twice. */
#include "base/random.h"

#include <check.h>
#include <stdint.h>
#include <string.h>

START_TEST(fills_exactly_what_was_asked)
{
    static uint8_t buffer[70000];
    static const size_t sizes[] = {0, 1, 16, 192, 257, 65537};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        memset(buffer, 0xcc, sizeof buffer);
        random_fill(buffer + 8, sizes[s]);
        for (size_t i = 0; i < 8; i++) {
            ck_assert_uint_eq(buffer[i], 0xcc);
            ck_assert_uint_eq(buffer[8 + sizes[s] + i], 0xcc);
        }
    }
}
END_TEST

START_TEST(every_byte_takes_every_value)
{
    enum { SIZE = 40, ROUNDS = 20000 };
    static uint8_t seen[SIZE][256];
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint8_t bytes[SIZE];
        random_fill(bytes, SIZE);
        for (unsigned i = 0; i < SIZE; i++) {
            seen[i][bytes[i]] = 1;
        }
    }
    for (unsigned i = 0; i < SIZE; i++) {
        ck_assert_ptr_null(memchr(seen[i], 0, 256));
    }
}
END_TEST

START_TEST(never_repeats)
{
    uint8_t first[32], second[32];
    random_fill(first, sizeof first);
    random_fill(second, sizeof second);
    ck_assert_mem_ne(first, second, sizeof first);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/random");
    TCase *random = tcase_create("random");
    tcase_add_test(random, fills_exactly_what_was_asked);
    tcase_add_test(random, every_byte_takes_every_value);
    tcase_add_test(random, never_repeats);
    suite_add_tcase(suite, random);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
