/* The fields of results: one table per result, one reading function for each type of field. */
#include "client/fields.h"

#include "client/names.h"

#include <assert.h>

/* ---- Fields -----------------------------------------------------------------------------------*/

enum field_type {
    FIELD_BYTES,
    FIELD_TEXT,      /* const char *, a copy that ends in NUL */
    FIELD_U64,       /* uint64_t */
    FIELD_SOME_U64,  /* struct rethread_u64 */
    FIELD_HEAD,      /* struct rethread_u64, unset for a negative number */
    FIELD_BOOL,      /* bool */
    FIELD_SOME_BOOL, /* struct rethread_bool */
    FIELD_REASON,
    FIELD_TIER,
    FIELD_COMPLETENESS,
    FIELD_IDS,
    FIELD_SEGMENTS,
    FIELD_STEPS,
    FIELD_MISSING_THREADS,
    FIELD_LISTED_THREADS,
};

struct field {
    const char *name;
    enum field_type type;
    bool required;
    size_t offset;
};

#define REQUIRED(of, type, field)                                                                  \
    {                                                                                              \
#field, FIELD_##type, true, offsetof(struct of, field)                                     \
    }
#define OPTIONAL(of, type, field)                                                                  \
    {                                                                                              \
#field, FIELD_##type, false, offsetof(struct of, field)                                    \
    }
#define FIELDS_COUNT(fields) (sizeof(fields) / sizeof(fields)[0])

static const struct field ERROR_FIELDS[] = {
    REQUIRED(rethread_error, TEXT, code),        OPTIONAL(rethread_error, TEXT, message),
    OPTIONAL(rethread_error, TEXT, option),      OPTIONAL(rethread_error, TEXT, cause),
    OPTIONAL(rethread_error, SOME_U64, version), OPTIONAL(rethread_error, REASON, reason),
};

static const struct field HELLO_FIELDS[] = {
    REQUIRED(rethread_hello_result, U64, protocol),
    OPTIONAL(rethread_hello_result, BYTES, server),
    OPTIONAL(rethread_hello_result, BYTES, version),
    OPTIONAL(rethread_hello_result, BYTES, tenant),
    OPTIONAL(rethread_hello_result, SOME_U64, frame_max),
};

static const struct field APPEND_FIELDS[] = {
    OPTIONAL(rethread_append_result, BYTES, thread),
    REQUIRED(rethread_append_result, U64, step),
    REQUIRED(rethread_append_result, U64, version),
    OPTIONAL(rethread_append_result, BOOL, created),
    OPTIONAL(rethread_append_result, BOOL, duplicate),
    OPTIONAL(rethread_append_result, U64, lost),
    OPTIONAL(rethread_append_result, SOME_U64, expires_in_ms),
};

static const struct field REPLAY_FIELDS[] = {
    REQUIRED(rethread_replay_result, COMPLETENESS, status),
    OPTIONAL(rethread_replay_result, REASON, reason),
    OPTIONAL(rethread_replay_result, SOME_U64, vouch_ms),
    OPTIONAL(rethread_replay_result, BYTES, thread),
    OPTIONAL(rethread_replay_result, SOME_U64, version),
    OPTIONAL(rethread_replay_result, HEAD, head),
    OPTIONAL(rethread_replay_result, BOOL, ambiguous),
    OPTIONAL(rethread_replay_result, SOME_U64, found),
    OPTIONAL(rethread_replay_result, BOOL, in_flight),
    OPTIONAL(rethread_replay_result, SOME_U64, kept_from),
    OPTIONAL(rethread_replay_result, SOME_U64, dropped),
    OPTIONAL(rethread_replay_result, SOME_BOOL, extends),
    OPTIONAL(rethread_replay_result, SOME_U64, first_changed),
    REQUIRED(rethread_replay_result, STEPS, steps),
    OPTIONAL(rethread_replay_result, SOME_U64, expires_in_ms),
};

static const struct field STEP_FIELDS[] = {
    REQUIRED(rethread_step, U64, step),       OPTIONAL(rethread_step, REASON, missing),
    OPTIONAL(rethread_step, U64, turn),       OPTIONAL(rethread_step, BOOL, final),
    OPTIONAL(rethread_step, BYTES, model),    OPTIONAL(rethread_step, BYTES, response_id),
    OPTIONAL(rethread_step, IDS, tool_calls), OPTIONAL(rethread_step, SOME_U64, tokens),
    OPTIONAL(rethread_step, BYTES, visible),  OPTIONAL(rethread_step, SEGMENTS, segments),
    OPTIONAL(rethread_step, TIER, source),
};

static const struct field STAT_FIELDS[] = {
    REQUIRED(rethread_stat_result, COMPLETENESS, status),
    OPTIONAL(rethread_stat_result, REASON, reason),
    OPTIONAL(rethread_stat_result, SOME_U64, vouch_ms),
    OPTIONAL(rethread_stat_result, SOME_U64, version),
    OPTIONAL(rethread_stat_result, SOME_U64, step_count),
    OPTIONAL(rethread_stat_result, SOME_U64, bytes),
    OPTIONAL(rethread_stat_result, SOME_U64, tokens),
    OPTIONAL(rethread_stat_result, SOME_U64, age_ms),
    OPTIONAL(rethread_stat_result, SOME_U64, idle_ms),
    OPTIONAL(rethread_stat_result, SOME_U64, expires_in_ms),
    OPTIONAL(rethread_stat_result, TIER, tier),
    OPTIONAL(rethread_stat_result, BOOL, in_flight),
    OPTIONAL(rethread_stat_result, SOME_U64, floor),
};

static const struct field TOUCH_FIELDS[] = {
    REQUIRED(rethread_touch_result, U64, touched),
    OPTIONAL(rethread_touch_result, MISSING_THREADS, missing),
};

static const struct field FORK_FIELDS[] = {
    OPTIONAL(rethread_fork_result, BYTES, thread),
    REQUIRED(rethread_fork_result, U64, version),
};

static const struct field REWIND_FIELDS[] = {
    REQUIRED(rethread_rewind_result, U64, version),
    REQUIRED(rethread_rewind_result, U64, dropped),
};

static const struct field FORGET_FIELDS[] = {
    REQUIRED(rethread_forget_result, BOOL, forgotten),
};

static const struct field LIST_FIELDS[] = {
    REQUIRED(rethread_list_result, LISTED_THREADS, threads),
    OPTIONAL(rethread_list_result, BYTES, cursor),
};

static const struct field BEGIN_FIELDS[] = {
    OPTIONAL(rethread_begin_result, BYTES, thread),
    REQUIRED(rethread_begin_result, U64, step),
    OPTIONAL(rethread_begin_result, U64, version),
    REQUIRED(rethread_begin_result, U64, claim),
    OPTIONAL(rethread_begin_result, U64, claim_expires_in_ms),
};

static const struct field CHUNK_FIELDS[] = {
    REQUIRED(rethread_chunk_result, U64, bytes),
    OPTIONAL(rethread_chunk_result, U64, claim_expires_in_ms),
};

static const struct field ABORT_FIELDS[] = {
    REQUIRED(rethread_abort_result, BOOL, aborted),
};

static const struct field LISTED_FIELDS[] = {
    REQUIRED(rethread_listed_thread, BYTES, thread), OPTIONAL(rethread_listed_thread, U64, version),
    OPTIONAL(rethread_listed_thread, U64, bytes),    OPTIONAL(rethread_listed_thread, U64, idle_ms),
    OPTIONAL(rethread_listed_thread, TIER, tier),
};

/* Arrays are a pointer to the items with their count right behind it. */
struct array {
    void *items;
    size_t count;
};
#define FOLLOWS(of, first, number)                                                                 \
    _Static_assert(offsetof(struct of, number) - offsetof(struct of, first) ==                     \
                       offsetof(struct array, count),                                              \
                   #number " must follow " #first)
FOLLOWS(rethread_ids, items, count);
FOLLOWS(rethread_segments, items, count);
FOLLOWS(rethread_replay_result, steps, step_count);
FOLLOWS(rethread_touch_result, missing, missing_count);
FOLLOWS(rethread_list_result, threads, thread_count);

/* ---- Reading ----------------------------------------------------------------------------------*/

typedef bool item_fn(struct client_decoder *decoder, void *item);

static bool read_map(struct client_decoder *decoder, const struct field *fields, size_t field_count,
                     void *base);

void *client_decoder_alloc(struct client_decoder *decoder, size_t count, size_t size)
{
    void *memory = client_result_alloc(decoder->result, count, size);
    if (memory == NULL)
        decoder->no_memory = true;
    return memory;
}

/*
 * `bytes_min` is what the shortest item takes on the wire: memory stays in proportion to the bytes
 * that are there, whatever the array declares.
 */
static bool read_array(struct client_decoder *decoder, size_t size, size_t bytes_min,
                       item_fn *read_item, void *field)
{
    uint32_t count;
    if (!client_take_array(&decoder->cursor, &count))
        return false;
    if (count > wire_left(&decoder->cursor) / bytes_min)
        return false;
    struct array array = {.items = client_decoder_alloc(decoder, count, size), .count = count};
    if (array.items == NULL)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!read_item(decoder, (char *)array.items + i * size))
            return false;
    memcpy(field, &array, sizeof array);
    return true;
}

static bool read_id(struct client_decoder *decoder, void *item)
{
    return client_take_bytes(&decoder->cursor, (struct rethread_bytes *)item);
}

static bool skip_items(struct client_decoder *decoder, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!wire_skip(&decoder->cursor))
            return false;
    return true;
}

/* [kind, size]; the bytes themselves come with the payloads. */
static bool read_segment(struct client_decoder *decoder, void *item)
{
    struct rethread_segment *segment = item;
    struct rethread_bytes kind;
    uint64_t size;
    uint32_t count;
    if (!client_take_array(&decoder->cursor, &count) || count < 2 ||
        !client_take_bytes(&decoder->cursor, &kind) || !client_take_u64(&decoder->cursor, &size) ||
        size > SIZE_MAX)
        return false;
    segment->kind = client_kind_named(kind);
    segment->bytes.size = (size_t)size;
    return skip_items(decoder, count - 2);
}

static bool read_step(struct client_decoder *decoder, void *item)
{
    struct rethread_step *step = item;
    step->source = RETHREAD_TIER_OTHER;
    if (!read_map(decoder, STEP_FIELDS, FIELDS_COUNT(STEP_FIELDS), step))
        return false;
    /* A step is either here or missing with a reason. */
    return (step->missing == RETHREAD_REASON_NONE) == (step->segments.items != NULL);
}

/* [id, reason] */
static bool read_missing_thread(struct client_decoder *decoder, void *item)
{
    struct rethread_missing_thread *missing = item;
    struct rethread_bytes reason;
    uint32_t count;
    if (!client_take_array(&decoder->cursor, &count) || count < 2 ||
        !client_take_bytes(&decoder->cursor, &missing->thread) ||
        !client_take_bytes(&decoder->cursor, &reason))
        return false;
    missing->reason = client_reason_named(reason);
    return skip_items(decoder, count - 2);
}

static bool read_listed_thread(struct client_decoder *decoder, void *item)
{
    struct rethread_listed_thread *listed = item;
    listed->tier = RETHREAD_TIER_OTHER;
    return read_map(decoder, LISTED_FIELDS, FIELDS_COUNT(LISTED_FIELDS), listed);
}

bool client_copy_text(struct client_decoder *decoder, struct rethread_bytes text, const char **copy)
{
    char *memory = client_decoder_alloc(decoder, text.size + 1, 1);
    if (memory == NULL)
        return false;
    if (text.size > 0)
        memcpy(memory, text.data, text.size);
    *copy = memory;
    return true;
}

static bool read_some_u64(struct client_decoder *decoder, struct rethread_u64 *number)
{
    if (!client_take_u64(&decoder->cursor, &number->value))
        return false;
    number->set = true;
    return true;
}

static bool read_some_bool(struct client_decoder *decoder, struct rethread_bool *flag)
{
    if (!client_take_bool(&decoder->cursor, &flag->value))
        return false;
    flag->set = true;
    return true;
}

static bool read_head(struct client_decoder *decoder, struct rethread_u64 *head)
{
    struct wire_item item;
    if (!wire_take(&decoder->cursor, &item))
        return false;
    if (item.type == WIRE_ITEM_UINT)
        *head = rethread_u64(item.number);
    return item.type == WIRE_ITEM_UINT || item.type == WIRE_ITEM_NEGATIVE;
}

/* Fields that are a word of the contract. */
static bool read_word(struct client_decoder *decoder, enum field_type type, void *field)
{
    struct rethread_bytes word;
    if (!client_take_bytes(&decoder->cursor, &word))
        return false;
    if (type == FIELD_TEXT)
        return client_copy_text(decoder, word, (const char **)field);
    if (type == FIELD_COMPLETENESS)
        return client_completeness_named(word, (enum rethread_completeness *)field);
    if (type == FIELD_REASON)
        *(enum rethread_reason *)field = client_reason_named(word);
    else
        *(enum rethread_tier *)field = client_tier_named(word);
    return true;
}

/* The shortest items on the wire, in bytes. */
enum {
    ID_BYTES_MIN = 1,
    PAIR_BYTES_MIN = 3,
    STEP_BYTES_MIN = 16,  /* {step: 0, missing: ""} */
    LISTED_BYTES_MIN = 9, /* {thread: ""} */
};

static bool read_field(struct client_decoder *decoder, enum field_type type, void *field)
{
    switch (type) {
    case FIELD_BYTES:
        return client_take_bytes(&decoder->cursor, field);
    case FIELD_U64:
        return client_take_u64(&decoder->cursor, field);
    case FIELD_SOME_U64:
        return read_some_u64(decoder, field);
    case FIELD_HEAD:
        return read_head(decoder, field);
    case FIELD_BOOL:
        return client_take_bool(&decoder->cursor, field);
    case FIELD_SOME_BOOL:
        return read_some_bool(decoder, field);
    case FIELD_TEXT:
    case FIELD_REASON:
    case FIELD_TIER:
    case FIELD_COMPLETENESS:
        return read_word(decoder, type, field);
    case FIELD_IDS:
        return read_array(decoder, sizeof(struct rethread_bytes), ID_BYTES_MIN, read_id, field);
    case FIELD_SEGMENTS:
        return read_array(decoder, sizeof(struct rethread_segment), PAIR_BYTES_MIN, read_segment,
                          field);
    case FIELD_STEPS:
        return read_array(decoder, sizeof(struct rethread_step), STEP_BYTES_MIN, read_step, field);
    case FIELD_MISSING_THREADS:
        return read_array(decoder, sizeof(struct rethread_missing_thread), PAIR_BYTES_MIN,
                          read_missing_thread, field);
    case FIELD_LISTED_THREADS:
        return read_array(decoder, sizeof(struct rethread_listed_thread), LISTED_BYTES_MIN,
                          read_listed_thread, field);
    }
    return false;
}

static size_t find_field(const struct field *fields, size_t count, struct rethread_bytes name)
{
    size_t i = 0;
    while (i < count && (strlen(fields[i].name) != name.size ||
                         memcmp(fields[i].name, name.data, name.size) != 0))
        i++;
    return i;
}

/* Reads the known fields, passes over the others; nil is the same as absent. */
static bool read_map(struct client_decoder *decoder, const struct field *fields, size_t field_count,
                     void *base)
{
    uint32_t pairs;
    uint32_t seen = 0;
    assert(field_count < 32);
    if (!client_take_map(&decoder->cursor, &pairs))
        return false;
    for (uint32_t i = 0; i < pairs; i++) {
        struct rethread_bytes name;
        if (!client_take_bytes(&decoder->cursor, &name))
            return false;
        size_t found = find_field(fields, field_count, name);
        if (client_take_nil(&decoder->cursor))
            continue;
        if (found == field_count) {
            if (!wire_skip(&decoder->cursor))
                return false;
            continue;
        }
        if ((seen & 1u << found) != 0 ||
            !read_field(decoder, fields[found].type, (char *)base + fields[found].offset))
            return false;
        seen |= 1u << found;
    }
    for (size_t i = 0; i < field_count; i++)
        if (fields[i].required && (seen & 1u << i) == 0)
            return false;
    return true;
}

/* ---- Results ----------------------------------------------------------------------------------*/

bool client_read_result(struct client_decoder *decoder)
{
    struct rethread_result *result = decoder->result;
#define READ(fields) read_map(decoder, fields, FIELDS_COUNT(fields), &result->of)
    switch (result->method) {
    case RETHREAD_METHOD_OTHER:
    case RETHREAD_METHOD_PING:
        return true;
    case RETHREAD_METHOD_HELLO:
        return READ(HELLO_FIELDS);
    case RETHREAD_METHOD_APPEND:
    case RETHREAD_METHOD_COMMIT:
        return READ(APPEND_FIELDS);
    case RETHREAD_METHOD_REPLAY:
        return READ(REPLAY_FIELDS);
    case RETHREAD_METHOD_STAT:
        result->of.stat.tier = RETHREAD_TIER_OTHER;
        return READ(STAT_FIELDS);
    case RETHREAD_METHOD_TOUCH:
        return READ(TOUCH_FIELDS);
    case RETHREAD_METHOD_FORK:
        return READ(FORK_FIELDS);
    case RETHREAD_METHOD_REWIND:
        return READ(REWIND_FIELDS);
    case RETHREAD_METHOD_FORGET:
        return READ(FORGET_FIELDS);
    case RETHREAD_METHOD_LIST:
        return READ(LIST_FIELDS);
    case RETHREAD_METHOD_INFO:
        return client_read_info(decoder, &result->of.info);
    case RETHREAD_METHOD_BEGIN:
        return READ(BEGIN_FIELDS);
    case RETHREAD_METHOD_CHUNK:
        return READ(CHUNK_FIELDS);
    case RETHREAD_METHOD_ABORT:
        return READ(ABORT_FIELDS);
    }
#undef READ
    return false;
}

bool client_read_error(struct client_decoder *decoder)
{
    struct rethread_error *error = &decoder->result->error;
    if (!read_map(decoder, ERROR_FIELDS, FIELDS_COUNT(ERROR_FIELDS), error))
        return false;
    error->status = client_status_named(rethread_text(error->code));
    return true;
}
