/* The offline check as a whole: lock, tree, log. Owns the directory's lock for the time of a call.
 */
#include "store/verify.h"

#include "store/record.h"
#include "store/tree_read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct run {
    const struct verify_settings *settings;
    struct verify_report *report;
    int directory_fd;
    int lock_fd;
};

static enum verify_result refuse(struct run *run, const char *text)
{
    snprintf(run->report->text, sizeof run->report->text, "%s", text);
    return VERIFY_UNREADABLE;
}

static void tell(void *context, const char *text)
{
    struct run *run = context;
    if (run->settings->found) {
        run->settings->found(run->settings->context, text);
    }
}

static void show(void *context, uint64_t records)
{
    struct run *run = context;
    if (run->settings->progress) {
        run->settings->progress(run->settings->context, records);
    }
}

static enum verify_result lock(struct run *run)
{
    run->directory_fd = open(run->settings->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (run->directory_fd < 0) {
        return refuse(run, errno == ENOENT ? "there is no such directory"
                                           : "the directory cannot be opened");
    }
    struct stat stat;
    if (fstatat(run->directory_fd, "tree.mdb", &stat, AT_SYMLINK_NOFOLLOW)) {
        return refuse(run, "the directory has no tree.mdb: it is not one of rethread's");
    }
    run->lock_fd = openat(run->directory_fd, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (run->lock_fd < 0) {
        /* A directory that was copied without it is nobody's. */
        return errno == ENOENT ? VERIFY_SOUND : refuse(run, "its lock cannot be opened");
    }
    if (flock(run->lock_fd, LOCK_SH | LOCK_NB)) {
        return refuse(run, errno == EWOULDBLOCK ? "a server is using the directory: stop it first"
                                                : "its lock cannot be taken");
    }
    return VERIFY_SOUND;
}

static bool look_at_group(void *context, uint64_t sequence, struct bytes bytes)
{
    struct run *run = context;
    struct record_group group;
    (void)sequence;
    run->report->log_groups++;
    run->report->log_bytes += bytes.size;
    if (!record_open_group(bytes, &group)) {
        run->report->damaged++;
        tell(run, "log: a group that cannot be understood");
    }
    return true;
}

static enum verify_result check_log(struct run *run, uint64_t applied)
{
    bool damaged = false;
    struct wal_trouble trouble;
    if (wal_verify(run->directory_fd, applied, look_at_group, run, &damaged, &trouble)) {
        return refuse(run, trouble.text);
    }
    if (damaged) {
        run->report->damaged++;
        tell(run, trouble.text);
    }
    return VERIFY_SOUND;
}

static enum verify_result check_tree(struct run *run, uint64_t *applied)
{
    struct tree_settings settings = {.readers = 1, .wall = clock_monotonic()};
    struct wal_trouble trouble;
    struct tree *tree;
    *applied = 0;
    if (tree_open(run->settings->directory, &settings, &tree, &trouble)) {
        if (trouble.error != EINVAL && trouble.error != EIO) {
            return refuse(run, trouble.text);
        }
        run->report->damaged++;
        tell(run, trouble.text);
        return VERIFY_DAMAGED;
    }
    struct tree_watch watch = {.found = tell, .progress = show, .context = run};
    struct tree_audit audit;
    enum status status = tree_watch_verify(tree, &watch, &audit, &trouble);
    *applied = tree_applied(tree);
    tree_close(tree);
    run->report->threads = audit.threads;
    run->report->steps = audit.steps;
    run->report->records = audit.records;
    run->report->bytes = audit.bytes;
    run->report->damaged += audit.damaged;
    return status ? refuse(run, trouble.text) : VERIFY_SOUND;
}

enum verify_result verify_run(const struct verify_settings *settings, struct verify_report *report)
{
    *report = (struct verify_report){0};
    struct run run = {.settings = settings, .report = report, .directory_fd = -1, .lock_fd = -1};
    uint64_t applied;
    enum verify_result result = lock(&run);
    result = result == VERIFY_SOUND ? check_tree(&run, &applied) : result;
    /* Without a tree nobody knows which of its groups the log still owes. */
    result = result == VERIFY_SOUND ? check_log(&run, applied) : result;
    if (run.lock_fd >= 0) {
        close(run.lock_fd);
    }
    if (run.directory_fd >= 0) {
        close(run.directory_fd);
    }
    return result == VERIFY_SOUND && report->damaged > 0 ? VERIFY_DAMAGED : result;
}
