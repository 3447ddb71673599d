/* Names both ways, and words of later servers. */
#include "client/names.h"

#include <check.h>
#include <stdlib.h>

START_TEST(every_status_has_a_name_and_a_sentence)
{
    for (int status = RETHREAD_OK; status <= RETHREAD_IDLE; status++) {
        if (status > RETHREAD_INTERNAL && status < RETHREAD_SERVER_ERROR)
            continue;
        const char *text = rethread_strerror((enum rethread_status)status);
        ck_assert_int_eq(text[strlen(text) - 1], '.');
        const char *name = rethread_status_name((enum rethread_status)status);
        ck_assert_uint_gt(strlen(name), 0);
        bool from_server = status >= RETHREAD_BAD_REQUEST && status <= RETHREAD_INTERNAL;
        ck_assert_int_eq(client_status_named(rethread_text(name)),
                         from_server ? (enum rethread_status)status : RETHREAD_SERVER_ERROR);
    }
    ck_assert_str_eq(rethread_status_name(RETHREAD_OK), "ok");
    ck_assert_str_eq(rethread_status_name(RETHREAD_BAD_REQUEST), "bad_request");
    ck_assert_str_eq(rethread_status_name(RETHREAD_INTERNAL), "internal");
    ck_assert_str_eq(rethread_status_name(RETHREAD_INVALID_ARGUMENT), "invalid_argument");
    ck_assert_str_eq(rethread_status_name(RETHREAD_TIMEOUT), "timeout");
    ck_assert_str_eq(rethread_status_name(RETHREAD_IDLE), "idle");
    ck_assert_str_eq(rethread_status_name((enum rethread_status)5000), "server_error");
}
END_TEST

START_TEST(reasons_and_methods_go_both_ways)
{
    for (int i = RETHREAD_REASON_NEVER_SEEN; i <= RETHREAD_REASON_MODEL_MISMATCH; i++) {
        enum rethread_reason reason = (enum rethread_reason)i;
        ck_assert_int_eq(client_reason_named(rethread_text(rethread_reason_name(reason))), reason);
    }
    for (int i = RETHREAD_METHOD_HELLO; i <= RETHREAD_METHOD_ABORT; i++) {
        enum rethread_method method = (enum rethread_method)i;
        ck_assert_int_eq(client_method_named(rethread_text(rethread_method_name(method))), method);
    }
    ck_assert_str_eq(rethread_reason_name(RETHREAD_REASON_NEVER_SEEN), "never_seen");
    ck_assert_str_eq(rethread_reason_name(RETHREAD_REASON_NONE), "");
    ck_assert_str_eq(rethread_reason_name(RETHREAD_REASON_OTHER), "other");
    ck_assert_str_eq(rethread_method_name(RETHREAD_METHOD_REPLAY), "replay");
    ck_assert_str_eq(rethread_method_name(RETHREAD_METHOD_OTHER), "other");
}
END_TEST

START_TEST(unknown_words_are_other_not_a_prefix_match)
{
    enum rethread_completeness completeness;
    ck_assert_int_eq(client_reason_named(rethread_text("expire")), RETHREAD_REASON_OTHER);
    ck_assert_int_eq(client_reason_named(rethread_text("expiredd")), RETHREAD_REASON_OTHER);
    ck_assert_int_eq(client_reason_named(rethread_text("")), RETHREAD_REASON_OTHER);
    ck_assert_int_eq(client_method_named(rethread_text("stats")), RETHREAD_METHOD_OTHER);
    ck_assert_int_eq(client_kind_named(rethread_text("picture")), RETHREAD_KIND_OTHER);
    ck_assert_int_eq(client_tier_named(rethread_text("tape")), RETHREAD_TIER_OTHER);
    ck_assert(!client_completeness_named(rethread_text("comp"), &completeness));
    ck_assert(client_completeness_named(rethread_text("miss"), &completeness));
    ck_assert_int_eq(completeness, RETHREAD_MISS);
}
END_TEST

START_TEST(small_words_are_the_contracts)
{
    ck_assert_str_eq(rethread_kind_name(RETHREAD_KIND_TEXT), "text");
    ck_assert_str_eq(rethread_kind_name(RETHREAD_KIND_TOKENS), "tokens");
    ck_assert_str_eq(rethread_kind_name(RETHREAD_KIND_OPAQUE), "opaque");
    ck_assert_str_eq(rethread_kind_name(RETHREAD_KIND_OTHER), "other");
    ck_assert_str_eq(rethread_tier_name(RETHREAD_TIER_MEMORY), "memory");
    ck_assert_str_eq(rethread_tier_name(RETHREAD_TIER_DISK), "disk");
    ck_assert_str_eq(rethread_tier_name(RETHREAD_TIER_OTHER), "other");
    ck_assert_str_eq(rethread_completeness_name(RETHREAD_COMPLETE), "complete");
    ck_assert_str_eq(rethread_completeness_name(RETHREAD_PARTIAL), "partial");
    ck_assert_str_eq(rethread_completeness_name(RETHREAD_MISS), "miss");
    ck_assert_int_eq(client_kind_named(rethread_text("opaque")), RETHREAD_KIND_OPAQUE);
    ck_assert_int_eq(client_tier_named(rethread_text("disk")), RETHREAD_TIER_DISK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/names");
    TCase *names = tcase_create("names");
    tcase_add_test(names, every_status_has_a_name_and_a_sentence);
    tcase_add_test(names, reasons_and_methods_go_both_ways);
    tcase_add_test(names, unknown_words_are_other_not_a_prefix_match);
    tcase_add_test(names, small_words_are_the_contracts);
    suite_add_tcase(suite, names);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
