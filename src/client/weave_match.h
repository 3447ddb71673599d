/*
 * Which call of a transcript left which step of a replay: by the ids of tool calls, by the hash of
 * what was shown, by position. What cannot be told stays open. schema/weave.md has the rules.
 */
#ifndef RETHREAD_CLIENT_WEAVE_MATCH_H
#define RETHREAD_CLIENT_WEAVE_MATCH_H

#include "client/weave_transcript.h"

struct weave_matches {
    size_t *step_of_call; /* an index into the replay's steps, or WEAVE_NONE */
    size_t *call_of_step; /* a missing step may have one too */
    enum rethread_woven_by *by_of_step;
};

/* False: no memory. To be freed in any case. */
bool weave_match_steps(const struct weave_transcript *transcript,
                       const struct rethread_replay_result *replay, struct weave_matches *matches);
void weave_match_free(struct weave_matches *matches);

#endif
