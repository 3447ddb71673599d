/* Unweaving: the cases of tests/weave, what is refused, and the way back from what was made. */
#include "tests/client/weave_cases.h"

static void same_bytes(struct rethread_bytes got, struct rethread_bytes expected, const char *name,
                       const char *what)
{
    ck_assert_msg(got.size == expected.size &&
                      (got.size == 0 || memcmp(got.data, expected.data, got.size) == 0),
                  "%s: %s is another", name, what);
}

static void same_segment(const struct case_file *file, const json_t *expected,
                         const struct rethread_segment *got, struct rethread_bytes bytes,
                         const char *name)
{
    const json_t *json = json_object_get(expected, "json");
    ck_assert_msg(got->kind == case_kind(expected), "%s: a segment's kind", name);
    if (json == NULL) {
        same_bytes(got->bytes, bytes, name, "a segment");
        return;
    }
    ck_assert_msg(got->bytes.size > 12 && memcmp(got->bytes.data, "{\"rethread\":", 12) == 0,
                  "%s: what an envelope begins with", name);
    case_same_json(file, json, got->bytes, name, "a segment");
}

static void same_step(const struct case_file *file, const json_t *expected,
                      const struct rethread_append_options *got, const struct rethread_step *step,
                      const char *name)
{
    const json_t *segments = json_object_get(expected, "segments");
    ck_assert_ptr_null(got->thread.data);
    ck_assert_msg(got->turn.set && got->turn.value == step->turn, "%s: turn", name);
    ck_assert_msg(got->final.set && got->final.value == step->final, "%s: final", name);
    same_bytes(got->model, step->model, name, "the model");
    same_bytes(got->visible, step->visible, name, "the visible hash");
    ck_assert_msg(got->tool_calls.count == step->tool_calls.count, "%s: ids", name);
    ck_assert((got->tool_calls.items == NULL) == (got->tool_calls.count == 0));
    for (size_t i = 0; i < got->tool_calls.count; i++)
        same_bytes(got->tool_calls.items[i], step->tool_calls.items[i], name, "an id");
    ck_assert_msg(got->segments.count == json_array_size(segments), "%s: %zu segments", name,
                  got->segments.count);
    ck_assert(got->bare == (got->segments.count == 0));
    for (size_t i = 0; i < got->segments.count; i++)
        same_segment(file, json_array_get(segments, i), &got->segments.items[i],
                     step->segments.items[i].bytes, name);
}

/* What was unwoven as a replay of the whole thread. */
static void weave_back(const struct rethread_weave_options *options,
                       const struct rethread_unwoven *unwoven, const struct case_file *file,
                       const json_t *one)
{
    size_t count;
    const struct rethread_append_options *from = rethread_unwoven_steps(unwoven, &count);
    struct rethread_step *steps = calloc(count + 1, sizeof *steps);
    struct rethread_replay_result replay = {.steps = steps, .step_count = count};
    struct rethread_woven *woven;
    for (size_t i = 0; i < count; i++)
        steps[i] = (struct rethread_step){.step = i,
                                          .turn = from[i].turn.value,
                                          .final = from[i].final.value,
                                          .model = from[i].model,
                                          .tool_calls = from[i].tool_calls,
                                          .visible = from[i].visible,
                                          .segments = from[i].segments};
    if (count > 0)
        replay.head = rethread_u64(count - 1);
    ck_assert_int_eq(rethread_weave(options, rethread_unwoven_json(unwoven), &replay, &woven),
                     RETHREAD_OK);
    const json_t *expected = json_object_get(one, "woven");
    if (expected == NULL)
        expected = json_object_get(one, "transcript");
    case_check_woven(file, one, woven, expected);
    rethread_woven_free(woven);
    free(steps);
}

static uint64_t turns_after(const json_t *steps)
{
    size_t count = json_array_size(steps);
    return count == 0 ? 0
                      : (uint64_t)json_integer_value(
                            json_object_get(json_array_get(steps, count - 1), "turn"));
}

static void run_cases(const char *file_name)
{
    struct case_file file = case_read_file(file_name);
    size_t ran = 0;
    for (size_t i = 0; i < json_array_size(file.cases); i++) {
        const json_t *one = json_array_get(file.cases, i);
        const char *name = case_text(one, "name");
        const json_t *transcript = json_object_get(one, "transcript");
        if (transcript == NULL)
            continue;
        ran++;
        struct rethread_weave_options options = case_options(one);
        struct case_replay *expected = case_replay(&file, one);
        char *text = case_print(&file, transcript, 0);
        struct rethread_unwoven *unwoven = NULL;
        enum rethread_status status = rethread_unweave(&options, rethread_text(text), &unwoven);
        ck_assert_msg(status == RETHREAD_OK, "%s: %s", name,
                      unwoven != NULL ? rethread_unwoven_error(unwoven) : "no result");
        size_t count;
        const struct rethread_append_options *steps = rethread_unwoven_steps(unwoven, &count);
        case_same_json(&file, json_object_get(one, "visible"), rethread_unwoven_json(unwoven), name,
                       "the visible part");
        ck_assert_msg(count == expected->result.step_count, "%s: %zu steps", name, count);
        for (size_t j = 0; j < count; j++)
            same_step(&file, json_array_get(json_object_get(one, "steps"), j), &steps[j],
                      &expected->steps[j], name);
        ck_assert_uint_ge(rethread_unwoven_turn(unwoven),
                          turns_after(json_object_get(one, "steps")));
        weave_back(&options, unwoven, &file, one);
        rethread_unwoven_free(unwoven);
        case_replay_free(expected);
        free(text);
    }
    ck_assert_uint_gt(ran, 0);
    case_free_file(&file);
}

START_TEST(test_chat)
{
    run_cases("chat");
}
END_TEST

START_TEST(test_anthropic)
{
    run_cases("anthropic");
}
END_TEST

START_TEST(test_responses)
{
    run_cases("responses");
}
END_TEST

START_TEST(test_numbers)
{
    run_cases("numbers");
}
END_TEST

START_TEST(test_what_is_refused)
{
    struct case_file file = case_read_file("errors");
    for (size_t i = 0; i < json_array_size(file.cases); i++) {
        const json_t *one = json_array_get(file.cases, i);
        const char *name = case_text(one, "name");
        struct rethread_weave_options options = case_options(one);
        struct rethread_unwoven *unwoven = NULL;
        enum rethread_status status =
            rethread_unweave(&options, weave_json_bytes(json_object_get(one, "text")), &unwoven);
        ck_assert_msg(status == RETHREAD_INVALID_ARGUMENT || status == RETHREAD_TOO_LARGE, "%s: %s",
                      name, rethread_status_name(status));
        const char *error = rethread_unwoven_error(unwoven);
        size_t count;
        rethread_unwoven_steps(unwoven, &count);
        ck_assert_msg(strstr(error, case_text(one, "error")) != NULL, "%s: %s", name, error);
        ck_assert_msg(strstr(error, case_text(one, "canary")) == NULL, "%s: %s", name, error);
        ck_assert_ptr_null(rethread_unwoven_json(unwoven).data);
        ck_assert_uint_eq(count, 0);
        ck_assert_uint_eq(rethread_unwoven_turn(unwoven), 0);
        rethread_unwoven_free(unwoven);
    }
    case_free_file(&file);
}
END_TEST

START_TEST(test_the_turn_about_to_come)
{
    static const struct {
        enum rethread_transcript as;
        const char *text;
        uint64_t turn;
    } rows[] = {
        {RETHREAD_CHAT, "[]", 0},
        {RETHREAD_CHAT, "[{\"role\":\"user\"},{\"role\":\"assistant\"},{\"role\":\"user\"}]", 2},
        {RETHREAD_RESPONSES, "{\"input\":\"hi\"}", 1},
        {RETHREAD_RESPONSES, "[{\"role\":\"user\"},{\"type\":\"function_call_output\"}]", 1},
        {RETHREAD_ANTHROPIC,
         "[{\"role\":\"user\",\"content\":\"a\"},"
         "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\"}]}]",
         1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct rethread_weave_options options = {.as = rows[i].as};
        struct rethread_unwoven *unwoven;
        ck_assert_int_eq(rethread_unweave(&options, rethread_text(rows[i].text), &unwoven),
                         RETHREAD_OK);
        ck_assert_uint_eq(rethread_unwoven_turn(unwoven), rows[i].turn);
        rethread_unwoven_free(unwoven);
    }
}
END_TEST

START_TEST(test_arguments)
{
    struct rethread_weave_options options = {.as = (enum rethread_transcript)77};
    struct rethread_unwoven *unwoven;
    struct rethread_bytes nowhere = {NULL, 1};
    ck_assert_int_eq(rethread_unweave(&options, rethread_text("[]"), &unwoven),
                     RETHREAD_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(rethread_unwoven_error(unwoven));
    rethread_unwoven_free(unwoven);
    options.as = RETHREAD_CHAT;
    ck_assert_int_eq(rethread_unweave(NULL, rethread_text("[]"), &unwoven),
                     RETHREAD_INVALID_ARGUMENT);
    ck_assert_int_eq(rethread_unweave(&options, nowhere, &unwoven), RETHREAD_INVALID_ARGUMENT);
    ck_assert_ptr_null(unwoven);
    ck_assert_int_eq(rethread_unweave(&options, rethread_text("[]"), NULL),
                     RETHREAD_INVALID_ARGUMENT);
    rethread_unwoven_free(NULL);
}
END_TEST

/* Each allocation of jansson but those of reading fails once: no result, and nothing is lost. */
START_TEST(test_no_memory)
{
    static const char *const names[] = {"chat", "anthropic", "responses"};
    struct case_file file = case_read_file(names[_i]);
    size_t failed = 0;
    for (size_t i = 0; i < json_array_size(file.cases); i++) {
        const json_t *one = json_array_get(file.cases, i);
        struct rethread_weave_options options = case_options(one);
        char *text = case_print(&file, json_object_get(one, "transcript"), 0);
        struct rethread_unwoven *unwoven = NULL;
        enum rethread_status status = RETHREAD_NO_MEMORY;
        for (int fail = case_reading_takes(text); status == RETHREAD_NO_MEMORY; fail++) {
            case_until_failure = fail;
            json_set_alloc_funcs(case_malloc, free);
            status = rethread_unweave(&options, rethread_text(text), &unwoven);
            json_set_alloc_funcs(malloc, free);
            ck_assert(status == RETHREAD_OK || (status == RETHREAD_NO_MEMORY && unwoven == NULL));
            failed += status != RETHREAD_OK;
        }
        case_until_failure = -1;
        ck_assert_int_eq(status, RETHREAD_OK);
        weave_back(&options, unwoven, &file, one);
        rethread_unwoven_free(unwoven);
        free(text);
    }
    ck_assert_uint_gt(failed, 0);
    case_free_file(&file);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("unweave");
    TCase *all = tcase_create("unweave");
    tcase_add_test(all, test_chat);
    tcase_add_test(all, test_anthropic);
    tcase_add_test(all, test_responses);
    tcase_add_test(all, test_numbers);
    tcase_add_test(all, test_what_is_refused);
    tcase_add_test(all, test_the_turn_about_to_come);
    tcase_add_test(all, test_arguments);
    tcase_add_loop_test(all, test_no_memory, 0, 3);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
