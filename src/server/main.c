/*
 * The server's composition root: puts the rooms together, runs them, takes them apart again.
 *
 * Exit status: 0 after a drain, 1 when something could not be had, 2 when settings are refused.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/version.h"
#include "net/net.h"
#include "server/describe.h"
#include "server/dispatch.h"
#include "server/settings.h"
#include "thread/threads.h"

#include <assert.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    EXIT_REFUSED = 2,
    FDS_OF_LOOP = 8,     /* inbox, epoll and its like */
    FDS_OF_PROCESS = 64, /* listeners, standard streams, room to spare */
    BUFFERS_SHARE = 8,   /* of the memory budget, for unfinished requests and unsent replies */
};

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TRACED_AT_EXIT 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define TRACED_AT_EXIT 1
#endif

struct server {
    struct settings settings;
    unsigned loops;
    uint64_t started_ms;
    struct threads *threads;
    struct dispatch *dispatches[NET_LOOPS_MAX];
    struct net_handler handlers[NET_LOOPS_MAX];
    unsigned dispatch_count;
    struct net *net;
};

/* ---- The process -------------------------------------------------------------------------- */

/* Hidden stays hidden: no core file, no debugger of the same user. */
static void hide_memory(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
#ifndef TRACED_AT_EXIT /* the leak check at exit attaches to the process like a debugger */
    prctl(PR_SET_DUMPABLE, 0);
#endif
}

/* Raises the limit of descriptors to what the settings need, or lowers what they allow. */
static void fit_descriptors(struct server *server)
{
    struct rlimit limit;
    uint64_t fixed = FDS_OF_PROCESS + (uint64_t)server->loops * FDS_OF_LOOP;
    uint64_t *connections_max = &server->settings.connections_max;
    uint64_t need = *connections_max + fixed;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= need) {
        return;
    }
    limit.rlim_cur = limit.rlim_max < need ? limit.rlim_max : need;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= need) {
        return;
    }
    getrlimit(RLIMIT_NOFILE, &limit);
    uint64_t possible = limit.rlim_cur > fixed ? limit.rlim_cur - fixed : 1;
    log_write(LOG_WARN, "max_connections_lowered", LOG_U64("wanted", *connections_max),
              LOG_U64("connections", possible), LOG_U64("descriptors_max", limit.rlim_cur),
              LOG_END);
    *connections_max = possible;
}

static unsigned count_cores(void)
{
    cpu_set_t cores;
    int count = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
    return count < 1 ? 1 : count > NET_LOOPS_MAX ? NET_LOOPS_MAX : (unsigned)count;
}

static void warn_of_open_doors(const struct settings_addresses *listen)
{
    for (unsigned i = 0; i < listen->count; i++) {
        char text[NET_ADDRESS_TEXT_BYTES];
        if (!net_address_is_local(&listen->list[i])) {
            log_write(LOG_WARN, "listening_without_authentication",
                      LOG_TEXT("address", net_address_format(&listen->list[i], text)), LOG_END);
        }
    }
}

/* ---- The rooms ---------------------------------------------------------------------------- */

/* What `info` shows of the server itself; from any loop. */
static void fill_gauges(void *context, uint64_t values[METRIC_COUNT])
{
    const struct server *server = context;
    values[METRIC_UPTIME_MS] = clock_read_ms(clock_monotonic()) - server->started_ms;
    values[METRIC_LOOPS] = server->loops;
    values[METRIC_CONNECTIONS] = net_connections(server->net);
    values[METRIC_BUFFER_BYTES] = net_buffer_bytes(server->net);
}

static bool setup_threads(struct server *server)
{
    struct threads_settings settings = {
        .memory_bytes = server->settings.memory_bytes,
        .ttl_ms = server->settings.ttl_ms,
        .frame_max_bytes = server->settings.frame_max_bytes,
        .tombstones = (uint32_t)server->settings.tombstones,
        .lanes_max = server->loops,
        .clock = clock_monotonic(),
    };
    server->threads = threads_create(&settings);
    return server->threads != NULL;
}

static bool setup_dispatches(struct server *server)
{
    for (; server->dispatch_count < server->loops; server->dispatch_count++) {
        struct dispatch_settings settings = {
            .threads = server->threads,
            .share = server->dispatch_count,
            .shares = server->loops,
            .frame_max_bytes = server->settings.frame_max_bytes,
            .gauges = fill_gauges,
            .gauges_context = server,
        };
        struct dispatch *dispatch = dispatch_create(&settings);
        if (!dispatch) {
            return false;
        }
        server->dispatches[server->dispatch_count] = dispatch;
        server->handlers[server->dispatch_count] = dispatch_handler(dispatch);
    }
    return true;
}

static bool setup_net(struct server *server)
{
    struct net_settings settings = {
        .listen = server->settings.listen.list,
        .listen_count = server->settings.listen.count,
        .unix_path = server->settings.unix_path.text,
        .loops = server->loops,
        .frame_max_bytes = server->settings.frame_max_bytes,
        .buffers_max_bytes = server->settings.memory_bytes / BUFFERS_SHARE,
        .connections_max = server->settings.connections_max,
        .idle_timeout_ms = server->settings.idle_timeout_ms,
        .clock = clock_monotonic(),
        .catch_signals = true,
    };
    server->net = net_create(&settings, server->handlers);
    return server->net != NULL;
}

static bool setup(struct server *server)
{
    server->started_ms = clock_read_ms(clock_monotonic());
    server->loops = (unsigned)server->settings.loops;
    if (server->loops == 0) {
        server->loops = count_cores();
    }
    fit_descriptors(server);
    warn_of_open_doors(&server->settings.listen);
    if (!setup_threads(server) || !setup_dispatches(server)) {
        log_write(LOG_ERROR, "no_memory", LOG_U64("memory_bytes", server->settings.memory_bytes),
                  LOG_END);
        return false;
    }
    return setup_net(server) && net_start(server->net);
}

static void teardown(struct server *server)
{
    if (server->net) {
        net_destroy(server->net);
    }
    while (server->dispatch_count > 0) {
        dispatch_destroy(server->dispatches[--server->dispatch_count]);
    }
    if (server->threads) {
        threads_destroy(server->threads);
    }
}

static void log_listening(const struct server *server)
{
    struct net_address address;
    for (unsigned i = 0; net_listening(server->net, i, &address); i++) {
        char text[NET_ADDRESS_TEXT_BYTES];
        log_write(LOG_INFO, "listening", LOG_TEXT("address", net_address_format(&address, text)),
                  LOG_END);
    }
}

/* The one line that scripts wait for; it names the first address. */
static void say_ready(const struct server *server)
{
    char text[NET_ADDRESS_TEXT_BYTES];
    char line[NET_ADDRESS_TEXT_BYTES + 64];
    struct net_address address;
    bool listening = net_listening(server->net, 0, &address);
    assert(listening);
    (void)listening;
    int size = snprintf(line, sizeof line, "rethread-server: ready on %s\n",
                        net_address_format(&address, text));
    ssize_t written = write(STDERR_FILENO, line, (size_t)size);
    (void)written; /* a closed stderr is no reason not to serve */
}

/* The drain is over: a signal more would only break off the taking apart. */
static void block_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
}

static int serve(const struct settings *settings)
{
    struct server *server = calloc(1, sizeof *server);
    if (!server) {
        return EXIT_FAILURE;
    }
    int status = EXIT_FAILURE;
    server->settings = *settings;
    log_open(STDERR_FILENO, settings->log_level);
    if (setup(server)) {
        log_write(LOG_INFO, "started", LOG_TEXT("version", VERSION_TEXT),
                  LOG_U64("loops", server->loops),
                  LOG_U64("memory_bytes", server->settings.memory_bytes),
                  LOG_U64("ttl_ms", server->settings.ttl_ms),
                  LOG_U64("frame_max_bytes", server->settings.frame_max_bytes),
                  LOG_U64("max_connections", server->settings.connections_max), LOG_END);
        log_listening(server);
        say_ready(server);
        net_run(server->net);
        block_signals();
        log_write(LOG_INFO, "stopped", LOG_END);
        status = EXIT_SUCCESS;
    }
    teardown(server);
    free(server);
    return status;
}

int main(int argc, char **argv)
{
    struct settings settings;
    struct settings_refusal refusal;
    hide_memory();
    signal(SIGPIPE, SIG_IGN);
    switch (settings_load(&settings, argc, argv, environ, &refusal)) {
    case SETTINGS_HELP:
        settings_print_help(stdout);
        return EXIT_SUCCESS;
    case SETTINGS_VERSION:
        puts("rethread-server " VERSION_TEXT);
        return EXIT_SUCCESS;
    case SETTINGS_DESCRIBE:
        describe_print(stdout);
        return EXIT_SUCCESS;
    case SETTINGS_CHECK:
        settings_print(stdout, &settings);
        return EXIT_SUCCESS;
    case SETTINGS_REFUSED:
        fprintf(stderr, "rethread-server: %s\n", refusal.text);
        return EXIT_REFUSED;
    case SETTINGS_RUN:
        break;
    }
    return serve(&settings);
}
