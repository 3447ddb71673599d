/*
 * Commands, and one call of the program.
 *
 * Every method of schema/methods.def is a command; stream, weave, unweave, import, export, verify,
 * help and completion are the program's own. A command is a row of one table (command.c), which
 * drives dispatch, help and completion.
 */
#ifndef RETHREAD_CLI_COMMAND_H
#define RETHREAD_CLI_COMMAND_H

#include "cli/contract.h"
#include "cli/keep.h"
#include "cli/report.h"
#include "rethread_weave.h"

enum command_id {
    COMMAND_METHOD, /* of the contract */
    COMMAND_STREAM,
    COMMAND_WEAVE,
    COMMAND_UNWEAVE,
    COMMAND_IMPORT,
    COMMAND_EXPORT,
    COMMAND_VERIFY,
    COMMAND_HELP,
    COMMAND_COMPLETION,
};

struct invocation;

struct command {
    enum command_id id;
    enum rethread_method method; /* OTHER for the program's own commands */
    const char *name;
    const char *summary;
    const char *operands; /* "[THREAD]"; "" for none */
    const char *notes;    /* what `help` says beyond the options; "" for nothing */
    int (*run)(struct invocation *invocation);
};

/* One call of the program: what the command line says. */
struct invocation {
    const struct command *command;
    struct keep keep; /* of everything below that was decoded */

    const char *server;
    uint64_t timeout_ms;      /* 0: the library's defaults */
    uint64_t frame_max_bytes; /* 0: the library's default */
    bool json;
    bool reveal;
    bool strict;
    bool help;

    union contract_arguments arguments;

    struct rethread_segment segments[RETHREAD_PAYLOADS_MAX]; /* append, commit, chunk */
    size_t segment_count;
    bool bare;
    bool stdin_taken;
    const char *late_segments[RETHREAD_PAYLOADS_MAX]; /* stream: KIND=FILE, read at its end */
    size_t late_count;
    const char *kind;   /* stream; NULL: the server's default */
    size_t chunk_bytes; /* stream */

    struct rethread_weave_options weave; /* weave, unweave */
    bool weave_as_given;
    const char *profiles; /* a file; NULL: none */

    bool all;                         /* list */
    bool skip_bad;                    /* import */
    uint64_t in_flight;               /* import */
    struct rethread_ids threads;      /* export; import and unweave take one */
    struct rethread_bytes start_with; /* export */
    const char *output;               /* export */

    char **operands;
    size_t operand_count;
};

extern const struct command command_rows[];
extern const size_t command_count;

/* NULL: no such command. */
const struct command *command_find(const char *name);

/* Connects as the command line says; says what failed. 0, or the exit code. */
int command_connect(const struct invocation *invocation, struct rethread **connection);

/* Prints a result, as text or as JSON. */
void command_show(const struct invocation *invocation, const struct rethread_result *result);

/* Says an error on stderr and, with --json, on stdout as an object; returns the exit code. */
int command_fail(const struct invocation *invocation, enum rethread_status status,
                 const struct rethread_result *result, const struct rethread *connection);

int command_run_method(struct invocation *invocation);
int command_run_append(struct invocation *invocation); /* and commit */
int command_run_stream(struct invocation *invocation);
int command_run_chunk(struct invocation *invocation);
int command_run_list(struct invocation *invocation);
int command_run_weave(struct invocation *invocation);
int command_run_unweave(struct invocation *invocation);
int command_run_import(struct invocation *invocation);
int command_run_export(struct invocation *invocation);
int command_run_verify(struct invocation *invocation);
int command_run_help(struct invocation *invocation);
int command_run_completion(struct invocation *invocation);

#endif
