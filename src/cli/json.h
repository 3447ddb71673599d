/*
 * Results as JSON.
 *
 * Bytes are a string where they are UTF-8, under the field's own name, and else base64 under the
 * name with _base64 after it; a hash is hexadecimal digits. Payloads are included only where
 * `reveal` says so.
 */
#ifndef RETHREAD_CLI_JSON_H
#define RETHREAD_CLI_JSON_H

#include "rethread.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* Sets a field, or nothing when the value is absent. */
void json_set_bytes(json_t *object, const char *name, struct rethread_bytes bytes);
void json_set_hash(json_t *object, const char *name, struct rethread_bytes hash);
void json_set_u64(json_t *object, const char *name, uint64_t value);
void json_set_present(json_t *object, const char *name, struct rethread_u64 value);
void json_set_text(json_t *object, const char *name, const char *text);
void json_set_bool(json_t *object, const char *name, bool value);
void json_set_ids(json_t *object, const char *name, struct rethread_ids ids);

/* The fields of a step: all but its thread and where it came from. */
void json_set_step(json_t *object, const struct rethread_step *step, bool reveal);

/* A result of a method, as one object. */
json_t *json_of_result(const struct rethread_result *result, bool reveal);
json_t *json_of_listed(const struct rethread_listed_thread *listed);

/* Prints one line and gives the object up. */
void json_print(json_t *object, FILE *out);

#endif
