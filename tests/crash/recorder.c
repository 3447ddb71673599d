/*
 * The recorder: a library for LD_PRELOAD that writes down what a program does to the files of one
 * directory (tests/crash/trace.h), and makes some of these calls fail.
 *
 * Each call on a watched file happens under one mutex together with its line in the trace, so that
 * the trace is a total order of what was done. It calls the kernel itself, not the C library. Calls
 * on other files pass through. Written with pwrite, pwritev, write, writev, as LMDB and the log do;
 * stores into maps are not seen.
 */
#include "tests/crash/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { DESCRIPTORS = 1024, PARTS_MAX = 64 };

struct watched {
    bool known;
    bool directory;
    bool dsync;
    enum trace_place place;
    uint32_t handle;
};

/* All under the mutex. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct watched descriptors[DESCRIPTORS];
static char directory[4096];
static size_t directory_bytes;
static int trace_fd = -1;
static unsigned unsynced;
static uint64_t events;
static uint64_t die_at;
static uint32_t handles;
static struct trace_fault fault;
static uint64_t matched;
static uint64_t failed;

/* Those of the C library that no header declares without fortification. */
int __open_2(const char *path, int flags);
int __openat_2(int at, const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat64_2(int at, const char *path, int flags);
trace_mark_fn trace_mark;
trace_fault_fn trace_fault;
trace_count_fn trace_count;
trace_die_fn trace_die;

/* ---- Writing the trace --------------------------------------------------------------------- */

static void put(const void *data, size_t size)
{
    const char *at = data;
    while (size > 0) {
        long written = syscall(SYS_write, trace_fd, at, size);
        if (written <= 0) {
            _exit(98); /* no trace, no test */
        }
        at += written;
        size -= (size_t)written;
    }
}

static void put_event(struct trace_event event, const struct iovec *parts, int count)
{
    put(&event, sizeof event);
    size_t left = event.data_bytes;
    for (int i = 0; i < count && left > 0; i++) {
        size_t part = parts[i].iov_len < left ? parts[i].iov_len : left;
        put(parts[i].iov_base, part);
        left -= part;
    }
    if (++events == die_at) {
        _exit(TRACE_DIED);
    }
}

static void put_named(enum trace_kind kind, uint32_t handle, unsigned flags, const char *name,
                      const char *other)
{
    char data[512];
    int size = snprintf(data, sizeof data, "%s%c%s", name, 0, other ? other : "");
    struct iovec part = {.iov_base = data, .iov_len = (size_t)size + 1};
    put_event(
        (struct trace_event){
            .kind = kind, .handle = handle, .flags = flags, .data_bytes = (uint32_t)size + 1},
        &part, 1);
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv(TRACE_DIRECTORY);
    const char *file = getenv(TRACE_FILE);
    const char *bits = getenv(TRACE_UNSYNCED);
    const char *end = getenv(TRACE_DIE_AT);
    if (!path || !file || strlen(path) >= sizeof directory) {
        return;
    }
    directory_bytes = strlen(path);
    memcpy(directory, path, directory_bytes);
    unsynced = bits ? (unsigned)strtoul(bits, NULL, 10) : 0;
    die_at = end ? strtoull(end, NULL, 10) : 0;
    trace_fd =
        (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (trace_fd < 0) {
        _exit(98);
    }
    put_event((struct trace_event){.kind = TRACE_START}, NULL, 0);
}

static void enter(void)
{
    int keep = errno;
    pthread_mutex_lock(&mutex);
    errno = keep;
}

static void leave(void)
{
    int keep = errno;
    pthread_mutex_unlock(&mutex);
    errno = keep;
}

/* ---- Which files --------------------------------------------------------------------------- */

static struct watched *watched(int fd)
{
    struct watched *known = fd >= 0 && fd < DESCRIPTORS ? &descriptors[fd] : NULL;
    return known && known->known ? known : NULL;
}

/* The name within the directory, "" for the directory itself, NULL: not watched. */
static const char *inside(int at, const char *path)
{
    if (trace_fd < 0 || !path) {
        return NULL;
    }
    const char *name = NULL;
    if (strncmp(path, directory, directory_bytes) == 0) {
        name = path + directory_bytes;
        if (*name == '/') {
            name++;
        } else if (*name) {
            return NULL;
        }
    } else if (path[0] != '/' && watched(at) && watched(at)->directory) {
        name = strcmp(path, ".") == 0 ? "" : path;
    }
    size_t size = name ? strlen(name) : 0;
    bool lock = size >= 5 && strcmp(name + size - 5, "-lock") == 0; /* LMDB's: no data */
    return lock || (size == 2 && strcmp(name, "..") == 0) ? NULL : name;
}

static enum trace_place place_of(const char *name)
{
    return !*name                              ? TRACE_FOLDER
           : strncmp(name, "log-", 4) == 0     ? TRACE_LOG
           : strncmp(name, "tree.mdb", 8) == 0 ? TRACE_TREE
                                               : TRACE_OTHER;
}

/* Whether this call fails; *cut: only half of it is done. */
static bool fails(enum trace_call call, enum trace_place place, bool *cut)
{
    *cut = false;
    if ((fault.calls & call) == 0 || (fault.places & place) == 0) {
        return false;
    }
    uint64_t number = matched++;
    if (number < fault.skip || (number > fault.skip && !fault.lasting)) {
        return false;
    }
    failed++;
    if (fault.cut && number == fault.skip && call == TRACE_CALL_WRITE) {
        *cut = true;
        return false;
    }
    if (fault.cut && !fault.lasting) {
        return false;
    }
    errno = fault.error;
    return true;
}

static bool refuses(enum trace_call call, enum trace_place place)
{
    bool cut;
    return fails(call, place, &cut);
}

/* ---- For the program ----------------------------------------------------------------------- */

void trace_mark(uint32_t mark, const void *data, size_t size)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    enter();
    put_event(
        (struct trace_event){.kind = TRACE_MARK, .handle = mark, .data_bytes = (uint32_t)size},
        &part, 1);
    leave();
}

void trace_fault(const struct trace_fault *wanted)
{
    enter();
    fault = wanted ? *wanted : (struct trace_fault){0};
    matched = failed = 0;
    leave();
}

uint64_t trace_count(uint64_t *failures)
{
    enter();
    uint64_t count = matched;
    *failures = failed;
    leave();
    return count;
}

void trace_die(void)
{
    enter();
    _exit(TRACE_DIED);
}

/* ---- open, close --------------------------------------------------------------------------- */

static int open_watched(int at, const char *path, int flags, mode_t mode, const char *name)
{
    bool there = syscall(SYS_faccessat, at, path, F_OK) == 0;
    bool creates = !there && (flags & O_CREAT);
    if (creates && refuses(TRACE_CALL_OPEN, place_of(name))) {
        return -1;
    }
    int fd = (int)syscall(SYS_openat, at, path, flags, mode);
    if (fd < 0 || fd >= DESCRIPTORS) {
        return fd;
    }
    struct watched *known = &descriptors[fd];
    *known = (struct watched){.known = true, .directory = !*name, .place = place_of(name)};
    known->dsync = (flags & O_DSYNC) != 0;
    if (!known->directory) {
        known->handle = ++handles;
        put_named(TRACE_OPEN, known->handle, creates ? TRACE_CREATED : 0, name, NULL);
        if (there && (flags & O_TRUNC)) {
            put_event((struct trace_event){.kind = TRACE_TRUNCATE, .handle = known->handle}, NULL,
                      0);
        }
    }
    return fd;
}

static int open_any(int at, const char *path, int flags, mode_t mode)
{
    enter();
    const char *name = inside(at, path);
    int fd;
    if (name) {
        fd = open_watched(at, path, flags, mode, name);
    } else {
        fd = (int)syscall(SYS_openat, at, path, flags, mode);
        if (fd >= 0 && fd < DESCRIPTORS) {
            descriptors[fd].known = false;
        }
    }
    leave();
    return fd;
}

#define MODE_OF(flags, mode)                                                                       \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                         \
        va_list list;                                                                              \
        va_start(list, flags);                                                                     \
        mode = va_arg(list, mode_t);                                                               \
        va_end(list);                                                                              \
    }

int open(const char *path, int flags, ...)
{
    MODE_OF(flags, mode)
    return open_any(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE_OF(flags, mode)
    return open_any(AT_FDCWD, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...)
{
    MODE_OF(flags, mode)
    return open_any(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...)
{
    MODE_OF(flags, mode)
    return open_any(at, path, flags, mode);
}

int __open_2(const char *path, int flags)
{
    return open_any(AT_FDCWD, path, flags, 0);
}

int __open64_2(const char *path, int flags)
{
    return open_any(AT_FDCWD, path, flags, 0);
}

int __openat_2(int at, const char *path, int flags)
{
    return open_any(at, path, flags, 0);
}

int __openat64_2(int at, const char *path, int flags)
{
    return open_any(at, path, flags, 0);
}

int creat(const char *path, mode_t mode)
{
    return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int close(int fd)
{
    enter();
    if (fd >= 0 && fd < DESCRIPTORS) {
        descriptors[fd].known = false;
    }
    int result = (int)syscall(SYS_close, fd);
    leave();
    return result;
}

/* ---- Writes -------------------------------------------------------------------------------- */

static bool is_zeros(const struct iovec *parts, int count, size_t size)
{
    for (int i = 0; i < count && size > 0; i++) {
        const uint8_t *at = parts[i].iov_base;
        size_t part = parts[i].iov_len < size ? parts[i].iov_len : size;
        if (part > 0 && (at[0] != 0 || memcmp(at, at + 1, part - 1) != 0)) {
            return false;
        }
        size -= part;
    }
    return true;
}

/* Leaves half of the bytes. */
static int halve(const struct iovec *parts, int count, struct iovec *halved)
{
    size_t left = 0;
    for (int i = 0; i < count; i++) {
        left += parts[i].iov_len;
    }
    left = (left + 1) / 2;
    int kept = 0;
    while (kept < count && left > 0) {
        halved[kept] = parts[kept];
        if (halved[kept].iov_len > left) {
            halved[kept].iov_len = left;
        }
        left -= halved[kept++].iov_len;
    }
    return kept;
}

static ssize_t write_watched(int fd, const struct watched *known, const struct iovec *parts,
                             int count, off_t offset, bool positioned)
{
    struct iovec halved[PARTS_MAX];
    bool cut;
    if (fails(TRACE_CALL_WRITE, known->place, &cut)) {
        return -1;
    }
    if (cut && count <= PARTS_MAX) {
        count = halve(parts, count, halved);
        parts = halved;
    }
    if (!positioned) {
        offset = (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR);
    }
    ssize_t written = positioned ? (ssize_t)syscall(SYS_pwritev, fd, parts, count, offset, 0)
                                 : (ssize_t)syscall(SYS_writev, fd, parts, count);
    if (written > 0) {
        int keep = errno;
        bool zeros = is_zeros(parts, count, (size_t)written);
        bool dsync = known->dsync && (unsynced & known->place) == 0;
        put_event(
            (struct trace_event){.kind = TRACE_WRITE,
                                 .handle = known->handle,
                                 .offset = (uint64_t)offset,
                                 .size = (uint64_t)written,
                                 .data_bytes = zeros ? 0 : (uint32_t)written,
                                 .flags = (zeros ? TRACE_ZEROS : 0) | (dsync ? TRACE_DSYNC : 0)},
            parts, count);
        errno = keep;
    }
    return written;
}

static ssize_t write_any(int fd, const struct iovec *parts, int count, off_t offset,
                         bool positioned)
{
    if (trace_fd < 0 || fd == trace_fd) {
        return positioned ? (ssize_t)syscall(SYS_pwritev, fd, parts, count, offset, 0)
                          : (ssize_t)syscall(SYS_writev, fd, parts, count);
    }
    enter();
    const struct watched *known = watched(fd);
    ssize_t written;
    if (known && !known->directory) {
        written = write_watched(fd, known, parts, count, offset, positioned);
        leave();
    } else {
        leave(); /* it may wait for long: a pipe */
        written = positioned ? (ssize_t)syscall(SYS_pwritev, fd, parts, count, offset, 0)
                             : (ssize_t)syscall(SYS_writev, fd, parts, count);
    }
    return written;
}

static struct iovec whole(const void *data, size_t size)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = size};
}

ssize_t write(int fd, const void *data, size_t size)
{
    struct iovec part = whole(data, size);
    return write_any(fd, &part, 1, 0, false);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    struct iovec part = whole(data, size);
    return write_any(fd, &part, 1, offset, true);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
{
    struct iovec part = whole(data, size);
    return write_any(fd, &part, 1, offset, true);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return write_any(fd, parts, count, 0, false);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return write_any(fd, parts, count, offset, true);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset)
{
    return write_any(fd, parts, count, offset, true);
}

int ftruncate(int fd, off_t size)
{
    enter();
    const struct watched *known = watched(fd);
    int result = -1;
    if (!known || !refuses(TRACE_CALL_TRUNCATE, known->place)) {
        result = (int)syscall(SYS_ftruncate, fd, size);
    }
    if (known && result == 0) {
        put_event((struct trace_event){.kind = TRACE_TRUNCATE,
                                       .handle = known->handle,
                                       .size = (uint64_t)size},
                  NULL, 0);
    }
    leave();
    return result;
}

int ftruncate64(int fd, off_t size)
{
    return ftruncate(fd, size);
}

/* ---- Syncs --------------------------------------------------------------------------------- */

static int sync_any(int fd, long call)
{
    enter();
    const struct watched *known = watched(fd);
    int result = 0;
    if (known && refuses(TRACE_CALL_SYNC, known->place)) {
        result = -1;
        if (!known->directory) {
            int keep = errno;
            put_event((struct trace_event){.kind = TRACE_SYNC_FAILED, .handle = known->handle},
                      NULL, 0);
            errno = keep;
        }
    } else if (!known) {
        leave();
        return (int)syscall(call, fd);
    } else if ((unsynced & known->place) == 0) {
        result = (int)syscall(call, fd);
        if (result == 0) {
            put_event(
                (struct trace_event){.kind = known->directory ? TRACE_SYNC_DIRECTORY : TRACE_SYNC,
                                     .handle = known->handle},
                NULL, 0);
        }
    }
    leave();
    return result;
}

int fsync(int fd)
{
    return sync_any(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return sync_any(fd, SYS_fdatasync);
}

/* Nobody stores into a map here; were it so, the trace would not have it. */
int msync(void *at, size_t size, int flags)
{
    if (trace_fd >= 0) {
        _exit(97);
    }
    return (int)syscall(SYS_msync, at, size, flags);
}

/* ---- Names --------------------------------------------------------------------------------- */

static int rename_any(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    enter();
    const char *old = inside(from_at, from);
    const char *fresh = inside(to_at, to);
    int result = -1;
    if (!old || !fresh || !refuses(TRACE_CALL_RENAME, place_of(fresh))) {
        result = (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    }
    if (result == 0 && old && fresh) {
        put_named(TRACE_RENAME, 0, 0, old, fresh);
    }
    leave();
    return result;
}

int rename(const char *from, const char *to)
{
    return rename_any(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    return rename_any(from_at, from, to_at, to, 0);
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    return rename_any(from_at, from, to_at, to, flags);
}

int unlinkat(int at, const char *path, int flags)
{
    enter();
    const char *name = inside(at, path);
    int result = -1;
    if (!name || !refuses(TRACE_CALL_UNLINK, place_of(name))) {
        result = (int)syscall(SYS_unlinkat, at, path, flags);
    }
    if (result == 0 && name) {
        put_named(TRACE_UNLINK, 0, 0, name, NULL);
    }
    leave();
    return result;
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}
