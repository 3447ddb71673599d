/*
 * Reviewed: what a store comes to whose directory is not as a server left it, and what it flushes
 * before it promises anything.
 */
#include "tests/store/test_store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Which directories were flushed, as the kernel knows them. */
enum { FLUSHED_MAX = 64 };
static struct {
    dev_t device;
    ino_t node;
} flushed[FLUSHED_MAX];
static _Atomic unsigned flushed_count;

int fsync(int fd)
{
    struct stat stat;
    if (fstat(fd, &stat) == 0) {
        unsigned at = atomic_fetch_add(&flushed_count, 1) % FLUSHED_MAX;
        flushed[at].device = stat.st_dev;
        flushed[at].node = stat.st_ino;
    }
    return (int)syscall(SYS_fsync, fd);
}

static bool was_flushed(const char *path)
{
    struct stat stat_of;
    ck_assert_int_eq(stat(path, &stat_of), 0);
    unsigned count = atomic_load(&flushed_count);
    for (unsigned i = 0; i < count && i < FLUSHED_MAX; i++) {
        if (flushed[i].device == stat_of.st_dev && flushed[i].node == stat_of.st_ino) {
            return true;
        }
    }
    return false;
}

static void path_in(char path[128], const char *name)
{
    snprintf(path, 128, "%s/%s", directory, name);
}

/* A promise in a directory whose own name a power cut may take is none. */
START_TEST(new_directory_is_durable_in_its_parent)
{
    static char parent[64], below[128];
    snprintf(parent, sizeof parent, "%s", directory);
    snprintf(below, sizeof below, "%s/data", directory);
    close_store();
    settings.directory = below;
    atomic_store(&flushed_count, 0);
    open_store();
    ck_assert(was_flushed(below));
    ck_assert(was_flushed(parent));
    /* The start that made it may have ended before. */
    close_store();
    atomic_store(&flushed_count, 0);
    open_store();
    ck_assert(was_flushed(parent));
    close_store();
    remove_directory(below);
}
END_TEST

static void must_refuse(const char *word)
{
    struct store_refusal refusal;
    struct store *opened = store_open(&settings, &refusal);
    ck_assert_ptr_null(opened);
    ck_assert_msg(strstr(refusal.text, word) != NULL, "%s", refusal.text);
}

/* A tree that is kept elsewhere, on a disk that is not there now: not the same as none. */
START_TEST(tree_that_leads_nowhere_is_not_replaced)
{
    char path[128], target[128], elsewhere[128];
    path_in(path, "tree.mdb");
    path_in(elsewhere, "moved");
    done(make_put("a", 1, bytes_text("payload")), STATUS_OK);
    close_store();
    ck_assert_int_eq(rename(path, elsewhere), 0);
    ck_assert_int_eq(symlink("not-there", path), 0);
    must_refuse("tree.mdb");
    ssize_t size = readlink(path, target, sizeof target);
    ck_assert_int_eq(size, 9);
    /* And where it leads somewhere it is used. */
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(symlink("moved", path), 0);
    open_store();
    ck_assert_int_eq(found("a"), TIER_FOUND);
}
END_TEST

static void copy_file(const char *from, const char *to)
{
    static uint8_t bytes[1 << 16];
    int in = open(from, O_RDONLY);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(in, 0);
    ck_assert_int_ge(out, 0);
    for (ssize_t size; (size = read(in, bytes, sizeof bytes)) > 0;) {
        ck_assert_int_eq(write(out, bytes, (size_t)size), size);
    }
    close(in);
    close(out);
}

/* The log as after a crash, with what the tree has not got: the tree of the beginning beside it. */
static void crash_with_a_group_in_the_log(const char *tree_beside)
{
    char path[128], kept[128];
    path_in(path, "tree.mdb");
    path_in(kept, tree_beside);
    close_store();
    copy_file(path, kept);
    open_store();
    struct put *put = make_put("a", 1, bytes_text("payload"));
    submit(put);
    AWAIT(put->durable_at);
    /* Copied while the store has it open: only the log's bytes count. */
    char log[128], copy[128];
    path_in(log, "log-0000000000000001");
    path_in(copy, "copy");
    if (access(log, R_OK) != 0) {
        path_in(log, "log-0000000000000002");
    }
    copy_file(log, copy);
    AWAIT(put->applied_at);
    free_put(put);
    close_store();
    ck_assert_int_eq(rename(copy, log), 0);
}

START_TEST(log_of_another_tree_is_not_taken_in)
{
    char path[128], kept[128];
    crash_with_a_group_in_the_log("kept");
    path_in(path, "tree.mdb");
    path_in(kept, "kept");
    /* Anew, as an operator is told to: its names are others, so nobody would find the thread. */
    ck_assert_int_eq(unlink(path), 0);
    must_refuse("another tree");
    must_refuse("another tree"); /* and nothing was touched */
    ck_assert_int_eq(rename(kept, path), 0);
    open_store();
    ck_assert_int_eq(found("a"), TIER_FOUND);
}
END_TEST

static unsigned mode_of(const char *name)
{
    char path[128];
    struct stat stat_of;
    path_in(path, name);
    ck_assert_int_eq(stat(path, &stat_of), 0);
    return stat_of.st_mode & 0777;
}

START_TEST(nobody_else_may_read_the_files)
{
    done(make_put("a", 1, bytes_text("payload")), STATUS_OK);
    DIR *open = opendir(directory);
    unsigned files = 0;
    for (struct dirent *entry; (entry = readdir(open));) {
        if (entry->d_name[0] != '.') {
            ck_assert_msg(mode_of(entry->d_name) == 0600, "%s", entry->d_name);
            files++;
        }
    }
    closedir(open);
    ck_assert_uint_ge(files, 4);
}
END_TEST

/* A running server whose directory goes away must not go on to acknowledge. */
START_TEST(directory_that_goes_away)
{
    done(make_put("a", 1, bytes_text("payload")), STATUS_OK);
    remove_directory(directory);
    AWAIT(tier->calls->is_read_only(tier));
    struct put *put = make_put("b", 1, bytes_text("payload"));
    ck_assert_int_eq(tier->calls->submit(tier, &put->change), STATUS_READ_ONLY);
    unpin_put(put);
    free_put(put);
    ck_assert_int_eq(found("a"), TIER_FOUND);
}
END_TEST

START_TEST(paths_that_are_none)
{
    static char long_path[8192];
    close_store();
    memset(long_path, 'd', sizeof long_path - 1);
    settings.directory = long_path;
    must_refuse("data directory");
    settings.directory = "";
    must_refuse("data directory");
    settings.directory = directory;
    open_store();
    struct store_refusal refusal;
    ck_assert_ptr_null(store_open(&settings, &refusal));
    ck_assert_ptr_nonnull(strstr(refusal.text, "another server"));
    done(make_put("a", 1, bytes_text("payload")), STATUS_OK);
}
END_TEST

int main(void)
{
    return SUITE_RUN("review_store", setup, teardown, 60, new_directory_is_durable_in_its_parent,
                     tree_that_leads_nowhere_is_not_replaced, log_of_another_tree_is_not_taken_in,
                     nobody_else_may_read_the_files, directory_that_goes_away, paths_that_are_none);
}
