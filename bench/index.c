/*
 * Workload index: the hash index alone, in this process, beside liburcu's cds_lfht and Concurrency
 * Kit's ck_ht where these are built in.
 *
 * Nanoseconds per operation are of this process's CPU clock, so that being preempted does not count
 * and the helpers that a table has of its own do. Hashing is inside, by the same function on all
 * sides.
 *
 * The longest insert is on the inserting operating-system thread's clock. That counts what the
 * machine does below us as well (a host that takes the processor away, its page faults), which hits
 * any insert, most often short ones: some dozen of 10 million then take 100 us to 600 us. What the
 * table does is the same each time a fresh one is filled with the same keys under the same secret:
 * so of each insert the least over several loads is taken, and of these the longest. The longest of
 * single loads is reported beside it.
 */
#include "bench/workload.h"

#include "bench/progress.h"
#include "bench/table.h"

#include "base/random.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint8_t table_secret[INDEX_SECRET_BYTES];

enum { ROUNDS = 5, ROUNDS_QUICK = 3, SIDES = 3, MILLION = 1000000 };

static const struct {
    const char *metric;
    const char *what;
} ops[TABLE_OPS] = {
    [TABLE_INSERT] = {"insert", "insert while growing"},
    [TABLE_INSERT_TIMED] = {"longest_insert", "longest insert while growing, least over loads"},
    [TABLE_FIND] = {"find", "find"},
    [TABLE_FIND_BATCHED] = {"find_batched", "find, 16 at a time"},
    [TABLE_MIXED] = {"mixed", "find 90%, insert and remove 10%"},
    [TABLE_REMOVE] = {"remove", "find and remove"},
};

/* Where the longest insert is looked for. */
enum longest {
    LONGEST_NOWHERE,
    LONGEST_APART, /* of all sides, in loads of their own with one operating-system thread */
    LONGEST_OURS,  /* of ours, in the load that is then read; the peers' inserts are not timed */
};

/* What is measured at a number of keys. */
struct plan {
    uint32_t count;
    uint32_t sample;    /* keys that one FIND, FIND_BATCHED or MIXED takes, at random */
    unsigned loads;     /* times that each table is filled */
    unsigned passes;    /* times that a filled table is measured */
    unsigned loops_max; /* 2: all once more with two operating-system threads */
    unsigned again;     /* loads more for our longest insert alone */
    enum longest longest;
};

struct side {
    const struct table_kind *kind;
    struct table *table;
    struct samples samples[TABLE_OPS];
    struct samples single_us; /* the longest insert of each load by itself */
    uint32_t *least_ns;       /* of each key, over all timed loads */
    unsigned timed_loads;
};

struct index_run {
    struct plan plan;
    unsigned loops;
    unsigned side_count;
    struct side sides[SIDES]; /* ours first */
    uint32_t *sequence;       /* the order of inserts: as they come */
    uint32_t *shuffled;       /* the order of the rest */
    uint32_t at;              /* in `shuffled`: where the next sample begins */
    uint32_t spare;           /* the next spare record of each table */
    struct hist *hist;
};

struct runner {
    pthread_t id;
    table_run_fn *run;
    struct table *table;
    struct table_job job;
    bool good;
};

static bool no_memory(void)
{
    progress_clear();
    fprintf(stderr, "rethread-bench: index: no memory\n");
    return false;
}

static void *runner_main(void *context)
{
    struct runner *runner = context;
    runner->good = runner->run(runner->table, &runner->job);
    return NULL;
}

/* Runs the operation over `keys`, shared out among the loops. `again`: as in struct table_job. */
static bool run_loops(const struct index_run *run, const struct side *side, enum table_op op,
                      const uint32_t *keys, uint32_t count, bool again)
{
    struct runner runners[TABLE_LOOPS_MAX];
    uint32_t each = count / run->loops;
    bool good = true;
    unsigned started = 0;
    for (; good && started < run->loops; started++) {
        bool last = started + 1 == run->loops;
        runners[started] = (struct runner){
            .run = side->kind->run[op],
            .table = side->table,
            .job = {.keys = keys + started * each,
                    .count = last ? count - started * each : each,
                    .spare = run->plan.count + run->spare + started * (each / TABLE_MIX + 1),
                    .hist_ns = run->hist,
                    .least_ns = side->least_ns,
                    .again = again},
        };
        struct runner *runner = &runners[started];
        if (pthread_create(&runner->id, NULL, runner_main, runner) != 0) {
            good = no_memory();
            break;
        }
    }
    bool right = true;
    for (unsigned i = 0; i < started; i++) {
        pthread_join(runners[i].id, NULL);
        right = right && runners[i].good;
    }
    if (good && !right) {
        progress_clear();
        fprintf(stderr, "rethread-bench: index: %s: %s gave a wrong answer\n", side->kind->name,
                ops[op].what);
    }
    return good && right;
}

static bool measure(struct index_run *run, struct side *side, enum table_op op,
                    const uint32_t *keys, uint32_t count)
{
    uint64_t before_ns = table_cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
    if (!run_loops(run, side, op, keys, count, false)) {
        return false;
    }
    uint64_t used_ns = table_cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - before_ns;
    samples_add(&side->samples[op], (double)used_ns / count);
    return true;
}

static bool fill(struct index_run *run, struct side *side)
{
    uint32_t spares = (run->plan.sample / TABLE_MIX + TABLE_LOOPS_MAX) * run->plan.passes;
    side->table = side->kind->create(run->plan.count, spares);
    if (side->table == NULL) {
        return no_memory();
    }
    return true;
}

static bool load(struct index_run *run, struct side *side)
{
    return fill(run, side) && measure(run, side, TABLE_INSERT, run->sequence, run->plan.count);
}

/* Of each insert the least over all loads so far, and of these the longest. */
static double longest_us(const struct index_run *run, const struct side *side)
{
    uint32_t longest_ns = 0;
    for (uint32_t i = 0; i < run->plan.count; i++) {
        longest_ns = side->least_ns[i] > longest_ns ? side->least_ns[i] : longest_ns;
    }
    return (double)longest_ns / 1000;
}

static bool load_timed(struct index_run *run, struct side *side, bool again)
{
    if (side->least_ns == NULL) {
        size_t bytes = run->plan.count * sizeof *side->least_ns;
        side->least_ns = malloc(bytes);
        if (side->least_ns == NULL) {
            return no_memory();
        }
        memset(side->least_ns, 0xff, bytes);
    }
    hist_clear(run->hist);
    if (!fill(run, side) ||
        !run_loops(run, side, TABLE_INSERT_TIMED, run->sequence, run->plan.count, again)) {
        return false;
    }
    side->timed_loads++;
    if (!again) {
        samples_add(&side->single_us, (double)run->hist->max / 1000);
    }
    return true;
}

static void unload(struct side *side)
{
    if (side->table != NULL) {
        side->kind->destroy(side->table);
        side->table = NULL;
    }
}

static bool read_and_mix(struct index_run *run, struct side *side)
{
    static const enum table_op each[] = {TABLE_FIND, TABLE_FIND_BATCHED, TABLE_MIXED};
    for (unsigned i = 0; i < sizeof each / sizeof *each; i++) {
        if (side->kind->run[each[i]] != NULL &&
            !measure(run, side, each[i], run->shuffled + run->at, run->plan.sample)) {
            return false;
        }
    }
    return true;
}

/* The sides in order, every other time backwards: A B C, C B A … */
static struct side *side_at(struct index_run *run, unsigned turn, unsigned place)
{
    return &run->sides[turn % 2 == 0 ? place : run->side_count - 1 - place];
}

static bool run_load(struct index_run *run, unsigned turn)
{
    bool good = true;
    bool ours_timed = run->plan.longest == LONGEST_OURS;
    for (unsigned i = 0; good && i < run->side_count; i++) {
        struct side *side = side_at(run, turn, i);
        progress_show("index: %u keys, %u at once: load %u of %u, %s", run->plan.count, run->loops,
                      turn + 1, run->plan.loads, side->kind->name);
        good =
            ours_timed && side == &run->sides[0] ? load_timed(run, side, false) : load(run, side);
    }
    run->spare = 0;
    for (unsigned pass = 0; good && pass < run->plan.passes; pass++) {
        progress_show("index: %u keys, %u at once: round %u of %u", run->plan.count, run->loops,
                      turn * run->plan.passes + pass + 1, run->plan.loads * run->plan.passes);
        for (unsigned i = 0; good && i < run->side_count; i++) {
            good = read_and_mix(run, side_at(run, turn + pass, i));
        }
        run->spare += run->plan.sample / TABLE_MIX + TABLE_LOOPS_MAX;
        run->at += run->plan.sample;
        if (run->at + run->plan.sample > run->plan.count) {
            run->at = 0;
        }
    }
    for (unsigned i = 0; i < run->side_count; i++) {
        struct side *side = side_at(run, turn, i);
        good = good &&
               (ours_timed || measure(run, side, TABLE_REMOVE, run->shuffled, run->plan.count));
        unload(side);
    }
    return good;
}

/* On tables of their own: reading the clock at each insert costs about as much as the insert. */
static bool run_longest(struct index_run *run, unsigned turn)
{
    bool good = true;
    for (unsigned i = 0; good && i < run->side_count; i++) {
        good = load_timed(run, side_at(run, turn, i), false);
        unload(side_at(run, turn, i));
    }
    return good;
}

static bool run_again(struct index_run *run)
{
    bool good = true;
    for (unsigned i = 0; good && i < run->plan.again; i++) {
        progress_show("index: %u keys: the longest insert, load %u of %u", run->plan.count, i + 2,
                      run->plan.again + 1);
        good = load_timed(run, &run->sides[0], true);
        unload(&run->sides[0]);
    }
    for (unsigned i = 0; good && i < run->side_count; i++) {
        struct side *side = &run->sides[i];
        if (side->least_ns != NULL) {
            samples_add(&side->samples[TABLE_INSERT_TIMED], longest_us(run, side));
        }
    }
    return good;
}

/* The longest insert as single loads have it. */
static void add_single_row(const struct index_run *run, struct report *report,
                           const struct side *theirs)
{
    struct report_row row = {
        .bench = "index",
        .params = {{"keys", NULL, run->plan.count}, {"loops", NULL, run->loops}},
        .peer = theirs != NULL ? theirs->kind->name : NULL,
        .metric = "longest_insert_of_a_load",
        .unit = "us",
        .ours = summary_of(&run->sides[0].single_us),
        .what = "longest insert of a single load, the machine's pauses included",
    };
    if (theirs != NULL) {
        row.theirs = summary_of(&theirs->single_us);
    }
    report_add(report, &row);
}

static void add_row(const struct index_run *run, struct report *report, enum table_op op,
                    const struct side *theirs)
{
    const struct side *ours = &run->sides[0];
    /* A table that knows no batches does the same job one by one. */
    enum table_op their_op = op == TABLE_FIND_BATCHED ? TABLE_FIND : op;
    struct report_row row = {
        .bench = "index",
        .params = {{"keys", NULL, run->plan.count}, {"loops", NULL, run->loops}},
        .peer = theirs != NULL ? theirs->kind->name : NULL,
        .metric = ops[op].metric,
        .unit = op == TABLE_INSERT_TIMED ? "us" : "ns",
        .ours = summary_of(&ours->samples[op]),
    };
    if (theirs != NULL) {
        row.theirs = summary_of(&theirs->samples[their_op]);
    }
    if (op == TABLE_INSERT_TIMED) {
        row.ours.count = run->sides[0].timed_loads; /* one figure, of so many */
    }
    uint32_t count = run->plan.count;
    bool millions = count % MILLION == 0;
    snprintf(row.what, sizeof row.what, "%s, %u%s keys%s", ops[op].what,
             millions ? count / MILLION : count, millions ? " M" : "",
             run->loops == 2 ? ", 2 loops" : "");
    report_add(report, &row);
    if (op == TABLE_INSERT_TIMED) {
        add_single_row(run, report, theirs);
    }
}

static void add_rows(const struct index_run *run, struct report *report)
{
    for (unsigned op = 0; op < TABLE_OPS; op++) {
        if (run->sides[0].samples[op].count == 0) {
            continue;
        }
        bool alone = op == TABLE_INSERT_TIMED && run->plan.longest == LONGEST_OURS;
        if (run->side_count == 1 || alone) {
            add_row(run, report, (enum table_op)op, NULL);
        }
        for (unsigned i = 1; !alone && i < run->side_count; i++) {
            add_row(run, report, (enum table_op)op, &run->sides[i]);
        }
    }
}

static void shuffle(uint32_t *keys, uint32_t count)
{
    for (uint32_t i = count - 1; i > 0; i--) {
        uint32_t other = (uint32_t)(table_key_of(i).word[0] % (i + 1));
        uint32_t key = keys[i];
        keys[i] = keys[other];
        keys[other] = key;
    }
}

static bool create_orders(struct index_run *run)
{
    uint32_t count = run->plan.count;
    run->sequence = calloc(count, sizeof *run->sequence);
    run->shuffled = calloc(count, sizeof *run->shuffled);
    run->hist = calloc(1, sizeof *run->hist);
    if (run->sequence == NULL || run->shuffled == NULL || run->hist == NULL) {
        return no_memory();
    }
    for (uint32_t i = 0; i < count; i++) {
        run->sequence[i] = i;
        run->shuffled[i] = i;
    }
    shuffle(run->shuffled, count);
    return true;
}

static bool run_plan(const struct options *options, struct report *report, const struct plan *plan,
                     unsigned loops)
{
    static const struct table_kind *const kinds[SIDES] = {&table_rethread, &table_lfht,
                                                          &table_ck_ht};
    bool alone = options->peer != NULL && strcmp(options->peer, "none") == 0;
    struct index_run run = {.plan = *plan, .loops = loops};
    for (unsigned i = 0; i < (alone ? 1u : (unsigned)SIDES); i++) {
        if (kinds[i]->name != NULL) {
            run.sides[run.side_count++].kind = kinds[i];
        }
    }
    bool good = create_orders(&run);
    for (unsigned turn = 0; good && turn < plan->loads; turn++) {
        bool apart = plan->longest == LONGEST_APART && loops == 1;
        good = run_load(&run, turn) && (!apart || run_longest(&run, turn));
    }
    good = good && run_again(&run);
    progress_clear();
    if (good) {
        add_rows(&run, report);
    }
    for (unsigned i = 0; i < run.side_count; i++) {
        unload(&run.sides[i]);
        free(run.sides[i].least_ns);
    }
    free(run.hist);
    free(run.shuffled);
    free(run.sequence);
    return good;
}

static struct plan plan_of(const struct options *options, uint32_t count)
{
    enum { SAMPLE_MAX = 2 * MILLION, SAMPLE_QUICK_MAX = 3 * MILLION / 10 };
    unsigned rounds = options->rounds != 0 ? (unsigned)options->rounds
                      : options->quick     ? (unsigned)ROUNDS_QUICK
                                           : (unsigned)ROUNDS;
    uint32_t sample_max = options->quick ? SAMPLE_QUICK_MAX : SAMPLE_MAX;
    struct plan plan = {
        .count = count,
        .sample = count < sample_max ? count : sample_max,
        .loads = rounds,
        .passes = 1,
        .loops_max = TABLE_LOOPS_MAX,
        .longest = LONGEST_APART,
    };
    /* Filling takes the time, so where there is much to fill it is done once. */
    if (count > (options->quick ? 1u : 10u) * MILLION) {
        plan.loads = 1;
        plan.passes = rounds;
        plan.loops_max = options->quick ? 1 : TABLE_LOOPS_MAX;
        plan.again = options->quick ? 1 : 0;
        plan.longest = options->quick ? LONGEST_OURS : LONGEST_NOWHERE;
    }
    return plan;
}

static bool run_count(const struct options *options, struct report *report, uint32_t count)
{
    struct plan plan = plan_of(options, count);
    for (unsigned loops = 1; loops <= plan.loops_max; loops++) {
        if (!run_plan(options, report, &plan, loops)) {
            return false;
        }
    }
    return true;
}

static bool run(const struct options *options, struct report *report)
{
    static const uint32_t counts[] = {MILLION, 10 * MILLION, 50 * MILLION};
    random_fill(table_secret, sizeof table_secret);
    report_note(report,
                "index: the machine's own pauses hit some inserts of any load. longest_insert is "
                "free of them: of each insert the least over several loads of the same keys, and "
                "of these the longest; longest_insert_of_a_load has them in it. (cds_lfht grows "
                "from a thread of its own, at other keys each time: of it the latter says more.)");
    if (table_lfht.name == NULL) {
        report_note(report, table_lfht_missing);
    }
    if (table_ck_ht.name == NULL) {
        report_note(report, table_ck_ht_missing);
    }
    if (options->count != 0) {
        if (options->count > counts[2]) {
            fprintf(stderr, "rethread-bench: index: at most %u keys\n", counts[2]);
            return false;
        }
        return run_count(options, report, (uint32_t)options->count);
    }
    /* Quick: the size that the targets name. */
    for (unsigned i = options->quick ? 1 : 0; i < (options->large ? 3u : 2u); i++) {
        if (!run_count(options, report, counts[i])) {
            return false;
        }
    }
    return true;
}

const struct workload workload_index = {
    .name = "index",
    .help = "the hash index in this process, against cds_lfht and ck_ht",
    .run = run,
};
