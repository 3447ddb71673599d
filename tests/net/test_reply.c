/* Replies: what is built is what arrives, however little the socket takes at a time. */
#include "net/reply.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { KIB = 1024, STORE_BYTES = 4 * 1024 * 1024, OBJECTS = 16 };

static uint8_t store[STORE_BYTES]; /* what is referred to; object i begins at i * STORE/OBJECTS */
static int64_t pins[OBJECTS];
static struct net_buffers buffers;
static struct net_account account;
static struct net_reply reply;
static struct net_part all; /* the reply as one part */
static struct net_handler handler;
static int fds[2];
static uint8_t *expected;
static size_t expected_size;

static int64_t *pins_of(const void *object)
{
    size_t at = (size_t)((const uint8_t *)object - store);
    ck_assert_uint_eq(at % (STORE_BYTES / OBJECTS), 0);
    return &pins[at / (STORE_BYTES / OBJECTS)];
}

static void on_pin(const void *object)
{
    ++*pins_of(object);
}

static void on_unpin(const void *object)
{
    ck_assert_int_gt((*pins_of(object))--, 0);
}

static void setup(void)
{
    uint64_t seed = 4;
    int small = 8 * KIB;
    for (size_t i = 0; i < sizeof store; i++) {
        store[i] = (uint8_t)trial_random(&seed);
    }
    handler = (struct net_handler){.pin = on_pin, .unpin = on_unpin};
    net_buffers_init(&buffers, 8 << 20);
    account = (struct net_account){.buffers = &buffers};
    ck_assert(net_reply_create(&reply, &handler, &account));
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    ck_assert_int_eq(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    expected = malloc(64 << 20);
    ck_assert_ptr_nonnull(expected);
    expected_size = 0;
}

static void teardown(void)
{
    net_reply_destroy(&reply);
    ck_assert_uint_eq(net_buffers_used(&buffers), 0);
    ck_assert_int_eq(account.uncharged_bytes, 0);
    for (int i = 0; i < OBJECTS; i++) {
        ck_assert_int_eq(pins[i], 0);
    }
    free(expected);
    close(fds[0]);
    close(fds[1]);
}

static void add_copied(size_t size, uint8_t seed)
{
    uint8_t *room = net_reply_room(&reply, size + 10);
    ck_assert_ptr_nonnull(room);
    for (size_t i = 0; i < size; i++) {
        room[i] = (uint8_t)(seed + i * 3);
    }
    memcpy(expected + expected_size, room, size);
    expected_size += size;
    net_reply_commit(&reply, size);
}

static void add_referred(size_t object, size_t offset, size_t size)
{
    const uint8_t *start = store + object * (STORE_BYTES / OBJECTS);
    net_reply_refer(&reply, start + offset, size, start, STORE_BYTES / OBJECTS);
    memcpy(expected + expected_size, start + offset, size);
    expected_size += size;
}

/* Reads what has arrived and compares it. */
static size_t drain(size_t from)
{
    static uint8_t part[64 * KIB];
    ssize_t got;
    while ((got = recv(fds[1], part, sizeof part, MSG_DONTWAIT)) > 0) {
        ck_assert_uint_le(from + (size_t)got, expected_size);
        ck_assert_int_eq(memcmp(part, expected + from, (size_t)got), 0);
        from += (size_t)got;
    }
    return from;
}

static enum net_sent send_all(uint64_t *sent)
{
    all = net_reply_part(&reply);
    return net_reply_send(&reply, &all, fds[0], NET_SHARE_BYTES, sent);
}

/* As a connection does: send, keep the rest, send on. Returns how many sends it took. */
static unsigned deliver(void)
{
    uint64_t sent = 0;
    size_t arrived;
    unsigned sends = 1;
    enum net_sent outcome = send_all(&sent);
    ck_assert_uint_le(sent, NET_QUOTA_BYTES);
    struct net_output *output = NULL;
    if (outcome == NET_SENT_PART) {
        output = net_reply_keep(&reply, &all);
        ck_assert_ptr_nonnull(output);
    }
    /* The loop's scratch is used by the next connection. */
    net_reply_reset(&reply);
    uint8_t *room = net_reply_room(&reply, 200 * KIB);
    ck_assert_ptr_nonnull(room);
    memset(room, 0xdd, 200 * KIB);
    net_reply_reset(&reply);
    arrived = drain(0);
    ck_assert_uint_eq(arrived, sent);
    while (outcome == NET_SENT_PART) {
        uint64_t before = sent;
        outcome = net_output_send(output, &handler, &account, fds[0], NET_SHARE_BYTES, &sent);
        ck_assert_uint_le(sent - before, NET_QUOTA_BYTES);
        arrived = drain(arrived);
        ck_assert_uint_eq(arrived, sent);
        sends++;
    }
    ck_assert_int_eq(outcome, NET_SENT_ALL);
    if (output) {
        net_output_free(output, &handler, &account);
    }
    ck_assert_uint_eq(arrived, expected_size);
    ck_assert_uint_eq(net_buffers_used(&buffers), 0);
    expected_size = 0;
    return sends;
}

START_TEST(one_send_when_the_socket_takes_it)
{
    add_copied(100, 1);
    add_referred(3, 5, 1000);
    add_copied(50, 2);
    ck_assert_uint_eq(deliver(), 1);
    ck_assert_uint_eq(deliver(), 1); /* nothing to send is no error */
}
END_TEST

START_TEST(one_send_is_bounded)
{
    int large = 4 << 20;
    uint64_t sent = 0;
    /* Forcing takes a privilege; without it the socket may bound the send before the quota does. */
    bool forced = setsockopt(fds[0], SOL_SOCKET, SO_SNDBUFFORCE, &large, sizeof large) == 0;
    for (size_t i = 0; i < 4; i++) {
        add_referred(i, 0, 100 * KIB);
    }
    ck_assert_int_eq(send_all(&sent), NET_SENT_PART);
    ck_assert_uint_le(sent, NET_QUOTA_BYTES);
    ck_assert(!forced || sent == NET_QUOTA_BYTES);
    struct net_output *output = net_reply_keep(&reply, &all);
    net_reply_reset(&reply);
    sent = 0;
    ck_assert_int_eq(net_output_send(output, &handler, &account, fds[0], NET_SHARE_BYTES, &sent),
                     NET_SENT_PART);
    ck_assert_uint_le(sent, NET_SHARE_BYTES);
    ck_assert(!forced || sent == NET_SHARE_BYTES);
    net_output_free(output, &handler, &account);
}
END_TEST

START_TEST(what_is_long_begins_with_a_share)
{
    int large = 4 << 20;
    uint64_t sent = 0;
    bool forced = setsockopt(fds[0], SOL_SOCKET, SO_SNDBUFFORCE, &large, sizeof large) == 0;
    for (size_t i = 0; i < OBJECTS; i++) {
        add_referred(i, 0, 100 * KIB);
    }
    ck_assert_uint_gt(reply.size_bytes, 2 * NET_QUOTA_BYTES);
    ck_assert_int_eq(send_all(&sent), NET_SENT_PART);
    ck_assert_uint_le(sent, NET_SHARE_BYTES);
    ck_assert(!forced || sent == NET_SHARE_BYTES);
    net_reply_reset(&reply);
}
END_TEST

START_TEST(neighbouring_commits_are_one_piece)
{
    for (int i = 0; i < 100; i++) {
        uint8_t *room = net_reply_room(&reply, 10);
        memset(room, i, 10);
        net_reply_commit(&reply, 4);
        net_reply_commit(&reply, 6);
    }
    ck_assert_uint_eq(reply.piece_count, 1);
    ck_assert_uint_eq(reply.size_bytes, 1000);
}
END_TEST

START_TEST(room_asked_again_replaces_the_last)
{
    uint8_t *first = net_reply_room(&reply, 100);
    memset(first, 1, 100);
    uint8_t *second = net_reply_room(&reply, 50);
    ck_assert_ptr_eq(first, second);
    ck_assert_uint_eq(reply.size_bytes, 0);
}
END_TEST

START_TEST(committed_bytes_stay_put)
{
    uint8_t *first = net_reply_room(&reply, 100);
    memset(first, 7, 100);
    net_reply_commit(&reply, 100);
    for (int i = 0; i < 20; i++) {
        add_copied(100 * KIB, (uint8_t)i);
    }
    for (int i = 0; i < 100; i++) {
        ck_assert_uint_eq(first[i], 7);
    }
    first[0] = 9; /* a length filled in late goes out */
    memmove(expected + 100, expected, expected_size);
    memset(expected, 7, 100);
    expected[0] = 9;
    expected_size += 100;
    deliver();
}
END_TEST

START_TEST(mixed_replies_of_all_sizes)
{
    uint64_t seed = 11, rounds = trial_count(60);
    for (uint64_t round = 0; round < rounds; round++) {
        uint64_t pieces = 1 + trial_below(&seed, round % 5 == 0 ? 3000 : 40);
        size_t most = pieces > 100 ? 300 : 60 * KIB;
        for (uint64_t i = 0; i < pieces && expected_size < (4 << 20); i++) {
            size_t size = (size_t)trial_below(&seed, most) + 1;
            if (trial_random(&seed) & 1) {
                add_copied(size, (uint8_t)i);
            } else {
                add_referred(trial_below(&seed, OBJECTS), trial_below(&seed, 1000), size);
            }
        }
        deliver();
    }
}
END_TEST

START_TEST(an_output_that_is_dropped_unpins)
{
    uint64_t sent = 0;
    for (size_t i = 0; i < OBJECTS; i++) {
        add_copied(1000, 1);
        add_referred(i, 0, 100 * KIB);
    }
    ck_assert_int_eq(send_all(&sent), NET_SENT_PART);
    struct net_output *output = net_reply_keep(&reply, &all);
    net_reply_reset(&reply);
    ck_assert_int_eq(pins[OBJECTS - 1], 1);
    ck_assert_uint_ge(net_buffers_used(&buffers), 15 * 256 * KIB);
    ck_assert_uint_ge((uint64_t)account.uncharged_bytes, 15000);
    ck_assert_uint_lt((uint64_t)account.uncharged_bytes, 20000);
    drain(0);
    ck_assert_int_eq(net_output_send(output, &handler, &account, fds[0], NET_SHARE_BYTES, &sent),
                     NET_SENT_PART);
    net_output_free(output, &handler, &account);
}
END_TEST

/* Reads what is there and sends on, until so much was sent. */
static uint64_t send_until(struct net_output *output, uint64_t sent, uint64_t wanted)
{
    static uint8_t part[64 * KIB];
    while (sent < wanted) {
        while (recv(fds[1], part, sizeof part, MSG_DONTWAIT) > 0) {
        }
        net_output_send(output, &handler, &account, fds[0], NET_SHARE_BYTES, &sent);
    }
    return sent;
}

START_TEST(a_pinned_object_counts_whole_until_its_last_byte)
{
    const size_t object_bytes = STORE_BYTES / OBJECTS;
    uint64_t sent = 0;
    /* Many pieces of one object, headers between them, then one small piece of another. */
    for (size_t i = 0; i < 4; i++) {
        add_copied(10, 1);
        add_referred(3, i * 60 * KIB, 60 * KIB);
    }
    add_referred(5, 100, 20 * KIB);
    ck_assert_int_eq(send_all(&sent), NET_SENT_PART);
    struct net_output *output = net_reply_keep(&reply, &all);
    net_reply_reset(&reply);
    ck_assert_int_eq(pins[3], 1);
    ck_assert_uint_eq(output->held_bytes, 2 * object_bytes);
    sent = send_until(output, sent, 200 * KIB);
    ck_assert_uint_lt(sent, 240 * KIB);
    ck_assert_int_eq(pins[3], 1);
    ck_assert_uint_eq(output->held_bytes, 2 * object_bytes);
    ck_assert_uint_ge(net_buffers_used(&buffers), 2 * object_bytes);
    sent = send_until(output, sent, 240 * KIB + 50);
    ck_assert_uint_lt(sent, 260 * KIB + 40);
    ck_assert_int_eq(pins[3], 0);
    ck_assert_int_eq(pins[5], 1);
    ck_assert_uint_eq(output->held_bytes, object_bytes);
    send_until(output, sent, 260 * KIB + 40);
    ck_assert_uint_eq(output->held_bytes, 0);
    net_output_free(output, &handler, &account);
}
END_TEST

START_TEST(a_gone_peer_is_a_failure_not_a_signal)
{
    uint64_t sent = 0;
    close(fds[1]);
    fds[1] = -1;
    add_copied(100, 1);
    ck_assert_int_eq(send_all(&sent), NET_SENT_FAILED);
    net_reply_reset(&reply);
    fds[1] = dup(fds[0]);
}
END_TEST

START_TEST(full_and_without_room)
{
    ck_assert(!net_reply_is_full(&reply));
    add_copied(NET_QUOTA_BYTES - 1000, 1);
    ck_assert(!net_reply_is_full(&reply));
    add_copied(1000, 1);
    ck_assert(net_reply_is_full(&reply));
    net_reply_reset(&reply);
    for (int i = 0; i < NET_PIECES_FULL; i++) {
        ck_assert(!net_reply_is_full(&reply));
        net_reply_refer(&reply, store, 1, store, 1);
    }
    ck_assert(net_reply_is_full(&reply));
    net_reply_reset(&reply);
    /* Without room under the cap a turn ends early, and only the loop's own chunk is there. */
    net_account_force(&account, 8 << 20);
    add_copied(NET_FLOOR_BYTES, 1);
    ck_assert(net_reply_is_full(&reply));
    ck_assert_ptr_nonnull(net_reply_room(&reply, 100 * KIB));
    ck_assert_ptr_null(net_reply_room(&reply, 400 * KIB));
    net_account_give(&account, 8 << 20);
    ck_assert_ptr_nonnull(net_reply_room(&reply, 400 * KIB));
    ck_assert_ptr_null(net_reply_room(&reply, 9 << 20));
    net_reply_reset(&reply);
    expected_size = 0;
}
END_TEST

/* One connection of several that are answered together. */
struct peer {
    int fds[2];
    struct net_part part;
    struct net_output *output;
    size_t size; /* of what it is sent, filled with its number */
    size_t arrived;
};

enum { PEERS = 24 };
static struct peer peers[PEERS];

static void open_peer(struct peer *peer)
{
    int small = 8 * KIB;
    *peer = (struct peer){.size = 0};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, peer->fds), 0);
    ck_assert_int_eq(setsockopt(peer->fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
}

/* Of `store` each peer refers to what is filled with its number. */
static void build_part(struct peer *peer, uint8_t number, uint64_t *seed)
{
    net_reply_begin(&reply);
    for (uint64_t i = trial_below(seed, 20); i > 0; i--) {
        size_t size = 1 + trial_below(seed, trial_below(seed, 8) == 0 ? 100 * KIB : 2000);
        uint8_t *room = net_reply_room(&reply, size);
        ck_assert_ptr_nonnull(room);
        memset(room, number, size);
        net_reply_commit(&reply, size);
        if (trial_below(seed, 4) == 0) {
            net_reply_refer(&reply, store + number * 1000, 1000, store, STORE_BYTES / OBJECTS);
            size += 1000;
        }
        peer->size += size;
    }
    ck_assert_uint_eq(reply.size_bytes, peer->size);
    peer->part = net_reply_part(&reply);
}

static void send_part(struct peer *peer)
{
    uint64_t sent = 0;
    if (net_reply_send(&reply, &peer->part, peer->fds[0], NET_SHARE_BYTES, &sent) ==
        NET_SENT_PART) {
        peer->output = net_reply_keep(&reply, &peer->part);
        ck_assert_ptr_nonnull(peer->output);
    }
}

static void receive_part(struct peer *peer, uint8_t number)
{
    static uint8_t got[64 * KIB];
    uint64_t sent = 0;
    while (peer->arrived < peer->size) {
        ssize_t size = recv(peer->fds[1], got, sizeof got, 0);
        ck_assert_int_gt(size, 0);
        /* All bytes are the first, which is the number. */
        ck_assert_uint_eq(got[0], number);
        ck_assert_int_eq(memcmp(got, got + 1, (size_t)size - 1), 0);
        peer->arrived += (size_t)size;
        if (peer->output && net_output_send(peer->output, &handler, &account, peer->fds[0],
                                            NET_SHARE_BYTES, &sent) == NET_SENT_ALL) {
            net_output_free(peer->output, &handler, &account);
            peer->output = NULL;
        }
    }
    ck_assert_ptr_null(peer->output);
    ck_assert_int_lt(recv(peer->fds[1], got, sizeof got, MSG_DONTWAIT), 0);
    close(peer->fds[0]);
    close(peer->fds[1]);
}

/* Each peer gets its own bytes, all of them, whatever the sockets take and whatever comes after. */
START_TEST(parts_are_apart)
{
    uint64_t seed = 7, rounds = trial_count(60);
    for (size_t i = 0; i < PEERS * 1000; i++) {
        store[i] = (uint8_t)(i / 1000);
    }
    for (uint64_t round = 0; round < rounds; round++) {
        unsigned count = 0;
        do {
            open_peer(&peers[count]);
            build_part(&peers[count], (uint8_t)count, &seed);
            count++;
        } while (count < PEERS && !net_reply_is_heavy(&reply));
        for (unsigned i = 0; i < count; i++) {
            send_part(&peers[i]);
        }
        net_reply_reset(&reply);
        memset(net_reply_room(&reply, 200 * KIB), 0xdd, 200 * KIB);
        for (unsigned i = 0; i < count; i++) {
            receive_part(&peers[i], (uint8_t)i);
        }
    }
}
END_TEST

static void build_copied(struct peer *peer, uint8_t number, size_t size)
{
    net_reply_begin(&reply);
    uint8_t *room = net_reply_room(&reply, size);
    ck_assert_ptr_nonnull(room);
    memset(room, number, size);
    net_reply_commit(&reply, size);
    peer->size = size;
    peer->part = net_reply_part(&reply);
}

/* An earlier part that the socket did not take whole leaves the last one its chunk: it is kept, and
 * has gone with its connection, before the last one is sent. */
START_TEST(a_chunk_stays_with_the_last_part)
{
    struct peer first, last;
    open_peer(&first);
    open_peer(&last);
    build_copied(&first, 1, 50 * KIB);
    build_copied(&last, 2, 400 * KIB);
    ck_assert_ptr_ne(reply.newest, reply.base);
    send_part(&first);
    ck_assert_ptr_nonnull(first.output);
    ck_assert_uint_lt(net_output_bytes(first.output), 60 * KIB);
    ck_assert_ptr_ne(reply.newest, reply.base);
    net_output_free(first.output, &handler, &account);
    close(first.fds[0]);
    close(first.fds[1]);
    send_part(&last);
    ck_assert_ptr_nonnull(last.output);
    ck_assert_uint_ge(net_output_bytes(last.output), 400 * KIB);
    net_reply_reset(&reply);
    memset(net_reply_room(&reply, 200 * KIB), 0xdd, 200 * KIB);
    receive_part(&last, 2);
}
END_TEST

/* However much waits, the next part has the room that a turn may fill. */
START_TEST(a_part_finds_room_until_it_is_heavy)
{
    net_account_force(&account, 8 << 20);
    for (unsigned parts = 0; !net_reply_is_heavy(&reply); parts++) {
        ck_assert_uint_lt(parts, NET_HEAVY_PIECES);
        net_reply_begin(&reply);
        ck_assert_ptr_nonnull(net_reply_room(&reply, NET_QUOTA_BYTES));
        net_reply_commit(&reply, 1500);
        ck_assert_uint_eq(reply.size_bytes, 1500);
    }
    ck_assert_uint_ge(reply.whole_bytes, 40 * KIB);
    net_reply_reset(&reply);
    ck_assert(!net_reply_is_heavy(&reply));
    for (unsigned i = 0; i < NET_HEAVY_PIECES; i++) {
        ck_assert(!net_reply_is_heavy(&reply));
        net_reply_begin(&reply);
        net_reply_refer(&reply, store, 1, store, 1);
        ck_assert(!net_reply_is_full(&reply));
    }
    ck_assert(net_reply_is_heavy(&reply));
    net_reply_reset(&reply);
    net_account_give(&account, 8 << 20);
    /* What lies in a chunk of its own is the last part's. */
    net_reply_commit(&reply, net_reply_room(&reply, 400 * KIB) ? 10 : 0);
    ck_assert(net_reply_is_heavy(&reply));
    net_reply_reset(&reply);
}
END_TEST

START_TEST(a_hurried_part_is_heavy)
{
    net_reply_hurry(&reply);
    ck_assert(net_reply_is_heavy(&reply));
    net_reply_begin(&reply);
    ck_assert(net_reply_is_heavy(&reply));
    net_reply_reset(&reply);
    ck_assert(!net_reply_is_heavy(&reply));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("reply");
    TCase *c = tcase_create("reply");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, one_send_when_the_socket_takes_it);
    tcase_add_test(c, one_send_is_bounded);
    tcase_add_test(c, what_is_long_begins_with_a_share);
    tcase_add_test(c, neighbouring_commits_are_one_piece);
    tcase_add_test(c, room_asked_again_replaces_the_last);
    tcase_add_test(c, committed_bytes_stay_put);
    tcase_add_test(c, mixed_replies_of_all_sizes);
    tcase_add_test(c, an_output_that_is_dropped_unpins);
    tcase_add_test(c, a_pinned_object_counts_whole_until_its_last_byte);
    tcase_add_test(c, a_gone_peer_is_a_failure_not_a_signal);
    tcase_add_test(c, full_and_without_room);
    tcase_add_test(c, parts_are_apart);
    tcase_add_test(c, a_chunk_stays_with_the_last_part);
    tcase_add_test(c, a_part_finds_room_until_it_is_heavy);
    tcase_add_test(c, a_hurried_part_is_heavy);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return suite_main(suite());
}
