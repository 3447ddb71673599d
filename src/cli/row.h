/*
 * One line of an import: a step, in the form that export writes or as a row of a conversation log.
 * `rethread-cli help import` documents both.
 */
#ifndef RETHREAD_CLI_ROW_H
#define RETHREAD_CLI_ROW_H

#include "cli/keep.h"
#include "rethread.h"

#include <jansson.h>
#include <stdbool.h>

enum { ROW_TOOL_CALLS_MAX = 128, ROW_ERROR_BYTES = 160 };

struct row {
    struct rethread_bytes thread; /* of a line that names none; absent: each has to */

    /* Points into the members below; its `turn` is set when the line itself says it. */
    struct rethread_append_options append;
    struct rethread_u64 position; /* the step's number in its thread, when the line has one */
    bool is_log;                  /* a row of a log: its turn is counted from `after` */
    bool after_known;
    bool after_user;

    json_t *root;
    struct keep keep;
    struct rethread_bytes tool_calls[ROW_TOOL_CALLS_MAX];
    struct rethread_segment segments[RETHREAD_PAYLOADS_MAX];
};

/*
 * Reads a line; on false `error` says what is wrong, without a byte of the trace. Either way the
 * row is to be freed.
 */
bool row_read(struct row *row, const char *line, size_t size_bytes, char error[ROW_ERROR_BYTES]);
void row_free(struct row *row);

#endif
