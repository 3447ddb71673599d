/* Plays conversations against threads and store; see continuity_play.h. */
#include "bench/continuity_play.h"

#include "bench/local.h"
#include "bench/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TICK_MS = 30 * 1000,       /* between two looks at everything */
    TOMBSTONE_SHARE = 48 * 32, /* as the server chooses them by its memory */
};

struct play {
    const struct trace *trace;
    struct clock_driven clock;
    struct clock_driven wall;
    struct local local;
    uint64_t tended_ms;
    bool is_settled;
    struct continuity_turns turns;
    struct continuity_counts *counts;
};

/* ---- The order ---- */

bool continuity_turns_open(struct continuity_turns *turns, const struct trace *trace)
{
    size_t threads = trace->thread_count;
    *turns = (struct continuity_turns){
        .trace = trace,
        .begin = calloc(threads + 1, sizeof *turns->begin),
        .next = calloc(threads, sizeof *turns->next),
        .due_ms = calloc(threads, sizeof *turns->due_ms),
    };
    if (turns->begin == NULL || turns->next == NULL || turns->due_ms == NULL) {
        fputs("rethread-bench: no memory\n", stderr);
        continuity_turns_close(turns);
        return false;
    }
    for (size_t at = 0; at < trace->turn_count; at++) {
        turns->begin[trace->turns[at].thread + 1] = at + 1;
    }
    for (size_t t = 0; t < threads; t++) {
        turns->next[t] = turns->begin[t];
        turns->due_ms[t] = trace->turns[turns->begin[t]].idle_before_ms;
    }
    return true;
}

void continuity_turns_close(struct continuity_turns *turns)
{
    free(turns->begin);
    free(turns->next);
    free(turns->due_ms);
    *turns = (struct continuity_turns){.trace = NULL};
}

bool continuity_turns_next(struct continuity_turns *turns, size_t *turn, uint64_t *at_ms)
{
    uint32_t found = 0;
    for (uint32_t t = 1; t < turns->trace->thread_count; t++) {
        found = turns->due_ms[t] < turns->due_ms[found] ? t : found;
    }
    if (turns->due_ms[found] == UINT64_MAX) {
        return false;
    }
    *turn = turns->next[found]++;
    *at_ms = turns->due_ms[found];
    turns->due_ms[found] = turns->next[found] < turns->begin[found + 1]
                               ? *at_ms + turns->trace->turns[*turn + 1].idle_before_ms
                               : UINT64_MAX;
    return true;
}

/* ---- Time ---- */

static void advance_by(struct play *play, uint64_t by_ms)
{
    while (by_ms > 0) {
        uint64_t step_ms = by_ms < TICK_MS ? by_ms : TICK_MS;
        by_ms -= step_ms;
        clock_driven_advance(&play->clock, step_ms);
        clock_driven_advance(&play->wall, step_ms);
        lane_read_clock(play->local.lane);
        uint64_t now_ms = clock_read_ms(&play->clock.clock);
        if (now_ms - play->tended_ms >= TICK_MS) {
            play->tended_ms = now_ms;
            /* Where nothing came since, nothing waits for the disk. */
            if (play->is_settled) {
                local_tend(&play->local);
                lane_tend_fully(play->local.lane);
            } else {
                local_settle(&play->local);
            }
            play->is_settled = true;
        }
    }
}

/* ---- One turn ---- */

static struct bytes thread_of(const struct play *play, size_t at)
{
    const char *id = play->trace->ids[play->trace->turns[at].thread];
    return bytes_of(id, strlen(id));
}

static struct bytes text_of(const struct play *play, size_t at)
{
    return bytes_of(play->trace->text + play->trace->text_at[at],
                    play->trace->turns[at].thinking_bytes);
}

/* Whether the replay has the trace of every turn in begin..end-1 that thought, and nothing else. */
static bool has_all(const struct play *play, const struct thread_replay_result *result,
                    size_t begin, size_t end)
{
    uint32_t position = 0;
    for (size_t at = begin; at < end; at++) {
        struct bytes expected = text_of(play, at);
        if (expected.size == 0) {
            continue;
        }
        enum reason missing;
        const struct step *step =
            result->state != THREAD_MISS && position >= result->begin && position < result->end
                ? thread_replay_step(play->local.lane, result, position, &missing)
                : NULL;
        if (step == NULL) {
            return false;
        }
        struct step_view view;
        step_view(step, &view);
        if (view.payload_bytes != expected.size ||
            memcmp(view.payload.data, expected.data, expected.size) != 0) {
            return false;
        }
        position++;
    }
    return position == result->end;
}

static bool replay(struct play *play, size_t begin, size_t at)
{
    struct wire_request request = {.method = WIRE_METHOD_REPLAY,
                                   .given = UINT64_C(1) << WIRE_FIELD_thread,
                                   .thread = thread_of(play, at)};
    struct thread_replay_result result;
    struct wire_error error;
    enum status status;
    unsigned tries = 0;
    do {
        status = thread_replay(play->local.lane, &request, &result, &error);
    } while (local_try_again(&play->local, status, &tries));
    if (status != STATUS_OK) {
        fprintf(stderr, "rethread-bench: continuity: a replay failed: %s\n", status_code(status));
        return false;
    }
    while (begin < at && play->trace->turns[begin].thinking_bytes == 0) {
        begin++;
    }
    if (begin < at) {
        play->counts->follow_ups++;
        play->counts->complete += has_all(play, &result, begin, at);
        play->counts->from_disk += result.state != THREAD_MISS && result.from_disk;
    }
    return true;
}

static bool append(struct play *play, size_t at)
{
    struct thread_append_result result;
    enum status status =
        local_append(&play->local, thread_of(play, at), text_of(play, at), &result);
    if (status != STATUS_OK) {
        fprintf(stderr, "rethread-bench: continuity: an append failed: %s\n", status_code(status));
        return false;
    }
    return true;
}

/* ---- All turns ---- */

static bool play_turns(struct play *play, const char *label)
{
    size_t at;
    size_t done = 0;
    uint64_t now_ms = 0;
    uint64_t at_ms;
    while (continuity_turns_next(&play->turns, &at, &at_ms)) {
        if (done++ % 1000 == 0) {
            progress_show("continuity: %s: turn %zu of %zu", label, done, play->trace->turn_count);
        }
        advance_by(play, at_ms - now_ms);
        now_ms = at_ms;
        const struct trace_turn *turn = &play->trace->turns[at];
        if (!replay(play, play->turns.begin[turn->thread], at) ||
            (turn->thinking_bytes > 0 && !append(play, at))) {
            return false;
        }
        play->is_settled = false;
        local_tend(&play->local);
    }
    return true;
}

bool continuity_play(const struct continuity_case *played, struct continuity_counts *counts)
{
    struct play play = {.trace = played->trace, .counts = counts};
    *counts = (struct continuity_counts){0};
    clock_driven_init(&play.clock, 1000000);
    clock_driven_init(&play.wall, UINT64_C(1700000000000));
    play.tended_ms = 1000000;
    struct local_settings settings = {
        .directory = played->directory,
        .memory_bytes = played->memory_bytes,
        .disk_bytes = UINT64_C(10) << 30,
        .ttl_ms = played->ttl_ms,
        .retention_ms = played->retention_ms,
        .tombstones = (uint32_t)(played->memory_bytes / TOMBSTONE_SHARE),
        .clock = &play.clock.clock,
        .wall = &play.wall.clock,
    };
    if (!continuity_turns_open(&play.turns, played->trace)) {
        return false;
    }
    bool good = local_open(&play.local, &settings) && play_turns(&play, played->label);
    local_close(&play.local);
    continuity_turns_close(&play.turns);
    progress_clear();
    return good;
}
