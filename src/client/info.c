/* The result of info: metrics by section, whatever the server has. */
#include "client/fields.h"

/* Where metrics go; without items they are only counted. */
struct metrics {
    struct rethread_metric *items;
    size_t count;
};

/* Takes the head of the next item if it is of that type, and passes over the whole item if not. */
static bool read_if(struct client_decoder *decoder, enum wire_item_type type,
                    struct wire_item *item, bool *taken)
{
    struct wire_cursor start = decoder->cursor;
    if (!wire_take(&decoder->cursor, item))
        return false;
    *taken = item->type == type;
    if (*taken)
        return true;
    decoder->cursor = start;
    return wire_skip(&decoder->cursor);
}

static bool read_metric(struct client_decoder *decoder, const char *section,
                        struct metrics *metrics)
{
    struct rethread_bytes name;
    struct wire_item value;
    bool taken;
    if (!client_take_bytes(&decoder->cursor, &name) ||
        !read_if(decoder, WIRE_ITEM_UINT, &value, &taken))
        return false;
    if (!taken)
        return true;
    size_t index = metrics->count++;
    if (metrics->items == NULL)
        return true;
    metrics->items[index].section = section;
    metrics->items[index].value = value.number;
    return client_copy_text(decoder, name, &metrics->items[index].name);
}

/* {section: {name: number}} */
static bool read_sections(struct client_decoder *decoder, struct metrics *metrics)
{
    uint32_t sections;
    if (!client_take_map(&decoder->cursor, &sections))
        return false;
    for (uint32_t i = 0; i < sections; i++) {
        struct rethread_bytes name;
        struct wire_item section;
        bool taken;
        const char *text = NULL;
        if (!client_take_bytes(&decoder->cursor, &name) ||
            !read_if(decoder, WIRE_ITEM_MAP, &section, &taken))
            return false;
        if (!taken)
            continue;
        if (metrics->items != NULL && !client_copy_text(decoder, name, &text))
            return false;
        for (uint32_t j = 0; j < section.count; j++)
            if (!read_metric(decoder, text, metrics))
                return false;
    }
    return true;
}

bool client_read_info(struct client_decoder *decoder, struct rethread_info_result *info)
{
    struct wire_cursor start = decoder->cursor;
    struct metrics metrics = {.items = NULL};
    if (!read_sections(decoder, &metrics))
        return false;
    metrics.items = client_decoder_alloc(decoder, metrics.count, sizeof *metrics.items);
    if (metrics.items == NULL)
        return false;
    metrics.count = 0;
    decoder->cursor = start;
    if (!read_sections(decoder, &metrics))
        return false;
    info->metrics = metrics.items;
    info->metric_count = metrics.count;
    return true;
}
