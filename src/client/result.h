/*
 * One decoded response: the bytes it came in, and the structs that point into them.
 *
 * Made by decode.c, handed to the caller by calls.c, freed by rethread_result_free. Nobody changes
 * it once it is decoded.
 */
#ifndef RETHREAD_CLIENT_RESULT_H
#define RETHREAD_CLIENT_RESULT_H

#include "rethread.h"

struct client_block;

struct rethread_result {
    void *memory;                    /* from malloc, what `raw` lies in; NULL: not owned yet */
    struct rethread_bytes raw;       /* the whole response array */
    struct rethread_bytes map;       /* the result's or the error's map */
    struct rethread_bytes *payloads; /* in a block */
    size_t payload_count;
    enum rethread_method method;
    struct rethread_error error; /* its status is the result's; OK: no error */
    union {
        struct rethread_hello_result hello;
        struct rethread_append_result append; /* and commit */
        struct rethread_replay_result replay;
        struct rethread_stat_result stat;
        struct rethread_touch_result touch;
        struct rethread_fork_result fork;
        struct rethread_rewind_result rewind;
        struct rethread_forget_result forget;
        struct rethread_list_result list;
        struct rethread_info_result info;
        struct rethread_begin_result begin;
        struct rethread_chunk_result chunk;
        struct rethread_abort_result abort;
    } of;
    struct client_block *blocks; /* freed with the result */
};

/* An empty result over bytes that it does not own yet; NULL: no memory. */
struct rethread_result *client_result_new(struct rethread_bytes raw);

/* Zeroed memory that lives as long as the result; NULL: no memory. Never NULL for no items. */
void *client_result_alloc(struct rethread_result *result, size_t count, size_t size);

#endif
