/*
 * A day of 5-minute-TTL traffic with a retention of an hour, through threads and store as the
 * server has them, compressed in time: files, memory and what is on disk stay within their bounds,
 * and every replay is exact.
 */
#include "base/log.h"
#include "bench/folder.h"
#include "bench/traffic.h"
#include "store/wal.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <stdio.h>
#include <unistd.h>

enum {
    MINUTE_MS = 60 * 1000,
    STOP_MS = 5 * MINUTE_MS,
    DAY_STOPS = 24 * 12,
    RETENTION_STOPS = 12,
    MEMORY_BYTES = 16 << 20,
    /* One is written, two are ready; one more while another is zeroed to be ready again. */
    LOG_SEGMENTS = 1 + WAL_SPARE_SEGMENTS + 1,
    TREE_BYTES_LEAST = 1 << 20, /* of an almost empty one; counts at the start and end only */
    RECORDS_OF_TOMBSTONE = 2,   /* under its name, and in the order of age */
    LIMIT_SECONDS = 240,
};

static char directory[40];

static void setup(void)
{
    log_open(STDERR_FILENO, LOG_ERROR);
    /* In memory where there is such a place: no flush of this test's is waited for by anybody. */
    snprintf(directory, sizeof directory, "%s/rethread-churn-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void teardown(void)
{
    folder_remove(directory);
}

static void check_look(const struct traffic_look *look, uint64_t live_peak)
{
    uint64_t log_most = (uint64_t)LOG_SEGMENTS * WAL_SEGMENT_BYTES;
    ck_assert_uint_le(look->log_bytes, log_most);
    ck_assert_uint_le(look->tree_bytes, TREE_BYTES_LEAST + 2 * live_peak);
    ck_assert_uint_le(look->memory_bytes, MEMORY_BYTES);
    ck_assert_uint_ge(look->disk_threads, look->threads_least);
    ck_assert_uint_le(look->disk_threads, look->threads_most);
}

START_TEST(test_day)
{
    struct traffic_settings settings = {
        .directory = directory,
        .seed = 42,
        .memory_bytes = MEMORY_BYTES,
        .ttl_ms = 5 * MINUTE_MS,
        .retention_ms = 60 * MINUTE_MS,
        .stop_ms = STOP_MS,
        .at_once = (uint32_t)trial_count(64),
        .start_of_day_ms = UINT64_C(10) * 60 * MINUTE_MS,
    };
    struct traffic *traffic = traffic_start(&settings);
    ck_assert_ptr_nonnull(traffic);
    struct traffic_look look = {0};
    struct traffic_counts counts;
    uint64_t live_peak = 0;
    for (unsigned stop = 0; stop < DAY_STOPS; stop++) {
        ck_assert(traffic_play(traffic, &look));
        live_peak = look.live_bytes > live_peak ? look.live_bytes : live_peak;
        check_look(&look, live_peak);
    }
    traffic_count(traffic, &counts);
    ck_assert_uint_gt(counts.replays_from_disk, 0);
    ck_assert_uint_gt(counts.replays_gone, 0);
    ck_assert_uint_gt(counts.demotions, 0);
    ck_assert_uint_gt(counts.forks, 0);
    ck_assert_uint_gt(counts.rewinds, 0);
    traffic_leave(traffic);
    for (unsigned stop = 0; stop < RETENTION_STOPS + 1; stop++) {
        ck_assert(traffic_play(traffic, &look));
        check_look(&look, live_peak);
    }
    ck_assert_uint_eq(look.disk_threads, 0);
    ck_assert_uint_eq(look.disk_records, RECORDS_OF_TOMBSTONE * look.disk_tombstones);
    traffic_end(traffic);
}
END_TEST

int main(void)
{
    return SUITE_RUN("churn", setup, teardown, LIMIT_SECONDS, test_day);
}
