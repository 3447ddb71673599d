/* Aligned tables and human units; see table.h. */
#include "cli/table.h"

#include "cli/keep.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS_MAX = 16 };

struct table {
    size_t columns;
    const char *alignment;
    const char *const *headers;
    size_t widths[COLUMNS_MAX]; /* 0: nothing in it so far */
    bool printed;
    char **cells;
    size_t count;
    size_t room;
};

const char *table_size(uint64_t bytes, char text[TABLE_HUMAN_BYTES])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(text, TABLE_HUMAN_BYTES, "%" PRIu64 " B", bytes);
        return text;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    /* Rounded, 1023.96 would read 1024.0. */
    while (value >= 1023.95 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        unit++;
    }
    snprintf(text, TABLE_HUMAN_BYTES, "%.1f %s", value, units[unit]);
    return text;
}

const char *table_duration(uint64_t duration_ms, char text[TABLE_HUMAN_BYTES])
{
    uint64_t seconds = duration_ms / 1000;
    if (duration_ms < 1000)
        snprintf(text, TABLE_HUMAN_BYTES, "%" PRIu64 " ms", duration_ms);
    else if (seconds < 60)
        snprintf(text, TABLE_HUMAN_BYTES, "%" PRIu64 ".%" PRIu64 " s", seconds,
                 duration_ms % 1000 / 100);
    else if (seconds < 3600)
        snprintf(text, TABLE_HUMAN_BYTES, "%" PRIu64 "m %02" PRIu64 "s", seconds / 60,
                 seconds % 60);
    else if (seconds < 86400)
        snprintf(text, TABLE_HUMAN_BYTES, "%" PRIu64 "h %02" PRIu64 "m", seconds / 3600,
                 seconds % 3600 / 60);
    else
        snprintf(text, TABLE_HUMAN_BYTES, "%" PRIu64 "d %" PRIu64 "h", seconds / 86400,
                 seconds % 86400 / 3600);
    return text;
}

const char *table_count(uint64_t count, char text[TABLE_HUMAN_BYTES])
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, count);
    char *to = text;
    for (int i = 0; i < length; i++) {
        if (i != 0 && (length - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return text;
}

/* Characters, taken to be one column each. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

struct table *table_create(const char *alignment, const char *const *headers)
{
    struct table *table = cli_alloc(sizeof *table);
    table->columns = strlen(alignment);
    assert(table->columns > 0 && table->columns <= COLUMNS_MAX);
    table->alignment = alignment;
    table->headers = headers;
    return table;
}

void table_destroy(struct table *table)
{
    for (size_t i = 0; i < table->count; i++)
        free(table->cells[i]);
    free(table->cells);
    free(table);
}

void table_add(struct table *table, char *text)
{
    size_t column = table->count % table->columns;
    size_t width = width_of(text);
    if (width != 0 && table->headers != NULL && width < width_of(table->headers[column]))
        width = width_of(table->headers[column]);
    if (width > table->widths[column])
        table->widths[column] = width;
    table->cells = cli_grow(table->cells, &table->room, table->count + 1, sizeof(char *));
    table->cells[table->count++] = text;
}

static void print_row(const struct table *table, const char *const *cells, FILE *out)
{
    size_t owed = 0; /* spaces, written only when something follows them */
    bool first = true;
    for (size_t i = 0; i < table->columns; i++) {
        if (table->widths[i] == 0)
            continue;
        size_t space = table->widths[i] - width_of(cells[i]);
        owed += first ? 0 : 2;
        first = false;
        if (table->alignment[i] == 'r') {
            owed += space;
            space = 0;
        }
        if (cells[i][0] != '\0') {
            fprintf(out, "%*s%s", (int)owed, "", cells[i]);
            owed = 0;
        }
        owed += space;
    }
    fputc('\n', out);
}

void table_print(struct table *table, FILE *out)
{
    assert(table->count % table->columns == 0);
    if (table->headers != NULL && !table->printed && table->count != 0) {
        print_row(table, table->headers, out);
        table->printed = true;
    }
    for (size_t i = 0; i < table->count; i += table->columns)
        print_row(table, (const char *const *)&table->cells[i], out);
    for (size_t i = 0; i < table->count; i++)
        free(table->cells[i]);
    table->count = 0;
}
