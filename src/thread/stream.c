/* Streaming append: begin, chunk and abort, and how a draft ends. Commit is in append.c. */
#include "thread/stream.h"

#include "base/random.h"
#include "thread/append.h"
#include "thread/compact.h"
#include "thread/operations.h"
#include "thread/steps.h"
#include "thread/thread.h"
#include "wire/compose.h"
#include "wire/parse.h"

enum { LOOKS_MAX = 16 };

/* ---- how a draft ends ---- */

static void drop(struct lane *lane, struct thread *thread)
{
    draft_free(lane, lane_at(lane, rest_of(thread)->draft));
    rest_of(thread)->draft = 0;
}

void stream_end(struct lane *lane, struct thread *thread)
{
    drop(lane, thread);
    life_stream(thread, 0);
}

void stream_bury(struct lane *lane, struct thread *thread)
{
    if (rest_of(thread)->draft) {
        drop(lane, thread);
        lane_count(lane, METRIC_STREAMS_TIMED_OUT, 1);
    }
}

struct draft *stream_draft(struct lane *lane, struct thread *thread)
{
    if (!rest_of(thread)->draft) {
        return NULL;
    }
    if (!stream_lives(lane, thread)) {
        /* An unborn thread without a claim that lives is overdue, and nobody gets its word. */
        assert(!thread_is_unborn(thread));
        stream_end(lane, thread);
        lane_count(lane, METRIC_STREAMS_TIMED_OUT, 1);
        return NULL;
    }
    return lane_at(lane, rest_of(thread)->draft);
}

/* ---- begin ---- */

static uint64_t until_ms(const struct lane *lane)
{
    return lane->now_ms + lane->threads->settings.claim_timeout_ms;
}

static uint64_t expires_in_ms(const struct lane *lane, const struct thread *thread)
{
    uint64_t ends_ms = life_streams_until_ms(thread);
    ends_ms = ends_ms < thread_dies_ms(thread) ? ends_ms : thread_dies_ms(thread);
    return ends_ms > lane->now_ms ? ends_ms - lane->now_ms : 0;
}

static uint64_t random_claim(void)
{
    uint64_t claim = 0;
    while (claim == 0) {
        random_fill(&claim, sizeof claim);
        claim &= INT64_MAX; /* what every client's integers can hold */
    }
    return claim;
}

static enum status make_draft(struct lane *lane, const struct wire_request *request,
                              uint64_t beside_bytes, struct draft **draft, struct wire_error *error)
{
    enum wire_kind kind =
        wire_given(request, WIRE_FIELD_segment) ? request->segment : WIRE_KIND_TEXT;
    return draft_create(lane, random_claim(), kind, beside_bytes, draft, error);
}

static struct thread_begin_result begun(struct lane *lane, const struct thread *thread,
                                        const struct draft *draft, const struct snapshot *now)
{
    lane_count(lane, METRIC_STREAMS, 1);
    return (struct thread_begin_result){.step = now->length,
                                        .version = now->version,
                                        .claim = draft->claim,
                                        .claim_expires_in_ms = expires_in_ms(lane, thread)};
}

/* Before anything is generated: a caller that is not up to date had better not begin. */
static enum status check_expect(const struct wire_request *request, bool exists, uint32_t version,
                                struct wire_error *error)
{
    if (!wire_given(request, WIRE_FIELD_expect)) {
        return STATUS_OK;
    }
    if (request->expect == 0) {
        return exists ? append_conflict(error, "exists", version) : STATUS_OK;
    }
    return request->expect == version ? STATUS_OK : append_conflict(error, "version", version);
}

/* Under the claim. */
static enum status begin_claimed(struct lane *lane, const struct wire_request *request,
                                 struct thread *thread, struct thread_begin_result *result,
                                 struct wire_error *error)
{
    struct snapshot now = spine_snapshot(lane, thread);
    if (stream_draft(lane, thread)) {
        return append_conflict(error, "claimed", now.version);
    }
    struct draft *draft = NULL;
    enum status status = check_expect(request, true, now.version, error);
    status = status ? status : append_check_room(&now, error);
    status = status ? status : make_draft(lane, request, 0, &draft, error);
    if (status) {
        return status;
    }
    rest_of(thread)->draft = lane_ref(lane, draft);
    life_refresh(thread, lane->now_ms, LIFE_EXTEND);
    life_stream(thread, until_ms(lane));
    thread_used(thread);
    *result = begun(lane, thread, draft, &now);
    return STATUS_OK;
}

static enum status begin_on(struct lane *lane, const struct wire_request *request,
                            struct thread *thread, struct thread_begin_result *result,
                            struct wire_error *error)
{
    if (stream_lives(lane, thread)) {
        return append_conflict(error, "claimed", spine_snapshot(lane, thread).version);
    }
    switch (life_claim(thread, lane->now_ms)) {
    case LIFE_CLAIMED:
        return lane_put_back(lane, WANT_CLAIM);
    case LIFE_GONE:
    case LIFE_OVERDUE:
        return APPEND_LOOK_AGAIN;
    case LIFE_ALIVE:
        break;
    }
    enum status status = begin_claimed(lane, request, thread, result, error);
    life_release(thread, lane->now_ms, LIFE_KEEP);
    if (status == STATUS_OK) {
        /* So that the sweep sees the end of the claim. */
        thread_retick(lane, thread);
    }
    return status;
}

static enum status begin_unborn(struct lane *lane, const struct wire_request *request,
                                const struct lookup *found, struct thread_begin_result *result,
                                struct wire_error *error)
{
    struct snapshot past = lookup_snapshot(lane, found);
    if (found->unborn) {
        return stream_lives(lane, found->unborn) ? append_conflict(error, "claimed", past.version)
                                                 : lane_put_back(lane, WANT_CLAIM);
    }
    bool afresh = wire_given(request, WIRE_FIELD_expect) && request->expect == 0;
    if (found->reason == REASON_CORRUPT && !afresh) {
        return append_conflict(error, "version", 0);
    }
    if (afresh) {
        past = (struct snapshot){0};
    }
    struct draft *draft = NULL;
    enum status status = check_expect(request, false, past.version, error);
    status = status ? status : append_check_room(&past, error);
    status = status
                 ? status
                 : make_draft(lane, request, thread_unborn_bytes(request->thread), &draft, error);
    if (status) {
        return status;
    }
    struct thread *thread = thread_create_unborn(lane, found);
    if (!thread) {
        draft_free(lane, draft);
        return lane_put_back(lane, WANT_MEMORY);
    }
    draft->afresh = afresh;
    rest_of(thread)->draft = lane_ref(lane, draft);
    life_stream(thread, until_ms(lane));
    if (!thread_publish(lane, found, thread)) {
        drop(lane, thread);
        thread_discard(lane, thread);
        return APPEND_LOOK_AGAIN;
    }
    *result = begun(lane, thread, draft, &past);
    life_release(thread, lane->now_ms, LIFE_KEEP);
    return STATUS_OK;
}

enum status thread_begin(struct lane *lane, const struct wire_request *request,
                         struct thread_begin_result *result, struct wire_error *error)
{
    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        struct lookup found;
        found = lookup_request(lane, request);
        enum status status = compact_unfold(lane, &found);
        if (status || found.loading) {
            return status ? status : lane_put_back(lane, WANT_DISK);
        }
        status = found.thread ? begin_on(lane, request, found.thread, result, error)
                              : begin_unborn(lane, request, &found, result, error);
        if (status != APPEND_LOOK_AGAIN) {
            return status;
        }
    }
    return lane_put_back(lane, WANT_CLAIM);
}

/* ---- chunk and abort ---- */

/*
 * The thread whose step the request's claim is on; its word is claimed, for the caller to release.
 */
static enum status claim_stream(struct lane *lane, const struct wire_request *request,
                                struct thread **thread, struct draft **draft,
                                struct wire_error *error)
{
    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        struct lookup found = lookup_request(lane, request);
        if (found.loading) {
            return lane_put_back(lane, WANT_DISK);
        }
        uint32_t version = lookup_snapshot(lane, &found).version;
        *thread = found.thread ? found.thread : found.unborn;
        if (!*thread || thread_is_compact(*thread)) {
            return append_stale(error, version);
        }
        switch (life_claim(*thread, lane->now_ms)) {
        case LIFE_CLAIMED:
            return lane_put_back(lane, WANT_CLAIM);
        case LIFE_GONE:
        case LIFE_OVERDUE:
            continue;
        case LIFE_ALIVE:
            break;
        }
        *draft = stream_draft(lane, *thread);
        if (*draft && (*draft)->claim == request->claim) {
            return STATUS_OK;
        }
        life_release(*thread, lane->now_ms, LIFE_KEEP);
        return append_stale(error, version);
    }
    return lane_put_back(lane, WANT_CLAIM);
}

/* The streamer is there: so is the thread. */
static void use(struct lane *lane, struct thread *thread)
{
    if (!thread_is_unborn(thread)) {
        life_refresh(thread, lane->now_ms, LIFE_EXTEND);
        thread_used(thread);
    }
}

/* What the step would be like if it were committed now, and said nothing but its bytes. */
static enum status check_chunk(const struct lane *lane, const struct wire_request *request,
                               const struct draft *draft, struct wire_error *error)
{
    struct wire_request step = {.thread = request->thread,
                                .payload_count = 1,
                                .payload_bytes = draft->payload_bytes + request->payload_bytes};
    return append_check_size(lane, &step, error);
}

/* Never back: the claim was given, or last kept, on a lane whose clock may be ahead of ours. */
static void keep_claim(struct lane *lane, struct thread *thread)
{
    uint64_t before_ms = life_streams_until_ms(thread);
    life_stream(thread, until_ms(lane) > before_ms ? until_ms(lane) : before_ms);
}

enum status thread_chunk(struct lane *lane, const struct wire_request *request,
                         struct thread_chunk_result *result, struct wire_error *error)
{
    struct thread *thread = NULL;
    struct draft *draft = NULL;
    enum status status = claim_stream(lane, request, &thread, &draft, error);
    if (status) {
        return status;
    }
    status = check_chunk(lane, request, draft, error);
    status =
        status ? status : draft_add(lane, draft, request->payloads, request->payload_count, error);
    if (status == STATUS_OK) {
        use(lane, thread);
        keep_claim(lane, thread);
        *result = (struct thread_chunk_result){.step_bytes = draft->payload_bytes,
                                               .claim_expires_in_ms = expires_in_ms(lane, thread)};
    }
    life_release(thread, lane->now_ms, LIFE_KEEP);
    return status;
}

enum status thread_abort(struct lane *lane, const struct wire_request *request,
                         struct wire_error *error)
{
    struct thread *thread = NULL;
    struct draft *draft = NULL;
    enum status status = claim_stream(lane, request, &thread, &draft, error);
    if (status) {
        return status;
    }
    if (!thread_is_unborn(thread)) {
        use(lane, thread);
        stream_end(lane, thread);
        life_release(thread, lane->now_ms, LIFE_KEEP);
        return STATUS_OK;
    }
    drop(lane, thread);
    /* Whatever the reason: an unborn thread's spine has the one that is told. */
    bool ended = life_end(thread, life_load(thread), REASON_FORGOTTEN);
    assert(ended); /* claimed, and nobody refreshes it */
    thread_bury(lane, thread, REASON_FORGOTTEN);
    return STATUS_OK;
}

/* ---- commit ---- */

/* A request as if all of the step had come with it, but for the bytes of its first segment. */
struct whole {
    struct wire_request request;
    uint8_t kinds[WIRE_PAYLOADS_MAX * 8];
};

static void make_whole(struct whole *whole, const struct wire_request *request,
                       const struct draft *draft)
{
    struct wire_writer writer = wire_writer_on(whole->kinds, sizeof whole->kinds);
    struct wire_list kinds = request->segments;
    unsigned count = 0;
    whole->request = *request;
    if (draft->payload_bytes > 0) {
        wire_put_text(&writer, wire_kind_name(draft->kind));
        whole->request.payloads[count++] = bytes_of(NULL, draft->payload_bytes);
    }
    for (unsigned i = 0; i < request->payload_count; i++) {
        enum wire_kind kind = WIRE_KIND_TEXT;
        if (wire_given(request, WIRE_FIELD_segments)) {
            bool more = wire_kind_next(&kinds, &kind);
            assert(more);
        }
        wire_put_text(&writer, wire_kind_name(kind));
        whole->request.payloads[count++] = request->payloads[i];
    }
    assert(!writer.overflow);
    whole->request.payload_count = count;
    whole->request.payload_bytes += draft->payload_bytes;
    whole->request.given |= UINT64_C(1) << WIRE_FIELD_segments;
    whole->request.segments = (struct wire_list){
        .encoded = bytes_of(whole->kinds, (size_t)(writer.at - whole->kinds)), .count = count};
}

static enum status check_segments(const struct wire_request *request, const struct draft *draft,
                                  struct wire_error *error)
{
    unsigned streamed = draft->payload_bytes > 0 ? 1 : 0;
    if (streamed + request->payload_count > WIRE_PAYLOADS_MAX) {
        return wire_fail(error, STATUS_BAD_REQUEST, "segments",
                         "a step has at most %d segments, the streamed one included",
                         WIRE_PAYLOADS_MAX);
    }
    if (draft->kind == WIRE_KIND_TOKENS && draft->payload_bytes % sizeof(uint32_t) != 0) {
        return wire_fail(error, STATUS_BAD_REQUEST, "segment",
                         "tokens are 4 bytes each, and what was streamed ends within one; send the "
                         "rest, or abort");
    }
    if (streamed + request->payload_count == 0 && !wire_given(request, WIRE_FIELD_segments)) {
        return wire_fail(error, STATUS_BAD_REQUEST, "segments",
                         "nothing was streamed; commit needs payloads, or segments: [] for a bare "
                         "step");
    }
    return STATUS_OK;
}

enum status stream_build(struct lane *lane, const struct wire_request *request,
                         const struct draft *draft, struct step **step, struct wire_error *error)
{
    struct whole whole;
    enum status status = check_segments(request, draft, error);
    if (status) {
        return status;
    }
    make_whole(&whole, request, draft);
    status = append_check_size(lane, &whole.request, error);
    if (status) {
        return status;
    }
    *step = step_create(lane, &whole.request);
    if (!*step) {
        return lane_put_back(lane, WANT_MEMORY);
    }
    draft_read(lane, draft, step_payload_room(*step));
    return STATUS_OK;
}
