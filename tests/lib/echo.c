/* The echo server; its clients are in echo_client.c. */
#include "tests/lib/echo.h"

#include "base/log.h"
#include "wire/request.h"

#include <check.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
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
    case 'L':
        if (!atomic_load(&echo->has_it) && !deferral.draining) {
            net_reply_be_patient(reply);
            return DEFERRED;
        }
        bytes_store_be32(sum, deferral.attempts);
        return answer(reply, sum, 4) ? DONE : NO_ROOM;
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
        .drain_ms = 5000,
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

/* ---- What it answered ------------------------------------------------------------------------ */

void echo_expect_pattern(int fd, size_t size)
{
    echo_expect(fd, pattern, size);
}

void echo_expect_hash(int fd, const uint8_t *data, size_t size)
{
    uint8_t sum[12];
    put_sum(sum, data, size);
    echo_expect(fd, sum, sizeof sum);
}
