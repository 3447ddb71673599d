/* What servers say of themselves, whole, cut anywhere and spoilt. */
#include "bench/gauge.h"

#include "tests/lib/suite.h"

#include <string.h>
#include <unistd.h>

#define BYTES(literal) (const uint8_t *)(literal), sizeof(literal) - 1

static const char redis[] = ":1000123\r\n"
                            "$55\r\n"
                            "# Memory\r\n"
                            "used_memory:34567890\r\n"
                            "used_memory_rss:99999\r\n"
                            "\r\n"
                            "+next";
enum { REDIS_BYTES = sizeof redis - 1 - 5 };

static const char memcached[] = "STAT pid 12\r\n"
                                "STAT bytes_read 7\r\n"
                                "STAT curr_items 42\r\n"
                                "STAT bytes 4711\r\n"
                                "END\r\n";
enum { MEMCACHED_BYTES = sizeof memcached - 1 };

/* [1, 1, nil, [{"threads": {"live": 5, "other": 9}, "memory": {"payload_bytes": 300,
 * "used_bytes": 70000}, "disk": {"live": 8}}]] */
static const char info[] = "\xce\x00\x00\x00\x51"
                           "\x94\x01\x01\xc0\x91\x83"
                           "\xa7threads\x82\xa4live\x05\xa5other\x09"
                           "\xa6memory\x82\xad"
                           "payload_bytes\xcd\x01\x2c\xaaused_bytes\xce\x00\x01\x11\x70"
                           "\xa4"
                           "disk\x81\xa4live\x08";
enum { INFO_BYTES = sizeof info - 1 };

static void check_cuts(enum gauge_kind kind, const char *text, size_t size)
{
    struct gauge_reading reading;
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t copy[GAUGE_REPLY_BYTES_MAX];
        memcpy(copy, text, cut);
        ck_assert_uint_eq(gauge_parse(kind, copy, cut, &reading), 0);
    }
    ck_assert_uint_eq(gauge_parse(kind, (const uint8_t *)text, size, &reading), size);
}

START_TEST(test_redis)
{
    struct gauge_reading reading;
    ck_assert_uint_eq(gauge_parse(GAUGE_REDIS, BYTES(redis), &reading), REDIS_BYTES);
    ck_assert_uint_eq(reading.keys, 1000123);
    ck_assert_uint_eq(reading.accounted_bytes, 34567890);
    check_cuts(GAUGE_REDIS, redis, REDIS_BYTES);
    ck_assert(gauge_parse(GAUGE_REDIS, BYTES("-ERR no\r\n-ERR no\r\n"), &reading) == GAUGE_BROKEN);
    ck_assert(gauge_parse(GAUGE_REDIS, BYTES(":1\r\n$5\r\nother\r\n"), &reading) == GAUGE_BROKEN);
}
END_TEST

START_TEST(test_memcached)
{
    struct gauge_reading reading;
    ck_assert_uint_eq(gauge_parse(GAUGE_MEMCACHED, BYTES(memcached), &reading), MEMCACHED_BYTES);
    ck_assert_uint_eq(reading.keys, 42);
    ck_assert_uint_eq(reading.held_bytes, 4711);
    check_cuts(GAUGE_MEMCACHED, memcached, MEMCACHED_BYTES);
    ck_assert(gauge_parse(GAUGE_MEMCACHED, BYTES("ERROR\r\n"), &reading) == GAUGE_BROKEN);
    ck_assert(gauge_parse(GAUGE_MEMCACHED, BYTES("STAT pid 1\r\nEND\r\n"), &reading) ==
              GAUGE_BROKEN);
}
END_TEST

START_TEST(test_info)
{
    struct gauge_reading reading;
    ck_assert_uint_eq(gauge_parse(GAUGE_RETHREAD, BYTES(info), &reading), INFO_BYTES);
    ck_assert_uint_eq(reading.keys, 5);
    ck_assert_uint_eq(reading.held_bytes, 300);
    ck_assert_uint_eq(reading.accounted_bytes, 70000);
    check_cuts(GAUGE_RETHREAD, info, INFO_BYTES);
}
END_TEST

START_TEST(test_info_that_is_none)
{
    struct gauge_reading reading;
    char spoilt[INFO_BYTES];
    memcpy(spoilt, info, sizeof spoilt);
    spoilt[8] = '\x07'; /* an error where nil stands */
    ck_assert(gauge_parse(GAUGE_RETHREAD, (uint8_t *)spoilt, sizeof spoilt, &reading) ==
              GAUGE_BROKEN);
    memcpy(spoilt, info, sizeof spoilt);
    spoilt[10] = '\x84'; /* a section more than there are */
    ck_assert(gauge_parse(GAUGE_RETHREAD, (uint8_t *)spoilt, sizeof spoilt, &reading) ==
              GAUGE_BROKEN);
    memcpy(spoilt, info, sizeof spoilt);
    spoilt[1] = '\x7f'; /* longer than any answer */
    ck_assert(gauge_parse(GAUGE_RETHREAD, (uint8_t *)spoilt, sizeof spoilt, &reading) ==
              GAUGE_BROKEN);
}
END_TEST

START_TEST(test_names)
{
    ck_assert_int_eq(gauge_kind_of("rethread"), GAUGE_RETHREAD);
    ck_assert_int_eq(gauge_kind_of("redis"), GAUGE_REDIS);
    ck_assert_int_eq(gauge_kind_of("memcached"), GAUGE_MEMCACHED);
}
END_TEST

START_TEST(test_resident)
{
    struct server self = {.pid = getpid()};
    struct server unknown = {.pid = 0};
    ck_assert_uint_gt(gauge_resident_bytes(&self), 100 * 1024);
    ck_assert_uint_lt(gauge_resident_bytes(&self), UINT64_C(1) << 40);
    ck_assert_uint_eq(gauge_resident_bytes(&unknown), 0);
}
END_TEST

int main(void)
{
    return SUITE_RUN("gauge", NULL, NULL, 0, test_redis, test_memcached, test_info,
                     test_info_that_is_none, test_names, test_resident);
}
