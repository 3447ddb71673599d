/* The inbox: order, nothing lost, nobody sleeps through a put. */
#include "store/inbox.h"
#include "base/clock.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <pthread.h>
#include <sched.h>

enum { PUTTERS = 4, LONG_MS = 60000 };

struct item {
    struct inbox_node node; /* first: a node leads to its item */
    uint64_t putter;
    uint64_t number;
    uint64_t content; /* plain, so that ThreadSanitizer sees who may read it */
};

START_TEST(comes_out_in_order)
{
    struct inbox inbox;
    inbox_init(&inbox);
    struct item items[5];
    ck_assert_ptr_null(inbox_take(&inbox));
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 5; i++) {
            items[i].number = i;
            ck_assert_int_eq(inbox_put(&inbox, &items[i].node), i == 0);
        }
        struct inbox_node *node = inbox_take(&inbox);
        for (unsigned i = 0; i < 5; i++) {
            ck_assert_ptr_eq(node, &items[i].node);
            node = node->next;
        }
        ck_assert_ptr_null(node);
        ck_assert_ptr_null(inbox_take(&inbox));
    }
}
END_TEST

START_TEST(waits_no_longer_than_asked)
{
    struct inbox inbox;
    inbox_init(&inbox);
    struct clock *clock = clock_monotonic();
    uint64_t before = clock_read_ms(clock);
    inbox_wait(&inbox, inbox_signal(&inbox), 50);
    uint64_t slept = clock_read_ms(clock) - before;
    ck_assert_uint_ge(slept, 45);
    ck_assert_uint_lt(slept, 5000);
    inbox_wait(&inbox, inbox_signal(&inbox), 0);

    uint32_t signal = inbox_signal(&inbox);
    inbox_wake(&inbox);
    ck_assert_uint_ne(inbox_signal(&inbox), signal);
    before = clock_read_ms(clock);
    inbox_wait(&inbox, signal, LONG_MS); /* it moved: no sleep */
    inbox_wait(&inbox, signal, UINT64_MAX);
    ck_assert_uint_lt(clock_read_ms(clock) - before, 5000);
}
END_TEST

struct putter {
    struct inbox *inbox;
    struct item *items;
    uint64_t count;
    uint64_t number;
    _Atomic uint64_t *taken; /* not NULL: each waits until its last item was taken */
    pthread_t thread;
};

static void *putter_main(void *argument)
{
    struct putter *putter = argument;
    for (uint64_t i = 0; i < putter->count; i++) {
        struct item *item = &putter->items[i];
        item->putter = putter->number;
        item->number = i;
        item->content = i * 31 + putter->number;
        if (inbox_put(putter->inbox, &item->node)) {
            inbox_wake(putter->inbox);
        }
        while (putter->taken != NULL && atomic_load(&putter->taken[putter->number]) <= i) {
            sched_yield();
        }
    }
    return NULL;
}

/* Takes until all have come; sleeps so long that a wake that is lost is a test that hangs. */
static void run_crew(uint64_t count, bool in_step)
{
    struct inbox inbox;
    inbox_init(&inbox);
    _Atomic uint64_t taken[PUTTERS] = {0};
    struct putter putters[PUTTERS];
    for (unsigned i = 0; i < PUTTERS; i++) {
        putters[i] = (struct putter){.inbox = &inbox,
                                     .items = calloc(count, sizeof(struct item)),
                                     .count = count,
                                     .number = i,
                                     .taken = in_step ? taken : NULL};
        ck_assert_ptr_nonnull(putters[i].items);
        ck_assert_int_eq(pthread_create(&putters[i].thread, NULL, putter_main, &putters[i]), 0);
    }
    for (uint64_t total = 0; total < PUTTERS * count;) {
        uint32_t signal = inbox_signal(&inbox);
        struct inbox_node *node = inbox_take(&inbox);
        if (node == NULL) {
            inbox_wait(&inbox, signal, LONG_MS);
        }
        while (node != NULL) {
            struct item *item = (struct item *)node;
            node = node->next;
            ck_assert_uint_lt(item->putter, PUTTERS);
            ck_assert_uint_eq(item->number, atomic_load(&taken[item->putter]));
            ck_assert_uint_eq(item->content, item->number * 31 + item->putter);
            item->content = 0; /* it is the taker's now */
            total++;
            atomic_store(&taken[item->putter], item->number + 1);
        }
    }
    ck_assert_ptr_null(inbox_take(&inbox));
    for (unsigned i = 0; i < PUTTERS; i++) {
        pthread_join(putters[i].thread, NULL);
        free(putters[i].items);
    }
}

START_TEST(nothing_lost_and_order_kept_at_full_speed)
{
    run_crew(trial_count(50000), false);
}
END_TEST

START_TEST(nobody_sleeps_through_a_put)
{
    run_crew(trial_count(4000), true);
}
END_TEST

int main(void)
{
    return SUITE_RUN("store/inbox", NULL, NULL, 60, comes_out_in_order, waits_no_longer_than_asked,
                     nothing_lost_and_order_kept_at_full_speed, nobody_sleeps_through_a_put);
}
