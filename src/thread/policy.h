/*
 * Policies of replay: which positions of a snapshot the next model call is given. Private to
 * src/thread/.
 *
 * Pure: steps are read, nothing is changed. Turns never fall from step to step. Of lost positions
 * no turn is known, only that it is not above that of the first step that is held: they are kept
 * (and will be missing) unless a held step that is left out shows that they are below the boundary.
 * A step that the disk could not give back counts as not final.
 */
#ifndef RETHREAD_THREAD_POLICY_H
#define RETHREAD_THREAD_POLICY_H

#include "thread/spine.h"

struct policy_asked {
    enum wire_policy policy; /* not AUTO */
    uint32_t turns;          /* of LAST_TURNS */
    bool has_turn;           /* else the highest is the turn about to be generated */
    uint32_t turn;
};

struct policy_bounds {
    uint32_t from;   /* positions below it are left out */
    bool tool_turns; /* and of the others those that policy_in_tool_turn denies */
};

/* Of the positions 0..end-1; `end` is at most the snapshot's length. */
struct policy_bounds policy_bounds(const struct lane *lane, const struct spine *spine, uint32_t end,
                                   struct policy_asked asked);

/* Whether a tool was called in the turn of a held position, up to position end-1. */
bool policy_in_tool_turn(const struct lane *lane, const struct spine *spine, uint32_t end,
                         uint32_t position);

#endif
