/*
 * The log: one logfmt line per event on stderr, from any operating-system thread.
 *
 *     time=2026-11-21T18:35:00.123Z level=info event=listening address=127.0.0.1:7411
 *
 * Hidden stays hidden by construction: a field is a number, the name of an errno, or text that the
 * program or its operator wrote (literals, schema names, addresses, paths of settings). Nothing
 * here takes a struct bytes or a length beside a pointer, so what a client sent cannot be printed.
 *
 * A line is one write(2), at most LOG_LINE_BYTES_MAX; what would not fit is cut at a field, and
 * the line ends in cut=true. A line that cannot be written is lost: the log never makes the server
 * fail, though a reader of a stderr pipe that stops reading holds up whoever logs. Use a log_limit
 * for every line that a client can cause.
 */
#ifndef RETHREAD_BASE_LOG_H
#define RETHREAD_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { LOG_LINE_BYTES_MAX = 1024 };

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_LEVEL_COUNT };

enum log_kind { LOG_KIND_END, LOG_KIND_U64, LOG_KIND_I64, LOG_KIND_TEXT, LOG_KIND_ERRNO };

struct log_field {
    enum log_kind kind;
    const char *name; /* lower-case words with underscores, unit last */
    union {
        uint64_t u64;
        int64_t i64;
        const char *text; /* never what a client sent; quoted and escaped as needed */
    } value;
};

#define LOG_U64(field, number)                                                                     \
    ((struct log_field){.kind = LOG_KIND_U64, .name = (field), .value.u64 = (number)})
#define LOG_I64(field, number)                                                                     \
    ((struct log_field){.kind = LOG_KIND_I64, .name = (field), .value.i64 = (number)})
#define LOG_TEXT(field, words)                                                                     \
    ((struct log_field){.kind = LOG_KIND_TEXT, .name = (field), .value.text = (words)})
/* An errno by its symbol: error=EMFILE. */
#define LOG_ERRNO(field, number)                                                                   \
    ((struct log_field){.kind = LOG_KIND_ERRNO, .name = (field), .value.i64 = (number)})
#define LOG_END ((struct log_field){.kind = LOG_KIND_END})

/* log_write(LOG_INFO, "listening", LOG_TEXT("address", text), LOG_END): the last one is LOG_END. */
#define log_write(level, event, ...) log_line((level), (event), (struct log_field[]){__VA_ARGS__})

/* `event` is one word in lower case; `fields` end in LOG_END. Keeps errno. */
void log_line(enum log_level level, const char *event, const struct log_field *fields);

/*
 * What is less urgent than `level` is dropped; lines go to `fd`. The start is LOG_INFO and stderr.
 * The two are the only state: atomic, so that a line may be under way meanwhile.
 */
void log_open(int fd, enum log_level level);
bool log_enabled(enum log_level level);

const char *log_level_name(enum log_level level);

/*
 * Lets through `per_second` lines of a kind in each second. Zero-initialised it is ready; shared by
 * all that log this kind. Lock-free.
 */
struct log_limit {
    _Atomic uint64_t state; /* second << 32 | lines asked for in it */
};

/*
 * True: log it, with *suppressed, the number of lines held back since the last time a line was let
 * through in an earlier second.
 */
bool log_allowed(struct log_limit *limit, uint32_t per_second, uint64_t now_ms,
                 uint64_t *suppressed);

#endif
