/*
 * Plays a lane towards a tier: makes changes of real threads, hands them in, collects what became
 * of them, and says what the tier knows as lines of text.
 *
 * The threads live in a domain without a tier (the *source*), where steps are made by appends; a
 * struct told_thread is what a lane would know besides. Each event must come once and in order, or
 * the process ends. One operating-system thread.
 */
#ifndef RETHREAD_TESTS_LIB_TIER_CALLER_H
#define RETHREAD_TESTS_LIB_TIER_CALLER_H

#include "tests/lib/domain.h"
#include "thread/records.h"
#include "thread/tier.h"

enum { CALLER_DUE_MAX = 64, CALLER_CREATED_MS = 1000000000, CALLER_RETENTION_MS = 3600000 };

struct caller_change {
    struct tier_change tier;
    struct caller_change *next;
    struct tier_caller *caller;
    char id[TIER_ID_BYTES_MAX + 1];
    bool durable; /* the events that came */
    bool applied;
    struct recall_entry recalls[TIER_RECALL_MAX];
    const struct step **steps;
};

struct tier_caller {
    struct tier *tier;
    const uint8_t *secret;
    void (*settle)(void *context); /* brings about all that was handed in */
    void *context;
    struct tier_port *port;
    _Atomic unsigned wakes;
    unsigned under_way;            /* changes */
    struct caller_change *changes; /* all since open, the newest first */
    struct tier_load load;         /* the last one */
    bool loading;
    struct tier_due *due[CALLER_DUE_MAX];
    unsigned due_count;
};

/* A thread, as its lane would know it. */
struct told_thread {
    char id[TIER_ID_BYTES_MAX + 1];
    uint64_t uid;
    uint32_t length;
    uint32_t version;
    uint32_t lost;
    uint32_t shared;
    uint32_t inherited;
    uint32_t appends;
    uint32_t floor;
    uint64_t created_ms;
    uint64_t used_ms;
    uint64_t retention_ms;
    uint64_t payload_bytes;
    uint64_t tokens;
};

/* tier, secret, settle and context are set. */
void caller_open(struct tier_caller *caller);
void caller_close(struct tier_caller *caller); /* nothing is under way */

/* Of a new thread: uid, times. */
struct told_thread caller_thread(struct tier_caller *caller, const char *id);
/* The source does what the line says, which is an append, rewind or fork of the thread. */
void caller_say(struct domain *source, struct told_thread *thread, const char *line);

/*
 * A put with positions from `from` on; what was there goes for `reason`. Not handed in yet, so that
 * tests may vary it. The steps are pinned.
 */
struct caller_change *caller_put(struct tier_caller *caller, struct domain *source,
                                 const struct told_thread *thread, uint32_t from,
                                 enum reason reason);
struct caller_change *caller_erase(struct tier_caller *caller, const struct told_thread *thread,
                                   enum reason reason);
void caller_recall(struct caller_change *change, uint32_t ordinal, uint32_t step);
enum status caller_submit(struct caller_change *change); /* anything but OK: it is let go */

/* Both in one, and all of the thread; status is asserted to be OK. */
void caller_keep(struct tier_caller *caller, struct domain *source, struct told_thread *thread);

unsigned caller_collect(struct tier_caller *caller); /* events */
/* Settles and collects until no change is under way; up to some seconds. */
void caller_wait(struct tier_caller *caller);

/* Loads. The result is valid until the next one. */
const struct tier_load *caller_load(struct tier_caller *caller, enum record_kind kind,
                                    struct bytes id);
const struct tier_load *caller_page(struct tier_caller *caller, uint64_t after_uid,
                                    const char *start, uint32_t limit);

struct index_hash caller_name(const struct tier_caller *caller, enum record_kind kind,
                              struct bytes id);

/*
 * What the tier knows of a name, in short:
 *   thread  v3 lost 1: 1=one|two 2? 3~three     (? corrupt, ~ inherited)
 *   key     t 3 v3 [shared]
 *   both    absent | corrupt | failed | gone expired [shared] [v3 steps 3]
 * or whole: everything that is stored, for comparing two tiers. Valid until the next call.
 */
const char *caller_show(struct tier_caller *caller, enum record_kind kind, const char *id);
const char *caller_show_whole(struct tier_caller *caller, enum record_kind kind, const char *id);

/* Takes what is due off the list; "" when nothing is: "t expired v3 steps 3, …", by uid. */
const char *caller_show_due(struct tier_caller *caller);

#endif
