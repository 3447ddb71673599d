/* Names in young and at home: each has one entry, is found there, and comes home in time. */
#include "store/tree_names.h"

#include "tests/store/test_tree.h"
#include "tests/store/test_young.h"

#include "store/tree_read.h"

enum { RUN_NAMES = TREE_RUN_SHARES, THREADS = 3000, RUNS_MAX = 10, PLAYED = 700, PLAYERS = 120 };

static void set_up(void)
{
    setup_tree();
    tree->run_names = RUN_NAMES;
}

/* ---- Many ----------------------------------------------------------------------------------- */

static const char *id_of(char kind, unsigned i)
{
    static char text[2][16];
    char *id = text[kind == 't'];
    snprintf(id, sizeof text[0], "%c%u", kind, i);
    return id;
}

/* Threads t<from> to t<to>, of one step each with the key r<i>, in one call. */
static size_t put_threads(unsigned from, unsigned to, enum status *status)
{
    static struct tree_group groups[THREADS];
    struct record_buffer buffer = {0};
    static size_t ends[THREADS];
    for (unsigned i = from; i < to; i++) {
        const struct step *step = make_step(0, 1, NULL, 50);
        struct ask ask;
        ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
        ask_set(&ask, response_id, bytes_text(id_of('r', i)));
        step_discard(domain.lane, (struct step *)(uintptr_t)step);
        step = step_of(&ask, 0, 1);
        struct tier_change change = {.kind = TIER_PUT,
                                     .head = head_of(i + 1, id_of('t', i), 1, 1),
                                     .steps = &step,
                                     .step_count = 1};
        ck_assert(record_put_group(&buffer, &change, secret, RECORD_PLAIN));
        step_discard(domain.lane, (struct step *)(uintptr_t)step);
        ends[i - from] = buffer.size;
    }
    for (unsigned i = 0; i < to - from; i++) {
        size_t at = i ? ends[i - 1] : 0;
        groups[i] = (struct tree_group){.bytes = bytes_of(buffer.data + at, ends[i] - at),
                                        .sequence = sequence + 1 + i};
    }
    size_t taken;
    *status = tree_apply(tree, groups, to - from, &taken, tell, NULL, &trouble);
    sequence += taken;
    record_buffer_free(&buffer);
    return taken;
}

static void check_threads(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct name_place place;
        ck_assert_uint_eq(places_of(tree, TREE_NAMES, named(RECORD_THREAD, id_of('t', i)), &place),
                          1);
        ck_assert_uint_eq(
            places_of(tree, TREE_KEYS, named(RECORD_RESPONSE_ID, id_of('r', i)), &place), 1);
        char meant[48];
        snprintf(meant, sizeof meant, "found %u/0 v1", i + 1);
        KEY(id_of('r', i), meant);
    }
    ck_assert_uint_eq(count_of(TREE_NAMES) + count_of(TREE_KEYS) + count_of(TREE_YOUNG),
                      2 * (uint64_t)count);
    check_tree();
}

START_TEST(each_has_one_entry_and_comes_home)
{
    static const unsigned pieces[] = {1, 7, 31, 32, 33, 100};
    enum status status;
    unsigned count = 0;
    for (unsigned turn = 0; count < THREADS; turn++) {
        unsigned more = pieces[turn % 6];
        more = count + more < THREADS ? more : THREADS - count;
        tree->txn_cost = turn % 2 ? 50 : TREE_TXN_COST;
        ck_assert_uint_eq(put_threads(count, count + more, &status), more);
        count += more;
        ck_assert_uint_le(tree->state.run - tree_names_first_run(&tree->state), RUNS_MAX - 1);
        if (turn % 24 == 19) {
            check_threads(count);
            struct tree_state state = tree->state;
            reopen_tree();
            tree->run_names = RUN_NAMES;
            ck_assert_mem_eq(&tree->state, &state, sizeof state);
        }
    }
    check_threads(THREADS);
    /* All runs but the newest have gone, and of those that are left a part. */
    ck_assert_uint_gt(tree->state.run, 2 * RUNS_MAX);
    ck_assert_uint_lt(count_of(TREE_YOUNG), 20 * RUN_NAMES);
    ck_assert_uint_gt(count_of(TREE_NAMES), THREADS / 2);
    ck_assert_uint_gt(count_of(TREE_KEYS), THREADS / 2);
}
END_TEST

START_TEST(new_ones_share_few_pages)
{
    tree->run_names = TREE_RUN_NAMES;
    enum status status;
    ck_assert_uint_eq(put_threads(0, THREADS, &status), THREADS);
    ck_assert_uint_eq(count_of(TREE_YOUNG), 2 * THREADS);
    ck_assert_uint_eq(tree->state.run_names, 2 * THREADS);
}
END_TEST

START_TEST(a_full_map_breaks_off_a_share)
{
    close_tree();
    remove_files();
    ck_assert_int_eq(tree_open_mapped(directory, &settings, 500 << 10, &tree, &trouble), STATUS_OK);
    tree->run_names = RUN_NAMES;
    enum status status = STATUS_OK;
    unsigned count = 0;
    while (status == STATUS_OK && count < THREADS) {
        tree->txn_cost = count % 3 ? 3 : 200;
        count += (unsigned)put_threads(count, count + 20, &status);
    }
    ck_assert_int_eq(trouble.error, ENOSPC);
    ck_assert(!tree_numbers(tree).broken);
    ck_assert_uint_gt(tree->state.shares, TREE_SHARES / 2);
    check_tree();
    reopen_tree(); /* with more room */
    tree->run_names = RUN_NAMES;
    unsigned end = count + 300;
    while (count < end) {
        count += (unsigned)put_threads(count, end, &status);
        ck_assert_int_eq(status, STATUS_OK);
    }
    check_threads(end);
}
END_TEST

START_TEST(a_share_that_is_dropped_is_moved_again)
{
    enum status status;
    put_threads(0, 300, &status);
    uint64_t bytes, before = sum_tree(&bytes), shares = tree->state.shares;
    uint64_t young = count_of(TREE_YOUNG);
    for (unsigned i = 0; i < 20; i++) {
        struct tree_txn txn;
        ck_assert_int_eq(tree_begin(tree, &txn), 0);
        txn.state.run++;
        for (unsigned n = 0; n <= i; n++) {
            bool moved;
            ck_assert_int_eq(tree_names_move_share(&txn, &moved), 0);
            ck_assert(moved);
        }
        tree_abort(&txn);
    }
    ck_assert_uint_eq(sum_tree(&bytes), before);
    ck_assert_uint_eq(tree->state.shares, shares);
    ck_assert_uint_eq(count_of(TREE_YOUNG), young);
    bring_home(tree);
    ck_assert_uint_eq(count_of(TREE_YOUNG), 0);
    ck_assert_uint_eq(sum_tree(&bytes), before);
    check_threads(300);
}
END_TEST

/* ---- The same with and without -------------------------------------------------------------- */

struct player {
    uint64_t uid;
    uint32_t length;
    uint32_t version;
};

/* One change of a thread; its keys are others' as well. */
static void play_one(struct player *player, unsigned which, uint64_t *next_uid, uint64_t *state)
{
    unsigned what = (unsigned)trial_below(state, 10);
    const char *id = id_of('t', which);
    if (player->length > 0 && what == 0) {
        erase(player->uid, id, trial_below(state, 2) ? REASON_EXPIRED : REASON_NONE);
        player->length = 0;
        return;
    }
    if (player->length == 0) {
        *player = (struct player){.uid = (*next_uid)++};
    }
    uint32_t from = player->length;
    if (player->length > 1 && what == 1) {
        from = (uint32_t)trial_below(state, player->length);
    }
    char key[16];
    snprintf(key, sizeof key, "r%u", (unsigned)trial_below(state, 300));
    struct ask ask;
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
    ask_set(&ask, response_id, bytes_text(key));
    player->version++;
    const struct step *step = step_of(&ask, from, player->version);
    player->length = from + 1;
    put(head_of(player->uid, id, player->length, player->version), from,
        what == 1 ? REASON_REWOUND : REASON_NONE, &step, 1);
}

static uint64_t play(uint64_t seed, unsigned run_names, unsigned txn_cost)
{
    struct player players[PLAYERS] = {{0}};
    uint64_t next_uid = 1, state = seed, bytes;
    start_anew();
    for (unsigned i = 0; i < PLAYED; i++) {
        tree->run_names = run_names;
        tree->txn_cost = txn_cost;
        unsigned which = (unsigned)trial_below(&state, PLAYERS);
        play_one(&players[which], which, &next_uid, &state);
        if (i % 250 == 249) {
            check_tree();
            reopen_tree();
        }
    }
    check_tree();
    return sum_tree(&bytes);
}

START_TEST(what_is_there_is_the_same)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        uint64_t meant = play(seed, TREE_RUN_NAMES, TREE_TXN_COST);
        ck_assert_uint_eq(count_of(TREE_KEYS), 0);
        ck_assert_uint_eq(play(seed, RUN_NAMES, seed % 2 ? 2 : TREE_TXN_COST), meant);
        ck_assert_uint_gt(count_of(TREE_KEYS), 0);
    }
}
END_TEST

/* ---- The filter ----------------------------------------------------------------------------- */

enum { KNOWN_MAX = 4 * THREADS };

static struct known {
    struct index_hash names[KNOWN_MAX];
    unsigned count;
    unsigned noes;
} known;

static void learn(void *context, struct index_hash name)
{
    (void)context;
    ck_assert_uint_lt(known.count, KNOWN_MAX);
    known.names[known.count++] = name;
}

static bool is_known(void *context, struct index_hash name)
{
    (void)context;
    for (unsigned i = 0; i < known.count; i++) {
        if (tree_same_name(known.names[i], name)) {
            return true;
        }
    }
    known.noes++;
    return false;
}

static void learn_all(void)
{
    uint8_t after[24] = {0};
    struct index_hash names[16];
    unsigned count;
    known.count = known.noes = 0;
    bool more;
    do {
        more = tree_names(tree, names, 16, &count, after);
        for (unsigned i = 0; i < count; i++) {
            learn(NULL, names[i]);
        }
    } while (more);
    ck_assert_uint_eq(after[0], TREE_NAMES_END);
}

START_TEST(who_asks_a_filter_does_the_same)
{
    const struct step *step;
    uint64_t sums[2], bytes;
    for (unsigned asks = 0; asks < 2; asks++) {
        start_anew();
        tree->run_names = RUN_NAMES;
        for (unsigned i = 0; i < 150; i++) {
            append(i + 1, id_of('t', i), 0, "r"); /* all of them have it */
        }
        erase(3, "t2", REASON_EXPIRED);
        if (asks) {
            learn_all();
            tree_ask_for_names(tree, is_known, NULL);
        }
        for (unsigned i = 140; i < 170; i++) {
            step = make_step(i < 150, 2, i % 2 ? "r" : NULL, 100);
            struct tier_change change = {.kind = TIER_PUT,
                                         .head = head_of(i + 1, id_of('t', i), 1 + (i < 150), 2),
                                         .drop_from = i < 150,
                                         .steps = &step,
                                         .step_count = 1};
            struct record_buffer buffer = {0};
            ck_assert(record_put_group(&buffer, &change, secret, RECORD_PLAIN));
            struct tree_group group = {.bytes = bytes_of(buffer.data, buffer.size),
                                       .sequence = ++sequence};
            size_t taken;
            ck_assert_int_eq(
                tree_apply(tree, &group, 1, &taken, asks ? learn : tell, NULL, &trouble),
                STATUS_OK);
            record_buffer_free(&buffer);
            step_discard(domain.lane, (struct step *)(uintptr_t)step);
        }
        check_tree();
        sums[asks] = sum_tree(&bytes);
        tree_ask_for_names(tree, NULL, NULL);
    }
    ck_assert_uint_eq(sums[0], sums[1]);
    ck_assert_uint_ge(known.noes, 20);
}
END_TEST

/* A walk in pieces, while names come and others go home. */
START_TEST(a_walk_misses_none_that_come_home)
{
    enum status status;
    struct index_hash names[5];
    put_threads(0, 200, &status);
    for (unsigned count = 200; count < THREADS - 20;) {
        uint8_t after[24] = {0};
        unsigned first = count, got;
        bool more = true;
        known.count = 0;
        for (unsigned piece = 0; more; piece++) {
            more = tree_names(tree, names, 5, &got, after);
            for (unsigned i = 0; i < got; i++) {
                learn(NULL, names[i]);
            }
            if (piece % 3 == 0 && count < first + 300 && count < THREADS - 20) {
                put_threads(count, count + 4, &status);
                count += 4;
            }
        }
        ck_assert_uint_eq(after[0], TREE_NAMES_END);
        for (unsigned i = 0; i < first; i++) {
            ck_assert(is_known(NULL, named(RECORD_THREAD, id_of('t', i))));
            ck_assert(is_known(NULL, named(RECORD_RESPONSE_ID, id_of('r', i))));
        }
    }
}
END_TEST

/* ---- Damage --------------------------------------------------------------------------------- */

static enum tier_found found_of(enum tier_load_kind kind, enum record_kind record_kind,
                                const char *id)
{
    unsigned damaged;
    struct tier_load load = load_counting(kind, record_kind, id, &damaged);
    free(load.image);
    return load.found;
}

/* Flips a bit of the value; -1: it becomes as large as can be. */
static void damage_young(enum tree_table home, struct index_hash name, int at)
{
    uint8_t value[RECORD_VALUE_MAX] = {0};
    size_t size;
    struct name_place place = place_of(tree, home, name);
    MDB_val key = tree_val(place.key, place.key_bytes);
    ck_assert_int_eq(place.table, TREE_YOUNG);
    ck_assert(raw_value(TREE_YOUNG, key, value, &size));
    if (at >= 0) {
        value[at] ^= 1;
    }
    put_raw(TREE_YOUNG, key, value, at >= 0 ? size : 1000);
}

/* So many that all the older ones would have come home. */
static void put_many(void)
{
    enum status status;
    for (unsigned count = 10; count < 10 + 20 * RUN_NAMES; count += RUN_NAMES / 2) {
        put_threads(count, count + RUN_NAMES / 2, &status);
        ck_assert_int_eq(status, STATUS_OK);
    }
}

START_TEST(what_is_damaged_stays_in_young)
{
    static const int places[] = {0, 1, 4, 9, RECORD_SEAL_BYTES, -1};
    for (unsigned i = 0; i < sizeof places / sizeof places[0]; i++) {
        start_anew();
        tree->run_names = RUN_NAMES;
        append(1, "t", 0, "r");
        append(2, "u", 0, "s");
        damage_young(TREE_NAMES, named(RECORD_THREAD, "t"), places[i]);
        damage_young(TREE_KEYS, named(RECORD_RESPONSE_ID, "s"), places[i]);
        put_many();
        ck_assert_uint_eq(tree_numbers(tree).damaged, 1); /* the share that nothing goes beyond */
        ck_assert_uint_le(tree->state.run, 2);
        ck_assert_int_eq(found_of(TIER_LOAD_THREAD, RECORD_THREAD, "t"), TIER_CORRUPT);
        ck_assert_int_eq(found_of(TIER_LOAD_KEY, RECORD_RESPONSE_ID, "s"), TIER_CORRUPT);
        ck_assert_int_eq(found_of(TIER_LOAD_THREAD, RECORD_THREAD, "u"), TIER_FOUND);
        ck_assert_int_eq(found_of(TIER_LOAD_KEY, RECORD_RESPONSE_ID, "r"), TIER_FOUND);
        /* Put anew they are as good as ever, and all goes on. */
        append(1, "t", 1, "r");
        append(2, "u", 1, "s");
        for (unsigned count = 2000; count < 2900; count += RUN_NAMES / 2) {
            enum status status;
            put_threads(count, count + RUN_NAMES / 2, &status);
        }
        ck_assert_int_eq(found_of(TIER_LOAD_THREAD, RECORD_THREAD, "t"), TIER_FOUND);
        ck_assert_int_eq(found_of(TIER_LOAD_KEY, RECORD_RESPONSE_ID, "s"), TIER_FOUND);
        ck_assert_uint_gt(tree->state.run, RUNS_MAX);
        ck_assert_int_eq(place_of(tree, TREE_NAMES, named(RECORD_THREAD, "t")).table, TREE_NAMES);
        ck_assert_uint_gt(count_of(TREE_NAMES), 500);
        struct tree_audit audit;
        ck_assert_int_eq(tree_verify(tree, note_damage, NULL, &audit, &trouble), STATUS_OK);
        ck_assert_uint_eq(audit.damaged, 0);
    }
}
END_TEST

/* Flips bits of a key of young in the file itself, in all its old copies as well. */
static void flip_key(const struct name_place *place, unsigned at, uint8_t mask)
{
    struct bytes file = read_file("tree.mdb");
    unsigned found = 0;
    uint8_t *bytes = (uint8_t *)(uintptr_t)file.data;
    for (size_t i = 0; i + place->key_bytes <= file.size; i++) {
        if (memcmp(bytes + i, place->key, place->key_bytes) == 0) {
            bytes[i + at] ^= mask;
            found++;
        }
    }
    ck_assert_uint_gt(found, 0);
    close_tree();
    write_file("tree.mdb", file);
    free(bytes);
    open_tree();
}

/*
 * A bit of a key flips: of its run, its share, or the rest. No other name gets lost by it, nor is
 * its own ever said not to be there. (Of those that are put on the very page of the damaged one
 * afterwards some may be: LMDB has no way to know where in it they belong.)
 */
START_TEST(a_damaged_key_hides_no_other)
{
    static const struct {
        unsigned at;
        uint8_t mask;
    } flips[] = {{0, 0x80}, {3, 1},  {3, 2},    {4, 0x80}, {4, 1},    {5, 0x80}, {5, 0x40},
                 {12, 8},   {19, 1}, {4, 0x80}, {4, 1},    {5, 0x80}, {4, 0x80}, {5, 0x80}};
    enum { FIRST = 900, RUN = 4 * TREE_RUN_SHARES, FLIPS = sizeof flips / sizeof flips[0] };
    for (unsigned i = 0; i < FLIPS; i++) {
        enum status status;
        unsigned victim = 31 * i;
        start_anew();
        tree->run_names = RUN;
        put_threads(0, FIRST, &status);
        struct name_place place =
            place_of(tree, TREE_NAMES, named(RECORD_THREAD, id_of('t', victim)));
        ck_assert_int_eq(place.table, TREE_YOUNG);
        flip_key(&place, flips[i].at, flips[i].mask);
        tree->run_names = RUN;
        unsigned count = FIRST;
        for (; count < THREADS; count += 100) {
            put_threads(count, count + 100, &status);
            ck_assert_int_eq(status, STATUS_OK);
        }
        for (unsigned t = 0; t < FIRST; t++) {
            enum tier_found found = found_of(TIER_LOAD_THREAD, RECORD_THREAD, id_of('t', t));
            ck_assert_msg(found == TIER_FOUND || found == TIER_CORRUPT, "flip %u: thread %u: %d", i,
                          t, found);
            ck_assert(found == TIER_CORRUPT || t != victim);
        }
    }
}
END_TEST

/* Where a look-up passes is not where it ends. */
START_TEST(damage_beside_does_not_hide_what_is_whole)
{
    for (unsigned home = 0; home < 2; home++) {
        start_anew();
        enum status status;
        put_threads(100, 101, &status);
        if (home) {
            bring_home(tree);
            put_threads(0, 50, &status);
            struct tree_name name = tree_name(named(RECORD_THREAD, id_of('t', 100)));
            damage_record(TREE_NAMES, tree_val(name.bytes, sizeof name.bytes));
        } else {
            struct tree_txn txn;
            put_threads(0, 50, &status);
            ck_assert_int_eq(tree_begin(tree, &txn), 0);
            txn.state.run++;
            ck_assert_int_eq(tree_commit(&txn), 0);
            put_threads(101, 102, &status);
            damage_young(TREE_NAMES, named(RECORD_THREAD, id_of('t', 101)), 9);
            damage_young(TREE_KEYS, named(RECORD_RESPONSE_ID, id_of('r', 101)), 9);
        }
        for (unsigned i = 0; i < 50; i++) {
            ck_assert_int_eq(found_of(TIER_LOAD_THREAD, RECORD_THREAD, id_of('t', i)), TIER_FOUND);
            ck_assert_int_eq(found_of(TIER_LOAD_KEY, RECORD_RESPONSE_ID, id_of('r', i)),
                             TIER_FOUND);
        }
        ck_assert_int_eq(found_of(TIER_LOAD_THREAD, RECORD_THREAD, "never"), TIER_CORRUPT);
    }
}
END_TEST

static void count_damage(void *context, const char *text)
{
    (void)text;
    ++*(unsigned *)context;
}

/* An entry that no look-up comes to, or comes to before another. */
START_TEST(a_second_entry_is_damage)
{
    for (unsigned where = 0; where < 3; where++) {
        start_anew();
        append(1, "t", 0, "r");
        struct name_place place = place_of(tree, TREE_KEYS, named(RECORD_RESPONSE_ID, "r"));
        struct tree_key_entry entry = {
            .uid = 1, .version = 1, .kind = RECORD_RESPONSE_ID, .owner = named(RECORD_THREAD, "t")};
        uint8_t body[RECORD_KEY_BYTES];
        tree_put_key_entry(body, &entry);
        struct tree_txn txn;
        ck_assert_int_eq(tree_begin(tree, &txn), 0);
        txn.state.run++;
        bytes_store_be32(place.key, where == 0 ? 1 : 2); /* the run under way, or none */
        MDB_val key = where == 2 ? tree_val(place.key + TREE_RUN_BYTES, TREE_NAME_BYTES)
                                 : tree_val(place.key, place.key_bytes);
        ck_assert_int_eq(tree_put(&txn, where == 2 ? TREE_KEYS : TREE_YOUNG, key, RECORD_KEY,
                                  bytes_of(body, sizeof body)),
                         0);
        ck_assert_int_eq(tree_commit(&txn), 0);
        unsigned told = 0;
        struct tree_audit audit;
        ck_assert_int_eq(tree_verify(tree, count_damage, &told, &audit, &trouble), STATUS_OK);
        ck_assert_uint_eq(told, 1);
    }
}
END_TEST

int main(void)
{
    return SUITE_RUN("tree_names", set_up, teardown_tree, 60, each_has_one_entry_and_comes_home,
                     new_ones_share_few_pages, a_full_map_breaks_off_a_share,
                     a_share_that_is_dropped_is_moved_again, what_is_there_is_the_same,
                     who_asks_a_filter_does_the_same, a_walk_misses_none_that_come_home,
                     what_is_damaged_stays_in_young, a_damaged_key_hides_no_other,
                     damage_beside_does_not_hide_what_is_whole, a_second_entry_is_damage);
}
