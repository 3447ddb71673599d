/* The selection of a replay's steps; see select.h for the order of what decides. */
#include "thread/select.h"

#include "thread/journal.h"
#include "thread/lookup.h"
#include "thread/policy.h"
#include "thread/replay.h"
#include "thread/steps.h"
#include "wire/compose.h"
#include "wire/parse.h"
#include "wire/profile.h"

/* What a missing step takes in a reply, at the most. */
enum { MISSING_BYTES = 48 };

/* ---- one position ---- */

static inline bool is_left_out(const struct lane *lane, const struct thread_replay_result *result,
                               uint32_t position)
{
    return position < result->kept_from ||
           (result->tool_turns && position >= select_spine(result)->lost &&
            !policy_in_tool_turn(lane, select_spine(result), result->end, position));
}

/* Where the verdict on a foreign model is kept; judged_count: it is not. */
static unsigned find_judged(const struct thread_replay_result *result, struct bytes model)
{
    unsigned at = 0;
    while (at < result->judged_count && !bytes_equal(model, result->judged[at].model)) {
        at++;
    }
    return at;
}

static bool is_foreign(const struct thread_replay_result *result, struct bytes model)
{
    return model.size > 0 && !bytes_equal(model, result->model);
}

static bool model_fits(const struct thread_replay_result *result, const struct step *step)
{
    struct bytes model = step_model(step);
    if (!is_foreign(result, model)) {
        return true;
    }
    unsigned at = find_judged(result, model);
    return at < result->judged_count ? result->judged[at].fits
                                     : profiles_may_read(result->profiles, model, result->model);
}

/* The verdicts on the first few foreign models are kept: they cost a look at all profiles. */
static void judge_model(struct thread_replay_result *result, const struct step *step)
{
    if (result->judged_count == THREAD_JUDGED_MAX) {
        return;
    }
    struct bytes model = step_model(step);
    if (is_foreign(result, model) && find_judged(result, model) == result->judged_count) {
        bool fits = profiles_may_read(result->profiles, model, result->model);
        result->judged[result->judged_count].model = model;
        result->judged[result->judged_count].fits = fits;
        result->judged_count++;
    }
}

/* Why a position is missing, but for the budgets. */
static inline enum reason reason_missing(const struct thread_replay_result *result,
                                         const struct step *step, uint32_t position)
{
    if (!step) {
        return (enum reason)select_spine(result)->lost_reason;
    }
    if (step->flags & STEP_CORRUPT) {
        return REASON_CORRUPT;
    }
    if (position >= result->mismatch_from) {
        return REASON_PREFIX_MISMATCH;
    }
    return result->model.size == 0 || model_fits(result, step) ? REASON_NONE
                                                               : REASON_MODEL_MISMATCH;
}

const struct step *thread_replay_step(const struct lane *lane,
                                      const struct thread_replay_result *result, uint32_t position,
                                      enum reason *missing)
{
    assert(position >= result->begin && position < result->end);
    *missing = REASON_NONE;
    if (result->all_returned) {
        return spine_step(lane, select_spine(result), position);
    }
    if (is_left_out(lane, result, position)) {
        return NULL;
    }
    const struct step *step = spine_step(lane, select_spine(result), position);
    *missing = reason_missing(result, step, position);
    if (*missing == REASON_NONE && position < result->budget_end) {
        *missing = REASON_BUDGET;
    }
    return *missing == REASON_NONE ? step : NULL;
}

/* ---- what a reply takes ---- */

/* Of a step with a rest. */
static inline uint64_t full_reply_bytes(const struct step *step, const struct step_rest *rest)
{
    return (uint64_t)WIRE_STEP_BYTES_MAX +
           (step->flags & STEP_HAS_VISIBLE ? WIRE_VISIBLE_BYTES_MAX : 0) + rest->model_size +
           step->response_id_size + rest->tool_calls_bytes +
           (uint64_t)rest->tool_call_count * WIRE_TOOL_CALL_BYTES_MAX +
           (uint64_t)step->segment_count * WIRE_SEGMENT_BYTES_MAX + step->payload_bytes;
}

static uint64_t step_reply_bytes(const struct step *step)
{
    return step_is_compact(step)
               ? (uint64_t)WIRE_STEP_BYTES_MAX + WIRE_SEGMENT_BYTES_MAX + step->payload_bytes
               : full_reply_bytes(step, step_rest(step));
}

uint64_t thread_replay_bytes(const struct wire_request *append)
{
    return (uint64_t)WIRE_REPLAY_BYTES_MAX + MISSING_BYTES + WIRE_STEP_BYTES_MAX +
           WIRE_VISIBLE_BYTES_MAX + append->thread.size + append->model.size +
           append->response_id.size + append->tool_calls.encoded.size +
           (uint64_t)append->tool_calls.count * WIRE_TOOL_CALL_BYTES_MAX +
           (uint64_t)append->payload_count * WIRE_SEGMENT_BYTES_MAX + append->payload_bytes;
}

/* A step that does not say counts a token for every four bytes, which of token ids is exact. */
static uint64_t step_tokens(const struct step *step)
{
    return step->flags & STEP_HAS_TOKENS ? step_tokens_given(step)
                                         : ((uint64_t)step->payload_bytes + 3) / 4;
}

/* ---- what the policy and the bindings say ---- */

/* Of the newest step that names one. */
static struct bytes last_model(const struct replay *replay)
{
    const struct thread_replay_result *result = replay->result;
    for (uint32_t at = result->end; at > select_spine(result)->lost; at--) {
        struct bytes model = step_model(spine_step(replay->lane, select_spine(result), at - 1));
        replay->lane->work++;
        if (model.size > 0) {
            return model;
        }
    }
    return bytes_of(NULL, 0);
}

static struct policy_asked asked_policy(const struct replay *replay)
{
    const struct wire_request *request = replay->request;
    struct policy_asked asked = {
        .policy = request->policy,
        .turns = (uint32_t)request->turns,
        .has_turn = wire_given(request, WIRE_FIELD_turn),
        .turn = (uint32_t)request->turn,
    };
    if (asked.policy == WIRE_POLICY_AUTO) {
        struct bytes model =
            wire_given(request, WIRE_FIELD_model) ? request->model : last_model(replay);
        const struct profile *profile = profiles_find(replay->result->profiles, model);
        asked.policy = profile->policy;
        asked.turns = profile->turns;
    }
    return asked;
}

static void leave_out(struct replay *replay, const struct thread *thread)
{
    struct thread_replay_result *result = replay->result;
    struct policy_asked asked = asked_policy(replay);
    struct policy_bounds bounds =
        policy_bounds(replay->lane, select_spine(result), result->end, asked);
    if (asked.policy == WIRE_POLICY_SINCE_FINAL || asked.policy == WIRE_POLICY_LAST_TURNS) {
        replay->lane->work += result->end - bounds.from; /* gone through from the end */
    }
    result->kept_from = bounds.from;
    result->tool_turns = bounds.tool_turns;
    result->has_dropped = replay->request->policy != WIRE_POLICY_ALL || replay->request->pin;
    if (replay->request->pin && rest_of(thread)->floor > result->kept_from) {
        result->kept_from =
            rest_of(thread)->floor < result->end ? rest_of(thread)->floor : result->end;
    }
    if (!result->tool_turns) {
        result->dropped = result->kept_from;
        return;
    }
    /* What is left out in between is counted, and the first that is kept is looked for. */
    uint32_t first = result->end;
    result->dropped = result->kept_from;
    for (uint32_t at = result->end; at > result->kept_from; at--) {
        if (is_left_out(replay->lane, result, at - 1)) {
            result->dropped++;
        } else {
            first = at - 1;
        }
    }
    replay->lane->work += result->end - result->kept_from;
    result->kept_from = first;
}

/* The first position that was produced under another prefix than the caller's. */
static uint32_t find_mismatch(struct replay *replay)
{
    const struct thread_replay_result *result = replay->result;
    struct wire_list pairs = replay->request->prefixes;
    uint32_t first = UINT32_MAX;
    uint64_t number;
    struct bytes prefix;
    replay->lane->work += pairs.count;
    while (wire_pair_next(&pairs, &number, &prefix)) {
        if (number < select_spine(result)->lost || number >= result->end || number >= first) {
            continue;
        }
        struct bytes stored =
            step_prefix(spine_step(replay->lane, select_spine(result), (uint32_t)number));
        if (stored.size > 0 && !bytes_equal(stored, prefix)) {
            first = (uint32_t)number;
        }
    }
    return first;
}

/* ---- what the caller holds ---- */

/* Positions below it are, for all that is known, what they were when the caller got them. */
static uint64_t unchanged_until(const struct replay *replay, const struct thread *thread,
                                const struct snapshot *now)
{
    const struct wire_have *have = &replay->request->have;
    /* A version the thread has not reached, or a fork never had, vouches for nothing. */
    if (have->version > now->version ||
        have->version < (thread_is_compact(thread) ? 0 : rest_of(thread)->shared)) {
        return 0;
    }
    uint64_t vouched =
        have->version > now->spine->lost_base ? have->version - now->spine->lost_base : 0;
    return vouched < now->spine->lost ? vouched
                                      : spine_first_after(replay->lane, thread, now, have->version);
}

/*
 * The budgets of a caller that says what it keeps are for all that it keeps, not for what it is
 * sent: the newest whole steps that fit. Positions below are left out for them.
 */
static uint32_t budget_end(const struct replay *replay)
{
    const struct wire_request *request = replay->request;
    const struct thread_replay_result *result = replay->result;
    uint64_t bytes_left =
        wire_given(request, WIRE_FIELD_max_bytes) ? request->max_bytes : UINT64_MAX;
    uint64_t tokens_left =
        wire_given(request, WIRE_FIELD_max_tokens) ? request->max_tokens : UINT64_MAX;
    if (bytes_left == UINT64_MAX && tokens_left == UINT64_MAX) {
        return 0;
    }
    replay->lane->work += result->end - result->kept_from;
    for (uint32_t at = result->end; at > result->kept_from; at--) {
        const struct step *step = spine_step(replay->lane, select_spine(result), at - 1);
        if (is_left_out(replay->lane, result, at - 1) || reason_missing(result, step, at - 1)) {
            continue;
        }
        if (step->payload_bytes > bytes_left || step_tokens(step) > tokens_left) {
            return at;
        }
        bytes_left -= step->payload_bytes;
        tokens_left -= step_tokens(step);
    }
    return 0;
}

/*
 * The first position, up to have.step, whose reasoning as it is kept now is not what the caller has
 * in its context; UINT64_MAX: it is the same. What is missing does not break the context of a
 * caller that does not have it, but is a hole in what it holds. A bare step has nothing to be held:
 * it may be among `kept` or not.
 */
static uint64_t first_difference(struct replay *replay, uint64_t unchanged)
{
    struct thread_replay_result *result = replay->result;
    const struct wire_have *have = &replay->request->have;
    struct wire_list kept = have->kept;
    uint64_t holds = UINT64_MAX;
    bool more = wire_step_next(&kept, &holds);
    uint64_t beyond = have->step < 0 ? 0 : (uint64_t)have->step + 1;
    uint32_t end = beyond < result->end ? (uint32_t)beyond : result->end;
    replay->lane->work += end;
    for (uint32_t at = 0; at < end; at++) {
        bool held = more && holds == at;
        if (held) {
            more = wire_step_next(&kept, &holds);
        }
        const struct step *step = spine_step(replay->lane, select_spine(result), at);
        if (step && result->model.size > 0) {
            judge_model(result, step);
        }
        enum reason missing = reason_missing(result, step, at);
        missing = missing == REASON_NONE && at < result->budget_end ? REASON_BUDGET : missing;
        bool gone = !step || missing == REASON_CORRUPT;
        bool bare = !gone && step->segment_count == 0;
        bool wanted = !is_left_out(replay->lane, result, at);
        bool keeps = wanted && (gone || missing == REASON_NONE);
        if (held ? at >= unchanged || (!keeps && !bare) : keeps && !gone && !bare) {
            return at;
        }
        result->has_hole = result->has_hole || (wanted && !held && missing != REASON_NONE);
    }
    return more ? holds : UINT64_MAX; /* the thread is shorter than what the caller holds */
}

/* What the caller holds already need not be sent: `have`. */
static void skip_held(struct replay *replay, const struct thread *thread,
                      const struct snapshot *now)
{
    struct thread_replay_result *result = replay->result;
    const struct wire_have *have = &replay->request->have;
    if (!wire_given(replay->request, WIRE_FIELD_have)) {
        return;
    }
    uint64_t beyond = have->step < 0 ? 0 : (uint64_t)have->step + 1;
    uint64_t unchanged = have->step < 0 ? 0 : unchanged_until(replay, thread, now);
    uint64_t changed = unchanged;
    if (have->has_kept) {
        result->budget_end = budget_end(replay);
        changed = first_difference(replay, unchanged);
        result->has_extends = true;
        result->extends = changed == UINT64_MAX;
    } else if (changed > result->mismatch_from) {
        changed = result->mismatch_from;
    }
    if (changed < beyond) {
        result->has_first_changed = true;
        result->first_changed = changed;
    }
    /* What was replaced is told, also when there was and is no reasoning. */
    uint64_t begin = changed < unchanged ? changed : unchanged;
    begin = begin < beyond ? begin : beyond;
    result->begin = begin < result->end ? (uint32_t)begin : result->end;
}

/* ---- what fits ---- */

struct fitting {
    uint64_t frame_max_bytes;
    uint64_t payload_max_bytes;
    uint64_t tokens_max;
    uint64_t frame_bytes; /* so far */
    uint64_t tokens;
    bool full; /* the older ones are left out */
    bool whole;
    enum reason mismatch; /* of the oldest step that does not fit the caller */
};

static bool fits(const struct thread_replay_result *result, struct fitting *fitting,
                 const struct step *step)
{
    fitting->frame_bytes += step_reply_bytes(step);
    fitting->tokens += step_tokens(step);
    return fitting->frame_bytes <= fitting->frame_max_bytes &&
           result->payload_bytes + step->payload_bytes <= fitting->payload_max_bytes &&
           fitting->tokens <= fitting->tokens_max;
}

/* Takes the position into the reply, or says why it is missing there. */
static void fit_one(const struct lane *lane, struct thread_replay_result *result,
                    struct fitting *fitting, uint32_t position)
{
    const struct step *step = spine_step(lane, select_spine(result), position);
    if (step && result->model.size > 0) {
        judge_model(result, step);
    }
    enum reason missing = reason_missing(result, step, position);
    if (missing == REASON_MODEL_MISMATCH || missing == REASON_PREFIX_MISMATCH) {
        fitting->mismatch = missing;
    }
    if (missing != REASON_NONE) {
        fitting->whole = false;
    } else if (fitting->full || position < result->budget_end || !fits(result, fitting, step)) {
        if (position >= result->budget_end) {
            result->budget_end = position + 1;
        }
        fitting->full = true;
        fitting->whole = false;
    } else {
        result->payload_bytes += step->payload_bytes;
        result->segment_count += step->segment_count;
    }
}

/* Whether nothing but the frame, or a damaged step, can keep a step from begin..end-1 out. */
static bool is_plain(const struct replay *replay, const struct fitting *fitting, uint64_t last)
{
    const struct thread_replay_result *result = replay->result;
    return result->model.size == 0 && !result->tool_turns && result->budget_end <= result->begin &&
           result->mismatch_from >= result->end && result->begin >= result->kept_from &&
           result->begin >= select_spine(result)->lost && last >= result->end - result->begin &&
           fitting->whole && fitting->payload_max_bytes == UINT64_MAX &&
           fitting->tokens_max == UINT64_MAX;
}

/*
 * Takes all of the selection into the reply in one go, as most replays want it. False: something is
 * in the way, and nothing was done.
 */
static bool fit_plain(const struct lane *lane, struct thread_replay_result *result,
                      const struct fitting *fitting)
{
    const struct spine *spine = select_spine(result);
    uint64_t frame_bytes = fitting->frame_bytes;
    uint64_t payload_bytes = 0;
    unsigned segments = 0;
    unsigned flags = 0;
    if (!result->spine) {
        const struct step *step = spine_step(lane, spine, 0);
        frame_bytes += step_reply_bytes(step);
        payload_bytes = step->payload_bytes;
        segments = 1;
    } else {
        /* An ordinary thread has ordinary steps only, so that one look says it of all. */
        const uint32_t *refs = spine->steps - spine->lost;
        for (uint32_t at = result->begin; at < result->end; at++) {
            const struct step *step = lane_at(lane, refs[at]);
            const struct step_rest *rest = (const struct step_rest *)(step + 1);
            flags |= step->flags;
            frame_bytes += full_reply_bytes(step, rest);
            payload_bytes += step->payload_bytes;
            segments += step->segment_count;
        }
        assert(!(flags & STEP_COMPACT));
    }
    if ((flags & STEP_CORRUPT) || frame_bytes > fitting->frame_max_bytes) {
        return false;
    }
    result->payload_bytes = payload_bytes;
    result->segment_count = segments;
    result->listed = result->end - result->begin;
    result->state = THREAD_COMPLETE;
    result->all_returned = true;
    return true;
}

/*
 * Keeps the newest whole steps that fit the budgets and the frame, and judges the state. Every
 * position costs at least its entry as a missing step, so that the older ones always fit as such.
 */
static enum status fit(struct replay *replay)
{
    struct thread_replay_result *result = replay->result;
    const struct wire_request *request = replay->request;
    uint64_t last = wire_given(request, WIRE_FIELD_last) ? request->last : UINT64_MAX;
    uint64_t entries = result->end - result->begin;
    uint64_t kept = result->end - result->dropped;
    entries = entries < kept ? entries : kept;
    struct fitting fitting = {
        .frame_max_bytes = replay->lane->threads->settings.frame_max_bytes,
        .payload_max_bytes =
            wire_given(request, WIRE_FIELD_max_bytes) ? request->max_bytes : UINT64_MAX,
        .tokens_max = wire_given(request, WIRE_FIELD_max_tokens) ? request->max_tokens : UINT64_MAX,
        .frame_bytes = WIRE_REPLAY_BYTES_MAX + (entries < last ? entries : last) * MISSING_BYTES,
        .whole = !result->has_hole};
    if (fitting.frame_bytes > fitting.frame_max_bytes) {
        return wire_fail(replay->error, STATUS_TOO_LARGE, "",
                         "the list of steps alone is larger than a frame; ask with last or have");
    }
    if (is_plain(replay, &fitting, last) && result->begin < result->end &&
        fit_plain(replay->lane, result, &fitting)) {
        return STATUS_OK;
    }
    uint32_t begin = result->end;
    for (uint32_t at = result->end; at > result->begin && result->listed < last; at--) {
        if (!is_left_out(replay->lane, result, at - 1)) {
            fit_one(replay->lane, result, &fitting, at - 1);
            result->listed++;
        }
        begin = at - 1;
        if (fitting.full && !result->tool_turns && request->on_mismatch == WIRE_MISMATCH_DROP) {
            /* The older ones are missing, for one reason or another. */
            result->listed += begin - result->begin;
            begin = result->begin;
            break;
        }
    }
    result->begin = begin;
    result->state = fitting.whole ? THREAD_COMPLETE : THREAD_PARTIAL;
    result->all_returned = fitting.whole && result->listed == result->end - result->begin;
    if (fitting.mismatch != REASON_NONE && request->on_mismatch == WIRE_MISMATCH_FAIL) {
        *result = (struct thread_replay_result){.thread = result->thread,
                                                .head = -1,
                                                .in_flight = result->in_flight,
                                                .from_disk = result->from_disk};
        return replay_miss(replay, fitting.mismatch, 0);
    }
    return STATUS_OK;
}

static void prefetch_steps(const struct replay *replay)
{
    /* The steps are independent of each other: their cache misses overlap. */
    const struct thread_replay_result *result = replay->result;
    for (uint32_t at = result->begin; at < result->end; at++) {
        __builtin_prefetch(spine_step(replay->lane, select_spine(result), at));
    }
}

/* ---- all of it ---- */

#define GIVEN(option) (UINT64_C(1) << WIRE_FIELD_##option)

/* Without any of these a replay looks at all steps, whatever they are. */
static const uint64_t choosing_options =
    GIVEN(policy) | GIVEN(pin) | GIVEN(prefixes) | GIVEN(have) | GIVEN(last);

/* Which positions are looked at: begin..end-1. */
static void choose(struct replay *replay, const struct thread *thread, const struct snapshot *now)
{
    struct thread_replay_result *result = replay->result;
    const struct wire_request *request = replay->request;
    leave_out(replay, thread);
    result->mismatch_from = find_mismatch(replay);
    skip_held(replay, thread, now);
    if (result->begin < result->kept_from) {
        result->begin = result->kept_from;
    }
    if (wire_given(request, WIRE_FIELD_last) && !result->tool_turns &&
        result->end - result->begin > request->last) {
        result->begin = result->end - (uint32_t)request->last;
    }
}

static enum status select_from(struct replay *replay, const struct thread *thread,
                               const struct snapshot *now, uint32_t end)
{
    struct thread_replay_result *result = replay->result;
    const struct wire_request *request = replay->request;
    result->thread = thread_id(thread);
    result->spine = now->spine == spine_of_alone(&result->alone) ? NULL : now->spine;
    result->version = now->version;
    result->head = (int64_t)now->length - 1;
    result->end = end < now->length ? end : now->length;
    result->model = request->model;
    result->profiles = replay->lane->threads->settings.profiles;
    const struct thread *lives = thread;
    uint64_t word = lookup_life(replay->lane, &lives);
    result->expires_in_ms = life_remaining_ms(lives, word, replay->lane->now_ms);
    result->in_flight = select_in_flight(replay->lane, thread);
    result->mismatch_from = UINT32_MAX;
    if (request->given & choosing_options) {
        choose(replay, thread, now);
    }
    prefetch_steps(replay);
    replay->lane->work += result->end - result->begin;
    enum status status = fit(replay);
    if (status == STATUS_OK && result->state == THREAD_MISS) {
        result->version = now->version;
    }
    return status;
}

/* What is dropped now stays dropped. Under the claim. */
static void pin(struct replay *replay, struct thread *thread, const struct snapshot *now)
{
    if (replay->result->kept_from <= rest_of(thread)->floor) {
        return;
    }
    rest_of(thread)->floor = replay->result->kept_from;
    journal_put(replay->lane, thread, now->length, REASON_NONE, NULL, JOURNAL_NO_WAIT);
}

enum status select_steps(struct replay *replay, struct thread *thread, const struct snapshot *now,
                         uint32_t end)
{
    struct lane *lane = replay->lane;
    replay->known = true;
    if (!replay->request->pin) {
        return select_from(replay, thread, now, end);
    }
    if (journal_is_full(lane)) {
        return lane_put_back(lane, WANT_ROOM);
    }
    /* For upkeep: nobody's expectation of the thread's version is at stake. */
    if (life_claim_for_upkeep(thread, lane->now_ms) != LIFE_ALIVE) {
        return lane_put_back(lane, WANT_CLAIM);
    }
    struct snapshot held = spine_snapshot(lane, thread);
    enum status status = held.version == now->version ? select_from(replay, thread, now, end)
                                                      : lane_put_back(lane, WANT_CLAIM);
    if (status == STATUS_OK && replay->result->state != THREAD_MISS) {
        pin(replay, thread, now);
    }
    life_release(thread, lane->now_ms, LIFE_KEEP);
    return status;
}
