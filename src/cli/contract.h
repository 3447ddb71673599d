/*
 * The wire contract as data: methods and options, made from schema/ at compile time.
 *
 * Each option knows where in the library's struct of options its value belongs. An option without
 * such a field, or of another type than its field, does not compile: nothing can drift.
 */
#ifndef RETHREAD_CLI_CONTRACT_H
#define RETHREAD_CLI_CONTRACT_H

#include "rethread.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How an option is written: the TYPE column of schema/options.def. */
enum option_type {
    OPTION_ID,
    OPTION_TEXT,
    OPTION_U64,
    OPTION_I64,
    OPTION_BOOL,
    OPTION_ACK,
    OPTION_POLICY,
    OPTION_MISMATCH,
    OPTION_KIND,
    OPTION_IDS,
    OPTION_KINDS,
    OPTION_PREFIX,
    OPTION_PREFIXES,
    OPTION_HAVE,
};

struct contract_option {
    enum rethread_method method;
    const char *name;
    enum option_type type;
    bool required;
    int64_t min; /* of the value, of its bytes, or of the items of an array */
    int64_t max;
    const char *summary;
    size_t offset; /* of its field in the method's struct of options */
};

struct contract_method {
    enum rethread_method method;
    const char *name;
    const char *summary;
};

union contract_arguments {
    struct rethread_hello_options hello;
    struct rethread_append_options append;
    struct rethread_replay_options replay;
    struct rethread_stat_options stat;
    struct rethread_touch_options touch;
    struct rethread_fork_options fork;
    struct rethread_rewind_options rewind;
    struct rethread_forget_options forget;
    struct rethread_list_options list;
    struct rethread_begin_options begin;
    struct rethread_chunk_options chunk;
    struct rethread_commit_options commit;
    struct rethread_abort_options abort;
};

extern const struct contract_method contract_methods[];
extern const size_t contract_method_count;
extern const struct contract_option contract_options[];
extern const size_t contract_option_count;

/* NULL: the method has no such option. */
const struct contract_option *contract_find(enum rethread_method method, const char *name);

/* Whether the option was given. */
bool contract_is_set(const struct contract_option *option,
                     const union contract_arguments *arguments);

/* Sends the request and waits; see the library for statuses and results. */
enum rethread_status contract_call(struct rethread *connection, enum rethread_method method,
                                   const union contract_arguments *arguments,
                                   struct rethread_result **result);

#endif
