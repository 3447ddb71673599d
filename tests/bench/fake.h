/*
 * A server for the tests of the load generator, in an operating-system thread of its own, with a
 * protocol made for it: it answers rightly until the request that it is told to spoil.
 *
 * Header only. One at a time; every member is set before fake_start and read after fake_stop.
 */
#ifndef RETHREAD_TESTS_BENCH_FAKE_H
#define RETHREAD_TESTS_BENCH_FAKE_H

#include "bench/protocol_private.h"
#include "bench/server.h"

#include "base/bytes.h"

#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum fake_fault {
    FAKE_RIGHT,
    FAKE_STALL,  /* this one and all behind it wait for stall_ms */
    FAKE_WRONG,  /* one bit of one byte */
    FAKE_SHORT,  /* one byte less than it should have, framed as such */
    FAKE_OTHER,  /* the answer to another thread */
    FAKE_TWICE,  /* answered twice */
    FAKE_MARK,   /* the framing is lost */
    FAKE_CLOSED, /* the connection is closed instead */
};

enum {
    FAKE_REQUEST_BYTES = 8,
    FAKE_HEAD_BYTES = 4,
    FAKE_MARK_BYTE = 0xfa,
    FAKE_CONNECTIONS_MAX = 16,
    FAKE_THREADS_MAX = 4096,
    FAKE_VALUE_MAX = 4096,
};

struct fake {
    const struct protocol_values *values;
    enum fake_fault fault;
    uint32_t fault_at; /* the number of the request that is spoiled, over all connections */
    uint32_t stall_ms;
    bool reversed; /* what came in one piece is answered from its end */
    bool is_long;  /* requests have more behind them: as many bytes as the step of an append */
    size_t piece;  /* replies are written in pieces of that size; 0: as they are */
    struct server server;
    uint32_t asked[FAKE_THREADS_MAX]; /* how often each thread was */
    uint32_t requests;
    int listener;
    int stop[2];
    pthread_t runner;
};

static size_t fake_request(const struct protocol_values *values, const struct protocol_item *item,
                           unsigned slot, uint8_t *out)
{
    (void)values;
    out[0] = (uint8_t)slot;
    out[1] = (uint8_t)item->op;
    size_t more = item->op == PROTOCOL_APPEND ? item->step : 0;
    bytes_store_be16(out + 2, (uint16_t)more);
    bytes_store_be32(out + 4, item->thread);
    memset(out + FAKE_REQUEST_BYTES, 0, more);
    return FAKE_REQUEST_BYTES + more;
}

static size_t fake_reply_bytes(const struct protocol_values *values,
                               const struct protocol_item *item, const uint8_t *in, size_t size)
{
    (void)values;
    (void)item;
    if (size > 0 && in[0] != FAKE_MARK_BYTE) {
        return PROTOCOL_BROKEN;
    }
    return size < FAKE_HEAD_BYTES ? 0 : FAKE_HEAD_BYTES + (size_t)bytes_load_be16(in + 2);
}

static unsigned fake_reply_slot(const uint8_t *reply, unsigned next)
{
    (void)next;
    return reply[1];
}

static void fake_judge(struct protocol_judge *judge, const struct protocol_values *values,
                       const struct protocol_item *item, unsigned slot)
{
    uint8_t head[FAKE_HEAD_BYTES] = {FAKE_MARK_BYTE, (uint8_t)slot};
    bytes_store_be16(head + 2, (uint16_t)values->value_bytes);
    protocol_judge_bytes(judge, head, sizeof head);
    protocol_judge_step(judge, values, item->thread, 0);
}

static const struct protocol fake_protocol = {
    .name = "fake",
    .request = fake_request,
    .reply_bytes = fake_reply_bytes,
    .reply_slot = fake_reply_slot,
    .judge = fake_judge,
};

static bool fake_write(const struct fake *fake, int fd, const uint8_t *data, size_t size)
{
    size_t piece = fake->piece != 0 ? fake->piece : size;
    for (size_t at = 0; at < size;) {
        size_t count = size - at < piece ? size - at : piece;
        ssize_t sent = send(fd, data + at, count, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        at += (size_t)sent;
        if (fake->piece != 0) {
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        }
    }
    return true;
}

/* False: the connection is to be closed. */
static bool fake_answer(struct fake *fake, int fd, const uint8_t request[FAKE_REQUEST_BYTES])
{
    static uint8_t reply[2 * (FAKE_HEAD_BYTES + FAKE_VALUE_MAX)];
    bool spoiled = fake->requests++ == fake->fault_at;
    enum fake_fault fault = spoiled ? fake->fault : FAKE_RIGHT;
    uint32_t thread = bytes_load_be32(request + 4);
    size_t size = fake->values->value_bytes;
    fake->asked[thread % FAKE_THREADS_MAX]++;
    if (fault == FAKE_CLOSED) {
        return false;
    }
    if (fault == FAKE_STALL) {
        nanosleep(&(struct timespec){.tv_sec = fake->stall_ms / 1000,
                                     .tv_nsec = fake->stall_ms % 1000 * 1000000},
                  NULL);
    }
    protocol_write_step(fake->values, fault == FAKE_OTHER ? thread + 1 : thread, 0,
                        reply + FAKE_HEAD_BYTES);
    reply[FAKE_HEAD_BYTES + size - 1] ^= fault == FAKE_WRONG;
    size -= fault == FAKE_SHORT;
    reply[0] = fault == FAKE_MARK ? 0 : FAKE_MARK_BYTE;
    reply[1] = request[0];
    bytes_store_be16(reply + 2, (uint16_t)size);
    size += FAKE_HEAD_BYTES;
    memcpy(reply + size, reply, size);
    return fake_write(fake, fd, reply, fault == FAKE_TWICE ? 2 * size : size);
}

/* MSG_WAITALL alone would end early when the process is stopped and continued. */
static bool fake_read(int fd, uint8_t *into, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t got = recv(fd, into + at, size - at, MSG_WAITALL);
        if (got <= 0) {
            return false;
        }
        at += (size_t)got;
    }
    return true;
}

/* A long request, of which the server reads the rest slowly. */
static bool fake_serve_long(struct fake *fake, int fd)
{
    static uint8_t in[FAKE_REQUEST_BYTES + UINT16_MAX];
    if (!fake_read(fd, in, FAKE_REQUEST_BYTES)) {
        return false;
    }
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    return fake_read(fd, in + FAKE_REQUEST_BYTES, bytes_load_be16(in + 2)) &&
           fake_answer(fake, fd, in);
}

/* The generator writes whole requests and they are small: pieces of them do not come. */
static bool fake_serve(struct fake *fake, int fd)
{
    if (fake->is_long) {
        return fake_serve_long(fake, fd);
    }
    uint8_t in[FAKE_REQUEST_BYTES * PROTOCOL_IN_FLIGHT_MAX];
    ssize_t got = recv(fd, in, sizeof in, 0);
    if (got <= 0 || got % FAKE_REQUEST_BYTES != 0) {
        return false;
    }
    size_t count = (size_t)got / FAKE_REQUEST_BYTES;
    for (size_t i = 0; i < count; i++) {
        size_t place = fake->reversed ? count - 1 - i : i;
        if (!fake_answer(fake, fd, in + place * FAKE_REQUEST_BYTES)) {
            return false;
        }
    }
    return true;
}

static void *fake_run(void *context)
{
    struct fake *fake = context;
    struct pollfd fds[2 + FAKE_CONNECTIONS_MAX] = {{.fd = fake->stop[0], .events = POLLIN},
                                                   {.fd = fake->listener, .events = POLLIN}};
    nfds_t count = 2;
    while (poll(fds, count, -1) > 0 && fds[0].revents == 0) {
        if (fds[1].revents != 0 && count < 2 + FAKE_CONNECTIONS_MAX) {
            fds[count++] =
                (struct pollfd){.fd = accept(fake->listener, NULL, NULL), .events = POLLIN};
        }
        for (nfds_t i = 2; i < count; i++) {
            if (fds[i].revents != 0 && !fake_serve(fake, fds[i].fd)) {
                close(fds[i].fd);
                fds[i].fd = -1;
            }
        }
    }
    for (nfds_t i = 2; i < count; i++) {
        if (fds[i].fd >= 0) {
            close(fds[i].fd);
        }
    }
    return NULL;
}

static void fake_start(struct fake *fake)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    fake->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fake->listener, (const struct sockaddr *)&address, size), 0);
    if (fake->is_long) {
        /* So that the generator cannot send all at once. */
        ck_assert_int_eq(
            setsockopt(fake->listener, SOL_SOCKET, SO_RCVBUF, &(int){16384}, sizeof(int)), 0);
    }
    ck_assert_int_eq(listen(fake->listener, FAKE_CONNECTIONS_MAX), 0);
    ck_assert_int_eq(getsockname(fake->listener, (struct sockaddr *)&address, &size), 0);
    ck_assert_int_eq(pipe(fake->stop), 0);
    server_attach(&fake->server, address, 0);
    ck_assert_int_eq(pthread_create(&fake->runner, NULL, fake_run, fake), 0);
}

static void fake_stop(struct fake *fake)
{
    close(fake->stop[1]);
    pthread_join(fake->runner, NULL);
    close(fake->stop[0]);
    close(fake->listener);
}

#endif
