/* A selection fits the frame even when every step names as many tool calls as it may. */
#include "tests/lib/domain.h"
#include "tests/lib/suite.h"

enum {
    FRAME_BYTES = 1 << 20,
    STEPS = 2300,
    /* The least that a step without ids and segments takes: its map, field names and values. */
    STEP_LEAST_BYTES = 1 + sizeof "stepturnfinalmodelresponse_idtool_callstokenssegmentssource" -
                       1 + 9 + sizeof "memory" + 10,
};

START_TEST(tool_calls_are_counted_as_they_are_sent)
{
    struct domain domain;
    struct threads_settings settings = domain_settings();
    uint8_t calls[2 * WIRE_TOOL_CALLS_MAX];
    struct ask ask;
    struct thread_append_result appended;
    struct thread_replay_result result;
    settings.frame_max_bytes = FRAME_BYTES;
    domain_open(&domain, settings);
    for (unsigned i = 0; i < WIRE_TOOL_CALLS_MAX; i++) {
        calls[2 * i] = 0xA1; /* str of one byte: sent back as bin, which takes one byte more */
        calls[2 * i + 1] = (uint8_t)i;
    }
    struct wire_list list = {.encoded = bytes_of(calls, sizeof calls),
                             .count = WIRE_TOOL_CALLS_MAX};
    static const struct wire_list none;
    for (int i = 0; i < STEPS; i++) {
        ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
        ask_set(&ask, tool_calls, list);
        ask_set(&ask, segments, none);
        ck_assert_int_eq(domain_append(domain.lane, &ask, &appended, &domain.error), STATUS_OK);
    }
    for (unsigned last = STEPS - 100; last <= STEPS; last++) {
        ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text("t"));
        ask_set(&ask, last, last);
        ck_assert_int_eq(domain_replay(domain.lane, &ask, &result, &domain.error), STATUS_OK);
        uint64_t least_bytes = 0;
        for (uint32_t at = result.begin; at < result.end; at++) {
            enum reason missing;
            bool sent = thread_replay_step(domain.lane, &result, at, &missing) != NULL;
            least_bytes += sent ? STEP_LEAST_BYTES + 3 * WIRE_TOOL_CALLS_MAX : 0;
        }
        ck_assert_uint_le(least_bytes, FRAME_BYTES);
    }
    domain_close(&domain);
}
END_TEST

int main(void)
{
    return SUITE_RUN("review_reply", NULL, NULL, 0, tool_calls_are_counted_as_they_are_sent);
}
