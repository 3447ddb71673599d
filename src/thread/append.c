/*
 * Append: one step is built, claimed a place for, published and made findable.
 *
 * The step is built before the claim is taken, so that the claim covers only a handful of stores;
 * but for one that was streamed, whose bytes are the thread's. Whatever can fail comes before the
 * first store that others can see.
 */
#include "thread/append_private.h"

#include "thread/cold.h"
#include "thread/compact.h"
#include "thread/recall.h"
#include "thread/steps.h"
#include "thread/stream.h"
#include "thread/thread.h"

enum { LOOKS_MAX = 16 };

/* Of the thread's last step, if that is held. */
static uint32_t turn_of(const struct step *previous)
{
    return previous ? previous->turn : 0;
}

/* Owner, number, version, turn: known only under the claim. */
static void step_settle(struct append *append, struct thread *thread, uint32_t number,
                        uint32_t version, const struct step *previous)
{
    struct step *step = append->step;
    step_rest(step)->owner = lane_ref(append->lane, thread);
    step_rest(step)->number = number;
    step_rest(step)->version = version;
    if (!wire_given(append->request, WIRE_FIELD_turn)) {
        step->turn = turn_of(previous);
    }
    step_mark_tool_turn(step, previous);
    /* Relaxed: the thread is ours, and the last hold's release and acquire order the rest. */
    atomic_fetch_add_explicit(&thread_full(thread)->holds, 1, memory_order_relaxed);
}

static void step_committed(struct append *append, struct thread *thread)
{
    struct lane *lane = append->lane;
    lane_add(&lane->payload_bytes, append->step->payload_bytes);
    lane_count(lane, METRIC_APPENDS, 1);
    rest_of(thread)->appends++;
    if (append->has_key) {
        append->recall.ordinal = rest_of(thread)->appends;
        append->recall.step = step_rest(append->step)->number;
        append->recall.version = step_rest(append->step)->version;
        append->recall.lost = (uint32_t)append->result->lost;
        append->recall.created = append->result->created;
        recall_add(lane, thread, &append->recall);
    }
    step_publish_keys(lane, thread, append->step);
    append->result->step = step_rest(append->step)->number;
    append->result->version = step_rest(append->step)->version;
    append->step = NULL; /* the thread's now */
    append->committed = true;
}

/* The lifetimes the request gives. Under the claim, before the change is submitted. */
static void set_lifetimes(const struct append *append, struct thread *thread)
{
    const struct wire_request *request = append->request;
    /* Relaxed, both: numbers that the word's reset publishes, see enum life_use. */
    if (wire_given(request, WIRE_FIELD_ttl_ms)) {
        atomic_store_explicit(&thread->ttl_ms, request->ttl_ms, memory_order_relaxed);
    }
    if (wire_given(request, WIRE_FIELD_retention_ms) && append->lane->tier) {
        atomic_store_explicit(&rest_of(thread)->retention_ms, request->retention_ms,
                              memory_order_relaxed);
    }
}

/* Tells the disk, or has it forget. Under the claim. */
static enum status keep(struct append *append, struct thread *thread)
{
    struct thread_append_result *result = append->result;
    if (!journal_keeps(append->lane, thread)) {
        result->pending = journal_erase(append->lane, thread, REASON_NONE, JOURNAL_WAIT_APPLIED);
        return STATUS_OK;
    }
    struct tier_change *change =
        journal_put(append->lane, thread, result->step, REASON_NONE,
                    append->has_key ? &append->recall : NULL, append->wait);
    if (append->wait == JOURNAL_NO_WAIT) {
        return STATUS_OK;
    }
    result->pending = change;
    return change ? STATUS_OK
                  : wire_fail(append->error, STATUS_READ_ONLY, "ack",
                              "the step is in memory, but the disk takes no writes; append it "
                              "again with the same key when it does");
}

static uint64_t remaining_ms(const struct append *append, const struct thread *thread)
{
    return life_remaining_ms(thread, life_load(thread), append->lane->now_ms);
}

/* ---- to a thread that is there ---- */

/* The same key again: the first result, if its step is still what it was. */
static enum status answer_duplicate(struct append *append, struct thread *thread,
                                    const struct snapshot *now, const struct recall_entry *first)
{
    const struct step *step =
        first->step < now->length ? spine_step(append->lane, now->spine, first->step) : NULL;
    if (!recall_same_bytes(first, &append->recall) || !step ||
        step_rest(step)->owner != lane_ref(append->lane, thread) ||
        step_rest(step)->version != first->version) {
        return append_conflict(append->error, "key", now->version);
    }
    if (append->wait != JOURNAL_NO_WAIT && !journal_keeps(append->lane, thread)) {
        return append_never_on_disk(append);
    }
    /* Nothing is set anew, the ttl neither: the first append did. */
    *append->result = (struct thread_append_result){.step = first->step,
                                                    .version = first->version,
                                                    .created = first->created,
                                                    .duplicate = true,
                                                    .lost = first->lost};
    lane_count(append->lane, METRIC_DUPLICATES, 1);
    if (append->wait == JOURNAL_NO_WAIT || journal_is_saved(thread)) {
        return STATUS_OK;
    }
    /* The first may still be on its way, or was refused: what follows it is durable after it. */
    append->result->pending =
        journal_put(append->lane, thread, now->length, REASON_NONE, NULL, append->wait);
    return append->result->pending
               ? STATUS_OK
               : wire_fail(append->error, STATUS_READ_ONLY, "ack",
                           "the step is in memory, but the disk takes no writes; try again");
}

/* What was streamed is the thread's, so its step can only be built under the claim. */
static enum status build_streamed(struct append *append, const struct draft *draft)
{
    if (!append->commits) {
        return STATUS_OK;
    }
    struct lane *lane = append->lane;
    struct lookup_key name =
        lookup_key_of(lane, append->request, RECORD_THREAD, append->request->thread);
    enum status status = stream_build(lane, append->request, draft, &append->step, append->error);
    return status || cold_know_keys(lane, append->step, name.hash) ? status
                                                                   : lane_put_back(lane, WANT_DISK);
}

/* Under the claim. */
static enum status commit_claimed(struct append *append, struct thread *thread)
{
    struct lane *lane = append->lane;
    struct snapshot now = spine_snapshot(lane, thread);
    if (append->has_key) {
        const struct recall_entry *first = recall_find(lane, thread, &append->recall);
        if (first) {
            return answer_duplicate(append, thread, &now, first);
        }
    }
    const struct step *previous =
        now.length > 0 ? spine_step(lane, now.spine, now.length - 1) : NULL;
    const struct draft *draft = stream_draft(lane, thread);
    enum status status = append_check_claim(append, draft, now.version);
    status = status ? status : append_check_expect(append, now.version);
    status = status ? status : append_check_turn(append, turn_of(previous));
    status = status ? status : append_check_room(&now, append->error);
    status =
        status ? status : append_check_lifetimes(append, thread, journal_memory_only(lane, thread));
    status = status ? status : build_streamed(append, draft);
    if (status) {
        return status;
    }
    if (append->has_key && !recall_reserve(lane, thread)) {
        return lane_put_back(append->lane, WANT_MEMORY);
    }
    struct spine *spine = spine_of(lane, thread);
    struct spine *grown = NULL;
    if (spine_is_full(spine, now.length)) {
        uint32_t held = now.length - spine->lost;
        grown = spine_copy(lane, &now, now.length, now.version, held ? held : 1);
        if (!grown) {
            return lane_put_back(append->lane, WANT_MEMORY);
        }
    }
    append->result->created = false; /* a look before may have hoped to create it */
    append->result->lost = spine->lost;
    step_settle(append, thread, now.length, now.version + 1, previous);
    spine_commit(lane, grown ? grown : spine, append->step);
    if (grown) {
        /* Pairs with the acquire in spine_of. */
        atomic_store_explicit(&thread_full(thread)->spine, lane_ref(lane, grown),
                              memory_order_release);
        spine_retire(lane, spine);
    }
    step_committed(append, thread);
    return STATUS_OK;
}

static bool changes_lifetimes(const struct append *append)
{
    return wire_given(append->request, WIRE_FIELD_ttl_ms) ||
           wire_given(append->request, WIRE_FIELD_retention_ms);
}

/* Without the life word's claim yet: the common stale caller disturbs nobody. */
static enum status check_early(struct append *append, const struct thread *thread)
{
    if (append->has_key || append->commits) {
        return STATUS_OK;
    }
    uint32_t version = spine_snapshot(append->lane, thread).version;
    return stream_lives(append->lane, thread) ? append_conflict(append->error, "claimed", version)
                                              : append_check_expect(append, version);
}

static enum status append_to(struct append *append, struct thread *thread)
{
    struct lane *lane = append->lane;
    enum status status = check_early(append, thread);
    if (status) {
        return status;
    }
    switch (life_claim(thread, lane->now_ms)) {
    case LIFE_CLAIMED:
        return append->has_expect && !append->has_key && !append->commits &&
                       life_is_changing(thread)
                   ? append_conflict(append->error, "claimed", spine_snapshot(lane, thread).version)
                   : lane_put_back(append->lane, WANT_CLAIM);
    case LIFE_GONE:
    case LIFE_OVERDUE:
        return APPEND_LOOK_AGAIN;
    case LIFE_ALIVE:
        break;
    }
    status = commit_claimed(append, thread);
    bool added = status == STATUS_OK && !append->result->duplicate;
    enum life_use use = status == STATUS_OK ? LIFE_EXTEND : LIFE_KEEP;
    if (added && changes_lifetimes(append)) {
        set_lifetimes(append, thread);
        use = LIFE_RESET;
    }
    /* The use comes before the change, so that the disk learns of it; the claim stays. */
    life_refresh(thread, lane->now_ms, use);
    if (added && append->commits) {
        stream_end(lane, thread);
    }
    if (added) {
        thread_used(thread);
        status = keep(append, thread);
    }
    /* Under the claim: afterwards others may end it. */
    append->result->expires_in_ms = remaining_ms(append, thread);
    life_release(thread, lane->now_ms, LIFE_KEEP);
    if (use == LIFE_RESET) {
        thread_retick(lane, thread);
    }
    return status;
}

/* ---- to a thread that is not there ---- */

/* `draft`: what is to be committed, of found->unborn, which is claimed; NULL: nothing. */
static enum status append_new(struct append *append, const struct lookup *found,
                              const struct draft *draft)
{
    struct lane *lane = append->lane;
    struct thread *thread = NULL;
    struct spine *spine = NULL;
    bool continued = false;
    enum status status = append_judge_gone(append, found, draft, &continued);
    if (status) {
        return status;
    }
    struct snapshot past = {.length = continued ? found->steps : 0,
                            .version = continued ? found->version : 0};
    bool memory_only = continued && found->memory_only;
    status = append_check_room(&past, append->error);
    status = status ? status : append_check_lifetimes(append, NULL, memory_only);
    status = status ? status : build_streamed(append, draft);
    if (status) {
        return status;
    }
    status = lane_put_back(append->lane, WANT_MEMORY);
    thread = thread_create(lane, &found->key, lane->threads->settings.ttl_ms);
    spine = thread ? spine_create(lane, 1, past.length, past.version) : NULL;
    if (!spine || (append->has_key && !recall_reserve(lane, thread))) {
        goto fail;
    }
    if (memory_only) {
        /* Relaxed: as in set_lifetimes. */
        atomic_store_explicit(&rest_of(thread)->retention_ms, 0, memory_order_relaxed);
    }
    set_lifetimes(append, thread);
    life_refresh(thread, lane->now_ms, LIFE_RESET);
    spine->lost_reason = (uint8_t)found->reason;
    append->result->created = !continued;
    append->result->lost = past.length;
    step_settle(append, thread, past.length, past.version + 1, NULL);
    spine_commit(lane, spine, append->step);
    /* Relaxed: not shared yet; the index publishes it. */
    atomic_store_explicit(&thread_full(thread)->spine, lane_ref(lane, spine), memory_order_relaxed);
    if (!thread_publish(lane, found, thread)) {
        status = APPEND_LOOK_AGAIN;
        goto fail;
    }
    if (found->unborn) {
        thread_born(lane, found->unborn);
    }
    lane_count(lane, METRIC_THREADS_CREATED, 1);
    if (found->reason == REASON_CORRUPT) {
        cold_replaced(lane, found);
    }
    step_committed(append, thread);
    status = keep(append, thread);
    append->result->expires_in_ms = remaining_ms(append, thread);
    life_release(thread, lane->now_ms, LIFE_KEEP);
    return status;
fail:
    arena_free(lane->cache, spine);
    thread_discard(lane, thread);
    return status;
}

/* The same where nothing is there but, maybe, the knowledge of what was. */
static enum status append_compact(struct append *append, const struct lookup *found)
{
    struct lane *lane = append->lane;
    struct thread *thread = compact_create(lane, &found->key, append->request);
    if (!thread) {
        return lane_put_back(lane, WANT_MEMORY);
    }
    uint64_t word = life_load(thread);
    uint32_t payload_bytes = thread->step.payload_bytes;
    if (!thread_publish(lane, found, thread)) {
        thread_discard(lane, thread);
        return APPEND_LOOK_AGAIN;
    }
    /* It is anybody's from here on. */
    lane_add(&lane->payload_bytes, payload_bytes);
    lane_count(lane, METRIC_THREADS_CREATED, 1);
    lane_count(lane, METRIC_APPENDS, 1);
    *append->result = (struct thread_append_result){
        .version = 1,
        .created = true,
        .expires_in_ms = life_remaining_ms(thread, word, lane->now_ms),
    };
    append->committed = true;
    return STATUS_OK;
}

/* Whether a compact thread would do, and no step need be built. */
static bool is_compact(const struct append *append, const struct lookup *found)
{
    return append->compact && !found->thread && !found->unborn && !found->loading &&
           lookup_snapshot(append->lane, found).version == 0;
}

/* Somebody's draft has the name: it is the one to commit, or in the way. */
static enum status append_to_unborn(struct append *append, const struct lookup *found)
{
    struct lane *lane = append->lane;
    struct thread *unborn = found->unborn;
    uint32_t version = lookup_snapshot(lane, found).version;
    if (!append->commits && stream_lives(lane, unborn)) {
        return append_conflict(append->error, "claimed", version);
    }
    switch (life_claim(unborn, lane->now_ms)) {
    case LIFE_CLAIMED:
        return lane_put_back(lane, WANT_CLAIM);
    case LIFE_GONE:
    case LIFE_OVERDUE:
        return APPEND_LOOK_AGAIN;
    case LIFE_ALIVE:
        break;
    }
    const struct draft *draft = stream_draft(lane, unborn);
    enum status status = append_check_claim(append, draft, version);
    status = status ? status : append_new(append, found, draft);
    if (!append->committed) {
        life_release(unborn, lane->now_ms, LIFE_KEEP);
    }
    return status;
}

static enum status append_to_gone(struct append *append, const struct lookup *found)
{
    if (found->unborn) {
        return append_to_unborn(append, found);
    }
    return append->commits
               ? append_stale(append->error, lookup_snapshot(append->lane, found).version)
               : append_new(append, found, NULL);
}

/* ---- both ---- */

static enum status build_step(struct append *append, const struct wire_request *request)
{
    enum status status = append_check_size(append->lane, request, append->error);
    if (status) {
        return status;
    }
    append->step = step_create(append->lane, request);
    return append->step ? STATUS_OK : lane_put_back(append->lane, WANT_MEMORY);
}

static void discard_step(struct append *append)
{
    if (append->step) {
        step_discard(append->lane, append->step);
        append->step = NULL;
    }
}

/* The step, and what the disk knows of its keys. */
static enum status prepare_step(struct append *append, const struct wire_request *request)
{
    enum status status = build_step(append, request);
    if (status || !append->lane->tier) {
        return status;
    }
    struct lookup_key name =
        lookup_key_of(append->lane, append->request, RECORD_THREAD, request->thread);
    return status || cold_know_keys(append->lane, append->step, name.hash)
               ? status
               : lane_put_back(append->lane, WANT_DISK);
}

/* Has the disk asked for the keys of a step that will be built under the claim. */
static enum status prepare_keys(struct append *append)
{
    struct wire_request bare = *append->request;
    bare.payload_count = 0;
    bare.payload_bytes = 0;
    enum status status = append->lane->tier ? prepare_step(append, &bare) : STATUS_OK;
    discard_step(append);
    return status;
}

/* Once. APPEND_LOOK_AGAIN: somebody else was faster. */
static enum status look_and_append(struct append *append)
{
    struct lane *lane = append->lane;
    struct lookup found = lookup_request(lane, append->request);
    /* Who expects another version changes nothing, the room it takes neither. */
    enum status status = found.thread && thread_is_compact(found.thread)
                             ? check_early(append, found.thread)
                             : STATUS_OK;
    status = status ? status : compact_unfold(lane, &found);
    if (status || found.loading) {
        return status ? status : lane_put_back(lane, WANT_DISK);
    }
    if (is_compact(append, &found)) {
        bool continued;
        status = append_judge_gone(append, &found, NULL, &continued);
        return status ? status : append_compact(append, &found);
    }
    if (!append->step && !append->commits) {
        status = prepare_step(append, append->request);
        if (status) {
            return status;
        }
    }
    return found.thread ? append_to(append, found.thread) : append_to_gone(append, &found);
}

static enum status run(struct append *append)
{
    struct lane *lane = append->lane;
    const struct wire_request *request = append->request;
    *append->result = (struct thread_append_result){0};
    enum status status = append_check_disk(append);
    status = status            ? status
             : append->commits ? prepare_keys(append)
             : append->compact ? append_check_size(lane, request, append->error)
                               : prepare_step(append, request);
    if (status) {
        goto out;
    }
    if (append->has_key) {
        append->recall = recall_prepare(lane, request);
    }
    status = APPEND_LOOK_AGAIN;
    for (int looks = 0; status == APPEND_LOOK_AGAIN && looks < LOOKS_MAX; looks++) {
        status = look_and_append(append);
        if (append->commits) {
            discard_step(append);
        }
    }
out:
    discard_step(append);
    return status == APPEND_LOOK_AGAIN ? lane_put_back(lane, WANT_CLAIM) : status;
}

static struct append append_of(struct lane *lane, const struct wire_request *request,
                               struct thread_append_result *result, struct wire_error *error)
{
    return (struct append){
        .lane = lane,
        .request = request,
        .result = result,
        .error = error,
        .commits = request->method == WIRE_METHOD_COMMIT,
        .has_key = wire_given(request, WIRE_FIELD_key),
        .has_expect = wire_given(request, WIRE_FIELD_expect),
        .compact = compact_suits(lane, request),
        .wait = request->ack == WIRE_ACK_DISK ? JOURNAL_WAIT_DURABLE : JOURNAL_NO_WAIT,
    };
}

enum status thread_append(struct lane *lane, const struct wire_request *request,
                          struct thread_append_result *result, struct wire_error *error)
{
    struct append append = append_of(lane, request, result, error);
    assert(!append.commits);
    return run(&append);
}

enum status thread_commit(struct lane *lane, const struct wire_request *request,
                          struct thread_append_result *result, struct wire_error *error)
{
    struct append append = append_of(lane, request, result, error);
    assert(append.commits);
    return run(&append);
}
