/*
 * What the dispatch_*.c share: the state of one loop's dispatch, and how a request is answered.
 * Private to them.
 */
#ifndef RETHREAD_SERVER_DISPATCH_PRIVATE_H
#define RETHREAD_SERVER_DISPATCH_PRIVATE_H

#include "net/handler.h"
#include "server/answer.h"
#include "server/dispatch.h"
#include "server/waiting.h"
#include "thread/operations.h"
#include "wire/compose.h"

/* One request of a turn. */
struct job {
    enum status status; /* of parsing */
    bool has_msgid;
    struct wire_request request;
    struct wire_error error;
};

struct dispatch {
    struct dispatch_settings settings;
    struct lane *lane;
    struct job jobs[NET_BATCH_MAX];
    struct thread_hint hints[NET_BATCH_MAX]; /* of the jobs, if there are several: */
    unsigned warmed_count;
    const struct bytes *prepared; /* what jobs were made of; NULL: of nothing that will be served */
    unsigned prepared_count;
    struct job refused;             /* a request that is answered without being run */
    struct thread_list_result list; /* too large for a stack, as is the next */
    struct answer_steps steps;      /* of the replay that is being answered */
};

enum outcome { ANSWERED, DEFERRED, NO_ROOM };

/* A writer over fresh room, or NO_ROOM; a reservation that no one commits is free. */
enum outcome dispatch_room(struct net_reply *reply, uint64_t bytes, struct wire_writer *writer);

/* Sends what the writer holds, from `start` on. */
enum outcome dispatch_commit(struct net_reply *reply, const struct wire_writer *writer,
                             const uint8_t *start);

/*
 * Gives the answer that the writer holds from `start` on: at once, or, when `pending` is not NULL,
 * by `waiting` once the disk has the change; `advice` is what an error then says.
 */
enum outcome dispatch_commit_pending(struct dispatch *dispatch, struct net_reply *reply,
                                     const struct job *job, struct waiting *waiting,
                                     struct tier_change *pending, const struct wire_writer *writer,
                                     const uint8_t *start, const char *advice);

enum outcome dispatch_error(struct dispatch *dispatch, struct net_reply *reply,
                            const struct job *job, const struct wire_error *error);

/* The operation is done and its result does not fit: the client is told, and nothing is cut. */
enum outcome dispatch_no_room(struct dispatch *dispatch, struct net_reply *reply, struct job *job);

/* What an operation that was not OK comes to: AGAIN defers, the rest are errors. */
enum outcome dispatch_status(struct dispatch *dispatch, struct net_reply *reply, struct job *job,
                             enum status status);

/* Each runs one method, append the commit of a streamed step as well; `writer` has room for a small
 * answer. */
enum outcome dispatch_append(struct dispatch *dispatch, struct net_reply *reply, struct job *job,
                             struct wire_writer *writer);
enum outcome dispatch_begin(struct dispatch *dispatch, struct net_reply *reply, struct job *job,
                            struct wire_writer *writer);
enum outcome dispatch_chunk(struct dispatch *dispatch, struct net_reply *reply, struct job *job,
                            struct wire_writer *writer);
enum outcome dispatch_abort(struct dispatch *dispatch, struct net_reply *reply, struct job *job,
                            struct wire_writer *writer);
enum outcome dispatch_replay(struct dispatch *dispatch, struct net_reply *reply, struct job *job);

#endif
