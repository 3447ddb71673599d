/*
 * A thread out of the tree: gathered chunk by chunk under the guard, decoded without it.
 *
 * A step of which a chunk is missing, damaged or too much is corrupt; the others are served. That
 * nothing is missing unnoticed is the head's doing: it says which steps there must be.
 */
#include "store/tree_read.h"

#include <assert.h>
#include <stdlib.h>

/* A payload that claims to be larger than this, and than its thread, is damaged: no memory for
 * it. */
static const uint64_t IMAGE_BYTES = UINT64_C(1) << 30;

static bool reserve(struct tree_gathering *gathering, size_t size)
{
    if (size <= gathering->capacity - gathering->size) {
        return true;
    }
    size_t capacity = gathering->capacity + gathering->capacity / 2 + size;
    uint8_t *blobs = realloc(gathering->blobs, capacity);
    if (!blobs) {
        return false;
    }
    gathering->blobs = blobs;
    gathering->capacity = capacity;
    return true;
}

static bool take_chunk(struct tree_gathering *gathering, uint32_t number, uint32_t chunk,
                       struct bytes body)
{
    const struct tier_head *head = &gathering->head;
    if (number < head->lost || number >= head->length) {
        return true; /* of a change that is on its way in or out */
    }
    struct tree_span *span = &gathering->spans[number - head->lost];
    if (chunk == 0) {
        span->offset = gathering->size;
    }
    /* All but the last chunk are full. */
    if (chunk != span->chunks || span->size != (size_t)chunk * TREE_BODY_MAX) {
        span->bad = true;
        return true;
    }
    if (!reserve(gathering, body.size)) {
        return false;
    }
    memcpy(gathering->blobs + gathering->size, body.data, body.size);
    gathering->size += body.size;
    span->size += body.size;
    span->chunks++;
    return true;
}

static void take_recall(struct tree_gathering *gathering, uint32_t chunk, struct bytes body)
{
    struct recall_entry entry;
    if (!record_open_recall(body, &entry) ||
        chunk != TREE_CHUNK_RECALLS + entry.ordinal % TIER_RECALL_MAX) {
        gathering->damaged++;
        return;
    }
    /* By ordinal: they lie in the tree by its remainder. */
    uint32_t at = gathering->recall_count++;
    assert(at < TIER_RECALL_MAX);
    while (at > 0 && gathering->recalls[at - 1].ordinal > entry.ordinal) {
        gathering->recalls[at] = gathering->recalls[at - 1];
        at--;
    }
    gathering->recalls[at] = entry;
}

enum record_value tree_read_kind(uint32_t part, uint32_t chunk)
{
    if (part >= TREE_PART_STEPS) {
        return RECORD_CHUNK;
    }
    return chunk == TREE_CHUNK_HEAD    ? RECORD_HEAD
           : chunk == TREE_CHUNK_ARMED ? RECORD_META
                                       : RECORD_RECALL;
}

enum took { TOOK, TOOK_BAD, TOOK_LAST, TOOK_NO_MEMORY };

/* The entry of which the copy is. Whether it is sound is judged under the key that came with it: a
 * key that was damaged does not count as the one it looks like. */
static enum took take_entry(struct tree_reading *reading, struct tree_gathering *gathering)
{
    uint64_t uid;
    uint32_t part;
    uint32_t chunk;
    if (!tree_open_data_key(tree_val(reading->key, reading->key_bytes), &uid, &part, &chunk)) {
        return TOOK_BAD;
    }
    struct bytes body = tree_read_body(reading, tree_read_kind(part, chunk));
    if (!body.data) {
        return TOOK_BAD;
    }
    if (uid != gathering->head.uid) {
        return TOOK_LAST;
    }
    if (part >= TREE_PART_STEPS) {
        bool taken = take_chunk(gathering, part - TREE_PART_STEPS, chunk, body);
        return taken ? TOOK : TOOK_NO_MEMORY;
    }
    if (tree_read_kind(part, chunk) == RECORD_RECALL) {
        take_recall(gathering, chunk, body);
    }
    return TOOK;
}

/* Entries come in order; what does not, is not taken. */
static enum tree_seen gather_entries(struct tree_reading *reading, struct tree_gathering *gathering)
{
    uint8_t last[TREE_DATA_KEY_BYTES];
    memcpy(last, reading->key, sizeof last);
    unsigned bad = 0;
    while (bad < TREE_READ_BAD_MAX) {
        enum tree_seen seen = tree_read_move(reading, MDB_NEXT, (struct bytes){0});
        if (seen == TREE_END || seen == TREE_UNREADABLE) {
            gathering->damaged += bad;
            return seen;
        }
        if (seen == TREE_DAMAGED && !reading->key_bytes) {
            break; /* LMDB does not get on */
        }
        bool ordered = seen == TREE_SEEN && reading->key_bytes == sizeof last &&
                       memcmp(reading->key, last, sizeof last) > 0;
        enum took took = ordered ? take_entry(reading, gathering) : TOOK_BAD;
        if (took == TOOK_NO_MEMORY) {
            return TREE_UNREADABLE;
        }
        if (took == TOOK_LAST) {
            gathering->damaged += bad;
            return TREE_END;
        }
        if (took == TOOK_BAD) {
            bad++;
        } else {
            memcpy(last, reading->key, sizeof last);
        }
    }
    gathering->damaged += bad + 1;
    return TREE_END;
}

enum tree_seen tree_gathering_fill(struct tree_reading *reading, const struct tier_head *head,
                                   struct tree_gathering *gathering)
{
    assert(head->id.size <= sizeof gathering->id && head->lost <= head->length);
    if (head->length > THREAD_STEPS_MAX) {
        return TREE_DAMAGED;
    }
    gathering->head = *head;
    memcpy(gathering->id, head->id.data, head->id.size);
    gathering->head.id = bytes_of(gathering->id, head->id.size);
    gathering->spans = calloc((size_t)head->length - head->lost + 1, sizeof *gathering->spans);
    if (!gathering->spans) {
        return TREE_UNREADABLE;
    }
    return gather_entries(reading, gathering) == TREE_END ? TREE_SEEN : TREE_UNREADABLE;
}

void tree_gathering_free(struct tree_gathering *gathering)
{
    free(gathering->spans);
    free(gathering->blobs);
    gathering->spans = NULL;
    gathering->blobs = NULL;
}

/* ---- Decoding ------------------------------------------------------------------------------ */

static struct bytes blob_of(const struct tree_gathering *gathering, const struct tree_span *span)
{
    bool there = span->chunks > 0 && !span->bad;
    return there ? bytes_of(gathering->blobs + span->offset, span->size) : (struct bytes){0};
}

/* Steps of a thread have growing versions, none above its head's; what was inherited counts as old
 * as the fork. */
static bool fits(const struct step_parts *parts, uint32_t number, uint32_t version,
                 const struct tier_head *head)
{
    return parts->number == number &&
           (parts->corrupt || (parts->version >= version && parts->version <= head->version));
}

static void decode(struct tree_gathering *gathering, uint8_t *scratch, struct step_parts *steps)
{
    const struct tier_head *head = &gathering->head;
    uint32_t version = 0;
    unsigned corrupt = 0;
    for (uint32_t i = 0; i < head->length - head->lost; i++) {
        struct bytes blob = blob_of(gathering, &gathering->spans[i]);
        uint32_t number = head->lost + i;
        size_t size = blob.data ? record_step_bytes(blob) : 0;
        if (!size || !record_open_step(blob, scratch, size, &steps[i]) ||
            !fits(&steps[i], number, version, head)) {
            steps[i] = (struct step_parts){.number = number, .corrupt = true};
            corrupt++;
        } else if (!steps[i].corrupt) {
            version = steps[i].version;
        }
        scratch += size;
    }
    /* A damaged entry and the step that it makes corrupt are one damage. */
    gathering->damaged = gathering->damaged > corrupt ? gathering->damaged : corrupt;
}

/* What all the steps need; those for which there is no room are bad. */
static size_t scratch_bytes_of(struct tree_gathering *gathering)
{
    const struct tier_head *head = &gathering->head;
    uint64_t limit = head->payload_bytes > UINT64_MAX / 2 ? UINT64_MAX / 2 : head->payload_bytes;
    limit += IMAGE_BYTES;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < head->length - head->lost; i++) {
        struct tree_span *span = &gathering->spans[i];
        struct bytes blob = blob_of(gathering, span);
        size_t size = blob.data ? record_step_bytes(blob) : 0;
        span->bad = span->bad || size == 0 || size > limit - sum;
        sum += span->bad ? 0 : size;
    }
    return (size_t)sum;
}

struct tier_image *tree_gathering_image(struct tree_gathering *gathering)
{
    const struct tier_head *head = &gathering->head;
    uint32_t count = head->length - head->lost;
    size_t scratch_bytes = scratch_bytes_of(gathering);
    struct tier_image *image =
        malloc(sizeof *image + count * sizeof *image->steps + head->id.size + scratch_bytes);
    if (!image) {
        return NULL;
    }
    *image = (struct tier_image){.head = *head,
                                 .recall_count = gathering->recall_count,
                                 .step_count = count,
                                 .steps = (struct step_parts *)(image + 1)};
    memcpy(image->recalls, gathering->recalls, gathering->recall_count * sizeof *image->recalls);
    uint8_t *id = (uint8_t *)(image->steps + count);
    memcpy(id, head->id.data, head->id.size);
    image->head.id = bytes_of(id, head->id.size);
    decode(gathering, id + head->id.size, image->steps);
    return image;
}
