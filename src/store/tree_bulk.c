/*
 * Runs of plain puts: looked over, their keys sorted and entered, then their threads.
 *
 * Within a transaction of the filler, under its guard; owns the lists of the run. Every cursor is
 * closed before its table is written by another way than through it, and with its transaction.
 */
#include "store/tree_bulk.h"

#include "store/tree_names.h"
#include "store/tree_order.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum {
    RUN_PUTS_MAX = 1 << 15,
    RUN_KEYS_MAX = 1 << 18,
    GROUP_BYTES_MAX = 1 << 20, /* what is larger may take several transactions */
    HEAD_BYTES_MAX = 512,
};

struct bulk_thread {
    uint64_t uid;
    uint32_t slot;
    uint32_t length; /* with what of the run was looked over */
    bool is_there;   /* the tree has its head; else it has nothing of it */
};

struct bulk_put {
    uint64_t uid;
    uint64_t sequence;
    struct bytes bytes;
    struct index_hash name;
    uint32_t place; /* in the run */
    uint32_t thread;
};

struct bulk_key {
    struct index_hash name;
    struct index_hash owner;
    uint64_t uid;
    uint32_t number;
    uint32_t version;
    uint8_t kind;
};

void tree_bulk_free(struct tree_bulk *bulk)
{
    free(bulk->puts);
    free(bulk->keys);
    free(bulk->threads);
    free(bulk->orders);
    free(bulk->slots);
    *bulk = (struct tree_bulk){0};
}

static MDB_val data_val(const struct tree_data_key *key)
{
    return tree_val(key->bytes, sizeof key->bytes);
}

/* ---- Cursors: they find what lies on their page without a way down from the root ------------ */

static int cursor_on(struct tree_bulk *bulk, struct tree_txn *txn, enum tree_table table,
                     MDB_cursor **cursor)
{
    int code = 0;
    if (!bulk->cursors[table]) {
        code = mdb_cursor_open(txn->txn, txn->tree->tables[table], &bulk->cursors[table]);
    }
    *cursor = bulk->cursors[table];
    return code;
}

static void close_cursors(struct tree_bulk *bulk)
{
    for (unsigned i = 0; i < TREE_TABLE_COUNT; i++) {
        if (bulk->cursors[i]) {
            mdb_cursor_close(bulk->cursors[i]);
            bulk->cursors[i] = NULL;
        }
    }
}

/* As tree_get and tree_put. */
static int get(struct tree_bulk *bulk, struct tree_txn *txn, enum tree_table table, MDB_val key,
               enum record_value kind, struct bytes *body)
{
    MDB_cursor *cursor;
    int code = cursor_on(bulk, txn, table, &cursor);
    return code ? code : tree_get_at(txn, cursor, key, kind, body);
}

static int put(struct tree_bulk *bulk, struct tree_txn *txn, enum tree_table table, MDB_val key,
               enum record_value kind, struct bytes body)
{
    MDB_cursor *cursor;
    int code = cursor_on(bulk, txn, table, &cursor);
    return code ? code : tree_put_at(txn, table, cursor, key, kind, body);
}

static int commit(struct tree_bulk *bulk, struct tree_txn *txn)
{
    struct tree *tree = txn->tree;
    close_cursors(bulk);
    int code = tree_commit(txn);
    return code ? code : tree_begin(tree, txn);
}

/* ---- Which puts are plain ------------------------------------------------------------------- */

static uint32_t *slot_of(const struct tree_bulk *bulk, uint64_t uid)
{
    uint32_t at = (uint32_t)((uid * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & bulk->slot_mask;
    while (bulk->slots[at] && bulk->threads[bulk->slots[at] - 1].uid != uid) {
        at = (at + 1) & bulk->slot_mask;
    }
    return &bulk->slots[at];
}

/* Whether the tree has any record of the uid at or behind the key. */
static int has_from(struct tree_bulk *bulk, struct tree_txn *txn, struct tree_data_key from,
                    bool *has)
{
    MDB_cursor *cursor;
    MDB_val key = data_val(&from);
    MDB_val value;
    int code = cursor_on(bulk, txn, TREE_DATA, &cursor);
    code = code ? code : mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    *has = code == 0 && (key.mv_size != sizeof from.bytes ||
                         memcmp(key.mv_data, from.bytes, sizeof(uint64_t)) == 0);
    return code == MDB_NOTFOUND ? 0 : code;
}

/* Looks in the tree whether the first put of a thread in the run is plain. */
static int look(struct tree_bulk *bulk, struct tree_txn *txn, const struct record_group *group,
                uint32_t remove_from, struct bulk_thread *thread, bool *plain)
{
    uint64_t uid = group->head.uid;
    bool has = false;
    *plain = false;
    *thread = (struct bulk_thread){.uid = uid};
    if (group->drop_from == 0) {
        int code = has_from(bulk, txn, tree_data_key(uid, 0, 0), &has);
        *plain = !has;
        return code;
    }
    struct tree_data_key key = tree_data_key(uid, 0, TREE_CHUNK_HEAD);
    struct bytes body;
    struct tier_head old;
    int code = get(bulk, txn, TREE_DATA, data_val(&key), RECORD_HEAD, &body);
    if (code || !body.data || !record_open_head(body, record_body_format(body), &old) ||
        old.length > remove_from) {
        return code == MDB_NOTFOUND ? 0 : code;
    }
    thread->is_there = true;
    code = has_from(bulk, txn, tree_data_key(uid, TREE_PART_STEPS + remove_from, 0), &has);
    *plain = !has;
    return code;
}

static bool has_room_for_keys(struct tree_bulk *bulk, size_t more)
{
    size_t need = bulk->key_count + more;
    if (need > bulk->key_capacity) {
        size_t capacity = need > 2 * bulk->key_capacity ? need : 2 * bulk->key_capacity;
        struct bulk_key *keys = realloc(bulk->keys, capacity * sizeof *keys);
        if (!keys) {
            return false;
        }
        bulk->keys = keys;
        bulk->key_capacity = capacity;
    }
    return true;
}

static int note_keys(struct tree_bulk *bulk, const struct record_group *group)
{
    struct record_step step;
    for (struct record_group walk = *group; record_next_step(&walk, &step);) {
        if (step.inherited) {
            continue;
        }
        if (!has_room_for_keys(bulk, step.key_count)) {
            return ENOMEM;
        }
        for (struct record_key key; record_next_key(&step, &key);) {
            bulk->keys[bulk->key_count++] = (struct bulk_key){.name = key.name,
                                                              .owner = group->head.name,
                                                              .uid = group->head.uid,
                                                              .number = step.number,
                                                              .version = step.version,
                                                              .kind = key.kind};
        }
    }
    return 0;
}

/* Takes the group into the run, or says that the run ends before it. */
static int plan_one(struct tree_bulk *bulk, struct tree_txn *txn, const struct tree_group *from,
                    bool *plain)
{
    struct record_group group;
    *plain = false;
    if (from->bytes.size > GROUP_BYTES_MAX || !record_open_group(from->bytes, &group) ||
        group.kind != TIER_PUT || group.head.length == UINT32_MAX || group.head.uid == 0) {
        return 0;
    }
    uint32_t first = group.head.length - group.step_count;
    uint32_t remove_from = first < group.drop_from ? first : group.drop_from;
    uint32_t *slot = slot_of(bulk, group.head.uid);
    struct bulk_thread *thread = &bulk->threads[*slot ? *slot - 1 : bulk->thread_count];
    if (*slot) {
        *plain = group.drop_from > 0 && remove_from >= thread->length;
    } else {
        int code = look(bulk, txn, &group, remove_from, thread, plain);
        if (code) {
            return code;
        }
    }
    if (!*plain) {
        return 0;
    }
    if (!*slot) {
        thread->slot = (uint32_t)(slot - bulk->slots);
        *slot = ++bulk->thread_count;
    }
    thread->length = group.head.length;
    /* With the first of its keys, which say it; not only with its head. */
    if (group.head.uid >= txn->state.next_uid) {
        txn->state.next_uid = group.head.uid + 1;
    }
    uint32_t place = (uint32_t)bulk->put_count;
    bulk->puts[bulk->put_count++] = (struct bulk_put){.uid = group.head.uid,
                                                      .sequence = from->sequence,
                                                      .bytes = from->bytes,
                                                      .name = group.head.name,
                                                      .place = place,
                                                      .thread = *slot - 1};
    return note_keys(bulk, &group);
}

/* Made once, for the first run; a later one has fewer groups before it. */
static int make_lists(struct tree_bulk *bulk, size_t count)
{
    uint32_t slots = 16;
    while (slots < 2 * count) {
        slots *= 2;
    }
    bulk->capacity = count;
    bulk->slot_mask = slots - 1;
    bulk->puts = malloc(count * sizeof *bulk->puts);
    bulk->threads = malloc((count + 1) * sizeof *bulk->threads);
    bulk->slots = calloc(slots, sizeof *bulk->slots);
    return bulk->puts && bulk->threads && bulk->slots ? 0 : ENOMEM;
}

static int empty_lists(struct tree_bulk *bulk, size_t count)
{
    MDB_cursor *none[TREE_TABLE_COUNT] = {0};
    memcpy(bulk->cursors, none, sizeof none);
    for (uint32_t i = 0; i < bulk->thread_count; i++) {
        bulk->slots[bulk->threads[i].slot] = 0;
    }
    bulk->put_count = bulk->key_count = bulk->thread_count = 0;
    if (bulk->capacity == 0) {
        return make_lists(bulk, count);
    }
    assert(count <= bulk->capacity);
    return 0;
}

static int plan(struct tree_bulk *bulk, struct tree_txn *txn, const struct tree_group *groups,
                size_t count)
{
    count = count < RUN_PUTS_MAX ? count : RUN_PUTS_MAX;
    int code = empty_lists(bulk, count);
    bool plain = true;
    for (size_t i = 0; code == 0 && plain && i < count && bulk->key_count < RUN_KEYS_MAX; i++) {
        code = plan_one(bulk, txn, &groups[i], &plain);
    }
    return code;
}

/* ---- Orders --------------------------------------------------------------------------------- */

static bool has_room_for_orders(struct tree_bulk *bulk, size_t count)
{
    if (2 * count > bulk->order_capacity) {
        free(bulk->orders);
        bulk->orders = malloc(2 * count * sizeof *bulk->orders);
        bulk->order_capacity = bulk->orders ? 2 * count : 0;
    }
    return bulk->orders != NULL;
}

/* ---- Keys ----------------------------------------------------------------------------------- */

static void tell_name(const struct tree_bulk *bulk, struct index_hash name)
{
    if (bulk->name) {
        bulk->name(bulk->context, name);
    }
}

/* As put_key in tree_apply.c does it for a step that was never there. */
static int put_key(struct tree_bulk *bulk, struct tree_txn *txn, const struct bulk_key *key)
{
    struct tree_place place;
    struct bytes body;
    struct tree_key_entry older;
    int code = tree_name_find(txn, TREE_KEYS, key->name, &place, &body);
    bool shared = false;
    if (code == 0) {
        bool readable = tree_open_key_entry(body, &older);
        if (readable && older.uid == key->uid && older.number == key->number &&
            older.version == key->version) {
            return 0;
        }
        /* Of a damaged entry nobody knows: rather ambiguous than wrong. */
        shared = !readable || older.shared || !tree_same_name(older.owner, key->owner);
    } else if (code == MDB_NOTFOUND) {
        struct tree_tomb tomb;
        bool found;
        code = tree_take_tomb(txn, key->name, &tomb, &found);
        shared = found && (tomb.shared || !tree_same_name(tomb.owner, key->owner));
        tell_name(bulk, key->name);
    }
    if (code) {
        return code;
    }
    struct tree_key_entry entry = {.uid = key->uid,
                                   .number = key->number,
                                   .version = key->version,
                                   .shared = shared,
                                   .kind = key->kind,
                                   .owner = key->owner};
    uint8_t fresh[RECORD_KEY_BYTES];
    tree_put_key_entry(fresh, &entry);
    return tree_name_put(txn, &place, bytes_of(fresh, sizeof fresh));
}

/* By name, and those of one name in the order of their steps: the newest is to have it. */
static int put_keys(struct tree_bulk *bulk, struct tree_txn *txn)
{
    size_t count = bulk->key_count;
    if (count > 0 && !has_room_for_orders(bulk, count)) {
        return ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        bulk->orders[i] = (struct tree_order){.key = bulk->keys[i].name.low, .place = (uint32_t)i};
    }
    if (count > 0) {
        tree_order_sort(bulk->orders, bulk->orders + count, count);
    }
    for (size_t i = 0; i < count; i++) {
        int code = put_key(bulk, txn, &bulk->keys[bulk->orders[i].place]);
        if (code == 0 && tree_txn_is_full(txn)) {
            code = commit(bulk, txn);
        }
        if (code) {
            return code;
        }
    }
    return 0;
}

/* ---- Threads -------------------------------------------------------------------------------- */

static int compare_by_uid(const void *left, const void *right)
{
    const struct bulk_put *a = left, *b = right;
    int order = a->uid < b->uid ? -1 : a->uid > b->uid;
    return order ? order : a->place < b->place ? -1 : a->place > b->place;
}

/* Mostly they are already. */
static void sort_by_uid(struct bulk_put *puts, size_t count)
{
    size_t i = 1;
    while (i < count && compare_by_uid(&puts[i - 1], &puts[i]) <= 0) {
        i++;
    }
    if (i < count) {
        qsort(puts, count, sizeof *puts, compare_by_uid);
    }
}

static int put_head(struct tree_bulk *bulk, struct tree_txn *txn, const struct tier_head *head)
{
    uint8_t body[HEAD_BYTES_MAX];
    size_t size = record_head_bytes(head);
    assert(size <= sizeof body);
    record_put_head(body, head);
    struct tree_data_key key = tree_data_key(head->uid, 0, TREE_CHUNK_HEAD);
    return put(bulk, txn, TREE_DATA, data_val(&key), RECORD_HEAD, bytes_of(body, size));
}

static int put_recalls(struct tree_bulk *bulk, struct tree_txn *txn, struct record_group group)
{
    int code = 0;
    for (struct recall_entry entry; code == 0 && record_next_recall(&group, &entry);) {
        uint8_t body[RECORD_RECALL_BYTES];
        record_put_recall(body, &entry);
        struct tree_data_key key =
            tree_data_key(group.head.uid, 0, TREE_CHUNK_RECALLS + entry.ordinal % TIER_RECALL_MAX);
        code =
            put(bulk, txn, TREE_DATA, data_val(&key), RECORD_RECALL, bytes_of(body, sizeof body));
    }
    return code;
}

static int put_steps(struct tree_bulk *bulk, struct tree_txn *txn, struct record_group group)
{
    int code = 0;
    for (struct record_step step; code == 0 && record_next_step(&group, &step);) {
        struct bytes rest = tree_blob(txn->tree, step.blob);
        for (uint32_t chunk = 0; code == 0 && rest.size > 0; chunk++) {
            size_t size = rest.size < TREE_BODY_MAX ? rest.size : TREE_BODY_MAX;
            struct tree_data_key key =
                tree_data_key(group.head.uid, TREE_PART_STEPS + step.number, chunk);
            code =
                put(bulk, txn, TREE_DATA, data_val(&key), RECORD_CHUNK, bytes_of(rest.data, size));
            rest = bytes_of(rest.data + size, rest.size - size);
        }
    }
    return code;
}

/* A later deadline is found when the time has come; only an earlier one must be known at once. */
static int arm(struct tree_bulk *bulk, struct tree_txn *txn, const struct tier_head *head,
               bool is_there)
{
    uint64_t second = tree_due_second(tree_deadline_ms(txn->tree, head));
    struct tree_data_key at = tree_data_key(head->uid, 0, TREE_CHUNK_ARMED);
    struct bytes body = {0};
    if (is_there) {
        int code = get(bulk, txn, TREE_DATA, data_val(&at), RECORD_META, &body);
        if (code && code != MDB_NOTFOUND) {
            return code;
        }
        if (code == 0 && body.data && body.size == 8 && bytes_load_be64(body.data) <= second) {
            return 0;
        }
        close_cursors(bulk);
        return tree_arm(txn, head->uid, second);
    }
    uint8_t armed[8];
    bytes_store_be64(armed, second);
    struct tree_due_key due = tree_due_key(second, head->uid);
    int code = put(bulk, txn, TREE_DATA, data_val(&at), RECORD_META, bytes_of(armed, sizeof armed));
    return code ? code
                : put(bulk, txn, TREE_DUE, tree_val(&due, sizeof due), RECORD_META,
                      (struct bytes){0});
}

/* Again: it was looked over when it was taken into the run. */
static struct record_group open_put(const struct bulk_put *one)
{
    struct record_group group;
    bool open = record_open_group(one->bytes, &group);
    assert(open);
    (void)open;
    return group;
}

/* All of the run's puts to one thread: the head as the last of them has it, the rest of each. */
static int put_thread(struct tree_bulk *bulk, struct tree_txn *txn, const struct bulk_put *puts,
                      size_t count)
{
    struct bulk_thread *thread = &bulk->threads[puts->thread];
    struct record_group last = open_put(&puts[count - 1]);
    int code = put_head(bulk, txn, &last.head);
    for (size_t i = 0; code == 0 && i + 1 < count; i++) {
        code = put_recalls(bulk, txn, open_put(&puts[i]));
    }
    code = code ? code : put_recalls(bulk, txn, last);
    code = code ? code : arm(bulk, txn, &last.head, thread->is_there);
    for (size_t i = 0; code == 0 && i + 1 < count; i++) {
        code = put_steps(bulk, txn, open_put(&puts[i]));
    }
    code = code ? code : put_steps(bulk, txn, last);
    txn->state.threads += code == 0 && !thread->is_there;
    thread->is_there = true;
    return code;
}

/* As put_name in tree_apply.c: of lives of one thread the youngest has the name. */
static int put_name(struct tree_bulk *bulk, struct tree_txn *txn, const struct bulk_put *one)
{
    struct tree_place place;
    struct bytes body;
    int code = tree_name_find(txn, TREE_NAMES, one->name, &place, &body);
    bool leads = code == 0 && body.data && body.size == TREE_UID_BYTES;
    if (code && code != MDB_NOTFOUND) {
        return code;
    }
    if (leads && bytes_load_be64(body.data) >= one->uid) {
        return 0;
    }
    if (!leads) {
        struct tree_tomb tomb;
        bool found;
        code = tree_take_tomb(txn, one->name, &tomb, &found);
        tell_name(bulk, one->name);
    } else {
        code = 0;
    }
    uint8_t uid[TREE_UID_BYTES];
    bytes_store_be64(uid, one->uid);
    return code ? code : tree_name_put(txn, &place, bytes_of(uid, sizeof uid));
}

static int put_names(struct tree_bulk *bulk, struct tree_txn *txn, const struct bulk_put *puts,
                     size_t count)
{
    if (!has_room_for_orders(bulk, count)) {
        return ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        bulk->orders[i] = (struct tree_order){.key = puts[i].name.low, .place = (uint32_t)i};
    }
    tree_order_sort(bulk->orders, bulk->orders + count, count);
    int code = 0;
    const struct bulk_put *before = NULL;
    for (size_t i = 0; code == 0 && i < count; i++) {
        const struct bulk_put *one = &puts[bulk->orders[i].place];
        if (!before || one->uid != before->uid) {
            code = put_name(bulk, txn, one);
        }
        before = one;
    }
    return code;
}

/* Pages that a put makes dirty, about: of a new thread its name's, of one that is there its own. */
static unsigned pages_of(const struct tree_bulk *bulk, const struct bulk_put *one)
{
    const struct bulk_thread *thread = &bulk->threads[one->thread];
    return (thread->is_there ? 2U : 1U) + (unsigned)(one->bytes.size / 2048);
}

/* `count` puts, in one transaction; the applied sequence moves past them. */
static int put_threads(struct tree_bulk *bulk, struct tree_txn *txn, struct bulk_put *puts,
                       size_t count)
{
    uint64_t last = puts[count - 1].sequence;
    int code = put_names(bulk, txn, puts, count);
    sort_by_uid(puts, count);
    for (size_t i = 0, next; code == 0 && i < count; i = next) {
        for (next = i + 1; next < count && puts[next].uid == puts[i].uid; next++) {
        }
        code = put_thread(bulk, txn, puts + i, next - i);
    }
    txn->state.applied = last;
    return code;
}

/* ---- The run -------------------------------------------------------------------------------- */

static int put_run(struct tree_bulk *bulk, struct tree_txn *txn)
{
    unsigned most = txn->tree->txn_cost; /* here: of pages, by an estimate */
    int code = put_keys(bulk, txn);
    for (size_t i = 0, next; code == 0 && i < bulk->put_count; i = next) {
        unsigned pages = 0;
        for (next = i; next < bulk->put_count && pages < most; next++) {
            pages += pages_of(bulk, &bulk->puts[next]);
        }
        /* Keys, or other groups, may have filled this one already. */
        if (txn->cost + pages > most) {
            code = commit(bulk, txn);
        }
        code = code ? code : put_threads(bulk, txn, bulk->puts + i, next - i);
    }
    return code;
}

int tree_bulk_apply(struct tree_bulk *bulk, struct tree_txn *txn, const struct tree_group *groups,
                    size_t *count)
{
    int code = plan(bulk, txn, groups, *count);
    *count = bulk->put_count;
    if (code == 0 && bulk->put_count > 0) {
        code = put_run(bulk, txn);
    }
    if (code == 0) {
        close_cursors(bulk);
    }
    return code;
}
