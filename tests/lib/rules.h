/*
 * The rules of replay as a small sequential model: plain arrays, looked through by walking them.
 *
 * A world is a few threads with small alphabets of keys, prefixes and models, so that collisions
 * and boundaries are frequent. Each rules_* function says what the contract makes of one operation
 * and does it; nothing here knows the domain. Where the contract leaves a question open the model
 * takes what is safest for the user: a part never passes for the whole, and each position is
 * returned, missing with a reason, or left out by the policy or the floor.
 *
 * Not modelled: idempotency keys, lifetimes other than the default (test_model does both), max age,
 * frames that are too small.
 */
#ifndef RETHREAD_TESTS_LIB_RULES_H
#define RETHREAD_TESTS_LIB_RULES_H

#include "wire/request.h"

enum {
    RULES_THREADS = 3,
    RULES_STEPS = 64, /* positions of a thread */
    RULES_MADE = 128, /* steps ever committed */
    RULES_IDS = 3,    /* of each kind of key, and of visible hashes */
    RULES_CALLS = 2,
    RULES_SEGMENTS = 4,
    RULES_PAYLOAD_BYTES = 64,
    RULES_MODELS = 6,
};

enum rules_key_kind { RULES_RESPONSE, RULES_CALL, RULES_PREFIX, RULES_KEY_KINDS };

/* The models' names, and the profiles that the domain must be given for them (a file's text). */
extern const char *const rules_models[RULES_MODELS];
extern const char rules_profiles[];

struct rules_step {
    unsigned writer; /* thread */
    unsigned incarnation;
    uint32_t number, version, turn, tokens;
    bool final, has_tokens;
    int model, response, prefix, visible; /* -1: none */
    unsigned call_count;
    unsigned calls[RULES_CALLS];
    unsigned segment_count;
    enum wire_kind kinds[RULES_SEGMENTS];
    uint32_t sizes[RULES_SEGMENTS];
    uint32_t size;
    uint8_t payload[RULES_PAYLOAD_BYTES];
};

/* What a thread has at a position that is not lost. */
struct rules_place {
    const struct rules_step *step;
    bool corrupt; /* and so cannot be read, in this thread */
};

struct rules_draft {
    bool lives;
    uint64_t claim, until_ms;
    enum wire_kind kind;
    uint32_t size;
    uint8_t bytes[RULES_PAYLOAD_BYTES];
};

struct rules_thread {
    bool alive; /* not alive with a draft: unborn */
    /* A claim has ended, and the contract does not say whether chunks are uses of the thread: the
     * caller finds out, with rules_settle. */
    bool unsettled;
    enum reason reason, lost_reason;
    unsigned incarnation;
    uint32_t version, length, lost, fork_version, floor;
    uint32_t lost_base;    /* lost position p was there by version lost_base + p + 1 */
    uint64_t deadline_ms;  /* while a draft lives: it has been used at least so late; and */
    uint64_t used_last_ms; /* what the deadline would be if chunks are uses */
    struct rules_place places[RULES_STEPS];
    struct rules_draft draft;
};

struct rules_key {
    const struct rules_step *newest;
    bool shared; /* more than one thread wrote it */
};

struct rules {
    uint64_t now_ms, keep_ms, claim_ms;
    struct rules_thread threads[RULES_THREADS];
    struct rules_key keys[RULES_KEY_KINDS][RULES_IDS];
    struct rules_step made[RULES_MADE];
    unsigned made_count;
};

/* What an operation other than replay comes to. */
struct rules_outcome {
    enum status status;
    const char *cause; /* of a conflict */
    bool any_cause;    /* some conflict: the contract does not say which */
    uint64_t version;
    uint32_t step, lost, dropped;
    bool created;
};

void rules_init(struct rules *rules, uint64_t now_ms, uint64_t keep_ms, uint64_t claim_ms);
void rules_advance(struct rules *rules, uint64_t now_ms);
/* Whether the thread is there still, and until when. False: that cannot be. */
bool rules_settle(struct rules *rules, unsigned t, bool alive, uint64_t deadline_ms);
/* All claims end, as with the process. */
void rules_end_claims(struct rules *rules);

struct rules_append {
    struct rules_step step; /* what writer, number and version are settled for */
    bool has_expect, has_turn;
    uint64_t expect;
    uint64_t claim; /* of a commit; its step has only what the commit brings */
};

struct rules_outcome rules_append(struct rules *rules, unsigned t,
                                  const struct rules_append *asked);
struct rules_outcome rules_begin(struct rules *rules, unsigned t, enum wire_kind kind);
/* The claim that the domain gave out for the begin before. */
void rules_claim(struct rules *rules, unsigned t, uint64_t claim);
struct rules_outcome rules_chunk(struct rules *rules, unsigned t, uint64_t claim,
                                 const uint8_t *bytes, uint32_t size);
struct rules_outcome rules_commit(struct rules *rules, unsigned t,
                                  const struct rules_append *asked);
struct rules_outcome rules_abort(struct rules *rules, unsigned t, uint64_t claim);
struct rules_outcome rules_fork(struct rules *rules, unsigned to, unsigned from, bool has_at,
                                uint32_t at);
struct rules_outcome rules_rewind(struct rules *rules, unsigned t, int64_t to);
void rules_forget(struct rules *rules, unsigned t);
bool rules_touch(struct rules *rules, unsigned t);

/* ---- replay ---- */

struct rules_query {
    int thread; /* -1: not given */
    bool keyed;
    enum rules_key_kind kind;
    bool is_list; /* of prefixes */
    unsigned id_count;
    unsigned ids[RULES_IDS + 1];
    bool has_policy;
    enum wire_policy policy;
    bool has_turn, has_turns;
    uint64_t turn, turns;
    int model; /* -1: not given */
    unsigned prefix_count;
    uint32_t prefix_steps[RULES_STEPS];
    unsigned prefixes[RULES_STEPS];
    bool fail; /* on_mismatch */
    bool has_have, has_kept;
    uint64_t have_version;
    int64_t have_step;
    bool kept[RULES_STEPS + 4];
    uint64_t last; /* 0: not given, as is UINT64_MAX of the next two */
    uint64_t max_bytes, max_tokens;
    bool pin, touch;
};

struct rules_entry {
    uint32_t position;
    const struct rules_step *step; /* NULL: missing */
    enum reason missing;
};

struct rules_answer {
    bool miss, partial;
    bool any_reason; /* of a miss by a key whose step is gone: test_model knows more */
    enum reason reason;
    bool ambiguous;
    int thread; /* -1: none */
    uint64_t version;
    int64_t head;
    bool has_found, in_flight, has_dropped, has_extends, extends, has_first_changed;
    uint32_t found, kept_from, dropped, first_changed;
    uint32_t listed;
    struct rules_entry entries[RULES_STEPS];
    uint32_t end; /* positions asked for */
};

void rules_replay(struct rules *rules, const struct rules_query *query,
                  struct rules_answer *answer);

bool rules_step_carries(const struct rules_step *step, enum rules_key_kind kind, unsigned id);

#endif
