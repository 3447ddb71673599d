/*
 * Loads: threads, keys and pages, each in a read transaction of its own and under a guard. Owns
 * nothing beyond a call; what it hands out is copied.
 */
#include "store/tree_read.h"

#include "store/guard.h"
#include "store/tree_page.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { PAGE_LOOKS_MAX = 16384 };

/* ---- One entry ----------------------------------------------------------------------------- */

/* A page that LMDB itself finds wrong: nothing may be written where it is. */
static enum tree_seen judge(struct tree_reading *reading, int code)
{
    if (code == 0) {
        return TREE_SEEN;
    }
    if (code == MDB_NOTFOUND) {
        return TREE_END;
    }
    if (code == ENOMEM || code == MDB_READERS_FULL || code == EAGAIN) {
        return TREE_UNREADABLE;
    }
    tree_set_broken(reading->tree);
    /* After a commit that failed at its last write LMDB lets nobody in: nothing read is damaged. */
    return code == MDB_PANIC ? TREE_UNREADABLE : TREE_DAMAGED;
}

enum tree_seen tree_read_begin(struct tree_reading *reading)
{
    assert(!reading->txn && !reading->cursor);
    return judge(reading, mdb_txn_begin(reading->tree->env, NULL, MDB_RDONLY, &reading->txn));
}

/* Ending a read transaction frees its slot and its memory and looks at no page, so that it is safe
 * after a fault as well. */
void tree_read_end(struct tree_reading *reading)
{
    if (reading->cursor) {
        mdb_cursor_close(reading->cursor);
    }
    if (reading->txn) {
        mdb_txn_abort(reading->txn);
    }
    reading->cursor = NULL;
    reading->txn = NULL;
}

enum tree_seen tree_read_table(struct tree_reading *reading, enum tree_table table)
{
    if (reading->cursor) {
        mdb_cursor_close(reading->cursor);
        reading->cursor = NULL;
    }
    MDB_dbi dbi = reading->tree->tables[table];
    /* Looks the table up, which may fault, before there is a cursor to leak. */
    MDB_stat stat;
    enum tree_seen seen = judge(reading, mdb_stat(reading->txn, dbi, &stat));
    return seen == TREE_SEEN ? judge(reading, mdb_cursor_open(reading->txn, dbi, &reading->cursor))
                             : seen;
}

/* A key lies in its leaf, wherever its value is. */
static bool is_in_sound_page(struct tree_reading *reading, const uint8_t *key)
{
    size_t page_bytes = reading->tree->page_bytes;
    if (page_bytes > (size_t)sysconf(_SC_PAGESIZE)) {
        return true; /* made on another kind of machine: where a page begins is not known */
    }
    const uint8_t *page = key - (uintptr_t)key % page_bytes;
    if (page != reading->page && !tree_page_is_sound(page, page_bytes, TREE_PAGE_LEAF)) {
        return false;
    }
    reading->page = page;
    return true;
}

enum tree_seen tree_read_move(struct tree_reading *reading, MDB_cursor_op op, struct bytes from)
{
    MDB_val key = tree_val(from.data, from.size);
    MDB_val value = {0};
    reading->key_bytes = 0;
    reading->value_bytes = 0;
    reading->seen = judge(reading, mdb_cursor_get(reading->cursor, &key, &value, op));
    if (reading->seen != TREE_SEEN) {
        return reading->seen;
    }
    if (!is_in_sound_page(reading, key.mv_data)) {
        tree_set_broken(reading->tree);
        return reading->seen = TREE_DAMAGED;
    }
    reading->entries++;
    /* Not 0, so that the caller can tell an odd entry from a cursor that cannot move. */
    reading->key_bytes = key.mv_size > 0 ? key.mv_size : SIZE_MAX;
    if (key.mv_size == 0 || key.mv_size > sizeof reading->key ||
        value.mv_size > sizeof reading->value) {
        return reading->seen = TREE_DAMAGED;
    }
    reading->entry_bytes += key.mv_size + value.mv_size;
    memcpy(reading->key, key.mv_data, key.mv_size);
    memcpy(reading->value, value.mv_data, value.mv_size);
    reading->value_bytes = value.mv_size;
    return TREE_SEEN;
}

struct bytes tree_read_body(const struct tree_reading *reading, enum record_value kind)
{
    assert(reading->key_bytes <= sizeof reading->key);
    return record_check(bytes_of(reading->value, reading->value_bytes),
                        bytes_of(reading->key, reading->key_bytes), kind);
}

struct bytes tree_read_young(const struct tree_reading *reading)
{
    struct bytes body = tree_read_body(reading, RECORD_NAME);
    return body.data ? body : tree_read_body(reading, RECORD_KEY);
}

/* Less, equal or greater than the copied key. */
static int compare(struct bytes key, const struct tree_reading *reading)
{
    assert(key.size == reading->key_bytes);
    return memcmp(key.data, reading->key, key.size);
}

/* Whether the copy is an entry that may stand on that side of the key. */
static bool is_neighbour(const struct tree_reading *reading, struct bytes key,
                         enum record_value kind, bool above)
{
    return reading->key_bytes == key.size && (compare(key, reading) < 0) == above &&
           (key.size == TREE_YOUNG_KEY_BYTES ? tree_read_young(reading)
                                             : tree_read_body(reading, kind))
               .data;
}

/* The cursor was sent to `key` and found `seen`, not the key. */
static enum tree_seen prove_absent(struct tree_reading *reading, struct bytes key,
                                   enum record_value kind, enum tree_seen seen)
{
    if (seen == TREE_SEEN && !is_neighbour(reading, key, kind, true)) {
        return TREE_DAMAGED;
    }
    seen = tree_read_move(reading, seen == TREE_SEEN ? MDB_PREV : MDB_LAST, (struct bytes){0});
    if (seen == TREE_SEEN && !is_neighbour(reading, key, kind, false)) {
        return TREE_DAMAGED;
    }
    return seen == TREE_SEEN ? TREE_END : seen;
}

enum tree_seen tree_read_entry(struct tree_reading *reading, enum tree_table table,
                               struct bytes key, enum record_value kind, struct bytes *body)
{
    enum tree_seen seen = tree_read_table(reading, table);
    if (seen != TREE_SEEN) {
        return seen == TREE_END ? TREE_DAMAGED : seen; /* the table itself is there, always */
    }
    seen = tree_read_move(reading, MDB_SET_RANGE, key);
    if (seen == TREE_SEEN && reading->key_bytes == key.size && compare(key, reading) == 0) {
        *body = tree_read_body(reading, kind);
        seen = body->data ? TREE_SEEN : TREE_DAMAGED;
    } else if (seen == TREE_SEEN || seen == TREE_END) {
        seen = prove_absent(reading, key, kind, seen);
    }
    reading->damaged += seen == TREE_DAMAGED;
    return seen;
}

static enum tree_seen read_state(struct tree_reading *reading, struct tree_state *state)
{
    struct bytes key = bytes_of(TREE_STATE_KEY, sizeof TREE_STATE_KEY);
    struct bytes body;
    enum tree_seen seen = tree_read_entry(reading, TREE_META, key, RECORD_META, &body);
    if (seen == TREE_UNREADABLE || (seen == TREE_SEEN && tree_open_state(body, state))) {
        return seen;
    }
    reading->damaged += seen != TREE_DAMAGED; /* else it was counted */
    return TREE_DAMAGED;
}

enum tree_seen tree_read_name(struct tree_reading *reading, enum tree_table home,
                              struct index_hash hash, struct bytes *body)
{
    struct tree_name name = tree_name(hash);
    enum record_value kind = tree_name_kind(home);
    enum tree_seen seen =
        tree_read_entry(reading, home, bytes_of(name.bytes, sizeof name.bytes), kind, body);
    if (seen == TREE_SEEN || seen == TREE_UNREADABLE || !tree_has_young(reading->tree)) {
        return seen;
    }
    struct tree_state state;
    enum tree_seen missing = seen; /* TREE_DAMAGED: somewhere where it could have been */
    seen = read_state(reading, &state);
    uint64_t first = tree_names_first_run(&state);
    uint64_t run = seen == TREE_SEEN ? state.run + 1 : first;
    while (run > first) {
        struct tree_young_key key = tree_name_in_run(--run, name);
        seen =
            tree_read_entry(reading, TREE_YOUNG, bytes_of(key.bytes, sizeof key.bytes), kind, body);
        if (seen == TREE_SEEN || seen == TREE_UNREADABLE) {
            return seen;
        }
        missing = seen == TREE_DAMAGED ? seen : missing;
    }
    return seen == TREE_END ? missing : seen;
}

enum tree_seen tree_read_head(struct tree_reading *reading, uint64_t uid, struct tier_head *head)
{
    enum tree_seen seen = tree_read_table(reading, TREE_DATA);
    if (seen != TREE_SEEN) {
        reading->damaged++;
        return seen == TREE_END ? TREE_DAMAGED : seen;
    }
    struct tree_data_key wanted = tree_data_key(uid, 0, TREE_CHUNK_HEAD);
    struct bytes key = bytes_of(wanted.bytes, sizeof wanted.bytes);
    seen = tree_read_move(reading, MDB_SET_RANGE, key);
    if (seen == TREE_SEEN && (reading->key_bytes != key.size || compare(key, reading) != 0)) {
        return TREE_END;
    }
    if (seen == TREE_SEEN) {
        struct bytes body = tree_read_body(reading, RECORD_HEAD);
        bool sound =
            body.data && record_open_head(body, record_body_format(body), head) && head->uid == uid;
        seen = sound ? TREE_SEEN : TREE_DAMAGED;
    }
    reading->damaged += seen == TREE_DAMAGED;
    return seen;
}

/* ---- Loads --------------------------------------------------------------------------------- */

struct loading {
    struct tree_reading reading;
    struct tree_gathering gathering;
    struct tier_load *load;
    enum tier_found found;
};

static enum tier_found found_of(enum tree_seen seen)
{
    switch (seen) {
    case TREE_SEEN:
        return TIER_FOUND;
    case TREE_END:
        return TIER_ABSENT;
    case TREE_DAMAGED:
        return TIER_CORRUPT;
    case TREE_UNREADABLE:
        break;
    }
    return TIER_FAILED;
}

/* What is not there may have left a tombstone. */
static enum tier_found find_tomb(struct loading *loading)
{
    struct tier_load *load = loading->load;
    struct tree_name name = tree_name(load->name);
    struct bytes body;
    enum tree_seen seen = tree_read_entry(
        &loading->reading, TREE_TOMBS, bytes_of(name.bytes, sizeof name.bytes), RECORD_TOMB, &body);
    if (seen != TREE_SEEN) {
        return found_of(seen);
    }
    struct tree_tomb tomb;
    if (!tree_open_tomb(body, &tomb)) {
        loading->reading.damaged++;
        return TIER_CORRUPT;
    }
    load->tombstone = (struct tier_tombstone){.reason = (enum reason)tomb.reason,
                                              .shared = tomb.shared,
                                              .version = tomb.version,
                                              .steps = tomb.steps};
    return TIER_TOMBSTONE;
}

static enum tier_found load_thread(struct loading *loading)
{
    struct tree_reading *reading = &loading->reading;
    struct tier_load *load = loading->load;
    struct bytes body;
    enum tree_seen seen = tree_read_name(reading, TREE_NAMES, load->name, &body);
    if (seen == TREE_END) {
        return find_tomb(loading);
    }
    if (seen != TREE_SEEN) {
        return found_of(seen);
    }
    struct tier_head head;
    load->uid = body.size == TREE_UID_BYTES ? bytes_load_be64(body.data) : 0;
    seen = load->uid ? tree_read_head(reading, load->uid, &head) : TREE_DAMAGED;
    if (seen == TREE_END || (seen == TREE_SEEN && !tree_same_name(head.name, load->name))) {
        reading->damaged++; /* a name's uid always has a head, and its own */
        return TIER_CORRUPT;
    }
    if (seen != TREE_SEEN) {
        return found_of(seen);
    }
    if (head.tenant != load->tenant || !bytes_equal(head.id, bytes_of(load->id, load->id_size))) {
        return TIER_ABSENT; /* another thread with the same hash */
    }
    return found_of(tree_gathering_fill(reading, &head, &loading->gathering));
}

static enum tier_found load_key(struct loading *loading)
{
    struct tree_reading *reading = &loading->reading;
    struct tier_load *load = loading->load;
    struct bytes body;
    load->key.uid = 0;
    enum tree_seen seen = tree_read_name(reading, TREE_KEYS, load->name, &body);
    if (seen == TREE_END) {
        return find_tomb(loading);
    }
    struct tree_key_entry entry;
    if (seen != TREE_SEEN || !tree_open_key_entry(body, &entry)) {
        return seen == TREE_SEEN ? TIER_CORRUPT : found_of(seen);
    }
    load->key.uid = entry.uid;
    if (entry.kind != load->record_kind) {
        return TIER_ABSENT;
    }
    struct tier_head head;
    seen = tree_read_head(reading, entry.uid, &head);
    if (seen != TREE_SEEN) {
        return found_of(seen); /* without a head its thread is on its way in or out */
    }
    if (!tree_same_name(head.name, entry.owner)) {
        reading->damaged++;
        return TIER_CORRUPT;
    }
    load->key = (struct tier_key){.owner = entry.owner,
                                  .id_size = (uint8_t)head.id.size,
                                  .uid = entry.uid,
                                  .number = entry.number,
                                  .version = entry.version,
                                  .shared = entry.shared};
    memcpy(load->key.id, head.id.data, head.id.size);
    return TIER_FOUND;
}

/* ---- Pages --------------------------------------------------------------------------------- */

static void list_head(struct tier_page *page, const struct tier_head *head)
{
    struct tier_listed *listed = &page->listed[page->count++];
    listed->uid = head->uid;
    listed->name = head->name;
    listed->payload_bytes = head->payload_bytes;
    listed->used_ms = head->used_ms;
    listed->version = head->version;
    listed->id_size = (uint8_t)head->id.size;
    memcpy(listed->id, head->id.data, head->id.size);
}

/* Takes in the entry of which the copy is. False: it is damaged, and its uid may be anything. */
static bool take_listed(const struct tree_reading *reading, const struct tier_load *load)
{
    uint64_t uid;
    uint32_t part, chunk;
    if (!tree_open_data_key(tree_val(reading->key, reading->key_bytes), &uid, &part, &chunk)) {
        return false;
    }
    struct bytes body = tree_read_body(reading, tree_read_kind(part, chunk));
    struct tier_page *page = load->page;
    if (!body.data || uid <= page->last_uid) {
        return false;
    }
    struct tier_head head;
    if (tree_read_kind(part, chunk) != RECORD_HEAD) {
        page->last_uid = uid; /* without a head it is on its way in or out */
        return true;
    }
    if (!record_open_head(body, record_body_format(body), &head) || head.uid != uid) {
        return false;
    }
    page->last_uid = uid;
    if (head.tenant == load->tenant &&
        bytes_start_with(head.id, bytes_of(load->id, load->id_size))) {
        list_head(page, &head);
    }
    return true;
}

static uint32_t page_limit(const struct tier_load *load)
{
    return load->limit < TREE_PAGE_LIMIT ? load->limit : TREE_PAGE_LIMIT;
}

/* From head to head by uid. What is damaged is passed entry by entry. */
static enum tier_found load_page(struct loading *loading)
{
    struct tree_reading *reading = &loading->reading;
    struct tier_page *page = loading->load->page;
    enum tree_seen seen = tree_read_table(reading, TREE_DATA);
    bool jump = true;
    page->more = false;
    for (unsigned looks = 0; seen == TREE_SEEN; looks++) {
        if (looks == PAGE_LOOKS_MAX || page->count == page_limit(loading->load)) {
            page->more = true;
            return TIER_FOUND;
        }
        if (jump && page->last_uid == UINT64_MAX) {
            return TIER_FOUND;
        }
        struct tree_data_key next = tree_data_key(page->last_uid + 1, 0, TREE_CHUNK_HEAD);
        seen = jump ? tree_read_move(reading, MDB_SET_RANGE, bytes_of(next.bytes, sizeof next))
                    : tree_read_move(reading, MDB_NEXT, (struct bytes){0});
        if (seen == TREE_SEEN || (seen == TREE_DAMAGED && reading->key_bytes)) {
            jump = seen == TREE_SEEN && take_listed(reading, loading->load);
            reading->damaged += !jump;
            seen = TREE_SEEN;
        }
    }
    reading->damaged += seen == TREE_DAMAGED;
    return seen == TREE_UNREADABLE ? TIER_FAILED : TIER_FOUND;
}

/* ---- The face ------------------------------------------------------------------------------ */

static void load_body(void *context)
{
    struct loading *loading = context;
    enum tree_seen seen = tree_read_begin(&loading->reading);
    if (seen != TREE_SEEN) {
        loading->found = seen == TREE_UNREADABLE ? TIER_FAILED : TIER_CORRUPT;
        return;
    }
    switch (loading->load->kind) {
    case TIER_LOAD_THREAD:
        loading->found = load_thread(loading);
        break;
    case TIER_LOAD_KEY:
        loading->found = load_key(loading);
        break;
    case TIER_LOAD_PAGE:
        loading->found = load_page(loading);
        break;
    }
}

static bool make_page(struct tier_load *load)
{
    load->page = malloc(sizeof *load->page + page_limit(load) * sizeof *load->page->listed);
    if (load->page) {
        *load->page = (struct tier_page){.last_uid = load->after_uid};
    }
    return load->page != NULL;
}

void tree_load(struct tree *tree, struct tier_load *load, unsigned *damaged)
{
    load->image = NULL;
    load->page = NULL;
    if (load->kind == TIER_LOAD_PAGE && !make_page(load)) {
        load->found = TIER_FAILED;
        return;
    }
    struct loading loading = {.reading = {.tree = tree}, .load = load, .found = TIER_CORRUPT};
    if (!guard_run(load_body, &loading)) {
        tree_set_broken(tree);
        loading.found = TIER_CORRUPT;
        loading.reading.damaged++;
    }
    tree_read_end(&loading.reading);
    if (load->kind == TIER_LOAD_THREAD && loading.found == TIER_FOUND) {
        load->image = tree_gathering_image(&loading.gathering);
        loading.found = load->image ? TIER_FOUND : TIER_FAILED;
    }
    tree_gathering_free(&loading.gathering);
    if (loading.found != TIER_FOUND) {
        free(load->page);
        load->page = NULL;
    }
    *damaged += loading.reading.damaged + loading.gathering.damaged;
    load->found = loading.found;
}
