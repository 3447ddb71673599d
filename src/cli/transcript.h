/*
 * What weave and unweave begin with: a transcript on the standard input, and how it is to be read.
 */
#ifndef RETHREAD_CLI_TRANSCRIPT_H
#define RETHREAD_CLI_TRANSCRIPT_H

#include "cli/command.h"

struct transcript {
    struct rethread_weave_options options; /* the invocation's, with its model and profiles */
    struct rethread_profiles *profiles;
    struct rethread_bytes text; /* the standard input, whole */
    struct rethread_unwoven *unwoven;
};

/*
 * Reads and unweaves the transcript. 0, or the exit code once it has said what is wrong. To be
 * ended in any case.
 */
int transcript_begin(struct transcript *transcript, const struct invocation *invocation,
                     struct rethread_bytes model);
void transcript_end(struct transcript *transcript);

/* Says why a transcript was not taken; returns the exit code. */
int transcript_refuse(enum rethread_status status, const char *error);

/* Prints JSON and ends the line. */
void transcript_print(struct rethread_bytes json);

#endif
