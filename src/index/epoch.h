/*
 * Reclamation by quiescent states: memory that was unlinked is reused only when nobody can still
 * hold a pointer into it.
 *
 * Members are the loops (and whoever else reads shared records). A member is *online* while it may
 * hold pointers and *offline* while it cannot (around epoll_wait). Reads cost nothing in between.
 * An object retired while the global epoch is e is reclaimed when the epoch has reached e + 3, by
 * the member that retired it. (Not e + 2: that would need the unlinking store to be visible before
 * the epoch is read, a full fence per retirement. With three, the argument rests on acquire and
 * release alone; epoch.c has it.)
 *
 * Guarantees
 * 1. An object is reclaimed only after every member that was online when it was retired has been
 *    offline, or announced a later epoch, at least once.
 * 2. Announcing is an exchange, never a plain store: a plain store may be overtaken by the loads
 *    after it, and the reclaimer would miss a live reader. It pairs with the scan in epoch_reclaim,
 *    which does not merely load the word of an offline member but rewrites it by compare-and-swap:
 *    of the two one comes first, and the other sees it and all that came before it.
 * 3. epoch_retire never allocates and never fails: objects carry their own 32-bit link.
 * 4. All operations are wait-free but for the bounded scan over the members, and what the reclaim
 *    functions do. epoch_leave of the last member reclaims in a bounded number of rounds.
 */
#ifndef RETHREAD_INDEX_EPOCH_H
#define RETHREAD_INDEX_EPOCH_H

#include "base/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EPOCH_KINDS_MAX = 8, EPOCH_MEMBERS_MAX = 128 };

struct epoch;
struct epoch_member;

/*
 * What to do with an object of a kind once nobody can hold it. Called by the member that retired
 * it, while online. Returns false when the object is still pinned: it is asked again an epoch
 * later. The function frees the object itself (arena_free through epoch_member_cache).
 */
typedef bool epoch_reclaim_fn(void *context, struct epoch_member *member, void *object);

struct epoch_kind {
    /* Of the object's uint32_t link: the epoch's from epoch_retire on. Readers, who may still look
     * at a retired object, must leave these four bytes alone. */
    size_t link_offset;
    epoch_reclaim_fn *reclaim;
    void *context;
};

struct epoch *epoch_create(struct arena *arena);
void epoch_destroy(struct epoch *epoch); /* after every member has left */

/* Before any member joins: names kind `kind` (0..EPOCH_KINDS_MAX-1). */
void epoch_define(struct epoch *epoch, unsigned kind, struct epoch_kind definition);

/*
 * A member opens an arena cache of its own. NULL when there are too many. Joins offline. A member
 * is used by one operating-system thread at a time.
 */
struct epoch_member *epoch_join(struct epoch *epoch);
/*
 * Leaves: what it retired and could not reclaim yet is handed over to the epoch, whose next
 * reclaiming member takes it on; the last one to leave reclaims everything.
 */
void epoch_leave(struct epoch_member *member);

struct arena_cache *epoch_member_cache(struct epoch_member *member);

void epoch_online(struct epoch_member *member);  /* may be called while online: announces anew */
void epoch_offline(struct epoch_member *member); /* may be called while offline */
bool epoch_is_online(const struct epoch_member *member);

/* The object must be unlinked: no new reader can reach it. Only while online. */
void epoch_retire(struct epoch_member *member, unsigned kind, void *object);

/*
 * Advances the epoch if every online member has seen it, and reclaims up to `objects_max` of what
 * this member retired. Returns how many are still waiting. Only while online: a member cannot
 * advance the epoch past its own announcement, so announce (epoch_online) between calls.
 */
size_t epoch_reclaim(struct epoch_member *member, size_t objects_max);

/* Objects retired and not yet reclaimed, by all members: a gauge. */
size_t epoch_pending(const struct epoch *epoch);

#endif
