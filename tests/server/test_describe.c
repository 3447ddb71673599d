/* What the server describes is what schema/reference.md says, and all of it is there. */
#include "server/describe.h"
#include "wire/parse.h"

#include <check.h>
#include <stdlib.h>

static char *described(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    describe_print(out);
    fclose(out);
    return text;
}

START_TEST(the_reference_is_up_to_date)
{
    char *text = described();
    size_t size = strlen(text);
    char *page = malloc(size + 2);
    FILE *in = fopen("schema/reference.md", "r");
    ck_assert_ptr_nonnull(in);
    size_t read = fread(page, 1, size + 1, in);
    fclose(in);
    ck_assert_msg(read == size && memcmp(page, text, size) == 0,
                  "make it anew: build/rethread-server --describe >schema/reference.md");
    free(page);
    free(text);
}
END_TEST

START_TEST(every_row_is_there)
{
    char *text = described();
    char row[512];
#define HAS(format, name)                                                                          \
    snprintf(row, sizeof row, format, name);                                                       \
    ck_assert_msg(strstr(text, row) != NULL, "no %s", row);
#define METHOD(name, method, summary) HAS("\n### %s\n", method)
#include "schema/methods.def"
#undef METHOD
#define OPTION(method, name, type, need, min, max, summary) HAS("\n| `%s` | ", #name)
#include "schema/options.def"
#undef OPTION
#define RESULT(method, name, type, presence, summary) HAS("\n| `%s` | " type " | ", #name)
#include "schema/results.def"
#undef RESULT
#define ERROR(name, code, state, summary) HAS("\n| `%s` | ", code)
#include "schema/errors.def"
#undef ERROR
#define REASON(name, reason, state, summary) HAS("\n| `%s` | ", reason)
#include "schema/reasons.def"
#undef REASON
#define POLICY(name, policy, summary) HAS("\n| `%s` | ", policy)
#include "schema/policies.def"
#undef POLICY
#define PROFILE(pattern, policy, turns, field, readable, source)                                   \
    HAS("\n| `" pattern "` | `%s`", wire_policy_name(WIRE_POLICY_##policy))                        \
    HAS(" | `" field "` | %s | " source, strcmp(#readable, "ANYONE") == 0 ? "anyone" : "itself")
#include "schema/profiles.def"
#undef PROFILE
#define SETTING(field, name, type, preset, min, max, value, summary) HAS("\n| `--%s ", name)
#include "schema/settings.def"
#undef SETTING
#define METRIC(section, name, section_text, name_text, type, unit, summary)                        \
    HAS("\n| " section_text " | `%s` | ", name_text)
#include "schema/metrics.def"
#undef METRIC
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("describe");
    TCase *tcase = tcase_create("describe");
    tcase_add_test(tcase, the_reference_is_up_to_date);
    tcase_add_test(tcase, every_row_is_there);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
