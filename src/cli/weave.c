/* weave: a visible transcript and a replay become the transcript that a model's next call needs. */
#include "cli/transcript.h"

#include "cli/json.h"
#include "cli/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Whether every call has the reasoning that the policy grants it. */
static bool is_whole(const struct rethread_replay_result *replay,
                     const struct rethread_woven *woven)
{
    size_t count;
    size_t open_count;
    const struct rethread_woven_step *steps = rethread_woven_steps(woven, &count);
    rethread_woven_unmatched(woven, &open_count);
    for (size_t i = 0; i < count; i++)
        if (steps[i].outcome != RETHREAD_WOVEN && steps[i].outcome != RETHREAD_WOVEN_BARE &&
            steps[i].outcome != RETHREAD_WOVEN_ALREADY)
            return false;
    uint64_t dropped = replay->dropped.set ? replay->dropped.value : 0;
    return replay->status == RETHREAD_COMPLETE && open_count <= dropped;
}

static json_t *entry_of(const struct rethread_woven_step *step)
{
    json_t *entry = json_object();
    json_set_u64(entry, "step", step->step);
    json_set_present(entry, "call", step->call);
    if (step->by != RETHREAD_BY_NOTHING)
        json_set_text(entry, "by", rethread_woven_by_name(step->by));
    json_set_text(entry, "outcome", rethread_woven_outcome_name(step->outcome));
    if (step->reason != RETHREAD_REASON_NONE)
        json_set_text(entry, "reason", rethread_reason_name(step->reason));
    if (step->left_out > 0)
        json_set_u64(entry, "left_out", step->left_out);
    return entry;
}

static void report_json(const struct rethread_replay_result *replay,
                        const struct rethread_woven *woven)
{
    size_t count;
    const struct rethread_woven_step *steps = rethread_woven_steps(woven, &count);
    json_t *report = json_object();
    json_t *entries = json_array();
    json_t *unmatched = json_array();
    json_set_text(report, "status", rethread_completeness_name(replay->status));
    if (replay->reason != RETHREAD_REASON_NONE)
        json_set_text(report, "reason", rethread_reason_name(replay->reason));
    json_set_present(report, "version", replay->version);
    json_set_present(report, "kept_from", replay->kept_from);
    json_set_present(report, "dropped", replay->dropped);
    json_set_bool(report, "whole", is_whole(replay, woven));
    json_set_u64(report, "calls", rethread_woven_call_count(woven));
    for (size_t i = 0; i < count; i++)
        json_array_append_new(entries, entry_of(&steps[i]));
    const size_t *calls = rethread_woven_unmatched(woven, &count);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(unmatched, json_integer((json_int_t)calls[i]));
    json_object_set_new(report, "steps", entries);
    json_object_set_new(report, "unmatched", unmatched);
    json_print(report, stderr);
}

static char *became(const struct rethread_woven_step *step)
{
    const char *outcome = rethread_woven_outcome_name(step->outcome);
    if (step->reason != RETHREAD_REASON_NONE)
        return cli_format("%s: %s", outcome, rethread_reason_name(step->reason));
    if (step->left_out > 0 && step->outcome == RETHREAD_WOVEN)
        return cli_format("%s, %zu segments had no place", outcome, step->left_out);
    return cli_text(outcome);
}

static void report_table(const struct rethread_replay_result *replay,
                         const struct rethread_woven *woven)
{
    static const char *const headers[] = {"step", "call", "found by", "became"};
    size_t count;
    size_t open_count;
    const struct rethread_woven_step *steps = rethread_woven_steps(woven, &count);
    struct table *table = table_create("rrll", headers);
    rethread_woven_unmatched(woven, &open_count);
    for (size_t i = 0; i < count; i++) {
        table_add(table, cli_format("%" PRIu64, steps[i].step));
        table_add(table,
                  steps[i].call.set ? cli_format("%" PRIu64, steps[i].call.value) : cli_text("-"));
        table_add(table, cli_text(rethread_woven_by_name(steps[i].by)));
        table_add(table, became(&steps[i]));
    }
    table_print(table, stderr);
    table_destroy(table);
    fprintf(stderr, "%s%s%s: %zu of %zu calls have their step",
            rethread_completeness_name(replay->status),
            replay->reason != RETHREAD_REASON_NONE ? ", " : "",
            rethread_reason_name(replay->reason), rethread_woven_call_count(woven) - open_count,
            rethread_woven_call_count(woven));
    if (replay->dropped.set && replay->dropped.value > 0)
        fprintf(stderr, ", %" PRIu64 " steps left out by the policy", replay->dropped.value);
    fputc('\n', stderr);
}

static int weave_replay(const struct invocation *invocation, const struct transcript *transcript,
                        const struct rethread_replay_result *replay)
{
    struct rethread_woven *woven = NULL;
    enum rethread_status status =
        rethread_weave(&transcript->options, transcript->text, replay, &woven);
    int code = EXIT_DONE;
    if (status != RETHREAD_OK) {
        code = transcript_refuse(status, woven != NULL ? rethread_woven_error(woven) : NULL);
    } else {
        transcript_print(rethread_woven_json(woven));
        fflush(stdout);
        if (invocation->json)
            report_json(replay, woven);
        else
            report_table(replay, woven);
        if (replay->status == RETHREAD_MISS || (invocation->strict && !is_whole(replay, woven)))
            code = EXIT_MISS;
    }
    rethread_woven_free(woven);
    return code;
}

int command_run_weave(struct invocation *invocation)
{
    struct rethread_replay_options *ask = &invocation->arguments.replay;
    struct rethread *connection = NULL;
    struct rethread_result *result = NULL;
    struct transcript transcript;
    int code = transcript_begin(&transcript, invocation, ask->model);
    if (code == EXIT_DONE)
        code = command_connect(invocation, &connection);
    if (code == EXIT_DONE) {
        if (ask->policy == NULL)
            ask->policy = "auto";
        if (!ask->turn.set)
            ask->turn = rethread_u64(rethread_unwoven_turn(transcript.unwoven));
        enum rethread_status status = rethread_replay(connection, ask, &result);
        code = status == RETHREAD_OK
                   ? weave_replay(invocation, &transcript, rethread_result_replay(result))
                   : report_failure(status, result, connection);
    }
    rethread_result_free(result);
    rethread_close(connection);
    transcript_end(&transcript);
    return code;
}
