/* The public calls: submit, collect, pump, and the synchronous ones made of these. */
#include "client/connection.h"
#include "client/encode.h"
#include "client/names.h"
#include "wire/cursor.h"

#include <assert.h>

/* ---- Submitting -------------------------------------------------------------------------------*/

/* Queues a request. With `borrow` its payloads stay the caller's until the queue is settled. */
static enum rethread_status submit(struct rethread *connection,
                                   const struct client_request *request, bool borrow,
                                   struct client_pending **submitted)
{
    if (connection->broken != RETHREAD_OK)
        return connection->broken;
    if (connection->send_failed)
        return RETHREAD_CLOSED;
    struct client_outgoing *outgoing = &connection->outgoing;
    if (connection->table.count >= connection->outstanding_max)
        return RETHREAD_FULL;
    struct client_outgoing_mark before = client_outgoing_mark(outgoing);
    struct client_pending *pending = client_table_add(&connection->table, request->method);
    if (pending == NULL)
        return RETHREAD_NO_MEMORY;
    enum rethread_status status =
        client_encode(outgoing, request, pending->msgid, connection->frame_max_bytes, borrow);
    /* A synchronous call waits until its bytes are out, so the bound is not for it. */
    if (status == RETHREAD_OK && !borrow && before.size > 0 &&
        client_outgoing_size(outgoing) > connection->unsent_max_bytes) {
        client_outgoing_rewind(outgoing, before);
        status = RETHREAD_FULL;
    }
    if (status != RETHREAD_OK) {
        (void)client_table_take(&connection->table, pending);
        return status;
    }
    *submitted = pending;
    return RETHREAD_OK;
}

static enum rethread_status submit_for_msgid(struct rethread *connection,
                                             const struct client_request *request, uint32_t *msgid)
{
    struct client_pending *pending;
    if (connection == NULL || msgid == NULL)
        return RETHREAD_INVALID_ARGUMENT;
    enum rethread_status status = submit(connection, request, false, &pending);
    if (status == RETHREAD_OK)
        *msgid = pending->msgid;
    return status;
}

/* ---- Collecting -------------------------------------------------------------------------------*/

/* Takes a response that has come out of the table, to the caller. */
static enum rethread_status hand_out(struct rethread *connection, struct client_pending *pending,
                                     struct rethread_result **result)
{
    struct rethread_result *taken = client_table_take(&connection->table, pending);
    enum rethread_status status = rethread_result_status(taken);
    if (result != NULL)
        *result = taken;
    else
        rethread_result_free(taken);
    return status;
}

/* Waits for one request; it stays in the table after TIMEOUT and NO_MEMORY only. */
static enum rethread_status collect(struct rethread *connection, struct client_pending *pending,
                                    int timeout_ms, struct rethread_result **result)
{
    uint64_t deadline_ms = client_deadline_ms(timeout_ms);
    enum rethread_status status = RETHREAD_OK;
    for (;;) {
        if (pending->state == CLIENT_PENDING_READY)
            return hand_out(connection, pending, result);
        if (connection->broken != RETHREAD_OK) {
            (void)client_table_take(&connection->table, pending);
            return connection->broken;
        }
        if (status != RETHREAD_OK)
            return status;
        status = client_wait(connection, deadline_ms);
    }
}

enum rethread_status rethread_collect(struct rethread *connection, uint32_t msgid, int timeout_ms,
                                      struct rethread_result **result)
{
    if (result != NULL)
        *result = NULL;
    if (connection == NULL)
        return RETHREAD_INVALID_ARGUMENT;
    struct client_pending *pending = client_table_find(&connection->table, msgid);
    if (pending == NULL || pending->state == CLIENT_PENDING_ABANDONED)
        return RETHREAD_IDLE;
    return collect(connection, pending, timeout_ms, result);
}

enum rethread_status rethread_next(struct rethread *connection, int timeout_ms, uint32_t *msgid,
                                   struct rethread_result **result)
{
    if (result != NULL)
        *result = NULL;
    if (connection == NULL || msgid == NULL)
        return RETHREAD_INVALID_ARGUMENT;
    uint64_t deadline_ms = client_deadline_ms(timeout_ms);
    enum rethread_status status = RETHREAD_OK;
    for (;;) {
        struct client_pending *ready = TAILQ_FIRST(&connection->table.ready);
        struct client_pending *waiting = TAILQ_FIRST(&connection->table.waiting);
        if (ready != NULL) {
            *msgid = ready->msgid;
            return hand_out(connection, ready, result);
        }
        if (waiting == NULL)
            return RETHREAD_IDLE;
        if (connection->broken != RETHREAD_OK) {
            *msgid = waiting->msgid;
            (void)client_table_take(&connection->table, waiting);
            return connection->broken;
        }
        if (status != RETHREAD_OK)
            return status;
        status = client_wait(connection, deadline_ms);
    }
}

void rethread_abandon(struct rethread *connection, uint32_t msgid)
{
    struct client_pending *pending = client_table_find(&connection->table, msgid);
    if (pending != NULL)
        client_table_abandon(&connection->table, pending);
}

size_t rethread_outstanding(const struct rethread *connection)
{
    return connection->table.count - connection->table.abandoned;
}

const struct rethread_error *rethread_connection_error(const struct rethread *connection)
{
    return connection->farewell != NULL ? rethread_result_error(connection->farewell) : NULL;
}

/* ---- Synchronous calls ------------------------------------------------------------------------*/

static enum rethread_status call(struct rethread *connection, const struct client_request *request,
                                 struct rethread_result **result)
{
    struct client_pending *pending;
    if (result != NULL)
        *result = NULL;
    if (connection == NULL)
        return RETHREAD_INVALID_ARGUMENT;
    enum rethread_status status = submit(connection, request, true, &pending);
    if (status != RETHREAD_OK)
        return status;
    uint32_t msgid = pending->msgid;
    status = collect(connection, pending, connection->call_timeout_ms, result);
    if (status == RETHREAD_TIMEOUT || status == RETHREAD_NO_MEMORY)
        rethread_abandon(connection, msgid);
    /* A frame that has begun must end, and the caller's bytes are about to be the caller's again.
     */
    if (!client_outgoing_settle(&connection->outgoing))
        client_break(connection, RETHREAD_CLOSED);
    return status;
}

/* ---- Methods ----------------------------------------------------------------------------------*/

static struct client_request request_of(enum rethread_method method, const void *options)
{
    return (struct client_request){
        .method = method,
        .name = rethread_method_name(method),
        .options = options,
    };
}

#define METHOD_WITH_OPTIONS(METHOD, method)                                                        \
    enum rethread_status rethread_submit_##method(                                                 \
        struct rethread *connection, const struct rethread_##method##_options *options,            \
        uint32_t *msgid)                                                                           \
    {                                                                                              \
        struct client_request request = request_of(RETHREAD_METHOD_##METHOD, options);             \
        return submit_for_msgid(connection, &request, msgid);                                      \
    }                                                                                              \
    enum rethread_status rethread_##method(struct rethread *connection,                            \
                                           const struct rethread_##method##_options *options,      \
                                           struct rethread_result **result)                        \
    {                                                                                              \
        struct client_request request = request_of(RETHREAD_METHOD_##METHOD, options);             \
        return call(connection, &request, result);                                                 \
    }

#define METHOD_WITHOUT_OPTIONS(METHOD, method)                                                     \
    enum rethread_status rethread_submit_##method(struct rethread *connection, uint32_t *msgid)    \
    {                                                                                              \
        struct client_request request = request_of(RETHREAD_METHOD_##METHOD, NULL);                \
        return submit_for_msgid(connection, &request, msgid);                                      \
    }                                                                                              \
    enum rethread_status rethread_##method(struct rethread *connection,                            \
                                           struct rethread_result **result)                        \
    {                                                                                              \
        struct client_request request = request_of(RETHREAD_METHOD_##METHOD, NULL);                \
        return call(connection, &request, result);                                                 \
    }

METHOD_WITH_OPTIONS(HELLO, hello)
METHOD_WITHOUT_OPTIONS(PING, ping)
METHOD_WITH_OPTIONS(REPLAY, replay)
METHOD_WITH_OPTIONS(STAT, stat)
METHOD_WITH_OPTIONS(TOUCH, touch)
METHOD_WITH_OPTIONS(FORK, fork)
METHOD_WITH_OPTIONS(REWIND, rewind)
METHOD_WITH_OPTIONS(FORGET, forget)
METHOD_WITH_OPTIONS(LIST, list)
METHOD_WITHOUT_OPTIONS(INFO, info)
METHOD_WITH_OPTIONS(BEGIN, begin)
METHOD_WITH_OPTIONS(ABORT, abort)

static struct client_request append_request(const struct rethread_append_options *options)
{
    struct client_request request = request_of(RETHREAD_METHOD_APPEND, options);
    if (options != NULL) {
        request.payloads = options->segments.items != NULL ? &options->segments.items->bytes : NULL;
        request.payload_stride = sizeof(struct rethread_segment);
        request.payload_count = options->segments.count;
    }
    return request;
}

enum rethread_status rethread_submit_append(struct rethread *connection,
                                            const struct rethread_append_options *options,
                                            uint32_t *msgid)
{
    struct client_request request = append_request(options);
    return submit_for_msgid(connection, &request, msgid);
}

enum rethread_status rethread_append(struct rethread *connection,
                                     const struct rethread_append_options *options,
                                     struct rethread_result **result)
{
    struct client_request request = append_request(options);
    return call(connection, &request, result);
}

static struct client_request chunk_request(const struct rethread_chunk_options *options)
{
    struct client_request request = request_of(RETHREAD_METHOD_CHUNK, options);
    if (options != NULL) {
        request.payloads = options->payloads;
        request.payload_stride = sizeof(struct rethread_bytes);
        request.payload_count = options->payload_count;
    }
    return request;
}

enum rethread_status rethread_submit_chunk(struct rethread *connection,
                                           const struct rethread_chunk_options *options,
                                           uint32_t *msgid)
{
    struct client_request request = chunk_request(options);
    return submit_for_msgid(connection, &request, msgid);
}

enum rethread_status rethread_chunk(struct rethread *connection,
                                    const struct rethread_chunk_options *options,
                                    struct rethread_result **result)
{
    struct client_request request = chunk_request(options);
    return call(connection, &request, result);
}

static struct client_request commit_request(const struct rethread_commit_options *options)
{
    struct client_request request = request_of(RETHREAD_METHOD_COMMIT, options);
    if (options != NULL) {
        request.payloads = options->segments.items != NULL ? &options->segments.items->bytes : NULL;
        request.payload_stride = sizeof(struct rethread_segment);
        request.payload_count = options->segments.count;
    }
    return request;
}

enum rethread_status rethread_submit_commit(struct rethread *connection,
                                            const struct rethread_commit_options *options,
                                            uint32_t *msgid)
{
    struct client_request request = commit_request(options);
    return submit_for_msgid(connection, &request, msgid);
}

enum rethread_status rethread_commit(struct rethread *connection,
                                     const struct rethread_commit_options *options,
                                     struct rethread_result **result)
{
    struct client_request request = commit_request(options);
    return call(connection, &request, result);
}

/* False: the options are not one MessagePack map, or there is no method. */
static bool raw_request(const char *method, struct rethread_bytes options,
                        const struct rethread_bytes *payloads, size_t payload_count,
                        struct client_request *request)
{
    if (method == NULL)
        return false;
    if (options.size > 0) {
        if (options.data == NULL)
            return false;
        struct bytes map = bytes_of(options.data, options.size);
        struct wire_cursor cursor = wire_cursor_on(map);
        struct wire_item item;
        if (!wire_walk(map) || !wire_take(&cursor, &item) || item.type != WIRE_ITEM_MAP)
            return false;
    }
    *request = (struct client_request){
        .method = client_method_named(rethread_text(method)),
        .name = method,
        .raw_options = options,
        .payloads = payloads,
        .payload_stride = sizeof *payloads,
        .payload_count = payload_count,
    };
    return true;
}

enum rethread_status rethread_submit_raw(struct rethread *connection, const char *method,
                                         struct rethread_bytes options,
                                         const struct rethread_bytes *payloads,
                                         size_t payload_count, uint32_t *msgid)
{
    struct client_request request;
    if (!raw_request(method, options, payloads, payload_count, &request))
        return RETHREAD_INVALID_ARGUMENT;
    return submit_for_msgid(connection, &request, msgid);
}

enum rethread_status rethread_call_raw(struct rethread *connection, const char *method,
                                       struct rethread_bytes options,
                                       const struct rethread_bytes *payloads, size_t payload_count,
                                       struct rethread_result **result)
{
    struct client_request request;
    if (result != NULL)
        *result = NULL;
    if (!raw_request(method, options, payloads, payload_count, &request))
        return RETHREAD_INVALID_ARGUMENT;
    return call(connection, &request, result);
}

/* ---- Event loops ------------------------------------------------------------------------------*/

int rethread_fd(const struct rethread *connection)
{
    return connection->fd;
}

int rethread_wants(const struct rethread *connection)
{
    if (connection->broken != RETHREAD_OK)
        return 0;
    bool unsent = client_outgoing_size(&connection->outgoing) > 0;
    return RETHREAD_READ | (unsent ? RETHREAD_WRITE : 0);
}

enum rethread_status rethread_pump(struct rethread *connection, int ready)
{
    if (connection->broken != RETHREAD_OK)
        return connection->broken;
    if ((ready & RETHREAD_WRITE) != 0)
        client_send(connection);
    if ((ready & RETHREAD_READ) != 0 || connection->send_failed || connection->starved)
        return client_receive(connection);
    return RETHREAD_OK;
}
