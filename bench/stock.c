/* Stocks servers with threads; see stock.h. Owns the connections while it does. */
#include "bench/stock.h"

#include "bench/progress.h"

#include "base/random.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { POOL_BYTES = 256 * 1024 };

bool stock_values(struct protocol_values *values, size_t step_bytes_max, uint32_t ttl_s)
{
    uint8_t *pool = malloc(POOL_BYTES + step_bytes_max);
    if (pool == NULL) {
        fputs("rethread-bench: no memory\n", stderr);
        return false;
    }
    random_fill(pool, POOL_BYTES + step_bytes_max);
    *values = (struct protocol_values){.pool = pool, .pool_bytes = POOL_BYTES, .ttl_s = ttl_s};
    random_fill(&values->series, sizeof values->series);
    return true;
}

void stock_values_free(struct protocol_values *values)
{
    free((void *)(uintptr_t)values->pool);
    values->pool = NULL;
}

/* Each connection appends a thread's steps in order, then takes the next thread. */
struct source {
    uint32_t thread; /* the next that no connection has taken */
    uint32_t end;
    uint32_t steps;
    struct {
        uint32_t thread;
        uint32_t left; /* of its steps */
    } at[STOCK_CONNECTIONS];
};

static void begin(struct source *source, const struct stock *stock)
{
    assert(stock->steps >= 1);
    *source = (struct source){.thread = stock->begin, .end = stock->end, .steps = stock->steps};
}

static bool next_append(void *context, unsigned connection, struct protocol_item *item)
{
    struct source *source = context;
    assert(connection < STOCK_CONNECTIONS);
    if (source->at[connection].left == 0) {
        if (source->thread >= source->end) {
            return false;
        }
        source->at[connection].thread = source->thread++;
        source->at[connection].left = source->steps;
    }
    *item = (struct protocol_item){.op = PROTOCOL_APPEND,
                                   .thread = source->at[connection].thread,
                                   .step = source->steps - source->at[connection].left};
    source->at[connection].left--;
    return true;
}

static size_t largest(const struct stock *stock)
{
    const struct protocol_values *values = stock->values;
    size_t most = values->value_bytes;
    for (uint32_t thread = stock->begin; values->size_of != NULL && thread < stock->end; thread++) {
        for (uint32_t step = 0; step < stock->steps; step++) {
            size_t bytes = values->size_of(values->shape, thread, step);
            most = bytes > most ? bytes : most;
        }
    }
    return most;
}

bool stock_run(const char *workload, const struct side *side, const struct stock *stock,
               struct load_result *result)
{
    struct source source;
    struct load_shape shape = {.connections = STOCK_CONNECTIONS,
                               .in_flight = STOCK_IN_FLIGHT,
                               .request_bytes_max = largest(stock),
                               .reply_bytes_max = PROTOCOL_SLACK_BYTES,
                               .steps_max = 1};
    struct load_job job = {.values = stock->values, .next = next_append, .context = &source};
    begin(&source, stock);
    *result = (struct load_result){.count = 0};
    struct load *load = load_open(side->protocol, &side->server, &shape, result->error);
    bool good = load != NULL && load_run(load, &job, result);
    load_close(load);
    if (!good) {
        stock_complain(workload, result->error);
    }
    return good;
}

void stock_complain(const char *workload, const char *error)
{
    progress_clear();
    fprintf(stderr, "rethread-bench: %s: %s\n", workload, error);
}

double stock_now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void stock_sleep_ms(unsigned time_ms)
{
    struct timespec time = {.tv_sec = time_ms / 1000, .tv_nsec = (long)(time_ms % 1000) * 1000000};
    (void)nanosleep(&time, NULL);
}
