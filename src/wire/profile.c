/* Which profile a model has: the rows of a file, if there is one, then schema/profiles.def. */
#include "wire/profile.h"

#include "wire/parse.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ROWS_MAX = 1024,
    FILE_BYTES_MAX = 1 << 20,
    WORDS = 4,
    SHOWN_BYTES_MAX = 40, /* of a refused word */
};

struct profiles {
    unsigned count;
    struct profile rows[];
};

#define ANYONE true
#define ITSELF false
static const struct profile built_in[] = {
#define PROFILE(PATTERN, POLICY, TURNS, FIELD, READABLE, source)                                   \
    {.pattern = PATTERN,                                                                           \
     .policy = WIRE_POLICY_##POLICY,                                                               \
     .turns = TURNS,                                                                               \
     .field = FIELD,                                                                               \
     .anyone = READABLE},
#include "schema/profiles.def"
#undef PROFILE
};
#undef ANYONE
#undef ITSELF

enum { BUILT_IN = sizeof built_in / sizeof built_in[0] };

/* ---- Finding ------------------------------------------------------------------------------ */

static char lower(uint8_t byte)
{
    return (char)(byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte);
}

/* Where the byte that follows a * in the pattern is next in the name; NULL: nowhere. */
static const char *next_place(const char *pattern, const char *at, const char *end)
{
    return *pattern == '*' || at == end ? at : memchr(at, *pattern, (size_t)(end - at));
}

/* A mismatch goes back to the last *, which then takes more. */
static bool fits(const char *pattern, const char *at, const char *end)
{
    const char *behind_star = NULL;
    const char *taken = at; /* as far as that star's run goes */
    while (at != end) {
        if (*pattern == '*') {
            behind_star = ++pattern;
            taken = at - 1;
        } else if (*pattern != '\0' && *pattern == *at) {
            pattern++;
            at++;
            continue;
        } else if (behind_star == NULL) {
            return false;
        }
        if (*behind_star == '\0') {
            return true;
        }
        pattern = behind_star;
        taken = at = next_place(pattern, taken + 1, end);
        if (at == NULL) {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == '\0';
}

/* A model's name as patterns see it. */
struct name {
    char text[WIRE_ID_BYTES_MAX];
    const char *end;
};

static void take_name(struct name *name, struct bytes model)
{
    const uint8_t *at = model.data;
    const uint8_t *end = model.size > 0 ? at + model.size : at;
    const uint8_t *slash = model.size > 0 ? memrchr(at, '/', model.size) : NULL;
    char *to = name->text;
    for (at = slash != NULL ? slash + 1 : at; at != end && to != name->text + sizeof name->text;) {
        *to++ = lower(*at++);
    }
    name->end = to;
}

static const struct profile *first_fit(const struct profile *rows, unsigned count,
                                       const struct name *name)
{
    for (unsigned i = 0; i < count; i++) {
        if (fits(rows[i].pattern, name->text, name->end)) {
            return &rows[i];
        }
    }
    return NULL;
}

const struct profile *profiles_find(const struct profiles *profiles, struct bytes model)
{
    struct name name = {.end = NULL};
    take_name(&name, model);
    const struct profile *found = NULL;
    if (profiles != NULL) {
        found = first_fit(profiles->rows, profiles->count, &name);
    }
    if (found == NULL) {
        found = first_fit(built_in, BUILT_IN, &name);
    }
    assert(found != NULL); /* the last row fits all */
    return found;
}

bool profiles_may_read(const struct profiles *profiles, struct bytes writer, struct bytes reader)
{
    return writer.size == 0 || reader.size == 0 || bytes_equal(writer, reader) ||
           profiles_find(profiles, writer)->anyone;
}

/* ---- A file ------------------------------------------------------------------------------- */

/* What is read, and where to say what is wrong with it. */
struct source {
    unsigned line;
    char *error; /* PROFILE_ERROR_BYTES */
};

__attribute__((format(printf, 2, 3))) static bool refuse(const struct source *source,
                                                         const char *format, ...)
{
    va_list arguments;
    int size = 0;
    if (source->line > 0) {
        size = snprintf(source->error, PROFILE_ERROR_BYTES, "line %u: ", source->line);
    }
    va_start(arguments, format);
    (void)vsnprintf(source->error + size, PROFILE_ERROR_BYTES - (size_t)size, format, arguments);
    va_end(arguments);
    for (char *c = source->error; *c != '\0'; c++) {
        if (*c < 0x20 || *c > 0x7E) {
            *c = '?';
        }
    }
    return false;
}

static bool is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\v' || byte == '\f';
}

/* Parts a line into words and drops its comment; returns how many there are, WORDS + 1 at most. */
static unsigned part(struct bytes line, struct bytes words[WORDS + 1])
{
    unsigned count = 0;
    for (size_t at = 0; count <= WORDS;) {
        while (at < line.size && is_space(line.data[at])) {
            at++;
        }
        if (at == line.size || line.data[at] == '#') {
            break;
        }
        size_t start = at;
        while (at < line.size && !is_space(line.data[at])) {
            at++;
        }
        words[count++] = bytes_of(line.data + start, at - start);
    }
    return count;
}

/* For "%.*s" of a word. */
#define SHOWN(word)                                                                                \
    (int)((word).size < SHOWN_BYTES_MAX ? (word).size : SHOWN_BYTES_MAX), (const char *)(word).data

static bool take_pattern(struct bytes word, struct profile *row, const struct source *source)
{
    for (size_t i = 0; i < word.size; i++) {
        if (word.size >= sizeof row->pattern || word.data[i] < 0x21 || word.data[i] > 0x7E ||
            word.data[i] == '/') {
            return refuse(source,
                          "the pattern \"%.*s\" is expected to be 1 to %d characters of ASCII "
                          "without /: only what stands behind the last / of a name is looked at",
                          SHOWN(word), PROFILE_PATTERN_BYTES - 1);
        }
        row->pattern[i] = lower(word.data[i]);
    }
    return true;
}

/* Digits from 1 to what a u32 holds. */
static bool take_turns(struct bytes digits, uint32_t *turns)
{
    uint64_t value = 0;
    for (size_t i = 0; i < digits.size; i++) {
        if (digits.data[i] < '0' || digits.data[i] > '9') {
            return false;
        }
        value = value * 10 + (unsigned)(digits.data[i] - '0');
        if (value > UINT32_MAX) {
            return false;
        }
    }
    *turns = (uint32_t)value;
    return value > 0;
}

/* "all", "none", ...: a list to be ended. */
#define POLICY(name, text, summary) text ", "
static const char policy_names[] =
#include "schema/policies.def"
    ;
#undef POLICY

static bool take_policy(struct bytes word, struct profile *row, const struct source *source)
{
    const uint8_t *colon = memchr(word.data, ':', word.size);
    struct bytes name = colon ? bytes_of(word.data, (size_t)(colon - word.data)) : word;
    for (unsigned p = 0; p < WIRE_POLICY_AUTO; p++) {
        if (!bytes_equal(name, bytes_text(wire_policy_name((enum wire_policy)p)))) {
            continue;
        }
        row->policy = (enum wire_policy)p;
        if (p != WIRE_POLICY_LAST_TURNS && colon == NULL) {
            return true;
        }
        if (p == WIRE_POLICY_LAST_TURNS && colon != NULL &&
            take_turns(bytes_of(colon + 1, word.size - name.size - 1), &row->turns)) {
            return true;
        }
    }
    return refuse(source,
                  "the policy \"%.*s\" is expected to be one of %swhere last_turns has its number: "
                  "last_turns:2",
                  SHOWN(word), policy_names);
}

static bool take_field(struct bytes word, struct profile *row, const struct source *source)
{
    for (size_t i = 0; i < word.size; i++) {
        char c = lower(word.data[i]);
        bool sound = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!sound || word.size >= sizeof row->field) {
            return refuse(source,
                          "the field \"%.*s\" is expected to be 1 to %d letters, digits, _ or -, "
                          "such as reasoning, reasoning_content or thinking",
                          SHOWN(word), PROFILE_FIELD_BYTES - 1);
        }
        row->field[i] = (char)word.data[i];
    }
    return true;
}

static bool take_readable(struct bytes word, struct profile *row, const struct source *source)
{
    row->anyone = bytes_equal(word, bytes_text("anyone"));
    return row->anyone || bytes_equal(word, bytes_text("itself")) ||
           refuse(source, "who may read, \"%.*s\", is expected to be anyone or itself",
                  SHOWN(word));
}

/* *taken: whether there was a row in it. */
static bool take_line(struct bytes line, struct profile *row, bool *taken,
                      const struct source *source)
{
    struct bytes words[WORDS + 1];
    unsigned count = part(line, words);
    *taken = count > 0;
    if (count == 0) {
        return true;
    }
    if (count != WORDS) {
        return refuse(source, "PATTERN POLICY FIELD READABLE is expected, as in "
                              "`qwen3* current_turn reasoning_content anyone`");
    }
    *row = (struct profile){0};
    return take_pattern(words[0], row, source) && take_policy(words[1], row, source) &&
           take_field(words[2], row, source) && take_readable(words[3], row, source);
}

static bool take_lines(struct bytes text, struct profiles *profiles, struct source *source)
{
    while (text.size > 0) {
        const uint8_t *end = memchr(text.data, '\n', text.size);
        size_t size = end != NULL ? (size_t)(end - text.data) : text.size;
        struct profile row;
        bool taken;
        source->line++;
        if (!take_line(bytes_of(text.data, size), &row, &taken, source)) {
            return false;
        }
        if (taken && profiles->count == ROWS_MAX) {
            return refuse(source, "at most %d profiles are expected", ROWS_MAX);
        }
        if (taken) {
            profiles->rows[profiles->count++] = row;
        }
        size += end != NULL;
        text = bytes_of(text.data + size, text.size - size);
    }
    return true;
}

/* Opens a regular file; anything else could keep the reader waiting. -1: the error is said. */
static int open_file(const char *path, const struct source *source)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        refuse(source, "it cannot be opened: %s", strerror(errno));
        return -1;
    }
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        refuse(source, "it is not a file that holds lines");
        close(fd);
        return -1;
    }
    return fd;
}

/* Reads all of it into buffer[FILE_BYTES_MAX + 1]. */
static bool read_file(const char *path, uint8_t *buffer, size_t *size, const struct source *source)
{
    int fd = open_file(path, source);
    if (fd < 0) {
        return false;
    }
    bool sound = true;
    ssize_t got = 1;
    for (*size = 0; got > 0 && *size <= FILE_BYTES_MAX;) {
        got = read(fd, buffer + *size, FILE_BYTES_MAX + 1 - *size);
        if (got < 0 && errno != EINTR) {
            sound = refuse(source, "it cannot be read: %s", strerror(errno));
            break;
        }
        *size += got > 0 ? (size_t)got : 0;
        got = got < 0 ? 1 : got;
    }
    close(fd);
    return sound && (*size <= FILE_BYTES_MAX ||
                     refuse(source, "at most %d bytes are expected", FILE_BYTES_MAX));
}

enum status profiles_load(const char *path, struct profiles **profiles,
                          char error[PROFILE_ERROR_BYTES])
{
    struct source source = {.line = 0, .error = error};
    uint8_t *text = malloc(FILE_BYTES_MAX + 1);
    struct profiles *loaded = calloc(1, sizeof *loaded + ROWS_MAX * sizeof loaded->rows[0]);
    enum status status = STATUS_BAD_REQUEST;
    size_t size;
    *profiles = NULL;
    error[0] = '\0';
    if (text == NULL || loaded == NULL) {
        refuse(&source, "there is no memory for it");
        status = STATUS_OVER_BUDGET;
    } else if (read_file(path, text, &size, &source) &&
               take_lines(bytes_of(text, size), loaded, &source)) {
        *profiles = loaded;
        loaded = NULL;
        status = STATUS_OK;
    }
    free(loaded);
    free(text);
    return status;
}

void profiles_free(struct profiles *profiles)
{
    free(profiles);
}
