/*
 * How long a server that was killed takes to answer again, and to be as fast as before: on one-step
 * threads of 1 KiB, beside Redis loading the same data, by RDB and by AOF.
 *
 * rethread dies by SIGKILL with the log's tail not yet in the tree; Redis is asked to save and ends
 * as it should. Both then start on files that are in the page cache. The *first answer* is the
 * first right replay since the program was started, asked for again and again. *Full speed* is
 * reached when the first second begins in which replays of a twentieth of the threads, chosen at
 * random, run at nine tenths of the rate before: some sixteen at a time, over one connection.
 */
#include "bench/ask.h"
#include "bench/fill.h"
#include "bench/folder.h"
#include "bench/load.h"
#include "bench/precedence.h"
#include "bench/progress.h"
#include "bench/sides.h"
#include "bench/workload.h"

#include "base/random.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    STEP_BYTES = 1024,
    POOL_BYTES = 1 << 20,
    STEPS = 1000000,
    STEPS_QUICK = 200000,
    STEPS_MIN = 64,
    TAIL_MAX = 48 * 1024, /* appended last, on its way to the disk when the kill comes */
    HOT_SHARE = 20,
    BATCH = 16,
    TTL_S = 24 * 3600,
    ROUNDS = 5,
    ROUNDS_QUICK = 3,
    CONNECTIONS = 50,
    SERVER_CORE = 0,
    GENERATOR_CORE = 1,
    SLICE_MS = 20,
    SLICES = 1000 / SLICE_MS, /* of a second */
    SPEED_MS = 30 * 1000,
    SPEED_QUICK_MS = 3 * 1000,
    PATIENCE_S = 120,
};

enum { OURS, RDB, AOF, SYSTEMS };

struct system {
    bool is_there;
    double before; /* replays a second, by a warm server */
    struct samples answer_ms;
    struct samples speed_ms;
};

struct restart {
    const struct options *options;
    struct report *report;
    const char *program;
    struct protocol_values values;
    struct folder ours;
    struct folder theirs;
    uint32_t steps; /* of the first filling; only these are asked for */
    uint32_t next;  /* threads from here on were never used */
    uint64_t state; /* of the choice of threads */
    struct system systems[SYSTEMS];
};

static double now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static bool fail(const char *what)
{
    progress_clear();
    fprintf(stderr, "rethread-bench: restart: %s\n", what);
    return false;
}

/* ---- Servers ---- */

static const struct protocol *protocol_of(unsigned system)
{
    return system == OURS ? &protocol_rethread : &protocol_redis;
}

static bool launch(const struct restart *restart, unsigned system, struct server *server)
{
    const char *const ours[] = {restart->program,
                                "--listen",
                                "@ADDRESS",
                                "--data",
                                restart->ours.name,
                                "--memory",
                                "2G",
                                "--disk",
                                "64G",
                                "--ttl",
                                "24h",
                                "--retention",
                                "24h",
                                "--loops",
                                "1",
                                "--log-level",
                                "error",
                                NULL};
    const char *const theirs[] = {"redis-server",
                                  "--port",
                                  "@PORT",
                                  "--bind",
                                  "127.0.0.1",
                                  "--save",
                                  "",
                                  "--appendonly",
                                  system == AOF ? "yes" : "no",
                                  "--dir",
                                  restart->theirs.name,
                                  NULL};
    return server_launch(server, system == OURS ? ours : theirs, SERVER_CORE) ||
           fail(server->error);
}

/* One batch of replays of hot threads. */
static enum ask_answer ask_hot(struct restart *restart, struct ask *ask)
{
    struct protocol_item items[BATCH];
    uint32_t hot = restart->steps / HOT_SHARE + 1;
    for (unsigned i = 0; i < BATCH; i++) {
        restart->state = protocol_mix(restart->state + UINT64_C(0x9E3779B97F4A7C15));
        uint64_t chosen = protocol_mix(restart->state % hot) % restart->steps;
        items[i] =
            (struct protocol_item){.op = PROTOCOL_REPLAY, .thread = (uint32_t)chosen, .steps = 1};
    }
    return ask_replays(ask, &restart->values, items, BATCH);
}

/* Batches until then, and how many replays those were. */
static bool ask_until(struct restart *restart, struct ask *ask, double end_ms, unsigned long *count)
{
    for (*count = 0; now_ms() < end_ms; *count += BATCH) {
        if (ask_hot(restart, ask) != ASK_RIGHT) {
            return fail("a replay is not what was put in");
        }
    }
    return true;
}

/* Until it answers one replay right; connects for as long as that takes. */
static bool await_answer(struct restart *restart, unsigned system, struct server *server,
                         struct ask *ask)
{
    double end_ms = now_ms() + PATIENCE_S * 1e3;
    const struct timespec pause = {.tv_nsec = 200000};
    bool is_connected = false;
    while (now_ms() < end_ms && server_is_running(server)) {
        is_connected = is_connected || ask_open(ask, protocol_of(system), server,
                                                BATCH * (STEP_BYTES + PROTOCOL_SLACK_BYTES));
        enum ask_answer answer = is_connected ? ask_hot(restart, ask) : ASK_LATER;
        if (answer == ASK_RIGHT) {
            return true;
        }
        if (answer != ASK_LATER) {
            return fail("a replay is not what was put in");
        }
        (void)nanosleep(&pause, NULL);
    }
    return fail("a server does not answer after its start");
}

/* The rate once each hot thread was asked for: the median of some slices. */
static bool measure_before(struct restart *restart, unsigned system, struct ask *ask)
{
    enum { BEFORE_SLICES = 5, BEFORE_SLICE_MS = 200 };
    unsigned long batches = restart->steps / HOT_SHARE / BATCH * 3 + 1;
    struct samples rates = {.count = 0};
    for (unsigned long i = 0; i < batches; i++) {
        if (ask_hot(restart, ask) != ASK_RIGHT) {
            return fail("a replay is not what was put in");
        }
    }
    for (unsigned i = 0; i < BEFORE_SLICES; i++) {
        unsigned long count;
        double begin_ms = now_ms();
        if (!ask_until(restart, ask, begin_ms + BEFORE_SLICE_MS, &count)) {
            return false;
        }
        samples_add(&rates, (double)count / (now_ms() - begin_ms) * 1e3);
    }
    restart->systems[system].before = summary_of(&rates).median;
    return true;
}

/*
 * Goes on until a whole second ran at three quarters of the rate before, or for as long as anyone
 * waits. When that began, in milliseconds since now; negative after a failure.
 */
static double await_speed(struct restart *restart, unsigned system, struct ask *ask)
{
    unsigned long counts[SLICES] = {0};
    unsigned long sum = 0;
    double begin_ms = now_ms();
    double longest_ms = restart->options->quick ? SPEED_QUICK_MS : SPEED_MS;
    for (unsigned slice = 0;; slice++) {
        unsigned long count;
        double end_ms = begin_ms + (slice + 1) * (double)SLICE_MS;
        if (!ask_until(restart, ask, end_ms, &count)) {
            return -1;
        }
        sum += count - counts[slice % SLICES];
        counts[slice % SLICES] = count;
        bool is_fast = (double)sum >= 0.75 * restart->systems[system].before;
        if (slice + 1 >= SLICES && (is_fast || end_ms - begin_ms > longest_ms)) {
            return end_ms - begin_ms - 1000;
        }
    }
}

/* ---- Filling ---- */

static bool fill(struct restart *restart, uint32_t count, uint32_t tail)
{
    struct fill wanted = {.bench = "restart",
                          .directory = restart->ours.name,
                          .values = &restart->values,
                          .memory_bytes = UINT64_C(2) << 30,
                          .begin = restart->next,
                          .end = restart->next + count + tail,
                          .steps = 1,
                          .tail = tail};
    restart->next = wanted.end;
    return fill_directory(&wanted);
}

/* Ours is filled in process; a server then shows how fast it is when nothing happened. */
static bool prepare_ours(struct restart *restart)
{
    struct server server;
    struct ask ask = {.fd = -1};
    bool good = fill(restart, restart->steps, 0) && launch(restart, OURS, &server);
    if (good) {
        good = await_answer(restart, OURS, &server, &ask) && measure_before(restart, OURS, &ask);
        ask_close(&ask);
        server_stop(&server);
    }
    restart->systems[OURS].is_there = good;
    return good;
}

/* By the load generator, all threads, then asks it to save and end. */
static bool feed_redis(struct restart *restart, struct server *server)
{
    static const char bye[] = "SHUTDOWN SAVE\r\n";
    struct load_shape shape = {.connections = CONNECTIONS,
                               .in_flight = BATCH,
                               .request_bytes_max = STEP_BYTES,
                               .reply_bytes_max = STEP_BYTES,
                               .steps_max = 1};
    struct load_each each = {.op = PROTOCOL_APPEND, .end = restart->steps};
    struct load_job job = {.values = &restart->values, .next = load_each, .context = &each};
    struct load_result result = {.error = ""};
    struct ask ask = {.fd = -1};
    struct load *load = load_open(&protocol_redis, server, &shape, result.error);
    progress_show("restart: filling Redis");
    bool good = load != NULL && load_run(load, &job, &result);
    load_close(load);
    if (!good) {
        return fail(result.error);
    }
    good = await_answer(restart, RDB, server, &ask) && measure_before(restart, RDB, &ask) &&
           send(ask.fd, bye, sizeof bye - 1, MSG_NOSIGNAL) == (ssize_t)sizeof bye - 1;
    double end_ms = now_ms() + PATIENCE_S * 1e3;
    while (good && server_is_running(server) && now_ms() < end_ms) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    ask_close(&ask);
    return good;
}

static bool await_connection(struct server *server)
{
    double end_ms = now_ms() + PATIENCE_S * 1e3;
    while (now_ms() < end_ms && server_is_running(server)) {
        int fd = server_connect(server);
        if (fd >= 0) {
            close(fd);
            return true;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return fail("Redis takes no connections");
}

static bool prepare_theirs(struct restart *restart)
{
    struct server server;
    const char *peer = restart->options->peer;
    if (peer != NULL && strstr(peer, "redis") == NULL) {
        return true;
    }
    if (access("/usr/bin/redis-server", X_OK) != 0) {
        report_note(restart->report, "redis-server is not installed: measured without it.");
        return true;
    }
    bool good =
        folder_make(&restart->theirs, restart->options->data) && launch(restart, AOF, &server);
    if (good) {
        good = await_connection(&server) && feed_redis(restart, &server);
        server_stop(&server);
    }
    restart->systems[AOF].before = restart->systems[RDB].before;
    restart->systems[RDB].is_there = restart->systems[AOF].is_there = good;
    return good;
}

/* ---- Rounds ---- */

static bool measure(struct restart *restart, unsigned system)
{
    struct server server;
    struct ask ask = {.fd = -1};
    double begin_ms = now_ms();
    if (!launch(restart, system, &server)) {
        return false;
    }
    bool good = await_answer(restart, system, &server, &ask);
    double answer_ms = now_ms() - begin_ms;
    double speed_ms = good ? await_speed(restart, system, &ask) : -1;
    ask_close(&ask);
    /* Nothing is to be saved, and the next round begins with a kill anyway. */
    server_kill(&server);
    samples_add(&restart->systems[system].answer_ms, answer_ms);
    samples_add(&restart->systems[system].speed_ms, answer_ms + speed_ms);
    return good && speed_ms >= 0;
}

static bool run_round(struct restart *restart, unsigned round)
{
    for (unsigned i = 0; i < SYSTEMS; i++) {
        unsigned system = round % 2 == 0 ? i : SYSTEMS - 1 - i;
        uint32_t tail = restart->steps / 4 < TAIL_MAX ? restart->steps / 4 : TAIL_MAX;
        if (!restart->systems[system].is_there) {
            continue;
        }
        if (system == OURS && !fill(restart, 1, tail)) {
            return false;
        }
        progress_show("restart: round %u", round + 1);
        if (!measure(restart, system)) {
            return false;
        }
    }
    return true;
}

static void add_rows(const struct restart *restart, unsigned system)
{
    static const char *const forms[] = {NULL, "rdb", "aof"};
    const struct system *ours = &restart->systems[OURS];
    const struct system *theirs = &restart->systems[system];
    struct report_row row = {
        .bench = "restart",
        .peer = system != OURS ? "redis" : NULL,
        .params = {{.name = "steps", .number = restart->steps},
                   {.name = "size_bytes", .number = STEP_BYTES}},
        .unit = "ms",
    };
    if (system != OURS) {
        row.params[2] = (struct report_param){.name = "redis_by", .text = forms[system]};
    }
    snprintf(row.what, sizeof row.what, "start on %u steps of 1 KiB%s%s", restart->steps,
             system == OURS ? "" : ", Redis by ", system == OURS ? "" : forms[system]);
    row.metric = "first_answer";
    row.ours = summary_of(&ours->answer_ms);
    row.theirs = summary_of(&theirs->answer_ms);
    if (system == OURS) {
        row.theirs.count = 0;
    }
    report_add(restart->report, &row);
    row.metric = "full_speed";
    row.ours = summary_of(&ours->speed_ms);
    row.theirs = summary_of(&theirs->speed_ms);
    if (system == OURS) {
        row.theirs.count = 0;
    }
    report_add(restart->report, &row);
}

static bool run_all(struct restart *restart)
{
    const struct options *options = restart->options;
    unsigned rounds = options->quick ? ROUNDS_QUICK : ROUNDS;
    rounds = options->rounds != 0 ? (unsigned)options->rounds : rounds;
    bool good = prepare_ours(restart) && prepare_theirs(restart);
    for (unsigned round = 0; good && round < rounds; round++) {
        good = run_round(restart, round);
    }
    bool has_redis = restart->systems[RDB].is_there;
    for (unsigned i = has_redis ? RDB : OURS; good && i < (has_redis ? SYSTEMS : RDB); i++) {
        add_rows(restart, i);
    }
    return good;
}

static bool run(const struct options *options, struct report *report)
{
    struct restart restart = {
        .options = options,
        .report = report,
        .program = options->program,
        .values = {.pool_bytes = POOL_BYTES, .ttl_s = TTL_S, .value_bytes = STEP_BYTES},
        .steps = options->quick && !options_is_pass(options) ? STEPS_QUICK : STEPS,
    };
    if (options->count != 0) {
        restart.steps = options->count < STEPS_MIN ? STEPS_MIN
                        : options->count > STEPS   ? STEPS
                                                   : (uint32_t)options->count;
    }
    char beside[PATH_MAX];
    if (restart.program == NULL && sides_find_program(beside)) {
        restart.program = beside;
    }
    uint8_t *pool = malloc(POOL_BYTES + STEP_BYTES);
    if (restart.program == NULL || pool == NULL) {
        free(pool);
        return fail("no rethread-server beside this program, or no memory");
    }
    random_fill(pool, POOL_BYTES + STEP_BYTES);
    random_fill(&restart.values.series, sizeof restart.values.series);
    restart.values.pool = pool;
    precedence_keep_to(GENERATOR_CORE);
    bool good = folder_make(&restart.ours, options->data) && run_all(&restart);
    precedence_keep_to(PRECEDENCE_ANY_CORE);
    progress_clear();
    folder_end(&restart.theirs);
    folder_end(&restart.ours);
    free(pool);
    return good;
}

const struct workload workload_restart = {
    .name = "restart",
    .help = "from start to the first right answer and to full speed, beside redis loading the same",
    .run = run,
};
