/*
 * The judge: opens a data directory as a server would and holds it against the ledger.
 *
 * Changes go into the log in the order in which they were submitted, so what is there after a crash
 * must be all of the first so many changes and nothing of the others: every thread with every step
 * and recall, the list of threads, keys, tombstones; and of these changes every one that is durable
 * by the ledger. After failed writes (loose) each thread stands for itself: as after any of its
 * changes since the last durable one.
 */
#ifndef RETHREAD_TESTS_CRASH_JUDGE_H
#define RETHREAD_TESTS_CRASH_JUDGE_H

#include "tests/crash/ledger.h"

#include <semaphore.h>

enum {
    JUDGE_LOOSE = 1,
    JUDGE_AUDIT = 2,        /* tree_verify as well */
    JUDGE_DAMAGE_IS_OK = 4, /* a log may have been set aside */
};

struct judge {
    const char *directory;
    struct clock_driven wall;
    /* So much of the log is brought in before it is asked. At first 1, so the tail is on its way
     * while it is; 0, as the store would have it, where calls fail while it opens. */
    uint64_t tail_at_once_bytes;
    struct store *store;
    struct tier *tier;
    struct tier_port *port;
    sem_t woken;
    uint8_t *content; /* LEDGER_CONTENT_BYTES_MAX */
    /* Of the last look. */
    bool unreadable; /* LMDB gave up at a failed write of its first pages, until restart */
    uint32_t known;  /* the store is as after so many changes (loose: 0) */
    char text[400];  /* what is wrong */
};

void judge_init(struct judge *judge, const char *directory);
void judge_free(struct judge *judge);

/* False: refused; text says why. */
bool judge_open(struct judge *judge);
void judge_close(struct judge *judge);

bool judge_look(struct judge *judge, const struct ledger *ledger, unsigned flags);

/* Every thread is loaded; whatever comes, it comes, and it is not damaged. */
bool judge_is_served(struct judge *judge);

/* What small.h has the store take for the monotonic clock. */
struct clock *small_clock(void);

/* The settings of the scripted program, too. */
struct store_settings judge_settings(const char *directory, struct clock_driven *wall);

#endif
