/*
 * The sweep: what every lane does a little of on every iteration. Private to src/thread/.
 *
 * No thread has a timer. A slot of the index carries the coarse time at which its thread is to be
 * looked at; the thread's life word has the truth.
 */
#ifndef RETHREAD_THREAD_SWEEP_H
#define RETHREAD_THREAD_SWEEP_H

#include "thread/lane.h"

/* Coarse times, the index's ticks, count in these. */
enum { SWEEP_TICK_MS = 32 };

/* The coarse time at which a deadline has passed; far ones are looked at again on the way. */
uint16_t sweep_tick(uint64_t now_ms, uint64_t deadline_ms);

/* Memory that is on its way out: it comes free by itself. */
uint64_t sweep_leaving_bytes(const struct threads *threads);

/* When the sweep is to look at the thread: its end, or when it has been idle for its ttl and may go
 * to the disk. */
uint16_t thread_tick(const struct lane *lane, const struct thread *thread);

#endif
