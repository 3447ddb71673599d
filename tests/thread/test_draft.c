/* Drafts: what comes in pieces of any size goes out whole, is counted, and given back. */
#include "thread/draft.h"

#include "tests/lib/domain.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

enum { BUDGET = 16 << 20, QUARTER = BUDGET / 4, PIECES = 4000, BLOCK_BYTES = 64 << 10 };

static struct domain domain;
static struct lane *lane;
static struct wire_error error;

static void setup(void)
{
    struct threads_settings settings = domain_settings();
    settings.memory_bytes = BUDGET;
    domain_open(&domain, settings);
    lane = domain.lane;
}

static void teardown(void)
{
    ck_assert_uint_eq(domain_metric(&domain, METRIC_STREAMING_BYTES), 0);
    domain_close(&domain);
}

static uint64_t live_bytes(void)
{
    return arena_live_bytes(lane->threads->arena);
}

static struct draft *make(uint64_t beside_bytes)
{
    struct draft *draft = NULL;
    ck_assert_int_eq(draft_create(lane, 7, WIRE_KIND_OPAQUE, beside_bytes, &draft, &error),
                     STATUS_OK);
    return draft;
}

static enum status add(struct draft *draft, const void *data, size_t size)
{
    struct bytes payload = bytes_of(data, size);
    return draft_add(lane, draft, &payload, 1, &error);
}

START_TEST(pieces_of_every_size_come_out_whole)
{
    static uint8_t sent[8 << 20], got[8 << 20];
    for (uint64_t seed = 1; seed < trial_count(30); seed++) {
        uint64_t random = seed, before = live_bytes();
        uint64_t largest = 1 + trial_below(&random, seed % 3 == 0 ? 200000 : 900);
        struct draft *draft = make(0);
        size_t size = 0;
        trial_fill(sent, sizeof sent, seed);
        for (unsigned i = 0; i < PIECES && size < QUARTER / 2; i++) {
            struct bytes pieces[3];
            unsigned count = (unsigned)trial_below(&random, 4); /* none keeps the draft as it is */
            size_t at = size;
            for (unsigned p = 0; p < count; p++) {
                pieces[p] = bytes_of(sent + at, 1 + trial_below(&random, largest));
                at += pieces[p].size;
            }
            ck_assert_int_eq(draft_add(lane, draft, pieces, count, &error), STATUS_OK);
            size = at;
            ck_assert_uint_eq(draft->payload_bytes, size);
        }
        memset(got, 0, size);
        draft_read(lane, draft, got);
        ck_assert_mem_eq(got, sent, size);
        /* Half as much again, or a block, is what it may take beside its bytes. */
        ck_assert_uint_ge(draft->charged_bytes, size);
        ck_assert_uint_lt(draft->charged_bytes, size + size / 2 + 2048);
        ck_assert_uint_lt(draft->charged_bytes, size + BLOCK_BYTES + size / 8 + 2048);
        ck_assert_uint_eq(domain_metric(&domain, METRIC_STREAMING_BYTES), draft->charged_bytes);
        draft_free(lane, draft);
        arena_cache_drain(lane->cache);
        ck_assert_uint_eq(live_bytes(), before);
    }
}
END_TEST

START_TEST(all_together_have_a_quarter)
{
    static uint8_t big[QUARTER];
    uint64_t before = live_bytes();
    struct draft *first = make(0), *second = make(1000), *third = NULL;
    ck_assert_int_eq(add(first, big, QUARTER / 2), STATUS_OK);
    ck_assert_int_eq(add(second, big, QUARTER / 4), STATUS_OK);
    uint64_t taken = domain_metric(&domain, METRIC_STREAMING_BYTES);
    ck_assert_uint_eq(taken, first->charged_bytes + second->charged_bytes);
    ck_assert_uint_ge(second->charged_bytes, QUARTER / 4 + 1000);
    ck_assert_int_eq(add(second, big, QUARTER / 4), STATUS_OVER_BUDGET);
    ck_assert_int_eq(error.status, STATUS_OVER_BUDGET);
    ck_assert_uint_eq(second->payload_bytes, QUARTER / 4); /* none of it */
    ck_assert_uint_eq(domain_metric(&domain, METRIC_STREAMING_BYTES), taken);
    ck_assert_int_eq(draft_create(lane, 9, WIRE_KIND_TEXT, QUARTER / 4, &third, &error),
                     STATUS_OVER_BUDGET);
    ck_assert_int_eq(add(second, big, 100), STATUS_OK);
    draft_free(lane, first);
    ck_assert_int_eq(add(second, big, QUARTER / 4), STATUS_OK);
    draft_free(lane, second);
    draft_free(lane, NULL);
    arena_cache_drain(lane->cache);
    ck_assert_uint_eq(live_bytes(), before);
}
END_TEST

START_TEST(without_memory_nothing_is_added)
{
    static uint8_t big[QUARTER];
    struct draft *draft = make(0);
    ck_assert_int_eq(add(draft, "one", 3), STATUS_OK);
    uint64_t taken = draft->charged_bytes;
    lane_charge(lane, BUDGET); /* somebody else has it all */
    ck_assert_int_eq(add(draft, big, QUARTER / 2), STATUS_AGAIN);
    ck_assert_int_eq(lane->want, WANT_MEMORY);
    ck_assert_uint_gt(lane->want_bytes, QUARTER / 2 - 256); /* the rest of a block is there */
    ck_assert_uint_eq(draft->payload_bytes, 3);
    ck_assert_uint_eq(draft->charged_bytes, taken);
    lane_charge(lane, -BUDGET);
    ck_assert_int_eq(add(draft, "two", 3), STATUS_OK);
    uint8_t got[6];
    draft_read(lane, draft, got);
    ck_assert_mem_eq(got, "onetwo", 6);
    draft_free(lane, draft);
}
END_TEST

int main(void)
{
    return SUITE_RUN("draft", setup, teardown, 60, pieces_of_every_size_come_out_whole,
                     all_together_have_a_quarter, without_memory_nothing_is_added);
}
