/* Compact threads: made, looked at, unfolded, let go. */
#include "thread/compact.h"

#include "thread/steps.h"
#include "thread/sweep.h"
#include "thread/thread.h"
#include "wire/parse.h"

enum { LOOKS_MAX = 16 };

#define GIVEN(option) (UINT64_C(1) << WIRE_FIELD_##option)

/* What a compact thread has no place for. */
static const uint64_t other_options = GIVEN(key) | GIVEN(response_id) | GIVEN(tool_calls) |
                                      GIVEN(prefix) | GIVEN(visible) | GIVEN(model) | GIVEN(tokens);

static bool is_text(const struct wire_request *request)
{
    struct wire_list kinds = request->segments;
    enum wire_kind kind = WIRE_KIND_TEXT;
    return !wire_given(request, WIRE_FIELD_segments) ||
           (wire_kind_next(&kinds, &kind) && kind == WIRE_KIND_TEXT);
}

bool compact_suits(const struct lane *lane, const struct wire_request *request)
{
    return !lane->tier && request->method == WIRE_METHOD_APPEND &&
           !(request->given & other_options) && request->payload_count == 1 &&
           request->payload_bytes <= COMPACT_PAYLOAD_BYTES_MAX && is_text(request);
}

struct thread *compact_create(struct lane *lane, const struct lookup_key *key,
                              const struct wire_request *request)
{
    bool final = !wire_given(request, WIRE_FIELD_final) || request->final;
    uint64_t ttl_ms =
        wire_given(request, WIRE_FIELD_ttl_ms) ? request->ttl_ms : lane->threads->settings.ttl_ms;
    static_assert(offsetof(struct thread, step) % ARENA_UNIT_BYTES == 0, "it has a reference");
    assert(key->kind == RECORD_THREAD && key->id.size <= WIRE_ID_BYTES_MAX);
    struct thread *thread =
        lane_alloc(lane, sizeof *thread + key->id.size + request->payload_bytes);
    if (!thread) {
        return NULL;
    }
    *thread = (struct thread){
        .record = {.hash_low = key->hash.low,
                   .kind = RECORD_THREAD,
                   .flags = THREAD_COMPACT,
                   .small = key->tenant},
        .step = {.turn = wire_given(request, WIRE_FIELD_turn) ? (uint32_t)request->turn : 0,
                 .payload_bytes = (uint32_t)request->payload_bytes,
                 .flags = (uint8_t)(STEP_COMPACT | (final ? STEP_FINAL : STEP_IN_TOOL_TURN)),
                 .segment_count = 1,
                 .is_text = true},
        .id_size = (uint8_t)key->id.size,
    };
    atomic_init(&thread->life, lane->now_ms + ttl_ms);
    atomic_init(&thread->ttl_ms, ttl_ms);
    thread_set_age(lane, thread, lane->now_ms);
    uint8_t *at = (uint8_t *)(thread + 1);
    memcpy(at, key->id.data, key->id.size);
    memcpy(at + key->id.size, request->payloads[0].data, request->payload_bytes);
    return thread;
}

void compact_retire(struct lane *lane, struct thread *thread)
{
    assert(thread_is_compact(thread));
    lane_add(&lane->leaving_bytes, (int64_t)arena_size(lane->threads->arena, thread));
    epoch_retire(lane->member, RETIRE_COMPACT, thread);
}

/* In the life word of a retired one: it no longer counts as leaving. */
#define COUNTED_OUT LIFE_CLAIM

bool compact_reclaim(void *context, struct epoch_member *member, void *object)
{
    struct threads *threads = context;
    struct thread *thread = object;
    /* Pairs with the release in step_unpin. Nobody can pin anew: the thread is out of reach. */
    bool pinned = atomic_load_explicit(&thread->step.pins, memory_order_acquire) > 0;
    /* Relaxed, all: nobody else looks at the word any more. */
    uint64_t word = atomic_load_explicit(&thread->life, memory_order_relaxed);
    if (!(word & COUNTED_OUT)) {
        /* A pinned step is not leaving: eviction must not wait for it. */
        threads_reclaimed(threads, member, (int64_t)arena_size(threads->arena, thread), 0);
        atomic_store_explicit(&thread->life, word | COUNTED_OUT, memory_order_relaxed);
    }
    if (pinned) {
        return false;
    }
    if (!life_moved_to(word)) {
        threads_reclaimed(threads, member, 0, thread->step.payload_bytes);
    }
    arena_free(epoch_member_cache(member), thread);
    return true;
}

struct snapshot compact_snapshot(const struct lane *lane, const struct thread *thread,
                                 struct alone *alone)
{
    if (!thread_is_compact(thread)) {
        return spine_snapshot(lane, thread);
    }
    struct spine *spine = spine_of_alone(alone);
    *spine = (struct spine){.capacity = 1};
    atomic_init(&spine->length, 1);
    atomic_init(&spine->payload_bytes, thread->step.payload_bytes);
    spine->steps[0] = lane_ref(lane, &thread->step);
    return (struct snapshot){.spine = spine, .length = 1, .version = 1};
}

/* ---- unfolding ---- */

static struct step *copy_step(struct lane *lane, const struct thread *compact)
{
    struct step_view view;
    step_view(&compact->step, &view);
    uint32_t entry = view.payload_bytes | (uint32_t)WIRE_KIND_TEXT << 30;
    struct step_parts parts = {
        .number = 0,
        .version = 1,
        .turn = view.turn,
        .final = view.final,
        .segment_count = 1,
        .segments = bytes_of((const uint8_t *)&entry, sizeof entry),
        .payload = view.payload,
    };
    struct step *step = step_rebuild(lane, &parts);
    if (step) {
        step_mark_tool_turn(step, NULL);
    }
    return step;
}

/* The ordinary thread, claimed, with all but the lifetimes. */
static struct thread *copy_thread(struct lane *lane, const struct thread *compact,
                                  const struct lookup_key *key)
{
    struct thread *thread = thread_create(lane, key, lane->threads->settings.ttl_ms);
    struct spine *spine = thread ? spine_create(lane, 2, 0, 0) : NULL;
    struct step *step = spine ? copy_step(lane, compact) : NULL;
    if (!step) {
        arena_free(lane->cache, spine);
        thread_discard(lane, thread);
        return NULL;
    }
    thread->record.flags |= THREAD_UNFOLDED;
    thread_set_age(lane, thread, thread_created_ms(lane, compact));
    /* Relaxed, all: not shared yet; the life word of the compact one publishes it. */
    atomic_store_explicit(&thread->replayed,
                          atomic_load_explicit(&compact->replayed, memory_order_relaxed),
                          memory_order_relaxed);
    step_rest(step)->owner = lane_ref(lane, thread);
    atomic_fetch_add_explicit(&thread_full(thread)->holds, 1, memory_order_relaxed);
    rest_of(thread)->appends = 1;
    spine_commit(lane, spine, step);
    atomic_store_explicit(&thread_full(thread)->spine, lane_ref(lane, spine), memory_order_relaxed);
    return thread;
}

/* Under the claim of both: the lifetimes are those of the word that is replaced. */
static void move_life(struct lane *lane, struct thread *compact, struct thread *thread)
{
    uint64_t word = life_load(compact);
    do {
        assert((word & LIFE_CLAIM) && !(word & LIFE_DEAD));
        /* Relaxed, all: a ttl is stored before the reset that it belongs to; who stored one and
         * fails to reset does both again, on the thread that the word leads to. */
        atomic_store_explicit(&thread->ttl_ms,
                              atomic_load_explicit(&compact->ttl_ms, memory_order_relaxed),
                              memory_order_relaxed);
        atomic_store_explicit(&thread->life, LIFE_CLAIM | LIFE_UPKEEP | (word & LIFE_DEADLINE),
                              memory_order_relaxed);
    } while (!life_swap(compact, &word, life_moved(lane_ref(lane, thread))));
}

/* STATUS_OK: found->thread is the ordinary one, or NULL: look again. */
static enum status unfold(struct lane *lane, struct lookup *found)
{
    struct thread *compact = found->thread;
    found->thread = NULL;
    switch (life_claim_for_upkeep(compact, lane->now_ms)) {
    case LIFE_CLAIMED:
        return lane_put_back(lane, WANT_CLAIM);
    case LIFE_OVERDUE:
    case LIFE_GONE:
        return STATUS_OK;
    case LIFE_ALIVE:
        break;
    }
    struct thread *thread = copy_thread(lane, compact, &found->key);
    if (!thread) {
        life_release(compact, lane->now_ms, LIFE_KEEP);
        return lane_put_back(lane, WANT_MEMORY);
    }
    move_life(lane, compact, thread);
    uint16_t tick = thread_tick(lane, thread);
    /* Nobody else takes out of the index what is dead and has moved. */
    bool replaced =
        index_replace(lane->threads->index, lane->member, &compact->record, &thread->record, tick);
    assert(replaced);
    compact_retire(lane, compact);
    life_release(thread, lane->now_ms, LIFE_KEEP);
    if (thread_tick(lane, thread) != tick) {
        /* Another ttl was set before the index had the thread, when it could not be told of it. */
        thread_retick(lane, thread);
    }
    found->thread = thread;
    found->record = &thread->record;
    return STATUS_OK;
}

enum status compact_unfold(struct lane *lane, struct lookup *found)
{
    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        if (!found->thread || !thread_is_compact(found->thread)) {
            return STATUS_OK;
        }
        enum status status = unfold(lane, found);
        if (status) {
            return status;
        }
        if (!found->thread) {
            struct lookup_key key = found->key;
            *found = lookup_by(lane, &key);
        }
    }
    return lane_put_back(lane, WANT_CLAIM);
}
