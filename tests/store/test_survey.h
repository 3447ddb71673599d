/*
 * What the flips ask of a store, what it comes to, and whether that is as good as what it should
 * have come to. Header only.
 */
#ifndef RETHREAD_TESTS_STORE_TEST_SURVEY_H
#define RETHREAD_TESTS_STORE_TEST_SURVEY_H

#include "tests/store/test_image.h"

enum { PARTS_MAX = 96 };

/* ---- What is asked, and what it comes to ------------------------------------------------------
 */

struct question {
    enum tier_load_kind kind;
    enum record_kind record_kind;
    const char *id;
};

static const struct question questions[] = {
    {TIER_LOAD_THREAD, RECORD_THREAD, "a"},       {TIER_LOAD_THREAD, RECORD_THREAD, "b"},
    {TIER_LOAD_THREAD, RECORD_THREAD, "c"},       {TIER_LOAD_THREAD, RECORD_THREAD, "d"},
    {TIER_LOAD_THREAD, RECORD_THREAD, "e"},       {TIER_LOAD_THREAD, RECORD_THREAD, "gone"},
    {TIER_LOAD_THREAD, RECORD_THREAD, "never"},   {TIER_LOAD_KEY, RECORD_RESPONSE_ID, "ra0"},
    {TIER_LOAD_KEY, RECORD_RESPONSE_ID, "ra3"},   {TIER_LOAD_KEY, RECORD_TOOL_CALL, "shared"},
    {TIER_LOAD_KEY, RECORD_RESPONSE_ID, "rb1"},   {TIER_LOAD_KEY, RECORD_RESPONSE_ID, "rc1"},
    {TIER_LOAD_KEY, RECORD_RESPONSE_ID, "cut"},   {TIER_LOAD_KEY, RECORD_RESPONSE_ID, "rgone"},
    {TIER_LOAD_KEY, RECORD_RESPONSE_ID, "never"}, {TIER_LOAD_PAGE, RECORD_THREAD, ""},
};
enum { QUESTIONS = sizeof questions / sizeof questions[0] };

struct outcome {
    enum tier_found found;
    unsigned damaged;
    uint64_t whole; /* hash of a head, a key, a tombstone */
    unsigned steps;
    unsigned parts; /* steps, then recalls; or the threads of a page */
    bool corrupt[PARTS_MAX];
    uint64_t part[PARTS_MAX];
};

static inline uint64_t mix(uint64_t seed, struct bytes bytes)
{
    return XXH3_64bits_withSeed(bytes.data, bytes.size, seed + bytes.size);
}

static inline uint64_t step_hash(const struct step_parts *parts)
{
    uint32_t plain[] = {parts->number,    parts->version,       parts->turn,
                        parts->tokens,    parts->final,         parts->has_tokens,
                        parts->inherited, parts->segment_count, parts->tool_call_count};
    uint64_t hash = XXH3_64bits(plain, sizeof plain);
    hash = mix(hash, parts->segments);
    hash = mix(hash, parts->response_id);
    hash = mix(hash, parts->prefix);
    hash = mix(hash, parts->visible);
    hash = mix(hash, parts->model);
    hash = mix(hash, parts->tool_calls);
    return mix(hash, parts->payload);
}

static inline void add_part(struct outcome *outcome, uint64_t hash, bool corrupt)
{
    if (outcome->parts < PARTS_MAX) {
        outcome->part[outcome->parts] = hash;
        outcome->corrupt[outcome->parts] = corrupt;
    }
    outcome->parts++;
}

static inline void take_image(struct outcome *outcome, const struct tier_image *taken)
{
    uint8_t head[512];
    record_put_head(head, &taken->head);
    outcome->whole = XXH3_64bits(head, record_head_bytes(&taken->head));
    outcome->steps = taken->step_count;
    for (uint32_t i = 0; i < taken->step_count; i++) {
        const struct step_parts *parts = &taken->steps[i];
        add_part(outcome, parts->corrupt ? 0 : step_hash(parts), parts->corrupt);
    }
    for (uint32_t i = 0; i < taken->recall_count; i++) {
        uint8_t recall[RECORD_RECALL_BYTES];
        record_put_recall(recall, &taken->recalls[i]);
        add_part(outcome, XXH3_64bits(recall, sizeof recall), false);
    }
}

static inline void take_page(struct outcome *outcome, const struct tier_page *page)
{
    for (uint32_t i = 0; i < page->count; i++) {
        const struct tier_listed *listed = &page->listed[i];
        uint64_t plain[] = {listed->uid,           listed->name.low, listed->name.high,
                            listed->payload_bytes, listed->used_ms,  listed->version};
        add_part(outcome,
                 mix(XXH3_64bits(plain, sizeof plain), bytes_of(listed->id, listed->id_size)),
                 false);
    }
}

static inline void ask_tree(const struct question *question, struct outcome *outcome)
{
    struct tier_load load;
    *outcome = (struct outcome){0};
    load_begin(&load, question->kind, question->record_kind, bytes_text(question->id));
    load.limit = 100;
    tree_load(image.tree, &load, &outcome->damaged);
    outcome->found = load.found;
    if (load.found == TIER_TOMBSTONE) {
        uint32_t plain[] = {load.tombstone.reason, load.tombstone.shared, load.tombstone.version,
                            load.tombstone.steps};
        outcome->whole = XXH3_64bits(plain, sizeof plain);
    } else if (load.found == TIER_FOUND && load.image) {
        take_image(outcome, load.image);
    } else if (load.found == TIER_FOUND && load.page) {
        take_page(outcome, load.page);
    } else if (load.found == TIER_FOUND) {
        uint64_t plain[] = {load.key.owner.low, load.key.owner.high, load.key.uid,
                            load.key.number,    load.key.version,    load.key.shared};
        outcome->whole =
            mix(XXH3_64bits(plain, sizeof plain), bytes_of(load.key.id, load.key.id_size));
    }
    free(load.image);
    free(load.page);
}

/* What all questions came to. */
struct survey {
    struct outcome outcomes[QUESTIONS];
};

static inline void take_survey(struct survey *survey)
{
    for (unsigned i = 0; i < QUESTIONS; i++) {
        ask_tree(&questions[i], &survey->outcomes[i]);
    }
}

enum verdict {
    EXACT,
    DAMAGE_SEEN, /* less than there was, and it says so */
    SILENT,      /* less than there was, as if it never had been */
    WRONG,
};

/* Steps exact or corrupt, in place; recalls and listed threads maybe fewer. */
static inline enum verdict judge_parts(const struct outcome *is, const struct outcome *meant)
{
    bool less = false;
    unsigned at = 0;
    if (is->steps != meant->steps || is->parts > PARTS_MAX) {
        return WRONG;
    }
    for (unsigned i = 0; i < is->parts; i++) {
        if (i < is->steps) {
            if (!is->corrupt[i] && is->part[i] != meant->part[i]) {
                return WRONG;
            }
            less |= is->corrupt[i] && !meant->corrupt[i];
            at++;
            continue;
        }
        while (at < meant->parts && meant->part[at] != is->part[i]) {
            at++;
        }
        if (at++ >= meant->parts) {
            return WRONG;
        }
    }
    less |= is->parts < meant->parts;
    return !less ? EXACT : is->damaged ? DAMAGE_SEEN : SILENT;
}

static inline enum verdict judge(const struct outcome *is, const struct outcome *meant)
{
    switch (is->found) {
    case TIER_FAILED:
        return WRONG;
    case TIER_CORRUPT:
        return is->damaged ? DAMAGE_SEEN : WRONG;
    case TIER_FOUND:
        return meant->found != TIER_FOUND || is->whole != meant->whole ? WRONG
                                                                       : judge_parts(is, meant);
    case TIER_TOMBSTONE:
        if (meant->found == TIER_TOMBSTONE) {
            return is->whole == meant->whole ? EXACT : WRONG;
        }
        return meant->found == TIER_ABSENT ? WRONG : is->damaged ? DAMAGE_SEEN : SILENT;
    case TIER_ABSENT:
        return meant->found == TIER_ABSENT ? EXACT : is->damaged ? DAMAGE_SEEN : SILENT;
    }
    return WRONG;
}

#endif
