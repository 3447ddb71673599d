/* Profiles: which row a real model name finds, who may read whom, and files of any bytes. */
#include "tests/lib/trial.h"
#include "wire/parse.h"
#include "wire/profile.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[] = "/tmp/rethread-profiles-XXXXXX";
static char error[PROFILE_ERROR_BYTES];
static struct profiles *profiles;

static void make_file(void)
{
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

static void remove_file(void)
{
    profiles_free(profiles);
    profiles = NULL;
    unlink(path);
}

static enum status load_bytes(const void *data, size_t size)
{
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, size, file), size);
    fclose(file);
    profiles_free(profiles);
    memset(error, 'e', sizeof error);
    enum status status = profiles_load(path, &profiles, error);
    ck_assert_uint_lt(strnlen(error, sizeof error), sizeof error);
    ck_assert_int_eq(status == STATUS_OK, profiles != NULL);
    ck_assert_int_eq(status == STATUS_OK, error[0] == '\0');
    for (const char *c = error; *c != '\0'; c++) {
        ck_assert(*c >= 0x20 && *c <= 0x7E);
    }
    return status;
}

static void takes(const char *text)
{
    ck_assert_msg(load_bytes(text, strlen(text)) == STATUS_OK, "%s: %s", text, error);
}

/* `named`: what the error holds, parted by '|'. */
static void refuses_bytes(const void *data, size_t size, const char *named)
{
    char copy[256];
    ck_assert_int_eq(load_bytes(data, size), STATUS_BAD_REQUEST);
    snprintf(copy, sizeof copy, "%s", named);
    char *rest = copy;
    for (char *word; (word = strsep(&rest, "|")) != NULL;) {
        ck_assert_msg(strstr(error, word) != NULL, "\"%s\" lacks \"%s\"", error, word);
    }
}

static void refuses(const char *text, const char *named)
{
    refuses_bytes(text, strlen(text), named);
}

static const struct profile *find(const char *model)
{
    return profiles_find(profiles, bytes_text(model));
}

/* ---- The built-in rows -------------------------------------------------------------------- */

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
    return profiles_may_read(profiles, bytes_text(writer), bytes_text(reader));
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

/* ---- The README --------------------------------------------------------------------------- */

static char *read_readme(void)
{
    FILE *file = fopen("README.md", "r");
    ck_assert_ptr_nonnull(file);
    char *text = calloc(1, 1 << 20);
    ck_assert_uint_lt(fread(text, 1, (1 << 20) - 1, file), (1 << 20) - 1);
    fclose(file);
    return text;
}

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

START_TEST(the_readmes_file_of_profiles)
{
    char *text = read_readme();
    char *start = strstr(text, "# PATTERN ");
    ck_assert_ptr_nonnull(start);
    char *end = strstr(start, "```");
    ck_assert_ptr_nonnull(end);
    *end = '\0';
    takes(start);
    ck_assert_str_eq(find("Qwen/Qwen3-8B")->field, "reasoning");
    ck_assert_uint_eq(find("our-tuned-model")->turns, 2);
    free(text);
}
END_TEST

/* ---- A file ------------------------------------------------------------------------------- */

START_TEST(rows_of_a_file_come_first)
{
    takes("# ours\n"
          "\n"
          "qwen3-8b*   all  reasoning anyone   # vLLM\n"
          "\tOurs-*-Large\tlast_turns:3\tthinking\titself\r\n"
          "qwen3*  none think-2  itself"); /* without an end of line */
    const struct profile *found = find("Qwen/QWEN3-8B-FP8");
    ck_assert_str_eq(found->pattern, "qwen3-8b*");
    ck_assert_int_eq(found->policy, WIRE_POLICY_ALL);
    ck_assert_uint_eq(found->turns, 0);
    ck_assert_str_eq(found->field, "reasoning");
    ck_assert(found->anyone);
    found = find("lab/ours-2-large");
    ck_assert_str_eq(found->pattern, "ours-*-large");
    ck_assert_int_eq(found->policy, WIRE_POLICY_LAST_TURNS);
    ck_assert_uint_eq(found->turns, 3);
    ck_assert_str_eq(found->field, "thinking");
    ck_assert(!found->anyone);
    ck_assert_str_eq(find("ours-large")->pattern, "*");
    ck_assert_str_eq(find("qwen3-9b")->field, "think-2"); /* the first that fits */
    ck_assert_str_eq(find("kimi-k3")->pattern, "kimi-k3*");
    ck_assert(may_read("qwen3-8b", "x") && !may_read("qwen3-9b", "x"));
    ck_assert_str_eq(profiles_find(NULL, bytes_text("qwen3-9b"))->field, "reasoning_content");
}
END_TEST

START_TEST(a_star_in_a_file_takes_all_the_others)
{
    takes("* current_turn reasoning anyone\n");
    ck_assert_int_eq(find("claude-opus-4-6")->policy, WIRE_POLICY_CURRENT_TURN);
    ck_assert_int_eq(find("")->policy, WIRE_POLICY_CURRENT_TURN);
    ck_assert(may_read("claude-opus-4-6", "x"));
}
END_TEST

START_TEST(every_policy_of_a_file)
{
    static const struct {
        const char *word;
        enum wire_policy policy;
        uint32_t turns;
    } cases[] = {
        {"all", WIRE_POLICY_ALL, 0},
        {"none", WIRE_POLICY_NONE, 0},
        {"current_turn", WIRE_POLICY_CURRENT_TURN, 0},
        {"since_final", WIRE_POLICY_SINCE_FINAL, 0},
        {"tool_turns", WIRE_POLICY_TOOL_TURNS, 0},
        {"last_turns:1", WIRE_POLICY_LAST_TURNS, 1},
        {"last_turns:4294967295", WIRE_POLICY_LAST_TURNS, UINT32_MAX},
        {"last_turns:007", WIRE_POLICY_LAST_TURNS, 7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[128];
        snprintf(text, sizeof text, "m %s f anyone\n", cases[i].word);
        takes(text);
        ck_assert_int_eq(find("m")->policy, cases[i].policy);
        ck_assert_uint_eq(find("m")->turns, cases[i].turns);
    }
}
END_TEST

START_TEST(stars_stand_for_anything)
{
    static const struct {
        const char *pattern;
        const char *name;
        bool fits;
    } cases[] = {
        {"abc", "abc", true},       {"abc", "ab", false},      {"abc", "abcd", false},
        {"a*c", "ac", true},        {"a*c", "abbc", true},     {"a*c", "acb", false},
        {"a*c", "acbc", true},      {"*", "x", true},          {"**", "x", true},
        {"**a**", "xay", true},     {"*a", "ba", true},        {"*a", "ab", false},
        {"a*b*c", "a-b-b-c", true}, {"a*b*c", "a-c-b", false}, {"*ab*ab", "abab", true},
        {"*ab*ab", "aab", false},   {"*aab", "aaab", true},    {"a*", "a", true},
        {"a?c", "abc", false},      {"a?c", "a?c", true},      {"[ab]", "a", false},
        {"a\\*", "a\\x", true},     {"A*Z", "a*z", true},      {"aBc", "AbC", true},
        {"{~|}", "{~|}", true},     {"@[", "`{", false},       {"z*a*a*a*a*b", "zaaaaaaaa", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[128];
        snprintf(text, sizeof text, "%s none f itself\n", cases[i].pattern);
        takes(text);
        ck_assert_msg((find(cases[i].name)->policy == WIRE_POLICY_NONE) == cases[i].fits, "%s, %s",
                      cases[i].pattern, cases[i].name);
    }
}
END_TEST

static bool simply_fits(const char *pattern, const char *name)
{
    if (*pattern == '*') {
        return simply_fits(pattern + 1, name) || (*name != '\0' && simply_fits(pattern, name + 1));
    }
    return *pattern == *name && (*pattern == '\0' || simply_fits(pattern + 1, name + 1));
}

/* Short words of few letters, so that they fit often; the file's rows are all of one pattern each.
 */
START_TEST(stars_against_a_simple_matcher)
{
    uint64_t seed = 5;
    unsigned fitting = 0;
    unsigned total = 0;
    for (uint64_t i = trial_count(400); i > 0; i--) {
        char pattern[9] = "";
        char text[64];
        for (uint64_t c = 0, size = 1 + trial_random(&seed) % 8; c < size; c++) {
            pattern[c] = "ab**"[trial_random(&seed) % 4];
        }
        snprintf(text, sizeof text, "%s none f itself\n", pattern);
        takes(text);
        for (unsigned n = 0; n < 200; n++, total++) {
            char name[13] = "";
            for (uint64_t c = 0, size = trial_random(&seed) % 12; c < size; c++) {
                name[c] = "abB"[trial_random(&seed) % 3];
            }
            bool fits = find(name)->policy == WIRE_POLICY_NONE;
            for (char *c = name; *c != '\0'; c++) {
                *c = *c == 'B' ? 'b' : *c;
            }
            if (fits != simply_fits(pattern, name)) {
                ck_abort_msg("%s, %s: %d", pattern, name, fits);
            }
            fitting += fits;
        }
    }
    ck_assert(fitting > total / 20 && fitting < total / 20 * 19);
}
END_TEST

START_TEST(files_without_rows)
{
    takes("");
    takes("\n");
    takes("# nothing\n   # nothing else\n\t\r\n");
    ck_assert_str_eq(find("qwen3-8b")->pattern, "qwen3*");
}
END_TEST

START_TEST(wrong_lines_are_named)
{
    refuses("a all f anyone\na\n", "line 2: |PATTERN POLICY FIELD READABLE");
    refuses("a all f\n", "line 1: |PATTERN POLICY FIELD READABLE");
    refuses("\n\na all f anyone more\n", "line 3: |PATTERN POLICY FIELD READABLE");
    refuses("a all f # anyone\n", "line 1: ");
    refuses("a some f anyone\n", "line 1: |\"some\"|all, none, current_turn, |last_turns:2");
    refuses("a auto f anyone\n", "line 1: |\"auto\"");
    refuses("a ALL f anyone\n", "line 1: |\"ALL\"");
    refuses("a all:1 f anyone\n", "line 1: |\"all:1\"");
    refuses("a last_turns f anyone\n", "line 1: |\"last_turns\"");
    refuses("a last_turns: f anyone\n", "line 1: |last_turns:");
    refuses("a last_turns:0 f anyone\n", "line 1: |last_turns:0");
    refuses("a last_turns:-1 f anyone\n", "line 1: |last_turns:-1");
    refuses("a last_turns:1x f anyone\n", "line 1: |last_turns:1x");
    refuses("a last_turns:4294967296 f anyone\n", "line 1: ");
    refuses("a last_turns:99999999999999999999999 f anyone\n", "line 1: ");
    refuses("a all f everyone\n", "line 1: |\"everyone\"|anyone or itself");
    refuses("a all f ANYONE\n", "line 1: |anyone or itself");
    refuses("lab/a all f anyone\n", "line 1: |\"lab/a\"|behind the last /");
    refuses("a all f. anyone\n", "line 1: |\"f.\"|reasoning_content");
    refuses("a all \xc3\xa9 anyone\n", "line 1: |the field");
    refuses("\xef\xbb\xbf"
            "a all f anyone\n",
            "line 1: |the pattern|ASCII");
    refuses("a\x7f all f anyone\n", "line 1: |the pattern");
    refuses("a all f anyone\n\x1b[31m all f anyone\n", "line 2: |?[31m");
}
END_TEST

/* 63 bytes of pattern and 23 of field are the most. */
START_TEST(words_have_limits)
{
    char text[256];
    for (int size = 62; size <= 66; size++) {
        snprintf(text, sizeof text, "%.*s none f itself\n", size,
                 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
        if (size < PROFILE_PATTERN_BYTES) {
            takes(text);
            text[size] = '\0';
            ck_assert_int_eq(find(text)->policy, WIRE_POLICY_NONE);
            text[size - 1] = '\0';
            ck_assert_int_eq(find(text)->policy, WIRE_POLICY_ALL);
        } else {
            refuses(text, "line 1: |1 to 63");
        }
    }
    for (int size = 22; size <= 26; size++) {
        snprintf(text, sizeof text, "m none %.*s itself\n", size, "ffffffffffffffffffffffffffffff");
        if (size < PROFILE_FIELD_BYTES) {
            takes(text);
            ck_assert_uint_eq(strlen(find("m")->field), (size_t)size);
        } else {
            refuses(text, "line 1: |1 to 23");
        }
    }
}
END_TEST

static void put_rows(FILE *out, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        fprintf(out, "model-%u none f itself\n\n", i);
    }
}

START_TEST(at_most_1024_rows)
{
    for (unsigned count = 1023; count <= 1025; count++) {
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        put_rows(out, count);
        fclose(out);
        if (count <= 1024) {
            ck_assert_int_eq(load_bytes(text, size), STATUS_OK);
            char last[32];
            snprintf(last, sizeof last, "model-%u", count - 1);
            ck_assert_str_eq(find(last)->pattern, last);
        } else {
            refuses_bytes(text, size, "line 2049: |1024");
        }
        free(text);
    }
}
END_TEST

START_TEST(at_most_a_mebibyte)
{
    size_t limit = 1 << 20;
    char *text = malloc(limit + 2);
    memset(text, '#', limit + 2);
    ck_assert_int_eq(load_bytes(text, limit), STATUS_OK);
    refuses_bytes(text, limit + 1, "at most 1048576 bytes");
    refuses_bytes(text, limit + 2, "at most 1048576 bytes");
    memset(text, 'x', limit); /* one word, and one line */
    refuses_bytes(text, limit, "line 1: ");
    memset(text, '\n', limit);
    memcpy(text + limit - 2, "xx", 2);
    refuses_bytes(text, limit, "line 1048575: ");
    memset(text, 0, limit);
    refuses_bytes(text, limit, "line 1: ");
    memset(text, ' ', limit);
    ck_assert_int_eq(load_bytes(text, limit), STATUS_OK);
    free(text);
}
END_TEST

static void refuses_path(const char *where, const char *named)
{
    struct profiles *none = (struct profiles *)&error;
    ck_assert_int_eq(profiles_load(where, &none, error), STATUS_BAD_REQUEST);
    ck_assert_ptr_null(none);
    ck_assert_msg(strstr(error, named) != NULL, "%s: %s", where, error);
}

START_TEST(files_that_cannot_be_read)
{
    char fifo[64];
    refuses_path("/nowhere/at/all", "No such file");
    refuses_path("", "No such file");
    refuses_path("/tmp", "not a file");
    refuses_path("/dev/zero", "not a file");
    refuses_path("/proc/self/mem", "");
    snprintf(fifo, sizeof fifo, "%s.fifo", path);
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    refuses_path(fifo, "not a file"); /* and nobody waits for a writer */
    unlink(fifo);
    if (geteuid() != 0) {
        chmod(path, 0);
        refuses_path(path, "Permission denied");
    }
}
END_TEST

/* Any change of a sound file is taken or refused, and what is taken has sound rows. */
START_TEST(any_bytes)
{
    static const char sound[] = "# c\nqwen3* last_turns:2 reasoning anyone\n*b all f itself\r\n";
    uint64_t seed = 3;
    unsigned taken = 0;
    unsigned tries = (unsigned)trial_count(3000);
    for (unsigned i = 0; i < tries; i++) {
        char text[sizeof sound];
        memcpy(text, sound, sizeof sound);
        for (uint64_t changes = 1 + trial_random(&seed) % 3; changes > 0; changes--) {
            static const char likely[] = "\0\n# *:/\xff"
                                         "09az";
            size_t at = (size_t)(trial_random(&seed) % (sizeof sound - 1));
            uint64_t pick = trial_random(&seed);
            text[at] = pick % 2 > 0 ? (char)(pick >> 8) : likely[(pick >> 8) % sizeof likely];
        }
        taken += load_bytes(text, sizeof sound - 1) == STATUS_OK;
        const struct profile *found = find("qwen3-8b");
        ck_assert_uint_lt(found->policy, WIRE_POLICY_AUTO);
        ck_assert_uint_lt(strnlen(found->pattern, sizeof found->pattern), sizeof found->pattern);
        ck_assert_uint_lt(strnlen(found->field, sizeof found->field), sizeof found->field);
    }
    ck_assert(taken > 0 && taken < tries);
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
    tcase = tcase_create("file");
    tcase_add_checked_fixture(tcase, make_file, remove_file);
    tcase_add_test(tcase, rows_of_a_file_come_first);
    tcase_add_test(tcase, the_readmes_file_of_profiles);
    tcase_add_test(tcase, a_star_in_a_file_takes_all_the_others);
    tcase_add_test(tcase, every_policy_of_a_file);
    tcase_add_test(tcase, stars_stand_for_anything);
    tcase_add_test(tcase, stars_against_a_simple_matcher);
    tcase_add_test(tcase, files_without_rows);
    tcase_add_test(tcase, wrong_lines_are_named);
    tcase_add_test(tcase, words_have_limits);
    tcase_add_test(tcase, at_most_1024_rows);
    tcase_add_test(tcase, at_most_a_mebibyte);
    tcase_add_test(tcase, files_that_cannot_be_read);
    tcase_add_test(tcase, any_bytes);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
