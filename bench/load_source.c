/* What connections ask in several workloads; see load.h. */
#include "bench/load.h"

bool load_each(void *context, unsigned connection, struct protocol_item *item)
{
    struct load_each *each = context;
    (void)connection;
    if (each->thread >= each->end) {
        return false;
    }
    *item = (struct protocol_item){.op = each->op, .thread = each->thread++, .steps = 1};
    return true;
}

bool load_any(void *context, unsigned connection, struct protocol_item *item)
{
    struct load_any *any = context;
    (void)connection;
    uint64_t number = protocol_mix(any->state++);
    uint32_t thread = (uint32_t)(((number >> 32) * any->threads) >> 32);
    *item = (struct protocol_item){.op = PROTOCOL_REPLAY, .thread = thread, .steps = 1};
    return true;
}
