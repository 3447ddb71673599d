/*
 * Aligned tables, and numbers as people read them.
 */
#ifndef RETHREAD_CLI_TABLE_H
#define RETHREAD_CLI_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { TABLE_HUMAN_BYTES = 40 };

/* "412 B", "1.2 KiB"; "1.5 s", "4m 59s", "3d 4h"; "1,553". All return `text`. */
const char *table_size(uint64_t bytes, char text[TABLE_HUMAN_BYTES]);
const char *table_duration(uint64_t duration_ms, char text[TABLE_HUMAN_BYTES]);
const char *table_count(uint64_t count, char text[TABLE_HUMAN_BYTES]);

struct table;

/*
 * One column for each letter of `alignment`: l left, r right. `headers` are borrowed; NULL: none.
 */
struct table *table_create(const char *alignment, const char *const *headers);
void table_destroy(struct table *table);

/* The next cell, row by row. The text is freed by the table; the empty text is an empty cell. */
void table_add(struct table *table, char *text);

/*
 * Prints and drops the rows so far, the headers before the first; columns without any content are
 * left out. Printed again for the next page, columns keep at least their widths.
 */
void table_print(struct table *table, FILE *out);

#endif
