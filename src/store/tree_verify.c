/*
 * The whole tree, checked offline: every entry's seal and order, every blob, and that what leads
 * somewhere arrives. Changes nothing.
 *
 * Each table is walked under a guard of its own, so that a page that cannot be followed hides only
 * the rest of its table. Damage is told in uids, positions and numbers of entries: names are keyed
 * hashes, which no log may hold, and ids are the client's.
 */
#include "store/tree_read.h"

#include "store/guard.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { TEXT_BYTES = 200, STEPS_TOLD_MAX = 8 };

static const struct {
    const char *name;
    enum record_value kind;
} tables[TREE_TABLE_COUNT] = {
    [TREE_DATA] = {"data", RECORD_CHUNK}, [TREE_NAMES] = {"names", RECORD_NAME},
    [TREE_KEYS] = {"keys", RECORD_KEY},   [TREE_YOUNG] = {"young", RECORD_NAME}, /* or a key */
    [TREE_DUE] = {"due", RECORD_META},    [TREE_TOMBS] = {"tombs", RECORD_TOMB},
    [TREE_RING] = {"ring", RECORD_TOMB},  [TREE_META] = {"meta", RECORD_META},
};

struct verifying {
    struct tree *tree;
    const struct tree_watch *watch;
    struct tree_audit *audit;
    struct tree_reading walk;
    struct tree_reading look; /* where an entry of the walk leads */
    struct tree_gathering gathering;
    enum tree_table table;
    bool unreadable;   /* no memory, no reader's slot */
    uint64_t position; /* of the entry in its table, from 1 */
    uint8_t last[TREE_READ_KEY_MAX];
    size_t last_bytes; /* 0: none */
};

__attribute__((format(printf, 3, 4))) static void tell(struct verifying *verifying,
                                                       unsigned damaged, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    verifying->audit->damaged += damaged;
    if (verifying->watch->found) {
        verifying->watch->found(verifying->watch->context, text);
    }
}

static void tell_entry(struct verifying *verifying, const char *what)
{
    tell(verifying, 1, "%s: entry %" PRIu64 " %s", tables[verifying->table].name,
         verifying->position, what);
}

/* ---- Threads ------------------------------------------------------------------------------- */

static bool name_leads_to(struct verifying *verifying, const struct tier_head *head)
{
    struct bytes body;
    return tree_read_name(&verifying->look, TREE_NAMES, head->name, &body) == TREE_SEEN &&
           body.size == TREE_UID_BYTES && bytes_load_be64(body.data) == head->uid;
}

static bool is_in_due(struct verifying *verifying, struct tree_due_key key)
{
    struct bytes body;
    return tree_read_entry(&verifying->look, TREE_DUE, bytes_of(key.bytes, sizeof key.bytes),
                           RECORD_META, &body) == TREE_SEEN;
}

/* A thread that no name leads to is never found; one without a due entry never ends. */
static void check_ways_in(struct verifying *verifying, const struct tier_head *head)
{
    if (!name_leads_to(verifying, head)) {
        tell(verifying, 1, "data: thread %" PRIu64 ": its name does not lead to it", head->uid);
    }
    struct tree_data_key at = tree_data_key(head->uid, 0, TREE_CHUNK_ARMED);
    struct bytes body;
    if (tree_read_entry(&verifying->look, TREE_DATA, bytes_of(at.bytes, sizeof at.bytes),
                        RECORD_META, &body) != TREE_SEEN ||
        body.size != sizeof(uint64_t)) {
        tell(verifying, 1, "data: thread %" PRIu64 ": when it is due cannot be read", head->uid);
        return;
    }
    if (!is_in_due(verifying, tree_due_key(bytes_load_be64(body.data), head->uid))) {
        tell(verifying, 1, "data: thread %" PRIu64 ": it is not in the table of what is due",
             head->uid);
    }
}

static void tell_thread(struct verifying *verifying, const struct tier_image *image)
{
    const struct tree_gathering *gathering = &verifying->gathering;
    char list[STEPS_TOLD_MAX * 11 + 8] = "";
    size_t at = 0;
    unsigned told = 0;
    for (uint32_t i = 0; i < image->step_count; i++) {
        if (image->steps[i].corrupt && told++ < STEPS_TOLD_MAX) {
            at +=
                (size_t)snprintf(list + at, sizeof list - at, " %" PRIu32, image->steps[i].number);
        }
    }
    tell(verifying, gathering->damaged,
         "data: thread %" PRIu64 ": %u records damaged or missing; steps that cannot be read:%s%s",
         gathering->head.uid, gathering->damaged, told ? list : " none",
         told > STEPS_TOLD_MAX ? " ..." : "");
}

/* The walk stands on a sound head. */
static void check_thread(struct verifying *verifying, const struct tier_head *head)
{
    struct tree_gathering *gathering = &verifying->gathering;
    uint64_t uid = head->uid;
    *gathering = (struct tree_gathering){0};
    verifying->audit->threads++;
    enum tree_seen seen = tree_gathering_fill(&verifying->walk, head, gathering);
    if (seen == TREE_DAMAGED) {
        tell(verifying, 1, "data: thread %" PRIu64 ": more steps than a thread can have", uid);
    }
    struct tier_image *image = seen == TREE_SEEN ? tree_gathering_image(gathering) : NULL;
    verifying->unreadable = !image && seen != TREE_DAMAGED;
    if (image) {
        verifying->audit->steps += image->step_count;
        if (gathering->damaged) {
            tell_thread(verifying, image);
        }
        check_ways_in(verifying, &image->head);
    }
    free(image);
    tree_gathering_free(gathering);
}

/* True: the walk has been moved on. */
static bool check_data(struct verifying *verifying)
{
    const struct tree_reading *walk = &verifying->walk;
    uint64_t uid;
    uint32_t part, chunk;
    struct tier_head head;
    if (!tree_open_data_key(tree_val(walk->key, walk->key_bytes), &uid, &part, &chunk)) {
        tell_entry(verifying, "has a key of another table");
        return false;
    }
    struct bytes body = tree_read_body(walk, tree_read_kind(part, chunk));
    if (!body.data) {
        tell_entry(verifying, "fails its checksum");
    } else if (tree_read_kind(part, chunk) == RECORD_HEAD) {
        if (record_open_head(body, record_body_format(body), &head) && head.uid == uid) {
            check_thread(verifying, &head);
            return true;
        }
        tell_entry(verifying, "is no head");
    }
    /* What has no head is on its way in or out. */
    return false;
}

/* ---- The other tables ---------------------------------------------------------------------- */

/* Whether the uid's head is there; *same: and is of that name. */
static enum tree_seen look_for_head(struct verifying *verifying, uint64_t uid,
                                    struct index_hash name, bool *same)
{
    struct tier_head head;
    enum tree_seen seen = tree_read_head(&verifying->look, uid, &head);
    *same = seen == TREE_SEEN && tree_same_name(head.name, name);
    return seen;
}

static void check_name(struct verifying *verifying, struct bytes key, struct bytes body)
{
    bool same;
    if (body.size != TREE_UID_BYTES || key.size != TREE_NAME_BYTES) {
        tell_entry(verifying, "has an unknown layout");
    } else if (look_for_head(verifying, bytes_load_be64(body.data), tree_load_name(key.data),
                             &same) != TREE_SEEN ||
               !same) {
        tell_entry(verifying, "leads to no thread of that name");
    }
}

static void check_key(struct verifying *verifying, struct bytes body)
{
    struct tree_key_entry entry;
    bool same;
    if (!tree_open_key_entry(body, &entry)) {
        tell_entry(verifying, "has an unknown layout");
    } else if (look_for_head(verifying, entry.uid, entry.owner, &same) == TREE_SEEN && !same) {
        tell_entry(verifying, "leads to another thread than it names");
    }
}

/* Whoever looks for the name must end here, and nowhere else. */
static void check_young(struct verifying *verifying, struct bytes key, struct bytes body)
{
    if (key.size != TREE_YOUNG_KEY_BYTES) {
        tell_entry(verifying, "has an unknown layout");
        return;
    }
    struct bytes name = bytes_of(key.data + TREE_RUN_BYTES, TREE_NAME_BYTES);
    bool is_thread = body.size == TREE_UID_BYTES;
    struct tree_reading *look = &verifying->look;
    struct bytes found;
    if (tree_read_name(look, is_thread ? TREE_NAMES : TREE_KEYS, tree_load_name(name.data),
                       &found) != TREE_SEEN ||
        look->key_bytes != key.size || memcmp(look->key, key.data, key.size) != 0) {
        tell_entry(verifying, "is not where its name is looked for first");
    } else if (is_thread) {
        check_name(verifying, name, body);
    } else {
        check_key(verifying, body);
    }
}

static void check_tomb(struct verifying *verifying, struct bytes key, struct bytes body)
{
    struct tree_tomb tomb;
    if (!tree_open_tomb(body, &tomb)) {
        tell_entry(verifying, "has an unknown layout");
        return;
    }
    struct tree_ring_key place = tree_ring_key(tomb.place);
    struct bytes ring;
    if (tree_read_entry(&verifying->look, TREE_RING, bytes_of(place.bytes, sizeof place.bytes),
                        RECORD_TOMB, &ring) != TREE_SEEN ||
        ring.size != TREE_RING_BODY_BYTES || key.size != TREE_NAME_BYTES ||
        memcmp(ring.data, key.data, key.size) != 0) {
        tell_entry(verifying, "is not in the ring where it says");
    }
}

static void check_other(struct verifying *verifying)
{
    const struct tree_reading *walk = &verifying->walk;
    struct bytes key = bytes_of(walk->key, walk->key_bytes);
    struct bytes body = verifying->table == TREE_YOUNG
                            ? tree_read_young(walk)
                            : tree_read_body(walk, tables[verifying->table].kind);
    if (!body.data) {
        tell_entry(verifying, "fails its checksum");
        return;
    }
    switch (verifying->table) {
    case TREE_NAMES:
        check_name(verifying, key, body);
        break;
    case TREE_KEYS:
        check_key(verifying, body);
        break;
    case TREE_YOUNG:
        check_young(verifying, key, body);
        break;
    case TREE_TOMBS:
        check_tomb(verifying, key, body);
        break;
    case TREE_DUE:
    case TREE_RING:
    case TREE_META:
    case TREE_DATA:
    case TREE_TABLE_COUNT:
        break;
    }
}

/* ---- Walks --------------------------------------------------------------------------------- */

/* Keys grow; a walk in which they do not may be one in a circle. */
static bool is_ordered(struct verifying *verifying)
{
    const struct tree_reading *walk = &verifying->walk;
    size_t size = verifying->last_bytes < walk->key_bytes ? verifying->last_bytes : walk->key_bytes;
    int order = memcmp(verifying->last, walk->key, size);
    bool ordered = order < 0 || (order == 0 && verifying->last_bytes < walk->key_bytes);
    memcpy(verifying->last, walk->key, walk->key_bytes);
    verifying->last_bytes = walk->key_bytes;
    return ordered;
}

/* The walk's entry; true: the walk has been moved on. */
static bool check_entry(struct verifying *verifying)
{
    if (verifying->walk.seen != TREE_SEEN) {
        tell_entry(verifying, "has a size that no entry has");
        return false;
    }
    if (!is_ordered(verifying)) {
        tell_entry(verifying, "is out of order");
    }
    if (verifying->table == TREE_DATA) {
        return check_data(verifying);
    }
    check_other(verifying);
    return false;
}

static void walk_entries(struct verifying *verifying, uint64_t limit)
{
    struct tree_reading *walk = &verifying->walk;
    (void)tree_read_move(walk, MDB_FIRST, (struct bytes){0});
    while (!verifying->unreadable) {
        if (walk->seen == TREE_END) {
            return;
        }
        if (walk->seen == TREE_UNREADABLE) {
            verifying->unreadable = true;
            return;
        }
        verifying->position = walk->entries;
        if (!walk->key_bytes || walk->entries > limit) {
            tell_entry(verifying, "cannot be gone beyond");
            return;
        }
        if (!check_entry(verifying)) {
            (void)tree_read_move(walk, MDB_NEXT, (struct bytes){0});
        }
        if (verifying->watch->progress) {
            verifying->watch->progress(verifying->watch->context,
                                       verifying->audit->records + walk->entries);
        }
    }
}

static void verify_table(void *context)
{
    struct verifying *verifying = context;
    enum tree_table table = verifying->table;
    enum tree_seen seen = tree_read_begin(&verifying->walk);
    seen = seen == TREE_SEEN ? tree_read_begin(&verifying->look) : seen;
    seen = seen == TREE_SEEN ? tree_read_table(&verifying->walk, table) : seen;
    if (seen == TREE_UNREADABLE) {
        verifying->unreadable = true;
        return;
    }
    MDB_stat stat;
    if (seen != TREE_SEEN ||
        mdb_stat(verifying->walk.txn, verifying->tree->tables[table], &stat) != 0) {
        tell(verifying, 1, "%s: the table cannot be opened", tables[table].name);
        return;
    }
    walk_entries(verifying, stat.ms_entries * 2 + TREE_READ_BAD_MAX);
    if (!verifying->unreadable && verifying->walk.entries != stat.ms_entries) {
        tell(verifying, 1, "%s: %" PRIu64 " entries where there should be %zu", tables[table].name,
             verifying->walk.entries, stat.ms_entries);
    }
}

enum status tree_watch_verify(struct tree *tree, const struct tree_watch *watch,
                              struct tree_audit *audit, struct wal_trouble *trouble)
{
    *audit = (struct tree_audit){0};
    *trouble = (struct wal_trouble){0};
    struct verifying verifying = {.tree = tree, .watch = watch, .audit = audit};
    for (enum tree_table table = 0; table < TREE_TABLE_COUNT && !verifying.unreadable; table++) {
        if (table == TREE_YOUNG && !tree_has_young(tree)) {
            continue;
        }
        verifying.table = table;
        verifying.walk = verifying.look = (struct tree_reading){.tree = tree};
        verifying.last_bytes = 0;
        if (!guard_run(verify_table, &verifying)) {
            tell(&verifying, 1, "%s: a fault inside the tree behind entry %" PRIu64,
                 tables[table].name, verifying.walk.entries);
        }
        tree_gathering_free(&verifying.gathering); /* nothing, but for a fault */
        audit->records += verifying.walk.entries;
        audit->bytes += verifying.walk.entry_bytes;
        tree_read_end(&verifying.walk);
        tree_read_end(&verifying.look);
    }
    if (!verifying.unreadable && audit->threads != tree_numbers(tree).threads) {
        tell(&verifying, 1, "meta: %" PRIu64 " threads where there should be %" PRIu64,
             audit->threads, tree_numbers(tree).threads);
    }
    return verifying.unreadable
               ? tree_refuse(trouble, ENOMEM, "verify", "No memory to verify the tree.")
               : STATUS_OK;
}

enum status tree_verify(struct tree *tree, tree_damage_fn *found, void *context,
                        struct tree_audit *audit, struct wal_trouble *trouble)
{
    struct tree_watch watch = {.found = found, .context = context};
    return tree_watch_verify(tree, &watch, audit, trouble);
}
