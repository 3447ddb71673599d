/*
 * What the tests of records share: steps of every shape, bytes at the very end of an allocation (so
 * that a read behind them is noticed), and damage. Header only.
 */
#ifndef RETHREAD_TESTS_STORE_TEST_RECORD_H
#define RETHREAD_TESTS_STORE_TEST_RECORD_H

#include "store/record_blob.h"
#include "thread/steps.h"

#include "tests/lib/domain.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <stdlib.h>
#include <xxhash.h>

static struct domain domain;
static uint8_t secret[INDEX_SECRET_BYTES];
static uint8_t noise[1 << 20];
static uint8_t prose[1 << 20];      /* compressible */
static uint8_t narrow_ids[1 << 20]; /* token ids of at most 18 bits, seen from a multiple of 4 */

static inline void setup(void)
{
    struct threads_settings settings = domain_settings();
    uint64_t state = 1;
    for (size_t i = 0; i < sizeof secret; i++) {
        secret[i] = (uint8_t)(i * 7 + 1);
    }
    for (size_t i = 0; i < sizeof noise; i++) {
        noise[i] = (uint8_t)trial_random(&state);
        prose[i] = (uint8_t)("etaoin shrdlu"[trial_below(&state, 13)]);
    }
    for (size_t i = 0; i < sizeof narrow_ids; i++) {
        narrow_ids[i] = (uint8_t)(i % 4 < 2    ? trial_random(&state)
                                  : i % 4 == 2 ? trial_below(&state, 4)
                                               : 0);
    }
    settings.frame_max_bytes = 4 << 20;
    domain_open(&domain, settings);
}

static inline void teardown(void)
{
    domain_close(&domain);
}

/* A copy that ends where its allocation ends; free() its data. */
static inline struct bytes snug(struct bytes bytes)
{
    uint8_t *copy = malloc(bytes.size > 0 ? bytes.size : 1);
    ck_assert_ptr_nonnull(copy);
    record_put_bytes(copy, bytes);
    return bytes_of(copy, bytes.size);
}

static inline void let_go(struct bytes bytes)
{
    free((void *)(uintptr_t)bytes.data);
}

/* Reads all of it, for a sanitizer to see. */
static inline void read_bytes(struct bytes bytes)
{
    volatile uint64_t sum = bytes.size > 0 ? XXH3_64bits(bytes.data, bytes.size) : 0;
    (void)sum;
}

static inline struct bytes some_of(const uint8_t *from, uint64_t *state, size_t least, size_t most)
{
    size_t size = least + (size_t)trial_below(state, most - least + 1);
    return bytes_of(from + trial_below(state, sizeof noise - size), size);
}

static inline struct bytes some_id(uint64_t *state)
{
    size_t most = trial_below(state, 3) ? 20 : 255;
    return some_of(noise, state, trial_below(state, 3) ? 1 : most, most);
}

/* Tokens are whole ids, and narrow ones, but for those that nobody may send. */
static inline struct bytes some_payload(enum wire_kind kind, bool broken, size_t most,
                                        uint64_t *state)
{
    if (kind != WIRE_KIND_TOKENS || broken) {
        return some_of(trial_below(state, 2) ? noise : prose, state, 1, most);
    }
    size_t count = 1 + (size_t)trial_below(state, most / 4);
    return bytes_of(narrow_ids + 4 * trial_below(state, sizeof narrow_ids / 4 - count + 1),
                    count * 4);
}

/* Any append: bare, small, with everything at its largest. */
static inline void ask_any(struct ask *ask, uint64_t *state)
{
    ask_begin(ask, WIRE_METHOD_APPEND, bytes_text("t"));
    unsigned segments = (unsigned)trial_below(state, 8) ? (unsigned)trial_below(state, 5) : 64;
    unsigned calls = (unsigned)trial_below(state, 8) ? (unsigned)trial_below(state, 4) : 128;
    size_t most = trial_below(state, 16) ? 300 : 5000;
    bool broken = trial_below(state, 8) == 0;
    for (unsigned i = 0; i < segments; i++) {
        enum wire_kind kind = (enum wire_kind)trial_below(state, WIRE_KIND_COUNT);
        struct bytes payload = some_payload(kind, broken, most, state);
        ask_kind(ask, kind);
        ask_payload(ask, payload);
    }
    for (unsigned i = 0; i < calls; i++) {
        ask_call(ask, some_id(state));
    }
    if (trial_below(state, 2)) {
        ask_set(ask, response_id, some_id(state));
    }
    if (trial_below(state, 2)) {
        ask_set(ask, model, some_id(state));
    }
    if (trial_below(state, 2)) {
        ask_set(ask, prefix, some_of(noise, state, 16, 16));
    }
    if (trial_below(state, 2)) {
        ask_set(ask, visible, some_of(noise, state, 16, 16));
    }
    if (trial_below(state, 2)) {
        ask_set(ask, tokens, trial_below(state, 2) ? UINT32_MAX : trial_below(state, 1000));
    }
    if (trial_below(state, 2)) {
        ask_set(ask, final, trial_below(state, 2) != 0);
    }
    ask_set(ask, turn, trial_below(state, 4) ? trial_below(state, 9) : UINT32_MAX);
}

static inline struct step *step_of(const struct ask *ask, uint32_t number, uint32_t version)
{
    struct step *step = step_create(domain.lane, &ask->request);
    ck_assert_ptr_nonnull(step);
    step_rest(step)->number = number;
    step_rest(step)->version = version;
    return step;
}

static inline void check_parts(const struct step_parts *is, const struct step_parts *meant)
{
    ck_assert_uint_eq(is->number, meant->number);
    ck_assert_uint_eq(is->version, meant->version);
    ck_assert_uint_eq(is->turn, meant->turn);
    ck_assert_uint_eq(is->tokens, meant->tokens);
    ck_assert_int_eq(is->final, meant->final);
    ck_assert_int_eq(is->has_tokens, meant->has_tokens);
    ck_assert_int_eq(is->corrupt, meant->corrupt);
    ck_assert_int_eq(is->inherited, meant->inherited);
    ck_assert_uint_eq(is->segment_count, meant->segment_count);
    ck_assert_uint_eq(is->tool_call_count, meant->tool_call_count);
    ck_assert(bytes_equal(is->segments, meant->segments));
    ck_assert(bytes_equal(is->response_id, meant->response_id));
    ck_assert(bytes_equal(is->prefix, meant->prefix));
    ck_assert(bytes_equal(is->visible, meant->visible));
    ck_assert(bytes_equal(is->model, meant->model));
    ck_assert(bytes_equal(is->tool_calls, meant->tool_calls));
    ck_assert(bytes_equal(is->payload, meant->payload));
}

/* Decodes, reading every byte of what comes out; whether it was taken. */
static inline bool read_step(struct bytes blob, const struct step_parts *meant)
{
    size_t size = record_step_bytes(blob);
    if (size == 0) {
        struct step_parts parts;
        uint8_t scratch[1];
        ck_assert(!record_open_step(blob, scratch, sizeof scratch, &parts));
        return false;
    }
    /* No more than a block of zstd may give for its bytes, and twice that unpacked. */
    ck_assert_uint_le(size, 4096 + 256 * 128 + blob.size * 80000);
    uint8_t *scratch = malloc(size);
    ck_assert_ptr_nonnull(scratch);
    struct step_parts parts;
    ck_assert(size == 1 || !record_open_step(blob, scratch, size - 1, &parts));
    bool taken = record_open_step(blob, scratch, size, &parts);
    if (taken) {
        struct bytes all[] = {parts.segments, parts.response_id, parts.prefix, parts.visible,
                              parts.model,    parts.tool_calls,  parts.payload};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
            ck_assert(all[i].size == 0 ||
                      (all[i].data >= scratch && all[i].data + all[i].size <= scratch + size));
            read_bytes(all[i]);
        }
        struct wire_list calls = {.encoded = parts.tool_calls, .count = parts.tool_call_count};
        struct bytes id;
        while (wire_list_next(&calls, &id)) {
            read_bytes(id);
        }
    }
    if (taken && meant) {
        check_parts(&parts, meant);
    }
    free(scratch);
    return taken;
}

/* Makes the blob's checksum right again, so that damage gets past it. */
static inline void resum(uint8_t *blob, size_t size)
{
    if (size > BLOB_FLAGS) {
        bytes_store_be64(blob, XXH3_64bits(blob + BLOB_FLAGS, size - BLOB_FLAGS));
    }
}

/* One to four bytes changed, or the end cut off; `bytes` shrinks with it. */
static inline void damage(uint8_t *data, size_t *size, uint64_t *state)
{
    unsigned changes = 1 + (unsigned)trial_below(state, 4);
    for (unsigned i = 0; i<changes && * size> 0; i++) {
        /* Most of what can go wrong is in the first bytes. */
        size_t range = trial_below(state, 2) && *size > 80 ? 80 : *size;
        uint8_t *at = data + trial_below(state, range);
        static const uint8_t odd[] = {0, 1, 0x7F, 0x80, 0xFF, 0xC4, 0xC6, 0xD9};
        *at = trial_below(state, 2) ? odd[trial_below(state, sizeof odd)]
                                    : (uint8_t)trial_random(state);
    }
    if (trial_below(state, 4) == 0) {
        *size = (size_t)trial_below(state, *size + 1);
    }
}

#endif
