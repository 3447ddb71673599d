/*
 * The index under every schedule that counts: its sources are compiled in here with a switch point
 * before each operation on a shared word, and run on a few contexts of one operating-system thread.
 *
 * For two threads of execution all schedules with a bounded number of preemptions are run, for
 * three a fixed set of random ones. At every point no key may have two final slots (O4); at the
 * end of each schedule the answers must be those of some sequential order that respects which
 * operation ended before which began (O2, O3, O5). Segments have one bucket, so few operations
 * split them. Nothing is reclaimed here (everybody stays online); what is freed at once is filled
 * with rubbish.
 */
#define INDEX_POINT()           schedule_point()
#define INDEX_BUCKET_BITS       0
#define INDEX_LINES_ADDED_MAX   lines_added_max
#define INDEX_SPLIT_RECORDS_MIN split_records_min

static void schedule_point(void);
static unsigned lines_added_max;
static unsigned split_records_min;

/* The index's names here are not those of the library that tests are linked with. */
#define index_create           explored_create
#define index_destroy          explored_destroy
#define index_hash             explored_hash_of
#define index_find             explored_find
#define index_prefetch_bucket  explored_prefetch_bucket
#define index_prefetch_record  explored_prefetch_record
#define index_insert           explored_insert
#define index_replace          explored_replace
#define index_remove           explored_remove
#define index_sweep            explored_sweep
#define index_scan             explored_scan
#define index_stats            explored_stats
#define index_settle           explored_settle
#define index_slot_of          explored_slot_of
#define index_retick           explored_retick
#define index_make_room        explored_make_room
#define index_split            explored_split
#define index_segment_create   explored_segment_create
#define index_segment_free     explored_segment_free
#define index_segment_reclaim  explored_segment_reclaim
#define index_directory_charge explored_directory_charge
#define arena_alloc            explored_arena_alloc
#define arena_free             explored_arena_free
#define arena_size             explored_arena_size
#define arena_base             explored_arena_base
#define arena_charge           explored_arena_charge
#define arena_cache_open       explored_arena_cache_open
#define arena_cache_close      explored_arena_cache_close
#define epoch_define           explored_epoch_define
#define epoch_is_online        explored_epoch_is_online
#define epoch_member_cache     explored_epoch_member_cache
#define epoch_retire           explored_epoch_retire
#define random_fill            explored_random_fill
#define mmap                   explored_mmap
#define munmap                 explored_munmap
#define madvise                explored_madvise

/* clang-format off */
#include "index/index.c"
#include "index/index_write.c"
#include "index/index_split.c"
#include "index/index_sweep.c"
/* clang-format on */

#include "tests/lib/trial.h"

#include <check.h>
#include <stdio.h>
#include <ucontext.h>

#if defined(__SANITIZE_THREAD__)
#define EXPLORE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EXPLORE_TSAN 1
#endif
#endif
#ifdef EXPLORE_TSAN
#include <sanitizer/tsan_interface.h>
#endif

/* Check writes to a file at each of its assertions, also the good ones: millions here. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            ck_abort_msg("%s", #condition);                                                        \
        }                                                                                          \
    } while (0)

enum {
    CONTEXTS_MAX = 3,
    OPS_MAX = 4,   /* of one context */
    KEYS_MAX = 12, /* of one scenario */
    HISTORY_MAX = 32,
    STEPS_MAX = 4000,
    STACK_BYTES = 256 * 1024,
    ARENA_BYTES = 512 * 1024,
    RETIRED_MAX = 64,
    RUBBISH = 0xdb,
};

/* ---- An arena and an epoch that do next to nothing ------------------------------------------- */

struct arena_cache {
    int unused;
};

struct epoch_member {
    struct arena_cache cache;
};

static _Alignas(4096) uint8_t arena_bytes[ARENA_BYTES];
static size_t arena_used;
static uint8_t arena_live[ARENA_BYTES / LINE_BYTES]; /* 1: an object begins here */
static size_t arena_live_count;
static void *retired[RETIRED_MAX];
static unsigned retired_count;
static struct arena_cache one_cache;
static struct epoch_member members[CONTEXTS_MAX + 1];

void *arena_alloc(struct arena_cache *cache, size_t size_bytes, enum arena_need need)
{
    (void)cache;
    (void)need;
    size_t rounded = (size_bytes + 63) & ~(size_t)63;
    MUST(arena_used + rounded <= ARENA_BYTES);
    void *object = arena_bytes + arena_used;
    arena_live[arena_used / LINE_BYTES] = 1;
    arena_live_count++;
    arena_used += rounded;
    memset(object, RUBBISH, rounded);
    return object;
}

void arena_free(struct arena_cache *cache, void *object)
{
    (void)cache;
    size_t unit = (size_t)((uint8_t *)object - arena_bytes) / LINE_BYTES;
    MUST(arena_live[unit] == 1);
    arena_live[unit] = 0;
    arena_live_count--;
    memset(object, RUBBISH, LINE_BYTES); /* of a segment: the header; enough to derail a user */
}

size_t arena_size(const struct arena *arena, const void *object)
{
    (void)arena;
    (void)object;
    return LINE_BYTES;
}

uint8_t *arena_base(const struct arena *arena)
{
    (void)arena;
    return arena_bytes;
}

void arena_charge(struct arena *arena, int64_t bytes)
{
    (void)arena;
    (void)bytes;
}

struct arena_cache *arena_cache_open(struct arena *arena)
{
    (void)arena;
    return &one_cache;
}

void arena_cache_close(struct arena_cache *cache)
{
    (void)cache;
}

void epoch_define(struct epoch *epoch, unsigned kind, struct epoch_kind definition)
{
    (void)epoch;
    (void)kind;
    (void)definition;
}

bool epoch_is_online(const struct epoch_member *member)
{
    (void)member;
    return true;
}

struct arena_cache *epoch_member_cache(struct epoch_member *member)
{
    return &member->cache;
}

void epoch_retire(struct epoch_member *member, unsigned kind, void *object)
{
    (void)member;
    (void)kind;
    MUST(retired_count < RETIRED_MAX);
    retired[retired_count++] = object;
}

void random_fill(void *data, size_t size_bytes)
{
    memset(data, 1, size_bytes);
}

/* The directory: only its first entries are ever used here. */
static _Atomic uint64_t directory_bytes[64];

void *mmap(void *address, size_t size_bytes, int protection, int flags, int fd, off_t offset)
{
    (void)address;
    (void)size_bytes;
    (void)protection;
    (void)flags;
    (void)fd;
    (void)offset;
    memset(directory_bytes, 0, sizeof directory_bytes);
    return directory_bytes;
}

int munmap(void *address, size_t size_bytes)
{
    (void)address;
    (void)size_bytes;
    return 0;
}

int madvise(void *address, size_t size_bytes, int advice)
{
    (void)address;
    (void)size_bytes;
    (void)advice;
    return 0;
}

/* ---- Scenarios ------------------------------------------------------------------------------- */

enum op_kind { OP_NONE, OP_INSERT, OP_FIND, OP_REMOVE, OP_REPLACE, OP_SWEEP };

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

static uint16_t tick_seven(void *context, struct index_record *record)
{
    (void)context;
    (void)record;
    return 7;
}

static void op_run(struct op op, struct epoch_member *member)
{
    if (op.kind == OP_NONE) {
        return;
    }
    unsigned k = op.kind == OP_SWEEP ? 0 : (unsigned)(op.key - 'a');
    struct explored_record *record = records[k][op.number];
    if (op.kind == OP_INSERT && record->inserted) {
        return; /* a second try after INDEX_EXISTS, not needed */
    }
    struct event event = {.op = op, .begin = event_time++};
    struct index_record *existing = NULL;
    switch (op.kind) {
    case OP_INSERT:
        if (index_insert(explored, member, hash_of(op.key), &record->record, 5, record_matches,
                         &op.key, &existing) == INDEX_DONE) {
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
        event.answer =
            index_replace(explored, member, &record->record, &records[k][op.fresh]->record, 6);
        break;
    case OP_SWEEP: {
        struct index_cursor cursor = {0};
        while (!index_sweep(explored, member, &cursor, 0, 1, 100, true, 1, tick_seven, NULL)) {
        }
        return;
    }
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

static unsigned tentatives; /* met by the last finals_of */

static unsigned finals_of(char key)
{
    unsigned finals = 0;
    tentatives = 0;
    struct index_place place = index_locate(explored, hash_of(key).low);
    struct index_walk walk = index_walk_start(place.bucket);
    do {
        for (unsigned k = 0; k < walk.slots; k++) {
            uint64_t word = word_load(&walk.line->word[k]);
            if (slot_is_final(word)) {
                finals += record_matches(index_at(explored, word), &key);
            } else {
                tentatives += (word & WORD_REF_MASK) != 0;
            }
        }
    } while (index_walk_next(explored, &walk));
    return finals;
}

/* ---- Running one schedule -------------------------------------------------------------------- */

struct decision {
    uint8_t chosen;
    uint8_t before; /* who ran until here */
    uint8_t runnable;
};

static struct decision decisions[STEPS_MAX];
static unsigned decided; /* how many of them are prescribed */
static unsigned step_count;
static unsigned context_count;
static unsigned current;
static uint8_t runnable; /* a bit per context */
static bool exploring;
static uint64_t random_state; /* 0: follow `decisions`, then keep running the same context */
static ucontext_t contexts[CONTEXTS_MAX];
static ucontext_t home;
static uint8_t stacks[CONTEXTS_MAX][STACK_BYTES];
#ifdef EXPLORE_TSAN
static void *fibers[CONTEXTS_MAX + 1];
#endif

static void switch_to(ucontext_t *from, ucontext_t *to, unsigned fiber)
{
#ifdef EXPLORE_TSAN
    __tsan_switch_to_fiber(fibers[fiber], 0);
#else
    (void)fiber;
#endif
    swapcontext(from, to);
}

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static unsigned lowest(unsigned set)
{
    return (unsigned)__builtin_ctz(set);
}

/* Who runs next, by prescription, by chance or by staying. */
static unsigned decide(void)
{
    MUST(step_count < STEPS_MAX); /* or somebody waits for somebody */
    struct decision *decision = &decisions[step_count];
    bool stays = (runnable >> current & 1) != 0;
    if (step_count >= decided) {
        decision->chosen = (uint8_t)(stays ? current : lowest(runnable));
        if (random_state != 0 && (!stays || random_next() % 4 == 0)) {
            do {
                decision->chosen = (uint8_t)(random_next() % context_count);
            } while ((runnable >> decision->chosen & 1) == 0);
        }
    }
    decision->before = (uint8_t)current;
    decision->runnable = runnable;
    MUST((runnable >> decision->chosen & 1) != 0);
    step_count++;
    return decision->chosen;
}

static void schedule_point(void)
{
    if (!exploring) {
        return;
    }
    exploring = false;
    for (const char *key = "ab"; *key != '\0'; key++) {
        MUST(finals_of(*key) <= 1); /* O4 */
    }
    exploring = true;
    unsigned from = current;
    unsigned next = decide();
    if (next != from) {
        current = next;
        switch_to(&contexts[from], &contexts[next], next);
    }
}

static void context_main(int which)
{
    for (unsigned i = 0; i < OPS_MAX; i++) {
        op_run(scenario->ops[which][i], &members[which]);
    }
    runnable &= (uint8_t) ~(1u << which);
    if (runnable == 0) {
        switch_to(&contexts[which], &home, CONTEXTS_MAX);
    }
    current = decide();
    switch_to(&contexts[which], &contexts[current], current);
}

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
        for (unsigned i = 0; !good && i < history_count; i++) {
            struct event *e = &history[i];
            fprintf(stderr, "%u-%u: op %d of %c%u answered %u\n", e->begin, e->end, (int)e->op.kind,
                    e->op.key, e->op.number, e->answer);
        }
        MUST(good);
    }
}

static void schedule_run(void)
{
    arena_used = 4096;
    arena_live_count = 0;
    memset(arena_live, 0, sizeof arena_live);
    retired_count = 0;
    history_count = event_time = step_count = 0;
    explored = index_create(NULL, NULL, 0);
    records_create();
    lines_added_max = scenario->lines_added_max;
    split_records_min = scenario->split_records_min;
    for (const char *key = scenario->before; *key != '\0'; key++) {
        op_run((struct op){.kind = OP_INSERT, .key = *key}, &members[CONTEXTS_MAX]);
    }
    history_count = 0;
    runnable = (uint8_t)((1u << context_count) - 1);
    for (unsigned c = 0; c < context_count; c++) {
        getcontext(&contexts[c]);
        contexts[c].uc_stack.ss_sp = stacks[c];
        contexts[c].uc_stack.ss_size = STACK_BYTES;
        contexts[c].uc_link = NULL;
        makecontext(&contexts[c], (void (*)(void))(void *)context_main, 1, (int)c);
#ifdef EXPLORE_TSAN
        fibers[c] = __tsan_create_fiber(0);
#endif
    }
    current = 0;
    current = decide();
    exploring = true;
    switch_to(&home, &contexts[current], current);
    exploring = false;
#ifdef EXPLORE_TSAN
    for (unsigned c = 0; c < context_count; c++) {
        __tsan_destroy_fiber(fibers[c]);
    }
#endif
    judge();
    for (unsigned i = 0; i < retired_count; i++) {
        index_segment_reclaim(explored, &members[0], retired[i]);
    }
    index_destroy(explored);
    MUST(arena_live_count == (size_t)KEYS_MAX * NUMBERS_MAX); /* nothing leaks but our records */
}

/* ---- Running many ---------------------------------------------------------------------------- */

static unsigned preemptions_max(void)
{
    /* One less in small runs: some ten times fewer schedules. */
    return scenario->preemptions_max - (trial_count(100) < 100 && scenario->preemptions_max > 2);
}

static bool is_preemption(const struct decision *decision, unsigned chosen)
{
    return chosen != decision->before && (decision->runnable >> decision->before & 1) != 0;
}

/* The schedule after the last one, depth first; false when all were run. */
static bool schedule_advance(void)
{
    unsigned preemptions = 0;
    for (unsigned i = 0; i < step_count; i++) {
        preemptions += is_preemption(&decisions[i], decisions[i].chosen);
    }
    for (unsigned i = step_count; i-- > 0;) {
        struct decision *decision = &decisions[i];
        preemptions -= is_preemption(decision, decision->chosen);
        bool stays = (decision->runnable >> decision->before & 1) != 0;
        unsigned first = stays ? decision->before : lowest(decision->runnable);
        /* In the order: the first choice, then the others from low to high. */
        unsigned next = decision->chosen == first ? 0 : decision->chosen + 1u;
        while (next < context_count && (next == first || (decision->runnable >> next & 1) == 0)) {
            next++;
        }
        if (next < context_count &&
            preemptions + is_preemption(decision, next) <= preemptions_max()) {
            decision->chosen = (uint8_t)next;
            decided = i + 1;
            return true;
        }
    }
    return false;
}

static void explore_start(const struct scenario *given, unsigned count)
{
    scenario = given;
    context_count = count;
    random_state = 0;
    decided = 0;
    current = 0;
#ifdef EXPLORE_TSAN
    fibers[CONTEXTS_MAX] = __tsan_get_current_fiber();
#endif
}

static void explore_all(const struct scenario *given)
{
    explore_start(given, 2);
    unsigned long run = 0;
    do {
        schedule_run();
        run++;
    } while (schedule_advance());
    ck_assert_uint_gt(run, 50);
}

static void explore_random(const struct scenario *given, unsigned count)
{
    explore_start(given, count);
    uint64_t runs = trial_count(20000);
    for (uint64_t run = 1; run <= runs; run++) {
        random_state = run * 0x9e3779b97f4a7c15u;
        schedule_run();
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
#define SWEEP                                                                                      \
    {                                                                                              \
        .kind = OP_SWEEP, .key = 'z'                                                               \
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
    {"cdefg", {{INSERT('a', 1), INSERT('b', 1)}, {INSERT('b', 2), FIND('a')}}, 2, 0, 3, true},
    {"cdefgh", {{INSERT('b', 1), INSERT('a', 1)}, {INSERT('a', 2), REMOVE('a', 1)}}, 2, 0, 2, true},
    {"cdefg", {{INSERT('a', 1), REMOVE('a', 1)}, {INSERT('b', 1)}}, 3, 0, 3, true},
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
    explore_random(&by_three[_i], 3);
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
