/*
 * Names of threads and of step keys: where in the tree their entries lie. Private to
 * src/store/tree*.c.
 *
 * Names are hashes, so each has a random place in its table (*home*: names, or keys). Once those
 * have a hundred thousand pages, nearly every name that comes would make a page dirty for itself
 * alone. So a name that is new goes to the table young first, behind the number of a *run* that
 * takes some hundred thousand of them. Closed runs are brought home by *shares*: the entries of all
 * of them whose names begin with the same 9 bits, which share few pages at home.
 *
 * What holds in every transaction:
 * - A name has one entry: at home, or in one of the runs from tree_names_first_run to state.run;
 *   who puts it again leaves it where it is.
 * - Shares are brought home in turn, whole, TREE_RUN_SHARES of them for each run, and one of the
 *   number TREE_RUN_SHARES * run or more only when that run is closed. So with the TREE_SHARES from
 *   there on the run has become empty, wherever the work was broken off in between.
 * - A run is closed when it has its names and the shares that were to come home meanwhile have.
 *
 * A share stays where it is when anything of it, or beside it, is damaged: whoever looks for a name
 * that may have been there finds the damage, and not nothing. Then no run is closed any more until
 * what is damaged has been put anew, or is gone; names go on coming to the one under way.
 */
#ifndef RETHREAD_STORE_TREE_NAMES_H
#define RETHREAD_STORE_TREE_NAMES_H

#include "store/tree_private.h"

enum {
    TREE_SHARES = 512,
    TREE_SHARE_BITS = 9,
    TREE_RUN_SHARES = 64,
    /* Of one run, or a bite of the log more. The more, the fewer pages of home each name costs, and
     * the more of young are dirty with every bite: some 7,000 at this. */
    TREE_RUN_NAMES = 1 << 18,
};

/* The key of an entry of young: its run, and the name. */
enum { TREE_RUN_BYTES = 4, TREE_YOUNG_KEY_BYTES = TREE_RUN_BYTES + TREE_NAME_BYTES };

struct tree_young_key {
    uint8_t bytes[TREE_YOUNG_KEY_BYTES];
};

static inline struct tree_young_key tree_name_in_run(uint64_t run, struct tree_name name)
{
    struct tree_young_key key;
    bytes_store_be32(key.bytes, (uint32_t)run);
    memcpy(key.bytes + TREE_RUN_BYTES, name.bytes, TREE_NAME_BYTES);
    return key;
}

/* The oldest run that may have entries. */
static inline uint64_t tree_names_first_run(const struct tree_state *state)
{
    uint64_t closed = state->shares / TREE_RUN_SHARES;
    enum { RUNS = TREE_SHARES / TREE_RUN_SHARES };
    return closed < RUNS ? 0 : closed - RUNS + 1;
}

/* Of the values of TREE_NAMES and TREE_KEYS, at home and in young. */
static inline enum record_value tree_name_kind(enum tree_table home)
{
    return home == TREE_NAMES ? RECORD_NAME : RECORD_KEY;
}

/* Where an entry lies, or a new one is to. Holds until that one is put, or others are brought home.
 */
struct tree_place {
    enum tree_table home;
    bool is_young;
    bool is_new;
    struct tree_young_key key; /* at home: but for the run */
};

/* As tree_get, with the place also where there is no entry. */
int tree_name_find(struct tree_txn *txn, enum tree_table home, struct index_hash name,
                   struct tree_place *place, struct bytes *body);
int tree_name_put(struct tree_txn *txn, const struct tree_place *place, struct bytes body);
int tree_name_delete(struct tree_txn *txn, const struct tree_place *place);

/*
 * Between two groups: whether a share is to be brought home. As many of them are as names have
 * come; when those have and the run has its names, the run is closed.
 */
bool tree_names_next_share(struct tree_txn *txn);

/*
 * Brings one home. 0 and *moved false: it is damaged, and as it was. Any other code, lack of space
 * or memory among them, leaves the transaction to be aborted; so nothing should be in it that could
 * not wait.
 */
int tree_names_move_share(struct tree_txn *txn, bool *moved);

#endif
