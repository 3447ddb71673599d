/* Gathers requests of several connections, runs them in their order, and answers. */
#include "net/group.h"

#include "net/connection.h"
#include "net/oversize.h"
#include "wire/parse.h"

#include <assert.h>

uint8_t *net_group_scratch(struct net_loop *loop)
{
    assert(loop->group.scratch_bytes <= NET_SCRATCH_BYTES - NET_QUOTA_BYTES);
    return loop->scratch + loop->group.scratch_bytes;
}

/* ---- Gathering ---------------------------------------------------------------------------- */

/* Returns the kind of frame behind the last that was taken; WHOLE: there was no place for more. */
static enum wire_frame gather(struct net_group *group, struct net_member *member,
                              uint64_t frame_max_bytes)
{
    size_t at = 0;
    member->first = group->body_count;
    for (unsigned next = group->body_count;; next++) {
        struct bytes rest = bytes_of(member->view.data + at, member->view.size - at);
        struct bytes body;
        uint64_t need;
        enum wire_frame frame = wire_frame_next(rest, frame_max_bytes, &body, &need);
        if (frame != WIRE_FRAME_WHOLE || next == NET_BATCH_MAX) {
            member->count = next - member->first;
            return frame;
        }
        at = (size_t)(body.data - member->view.data) + body.size;
        group->bodies[next] = body;
        group->ends[next] = at;
    }
}

/* Nothing to run: what the input begins with is hopeless, too large, or only a part. */
static void add_nothing(struct net_connection *connection, struct bytes view, enum wire_frame frame)
{
    if (frame == WIRE_FRAME_BROKEN) {
        net_connection_refuse(connection, bytes_of(NULL, 0), STATUS_BAD_REQUEST, "framing");
    } else if (frame == WIRE_FRAME_TOO_LARGE) {
        net_connection_refuse(connection, bytes_of(NULL, 0), STATUS_TOO_LARGE, "too_large");
    } else if (!net_oversize_refuse(connection, view) && net_connection_keep(connection, view, 0)) {
        net_connection_settle(connection);
    }
}

void net_group_add(struct net_connection *connection, struct bytes view)
{
    struct net_loop *loop = connection->loop;
    struct net_group *group = &loop->group;
    struct net_member member = {.connection = connection, .view = view};
    uint64_t frame_max_bytes = loop->shared->settings.frame_max_bytes;
    assert(group->body_count < NET_BATCH_MAX);
    enum wire_frame frame = gather(group, &member, frame_max_bytes);
    if (frame == WIRE_FRAME_WHOLE && group->member_count > 0) {
        net_group_run(loop); /* for a place for all of them */
        frame = gather(group, &member, frame_max_bytes);
    }
    if (member.count == 0) {
        add_nothing(connection, view, frame);
        return;
    }
    group->members[group->member_count++] = member;
    group->body_count += member.count;
    if (group->member_count == 1) {
        group->moved_bytes = loop->received_bytes + loop->sent_bytes;
    }
    if (view.data >= loop->scratch && view.data < loop->scratch + NET_SCRATCH_BYTES) {
        group->scratch_bytes = (size_t)(view.data - loop->scratch) + view.size;
    }
    if (group->body_count == NET_BATCH_MAX ||
        group->scratch_bytes > NET_SCRATCH_BYTES - NET_QUOTA_BYTES) {
        net_group_run(loop);
    }
}

/* ---- Running ------------------------------------------------------------------------------ */

/* How many of its requests were there when the drain began. */
static unsigned count_due(const struct net_group *group, const struct net_member *member)
{
    unsigned count = 0;
    while (count < member->count &&
           group->ends[member->first + count] <= member->connection->due_bytes) {
        count++;
    }
    return count;
}

static unsigned refuse_late(struct net_loop *loop, const struct net_member *member)
{
    const struct bytes *bodies = loop->group.bodies + member->first;
    unsigned consumed = 0;
    while (consumed < member->count && !net_reply_is_full(&loop->reply) &&
           loop->handler->refuse(loop->handler->context, &loop->reply, bodies[consumed],
                                 STATUS_SHUTTING_DOWN)) {
        consumed++;
    }
    return consumed;
}

static unsigned run_requests(struct net_loop *loop, const struct net_member *member)
{
    struct net_connection *connection = member->connection;
    unsigned count = loop->draining ? count_due(&loop->group, member) : member->count;
    unsigned consumed;
    bool deferred = false;
    connection->late = count == 0;
    struct net_deferral deferral = {.attempts = connection->attempts, .draining = loop->draining};
    if (deferral.attempts > 0) {
        deferral.time_ms = loop->now_ms - connection->deferred_ms;
    }
    if (count == 0) {
        consumed = refuse_late(loop, member);
    } else {
        loop->reply.connection = connection;
        consumed =
            loop->handler->serve(loop->handler->context, &loop->reply,
                                 loop->group.bodies + member->first, count, deferral, &deferred);
        loop->reply.connection = NULL;
    }
    assert(consumed <= member->count);
    bool was_patient = connection->patient;
    connection->patient = deferred && loop->reply.patient;
    loop->patience_over |= was_patient && (consumed > 0 || !connection->patient);
    if (!deferred) {
        connection->attempts = 0;
    } else if (consumed > 0 || connection->attempts == 0) {
        connection->attempts = 1;
        connection->deferred_ms = loop->now_ms;
    } else {
        connection->attempts++;
    }
    return consumed;
}

/* Returns how many bytes its requests had. */
static size_t run_member(struct net_loop *loop, struct net_member *member)
{
    struct net_connection *connection = member->connection;
    net_reply_begin(&loop->reply);
    unsigned consumed = run_requests(loop, member);
    member->part = net_reply_part(&loop->reply);
    member->stuck = consumed == 0 && connection->attempts == 0;
    size_t used = consumed > 0 ? loop->group.ends[member->first + consumed - 1] : 0;
    if (consumed > 0) {
        connection->request_ms = loop->now_ms;
    }
    connection->due_bytes -= used < connection->due_bytes ? used : connection->due_bytes;
    if (!net_connection_keep(connection, member->view, used)) {
        member->connection = NULL;
    }
    return used;
}

static void answer(struct net_member *members, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct net_connection *connection = members[i].connection;
        if (connection == NULL || !net_connection_send_part(connection, &members[i].part)) {
            continue;
        }
        if (members[i].stuck && !connection->output) {
            net_connection_stall(connection);
        } else {
            net_connection_settle(connection);
        }
    }
}

void net_group_run(struct net_loop *loop)
{
    struct net_group *group = &loop->group;
    const struct net_handler *handler = loop->handler;
    unsigned answered = 0;
    size_t taken_bytes = 0; /* of requests, since */
    if (group->member_count > 0) {
        handler->read_clock(handler->context);
        if (handler->prepare) {
            handler->prepare(handler->context, group->bodies, group->body_count);
        }
    }
    for (unsigned i = 0; i < group->member_count; i++) {
        taken_bytes += run_member(loop, &group->members[i]);
        if (i + 1 == group->member_count || taken_bytes >= NET_HEAVY_BYTES ||
            net_reply_is_heavy(&loop->reply)) {
            answer(group->members + answered, i + 1 - answered);
            answered = i + 1;
            taken_bytes = 0;
            net_reply_reset(&loop->reply);
        }
    }
    group->body_count = 0;
    group->member_count = 0;
    group->scratch_bytes = 0;
}

void net_group_hasten(struct net_loop *loop)
{
    const struct net_group *group = &loop->group;
    if (group->member_count > 0 &&
        loop->received_bytes + loop->sent_bytes - group->moved_bytes >= NET_QUOTA_BYTES) {
        net_group_run(loop);
    }
}
