/* Lines of an import; see row.h. */
#include "cli/row.h"

#include "cli/encode.h"

#include <stdio.h>
#include <string.h>

enum { HASH_BYTES = 16 };

static bool wrong(char error[ROW_ERROR_BYTES], const char *name, const char *what)
{
    snprintf(error, ROW_ERROR_BYTES, "`%s` %s", name, what);
    return false;
}

static struct rethread_bytes bytes_of(const json_t *string)
{
    return (struct rethread_bytes){json_string_value(string), json_string_length(string)};
}

static bool is_absent(const json_t *value)
{
    return value == NULL || json_is_null(value);
}

static bool take_base64(struct row *row, const json_t *value, const char *name,
                        struct rethread_bytes *bytes, char error[ROW_ERROR_BYTES])
{
    if (!json_is_string(value))
        return wrong(error, name, "is no string");
    size_t size = json_string_length(value);
    unsigned char *out = keep_get(&row->keep, size / 4 * 3 + 1);
    ptrdiff_t decoded = encode_from_base64(json_string_value(value), size, out);
    if (decoded < 0)
        return wrong(error, name, "is no base64");
    *bytes = (struct rethread_bytes){out, (size_t)decoded};
    return true;
}

/* A string, or base64 under the name with _base64; nothing, null and "" are absent. */
static bool take_bytes(struct row *row, const char *name, struct rethread_bytes *bytes,
                       char error[ROW_ERROR_BYTES])
{
    char base64_name[64];
    snprintf(base64_name, sizeof base64_name, "%s_base64", name);
    const json_t *value = json_object_get(row->root, name);
    const json_t *base64 = json_object_get(row->root, base64_name);
    if (!is_absent(base64)) {
        if (!take_base64(row, base64, base64_name, bytes, error))
            return false;
    } else if (!is_absent(value)) {
        if (!json_is_string(value))
            return wrong(error, name, "is no string");
        *bytes = bytes_of(value);
    }
    if (bytes->size == 0)
        *bytes = (struct rethread_bytes){0};
    return true;
}

/* A hash, as hexadecimal digits. */
static bool take_hash(struct row *row, const char *name, struct rethread_bytes *hash,
                      char error[ROW_ERROR_BYTES])
{
    const json_t *value = json_object_get(row->root, name);
    if (is_absent(value))
        return true;
    unsigned char *bytes = keep_get(&row->keep, HASH_BYTES);
    if (json_string_length(value) != 2 * HASH_BYTES ||
        !encode_from_hex(json_string_value(value), bytes, HASH_BYTES))
        return wrong(error, name, "is no hash of 32 hexadecimal digits");
    *hash = (struct rethread_bytes){bytes, HASH_BYTES};
    return true;
}

static bool take_u64(const struct row *row, const char *name, struct rethread_u64 *number,
                     char error[ROW_ERROR_BYTES])
{
    const json_t *value = json_object_get(row->root, name);
    if (is_absent(value))
        return true;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return wrong(error, name, "is no whole number from 0");
    *number = rethread_u64((uint64_t)json_integer_value(value));
    return true;
}

static bool add_segment(struct row *row, enum rethread_kind kind, struct rethread_bytes bytes,
                        char error[ROW_ERROR_BYTES])
{
    struct rethread_segments *segments = &row->append.segments;
    if (segments->count == RETHREAD_PAYLOADS_MAX)
        return wrong(error, row->is_log ? "blocks" : "segments", "make more than 64 segments");
    row->segments[segments->count++] = (struct rethread_segment){kind, bytes};
    segments->items = row->segments;
    return true;
}

static bool take_segment(struct row *row, const json_t *segment, char error[ROW_ERROR_BYTES])
{
    static const enum rethread_kind kinds[] = {RETHREAD_KIND_TEXT, RETHREAD_KIND_TOKENS,
                                               RETHREAD_KIND_OPAQUE};
    const char *name = json_string_value(json_object_get(segment, "kind"));
    const json_t *text = json_object_get(segment, "text");
    const json_t *base64 = json_object_get(segment, "base64");
    struct rethread_bytes bytes = {0};
    if (json_is_string(text))
        bytes = bytes_of(text);
    else if (base64 == NULL)
        return wrong(error, "segments", "hold one without text or base64: payloads not revealed?");
    else if (!take_base64(row, base64, "base64", &bytes, error))
        return false;
    if (bytes.size == 0)
        return wrong(error, "segments", "hold an empty one");
    for (size_t i = 0; name != NULL && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(name, rethread_kind_name(kinds[i])) == 0)
            return add_segment(row, kinds[i], bytes, error);
    return wrong(error, "kind", "of a segment is none of text, tokens, opaque");
}

static bool take_ids(struct row *row, const char *name, bool base64, char error[ROW_ERROR_BYTES])
{
    const json_t *array = json_object_get(row->root, name);
    if (is_absent(array))
        return true;
    if (!json_is_array(array))
        return wrong(error, name, "is no array");
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *item = json_array_get(array, i);
        /* A log has the whole calls; their names and arguments are not ours to keep. */
        if (row->is_log)
            item = json_object_get(item, "id");
        if (row->is_log && !json_is_string(item))
            continue;
        size_t *count = &row->append.tool_calls.count;
        if (*count == ROW_TOOL_CALLS_MAX)
            return wrong(error, name, "has more than 128 ids");
        if (!json_is_string(item))
            return wrong(error, name, "holds what is no string");
        row->tool_calls[*count] = bytes_of(item);
        if (base64 && !take_base64(row, item, name, &row->tool_calls[*count], error))
            return false;
        row->append.tool_calls.items = row->tool_calls;
        (*count)++;
    }
    return true;
}

static bool take_exported(struct row *row, char error[ROW_ERROR_BYTES])
{
    const json_t *missing = json_object_get(row->root, "missing");
    const json_t *final = json_object_get(row->root, "final");
    const json_t *segments = json_object_get(row->root, "segments");
    if (!is_absent(missing))
        return wrong(error, "missing", "says that the export lacked this step: it is not whole");
    if (!json_is_array(segments))
        return wrong(error, "segments", "is no array");
    for (size_t i = 0; i < json_array_size(segments); i++)
        if (!take_segment(row, json_array_get(segments, i), error))
            return false;
    if (!is_absent(final) && !json_is_boolean(final))
        return wrong(error, "final", "is neither true nor false");
    if (!is_absent(final))
        row->append.final = rethread_bool(json_is_true(final));
    return take_u64(row, "step", &row->position, error) &&
           take_u64(row, "turn", &row->append.turn, error) &&
           take_hash(row, "visible", &row->append.visible, error) &&
           take_ids(row, "tool_calls", false, error) &&
           take_ids(row, "tool_calls_base64", true, error);
}

/* The text and then the opaque part, as the fields of a row or of one of its blocks. */
static bool take_pair(struct row *row, const json_t *object, const char *text_name,
                      char error[ROW_ERROR_BYTES])
{
    const json_t *text = json_object_get(object, text_name);
    const json_t *opaque = json_object_get(object, "opaque");
    if (!is_absent(text) && !json_is_string(text))
        return wrong(error, text_name, "is no string");
    if (!is_absent(opaque) && !json_is_string(opaque))
        return wrong(error, "opaque", "is no string");
    if (json_string_length(text) != 0 &&
        !add_segment(row, RETHREAD_KIND_TEXT, bytes_of(text), error))
        return false;
    return json_string_length(opaque) == 0 ||
           add_segment(row, RETHREAD_KIND_OPAQUE, bytes_of(opaque), error);
}

static bool take_logged(struct row *row, char error[ROW_ERROR_BYTES])
{
    const json_t *after = json_object_get(row->root, "after");
    const json_t *blocks = json_object_get(row->root, "blocks");
    const json_t *calls = json_object_get(row->root, "tool_calls");
    if (!is_absent(blocks) && !json_is_array(blocks))
        return wrong(error, "blocks", "is no array");
    if (is_absent(blocks) && is_absent(json_object_get(row->root, "reasoning")) &&
        is_absent(json_object_get(row->root, "opaque")) &&
        is_absent(json_object_get(row->root, "turn")))
        return wrong(error, "segments", "is lacking, and so is all that makes a row of a log");
    if (json_array_size(blocks) == 0 && !take_pair(row, row->root, "reasoning", error))
        return false;
    for (size_t i = 0; i < json_array_size(blocks); i++)
        if (!take_pair(row, json_array_get(blocks, i), "text", error))
            return false;
    row->after_known = json_is_string(after);
    row->after_user = row->after_known && strcmp(json_string_value(after), "user") == 0;
    row->append.final = rethread_bool(json_array_size(calls) == 0);
    return take_u64(row, "turn", &row->position, error) &&
           take_ids(row, "tool_calls", false, error);
}

bool row_read(struct row *row, const char *line, size_t size_bytes, char error[ROW_ERROR_BYTES])
{
    json_error_t where;
    /* Cleared without the arrays, which are large and counted. */
    row->append = (struct rethread_append_options){0};
    row->position = (struct rethread_u64){0};
    row->after_known = row->after_user = false;
    row->keep = (struct keep){0};
    row->root = json_loadb(line, size_bytes, JSON_ALLOW_NUL, &where);
    if (!json_is_object(row->root)) {
        /* jansson's own message would quote the line. */
        snprintf(error, ROW_ERROR_BYTES, "is no JSON object%s",
                 row->root == NULL ? ": it breaks off, or is malformed" : "");
        if (row->root == NULL && where.position > 0)
            snprintf(error, ROW_ERROR_BYTES, "is no JSON object: malformed at byte %d",
                     where.position);
        return false;
    }
    row->is_log = json_object_get(row->root, "segments") == NULL &&
                  json_object_get(row->root, "missing") == NULL;
    if (!take_bytes(row, "thread", &row->append.thread, error))
        return false;
    if (row->append.thread.data == NULL)
        row->append.thread = row->thread;
    if (row->append.thread.data == NULL)
        return wrong(error, "thread", "is lacking");
    if (!take_bytes(row, "model", &row->append.model, error) ||
        !take_bytes(row, "response_id", &row->append.response_id, error) ||
        !take_u64(row, "tokens", &row->append.tokens, error))
        return false;
    if (!(row->is_log ? take_logged(row, error) : take_exported(row, error)))
        return false;
    row->append.bare = row->append.segments.count == 0;
    return true;
}

void row_free(struct row *row)
{
    json_decref(row->root);
    keep_free(&row->keep);
    row->root = NULL;
}
