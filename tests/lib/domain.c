/* A domain for tests: what a line of text asks for is done, and its result a line of text. */
#include "tests/lib/domain.h"

#include "tests/lib/domain_line.h"

#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TRIES_MAX = 100000, ANSWER_MAX = 1 << 18 };

struct writing {
    char text[ANSWER_MAX];
    size_t size;
};

struct threads_settings domain_settings(void)
{
    return (struct threads_settings){.memory_bytes = 64 << 20,
                                     .ttl_ms = DOMAIN_TTL_MS,
                                     .frame_max_bytes = 1 << 20,
                                     .tombstones = 4096,
                                     .lanes_max = 8};
}

void domain_open(struct domain *domain, struct threads_settings settings)
{
    *domain = (struct domain){0};
    clock_driven_init(&domain->clock, DOMAIN_START_MS);
    domain->settings = settings;
    settings.clock = &domain->clock.clock;
    domain->wall = (struct clock_driven *)settings.wall;
    assert(!settings.tier || (settings.wall && settings.hash_secret));
    domain->threads = threads_create(&settings);
    domain->lane = domain->threads ? lane_open(domain->threads, 0, 1) : NULL;
    if (!domain->lane) {
        fprintf(stderr, "no memory for the domain\n");
        abort();
    }
    lane_online(domain->lane);
    lane_read_clock(domain->lane);
}

void domain_close(struct domain *domain)
{
    lane_offline(domain->lane);
    lane_close(domain->lane);
    assert(domain->waiting == 0);
    threads_destroy(domain->threads);
}

void domain_wait(struct domain *domain, uint64_t by_ms)
{
    clock_driven_advance(&domain->clock, by_ms);
    if (domain->wall) {
        clock_driven_advance(domain->wall, by_ms);
    }
    lane_read_clock(domain->lane);
}

uint64_t domain_metric(struct domain *domain, enum metric metric)
{
    uint64_t values[METRIC_COUNT];
    threads_metrics(domain->lane, values);
    return values[metric];
}

/* Who is off the processor while online holds everybody's memory back: it gets time to go on. */
static void turn_over(struct lane *lane, int tries)
{
    struct timespec moment = {.tv_nsec = 200000};
    lane_offline(lane);
    if (tries < 50) {
        sched_yield();
    } else {
        nanosleep(&moment, NULL);
    }
    lane_online(lane);
}

enum status domain_append(struct lane *lane, const struct ask *ask,
                          struct thread_append_result *result, struct wire_error *error)
{
    enum status status = thread_append(lane, &ask->request, result, error);
    for (int tries = 0; status == STATUS_AGAIN && tries < TRIES_MAX; tries++) {
        lane_tend(lane);
        turn_over(lane, tries);
        status = thread_append(lane, &ask->request, result, error);
    }
    return status;
}

enum status domain_replay(struct lane *lane, const struct ask *ask,
                          struct thread_replay_result *result, struct wire_error *error)
{
    enum status status = thread_replay(lane, &ask->request, result, error);
    for (int tries = 0; status == STATUS_AGAIN && tries < TRIES_MAX; tries++) {
        lane_tend(lane);
        turn_over(lane, tries);
        status = thread_replay(lane, &ask->request, result, error);
    }
    return status;
}

/* ---- writing ---- */

__attribute__((format(printf, 2, 3))) static void put(struct writing *writing, const char *format,
                                                      ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = ANSWER_MAX - writing->size;
    int size = vsnprintf(writing->text + writing->size, room, format, arguments);
    va_end(arguments);
    if (size < 0 || (size_t)size >= room) {
        domain_give_up("a long answer");
    }
    writing->size += (size_t)size;
}

static void put_bytes(struct writing *writing, struct bytes bytes)
{
    if (bytes.size > 200) {
        put(writing, "%.1s*%zu", (const char *)bytes.data, bytes.size);
    } else {
        put(writing, "%.*s", (int)bytes.size, (const char *)bytes.data);
    }
}

static void put_step(struct writing *writing, const struct step *step)
{
    struct step_view view;
    step_view(step, &view);
    const uint8_t *at = view.payload.data;
    for (unsigned i = 0; i < view.segment_count; i++) {
        enum wire_kind kind = step_segment_kind(step, i);
        uint32_t size = step_segment_bytes(step, i);
        put(writing, "%s%s%s", i > 0 ? "|" : "", kind ? wire_kind_name(kind) : "", kind ? "'" : "");
        put_bytes(writing, bytes_of(at, size));
        at += size;
    }
    assert(at == view.payload.data + view.payload.size);
}

static void put_replay(struct writing *writing, struct domain *domain,
                       const struct thread_replay_result *result)
{
    domain->expires_in_ms = result->expires_in_ms;
    domain->vouch_ms = result->vouch_ms;
    if (result->state == THREAD_MISS) {
        put(writing, "miss %s v%" PRIu64 "%s%s", reason_name(result->reason), result->version,
            result->ambiguous ? " ambiguous" : "", result->in_flight ? " in_flight" : "");
        return;
    }
    put(writing, "%s ", result->state == THREAD_COMPLETE ? "complete" : "partial");
    put_bytes(writing, result->thread);
    put(writing, " v%" PRIu64 " head %" PRId64, result->version, result->head);
    if (result->has_dropped) {
        put(writing, " kept_from %u dropped %u", result->kept_from, result->dropped);
    }
    if (result->has_found) {
        put(writing, " found %u", result->found);
    }
    if (result->has_extends) {
        put(writing, result->extends ? " extends" : " breaks");
    }
    if (result->has_first_changed) {
        put(writing, " first_changed %" PRIu64, result->first_changed);
    }
    put(writing, "%s%s%s:", result->ambiguous ? " ambiguous" : "",
        result->in_flight ? " in_flight" : "", result->from_disk ? " disk" : "");
    uint32_t listed = 0;
    uint64_t payload_bytes = 0;
    unsigned segment_count = 0;
    for (uint32_t at = result->begin; at < result->end; at++) {
        enum reason missing;
        const struct step *step = thread_replay_step(domain->lane, result, at, &missing);
        if (step) {
            struct step_view view;
            step_view(step, &view);
            assert(view.number == at && missing == REASON_NONE);
            payload_bytes += view.payload_bytes;
            segment_count += view.segment_count;
            put(writing, " %u=", at);
            put_step(writing, step);
            listed++;
        } else if (missing != REASON_NONE) {
            put(writing, " %u?%s", at, reason_name(missing));
            listed++;
        }
    }
    if (listed != result->listed || payload_bytes != result->payload_bytes ||
        segment_count != result->segment_count) {
        put(writing, " (miscounted)");
    }
}

/* ---- what waits for the disk ---- */

struct pending {
    struct lane_wait wait;
    struct domain *domain;
};

static void pending_done(struct lane_wait *wait, enum status status)
{
    struct pending *pending = (struct pending *)wait;
    assert(pending->domain->waiting > 0);
    pending->domain->waiting--;
    pending->domain->told = status;
    free(pending);
}

static void put_pending(struct writing *writing, struct domain *domain, struct tier_change *change)
{
    if (!change) {
        return;
    }
    struct pending *pending = malloc(sizeof *pending);
    if (!pending) {
        domain_give_up("no memory");
    }
    *pending = (struct pending){.wait.done = pending_done, .domain = domain};
    domain->waiting++;
    put(writing, " pending");
    lane_await(domain->lane, change, &pending->wait);
}

/* ---- answers ---- */

static void put_append(struct writing *writing, struct domain *domain,
                       const struct thread_append_result *result)
{
    domain->expires_in_ms = result->expires_in_ms;
    put(writing, "step %u v%" PRIu64 "%s%s", result->step, result->version,
        result->created ? " created" : "", result->duplicate ? " duplicate" : "");
    if (result->lost) {
        put(writing, " lost %" PRIu64, result->lost);
    }
    put_pending(writing, domain, result->pending);
}

static void put_stat(struct writing *writing, struct domain *domain)
{
    const struct thread_stat_result *stat = &domain->stat;
    domain->expires_in_ms = stat->expires_in_ms;
    domain->vouch_ms = stat->vouch_ms;
    if (stat->state == THREAD_MISS) {
        put(writing, "miss %s v%" PRIu64, reason_name(stat->reason), stat->version);
    } else {
        put(writing, "%s v%" PRIu64 " steps %" PRIu64 " bytes %" PRIu64 " tokens %" PRIu64 "%s",
            stat->state == THREAD_COMPLETE ? "complete" : "partial", stat->version,
            stat->step_count, stat->payload_bytes, stat->tokens, stat->on_disk ? " disk" : "");
    }
    put(writing, "%s", stat->in_flight ? " in_flight" : "");
}

static void put_error(struct writing *writing, enum status status, const struct wire_error *error)
{
    if (status == STATUS_AGAIN) {
        put(writing, "again");
        return;
    }
    if (status != error->status || error->message[0] == '\0') {
        domain_give_up("an error that is not filled in");
    }
    put(writing, "%s", status_code(status));
    put(writing, "%s%s", error->option[0] ? " " : "", error->option);
    put(writing, "%s%s", error->cause[0] ? " " : "", error->cause);
    put(writing, "%s%s", error->reason ? " " : "", reason_name(error->reason));
    if (error->version >= 0) {
        put(writing, " v%" PRId64, error->version);
    }
}

/* ---- doing ---- */

static enum status change(struct domain *domain, const struct wire_request *request,
                          struct writing *writing)
{
    struct wire_error *error = &domain->error;
    struct thread_fork_result fork;
    struct thread_rewind_result rewind;
    enum reason missing = REASON_NONE;
    struct thread_forget_result forgotten = {0};
    enum status status;
    switch (request->method) {
    case WIRE_METHOD_FORK:
        status = thread_fork(domain->lane, request, &fork, error);
        if (status == STATUS_OK) {
            domain->expires_in_ms = fork.expires_in_ms;
            put(writing, "v%" PRIu64, fork.version);
        }
        return status;
    case WIRE_METHOD_REWIND:
        status = thread_rewind(domain->lane, request, &rewind, error);
        if (status == STATUS_OK) {
            put(writing, "v%" PRIu64 " dropped %" PRIu64, rewind.version, rewind.dropped);
        }
        return status;
    case WIRE_METHOD_FORGET:
        status = thread_forget(domain->lane, request, &forgotten, error);
        if (status == STATUS_OK) {
            put(writing, forgotten.forgotten ? "forgotten" : "nothing");
            put_pending(writing, domain, forgotten.pending);
        }
        return status;
    case WIRE_METHOD_TOUCH:
        status = thread_touch(domain->lane, request->thread, wire_given(request, WIRE_FIELD_ttl_ms),
                              request->ttl_ms, &missing);
        if (status == STATUS_OK) {
            put(writing, missing ? "missing %s" : "touched%s", reason_name(missing));
        }
        return status;
    default:
        domain_give_up(wire_method_name(request->method));
    }
}

/* A streamed step, but for its commit. */
static enum status stream(struct domain *domain, const struct domain_line *reading,
                          struct writing *writing)
{
    const struct wire_request *request = &reading->ask.request;
    struct wire_error *error = &domain->error;
    struct thread_begin_result begun;
    struct thread_chunk_result chunk;
    enum status status;
    switch (request->method) {
    case WIRE_METHOD_BEGIN:
        status = thread_begin(domain->lane, request, &begun, error);
        if (status == STATUS_OK) {
            domain_line_claim(reading->claim, begun.claim);
            domain->expires_in_ms = begun.claim_expires_in_ms;
            put(writing, "begun %u v%" PRIu64, begun.step, begun.version);
        }
        return status;
    case WIRE_METHOD_CHUNK:
        status = thread_chunk(domain->lane, request, &chunk, error);
        if (status == STATUS_OK) {
            domain->expires_in_ms = chunk.claim_expires_in_ms;
            put(writing, "bytes %" PRIu64, chunk.step_bytes);
        }
        return status;
    default:
        status = thread_abort(domain->lane, request, error);
        if (status == STATUS_OK) {
            put(writing, "aborted");
        }
        return status;
    }
}

const char *domain_say(struct domain *domain, const char *line)
{
    static _Thread_local struct domain_line reading;
    static _Thread_local struct writing writing;
    domain_line_read(&reading, line);
    writing.size = 0;
    writing.text[0] = '\0';
    struct wire_error *error = &domain->error;
    struct thread_append_result append;
    struct thread_replay_result replay;
    enum status status;
    switch (reading.ask.request.method) {
    case WIRE_METHOD_APPEND:
        status = thread_append(domain->lane, &reading.ask.request, &append, error);
        if (status == STATUS_OK) {
            put_append(&writing, domain, &append);
        }
        break;
    case WIRE_METHOD_COMMIT:
        status = thread_commit(domain->lane, &reading.ask.request, &append, error);
        if (status == STATUS_OK) {
            put_append(&writing, domain, &append);
        }
        break;
    case WIRE_METHOD_BEGIN:
    case WIRE_METHOD_CHUNK:
    case WIRE_METHOD_ABORT:
        status = stream(domain, &reading, &writing);
        break;
    case WIRE_METHOD_REPLAY:
        status = thread_replay(domain->lane, &reading.ask.request, &replay, error);
        if (status == STATUS_OK) {
            put_replay(&writing, domain, &replay);
        }
        break;
    case WIRE_METHOD_STAT:
        status = thread_stat(domain->lane, &reading.ask.request, &domain->stat, error);
        if (status == STATUS_OK) {
            put_stat(&writing, domain);
        }
        break;
    default:
        status = change(domain, &reading.ask.request, &writing);
        break;
    }
    if (status != STATUS_OK) {
        put_error(&writing, status, error);
    }
    domain_line_free(&reading);
    return writing.text;
}
