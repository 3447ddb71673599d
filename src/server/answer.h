/*
 * Results of operations to response frames, field by field as schema/results.def lists them.
 *
 * Each function writes one whole frame into the writer, whose room the caller sized by the bounds
 * given here. Payloads from NET_REFER_BYTES_MIN on are left out of it, for the caller to refer to.
 */
#ifndef RETHREAD_SERVER_ANSWER_H
#define RETHREAD_SERVER_ANSWER_H

#include "thread/operations.h"
#include "wire/compose.h"

enum {
    /* Of one entry of `missing` beside the id, and of one listed thread beside its id. */
    ANSWER_MISSING_BYTES_MAX = 24,
    ANSWER_LISTED_BYTES_MAX = 80,
    ANSWER_METRIC_BYTES_MAX = 64,
};

/* These fit NET_REPLY_SMALL_BYTES. */
void answer_hello(struct wire_writer *writer, uint32_t msgid, uint64_t frame_max_bytes);
void answer_ping(struct wire_writer *writer, uint32_t msgid);
/* Of a commit as well. */
void answer_append(struct wire_writer *writer, const struct wire_request *request,
                   const struct thread_append_result *result);
void answer_begin(struct wire_writer *writer, const struct wire_request *request,
                  const struct thread_begin_result *result);
void answer_chunk(struct wire_writer *writer, uint32_t msgid,
                  const struct thread_chunk_result *result);
void answer_abort(struct wire_writer *writer, uint32_t msgid);
void answer_stat(struct wire_writer *writer, uint32_t msgid,
                 const struct thread_stat_result *result);
void answer_fork(struct wire_writer *writer, const struct wire_request *request,
                 const struct thread_fork_result *result);
void answer_rewind(struct wire_writer *writer, uint32_t msgid,
                   const struct thread_rewind_result *result);
void answer_forget(struct wire_writer *writer, uint32_t msgid, bool forgotten);

/* The frame of a touch up to its missing threads: these follow, one by one. */
uint8_t *answer_touch_begin(struct wire_writer *writer, uint32_t msgid, uint64_t touched,
                            uint32_t missing);
void answer_touch_missing(struct wire_writer *writer, struct bytes id, enum reason reason);

size_t answer_list_bytes(const struct thread_list_result *result); /* bound */
void answer_list(struct wire_writer *writer, uint32_t msgid,
                 const struct thread_list_result *result);

size_t answer_info_bytes(void); /* bound */
void answer_info(struct wire_writer *writer, uint32_t msgid, const uint64_t values[METRIC_COUNT]);

/* Bound on what answer_replay writes: all but the payloads that are referred to. */
uint64_t answer_replay_bytes(const struct lane *lane, const struct thread_replay_result *result);

/*
 * Returns where the first payload's header is: from there on the headers, and the payloads that
 * are not referred to, follow one another in the order of steps and segments.
 */
uint8_t *answer_replay(struct wire_writer *writer, uint32_t msgid, const struct lane *lane,
                       const struct thread_replay_result *result);

#endif
