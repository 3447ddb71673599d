/*
 * What appends and streamed appends have in common. Private to src/thread/.
 */
#ifndef RETHREAD_THREAD_APPEND_H
#define RETHREAD_THREAD_APPEND_H

#include "thread/lookup.h"

/* Internal: the thread changed under our hands; look it up again. */
#define APPEND_LOOK_AGAIN STATUS_COUNT

enum status append_conflict(struct wire_error *error, const char *cause, uint64_t version);

/* Of who comes with a claim that is not, or no longer, the thread's. */
enum status append_stale(struct wire_error *error, uint64_t version);

/* Whether the thread may have one step more. */
enum status append_check_room(const struct snapshot *now, struct wire_error *error);

/* Whether a step as in the request can be kept, and given back in a frame. */
enum status append_check_size(const struct lane *lane, const struct wire_request *request,
                              struct wire_error *error);

#endif
