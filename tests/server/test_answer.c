/*
 * The bounds of answers: what is said to be the most is the most. Steps are made up here, at their
 * largest, in place of the domain's. What answers say is tested in test_dispatch.c.
 */
#include "server/answer.h"
#include "net/handler.h"
#include "tests/lib/notation.h"
#include "wire/cursor.h"
#include "wire/parse.h"

#include <assert.h>
#include <check.h>
#include <stdlib.h>

/* ---- A domain of one kind of step ---- */

struct step {
    struct step_view view;
    enum wire_kind kind;
    uint32_t segment_bytes;
};

static struct step made_up;
static enum reason missing_reason;

const struct step *thread_replay_step(const struct lane *lane,
                                      const struct thread_replay_result *result, uint32_t position,
                                      enum reason *missing)
{
    (void)lane;
    assert(position >= result->begin && position < result->end);
    *missing = missing_reason;
    return missing_reason == REASON_NONE ? &made_up : NULL;
}

void step_view(const struct step *step, struct step_view *view)
{
    *view = step->view;
}

enum wire_kind step_segment_kind(const struct step *step, unsigned segment)
{
    assert(segment < step->view.segment_count);
    return step->kind;
}

uint32_t step_segment_bytes(const struct step *step, unsigned segment)
{
    assert(segment < step->view.segment_count);
    return step->segment_bytes;
}

static uint8_t payload[WIRE_PAYLOADS_MAX * 70000];
static uint8_t longest[WIRE_ID_BYTES_MAX];

/* A step with the longest of everything; its tool calls take the fewest bytes as they are kept. */
static void make_up(uint32_t segment_bytes, unsigned tool_calls, size_t tool_call_bytes)
{
    static uint8_t calls[WIRE_TOOL_CALLS_MAX * 300];
    uint8_t *at = calls;
    for (unsigned i = 0; i < tool_calls; i++) {
        if (tool_call_bytes < 32) {
            *at++ = (uint8_t)(0xA0 | tool_call_bytes);
        } else {
            *at++ = 0xD9;
            *at++ = (uint8_t)tool_call_bytes;
        }
        memset(at, 'c', tool_call_bytes);
        at += tool_call_bytes;
    }
    memset(longest, 'x', sizeof longest);
    missing_reason = REASON_NONE;
    made_up = (struct step){
        .view =
            {
                .number = UINT32_MAX,
                .turn = UINT32_MAX,
                .has_tokens = true,
                .tokens = UINT32_MAX,
                .model = bytes_of(longest, sizeof longest),
                .response_id = bytes_of(longest, sizeof longest),
                .tool_calls = {.encoded = bytes_of(calls, (size_t)(at - calls)),
                               .count = tool_calls},
                .segment_count = WIRE_PAYLOADS_MAX,
                .payload_bytes = segment_bytes * WIRE_PAYLOADS_MAX,
                .payload = bytes_of(payload, (size_t)segment_bytes * WIRE_PAYLOADS_MAX),
            },
        .kind = WIRE_KIND_OPAQUE,
        .segment_bytes = segment_bytes,
    };
}

/* The largest replay of `steps` such steps, into a buffer of just the bound. */
static void check_bound(unsigned steps)
{
    struct thread_replay_result result = {
        .state = THREAD_PARTIAL,
        .ambiguous = true,
        .thread = bytes_of(longest, sizeof longest),
        .version = UINT64_MAX,
        .head = INT64_MAX,
        .has_first_changed = true,
        .first_changed = UINT32_MAX,
        .expires_in_ms = UINT64_MAX,
        .begin = 0,
        .end = steps,
        .listed = steps,
        .segment_count = missing_reason == REASON_NONE ? steps * WIRE_PAYLOADS_MAX : 0,
    };
    static struct answer_steps steps_kept;
    uint64_t bound = answer_replay_look(&steps_kept, NULL, &result);
    uint8_t *room = malloc(bound);
    struct wire_writer writer = wire_writer_on(room, bound);
    answer_replay(&writer, UINT32_MAX, &steps_kept);
    ck_assert(!writer.overflow);
    uint64_t left_out = 0;
    unsigned referred_count = 0;
    struct answer_referred referred;
    for (; answer_payloads(&writer, &steps_kept, &referred); referred_count++) {
        ck_assert_ptr_eq(referred.step, &made_up);
        ck_assert_ptr_eq(referred.data, payload + (referred_count % WIRE_PAYLOADS_MAX) *
                                                      (size_t)made_up.segment_bytes);
        ck_assert_uint_eq(referred.size_bytes, made_up.segment_bytes);
        ck_assert_uint_eq(referred.step_bytes, made_up.view.payload_bytes);
        left_out += referred.size_bytes;
    }
    ck_assert(!writer.overflow);
    bool refers = missing_reason == REASON_NONE && made_up.segment_bytes >= NET_REFER_BYTES_MIN;
    ck_assert_uint_eq(referred_count, refers ? steps * WIRE_PAYLOADS_MAX : 0);
    /* With the payloads that are left out, the frame is as long as it says. */
    ck_assert_uint_eq(bytes_load_be32(room + 1),
                      (uint64_t)(writer.at - room) - WIRE_HEADER_BYTES + left_out);
    free(room);
}

START_TEST(replays_stay_within_their_bound)
{
    static const uint32_t sizes[] = {1, 255, 256, 2047, 2048, 65535, 65536, 70000};
    for (unsigned s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (unsigned calls = 0; calls <= WIRE_TOOL_CALLS_MAX; calls += 16) {
            make_up(sizes[s], calls, 1);
            check_bound(1);
            make_up(sizes[s], calls, WIRE_ID_BYTES_MAX);
            check_bound(3);
        }
        if (sizes[s] < 1000) { /* more than are kept */
            check_bound(ANSWER_STEPS_KEPT + 2);
        }
    }
}
END_TEST

START_TEST(missing_steps_stay_within_their_bound)
{
    for (unsigned r = REASON_NONE + 1; r < REASON_COUNT; r++) {
        missing_reason = (enum reason)r;
        check_bound(10000);
    }
}
END_TEST

START_TEST(misses_stay_within_their_bound)
{
    memset(longest, 'x', sizeof longest);
    for (unsigned r = REASON_NONE + 1; r < REASON_COUNT; r++) {
        struct thread_replay_result result = {
            .state = THREAD_MISS,
            .reason = (enum reason)r,
            .vouch_ms = UINT64_MAX,
            .ambiguous = true,
            .thread = bytes_of(longest, sizeof longest),
            .version = UINT64_MAX,
            .head = -1,
        };
        static struct answer_steps steps;
        uint8_t room[WIRE_REPLAY_BYTES_MAX];
        ck_assert_uint_eq(answer_replay_look(&steps, NULL, &result), sizeof room);
        struct wire_writer writer = wire_writer_on(room, sizeof room);
        answer_replay(&writer, UINT32_MAX, &steps);
        ck_assert(!writer.overflow);
    }
}
END_TEST

static void check_small(const struct wire_writer *writer, const uint8_t *room)
{
    ck_assert(!writer->overflow);
    struct bytes body =
        bytes_of(room + WIRE_HEADER_BYTES, (size_t)(writer->at - room) - WIRE_HEADER_BYTES);
    ck_assert_uint_eq(bytes_load_be32(room + 1), body.size);
    char *text = notation_decode(body);
    ck_assert_ptr_nonnull(text);
    free(text);
}

/* The largest of each small answer fits the small room. */
START_TEST(small_answers_fit)
{
    uint8_t room[NET_REPLY_SMALL_BYTES];
    struct wire_writer writer;
    static struct wire_request request;
    request.msgid = UINT32_MAX;
    request.thread = bytes_of(longest, sizeof longest);
    memset(longest, 'x', sizeof longest);
    writer = wire_writer_on(room, sizeof room);
    answer_hello(&writer, UINT32_MAX, UINT64_MAX);
    check_small(&writer, room);
    writer = wire_writer_on(room, sizeof room);
    answer_ping(&writer, UINT32_MAX);
    check_small(&writer, room);
    struct thread_append_result append = {UINT32_MAX, UINT64_MAX, true, true,
                                          UINT64_MAX, UINT64_MAX, NULL};
    writer = wire_writer_on(room, sizeof room);
    answer_append(&writer, &request, &append);
    check_small(&writer, room);
    struct thread_stat_result stat;
    memset(&stat, 0xFF, sizeof stat);
    stat.state = THREAD_PARTIAL;
    stat.on_disk = stat.in_flight = true; /* no bool has all bits set */
    writer = wire_writer_on(room, sizeof room);
    answer_stat(&writer, UINT32_MAX, &stat);
    check_small(&writer, room);
    stat.state = THREAD_MISS;
    stat.reason = REASON_NEVER_SEEN;
    writer = wire_writer_on(room, sizeof room);
    answer_stat(&writer, UINT32_MAX, &stat);
    check_small(&writer, room);
    struct thread_fork_result fork_result = {UINT64_MAX, UINT64_MAX};
    writer = wire_writer_on(room, sizeof room);
    answer_fork(&writer, &request, &fork_result);
    check_small(&writer, room);
    struct thread_rewind_result rewind_result = {UINT64_MAX, UINT64_MAX};
    writer = wire_writer_on(room, sizeof room);
    answer_rewind(&writer, UINT32_MAX, &rewind_result);
    check_small(&writer, room);
    struct thread_begin_result begun = {UINT32_MAX, UINT64_MAX, INT64_MAX, UINT64_MAX};
    writer = wire_writer_on(room, sizeof room);
    answer_begin(&writer, &request, &begun);
    check_small(&writer, room);
    struct thread_chunk_result chunk = {UINT64_MAX, UINT64_MAX};
    writer = wire_writer_on(room, sizeof room);
    answer_chunk(&writer, UINT32_MAX, &chunk);
    check_small(&writer, room);
    writer = wire_writer_on(room, sizeof room);
    answer_abort(&writer, UINT32_MAX);
    check_small(&writer, room);
    writer = wire_writer_on(room, sizeof room);
    answer_forget(&writer, UINT32_MAX, false);
    check_small(&writer, room);
}
END_TEST

START_TEST(lists_and_info_stay_within_their_bounds)
{
    static struct thread_list_result list;
    memset(longest, 'x', sizeof longest);
    for (unsigned i = 0; i < THREAD_LIST_MAX; i++) {
        list.listed[i] = (struct thread_listed){bytes_of(longest, sizeof longest), UINT64_MAX,
                                                UINT64_MAX, UINT64_MAX, true};
    }
    list.more = true;
    for (list.count = 0; list.count <= THREAD_LIST_MAX; list.count += 250) {
        size_t bound = answer_list_bytes(&list);
        uint8_t *room = malloc(bound);
        struct wire_writer writer = wire_writer_on(room, bound);
        answer_list(&writer, UINT32_MAX, &list);
        check_small(&writer, room);
        free(room);
    }
    uint64_t values[METRIC_COUNT];
    memset(values, 0xFF, sizeof values);
    uint8_t *room = malloc(answer_info_bytes());
    struct wire_writer writer = wire_writer_on(room, answer_info_bytes());
    answer_info(&writer, UINT32_MAX, values);
    check_small(&writer, room);
    free(room);
}
END_TEST

START_TEST(touches_stay_within_their_bound)
{
    for (unsigned r = REASON_NONE + 1; r < REASON_COUNT; r++) {
        for (unsigned size = 1; size <= WIRE_ID_BYTES_MAX; size++) {
            uint8_t room[WIRE_ID_BYTES_MAX + ANSWER_MISSING_BYTES_MAX];
            struct wire_writer writer = wire_writer_on(room, size + ANSWER_MISSING_BYTES_MAX);
            answer_touch_missing(&writer, bytes_of(longest, size), (enum reason)r);
            ck_assert(!writer.overflow);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("answer");
    TCase *tcase = tcase_create("bounds");
    tcase_add_test(tcase, replays_stay_within_their_bound);
    tcase_add_test(tcase, missing_steps_stay_within_their_bound);
    tcase_add_test(tcase, misses_stay_within_their_bound);
    tcase_add_test(tcase, small_answers_fit);
    tcase_add_test(tcase, lists_and_info_stay_within_their_bounds);
    tcase_add_test(tcase, touches_stay_within_their_bound);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
