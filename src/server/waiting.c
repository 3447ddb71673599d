/* Keeps the answer beside the change that it waits for. */
#include "server/waiting.h"

#include "wire/compose.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

struct waiting {
    struct lane_wait wait;
    struct net_later *later;
    struct lane *lane;
    const char *advice;
    uint32_t msgid;
    uint32_t frame_bytes;
    uint8_t frame[WAITING_FRAME_BYTES_MAX];
};

static_assert(sizeof(struct waiting) <= NET_REPLY_SMALL_BYTES, "it fits a later reply's room");

struct waiting *waiting_reserve(struct net_reply *reply)
{
    struct net_later *later = net_reply_later(reply, sizeof(struct waiting));
    if (later == NULL) {
        return NULL;
    }
    struct waiting *waiting = net_later_room(later);
    waiting->later = later;
    return waiting;
}

void waiting_cancel(struct waiting *waiting)
{
    if (waiting != NULL) {
        net_later_cancel(waiting->later);
    }
}

static void done(struct lane_wait *wait, enum status status)
{
    struct waiting *waiting = (struct waiting *)((char *)wait - offsetof(struct waiting, wait));
    if (status == STATUS_OK) {
        net_later_send(waiting->later, waiting->frame, waiting->frame_bytes);
        return;
    }
    assert(status == STATUS_READ_ONLY);
    struct wire_error error;
    struct wire_writer writer = wire_writer_on(waiting->frame, sizeof waiting->frame);
    (void)wire_fail(&error, status, "", "%s", waiting->advice);
    wire_put_error(&writer, true, waiting->msgid, &error);
    assert(!writer.overflow);
    lane_count(waiting->lane, METRIC_ERRORS, 1);
    net_later_send(waiting->later, waiting->frame, (size_t)(writer.at - waiting->frame));
}

void waiting_begin(struct waiting *waiting, struct lane *lane, struct tier_change *pending,
                   uint32_t msgid, struct bytes frame, const char *advice)
{
    assert(pending != NULL && frame.size > 0 && frame.size <= sizeof waiting->frame);
    waiting->wait.done = done;
    waiting->lane = lane;
    waiting->advice = advice;
    waiting->msgid = msgid;
    waiting->frame_bytes = (uint32_t)frame.size;
    memcpy(waiting->frame, frame.data, frame.size);
    lane_await(lane, pending, &waiting->wait);
}
