/*
 * From names to records: threads, step keys and tombstones in the index. Private to src/thread/.
 */
#ifndef RETHREAD_THREAD_LOOKUP_H
#define RETHREAD_THREAD_LOOKUP_H

#include "thread/life.h"
#include "thread/spine.h"

enum { LOOKUP_TENANT = 0 }; /* without authentication there is one tenant */

/* A name, hashed. */
struct lookup_key {
    const struct lane *lane;
    struct index_hash hash;
    struct bytes id;
    enum record_kind kind;
    uint16_t tenant;
};

struct lookup_key lookup_key(const struct lane *lane, enum record_kind kind, struct bytes id);

/*
 * The same, of a name in a request: without work if its hash was noted there. The note is of the
 * very bytes in the request, which stay what they are as long as it is used.
 */
struct lookup_key lookup_key_of(const struct lane *lane, const struct wire_request *request,
                                enum record_kind kind, struct bytes id);
void lookup_note(struct wire_request *request, enum record_kind kind, struct bytes id,
                 struct index_hash hash);

/* And what a hint has seen under it in this turn of the lane: NULL: nothing, as far as it can tell.
 */
void lookup_note_likely(const struct lane *lane, struct wire_request *request,
                        const struct index_record *likely);

bool lookup_match(const struct index_record *record, const void *key); /* an index_match_fn */

/* What is known of a thread. */
struct lookup {
    struct lookup_key key;
    struct index_record *record; /* what the index holds: thread, tombstone or NULL */
    struct thread *thread;       /* alive when looked at; else NULL and: */
    bool loading;                /* the disk is being asked: put the request back */
    enum reason reason;          /* why it is gone, or never_seen */
    uint32_t version;            /* the gone one's; 0: unknown */
    uint32_t steps;              /* positions the gone one had */
    bool memory_only;            /* the gone one had retention 0: so has what goes on from it */
    struct thread *unborn;       /* `record`, that has a draft and nothing else; NULL: none */
};

/*
 * Finds a thread. An overdue one is killed and buried on the way, so it is gone. A claimed and
 * overdue one is returned as alive: whoever refreshes or claims it learns the truth.
 */
struct lookup lookup_thread(struct lane *lane, struct bytes id);

/*
 * The same for the thread that a request names: its name may have been hashed already, and what a
 * hint saw in this turn may be it.
 */
struct lookup lookup_request(struct lane *lane, const struct wire_request *request);

/* The same, by the name's hash. */
struct lookup lookup_by(struct lane *lane, const struct lookup_key *key);

/*
 * Whether an append to what is gone goes on with its numbers, its earlier steps being lost; else it
 * starts afresh.
 */
bool lookup_continues(const struct lookup *gone);

/*
 * The life word of a thread that was found in this turn; *thread follows it where it was unfolded
 * since. What is made of the word is to be made with that thread.
 */
static inline uint64_t lookup_life(const struct lane *lane, const struct thread **thread)
{
    uint64_t word = life_load(*thread);
    if (life_moved_to(word)) {
        *thread = lane_at(lane, life_moved_to(word));
        word = life_load(*thread);
    }
    return word;
}

/* What the next append to it would go on from: the thread as it is, or as it was. */
struct snapshot lookup_snapshot(const struct lane *lane, const struct lookup *found);

#endif
