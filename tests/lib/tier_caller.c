/* A lane's half of the talk with a tier. */
#include "tests/lib/tier_caller.h"

#include "tests/lib/tier_kept.h"
#include "thread/compact.h"
#include "wire/parse.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TEXT_MAX = 1 << 20, SHORT_PAYLOAD = 100, PATIENCE_MS = 60000 };

struct text {
    char bytes[TEXT_MAX];
    size_t size;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text->bytes + text->size, TEXT_MAX - text->size, format, arguments);
    va_end(arguments);
    assert(size >= 0 && (size_t)size < TEXT_MAX - text->size);
    text->size += (size_t)size;
}

/* ---- opening ---- */

static void wake(void *context)
{
    struct tier_caller *caller = context;
    atomic_fetch_add_explicit(&caller->wakes, 1, memory_order_relaxed); /* only counted */
}

void caller_open(struct tier_caller *caller)
{
    caller->port = caller->tier->calls->port_open(caller->tier, wake, caller);
    assert(caller->port);
}

static void forget_load(struct tier_caller *caller)
{
    free(caller->load.image);
    free(caller->load.page);
    caller->load = (struct tier_load){0};
}

void caller_close(struct tier_caller *caller)
{
    caller_collect(caller);
    assert(caller->under_way == 0 && !caller->loading);
    caller->tier->calls->port_close(caller->tier, caller->port);
    forget_load(caller);
    while (caller->changes) {
        struct caller_change *change = caller->changes;
        caller->changes = change->next;
        free(change->steps);
        free(change);
    }
    while (caller->due_count > 0) {
        free(caller->due[--caller->due_count]);
    }
}

struct index_hash caller_name(const struct tier_caller *caller, enum record_kind kind,
                              struct bytes id)
{
    return index_hash_with(caller->secret, 0, (uint8_t)kind, id);
}

/* ---- threads ---- */

struct told_thread caller_thread(struct tier_caller *caller, const char *id)
{
    struct told_thread thread = {.uid = caller->tier->calls->take_uid(caller->tier),
                                 .created_ms = CALLER_CREATED_MS,
                                 .used_ms = CALLER_CREATED_MS,
                                 .retention_ms = CALLER_RETENTION_MS};
    snprintf(thread.id, sizeof thread.id, "%s", id);
    return thread;
}

void caller_say(struct domain *source, struct told_thread *thread, const char *line)
{
    const char *answer = domain_say(source, line);
    struct ask ask;
    struct thread_stat_result stat;
    struct wire_error error;
    if (strncmp(line, "append", 6) == 0) {
        assert(strncmp(answer, "step", 4) == 0);
        thread->appends++;
    } else if (strncmp(line, "fork", 4) == 0) {
        assert(answer[0] == 'v');
        thread->shared = thread->inherited = (uint32_t)strtoul(answer + 1, NULL, 10);
    } else {
        assert(strstr(answer, "dropped"));
    }
    /* A tier gets ordinary threads only; compact ones are of servers that have none. */
    struct lookup found = lookup_thread(source->lane, bytes_text(thread->id));
    enum status status = compact_unfold(source->lane, &found);
    assert(status == STATUS_OK && found.thread);
    ask_begin(&ask, WIRE_METHOD_STAT, bytes_text(thread->id));
    status = thread_stat(source->lane, &ask.request, &stat, &error);
    assert(status == STATUS_OK && stat.state == THREAD_COMPLETE);
    (void)status;
    thread->length = (uint32_t)stat.step_count;
    thread->version = (uint32_t)stat.version;
    thread->payload_bytes = stat.payload_bytes;
    thread->tokens = stat.tokens;
    thread->inherited = thread->inherited < thread->length ? thread->inherited : thread->length;
}

/* ---- changes ---- */

static struct caller_change *change_of(struct tier_caller *caller, const struct told_thread *thread)
{
    struct caller_change *change = calloc(1, sizeof *change);
    assert(change);
    memcpy(change->id, thread->id, sizeof change->id);
    change->caller = caller;
    struct bytes id = bytes_text(change->id);
    change->tier = (struct tier_change){
        .port = caller->port,
        .generation = caller->tier->calls->generation(caller->tier),
        .head = {.uid = thread->uid,
                 .name = caller_name(caller, RECORD_THREAD, id),
                 .id = id,
                 .length = thread->length,
                 .version = thread->version,
                 .lost = thread->lost,
                 .lost_reason = thread->lost ? REASON_EVICTED : REASON_NONE,
                 .shared = thread->shared,
                 .appends = thread->appends,
                 .floor = thread->floor,
                 .created_ms = thread->created_ms,
                 .used_ms = thread->used_ms,
                 .ttl_ms = DOMAIN_TTL_MS,
                 .retention_ms = thread->retention_ms,
                 .payload_bytes = thread->payload_bytes,
                 .tokens = thread->tokens},
        .inherited = thread->inherited,
        .recalls = change->recalls,
        .size_bytes = 100,
    };
    return change;
}

/* Positions from `from` on, all of them. */
static void pin_steps(struct caller_change *change, struct domain *source, uint32_t from)
{
    struct ask ask;
    struct thread_replay_result result;
    struct wire_error error;
    ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text(change->id));
    enum status status = thread_replay(source->lane, &ask.request, &result, &error);
    assert(status == STATUS_OK && result.state == THREAD_COMPLETE);
    (void)status;
    change->tier.step_count = change->tier.head.length - from;
    change->steps = calloc(change->tier.step_count + 1, sizeof *change->steps);
    assert(change->steps);
    for (uint32_t i = 0; i < change->tier.step_count; i++) {
        enum reason missing;
        change->steps[i] = thread_replay_step(source->lane, &result, from + i, &missing);
        assert(change->steps[i]);
        step_pin(change->steps[i]);
    }
    change->tier.steps = change->steps;
}

struct caller_change *caller_put(struct tier_caller *caller, struct domain *source,
                                 const struct told_thread *thread, uint32_t from,
                                 enum reason reason)
{
    struct caller_change *change = change_of(caller, thread);
    change->tier.kind = TIER_PUT;
    change->tier.drop_from = from;
    change->tier.reason = reason;
    uint32_t first = from > thread->lost ? from : thread->lost;
    if (first < thread->length) {
        pin_steps(change, source, first);
    }
    return change;
}

struct caller_change *caller_erase(struct tier_caller *caller, const struct told_thread *thread,
                                   enum reason reason)
{
    struct caller_change *change = change_of(caller, thread);
    change->tier.kind = TIER_ERASE;
    change->tier.reason = reason;
    return change;
}

void caller_recall(struct caller_change *change, uint32_t ordinal, uint32_t step)
{
    assert(change->tier.recall_count < TIER_RECALL_MAX);
    change->recalls[change->tier.recall_count++] =
        (struct recall_entry){.key = {.low = ordinal * 3, .high = ordinal * 5},
                              .digest = {ordinal * 7, ordinal * 9},
                              .ordinal = ordinal,
                              .step = step,
                              .version = step + 1,
                              .lost = ordinal % 3,
                              .created = ordinal % 2 == 0};
}

enum status caller_submit(struct caller_change *change)
{
    struct tier_caller *caller = change->caller;
    enum status status = caller->tier->calls->submit(caller->tier, &change->tier);
    if (status == STATUS_OK) {
        caller->under_way++;
        change->next = caller->changes;
        caller->changes = change;
        return status;
    }
    for (uint32_t i = 0; i < change->tier.step_count; i++) {
        if (change->steps[i]) {
            step_unpin(change->steps[i]);
        }
    }
    free(change->steps);
    free(change);
    return status;
}

void caller_keep(struct tier_caller *caller, struct domain *source, struct told_thread *thread)
{
    struct caller_change *change = caller_put(caller, source, thread, 0, REASON_NONE);
    enum status status = caller_submit(change);
    assert(status == STATUS_OK);
    (void)status;
}

/* ---- events ---- */

static void take_event(struct tier_caller *caller, struct tier_event *event)
{
    struct caller_change *change;
    switch (event->kind) {
    case TIER_DURABLE:
        change = (struct caller_change *)((char *)event - offsetof(struct tier_change, durable));
        assert(change->caller == caller && change->tier.wants_durable);
        assert(!change->durable && !change->applied);
        change->durable = true;
        break;
    case TIER_APPLIED:
        change = (struct caller_change *)((char *)event - offsetof(struct tier_change, applied));
        assert(change->caller == caller && !change->applied);
        assert(change->durable == change->tier.wants_durable);
        change->applied = true;
        free(change->steps);
        change->steps = NULL;
        caller->under_way--;
        break;
    case TIER_LOADED:
        assert(caller->loading && event == &caller->load.event);
        caller->loading = false;
        break;
    case TIER_DUE:
        assert(caller->due_count < CALLER_DUE_MAX);
        caller->due[caller->due_count++] = (struct tier_due *)event;
        break;
    }
}

unsigned caller_collect(struct tier_caller *caller)
{
    unsigned count = 0;
    struct tier_event *event = caller->tier->calls->collect(caller->tier, caller->port);
    while (event) {
        struct tier_event *next = event->next;
        take_event(caller, event);
        event = next;
        count++;
    }
    return count;
}

static void rest(void)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    nanosleep(&moment, NULL);
}

void caller_wait(struct tier_caller *caller)
{
    caller->settle(caller->context);
    caller_collect(caller);
    for (unsigned ms = 0; caller->under_way > 0; ms++) {
        assert(ms < PATIENCE_MS);
        rest();
        caller_collect(caller);
    }
}

/* ---- loads ---- */

static const struct tier_load *load(struct tier_caller *caller, struct tier_load wanted)
{
    forget_load(caller);
    wanted.port = caller->port;
    caller->load = wanted;
    caller->load.found = TIER_FAILED;
    enum status status = caller->tier->calls->load(caller->tier, &caller->load);
    assert(status == STATUS_OK);
    (void)status;
    caller->loading = true;
    caller_collect(caller);
    for (unsigned ms = 0; caller->loading; ms++) {
        assert(ms < PATIENCE_MS);
        if (ms == 0) {
            caller->settle(caller->context);
        } else {
            rest();
        }
        caller_collect(caller);
    }
    return &caller->load;
}

const struct tier_load *caller_load(struct tier_caller *caller, enum record_kind kind,
                                    struct bytes id)
{
    struct tier_load wanted = {.kind = kind == RECORD_THREAD ? TIER_LOAD_THREAD : TIER_LOAD_KEY,
                               .record_kind = (uint8_t)kind,
                               .name = caller_name(caller, kind, id),
                               .id_size = (uint8_t)id.size};
    memcpy(wanted.id, id.data, id.size);
    return load(caller, wanted);
}

const struct tier_load *caller_page(struct tier_caller *caller, uint64_t after_uid,
                                    const char *start, uint32_t limit)
{
    struct tier_load wanted = {.kind = TIER_LOAD_PAGE,
                               .after_uid = after_uid,
                               .limit = limit,
                               .id_size = (uint8_t)strlen(start)};
    memcpy(wanted.id, start, strlen(start));
    return load(caller, wanted);
}

/* ---- as text ---- */

static void put_payload(struct text *text, struct bytes bytes)
{
    if (bytes.size <= SHORT_PAYLOAD) {
        put(text, "%.*s", (int)bytes.size, (const char *)bytes.data);
        return;
    }
    uint64_t sum = 14695981039346656037U; /* FNV-1a: any byte matters */
    for (size_t i = 0; i < bytes.size; i++) {
        sum = (sum ^ bytes.data[i]) * 1099511628211U;
    }
    put(text, "%.1s*%zu#%016" PRIx64, (const char *)bytes.data, bytes.size, sum);
}

static void put_segments(struct text *text, const struct step_parts *parts)
{
    const uint8_t *at = parts->payload.data;
    assert(parts->segments.size == parts->segment_count * sizeof(uint32_t));
    for (unsigned i = 0; i < parts->segment_count; i++) {
        uint32_t entry;
        memcpy(&entry, parts->segments.data + i * sizeof entry, sizeof entry);
        enum wire_kind kind = (enum wire_kind)(entry >> 30);
        size_t size = entry & 0x3fffffff;
        put(text, "%s%s%s", i > 0 ? "|" : "", kind ? wire_kind_name(kind) : "", kind ? "'" : "");
        put_payload(text, bytes_of(at, size));
        at += size;
    }
    assert(at == parts->payload.data + parts->payload.size);
}

static void put_meta(struct text *text, const struct step_parts *parts)
{
    put(text, "{v%u turn %u", parts->version, parts->turn);
    put(text, "%s", parts->final ? " final" : "");
    if (parts->has_tokens) {
        put(text, " tokens %u", parts->tokens);
    }
    put(text, " r=");
    put_payload(text, parts->response_id);
    put(text, " p=");
    put_payload(text, parts->prefix);
    put(text, " v=");
    put_payload(text, parts->visible);
    put(text, " m=");
    put_payload(text, parts->model);
    struct wire_list list = {.encoded = parts->tool_calls, .count = parts->tool_call_count};
    struct bytes id;
    while (wire_list_next(&list, &id)) {
        put(text, " c=");
        put_payload(text, id);
    }
    put(text, "}");
}

static void put_head(struct text *text, const struct tier_image *image)
{
    const struct tier_head *head = &image->head;
    put(text, " ");
    put_payload(text, head->id);
    put(text, " tenant %u reason %u length %u lost_base %u shared %u appends %u floor %u",
        head->tenant, head->lost_reason, head->length, head->lost_base, head->shared, head->appends,
        head->floor);
    put(text, " created %" PRIu64 " used %" PRIu64 " ttl %" PRIu64 " retention %" PRIu64,
        head->created_ms, head->used_ms, head->ttl_ms, head->retention_ms);
    put(text, " bytes %" PRIu64 " tokens %" PRIu64, head->payload_bytes, head->tokens);
    for (uint32_t ordinal = 1; ordinal <= head->appends; ordinal++) {
        for (uint32_t i = 0; i < image->recall_count; i++) {
            const struct recall_entry *entry = &image->recalls[i];
            /* What is older may still lie about. */
            if (entry->ordinal == ordinal && head->appends - ordinal < TIER_RECALL_MAX) {
                put(text, " [%u: %" PRIu64 ",%" PRIu64 " %" PRIu64 ",%" PRIu64 " %u v%u %u %d]",
                    ordinal, entry->key.low, entry->key.high, entry->digest[0], entry->digest[1],
                    entry->step, entry->version, entry->lost, entry->created);
            }
        }
    }
}

static void put_image(struct text *text, const struct tier_image *image, bool whole)
{
    const struct tier_head *head = &image->head;
    assert(image->step_count == head->length - head->lost);
    put(text, "v%u", head->version);
    if (head->lost > 0) {
        put(text, " lost %u", head->lost);
    }
    if (whole) {
        put_head(text, image);
    }
    put(text, ":");
    for (uint32_t i = 0; i < image->step_count; i++) {
        const struct step_parts *parts = &image->steps[i];
        assert(parts->number == head->lost + i);
        put(text, " %u%s", parts->number, parts->corrupt ? "?" : parts->inherited ? "~" : "=");
        if (parts->corrupt) {
            continue;
        }
        put_segments(text, parts);
        if (whole) {
            put_meta(text, parts);
        }
    }
}

static void put_load(struct text *text, const struct tier_caller *caller, bool whole)
{
    const struct tier_load *found = &caller->load;
    switch (found->found) {
    case TIER_ABSENT:
        put(text, "absent");
        break;
    case TIER_CORRUPT:
        put(text, "corrupt");
        break;
    case TIER_FAILED:
        put(text, "failed");
        break;
    case TIER_TOMBSTONE:
        put(text, "gone %s", reason_name(found->tombstone.reason));
        if (found->record_kind == RECORD_THREAD) {
            put(text, " v%u steps %u", found->tombstone.version, found->tombstone.steps);
        }
        put(text, "%s", found->tombstone.shared ? " shared" : "");
        break;
    case TIER_FOUND:
        if (found->record_kind == RECORD_THREAD) {
            put_image(text, found->image, whole);
        } else {
            struct bytes id = bytes_of(found->key.id, found->key.id_size);
            struct index_hash owner = caller_name(caller, RECORD_THREAD, id);
            assert(tier_kept_same_name(found->key.owner, owner));
            put_payload(text, id);
            put(text, " %u v%u%s", found->key.number, found->key.version,
                found->key.shared ? " shared" : "");
        }
        break;
    }
}

static const char *show(struct tier_caller *caller, enum record_kind kind, const char *id,
                        bool whole)
{
    static struct text text;
    text.size = 0;
    caller_load(caller, kind, bytes_text(id));
    put_load(&text, caller, whole);
    return text.bytes;
}

const char *caller_show(struct tier_caller *caller, enum record_kind kind, const char *id)
{
    return show(caller, kind, id, false);
}

const char *caller_show_whole(struct tier_caller *caller, enum record_kind kind, const char *id)
{
    return show(caller, kind, id, true);
}

static int by_uid(const void *a, const void *b)
{
    const struct tier_due *const *left = a;
    const struct tier_due *const *right = b;
    return ((*left)->uid > (*right)->uid) - ((*left)->uid < (*right)->uid);
}

const char *caller_show_due(struct tier_caller *caller)
{
    static struct text text;
    text.size = 0;
    put(&text, "%s", "");
    caller_collect(caller);
    qsort(caller->due, caller->due_count, sizeof caller->due[0], by_uid);
    for (unsigned i = 0; i < caller->due_count; i++) {
        struct tier_due *due = caller->due[i];
        struct bytes id = bytes_of(due->id, due->id_size);
        struct index_hash name = caller_name(caller, RECORD_THREAD, id);
        assert(tier_kept_same_name(due->name, name));
        put(&text, "%s%.*s %s v%u steps %u", i > 0 ? ", " : "", (int)id.size, (const char *)id.data,
            reason_name(due->reason), due->version, due->length);
        free(due);
    }
    caller->due_count = 0;
    return text.bytes;
}
