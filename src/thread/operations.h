/*
 * The operations on threads, as the wire contract defines them, without the wire.
 *
 * Each takes the lane (online), a validated request, and fills a result. STATUS_OK: the result is
 * complete (a miss is a result, not an error). STATUS_AGAIN: nothing was done because another loop
 * holds the thread's claim or memory is being freed; call again with the same request on a later
 * turn, after lane_tend (the caller bounds how often; then thread_give_up tells the error). Any
 * other status: *error is filled in and nothing was done.
 *
 * Pointers in results lead into shared records: valid until lane_offline, or while step_pin holds.
 */
#ifndef RETHREAD_THREAD_OPERATIONS_H
#define RETHREAD_THREAD_OPERATIONS_H

#include "index/index.h"
#include "thread/step.h"
#include "thread/threads.h"
#include "wire/request.h"

enum thread_state { THREAD_COMPLETE, THREAD_PARTIAL, THREAD_MISS };

struct thread_append_result {
    uint32_t step;
    uint64_t version;
    bool created;
    bool duplicate;
    uint64_t lost; /* earlier steps that are missing */
    uint64_t expires_in_ms;
    struct tier_change *pending; /* ack: disk, or retention 0: answer later, see lane_await */
};

/* Room for what the room makes of a thread of one step. */
struct alone {
    _Alignas(8) unsigned char bytes[72];
};

enum status thread_append(struct lane *lane, const struct wire_request *request,
                          struct thread_append_result *result, struct wire_error *error);

/*
 * Streaming append: begin takes the thread's next step and returns a claim; chunks bring its bytes;
 * commit makes it a step, abort lets it go. Nothing of it is seen by others before the commit, but
 * that it is in flight; their appends and rewinds are conflicts, cause `claimed`, meanwhile. The
 * claim keeps the thread alive, and ends when the time is up, or the thread does (forgotten, or at
 * its max age). Who comes with another claim than the thread's present one gets the same conflict.
 */
struct thread_begin_result {
    uint32_t step;
    uint64_t version; /* of the thread as it is */
    uint64_t claim;
    uint64_t claim_expires_in_ms;
};

enum status thread_begin(struct lane *lane, const struct wire_request *request,
                         struct thread_begin_result *result, struct wire_error *error);

struct thread_chunk_result {
    uint64_t step_bytes; /* so far */
    uint64_t claim_expires_in_ms;
};

enum status thread_chunk(struct lane *lane, const struct wire_request *request,
                         struct thread_chunk_result *result, struct wire_error *error);

/*
 * As thread_append. With an idempotency key a commit may be sent again when its answer was lost:
 * the same claim and payloads are answered as the first time.
 */
enum status thread_commit(struct lane *lane, const struct wire_request *request,
                          struct thread_append_result *result, struct wire_error *error);

enum status thread_abort(struct lane *lane, const struct wire_request *request,
                         struct wire_error *error);

enum { THREAD_JUDGED_MAX = 4 }; /* a thread's steps are of few models */

struct thread_replay_result {
    enum thread_state state;
    enum reason reason;  /* of a miss */
    uint64_t vouch_ms;   /* with REASON_NEVER_SEEN */
    bool ambiguous;      /* several threads wrote this prefix; the newest is answered */
    struct bytes thread; /* id; empty when a step key led nowhere */
    bool from_disk;      /* its steps had to be loaded for this */
    uint64_t version;
    int64_t head;   /* -1: no steps */
    bool has_found; /* a list of prefixes was asked, and this one of it was found */
    uint32_t found;
    bool in_flight;     /* a step is being streamed into the thread */
    bool has_dropped;   /* a policy or the floor was applied: */
    uint32_t kept_from; /* the first position they kept */
    uint32_t dropped;   /* how many they left out */
    bool has_extends;
    bool extends;
    bool has_first_changed;
    uint64_t first_changed;
    uint64_t expires_in_ms;
    /* The selection: positions begin..end-1, to be walked with thread_replay_step. */
    uint32_t begin;
    uint32_t end;
    uint32_t listed;        /* steps returned or missing: all of them but those left out */
    unsigned segment_count; /* of all returned steps */
    uint64_t payload_bytes; /* of all returned segments */
    /* Private to the room. */
    const struct spine *spine;
    const struct profiles *profiles;
    struct bytes model; /* of the reader; empty: not given */
    bool all_returned;  /* none of the selection is missing or left out */
    bool has_hole;   /* before `begin`: a step that is missing, and that the caller does not have */
    bool tool_turns; /* only turns in which a tool was called are kept */
    uint32_t mismatch_from; /* positions from here on were produced under another prefix */
    uint32_t budget_end;    /* positions below it were left out for the budget */
    unsigned judged_count;  /* models of other steps, with whether the reader may have them: */
    struct {
        struct bytes model;
        bool fits;
    } judged[THREAD_JUDGED_MAX]; /* from here on: set as far as they are counted */
    struct alone alone;          /* in the place of `spine` if that is NULL */
};

enum status thread_replay(struct lane *lane, const struct wire_request *request,
                          struct thread_replay_result *result, struct wire_error *error);

/*
 * The step at a position of the selection, or NULL with why it is missing; REASON_NONE then: it is
 * not missing but left out by the policy, and is not to be listed.
 */
const struct step *thread_replay_step(const struct lane *lane,
                                      const struct thread_replay_result *result, uint32_t position,
                                      enum reason *missing);

struct thread_stat_result {
    enum thread_state state; /* PARTIAL: earlier steps were lost */
    enum reason reason;
    uint64_t vouch_ms;
    uint64_t version;
    uint64_t step_count; /* positions, lost ones included */
    uint64_t payload_bytes;
    uint64_t tokens;
    uint64_t age_ms;
    uint64_t idle_ms;
    uint64_t expires_in_ms;
    bool on_disk; /* and not in memory, but for this look at it */
    bool in_flight;
    uint32_t floor;
};

enum status thread_stat(struct lane *lane, const struct wire_request *request,
                        struct thread_stat_result *result, struct wire_error *error);

/* One thread of a touch (the caller walks request->threads). REASON_NONE: it was touched. */
enum status thread_touch(struct lane *lane, struct bytes id, bool has_ttl, uint64_t ttl_ms,
                         enum reason *missing);

struct thread_fork_result {
    uint64_t version;
    uint64_t expires_in_ms;
};

enum status thread_fork(struct lane *lane, const struct wire_request *request,
                        struct thread_fork_result *result, struct wire_error *error);

struct thread_rewind_result {
    uint64_t version;
    uint64_t dropped;
};

enum status thread_rewind(struct lane *lane, const struct wire_request *request,
                          struct thread_rewind_result *result, struct wire_error *error);

struct thread_forget_result {
    bool forgotten;
    struct tier_change *pending; /* it was on disk: answer when the disk has forgotten it */
};

enum status thread_forget(struct lane *lane, const struct wire_request *request,
                          struct thread_forget_result *result, struct wire_error *error);

struct thread_listed {
    struct bytes id;
    uint64_t version;
    uint64_t payload_bytes;
    uint64_t idle_ms;
    bool on_disk; /* and not in memory */
};

enum { THREAD_CURSOR_BYTES = 16, THREAD_LIST_MAX = 1000 };

struct thread_list_result {
    unsigned count;
    struct thread_listed listed[THREAD_LIST_MAX];
    bool more; /* cursor leads on; a page may be short, even empty, and still have more */
    uint8_t cursor[THREAD_CURSOR_BYTES];
};

enum status thread_list(struct lane *lane, const struct wire_request *request,
                        struct thread_list_result *result, struct wire_error *error);

/*
 * Hints for the requests of one turn: bring in, one after the other, the entry of the index's
 * directory, the bucket and the record they will read. Each over all requests before the next, so
 * that what one brings in has had time to arrive; the first fills in what the others go by. What
 * only the disk may know is asked for by the third. The first also notes the name's hash in the
 * request, so that the operation need not hash it again, and the third what it saw there.
 *
 * The last one is for each request by itself, THREAD_PREFETCH_AHEAD requests before its turn: it
 * brings in what a replay will copy. It does nothing once the lane has been offline, or tended.
 */
enum { THREAD_PREFETCH_AHEAD = 2 };

struct thread_hint {
    struct index_hash hash;
    const struct index_record *likely; /* what is under the name, or something else; or NULL */
    uint64_t turn;                     /* of the lane, in which that may be looked at */
    bool has_name; /* else the request looks nothing up, and its hint is of no use */
};

void thread_prefetch_directory(struct lane *lane, struct wire_request *request,
                               struct thread_hint *hint);
void thread_prefetch_bucket(struct lane *lane, const struct thread_hint *hint);
void thread_prefetch_record(struct lane *lane, struct wire_request *request,
                            struct thread_hint *hint);
void thread_prefetch_steps(const struct lane *lane, const struct wire_request *request,
                           const struct thread_hint *hint);

/* Of an operation that has just got STATUS_AGAIN: it waits until the disk has taken in more of what
 * it was given, as do all others that change anything. */
bool thread_awaits_room(const struct lane *lane);

/* The error for a request that got STATUS_AGAIN too often: busy, or over_budget for want of memory.
 */
enum status thread_give_up(struct lane *lane, const struct wire_request *request,
                           struct wire_error *error);

#endif
