/* Names to records. */
#include "thread/lookup.h"

#include "thread/cold.h"
#include "thread/journal.h"
#include "thread/steps.h"
#include "thread/thread.h"

struct lookup_key lookup_key(const struct lane *lane, enum record_kind kind, struct bytes id)
{
    return (struct lookup_key){
        .lane = lane,
        .hash = index_hash(lane->threads->index, LOOKUP_TENANT, (uint8_t)kind, id),
        .id = id,
        .kind = kind,
        .tenant = LOOKUP_TENANT,
    };
}

void lookup_note(struct wire_request *request, enum record_kind kind, struct bytes id,
                 struct index_hash hash)
{
    request->hashed = id;
    request->hashed_kind = (uint8_t)kind;
    request->hash_low = hash.low;
    request->hash_high = hash.high;
}

struct lookup_key lookup_key_of(const struct lane *lane, const struct wire_request *request,
                                enum record_kind kind, struct bytes id)
{
    if (request->hashed_kind != (uint8_t)kind || request->hashed.data != id.data ||
        request->hashed.size != id.size) {
        return lookup_key(lane, kind, id);
    }
    return (struct lookup_key){
        .lane = lane,
        .hash = {.low = request->hash_low, .high = request->hash_high},
        .id = id,
        .kind = kind,
        .tenant = LOOKUP_TENANT,
    };
}

void lookup_note_likely(const struct lane *lane, struct wire_request *request,
                        const struct index_record *likely)
{
    request->looked_turn = lane->turn;
    request->likely = likely;
}

bool lookup_match(const struct index_record *record, const void *context)
{
    const struct lookup_key *key = context;
    if (record->kind == (uint8_t)(key->kind | RECORD_TOMBSTONE)) {
        /* A tombstone keeps no id: 128 bits of the keyed hash stand for it. */
        return ((const struct tombstone *)record)->hash_high == key->hash.high;
    }
    if (record->kind == (uint8_t)(key->kind | RECORD_COLD)) {
        return ((const struct cold *)record)->hash_high == key->hash.high;
    }
    if (record->kind != (uint8_t)key->kind) {
        return false;
    }
    if (key->kind == RECORD_THREAD) {
        const struct thread *thread = (const struct thread *)record;
        return thread->record.small == key->tenant && bytes_equal(thread_id(thread), key->id);
    }
    const struct step *step = step_of_key(record);
    const struct thread *owner = lane_at(key->lane, step_rest(step)->owner);
    return owner->record.small == key->tenant && bytes_equal(step_key_id(step, record), key->id);
}

static struct lookup lookup_gone(struct lookup found, enum reason reason, uint32_t version,
                                 uint32_t steps)
{
    found.reason = reason;
    found.version = version;
    found.steps = steps;
    return found;
}

static struct lookup lookup_answered(struct lookup found, const struct cold *cold)
{
    switch (cold_state(cold)) {
    case COLD_LOADING:
        found.loading = true;
        return found;
    case COLD_GONE:
        return lookup_gone(found, (enum reason)cold->reason, cold->version, cold->steps);
    case COLD_CORRUPT:
        return lookup_gone(found, REASON_CORRUPT, 0, 0);
    case COLD_ABSENT:
    case COLD_KEY: /* never of a thread */
        break;
    }
    return lookup_gone(found, REASON_NEVER_SEEN, 0, 0);
}

static struct lookup lookup_ended(const struct lane *lane, struct lookup found,
                                  const struct thread *thread, uint64_t word)
{
    struct snapshot last = spine_snapshot(lane, thread);
    enum reason reason =
        thread_is_unborn(thread) ? (enum reason)last.spine->lost_reason : life_reason(word);
    found.memory_only = journal_memory_only(lane, thread);
    return lookup_gone(found, reason, last.version, last.length);
}

static struct lookup lookup_there(const struct lane *lane, struct lookup found,
                                  struct thread *thread)
{
    if (!thread_is_unborn(thread)) {
        found.thread = thread;
        return found;
    }
    struct snapshot before = spine_snapshot(lane, thread);
    found.unborn = thread;
    found.memory_only = journal_memory_only(lane, thread);
    return lookup_gone(found, (enum reason)before.spine->lost_reason, before.version,
                       before.length);
}

/* Dead, and unborn over what the disk cannot read: that is found again. */
static bool covers_damage(const struct lane *lane, const struct thread *thread, uint64_t word)
{
    return (word & LIFE_DEAD) && thread_is_unborn(thread) &&
           spine_snapshot(lane, thread).spine->lost_reason == REASON_CORRUPT;
}

struct lookup lookup_by(struct lane *lane, const struct lookup_key *key)
{
    struct lookup found = {.key = *key};
    for (;;) {
        found.record = index_find(lane->threads->index, found.key.hash, lookup_match, &found.key);
        if (!found.record) {
            found.loading = cold_ask(lane, &found.key);
            return lookup_gone(found, REASON_NEVER_SEEN, 0, 0);
        }
        if (record_is_cold(found.record)) {
            return lookup_answered(found, (const struct cold *)found.record);
        }
        if (record_is_tombstone(found.record)) {
            const struct tombstone *tombstone = (const struct tombstone *)found.record;
            found.memory_only = found.record->small & THREAD_MEMORY_ONLY;
            return lookup_gone(found, (enum reason)found.record->flags, tombstone->version,
                               tombstone->steps);
        }
        const struct thread *lives = (struct thread *)found.record;
        uint64_t word = lookup_life(lane, &lives);
        struct thread *thread = (struct thread *)(uintptr_t)lives;
        found.record = &thread->record;
        if (life_is_demoted(word) || covers_damage(lane, thread, word)) {
            /* Out of the way, as its killer is about to do, and on to the disk. */
            index_remove(lane->threads->index, lane->member, found.record);
            continue;
        }
        if (word & LIFE_DEAD) {
            /* Its killer is about to bury it; what the tombstone will say is known already. */
            return lookup_ended(lane, found, thread, word);
        }
        if (life_judge(thread, word, lane->now_ms) != LIFE_OVERDUE) {
            return lookup_there(lane, found, thread);
        }
        (void)thread_expire(lane, thread);
    }
}

struct lookup lookup_thread(struct lane *lane, struct bytes id)
{
    struct lookup_key key = lookup_key(lane, RECORD_THREAD, id);
    return lookup_by(lane, &key);
}

/*
 * What the hint saw was in the index then, and in this turn its memory stays what it was. If it is
 * the thread that is meant, and alive, it is in the index still, and the only one of its name
 * there: who takes a thread out of the index, or puts another record in its place, has ended its
 * life word before (but for unborn ones), and nobody puts it back. So this finds what a walk of the
 * index at the moment of the load of the word would.
 */
static struct thread *seen_alive(const struct lane *lane, const struct wire_request *request,
                                 const struct lookup_key *key)
{
    const struct index_record *likely = request->likely;
    if (request->looked_turn != lane->turn || !likely || likely->hash_low != key->hash.low ||
        likely->kind != RECORD_THREAD || !lookup_match(likely, key)) {
        return NULL;
    }
    struct thread *thread = (struct thread *)(uintptr_t)likely;
    uint64_t word = life_load(thread);
    bool alive = !(word & LIFE_DEAD) && !thread_is_unborn(thread) &&
                 life_judge(thread, word, lane->now_ms) == LIFE_ALIVE;
    return alive ? thread : NULL;
}

struct lookup lookup_request(struct lane *lane, const struct wire_request *request)
{
    struct lookup_key key = lookup_key_of(lane, request, RECORD_THREAD, request->thread);
    struct thread *thread = seen_alive(lane, request, &key);
    return thread ? (struct lookup){.key = key, .record = &thread->record, .thread = thread}
                  : lookup_by(lane, &key);
}

bool lookup_continues(const struct lookup *gone)
{
    assert(!gone->thread);
    return gone->reason == REASON_EXPIRED || gone->reason == REASON_EVICTED ||
           gone->reason == REASON_MAX_AGE;
}

struct snapshot lookup_snapshot(const struct lane *lane, const struct lookup *found)
{
    if (found->thread) {
        return spine_snapshot(lane, found->thread);
    }
    bool continued = lookup_continues(found);
    return (struct snapshot){.length = continued ? found->steps : 0,
                             .version = continued ? found->version : 0};
}
