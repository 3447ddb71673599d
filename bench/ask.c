/* Sends, waits and judges; see ask.h. */
#include "bench/ask.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { PATIENCE_S = 120 };

bool ask_open(struct ask *ask, const struct protocol *protocol, const struct server *server,
              size_t reply_bytes_max)
{
    *ask = (struct ask){.fd = server_connect(server),
                        .protocol = protocol,
                        .in_max = reply_bytes_max,
                        .in = malloc(reply_bytes_max),
                        .out = malloc(PROTOCOL_IN_FLIGHT_MAX * PROTOCOL_SLACK_BYTES)};
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int flags = ask->fd >= 0 ? fcntl(ask->fd, F_GETFL) : -1;
    if (flags < 0 || ask->in == NULL || ask->out == NULL ||
        fcntl(ask->fd, F_SETFL, flags & ~O_NONBLOCK) != 0 ||
        setsockopt(ask->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0) {
        ask_close(ask);
        return false;
    }
    return true;
}

void ask_close(struct ask *ask)
{
    if (ask->protocol != NULL && ask->fd >= 0) {
        close(ask->fd);
    }
    free(ask->in);
    free(ask->out);
    *ask = (struct ask){.fd = -1};
}

/* Length of a payload's head. */
static size_t head_bytes(uint32_t size)
{
    return size < 256 ? 2 : size < 65536 ? 3 : 5;
}

/*
 * The reply may say `disk` where the protocol's own judge expects `memory`; what counts is that it
 * is complete and ends with every step's bytes, and nothing else behind the result.
 */
static bool rethread_is_right(const struct protocol_values *values,
                              const struct protocol_item *item, const uint8_t *reply, size_t size)
{
    static const char complete[] = "complete";
    size_t left = size;
    for (uint32_t step = item->steps; step-- > 0;) {
        uint32_t bytes = protocol_step_bytes(values, item->thread, step);
        size_t whole = bytes + head_bytes(bytes);
        if (left < whole ||
            !protocol_step_is_right(values, item->thread, step, reply + left - bytes)) {
            return false;
        }
        left -= whole;
    }
    return memmem(reply, left, complete, sizeof complete - 1) != NULL;
}

static enum ask_answer judge(const struct ask *ask, const struct protocol_values *values,
                             const struct protocol_item *items, unsigned count, unsigned slot,
                             size_t size)
{
    static const char loading[] = "-LOADING";
    if (size >= sizeof loading - 1 && memcmp(ask->in, loading, sizeof loading - 1) == 0) {
        return ASK_LATER;
    }
    if (slot >= count) {
        return ASK_WRONG;
    }
    bool right =
        ask->protocol == &protocol_rethread
            ? rethread_is_right(values, &items[slot], ask->in, size)
            : protocol_reply_is_right(ask->protocol, values, &items[slot], slot, ask->in, 0, size);
    return right ? ASK_RIGHT : ASK_WRONG;
}

/* The length of the reply that has come first; 0 while that is unknown. A refusal is one line. */
static size_t whole_bytes(const struct ask *ask, const struct protocol_values *values,
                          const struct protocol_item *item)
{
    if (ask->in_size > 0 && ask->in[0] == '-') {
        const uint8_t *end = memchr(ask->in, '\n', ask->in_size);
        return end != NULL ? (size_t)(end - ask->in) + 1 : 0;
    }
    return ask->protocol->reply_bytes(values, item, ask->in, ask->in_size);
}

static enum ask_answer await_one(struct ask *ask, const struct protocol_values *values,
                                 const struct protocol_item *items, unsigned count, unsigned next)
{
    size_t whole;
    while ((whole = whole_bytes(ask, values, &items[next])) == 0 || whole > ask->in_size) {
        if (whole > ask->in_max) {
            return ASK_WRONG;
        }
        ssize_t got = read(ask->fd, ask->in + ask->in_size, ask->in_max - ask->in_size);
        if (got <= 0) {
            return ASK_LOST;
        }
        ask->in_size += (size_t)got;
    }
    bool is_refusal = ask->in[0] == '-';
    unsigned slot = is_refusal ? next : ask->protocol->reply_slot(ask->in, next);
    enum ask_answer answer = judge(ask, values, items, count, slot, whole);
    ask->in_size -= whole;
    memmove(ask->in, ask->in + whole, ask->in_size);
    return answer;
}

enum ask_answer ask_replays(struct ask *ask, const struct protocol_values *values,
                            const struct protocol_item *items, unsigned count)
{
    assert(count > 0 && count <= PROTOCOL_IN_FLIGHT_MAX);
    size_t size = 0;
    for (unsigned slot = 0; slot < count; slot++) {
        size += ask->protocol->request(values, &items[slot], slot, ask->out + size);
    }
    for (size_t sent = 0; sent < size;) {
        ssize_t wrote = send(ask->fd, ask->out + sent, size - sent, MSG_NOSIGNAL);
        if (wrote <= 0) {
            return ASK_LOST;
        }
        sent += (size_t)wrote;
    }
    enum ask_answer worst = ASK_RIGHT;
    for (unsigned next = 0; next < count; next++) {
        enum ask_answer answer = await_one(ask, values, items, count, next);
        worst = answer > worst ? answer : worst;
        if (answer == ASK_LOST) {
            break;
        }
    }
    return worst;
}
