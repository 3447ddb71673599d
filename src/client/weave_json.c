/* JSON with limits and exact numbers; see weave_json.h. */
#include "client/weave_json.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PLAIN_DIGITS_MAX = 18, /* they fit a 64-bit integer, whatever they are */
    STAND_IN_BYTES = 24,   /* of the real that stands for a literal */
    LITERALS_MAX = WEAVE_TRANSCRIPT_VALUES_MAX + WEAVE_ENVELOPES_VALUES_MAX,
};

void weave_error_set(struct weave_error *error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
}

bool weave_json_grow(void **items, size_t *room, size_t count, size_t item_bytes)
{
    assert(count <= *room && item_bytes > 0);
    if (count < *room)
        return true;
    size_t wanted = *room == 0 ? 16 : *room * 2;
    void *grown = reallocarray(*items, wanted, item_bytes);
    if (grown == NULL)
        return false;
    *items = grown;
    *room = wanted;
    return true;
}

bool weave_text_add(struct weave_text *text, const void *bytes, size_t size)
{
    if (size >= SIZE_MAX / 4 - text->size)
        return false;
    if (text->size + size + 1 > text->room) {
        size_t wanted = text->room < 64 ? 64 : text->room * 2;
        if (wanted < text->size + size + 1)
            wanted = text->size + size + 1;
        char *grown = realloc(text->data, wanted);
        if (grown == NULL)
            return false;
        text->data = grown;
        text->room = wanted;
    }
    if (size > 0)
        memcpy(text->data + text->size, bytes, size);
    text->size += size;
    text->data[text->size] = '\0';
    return true;
}

void weave_json_limit(struct weave_json *json, size_t depth_max, size_t values_max)
{
    json->depth_max = depth_max;
    json->values_max = values_max;
    json->values = 0;
}

void weave_json_free(struct weave_json *json)
{
    free(json->literals);
    json->literals = NULL;
    json->literal_count = json->literal_room = 0;
}

/* ---- Scanning: strings, numbers and nesting, no more
 * -------------------------------------------*/

static const char *skip_string(const char *at, const char *end)
{
    assert(*at == '"');
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\' && at + 1 < end)
            at++;
    return at < end ? at + 1 : end;
}

static bool is_digit(const char *at, const char *end)
{
    return at < end && *at >= '0' && *at <= '9';
}

static const char *skip_digits(const char *at, const char *end)
{
    while (is_digit(at, end))
        at++;
    return at;
}

static bool is_of_number(char c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

static const char *skip_number(const char *at, const char *end)
{
    while (at < end && is_of_number(*at))
        at++;
    return at;
}

/* Whether the characters are one number by JSON's grammar, and one that jansson would not keep. */
static bool is_literal(const char *at, const char *end)
{
    bool negative = at < end && *at == '-';
    const char *digits = at + negative;
    const char *next = skip_digits(digits, end);
    bool zero = next == digits + 1 && *digits == '0';
    bool literal = next - digits > PLAIN_DIGITS_MAX || (negative && zero);
    if (next == digits || (*digits == '0' && !zero))
        return false;
    if (next < end && *next == '.') {
        const char *fraction = next + 1;
        next = skip_digits(fraction, end);
        literal = true;
        if (next == fraction)
            return false;
    }
    if (next < end && (*next == 'e' || *next == 'E')) {
        const char *exponent = next + 1;
        exponent += exponent < end && (*exponent == '+' || *exponent == '-');
        next = skip_digits(exponent, end);
        literal = true;
        if (next == exponent)
            return false;
    }
    return literal && next == end;
}

static bool starts_number(char c)
{
    return c == '-' || (c >= '0' && c <= '9');
}

static bool add_literal(struct weave_json *json, const char *text, size_t size)
{
    if (!weave_json_grow((void **)&json->literals, &json->literal_room, json->literal_count,
                         sizeof *json->literals))
        return false;
    json->literals[json->literal_count++] = (struct weave_literal){text, size};
    return true;
}

static enum rethread_status too_large(struct weave_error *error, const char *what, size_t limit)
{
    weave_error_set(error, "%s, at most %zu", what, limit);
    return RETHREAD_TOO_LARGE;
}

/* Judges size and depth, and gathers the literals. */
static enum rethread_status scan(struct weave_json *json, struct rethread_bytes text,
                                 struct weave_error *error)
{
    const char *at = text.data;
    const char *end = at + text.size;
    size_t depth = 0;
    while (at < end) {
        const char *from = at;
        if (*at == '"') {
            at = skip_string(at, end);
            continue;
        }
        if (starts_number(*at)) {
            at = skip_number(at, end);
            if (!is_literal(from, at))
                continue;
            /* One behind the other with nothing between them they count as no values. */
            if (json->literal_count == LITERALS_MAX)
                return too_large(error, "has too many numbers", LITERALS_MAX);
            if (!add_literal(json, from, (size_t)(at - from)))
                return RETHREAD_NO_MEMORY;
            continue;
        }
        at++;
        if (*from == '[' || *from == '{') {
            if (++depth > json->depth_max)
                return too_large(error, "is nested too deep: levels", json->depth_max);
        } else if (*from != ',' && *from != ':') {
            depth -= depth > 0 && (*from == ']' || *from == '}');
            continue;
        }
        if (++json->values > json->values_max)
            return too_large(error, "has too many values", json->values_max);
    }
    return RETHREAD_OK;
}

/* ---- Reading ----------------------------------------------------------------------------------
 */

static size_t stand_in(char out[STAND_IN_BYTES], size_t index)
{
    int length = snprintf(out, STAND_IN_BYTES, "%zu.0", index);
    assert(length > 0 && length < STAND_IN_BYTES);
    return (size_t)length;
}

/* The text with the literals from `first` on replaced. */
static bool replace(const struct weave_json *json, size_t first, struct rethread_bytes text,
                    struct weave_text *out)
{
    const char *at = text.data;
    for (size_t i = first; i < json->literal_count; i++) {
        const struct weave_literal *literal = &json->literals[i];
        char number[STAND_IN_BYTES];
        if (!weave_text_add(out, at, (size_t)(literal->text - at)) ||
            !weave_text_add(out, number, stand_in(number, i)))
            return false;
        at = literal->text + literal->size;
    }
    return weave_text_add(out, at, (size_t)((const char *)text.data + text.size - at));
}

/* Where a byte of the replaced text was in the text itself. */
static size_t original_position(const struct weave_json *json, size_t first,
                                struct rethread_bytes text, size_t position)
{
    for (size_t i = first; i < json->literal_count; i++) {
        char number[STAND_IN_BYTES];
        size_t length = stand_in(number, i);
        size_t begins = (size_t)(json->literals[i].text - (const char *)text.data);
        if (position < begins + length)
            break;
        position = position - length + json->literals[i].size;
    }
    return position < text.size ? position : text.size;
}

/* jansson's own message would quote the text. */
static enum rethread_status complain(const json_error_t *where, size_t position,
                                     struct weave_error *error)
{
    /* What jansson has no sentence for is that it got no memory. */
    if (where->text[0] == '\0')
        return RETHREAD_NO_MEMORY;
    switch (json_error_code(where)) {
    case json_error_out_of_memory:
        return RETHREAD_NO_MEMORY;
    case json_error_premature_end_of_input:
        weave_error_set(error, "is no JSON: it ends too early");
        break;
    case json_error_invalid_utf8:
        weave_error_set(error, "is no UTF-8, at about byte %zu", position);
        break;
    case json_error_duplicate_key:
        weave_error_set(error, "has the same member twice in an object, at about byte %zu",
                        position);
        break;
    case json_error_null_byte_in_key:
        weave_error_set(error, "has a NUL in the name of a member, at about byte %zu", position);
        break;
    default:
        weave_error_set(error, "is no JSON: malformed at about byte %zu", position);
        break;
    }
    return RETHREAD_INVALID_ARGUMENT;
}

enum rethread_status weave_json_read(struct weave_json *json, struct rethread_bytes text,
                                     json_t **root, struct weave_error *error)
{
    size_t first = json->literal_count;
    struct weave_text replaced = {0};
    json_error_t where;
    *root = NULL;
    if (text.size == 0)
        text.data = "";
    enum rethread_status status = scan(json, text, error);
    if (status != RETHREAD_OK)
        return status;
    struct rethread_bytes source = text;
    if (json->literal_count > first) {
        if (!replace(json, first, text, &replaced)) {
            free(replaced.data);
            return RETHREAD_NO_MEMORY;
        }
        source = (struct rethread_bytes){replaced.data, replaced.size};
    }
    *root = json_loadb(source.data, source.size,
                       JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &where);
    free(replaced.data);
    if (*root != NULL)
        return RETHREAD_OK;
    size_t position = where.position > 0 ? (size_t)where.position : 0;
    return complain(&where, original_position(json, first, text, position), error);
}

/* ---- Printing ---------------------------------------------------------------------------------
 */

static int collect(const char *bytes, size_t size, void *out)
{
    return weave_text_add(out, bytes, size) ? 0 : -1;
}

/* What was printed, with the literals put back: the only numbers in it that have a point. */
static bool put_back(const struct weave_json *json, const struct weave_text *printed,
                     struct weave_text *out)
{
    const char *at = printed->data;
    const char *end = at + printed->size;
    const char *copied = at;
    while (at < end) {
        const char *from = at;
        if (*at == '"') {
            at = skip_string(at, end);
            continue;
        }
        if (!starts_number(*at)) {
            at++;
            continue;
        }
        at = skip_number(at, end);
        if (memchr(from, '.', (size_t)(at - from)) == NULL)
            continue;
        size_t index = (size_t)strtoull(from, NULL, 10);
        assert(index < json->literal_count);
        if (!weave_text_add(out, copied, (size_t)(from - copied)) ||
            !weave_text_add(out, json->literals[index].text, json->literals[index].size))
            return false;
        copied = at;
    }
    return weave_text_add(out, copied, (size_t)(end - copied));
}

bool weave_json_print(const struct weave_json *json, const json_t *value, size_t flags,
                      struct weave_text *out)
{
    flags |= JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17);
    if (json->literal_count == 0)
        return weave_text_add(out, "", 0) && json_dump_callback(value, collect, out, flags) == 0;
    struct weave_text printed = {0};
    bool done =
        json_dump_callback(value, collect, &printed, flags) == 0 && put_back(json, &printed, out);
    free(printed.data);
    return done;
}

json_t *weave_json_copy(json_t *object)
{
    json_t *copy = json_object();
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        if (copy == NULL || json_object_set(copy, name, value) != 0) {
            json_decref(copy);
            return NULL;
        }
    }
    return copy;
}

/* ---- Strings ----------------------------------------------------------------------------------
 */

/* Bytes of the UTF-8 character at `at`; 0: none, or one that UTF-8 does not allow. */
static size_t character(const unsigned char *at, size_t size)
{
    unsigned char lead = at[0];
    if (lead < 0x80)
        return 1;
    size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || size < length)
        return 0;
    unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if (at[i] < 0x80 || at[i] > 0xBF)
            return 0;
    return length;
}

bool weave_json_is_utf8(struct rethread_bytes bytes)
{
    const unsigned char *at = bytes.data;
    for (size_t left = bytes.size; left > 0;) {
        size_t length = character(at, left);
        if (length == 0)
            return false;
        at += length;
        left -= length;
    }
    return true;
}

struct rethread_bytes weave_json_bytes(const json_t *string)
{
    return (struct rethread_bytes){json_string_value(string), json_string_length(string)};
}
