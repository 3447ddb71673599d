/* The command line, in one table (options.c) that parses and explains. */
#ifndef RETHREAD_BENCH_OPTIONS_H
#define RETHREAD_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct options {
    const char *workload;
    bool quick;
    bool large;
    bool help;
    uint64_t rounds;     /* 0: the workload's own */
    uint64_t count;      /* requests, keys, threads of a measurement; 0: the workload's own */
    const char *program; /* the server to start; NULL: rethread-server beside this program */
    const char *server;  /* address to attach to */
    uint64_t server_pid; /* its process, if it is to be measured */
    const char *peer;    /* "redis", "redis:ADDR" or "none" */
    uint64_t peer_pid;
    const char *trace;     /* a workload's file; NULL: the workload's own */
    uint64_t memory_bytes; /* of the server's budget; 0: the workload's own */
    const char *json;      /* file */
    const char *report;    /* file */
};

/* False, after a message on stderr, when the line is wrong. Strings point into argv. */
bool options_parse(struct options *options, int argc, char **argv);

void options_explain(FILE *out);

#endif
