/* A replay as a table of its steps and, when it may be shown, their payloads; see show.h. */
#include "cli/show.h"

#include "cli/encode.h"
#include "cli/keep.h"
#include "cli/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* "<412 B text> <1.2 KiB opaque>" */
static char *describe_trace(const struct rethread_step *step)
{
    if (step->missing != RETHREAD_REASON_NONE)
        return cli_format("missing: %s", rethread_reason_name(step->missing));
    if (step->segments.count == 0)
        return cli_text("bare");
    char *all = cli_text("");
    for (size_t i = 0; i < step->segments.count; i++) {
        char size[TABLE_HUMAN_BYTES];
        char *longer = cli_format("%s%s<%s %s>", all, i != 0 ? " " : "",
                                  table_size(step->segments.items[i].bytes.size, size),
                                  rethread_kind_name(step->segments.items[i].kind));
        free(all);
        all = longer;
    }
    return all;
}

static char *join_ids(struct rethread_ids ids)
{
    char *all = cli_text("");
    for (size_t i = 0; i < ids.count; i++) {
        char *id = encode_escape(ids.items[i], false);
        char *longer = cli_format("%s%s%s", all, i != 0 ? " " : "", id);
        free(all);
        free(id);
        all = longer;
    }
    return all;
}

static void add_step(struct table *table, const struct rethread_step *step)
{
    char text[TABLE_HUMAN_BYTES];
    bool here = step->missing == RETHREAD_REASON_NONE;
    table_add(table, cli_format("%" PRIu64, step->step));
    table_add(table, here ? cli_format("%" PRIu64, step->turn) : cli_text(""));
    table_add(table, cli_text(here ? (step->final ? "yes" : "no") : ""));
    table_add(table, describe_trace(step));
    table_add(table,
              cli_text(here && step->tokens.set ? table_count(step->tokens.value, text) : ""));
    table_add(table, here ? encode_escape(step->model, false) : cli_text(""));
    table_add(table, here ? join_ids(step->tool_calls) : cli_text(""));
    table_add(table, here ? encode_escape(step->response_id, false) : cli_text(""));
    table_add(table, cli_text(here ? rethread_tier_name(step->source) : ""));
}

static void reveal_step(const struct rethread_step *step)
{
    for (size_t i = 0; i < step->segments.count; i++) {
        const struct rethread_segment *segment = &step->segments.items[i];
        char size[TABLE_HUMAN_BYTES];
        printf("\n--- step %" PRIu64 ", %s, %s ---\n", step->step,
               rethread_kind_name(segment->kind), table_size(segment->bytes.size, size));
        char *text = encode_escape(segment->bytes, true);
        puts(text);
        free(text);
    }
}

static void show_head(const struct rethread_replay_result *replay)
{
    char text[TABLE_HUMAN_BYTES];
    if (replay->thread.data != NULL && replay->thread.size != 0) {
        char *id = encode_escape(replay->thread, false);
        printf("%s: ", id);
        free(id);
    }
    show_status(replay->status, replay->reason);
    size_t missing = 0;
    for (size_t i = 0; i < replay->step_count; i++)
        missing += replay->steps[i].missing != RETHREAD_REASON_NONE;
    if (missing != 0)
        printf(", %zu of %zu steps missing", missing, replay->step_count);
    else if (replay->status != RETHREAD_MISS)
        printf(", %zu step%s", replay->step_count, replay->step_count == 1 ? "" : "s");
    /* With `have` such steps are not listed again. */
    if (missing == 0 && replay->status == RETHREAD_PARTIAL)
        fputs(", missing steps are before these and not in what you have", stdout);
    if (replay->version.set)
        printf(", version %" PRIu64, replay->version.value);
    if (replay->ambiguous)
        fputs(", the newest of several threads with this prefix", stdout);
    if (replay->found.set)
        printf(", found by prefix %" PRIu64 " of those given", replay->found.value + 1);
    if (replay->dropped.set && replay->dropped.value != 0)
        printf(", %" PRIu64 " left out", replay->dropped.value);
    if (replay->kept_from.set)
        printf(", kept from step %" PRIu64, replay->kept_from.value);
    if (replay->in_flight)
        fputs(", a step is in flight", stdout);
    if (replay->extends.set && replay->extends.value)
        fputs(", extends what you have", stdout);
    if (replay->first_changed.set)
        printf(", changed from step %" PRIu64, replay->first_changed.value);
    if (replay->expires_in_ms.set)
        printf(", expires in %s", table_duration(replay->expires_in_ms.value, text));
    show_why(replay->reason, replay->vouch_ms);
}

void show_replay(const struct rethread_replay_result *replay, bool reveal)
{
    static const char *const headers[] = {"STEP",  "TURN",       "FINAL",       "TRACE", "TOKENS",
                                          "MODEL", "TOOL CALLS", "RESPONSE ID", "FROM"};
    show_head(replay);
    struct table *table = table_create("rrllrllll", headers);
    for (size_t i = 0; i < replay->step_count; i++)
        add_step(table, &replay->steps[i]);
    table_print(table, stdout);
    table_destroy(table);
    for (size_t i = 0; reveal && i < replay->step_count; i++)
        reveal_step(&replay->steps[i]);
}
