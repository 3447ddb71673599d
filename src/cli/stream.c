/*
 * stream: one step from the standard input, sent to the server while it comes.
 *
 * One chunk is under way at a time; what comes meanwhile waits in the pipe and goes out together.
 * Signals only write a byte to a pipe of the program's own, which is polled beside the input.
 */
#include "cli/command.h"

#include "cli/segments.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    KEEP_ALIVES = 3, /* in the time that a claim lasts */
    BUSY_TRIES = 10,
    BUSY_WAIT_MS = 100,
    TIMEOUT_MS = 30000,        /* the library's default */
    GRACE_MS = 1000,           /* for an answer, once interrupted */
    FRAME_BYTES_MAX = 1 << 26, /* the library's default */
    FRAME_BYTES_ELSE = 1024,   /* what of a frame is no payload, at the most */
};

static const int SIGNALS[] = {SIGINT, SIGTERM, SIGHUP};
enum { SIGNAL_COUNT = sizeof SIGNALS / sizeof *SIGNALS };

static int wake_fd = -1; /* of the handler alone */

struct stream {
    struct invocation *invocation;
    struct rethread *connection;
    int wake[2]; /* the pipe that signals write to: its ends for reading and writing */
    char *buffer;
    size_t buffer_bytes;
    struct rethread_bytes thread;
    struct rethread_u64 claim;
    uint64_t claim_lasts_ms;
    uint64_t bytes; /* sent so far */
    int interrupted_by;
};

/* ---- Signals ----------------------------------------------------------------------------------*/

static void note_signal(int number)
{
    int saved = errno;
    unsigned char byte = (unsigned char)number;
    ssize_t written = write(wake_fd, &byte, 1);
    (void)written;
    errno = saved;
}

/* From here on the first signal of each kind is noted, the second ends the program. */
static bool watch_signals(struct stream *stream)
{
    if (pipe2(stream->wake, O_CLOEXEC | O_NONBLOCK) != 0)
        return false;
    wake_fd = stream->wake[1];
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        struct sigaction before;
        struct sigaction action = {.sa_handler = note_signal, .sa_flags = (int)SA_RESETHAND};
        sigemptyset(&action.sa_mask);
        /* What is ignored, as under nohup, stays so. */
        if (sigaction(SIGNALS[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(SIGNALS[i], &action, NULL);
    }
    return true;
}

static void unwatch_signals(struct stream *stream)
{
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        struct sigaction now;
        if (sigaction(SIGNALS[i], NULL, &now) == 0 && now.sa_handler == note_signal)
            signal(SIGNALS[i], SIG_DFL);
    }
    close(stream->wake[0]);
    close(stream->wake[1]);
}

static bool was_interrupted(struct stream *stream)
{
    unsigned char byte;
    if (stream->interrupted_by == 0 && read(stream->wake[0], &byte, 1) == 1)
        stream->interrupted_by = byte;
    return stream->interrupted_by != 0;
}

/* ---- Requests ---------------------------------------------------------------------------------*/

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Until the connection or a signal has news, or the time is up. */
static void wait_for_news(const struct stream *stream, int64_t left_ms)
{
    int wants = rethread_wants(stream->connection);
    short events = (short)(((wants & RETHREAD_READ) != 0 ? POLLIN : 0) |
                           ((wants & RETHREAD_WRITE) != 0 ? POLLOUT : 0));
    struct pollfd fds[] = {{.fd = rethread_fd(stream->connection), .events = events},
                           {.fd = stream->wake[0], .events = POLLIN}};
    (void)poll(fds, stream->interrupted_by != 0 ? 1 : 2,
               left_ms > INT_MAX ? INT_MAX : (int)left_ms);
}

/* Waits for the answer to what was submitted, but not for long once there was an interrupt. */
static enum rethread_status await(struct stream *stream, enum rethread_status submitted,
                                  uint32_t msgid, struct rethread_result **result)
{
    uint64_t timeout_ms = stream->invocation->timeout_ms;
    int64_t now = now_ms();
    int64_t deadline = now + (timeout_ms != 0 ? (int64_t)timeout_ms : TIMEOUT_MS);
    bool hurried = false;
    *result = NULL;
    if (submitted != RETHREAD_OK)
        return submitted;
    for (;;) {
        enum rethread_status status = rethread_collect(stream->connection, msgid, 0, result);
        if (status != RETHREAD_TIMEOUT)
            return status;
        now = now_ms();
        if (!hurried && was_interrupted(stream)) {
            hurried = true;
            deadline = deadline < now + GRACE_MS ? deadline : now + GRACE_MS;
        }
        if (now >= deadline) {
            rethread_abandon(stream->connection, msgid);
            return RETHREAD_TIMEOUT;
        }
        wait_for_news(stream, deadline - now);
    }
}

/* What was interrupted is said once, at the end. */
static int fail(const struct stream *stream, enum rethread_status status,
                const struct rethread_result *result)
{
    if (stream->interrupted_by != 0 && status == RETHREAD_TIMEOUT)
        return EXIT_SERVER;
    return command_fail(stream->invocation, status, result, stream->connection);
}

static int begin(struct stream *stream)
{
    struct rethread_begin_options options = {
        .thread = stream->thread,
        /* Judged now as well: what would be refused at the end need not be produced. */
        .expect = stream->invocation->arguments.commit.expect,
        .segment = stream->invocation->kind};
    struct rethread_result *result = NULL;
    uint32_t msgid = 0;
    enum rethread_status status = rethread_submit_begin(stream->connection, &options, &msgid);
    status = await(stream, status, msgid, &result);
    int code = EXIT_DONE;
    if (status == RETHREAD_OK) {
        stream->claim = rethread_u64(rethread_result_begin(result)->claim);
        stream->claim_lasts_ms = rethread_result_begin(result)->claim_expires_in_ms;
    } else {
        code = fail(stream, status, result);
    }
    rethread_result_free(result);
    return code;
}

/* Size 0 keeps the claim. */
static int send_chunk(struct stream *stream, size_t size)
{
    struct rethread_bytes payload = {stream->buffer, size};
    struct rethread_chunk_options options = {.thread = stream->thread,
                                             .claim = stream->claim,
                                             .payloads = &payload,
                                             .payload_count = size != 0};
    struct rethread_result *result = NULL;
    enum rethread_status status = RETHREAD_BUSY;
    for (int i = 0; status == RETHREAD_BUSY && i < BUSY_TRIES; i++) {
        uint32_t msgid = 0;
        rethread_result_free(result);
        if (i > 0)
            usleep(BUSY_WAIT_MS * 1000);
        status = rethread_submit_chunk(stream->connection, &options, &msgid);
        status = await(stream, status, msgid, &result);
    }
    int code = EXIT_DONE;
    if (status == RETHREAD_OK) {
        stream->claim_lasts_ms = rethread_result_chunk(result)->claim_expires_in_ms;
        stream->bytes += size;
    } else {
        code = fail(stream, status, result);
    }
    rethread_result_free(result);
    return code;
}

/* Gives the claim back, if it can be; whatever the answer, there is nothing more to be done. */
static void give_up(struct stream *stream)
{
    struct rethread_abort_options options = {.thread = stream->thread, .claim = stream->claim};
    struct rethread_result *result = NULL;
    uint32_t msgid = 0;
    enum rethread_status status = rethread_submit_abort(stream->connection, &options, &msgid);
    (void)await(stream, status, msgid, &result);
    rethread_result_free(result);
}

static int commit(struct stream *stream)
{
    struct invocation *invocation = stream->invocation;
    struct rethread_commit_options *options = &invocation->arguments.commit;
    struct rethread_result *result = NULL;
    int code = segments_read_late(invocation);
    if (code != EXIT_DONE)
        return code;
    options->claim = stream->claim;
    options->segments = (struct rethread_segments){invocation->segments, invocation->segment_count};
    options->bare = stream->bytes == 0 && invocation->segment_count == 0;
    if (options->bare && !invocation->bare) {
        report_line("nothing came at the standard input, and nothing was kept: say --bare for a "
                    "step without a trace");
        return EXIT_USAGE;
    }
    enum rethread_status status = rethread_commit(stream->connection, options, &result);
    if (status == RETHREAD_OK)
        command_show(invocation, result);
    else
        code = command_fail(invocation, status, result, stream->connection);
    rethread_result_free(result);
    return code;
}

/* ---- The input --------------------------------------------------------------------------------*/

enum awaited { AWAITED_INPUT, AWAITED_SIGNAL, AWAITED_SERVER, AWAITED_TOO_LONG };

/* Waits for input, no longer than the claim allows. Between calls a server only says farewell. */
static enum awaited wait_for_input(const struct stream *stream)
{
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = stream->wake[0], .events = POLLIN},
                           {.fd = rethread_fd(stream->connection), .events = POLLIN}};
    uint64_t wait_ms = stream->claim_lasts_ms / KEEP_ALIVES + 1;
    int count = poll(fds, 3, wait_ms > INT_MAX ? INT_MAX : (int)wait_ms);
    if (count < 0 || fds[1].revents != 0)
        return AWAITED_SIGNAL;
    if (fds[2].revents != 0)
        return AWAITED_SERVER;
    return count == 0 ? AWAITED_TOO_LONG : AWAITED_INPUT;
}

/* Sends what there is. Sets *at_end at the end of the input; 0, or the exit code. */
static int send_some(struct stream *stream, bool *at_end)
{
    ssize_t got = read(STDIN_FILENO, stream->buffer, stream->buffer_bytes);
    *at_end = got == 0;
    if (got > 0)
        return send_chunk(stream, (size_t)got);
    if (got == 0 || errno == EINTR || errno == EAGAIN)
        return EXIT_DONE;
    report_line("cannot read the standard input: %s; nothing was kept", strerror(errno));
    return EXIT_SERVER;
}

/* 0 while the connection lives; otherwise the exit code. */
static int hear_server(struct stream *stream)
{
    enum rethread_status status = rethread_pump(stream->connection, RETHREAD_READ);
    if (status == RETHREAD_OK)
        return EXIT_DONE;
    return command_fail(stream->invocation, status, NULL, stream->connection);
}

/* Until the end of the input: 0; or the exit code, and then the step is to be given up. */
static int send_input(struct stream *stream)
{
    int code = stream->interrupted_by != 0 ? EXIT_SERVER : EXIT_DONE;
    bool at_end = false;
    while (code == EXIT_DONE && !at_end) {
        switch (wait_for_input(stream)) {
        case AWAITED_INPUT:
            code = send_some(stream, &at_end);
            break;
        case AWAITED_SERVER:
            code = hear_server(stream);
            break;
        case AWAITED_TOO_LONG:
            code = send_chunk(stream, 0);
            break;
        case AWAITED_SIGNAL:
            break;
        }
        /*
         * Ctrl-C ends the writer of a pipe too: an end of the input that came with it is none.
         */
        if (was_interrupted(stream))
            return EXIT_SERVER;
    }
    return code;
}

static int run_on(struct stream *stream)
{
    int code = begin(stream);
    if (code != EXIT_DONE)
        return code;
    code = send_input(stream);
    if (code == EXIT_DONE)
        code = commit(stream);
    if (code != EXIT_DONE)
        give_up(stream);
    return code;
}

/* A chunk fits into a frame, however much was asked for. */
static size_t chunk_bytes_max(const struct invocation *invocation)
{
    size_t frame_bytes =
        invocation->frame_max_bytes != 0 ? (size_t)invocation->frame_max_bytes : FRAME_BYTES_MAX;
    size_t room_bytes = frame_bytes - FRAME_BYTES_ELSE;
    return invocation->chunk_bytes < room_bytes ? invocation->chunk_bytes : room_bytes;
}

int command_run_stream(struct invocation *invocation)
{
    struct stream stream = {.invocation = invocation,
                            .thread = invocation->arguments.commit.thread};
    int code = command_connect(invocation, &stream.connection);
    if (code != EXIT_DONE)
        return code;
    if (!watch_signals(&stream)) {
        report_line("cannot make a pipe: %s", strerror(errno));
        rethread_close(stream.connection);
        return EXIT_SERVER;
    }
    stream.buffer_bytes = chunk_bytes_max(invocation);
    stream.buffer = keep_get(&invocation->keep, stream.buffer_bytes);
    code = run_on(&stream);
    unwatch_signals(&stream);
    rethread_close(stream.connection);
    if (stream.interrupted_by != 0) {
        report_line("interrupted: nothing of the step was kept");
        /* Whoever started the program sees what ended it, as a shell expects. */
        raise(stream.interrupted_by);
    }
    return code;
}
