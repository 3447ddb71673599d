/*
 * import: appends the steps of a JSON-lines file, many in flight.
 *
 * Of each thread the first step goes ahead alone, with `expect: 0`. When the server takes it, the
 * thread is new and the others follow in a stream, each with the version that the one before it
 * makes. When it does not, what the server has is fetched once, compared, and built upon.
 */
#include "cli/command.h"

#include "cli/encode.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "cli/roster.h"
#include "cli/row.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REFUSALS_NAMED = 10 };

struct sent {
    uint32_t msgid;
    struct known_thread *thread;
    uint64_t step;
    uint64_t line;
    uint64_t payload_bytes;
    XXH128_hash_t digest;
};

struct import_run {
    const struct invocation *invocation;
    struct rethread *connection;
    struct roster roster;
    struct sent *ring; /* in the order sent; sent_count - answered_count of them are under way */
    uint64_t sent_count;
    uint64_t answered_count;
    int collect_timeout_ms;
    uint64_t line;
    struct progress progress;
    int code;     /* the worst so far */
    bool stopped; /* by a bad line or a failure */
};

static void worsen(struct import_run *run, int code)
{
    if (code > run->code)
        run->code = code;
}

static void stop(struct import_run *run, int code)
{
    worsen(run, code);
    run->stopped = true;
}

static void bad_line(struct import_run *run, struct known_thread *thread, uint64_t line,
                     const char *what)
{
    if (thread != NULL)
        thread->standing = STANDING_BROKEN;
    run->progress.bad++;
    if (run->invocation->skip_bad)
        return;
    progress_clear(&run->progress);
    report_line("line %" PRIu64 ": %s", line, what);
    stop(run, EXIT_USAGE);
}

static void refuse(struct import_run *run, struct known_thread *thread, uint64_t line,
                   const char *why)
{
    run->progress.refused++;
    worsen(run, EXIT_SERVER);
    if (thread->standing == STANDING_REFUSED)
        return;
    thread->standing = STANDING_REFUSED;
    run->progress.threads_refused++;
    if (run->progress.threads_refused > REFUSALS_NAMED)
        return;
    progress_clear(&run->progress);
    char *id = encode_escape(thread->id, false);
    report_line("line %" PRIu64 ": thread %s %s", line, id, why);
    free(id);
}

/* A line whose step the server had before. */
static void compare_known(struct import_run *run, struct known_thread *thread, uint64_t step,
                          uint64_t line, XXH128_hash_t digest)
{
    assert(step < thread->known_count);
    if (XXH128_isEqual(thread->known[step], digest))
        run->progress.known++;
    else
        refuse(run, thread, line, "has another step at this position");
}

/* The thread exists: fetches what the server has of it. */
static void learn(struct import_run *run, const struct sent *first)
{
    struct known_thread *thread = first->thread;
    struct rethread_replay_options options = {.thread = thread->id, .touch = rethread_bool(false)};
    struct rethread_result *result = NULL;
    enum rethread_status status = rethread_replay(run->connection, &options, &result);
    if (status != RETHREAD_OK) {
        progress_clear(&run->progress);
        stop(run, report_failure(status, result, run->connection));
    } else {
        const char *obstacle = roster_learn(thread, rethread_result_replay(result));
        if (obstacle != NULL) {
            refuse(run, thread, first->line, obstacle);
        } else if (thread->known_count == 0) {
            refuse(run, thread, first->line, "was rewound to nothing; forget it first");
        } else {
            thread->standing = STANDING_OPEN;
            compare_known(run, thread, 0, first->line, first->digest);
        }
    }
    rethread_result_free(result);
}

static void take_failure(struct import_run *run, const struct sent *sent,
                         enum rethread_status status, const struct rethread_result *result)
{
    const struct rethread_error *error = result != NULL ? rethread_result_error(result) : NULL;
    if (sent->thread->standing == STANDING_BROKEN) {
        run->progress.bad++;
    } else if (status == RETHREAD_CONFLICT && sent->thread->standing == STANDING_ASKED) {
        learn(run, sent);
    } else if (status == RETHREAD_CONFLICT) {
        refuse(run, sent->thread, sent->line, "was changed by another client meanwhile");
    } else if (error != NULL && (status == RETHREAD_BAD_REQUEST || status == RETHREAD_TOO_LARGE)) {
        char what[ROW_ERROR_BYTES];
        snprintf(what, sizeof what, "%s: %.100s", error->code, error->message);
        bad_line(run, sent->thread, sent->line, what);
    } else if (!run->stopped) {
        progress_clear(&run->progress);
        stop(run, report_failure(status, result, run->connection));
        report_line("stopped at line %" PRIu64 "; import again to go on from there", sent->line);
    }
}

/* Takes the oldest answer that is owed. */
static void collect_one(struct import_run *run)
{
    assert(run->answered_count < run->sent_count);
    struct sent sent = run->ring[run->answered_count++ % run->invocation->in_flight];
    struct rethread_result *result = NULL;
    enum rethread_status status =
        rethread_collect(run->connection, sent.msgid, run->collect_timeout_ms, &result);
    if (status == RETHREAD_OK) {
        const struct rethread_append_result *append = rethread_result_append(result);
        run->progress.added++;
        run->progress.payload_bytes += sent.payload_bytes;
        if (sent.thread->standing == STANDING_ASKED) {
            sent.thread->standing = STANDING_OPEN;
            sent.thread->version = append->version;
        }
        if (append->step != sent.step)
            refuse(run, sent.thread, sent.line, "numbers its steps in another way");
    } else {
        take_failure(run, &sent, status, result);
    }
    rethread_result_free(result);
    progress_show(&run->progress, false);
}

static void send_step(struct import_run *run, struct row *row, struct known_thread *thread,
                      uint64_t step, XXH128_hash_t digest)
{
    struct sent sent = {.thread = thread, .step = step, .line = run->line, .digest = digest};
    for (size_t i = 0; i < row->append.segments.count; i++)
        sent.payload_bytes += row->append.segments.items[i].bytes.size;
    if (run->sent_count - run->answered_count == run->invocation->in_flight)
        collect_one(run);
    row->append.expect = rethread_u64(thread->standing == STANDING_NEW ? 0 : thread->version);
    enum rethread_status status;
    while ((status = rethread_submit_append(run->connection, &row->append, &sent.msgid)) ==
               RETHREAD_FULL &&
           run->answered_count < run->sent_count)
        collect_one(run);
    if (status == RETHREAD_TOO_LARGE) {
        bad_line(run, thread, run->line, "is larger than a frame may be (see --frame-max)");
        return;
    }
    if (status != RETHREAD_OK) {
        progress_clear(&run->progress);
        stop(run, report_failure(status, NULL, run->connection));
        return;
    }
    if (thread->standing == STANDING_NEW)
        thread->standing = STANDING_ASKED;
    else
        thread->version++;
    run->ring[run->sent_count++ % run->invocation->in_flight] = sent;
}

/* The thread of a line, once it is known whether the server has it. */
static struct known_thread *settled(struct import_run *run, struct rethread_bytes id)
{
    struct known_thread *thread = roster_find(&run->roster, id);
    while (thread->standing == STANDING_ASKED && !run->stopped)
        collect_one(run);
    return thread;
}

static void take_row(struct import_run *run, struct row *row)
{
    struct known_thread *thread = settled(run, row->append.thread);
    if (run->stopped)
        return;
    if (thread->standing == STANDING_BROKEN) {
        run->progress.bad++;
        return;
    }
    if (thread->standing == STANDING_REFUSED) {
        run->progress.refused++;
        return;
    }
    if (row->position.set && row->position.value != thread->next) {
        char what[ROW_ERROR_BYTES];
        snprintf(what, sizeof what, "step %" PRIu64 " of its thread where %" PRIu64 " was due",
                 row->position.value, thread->next);
        bad_line(run, thread, run->line, what);
        return;
    }
    uint64_t step = thread->next++;
    thread->users += row->after_user;
    if (row->is_log && row->after_known)
        row->append.turn = rethread_u64(thread->users);
    XXH128_hash_t digest = roster_digest(row->append.segments);
    if (step < thread->known_count)
        compare_known(run, thread, step, run->line, digest);
    else
        send_step(run, row, thread, step, digest);
}

static bool is_blank(const char *line, size_t size)
{
    return strspn(line, " \t\r\n") == size;
}

static void read_lines(struct import_run *run, FILE *file, const char *path)
{
    struct row *row = cli_alloc(sizeof *row);
    if (run->invocation->threads.count > 0)
        row->thread = run->invocation->threads.items[0];
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    while (!run->stopped && (size = getline(&line, &room, file)) >= 0) {
        char error[ROW_ERROR_BYTES];
        run->line++;
        if (is_blank(line, (size_t)size))
            continue;
        if (row_read(row, line, (size_t)size, error)) {
            take_row(run, row);
        } else {
            bool named = row->append.thread.data != NULL;
            bad_line(run, named ? settled(run, row->append.thread) : NULL, run->line, error);
        }
        row_free(row);
        progress_show(&run->progress, false);
    }
    if (ferror(file)) {
        progress_clear(&run->progress);
        report_line("cannot read %s: %s", path, strerror(errno));
        stop(run, EXIT_SERVER);
    }
    free(line);
    free(row);
}

static int run_on(struct invocation *invocation, FILE *file, const char *path)
{
    struct import_run run = {
        .invocation = invocation,
        .collect_timeout_ms = invocation->timeout_ms != 0 ? (int)invocation->timeout_ms : 30000,
    };
    int code = command_connect(invocation, &run.connection);
    if (code != EXIT_DONE)
        return code;
    run.ring = cli_alloc((size_t)invocation->in_flight * sizeof *run.ring);
    progress_start(&run.progress);
    read_lines(&run, file, path);
    while (run.answered_count < run.sent_count)
        collect_one(&run);
    run.progress.threads = run.roster.count;
    progress_summary(&run.progress, invocation->json);
    rethread_close(run.connection);
    roster_free(&run.roster);
    free(run.ring);
    return run.code;
}

int command_run_import(struct invocation *invocation)
{
    if (invocation->operand_count != 1) {
        report_line("name one file to read, or - for the standard input");
        return EXIT_USAGE;
    }
    if (invocation->threads.count > 1) {
        report_line("--thread names the one thread of all lines that name none");
        return EXIT_USAGE;
    }
    const char *path = invocation->operands[0];
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "re");
    if (file == NULL) {
        report_line("cannot open %s: %s", path, strerror(errno));
        return EXIT_USAGE;
    }
    int code = run_on(invocation, file, is_stdin ? "the standard input" : path);
    if (!is_stdin)
        fclose(file);
    return code;
}
