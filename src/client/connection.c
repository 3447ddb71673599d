/* A connection's bytes: sending, receiving, waiting; opening and closing. */
#include "client/connection.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "client/address.h"
#include "client/decode.h"
#include "wire/request.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READ_BYTES = 64 * 1024,
    READ_BYTES_PER_CALL = 4 * 1024 * 1024,
    FRAME_SLACK_BYTES = 64 * 1024, /* an envelope around what the server counts as its limit */

    CONNECT_TIMEOUT_MS = 5000,
    CALL_TIMEOUT_MS = 30000,
    FRAME_MAX_BYTES = 64 * 1024 * 1024,
    OUTSTANDING_MAX = 65536,
    UNSENT_MAX_BYTES = 128 * 1024 * 1024,
};

static const char DEFAULT_ADDRESS[] = "127.0.0.1:7411";

void client_break(struct rethread *connection, enum rethread_status why)
{
    assert(why != RETHREAD_OK);
    if (connection->broken != RETHREAD_OK)
        return;
    connection->broken = why;
    client_outgoing_clear(&connection->outgoing);
    client_buffer_clear(&connection->incoming);
}

/* ---- Sending ----------------------------------------------------------------------------------*/

void client_send(struct rethread *connection)
{
    struct client_outgoing *outgoing = &connection->outgoing;
    while (client_outgoing_size(outgoing) > 0) {
        struct iovec pieces[CLIENT_PIECES_MAX];
        struct msghdr message = {.msg_iov = pieces};
        message.msg_iovlen = (size_t)client_outgoing_pieces(outgoing, pieces);
        ssize_t sent = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            client_outgoing_sent(outgoing, (size_t)sent);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR) {
            connection->send_failed = true;
            client_outgoing_clear(outgoing);
        }
    }
}

/* ---- Receiving --------------------------------------------------------------------------------*/

/* The size of the frame at the start, header included; 0: not known yet. */
static uint64_t frame_size(const struct client_buffer *incoming)
{
    if (client_buffer_size(incoming) < WIRE_HEADER_BYTES)
        return 0;
    return WIRE_HEADER_BYTES + (uint64_t)bytes_load_be32(incoming->data + incoming->begin + 1);
}

/*
 * Decodes the frame at the start for the request that waits for it. A large frame fills the buffer
 * to its last byte (see room_for), and then the buffer itself becomes the result's.
 */
static enum rethread_status decode_frame(struct rethread *connection, size_t size,
                                         enum rethread_method method,
                                         struct rethread_result **result)
{
    struct client_buffer *incoming = &connection->incoming;
    size_t body_size = size - WIRE_HEADER_BYTES;
    bool hand_over = size >= READ_BYTES && size == client_buffer_size(incoming);
    struct rethread_bytes body = {incoming->data + incoming->begin + WIRE_HEADER_BYTES, body_size};
    void *memory = incoming->data;
    if (!hand_over) {
        memory = malloc(body_size);
        if (memory == NULL)
            return RETHREAD_NO_MEMORY;
        memcpy(memory, body.data, body_size);
        body.data = memory;
    }
    enum rethread_status status = client_decode(body, method, result);
    if (status != RETHREAD_OK) {
        if (!hand_over)
            free(memory);
        return status;
    }
    (*result)->memory = memory;
    if (hand_over)
        *incoming = (struct client_buffer){.data = NULL};
    else
        client_buffer_consume(incoming, size);
    return RETHREAD_OK;
}

static enum rethread_status take_frame(struct rethread *connection, size_t size)
{
    struct client_buffer *incoming = &connection->incoming;
    const uint8_t *frame = incoming->data + incoming->begin;
    struct rethread_bytes body = {frame + WIRE_HEADER_BYTES, size - WIRE_HEADER_BYTES};
    struct client_envelope envelope;
    struct rethread_result *result;
    if (!client_decode_envelope(body, &envelope))
        return RETHREAD_PROTOCOL_VIOLATION;
    if (!envelope.has_msgid) {
        enum rethread_status status =
            decode_frame(connection, size, RETHREAD_METHOD_OTHER, &result);
        if (status == RETHREAD_OK) {
            rethread_result_free(connection->farewell);
            connection->farewell = result;
        }
        return status;
    }
    struct client_pending *pending = client_table_find(&connection->table, envelope.msgid);
    if (pending == NULL || pending->state == CLIENT_PENDING_READY)
        return RETHREAD_PROTOCOL_VIOLATION;
    if (pending->state == CLIENT_PENDING_ABANDONED) {
        (void)client_table_take(&connection->table, pending);
        client_buffer_consume(incoming, size);
        return RETHREAD_OK;
    }
    enum rethread_status status = decode_frame(connection, size, pending->method, &result);
    if (status == RETHREAD_OK)
        client_table_ready(&connection->table, pending, result);
    return status;
}

/* Takes every whole frame that has arrived. OK, NO_MEMORY (try again later) or a violation. */
static enum rethread_status take_frames(struct rethread *connection)
{
    struct client_buffer *incoming = &connection->incoming;
    for (;;) {
        uint64_t held = client_buffer_size(incoming);
        if (held > 0 && incoming->data[incoming->begin] != WIRE_HEADER_MARK)
            return RETHREAD_PROTOCOL_VIOLATION;
        uint64_t size = frame_size(incoming);
        if (size > (uint64_t)connection->frame_max_bytes + FRAME_SLACK_BYTES)
            return RETHREAD_PROTOCOL_VIOLATION;
        if (size == 0 || held < size)
            return RETHREAD_OK;
        enum rethread_status status = take_frame(connection, (size_t)size);
        if (status != RETHREAD_OK)
            return status;
    }
}

/*
 * Makes room and returns how much to read; 0: no memory. A frame larger than a read is read to its
 * end and not beyond, into a buffer that at most doubles with each step: what a peer declares costs
 * nothing until it is sent.
 */
static size_t room_for(struct client_buffer *incoming)
{
    size_t held = client_buffer_size(incoming);
    size_t size = (size_t)frame_size(incoming);
    if (size < READ_BYTES)
        return client_buffer_reserve(incoming, READ_BYTES) ? READ_BYTES : 0;
    size_t missing = size - held;
    size_t room = missing;
    if (room > held && room > READ_BYTES)
        room = held > READ_BYTES ? held : READ_BYTES;
    if (!client_buffer_reserve(incoming, room))
        return 0;
    size_t there = incoming->capacity - incoming->end;
    return there < missing ? there : missing;
}

static enum rethread_status receive(struct rethread *connection)
{
    struct client_buffer *incoming = &connection->incoming;
    for (size_t received = 0; received < READ_BYTES_PER_CALL;) {
        /* Also before the first read: memory may have run out for a frame that is there. */
        enum rethread_status status = take_frames(connection);
        if (status != RETHREAD_OK)
            return status;
        size_t room = room_for(incoming);
        if (room == 0)
            return RETHREAD_NO_MEMORY;
        if (room > READ_BYTES_PER_CALL - received)
            room = READ_BYTES_PER_CALL - received;
        ssize_t size = recv(connection->fd, incoming->data + incoming->end, room, MSG_DONTWAIT);
        if (size > 0) {
            incoming->end += (size_t)size;
            received += (size_t)size;
            if ((size_t)size < room)
                break; /* that was all, most likely */
        } else if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return connection->send_failed ? RETHREAD_CLOSED : RETHREAD_OK;
        } else if (size == 0 || errno != EINTR) {
            return RETHREAD_CLOSED;
        }
    }
    return take_frames(connection);
}

enum rethread_status client_receive(struct rethread *connection)
{
    if (connection->broken != RETHREAD_OK)
        return connection->broken;
    enum rethread_status status = receive(connection);
    connection->starved = status == RETHREAD_NO_MEMORY;
    if (status != RETHREAD_OK && status != RETHREAD_NO_MEMORY)
        client_break(connection, status);
    return status;
}

/* ---- Waiting ----------------------------------------------------------------------------------*/

uint64_t client_deadline_ms(int timeout_ms)
{
    if (timeout_ms < 0)
        return UINT64_MAX;
    return clock_read_ms(clock_monotonic()) + (unsigned)timeout_ms;
}

enum rethread_status client_wait(struct rethread *connection, uint64_t deadline_ms)
{
    if (connection->broken != RETHREAD_OK)
        return connection->broken;
    client_send(connection);
    /* Nothing to wait for: what matters has arrived, or never will. */
    if (connection->send_failed || connection->starved)
        return client_receive(connection);
    struct pollfd ready = {.fd = connection->fd, .events = POLLIN};
    if (client_outgoing_size(&connection->outgoing) > 0)
        ready.events |= POLLOUT;
    int left_ms = client_address_left_ms(deadline_ms);
    int count = poll(&ready, 1, left_ms);
    if (count < 0 && errno != EINTR) {
        client_break(connection, RETHREAD_CLOSED);
        return RETHREAD_CLOSED;
    }
    enum rethread_status status = RETHREAD_OK;
    if (count > 0 && (ready.revents & ~POLLOUT) != 0)
        status = client_receive(connection);
    if (count > 0 && (ready.revents & POLLOUT) != 0)
        client_send(connection);
    /* A peer that sends a byte now and then must not keep anybody waiting for ever. */
    return status == RETHREAD_OK && left_ms == 0 ? RETHREAD_TIMEOUT : status;
}

/* ---- Opening and closing ----------------------------------------------------------------------*/

static struct rethread *make_connection(int fd, const struct rethread_connect_options *options)
{
    struct rethread *connection = calloc(1, sizeof *connection);
    if (connection == NULL)
        return NULL;
    connection->fd = fd;
    connection->call_timeout_ms =
        options->call_timeout_ms != 0 ? options->call_timeout_ms : CALL_TIMEOUT_MS;
    connection->frame_max_bytes =
        options->frame_max_bytes != 0 ? options->frame_max_bytes : FRAME_MAX_BYTES;
    if (connection->frame_max_bytes > UINT32_MAX)
        connection->frame_max_bytes = UINT32_MAX;
    connection->outstanding_max =
        options->outstanding_max != 0 ? options->outstanding_max : OUTSTANDING_MAX;
    connection->unsent_max_bytes =
        options->unsent_max_bytes != 0 ? options->unsent_max_bytes : UNSENT_MAX_BYTES;
    client_table_init(&connection->table);
    return connection;
}

static const struct rethread_connect_options DEFAULTS = {.address = NULL};

enum rethread_status rethread_connect(const struct rethread_connect_options *options,
                                      struct rethread **connection)
{
    if (connection == NULL)
        return RETHREAD_INVALID_ARGUMENT;
    *connection = NULL;
    if (options == NULL)
        options = &DEFAULTS;
    struct client_address address;
    if (!client_address_parse(options->address != NULL ? options->address : DEFAULT_ADDRESS,
                              &address))
        return RETHREAD_INVALID_ARGUMENT;
    struct rethread *made = make_connection(-1, options);
    if (made == NULL)
        return RETHREAD_NO_MEMORY;
    int timeout_ms =
        options->connect_timeout_ms != 0 ? options->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    enum rethread_status status =
        client_address_connect(&address, client_deadline_ms(timeout_ms), &made->fd);
    if (status != RETHREAD_OK) {
        int error = errno;
        free(made);
        errno = error;
        return status;
    }
    *connection = made;
    return RETHREAD_OK;
}

enum rethread_status rethread_attach(int fd, const struct rethread_connect_options *options,
                                     struct rethread **connection)
{
    if (connection == NULL)
        return RETHREAD_INVALID_ARGUMENT;
    *connection = NULL;
    int type;
    socklen_t size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM)
        return RETHREAD_INVALID_ARGUMENT;
    int flags = fcntl(fd, F_GETFL);
    struct rethread *made = make_connection(fd, options != NULL ? options : &DEFAULTS);
    if (made == NULL)
        return RETHREAD_NO_MEMORY;
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        free(made);
        return RETHREAD_INVALID_ARGUMENT;
    }
    client_address_no_delay(fd);
    *connection = made;
    return RETHREAD_OK;
}

void rethread_close(struct rethread *connection)
{
    if (connection == NULL)
        return;
    rethread_result_free(connection->farewell);
    client_table_clear(&connection->table);
    client_outgoing_clear(&connection->outgoing);
    client_buffer_clear(&connection->incoming);
    (void)close(connection->fd);
    free(connection);
}
