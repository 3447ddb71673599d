/*
 * The load generator; see load.h. Owns its connections and their buffers.
 *
 * A connection's requests stand in a ring of in_flight slots, from `tail`, the oldest that is not
 * answered, to `head`. In an open loop request n of the whole job is due at start + n / rate on
 * connection n modulo their number; one whose ring is full sends later what is due on it meanwhile,
 * and the latency counts from when it was due all the same.
 */
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

enum {
    IN_BYTES = 256 * 1024,
    /* Read at once and judged as it comes, so that other connections are not kept waiting. */
    READ_BYTES = 256 * 1024,
    READ_BESIDE_BYTES = 64 * 1024, /* while another job's latencies are taken */
    PART_BYTES = 64 * 1024,
    OUT_BYTES = 256 * 1024, /* of several requests at once */
    EVENTS = 64,
    PATIENCE_S = 10,
    WAIT_MS = 1000,
    SHOWN_BYTES = 80,
};

static const uint64_t second_ns = 1000000000;

struct slot {
    struct protocol_item item;
    bool is_open;
    uint64_t from_ns; /* when it was due; closed loop: sent */
};

struct connection {
    int fd;
    unsigned index;
    bool wants_write;
    bool rests; /* nothing more is asked */
    uint64_t head;
    uint64_t tail;
    unsigned batch_left; /* closed loop: still to be sent of this batch */
    uint64_t turn;       /* open loop: how many of its own have been due and sent */
    size_t out_at;
    size_t out_size;
    size_t in_size;
    size_t judged; /* of the reply that is coming in */
    uint8_t *out;
    uint8_t *in;
    struct slot *slots;
};

struct load {
    const struct protocol *protocol;
    const struct server *server;
    unsigned connection_count;
    unsigned in_flight;
    size_t request_max;
    size_t reply_max;
    size_t out_capacity;
    size_t in_capacity;
    int poll;
    struct connection *connections;
    /* Of the job that runs. */
    const struct load_job *job;
    bool is_stopped;
    unsigned resting;
    size_t read_bytes; /* at once */
    uint64_t issued;
    uint64_t done;
    uint64_t start_ns;
    uint64_t end_ns; /* UINT64_MAX: none */
    uint64_t now_ns; /* of this turn */
    uint64_t heard_ns;
    uint64_t watch_ns;
    uint64_t due; /* open loop: the next of the whole job whose time has not come */
    char *error;
};

static uint64_t read_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * second_ns + (uint64_t)now.tv_nsec;
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

static void show(const uint8_t *bytes, size_t size, char shown[SHOWN_BYTES + 1])
{
    for (size_t i = 0; i < size; i++) {
        shown[i] = isprint(bytes[i]) ? (char)bytes[i] : '.';
    }
    shown[size] = '\0';
}

/*
 * Its beginning, and of a long one its end, where a server that refuses the last of several
 * commands says why. What came is the generator's own random bytes at worst: it may be shown.
 */
static bool fail_reply(struct load *load, const uint8_t *reply, size_t size)
{
    char first[SHOWN_BYTES + 1];
    char last[SHOWN_BYTES + 1] = "";
    size_t shown = size < SHOWN_BYTES ? size : SHOWN_BYTES;
    show(reply, shown, first);
    if (size > shown) {
        shown = size - shown < SHOWN_BYTES ? size - shown : SHOWN_BYTES;
        show(reply + size - shown, shown, last);
    }
    snprintf(load->error, LOAD_ERROR_BYTES, "%s: wrong reply of %zu bytes: %s%s%s",
             load->protocol->name, size, first, size > 2 * SHOWN_BYTES ? " ... " : "", last);
    return false;
}

/* ---- Opening and closing --------------------------------------------------------------------- */

static bool connection_open(struct load *load, struct connection *connection)
{
    connection->out = malloc(load->out_capacity);
    connection->in = malloc(load->in_capacity);
    connection->slots = calloc(load->in_flight, sizeof *connection->slots);
    if (connection->out == NULL || connection->in == NULL || connection->slots == NULL) {
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

static void size_buffers(struct load *load, const struct load_shape *shape)
{
    size_t steps = shape->steps_max > 1 ? shape->steps_max : 1;
    load->request_max = shape->request_bytes_max + PROTOCOL_SLACK_BYTES;
    load->reply_max = shape->reply_bytes_max + steps * PROTOCOL_SLACK_BYTES;
    load->in_capacity = IN_BYTES + load->reply_max;
    size_t batch = load->request_max * load->in_flight;
    size_t least = load->request_max > OUT_BYTES ? load->request_max : OUT_BYTES;
    load->out_capacity = batch < least ? batch : least;
}

struct load *load_open(const struct protocol *protocol, const struct server *server,
                       const struct load_shape *shape, char error[LOAD_ERROR_BYTES])
{
    assert(shape->in_flight >= 1 && shape->in_flight <= PROTOCOL_IN_FLIGHT_MAX);
    struct load *load = calloc(1, sizeof *load);
    if (load == NULL) {
        snprintf(error, LOAD_ERROR_BYTES, "no memory");
        return NULL;
    }
    *load = (struct load){
        .protocol = protocol,
        .server = server,
        .in_flight = shape->in_flight,
        .poll = epoll_create1(EPOLL_CLOEXEC),
        .connections = calloc(shape->connections, sizeof(struct connection)),
        .error = error,
    };
    size_buffers(load, shape);
    bool ready = load->poll >= 0 && load->connections != NULL;
    if (!ready) {
        (void)fail_errno(load, "cannot start");
    }
    while (ready && load->connection_count < shape->connections) {
        unsigned index = load->connection_count++;
        load->connections[index] = (struct connection){.fd = -1, .index = index};
        ready = connection_open(load, &load->connections[index]);
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
        free(load->connections[i].slots);
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
    if (!wants_write) {
        connection->out_at = 0;
        connection->out_size = 0;
    }
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

/* When request `number` of the job is due, and whether it belongs to it at all. */
static bool due_at(const struct load *load, uint64_t number, uint64_t *due_ns)
{
    *due_ns = load->start_ns + (uint64_t)((double)number * 1e9 / load->job->rate);
    return (load->job->count == 0 || number < load->job->count) && *due_ns < load->end_ns;
}

/* Whether this connection may send one more now; what its latency will count from. */
static bool may_send(const struct load *load, const struct connection *connection,
                     uint64_t *from_ns)
{
    const struct load_job *job = load->job;
    if (connection->rests || load->is_stopped) {
        return false;
    }
    if (job->rate > 0) {
        uint64_t number = connection->turn * load->connection_count + connection->index;
        return connection->head - connection->tail < load->in_flight &&
               due_at(load, number, from_ns) && *from_ns <= load->now_ns;
    }
    *from_ns = load->now_ns;
    return connection->batch_left > 0 && load->now_ns < load->end_ns &&
           (job->count == 0 || load->issued < job->count);
}

static bool write_next(struct load *load, struct connection *connection)
{
    uint64_t from_ns;
    if (load->out_capacity - connection->out_size < load->request_max ||
        !may_send(load, connection, &from_ns)) {
        return false;
    }
    unsigned place = (unsigned)(connection->head % load->in_flight);
    struct slot *slot = &connection->slots[place];
    if (!load->job->next(load->job->context, connection->index, &slot->item)) {
        connection->rests = true;
        load->resting++;
        return false;
    }
    slot->from_ns = from_ns;
    slot->is_open = true;
    size_t size = load->protocol->request(load->job->values, &slot->item, place,
                                          connection->out + connection->out_size);
    assert(size <= load->request_max);
    connection->out_size += size;
    connection->head++;
    connection->turn++;
    connection->batch_left -= connection->batch_left > 0;
    load->issued++;
    return true;
}

/* Sends what may be sent now; what then does not fit is written when there is room again. */
static bool pump(struct load *load, struct connection *connection)
{
    for (;;) {
        while (write_next(load, connection)) {
        }
        if (connection->out_size == 0) {
            return true;
        }
        if (!flush(load, connection)) {
            return false;
        }
        if (connection->out_size > 0) {
            return true;
        }
    }
}

static bool start_batch(struct load *load, struct connection *connection)
{
    connection->batch_left = load->job->rate > 0 ? 0 : load->in_flight;
    return pump(load, connection);
}

/* ---- Receiving ------------------------------------------------------------------------------- */

/* Whose reply this is; NULL: nobody waits for it. */
static struct slot *find_slot(struct load *load, struct connection *connection,
                              const uint8_t *reply, unsigned *place)
{
    *place = load->protocol->reply_slot(reply, (unsigned)(connection->tail % load->in_flight));
    bool waits = *place < load->in_flight && connection->slots[*place].is_open;
    return waits ? &connection->slots[*place] : NULL;
}

/* Of a long reply that has not come whole yet: judges what has come. */
static bool judge_part(struct load *load, struct connection *connection, const uint8_t *reply,
                       size_t size)
{
    if (size - connection->judged < PART_BYTES) {
        return true;
    }
    unsigned place;
    const struct slot *slot = find_slot(load, connection, reply, &place);
    if (slot == NULL || !protocol_part_is_right(load->protocol, load->job->values, &slot->item,
                                                place, reply, connection->judged, size)) {
        return fail_reply(load, reply, size);
    }
    connection->judged = size;
    return true;
}

static bool take_reply(struct load *load, struct connection *connection, const uint8_t *reply,
                       size_t size)
{
    const struct load_job *job = load->job;
    unsigned place;
    struct slot *slot = find_slot(load, connection, reply, &place);
    if (slot == NULL || !protocol_reply_is_right(load->protocol, job->values, &slot->item, place,
                                                 reply, connection->judged, size)) {
        return fail_reply(load, reply, size);
    }
    connection->judged = 0;
    slot->is_open = false;
    load->done++;
    if (job->hist_ns != NULL || job->done != NULL) {
        uint64_t now_ns = read_ns();
        uint64_t latency_ns = now_ns > slot->from_ns ? now_ns - slot->from_ns : 0;
        if (job->hist_ns != NULL) {
            hist_record(job->hist_ns, latency_ns);
        }
        if (job->done != NULL) {
            job->done(job->context, connection->index, &slot->item, latency_ns);
        }
    }
    while (connection->tail < connection->head &&
           !connection->slots[connection->tail % load->in_flight].is_open) {
        connection->tail++;
    }
    return true;
}

static bool take_replies(struct load *load, struct connection *connection)
{
    size_t at = 0;
    while (at < connection->in_size) {
        const uint8_t *reply = connection->in + at;
        size_t left = connection->in_size - at;
        if (connection->tail == connection->head) {
            return fail_reply(load, reply, left);
        }
        const struct slot *oldest = &connection->slots[connection->tail % load->in_flight];
        size_t size = load->protocol->reply_bytes(load->job->values, &oldest->item, reply, left);
        if (size == PROTOCOL_BROKEN || size > load->reply_max) {
            return fail_reply(load, reply, left);
        }
        if (size == 0 || size > left) {
            if (left > load->reply_max || !judge_part(load, connection, reply, left)) {
                return fail_reply(load, reply, left);
            }
            break;
        }
        if (!take_reply(load, connection, reply, size)) {
            return false;
        }
        at += size;
    }
    if (at > 0) {
        connection->in_size -= at;
        memmove(connection->in, connection->in + at, connection->in_size);
    }
    return true;
}

static bool receive(struct load *load, struct connection *connection)
{
    size_t room = load->in_capacity - connection->in_size;
    ssize_t got = recv(connection->fd, connection->in + connection->in_size,
                       room < load->read_bytes ? room : load->read_bytes, 0);
    if (got < 0) {
        return errno == EAGAIN || errno == EINTR ? true : fail_errno(load, "recv");
    }
    if (got == 0) {
        return fail(load, "the server closed a connection");
    }
    connection->in_size += (size_t)got;
    load->heard_ns = load->now_ns;
    if (!take_replies(load, connection)) {
        return false;
    }
    if (load->job->rate > 0) {
        return pump(load, connection);
    }
    if (connection->tail < connection->head || connection->batch_left > 0) {
        return true;
    }
    load->now_ns = read_ns();
    return start_batch(load, connection);
}

/* ---- Running --------------------------------------------------------------------------------- */

/* Open loop: sends what has become due. */
static bool send_due(struct load *load)
{
    uint64_t due_ns;
    bool good = true;
    while (good && due_at(load, load->due, &due_ns) && due_ns <= load->now_ns) {
        good = pump(load, &load->connections[load->due % load->connection_count]);
        load->due++;
    }
    return good;
}

static bool has_finished(const struct load *load)
{
    if (load->issued > load->done) {
        return false;
    }
    uint64_t due_ns;
    return load->is_stopped || load->job->rate <= 0 || load->resting == load->connection_count ||
           !due_at(load, load->due, &due_ns);
}

static bool handle(struct load *load, const struct epoll_event *event)
{
    struct connection *connection = event->data.ptr;
    if ((event->events & EPOLLOUT) != 0 && !pump(load, connection)) {
        return false;
    }
    return (event->events & ~(uint32_t)EPOLLOUT) == 0 || receive(load, connection);
}

/* `may_wait`: nothing but this load's connections needs attention. */
static bool turn(struct load *load, bool may_wait)
{
    const struct load_job *job = load->job;
    int wait_ms = !may_wait || job->rate > 0                      ? 0
                  : job->watch != NULL && job->watch_ms < WAIT_MS ? (int)job->watch_ms
                                                                  : WAIT_MS;
    struct epoll_event events[EVENTS];
    int count = epoll_wait(load->poll, events, EVENTS, wait_ms);
    if (count < 0 && errno != EINTR) {
        return fail_errno(load, "epoll_wait");
    }
    load->now_ns = read_ns();
    for (int i = 0; i < count; i++) {
        if (!handle(load, &events[i])) {
            return false;
        }
    }
    if (job->rate > 0 && !send_due(load)) {
        return false;
    }
    if (load->issued == load->done) {
        load->heard_ns = load->now_ns;
    }
    if (load->now_ns > load->heard_ns + PATIENCE_S * second_ns) {
        return fail(load, "no answer for 10 seconds");
    }
    if (job->watch != NULL && load->now_ns >= load->watch_ns) {
        load->watch_ns = load->now_ns + job->watch_ms * UINT64_C(1000000);
        job->watch(job->watch_context, (double)(load->now_ns - load->start_ns) / 1e9);
    }
    return true;
}

static bool begin(struct load *load, const struct load_job *job, struct load_result *result)
{
    assert(job->rate > 0 ? job->count != 0 || job->seconds > 0 || job->next != NULL : true);
    *result = (struct load_result){.seconds = 0};
    load->job = job;
    load->is_stopped = false;
    load->resting = 0;
    load->read_bytes = READ_BYTES;
    load->issued = 0;
    load->done = 0;
    load->due = 0;
    load->error = result->error;
    load->start_ns = read_ns();
    load->now_ns = load->start_ns;
    load->heard_ns = load->start_ns;
    load->watch_ns = load->start_ns;
    load->end_ns = job->seconds > 0 ? load->start_ns + (uint64_t)(job->seconds * 1e9) : UINT64_MAX;
    bool good = true;
    for (unsigned i = 0; i < load->connection_count; i++) {
        load->connections[i].rests = false;
        load->connections[i].judged = 0;
        load->connections[i].turn = 0;
    }
    for (unsigned i = 0; good && job->rate <= 0 && i < load->connection_count; i++) {
        good = start_batch(load, &load->connections[i]);
    }
    return good;
}

static void end(const struct load *load, struct load_result *result)
{
    result->count = load->done;
    result->seconds = (double)(read_ns() - load->start_ns) / 1e9;
    result->requests_per_second = (double)load->done / result->seconds;
}

bool load_run(struct load *load, const struct load_job *job, struct load_result *result)
{
    uint64_t cpu_before_ns = server_cpu_ns(load->server);
    bool good = begin(load, job, result);
    while (good && !has_finished(load)) {
        good = turn(load, true);
    }
    end(load, result);
    if (result->count > 0) {
        uint64_t used_ns = server_cpu_ns(load->server) - cpu_before_ns;
        result->server_cpu_ns = (double)used_ns / (double)result->count;
    }
    return good;
}

bool load_run_beside(struct load *load, const struct load_job *job, struct load_result *result,
                     struct load *other, const struct load_job *other_job,
                     struct load_result *other_result)
{
    bool good = begin(load, job, result);
    bool other_good = begin(other, other_job, other_result);
    other->read_bytes = READ_BESIDE_BYTES;
    while (good && other_good && !has_finished(load)) {
        good = turn(load, false);
        other_good = turn(other, false);
    }
    end(load, result);
    other->is_stopped = true;
    while (good && other_good && !has_finished(other)) {
        other_good = turn(other, true);
    }
    end(other, other_result);
    return good && other_good;
}
