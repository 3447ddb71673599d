/*
 * The cases of tests/weave/cases, which every implementation of weaving runs: reading them, and
 * making of their steps what the library takes. tests/weave/README.md says what a case is.
 */
#ifndef RETHREAD_TESTS_CLIENT_WEAVE_CASES_H
#define RETHREAD_TESTS_CLIENT_WEAVE_CASES_H

#include "client/names.h"
#include "client/weave_json.h"

#include "tests/lib/suite.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum { CASE_IDS_MAX = 200, CASE_SEGMENTS_MAX = 80, CASE_STEPS_MAX = 64 };

struct case_file {
    char *text; /* literals of the cases lie in it */
    struct weave_json json;
    json_t *cases;
};

/* A replay made of a case's steps; freed with case_replay_free. */
struct case_replay {
    struct rethread_replay_result result;
    struct rethread_step steps[CASE_STEPS_MAX];
    struct rethread_bytes ids[CASE_STEPS_MAX][CASE_IDS_MAX];
    struct rethread_segment segments[CASE_STEPS_MAX][CASE_SEGMENTS_MAX];
    void *owned[CASE_STEPS_MAX * (CASE_SEGMENTS_MAX + 1)];
    size_t owned_count;
};

static inline struct case_file case_read_file(const char *name)
{
    struct case_file file = {0};
    char path[256];
    snprintf(path, sizeof path, "tests/weave/cases/%s.json", name);
    FILE *in = fopen(path, "rb");
    ck_assert_msg(in != NULL, "%s cannot be read: run this from the root of the tree", path);
    struct weave_text text = {0};
    char part[65536];
    for (size_t got; (got = fread(part, 1, sizeof part, in)) > 0;)
        ck_assert(weave_text_add(&text, part, got));
    fclose(in);
    weave_json_limit(&file.json, 500, 1 << 20);
    struct weave_error error = {0};
    struct rethread_bytes bytes = {text.data, text.size};
    enum rethread_status status = weave_json_read(&file.json, bytes, &file.cases, &error);
    ck_assert_msg(status == RETHREAD_OK, "%s %s", path, error.text);
    file.text = text.data;
    return file;
}

static inline void case_free_file(struct case_file *file)
{
    json_decref(file->cases);
    weave_json_free(&file->json);
    free(file->text);
}

/* To be freed. With JSON_SORT_KEYS texts of equal values are equal. */
static inline char *case_print(const struct case_file *file, const json_t *value, size_t flags)
{
    struct weave_text text = {0};
    ck_assert(value != NULL && weave_json_print(&file->json, value, flags, &text));
    return text.data;
}

/* Any JSON text in the same canonical form. */
static inline char *case_canonical(struct rethread_bytes text)
{
    struct case_file file = {0};
    struct weave_error error = {0};
    weave_json_limit(&file.json, 1000, 1 << 20);
    enum rethread_status status = weave_json_read(&file.json, text, &file.cases, &error);
    ck_assert_msg(status == RETHREAD_OK, "what came out %s", error.text);
    char *printed = case_print(&file, file.cases, JSON_SORT_KEYS);
    case_free_file(&file);
    return printed;
}

static inline void case_same_json(const struct case_file *file, const json_t *expected,
                                  struct rethread_bytes got, const char *name, const char *what)
{
    char *wanted = case_print(file, expected, JSON_SORT_KEYS);
    char *had = case_canonical(got);
    ck_assert_msg(strcmp(wanted, had) == 0, "%s: %s is\n%s\nand not\n%s", name, what, had, wanted);
    free(wanted);
    free(had);
}

static inline const char *case_text(const json_t *one, const char *name)
{
    return json_string_value(json_object_get(one, name));
}

static inline struct rethread_weave_options case_options(const json_t *one)
{
    struct rethread_weave_options options = {.model = rethread_text(case_text(one, "model")),
                                             .field = case_text(one, "field")};
    const char *as = case_text(one, "as");
    while (strcmp(rethread_transcript_name(options.as), as) != 0) {
        options.as++;
        ck_assert_msg(options.as <= RETHREAD_ANTHROPIC, "%s is no form", as);
    }
    return options;
}

static inline enum rethread_kind case_kind(const json_t *segment)
{
    return client_kind_named(rethread_text(case_text(segment, "kind")));
}

static inline void *case_own(struct case_replay *replay, void *block)
{
    ck_assert(block != NULL && replay->owned_count < sizeof replay->owned / sizeof(void *));
    return replay->owned[replay->owned_count++] = block;
}

static inline struct rethread_bytes case_segment(const struct case_file *file,
                                                 struct case_replay *replay, const json_t *segment)
{
    const json_t *text = json_object_get(segment, "text");
    const json_t *json = json_object_get(segment, "json");
    const char *base64 = case_text(segment, "base64");
    if (text != NULL)
        return weave_json_bytes(text);
    if (json != NULL)
        return rethread_text(case_own(replay, case_print(file, json, 0)));
    size_t size = 0;
    unsigned char *bytes = case_own(replay, malloc(strlen(base64) + 1));
    ck_assert_int_eq(sodium_base642bin(bytes, strlen(base64), base64, strlen(base64), NULL, &size,
                                       NULL, sodium_base64_VARIANT_ORIGINAL),
                     0);
    return (struct rethread_bytes){bytes, size};
}

static inline void case_step(const struct case_file *file, struct case_replay *replay, size_t i,
                             const json_t *from)
{
    struct rethread_step *step = &replay->steps[i];
    const json_t *number = json_object_get(from, "step");
    const json_t *ids = json_object_get(from, "tool_calls");
    const json_t *segments = json_object_get(from, "segments");
    const char *missing = case_text(from, "missing");
    const char *visible = case_text(from, "visible");
    step->step = number != NULL ? (uint64_t)json_integer_value(number) : i;
    if (missing != NULL) {
        step->missing = client_reason_named(rethread_text(missing));
        return;
    }
    step->turn = (uint64_t)json_integer_value(json_object_get(from, "turn"));
    step->final = json_is_true(json_object_get(from, "final"));
    step->model = rethread_text(case_text(from, "model"));
    if (visible != NULL) {
        unsigned char *hash = case_own(replay, malloc(RETHREAD_VISIBLE_BYTES));
        ck_assert_int_eq(sodium_hex2bin(hash, RETHREAD_VISIBLE_BYTES, visible, strlen(visible),
                                        NULL, NULL, NULL),
                         0);
        step->visible = (struct rethread_bytes){hash, RETHREAD_VISIBLE_BYTES};
    }
    for (size_t j = 0; j < json_array_size(ids); j++)
        replay->ids[i][j] = weave_json_bytes(json_array_get(ids, j));
    step->tool_calls = (struct rethread_ids){replay->ids[i], json_array_size(ids)};
    ck_assert(json_array_size(ids) <= CASE_IDS_MAX &&
              json_array_size(segments) <= CASE_SEGMENTS_MAX);
    for (size_t j = 0; j < json_array_size(segments); j++) {
        const json_t *segment = json_array_get(segments, j);
        replay->segments[i][j] =
            (struct rethread_segment){case_kind(segment), case_segment(file, replay, segment)};
    }
    step->segments = (struct rethread_segments){replay->segments[i], json_array_size(segments)};
}

static inline struct case_replay *case_replay(const struct case_file *file, const json_t *one)
{
    struct case_replay *replay = calloc(1, sizeof *replay);
    const json_t *steps = json_object_get(one, "steps");
    const json_t *head = json_object_get(one, "head");
    uint64_t highest = 0;
    ck_assert(json_array_size(steps) <= CASE_STEPS_MAX);
    for (size_t i = 0; i < json_array_size(steps); i++) {
        case_step(file, replay, i, json_array_get(steps, i));
        highest = replay->steps[i].step > highest ? replay->steps[i].step : highest;
    }
    replay->result.steps = replay->steps;
    replay->result.step_count = json_array_size(steps);
    if (head != NULL)
        replay->result.head = rethread_u64((uint64_t)json_integer_value(head));
    else if (replay->result.step_count > 0)
        replay->result.head = rethread_u64(highest);
    return replay;
}

static inline void case_replay_free(struct case_replay *replay)
{
    for (size_t i = 0; i < replay->owned_count; i++)
        free(replay->owned[i]);
    free(replay);
}

/*
 * Allocations of jansson that fail: the one after so many. What reads JSON is left alone: jansson's
 * lexer itself does not survive the lack of memory.
 */
static int case_until_failure = -1; /* below 0: it has failed, or none is to */
static int case_allocated;

static inline void *case_malloc(size_t size)
{
    case_allocated++;
    return case_until_failure >= 0 && case_until_failure-- == 0 ? NULL : malloc(size);
}

/* How many allocations reading a text takes. */
static inline int case_reading_takes(const char *text)
{
    struct weave_json json = {0};
    struct weave_error error;
    json_t *root;
    weave_json_limit(&json, 1000, 1 << 20);
    case_allocated = 0;
    json_set_alloc_funcs(case_malloc, free);
    ck_assert_int_eq(weave_json_read(&json, rethread_text(text), &root, &error), RETHREAD_OK);
    json_set_alloc_funcs(malloc, free);
    json_decref(root);
    weave_json_free(&json);
    return case_allocated;
}

static inline void case_same_text(const char *got, const char *expected, const char *name)
{
    ck_assert_msg(strcmp(got, expected != NULL ? expected : "") == 0, "%s: %s and not %s", name,
                  got, expected != NULL ? expected : "nothing");
}

/* What was woven, against `woven`, `report` and `unmatched` of the case. */
static inline void case_check_woven(const struct case_file *file, const json_t *one,
                                    const struct rethread_woven *woven, const json_t *expected)
{
    const char *name = case_text(one, "name");
    const json_t *report = json_object_get(one, "report");
    const json_t *unmatched = json_object_get(one, "unmatched");
    size_t count;
    size_t open_count;
    const struct rethread_woven_step *steps = rethread_woven_steps(woven, &count);
    const size_t *open = rethread_woven_unmatched(woven, &open_count);
    case_same_json(file, expected, rethread_woven_json(woven), name, "what was woven");
    if (report != NULL)
        ck_assert_msg(count == json_array_size(report), "%s: %zu entries", name, count);
    for (size_t i = 0; i < count && report != NULL; i++) {
        const json_t *entry = json_array_get(report, i);
        const json_t *call = json_object_get(entry, "call");
        uint64_t left_out = (uint64_t)json_integer_value(json_object_get(entry, "left_out"));
        case_same_text(rethread_woven_outcome_name(steps[i].outcome), case_text(entry, "outcome"),
                       name);
        case_same_text(rethread_woven_by_name(steps[i].by), case_text(entry, "by"), name);
        case_same_text(rethread_reason_name(steps[i].reason), case_text(entry, "reason"), name);
        ck_assert_msg(steps[i].call.set == json_is_integer(call), "%s: call", name);
        if (steps[i].call.set)
            ck_assert_uint_eq(steps[i].call.value, (uint64_t)json_integer_value(call));
        ck_assert_uint_eq(steps[i].step,
                          (uint64_t)json_integer_value(json_object_get(entry, "step")));
        ck_assert_msg(steps[i].left_out == left_out, "%s: %zu left out", name, steps[i].left_out);
    }
    if (unmatched == NULL)
        return;
    ck_assert_msg(open_count == json_array_size(unmatched), "%s: %zu calls unmatched", name,
                  open_count);
    for (size_t i = 0; i < open_count; i++)
        ck_assert_uint_eq(open[i], (uint64_t)json_integer_value(json_array_get(unmatched, i)));
}

#endif
