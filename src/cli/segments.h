/*
 * Segments from the command line: the text itself, or what a file holds.
 *
 * As in values.h, each function returns NULL, or what is wrong, fit to follow the flag's name.
 */
#ifndef RETHREAD_CLI_SEGMENTS_H
#define RETHREAD_CLI_SEGMENTS_H

#include "cli/command.h"

/* One more segment of text. */
const char *segments_add_text(struct invocation *invocation, const char *text);

/* One more payload of a chunk: all of a file; - is the standard input. */
const char *segments_add_file(struct invocation *invocation, const char *path);

/* KIND=FILE: one more segment at once, or, of a stream, to be read when the stream has ended. */
const char *segments_option(struct invocation *invocation, const char *text);

/* Reads what segments_option() put off; returns 0, or the exit code after saying what is wrong. */
int segments_read_late(struct invocation *invocation);

#endif
