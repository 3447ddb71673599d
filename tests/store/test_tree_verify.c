/* The offline check finds nothing in what is sound, and whatever is done to any entry. */
#include "tests/store/test_image.h"
#include "tests/store/test_young.h"

#include "store/tree_read.h"

#include <stdio.h>

static char told[1 << 16];

static void collect(void *context, const char *text)
{
    size_t at = strlen(told);
    (void)context;
    snprintf(told + at, sizeof told - at, "%s\n", text);
}

static struct tree_audit verify(void)
{
    struct tree_audit audit;
    struct wal_trouble trouble;
    told[0] = 0;
    ck_assert_int_eq(tree_verify(image.tree, collect, NULL, &audit, &trouble), STATUS_OK);
    ck_assert_int_eq(audit.damaged > 0, told[0] != 0);
    return audit;
}

static struct sample one, two, gone;

static void put_some(void)
{
    sample_begin(&one, "secret one", 1);
    /* Of the names some at home, others in young. */
    sample_say(&one, "r0", "c0", bytes_text("zero"));
    sample_say(&one, "r1", NULL, bytes_of(noise, 9000));
    one.recalls[0] = (struct recall_entry){.key = {1, 2}, .ordinal = 1};
    one.recall_count = 1;
    sample_put(&one);
    bring_home(image.tree);
    sample_begin(&two, "secret two", 2);
    sample_say(&two, "r2", "c0", bytes_text("two"));
    sample_put(&two);
    sample_begin(&gone, "secret gone", 3);
    sample_say(&gone, "r3", NULL, bytes_text("three"));
    sample_put(&gone);
    sample_erase(&gone, REASON_EXPIRED);
}

START_TEST(nothing_is_wrong)
{
    struct tree_audit audit = verify();
    ck_assert_uint_eq(audit.damaged, 0);
    ck_assert_uint_eq(audit.threads, 0);
    put_some();
    audit = verify();
    ck_assert_msg(audit.damaged == 0, "%s", told);
    ck_assert_uint_eq(audit.threads, 2);
    ck_assert_uint_eq(audit.steps, 3);
    ck_assert_uint_eq(audit.records, tree_numbers(image.tree).records + 2);
    ck_assert_uint_gt(audit.bytes, 9000);
    uint64_t records = audit.records;
    tree_close(image.tree);
    image_reopen();
    audit = verify();
    ck_assert_uint_eq(audit.damaged, 0);
    ck_assert_uint_eq(audit.records, records);
}
END_TEST

/* Does something to the entry at that place of the table, and undoes it. False: no such place. */
static bool with_entry(enum tree_table table, unsigned place, int what, void (*check)(void))
{
    static uint8_t key[TREE_READ_KEY_MAX], value[RECORD_VALUE_MAX];
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val k, v;
    MDB_dbi dbi = image.tree->tables[table];
    ck_assert_int_eq(mdb_txn_begin(image.tree->env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_cursor_open(txn, dbi, &cursor), 0);
    int code = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
    for (unsigned i = 0; i < place && code == 0; i++) {
        code = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    if (code) {
        mdb_txn_abort(txn);
        return false;
    }
    size_t key_bytes = k.mv_size, value_bytes = v.mv_size;
    memcpy(key, k.mv_data, key_bytes);
    memcpy(value, v.mv_data, value_bytes);
    k = tree_val(key, key_bytes);
    if (what < 0) {
        ck_assert_int_eq(mdb_del(txn, dbi, &k, NULL), 0);
    } else {
        size_t at = (size_t)what < value_bytes ? (size_t)what : value_bytes - 1;
        value[at] ^= 0x10;
        v = tree_val(value, value_bytes);
        ck_assert_int_eq(mdb_put(txn, dbi, &k, &v, 0), 0);
        value[at] ^= 0x10;
    }
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    check();
    ck_assert_int_eq(mdb_txn_begin(image.tree->env, NULL, 0, &txn), 0);
    v = tree_val(value, value_bytes);
    ck_assert_int_eq(mdb_put(txn, dbi, &k, &v, 0), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    return true;
}

static void is_found(void)
{
    ck_assert_uint_gt(verify().damaged, 0);
    ck_assert(!strstr(told, "secret")); /* no id */
}

START_TEST(every_entry_spoilt)
{
    unsigned entries = 0;
    put_some();
    for (enum tree_table table = 0; table < TREE_TABLE_COUNT; table++) {
        static const int places[] = {0, 1, 9, 16, 20, RECORD_VALUE_MAX};
        for (unsigned i = 0; i < sizeof places / sizeof places[0]; i++) {
            for (unsigned place = 0; with_entry(table, place, places[i], is_found); place++) {
                entries++;
            }
        }
    }
    ck_assert_uint_ge(entries, 6 * 20);
    ck_assert_uint_eq(verify().damaged, 0);
}
END_TEST

/* What something else leads to, or counts. */
START_TEST(entries_that_are_gone)
{
    put_some();
    for (unsigned place = 0; with_entry(TREE_NAMES, place, -1, is_found); place++) {
    }
    for (unsigned place = 0; with_entry(TREE_DUE, place, -1, is_found); place++) {
    }
    for (unsigned place = 0; with_entry(TREE_RING, place, -1, is_found); place++) {
    }
    ck_assert_uint_eq(verify().damaged, 0);
    /* Of thread 1: head, (recall,) armed, chunks. */
    static const unsigned places[] = {0, 2, 3, 4, 5, 6};
    for (unsigned i = 0; i < sizeof places / sizeof places[0]; i++) {
        ck_assert(with_entry(TREE_DATA, places[i], -1, is_found));
    }
    ck_assert_uint_eq(verify().damaged, 0);
}
END_TEST

START_TEST(it_says_which_steps)
{
    put_some();
    struct tree_data_key key = tree_data_key(1, TREE_PART_STEPS + 1, 1);
    struct tree_txn txn;
    ck_assert_int_eq(tree_begin(image.tree, &txn), 0);
    ck_assert_int_eq(tree_delete(&txn, TREE_DATA, tree_val(key.bytes, sizeof key.bytes)), 0);
    ck_assert_int_eq(tree_commit(&txn), 0);
    ck_assert_uint_eq(verify().damaged, 1);
    ck_assert_str_eq(told, "data: thread 1: 1 records damaged or missing; steps that cannot be "
                           "read: 1\n");
}
END_TEST

START_TEST(a_file_cut_short_under_it)
{
    char path[96];
    put_some();
    snprintf(path, sizeof path, "%s/tree.mdb", image.directory);
    ck_assert_int_eq(truncate(path, 8192), 0);
    for (unsigned i = 0; i < 40; i++) { /* more often than there are readers' slots */
        ck_assert_uint_ge(verify().damaged, TREE_TABLE_COUNT);
    }
}
END_TEST

int main(void)
{
    return SUITE_RUN("tree_verify", image_open, image_close, 60, nothing_is_wrong,
                     every_entry_spoilt, entries_that_are_gone, it_says_which_steps,
                     a_file_cut_short_under_it);
}
