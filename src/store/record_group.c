/*
 * Groups: one change as the log holds it. A fixed part, the head, recalls, and the blobs of the
 * steps, each behind its length. Owns the growing of a struct record_buffer.
 */
#include "store/record_private.h"

#include <assert.h>
#include <stdlib.h>
#include <zstd.h>

enum { BUFFER_BYTES_MIN = 4096 };

/* Places in a group. */
enum {
    GROUP_FORMAT = 0,
    GROUP_KIND = 1,
    GROUP_REASON = 2,
    GROUP_RECALLS = 3,
    GROUP_DROP_FROM = 4,
    GROUP_STEPS = 8,
    GROUP_HEAD_BYTES = 12,
    GROUP_HEAD = 16,
};

static_assert(TIER_RECALL_MAX <= UINT8_MAX, "one byte counts a group's recalls");

void record_buffer_free(struct record_buffer *buffer)
{
    ZSTD_freeCCtx(buffer->compressor);
    free(buffer->data);
    *buffer = (struct record_buffer){0};
}

uint8_t *record_reserve(struct record_buffer *buffer, size_t size)
{
    if (buffer->failed || size > SIZE_MAX / 4 - buffer->size) {
        buffer->failed = true;
        return NULL;
    }
    size_t need = buffer->size + size;
    if (need > buffer->capacity) {
        size_t capacity = buffer->capacity + buffer->capacity / 2;
        capacity = capacity > need ? capacity : need;
        capacity = capacity > BUFFER_BYTES_MIN ? capacity : BUFFER_BYTES_MIN;
        uint8_t *data = realloc(buffer->data, capacity);
        if (!data) {
            buffer->failed = true;
            return NULL;
        }
        buffer->data = data;
        buffer->capacity = capacity;
    }
    return buffer->data + buffer->size;
}

bool record_buffer_reserve(struct record_buffer *buffer, size_t size)
{
    return record_reserve(buffer, size) != NULL;
}

/* What of a head counts: of an erased thread only who it was. */
static struct tier_head head_of(const struct tier_change *change)
{
    const struct tier_head *head = &change->head;
    if (change->kind == TIER_PUT) {
        return *head;
    }
    return (struct tier_head){.uid = head->uid,
                              .name = head->name,
                              .id = head->id,
                              .tenant = head->tenant,
                              .version = head->version,
                              .length = head->length,
                              .used_ms = change->asked_used_ms};
}

static bool put_front(struct record_buffer *buffer, const struct tier_change *change,
                      uint32_t recall_count, uint32_t step_count)
{
    struct tier_head head = head_of(change);
    size_t head_bytes = record_head_bytes(&head);
    size_t size = GROUP_HEAD + head_bytes + (size_t)recall_count * RECORD_RECALL_BYTES;
    uint8_t *at = record_reserve(buffer, size);
    if (!at) {
        return false;
    }
    at[GROUP_FORMAT] = RECORD_FORMAT;
    at[GROUP_KIND] = (uint8_t)change->kind;
    at[GROUP_REASON] = (uint8_t)change->reason;
    at[GROUP_RECALLS] = (uint8_t)recall_count;
    bytes_store_be32(at + GROUP_DROP_FROM, change->drop_from);
    bytes_store_be32(at + GROUP_STEPS, step_count);
    bytes_store_be32(at + GROUP_HEAD_BYTES, (uint32_t)head_bytes);
    record_put_head(at + GROUP_HEAD, &head);
    at += GROUP_HEAD + head_bytes;
    for (uint32_t i = 0; i < recall_count; i++) {
        record_put_recall(at, &change->recalls[i]);
        at += RECORD_RECALL_BYTES;
    }
    buffer->size += size;
    return true;
}

static void take_apart(const struct tier_change *change, uint32_t i, struct step_parts *parts)
{
    uint32_t number = change->head.length - change->step_count + i;
    if (change->steps[i]) {
        step_parts(change->steps[i], parts);
        assert(parts->number == number);
    } else {
        *parts = (struct step_parts){.number = number, .corrupt = true};
    }
    if (number < change->inherited) {
        parts->inherited = true;
        parts->version = change->head.shared;
    }
}

bool record_put_group(struct record_buffer *buffer, const struct tier_change *change,
                      const uint8_t *secret, enum record_compression compression)
{
    bool put = change->kind == TIER_PUT;
    uint32_t recall_count = put ? change->recall_count : 0;
    uint32_t step_count = put ? change->step_count : 0;
    assert(recall_count <= TIER_RECALL_MAX && step_count <= change->head.length);
    assert(change->reason < REASON_COUNT);
    struct record_namer namer = {.secret = secret, .tenant = change->head.tenant};
    size_t begin = buffer->size;
    bool done = put_front(buffer, change, recall_count, step_count);
    for (uint32_t i = 0; done && i < step_count; i++) {
        struct step_parts parts;
        take_apart(change, i, &parts);
        size_t length_at = buffer->size;
        done = record_reserve(buffer, sizeof(uint32_t)) != NULL;
        if (done) {
            buffer->size += sizeof(uint32_t);
            done = record_put_step(buffer, &parts, namer, compression);
        }
        if (done) {
            size_t blob_bytes = buffer->size - length_at - sizeof(uint32_t);
            bytes_store_be32(buffer->data + length_at, (uint32_t)blob_bytes);
        }
    }
    if (!done) {
        buffer->size = begin;
    }
    return done;
}

static bool open_front(struct bytes bytes, struct record_group *group)
{
    struct bytes front, head;
    if (!record_take(&bytes, GROUP_HEAD, &front)) {
        return false;
    }
    const uint8_t *at = front.data;
    unsigned format = at[GROUP_FORMAT];
    if (format < RECORD_FORMAT_OLDEST || format > RECORD_FORMAT || at[GROUP_KIND] > TIER_ERASE ||
        at[GROUP_REASON] >= REASON_COUNT || at[GROUP_RECALLS] > TIER_RECALL_MAX) {
        return false;
    }
    *group = (struct record_group){
        .kind = (enum tier_change_kind)at[GROUP_KIND],
        .reason = (enum reason)at[GROUP_REASON],
        .recall_count = at[GROUP_RECALLS],
        .drop_from = bytes_load_be32(at + GROUP_DROP_FROM),
        .step_count = bytes_load_be32(at + GROUP_STEPS),
    };
    group->steps_left = group->step_count;
    size_t recall_bytes = (size_t)group->recall_count * RECORD_RECALL_BYTES;
    if (!record_take(&bytes, bytes_load_be32(at + GROUP_HEAD_BYTES), &head) ||
        !record_open_head(head, format, &group->head) ||
        !record_take(&bytes, recall_bytes, &group->recalls)) {
        return false;
    }
    group->steps = bytes;
    return group->step_count <= group->head.length &&
           (group->kind == TIER_PUT || group->recall_count + group->step_count == 0);
}

bool record_next_recall(struct record_group *group, struct recall_entry *entry)
{
    struct bytes rest = group->recalls, body;
    if (!record_take(&rest, RECORD_RECALL_BYTES, &body) || !record_open_recall(body, entry)) {
        return false;
    }
    group->recalls = rest;
    return true;
}

bool record_next_step(struct record_group *group, struct record_step *step)
{
    uint32_t size;
    struct bytes blob;
    if (group->steps_left == 0 || !record_take_be32(&group->steps, &size) ||
        !record_take(&group->steps, size, &blob) || !record_survey_step(blob, step) ||
        step->number != group->head.length - group->steps_left) {
        return false;
    }
    group->steps_left--;
    return true;
}

bool record_open_group(struct bytes bytes, struct record_group *group)
{
    if (!open_front(bytes, group)) {
        return false;
    }
    struct record_group walk = *group;
    struct recall_entry entry;
    while (record_next_recall(&walk, &entry)) {
    }
    struct record_step step;
    while (record_next_step(&walk, &step)) {
    }
    return walk.recalls.size == 0 && walk.steps_left == 0 && walk.steps.size == 0;
}
