/*
 * How long a server that was killed takes to answer again: it is started on the data directory that
 * SIGKILL left behind, with the log's tail not yet in the tree, and asked for threads from it.
 *
 * A child fills the directory through the server's own threads and store, faster than clients
 * could, and kills itself while it appends. Rows are times from starting the program: until it says
 * that it is ready, and until the first right replay is there.
 */
#include "bench/folder.h"
#include "bench/progress.h"
#include "bench/protocol.h"
#include "bench/sides.h"
#include "bench/workload.h"

#include "base/random.h"
#include "store/store.h"
#include "thread/operations.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    VALUE_BYTES = 16 * 1024,
    TTL_S = 300,
    POOL_BYTES = 1 << 20,
    FILL_BYTES_QUICK = 128 << 20,
    FILL_BYTES = 1 << 30,
    TAIL_BYTES = 48 << 20, /* appended last, on its way to the disk when the kill comes */
    ROUNDS = 3,
    CHECKS = 256, /* replays of a round */
    LAG_BYTES = 64 << 20,
    TRIES_MAX = 2000000,
    READY_BYTES = 256,
    PATIENCE_S = 60,
};

struct restart {
    const struct options *options;
    char directory[40];
    struct protocol_values values;
    uint64_t filled; /* keys 0..filled-1 were in the tree when the first kill came */
    uint64_t next;   /* keys from here on were never used */
    struct samples ready_ms;
    struct samples answer_ms;
};

static double now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

/* ---- Filling ---- */

struct filling {
    struct store *store;
    struct threads *threads;
    struct lane *lane;
};

static bool open_all(struct filling *filling, const char *directory)
{
    struct store_refusal refusal;
    struct store_settings store = {
        .directory = directory,
        .disk_bytes = UINT64_C(64) << 30,
        .lag_max_bytes = LAG_BYTES,
        .tombstones = 65536,
        .pool = 1,
        .compression = STORE_COMPRESSION_ZSTD,
        .wall = clock_wall(),
    };
    filling->store = store_open(&store, &refusal);
    if (filling->store == NULL) {
        fprintf(stderr, "rethread-bench: restart: %s\n", refusal.text);
        return false;
    }
    struct threads_settings threads = {
        .memory_bytes = UINT64_C(1) << 30,
        .ttl_ms = TTL_S * 1000,
        .retention_ms = UINT64_C(24) * 3600 * 1000,
        .frame_max_bytes = 64 << 20,
        .tombstones = 65536,
        .lanes_max = 1,
        .clock = clock_monotonic(),
        .wall = clock_wall(),
        .tier = store_tier(filling->store),
        .hash_secret = store_secret(filling->store),
    };
    filling->threads = threads_create(&threads);
    filling->lane = filling->threads != NULL ? lane_open(filling->threads, 0, 1) : NULL;
    if (filling->lane == NULL) {
        return false;
    }
    lane_online(filling->lane);
    lane_read_clock(filling->lane);
    return true;
}

static bool append(struct filling *filling, const struct protocol_values *values, uint64_t key)
{
    static uint8_t value[VALUE_BYTES];
    uint8_t id[PROTOCOL_NAME_BYTES];
    protocol_write_name(values, (uint32_t)key, id);
    protocol_write_step(values, (uint32_t)key, 0, value);
    struct wire_request request = {.method = WIRE_METHOD_APPEND,
                                   .given = UINT64_C(1) << WIRE_FIELD_thread,
                                   .thread = bytes_of(id, sizeof id),
                                   .payload_count = 1,
                                   .payload_bytes = VALUE_BYTES,
                                   .payloads = {bytes_of(value, VALUE_BYTES)}};
    struct thread_append_result result;
    struct wire_error error;
    enum status status = STATUS_AGAIN;
    for (unsigned tries = 0; tries < TRIES_MAX && status == STATUS_AGAIN; tries++) {
        status = thread_append(filling->lane, &request, &result, &error);
        lane_tend(filling->lane);
        lane_offline(filling->lane);
        if (status == STATUS_AGAIN) {
            nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        }
        lane_online(filling->lane);
        lane_read_clock(filling->lane);
    }
    return status == STATUS_OK;
}

/* The child: exits with 1, or dies by its own hand. */
static _Noreturn void fill_and_die(const struct restart *restart, uint64_t count)
{
    struct filling filling = {0};
    if (!open_all(&filling, restart->directory)) {
        _exit(1);
    }
    uint64_t key = restart->next;
    for (; key < restart->next + count; key++) {
        if (key % 1024 == 0) {
            progress_show("restart: filling, %" PRIu64 " of %" PRIu64 " MiB",
                          (key - restart->next) * VALUE_BYTES >> 20, count * VALUE_BYTES >> 20);
        }
        if (!append(&filling, &restart->values, key)) {
            _exit(1);
        }
    }
    store_settle(filling.store);
    for (uint64_t end = key + TAIL_BYTES / VALUE_BYTES; key < end; key++) {
        if (!append(&filling, &restart->values, key)) {
            _exit(1);
        }
    }
    (void)raise(SIGKILL);
    _exit(1);
}

static bool fill(struct restart *restart, uint64_t count)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        fill_and_die(restart, count);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFSIGNALED(status) ||
        WTERMSIG(status) != SIGKILL) {
        fputs("rethread-bench: restart: the directory could not be filled\n", stderr);
        return false;
    }
    restart->filled = restart->filled != 0 ? restart->filled : count;
    restart->next += count + TAIL_BYTES / VALUE_BYTES;
    return true;
}

/* ---- The server ---- */

struct started {
    struct server server;
    FILE *err;
};

static _Noreturn void become(const char *program, const char *directory, const int pipe_fds[2])
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)dup2(pipe_fds[1], STDERR_FILENO);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    execlp(program, program, "--listen", "127.0.0.1:0", "--data", directory, "--memory", "1G",
           "--disk", "64G", "--ttl", "300s", "--log-level", "error", (char *)NULL);
    _exit(127);
}

/* Starts it and reads the line that says where it is ready. */
static bool start(struct started *started, const char *program, const char *directory)
{
    static const char before[] = "ready on ";
    int pipe_fds[2];
    char line[READY_BYTES] = "";
    *started = (struct started){.server.started = true};
    if (pipe(pipe_fds) != 0) {
        return false;
    }
    started->server.pid = fork();
    if (started->server.pid == 0) {
        become(program, directory, pipe_fds);
    }
    close(pipe_fds[1]);
    started->err = fdopen(pipe_fds[0], "r");
    const char *at = NULL;
    while (at == NULL && started->err != NULL && fgets(line, sizeof line, started->err) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        at = strstr(line, before);
    }
    if (at == NULL || !server_parse_address(at + sizeof before - 1, &started->server.address)) {
        fprintf(stderr, "rethread-bench: restart: %s is not ready\n", program);
        return false;
    }
    return true;
}

static void stop(struct started *started)
{
    if (started->server.pid > 0) {
        server_stop(&started->server);
    }
    if (started->err != NULL) {
        fclose(started->err);
    }
}

static int connect_to(const struct started *started)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = PATIENCE_S};
    if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
                    connect(fd, (const struct sockaddr *)&started->server.address,
                            sizeof started->server.address) != 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* The reply says `source: disk`, and the protocol's own check is for memory: the bytes count. */
static bool replay(int fd, const struct protocol_values *values, uint64_t key)
{
    static uint8_t in[VALUE_BYTES + PROTOCOL_SLACK_BYTES];
    uint8_t out[PROTOCOL_SLACK_BYTES];
    const struct protocol_item item = {.op = PROTOCOL_REPLAY, .thread = (uint32_t)key, .steps = 1};
    size_t bytes = protocol_rethread.request(values, &item, 0, out);
    if (write(fd, out, bytes) != (ssize_t)bytes) {
        return false;
    }
    size_t size = 0;
    size_t whole = 0;
    while (whole == 0 || size < whole) {
        ssize_t got = read(fd, in + size, sizeof in - size);
        if (got <= 0) {
            return false;
        }
        size += (size_t)got;
        whole = protocol_rethread.reply_bytes(values, &item, in, size);
        if (whole == PROTOCOL_BROKEN || whole > sizeof in) {
            return false;
        }
    }
    static const char complete[] = "complete";
    return size == whole && whole > VALUE_BYTES &&
           memmem(in, PROTOCOL_SLACK_BYTES, complete, sizeof complete - 1) != NULL &&
           protocol_step_is_right(values, (uint32_t)key, 0, in + whole - VALUE_BYTES);
}

/* ---- Rounds ---- */

static bool measure(struct restart *restart, const char *program, unsigned round)
{
    struct started started;
    progress_show("restart: round %u", round + 1);
    double begun_ms = now_ms();
    bool good = start(&started, program, restart->directory);
    double ready_ms = now_ms() - begun_ms;
    int fd = good ? connect_to(&started) : -1;
    good = fd >= 0 && replay(fd, &restart->values, restart->filled / 2);
    double answer_ms = now_ms() - begun_ms;
    for (uint64_t i = 0; good && i < CHECKS; i++) {
        good = replay(fd, &restart->values, protocol_mix(i + round) % restart->filled);
    }
    if (fd >= 0) {
        close(fd);
        if (!good) {
            fputs("rethread-bench: restart: a replay is not what was put in\n", stderr);
        }
    }
    stop(&started);
    samples_add(&restart->ready_ms, ready_ms);
    samples_add(&restart->answer_ms, answer_ms);
    return good;
}

static void report_both(const struct restart *restart, uint64_t bytes, struct report *report)
{
    struct report_row row = {
        .bench = "restart",
        .params = {{.name = "payload_bytes", .number = bytes},
                   {.name = "step_bytes", .number = VALUE_BYTES},
                   {.name = "tail_bytes", .number = TAIL_BYTES}},
        .unit = "ms",
    };
    snprintf(row.what, sizeof row.what, "start after SIGKILL, %" PRIu64 " MiB on disk",
             bytes >> 20);
    row.metric = "time_to_ready";
    row.ours = summary_of(&restart->ready_ms);
    report_add(report, &row);
    row.metric = "time_to_first_answer";
    row.ours = summary_of(&restart->answer_ms);
    report_add(report, &row);
}

static bool run_all(struct restart *restart, const char *program, struct report *report)
{
    const struct options *options = restart->options;
    uint64_t bytes = options->quick ? FILL_BYTES_QUICK : FILL_BYTES;
    uint64_t count = options->count != 0 ? options->count : bytes / VALUE_BYTES;
    unsigned rounds = options->rounds != 0 ? (unsigned)options->rounds : ROUNDS;
    for (unsigned round = 0; round < rounds; round++) {
        /* From the second on only the tail is new. */
        if (!fill(restart, round == 0 ? count : 1) || !measure(restart, program, round)) {
            return false;
        }
    }
    report_both(restart, count * VALUE_BYTES, report);
    return true;
}

static bool run(const struct options *options, struct report *report)
{
    struct restart restart = {.options = options, .directory = "/tmp/rethread-restart-XXXXXX"};
    char beside[PATH_MAX];
    const char *program = options->program;
    if (program == NULL && sides_find_program(beside)) {
        program = beside;
    }
    uint8_t *pool = malloc(POOL_BYTES + VALUE_BYTES);
    if (program == NULL || pool == NULL || mkdtemp(restart.directory) == NULL) {
        fputs("rethread-bench: restart: no rethread-server, no memory or no room in /tmp\n",
              stderr);
        free(pool);
        return false;
    }
    random_fill(pool, POOL_BYTES + VALUE_BYTES);
    random_fill(&restart.values.series, sizeof restart.values.series);
    restart.values.pool = pool;
    restart.values.pool_bytes = POOL_BYTES;
    restart.values.value_bytes = VALUE_BYTES;
    restart.values.ttl_s = TTL_S;
    bool good = run_all(&restart, program, report);
    progress_clear();
    folder_remove(restart.directory);
    free(pool);
    return good;
}

const struct workload workload_restart = {
    .name = "restart",
    .help = "a killed server on its data directory: time until it answers again",
    .run = run,
};
