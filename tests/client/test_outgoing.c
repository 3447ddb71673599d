/* The queue of unsent bytes against a plain copy of them, sent in parts of every size. */
#include "client/outgoing.h"

#include <check.h>
#include <stdlib.h>

enum {
    MODEL_BYTES = 64 * 1024,
};

static struct client_outgoing outgoing;
static uint8_t model[MODEL_BYTES]; /* what has been appended */
static size_t appended;
static size_t sent;
static uint8_t trace[8192];
static uint32_t seed;

static uint32_t draw(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % below;
}

static void setup(void)
{
    outgoing = (struct client_outgoing){.first = 0};
    appended = 0;
    sent = 0;
    for (size_t i = 0; i < sizeof trace; i++)
        trace[i] = (uint8_t)(i * 31 + i / 256);
}

static void teardown(void)
{
    client_outgoing_clear(&outgoing);
}

static void copy(size_t size)
{
    ck_assert(client_outgoing_copy(&outgoing, trace + appended % 100, size));
    memcpy(model + appended, trace + appended % 100, size);
    appended += size;
}

static bool borrow(size_t size)
{
    struct rethread_bytes bytes = {trace + appended % 100, size};
    if (!client_outgoing_borrow(&outgoing, bytes))
        return false;
    memcpy(model + appended, bytes.data, size);
    appended += size;
    return true;
}

/* What the pieces hold is what was appended and not sent. */
static void check_pieces(void)
{
    struct iovec pieces[CLIENT_PIECES_MAX];
    size_t at = sent;
    ck_assert_uint_eq(client_outgoing_size(&outgoing), appended - sent);
    int count = client_outgoing_pieces(&outgoing, pieces);
    for (int i = 0; i < count; i++) {
        ck_assert_uint_gt(pieces[i].iov_len, 0);
        ck_assert_mem_eq(pieces[i].iov_base, model + at, pieces[i].iov_len);
        at += pieces[i].iov_len;
    }
    ck_assert_uint_eq(at, appended);
}

START_TEST(any_mix_comes_out_in_order)
{
    seed = (uint32_t)_i;
    for (int round = 0; round < 200 && appended < MODEL_BYTES - 1000; round++) {
        size_t left = client_outgoing_size(&outgoing);
        switch (draw(6)) {
        case 0:
        case 1:
            copy(1 + draw(200));
            break;
        case 2:
            (void)borrow(1 + draw(800));
            break;
        case 3: {
            size_t part = draw((uint32_t)left + 1);
            client_outgoing_sent(&outgoing, part);
            sent += part;
            break;
        }
        case 4: {
            struct client_outgoing_mark mark = client_outgoing_mark(&outgoing);
            size_t before = appended;
            copy(1 + draw(100));
            (void)borrow(1 + draw(100));
            copy(1 + draw(100));
            client_outgoing_rewind(&outgoing, mark);
            appended = before;
            break;
        }
        default:
            if (draw(4) == 0)
                ck_assert(client_outgoing_settle(&outgoing));
        }
        check_pieces();
    }
}
END_TEST

START_TEST(settling_lets_go_of_what_was_borrowed)
{
    copy(10);
    ck_assert(borrow(5000));
    copy(7);
    client_outgoing_sent(&outgoing, 1000);
    sent += 1000;
    ck_assert(client_outgoing_settle(&outgoing));
    ck_assert_uint_eq(outgoing.borrowed_bytes, 0);
    memset(trace, 0, sizeof trace);
    check_pieces();
}
END_TEST

START_TEST(pieces_are_bounded)
{
    for (int i = 0; i < CLIENT_BORROWED_MAX; i++) {
        copy(1);
        ck_assert(borrow(2));
    }
    ck_assert(!borrow(2));
    copy(1);
    check_pieces();
    client_outgoing_sent(&outgoing, appended);
    sent = appended;
    ck_assert(borrow(2));
    check_pieces();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/outgoing");
    TCase *queue = tcase_create("queue");
    tcase_add_checked_fixture(queue, setup, teardown);
    tcase_add_loop_test(queue, any_mix_comes_out_in_order, 0, 50);
    tcase_add_test(queue, settling_lets_go_of_what_was_borrowed);
    tcase_add_test(queue, pieces_are_bounded);
    suite_add_tcase(suite, queue);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
