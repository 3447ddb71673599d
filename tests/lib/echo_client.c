/* The clients of the echo server: what tests send it and expect of it. */
#include "tests/lib/echo.h"

#include "tests/lib/trial.h"
#include "wire/request.h"

#include <check.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int connect_by(const struct echo_server *server, int buffer_bytes)
{
    struct timeval patience = {.tv_sec = echo_patience_s()};
    int fd = socket(server->address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    if (buffer_bytes > 0) {
        ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes),
                         0);
    }
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience), 0);
    ck_assert_int_eq(
        connect(fd, (const struct sockaddr *)&server->address.storage, server->address.size), 0);
    return fd;
}

int echo_connect(const struct echo_server *server)
{
    return connect_by(server, 0);
}

int echo_connect_narrow(const struct echo_server *server)
{
    return connect_by(server, 4096);
}

void echo_send(int fd, const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size > 0) {
        ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        ck_assert_msg(sent > 0, "send: %s", strerror(errno));
        at += sent;
        size -= (size_t)sent;
    }
}

size_t echo_try_send(int fd, const void *data, size_t size)
{
    ssize_t sent = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent > 0 ? (size_t)sent : 0;
}

void echo_wait_arrived(int fd)
{
    int unacknowledged = 0;
    ECHO_WAIT(ioctl(fd, SIOCOUTQ, &unacknowledged) == 0 && unacknowledged == 0);
}

/* The server's end of a connection, since both are in this process. */
static int other_end(int fd)
{
    struct sockaddr_in own, peer;
    socklen_t size = sizeof own;
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&own, &size), 0);
    for (int other = 0; other < 1024; other++) {
        size = sizeof peer;
        if (getpeername(other, (struct sockaddr *)&peer, &size) == 0 && size == sizeof peer &&
            peer.sin_family == AF_INET && peer.sin_port == own.sin_port) {
            return other;
        }
    }
    ck_abort_msg("a connection without another end");
    return -1;
}

/* True: nothing is left. What is not acknowledged can still come; what is can be received. */
static bool drain_once(int fd, int other, size_t *sum)
{
    static uint8_t rest[256 * 1024];
    int under_way = 1;
    ck_assert_int_eq(ioctl(other, SIOCOUTQ, &under_way), 0);
    for (ssize_t got; (got = recv(fd, rest, sizeof rest, MSG_DONTWAIT)) > 0;) {
        *sum += (size_t)got;
    }
    return under_way == 0;
}

size_t echo_drain(int fd)
{
    int other = other_end(fd);
    size_t sum = 0;
    ECHO_WAIT(drain_once(fd, other, &sum));
    return sum;
}

size_t echo_put_frame(uint8_t *at, char command, const void *data, size_t size)
{
    at[0] = WIRE_HEADER_MARK;
    bytes_store_be32(at + 1, (uint32_t)(size + 1));
    at[WIRE_HEADER_BYTES] = (uint8_t)command;
    if (size > 0) {
        memcpy(at + WIRE_HEADER_BYTES + 1, data, size);
    }
    return WIRE_HEADER_BYTES + 1 + size;
}

void echo_send_frame(int fd, char command, const void *data, size_t size)
{
    uint8_t *frame = malloc(WIRE_HEADER_BYTES + 1 + size);
    ck_assert_ptr_nonnull(frame);
    echo_send(fd, frame, echo_put_frame(frame, command, data, size));
    free(frame);
}

void echo_send_number(int fd, char command, uint32_t number)
{
    uint8_t text[4];
    bytes_store_be32(text, number);
    echo_send_frame(fd, command, text, sizeof text);
}

ssize_t echo_recv(int fd, void *at, size_t size)
{
    ssize_t got;
    do {
        got = recv(fd, at, size, 0);
    } while (got < 0 && errno == EINTR);
    return got;
}

/* False at the end of the stream. */
static bool receive_all(int fd, uint8_t *at, size_t size)
{
    while (size > 0) {
        ssize_t got = echo_recv(fd, at, size);
        if (got == 0 || (got < 0 && errno == ECONNRESET)) {
            return false;
        }
        ck_assert_msg(got > 0, "recv: %s", strerror(errno));
        at += got;
        size -= (size_t)got;
    }
    return true;
}

uint8_t *echo_receive(int fd, size_t *size)
{
    uint8_t header[WIRE_HEADER_BYTES];
    *size = SIZE_MAX;
    if (!receive_all(fd, header, sizeof header)) {
        return NULL;
    }
    ck_assert_uint_eq(header[0], WIRE_HEADER_MARK);
    size_t declared = bytes_load_be32(header + 1);
    uint8_t *body = malloc(declared + 1);
    ck_assert_ptr_nonnull(body);
    if (!receive_all(fd, body, declared)) {
        free(body);
        return NULL;
    }
    *size = declared;
    return body;
}

void echo_expect(int fd, const void *data, size_t size)
{
    size_t got;
    uint8_t *body = echo_receive(fd, &got);
    ck_assert_uint_eq(got, size);
    ck_assert(size == 0 || memcmp(body, data, size) == 0);
    free(body);
}

void echo_expect_refusal(int fd, enum status status)
{
    size_t got;
    uint8_t *body = echo_receive(fd, &got);
    ck_assert_msg(got != SIZE_MAX && got >= 2, "no answer");
    ck_assert_int_eq(body[0], 'X');
    ck_assert_int_eq(body[1], (int)status);
    free(body);
}

void echo_expect_end(int fd)
{
    size_t got;
    uint8_t *body = echo_receive(fd, &got);
    ck_assert_uint_eq(got, SIZE_MAX);
    free(body);
}

bool echo_has_answered(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    return poll(&ready, 1, 0) > 0;
}

void echo_pass_until_answered(struct echo_server *server, int fd)
{
    for (uint64_t passed_ms = 0; !echo_has_answered(fd); passed_ms += 100) {
        ck_assert_msg(passed_ms < 60000, "no answer in a minute of the clock");
        echo_pass(server, 100);
    }
}

unsigned echo_until_drained(int fd)
{
    for (unsigned served = 0;; served++) {
        size_t size;
        echo_send_frame(fd, 'E', "?", 1);
        uint8_t *body = echo_receive(fd, &size);
        bool refused = size == 4 && body[0] == 'X' && body[1] == STATUS_SHUTTING_DOWN;
        ck_assert(refused || (size == 1 && body[0] == '?'));
        free(body);
        if (refused) {
            return served;
        }
    }
}

uint8_t *echo_random_bytes(size_t size, uint64_t seed)
{
    uint8_t *data = malloc(size);
    ck_assert_ptr_nonnull(data);
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)trial_random(&seed);
    }
    return data;
}
