/* The checks of replies let nothing wrong pass: each byte of a right reply is changed once. */
#include "bench/protocol.h"

#include "tests/lib/suite.h"

#include <stdlib.h>
#include <string.h>

enum { POOL = 4096, VALUE = 300 };

static uint8_t pool[POOL + VALUE];
static uint8_t value[VALUE];
static struct protocol_values values = {.pool = pool,
                                        .pool_bytes = POOL,
                                        .value_bytes = VALUE,
                                        .ttl_s = 300,
                                        .series = 0x1122334455667788};

static const struct protocol_item replay_item = {.op = PROTOCOL_REPLAY, .thread = 7, .steps = 1};

static void setup(void)
{
    for (size_t i = 0; i < sizeof pool; i++) {
        pool[i] = (uint8_t)protocol_mix(i + 1);
    }
    protocol_write_step(&values, 7, 0, value);
}

START_TEST(test_values_differ)
{
    uint8_t key[2][PROTOCOL_NAME_BYTES];
    protocol_write_name(&values, 7, key[0]);
    protocol_write_name(&values, 8, key[1]);
    ck_assert_mem_eq(key[0], "112233445566778800000007", PROTOCOL_NAME_BYTES);
    ck_assert_mem_ne(key[0], key[1], PROTOCOL_NAME_BYTES);
    ck_assert(protocol_step_is_right(&values, 7, 0, value));
    ck_assert(!protocol_step_is_right(&values, 8, 0, value));
    ck_assert(!protocol_step_is_right(&values, 7, 1, value));
    struct protocol_values later = values;
    later.series++;
    ck_assert(!protocol_step_is_right(&later, 7, 0, value));
}
END_TEST

/* `loose`: bytes at the place of a number that may vary. */
static void check_each_byte(const struct protocol *protocol, enum protocol_op op, uint8_t *reply,
                            size_t size, size_t loose_from, size_t loose_to)
{
    const struct protocol_item item = {.op = op, .thread = 7, .steps = 1};
    ck_assert_uint_eq(protocol->reply_bytes(&values, &item, reply, size), size);
    ck_assert(protocol->reply_is_right(&values, &item, 5, reply, size));
    for (size_t i = 0; i < size; i++) {
        if (i >= loose_from && i < loose_to) {
            continue;
        }
        reply[i] ^= 1;
        bool framed = protocol->reply_bytes(&values, &item, reply, size) == size;
        ck_assert_msg(!framed || !protocol->reply_is_right(&values, &item, 5, reply, size),
                      "byte %zu was not looked at", i);
        reply[i] ^= 1;
    }
}

static const char expiry[] = "\xad"
                             "expires_in_ms\xce\x00\x04\x93\xe0"; /* 300000 */

START_TEST(test_rethread_replay)
{
    static const char head[] = "\xce\x00\x00\x01\xff\x94\x01\x05\xc0\x92\x86\xa6"
                               "status\xa8"
                               "complete\xa6thread\xc4\x18"
                               "112233445566778800000007\xa7"
                               "version"
                               "\x01\xa4head\x00\xa5steps\x91\x89\xa4step\x00\xa4turn\x00\xa5"
                               "final\xc3\xa5model\xc0\xab"
                               "response_id\xc0\xaatool_calls\x90\xa6"
                               "tokens\xc0\xa8segments\x91\x92\xa4text\xcd\x01\x2c\xa6source\xa6"
                               "memory";
    uint8_t reply[VALUE + 512];
    size_t size = 0;
    memcpy(reply, head, sizeof head - 1);
    size += sizeof head - 1;
    memcpy(reply + size, expiry, sizeof expiry - 1);
    size += sizeof expiry - 1;
    size_t loose = size - 4;
    memcpy(reply + size, "\xc5\x01\x2c", 3);
    size += 3;
    memcpy(reply + size, value, VALUE);
    size += VALUE;
    reply[3] = (uint8_t)((size - 5) >> 8);
    reply[4] = (uint8_t)(size - 5);
    ck_assert_uint_eq(protocol_rethread.reply_slot(reply, 0), 5);
    check_each_byte(&protocol_rethread, PROTOCOL_REPLAY, reply, size, loose, loose + 4);
    /* Beyond the ttl is wrong, and so is nothing left of it. */
    memcpy(reply + loose, "\x00\x04\x93\xe1", 4);
    ck_assert(!protocol_rethread.reply_is_right(&values, &replay_item, 5, reply, size));
    memcpy(reply + loose, "\x00\x00\x00\x00", 4);
    ck_assert(!protocol_rethread.reply_is_right(&values, &replay_item, 5, reply, size));
}
END_TEST

START_TEST(test_redis_replay)
{
    uint8_t reply[VALUE + 16];
    memcpy(reply, "$300\r\n", 6);
    memcpy(reply + 6, value, VALUE);
    memcpy(reply + 6 + VALUE, "\r\n", 2);
    for (size_t some = 0; some < 6; some++) {
        ck_assert_uint_eq(protocol_redis.reply_bytes(&values, &replay_item, reply, some), 0);
    }
    check_each_byte(&protocol_redis, PROTOCOL_REPLAY, reply, VALUE + 8, 0, 0);
}
END_TEST

START_TEST(test_redis_short)
{
    uint8_t ok[] = "+OK\r\n";
    check_each_byte(&protocol_redis, PROTOCOL_APPEND, ok, 5, 0, 0);
    uint8_t one[] = ":1\r\n";
    check_each_byte(&protocol_redis, PROTOCOL_FORGET, one, 4, 0, 0);
    uint8_t nothing[] = "$-1\r\n";
    ck_assert_uint_eq(protocol_redis.reply_bytes(&values, &replay_item, nothing, 5), 5);
    ck_assert(!protocol_redis.reply_is_right(&values, &replay_item, 5, nothing, 5));
}
END_TEST

START_TEST(test_lost_framing)
{
    ck_assert(protocol_rethread.reply_bytes(&values, &replay_item, (const uint8_t *)"\xcd", 1) ==
              PROTOCOL_BROKEN);
    ck_assert(protocol_rethread.reply_bytes(
                  &values, &replay_item, (const uint8_t *)"\xce\0\0\0\x01", 5) == PROTOCOL_BROKEN);
    uint8_t endless[100];
    memset(endless, 'x', sizeof endless);
    ck_assert(protocol_redis.reply_bytes(&values, &replay_item, endless, sizeof endless) ==
              PROTOCOL_BROKEN);
}
END_TEST

int main(void)
{
    return SUITE_RUN("protocol", setup, NULL, 0, test_values_differ, test_rethread_replay,
                     test_redis_replay, test_redis_short, test_lost_framing);
}
