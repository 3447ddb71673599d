/* Spines: arrays of steps that are copied, never shortened in place. */
#include "thread/spine.h"

#include "thread/steps.h"

struct spine *spine_create(struct lane *lane, uint32_t held_capacity, uint32_t length,
                           uint32_t version)
{
    assert(length <= THREAD_STEPS_MAX && version >= length);
    /* Whole units: the arena would round up anyway. */
    size_t wanted = sizeof(struct spine) + (size_t)held_capacity * sizeof(uint32_t);
    size_t size = (wanted + ARENA_UNIT_BYTES - 1) / ARENA_UNIT_BYTES * ARENA_UNIT_BYTES;
    struct spine *spine = lane_alloc(lane, size);
    if (!spine) {
        return NULL;
    }
    *spine = (struct spine){
        .capacity = (uint32_t)((size - sizeof(struct spine)) / sizeof(uint32_t)),
        .lost = length,
        .version_base = version - length,
        .lost_base = version - length,
    };
    assert(spine->capacity >= held_capacity);
    atomic_init(&spine->length, length);
    atomic_init(&spine->payload_bytes, 0);
    atomic_init(&spine->tokens, 0);
    return spine;
}

struct spine *spine_copy(struct lane *lane, const struct snapshot *snapshot, uint32_t keep,
                         uint32_t version, uint32_t more)
{
    assert(keep <= snapshot->length);
    const struct spine *old = snapshot->spine;
    uint32_t lost = keep < old->lost ? keep : old->lost;
    uint32_t held = keep - lost;
    struct spine *spine = spine_create(lane, held + more, lost, version - held);
    if (!spine) {
        return NULL;
    }
    spine->lost_reason = old->lost_reason;
    spine->lost_base = old->lost_base;
    memcpy(spine->steps, old->steps, held * sizeof *old->steps);
    lane->work += held / 16 + (snapshot->length - keep);
    /* Relaxed: the claim is held, so the totals stand still. */
    uint64_t payload_bytes = atomic_load_explicit(&old->payload_bytes, memory_order_relaxed);
    uint64_t tokens = atomic_load_explicit(&old->tokens, memory_order_relaxed);
    for (uint32_t at = lost + held; at < snapshot->length; at++) {
        const struct step *step = spine_step(lane, old, at);
        if (step) {
            payload_bytes -= step->payload_bytes;
            tokens -= step_tokens_given(step);
        }
    }
    /* Plain initialisation: who sees the spine acquires the reference to it. */
    atomic_init(&spine->length, keep);
    atomic_init(&spine->payload_bytes, payload_bytes);
    atomic_init(&spine->tokens, tokens);
    assert(spine->version_base + keep == version);
    return spine;
}

void spine_commit(struct lane *lane, struct spine *spine, struct step *step)
{
    /* Only the holder of the claim gets here, so its own earlier store is the newest. */
    uint32_t length = atomic_load_explicit(&spine->length, memory_order_relaxed);
    assert(!spine_is_full(spine, length) && length < THREAD_STEPS_MAX);
    assert(step_rest(step)->number == length);
    spine->steps[length - spine->lost] = lane_ref(lane, step);
    /* Totals are read by stat and list, which need no order with the length. */
    atomic_fetch_add_explicit(&spine->payload_bytes, step->payload_bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&spine->tokens, step_tokens_given(step), memory_order_relaxed);
    /* Pairs with the acquire in spine_snapshot. */
    atomic_store_explicit(&spine->length, length + 1, memory_order_release);
}

uint32_t spine_first_after(const struct lane *lane, const struct thread *thread,
                           const struct snapshot *snapshot, uint64_t version)
{
    /*
     * Along a spine versions only grow: a position is replaced only together with all after it.
     * Steps that a fork did not commit itself come first and are as old as the fork.
     */
    uint32_t low = snapshot->spine->lost;
    uint32_t high = snapshot->length;
    uint32_t self = lane_ref(lane, thread);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct step *step = spine_step(lane, snapshot->spine, middle);
        uint32_t committed = step_is_compact(step)            ? 1
                             : step_rest(step)->owner == self ? step_rest(step)->version
                                                              : rest_of(thread)->shared;
        if (committed > version) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static int64_t spine_bytes(const struct lane *lane, const struct spine *spine)
{
    return (int64_t)arena_size(lane->threads->arena, spine);
}

/* What a hold counts as leaving, until it is let go. */
static int64_t weight(const struct spine *spine, const struct step *step, uint32_t position)
{
    if (position < spine->weighed_at) {
        return 0;
    }
    return (int64_t)(STEP_FULL_BYTES + (spine->weighs_payload ? step->payload_bytes : 0));
}

static int64_t weight_of_all(const struct spine *spine)
{
    uint32_t weighed_at = spine->weighed_at < spine->drop_end ? spine->weighed_at : spine->drop_end;
    int64_t bytes = (int64_t)(spine->drop_end - weighed_at) * (int64_t)STEP_FULL_BYTES;
    if (spine->weighs_payload) {
        /* Relaxed: nobody appends to it any more. */
        bytes += (int64_t)atomic_load_explicit(&spine->payload_bytes, memory_order_relaxed);
    }
    return bytes;
}

void spine_bury(struct lane *lane, const struct thread *thread, struct spine *spine,
                uint32_t drop_at, uint32_t drop_end, enum reason reason)
{
    assert(drop_at >= spine->lost && drop_at <= drop_end);
    spine->drop_at = drop_at;
    spine->drop_end = drop_end;
    spine->drop_reason = (uint8_t)reason;
    spine->weighed_at = drop_at > rest_of(thread)->shared ? drop_at : rest_of(thread)->shared;
    /* The kept part is not walked through for the sake of an estimate. */
    spine->weighs_payload = rest_of(thread)->shared == 0 && drop_at == spine->lost;
    spine->link = 0;
    lane_add(&lane->leaving_bytes, weight_of_all(spine) + spine_bytes(lane, spine));
    lane->burial_steps += drop_end - drop_at;
    uint32_t ref = lane_ref(lane, spine);
    if (lane->burial_last) {
        ((struct spine *)lane_at(lane, lane->burial_last))->link = ref;
    } else {
        lane->burial_first = ref;
    }
    lane->burial_last = ref;
}

void spine_retire(struct lane *lane, struct spine *spine)
{
    lane_add(&lane->leaving_bytes, spine_bytes(lane, spine));
    epoch_retire(lane->member, RETIRE_SPINE, spine);
}

/* Lets go of one hold; returns what it cost. */
static uint64_t let_go_next(struct lane *lane, struct spine *spine)
{
    struct step *step = spine_step(lane, spine, spine->drop_at);
    uint64_t cost = 1 + (uint64_t)step->key_count;
    lane_add(&lane->leaving_bytes, -weight(spine, step, spine->drop_at));
    step_let_go(lane, step, (enum reason)spine->drop_reason);
    spine->drop_at++;
    lane->burial_steps--;
    return cost;
}

bool spine_tend_burials(struct lane *lane, uint64_t keys_and_steps_max)
{
    uint64_t spent = 0;
    while (lane->burial_first && spent < keys_and_steps_max) {
        struct spine *spine = lane_at(lane, lane->burial_first);
        while (spine->drop_at < spine->drop_end && spent < keys_and_steps_max) {
            spent += let_go_next(lane, spine);
        }
        if (spine->drop_at < spine->drop_end) {
            break;
        }
        lane->burial_first = spine->link;
        if (!lane->burial_first) {
            lane->burial_last = 0;
        }
        /* It counts as leaving already. */
        epoch_retire(lane->member, RETIRE_SPINE, spine);
        spent++;
    }
    return lane->burial_first != 0;
}
