/* Reads the fenced blocks of a Markdown page. */
#include "tests/lib/examples.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static struct example examples[EXAMPLES_MAX];

static _Noreturn void give_up(const char *path, unsigned line, const char *why)
{
    fprintf(stderr, "%s:%u: %s\n", path, line, why);
    abort();
}

/* Pairs of hex digits up to a comment; false at anything else. */
static bool take_hex(struct example *example, const char *text)
{
    for (; *text != '\0' && *text != '#' && *text != '\n'; text++) {
        if (*text == ' ') {
            continue;
        }
        char pair[3] = {text[0], text[1], '\0'};
        if (!isxdigit((unsigned char)pair[0]) || !isxdigit((unsigned char)pair[1]) ||
            example->frame_bytes == sizeof example->frame) {
            return false;
        }
        example->frame[example->frame_bytes++] = (uint8_t)strtoul(pair, NULL, 16);
        text++;
    }
    return true;
}

static bool take_notation(struct example *example, const char *text)
{
    size_t size = strlen(example->notation);
    int added = snprintf(example->notation + size, sizeof example->notation - size, "%s", text);
    return added >= 0 && size + (size_t)added < sizeof example->notation;
}

unsigned examples_read(const char *path, const struct example **found)
{
    enum { PROSE, NOTATION, HEX, OTHER } block = PROSE;
    FILE *in = fopen(path, "r");
    if (in == NULL) {
        give_up(path, 0, "cannot be read");
    }
    memset(examples, 0, sizeof examples);
    unsigned count = 0;
    unsigned line = 0;
    char text[1024];
    while (fgets(text, sizeof text, in) != NULL) {
        line++;
        if (count == EXAMPLES_MAX || strchr(text, '\n') == NULL) {
            give_up(path, line, "too many examples, or too long a line");
        }
        struct example *example = &examples[count];
        bool sound = true;
        if (strncmp(text, "```", 3) == 0) {
            if (block == PROSE) {
                block = strcmp(text, "```msgpack\n") == 0 ? NOTATION
                        : strcmp(text, "```hex\n") == 0   ? HEX
                                                          : OTHER;
                sound = (block == HEX) == (example->notation[0] != '\0') || block == OTHER;
                example->line = line;
            } else {
                count += block == HEX;
                block = PROSE;
            }
        } else if (block == NOTATION) {
            sound = take_notation(example, text);
        } else if (block == HEX) {
            sound = take_hex(example, text);
        } else if (block == PROSE) {
            uint64_t pass_ms;
            if (sscanf(text, "<!-- %" SCNu64 " ms pass", &pass_ms) == 1) {
                example->pass_ms = pass_ms;
            }
        }
        if (!sound) {
            give_up(path, line, "not a block of notation with its block of hex");
        }
    }
    fclose(in);
    *found = examples;
    return count;
}
