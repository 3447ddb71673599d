/*
 * What the files of the log share: its segments, the lists they are in, the calls on files.
 *
 * A segment is *ready* (zeros, its name durable), *current* (the writer's), or *sealed* (waits
 * until the tree has it). The mutex guards the lists, the number, and who has the current segment;
 * nobody holds it across a call that may wait for the disk.
 */
#ifndef RETHREAD_STORE_WAL_PRIVATE_H
#define RETHREAD_STORE_WAL_PRIVATE_H

#include "store/wal.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    WAL_FORMAT = 1,
    WAL_ALIGN = 8,
    WAL_NAME_BYTES = 32,
};

struct segment {
    struct segment *next;
    uint64_t number;
    uint64_t size;     /* of the file */
    uint64_t used;     /* beyond it the file holds zeros */
    uint64_t last;     /* done when the tree has this sequence */
    uint64_t begun_ms; /* monotonic */
    uint64_t salt;
    int fd;       /* -1 but for the current one */
    bool leave;   /* take no more groups */
    bool suspect; /* some call on it failed: to be removed, not used anew */
    bool damaged; /* to be set aside */
};

struct segment_list {
    struct segment *oldest;
    struct segment **end;
    unsigned count;
};

struct wal {
    int directory_fd;
    pthread_mutex_t mutex;
    /* Under the mutex. */
    struct segment_list ready;
    struct segment_list sealed;
    struct segment *current;
    bool writing; /* the writer is at work on the current segment and reads and writes it freely */
    uint64_t next_number;
    /* The writer's. */
    bool dead;
    uint64_t durable; /* the last sequence that was flushed */
    _Atomic uint64_t next_sequence;
    struct {
        uint8_t *data; /* room for a segment's header, then groups */
        size_t size;   /* of the groups */
        size_t capacity;
        unsigned count;
    } batch;
    /* The filler's. */
    uint64_t spare_after_ms; /* no new spare before, since the last could not be made */
    unsigned spares;         /* so many are kept: of late one trim has brought as many back */
    uint64_t spares_ms;      /* when that was */
    _Atomic uint64_t bytes;
    _Atomic uint64_t batches;
    _Atomic uint64_t groups;
};

static inline uint64_t wal_align(uint64_t size)
{
    return (size + WAL_ALIGN - 1) / WAL_ALIGN * WAL_ALIGN;
}

/* ---- Lists (no locking of their own) ---- */

void segment_list_init(struct segment_list *list);
void segment_list_add(struct segment_list *list, struct segment *segment);
struct segment *segment_list_take(struct segment_list *list); /* the oldest; NULL: none */
void segment_list_free(struct segment_list *list);

/* ---- What is written ---- */

struct wal_header {
    uint64_t number;
    uint64_t first;
    uint64_t durable;
    uint64_t salt;
};

struct wal_group {
    uint32_t bytes;
    uint32_t place;
    uint64_t sequence;
    uint64_t body_hash;
};

enum wal_header_kind { WAL_HEADER_GOOD, WAL_HEADER_NEWER, WAL_HEADER_OTHER };

void wal_put_header(uint8_t *at, const struct wal_header *header);
enum wal_header_kind wal_open_header(const uint8_t *at, struct wal_header *header);
uint64_t wal_hash(const uint8_t *at, size_t size);
/* wal_put_group leaves out the hash that needs the salt: wal_seal_group. */
void wal_put_group(uint8_t *at, const struct wal_group *group);
void wal_seal_group(uint8_t *at, uint64_t salt);
bool wal_open_group(const uint8_t *at, uint64_t salt, struct wal_group *group);

/* ---- Calls on files. False: trouble says which failed. ---- */

void wal_name(char name[WAL_NAME_BYTES], uint64_t number, const char *suffix);
/* Always false, from errno. */
bool wal_failed(struct wal_trouble *trouble, const char *call);
bool wal_write(int fd, const uint8_t *data, size_t size, uint64_t offset,
               struct wal_trouble *trouble);
bool wal_flush(int fd, struct wal_trouble *trouble);
bool wal_flush_directory(int fd, struct wal_trouble *trouble);
bool wal_zero(int fd, uint64_t size, struct wal_trouble *trouble);
int wal_open_segment(struct wal *wal, uint64_t number, int flags, struct wal_trouble *trouble);
/* A file of zeros, durable with its name; its fd is open. NULL: nothing is left of it. */
struct segment *wal_make_segment(struct wal *wal, uint64_t number, struct wal_trouble *trouble);
bool wal_remove_segment(struct wal *wal, const struct segment *segment,
                        struct wal_trouble *trouble);

/* Renames those of the sealed segments that are damaged and whose `last` is in the tree. */
bool wal_set_aside(struct wal *wal, uint64_t sequence, struct wal_trouble *trouble);

#endif
