/* Opens, tends and closes threads and store in this process; see local.h. */
#include "bench/local.h"

#include <stdio.h>
#include <time.h>

enum {
    LAG_BYTES = 64 << 20,
    LAG_SHARE = 4,
    FRAME_BYTES = 64 << 20,
    TRIES_MAX = 200000,
    TRIES_AT_ONCE = 4
};

bool local_open(struct local *local, const struct local_settings *settings)
{
    *local = (struct local){.store = NULL};
    struct threads_settings threads = {
        .memory_bytes = settings->memory_bytes,
        .ttl_ms = settings->ttl_ms,
        .frame_max_bytes = FRAME_BYTES,
        .tombstones = settings->tombstones,
        .lanes_max = 1,
        .clock = settings->clock,
    };
    if (settings->directory != NULL) {
        struct store_refusal refusal;
        uint64_t lag_bytes = settings->memory_bytes / LAG_SHARE; /* as the server does it */
        struct store_settings store = {
            .directory = settings->directory,
            .disk_bytes = settings->disk_bytes,
            .lag_max_bytes = lag_bytes < LAG_BYTES ? lag_bytes : LAG_BYTES,
            .tombstones = settings->tombstones,
            .pool = 1,
            .compression = STORE_COMPRESSION_ZSTD,
            .wall = settings->wall,
            .clock = settings->clock,
        };
        local->store = store_open(&store, &refusal);
        if (local->store == NULL) {
            fprintf(stderr, "rethread-bench: %s\n", refusal.text);
            return false;
        }
        threads.tier = store_tier(local->store);
        threads.wall = settings->wall;
        threads.hash_secret = store_secret(local->store);
        threads.retention_ms = settings->retention_ms;
    }
    local->threads = threads_create(&threads);
    local->lane = local->threads != NULL ? lane_open(local->threads, 0, 1) : NULL;
    if (local->lane == NULL) {
        fputs("rethread-bench: no memory\n", stderr);
        return false;
    }
    lane_online(local->lane);
    lane_read_clock(local->lane);
    return true;
}

void local_close(struct local *local)
{
    if (local->lane != NULL) {
        lane_offline(local->lane);
        lane_close(local->lane);
    }
    if (local->threads != NULL) {
        threads_destroy(local->threads);
    }
    if (local->store != NULL) {
        store_close(local->store);
    }
    *local = (struct local){.store = NULL};
}

void local_tend(struct local *local)
{
    lane_tend(local->lane);
    lane_offline(local->lane);
    lane_online(local->lane);
    lane_read_clock(local->lane);
}

void local_settle(struct local *local)
{
    if (local->store != NULL) {
        store_settle(local->store);
    }
    local_tend(local);
    lane_tend_fully(local->lane);
}

bool local_try_again(struct local *local, enum status status, unsigned *tries)
{
    if (status != STATUS_AGAIN || ++*tries > TRIES_MAX) {
        return false;
    }
    local_tend(local);
    if (*tries > TRIES_AT_ONCE) {
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    return true;
}

enum status local_append(struct local *local, struct bytes thread, struct bytes payload,
                         struct thread_append_result *result)
{
    struct wire_request request = {.method = WIRE_METHOD_APPEND,
                                   .given = UINT64_C(1) << WIRE_FIELD_thread,
                                   .thread = thread,
                                   .payload_count = 1,
                                   .payload_bytes = payload.size,
                                   .payloads = {payload}};
    struct wire_error error;
    enum status status;
    unsigned tries = 0;
    do {
        status = thread_append(local->lane, &request, result, &error);
    } while (local_try_again(local, status, &tries));
    return status;
}
