/*
 * The other end of a connection, for the client's tests: a socket pair, and messages written and
 * read as text (tests/lib/notation.h). It shares no code with what it judges.
 *
 * A fake that answers while a synchronous call waits runs on an operating-system thread.
 */
#ifndef RETHREAD_TESTS_CLIENT_FAKE_H
#define RETHREAD_TESTS_CLIENT_FAKE_H

#include "rethread.h"
#include "tests/lib/notation.h"

#include <check.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- Requests and responses ----------------------------------------------------------------- */

struct fake_request {
    uint32_t msgid;
    char *text; /* of the body, [0, msgid, method, [options, payload...]]; "" when it is large */
    uint8_t *body;
    size_t size;
};

enum {
    FAKE_TEXT_BYTES_MAX = 4096, /* larger bodies are for programs to compare */
};

static inline bool fake_read(int fd, void *into, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t part = read(fd, (char *)into + done, size - done);
        if (part <= 0)
            return false;
        done += (size_t)part;
    }
    return true;
}

static inline void fake_write(int fd, const void *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t part = send(fd, (const char *)bytes + done, size - done, MSG_NOSIGNAL);
        if (part <= 0)
            return; /* the client has gone, which some tests want */
        done += (size_t)part;
    }
}

static inline size_t fake_body_size(const uint8_t header[5])
{
    ck_assert_uint_eq(header[0], 0xCE);
    return (size_t)header[1] << 24 | (size_t)header[2] << 16 | (size_t)header[3] << 8 |
           (size_t)header[4];
}

/* Reads one whole request; false when the client has gone. Free it with fake_done. */
static inline bool fake_next(int fd, struct fake_request *request)
{
    uint8_t header[5];
    if (!fake_read(fd, header, sizeof header))
        return false;
    request->size = fake_body_size(header);
    request->body = malloc(request->size);
    ck_assert_ptr_nonnull(request->body);
    if (!fake_read(fd, request->body, request->size)) {
        free(request->body);
        return false;
    }
    request->text = NULL;
    if (request->size <= FAKE_TEXT_BYTES_MAX) {
        request->text = notation_decode(bytes_of(request->body, request->size));
        ck_assert_ptr_nonnull(request->text);
        ck_assert_int_eq(sscanf(request->text, "[0, %" SCNu32 ", ", &request->msgid), 1);
    } else {
        /* The library counts its msgids from 1: here they are one byte. */
        request->msgid = request->body[2];
        request->text = strdup("");
    }
    return true;
}

static inline void fake_done(struct fake_request *request)
{
    free(request->text);
    free(request->body);
}

/* A frame: header and body. Freed by the caller. */
static inline uint8_t *fake_frame(const void *body, size_t size, size_t *frame_size)
{
    uint8_t *frame = malloc(size + 5);
    ck_assert_ptr_nonnull(frame);
    frame[0] = 0xCE;
    for (int i = 0; i < 4; i++)
        frame[1 + i] = (uint8_t)(size >> (24 - 8 * i));
    memcpy(frame + 5, body, size);
    *frame_size = size + 5;
    return frame;
}

static inline uint8_t *fake_text_frame(const char *text, size_t *size)
{
    struct bytes body = notation_encode(text);
    uint8_t *frame = fake_frame(body.data, body.size, size);
    free((void *)(uintptr_t)body.data);
    return frame;
}

/* Sends a whole message; the format is that of printf. */
__attribute__((format(printf, 2, 3))) static inline void fake_send(int fd, const char *format, ...)
{
    char text[8192];
    size_t size;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    ck_assert(length > 0 && (size_t)length < sizeof text);
    uint8_t *frame = fake_text_frame(text, &size);
    fake_write(fd, frame, size);
    free(frame);
}

/* ---- Connections ---------------------------------------------------------------------------- */

struct fake {
    struct rethread *connection;
    int fd; /* the server's end; blocking */
    pthread_t server;
    bool has_server;
    void (*serve)(struct fake *fake);
    void *context;
};

static inline void *fake_run(void *context)
{
    struct fake *fake = context;
    fake->serve(fake);
    return NULL;
}

/* A connection to a fake; `serve`, if any, runs aside and may close fake->fd, setting it to -1. */
static inline void fake_open(struct fake *fake, const struct rethread_connect_options *options,
                             void (*serve)(struct fake *fake), void *context)
{
    int ends[2];
    *fake = (struct fake){.serve = serve, .context = context};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fake->fd = ends[1];
    ck_assert_int_eq(rethread_attach(ends[0], options, &fake->connection), RETHREAD_OK);
    if (serve != NULL) {
        ck_assert_int_eq(pthread_create(&fake->server, NULL, fake_run, fake), 0);
        fake->has_server = true;
    }
}

static inline void fake_hang_up(struct fake *fake)
{
    if (fake->fd >= 0)
        close(fake->fd);
    fake->fd = -1;
}

static inline void fake_close(struct fake *fake)
{
    rethread_close(fake->connection);
    if (fake->has_server)
        ck_assert_int_eq(pthread_join(fake->server, NULL), 0);
    fake_hang_up(fake);
}

/*
 * Has the client send, reads the next request, compares it with what it must be after the msgid,
 * and returns the msgid.
 */
static inline uint32_t fake_expect(struct fake *fake, const char *text)
{
    struct fake_request request;
    while ((rethread_wants(fake->connection) & RETHREAD_WRITE) != 0)
        ck_assert_int_eq(rethread_pump(fake->connection, RETHREAD_WRITE), RETHREAD_OK);
    ck_assert(fake_next(fake->fd, &request));
    const char *method = strchr(request.text, '"');
    ck_assert_ptr_nonnull(method);
    ck_assert_str_eq(method, text);
    uint32_t msgid = request.msgid;
    fake_done(&request);
    return msgid;
}

static inline bool fake_same(struct rethread_bytes bytes, const char *text)
{
    return bytes.data != NULL && bytes.size == strlen(text) &&
           memcmp(bytes.data, text, bytes.size) == 0;
}

#endif
