/* Reads settings by the table of schema/settings.def; that table is the only list of them. */
#include "server/settings.h"

#include "server/settings_values.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
    LINE_BYTES_MAX = 4096,
    LINES_MAX = 10000,
    NAME_BYTES_MAX = 64,
    SHOWN_BYTES_MAX = 80, /* of a refused value */
    TOMBSTONE_BYTES = 48, /* record, index slot and place in the ring */
};

/* Where a value comes from, for the refusal: "flag --ttl", "line 3 of /etc/rethread.conf". */
struct source {
    char text[256];
    bool seen[SETTINGS_ROWS]; /* in this source: the first value of a list replaces those of others
                               */
    struct settings_refusal *refusal;
};

__attribute__((format(printf, 2, 3))) static bool refuse(struct settings_refusal *refusal,
                                                         const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(refusal->text, sizeof refusal->text, format, arguments);
    va_end(arguments);
    for (char *c = refusal->text; *c; c++) {
        if (iscntrl((unsigned char)*c)) {
            *c = '?';
        }
    }
    return false;
}

/* ---- Setting ------------------------------------------------------------------------------ */

static bool set(struct settings *settings, const struct settings_row *row, const char *text,
                struct source *source)
{
    char range[160];
    size_t number = (size_t)(row - settings_row_table);
    bool first = !source->seen[number];
    source->seen[number] = true;
    return settings_value_parse(settings, row, text, first) ||
           refuse(source->refusal, "%s: \"%.*s\" is no value for %s; allowed: %s", source->text,
                  SHOWN_BYTES_MAX, text, row->name,
                  settings_value_allowed(row, range, sizeof range));
}

static const struct settings_row *find_row(const char *name)
{
    for (size_t i = 0; i < SETTINGS_ROWS; i++) {
        if (strcmp(settings_row_table[i].name, name) == 0) {
            return &settings_row_table[i];
        }
    }
    return NULL;
}

static bool set_defaults(struct settings *settings, struct settings_refusal *refusal)
{
    struct source source = {.text = "default", .refusal = refusal};
    memset(settings, 0, sizeof *settings);
    for (size_t i = 0; i < SETTINGS_ROWS; i++) {
        if (!set(settings, &settings_row_table[i], settings_row_table[i].value, &source)) {
            return false;
        }
    }
    return true;
}

/* ---- The file ----------------------------------------------------------------------------- */

/* Cuts off a comment and the space around what is left. */
static char *trim(char *line)
{
    for (char *c = line; *c; c++) {
        if (*c == '#' && (c == line || isspace((unsigned char)c[-1]))) {
            *c = '\0';
            break;
        }
    }
    while (isspace((unsigned char)*line)) {
        line++;
    }
    char *end = line + strlen(line);
    while (end > line && isspace((unsigned char)end[-1])) {
        *--end = '\0';
    }
    return line;
}

/* `name VALUE` or `name = VALUE`. */
static bool set_line(struct settings *settings, char *line, struct source *source)
{
    char *end = line + strcspn(line, " \t=");
    char *value = end + strspn(end, " \t");
    if (*value == '=') {
        value++;
        value += strspn(value, " \t");
    }
    bool alone = *end == '\0';
    *end = '\0';
    const struct settings_row *row = find_row(line);
    if (!row) {
        return refuse(source->refusal, "%s: there is no setting \"%.*s\"; --help lists them",
                      source->text, SHOWN_BYTES_MAX, line);
    }
    if (alone) {
        return refuse(source->refusal, "%s: %s has no value; write `%s = %s`", source->text, line,
                      row->name, row->shape);
    }
    return set(settings, row, value, source);
}

static bool load_file(struct settings *settings, const char *path, const char *named_by,
                      struct settings_refusal *refusal)
{
    struct source source = {.refusal = refusal};
    char line[LINE_BYTES_MAX];
    bool sound = true;
    FILE *file = fopen(path, "re");
    if (!file) {
        return refuse(refusal, "%s: cannot open \"%.*s\": %s", named_by, SHOWN_BYTES_MAX, path,
                      strerror(errno));
    }
    for (unsigned number = 1; sound && fgets(line, sizeof line, file); number++) {
        snprintf(source.text, sizeof source.text, "line %u of %.200s", number, path);
        size_t size = strlen(line);
        if ((size == sizeof line - 1 && line[size - 1] != '\n') || number > LINES_MAX) {
            sound = refuse(refusal, "%s: too long for a file of settings", source.text);
            break;
        }
        char *text = trim(line);
        sound = !*text || set_line(settings, text, &source);
    }
    if (sound && ferror(file)) {
        sound = refuse(refusal, "%s: cannot read \"%.*s\": %s", named_by, SHOWN_BYTES_MAX, path,
                       strerror(errno));
    }
    fclose(file);
    return sound;
}

/* ---- The environment ---------------------------------------------------------------------- */

static const char prefix[] = "RETHREAD_";

/* RETHREAD_MAX_CONNECTIONS for max-connections. */
static void variable_of(const char *name, char *variable)
{
    size_t at = strlen(prefix);
    assert(at + strlen(name) < NAME_BYTES_MAX);
    memcpy(variable, prefix, at);
    for (; *name; name++) {
        variable[at++] = *name == '-' ? '_' : (char)toupper((unsigned char)*name);
    }
    variable[at] = '\0';
}

static const char *environment_value(char *const *environment, const char *variable)
{
    size_t size = strlen(variable);
    for (; *environment; environment++) {
        if (strncmp(*environment, variable, size) == 0 && (*environment)[size] == '=') {
            return *environment + size + 1;
        }
    }
    return NULL;
}

/* The clients' and the tests' variables, and what Kubernetes sets for a service of this name. */
static bool belongs_to_others(const char *variable)
{
    static const char *const starts[] = {"ADDRESS", "BENCH",  "CLI",      "DEMO", "PORT",
                                         "SAN",     "SERVER", "SERVICE_", "TEST"};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        if (strncmp(variable + strlen(prefix), starts[i], strlen(starts[i])) == 0) {
            return true;
        }
    }
    return strstr(variable, "_SERVICE_HOST") || strstr(variable, "_SERVICE_PORT") ||
           strstr(variable, "_PORT_");
}

static const struct settings_row *row_of_variable(const char *variable)
{
    for (size_t i = 0; i < SETTINGS_ROWS; i++) {
        char expected[NAME_BYTES_MAX];
        variable_of(settings_row_table[i].name, expected);
        if (strcmp(expected, variable) == 0) {
            return &settings_row_table[i];
        }
    }
    return NULL;
}

static bool load_environment(struct settings *settings, char *const *environment,
                             struct settings_refusal *refusal)
{
    struct source source = {.refusal = refusal};
    for (; *environment; environment++) {
        const char *equals = strchr(*environment, '=');
        if (strncmp(*environment, prefix, strlen(prefix)) != 0 || !equals) {
            continue;
        }
        char variable[NAME_BYTES_MAX];
        snprintf(variable, sizeof variable, "%.*s", (int)(equals - *environment), *environment);
        const struct settings_row *row = row_of_variable(variable);
        snprintf(source.text, sizeof source.text, "environment variable %s", variable);
        if (row) {
            if (!set(settings, row, equals + 1, &source)) {
                return false;
            }
        } else if (strcmp(variable, "RETHREAD_CONFIG") != 0 && !belongs_to_others(variable)) {
            return refuse(refusal, "%s: there is no such setting; --help lists them", source.text);
        }
    }
    return true;
}

/* ---- Flags -------------------------------------------------------------------------------- */

struct flag {
    char name[NAME_BYTES_MAX]; /* without dashes */
    const char *value;         /* NULL: none was given */
};

/* Takes the flag at argv[*at] apart and steps over it. A value may be the argument behind it. */
static bool next_flag(int argc, char *const *argv, int *at, struct flag *flag,
                      struct settings_refusal *refusal)
{
    const char *argument = argv[(*at)++];
    if (strncmp(argument, "--", 2) != 0 || argument[2] == '\0') {
        return refuse(refusal, "argument \"%.*s\": not a flag; --help lists them", SHOWN_BYTES_MAX,
                      argument);
    }
    const char *equals = strchr(argument, '=');
    size_t size = equals ? (size_t)(equals - argument) : strlen(argument);
    snprintf(flag->name, sizeof flag->name, "%.*s", (int)size - 2, argument + 2);
    flag->value = equals ? equals + 1 : NULL;
    bool takes_value = find_row(flag->name) || strcmp(flag->name, "config") == 0;
    if (!takes_value && strcmp(flag->name, "check-config") != 0) {
        return refuse(refusal, "flag %.*s: there is no such setting; --help lists them",
                      (int)(size < SHOWN_BYTES_MAX ? size : SHOWN_BYTES_MAX), argument);
    }
    if (takes_value && !flag->value) {
        if (*at == argc) {
            return refuse(refusal, "flag --%s: its value is missing", flag->name);
        }
        flag->value = argv[(*at)++];
    }
    if (!takes_value && flag->value) {
        return refuse(refusal, "flag --%s takes no value", flag->name);
    }
    return true;
}

/* What was asked of the program that is no setting; the path of the file. */
static bool scan_flags(int argc, char *const *argv, enum settings_action *action,
                       const char **config, struct settings_refusal *refusal)
{
    for (int at = 1; at < argc;) {
        struct flag flag;
        if (!next_flag(argc, argv, &at, &flag, refusal)) {
            return false;
        }
        if (strcmp(flag.name, "config") == 0) {
            *config = flag.value;
        } else if (strcmp(flag.name, "check-config") == 0) {
            *action = SETTINGS_CHECK;
        }
    }
    return true;
}

static bool load_flags(struct settings *settings, int argc, char *const *argv,
                       struct settings_refusal *refusal)
{
    struct source source = {.refusal = refusal};
    for (int at = 1; at < argc;) {
        struct flag flag;
        if (!next_flag(argc, argv, &at, &flag, refusal)) {
            return false;
        }
        const struct settings_row *row = find_row(flag.name);
        snprintf(source.text, sizeof source.text, "flag --%s", flag.name);
        if (row && !set(settings, row, flag.value, &source)) {
            return false;
        }
    }
    return true;
}

/* --help and its like need no sound settings. */
static enum settings_action find_question(int argc, char *const *argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return SETTINGS_HELP;
        }
        if (strcmp(argv[i], "--version") == 0) {
            return SETTINGS_VERSION;
        }
        if (strcmp(argv[i], "--describe") == 0) {
            return SETTINGS_DESCRIBE;
        }
    }
    return SETTINGS_RUN;
}

/* They are not evicted, so they must leave room for what is to be kept. */
static bool fit_tombstones(struct settings *settings, struct settings_refusal *refusal)
{
    uint64_t most = settings->memory_bytes / TOMBSTONE_BYTES / 4;
    if (settings->tombstones == 0) {
        settings->tombstones = settings->memory_bytes / TOMBSTONE_BYTES / 32;
    }
    if (settings->tombstones > most) {
        return refuse(refusal,
                      "tombstones: %" PRIu64 " of them could take more than a quarter of memory; "
                      "allowed with this memory: %" PRIu64 " at the most",
                      settings->tombstones, most);
    }
    return true;
}

static bool has_a_door(const struct settings *settings, struct settings_refusal *refusal)
{
    return settings->listen.count > 0 || settings->unix_path.text[0] != '\0' ||
           refuse(refusal, "listen: none needs --unix PATH, for where else to be reached");
}

enum settings_action settings_load(struct settings *settings, int argc, char *const *argv,
                                   char *const *environment, struct settings_refusal *refusal)
{
    refusal->text[0] = '\0';
    if (!set_defaults(settings, refusal)) {
        return SETTINGS_REFUSED;
    }
    enum settings_action action = find_question(argc, argv);
    if (action != SETTINGS_RUN) {
        return action;
    }
    const char *named_by = "environment variable RETHREAD_CONFIG";
    const char *config = environment_value(environment, "RETHREAD_CONFIG");
    const char *flag_config = NULL;
    if (!scan_flags(argc, argv, &action, &flag_config, refusal)) {
        return SETTINGS_REFUSED;
    }
    if (flag_config) {
        config = flag_config;
        named_by = "flag --config";
    }
    if ((config && config[0] && !load_file(settings, config, named_by, refusal)) ||
        !load_environment(settings, environment, refusal) ||
        !load_flags(settings, argc, argv, refusal)) {
        return SETTINGS_REFUSED;
    }
    bool fit = fit_tombstones(settings, refusal) && has_a_door(settings, refusal);
    return fit ? action : SETTINGS_REFUSED;
}
