/* What is due: asked for once, by a lane that may do nothing; never because a clock was moved. */
#include "tests/store/test_store.h"

static uint8_t noise[64 << 10];

static void setup_noise(void)
{
    uint64_t state = 7;
    for (size_t i = 0; i < sizeof noise; i++) {
        noise[i] = (uint8_t)trial_random(&state);
    }
    setup();
}

static struct put *put_of(const char *id, size_t size, uint64_t retention_ms)
{
    struct put *put = make_put(id, 1, bytes_of(noise, size));
    put->change.head.retention_ms = retention_ms;
    return put;
}

static void settle(void)
{
    store_settle(store);
    collect();
}

START_TEST(asked_for_until_erased)
{
    struct put *put = put_of("a", 100, 60000);
    struct put *erase = make_erase(put, REASON_EXPIRED);
    uint64_t uid = put->change.head.uid;
    done(put, STATUS_OK);
    settle();
    ck_assert_uint_eq(due_count, 0);
    clock_driven_advance(&wall, 59000);
    settle();
    ck_assert_uint_eq(due_count, 0);
    clock_driven_advance(&wall, 5000);
    settle();
    ck_assert_uint_eq(due_count, 1);
    ck_assert_uint_eq(dues[0]->uid, uid);
    ck_assert_int_eq(dues[0]->reason, REASON_EXPIRED);
    ck_assert_uint_eq(dues[0]->id_size, 1);
    settle();
    ck_assert_uint_eq(due_count, 1); /* a moment later it is not asked for again */
    clock_driven_advance(&wall, 11000);
    settle();
    ck_assert_uint_eq(due_count, 2);
    done(erase, STATUS_OK);
    clock_driven_advance(&wall, 11000);
    settle();
    ck_assert_uint_eq(due_count, 2);
    ck_assert_int_eq(found("a"), TIER_TOMBSTONE);
}
END_TEST

START_TEST(many_are_all_asked_for)
{
    enum { COUNT = 1000 };
    static struct put *puts[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%u", i);
        puts[i] = put_of(id, 100, 1000);
        submit(puts[i]);
    }
    settle();
    clock_driven_advance(&wall, 60000);
    settle();
    ck_assert_uint_eq(due_count, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        free_put(puts[i]);
    }
}
END_TEST

/* Background passes alone, in real time: a little later is found, a jump is not. */
START_TEST(a_jump_of_the_clock_erases_nothing)
{
    done(put_of("a", 100, 1000), STATUS_OK);
    done(put_of("b", 100, 3600 * 1000), STATUS_OK);
    sleep_ms(1100);
    clock_driven_advance(&wall, 3000);
    AWAIT(due_count == 1);
    clock_driven_advance(&wall, 2 * 3600 * 1000);
    sleep_ms(2500);
    collect();
    ck_assert_uint_eq(due_count, 1);
}
END_TEST

START_TEST(without_a_port_it_waits)
{
    done(put_of("a", 100, 1000), STATUS_OK);
    tier->calls->port_close(tier, port);
    clock_driven_advance(&wall, 3000);
    store_settle(store);
    port = tier->calls->port_open(tier, count_wake, NULL);
    clock_driven_advance(&wall, 1000);
    settle();
    ck_assert_uint_eq(due_count, 1);
}
END_TEST

START_TEST(budget_asks_for_the_longest_idle)
{
    enum { COUNT = 40 };
    struct put *puts[COUNT];
    close_store();
    settings.disk_bytes = 2 << 20;
    open_store();
    for (unsigned i = 0; i < COUNT; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%u", i);
        puts[i] = put_of(id, sizeof noise, RETENTION_MS);
        clock_driven_advance(&wall, 5000);
        puts[i]->change.head.used_ms = clock_read_ms(&wall.clock);
        submit(puts[i]);
    }
    settle();
    ck_assert_uint_gt(due_count, 0);
    ck_assert_uint_lt(due_count, COUNT - 5);
    for (unsigned i = 0; i < due_count; i++) {
        ck_assert_int_eq(dues[i]->reason, REASON_EVICTED);
    }
    /* Until it is within its budget, and no further. */
    unsigned erased = 0;
    for (unsigned round = 0; round < 10; round++) {
        for (; erased < due_count; erased++) {
            unsigned which = 0;
            while (puts[which]->change.head.uid != dues[erased]->uid) {
                which++;
            }
            ck_assert_uint_lt(which, COUNT - 5);
            done(make_erase(puts[which], REASON_EVICTED), STATUS_OK);
        }
        clock_driven_advance(&wall, 11000);
        settle();
    }
    ck_assert_uint_eq(erased, due_count);
    uint64_t live = metric(METRIC_DISK_LIVE_BYTES);
    ck_assert_uint_le(live, settings.disk_bytes);
    ck_assert_uint_ge(live, settings.disk_bytes / 2);
    for (unsigned i = 0; i < COUNT; i++) {
        free_put(puts[i]);
    }
}
END_TEST

int main(void)
{
    return SUITE_RUN("due", setup_noise, teardown, 60, asked_for_until_erased,
                     many_are_all_asked_for, a_jump_of_the_clock_erases_nothing,
                     without_a_port_it_waits, budget_asks_for_the_longest_idle);
}
