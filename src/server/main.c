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
#include "store/store.h"
#include "thread/threads.h"
#include "wire/profile.h"

#include <assert.h>
#include <ctype.h>
#include <pthread.h>
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
    FDS_OF_PROCESS = 64, /* listeners, standard streams, data files, room to spare */
    BUFFERS_SHARE = 8,   /* of the memory budget, for unfinished requests and unsent replies */
    LAG_SHARE = 4,       /* likewise, the most that waits for the disk, and the next */
    LAG_BYTES_MAX = 64 * 1024 * 1024,
    STORE_POOL = 4, /* operating-system threads that load: they wait for the disk, not for a core */
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
    const struct profiles *profiles; /* main's; NULL: the built-in ones */
    unsigned loops;
    uint64_t started_ms;
    uint64_t recovery_ms; /* until it served; 0 without a store */
    struct store *store;  /* NULL: memory only */
    struct threads *threads;
    struct dispatch *dispatches[NET_LOOPS_MAX];
    struct net_handler handlers[NET_LOOPS_MAX];
    unsigned dispatch_count;
    struct net *net;
    /* The store's operating-system threads wake loops from before there are any until after. */
    pthread_mutex_t wake_lock;
    struct net *wake_net; /* under the lock; NULL: nobody to wake */
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
    values[METRIC_DISK_RECOVERY_MS] = server->recovery_ms;
}

/* From any operating-system thread of the store. */
static void wake(void *context, unsigned share)
{
    struct server *server = context;
    pthread_mutex_lock(&server->wake_lock);
    if (server->wake_net) {
        net_wake(server->wake_net, share);
    }
    pthread_mutex_unlock(&server->wake_lock);
}

static void set_wake(struct server *server, struct net *net)
{
    pthread_mutex_lock(&server->wake_lock);
    server->wake_net = net;
    pthread_mutex_unlock(&server->wake_lock);
}

static bool setup_store(struct server *server)
{
    const struct settings *mine = &server->settings;
    if (mine->data.directory[0] == '\0') {
        return true;
    }
    uint64_t lag_bytes = mine->memory_bytes / LAG_SHARE;
    struct store_refusal refusal;
    struct store_settings settings = {
        .directory = mine->data.directory,
        .disk_bytes = mine->disk_bytes,
        .max_age_ms = mine->max_age_ms,
        .lag_max_bytes = lag_bytes < LAG_BYTES_MAX ? lag_bytes : LAG_BYTES_MAX,
        .tombstones = (uint32_t)mine->tombstones,
        .pool = STORE_POOL,
        .compression = mine->compression,
        .wall = clock_wall(),
    };
    server->store = store_open(&settings, &refusal);
    if (!server->store) {
        fprintf(stderr, "rethread-server: %s\n", refusal.text);
    }
    return server->store != NULL;
}

static bool setup_threads(struct server *server)
{
    struct threads_settings settings = {
        .memory_bytes = server->settings.memory_bytes,
        .ttl_ms = server->settings.ttl_ms,
        .max_age_ms = server->settings.max_age_ms,
        .frame_max_bytes = server->settings.frame_max_bytes,
        .profiles = server->profiles,
        .claim_timeout_ms = server->settings.claim_timeout_ms,
        .tombstones = (uint32_t)server->settings.tombstones,
        .lanes_max = server->loops,
        .clock = clock_monotonic(),
    };
    if (server->store) {
        settings.retention_ms = server->settings.retention_ms;
        settings.tier = store_tier(server->store);
        settings.wall = clock_wall();
        settings.hash_secret = store_secret(server->store);
        settings.wake = wake;
        settings.wake_context = server;
    }
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
            .has_disk = server->store != NULL,
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
        .drain_ms = server->settings.drain_timeout_ms,
        .clock = clock_monotonic(),
        .catch_signals = true,
    };
    server->net = net_create(&settings, server->handlers);
    set_wake(server, server->net);
    return server->net != NULL;
}

/* The last step: loops read what `info` shows from here on. */
static bool start(struct server *server)
{
    if (server->store) {
        server->recovery_ms = clock_read_ms(clock_monotonic()) - server->started_ms;
    }
    return net_start(server->net);
}

static bool setup(struct server *server)
{
    server->loops = (unsigned)server->settings.loops;
    if (server->loops == 0) {
        server->loops = count_cores();
    }
    fit_descriptors(server);
    warn_of_open_doors(&server->settings.listen);
    if (!setup_store(server)) {
        return false;
    }
    if (!setup_threads(server) || !setup_dispatches(server)) {
        log_write(LOG_ERROR, "no_memory", LOG_U64("memory_bytes", server->settings.memory_bytes),
                  LOG_END);
        return false;
    }
    return setup_net(server) && start(server);
}

static void teardown(struct server *server)
{
    set_wake(server, NULL);
    if (server->net) {
        net_destroy(server->net);
    }
    while (server->dispatch_count > 0) {
        if (!dispatch_destroy(server->dispatches[--server->dispatch_count])) {
            /* The disk hangs and holds on to memory that is about to go: leave all to the kernel.
             */
            log_write(LOG_ERROR, "disk_did_not_answer", LOG_END);
            _exit(EXIT_FAILURE);
        }
    }
    if (server->threads) {
        threads_destroy(server->threads);
    }
    if (server->store) {
        store_close(server->store);
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

static void log_started(const struct server *server)
{
    const struct settings *settings = &server->settings;
    log_write(LOG_INFO, "started", LOG_TEXT("version", VERSION_TEXT),
              LOG_U64("loops", server->loops), LOG_U64("memory_bytes", settings->memory_bytes),
              LOG_U64("ttl_ms", settings->ttl_ms),
              LOG_TEXT("data", server->store ? settings->data.directory : "none"),
              LOG_U64("retention_ms", server->store ? settings->retention_ms : 0),
              LOG_U64("recovery_ms", server->recovery_ms),
              LOG_U64("frame_max_bytes", settings->frame_max_bytes),
              LOG_U64("max_connections", settings->connections_max), LOG_END);
}

static int serve(const struct settings *settings, const struct profiles *profiles,
                 uint64_t started_ms)
{
    struct server *server = calloc(1, sizeof *server);
    if (!server) {
        return EXIT_FAILURE;
    }
    int status = EXIT_FAILURE;
    server->settings = *settings;
    server->profiles = profiles;
    server->started_ms = started_ms;
    pthread_mutex_init(&server->wake_lock, NULL);
    log_open(STDERR_FILENO, settings->log_level);
    if (setup(server)) {
        log_started(server);
        log_listening(server);
        say_ready(server);
        net_run(server->net);
        block_signals();
        status = EXIT_SUCCESS;
    }
    teardown(server);
    if (status == EXIT_SUCCESS) {
        log_write(LOG_INFO, "stopped", LOG_END);
    }
    pthread_mutex_destroy(&server->wake_lock);
    free(server);
    return status;
}

/* False: refused, and said why. *profiles stays NULL when there is no file of them. */
static bool load_profiles(const struct settings *settings, struct profiles **profiles)
{
    const char *path = settings->profiles_file.path;
    char error[PROFILE_ERROR_BYTES];
    if (path[0] == '\0' || profiles_load(path, profiles, error) == STATUS_OK) {
        return true;
    }
    fputs("rethread-server: profiles: \"", stderr);
    for (const char *c = path; *c != '\0'; c++) {
        fputc(iscntrl((unsigned char)*c) ? '?' : *c, stderr);
    }
    fprintf(stderr, "\": %s\n", error);
    return false;
}

int main(int argc, char **argv)
{
    struct settings settings;
    struct settings_refusal refusal;
    struct profiles *profiles = NULL;
    uint64_t started_ms = clock_read_ms(clock_monotonic());
    hide_memory();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a write beyond the limit of a file's size fails, and that is all */
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
        if (!load_profiles(&settings, &profiles)) {
            return EXIT_REFUSED;
        }
        profiles_free(profiles);
        settings_print(stdout, &settings);
        return EXIT_SUCCESS;
    case SETTINGS_REFUSED:
        fprintf(stderr, "rethread-server: %s\n", refusal.text);
        return EXIT_REFUSED;
    case SETTINGS_RUN:
        break;
    }
    if (!load_profiles(&settings, &profiles)) {
        return EXIT_REFUSED;
    }
    int status = serve(&settings, profiles, started_ms);
    profiles_free(profiles);
    return status;
}
