/*
 * What a lane keeps between two pages of a list. Private to src/thread/.
 */
#ifndef RETHREAD_THREAD_INSPECT_H
#define RETHREAD_THREAD_INSPECT_H

#include "thread/lane.h"

/* When the lane closes. */
void inspect_close(struct lane *lane);

#endif
