/* unweave: a whole transcript becomes what is visible, and steps: printed, or appended. */
#include "cli/transcript.h"

#include "cli/json.h"
#include "cli/roster.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { KEY_BYTES = 64 };

/* The appending of a transcript's steps to one thread. */
struct appending {
    const struct invocation *invocation;
    struct rethread *connection;
    struct rethread_bytes thread;
    const struct rethread_append_options *steps;
    size_t count;
    uint64_t had; /* steps of the thread before */
    uint64_t appended;
    uint64_t version;
};

/* ---- Printing ---------------------------------------------------------------------------------
 */

static void print_step(uint64_t number, const struct rethread_append_options *from)
{
    struct rethread_step step = {.step = number,
                                 .turn = from->turn.value,
                                 .final = from->final.value,
                                 .model = from->model,
                                 .tool_calls = from->tool_calls,
                                 .visible = from->visible,
                                 .segments = from->segments};
    json_t *object = json_object();
    json_set_step(object, &step, true);
    if (json_dumpf(object, stdout, JSON_COMPACT) != 0 && !ferror(stdout))
        cli_no_memory();
    json_decref(object);
}

/* The visible transcript as it is: reading it once more could change its numbers. */
static void print_parts(const struct rethread_unwoven *unwoven)
{
    size_t count;
    const struct rethread_append_options *steps = rethread_unwoven_steps(unwoven, &count);
    struct rethread_bytes visible = rethread_unwoven_json(unwoven);
    fputs("{\"visible\":", stdout);
    fwrite(visible.data, 1, visible.size, stdout);
    fputs(",\"steps\":[", stdout);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            putchar(',');
        print_step(i, &steps[i]);
    }
    fputs("]}\n", stdout);
}

/* ---- Appending --------------------------------------------------------------------------------
 */

static bool same_bytes(struct rethread_bytes a, struct rethread_bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Whether the thread's step can be the one of the transcript, which may have lost its reasoning. */
static bool is_same(const struct rethread_step *held, const struct rethread_append_options *step)
{
    if (held->missing != RETHREAD_REASON_NONE)
        return true;
    if (held->visible.data != NULL && !same_bytes(held->visible, step->visible))
        return false;
    return step->bare ||
           XXH128_isEqual(roster_digest(held->segments), roster_digest(step->segments));
}

/* Compares what the thread has with what the transcript says. */
static int learn(struct appending *appending, const struct rethread_replay_result *replay)
{
    if (replay->status == RETHREAD_MISS)
        return EXIT_DONE; /* all of it is about to be there, from version 0 on */
    appending->version = replay->version.value;
    appending->had = replay->head.set ? replay->head.value + 1 : 0;
    for (size_t i = 0; i < replay->step_count; i++) {
        const struct rethread_step *held = &replay->steps[i];
        if (held->step >= appending->count || is_same(held, &appending->steps[held->step]))
            continue;
        report_line("step %" PRIu64 " of the thread is another than the transcript's; nothing was "
                    "appended",
                    held->step);
        return EXIT_SERVER;
    }
    return EXIT_DONE;
}

static int append_one(struct appending *appending, size_t number)
{
    const struct rethread_append_options *given = &appending->invocation->arguments.append;
    struct rethread_append_options step = appending->steps[number];
    struct rethread_result *result = NULL;
    char key[KEY_BYTES + 1];
    XXH128_hash_t digest = roster_digest(step.segments);
    /* With the version: after a rewind the same step is another append. */
    int length = snprintf(key, sizeof key, "unweave %" PRIx64 " %016" PRIx64 "%016" PRIx64,
                          appending->version, digest.high64, digest.low64);
    assert(length > 0 && length <= KEY_BYTES);
    step.thread = appending->thread;
    step.expect = rethread_u64(appending->version);
    step.key = rethread_text(key);
    step.ttl_ms = given->ttl_ms;
    step.retention_ms = given->retention_ms;
    step.ack = given->ack;
    enum rethread_status status = rethread_append(appending->connection, &step, &result);
    int code = EXIT_DONE;
    if (status == RETHREAD_OK) {
        appending->version = rethread_result_append(result)->version;
        appending->appended++;
    } else {
        code = report_failure(status, result, appending->connection);
        report_line("%" PRIu64 " steps were appended, and then step %zu was not",
                    appending->appended, number);
    }
    rethread_result_free(result);
    return code;
}

static int append_steps(struct appending *appending)
{
    struct rethread_replay_options ask = {.thread = appending->thread,
                                          .touch = rethread_bool(false)};
    struct rethread_result *result = NULL;
    enum rethread_status status = rethread_replay(appending->connection, &ask, &result);
    int code = status == RETHREAD_OK ? learn(appending, rethread_result_replay(result))
                                     : report_failure(status, result, appending->connection);
    rethread_result_free(result);
    for (size_t i = (size_t)appending->had; code == EXIT_DONE && i < appending->count; i++)
        code = append_one(appending, i);
    return code;
}

static void report(const struct appending *appending)
{
    fflush(stdout);
    if (appending->invocation->json) {
        json_t *object = json_object();
        json_set_bytes(object, "thread", appending->thread);
        json_set_u64(object, "steps", appending->count);
        json_set_u64(object, "had", appending->had);
        json_set_u64(object, "appended", appending->appended);
        json_set_u64(object, "version", appending->version);
        json_print(object, stderr);
        return;
    }
    fprintf(stderr, "%zu steps, %" PRIu64 " of them appended; the thread had %" PRIu64 "\n",
            appending->count, appending->appended, appending->had);
}

static int append_to(const struct invocation *invocation, const struct rethread_unwoven *unwoven)
{
    struct appending appending = {.invocation = invocation, .thread = invocation->threads.items[0]};
    appending.steps = rethread_unwoven_steps(unwoven, &appending.count);
    int code = command_connect(invocation, &appending.connection);
    if (code != EXIT_DONE)
        return code;
    code = append_steps(&appending);
    if (code == EXIT_DONE) {
        transcript_print(rethread_unwoven_json(unwoven));
        report(&appending);
    }
    rethread_close(appending.connection);
    return code;
}

int command_run_unweave(struct invocation *invocation)
{
    struct transcript transcript;
    if (invocation->threads.count > 1) {
        report_line("the steps of a transcript go to one thread");
        return EXIT_USAGE;
    }
    int code = transcript_begin(&transcript, invocation, invocation->arguments.append.model);
    if (code == EXIT_DONE && invocation->threads.count == 1)
        code = append_to(invocation, transcript.unwoven);
    else if (code == EXIT_DONE)
        print_parts(transcript.unwoven);
    transcript_end(&transcript);
    return code;
}
