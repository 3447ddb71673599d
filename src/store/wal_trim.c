/*
 * The filler's side of the log: what the tree has is zeroed, spares are made, damage is set aside.
 *
 * A segment that it works on is in no list, so that nobody else sees it.
 */
#include "store/wal_private.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SPARE_RETRY_MS = 1000,
    /* What a large bite into the tree brings back: without a spare the writer makes one itself, and
     * who waits for an acknowledgement waits for that. Kept for so long after the last such bite.
     */
    SPARES_MAX = 4,
    SPARES_MS = 20 * 1000,
};

static uint64_t take_number(struct wal *wal)
{
    pthread_mutex_lock(&wal->mutex);
    uint64_t number = wal->next_number++;
    pthread_mutex_unlock(&wal->mutex);
    return number;
}

/* The sealed segments that are done, out of the list. The mutex is held. */
static void take_done(struct wal *wal, uint64_t sequence, struct segment_list *done)
{
    struct segment_list kept;
    segment_list_init(&kept);
    struct segment *segment;
    while ((segment = segment_list_take(&wal->sealed)) != NULL) {
        segment_list_add(segment->last <= sequence ? done : &kept, segment);
    }
    while ((segment = segment_list_take(&kept)) != NULL) {
        segment_list_add(&wal->sealed, segment);
    }
}

static void put_back(struct wal *wal, struct segment_list *done)
{
    pthread_mutex_lock(&wal->mutex);
    struct segment *segment;
    while ((segment = segment_list_take(done)) != NULL) {
        segment_list_add(&wal->sealed, segment);
    }
    pthread_mutex_unlock(&wal->mutex);
}

/* Leaves the current segment behind when its time has come. The mutex is held. */
static void leave_current(struct wal *wal, uint64_t sequence, uint64_t older_ms)
{
    struct segment *segment = wal->current;
    if (segment == NULL || clock_read_ms(clock_monotonic()) - segment->begun_ms < older_ms) {
        return;
    }
    segment->leave = true;
    if (!wal->writing && segment->last <= sequence) {
        close(segment->fd);
        segment->fd = -1;
        segment_list_add(&wal->sealed, segment);
        wal->current = NULL;
    }
}

/* Zeros under a new name. What is written there survives only when the name does, see publish. */
static bool recycle(struct wal *wal, struct segment *segment, struct wal_trouble *trouble)
{
    int fd = wal_open_segment(wal, segment->number, O_RDWR, trouble);
    if (fd < 0) {
        return false;
    }
    bool good = wal_zero(fd, segment->used, trouble);
    close(fd);
    if (!good) {
        return false;
    }
    uint64_t number = take_number(wal);
    char from[WAL_NAME_BYTES], to[WAL_NAME_BYTES];
    wal_name(from, segment->number, "");
    wal_name(to, number, "");
    if (renameat(wal->directory_fd, from, wal->directory_fd, to) != 0) {
        return wal_failed(trouble, "rename");
    }
    *segment = (struct segment){.number = number, .size = segment->size, .fd = -1};
    return true;
}

/* The names are flushed before the writer gets the segments. */
static bool publish(struct wal *wal, struct segment_list *fresh, struct wal_trouble *trouble)
{
    if (!wal_flush_directory(wal->directory_fd, trouble)) {
        for (struct segment *segment = fresh->oldest; segment != NULL; segment = segment->next) {
            segment->suspect = true;
        }
        put_back(wal, fresh);
        return false;
    }
    pthread_mutex_lock(&wal->mutex);
    struct segment *segment;
    while ((segment = segment_list_take(fresh)) != NULL) {
        segment_list_add(&wal->ready, segment);
    }
    pthread_mutex_unlock(&wal->mutex);
    return true;
}

/* The mutex is held. */
static void judge_spares(struct wal *wal, unsigned done)
{
    uint64_t now = clock_read_ms(clock_monotonic());
    if (wal->spares < WAL_SPARE_SEGMENTS || now - wal->spares_ms > SPARES_MS) {
        wal->spares = WAL_SPARE_SEGMENTS;
    }
    if (done >= wal->spares) {
        wal->spares = done < SPARES_MAX ? done : SPARES_MAX;
        wal->spares_ms = now;
    }
}

/* Works off what is done; on an error the rest goes back to wait for a later call. */
static bool retire(struct wal *wal, struct segment_list *done, unsigned ready,
                   struct wal_trouble *trouble)
{
    struct segment_list fresh;
    segment_list_init(&fresh);
    bool good = true;
    bool renamed = done->oldest != NULL;
    while (good && done->oldest != NULL) {
        struct segment *segment = segment_list_take(done);
        bool reuse = !segment->suspect && segment->size == WAL_SEGMENT_BYTES &&
                     ready + fresh.count < wal->spares;
        good = reuse ? recycle(wal, segment, trouble) : wal_remove_segment(wal, segment, trouble);
        if (!good) {
            segment->suspect = true; /* an unlink next time */
            segment_list_add(done, segment);
        } else if (reuse) {
            segment_list_add(&fresh, segment);
        } else {
            free(segment);
        }
    }
    put_back(wal, done);
    struct wal_trouble later;
    return (!renamed || publish(wal, &fresh, good ? trouble : &later)) && good;
}

/* Makes spares up to their number. */
static bool make_spares(struct wal *wal, unsigned ready, struct wal_trouble *trouble)
{
    if (clock_read_ms(clock_monotonic()) < wal->spare_after_ms) {
        return true;
    }
    for (; ready < WAL_SPARE_SEGMENTS; ready++) {
        struct segment *segment = wal_make_segment(wal, take_number(wal), trouble);
        if (segment == NULL) {
            /* On a full disk each attempt takes the last of the space for a moment. */
            wal->spare_after_ms = clock_read_ms(clock_monotonic()) + SPARE_RETRY_MS;
            return false;
        }
        close(segment->fd);
        segment->fd = -1;
        pthread_mutex_lock(&wal->mutex);
        segment_list_add(&wal->ready, segment);
        pthread_mutex_unlock(&wal->mutex);
    }
    return true;
}

bool wal_set_aside(struct wal *wal, uint64_t sequence, struct wal_trouble *trouble)
{
    struct segment_list done, kept;
    segment_list_init(&done);
    segment_list_init(&kept);
    pthread_mutex_lock(&wal->mutex);
    take_done(wal, sequence, &done);
    pthread_mutex_unlock(&wal->mutex);
    bool good = true;
    bool renamed = false;
    struct segment *segment;
    while ((segment = segment_list_take(&done)) != NULL) {
        char from[WAL_NAME_BYTES], to[WAL_NAME_BYTES];
        wal_name(from, segment->number, "");
        wal_name(to, segment->number, ".damaged");
        if (good && segment->damaged &&
            renameat(wal->directory_fd, from, wal->directory_fd, to) == 0) {
            atomic_fetch_sub_explicit(&wal->bytes, segment->size, memory_order_relaxed);
            free(segment);
            renamed = true;
            continue;
        }
        if (good && segment->damaged) {
            good = wal_failed(trouble, "rename");
        }
        segment_list_add(&kept, segment);
    }
    put_back(wal, &kept);
    return good && (!renamed || wal_flush_directory(wal->directory_fd, trouble));
}

enum status wal_trim(struct wal *wal, uint64_t sequence, uint64_t older_ms,
                     struct wal_trouble *trouble)
{
    if (!wal_set_aside(wal, sequence, trouble)) {
        return STATUS_INTERNAL;
    }
    struct segment_list done;
    segment_list_init(&done);
    pthread_mutex_lock(&wal->mutex);
    leave_current(wal, sequence, older_ms);
    take_done(wal, sequence, &done);
    judge_spares(wal, done.count);
    while (wal->ready.count > wal->spares) {
        segment_list_add(&done, segment_list_take(&wal->ready));
    }
    unsigned ready = wal->ready.count;
    pthread_mutex_unlock(&wal->mutex);
    if (!retire(wal, &done, ready, trouble)) {
        return STATUS_INTERNAL;
    }
    pthread_mutex_lock(&wal->mutex);
    ready = wal->ready.count;
    pthread_mutex_unlock(&wal->mutex);
    return make_spares(wal, ready, trouble) ? STATUS_OK : STATUS_INTERNAL;
}
