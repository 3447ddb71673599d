/* What is done to threads, and what each operation comes to. Replays are in rules_replay.c. */
#include "tests/lib/rules.h"

#include <assert.h>
#include <string.h>

void rules_init(struct rules *rules, uint64_t now_ms, uint64_t keep_ms, uint64_t claim_ms)
{
    memset(rules, 0, sizeof *rules);
    rules->now_ms = now_ms;
    rules->keep_ms = keep_ms;
    rules->claim_ms = claim_ms;
    for (unsigned t = 0; t < RULES_THREADS; t++) {
        rules->threads[t].reason = REASON_NEVER_SEEN;
    }
}

/* ---- time ---- */

static void use(const struct rules *rules, struct rules_thread *thread)
{
    thread->deadline_ms = rules->now_ms + rules->keep_ms;
    thread->used_last_ms = thread->deadline_ms;
}

static void thread_end(struct rules_thread *thread, enum reason reason)
{
    thread->alive = thread->unsettled = false;
    thread->reason = reason;
    thread->version = reason == REASON_FORGOTTEN ? 0 : thread->version;
    thread->draft.lives = false;
}

static void end_claim(struct rules_thread *thread)
{
    thread->unsettled = thread->alive && thread->deadline_ms != thread->used_last_ms;
    thread->draft.lives = false;
}

void rules_advance(struct rules *rules, uint64_t now_ms)
{
    rules->now_ms = now_ms;
    for (unsigned t = 0; t < RULES_THREADS; t++) {
        struct rules_thread *thread = &rules->threads[t];
        if (thread->draft.lives && thread->draft.until_ms <= now_ms) {
            end_claim(thread);
        }
        if (thread->alive && !thread->draft.lives && thread->used_last_ms <= now_ms) {
            thread_end(thread, REASON_EXPIRED);
        }
    }
}

bool rules_settle(struct rules *rules, unsigned t, bool alive, uint64_t deadline_ms)
{
    struct rules_thread *thread = &rules->threads[t];
    thread->unsettled = false;
    if (!alive) {
        bool may = thread->deadline_ms <= rules->now_ms;
        thread_end(thread, REASON_EXPIRED);
        return may;
    }
    bool may = deadline_ms >= thread->deadline_ms && deadline_ms <= thread->used_last_ms;
    thread->deadline_ms = thread->used_last_ms = deadline_ms;
    return may;
}

void rules_end_claims(struct rules *rules)
{
    for (unsigned t = 0; t < RULES_THREADS; t++) {
        if (rules->threads[t].draft.lives) {
            end_claim(&rules->threads[t]);
        }
    }
}

/* ---- append ---- */

bool rules_step_carries(const struct rules_step *step, enum rules_key_kind kind, unsigned id)
{
    for (unsigned i = 0; kind == RULES_CALL && i < step->call_count; i++) {
        if (step->calls[i] == id) {
            return true;
        }
    }
    return (kind == RULES_RESPONSE && step->response == (int)id) ||
           (kind == RULES_PREFIX && step->prefix == (int)id);
}

static void write_keys(struct rules *rules, const struct rules_step *step)
{
    for (unsigned i = 0; i < RULES_KEY_KINDS * RULES_IDS; i++) {
        struct rules_key *key = &rules->keys[i / RULES_IDS][i % RULES_IDS];
        if (rules_step_carries(step, (enum rules_key_kind)(i / RULES_IDS), i % RULES_IDS)) {
            key->shared |= key->newest && key->newest->writer != step->writer;
            key->newest = step;
        }
    }
}

static bool goes_on(const struct rules_thread *thread)
{
    return !thread->alive && thread->reason == REASON_EXPIRED;
}

/* The version that an append may expect, and how many positions there are before its step. */
static uint32_t known_version(const struct rules_thread *thread)
{
    return thread->alive || goes_on(thread) ? thread->version : 0;
}

static uint32_t known_length(const struct rules_thread *thread)
{
    return thread->alive || goes_on(thread) ? thread->length : 0;
}

static struct rules_outcome conflict(const char *cause, uint64_t version)
{
    return (struct rules_outcome){.status = STATUS_CONFLICT, .cause = cause, .version = version};
}

static struct rules_outcome claimed(const struct rules_thread *thread)
{
    return conflict("claimed", known_version(thread));
}

static uint32_t last_turn(const struct rules_thread *thread)
{
    bool held = thread->alive && thread->length > thread->lost;
    return held ? thread->places[thread->length - 1].step->turn : 0;
}

/* A thread that is not there begins, or goes on where it ended. */
static void thread_start(struct rules_thread *thread, bool afresh)
{
    bool on = !afresh && goes_on(thread);
    thread->lost = thread->length = on ? thread->length : 0;
    thread->version = on ? thread->version : 0;
    thread->lost_base = thread->version - thread->lost;
    thread->lost_reason = thread->reason;
    thread->fork_version = 0;
    thread->floor = 0; /* what was lost took its floor with it: the lost are missing, not dropped */
    thread->alive = true;
    thread->incarnation++;
}

static struct rules_outcome commit(struct rules *rules, unsigned t,
                                   const struct rules_append *asked)
{
    struct rules_thread *thread = &rules->threads[t];
    bool afresh = asked->has_expect && asked->expect == 0;
    uint32_t known = known_version(thread), previous = last_turn(thread);
    if (afresh && thread->alive) {
        return conflict("exists", known);
    }
    if (asked->has_expect && !afresh && asked->expect != known) {
        return conflict("version", known);
    }
    const struct rules_draft *draft = &thread->draft;
    bool cut = draft->lives && draft->kind == WIRE_KIND_TOKENS && draft->size % 4 != 0;
    if (cut || (asked->has_turn && asked->step.turn < previous)) {
        return (struct rules_outcome){.status = STATUS_BAD_REQUEST};
    }
    bool created = !thread->alive && (afresh || !goes_on(thread));
    if (!thread->alive) {
        thread_start(thread, afresh);
    }
    assert(rules->made_count < RULES_MADE && thread->length < RULES_STEPS);
    struct rules_step *step = &rules->made[rules->made_count++];
    *step = asked->step;
    step->turn = asked->has_turn ? asked->step.turn : previous;
    step->writer = t;
    step->incarnation = thread->incarnation;
    step->number = thread->length;
    step->version = ++thread->version;
    thread->places[thread->length++] = (struct rules_place){.step = step};
    write_keys(rules, step);
    use(rules, thread);
    return (struct rules_outcome){.status = STATUS_OK,
                                  .version = step->version,
                                  .step = step->number,
                                  .lost = thread->lost,
                                  .created = created};
}

struct rules_outcome rules_append(struct rules *rules, unsigned t, const struct rules_append *asked)
{
    if (rules->threads[t].draft.lives) {
        return claimed(&rules->threads[t]);
    }
    return commit(rules, t, asked);
}

/* ---- streaming ---- */

struct rules_outcome rules_begin(struct rules *rules, unsigned t, enum wire_kind kind)
{
    struct rules_thread *thread = &rules->threads[t];
    if (thread->draft.lives) {
        return claimed(thread);
    }
    thread->draft = (struct rules_draft){
        .lives = true, .kind = kind, .until_ms = rules->now_ms + rules->claim_ms};
    thread->used_last_ms = rules->now_ms + rules->keep_ms;
    return (struct rules_outcome){
        .status = STATUS_OK, .step = known_length(thread), .version = known_version(thread)};
}

void rules_claim(struct rules *rules, unsigned t, uint64_t claim)
{
    rules->threads[t].draft.claim = claim;
}

static bool holds_claim(const struct rules_thread *thread, uint64_t claim)
{
    return thread->draft.lives && thread->draft.claim == claim;
}

struct rules_outcome rules_chunk(struct rules *rules, unsigned t, uint64_t claim,
                                 const uint8_t *bytes, uint32_t size)
{
    struct rules_thread *thread = &rules->threads[t];
    if (!holds_claim(thread, claim)) {
        return claimed(thread);
    }
    struct rules_draft *draft = &thread->draft;
    assert(draft->size + size <= RULES_PAYLOAD_BYTES);
    memcpy(draft->bytes + draft->size, bytes, size);
    draft->size += size;
    draft->until_ms = rules->now_ms + rules->claim_ms;
    thread->used_last_ms = rules->now_ms + rules->keep_ms;
    return (struct rules_outcome){.status = STATUS_OK};
}

/* What was streamed is the first segment; what the commit brings follows. */
struct rules_outcome rules_commit(struct rules *rules, unsigned t, const struct rules_append *asked)
{
    struct rules_thread *thread = &rules->threads[t];
    if (!holds_claim(thread, asked->claim)) {
        return claimed(thread);
    }
    const struct rules_draft *draft = &thread->draft;
    struct rules_append whole = *asked;
    struct rules_step *step = &whole.step;
    if (draft->size > 0) {
        assert(step->segment_count < RULES_SEGMENTS &&
               step->size + draft->size <= RULES_PAYLOAD_BYTES);
        memmove(step->payload + draft->size, step->payload, step->size);
        memcpy(step->payload, draft->bytes, draft->size);
        memmove(step->kinds + 1, step->kinds, step->segment_count * sizeof step->kinds[0]);
        memmove(step->sizes + 1, step->sizes, step->segment_count * sizeof step->sizes[0]);
        step->kinds[0] = draft->kind;
        step->sizes[0] = draft->size;
        step->size += draft->size;
        step->segment_count++;
    }
    struct rules_outcome outcome = commit(rules, t, &whole);
    if (outcome.status == STATUS_OK) {
        thread->draft.lives = false;
    }
    return outcome;
}

struct rules_outcome rules_abort(struct rules *rules, unsigned t, uint64_t claim)
{
    struct rules_thread *thread = &rules->threads[t];
    if (!holds_claim(thread, claim)) {
        return claimed(thread);
    }
    thread->used_last_ms = rules->now_ms + rules->keep_ms;
    end_claim(thread);
    return (struct rules_outcome){.status = STATUS_OK};
}

/* ---- the others ---- */

struct rules_outcome rules_fork(struct rules *rules, unsigned to, unsigned from, bool has_at,
                                uint32_t at)
{
    struct rules_thread *fork = &rules->threads[to];
    const struct rules_thread *origin = &rules->threads[from];
    if (!origin->alive) {
        return (struct rules_outcome){.status = STATUS_NOT_FOUND};
    }
    if (fork->alive) {
        return conflict("exists", fork->version);
    }
    uint32_t keep = has_at ? at + 1 : origin->length;
    if (fork->draft.lives) {
        return (struct rules_outcome){.status = STATUS_CONFLICT, .any_cause = true};
    }
    if (keep > origin->length) {
        return (struct rules_outcome){.status = STATUS_BAD_REQUEST};
    }
    memcpy(fork->places, origin->places, keep * sizeof fork->places[0]);
    fork->alive = true;
    fork->incarnation++;
    fork->version = fork->length = fork->fork_version = keep;
    fork->lost = origin->lost < keep ? origin->lost : keep;
    fork->lost_reason = origin->lost_reason;
    fork->floor = origin->floor < keep ? origin->floor : keep;
    use(rules, fork);
    return (struct rules_outcome){.status = STATUS_OK, .version = keep};
}

struct rules_outcome rules_rewind(struct rules *rules, unsigned t, int64_t to)
{
    struct rules_thread *thread = &rules->threads[t];
    if (!thread->alive) {
        return (struct rules_outcome){.status = STATUS_NOT_FOUND};
    }
    if (thread->draft.lives) {
        return claimed(thread);
    }
    if (to >= (int64_t)thread->length) {
        return (struct rules_outcome){.status = STATUS_BAD_REQUEST};
    }
    uint32_t keep = (uint32_t)(to + 1), dropped = thread->length - keep;
    thread->length = keep;
    thread->lost = thread->lost < keep ? thread->lost : keep;
    thread->floor = thread->floor < keep ? thread->floor : keep;
    thread->version++;
    return (struct rules_outcome){
        .status = STATUS_OK, .version = thread->version, .dropped = dropped};
}

void rules_forget(struct rules *rules, unsigned t)
{
    struct rules_thread *thread = &rules->threads[t];
    if (thread->alive) {
        thread_end(thread, REASON_FORGOTTEN);
    }
    thread->draft.lives = false;
}

bool rules_touch(struct rules *rules, unsigned t)
{
    if (rules->threads[t].alive) {
        use(rules, &rules->threads[t]);
    }
    return rules->threads[t].alive;
}
