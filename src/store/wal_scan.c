/*
 * The log at start: which segments are there, what they hold, what of it is played.
 *
 * Reads every segment whole, one after the other, in the order of their first sequences. Takes any
 * bytes; never trusts a length that is not under a checksum. Owns the wal until it returns it.
 */
#include "store/wal_private.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_MAX = 1 << 16 };

static const uint64_t FILE_BYTES_MAX = UINT64_C(4) << 30;

struct found {
    struct segment *segment;
    struct wal_header header;
    bool good; /* the header */
};

struct scan {
    struct wal *wal;
    wal_group_fn *play;
    void *context;
    struct wal_trouble *trouble;
    struct found *found;
    size_t count;
    size_t capacity;
    uint8_t *data; /* the segment under way */
    size_t data_capacity;
    uint64_t reached; /* all up to here is in the tree, was played, or never was acknowledged */
    uint64_t highest; /* of all sequences that were seen */
    bool damaged;
};

static bool refuse(struct scan *scan, uint64_t number, const char *text)
{
    *scan->trouble = (struct wal_trouble){.error = EINVAL, .call = "read"};
    snprintf(scan->trouble->text, sizeof scan->trouble->text, "log-%016" PRIx64 " %s", number,
             text);
    return false;
}

static void mark_damaged(struct scan *scan, struct segment *segment, const char *text)
{
    if (!scan->damaged) {
        refuse(scan, segment->number, text);
    }
    scan->damaged = true;
    segment->damaged = true;
}

/* ---- Files ---- */

/* "log-" and 16 hex digits, then nothing or ".damaged". */
static bool parse_name(const char *name, uint64_t *number, bool *aside)
{
    size_t size = strlen(name);
    if (strncmp(name, "log-", 4) != 0 || size < 20 || strspn(name + 4, "0123456789abcdef") != 16) {
        return false;
    }
    *aside = strcmp(name + 20, ".damaged") == 0;
    *number = strtoull(name + 4, NULL, 16);
    return (*aside || size == 20) && *number < UINT64_MAX;
}

static bool note_file(struct scan *scan, uint64_t number)
{
    if (scan->count == scan->capacity) {
        size_t capacity = scan->capacity > 0 ? scan->capacity * 2 : 16;
        struct found *found = realloc(scan->found, capacity * sizeof *found);
        if (found == NULL) {
            return wal_failed(scan->trouble, "malloc");
        }
        scan->found = found;
        scan->capacity = capacity;
    }
    struct segment *segment = calloc(1, sizeof *segment);
    if (segment == NULL) {
        return wal_failed(scan->trouble, "malloc");
    }
    segment->number = number;
    segment->fd = -1;
    scan->found[scan->count++] = (struct found){.segment = segment};
    return true;
}

static bool list_files(struct scan *scan)
{
    struct wal *wal = scan->wal;
    int fd = openat(wal->directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return wal_failed(scan->trouble, "open");
    }
    DIR *directory = fdopendir(fd);
    if (directory == NULL) {
        wal_failed(scan->trouble, "open");
        close(fd);
        return false;
    }
    bool good = true;
    errno = 0;
    for (struct dirent *entry; good && (entry = readdir(directory)) != NULL; errno = 0) {
        uint64_t number;
        bool aside;
        if (!parse_name(entry->d_name, &number, &aside)) {
            continue;
        }
        if (number >= wal->next_number) {
            wal->next_number = number + 1;
        }
        if (!aside) {
            good = scan->count < FILES_MAX ? note_file(scan, number)
                                           : refuse(scan, number, "is one of too many segments.");
        }
    }
    if (good && errno != 0) {
        good = wal_failed(scan->trouble, "readdir");
    }
    closedir(directory);
    return good;
}

static bool read_all(struct scan *scan, int fd, size_t size)
{
    if (size > scan->data_capacity) {
        uint8_t *data = realloc(scan->data, size);
        if (data == NULL) {
            return wal_failed(scan->trouble, "malloc");
        }
        scan->data = data;
        scan->data_capacity = size;
    }
    for (size_t done = 0; done < size;) {
        ssize_t part = pread(fd, scan->data + done, size - done, (off_t)done);
        if (part < 0 && errno == EINTR) {
            continue;
        }
        if (part <= 0) {
            errno = part == 0 ? EIO : errno;
            return wal_failed(scan->trouble, "read");
        }
        done += (size_t)part;
    }
    return true;
}

/* Reads the segment into scan->data and leaves it open. -1: trouble says why. */
static int load(struct scan *scan, struct segment *segment)
{
    int fd = wal_open_segment(scan->wal, segment->number, O_RDONLY, scan->trouble);
    if (fd < 0) {
        return -1;
    }
    struct stat stat;
    bool good = false;
    if (fstat(fd, &stat) != 0) {
        wal_failed(scan->trouble, "stat");
    } else if (!S_ISREG(stat.st_mode) || (uint64_t)stat.st_size > FILE_BYTES_MAX) {
        refuse(scan, segment->number, "is no segment of a log. Move it out of the directory.");
    } else {
        segment->size = (uint64_t)stat.st_size;
        segment->used = segment->size;
        good = read_all(scan, fd, (size_t)segment->size);
    }
    if (!good) {
        close(fd);
        return -1;
    }
    return fd;
}

/* ---- Headers ---- */

/* Bytes up to the last that is not zero. */
static size_t used_bytes(const uint8_t *data, size_t size)
{
    while (size >= 8 && size % 8 == 0) {
        uint64_t word;
        memcpy(&word, data + size - 8, sizeof word);
        if (word != 0) {
            break;
        }
        size -= 8;
    }
    while (size > 0 && data[size - 1] == 0) {
        size--;
    }
    return size;
}

/*
 * A header that does not check. With nothing behind it, or when it is all zeros, the first batch
 * was torn or the zeroing of a segment was: nothing in it was promised (else the header of the next
 * says so). Anything else is damage.
 */
static void judge_other(struct scan *scan, struct segment *segment, size_t used)
{
    static const uint8_t start[8] = {'r', 'e', 't', 'h', 'r', 'l', 'o', 'g'};
    if (used > WAL_HEADER_BYTES) {
        if (used_bytes(scan->data, WAL_HEADER_BYTES) > 0) {
            mark_damaged(scan, segment, "does not begin as a segment does: damaged, or not ours.");
        }
    } else if (used > 0 && memcmp(scan->data, start, used < 8 ? used : 8) != 0) {
        mark_damaged(scan, segment, "is no segment of a log.");
    }
}

static bool look_at(struct scan *scan, struct found *found)
{
    struct segment *segment = found->segment;
    int fd = load(scan, segment);
    if (fd < 0) {
        return false;
    }
    close(fd);
    size_t used = used_bytes(scan->data, (size_t)segment->size);
    segment->used = used;
    enum wal_header_kind kind = WAL_HEADER_OTHER;
    if (segment->size >= WAL_HEADER_BYTES) {
        kind = wal_open_header(scan->data, &found->header);
    }
    if (kind == WAL_HEADER_NEWER) {
        return refuse(scan, segment->number,
                      "was written by a newer version of rethread. Start that version, or give "
                      "this one another directory.");
    }
    found->good = kind == WAL_HEADER_GOOD;
    if (found->good && found->header.number != segment->number) {
        found->good = false;
        mark_damaged(scan, segment, "is a copy of another segment.");
    } else if (!found->good) {
        judge_other(scan, segment, used);
    }
    return true;
}

static int by_first(const void *left, const void *right)
{
    const struct found *a = left, *b = right;
    if (a->good != b->good) {
        return a->good ? -1 : 1;
    }
    if (a->header.first != b->header.first) {
        return a->header.first < b->header.first ? -1 : 1;
    }
    return a->segment->number < b->segment->number ? -1 : 1;
}

/* ---- Groups ---- */

struct walk {
    bool playable; /* so far nothing was missing */
    bool hole;
    bool played;
    bool failed;
};

static void take_group(struct scan *scan, struct walk *walk, const struct wal_group *group,
                       const uint8_t *body, size_t room)
{
    if (group->sequence > scan->highest) {
        scan->highest = group->sequence;
    }
    if (group->sequence - group->place > scan->reached) {
        walk->hole = true;
        walk->playable = false;
    }
    if (!walk->playable || group->sequence <= scan->reached) {
        return;
    }
    if (group->sequence != scan->reached + 1 || group->bytes > room ||
        wal_hash(body, group->bytes) != group->body_hash) {
        walk->playable = false;
        return;
    }
    if (!scan->play(scan->context, group->sequence, bytes_of(body, group->bytes))) {
        walk->failed = true;
        return;
    }
    walk->played = true;
    scan->reached = group->sequence;
}

static void walk_groups(struct scan *scan, const struct found *found, struct walk *walk)
{
    size_t size = (size_t)found->segment->used; /* a header is never all zeros at its end */
    size_t whole = (size_t)found->segment->size;
    size_t offset = WAL_HEADER_BYTES;
    while (offset < size && whole - offset >= WAL_GROUP_HEADER_BYTES && !walk->failed) {
        const uint8_t *at = scan->data + offset;
        struct wal_group group;
        if (!wal_open_group(at, found->header.salt, &group)) {
            offset += WAL_ALIGN; /* damaged or torn: is there anything behind it? */
            continue;
        }
        size_t room = whole - offset - WAL_GROUP_HEADER_BYTES;
        take_group(scan, walk, &group, at + WAL_GROUP_HEADER_BYTES, room);
        uint64_t step = WAL_GROUP_HEADER_BYTES + wal_align(group.bytes);
        if (step >= whole - offset) {
            break;
        }
        offset += (size_t)step;
    }
}

/* `before`: the segment played before this one, or NULL. */
static bool play_segment(struct scan *scan, struct found *found, struct segment *before)
{
    struct segment *segment = found->segment;
    size_t used = (size_t)segment->used;
    int fd = load(scan, segment);
    if (fd < 0) {
        return false;
    }
    segment->used = used;
    struct walk walk = {.playable = true};
    if (found->header.durable > scan->reached) {
        walk.playable = false;
        mark_damaged(scan, before != NULL && !before->damaged ? before : segment,
                     "lacks groups that were acknowledged; what came before them is used.");
        segment->damaged = true;
    } else if (found->header.first - 1 > scan->reached) {
        scan->reached = found->header.first - 1;
    }
    if (found->header.first - 1 > scan->highest) {
        scan->highest = found->header.first - 1;
    }
    walk_groups(scan, found, &walk);
    if (walk.hole) {
        mark_damaged(scan, segment, "is damaged in the middle; what comes before that is used.");
    }
    if (walk.failed) {
        *scan->trouble = (struct wal_trouble){.error = EINVAL, .call = "play"};
        snprintf(scan->trouble->text, sizeof scan->trouble->text,
                 "The log: a group could not be brought into the tree.");
    }
    /* What is played counts as durable from now on; after a mere end of the process it may not be.
     */
    bool good = !walk.failed && (!walk.played || wal_flush(fd, scan->trouble));
    close(fd);
    segment->last = scan->reached;
    return good;
}

/* ---- Opening ---- */

static bool run(struct scan *scan)
{
    if (!list_files(scan)) {
        return false;
    }
    for (size_t i = 0; i < scan->count; i++) {
        if (!look_at(scan, &scan->found[i])) {
            return false;
        }
    }
    if (scan->count > 0) {
        qsort(scan->found, scan->count, sizeof *scan->found, by_first);
    }
    struct segment *before = NULL;
    for (size_t i = 0; i < scan->count && scan->found[i].good; i++) {
        if (!play_segment(scan, &scan->found[i], before)) {
            return false;
        }
        before = scan->found[i].segment;
    }
    return true;
}

/* Hands the segments to the wal: zeros are ready, the rest waits to be trimmed. */
static void file_segments(struct scan *scan)
{
    struct wal *wal = scan->wal;
    for (size_t i = 0; i < scan->count; i++) {
        struct segment *segment = scan->found[i].segment;
        atomic_fetch_add_explicit(&wal->bytes, segment->size, memory_order_relaxed);
        if (segment->used == 0 && segment->size == WAL_SEGMENT_BYTES) {
            segment_list_add(&wal->ready, segment);
        } else {
            segment_list_add(&wal->sealed, segment);
        }
        scan->found[i].segment = NULL;
    }
    wal->durable = scan->reached;
    uint64_t last = scan->highest > scan->reached ? scan->highest : scan->reached;
    atomic_store_explicit(&wal->next_sequence, last + 1, memory_order_relaxed);
}

enum status wal_open(int directory_fd, uint64_t applied, wal_group_fn *play, void *context,
                     struct wal **wal, bool *damaged, struct wal_trouble *trouble)
{
    *wal = NULL;
    *damaged = false;
    *trouble = (struct wal_trouble){.call = ""};
    struct wal *fresh = calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        wal_failed(trouble, "malloc");
        return STATUS_INTERNAL;
    }
    fresh->directory_fd = directory_fd;
    fresh->next_number = 1;
    segment_list_init(&fresh->ready);
    segment_list_init(&fresh->sealed);
    int error = pthread_mutex_init(&fresh->mutex, NULL);
    assert(error == 0);
    (void)error;
    struct scan scan = {.wal = fresh,
                        .play = play,
                        .context = context,
                        .trouble = trouble,
                        .reached = applied,
                        .highest = applied};
    bool good = run(&scan);
    if (good) {
        file_segments(&scan);
        struct wal_trouble failure;
        /* Names found here may be those of files that nobody has flushed yet. */
        good =
            wal_flush_directory(directory_fd, &failure) && wal_set_aside(fresh, applied, &failure);
        if (!good) {
            *trouble = failure;
        }
    }
    for (size_t i = 0; i < scan.count; i++) {
        free(scan.found[i].segment);
    }
    free(scan.found);
    free(scan.data);
    if (!good) {
        wal_close(fresh);
        return STATUS_INTERNAL;
    }
    *damaged = scan.damaged;
    *wal = fresh;
    return STATUS_OK;
}

enum status wal_verify(int directory_fd, uint64_t applied, wal_group_fn *play, void *context,
                       bool *damaged, struct wal_trouble *trouble)
{
    *trouble = (struct wal_trouble){.call = ""};
    struct wal wal = {.directory_fd = directory_fd, .next_number = 1};
    struct scan scan = {.wal = &wal,
                        .play = play,
                        .context = context,
                        .trouble = trouble,
                        .reached = applied,
                        .highest = applied};
    bool good = run(&scan);
    for (size_t i = 0; i < scan.count; i++) {
        free(scan.found[i].segment);
    }
    free(scan.found);
    free(scan.data);
    *damaged = scan.damaged;
    return good ? STATUS_OK : STATUS_INTERNAL;
}
