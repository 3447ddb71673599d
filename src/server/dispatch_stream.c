/* Runs the parts of a streamed append but its commit, which is an append's. */
#include "server/answer.h"
#include "server/dispatch_private.h"

enum outcome dispatch_begin(struct dispatch *dispatch, struct net_reply *reply, struct job *job,
                            struct wire_writer *writer)
{
    const uint8_t *start = writer->at;
    struct thread_begin_result result;
    enum status status = thread_begin(dispatch->lane, &job->request, &result, &job->error);
    if (status != STATUS_OK) {
        return dispatch_status(dispatch, reply, job, status);
    }
    answer_begin(writer, &job->request, &result);
    return dispatch_commit(reply, writer, start);
}

enum outcome dispatch_chunk(struct dispatch *dispatch, struct net_reply *reply, struct job *job,
                            struct wire_writer *writer)
{
    const uint8_t *start = writer->at;
    struct thread_chunk_result result;
    enum status status = thread_chunk(dispatch->lane, &job->request, &result, &job->error);
    if (status != STATUS_OK) {
        return dispatch_status(dispatch, reply, job, status);
    }
    answer_chunk(writer, job->request.msgid, &result);
    return dispatch_commit(reply, writer, start);
}

enum outcome dispatch_abort(struct dispatch *dispatch, struct net_reply *reply, struct job *job,
                            struct wire_writer *writer)
{
    const uint8_t *start = writer->at;
    enum status status = thread_abort(dispatch->lane, &job->request, &job->error);
    if (status != STATUS_OK) {
        return dispatch_status(dispatch, reply, job, status);
    }
    answer_abort(writer, job->request.msgid);
    return dispatch_commit(reply, writer, start);
}
