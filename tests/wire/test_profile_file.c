/* Files of profiles: rows that come first, wrong lines, limits, and any bytes. */
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"
#include "tests/wire/test_profile.h"
#include "wire/profile.h"

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
    unlink(path); /* a new file each time: some file systems flush one that was cut */
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
    bool clean = true; /* Check writes to a file for each assertion */
    for (const char *c = error; *c != '\0'; c++) {
        clean = clean && *c >= 0x20 && *c <= 0x7E;
    }
    ck_assert(clean);
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
    ck_assert(profiles_may_read(profiles, bytes_text("qwen3-8b"), bytes_text("x")) &&
              !profiles_may_read(profiles, bytes_text("qwen3-9b"), bytes_text("x")));
    ck_assert_str_eq(profiles_find(NULL, bytes_text("qwen3-9b"))->field, "reasoning_content");
}
END_TEST

START_TEST(a_star_in_a_file_takes_all_the_others)
{
    takes("* current_turn reasoning anyone\n");
    ck_assert_int_eq(find("claude-opus-4-6")->policy, WIRE_POLICY_CURRENT_TURN);
    ck_assert_int_eq(find("")->policy, WIRE_POLICY_CURRENT_TURN);
    ck_assert(profiles_may_read(profiles, bytes_text("claude-opus-4-6"), bytes_text("x")));
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
    unsigned tries = (unsigned)trial_count(1000);
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
    Suite *suite = suite_create("profile file");
    TCase *tcase = tcase_create("file");
    tcase_add_checked_fixture(tcase, make_file, remove_file);
    tcase_set_timeout(tcase, suite_limit(60));
    tcase_add_test(tcase, the_readmes_file_of_profiles);
    tcase_add_test(tcase, rows_of_a_file_come_first);
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
