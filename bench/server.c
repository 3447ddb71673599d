/* Starts, attaches to and stops the servers that are measured; see server.h. */
#include "bench/server.h"

#include "bench/precedence.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
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
    START_TRIES = 500,
    START_PAUSE_NS = 10000000,
    PORT_TEXT_BYTES = 32,
    SETTLE_NS = 3000000,
    REST_NS = 50000000,
    REST_SHARE = 50,
    REST_TRIES = 100
};

bool server_parse_address(const char *text, struct sockaddr_in *address)
{
    char host[INET_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    if (colon == NULL || (size_t)(colon - text) >= sizeof host) {
        return false;
    }
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    char *end = NULL;
    long port = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end != '\0' || port < 1 || port > 65535) {
        return false;
    }
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return inet_pton(AF_INET, host, &address->sin_addr) == 1;
}

/* A port of the loopback address that was free a moment ago. */
static bool find_port(struct sockaddr_in *address)
{
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof *address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool found = fd >= 0 && bind(fd, (const struct sockaddr *)address, size) == 0 &&
                 getsockname(fd, (struct sockaddr *)address, &size) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return found;
}

static _Noreturn void become(char *const *words, unsigned core, pid_t parent)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(127);
    }
    int null = open("/dev/null", O_RDWR);
    if (null >= 0) {
        (void)dup2(null, STDIN_FILENO);
        (void)dup2(null, STDOUT_FILENO);
        (void)dup2(null, STDERR_FILENO);
    }
    (void)setsid();
    precedence_keep_to(core);
    precedence_hurry(true);
    execvp(words[0], words);
    _exit(127);
}

static bool has_ended(struct server *server)
{
    if (waitpid(server->pid, NULL, WNOHANG) != server->pid) {
        return false;
    }
    server->pid = 0;
    return true;
}

static bool wait_ready(struct server *server, const char *name)
{
    for (unsigned try = 0; try < START_TRIES; try++) {
        int fd = server_connect(server);
        if (fd >= 0) {
            close(fd);
            return true;
        }
        if (has_ended(server)) {
            snprintf(server->error, sizeof server->error, "%s ended at once", name);
            return false;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = START_PAUSE_NS}, NULL);
    }
    snprintf(server->error, sizeof server->error, "%s takes no connections", name);
    server_stop(server);
    return false;
}

bool server_launch(struct server *server, const char *const *words, unsigned core)
{
    *server = (struct server){.started = true};
    if (!find_port(&server->address)) {
        snprintf(server->error, sizeof server->error, "no free port: %s", strerror(errno));
        return false;
    }
    char port[PORT_TEXT_BYTES];
    char address[PORT_TEXT_BYTES];
    unsigned number = ntohs(server->address.sin_port);
    snprintf(port, sizeof port, "%u", number);
    snprintf(address, sizeof address, "127.0.0.1:%u", number);
    char *copies[SERVER_WORDS_MAX + 1] = {NULL};
    for (unsigned i = 0; words[i] != NULL; i++) {
        assert(i < SERVER_WORDS_MAX);
        const char *word = strcmp(words[i], "@PORT") == 0      ? port
                           : strcmp(words[i], "@ADDRESS") == 0 ? address
                                                               : words[i];
        copies[i] = strdup(word);
    }
    pid_t parent = getpid();
    server->pid = fork();
    if (server->pid == 0) {
        become(copies, core, parent);
    }
    for (unsigned i = 0; i < SERVER_WORDS_MAX; i++) {
        free(copies[i]);
    }
    if (server->pid < 0) {
        server->pid = 0;
        snprintf(server->error, sizeof server->error, "cannot fork: %s", strerror(errno));
        return false;
    }
    return true;
}

bool server_start(struct server *server, const char *const *words, unsigned core)
{
    return server_launch(server, words, core) && wait_ready(server, words[0]);
}

bool server_is_running(struct server *server)
{
    return server->pid > 0 && !has_ended(server);
}

void server_kill(struct server *server)
{
    if (server->started && server->pid > 0) {
        (void)kill(server->pid, SIGKILL);
        (void)waitpid(server->pid, NULL, 0);
        server->pid = 0;
    }
}

void server_attach(struct server *server, struct sockaddr_in address, pid_t pid)
{
    *server = (struct server){.address = address, .pid = pid};
}

void server_stop(struct server *server)
{
    if (!server->started || server->pid <= 0) {
        return;
    }
    (void)kill(server->pid, SIGTERM);
    for (unsigned try = 0; try < START_TRIES; try++) {
        if (has_ended(server)) {
            return;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = START_PAUSE_NS}, NULL);
    }
    (void)kill(server->pid, SIGKILL);
    (void)waitpid(server->pid, NULL, 0);
    server->pid = 0;
}

int server_connect(const struct server *server)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    int one = 1;
    if (connect(fd, (const struct sockaddr *)&server->address, sizeof server->address) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static uint64_t read_cpu_ns(const struct server *server)
{
    clockid_t clock;
    struct timespec used;
    if (server->pid <= 0 || clock_getcpuclockid(server->pid, &clock) != 0 ||
        clock_gettime(clock, &used) != 0) {
        return 0;
    }
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

uint64_t server_cpu_ns(const struct server *server)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = SETTLE_NS}, NULL);
    return read_cpu_ns(server);
}

uint64_t server_settled_cpu_ns(const struct server *server)
{
    uint64_t used_ns = read_cpu_ns(server);
    for (unsigned try = 0; used_ns != 0 && try < REST_TRIES; try++) {
        uint64_t before_ns = used_ns;
        (void)nanosleep(&(struct timespec){.tv_nsec = REST_NS}, NULL);
        used_ns = read_cpu_ns(server);
        if (used_ns - before_ns < REST_NS / REST_SHARE) {
            break;
        }
    }
    return used_ns;
}
