/* Unfinished input: what is kept, how it grows, and that every byte is counted. */
#include "net/input.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <check.h>
#include <stdlib.h>

enum { KIB = 1024 };

static struct net_buffers buffers;
static struct net_account account;
static struct net_input input;
static uint8_t scratch[256 * KIB];

static void setup(void)
{
    net_buffers_init(&buffers, 1 << 20);
    account = (struct net_account){.buffers = &buffers};
    input = (struct net_input){.data = NULL};
    for (size_t i = 0; i < sizeof scratch; i++) {
        scratch[i] = (uint8_t)(i * 13 + i / 256);
    }
}

static void teardown(void)
{
    net_input_clear(&input, &account);
    ck_assert_uint_eq(net_buffers_used(&buffers), 0);
    ck_assert_int_eq(account.uncharged_bytes, 0);
}

static void expect(const uint8_t *data, size_t size)
{
    struct bytes view = net_input_view(&input);
    ck_assert_uint_eq(view.size, size);
    ck_assert_uint_eq(net_input_size(&input), size);
    ck_assert(size == 0 || memcmp(view.data, data, size) == 0);
    ck_assert_uint_eq(net_buffers_used(&buffers), input.capacity);
    ck_assert_int_eq(account.uncharged_bytes, (int64_t)input.capacity);
}

START_TEST(keeps_the_rest_and_nothing_else)
{
    ck_assert(net_input_keep(&input, &account, bytes_of(scratch, 100), 100));
    ck_assert_ptr_null(input.data); /* all was used: nothing is held */
    ck_assert(net_input_keep(&input, &account, bytes_of(scratch, 100), 40));
    expect(scratch + 40, 60);
    ck_assert_uint_eq(input.capacity, 64); /* what it needs, rounded */
    /* From its own place. */
    ck_assert(net_input_keep(&input, &account, net_input_view(&input), 25));
    expect(scratch + 65, 35);
    ck_assert(net_input_keep(&input, &account, net_input_view(&input), 35));
    expect(NULL, 0);
    ck_assert_ptr_null(input.data);
}
END_TEST

START_TEST(a_large_rest_that_shrinks_gives_memory_back)
{
    size_t left = sizeof scratch - 7;
    ck_assert(net_input_keep(&input, &account, bytes_of(scratch, sizeof scratch), 7));
    while (left > 1000) {
        ck_assert(net_input_keep(&input, &account, net_input_view(&input), 1000));
        left -= 1000;
        expect(scratch + sizeof scratch - left, left);
        ck_assert(input.capacity / 4 <= left);
    }
    ck_assert(net_input_keep(&input, &account, net_input_view(&input), left - 1));
    ck_assert_uint_le(input.capacity, 512);
    expect(scratch + sizeof scratch - 1, 1);
}
END_TEST

START_TEST(grows_with_what_came_never_beyond_the_frame)
{
    const uint64_t need = 700000;
    uint64_t received = 20000;
    ck_assert(net_input_keep(&input, &account, bytes_of(scratch, 20000), 0));
    while (received < need) {
        uint8_t *at = NULL;
        size_t room = net_input_grow(&input, &account, need, 1, &at);
        ck_assert_uint_ge(room, 1);
        ck_assert_ptr_eq(at, input.data + input.end);
        ck_assert_uint_le(input.capacity, need);
        ck_assert_uint_le(input.capacity, 2 * received + NET_FLOOR_BYTES);
        size_t got = room < 30011 ? room : 30011;
        memset(at, (int)(received & 0xff), got);
        net_input_received(&input, got);
        received += got;
    }
    ck_assert_uint_eq(received, need);
    ck_assert_uint_eq(net_input_size(&input), need);
    ck_assert_int_eq(memcmp(input.data, scratch, 20000), 0);
    ck_assert_uint_eq(net_buffers_used(&buffers), input.capacity);
}
END_TEST

START_TEST(grows_not_without_room)
{
    uint8_t *at;
    ck_assert(net_input_keep(&input, &account, bytes_of(scratch, 4 * NET_FLOOR_BYTES), 0));
    net_account_force(&account, 1 << 20);
    ck_assert_uint_eq(net_input_grow(&input, &account, 1 << 20, 77, &at), 0);
    ck_assert(net_buffers_pressed(&buffers, 77));
    net_account_give(&account, 1 << 20);
    expect(scratch, 4 * NET_FLOOR_BYTES);
    ck_assert_uint_ne(net_input_grow(&input, &account, 1 << 20, 77, &at), 0);
}
END_TEST

/* Any mix of receiving and consuming, against a plain copy. */
START_TEST(random_walk)
{
    uint64_t seed = 9, rounds = trial_count(20000);
    uint8_t next = 0, first = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        struct bytes kept = net_input_view(&input);
        bool direct = kept.size > NET_INPUT_COPIED_BYTES;
        struct bytes view;
        size_t more = (size_t)trial_below(&seed, i % 50 == 0 ? 60000 : 600);
        if (direct) {
            uint8_t *at;
            size_t room = net_input_grow(&input, &account, kept.size + 100000, 1, &at);
            more = more < room ? more : room;
            for (size_t b = 0; b < more; b++) {
                at[b] = next++;
            }
            net_input_received(&input, more);
            view = net_input_view(&input);
        } else {
            if (kept.size > 0) {
                memcpy(scratch, kept.data, kept.size);
            }
            for (size_t b = 0; b < more; b++) {
                scratch[kept.size + b] = next++;
            }
            view = bytes_of(scratch, kept.size + more);
        }
        size_t same = 0;
        while (same < view.size && view.data[same] == (uint8_t)(first + same)) {
            same++;
        }
        ck_assert_uint_eq(same, view.size);
        size_t used = (size_t)trial_below(&seed, view.size + 1);
        ck_assert(net_input_keep(&input, &account, view, used));
        first = (uint8_t)(first + used);
        ck_assert_uint_eq(net_buffers_used(&buffers), input.capacity);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("input");
    TCase *c = tcase_create("input");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, keeps_the_rest_and_nothing_else);
    tcase_add_test(c, a_large_rest_that_shrinks_gives_memory_back);
    tcase_add_test(c, grows_with_what_came_never_beyond_the_frame);
    tcase_add_test(c, grows_not_without_room);
    tcase_add_test(c, random_walk);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return suite_main(suite());
}
