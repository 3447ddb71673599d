/* A small ring of remembered keys, made when a thread first sees one. */
#include "thread/recall.h"

#include "wire/parse.h"

#define XXH_STATIC_LINKING_ONLY /* for a state on the stack */
#include <xxhash.h>

struct recall {
    uint32_t count;
    uint32_t capacity;
    uint32_t oldest; /* of a full ring of THREAD_RECALL_MAX */
    struct recall_entry entries[];
};

/* Any kind that no index record has: these hashes never meet the index. */
enum { RECALL_HASH_KIND = 0x7f };

struct recall_entry recall_prepare(const struct lane *lane, const struct wire_request *request)
{
    struct recall_entry entry = {
        .key = index_hash(lane->threads->index, 0, RECALL_HASH_KIND, request->key)};
    struct wire_list kinds = request->segments;
    XXH3_state_t state;
    XXH_errorcode failed = XXH3_128bits_reset(&state);
    if (request->method == WIRE_METHOD_COMMIT) {
        /* What was streamed is gone when the commit comes again; its claim stands for it. The mark
         * is beyond any segment's head. */
        uint64_t claim = request->claim | UINT64_C(1) << 63;
        failed |= XXH3_128bits_update(&state, &claim, sizeof claim);
    }
    for (unsigned i = 0; i < request->payload_count; i++) {
        enum wire_kind kind = WIRE_KIND_TEXT;
        if (wire_given(request, WIRE_FIELD_segments)) {
            wire_kind_next(&kinds, &kind);
        }
        /* Sizes and kinds too: the same bytes cut differently are another append. */
        uint64_t head = (uint64_t)request->payloads[i].size << 2 | (uint64_t)kind;
        failed |= XXH3_128bits_update(&state, &head, sizeof head);
        failed |= XXH3_128bits_update(&state, request->payloads[i].data, request->payloads[i].size);
    }
    assert(failed == XXH_OK);
    XXH128_hash_t digest = XXH3_128bits_digest(&state);
    entry.digest[0] = digest.low64;
    entry.digest[1] = digest.high64;
    return entry;
}

const struct recall_entry *recall_find(const struct lane *lane, const struct thread *thread,
                                       const struct recall_entry *wanted)
{
    if (!rest_of(thread)->recall) {
        return NULL;
    }
    const struct recall *recall = lane_at(lane, rest_of(thread)->recall);
    for (uint32_t i = 0; i < recall->count; i++) {
        const struct recall_entry *entry = &recall->entries[i];
        if (entry->key.low == wanted->key.low && entry->key.high == wanted->key.high &&
            rest_of(thread)->appends - entry->ordinal < THREAD_RECALL_MAX) {
            return entry;
        }
    }
    return NULL;
}

bool recall_same_bytes(const struct recall_entry *a, const struct recall_entry *b)
{
    return a->digest[0] == b->digest[0] && a->digest[1] == b->digest[1];
}

bool recall_reserve(struct lane *lane, struct thread *thread)
{
    struct recall *old = rest_of(thread)->recall ? lane_at(lane, rest_of(thread)->recall) : NULL;
    if (old && (old->count < old->capacity || old->capacity == THREAD_RECALL_MAX)) {
        return true;
    }
    uint32_t capacity = old ? old->capacity * 4 : 4;
    if (capacity > THREAD_RECALL_MAX) {
        capacity = THREAD_RECALL_MAX;
    }
    struct recall *recall =
        lane_alloc(lane, sizeof *recall + capacity * sizeof(struct recall_entry));
    if (!recall) {
        return false;
    }
    *recall = (struct recall){.capacity = capacity};
    if (old) {
        recall->count = old->count;
        memcpy(recall->entries, old->entries, old->count * sizeof *old->entries);
        arena_free(lane->cache, old);
    }
    rest_of(thread)->recall = lane_ref(lane, recall);
    return true;
}

void recall_add(struct lane *lane, struct thread *thread, const struct recall_entry *entry)
{
    struct recall *recall = lane_at(lane, rest_of(thread)->recall);
    if (recall->count < recall->capacity) {
        recall->entries[recall->count++] = *entry;
        return;
    }
    assert(recall->capacity == THREAD_RECALL_MAX);
    recall->entries[recall->oldest] = *entry;
    recall->oldest = (recall->oldest + 1) % THREAD_RECALL_MAX;
}

const struct recall_entry *recall_entries(const struct lane *lane, const struct thread *thread,
                                          uint32_t *count)
{
    static_assert((int)THREAD_RECALL_MAX == (int)TIER_RECALL_MAX, "one ring");
    const struct recall *recall =
        rest_of(thread)->recall ? lane_at(lane, rest_of(thread)->recall) : NULL;
    *count = recall ? recall->count : 0;
    return recall ? recall->entries : NULL;
}
