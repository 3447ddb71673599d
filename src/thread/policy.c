/* What each policy keeps; see policy.h, and schema/policies.def for the words. */
#include "thread/policy.h"

/* The first held position, from `low` on, whose turn is at least `turn`; `end` when there is none.
 */
static uint32_t first_of_turn(const struct lane *lane, const struct spine *spine, uint32_t low,
                              uint32_t end, uint32_t turn)
{
    assert(low >= spine->lost);
    while (low < end) {
        uint32_t middle = low + (end - low) / 2;
        if (spine_step(lane, spine, middle)->turn < turn) {
            low = middle + 1;
        } else {
            end = middle;
        }
    }
    return low;
}

/*
 * A boundary that no readable step is below leaves the lost ones kept, and damaged ones at it may
 * belong behind it: they are kept, to be missing, rather than left out as if it were known.
 */
static uint32_t with_unknown(const struct lane *lane, const struct spine *spine, uint32_t from)
{
    while (from > spine->lost && (spine_step(lane, spine, from - 1)->flags & STEP_CORRUPT)) {
        from--;
    }
    return from <= spine->lost ? 0 : from;
}

static uint32_t current_turn(const struct lane *lane, const struct spine *spine, uint32_t end,
                             struct policy_asked asked)
{
    uint32_t turn = asked.has_turn ? asked.turn : spine_step(lane, spine, end - 1)->turn;
    return with_unknown(lane, spine, first_of_turn(lane, spine, spine->lost, end, turn));
}

static uint32_t since_final(const struct lane *lane, const struct spine *spine, uint32_t end)
{
    uint32_t from = end;
    while (from > spine->lost && !(spine_step(lane, spine, from - 1)->flags & STEP_FINAL)) {
        from--;
    }
    return with_unknown(lane, spine, from);
}

static uint32_t last_turns(const struct lane *lane, const struct spine *spine, uint32_t end,
                           uint32_t turns)
{
    uint32_t from = end;
    for (uint32_t seen = 0; seen < turns && from > spine->lost; seen++) {
        uint32_t turn = spine_step(lane, spine, from - 1)->turn;
        from = first_of_turn(lane, spine, spine->lost, from, turn);
    }
    return with_unknown(lane, spine, from);
}

struct policy_bounds policy_bounds(const struct lane *lane, const struct spine *spine, uint32_t end,
                                   struct policy_asked asked)
{
    struct policy_bounds bounds = {0};
    if (asked.policy == WIRE_POLICY_NONE) {
        bounds.from = end;
        return bounds;
    }
    if (end <= spine->lost) {
        return bounds; /* nothing is known of any */
    }
    switch (asked.policy) {
    case WIRE_POLICY_CURRENT_TURN:
        bounds.from = current_turn(lane, spine, end, asked);
        break;
    case WIRE_POLICY_SINCE_FINAL:
        bounds.from = since_final(lane, spine, end);
        break;
    case WIRE_POLICY_TOOL_TURNS:
        bounds.tool_turns = true;
        break;
    case WIRE_POLICY_LAST_TURNS:
        assert(asked.turns > 0);
        bounds.from = last_turns(lane, spine, end, asked.turns);
        break;
    case WIRE_POLICY_ALL:
        break;
    case WIRE_POLICY_NONE:
    case WIRE_POLICY_AUTO:
    case WIRE_POLICY_COUNT:
        assert(false); /* not to be asked here */
    }
    return bounds;
}

bool policy_in_tool_turn(const struct lane *lane, const struct spine *spine, uint32_t end,
                         uint32_t position)
{
    assert(position >= spine->lost && position < end);
    const struct step *step = spine_step(lane, spine, position);
    if (step->flags & STEP_IN_TOOL_TURN) {
        return true;
    }
    /* What its turn came to in the end the last step of it knows. Turns are short: where the next
     * begins is looked for close by, then further and further away. */
    uint32_t low = position + 1;
    uint32_t high = low;
    for (uint32_t width = 1; high < end && spine_step(lane, spine, high)->turn == step->turn;) {
        low = high + 1;
        high = width < end - low ? low + width : end;
        width *= 2;
    }
    uint32_t next =
        step->turn == UINT32_MAX ? end : first_of_turn(lane, spine, low, high, step->turn + 1);
    return (spine_step(lane, spine, next - 1)->flags & STEP_IN_TOOL_TURN) != 0;
}
