/*
 * Flags: the options of a command on the command line.
 *
 * Each option of the contract is a flag, its underscores dashes: tool_calls is --tool-calls. An
 * array's flag may be repeated, and also be written in the singular: --tool-call; that of prefixes,
 * to be told from prefix, is --step-prefix. A boolean's takes an optional =true or =false, or a no-
 * before its name.
 */
#ifndef RETHREAD_CLI_FLAGS_H
#define RETHREAD_CLI_FLAGS_H

#include "cli/command.h"

enum { FLAGS_MAX = 48, FLAG_NAME_BYTES = 32 };

/* The program's own flags. */
enum own_flag {
    FLAG_SERVER,
    FLAG_TIMEOUT,
    FLAG_FRAME_MAX,
    FLAG_JSON,
    FLAG_REVEAL,
    FLAG_HELP,
    FLAG_STRICT,
    FLAG_TEXT,
    FLAG_FILE,
    FLAG_BARE,
    FLAG_ALL,
    FLAG_SKIP_BAD,
    FLAG_IN_FLIGHT,
    FLAG_THREAD,
    FLAG_STARTS_WITH,
    FLAG_OUTPUT,
    FLAG_AS,
    FLAG_FIELD,
    FLAG_PROFILES,
    FLAG_KIND,
    FLAG_CHUNK_BYTES,
};

struct flag {
    char name[FLAG_NAME_BYTES];
    char alias[FLAG_NAME_BYTES]; /* the singular, or no-NAME; "" for none */
    const char *choices;         /* "a|b|c": the values there are; NULL: any */
    bool repeats;
    const char *value; /* "ID"; NULL: takes none */
    bool value_optional;
    const struct contract_option *option; /* NULL: the program's own */
    enum own_flag own;
    bool global; /* may also stand before the command */
    const char *summary;
};

/* The flags of a command, its own first, then the global ones; NULL: the global ones alone. */
size_t flags_of(const struct command *command, struct flag flags[FLAGS_MAX]);

/*
 * Reads argv[0...] as flags and operands of invocation->command; without a command it stops at the
 * first operand, the command's name. Says what is wrong. Returns 0 or the exit code, and sets *used
 * to the number of arguments taken.
 */
int flags_parse(struct invocation *invocation, int argc, char **argv, int *used);

/* Operands of a method are threads; and whatever is required must be there by now. 0 or exit code.
 */
int flags_finish(struct invocation *invocation);

#endif
