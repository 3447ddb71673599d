/*
 * Plain puts into the tree, many at once, each table in its own order. Private to
 * src/store/tree*.c.
 *
 * A put is *plain* when the tree has nothing that it would remove: a new thread's first, or one
 * that adds steps behind those that are there. Keys and names lie at random places in their tables,
 * and a page costs the same for one of them as for ten, so the keys of a long run of plain puts are
 * sorted before they are entered.
 *
 * What makes that safe to break off anywhere (see also tree_apply.c): before a group's head is
 * there only entries of its keys are, and they lead to a step that nobody can read yet; when the
 * group is applied again, they are found to be its own and stay as they are, `shared` with them.
 * Everything else of a group comes in the transaction that moves the applied sequence past it.
 */
#ifndef RETHREAD_STORE_TREE_BULK_H
#define RETHREAD_STORE_TREE_BULK_H

#include "store/tree_private.h"

struct bulk_put;
struct tree_order;
struct bulk_key;
struct bulk_thread;

/* Starts zeroed; kept for the next run, freed by tree_bulk_free also when a run was broken off. */
struct tree_bulk {
    tree_name_fn *name; /* as of tree_apply; may be NULL */
    void *context;
    /* The run, in order of groups, and by uid while it is taken in. */
    struct bulk_put *puts;
    size_t put_count;
    size_t capacity;       /* of puts and threads; 0: not made yet */
    struct bulk_key *keys; /* of all its steps */
    size_t key_count;
    size_t key_capacity;
    struct bulk_thread *threads;
    uint32_t thread_count;
    struct tree_order *orders; /* of keys or puts by their names, and as much spare */
    size_t order_capacity;
    uint32_t *slots; /* hash table: 1 + place of a thread */
    uint32_t slot_mask;
    MDB_cursor *cursors[TREE_TABLE_COUNT]; /* of the transaction; NULL: none */
};

void tree_bulk_free(struct tree_bulk *bulk);

/*
 * Takes in the longest run of plain puts that `groups` begins with; *count is set to how many those
 * were, maybe 0. Commits in between; what came before in the transaction goes with the first
 * commit. The last transaction is left open. Returns LMDB's code or an errno, as all of a
 * transaction.
 */
int tree_bulk_apply(struct tree_bulk *bulk, struct tree_txn *txn, const struct tree_group *groups,
                    size_t *count);

#endif
