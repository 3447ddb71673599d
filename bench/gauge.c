/* Asks servers what they hold; see gauge.h. Owns its connection, touches nothing else. */
#include "bench/gauge.h"

#include "base/bytes.h"
#include "wire/cursor.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FRAME_MARK = 0xce, FRAME_HEAD = 5, PATIENCE_MS = 10000, NUMBER_BYTES = 24 };

struct question {
    const char *text;
    size_t size;
};

#define QUESTION(literal)                                                                          \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

static const struct question questions[] = {
    [GAUGE_RETHREAD] = QUESTION("\xce\x00\x00\x00\x0a\x94\x00\x01\xa4"
                                "info"
                                "\x91\x80"),
    [GAUGE_REDIS] = QUESTION("DBSIZE\r\nINFO memory\r\n"),
    [GAUGE_MEMCACHED] = QUESTION("stats\r\n"),
};

enum gauge_kind gauge_kind_of(const char *name)
{
    return strncmp(name, "redis", 5) == 0   ? GAUGE_REDIS
           : strcmp(name, "memcached") == 0 ? GAUGE_MEMCACHED
                                            : GAUGE_RETHREAD;
}

/* ---- rethread ----------------------------------------------------------------------------------
 */

struct row {
    const char *section;
    const char *name;
    size_t offset;
};

#define AT(member) offsetof(struct gauge_reading, member)

static const struct row rows[] = {
    {"threads", "live", AT(keys)},
    {"memory", "payload_bytes", AT(held_bytes)},
    {"memory", "used_bytes", AT(accounted_bytes)},
    {"memory", "stock_bytes", AT(stock_bytes)},
    {"disk", "batches", AT(disk_batches)},
    {"disk", "changes", AT(disk_changes)},
    {"disk", "batch_bytes", AT(disk_batch_bytes)},
    {"disk", "flush_us", AT(disk_flush_us)},
    {"disk", "lag_bytes", AT(disk_lag_bytes)},
};

static bool is_text(const struct wire_item *item, const char *text)
{
    size_t size = strlen(text);
    return item->type == WIRE_ITEM_STR && item->bytes.size == size &&
           memcmp(item->bytes.data, text, size) == 0;
}

static void keep(struct gauge_reading *reading, const struct wire_item *section,
                 const struct wire_item *name, uint64_t number)
{
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (is_text(section, rows[i].section) && is_text(name, rows[i].name)) {
            memcpy((char *)reading + rows[i].offset, &number, sizeof number);
        }
    }
}

static bool take_sections(struct wire_cursor *cursor, uint32_t count, struct gauge_reading *reading)
{
    for (; count > 0; count--) {
        struct wire_item section;
        struct wire_item map;
        if (!wire_take(cursor, &section) || !wire_take(cursor, &map) || map.type != WIRE_ITEM_MAP) {
            return false;
        }
        for (uint32_t pairs = map.count; pairs > 0; pairs--) {
            struct wire_item name;
            struct wire_item number;
            if (!wire_take(cursor, &name) || !wire_take(cursor, &number) ||
                number.type != WIRE_ITEM_UINT) {
                return false;
            }
            keep(reading, &section, &name, number.number);
        }
    }
    return true;
}

/* [1, msgid, nil, [{section: {name: number}}]] */
static bool take_info(struct bytes bytes, struct gauge_reading *reading)
{
    struct wire_cursor cursor = wire_cursor_on(bytes);
    struct wire_item item[6];
    for (unsigned i = 0; i < sizeof item / sizeof *item; i++) {
        if (!wire_take(&cursor, &item[i])) {
            return false;
        }
    }
    return item[0].type == WIRE_ITEM_ARRAY && item[0].count == 4 &&
           item[1].type == WIRE_ITEM_UINT && item[1].number == 1 && item[3].type == WIRE_ITEM_NIL &&
           item[4].type == WIRE_ITEM_ARRAY && item[5].type == WIRE_ITEM_MAP &&
           take_sections(&cursor, item[5].count, reading) && wire_left(&cursor) == 0;
}

static size_t parse_info(const uint8_t *in, size_t size, struct gauge_reading *reading)
{
    if (size > 0 && in[0] != FRAME_MARK) {
        return GAUGE_BROKEN;
    }
    if (size < FRAME_HEAD) {
        return 0;
    }
    size_t whole = FRAME_HEAD + (size_t)bytes_load_be32(in + 1);
    if (whole > GAUGE_REPLY_BYTES_MAX) {
        return GAUGE_BROKEN;
    }
    if (size < whole) {
        return 0;
    }
    struct bytes body = bytes_of(in + FRAME_HEAD, whole - FRAME_HEAD);
    return wire_walk(body) && take_info(body, reading) ? whole : GAUGE_BROKEN;
}

/* ---- Text, as Redis and memcached write it -----------------------------------------------------
 */

/* The digits at `at`, up to any other character; false when there is none or they do not end. */
static bool read_number(const uint8_t *in, size_t size, size_t at, uint64_t *number)
{
    size_t begin = at;
    *number = 0;
    for (; at < size && in[at] >= '0' && in[at] <= '9' && at - begin < NUMBER_BYTES - 5; at++) {
        *number = *number * 10 + (uint64_t)(in[at] - '0');
    }
    return at > begin && at < size;
}

/* The number that stands behind `name`; false when the name is not there. */
static bool find_number(const uint8_t *in, size_t size, const char *name, uint64_t *number)
{
    size_t length = strlen(name);
    const uint8_t *found = memmem(in, size, name, length);
    return found != NULL && read_number(in, size, (size_t)(found - in) + length, number);
}

/* The end of the line that begins at `at`, behind its line feed; 0 when it is not whole. */
static size_t line_end(const uint8_t *in, size_t size, size_t at)
{
    const uint8_t *end = at < size ? memchr(in + at, '\n', size - at) : NULL;
    return end != NULL ? (size_t)(end - in) + 1 : 0;
}

static size_t parse_redis(const uint8_t *in, size_t size, struct gauge_reading *reading)
{
    size_t first = line_end(in, size, 0);
    size_t second = first != 0 ? line_end(in, size, first) : 0;
    if (second == 0) {
        return 0;
    }
    uint64_t length;
    if (in[0] != ':' || in[first] != '$' || !read_number(in, size, 1, &reading->keys) ||
        !read_number(in, size, first + 1, &length) || length > GAUGE_REPLY_BYTES_MAX) {
        return GAUGE_BROKEN;
    }
    size_t whole = second + (size_t)length + 2;
    if (size < whole) {
        return 0;
    }
    return find_number(in + second, (size_t)length, "used_memory:", &reading->accounted_bytes)
               ? whole
               : GAUGE_BROKEN;
}

static size_t parse_memcached(const uint8_t *in, size_t size, struct gauge_reading *reading)
{
    static const char start[] = "STAT ";
    static const char end[] = "END\r\n";
    size_t seen = size < sizeof start - 1 ? size : sizeof start - 1;
    if (memcmp(in, start, seen) != 0) {
        return GAUGE_BROKEN;
    }
    const uint8_t *last = memmem(in, size, end, sizeof end - 1);
    if (last == NULL) {
        return 0;
    }
    size_t whole = (size_t)(last - in) + sizeof end - 1;
    bool good = find_number(in, whole, "STAT curr_items ", &reading->keys) &&
                find_number(in, whole, "STAT bytes ", &reading->held_bytes);
    reading->accounted_bytes = reading->held_bytes;
    return good ? whole : GAUGE_BROKEN;
}

size_t gauge_parse(enum gauge_kind kind, const uint8_t *in, size_t size,
                   struct gauge_reading *reading)
{
    *reading = (struct gauge_reading){.keys = 0};
    return kind == GAUGE_RETHREAD ? parse_info(in, size, reading)
           : kind == GAUGE_REDIS  ? parse_redis(in, size, reading)
                                  : parse_memcached(in, size, reading);
}

/* ---- Asking ------------------------------------------------------------------------------------
 */

static bool fail(struct gauge *gauge, const char *what)
{
    static const char *const names[] = {"rethread's info", "Redis's INFO", "memcached's stats"};
    snprintf(gauge->error, sizeof gauge->error, "%s: %s", names[gauge->kind], what);
    return false;
}

bool gauge_open(struct gauge *gauge, enum gauge_kind kind, const struct server *server)
{
    gauge->kind = kind;
    gauge->asked = false;
    gauge->size = 0;
    int fd = server_connect(server);
    if (fd < 0) {
        gauge->fd = 0;
        return fail(gauge, strerror(errno));
    }
    gauge->fd = fd;
    return true;
}

void gauge_close(struct gauge *gauge)
{
    if (gauge->fd > 0) {
        close(gauge->fd);
    }
    gauge->fd = 0;
}

static bool ask(struct gauge *gauge)
{
    const struct question *question = &questions[gauge->kind];
    /* So little always fits into an idle connection's buffer. */
    if (send(gauge->fd, question->text, question->size, MSG_NOSIGNAL) != (ssize_t)question->size) {
        return fail(gauge, "not sent");
    }
    gauge->asked = true;
    gauge->size = 0;
    return true;
}

static bool take(struct gauge *gauge, struct gauge_reading *reading, bool *taken)
{
    assert(gauge->asked);
    if (gauge->size == sizeof gauge->in) {
        return fail(gauge, "an answer that is too long");
    }
    ssize_t got = recv(gauge->fd, gauge->in + gauge->size, sizeof gauge->in - gauge->size, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return true;
    }
    if (got <= 0) {
        return fail(gauge, got == 0 ? "the server closed the connection" : strerror(errno));
    }
    gauge->size += (size_t)got;
    size_t whole = gauge_parse(gauge->kind, gauge->in, gauge->size, reading);
    if (whole == GAUGE_BROKEN || whole > gauge->size) {
        return fail(gauge, "an answer that is none");
    }
    *taken = whole != 0;
    gauge->asked = !*taken;
    return true;
}

bool gauge_poll(struct gauge *gauge, struct gauge_reading *reading, bool *taken)
{
    *taken = false;
    return gauge->asked ? take(gauge, reading, taken) : ask(gauge);
}

bool gauge_read(struct gauge *gauge, struct gauge_reading *reading)
{
    bool taken = false;
    bool good = gauge->asked || ask(gauge);
    while (good && !taken) {
        struct pollfd wait = {.fd = gauge->fd, .events = POLLIN};
        int ready = poll(&wait, 1, PATIENCE_MS);
        if (ready == 0) {
            return fail(gauge, "no answer");
        }
        good = take(gauge, reading, &taken);
    }
    return good;
}

/* ---- The process -------------------------------------------------------------------------------
 */

uint64_t gauge_resident_bytes(const struct server *server)
{
    char name[NUMBER_BYTES + sizeof "/proc//statm"];
    uint64_t pages = 0;
    if (server->pid <= 0) {
        return 0;
    }
    snprintf(name, sizeof name, "/proc/%ld/statm", (long)server->pid);
    FILE *file = fopen(name, "r");
    if (file == NULL) {
        return 0;
    }
    if (fscanf(file, "%*u %" SCNu64, &pages) != 1) {
        pages = 0;
    }
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
