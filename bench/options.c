/* Parses the command line by the table in options.def; see options.h. */
#include "bench/options.h"

#include "base/units.h"

#include <stddef.h>
#include <string.h>

enum kind { FLAG, COUNT, SIZE, TEXT };

struct option {
    const char *name;
    enum kind kind;
    size_t offset;
    const char *value;
    const char *help;
};

static const struct option table[] = {
#define OPTION(member, kind, name, value, help)                                                    \
    {name, kind, offsetof(struct options, member), value, help},
#include "bench/options.def"
#undef OPTION
};

enum { OPTIONS = sizeof table / sizeof *table, ROUNDS_MIN = 3, ROUNDS_MAX = 64, LOOPS_MAX = 2 };

static const struct option *find(const char *name)
{
    for (unsigned i = 0; i < OPTIONS; i++) {
        if (strcmp(table[i].name, name) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

static bool set(struct options *options, const struct option *option, const char *value)
{
    char *at = (char *)options + option->offset;
    uint64_t count;
    switch (option->kind) {
    case FLAG:
        memcpy(at, &(bool){true}, sizeof(bool));
        return true;
    case TEXT:
        memcpy(at, &value, sizeof value);
        return true;
    case SIZE:
        if (!units_parse_size(value, &count) || count == 0) {
            return false;
        }
        memcpy(at, &count, sizeof count);
        return true;
    case COUNT:
        if (!units_parse_count(value, &count) || count == 0) {
            return false;
        }
        memcpy(at, &count, sizeof count);
        return true;
    }
    return false;
}

static bool parse_word(struct options *options, char **argv, int *at)
{
    const char *word = argv[*at];
    if (strncmp(word, "--", 2) != 0) {
        if (options->workload != NULL) {
            fprintf(stderr, "rethread-bench: one workload at a time, not %s as well\n", word);
            return false;
        }
        options->workload = word;
        return true;
    }
    const struct option *option = find(word + 2);
    if (option == NULL) {
        fprintf(stderr, "rethread-bench: no option %s; see --help\n", word);
        return false;
    }
    const char *value = "";
    if (option->kind != FLAG) {
        value = argv[++*at];
        if (value == NULL) {
            fprintf(stderr, "rethread-bench: %s wants%s\n", word, option->value);
            return false;
        }
    }
    if (!set(options, option, value)) {
        fprintf(stderr, "rethread-bench: %s wants a number above 0, not %s\n", word, value);
        return false;
    }
    return true;
}

bool options_parse(struct options *options, int argc, char **argv)
{
    *options = (struct options){.workload = NULL};
    for (int at = 1; at < argc; at++) {
        if (!parse_word(options, argv, &at)) {
            return false;
        }
    }
    if (options->rounds != 0 && (options->rounds < ROUNDS_MIN || options->rounds > ROUNDS_MAX)) {
        fprintf(stderr, "rethread-bench: --rounds wants %d to %d\n", ROUNDS_MIN, ROUNDS_MAX);
        return false;
    }
    if (options->loops > LOOPS_MAX) {
        fprintf(stderr, "rethread-bench: --loops wants 1 or %d\n", LOOPS_MAX);
        return false;
    }
    return true;
}

bool options_is_all(const struct options *options)
{
    return strcmp(options->workload, "all") == 0;
}

bool options_is_pass(const struct options *options)
{
    return options->quick && options_is_all(options);
}

void options_explain(FILE *out)
{
    for (unsigned i = 0; i < OPTIONS; i++) {
        char left[32];
        snprintf(left, sizeof left, "--%s%s", table[i].name, table[i].value);
        fprintf(out, "  %-22s %s\n", left, table[i].help);
    }
}
