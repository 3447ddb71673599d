/* Reads a workload by gzip and jansson; the rows of a thread may have others between them. */
#include "bench/trace.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINE_BYTES = 65536, TOKEN_BYTES = 4, TURN_BYTES_MAX = 1 << 20 };

static FILE *open_plain(const char *name, pid_t *child)
{
    int pipe_fds[2];
    if (access(name, R_OK) != 0 || pipe(pipe_fds) != 0) {
        return NULL;
    }
    *child = fork();
    if (*child == 0) {
        dup2(pipe_fds[1], STDOUT_FILENO);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        execlp("gzip", "gzip", "-dcf", "--", name, (char *)NULL);
        _exit(127);
    }
    close(pipe_fds[1]);
    if (*child < 0) {
        close(pipe_fds[0]);
        return NULL;
    }
    return fdopen(pipe_fds[0], "r");
}

static bool grow(struct trace *trace)
{
    if (trace->turn_count % 4096 == 0) {
        size_t size = (trace->turn_count + 4096) * sizeof *trace->turns;
        struct trace_turn *turns = realloc(trace->turns, size);
        if (turns == NULL) {
            return false;
        }
        trace->turns = turns;
    }
    return true;
}

/* The newest first: most rows go on with the thread of the row before. */
static bool name_thread(struct trace *trace, const char *id, uint32_t *thread)
{
    for (*thread = trace->thread_count; (*thread)-- > 0;) {
        if (strcmp(trace->ids[*thread], id) == 0) {
            return true;
        }
    }
    *thread = trace->thread_count;
    if (strlen(id) >= TRACE_ID_BYTES) {
        return false;
    }
    void *ids = realloc(trace->ids, (trace->thread_count + 1) * sizeof *trace->ids);
    if (ids == NULL) {
        return false;
    }
    trace->ids = ids;
    memcpy(trace->ids[trace->thread_count++], id, strlen(id) + 1);
    return true;
}

static bool add_row(struct trace *trace, const json_t *row)
{
    const char *id = json_string_value(json_object_get(row, "thread"));
    const json_t *thinking = json_object_get(row, "thinking");
    const json_t *tokens = json_object_get(row, "out_tokens");
    double idle_s = json_number_value(json_object_get(row, "idle_before")); /* null: 0 */
    uint32_t thread;
    if (id == NULL || !json_is_boolean(thinking) || !json_is_number(tokens) || idle_s < 0 ||
        !grow(trace) || !name_thread(trace, id, &thread)) {
        return false;
    }
    uint64_t bytes = (uint64_t)json_number_value(tokens) * TOKEN_BYTES;
    bytes = bytes < 1 ? 1 : bytes > TURN_BYTES_MAX ? TURN_BYTES_MAX : bytes;
    trace->turns[trace->turn_count] = (struct trace_turn){
        .thread = thread,
        .row = (uint32_t)trace->turn_count,
        .thinking_bytes = json_is_true(thinking) ? (uint32_t)bytes : 0,
        .idle_before_ms = (uint64_t)llround(idle_s * 1000),
    };
    trace->turn_count++;
    return true;
}

static int by_thread(const void *a, const void *b)
{
    const struct trace_turn *left = a;
    const struct trace_turn *right = b;
    if (left->thread != right->thread) {
        return left->thread < right->thread ? -1 : 1;
    }
    return (left->row > right->row) - (left->row < right->row);
}

bool trace_read(struct trace *trace, const char *name)
{
    static char line[LINE_BYTES];
    pid_t child = -1;
    *trace = (struct trace){0};
    FILE *in = open_plain(name, &child);
    bool good = in != NULL;
    while (good && fgets(line, sizeof line, in) != NULL) {
        json_t *row = json_loads(line, 0, NULL);
        good = row != NULL && add_row(trace, row);
        json_decref(row);
    }
    int status = -1;
    if (in != NULL) {
        fclose(in);
    }
    if (child > 0) {
        waitpid(child, &status, 0);
    }
    if (!good || status != 0 || trace->turn_count == 0) {
        fprintf(stderr, "rethread-bench: %s: not a workload that can be read\n", name);
        trace_free(trace);
        return false;
    }
    qsort(trace->turns, trace->turn_count, sizeof *trace->turns, by_thread);
    return true;
}

void trace_free(struct trace *trace)
{
    free(trace->turns);
    free(trace->ids);
    *trace = (struct trace){0};
}
