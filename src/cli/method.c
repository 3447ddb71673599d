/* Runs a method of the contract as a command: connects, calls, prints, and says how it went. */
#include "cli/command.h"

#include "cli/encode.h"
#include "cli/json.h"
#include "cli/show.h"
#include "cli/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* To a microsecond. */
static double rounded(double value_ms)
{
    return (double)(int64_t)(value_ms * 1000 + 0.5) / 1000;
}

static int code_of(const struct invocation *invocation, enum rethread_completeness status)
{
    if (status == RETHREAD_MISS || (status == RETHREAD_PARTIAL && invocation->strict))
        return EXIT_MISS;
    return EXIT_DONE;
}

static int code_of_result(const struct invocation *invocation, const struct rethread_result *result)
{
    switch (rethread_result_method(result)) {
    case RETHREAD_METHOD_REPLAY:
        return code_of(invocation, rethread_result_replay(result)->status);
    case RETHREAD_METHOD_STAT:
        return code_of(invocation, rethread_result_stat(result)->status);
    case RETHREAD_METHOD_TOUCH:
        return rethread_result_touch(result)->missing_count != 0 ? EXIT_MISS : EXIT_DONE;
    default:
        return EXIT_DONE;
    }
}

static void show_ping(const struct invocation *invocation, double round_trip_ms)
{
    if (invocation->json)
        json_print(json_pack("{s:f}", "round_trip_ms", rounded(round_trip_ms)), stdout);
    else
        printf("%s answers, in %.2f ms\n", invocation->server, round_trip_ms);
}

void command_show(const struct invocation *invocation, const struct rethread_result *result)
{
    if (invocation->json)
        json_print(json_of_result(result, invocation->reveal), stdout);
    else
        show_result(result, invocation->reveal);
}

int command_fail(const struct invocation *invocation, enum rethread_status status,
                 const struct rethread_result *result, const struct rethread *connection)
{
    if (invocation->json && result != NULL)
        json_print(json_of_result(result, false), stdout);
    return report_failure(status, result, connection);
}

int command_run_method(struct invocation *invocation)
{
    enum rethread_method method = invocation->command->method;
    struct rethread *connection = NULL;
    struct rethread_result *result = NULL;
    int code = command_connect(invocation, &connection);
    if (code != EXIT_DONE)
        return code;
    if (method == RETHREAD_METHOD_HELLO && !invocation->arguments.hello.protocol.set)
        invocation->arguments.hello.protocol = rethread_u64(RETHREAD_PROTOCOL);
    double started_ms = now_ms();
    enum rethread_status status =
        contract_call(connection, method, &invocation->arguments, &result);
    if (status == RETHREAD_OK) {
        if (method == RETHREAD_METHOD_PING)
            show_ping(invocation, now_ms() - started_ms);
        else
            command_show(invocation, result);
        code = code_of_result(invocation, result);
    } else {
        code = command_fail(invocation, status, result, connection);
    }
    rethread_result_free(result);
    rethread_close(connection);
    return code;
}

int command_run_append(struct invocation *invocation)
{
    bool commits = invocation->command->method == RETHREAD_METHOD_COMMIT;
    struct rethread_segments segments = {invocation->segments, invocation->segment_count};
    if (invocation->bare && segments.count != 0) {
        report_line("--bare says that there is no trace: give no segments with it");
        return EXIT_USAGE;
    }
    if (!commits && !invocation->bare && segments.count == 0) {
        report_line("there is no trace: give --text or --segment, or --bare for a step without "
                    "one");
        return EXIT_USAGE;
    }
    if (commits) {
        invocation->arguments.commit.bare = invocation->bare;
        invocation->arguments.commit.segments = segments;
    } else {
        invocation->arguments.append.bare = invocation->bare;
        invocation->arguments.append.segments = segments;
    }
    return command_run_method(invocation);
}

int command_run_chunk(struct invocation *invocation)
{
    struct rethread_bytes payloads[RETHREAD_PAYLOADS_MAX];
    for (size_t i = 0; i < invocation->segment_count; i++)
        payloads[i] = invocation->segments[i].bytes;
    invocation->arguments.chunk.payloads = payloads;
    invocation->arguments.chunk.payload_count = invocation->segment_count;
    return command_run_method(invocation);
}

static void add_listed(struct table *table, const struct rethread_listed_thread *listed)
{
    char text[TABLE_HUMAN_BYTES];
    table_add(table, encode_escape(listed->thread, false));
    table_add(table, cli_text(table_count(listed->version, text)));
    table_add(table, cli_text(table_size(listed->bytes, text)));
    table_add(table, cli_text(table_duration(listed->idle_ms, text)));
    table_add(table, cli_text(rethread_tier_name(listed->tier)));
}

static void print_page(const struct invocation *invocation, const struct rethread_list_result *list,
                       struct table *table)
{
    for (size_t i = 0; i < list->thread_count; i++)
        if (invocation->json)
            json_print(json_of_listed(&list->threads[i]), stdout);
        else
            add_listed(table, &list->threads[i]);
    table_print(table, stdout);
}

/* All of it as \xNN: whatever the shell, quotes around that are enough. */
static void print_cursor(const struct invocation *invocation, struct rethread_bytes cursor)
{
    char *text = cli_alloc(cursor.size * 4 + 1);
    for (size_t i = 0; i < cursor.size; i++)
        snprintf(text + 4 * i, 5, "\\x%02x", ((const unsigned char *)cursor.data)[i]);
    if (invocation->json)
        json_print(json_pack("{s:s}", "cursor", text), stdout);
    else
        printf("There may be more: --cursor '%s'\n", text);
    free(text);
}

int command_run_list(struct invocation *invocation)
{
    static const char *const headers[] = {"THREAD", "VERSION", "PAYLOADS", "IDLE", "TIER"};
    struct rethread *connection = NULL;
    struct rethread_result *result = NULL;
    int code = command_connect(invocation, &connection);
    if (code != EXIT_DONE)
        return code;
    struct table *table = table_create("lrrrl", headers);
    uint64_t seen = 0;
    for (;;) {
        struct rethread_result *page = NULL;
        enum rethread_status status = rethread_list(connection, &invocation->arguments.list, &page);
        rethread_result_free(result); /* the cursor of the page before was in it */
        result = page;
        if (status != RETHREAD_OK) {
            code = command_fail(invocation, status, result, connection);
            break;
        }
        const struct rethread_list_result *list = rethread_result_list(result);
        print_page(invocation, list, table);
        seen += list->thread_count;
        if (list->cursor.size == 0)
            break;
        if (!invocation->all) {
            print_cursor(invocation, list->cursor);
            break;
        }
        invocation->arguments.list.cursor = list->cursor;
    }
    if (code == EXIT_DONE && seen == 0 && !invocation->json)
        puts("no threads");
    table_destroy(table);
    rethread_result_free(result);
    rethread_close(connection);
    return code;
}
