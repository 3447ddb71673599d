/* Promotion: a thread comes back into memory as it was, under the deadline that it had. */
#include "thread/promote.h"

#include "thread/recall.h"
#include "thread/steps.h"
#include "thread/sweep.h"
#include "thread/thread.h"

#include <stdlib.h>

enum reason promote_end_reason(const struct lane *lane, const struct tier_head *head)
{
    uint64_t max_age_ms = lane->threads->settings.max_age_ms;
    if (max_age_ms > 0 && head->created_ms + max_age_ms <= lane->wall_ms) {
        return REASON_MAX_AGE;
    }
    return head->used_ms + head->retention_ms <= lane->wall_ms ? REASON_EXPIRED : REASON_NONE;
}

static struct thread *make_thread(struct lane *lane, const struct tier_head *head,
                                  uint32_t generation)
{
    struct lookup_key key = {.lane = lane,
                             .hash = head->name,
                             .id = head->id,
                             .kind = RECORD_THREAD,
                             .tenant = head->tenant};
    struct thread *thread = thread_create(lane, &key, head->ttl_ms);
    if (!thread) {
        return NULL;
    }
    uint64_t used_ms = lane_from_wall(lane, head->used_ms);
    thread_set_age(lane, thread, lane_from_wall(lane, head->created_ms));
    rest_of(thread)->uid = head->uid;
    rest_of(thread)->generation = generation;
    rest_of(thread)->shared = head->shared;
    rest_of(thread)->appends = head->appends;
    rest_of(thread)->floor = head->floor;
    rest_of(thread)->loaded_ms = lane->now_ms;
    /* Not shared yet: relaxed, or plain initialisation. */
    atomic_init(&rest_of(thread)->retention_ms, head->retention_ms);
    atomic_init(&thread->life, LIFE_CLAIM | (used_ms + head->retention_ms));
    atomic_init(&rest_of(thread)->used_ms, used_ms);
    atomic_init(&rest_of(thread)->on_disk, 1);
    atomic_init(&rest_of(thread)->from_disk, 1);
    return thread;
}

/*
 * What is not known of damaged steps, but matters: the version, lest a caller who holds what was
 * there before takes it for still there, so the latest it can be; and the turn, so the earliest.
 */
static void fill_in(struct tier_image *image)
{
    uint32_t version = image->head.version;
    for (uint32_t i = image->step_count; i > 0; i--) {
        struct step_parts *parts = &image->steps[i - 1];
        parts->version = parts->corrupt ? version : parts->version;
        version = parts->version;
    }
    uint32_t turn = 0;
    for (uint32_t i = 0; i < image->step_count; i++) {
        struct step_parts *parts = &image->steps[i];
        parts->turn = parts->corrupt ? turn : parts->turn;
        turn = parts->turn;
    }
}

/* The steps so far are let go of by the caller. */
static bool add_steps(struct lane *lane, struct thread *thread, struct spine *spine,
                      const struct tier_image *image)
{
    const struct step *previous = NULL;
    for (uint32_t i = 0; i < image->step_count; i++) {
        assert(image->steps[i].number == image->head.lost + i);
        struct step *step = step_rebuild(lane, &image->steps[i]);
        if (!step) {
            return false;
        }
        step_mark_tool_turn(step, previous);
        previous = step;
        step_rest(step)->owner = lane_ref(lane, thread);
        /* Relaxed: the thread is ours; see struct thread. */
        atomic_fetch_add_explicit(&thread_full(thread)->holds, 1, memory_order_relaxed);
        lane_add(&lane->payload_bytes, step->payload_bytes);
        spine_commit(lane, spine, step);
    }
    lane->work += image->step_count;
    return true;
}

static struct spine *make_spine(struct lane *lane, const struct tier_head *head, uint32_t steps)
{
    uint32_t base = head->version - head->length;
    struct spine *spine = spine_create(lane, steps + 1, head->lost, base + head->lost);
    if (spine) {
        spine->lost_base = head->lost_base;
        spine->lost_reason = head->lost_reason;
    }
    return spine;
}

static int by_ordinal(const void *a, const void *b)
{
    uint32_t left = ((const struct recall_entry *)a)->ordinal;
    uint32_t right = ((const struct recall_entry *)b)->ordinal;
    return (left > right) - (left < right);
}

/* In the order of their appends: the ring drops the oldest first. */
static bool add_recalls(struct lane *lane, struct thread *thread, struct tier_image *image)
{
    qsort(image->recalls, image->recall_count, sizeof *image->recalls, by_ordinal);
    for (uint32_t i = 0; i < image->recall_count; i++) {
        if (!recall_reserve(lane, thread)) {
            return false;
        }
        recall_add(lane, thread, &image->recalls[i]);
    }
    return true;
}

bool promote_thread(struct lane *lane, struct tier_image *image, uint32_t generation,
                    struct index_record *marker)
{
    struct thread *thread = make_thread(lane, &image->head, generation);
    struct spine *spine = thread ? make_spine(lane, &image->head, image->step_count) : NULL;
    if (!spine) {
        goto fail;
    }
    fill_in(image);
    if (!add_steps(lane, thread, spine, image) || !add_recalls(lane, thread, image)) {
        goto fail;
    }
    /* Relaxed: not shared yet; the index publishes it. */
    atomic_store_explicit(&thread_full(thread)->spine, lane_ref(lane, spine), memory_order_relaxed);
    if (!index_replace(lane->threads->index, lane->member, marker, &thread->record,
                       thread_tick(lane, thread))) {
        goto fail;
    }
    lane_add(&lane->live, 1);
    life_release(thread, lane->now_ms, LIFE_KEEP);
    return true;
fail:
    if (spine) {
        uint32_t length = atomic_load_explicit(&spine->length, memory_order_relaxed);
        spine_bury(lane, thread, spine, spine->lost, length, REASON_NONE);
    }
    if (thread) {
        thread_abandon(lane, thread);
    }
    return false;
}
