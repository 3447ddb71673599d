/*
 * A day of conversations against the server's own threads and store, on driven clocks, and a model
 * of what must be there: every replay is judged by what was put in.
 *
 * Some conversations are under way at once. Each goes on after a pause of seconds, of minutes past
 * the ttl, or of most of the retention; a turn replays the thread, now and then rewinds or forks
 * it, and appends a step of 200 B to 64 KiB. After some turns it is left, and another begins; at
 * night later than by day. What was left must be gone from disk when its retention is over.
 *
 * Time stands still while a turn is at work. Between two stops nothing waits for the disk but what
 * has to; at a stop everything is brought to the disk and what is due is erased.
 */
#ifndef RETHREAD_BENCH_TRAFFIC_H
#define RETHREAD_BENCH_TRAFFIC_H

#include <stdbool.h>
#include <stdint.h>

struct traffic;

struct traffic_settings {
    const char *directory;
    uint64_t seed;
    uint64_t memory_bytes;
    uint64_t ttl_ms;
    uint64_t retention_ms;
    uint64_t stop_ms;         /* between two stops */
    uint32_t at_once;         /* conversations under way */
    uint64_t start_of_day_ms; /* time of day at the start */
};

/* What a stop found. */
struct traffic_look {
    uint64_t tree_bytes;   /* of the tree's file */
    uint64_t log_bytes;    /* of the log's files */
    uint64_t live_bytes;   /* of records, as the store counts them */
    uint64_t memory_bytes; /* used */
    uint64_t disk_threads;
    uint64_t disk_records;
    uint64_t disk_tombstones;
    uint64_t threads_least; /* whose retention is not over */
    uint64_t threads_most;  /* and those who had not been over for TRAFFIC_ERASE_MS yet */
    uint64_t batch_us;      /* until all since the stop before was on disk */
    uint64_t batch_cpu_us;  /* of all operating-system threads, the same while */
};

/* Of the 60 s that an erasure may take, those until it is asked for; a look comes each second. */
enum { TRAFFIC_ERASE_MS = 58 * 1000 };

struct traffic_counts { /* since the start */
    uint64_t appends;
    uint64_t append_bytes;
    uint64_t replays;
    uint64_t replays_from_disk;
    uint64_t replays_by_key;
    uint64_t replays_gone; /* past the retention, with the right reason */
    uint64_t forks;
    uint64_t rewinds;
    uint64_t demotions;
};

/* NULL, after a message on stderr, when it cannot be set up. */
struct traffic *traffic_start(const struct traffic_settings *settings);
void traffic_end(struct traffic *traffic);

/* Plays until the next stop. False, after a message on stderr: an answer was wrong. */
bool traffic_play(struct traffic *traffic, struct traffic_look *look);

/* Leaves all conversations: from now on time passes and nothing else. */
void traffic_leave(struct traffic *traffic);

void traffic_count(struct traffic *traffic, struct traffic_counts *counts);

#endif
