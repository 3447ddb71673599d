/*
 * librethread: the C client of a rethread server.
 *
 * rethread keeps the hidden reasoning of model calls by conversation and gives it back exactly, or
 * says what is missing and why. This header is all a program needs to include (it brings the
 * values, options and results, each in a header of its own); link with -lrethread.
 *
 *     struct rethread *connection;
 *     struct rethread_connect_options where = {.address = "127.0.0.1:7411"};
 *     if (rethread_connect(&where, &connection) != RETHREAD_OK)
 *         ...
 *     struct rethread_segment trace = {.bytes = rethread_text("The user wants ...")};
 *     struct rethread_append_options append = {
 *         .thread = rethread_text("conversation-17"),
 *         .segments = {&trace, 1},
 *     };
 *     enum rethread_status status = rethread_append(connection, &append, NULL);
 *
 *     struct rethread_replay_options replay = {.thread = rethread_text("conversation-17")};
 *     struct rethread_result *result;
 *     status = rethread_replay(connection, &replay, &result);
 *     if (status == RETHREAD_OK)
 *         use(rethread_result_replay(result));
 *     rethread_result_free(result);
 *     rethread_close(connection);
 *
 * WORDS. A *thread* is a conversation, named by 1 to 255 bytes of the caller's choice. A *step* is
 * what one model call left in it; its number is its position, from 0. A *segment* is one piece of a
 * step's trace. A thread's *version* grows with each append and each rewind.
 *
 * UNITS. Times are milliseconds and end in _ms; sizes are bytes.
 *
 * OPTIONS. Every method has a struct of options, made to be written with designated initialisers:
 * whatever is left zero is not sent, and the server's default holds; a NULL struct sends nothing.
 * Bytes are absent when their data is NULL; numbers and flags are present when `set`, as
 * rethread_u64(), rethread_i64() and rethread_bool() make them. The server judges the options, not
 * the library: a required one left out, or a value out of range, comes back as RETHREAD_BAD_REQUEST
 * naming it.
 *
 * OWNERSHIP. Options are borrowed for the duration of the call only. A result is owned by who
 * received it and freed by rethread_result_free(); it owns every byte that its accessors point to,
 * and outlives the connection it came from. Calls that take a `struct rethread_result **` set it to
 * a result when the server answered, be it with an error, and to NULL otherwise; the caller may
 * pass NULL when only the status matters.
 *
 * ERRORS. A miss is no error: a replay of a thread that is gone is RETHREAD_OK with the
 * completeness RETHREAD_MISS and a reason. After RETHREAD_CLOSED or RETHREAD_PROTOCOL_VIOLATION the
 * connection is of no more use: close it and connect again; responses that came before can still be
 * collected.
 *
 * CONCURRENCY. The library has no global state and starts nothing in the background. A connection
 * belongs to one operating-system thread at a time; different connections are independent. A result
 * never changes: any number of operating-system threads may read it at once. No call raises
 * SIGPIPE. Nothing is logged, and no error text ever holds bytes of a trace or a thread ID.
 */
#ifndef RETHREAD_H
#define RETHREAD_H

#include "rethread_options.h"
#include "rethread_results.h"
#include "rethread_values.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Connections --------------------------------------------------------------------------- */

struct rethread_connect_options {
    /*
     * "host:port", "[IPv6]:port" or "unix:/path"; NULL means "127.0.0.1:7411". A host is a numeric
     * address or a name; all its addresses are tried in the resolver's order.
     */
    const char *address;

    /*
     * For all attempts together; 0 means 5,000, below 0 no limit. Looking up a name is up to the
     * system's resolver, which knows no deadline: give a numeric address where that matters.
     */
    int connect_timeout_ms;

    /* For each synchronous call; 0 means 30,000, below 0 no limit. */
    int call_timeout_ms;

    /*
     * The largest frame sent or taken; 0 means 64 MiB. To be raised together with the server's
     * --frame-max. Memory grows with the bytes that arrive, never with what the peer declares.
     */
    size_t frame_max_bytes;

    /* Requests submitted and not collected, or abandoned and not answered; 0 means 65,536. */
    size_t outstanding_max;

    /* Bytes submitted and not yet sent; 0 means 128 MiB. One frame is always accepted. */
    size_t unsent_max_bytes;
};

/*
 * Connects, and sets *connection, or NULL on failure. `options` may be NULL.
 * Errors: INVALID_ARGUMENT, NO_MEMORY, UNRESOLVED, UNREACHABLE, TIMEOUT.
 * No request is sent: say rethread_hello() if the server's answer to it is of interest.
 */
RETHREAD_API enum rethread_status rethread_connect(const struct rethread_connect_options *options,
                                                   struct rethread **connection);

/*
 * The same over a stream socket that is connected already, for callers that connect in their own
 * way; address and connect_timeout_ms are not looked at. On RETHREAD_OK the connection owns the
 * descriptor and has made it non-blocking; on failure it is still the caller's, as it was.
 */
RETHREAD_API enum rethread_status rethread_attach(int fd,
                                                  const struct rethread_connect_options *options,
                                                  struct rethread **connection);

/*
 * Closes at once, without waiting: requests not yet answered may or may not take effect. Frees the
 * connection and the responses that nobody collected, not the results handed out. NULL is fine.
 */
RETHREAD_API void rethread_close(struct rethread *connection);
/* ---- Synchronous calls --------------------------------------------------------------------- */

/*
 * Each sends one request and waits for its response, for call_timeout_ms. Payloads are sent from
 * where they lie. Responses to requests submitted earlier that arrive meanwhile are kept
 * for rethread_collect() and rethread_next().
 *
 * Returns RETHREAD_OK, the server's error code, or INVALID_ARGUMENT, NO_MEMORY, TOO_LARGE, FULL,
 * TIMEOUT, CLOSED, PROTOCOL_VIOLATION. After a TIMEOUT the request may yet take effect; its
 * response is dropped when it comes, and the connection stays usable. (An append with a `key` can
 * be sent again safely.)
 */
RETHREAD_API enum rethread_status rethread_hello(struct rethread *connection,
                                                 const struct rethread_hello_options *options,
                                                 struct rethread_result **result);
RETHREAD_API enum rethread_status rethread_ping(struct rethread *connection,
                                                struct rethread_result **result);
RETHREAD_API enum rethread_status rethread_append(struct rethread *connection,
                                                  const struct rethread_append_options *options,
                                                  struct rethread_result **result);
RETHREAD_API enum rethread_status rethread_replay(struct rethread *connection,
                                                  const struct rethread_replay_options *options,
                                                  struct rethread_result **result);
RETHREAD_API enum rethread_status rethread_stat(struct rethread *connection,
                                                const struct rethread_stat_options *options,
                                                struct rethread_result **result);
RETHREAD_API enum rethread_status rethread_touch(struct rethread *connection,
                                                 const struct rethread_touch_options *options,
                                                 struct rethread_result **result);
RETHREAD_API enum rethread_status rethread_fork(struct rethread *connection,
                                                const struct rethread_fork_options *options,
                                                struct rethread_result **result);
RETHREAD_API enum rethread_status rethread_rewind(struct rethread *connection,
                                                  const struct rethread_rewind_options *options,
                                                  struct rethread_result **result);
RETHREAD_API enum rethread_status rethread_forget(struct rethread *connection,
                                                  const struct rethread_forget_options *options,
                                                  struct rethread_result **result);
RETHREAD_API enum rethread_status rethread_list(struct rethread *connection,
                                                const struct rethread_list_options *options,
                                                struct rethread_result **result);
RETHREAD_API enum rethread_status rethread_info(struct rethread *connection,
                                                struct rethread_result **result);
RETHREAD_API enum rethread_status rethread_begin(struct rethread *connection,
                                                 const struct rethread_begin_options *options,
                                                 struct rethread_result **result);
RETHREAD_API enum rethread_status rethread_chunk(struct rethread *connection,
                                                 const struct rethread_chunk_options *options,
                                                 struct rethread_result **result);
RETHREAD_API enum rethread_status rethread_commit(struct rethread *connection,
                                                  const struct rethread_commit_options *options,
                                                  struct rethread_result **result);
RETHREAD_API enum rethread_status rethread_abort(struct rethread *connection,
                                                 const struct rethread_abort_options *options,
                                                 struct rethread_result **result);

/*
 * Any method, with options as the MessagePack map that they are on the wire. The bytes are checked
 * to be exactly one map, no more; the rest is the server's judgement. Results of known methods are
 * decoded as usual. `payloads` may be NULL when payload_count is 0.
 */
RETHREAD_API enum rethread_status rethread_call_raw(struct rethread *connection, const char *method,
                                                    struct rethread_bytes options,
                                                    const struct rethread_bytes *payloads,
                                                    size_t payload_count,
                                                    struct rethread_result **result);

/* ---- Pipelining ---------------------------------------------------------------------------- */

/*
 * Each queues one request, its payloads copied, and sets *msgid to what identifies its response.
 * Never blocks and sends nothing by itself: collect, next, pump and the synchronous calls do.
 * Requests are sent in the order submitted; those on the same thread take effect in that order,
 * while responses may come in any. Errors: INVALID_ARGUMENT, NO_MEMORY, TOO_LARGE, FULL, CLOSED,
 * PROTOCOL_VIOLATION; nothing is queued then.
 */
RETHREAD_API enum rethread_status
rethread_submit_hello(struct rethread *connection, const struct rethread_hello_options *options,
                      uint32_t *msgid);
RETHREAD_API enum rethread_status rethread_submit_ping(struct rethread *connection,
                                                       uint32_t *msgid);
RETHREAD_API enum rethread_status
rethread_submit_append(struct rethread *connection, const struct rethread_append_options *options,
                       uint32_t *msgid);
RETHREAD_API enum rethread_status
rethread_submit_replay(struct rethread *connection, const struct rethread_replay_options *options,
                       uint32_t *msgid);
RETHREAD_API enum rethread_status rethread_submit_stat(struct rethread *connection,
                                                       const struct rethread_stat_options *options,
                                                       uint32_t *msgid);
RETHREAD_API enum rethread_status
rethread_submit_touch(struct rethread *connection, const struct rethread_touch_options *options,
                      uint32_t *msgid);
RETHREAD_API enum rethread_status rethread_submit_fork(struct rethread *connection,
                                                       const struct rethread_fork_options *options,
                                                       uint32_t *msgid);
RETHREAD_API enum rethread_status
rethread_submit_rewind(struct rethread *connection, const struct rethread_rewind_options *options,
                       uint32_t *msgid);
RETHREAD_API enum rethread_status
rethread_submit_forget(struct rethread *connection, const struct rethread_forget_options *options,
                       uint32_t *msgid);
RETHREAD_API enum rethread_status rethread_submit_list(struct rethread *connection,
                                                       const struct rethread_list_options *options,
                                                       uint32_t *msgid);
RETHREAD_API enum rethread_status rethread_submit_info(struct rethread *connection,
                                                       uint32_t *msgid);
RETHREAD_API enum rethread_status
rethread_submit_begin(struct rethread *connection, const struct rethread_begin_options *options,
                      uint32_t *msgid);
RETHREAD_API enum rethread_status
rethread_submit_chunk(struct rethread *connection, const struct rethread_chunk_options *options,
                      uint32_t *msgid);
RETHREAD_API enum rethread_status
rethread_submit_commit(struct rethread *connection, const struct rethread_commit_options *options,
                       uint32_t *msgid);
RETHREAD_API enum rethread_status
rethread_submit_abort(struct rethread *connection, const struct rethread_abort_options *options,
                      uint32_t *msgid);
RETHREAD_API enum rethread_status
rethread_submit_raw(struct rethread *connection, const char *method, struct rethread_bytes options,
                    const struct rethread_bytes *payloads, size_t payload_count, uint32_t *msgid);

/*
 * Waits for the response to one request, sending what is queued. timeout_ms: 0 looks at what has
 * arrived and goes, below 0 waits without limit. Returns what the synchronous calls return. After
 * TIMEOUT and NO_MEMORY the request stays outstanding; after any other status its msgid is done
 * with. IDLE: no such request is outstanding (never submitted, collected before, or abandoned).
 */
RETHREAD_API enum rethread_status rethread_collect(struct rethread *connection, uint32_t msgid,
                                                   int timeout_ms, struct rethread_result **result);

/*
 * The same for whichever response comes first, in the order of arrival; *msgid says which (it is
 * left alone by TIMEOUT and IDLE). Once the connection has ended, each request without a response
 * is reported in turn as CLOSED or PROTOCOL_VIOLATION, then IDLE: nothing is outstanding.
 */
RETHREAD_API enum rethread_status rethread_next(struct rethread *connection, int timeout_ms,
                                                uint32_t *msgid, struct rethread_result **result);

/* Gives a request up: its response is dropped when it comes. The request itself is not undone. */
RETHREAD_API void rethread_abandon(struct rethread *connection, uint32_t msgid);

/* Requests submitted and neither collected nor abandoned. */
RETHREAD_API size_t rethread_outstanding(const struct rethread *connection);

/* ---- For callers with an event loop -------------------------------------------------------- */

/*
 * Watch rethread_fd() for what rethread_wants() asks (ask again after each submit and each pump);
 * when it is ready call rethread_pump(); then take the responses with rethread_next(..., 0, ...).
 * None of these ever blocks. Deadlines are the loop's own: rethread_abandon() ends a wait.
 */
enum rethread_event {
    RETHREAD_READ = 1,
    RETHREAD_WRITE = 2,
};

/* The socket, for watching only; it is the connection's. */
RETHREAD_API int rethread_fd(const struct rethread *connection);

/* A set of enum rethread_event: READ while the connection lives, WRITE while bytes are unsent. */
RETHREAD_API int rethread_wants(const struct rethread *connection);

/*
 * Sends and receives what can be without waiting; `ready` is a set of enum rethread_event. Reads a
 * bounded amount per call, so that one connection cannot hold up a loop; level-triggered watching
 * brings the rest. Returns OK, or why the connection is of no more use: CLOSED,
 * PROTOCOL_VIOLATION; NO_MEMORY leaves it usable.
 */
RETHREAD_API enum rethread_status rethread_pump(struct rethread *connection, int ready);
#ifdef __cplusplus
}
#endif

#endif
