/*
 * Every byte of a small store image, flipped in turn: never a wrong byte, never a record under
 * another key, never a crash, never a hang.
 *
 * Two images. A tree with threads, keys, tombstones and pages that lie about from earlier states: a
 * load gives exactly what it gave before, or less with damage reported; a thread or key that seems
 * never to have been is allowed only when tree_verify finds the damage. And a log over an empty
 * tree: what is recovered is what some number of its groups comes to, all of them but the last
 * batch unless damage is reported (that a last batch is damaged and not torn nobody can know).
 *
 * Children do a range of flips each, and say in shared memory where they are. The plain build flips
 * every byte of the tree's meta pages and of all headers, and a sample of the rest;
 * RETHREAD_FLIPS=all flips all (some minutes), sanitizers a small sample.
 */
#include "tests/store/test_survey.h"

#include "store/guard.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { STRIDE_FIRST = 67, STRIDE_REST = 331, STRIDE_LOG = 331 };
#else
enum { STRIDE_FIRST = 1, STRIDE_REST = 11, STRIDE_LOG = 13 };
#endif

enum {
    FIRST_BYTES = 2 << 12, /* the meta pages */
    PAGE_FIRST_BYTES = 64, /* of every page */
    RANGE = 2048,          /* bytes that one child goes over */
    FLIP_SECONDS = 120,
    GROUPS_MAX = 64,
};

/* ---- Images -----------------------------------------------------------------------------------
 */

struct file {
    char name[32];
    uint8_t *data;
    size_t size;
};

static struct file tree_file;
static struct file log_file;
static struct survey meant;
static struct survey after[GROUPS_MAX]; /* so many groups of the log */
static unsigned group_count, vouched_count;

static void read_file(struct file *file)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", image.directory, file->name);
    int fd = open(path, O_RDONLY);
    ck_assert_int_ge(fd, 0);
    file->size = (size_t)lseek(fd, 0, SEEK_END);
    file->data = malloc(file->size);
    ck_assert_ptr_nonnull(file->data);
    ck_assert_int_eq(pread(fd, file->data, file->size, 0), (ssize_t)file->size);
    close(fd);
}

static void write_file(const struct file *file)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", image.directory, file->name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, file->data, file->size, 0), (ssize_t)file->size);
    close(fd);
}

static void empty_directory(void)
{
    DIR *all = opendir(image.directory);
    ck_assert_ptr_nonnull(all);
    for (struct dirent *one; (one = readdir(all));) {
        if (one->d_name[0] != '.') {
            unlinkat(dirfd(all), one->d_name, 0);
        }
    }
    closedir(all);
}

static struct sample samples[6];

/* A step with token ids, packed and more than a chunk, text, and the hash of a visible message. */
static void say_tokens(struct sample *sample, const char *response_id)
{
    static struct ask ask;
    ask_begin(&ask, WIRE_METHOD_APPEND, sample->head.id);
    ask_set(&ask, response_id, bytes_text(response_id));
    ask_set(&ask, visible, bytes_of(noise + 16, 16));
    ask_kind(&ask, WIRE_KIND_TOKENS);
    ask_payload(&ask, bytes_of(narrow_ids, 8000));
    ask_kind(&ask, WIRE_KIND_TEXT);
    ask_payload(&ask, bytes_text("text"));
    sample_add(sample, &ask);
}

/* What the groups of both images are: puts, appends, a rewind, an erasure, a shared key. */
static void play_history(void (*each)(const struct tier_change *change))
{
    static const char *const ids[] = {"a", "b", "c", "d", "e", "gone"};
    for (unsigned i = 0; i < 6; i++) {
        sample_begin(&samples[i], ids[i], 1 + i);
        samples[i].head.tokens = 0;
    }
#define EACH(...)                                                                                  \
    do {                                                                                           \
        struct tier_change change = __VA_ARGS__;                                                   \
        each(&change);                                                                             \
    } while (0)
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < 6; i++) {
            char key[16];
            snprintf(key, sizeof key, "r%s%u", ids[i], round);
            struct sample *sample = &samples[i];
            if (i == 5 && round > 0) {
                continue;
            }
            struct recall_entry recall = {.key = {.low = i, .high = round},
                                          .ordinal = round + 1,
                                          .step = round,
                                          .version = round + 1};
            sample->head.floor = i == 1 ? round : 0;
            if (i == 4 && round == 2) {
                say_tokens(sample, key);
            } else {
                sample_say(sample,
                           i == 5                 ? "rgone"
                           : round == 4 && i == 2 ? "cut"
                                                  : key,
                           i < 2 ? "shared" : NULL,
                           bytes_of(i == 0 ? noise : prose, 40 + (i == 3 ? 5000 : 300) * round));
            }
            struct tier_change change = sample_change(sample, UINT32_MAX, sample->head.length - 1);
            change.recalls = &recall;
            change.recall_count = i == 1;
            each(&change);
        }
    }
    EACH((struct tier_change){
        .kind = TIER_ERASE, .head = samples[5].head, .reason = REASON_EXPIRED});
    sample_rewind(&samples[2], 3);
    EACH(sample_change(&samples[2], 3, 3));
    sample_say(&samples[2], NULL, NULL, bytes_text("anew"));
    EACH(sample_change(&samples[2], UINT32_MAX, 3));
#undef EACH
}

static void close_tree(void)
{
    tree_close(image.tree);
    image.tree = NULL;
}

static void make_tree_image(void)
{
    play_history(image_apply);
    take_survey(&meant);
    close_tree();
    snprintf(tree_file.name, sizeof tree_file.name, "tree.mdb");
    read_file(&tree_file);
}

static struct wal *wal;
static int directory_fd;

static bool play_none(void *context, uint64_t sequence, struct bytes group)
{
    (void)context, (void)sequence, (void)group;
    return true;
}

/* Three changes a batch. */
static void log_one(const struct tier_change *change)
{
    struct wal_trouble trouble;
    ck_assert_uint_eq(wal_add(wal, image_encode(change)), ++group_count);
    if (group_count % 3 == 0) {
        vouched_count = group_count - 3;
        ck_assert_int_eq(wal_sync(wal, &trouble), STATUS_OK);
    }
}

static bool play_into_tree(void *context, uint64_t sequence, struct bytes bytes)
{
    struct tree_group group = {.bytes = bytes, .sequence = sequence};
    struct wal_trouble trouble;
    size_t taken;
    (void)context;
    return tree_apply(image.tree, &group, 1, &taken, NULL, NULL, &trouble) == STATUS_OK;
}

static bool survey_each(void *context, uint64_t sequence, struct bytes bytes)
{
    ck_assert(play_into_tree(context, sequence, bytes));
    ck_assert_uint_lt(sequence, GROUPS_MAX);
    take_survey(&after[sequence]);
    return true;
}

static void find_log(void)
{
    DIR *all = opendir(image.directory);
    ck_assert_ptr_nonnull(all);
    for (struct dirent *one; (one = readdir(all));) {
        if (strncmp(one->d_name, "log-", 4) == 0) {
            ck_assert(log_file.name[0] == 0); /* one only */
            snprintf(log_file.name, sizeof log_file.name, "%.31s", one->d_name);
        }
    }
    closedir(all);
}

/* The tree is the empty one, the log has all. */
static void make_log_image(void)
{
    struct wal_trouble trouble;
    bool broken = false;
    directory_fd = open(image.directory, O_RDONLY | O_DIRECTORY);
    ck_assert_int_eq(wal_open(directory_fd, 0, play_none, NULL, &wal, &broken, &trouble),
                     STATUS_OK);
    group_count = vouched_count = 0;
    play_history(log_one);
    if (group_count % 3) {
        vouched_count = group_count - group_count % 3;
        ck_assert_int_eq(wal_sync(wal, &trouble), STATUS_OK);
    }
    wal_close(wal);
    close_tree();
    snprintf(tree_file.name, sizeof tree_file.name, "tree.mdb");
    read_file(&tree_file);
    find_log();
    read_file(&log_file);
    /* The zeros behind are many, and all alike. */
    while (log_file.size > 64 && !log_file.data[log_file.size - 65]) {
        log_file.size--;
    }
    log_file.size = (log_file.size + 7) / 8 * 8;
    image_reopen();
    take_survey(&after[0]);
    ck_assert_int_eq(wal_open(directory_fd, 0, survey_each, NULL, &wal, &broken, &trouble),
                     STATUS_OK);
    ck_assert(!broken);
    wal_close(wal);
    close_tree();
}

/* ---- Flips ------------------------------------------------------------------------------------
 */

/* Where a child is, and what it has seen. */
struct report {
    volatile size_t offset;
    volatile unsigned mask;
    volatile bool bad;
    uint64_t flips, refused, exact, seen, silent;
    char text[256];
};

static struct report *report;

static void blame(const char *what, unsigned question)
{
    snprintf(report->text, sizeof report->text, "%s: question %u (%s)", what, question,
             questions[question].id);
    report->bad = true;
}

static void ignore_damage(void *context, const char *text)
{
    (void)context, (void)text;
}

static bool verify_finds_it(void)
{
    struct tree_audit audit;
    struct wal_trouble trouble;
    return tree_verify(image.tree, ignore_damage, NULL, &audit, &trouble) != STATUS_OK ||
           audit.damaged > 0;
}

static bool open_flipped(void)
{
    struct tree_settings settings = image_settings();
    struct wal_trouble trouble;
    if (tree_open(image.directory, &settings, &image.tree, &trouble) == STATUS_OK) {
        return true;
    }
    image.tree = NULL;
    report->refused++;
    return false;
}

static void flip_tree(void)
{
    enum verdict worst = EXACT;
    if (!open_flipped()) {
        return;
    }
    for (unsigned i = 0; i < QUESTIONS && !report->bad; i++) {
        struct outcome is;
        ask_tree(&questions[i], &is);
        enum verdict verdict = judge(&is, &meant.outcomes[i]);
        if (verdict == WRONG) {
            blame("wrong", i);
        } else if (verdict == SILENT && !verify_finds_it()) {
            blame("gone, and nobody could know", i);
        }
        worst = verdict > worst ? verdict : worst;
    }
    report->exact += worst == EXACT;
    report->seen += worst == DAMAGE_SEEN;
    report->silent += worst == SILENT;
    close_tree();
}

/* One flip at a time, in place; the file is as it was afterwards. */
static void flip_tree_byte(size_t offset, uint8_t mask)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", image.directory, tree_file.name);
    int fd = open(path, O_WRONLY);
    uint8_t byte = tree_file.data[offset] ^ mask;
    bool done = fd >= 0 && pwrite(fd, &byte, 1, (off_t)offset) == 1;
    flip_tree();
    byte = tree_file.data[offset];
    done = done && pwrite(fd, &byte, 1, (off_t)offset) == 1;
    if (!done) {
        blame("the file cannot be written", 0);
    }
    close(fd);
}

/* Whether all answers are those after `groups` groups. */
static bool is_after(const struct survey *is, unsigned groups)
{
    for (unsigned i = 0; i < QUESTIONS; i++) {
        if (judge(&is->outcomes[i], &after[groups].outcomes[i]) != EXACT) {
            return false;
        }
    }
    return true;
}

static void judge_recovery(bool damaged)
{
    static struct survey is;
    take_survey(&is);
    /* The tree says how far it came, and has just that. */
    uint64_t applied = tree_applied(image.tree);
    if (applied > group_count || !is_after(&is, (unsigned)applied)) {
        blame("recovered what never was", 0);
    } else if (applied < vouched_count && !damaged) {
        blame("lost what was acknowledged, without a word", 0);
    }
    report->exact += applied == group_count;
    report->seen += applied < group_count && damaged;
    report->silent += applied < group_count && !damaged;
}

static void flip_log_byte(size_t offset, uint8_t mask)
{
    struct wal_trouble trouble;
    bool damaged = false;
    empty_directory();
    write_file(&tree_file);
    log_file.data[offset] ^= mask;
    write_file(&log_file);
    log_file.data[offset] ^= mask;
    if (!open_flipped()) {
        blame("the tree is not opened", 0);
        return;
    }
    enum status status = wal_open(directory_fd, 0, play_into_tree, NULL, &wal, &damaged, &trouble);
    if (status == STATUS_OK) {
        judge_recovery(damaged);
        wal_close(wal);
    } else {
        report->refused++;
    }
    close_tree();
}

typedef void flip_fn(size_t offset, uint8_t mask);

static bool is_chosen(size_t offset, size_t first_bytes, unsigned stride_first, unsigned stride)
{
    /* Where a page begins it says what is where. */
    bool first = offset < first_bytes || offset % 4096 < PAGE_FIRST_BYTES;
    return offset % (first ? stride_first : stride) == 0;
}

static void flip_range(flip_fn *flip, size_t from, size_t to, size_t first_bytes,
                       unsigned stride_first, unsigned stride)
{
    static const uint8_t masks[] = {0xFF, 0x01};
    struct rlimit none = {0};
    (void)setrlimit(RLIMIT_CORE, &none);
    if (from == 0) {
        flip(0, 0); /* a control: nothing is changed, so all is exact */
    }
    for (size_t offset = from; offset < to && !report->bad; offset++) {
        for (unsigned i = 0; i < 2 && !report->bad; i++) {
            if (is_chosen(offset, first_bytes, stride_first, stride)) {
                report->offset = offset;
                report->mask = masks[i];
                report->flips++;
                alarm(FLIP_SECONDS);
                flip(offset, masks[i]);
            }
        }
    }
}

static void flip_all(flip_fn *flip, size_t size, size_t first_bytes, unsigned stride_first,
                     unsigned stride)
{
    if (getenv("RETHREAD_FLIPS") && strcmp(getenv("RETHREAD_FLIPS"), "all") == 0) {
        stride_first = stride = 1;
    }
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(report, MAP_FAILED);
    unsigned failures = 0;
    for (size_t from = 0; from < size; from += RANGE) {
        size_t to = from + RANGE < size ? from + RANGE : size;
        report->bad = false;
        report->text[0] = 0;
        (void)fflush(NULL);
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            flip_range(flip, from, to, first_bytes, stride_first, stride);
            _exit(0);
        }
        int status = 0;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        if (status || report->bad) {
            fprintf(stderr, "byte %zu ^ %02X: status %x, %s\n", report->offset, report->mask,
                    (unsigned)status, report->text);
            failures++;
        }
    }
    printf("%zu bytes, %llu flips: %llu exact, %llu with damage seen, %llu refused, %llu silent\n",
           size, (unsigned long long)report->flips, (unsigned long long)report->exact,
           (unsigned long long)report->seen, (unsigned long long)report->refused,
           (unsigned long long)report->silent);
    (void)fflush(stdout);
    ck_assert_uint_eq(failures, 0);
    /* It would be a poor image in which nothing matters, or that is not exact to begin with. */
    ck_assert_uint_gt(report->seen, 0);
    ck_assert_uint_gt(report->exact, 0);
}

START_TEST(every_byte_of_the_tree)
{
    make_tree_image();
    flip_all(flip_tree_byte, tree_file.size, FIRST_BYTES, STRIDE_FIRST, STRIDE_REST);
    free(tree_file.data);
    image_reopen();
}
END_TEST

START_TEST(every_byte_of_the_log)
{
    make_log_image();
    flip_all(flip_log_byte, log_file.size, WAL_HEADER_BYTES + WAL_GROUP_HEADER_BYTES, STRIDE_FIRST,
             STRIDE_LOG);
    free(tree_file.data);
    free(log_file.data);
    close(directory_fd);
    empty_directory();
    image_reopen();
}
END_TEST

int main(void)
{
    return SUITE_RUN("flips", image_open, image_close, 600, every_byte_of_the_tree,
                     every_byte_of_the_log);
}
