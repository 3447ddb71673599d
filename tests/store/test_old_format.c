/*
 * A data directory of an older format is opened, read and grown; from its first opening on its tree
 * says the newest. The directory is made by this store and then rewritten to what an older one
 * leaves behind. Of format 2: all names at home, no table young, and a state that knows of none. Of
 * format 1 value by value also: other first bytes, other checksums, heads without a floor.
 */
#include "tests/store/test_store.h"
#include "tests/store/test_young.h"

#include "store/tree_private.h"
#include "store/verify.h"

#include <fcntl.h>
#include <xxhash.h>

enum { WITHOUT_FLOOR = 100, WITH_FLOOR = 104, TABLE_KEY_MAX = 511 };

static uint8_t text[10000];
static struct verify_report report;

static struct bytes text_of(size_t size)
{
    memset(text, 'e', sizeof text);
    return bytes_of(text, size);
}

/* That is made of the directory. */
static unsigned format;

/* ---- To an older format ---- */

/* A head without its floor; returns its size. */
static size_t drop_floor(uint8_t *head, size_t size)
{
    ck_assert_uint_ge(size, WITH_FLOOR);
    memmove(head + WITHOUT_FLOOR, head + WITH_FLOOR, size - WITH_FLOOR);
    return size - (WITH_FLOOR - WITHOUT_FLOOR);
}

/* The value as it is to be, to `made`; returns its size. */
static size_t make_old(MDB_val key, MDB_val value, uint8_t *made)
{
    uint8_t whole[TABLE_KEY_MAX + RECORD_VALUE_MAX];
    size_t size = value.mv_size - RECORD_SEAL_BYTES;
    uint8_t *body = made + RECORD_SEAL_BYTES;
    memcpy(made, value.mv_data, value.mv_size);
    ck_assert_uint_eq(made[0], 2);
    made[0] = (uint8_t)format;
    if (made[1] == RECORD_HEAD && format == 1) {
        size = drop_floor(body, size);
    } else if (key.mv_size == sizeof TREE_IDENTITY_KEY &&
               memcmp(key.mv_data, TREE_IDENTITY_KEY, key.mv_size) == 0) {
        bytes_store_be32(body + TREE_MARK_BYTES, format);
    } else if (key.mv_size == sizeof TREE_STATE_KEY &&
               memcmp(key.mv_data, TREE_STATE_KEY, key.mv_size) == 0) {
        size = TREE_STATE_BYTES_OLD;
    }
    bytes_store_be32(made + 4, (uint32_t)size);
    memcpy(whole, key.mv_data, key.mv_size);
    memcpy(whole + key.mv_size, made, 8);
    memcpy(whole + key.mv_size + 8, body, size);
    bytes_store_be64(made + 8, XXH3_64bits(whole, key.mv_size + 8 + size));
    return RECORD_SEAL_BYTES + size;
}

static void make_table_old(MDB_txn *txn, MDB_dbi table)
{
    uint8_t key_bytes[TABLE_KEY_MAX], made[RECORD_VALUE_MAX];
    MDB_cursor *cursor;
    MDB_val key, value;
    ck_assert_int_eq(mdb_cursor_open(txn, table, &cursor), 0);
    int code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; code == 0; code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        memcpy(key_bytes, key.mv_data, key.mv_size);
        MDB_val same = {.mv_size = key.mv_size, .mv_data = key_bytes};
        MDB_val old = {.mv_size = make_old(same, value, made), .mv_data = made};
        ck_assert_int_eq(mdb_cursor_put(cursor, &same, &old, MDB_CURRENT), 0);
    }
    ck_assert_int_eq(code, MDB_NOTFOUND);
    mdb_cursor_close(cursor);
}

static struct tree *open_tree_alone(void)
{
    struct tree_settings tree_settings = {
        .disk_bytes = 1 << 20, .tombstones = 1024, .readers = 4, .wall = &wall.clock};
    struct wal_trouble trouble;
    struct tree *tree;
    ck_assert_int_eq(tree_open(directory, &tree_settings, &tree, &trouble), STATUS_OK);
    return tree;
}

static void make_tree_old(void)
{
    struct tree *tree = open_tree_alone();
    MDB_txn *txn;
    bring_home(tree);
    ck_assert_int_eq(mdb_txn_begin(tree->env, NULL, 0, &txn), 0);
    for (unsigned i = 0; i < TREE_TABLE_COUNT; i++) {
        if (i != TREE_YOUNG) {
            make_table_old(txn, tree->tables[i]);
        }
    }
    MDB_stat young;
    ck_assert_int_eq(mdb_stat(txn, tree->tables[TREE_YOUNG], &young), 0);
    ck_assert_uint_eq(young.ms_entries, 0);
    ck_assert_int_eq(mdb_drop(txn, tree->tables[TREE_YOUNG], 1), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    tree_close(tree);
}

static bool no_group(void *context, uint64_t sequence, struct bytes group)
{
    (void)context;
    (void)sequence;
    (void)group;
    return false;
}

/* The change as a group of the older format, in the log and not yet in the tree. */
static void log_old(struct put *put, uint64_t applied)
{
    struct record_buffer buffer = {0};
    struct wal *wal;
    struct wal_trouble trouble;
    bool damaged = false;
    struct tree *tree = open_tree_alone();
    ck_assert(record_put_group(&buffer, &put->change, tree_secret(tree), RECORD_ZSTD));
    tree_close(tree);
    unpin_put(put);
    size_t size = buffer.size;
    if (format == 1) {
        buffer.data[0] = 1;
        size_t head_bytes = bytes_load_be32(buffer.data + 12);
        bytes_store_be32(buffer.data + 12, (uint32_t)drop_floor(buffer.data + 16, head_bytes));
        size_t rest = 16 + head_bytes;
        memmove(buffer.data + rest - 4, buffer.data + rest, buffer.size - rest);
        size -= 4;
    }
    int fd = open(directory, O_RDONLY | O_DIRECTORY);
    ck_assert_int_eq(wal_open(fd, applied, no_group, NULL, &wal, &damaged, &trouble), STATUS_OK);
    ck_assert_uint_gt(wal_add(wal, bytes_of(buffer.data, size)), applied);
    ck_assert_int_eq(wal_sync(wal, &trouble), STATUS_OK);
    wal_close(wal);
    close(fd);
    record_buffer_free(&buffer);
}

/* ---- What it says ---- */

/* In the identity's body; its seal says the same up to the format of records. */
static unsigned format_said(void)
{
    struct tree *tree = open_tree_alone();
    MDB_txn *txn;
    MDB_val key = tree_val(TREE_IDENTITY_KEY, sizeof TREE_IDENTITY_KEY), value;
    ck_assert_int_eq(mdb_txn_begin(tree->env, NULL, MDB_RDONLY, &txn), 0);
    ck_assert_int_eq(mdb_get(txn, tree->tables[TREE_META], &key, &value), 0);
    struct bytes body = tree_check(key, value, RECORD_META);
    ck_assert_ptr_nonnull(body.data);
    unsigned said = bytes_load_be32(body.data + TREE_MARK_BYTES);
    ck_assert_uint_eq(record_body_format(body), said < RECORD_FORMAT ? said : RECORD_FORMAT);
    mdb_txn_abort(txn);
    tree_close(tree);
    return said;
}

static enum verify_result verify(void)
{
    struct verify_settings verify_settings = {.directory = directory};
    return verify_run(&verify_settings, &report);
}

/* The thread is there, exact, with this floor. */
static void check_thread(const char *id, unsigned count, struct bytes payload, uint32_t floor)
{
    struct tier_load loaded = load(id, TIER_LOAD_THREAD, RECORD_THREAD);
    ck_assert_int_eq(loaded.found, TIER_FOUND);
    ck_assert_uint_eq(loaded.image->head.floor, floor);
    ck_assert_uint_eq(loaded.image->head.retention_ms, RETENTION_MS);
    ck_assert_uint_eq(loaded.image->step_count, count);
    for (unsigned i = 0; i < count; i++) {
        const struct step_parts *parts = &loaded.image->steps[i];
        ck_assert(!parts->corrupt && bytes_equal(parts->payload, payload));
    }
    free(loaded.image);
    for (unsigned i = 0; i < count; i++) {
        char call[48];
        snprintf(call, sizeof call, "call-%s-%u", id, i);
        loaded = load(call, TIER_LOAD_KEY, RECORD_TOOL_CALL);
        ck_assert_int_eq(loaded.found, TIER_FOUND);
        ck_assert_uint_eq(loaded.key.number, i);
    }
}

/* ---- Tests ---- */

/* `old` and `gone` in the tree and `late` in the log, all of the older format. */
static struct put *leave_behind(uint64_t *uid)
{
    done(make_put("old", 3, text_of(9000)), STATUS_OK);
    struct put *gone = make_put("gone", 1, text_of(10)), *late = make_put("late", 2, text_of(50));
    struct put *erase = make_erase(gone, REASON_FORGOTTEN);
    done(gone, STATUS_OK);
    done(erase, STATUS_OK);
    struct tier_load loaded = load("old", TIER_LOAD_THREAD, RECORD_THREAD);
    *uid = loaded.image->head.uid;
    free(loaded.image);
    store_settle(store);
    uint64_t applied = tree_applied(store->tree);
    close_store();
    make_tree_old();
    log_old(late, applied);
    return late;
}

static void check_all(void)
{
    check_thread("old", 3, text_of(9000), 0);
    check_thread("late", 2, text_of(50), 0);
    ck_assert_int_eq(found("gone"), TIER_TOMBSTONE);
}

static void check_that_it_is_read(void)
{
    uint64_t uid;
    struct put *late = leave_behind(&uid);
    ck_assert_uint_eq(format_said(), format);
    /* Who only looks leaves it as it is. */
    ck_assert_int_eq(verify(), VERIFY_SOUND);
    ck_assert_uint_eq(report.threads, 1);
    ck_assert_uint_eq(report.log_groups, 1);
    ck_assert_uint_eq(format_said(), format);
    open_store();
    check_all();
    close_store();
    ck_assert_uint_eq(format_said(), TREE_FORMAT);
    ck_assert_int_eq(verify(), VERIFY_SOUND);
    ck_assert_uint_eq(report.threads, 2);
    ck_assert_uint_eq(report.log_groups, 0);
    open_store();
    check_all();
    free_put(late);
}

static void check_that_it_grows_on(void)
{
    uint64_t uid;
    struct put *late = leave_behind(&uid);
    open_store();
    /* A fourth step to one of three, and a floor. */
    struct put *more = make_put("old", 4, text_of(9000));
    more->change.head.uid = uid;
    more->change.head.floor = 2;
    more->change.drop_from = 3;
    more->change.step_count = 1;
    more->change.steps += 3;
    for (unsigned i = 0; i < 3; i++) {
        step_unpin(more->steps[i]);
    }
    done(more, STATUS_OK);
    check_thread("old", 4, text_of(9000), 2);
    done(make_put("new", 2, text_of(300)), STATUS_OK);
    close_store();
    ck_assert_int_eq(verify(), VERIFY_SOUND);
    ck_assert_uint_eq(report.threads, 3);
    open_store();
    check_thread("old", 4, text_of(9000), 2);
    check_thread("new", 2, text_of(300), 0);
    check_thread("late", 2, text_of(50), 0);
    /* What is of the older format can go. */
    struct put *erase = make_erase(late, REASON_FORGOTTEN);
    done(erase, STATUS_OK);
    ck_assert_int_eq(found("late"), TIER_TOMBSTONE);
    free_put(late);
}

START_TEST(format_1_is_read)
{
    format = 1;
    check_that_it_is_read();
}
END_TEST

START_TEST(format_2_is_read)
{
    format = 2;
    check_that_it_is_read();
}
END_TEST

START_TEST(format_1_grows_on)
{
    format = 1;
    check_that_it_grows_on();
}
END_TEST

START_TEST(format_2_grows_on)
{
    format = 2;
    check_that_it_grows_on();
}
END_TEST

int main(void)
{
    return SUITE_RUN("old_format", setup, teardown, 60, format_1_is_read, format_2_is_read,
                     format_1_grows_on, format_2_grows_on);
}
