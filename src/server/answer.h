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

/*
 * The steps of a replay while it is answered. Looking at a step costs more than writing what it
 * says, so that the first of them, which is mostly all, are looked at once.
 */
enum { ANSWER_STEPS_KEPT = 512 };

struct answer_step {
    const struct step *step; /* NULL: missing, or left out where the reason is none */
    enum reason missing;
    struct step_view view;
};

struct answer_steps {
    const struct lane *lane;
    const struct thread_replay_result *result;
    uint64_t payload_bytes;   /* of all payloads with their headers, exactly */
    uint32_t position;        /* of the next payload, as are the next two */
    unsigned segment;         /* 0: its step was not looked at yet */
    const uint8_t *payload;   /* of that segment */
    struct answer_step other; /* the last that was looked at of those that are not kept */
    struct answer_step kept[ANSWER_STEPS_KEPT];
};

/* A payload that is not copied. */
struct answer_referred {
    const struct step *step;
    const uint8_t *data;
    uint32_t size_bytes;
    uint32_t step_bytes; /* of all payloads of the step */
};

/*
 * Looks at the steps of a result, which must stay as it is. Returns the bound on what answer_replay
 * and answer_payloads write: all but the payloads that are referred to.
 */
uint64_t answer_replay_look(struct answer_steps *steps, const struct lane *lane,
                            const struct thread_replay_result *result);

/* Writes all but the payloads, whose bytes the frame's length counts already. */
void answer_replay(struct wire_writer *writer, uint32_t msgid, struct answer_steps *steps);

/*
 * Then writes headers of payloads and the payloads that are copied, in the order of steps and
 * segments. True: up to the header of one that the caller is to refer to, and to call again; false:
 * these were all.
 */
bool answer_payloads(struct wire_writer *writer, struct answer_steps *steps,
                     struct answer_referred *referred);

#endif
