/*
 * The servers that are measured: started here, one core each, or attached to.
 *
 * A server that was started dies with this process. Its CPU clock counts all of its
 * operating-system threads, in user and kernel mode.
 */
#ifndef RETHREAD_BENCH_SERVER_H
#define RETHREAD_BENCH_SERVER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { SERVER_WORDS_MAX = 24, SERVER_ERROR_BYTES = 160 };

struct server {
    struct sockaddr_in address;
    pid_t pid; /* 0: attached, and nobody said which process it is */
    bool started;
    char error[SERVER_ERROR_BYTES];
};

/* IPv4 address and port, both numeric. */
bool server_parse_address(const char *text, struct sockaddr_in *address);

/*
 * Starts `words` (a NULL at the end) on `core`, with the word "@PORT" replaced by a free port and
 * "@ADDRESS" by 127.0.0.1 and that port, and waits until it takes connections. Standard output and
 * error are thrown away. False, with `error` set, when it does not come up.
 */
bool server_start(struct server *server, const char *const *words, unsigned core);

/* Likewise, without waiting: it does not take connections yet. */
bool server_launch(struct server *server, const char *const *words, unsigned core);
bool server_is_running(struct server *server); /* of a started one */

/* `pid` 0: unknown, then CPU time is not measured. */
void server_attach(struct server *server, struct sockaddr_in address, pid_t pid);

/* Asks a started server to end and waits for it; an attached one is left alone. */
void server_stop(struct server *server);
void server_kill(struct server *server); /* a started one, at once */

/* Connected, non-blocking, without delay; -1 with errno set. */
int server_connect(const struct server *server);

/*
 * CPU time that the process has used so far; 0 when it is not known. Waits some milliseconds first:
 * only when the server has gone to sleep does its clock hold all of it.
 */
uint64_t server_cpu_ns(const struct server *server);
/* Likewise, when it does nothing any more, at the latest after some seconds. */
uint64_t server_settled_cpu_ns(const struct server *server);

#endif
