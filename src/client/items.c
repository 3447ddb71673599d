/* Items of MessagePack, taken one by one; see items.h. */
#include "client/items.h"

static bool take_typed(struct wire_cursor *cursor, enum wire_item_type type, struct wire_item *item)
{
    return wire_take(cursor, item) && item->type == type;
}

bool client_take_array(struct wire_cursor *cursor, uint32_t *count)
{
    struct wire_item item;
    bool taken = take_typed(cursor, WIRE_ITEM_ARRAY, &item);
    *count = taken ? item.count : 0;
    return taken;
}

bool client_take_map(struct wire_cursor *cursor, uint32_t *count)
{
    struct wire_item item;
    bool taken = take_typed(cursor, WIRE_ITEM_MAP, &item);
    *count = taken ? item.count : 0;
    return taken;
}

bool client_take_bytes(struct wire_cursor *cursor, struct rethread_bytes *bytes)
{
    struct wire_item item;
    if (!wire_take(cursor, &item) || (item.type != WIRE_ITEM_STR && item.type != WIRE_ITEM_BIN))
        return false;
    *bytes = (struct rethread_bytes){item.bytes.data, item.bytes.size};
    return true;
}

bool client_take_u64(struct wire_cursor *cursor, uint64_t *value)
{
    struct wire_item item;
    bool taken = take_typed(cursor, WIRE_ITEM_UINT, &item);
    *value = taken ? item.number : 0;
    return taken;
}

bool client_take_bool(struct wire_cursor *cursor, bool *value)
{
    struct wire_item item;
    bool taken = take_typed(cursor, WIRE_ITEM_BOOL, &item);
    *value = taken && item.number != 0;
    return taken;
}

bool client_take_nil(struct wire_cursor *cursor)
{
    struct wire_cursor next = *cursor;
    struct wire_item item;
    if (!take_typed(&next, WIRE_ITEM_NIL, &item))
        return false;
    *cursor = next;
    return true;
}
