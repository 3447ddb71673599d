/* Every option of every method, straight from the schema: right, wrong, twice, missing, unknown. */
#include "tests/lib/notation.h"
#include "wire/parse.h"

#include <assert.h>
#include <check.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum type {
    ID,
    TEXT,
    U64,
    I64,
    BOOL,
    ACK,
    POLICY,
    MISMATCH,
    KIND,
    IDS,
    KINDS,
    PREFIX,
    PREFIXES,
    HAVE
};
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
        [WIRE_METHOD_BEGIN] = {{"thread", "'t'"}},
        [WIRE_METHOD_CHUNK] = {{"thread", "'t'"}, {"claim", "7"}},
        [WIRE_METHOD_COMMIT] = {{"thread", "'t'"}, {"claim", "7"}},
        [WIRE_METHOD_ABORT] = {{"thread", "'t'"}, {"claim", "7"}},
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
    bool pays = method == WIRE_METHOD_APPEND || method == WIRE_METHOD_COMMIT;
    fputs(pays ? "}, b'x']]" : "}]]", out);
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
    char *more = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&more, &size);
    fprintf(out, "'%s': %s", row->name, value);
    /* These two go together only. */
    if (row->field == WIRE_FIELD_turns) {
        fputs(", 'policy': 'last_turns'", out);
    } else if (strcmp(value, "'last_turns'") == 0) {
        fputs(", 'turns': 1", out);
    }
    fclose(out);
    enum status status = parse_all(row->method, row->name, more);
    free(more);
    return status;
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

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

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

static void check_prefix(const struct row *row)
{
    takes(row, "b(16)");
    takes(row, "s(16)");
    takes(row,
          "b'\\x00\\xff\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00'");
    takes(row, "[b(16)]");
    takes(row, "[b(16), s(16), b(16)]"); /* the same one again is nobody's harm */
    takes(row, items_of(1024, "b(16)"));
    ck_assert_uint_eq(request.prefix_list.count, 1024);
    refuses(row, items_of(1025, "b(16)"));
    refuses(row, "[]");
    static const char *const wrong[] = {
        "b(15)",
        "b(17)",
        "b(0)",
        "s(15)",
        "s(17)",
        "''",
        "[b(15)]",
        "[s(17)]",
        "['']",
        "[b(16), b(17)]",
        "[1]",
        "[nil]",
        "[[b(16)]]",
        "{}",
        "1",
        "{b(16): b(16)}",
        "[false]",
        "1.5",
        "[b(16), b(16), 16]",
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        refuses(row, wrong[i]);
    }
}

static void check_prefixes(const struct row *row)
{
    takes(row, "[]");
    takes(row, "[[0, b(16)]]");
    takes(row, "[[9223372036854775807, s(16)], [3, b(16)], [3, b(16)]]"); /* in any order */
    takes(row, items_of(row->max, "[0, b(16)]"));
    ck_assert_int_eq(request.prefixes.count, row->max);
    refuses(row, items_of(row->max + 1, "[0, b(16)]"));
    static const char *const wrong[] = {
        "[[-1, b(16)]]",
        "[[9223372036854775808, b(16)]]",
        "[[18446744073709551615, b(16)]]",
        "[['0', b(16)]]",
        "[[1.5, b(16)]]",
        "[[nil, b(16)]]",
        "[[true, b(16)]]",
        "[[0, b(15)]]",
        "[[0, s(17)]]",
        "[[0, '']]",
        "[[0, nil]]",
        "[[0, 0]]",
        "[[0, [b(16)]]]",
        "[[[0], b(16)]]",
        "[[0]]",
        "[[]]",
        "[[0, b(16), 0]]",
        "[[0, b(16)], [1]]",
        "[[0, b(16)], 1, b(16)]",
        "[0, b(16)]",
        "[b(16)]",
        "[{0: b(16)}]",
        "{0: b(16)}",
        "b(16)",
        "0",
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        refuses(row, wrong[i]);
    }
}

static void check_kept_limit(const struct row *row)
{
    for (unsigned count = 65535; count <= 65537; count++) {
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        fprintf(out, "{'version': 1, 'step': %u, 'kept': [0", count);
        for (unsigned i = 1; i < count; i++) {
            fprintf(out, ", %u", i);
        }
        fputs("]}", out);
        fclose(out);
        if (count <= 65536) {
            takes(row, text);
            ck_assert_uint_eq(request.have.kept.count, count);
        } else {
            ck_assert_uint_eq(parse(row, text), STATUS_BAD_REQUEST);
            ck_assert_str_eq(error.option, row->name);
        }
        free(text);
    }
}

static void check_have(const struct row *row)
{
    takes(row, "{'version': 0, 'step': -1}");
    takes(row, "{'step': 9223372036854775807, 'version': 9223372036854775807}");
    ck_assert(!request.have.has_kept);
    takes(row, "{'version': 0, 'step': -1, 'kept': []}");
    ck_assert(request.have.has_kept && request.have.kept.count == 0);
    takes(row, "{'kept': [0], 'version': 1, 'step': 0}"); /* in any order */
    takes(row, "{'version': 1, 'kept': [0, 1, 5, 9], 'step': 9}");
    takes(row, "{'version': 1, 'step': 9223372036854775807, 'kept': [9223372036854775807]}");
    takes(row, "{'version': 1, 'step': 9223372036854775807, "
               "'kept': [9223372036854775806, 9223372036854775807]}");
    check_kept_limit(row);
    static const char *const wrong[] = {
        "{}",
        "{'version': 1}",
        "{'step': 1}",
        "{'kept': [1]}",
        "{'version': 1, 'kept': []}",
        "{'step': 1, 'kept': []}",
        "{'version': 1, 'version': 1}",
        "{'version': 1, 'version': 1, 'step': 1}",
        "{'version': 1, 'step': 1, 'step': 1}",
        "{'version': 1, 'step': 1, 'kept': [], 'kept': []}",
        "{'version': 1, 'step': 1, 'kept': [1], 'kept': [1]}",
        "{'version': 1, 'step': 1, 'other': 1}",
        "{'version': 1, 'other': 1}",
        "{b'version': 1, 'step': 1}",
        "{'version': -1, 'step': 1}",
        "{'version': 9223372036854775808, 'step': 1}",
        "{'version': 1, 'step': 9223372036854775808}",
        "{'version': 1, 'step': -2}",
        "{'version': 'a', 'step': 1}",
        "{'version': [1], 'step': 1}",
        "{'version': 1, 'step': nil}",
        /* kept: below 0, beyond step, not ascending, not steps, not an array */
        "{'version': 1, 'step': 5, 'kept': [-1]}",
        "{'version': 1, 'step': -1, 'kept': [0]}",
        "{'version': 1, 'step': 5, 'kept': [6]}",
        "{'kept': [0, 6], 'version': 1, 'step': 5}",
        "{'version': 1, 'step': 5, 'kept': [0, 0]}",
        "{'version': 1, 'step': 5, 'kept': [1, 0]}",
        "{'version': 1, 'step': 5, 'kept': [0, 2, 1]}",
        "{'version': 1, 'step': 9223372036854775807, "
        "'kept': [9223372036854775807, 9223372036854775807]}",
        "{'version': 1, 'step': 9223372036854775807, 'kept': [9223372036854775807, 0]}",
        "{'version': 1, 'step': 9223372036854775807, 'kept': [9223372036854775808]}",
        "{'version': 1, 'step': 9223372036854775807, 'kept': [18446744073709551615]}",
        "{'version': 1, 'step': 5, 'kept': [1.0]}",
        "{'version': 1, 'step': 5, 'kept': ['1']}",
        "{'version': 1, 'step': 5, 'kept': [nil]}",
        "{'version': 1, 'step': 5, 'kept': [[1]]}",
        "{'version': 1, 'step': 5, 'kept': [[[[[[1]]]]]]}",
        "{'version': 1, 'step': 5, 'kept': 1}",
        "{'version': 1, 'step': 5, 'kept': nil}",
        "{'version': 1, 'step': 5, 'kept': {0: 1}}",
        "[1, 1]",
        "1",
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        refuses(row, wrong[i]);
    }
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
    case PREFIX:
        check_prefix(row);
        break;
    case PREFIXES:
        check_prefixes(row);
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

START_TEST(prefixes_are_walked_in_order)
{
    struct bytes prefix;
    ck_assert_uint_eq(parse_all(WIRE_METHOD_REPLAY, "thread", "'prefix': b'abcdefghijklmnop'"),
                      STATUS_OK);
    ck_assert(!request.prefix_is_list);
    struct wire_list list = request.prefix_list;
    ck_assert_uint_eq(list.count, 1);
    ck_assert(wire_list_next(&list, &prefix) && bytes_equal(prefix, request.prefix));
    ck_assert(bytes_equal(prefix, bytes_text("abcdefghijklmnop")));
    ck_assert(!wire_list_next(&list, &prefix));

    ck_assert_uint_eq(parse_all(WIRE_METHOD_REPLAY, "thread",
                                "'touch': false, 'prefix': ['0123456789abcdef', b(16)], "
                                "'last': 2"),
                      STATUS_OK);
    ck_assert(request.prefix_is_list);
    ck_assert(bytes_equal(request.prefix, bytes_text("0123456789abcdef")));
    list = request.prefix_list;
    ck_assert(wire_list_next(&list, &prefix) && bytes_equal(prefix, request.prefix));
    ck_assert(wire_list_next(&list, &prefix));
    ck_assert(bytes_equal(prefix, bytes_text("xxxxxxxxxxxxxxxx")));
    ck_assert(!wire_list_next(&list, &prefix) && list.encoded.size == 0);
}
END_TEST

START_TEST(pairs_are_walked_in_order)
{
    uint64_t step;
    struct bytes prefix;
    ck_assert_uint_eq(parse_all(WIRE_METHOD_REPLAY, "",
                                "'prefixes': [[7, '0123456789abcdef'], [300, b(16)], "
                                "[9223372036854775807, b(16)], [0, s(16)]]"),
                      STATUS_OK);
    struct wire_list pairs = request.prefixes;
    ck_assert(wire_pair_next(&pairs, &step, &prefix) && step == 7);
    ck_assert(bytes_equal(prefix, bytes_text("0123456789abcdef")));
    ck_assert(wire_pair_next(&pairs, &step, &prefix) && step == 300);
    ck_assert(bytes_equal(prefix, bytes_text("xxxxxxxxxxxxxxxx")));
    ck_assert(wire_pair_next(&pairs, &step, &prefix) && step == INT64_MAX);
    ck_assert(wire_pair_next(&pairs, &step, &prefix) && step == 0);
    ck_assert(!wire_pair_next(&pairs, &step, &prefix) && pairs.encoded.size == 0);
    ck_assert(!wire_pair_next(&pairs, &step, &prefix));
    struct wire_list none = {.count = 0};
    ck_assert(!wire_pair_next(&none, &step, &prefix));
}
END_TEST

START_TEST(kept_steps_are_walked_in_order)
{
    uint64_t step;
    ck_assert_uint_eq(parse_all(WIRE_METHOD_REPLAY, "",
                                "'have': {'kept': [0, 1, 127, 128, 70000, 9223372036854775807], "
                                "'version': 4, 'step': 9223372036854775807}"),
                      STATUS_OK);
    ck_assert_uint_eq(request.have.version, 4);
    ck_assert_int_eq(request.have.step, INT64_MAX);
    struct wire_list kept = request.have.kept;
    static const uint64_t steps[] = {0, 1, 127, 128, 70000, INT64_MAX};
    for (size_t i = 0; i < COUNT(steps); i++) {
        ck_assert(wire_step_next(&kept, &step) && step == steps[i]);
    }
    ck_assert(!wire_step_next(&kept, &step) && kept.encoded.size == 0);
    ck_assert(!wire_step_next(&kept, &step));
    struct wire_list none = {.count = 0};
    ck_assert(!wire_step_next(&none, &step));
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
    tcase_add_test(tcase, turns_go_with_last_turns);
    tcase_add_test(tcase, what_a_replay_starts_from);
    tcase_add_test(tcase, prefixes_are_walked_in_order);
    tcase_add_test(tcase, pairs_are_walked_in_order);
    tcase_add_test(tcase, kept_steps_are_walked_in_order);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
