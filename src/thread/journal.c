/* Changes of threads, wrapped for the tier and unwrapped when their events come. */
#include "thread/journal.h"

#include "thread/cold.h"
#include "thread/graveyard.h"
#include "thread/recall.h"
#include "thread/steps.h"
#include "thread/thread.h"

#include <stdlib.h>
#include <time.h>

enum {
    CHANGE_BYTES = 512, /* what a change counts for besides its steps */
    STEP_BYTES = 128,
    /* How long a closing lane waits for a tier that does not answer. */
    DRAIN_TURNS_MAX = 30 * 1000,
};

/* A change with what the lane wants to know when it comes back. */
struct journal_change {
    struct tier_change tier;
    struct journal_change *next_refused;
    struct thread *thread; /* held; NULL: an erasure of what is not in memory */
    struct lane_wait *waiting;
    enum journal_wait wait;
    uint32_t marker; /* arena ref of the cold record that holds the name; 0: none */
    struct recall_entry entry;
    struct recall_entry *entries;  /* of a whole put: a copy, since the thread's own moves on */
    uint8_t id[TIER_ID_BYTES_MAX]; /* of an erasure without a thread */
    const struct step *steps[];
};

static struct journal_change *change_create(uint32_t steps)
{
    size_t size = sizeof(struct journal_change) + steps * sizeof(struct step *);
    struct journal_change *change = malloc(size);
    if (change) {
        memset(change, 0, sizeof *change);
        change->tier.step_count = steps;
        change->tier.steps = change->steps;
        change->tier.must = true;
        change->tier.size_bytes = CHANGE_BYTES;
    }
    return change;
}

static void change_free(struct journal_change *change)
{
    if (change) {
        free(change->entries);
    }
    free(change);
}

/* True: the tier has it now. */
static bool change_submit(struct lane *lane, struct journal_change *change, uint32_t generation)
{
    change->tier.port = lane->port;
    change->tier.generation = generation;
    if (lane->tier->calls->submit(lane->tier, &change->tier) != STATUS_OK) {
        return false;
    }
    lane->waits++;
    return true;
}

static void change_hold(struct journal_change *change, struct thread *thread)
{
    change->thread = thread;
    /* Relaxed: the thread is ours, and the last hold's release and acquire order the rest. */
    atomic_fetch_add_explicit(&thread_full(thread)->holds, 1, memory_order_relaxed);
    /* Relaxed: read by who has the claim, or judges the thread idle, which it is not yet. */
    atomic_fetch_add_explicit(&rest_of(thread)->changes, 1, memory_order_relaxed);
}

static void change_let_go(struct lane *lane, struct journal_change *change)
{
    if (change->thread) {
        /* Release: what the lane learned of the change comes before; pairs with the acquire in
         * journal_is_saved. */
        atomic_fetch_sub_explicit(&rest_of(change->thread)->changes, 1, memory_order_release);
        thread_let_go(lane->member, change->thread);
    }
}

/* ---- Put ---- */

static struct tier_head head_of(const struct lane *lane, const struct thread *thread,
                                const struct snapshot *now, uint64_t used_ms)
{
    const struct spine *spine = now->spine;
    /* Relaxed, all: numbers by themselves, and the claim orders their writers. */
    return (struct tier_head){
        .uid = rest_of(thread)->uid,
        .name = {.low = thread->record.hash_low, .high = thread_full(thread)->hash_high},
        .id = thread_id(thread),
        .tenant = thread->record.small,
        .lost_reason = spine->lost_reason,
        .length = now->length,
        .version = now->version,
        .lost = spine->lost,
        .lost_base = spine->lost_base,
        .shared = rest_of(thread)->shared,
        .appends = rest_of(thread)->appends,
        .floor = rest_of(thread)->floor,
        .created_ms = lane_to_wall(lane, thread_created_ms(lane, thread)),
        .used_ms = lane_to_wall(lane, used_ms),
        .ttl_ms = atomic_load_explicit(&thread->ttl_ms, memory_order_relaxed),
        .retention_ms = atomic_load_explicit(&rest_of(thread)->retention_ms, memory_order_relaxed),
        .payload_bytes = atomic_load_explicit(&spine->payload_bytes, memory_order_relaxed),
        .tokens = atomic_load_explicit(&spine->tokens, memory_order_relaxed),
    };
}

static void change_add_steps(struct lane *lane, struct journal_change *change,
                             const struct snapshot *now, uint32_t from)
{
    for (uint32_t at = from; at < now->length; at++) {
        const struct step *step = spine_step(lane, now->spine, at);
        if (step->flags & STEP_CORRUPT) {
            change->steps[at - from] = NULL;
            continue;
        }
        if (step_rest(step)->owner != lane_ref(lane, change->thread) ||
            (step->flags & STEP_INHERITED)) {
            change->tier.inherited = at + 1;
        }
        step_pin(step);
        change->steps[at - from] = step;
        change->tier.size_bytes += STEP_BYTES + step->payload_bytes;
    }
    lane->work += now->length - from;
}

static void change_drop_steps(struct journal_change *change)
{
    for (uint32_t i = 0; i < change->tier.step_count; i++) {
        if (change->steps[i]) {
            step_unpin(change->steps[i]);
        }
    }
}

static bool change_add_recalls(const struct lane *lane, struct journal_change *change,
                               const struct thread *thread, bool whole,
                               const struct recall_entry *entry)
{
    if (!whole) {
        if (entry) {
            change->entry = *entry;
            change->tier.recalls = &change->entry;
            change->tier.recall_count = 1;
        }
        return true;
    }
    uint32_t count;
    const struct recall_entry *entries = recall_entries(lane, thread, &count);
    if (count == 0) {
        return true;
    }
    change->entries = malloc(count * sizeof *entries);
    if (!change->entries) {
        return false;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        /* As in recall_find: what is too old is no longer remembered. */
        if (rest_of(thread)->appends - entries[i].ordinal < THREAD_RECALL_MAX) {
            change->entries[kept++] = entries[i];
        }
    }
    change->tier.recalls = change->entries;
    change->tier.recall_count = kept;
    return true;
}

static void thread_unsaved(struct lane *lane, struct thread *thread)
{
    /* Release pairs with the acquire in journal_is_saved. */
    if (!atomic_exchange_explicit(&rest_of(thread)->unsaved, 1, memory_order_release)) {
        thread_retick(lane, thread); /* soon, not when it is idle */
    }
}

struct tier_change *journal_put(struct lane *lane, struct thread *thread, uint32_t from,
                                enum reason reason, const struct recall_entry *entry,
                                enum journal_wait wait)
{
    if (!journal_keeps(lane, thread)) {
        return NULL;
    }
    uint32_t generation = lane->tier->calls->generation(lane->tier);
    struct snapshot now = spine_snapshot(lane, thread);
    if (rest_of(thread)->uid == 0) {
        rest_of(thread)->uid = lane->tier->calls->take_uid(lane->tier);
        rest_of(thread)->generation =
            generation - 1; /* whatever it had before was another's: whole */
    }
    /* What begins at position 0 is whole by the tier's rule. Relaxed: set by this claim's
     * predecessors. */
    bool whole = from == 0 || rest_of(thread)->generation != generation ||
                 atomic_load_explicit(&rest_of(thread)->unsaved, memory_order_relaxed);
    uint32_t first = whole || from < now.spine->lost ? now.spine->lost : from;
    struct journal_change *change = change_create(now.length - first);
    if (!change || !change_add_recalls(lane, change, thread, whole, entry)) {
        thread_unsaved(lane, thread);
        change_free(change);
        return NULL;
    }
    /* Before the ttl is read: one that is set from now on is told by the next change. Acquire pairs
     * with the release in thread_touch. */
    atomic_exchange_explicit(&rest_of(thread)->retuned, 0, memory_order_acquire);
    uint64_t used_ms = life_used_ms(thread, life_load(thread));
    change->tier.kind = TIER_PUT;
    change->tier.head = head_of(lane, thread, &now, used_ms);
    /* Whatever a whole put drops was rewound, now or while the disk was not told. */
    change->tier.reason = whole ? REASON_REWOUND : reason;
    change->tier.drop_from = whole ? 0 : from;
    change->tier.wants_durable = wait == JOURNAL_WAIT_DURABLE;
    change->wait = wait;
    change_hold(change, thread);
    change_add_steps(lane, change, &now, first);
    if (whole) {
        /* Before it is submitted: who learns later that a change failed, this one among them, says
         * so in vain otherwise. Relaxed: under the claim. */
        atomic_store_explicit(&rest_of(thread)->unsaved, 0, memory_order_relaxed);
    }
    /* Of the generation that it was judged by: the tier refuses it if there is a new one. */
    if (!change_submit(lane, change, generation)) {
        thread_unsaved(lane, thread);
        change_drop_steps(change);
        change_let_go(lane, change);
        change_free(change);
        return NULL;
    }
    rest_of(thread)->generation = generation;
    /* Relaxed: under the claim; the sweep looks without it, and looks again. */
    atomic_store_explicit(&rest_of(thread)->used_ms, used_ms, memory_order_relaxed);
    return &change->tier;
}

/* ---- Erase ---- */

/* A client's word must be kept, however long it takes. What is over by itself the disk finds out.
 */
static bool must_erase(const struct journal_change *change)
{
    return change->tier.reason == REASON_FORGOTTEN || change->tier.reason == REASON_NONE;
}

/* Its name is free again, whether it was erased or not: who asks is told by the disk. */
static void erase_ended(struct lane *lane, struct journal_change *change)
{
    cold_erasing_ends(lane->threads, change->tier.head.name);
    if (change->marker) {
        struct cold *marker = lane_at(lane, change->marker);
        index_remove(lane->threads->index, lane->member, &marker->record);
        cold_retire(lane, marker);
        change->marker = 0;
    }
}

static void erase_undone(struct lane *lane, struct journal_change *change)
{
    erase_ended(lane, change);
    change_let_go(lane, change);
    change_free(change);
}

static struct tier_change *erase(struct lane *lane, struct journal_change *change,
                                 const struct tier_head *head, enum reason reason,
                                 enum journal_wait wait)
{
    change->tier.kind = TIER_ERASE;
    change->tier.head = *head;
    change->tier.reason = reason;
    change->tier.wants_durable = wait == JOURNAL_WAIT_DURABLE;
    change->wait = wait;
    cold_erasing_begins(lane->threads, head->name);
    if (!change_submit(lane, change, lane->tier->calls->generation(lane->tier))) {
        if (!must_erase(change)) {
            erase_undone(lane, change);
            return NULL;
        }
        change->next_refused = lane->refused;
        lane->refused = change;
    }
    return wait == JOURNAL_NO_WAIT ? NULL : &change->tier;
}

struct tier_change *journal_erase(struct lane *lane, struct thread *thread, enum reason reason,
                                  enum journal_wait wait)
{
    if (!lane->tier || rest_of(thread)->uid == 0) {
        return NULL;
    }
    struct snapshot now = spine_snapshot(lane, thread);
    struct tier_head head = head_of(lane, thread, &now, life_used_ms(thread, life_load(thread)));
    struct journal_change *change = change_create(0);
    if (!change) {
        /* The disk finds it due in time; until then nobody believes what it says of the thread. */
        cold_erasing_begins(lane->threads, head.name);
        return NULL;
    }
    change_hold(change, thread);
    rest_of(thread)->uid = 0;
    return erase(lane, change, &head, reason, wait);
}

struct tier_change *journal_erase_cold(struct lane *lane, const struct tier_head *head,
                                       enum reason reason, enum journal_wait wait,
                                       struct cold *marker, uint64_t asked_used_ms)
{
    struct journal_change *change = change_create(0);
    if (!change) {
        /* The tier asks again. */
        if (marker) {
            index_remove(lane->threads->index, lane->member, &marker->record);
            cold_retire(lane, marker);
        }
        return NULL;
    }
    change->marker = marker ? lane_ref(lane, marker) : 0;
    change->tier.asked_used_ms = asked_used_ms;
    struct tier_head own = *head;
    memcpy(change->id, head->id.data, head->id.size);
    own.id = bytes_of(change->id, head->id.size);
    return erase(lane, change, &own, reason, wait);
}

/* ---- What the sweep wants to know ---- */

bool journal_is_saved(const struct thread *thread)
{
    /* Acquire, both: pair with the releases in change_let_go and thread_unsaved, so that who sees
     * the last change come back sees whether it failed. */
    return atomic_load_explicit(&rest_of(thread)->changes, memory_order_acquire) == 0 &&
           !atomic_load_explicit(&rest_of(thread)->unsaved, memory_order_acquire);
}

uint64_t journal_tell_ms(const struct thread *thread)
{
    /* Relaxed: a number by itself. */
    uint64_t retention_ms =
        atomic_load_explicit(&rest_of(thread)->retention_ms, memory_order_relaxed);
    /* A use is worth a change when it moved by half of what the disk allows for, and is found out
     * within as much again. */
    return tier_slack_ms(retention_ms) / 2;
}

bool journal_has_news(const struct lane *lane, const struct thread *thread, bool exactly)
{
    if (!journal_keeps(lane, thread)) {
        return false;
    }
    uint64_t used_ms = life_used_ms(thread, life_load(thread));
    /* Relaxed, all: hints; what is submitted is looked at anew under the claim. */
    uint64_t told_ms = atomic_load_explicit(&rest_of(thread)->used_ms, memory_order_relaxed);
    uint64_t moved_ms = used_ms > told_ms ? used_ms - told_ms : 0;
    bool unsaved = atomic_load_explicit(&rest_of(thread)->unsaved, memory_order_relaxed);
    bool retuned = atomic_load_explicit(&rest_of(thread)->retuned, memory_order_relaxed);
    return unsaved || retuned || moved_ms > (exactly ? 0 : journal_tell_ms(thread));
}

bool journal_settle(struct lane *lane, struct thread *thread, bool exactly)
{
    if (!journal_has_news(lane, thread, exactly)) {
        return true;
    }
    if (lane->tier->calls->is_read_only(lane->tier) || journal_is_full(lane) ||
        life_claim_for_upkeep(thread, lane->now_ms) != LIFE_ALIVE) {
        return false;
    }
    journal_put(lane, thread, spine_snapshot(lane, thread).length, REASON_NONE, NULL,
                JOURNAL_NO_WAIT);
    life_release(thread, lane->now_ms, LIFE_KEEP);
    return false;
}

/* ---- Events ---- */

static void tell(struct journal_change *change, enum status status)
{
    struct lane_wait *waiting = change->waiting;
    change->waiting = NULL;
    if (waiting) {
        waiting->done(waiting, status);
    }
}

static void put_applied(struct lane *lane, struct journal_change *change)
{
    if (change->tier.status != STATUS_OK) {
        thread_unsaved(lane, change->thread);
    } else {
        /* Relaxed: list wants no order. */
        atomic_store_explicit(&rest_of(change->thread)->on_disk, 1, memory_order_relaxed);
    }
}

/* The last event of a change; it is ours again. */
static void change_applied(struct lane *lane, struct journal_change *change)
{
    assert(lane->waits > 0);
    lane->waits--;
    if (change->tier.kind == TIER_ERASE && change->tier.status != STATUS_OK) {
        /* It must not stay; who waits learns that it is there still. */
        tell(change, change->tier.status);
        if (must_erase(change)) {
            change->next_refused = lane->refused;
            lane->refused = change;
        } else {
            erase_undone(lane, change);
        }
        return;
    }
    if (change->tier.kind == TIER_PUT) {
        put_applied(lane, change);
    } else {
        erase_ended(lane, change);
    }
    tell(change, change->tier.status);
    change_let_go(lane, change);
    change_free(change);
}

static void submit_refused(struct lane *lane)
{
    if (!lane->refused) {
        return;
    }
    if (lane->tier->calls->is_read_only(lane->tier)) {
        for (struct journal_change *at = lane->refused; at; at = at->next_refused) {
            tell(at, STATUS_READ_ONLY);
        }
        return;
    }
    struct journal_change *change = lane->refused;
    lane->refused = NULL;
    while (change) {
        struct journal_change *next = change->next_refused;
        if (!change_submit(lane, change, lane->tier->calls->generation(lane->tier))) {
            tell(change, STATUS_READ_ONLY);
            change->next_refused = lane->refused;
            lane->refused = change;
        }
        change = next;
    }
}

static void hand_out(struct lane *lane, struct tier_event *event)
{
    switch (event->kind) {
    case TIER_DURABLE: {
        struct tier_change *change =
            (struct tier_change *)((uintptr_t)event - offsetof(struct tier_change, durable));
        tell((struct journal_change *)change, change->status);
        break;
    }
    case TIER_APPLIED: {
        struct tier_change *change =
            (struct tier_change *)((uintptr_t)event - offsetof(struct tier_change, applied));
        change_applied(lane, (struct journal_change *)change);
        break;
    }
    case TIER_LOADED:
        assert(lane->waits > 0);
        lane->waits--;
        cold_loaded(lane, (struct tier_load *)event);
        break;
    case TIER_DUE:
        cold_due(lane, (struct tier_due *)event);
        break;
    }
}

static void hand_out_all(struct lane *lane, struct tier_event *event)
{
    while (event) {
        struct tier_event *next = event->next; /* the event may be freed */
        hand_out(lane, event);
        event = next;
    }
}

void journal_tend(struct lane *lane)
{
    if (!lane->tier) {
        return;
    }
    struct tier_event *late = lane->late_dues;
    lane->late_dues = NULL;
    hand_out_all(lane, lane->tier->calls->collect(lane->tier, lane->port));
    hand_out_all(lane, late);
    submit_refused(lane);
}

void lane_await(struct lane *lane, struct tier_change *pending, struct lane_wait *wait)
{
    struct journal_change *change = (struct journal_change *)pending;
    (void)lane;
    assert(change->wait != JOURNAL_NO_WAIT && !change->waiting);
    change->waiting = wait;
}

uint64_t lane_waits(const struct lane *lane)
{
    return lane->waits;
}

bool journal_drain(struct lane *lane)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    for (unsigned turn = 0; lane->tier && lane->waits > 0 && turn < DRAIN_TURNS_MAX; turn++) {
        journal_tend(lane);
        if (lane->waits > 0) {
            nanosleep(&moment, NULL);
        }
    }
    if (lane->waits > 0) {
        return false;
    }
    while (lane->late_dues) {
        struct tier_event *due = lane->late_dues;
        lane->late_dues = due->next;
        free(due);
    }
    while (lane->refused) {
        struct journal_change *change = lane->refused;
        lane->refused = change->next_refused;
        tell(change, STATUS_READ_ONLY);
        change_let_go(lane, change);
        change_free(change);
    }
    return true;
}
