/* An append under way, for append.c and its checks. Private to them. */
#ifndef RETHREAD_THREAD_APPEND_PRIVATE_H
#define RETHREAD_THREAD_APPEND_PRIVATE_H

#include "thread/append.h"
#include "thread/draft.h"
#include "thread/journal.h"
#include "thread/operations.h"

struct append {
    struct lane *lane;
    const struct wire_request *request;
    struct thread_append_result *result;
    struct wire_error *error;
    struct step *step;          /* of a commit only under the claim; NULL once the thread has it */
    struct recall_entry recall; /* when a key was given */
    bool commits;               /* what was streamed */
    bool compact;               /* it may be the only step of a compact thread */
    bool committed;
    bool has_key;
    bool has_expect;
    enum journal_wait wait;
};

/*
 * Each says what is in the way, or STATUS_OK. Without a claim on the thread's life word, what they
 * say of it may no longer be so.
 */
enum status append_check_disk(const struct append *append); /* that it takes what it must have */
enum status append_check_expect(struct append *append, uint32_t version);
enum status append_check_turn(struct append *append, uint32_t previous_turn);

/* Another's claim on the next step is in the way, or what is to be committed is not ours. */
enum status append_check_claim(struct append *append, const struct draft *draft, uint64_t version);

/* `thread`: NULL if it is not there. `memory_only`: it, or what it goes on from, has retention 0.
 */
enum status append_check_lifetimes(const struct append *append, const struct thread *thread,
                                   bool memory_only);
enum status append_never_on_disk(const struct append *append); /* refuses ack: disk */

/* Whether it may follow on what is gone; *continued: with its numbers. `draft`: what is to be
 * committed, or NULL. */
enum status append_judge_gone(struct append *append, const struct lookup *gone,
                              const struct draft *draft, bool *continued);

#endif
