/*
 * The checks of replies let nothing wrong pass: each byte of a right reply is changed once, each
 * right reply is cut everywhere, and errors are seen for what they are. What is right is written
 * out here a second time; test_protocol_runs.c asks the servers themselves.
 */
#include "bench/protocol.h"

#include "base/bytes.h"

#include "tests/lib/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POOL = 4096, VALUE = 300, THREAD = 7, SLOT = 5, REPLY_MAX = 4096, TTL_MS = 300000 };

static uint8_t pool[POOL + VALUE];
static struct protocol_values values;
static struct protocol_values keyed;

/* The second step of a thread is bare, the fourth is small. */
static uint32_t size_of(const void *shape, uint32_t thread, uint32_t step)
{
    (void)shape;
    (void)thread;
    return step == 1 ? 0 : step == 3 ? PROTOCOL_STAMP_BYTES + 1 : VALUE;
}

static void setup(void)
{
    for (size_t i = 0; i < sizeof pool; i++) {
        pool[i] = (uint8_t)protocol_mix(i + 1);
    }
    values = (struct protocol_values){.pool = pool,
                                      .pool_bytes = POOL,
                                      .value_bytes = VALUE,
                                      .ttl_s = TTL_MS / 1000,
                                      .series = 0x1122334455667788};
    keyed = values;
    keyed.keyed = true;
    keyed.size_of = size_of;
}

/* ---- Replies that are written by hand ---- */

struct reply {
    uint8_t bytes[REPLY_MAX];
    size_t size;
    size_t loose; /* where the time until expiry stands, 4 bytes; 0: nowhere */
};

static void put(struct reply *reply, const void *data, size_t size)
{
    ck_assert_uint_le(reply->size + size, REPLY_MAX);
    memcpy(reply->bytes + reply->size, data, size);
    reply->size += size;
}

#define PUT(reply, literal) put((reply), (literal), sizeof(literal) - 1)

static void put_step(struct reply *reply, const struct protocol_values *of, uint32_t step)
{
    uint8_t bytes[VALUE];
    protocol_write_step(of, THREAD, step, bytes);
    put(reply, bytes, protocol_step_bytes(of, THREAD, step));
}

static void put_key(struct reply *reply, uint32_t step, enum protocol_key key)
{
    uint8_t bytes[PROTOCOL_KEY_BYTES_MAX];
    put(reply, bytes, protocol_write_key(&keyed, THREAD, step, key, bytes));
}

static void put_expiry(struct reply *reply, uint32_t ms)
{
    uint8_t number[5] = {0xce};
    bytes_store_be32(number + 1, ms);
    PUT(reply, "\xad"
               "expires_in_ms");
    put(reply, number, sizeof number);
    reply->loose = reply->size - 4;
}

static void set_frame(struct reply *reply)
{
    bytes_store_be32(reply->bytes + 1, (uint32_t)(reply->size - 5));
}

static void make_replay(struct reply *reply)
{
    *reply = (struct reply){.size = 0};
    PUT(reply, "\xce\x00\x00\x00\x00\x94\x01\x05\xc0\x92\x86\xa6"
               "status\xa8"
               "complete\xa6thread\xc4\x18"
               "112233445566778800000007\xa7"
               "version"
               "\x01\xa4head\x00\xa5steps\x91\x89\xa4step\x00\xa4turn\x00\xa5"
               "final\xc3\xa5model\xc0\xab"
               "response_id\xc0\xaatool_calls\x90\xa6"
               "tokens\xc0\xa8segments\x91\x92\xa4text\xcd\x01\x2c\xa6source\xa6"
               "memory");
    put_expiry(reply, TTL_MS);
    PUT(reply, "\xc5\x01\x2c");
    put_step(reply, &values, 0);
    set_frame(reply);
}

static void put_keyed_step(struct reply *reply, uint32_t step)
{
    const uint8_t number = (uint8_t)step;
    PUT(reply, "\x89\xa4step");
    put(reply, &number, 1);
    PUT(reply, "\xa4turn\x00\xa5"
               "final\xc2\xa5model\xc0\xab"
               "response_id\xc4\x1a");
    put_key(reply, step, PROTOCOL_RESPONSE_ID);
    PUT(reply, "\xaatool_calls\x91\xc4\x1a");
    put_key(reply, step, PROTOCOL_TOOL_CALL);
    PUT(reply, "\xa6tokens\xc0\xa8segments");
    if (step == 1) {
        PUT(reply, "\x90");
    } else if (step == 3) {
        PUT(reply, "\x91\x92\xa4text\x09");
    } else {
        PUT(reply, "\x91\x92\xa4text\xcd\x01\x2c");
    }
    PUT(reply, "\xa6source\xa6memory");
}

/* Four steps, one of them bare. */
static void make_keyed_replay(struct reply *reply)
{
    *reply = (struct reply){.size = 0};
    PUT(reply, "\xce\x00\x00\x00\x00\x94\x01\x05\xc0\x94\x86\xa6"
               "status\xa8"
               "complete\xa6thread\xc4\x18"
               "112233445566778800000007\xa7"
               "version"
               "\x04\xa4head\x03\xa5steps\x94");
    for (uint32_t step = 0; step < 4; step++) {
        put_keyed_step(reply, step);
    }
    put_expiry(reply, TTL_MS);
    PUT(reply, "\xc5\x01\x2c");
    put_step(reply, &keyed, 0);
    PUT(reply, "\xc5\x01\x2c");
    put_step(reply, &keyed, 2);
    PUT(reply, "\xc4\x09");
    put_step(reply, &keyed, 3);
    set_frame(reply);
}

static void make_append(struct reply *reply)
{
    *reply = (struct reply){.size = 0};
    PUT(reply, "\xce\x00\x00\x00\x00\x94\x01\x05\xc0\x91\x87\xa6thread\xc4\x18"
               "112233445566778800000007\xa4step\x02\xa7version\x03\xa7"
               "created\xc2\xa9"
               "duplicate\xc2\xa4lost\x00");
    put_expiry(reply, TTL_MS);
    set_frame(reply);
}

static void make_list(struct reply *reply)
{
    *reply = (struct reply){.size = 0};
    PUT(reply, "*4\r\n$300\r\n");
    put_step(reply, &keyed, 0);
    PUT(reply, "\r\n$0\r\n\r\n$300\r\n");
    put_step(reply, &keyed, 2);
    PUT(reply, "\r\n$9\r\n");
    put_step(reply, &keyed, 3);
    PUT(reply, "\r\n:1\r\n");
}

static void make_text(struct reply *reply, const char *text)
{
    *reply = (struct reply){.size = 0};
    put(reply, text, strlen(text));
}

static void make_value(struct reply *reply, const char *head)
{
    make_text(reply, head);
    put_step(reply, &values, 0);
    PUT(reply, "\r\n");
}

/* ---- What is asked of each ---- */

static bool is_right(const struct protocol *protocol, const struct protocol_values *of,
                     const struct protocol_item *item, const uint8_t *reply, size_t size)
{
    return protocol->reply_bytes(of, item, reply, size) == size &&
           protocol_reply_is_right(protocol, of, item, SLOT, reply, 0, size);
}

static void check_each_byte(const struct protocol *protocol, const struct protocol_values *of,
                            const struct protocol_item *item, struct reply *reply)
{
    for (size_t i = 0; i < reply->size; i++) {
        bool is_loose = reply->loose > 0 && i >= reply->loose && i < reply->loose + 4;
        for (unsigned bit = 0; bit < 8 && !is_loose; bit++) {
            reply->bytes[i] ^= (uint8_t)(1U << bit);
            ck_assert_msg(!is_right(protocol, of, item, reply->bytes, reply->size),
                          "%s: byte %zu was not looked at", protocol->name, i);
            reply->bytes[i] ^= (uint8_t)(1U << bit);
        }
    }
}

/* A reply that is cut is waited for; and one that ends there passes for no other. */
static void check_each_cut(const struct protocol *protocol, const struct protocol_values *of,
                           const struct protocol_item *item, const struct reply *reply)
{
    for (size_t cut = 1; cut < reply->size; cut++) {
        uint8_t *some = malloc(cut); /* of its own, so that reading on is seen */
        memcpy(some, reply->bytes, cut);
        size_t bytes = protocol->reply_bytes(of, item, some, cut);
        ck_assert_msg(bytes == 0 || bytes == reply->size, "%s: cut at %zu", protocol->name, cut);
        if (some[0] == 0xce && cut > 8) {
            bytes_store_be32(some + 1, (uint32_t)(cut - 5));
        }
        if (some[0] != 0xce || cut > 8) {
            ck_assert(!protocol_reply_is_right(protocol, of, item, SLOT, some, 0, cut));
        }
        free(some);
    }
    struct reply longer = *reply;
    PUT(&longer, "\n");
    if (longer.bytes[0] == 0xce) {
        set_frame(&longer);
    }
    ck_assert(!protocol_reply_is_right(protocol, of, item, SLOT, longer.bytes, 0, longer.size));
}

/* By parts: what is right passes however it is cut, and each wrong byte is found in its part. */
static void check_parts(const struct protocol *protocol, const struct protocol_values *of,
                        const struct protocol_item *item, struct reply *reply)
{
    size_t first = reply->bytes[0] == 0xce ? 9 : 1;
    for (size_t to = first; to < reply->size; to++) {
        ck_assert(protocol_part_is_right(protocol, of, item, SLOT, reply->bytes, 0, to));
        ck_assert(protocol_part_is_right(protocol, of, item, SLOT, reply->bytes, to - first, to));
        ck_assert(protocol_reply_is_right(protocol, of, item, SLOT, reply->bytes, to, reply->size));
    }
    for (size_t i = first; i < reply->size; i++) {
        if (reply->loose > 0 && i + 1 >= reply->loose && i < reply->loose + 4) {
            continue;
        }
        reply->bytes[i] ^= 1;
        ck_assert_msg(!protocol_part_is_right(protocol, of, item, SLOT, reply->bytes, i, i + 1),
                      "%s: byte %zu was not looked at", protocol->name, i);
        ck_assert(!protocol_reply_is_right(protocol, of, item, SLOT, reply->bytes, i, reply->size));
        reply->bytes[i] ^= 1;
    }
}

static void check(const struct protocol *protocol, const struct protocol_values *of,
                  const struct protocol_item *item, struct reply *reply)
{
    ck_assert_uint_eq(protocol->reply_bytes(of, item, reply->bytes, reply->size), reply->size);
    ck_assert(protocol_reply_is_right(protocol, of, item, SLOT, reply->bytes, 0, reply->size));
    check_each_byte(protocol, of, item, reply);
    check_each_cut(protocol, of, item, reply);
    check_parts(protocol, of, item, reply);
}

static struct protocol_item item_of(enum protocol_op op, uint32_t step, uint32_t steps)
{
    return (struct protocol_item){.op = op, .thread = THREAD, .step = step, .steps = steps};
}

START_TEST(test_values_differ)
{
    uint8_t name[2][PROTOCOL_NAME_BYTES];
    protocol_write_name(&values, 7, name[0]);
    protocol_write_name(&values, 8, name[1]);
    ck_assert_mem_eq(name[0], "112233445566778800000007", PROTOCOL_NAME_BYTES);
    ck_assert_mem_ne(name[0], name[1], PROTOCOL_NAME_BYTES);
    uint8_t bytes[VALUE];
    protocol_write_step(&values, 7, 0, bytes);
    ck_assert(protocol_step_is_right(&values, 7, 0, bytes));
    ck_assert(!protocol_step_is_right(&values, 8, 0, bytes));
    ck_assert(!protocol_step_is_right(&values, 7, 1, bytes));
    struct protocol_values later = values;
    later.series++;
    ck_assert(!protocol_step_is_right(&later, 7, 0, bytes));
}
END_TEST

/* No key of a step is another's, nor the same step's of another kind. */
START_TEST(test_keys_differ)
{
    enum { STEPS = 40, KEYS = 3 * 3 * STEPS };
    static uint8_t key[KEYS][PROTOCOL_KEY_BYTES_MAX];
    size_t size[KEYS];
    unsigned count = 0;
    for (uint32_t i = 0; i < STEPS; i++) {
        for (unsigned kind = 0; kind < 3; kind++, count += 3) {
            struct protocol_values later = values;
            later.series++;
            size[count] = protocol_write_key(&values, i, 0, (enum protocol_key)kind, key[count]);
            size[count + 1] =
                protocol_write_key(&values, 3, i + 1, (enum protocol_key)kind, key[count + 1]);
            size[count + 2] =
                protocol_write_key(&later, i, 0, (enum protocol_key)kind, key[count + 2]);
        }
    }
    ck_assert_uint_eq(count, KEYS);
    for (unsigned i = 0; i < KEYS; i++) {
        ck_assert_uint_eq(size[i], i / 3 % 3 == PROTOCOL_PREFIX ? 16 : 26);
        for (unsigned other = 0; other < i; other++) {
            ck_assert(size[i] != size[other] || memcmp(key[i], key[other], size[i]) != 0);
        }
    }
}
END_TEST

START_TEST(test_rethread)
{
    struct reply reply;
    const struct protocol_item replay = item_of(PROTOCOL_REPLAY, 0, 1);
    make_replay(&reply);
    ck_assert_uint_eq(protocol_rethread.reply_slot(reply.bytes, 0), SLOT);
    check(&protocol_rethread, &values, &replay, &reply);
    /* Far beyond the ttl is wrong without a disk tier, and so is nothing left of it. */
    bytes_store_be32(reply.bytes + reply.loose, TTL_MS + 1001);
    ck_assert(!is_right(&protocol_rethread, &values, &replay, reply.bytes, reply.size));
    values.retained = true;
    ck_assert(is_right(&protocol_rethread, &values, &replay, reply.bytes, reply.size));
    bytes_store_be32(reply.bytes + reply.loose, 0);
    ck_assert(!is_right(&protocol_rethread, &values, &replay, reply.bytes, reply.size));
}
END_TEST

START_TEST(test_rethread_keyed)
{
    struct reply reply;
    const struct protocol_item replay = item_of(PROTOCOL_REPLAY, 0, 4);
    make_keyed_replay(&reply);
    check(&protocol_rethread, &keyed, &replay, &reply);
    const struct protocol_item append = item_of(PROTOCOL_APPEND, 2, 0);
    make_append(&reply);
    check(&protocol_rethread, &keyed, &append, &reply);
    const struct protocol_item forget = item_of(PROTOCOL_FORGET, 0, 4);
    reply = (struct reply){.size = 0};
    PUT(&reply, "\xce\x00\x00\x00\x00\x94\x01\x05\xc0\x91\x81\xa9"
                "forgotten\xc3");
    set_frame(&reply);
    check(&protocol_rethread, &keyed, &forget, &reply);
}
END_TEST

START_TEST(test_redis)
{
    struct reply reply;
    const struct protocol_item items[] = {item_of(PROTOCOL_REPLAY, 0, 1),
                                          item_of(PROTOCOL_APPEND, 0, 0),
                                          item_of(PROTOCOL_FORGET, 0, 1)};
    make_value(&reply, "$300\r\n");
    check(&protocol_redis, &values, &items[0], &reply);
    make_text(&reply, "+OK\r\n");
    check(&protocol_redis, &values, &items[1], &reply);
    make_text(&reply, ":1\r\n");
    check(&protocol_redis, &values, &items[2], &reply);
    make_text(&reply, "$-1\r\n");
    ck_assert_uint_eq(protocol_redis.reply_bytes(&values, &items[0], reply.bytes, 5), 5);
    ck_assert(!is_right(&protocol_redis, &values, &items[0], reply.bytes, 5));
}
END_TEST

START_TEST(test_redis_lists)
{
    struct reply reply;
    const struct protocol_item replay = item_of(PROTOCOL_REPLAY, 0, 4);
    make_list(&reply);
    check(&protocol_redis_lists, &keyed, &replay, &reply);
    const struct protocol_item append = item_of(PROTOCOL_APPEND, 2, 0);
    make_text(&reply, "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n"
                      "*5\r\n:3\r\n+OK\r\n+OK\r\n+OK\r\n:1\r\n");
    check(&protocol_redis_lists, &keyed, &append, &reply);
    make_text(&reply, ":3\r\n:1\r\n");
    check(&protocol_redis_lists, &values, &append, &reply);
    const struct protocol_item forget = item_of(PROTOCOL_FORGET, 0, 4);
    make_text(&reply, ":13\r\n");
    check(&protocol_redis_lists, &keyed, &forget, &reply);
    make_text(&reply, ":1\r\n");
    check(&protocol_redis_lists, &values, &forget, &reply);
}
END_TEST

START_TEST(test_memcached)
{
    struct reply reply;
    const struct protocol_item items[] = {item_of(PROTOCOL_REPLAY, 0, 1),
                                          item_of(PROTOCOL_APPEND, 0, 0),
                                          item_of(PROTOCOL_FORGET, 0, 1)};
    make_value(&reply, "VA 300\r\n");
    check(&protocol_memcached, &values, &items[0], &reply);
    make_text(&reply, "HD\r\n");
    check(&protocol_memcached, &values, &items[1], &reply);
    check(&protocol_memcached, &values, &items[2], &reply);
}
END_TEST

/* Whole, as far as it goes, and wrong: so it is shown. */
static void check_refusal(const struct protocol *protocol, const struct protocol_values *of,
                          enum protocol_op op, const char *text)
{
    const struct protocol_item item = item_of(op, 0, op == PROTOCOL_REPLAY);
    size_t size = strlen(text);
    ck_assert_uint_eq(protocol->reply_bytes(of, &item, (const uint8_t *)text, size), size);
    ck_assert(!protocol_reply_is_right(protocol, of, &item, SLOT, (const uint8_t *)text, 0, size));
}

START_TEST(test_refusals)
{
    check_refusal(&protocol_redis, &values, PROTOCOL_REPLAY, "-ERR no\r\n");
    check_refusal(&protocol_redis_lists, &values, PROTOCOL_REPLAY, "-WRONGTYPE no\r\n");
    check_refusal(&protocol_redis_lists, &values, PROTOCOL_APPEND, ":1\r\n-OOM no\r\n");
    check_refusal(&protocol_redis_lists, &keyed, PROTOCOL_APPEND, "+OK\r\n-OOM no\r\n");
    check_refusal(&protocol_redis_lists, &keyed, PROTOCOL_APPEND,
                  "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n"
                  "*5\r\n-WRONGTYPE no\r\n");
    check_refusal(&protocol_memcached, &values, PROTOCOL_REPLAY, "EN\r\n");
    check_refusal(&protocol_memcached, &values, PROTOCOL_REPLAY, "\n");
    check_refusal(&protocol_memcached, &values, PROTOCOL_APPEND, "SERVER_ERROR no\r\n");
    static const uint8_t refusal[] = "\xce\x00\x00\x00\x16\x94\x01\x05\x82\xa4"
                                     "code\xa4"
                                     "busy\xa7message\xa0\xc0";
    const struct protocol_item item = item_of(PROTOCOL_REPLAY, 0, 1);
    size_t size = protocol_rethread.reply_bytes(&values, &item, refusal, sizeof refusal - 1);
    ck_assert_uint_eq(size, 27);
    ck_assert(!protocol_reply_is_right(&protocol_rethread, &values, &item, SLOT, refusal, 0, size));
}
END_TEST

START_TEST(test_lost_framing)
{
    const struct protocol_item item = item_of(PROTOCOL_REPLAY, 0, 1);
    ck_assert(protocol_rethread.reply_bytes(&values, &item, (const uint8_t *)"\xcd", 1) ==
              PROTOCOL_BROKEN);
    ck_assert(protocol_rethread.reply_bytes(&values, &item, (const uint8_t *)"\xce\0\0\0\x01", 5) ==
              PROTOCOL_BROKEN);
    static uint8_t endless[1000];
    memset(endless, 'x', sizeof endless);
    const struct protocol *const all[] = {&protocol_redis, &protocol_redis_lists,
                                          &protocol_memcached};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        ck_assert(all[i]->reply_bytes(&values, &item, endless, sizeof endless) == PROTOCOL_BROKEN);
    }
    ck_assert(protocol_redis.reply_bytes(&values, &item, (const uint8_t *)"$x\r\n", 4) ==
              PROTOCOL_BROKEN);
    ck_assert(protocol_memcached.reply_bytes(&values, &item, (const uint8_t *)"VA x\r\n", 6) ==
              PROTOCOL_BROKEN);
}
END_TEST

int main(void)
{
    return SUITE_RUN("protocol", setup, NULL, 60, test_values_differ, test_keys_differ,
                     test_rethread, test_rethread_keyed, test_redis, test_redis_lists,
                     test_memcached, test_refusals, test_lost_framing);
}
