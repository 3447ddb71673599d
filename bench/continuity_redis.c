/* Asks Redis for sizes, and reckons who is evicted; see continuity_redis.h. */
#include "bench/continuity_redis.h"

#include "bench/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES = 256 };

/* ---- Sizes ---- */

static FILE *open_stream(const struct server *server)
{
    int fd = server_connect(server);
    int flags = fd >= 0 ? fcntl(fd, F_GETFL) : -1;
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0) {
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    FILE *stream = fdopen(fd, "r+");
    if (stream == NULL) {
        close(fd);
    }
    return stream;
}

/* Reads ":NUMBER". */
static bool read_number(FILE *stream, uint64_t *number)
{
    char line[LINE_BYTES];
    return fgets(line, sizeof line, stream) != NULL && line[0] == ':' &&
           sscanf(line + 1, "%" SCNu64, number) == 1;
}

/* `used_memory` of INFO, which comes as one bulk string. */
static bool read_used(FILE *stream, uint64_t *bytes)
{
    char line[LINE_BYTES];
    bool found = false;
    unsigned long left;
    fputs("INFO memory\r\n", stream);
    fflush(stream);
    if (fgets(line, sizeof line, stream) == NULL || sscanf(line, "$%lu", &left) != 1) {
        return false;
    }
    for (left += 2; left > 0 && fgets(line, sizeof line, stream) != NULL;) {
        size_t size = strlen(line);
        left = size < left ? left - size : 0;
        found = found || sscanf(line, "used_memory:%" SCNu64, bytes) == 1;
    }
    return found;
}

/* One after the other, so that a list grows as it would. */
static bool push(FILE *stream, const struct trace *trace, size_t at, uint64_t *bytes)
{
    const struct trace_turn *turn = &trace->turns[at];
    char key[24];
    int key_size = snprintf(key, sizeof key, "t%" PRIu32, turn->thread);
    fprintf(stream, "*3\r\n$5\r\nRPUSH\r\n$%d\r\n%s\r\n$%" PRIu32 "\r\n", key_size, key,
            turn->thinking_bytes);
    fwrite(trace->text + trace->text_at[at], 1, turn->thinking_bytes, stream);
    fprintf(stream, "\r\nMEMORY USAGE %s SAMPLES 0\r\n", key);
    uint64_t length;
    return fflush(stream) == 0 && read_number(stream, &length) && read_number(stream, bytes);
}

bool continuity_redis_measure(struct continuity_redis *redis, const struct trace *trace,
                              const struct server *server)
{
    *redis = (struct continuity_redis){
        .trace = trace, .bytes_behind = calloc(trace->turn_count, sizeof *redis->bytes_behind)};
    FILE *stream = open_stream(server);
    bool good =
        stream != NULL && redis->bytes_behind != NULL && read_used(stream, &redis->empty_bytes);
    for (size_t at = 0; good && at < trace->turn_count; at++) {
        bool same = at > 0 && trace->turns[at - 1].thread == trace->turns[at].thread;
        redis->bytes_behind[at] = same ? redis->bytes_behind[at - 1] : 0;
        if (at % 1000 == 0) {
            progress_show("continuity: Redis's sizes: turn %zu of %zu", at, trace->turn_count);
        }
        if (trace->turns[at].thinking_bytes > 0) {
            good = push(stream, trace, at, &redis->bytes_behind[at]);
        }
    }
    progress_clear();
    if (stream != NULL) {
        fclose(stream);
    }
    if (!good) {
        fputs("rethread-bench: continuity: Redis does not say what its lists take\n", stderr);
        continuity_redis_free(redis);
    }
    return good;
}

void continuity_redis_free(struct continuity_redis *redis)
{
    free(redis->bytes_behind);
    *redis = (struct continuity_redis){.trace = NULL};
}

/* ---- Who is evicted ---- */

struct kept {
    uint64_t bytes; /* 0: there is no such key */
    uint64_t used_ms;
    bool lost; /* a trace of it has gone before */
};

struct lru {
    struct kept *kept;
    uint32_t count;
    uint64_t bytes;
};

static void drop(struct lru *lru, struct kept *kept)
{
    lru->bytes -= kept->bytes;
    kept->bytes = 0;
    kept->lost = true;
}

static void evict(struct lru *lru, uint64_t memory_bytes)
{
    while (lru->bytes > memory_bytes) {
        struct kept *oldest = NULL;
        for (uint32_t t = 0; t < lru->count; t++) {
            struct kept *kept = &lru->kept[t];
            if (kept->bytes > 0 && (oldest == NULL || kept->used_ms < oldest->used_ms)) {
                oldest = kept;
            }
        }
        if (oldest == NULL) {
            return;
        }
        drop(lru, oldest);
    }
}

static void play_turn(const struct continuity_redis *redis, struct lru *lru, size_t begin,
                      size_t at, struct continuity_counts *counts)
{
    const struct trace_turn *turn = &redis->trace->turns[at];
    struct kept *kept = &lru->kept[turn->thread];
    uint64_t before = at > begin ? redis->bytes_behind[at - 1] : 0;
    if (before > 0) {
        counts->follow_ups++;
        counts->complete += !kept->lost;
    }
    if (turn->thinking_bytes > 0) {
        uint64_t grown = redis->bytes_behind[at] - before;
        kept->bytes += grown;
        lru->bytes += grown;
    }
}

bool continuity_redis_play(const struct continuity_redis *redis, uint64_t memory_bytes,
                           uint64_t ttl_ms, struct continuity_counts *counts)
{
    struct continuity_turns turns;
    struct lru lru = {.count = redis->trace->thread_count, .bytes = redis->empty_bytes};
    *counts = (struct continuity_counts){0};
    lru.kept = calloc(lru.count, sizeof *lru.kept);
    if (lru.kept == NULL || !continuity_turns_open(&turns, redis->trace)) {
        free(lru.kept);
        return false;
    }
    size_t at;
    uint64_t now_ms;
    while (continuity_turns_next(&turns, &at, &now_ms)) {
        uint32_t thread = redis->trace->turns[at].thread;
        struct kept *kept = &lru.kept[thread];
        for (uint32_t t = 0; t < lru.count; t++) {
            if (lru.kept[t].bytes > 0 && now_ms - lru.kept[t].used_ms >= ttl_ms) {
                drop(&lru, &lru.kept[t]);
            }
        }
        evict(&lru, memory_bytes); /* before each command */
        kept->used_ms = now_ms;
        play_turn(redis, &lru, turns.begin[thread], at, counts);
    }
    continuity_turns_close(&turns);
    free(lru.kept);
    return true;
}
