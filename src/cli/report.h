/*
 * How the program ends, and what it says when something went wrong.
 *
 * Everything here goes to stderr and begins with the program's name; none of it ever holds bytes
 * of a trace.
 */
#ifndef RETHREAD_CLI_REPORT_H
#define RETHREAD_CLI_REPORT_H

#include "rethread.h"

enum exit_code {
    EXIT_DONE = 0,
    EXIT_MISS = 1,   /* what was asked for is not there, and the reason was said */
    EXIT_USAGE = 2,  /* the command line or the input is wrong: correct it */
    EXIT_SERVER = 3, /* the server refused, or the network, or a file, failed */
};

/* What each message begins with, "append" say; NULL: the program's name alone. Static text. */
void report_context(const char *command);

void report_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Says what failed and what to do about it; returns the exit code for it. */
int report_unconnected(enum rethread_status status, const char *address, int error_number);
int report_failure(enum rethread_status status, const struct rethread_result *result,
                   const struct rethread *connection);

/* What the schema says of a reason: a sentence; "" for one that it does not know. */
const char *report_reason(enum rethread_reason reason);

#endif
