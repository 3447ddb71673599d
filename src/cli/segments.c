/* Segments from the command line; see segments.h. */
#include "cli/segments.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *add_segment(struct invocation *invocation, enum rethread_kind kind,
                               const void *data, size_t size_bytes)
{
    if (size_bytes == 0)
        return invocation->command->method == RETHREAD_METHOD_CHUNK
                   ? "is empty"
                   : "is empty; a step without a trace is --bare";
    if (invocation->segment_count == RETHREAD_PAYLOADS_MAX)
        return "makes more than 64 segments";
    invocation->segments[invocation->segment_count++] =
        (struct rethread_segment){.kind = kind, .bytes = {data, size_bytes}};
    return NULL;
}

const char *segments_add_text(struct invocation *invocation, const char *text)
{
    return add_segment(invocation, RETHREAD_KIND_TEXT, text, strlen(text));
}

/* All of a file, up to the largest frame there may be. */
static const char *read_file(struct keep *keep, FILE *file, char **data, size_t *size_bytes)
{
    const size_t limit_bytes = (size_t)1 << 30;
    size_t room = 0;
    size_t used = 0;
    char *bytes = NULL;
    for (;;) {
        bytes = cli_grow(bytes, &room, used + 65536, 1);
        size_t got = fread(bytes + used, 1, room - used, file);
        used += got;
        if (got == 0 || used > limit_bytes)
            break;
    }
    keep_take(keep, bytes);
    if (ferror(file))
        return keep_take(keep, cli_format("cannot be read: %s", strerror(errno)));
    if (used > limit_bytes)
        return "is larger than any frame";
    *data = bytes;
    *size_bytes = used;
    return NULL;
}

static const char *add_file(struct invocation *invocation, enum rethread_kind kind,
                            const char *path)
{
    bool is_stdin = strcmp(path, "-") == 0;
    if (is_stdin && invocation->stdin_taken)
        return "can read the standard input only once";
    FILE *file = is_stdin ? stdin : fopen(path, "rbe");
    if (file == NULL)
        return keep_take(&invocation->keep,
                         cli_format("cannot open %s: %s", path, strerror(errno)));
    invocation->stdin_taken |= is_stdin;
    char *data = NULL;
    size_t size_bytes = 0;
    const char *error = read_file(&invocation->keep, file, &data, &size_bytes);
    if (!is_stdin)
        fclose(file);
    return error != NULL ? error : add_segment(invocation, kind, data, size_bytes);
}

const char *segments_add_file(struct invocation *invocation, const char *path)
{
    return add_file(invocation, RETHREAD_KIND_TEXT, path);
}

static const char *const shape =
    "takes KIND=FILE, where KIND is text, tokens or opaque, and FILE may be -";

/* The file of KIND=FILE, and its kind; NULL: it is none. */
static const char *split(const char *text, enum rethread_kind *kind)
{
    static const enum rethread_kind kinds[] = {RETHREAD_KIND_TEXT, RETHREAD_KIND_TOKENS,
                                               RETHREAD_KIND_OPAQUE};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const char *name = rethread_kind_name(kinds[i]);
        size_t length = strlen(name);
        *kind = kinds[i];
        if (strncmp(text, name, length) == 0 && text[length] == '=' && text[length + 1] != '\0')
            return text + length + 1;
    }
    return NULL;
}

const char *segments_option(struct invocation *invocation, const char *text)
{
    enum rethread_kind kind;
    const char *path = split(text, &kind);
    if (path == NULL)
        return shape;
    if (invocation->command->id != COMMAND_STREAM)
        return add_file(invocation, kind, path);
    if (strcmp(path, "-") == 0)
        return "cannot be the standard input: that is what is streamed";
    if (invocation->late_count == RETHREAD_PAYLOADS_MAX - 1)
        return "makes more than 64 segments, with the streamed one";
    invocation->late_segments[invocation->late_count++] = text;
    return NULL;
}

int segments_read_late(struct invocation *invocation)
{
    for (size_t i = 0; i < invocation->late_count; i++) {
        enum rethread_kind kind;
        const char *path = split(invocation->late_segments[i], &kind);
        const char *error = path != NULL ? add_file(invocation, kind, path) : shape;
        if (error != NULL) {
            report_line("--segments %s", error);
            return EXIT_USAGE;
        }
    }
    return EXIT_DONE;
}
