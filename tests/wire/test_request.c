/* Names, and the shape of every failure. */
#include "wire/parse.h"

#include <check.h>

START_TEST(names_are_the_contracts)
{
    ck_assert_str_eq(wire_method_name(WIRE_METHOD_HELLO), "hello");
    ck_assert_str_eq(wire_method_name(WIRE_METHOD_INFO), "info");
    ck_assert_str_eq(wire_kind_name(WIRE_KIND_TEXT), "text");
    ck_assert_str_eq(wire_kind_name(WIRE_KIND_TOKENS), "tokens");
    ck_assert_str_eq(wire_kind_name(WIRE_KIND_OPAQUE), "opaque");
    for (unsigned m = 0; m < WIRE_METHOD_COUNT; m++) {
        ck_assert_uint_gt(strlen(wire_method_name((enum wire_method)m)), 0);
    }
}
END_TEST

START_TEST(a_failure_is_complete)
{
    struct wire_error error;
    memset(&error, 0xA5, sizeof error);
    ck_assert_uint_eq(wire_fail(&error, STATUS_BUSY, "thread", "after %u turns", 1000U),
                      STATUS_BUSY);
    ck_assert_uint_eq(error.status, STATUS_BUSY);
    ck_assert_str_eq(error.option, "thread");
    ck_assert_str_eq(error.message, "after 1000 turns");
    ck_assert_int_eq(error.version, -1);
    ck_assert_str_eq(error.cause, "");
    ck_assert_uint_eq(error.reason, REASON_NONE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("request");
    TCase *tcase = tcase_create("request");
    tcase_add_test(tcase, names_are_the_contracts);
    tcase_add_test(tcase, a_failure_is_complete);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
