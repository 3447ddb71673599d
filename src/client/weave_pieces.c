/* Segments become blocks; see weave_pieces.h. */
#include "client/weave_pieces.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>

struct reading {
    struct weave_pieces *pieces;
    enum rethread_transcript as;
    const char *field;
    size_t parts; /* visible ones of the call */
    struct rethread_segments segments;
    struct weave_json *json;
    struct weave_error *error;

    struct weave_text text; /* chat: all text so far */
    size_t text_givers;     /* segments that it comes from and that nothing was left out of */
    size_t first_giver;
    size_t first_left;
    size_t unsigned_text; /* anthropic: the segment just before, a text; or WEAVE_NONE */
};

static void leave_out(struct reading *reading, size_t segment, enum rethread_woven_outcome why)
{
    if (reading->pieces->left_out == 0 || segment < reading->first_left) {
        reading->first_left = segment;
        reading->pieces->why = why;
    }
    reading->pieces->left_out++;
}

/* Takes the value over. */
static bool add_piece(struct reading *reading, size_t at, const char *field, json_t *value,
                      json_t *holder)
{
    struct weave_pieces *pieces = reading->pieces;
    if (value == NULL || !weave_json_grow((void **)&pieces->items, &pieces->room, pieces->count,
                                          sizeof *pieces->items)) {
        json_decref(value);
        return false;
    }
    pieces->items[pieces->count] = (struct weave_piece){
        .at = at, .order = pieces->count, .field = field, .value = value, .holder = holder};
    json_incref(holder);
    pieces->count++;
    return true;
}

static json_t *string_of(struct rethread_bytes bytes)
{
    return json_stringn_nocheck(bytes.size > 0 ? bytes.data : "", bytes.size);
}

/* ---- Blocks of an envelope --------------------------------------------------------------------
 */

/* A string may hold NULs: "thinking\0x" is not "thinking". */
static bool is_text(const json_t *string, const char *text)
{
    size_t length = strlen(text);
    return json_is_string(string) && json_string_length(string) == length &&
           memcmp(json_string_value(string), text, length) == 0;
}

static bool is_type(const json_t *block, const char *type)
{
    return is_text(json_object_get(block, "type"), type);
}

static bool has_field(const struct weave_pieces *pieces, const char *field)
{
    for (size_t i = 0; i < pieces->count; i++)
        if (pieces->items[i].field != NULL && strcmp(pieces->items[i].field, field) == 0)
            return true;
    return false;
}

/* Adds the text of a string; false: no memory. */
static bool add_text(struct reading *reading, const json_t *string, bool *gave)
{
    struct rethread_bytes bytes = weave_json_bytes(string);
    *gave |= bytes.size > 0;
    return bytes.size == 0 || weave_text_add(&reading->text, bytes.data, bytes.size);
}

/* A block for a chat message: a member of its own, or the plain text of a vendor's block. */
static bool take_chat_block(struct reading *reading, json_t *block, bool *gave_text, bool *left)
{
    json_t *field = json_object_get(block, "field");
    json_t *value = json_object_get(block, "value");
    if (json_is_string(field) && value != NULL) {
        const char *name = json_string_value(field);
        if (strlen(name) != json_string_length(field) ||
            !weave_transcript_hides(name, reading->field) || has_field(reading->pieces, name)) {
            *left = true;
            return true;
        }
        return add_piece(reading, 0, name, json_incref(value), block);
    }
    bool gave = false;
    bool added = true;
    if (is_type(block, "thinking"))
        added = add_text(reading, json_object_get(block, "thinking"), &gave);
    const json_t *content = json_object_get(block, "content");
    for (size_t i = 0; added && is_type(block, "reasoning") && i < json_array_size(content); i++)
        added = add_text(reading, json_object_get(json_array_get(content, i), "text"), &gave);
    *gave_text |= gave;
    *left |= !gave;
    return added;
}

static bool is_envelope(const json_t *root)
{
    const json_t *kind = json_object_get(root, "rethread");
    const json_t *blocks = json_object_get(root, "blocks");
    const json_t *of = json_object_get(root, "of");
    if (!is_text(kind, "blocks") || !json_is_array(blocks) ||
        (of != NULL && (!json_is_integer(of) || json_integer_value(of) < 0)))
        return false;
    for (size_t i = 0; i < json_array_size(blocks); i++) {
        const json_t *entry = json_array_get(blocks, i);
        const json_t *at = json_object_get(entry, "at");
        if (!json_is_integer(at) || json_integer_value(at) < 0 ||
            !json_is_object(json_object_get(entry, "block")))
            return false;
    }
    return true;
}

/* Whether parts were merged, parted or left out since the blocks stood among them. */
static bool has_moved(const struct reading *reading, const json_t *envelope)
{
    const json_t *of = json_object_get(envelope, "of");
    const json_t *blocks = json_object_get(envelope, "blocks");
    if (of == NULL || (uint64_t)json_integer_value(of) == reading->parts)
        return false;
    for (size_t i = 0; i < json_array_size(blocks); i++) {
        const json_t *entry = json_array_get(blocks, i);
        if (json_integer_value(json_object_get(entry, "at")) > 0 &&
            weave_transcript_is_hidden(reading->as, json_object_get(entry, "block")))
            return true;
    }
    return false;
}

static bool take_blocks(struct reading *reading, size_t segment, const json_t *envelope)
{
    const json_t *blocks = json_object_get(envelope, "blocks");
    bool gave_text = false;
    bool left = false;
    bool added = true;
    if (has_moved(reading, envelope)) {
        leave_out(reading, segment, RETHREAD_WOVEN_MOVED);
        return true;
    }
    for (size_t i = 0; added && i < json_array_size(blocks); i++) {
        const json_t *entry = json_array_get(blocks, i);
        json_t *block = json_object_get(entry, "block");
        if (reading->as == RETHREAD_CHAT)
            added = take_chat_block(reading, block, &gave_text, &left);
        else if (weave_transcript_is_hidden(reading->as, block))
            added = add_piece(reading, (size_t)json_integer_value(json_object_get(entry, "at")),
                              NULL, json_incref(block), NULL);
        else
            left = true;
    }
    if (left) {
        leave_out(reading, segment, RETHREAD_WOVEN_FOREIGN);
    } else if (gave_text) {
        if (reading->text_givers++ == 0)
            reading->first_giver = segment;
    }
    return added;
}

/* ---- Segments ---------------------------------------------------------------------------------
 */

static bool begins(struct rethread_bytes bytes, const char *start)
{
    size_t length = strlen(start);
    return bytes.size >= length && memcmp(bytes.data, start, length) == 0;
}

/* JSON in an opaque segment; *root is NULL when it is none that counts. */
static enum rethread_status read_opaque(struct reading *reading, struct rethread_bytes bytes,
                                        json_t **root)
{
    enum rethread_status status = weave_json_read(reading->json, bytes, root, reading->error);
    if (status == RETHREAD_TOO_LARGE && reading->json->values > reading->json->values_max) {
        weave_error_set(reading->error, "the replay's blocks have too many values, at most %zu",
                        reading->json->values_max);
        return status;
    }
    return status == RETHREAD_NO_MEMORY ? status : RETHREAD_OK;
}

/* Whether it was an envelope or a whole block, and was dealt with. */
static enum rethread_status take_whole(struct reading *reading, size_t segment, bool *taken)
{
    struct rethread_bytes bytes = reading->segments.items[segment].bytes;
    bool envelope = begins(bytes, WEAVE_ENVELOPE_START);
    json_t *root = NULL;
    *taken = envelope;
    if (!envelope && (reading->as == RETHREAD_CHAT || !begins(bytes, "{")))
        return RETHREAD_OK;
    enum rethread_status status = read_opaque(reading, bytes, &root);
    bool added = true;
    if (status != RETHREAD_OK)
        return status;
    if (envelope && is_envelope(root)) {
        added = take_blocks(reading, segment, root);
    } else if (envelope) {
        leave_out(reading, segment, RETHREAD_WOVEN_MALFORMED);
    } else if (weave_transcript_is_hidden(reading->as, root)) {
        *taken = true;
        added = add_piece(reading, 0, NULL, json_incref(root), NULL);
    }
    json_decref(root);
    return added ? RETHREAD_OK : RETHREAD_NO_MEMORY;
}

static bool set_string(json_t *object, const char *name, struct rethread_bytes bytes)
{
    return json_object_set_new(object, name, string_of(bytes)) == 0;
}

/* {"type": type, then the strings}; NULL: no memory. */
static json_t *vendor_block(const char *type, const char *name, struct rethread_bytes bytes,
                            const char *second_name, struct rethread_bytes second)
{
    json_t *block = json_object();
    if (block != NULL && set_string(block, "type", rethread_text(type)) &&
        set_string(block, name, bytes) &&
        (second_name == NULL || set_string(block, second_name, second)))
        return block;
    json_decref(block);
    return NULL;
}

static json_t *reasoning_item(struct rethread_bytes text)
{
    unsigned char hash[crypto_hash_sha256_BYTES];
    char id[3 + 32 + 1] = "rs_";
    crypto_hash_sha256(hash, text.data, text.size);
    sodium_bin2hex(id + 3, sizeof id - 3, hash, 16);
    json_t *part = vendor_block("reasoning_text", "text", text, NULL, text);
    json_t *content = json_array();
    json_t *item = vendor_block("reasoning", "id", rethread_text(id), NULL, text);
    bool made = part != NULL && content != NULL && item != NULL &&
                json_array_append(content, part) == 0 &&
                json_object_set_new(item, "summary", json_array()) == 0 &&
                json_object_set(item, "content", content) == 0;
    json_decref(part);
    json_decref(content);
    if (made)
        return item;
    json_decref(item);
    return NULL;
}

static bool take_text(struct reading *reading, size_t segment)
{
    struct rethread_bytes bytes = reading->segments.items[segment].bytes;
    switch (reading->as) {
    case RETHREAD_CHAT:
        if (reading->text_givers++ == 0)
            reading->first_giver = segment;
        return weave_text_add(&reading->text, bytes.data, bytes.size);
    case RETHREAD_RESPONSES:
        if (weave_json_is_utf8(bytes))
            return add_piece(reading, 0, NULL, reasoning_item(bytes), NULL);
        leave_out(reading, segment, RETHREAD_WOVEN_MALFORMED);
        return true;
    case RETHREAD_ANTHROPIC:
        reading->unsigned_text = segment;
        break;
    }
    return true;
}

/* The text that waits for its signature will have none. */
static void give_up_text(struct reading *reading)
{
    if (reading->unsigned_text != WEAVE_NONE)
        leave_out(reading, reading->unsigned_text, RETHREAD_WOVEN_UNSIGNED);
    reading->unsigned_text = WEAVE_NONE;
}

/* An opaque segment that is no JSON of ours: the signature of the text before it, or sealed. */
static bool take_opaque(struct reading *reading, size_t segment)
{
    const struct rethread_segment *items = reading->segments.items;
    struct rethread_bytes bytes = items[segment].bytes;
    size_t text = reading->unsigned_text;
    if (reading->as != RETHREAD_ANTHROPIC) {
        leave_out(reading, segment, RETHREAD_WOVEN_OPAQUE);
        return true;
    }
    reading->unsigned_text = WEAVE_NONE;
    if (!weave_json_is_utf8(bytes) ||
        (text != WEAVE_NONE && !weave_json_is_utf8(items[text].bytes))) {
        if (text != WEAVE_NONE)
            leave_out(reading, text, RETHREAD_WOVEN_MALFORMED);
        leave_out(reading, segment, RETHREAD_WOVEN_MALFORMED);
        return true;
    }
    json_t *block =
        text != WEAVE_NONE
            ? vendor_block("thinking", "thinking", items[text].bytes, "signature", bytes)
            : vendor_block("redacted_thinking", "data", bytes, NULL, bytes);
    return add_piece(reading, 0, NULL, block, NULL);
}

static enum rethread_status take_segment(struct reading *reading, size_t segment)
{
    enum rethread_kind kind = reading->segments.items[segment].kind;
    if (kind == RETHREAD_KIND_OPAQUE) {
        bool taken = false;
        enum rethread_status status = take_whole(reading, segment, &taken);
        if (status == RETHREAD_OK && !taken && !take_opaque(reading, segment))
            status = RETHREAD_NO_MEMORY;
        give_up_text(reading);
        return status;
    }
    give_up_text(reading);
    if (kind == RETHREAD_KIND_TEXT)
        return take_text(reading, segment) ? RETHREAD_OK : RETHREAD_NO_MEMORY;
    leave_out(reading, segment,
              kind == RETHREAD_KIND_TOKENS ? RETHREAD_WOVEN_TOKENS : RETHREAD_WOVEN_FOREIGN);
    return RETHREAD_OK;
}

/* Chat: the text goes into its member, unless a block has set that. */
static bool place_text(struct reading *reading)
{
    struct rethread_bytes bytes = {reading->text.data, reading->text.size};
    enum rethread_woven_outcome why = RETHREAD_WOVEN_FOREIGN;
    if (bytes.size == 0)
        return true;
    if (!has_field(reading->pieces, reading->field)) {
        if (weave_json_is_utf8(bytes))
            return add_piece(reading, 0, reading->field, string_of(bytes), NULL);
        why = RETHREAD_WOVEN_MALFORMED;
    }
    for (size_t i = 0; i < reading->text_givers; i++)
        leave_out(reading, reading->first_giver, why);
    return true;
}

enum rethread_status weave_pieces_read(struct weave_pieces *pieces, enum rethread_transcript as,
                                       const char *field, size_t parts,
                                       struct rethread_segments segments, struct weave_json *json,
                                       struct weave_error *error)
{
    struct reading reading = {.pieces = pieces,
                              .as = as,
                              .field = field,
                              .parts = parts,
                              .segments = segments,
                              .json = json,
                              .error = error,
                              .unsigned_text = WEAVE_NONE};
    enum rethread_status status = RETHREAD_OK;
    *pieces = (struct weave_pieces){.why = RETHREAD_WOVEN_BARE};
    for (size_t i = 0; status == RETHREAD_OK && i < segments.count; i++)
        if (segments.items[i].bytes.size > 0)
            status = take_segment(&reading, i);
    give_up_text(&reading);
    if (status == RETHREAD_OK && as == RETHREAD_CHAT && !place_text(&reading))
        status = RETHREAD_NO_MEMORY;
    free(reading.text.data);
    return status;
}

static int compare_pieces(const void *a, const void *b)
{
    const struct weave_piece *x = a;
    const struct weave_piece *y = b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

void weave_pieces_settle(struct weave_pieces *pieces, size_t count)
{
    for (size_t i = 0; i < pieces->count; i++)
        if (pieces->items[i].at > count)
            pieces->items[i].at = count;
    if (pieces->count > 0)
        qsort(pieces->items, pieces->count, sizeof *pieces->items, compare_pieces);
}

void weave_pieces_free(struct weave_pieces *pieces)
{
    for (size_t i = 0; i < pieces->count; i++) {
        json_decref(pieces->items[i].value);
        json_decref(pieces->items[i].holder);
    }
    free(pieces->items);
    *pieces = (struct weave_pieces){0};
}
