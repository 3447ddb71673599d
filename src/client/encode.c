/* Requests to bytes: one table of all options, one packing function for each type of option. */
#include "client/encode.h"

#include "schema/c_types.h"

#include <assert.h>
#include <msgpack.h>

enum {
    FRAME_HEADER_BYTES = 5,
    FRAME_MARK = 0xCE,
};

/* ---- The table --------------------------------------------------------------------------------*/

enum option_type {
    TYPE_ID,
    TYPE_TEXT,
    TYPE_U64,
    TYPE_I64,
    TYPE_BOOL,
    TYPE_ACK,
    TYPE_POLICY,
    TYPE_MISMATCH,
    TYPE_KIND,
    TYPE_IDS,
    TYPE_KINDS,
    TYPE_PREFIX,
    TYPE_PREFIXES,
    TYPE_HAVE,
};

struct option {
    enum rethread_method method;
    enum option_type type;
    const char *name;
    size_t offset;
};

static const struct option OPTIONS[] = {
#define OPTION(METHOD, field, TYPE, need, min, max, text)                                          \
    {RETHREAD_METHOD_##METHOD, TYPE_##TYPE, #field, offsetof(STRUCT_##METHOD, field)},
#include "schema/options.def"
#undef OPTION
};

#define OPTION(METHOD, field, TYPE, need, min, max, text)                                          \
    _Static_assert(_Generic(((STRUCT_##METHOD *)0)->field, FIELD_##TYPE : 1, default : 0),         \
                   #METHOD "'s option " #field " has another type in rethread.h");
#include "schema/options.def"
#undef OPTION

enum {
    OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0],
};

/* ---- Packing ----------------------------------------------------------------------------------*/

struct encoder {
    struct client_outgoing *outgoing;
    size_t limit; /* that client_outgoing_size may reach */
    enum rethread_status status;
    msgpack_packer packer;
};

static int write_packed(void *context, const char *bytes, size_t size)
{
    struct encoder *encoder = context;
    if (encoder->status != RETHREAD_OK)
        return -1;
    if (size > encoder->limit - client_outgoing_size(encoder->outgoing))
        encoder->status = RETHREAD_TOO_LARGE;
    else if (!client_outgoing_copy(encoder->outgoing, bytes, size))
        encoder->status = RETHREAD_NO_MEMORY;
    return encoder->status == RETHREAD_OK ? 0 : -1;
}

static void refuse(struct encoder *encoder, enum rethread_status status)
{
    if (encoder->status == RETHREAD_OK)
        encoder->status = status;
}

/* What stops here could not be expressed in MessagePack, or is no memory to read from. */
static bool fits(struct encoder *encoder, struct rethread_bytes bytes)
{
    if (bytes.data == NULL && bytes.size > 0)
        refuse(encoder, RETHREAD_INVALID_ARGUMENT);
    if (bytes.size > UINT32_MAX)
        refuse(encoder, RETHREAD_TOO_LARGE);
    return encoder->status == RETHREAD_OK;
}

static void pack_text(struct encoder *encoder, struct rethread_bytes text)
{
    if (!fits(encoder, text))
        return;
    msgpack_pack_str(&encoder->packer, text.size);
    msgpack_pack_str_body(&encoder->packer, text.data, text.size);
}

static void pack_id(struct encoder *encoder, struct rethread_bytes id)
{
    if (!fits(encoder, id))
        return;
    msgpack_pack_bin(&encoder->packer, id.size);
    msgpack_pack_bin_body(&encoder->packer, id.data, id.size);
}

static void pack_array(struct encoder *encoder, const void *items, size_t count)
{
    if ((items == NULL && count > 0) || count > UINT32_MAX)
        refuse(encoder, RETHREAD_INVALID_ARGUMENT);
    else
        msgpack_pack_array(&encoder->packer, count);
}

static void pack_ids(struct encoder *encoder, const struct rethread_ids *ids)
{
    pack_array(encoder, ids->items, ids->count);
    for (size_t i = 0; i < ids->count && encoder->status == RETHREAD_OK; i++)
        pack_id(encoder, ids->items[i]);
}

static void pack_kinds(struct encoder *encoder, const struct rethread_segments *segments)
{
    pack_array(encoder, segments->items, segments->count);
    for (size_t i = 0; i < segments->count && encoder->status == RETHREAD_OK; i++) {
        if ((unsigned)segments->items[i].kind > RETHREAD_KIND_OPAQUE)
            refuse(encoder, RETHREAD_INVALID_ARGUMENT);
        pack_text(encoder, rethread_text(rethread_kind_name(segments->items[i].kind)));
    }
}

static void pack_ack(struct encoder *encoder, enum rethread_ack ack)
{
    if (ack == RETHREAD_ACK_MEMORY)
        pack_text(encoder, rethread_text("memory"));
    else if (ack == RETHREAD_ACK_DISK)
        pack_text(encoder, rethread_text("disk"));
    else
        refuse(encoder, RETHREAD_INVALID_ARGUMENT);
}

static void pack_prefix(struct encoder *encoder, const struct rethread_ids *prefix)
{
    if (prefix->items != NULL && prefix->count == 1)
        pack_id(encoder, prefix->items[0]);
    else
        pack_ids(encoder, prefix);
}

static void pack_prefixes(struct encoder *encoder, const struct rethread_prefixes *prefixes)
{
    pack_array(encoder, prefixes->items, prefixes->count);
    for (size_t i = 0; i < prefixes->count && encoder->status == RETHREAD_OK; i++) {
        msgpack_pack_array(&encoder->packer, 2);
        msgpack_pack_uint64(&encoder->packer, prefixes->items[i].step);
        pack_id(encoder, prefixes->items[i].prefix);
    }
}

static void pack_have(struct encoder *encoder, const struct rethread_have *have)
{
    bool kept = have->kept.items != NULL || have->kept.count > 0;
    msgpack_pack_map(&encoder->packer, kept ? 3 : 2);
    pack_text(encoder, rethread_text("version"));
    msgpack_pack_uint64(&encoder->packer, have->version);
    pack_text(encoder, rethread_text("step"));
    msgpack_pack_int64(&encoder->packer, have->step);
    if (!kept)
        return;
    pack_text(encoder, rethread_text("kept"));
    pack_array(encoder, have->kept.items, have->kept.count);
    for (size_t i = 0; i < have->kept.count && encoder->status == RETHREAD_OK; i++)
        msgpack_pack_uint64(&encoder->packer, have->kept.items[i]);
}

/* Whether every segment is text, which needs no saying. */
static bool all_text(const struct rethread_segments *segments)
{
    for (size_t i = 0; i < segments->count; i++)
        if (segments->items[i].kind != RETHREAD_KIND_TEXT)
            return false;
    return true;
}

/* Whether a step without segments was asked for. */
static bool is_bare(enum rethread_method method, const void *options)
{
    return method == RETHREAD_METHOD_COMMIT
               ? ((const struct rethread_commit_options *)options)->bare
               : ((const struct rethread_append_options *)options)->bare;
}

static bool is_given(const struct option *option, const void *options)
{
    const void *field = (const char *)options + option->offset;
    switch (option->type) {
    case TYPE_ID:
    case TYPE_TEXT:
        return ((const struct rethread_bytes *)field)->data != NULL ||
               ((const struct rethread_bytes *)field)->size > 0;
    case TYPE_U64:
        return ((const struct rethread_u64 *)field)->set;
    case TYPE_I64:
        return ((const struct rethread_i64 *)field)->set;
    case TYPE_BOOL:
        return ((const struct rethread_bool *)field)->set;
    case TYPE_ACK:
        return *(const enum rethread_ack *)field != RETHREAD_ACK_DEFAULT;
    case TYPE_POLICY:
    case TYPE_MISMATCH:
    case TYPE_KIND:
        return *(const char *const *)field != NULL;
    case TYPE_PREFIXES:
        return ((const struct rethread_prefixes *)field)->items != NULL ||
               ((const struct rethread_prefixes *)field)->count > 0;
    case TYPE_IDS:
    case TYPE_PREFIX:
        return ((const struct rethread_ids *)field)->items != NULL ||
               ((const struct rethread_ids *)field)->count > 0;
    case TYPE_KINDS:
        return is_bare(option->method, options) || !all_text(field);
    case TYPE_HAVE:
        return ((const struct rethread_have *)field)->set;
    }
    return false;
}

static void pack_option(struct encoder *encoder, const struct option *option, const void *options)
{
    const void *field = (const char *)options + option->offset;
    pack_text(encoder, rethread_text(option->name));
    switch (option->type) {
    case TYPE_ID:
        pack_id(encoder, *(const struct rethread_bytes *)field);
        break;
    case TYPE_TEXT:
        pack_text(encoder, *(const struct rethread_bytes *)field);
        break;
    case TYPE_U64:
        msgpack_pack_uint64(&encoder->packer, ((const struct rethread_u64 *)field)->value);
        break;
    case TYPE_I64:
        msgpack_pack_int64(&encoder->packer, ((const struct rethread_i64 *)field)->value);
        break;
    case TYPE_BOOL:
        if (((const struct rethread_bool *)field)->value)
            msgpack_pack_true(&encoder->packer);
        else
            msgpack_pack_false(&encoder->packer);
        break;
    case TYPE_ACK:
        pack_ack(encoder, *(const enum rethread_ack *)field);
        break;
    case TYPE_POLICY:
    case TYPE_MISMATCH:
    case TYPE_KIND:
        pack_text(encoder, rethread_text(*(const char *const *)field));
        break;
    case TYPE_IDS:
        pack_ids(encoder, field);
        break;
    case TYPE_KINDS:
        pack_kinds(encoder, field);
        break;
    case TYPE_PREFIX:
        pack_prefix(encoder, field);
        break;
    case TYPE_PREFIXES:
        pack_prefixes(encoder, field);
        break;
    case TYPE_HAVE:
        pack_have(encoder, field);
        break;
    }
}

static void pack_options(struct encoder *encoder, const struct client_request *request)
{
    if (request->options == NULL) {
        if (request->raw_options.size == 0)
            msgpack_pack_map(&encoder->packer, 0);
        else
            (void)write_packed(encoder, request->raw_options.data, request->raw_options.size);
        return;
    }
    const struct option *given[OPTION_COUNT];
    size_t count = 0;
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (OPTIONS[i].method == request->method && is_given(&OPTIONS[i], request->options))
            given[count++] = &OPTIONS[i];
    msgpack_pack_map(&encoder->packer, count);
    for (size_t i = 0; i < count && encoder->status == RETHREAD_OK; i++)
        pack_option(encoder, given[i], request->options);
}

static void pack_payloads(struct encoder *encoder, const struct client_request *request,
                          bool borrow)
{
    const char *at = (const char *)request->payloads;
    for (size_t i = 0; i < request->payload_count && encoder->status == RETHREAD_OK; i++) {
        struct rethread_bytes payload = *(const struct rethread_bytes *)(const void *)at;
        at += request->payload_stride;
        if (!fits(encoder, payload))
            return;
        msgpack_pack_bin(&encoder->packer, payload.size);
        if (encoder->status != RETHREAD_OK)
            return;
        if (payload.size > encoder->limit - client_outgoing_size(encoder->outgoing))
            refuse(encoder, RETHREAD_TOO_LARGE);
        else if (!borrow || payload.size < CLIENT_BORROW_BYTES_MIN ||
                 !client_outgoing_borrow(encoder->outgoing, payload))
            (void)write_packed(encoder, payload.data, payload.size);
    }
}

/* ---- Frames -----------------------------------------------------------------------------------*/

static enum rethread_status check(const struct client_request *request)
{
    if (request->payloads == NULL && request->payload_count > 0)
        return RETHREAD_INVALID_ARGUMENT;
    if (request->payload_count >= UINT32_MAX)
        return RETHREAD_INVALID_ARGUMENT;
    bool may_be_bare =
        request->method == RETHREAD_METHOD_APPEND || request->method == RETHREAD_METHOD_COMMIT;
    if (may_be_bare && request->options != NULL && is_bare(request->method, request->options) &&
        request->payload_count > 0)
        return RETHREAD_INVALID_ARGUMENT;
    return RETHREAD_OK;
}

enum rethread_status client_encode(struct client_outgoing *outgoing,
                                   const struct client_request *request, uint32_t msgid,
                                   size_t frame_max_bytes, bool borrow)
{
    enum rethread_status status = check(request);
    if (status != RETHREAD_OK)
        return status;
    struct client_outgoing_mark start = client_outgoing_mark(outgoing);
    uint8_t header[FRAME_HEADER_BYTES] = {FRAME_MARK};
    if (!client_outgoing_copy(outgoing, header, sizeof header))
        return RETHREAD_NO_MEMORY;

    size_t body_start = client_outgoing_size(outgoing);
    struct encoder encoder = {
        .outgoing = outgoing,
        .limit = frame_max_bytes > SIZE_MAX - body_start ? SIZE_MAX : body_start + frame_max_bytes,
        .status = RETHREAD_OK,
    };
    msgpack_packer_init(&encoder.packer, &encoder, write_packed);
    msgpack_pack_array(&encoder.packer, 4);
    msgpack_pack_uint8(&encoder.packer, 0);
    msgpack_pack_uint32(&encoder.packer, msgid);
    pack_text(&encoder, rethread_text(request->name));
    msgpack_pack_array(&encoder.packer, 1 + request->payload_count);
    pack_options(&encoder, request);
    pack_payloads(&encoder, request, borrow);
    if (encoder.status != RETHREAD_OK) {
        client_outgoing_rewind(outgoing, start);
        return encoder.status;
    }

    size_t body_size = client_outgoing_size(outgoing) - body_start;
    assert(body_size <= frame_max_bytes && body_size <= UINT32_MAX);
    /* The buffer may have moved, but bytes of its own that precede the frame are still there. */
    uint8_t *size_field = outgoing->own.data + outgoing->own.begin + start.own_size + 1;
    for (int i = 0; i < 4; i++)
        size_field[i] = (uint8_t)(body_size >> (24 - 8 * i));
    return RETHREAD_OK;
}
