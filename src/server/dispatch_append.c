/* Runs appends and the commits of streamed ones; those that ask for the disk are answered when it
 * has them. */
#include "server/answer.h"
#include "server/dispatch_private.h"

static bool append_may_wait(const struct dispatch *dispatch, const struct wire_request *request)
{
    return dispatch->settings.has_disk &&
           ((wire_given(request, WIRE_FIELD_ack) && request->ack == WIRE_ACK_DISK) ||
            (wire_given(request, WIRE_FIELD_retention_ms) && request->retention_ms == 0));
}

static const char *append_advice(const struct wire_request *request)
{
    if (wire_given(request, WIRE_FIELD_retention_ms) && request->retention_ms == 0) {
        return "the step is in memory, and what the disk has of the thread is not erased; once the "
               "disk takes writes again, forget the thread or append to it again";
    }
    return wire_given(request, WIRE_FIELD_key)
               ? "the step is in memory and not on disk; once the disk takes writes again, send "
                 "the append again with the same key"
               : "the step is in memory and not on disk; sent again without a key it would be "
                 "there "
                 "twice, so append it with a key, or ask stat for the version first";
}

enum outcome dispatch_append(struct dispatch *dispatch, struct net_reply *reply, struct job *job,
                             struct wire_writer *writer)
{
    const uint8_t *start = writer->at;
    bool may_wait = append_may_wait(dispatch, &job->request);
    struct waiting *waiting = may_wait ? waiting_reserve(reply) : NULL;
    if (may_wait && waiting == NULL) {
        return NO_ROOM;
    }
    struct thread_append_result result;
    enum status status = job->request.method == WIRE_METHOD_COMMIT
                             ? thread_commit(dispatch->lane, &job->request, &result, &job->error)
                             : thread_append(dispatch->lane, &job->request, &result, &job->error);
    if (status != STATUS_OK) {
        waiting_cancel(waiting);
        return dispatch_status(dispatch, reply, job, status);
    }
    answer_append(writer, &job->request, &result);
    return dispatch_commit_pending(dispatch, reply, job, waiting, result.pending, writer, start,
                                   append_advice(&job->request));
}
