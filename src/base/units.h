/*
 * The grammar of numbers that people write: counts, sizes (K, M, G: powers of 1024) and durations
 * (ms, s, m, h, d; bare = ms). Decimal digits followed at once by at most one unit, in lower case
 * for durations and either case for sizes; no sign, no fraction, no space.
 *
 * Parsers return false, and leave *value alone, when the text is not of the grammar or the value
 * does not fit into 64 bits. Formatters write the shortest exact form, which parses back.
 */
#ifndef RETHREAD_BASE_UNITS_H
#define RETHREAD_BASE_UNITS_H

#include <stdbool.h>
#include <stdint.h>

enum { UNITS_TEXT_BYTES = 24 };

bool units_parse_count(const char *text, uint64_t *value);
bool units_parse_size(const char *text, uint64_t *value_bytes);
bool units_parse_duration(const char *text, uint64_t *value_ms);

/* Both return `text`. */
const char *units_format_size(uint64_t value_bytes, char text[UNITS_TEXT_BYTES]);
const char *units_format_duration(uint64_t value_ms, char text[UNITS_TEXT_BYTES]);

#endif
