/* Names of statuses and reasons. */
#include "base/status.h"

#include <check.h>
#include <string.h>

/* snake_case, as the wire contract has them. */
static void check_name(const char *name)
{
    ck_assert_ptr_nonnull(name);
    ck_assert_uint_gt(strlen(name), 0);
    ck_assert_uint_eq(strspn(name, "abcdefghijklmnopqrstuvwxyz_"), strlen(name));
}

START_TEST(every_error_has_its_own_code)
{
    ck_assert_str_eq(status_code(STATUS_OK), "");
    ck_assert_str_eq(status_code(STATUS_AGAIN), "");
    for (int i = STATUS_AGAIN + 1; i < STATUS_COUNT; i++) {
        check_name(status_code((enum status)i));
        for (int j = STATUS_AGAIN + 1; j < i; j++) {
            ck_assert_str_ne(status_code((enum status)i), status_code((enum status)j));
        }
    }
    ck_assert_str_eq(status_code(STATUS_BAD_REQUEST), "bad_request");
    ck_assert_str_eq(status_code(STATUS_CONFLICT), "conflict");
    ck_assert_str_eq(status_code(STATUS_INTERNAL), "internal");
}
END_TEST

START_TEST(every_reason_has_its_own_name)
{
    ck_assert_str_eq(reason_name(REASON_NONE), "");
    for (int i = REASON_NONE + 1; i < REASON_COUNT; i++) {
        check_name(reason_name((enum reason)i));
        for (int j = REASON_NONE + 1; j < i; j++) {
            ck_assert_str_ne(reason_name((enum reason)i), reason_name((enum reason)j));
        }
    }
    ck_assert_str_eq(reason_name(REASON_NEVER_SEEN), "never_seen");
    ck_assert_str_eq(reason_name(REASON_PREFIX_MISMATCH), "prefix_mismatch");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/status");
    TCase *names = tcase_create("names");
    tcase_add_test(names, every_error_has_its_own_code);
    tcase_add_test(names, every_reason_has_its_own_name);
    suite_add_tcase(suite, names);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
