/* Dispatch over the real domain on a driven clock, without sockets: what is asked, and the answer.
 * Header only. */
#ifndef RETHREAD_TESTS_SERVER_TEST_DISPATCH_H
#define RETHREAD_TESTS_SERVER_TEST_DISPATCH_H

#include "server/dispatch.h"
#include "tests/lib/notation.h"
#include "tests/lib/reply.h"
#include "wire/cursor.h"
#include "wire/parse.h"

#include <check.h>
#include <stdlib.h>

enum { TTL_MS = 300000, FRAME_MAX_BYTES = 64 << 20 };

static struct clock_driven driven;
static struct threads *threads;
static struct dispatch *dispatch;
static struct net_handler handler;
static struct net_reply reply;

static void gauges(void *context, uint64_t values[METRIC_COUNT])
{
    ck_assert_ptr_eq(context, &driven);
    values[METRIC_LOOPS] = 77;
}

static void open_with(uint64_t frame_max_bytes)
{
    clock_driven_init(&driven, 3600000);
    struct threads_settings settings = {
        .memory_bytes = 64 << 20,
        .ttl_ms = TTL_MS,
        .frame_max_bytes = frame_max_bytes,
        .tombstones = 1024,
        .lanes_max = 2,
        .clock = &driven.clock,
    };
    threads = threads_create(&settings);
    ck_assert_ptr_nonnull(threads);
    struct dispatch_settings mine = {
        .threads = threads,
        .shares = 1,
        .frame_max_bytes = frame_max_bytes,
        .gauges = gauges,
        .gauges_context = &driven,
    };
    dispatch = dispatch_create(&mine);
    ck_assert_ptr_nonnull(dispatch);
    handler = dispatch_handler(dispatch);
    memset(&reply, 0, sizeof reply);
    handler.online(handler.context);
}

static void open_all(void)
{
    open_with(FRAME_MAX_BYTES);
}

static void close_all(void)
{
    handler.offline(handler.context);
    reply_reset(&reply);
    dispatch_destroy(dispatch);
    threads_destroy(threads);
}

/* Time passes, and the loop tends until it has nothing more to do. */
static void pass(uint64_t ms)
{
    clock_driven_advance(&driven, ms);
    for (unsigned turn = 0; turn < 100; turn++) {
        handler.offline(handler.context);
        handler.online(handler.context);
        handler.tend(handler.context);
    }
}

/* The frame at *at of the reply, checked; moves on to the next. */
static struct bytes next_body(size_t *at)
{
    struct bytes body = {0};
    uint64_t need;
    struct bytes rest = bytes_of(reply.out + *at, reply.size - *at);
    ck_assert_uint_eq(wire_frame_next(rest, UINT32_MAX, &body, &need), WIRE_FRAME_WHOLE);
    ck_assert(wire_walk(body));
    *at += need;
    return body;
}

/* Serves bodies of one turn; all are answered. */
static void serve(const struct bytes *bodies, unsigned count)
{
    bool deferred = true;
    reply_reset(&reply);
    unsigned done =
        handler.serve(handler.context, &reply, bodies, count, (struct net_deferral){0}, &deferred);
    ck_assert_uint_eq(done, count);
    ck_assert(!deferred);
}

/* The answer to one request, as text; freed by the next call. */
static inline const char *ask(const char *request)
{
    static char *answer;
    struct bytes body = notation_encode(request);
    serve(&body, 1);
    size_t at = 0;
    struct bytes answered = next_body(&at);
    ck_assert_uint_eq(at, reply.size);
    free(answer);
    answer = notation_decode(answered);
    ck_assert_ptr_nonnull(answer);
    free((void *)body.data);
    return answer;
}

static void expect(const char *request, const char *part)
{
    const char *answer = ask(request);
    ck_assert_msg(strstr(answer, part) != NULL, "%s\n  answers %s\n  without %s", request, answer,
                  part);
}

#endif
