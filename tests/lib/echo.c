/* The echo server and its clients. */
#include "tests/lib/echo.h"

#include "base/log.h"
#include "tests/lib/trial.h"
#include "wire/request.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint8_t *pattern;
static _Atomic int64_t pins;
static _Atomic unsigned gate_reached, gate_opened;

/* ---- The handler -------------------------------------------------------------------------- */

static void make_pattern(void)
{
    pattern = malloc(ECHO_PATTERN_BYTES);
    ck_assert_ptr_nonnull(pattern);
    for (size_t i = 0; i < ECHO_PATTERN_BYTES; i++) {
        pattern[i] = (uint8_t)(i * 31 + i / 251);
    }
}

static uint64_t hash_of(const uint8_t *data, size_t size)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ data[i]) * UINT64_C(1099511628211);
    }
    return hash;
}

static void put_sum(uint8_t sum[12], const uint8_t *data, size_t size)
{
    bytes_store_be32(sum, (uint32_t)size);
    bytes_store_be64(sum + 4, hash_of(data, size));
}

static void put_header(uint8_t *at, size_t size)
{
    at[0] = WIRE_HEADER_MARK;
    bytes_store_be32(at + 1, (uint32_t)size);
}

static bool answer(struct net_reply *reply, const uint8_t *data, size_t size)
{
    uint8_t *room = net_reply_room(reply, WIRE_HEADER_BYTES + size);
    if (!room) {
        return false;
    }
    put_header(room, size);
    if (size > 0) {
        memcpy(room + WIRE_HEADER_BYTES, data, size);
    }
    net_reply_commit(reply, WIRE_HEADER_BYTES + size);
    return true;
}

static bool answer_pieces(struct net_reply *reply, uint32_t count)
{
    uint8_t *room = net_reply_room(reply, WIRE_HEADER_BYTES + 8 * (size_t)count);
    if (!room) {
        return false;
    }
    put_header(room, 8 * (size_t)count);
    net_reply_commit(reply, WIRE_HEADER_BYTES);
    room += WIRE_HEADER_BYTES;
    for (uint32_t i = 0; i < count; i++) {
        if (i % 2 == 0) {
            memcpy(room, pattern + (size_t)i * 8, 8);
            net_reply_commit(reply, 8);
            room += 8;
        } else {
            net_reply_refer(reply, pattern + (size_t)i * 8, 8, pattern, 8 * (size_t)count);
        }
    }
    return true;
}

static bool answer_reference(struct net_reply *reply, uint32_t size)
{
    uint8_t *room = net_reply_room(reply, WIRE_HEADER_BYTES);
    if (!room) {
        return false;
    }
    put_header(room, size);
    net_reply_commit(reply, WIRE_HEADER_BYTES);
    net_reply_refer(reply, pattern, size, pattern, size);
    return true;
}

static void pass_gate(void)
{
    /* Pairs with echo_wait_at_gate, and the load with echo_open_gate. */
    unsigned number = atomic_fetch_add(&gate_reached, 1) + 1;
    while (atomic_load(&gate_opened) < number) {
        usleep(500);
    }
}

static int waiting_in(int fd)
{
    int waiting = 0;
    ck_assert_int_eq(ioctl(fd, FIONREAD, &waiting), 0);
    return waiting;
}

enum done { DONE, DEFERRED, NO_ROOM };

static enum done run(const struct echo *echo, struct net_reply *reply, struct bytes body,
                     struct net_deferral deferral)
{
    ck_assert_uint_ge(body.size, 1);
    const uint8_t *rest = body.data + 1;
    size_t size = body.size - 1;
    uint32_t number = size >= 4 ? bytes_load_be32(rest) : 0;
    uint8_t sum[12];
    switch (body.data[0]) {
    case 'E':
        return answer(reply, rest, size) ? DONE : NO_ROOM;
    case 'H':
        put_sum(sum, rest, size);
        return answer(reply, sum, sizeof sum) ? DONE : NO_ROOM;
    case 'R':
        return answer_reference(reply, number) ? DONE : NO_ROOM;
    case 'M':
        return answer(reply, pattern, number) ? DONE : NO_ROOM;
    case 'P':
        return answer_pieces(reply, number) ? DONE : NO_ROOM;
    case 'D':
        if (deferral.attempts < number) {
            return DEFERRED;
        }
        ck_assert_uint_eq(deferral.attempts, number);
        return answer(reply, rest + 4, size - 4) ? DONE : NO_ROOM;
    case 'W':
        ck_assert(deferral.attempts > 0 || deferral.time_ms == 0);
        if (deferral.time_ms < number) {
            return DEFERRED;
        }
        bytes_store_be32(sum, deferral.attempts);
        return answer(reply, sum, 4) ? DONE : NO_ROOM;
    case 'N':
        bytes_store_be32(sum, (uint32_t)atomic_load(&echo->served));
        return answer(reply, sum, 4) ? DONE : NO_ROOM;
    case 'Q':
        bytes_store_be32(sum, (uint32_t)waiting_in((int)number));
        return answer(reply, sum, 4) ? DONE : NO_ROOM;
    case 'G':
        pass_gate();
        return answer(reply, NULL, 0) ? DONE : NO_ROOM;
    default:
        ck_abort_msg("unknown command");
    }
    return DONE;
}

static void on_prepare(void *context, const struct bytes *bodies, unsigned count)
{
    struct echo *echo = context;
    ck_assert(echo->online);
    ck_assert_uint_ge(count, 1);
    ck_assert_uint_le(count, NET_BATCH_MAX);
    echo->prepared = bodies;
    echo->prepared_end = bodies + count;
    atomic_fetch_add(&echo->groups, 1);
    if (count > atomic_load(&echo->group_max)) {
        atomic_store(&echo->group_max, count);
    }
}

static unsigned on_serve(void *context, struct net_reply *reply, const struct bytes *bodies,
                         unsigned count, struct net_deferral deferral, bool *deferred)
{
    struct echo *echo = context;
    ck_assert(echo->online);
    ck_assert_uint_ge(count, 1);
    /* By parts of what was prepared, in its order. */
    ck_assert(bodies >= echo->prepared && bodies + count <= echo->prepared_end);
    echo->prepared = bodies + count;
    atomic_fetch_add(&echo->batches, 1);
    if (count > atomic_load(&echo->batch_max)) {
        atomic_store(&echo->batch_max, count);
    }
    *deferred = false;
    for (unsigned i = 0; i < count; i++) {
        if (i > 0 && net_reply_is_full(reply)) {
            return i;
        }
        enum done done = run(echo, reply, bodies[i], i == 0 ? deferral : (struct net_deferral){0});
        if (done != DONE) {
            *deferred = done == DEFERRED;
            return i;
        }
        atomic_fetch_add(&echo->served, 1);
    }
    return count;
}

static bool on_refuse(void *context, struct net_reply *reply, struct bytes body, enum status status)
{
    struct echo *echo = context;
    ck_assert(echo->online);
    uint8_t text[10] = {'X', (uint8_t)status};
    size_t size = body.size < 8 ? body.size : 8;
    if (size > 0) {
        memcpy(text + 2, body.data, size);
    }
    atomic_fetch_add(&echo->refused, 1);
    return answer(reply, text, 2 + size);
}

static void on_pin(const void *object)
{
    ck_assert_ptr_eq(object, pattern);
    atomic_fetch_add(&pins, 1);
}

static void on_unpin(const void *object)
{
    ck_assert_ptr_eq(object, pattern);
    ck_assert_int_gt(atomic_fetch_sub(&pins, 1), 0);
}

static void on_online(void *context)
{
    struct echo *echo = context;
    ck_assert(!echo->online);
    echo->online = true;
}

static void on_offline(void *context)
{
    struct echo *echo = context;
    ck_assert(echo->online);
    echo->online = false;
}

static void on_read_clock(void *context)
{
    const struct echo *echo = context;
    ck_assert(echo->online);
}

static bool on_tend(void *context)
{
    struct echo *echo = context;
    ck_assert(echo->online);
    if (echo->moved > atomic_load(&echo->moved_max)) {
        atomic_store(&echo->moved_max, echo->moved);
    }
    echo->moved = 0;
    uint64_t tends = atomic_fetch_add(&echo->tends, 1) + 1;
    return tends < echo->tend_calls_wanted;
}

static void on_charge(void *context, int64_t bytes)
{
    struct echo *echo = context;
    ck_assert(echo->online);
    atomic_fetch_add(&echo->charged_bytes, bytes);
}

static void on_count(void *context, enum metric metric, uint64_t by)
{
    struct echo *echo = context;
    ck_assert(echo->online);
    atomic_fetch_add(&echo->counts[metric], by);
    if (metric == METRIC_BYTES_SENT || metric == METRIC_BYTES_RECEIVED) {
        echo->moved += by;
    }
}

/* ---- The server --------------------------------------------------------------------------- */

void echo_prepare(struct echo_server *server)
{
    memset(server, 0, sizeof *server);
    if (!pattern) {
        make_pattern();
    }
    log_open(STDERR_FILENO, LOG_ERROR);
    clock_driven_init(&server->clock, 1000000);
    ck_assert(net_address_parse("127.0.0.1:0", &server->address));
    server->settings = (struct net_settings){
        .listen = &server->address,
        .listen_count = 1,
        .loops = 1,
        .frame_max_bytes = 32 << 20,
        .buffers_max_bytes = 64 << 20,
        .connections_max = 100000,
        .clock = &server->clock.clock,
    };
}

static void *run_front(void *context)
{
    net_run(context);
    return NULL;
}

void echo_start(struct echo_server *server)
{
    ck_assert_uint_le(server->settings.loops, ECHO_LOOPS_MAX);
    for (unsigned i = 0; i < server->settings.loops; i++) {
        server->handlers[i] = (struct net_handler){
            .context = &server->echoes[i],
            .prepare = on_prepare,
            .serve = on_serve,
            .refuse = on_refuse,
            .pin = on_pin,
            .unpin = on_unpin,
            .online = on_online,
            .offline = on_offline,
            .read_clock = on_read_clock,
            .tend = on_tend,
            .charge = on_charge,
            .count = on_count,
        };
    }
    server->net = net_create(&server->settings, server->handlers);
    ck_assert_ptr_nonnull(server->net);
    ck_assert(net_listening(server->net, 0, &server->address));
    ck_assert(net_start(server->net));
    ck_assert_int_eq(pthread_create(&server->front, NULL, run_front, server->net), 0);
}

/* Nothing is left behind. */
static void check_end(struct echo_server *server)
{
    ck_assert_uint_eq(net_connections(server->net), 0);
    ck_assert_uint_eq(net_buffer_bytes(server->net), 0);
    ck_assert_int_eq(echo_pins(), 0);
    for (unsigned i = 0; i < server->settings.loops; i++) {
        ck_assert(!server->echoes[i].online);
        ck_assert_int_eq(server->echoes[i].charged_bytes, 0);
    }
    net_destroy(server->net);
    free(pattern);
    pattern = NULL;
}

void echo_join(struct echo_server *server)
{
    /* What the drain waits for is bounded by the clock, which stands still by itself. */
    while (pthread_tryjoin_np(server->front, NULL) != 0) {
        clock_driven_advance(&server->clock, 5);
        usleep(5000);
    }
    check_end(server);
}

void echo_join_now(struct echo_server *server)
{
    ECHO_WAIT(pthread_tryjoin_np(server->front, NULL) == 0);
    check_end(server);
}

void echo_stop(struct echo_server *server)
{
    net_stop(server->net);
    echo_join(server);
}

void echo_come_round(struct echo_server *server)
{
    uint64_t tends[ECHO_LOOPS_MAX];
    for (unsigned i = 0; i < server->settings.loops; i++) {
        tends[i] = atomic_load(&server->echoes[i].tends);
    }
    for (unsigned i = 0; i < server->settings.loops; i++) {
        /* The first may end an iteration that had begun before. */
        ECHO_WAIT(atomic_load(&server->echoes[i].tends) >= tends[i] + 2);
    }
}

void echo_pass(struct echo_server *server, uint64_t time_ms)
{
    uint64_t step_ms = time_ms >= 10000 ? 5000 : 500;
    for (uint64_t passed = 0; passed < time_ms; passed += step_ms) {
        uint64_t left_ms = time_ms - passed;
        clock_driven_advance(&server->clock, left_ms < step_ms ? left_ms : step_ms);
        echo_come_round(server);
    }
}

uint64_t echo_served(struct echo_server *server)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < server->settings.loops; i++) {
        sum += atomic_load(&server->echoes[i].served);
    }
    return sum;
}

uint64_t echo_count(struct echo_server *server, enum metric metric)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < server->settings.loops; i++) {
        sum += atomic_load(&server->echoes[i].counts[metric]);
    }
    return sum;
}

int64_t echo_pins(void)
{
    return atomic_load(&pins);
}

void echo_wait_at_gate(void)
{
    ECHO_WAIT(atomic_load(&gate_reached) > atomic_load(&gate_opened));
}

void echo_open_gate(void)
{
    atomic_fetch_add(&gate_opened, 1);
}

unsigned echo_patience_s(void)
{
    /* Somewhat less than a test is given, so that it can tell what it waited for. */
    const char *limit = getenv("CK_DEFAULT_TIMEOUT");
    const char *factor = getenv("CK_TIMEOUT_MULTIPLIER");
    double limit_s = limit ? strtod(limit, NULL) : 4;
    double patience_s = limit_s * (factor ? strtod(factor, NULL) : 1) * 3 / 4;
    return patience_s >= 1 ? (unsigned)patience_s : 1;
}

/* ---- Clients ------------------------------------------------------------------------------ */

static int connect_by(const struct echo_server *server, int buffer_bytes)
{
    struct timeval patience = {.tv_sec = echo_patience_s()};
    int fd = socket(server->address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    if (buffer_bytes > 0) {
        ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes),
                         0);
    }
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience), 0);
    ck_assert_int_eq(
        connect(fd, (const struct sockaddr *)&server->address.storage, server->address.size), 0);
    return fd;
}

int echo_connect(const struct echo_server *server)
{
    return connect_by(server, 0);
}

int echo_connect_narrow(const struct echo_server *server)
{
    return connect_by(server, 4096);
}

void echo_send(int fd, const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size > 0) {
        ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        ck_assert_msg(sent > 0, "send: %s", strerror(errno));
        at += sent;
        size -= (size_t)sent;
    }
}

size_t echo_try_send(int fd, const void *data, size_t size)
{
    ssize_t sent = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent > 0 ? (size_t)sent : 0;
}

void echo_wait_arrived(int fd)
{
    int unacknowledged = 0;
    ECHO_WAIT(ioctl(fd, SIOCOUTQ, &unacknowledged) == 0 && unacknowledged == 0);
}

/* The server's end of a connection, since both are in this process. */
static int other_end(int fd)
{
    struct sockaddr_in own, peer;
    socklen_t size = sizeof own;
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&own, &size), 0);
    for (int other = 0; other < 1024; other++) {
        size = sizeof peer;
        if (getpeername(other, (struct sockaddr *)&peer, &size) == 0 && size == sizeof peer &&
            peer.sin_family == AF_INET && peer.sin_port == own.sin_port) {
            return other;
        }
    }
    ck_abort_msg("a connection without another end");
    return -1;
}

/* True: nothing is left. What is not acknowledged can still come; what is can be received. */
static bool drain_once(int fd, int other, size_t *sum)
{
    static uint8_t rest[256 * 1024];
    int under_way = 1;
    ck_assert_int_eq(ioctl(other, SIOCOUTQ, &under_way), 0);
    for (ssize_t got; (got = recv(fd, rest, sizeof rest, MSG_DONTWAIT)) > 0;) {
        *sum += (size_t)got;
    }
    return under_way == 0;
}

size_t echo_drain(int fd)
{
    int other = other_end(fd);
    size_t sum = 0;
    ECHO_WAIT(drain_once(fd, other, &sum));
    return sum;
}

size_t echo_put_frame(uint8_t *at, char command, const void *data, size_t size)
{
    put_header(at, size + 1);
    at[WIRE_HEADER_BYTES] = (uint8_t)command;
    if (size > 0) {
        memcpy(at + WIRE_HEADER_BYTES + 1, data, size);
    }
    return WIRE_HEADER_BYTES + 1 + size;
}

void echo_send_frame(int fd, char command, const void *data, size_t size)
{
    uint8_t *frame = malloc(WIRE_HEADER_BYTES + 1 + size);
    ck_assert_ptr_nonnull(frame);
    echo_send(fd, frame, echo_put_frame(frame, command, data, size));
    free(frame);
}

void echo_send_number(int fd, char command, uint32_t number)
{
    uint8_t text[4];
    bytes_store_be32(text, number);
    echo_send_frame(fd, command, text, sizeof text);
}

ssize_t echo_recv(int fd, void *at, size_t size)
{
    ssize_t got;
    do {
        got = recv(fd, at, size, 0);
    } while (got < 0 && errno == EINTR);
    return got;
}

/* False at the end of the stream. */
static bool receive_all(int fd, uint8_t *at, size_t size)
{
    while (size > 0) {
        ssize_t got = echo_recv(fd, at, size);
        if (got == 0 || (got < 0 && errno == ECONNRESET)) {
            return false;
        }
        ck_assert_msg(got > 0, "recv: %s", strerror(errno));
        at += got;
        size -= (size_t)got;
    }
    return true;
}

uint8_t *echo_receive(int fd, size_t *size)
{
    uint8_t header[WIRE_HEADER_BYTES];
    *size = SIZE_MAX;
    if (!receive_all(fd, header, sizeof header)) {
        return NULL;
    }
    ck_assert_uint_eq(header[0], WIRE_HEADER_MARK);
    size_t declared = bytes_load_be32(header + 1);
    uint8_t *body = malloc(declared + 1);
    ck_assert_ptr_nonnull(body);
    if (!receive_all(fd, body, declared)) {
        free(body);
        return NULL;
    }
    *size = declared;
    return body;
}

void echo_expect(int fd, const void *data, size_t size)
{
    size_t got;
    uint8_t *body = echo_receive(fd, &got);
    ck_assert_uint_eq(got, size);
    ck_assert(size == 0 || memcmp(body, data, size) == 0);
    free(body);
}

void echo_expect_pattern(int fd, size_t size)
{
    echo_expect(fd, pattern, size);
}

void echo_expect_refusal(int fd, enum status status)
{
    size_t got;
    uint8_t *body = echo_receive(fd, &got);
    ck_assert_msg(got != SIZE_MAX && got >= 2, "no answer");
    ck_assert_int_eq(body[0], 'X');
    ck_assert_int_eq(body[1], (int)status);
    free(body);
}

void echo_expect_end(int fd)
{
    size_t got;
    uint8_t *body = echo_receive(fd, &got);
    ck_assert_uint_eq(got, SIZE_MAX);
    free(body);
}

unsigned echo_until_drained(int fd)
{
    for (unsigned served = 0;; served++) {
        size_t size;
        echo_send_frame(fd, 'E', "?", 1);
        uint8_t *body = echo_receive(fd, &size);
        bool refused = size == 4 && body[0] == 'X' && body[1] == STATUS_SHUTTING_DOWN;
        ck_assert(refused || (size == 1 && body[0] == '?'));
        free(body);
        if (refused) {
            return served;
        }
    }
}

void echo_expect_hash(int fd, const uint8_t *data, size_t size)
{
    uint8_t sum[12];
    put_sum(sum, data, size);
    echo_expect(fd, sum, sizeof sum);
}

uint8_t *echo_random_bytes(size_t size, uint64_t seed)
{
    uint8_t *data = malloc(size);
    ck_assert_ptr_nonnull(data);
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)trial_random(&seed);
    }
    return data;
}
