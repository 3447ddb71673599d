/* Reads MessagePack items and walks whole objects. Touches nothing but the bytes it is given. */
#include "wire/cursor.h"

#include <assert.h>

/* Loads `size` (1, 2, 4 or 8) big-endian bytes; sets *ok to false if they are not there. */
static uint64_t take_number(struct wire_cursor *cursor, size_t size, bool *ok)
{
    const uint8_t *p = cursor->at;
    if (wire_left(cursor) < size) {
        *ok = false;
        return 0;
    }
    cursor->at += size;
    switch (size) {
    case 1:
        return p[0];
    case 2:
        return bytes_load_be16(p);
    case 4:
        return bytes_load_be32(p);
    default:
        assert(size == 8);
        return bytes_load_be64(p);
    }
}

static bool take_bytes(struct wire_cursor *cursor, struct wire_item *item, uint64_t size)
{
    if (wire_left(cursor) < size) {
        return false;
    }
    item->bytes = bytes_of(cursor->at, (size_t)size);
    cursor->at += size;
    return true;
}

static void set_signed(struct wire_item *item, int64_t value)
{
    item->type = value < 0 ? WIRE_ITEM_NEGATIVE : WIRE_ITEM_UINT;
    item->number = (uint64_t)value;
}

static bool take_signed(struct wire_cursor *cursor, struct wire_item *item, size_t size)
{
    bool ok = true;
    uint64_t raw = take_number(cursor, size, &ok);
    switch (size) {
    case 1:
        set_signed(item, (int8_t)raw);
        break;
    case 2:
        set_signed(item, (int16_t)raw);
        break;
    case 4:
        set_signed(item, (int32_t)raw);
        break;
    default:
        set_signed(item, (int64_t)raw);
        break;
    }
    return ok;
}

/* The items whose mark is 0xC0..0xDF; `cursor` is behind the mark. */
static bool take_marked(struct wire_cursor *cursor, struct wire_item *item, uint8_t mark)
{
    bool ok = true;
    uint64_t size = 0;
    switch (mark) {
    case 0xC0:
        item->type = WIRE_ITEM_NIL;
        return true;
    case 0xC2:
    case 0xC3:
        item->type = WIRE_ITEM_BOOL;
        item->number = mark & 1U;
        return true;
    case 0xC4:
    case 0xC5:
    case 0xC6:
        item->type = WIRE_ITEM_BIN;
        size = take_number(cursor, (size_t)1 << (mark - 0xC4), &ok);
        return ok && take_bytes(cursor, item, size);
    case 0xC7:
    case 0xC8:
    case 0xC9: /* length, then a type byte, then the content */
        item->type = WIRE_ITEM_EXT;
        size = take_number(cursor, (size_t)1 << (mark - 0xC7), &ok);
        (void)take_number(cursor, 1, &ok);
        return ok && take_bytes(cursor, item, size);
    case 0xCA:
    case 0xCB:
        item->type = WIRE_ITEM_FLOAT;
        return take_bytes(cursor, item, mark == 0xCA ? 4 : 8);
    case 0xCC:
    case 0xCD:
    case 0xCE:
    case 0xCF:
        item->type = WIRE_ITEM_UINT;
        item->number = take_number(cursor, (size_t)1 << (mark - 0xCC), &ok);
        return ok;
    case 0xD0:
    case 0xD1:
    case 0xD2:
    case 0xD3:
        return take_signed(cursor, item, (size_t)1 << (mark - 0xD0));
    case 0xD4:
    case 0xD5:
    case 0xD6:
    case 0xD7:
    case 0xD8: /* a type byte, then 1, 2, 4, 8 or 16 bytes */
        item->type = WIRE_ITEM_EXT;
        (void)take_number(cursor, 1, &ok);
        return ok && take_bytes(cursor, item, (uint64_t)1 << (mark - 0xD4));
    case 0xD9:
    case 0xDA:
    case 0xDB:
        item->type = WIRE_ITEM_STR;
        size = take_number(cursor, (size_t)1 << (mark - 0xD9), &ok);
        return ok && take_bytes(cursor, item, size);
    case 0xDC:
    case 0xDD:
        item->type = WIRE_ITEM_ARRAY;
        item->count = (uint32_t)take_number(cursor, mark == 0xDC ? 2 : 4, &ok);
        return ok;
    case 0xDE:
    case 0xDF:
        item->type = WIRE_ITEM_MAP;
        item->count = (uint32_t)take_number(cursor, mark == 0xDE ? 2 : 4, &ok);
        return ok;
    default: /* 0xC1 is never used */
        return false;
    }
}

bool wire_take_wide(struct wire_cursor *cursor, struct wire_item *item)
{
    struct wire_cursor next = *cursor;
    assert(wire_left(&next) > 0);
    uint8_t mark = *next.at++;
    if (mark >= 0xE0) {
        set_signed(item, (int8_t)mark);
    } else if (!take_marked(&next, item, mark)) {
        return false;
    }
    *cursor = next;
    return true;
}

bool wire_skip(struct wire_cursor *cursor)
{
    struct wire_cursor next = *cursor;
    uint64_t left[WIRE_DEPTH_MAX]; /* elements due in each open container */
    unsigned depth = 0;
    uint64_t due = 1; /* over all levels, the object itself at first */
    while (due > 0) {
        struct wire_item item;
        /* Each element takes a byte: more than there are is hopeless, and need not be walked. */
        if (due > wire_left(&next) || !wire_take(&next, &item)) {
            return false;
        }
        due--;
        if (depth > 0) {
            left[depth - 1]--;
        }
        uint64_t inside = item.type == WIRE_ITEM_ARRAY ? item.count
                          : item.type == WIRE_ITEM_MAP ? (uint64_t)item.count * 2
                                                       : 0;
        bool container = item.type == WIRE_ITEM_ARRAY || item.type == WIRE_ITEM_MAP;
        if (container && depth == WIRE_DEPTH_MAX) {
            return false;
        }
        if (inside > 0) {
            left[depth++] = inside;
            due += inside;
        }
        while (depth > 0 && left[depth - 1] == 0) {
            depth--;
        }
    }
    *cursor = next;
    return true;
}

bool wire_walk(struct bytes bytes)
{
    struct wire_cursor cursor = wire_cursor_on(bytes);
    return wire_skip(&cursor) && wire_left(&cursor) == 0;
}
