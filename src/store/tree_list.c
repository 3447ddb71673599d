/*
 * All names of the tree, in pieces, each in a read transaction of its own and under a guard: what a
 * filter is made of. Owns nothing beyond a call; where the next piece begins is the caller's.
 */
#include "store/tree_read.h"

#include "store/guard.h"

#include <assert.h>

/* Young first: a name that is brought home between two pieces is met here, or there. */
static const struct {
    enum tree_table table;
    enum record_value kind; /* in young: either of two */
} name_tables[] = {{TREE_YOUNG, RECORD_NAME},
                   {TREE_NAMES, RECORD_NAME},
                   {TREE_KEYS, RECORD_KEY},
                   {TREE_TOMBS, RECORD_TOMB}};
enum { NAME_TABLES = sizeof name_tables / sizeof name_tables[0] };
static_assert((int)NAME_TABLES == (int)TREE_NAMES_END, "tree.h says so");

/* Places in `after`. */
enum {
    AFTER_TABLE,
    AFTER_WITHIN,
    AFTER_KEY,
    AFTER_BAD = AFTER_KEY + TREE_READ_KEY_MAX, /* some entry so far was damaged */
    AFTER_END,
};
static_assert(AFTER_END <= 24, "tree.h says how large it is");

struct listing {
    struct tree_reading reading;
    struct index_hash *names;
    unsigned limit;
    unsigned count;
    unsigned bad;
    uint8_t *after;
    bool more;
};

static size_t key_bytes_of(unsigned which)
{
    return name_tables[which].table == TREE_YOUNG ? TREE_YOUNG_KEY_BYTES : TREE_NAME_BYTES;
}

/*
 * The entry of which the copy is. A name that fails its check is of use all the same (it may be the
 * value that is damaged), but it may be another than it was: the walk does not go on from there,
 * and leaves room for one that is sound.
 */
static bool take_name(struct listing *listing)
{
    const struct tree_reading *reading = &listing->reading;
    unsigned which = listing->after[AFTER_TABLE];
    size_t size = key_bytes_of(which);
    uint8_t *last = listing->after + AFTER_KEY;
    if (reading->key_bytes != size ||
        (listing->after[AFTER_WITHIN] && memcmp(reading->key, last, size) <= 0)) {
        return false;
    }
    bool sound =
        (name_tables[which].table == TREE_YOUNG ? tree_read_young(reading)
                                                : tree_read_body(reading, name_tables[which].kind))
            .data != NULL;
    if (sound || listing->bad < listing->limit / 2) {
        listing->names[listing->count++] =
            tree_load_name(reading->key + size - (size_t)TREE_NAME_BYTES);
    }
    if (sound) {
        memcpy(last, reading->key, size);
        listing->after[AFTER_WITHIN] = true;
    }
    return sound;
}

/* TREE_END: that was all of the table. */
static enum tree_seen list_table(struct listing *listing)
{
    struct tree_reading *reading = &listing->reading;
    unsigned which = listing->after[AFTER_TABLE];
    if (name_tables[which].table == TREE_YOUNG && !tree_has_young(reading->tree)) {
        return TREE_END;
    }
    enum tree_seen seen = tree_read_table(reading, name_tables[which].table);
    bool first = true;
    while (seen == TREE_SEEN && listing->count < listing->limit) {
        struct bytes from = bytes_of(listing->after + AFTER_KEY, key_bytes_of(which));
        seen = !first                         ? tree_read_move(reading, MDB_NEXT, (struct bytes){0})
               : listing->after[AFTER_WITHIN] ? tree_read_move(reading, MDB_SET_RANGE, from)
                                              : tree_read_move(reading, MDB_FIRST, from);
        bool again = first && seen == TREE_SEEN && listing->after[AFTER_WITHIN] &&
                     reading->key_bytes == from.size &&
                     memcmp(reading->key, from.data, from.size) == 0;
        first = false;
        if (again || seen == TREE_END || (seen != TREE_SEEN && !reading->key_bytes)) {
            continue;
        }
        bool taken = seen == TREE_SEEN && take_name(listing);
        listing->bad += !taken;
        seen = listing->bad < TREE_READ_BAD_MAX ? TREE_SEEN : TREE_DAMAGED;
    }
    return seen;
}

static void list_body(void *context)
{
    struct listing *listing = context;
    enum tree_seen seen = tree_read_begin(&listing->reading);
    while (seen == TREE_SEEN && listing->after[AFTER_TABLE] < NAME_TABLES) {
        seen = list_table(listing);
        if (seen == TREE_SEEN) {
            listing->more = true;
            return;
        }
        if (seen == TREE_END) {
            listing->after[AFTER_TABLE]++;
            listing->after[AFTER_WITHIN] = false;
            seen = TREE_SEEN;
        }
    }
    listing->bad += seen == TREE_DAMAGED;
}

/* A walk that met damage is not one that has seen all: who goes by what is missing in it would say
 * of a thread that it never was. */
static void note_damage(struct listing *listing)
{
    for (unsigned i = 0; i < listing->bad; i++) {
        tree_count_damaged(listing->reading.tree);
    }
    if (listing->bad > 0) {
        listing->after[AFTER_BAD] = true;
    }
    if (!listing->more && listing->after[AFTER_BAD]) {
        listing->after[AFTER_TABLE] = TREE_NAMES_END + 1;
    }
}

bool tree_names(struct tree *tree, struct index_hash *names, unsigned limit, unsigned *count,
                uint8_t after[24])
{
    assert(limit > 0);
    struct listing listing = {
        .reading = {.tree = tree}, .names = names, .limit = limit, .after = after};
    if (!guard_run(list_body, &listing)) {
        tree_set_broken(tree);
        listing.more = false;
        listing.bad++;
    }
    tree_read_end(&listing.reading);
    note_damage(&listing);
    *count = listing.count;
    return listing.more;
}
