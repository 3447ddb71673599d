/*
 * What the tests of the tree share: a tree in a directory of its own, changes made of steps, loads
 * as text, and hands on what lies in the tables. Header only.
 */
#ifndef RETHREAD_TESTS_STORE_TEST_TREE_H
#define RETHREAD_TESTS_STORE_TEST_TREE_H

#include "store/tree_names.h"

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

/* ---- Opening ------------------------------------------------------------------------------- */

static inline void path_of(char path[128], const char *name)
{
    snprintf(path, 128, "%s/%s", directory, name);
}

static inline void remove_file(const char *name)
{
    char path[128];
    path_of(path, name);
    unlink(path);
}

static inline void remove_files(void)
{
    remove_file("tree.mdb");
    remove_file("tree.mdb-lock");
    remove_file("tree.mdb.new");
    remove_file("tree.mdb.new-lock");
}

static inline void open_tree(void)
{
    enum status status = tree_open_mapped(directory, &settings, MAP_BYTES, &tree, &trouble);
    ck_assert_msg(status == STATUS_OK, "%s", trouble.text);
}

static inline void close_tree(void)
{
    tree_close(tree);
    tree = NULL;
}

static inline void reopen_tree(void)
{
    close_tree();
    open_tree();
}

/* A new tree, empty. */
static inline void start_anew(void)
{
    close_tree();
    remove_files();
    sequence = 0;
    clock_driven_init(&wall, WALL_START_MS);
    open_tree();
}

static inline void setup_tree(void)
{
    setup();
    ck_assert_ptr_nonnull(mkdtemp(directory));
    settings = (struct tree_settings){
        .disk_bytes = 1 << 20, .tombstones = 1000, .readers = 4, .wall = &wall.clock};
    start_anew();
}

static inline void teardown_tree(void)
{
    close_tree();
    remove_files();
    rmdir(directory);
    teardown();
}

/* ---- Groups -------------------------------------------------------------------------------- */

static inline struct index_hash named(enum record_kind kind, const char *id)
{
    return index_hash_with(secret, 0, (uint8_t)kind, bytes_text(id));
}

/* A step as its owner would commit it; `response_id` may be NULL. */
static inline const struct step *make_step(uint32_t number, uint32_t version,
                                           const char *response_id, size_t size)
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

static inline struct tier_head head_of(uint64_t uid, const char *id, uint32_t length,
                                       uint32_t version)
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

static inline void tell(void *context, struct index_hash name)
{
    (void)context;
    (void)name;
    names_told++;
}

static inline enum status apply_bytes(struct bytes bytes, uint64_t at_sequence)
{
    struct tree_group group = {.bytes = bytes, .sequence = at_sequence};
    size_t taken;
    enum status status = tree_apply(tree, &group, 1, &taken, tell, NULL, &trouble);
    ck_assert_uint_eq(taken, status == STATUS_OK);
    return status;
}

static inline enum status apply_change(const struct tier_change *change)
{
    struct record_buffer buffer = {0};
    ck_assert(record_put_group(&buffer, change, secret, RECORD_PLAIN));
    enum status status = apply_bytes(bytes_of(buffer.data, buffer.size), sequence + 1);
    sequence += status == STATUS_OK;
    record_buffer_free(&buffer);
    return status;
}

/* Steps are discarded. */
static inline enum status try_put(struct tier_head head, uint32_t drop_from, enum reason reason,
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

static inline void put(struct tier_head head, uint32_t drop_from, enum reason reason,
                       const struct step *const *steps, uint32_t count)
{
    ck_assert_int_eq(try_put(head, drop_from, reason, steps, count), STATUS_OK);
}

/* One more step, with a key. */
static inline void append(uint64_t uid, const char *id, uint32_t number, const char *response_id)
{
    const struct step *step = make_step(number, number + 1, response_id, 100);
    put(head_of(uid, id, number + 1, number + 1), number, REASON_NONE, &step, 1);
}

static inline enum status try_erase(uint64_t uid, const char *id, enum reason reason)
{
    struct tier_change change = {
        .kind = TIER_ERASE, .head = head_of(uid, id, 7, 9), .reason = reason};
    return apply_change(&change);
}

/* As the tree asked for it when it knew of that last use. */
static inline void erase_asked(uint64_t uid, const char *id, uint64_t used_ms)
{
    struct tier_change change = {.kind = TIER_ERASE,
                                 .head = head_of(uid, id, 7, 9),
                                 .reason = REASON_EXPIRED,
                                 .asked_used_ms = used_ms};
    ck_assert_int_eq(apply_change(&change), STATUS_OK);
}

static inline void erase(uint64_t uid, const char *id, enum reason reason)
{
    ck_assert_int_eq(try_erase(uid, id, reason), STATUS_OK);
}

/* ---- Reading ------------------------------------------------------------------------------- */

static inline struct tier_load load_counting(enum tier_load_kind kind, enum record_kind record_kind,
                                             const char *id, unsigned *damaged)
{
    struct tier_load load = {.kind = kind,
                             .record_kind = (uint8_t)record_kind,
                             .name = named(record_kind, id),
                             .id_size = (uint8_t)strlen(id)};
    memcpy(load.id, id, strlen(id));
    *damaged = 0;
    tree_load(tree, &load, damaged);
    return load;
}

static inline struct tier_load loaded(enum tier_load_kind kind, enum record_kind record_kind,
                                      const char *id)
{
    unsigned damaged;
    struct tier_load load = load_counting(kind, record_kind, id, &damaged);
    ck_assert_uint_eq(damaged, 0);
    return load;
}

static inline struct tier_load load_thread(const char *id)
{
    return loaded(TIER_LOAD_THREAD, RECORD_THREAD, id);
}

static inline enum tier_found find_thread(const char *id)
{
    struct tier_load load = load_thread(id);
    free(load.image);
    return load.found;
}

/* "found 7/2 v3", with " shared"; "gone expired", with " shared"; "absent". */
static inline const char *key_of(const char *response_id)
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

static inline struct bytes read_file(const char *name)
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

static inline void write_file(const char *name, struct bytes bytes)
{
    char path[128];
    path_of(path, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes.data, bytes.size), (ssize_t)bytes.size);
    close(fd);
}

/* What stands at a key of a table, as it lies there. */
static inline bool raw_value(enum tree_table table, MDB_val key, uint8_t *value, size_t *size)
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

static inline void put_raw(enum tree_table table, MDB_val key, const uint8_t *value, size_t size)
{
    MDB_txn *txn;
    MDB_val fresh = tree_val(value, size);
    ck_assert_int_eq(mdb_txn_begin(tree->env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_put(txn, tree->tables[table], &key, &fresh, 0), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
}

static inline void damage_record(enum tree_table table, MDB_val key)
{
    uint8_t value[RECORD_VALUE_MAX];
    size_t size;
    ck_assert(raw_value(table, key, value, &size));
    value[size - 1] ^= 1;
    put_raw(table, key, value, size);
}

static inline uint64_t count_of(enum tree_table table)
{
    MDB_txn *txn;
    MDB_stat stat;
    ck_assert_int_eq(mdb_txn_begin(tree->env, NULL, MDB_RDONLY, &txn), 0);
    ck_assert_int_eq(mdb_stat(txn, tree->tables[table], &stat), 0);
    mdb_txn_abort(txn);
    return stat.ms_entries;
}

/* Everything in the tree but places in the ring (which repeating a burial changes) and of names (at
 * home, or the run), as one hash; counts keys' and values' bytes. */
static inline uint64_t sum_tree(uint64_t *bytes)
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
            if (table == TREE_NAMES || table == TREE_KEYS || table == TREE_YOUNG) {
                memset(copy + 8, 0, RECORD_SEAL_BYTES - 8); /* of the key as well */
            }
            size_t run = table == TREE_YOUNG ? TREE_RUN_BYTES : 0;
            enum tree_table home = table != TREE_YOUNG      ? table
                                   : copy[1] == RECORD_NAME ? TREE_NAMES
                                                            : TREE_KEYS;
            const uint8_t *name = (const uint8_t *)key.mv_data + run;
            size_t name_bytes = key.mv_size - run;
            sum += XXH3_64bits_withSeed(name, name_bytes, home) * 3 +
                   XXH3_64bits_withSeed(copy, value.mv_size, XXH3_64bits(name, name_bytes));
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return sum;
}

static inline void note_damage(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, "%s\n", text);
}

/* What is counted as it goes is what is there; every record checks. */
static inline void check_tree(void)
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

#endif
