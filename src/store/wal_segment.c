/*
 * The log's segments as bytes and as files: what is written where, and every call on a file.
 *
 * Stateless but for the count of bytes; who calls owns the segment.
 */
#include "store/wal_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

/* A large part of a segment, and still little memory; nobody writes to it. */
static uint8_t zeros[256 << 10];

static const uint8_t magic[8] = {'r', 'e', 't', 'h', 'r', 'l', 'o', 'g'};

void segment_list_init(struct segment_list *list)
{
    *list = (struct segment_list){.end = &list->oldest};
}

void segment_list_add(struct segment_list *list, struct segment *segment)
{
    segment->next = NULL;
    *list->end = segment;
    list->end = &segment->next;
    list->count++;
}

struct segment *segment_list_take(struct segment_list *list)
{
    struct segment *segment = list->oldest;
    if (segment != NULL) {
        list->oldest = segment->next;
        list->count--;
        if (list->oldest == NULL) {
            list->end = &list->oldest;
        }
    }
    return segment;
}

void segment_list_free(struct segment_list *list)
{
    struct segment *segment;
    while ((segment = segment_list_take(list)) != NULL) {
        free(segment);
    }
}

uint64_t wal_hash(const uint8_t *at, size_t size)
{
    return XXH3_64bits(at, size);
}

void wal_put_header(uint8_t *at, const struct wal_header *header)
{
    memcpy(at, magic, sizeof magic);
    bytes_store_be32(at + 8, WAL_FORMAT);
    bytes_store_be32(at + 12, 0);
    bytes_store_be64(at + 16, header->number);
    bytes_store_be64(at + 24, header->first);
    bytes_store_be64(at + 32, header->durable);
    bytes_store_be64(at + 40, header->salt);
    bytes_store_be64(at + 48, 0);
    bytes_store_be64(at + 56, wal_hash(at, 56));
}

enum wal_header_kind wal_open_header(const uint8_t *at, struct wal_header *header)
{
    if (memcmp(at, magic, sizeof magic) != 0 || bytes_load_be64(at + 56) != wal_hash(at, 56)) {
        return WAL_HEADER_OTHER;
    }
    if (bytes_load_be32(at + 8) != WAL_FORMAT) {
        return bytes_load_be32(at + 8) > WAL_FORMAT ? WAL_HEADER_NEWER : WAL_HEADER_OTHER;
    }
    *header = (struct wal_header){.number = bytes_load_be64(at + 16),
                                  .first = bytes_load_be64(at + 24),
                                  .durable = bytes_load_be64(at + 32),
                                  .salt = bytes_load_be64(at + 40)};
    return header->first > header->durable ? WAL_HEADER_GOOD : WAL_HEADER_OTHER;
}

void wal_put_group(uint8_t *at, const struct wal_group *group)
{
    bytes_store_be32(at, group->bytes);
    bytes_store_be32(at + 4, group->place);
    bytes_store_be64(at + 8, group->sequence);
    bytes_store_be64(at + 16, group->body_hash);
}

void wal_seal_group(uint8_t *at, uint64_t salt)
{
    bytes_store_be64(at + 24, XXH3_64bits_withSeed(at, 24, salt));
}

bool wal_open_group(const uint8_t *at, uint64_t salt, struct wal_group *group)
{
    *group = (struct wal_group){.bytes = bytes_load_be32(at),
                                .place = bytes_load_be32(at + 4),
                                .sequence = bytes_load_be64(at + 8),
                                .body_hash = bytes_load_be64(at + 16)};
    return group->place > 0 && group->place <= group->sequence &&
           group->bytes <= WAL_GROUP_BYTES_MAX &&
           bytes_load_be64(at + 24) == XXH3_64bits_withSeed(at, 24, salt);
}

void wal_name(char name[WAL_NAME_BYTES], uint64_t number, const char *suffix)
{
    int size = snprintf(name, WAL_NAME_BYTES, "log-%016" PRIx64 "%s", number, suffix);
    assert(size > 0 && size < WAL_NAME_BYTES);
}

bool wal_failed(struct wal_trouble *trouble, const char *call)
{
    trouble->error = errno;
    trouble->call = call;
    snprintf(trouble->text, sizeof trouble->text, "The log: %s failed: %m", call);
    return false;
}

bool wal_write(int fd, const uint8_t *data, size_t size, uint64_t offset,
               struct wal_trouble *trouble)
{
    while (size > 0) {
        ssize_t written = pwrite(fd, data, size, (off_t)offset);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            errno = written == 0 ? EIO : errno; /* no progress is no disk to write to */
            return wal_failed(trouble, "write");
        }
        data += written;
        size -= (size_t)written;
        offset += (uint64_t)written;
    }
    return true;
}

bool wal_flush(int fd, struct wal_trouble *trouble)
{
    while (fdatasync(fd) != 0) {
        if (errno != EINTR) {
            return wal_failed(trouble, "fdatasync");
        }
    }
    return true;
}

bool wal_flush_directory(int fd, struct wal_trouble *trouble)
{
    while (fsync(fd) != 0) {
        if (errno != EINTR) {
            return wal_failed(trouble, "fsync");
        }
    }
    return true;
}

bool wal_zero(int fd, uint64_t size, struct wal_trouble *trouble)
{
    for (uint64_t done = 0; done < size;) {
        size_t part = size - done < sizeof zeros ? (size_t)(size - done) : sizeof zeros;
        if (!wal_write(fd, zeros, part, done, trouble)) {
            return false;
        }
        done += part;
    }
    return wal_flush(fd, trouble);
}

int wal_open_segment(struct wal *wal, uint64_t number, int flags, struct wal_trouble *trouble)
{
    char name[WAL_NAME_BYTES];
    wal_name(name, number, "");
    int fd;
    do {
        /* Not blocking: a pipe by that name must not hold up the start. */
        fd = openat(wal->directory_fd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        wal_failed(trouble, "open");
    }
    return fd;
}

struct segment *wal_make_segment(struct wal *wal, uint64_t number, struct wal_trouble *trouble)
{
    struct segment *segment = calloc(1, sizeof *segment);
    if (segment == NULL) {
        wal_failed(trouble, "malloc");
        return NULL;
    }
    segment->number = number;
    segment->size = WAL_SEGMENT_BYTES;
    segment->fd = wal_open_segment(wal, number, O_RDWR | O_CREAT | O_EXCL, trouble);
    if (segment->fd < 0) {
        free(segment);
        return NULL;
    }
    if (!wal_zero(segment->fd, segment->size, trouble) ||
        !wal_flush_directory(wal->directory_fd, trouble)) {
        char name[WAL_NAME_BYTES];
        wal_name(name, number, "");
        close(segment->fd);
        (void)unlinkat(wal->directory_fd, name, 0); /* zeros that stay are found at next start */
        free(segment);
        return NULL;
    }
    atomic_fetch_add_explicit(&wal->bytes, segment->size, memory_order_relaxed); /* a number */
    return segment;
}

bool wal_remove_segment(struct wal *wal, const struct segment *segment, struct wal_trouble *trouble)
{
    char name[WAL_NAME_BYTES];
    wal_name(name, segment->number, "");
    if (unlinkat(wal->directory_fd, name, 0) != 0 && errno != ENOENT) {
        return wal_failed(trouble, "unlink");
    }
    atomic_fetch_sub_explicit(&wal->bytes, segment->size, memory_order_relaxed); /* a number */
    return true;
}
