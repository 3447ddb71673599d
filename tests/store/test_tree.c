/* The file of a tree: made, kept, and refused when it is not what it must be. */
#include "tests/store/test_tree.h"

/* tree.mdb as it lies there is refused with these words and left alone. */
static void check_refused(const char *words)
{
    struct bytes before = read_file("tree.mdb");
    trouble = (struct wal_trouble){0};
    ck_assert_int_eq(tree_open(directory, &settings, &tree, &trouble), STATUS_INTERNAL);
    ck_assert_ptr_null(tree);
    ck_assert_msg(strstr(trouble.text, words), "\"%s\" lacks \"%s\"", trouble.text, words);
    ck_assert(trouble.text[strlen(trouble.text) - 1] == '.');
    ck_assert_int_ne(trouble.error, 0);
    struct bytes after = read_file("tree.mdb");
    ck_assert(bytes_equal(before, after));
    let_go(before);
    let_go(after);
}

START_TEST(a_file_that_is_cut_short_is_refused)
{
    const struct step *step = make_step(0, 1, NULL, 200000);
    put(head_of(1, "t", 1, 1), 0, REASON_NONE, &step, 1);
    close_tree();
    struct bytes whole = read_file("tree.mdb");
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    write_file("tree.mdb", bytes_of(whole.data, whole.size - page));
    check_refused("is cut short");
    write_file("tree.mdb", bytes_of(whole.data, whole.size - 1));
    check_refused("is cut short");
    write_file("tree.mdb", bytes_of(whole.data, 2 * page - 1));
    check_refused("is cut short");
    write_file("tree.mdb", bytes_of(whole.data, 100));
    check_refused("is no tree");
    /* A torn page behind the last, as a power cut may leave it. */
    uint8_t *longer = calloc(1, whole.size + 700);
    memcpy(longer, whole.data, whole.size);
    write_file("tree.mdb", bytes_of(longer, whole.size + 700));
    open_tree();
    ck_assert_int_eq(find_thread("t"), TIER_FOUND);
    append(1, "t", 1, NULL);
    check_tree();
    free(longer);
    let_go(whole);
}
END_TEST

/* In one bite: a thread comes, grows by a large step, and goes. */
static void come_and_go(uint64_t uid, size_t size)
{
    struct record_buffer buffer = {0};
    const struct step *steps[] = {make_step(0, 1, NULL, 100), make_step(1, 2, NULL, size)};
    struct tier_change changes[] = {
        {.kind = TIER_PUT, .head = head_of(uid, "t", 1, 1), .steps = steps, .step_count = 1},
        {.kind = TIER_PUT,
         .head = head_of(uid, "t", 2, 2),
         .drop_from = 1,
         .steps = steps + 1,
         .step_count = 1},
        {.kind = TIER_ERASE, .head = head_of(uid, "t", 2, 2)}};
    size_t ends[4] = {0};
    struct tree_group groups[3];
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(record_put_group(&buffer, &changes[i], secret, RECORD_PLAIN));
        ends[i + 1] = buffer.size;
    }
    for (unsigned i = 0; i < 3; i++) {
        groups[i] =
            (struct tree_group){.bytes = bytes_of(buffer.data + ends[i], ends[i + 1] - ends[i]),
                                .sequence = ++sequence};
        if (i > 0) {
            step_discard(domain.lane, (struct step *)(uintptr_t)steps[i - 1]);
        }
    }
    size_t taken;
    ck_assert_int_eq(tree_apply(tree, groups, 3, &taken, tell, NULL, &trouble), STATUS_OK);
    record_buffer_free(&buffer);
}

/* LMDB does not write pages that a transaction takes and gives back, so the file may end early. */
START_TEST(a_file_that_ends_before_free_pages_is_whole)
{
    struct bytes whole = {0};
    uint64_t all_bytes = 0;
    for (unsigned i = 0; i < 100 && whole.size >= all_bytes; i++) {
        let_go(whole);
        append(1, "kept", i, NULL);
        come_and_go(2 + i, 20000 + 10000 * i);
        all_bytes = tree_numbers(tree).file_bytes;
        whole = read_file("tree.mdb");
    }
    ck_assert_uint_lt(whole.size, all_bytes);
    reopen_tree();
    ck_assert_int_eq(find_thread("kept"), TIER_FOUND);
    check_tree();
    close_tree();
    /* Fewer, and something is missing. */
    write_file("tree.mdb", bytes_of(whole.data, whole.size / 4));
    check_refused("is cut short");
    let_go(whole);
}
END_TEST

START_TEST(a_foreign_file_is_refused)
{
    close_tree();
    write_file("tree.mdb", bytes_of(noise, 100000));
    check_refused("is no tree");
    write_file("tree.mdb", bytes_text("no"));
    check_refused("is no tree");
    /* Another program's database. */
    remove_files();
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val text = tree_val("hello", 5);
    char path[128];
    path_of(path, "tree.mdb");
    ck_assert_int_eq(mdb_env_create(&env), 0);
    ck_assert_int_eq(mdb_env_open(env, path, MDB_NOSUBDIR, 0600), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    ck_assert_int_eq(mdb_put(txn, dbi, &text, &text, 0), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    check_refused("none of rethread");
}
END_TEST

START_TEST(a_newer_format_is_refused)
{
    uint8_t value[RECORD_VALUE_MAX];
    size_t size;
    MDB_val key = tree_val(TREE_IDENTITY_KEY, sizeof TREE_IDENTITY_KEY);
    ck_assert(raw_value(TREE_META, key, value, &size));
    value[0] = RECORD_FORMAT + 1; /* the seal's */
    put_raw(TREE_META, key, value, size);
    close_tree();
    check_refused("newer rethread");
    start_anew();
    bytes_store_be32(value + RECORD_SEAL_BYTES + TREE_MARK_BYTES, TREE_FORMAT + 1);
    record_seal(value, size, tree_bytes(key), RECORD_META);
    put_raw(TREE_META, key, value, size);
    close_tree();
    check_refused("newer rethread");
    start_anew();
    damage_record(TREE_META, key);
    close_tree();
    check_refused("damaged");
    start_anew();
    damage_record(TREE_META, tree_val(TREE_STATE_KEY, sizeof TREE_STATE_KEY));
    close_tree();
    check_refused("damaged");
}
END_TEST

START_TEST(another_version_of_lmdb_is_refused)
{
    close_tree();
    struct bytes whole = read_file("tree.mdb");
    uint8_t *bytes = (uint8_t *)(uintptr_t)whole.data;
    bytes[20]++;
    write_file("tree.mdb", whole);
    check_refused("LMDB");
    bytes[20]--;
    bytes[sysconf(_SC_PAGESIZE) + 16] ^= 1;
    write_file("tree.mdb", whole);
    check_refused("second page");
    let_go(whole);
}
END_TEST

START_TEST(a_start_that_broke_off_is_new_and_an_empty_file_is_not)
{
    uint8_t first[TREE_SECRET_BYTES];
    memcpy(first, tree_secret(tree), sizeof first);
    reopen_tree();
    ck_assert_mem_eq(first, tree_secret(tree), sizeof first);
    close_tree();
    write_file("tree.mdb", bytes_of(NULL, 0));
    check_refused("first page");
    remove_file("tree.mdb");
    write_file("tree.mdb.new", bytes_of(noise, 5000));
    open_tree();
    ck_assert_mem_ne(first, tree_secret(tree), sizeof first);
    ck_assert_uint_eq(tree_next_uid(tree), 1);
    ck_assert_uint_eq(tree_applied(tree), 0);
    char path[128];
    path_of(path, "tree.mdb.new");
    ck_assert_int_eq(access(path, F_OK), -1);
    path_of(path, "tree.mdb.new-lock");
    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

START_TEST(what_cannot_be_opened_says_why)
{
    close_tree();
    remove_files();
    char path[128];
    path_of(path, "tree.mdb");
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(tree_open(directory, &settings, &tree, &trouble), STATUS_INTERNAL);
    ck_assert_ptr_nonnull(strstr(trouble.text, "no regular file"));
    rmdir(path);
    ck_assert_int_eq(tree_open("/nonexistent/rethread", &settings, &tree, &trouble),
                     STATUS_INTERNAL);
    ck_assert_int_eq(trouble.error, ENOENT);
    if (geteuid() != 0) {
        ck_assert_int_eq(chmod(directory, 0500), 0);
        ck_assert_int_eq(tree_open(directory, &settings, &tree, &trouble), STATUS_INTERNAL);
        ck_assert_int_eq(trouble.error, EACCES);
        ck_assert_int_eq(chmod(directory, 0700), 0);
        open_tree();
        close_tree();
        ck_assert_int_eq(chmod(path, 0400), 0);
        check_refused("for writing");
    }
}
END_TEST

START_TEST(a_larger_budget_is_no_trouble)
{
    append(1, "t", 0, NULL);
    settings.disk_bytes = UINT64_C(1) << 50;
    close_tree();
    ck_assert_int_eq(tree_open(directory, &settings, &tree, &trouble), STATUS_OK);
    MDB_envinfo info;
    ck_assert_int_eq(mdb_env_info(tree->env, &info), 0);
    ck_assert_uint_eq(info.me_mapsize, UINT64_C(1) << 40);
    settings.disk_bytes = 1;
    close_tree();
    ck_assert_int_eq(tree_open(directory, &settings, &tree, &trouble), STATUS_OK);
    ck_assert_int_eq(mdb_env_info(tree->env, &info), 0);
    ck_assert_uint_ge(info.me_mapsize, 1 << 30);
    ck_assert_int_eq(find_thread("t"), TIER_FOUND);
}
END_TEST

int main(void)
{
    return SUITE_RUN("tree", setup_tree, teardown_tree, 60, a_file_that_is_cut_short_is_refused,
                     a_file_that_ends_before_free_pages_is_whole, a_foreign_file_is_refused,
                     a_newer_format_is_refused, another_version_of_lmdb_is_refused,
                     a_start_that_broke_off_is_new_and_an_empty_file_is_not,
                     what_cannot_be_opened_says_why, a_larger_budget_is_no_trouble);
}
