/*
 * The ledger: what the scripted program asked the store to keep, and what it was promised.
 *
 * The program writes it into the trace as marks (tests/crash/trace.h), so that each promise stands
 * at its place among the calls on files. There is one lane, so changes are numbered from 1 in the
 * order in which they were submitted; each note says all of its thread after the change. Contents
 * of steps are named by a number, which gives their bytes and their key.
 */
#ifndef RETHREAD_TESTS_CRASH_LEDGER_H
#define RETHREAD_TESTS_CRASH_LEDGER_H

#include "store/store.h"
#include "tests/crash/trace.h"

enum {
    LEDGER_THREADS = 12,
    LEDGER_STEPS_MAX = 24,
    LEDGER_APPENDS_MAX = 40,
    LEDGER_START_MS = 1700000000,
    LEDGER_RETENTION_MS = 3600000,
    LEDGER_CONTENT_BYTES_MAX = 256 << 10,
    LEDGER_ID_BYTES = 32,
};

enum ledger_mark {
    MARK_SUBMIT,  /* a struct note */
    MARK_REFUSED, /* the last note: the store did not take it */
    MARK_KEPT,    /* u32: the change of this number is durable */
    MARK_FAILED,  /* u32: it may be there or not */
    MARK_BASE,    /* what comes before is no history, but what was there at the beginning */
    MARK_FAULTS,  /* u32: calls that failed as told, until the fault was taken back */
    MARK_OPENED,  /* u32: after the start of a life, the store is as after this many changes */
};

struct note_step {
    uint64_t content;
    uint32_t version;
};

struct note_recall {
    uint64_t content;
    uint32_t step;
    uint32_t version;
};

/* A thread after a change; all zeros: it never was. */
struct note {
    uint32_t index;
    uint16_t thread;
    bool erased;
    uint8_t reason; /* of an erased one */
    uint64_t uid;
    uint32_t version;
    uint32_t length;
    uint32_t shared;
    uint32_t inherited;
    uint32_t appends;
    uint64_t created_ms;
    uint64_t used_ms;
    uint64_t payload_bytes;
    uint64_t added;   /* the content that came with the change; 0: none */
    uint64_t dropped; /* one whose key went with it, rewound; 0: none */
    struct note_step steps[LEDGER_STEPS_MAX];
    struct note_recall recalls[LEDGER_APPENDS_MAX]; /* by ordinal - 1 */
};

struct ledger {
    struct note *notes; /* of change i at i - 1 */
    uint32_t count;
    uint32_t capacity;
    uint32_t kept;                    /* the newest change that is durable */
    uint32_t kept_of[LEDGER_THREADS]; /* and of each thread */
    uint32_t failed;                  /* changes that may be there or not */
};

void ledger_free(struct ledger *ledger);
void ledger_step(struct ledger *ledger, const struct trace_event *event);

/* The thread as after so many changes. */
struct note ledger_thread(const struct ledger *ledger, uint32_t changes, unsigned thread);

uint32_t ledger_floor(const struct note *note); /* another one after each change */

/* ---- Contents ------------------------------------------------------------------------------ */

size_t ledger_content_bytes(uint64_t content);
void ledger_content_fill(uint64_t content, uint8_t *to); /* ledger_content_bytes of them */
void ledger_content_key(uint64_t content, char key[LEDGER_ID_BYTES]);
bool ledger_content_is_tokens(uint64_t content); /* ids of at most 18 bits, or wide ones */
/* The hash of the visible message that came with it: 16 bytes into `to`, or none. */
struct bytes ledger_content_visible(uint64_t content, uint8_t to[16]);
struct recall_entry ledger_recall(const struct note_recall *recall, uint32_t ordinal);
void ledger_thread_id(unsigned thread, char id[LEDGER_ID_BYTES]);

#endif
