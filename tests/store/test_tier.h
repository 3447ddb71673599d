/*
 * What the tests of disk tiers have in common: each runs over the reference model and the store.
 *
 * A test hands changes of real steps to the tier, lets them take effect, and asks; "reopen" means
 * that the answer must be the same after a restart. Header only.
 */
#ifndef RETHREAD_TESTS_STORE_TEST_TIER_H
#define RETHREAD_TESTS_STORE_TEST_TIER_H

#include "tests/lib/suite.h"
#include "tests/lib/trial.h"
#include "tests/store/tier_subject.h"

static enum subject_kind kind;
static struct clock_driven wall;
static struct domain source;
static struct subject subject;
static struct tier_caller *const caller = &subject.caller;

enum { TOMBSTONES = 2500, MAX_AGE_MS = 100 * CALLER_RETENTION_MS };

#define THREAD(id, answer)   ck_assert_str_eq(caller_show(caller, RECORD_THREAD, id), answer)
#define RESPONSE(id, answer) ck_assert_str_eq(caller_show(caller, RECORD_RESPONSE_ID, id), answer)
#define CALL(id, answer)     ck_assert_str_eq(caller_show(caller, RECORD_TOOL_CALL, id), answer)
#define PREFIX(id, answer)   ck_assert_str_eq(caller_show(caller, RECORD_PREFIX, id), answer)

static inline void setup(void)
{
    struct threads_settings settings = domain_settings();
    settings.memory_bytes = 256 << 20;
    settings.frame_max_bytes = 64 << 20;
    domain_open(&source, settings);
    clock_driven_init(&wall, CALLER_CREATED_MS);
    subject = (struct subject){
        .kind = kind, .wall = &wall, .max_age_ms = MAX_AGE_MS, .tombstones = TOMBSTONES};
    subject_open(&subject);
}

static inline void teardown(void)
{
    subject_close(&subject);
    domain_close(&source); /* no step is pinned any more */
}

static inline void say(struct told_thread *thread, const char *line)
{
    caller_say(&source, thread, line);
}

/* Hands in what is new since position `from` and lets it take effect. */
static inline void put_from(const struct told_thread *thread, uint32_t from, enum reason reason)
{
    ck_assert_int_eq(caller_submit(caller_put(caller, &source, thread, from, reason)), STATUS_OK);
    caller_wait(caller);
}

static inline void append(struct told_thread *thread, const char *line)
{
    uint32_t from = thread->length;
    say(thread, line);
    put_from(thread, from, REASON_NONE);
}

static inline void erase(const struct told_thread *thread, enum reason reason)
{
    ck_assert_int_eq(caller_submit(caller_erase(caller, thread, reason)), STATUS_OK);
    caller_wait(caller);
}

static inline struct told_thread thread_named(const char *id)
{
    return caller_thread(caller, id);
}

/* The main of such a test. */
#define TIER_RUN(...)                                                                              \
    int main(void)                                                                                 \
    {                                                                                              \
        int failed = 0;                                                                            \
        for (int i = 0; i < SUBJECT_KINDS; i++) {                                                  \
            kind = (enum subject_kind)i;                                                           \
            failed |= SUITE_RUN(subject_names[i], setup, teardown, 60, __VA_ARGS__);               \
        }                                                                                          \
        return failed;                                                                             \
    }

#endif
