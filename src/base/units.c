/* Parses and formats numbers with units by one table for each kind. */
#include "base/units.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *name;
    uint64_t factor;
};

/* Largest first: a formatter takes the first that divides. */
static const struct unit sizes[] = {
    {"G", UINT64_C(1) << 30}, {"M", UINT64_C(1) << 20}, {"K", UINT64_C(1) << 10}, {"", 1}};
static const struct unit durations[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000},
                                        {"s", 1000},     {"ms", 1},      {"", 1}};

enum { SIZE_UNITS = sizeof sizes / sizeof *sizes };
enum { DURATION_UNITS = sizeof durations / sizeof *durations };

/* Digits up to *rest; false when there are none or they overflow. */
static bool parse_digits(const char *text, uint64_t *value, const char **rest)
{
    uint64_t sum = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(sum, UINT64_C(10), &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(*at - '0'), &sum)) {
            return false;
        }
    }
    *value = sum;
    *rest = at;
    return at != text;
}

static bool parse(const char *text, const struct unit *units, size_t count,
                  int (*compare)(const char *, const char *), uint64_t *value)
{
    uint64_t number;
    const char *rest;
    if (!parse_digits(text, &number, &rest)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (compare(rest, units[i].name) == 0) {
            uint64_t product;
            if (__builtin_mul_overflow(number, units[i].factor, &product)) {
                return false;
            }
            *value = product;
            return true;
        }
    }
    return false;
}

static const char *format(uint64_t value, const struct unit *units, char *text)
{
    const struct unit *unit = units;
    while (unit->factor > 1 && (value == 0 || value % unit->factor != 0)) {
        unit++;
    }
    snprintf(text, UNITS_TEXT_BYTES, "%" PRIu64 "%s", value / unit->factor, unit->name);
    return text;
}

bool units_parse_count(const char *text, uint64_t *value)
{
    static const struct unit none[] = {{"", 1}};
    return parse(text, none, 1, strcmp, value);
}

bool units_parse_size(const char *text, uint64_t *value_bytes)
{
    return parse(text, sizes, SIZE_UNITS, strcasecmp, value_bytes);
}

bool units_parse_duration(const char *text, uint64_t *value_ms)
{
    return parse(text, durations, DURATION_UNITS, strcmp, value_ms);
}

const char *units_format_size(uint64_t value_bytes, char text[UNITS_TEXT_BYTES])
{
    return format(value_bytes, sizes, text);
}

const char *units_format_duration(uint64_t value_ms, char text[UNITS_TEXT_BYTES])
{
    if (value_ms == 0) {
        snprintf(text, UNITS_TEXT_BYTES, "0"); /* needs no unit */
        return text;
    }
    return format(value_ms, durations, text);
}
