/* Results as JSON objects; see json.h. */
#include "cli/json.h"

#include "cli/encode.h"
#include "cli/keep.h"

#include <inttypes.h>
#include <stdlib.h>

/* Setting takes the value over; it fails for want of memory only. */
static void set(json_t *object, const char *name, json_t *value)
{
    if (json_object_set_new(object, name, value) != 0)
        cli_no_memory();
}

static json_t *text_or_base64(struct rethread_bytes bytes, bool *is_base64)
{
    json_t *text = json_stringn(bytes.data, bytes.size);
    *is_base64 = text == NULL;
    if (text != NULL)
        return text;
    char *digits = encode_base64(bytes);
    text = json_string(digits);
    free(digits);
    return text;
}

void json_set_bytes(json_t *object, const char *name, struct rethread_bytes bytes)
{
    if (bytes.data == NULL)
        return;
    bool is_base64 = false;
    json_t *value = text_or_base64(bytes, &is_base64);
    char *key = cli_format("%s%s", name, is_base64 ? "_base64" : "");
    set(object, key, value);
    free(key);
}

void json_set_hash(json_t *object, const char *name, struct rethread_bytes hash)
{
    if (hash.data == NULL)
        return;
    char *digits = encode_hex(hash);
    set(object, name, json_string(digits));
    free(digits);
}

void json_set_u64(json_t *object, const char *name, uint64_t value)
{
    set(object, name, json_integer((json_int_t)value));
}

void json_set_present(json_t *object, const char *name, struct rethread_u64 value)
{
    if (value.set)
        json_set_u64(object, name, value.value);
}

void json_set_text(json_t *object, const char *name, const char *text)
{
    if (text != NULL)
        set(object, name, json_string(text));
}

void json_set_bool(json_t *object, const char *name, bool value)
{
    set(object, name, json_boolean(value));
}

/* An array keeps one type: if one id is no UTF-8, all are base64. */
void json_set_ids(json_t *object, const char *name, struct rethread_ids ids)
{
    bool any_base64 = false;
    json_t *array = json_array();
    for (size_t i = 0; i < ids.count; i++) {
        bool is_base64 = false;
        json_array_append_new(array, text_or_base64(ids.items[i], &is_base64));
        any_base64 |= is_base64;
    }
    if (!any_base64) {
        set(object, name, array);
        return;
    }
    json_array_clear(array);
    for (size_t i = 0; i < ids.count; i++) {
        char *digits = encode_base64(ids.items[i]);
        json_array_append_new(array, json_string(digits));
        free(digits);
    }
    char *key = cli_format("%s_base64", name);
    set(object, key, array);
    free(key);
}

static json_t *of_segment(const struct rethread_segment *segment, bool reveal)
{
    json_t *object = json_object();
    json_set_text(object, "kind", rethread_kind_name(segment->kind));
    json_set_u64(object, "bytes", segment->bytes.size);
    if (reveal) {
        bool is_base64 = false;
        json_t *value = text_or_base64(segment->bytes, &is_base64);
        set(object, is_base64 ? "base64" : "text", value);
    }
    return object;
}

void json_set_step(json_t *object, const struct rethread_step *step, bool reveal)
{
    json_set_u64(object, "step", step->step);
    if (step->missing != RETHREAD_REASON_NONE) {
        json_set_text(object, "missing", rethread_reason_name(step->missing));
        return;
    }
    json_set_u64(object, "turn", step->turn);
    json_set_bool(object, "final", step->final);
    json_set_bytes(object, "model", step->model);
    json_set_bytes(object, "response_id", step->response_id);
    json_set_ids(object, "tool_calls", step->tool_calls);
    json_set_present(object, "tokens", step->tokens);
    json_set_hash(object, "visible", step->visible);
    json_t *segments = json_array();
    for (size_t i = 0; i < step->segments.count; i++)
        json_array_append_new(segments, of_segment(&step->segments.items[i], reveal));
    set(object, "segments", segments);
}

static void set_status(json_t *object, enum rethread_completeness status,
                       enum rethread_reason reason, struct rethread_u64 vouch_ms)
{
    json_set_text(object, "status", rethread_completeness_name(status));
    if (reason != RETHREAD_REASON_NONE)
        json_set_text(object, "reason", rethread_reason_name(reason));
    json_set_present(object, "vouch_ms", vouch_ms);
}

static void set_hello(json_t *object, const struct rethread_hello_result *hello)
{
    json_set_u64(object, "protocol", hello->protocol);
    json_set_bytes(object, "server", hello->server);
    json_set_bytes(object, "version", hello->version);
    json_set_bytes(object, "tenant", hello->tenant);
    json_set_present(object, "frame_max", hello->frame_max);
}

static void set_append(json_t *object, const struct rethread_append_result *append)
{
    json_set_bytes(object, "thread", append->thread);
    json_set_u64(object, "step", append->step);
    json_set_u64(object, "version", append->version);
    json_set_bool(object, "created", append->created);
    json_set_bool(object, "duplicate", append->duplicate);
    json_set_u64(object, "lost", append->lost);
    json_set_present(object, "expires_in_ms", append->expires_in_ms);
}

static void set_replay(json_t *object, const struct rethread_replay_result *replay, bool reveal)
{
    set_status(object, replay->status, replay->reason, replay->vouch_ms);
    json_set_bytes(object, "thread", replay->thread);
    json_set_present(object, "version", replay->version);
    json_set_present(object, "head", replay->head);
    if (replay->ambiguous)
        json_set_bool(object, "ambiguous", true);
    json_set_present(object, "found", replay->found);
    if (replay->in_flight)
        json_set_bool(object, "in_flight", true);
    json_set_present(object, "kept_from", replay->kept_from);
    json_set_present(object, "dropped", replay->dropped);
    if (replay->extends.set)
        json_set_bool(object, "extends", replay->extends.value);
    json_set_present(object, "first_changed", replay->first_changed);
    json_t *steps = json_array();
    for (size_t i = 0; i < replay->step_count; i++) {
        json_t *step = json_object();
        json_set_step(step, &replay->steps[i], reveal);
        if (replay->steps[i].missing == RETHREAD_REASON_NONE)
            json_set_text(step, "source", rethread_tier_name(replay->steps[i].source));
        json_array_append_new(steps, step);
    }
    set(object, "steps", steps);
    json_set_present(object, "expires_in_ms", replay->expires_in_ms);
}

static void set_stat(json_t *object, const struct rethread_stat_result *stat)
{
    set_status(object, stat->status, stat->reason, stat->vouch_ms);
    json_set_present(object, "version", stat->version);
    json_set_present(object, "step_count", stat->step_count);
    json_set_present(object, "bytes", stat->bytes);
    json_set_present(object, "tokens", stat->tokens);
    json_set_present(object, "age_ms", stat->age_ms);
    json_set_present(object, "idle_ms", stat->idle_ms);
    json_set_present(object, "expires_in_ms", stat->expires_in_ms);
    if (stat->status != RETHREAD_MISS)
        json_set_text(object, "tier", rethread_tier_name(stat->tier));
    if (stat->in_flight)
        json_set_bool(object, "in_flight", true);
    json_set_present(object, "floor", stat->floor);
}

static void set_begin(json_t *object, const struct rethread_begin_result *begin)
{
    json_set_bytes(object, "thread", begin->thread);
    json_set_u64(object, "step", begin->step);
    json_set_u64(object, "version", begin->version);
    /* As text: many a reader of JSON would round a number of 63 bits. */
    char *claim = cli_format("%" PRIu64, begin->claim);
    json_set_text(object, "claim", claim);
    free(claim);
    json_set_u64(object, "claim_expires_in_ms", begin->claim_expires_in_ms);
}

static void set_touch(json_t *object, const struct rethread_touch_result *touch)
{
    json_set_u64(object, "touched", touch->touched);
    json_t *missing = json_array();
    for (size_t i = 0; i < touch->missing_count; i++) {
        json_t *one = json_object();
        json_set_bytes(one, "thread", touch->missing[i].thread);
        json_set_text(one, "reason", rethread_reason_name(touch->missing[i].reason));
        json_array_append_new(missing, one);
    }
    set(object, "missing", missing);
}

static void set_info(json_t *object, const struct rethread_info_result *info)
{
    for (size_t i = 0; i < info->metric_count; i++) {
        const struct rethread_metric *metric = &info->metrics[i];
        json_t *section = json_object_get(object, metric->section);
        if (section == NULL) {
            section = json_object();
            set(object, metric->section, section);
        }
        json_set_u64(section, metric->name, metric->value);
    }
}

json_t *json_of_listed(const struct rethread_listed_thread *listed)
{
    json_t *object = json_object();
    json_set_bytes(object, "thread", listed->thread);
    json_set_u64(object, "version", listed->version);
    json_set_u64(object, "bytes", listed->bytes);
    json_set_u64(object, "idle_ms", listed->idle_ms);
    json_set_text(object, "tier", rethread_tier_name(listed->tier));
    return object;
}

static void set_error(json_t *object, const struct rethread_error *error)
{
    json_t *inner = json_object();
    json_set_text(inner, "code",
                  error->code != NULL ? error->code : rethread_status_name(error->status));
    json_set_text(inner, "message", error->message);
    json_set_text(inner, "option", error->option);
    json_set_text(inner, "cause", error->cause);
    json_set_present(inner, "version", error->version);
    if (error->reason != RETHREAD_REASON_NONE)
        json_set_text(inner, "reason", rethread_reason_name(error->reason));
    set(object, "error", inner);
}

json_t *json_of_result(const struct rethread_result *result, bool reveal)
{
    json_t *object = json_object();
    if (rethread_result_error(result) != NULL) {
        set_error(object, rethread_result_error(result));
        return object;
    }
    switch (rethread_result_method(result)) {
    case RETHREAD_METHOD_HELLO:
        set_hello(object, rethread_result_hello(result));
        break;
    case RETHREAD_METHOD_APPEND:
        set_append(object, rethread_result_append(result));
        break;
    case RETHREAD_METHOD_REPLAY:
        set_replay(object, rethread_result_replay(result), reveal);
        break;
    case RETHREAD_METHOD_STAT:
        set_stat(object, rethread_result_stat(result));
        break;
    case RETHREAD_METHOD_TOUCH:
        set_touch(object, rethread_result_touch(result));
        break;
    case RETHREAD_METHOD_FORK:
        json_set_bytes(object, "thread", rethread_result_fork(result)->thread);
        json_set_u64(object, "version", rethread_result_fork(result)->version);
        break;
    case RETHREAD_METHOD_REWIND:
        json_set_u64(object, "version", rethread_result_rewind(result)->version);
        json_set_u64(object, "dropped", rethread_result_rewind(result)->dropped);
        break;
    case RETHREAD_METHOD_FORGET:
        json_set_bool(object, "forgotten", rethread_result_forget(result)->forgotten);
        break;
    case RETHREAD_METHOD_INFO:
        set_info(object, rethread_result_info(result));
        break;
    case RETHREAD_METHOD_BEGIN:
        set_begin(object, rethread_result_begin(result));
        break;
    case RETHREAD_METHOD_CHUNK:
        json_set_u64(object, "bytes", rethread_result_chunk(result)->bytes);
        json_set_u64(object, "claim_expires_in_ms",
                     rethread_result_chunk(result)->claim_expires_in_ms);
        break;
    case RETHREAD_METHOD_COMMIT:
        set_append(object, rethread_result_commit(result));
        break;
    case RETHREAD_METHOD_ABORT:
        json_set_bool(object, "aborted", rethread_result_abort(result)->aborted);
        break;
    case RETHREAD_METHOD_PING:
    case RETHREAD_METHOD_LIST: /* printed thread by thread */
    case RETHREAD_METHOD_OTHER:
        break;
    }
    return object;
}

void json_print(json_t *object, FILE *out)
{
    if (json_dumpf(object, out, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15)) !=
            0 &&
        !ferror(out))
        cli_no_memory();
    fputc('\n', out);
    json_decref(object);
}
