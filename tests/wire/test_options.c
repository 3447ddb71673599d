/* Every option of every method, straight from the schema: right, wrong, twice, missing, unknown. */
#include "tests/wire/test_options.h"

#include <assert.h>

static void check_bytes(const struct row *row)
{
    takes(row, text_of("s(%" PRId64 ")", row->min));
    takes(row, text_of("s(%" PRId64 ")", row->max));
    refuses(row, text_of("s(%" PRId64 ")", row->max + 1));
    if (row->min > 0) {
        refuses(row, text_of("s(%" PRId64 ")", row->min - 1));
    }
    if (row->type == ID) {
        takes(row, text_of("b(%" PRId64 ")", row->max));
        refuses(row, text_of("b(%" PRId64 ")", row->max + 1));
        if (row->min <= 3 && row->max >= 3) {
            takes(row, "'\\xff\\xfe\\x00'"); /* not UTF-8 */
        }
    } else {
        refuses(row, "b'abc'");
    }
    refuses(row, "1");
    refuses(row, "['t']");
    refuses(row, "true");
}

static void check_integer(const struct row *row)
{
    takes(row, text_of("%" PRId64, row->min));
    takes(row, text_of("%" PRId64, row->max));
    refuses(row, text_of("%" PRId64, row->min - 1));
    if (row->max < INT64_MAX) {
        refuses(row, text_of("%" PRId64, row->max + 1));
    }
    refuses(row, "18446744073709551615");
    refuses(row, "-9223372036854775808");
    refuses(row, "1.5");
    refuses(row, "'1'");
    refuses(row, "true");
}

/* Exactly these strs, whose place in the list is their value. */
static void check_words(const struct row *row, const char *const *words, unsigned count,
                        const void *field)
{
    char value[64];
    for (unsigned w = 0; w < count; w++) {
        snprintf(value, sizeof value, "'%s'", words[w]);
        takes(row, value);
        ck_assert_uint_eq(*(const unsigned *)field, w);
        snprintf(value, sizeof value, "b'%s'", words[w]);
        refuses(row, value);
        snprintf(value, sizeof value, "'%sx'", words[w]);
        refuses(row, value);
        snprintf(value, sizeof value, "'%s\\x00'", words[w]);
        refuses(row, value);
        snprintf(value, sizeof value, "'%.*s'", (int)strlen(words[w]) - 1, words[w]);
        refuses(row, value);
        snprintf(value, sizeof value, "'%s'", words[w]);
        value[1] = (char)(value[1] - 'a' + 'A');
        refuses(row, value);
        snprintf(value, sizeof value, "['%s']", words[w]);
        refuses(row, value);
        ck_assert_ptr_nonnull(strstr(error.message, words[w]));
    }
    refuses(row, "''");
    refuses(row, "0");
    refuses(row, "true");
}

static const char *const acks[] = {"memory", "disk"};
static const char *const mismatches[] = {"drop", "fail"};
static const char *const kinds[] = {"text", "tokens", "opaque"};
static const char *const policies[] = {
    "all", "none", "current_turn", "since_final", "tool_turns", "last_turns", "auto",
};

static_assert(COUNT(policies) == WIRE_POLICY_COUNT, "every policy is tried");

static void check_list(const struct row *row)
{
    bool ids = row->type == IDS;
    if (ids) {
        takes(row, "[]");
        takes(row, "[s(255), b(1)]");
        refuses(row, "['']");
        refuses(row, "['a', s(256)]");
        refuses(row, "['a', 1]");
    } else {
        takes(row, "['text']");
        takes(row, "['opaque']");
        refuses(row, "['tokens']"); /* the payload is 1 byte */
        refuses(row, "['other']");
        refuses(row, "[b'text']");
        refuses(row, "[]");               /* there is a payload */
        refuses(row, "['text', 'text']"); /* there is no second */
    }
    refuses(row, "'a'");
    refuses(row, "{'a': 'b'}");
}

START_TEST(each_option)
{
    const struct row *row = &rows[_i];
    switch (row->type) {
    case ID:
    case TEXT:
        check_bytes(row);
        break;
    case U64:
    case I64:
        check_integer(row);
        break;
    case BOOL:
        takes(row, "true");
        takes(row, "false");
        refuses(row, "0");
        refuses(row, "'true'");
        break;
    case ACK:
        check_words(row, acks, COUNT(acks), &request.ack);
        break;
    case POLICY:
        check_words(row, policies, COUNT(policies), &request.policy);
        break;
    case MISMATCH:
        check_words(row, mismatches, COUNT(mismatches), &request.on_mismatch);
        break;
    case KIND:
        check_words(row, kinds, COUNT(kinds), &request.segment);
        break;
    case IDS:
    case KINDS:
        check_list(row);
        break;
    case PREFIX:
    case PREFIXES:
    case HAVE:
        break; /* test_options_lists.c */
    }
    refuses(row, "nil");
}
END_TEST

static const char *good_value(const struct row *row)
{
    switch (row->type) {
    case ID:
    case TEXT:
        return text_of("s(%" PRId64 ")", row->max);
    case U64:
    case I64:
        return text_of("%" PRId64, row->max);
    case BOOL:
        return "true";
    case ACK:
        return "'memory'";
    case POLICY:
        return "'all'";
    case MISMATCH:
        return "'fail'";
    case KIND:
        return "'text'";
    case PREFIX:
        return "[b(16)]";
    case PREFIXES:
        return "[[0, b(16)]]";
    case IDS:
        return "['i']";
    case KINDS:
        return "['text']";
    case HAVE:
        return "{'version': 1, 'step': 1}";
    }
    return "nil";
}

START_TEST(each_option_twice)
{
    const struct row *row = &rows[_i];
    char value[512];
    char more[2048];
    snprintf(value, sizeof value, "%s", good_value(row));
    snprintf(more, sizeof more, "'%s': %s, '%s': %s", row->name, value, row->name, value);
    ck_assert_uint_eq(parse_all(row->method, row->name, more), STATUS_BAD_REQUEST);
    ck_assert_str_eq(error.option, row->name);
    ck_assert_ptr_nonnull(strstr(error.message, "twice"));
}
END_TEST

START_TEST(each_required_option_missing)
{
    const struct row *row = &rows[_i];
    enum status status = parse_all(row->method, row->name, NULL);
    if (row->need == REQUIRED) {
        ck_assert_uint_eq(status, STATUS_BAD_REQUEST);
        ck_assert_str_eq(error.option, row->name);
    } else if (row->method != WIRE_METHOD_REPLAY) { /* which needs one of four */
        ck_assert_uint_eq(status, STATUS_OK);
        ck_assert(!wire_given(&request, row->field));
    }
}
END_TEST

/* An option of another method is as unknown as any other. */
START_TEST(each_option_with_the_other_methods)
{
    const struct row *row = &rows[_i];
    for (unsigned m = 0; m < WIRE_METHOD_COUNT; m++) {
        bool known = false;
        for (unsigned i = 0; i < ROWS; i++) {
            known = known || (rows[i].method == m && strcmp(rows[i].name, row->name) == 0);
        }
        if (!known) {
            char more[2048];
            snprintf(more, sizeof more, "'%s': %s", row->name, good_value(row));
            ck_assert_uint_eq(parse_all((enum wire_method)m, "", more), STATUS_BAD_REQUEST);
            ck_assert_str_eq(error.option, row->name);
        }
    }
}
END_TEST

START_TEST(unknown_names_come_back_cut_and_clean)
{
    for (unsigned m = 0; m < WIRE_METHOD_COUNT; m++) {
        enum wire_method method = (enum wire_method)m;
        ck_assert_uint_eq(parse_all(method, "", "'Thread': 1"), STATUS_BAD_REQUEST);
        ck_assert_str_eq(error.option, "Thread");
        ck_assert_uint_eq(parse_all(method, "", "'a\\x00\\x0a\\xff b': 1"), STATUS_BAD_REQUEST);
        ck_assert_str_eq(error.option, "a??? b");
        ck_assert_uint_eq(parse_all(method, "", "s(300): 1"), STATUS_BAD_REQUEST);
        ck_assert_uint_eq(strlen(error.option), 63);
        ck_assert_uint_eq(strspn(error.option, "x"), 63);
        ck_assert_uint_eq(parse_all(method, "", "'': 1"), STATUS_BAD_REQUEST);
        ck_assert_str_eq(error.option, "");
        ck_assert_uint_eq(parse_all(method, "", "1: 1"), STATUS_BAD_REQUEST);
        ck_assert_uint_eq(parse_all(method, "", "b'client': 'x'"), STATUS_BAD_REQUEST);
    }
}
END_TEST

/* turns is how many for last_turns, and last_turns needs to know. */
START_TEST(turns_go_with_last_turns)
{
    for (unsigned p = 0; p < COUNT(policies); p++) {
        bool counts = strcmp(policies[p], "last_turns") == 0;
        char more[128];
        snprintf(more, sizeof more, "'policy': '%s'", policies[p]);
        ck_assert_int_eq(parse_all(WIRE_METHOD_REPLAY, "", more) == STATUS_OK, !counts);
        ck_assert_str_eq(error.option, counts ? "turns" : "");
        snprintf(more, sizeof more, "'turns': 3, 'policy': '%s'", policies[p]);
        ck_assert_int_eq(parse_all(WIRE_METHOD_REPLAY, "", more) == STATUS_OK, counts);
        ck_assert_str_eq(error.option, counts ? "" : "turns");
    }
    ck_assert_uint_eq(parse_all(WIRE_METHOD_REPLAY, "", "'turns': 3"), STATUS_BAD_REQUEST);
    ck_assert_str_eq(error.option, "turns");
    ck_assert_uint_eq(parse_all(WIRE_METHOD_REPLAY, "", "'policy': 'last_turns', 'turns': 3"),
                      STATUS_OK);
    ck_assert_uint_eq(request.turns, 3);
}
END_TEST

START_TEST(what_a_replay_starts_from)
{
    ck_assert_uint_eq(parse_all(WIRE_METHOD_REPLAY, "", NULL), STATUS_OK);
    ck_assert_uint_eq(request.policy, WIRE_POLICY_ALL);
    ck_assert_uint_eq(request.on_mismatch, WIRE_MISMATCH_DROP);
    ck_assert(request.touch && !request.pin && !request.prefix_is_list);
    ck_assert_uint_eq(request.prefixes.count, 0);
    ck_assert_uint_eq(request.prefix_list.count, 0);
    ck_assert_uint_eq(parse_all(WIRE_METHOD_BEGIN, "", NULL), STATUS_OK);
    ck_assert_uint_eq(request.segment, WIRE_KIND_TEXT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("options");
    TCase *tcase = tcase_create("table");
    tcase_add_loop_test(tcase, each_option, 0, ROWS);
    tcase_add_loop_test(tcase, each_option_twice, 0, ROWS);
    tcase_add_loop_test(tcase, each_required_option_missing, 0, ROWS);
    tcase_add_loop_test(tcase, each_option_with_the_other_methods, 0, ROWS);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("rules");
    tcase_add_test(tcase, unknown_names_come_back_cut_and_clean);
    tcase_add_test(tcase, turns_go_with_last_turns);
    tcase_add_test(tcase, what_a_replay_starts_from);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
