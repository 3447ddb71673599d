/*
 * Epochs, members and their limbo lists.
 *
 * Why an object retired at e may be reclaimed at e + 3. Let R unlink X, then read the global epoch
 * as e (acquire) and put X in limbo; R is online all along. Let Q be a reader.
 *  a. Nobody advances the epoch from e + 1 to e + 2 without having read, of R's word, a value that
 *     R stored after it unlinked X. The value that R had announced before is at most e, and stops
 *     the advance. The offline value before that: the advance has read e + 1 by then, and rewrites
 *     R's word by CAS before R's announcing exchange, which would take that in, so that R could
 *     not have read e afterwards.
 *  b. So the unlinking happens before the epoch becomes e + 2, and before whatever is done by
 *     someone who has read e + 2 or more.
 *  c. Who advances from e + 2 to e + 3 has read Q's word as e + 2: then Q read that epoch and
 * cannot have found X since (b). Or has rewritten it as offline by CAS: then that comes before Q's
 *     next exchange, which takes in the unlinking (b), so Q finds X no more; and what Q did with X
 *     before it went offline comes before the CAS.
 *  d. Who has read e + 3 or more thus comes after all that anyone did with X. The same goes for a
 *     member that took X over from R and read the epoch after that.
 *
 * The window between reading the epoch and announcing it, in epoch_online, does no harm: nothing
 * above supposes that what Q announces is recent. An old announcement only holds the epoch back
 * until the next one.
 */
#include "index/epoch.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    EPOCH_GRACE = 3,         /* advances between retiring and reclaiming, and so many limbo lists */
    EPOCH_FIRST = 1,         /* 0 is offline */
    EPOCH_LEAVE_ROUNDS = 16, /* enough for objects whose reclaiming retires others, four deep */
    EPOCH_LEAVE_TRIES = 3
};

enum member_state { MEMBER_FREE, MEMBER_LEFT, MEMBER_JOINED };

struct limbo {
    uint64_t epoch; /* of the objects in it */
    struct limbo_list {
        uint32_t head;
        uint32_t tail;
    } lists[EPOCH_KINDS_MAX];
};

struct epoch_member {
    /* Shared: written by the member, rewritten as offline by scans. */
    _Alignas(128) _Atomic uint64_t word; /* 0 = offline, else the epoch announced */

    /* The member's; of a slot left with objects in limbo, whoever takes it by its state. */
    _Alignas(128) struct epoch *epoch;
    struct arena_cache *cache;
    bool online;
    struct limbo limbo[EPOCH_GRACE]; /* by epoch, modulo */
    struct limbo ripe;               /* what nobody can hold any more */
    _Atomic size_t waiting;          /* objects in all of these; others read it as a gauge */
    _Atomic uint32_t state;
};

struct epoch {
    _Alignas(128) _Atomic uint64_t global;
    _Alignas(128) _Atomic uint32_t members_top; /* no slot at or above was ever joined */
    _Atomic uint32_t joined;                    /* slots in MEMBER_JOINED */
    _Atomic uint32_t left;                      /* slots in MEMBER_LEFT: a hint */
    struct arena *arena;
    uint8_t *base;
    struct epoch_kind kinds[EPOCH_KINDS_MAX];
    struct epoch_member members[EPOCH_MEMBERS_MAX];
};

struct epoch *epoch_create(struct arena *arena)
{
    struct epoch *epoch = aligned_alloc(128, sizeof *epoch);
    if (epoch == NULL) {
        return NULL;
    }
    memset(epoch, 0, sizeof *epoch);
    atomic_init(&epoch->global, EPOCH_FIRST);
    epoch->arena = arena;
    epoch->base = arena_base(arena);
    for (unsigned i = 0; i < EPOCH_MEMBERS_MAX; i++) {
        epoch->members[i].epoch = epoch;
    }
    return epoch;
}

void epoch_destroy(struct epoch *epoch)
{
    /* Pairs with the last subtraction in leave_slot. */
    assert(atomic_load_explicit(&epoch->joined, memory_order_acquire) == 0);
    free(epoch);
}

void epoch_define(struct epoch *epoch, unsigned kind, struct epoch_kind definition)
{
    assert(kind < EPOCH_KINDS_MAX && definition.reclaim != NULL);
    assert(definition.link_offset % sizeof(uint32_t) == 0);
    epoch->kinds[kind] = definition;
}

static uint32_t *link_of(const struct epoch *epoch, unsigned kind, uint32_t ref)
{
    uint8_t *object = arena_at(epoch->base, ref);
    return (uint32_t *)(void *)(object + epoch->kinds[kind].link_offset);
}

/* Moves list `from` to the end of list `to`. */
static void list_splice(const struct epoch *epoch, unsigned kind, struct limbo_list *to,
                        struct limbo_list *from)
{
    if (from->head == 0) {
        return;
    }
    if (to->head == 0) {
        to->head = from->head;
    } else {
        *link_of(epoch, kind, to->tail) = from->head;
    }
    to->tail = from->tail;
    *from = (struct limbo_list){0};
}

static void limbo_splice(const struct epoch *epoch, struct limbo *to, struct limbo *from)
{
    for (unsigned kind = 0; kind < EPOCH_KINDS_MAX; kind++) {
        list_splice(epoch, kind, &to->lists[kind], &from->lists[kind]);
    }
}

/* Written by who holds the slot; pairs with the loads in epoch_pending, which want no order. */
static size_t waiting_of(const struct epoch_member *member)
{
    return atomic_load_explicit(&member->waiting, memory_order_relaxed);
}

static void waiting_set(struct epoch_member *member, size_t waiting)
{
    atomic_store_explicit(&member->waiting, waiting, memory_order_relaxed);
}

/* Acquire pairs with the CAS in advance: step d. */
static uint64_t epoch_now(const struct epoch *epoch)
{
    return atomic_load_explicit(&epoch->global, memory_order_acquire);
}

/* The limbo for what is retired at `now`; what lay there before is ripe by then. */
static struct limbo *limbo_at(struct epoch_member *member, uint64_t now)
{
    struct limbo *limbo = &member->limbo[now % EPOCH_GRACE];
    if (limbo->epoch != now) {
        assert(limbo->epoch == 0 || limbo->epoch + EPOCH_GRACE <= now);
        limbo_splice(member->epoch, &member->ripe, limbo);
        limbo->epoch = now;
    }
    return limbo;
}

static void limbo_add(struct epoch_member *member, unsigned kind, uint32_t ref)
{
    struct limbo *limbo = limbo_at(member, epoch_now(member->epoch));
    struct limbo_list one = {.head = ref, .tail = ref};
    *link_of(member->epoch, kind, ref) = 0;
    list_splice(member->epoch, kind, &limbo->lists[kind], &one);
}

/* Takes the slot if it is in `state`. */
static bool slot_take(struct epoch_member *member, uint32_t state)
{
    /* Acquire pairs with the release in leave_slot and slots_adopt: the limbo lists are whole. */
    return atomic_compare_exchange_strong_explicit(&member->state, &state, MEMBER_JOINED,
                                                   memory_order_acquire, memory_order_relaxed);
}

/* Gives the slot up, offline and without a cache. Returns whether no member is left. */
static bool leave_slot(struct epoch_member *member)
{
    struct epoch *epoch = member->epoch;
    bool leaves_some = waiting_of(member) > 0;
    if (leaves_some) {
        /* Before the state, so that it never falls below the truth. */
        atomic_fetch_add_explicit(&epoch->left, 1, memory_order_relaxed);
    }
    /* Pairs with the CAS in slot_take. */
    atomic_store_explicit(&member->state, leaves_some ? MEMBER_LEFT : MEMBER_FREE,
                          memory_order_release);
    /* The last one to subtract sees the slots of all others: acq_rel, in one chain. */
    return atomic_fetch_sub_explicit(&epoch->joined, 1, memory_order_acq_rel) == 1;
}

struct epoch_member *epoch_join(struct epoch *epoch)
{
    for (uint32_t i = 0; i < EPOCH_MEMBERS_MAX; i++) {
        struct epoch_member *member = &epoch->members[i];
        bool was_left = slot_take(member, MEMBER_LEFT);
        if (!was_left && !slot_take(member, MEMBER_FREE)) {
            continue;
        }
        /* Pairs with the CAS in advance: it sees this slot, or this member comes after its scan. */
        uint32_t top = atomic_load_explicit(&epoch->members_top, memory_order_relaxed);
        while (!atomic_compare_exchange_weak_explicit(&epoch->members_top, &top,
                                                      top > i ? top : i + 1, memory_order_acq_rel,
                                                      memory_order_relaxed)) {
        }
        /* Pairs with the subtraction in leave_slot. */
        atomic_fetch_add_explicit(&epoch->joined, 1, memory_order_acq_rel);
        if (was_left) {
            atomic_fetch_sub_explicit(&epoch->left, 1, memory_order_relaxed);
        }
        member->cache = arena_cache_open(epoch->arena);
        if (member->cache == NULL) {
            leave_slot(member);
            return NULL;
        }
        return member;
    }
    return NULL;
}

struct arena_cache *epoch_member_cache(struct epoch_member *member)
{
    return member->cache;
}

void epoch_online(struct epoch_member *member)
{
    uint64_t now = epoch_now(member->epoch);
    /* Pairs with the loads and the CAS in may_advance: see a, c and the window above. */
    atomic_exchange_explicit(&member->word, now, memory_order_seq_cst);
    member->online = true;
}

void epoch_offline(struct epoch_member *member)
{
    if (!member->online) {
        /* Not again: it would hide a scan's rewriting from this member's next exchange. */
        return;
    }
    member->online = false;
    /* Pairs with the CAS in may_advance, which takes in all that was done while online. */
    atomic_store_explicit(&member->word, 0, memory_order_release);
}

bool epoch_is_online(const struct epoch_member *member)
{
    return member->online;
}

void epoch_retire(struct epoch_member *member, unsigned kind, void *object)
{
    assert(member->online && kind < EPOCH_KINDS_MAX);
    assert(member->epoch->kinds[kind].reclaim != NULL);
    limbo_add(member, kind, arena_ref(member->epoch->base, object));
    waiting_set(member, waiting_of(member) + 1);
}

/* Whether every online member has announced `now`. */
static bool may_advance(struct epoch *epoch, uint64_t now)
{
    /* Rewritten, not just loaded: pairs with the CAS in epoch_join. */
    uint32_t top = atomic_load_explicit(&epoch->members_top, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&epoch->members_top, &top, top,
                                                  memory_order_acq_rel, memory_order_relaxed)) {
    }
    for (uint32_t i = 0; i < top; i++) {
        struct epoch_member *member = &epoch->members[i];
        /* Pairs with the exchange in epoch_online. */
        uint64_t word = atomic_load_explicit(&member->word, memory_order_acquire);
        /* Pairs with the exchange in epoch_online and the store in epoch_offline. A member that
         * comes online just now has announced some epoch that may be this one. */
        if (word == 0) {
            atomic_compare_exchange_strong_explicit(&member->word, &word, 0, memory_order_acq_rel,
                                                    memory_order_acquire);
        }
        if (word != 0 && word != now) {
            return false;
        }
    }
    return true;
}

static void advance(struct epoch *epoch)
{
    uint64_t now = epoch_now(epoch);
    if (may_advance(epoch, now)) {
        /* Release pairs with the acquire in epoch_now; a failure means that another advanced. */
        atomic_compare_exchange_strong_explicit(&epoch->global, &now, now + 1, memory_order_acq_rel,
                                                memory_order_relaxed);
    }
}

/* Takes over what members left in limbo. */
static void slots_adopt(struct epoch_member *member)
{
    struct epoch *epoch = member->epoch;
    /* Pairs with the CAS in epoch_join. A slot joined meanwhile may be missed until next time; the
     * last member misses none, since it comes after all others left. */
    uint32_t top = atomic_load_explicit(&epoch->members_top, memory_order_acquire);
    for (uint32_t i = 0; i < top; i++) {
        struct epoch_member *from = &epoch->members[i];
        if (!slot_take(from, MEMBER_LEFT)) {
            continue;
        }
        atomic_fetch_sub_explicit(&epoch->left, 1, memory_order_relaxed);
        struct limbo *limbo = limbo_at(member, epoch_now(epoch));
        for (unsigned age = 0; age < EPOCH_GRACE; age++) {
            limbo_splice(epoch, limbo, &from->limbo[age]);
        }
        limbo_splice(epoch, limbo, &from->ripe);
        waiting_set(member, waiting_of(member) + waiting_of(from));
        waiting_set(from, 0);
        /* Pairs with the CAS in slot_take. */
        atomic_store_explicit(&from->state, MEMBER_FREE, memory_order_release);
    }
}

/* Reclaims ripe objects of a kind; returns how many it asked for. */
static size_t kind_reclaim(struct epoch_member *member, unsigned kind, size_t objects_max)
{
    struct epoch *epoch = member->epoch;
    const struct epoch_kind *definition = &epoch->kinds[kind];
    struct limbo_list *ripe = &member->ripe.lists[kind];
    size_t asked = 0;
    for (; asked < objects_max && ripe->head != 0; asked++) {
        uint32_t ref = ripe->head;
        ripe->head = *link_of(epoch, kind, ref);
        if (definition->reclaim(definition->context, member, arena_at(epoch->base, ref))) {
            assert(waiting_of(member) > 0);
            waiting_set(member, waiting_of(member) - 1);
        } else {
            limbo_add(member, kind, ref);
        }
    }
    return asked;
}

size_t epoch_reclaim(struct epoch_member *member, size_t objects_max)
{
    struct epoch *epoch = member->epoch;
    assert(member->online);
    /* A hint: pairs with the addition in leave_slot. */
    if (atomic_load_explicit(&epoch->left, memory_order_relaxed) != 0) {
        slots_adopt(member);
    }
    if (waiting_of(member) == 0) {
        return 0;
    }
    advance(epoch);
    uint64_t now = epoch_now(epoch);
    for (unsigned age = 0; age < EPOCH_GRACE; age++) {
        struct limbo *limbo = &member->limbo[age];
        if (limbo->epoch + EPOCH_GRACE <= now) {
            limbo_splice(epoch, &member->ripe, limbo);
        }
    }
    for (unsigned kind = 0; kind < EPOCH_KINDS_MAX && objects_max > 0; kind++) {
        objects_max -= kind_reclaim(member, kind, objects_max);
    }
    return waiting_of(member);
}

/* Reclaims what it can while nobody holds the epoch back. */
static void reclaim_rounds(struct epoch_member *member)
{
    for (unsigned round = 0; round < EPOCH_LEAVE_ROUNDS; round++) {
        epoch_online(member);
        if (epoch_reclaim(member, SIZE_MAX) == 0) {
            break;
        }
    }
}

void epoch_leave(struct epoch_member *member)
{
    struct epoch *epoch = member->epoch;
    /* Who was last joins again for what is left, a bounded number of times: others may come and
     * go meanwhile, and the last of them is last in turn. */
    for (unsigned tries = EPOCH_LEAVE_TRIES;; tries--) {
        epoch_offline(member); /* the caller holds nothing any more */
        reclaim_rounds(member);
        epoch_offline(member);
        arena_cache_close(member->cache);
        member->cache = NULL;
        bool last = leave_slot(member);
        if (!last || atomic_load_explicit(&epoch->left, memory_order_relaxed) == 0 || tries == 1) {
            return;
        }
        member = epoch_join(epoch);
        if (member == NULL) {
            return;
        }
    }
}

size_t epoch_pending(const struct epoch *epoch)
{
    size_t pending = 0;
    for (unsigned i = 0; i < EPOCH_MEMBERS_MAX; i++) {
        pending += waiting_of(&epoch->members[i]);
    }
    return pending;
}
