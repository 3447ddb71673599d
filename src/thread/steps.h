/*
 * Steps and their keys, seen from inside the room. Private to src/thread/.
 */
#ifndef RETHREAD_THREAD_STEPS_H
#define RETHREAD_THREAD_STEPS_H

#include "thread/lane.h"

/*
 * Builds a step from an append: everything but owner, number, version and (if not given) turn, and
 * the bytes of payloads whose data is NULL, which the caller fills in. Not shared yet: step_discard
 * undoes it. NULL: no memory.
 */
struct step *step_create(struct lane *lane, const struct wire_request *request);
/*
 * Builds a step from what was stored, in full but for its owner. Its keys are not for the index:
 * the disk knows where they lead. A corrupt one becomes a place that holds nothing.
 */
struct step *step_rebuild(struct lane *lane, const struct step_parts *parts);
void step_discard(struct lane *lane, struct step *step);

/* Where the payloads of a step that is not shared yet belong. */
uint8_t *step_payload_room(struct step *step);

uint32_t step_tokens_given(const struct step *step); /* 0: it does not say */

/* What step_create would allocate, to refuse early what can never fit. */
uint64_t step_size_bytes(const struct wire_request *request);

/* Makes the step's keys lead to it. Under the thread's claim, after the spine has it. */
void step_publish_keys(struct lane *lane, struct thread *thread, struct step *step);

/* Before `thread`, which is claimed, gives up its hold in a rewind. */
void step_rewind(const struct lane *lane, const struct thread *thread, struct step *step);

/* Why the step is not there, its owner having ended by `reason`. */
static inline enum reason step_end_reason(const struct step *step, enum reason reason)
{
    /* Relaxed: stored under a claim of the owner that ended before the owner did, and the owner's
     * life word was read with acquire. */
    uint32_t holds = atomic_load_explicit(&step_rest(step)->holds, memory_order_relaxed);
    return holds & STEP_REWOUND ? REASON_REWOUND : reason;
}

/* Gives up one spine's hold; the last one takes the keys out of the index and retires the step. */
void step_let_go(struct lane *lane, struct step *step, enum reason reason);

/* The epoch's callback for RETIRE_STEP. */
bool step_reclaim(void *context, struct epoch_member *member, void *object);

/*
 * Before it is committed behind `previous` (NULL: none is held), its turn being known. What is
 * damaged may not have been final, and may have been of this turn.
 */
static inline void step_mark_tool_turn(struct step *step, const struct step *previous)
{
    if (!(step->flags & STEP_FINAL) ||
        (previous && ((previous->flags & STEP_CORRUPT) ||
                      (previous->turn == step->turn && (previous->flags & STEP_IN_TOOL_TURN))))) {
        step->flags |= STEP_IN_TOOL_TURN;
    }
}

struct bytes step_model(const struct step *step);
struct bytes step_prefix(const struct step *step); /* 16 bytes, or empty */

/* Whether the step carries this key. */
bool step_has_key(const struct step *step, enum record_kind kind, struct bytes id);

struct step *step_of_key(const struct index_record *record);

/* The id that a key record of the step stands for. */
struct bytes step_key_id(const struct step *step, const struct index_record *record);

#endif
