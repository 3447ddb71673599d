/*
 * Composes a line on the stack and writes it at once. The output and the level are the module's
 * only state.
 */
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic int output_fd = STDERR_FILENO;
static _Atomic int level_max = LOG_INFO;

/* Room kept free at the end for what marks a cut line. */
static const char cut_mark[] = " cut=true\n";

struct line {
    char text[LOG_LINE_BYTES_MAX];
    size_t size;
    bool cut;
};

const char *log_level_name(enum log_level level)
{
    static const char *const names[LOG_LEVEL_COUNT] = {"error", "warn", "info", "debug"};
    assert((unsigned)level < LOG_LEVEL_COUNT);
    return names[level];
}

void log_open(int fd, enum log_level level)
{
    /* Both pair with the loads in log_enabled and log_line: plain settings, nothing follows. */
    atomic_store_explicit(&output_fd, fd, memory_order_relaxed);
    atomic_store_explicit(&level_max, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&level_max, memory_order_relaxed);
}

static void put_char(struct line *line, char c)
{
    if (line->size < sizeof line->text - (sizeof cut_mark - 1)) {
        line->text[line->size++] = c;
    } else {
        line->cut = true;
    }
}

static void put_plain(struct line *line, const char *text)
{
    while (*text) {
        put_char(line, *text++);
    }
}

static bool needs_quotes(const char *text)
{
    if (!*text) {
        return true;
    }
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\') {
            return true;
        }
    }
    return false;
}

static void put_quoted(struct line *line, const char *text)
{
    static const char digits[] = "0123456789abcdef";
    put_char(line, '"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            put_char(line, '\\');
            put_char(line, (char)c);
        } else if (c < ' ' || c >= 0x7f) {
            put_plain(line, "\\x");
            put_char(line, digits[c >> 4]);
            put_char(line, digits[c & 15]);
        } else {
            put_char(line, (char)c);
        }
    }
    put_char(line, '"');
}

static void put_text(struct line *line, const char *text)
{
    if (needs_quotes(text)) {
        put_quoted(line, text);
    } else {
        put_plain(line, text);
    }
}

static void put_field(struct line *line, const struct log_field *field)
{
    char number[24];
    put_char(line, ' ');
    put_plain(line, field->name);
    put_char(line, '=');
    switch (field->kind) {
    case LOG_KIND_U64:
        snprintf(number, sizeof number, "%" PRIu64, field->value.u64);
        put_plain(line, number);
        break;
    case LOG_KIND_I64:
        snprintf(number, sizeof number, "%" PRId64, field->value.i64);
        put_plain(line, number);
        break;
    case LOG_KIND_TEXT:
        put_text(line, field->value.text ? field->value.text : "");
        break;
    case LOG_KIND_ERRNO: {
        const char *symbol = strerrorname_np((int)field->value.i64);
        put_text(line, symbol ? symbol : "unknown");
        break;
    }
    case LOG_KIND_END:
        assert(false); /* the caller stops at LOG_END */
    }
}

static void put_time(struct line *line)
{
    struct timespec now;
    struct tm utc;
    char text[64];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t size = strftime(text, sizeof text, "time=%Y-%m-%dT%H:%M:%S", &utc);
    assert(size > 0);
    snprintf(text + size, sizeof text - size, ".%03dZ", (int)(now.tv_nsec / 1000000));
    put_plain(line, text);
}

void log_line(enum log_level level, const char *event, const struct log_field *fields)
{
    if (!log_enabled(level)) {
        return;
    }
    int kept_errno = errno;
    struct line line = {.size = 0};
    put_time(&line);
    put_plain(&line, " level=");
    put_plain(&line, log_level_name(level));
    put_plain(&line, " event=");
    put_text(&line, event);
    for (; fields->kind != LOG_KIND_END; fields++) {
        size_t whole = line.size;
        put_field(&line, fields);
        if (line.cut) {
            line.size = whole;
            break;
        }
    }
    const char *end = line.cut ? cut_mark : "\n";
    memcpy(line.text + line.size, end, strlen(end));
    line.size += strlen(end);
    assert(line.size <= sizeof line.text);

    int fd = atomic_load_explicit(&output_fd, memory_order_relaxed);
    ssize_t written;
    do {
        written = write(fd, line.text, line.size);
    } while (written < 0 && errno == EINTR);
    errno = kept_errno;
}

bool log_allowed(struct log_limit *limit, uint32_t per_second, uint64_t now_ms,
                 uint64_t *suppressed)
{
    uint64_t second = now_ms / 1000 & UINT32_MAX;
    /* Load and exchange pair with those of the other callers: the word is all that is shared. */
    uint64_t state = atomic_load_explicit(&limit->state, memory_order_relaxed);
    for (;;) {
        uint64_t asked = state & UINT32_MAX;
        bool same = state >> 32 == second;
        uint64_t next = same ? state + (asked < UINT32_MAX) : second << 32 | 1;
        *suppressed = !same && asked > per_second ? asked - per_second : 0;
        if (atomic_compare_exchange_weak_explicit(&limit->state, &state, next, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            return !same || asked < per_second;
        }
    }
}
