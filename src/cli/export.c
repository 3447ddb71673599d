/*
 * export: writes whole threads as JSON lines, sorted by id, so that the same content makes the same
 * file. The ids are gathered first; then each thread is replayed, without refreshing it.
 */
#include "cli/command.h"

#include "cli/encode.h"
#include "cli/json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct export_run {
    const struct invocation *invocation;
    struct rethread *connection;
    FILE *out;
    struct rethread_bytes *ids; /* each its own copy */
    size_t count;
    size_t room;
    uint64_t steps;
    uint64_t missing; /* steps */
    uint64_t gone;    /* threads */
};

static void add_id(struct export_run *run, struct rethread_bytes id)
{
    char *copy = cli_alloc(id.size);
    memcpy(copy, id.data, id.size);
    run->ids = cli_grow(run->ids, &run->room, run->count + 1, sizeof *run->ids);
    run->ids[run->count++] = (struct rethread_bytes){copy, id.size};
}

static int compare(const void *a, const void *b)
{
    const struct rethread_bytes *x = a;
    const struct rethread_bytes *y = b;
    int order = memcmp(x->data, y->data, x->size < y->size ? x->size : y->size);
    return order != 0 ? order : (x->size > y->size) - (x->size < y->size);
}

/* Sorted, and each once: a page may repeat a thread while the server's index grows. */
static void sort_ids(struct export_run *run)
{
    size_t kept = 0;
    if (run->count != 0)
        qsort(run->ids, run->count, sizeof *run->ids, compare);
    for (size_t i = 0; i < run->count; i++) {
        if (kept != 0 && compare(&run->ids[kept - 1], &run->ids[i]) == 0)
            free((void *)run->ids[i].data);
        else
            run->ids[kept++] = run->ids[i];
    }
    run->count = kept;
}

static int list_ids(struct export_run *run)
{
    struct rethread_list_options options = {.starts_with = run->invocation->start_with,
                                            .limit = rethread_u64(1000)};
    struct rethread_result *result = NULL;
    int code = EXIT_DONE;
    do {
        struct rethread_result *page = NULL;
        enum rethread_status status = rethread_list(run->connection, &options, &page);
        rethread_result_free(result);
        result = page;
        if (status != RETHREAD_OK) {
            code = report_failure(status, result, run->connection);
            break;
        }
        const struct rethread_list_result *list = rethread_result_list(result);
        for (size_t i = 0; i < list->thread_count; i++)
            add_id(run, list->threads[i].thread);
        options.cursor = list->cursor;
    } while (options.cursor.size != 0);
    rethread_result_free(result);
    return code;
}

static void write_thread(struct export_run *run, struct rethread_bytes id,
                         const struct rethread_replay_result *replay)
{
    if (replay->status == RETHREAD_MISS) {
        char *text = encode_escape(id, false);
        report_line("%s: miss: %s", text, rethread_reason_name(replay->reason));
        free(text);
        run->gone++;
        return;
    }
    for (size_t i = 0; i < replay->step_count; i++) {
        json_t *line = json_object();
        json_set_bytes(line, "thread", id);
        json_set_step(line, &replay->steps[i], true);
        json_print(line, run->out);
        run->steps++;
        run->missing += replay->steps[i].missing != RETHREAD_REASON_NONE;
    }
}

static int write_threads(struct export_run *run)
{
    for (size_t i = 0; i < run->count; i++) {
        struct rethread_replay_options options = {.thread = run->ids[i],
                                                  .touch = rethread_bool(false)};
        struct rethread_result *result = NULL;
        enum rethread_status status = rethread_replay(run->connection, &options, &result);
        int code = EXIT_DONE;
        if (status == RETHREAD_OK)
            write_thread(run, run->ids[i], rethread_result_replay(result));
        else
            code = report_failure(status, result, run->connection);
        rethread_result_free(result);
        if (code != EXIT_DONE)
            return code;
        if (ferror(run->out))
            break;
    }
    if (run->missing != 0)
        report_line("%" PRIu64 " of %" PRIu64 " steps are missing, each with its reason",
                    run->missing, run->steps);
    /* Of threads named by the caller a miss is a miss; of all threads, some end meanwhile. */
    bool named = run->invocation->threads.count != 0;
    return run->missing != 0 || (named && run->gone != 0) ? EXIT_MISS : EXIT_DONE;
}

/* The file, readable by its owner alone; NULL after saying why not. */
static FILE *open_output(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (file == NULL) {
        report_line("cannot write %s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
    }
    return file;
}

static int run_on(struct invocation *invocation, FILE *out)
{
    struct export_run run = {.invocation = invocation, .out = out};
    int code = command_connect(invocation, &run.connection);
    if (code != EXIT_DONE)
        return code;
    for (size_t i = 0; i < invocation->threads.count; i++)
        add_id(&run, invocation->threads.items[i]);
    if (invocation->threads.count == 0)
        code = list_ids(&run);
    sort_ids(&run);
    if (code == EXIT_DONE)
        code = write_threads(&run);
    for (size_t i = 0; i < run.count; i++)
        free((void *)run.ids[i].data);
    free(run.ids);
    rethread_close(run.connection);
    return code;
}

int command_run_export(struct invocation *invocation)
{
    const char *path = invocation->output;
    if (path == NULL) {
        if (isatty(STDOUT_FILENO) && !invocation->reveal) {
            report_line("payloads would be shown on this terminal: say --reveal, or --output FILE");
            return EXIT_USAGE;
        }
        return run_on(invocation, stdout);
    }
    FILE *file = open_output(path);
    if (file == NULL)
        return EXIT_SERVER;
    int code = run_on(invocation, file);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed) {
        report_line("cannot write %s: %s", path, strerror(errno));
        return EXIT_SERVER;
    }
    return code;
}
