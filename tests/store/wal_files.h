/*
 * A log in a directory of its own, for tests: written, damaged, opened again and compared; and
 * calls on files that fail when told to. Header only, for one program each: it defines pwrite and
 * others, in place of the C library's.
 */
#ifndef RETHREAD_TESTS_STORE_WAL_FILES_H
#define RETHREAD_TESTS_STORE_WAL_FILES_H

#include "store/wal.h"
#include "tests/lib/trial.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Calls that fail ---- */

enum { CALL_WRITE, CALL_FLUSH, CALL_FLUSH_DIRECTORY, CALL_COUNT };

struct fault {
    _Atomic int left; /* calls until it happens; -1: never */
    _Atomic int error;
    _Atomic bool stays; /* all later calls fail, too */
    _Atomic unsigned calls;
};

static struct fault faults[CALL_COUNT] = {{.left = -1}, {.left = -1}, {.left = -1}};
static _Atomic size_t write_most; /* bytes that one write takes; 0: all */

static inline void fault_set(unsigned call, int left, int error, bool stays)
{
    faults[call].error = error;
    faults[call].stays = stays;
    faults[call].left = left;
}

static inline bool fault_hits(unsigned call)
{
    struct fault *fault = &faults[call];
    fault->calls++;
    if (fault->left < 0) {
        return false;
    }
    if (fault->left > 0) {
        fault->left--;
        return false;
    }
    if (!fault->stays) {
        fault->left = -1;
    }
    errno = fault->error;
    return true;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    if (fault_hits(CALL_WRITE)) {
        return -1;
    }
    if (write_most > 0 && size > write_most) {
        size = write_most;
    }
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

int fdatasync(int fd)
{
    return fault_hits(CALL_FLUSH) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return fault_hits(CALL_FLUSH_DIRECTORY) ? -1 : (int)syscall(SYS_fsync, fd);
}

/* ---- The directory ---- */

static char directory[64];
static int directory_fd;

/* The names in the directory, sorted. */
static inline unsigned list_names(char names[][64], unsigned limit)
{
    DIR *list = opendir(directory);
    unsigned count = 0;
    ck_assert_ptr_nonnull(list);
    for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
        if (entry->d_name[0] != '.') {
            ck_assert_uint_lt(count, limit);
            snprintf(names[count++], 64, "%.63s", entry->d_name);
        }
    }
    closedir(list);
    qsort(names, count, 64, (int (*)(const void *, const void *))strcmp);
    return count;
}

static inline unsigned count_names(const char *ending)
{
    char names[64][64];
    unsigned count = list_names(names, 64), matching = 0;
    for (unsigned i = 0; i < count; i++) {
        size_t size = strlen(names[i]), end = strlen(ending);
        matching += size >= end && strcmp(names[i] + size - end, ending) == 0;
    }
    return matching;
}

static inline void remove_files(void)
{
    char names[64][64];
    unsigned count = list_names(names, 64);
    for (unsigned i = 0; i < count; i++) {
        unlinkat(directory_fd, names[i], 0);
    }
}

static inline void files_setup(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%.40s/wal-XXXXXX", parent != NULL ? parent : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(directory_fd, 0);
}

static inline void files_teardown(void)
{
    remove_files();
    close(directory_fd);
    rmdir(directory);
}

struct image {
    uint8_t *data;
    size_t size;
};

static inline struct image read_file(const char *name)
{
    int fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC);
    ck_assert_msg(fd >= 0, "%s", name);
    struct stat stat;
    ck_assert_int_eq(fstat(fd, &stat), 0);
    struct image image = {.data = malloc((size_t)stat.st_size + 1), .size = (size_t)stat.st_size};
    ck_assert_int_eq(read(fd, image.data, image.size), (ssize_t)image.size);
    close(fd);
    return image;
}

static inline void write_file(const char *name, const uint8_t *data, size_t size)
{
    int fd = openat(directory_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, data, size), (ssize_t)size);
    close(fd);
}

static inline size_t used_of(struct image image)
{
    while (image.size > 0 && image.data[image.size - 1] == 0) {
        image.size--;
    }
    return image.size;
}

/* The one file there is, without the zeros behind it. */
static inline struct image only_file(void)
{
    char names[64][64];
    ck_assert_uint_eq(list_names(names, 64), 1);
    struct image image = read_file(names[0]);
    image.size = (used_of(image) + 7) / 8 * 8;
    return image;
}

/* ---- Groups: their bytes follow from a number, which they begin with ---- */

enum { GROUPS_MAX = 4096 };

struct played {
    uint64_t sequences[GROUPS_MAX];
    uint64_t numbers[GROUPS_MAX];
    unsigned count;
    bool refuse;
};

static struct played played;

static inline size_t group_bytes(uint64_t number)
{
    return 8 + number * 13 % 40;
}

static inline bool play_group(void *context, uint64_t sequence, struct bytes group)
{
    struct played *to = context;
    ck_assert_uint_ge(group.size, 8);
    ck_assert_uint_lt(to->count, GROUPS_MAX);
    uint64_t number = bytes_load_be64(group.data);
    ck_assert(trial_holds(group.data + 8, group.size - 8, number));
    ck_assert(to->count == 0 || sequence > to->sequences[to->count - 1]);
    to->sequences[to->count] = sequence;
    to->numbers[to->count++] = number;
    return !to->refuse;
}

static inline uint64_t add_sized(struct wal *wal, uint64_t number, size_t size)
{
    uint8_t *data = malloc(size);
    bytes_store_be64(data, number);
    trial_fill(data + 8, size - 8, number);
    uint64_t sequence = wal_add(wal, bytes_of(data, size));
    free(data);
    return sequence;
}

static inline uint64_t add(struct wal *wal, uint64_t number)
{
    return add_sized(wal, number, group_bytes(number));
}

static struct wal_trouble trouble;

static inline struct wal *reopen(uint64_t applied, bool damaged)
{
    struct wal *wal;
    bool found_damage;
    played.count = 0;
    enum status status =
        wal_open(directory_fd, applied, play_group, &played, &wal, &found_damage, &trouble);
    ck_assert_msg(status == STATUS_OK, "%s", trouble.text);
    ck_assert_msg(found_damage == damaged, "damaged %d: %s", found_damage, trouble.text);
    ck_assert_int_eq(trouble.text[0] != 0, damaged);
    return wal;
}

static inline void must_sync(struct wal *wal)
{
    ck_assert_msg(wal_sync(wal, &trouble) == STATUS_OK, "%s", trouble.text);
}

static inline void must_trim(struct wal *wal, uint64_t sequence, uint64_t older_ms)
{
    ck_assert_msg(wal_trim(wal, sequence, older_ms, &trouble) == STATUS_OK, "%s", trouble.text);
}

/* That exactly `count` groups were played, numbers and sequences from `first` on. */
static inline void must_have_played(uint64_t first, unsigned count)
{
    ck_assert_uint_eq(played.count, count);
    for (unsigned i = 0; i < count; i++) {
        ck_assert_uint_eq(played.sequences[i], first + i);
        ck_assert_uint_eq(played.numbers[i], first + i);
    }
}

#endif
