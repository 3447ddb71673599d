/*
 * librethread: the C client of a rethread server.
 *
 * rethread keeps the hidden reasoning of model calls by conversation and gives it back exactly, or
 * says what is missing and why. This header is all a program needs; link with -lrethread.
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

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define RETHREAD_API __attribute__((visibility("default")))
#else
#define RETHREAD_API
#endif

/* The protocol that this library speaks. */
#define RETHREAD_PROTOCOL 1

/* The largest number of payloads in one request. */
#define RETHREAD_PAYLOADS_MAX 64

/* A connection. */
struct rethread;

/* One response of the server, decoded. */
struct rethread_result;

/* ---- Statuses ------------------------------------------------------------------------------ */

enum rethread_status {
    RETHREAD_OK = 0,

    /* What the server answered; rethread_result_error() has the details. */
    RETHREAD_BAD_REQUEST = 1, /* an option is unknown, missing, mistyped, out of range: `option` */
    RETHREAD_UNKNOWN_METHOD = 2,
    RETHREAD_TOO_LARGE = 3, /* also from the library: the request is above frame_max_bytes */
    RETHREAD_NOT_FOUND = 4, /* fork or rewind of a missing thread: `reason` */
    RETHREAD_CONFLICT = 5,  /* the thread is not as expected: `cause`, `version` */
    RETHREAD_UNAUTHORIZED = 6,
    RETHREAD_OVER_BUDGET = 7, /* no room, even after eviction */
    RETHREAD_READ_ONLY = 8,
    RETHREAD_BUSY = 9, /* nothing was done; try again */
    RETHREAD_SHUTTING_DOWN = 10,
    RETHREAD_INTERNAL = 11,
    RETHREAD_SERVER_ERROR = 99, /* a code that this library does not know: `code` */

    /* What the library met; there is no result. */
    RETHREAD_INVALID_ARGUMENT = 100,   /* NULL where it must not be, an address that is none ... */
    RETHREAD_NO_MEMORY = 101,          /* the connection stays usable */
    RETHREAD_UNRESOLVED = 102,         /* the host name has no address */
    RETHREAD_UNREACHABLE = 103,        /* connecting failed; errno says why */
    RETHREAD_TIMEOUT = 104,            /* time is up; the request may still take effect */
    RETHREAD_CLOSED = 105,             /* the connection ended before the response */
    RETHREAD_PROTOCOL_VIOLATION = 106, /* the peer sent what no rethread server sends */
    RETHREAD_FULL = 107,               /* outstanding_max or unsent_max_bytes: collect first */
    RETHREAD_IDLE = 108,               /* no such request is outstanding */
};

/* One sentence on what the status means. Static; never NULL. */
RETHREAD_API const char *rethread_strerror(enum rethread_status status);

/* The status as the contract spells it, "bad_request"; local ones likewise, "timeout". Static. */
RETHREAD_API const char *rethread_status_name(enum rethread_status status);

/* Why a thread or a step is not returned. */
enum rethread_reason {
    RETHREAD_REASON_NONE = 0,       /* nothing is missing */
    RETHREAD_REASON_NEVER_SEEN = 1, /* as far back as vouch_ms says */
    RETHREAD_REASON_EXPIRED = 2,
    RETHREAD_REASON_MAX_AGE = 3,
    RETHREAD_REASON_EVICTED = 4,
    RETHREAD_REASON_FORGOTTEN = 5,
    RETHREAD_REASON_REWOUND = 6,
    RETHREAD_REASON_CORRUPT = 7,
    RETHREAD_REASON_BUDGET = 8,    /* left out by max_bytes, max_tokens or the frame limit */
    RETHREAD_REASON_AMBIGUOUS = 9, /* several threads wrote the key; name the thread as well */
    RETHREAD_REASON_PREFIX_MISMATCH = 10, /* produced under another visible context */
    RETHREAD_REASON_MODEL_MISMATCH = 11,  /* the given model may not read it */
    RETHREAD_REASON_OTHER = 255,          /* one that this library does not know */
};

/* The reason as the contract spells it, "never_seen"; "" for NONE, "other" for OTHER. Static. */
RETHREAD_API const char *rethread_reason_name(enum rethread_reason reason);

enum rethread_method {
    RETHREAD_METHOD_OTHER = 0, /* sent by rethread_submit_raw() under a name of its own */
    RETHREAD_METHOD_HELLO = 1,
    RETHREAD_METHOD_PING = 2,
    RETHREAD_METHOD_APPEND = 3,
    RETHREAD_METHOD_REPLAY = 4,
    RETHREAD_METHOD_STAT = 5,
    RETHREAD_METHOD_TOUCH = 6,
    RETHREAD_METHOD_FORK = 7,
    RETHREAD_METHOD_REWIND = 8,
    RETHREAD_METHOD_FORGET = 9,
    RETHREAD_METHOD_LIST = 10,
    RETHREAD_METHOD_INFO = 11,
    RETHREAD_METHOD_BEGIN = 12,
    RETHREAD_METHOD_CHUNK = 13,
    RETHREAD_METHOD_COMMIT = 14,
    RETHREAD_METHOD_ABORT = 15,
};

/* The method as the contract spells it; "other" for OTHER. Static. */
RETHREAD_API const char *rethread_method_name(enum rethread_method method);

/* ---- Values -------------------------------------------------------------------------------- */

/* Bytes that somebody else owns; absent when data is NULL, present and empty when only size is 0.
 */
struct rethread_bytes {
    const void *data;
    size_t size;
};

struct rethread_u64 {
    bool set;
    uint64_t value;
};

struct rethread_i64 {
    bool set;
    int64_t value;
};

struct rethread_bool {
    bool set;
    bool value;
};

/* The bytes of a C string, without its NUL; absent for NULL. */
static inline struct rethread_bytes rethread_text(const char *text)
{
    struct rethread_bytes bytes = {text, text != NULL ? strlen(text) : 0};
    return bytes;
}

static inline struct rethread_u64 rethread_u64(uint64_t value)
{
    struct rethread_u64 number = {true, value};
    return number;
}

static inline struct rethread_i64 rethread_i64(int64_t value)
{
    struct rethread_i64 number = {true, value};
    return number;
}

static inline struct rethread_bool rethread_bool(bool value)
{
    struct rethread_bool flag = {true, value};
    return flag;
}

/* An array of ids; absent when items is NULL. */
struct rethread_ids {
    const struct rethread_bytes *items;
    size_t count;
};

enum rethread_kind {
    RETHREAD_KIND_TEXT = 0,   /* UTF-8 reasoning; nobody validates it */
    RETHREAD_KIND_TOKENS = 1, /* token ids as sampled, little-endian 32-bit */
    RETHREAD_KIND_OPAQUE = 2, /* a vendor's signed or encrypted block */
    RETHREAD_KIND_OTHER = 255 /* received only: one that this library does not know */
};

/* "text", "tokens", "opaque", "other". Static. */
RETHREAD_API const char *rethread_kind_name(enum rethread_kind kind);

struct rethread_segment {
    enum rethread_kind kind;
    struct rethread_bytes bytes; /* one byte or more */
};

struct rethread_segments {
    const struct rethread_segment *items;
    size_t count;
};

/* Where a step or a thread was found. */
enum rethread_tier {
    RETHREAD_TIER_MEMORY = 0,
    RETHREAD_TIER_DISK = 1,
    RETHREAD_TIER_OTHER = 255, /* one that this library does not know, or none was given */
};

/* "memory", "disk", "other". Static. */
RETHREAD_API const char *rethread_tier_name(enum rethread_tier tier);

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

/* ---- Options of the methods ---------------------------------------------------------------- */

struct rethread_hello_options {
    struct rethread_u64 protocol; /* the library speaks RETHREAD_PROTOCOL */
    struct rethread_bytes client; /* name and version of the caller, for the operator; UTF-8 */
    struct rethread_bytes token;  /* the credential */
};

enum rethread_ack {
    RETHREAD_ACK_DEFAULT = 0, /* not sent: memory */
    RETHREAD_ACK_MEMORY = 1,
    RETHREAD_ACK_DISK = 2, /* answered once the step survives a power loss */
};

struct rethread_append_options {
    struct rethread_bytes thread; /* required */
    struct rethread_u64 expect;   /* the version as the caller knows it; 0: must not exist */
    struct rethread_bytes key;    /* idempotency key, up to 64 bytes */
    struct rethread_bytes response_id;
    struct rethread_ids tool_calls;
    struct rethread_bytes model;
    struct rethread_u64 turn;   /* default: the previous step's, 0 at first */
    struct rethread_bool final; /* default: whether there are no tool calls */
    struct rethread_u64 tokens;
    struct rethread_bytes prefix;     /* 16 bytes */
    struct rethread_bytes visible;    /* 16 bytes: hash of the visible message, for weaving */
    struct rethread_u64 ttl_ms;       /* of the thread, from now on */
    struct rethread_u64 retention_ms; /* of the thread, from now on; 0: memory only, for good */

    /*
     * The trace: up to RETHREAD_PAYLOADS_MAX segments of one byte or more. A call that produced no
     * reasoning leaves a bare step, which has to be asked for: bare = true and no segments.
     */
    struct rethread_segments segments;
    bool bare;

    enum rethread_ack ack;
};

/* A streamed append: the thread's next step is taken, and a claim returned. */
struct rethread_begin_options {
    struct rethread_bytes thread; /* required */
    struct rethread_u64 expect;   /* as of an append, and judged at once */
    const char *segment;          /* kind of what the chunks bring: "text" (the default), ... */
};

struct rethread_chunk_options {
    struct rethread_bytes thread; /* required */
    struct rethread_u64 claim;    /* required */

    /* They concatenate to one segment. None: the claim is kept all the same. */
    const struct rethread_bytes *payloads;
    size_t payload_count;
};

/* As rethread_append_options; `segments` come behind what was streamed. */
struct rethread_commit_options {
    struct rethread_bytes thread; /* required */
    struct rethread_u64 claim;    /* required */
    struct rethread_u64 expect;
    struct rethread_bytes key;
    struct rethread_bytes response_id;
    struct rethread_ids tool_calls;
    struct rethread_bytes model;
    struct rethread_u64 turn;
    struct rethread_bool final;
    struct rethread_u64 tokens;
    struct rethread_bytes prefix;
    struct rethread_bytes visible;
    struct rethread_u64 ttl_ms;
    struct rethread_u64 retention_ms;
    struct rethread_segments segments;
    bool bare; /* nothing was streamed, and there are no segments */
    enum rethread_ack ack;
};

struct rethread_abort_options {
    struct rethread_bytes thread; /* required */
    struct rethread_u64 claim;    /* required */
};

/* Numbers of steps, strictly ascending; absent when items is NULL. */
struct rethread_steps {
    const uint64_t *items;
    size_t count;
};

/* What the caller holds: the steps 0 to step as of that version. */
struct rethread_have {
    bool set;
    uint64_t version;
    int64_t step;               /* -1: none */
    struct rethread_steps kept; /* those of them whose reasoning is in the model's context */
};

/* The caller's hash of the visible context before a step, as it is now. */
struct rethread_step_prefix {
    uint64_t step;
    struct rethread_bytes prefix; /* 16 bytes */
};

/* Absent when items is NULL. */
struct rethread_prefixes {
    const struct rethread_step_prefix *items;
    size_t count;
};

struct rethread_replay_options {
    /* The thread, or one of the step keys; beside a key the thread confines the search. */
    struct rethread_bytes thread;
    struct rethread_bytes response_id;
    struct rethread_bytes tool_call;
    struct rethread_ids prefix; /* 16 bytes each, newest first: the first that is known counts */

    /* "all" (the default), "none", "current_turn", "since_final", "tool_turns", "last_turns", or
     * "auto": what the model's profile says; or what later servers know. */
    const char *policy;
    struct rethread_u64 turn;          /* about to be generated; default: the thread's highest */
    struct rethread_u64 turns;         /* with "last_turns" */
    struct rethread_prefixes prefixes; /* as it is now: steps made under another are mismatches */
    const char *on_mismatch;           /* "drop" (the default) or "fail" */
    struct rethread_have have;
    struct rethread_u64 last;       /* only the newest n steps */
    struct rethread_u64 max_bytes;  /* only the newest whole steps whose payloads fit */
    struct rethread_u64 max_tokens; /* only the newest whole steps whose tokens fit */
    struct rethread_bytes model;    /* who will read it; what it may not read is MODEL_MISMATCH */
    struct rethread_bool pin;       /* what is dropped now stays dropped, see the README */
    struct rethread_bool touch;     /* default true: refresh the deadline */
};

struct rethread_stat_options {
    struct rethread_bytes thread; /* required */
};

struct rethread_touch_options {
    struct rethread_ids threads; /* required; items must not be NULL, even to touch none */
    struct rethread_u64 ttl_ms;  /* default: each thread's own */
};

struct rethread_fork_options {
    struct rethread_bytes thread; /* required: the new thread */
    struct rethread_bytes from;   /* required: the thread whose steps it shares */
    struct rethread_u64 at;       /* the last step to share; default: the newest */
};

struct rethread_rewind_options {
    struct rethread_bytes thread; /* required */
    struct rethread_i64 to;       /* required: the last step to keep, -1 for none */
};

struct rethread_forget_options {
    struct rethread_bytes thread; /* required */
};

struct rethread_list_options {
    struct rethread_bytes starts_with;
    struct rethread_bytes cursor; /* of the page before */
    struct rethread_u64 limit;    /* default 100 */
};

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

/* ---- Results ------------------------------------------------------------------------------- */

/* Frees a result and all it owns. NULL is fine. */
RETHREAD_API void rethread_result_free(struct rethread_result *result);

/* RETHREAD_OK or the server's error code, as the call that returned it said. */
RETHREAD_API enum rethread_status rethread_result_status(const struct rethread_result *result);

/* The method that it answers. */
RETHREAD_API enum rethread_method rethread_result_method(const struct rethread_result *result);

/* An error of the server. Texts end in NUL and are NULL when absent. */
struct rethread_error {
    enum rethread_status status;
    const char *code;
    const char *message;
    const char *option;          /* BAD_REQUEST: the option at fault */
    const char *cause;           /* CONFLICT: "version", "key", "exists" or "claimed" */
    struct rethread_u64 version; /* CONFLICT: the thread's version now */
    enum rethread_reason reason; /* NOT_FOUND: why it is not there */
};

/* NULL when the result is RETHREAD_OK. */
RETHREAD_API const struct rethread_error *
rethread_result_error(const struct rethread_result *result);

/*
 * The error that the server sent about the connection as a whole (a frame it could not take, say)
 * before it closed it; NULL when there was none. Owned by the connection.
 */
RETHREAD_API const struct rethread_error *
rethread_connection_error(const struct rethread *connection);

struct rethread_hello_result {
    uint64_t protocol;
    struct rethread_bytes server;  /* the server's name; UTF-8 */
    struct rethread_bytes version; /* the server's version; UTF-8 */
    struct rethread_bytes tenant;
    struct rethread_u64 frame_max; /* bytes */
};

struct rethread_append_result {
    struct rethread_bytes thread;
    uint64_t step;    /* its number */
    uint64_t version; /* that committed it */
    bool created;     /* the thread did not exist before */
    bool duplicate;   /* the key was known: this is the first append's result */
    uint64_t lost;    /* earlier steps of the thread that are gone */
    struct rethread_u64 expires_in_ms;
};

enum rethread_completeness {
    RETHREAD_COMPLETE = 0,
    /* Something is missing, and every such step says so; but for those below what a caller with
     * have.kept holds, which are not among it and cannot be given. */
    RETHREAD_PARTIAL = 1,
    RETHREAD_MISS = 2, /* nothing was found; `reason` says why */
};

/* "complete", "partial", "miss". Static. */
RETHREAD_API const char *rethread_completeness_name(enum rethread_completeness completeness);

struct rethread_step {
    uint64_t step;
    enum rethread_reason missing; /* if not NONE, only `step` and this hold */
    uint64_t turn;
    bool final;
    struct rethread_bytes model;
    struct rethread_bytes response_id;
    struct rethread_ids tool_calls;
    struct rethread_u64 tokens;
    struct rethread_bytes visible;     /* hash of the visible message; absent when not recorded */
    struct rethread_segments segments; /* in order; none in a bare step */
    enum rethread_tier source;
};

struct rethread_replay_result {
    enum rethread_completeness status;
    enum rethread_reason reason;
    struct rethread_u64 vouch_ms; /* NEVER_SEEN: how far back the server can tell */
    struct rethread_bytes thread;
    struct rethread_u64 version;
    struct rethread_u64 head;      /* number of the thread's last step; unset when it has none */
    bool ambiguous;                /* found by a prefix that several threads wrote: the newest */
    struct rethread_u64 found;     /* with several prefixes: which of them was found, from 0 */
    bool in_flight;                /* a step is being streamed into the thread */
    struct rethread_u64 kept_from; /* with a policy or pin: the first step not left out, */
    struct rethread_u64 dropped;   /* and how many were */
    struct rethread_bool extends;  /* with have.kept: whether the kept reasoning extends it */
    struct rethread_u64 first_changed; /* with `have`: the first step held that was replaced */
    const struct rethread_step *steps;
    size_t step_count;
    struct rethread_u64 expires_in_ms;
};

struct rethread_stat_result {
    enum rethread_completeness status;
    enum rethread_reason reason;
    struct rethread_u64 vouch_ms;
    struct rethread_u64 version;
    struct rethread_u64 step_count;
    struct rethread_u64 bytes;
    struct rethread_u64 tokens;
    struct rethread_u64 age_ms;
    struct rethread_u64 idle_ms;
    struct rethread_u64 expires_in_ms;
    enum rethread_tier tier;
    bool in_flight;            /* a step is being streamed into the thread */
    struct rethread_u64 floor; /* replays with pin leave out the steps below it */
};

struct rethread_begin_result {
    struct rethread_bytes thread;
    uint64_t step; /* the number that was taken */
    uint64_t version;
    uint64_t claim;
    uint64_t claim_expires_in_ms;
};

struct rethread_chunk_result {
    uint64_t bytes; /* of the step so far */
    uint64_t claim_expires_in_ms;
};

struct rethread_abort_result {
    bool aborted;
};

struct rethread_missing_thread {
    struct rethread_bytes thread;
    enum rethread_reason reason;
};

struct rethread_touch_result {
    uint64_t touched;
    const struct rethread_missing_thread *missing;
    size_t missing_count;
};

struct rethread_fork_result {
    struct rethread_bytes thread;
    uint64_t version;
};

struct rethread_rewind_result {
    uint64_t version;
    uint64_t dropped;
};

struct rethread_forget_result {
    bool forgotten; /* false: there was nothing to forget */
};

struct rethread_listed_thread {
    struct rethread_bytes thread;
    uint64_t version;
    uint64_t bytes;
    uint64_t idle_ms;
    enum rethread_tier tier;
};

struct rethread_list_result {
    const struct rethread_listed_thread *threads;
    size_t thread_count;
    struct rethread_bytes cursor; /* of the next page; absent or empty: this was the last */
};

struct rethread_metric {
    const char *section; /* ends in NUL, as name does */
    const char *name;
    uint64_t value;
};

struct rethread_info_result {
    const struct rethread_metric *metrics; /* in the order received, section by section */
    size_t metric_count;
};

/*
 * What a result says, by method; NULL when it answers another method or is an error. Owned by the
 * result. Fields that the library does not know are passed over; the raw bytes have them.
 */
RETHREAD_API const struct rethread_hello_result *
rethread_result_hello(const struct rethread_result *result);
RETHREAD_API const struct rethread_append_result *
rethread_result_append(const struct rethread_result *result);
RETHREAD_API const struct rethread_replay_result *
rethread_result_replay(const struct rethread_result *result);
RETHREAD_API const struct rethread_stat_result *
rethread_result_stat(const struct rethread_result *result);
RETHREAD_API const struct rethread_touch_result *
rethread_result_touch(const struct rethread_result *result);
RETHREAD_API const struct rethread_fork_result *
rethread_result_fork(const struct rethread_result *result);
RETHREAD_API const struct rethread_rewind_result *
rethread_result_rewind(const struct rethread_result *result);
RETHREAD_API const struct rethread_forget_result *
rethread_result_forget(const struct rethread_result *result);
RETHREAD_API const struct rethread_list_result *
rethread_result_list(const struct rethread_result *result);
RETHREAD_API const struct rethread_info_result *
rethread_result_info(const struct rethread_result *result);
RETHREAD_API const struct rethread_begin_result *
rethread_result_begin(const struct rethread_result *result);
RETHREAD_API const struct rethread_chunk_result *
rethread_result_chunk(const struct rethread_result *result);
RETHREAD_API const struct rethread_append_result *
rethread_result_commit(const struct rethread_result *result);
RETHREAD_API const struct rethread_abort_result *
rethread_result_abort(const struct rethread_result *result);

/*
 * The response as it came: the whole MessagePack array, the map in it (the result's or the
 * error's), and the payloads. They have been walked: well-formed, at most 8 levels deep, with no
 * more elements than bytes, so that a MessagePack library may be trusted with them.
 */
RETHREAD_API struct rethread_bytes rethread_result_raw(const struct rethread_result *result);
RETHREAD_API struct rethread_bytes rethread_result_map(const struct rethread_result *result);
RETHREAD_API size_t rethread_result_payload_count(const struct rethread_result *result);
RETHREAD_API struct rethread_bytes rethread_result_payload(const struct rethread_result *result,
                                                           size_t index);

#ifdef __cplusplus
}
#endif

#endif
