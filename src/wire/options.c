/* Takes the options of a request, by the table of schema/options.def. Pure; no allocation. */
#include "wire/options.h"
#include "wire/parse.h"

#include <assert.h>
#include <inttypes.h>

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

struct option {
    const char *name;
    uint8_t name_size;
    uint8_t field;
    uint8_t type;
    uint16_t offset; /* of the field in struct wire_request */
    int64_t min;
    int64_t max;
};

static const struct option options[] = {
#define OPTION(M, N, T, NEED, MIN, MAX, summary)                                                   \
    {.name = #N,                                                                                   \
     .name_size = sizeof #N - 1,                                                                   \
     .field = WIRE_FIELD_##N,                                                                      \
     .type = T,                                                                                    \
     .offset = offsetof(struct wire_request, N),                                                   \
     .min = MIN,                                                                                   \
     .max = MAX},
#include "schema/options.def"
#undef OPTION
};

/* "all, none, ", and so on: a list to be ended. */
#define POLICY(name, text, summary) text ", "
static const char policy_names[] =
#include "schema/policies.def"
    ;
#undef POLICY

/* The methods of the rows alone, so that a method's first row is one memchr away. */
static const uint8_t methods[] = {
#define OPTION(M, N, T, NEED, MIN, MAX, summary) WIRE_METHOD_##M,
#include "schema/options.def"
#undef OPTION
};

enum { ROWS = sizeof methods };

/* The options that must be given, picked from the same rows: few, and grouped by method too. */
#define OPTIONAL_ROW(M, N)
#define REQUIRED_ROW(M, N)                       {.method = WIRE_METHOD_##M, .field = WIRE_FIELD_##N, .name = #N},
#define OPTION(M, N, T, NEED, MIN, MAX, summary) NEED##_ROW(M, N)
static const struct required {
    const char *name;
    uint8_t method;
    uint8_t field;
} required[] = {
#include "schema/options.def"
};
#undef OPTION
#undef REQUIRED_ROW
#define REQUIRED_ROW(M, N)                       WIRE_METHOD_##M,
#define OPTION(M, N, T, NEED, MIN, MAX, summary) NEED##_ROW(M, N)
static const uint8_t required_methods[] = {
#include "schema/options.def"
};
#undef OPTION
#undef REQUIRED_ROW
#undef OPTIONAL_ROW

enum { REQUIRED_ROWS = sizeof required_methods };

static_assert(WIRE_FIELD_COUNT <= 64, "wire_request.given has a bit for each field");
static_assert(sizeof(struct wire_request) <= UINT16_MAX, "offsets of fields fit");

static bool named(const struct option *option, struct bytes name)
{
    return option->name_size == name.size && option->name[0] == (char)name.data[0] &&
           memcmp(option->name, name.data, name.size) == 0;
}

/*
 * The row of a method's option, NULL: there is none. *next is the row after the last hit, since
 * options tend to come in the table's order; ROWS at first.
 */
static const struct option *find(enum wire_method method, struct bytes name, unsigned *next)
{
    unsigned row = *next;
    if (row == ROWS || methods[row] != method || !named(&options[row], name)) {
        const uint8_t *first = memchr(methods, (int)method, ROWS);
        row = first != NULL ? (unsigned)(first - methods) : ROWS;
        while (row < ROWS && methods[row] == method && !named(&options[row], name)) {
            row++;
        }
    }
    if (row == ROWS || methods[row] != method) {
        return NULL;
    }
    *next = row + 1;
    return &options[row];
}

static enum status fail_unknown(const struct wire_request *request, struct bytes name,
                                struct wire_error *error)
{
    wire_fail(error, STATUS_BAD_REQUEST, "",
              "%s has no such option; `rethread-server --describe` "
              "lists the options of each method",
              wire_method_name(request->method));
    size_t size = name.size < sizeof error->option - 1 ? name.size : sizeof error->option - 1;
    for (size_t i = 0; i < size; i++) {
        bool printable = name.data[i] >= 0x20 && name.data[i] <= 0x7E;
        error->option[i] = (char)(printable ? name.data[i] : '?');
    }
    error->option[size] = '\0';
    return error->status;
}

/* What the option should have been, from its row. */
static enum status fail_value(const struct option *option, struct wire_error *error)
{
    const char *name = option->name;
    switch ((enum type)option->type) {
    case ID:
        if (option->min == option->max) {
            return wire_fail(error, STATUS_BAD_REQUEST, name,
                             "%s is expected to be str or bin of %" PRId64 " bytes", name,
                             option->min);
        }
        return wire_fail(error, STATUS_BAD_REQUEST, name,
                         "%s is expected to be str or bin of %" PRId64 " to %" PRId64 " bytes",
                         name, option->min, option->max);
    case TEXT:
        return wire_fail(error, STATUS_BAD_REQUEST, name,
                         "%s is expected to be str of %" PRId64 " to %" PRId64 " bytes", name,
                         option->min, option->max);
    case U64:
    case I64:
        return wire_fail(error, STATUS_BAD_REQUEST, name,
                         "%s is expected to be an integer from %" PRId64 " to %" PRId64, name,
                         option->min, option->max);
    case BOOL:
        return wire_fail(error, STATUS_BAD_REQUEST, name, "%s is expected to be true or false",
                         name);
    case ACK:
        return wire_fail(error, STATUS_BAD_REQUEST, name,
                         "%s is expected to be the str memory or disk", name);
    case POLICY:
        return wire_fail(error, STATUS_BAD_REQUEST, name,
                         "%s is expected to be one of the str %sauto", name, policy_names);
    case MISMATCH:
        return wire_fail(error, STATUS_BAD_REQUEST, name,
                         "%s is expected to be the str drop or fail", name);
    case KIND:
        return wire_fail(error, STATUS_BAD_REQUEST, name,
                         "%s is expected to be the str text, tokens or opaque", name);
    case IDS:
        return wire_fail(error, STATUS_BAD_REQUEST, name,
                         "%s is expected to be an array of %" PRId64 " to %" PRId64
                         " ids, each str or bin of 1 to %d bytes",
                         name, option->min, option->max, WIRE_ID_BYTES_MAX);
    case KINDS:
        return wire_fail(error, STATUS_BAD_REQUEST, name,
                         "%s is expected to be an array of %" PRId64 " to %" PRId64
                         " of the str text, tokens and opaque",
                         name, option->min, option->max);
    case PREFIX:
        return wire_fail(error, STATUS_BAD_REQUEST, name,
                         "%s is expected to be str or bin of %d bytes, or an array of %" PRId64
                         " to %" PRId64 " of them",
                         name, WIRE_PREFIX_BYTES, option->min, option->max);
    case PREFIXES:
        return wire_fail(error, STATUS_BAD_REQUEST, name,
                         "%s is expected to be an array of at most %" PRId64
                         " pairs of a step (an integer from 0) and a prefix (%d bytes)",
                         name, option->max, WIRE_PREFIX_BYTES);
    case HAVE:
        return wire_fail(error, STATUS_BAD_REQUEST, name,
                         "%s is expected to be a map of version (an integer from 0), step (an "
                         "integer from -1) and, if wanted, kept (at most %d ascending steps up to "
                         "step)",
                         name, WIRE_KEPT_MAX);
    }
    return wire_fail(error, STATUS_BAD_REQUEST, name, "%s is not what is expected", name);
}

static bool is_text(const struct wire_item *item, const char *text)
{
    return item->type == WIRE_ITEM_STR && bytes_equal(item->bytes, bytes_text(text));
}

static bool is_id(const struct wire_item *item, int64_t min, int64_t max)
{
    return (item->type == WIRE_ITEM_STR || item->type == WIRE_ITEM_BIN) &&
           item->bytes.size >= (uint64_t)min && item->bytes.size <= (uint64_t)max;
}

/* Any encoding of an integer within min..max. */
static bool is_integer(const struct wire_item *item, int64_t min, int64_t max, int64_t *value)
{
    if (item->type == WIRE_ITEM_UINT) {
        if (item->number > INT64_MAX) {
            return false;
        }
    } else if (item->type != WIRE_ITEM_NEGATIVE) {
        return false;
    }
    *value = (int64_t)item->number;
    return *value >= min && *value <= max;
}

static bool kind_of(const struct wire_item *item, enum wire_kind *kind)
{
    for (unsigned k = 0; k < WIRE_KIND_COUNT; k++) {
        if (is_text(item, wire_kind_name((enum wire_kind)k))) {
            *kind = (enum wire_kind)k;
            return true;
        }
    }
    return false;
}

static bool policy_of(const struct wire_item *item, enum wire_policy *policy)
{
    for (unsigned p = 0; p < WIRE_POLICY_COUNT; p++) {
        if (is_text(item, wire_policy_name((enum wire_policy)p))) {
            *policy = (enum wire_policy)p;
            return true;
        }
    }
    return false;
}

static bool is_prefix(const struct wire_item *item)
{
    return is_id(item, WIRE_PREFIX_BYTES, WIRE_PREFIX_BYTES);
}

/* One item of an array, which may be an array itself. */
static bool take_item(struct wire_cursor *cursor, enum type type)
{
    struct wire_item item;
    struct wire_item prefix;
    enum wire_kind kind;
    int64_t step;
    if (!wire_take(cursor, &item)) {
        return false;
    }
    switch (type) {
    case IDS:
        return is_id(&item, 1, WIRE_ID_BYTES_MAX);
    case KINDS:
        return kind_of(&item, &kind);
    case PREFIX:
        return is_prefix(&item);
    case PREFIXES:
        return item.type == WIRE_ITEM_ARRAY && item.count == 2 && wire_take(cursor, &item) &&
               is_integer(&item, 0, INT64_MAX, &step) && wire_take(cursor, &prefix) &&
               is_prefix(&prefix);
    default:
        return false;
    }
}

static bool take_list(struct wire_cursor *cursor, const struct option *option,
                      const struct wire_item *array, struct wire_list *list)
{
    if (array->type != WIRE_ITEM_ARRAY || array->count < (uint64_t)option->min ||
        array->count > (uint64_t)option->max) {
        return false;
    }
    const uint8_t *start = cursor->at;
    for (uint32_t i = 0; i < array->count; i++) {
        if (!take_item(cursor, (enum type)option->type)) {
            return false;
        }
    }
    list->encoded = bytes_of(start, (size_t)(cursor->at - start));
    list->count = array->count;
    return true;
}

/* Step numbers, strictly ascending. `last`: the last of them; -1: there are none. */
static bool take_steps(struct wire_cursor *cursor, const struct wire_item *array,
                       struct wire_list *list, int64_t *last)
{
    if (array->type != WIRE_ITEM_ARRAY || array->count > WIRE_KEPT_MAX) {
        return false;
    }
    const uint8_t *start = cursor->at;
    *last = -1;
    for (uint32_t i = 0; i < array->count; i++) {
        struct wire_item item;
        if (*last == INT64_MAX || !wire_take(cursor, &item) ||
            !is_integer(&item, *last + 1, INT64_MAX, last)) {
            return false;
        }
    }
    list->encoded = bytes_of(start, (size_t)(cursor->at - start));
    list->count = array->count;
    return true;
}

/* One prefix is a list of one. */
static bool take_prefix(struct wire_cursor *cursor, const struct option *option,
                        const struct wire_item *item, const uint8_t *start,
                        struct wire_request *request)
{
    request->prefix_is_list = item->type == WIRE_ITEM_ARRAY;
    if (!request->prefix_is_list) {
        request->prefix = item->bytes;
        request->prefix_list = (struct wire_list){bytes_of(start, (size_t)(cursor->at - start)), 1};
        return is_prefix(item);
    }
    if (!take_list(cursor, option, item, &request->prefix_list)) {
        return false;
    }
    struct wire_list first = request->prefix_list;
    return wire_list_next(&first, &request->prefix);
}

static bool take_have(struct wire_cursor *cursor, const struct wire_item *map,
                      struct wire_have *have)
{
    if (map->type != WIRE_ITEM_MAP) {
        return false;
    }
    bool has_version = false;
    bool has_step = false;
    int64_t last_kept = -1;
    for (unsigned i = 0; i < map->count; i++) {
        struct wire_item name;
        struct wire_item value;
        int64_t number;
        if (!wire_take(cursor, &name) || !wire_take(cursor, &value)) {
            return false;
        }
        if (is_text(&name, "version") && !has_version &&
            is_integer(&value, 0, INT64_MAX, &number)) {
            have->version = (uint64_t)number;
            has_version = true;
        } else if (is_text(&name, "step") && !has_step &&
                   is_integer(&value, -1, INT64_MAX, &number)) {
            have->step = number;
            has_step = true;
        } else if (is_text(&name, "kept") && !have->has_kept) {
            if (!take_steps(cursor, &value, &have->kept, &last_kept)) {
                return false;
            }
            have->has_kept = true;
        } else {
            return false;
        }
    }
    return has_version && has_step && last_kept <= have->step;
}

/* Reads the value of one option into its field; false when it is not what the row says. */
static bool take_value(struct wire_cursor *cursor, const struct option *option,
                       struct wire_request *request)
{
    void *field = (uint8_t *)request + option->offset;
    const uint8_t *start = cursor->at;
    struct wire_item item;
    int64_t number;
    if (!wire_take(cursor, &item)) {
        return false;
    }
    switch ((enum type)option->type) {
    case TEXT:
    case ID:
        *(struct bytes *)field = item.bytes;
        return (option->type == ID || item.type == WIRE_ITEM_STR) &&
               is_id(&item, option->min, option->max);
    case U64:
        if (!is_integer(&item, option->min, option->max, &number)) {
            return false;
        }
        *(uint64_t *)field = (uint64_t)number;
        return true;
    case I64:
        return is_integer(&item, option->min, option->max, (int64_t *)field);
    case BOOL:
        *(bool *)field = item.number != 0;
        return item.type == WIRE_ITEM_BOOL;
    case ACK:
        *(enum wire_ack *)field = is_text(&item, "disk") ? WIRE_ACK_DISK : WIRE_ACK_MEMORY;
        return is_text(&item, "disk") || is_text(&item, "memory");
    case POLICY:
        return policy_of(&item, field);
    case MISMATCH:
        *(enum wire_mismatch *)field =
            is_text(&item, "fail") ? WIRE_MISMATCH_FAIL : WIRE_MISMATCH_DROP;
        return is_text(&item, "fail") || is_text(&item, "drop");
    case KIND:
        return kind_of(&item, field);
    case IDS:
    case KINDS:
    case PREFIXES:
        return take_list(cursor, option, &item, field);
    case PREFIX:
        return take_prefix(cursor, option, &item, start, request);
    case HAVE:
        return take_have(cursor, &item, field);
    }
    return false;
}

static enum status check_required(const struct wire_request *request, struct wire_error *error)
{
    const uint8_t *first = memchr(required_methods, (int)request->method, REQUIRED_ROWS);
    unsigned row = first != NULL ? (unsigned)(first - required_methods) : REQUIRED_ROWS;
    for (; row < REQUIRED_ROWS && required_methods[row] == request->method; row++) {
        if (!wire_given(request, required[row].field)) {
            return wire_fail(error, STATUS_BAD_REQUEST, required[row].name,
                             "%s needs the option %s", wire_method_name(request->method),
                             required[row].name);
        }
    }
    return STATUS_OK;
}

enum status wire_options_take(struct wire_cursor *cursor, struct wire_request *request,
                              struct wire_error *error)
{
    struct wire_item map;
    if (!wire_take(cursor, &map) || map.type != WIRE_ITEM_MAP) {
        return wire_fail(error, STATUS_BAD_REQUEST, "",
                         "the fourth item is expected to be [options, payload...], options a map");
    }
    unsigned next = ROWS;
    for (uint32_t i = 0; i < map.count; i++) {
        struct wire_item name;
        if (!wire_take(cursor, &name) || name.type != WIRE_ITEM_STR) {
            return wire_fail(error, STATUS_BAD_REQUEST, "",
                             "the options are cut short, or the name of one is not a str");
        }
        const struct option *option = find(request->method, name.bytes, &next);
        if (option == NULL) {
            return fail_unknown(request, name.bytes, error);
        }
        if (wire_given(request, option->field)) {
            return wire_fail(error, STATUS_BAD_REQUEST, option->name, "%s is given twice",
                             option->name);
        }
        request->given |= (uint64_t)1 << option->field;
        if (!take_value(cursor, option, request)) {
            return fail_value(option, error);
        }
    }
    return check_required(request, error);
}

bool wire_list_next(struct wire_list *list, struct bytes *id)
{
    if (list->count == 0) {
        return false;
    }
    const uint8_t *at = list->encoded.data;
    size_t left = list->encoded.size;
    /* The short forms, which nearly all are. They were validated: the rest of it is there. */
    if (left >= 2 && (at[0] == 0xC4 || at[0] == 0xD9)) {
        *id = bytes_of(at + 2, at[1]);
    } else if (left >= 1 && at[0] >= 0xA0 && at[0] < 0xC0) {
        *id = bytes_of(at + 1, at[0] & 0x1FU);
    } else {
        struct wire_cursor cursor = wire_cursor_on(list->encoded);
        struct wire_item item;
        bool taken = wire_take(&cursor, &item);
        assert(taken && (item.type == WIRE_ITEM_STR || item.type == WIRE_ITEM_BIN));
        (void)taken;
        *id = item.bytes;
    }
    size_t used = (size_t)(id->data - at) + id->size;
    assert(used <= left);
    list->encoded = bytes_of(at + used, left - used);
    list->count--;
    return true;
}

bool wire_kind_next(struct wire_list *list, enum wire_kind *kind)
{
    if (list->count == 0) {
        return false;
    }
    struct wire_cursor cursor = wire_cursor_on(list->encoded);
    struct wire_item item;
    bool known = wire_take(&cursor, &item) && kind_of(&item, kind);
    assert(known);
    (void)known;
    list->encoded = bytes_of(cursor.at, wire_left(&cursor));
    list->count--;
    return true;
}

bool wire_step_next(struct wire_list *list, uint64_t *step)
{
    if (list->count == 0) {
        return false;
    }
    struct wire_cursor cursor = wire_cursor_on(list->encoded);
    struct wire_item item;
    bool taken = wire_take(&cursor, &item);
    assert(taken && item.type == WIRE_ITEM_UINT);
    (void)taken;
    *step = item.number;
    list->encoded = bytes_of(cursor.at, wire_left(&cursor));
    list->count--;
    return true;
}

bool wire_pair_next(struct wire_list *list, uint64_t *step, struct bytes *prefix)
{
    if (list->count == 0) {
        return false;
    }
    struct wire_cursor cursor = wire_cursor_on(list->encoded);
    struct wire_item pair;
    struct wire_item number;
    struct wire_item item;
    bool taken =
        wire_take(&cursor, &pair) && wire_take(&cursor, &number) && wire_take(&cursor, &item);
    assert(taken && pair.count == 2 && item.bytes.size == WIRE_PREFIX_BYTES);
    (void)taken;
    *step = number.number;
    *prefix = item.bytes;
    list->encoded = bytes_of(cursor.at, wire_left(&cursor));
    list->count--;
    return true;
}
