/* The shared cap: never passed by takes, whoever races; forced bytes and pins count too. */
#include "net/buffers.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <check.h>
#include <pthread.h>

static struct net_buffers buffers;

START_TEST(takes_up_to_the_cap)
{
    net_buffers_init(&buffers, 1000);
    struct net_account account = {.buffers = &buffers};
    ck_assert(net_account_take(&account, 600, 5000));
    ck_assert(!net_buffers_pressed(&buffers, 5000));
    ck_assert(!net_account_take(&account, 401, 5000));
    ck_assert_uint_eq(net_buffers_used(&buffers), 600);
    ck_assert(net_buffers_pressed(&buffers, 5000));
    ck_assert(net_buffers_pressed(&buffers, 5000 + NET_PRESSURE_MS - 1));
    ck_assert(!net_buffers_pressed(&buffers, 5000 + NET_PRESSURE_MS));
    ck_assert(net_buffers_have_room(&buffers));
    ck_assert(net_account_take(&account, 400, 5000));
    ck_assert(!net_buffers_have_room(&buffers));
    ck_assert_int_eq(account.uncharged_bytes, 1000);
    net_account_give(&account, 1000);
    ck_assert_int_eq(account.uncharged_bytes, 0);
    ck_assert_uint_eq(net_buffers_used(&buffers), 0);
}
END_TEST

START_TEST(forced_and_held_bytes_leave_less_room)
{
    net_buffers_init(&buffers, 1000);
    struct net_account account = {.buffers = &buffers};
    net_account_force(&account, 900);
    net_account_hold(&account, 900);
    ck_assert_uint_eq(net_buffers_used(&buffers), 1800);
    ck_assert_int_eq(account.uncharged_bytes, 900); /* the domain counts held bytes itself */
    ck_assert(!net_account_take(&account, 1, 1));
    net_account_release(&account, 900);
    ck_assert(net_account_take(&account, 100, 1));
    net_account_charge(&account, 77);
    ck_assert_int_eq(account.uncharged_bytes, 1077);
    ck_assert_uint_eq(net_buffers_used(&buffers), 1000);
}
END_TEST

enum { TAKERS = 4, CAP = 10000 };

static void *take_and_give(void *context)
{
    struct net_account *account = context;
    uint64_t seed = (uintptr_t)account, rounds = trial_count(200000);
    size_t held = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        size_t size = (size_t)trial_below(&seed, 3000) + 1;
        if (net_account_take(account, size, 1)) {
            held += size;
        } else if (held > 0) {
            net_account_give(account, held);
            held = 0;
        }
        /* What all have been granted never passes the cap; only attempts in flight may. */
        ck_assert_uint_le(held, CAP);
        ck_assert_uint_le(net_buffers_used(account->buffers), CAP + TAKERS * 3000);
    }
    net_account_give(account, held);
    return NULL;
}

START_TEST(racing_takers_leave_nothing)
{
    struct net_account accounts[TAKERS];
    pthread_t threads[TAKERS];
    net_buffers_init(&buffers, CAP);
    for (int i = 0; i < TAKERS; i++) {
        accounts[i] = (struct net_account){.buffers = &buffers};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take_and_give, &accounts[i]), 0);
    }
    for (int i = 0; i < TAKERS; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_eq(accounts[i].uncharged_bytes, 0);
    }
    ck_assert_uint_eq(net_buffers_used(&buffers), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("buffers");
    TCase *c = tcase_create("cap");
    tcase_add_test(c, takes_up_to_the_cap);
    tcase_add_test(c, forced_and_held_bytes_leave_less_room);
    tcase_add_test(c, racing_takers_leave_nothing);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return suite_main(suite());
}
