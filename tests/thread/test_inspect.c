/* Stat and list: looking without using. */
#include "tests/lib/domain.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <stdlib.h>

static struct domain domain;

static void setup(void)
{
    domain_open(&domain, domain_settings());
}

static void teardown(void)
{
    domain_close(&domain);
}

START_TEST(stat_counts)
{
    domain_wait(&domain, 5);
    SAY("stat t", "miss never_seen v0");
    ck_assert_uint_eq(domain.vouch_ms, 5);
    SAY("append t tokens=10 : aa", "step 0 v1 created");
    SAY("append t tokens=5 kind=text kind=opaque : bbb c", "step 1 v2");
    SAY("append t", "step 2 v3");
    SAY("stat t", "complete v3 steps 3 bytes 6 tokens 15");
    SAY("rewind t to=0", "v4 dropped 2");
    SAY("stat t", "complete v4 steps 1 bytes 2 tokens 10");
    SAY("fork f from=t", "v1");
    SAY("stat f", "complete v1 steps 1 bytes 2 tokens 10");
    SAY("append f tokens=1 : q", "step 1 v2");
    SAY("append f tokens=1 : q", "step 2 v3");
    SAY("stat f", "complete v3 steps 3 bytes 4 tokens 12");
    SAY("stat t", "complete v4 steps 1 bytes 2 tokens 10");
    SAY("rewind t to=-1", "v5 dropped 1");
    SAY("stat t", "complete v5 steps 0 bytes 0 tokens 0");
}
END_TEST

START_TEST(stat_tells_times_and_does_not_use)
{
    SAY("append t : aa", "step 0 v1 created");
    domain_wait(&domain, 100);
    SAY("append t : aa", "step 1 v2");
    domain_wait(&domain, 30);
    for (int i = 0; i < 3; i++) {
        SAY("stat t", "complete v2 steps 2 bytes 4 tokens 0");
        ck_assert_uint_eq(domain.stat.age_ms, 130);
        ck_assert_uint_eq(domain.stat.idle_ms, 30);
        ck_assert_uint_eq(domain.stat.expires_in_ms, DOMAIN_TTL_MS - 30);
    }
    domain_wait(&domain, DOMAIN_TTL_MS - 31);
    SAY("stat t", "complete v2 steps 2 bytes 4 tokens 0");
    ck_assert_uint_eq(domain.stat.expires_in_ms, 1);
    domain_wait(&domain, 1);
    SAY("stat t", "miss expired v2");
    ck_assert_uint_eq(domain_metric(&domain, METRIC_EXPIRED), 1);
}
END_TEST

START_TEST(age_never_falls_below_zero)
{
    /* Another lane read the clock later than this one. */
    struct lane *other = lane_open(domain.threads, 0, 1);
    clock_driven_advance(&domain.clock, 10);
    lane_online(other);
    lane_read_clock(other);
    struct ask ask;
    struct thread_append_result result;
    struct wire_error error;
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
    ask_payload(&ask, bytes_text("x"));
    ck_assert_int_eq(thread_append(other, &ask.request, &result, &error), STATUS_OK);
    SAY("stat t", "complete v1 steps 1 bytes 1 tokens 0");
    ck_assert_uint_eq(domain.stat.age_ms, 0);
    ck_assert_uint_eq(domain.stat.idle_ms, 0);
    lane_offline(other);
    lane_close(other);
}
END_TEST

/* ---- list ---- */

enum { MANY = 5000 };

static struct thread_list_result page;
static struct ask ask;

static int number_in(const char id[16])
{
    char *end;
    long number = strtol(id + 1, &end, 10);
    ck_assert(*end == '\0' && number >= 0 && number < MANY);
    return (int)number;
}

static enum status list(const char *starts_with, struct bytes cursor, unsigned limit)
{
    struct wire_error error;
    ask_begin(&ask, WIRE_METHOD_LIST, (struct bytes){0});
    if (starts_with) {
        ask_set(&ask, starts_with, bytes_text(starts_with));
    }
    if (cursor.size > 0) {
        ask_set(&ask, cursor, cursor);
    }
    if (limit > 0) {
        ask_set(&ask, limit, limit);
    }
    return thread_list(domain.lane, &ask.request, &page, &error);
}

/* How often each numbered thread was listed, over all pages. */
static void list_all(const char *starts_with, unsigned limit, unsigned char seen[MANY])
{
    uint8_t cursor[THREAD_CURSOR_BYTES];
    struct bytes at = {0};
    memset(seen, 0, MANY);
    for (int pages = 0;; pages++) {
        ck_assert_int_lt(pages, 2 * MANY);
        ck_assert_int_eq(list(starts_with, at, limit), STATUS_OK);
        ck_assert_uint_le(page.count, limit ? limit : 100);
        for (unsigned i = 0; i < page.count; i++) {
            char id[16] = {0};
            memcpy(id, page.listed[i].id.data, page.listed[i].id.size);
            int number = number_in(id);
            ck_assert(id[0] == 'a' + number % 2);
            ck_assert_uint_eq(page.listed[i].payload_bytes, strlen(id));
            ck_assert_uint_eq(page.listed[i].version, 1);
            seen[number]++;
        }
        if (!page.more) {
            return;
        }
        memcpy(cursor, page.cursor, sizeof cursor);
        at = bytes_of(cursor, sizeof cursor);
    }
}

static void append_many(int from, int to)
{
    char line[64];
    for (int i = from; i < to; i++) {
        snprintf(line, sizeof line, "append %c%d : %c%d", 'a' + i % 2, i, 'a' + i % 2, i);
        domain_say(&domain, line);
    }
}

START_TEST(list_pages_through_everything_once)
{
    unsigned char seen[MANY];
    append_many(0, MANY);
    for (unsigned limit = 0; limit <= 1000; limit += 333) {
        list_all(NULL, limit, seen);
        for (int i = 0; i < MANY; i++) {
            ck_assert_uint_eq(seen[i], 1);
        }
    }
    list_all("a", 50, seen);
    for (int i = 0; i < MANY; i++) {
        ck_assert_uint_eq(seen[i], i % 2 == 0);
    }
    list_all("a1234", 1, seen);
    ck_assert_uint_eq(seen[1234], 1);
    list_all("b12345", 1, seen);
    list_all("", 1000, seen);
    ck_assert_uint_eq(seen[0], 1);
}
END_TEST

START_TEST(list_while_the_index_grows)
{
    unsigned char seen[MANY];
    uint8_t cursor[THREAD_CURSOR_BYTES];
    struct bytes at = {0};
    memset(seen, 0, sizeof seen);
    append_many(0, 100);
    int next = 100;
    do {
        ck_assert_int_eq(list(NULL, at, 7), STATUS_OK);
        for (unsigned i = 0; i < page.count; i++) {
            char id[16] = {0};
            memcpy(id, page.listed[i].id.data, page.listed[i].id.size);
            seen[number_in(id)]++;
        }
        memcpy(cursor, page.cursor, sizeof cursor);
        at = bytes_of(cursor, sizeof cursor);
        if (next < MANY) {
            append_many(next, next + 100);
            next += 100;
        }
    } while (page.more);
    for (int i = 0; i < 100; i++) {
        ck_assert_uint_eq(seen[i], 1);
    }
}
END_TEST

/* A cursor is sealed: a made-up one of the right size is refused like any other. */
START_TEST(list_refuses_made_up_cursors)
{
    append_many(0, 300);
    uint64_t state = 42;
    for (int i = 0; i < 2000; i++) {
        uint8_t cursor[64];
        for (size_t k = 0; k < sizeof cursor; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            cursor[k] = i % 3 ? (uint8_t)(state >> 56) : (i % 2 ? 0xff : 0);
        }
        size_t size = (size_t)i % 65;
        enum status status = list(NULL, bytes_of(cursor, size), 10);
        if (size == 0) {
            ck_assert_int_eq(status, STATUS_OK);
        } else {
            ck_assert_int_eq(status, STATUS_BAD_REQUEST);
        }
    }
}
END_TEST

START_TEST(list_shows_only_the_living)
{
    SAY("append t : a", "step 0 v1 created");
    SAY("append u ttl_ms=5000 : bb", "step 0 v1 created");
    SAY("append u : cc", "step 1 v2");
    SAY("append w : a", "step 0 v1 created");
    SAY("forget w", "forgotten");
    domain_wait(&domain, DOMAIN_TTL_MS - 1);
    ck_assert_int_eq(list(NULL, (struct bytes){0}, 0), STATUS_OK);
    ck_assert_uint_eq(page.count, 2);
    ck_assert(!page.more);
    domain_wait(&domain, 1);
    ck_assert_int_eq(list(NULL, (struct bytes){0}, 0), STATUS_OK);
    ck_assert_uint_eq(page.count, 1);
    ck_assert_uint_eq(page.listed[0].version, 2);
    ck_assert_uint_eq(page.listed[0].payload_bytes, 4);
    ck_assert_uint_eq(page.listed[0].idle_ms, DOMAIN_TTL_MS);
    /* It was no use of the thread. */
    SAY("stat u", "complete v2 steps 2 bytes 4 tokens 0");
    ck_assert_uint_eq(domain.expires_in_ms, 4000);
}
END_TEST

int main(void)
{
    return SUITE_RUN("inspect", setup, teardown, 0, stat_counts, stat_tells_times_and_does_not_use,
                     age_never_falls_below_zero, list_pages_through_everything_once,
                     list_while_the_index_grows, list_refuses_made_up_cursors,
                     list_shows_only_the_living);
}
