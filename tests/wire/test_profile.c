/* The built-in profiles: which row a real model name finds, and who may read whom. */
#include "tests/lib/trial.h"
#include "tests/wire/test_profile.h"
#include "wire/parse.h"
#include "wire/profile.h"

static const struct profile *find(const char *model)
{
    return profiles_find(NULL, bytes_text(model));
}

static const struct known {
    const char *model;
    enum wire_policy policy;
    uint32_t turns;
    const char *field;
    bool anyone;
} known[] = {
#define RC "reasoning_content"
#define ROW(model, policy, turns, field, anyone)                                                   \
    {                                                                                              \
        model, WIRE_POLICY_##policy, turns, field, anyone                                          \
    }
    ROW("gpt-oss-120b", SINCE_FINAL, 0, "thinking", true),
    ROW("openai/gpt-oss-20b", SINCE_FINAL, 0, "thinking", true),
    ROW("gpt-oss:20b", SINCE_FINAL, 0, "thinking", true),
    ROW("openai.gpt-oss-120b-1:0", SINCE_FINAL, 0, "thinking", true),
    ROW("unsloth/gpt-oss-20b-GGUF", SINCE_FINAL, 0, "thinking", true),

    ROW("Qwen/Qwen3-8B", CURRENT_TURN, 0, RC, true),
    ROW("Qwen/Qwen3-235B-A22B-Thinking-2507-FP8", CURRENT_TURN, 0, RC, true),
    ROW("qwen3:30b", CURRENT_TURN, 0, RC, true),
    ROW("Qwen/Qwen3.6-27B", CURRENT_TURN, 0, RC, true),
    ROW("QWEN3.8-MAX", ALL, 0, RC, true),
    ROW("Qwen/Qwen3.8-32B", ALL, 0, RC, true),
    ROW("Qwen/Qwen3-8.8B", CURRENT_TURN, 0, RC, true),
    ROW("qwen2.5-72b-instruct", ALL, 0, RC, false),

    ROW("deepseek-ai/DeepSeek-V4", TOOL_TURNS, 0, RC, true),
    ROW("deepseek-v4-flash", TOOL_TURNS, 0, RC, true),
    ROW("deepseek-ai/DeepSeek-V3.2", CURRENT_TURN, 0, RC, true),
    ROW("DeepSeek-V3.2-Speciale", CURRENT_TURN, 0, RC, true),
    ROW("deepseek-reasoner", CURRENT_TURN, 0, RC, true),
    ROW("deepseek-chat", CURRENT_TURN, 0, RC, true),
    ROW("deepseek-ai/DeepSeek-R1-0528", NONE, 0, RC, true),
    ROW("deepseek-r1:7b", NONE, 0, RC, true),
    ROW("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", NONE, 0, RC, true),

    ROW("zai-org/GLM-4.5-Air", CURRENT_TURN, 0, RC, true),
    ROW("zai-org/GLM-4.6-FP8", CURRENT_TURN, 0, RC, true),
    ROW("glm-4.7", CURRENT_TURN, 0, RC, true),
    ROW("glm-5", CURRENT_TURN, 0, RC, true),
    ROW("zai-org/GLM-5.2", CURRENT_TURN, 0, RC, true),
    ROW("GLM-5.3", ALL, 0, RC, true),
    ROW("moonshotai/Kimi-K2-Thinking", SINCE_FINAL, 0, RC, true),
    ROW("kimi-k2.6", SINCE_FINAL, 0, RC, true),
    ROW("kimi-k3", ALL, 0, RC, true),
    ROW("MiniMaxAI/MiniMax-M2.5", CURRENT_TURN, 0, RC, true),
    ROW("google/gemma-4-31b-it", NONE, 0, RC, true),
    ROW("gemma4:27b", NONE, 0, RC, true),

    ROW("gpt-5.6", ALL, 0, "reasoning", false),
    ROW("gpt-5.6-mini-2026-08-01", ALL, 0, "reasoning", false),
    ROW("openai/gpt-5.6", ALL, 0, "reasoning", false),
    ROW("gpt-5.7", ALL, 0, "reasoning", false),
    ROW("gpt-6", ALL, 0, "reasoning", false),
    ROW("gpt-5.5", CURRENT_TURN, 0, "reasoning", false),
    ROW("gpt-5.1-codex-max", CURRENT_TURN, 0, "reasoning", false),
    ROW("gpt-5.2-2025-12-11", CURRENT_TURN, 0, "reasoning", false),
    ROW("gpt-5", CURRENT_TURN, 0, "reasoning", false),
    ROW("gpt-5-mini-2025-08-07", CURRENT_TURN, 0, "reasoning", false),
    ROW("openai/gpt-5-codex", CURRENT_TURN, 0, "reasoning", false),
    ROW("gpt-4.1", CURRENT_TURN, 0, "reasoning", false),
    ROW("o1-preview", CURRENT_TURN, 0, "reasoning", false),
    ROW("o3", CURRENT_TURN, 0, "reasoning", false),
    ROW("o3-deep-research-2025-06-26", CURRENT_TURN, 0, "reasoning", false),
    ROW("o4-mini", CURRENT_TURN, 0, "reasoning", false),
    ROW("gemini-3-pro-preview", ALL, 0, RC, false),
    ROW("google/gemini-2.5-flash", ALL, 0, RC, false),
    ROW("grok-4-fast-reasoning", ALL, 0, RC, false),

    ROW("claude-3-7-sonnet-latest", LAST_TURNS, 1, "thinking", false),
    ROW("anthropic/claude-3.7-sonnet:thinking", LAST_TURNS, 1, "thinking", false),
    ROW("claude-opus-4-20250514", LAST_TURNS, 1, "thinking", false),
    ROW("claude-opus-4-0", LAST_TURNS, 1, "thinking", false),
    ROW("anthropic/claude-opus-4", LAST_TURNS, 1, "thinking", false),
    ROW("claude-opus-4@20250514", LAST_TURNS, 1, "thinking", false),
    ROW("claude-opus-4-1", LAST_TURNS, 1, "thinking", false),
    ROW("claude-opus-4-1-20250805", LAST_TURNS, 1, "thinking", false),
    ROW("anthropic/claude-opus-4.1", LAST_TURNS, 1, "thinking", false),
    ROW("us.anthropic.claude-opus-4-1-20250805-v1:0", LAST_TURNS, 1, "thinking", false),
    ROW("claude-4-opus-20250514", LAST_TURNS, 1, "thinking", false),
    ROW("claude-opus-4-5-20251101", ALL, 0, "thinking", false),
    ROW("anthropic/claude-opus-4.5", ALL, 0, "thinking", false),
    ROW("claude-opus-4-6", ALL, 0, "thinking", false),
    ROW("claude-opus-5-5", ALL, 0, "thinking", false),
    ROW("global.anthropic.claude-opus-4-6-v1", ALL, 0, "thinking", false),
    ROW("claude-sonnet-4-20250514", LAST_TURNS, 1, "thinking", false),
    ROW("anthropic/claude-sonnet-4", LAST_TURNS, 1, "thinking", false),
    ROW("claude-sonnet-4-5-20250929", LAST_TURNS, 1, "thinking", false),
    ROW("claude-sonnet-4-5@20250929", LAST_TURNS, 1, "thinking", false),
    ROW("anthropic/claude-sonnet-4.5", LAST_TURNS, 1, "thinking", false),
    ROW("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-20250514-v1:0",
        LAST_TURNS, 1, "thinking", false),
    ROW("claude-sonnet-4-6", ALL, 0, "thinking", false),
    ROW("claude-sonnet-4.6", ALL, 0, "thinking", false),
    ROW("claude-sonnet-5", ALL, 0, "thinking", false),
    ROW("claude-sonnet-5-5", ALL, 0, "thinking", false),
    ROW("claude-haiku-4-5-20251001", LAST_TURNS, 1, "thinking", false),
    ROW("anthropic/claude-haiku-4.5", LAST_TURNS, 1, "thinking", false),
    ROW("claude-haiku-5-5", ALL, 0, "thinking", false),
    ROW("claude-fable-5-1", ALL, 0, "thinking", false),

    ROW("", ALL, 0, RC, false),
    ROW("some-model", ALL, 0, RC, false),
    ROW("gpt-oss/other", ALL, 0, RC, false),
    ROW("Qwen/Qwen3-8B/", ALL, 0, RC, false),
    ROW("not-qwen3-8b", ALL, 0, RC, false),
#undef ROW
#undef RC
};

START_TEST(real_names)
{
    const struct known *row = &known[_i];
    const struct profile *found = find(row->model);
    ck_assert_msg(found->policy == row->policy, "%s found %s", row->model, found->pattern);
    ck_assert_msg(found->turns == row->turns, "%s found %s", row->model, found->pattern);
    ck_assert_msg(strcmp(found->field, row->field) == 0, "%s found %s", row->model, found->pattern);
    ck_assert_msg(found->anyone == row->anyone, "%s found %s", row->model, found->pattern);
}
END_TEST

/* A row that nothing finds stands behind one that takes all it could take. */
START_TEST(every_row_is_found_and_sound){
#define PROFILE(PATTERN, POLICY, TURNS, FIELD, READABLE, source)                                   \
    {                                                                                              \
        char name[PROFILE_PATTERN_BYTES + 8];                                                      \
        size_t size = 0;                                                                           \
        for (const char *c = PATTERN; *c != '\0'; c++) {                                           \
            if (*c != '*') {                                                                       \
                name[size++] = *c;                                                                 \
            }                                                                                      \
        }                                                                                          \
        name[size] = '\0';                                                                         \
        const struct profile *found = find(name);                                                  \
        ck_assert_msg(strcmp(found->pattern, PATTERN) == 0, "%s finds %s", name, found->pattern);  \
        ck_assert_uint_lt(sizeof PATTERN, PROFILE_PATTERN_BYTES);                                  \
        ck_assert_uint_lt(sizeof FIELD, PROFILE_FIELD_BYTES);                                      \
        ck_assert_int_eq(WIRE_POLICY_##POLICY == WIRE_POLICY_LAST_TURNS, TURNS > 0);               \
        ck_assert_uint_gt(strlen(source), 5);                                                      \
    }
#include "schema/profiles.def"
#undef PROFILE
} END_TEST

    START_TEST(names_may_be_any_bytes)
{
    static const char bytes[] = "qwen3\0\xff/\0\x80";
    ck_assert_str_eq(profiles_find(NULL, bytes_of(bytes, sizeof bytes - 1))->pattern, "*");
    ck_assert_str_eq(profiles_find(NULL, bytes_of(bytes, 7))->pattern, "qwen3*");
    ck_assert_str_eq(profiles_find(NULL, bytes_of("o1\0", 3))->pattern, "o1*");
    /* A zero byte is not the end of a pattern. */
    ck_assert_str_eq(profiles_find(NULL, bytes_of("claude-opus-4\0", 14))->pattern, "*claude*");
    ck_assert_str_eq(profiles_find(NULL, bytes_of("claude-opus-4", 13))->pattern, "*claude-opus-4");
    ck_assert_str_eq(profiles_find(NULL, bytes_of(NULL, 0))->pattern, "*");
    ck_assert_str_eq(profiles_find(NULL, bytes_text("///"))->pattern, "*");
    uint64_t seed = 7;
    for (uint64_t i = trial_count(20000); i > 0; i--) {
        uint8_t name[255];
        size_t size = (size_t)(trial_random(&seed) % (sizeof name + 1));
        for (size_t b = 0; b < size; b++) {
            name[b] = (uint8_t)("claude-opus-4*/\0Q3"[trial_random(&seed) % 18]);
        }
        uint8_t *exact = malloc(size > 0 ? size : 1); /* for AddressSanitizer */
        memcpy(exact, name, size);
        if (profiles_find(NULL, bytes_of(exact, size)) == NULL) {
            ck_abort_msg("nothing found");
        }
        free(exact);
    }
}
END_TEST

static bool may_read(const char *writer, const char *reader)
{
    return profiles_may_read(NULL, bytes_text(writer), bytes_text(reader));
}

START_TEST(who_may_read)
{
    ck_assert(may_read("claude-opus-4-6", "claude-opus-4-6"));
    ck_assert(!may_read("claude-opus-4-6", "claude-opus-4-5"));
    ck_assert(!may_read("claude-opus-4-6", "qwen3-8b"));
    ck_assert(!may_read("gpt-5.6", "gpt-5.6-mini"));
    ck_assert(!may_read("gpt-5.6", "openai/gpt-5.6")); /* by another route it may be sealed anew */
    ck_assert(!may_read("gemini-3-pro", "claude-opus-4-6"));
    ck_assert(!may_read("unheard-of", "qwen3-8b"));
    ck_assert(may_read("unheard-of", "unheard-of"));
    ck_assert(may_read("qwen3-8b", "claude-opus-4-6")); /* the writer's profile counts */
    ck_assert(may_read("deepseek-r1", "kimi-k2"));
    ck_assert(may_read("", "claude-opus-4-6"));
    ck_assert(may_read("claude-opus-4-6", ""));
    ck_assert(may_read("", ""));
}
END_TEST

/* Each policy has a row, and each model that it names has that policy. */
START_TEST(models_that_the_readme_names)
{
    char *text = read_readme();
    for (unsigned p = 0; p < WIRE_POLICY_COUNT; p++) {
        char row[64];
        snprintf(row, sizeof row, "\n| `%s` | ", wire_policy_name((enum wire_policy)p));
        char *at = strstr(text, row);
        ck_assert_msg(at != NULL, "no row of %s", row);
        char *end = strchr(at + 1, '\n');
        *end = '\0';
        unsigned models = 0;
        for (at = strstr(at + strlen(row), " | "); (at = strchr(at, '`')) != NULL; models++) {
            char *close = strchr(at + 1, '`');
            ck_assert_ptr_nonnull(close);
            *close = '\0';
            ck_assert_msg(find(at + 1)->policy == p, "%s", at + 1);
            ck_assert_msg(find(at + 1)->turns <= 1, "%s", at + 1);
            *close = '`';
            at = close + 1;
        }
        ck_assert_int_eq(models > 0, p != WIRE_POLICY_AUTO);
        *end = '\n';
    }
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("profile");
    TCase *tcase = tcase_create("built in");
    tcase_add_loop_test(tcase, real_names, 0, sizeof known / sizeof known[0]);
    tcase_add_test(tcase, every_row_is_found_and_sound);
    tcase_add_test(tcase, names_may_be_any_bytes);
    tcase_add_test(tcase, who_may_read);
    tcase_add_test(tcase, models_that_the_readme_names);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
