/*
 * Weaves and unweaves in C what tests/weave/test_weave.py asks for, many transcripts in one
 * process.
 *
 * Requests come on stdin and answers go to stdout, one after another until stdin ends. Numbers are
 * 8 bytes in the machine's order, blobs a number and that many bytes.
 *
 *     request  operation 'u' | 'w', enum rethread_transcript, blob model, blob field (empty: none),
 *              blob JSON; 'w' also: head + 1, steps
 *     answer   status, blob JSON or the error, then to 'u' steps, to 'w' entries
 *     steps    count, each: step, missing, turn, final, blob visible, ids (count, blobs),
 *              segments (count, each: kind, blob)
 *     entries  count, each: step, call + 1, blob by, blob outcome, reason, left_out;
 *              then the unmatched calls: count, numbers
 *
 * Trusts what it reads: it is the test that writes it.
 */
#include "rethread.h"
#include "rethread_weave.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* What a request allocated; freed as a whole before the next one. */
struct request {
    void **blocks;
    size_t count;
};

static void *hold(struct request *request, size_t count, size_t size)
{
    void *block = calloc(count + 1, size);
    void **blocks = realloc(request->blocks, (request->count + 1) * sizeof *blocks);

    assert(block != NULL && blocks != NULL);
    request->blocks = blocks;
    request->blocks[request->count] = block;
    request->count++;
    return block;
}

static void request_free(struct request *request)
{
    for (size_t i = 0; i < request->count; i++) {
        free(request->blocks[i]);
    }
    free(request->blocks);
    *request = (struct request){0};
}

static uint64_t take_number(void)
{
    uint64_t number;
    size_t taken = fread(&number, sizeof number, 1, stdin);

    assert(taken == 1);
    return number;
}

static struct rethread_bytes take_blob(struct request *request)
{
    size_t size = take_number();
    char *data = hold(request, size, 1);
    size_t taken = fread(data, 1, size, stdin);

    assert(taken == size);
    return (struct rethread_bytes){data, size};
}

static struct rethread_ids take_ids(struct request *request)
{
    size_t count = take_number();
    struct rethread_bytes *items = hold(request, count, sizeof *items);

    for (size_t i = 0; i < count; i++) {
        items[i] = take_blob(request);
    }
    return (struct rethread_ids){items, count};
}

static struct rethread_segments take_segments(struct request *request)
{
    size_t count = take_number();
    struct rethread_segment *items = hold(request, count, sizeof *items);

    for (size_t i = 0; i < count; i++) {
        items[i].kind = (enum rethread_kind)take_number();
        items[i].bytes = take_blob(request);
    }
    return (struct rethread_segments){items, count};
}

static void take_steps(struct request *request, struct rethread_replay_result *replay)
{
    size_t count = take_number();
    struct rethread_step *steps = hold(request, count, sizeof *steps);

    for (size_t i = 0; i < count; i++) {
        steps[i].step = take_number();
        steps[i].missing = (enum rethread_reason)take_number();
        steps[i].turn = take_number();
        steps[i].final = take_number() != 0;
        steps[i].visible = take_blob(request);
        steps[i].tool_calls = take_ids(request);
        steps[i].segments = take_segments(request);
    }
    replay->steps = steps;
    replay->step_count = count;
}

static void give_number(uint64_t number)
{
    fwrite(&number, sizeof number, 1, stdout);
}

static void give_blob(struct rethread_bytes blob)
{
    give_number(blob.size);
    if (blob.size > 0) {
        fwrite(blob.data, 1, blob.size, stdout);
    }
}

static void give_answer(enum rethread_status status, struct rethread_bytes json, const char *error)
{
    give_number((uint64_t)status);
    give_blob(status == RETHREAD_OK ? json : rethread_text(error == NULL ? "" : error));
}

static void unweave(const struct rethread_weave_options *options, struct rethread_bytes json)
{
    struct rethread_unwoven *unwoven = NULL;
    enum rethread_status status = rethread_unweave(options, json, &unwoven);
    const struct rethread_append_options *steps = NULL;
    size_t count = 0;

    if (status == RETHREAD_OK) {
        assert(rethread_unwoven_error(unwoven) == NULL);
        give_answer(status, rethread_unwoven_json(unwoven), NULL);
        steps = rethread_unwoven_steps(unwoven, &count);
    } else {
        give_answer(status, (struct rethread_bytes){0}, rethread_unwoven_error(unwoven));
    }
    give_number(count);
    for (size_t i = 0; i < count; i++) {
        const struct rethread_append_options *step = &steps[i];

        assert(step->bare == (step->segments.count == 0));
        assert(step->turn.set && step->final.set && step->model.size == options->model.size);
        give_number(i);
        give_number(RETHREAD_REASON_NONE);
        give_number(step->turn.value);
        give_number(step->final.value);
        give_blob(step->visible);
        give_number(step->tool_calls.count);
        for (size_t id = 0; id < step->tool_calls.count; id++) {
            give_blob(step->tool_calls.items[id]);
        }
        give_number(step->segments.count);
        for (size_t n = 0; n < step->segments.count; n++) {
            give_number((uint64_t)step->segments.items[n].kind);
            give_blob(step->segments.items[n].bytes);
        }
    }
    rethread_unwoven_free(unwoven);
}

static void give_entries(const struct rethread_woven *woven)
{
    size_t count = 0;
    const struct rethread_woven_step *entries = rethread_woven_steps(woven, &count);
    const size_t *unmatched;

    give_number(count);
    for (size_t i = 0; i < count; i++) {
        give_number(entries[i].step);
        give_number(entries[i].call.set ? entries[i].call.value + 1 : 0);
        give_blob(rethread_text(rethread_woven_by_name(entries[i].by)));
        give_blob(rethread_text(rethread_woven_outcome_name(entries[i].outcome)));
        give_number((uint64_t)entries[i].reason);
        give_number(entries[i].left_out);
    }
    unmatched = rethread_woven_unmatched(woven, &count);
    give_number(count);
    for (size_t i = 0; i < count; i++) {
        give_number(unmatched[i]);
    }
}

static void weave(const struct rethread_weave_options *options, struct rethread_bytes json,
                  const struct rethread_replay_result *replay)
{
    struct rethread_woven *woven = NULL;
    enum rethread_status status = rethread_weave(options, json, replay, &woven);

    if (status == RETHREAD_OK) {
        assert(rethread_woven_error(woven) == NULL);
        give_answer(status, rethread_woven_json(woven), NULL);
        give_entries(woven);
    } else {
        give_answer(status, (struct rethread_bytes){0}, rethread_woven_error(woven));
        give_number(0);
        give_number(0);
    }
    rethread_woven_free(woven);
}

int main(void)
{
    uint64_t operation;

    while (fread(&operation, sizeof operation, 1, stdin) == 1) {
        struct request request = {0};
        struct rethread_weave_options options = {.as = (enum rethread_transcript)take_number()};
        struct rethread_replay_result replay = {0};
        struct rethread_bytes field, json;

        options.model = take_blob(&request);
        field = take_blob(&request);
        options.field = field.size > 0 ? field.data : NULL;
        json = take_blob(&request);
        if (operation == 'u') {
            unweave(&options, json);
        } else {
            uint64_t head = take_number();

            replay.head = (struct rethread_u64){.set = head > 0, .value = head - (head > 0)};
            take_steps(&request, &replay);
            weave(&options, json, &replay);
        }
        request_free(&request);
    }
    return ferror(stdin) || fflush(stdout) != 0;
}
