/*
 * Conversations from a file or from tables; see conversations.h.
 *
 * Where the tables come from: workload-claudecode-dev (540 conversations, 35,108 turns of real
 * coding sessions; kv-cache-tester, Apache-2.0), whose rows give the tokens of a whole answer and
 * whether it thought; 4 bytes a token stand for the reasoning. `turns`, `shares` and `sizes` are
 * its quantiles with lines between them. Turns are taken at evenly spaced places, shares and
 * factors along golden sequences, whose starts and factor_spread were then chosen so that what is
 * replayed comes out as in the file, as were the 8% on the shares, for what lines cut off. How
 * close it is: turns +0.4%, turns that think as in the file, bytes of a step +4%, mean steps of a
 * replay +2%, mean bytes of a replay +2% (its p75 +9%, p90 -16%, p99 +15%). A test holds it to
 * that.
 */
#include "bench/conversations.h"

#include "bench/protocol.h"
#include "bench/trace.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUILT_IN = 540, SHORT_TURNS = 20, GROUPS = 5 };

struct quantile {
    double place; /* 0 to 1 */
    double value;
};

static const struct quantile turns[] = {{0, 2},    {.05, 4},   {.1, 6},    {.2, 11},   {.3, 17},
                                        {.4, 25},  {.5, 37},   {.6, 59},   {.7, 76},   {.8, 101},
                                        {.9, 150}, {.95, 228}, {.98, 281}, {.99, 344}, {1, 514}};

static const struct quantile sizes[] = {
    {0, 132},    {.01, 332},   {.05, 448},   {.1, 508},     {.2, 604},     {.3, 720},
    {.4, 860},   {.5, 1060},   {.6, 1332},   {.7, 1736},    {.8, 2380},    {.9, 3932},
    {.95, 6404}, {.98, 11423}, {.99, 15209}, {.995, 20377}, {.999, 36043}, {1, 61560}};

enum { TURNS = sizeof turns / sizeof *turns, SIZES = sizeof sizes / sizeof *sizes, SHARES = 17 };

/* Of conversations with fewer turns than that: percent of turns that think, at 0/16 to 16/16. */
static const struct group {
    uint32_t turns;
    uint8_t percent[SHARES];
} shares[GROUPS] = {
    {40, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 21, 64, 94, 100, 100, 100}},
    {100, {0, 0, 0, 0, 0, 0, 5, 11, 15, 29, 41, 62, 83, 94, 99, 100, 100}},
    {150, {0, 0, 0, 0, 2, 3, 6, 11, 15, 25, 55, 73, 83, 93, 100, 100, 100}},
    {230, {0, 0, 0, 0, 2, 3, 3, 5, 10, 13, 30, 54, 66, 100, 100, 100, 100}},
    {UINT32_MAX, {0, 0, 0, 0, 0, 0, 5, 8, 26, 33, 79, 96, 100, 100, 100, 100, 100}},
};

static const double golden = 0.6180339887498949, plastic = 0.7548776662466927;
static const double share_start = 0.54, factor_start = 0.07, factor_spread = 0.5, share_more = 1.08;

static double value_at(const struct quantile *quantiles, unsigned count, double place)
{
    unsigned i = 1;
    while (i < count - 1 && place > quantiles[i].place) {
        i++;
    }
    const struct quantile *low = &quantiles[i - 1];
    const struct quantile *high = &quantiles[i];
    double part = (place - low->place) / (high->place - low->place);
    return low->value + (high->value - low->value) * part;
}

static double share_at(uint32_t turn_count, double place)
{
    const struct group *group = shares;
    while (turn_count >= group->turns) {
        group++;
    }
    double at = place * (SHARES - 1);
    unsigned low = (unsigned)at;
    double part = at - low;
    double percent = group->percent[low] * (1 - part) + group->percent[low + 1] * part;
    return fmin(1, share_more * percent / 100);
}

/* ---- Making and reading -------------------------------------------------------------------------
 */

static bool allocate(struct conversations *conversations, uint32_t count, uint32_t turn_count)
{
    *conversations = (struct conversations){
        .all = calloc(count, sizeof *conversations->all),
        .bytes = calloc(turn_count, sizeof *conversations->bytes),
    };
    if (conversations->all != NULL && conversations->bytes != NULL) {
        return true;
    }
    fputs("rethread-bench: no memory\n", stderr);
    conversations_close(conversations);
    return false;
}

static void add_turn(struct conversations *conversations, uint32_t bytes)
{
    conversations->bytes[conversations->turn_count++] = bytes;
    conversations->all[conversations->count - 1].turns++;
}

static void begin(struct conversations *conversations)
{
    conversations->all[conversations->count++].first = conversations->turn_count;
}

static uint32_t built_in_turns(uint32_t number)
{
    return (uint32_t)lround(value_at(turns, TURNS, (number + 0.5) / BUILT_IN));
}

static void make(struct conversations *conversations, uint32_t number)
{
    uint32_t count = built_in_turns(number);
    double share = share_at(count, fmod(number * golden + share_start, 1));
    double factor = 1 + factor_spread * (2 * fmod(number * plastic + factor_start, 1) - 1);
    begin(conversations);
    for (uint32_t turn = 0; turn < count; turn++) {
        uint64_t draw =
            protocol_mix(((uint64_t)number << 32 | turn) + UINT64_C(0x9e3779b97f4a7c15));
        bool thinks = (double)(draw >> 32) / 4294967296.0 < share;
        double place = (double)(draw & UINT32_MAX) / 4294967296.0;
        add_turn(conversations, thinks ? (uint32_t)(value_at(sizes, SIZES, place) * factor) : 0);
    }
}

static bool make_all(struct conversations *conversations)
{
    uint32_t turn_count = 0;
    for (uint32_t i = 0; i < BUILT_IN; i++) {
        turn_count += built_in_turns(i);
    }
    if (!allocate(conversations, BUILT_IN, turn_count)) {
        return false;
    }
    for (uint32_t i = 0; i < BUILT_IN; i++) {
        make(conversations, i);
    }
    return true;
}

static bool read_all(struct conversations *conversations, const char *file)
{
    struct trace trace;
    if (!trace_read(&trace, file)) {
        return false;
    }
    bool good = allocate(conversations, trace.thread_count, (uint32_t)trace.turn_count);
    for (size_t i = 0; good && i < trace.turn_count; i++) {
        if (i == 0 || trace.turns[i].thread != trace.turns[i - 1].thread) {
            begin(conversations);
        }
        uint32_t bytes = trace.turns[i].thinking_bytes;
        add_turn(conversations,
                 bytes > 0 && bytes < PROTOCOL_STAMP_BYTES ? PROTOCOL_STAMP_BYTES : bytes);
    }
    trace_free(&trace);
    return good;
}

static void find_greatest(struct conversations *conversations)
{
    for (uint32_t i = 0; i < conversations->count; i++) {
        uint64_t thread_bytes = 0;
        for (uint32_t turn = 0; turn < conversations->all[i].turns; turn++) {
            uint32_t bytes = conversations_size_of(conversations, i, turn);
            thread_bytes += bytes;
            if (bytes > conversations->step_bytes_max) {
                conversations->step_bytes_max = bytes;
            }
        }
        if (thread_bytes > conversations->thread_bytes_max) {
            conversations->thread_bytes_max = thread_bytes;
        }
        if (conversations->all[i].turns > conversations->turns_max) {
            conversations->turns_max = conversations->all[i].turns;
        }
    }
}

bool conversations_open(struct conversations *conversations, const char *file)
{
    if (!(file != NULL ? read_all(conversations, file) : make_all(conversations))) {
        return false;
    }
    find_greatest(conversations);
    return true;
}

void conversations_close(struct conversations *conversations)
{
    free(conversations->all);
    free(conversations->bytes);
    *conversations = (struct conversations){.count = 0};
}

/* ---- Asking -------------------------------------------------------------------------------------
 */

uint32_t conversations_size_of(const void *shape, uint32_t thread, uint32_t step)
{
    const struct conversations *conversations = shape;
    assert(thread < conversations->count && step < conversations->all[thread].turns);
    return conversations->bytes[conversations->all[thread].first + step];
}

static int by_number(const void *a, const void *b)
{
    const uint64_t *left = a;
    const uint64_t *right = b;
    return (*left > *right) - (*left < *right);
}

bool conversations_sum(const struct conversations *conversations,
                       struct conversations_summary *summary)
{
    uint64_t *replayed = malloc(conversations->turn_count * sizeof *replayed);
    if (replayed == NULL) {
        fputs("rethread-bench: no memory\n", stderr);
        return false;
    }
    double steps = 0;
    double thinking = 0;
    double bytes = 0;
    double replay_bytes = 0;
    uint32_t at = 0;
    for (uint32_t i = 0; i < conversations->count; i++) {
        uint64_t so_far = 0;
        for (uint32_t turn = 0; turn < conversations->all[i].turns; turn++) {
            uint32_t size = conversations_size_of(conversations, i, turn);
            so_far += size;
            thinking += size > 0;
            bytes += size;
            steps += turn + 1;
            replay_bytes += (double)so_far;
            replayed[at++] = so_far;
        }
    }
    qsort(replayed, at, sizeof *replayed, by_number);
    *summary = (struct conversations_summary){
        .turns = (double)at / conversations->count,
        .thinking_share = thinking / at,
        .step_bytes = thinking > 0 ? bytes / thinking : 0,
        .replay_steps = steps / at,
        .replay_bytes = replay_bytes / at,
        .replay_bytes_p90 = replayed[(uint64_t)at * 9 / 10],
    };
    free(replayed);
    return true;
}

void conversations_order(const struct conversations *conversations, uint64_t seed, uint32_t *order)
{
    uint32_t count = conversations->count;
    uint32_t longer = 0;
    uint32_t end = count;
    for (uint32_t i = 0; i < count; i++) {
        if (conversations->all[i].turns > SHORT_TURNS) {
            order[longer++] = i;
        } else {
            order[--end] = i;
        }
    }
    for (uint32_t i = longer; i > 1; i--) {
        uint32_t other = (uint32_t)(protocol_mix(seed + i) % i);
        uint32_t moved = order[i - 1];
        order[i - 1] = order[other];
        order[other] = moved;
    }
}
