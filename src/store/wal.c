/*
 * The writer's side of the log: batches, the current segment, death and revival.
 *
 * Owns the batch's memory and, while `writing` is set, the current segment.
 */
#include "store/wal_private.h"

#include "base/clock.h"
#include "base/random.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    BATCH_BYTES = 1 << 20,      /* to begin with */
    BATCH_KEEP_BYTES = 8 << 20, /* more is given back after the batch */
};

void wal_close(struct wal *wal)
{
    if (wal == NULL) {
        return;
    }
    if (wal->current != NULL) {
        if (wal->current->fd >= 0) {
            close(wal->current->fd);
        }
        free(wal->current);
    }
    segment_list_free(&wal->ready);
    segment_list_free(&wal->sealed);
    pthread_mutex_destroy(&wal->mutex);
    free(wal->batch.data);
    free(wal);
}

uint64_t wal_next_sequence(const struct wal *wal)
{
    return atomic_load_explicit(&wal->next_sequence, memory_order_relaxed); /* a number */
}

struct wal_numbers wal_numbers(const struct wal *wal)
{
    return (struct wal_numbers){
        .bytes = atomic_load_explicit(&wal->bytes, memory_order_relaxed), /* numbers, all three */
        .batches = atomic_load_explicit(&wal->batches, memory_order_relaxed),
        .groups = atomic_load_explicit(&wal->groups, memory_order_relaxed),
    };
}

/* ---- The batch ---- */

static bool make_room(struct wal *wal, size_t more)
{
    size_t need = WAL_HEADER_BYTES + wal->batch.size + more;
    if (need <= wal->batch.capacity) {
        return true;
    }
    size_t capacity = wal->batch.capacity > 0 ? wal->batch.capacity : BATCH_BYTES;
    while (capacity < need) {
        capacity *= 2;
    }
    uint8_t *data = realloc(wal->batch.data, capacity);
    if (data == NULL) {
        return false;
    }
    wal->batch.data = data;
    wal->batch.capacity = capacity;
    return true;
}

static void drop_batch(struct wal *wal)
{
    wal->batch.size = 0;
    wal->batch.count = 0;
    if (wal->batch.capacity > BATCH_KEEP_BYTES) {
        free(wal->batch.data);
        wal->batch.data = NULL;
        wal->batch.capacity = 0;
    }
}

uint64_t wal_add(struct wal *wal, struct bytes group)
{
    if (group.size > WAL_GROUP_BYTES_MAX) {
        return 0;
    }
    size_t padded = (size_t)wal_align(group.size);
    if (!make_room(wal, WAL_GROUP_HEADER_BYTES + padded)) {
        return 0;
    }
    uint64_t sequence = wal_next_sequence(wal);
    uint8_t *at = wal->batch.data + WAL_HEADER_BYTES + wal->batch.size;
    uint8_t *body = at + WAL_GROUP_HEADER_BYTES;
    if (group.size > 0) {
        memcpy(body, group.data, group.size);
    }
    memset(body + group.size, 0, padded - group.size);
    wal_put_group(at, &(struct wal_group){.bytes = (uint32_t)group.size,
                                          .place = ++wal->batch.count,
                                          .sequence = sequence,
                                          .body_hash = wal_hash(body, group.size)});
    wal->batch.size += WAL_GROUP_HEADER_BYTES + padded;
    atomic_store_explicit(&wal->next_sequence, sequence + 1, memory_order_relaxed); /* a number */
    return sequence;
}

static void seal_batch(struct wal *wal, uint64_t salt)
{
    uint8_t *at = wal->batch.data + WAL_HEADER_BYTES;
    for (unsigned i = 0; i < wal->batch.count; i++) {
        wal_seal_group(at, salt);
        at += WAL_GROUP_HEADER_BYTES + wal_align(bytes_load_be32(at));
    }
    assert(at == wal->batch.data + WAL_HEADER_BYTES + wal->batch.size);
}

/* ---- The current segment ---- */

/* The mutex is held. */
static void seal_current(struct wal *wal)
{
    struct segment *segment = wal->current;
    if (segment != NULL) {
        close(segment->fd); /* flushed, or suspect: what close has to say changes nothing */
        segment->fd = -1;
        segment_list_add(&wal->sealed, segment);
        wal->current = NULL;
    }
}

/*
 * A segment that will take `bytes` (or a fresh one, that must), in wal->current, with `writing`
 * set. False: there is none.
 */
static bool enter_segment(struct wal *wal, uint64_t bytes, struct wal_trouble *trouble)
{
    pthread_mutex_lock(&wal->mutex);
    wal->writing = true;
    struct segment *segment = wal->current;
    if (segment != NULL && !segment->leave && segment->used + bytes <= segment->size) {
        pthread_mutex_unlock(&wal->mutex);
        return true;
    }
    seal_current(wal);
    segment = segment_list_take(&wal->ready);
    uint64_t number = segment == NULL ? wal->next_number++ : segment->number;
    pthread_mutex_unlock(&wal->mutex);

    if (segment == NULL) {
        segment = wal_make_segment(wal, number, trouble);
        if (segment == NULL) {
            return false;
        }
    } else {
        segment->fd = wal_open_segment(wal, number, O_RDWR, trouble);
    }
    segment->used = 0;
    segment->last = 0;
    segment->begun_ms = clock_read_ms(clock_monotonic());
    random_fill(&segment->salt, sizeof segment->salt);
    pthread_mutex_lock(&wal->mutex);
    if (segment->fd < 0) {
        segment->suspect = true;
        segment_list_add(&wal->sealed, segment);
        segment = NULL;
    }
    wal->current = segment;
    pthread_mutex_unlock(&wal->mutex);
    return segment != NULL;
}

/* The batch, behind the segment's header when it is the first (or when there is no batch). */
static bool write_batch(struct wal *wal, struct wal_trouble *trouble)
{
    struct segment *segment = wal->current;
    const uint8_t *from = wal->batch.data + WAL_HEADER_BYTES;
    size_t size = wal->batch.size;
    uint64_t next = wal_next_sequence(wal);
    if (segment->used == 0) {
        wal_put_header(wal->batch.data, &(struct wal_header){.number = segment->number,
                                                             .first = next - wal->batch.count,
                                                             .durable = wal->durable,
                                                             .salt = segment->salt});
        from -= WAL_HEADER_BYTES;
        size += WAL_HEADER_BYTES;
    }
    seal_batch(wal, segment->salt);
    uint64_t offset = segment->used;
    segment->used += size; /* also when it fails: some of it may be there */
    if (segment->used > segment->size) {
        atomic_fetch_add_explicit(&wal->bytes, segment->used - segment->size,
                                  memory_order_relaxed); /* a number */
        segment->size = segment->used;
    }
    return wal_write(segment->fd, from, size, offset, trouble) && wal_flush(segment->fd, trouble);
}

/* Writes the batch (or only a segment's header) and flushes it. */
static enum status commit(struct wal *wal, struct wal_trouble *trouble)
{
    bool good = enter_segment(wal, wal->batch.size, trouble) && write_batch(wal, trouble);
    if (good && wal->batch.count > 0) {
        wal->durable = wal_next_sequence(wal) - 1;
        wal->current->last = wal->durable;
        atomic_fetch_add_explicit(&wal->batches, 1, memory_order_relaxed); /* numbers, both */
        atomic_fetch_add_explicit(&wal->groups, wal->batch.count, memory_order_relaxed);
    }
    pthread_mutex_lock(&wal->mutex);
    if (!good && wal->current != NULL) {
        wal->current->suspect = true;
        seal_current(wal);
    }
    wal->writing = false;
    pthread_mutex_unlock(&wal->mutex);
    wal->dead = !good;
    drop_batch(wal);
    return good ? STATUS_OK : STATUS_INTERNAL;
}

enum status wal_sync(struct wal *wal, struct wal_trouble *trouble)
{
    if (wal->batch.count == 0) {
        return STATUS_OK;
    }
    if (wal->dead) {
        drop_batch(wal);
        *trouble = (struct wal_trouble){.error = EIO, .call = "write"};
        snprintf(trouble->text, sizeof trouble->text,
                 "The log takes nothing since an earlier write failed.");
        return STATUS_INTERNAL;
    }
    return commit(wal, trouble);
}

enum status wal_revive(struct wal *wal, struct wal_trouble *trouble)
{
    if (!wal->dead) {
        return STATUS_OK;
    }
    drop_batch(wal);
    if (!make_room(wal, 0)) {
        errno = ENOMEM;
        wal_failed(trouble, "malloc");
        return STATUS_INTERNAL;
    }
    assert(wal->current == NULL);
    return commit(wal, trouble);
}
