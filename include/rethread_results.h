/*
 * librethread: what the server's responses say. A result is owned by who received it, and owns all
 * that its accessors point to. Programs include rethread.h, which has the manual.
 */
#ifndef RETHREAD_RESULTS_H
#define RETHREAD_RESULTS_H

#include "rethread_values.h"

#ifdef __cplusplus
extern "C" {
#endif

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
    uint64_t lost;    /* steps lost while the thread was gone */
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
