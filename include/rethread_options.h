/*
 * librethread: the options of each method. Whatever is left zero is not sent, and the server's
 * default holds. Programs include rethread.h, which has the manual.
 */
#ifndef RETHREAD_OPTIONS_H
#define RETHREAD_OPTIONS_H

#include "rethread_values.h"

#ifdef __cplusplus
extern "C" {
#endif

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
#ifdef __cplusplus
}
#endif

#endif
