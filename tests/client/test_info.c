/* The result of info: any section and any name, and nothing but numbers. */
#include "client/decode.h"
#include "tests/client/fake.h"

#include <stdlib.h>

/* Decodes "[1, 7, nil, [...]]"; the result owns its bytes. */
static enum rethread_status decode(enum rethread_method method, const char *text,
                                   struct rethread_result **result)
{
    struct bytes encoded = notation_encode(text);
    struct rethread_bytes body = {encoded.data, encoded.size};
    struct client_envelope envelope;
    ck_assert(client_decode_envelope(body, &envelope));
    enum rethread_status status = client_decode(body, method, result);
    if (status == RETHREAD_OK)
        (*result)->memory = (void *)(uintptr_t)encoded.data;
    else
        free((void *)(uintptr_t)encoded.data);
    return status;
}

static struct rethread_result *result;

#define DECODES(METHOD, text)                                                                      \
    ck_assert_int_eq(decode(RETHREAD_METHOD_##METHOD, "[1, 7, nil, [" text "]]", &result),         \
                     RETHREAD_OK)

#define REFUSES(METHOD, text)                                                                      \
    do {                                                                                           \
        ck_assert_int_eq(decode(RETHREAD_METHOD_##METHOD, "[1, 7, nil, [" text "]]", &result),     \
                         RETHREAD_PROTOCOL_VIOLATION);                                             \
        ck_assert_ptr_null(result);                                                                \
    } while (false)

START_TEST(numbers_by_section)
{
    DECODES(INFO, "{'server': {'uptime_ms': 5, 'name': 'x', 'loops': 2}, 'word': 3, 'later': [1], "
                  "'memory': {'deeper': {'a': 1}, 'used_bytes': 18446744073709551615}}");
    const struct rethread_info_result *info = rethread_result_info(result);
    ck_assert_uint_eq(info->metric_count, 3);
    ck_assert_str_eq(info->metrics[0].section, "server");
    ck_assert_str_eq(info->metrics[0].name, "uptime_ms");
    ck_assert_str_eq(info->metrics[1].name, "loops");
    ck_assert_uint_eq(info->metrics[1].value, 2);
    ck_assert_str_eq(info->metrics[2].section, "memory");
    ck_assert_str_eq(info->metrics[2].name, "used_bytes");
    ck_assert_uint_eq(info->metrics[2].value, UINT64_MAX);
    rethread_result_free(result);
    DECODES(INFO, "{}");
    ck_assert_uint_eq(rethread_result_info(result)->metric_count, 0);
    rethread_result_free(result);
    REFUSES(INFO, "{7: {}}");
}
END_TEST

START_TEST(what_is_no_number_is_passed_over)
{
    REFUSES(INFO, "[]");
    REFUSES(INFO, "{'server': {7: 1}}");
    DECODES(INFO,
            "{'server': {'less': -1, 'part': 1.5, 'none': nil, 'list': [{'a': 1}], 'one': 1}}");
    ck_assert_uint_eq(rethread_result_info(result)->metric_count, 1);
    ck_assert_str_eq(rethread_result_info(result)->metrics[0].name, "one");
    rethread_result_free(result);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/info");
    TCase *info = tcase_create("info");
    tcase_add_test(info, numbers_by_section);
    tcase_add_test(info, what_is_no_number_is_passed_over);
    suite_add_tcase(suite, info);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
