/* Values of settings: reads and prints each type; and the table, with the help made of it. */
#include "server/settings_values.h"

#include "base/units.h"

#include <inttypes.h>
#include <string.h>

const struct settings_row settings_row_table[] = {
#define SETTING(field, name, type, value, min, max, shape, text)                                   \
    {name, SETTINGS_IS_##type, value, min, max, shape, text, offsetof(struct settings, field)},
#include "schema/settings.def"
#undef SETTING
};

/* ---- Values ------------------------------------------------------------------------------- */

static void *field_of(struct settings *settings, const struct settings_row *row)
{
    return (char *)settings + row->offset;
}

const char *settings_value_allowed(const struct settings_row *row, char *text, size_t size)
{
    char low[UNITS_TEXT_BYTES];
    char high[UNITS_TEXT_BYTES];
    switch (row->type) {
    case SETTINGS_IS_ADDRESSES:
        snprintf(text, size,
                 "ADDR:PORT or [IPv6]:PORT, numeric, %" PRIu64 " to %" PRIu64
                 " of them, or none beside --unix",
                 row->min, row->max);
        break;
    case SETTINGS_IS_PATH:
        snprintf(text, size, "a path of at most %" PRIu64 " bytes", row->max);
        break;
    case SETTINGS_IS_COUNT:
        snprintf(text, size, "a whole number from %" PRIu64 " to %" PRIu64, row->min, row->max);
        break;
    case SETTINGS_IS_SIZE:
        snprintf(text, size, "bytes, or with K, M or G, from %s to %s",
                 units_format_size(row->min, low), units_format_size(row->max, high));
        break;
    case SETTINGS_IS_DURATION:
        snprintf(text, size, "ms, or with ms, s, m, h or d, from %s to %s",
                 units_format_duration(row->min, low), units_format_duration(row->max, high));
        break;
    case SETTINGS_IS_DATA:
        snprintf(text, size, "a directory, its path of at most %" PRIu64 " bytes, or none",
                 row->max);
        break;
    case SETTINGS_IS_FILE:
        snprintf(text, size, "a file, its path of at most %" PRIu64 " bytes", row->max);
        break;
    case SETTINGS_IS_COMPRESSION:
        snprintf(text, size, "zstd or none");
        break;
    case SETTINGS_IS_LEVEL:
        snprintf(text, size, "error, warn, info or debug");
        break;
    }
    return text;
}

static bool parse_number(const struct settings_row *row, const char *text, uint64_t *number)
{
    uint64_t value;
    bool parsed = row->type == SETTINGS_IS_SIZE       ? units_parse_size(text, &value)
                  : row->type == SETTINGS_IS_DURATION ? units_parse_duration(text, &value)
                                                      : units_parse_count(text, &value);
    if (!parsed || value < row->min || value > row->max) {
        return false;
    }
    *number = value;
    return true;
}

static bool add_addresses(const struct settings_row *row, const char *text,
                          struct settings_addresses *list)
{
    static const char separators[] = ", \t";
    const char *at = text + strspn(text, separators);
    if (!*at || list->none) {
        return false;
    }
    if (strcmp(at, "none") == 0) {
        list->none = true;
        return list->count == 0;
    }
    while (*at) {
        char one[NET_ADDRESS_TEXT_BYTES];
        size_t size = strcspn(at, separators);
        if (size >= sizeof one || list->count == row->max) {
            return false;
        }
        memcpy(one, at, size);
        one[size] = '\0';
        if (!net_address_parse(one, &list->list[list->count])) {
            return false;
        }
        list->count++;
        at += size;
        at += strspn(at, separators);
    }
    return true;
}

static bool parse_level(const char *text, enum log_level *level)
{
    for (enum log_level i = 0; i < LOG_LEVEL_COUNT; i++) {
        if (strcmp(text, log_level_name(i)) == 0) {
            *level = i;
            return true;
        }
    }
    return false;
}

/* Into text[capacity]. */
static bool copy_text(const struct settings_row *row, const char *text, char *copy, size_t capacity)
{
    size_t size = strlen(text);
    if (size < row->min || size > row->max || size >= capacity) {
        return false;
    }
    memcpy(copy, text, size + 1);
    return true;
}

static bool parse_data(const struct settings_row *row, const char *text, struct settings_data *data)
{
    if (strcmp(text, "none") == 0) {
        data->directory[0] = '\0';
        return true;
    }
    return copy_text(row, text, data->directory, sizeof data->directory);
}

static bool parse_compression(const char *text, enum store_compression *compression)
{
    bool zstd = strcmp(text, "zstd") == 0;
    *compression = zstd ? STORE_COMPRESSION_ZSTD : STORE_COMPRESSION_NONE;
    return zstd || strcmp(text, "none") == 0;
}

bool settings_value_parse(struct settings *settings, const struct settings_row *row,
                          const char *text, bool first)
{
    void *field = field_of(settings, row);
    switch (row->type) {
    case SETTINGS_IS_ADDRESSES: {
        struct settings_addresses *list = field;
        if (first) {
            memset(list, 0, sizeof *list);
        }
        return add_addresses(row, text, list);
    }
    case SETTINGS_IS_PATH: {
        struct settings_path *path = field;
        return copy_text(row, text, path->text, sizeof path->text);
    }
    case SETTINGS_IS_COUNT:
    case SETTINGS_IS_SIZE:
    case SETTINGS_IS_DURATION:
        return parse_number(row, text, field);
    case SETTINGS_IS_DATA:
        return parse_data(row, text, field);
    case SETTINGS_IS_FILE: {
        struct settings_file *file = field;
        return copy_text(row, text, file->path, sizeof file->path);
    }
    case SETTINGS_IS_COMPRESSION:
        return parse_compression(text, field);
    case SETTINGS_IS_LEVEL:
        return parse_level(text, field);
    }
    return false;
}

/* ---- Printing ----------------------------------------------------------------------------- */

void settings_print_help(FILE *out)
{
    fputs("Usage: rethread-server [--SETTING VALUE]...\n\n"
          "Keeps the hidden reasoning of model calls by conversation and gives it back.\n\n"
          "Settings (RETHREAD_NAME in the environment, `name = VALUE` in a --config file;\n"
          "flags override the environment, which overrides the file):\n",
          out);
    for (size_t i = 0; i < SETTINGS_ROWS; i++) {
        char range[160];
        const struct settings_row *row = &settings_row_table[i];
        fprintf(out, "  --%s %s\n        %s\n        Default: %s. Allowed: %s.\n", row->name,
                row->shape, row->text, row->value[0] ? row->value : "off",
                settings_value_allowed(row, range, sizeof range));
    }
    fputs("\nOther flags:\n"
          "  --config FILE   read settings from a file (also RETHREAD_CONFIG; # starts a comment)\n"
          "  --check-config  check the settings, print them and exit\n"
          "  --describe      print the protocol's and the server's reference and exit\n"
          "  --version       print the version and exit\n"
          "  --help          print this and exit\n",
          out);
}

static void print_addresses(FILE *out, const struct settings_addresses *list)
{
    if (list->none) {
        fputs("none", out);
    }
    for (unsigned i = 0; i < list->count; i++) {
        char text[NET_ADDRESS_TEXT_BYTES];
        fprintf(out, "%s%s", i > 0 ? ", " : "", net_address_format(&list->list[i], text));
    }
}

static const char *data_text(const struct settings_data *data)
{
    return data->directory[0] != '\0' ? data->directory : "none";
}

static const char *compression_text(enum store_compression compression)
{
    return compression == STORE_COMPRESSION_ZSTD ? "zstd" : "none";
}

void settings_print(FILE *out, const struct settings *settings)
{
    for (size_t i = 0; i < SETTINGS_ROWS; i++) {
        const void *field = (const char *)settings + settings_row_table[i].offset;
        char number[UNITS_TEXT_BYTES];
        fprintf(out, "%s = ", settings_row_table[i].name);
        switch (settings_row_table[i].type) {
        case SETTINGS_IS_ADDRESSES:
            print_addresses(out, field);
            break;
        case SETTINGS_IS_PATH:
            fputs(((const struct settings_path *)field)->text, out);
            break;
        case SETTINGS_IS_COUNT:
            fprintf(out, "%" PRIu64, *(const uint64_t *)field);
            break;
        case SETTINGS_IS_SIZE:
            fputs(units_format_size(*(const uint64_t *)field, number), out);
            break;
        case SETTINGS_IS_DURATION:
            fputs(units_format_duration(*(const uint64_t *)field, number), out);
            break;
        case SETTINGS_IS_DATA:
            fputs(data_text(field), out);
            break;
        case SETTINGS_IS_FILE:
            fputs(((const struct settings_file *)field)->path, out);
            break;
        case SETTINGS_IS_COMPRESSION:
            fputs(compression_text(*(const enum store_compression *)field), out);
            break;
        case SETTINGS_IS_LEVEL:
            fputs(log_level_name(*(const enum log_level *)field), out);
            break;
        }
        fputc('\n', out);
    }
}
