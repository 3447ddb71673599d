/* The life word: every transition from every state, and refresh, claim and kill that race. */
#include "thread/life.h"

#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

/* An ordinary thread, as far as its life goes. */
struct whole {
    struct thread thread;
    struct rest rest;
};

static struct whole whole = {.thread = {.record = {.flags = THREAD_AGELESS}}};

static void set_death(struct thread *of, uint64_t dies_ms)
{
    of->record.flags = dies_ms == UINT64_MAX ? THREAD_AGELESS : 0;
    of->age_low = (uint32_t)dies_ms;
    of->age_high = (uint16_t)(dies_ms >> 32);
}

static enum life refresh(struct thread *of, uint64_t now_ms, uint64_t ttl_ms, bool reset)
{
    atomic_store(&of->ttl_ms, ttl_ms);
    return life_refresh(of, now_ms, reset ? LIFE_RESET : LIFE_EXTEND);
}

/* To a deadline, or with 0 to the one it has. */
static void release(struct thread *of, uint64_t deadline_ms, bool reset)
{
    atomic_store(&of->ttl_ms, deadline_ms);
    life_release(of, 0, deadline_ms == 0 ? LIFE_KEEP : reset ? LIFE_RESET : LIFE_EXTEND);
}

static void set(uint64_t word)
{
    atomic_store(&whole.thread.life, word);
}

/* What is judged is what the thread has. */
static enum life judge(uint64_t word, uint64_t now_ms)
{
    set(word);
    return life_judge(&whole.thread, word, now_ms);
}

#define WORD(word) ck_assert_uint_eq(life_load(&whole.thread), word)

START_TEST(judging_is_exact)
{
    ck_assert_int_eq(judge(100, 99), LIFE_ALIVE);
    ck_assert_int_eq(judge(100, 100), LIFE_OVERDUE);
    ck_assert_int_eq(judge(100 | LIFE_CLAIM, 99), LIFE_ALIVE);
    ck_assert_int_eq(judge(100 | LIFE_CLAIM, 100), LIFE_CLAIMED);
    ck_assert_int_eq(judge(LIFE_DEAD | REASON_EVICTED, 0), LIFE_GONE);
    ck_assert_int_eq(life_reason(LIFE_DEAD | REASON_EVICTED), REASON_EVICTED);
    ck_assert_uint_eq(life_remaining_ms(&whole.thread, 100, 40), 60);
    ck_assert_uint_eq(life_remaining_ms(&whole.thread, 100, 100), 0);
}
END_TEST

START_TEST(refresh_moves_forward_only)
{
    set(100);
    ck_assert_int_eq(refresh(&whole.thread, 99, 50, false), LIFE_ALIVE);
    WORD(149);
    ck_assert_int_eq(refresh(&whole.thread, 99, 10, false), LIFE_ALIVE);
    WORD(149);
    ck_assert_int_eq(refresh(&whole.thread, 99, 10, true), LIFE_ALIVE);
    WORD(109 | LIFE_STAMP_ONE);
    ck_assert_int_eq(refresh(&whole.thread, 109, 50, true), LIFE_OVERDUE);
    WORD(109 | LIFE_STAMP_ONE);
    set(100 | LIFE_CLAIM);
    ck_assert_int_eq(refresh(&whole.thread, 99, 50, false), LIFE_ALIVE);
    WORD(149 | LIFE_CLAIM);
    ck_assert_int_eq(refresh(&whole.thread, 149, 50, false), LIFE_CLAIMED);
    WORD(149 | LIFE_CLAIM);
    set(LIFE_DEAD | REASON_FORGOTTEN);
    ck_assert_int_eq(refresh(&whole.thread, 1, 50, true), LIFE_GONE);
    WORD(LIFE_DEAD | REASON_FORGOTTEN);
}
END_TEST

START_TEST(claims_exclude)
{
    set(100);
    ck_assert_int_eq(life_claim(&whole.thread, 99), LIFE_ALIVE);
    WORD(100 | LIFE_CLAIM);
    ck_assert_int_eq(life_claim(&whole.thread, 99), LIFE_CLAIMED);
    ck_assert_int_eq(life_claim(&whole.thread, 500), LIFE_CLAIMED);
    ck_assert(!life_kill(&whole.thread, 500, REASON_EXPIRED));
    ck_assert(!life_kill(&whole.thread, UINT64_MAX, REASON_FORGOTTEN));
    release(&whole.thread, 0, false);
    WORD(100);
    ck_assert_int_eq(life_claim(&whole.thread, 100), LIFE_OVERDUE);
    WORD(100);
    ck_assert_int_eq(life_claim(&whole.thread, 99), LIFE_ALIVE);
    release(&whole.thread, 200, false);
    WORD(200);
    ck_assert_int_eq(life_claim(&whole.thread, 99), LIFE_ALIVE);
    release(&whole.thread, 150, false);
    WORD(200);
    ck_assert_int_eq(life_claim(&whole.thread, 99), LIFE_ALIVE);
    release(&whole.thread, 150, true);
    WORD(150 | LIFE_STAMP_ONE);
}
END_TEST

/* Who read the ttl before it was set must not have its word accepted after: not even when the
 * deadline of the new ttl happens to be that of the old one. */
START_TEST(a_reset_is_seen_whatever_the_deadline)
{
    static const uint64_t states[] = {0, LIFE_CLAIM, LIFE_CLAIM | LIFE_UPKEEP, LIFE_STAMP};
    for (unsigned i = 0; i < sizeof states / sizeof *states; i++) {
        uint64_t word = 100 | states[i];
        set(word);
        ck_assert_int_eq(refresh(&whole.thread, 60, 40, true), LIFE_ALIVE);
        ck_assert(!life_swap(&whole.thread, &word, word + 50));
        ck_assert_uint_eq(word & ~LIFE_STAMP, 100 | (states[i] & ~LIFE_STAMP));
        ck_assert_int_eq(refresh(&whole.thread, 60, 40, false), LIFE_ALIVE);
        WORD(word); /* a use within the tick writes nothing */
    }
}
END_TEST

/* Upkeep excludes others and is nobody's conflict. */
START_TEST(upkeep_is_no_change)
{
    set(100);
    ck_assert(!life_is_changing(&whole.thread));
    ck_assert_int_eq(life_claim_for_upkeep(&whole.thread, 50), LIFE_ALIVE);
    ck_assert(!life_is_changing(&whole.thread));
    ck_assert_int_eq(life_claim(&whole.thread, 50), LIFE_CLAIMED);
    ck_assert(!life_kill(&whole.thread, UINT64_MAX, REASON_FORGOTTEN));
    ck_assert_int_eq(refresh(&whole.thread, 60, 50, false), LIFE_ALIVE);
    ck_assert(!life_is_changing(&whole.thread)); /* a use leaves it what it is */
    release(&whole.thread, 0, false);
    WORD(110);
    ck_assert_int_eq(life_claim(&whole.thread, 50), LIFE_ALIVE);
    ck_assert(life_is_changing(&whole.thread));
    release(&whole.thread, 0, false);
    WORD(110);
}
END_TEST

START_TEST(only_the_overdue_are_killed)
{
    set(100);
    ck_assert(!life_kill(&whole.thread, 99, REASON_EXPIRED));
    WORD(100);
    ck_assert(life_kill(&whole.thread, 100, REASON_EXPIRED));
    WORD(LIFE_DEAD | REASON_EXPIRED);
    ck_assert(!life_kill(&whole.thread, 100, REASON_EXPIRED));
    ck_assert(!life_kill(&whole.thread, UINT64_MAX, REASON_FORGOTTEN));
    ck_assert_int_eq(life_claim(&whole.thread, 1), LIFE_GONE);
    set(100);
    ck_assert(life_kill(&whole.thread, UINT64_MAX, REASON_FORGOTTEN));
    WORD(LIFE_DEAD | REASON_FORGOTTEN);
}
END_TEST

/* Whatever its use, a thread dies by its age. */
START_TEST(age_ends_it)
{
    set_death(&whole.thread, 90);
    set(100);
    ck_assert_int_eq(life_judge(&whole.thread, 100, 89), LIFE_ALIVE);
    ck_assert_int_eq(life_judge(&whole.thread, 100, 90), LIFE_OVERDUE);
    ck_assert_uint_eq(life_remaining_ms(&whole.thread, 100, 40), 50);
    ck_assert_int_eq(refresh(&whole.thread, 89, 50, false), LIFE_ALIVE);
    ck_assert_int_eq(refresh(&whole.thread, 90, 50, false), LIFE_OVERDUE);
    ck_assert_int_eq(life_claim(&whole.thread, 90), LIFE_OVERDUE);
    ck_assert(!life_kill(&whole.thread, 89, REASON_MAX_AGE));
    ck_assert_int_eq(life_end_reason(&whole.thread, 90), REASON_MAX_AGE);
    ck_assert_int_eq(life_end_reason(&whole.thread, 89), REASON_EXPIRED);
    ck_assert(life_kill(&whole.thread, 90, REASON_MAX_AGE));
    WORD(LIFE_DEAD | REASON_MAX_AGE);
    set_death(&whole.thread, UINT64_MAX);
}
END_TEST

/* A retention, where there is one, is what a use keeps it for. */
START_TEST(retention_keeps)
{
    set(100);
    atomic_store(&whole.rest.retention_ms, 1000);
    ck_assert_int_eq(refresh(&whole.thread, 50, 10, false), LIFE_ALIVE);
    WORD(1050);
    ck_assert_uint_eq(life_used_ms(&whole.thread, 1050), 50);
    atomic_store(&whole.rest.retention_ms, 0);
    ck_assert_uint_eq(life_used_ms(&whole.thread, 60), 50);
}
END_TEST

START_TEST(demotion_wants_the_word_it_judged)
{
    set(100);
    ck_assert_int_eq(life_claim(&whole.thread, 50), LIFE_ALIVE);
    uint64_t word = life_load(&whole.thread);
    ck_assert_int_eq(refresh(&whole.thread, 60, 50, false), LIFE_ALIVE);
    ck_assert(!life_end(&whole.thread, word, REASON_NONE)); /* used meanwhile */
    WORD(110 | LIFE_CLAIM);
    ck_assert(life_end(&whole.thread, life_load(&whole.thread), REASON_NONE));
    ck_assert(life_is_demoted(life_load(&whole.thread)));
    ck_assert_int_eq(life_reason(life_load(&whole.thread)), REASON_NONE);
    ck_assert(!life_is_demoted(LIFE_DEAD | REASON_EXPIRED));
    ck_assert_int_eq(life_claim(&whole.thread, 1), LIFE_GONE);
}
END_TEST

/* Each round one word, due at 10: refreshed or claimed at 9 by one, killed at 10 by the other. */
enum { ROUNDS_AT_ONCE = 1000 };
static struct whole words[ROUNDS_AT_ONCE];
static pthread_barrier_t barrier;
static bool killed[ROUNDS_AT_ONCE];
static uint64_t passes;

static void *killer(void *unused)
{
    for (uint64_t pass = 0; pass < passes; pass++) {
        pthread_barrier_wait(&barrier);
        for (unsigned i = 0; i < ROUNDS_AT_ONCE; i++) {
            killed[i] = life_kill(&words[i].thread, 10, REASON_EXPIRED);
        }
        pthread_barrier_wait(&barrier);
    }
    return unused;
}

START_TEST(a_refresh_or_a_kill_but_not_both)
{
    pthread_t other;
    passes = trial_count(1000);
    pthread_barrier_init(&barrier, NULL, 2);
    ck_assert_int_eq(pthread_create(&other, NULL, killer, NULL), 0);
    for (uint64_t pass = 0; pass < passes; pass++) {
        bool used[ROUNDS_AT_ONCE];
        for (unsigned i = 0; i < ROUNDS_AT_ONCE; i++) {
            set_death(&words[i].thread, UINT64_MAX);
            atomic_store(&words[i].thread.life, 10);
        }
        pthread_barrier_wait(&barrier);
        for (unsigned i = ROUNDS_AT_ONCE; i-- > 0;) {
            used[i] = pass % 2 ? refresh(&words[i].thread, 9, 5, false) == LIFE_ALIVE
                               : life_claim(&words[i].thread, 9) == LIFE_ALIVE;
        }
        pthread_barrier_wait(&barrier);
        for (unsigned i = 0; i < ROUNDS_AT_ONCE; i++) {
            ck_assert(used[i] != killed[i]);
            ck_assert_uint_eq(life_load(&words[i].thread), killed[i]  ? LIFE_DEAD | REASON_EXPIRED
                                                           : pass % 2 ? 14
                                                                      : (10 | LIFE_CLAIM));
        }
    }
    pthread_join(other, NULL);
    pthread_barrier_destroy(&barrier);
}
END_TEST

/* ---- A ttl that is shortened while others use the thread ---- */

enum { LONG_TTL_MS = 100000, SHORT_TTL_MS = 10, NOW_MS = 1000 };
static _Atomic unsigned round_of_user, round_of_setter;
enum { ROUNDS_LAST_S = 10 }; /* on a busy machine each round takes a time slice or two */
static _Atomic bool rounds_are_over;

static void wait_for(_Atomic unsigned *round, unsigned wanted)
{
    for (unsigned looks = 1; atomic_load(round) != wanted; looks++) {
        if (looks % 256 == 0) {
            sched_yield(); /* the other one may need this core */
        }
    }
}

static void *use_again_and_again(void *context)
{
    unsigned rounds = *(unsigned *)context;
    for (unsigned i = 1; i <= rounds; i++) {
        wait_for(&round_of_setter, i);
        if (atomic_load(&rounds_are_over)) {
            break;
        }
        /* Later by a millisecond, so that it has something to write. */
        life_refresh(&whole.thread, NOW_MS + 1, LIFE_EXTEND);
        atomic_store(&round_of_user, i);
    }
    return NULL;
}

START_TEST(a_shortened_ttl_is_not_lost_to_a_use)
{
    unsigned rounds = (unsigned)trial_count(200000);
    pthread_t user;
    atomic_store(&round_of_user, 0);
    atomic_store(&round_of_setter, 0);
    atomic_store(&rounds_are_over, false);
    time_t end = time(NULL) + ROUNDS_LAST_S;
    ck_assert_int_eq(pthread_create(&user, NULL, use_again_and_again, &rounds), 0);
    for (unsigned i = 1; i <= rounds; i++) {
        set(NOW_MS + LONG_TTL_MS);
        atomic_store(&whole.thread.ttl_ms, LONG_TTL_MS);
        atomic_store(&round_of_setter, i);
        atomic_store(&whole.thread.ttl_ms, SHORT_TTL_MS);
        ck_assert_int_eq(life_refresh(&whole.thread, NOW_MS, LIFE_RESET), LIFE_ALIVE);
        wait_for(&round_of_user, i);
        if ((life_load(&whole.thread) & LIFE_DEADLINE) > NOW_MS + 1 + SHORT_TTL_MS) {
            ck_abort_msg("round %u: the deadline of the old ttl came back", i);
        }
        if (time(NULL) >= end && i < rounds) {
            atomic_store(&rounds_are_over, true);
            atomic_store(&round_of_setter, i + 1);
            break;
        }
    }
    pthread_join(user, NULL);
}
END_TEST

/* What has a streamer lives till its claim ends, and each change of that is a change of the word.
 */
START_TEST(streams_keep_alive)
{
    set(100 | LIFE_CLAIM);
    life_stream(&whole.thread, 500);
    WORD(100 | LIFE_CLAIM | LIFE_STAMP_ONE);
    ck_assert_int_eq(judge(100, 499), LIFE_ALIVE);
    ck_assert_int_eq(judge(100, 500), LIFE_OVERDUE);
    ck_assert_int_eq(judge(100 | LIFE_CLAIM, 500), LIFE_CLAIMED);
    atomic_store(&whole.thread.ttl_ms, 7);
    ck_assert_uint_eq(life_remaining_ms(&whole.thread, 100, 40), 60);
    ck_assert_uint_eq(life_remaining_ms(&whole.thread, 100, 300), 7); /* its end is a use */
    ck_assert_uint_eq(life_remaining_ms(&whole.thread, 100, 498), 2);
    set(100 | LIFE_CLAIM | LIFE_STAMP);
    life_stream(&whole.thread, 600); /* the stamp goes round */
    WORD(100 | LIFE_CLAIM);
    life_stream(&whole.thread, 700);
    release(&whole.thread, 0, false);
    WORD(100 | LIFE_STAMP_ONE);
    ck_assert_int_eq(life_claim(&whole.thread, 650), LIFE_ALIVE);
    ck_assert_int_eq(refresh(&whole.thread, 650, 20, false), LIFE_ALIVE);
    WORD(670 | LIFE_CLAIM | LIFE_STAMP_ONE);
    release(&whole.thread, 0, false);
    ck_assert(!life_kill(&whole.thread, 699, REASON_EXPIRED));
    ck_assert(!life_evict(&whole.thread, 699));
    set_death(&whole.thread, 680); /* its age wins */
    ck_assert_int_eq(life_judge(&whole.thread, life_load(&whole.thread), 680), LIFE_OVERDUE);
    set_death(&whole.thread, UINT64_MAX);
    ck_assert(life_evict(&whole.thread, 700));
    WORD(LIFE_DEAD | REASON_EVICTED);
    ck_assert(!life_evict(&whole.thread, 700));
    set(100 | LIFE_CLAIM);
    life_stream(&whole.thread, 0);
    ck_assert(!life_evict(&whole.thread, 50)); /* claimed */
    release(&whole.thread, 0, false);
    ck_assert(life_evict(&whole.thread, 50)); /* not overdue, and that is what it is for */
    set(100);
    ck_assert_int_eq(life_judge(&whole.thread, 100, 100), LIFE_OVERDUE);
}
END_TEST

/* The word was read, then the stream ended, which was a use: what is judged is the word after it.
 */
START_TEST(a_stream_that_ends_meanwhile_was_a_use)
{
    set(100 | LIFE_CLAIM);
    life_stream(&whole.thread, 500);
    uint64_t seen = life_load(&whole.thread);
    ck_assert_int_eq(refresh(&whole.thread, 400, 50, false), LIFE_ALIVE);
    life_stream(&whole.thread, 0);
    ck_assert_int_eq(life_judge(&whole.thread, seen, 449), LIFE_ALIVE);
    ck_assert_int_eq(life_judge(&whole.thread, seen, 450), LIFE_CLAIMED);
    set(100);
}
END_TEST

int main(void)
{
    return SUITE_RUN("life", NULL, NULL, 0, judging_is_exact, age_ends_it, upkeep_is_no_change,
                     retention_keeps, demotion_wants_the_word_it_judged,
                     a_shortened_ttl_is_not_lost_to_a_use, refresh_moves_forward_only,
                     claims_exclude, a_reset_is_seen_whatever_the_deadline,
                     only_the_overdue_are_killed, a_refresh_or_a_kill_but_not_both,
                     streams_keep_alive, a_stream_that_ends_meanwhile_was_a_use);
}
