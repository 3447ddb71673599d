/* Starts the servers with the settings they are compared under; see sides.h. */
#include "bench/sides.h"

#include "bench/precedence.h"
#include "base/units.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SERVER_CORE = 0, GENERATOR_CORE = 1, NOTE_BYTES = 128, NUMBER_BYTES = 16, LIST_BYTES = 256 };

struct words {
    unsigned count;
    const char *word[SERVER_WORDS_MAX + 1];
};

/* A peer that can be started, or attached to as NAME:ADDR:PORT. */
struct peer {
    const char *name;
    const char *program;
    unsigned peers; /* of enum sides_peers: any of them asks for it */
    void (*say)(struct words *words, const struct sides_wanted *wanted, const char *loops);
};

static void add(struct words *words, const char *word)
{
    assert(words->count < SERVER_WORDS_MAX);
    words->word[words->count++] = word;
}

static void add_all(struct words *words, const char *const *list)
{
    for (; *list != NULL; list++) {
        add(words, *list);
    }
}

static void say_redis(struct words *words, const struct sides_wanted *wanted, const char *loops)
{
    static const char *const fixed[] = {"--port", "@PORT",       "--bind", "127.0.0.1", "--save",
                                        "",       "--daemonize", "no",     NULL};
    static const char *const durable[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    static const char *const volatile_only[] = {"--appendonly", "no", NULL};
    add_all(words, fixed);
    add_all(words, wanted->peer_data != NULL ? durable : volatile_only);
    add(words, "--dir");
    add(words, wanted->peer_data != NULL ? wanted->peer_data : "/tmp");
    if (wanted->loops > 1) {
        add(words, "--io-threads");
        add(words, loops);
    }
}

/* It counts its memory in MiB. Started by root it wants to be told who to be; as somebody else it
 * would not die with this process, since the kernel forgets that when the user changes. */
static void say_memcached(struct words *words, const struct sides_wanted *wanted, const char *loops)
{
    static char mebibytes[NUMBER_BYTES];
    uint64_t bytes = 0;
    bool given = units_parse_size(wanted->memory != NULL ? wanted->memory : "4G", &bytes);
    assert(given);
    (void)given;
    snprintf(mebibytes, sizeof mebibytes, "%llu", (unsigned long long)(bytes >> 20));
    const char *const list[] = {
        "-p",  "@PORT", "-U",      "0",  "-l",   "127.0.0.1", "-t",
        loops, "-m",    mebibytes, "-c", "1024", "-o",        "hash_algorithm=xxh3",
        "-u",  "root",  NULL};
    add_all(words, list);
}

static const struct peer peers[] = {
    {"redis", "redis-server", SIDES_REDIS | SIDES_REDIS_LISTS, say_redis},
    {"memcached", "memcached", SIDES_MEMCACHED, say_memcached},
};

enum { PEERS = sizeof peers / sizeof *peers };

static const struct protocol *protocol_of(const struct peer *peer, unsigned wanted_peers)
{
    if (peer->peers == SIDES_MEMCACHED) {
        return &protocol_memcached;
    }
    return (wanted_peers & SIDES_REDIS_LISTS) != 0 ? &protocol_redis_lists : &protocol_redis;
}

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

static bool start(struct side *side, const struct words *words, unsigned core)
{
    if (!server_start(&side->server, words->word, core)) {
        fprintf(stderr, "rethread-bench: %s\n", side->server.error);
        return false;
    }
    return true;
}

static bool start_ours(struct side *side, const char *program, const struct sides_wanted *wanted,
                       const char *loops, unsigned core)
{
    char ttl[NUMBER_BYTES];
    snprintf(ttl, sizeof ttl, "%us", wanted->ttl_s != 0 ? wanted->ttl_s : 300u);
    const char *const fixed[] = {program,
                                 "--listen",
                                 "@ADDRESS",
                                 "--log-level",
                                 "warn",
                                 "--loops",
                                 loops,
                                 "--ttl",
                                 ttl,
                                 "--memory",
                                 wanted->memory != NULL ? wanted->memory : "4G",
                                 "--data",
                                 wanted->data != NULL ? wanted->data : "none",
                                 NULL};
    struct words words = {.count = 0};
    add_all(&words, fixed);
    for (unsigned i = 0; i < SIDES_WORDS_MAX && wanted->more[i] != NULL; i++) {
        add(&words, wanted->more[i]);
    }
    return start(side, &words, core);
}

static bool open_ours(struct side *side, const struct options *options,
                      const struct sides_wanted *wanted, const char *loops, unsigned core)
{
    side->name = "rethread";
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
    return start_ours(side, program, wanted, loops, core);
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

/* `asked`: by name, so that its absence is an error. */
static bool start_peer(struct sides *sides, const struct peer *peer, bool asked,
                       struct report *report, const struct sides_wanted *wanted, const char *loops)
{
    if (!is_installed(peer->program)) {
        char note[NOTE_BYTES];
        snprintf(note, sizeof note, "%s is not installed: measured without it.", peer->program);
        if (asked) {
            fprintf(stderr, "rethread-bench: %s is not installed\n", peer->program);
            return false;
        }
        report_note(report, note);
        return true;
    }
    struct side *side = &sides->side[sides->count++];
    *side = (struct side){.name = peer->name, .protocol = protocol_of(peer, wanted->peers)};
    struct words words = {.count = 0};
    add(&words, peer->program);
    peer->say(&words, wanted, loops);
    return start(side, &words, sides->core);
}

static bool attach_peer(struct sides *sides, const struct peer *peer, const char *text, pid_t pid,
                        const struct sides_wanted *wanted)
{
    struct sockaddr_in address;
    if (!server_parse_address(text, &address)) {
        fprintf(stderr, "rethread-bench: --peer wants %s:ADDR:PORT\n", peer->name);
        return false;
    }
    struct side *side = &sides->side[sides->count++];
    *side = (struct side){.name = peer->name, .protocol = protocol_of(peer, wanted->peers)};
    server_attach(&side->server, address, pid);
    return true;
}

/* One word of --peer: NAME, or NAME:ADDR:PORT. */
static bool open_named(struct sides *sides, const char *word, pid_t pid, struct report *report,
                       const struct sides_wanted *wanted, const char *loops)
{
    for (unsigned i = 0; i < PEERS; i++) {
        size_t length = strlen(peers[i].name);
        if (strncmp(word, peers[i].name, length) != 0 ||
            (word[length] != '\0' && word[length] != ':')) {
            continue;
        }
        if ((wanted->peers & peers[i].peers) == 0) {
            return true;
        }
        return word[length] == '\0' ? start_peer(sides, &peers[i], true, report, wanted, loops)
                                    : attach_peer(sides, &peers[i], word + length + 1, pid, wanted);
    }
    fprintf(stderr, "rethread-bench: no peer %s; see --help\n", word);
    return false;
}

static bool open_list(struct sides *sides, const struct options *options, struct report *report,
                      const struct sides_wanted *wanted, const char *loops)
{
    char list[LIST_BYTES];
    char pids[LIST_BYTES];
    int sizes[] = {
        snprintf(list, sizeof list, "%s", options->peer),
        snprintf(pids, sizeof pids, "%s", options->peer_pid != NULL ? options->peer_pid : "")};
    if (sizes[0] >= LIST_BYTES || sizes[1] >= LIST_BYTES) {
        fprintf(stderr, "rethread-bench: --peer is too long\n");
        return false;
    }
    char *next = list;
    char *next_pid = pids;
    char *word;
    while ((word = strsep(&next, ",")) != NULL) {
        const char *pid = strsep(&next_pid, ",");
        if (sides->count == SIDES_MAX) {
            fprintf(stderr, "rethread-bench: --peer has too many\n");
            return false;
        }
        if (!open_named(sides, word, pid != NULL ? (pid_t)strtol(pid, NULL, 10) : 0, report, wanted,
                        loops)) {
            return false;
        }
    }
    return true;
}

static bool open_peers(struct sides *sides, const struct options *options, struct report *report,
                       const struct sides_wanted *wanted, const char *loops)
{
    if (options->peer != NULL) {
        return strcmp(options->peer, "none") == 0 ||
               open_list(sides, options, report, wanted, loops);
    }
    for (unsigned i = 0; i < PEERS; i++) {
        if ((wanted->peers & peers[i].peers) != 0 &&
            !start_peer(sides, &peers[i], false, report, wanted, loops)) {
            return false;
        }
    }
    return true;
}

bool sides_open(struct sides *sides, const struct options *options, struct report *report,
                const struct sides_wanted *wanted)
{
    *sides = (struct sides){.count = 1};
    struct sides_wanted settled = *wanted;
    if (settled.loops == 0) {
        settled.loops = options->loops != 0 ? (unsigned)options->loops : 1;
    }
    sides->core = settled.loops > 1 ? PRECEDENCE_ANY_CORE : SERVER_CORE;
    char loops[NUMBER_BYTES];
    snprintf(loops, sizeof loops, "%u", settled.loops);
    if (!open_ours(&sides->side[0], options, &settled, loops, sides->core) ||
        !open_peers(sides, options, report, &settled, loops)) {
        sides_close(sides);
        return false;
    }
    precedence_keep_to(settled.loops > 1 ? PRECEDENCE_ANY_CORE : GENERATOR_CORE);
    precedence_hurry(true);
    return true;
}

void sides_close(struct sides *sides)
{
    while (sides->count > 0) {
        server_stop(&sides->side[--sides->count].server);
    }
    precedence_hurry(false);
    precedence_keep_to(PRECEDENCE_ANY_CORE);
}
