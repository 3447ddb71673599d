/* Starts rethread and its peer with the settings they are compared under; see sides.h. */
#include "bench/sides.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SERVER_CORE = 0, GENERATOR_CORE = 1 };

bool sides_find_program(char path[PATH_MAX])
{
    static const char name[] = "rethread-server";
    ssize_t size = readlink("/proc/self/exe", path, PATH_MAX - sizeof name);
    if (size <= 0) {
        return false;
    }
    path[size] = '\0';
    memcpy(strrchr(path, '/') + 1, name, sizeof name);
    return access(path, X_OK) == 0;
}

static bool open_ours(struct side *side, const struct options *options)
{
    side->protocol = &protocol_rethread;
    struct sockaddr_in address;
    if (options->server != NULL) {
        if (!server_parse_address(options->server, &address)) {
            fprintf(stderr, "rethread-bench: --server wants ADDR:PORT\n");
            return false;
        }
        server_attach(&side->server, address, (pid_t)options->server_pid);
        return true;
    }
    char beside[PATH_MAX];
    const char *program = options->program;
    if (program == NULL) {
        if (!sides_find_program(beside)) {
            fprintf(stderr, "rethread-bench: no rethread-server beside this program\n");
            return false;
        }
        program = beside;
    }
    const char *words[] = {program, "--listen",    "@ADDRESS", "--loops", "1",
                           "--ttl", "300s",        "--memory", "4G",      "--data",
                           "none",  "--log-level", "warn",     NULL};
    if (!server_start(&side->server, words, SERVER_CORE)) {
        fprintf(stderr, "rethread-bench: %s\n", side->server.error);
        return false;
    }
    return true;
}

static bool is_installed(const char *name)
{
    static const char *const folders[] = {"/usr/bin", "/usr/local/bin", "/usr/sbin"};
    for (unsigned i = 0; i < sizeof folders / sizeof *folders; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", folders[i], name);
        if (access(path, X_OK) == 0) {
            return true;
        }
    }
    return false;
}

static bool open_redis(struct side *side)
{
    static const char *const words[] = {
        "redis-server", "--port", "@PORT", "--bind", "127.0.0.1",   "--save", "",
        "--appendonly", "no",     "--dir", "/tmp",   "--daemonize", "no",     NULL};
    side->protocol = &protocol_redis;
    if (!server_start(&side->server, words, SERVER_CORE)) {
        fprintf(stderr, "rethread-bench: %s\n", side->server.error);
        return false;
    }
    return true;
}

static bool open_theirs(struct side *side, const struct options *options, struct report *report)
{
    const char *peer = options->peer;
    if (peer != NULL && strcmp(peer, "none") == 0) {
        return true;
    }
    if (peer != NULL && strncmp(peer, "redis:", 6) == 0) {
        struct sockaddr_in address;
        if (!server_parse_address(peer + 6, &address)) {
            fprintf(stderr, "rethread-bench: --peer wants redis:ADDR:PORT\n");
            return false;
        }
        side->protocol = &protocol_redis;
        server_attach(&side->server, address, (pid_t)options->peer_pid);
        return true;
    }
    if (peer != NULL && strcmp(peer, "redis") != 0) {
        fprintf(stderr, "rethread-bench: no peer %s; see --help\n", peer);
        return false;
    }
    if (is_installed("redis-server")) {
        return open_redis(side);
    }
    if (peer != NULL) {
        fprintf(stderr, "rethread-bench: redis-server is not installed\n");
        return false;
    }
    report_note(report, "redis-server is not installed: kv was measured alone "
                        "(apt-get install redis-server).");
    return true;
}

bool sides_open(struct sides *sides, const struct options *options, struct report *report)
{
    *sides = (struct sides){.ours = {.protocol = NULL}};
    if (!open_ours(&sides->ours, options) || !open_theirs(&sides->theirs, options, report)) {
        sides_close(sides);
        return false;
    }
    server_pin_self(GENERATOR_CORE);
    return true;
}

void sides_close(struct sides *sides)
{
    server_stop(&sides->theirs.server);
    server_stop(&sides->ours.server);
    server_unpin_self();
}
