/*
 * Workload agent: the real job. Each connection works one conversation at a time: it appends the
 * turn's step, with its response id, a tool call and its prefix, and replays the whole thread, then
 * does the next turn. How long conversations are and how much each turn thinks comes from a
 * workload's file or a distribution fitted to one (conversations.h); a turn that did not think
 * leaves a bare step. Owns the servers while it runs.
 *
 * A round of a side: all conversations (quick: half of them) from first turn to last, as fast as
 * the server answers (CPU time and throughput), then all are forgotten, which is not measured.
 * Latencies come from an open loop at half of Redis's greatest rate: append and replay of a turn
 * are due at fixed times, and the turn took as long as both together.
 */
#include "bench/workload.h"

#include "bench/conversations.h"
#include "bench/load.h"
#include "bench/progress.h"
#include "bench/sides.h"
#include "bench/urgent.h"

#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CONNECTIONS = 50,
    TTL_S = 300,
    POOL_BYTES = 256 * 1024,
    ROUNDS = 5,
    ROUNDS_QUICK = 3,
    RATE_PERCENT = 50,
    REQUESTS = 2, /* of a turn */
    NOTE_BYTES = 256,
    FORGET_BYTES = 128, /* for each step, where the peer must be told all keys */
};

static const char default_file[] = "../shared/data/workload-claudecode-dev.jsonl.gz";

enum { P50, P99, P999, LATENCIES };
static const double shares[LATENCIES] = {0.5, 0.99, 0.999};
static const char *const share_names[LATENCIES] = {"p50", "p99", "p99.9"};

struct agent_side {
    struct side *side;
    struct load *load;
    struct samples turns; /* a second */
    struct samples cpu_ns;
    struct samples latency_us[LATENCIES];
    struct hist hist_ns; /* of all rounds */
};

/* What the connections are at. */
struct work {
    const struct conversations *conversations;
    uint32_t *order;
    uint32_t count;     /* of conversations to play */
    uint32_t next;      /* place in `order` */
    uint32_t *appended; /* steps, of each conversation */
    struct {
        bool is_taken;
        bool replays; /* that is next */
        uint32_t conversation;
        uint64_t append_ns;
    } at[CONNECTIONS];
    struct hist *hist_ns; /* of turns; NULL: not wanted */
};

struct agent {
    const struct options *options;
    struct report *report;
    struct sides sides;
    struct agent_side side[SIDES_MAX];
    struct conversations conversations;
    struct protocol_values values;
    struct work work;
    uint32_t loops;
};

/* ---- What is asked next
 * -------------------------------------------------------------------------- */

static bool next_turn(void *context, unsigned connection, struct protocol_item *item)
{
    struct work *work = context;
    const struct conversations *conversations = work->conversations;
    if (work->at[connection].is_taken && !work->at[connection].replays &&
        work->appended[work->at[connection].conversation] ==
            conversations->all[work->at[connection].conversation].turns) {
        work->at[connection].is_taken = false;
    }
    if (!work->at[connection].is_taken) {
        if (work->next == work->count) {
            return false;
        }
        work->at[connection].is_taken = true;
        work->at[connection].conversation = work->order[work->next++];
    }
    uint32_t thread = work->at[connection].conversation;
    bool replays = work->at[connection].replays;
    *item = (struct protocol_item){.op = replays ? PROTOCOL_REPLAY : PROTOCOL_APPEND,
                                   .thread = thread,
                                   .step = replays ? 0 : work->appended[thread],
                                   .steps = replays ? work->appended[thread] : 0};
    work->appended[thread] += !replays;
    work->at[connection].replays = !replays;
    return true;
}

static void turn_done(void *context, unsigned connection, const struct protocol_item *item,
                      uint64_t latency_ns)
{
    struct work *work = context;
    if (item->op == PROTOCOL_APPEND) {
        work->at[connection].append_ns = latency_ns;
    } else {
        hist_record(work->hist_ns, work->at[connection].append_ns + latency_ns);
    }
}

static void begin_work(struct agent *agent, uint64_t seed, struct hist *hist_ns)
{
    struct work *work = &agent->work;
    work->next = 0;
    work->hist_ns = hist_ns;
    memset(work->at, 0, sizeof work->at);
    memset(work->appended, 0, agent->conversations.count * sizeof *work->appended);
    conversations_order(&agent->conversations, seed, work->order);
    work->count = agent->conversations.count;
    if (agent->options->quick && work->count > 2 * CONNECTIONS) {
        work->count /= 2; /* every other one, short and long */
        for (uint32_t i = 0; i < work->count; i++) {
            work->order[i] = work->order[2 * i];
        }
    }
}

/* What was begun, finished or not. */
static bool next_forget(void *context, unsigned connection, struct protocol_item *item)
{
    struct work *work = context;
    (void)connection;
    if (work->next == 0) {
        return false;
    }
    uint32_t thread = work->order[--work->next];
    *item = (struct protocol_item){
        .op = PROTOCOL_FORGET, .thread = thread, .steps = work->appended[thread]};
    return true;
}

/* ---- Running
 * ------------------------------------------------------------------------------------- */

static bool run_job(struct agent_side *side, const struct load_job *job, struct load_result *result)
{
    if (load_run(side->load, job, result)) {
        return true;
    }
    progress_clear();
    fprintf(stderr, "rethread-bench: agent: %s\n", result->error);
    return false;
}

static bool forget_all(struct agent *agent, struct agent_side *side)
{
    struct load_result result;
    const struct load_job job = {
        .values = &agent->values, .next = next_forget, .context = &agent->work};
    return run_job(side, &job, &result);
}

/* `count` 0: all conversations. */
static bool run_closed(struct agent *agent, struct agent_side *side, unsigned round, uint64_t count)
{
    struct load_result result;
    const struct load_job job = {.values = &agent->values,
                                 .next = next_turn,
                                 .context = &agent->work,
                                 .count = count * REQUESTS};
    begin_work(agent, round, NULL);
    if (!run_job(side, &job, &result)) {
        return false;
    }
    samples_add(&side->turns, result.requests_per_second / REQUESTS);
    if (side->side->server.pid > 0) {
        samples_add(&side->cpu_ns, result.server_cpu_ns * REQUESTS);
    }
    return forget_all(agent, side);
}

static bool run_open(struct agent *agent, struct agent_side *side, unsigned round, double rate,
                     unsigned parts)
{
    struct load_result result;
    struct hist *hist_ns = calloc(1, sizeof *hist_ns);
    if (hist_ns == NULL) {
        fputs("rethread-bench: no memory\n", stderr);
        return false;
    }
    const struct load_job job = {.values = &agent->values,
                                 .next = next_turn,
                                 .done = turn_done,
                                 .context = &agent->work,
                                 .rate = rate * REQUESTS,
                                 .seconds = URGENT_PART_S};
    begin_work(agent, round, hist_ns);
    bool good = true;
    for (unsigned part = 0; good && part < parts; part++) {
        urgent_rest();
        good = run_job(side, &job, &result);
    }
    for (unsigned i = 0; good && i < LATENCIES; i++) {
        samples_add(&side->latency_us[i], (double)hist_percentile(hist_ns, shares[i]) / 1000);
    }
    hist_add(&side->hist_ns, hist_ns);
    free(hist_ns);
    return good && forget_all(agent, side);
}

static bool run_rounds(struct agent *agent, unsigned rounds)
{
    const struct sides *sides = &agent->sides;
    progress_show("agent: warming up");
    for (unsigned i = 0; i < sides->count; i++) {
        agent->values.series++;
        if (!run_closed(agent, &agent->side[i], 0, agent->conversations.turn_count / 8)) {
            return false;
        }
        agent->side[i].turns.count = 0;
        agent->side[i].cpu_ns.count = 0;
    }
    for (unsigned round = 0; round < rounds; round++) {
        agent->values.series++;
        for (unsigned at = 0; at < sides->count; at++) {
            struct agent_side *side = &agent->side[sides_turn(sides, round, at)];
            progress_show("agent: %s, round %u of %u", side->side->name, round + 1, rounds);
            if (!run_closed(agent, side, round, 0)) {
                return false;
            }
        }
    }
    return true;
}

/* Of the first peer, as all are compared at one rate; of ours, when we are alone. */
static double open_rate(const struct agent *agent)
{
    const struct agent_side *side = &agent->side[agent->sides.count > 1];
    return summary_of(&side->turns).median * RATE_PERCENT / 100;
}

static bool run_latencies(struct agent *agent, unsigned rounds)
{
    const struct sides *sides = &agent->sides;
    double rate = open_rate(agent);
    unsigned parts = urgent_parts(agent->options->quick ? 1.5 : 4);
    for (unsigned round = 0; round < rounds; round++) {
        agent->values.series++;
        for (unsigned at = 0; at < sides->count; at++) {
            struct agent_side *side = &agent->side[sides_turn(sides, round, at)];
            progress_show("agent: %s, latencies, round %u of %u", side->side->name, round + 1,
                          rounds);
            if (!run_open(agent, side, round, rate, parts)) {
                return false;
            }
        }
    }
    return true;
}

/* ---- Telling
 * ------------------------------------------------------------------------------------- */

static struct summary scaled(const struct samples *samples, double by)
{
    struct summary summary = summary_of(samples);
    summary.median *= by;
    summary.min *= by;
    summary.max *= by;
    return summary;
}

static void add_row(struct agent *agent, struct report_row *row, const struct samples *ours,
                    const struct samples *theirs, double by)
{
    row->ours = scaled(ours, by);
    row->theirs = theirs != NULL ? scaled(theirs, by) : (struct summary){.count = 0};
    report_add(agent->report, row);
}

/* `peer` NULL: measured alone. */
static void add_rows(struct agent *agent, const struct agent_side *peer)
{
    const struct agent_side *ours = &agent->side[0];
    struct report_row row = {
        .bench = "agent",
        .peer = peer != NULL ? peer->side->name : NULL,
        .what = "turn: append and whole replay",
        .params = {{"op", "turn", 0},
                   {"connections", NULL, CONNECTIONS},
                   {"data", "none", 0},
                   {"loops", NULL, agent->loops}},
    };
    row.metric = "server_cpu_per_op";
    row.unit = "ns";
    add_row(agent, &row, &ours->cpu_ns, peer != NULL ? &peer->cpu_ns : NULL, 1);
    row.metric = "throughput";
    row.unit = "thousand/s";
    row.more_is_better = true;
    add_row(agent, &row, &ours->turns, peer != NULL ? &peer->turns : NULL, 1e-3);
    snprintf(row.what, sizeof row.what, "turn, at %d%% of the peer's rate", RATE_PERCENT);
    row.params[4] = (struct report_param){"rate_percent", NULL, RATE_PERCENT};
    row.unit = "us";
    row.more_is_better = false;
    for (unsigned i = 0; i < LATENCIES; i++) {
        row.metric = share_names[i];
        add_row(agent, &row, &ours->latency_us[i], peer != NULL ? &peer->latency_us[i] : NULL, 1);
    }
}

static void tell(struct agent *agent, const char *file)
{
    struct conversations_summary is;
    char note[NOTE_BYTES];
    if (conversations_sum(&agent->conversations, &is)) {
        snprintf(note, sizeof note,
                 "agent: %u conversations %s, %.0f turns each, %.0f%% of them with %.0f bytes of "
                 "reasoning and the rest bare; a whole replay is %.0f steps and %.0f bytes.",
                 agent->conversations.count,
                 file != NULL ? "from a workload's file" : "from the built-in distribution",
                 is.turns, is.thinking_share * 100, is.step_bytes, is.replay_steps,
                 is.replay_bytes);
        report_note(agent->report, note);
    }
    for (unsigned i = 0; i < agent->sides.count; i++) {
        report_latency(agent->report, "agent", "latency of a turn", agent->side[i].side->name,
                       &agent->side[i].hist_ns);
    }
    add_rows(agent, agent->sides.count > 1 ? &agent->side[1] : NULL);
    for (unsigned i = 2; i < agent->sides.count; i++) {
        add_rows(agent, &agent->side[i]);
    }
}

/* ---- Setting up
 * ---------------------------------------------------------------------------------- */

static bool open_loads(struct agent *agent)
{
    const struct conversations *conversations = &agent->conversations;
    size_t forget_bytes = (size_t)conversations->turns_max * FORGET_BYTES;
    size_t step_bytes = conversations->step_bytes_max;
    const struct load_shape shape = {.connections = CONNECTIONS,
                                     .in_flight = 1,
                                     .request_bytes_max =
                                         step_bytes > forget_bytes ? step_bytes : forget_bytes,
                                     .reply_bytes_max = conversations->thread_bytes_max,
                                     .steps_max = conversations->turns_max};
    for (unsigned i = 0; i < agent->sides.count; i++) {
        char error[LOAD_ERROR_BYTES];
        struct agent_side *side = &agent->side[i];
        side->side = &agent->sides.side[i];
        side->load = load_open(side->side->protocol, &side->side->server, &shape, error);
        if (side->load == NULL) {
            fprintf(stderr, "rethread-bench: agent: %s\n", error);
            return false;
        }
    }
    return true;
}

static bool measure(struct agent *agent, const char *file)
{
    const struct sides_wanted wanted = {.peers = SIDES_REDIS_LISTS, .ttl_s = TTL_S};
    unsigned rounds = agent->options->quick ? ROUNDS_QUICK : ROUNDS;
    if (agent->options->rounds != 0) {
        rounds = (unsigned)agent->options->rounds;
    }
    if (!sides_open(&agent->sides, agent->options, agent->report, &wanted)) {
        return false;
    }
    bool good = open_loads(agent) && run_rounds(agent, rounds);
    if (good) {
        urgent_begin(&agent->sides, agent->report);
        good = run_latencies(agent, rounds);
        urgent_end(&agent->sides);
    }
    progress_clear();
    if (good) {
        tell(agent, file);
    }
    for (unsigned i = 0; i < agent->sides.count; i++) {
        load_close(agent->side[i].load);
    }
    sides_close(&agent->sides);
    return good;
}

static bool open_values(struct agent *agent)
{
    const struct conversations *conversations = &agent->conversations;
    size_t bytes = (size_t)POOL_BYTES + conversations->step_bytes_max;
    uint8_t *pool = malloc(bytes);
    agent->work = (struct work){
        .conversations = conversations,
        .order = calloc(conversations->count, sizeof(uint32_t)),
        .appended = calloc(conversations->count, sizeof(uint32_t)),
    };
    agent->values = (struct protocol_values){.pool = pool,
                                             .pool_bytes = POOL_BYTES,
                                             .ttl_s = TTL_S,
                                             .keyed = true,
                                             .size_of = conversations_size_of,
                                             .shape = conversations};
    if (pool == NULL || agent->work.order == NULL || agent->work.appended == NULL) {
        fputs("rethread-bench: no memory\n", stderr);
        return false;
    }
    random_fill(pool, bytes);
    random_fill(&agent->values.series, sizeof agent->values.series);
    return true;
}

static bool run(const struct options *options, struct report *report)
{
    struct agent *agent = calloc(1, sizeof *agent);
    if (agent == NULL) {
        fputs("rethread-bench: no memory\n", stderr);
        return false;
    }
    agent->options = options;
    agent->report = report;
    agent->loops = options->loops != 0 ? (uint32_t)options->loops : 1;
    const char *file = options->trace;
    if (file == NULL && access(default_file, R_OK) == 0) {
        file = default_file;
    }
    bool good = conversations_open(&agent->conversations, file);
    good = good && open_values(agent) && measure(agent, file);
    free((void *)(uintptr_t)agent->values.pool);
    free(agent->work.order);
    free(agent->work.appended);
    conversations_close(&agent->conversations);
    free(agent);
    return good;
}

const struct workload workload_agent = {
    .name = "agent",
    .help = "conversations that grow by a step and are replayed whole, against redis",
    .run = run,
};
