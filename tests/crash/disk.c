/* Follows a trace, and builds the files as they may be found. */
#include "tests/crash/disk.h"

#include "tests/lib/trial.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK_BYTES = 64 << 10, PAGE_BYTES = 4096, NO_FILE = UINT32_MAX };

static void *have(void *block)
{
    if (!block) {
        abort();
    }
    return block;
}

/* ---- The trace ----------------------------------------------------------------------------- */

static bool read_file(struct trace *trace, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat stat;
    if (fd < 0 || fstat(fd, &stat) != 0) {
        return false;
    }
    trace->data = have(malloc((size_t)stat.st_size + 1));
    while (trace->size < (size_t)stat.st_size) {
        ssize_t part = read(fd, trace->data + trace->size, (size_t)stat.st_size - trace->size);
        if (part <= 0) {
            break;
        }
        trace->size += (size_t)part;
    }
    close(fd);
    return trace->size == (size_t)stat.st_size;
}

bool trace_load(struct trace *trace, const char *path)
{
    *trace = (struct trace){0};
    if (!read_file(trace, path)) {
        return false;
    }
    size_t capacity = 0;
    for (size_t at = 0; at < trace->size; trace->count++) {
        /* Events are not aligned; each is copied out. */
        struct trace_event event;
        if (trace->size - at < sizeof event) {
            return false;
        }
        memcpy(&event, trace->data + at, sizeof event);
        if (trace->size - at - sizeof event < event.data_bytes) {
            return false;
        }
        if (trace->count == capacity) {
            capacity = capacity * 2 + 1024;
            trace->events = have(realloc(trace->events, capacity * sizeof *trace->events));
        }
        struct trace_event *copy = have(malloc(sizeof event + event.data_bytes + 1));
        memcpy(copy, trace->data + at, sizeof event + event.data_bytes);
        trace->events[trace->count] = copy;
        at += sizeof event + event.data_bytes;
    }
    free(trace->data);
    trace->data = NULL;
    return true;
}

void trace_free(struct trace *trace)
{
    for (size_t i = 0; i < trace->count; i++) {
        free((void *)(uintptr_t)trace->events[i]);
    }
    free(trace->events);
    free(trace->data);
    *trace = (struct trace){0};
}

/* ---- Names --------------------------------------------------------------------------------- */

static struct disk_name *find_name(struct disk_names *names, const char *text)
{
    for (unsigned i = 0; i < names->count; i++) {
        if (strcmp(names->names[i].text, text) == 0) {
            return &names->names[i];
        }
    }
    return NULL;
}

static void drop_name(struct disk_names *names, const char *text)
{
    struct disk_name *name = find_name(names, text);
    if (name) {
        *name = names->names[--names->count];
    }
}

static void set_name(struct disk_names *names, const char *text, uint32_t file)
{
    struct disk_name *name = find_name(names, text);
    if (!name) {
        assert(names->count < DISK_NAMES_MAX);
        name = &names->names[names->count++];
        snprintf(name->text, sizeof name->text, "%s", text);
    }
    name->file = file;
}

static void move_name(struct disk_names *names, const struct disk_move *move)
{
    if (move->from[0]) {
        const struct disk_name *name = find_name(names, move->from);
        if (name && name->file == move->file) {
            drop_name(names, move->from);
        }
    }
    if (move->to[0]) {
        set_name(names, move->to, move->file);
    }
}

static void note_move(struct disk *disk, uint32_t file, const char *from, const char *to)
{
    if (disk->move_count == disk->move_capacity) {
        disk->move_capacity = disk->move_capacity * 2 + 16;
        disk->moves = have(realloc(disk->moves, disk->move_capacity * sizeof *disk->moves));
    }
    struct disk_move *move = &disk->moves[disk->move_count++];
    move->file = file;
    snprintf(move->from, sizeof move->from, "%s", from);
    snprintf(move->to, sizeof move->to, "%s", to);
    move_name(&disk->seen, move);
}

/* ---- Files --------------------------------------------------------------------------------- */

static void grow(struct disk_file *file, size_t size)
{
    if (size > file->capacity) {
        size_t capacity = size * 2;
        file->data = have(realloc(file->data, capacity));
        file->capacity = capacity;
    }
    if (size > file->size) {
        memset(file->data + file->size, 0, size - file->size);
        file->size = size;
    }
}

static void apply_range(struct disk_file *file, const struct disk_write *write, uint64_t from,
                        uint64_t to)
{
    if (to <= from) {
        return;
    }
    grow(file, (size_t)to);
    if (write->data) {
        memcpy(file->data + from, write->data + (from - write->offset), (size_t)(to - from));
    } else {
        memset(file->data + from, 0, (size_t)(to - from));
    }
}

static void apply(struct disk_file *file, const struct disk_write *write)
{
    if (!write->truncate) {
        apply_range(file, write, write->offset, write->offset + write->size);
    } else if (write->size < file->size) {
        file->size = (size_t)write->size;
    } else {
        grow(file, (size_t)write->size);
    }
}

static struct disk_write *note_write(struct disk *disk, struct disk_write write)
{
    if (disk->write_count == disk->write_capacity) {
        disk->write_capacity = disk->write_capacity * 2 + 256;
        disk->writes = have(realloc(disk->writes, disk->write_capacity * sizeof *disk->writes));
    }
    disk->writes[disk->write_count] = write;
    return &disk->writes[disk->write_count++];
}

static void sync_file(struct disk *disk, uint32_t number)
{
    struct disk_file *file = &disk->files[number];
    size_t kept = 0;
    for (size_t i = 0; i < disk->write_count; i++) {
        struct disk_write write = disk->writes[i];
        if (write.file == number && !file->doomed) {
            apply(file, &write);
            continue;
        }
        write.must |= write.file == number && !write.doomed;
        disk->writes[kept++] = write;
    }
    disk->write_count = kept;
}

static void doom_file(struct disk *disk, uint32_t number)
{
    for (size_t i = 0; i < disk->write_count; i++) {
        struct disk_write *write = &disk->writes[i];
        if (write->file == number && !write->must) {
            write->doomed = true;
            disk->files[number].doomed = true;
        }
    }
}

static uint32_t make_file(struct disk *disk)
{
    disk->files = have(realloc(disk->files, (disk->file_count + 1) * sizeof *disk->files));
    disk->files[disk->file_count] = (struct disk_file){0};
    return disk->file_count++;
}

static void open_file(struct disk *disk, const struct trace_event *event)
{
    const char *text = (const char *)trace_data(event);
    const struct disk_name *name = find_name(&disk->seen, text);
    uint32_t file = name ? name->file : NO_FILE;
    if (event->flags & TRACE_CREATED) {
        assert(!name);
        file = make_file(disk);
        note_move(disk, file, "", text);
    }
    assert(file != NO_FILE && event->handle == disk->handle_count + 1);
    if (disk->handle_count == disk->handle_capacity) {
        disk->handle_capacity = disk->handle_capacity * 2 + 64;
        disk->handles = have(realloc(disk->handles, disk->handle_capacity * sizeof(uint32_t)));
    }
    disk->handles[disk->handle_count++] = file;
}

static uint32_t file_of(const struct disk *disk, const struct trace_event *event)
{
    assert(event->handle > 0 && event->handle <= disk->handle_count);
    return disk->handles[event->handle - 1];
}

static struct disk_write write_of(const struct disk *disk, const struct trace_event *event)
{
    return (struct disk_write){.file = file_of(disk, event),
                               .truncate = event->kind == TRACE_TRUNCATE,
                               .must = (event->flags & TRACE_DSYNC) != 0,
                               .offset = event->offset,
                               .size = event->size,
                               .data = event->flags & TRACE_ZEROS ? NULL : trace_data(event)};
}

static void rename_file(struct disk *disk, const struct trace_event *event)
{
    const char *from = (const char *)trace_data(event);
    const char *to = from + strlen(from) + 1;
    const struct disk_name *name = find_name(&disk->seen, from);
    assert(name);
    note_move(disk, name->file, from, to);
}

static void unlink_file(struct disk *disk, const struct trace_event *event)
{
    const struct disk_name *name = find_name(&disk->seen, (const char *)trace_data(event));
    if (name) { /* LMDB's lock files are not watched */
        note_move(disk, name->file, (const char *)trace_data(event), "");
    }
}

void disk_step(struct disk *disk, const struct trace_event *event)
{
    switch ((enum trace_kind)event->kind) {
    case TRACE_START:
        disk->handle_count = 0;
        break;
    case TRACE_OPEN:
        open_file(disk, event);
        break;
    case TRACE_WRITE:
    case TRACE_TRUNCATE:
        note_write(disk, write_of(disk, event));
        break;
    case TRACE_RENAME:
        rename_file(disk, event);
        break;
    case TRACE_UNLINK:
        unlink_file(disk, event);
        break;
    case TRACE_SYNC:
        sync_file(disk, file_of(disk, event));
        break;
    case TRACE_SYNC_FAILED:
        doom_file(disk, file_of(disk, event));
        break;
    case TRACE_SYNC_DIRECTORY:
        disk->sure = disk->seen;
        disk->move_count = 0;
        break;
    case TRACE_MARK:
        break;
    }
}

void disk_init(struct disk *disk)
{
    *disk = (struct disk){.block = have(malloc(BLOCK_BYTES))};
}

void disk_free(struct disk *disk)
{
    for (uint32_t i = 0; i < disk->file_count; i++) {
        free(disk->files[i].data);
    }
    free(disk->files);
    free(disk->moves);
    free(disk->writes);
    free(disk->handles);
    free(disk->work.data);
    free(disk->block);
}

/* ---- States -------------------------------------------------------------------------------- */

enum mood { ALL, NONE, ALL_BUT_ONE, ONLY_ONE, HALF, TORN, UP_TO, MOODS };

struct choice {
    enum mood mood;
    size_t one; /* of the writes that are not sure */
    uint64_t *random;
};

/* The sectors of one write, one by one. */
static void apply_torn(struct disk_file *file, const struct disk_write *write, uint64_t *random)
{
    uint64_t end = write->offset + write->size;
    uint64_t way = trial_below(random, 4);
    uint64_t sectors = write->size / DISK_SECTOR + 1;
    uint64_t part = trial_below(random, sectors + 1);
    uint64_t number = 0;
    for (uint64_t at = write->offset; at < end; number++) {
        uint64_t to = (at / DISK_SECTOR + 1) * DISK_SECTOR;
        to = to < end ? to : end;
        bool keeps = way == 0   ? number < part
                     : way == 1 ? number >= part
                     : way == 2 ? number != part
                                : trial_below(random, 2) == 0;
        if (keeps) {
            apply_range(file, write, at, to);
        }
        at = to;
    }
    if (trial_below(random, 4) == 0) {
        grow(file, (size_t)end);
    }
}

static void apply_maybe(struct disk_file *file, const struct disk_write *write, size_t number,
                        const struct choice *choice)
{
    bool keeps = false;
    bool torn = false;
    switch (choice->mood) {
    case ALL:
        keeps = true;
        break;
    case NONE:
    case MOODS:
        break;
    case ALL_BUT_ONE:
        keeps = number != choice->one;
        torn = !keeps && trial_below(choice->random, 2) == 0;
        break;
    case ONLY_ONE:
        keeps = number == choice->one;
        torn = keeps && trial_below(choice->random, 2) == 0;
        break;
    case HALF:
        keeps = trial_below(choice->random, 2) == 0;
        break;
    case TORN:
        torn = trial_below(choice->random, 3) > 0;
        keeps = !torn && trial_below(choice->random, 2) == 0;
        break;
    case UP_TO: /* in order, the last one torn */
        keeps = number < choice->one;
        torn = number == choice->one;
        break;
    }
    if (torn && !write->truncate) {
        apply_torn(file, write, choice->random);
    } else if (keeps) {
        apply(file, write);
    } else if (!write->truncate && trial_below(choice->random, 8) == 0) {
        grow(file, (size_t)(write->offset + write->size)); /* its place is there, it is not */
    }
}

static const struct disk_file *build(struct disk *disk, uint32_t number,
                                     const struct choice *choice)
{
    const struct disk_file *file = &disk->files[number];
    bool touched = false;
    size_t place = 0;
    for (size_t i = 0; i < disk->write_count; i++) {
        const struct disk_write *write = &disk->writes[i];
        size_t mine = place;
        place += !write->must;
        if (write->file != number) {
            continue;
        }
        if (!touched) {
            touched = true;
            disk->work.size = 0;
            grow(&disk->work, file->size + 1);
            disk->work.size = file->size;
            if (file->size > 0) {
                memcpy(disk->work.data, file->data, file->size);
            }
        }
        if (write->must) {
            apply(&disk->work, write);
        } else {
            apply_maybe(&disk->work, write, mine, choice);
        }
    }
    return touched ? &disk->work : file;
}

/* Which of the moves have happened: for each file a first part of its own. */
static void choose_names(const struct disk *disk, uint64_t *random, bool all,
                         struct disk_names *names)
{
    *names = disk->sure;
    uint64_t way = all ? 0 : trial_below(random, 4);
    uint64_t until = trial_below(random, disk->move_count + 1);
    uint64_t seed = trial_random(random);
    for (size_t i = 0; i < disk->move_count; i++) {
        const struct disk_move *move = &disk->moves[i];
        bool happened = way == 0 || (way == 2 && i < until);
        if (way == 3) {
            uint64_t file = seed + move->file;
            happened = i < trial_random(&file) % (disk->move_count + 1);
        }
        if (happened) {
            move_name(names, move);
        }
    }
}

/* Pages that are as they must be are not written, so that a state costs what changed. */
static bool put_blocks(struct disk *disk, int fd, const struct disk_file *file)
{
    for (size_t at = 0; at < file->size; at += BLOCK_BYTES) {
        size_t part = file->size - at < BLOCK_BYTES ? file->size - at : BLOCK_BYTES;
        if (pread(fd, disk->block, part, (off_t)at) != (ssize_t)part) {
            return false;
        }
        for (size_t page = 0; page < part; page += PAGE_BYTES) {
            size_t size = part - page < PAGE_BYTES ? part - page : PAGE_BYTES;
            const uint8_t *meant = file->data + at + page;
            if (memcmp(disk->block + page, meant, size) != 0 &&
                pwrite(fd, meant, size, (off_t)(at + page)) != (ssize_t)size) {
                return false;
            }
        }
    }
    return true;
}

static bool put_file(struct disk *disk, int directory, const char *name,
                     const struct disk_file *file)
{
    int fd = openat(directory, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return false;
    }
    bool good = ftruncate(fd, (off_t)file->size) == 0 && put_blocks(disk, fd, file);
    int keep = errno;
    close(fd);
    errno = keep;
    return good;
}

static bool remove_others(int directory, struct disk_names *names)
{
    int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *all = fd < 0 ? NULL : fdopendir(fd);
    if (!all) {
        return false;
    }
    bool good = true;
    for (struct dirent *one; good && (one = readdir(all));) {
        bool dots = strcmp(one->d_name, ".") == 0 || strcmp(one->d_name, "..") == 0;
        good = dots || find_name(names, one->d_name) || unlinkat(directory, one->d_name, 0) == 0;
    }
    closedir(all);
    return good;
}

bool disk_make(struct disk *disk, const struct trace_event *next, uint64_t *random,
               const char *path)
{
    bool all = *random == 0;
    size_t writes = disk->write_count;
    if (next && next->kind == TRACE_WRITE) {
        note_write(disk, write_of(disk, next))->must = false;
    }
    size_t open = 0;
    for (size_t i = 0; i < disk->write_count; i++) {
        open += !disk->writes[i].must;
    }
    struct choice choice = {.mood = all ? ALL : (enum mood)trial_below(random, MOODS),
                            .random = random};
    choice.one = (size_t)trial_below(random, open + 1);
    struct disk_names names;
    choose_names(disk, random, all, &names);
    int directory = openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = directory >= 0 && remove_others(directory, &names);
    for (unsigned i = 0; i < names.count && good; i++) {
        good = put_file(disk, directory, names.names[i].text,
                        build(disk, names.names[i].file, &choice));
    }
    disk->write_count = writes;
    if (directory >= 0) {
        close(directory);
    }
    return good;
}
