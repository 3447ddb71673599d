/* Text into the values of options; see values.h. */
#include "cli/values.h"

#include "base/units.h"
#include "cli/encode.h"
#include "cli/segments.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    PREFIX_BYTES = 16,
    KEPT_MAX = 1 << 20, /* steps: a range must not fill the memory */
};

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

/* The array with room for one more; it is full whenever its count is a power of two, and moves. */
static void *one_more(struct keep *keep, const void *items, size_t count, size_t item_bytes)
{
    if ((count & (count - 1)) != 0)
        return (void *)(uintptr_t)items;
    void *moved = keep_get(keep, (count != 0 ? count * 2 : 1) * item_bytes);
    if (count != 0)
        memcpy(moved, items, count * item_bytes);
    return moved;
}

static const char *too_often(struct keep *keep, int64_t items_max)
{
    return wrong(keep, cli_format("may be given %" PRId64 " times", items_max));
}

/* One more of an array whose items have that many bytes. */
static const char *add_id(struct keep *keep, const char *text, const int64_t size_range[2],
                          int64_t items_max, struct rethread_ids *ids)
{
    if (ids->count >= (size_t)items_max)
        return too_often(keep, items_max);
    struct rethread_bytes id = {0};
    const char *error = value_id(keep, text, size_range[0], size_range[1], &id);
    if (error != NULL)
        return error;
    struct rethread_bytes *items = one_more(keep, ids->items, ids->count, sizeof *items);
    items[ids->count++] = id;
    ids->items = items;
    return NULL;
}

const char *value_add_id(struct keep *keep, const char *text, int64_t items_max,
                         struct rethread_ids *ids)
{
    static const int64_t sizes[] = {1, 255};
    return add_id(keep, text, sizes, items_max, ids);
}

static const char *add_prefix(struct keep *keep, const char *text, int64_t items_max,
                              struct rethread_ids *ids)
{
    static const int64_t sizes[] = {PREFIX_BYTES, PREFIX_BYTES};
    return add_id(keep, text, sizes, items_max, ids);
}

bool value_is_one_of(const char *text, const char *choices)
{
    size_t length = strlen(text);
    while (true) {
        size_t choice = strcspn(choices, "|");
        if (choice == length && memcmp(choices, text, length) == 0)
            return true;
        if (choices[choice] == '\0')
            return false;
        choices += choice + 1;
    }
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

/* Digits up to `end`, which is advanced to what follows them. False: there are none. */
static bool take_step(const char **text, uint64_t *step)
{
    char *end = NULL;
    errno = 0;
    if (**text < '0' || **text > '9')
        return false;
    *step = strtoull(*text, &end, 10);
    *text = end;
    return errno == 0 && *step <= UINT32_MAX;
}

/* "0,2,5-9": steps and ranges of them; "" is none. */
static bool parse_steps(struct keep *keep, const char *text, struct rethread_steps *steps)
{
    uint64_t *items = keep_get(keep, sizeof *items);
    size_t count = 0;
    while (*text != '\0') {
        uint64_t first = 0;
        if (!take_step(&text, &first))
            return false;
        uint64_t last = first;
        if (*text == '-' && (text++, !take_step(&text, &last) || last < first))
            return false;
        if (last - first >= KEPT_MAX - count || (*text != ',' && *text != '\0'))
            return false;
        for (uint64_t step = first; step <= last; step++) {
            items = one_more(keep, items, count, sizeof *items);
            items[count++] = step;
        }
        if (*text == ',' && *++text == '\0')
            return false;
    }
    *steps = (struct rethread_steps){items, count};
    return true;
}

/* VERSION:STEP[:KEPT] */
static const char *parse_have(struct keep *keep, const char *text, struct rethread_have *have)
{
    static const char shape[] =
        "takes VERSION:STEP, two numbers, and if wanted :KEPT, steps as in 0,2,5-9; STEP may be -1";
    char *version_text = keep_take(keep, cli_text(text));
    char *step_text = strchr(version_text, ':');
    if (step_text == NULL)
        return shape;
    *step_text++ = '\0';
    char *kept_text = strchr(step_text, ':');
    if (kept_text != NULL)
        *kept_text++ = '\0';
    int64_t version = 0;
    int64_t step = 0;
    struct rethread_steps kept = {NULL, 0};
    if (value_number(keep, "version", version_text, 0, INT64_MAX, &version) != NULL ||
        value_number(keep, "step", step_text, -1, UINT32_MAX, &step) != NULL || step < -1)
        return shape;
    if (kept_text != NULL && !parse_steps(keep, kept_text, &kept))
        return shape;
    *have = (struct rethread_have){
        .set = true, .version = (uint64_t)version, .step = step, .kept = kept};
    return NULL;
}

/* STEP:PREFIX */
static const char *add_step_prefix(struct keep *keep, const char *text, int64_t items_max,
                                   struct rethread_prefixes *prefixes)
{
    struct rethread_step_prefix pair = {0};
    const char *at = text;
    if (prefixes->count >= (size_t)items_max)
        return too_often(keep, items_max);
    if (!take_step(&at, &pair.step) || *at != ':')
        return "takes STEP:PREFIX, a number and the prefix before that step";
    const char *error = value_id(keep, at + 1, PREFIX_BYTES, PREFIX_BYTES, &pair.prefix);
    if (error != NULL)
        return error;
    struct rethread_step_prefix *items =
        one_more(keep, prefixes->items, prefixes->count, sizeof *items);
    items[prefixes->count++] = pair;
    prefixes->items = items;
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
    case OPTION_PREFIX:
        return add_prefix(keep, text, option->max, field);
    case OPTION_PREFIXES:
        return add_step_prefix(keep, text, option->max, field);
    case OPTION_IDS:
        return value_add_id(keep, text, option->max, field);
    case OPTION_KINDS:
        return segments_option(invocation, text);
    case OPTION_HAVE:
        return parse_have(keep, text, field);
    }
    return "cannot be given";
}
