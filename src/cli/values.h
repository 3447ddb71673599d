/*
 * The values of flags, from text.
 *
 * Every function returns NULL, or what is wrong with the text, fit to follow the flag's name. It
 * never repeats a payload; the message lives as long as the invocation.
 */
#ifndef RETHREAD_CLI_VALUES_H
#define RETHREAD_CLI_VALUES_H

#include "cli/command.h"

/* An id with its escapes, min to max bytes. */
const char *value_id(struct keep *keep, const char *text, int64_t min, int64_t max,
                     struct rethread_bytes *id);

/* Adds an id to an array, which has its own room. */
const char *value_add_id(struct keep *keep, const char *text, int64_t items_max,
                         struct rethread_ids *ids);

/* Any option of the contract, into its field. text NULL: a boolean's flag without a value. */
const char *value_option(struct invocation *invocation, const struct contract_option *option,
                         const char *text);

/* A number of the kind that the unit at the end of the option's name asks for. */
const char *value_number(struct keep *keep, const char *name, const char *text, int64_t min,
                         int64_t max, int64_t *value);

/* Whether the text is one of "a|b|c". */
bool value_is_one_of(const char *text, const char *choices);

/* How the kind of number is called in help: "TIME", "SIZE" or "N". */
const char *value_number_name(const char *name);

#endif
