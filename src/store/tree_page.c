/*
 * LMDB's pages. Layouts in native order, as LMDB 0.9 writes them (MDB_page, MDB_node, MDB_db,
 * MDB_meta); offsets are of a 64-bit machine. Owns nothing beyond a call.
 */
#include "store/tree_page.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static_assert(sizeof(size_t) == 8, "LMDB's page numbers are size_t");

enum {
    PAGE_FLAGS = 10,
    PAGE_LOWER = 12, /* end of the nodes' places */
    PAGE_UPPER = 14, /* begin of the nodes */
    PAGE_NODES = 16, /* the places, u16 each */
    PAGE_BYTES_MAX = 1 << 16,
    NODE_LOW = 0,
    NODE_HIGH = 2,
    NODE_FLAGS = 4,
    NODE_KEY_BYTES = 6,
    NODE_KEY = 8,
    NODE_BIG = 1, /* its value is on pages of its own, of which it has the number */
    NODE_TABLE = 2,
    DB_DEPTH = 6,
    DB_BRANCHES = 8,
    DB_LEAVES = 16,
    DB_ROOT = 40,
    DB_BYTES = 48,
    META_FREE = 40,
    META_TABLES = META_FREE + DB_BYTES,
    META_LAST_PAGE = 136,
    META_TRANSACTION = 144,
    META_BYTES = 152,
    DEPTH_MAX = 32,
    PAGES_AHEAD_MAX = 1 << 17, /* more than a transaction of LMDB 0.9 may write */
};

static uint16_t load16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint64_t load64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* ---- One page ------------------------------------------------------------------------------ */

struct node {
    const uint8_t *at;
    size_t size; /* in its page */
    uint16_t flags;
    struct bytes value; /* of a leaf: as far as it is in the page */
    uint64_t low;       /* of a branch: the child; of a leaf: the size of the value */
};

static unsigned node_count(const uint8_t *page)
{
    return (unsigned)(load16(page + PAGE_LOWER) - PAGE_NODES) / 2;
}

/* False: it leaves the page. */
static bool open_node(const uint8_t *page, size_t page_bytes, enum tree_page_kind kind,
                      unsigned which, struct node *node)
{
    size_t offset = load16(page + PAGE_NODES + 2 * which);
    if (offset % 2 != 0 || offset < load16(page + PAGE_UPPER) || offset + NODE_KEY > page_bytes) {
        return false;
    }
    const uint8_t *at = page + offset;
    size_t key_bytes = load16(at + NODE_KEY_BYTES);
    uint64_t low = load16(at + NODE_LOW) | (uint64_t)load16(at + NODE_HIGH) << 16;
    *node = (struct node){.at = at, .flags = load16(at + NODE_FLAGS), .low = low};
    size_t value_bytes = 0;
    if (kind == TREE_PAGE_BRANCH) {
        node->low |= (uint64_t)node->flags << 32;
    } else {
        value_bytes = node->flags & NODE_BIG ? sizeof(uint64_t) : (size_t)low;
    }
    node->size = (NODE_KEY + key_bytes + value_bytes + 1) / 2 * 2;
    node->value = bytes_of(at + NODE_KEY + key_bytes, value_bytes);
    return node->size <= page_bytes - offset;
}

/* False: some of it is another node's. */
static bool take_place(uint8_t *taken, size_t from, size_t size)
{
    if (memchr(taken + from, 1, size)) {
        return false;
    }
    memset(taken + from, 1, size);
    return true;
}

bool tree_page_is_sound(const uint8_t *page, size_t page_bytes, enum tree_page_kind kind)
{
    uint8_t taken[PAGE_BYTES_MAX];
    size_t lower = load16(page + PAGE_LOWER);
    size_t upper = load16(page + PAGE_UPPER);
    if (load16(page + PAGE_FLAGS) != kind || lower < PAGE_NODES || lower % 2 != 0 ||
        lower > upper || upper > page_bytes || page_bytes > PAGE_BYTES_MAX) {
        return false;
    }
    memset(taken + upper, 0, page_bytes - upper);
    size_t sum = 0;
    for (unsigned i = 0; i < node_count(page); i++) {
        struct node node;
        if (!open_node(page, page_bytes, kind, i, &node) ||
            !take_place(taken, (size_t)(node.at - page), node.size)) {
            return false;
        }
        sum += node.size;
    }
    return sum == page_bytes - upper;
}

/* ---- All pages ----------------------------------------------------------------------------- */

enum outcome { SOUND, DAMAGED, UNREADABLE, CUT_SHORT };

struct check {
    int fd;
    size_t page_bytes;
    uint64_t last_page;
    uint64_t there;      /* pages that the file has */
    uint64_t free_ahead; /* free pages beyond those */
    uint8_t *reached;    /* a bit for each page */
    int error;
};

static enum outcome fail_to_read(struct check *check, int error)
{
    check->error = error;
    return UNREADABLE;
}

static enum outcome read_at(struct check *check, uint64_t page, uint8_t *to, size_t size)
{
    off_t at = (off_t)(page * check->page_bytes);
    for (size_t done = 0; done < size;) {
        ssize_t part = pread(check->fd, to + done, size - done, at + (off_t)done);
        if (part < 0 && errno == EINTR) {
            continue;
        }
        if (part <= 0) {
            return fail_to_read(check, part == 0 ? EIO : errno);
        }
        done += (size_t)part;
    }
    return SOUND;
}

/* A page is reached once only. */
static enum outcome reach(struct check *check, uint64_t page)
{
    if (page > check->last_page || check->reached[page / 8] & 1u << page % 8) {
        return DAMAGED;
    }
    check->reached[page / 8] |= (uint8_t)(1u << page % 8);
    return SOUND;
}

struct table {
    unsigned depth;
    uint64_t branches, leaves;
    uint64_t root;
};

static struct table open_table(const uint8_t *at)
{
    return (struct table){.depth = load16(at + DB_DEPTH),
                          .branches = load64(at + DB_BRANCHES),
                          .leaves = load64(at + DB_LEAVES),
                          .root = load64(at + DB_ROOT)};
}

/* What to do with a leaf's entries; NULL: the leaf is not read. */
typedef enum outcome entry_fn(struct check *check, const struct node *node);

static enum outcome visit(struct check *check, struct table *left, uint64_t page, unsigned level,
                          entry_fn *entry);

static enum outcome visit_nodes(struct check *check, struct table *left, const uint8_t *page,
                                enum tree_page_kind kind, unsigned level, entry_fn *entry)
{
    enum outcome outcome = tree_page_is_sound(page, check->page_bytes, kind) ? SOUND : DAMAGED;
    for (unsigned i = 0; outcome == SOUND && i < node_count(page); i++) {
        struct node node;
        if (!open_node(page, check->page_bytes, kind, i, &node)) {
            return DAMAGED;
        }
        outcome = kind == TREE_PAGE_LEAF ? entry(check, &node)
                                         : visit(check, left, node.low, level + 1, entry);
    }
    return outcome;
}

/* `left`: its counts go down with every page. */
static enum outcome visit(struct check *check, struct table *left, uint64_t page, unsigned level,
                          entry_fn *entry)
{
    bool leaf = level == left->depth;
    uint64_t *count = leaf ? &left->leaves : &left->branches;
    if (reach(check, page) != SOUND || (*count)-- == 0) {
        return DAMAGED;
    }
    if (leaf && !entry) {
        return SOUND;
    }
    uint8_t *copy = malloc(check->page_bytes);
    if (!copy) {
        return fail_to_read(check, ENOMEM);
    }
    enum outcome outcome = read_at(check, page, copy, check->page_bytes);
    if (outcome == SOUND) {
        enum tree_page_kind kind = leaf ? TREE_PAGE_LEAF : TREE_PAGE_BRANCH;
        outcome =
            load64(copy) != page ? DAMAGED : visit_nodes(check, left, copy, kind, level, entry);
    }
    free(copy);
    return outcome;
}

static enum outcome visit_table(struct check *check, struct table table, entry_fn *entry)
{
    if (table.depth == 0) {
        return table.root == UINT64_MAX ? SOUND : DAMAGED; /* empty */
    }
    if (table.depth > DEPTH_MAX) {
        return DAMAGED;
    }
    enum outcome outcome = visit(check, &table, table.root, 1, entry);
    return outcome == SOUND && table.branches + table.leaves > 0 ? DAMAGED : outcome;
}

static enum outcome check_table(struct check *check, const struct node *node)
{
    if (!(node->flags & NODE_TABLE)) {
        return SOUND;
    }
    return node->value.size == DB_BYTES ? visit_table(check, open_table(node->value.data), NULL)
                                        : DAMAGED;
}

/* A count, then so many page numbers. */
static enum outcome reach_free(struct check *check, struct bytes list)
{
    uint64_t count = list.size >= sizeof count ? load64(list.data) : UINT64_MAX;
    if (count > list.size / sizeof count - 1) {
        return DAMAGED;
    }
    enum outcome outcome = SOUND;
    for (uint64_t i = 1; i <= count && outcome == SOUND; i++) {
        uint64_t page = load64(list.data + i * sizeof count);
        check->free_ahead += page >= check->there;
        outcome = reach(check, page);
    }
    return outcome;
}

static enum outcome check_free(struct check *check, const struct node *node)
{
    if (!(node->flags & NODE_BIG)) {
        return node->value.size >= sizeof(uint64_t) ? reach_free(check, node->value) : DAMAGED;
    }
    uint64_t first = load64(node->value.data);
    size_t size = PAGE_NODES + (size_t)node->low;
    uint64_t pages = (size + check->page_bytes - 1) / check->page_bytes;
    for (uint64_t i = 0; i < pages; i++) {
        if (reach(check, first + i) != SOUND) {
            return DAMAGED;
        }
    }
    uint8_t *copy = malloc(size);
    if (!copy) {
        return fail_to_read(check, ENOMEM);
    }
    enum outcome outcome = read_at(check, first, copy, size);
    if (outcome == SOUND) {
        outcome = reach_free(check, bytes_of(copy + PAGE_NODES, size - PAGE_NODES));
    }
    free(copy);
    return outcome;
}

/* The newest of the two meta pages. They take turns, so that they are of neighbouring
 * transactions, the even ones on page 0: else one of them has a wrong number. */
static enum outcome read_meta(struct check *check, uint8_t meta[META_BYTES])
{
    uint8_t other[META_BYTES];
    enum outcome outcome = read_at(check, 0, meta, META_BYTES);
    outcome = outcome == SOUND ? read_at(check, 1, other, META_BYTES) : outcome;
    if (outcome != SOUND) {
        return outcome;
    }
    uint64_t even = load64(meta + META_TRANSACTION);
    uint64_t odd = load64(other + META_TRANSACTION);
    if (even % 2 != 0 || odd % 2 != 1 || (even + 1 != odd && odd + 1 != even)) {
        return DAMAGED;
    }
    if (odd > even) {
        memcpy(meta, other, META_BYTES);
    }
    return SOUND;
}

/*
 * A page that was taken and given back within one transaction is never written, so the file may end
 * before the last page; but all that it lacks must be free.
 */
static enum outcome check_tables(struct check *check, const uint8_t meta[META_BYTES])
{
    check->reached = calloc(1, check->last_page / 8 + 1);
    if (!check->reached) {
        return fail_to_read(check, ENOMEM);
    }
    check->reached[0] = 3; /* the meta pages */
    enum outcome outcome = visit_table(check, open_table(meta + META_FREE), check_free);
    outcome = outcome == SOUND ? visit_table(check, open_table(meta + META_TABLES), check_table)
                               : outcome;
    bool ahead = check->last_page >= check->there;
    uint64_t lacking = ahead ? check->last_page + 1 - check->there : 0;
    bool whole = outcome == SOUND && check->free_ahead == lacking;
    return ahead && !whole ? CUT_SHORT : outcome;
}

static enum outcome check_all(struct check *check)
{
    uint8_t meta[META_BYTES];
    enum outcome outcome = read_meta(check, meta);
    if (outcome != SOUND) {
        return outcome;
    }
    check->last_page = load64(meta + META_LAST_PAGE);
    off_t end = lseek(check->fd, 0, SEEK_END);
    if (end < 0) {
        return fail_to_read(check, errno);
    }
    /* A power cut may leave a torn page behind the last one: nobody reads it. */
    check->there = (uint64_t)end / check->page_bytes;
    if (check->last_page > check->there + PAGES_AHEAD_MAX) {
        return CUT_SHORT;
    }
    return check_tables(check, meta);
}

static const char *text_of(enum outcome outcome)
{
    switch (outcome) {
    case CUT_SHORT:
        return "tree.mdb is cut short; restore it, or move it away to start anew.";
    case DAMAGED:
        return "tree.mdb is damaged where it says what is where; restore it, or move it away to "
               "start anew.";
    default:
        return "tree.mdb cannot be read.";
    }
}

enum status tree_page_check_all(int fd, size_t page_bytes, struct wal_trouble *trouble)
{
    struct check check = {.fd = fd, .page_bytes = page_bytes};
    enum outcome outcome = check_all(&check);
    free(check.reached);
    if (outcome == SOUND) {
        return STATUS_OK;
    }
    *trouble =
        (struct wal_trouble){.error = outcome == UNREADABLE ? check.error : EINVAL, .call = "read"};
    snprintf(trouble->text, sizeof trouble->text, "%s", text_of(outcome));
    return STATUS_INTERNAL;
}
