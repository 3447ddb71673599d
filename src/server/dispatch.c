/* Parses the bodies of one connection's turn, warms the caches for them, and runs them in order. */
#include "server/dispatch.h"

#include "server/answer.h"
#include "server/dispatch_private.h"
#include "wire/parse.h"

#include <assert.h>
#include <stdlib.h>

enum { FRAME_MAX_BYTES_MIN = 65536 };

static_assert((int)WIRE_ERROR_FRAME_BYTES_MAX <= (int)NET_REPLY_SMALL_BYTES,
              "an error always fits the room that every request gets first");

enum outcome dispatch_room(struct net_reply *reply, uint64_t bytes, struct wire_writer *writer)
{
    uint8_t *room = bytes <= SIZE_MAX ? net_reply_room(reply, (size_t)bytes) : NULL;
    if (room == NULL) {
        return NO_ROOM;
    }
    *writer = wire_writer_on(room, (size_t)bytes);
    return ANSWERED;
}

enum outcome dispatch_commit(struct net_reply *reply, const struct wire_writer *writer,
                             const uint8_t *start)
{
    assert(!writer->overflow && writer->at > start);
    net_reply_commit(reply, (size_t)(writer->at - start));
    return ANSWERED;
}

enum outcome dispatch_error(struct dispatch *dispatch, struct net_reply *reply,
                            const struct job *job, const struct wire_error *error)
{
    struct wire_writer writer;
    if (dispatch_room(reply, WIRE_ERROR_FRAME_BYTES_MAX, &writer) == NO_ROOM) {
        return NO_ROOM;
    }
    const uint8_t *start = writer.at;
    wire_put_error(&writer, job->has_msgid, job->request.msgid, error);
    lane_count(dispatch->lane, METRIC_ERRORS, 1);
    return dispatch_commit(reply, &writer, start);
}

enum outcome dispatch_no_room(struct dispatch *dispatch, struct net_reply *reply, struct job *job)
{
    wire_fail(&job->error, STATUS_OVER_BUDGET, "",
              "the reply finds no room in the buffers; ask for less with max_bytes, last or limit");
    return dispatch_error(dispatch, reply, job, &job->error);
}

enum outcome dispatch_status(struct dispatch *dispatch, struct net_reply *reply, struct job *job,
                             enum status status)
{
    assert(status != STATUS_OK);
    return status == STATUS_AGAIN ? DEFERRED : dispatch_error(dispatch, reply, job, &job->error);
}

enum outcome dispatch_commit_pending(struct dispatch *dispatch, struct net_reply *reply,
                                     const struct job *job, struct waiting *waiting,
                                     struct tier_change *pending, const struct wire_writer *writer,
                                     const uint8_t *start, const char *advice)
{
    if (pending == NULL) {
        waiting_cancel(waiting);
        return dispatch_commit(reply, writer, start);
    }
    assert(waiting != NULL && !writer->overflow);
    waiting_begin(waiting, dispatch->lane, pending, job->request.msgid,
                  bytes_of(start, (size_t)(writer->at - start)), advice);
    return ANSWERED;
}

static enum outcome run_stat(struct dispatch *dispatch, struct net_reply *reply, struct job *job,
                             struct wire_writer *writer)
{
    const uint8_t *start = writer->at;
    struct thread_stat_result result;
    enum status status = thread_stat(dispatch->lane, &job->request, &result, &job->error);
    if (status != STATUS_OK) {
        return dispatch_status(dispatch, reply, job, status);
    }
    answer_stat(writer, job->request.msgid, &result);
    return dispatch_commit(reply, writer, start);
}

static enum outcome run_touch(struct dispatch *dispatch, struct net_reply *reply, struct job *job)
{
    const struct wire_request *request = &job->request;
    struct wire_list ids = request->threads;
    bool has_ttl = wire_given(request, WIRE_FIELD_ttl_ms);
    uint64_t bound =
        NET_REPLY_SMALL_BYTES + ids.encoded.size + (uint64_t)ids.count * ANSWER_MISSING_BYTES_MAX;
    if (bound > dispatch->settings.frame_max_bytes) {
        wire_fail(&job->error, STATUS_TOO_LARGE, "threads",
                  "the reply could be larger than frame_max; touch fewer threads at once");
        return dispatch_error(dispatch, reply, job, &job->error);
    }
    struct wire_writer writer;
    if (dispatch_room(reply, bound, &writer) == NO_ROOM) {
        return dispatch_no_room(dispatch, reply, job);
    }
    /* The missing ones are written where they would stand if all were, and moved up behind the
     * head once their number is known. */
    uint8_t *start = writer.at;
    uint64_t touched = 0;
    uint32_t missing = 0;
    bool again = false;
    struct bytes id;
    struct wire_writer tail =
        wire_writer_on(start + NET_REPLY_SMALL_BYTES, (size_t)(bound - NET_REPLY_SMALL_BYTES));
    while (wire_list_next(&ids, &id)) {
        enum reason reason;
        enum status status = thread_touch(dispatch->lane, id, has_ttl, request->ttl_ms, &reason);
        if (status == STATUS_AGAIN) {
            /* The others get their turn all the same, so that those on disk are loaded together. */
            again = true;
        } else if (status != STATUS_OK) {
            return dispatch_status(dispatch, reply, job, status);
        } else if (reason == REASON_NONE) {
            touched++;
        } else {
            answer_touch_missing(&tail, id, reason);
            missing++;
        }
    }
    if (again) {
        return DEFERRED;
    }
    assert(!tail.overflow);
    uint8_t *frame = answer_touch_begin(&writer, request->msgid, touched, missing);
    size_t tail_bytes = (size_t)(tail.at - (start + NET_REPLY_SMALL_BYTES));
    memmove(writer.at, start + NET_REPLY_SMALL_BYTES, tail_bytes);
    writer.at += tail_bytes;
    wire_end_frame(&writer, frame, 0);
    return dispatch_commit(reply, &writer, start);
}

static enum outcome run_fork(struct dispatch *dispatch, struct net_reply *reply, struct job *job,
                             struct wire_writer *writer)
{
    const uint8_t *start = writer->at;
    struct thread_fork_result result;
    enum status status = thread_fork(dispatch->lane, &job->request, &result, &job->error);
    if (status != STATUS_OK) {
        return dispatch_status(dispatch, reply, job, status);
    }
    answer_fork(writer, &job->request, &result);
    return dispatch_commit(reply, writer, start);
}

static enum outcome run_rewind(struct dispatch *dispatch, struct net_reply *reply, struct job *job,
                               struct wire_writer *writer)
{
    const uint8_t *start = writer->at;
    struct thread_rewind_result result;
    enum status status = thread_rewind(dispatch->lane, &job->request, &result, &job->error);
    if (status != STATUS_OK) {
        return dispatch_status(dispatch, reply, job, status);
    }
    answer_rewind(writer, job->request.msgid, &result);
    return dispatch_commit(reply, writer, start);
}

static enum outcome run_forget(struct dispatch *dispatch, struct net_reply *reply, struct job *job,
                               struct wire_writer *writer)
{
    static const char advice[] = "the thread is gone from memory, and the disk has not forgotten "
                                 "it; send the request again once the disk takes writes";
    const uint8_t *start = writer->at;
    struct waiting *waiting = dispatch->settings.has_disk ? waiting_reserve(reply) : NULL;
    if (dispatch->settings.has_disk && waiting == NULL) {
        return NO_ROOM;
    }
    struct thread_forget_result result;
    enum status status = thread_forget(dispatch->lane, &job->request, &result, &job->error);
    if (status != STATUS_OK) {
        waiting_cancel(waiting);
        return dispatch_status(dispatch, reply, job, status);
    }
    answer_forget(writer, job->request.msgid, result.forgotten);
    return dispatch_commit_pending(dispatch, reply, job, waiting, result.pending, writer, start,
                                   advice);
}

static enum outcome run_list(struct dispatch *dispatch, struct net_reply *reply, struct job *job)
{
    struct thread_list_result *list = &dispatch->list;
    /* A page of the longest ids fits a frame. */
    uint64_t fit = (dispatch->settings.frame_max_bytes - NET_REPLY_SMALL_BYTES) /
                   (ANSWER_LISTED_BYTES_MAX + WIRE_ID_BYTES_MAX);
    if (wire_given(&job->request, WIRE_FIELD_limit) && job->request.limit > fit) {
        job->request.limit = fit;
    }
    enum status status = thread_list(dispatch->lane, &job->request, list, &job->error);
    if (status != STATUS_OK) {
        return dispatch_status(dispatch, reply, job, status);
    }
    assert(list->count <= THREAD_LIST_MAX);
    struct wire_writer writer;
    if (dispatch_room(reply, answer_list_bytes(list), &writer) == NO_ROOM) {
        return dispatch_no_room(dispatch, reply, job);
    }
    const uint8_t *start = writer.at;
    answer_list(&writer, job->request.msgid, list);
    return dispatch_commit(reply, &writer, start);
}

static enum outcome run_info(struct dispatch *dispatch, struct net_reply *reply, struct job *job)
{
    uint64_t values[METRIC_COUNT] = {0};
    struct wire_writer writer;
    if (dispatch_room(reply, answer_info_bytes(), &writer) == NO_ROOM) {
        return dispatch_no_room(dispatch, reply, job);
    }
    threads_metrics(dispatch->lane, values);
    if (dispatch->settings.gauges != NULL) {
        dispatch->settings.gauges(dispatch->settings.gauges_context, values);
    }
    const uint8_t *start = writer.at;
    answer_info(&writer, job->request.msgid, values);
    return dispatch_commit(reply, &writer, start);
}

static enum outcome run_plain(struct dispatch *dispatch, struct net_reply *reply,
                              const struct job *job, struct wire_writer *writer)
{
    const uint8_t *start = writer->at;
    if (job->request.method == WIRE_METHOD_HELLO) {
        answer_hello(writer, job->request.msgid, dispatch->settings.frame_max_bytes);
    } else {
        assert(job->request.method == WIRE_METHOD_PING);
        answer_ping(writer, job->request.msgid);
    }
    return dispatch_commit(reply, writer, start);
}

static enum outcome run(struct dispatch *dispatch, struct net_reply *reply, struct job *job)
{
    /* Room for the small answer or the error comes first: what was done can then be told. */
    struct wire_writer writer;
    if (dispatch_room(reply, NET_REPLY_SMALL_BYTES, &writer) == NO_ROOM) {
        return NO_ROOM;
    }
    if (job->status != STATUS_OK) {
        return dispatch_error(dispatch, reply, job, &job->error);
    }
    switch (job->request.method) {
    case WIRE_METHOD_APPEND:
    case WIRE_METHOD_COMMIT:
        return dispatch_append(dispatch, reply, job, &writer);
    case WIRE_METHOD_BEGIN:
        return dispatch_begin(dispatch, reply, job, &writer);
    case WIRE_METHOD_CHUNK:
        return dispatch_chunk(dispatch, reply, job, &writer);
    case WIRE_METHOD_ABORT:
        return dispatch_abort(dispatch, reply, job, &writer);
    case WIRE_METHOD_REPLAY:
        return dispatch_replay(dispatch, reply, job);
    case WIRE_METHOD_STAT:
        return run_stat(dispatch, reply, job, &writer);
    case WIRE_METHOD_TOUCH:
        return run_touch(dispatch, reply, job);
    case WIRE_METHOD_FORK:
        return run_fork(dispatch, reply, job, &writer);
    case WIRE_METHOD_REWIND:
        return run_rewind(dispatch, reply, job, &writer);
    case WIRE_METHOD_FORGET:
        return run_forget(dispatch, reply, job, &writer);
    case WIRE_METHOD_LIST:
        return run_list(dispatch, reply, job);
    case WIRE_METHOD_INFO:
        return run_info(dispatch, reply, job);
    default:
        return run_plain(dispatch, reply, job, &writer);
    }
}

/* The way to what the requests will read: each step of it over all of them before the next, since
 * it leads on from what the one before brought in. */
static void warm(struct dispatch *dispatch, unsigned count)
{
    struct job *jobs = dispatch->jobs;
    struct thread_hint *hints = dispatch->hints;
    for (unsigned i = 0; i < count; i++) {
        hints[i] = (struct thread_hint){.has_name = false};
        if (jobs[i].status == STATUS_OK) {
            thread_prefetch_directory(dispatch->lane, &jobs[i].request, &hints[i]);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        thread_prefetch_bucket(dispatch->lane, &hints[i]);
    }
    for (unsigned i = 0; i < count; i++) {
        thread_prefetch_record(dispatch->lane, &jobs[i].request, &hints[i]);
    }
}

static void make_jobs(struct dispatch *dispatch, const struct bytes *bodies, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct job *job = &dispatch->jobs[i];
        job->status = wire_parse(bodies[i], &job->request, &job->has_msgid, &job->error);
    }
    dispatch->warmed_count = count > 1 ? count : 0;
    warm(dispatch, dispatch->warmed_count);
}

static void prepare(void *context, const struct bytes *bodies, unsigned count)
{
    struct dispatch *dispatch = context;
    assert(count >= 1 && count <= NET_BATCH_MAX);
    make_jobs(dispatch, bodies, count);
    dispatch->prepared = bodies;
    dispatch->prepared_count = count;
}

/* The jobs of these bodies, made now if they were not before. */
static struct job *jobs_of(struct dispatch *dispatch, const struct bytes *bodies, unsigned count)
{
    /* As numbers, since the arrays need not be one; what lies before wraps around. */
    size_t index = ((uintptr_t)bodies - (uintptr_t)dispatch->prepared) / sizeof *bodies;
    if (index < dispatch->prepared_count) {
        assert(dispatch->prepared + index == bodies && count <= dispatch->prepared_count - index);
        return &dispatch->jobs[index];
    }
    dispatch->prepared_count = 0;
    make_jobs(dispatch, bodies, count);
    return dispatch->jobs;
}

/* Of a request that was deferred just now. */
static bool lasted(const struct dispatch *dispatch, struct net_deferral deferral)
{
    bool for_room = thread_awaits_room(dispatch->lane) && !deferral.draining;
    uint64_t patience_ms =
        for_room ? dispatch->settings.room_patience_ms : dispatch->settings.patience_ms;
    return deferral.attempts >= DISPATCH_ATTEMPTS_MIN && deferral.time_ms >= patience_ms;
}

/* Instead of deferring once more. */
static enum outcome give_up(struct dispatch *dispatch, struct net_reply *reply, struct job *job)
{
    enum status status = thread_give_up(dispatch->lane, &job->request, &job->error);
    assert(status != STATUS_OK && status != STATUS_AGAIN);
    if (job->request.method == WIRE_METHOD_TOUCH && job->request.threads.count > 1) {
        wire_fail(&job->error, status, "",
                  "one of the threads stayed occupied by others, and any of the rest may have been "
                  "refreshed; touch them all again");
    }
    return dispatch_error(dispatch, reply, job, &job->error);
}

/* Another request may follow in this turn. Its own work counts, nobody else's. */
static bool may_go_on(const struct dispatch *dispatch, const struct net_reply *reply,
                      uint64_t work_before)
{
    return !net_reply_is_full(reply) &&
           lane_work(dispatch->lane) - work_before <= DISPATCH_WORK_MAX;
}

/* The last hint for a request that will have its turn soon, of this connection or the next. */
static void warm_ahead(const struct dispatch *dispatch, const struct job *job)
{
    size_t ahead = (size_t)(job - dispatch->jobs) + THREAD_PREFETCH_AHEAD;
    if (ahead < dispatch->warmed_count) {
        thread_prefetch_steps(dispatch->lane, &dispatch->jobs[ahead].request,
                              &dispatch->hints[ahead]);
    }
}

static unsigned serve(void *context, struct net_reply *reply, const struct bytes *bodies,
                      unsigned count, struct net_deferral deferral, bool *deferred)
{
    struct dispatch *dispatch = context;
    assert(count >= 1 && count <= NET_BATCH_MAX);
    *deferred = false;
    struct job *jobs = jobs_of(dispatch, bodies, count);
    unsigned done = 0;
    uint64_t work_before = lane_work(dispatch->lane);
    for (; done < count && (done == 0 || may_go_on(dispatch, reply, work_before)); done++) {
        struct job *job = &jobs[done];
        warm_ahead(dispatch, job);
        enum outcome outcome = run(dispatch, reply, job);
        if (outcome == DEFERRED && done == 0 && lasted(dispatch, deferral)) {
            outcome = give_up(dispatch, reply, job);
        }
        if (outcome == DEFERRED) {
            lane_count(dispatch->lane, METRIC_DEFERRALS, 1);
            *deferred = true;
            if (thread_awaits_room(dispatch->lane)) {
                net_reply_be_patient(reply);
            }
        }
        if (outcome != ANSWERED) {
            break;
        }
    }
    if (done > 0) {
        lane_count(dispatch->lane, METRIC_REQUESTS, done);
    }
    if (lane_work(dispatch->lane) - work_before > DISPATCH_WORK_MAX) {
        net_reply_hurry(reply);
    }
    return done;
}

static bool refuse(void *context, struct net_reply *reply, struct bytes body, enum status status)
{
    struct dispatch *dispatch = context;
    struct job *job = &dispatch->refused;
    static const char *const messages[STATUS_COUNT] = {
        [STATUS_SHUTTING_DOWN] = "the server is draining; nothing was done",
        [STATUS_TOO_LARGE] = "the frame is larger than frame_max; hello tells the limit",
        [STATUS_OVER_BUDGET] =
            "the request is larger than the memory budget lets in; send less, or "
            "give --memory more",
        [STATUS_BUSY] = "the server is occupied; nothing was done, try again",
        [STATUS_BAD_REQUEST] = "a frame begins with the byte CE; framing is lost",
    };
    assert(messages[status] != NULL);
    (void)wire_parse(body, &job->request, &job->has_msgid, &job->error); /* for its msgid */
    wire_fail(&job->error, status, "", "%s", messages[status]);
    if (dispatch_error(dispatch, reply, job, &job->error) == NO_ROOM) {
        return false;
    }
    lane_count(dispatch->lane, METRIC_REQUESTS, 1);
    return true;
}

static void pin(const void *object)
{
    step_pin(object);
}

static void unpin(const void *object)
{
    step_unpin(object);
}

static void online(void *context)
{
    struct dispatch *dispatch = context;
    lane_online(dispatch->lane);
    (void)lane_read_clock(dispatch->lane);
}

static void offline(void *context)
{
    lane_offline(((struct dispatch *)context)->lane);
}

static void read_clock(void *context)
{
    (void)lane_read_clock(((struct dispatch *)context)->lane);
}

static bool tend(void *context)
{
    return lane_tend(((struct dispatch *)context)->lane);
}

static void charge(void *context, int64_t bytes)
{
    lane_charge(((struct dispatch *)context)->lane, bytes);
}

static void count_metric(void *context, enum metric metric, uint64_t by)
{
    lane_count(((struct dispatch *)context)->lane, metric, by);
}

struct net_handler dispatch_handler(struct dispatch *dispatch)
{
    return (struct net_handler){
        .context = dispatch,
        .prepare = prepare,
        .serve = serve,
        .refuse = refuse,
        .pin = pin,
        .unpin = unpin,
        .online = online,
        .offline = offline,
        .read_clock = read_clock,
        .tend = tend,
        .charge = charge,
        .count = count_metric,
    };
}

struct dispatch *dispatch_create(const struct dispatch_settings *settings)
{
    struct dispatch *dispatch = calloc(1, sizeof *dispatch);
    if (dispatch == NULL) {
        return NULL;
    }
    assert(settings->frame_max_bytes >= FRAME_MAX_BYTES_MIN);
    dispatch->settings = *settings;
    if (dispatch->settings.patience_ms == 0) {
        dispatch->settings.patience_ms = DISPATCH_PATIENCE_MS;
    }
    if (dispatch->settings.room_patience_ms == 0) {
        dispatch->settings.room_patience_ms = DISPATCH_ROOM_PATIENCE_MS;
    }
    dispatch->lane = lane_open(settings->threads, settings->share, settings->shares);
    if (dispatch->lane == NULL) {
        free(dispatch);
        return NULL;
    }
    return dispatch;
}

bool dispatch_destroy(struct dispatch *dispatch)
{
    if (dispatch == NULL) {
        return true;
    }
    lane_settle(dispatch->lane);
    if (!lane_close(dispatch->lane)) {
        return false;
    }
    free(dispatch);
    return true;
}
