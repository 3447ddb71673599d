/* A lane that closes last may reclaim through another slot of the epoch than it was opened with. */
#include "tests/lib/crew.h"
#include "tests/lib/suite.h"

#include <time.h>

struct release {
    const struct step *step;
    pthread_barrier_t *start;
    long wait_ns;
};

static void *unpin_later(void *argument)
{
    const struct release *release = argument;
    struct timespec begin, now;
    pthread_barrier_wait(release->start);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1000000000L + now.tv_nsec - begin.tv_nsec <
             release->wait_ns);
    step_unpin(release->step);
    return NULL;
}

START_TEST(the_last_lane_reclaims_what_was_pinned)
{
    for (int round = 0; round < 400; round++) {
        struct domain domain;
        struct ask ask;
        struct thread_append_result appended;
        struct thread_replay_result replayed;
        enum reason missing;
        struct thread_forget_result forgotten = {0};
        domain_open(&domain, domain_settings());
        struct lane *last = lane_open(domain.threads, 0, 1);
        lane_online(last);
        lane_read_clock(last);
        ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
        ask_payload(&ask, bytes_text("x"));
        ck_assert_int_eq(thread_append(last, &ask.request, &appended, &domain.error), STATUS_OK);
        ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text("t"));
        ck_assert_int_eq(thread_replay(last, &ask.request, &replayed, &domain.error), STATUS_OK);
        pthread_barrier_t start;
        struct release release = {thread_replay_step(last, &replayed, 0, &missing), &start,
                                  round % 40 * 100};
        step_pin(release.step);
        ask_begin(&ask, WIRE_METHOD_FORGET, bytes_text("t"));
        thread_forget(last, &ask.request, &forgotten, &domain.error);
        lane_offline(last);
        lane_offline(domain.lane);
        lane_close(domain.lane); /* the first slot of the epoch is free again */
        pthread_barrier_init(&start, NULL, 2);
        pthread_t other;
        ck_assert_int_eq(pthread_create(&other, NULL, unpin_later, &release), 0);
        pthread_barrier_wait(&start);
        lane_close(last);
        pthread_join(other, NULL);
        pthread_barrier_destroy(&start);
        threads_destroy(domain.threads);
    }
}
END_TEST

int main(void)
{
    return SUITE_RUN("review_lanes", NULL, NULL, 30, the_last_lane_reclaims_what_was_pinned);
}
