/* Answers that come later, and waking a loop: on real sockets, with a handler of its own. */
#include "net/later.h"
#include "tests/lib/echo.h"
#include "tests/lib/suite.h"
#include "wire/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { KIB = 1024, MIB = 1024 * 1024, TICKETS = 4096, ROOM_BYTES = 700 };

/*
 * The handler. The first byte of a body says what is wanted, the next four are a number:
 *   'E'  the number comes back            'M'  so many zero bytes come back
 *   'L'  the number comes back later      'C'  likewise at once, after a later one was cancelled
 *   'F'  like L, with a frame that fills its room
 *   'W'  put off until `loaded`, then the number comes back
 */
struct ticket {
    struct net_later *later;
    bool fills;
};

static struct echo_server server;
static struct ticket tickets[TICKETS]; /* the loop's, by number */
static _Atomic unsigned taken;         /* tickets so far */
static _Atomic unsigned refused;       /* reservations that failed */
static _Atomic uint64_t wanted[TICKETS / 64];
static _Atomic bool load_wanted;
static _Atomic bool loaded;
static uint64_t onlines; /* the loop's, as is the next */
static uint64_t loaded_in;
static _Atomic unsigned served_where_loaded;
static _Atomic uint64_t deferred_count;

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
    if (data) {
        memcpy(room + WIRE_HEADER_BYTES, data, size);
    } else {
        memset(room + WIRE_HEADER_BYTES, 0, size);
    }
    net_reply_commit(reply, WIRE_HEADER_BYTES + size);
    return true;
}

static bool take_ticket(struct net_reply *reply, uint32_t number, bool fills)
{
    ck_assert_uint_lt(number, TICKETS);
    struct net_later *later = net_reply_later(reply, ROOM_BYTES);
    if (!later) {
        atomic_fetch_add(&refused, 1);
        return false;
    }
    memset(net_later_room(later), 0xA5, ROOM_BYTES); /* all of it is ours */
    ck_assert_ptr_null(tickets[number].later);
    tickets[number] = (struct ticket){.later = later, .fills = fills};
    atomic_fetch_add(&taken, 1);
    return true;
}

static bool cancel_one(struct net_reply *reply)
{
    struct net_later *later = net_reply_later(reply, ROOM_BYTES);
    if (later) {
        net_later_cancel(later);
    }
    return later;
}

static unsigned on_serve(void *context, struct net_reply *reply, const struct bytes *bodies,
                         unsigned count, struct net_deferral deferral, bool *deferred)
{
    struct echo *echo = context;
    (void)deferral;
    ck_assert(echo->online);
    *deferred = false;
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *rest = bodies[i].data + 1;
        uint32_t number = bytes_load_be32(rest);
        bool done = false;
        if (i > 0 && net_reply_is_full(reply)) {
            return i;
        }
        switch (bodies[i].data[0]) {
        case 'E':
            done = answer(reply, rest, 4);
            break;
        case 'M':
            done = answer(reply, NULL, number);
            break;
        case 'C':
            done = cancel_one(reply) && answer(reply, rest, 4);
            break;
        case 'W':
            *deferred = !atomic_load(&loaded);
            atomic_fetch_add(&deferred_count, *deferred);
            atomic_fetch_add(&served_where_loaded, !*deferred && loaded_in == onlines);
            done = !*deferred && answer(reply, rest, 4);
            break;
        default:
            done = take_ticket(reply, number, bodies[i].data[0] == 'F');
        }
        if (!done) {
            return i;
        }
    }
    return count;
}

static bool on_refuse(void *context, struct net_reply *reply, struct bytes body, enum status status)
{
    uint8_t text[2] = {'X', (uint8_t)status};
    (void)context;
    (void)body;
    return answer(reply, text, sizeof text);
}

static void no_pin(const void *object)
{
    (void)object;
    ck_abort_msg("nothing is referred to");
}

static void on_online(void *context)
{
    ((struct echo *)context)->online = true;
    onlines++;
}

static void on_offline(void *context)
{
    ((struct echo *)context)->online = false;
}

static void on_read_clock(void *context)
{
    (void)context;
}

static void send_ticket(uint32_t number)
{
    uint8_t small[WIRE_HEADER_BYTES + 4];
    struct ticket *ticket = &tickets[number];
    uint8_t *frame = ticket->fills ? net_later_room(ticket->later) : small;
    size_t size = ticket->fills ? ROOM_BYTES : sizeof small;
    put_header(frame, size - WIRE_HEADER_BYTES);
    bytes_store_be32(frame + WIRE_HEADER_BYTES, number);
    net_later_send(ticket->later, frame, size);
    ticket->later = NULL;
}

static bool on_tend(void *context)
{
    struct echo *echo = context;
    ck_assert(echo->online);
    atomic_fetch_add(&echo->tends, 1);
    for (unsigned word = 0; word < TICKETS / 64; word++) {
        uint64_t bits = atomic_exchange(&wanted[word], 0);
        for (unsigned bit = 0; bits != 0; bit++, bits >>= 1) {
            if (bits & 1) {
                send_ticket(word * 64 + bit);
            }
        }
    }
    if (atomic_exchange(&load_wanted, false)) {
        loaded_in = onlines;
        atomic_store(&loaded, true);
    }
    return false;
}

static void on_charge(void *context, int64_t bytes)
{
    atomic_fetch_add(&((struct echo *)context)->charged_bytes, bytes);
}

static void on_count(void *context, enum metric metric, uint64_t by)
{
    atomic_fetch_add(&((struct echo *)context)->counts[metric], by);
}

/* ---- The server, and its clients ---- */

static void *run_front(void *net)
{
    net_run(net);
    return NULL;
}

static void prepare(void)
{
    echo_prepare(&server);
    memset(tickets, 0, sizeof tickets);
    atomic_store(&taken, 0);
    atomic_store(&refused, 0);
    atomic_store(&loaded, false);
    atomic_store(&served_where_loaded, 0);
}

static void start(void)
{
    server.handlers[0] = (struct net_handler){
        .context = &server.echoes[0],
        .serve = on_serve,
        .refuse = on_refuse,
        .pin = no_pin,
        .unpin = no_pin,
        .online = on_online,
        .offline = on_offline,
        .read_clock = on_read_clock,
        .tend = on_tend,
        .charge = on_charge,
        .count = on_count,
    };
    server.net = net_create(&server.settings, server.handlers);
    ck_assert_ptr_nonnull(server.net);
    ck_assert(net_listening(server.net, 0, &server.address));
    ck_assert(net_start(server.net));
    ck_assert_int_eq(pthread_create(&server.front, NULL, run_front, server.net), 0);
}

static void ask(int fd, char command, uint32_t number)
{
    echo_send_number(fd, command, number);
}

static void want(uint32_t number)
{
    atomic_fetch_or(&wanted[number / 64], UINT64_C(1) << number % 64);
}

static void give(uint32_t number)
{
    want(number);
    net_wake(server.net, 0);
}

static void expect(int fd, uint32_t number)
{
    uint8_t text[4];
    bytes_store_be32(text, number);
    echo_expect(fd, text, sizeof text);
}

/* ---- The tests ---- */

START_TEST(others_go_first)
{
    prepare();
    start();
    int fd = echo_connect(&server);
    ask(fd, 'L', 1);
    ask(fd, 'L', 2);
    ask(fd, 'E', 3);
    expect(fd, 3);
    give(2);
    expect(fd, 2);
    ask(fd, 'C', 4);
    expect(fd, 4);
    give(1);
    expect(fd, 1);
    ECHO_WAIT(net_buffer_bytes(server.net) == 0);
    close(fd);
    echo_stop(&server);
}
END_TEST

START_TEST(many_answers_at_once)
{
    prepare();
    start();
    int fd = echo_connect(&server);
    for (uint32_t number = 0; number < NET_LATERS_MAX; number++) {
        ask(fd, 'F', number);
    }
    ECHO_WAIT(atomic_load(&taken) == NET_LATERS_MAX);
    ck_assert_uint_ge(net_buffer_bytes(server.net), NET_LATERS_MAX * ROOM_BYTES);
    for (uint32_t number = 0; number < NET_LATERS_MAX; number++) {
        want(number);
    }
    net_wake(server.net, 0);
    bool seen[NET_LATERS_MAX] = {false};
    for (uint32_t i = 0; i < NET_LATERS_MAX; i++) {
        size_t size;
        uint8_t *body = echo_receive(fd, &size);
        ck_assert_uint_eq(size, ROOM_BYTES - WIRE_HEADER_BYTES);
        uint32_t number = bytes_load_be32(body);
        ck_assert(number < NET_LATERS_MAX && !seen[number]);
        seen[number] = true;
        for (size_t at = 4; at < size; at++) {
            ck_assert_uint_eq(body[at], 0xA5);
        }
        free(body);
    }
    ECHO_WAIT(net_buffer_bytes(server.net) == 0);
    close(fd);
    echo_stop(&server);
}
END_TEST

/* The next request waits for an answer, for however long, and then goes on at once. */
START_TEST(a_connection_awaits_only_so_many)
{
    prepare();
    start();
    int fd = echo_connect(&server);
    for (uint32_t number = 0; number <= NET_LATERS_MAX + 1; number++) {
        ask(fd, 'L', number);
    }
    ask(fd, 'E', 77);
    ECHO_WAIT(atomic_load(&refused) > 0);
    echo_pass(&server, 3 * NET_NO_ROOM_MS);
    ck_assert_uint_eq(atomic_load(&taken), NET_LATERS_MAX);
    ck_assert_uint_le(atomic_load(&refused), 3); /* it is not asked again and again */
    give(5);
    expect(fd, 5);
    ECHO_WAIT(atomic_load(&taken) == NET_LATERS_MAX + 1);
    give(6);
    expect(fd, 6);
    expect(fd, 77);
    ck_assert_uint_eq(atomic_load(&taken), NET_LATERS_MAX + 2);
    close(fd);
    ECHO_WAIT(net_connections(server.net) == 1); /* it is still owed answers */
    for (uint32_t number = 7; number <= NET_LATERS_MAX + 1; number++) {
        want(number);
    }
    net_wake(server.net, 0);
    for (uint32_t number = 0; number < 5; number++) {
        give(number);
    }
    ECHO_WAIT(net_connections(server.net) == 0);
    echo_stop(&server);
}
END_TEST

/* Who hangs up hard is gone, and the memory counts until the handler lets it go. */
START_TEST(nobody_awaits_it_any_more)
{
    prepare();
    start();
    struct linger reset = {.l_onoff = 1};
    int fd = echo_connect(&server);
    ask(fd, 'L', 1);
    ask(fd, 'L', 2);
    ECHO_WAIT(atomic_load(&taken) == 2);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    close(fd);
    give(1); /* finds out */
    ECHO_WAIT(net_connections(server.net) == 0);
    ECHO_WAIT(net_buffer_bytes(server.net) >= ROOM_BYTES);
    ck_assert_uint_lt(net_buffer_bytes(server.net), 2 * ROOM_BYTES);
    give(2);
    ECHO_WAIT(net_buffer_bytes(server.net) == 0);
    echo_stop(&server);
}
END_TEST

START_TEST(a_half_closed_peer_gets_its_answers)
{
    prepare();
    start();
    int fd = echo_connect(&server);
    ask(fd, 'L', 1);
    ask(fd, 'L', 2);
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    ECHO_WAIT(atomic_load(&taken) == 2);
    give(1);
    expect(fd, 1);
    usleep(100000);
    give(2);
    expect(fd, 2);
    echo_expect_end(fd);
    close(fd);
    ECHO_WAIT(net_connections(server.net) == 0);
    echo_stop(&server);
}
END_TEST

START_TEST(bad_framing_does_not_cost_earlier_answers)
{
    prepare();
    start();
    int fd = echo_connect(&server);
    ask(fd, 'L', 1);
    echo_send(fd, "junk", 4);
    echo_expect_refusal(fd, STATUS_BAD_REQUEST);
    give(1);
    expect(fd, 1);
    echo_expect_end(fd);
    close(fd);
    echo_stop(&server);
}
END_TEST

START_TEST(it_is_not_idle_meanwhile)
{
    prepare();
    server.settings.idle_timeout_ms = 1000;
    start();
    int fd = echo_connect(&server);
    ask(fd, 'L', 1);
    uint8_t part[WIRE_HEADER_BYTES + 3];
    put_header(part, 5);
    memset(part + WIRE_HEADER_BYTES, 'E', 3);
    echo_send(fd, part, sizeof part); /* nor is what it began too slow */
    ECHO_WAIT(atomic_load(&taken) == 1);
    echo_pass(&server, 2 * NET_STALL_MS);
    ck_assert_uint_eq(net_connections(server.net), 1);
    give(1);
    expect(fd, 1);
    echo_pass(&server, 4000);
    ECHO_WAIT(net_connections(server.net) == 0);
    close(fd);
    echo_stop(&server);
}
END_TEST

/* The socket is full of something else: the answer follows it whole. */
START_TEST(an_answer_follows_unsent_output)
{
    prepare();
    start();
    int fd = echo_connect_narrow(&server);
    ask(fd, 'L', 1);
    ask(fd, 'M', 8 * MIB);
    ask(fd, 'E', 2);
    ECHO_WAIT(atomic_load(&taken) == 1 && net_buffer_bytes(server.net) > MIB);
    give(1);
    usleep(100000);
    size_t size;
    uint8_t *body = echo_receive(fd, &size);
    ck_assert_uint_eq(size, 8 * MIB);
    free(body);
    expect(fd, 1);
    expect(fd, 2);
    close(fd);
    echo_stop(&server);
}
END_TEST

/* Buffers are full: requests wait until answers have made room. */
START_TEST(reservations_count_against_the_cap)
{
    enum { MANY = 400 };
    prepare();
    server.settings.buffers_max_bytes = NET_SPARE_BYTES + 64 * KIB;
    server.settings.frame_max_bytes = 64 * KIB;
    start();
    int fd = echo_connect(&server);
    for (uint32_t number = 0; number < MANY; number++) {
        ask(fd, 'L', number);
    }
    ECHO_WAIT(atomic_load(&refused) > 0);
    ck_assert_uint_le(net_buffer_bytes(server.net), NET_SPARE_BYTES + 64 * KIB + 8 * KIB);
    for (uint32_t number = 0; number < MANY; number++) {
        ECHO_WAIT(atomic_load(&taken) > number);
        give(number);
        expect(fd, number);
    }
    close(fd);
    echo_stop(&server);
}
END_TEST

START_TEST(the_drain_waits_for_answers)
{
    prepare();
    start();
    int fd = echo_connect(&server);
    int other = echo_connect(&server);
    ask(fd, 'L', 1);
    ask(other, 'L', 2);
    ECHO_WAIT(atomic_load(&taken) == 2);
    net_stop(server.net);
    for (int i = 0; i < 10; i++) {
        clock_driven_advance(&server.clock, server.settings.drain_ms / 20);
        usleep(20000);
    }
    ask(fd, 'E', 3);
    echo_expect_refusal(fd, STATUS_SHUTTING_DOWN);
    give(1);
    expect(fd, 1);
    ck_assert_uint_eq(net_connections(server.net), 2); /* the other is still owed one */
    give(2);
    expect(other, 2);
    echo_expect_end(other);
    echo_expect_end(fd);
    close(fd);
    close(other);
    echo_join(&server);
}
END_TEST

/* Only for so long; the handler lets go of what is left when the loop has ended, as a lane does. */
START_TEST(the_drain_does_not_wait_for_ever)
{
    prepare();
    start();
    int fd = echo_connect(&server);
    ask(fd, 'L', 1);
    ask(fd, 'L', 2);
    ECHO_WAIT(atomic_load(&taken) == 2);
    net_stop(server.net);
    usleep(100000);
    ck_assert_uint_eq(net_connections(server.net), 1);
    clock_driven_advance(&server.clock, server.settings.drain_ms);
    echo_join(&server);
    echo_expect_end(fd);
    close(fd);
    send_ticket(1);
    net_later_cancel(tickets[2].later);
}
END_TEST

/*
 * Much sooner than the tick of 50 ms, wherever neither the loop nor this test is kept from running:
 * left to the tick, hardly any answer comes within a quarter of it.
 */
START_TEST(waking_makes_it_tend_at_once)
{
    enum { ROUNDS = 400, ROUNDS_MOST = 2000, PROMPT = 200 };
    uint32_t prompt = 0;
    prepare();
    start();
    int fd = echo_connect(&server);
    for (uint32_t number = 0; number < ROUNDS || prompt < PROMPT; number++) {
        ck_assert_uint_lt(number, ROUNDS_MOST);
        ask(fd, 'L', number);
        ECHO_WAIT(atomic_load(&taken) == number + 1);
        give(number);
        uint64_t from_ms = clock_read_ms(clock_monotonic());
        net_wake(server.net, 0);
        expect(fd, number);
        prompt += clock_read_ms(clock_monotonic()) - from_ms < NET_TICK_MS / 4;
    }
    close(fd);
    echo_stop(&server);
}
END_TEST

/* What it was woken for is there before requests that wait for it have their turn. */
START_TEST(waking_lets_deferred_requests_go_on)
{
    enum { ROUNDS = 50 };
    prepare();
    start();
    int fd = echo_connect(&server);
    for (uint32_t number = 0; number < ROUNDS; number++) {
        atomic_store(&loaded, false);
        uint64_t before = atomic_load(&deferred_count);
        ask(fd, 'W', number);
        ECHO_WAIT(atomic_load(&deferred_count) > before + 40); /* it is polled for by now */
        atomic_store(&load_wanted, true);
        net_wake(server.net, 0);
        expect(fd, number);
    }
    /* A poll may come first now and then. */
    ck_assert_uint_ge(atomic_load(&served_where_loaded), ROUNDS / 2);
    close(fd);
    echo_stop(&server);
}
END_TEST

int main(void)
{
    return SUITE_RUN("later", NULL, NULL, 60, others_go_first, many_answers_at_once,
                     a_connection_awaits_only_so_many, nobody_awaits_it_any_more,
                     a_half_closed_peer_gets_its_answers, bad_framing_does_not_cost_earlier_answers,
                     it_is_not_idle_meanwhile, an_answer_follows_unsent_output,
                     reservations_count_against_the_cap, the_drain_waits_for_answers,
                     the_drain_does_not_wait_for_ever, waking_makes_it_tend_at_once,
                     waking_lets_deferred_requests_go_on);
}
