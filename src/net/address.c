/* Parses and formats socket addresses. */
#include "net/address.h"

#include "base/units.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static bool parse_port(const char *text, in_port_t *port)
{
    uint64_t value;
    if (!units_parse_count(text, &value) || value > UINT16_MAX) {
        return false;
    }
    *port = htons((uint16_t)value);
    return true;
}

static bool parse_v6(const char *host, const char *port, struct net_address *address)
{
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address->storage;
    v6->sin6_family = AF_INET6;
    address->size = sizeof *v6;
    return inet_pton(AF_INET6, host, &v6->sin6_addr) == 1 && parse_port(port, &v6->sin6_port);
}

static bool parse_v4(const char *host, const char *port, struct net_address *address)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address->storage;
    v4->sin_family = AF_INET;
    address->size = sizeof *v4;
    return inet_pton(AF_INET, host, &v4->sin_addr) == 1 && parse_port(port, &v4->sin_port);
}

bool net_address_parse(const char *text, struct net_address *address)
{
    char host[INET6_ADDRSTRLEN];
    memset(address, 0, sizeof *address);
    const char *colon = strrchr(text, ':');
    if (!colon) {
        return false;
    }
    bool bracketed = text[0] == '[';
    const char *start = text + bracketed;
    const char *end = bracketed ? colon - 1 : colon;
    if (end <= start || (bracketed && *end != ']') || (size_t)(end - start) >= sizeof host) {
        return false;
    }
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    return bracketed ? parse_v6(host, colon + 1, address) : parse_v4(host, colon + 1, address);
}

static void format_unix(const struct sockaddr_un *un, socklen_t size, char *text)
{
    size_t path = size > offsetof(struct sockaddr_un, sun_path)
                      ? size - offsetof(struct sockaddr_un, sun_path)
                      : 0;
    if (path == 0 || un->sun_path[0] == '\0') {
        snprintf(text, NET_ADDRESS_TEXT_BYTES, "unix");
        return;
    }
    snprintf(text, NET_ADDRESS_TEXT_BYTES, "unix:%.*s", (int)strnlen(un->sun_path, path),
             un->sun_path);
}

const char *net_address_format(const struct net_address *address, char text[NET_ADDRESS_TEXT_BYTES])
{
    char host[INET6_ADDRSTRLEN];
    if (address->storage.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address->storage;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(text, NET_ADDRESS_TEXT_BYTES, "%s:%u", host, ntohs(v4->sin_port));
    } else if (address->storage.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address->storage;
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(text, NET_ADDRESS_TEXT_BYTES, "[%s]:%u", host, ntohs(v6->sin6_port));
    } else if (address->storage.ss_family == AF_UNIX) {
        format_unix((const struct sockaddr_un *)&address->storage, address->size, text);
    } else {
        snprintf(text, NET_ADDRESS_TEXT_BYTES, "unknown");
    }
    return text;
}

bool net_address_is_local(const struct net_address *address)
{
    if (address->storage.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address->storage;
        return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    }
    if (address->storage.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address->storage;
        return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    }
    return address->storage.ss_family == AF_UNIX;
}
