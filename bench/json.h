/*
 * Writes JSON to a stream, one object per line: begin and end in pairs, a name before each member.
 * Text is UTF-8 or ASCII; what JSON cannot hold as it stands is escaped.
 */
#ifndef RETHREAD_BENCH_JSON_H
#define RETHREAD_BENCH_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    unsigned depth;
    bool needs_comma;
};

void json_start(struct json *json, FILE *out);

/* `name` is NULL for the line's own object. The last end closes the line. */
void json_object_begin(struct json *json, const char *name);
void json_object_end(struct json *json);

void json_text(struct json *json, const char *name, const char *text); /* NULL is written as null */
void json_count(struct json *json, const char *name, uint64_t count);
void json_number(struct json *json, const char *name, double number); /* not finite: null */
void json_none(struct json *json, const char *name);

#endif
