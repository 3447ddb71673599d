/*
 * What appends need to know of replays. Private to src/thread/.
 */
#ifndef RETHREAD_THREAD_REPLAY_H
#define RETHREAD_THREAD_REPLAY_H

#include "wire/request.h"

/*
 * The frame that would take the step of this append back, at the most: a step that no frame can
 * take back is refused when it comes.
 */
uint64_t thread_replay_bytes(const struct wire_request *append);

#endif
