/*
 * What appends and the selection need of replays. Private to src/thread/.
 */
#ifndef RETHREAD_THREAD_REPLAY_H
#define RETHREAD_THREAD_REPLAY_H

#include "base/status.h"
#include "thread/operations.h"
#include "wire/request.h"

struct replay;

/* Fills in a miss. */
enum status replay_miss(struct replay *replay, enum reason reason, uint64_t version);

/*
 * The frame that would take the step of this append back, at the most: a step that no frame can
 * take back is refused when it comes.
 */
uint64_t thread_replay_bytes(const struct wire_request *append);

#endif
