/*
 * The tree as a file: made, checked before it is mapped, and opened; what it says of itself.
 *
 * LMDB trusts its file: a short or damaged one ends in SIGBUS or worse. So before anything is
 * mapped the two meta pages are read with pread and compared with the file's size, and whatever
 * touches the map runs under a guard. A new file is made beside and renamed into place when it is
 * whole, so that a crash leaves either no tree or one that opens.
 */
#include "store/tree_private.h"

#include "base/random.h"
#include "store/guard.h"
#include "store/tree_names.h"
#include "store/tree_page.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "tree.mdb"
#define NEW_NAME  "tree.mdb.new"

static const uint8_t mark[TREE_MARK_BYTES] = {'r', 'e', 't', 'h', 'r', 'e', 'a', 'd'};

static const char *const table_names[TREE_TABLE_COUNT] = {
    [TREE_DATA] = "data", [TREE_NAMES] = "names", [TREE_KEYS] = "keys", [TREE_YOUNG] = "young",
    [TREE_DUE] = "due",   [TREE_TOMBS] = "tombs", [TREE_RING] = "ring", [TREE_META] = "meta",
};

enum {
    READERS_EXTRA = 16, /* beside the pool's: the filler's look for what is due, tools */
    FILE_MODE = 0600,
    LMDB_PAGE_HEADER_BYTES = 16,
    LMDB_META_BYTES = 152, /* header, magic, version, address, map size, two tables, last, txn */
    LMDB_MAGIC = (int)0xBEEFC0DE,
    LMDB_VERSION = 1,
    LMDB_PAGE_MAX = 1 << 16,
};

static const uint64_t map_least_bytes = (uint64_t)1 << 30;
static const uint64_t map_most_bytes = (uint64_t)1 << 40;

/* ---- Trouble ------------------------------------------------------------------------------- */

enum status tree_refuse(struct wal_trouble *trouble, int error, const char *call, const char *text)
{
    trouble->error = error;
    trouble->call = call;
    snprintf(trouble->text, sizeof trouble->text, "%s", text);
    return STATUS_INTERNAL;
}

/* ---- A file that is there: checked before it is mapped ------------------------------------- */

/* One of LMDB's two meta pages, in native order as LMDB writes it. */
struct lmdb_meta {
    uint32_t magic;
    uint32_t version;
    uint32_t page_bytes;
};

static bool read_lmdb_meta(int fd, off_t at, struct lmdb_meta *meta)
{
    uint8_t raw[LMDB_META_BYTES];
    if (pread(fd, raw, sizeof raw, at) != (ssize_t)sizeof raw) {
        return false;
    }
    memcpy(&meta->magic, raw + LMDB_PAGE_HEADER_BYTES, 4);
    memcpy(&meta->version, raw + LMDB_PAGE_HEADER_BYTES + 4, 4);
    memcpy(&meta->page_bytes, raw + LMDB_PAGE_HEADER_BYTES + 24, 4);
    return true;
}

static bool is_lmdb_meta(const struct lmdb_meta *meta)
{
    return meta->magic == (uint32_t)LMDB_MAGIC && meta->page_bytes >= 512 &&
           meta->page_bytes <= LMDB_PAGE_MAX && (meta->page_bytes & (meta->page_bytes - 1)) == 0;
}

static enum status check_lmdb(struct tree *tree, int fd, uint64_t size, struct wal_trouble *trouble)
{
    struct lmdb_meta one;
    struct lmdb_meta two;
    if (!read_lmdb_meta(fd, 0, &one) || !is_lmdb_meta(&one)) {
        return tree_refuse(trouble, EINVAL, "open",
                           FILE_NAME
                           " is no tree of rethread, or its first page is damaged; move it "
                           "away, or give another data directory.");
    }
    if (one.version != LMDB_VERSION) {
        return tree_refuse(trouble, EINVAL, "open",
                           FILE_NAME " has another version of LMDB's format; use the rethread that "
                                     "wrote it.");
    }
    if (size < 2 * (uint64_t)one.page_bytes || !read_lmdb_meta(fd, one.page_bytes, &two) ||
        !is_lmdb_meta(&two) || two.version != one.version || two.page_bytes != one.page_bytes) {
        return tree_refuse(trouble, EINVAL, "open",
                           FILE_NAME
                           " is cut short or its second page is damaged; restore it, or move "
                           "it away to start anew.");
    }
    tree->page_bytes = one.page_bytes;
    return STATUS_OK;
}

/* *size is 0 for none: to be made. An empty one was not made so: that is damage as any other. */
static enum status check_file(struct tree *tree, uint64_t *size, struct wal_trouble *trouble)
{
    *size = 0;
    int fd = openat(tree->directory_fd, FILE_NAME, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        struct stat link;
        /* Kept elsewhere, on a disk that is not there now: not the same as none. */
        return fstatat(tree->directory_fd, FILE_NAME, &link, AT_SYMLINK_NOFOLLOW)
                   ? STATUS_OK
                   : tree_refuse(trouble, ENOENT, "open",
                                 FILE_NAME " is a link that leads nowhere.");
    }
    if (fd < 0) {
        return tree_refuse(trouble, errno, "open", FILE_NAME " cannot be read.");
    }
    enum status status = STATUS_OK;
    struct stat stat;
    if (fstat(fd, &stat)) {
        status = tree_refuse(trouble, errno, "fstat", FILE_NAME " cannot be read.");
    } else if (!S_ISREG(stat.st_mode)) {
        status = tree_refuse(trouble, EINVAL, "open", FILE_NAME " is no regular file.");
    } else {
        *size = (uint64_t)stat.st_size;
        status = check_lmdb(tree, fd, *size, trouble);
        status = status ? status : tree_page_check_all(fd, tree->page_bytes, trouble);
    }
    close(fd);
    return status;
}

/* ---- Opening ------------------------------------------------------------------------------- */

struct opening {
    struct tree *tree;
    const char *directory;
    uint64_t map_bytes;
    struct wal_trouble *trouble;
    enum status status;
    char path[4096];
};

static void fail_assertion(MDB_env *env, const char *text)
{
    (void)env;
    (void)text;
    guard_fail();
}

static int open_env(struct opening *opening, const char *name, uint64_t map_bytes)
{
    struct tree *tree = opening->tree;
    int length = snprintf(opening->path, sizeof opening->path, "%s/%s", opening->directory, name);
    if (length < 0 || (size_t)length >= sizeof opening->path) {
        return ENAMETOOLONG;
    }
    int code = mdb_env_create(&tree->env);
    if (code) {
        tree->env = NULL;
        return code;
    }
    code = mdb_env_set_mapsize(tree->env, map_bytes);
    code = code ? code : mdb_env_set_maxdbs(tree->env, TREE_TABLE_COUNT);
    code = code ? code : mdb_env_set_maxreaders(tree->env, tree->settings.readers + READERS_EXTRA);
    code = code ? code : mdb_env_set_assert(tree->env, fail_assertion);
    code =
        code ? code : mdb_env_open(tree->env, opening->path, MDB_NOSUBDIR | MDB_NOTLS, FILE_MODE);
    int dead;
    return code ? code : mdb_reader_check(tree->env, &dead);
}

static int open_tables(struct tree *tree, MDB_txn *txn, unsigned flags)
{
    for (unsigned i = 0; i < TREE_TABLE_COUNT; i++) {
        if (i == TREE_YOUNG && !tree_has_young(tree)) {
            continue;
        }
        int code = mdb_dbi_open(txn, table_names[i], flags, &tree->tables[i]);
        if (code) {
            return code;
        }
    }
    return 0;
}

static int put_identity(struct tree_txn *txn, const uint8_t *secret, uint64_t first_run_ms)
{
    uint8_t body[TREE_IDENTITY_BYTES];
    memcpy(body, mark, sizeof mark);
    bytes_store_be32(body + TREE_MARK_BYTES, TREE_FORMAT);
    memcpy(body + TREE_MARK_BYTES + 4, secret, TREE_SECRET_BYTES);
    bytes_store_be64(body + TREE_MARK_BYTES + 4 + TREE_SECRET_BYTES, first_run_ms);
    MDB_val key = tree_val(TREE_IDENTITY_KEY, sizeof TREE_IDENTITY_KEY);
    return tree_put(txn, TREE_META, key, RECORD_META, bytes_of(body, sizeof body));
}

static int fill_new(struct tree *tree)
{
    struct tree_txn txn = {.tree = tree};
    tree->format = TREE_FORMAT;
    int code = mdb_txn_begin(tree->env, NULL, 0, &txn.txn);
    code = code ? code : open_tables(tree, txn.txn, MDB_CREATE);
    uint8_t secret[TREE_SECRET_BYTES];
    uint64_t now_ms = clock_read_ms(tree->settings.wall);
    random_fill(secret, sizeof secret);
    code = code ? code : put_identity(&txn, secret, now_ms);
    txn.state = (struct tree_state){.next_uid = 1, .vouch_since_ms = now_ms};
    code = code ? code : tree_commit(&txn);
    tree_abort(&txn);
    return code;
}

/* Makes the file under another name, whole and durable, and moves it into place. */
static void make_file(void *context)
{
    struct opening *opening = context;
    struct tree *tree = opening->tree;
    int fd = tree->directory_fd;
    unlinkat(fd, NEW_NAME, 0); /* of a start that did not come to its end */
    int code = open_env(opening, NEW_NAME, map_least_bytes);
    tree->page_bytes = (unsigned)sysconf(_SC_PAGESIZE);
    code = code ? code : fill_new(tree);
    if (tree->env) {
        mdb_env_close(tree->env);
        tree->env = NULL;
    }
    if (code == 0 && (renameat(fd, NEW_NAME, fd, FILE_NAME) || fsync(fd))) {
        code = errno;
    }
    unlinkat(fd, NEW_NAME "-lock", 0);
    if (code) {
        unlinkat(fd, NEW_NAME, 0);
        opening->status = tree_refuse(opening->trouble, code > 0 ? code : EIO, "open", "");
        snprintf(opening->trouble->text, sizeof opening->trouble->text,
                 FILE_NAME " cannot be made in the data directory: %s.", mdb_strerror(code));
    }
}

static enum status read_identity(struct tree *tree, MDB_val value, struct wal_trouble *trouble)
{
    MDB_val key = tree_val(TREE_IDENTITY_KEY, sizeof TREE_IDENTITY_KEY);
    struct bytes body = tree_check(key, value, RECORD_META);
    if (!body.data && record_is_newer(tree_bytes(value))) {
        return tree_refuse(trouble, EINVAL, "open",
                           FILE_NAME " was written by a newer rethread; use that one.");
    }
    if (!body.data || body.size < sizeof mark + 4 || memcmp(body.data, mark, sizeof mark) != 0) {
        return tree_refuse(trouble, EINVAL, "open",
                           FILE_NAME
                           " is damaged where it says what it is; restore it, or move it away "
                           "to start anew.");
    }
    tree->format = bytes_load_be32(body.data + TREE_MARK_BYTES);
    if (tree->format > TREE_FORMAT) {
        return tree_refuse(trouble, EINVAL, "open",
                           FILE_NAME " was written by a newer rethread; use that one.");
    }
    if (body.size != TREE_IDENTITY_BYTES || tree->format < TREE_FORMAT_OLDEST) {
        return tree_refuse(trouble, EINVAL, "open", FILE_NAME " has an unknown layout.");
    }
    memcpy(tree->secret, body.data + TREE_MARK_BYTES + 4, TREE_SECRET_BYTES);
    tree->first_run_ms = bytes_load_be64(body.data + TREE_MARK_BYTES + 4 + TREE_SECRET_BYTES);
    return STATUS_OK;
}

static enum status read_meta(struct tree *tree, MDB_txn *txn, struct wal_trouble *trouble)
{
    MDB_dbi meta;
    MDB_val value;
    MDB_val key = tree_val(TREE_IDENTITY_KEY, sizeof TREE_IDENTITY_KEY);
    if (mdb_dbi_open(txn, table_names[TREE_META], 0, &meta) || mdb_get(txn, meta, &key, &value)) {
        return tree_refuse(trouble, EINVAL, "open",
                           FILE_NAME
                           " is a database, but none of rethread; move it away, or give another "
                           "data directory.");
    }
    enum status status = read_identity(tree, value, trouble);
    if (status) {
        return status;
    }
    struct tree_counts counts;
    key = tree_val(TREE_STATE_KEY, sizeof TREE_STATE_KEY);
    int code = open_tables(tree, txn, 0);
    code = code ? code : mdb_get(txn, meta, &key, &value);
    code = code ? code : tree_count_tables(tree, txn, &counts);
    if (code || !tree_open_state(tree_check(key, value, RECORD_META), &tree->state)) {
        return tree_refuse(trouble, EINVAL, "open",
                           FILE_NAME
                           " is damaged: a table, or the record of its state; restore it, or "
                           "move it away to start anew.");
    }
    tree_publish(tree, &counts);
    return STATUS_OK;
}

/* Reads only; the tables' handles stay when the transaction is committed. */
static void open_file(void *context)
{
    struct opening *opening = context;
    struct tree *tree = opening->tree;
    MDB_txn *txn = NULL;
    int code = open_env(opening, FILE_NAME, opening->map_bytes);
    code = code ? code : mdb_txn_begin(tree->env, NULL, MDB_RDONLY, &txn);
    if (code) {
        opening->status = tree_refuse(opening->trouble, code > 0 ? code : EINVAL, "open", "");
        snprintf(opening->trouble->text, sizeof opening->trouble->text,
                 FILE_NAME " cannot be opened for writing: %s.", mdb_strerror(code));
        return;
    }
    opening->status = read_meta(tree, txn, opening->trouble);
    if (opening->status) {
        mdb_txn_abort(txn);
    } else {
        mdb_txn_commit(txn);
    }
}

static enum status run(struct opening *opening, guard_body_fn *body)
{
    opening->status = STATUS_OK;
    if (!guard_run(body, opening)) {
        opening->status =
            tree_refuse(opening->trouble, EIO, "open",
                        FILE_NAME " is damaged beyond reading; restore it, or move it "
                                  "away to start anew.");
    }
    return opening->status;
}

static uint64_t map_size(uint64_t asked, uint64_t file_bytes)
{
    /* A file that is larger (of a larger budget) must fit with room to work in. */
    uint64_t least = file_bytes ? file_bytes + map_least_bytes : 0;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    return ((asked > least ? asked : least) + page - 1) / page * page;
}

static enum status open_mapped(const char *directory, const struct tree_settings *settings,
                               uint64_t map_bytes, bool exactly, struct tree **tree,
                               struct wal_trouble *trouble)
{
    *trouble = (struct wal_trouble){0};
    struct tree *made = calloc(1, sizeof *made);
    if (!made) {
        return tree_refuse(trouble, ENOMEM, "malloc", "No memory for the tree.");
    }
    made->settings = *settings;
    made->txn_cost = TREE_TXN_COST;
    made->txn_bytes = TREE_TXN_BYTES;
    made->run_names = TREE_RUN_NAMES;
    made->directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (made->directory_fd < 0) {
        tree_refuse(trouble, errno, "open", "The data directory cannot be opened.");
        tree_close(made);
        return STATUS_INTERNAL;
    }
    struct opening opening = {.tree = made, .directory = directory, .trouble = trouble};
    uint64_t file_bytes;
    enum status status = check_file(made, &file_bytes, trouble);
    if (status == STATUS_OK && file_bytes == 0) {
        status = run(&opening, make_file);
    }
    if (status == STATUS_OK) {
        opening.map_bytes = map_size(map_bytes, exactly ? 0 : file_bytes);
        status = run(&opening, open_file);
    }
    if (status) {
        tree_close(made);
        return status;
    }
    *tree = made;
    return STATUS_OK;
}

enum status tree_open_mapped(const char *directory, const struct tree_settings *settings,
                             size_t map_bytes, struct tree **tree, struct wal_trouble *trouble)
{
    return open_mapped(directory, settings, map_bytes, true, tree, trouble);
}

enum status tree_open(const char *directory, const struct tree_settings *settings,
                      struct tree **tree, struct wal_trouble *trouble)
{
    uint64_t bytes = settings->disk_bytes;
    bytes = bytes > map_most_bytes / 4 ? map_most_bytes : bytes * 4;
    return open_mapped(directory, settings, bytes < map_least_bytes ? map_least_bytes : bytes,
                       false, tree, trouble);
}

void tree_take_turns(struct tree *tree, tree_turn_fn *turn, void *context)
{
    tree->turn = turn;
    tree->turn_context = context;
}

void tree_ask_for_names(struct tree *tree, tree_ask_fn *ask, void *context)
{
    tree->ask = ask;
    tree->ask_context = context;
}

void tree_compress(struct tree *tree, bool compress)
{
    tree->compresses = compress;
}

struct renewing {
    struct tree *tree;
    int code;
};

static void renew(void *context)
{
    struct renewing *renewing = context;
    struct tree *tree = renewing->tree;
    struct tree_txn txn;
    int code = tree_begin(tree, &txn);
    if (code == 0 && !tree_has_young(tree)) {
        code =
            mdb_dbi_open(txn.txn, table_names[TREE_YOUNG], MDB_CREATE, &tree->tables[TREE_YOUNG]);
    }
    code = code ? code : put_identity(&txn, tree->secret, tree->first_run_ms);
    code = code ? code : tree_commit(&txn);
    tree_abort(&txn);
    renewing->code = code;
}

enum status tree_renew(struct tree *tree, struct wal_trouble *trouble)
{
    *trouble = (struct wal_trouble){0};
    struct renewing renewing = {.tree = tree};
    if (tree->format == TREE_FORMAT) {
        return STATUS_OK;
    }
    if (!guard_run(renew, &renewing)) {
        tree_set_broken(tree);
        return tree_refuse(trouble, EIO, "renew", "The tree's file is damaged: a fault inside it.");
    }
    if (renewing.code) {
        return tree_fail(tree, renewing.code, trouble);
    }
    tree->format = TREE_FORMAT;
    return STATUS_OK;
}

static void close_env(void *context)
{
    struct tree *tree = context;
    mdb_env_close(tree->env);
}

void tree_close(struct tree *tree)
{
    if (!tree) {
        return;
    }
    if (tree->env) {
        guard_run(close_env, tree);
    }
    if (tree->directory_fd >= 0) {
        close(tree->directory_fd);
    }
    record_buffer_free(&tree->scratch);
    free(tree);
}

/* ---- What it says of itself ---------------------------------------------------------------- */

const uint8_t *tree_secret(const struct tree *tree)
{
    return tree->secret;
}

uint64_t tree_applied(const struct tree *tree)
{
    return tree_read_one(&tree->published.applied);
}

uint64_t tree_next_uid(const struct tree *tree)
{
    return tree_read_one(&tree->published.next_uid);
}

struct tree_numbers tree_numbers(const struct tree *tree)
{
    const struct tree_published *from = &tree->published;
    return (struct tree_numbers){
        .file_bytes = tree_read_one(&from->file_bytes),
        .used_bytes = tree_read_one(&from->used_bytes),
        .live_bytes = tree_read_one(&from->live_bytes),
        .records = tree_read_one(&from->records),
        .threads = tree_read_one(&from->threads),
        .names = tree_read_one(&from->names),
        .tombstones = tree_read_one(&from->tombstones),
        .vouch_since_ms = tree_read_one(&from->vouch_since_ms),
        .commits = tree_read_one(&from->commits),
        .damaged = tree_read_one(&from->damaged),
        .broken = tree_is_broken(tree),
    };
}
