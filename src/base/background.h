/* Starting operating-system threads beside the one that the signals are for. */
#ifndef RETHREAD_BASE_BACKGROUND_H
#define RETHREAD_BASE_BACKGROUND_H

#include <pthread.h>
#include <stdbool.h>

/*
 * Starts run(context) on an operating-system thread that takes no signals but those of its own
 * faults. `name` is what the system's tools show, at most 15 bytes. False with errno set when the
 * system has none to give.
 */
bool background_start(pthread_t *thread, const char *name, void *(*run)(void *), void *context);

/*
 * For an operating-system thread that does what can wait: a quarter of a core is left to it beside
 * a loop that is never idle. Of the caller alone; there is no way back.
 */
void background_be_nice(void);

#endif
