/* Asking the tier for what is not in memory, and putting its answer in place. */
#include "thread/cold.h"

#include "thread/graveyard.h"
#include "thread/journal.h"
#include "thread/promote.h"
#include "thread/steps.h"
#include "thread/sweep.h"
#include "thread/thread.h"

#include <stdlib.h>

enum { ANSWER_MS = 5000 /* an answer stays in the index so long */ };

/* A load with the record that stands for it in the index. */
struct cold_load {
    struct tier_load tier;
    uint32_t marker;
    uint32_t erased;     /* erasures of such names that were done before it was asked */
    uint32_t generation; /* of the tier then: what it tells is no basis for a later one's changes */
};

/* ---- Records ---- */

static struct cold *cold_create(struct lane *lane, uint64_t hash_low, uint64_t hash_high,
                                uint8_t kind, enum cold_state state, size_t id_size)
{
    struct cold *cold = arena_alloc(lane->cache, sizeof *cold + id_size, ARENA_STRUCTURAL);
    if (!cold) {
        return NULL;
    }
    memset(cold, 0, sizeof *cold);
    cold->record = (struct index_record){
        .hash_low = hash_low, .kind = (uint8_t)(kind | RECORD_COLD), .flags = (uint8_t)state};
    cold->hash_high = hash_high;
    return cold;
}

void cold_retire(struct lane *lane, struct cold *cold)
{
    epoch_retire(lane->member, RETIRE_COLD, cold);
}

static uint16_t answer_tick(const struct lane *lane)
{
    return sweep_tick(lane->now_ms, lane->now_ms + ANSWER_MS);
}

/* ---- Erasures under way ---- */
/* A slot counts those under way in its lower half and those that were done in its upper one. */
static const uint64_t erased_one = UINT64_C(1) << 32;

static _Atomic uint64_t *erasing_slot(struct threads *threads, struct index_hash name)
{
    return &threads->erasing[name.low % ERASING_SLOTS];
}

void cold_erasing_begins(struct threads *threads, struct index_hash name)
{
    /* Release pairs with the acquire in erasing: who finds the name free of its thread, which is
     * taken out of the index after this, sees that it is being erased. */
    atomic_fetch_add_explicit(erasing_slot(threads, name), 1, memory_order_release);
}

void cold_erasing_ends(struct threads *threads, struct index_hash name)
{
    /* Release: as above. */
    uint64_t was = atomic_fetch_add_explicit(erasing_slot(threads, name), erased_one - 1,
                                             memory_order_release);
    assert((uint32_t)was > 0);
}

static uint64_t erasing(struct threads *threads, struct index_hash name)
{
    /* Pairs with the releases above. */
    return atomic_load_explicit(erasing_slot(threads, name), memory_order_acquire);
}

static bool is_erasing(struct threads *threads, struct index_hash name)
{
    return (uint32_t)erasing(threads, name) > 0;
}

/* Whether an erasure came between the question and its answer. */
static bool was_overtaken(struct threads *threads, const struct cold_load *load)
{
    uint64_t now = erasing(threads, load->tier.name);
    return (uint32_t)now > 0 || (uint32_t)(now >> 32) != load->erased;
}

/* ---- Asking ---- */

static bool may_have(const struct lane *lane, struct index_hash name)
{
    return lane->tier && lane->tier->calls->may_have(lane->tier, name);
}

static struct cold_load *load_create(const struct lane *lane, const struct lookup_key *key)
{
    struct cold_load *load = calloc(1, sizeof *load);
    if (!load) {
        return NULL;
    }
    load->tier.port = lane->port;
    load->tier.kind = key->kind == RECORD_THREAD ? TIER_LOAD_THREAD : TIER_LOAD_KEY;
    load->tier.tenant = key->tenant;
    load->tier.record_kind = (uint8_t)key->kind;
    load->tier.name = key->hash;
    load->tier.id_size = (uint8_t)key->id.size;
    memcpy(load->tier.id, key->id.data, key->id.size);
    return load;
}

bool cold_ask(struct lane *lane, const struct lookup_key *key)
{
    if (!may_have(lane, key->hash)) {
        return false;
    }
    struct index *index = lane->threads->index;
    struct index_record *existing;
    struct cold_load *load = load_create(lane, key);
    struct cold *marker =
        cold_create(lane, key->hash.low, key->hash.high, (uint8_t)key->kind, COLD_LOADING, 0);
    if (!load || !marker) {
        arena_free(lane->cache, marker);
        free(load);
        return true; /* later */
    }
    if (index_insert(index, lane->member, key->hash, &marker->record, 0, lookup_match, key,
                     &existing) != INDEX_DONE) {
        arena_free(lane->cache, marker); /* nobody has seen it; somebody else asks, or knows */
        free(load);
        return true;
    }
    load->marker = lane_ref(lane, marker);
    load->erased = (uint32_t)(erasing(lane->threads, key->hash) >> 32);
    load->generation = lane->tier->calls->generation(lane->tier);
    if (lane->tier->calls->load(lane->tier, &load->tier) != STATUS_OK) {
        index_remove(index, lane->member, &marker->record);
        cold_retire(lane, marker);
        free(load);
        return true;
    }
    lane->waits++;
    return true;
}

struct index_record *cold_find_key(struct lane *lane, const struct lookup_key *key, bool *loading)
{
    struct index_record *record = index_find(lane->threads->index, key->hash, lookup_match, key);
    *loading = false;
    if (!record) {
        *loading = cold_ask(lane, key);
    } else if (record_is_cold(record) && cold_state((struct cold *)record) == COLD_LOADING) {
        *loading = true;
    }
    return record;
}

bool cold_is_shared(const struct cold *cold, struct index_hash writer)
{
    switch (cold_state(cold)) {
    case COLD_KEY:
        return cold->shared || cold->owner_low != writer.low || cold->owner_high != writer.high;
    case COLD_GONE:
        return cold->shared || cold->version != (uint32_t)writer.high;
    case COLD_CORRUPT:
        return true; /* it may have been anybody's */
    case COLD_LOADING:
    case COLD_ABSENT:
        break;
    }
    return false;
}

bool cold_know_keys(struct lane *lane, struct step *step, struct index_hash writer)
{
    bool all = true;
    for (unsigned i = 0; lane->tier && i < step->key_count; i++) {
        struct index_record *record = &step_keys(step)[i].record;
        struct lookup_key key =
            lookup_key(lane, (enum record_kind)record->kind, step_key_id(step, record));
        bool loading;
        const struct index_record *found = cold_find_key(lane, &key, &loading);
        /* The answer may be forgotten before the step is committed. */
        bool shared =
            found && record_is_cold(found) && cold_is_shared((struct cold *)found, writer);
        record->flags = shared ? STEP_KEY_SHARED : 0;
        all = all && !loading;
    }
    return all;
}

/* ---- Answers ---- */

/* Puts an answer where the marker is. The index keeps no place for nothing: without memory the
 * marker just goes, and who wants to know asks again. */
static void answer(struct lane *lane, struct cold *marker, struct cold *cold)
{
    struct index *index = lane->threads->index;
    if (!cold) {
        index_remove(index, lane->member, &marker->record);
    } else if (!index_replace(index, lane->member, &marker->record, &cold->record,
                              answer_tick(lane))) {
        arena_free(lane->cache, cold); /* a step that was appended has taken the key */
    }
    cold_retire(lane, marker);
}

static struct cold *cold_like(struct lane *lane, const struct cold *marker, enum cold_state state,
                              size_t id_size)
{
    return cold_create(lane, marker->record.hash_low, marker->hash_high,
                       (uint8_t)(marker->record.kind & ~RECORD_COLD), state, id_size);
}

static struct cold *cold_gone(struct lane *lane, const struct cold *marker,
                              const struct tier_tombstone *tombstone)
{
    struct cold *cold = cold_like(lane, marker, COLD_GONE, 0);
    if (cold) {
        cold->reason = (uint8_t)tombstone->reason;
        cold->version = tombstone->version;
        cold->steps = tombstone->steps;
        cold->shared = tombstone->shared;
    }
    return cold;
}

static struct cold *cold_corrupt(struct lane *lane, const struct cold *marker, uint64_t uid)
{
    struct cold *cold = cold_like(lane, marker, COLD_CORRUPT, 0);
    if (cold) {
        cold->uid = uid;
    }
    return cold;
}

static struct cold *cold_key(struct lane *lane, const struct cold *marker,
                             const struct tier_key *key)
{
    struct cold *cold = cold_like(lane, marker, COLD_KEY, key->id_size);
    if (cold) {
        cold->owner_low = key->owner.low;
        cold->owner_high = key->owner.high;
        cold->version = key->version;
        cold->number = key->number;
        cold->shared = key->shared;
        cold->id_size = key->id_size;
        memcpy(cold->id, key->id, key->id_size);
    }
    return cold;
}

/* The image is at its end: who asked is told, whether the disk can let go of it or not. By a wall
 * clock that has just jumped nothing is erased. */
static void end_of_image(struct lane *lane, struct cold *marker, const struct tier_head *head,
                         enum reason reason)
{
    struct tier_tombstone tombstone = {
        .reason = reason, .version = head->version, .steps = head->length};
    if (lane->now_ms >= lane->doubt_until_ms) {
        lane_count(lane, METRIC_EXPIRED, 1);
        journal_erase_cold(lane, head, reason, JOURNAL_NO_WAIT, NULL, 0);
    }
    answer(lane, marker, cold_gone(lane, marker, &tombstone));
}

static void thread_loaded(struct lane *lane, const struct cold_load *load, struct cold *marker)
{
    struct tier_image *image = load->tier.image;
    struct tier_head *head = &image->head;
    if (was_overtaken(lane->threads, load)) {
        answer(lane, marker, NULL); /* until that is done the request is put back */
        return;
    }
    enum reason reason = promote_end_reason(lane, head);
    if (reason != REASON_NONE) {
        end_of_image(lane, marker, head, reason);
        return;
    }
    if (promote_thread(lane, image, load->generation, &marker->record)) {
        lane_count(lane, METRIC_PROMOTIONS, 1);
        cold_retire(lane, marker);
    } else {
        /*
         * No memory: asked again when there is some, for all of it. What is leaving does not count:
         * the part that was built is, and would always look like room enough to come.
         */
        uint64_t bytes = head->payload_bytes + (uint64_t)image->step_count * STEP_FULL_BYTES +
                         sweep_leaving_bytes(lane->threads);
        lane->want_bytes = bytes > lane->want_bytes ? bytes : lane->want_bytes;
        answer(lane, marker, NULL);
    }
}

static void key_loaded(struct lane *lane, struct cold *marker, const struct tier_key *key)
{
    if (is_erasing(lane->threads, key->owner)) {
        answer(lane, marker, NULL);
        return;
    }
    answer(lane, marker, cold_key(lane, marker, key));
}

static void page_loaded(struct lane *lane, struct tier_load *load)
{
    assert(load == lane->page_load);
    lane->page = load->found == TIER_FOUND ? load->page : NULL;
    if (!lane->page) {
        lane->page_load = NULL; /* asked again */
        free(load);
    }
}

void cold_loaded(struct lane *lane, struct tier_load *tier)
{
    if (tier->kind == TIER_LOAD_PAGE) {
        page_loaded(lane, tier);
        return;
    }
    struct cold_load *load = (struct cold_load *)tier;
    struct cold *marker = lane_at(lane, load->marker);
    switch (tier->found) {
    case TIER_ABSENT:
        answer(lane, marker, cold_like(lane, marker, COLD_ABSENT, 0));
        break;
    case TIER_CORRUPT:
        answer(lane, marker, cold_corrupt(lane, marker, tier->uid));
        break;
    case TIER_FAILED:
        answer(lane, marker, NULL);
        break;
    case TIER_TOMBSTONE:
        answer(lane, marker, cold_gone(lane, marker, &tier->tombstone));
        break;
    case TIER_FOUND:
        if (tier->kind == TIER_LOAD_THREAD) {
            thread_loaded(lane, load, marker);
            free(tier->image);
        } else {
            key_loaded(lane, marker, &tier->key);
        }
        break;
    }
    free(load);
}

/* ---- What is due ---- */

/* Holds the name of a thread that is not in memory. NULL: it is there, or somebody has the name. */
static struct cold *hold_name(struct lane *lane, const struct lookup_key *key)
{
    struct index *index = lane->threads->index;
    struct index_record *record = index_find(index, key->hash, lookup_match, key);
    struct cold *old = NULL;
    if (record) {
        old = record_is_cold(record) ? (struct cold *)record : NULL;
        if (!old || cold_state(old) == COLD_LOADING) {
            return NULL;
        }
    }
    struct cold *marker =
        cold_create(lane, key->hash.low, key->hash.high, (uint8_t)key->kind, COLD_LOADING, 0);
    if (!marker) {
        return NULL;
    }
    struct index_record *existing;
    bool done = old ? index_replace(index, lane->member, record, &marker->record, 0)
                    : index_insert(index, lane->member, key->hash, &marker->record, 0, lookup_match,
                                   key, &existing) == INDEX_DONE;
    if (!done) {
        arena_free(lane->cache, marker);
        return NULL;
    }
    if (old) {
        cold_retire(lane, old);
    }
    return marker;
}

uint64_t cold_corrupt_uid(const struct lookup *corrupt)
{
    assert(corrupt->reason == REASON_CORRUPT);
    if (record_is_cold(corrupt->record)) {
        return ((const struct cold *)corrupt->record)->uid;
    }
    return corrupt->unborn ? rest_of(corrupt->unborn)->uid : 0;
}

static struct tier_head corrupt_head(const struct lookup *corrupt)
{
    return (struct tier_head){.uid = cold_corrupt_uid(corrupt),
                              .name = corrupt->key.hash,
                              .id = corrupt->key.id,
                              .tenant = corrupt->key.tenant};
}

struct tier_change *cold_forget(struct lane *lane, const struct lookup *corrupt)
{
    struct tier_head head = corrupt_head(corrupt);
    struct cold *marker = head.uid ? hold_name(lane, &corrupt->key) : NULL;
    return marker
               ? journal_erase_cold(lane, &head, REASON_FORGOTTEN, JOURNAL_WAIT_DURABLE, marker, 0)
               : NULL;
}

void cold_replaced(struct lane *lane, const struct lookup *corrupt)
{
    struct tier_head head = corrupt_head(corrupt);
    if (head.uid) {
        journal_erase_cold(lane, &head, REASON_NONE, JOURNAL_NO_WAIT, NULL, 0);
    }
}

/* Of a thread that is in memory: whether it is the one that is due. False in *known: not now. */
static bool is_due(struct lane *lane, struct thread *thread, uint64_t uid, bool *known)
{
    *known = life_claim_for_upkeep(thread, lane->now_ms) == LIFE_ALIVE;
    if (!*known) {
        return false; /* in use, or at its end: the tier asks again */
    }
    bool same = rest_of(thread)->uid == uid;
    life_release(thread, lane->now_ms, LIFE_KEEP);
    return same;
}

static void due_erase(struct lane *lane, const struct tier_due *due, struct cold *marker)
{
    struct tier_head head = {.uid = due->uid,
                             .name = due->name,
                             .id = bytes_of(due->id, due->id_size),
                             .tenant = due->tenant,
                             .version = due->version,
                             .length = due->length};
    lane_count(lane, due->reason == REASON_EVICTED ? METRIC_EVICTED : METRIC_EXPIRED, 1);
    journal_erase_cold(lane, &head, due->reason, JOURNAL_NO_WAIT, marker, due->used_ms);
}

/* Ended while it was in memory, and the erasure has not come through. Nothing loads it. The disk
 * may not have had its last versions, so that its word does not count. */
static void due_ended(struct lane *lane, struct tier_due *due, enum reason reason, uint32_t version,
                      uint32_t length)
{
    due->reason = reason;
    due->version = version;
    due->length = length;
    due->used_ms = 0;
    due_erase(lane, due, NULL);
}

void cold_due(struct lane *lane, struct tier_due *due)
{
    struct lookup_key key = lookup_key(lane, RECORD_THREAD, bytes_of(due->id, due->id_size));
    struct index_record *record = index_find(lane->threads->index, key.hash, lookup_match, &key);
    if (is_erasing(lane->threads, due->name)) {
        /* This one, another of the name's lives, or another name: the next time round. */
        due->event.next = lane->late_dues;
        lane->late_dues = &due->event;
        return;
    }
    if (record && record->kind == RECORD_THREAD && thread_is_unborn((struct thread *)record)) {
        struct snapshot before = spine_snapshot(lane, (struct thread *)record);
        if (before.spine->lost_reason == REASON_CORRUPT) {
            due_erase(lane, due, NULL); /* of it nothing is known here */
        } else {
            due_ended(lane, due, (enum reason)before.spine->lost_reason, before.version,
                      before.length);
        }
    } else if (record && record->kind == RECORD_THREAD) {
        struct thread *thread = (struct thread *)record;
        bool known;
        if (is_due(lane, thread, due->uid, &known)) {
            /* Used since the disk last heard of it: tell. An end that has come is the sweep's. */
            journal_settle(lane, thread, true);
        } else if (known) {
            due_erase(lane, due, NULL); /* an earlier life, that the disk would not let go of */
        }
    } else if (record && record_is_tombstone(record)) {
        const struct tombstone *tombstone = (const struct tombstone *)record;
        due_ended(lane, due, (enum reason)record->flags, tombstone->version, tombstone->steps);
    } else {
        struct cold *marker = hold_name(lane, &key);
        if (marker) {
            due_erase(lane, due, marker);
        }
    }
    free(due);
}
