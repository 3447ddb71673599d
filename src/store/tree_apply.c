/*
 * Groups into the tree.
 *
 * A group is applied in one transaction with its neighbours, or, when it is large, in several. What
 * makes that safe to break off anywhere and to begin again:
 * - the applied sequence moves with the group's last transaction, so that a group which was broken
 *   off is applied again from its beginning;
 * - everything done to a thread is said in terms of its uid and positions, never of what was there
 *   before, so that doing it again comes to the same. The one thing taken over from before, whether
 *   a key is shared, survives because the entry of a step that the group puts again stays as it is.
 *   (Of a step that was wholly there already no key is entered: others may have written it since.)
 * - before the first of several transactions ends, the head is taken back to what will stay (or
 *   away), so that nobody reads a thread whose steps are half gone. An erasure begins with it.
 *
 * Runs of puts that remove nothing take another way, see tree_bulk.h; what is here is for the rest.
 *
 * A record that is found damaged on the way is counted and counts as absent: what is put replaces
 * it, what is erased goes.
 */
#include "store/tree_private.h"

#include "store/guard.h"
#include "store/tree_bulk.h"
#include "store/tree_names.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

enum { HEAD_BYTES_MAX = 512 };

struct apply {
    struct tree *tree;
    const struct tree_group *groups;
    size_t count;
    tree_name_fn *name;
    void *context;
    struct tree_txn txn;
    struct tree_bulk bulk;
    uint64_t now_ms; /* wall clock, of burials */
    int code;        /* LMDB's, 0: well */
    bool damaged;    /* the group behind the last that was taken */

    /* Of the group under way. */
    struct record_group group;
    uint32_t remove_from;      /* positions from here on go or are put anew */
    uint32_t old_length;       /* of the thread when the group began; 0: no head that says so */
    uint32_t known_to;         /* of its steps those below are put as they were, keys and all */
    bool has_head;             /* of this uid, in this transaction */
    bool has_old;              /* `old` is that head, readable */
    struct tier_head old;      /* leads into old_body */
    struct record_group ahead; /* its steps, walked beside the removal */
    struct record_step step;   /* the next of them */
    bool has_step;
    uint8_t old_body[HEAD_BYTES_MAX];
};

static MDB_val data_val(const struct tree_data_key *key)
{
    return tree_val(key->bytes, sizeof key->bytes);
}

static void tell_name(struct apply *apply, struct index_hash name)
{
    if (apply->name) {
        apply->name(apply->context, name);
    }
}

/* ---- Heads and names ----------------------------------------------------------------------- */

static int read_head(struct apply *apply)
{
    struct tree_data_key key = tree_data_key(apply->group.head.uid, 0, TREE_CHUNK_HEAD);
    struct bytes body;
    int code = tree_get(&apply->txn, TREE_DATA, data_val(&key), RECORD_HEAD, &body);
    apply->has_head = code == 0;
    apply->has_old = false;
    if (code == 0 && body.data && body.size <= sizeof apply->old_body) {
        memcpy(apply->old_body, body.data, body.size);
        apply->has_old = record_open_head(bytes_of(apply->old_body, body.size),
                                          record_body_format(body), &apply->old);
    }
    return code == MDB_NOTFOUND ? 0 : code;
}

static int put_head(struct apply *apply, const struct tier_head *head)
{
    uint8_t body[HEAD_BYTES_MAX];
    size_t size = record_head_bytes(head);
    assert(size <= sizeof body);
    record_put_head(body, head);
    struct tree_data_key key = tree_data_key(head->uid, 0, TREE_CHUNK_HEAD);
    int code = tree_put(&apply->txn, TREE_DATA, data_val(&key), RECORD_HEAD, bytes_of(body, size));
    apply->txn.state.threads += code == 0 && !apply->has_head;
    apply->has_head = true;
    return code;
}

static int delete_head(struct apply *apply)
{
    if (!apply->has_head) {
        return 0;
    }
    struct tree_data_key key = tree_data_key(apply->group.head.uid, 0, TREE_CHUNK_HEAD);
    apply->has_head = apply->has_old = false;
    apply->txn.state.threads--;
    return tree_delete(&apply->txn, TREE_DATA, data_val(&key));
}

/* Of lives of one thread the youngest has the name, whatever comes late of the others. */
enum leads { LEADS_NOWHERE, LEADS_HERE, LEADS_TO_OLDER, LEADS_TO_YOUNGER };

static int where_name_leads(struct apply *apply, struct tree_place *place, enum leads *leads)
{
    struct bytes body;
    int code = tree_name_find(&apply->txn, TREE_NAMES, apply->group.head.name, place, &body);
    *leads = LEADS_NOWHERE;
    if (code == 0 && body.data && body.size == TREE_UID_BYTES) {
        uint64_t uid = bytes_load_be64(body.data);
        uint64_t own = apply->group.head.uid;
        *leads = uid == own ? LEADS_HERE : uid < own ? LEADS_TO_OLDER : LEADS_TO_YOUNGER;
    }
    return code == MDB_NOTFOUND ? 0 : code;
}

static int put_name(struct apply *apply)
{
    const struct tier_head *head = &apply->group.head;
    struct tree_place place;
    enum leads leads;
    int code = where_name_leads(apply, &place, &leads);
    if (code || leads == LEADS_HERE || leads == LEADS_TO_YOUNGER) {
        return code;
    }
    if (leads == LEADS_NOWHERE) {
        struct tree_tomb tomb;
        bool found;
        code = tree_take_tomb(&apply->txn, head->name, &tomb, &found);
        tell_name(apply, head->name);
    }
    uint8_t body[TREE_UID_BYTES];
    bytes_store_be64(body, head->uid);
    return code ? code : tree_name_put(&apply->txn, &place, bytes_of(body, sizeof body));
}

static int delete_name(struct apply *apply, enum leads *leads)
{
    struct tree_place place;
    int code = where_name_leads(apply, &place, leads);
    /* One that is damaged and leads nowhere goes as well. */
    return code || *leads == LEADS_TO_YOUNGER || place.is_new
               ? code
               : tree_name_delete(&apply->txn, &place);
}

/* ---- Several transactions ------------------------------------------------------------------ */

/* Takes from the head what this group has begun to take away. */
static int hide(struct apply *apply)
{
    if (!apply->has_old || apply->remove_from >= apply->old.length) {
        return 0;
    }
    if (apply->remove_from > apply->old.lost) {
        apply->old.length = apply->remove_from;
        return put_head(apply, &apply->old);
    }
    enum leads leads;
    int code = delete_head(apply);
    return code ? code : delete_name(apply, &leads);
}

/* After each step of the work within a group. */
static int make_room(struct apply *apply)
{
    if (!tree_txn_is_full(&apply->txn)) {
        return 0;
    }
    int code = hide(apply);
    code = code ? code : tree_commit(&apply->txn);
    return code ? code : tree_begin(apply->tree, &apply->txn);
}

/* ---- Keys ---------------------------------------------------------------------------------- */

static bool is_entry_of(const struct tree_key_entry *entry, uint64_t uid, uint32_t number,
                        uint32_t version)
{
    return entry->uid == uid && entry->number == number && entry->version == version;
}

/* A key of a step that goes; a newer step may have taken it over. */
static int let_key_go(struct apply *apply, struct index_hash hash, const struct record_step *step)
{
    struct tree_place place;
    struct bytes body;
    struct tree_key_entry entry;
    int code = tree_name_find(&apply->txn, TREE_KEYS, hash, &place, &body);
    if (code) {
        return code == MDB_NOTFOUND ? 0 : code;
    }
    if (!tree_open_key_entry(body, &entry) ||
        !is_entry_of(&entry, apply->group.head.uid, step->number, step->version)) {
        return 0;
    }
    code = tree_name_delete(&apply->txn, &place);
    if (code || apply->group.reason == REASON_NONE) {
        return code;
    }
    return tree_bury(&apply->txn, apply->now_ms, hash,
                     (struct tree_tomb){.reason = (uint8_t)apply->group.reason,
                                        .shared = entry.shared,
                                        .version = (uint32_t)entry.owner.high,
                                        .owner = entry.owner});
}

/* Whether the group puts this very step again. Asked in the order of numbers. */
static bool is_put_again(struct apply *apply, const struct record_step *step)
{
    while (apply->has_step && apply->step.number < step->number) {
        apply->has_step = record_next_step(&apply->ahead, &apply->step);
    }
    return apply->has_step && apply->step.number == step->number &&
           apply->step.version == step->version;
}

/* `key` and `value`: of the first chunk of a step that goes. */
static int let_keys_go(struct apply *apply, MDB_val key, MDB_val value, uint32_t number)
{
    struct bytes body = tree_check(key, value, RECORD_CHUNK);
    uint8_t front[TREE_BODY_MAX]; /* what lies in a page is lent until the next put */
    struct record_step step;
    if (body.data) {
        memcpy(front, body.data, body.size);
    }
    if (!body.data || !record_step_keys(bytes_of(front, body.size), &step) ||
        step.number != number) {
        tree_count_damaged(apply->tree);
        return 0;
    }
    struct record_key next;
    int code = 0;
    if (is_put_again(apply, &step)) {
        apply->known_to = number < apply->old_length ? number + 1 : apply->known_to;
    } else {
        while (code == 0 && record_next_key(&step, &next)) {
            code = let_key_go(apply, next.name, &step);
        }
    }
    return code;
}

static int put_key(struct apply *apply, const struct record_step *step,
                   const struct record_key *key)
{
    const struct tier_head *head = &apply->group.head;
    struct tree_place place;
    struct bytes body;
    struct tree_key_entry older;
    int code = tree_name_find(&apply->txn, TREE_KEYS, key->name, &place, &body);
    bool shared = false;
    bool known = step->number < apply->known_to; /* whoever has the key by now is newer, or was */
    if (code == MDB_NOTFOUND && known) {
        return 0;
    }
    if (code == 0) {
        bool readable = tree_open_key_entry(body, &older);
        if (readable && (known || is_entry_of(&older, head->uid, step->number, step->version))) {
            return 0;
        }
        /* Of a damaged entry nobody knows: rather ambiguous than wrong. */
        shared = !readable || older.shared || !tree_same_name(older.owner, head->name);
    } else if (code == MDB_NOTFOUND) {
        struct tree_tomb tomb;
        bool found;
        code = tree_take_tomb(&apply->txn, key->name, &tomb, &found);
        shared = found && (tomb.shared || !tree_same_name(tomb.owner, head->name));
        tell_name(apply, key->name);
    }
    if (code) {
        return code;
    }
    struct tree_key_entry entry = {.uid = head->uid,
                                   .number = step->number,
                                   .version = step->version,
                                   .shared = shared,
                                   .kind = key->kind,
                                   .owner = head->name};
    uint8_t fresh[RECORD_KEY_BYTES];
    tree_put_key_entry(fresh, &entry);
    return tree_name_put(&apply->txn, &place, bytes_of(fresh, sizeof fresh));
}

/* ---- Steps --------------------------------------------------------------------------------- */

/* Deletes all records of the uid from `from` to `last`, in as many transactions as it takes. */
static int wipe(struct apply *apply, struct tree_data_key from, struct tree_data_key last)
{
    apply->ahead = apply->group;
    apply->has_step = record_next_step(&apply->ahead, &apply->step);
    for (;;) {
        MDB_val key = data_val(&from);
        MDB_val value;
        uint64_t uid;
        uint32_t part;
        uint32_t chunk;
        int code = mdb_cursor_get(apply->txn.cursor, &key, &value, MDB_SET_RANGE);
        if (code) {
            return code == MDB_NOTFOUND ? 0 : code;
        }
        if (!tree_open_data_key(key, &uid, &part, &chunk)) {
            return MDB_CORRUPTED;
        }
        if (memcmp(key.mv_data, last.bytes, sizeof last.bytes) > 0) {
            return 0;
        }
        if (part >= TREE_PART_STEPS && chunk == 0) {
            code = let_keys_go(apply, key, value, part - TREE_PART_STEPS);
        }
        code = code ? code : tree_delete_at(&apply->txn, TREE_DATA, apply->txn.cursor, key, value);
        code = code ? code : make_room(apply);
        if (code) {
            return code;
        }
    }
}

static int put_chunks(struct apply *apply, const struct record_step *step)
{
    struct bytes rest = tree_blob(apply->tree, step->blob);
    for (uint32_t chunk = 0; rest.size > 0; chunk++) {
        struct bytes body =
            bytes_of(rest.data, rest.size < TREE_BODY_MAX ? rest.size : TREE_BODY_MAX);
        struct tree_data_key key =
            tree_data_key(apply->group.head.uid, TREE_PART_STEPS + step->number, chunk);
        int code = tree_put(&apply->txn, TREE_DATA, data_val(&key), RECORD_CHUNK, body);
        code = code ? code : make_room(apply);
        if (code) {
            return code;
        }
        rest = bytes_of(rest.data + body.size, rest.size - body.size);
    }
    return 0;
}

/* All chunks first: a key takes over from an older step when there is something to lead to. */
static int put_steps(struct apply *apply)
{
    struct record_step step;
    for (struct record_group walk = apply->group; record_next_step(&walk, &step);) {
        int code = put_chunks(apply, &step);
        if (code) {
            return code;
        }
    }
    for (struct record_group walk = apply->group; record_next_step(&walk, &step);) {
        struct record_key key;
        while (!step.inherited && record_next_key(&step, &key)) {
            int code = put_key(apply, &step, &key);
            code = code ? code : make_room(apply);
            if (code) {
                return code;
            }
        }
    }
    return 0;
}

/* ---- Groups -------------------------------------------------------------------------------- */

static int put_recalls(struct apply *apply)
{
    struct recall_entry entry;
    for (struct record_group walk = apply->group; record_next_recall(&walk, &entry);) {
        uint8_t body[RECORD_RECALL_BYTES];
        record_put_recall(body, &entry);
        struct tree_data_key key = tree_data_key(
            apply->group.head.uid, 0, TREE_CHUNK_RECALLS + entry.ordinal % TIER_RECALL_MAX);
        int code = tree_put(&apply->txn, TREE_DATA, data_val(&key), RECORD_RECALL,
                            bytes_of(body, sizeof body));
        if (code) {
            return code;
        }
    }
    return 0;
}

/* A later deadline is found when the time has come; only an earlier one must be known at once. */
static int arm(struct apply *apply)
{
    const struct tier_head *head = &apply->group.head;
    uint64_t second = tree_due_second(tree_deadline_ms(apply->tree, head));
    uint64_t armed;
    int code = tree_armed(&apply->txn, head->uid, &armed);
    return code || armed <= second ? code : tree_arm(&apply->txn, head->uid, second);
}

static int apply_put(struct apply *apply)
{
    const struct tier_head *head = &apply->group.head;
    uint32_t first = head->length - apply->group.step_count;
    apply->remove_from = first < apply->group.drop_from ? first : apply->group.drop_from;
    int code = read_head(apply);
    apply->old_length = apply->has_old ? apply->old.length : 0;
    apply->known_to = 0;
    if (code == 0 && apply->group.drop_from == 0) {
        code = wipe(apply, tree_data_key(head->uid, 0, TREE_CHUNK_RECALLS),
                    tree_data_key(head->uid, 0, TREE_CHUNK_RECALLS + TIER_RECALL_MAX - 1));
    }
    if (code == 0) {
        code = wipe(apply, tree_data_key(head->uid, TREE_PART_STEPS + apply->remove_from, 0),
                    tree_data_key(head->uid, UINT32_MAX, UINT32_MAX));
    }
    code = code ? code : put_steps(apply);
    code = code ? code : put_recalls(apply);
    code = code ? code : put_head(apply, head);
    code = code ? code : put_name(apply);
    code = code ? code : arm(apply);
    if (head->uid >= apply->txn.state.next_uid) {
        apply->txn.state.next_uid = head->uid + 1;
    }
    return code;
}

static int apply_erase(struct apply *apply)
{
    const struct tier_head *head = &apply->group.head;
    enum leads leads = LEADS_NOWHERE;
    int code = read_head(apply);
    bool was_there = apply->has_head;
    bool asked = head->used_ms > 0; /* asked_used_ms, in an erasure's head */
    if (code == 0 && asked && apply->has_old && apply->old.used_ms != head->used_ms) {
        return 0; /* it was used since */
    }
    struct tier_head last = asked && apply->has_old ? apply->old : *head;
    code = code ? code : tree_arm(&apply->txn, head->uid, UINT64_MAX);
    code = code ? code : delete_head(apply);
    code = code ? code : delete_name(apply, &leads);
    /* A younger thread has the name, or had it: that one, or its tombstone, stays. */
    bool taken_over = leads == LEADS_TO_YOUNGER || (was_there && leads == LEADS_NOWHERE);
    if (code == 0 && apply->group.reason != REASON_NONE && !taken_over && (was_there || !asked)) {
        if (leads == LEADS_NOWHERE) {
            tell_name(apply, head->name);
        }
        code = tree_bury(&apply->txn, apply->now_ms, head->name,
                         (struct tree_tomb){.reason = (uint8_t)apply->group.reason,
                                            .version = last.version,
                                            .steps = last.length,
                                            .owner = head->name});
    }
    return code ? code
                : wipe(apply, tree_data_key(head->uid, 0, 0),
                       tree_data_key(head->uid, UINT32_MAX, UINT32_MAX));
}

static int apply_group(struct apply *apply, const struct tree_group *group)
{
    if (!record_open_group(group->bytes, &apply->group) || apply->group.head.length == UINT32_MAX ||
        apply->group.head.uid == 0) {
        apply->damaged = true;
        return 0;
    }
    int code = apply->group.kind == TIER_PUT ? apply_put(apply) : apply_erase(apply);
    apply->txn.state.applied = group->sequence;
    return code;
}

/* The groups that `i` stands before, as many of them as are plain puts, or else the one. */
static int apply_some(struct apply *apply, size_t *i)
{
    size_t count = apply->count - *i;
    int code = tree_bulk_apply(&apply->bulk, &apply->txn, apply->groups + *i, &count);
    if (code == 0 && count == 0) {
        code = apply_group(apply, &apply->groups[*i]);
        count = !apply->damaged;
    }
    *i += count;
    return code;
}

static int commit(struct apply *apply)
{
    int code = tree_commit(&apply->txn);
    return code ? code : tree_begin(apply->tree, &apply->txn);
}

/*
 * Between two groups. In transactions of its own: what fails for lack of room, or because damage
 * beside it leads LMDB astray, is left for later and takes nothing along that is waited for.
 */
static int bring_names_home(struct apply *apply)
{
    struct tree_txn *txn = &apply->txn;
    if (!tree_names_next_share(txn)) {
        return tree_txn_is_full(txn) ? commit(apply) : 0;
    }
    int code = commit(apply);
    if (code) {
        return code; /* the groups' */
    }
    bool moved = true;
    while (moved && code == 0 && tree_names_next_share(txn)) {
        code = tree_names_move_share(txn, &moved);
        if (code == 0 && tree_txn_is_full(txn)) {
            code = commit(apply);
        }
    }
    code = code ? code : commit(apply);
    if (code == MDB_NOTFOUND || tree_lacks_room(apply->tree, code)) {
        tree_abort(txn);
        code = tree_begin(apply->tree, txn);
    }
    return code;
}

static void apply_all(void *context)
{
    struct apply *apply = context;
    int code = tree_begin(apply->tree, &apply->txn);
    for (size_t i = 0; code == 0 && i < apply->count && !apply->damaged;) {
        if (apply->groups[i].sequence <= apply->txn.state.applied) {
            i++;
            continue;
        }
        code = apply_some(apply, &i);
        if (code == 0 && !apply->damaged) {
            code = bring_names_home(apply);
        }
    }
    code = code ? code : tree_commit(&apply->txn);
    tree_abort(&apply->txn);
    apply->code = code;
}

/* By what is committed: a commit within a group, or a run, is of all that came before as well. */
static size_t count_taken(const struct apply *apply)
{
    size_t taken = 0;
    while (taken < apply->count && apply->groups[taken].sequence <= apply->tree->state.applied) {
        taken++;
    }
    return taken;
}

enum status tree_apply(struct tree *tree, const struct tree_group *groups, size_t count,
                       size_t *taken, tree_name_fn *name, void *context,
                       struct wal_trouble *trouble)
{
    *trouble = (struct wal_trouble){0};
    struct apply apply = {.tree = tree,
                          .groups = groups,
                          .count = count,
                          .name = name,
                          .context = context,
                          .now_ms = clock_read_ms(tree->settings.wall)};
    *taken = 0;
    if (tree_is_broken(tree)) {
        return tree_refuse(trouble, EIO, "apply", "The tree is broken.");
    }
    apply.bulk.name = name;
    apply.bulk.context = context;
    bool whole = guard_run(apply_all, &apply);
    tree_bulk_free(&apply.bulk);
    *taken = count_taken(&apply);
    if (!whole) {
        tree_set_broken(tree);
        return tree_refuse(trouble, EIO, "apply", "The tree's file is damaged: a fault inside it.");
    }
    if (apply.code) {
        return tree_fail(tree, apply.code, trouble);
    }
    return apply.damaged ? tree_refuse(trouble, EINVAL, "apply", "A group of the log is damaged.")
                         : STATUS_OK;
}
