/* The load generator; see load.h. Owns its connections and their buffers. */
#include "bench/load.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { IN_BYTES = 256 * 1024, EVENTS = 64, WAIT_MS = 10000, SHOWN_BYTES = 60 };

struct connection {
    int fd;
    bool wants_write;
    unsigned sent;     /* of this batch: slots 0 to sent - 1 */
    unsigned answered; /* of these */
    size_t out_at;
    size_t out_size;
    size_t in_size;
    uint8_t *out;
    uint8_t *in;
    uint64_t key[PROTOCOL_IN_FLIGHT_MAX];
    bool is_open[PROTOCOL_IN_FLIGHT_MAX];
};

struct load {
    const struct protocol *protocol;
    const struct server *server;
    unsigned connection_count;
    unsigned in_flight;
    size_t value_bytes;
    size_t in_capacity;
    int poll;
    struct connection *connections;
    /* Of the job that runs. */
    const struct load_job *job;
    uint64_t issued;
    uint64_t done;
    char *error;
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool fail(struct load *load, const char *what)
{
    snprintf(load->error, LOAD_ERROR_BYTES, "%s: %s", load->protocol->name, what);
    return false;
}

static bool fail_errno(struct load *load, const char *what)
{
    snprintf(load->error, LOAD_ERROR_BYTES, "%s: %s: %s", load->protocol->name, what,
             strerror(errno));
    return false;
}

/* What came is the generator's own random bytes at worst: it may be shown. */
static bool fail_reply(struct load *load, const uint8_t *reply, size_t size)
{
    char shown[SHOWN_BYTES + 1];
    size_t count = size < SHOWN_BYTES ? size : SHOWN_BYTES;
    for (size_t i = 0; i < count; i++) {
        shown[i] = isprint(reply[i]) ? (char)reply[i] : '.';
    }
    shown[count] = '\0';
    snprintf(load->error, LOAD_ERROR_BYTES, "%s: wrong reply of %zu bytes: %s",
             load->protocol->name, size, shown);
    return false;
}

/* ---- Opening and closing --------------------------------------------------------------------- */

static bool connection_open(struct load *load, struct connection *connection)
{
    connection->out = malloc((load->value_bytes + PROTOCOL_SLACK_BYTES) * load->in_flight);
    connection->in = malloc(load->in_capacity);
    if (connection->out == NULL || connection->in == NULL) {
        return fail(load, "no memory");
    }
    connection->fd = server_connect(load->server);
    if (connection->fd < 0) {
        return fail_errno(load, "cannot connect");
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(load->poll, EPOLL_CTL_ADD, connection->fd, &event) != 0) {
        return fail_errno(load, "epoll_ctl");
    }
    return true;
}

struct load *load_open(const struct protocol *protocol, const struct server *server,
                       unsigned connections, unsigned in_flight, size_t value_bytes,
                       char error[LOAD_ERROR_BYTES])
{
    assert(in_flight >= 1 && in_flight <= PROTOCOL_IN_FLIGHT_MAX);
    struct load *load = calloc(1, sizeof *load);
    if (load == NULL) {
        snprintf(error, LOAD_ERROR_BYTES, "no memory");
        return NULL;
    }
    *load = (struct load){
        .protocol = protocol,
        .server = server,
        .in_flight = in_flight,
        .value_bytes = value_bytes,
        .in_capacity = IN_BYTES + value_bytes + PROTOCOL_SLACK_BYTES,
        .poll = epoll_create1(EPOLL_CLOEXEC),
        .connections = calloc(connections, sizeof(struct connection)),
        .error = error,
    };
    bool ready = load->poll >= 0 && load->connections != NULL;
    if (!ready) {
        (void)fail_errno(load, "cannot start");
    }
    while (ready && load->connection_count < connections) {
        struct connection *connection = &load->connections[load->connection_count++];
        connection->fd = -1;
        ready = connection_open(load, connection);
    }
    if (!ready) {
        load_close(load);
        return NULL;
    }
    return load;
}

void load_close(struct load *load)
{
    if (load == NULL) {
        return;
    }
    for (unsigned i = 0; i < load->connection_count; i++) {
        if (load->connections[i].fd >= 0) {
            close(load->connections[i].fd);
        }
        free(load->connections[i].out);
        free(load->connections[i].in);
    }
    if (load->poll >= 0) {
        close(load->poll);
    }
    free(load->connections);
    free(load);
}

/* ---- Sending --------------------------------------------------------------------------------- */

static bool flush(struct load *load, struct connection *connection)
{
    while (connection->out_at < connection->out_size) {
        ssize_t sent = send(connection->fd, connection->out + connection->out_at,
                            connection->out_size - connection->out_at, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            break;
        }
        if (sent < 0 && errno != EINTR) {
            return fail_errno(load, "send");
        }
        connection->out_at += sent > 0 ? (size_t)sent : 0;
    }
    bool wants_write = connection->out_at < connection->out_size;
    if (wants_write != connection->wants_write) {
        connection->wants_write = wants_write;
        struct epoll_event event = {.events = EPOLLIN | (wants_write ? (uint32_t)EPOLLOUT : 0),
                                    .data.ptr = connection};
        if (epoll_ctl(load->poll, EPOLL_CTL_MOD, connection->fd, &event) != 0) {
            return fail_errno(load, "epoll_ctl");
        }
    }
    return true;
}

static uint64_t next_key(const struct load *load)
{
    const struct load_job *job = load->job;
    return job->op == PROTOCOL_REPLAY
               ? protocol_mix(load->issued ^ job->values->series) % job->key_count
               : load->issued;
}

/* Nothing to send any more is no failure: the connection rests. */
static bool send_batch(struct load *load, struct connection *connection)
{
    connection->sent = 0;
    connection->answered = 0;
    connection->out_at = 0;
    connection->out_size = 0;
    while (connection->sent < load->in_flight && load->issued < load->job->count) {
        unsigned slot = connection->sent++;
        uint64_t key = next_key(load);
        connection->key[slot] = key;
        connection->is_open[slot] = true;
        connection->out_size += load->protocol->request(load->job->values, load->job->op, slot, key,
                                                        connection->out + connection->out_size);
        load->issued++;
    }
    return flush(load, connection);
}

/* ---- Receiving ------------------------------------------------------------------------------- */

static bool take_reply(struct load *load, struct connection *connection, const uint8_t *reply,
                       size_t size)
{
    unsigned slot = load->protocol->reply_slot(reply, connection->answered);
    if (slot >= connection->sent || !connection->is_open[slot] ||
        !load->protocol->reply_is_right(load->job->values, load->job->op, slot,
                                        connection->key[slot], reply, size)) {
        return fail_reply(load, reply, size);
    }
    connection->is_open[slot] = false;
    connection->answered++;
    load->done++;
    return true;
}

static bool take_replies(struct load *load, struct connection *connection)
{
    size_t at = 0;
    while (at < connection->in_size) {
        const uint8_t *reply = connection->in + at;
        size_t left = connection->in_size - at;
        size_t size = load->protocol->reply_bytes(reply, left);
        if (size == PROTOCOL_BROKEN || size > load->value_bytes + PROTOCOL_SLACK_BYTES) {
            return fail_reply(load, reply, left);
        }
        if (size == 0 || size > left) {
            break;
        }
        if (!take_reply(load, connection, reply, size)) {
            return false;
        }
        at += size;
    }
    connection->in_size -= at;
    memmove(connection->in, connection->in + at, connection->in_size);
    return true;
}

static bool receive(struct load *load, struct connection *connection)
{
    size_t room = load->in_capacity - connection->in_size;
    ssize_t got = recv(connection->fd, connection->in + connection->in_size, room, 0);
    if (got < 0) {
        return errno == EAGAIN || errno == EINTR ? true : fail_errno(load, "recv");
    }
    if (got == 0) {
        return fail(load, "the server closed a connection");
    }
    connection->in_size += (size_t)got;
    if (!take_replies(load, connection)) {
        return false;
    }
    if (connection->sent == 0 || connection->answered < connection->sent) {
        return true;
    }
    return send_batch(load, connection);
}

/* ---- Running --------------------------------------------------------------------------------- */

static bool turn(struct load *load)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(load->poll, events, EVENTS, WAIT_MS);
    if (count < 0) {
        return errno == EINTR ? true : fail_errno(load, "epoll_wait");
    }
    if (count == 0) {
        return fail(load, "no answer for 10 seconds");
    }
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;
        if ((events[i].events & EPOLLOUT) != 0 && !flush(load, connection)) {
            return false;
        }
        if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0 && !receive(load, connection)) {
            return false;
        }
    }
    return true;
}

bool load_run(struct load *load, const struct load_job *job, struct load_result *result)
{
    assert(job->values->value_bytes <= load->value_bytes);
    assert(job->op == PROTOCOL_REPLAY || job->count <= job->key_count);
    *result = (struct load_result){.seconds = 0};
    load->job = job;
    load->issued = 0;
    load->done = 0;
    load->error = result->error;
    uint64_t cpu_before_ns = server_cpu_ns(load->server);
    double before_s = now_s();
    bool good = true;
    for (unsigned i = 0; good && i < load->connection_count; i++) {
        good = send_batch(load, &load->connections[i]);
    }
    while (good && load->done < job->count) {
        good = turn(load);
    }
    result->seconds = now_s() - before_s;
    double count = (double)job->count;
    result->requests_per_second = count / result->seconds;
    result->server_cpu_ns = (double)(server_cpu_ns(load->server) - cpu_before_ns) / count;
    return good;
}
