/*
 * Results as text for people, on stdout.
 */
#ifndef RETHREAD_CLI_SHOW_H
#define RETHREAD_CLI_SHOW_H

#include "rethread.h"

#include <stdbool.h>
#include <stdint.h>

/* Any result that is no error; list has its own. */
void show_result(const struct rethread_result *result, bool reveal);

void show_replay(const struct rethread_replay_result *replay, bool reveal);
void show_info(const struct rethread_info_result *info);

/* "complete", or "miss: expired". */
void show_status(enum rethread_completeness status, enum rethread_reason reason);

/* The end of the line: what the reason means, and how far back the server can tell. */
void show_why(enum rethread_reason reason, struct rethread_u64 vouch_ms);

#endif
