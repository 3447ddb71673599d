/*
 * Workload index: the hash index alone, in this process, against liburcu's cds_lfht where that is
 * built in. Nanoseconds on the CPU clock of the measuring operating-system thread, so that being
 * preempted does not count. cds_lfht grows between inserts, by this caller and helpers of its own,
 * which are not counted; so its longest insert is not measured.
 */
#include "bench/workload.h"

#include "bench/progress.h"
#include "bench/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 5, ROUNDS_QUICK = 3, PHASES = 4 };

enum phase { PHASE_INSERT, PHASE_FIND, PHASE_FIND_BATCHED, PHASE_REMOVE };

static const struct {
    const char *metric;
    const char *what;
} phases[PHASES] = {
    [PHASE_INSERT] = {"insert", "insert while growing"},
    [PHASE_FIND] = {"find", "find"},
    [PHASE_FIND_BATCHED] = {"find_batched", "find, 16 at a time"},
    [PHASE_REMOVE] = {"remove", "find and remove"},
};

struct index_side {
    const struct table_kind *kind;
    struct samples ns[PHASES];
    struct samples longest_us;
};

struct index_run {
    const struct options *options;
    uint32_t count;
    uint32_t *sequence; /* the order of inserts: as they come */
    uint32_t *shuffled; /* the order of the rest */
    struct hist *hist;
};

static bool wrong(const char *table, const char *phase)
{
    progress_clear();
    fprintf(stderr, "rethread-bench: index: %s: %s gave a wrong answer\n", table, phase);
    return false;
}

static bool no_memory(void)
{
    progress_clear();
    fprintf(stderr, "rethread-bench: index: no memory\n");
    return false;
}

static bool run_phase(const struct index_run *run, struct index_side *side, struct table *table,
                      enum phase phase)
{
    const struct table_kind *kind = side->kind;
    bool (*const calls[PHASES])(struct table *, const uint32_t *, uint32_t) = {
        [PHASE_INSERT] = kind->insert,
        [PHASE_FIND] = kind->find,
        [PHASE_FIND_BATCHED] = kind->find_batched,
        [PHASE_REMOVE] = kind->remove,
    };
    if (calls[phase] == NULL) {
        return true;
    }
    const uint32_t *keys = phase == PHASE_INSERT ? run->sequence : run->shuffled;
    uint64_t before_ns = table_cpu_ns();
    if (!calls[phase](table, keys, run->count)) {
        return wrong(kind->name, phases[phase].what);
    }
    samples_add(&side->ns[phase], (double)(table_cpu_ns() - before_ns) / run->count);
    return true;
}

static bool run_phases(const struct index_run *run, struct index_side *side)
{
    struct table *table = side->kind->create(run->count);
    if (table == NULL) {
        return no_memory();
    }
    bool good = true;
    for (unsigned phase = 0; good && phase < PHASES; phase++) {
        good = run_phase(run, side, table, (enum phase)phase);
    }
    side->kind->destroy(table);
    return good;
}

/* On a table of its own: reading the clock at each insert costs more than the insert. */
static bool run_longest(const struct index_run *run, struct index_side *side)
{
    struct table *table = side->kind->create(run->count);
    if (table == NULL) {
        return no_memory();
    }
    hist_clear(run->hist);
    bool good = side->kind->insert_timed(table, run->sequence, run->count, run->hist);
    side->kind->destroy(table);
    if (!good) {
        return wrong(side->kind->name, "insert");
    }
    samples_add(&side->longest_us, (double)run->hist->max / 1000);
    return true;
}

static bool run_side(const struct index_run *run, struct index_side *side)
{
    if (side->kind == NULL) {
        return true;
    }
    return run_phases(run, side) && (side->kind->insert_timed == NULL || run_longest(run, side));
}

static void add_row(const struct index_run *run, struct report *report, struct report_row *row,
                    const char *what)
{
    row->bench = "index";
    row->params[0] = (struct report_param){"keys", NULL, run->count};
    if (run->count % 1000000 == 0) {
        snprintf(row->what, sizeof row->what, "%s, %u M keys", what, run->count / 1000000);
    } else if (run->count % 1000 == 0) {
        snprintf(row->what, sizeof row->what, "%s, %u k keys", what, run->count / 1000);
    } else {
        snprintf(row->what, sizeof row->what, "%s, %u keys", what, run->count);
    }
    report_add(report, row);
}

static void add_rows(const struct index_run *run, struct report *report,
                     const struct index_side *ours, const struct index_side *theirs)
{
    const char *peer = theirs->kind != NULL ? theirs->kind->name : NULL;
    for (unsigned phase = 0; phase < PHASES; phase++) {
        /* A table that knows no batches does the same job one by one. */
        unsigned their_phase =
            phase == PHASE_FIND_BATCHED && theirs->ns[phase].count == 0 ? PHASE_FIND : phase;
        struct report_row row = {
            .peer = peer,
            .metric = phases[phase].metric,
            .unit = "ns",
            .ours = summary_of(&ours->ns[phase]),
            .theirs = summary_of(&theirs->ns[their_phase]),
        };
        add_row(run, report, &row, phases[phase].what);
    }
    struct report_row row = {
        .peer = theirs->longest_us.count != 0 ? peer : NULL,
        .metric = "longest_insert",
        .unit = "us",
        .ours = summary_of(&ours->longest_us),
        .theirs = summary_of(&theirs->longest_us),
    };
    add_row(run, report, &row, "longest insert while growing");
}

static void shuffle(uint32_t *keys, uint32_t count)
{
    for (uint32_t i = count - 1; i > 0; i--) {
        uint32_t other = (uint32_t)(protocol_mix(i) % (i + 1));
        uint32_t key = keys[i];
        keys[i] = keys[other];
        keys[other] = key;
    }
}

static bool create_orders(struct index_run *run)
{
    run->sequence = calloc(run->count, sizeof *run->sequence);
    run->shuffled = calloc(run->count, sizeof *run->shuffled);
    run->hist = calloc(1, sizeof *run->hist);
    if (run->sequence == NULL || run->shuffled == NULL || run->hist == NULL) {
        return no_memory();
    }
    for (uint32_t i = 0; i < run->count; i++) {
        run->sequence[i] = i;
        run->shuffled[i] = i;
    }
    shuffle(run->shuffled, run->count);
    return true;
}

static bool run_count(const struct options *options, struct report *report, uint32_t count)
{
    struct index_run run = {.options = options, .count = count};
    struct index_side ours = {.kind = &table_rethread};
    bool alone = options->peer != NULL && strcmp(options->peer, "none") == 0;
    struct index_side theirs = {.kind = alone ? NULL : table_peer};
    unsigned rounds = options->rounds != 0 ? (unsigned)options->rounds
                      : options->quick     ? (unsigned)ROUNDS_QUICK
                                           : (unsigned)ROUNDS;
    bool good = create_orders(&run);
    for (unsigned round = 0; good && round < rounds; round++) {
        progress_show("index: %u keys: round %u of %u", count, round + 1, rounds);
        struct index_side *first = workload_ours_first(round) ? &ours : &theirs;
        good = run_side(&run, first) && run_side(&run, first == &ours ? &theirs : &ours);
    }
    progress_clear();
    if (good) {
        add_rows(&run, report, &ours, &theirs);
    }
    free(run.hist);
    free(run.shuffled);
    free(run.sequence);
    return good;
}

static bool run(const struct options *options, struct report *report)
{
    static const uint32_t counts[] = {100000, 1000000, 10000000};
    if (table_peer == NULL) {
        report_note(report, table_peer_missing);
    }
    if (options->count != 0) {
        if (options->count > counts[2]) {
            fprintf(stderr, "rethread-bench: index: at most %u keys\n", counts[2]);
            return false;
        }
        return run_count(options, report, (uint32_t)options->count);
    }
    for (unsigned i = 0; i < (options->large ? 3u : 2u); i++) {
        if (!run_count(options, report, counts[i])) {
            return false;
        }
    }
    return true;
}

const struct workload workload_index = {
    .name = "index",
    .help = "the hash index in this process, against liburcu's cds_lfht",
    .run = run,
};
