/* Every option of every method, straight from the schema: right, wrong, twice, missing, unknown. */
#include "tests/lib/notation.h"
#include "wire/parse.h"

#include <check.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum type { ID, TEXT, U64, I64, BOOL, ACK, POLICY, IDS, KINDS, HAVE };
enum need { OPTIONAL, REQUIRED };

static const struct row {
    enum wire_method method;
    enum wire_field field;
    const char *name;
    enum type type;
    enum need need;
    int64_t min;
    int64_t max;
} rows[] = {
#define OPTION(M, N, T, NEED, MIN, MAX, summary)                                                   \
    {WIRE_METHOD_##M, WIRE_FIELD_##N, #N, T, NEED, MIN, MAX},
#include "schema/options.def"
#undef OPTION
};

enum { ROWS = sizeof rows / sizeof rows[0] };

static struct wire_request request;
static struct wire_error error;

/* Parses the method with its needs, the one option added if a value is given. */
static enum status parse_all(enum wire_method method, const char *leave_out, const char *more)
{
    static const char *const needs[WIRE_METHOD_COUNT][2][2] = {
        [WIRE_METHOD_APPEND] = {{"thread", "'t'"}},
        [WIRE_METHOD_REPLAY] = {{"thread", "'t'"}},
        [WIRE_METHOD_STAT] = {{"thread", "'t'"}},
        [WIRE_METHOD_TOUCH] = {{"threads", "['t']"}},
        [WIRE_METHOD_FORK] = {{"thread", "'t'"}, {"from", "'o'"}},
        [WIRE_METHOD_REWIND] = {{"thread", "'t'"}, {"to", "3"}},
        [WIRE_METHOD_FORGET] = {{"thread", "'t'"}},
    };
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    fprintf(out, "[0, 77, '%s', [{", wire_method_name(method));
    const char *comma = "";
    for (unsigned i = 0; i < 2; i++) {
        const char *name = needs[method][i][0];
        if (name != NULL && strcmp(name, leave_out) != 0) {
            fprintf(out, "%s'%s': %s", comma, name, needs[method][i][1]);
            comma = ", ";
        }
    }
    if (more != NULL) {
        fprintf(out, "%s%s", comma, more);
    }
    fputs(method == WIRE_METHOD_APPEND ? "}, b'x']]" : "}]]", out);
    fclose(out);
    struct bytes bytes = notation_encode(text);
    /* A copy of exact size, for AddressSanitizer; leaked into a static, freed by the next call. */
    static void *kept;
    free(kept);
    kept = (void *)bytes.data;
    free(text);
    bool has_msgid = false;
    memset(&error, 0, sizeof error);
    enum status status = wire_parse(bytes, &request, &has_msgid, &error);
    ck_assert(has_msgid);
    ck_assert_uint_eq(request.msgid, 77);
    ck_assert(status == STATUS_OK || status == error.status);
    return status;
}

static enum status parse(const struct row *row, const char *value)
{
    char more[4096];
    snprintf(more, sizeof more, "'%s': %s", row->name, value);
    return parse_all(row->method, row->name, more);
}

static void refuses(const struct row *row, const char *value)
{
    enum status status = parse(row, value);
    ck_assert_msg(status == STATUS_BAD_REQUEST, "%s.%s: %s", wire_method_name(row->method),
                  row->name, value);
    ck_assert_str_eq(error.option, row->name);
    ck_assert_ptr_nonnull(strstr(error.message, row->name));
    ck_assert_uint_gt(strlen(error.message), strlen(row->name) + 10);
}

static void takes(const struct row *row, const char *value)
{
    ck_assert_msg(parse(row, value) == STATUS_OK, "%s.%s: %s: %s", wire_method_name(row->method),
                  row->name, value, error.message);
    ck_assert(wire_given(&request, row->field));
}

/* printf into one of two buffers. */
__attribute__((format(printf, 1, 2))) static const char *text_of(const char *format, ...)
{
    static char buffer[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(buffer, sizeof buffer, format, arguments);
    va_end(arguments);
    return buffer;
}

/* ['x', 'x', ...] */
static const char *items_of(int64_t count, const char *item)
{
    static char *text;
    size_t size = 0;
    free(text);
    FILE *out = open_memstream(&text, &size);
    fputc('[', out);
    for (int64_t i = 0; i < count; i++) {
        fprintf(out, "%s%s", i > 0 ? ", " : "", item);
    }
    fputc(']', out);
    fclose(out);
    return text;
}

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

static void check_words(const struct row *row)
{
    bool ack = row->type == ACK;
    takes(row, ack ? "'memory'" : "'all'");
    takes(row, ack ? "'disk'" : "'none'");
    refuses(row, ack ? "'tape'" : "'some'");
    refuses(row, ack ? "b'memory'" : "b'all'");
    refuses(row, "''");
    refuses(row, "1");
}

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

static void check_have(const struct row *row)
{
    takes(row, "{'version': 0, 'step': -1}");
    takes(row, "{'step': 9223372036854775807, 'version': 9223372036854775807}");
    refuses(row, "{}");
    refuses(row, "{'version': 1}");
    refuses(row, "{'step': 1}");
    refuses(row, "{'version': 1, 'version': 1}");
    refuses(row, "{'version': 1, 'step': 1, 'other': 1}");
    refuses(row, "{'version': 1, 'other': 1}");
    refuses(row, "{'version': -1, 'step': 1}");
    refuses(row, "{'version': 1, 'step': -2}");
    refuses(row, "{'version': 'a', 'step': 1}");
    refuses(row, "[1, 1]");
    refuses(row, "1");
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
    case POLICY:
        check_words(row);
        break;
    case IDS:
    case KINDS:
        check_list(row);
        break;
    case HAVE:
        check_have(row);
        break;
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

START_TEST(lists_have_limits)
{
    char more[70100];
    snprintf(more, sizeof more, "'tool_calls': %s", items_of(128, "'c'"));
    ck_assert_uint_eq(parse_all(WIRE_METHOD_APPEND, "", more), STATUS_OK);
    snprintf(more, sizeof more, "'tool_calls': %s", items_of(129, "'c'"));
    ck_assert_uint_eq(parse_all(WIRE_METHOD_APPEND, "", more), STATUS_BAD_REQUEST);
    ck_assert_str_eq(error.option, "tool_calls");
    snprintf(more, sizeof more, "'threads': %s", items_of(4096, "'c'"));
    ck_assert_uint_eq(parse_all(WIRE_METHOD_TOUCH, "threads", more), STATUS_OK);
    ck_assert_uint_eq(request.threads.count, 4096);
    snprintf(more, sizeof more, "'threads': %s", items_of(4097, "'c'"));
    ck_assert_uint_eq(parse_all(WIRE_METHOD_TOUCH, "threads", more), STATUS_BAD_REQUEST);
    ck_assert_str_eq(error.option, "threads");
}
END_TEST

START_TEST(lists_are_walked_in_order)
{
    ck_assert_uint_eq(parse_all(WIRE_METHOD_TOUCH, "threads", "'threads': ['a', b'\\xff', s(255)]"),
                      STATUS_OK);
    struct wire_list list = request.threads;
    struct bytes id;
    ck_assert(wire_list_next(&list, &id) && bytes_equal(id, bytes_text("a")));
    ck_assert(wire_list_next(&list, &id) && bytes_equal(id, bytes_text("\xff")));
    ck_assert(wire_list_next(&list, &id) && id.size == 255 && id.data[254] == 'x');
    ck_assert(!wire_list_next(&list, &id));
    ck_assert(!wire_list_next(&list, &id));
    struct wire_list none = {.count = 0};
    enum wire_kind kind;
    ck_assert(!wire_list_next(&none, &id) && !wire_kind_next(&none, &kind));
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
    tcase_add_test(tcase, lists_have_limits);
    tcase_add_test(tcase, lists_are_walked_in_order);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
