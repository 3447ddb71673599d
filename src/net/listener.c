/* Opens and closes listening sockets. */
#include "net/listener.h"

#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 4096 };

static bool fail(struct net_listener *listener, const struct net_address *address, const char *step)
{
    char text[NET_ADDRESS_TEXT_BYTES];
    log_write(LOG_ERROR, "listen_failed", LOG_TEXT("address", net_address_format(address, text)),
              LOG_TEXT("step", step), LOG_ERRNO("error", errno), LOG_END);
    if (listener->fd >= 0) {
        close(listener->fd);
        listener->fd = -1;
    }
    return false;
}

bool net_listener_open(struct net_listener *listener, const struct net_address *address)
{
    int on = 1;
    int family = address->storage.ss_family;
    *listener = (struct net_listener){.address = *address};
    listener->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->fd < 0) {
        return fail(listener, address, "socket");
    }
    if (setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        (family == AF_INET6 &&
         setsockopt(listener->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) < 0)) {
        return fail(listener, address, "setsockopt");
    }
    if (bind(listener->fd, (const struct sockaddr *)&address->storage, address->size) < 0) {
        return fail(listener, address, "bind");
    }
    listener->address.size = sizeof listener->address.storage;
    if (listen(listener->fd, BACKLOG) < 0 ||
        getsockname(listener->fd, (struct sockaddr *)&listener->address.storage,
                    &listener->address.size) < 0) {
        return fail(listener, address, "listen");
    }
    return true;
}

/* True when a socket's file is there and nobody listens on it. */
static bool is_stale(const struct net_address *address, const char *path)
{
    struct stat file;
    if (lstat(path, &file) < 0 || !S_ISSOCK(file.st_mode)) {
        return false;
    }
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe < 0) {
        return false;
    }
    int failed = connect(probe, (const struct sockaddr *)&address->storage, address->size);
    bool stale = failed && errno == ECONNREFUSED;
    close(probe);
    return stale;
}

bool net_listener_open_unix(struct net_listener *listener, const char *path)
{
    *listener = (struct net_listener){.fd = -1};
    struct net_address *address = &listener->address;
    struct sockaddr_un *un = (struct sockaddr_un *)&address->storage;
    assert(strlen(path) < sizeof un->sun_path);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, strlen(path) + 1);
    address->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);

    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->fd < 0) {
        return fail(listener, address, "socket");
    }
    int failed = bind(listener->fd, (const struct sockaddr *)un, address->size);
    if (failed && errno == EADDRINUSE && is_stale(address, path)) {
        unlink(path);
        failed = bind(listener->fd, (const struct sockaddr *)un, address->size);
    }
    if (failed) {
        return fail(listener, address, "bind");
    }
    struct stat file;
    /* Nobody can connect before listen: the mode is in place in time. */
    if (chmod(path, 0600) < 0 || lstat(path, &file) < 0 || listen(listener->fd, BACKLOG) < 0) {
        int error = errno;
        unlink(path);
        errno = error;
        return fail(listener, address, "listen");
    }
    listener->device = file.st_dev;
    listener->inode = file.st_ino;
    return true;
}

void net_listener_close(struct net_listener *listener)
{
    if (listener->fd < 0) {
        return;
    }
    const struct sockaddr_un *un = (const struct sockaddr_un *)&listener->address.storage;
    struct stat file;
    if (un->sun_family == AF_UNIX && lstat(un->sun_path, &file) == 0 &&
        file.st_dev == listener->device && file.st_ino == listener->inode) {
        unlink(un->sun_path);
    }
    close(listener->fd);
    listener->fd = -1;
}
