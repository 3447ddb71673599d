/*
 * librethread: statuses, reasons, methods and the values that options and results are made of.
 * Programs include rethread.h, which has the manual.
 */
#ifndef RETHREAD_VALUES_H
#define RETHREAD_VALUES_H

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
#ifdef __cplusplus
}
#endif

#endif
