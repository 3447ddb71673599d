/* Runs of plain puts: they come to what the same puts come to one by one, wherever they end. */
#include "store/tree_bulk.h"

#include "tests/store/test_tree.h"

enum { GROUPS = 60, KEYS = 9, THREADS = 6 };

/* A batch that follows upon the base: appends to two threads that are there and to new ones, with
 * few keys for many steps, and now and then what is not plain. */
struct batch {
    struct record_buffer buffer;
    struct tree_group groups[GROUPS];
    uint32_t lengths[THREADS + 1];
    uint32_t versions[THREADS + 1];
};

static const char *const ids[] = {"", "t", "u", "v", "w", "x", "y"};

static void put_base(void)
{
    append(1, "t", 0, "r0");
    append(1, "t", 1, "r1");
    append(2, "u", 0, "r2");
    append(9, "gone", 0, "r3");
    erase(9, "gone", REASON_EXPIRED);
}

static void make_group(struct batch *batch, unsigned i, bool only_plain, uint64_t *state)
{
    uint64_t uid = 1 + trial_below(state, THREADS);
    uint32_t *length = &batch->lengths[uid];
    uint32_t version = ++batch->versions[uid];
    bool rewind = !only_plain && *length > 1 && trial_below(state, 12) == 0;
    bool erase = !only_plain && *length > 0 && trial_below(state, 12) == 0;
    char id[8];
    snprintf(id, sizeof id, "r%u", (unsigned)trial_below(state, KEYS));
    const struct step *step = NULL;
    struct tier_change change = {.kind = erase ? TIER_ERASE : TIER_PUT, .drop_from = *length};
    if (rewind) {
        change.drop_from = --*length;
        change.reason = REASON_REWOUND;
    } else if (!erase) {
        size_t size = trial_below(state, 4) ? 50 + (size_t)trial_below(state, 200) : 6000;
        size = i == 0 ? 100000 : size; /* all keys are entered long before it is */
        step = make_step(*length, version, trial_below(state, 4) ? id : NULL, size);
        change.steps = &step;
        change.step_count = 1;
        ++*length;
    }
    struct recall_entry recall = {
        .key = {i, uid}, .ordinal = version, .step = *length, .version = version};
    change.recalls = &recall;
    change.recall_count = step && trial_below(state, 3) == 0;
    /* Of those that are new the uids are above all that the tree has had. */
    change.head = head_of(uid > 2 ? uid + 10 : uid, ids[uid], *length, version);
    change.reason = erase ? REASON_FORGOTTEN : change.reason;
    *length = erase ? 0 : *length;
    size_t at = batch->buffer.size;
    ck_assert(record_put_group(&batch->buffer, &change, secret, RECORD_PLAIN));
    batch->groups[i] = (struct tree_group){.bytes = bytes_of(NULL, batch->buffer.size - at)};
    if (step) {
        step_discard(domain.lane, (struct step *)(uintptr_t)step);
    }
}

static void make_batch(struct batch *batch, bool only_plain, uint64_t seed)
{
    uint64_t state = seed;
    *batch = (struct batch){.lengths = {[1] = 2, [2] = 1}, .versions = {[1] = 2, [2] = 1}};
    for (unsigned i = 0; i < GROUPS; i++) {
        make_group(batch, i, only_plain, &state);
    }
    size_t at = 0;
    for (unsigned i = 0; i < GROUPS; i++) {
        size_t size = batch->groups[i].bytes.size;
        batch->groups[i] = (struct tree_group){.bytes = bytes_of(batch->buffer.data + at, size),
                                               .sequence = sequence + 1 + i};
        at += size;
    }
}

static enum status apply_from(const struct batch *batch, unsigned first, unsigned count,
                              size_t *taken)
{
    return tree_apply(tree, batch->groups + first, count, taken, tell, NULL, &trouble);
}

static uint64_t sum_one_by_one(const struct batch *batch, uint64_t *bytes)
{
    for (unsigned i = 0; i < GROUPS; i++) {
        size_t taken;
        ck_assert_int_eq(apply_from(batch, i, 1, &taken), STATUS_OK);
        ck_assert_uint_eq(taken, 1);
    }
    check_tree();
    return sum_tree(bytes);
}

START_TEST(a_run_comes_to_what_its_puts_come_to_one_by_one)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        uint64_t bytes, meant_bytes;
        struct batch batch;
        start_anew();
        put_base();
        make_batch(&batch, seed % 3 == 0, seed);
        uint64_t meant = sum_one_by_one(&batch, &meant_bytes);
        struct tree_numbers numbers = tree_numbers(tree);
        start_anew();
        put_base();
        tree->txn_cost = seed % 2 ? 5 + (unsigned)seed : tree->txn_cost;
        size_t taken;
        ck_assert_int_eq(apply_from(&batch, 0, GROUPS, &taken), STATUS_OK);
        ck_assert_uint_eq(taken, GROUPS);
        ck_assert_msg(sum_tree(&bytes) == meant, "seed %d", (int)seed);
        ck_assert_uint_eq(bytes, meant_bytes);
        ck_assert_uint_eq(tree_numbers(tree).threads, numbers.threads);
        ck_assert_uint_eq(tree_numbers(tree).live_bytes, numbers.live_bytes);
        ck_assert_uint_eq(tree_next_uid(tree), 10 + THREADS + 1);
        check_tree();
        record_buffer_free(&batch.buffer);
    }
}
END_TEST

/* Whoever reads meanwhile finds each thread whole as far as it is there. */
static void check_between(void)
{
    for (unsigned i = 1; i <= THREADS; i++) {
        struct tier_load load = load_thread(ids[i]);
        ck_assert_int_ne(load.found, TIER_CORRUPT);
        for (unsigned s = 0; load.image && s < load.image->step_count; s++) {
            ck_assert(!load.image->steps[s].corrupt);
            ck_assert_uint_eq(load.image->steps[s].number, s);
        }
        free(load.image);
    }
    for (unsigned i = 0; i < KEYS; i++) {
        char id[8];
        snprintf(id, sizeof id, "r%u", i);
        ck_assert_str_ne(key_of(id), "trouble");
        /* Nor may a uid be given away that a key leads to, should the log be lost. */
        ck_assert_uint_lt(loaded(TIER_LOAD_KEY, RECORD_RESPONSE_ID, id).key.uid,
                          tree_next_uid(tree));
    }
}

/* Breaks it off wherever the map gets full, with transactions of a few records. */
START_TEST(a_run_that_was_broken_off_is_done_again)
{
    unsigned broken = 0;
    unsigned within = 0; /* after a commit that took no group in */
    for (uint64_t seed = 1; seed <= 3; seed++) {
        uint64_t bytes;
        struct batch batch;
        start_anew();
        put_base();
        make_batch(&batch, seed % 2 == 0, seed);
        uint64_t base_sequence = sequence;
        close_tree();
        struct bytes base = read_file("tree.mdb");
        open_tree();
        uint64_t meant = sum_one_by_one(&batch, &bytes);
        enum status status = STATUS_INTERNAL;
        for (size_t pages = 24; status; pages++) {
            close_tree();
            write_file("tree.mdb", base);
            size_t map = pages * (size_t)sysconf(_SC_PAGESIZE);
            ck_assert_int_eq(tree_open_mapped(directory, &settings, map, &tree, &trouble),
                             STATUS_OK);
            tree->txn_cost = 7;
            uint64_t commits = tree_numbers(tree).commits;
            size_t taken;
            status = apply_from(&batch, 0, GROUPS, &taken);
            ck_assert_uint_eq(tree_applied(tree), base_sequence + taken);
            if (status) {
                ck_assert_int_eq(trouble.error, ENOSPC);
                ck_assert(!tree_numbers(tree).broken);
                broken++;
                within += tree_numbers(tree).commits > commits && taken == 0;
                check_between();
                reopen_tree();
                check_between();
                tree->txn_cost = pages % 2 ? 7 : tree->txn_cost;
                for (unsigned i = 0; pages % 3 == 0 && i < GROUPS; i++) {
                    ck_assert_int_eq(apply_from(&batch, i, 1, &taken), STATUS_OK);
                }
                ck_assert_int_eq(apply_from(&batch, 0, GROUPS, &taken), STATUS_OK);
            }
            ck_assert_uint_eq(taken, GROUPS);
            ck_assert_msg(sum_tree(&bytes) == meant, "seed %d at %zu pages", (int)seed, pages);
            check_tree();
        }
        let_go(base);
        record_buffer_free(&batch.buffer);
    }
    ck_assert_uint_gt(broken, 40);
    ck_assert_uint_gt(within, 5);
}
END_TEST

START_TEST(plain_steps_are_compressed_on_their_way_in)
{
    struct step_parts parts;
    uint32_t segment = 5000;
    tree_compress(tree, true);
    struct ask ask;
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
    ask_kind(&ask, WIRE_KIND_TEXT);
    ask_payload(&ask, bytes_of(prose, segment));
    ask_set(&ask, response_id, bytes_text("r"));
    const struct step *step = step_of(&ask, 0, 1);
    struct tier_change change = {
        .kind = TIER_PUT, .head = head_of(1, "t", 1, 1), .steps = &step, .step_count = 1};
    struct record_buffer buffer = {0};
    ck_assert(record_put_group(&buffer, &change, secret, RECORD_PLAIN));
    ck_assert_uint_gt(buffer.size, segment);
    ck_assert_int_eq(apply_bytes(bytes_of(buffer.data, buffer.size), ++sequence), STATUS_OK);
    ck_assert_uint_lt(tree_numbers(tree).live_bytes, segment);
    struct tier_load load = load_thread("t");
    ck_assert_int_eq(load.found, TIER_FOUND);
    step_parts(step, &parts);
    check_parts(&load.image->steps[0], &parts);
    KEY("r", "found 1/0 v1");
    free(load.image);
    record_buffer_free(&buffer);
    step_discard(domain.lane, (struct step *)(uintptr_t)step);
    check_tree();
}
END_TEST

int main(void)
{
    return SUITE_RUN("tree_bulk", setup_tree, teardown_tree, 120,
                     a_run_comes_to_what_its_puts_come_to_one_by_one,
                     a_run_that_was_broken_off_is_done_again,
                     plain_steps_are_compressed_on_their_way_in);
}
