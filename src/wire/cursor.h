/*
 * A bounded cursor over MessagePack: the only reader of bytes that came from elsewhere.
 *
 * It never reads outside its bytes, never allocates, never recurses, and moves only over whole
 * items. Source: the MessagePack specification (github.com/msgpack/msgpack, spec.md).
 */
#ifndef RETHREAD_WIRE_CURSOR_H
#define RETHREAD_WIRE_CURSOR_H

#include "wire/request.h"

struct wire_cursor {
    const uint8_t *at;
    const uint8_t *end;
};

enum wire_item_type {
    WIRE_ITEM_NIL,
    WIRE_ITEM_BOOL,
    WIRE_ITEM_UINT,     /* every integer >= 0, however it was encoded */
    WIRE_ITEM_NEGATIVE, /* every integer < 0 */
    WIRE_ITEM_FLOAT,
    WIRE_ITEM_STR,
    WIRE_ITEM_BIN,
    WIRE_ITEM_EXT,
    WIRE_ITEM_ARRAY,
    WIRE_ITEM_MAP,
};

struct wire_item {
    enum wire_item_type type;
    uint32_t count;     /* ARRAY: items that follow; MAP: pairs that follow */
    uint64_t number;    /* BOOL: 0 or 1; UINT: the value; NEGATIVE: its two's complement */
    struct bytes bytes; /* STR, BIN, EXT: the content; FLOAT: its 4 or 8 bytes, big-endian */
};

static inline struct wire_cursor wire_cursor_on(struct bytes bytes)
{
    return (struct wire_cursor){.at = bytes.data,
                                .end = bytes.size > 0 ? bytes.data + bytes.size : bytes.data};
}

static inline size_t wire_left(const struct wire_cursor *cursor)
{
    return (size_t)(cursor->end - cursor->at);
}

/* The items whose mark is not in one byte with what it says: see wire_take. */
bool wire_take_wide(struct wire_cursor *cursor, struct wire_item *item);

/*
 * Takes one item; of an array or map only its header. False when the bytes end within it or it is
 * not MessagePack (0xC1): the cursor stays where it was and *item is undefined. Inline, because
 * most items of a request are one of these short forms.
 */
static inline bool wire_take(struct wire_cursor *cursor, struct wire_item *item)
{
    const uint8_t *p = cursor->at;
    if (p == cursor->end) {
        return false;
    }
    uint8_t mark = *p++;
    if (mark < 0x80) {
        item->type = WIRE_ITEM_UINT;
        item->number = mark;
    } else if (mark >= 0xA0 && mark < 0xC0) {
        item->type = WIRE_ITEM_STR;
        item->bytes = bytes_of(p, mark & 0x1FU);
        if ((size_t)(cursor->end - p) < item->bytes.size) {
            return false;
        }
        p += item->bytes.size;
    } else if (mark < 0xA0) {
        item->type = mark < 0x90 ? WIRE_ITEM_MAP : WIRE_ITEM_ARRAY;
        item->count = mark & 0x0FU;
    } else {
        return wire_take_wide(cursor, item);
    }
    cursor->at = p;
    return true;
}

/*
 * Whether `bytes` are exactly one object, whole and well-formed: every length lies inside, no
 * container is more than WIRE_DEPTH_MAX deep (a scalar is at depth 0), and at no point do the
 * elements still due, over all levels, outnumber the bytes left. What passes can be given to a
 * decoder that allocates by declared counts.
 */
bool wire_walk(struct bytes bytes);

/* Moves over one whole object, by the same rules; false leaves the cursor where it was. */
bool wire_skip(struct wire_cursor *cursor);

#endif
