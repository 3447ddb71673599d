/*
 * A made-up domain for tests of dispatch, since the real one cannot be held from outside in the
 * states that matter here: again, pending, found on disk. And the dispatch over it.
 *
 * Header only, and it defines the functions that the headers of thread/ declare: include it once in
 * a program, which then does not take them from thread/.
 */
#ifndef RETHREAD_TESTS_SERVER_MADE_UP_H
#define RETHREAD_TESTS_SERVER_MADE_UP_H

#include "server/dispatch.h"
#include "tests/lib/notation.h"
#include "tests/lib/reply.h"
#include "thread/operations.h"
#include "thread/tier.h"

#include <check.h>

struct lane {
    uint64_t counts[METRIC_COUNT];
    bool online;
};

struct step {
    uint32_t segment_bytes;
};

static struct lane lane;
static unsigned again;      /* so many operations more say "again" */
static unsigned operations; /* that were asked for */
static char prefetches[64]; /* the first of them: directory entry, bucket, record */
static uint64_t work;       /* of all operations since the last tend */
static uint64_t work_of_each;
static struct step step_made;
static uint32_t steps_made;
static uint8_t payload[1 << 16];
static struct tier_change change_made;
static bool on_disk; /* where things are found */
static bool pends;   /* what can wait for the disk does */
static struct lane_wait *waits[8];
static unsigned wait_count;

/* ---- The operations ---- */

static enum status outcome(void)
{
    assert(lane.online);
    operations++;
    work += work_of_each;
    if (again == 0) {
        return STATUS_OK;
    }
    again--;
    return STATUS_AGAIN;
}

struct lane *lane_open(struct threads *threads, unsigned share, unsigned shares)
{
    (void)threads;
    return share < shares ? &lane : NULL;
}

void lane_settle(struct lane *settled)
{
    assert(settled == &lane);
}

bool lane_close(struct lane *closed)
{
    assert(closed == &lane);
    return true;
}

void lane_online(struct lane *at)
{
    assert(!at->online);
    at->online = true;
}

void lane_offline(struct lane *at)
{
    assert(at->online);
    at->online = false;
}

uint64_t lane_read_clock(struct lane *at)
{
    assert(at->online);
    return 1;
}

uint64_t lane_work(const struct lane *at)
{
    assert(at->online);
    return work;
}

bool lane_tend(struct lane *at)
{
    work = 0;
    return at->counts[METRIC_DEFERRALS] > 0;
}

static int64_t charged;

void lane_await(struct lane *at, struct tier_change *pending, struct lane_wait *wait)
{
    assert(at->online && pending == &change_made && wait_count < 8);
    waits[wait_count++] = wait;
}

uint64_t lane_waits(const struct lane *at)
{
    (void)at;
    return 0;
}

void lane_charge(struct lane *at, int64_t bytes)
{
    (void)at;
    charged += bytes;
}

void lane_count(struct lane *at, enum metric metric, uint64_t by)
{
    at->counts[metric] += by;
}

void threads_metrics(struct lane *at, uint64_t values[METRIC_COUNT])
{
    memcpy(values, at->counts, sizeof at->counts);
}

static void prefetched(char what)
{
    size_t length = strlen(prefetches);
    if (length + 1 < sizeof prefetches) {
        prefetches[length] = what;
    }
}

void thread_prefetch_directory(struct lane *at, struct wire_request *request,
                               struct thread_hint *hint)
{
    (void)at;
    hint->has_name = true;
    hint->hash.low = (uint64_t)(uintptr_t)request;
    prefetched('d');
}

void thread_prefetch_bucket(struct lane *at, const struct thread_hint *hint)
{
    (void)at;
    if (hint->has_name) {
        prefetched('b');
    }
}

void thread_prefetch_steps(const struct lane *at, const struct wire_request *request,
                           const struct thread_hint *hint)
{
    (void)at;
    if (hint->has_name) {
        ck_assert_uint_eq(hint->hash.low, (uint64_t)(uintptr_t)request);
        prefetched('s');
    }
}

void thread_prefetch_record(struct lane *at, struct wire_request *request, struct thread_hint *hint)
{
    (void)at;
    if (hint->has_name) {
        ck_assert_uint_eq(hint->hash.low, (uint64_t)(uintptr_t)request);
        prefetched('r');
    }
}

enum status thread_append(struct lane *at, const struct wire_request *request,
                          struct thread_append_result *result, struct wire_error *error)
{
    (void)at;
    (void)request;
    (void)error;
    *result = (struct thread_append_result){.version = 1, .pending = pends ? &change_made : NULL};
    return outcome();
}

enum status thread_commit(struct lane *at, const struct wire_request *request,
                          struct thread_append_result *result, struct wire_error *error)
{
    (void)at;
    (void)request;
    (void)error;
    *result = (struct thread_append_result){.version = 2, .pending = pends ? &change_made : NULL};
    return outcome();
}

enum status thread_begin(struct lane *at, const struct wire_request *request,
                         struct thread_begin_result *result, struct wire_error *error)
{
    (void)at;
    (void)request;
    (void)error;
    *result = (struct thread_begin_result){.version = 1, .claim = 9};
    return outcome();
}

enum status thread_chunk(struct lane *at, const struct wire_request *request,
                         struct thread_chunk_result *result, struct wire_error *error)
{
    (void)at;
    (void)error;
    *result = (struct thread_chunk_result){.step_bytes = request->payload_bytes};
    return outcome();
}

enum status thread_abort(struct lane *at, const struct wire_request *request,
                         struct wire_error *error)
{
    (void)at;
    (void)request;
    (void)error;
    return outcome();
}

enum status thread_replay(struct lane *at, const struct wire_request *request,
                          struct thread_replay_result *result, struct wire_error *error)
{
    (void)at;
    (void)error;
    *result = (struct thread_replay_result){
        .thread = request->thread,
        .from_disk = on_disk,
        .version = 1,
        .end = steps_made,
        .listed = steps_made,
        .segment_count = steps_made,
    };
    return outcome();
}

const struct step *thread_replay_step(const struct lane *at,
                                      const struct thread_replay_result *result, uint32_t position,
                                      enum reason *missing)
{
    (void)at;
    assert(position < result->end);
    *missing = REASON_NONE;
    return &step_made;
}

void step_view(const struct step *step, struct step_view *view)
{
    *view = (struct step_view){
        .segment_count = 1,
        .payload_bytes = step->segment_bytes,
        .payload = bytes_of(payload, step->segment_bytes),
    };
}

enum wire_kind step_segment_kind(const struct step *step, unsigned segment)
{
    assert(step == &step_made && segment == 0);
    return WIRE_KIND_OPAQUE;
}

uint32_t step_segment_bytes(const struct step *step, unsigned segment)
{
    assert(segment == 0);
    return step->segment_bytes;
}

static int pins;

void step_pin(const struct step *step)
{
    assert(step == &step_made);
    pins++;
}

void step_unpin(const struct step *step)
{
    assert(step == &step_made);
    pins--;
}

enum status thread_stat(struct lane *at, const struct wire_request *request,
                        struct thread_stat_result *result, struct wire_error *error)
{
    (void)at;
    (void)request;
    (void)error;
    *result = (struct thread_stat_result){.version = 1, .on_disk = on_disk};
    return outcome();
}

enum status thread_touch(struct lane *at, struct bytes id, bool has_ttl, uint64_t ttl_ms,
                         enum reason *missing)
{
    (void)at;
    (void)id;
    (void)has_ttl;
    (void)ttl_ms;
    *missing = REASON_NONE;
    return outcome();
}

enum status thread_fork(struct lane *at, const struct wire_request *request,
                        struct thread_fork_result *result, struct wire_error *error)
{
    (void)at;
    (void)request;
    (void)error;
    *result = (struct thread_fork_result){.version = 1};
    return outcome();
}

enum status thread_rewind(struct lane *at, const struct wire_request *request,
                          struct thread_rewind_result *result, struct wire_error *error)
{
    (void)at;
    (void)request;
    (void)error;
    *result = (struct thread_rewind_result){.version = 1};
    return outcome();
}

enum status thread_forget(struct lane *at, const struct wire_request *request,
                          struct thread_forget_result *result, struct wire_error *error)
{
    (void)at;
    (void)request;
    (void)error;
    *result =
        (struct thread_forget_result){.forgotten = true, .pending = pends ? &change_made : NULL};
    return outcome();
}

enum status thread_list(struct lane *at, const struct wire_request *request,
                        struct thread_list_result *result, struct wire_error *error)
{
    (void)at;
    (void)request;
    (void)error;
    result->count = 1;
    result->listed[0] = (struct thread_listed){.id = bytes_text("t"), .on_disk = on_disk};
    result->more = false;
    return outcome();
}

static bool awaits_room; /* what "again" is for */

bool thread_awaits_room(const struct lane *at)
{
    (void)at;
    return awaits_room;
}

enum status thread_give_up(struct lane *at, const struct wire_request *request,
                           struct wire_error *error)
{
    (void)at;
    (void)request;
    return wire_fail(error, STATUS_BUSY, "", "given up");
}

/* ---- The dispatch ---- */

static struct dispatch *dispatch;
static struct net_handler handler;
static struct net_reply reply;

static void open_with(bool has_disk)
{
    struct dispatch_settings settings = {
        .shares = 1, .frame_max_bytes = 65536, .patience_ms = 500, .has_disk = has_disk};
    memset(&lane, 0, sizeof lane);
    memset(prefetches, 0, sizeof prefetches);
    again = operations = 0;
    work = work_of_each = 0;
    steps_made = 0;
    pends = false;
    on_disk = false;
    wait_count = 0;
    memset(&reply, 0, sizeof reply);
    dispatch = dispatch_create(&settings);
    handler = dispatch_handler(dispatch);
    handler.online(handler.context);
}

static void close_all(void)
{
    ck_assert_uint_eq(reply.laters, 0);
    handler.offline(handler.context);
    reply_reset(&reply);
    dispatch_destroy(dispatch);
}

static unsigned serve_deferred(const struct bytes *bodies, unsigned count,
                               struct net_deferral deferral, bool *deferred)
{
    reply_reset(&reply);
    *deferred = !*deferred; /* whatever stood there */
    return handler.serve(handler.context, &reply, bodies, count, deferral, deferred);
}

static unsigned serve(const struct bytes *bodies, unsigned count, unsigned attempts, bool *deferred)
{
    return serve_deferred(bodies, count, (struct net_deferral){attempts, attempts, false},
                          deferred);
}

static bool answered(const char *part)
{
    char *text = reply.size == 0 ? NULL : notation_decode(bytes_of(reply.out + 5, reply.size - 5));
    bool has = text != NULL && strstr(text, part) != NULL;
    free(text);
    return has;
}

#endif
