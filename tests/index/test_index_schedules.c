/*
 * The index under every schedule that counts.
 *
 * For two contexts all schedules with a bounded number of preemptions are run, for three a fixed
 * set of random ones. At every point no key may have two final slots (O4); at the end of each
 * schedule the answers must be those of some sequential order that respects which operation ended
 * before which began (O2, O3, O5), no slot may be left taken for nothing, no hint may be later than
 * a tick (H1 to H3), and all memory must come back.
 */
#include "tests/index/test_index_explored.h"

enum {
    OPS_MAX = 4,   /* of one context */
    KEYS_MAX = 12, /* of one scenario */
    HISTORY_MAX = 32,
};

/* ---- Scenarios ------------------------------------------------------------------------------- */

enum op_kind { OP_NONE, OP_INSERT, OP_FIND, OP_REMOVE, OP_REPLACE, OP_RETICK, OP_SWEEP, OP_PASS };

/* OP_SWEEP visits all, OP_PASS what is due at TICK_PASS. */
enum { TICK_RETICK = 3, TICK_INSERT = 5, TICK_REPLACE = 6, TICK_SWEEP = 7, TICK_PASS = 5 };

/* A record's name: key a..l, and a number that tells the records of one key apart. */
struct op {
    enum op_kind kind;
    char key;
    unsigned number;
    unsigned fresh; /* OP_REPLACE */
};

struct scenario {
    const char *before; /* keys whose record 0 is there at first */
    struct op ops[CONTEXTS_MAX][OPS_MAX];
    unsigned preemptions_max;
    unsigned lines_added_max;
    unsigned split_records_min;
    bool spread; /* keys differ in the lowest hash bits: else only in the high ones */
};

enum { NUMBERS_MAX = 5, NOBODY = 99 };

struct explored_record {
    struct index_record record;
    char key;
    unsigned number;
    bool inserted; /* an insert of it was answered with INDEX_DONE */
    uint8_t padding[6];
};

/* One answered operation. */
struct event {
    struct op op;
    unsigned begin;
    unsigned end;
    unsigned answer; /* number found, existing or NOBODY; for the others whether it was done */
    bool used;
};

static const struct scenario *scenario;
static struct index *explored;
static struct explored_record *records[KEYS_MAX][NUMBERS_MAX];
static struct event history[HISTORY_MAX];
static unsigned history_count;
static unsigned event_time;

static bool record_matches(const struct index_record *record, const void *key)
{
    return ((const struct explored_record *)(const void *)record)->key == *(const char *)key;
}

static unsigned number_of(const struct index_record *record)
{
    return record == NULL ? NOBODY : ((const struct explored_record *)(const void *)record)->number;
}

static struct index_hash hash_of(char key)
{
    uint64_t k = (uint64_t)(key - 'a');
    uint64_t low = scenario->spread ? k | 0x5500000000u : k << 53 | 0x5500000001u;
    return (struct index_hash){.low = low, .high = k};
}

static uint16_t tick_again(void *context, struct index_record *record)
{
    (void)context;
    (void)record;
    return TICK_SWEEP;
}

static void sweep_all(struct epoch_member *member, bool all)
{
    struct index_cursor cursor = {0};
    while (!index_sweep(explored, member, &cursor, 0, 1, 100, all, TICK_PASS, tick_again, NULL)) {
    }
}

static void op_run(struct op op, struct epoch_member *member)
{
    if (op.kind == OP_NONE) {
        return;
    }
    unsigned k = op.key == 'z' ? 0 : (unsigned)(op.key - 'a');
    struct explored_record *record = records[k][op.number];
    if (op.kind == OP_INSERT && record->inserted) {
        return; /* a second try after INDEX_EXISTS, not needed */
    }
    struct event event = {.op = op, .begin = event_time++};
    struct index_record *existing = NULL;
    switch (op.kind) {
    case OP_INSERT:
        if (index_insert(explored, member, hash_of(op.key), &record->record, TICK_INSERT,
                         record_matches, &op.key, &existing) == INDEX_DONE) {
            record->inserted = true;
        }
        event.answer = number_of(existing);
        break;
    case OP_FIND:
        event.answer = number_of(index_find(explored, hash_of(op.key), record_matches, &op.key));
        break;
    case OP_REMOVE:
        event.answer = index_remove(explored, member, &record->record);
        break;
    case OP_REPLACE:
        event.answer = index_replace(explored, member, &record->record,
                                     &records[k][op.fresh]->record, TICK_REPLACE);
        break;
    case OP_RETICK:
        index_retick(explored, member, &record->record, TICK_RETICK);
        return;
    case OP_SWEEP:
    case OP_PASS:
        sweep_all(member, op.kind == OP_SWEEP);
        return;
    case OP_NONE:
        return;
    }
    event.end = event_time++;
    MUST(history_count < HISTORY_MAX);
    history[history_count++] = event;
}

/* ---- Judging --------------------------------------------------------------------------------- */

/* Whether `state` (a record's number or NOBODY) allows the answer; if so, the state after it. */
static bool event_fits(const struct event *event, unsigned *state)
{
    switch (event->op.kind) {
    case OP_INSERT:
        if (event->answer != *state) {
            return false;
        }
        *state = *state == NOBODY ? event->op.number : *state;
        return true;
    case OP_FIND:
        return event->answer == *state;
    case OP_REMOVE:
        if (event->answer != (*state == event->op.number)) {
            return false;
        }
        *state = event->answer ? NOBODY : *state;
        return true;
    case OP_REPLACE:
        if (event->answer != (*state == event->op.number)) {
            return false;
        }
        *state = event->answer ? event->op.fresh : *state;
        return true;
    default:
        return false;
    }
}

/* Whether the unused events of one key can follow in some order from `state`. */
static bool linearisable(char key, unsigned state)
{
    unsigned first_end = UINT32_MAX;
    for (unsigned i = 0; i < history_count; i++) {
        if (!history[i].used && history[i].op.key == key && history[i].end < first_end) {
            first_end = history[i].end;
        }
    }
    if (first_end == UINT32_MAX) {
        return true;
    }
    for (unsigned i = 0; i < history_count; i++) {
        struct event *event = &history[i];
        unsigned after = state;
        if (event->used || event->op.key != key || event->begin > first_end ||
            !event_fits(event, &after)) {
            continue;
        }
        event->used = true;
        bool fits = linearisable(key, after);
        event->used = false;
        if (fits) {
            return true;
        }
    }
    return false;
}

/* Met by the last finals_of. */
static unsigned tentatives;
static unsigned late_hints; /* slots with a tick before their bucket's hint */
static unsigned not_passed; /* slots of records from before with the tick of their insertion */

static unsigned finals_of(char key)
{
    unsigned finals = 0;
    tentatives = late_hints = not_passed = 0;
    struct index_place place = index_locate(explored, hash_of(key).low);
    uint16_t hint = *index_hint_of(explored, &place);
    struct index_walk walk = index_walk_start(place.bucket);
    do {
        for (unsigned k = 0; k < walk.slots; k++) {
            uint64_t word = index_word_load(&walk.line->word[k]);
            if (index_slot_is_final(word)) {
                finals += record_matches(index_at(explored, word), &key);
                late_hints += hint == 0 || index_slot_tick(word) < hint;
                not_passed += number_of(index_at(explored, word)) == 0 &&
                              index_slot_tick(word) == TICK_INSERT;
            } else {
                tentatives += (word & WORD_REF_MASK) != 0;
            }
        }
    } while (index_walk_next(explored, &walk));
    return finals;
}

static void step_judge(void)
{
    MUST(finals_of('a') <= 1 && finals_of('b') <= 1); /* O4 */
}

/* Whether all that was there from before has been given another tick. */
static bool sweeps(void)
{
    bool any = false;
    for (unsigned c = 0; c < CONTEXTS_MAX; c++) {
        for (unsigned i = 0; i < OPS_MAX; i++) {
            enum op_kind kind = scenario->ops[c][i].kind;
            any = any || kind == OP_SWEEP || kind == OP_PASS;
        }
    }
    return any;
}

/* Fails the test unless the history of the schedule just run is one of an index. */
static void judge(void)
{
    for (unsigned k = 0; k < KEYS_MAX; k++) {
        op_run((struct op){.kind = OP_FIND, .key = (char)('a' + (int)k)}, &members[CONTEXTS_MAX]);
    }
    for (unsigned k = 0; k < KEYS_MAX; k++) {
        char key = (char)('a' + (int)k);
        unsigned state = strchr(scenario->before, key) != NULL ? 0 : NOBODY;
        bool good = linearisable(key, state) && finals_of(key) <= 1;
        MUST(tentatives == 0); /* a slot taken for nothing is given back */
        MUST(late_hints == 0);
        MUST(!sweeps() || not_passed == 0);
        for (unsigned i = 0; !good && i < history_count; i++) {
            struct event *e = &history[i];
            fprintf(stderr, "%u-%u: op %d of %c%u answered %u\n", e->begin, e->end, (int)e->op.kind,
                    e->op.key, e->op.number, e->answer);
        }
        MUST(good);
    }
}

/* ---- Running schedules ----------------------------------------------------------------------- */

static void records_create(void)
{
    for (unsigned k = 0; k < KEYS_MAX; k++) {
        for (unsigned n = 0; n < NUMBERS_MAX; n++) {
            records[k][n] = arena_alloc(&one_cache, sizeof *records[k][n], ARENA_ORDINARY);
            char key = (char)('a' + (int)k);
            *records[k][n] = (struct explored_record){
                .record = {.hash_low = hash_of(key).low}, .key = key, .number = n};
        }
    }
}

static void ops_run(unsigned which)
{
    for (unsigned i = 0; i < OPS_MAX; i++) {
        op_run(scenario->ops[which][i], &members[which]);
    }
}

static void scenario_run(void)
{
    explored_reset();
    explored = index_create(NULL, NULL, 0, NULL);
    records_create();
    lines_added_max = scenario->lines_added_max;
    split_records_min = scenario->split_records_min;
    for (const char *key = scenario->before; *key != '\0'; key++) {
        op_run((struct op){.kind = OP_INSERT, .key = *key}, &members[CONTEXTS_MAX]);
    }
    history_count = event_time = 0;
    schedule_run();
    judge();
    for (unsigned i = 0; i < retired_count; i++) {
        index_segment_reclaim(explored, &members[0], retired[i]);
    }
    index_destroy(explored);
    MUST(arena_live_count == (size_t)KEYS_MAX * NUMBERS_MAX); /* nothing leaks but our records */
}

static void explore_all(const struct scenario *given)
{
    scenario = given;
    /* One less in small runs: some ten times fewer schedules. */
    unsigned preemptions_max =
        given->preemptions_max - (trial_count(100) < 100 && given->preemptions_max > 2);
    schedule_start(2, 0, ops_run, step_judge);
    unsigned long runs = 0;
    do {
        scenario_run();
        runs++;
    } while (schedule_advance(preemptions_max));
    ck_assert_uint_gt(runs, 50);
}

static void explore_random(const struct scenario *given)
{
    scenario = given;
    uint64_t runs = trial_count(20000);
    for (uint64_t run = 1; run <= runs; run++) {
        schedule_start(3, run, ops_run, step_judge);
        scenario_run();
    }
}

#define INSERT(k, n)                                                                               \
    {                                                                                              \
        .kind = OP_INSERT, .key = (k), .number = (n)                                               \
    }
#define FIND(k)                                                                                    \
    {                                                                                              \
        .kind = OP_FIND, .key = (k)                                                                \
    }
#define REMOVE(k, n)                                                                               \
    {                                                                                              \
        .kind = OP_REMOVE, .key = (k), .number = (n)                                               \
    }
#define REPLACE(k, n, f)                                                                           \
    {                                                                                              \
        .kind = OP_REPLACE, .key = (k), .number = (n), .fresh = (f)                                \
    }
#define RETICK(k, n)                                                                               \
    {                                                                                              \
        .kind = OP_RETICK, .key = (k), .number = (n)                                               \
    }
#define SWEEP                                                                                      \
    {                                                                                              \
        .kind = OP_SWEEP, .key = 'z'                                                               \
    }
#define PASS                                                                                       \
    {                                                                                              \
        .kind = OP_PASS, .key = 'z'                                                                \
    }

/* No splits: lines are added at need. */
static const struct scenario in_one_bucket[] = {
    {"", {{INSERT('a', 1), FIND('a')}, {INSERT('a', 2), FIND('a')}}, 4, 9, 99, false},
    {"", {{INSERT('a', 1), REMOVE('a', 1)}, {INSERT('a', 2), FIND('a')}}, 3, 9, 99, false},
    {"b", {{REMOVE('b', 0), INSERT('a', 1)}, {INSERT('a', 2), FIND('b')}}, 3, 9, 99, false},
    {"cb", {{REMOVE('c', 0), INSERT('a', 1)}, {INSERT('a', 2), INSERT('b', 1)}}, 3, 9, 99, false},
    /* A record that was withdrawn goes in again, and into the same slot. */
    {"",
     {{INSERT('a', 1), REMOVE('a', 2), INSERT('a', 1)},
      {INSERT('a', 2), REMOVE('a', 1), INSERT('a', 2)}},
     2,
     9,
     99,
     false},
    {"a", {{REPLACE('a', 0, 1), FIND('a')}, {REMOVE('a', 0), INSERT('a', 2)}}, 3, 9, 99, false},
    {"a", {{REPLACE('a', 0, 1), FIND('a')}, {REPLACE('a', 0, 2), FIND('a')}}, 4, 9, 99, false},
    {"a", {{REPLACE('a', 0, 1), REMOVE('a', 1)}, {SWEEP, FIND('a')}}, 3, 9, 99, false},
    {"a", {{REMOVE('a', 0), INSERT('a', 1)}, {REMOVE('a', 0), INSERT('a', 2)}}, 3, 9, 99, false},
    /* Ticks are given while a sweeper works out the hint anew. */
    {"a", {{INSERT('b', 1), FIND('b')}, {PASS}}, 3, 9, 99, false},
    {"a", {{RETICK('a', 0), FIND('a')}, {PASS}}, 3, 9, 99, false},
    {"ab", {{REPLACE('a', 0, 1), RETICK('b', 0)}, {PASS}}, 3, 9, 99, false},
    {"a", {{PASS, RETICK('a', 0)}, {PASS}}, 3, 9, 99, false},
    {"cdefgh", {{INSERT('a', 1)}, {PASS}}, 3, 9, 99, false},
    /* The last slot, and a line for more. */
    {"cdefg", {{INSERT('a', 1), FIND('b')}, {INSERT('b', 1), INSERT('a', 2)}}, 3, 9, 99, false},
    {"cdefgh", {{INSERT('a', 1), REMOVE('c', 0)}, {INSERT('a', 2), FIND('a')}}, 3, 9, 99, false},
};

/* Six records fill the bucket, so one more insert splits it: into two, or into a fresh copy. */
static const struct scenario while_splitting[] = {
    {"cdefgh", {{INSERT('a', 1)}, {INSERT('a', 2), FIND('a')}}, 2, 0, 3, true},
    {"acdefg", {{INSERT('b', 1)}, {REMOVE('a', 0), INSERT('a', 1)}}, 2, 0, 3, true},
    {"acdefg", {{INSERT('b', 1)}, {REPLACE('a', 0, 1), FIND('a')}}, 3, 0, 3, true},
    {"bcdefg", {{INSERT('a', 1)}, {FIND('b'), FIND('b')}}, 3, 0, 3, true},
    {"bcdefg", {{INSERT('a', 1)}, {FIND('a'), FIND('a')}}, 3, 0, 3, true},
    {"acdefg", {{INSERT('b', 1)}, {SWEEP, FIND('a')}}, 2, 0, 3, true},
    {"acdefg", {{INSERT('b', 1)}, {PASS, RETICK('a', 0)}}, 2, 0, 3, true},
    {"acdefg", {{INSERT('b', 1)}, {RETICK('a', 0), RETICK('c', 0)}}, 2, 0, 3, true},
    {"cdefg", {{INSERT('a', 1), INSERT('b', 1)}, {INSERT('b', 2), FIND('a')}}, 2, 0, 3, true},
    {"cdefgh", {{INSERT('b', 1), INSERT('a', 1)}, {INSERT('a', 2), REMOVE('a', 1)}}, 2, 0, 2, true},
    {"cdefg", {{INSERT('a', 1), REMOVE('a', 1)}, {INSERT('b', 1)}}, 3, 0, 3, true},
    /* A sweeper wipes hints of an entry whose segment goes, or passes the second one, which a
     * helper has set. */
    {"cdefgh", {{INSERT('b', 1), INSERT('a', 1)}, {PASS}}, 2, 0, 3, true},
    {"cdefgh", {{INSERT('a', 1), INSERT('b', 1)}, {PASS}}, 2, 0, 3, true},
    {"bdfhjl", {{INSERT('a', 1), RETICK('b', 0)}, {INSERT('c', 1), PASS}}, 2, 0, 3, true},
    /* Seven more in an added line, then a fresh copy. */
    {"acdefghijkl", {{INSERT('b', 1), FIND('a')}, {REMOVE('a', 0), FIND('b')}}, 2, 1, 3, true},
    {"bcdefg",
     {{REMOVE('c', 0), INSERT('a', 1)}, {INSERT('a', 2), REPLACE('b', 0, 1)}},
     2,
     0,
     3,
     true},
};

static const struct scenario by_three[] = {
    {"",
     {{INSERT('a', 1), REMOVE('a', 1)}, {INSERT('a', 2), REMOVE('a', 2)}, {INSERT('a', 3)}},
     0,
     9,
     99,
     false},
    {"ab",
     {{REMOVE('a', 0), INSERT('a', 1)},
      {REPLACE('a', 0, 2), REMOVE('a', 2)},
      {REMOVE('b', 0), INSERT('a', 3), FIND('a')}},
     0,
     9,
     99,
     false},
    {"cdefg",
     {{INSERT('a', 1), REMOVE('a', 2), INSERT('a', 1)},
      {INSERT('a', 2), REMOVE('a', 3), INSERT('a', 2)},
      {INSERT('a', 3), REMOVE('a', 1), INSERT('b', 1)}},
     0,
     0,
     3,
     true},
    {"abcdef",
     {{INSERT('g', 1), INSERT('h', 1), FIND('a')},
      {REMOVE('a', 0), INSERT('a', 1), REPLACE('b', 0, 1)},
      {INSERT('i', 1), FIND('b'), SWEEP, REPLACE('a', 1, 2)}},
     0,
     0,
     3,
     true},
    {"abcde",
     {{INSERT('g', 1), RETICK('a', 0), PASS},
      {REMOVE('a', 0), INSERT('a', 1), RETICK('b', 0)},
      {PASS, REPLACE('b', 0, 1), INSERT('h', 1), PASS}},
     0,
     0,
     3,
     true},
};

START_TEST(test_one_bucket)
{
    explore_all(&in_one_bucket[_i]);
}
END_TEST

START_TEST(test_splitting)
{
    explore_all(&while_splitting[_i]);
}
END_TEST

START_TEST(test_three)
{
    explore_random(&by_three[_i]);
}
END_TEST

/* The judge itself: an answer that no order explains is seen. */
START_TEST(test_judge)
{
    static const struct scenario empty = {.before = "", .lines_added_max = 9};
    scenario = &empty;
    history_count = 0;
    history[history_count++] = (struct event){INSERT('a', 1), 0, 3, NOBODY, false};
    history[history_count++] = (struct event){INSERT('a', 2), 1, 2, NOBODY, false};
    ck_assert(!linearisable('a', NOBODY));
    history[1].answer = 1;
    ck_assert(linearisable('a', NOBODY));
    history[history_count++] = (struct event){FIND('a'), 4, 5, NOBODY, false};
    ck_assert(!linearisable('a', NOBODY));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("index schedules");
    TCase *tcase = tcase_create("schedules");
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, test_judge);
    tcase_add_loop_test(tcase, test_one_bucket, 0,
                        (int)(sizeof in_one_bucket / sizeof *in_one_bucket));
    tcase_add_loop_test(tcase, test_splitting, 0,
                        (int)(sizeof while_splitting / sizeof *while_splitting));
    tcase_add_loop_test(tcase, test_three, 0, (int)(sizeof by_three / sizeof *by_three));
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
