/* Text into the values of options; see values.h. */
#include "cli/values.h"

#include "base/units.h"
#include "cli/encode.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *wrong(struct keep *keep, char *message)
{
    return keep_take(keep, message);
}

const char *value_id(struct keep *keep, const char *text, int64_t min, int64_t max,
                     struct rethread_bytes *id)
{
    size_t length = strlen(text);
    unsigned char *bytes = keep_get(keep, length + 1);
    ptrdiff_t size = encode_unescape(text, bytes);
    if (size < 0)
        return "has a backslash that begins no \\xNN; a backslash itself is written \\\\";
    /* A hash is more often at hand as digits; they cannot be meant as the bytes themselves. */
    if (min == max && length == 2 * (size_t)max && encode_from_hex(text, bytes, (size_t)max))
        size = (ptrdiff_t)max;
    if (size < min || size > max) {
        if (min == max)
            return wrong(keep, cli_format("takes %" PRId64 " bytes, or %" PRId64
                                          " hexadecimal digits; this is %td",
                                          min, 2 * min, size));
        return wrong(keep, cli_format("takes %" PRId64 " to %" PRId64 " bytes; this is %td", min,
                                      max, size));
    }
    *id = (struct rethread_bytes){bytes, (size_t)size};
    return NULL;
}

const char *value_add_id(struct keep *keep, const char *text, int64_t items_max,
                         struct rethread_ids *ids)
{
    if (ids->count >= (size_t)items_max)
        return wrong(keep, cli_format("may be given %" PRId64 " times", items_max));
    struct rethread_bytes id = {0};
    const char *error = value_id(keep, text, 1, 255, &id);
    if (error != NULL)
        return error;
    /* Full whenever the count is a power of two: then it moves to an array of twice the size. */
    struct rethread_bytes *items = (struct rethread_bytes *)ids->items;
    if ((ids->count & (ids->count - 1)) == 0) {
        items = keep_get(keep, (ids->count != 0 ? ids->count * 2 : 1) * sizeof *items);
        if (ids->count != 0)
            memcpy(items, ids->items, ids->count * sizeof *items);
    }
    items[ids->count] = id;
    ids->items = items;
    ids->count++;
    return NULL;
}

static bool ends_in(const char *name, const char *end)
{
    size_t length = strlen(name);
    size_t end_length = strlen(end);
    return length >= end_length && strcmp(name + length - end_length, end) == 0;
}

const char *value_number_name(const char *name)
{
    return ends_in(name, "_ms") ? "TIME" : ends_in(name, "bytes") ? "SIZE" : "N";
}

const char *value_number(struct keep *keep, const char *name, const char *text, int64_t min,
                         int64_t max, int64_t *value)
{
    bool negative = min < 0 && text[0] == '-';
    const char *digits = text + negative;
    uint64_t magnitude = 0;
    bool is_time = ends_in(name, "_ms");
    bool is_size = ends_in(name, "bytes");
    bool parsed = is_time   ? units_parse_duration(digits, &magnitude)
                  : is_size ? units_parse_size(digits, &magnitude)
                            : units_parse_count(digits, &magnitude);
    if (!parsed)
        return is_time   ? "takes a time: digits and ms, s, m, h or d (bare: ms)"
               : is_size ? "takes a size: digits and K, M or G (bare: bytes)"
                         : "takes a whole number";
    if (magnitude > (negative ? (uint64_t)-min : (uint64_t)max) ||
        (!negative && min > 0 && magnitude < (uint64_t)min))
        return wrong(keep, cli_format("takes %" PRId64 " to %" PRId64 "%s", min, max,
                                      is_time   ? " ms"
                                      : is_size ? " bytes"
                                                : ""));
    *value = negative ? -(int64_t)magnitude : (int64_t)magnitude;
    return NULL;
}

static const char *parse_bool(const char *text, struct rethread_bool *value)
{
    if (text == NULL || strcmp(text, "true") == 0)
        *value = rethread_bool(true);
    else if (strcmp(text, "false") == 0)
        *value = rethread_bool(false);
    else
        return "takes true or false";
    return NULL;
}

static const char *parse_ack(const char *text, enum rethread_ack *ack)
{
    if (strcmp(text, "memory") == 0)
        *ack = RETHREAD_ACK_MEMORY;
    else if (strcmp(text, "disk") == 0)
        *ack = RETHREAD_ACK_DISK;
    else
        return "takes memory or disk";
    return NULL;
}

static const char *parse_have(struct keep *keep, const char *text, struct rethread_have *have)
{
    static const char shape[] = "takes VERSION:STEP, two numbers; STEP may be -1";
    const char *colon = strchr(text, ':');
    if (colon == NULL)
        return shape;
    char *version_text = keep_take(keep, cli_format("%.*s", (int)(colon - text), text));
    int64_t version = 0;
    int64_t step = 0;
    if (value_number(keep, "version", version_text, 0, INT64_MAX, &version) != NULL ||
        value_number(keep, "step", colon + 1, -1, UINT32_MAX, &step) != NULL || step < -1)
        return shape;
    *have = (struct rethread_have){.set = true, .version = (uint64_t)version, .step = step};
    return NULL;
}

const char *value_option(struct invocation *invocation, const struct contract_option *option,
                         const char *text)
{
    void *field = (char *)&invocation->arguments + option->offset;
    struct keep *keep = &invocation->keep;
    const char *error = NULL;
    int64_t number = 0;
    switch (option->type) {
    case OPTION_ID:
    case OPTION_TEXT:
        return value_id(keep, text, option->min, option->max, field);
    case OPTION_U64:
        error = value_number(keep, option->name, text, option->min, option->max, &number);
        if (error == NULL)
            *(struct rethread_u64 *)field = rethread_u64((uint64_t)number);
        return error;
    case OPTION_I64:
        error = value_number(keep, option->name, text, option->min, option->max, &number);
        if (error == NULL)
            *(struct rethread_i64 *)field = rethread_i64(number);
        return error;
    case OPTION_BOOL:
        return parse_bool(text, field);
    case OPTION_ACK:
        return parse_ack(text, field);
    case OPTION_POLICY:
    case OPTION_MISMATCH:
    case OPTION_KIND:
        *(const char **)field = text;
        return NULL;
    case OPTION_PREFIXES:
        return "cannot be given yet";
    case OPTION_IDS:
    case OPTION_PREFIX:
        return value_add_id(keep, text, option->max, field);
    case OPTION_KINDS:
        return value_segment_file(invocation, text);
    case OPTION_HAVE:
        return parse_have(keep, text, field);
    }
    return "cannot be given";
}

static const char *add_segment(struct invocation *invocation, enum rethread_kind kind,
                               const void *data, size_t size_bytes)
{
    if (size_bytes == 0)
        return "is empty; a step without a trace is --bare";
    if (invocation->segment_count == RETHREAD_PAYLOADS_MAX)
        return "makes more than 64 segments";
    invocation->segments[invocation->segment_count++] =
        (struct rethread_segment){.kind = kind, .bytes = {data, size_bytes}};
    return NULL;
}

const char *value_segment_text(struct invocation *invocation, const char *text)
{
    return add_segment(invocation, RETHREAD_KIND_TEXT, text, strlen(text));
}

/* All of a file, up to the largest frame there may be. */
static const char *read_file(struct keep *keep, FILE *file, char **data, size_t *size_bytes)
{
    const size_t limit_bytes = (size_t)1 << 30;
    size_t room = 0;
    size_t used = 0;
    char *bytes = NULL;
    for (;;) {
        bytes = cli_grow(bytes, &room, used + 65536, 1);
        size_t got = fread(bytes + used, 1, room - used, file);
        used += got;
        if (got == 0 || used > limit_bytes)
            break;
    }
    keep_take(keep, bytes);
    if (ferror(file))
        return wrong(keep, cli_format("cannot be read: %s", strerror(errno)));
    if (used > limit_bytes)
        return "is larger than any frame";
    *data = bytes;
    *size_bytes = used;
    return NULL;
}

static const char *add_file(struct invocation *invocation, enum rethread_kind kind,
                            const char *path)
{
    bool is_stdin = strcmp(path, "-") == 0;
    if (is_stdin && invocation->stdin_taken)
        return "can read the standard input only once";
    FILE *file = is_stdin ? stdin : fopen(path, "rbe");
    if (file == NULL)
        return wrong(&invocation->keep, cli_format("cannot open %s: %s", path, strerror(errno)));
    invocation->stdin_taken |= is_stdin;
    char *data = NULL;
    size_t size_bytes = 0;
    const char *error = read_file(&invocation->keep, file, &data, &size_bytes);
    if (!is_stdin)
        fclose(file);
    return error != NULL ? error : add_segment(invocation, kind, data, size_bytes);
}

const char *value_file(struct invocation *invocation, const char *path)
{
    return add_file(invocation, RETHREAD_KIND_TEXT, path);
}

const char *value_segment_file(struct invocation *invocation, const char *text)
{
    static const enum rethread_kind kinds[] = {RETHREAD_KIND_TEXT, RETHREAD_KIND_TOKENS,
                                               RETHREAD_KIND_OPAQUE};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const char *name = rethread_kind_name(kinds[i]);
        size_t length = strlen(name);
        if (strncmp(text, name, length) == 0 && text[length] == '=' && text[length + 1] != '\0')
            return add_file(invocation, kinds[i], text + length + 1);
    }
    return "takes KIND=FILE, where KIND is text, tokens or opaque, and FILE may be -";
}
