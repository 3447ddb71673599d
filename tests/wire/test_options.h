/* Requests with one option, made of the rows of the schema, for the tests of options. Header only.
 */
#ifndef RETHREAD_TESTS_WIRE_TEST_OPTIONS_H
#define RETHREAD_TESTS_WIRE_TEST_OPTIONS_H

#include "tests/lib/notation.h"
#include "wire/parse.h"

#include <check.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

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
static inline enum status parse_all(enum wire_method method, const char *leave_out,
                                    const char *more)
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

static inline enum status parse(const struct row *row, const char *value)
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

static inline void refuses(const struct row *row, const char *value)
{
    enum status status = parse(row, value);
    ck_assert_msg(status == STATUS_BAD_REQUEST, "%s.%s: %s", wire_method_name(row->method),
                  row->name, value);
    ck_assert_str_eq(error.option, row->name);
    ck_assert_ptr_nonnull(strstr(error.message, row->name));
    ck_assert_uint_gt(strlen(error.message), strlen(row->name) + 10);
}

static inline void takes(const struct row *row, const char *value)
{
    ck_assert_msg(parse(row, value) == STATUS_OK, "%s.%s: %s: %s", wire_method_name(row->method),
                  row->name, value, error.message);
    ck_assert(wire_given(&request, row->field));
}

/* printf into a buffer of its own. */
__attribute__((format(printf, 1, 2))) static inline const char *text_of(const char *format, ...)
{
    static char buffer[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(buffer, sizeof buffer, format, arguments);
    va_end(arguments);
    return buffer;
}

/* ['x', 'x', ...] */
static inline const char *items_of(int64_t count, const char *item)
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

#endif
