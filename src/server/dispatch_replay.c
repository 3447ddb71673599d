/* Runs replays: the head is written, large payloads are referred to where they lie. */
#include "server/answer.h"
#include "server/dispatch_private.h"

#include <assert.h>

/* From `start` on, where the head is, cut at the payloads that go by reference. */
static void send_replay(struct net_reply *reply, struct answer_steps *steps,
                        struct wire_writer *writer, const uint8_t *start)
{
    const uint8_t *sent = start;
    struct answer_referred referred;
    while (answer_payloads(writer, steps, &referred)) {
        assert(!writer->overflow);
        net_reply_commit(reply, (size_t)(writer->at - sent));
        net_reply_refer(reply, referred.data, referred.size_bytes, referred.step,
                        referred.step_bytes);
        sent = writer->at;
    }
    assert(!writer->overflow);
    net_reply_commit(reply, (size_t)(writer->at - sent));
}

enum outcome dispatch_replay(struct dispatch *dispatch, struct net_reply *reply, struct job *job)
{
    struct lane *lane = dispatch->lane;
    struct answer_steps *steps = &dispatch->steps;
    struct thread_replay_result result;
    enum status status = thread_replay(lane, &job->request, &result, &job->error);
    if (status != STATUS_OK) {
        return dispatch_status(dispatch, reply, job, status);
    }
    struct wire_writer writer;
    if (result.thread.size == 0) {
        result.thread = job->request.thread; /* a miss says of what, if the request did */
    }
    if (dispatch_room(reply, answer_replay_look(steps, lane, &result), &writer) == NO_ROOM) {
        return dispatch_no_room(dispatch, reply, job);
    }
    const uint8_t *start = writer.at;
    answer_replay(&writer, job->request.msgid, steps);
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
    send_replay(reply, steps, &writer, start);
    return ANSWERED;
}
