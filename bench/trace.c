/* Reads a workload by gzip and jansson; the rows of a thread may have others between them. */
#include "bench/trace.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINE_BYTES = 65536, TOKEN_BYTES = 4 };

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

static bool add_turn(struct trace *trace, const char *id, double bytes, double seconds)
{
    uint32_t thread;
    if (seconds < 0 || bytes < 0 || !grow(trace) || !name_thread(trace, id, &thread)) {
        return false;
    }
    trace->turns[trace->turn_count] = (struct trace_turn){
        .thread = thread,
        .row = (uint32_t)trace->turn_count,
        .thinking_bytes = (uint32_t)fmin(bytes, TRACE_TURN_BYTES_MAX),
        .idle_before_ms = (uint64_t)llround(seconds * 1000),
    };
    trace->turn_count++;
    return true;
}

static bool add_row(struct trace *trace, const json_t *row)
{
    const char *id = json_string_value(json_object_get(row, "thread"));
    const json_t *thinking = json_object_get(row, "thinking");
    const json_t *idle = json_object_get(row, "idle_before"); /* null: none */
    const json_t *at = json_object_get(row, "t");
    const json_t *tokens = json_object_get(row, "out_tokens");
    const json_t *size = json_object_get(row, "out_bytes");
    bool is_timed = thinking == NULL && idle == NULL && json_is_number(at);
    if (id == NULL || (!is_timed && !json_is_boolean(thinking)) ||
        (!json_is_number(tokens) && !json_is_number(size)) ||
        (trace->turn_count > 0 && trace->is_timed != is_timed)) {
        return false;
    }
    double bytes =
        json_is_number(size) ? json_number_value(size) : json_number_value(tokens) * TOKEN_BYTES;
    trace->is_timed = is_timed;
    bool thinks = is_timed || json_is_true(thinking);
    return add_turn(trace, id, thinks ? fmax(bytes, 1) : 0,
                    json_number_value(is_timed ? at : idle));
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

/* From when each turn came to the pause before it; a thread's first one keeps when it came. */
static void measure_pauses(struct trace *trace)
{
    for (size_t at = trace->turn_count; at-- > 1;) {
        struct trace_turn *turn = &trace->turns[at];
        const struct trace_turn *before = turn - 1;
        if (before->thread == turn->thread) {
            uint64_t since_ms = before->idle_before_ms;
            turn->idle_before_ms =
                turn->idle_before_ms > since_ms ? turn->idle_before_ms - since_ms : 0;
        }
    }
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
    if (trace->is_timed) {
        measure_pauses(trace);
    }
    return true;
}

/* ---- Made up ---- */

struct quantile {
    double share;
    double value;
};

/* Of the pauses between turns (seconds), the output of a turn that thinks (tokens) and the turns of
 * a thread, as measured on coding agents. */
static const struct quantile pauses[] = {{0, 0.5},    {0.5, 9.6},   {0.75, 23.4}, {0.9, 118},
                                         {0.95, 292}, {0.99, 2125}, {1, 39500}};
static const struct quantile outputs[] = {
    {0, 20}, {0.5, 268}, {0.9, 1015}, {0.99, 3903}, {1, 18195}};
static const struct quantile lengths[] = {{0, 2}, {0.5, 39}, {0.9, 150}, {0.99, 330}, {1, 514}};

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* One value of that distribution: between two quantiles by their logarithms. */
static double draw(uint64_t *state, const struct quantile *quantile)
{
    double share = (double)next_random(state) / (double)(UINT64_C(1) << 31);
    while (quantile[1].share < share) {
        quantile++;
    }
    double part = (share - quantile[0].share) / (quantile[1].share - quantile[0].share);
    return exp(log(quantile[0].value) + part * (log(quantile[1].value) - log(quantile[0].value)));
}

bool trace_make(struct trace *trace)
{
    enum { THREADS = 300, NEVER_PERCENT = 48, THINKS_PERCENT = 74 };
    *trace = (struct trace){0};
    uint64_t state = 1;
    for (unsigned t = 0; t < THREADS; t++) {
        char id[TRACE_ID_BYTES];
        snprintf(id, sizeof id, "made-up-%u", t);
        bool never = next_random(&state) % 100 < NEVER_PERCENT;
        for (unsigned left = (unsigned)draw(&state, lengths); left > 0; left--) {
            bool thinks = !never && next_random(&state) % 100 < THINKS_PERCENT;
            double bytes = thinks ? draw(&state, outputs) * TOKEN_BYTES : 0;
            if (!add_turn(trace, id, bytes, draw(&state, pauses))) {
                fputs("rethread-bench: no memory\n", stderr);
                trace_free(trace);
                return false;
            }
        }
    }
    return true;
}

/* ---- What was thought ---- */

static void write_words(uint8_t *text, uint32_t size, uint64_t state)
{
    static const char *const words[] = {"the ",  "so ",      "check ",  "function ", "returns ",
                                        "that ", "because ", "let me ", "value ",    "is "};
    for (uint32_t at = 0; at < size;) {
        char number[16];
        uint64_t random = next_random(&state);
        const char *word = words[random % (sizeof words / sizeof *words)];
        if ((random >> 17) % 4 == 0) {
            snprintf(number, sizeof number, "%u ", (unsigned)(random >> 7) & 0xffff);
            word = number;
        }
        for (; *word != '\0' && at < size; word++) {
            text[at++] = (uint8_t)*word;
        }
    }
}

bool trace_think(struct trace *trace)
{
    trace->text_at = calloc(trace->turn_count + 1, sizeof *trace->text_at);
    for (size_t at = 0; trace->text_at != NULL && at < trace->turn_count; at++) {
        trace->text_at[at + 1] = trace->text_at[at] + trace->turns[at].thinking_bytes;
    }
    trace->text = trace->text_at != NULL ? malloc(trace->text_at[trace->turn_count] + 1) : NULL;
    if (trace->text == NULL) {
        fputs("rethread-bench: no memory\n", stderr);
        return false;
    }
    for (size_t at = 0; at < trace->turn_count; at++) {
        write_words(trace->text + trace->text_at[at], trace->turns[at].thinking_bytes,
                    (at + 1) * UINT64_C(0x9E3779B97F4A7C15));
    }
    return true;
}

void trace_free(struct trace *trace)
{
    free(trace->turns);
    free(trace->ids);
    free(trace->text);
    free(trace->text_at);
    *trace = (struct trace){0};
}
