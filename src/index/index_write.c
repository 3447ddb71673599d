/*
 * Insert, replace, remove: what changes one slot. index_impl.h has the argument.
 *
 * Retries: each means that another operation committed in this bucket, changed this very slot, or
 * moved a split on (which is then helped to its end), so the whole makes progress.
 */
#include "index/index.h"
#include "index/index_impl.h"

/* An empty slot that an insert has taken, in the segment it was found in. */
struct claim {
    struct index_segment *segment;
    _Atomic uint64_t *slot; /* NULL: none */
    uint32_t position;
    uint64_t word;
};

/* What a scan of a chain found. */
struct look {
    struct index_record *record; /* that matches */
    _Atomic uint64_t *empty;     /* the first empty slot */
    uint32_t position;           /* of `empty` */
};

static void count_records(struct index *index, const struct epoch_member *member, uint64_t change)
{
    /* Members are allocated far apart; two of them on one counter cost time, not truth. */
    uint64_t spread = (uint64_t)(uintptr_t)member * 0x9e3779b97f4a7c15u;
    struct index_counter *counter = &index->counter[spread >> 59];
    _Static_assert(COUNTER_COUNT == 32, "five bits of the spread");
    atomic_fetch_add_explicit(&counter->records, change, memory_order_relaxed); /* only summed */
}

static _Atomic uint64_t *slot_at(const struct index *index, struct index_line *bucket,
                                 uint32_t position)
{
    struct index_walk walk = index_walk_start(bucket);
    while (position >= walk.position + walk.slots) {
        bool more = index_walk_next(index, &walk);
        assert(more); /* lines never leave a chain */
    }
    return &walk.line->word[position - walk.position];
}

static uint32_t insert_position(uint64_t turn)
{
    return (uint32_t)((turn & INSERT_AT_MASK) >> INSERT_AT_SHIFT);
}

static uint64_t insert_next(uint64_t turn, uint32_t position)
{
    assert(position <= INSERT_AT_MASK >> INSERT_AT_SHIFT);
    return INSERT_PENDING | (uint64_t)position << INSERT_AT_SHIFT | ((turn + 1) & INSERT_VERSION);
}

void index_settle(const struct index *index, struct index_line *bucket, uint64_t turn)
{
    if ((turn & INSERT_PENDING) == 0) {
        return;
    }
    _Atomic uint64_t *slot = slot_at(index, bucket, insert_position(turn));
    /* Acquire: pairs with the claim in index_insert, which came before the commit we saw. */
    uint64_t word = index_word_load(slot);
    if ((word & SLOT_TENTATIVE) == 0) {
        return;
    }
    /* W1: the same turn before and after, so `word` is what was committed. The load pairs with
     * the CAS by which a remover clears `pending`, or the next insert's commit. */
    if (index_word_load(&bucket->word[WORD_INSERT]) == turn) {
        /* Release: pairs with index_find. Failure: another settled it. */
        (void)index_word_cas(slot, &word, word & ~SLOT_TENTATIVE);
    }
}

static struct look look_for(const struct index *index, struct index_line *bucket, uint64_t hash_low,
                            index_match_fn *match, const void *key)
{
    struct look look = {0};
    uint64_t tag = index_slot_tag(hash_low);
    struct index_walk walk = index_walk_start(bucket);
    do {
        for (unsigned k = 0; k < walk.slots; k++) {
            /* Acquire: as in index_find. */
            uint64_t word = index_word_load(&walk.line->word[k]);
            if (word == 0 && look.empty == NULL) {
                look.empty = &walk.line->word[k];
                look.position = walk.position + k;
            }
            if (!index_slot_is_final_with_tag(word, tag)) {
                continue;
            }
            struct index_record *record = index_at(index, word);
            if (record->hash_low == hash_low && match(record, key)) {
                look.record = record;
                return look;
            }
        }
    } while (index_walk_next(index, &walk));
    return look;
}

/* Gives an uncommitted claim back. A frozen one stays: it goes with its segment, not copied. */
static void withdraw(const struct claim *claim)
{
    if (claim->slot != NULL) {
        uint64_t word = claim->word;
        /* Pairs with the claims of others, who load 0 from it. */
        bool withdrawn = index_word_cas(claim->slot, &word, 0);
        assert(withdrawn || word == (claim->word | WORD_FROZEN)); /* only its owner may change it */
    }
}

enum index_result index_insert(struct index *index, struct epoch_member *member,
                               struct index_hash hash, struct index_record *record, uint16_t tick,
                               index_match_fn *match, const void *key,
                               struct index_record **existing)
{
    assert(epoch_is_online(member));
    assert(record->hash_low == hash.low);
    uint64_t final = index_slot_make(hash.low, tick, arena_ref(index->base, record));
    struct claim claim = {.word = final | SLOT_TENTATIVE};
    for (;;) {
        struct index_place place = index_locate(index, hash.low);
        /* It lies elsewhere than the bucket, and is wanted behind the commit, which nothing passes.
         */
        __builtin_prefetch((const void *)index_hint_of(index, &place), 1, 3);
        if (claim.segment != place.segment) {
            claim.slot = NULL; /* it was frozen uncommitted, with its whole segment */
        }
        _Atomic uint64_t *insert = &place.bucket->word[WORD_INSERT];
        /* Acquire: pairs with the commits below, behind which each insert's slot is written. */
        uint64_t turn = index_word_load(insert);
        if (turn & WORD_FROZEN) {
            index_split(index, member, &place);
            continue;
        }
        index_settle(index, place.bucket, turn);
        struct look look = look_for(index, place.bucket, hash.low, match, key);
        if (look.record != NULL) {
            withdraw(&claim);
            *existing = look.record;
            return INDEX_EXISTS;
        }
        if (claim.slot == NULL) {
            if (look.empty == NULL) {
                index_make_room(index, member, &place);
                continue;
            }
            uint64_t empty = 0;
            /* Release: pairs with index_settle, which may finish for us. */
            if (!index_word_cas(look.empty, &empty, claim.word)) {
                continue;
            }
            claim.segment = place.segment;
            claim.slot = look.empty;
            claim.position = look.position;
        }
        /* The commit. Release and acquire: pairs with the load of `turn` above, in other inserts,
         * and with index_word_freeze in index_split. */
        if (index_word_cas(insert, &turn, insert_next(turn, claim.position))) {
            uint64_t word = claim.word;
            /* Release: pairs with index_find. Failure: another settled it for us. */
            (void)index_word_cas(claim.slot, &word, final);
            index_hint_lower(index_hint_of(index, &place), tick);
            count_records(index, member, 1);
            return INDEX_DONE;
        }
    }
}

_Atomic uint64_t *index_slot_of(const struct index *index, struct index_line *bucket, uint32_t ref,
                                uint64_t *word, uint32_t *position)
{
    struct index_walk walk = index_walk_start(bucket);
    do {
        for (unsigned k = 0; k < walk.slots; k++) {
            /* Acquire: as in index_find. */
            *word = index_word_load(&walk.line->word[k]);
            if (index_slot_is_final(*word) && (*word & WORD_REF_MASK) == ref) {
                *position = walk.position + k;
                return &walk.line->word[k];
            }
        }
    } while (index_walk_next(index, &walk));
    return NULL;
}

/*
 * Puts `fresh` (a reference and tick; no reference: the old one) where `record` is. False when the
 * record is not in the index.
 */
static bool exchange(struct index *index, struct epoch_member *member,
                     const struct index_record *record, uint32_t fresh, uint16_t tick)
{
    assert(epoch_is_online(member));
    uint32_t ref = arena_ref(index->base, record);
    uint64_t to = index_slot_make(record->hash_low, tick, fresh != 0 ? fresh : ref);
    for (;;) {
        struct index_place place = index_locate(index, record->hash_low);
        uint64_t word;
        uint32_t position;
        _Atomic uint64_t *slot = index_slot_of(index, place.bucket, ref, &word, &position);
        if (slot == NULL) {
            return false;
        }
        if (word & WORD_FROZEN) {
            index_split(index, member, &place);
            continue;
        }
        /* Release: pairs with index_find. Failure: the slot changed, so look again. */
        if (index_word_cas(slot, &word, to)) {
            index_hint_lower(index_hint_of(index, &place), tick);
            return true;
        }
    }
}

bool index_replace(struct index *index, struct epoch_member *member, const struct index_record *old,
                   struct index_record *fresh, uint16_t tick)
{
    assert(fresh->hash_low == old->hash_low && fresh != old);
    return exchange(index, member, old, arena_ref(index->base, fresh), tick);
}

void index_retick(struct index *index, struct epoch_member *member,
                  const struct index_record *record, uint16_t tick)
{
    (void)exchange(index, member, record, 0, tick);
}

/* W1: before a slot may be emptied. False: the insert word moved on, so look again. */
static bool clear_pending(const struct index *index, struct index_line *bucket, uint32_t position)
{
    /* Acquire: pairs with the commit that came before the slot became final. */
    uint64_t turn = index_word_load(&bucket->word[WORD_INSERT]);
    if ((turn & INSERT_PENDING) == 0 || insert_position(turn) != position) {
        return true; /* no other insert can commit this position while the slot is taken */
    }
    index_settle(index, bucket, turn);
    /* Release: pairs with the second load in index_settle. */
    return index_word_cas(&bucket->word[WORD_INSERT], &turn, turn & ~INSERT_PENDING);
}

bool index_remove(struct index *index, struct epoch_member *member,
                  const struct index_record *record)
{
    assert(epoch_is_online(member));
    uint32_t ref = arena_ref(index->base, record);
    for (;;) {
        struct index_place place = index_locate(index, record->hash_low);
        uint64_t word;
        uint32_t position;
        _Atomic uint64_t *slot = index_slot_of(index, place.bucket, ref, &word, &position);
        if (slot == NULL) {
            return false;
        }
        if (word & WORD_FROZEN) {
            index_split(index, member, &place);
            continue;
        }
        if (!clear_pending(index, place.bucket, position)) {
            continue;
        }
        /* Pairs with the claims of others, who load 0 from it. Failure: look again. */
        if (index_word_cas(slot, &word, 0)) {
            count_records(index, member, (uint64_t)-1);
            return true;
        }
    }
}
