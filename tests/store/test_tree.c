/*
 * The tree, written and read: what groups make of it, what a broken-off one leaves, what is due,
 * which files are refused.
 */
#include "store/tree_private.h"

#include "tests/store/test_record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEPS_MAX = 256, WALL_START_MS = 1700000000, RETENTION_MS = 3600000, MAP_BYTES = 1 << 28 };

static char directory[] = "/tmp/rethread-test-tree-XXXXXX";
static struct clock_driven wall;
static struct tree_settings settings;
static struct tree *tree;
static struct wal_trouble trouble;
static uint64_t sequence;
static uint64_t names_told;

/* ---- Opening ----------------------------------------------------------------------------------
 */

static void path_of(char path[128], const char *name)
{
    snprintf(path, 128, "%s/%s", directory, name);
}

static void remove_file(const char *name)
{
    char path[128];
    path_of(path, name);
    unlink(path);
}

static void remove_files(void)
{
    remove_file("tree.mdb");
    remove_file("tree.mdb-lock");
    remove_file("tree.mdb.new");
    remove_file("tree.mdb.new-lock");
}

static void open_tree(void)
{
    enum status status = tree_open_mapped(directory, &settings, MAP_BYTES, &tree, &trouble);
    ck_assert_msg(status == STATUS_OK, "%s", trouble.text);
}

static void close_tree(void)
{
    tree_close(tree);
    tree = NULL;
}

static void reopen_tree(void)
{
    close_tree();
    open_tree();
}

/* A new tree, empty. */
static void start_anew(void)
{
    close_tree();
    remove_files();
    sequence = 0;
    clock_driven_init(&wall, WALL_START_MS);
    open_tree();
}

static void setup_tree(void)
{
    setup();
    ck_assert_ptr_nonnull(mkdtemp(directory));
    settings = (struct tree_settings){
        .disk_bytes = 1 << 20, .tombstones = 1000, .readers = 4, .wall = &wall.clock};
    start_anew();
}

static void teardown_tree(void)
{
    close_tree();
    remove_files();
    rmdir(directory);
    teardown();
}

/* ---- Groups ------------------------------------------------------------------------------------
 */

static struct index_hash named(enum record_kind kind, const char *id)
{
    return index_hash_with(secret, 0, (uint8_t)kind, bytes_text(id));
}

/* A step as its owner would commit it; `response_id` may be NULL. */
static const struct step *make_step(uint32_t number, uint32_t version, const char *response_id,
                                    size_t size)
{
    struct ask ask;
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
    while (size > 0) {
        size_t part = size < 500000 ? size : 500000;
        ask_kind(&ask, WIRE_KIND_TEXT);
        ask_payload(&ask, bytes_of(noise + (number * 31 + version) % 1000, part));
        size -= part;
    }
    if (response_id) {
        ask_set(&ask, response_id, bytes_text(response_id));
    }
    return step_of(&ask, number, version);
}

static struct tier_head head_of(uint64_t uid, const char *id, uint32_t length, uint32_t version)
{
    return (struct tier_head){.uid = uid,
                              .name = named(RECORD_THREAD, id),
                              .id = bytes_text(id),
                              .length = length,
                              .version = version,
                              .created_ms = WALL_START_MS,
                              .used_ms = clock_read_ms(&wall.clock),
                              .ttl_ms = 1000,
                              .retention_ms = RETENTION_MS};
}

static void tell(void *context, struct index_hash name)
{
    (void)context;
    (void)name;
    names_told++;
}

static enum status apply_bytes(struct bytes bytes, uint64_t at_sequence)
{
    struct tree_group group = {.bytes = bytes, .sequence = at_sequence};
    size_t taken;
    enum status status = tree_apply(tree, &group, 1, &taken, tell, NULL, &trouble);
    ck_assert_uint_eq(taken, status == STATUS_OK);
    return status;
}

static enum status apply_change(const struct tier_change *change)
{
    struct record_buffer buffer = {0};
    ck_assert(record_put_group(&buffer, change, secret, RECORD_PLAIN));
    enum status status = apply_bytes(bytes_of(buffer.data, buffer.size), sequence + 1);
    sequence += status == STATUS_OK;
    record_buffer_free(&buffer);
    return status;
}

/* Steps are discarded. */
static enum status try_put(struct tier_head head, uint32_t drop_from, enum reason reason,
                           const struct step *const *steps, uint32_t count)
{
    struct tier_change change = {.kind = TIER_PUT,
                                 .head = head,
                                 .reason = reason,
                                 .drop_from = drop_from,
                                 .steps = steps,
                                 .step_count = count};
    enum status status = apply_change(&change);
    for (uint32_t i = 0; i < count; i++) {
        step_discard(domain.lane, (struct step *)(uintptr_t)steps[i]);
    }
    return status;
}

static void put(struct tier_head head, uint32_t drop_from, enum reason reason,
                const struct step *const *steps, uint32_t count)
{
    ck_assert_int_eq(try_put(head, drop_from, reason, steps, count), STATUS_OK);
}

/* One more step, with a key. */
static void append(uint64_t uid, const char *id, uint32_t number, const char *response_id)
{
    const struct step *step = make_step(number, number + 1, response_id, 100);
    put(head_of(uid, id, number + 1, number + 1), number, REASON_NONE, &step, 1);
}

static enum status try_erase(uint64_t uid, const char *id, enum reason reason)
{
    struct tier_change change = {
        .kind = TIER_ERASE, .head = head_of(uid, id, 7, 9), .reason = reason};
    return apply_change(&change);
}

static void erase(uint64_t uid, const char *id, enum reason reason)
{
    ck_assert_int_eq(try_erase(uid, id, reason), STATUS_OK);
}

/* ---- Reading -----------------------------------------------------------------------------------
 */

static struct tier_load loaded(enum tier_load_kind kind, enum record_kind record_kind,
                               const char *id)
{
    struct tier_load load = {.kind = kind,
                             .record_kind = (uint8_t)record_kind,
                             .name = named(record_kind, id),
                             .id_size = (uint8_t)strlen(id)};
    memcpy(load.id, id, strlen(id));
    unsigned damaged = 0;
    tree_load(tree, &load, &damaged);
    ck_assert_uint_eq(damaged, 0);
    return load;
}

static struct tier_load load_thread(const char *id)
{
    return loaded(TIER_LOAD_THREAD, RECORD_THREAD, id);
}

/* "found 7/2 v3", with " shared"; "gone expired", with " shared"; "absent". */
static const char *key_of(const char *response_id)
{
    static char text[64];
    struct tier_load load = loaded(TIER_LOAD_KEY, RECORD_RESPONSE_ID, response_id);
    if (load.found == TIER_FOUND) {
        snprintf(text, sizeof text, "found %u/%u v%u%s", (unsigned)load.key.uid, load.key.number,
                 load.key.version, load.key.shared ? " shared" : "");
    } else if (load.found == TIER_TOMBSTONE) {
        snprintf(text, sizeof text, "gone %s%s", reason_name(load.tombstone.reason),
                 load.tombstone.shared ? " shared" : "");
    } else {
        snprintf(text, sizeof text, "%s", load.found == TIER_ABSENT ? "absent" : "trouble");
    }
    return text;
}

#define KEY(id, answer) ck_assert_str_eq(key_of(id), answer)

/* What stands at a key of a table, as it lies there. */
static bool raw_value(enum tree_table table, MDB_val key, uint8_t *value, size_t *size)
{
    MDB_txn *txn;
    MDB_val found;
    ck_assert_int_eq(mdb_txn_begin(tree->env, NULL, MDB_RDONLY, &txn), 0);
    int code = mdb_get(txn, tree->tables[table], &key, &found);
    if (code == 0) {
        *size = found.mv_size;
        memcpy(value, found.mv_data, found.mv_size);
    }
    mdb_txn_abort(txn);
    return code == 0;
}

static void put_raw(enum tree_table table, MDB_val key, const uint8_t *value, size_t size)
{
    MDB_txn *txn;
    MDB_val fresh = tree_val(value, size);
    ck_assert_int_eq(mdb_txn_begin(tree->env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_put(txn, tree->tables[table], &key, &fresh, 0), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
}

static void damage_record(enum tree_table table, MDB_val key)
{
    uint8_t value[RECORD_VALUE_MAX];
    size_t size;
    ck_assert(raw_value(table, key, value, &size));
    value[size - 1] ^= 1;
    put_raw(table, key, value, size);
}

static uint64_t count_of(enum tree_table table)
{
    MDB_txn *txn;
    MDB_stat stat;
    ck_assert_int_eq(mdb_txn_begin(tree->env, NULL, MDB_RDONLY, &txn), 0);
    ck_assert_int_eq(mdb_stat(txn, tree->tables[table], &stat), 0);
    mdb_txn_abort(txn);
    return stat.ms_entries;
}

/* Everything in the tree but places in the ring (which repeating a burial changes), as one hash;
 * counts keys' and values' bytes. */
static uint64_t sum_tree(uint64_t *bytes)
{
    MDB_txn *txn;
    uint64_t sum = 0;
    *bytes = 0;
    ck_assert_int_eq(mdb_txn_begin(tree->env, NULL, MDB_RDONLY, &txn), 0);
    for (enum tree_table table = 0; table < TREE_META; table++) {
        MDB_cursor *cursor;
        MDB_val key;
        MDB_val value;
        ck_assert_int_eq(mdb_cursor_open(txn, tree->tables[table], &cursor), 0);
        while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
            *bytes += key.mv_size + value.mv_size;
            uint8_t copy[RECORD_VALUE_MAX];
            memcpy(copy, value.mv_data, value.mv_size);
            if (table == TREE_RING) {
                continue;
            }
            if (table == TREE_TOMBS) {
                memset(copy, 0, RECORD_SEAL_BYTES);
                memset(copy + RECORD_SEAL_BYTES + 10, 0, 8);
            }
            sum += XXH3_64bits_withSeed(key.mv_data, key.mv_size, table) * 3 +
                   XXH3_64bits_withSeed(copy, value.mv_size, XXH3_64bits(key.mv_data, key.mv_size));
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return sum;
}

static void note_damage(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, "%s\n", text);
}

/* What is counted as it goes is what is there; every record checks. */
static void check_tree(void)
{
    uint64_t bytes;
    sum_tree(&bytes);
    struct tree_numbers numbers = tree_numbers(tree);
    ck_assert_uint_eq(numbers.live_bytes, bytes);
    ck_assert_uint_eq(numbers.damaged, 0);
    ck_assert_uint_eq(count_of(TREE_RING), count_of(TREE_TOMBS));
    ck_assert_uint_eq(numbers.tombstones, count_of(TREE_TOMBS));
    struct tree_audit audit = {0};
    ck_assert_int_eq(tree_verify(tree, note_damage, NULL, &audit, &trouble), STATUS_OK);
    ck_assert_uint_eq(audit.damaged, 0);
    ck_assert_uint_eq(audit.threads, numbers.threads);
}

/* ---- Puts --------------------------------------------------------------------------------------
 */

START_TEST(a_thread_comes_back_as_it_was_put)
{
    const struct step *steps[] = {make_step(0, 1, "r0", 10), make_step(1, 2, "r1", 50000),
                                  make_step(2, 3, NULL, 0)};
    struct recall_entry recalls[] = {{.key = {1, 2}, .ordinal = 3, .version = 3, .step = 2},
                                     {.key = {3, 4}, .ordinal = 70, .created = true}};
    struct tier_head head = head_of(5, "t", 3, 3);
    head.payload_bytes = 50010;
    struct tier_change change = {.kind = TIER_PUT,
                                 .head = head,
                                 .steps = steps,
                                 .step_count = 3,
                                 .recalls = recalls,
                                 .recall_count = 2};
    ck_assert_int_eq(apply_change(&change), STATUS_OK);
    reopen_tree();
    struct tier_load load = load_thread("t");
    ck_assert_int_eq(load.found, TIER_FOUND);
    const struct tier_image *image = load.image;
    ck_assert_uint_eq(image->head.uid, 5);
    ck_assert_uint_eq(image->head.payload_bytes, 50010);
    ck_assert_uint_eq(image->head.used_ms, WALL_START_MS);
    ck_assert_uint_eq(image->step_count, 3);
    for (unsigned i = 0; i < 3; i++) {
        struct step_parts parts;
        step_parts(steps[i], &parts);
        check_parts(&image->steps[i], &parts);
        step_discard(domain.lane, (struct step *)(uintptr_t)steps[i]);
    }
    ck_assert_uint_eq(image->recall_count, 2);
    free(load.image);
    append(5, "t", 3, "r3");
    load = load_thread("t");
    ck_assert_uint_eq(load.image->step_count, 4);
    ck_assert(!load.image->steps[3].corrupt && !load.image->steps[0].corrupt);
    ck_assert_uint_eq(load.image->recall_count, 2);
    free(load.image);
    ck_assert_uint_eq(tree_numbers(tree).threads, 1);
    ck_assert_uint_eq(tree_numbers(tree).names, 4);
    ck_assert_uint_eq(names_told, 4);
    ck_assert_uint_eq(tree_next_uid(tree), 6);
    ck_assert_uint_eq(tree_applied(tree), 2);
    KEY("r1", "found 5/1 v2");
    check_tree();
}
END_TEST

START_TEST(a_rewind_takes_steps_and_their_keys)
{
    for (uint32_t i = 0; i < 4; i++) {
        char id[8];
        snprintf(id, sizeof id, "r%u", i);
        append(1, "t", i, id);
    }
    append(1, "t", 4, "r1"); /* the key moves on to a newer step, which the rewind takes as well */
    put(head_of(1, "t", 2, 6), 2, REASON_REWOUND, NULL, 0);
    struct tier_load load = load_thread("t");
    ck_assert_uint_eq(load.image->step_count, 2);
    free(load.image);
    KEY("r0", "found 1/0 v1");
    KEY("r1", "gone rewound");
    KEY("r2", "gone rewound");
    ck_assert_uint_eq(count_of(TREE_DATA), 2 + 2); /* head, armed, two steps */
    /* Written again by the same thread: the tombstone goes, nothing is shared. */
    const struct step *step = make_step(2, 7, "r2", 10);
    put(head_of(1, "t", 3, 7), 2, REASON_NONE, &step, 1);
    KEY("r2", "found 1/2 v7");
    append(2, "other", 0, "r3");
    KEY("r3", "found 2/0 v1 shared");
    ck_assert_uint_eq(tree_numbers(tree).tombstones, 1);
    check_tree();
}
END_TEST

START_TEST(a_key_is_shared_once_two_threads_wrote_it)
{
    append(1, "t", 0, "k");
    KEY("k", "found 1/0 v1");
    append(1, "t", 1, "k");
    KEY("k", "found 1/1 v2");
    append(2, "other", 0, "k");
    KEY("k", "found 2/0 v1 shared");
    append(1, "t", 2, "k");
    KEY("k", "found 1/2 v3 shared");
    erase(2, "other", REASON_EXPIRED); /* another's key is not touched */
    KEY("k", "found 1/2 v3 shared");
    erase(1, "t", REASON_EXPIRED);
    KEY("k", "gone expired shared");
    append(3, "t", 0, "k");
    KEY("k", "found 3/0 v1 shared");
    /* A thread that came back is the same one. */
    append(4, "u", 0, "l");
    erase(4, "u", REASON_FORGOTTEN);
    KEY("l", "gone forgotten");
    append(5, "u", 0, "l");
    KEY("l", "found 5/0 v1");
    append(6, "u", 0, "l");
    KEY("l", "found 6/0 v1");
    erase(5, "u", REASON_EXPIRED);
    KEY("l", "found 6/0 v1");
    check_tree();
}
END_TEST

START_TEST(a_fork_does_not_take_the_keys_of_its_origin)
{
    append(1, "t", 0, "r0");
    append(1, "t", 1, "r1");
    const struct step *steps[] = {make_step(0, 1, "r0", 100), make_step(1, 2, "r1", 100),
                                  make_step(2, 3, "r2", 100)};
    struct tier_change change = {.kind = TIER_PUT,
                                 .head = head_of(2, "fork", 3, 3),
                                 .inherited = 2,
                                 .steps = steps,
                                 .step_count = 3};
    ck_assert_int_eq(apply_change(&change), STATUS_OK);
    for (unsigned i = 0; i < 3; i++) {
        step_discard(domain.lane, (struct step *)(uintptr_t)steps[i]);
    }
    KEY("r0", "found 1/0 v1");
    KEY("r2", "found 2/2 v3");
    erase(2, "fork", REASON_EXPIRED);
    KEY("r1", "found 1/1 v2");
    KEY("r2", "gone expired");
    check_tree();
}
END_TEST

START_TEST(a_whole_put_again_leaves_its_keys_alone)
{
    append(1, "old", 0, "r0");
    append(2, "t", 0, "r0");
    append(2, "t", 1, "r1");
    const struct step *steps[] = {make_step(0, 1, "r0", 100), make_step(1, 5, "r1", 100)};
    struct recall_entry recall = {.key = {1, 2}, .ordinal = 3};
    struct tier_change change = {.kind = TIER_PUT,
                                 .head = head_of(2, "t", 2, 5),
                                 .steps = steps,
                                 .step_count = 2,
                                 .recalls = &recall,
                                 .recall_count = 1};
    ck_assert_int_eq(apply_change(&change), STATUS_OK);
    KEY("r0", "found 2/0 v1 shared");
    KEY("r1", "found 2/1 v5");
    change.recall_count = 0;
    ck_assert_int_eq(apply_change(&change), STATUS_OK);
    struct tier_load load = load_thread("t");
    ck_assert_uint_eq(load.image->recall_count, 0);
    free(load.image);
    check_tree();
    for (unsigned i = 0; i < 2; i++) {
        step_discard(domain.lane, (struct step *)(uintptr_t)steps[i]);
    }
}
END_TEST

/* ---- Erasure -----------------------------------------------------------------------------------
 */

START_TEST(an_erasure_leaves_a_tombstone_or_nothing)
{
    append(1, "t", 0, "r0");
    append(2, "u", 0, "r1");
    erase(1, "t", REASON_EVICTED);
    struct tier_load load = load_thread("t");
    ck_assert_int_eq(load.found, TIER_TOMBSTONE);
    ck_assert_int_eq(load.tombstone.reason, REASON_EVICTED);
    ck_assert_uint_eq(load.tombstone.version, 9);
    ck_assert_uint_eq(load.tombstone.steps, 7);
    KEY("r0", "gone evicted");
    ck_assert_int_eq(load_thread("u").found, TIER_FOUND);
    check_tree();
    /* It comes back, and its tombstone goes. */
    append(3, "t", 0, NULL);
    ck_assert_uint_eq(tree_numbers(tree).tombstones, 1);
    ck_assert_int_eq(load_thread("t").found, TIER_FOUND);
    erase(3, "t", REASON_NONE);
    erase(2, "u", REASON_NONE);
    ck_assert_int_eq(load_thread("t").found, TIER_ABSENT);
    KEY("r1", "absent");
    ck_assert_uint_eq(tree_numbers(tree).threads, 0);
    ck_assert_uint_eq(tree_numbers(tree).records, 2); /* the tombstone of r0 */
    ck_assert_uint_eq(count_of(TREE_DUE), 0);
    check_tree();
}
END_TEST

START_TEST(an_erasure_of_the_older_thread_leaves_the_younger)
{
    append(1, "t", 0, "r0");
    append(2, "t", 0, "r1");
    ck_assert_uint_eq(tree_numbers(tree).threads, 2);
    erase(1, "t", REASON_EXPIRED);
    struct tier_load load = load_thread("t");
    ck_assert_int_eq(load.found, TIER_FOUND);
    ck_assert_uint_eq(load.image->head.uid, 2);
    free(load.image);
    KEY("r0", "gone expired");
    KEY("r1", "found 2/0 v1");
    ck_assert_uint_eq(tree_numbers(tree).threads, 1);
    erase(1, "t", REASON_EXPIRED); /* of one that is gone: nothing */
    ck_assert_int_eq(load_thread("t").found, TIER_FOUND);
    check_tree();
}
END_TEST

START_TEST(tombstones_are_bounded_and_vouched_for)
{
    close_tree();
    settings.tombstones = 5;
    open_tree();
    ck_assert_uint_eq(tree_numbers(tree).vouch_since_ms, WALL_START_MS);
    for (uint32_t i = 0; i < 8; i++) {
        char id[8];
        snprintf(id, sizeof id, "t%u", i);
        append(i + 1, id, 0, NULL);
        clock_driven_advance(&wall, 1000);
        erase(i + 1, id, REASON_EXPIRED);
    }
    ck_assert_uint_eq(tree_numbers(tree).tombstones, 5);
    ck_assert_int_eq(load_thread("t2").found, TIER_ABSENT);
    ck_assert_int_eq(load_thread("t3").found, TIER_TOMBSTONE);
    ck_assert_uint_eq(tree_numbers(tree).vouch_since_ms, WALL_START_MS + 3001);
    check_tree();
    settings.tombstones = 2;
    reopen_tree();
    append(20, "x", 0, NULL);
    erase(20, "x", REASON_EXPIRED);
    ck_assert_uint_eq(tree_numbers(tree).tombstones, 2);
    ck_assert_int_eq(load_thread("x").found, TIER_TOMBSTONE);
    check_tree();
}
END_TEST

/* ---- Large groups -------------------------------------------------------------------------------
 */

START_TEST(a_long_thread_is_erased_in_several_transactions)
{
    const struct step *steps[STEPS_MAX];
    uint32_t length = 0;
    while (length < 20 * STEPS_MAX) {
        for (uint32_t i = 0; i < STEPS_MAX; i++) {
            steps[i] = make_step(length + i, length + i + 1, NULL, 20);
        }
        length += STEPS_MAX;
        put(head_of(1, "t", length, length), length - STEPS_MAX, REASON_NONE, steps, STEPS_MAX);
    }
    append(2, "u", 0, "r");
    uint64_t before = tree_numbers(tree).commits;
    erase(1, "t", REASON_EXPIRED);
    uint64_t commits = tree_numbers(tree).commits - before;
    ck_assert_uint_ge(commits, length / 2000);
    ck_assert_uint_le(commits, length / 2000 + 2);
    ck_assert_uint_eq(count_of(TREE_DATA), 3);
    check_tree();
}
END_TEST

/* What the groups below are about: three threads, then one group that is large for its
 * transaction. */
static void put_base(void)
{
    append(1, "t", 0, "r0");
    append(2, "u", 0, "r1");
    for (uint32_t i = 1; i < 12; i++) {
        char id[8];
        snprintf(id, sizeof id, "r%u", i);
        append(1, "t", i, id);
    }
    append(2, "u", 1, "r5");
}

enum { BIG_GROUPS = 5 };

static enum status big_group(unsigned which)
{
    const struct step *steps[16];
    uint32_t first = which == 1 ? 5 : which == 3 ? 12 : 0;
    uint32_t count = which == 1 ? 3 : which == 3 ? 9 : 14;
    switch (which) {
    case 0: /* a rewind of most */
        return try_put(head_of(1, "t", 2, 20), 2, REASON_REWOUND, NULL, 0);
    case 4:
        return try_erase(1, "t", REASON_EXPIRED);
    default: /* other steps from the middle, the whole thread anew, many steps behind */
        for (uint32_t i = 0; i < count; i++) {
            char id[8];
            snprintf(id, sizeof id, "r%u", (first + i) % 7);
            uint32_t version = which == 2 && i < 6 ? i + 1 : 30 + i;
            steps[i] = make_step(first + i, version, id, 9000);
        }
        return try_put(head_of(1, "t", first + count, 50), first,
                       which == 1 ? REASON_REWOUND : REASON_NONE, steps, count);
    }
}

/* Whoever reads between two transactions finds a thread whole, or not at all. */
static void check_between(void)
{
    static const char *const ids[] = {"t", "u"};
    for (unsigned i = 0; i < 2; i++) {
        struct tier_load load = load_thread(ids[i]);
        ck_assert(load.found == TIER_FOUND || (i == 0 && load.found != TIER_CORRUPT));
        for (unsigned s = 0; load.image && s < load.image->step_count; s++) {
            ck_assert(!load.image->steps[s].corrupt);
            ck_assert_uint_eq(load.image->steps[s].number, s);
        }
        free(load.image);
    }
    for (unsigned i = 0; i < 14; i++) {
        char id[8];
        snprintf(id, sizeof id, "r%u", i);
        ck_assert_str_ne(key_of(id), "trouble");
    }
}

/* Breaks the group off wherever the map gets full, with transactions of a few records. */
START_TEST(a_group_that_was_broken_off_is_done_again)
{
    unsigned broken = 0;
    unsigned within = 0;
    for (unsigned which = 0; which < BIG_GROUPS; which++) {
        uint64_t bytes;
        start_anew();
        put_base();
        ck_assert_int_eq(big_group(which), STATUS_OK);
        uint64_t meant = sum_tree(&bytes);
        check_tree();
        for (size_t pages = 24;; pages++) {
            start_anew();
            put_base();
            close_tree();
            size_t map = pages * (size_t)sysconf(_SC_PAGESIZE);
            ck_assert_int_eq(tree_open_mapped(directory, &settings, map, &tree, &trouble),
                             STATUS_OK);
            tree->txn_cost = 12;
            uint64_t commits = tree_numbers(tree).commits;
            uint64_t applied = tree_applied(tree);
            enum status status = big_group(which);
            if (status) {
                ck_assert_int_eq(trouble.error, ENOSPC);
                ck_assert(!tree_numbers(tree).broken);
                ck_assert_uint_eq(tree_applied(tree), applied);
                broken++;
                within += tree_numbers(tree).commits > commits;
                check_between();
                reopen_tree();
                check_between();
                tree->txn_cost = 12;
                ck_assert_int_eq(big_group(which), STATUS_OK);
            }
            ck_assert_uint_eq(tree_applied(tree), applied + 1);
            ck_assert_msg(sum_tree(&bytes) == meant, "group %u at %zu pages", which, pages);
            check_tree();
            if (status == STATUS_OK) {
                break;
            }
        }
    }
    ck_assert_uint_gt(broken, 20);
    ck_assert_uint_gt(within, 10);
}
END_TEST

START_TEST(a_batch_is_applied_once_and_in_order)
{
    struct record_buffer buffer = {0};
    struct tree_group groups[40];
    size_t at[41];
    for (uint32_t i = 0; i < 40; i++) {
        const struct step *step = make_step(i, i + 1, i % 2 ? "odd" : "even", 3000);
        struct tier_change change = {.kind = TIER_PUT,
                                     .head = head_of(1, "t", i + 1, i + 1),
                                     .drop_from = i,
                                     .steps = &step,
                                     .step_count = 1};
        at[i] = buffer.size;
        ck_assert(record_put_group(&buffer, &change, secret, RECORD_ZSTD));
        step_discard(domain.lane, (struct step *)(uintptr_t)step);
    }
    at[40] = buffer.size;
    for (uint32_t i = 0; i < 40; i++) {
        groups[i] = (struct tree_group){.bytes = bytes_of(buffer.data + at[i], at[i + 1] - at[i]),
                                        .sequence = i + 1};
    }
    size_t taken;
    tree->txn_cost = 50;
    ck_assert_int_eq(tree_apply(tree, groups, 30, &taken, tell, NULL, &trouble), STATUS_OK);
    ck_assert_uint_eq(taken, 30);
    ck_assert_uint_gt(tree_numbers(tree).commits, 2);
    uint64_t before = tree_numbers(tree).commits;
    ck_assert_int_eq(tree_apply(tree, groups, 30, &taken, tell, NULL, &trouble), STATUS_OK);
    ck_assert_uint_eq(taken, 30);
    ck_assert_uint_eq(tree_numbers(tree).commits, before);
    /* A damaged group: those before it are in, those behind it are not. */
    struct bytes whole = groups[35].bytes;
    groups[35].bytes.size--;
    ck_assert_int_eq(tree_apply(tree, groups, 40, &taken, tell, NULL, &trouble), STATUS_INTERNAL);
    ck_assert_uint_eq(taken, 35);
    ck_assert_uint_eq(tree_applied(tree), 35);
    ck_assert(!tree_numbers(tree).broken);
    groups[35].bytes = whole;
    ck_assert_int_eq(tree_apply(tree, groups + 35, 5, &taken, tell, NULL, &trouble), STATUS_OK);
    ck_assert_uint_eq(taken, 5);
    KEY("odd", "found 1/39 v40");
    struct tier_load load = load_thread("t");
    ck_assert_uint_eq(load.image->step_count, 40);
    free(load.image);
    record_buffer_free(&buffer);
    check_tree();
}
END_TEST

START_TEST(a_full_map_is_lack_of_space_and_no_more)
{
    close_tree();
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    ck_assert_int_eq(tree_open_mapped(directory, &settings, 64 * page, &tree, &trouble), STATUS_OK);
    enum status status = STATUS_OK;
    uint32_t length = 0;
    while (status == STATUS_OK) {
        ck_assert_uint_lt(length, 64);
        const struct step *step = make_step(length, length + 1, NULL, 6000);
        status = try_put(head_of(1, "t", length + 1, length + 1), length, REASON_NONE, &step, 1);
        length += status == STATUS_OK;
    }
    ck_assert_int_eq(trouble.error, ENOSPC);
    ck_assert(!tree_numbers(tree).broken);
    ck_assert_uint_gt(length, 5);
    struct tier_load load = load_thread("t");
    ck_assert_uint_eq(load.image->step_count, length);
    free(load.image);
    check_tree();
    reopen_tree(); /* with more room */
    append(1, "t", length, NULL);
    check_tree();
}
END_TEST

/* ---- What is due
 * --------------------------------------------------------------------------------- */

static unsigned due_at(uint64_t now_ms, bool victims, struct tier_due **due, unsigned limit)
{
    unsigned count;
    ck_assert_int_eq(tree_due(tree, now_ms, victims, due, limit, &count, &trouble), STATUS_OK);
    return count;
}

static unsigned count_due(uint64_t now_ms)
{
    struct tier_due *due[16];
    unsigned count = due_at(now_ms, false, due, 16);
    for (unsigned i = 0; i < count; i++) {
        free(due[i]);
    }
    return count;
}

static const uint64_t idle_ms = RETENTION_MS + RETENTION_MS / 64;

START_TEST(a_thread_is_due_when_its_retention_is_over)
{
    append(1, "t", 0, NULL);
    append(2, "u", 0, NULL);
    clock_driven_advance(&wall, 60000);
    append(2, "u", 1, NULL); /* found at its old place, and moved */
    ck_assert_uint_eq(count_of(TREE_DUE), 2);
    ck_assert_uint_eq(count_due(WALL_START_MS + idle_ms - 1), 0);
    struct tier_due *due[4];
    ck_assert_uint_eq(due_at(WALL_START_MS + idle_ms + 1000, false, due, 4), 1);
    ck_assert_uint_eq(due[0]->uid, 1);
    ck_assert_int_eq(due[0]->event.kind, TIER_DUE);
    ck_assert_int_eq(due[0]->reason, REASON_EXPIRED);
    ck_assert_uint_eq(due[0]->length, 1);
    ck_assert_uint_eq(due[0]->version, 1);
    ck_assert(tree_same_name(due[0]->name, named(RECORD_THREAD, "t")));
    ck_assert(bytes_equal(bytes_of(due[0]->id, due[0]->id_size), bytes_text("t")));
    free(due[0]);
    /* Asked for once in a while until it is gone. */
    ck_assert_uint_eq(count_due(WALL_START_MS + idle_ms + 2000), 0);
    ck_assert_uint_eq(count_due(WALL_START_MS + idle_ms + 12000), 1);
    ck_assert_uint_eq(count_due(WALL_START_MS + idle_ms + 61000), 2);
    erase(1, "t", REASON_EXPIRED);
    erase(2, "u", REASON_EXPIRED);
    ck_assert_uint_eq(count_due(WALL_START_MS + idle_ms + 99000), 0);
    ck_assert_uint_eq(count_of(TREE_DUE), 0);
    check_tree();
}
END_TEST

START_TEST(an_earlier_deadline_is_known_at_once)
{
    append(1, "t", 0, NULL);
    struct tier_head head = head_of(1, "t", 1, 1);
    head.retention_ms = 6400;
    put(head, 1, REASON_NONE, NULL, 0);
    ck_assert_uint_eq(count_of(TREE_DUE), 1);
    ck_assert_uint_eq(count_due(WALL_START_MS + 6499), 0);
    ck_assert_uint_eq(count_due(WALL_START_MS + 7000), 1);
    head.used_ms += 100000;
    put(head, 1, REASON_NONE, NULL, 0);
    ck_assert_uint_eq(count_due(WALL_START_MS + 20000), 0);
    ck_assert_uint_eq(count_of(TREE_DUE), 1);
    ck_assert_uint_eq(count_due(WALL_START_MS + 107000), 1);
    check_tree();
}
END_TEST

START_TEST(no_thread_outlives_its_max_age)
{
    settings.max_age_ms = 10000;
    reopen_tree();
    append(1, "t", 0, NULL);
    clock_driven_advance(&wall, 9000);
    append(1, "t", 1, NULL);
    struct tier_due *due[1];
    ck_assert_uint_eq(count_due(WALL_START_MS + 9999), 0);
    ck_assert_uint_eq(due_at(WALL_START_MS + 10000, false, due, 1), 1);
    ck_assert_int_eq(due[0]->reason, REASON_MAX_AGE);
    free(due[0]);
}
END_TEST

START_TEST(many_due_threads_come_in_portions)
{
    for (uint32_t i = 0; i < 30; i++) {
        char id[8];
        snprintf(id, sizeof id, "t%u", i);
        append(i + 1, id, 0, NULL);
    }
    uint64_t seen = 0;
    uint64_t now_ms = WALL_START_MS + idle_ms + 5000;
    for (unsigned i = 0; i < 4; i++) {
        struct tier_due *due[10];
        unsigned count = due_at(now_ms, false, due, 10);
        ck_assert_uint_eq(count, i < 3 ? 10 : 0);
        for (unsigned j = 0; j < count; j++) {
            seen |= UINT64_C(1) << due[j]->uid;
            free(due[j]);
        }
    }
    ck_assert_uint_eq(seen, (UINT64_C(1) << 31) - 2);
}
END_TEST

START_TEST(victims_are_those_whose_time_is_up_first)
{
    for (uint32_t i = 0; i < 6; i++) {
        char id[8];
        snprintf(id, sizeof id, "t%u", i);
        append(i + 1, id, 0, NULL);
        clock_driven_advance(&wall, 10000);
    }
    append(1, "t0", 1, NULL); /* used again: no longer the first */
    struct tier_due *due[2];
    ck_assert_uint_eq(due_at(clock_read_ms(&wall.clock), true, due, 2), 2);
    ck_assert_uint_eq(due[0]->uid, 2);
    ck_assert_uint_eq(due[1]->uid, 3);
    ck_assert_int_eq(due[0]->reason, REASON_EVICTED);
    free(due[0]);
    free(due[1]);
    ck_assert_uint_eq(count_due(clock_read_ms(&wall.clock)), 0);
    check_tree();
}
END_TEST

START_TEST(a_damaged_head_is_left_where_it_is)
{
    append(1, "t", 0, "r");
    append(2, "u", 0, NULL);
    struct tree_data_key key = tree_data_key(1, 0, TREE_CHUNK_HEAD);
    damage_record(TREE_DATA, tree_val(&key, sizeof key));
    uint64_t later = WALL_START_MS + idle_ms + 1000;
    ck_assert_uint_eq(count_due(later), 1);
    ck_assert_uint_eq(tree_numbers(tree).damaged, 1);
    ck_assert_uint_eq(count_of(TREE_DUE), 2);
    ck_assert_uint_eq(count_due(later + 20000), 1); /* the other one, again */
    ck_assert_uint_eq(tree_numbers(tree).damaged, 1);
    count_due(later + 25 * 3600 * 1000);
    ck_assert_uint_eq(tree_numbers(tree).damaged, 2);
    /* It can still be erased, or be put anew. */
    erase(1, "t", REASON_NONE);
    erase(2, "u", REASON_NONE);
    ck_assert_uint_eq(tree_numbers(tree).records, 0);
    ck_assert_uint_eq(tree_numbers(tree).threads, 0);
    ck_assert_uint_eq(tree_numbers(tree).live_bytes, 0);
}
END_TEST

START_TEST(an_entry_that_leads_to_no_thread_goes)
{
    append(1, "t", 0, NULL);
    struct tree_due_key key = tree_due_key(5, 77);
    uint8_t value[RECORD_SEAL_BYTES];
    record_seal(value, sizeof value, bytes_of(key.bytes, sizeof key.bytes), RECORD_META);
    put_raw(TREE_DUE, tree_val(&key, sizeof key), value, sizeof value);
    ck_assert_uint_eq(count_due(WALL_START_MS), 0);
    ck_assert_uint_eq(count_of(TREE_DUE), 1);
    ck_assert_uint_eq(count_due(WALL_START_MS + idle_ms + 1000), 1);
}
END_TEST

START_TEST(damaged_records_are_replaced_by_what_is_put)
{
    append(1, "t", 0, "r");
    struct tree_name thread = tree_name(named(RECORD_THREAD, "t"));
    struct tree_name key = tree_name(named(RECORD_RESPONSE_ID, "r"));
    struct tree_data_key armed = tree_data_key(1, 0, TREE_CHUNK_ARMED);
    struct tree_data_key head = tree_data_key(1, 0, TREE_CHUNK_HEAD);
    damage_record(TREE_NAMES, tree_val(&thread, sizeof thread));
    damage_record(TREE_KEYS, tree_val(&key, sizeof key));
    damage_record(TREE_DATA, tree_val(&armed, sizeof armed));
    damage_record(TREE_DATA, tree_val(&head, sizeof head));
    append(1, "t", 1, "r");
    uint64_t damaged = tree_numbers(tree).damaged; /* some are read twice */
    ck_assert_uint_ge(damaged, 4);
    ck_assert_uint_eq(tree_numbers(tree).threads, 1);
    struct tier_load load = load_thread("t");
    ck_assert_int_eq(load.found, TIER_FOUND);
    ck_assert_uint_eq(load.image->step_count, 2);
    free(load.image);
    KEY("r", "found 1/1 v2 shared"); /* nobody knows who had it */
    struct tree_data_key chunk = tree_data_key(1, 1, 0);
    damage_record(TREE_DATA, tree_val(&chunk, sizeof chunk));
    erase(1, "t", REASON_EXPIRED);
    ck_assert_uint_gt(tree_numbers(tree).damaged, damaged);
    ck_assert_int_eq(load_thread("t").found, TIER_TOMBSTONE);
    ck_assert_uint_eq(count_of(TREE_DATA), 0);
}
END_TEST

/* ---- Files
 * ---------------------------------------------------------------------------------------- */

static struct bytes read_file(const char *name)
{
    char path[128];
    path_of(path, name);
    struct stat stat_of;
    int fd = open(path, O_RDONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &stat_of), 0);
    size_t size = (size_t)stat_of.st_size;
    uint8_t *data = malloc(size + 1);
    ck_assert_int_eq(read(fd, data, size), (ssize_t)size);
    close(fd);
    return bytes_of(data, size);
}

static void write_file(const char *name, struct bytes bytes)
{
    char path[128];
    path_of(path, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes.data, bytes.size), (ssize_t)bytes.size);
    close(fd);
}

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
    ck_assert_int_eq(load_thread("t").found, TIER_FOUND);
    append(1, "t", 1, NULL);
    check_tree();
    free(longer);
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
    bytes_store_be32(value + RECORD_SEAL_BYTES + TREE_MARK_BYTES, RECORD_FORMAT + 1);
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

START_TEST(an_empty_file_and_a_start_that_broke_off_are_new)
{
    uint8_t first[TREE_SECRET_BYTES];
    memcpy(first, tree_secret(tree), sizeof first);
    reopen_tree();
    ck_assert_mem_eq(first, tree_secret(tree), sizeof first);
    close_tree();
    write_file("tree.mdb", bytes_of(NULL, 0));
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
    ck_assert_int_eq(load_thread("t").found, TIER_FOUND);
}
END_TEST

int main(void)
{
    return SUITE_RUN(
        "tree", setup_tree, teardown_tree, 60, a_thread_comes_back_as_it_was_put,
        a_rewind_takes_steps_and_their_keys, a_key_is_shared_once_two_threads_wrote_it,
        a_fork_does_not_take_the_keys_of_its_origin, a_whole_put_again_leaves_its_keys_alone,
        an_erasure_leaves_a_tombstone_or_nothing, an_erasure_of_the_older_thread_leaves_the_younger,
        tombstones_are_bounded_and_vouched_for, a_long_thread_is_erased_in_several_transactions,
        a_group_that_was_broken_off_is_done_again, a_batch_is_applied_once_and_in_order,
        a_full_map_is_lack_of_space_and_no_more, a_thread_is_due_when_its_retention_is_over,
        an_earlier_deadline_is_known_at_once, no_thread_outlives_its_max_age,
        many_due_threads_come_in_portions, victims_are_those_whose_time_is_up_first,
        a_damaged_head_is_left_where_it_is, an_entry_that_leads_to_no_thread_goes,
        damaged_records_are_replaced_by_what_is_put, a_file_that_is_cut_short_is_refused,
        a_foreign_file_is_refused, a_newer_format_is_refused, another_version_of_lmdb_is_refused,
        an_empty_file_and_a_start_that_broke_off_are_new, what_cannot_be_opened_says_why,
        a_larger_budget_is_no_trouble);
}
