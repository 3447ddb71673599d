/* Results of the smaller methods as text; see show.h. */
#include "cli/show.h"

#include "cli/encode.h"
#include "cli/keep.h"
#include "cli/report.h"
#include "cli/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

void show_status(enum rethread_completeness status, enum rethread_reason reason)
{
    fputs(rethread_completeness_name(status), stdout);
    if (reason != RETHREAD_REASON_NONE)
        printf(": %s", rethread_reason_name(reason));
}

void show_why(enum rethread_reason reason, struct rethread_u64 vouch_ms)
{
    char text[TABLE_HUMAN_BYTES];
    if (reason != RETHREAD_REASON_NONE)
        printf(". %s", report_reason(reason));
    if (vouch_ms.set)
        printf(" (%s)", table_duration(vouch_ms.value, text));
    fputc('\n', stdout);
}

static void print_id(struct rethread_bytes id)
{
    char *text = encode_escape(id, false);
    fputs(text, stdout);
    free(text);
}

static void show_hello(const struct rethread_hello_result *hello)
{
    char text[TABLE_HUMAN_BYTES];
    print_id(hello->server);
    fputc(' ', stdout);
    print_id(hello->version);
    printf(", protocol %" PRIu64 ", tenant ", hello->protocol);
    print_id(hello->tenant);
    if (hello->frame_max.set)
        printf(", frames up to %s", table_size(hello->frame_max.value, text));
    fputc('\n', stdout);
}

static void show_append(const struct rethread_append_result *append)
{
    char text[TABLE_HUMAN_BYTES];
    print_id(append->thread);
    printf(": step %" PRIu64 ", version %" PRIu64, append->step, append->version);
    if (append->duplicate)
        fputs(", a duplicate: the key was known, nothing was added", stdout);
    else if (append->created)
        fputs(", a new thread", stdout);
    if (append->lost != 0)
        printf(", %" PRIu64 " earlier lost", append->lost);
    if (append->expires_in_ms.set)
        printf(", expires in %s", table_duration(append->expires_in_ms.value, text));
    fputc('\n', stdout);
}

static void add_pair(struct table *table, const char *name, struct rethread_u64 value,
                     const char *(*human)(uint64_t, char[TABLE_HUMAN_BYTES]))
{
    char text[TABLE_HUMAN_BYTES];
    if (!value.set)
        return;
    table_add(table, cli_text(name));
    table_add(table, cli_text(human(value.value, text)));
}

static void show_stat(const struct rethread_stat_result *stat)
{
    show_status(stat->status, stat->reason);
    show_why(stat->reason, stat->vouch_ms);
    if (stat->status == RETHREAD_MISS)
        return;
    struct table *table = table_create("lr", NULL);
    add_pair(table, "version", stat->version, table_count);
    add_pair(table, "steps", stat->step_count, table_count);
    add_pair(table, "payloads", stat->bytes, table_size);
    add_pair(table, "tokens", stat->tokens, table_count);
    add_pair(table, "age", stat->age_ms, table_duration);
    add_pair(table, "idle", stat->idle_ms, table_duration);
    add_pair(table, "expires in", stat->expires_in_ms, table_duration);
    table_add(table, cli_text("tier"));
    table_add(table, cli_text(rethread_tier_name(stat->tier)));
    add_pair(table, "floor", stat->floor, table_count);
    if (stat->in_flight) {
        table_add(table, cli_text("in flight"));
        table_add(table, cli_text("yes"));
    }
    table_print(table, stdout);
    table_destroy(table);
}

static void show_touch(const struct rethread_touch_result *touch)
{
    printf("touched %" PRIu64 "\n", touch->touched);
    for (size_t i = 0; i < touch->missing_count; i++) {
        print_id(touch->missing[i].thread);
        fputs(": ", stdout);
        show_status(RETHREAD_MISS, touch->missing[i].reason);
        show_why(touch->missing[i].reason, (struct rethread_u64){0});
    }
}

static void show_begin(const struct rethread_begin_result *begin)
{
    char text[TABLE_HUMAN_BYTES];
    print_id(begin->thread);
    printf(": step %" PRIu64 " is taken, version %" PRIu64 ", claim %" PRIu64
           ", which ends in %s without a chunk\n",
           begin->step, begin->version, begin->claim,
           table_duration(begin->claim_expires_in_ms, text));
}

static void show_chunk(const struct rethread_chunk_result *chunk)
{
    char size[TABLE_HUMAN_BYTES];
    char text[TABLE_HUMAN_BYTES];
    printf("%s so far, the claim ends in %s\n", table_size(chunk->bytes, size),
           table_duration(chunk->claim_expires_in_ms, text));
}

void show_result(const struct rethread_result *result, bool reveal)
{
    switch (rethread_result_method(result)) {
    case RETHREAD_METHOD_HELLO:
        show_hello(rethread_result_hello(result));
        break;
    case RETHREAD_METHOD_APPEND:
        show_append(rethread_result_append(result));
        break;
    case RETHREAD_METHOD_REPLAY:
        show_replay(rethread_result_replay(result), reveal);
        break;
    case RETHREAD_METHOD_STAT:
        show_stat(rethread_result_stat(result));
        break;
    case RETHREAD_METHOD_TOUCH:
        show_touch(rethread_result_touch(result));
        break;
    case RETHREAD_METHOD_FORK:
        print_id(rethread_result_fork(result)->thread);
        printf(": forked, version %" PRIu64 "\n", rethread_result_fork(result)->version);
        break;
    case RETHREAD_METHOD_REWIND:
        printf("dropped %" PRIu64 ", version %" PRIu64 "\n",
               rethread_result_rewind(result)->dropped, rethread_result_rewind(result)->version);
        break;
    case RETHREAD_METHOD_FORGET:
        puts(rethread_result_forget(result)->forgotten ? "forgotten"
                                                       : "there was nothing to forget");
        break;
    case RETHREAD_METHOD_INFO:
        show_info(rethread_result_info(result));
        break;
    case RETHREAD_METHOD_BEGIN:
        show_begin(rethread_result_begin(result));
        break;
    case RETHREAD_METHOD_CHUNK:
        show_chunk(rethread_result_chunk(result));
        break;
    case RETHREAD_METHOD_COMMIT:
        show_append(rethread_result_commit(result));
        break;
    case RETHREAD_METHOD_ABORT:
        puts(rethread_result_abort(result)->aborted ? "aborted: nothing of it was kept"
                                                    : "there was nothing to abort");
        break;
    case RETHREAD_METHOD_PING:
    case RETHREAD_METHOD_LIST:
    case RETHREAD_METHOD_OTHER:
        break;
    }
}
