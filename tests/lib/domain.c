/* Lines of text to requests, results to lines of text. */
#include "tests/lib/domain.h"

#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { WORDS_MAX = 300, LINE_MAX = 1 << 16, TRIES_MAX = 5000, ANSWER_MAX = 1 << 18 };

/* What begin returned, by letter; the domains of a test share them. */
static uint64_t claims['Z' + 1];

/* A line being read: its words, and payloads that were made from them. */
struct reading {
    char text[LINE_MAX];
    char *words[WORDS_MAX];
    unsigned count;
    char *made[WORDS_MAX];
    unsigned made_count;
    char claim; /* its letter */
    struct ask ask;
};

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

/* ---- reading ---- */

static _Noreturn void give_up(const char *what)
{
    fprintf(stderr, "a test says what nobody understands: %s\n", what);
    abort();
}

static struct bytes payload_of(struct reading *reading, const char *word)
{
    const char *star = strchr(word, '*');
    if (!star) {
        return bytes_text(word);
    }
    size_t size = (size_t)(star - word);
    size_t times = strtoull(star + 1, NULL, 10);
    char *made = malloc(size * times);
    for (size_t i = 0; i < times; i++) {
        memcpy(made + i * size, word, size);
    }
    reading->made[reading->made_count++] = made;
    return bytes_of(made, size * times);
}

/* Filled up with dots to the 16 bytes of a prefix. */
static struct bytes prefix_of(struct reading *reading, const char *word)
{
    size_t size = strlen(word);
    char *made = malloc(WIRE_PREFIX_BYTES);
    if (!made || size > WIRE_PREFIX_BYTES || reading->made_count == WORDS_MAX) {
        give_up(word);
    }
    memset(made, '.', WIRE_PREFIX_BYTES);
    memcpy(made, word, size);
    reading->made[reading->made_count++] = made;
    return bytes_of(made, WIRE_PREFIX_BYTES);
}

/* "2,1" or, with what is kept, "2,3,0,1". */
static void read_have(struct ask *ask, char *value)
{
    char *rest;
    struct wire_have have = {.version = strtoull(value, &rest, 10)};
    have.step = strtoll(rest + 1, &rest, 10);
    have.has_kept = *rest == ',';
    ask_set(ask, have, have);
    while (*rest == ',' && rest[1]) {
        ask_kept(ask, (uint32_t)strtoul(rest + 1, &rest, 10));
    }
}

/* "0:p,2:q" */
static void read_bindings(struct reading *reading, char *value)
{
    char *rest = NULL;
    for (char *pair = strtok_r(value, ",", &rest); pair; pair = strtok_r(NULL, ",", &rest)) {
        char *prefix;
        uint32_t step = (uint32_t)strtoul(pair, &prefix, 10);
        ask_binding(&reading->ask, step, prefix_of(reading, prefix + 1));
    }
}

static void read_prefixes(struct reading *reading, char *value)
{
    char *rest = NULL;
    for (char *word = strtok_r(value, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        ask_prefix(&reading->ask, prefix_of(reading, word));
    }
}

static enum wire_policy policy_of(const char *name)
{
    for (int policy = 0; policy < WIRE_POLICY_COUNT; policy++) {
        if (strcmp(name, wire_policy_name((enum wire_policy)policy)) == 0) {
            return (enum wire_policy)policy;
        }
    }
    give_up(name);
}

static bool read_bytes_option(struct ask *ask, const char *name, struct bytes value)
{
#define OPTION(text)                                                                               \
    if (strcmp(name, #text) == 0) {                                                                \
        ask_set(ask, text, value);                                                                 \
        return true;                                                                               \
    }
    OPTION(key)
    OPTION(response_id)
    OPTION(tool_call)
    OPTION(model)
    OPTION(from)
#undef OPTION
    return false;
}

static bool read_number_option(struct ask *ask, const char *name, const char *value)
{
    uint64_t number = strtoull(value, NULL, 10);
#define OPTION(text, type)                                                                         \
    if (strcmp(name, #text) == 0) {                                                                \
        ask_set(ask, text, (type)number);                                                          \
        return true;                                                                               \
    }
    OPTION(expect, uint64_t)
    OPTION(turn, uint64_t)
    OPTION(tokens, uint64_t)
    OPTION(ttl_ms, uint64_t)
    OPTION(retention_ms, uint64_t)
    OPTION(last, uint64_t)
    OPTION(max_bytes, uint64_t)
    OPTION(at, uint64_t)
    OPTION(final, bool)
    OPTION(touch, bool)
    OPTION(turns, uint64_t)
    OPTION(max_tokens, uint64_t)
    OPTION(pin, bool)
    OPTION(on_mismatch, enum wire_mismatch)
    OPTION(ack, enum wire_ack)
#undef OPTION
    return false;
}

static enum wire_kind kind_of(const char *name)
{
    return name[1] == 'e' ? WIRE_KIND_TEXT : *name == 't' ? WIRE_KIND_TOKENS : WIRE_KIND_OPAQUE;
}

static void read_option(struct reading *reading, char *word)
{
    struct ask *ask = &reading->ask;
    char *value = strchr(word, '=');
    if (!value) {
        give_up(word);
    }
    *value++ = '\0';
    if (strcmp(word, "claim") == 0) {
        reading->claim = *value;
    } else if (strcmp(word, "segment") == 0) {
        ask_set(ask, segment, kind_of(value));
    } else if (strcmp(word, "bare") == 0) {
        ask_set(ask, segments, (struct wire_list){0});
    } else if (strcmp(word, "call") == 0) {
        ask_call(ask, bytes_text(value));
    } else if (strcmp(word, "kind") == 0) {
        ask_kind(ask, kind_of(value));
    } else if (strcmp(word, "have") == 0) {
        read_have(ask, value);
    } else if (strcmp(word, "policy") == 0) {
        ask_set(ask, policy, policy_of(value));
    } else if (strcmp(word, "prefix") == 0) {
        ask_set(ask, prefix, prefix_of(reading, value));
    } else if (strcmp(word, "visible") == 0) {
        ask_set(ask, visible, prefix_of(reading, value));
    } else if (strcmp(word, "prefixes") == 0) {
        read_bindings(reading, value);
    } else if (strcmp(word, "prefix_list") == 0) {
        read_prefixes(reading, value);
    } else if (strcmp(word, "to") == 0) {
        ask_set(ask, to, strtoll(value, NULL, 10));
    } else if (!read_bytes_option(ask, word, bytes_text(value)) &&
               !read_number_option(ask, word, value)) {
        give_up(word);
    }
}

static enum wire_method method_of(const char *name)
{
    for (int method = 0; method < WIRE_METHOD_COUNT; method++) {
        if (strcmp(name, wire_method_name((enum wire_method)method)) == 0) {
            return (enum wire_method)method;
        }
    }
    give_up(name);
}

static void read_line(struct reading *reading, const char *line)
{
    if (strlen(line) >= LINE_MAX) {
        give_up("a long line");
    }
    memcpy(reading->text, line, strlen(line) + 1);
    reading->made_count = reading->count = 0;
    reading->claim = 'A';
    char *rest = NULL;
    for (char *word = strtok_r(reading->text, " ", &rest); word;
         word = strtok_r(NULL, " ", &rest)) {
        if (reading->count == WORDS_MAX) {
            give_up("many words");
        }
        reading->words[reading->count++] = word;
    }
    if (reading->count < 2) {
        give_up(line);
    }
    struct bytes thread = bytes_text(reading->words[1]);
    ask_begin(&reading->ask, method_of(reading->words[0]),
              strcmp(reading->words[1], "-") == 0 ? (struct bytes){0} : thread);
    bool payloads = false;
    for (unsigned i = 2; i < reading->count; i++) {
        if (strcmp(reading->words[i], ":") == 0) {
            payloads = true;
        } else if (payloads) {
            ask_payload(&reading->ask, payload_of(reading, reading->words[i]));
        } else {
            read_option(reading, reading->words[i]);
        }
    }
    enum wire_method method = reading->ask.request.method;
    if (method == WIRE_METHOD_APPEND && !reading->ask.request.payload_count) {
        ask_set(&reading->ask, segments, (struct wire_list){0});
    }
    if (reading->claim < 'A' || reading->claim > 'Z') {
        give_up("a claim that is not a letter");
    }
    if (method == WIRE_METHOD_CHUNK || method == WIRE_METHOD_COMMIT ||
        method == WIRE_METHOD_ABORT) {
        ask_set(&reading->ask, claim, claims[(unsigned)reading->claim]);
    }
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
        give_up("a long answer");
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
        give_up("no memory");
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
        give_up("an error that is not filled in");
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
        give_up(wire_method_name(request->method));
    }
}

/* A streamed step, but for its commit. */
static enum status stream(struct domain *domain, const struct reading *reading,
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
            claims[(unsigned)reading->claim] = begun.claim;
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
    static _Thread_local struct reading reading;
    static _Thread_local struct writing writing;
    read_line(&reading, line);
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
    for (unsigned i = 0; i < reading.made_count; i++) {
        free(reading.made[i]);
    }
    return writing.text;
}
