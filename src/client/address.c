/* Addresses to connected sockets. */
#include "client/address.h"

#include "base/clock.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    BACKLOG_RETRY_MS = 10,
};

static const char UNIX_PREFIX[] = "unix:";

static bool parse_port(const char *text, char port[6])
{
    size_t size = strspn(text, "0123456789");
    unsigned number = 0;
    if (size == 0 || size > 5 || text[size] != '\0')
        return false;
    for (size_t i = 0; i < size; i++)
        number = number * 10 + (unsigned)(text[i] - '0');
    memcpy(port, text, size + 1);
    return number >= 1 && number <= UINT16_MAX;
}

bool client_address_parse(const char *text, struct client_address *address)
{
    *address = (struct client_address){.path = NULL};
    if (strncmp(text, UNIX_PREFIX, sizeof UNIX_PREFIX - 1) == 0) {
        address->is_unix = true;
        address->path = text + sizeof UNIX_PREFIX - 1;
        size_t size = strlen(address->path);
        return size > 0 && size < sizeof(((struct sockaddr_un *)NULL)->sun_path);
    }
    const char *host = text;
    const char *host_end = strrchr(text, ':');
    if (host_end == NULL || !parse_port(host_end + 1, address->port))
        return false;
    address->is_numeric = text[0] == '[';
    if (address->is_numeric) {
        host++;
        host_end--;
        if (host_end <= host || *host_end != ']')
            return false;
    } else if (memchr(host, ':', (size_t)(host_end - host)) != NULL) {
        return false; /* an IPv6 address without brackets: which colon is the port's? */
    }
    size_t size = (size_t)(host_end - host);
    if (size == 0 || size > CLIENT_HOST_BYTES_MAX)
        return false;
    memcpy(address->host, host, size);
    return true;
}

void client_address_no_delay(int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

int client_address_left_ms(uint64_t deadline_ms)
{
    if (deadline_ms == UINT64_MAX)
        return -1;
    uint64_t now_ms = clock_read_ms(clock_monotonic());
    if (now_ms >= deadline_ms)
        return 0;
    return deadline_ms - now_ms < INT_MAX ? (int)(deadline_ms - now_ms) : INT_MAX;
}

/* Waits for the outcome of a connect that is under way: 0 or an errno value. */
static int await_connect(int fd, uint64_t deadline_ms)
{
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    int count;
    do
        count = poll(&ready, 1, client_address_left_ms(deadline_ms));
    while (count < 0 && errno == EINTR);
    if (count < 0)
        return errno;
    if (count == 0)
        return ETIMEDOUT;
    int error = 0;
    socklen_t size = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

/* Connects to one address: 0 or an errno value. */
static int connect_one(int family, const struct sockaddr *to, socklen_t size, uint64_t deadline_ms,
                       int *fd)
{
    int made = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (made < 0)
        return errno;
    int error;
    for (;;) {
        error = connect(made, to, size) == 0 ? 0 : errno;
        if (error == EINPROGRESS || error == EINTR)
            error = await_connect(made, deadline_ms);
        /* Unix sockets say so when the backlog is full, and offer nothing to wait for. */
        if (error != EAGAIN || family != AF_UNIX)
            break;
        int left_ms = client_address_left_ms(deadline_ms);
        if (left_ms == 0) {
            error = ETIMEDOUT;
            break;
        }
        (void)poll(NULL, 0, left_ms < 0 || left_ms > BACKLOG_RETRY_MS ? BACKLOG_RETRY_MS : left_ms);
    }
    if (error != 0)
        (void)close(made);
    else
        *fd = made;
    return error;
}

static enum rethread_status connect_unix(const char *path, uint64_t deadline_ms, int *fd)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path, path, strlen(path) + 1);
    int error = connect_one(AF_UNIX, (const struct sockaddr *)&to, sizeof to, deadline_ms, fd);
    errno = error;
    if (error == 0)
        return RETHREAD_OK;
    return client_address_left_ms(deadline_ms) == 0 ? RETHREAD_TIMEOUT : RETHREAD_UNREACHABLE;
}

/* A fair share of the time for the next of several addresses: the first may not answer at all. */
static uint64_t share(uint64_t deadline_ms, unsigned addresses_left)
{
    if (deadline_ms == UINT64_MAX || addresses_left <= 1)
        return deadline_ms;
    uint64_t left_ms = (uint64_t)client_address_left_ms(deadline_ms);
    return deadline_ms - left_ms + left_ms / addresses_left;
}

static enum rethread_status connect_list(const struct addrinfo *list, uint64_t deadline_ms, int *fd)
{
    unsigned left = 0;
    int error = EADDRNOTAVAIL;
    for (const struct addrinfo *at = list; at != NULL; at = at->ai_next)
        left++;
    for (const struct addrinfo *at = list; at != NULL && error != 0; at = at->ai_next, left--)
        error =
            connect_one(at->ai_family, at->ai_addr, at->ai_addrlen, share(deadline_ms, left), fd);
    errno = error;
    if (error == 0)
        return RETHREAD_OK;
    return client_address_left_ms(deadline_ms) == 0 ? RETHREAD_TIMEOUT : RETHREAD_UNREACHABLE;
}

enum rethread_status client_address_connect(const struct client_address *address,
                                            uint64_t deadline_ms, int *fd)
{
    if (address->is_unix)
        return connect_unix(address->path, deadline_ms, fd);
    struct addrinfo hints = {
        .ai_family = address->is_numeric ? AF_INET6 : AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_NUMERICSERV | (address->is_numeric ? AI_NUMERICHOST : 0),
    };
    struct addrinfo *list = NULL;
    int failed = getaddrinfo(address->host, address->port, &hints, &list);
    if (failed == EAI_MEMORY)
        return RETHREAD_NO_MEMORY;
    if (failed != 0)
        return address->is_numeric ? RETHREAD_INVALID_ARGUMENT : RETHREAD_UNRESOLVED;
    enum rethread_status status = connect_list(list, deadline_ms, fd);
    int error = errno;
    freeaddrinfo(list);
    errno = error;
    if (status == RETHREAD_OK)
        client_address_no_delay(*fd);
    return status;
}
