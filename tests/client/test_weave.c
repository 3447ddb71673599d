/* Weaving: the cases of tests/weave, what is refused, and what must not cost too much. */
#include "tests/client/weave_cases.h"

#include <time.h>

static struct rethread_bytes bytes_of_text(const struct weave_text *text)
{
    return (struct rethread_bytes){text->data, text->size};
}

static void run_cases(const char *name)
{
    struct case_file file = case_read_file(name);
    ck_assert(json_array_size(file.cases) > 0);
    for (size_t i = 0; i < json_array_size(file.cases); i++) {
        const json_t *one = json_array_get(file.cases, i);
        const json_t *expected = json_object_get(one, "woven");
        if (expected == NULL)
            expected = json_object_get(one, "transcript");
        struct rethread_weave_options options = case_options(one);
        struct case_replay *replay = case_replay(&file, one);
        char *visible = case_print(&file, json_object_get(one, "visible"), 0);
        struct rethread_woven *woven = NULL;
        enum rethread_status status =
            rethread_weave(&options, rethread_text(visible), &replay->result, &woven);
        ck_assert_msg(status == RETHREAD_OK, "%s: %s", case_text(one, "name"),
                      woven != NULL ? rethread_woven_error(woven) : "no result");
        ck_assert_ptr_null(rethread_woven_error(woven));
        case_check_woven(&file, one, woven, expected);
        rethread_woven_free(woven);
        case_replay_free(replay);
        free(visible);
    }
    case_free_file(&file);
}

START_TEST(test_back_into_chat)
{
    run_cases("chat");
}
END_TEST

START_TEST(test_back_into_anthropic)
{
    run_cases("anthropic");
}
END_TEST

START_TEST(test_back_into_responses)
{
    run_cases("responses");
}
END_TEST

START_TEST(test_what_has_a_place)
{
    run_cases("places");
}
END_TEST

START_TEST(test_matching)
{
    run_cases("matching");
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
        struct rethread_replay_result nothing = {0};
        struct rethread_woven *woven = NULL;
        enum rethread_status status = rethread_weave(
            &options, weave_json_bytes(json_object_get(one, "text")), &nothing, &woven);
        ck_assert_msg(status == RETHREAD_INVALID_ARGUMENT || status == RETHREAD_TOO_LARGE, "%s: %s",
                      name, rethread_status_name(status));
        const char *error = rethread_woven_error(woven);
        ck_assert_msg(strstr(error, case_text(one, "error")) != NULL, "%s: %s", name, error);
        ck_assert_msg(strstr(error, case_text(one, "canary")) == NULL, "%s: %s", name, error);
        ck_assert_ptr_null(rethread_woven_json(woven).data);
        rethread_woven_free(woven);
    }
    case_free_file(&file);
}
END_TEST

static enum rethread_status try(const struct rethread_weave_options *options, const char *text,
                                char error[WEAVE_ERROR_BYTES])
{
    struct rethread_replay_result nothing = {0};
    struct rethread_woven *woven = NULL;
    enum rethread_status status = rethread_weave(options, rethread_text(text), &nothing, &woven);
    snprintf(error, WEAVE_ERROR_BYTES, "%s",
             status == RETHREAD_OK ? "" : rethread_woven_error(woven));
    rethread_woven_free(woven);
    return status;
}

START_TEST(test_options)
{
    static const char *const taken[] = {"role",  "content",       "tool_calls",  "name", "refusal",
                                        "audio", "function_call", "annotations", "",     "\xff"};
    struct rethread_woven *woven;
    struct rethread_replay_result nothing = {0};
    struct rethread_weave_options options = {0};
    char error[WEAVE_ERROR_BYTES];
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        options.field = taken[i];
        ck_assert_int_eq(try(&options, "[]", error), RETHREAD_INVALID_ARGUMENT);
        ck_assert_msg(strstr(error, "field") != NULL, "%s", error);
    }
    options.field = "0123456789012345678901234567890123456789012345678901234567890123";
    ck_assert_int_eq(try(&options, "[]", error), RETHREAD_OK);
    options.field = "01234567890123456789012345678901234567890123456789012345678901234";
    ck_assert_int_eq(try(&options, "[]", error), RETHREAD_INVALID_ARGUMENT);
    options = (struct rethread_weave_options){.as = (enum rethread_transcript)3};
    ck_assert_int_eq(try(&options, "[]", error), RETHREAD_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error, "`as`") != NULL, "%s", error);
    options.as = RETHREAD_CHAT;
    ck_assert_int_eq(rethread_weave(NULL, rethread_text("[]"), &nothing, &woven),
                     RETHREAD_INVALID_ARGUMENT);
    ck_assert_int_eq(rethread_weave(&options, rethread_text("[]"), NULL, &woven),
                     RETHREAD_INVALID_ARGUMENT);
    ck_assert_int_eq(rethread_weave(&options, rethread_text("[]"), &nothing, NULL),
                     RETHREAD_INVALID_ARGUMENT);
    struct rethread_bytes nowhere = {NULL, 4};
    ck_assert_int_eq(rethread_weave(&options, nowhere, &nothing, &woven),
                     RETHREAD_INVALID_ARGUMENT);
    ck_assert_ptr_null(woven);
    rethread_woven_free(NULL);
}
END_TEST

START_TEST(test_the_field_is_the_profiles)
{
    static const struct {
        const char *model;
        const char *field;
    } rows[] = {{"gpt-oss-120b", "\"thinking\":"},
                {"qwen3-32b", "\"reasoning_content\":"},
                {"", "\"reasoning_content\":"}};
    struct rethread_segment trace = {RETHREAD_KIND_TEXT, rethread_text("hm")};
    struct rethread_step step = {.segments = {&trace, 1}};
    struct rethread_replay_result replay = {
        .head = rethread_u64(0), .steps = &step, .step_count = 1};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct rethread_weave_options options = {.model = rethread_text(rows[i].model)};
        struct rethread_woven *woven;
        ck_assert_int_eq(
            rethread_weave(&options, rethread_text("[{\"role\":\"assistant\"}]"), &replay, &woven),
            RETHREAD_OK);
        ck_assert_msg(strstr(rethread_woven_json(woven).data, rows[i].field) != NULL, "%s",
                      (const char *)rethread_woven_json(woven).data);
        ck_assert_uint_eq(rethread_woven_call_count(woven), 1);
        rethread_woven_free(woven);
    }
}
END_TEST

START_TEST(test_profiles_of_a_file)
{
    char path[] = "/tmp/rethread-weave-XXXXXX";
    char error[RETHREAD_PROFILES_ERROR_BYTES];
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    ck_assert(file != NULL);
    fputs("mine* all thinking anyone\n", file);
    fclose(file);
    struct rethread_profiles *profiles = NULL;
    ck_assert_int_eq(rethread_profiles_load(path, &profiles, error), RETHREAD_OK);
    struct rethread_segment trace = {RETHREAD_KIND_TEXT, rethread_text("hm")};
    struct rethread_step step = {.segments = {&trace, 1}};
    struct rethread_replay_result replay = {
        .head = rethread_u64(0), .steps = &step, .step_count = 1};
    struct rethread_weave_options options = {.model = rethread_text("mine-7b"),
                                             .profiles = profiles};
    struct rethread_woven *woven;
    ck_assert_int_eq(
        rethread_weave(&options, rethread_text("[{\"role\":\"assistant\"}]"), &replay, &woven),
        RETHREAD_OK);
    ck_assert_ptr_nonnull(strstr(rethread_woven_json(woven).data, "\"thinking\":\"hm\""));
    rethread_woven_free(woven);
    rethread_profiles_free(profiles);
    remove(path);
    ck_assert_int_eq(rethread_profiles_load(path, &profiles, error), RETHREAD_INVALID_ARGUMENT);
    ck_assert_ptr_null(profiles);
    ck_assert_uint_gt(strlen(error), 0);
    ck_assert_int_eq(rethread_profiles_load(path, &profiles, NULL), RETHREAD_INVALID_ARGUMENT);
    rethread_profiles_free(NULL);
}
END_TEST

/* Many pieces among many parts, many equal calls: nothing may grow with a product. */
START_TEST(test_large_ones_take_no_longer_than_they_must)
{
    enum { PARTS = 30000 };
    struct weave_text envelope = {0};
    struct weave_text visible = {0};
    const char start[] = "{\"rethread\":\"blocks\",\"blocks\":[";
    weave_text_add(&envelope, start, strlen(start));
    const char message[] = "[{\"role\":\"assistant\",\"content\":[";
    weave_text_add(&visible, message, strlen(message));
    for (int i = 0; i < PARTS; i++) {
        char part[100];
        int length =
            snprintf(part, sizeof part, "%s{\"at\":%d,\"block\":{\"type\":\"redacted_thinking\"}}",
                     i > 0 ? "," : "", PARTS - i);
        weave_text_add(&envelope, part, (size_t)length);
        length = snprintf(part, sizeof part, "%s{\"type\":\"x\"}", i > 0 ? "," : "");
        weave_text_add(&visible, part, (size_t)length);
    }
    weave_text_add(&envelope, "]}", 2);
    weave_text_add(&visible, "]}]", 3);
    struct rethread_segment trace = {RETHREAD_KIND_OPAQUE, bytes_of_text(&envelope)};
    struct rethread_step step = {.segments = {&trace, 1}};
    struct rethread_replay_result replay = {
        .head = rethread_u64(0), .steps = &step, .step_count = 1};
    struct rethread_weave_options options = {.as = RETHREAD_ANTHROPIC};
    struct rethread_woven *woven;
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    ck_assert_int_eq(rethread_weave(&options, bytes_of_text(&visible), &replay, &woven),
                     RETHREAD_OK);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    ck_assert_uint_gt(rethread_woven_json(woven).size, visible.size);
    /* 0.05 s here; some 10 s when every part looks at every piece. */
    ck_assert_int_lt(after.tv_sec - before.tv_sec, 3);
    rethread_woven_free(woven);
    free(envelope.data);
    free(visible.data);
}
END_TEST

START_TEST(test_too_many_values_of_the_replay)
{
    struct weave_text envelope = {0};
    const char start[] = "{\"rethread\":\"blocks\",\"blocks\":[";
    weave_text_add(&envelope, start, strlen(start));
    for (int i = 0; i < WEAVE_ENVELOPES_VALUES_MAX + 1; i++)
        weave_text_add(&envelope, "0,", 2);
    weave_text_add(&envelope, "0]}", 3);
    struct rethread_segment trace = {RETHREAD_KIND_OPAQUE, bytes_of_text(&envelope)};
    struct rethread_step step = {.segments = {&trace, 1}};
    struct rethread_replay_result replay = {
        .head = rethread_u64(0), .steps = &step, .step_count = 1};
    struct rethread_weave_options options = {.as = RETHREAD_CHAT};
    struct rethread_woven *woven;
    ck_assert_int_eq(
        rethread_weave(&options, rethread_text("[{\"role\":\"assistant\"}]"), &replay, &woven),
        RETHREAD_TOO_LARGE);
    ck_assert_msg(strstr(rethread_woven_error(woven), "replay") != NULL, "%s",
                  rethread_woven_error(woven));
    rethread_woven_free(woven);
    free(envelope.data);
}
END_TEST

/* Each allocation of jansson but those of reading fails once: no result, and nothing is lost. */
START_TEST(test_no_memory)
{
    struct case_file file = case_read_file("places");
    size_t failed = 0;
    for (size_t i = 0; i < json_array_size(file.cases); i++) {
        const json_t *one = json_array_get(file.cases, i);
        struct rethread_weave_options options = case_options(one);
        char *steps = case_print(&file, json_object_get(one, "steps"), 0);
        bool reads_more = strstr(steps, "\"json\"") != NULL || strstr(steps, "{\\\"") != NULL;
        free(steps);
        if (reads_more)
            continue;
        struct case_replay *replay = case_replay(&file, one);
        char *visible = case_print(&file, json_object_get(one, "visible"), 0);
        struct rethread_woven *woven = NULL;
        enum rethread_status status = RETHREAD_NO_MEMORY;
        for (int fail = case_reading_takes(visible); status == RETHREAD_NO_MEMORY; fail++) {
            case_until_failure = fail;
            json_set_alloc_funcs(case_malloc, free);
            status = rethread_weave(&options, rethread_text(visible), &replay->result, &woven);
            json_set_alloc_funcs(malloc, free);
            ck_assert(status == RETHREAD_OK || (status == RETHREAD_NO_MEMORY && woven == NULL));
            failed += status != RETHREAD_OK;
        }
        case_until_failure = -1;
        ck_assert_int_eq(status, RETHREAD_OK);
        case_check_woven(&file, one, woven, json_object_get(one, "woven"));
        rethread_woven_free(woven);
        case_replay_free(replay);
        free(visible);
    }
    ck_assert_uint_gt(failed, 0);
    case_free_file(&file);
}
END_TEST

int main(void)
{
    return SUITE_RUN("weave", NULL, NULL, 0, test_back_into_chat, test_back_into_anthropic,
                     test_back_into_responses, test_what_has_a_place, test_matching, test_numbers,
                     test_what_is_refused, test_options, test_the_field_is_the_profiles,
                     test_profiles_of_a_file, test_large_ones_take_no_longer_than_they_must,
                     test_too_many_values_of_the_replay, test_no_memory);
}
