/*
 * Whole runs of every protocol: against rethread, and against servers that are installed, so that
 * what is right is what they say. Threads of one step and of many, keyed and not.
 */
#include "bench/load.h"
#include "bench/protocol.h"
#include "bench/server.h"

#include "tests/lib/suite.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { POOL = 4096, THREADS = 40, STEPS = 30, STEP_BYTES_MAX = 200000 };

/* Every size of header, bare steps, and steps that come in many pieces. */
static uint32_t run_size(const void *shape, uint32_t thread, uint32_t step)
{
    static const uint32_t sizes[] = {8, 0, 127, 128, 255, 256, 4095, 4096, 65535, 65536, 200000};
    (void)shape;
    return sizes[(thread + step) % (step < STEPS / 2 ? 8 : 11)];
}

/* Of each thread: append and replay in turns, then forget. */
struct turns {
    uint32_t thread;
    uint32_t steps; /* each will have */
    uint32_t at[THREADS];
};

static bool next_of_turns(void *context, unsigned connection, struct protocol_item *item)
{
    struct turns *turns = context;
    uint32_t *at = &turns->at[connection];
    if (*at == 2 * turns->steps + 1) {
        return false;
    }
    uint32_t steps = *at / 2 + 1;
    *item = (struct protocol_item){.op = *at % 2 == 0 ? PROTOCOL_APPEND : PROTOCOL_REPLAY,
                                   .thread = turns->thread + connection,
                                   .step = *at % 2 == 0 ? steps - 1 : 0,
                                   .steps = *at % 2 == 0 ? 0 : steps};
    if (*at == 2 * turns->steps) {
        *item = (struct protocol_item){
            .op = PROTOCOL_FORGET, .thread = turns->thread + connection, .steps = turns->steps};
    }
    ++*at;
    return true;
}

/* The error, empty when there was none. */
static const char *play(const struct protocol *protocol, const struct server *server,
                        const struct protocol_values *of, uint32_t first, uint32_t steps,
                        unsigned in_flight)
{
    static struct load_result result;
    const struct load_shape shape = {.connections = THREADS,
                                     .in_flight = in_flight,
                                     .request_bytes_max = STEP_BYTES_MAX,
                                     .reply_bytes_max = (size_t)STEP_BYTES_MAX * steps,
                                     .steps_max = steps};
    struct turns turns = {.thread = first, .steps = steps};
    const struct load_job job = {.values = of, .next = next_of_turns, .context = &turns};
    struct load *load = load_open(protocol, server, &shape, result.error);
    if (load == NULL) {
        return result.error;
    }
    bool good = load_run(load, &job, &result);
    load_close(load);
    ck_assert(good == (result.error[0] == '\0'));
    ck_assert(!good || result.count == (uint64_t)THREADS * (2 * steps + 1));
    return result.error;
}

static struct protocol_values run_values(void)
{
    static uint8_t large[POOL + STEP_BYTES_MAX];
    for (size_t i = 0; i < sizeof large; i++) {
        large[i] = (uint8_t)protocol_mix(i + 1);
    }
    return (struct protocol_values){
        .pool = large, .pool_bytes = POOL, .series = 1, .ttl_s = 300, .size_of = run_size};
}

static bool start(struct server *server, const char *const *words)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "/usr/bin/%s", words[0]);
    if (strchr(words[0], '/') == NULL && access(path, X_OK) != 0) {
        return false; /* not installed */
    }
    ck_assert_msg(server_start(server, words, 0), "%s", server->error);
    return true;
}

static void play_one_step(const struct protocol *protocol, const struct server *server)
{
    static const uint32_t sizes[] = {8, 127, 1024, 65535, 65536, 200000};
    struct protocol_values of = run_values();
    of.size_of = NULL;
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        of.value_bytes = sizes[i];
        of.series++;
        ck_assert_str_eq(play(protocol, server, &of, 0, 1, 1 + i), "");
    }
}

static void play_steps(const struct protocol *protocol, const struct server *server)
{
    struct protocol_values of = run_values();
    ck_assert_str_eq(play(protocol, server, &of, 0, STEPS, 1), "");
    of.series++;
    of.keyed = true;
    ck_assert_str_eq(play(protocol, server, &of, 0, STEPS, 1), "");
    ck_assert_str_eq(play(protocol, server, &of, THREADS, STEPS, 3), "");
}

/* A name that is no list: the server's own words are in the error. */
static void check_wrong_type(const struct server *server, const struct protocol_values *of)
{
    const struct load_shape shape = {
        .connections = 1, .in_flight = 1, .request_bytes_max = STEP_BYTES_MAX, .steps_max = 1};
    struct load_each each = {.op = PROTOCOL_APPEND, .end = 1};
    const struct load_job job = {.values = of, .next = load_each, .context = &each};
    struct load_result result;
    struct load *load = load_open(&protocol_redis, server, &shape, result.error);
    ck_assert(load != NULL && load_run(load, &job, &result));
    load_close(load);
    const char *error = play(&protocol_redis_lists, server, of, 0, STEPS, 1);
    ck_assert_msg(strstr(error, "-WRONGTYPE Operation") != NULL, "%s", error);
}

START_TEST(test_redis_runs)
{
    static const char *const words[] = {"redis-server", "--port", "@PORT", "--bind", "127.0.0.1",
                                        "--save",       "",       "--dir", "/tmp",   NULL};
    struct server server;
    if (!start(&server, words)) {
        return;
    }
    play_one_step(&protocol_redis, &server);
    play_steps(&protocol_redis_lists, &server);
    struct protocol_values of = run_values();
    of.series = 77;
    check_wrong_type(&server, &of);
    of.series++;
    of.keyed = true;
    check_wrong_type(&server, &of);
    server_stop(&server);
}
END_TEST

START_TEST(test_memcached_runs)
{
    const char *const words[] = {"memcached", "-p", "@PORT", "-U", "0",  "-l",     "127.0.0.1",
                                 "-t",        "1",  "-m",    "64", "-u", "nobody", NULL};
    struct server server;
    if (start(&server, words)) {
        play_one_step(&protocol_memcached, &server);
        server_stop(&server);
    }
}
END_TEST

/* build/rethread-server, where this is build/tests/bench/test_protocol_runs and it has been made.
 */
START_TEST(test_rethread_runs)
{
    char path[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
    ck_assert_int_gt(size, 0);
    path[size] = '\0';
    for (unsigned i = 0; i < 3; i++) {
        *strrchr(path, '/') = '\0';
    }
    strncat(path, "/rethread-server", sizeof path - strlen(path) - 1);
    if (access(path, X_OK) != 0) {
        return;
    }
    const char *const words[] = {path,     "--listen", "@ADDRESS", "--ttl", "300s",
                                 "--data", "none",     "--memory", "1G",    NULL};
    struct server server;
    ck_assert(start(&server, words));
    play_one_step(&protocol_rethread, &server);
    play_steps(&protocol_rethread, &server);
    server_stop(&server);
}
END_TEST

int main(void)
{
    return SUITE_RUN("protocol_runs", NULL, NULL, 240, test_redis_runs, test_memcached_runs,
                     test_rethread_runs);
}
