/* Runs replays: the head is written, large payloads are referred to where they lie. */
#include "server/answer.h"
#include "server/dispatch_private.h"

#include <assert.h>

/*
 * Cuts the written reply at the payloads that go by reference. The headers and the small payloads
 * lie behind `run` in order, so that one walk over the segments finds each cut.
 */
static void send_replay(struct net_reply *reply, const struct lane *lane,
                        const struct thread_replay_result *result, const uint8_t *start,
                        const uint8_t *payloads, const uint8_t *end)
{
    const uint8_t *sent = start;
    const uint8_t *at = payloads;
    for (uint32_t position = result->begin; position < result->end; position++) {
        enum reason missing;
        const struct step *step = thread_replay_step(lane, result, position, &missing);
        if (step == NULL) {
            continue;
        }
        struct step_view view;
        step_view(step, &view);
        const uint8_t *payload = view.payload.data;
        for (unsigned s = 0; s < view.segment_count; s++) {
            uint32_t bytes = step_segment_bytes(step, s);
            at += bytes <= UINT8_MAX ? 2 : bytes <= UINT16_MAX ? 3 : 5;
            if (bytes < NET_REFER_BYTES_MIN) {
                at += bytes;
            } else {
                net_reply_commit(reply, (size_t)(at - sent));
                net_reply_refer(reply, payload, bytes, step, view.payload_bytes);
                sent = at;
            }
            payload += bytes;
        }
    }
    assert(at == end);
    if (end > sent) {
        net_reply_commit(reply, (size_t)(end - sent));
    }
}

enum outcome dispatch_replay(struct dispatch *dispatch, struct net_reply *reply, struct job *job)
{
    struct lane *lane = dispatch->lane;
    struct thread_replay_result result;
    enum status status = thread_replay(lane, &job->request, &result, &job->error);
    if (status != STATUS_OK) {
        return dispatch_status(dispatch, reply, job, status);
    }
    struct wire_writer writer;
    if (result.thread.size == 0) {
        result.thread = job->request.thread; /* a miss says of what, if the request did */
    }
    if (dispatch_room(reply, answer_replay_bytes(lane, &result), &writer) == NO_ROOM) {
        return dispatch_no_room(dispatch, reply, job);
    }
    const uint8_t *start = writer.at;
    const uint8_t *payloads = answer_replay(&writer, job->request.msgid, lane, &result);
    assert(!writer.overflow);
    if (bytes_load_be32(start + 1) > dispatch->settings.frame_max_bytes) {
        wire_fail(&job->error, STATUS_TOO_LARGE, "",
                  "the reply is larger than frame_max; ask for less with max_bytes or last");
        return dispatch_error(dispatch, reply, job, &job->error);
    }
    static const enum metric metrics[] = {
        [THREAD_COMPLETE] = METRIC_REPLAYS_COMPLETE,
        [THREAD_PARTIAL] = METRIC_REPLAYS_PARTIAL,
        [THREAD_MISS] = METRIC_REPLAYS_MISS,
    };
    lane_count(lane, metrics[result.state], 1);
    send_replay(reply, lane, &result, start, payloads, writer.at);
    return ANSWERED;
}
