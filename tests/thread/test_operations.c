/* Hints that change nothing, and the last word after too many tries. */
#include "tests/lib/domain.h"
#include "tests/lib/suite.h"

#include <stdio.h>

static struct domain domain;

static void setup(void)
{
    struct threads_settings settings = domain_settings();
    settings.memory_bytes = 16 << 20;
    domain_open(&domain, settings);
}

static void teardown(void)
{
    domain_close(&domain);
}

START_TEST(hints_change_nothing)
{
    SAY("append t response_id=r call=c prefix=0123456789abcdef ttl_ms=50 : x", "step 0 v1 created");
    struct ask asks[6];
    ask_begin(&asks[0], WIRE_METHOD_REPLAY, bytes_text("t"));
    ask_begin(&asks[1], WIRE_METHOD_REPLAY, bytes_text("nobody"));
    for (int i = 2; i < 6; i++) {
        ask_begin(&asks[i], WIRE_METHOD_REPLAY, (struct bytes){0});
    }
    ask_set(&asks[2], response_id, bytes_text("r"));
    ask_set(&asks[3], tool_call, bytes_text("c"));
    ask_set(&asks[4], prefix, bytes_text("0123456789abcdef"));
    ck_assert_uint_eq(asks[5].request.given, 0); /* a request without a name */
    domain_wait(&domain, 20);
    for (int i = 0; i < 6; i++) {
        struct thread_hint hint;
        thread_prefetch_directory(domain.lane, &asks[i].request, &hint);
        ck_assert_int_eq(hint.has_name, i != 5);
        thread_prefetch_bucket(domain.lane, &hint);
        thread_prefetch_record(domain.lane, &asks[i].request, &hint);
        thread_prefetch_steps(domain.lane, &asks[i].request, &hint);
        ck_assert_int_eq(hint.has_name && hint.likely != NULL, i != 1 && i != 5);
    }
    SAY("stat t", "complete v1 steps 1 bytes 1 tokens 0");
    ck_assert_uint_eq(domain.expires_in_ms, 30);
    ck_assert_uint_eq(domain.stat.idle_ms, 20);
}
END_TEST

/* Under AddressSanitizer: it would be read where it is no more. */
START_TEST(what_a_hint_saw_is_of_its_turn)
{
    struct ask ask;
    struct thread_hint hint;
    SAY("append t : x*2000", "step 0 v1 created");
    ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text("t"));
    thread_prefetch_directory(domain.lane, &ask.request, &hint);
    thread_prefetch_bucket(domain.lane, &hint);
    thread_prefetch_record(domain.lane, &ask.request, &hint);
    ck_assert_ptr_nonnull(hint.likely);
    SAY("forget t", "forgotten");
    thread_prefetch_steps(domain.lane, &ask.request, &hint); /* in this turn it stays */
    for (int turn = 0; turn < 4; turn++) {
        lane_offline(domain.lane);
        lane_online(domain.lane);
        lane_tend_fully(domain.lane);
    }
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 0);
    thread_prefetch_steps(domain.lane, &ask.request, &hint);
}
END_TEST

/* What a hint saw is taken for the thread only while it is: not when it was forgotten since, came
 * anew, was unfolded, or is another of the same turn. */
START_TEST(what_a_hint_saw_is_looked_at_again)
{
    static const char *const meanwhile[] = {"stat t", "append t : two", "forget t", "append t : 2"};
    static const char *const then[] = {"complete v1", "complete v2", "miss forgotten", "complete"};
    for (unsigned i = 0; i < 4; i++) {
        struct ask ask;
        struct thread_hint hint;
        struct thread_replay_result result;
        SAY("append t expect=0 : one", "step 0 v1 created");
        ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text("t"));
        thread_prefetch_directory(domain.lane, &ask.request, &hint);
        thread_prefetch_record(domain.lane, &ask.request, &hint);
        ck_assert_ptr_eq(ask.request.likely, hint.likely);
        if (i == 3) {
            SAY("forget t", "forgotten");
        }
        domain_say(&domain, meanwhile[i]);
        ck_assert_int_eq(thread_replay(domain.lane, &ask.request, &result, &domain.error),
                         STATUS_OK);
        ck_assert_int_eq(result.state, i == 2 ? THREAD_MISS : THREAD_COMPLETE);
        ck_assert_uint_eq(result.version, i == 1 ? 2 : i == 2 ? 0 : 1);
        ck_assert_uint_eq(result.payload_bytes, i == 0 ? 3 : i == 1 ? 6 : i == 2 ? 0 : 1);
        ck_assert_ptr_nonnull(strstr(domain_say(&domain, "stat t"), then[i]));
        domain_say(&domain, "forget t");
        lane_tend_fully(domain.lane); /* now it counts for nothing */
        ck_assert_int_eq(thread_replay(domain.lane, &ask.request, &result, &domain.error),
                         STATUS_OK);
        ck_assert_int_eq(result.state, THREAD_MISS);
    }
}
END_TEST

/* A request whose name was hashed by the hint finds what it names, and only that. */
START_TEST(a_noted_hash_is_of_its_name)
{
    struct ask ask;
    struct thread_hint hint;
    struct thread_replay_result result;
    static const char names[] = "tu";
    SAY("append t response_id=r : one", "step 0 v1 created");
    SAY("append u : one two", "step 0 v1 created");
    ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_of(names, 1));
    thread_prefetch_directory(domain.lane, &ask.request, &hint);
    for (unsigned i = 0; i < 2; i++) {
        /* Not parsed anew: the note is of another name the second time. */
        ask.request.thread = bytes_of(names + i, 1);
        ck_assert_int_eq(thread_replay(domain.lane, &ask.request, &result, &domain.error),
                         STATUS_OK);
        ck_assert_int_eq(result.state, THREAD_COMPLETE);
        ck_assert(bytes_equal(result.thread, ask.request.thread));
    }
    /* Nor is it of another kind of name with the same bytes. */
    ask_begin(&ask, WIRE_METHOD_REPLAY, (struct bytes){0});
    ask_set(&ask, response_id, bytes_text("r"));
    thread_prefetch_directory(domain.lane, &ask.request, &hint);
    ck_assert_int_eq(thread_replay(domain.lane, &ask.request, &result, &domain.error), STATUS_OK);
    ck_assert_int_eq(result.state, THREAD_COMPLETE);
    struct bytes same = ask.request.response_id;
    ask.request.given = 0;
    ask_set(&ask, thread, same);
    ck_assert_int_eq(thread_replay(domain.lane, &ask.request, &result, &domain.error), STATUS_OK);
    ck_assert_int_eq(result.state, THREAD_MISS);
}
END_TEST

START_TEST(want_of_memory_is_over_budget)
{
    struct ask ask;
    char line[64];
    const char *answer = "";
    for (int i = 0; i < 100 && strcmp(answer, "again") != 0; i++) {
        snprintf(line, sizeof line, "append t%d : x*900000", i); /* nobody tends */
        answer = domain_say(&domain, line);
    }
    ck_assert_str_eq(answer, "again");
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
    ck_assert_int_eq(thread_give_up(domain.lane, &ask.request, &domain.error), STATUS_OVER_BUDGET);
    ck_assert_int_eq(domain.error.status, STATUS_OVER_BUDGET);
    /* Nothing was done, and tending makes room. */
    for (int tends = 0; tends < 20 && strcmp(answer, "again") == 0; tends++) {
        lane_tend(domain.lane);
        answer = domain_say(&domain, line);
    }
    ck_assert_str_eq(answer, "step 0 v1 created");
}
END_TEST

int main(void)
{
    return SUITE_RUN("operations", setup, teardown, 0, hints_change_nothing,
                     what_a_hint_saw_is_of_its_turn, what_a_hint_saw_is_looked_at_again,
                     a_noted_hash_is_of_its_name, want_of_memory_is_over_budget);
}
