/*
 * The table of settings and the grammar of their values, for server/settings.c: schema/settings.def
 * with a reader and a printer for each type. No state.
 */
#ifndef RETHREAD_SERVER_SETTINGS_VALUES_H
#define RETHREAD_SERVER_SETTINGS_VALUES_H

#include "server/settings.h"

#include <stddef.h>

enum settings_type {
    SETTINGS_IS_ADDRESSES,
    SETTINGS_IS_PATH,
    SETTINGS_IS_COUNT,
    SETTINGS_IS_SIZE,
    SETTINGS_IS_DURATION,
    SETTINGS_IS_DATA,
    SETTINGS_IS_FILE,
    SETTINGS_IS_COMPRESSION,
    SETTINGS_IS_LEVEL,
};

struct settings_row {
    const char *name;
    enum settings_type type;
    const char *value; /* the default */
    uint64_t min;
    uint64_t max;
    const char *shape;
    const char *text;
    size_t offset; /* in struct settings */
};

enum {
#define SETTING(field, name, type, value, min, max, shape, text) SETTINGS_ROW_##field,
#include "schema/settings.def"
#undef SETTING
    SETTINGS_ROWS
};

extern const struct settings_row settings_row_table[SETTINGS_ROWS];

/* What is allowed, for help and refusals. Returns `text`. */
const char *settings_value_allowed(const struct settings_row *row, char *text, size_t size);

/* Sets the row's field. `first`: of its source, so a list starts anew. False: not allowed. */
bool settings_value_parse(struct settings *settings, const struct settings_row *row,
                          const char *text, bool first);

#endif
