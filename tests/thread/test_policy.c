/*
 * The policies of replay on the conversations at whose boundaries they differ, by name and by each
 * profile, in whole threads, forks, rewound threads and threads that a key ends; and what they make
 * of steps of which nothing is known.
 *
 * A conversation is a word a step, the turn and a letter: f final, t one tool call, p parallel tool
 * calls, n not final for another reason; capitals are bare steps. What is kept of it is a letter a
 * step: k returned, ? missing, . left out.
 */
#include "tests/thread/disk.h"
#include "wire/profile.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>

enum { ROW_STEPS_MAX = 12, LINE_BYTES = 256 };

/* What a row expects of: */
enum column { CURRENT_TURN, SINCE_FINAL, TOOL_TURNS, LAST_1, LAST_2, LAST_9, COLUMNS };

static const char *const column_options[COLUMNS] = {
    "policy=current_turn",       "policy=since_final",        "policy=tool_turns",
    "policy=last_turns turns=1", "policy=last_turns turns=2", "policy=last_turns turns=9",
};

static const struct row {
    const char *what;
    const char *steps;
    const char *turn; /* the option of replay; "": not given */
    const char *kept[COLUMNS];
} rows[] = {
    /*                                             current since   tool    last 1  last 2  last 9 */
    {"no user message yet", "0f", "", {"k", ".", ".", "k", "k", "k"}},
    {"no user message yet, a tool", "0t 0f", "", {"kk", "..", "kk", "kk", "kk", "kk"}},
    {"the first user message is new", "0t 0f", "1", {"..", "..", "kk", "kk", "kk", "kk"}},
    {"one step", "1f", "", {"k", ".", ".", "k", "k", "k"}},
    {"one open step", "1t", "", {"k", "k", "k", "k", "k", "k"}},
    {"answers only", "1f 2f 3f", "", {"..k", "...", "...", "..k", ".kk", "kkk"}},
    {"answers, and a new message", "1f 2f 3f", "4", {"...", "...", "...", "..k", ".kk", "kkk"}},
    {"two user messages in a row", "1f 3f", "", {".k", "..", "..", ".k", "kk", "kk"}},
    {"in a row, and their tools",
     "1t 1f 4t 4t",
     "",
     {"..kk", "..kk", "kkkk", "..kk", "kkkk", "kkkk"}},
    {"two new messages in a row", "1t 1f 2f", "4", {"...", "...", "kk.", "..k", "kkk", "kkk"}},
    {"a message that was skipped", "1f 3t", "2", {".k", ".k", ".k", ".k", "kk", "kk"}},
    {"parallel tool calls", "1p 1p 1f 2p", "", {"...k", "...k", "kkkk", "...k", "kkkk", "kkkk"}},
    {"a tool loop under way", "1f 2t 2t 2t", "", {".kkk", ".kkk", ".kkk", ".kkk", "kkkk", "kkkk"}},
    {"a tool loop that ended", "1f 2t 2t 2f", "", {".kkk", "....", ".kkk", ".kkk", "kkkk", "kkkk"}},
    {"an interrupted tool loop", "1t 1t", "2", {"..", "kk", "kk", "kk", "kk", "kk"}},
    {"interrupted, then answered", "1t 1t 2f", "", {"..k", "...", "kk.", "..k", "kkk", "kkk"}},
    {"interrupted, then tools again",
     "1f 2t 3t 3t",
     "",
     {"..kk", ".kkk", ".kkk", "..kk", ".kkk", "kkkk"}},
    {"bare steps", "1F 2T 2F 3F", "", {"...k", "....", ".kk.", "...k", ".kkk", "kkkk"}},
    {"a bare open step", "1f 2T", "", {".k", ".k", ".k", ".k", "kk", "kk"}},
    {"reasoning without final", "1n 2n 3f", "", {"..k", "...", "kk.", "..k", ".kk", "kkk"}},
    {"never final", "1n 2n 3n", "", {"..k", "kkk", "kkk", "..k", ".kk", "kkk"}},
    {"two finals in a turn", "1f 1f 1t", "", {"kkk", "..k", "kkk", "kkk", "kkk", "kkk"}},
    {"final before the tools", "1f 1t 1f", "", {"kkk", "...", "kkk", "kkk", "kkk", "kkk"}},
    {"tools in some turns",
     "1f 2t 2f 3f 4n 4f 5f",
     "",
     {"......k", ".......", ".kk.kk.", "......k", "....kkk", "kkkkkkk"}},
    {"a turn below all", "2t 2f 3t", "1", {"kkk", "..k", "kkk", "..k", "kkk", "kkk"}},
    {"a turn below the highest", "1f 2f 3t", "2", {".kk", "..k", "..k", "..k", ".kk", "kkk"}},
    {"a turn far beyond", "1f 2t", "4294967295", {"..", ".k", ".k", ".k", "kk", "kk"}},
    {"the highest turn there is",
     "0f 4294967295t 4294967295f",
     "",
     {".kk", "...", ".kk", ".kk", "kkk", "kkk"}},
    {"a new turn each step", "0t 1t 2t 3t", "", {"...k", "kkkk", "kkkk", "...k", "..kk", "kkkk"}},
};

/* ---- saying ---- */

/* printf to a line that lasts for the next thirty. */
__attribute__((format(printf, 1, 2))) static const char *line_of(const char *format, ...)
{
    static char lines[32][LINE_BYTES];
    static unsigned next;
    char *line = lines[next++ % 32];
    va_list arguments;
    va_start(arguments, format);
    ck_assert_int_lt(vsnprintf(line, LINE_BYTES, format, arguments), LINE_BYTES);
    va_end(arguments);
    return line;
}

/* One word of a conversation, as step `step` of the thread. */
static void append(const char *thread, const char *word, unsigned step, const char *maker)
{
    char *letter;
    unsigned long turn = strtoul(word, &letter, 10);
    int kind = tolower((unsigned char)*letter);
    bool bare = isupper((unsigned char)*letter) != 0;
    const char *calls = kind == 't' ? " call=a" : kind == 'p' ? " call=a call=b" : "";
    const char *line = line_of("append %s turn=%lu response_id=%s-%u%s%s%s%s%s", thread, turn,
                               thread, step, *maker ? " model=" : "", maker, calls,
                               kind == 'n' ? " final=0" : "", bare ? "" : " : thought");
    ck_assert_msg(strncmp(say(&domain, line), "step ", 5) == 0, "%s", line);
}

static void forget(const char *thread)
{
    const char *line = line_of("forget %s", thread);
    ck_assert_msg(strncmp(say(&domain, line), "forgotten", 9) == 0, "%s", line);
    run();
}

/* The conversation; how many steps. */
static unsigned converse(const char *thread, const char *steps, const char *maker)
{
    char words[LINE_BYTES], *rest = NULL;
    unsigned count = 0;
    snprintf(words, sizeof words, "%s", steps);
    for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        append(thread, word, count++, maker);
    }
    ck_assert_uint_le(count, ROW_STEPS_MAX);
    return count;
}

/*
 * What a replay returns of `end` positions, as a letter each; the status and the counts must say
 * the same.
 */
static void check_kept(const char *what, const char *line, unsigned end, const char *want)
{
    char kept[ROW_STEPS_MAX + 1], counts[64];
    const char *answer = say(&domain, line);
    memset(kept, '.', end);
    kept[end] = '\0';
    for (const char *at = strchr(answer, ':'); at && (at = strchr(at, ' ')); at++) {
        char *mark;
        unsigned long step = strtoul(at + 1, &mark, 10);
        ck_assert_msg(step < end && kept[step] == '.', "%s: %s: %s", what, line, answer);
        kept[step] = *mark == '=' ? 'k' : '?';
    }
    ck_assert_msg(strcmp(kept, want) == 0, "%s: %s: %s, not %s: %s", what, line, kept, want,
                  answer);
    const char *state = strchr(want, '?') ? "partial " : "complete ";
    ck_assert_msg(strncmp(answer, state, strlen(state)) == 0, "%s: %s: %s", what, line, answer);
    unsigned dropped = 0;
    for (unsigned i = 0; i < end; i++) {
        dropped += want[i] == '.';
    }
    snprintf(counts, sizeof counts, " kept_from %zu dropped %u", strcspn(want, "k?"), dropped);
    ck_assert_msg(strstr(answer, counts) != NULL, "%s: %s: %s, not%s", what, line, answer, counts);
}

static const char *turn_option(const struct row *row)
{
    return *row->turn ? line_of(" turn=%s", row->turn) : "";
}

static void check_row(const struct row *row, const char *thread, const char *besides, unsigned end)
{
    for (enum column column = 0; column < COLUMNS; column++) {
        check_kept(
            row->what,
            line_of("replay %s %s%s%s", thread, column_options[column], turn_option(row), besides),
            end, row->kept[column]);
    }
    char all[ROW_STEPS_MAX + 1];
    memset(all, '.', end);
    all[end] = '\0';
    check_kept(row->what, line_of("replay %s policy=none%s%s", thread, turn_option(row), besides),
               end, all);
}

#define EACH_ROW                                                                                   \
    const struct row *row = rows;                                                                  \
    row < rows + sizeof rows / sizeof rows[0];                                                     \
    row++

/* ---- by name ---- */

START_TEST(each_row_as_it_is)
{
    for (EACH_ROW) {
        unsigned end = converse("t", row->steps, "");
        check_row(row, "t", "", end);
        forget("t");
    }
}
END_TEST

/* A fork has the steps, and what its origin does later is nothing to it. */
START_TEST(each_row_in_a_fork)
{
    for (EACH_ROW) {
        unsigned end = converse("t", row->steps, "");
        IS("fork f from=t", line_of("v%u", end));
        append("t", "4294967295t", end, "");
        check_row(row, "f", "", end);
        IS("rewind t to=-1", line_of("v%u dropped %u", end + 2, end + 1));
        check_row(row, "f", "", end);
        forget("t");
        check_row(row, "f", "", end);
        forget("f");
    }
}
END_TEST

/* What was rewound is as if it had never been, and its number is used again. */
START_TEST(each_row_after_a_rewind)
{
    for (EACH_ROW) {
        append("t", "0t", 0, "");
        append("t", "7t", 1, "");
        IS("rewind t to=-1", "v3 dropped 2");
        unsigned end = converse("t", row->steps, "");
        append("t", "4294967295n", end, "");
        append("t", "4294967295f", end + 1, "");
        IS(line_of("rewind t to=%d", (int)end - 1), line_of("v%u dropped 2", end + 6));
        check_row(row, "t", "", end);
        forget("t");
    }
}
END_TEST

/* A policy sees no more than what the key ends. */
START_TEST(each_row_ended_by_a_key)
{
    for (EACH_ROW) {
        unsigned end = converse("t", row->steps, "");
        append("t", "4294967295n", end, "");
        append("t", "4294967295f", end + 1, "");
        check_row(row, "t", line_of(" response_id=t-%u", end - 1), end);
        check_row(row, "-", line_of(" response_id=t-%u", end - 1), end);
        forget("t");
    }
}
END_TEST

/* From the disk, and from memory again. */
START_TEST(each_row_from_the_disk)
{
    for (EACH_ROW) {
        unsigned end = converse("t", row->steps, "");
        demote_all();
        check_row(row, "t", "", end);
        forget("t");
    }
}
END_TEST

/* The steps whose reasoning is left out are there all the same. */
START_TEST(all_is_for_ever)
{
    for (EACH_ROW) {
        unsigned end = converse("t", row->steps, "");
        const char *answer = say(&domain, line_of("replay t%s", turn_option(row)));
        ck_assert_ptr_null(strstr(answer, "kept_from"));
        unsigned steps = 0;
        for (const char *at = answer; (at = strchr(at, '=')); at++) {
            steps++;
        }
        ck_assert_uint_eq(steps, end);
        forget("t");
    }
}
END_TEST

/* ---- by profile ---- */

static enum column column_of(enum wire_policy policy, unsigned turns)
{
    switch (policy) {
    case WIRE_POLICY_CURRENT_TURN:
        return CURRENT_TURN;
    case WIRE_POLICY_SINCE_FINAL:
        return SINCE_FINAL;
    case WIRE_POLICY_TOOL_TURNS:
        return TOOL_TURNS;
    case WIRE_POLICY_LAST_TURNS:
        ck_assert(turns == 1 || turns == 2);
        return turns == 1 ? LAST_1 : LAST_2;
    default:
        return COLUMNS; /* all or none */
    }
}

/* Each row of the model's policy: the model given, or known from the newest step that names one. */
static void check_profile(const char *maker, enum wire_policy policy, unsigned turns)
{
    enum column column = column_of(policy, turns);
    for (EACH_ROW) {
        unsigned end = converse("t", row->steps, maker);
        char want[ROW_STEPS_MAX + 1];
        memset(want, policy == WIRE_POLICY_ALL ? 'k' : '.', end);
        want[end] = '\0';
        const char *kept = column < COLUMNS ? row->kept[column] : want;
        const char *turn = turn_option(row);
        check_kept(maker, line_of("replay t policy=auto%s", turn), end, kept);
        check_kept(maker, line_of("replay t policy=auto%s model=%s", turn, maker), end, kept);
        forget("t");
    }
}

/* A name that fits the pattern. */
static const char *name_for(const char *pattern)
{
    static char name[PROFILE_PATTERN_BYTES];
    size_t size = 0;
    for (; *pattern; pattern++) {
        name[size++] = *pattern == '*' ? 'x' : *pattern;
    }
    name[size] = '\0';
    return name;
}

START_TEST(each_profile_is_its_policy)
{
#define PROFILE(pattern, policy, turns, field, readable, source)                                   \
    check_profile(name_for(pattern), WIRE_POLICY_##policy, turns);
#include "schema/profiles.def"
#undef PROFILE
}
END_TEST

/* What vendors and templates demand of some they are known by, whatever the table says. */
START_TEST(models_by_their_names)
{
    check_profile("Qwen/Qwen3-32B", WIRE_POLICY_CURRENT_TURN, 0);
    check_profile("deepseek-ai/DeepSeek-V3.2", WIRE_POLICY_CURRENT_TURN, 0);
    check_profile("zai-org/GLM-4.6", WIRE_POLICY_CURRENT_TURN, 0);
    check_profile("MiniMaxAI/MiniMax-M2", WIRE_POLICY_CURRENT_TURN, 0);
    check_profile("moonshotai/Kimi-K2-Thinking", WIRE_POLICY_SINCE_FINAL, 0);
    check_profile("openai/gpt-oss-120b", WIRE_POLICY_SINCE_FINAL, 0);
    check_profile("deepseek-ai/DeepSeek-V4", WIRE_POLICY_TOOL_TURNS, 0);
    check_profile("moonshotai/Kimi-K3", WIRE_POLICY_ALL, 0);
    check_profile("nobody/knows-it", WIRE_POLICY_ALL, 0);
}
END_TEST

/* Only the newest step that names a model counts, and a model that is given before it. */
START_TEST(auto_goes_by_the_newest_model)
{
    append("t", "1f", 0, "qwen3");
    append("t", "2f", 1, "kimi-k3");
    append("t", "3f", 2, "");
    check_kept("newest", "replay t policy=auto", 3, "kkk");
    check_kept("ended", "replay t policy=auto response_id=t-0", 1, "k");
    check_kept("given", "replay t policy=auto model=qwen3", 3, "..k");
    append("t", "4t", 3, "qwen3");
    check_kept("newest", "replay t policy=auto", 4, "...k");
    check_kept("given", "replay t policy=auto model=kimi-k2", 4, "...k");
    append("u", "1f", 0, "");
    append("u", "2f", 1, "");
    check_kept("none", "replay u policy=auto", 2, "kk");
    IS("rewind t to=-1", "v5 dropped 4");
    check_kept("no steps", "replay t policy=auto", 0, "");
    check_kept("no steps", "replay t policy=current_turn", 0, "");
    check_kept("no steps", "replay t policy=last_turns turns=1", 0, "");
}
END_TEST

/* ---- what is not known ---- */

/* Its first two steps are lost. */
static void continued(const char *steps, const char *maker)
{
    append("t", "1f", 0, maker);
    append("t", "1f", 1, maker);
    wait_ms(RETENTION_MS);
    IS("replay t", "miss expired v2");
    converse("t", steps, maker);
}

#define CONTINUED(steps, options, want)                                                            \
    do {                                                                                           \
        continued(steps, "");                                                                      \
        check_kept("continued", "replay t " options, (unsigned)strlen(want), want);                \
        forget("t");                                                                               \
    } while (0)

/* Lost steps are missing unless a step behind them shows that they would not be kept either. */
START_TEST(lost_steps_in_front)
{
    CONTINUED("2f", "policy=current_turn", "??k");
    CONTINUED("2f 2f", "policy=current_turn", "??kk");
    CONTINUED("2f 3f", "policy=current_turn", "...k");
    CONTINUED("2f 3f", "policy=current_turn turn=2", "??kk");
    CONTINUED("2f 3f", "policy=current_turn turn=4", "....");
    CONTINUED("2t", "policy=since_final", "??k");
    CONTINUED("2t 2f", "policy=since_final", "....");
    CONTINUED("2f 2t", "policy=since_final", "...k");
    CONTINUED("2t 3f 4f", "policy=tool_turns", "??k..");
    CONTINUED("2f", "policy=last_turns turns=1", "??k");
    CONTINUED("2f 3f", "policy=last_turns turns=1", "...k");
    CONTINUED("2f 3f", "policy=last_turns turns=2", "??kk");
    CONTINUED("2f 3f", "policy=last_turns turns=9", "??kk");
    CONTINUED("2f", "policy=none", "...");
    continued("2f", "");
    IS("rewind t to=1", "v4 dropped 1");
    check_kept("all lost", "replay t policy=current_turn", 2, "??");
    check_kept("all lost", "replay t policy=current_turn turn=9", 2, "??");
    check_kept("all lost", "replay t policy=since_final", 2, "??");
    check_kept("all lost", "replay t policy=tool_turns", 2, "??");
    check_kept("all lost", "replay t policy=last_turns turns=1", 2, "??");
    check_kept("all lost", "replay t policy=auto", 2, "??");
}
END_TEST

/* The step numbered `step` cannot be read any more. */
static void damaged(const char *steps, int64_t step)
{
    converse("t", steps, "");
    demote_all();
    ck_assert(tier_model_damage(model, bytes_text("t"), step));
}

#define DAMAGED(steps, step, options, want)                                                        \
    do {                                                                                           \
        damaged(steps, step);                                                                      \
        check_kept("damaged", "replay t " options, (unsigned)strlen(want), want);                  \
        forget("t");                                                                               \
    } while (0)

/* A damaged step may have been of either turn beside it, and final or not. */
START_TEST(damaged_steps)
{
    DAMAGED("1f 1f 1f", 1, "policy=current_turn", "k?k");
    DAMAGED("1t 1f", 0, "policy=current_turn", "?k");
    DAMAGED("1f 2t 2f", 1, "policy=current_turn", ".?k");
    DAMAGED("1f 1f 2f", 1, "policy=current_turn", ".?k");
    DAMAGED("1f 1f 2f 2f", 2, "policy=current_turn", "..?k");
    DAMAGED("1f 2f 3f 4f", 1, "policy=current_turn", "...k");
    DAMAGED("1f 2f", 1, "policy=current_turn turn=2", ".?");
    DAMAGED("1f 2f", 1, "policy=current_turn turn=9", ".?");
    DAMAGED("2f", 0, "policy=current_turn turn=2", "?");
    DAMAGED("1t 1f 2t", 1, "policy=since_final", "k?k");
    DAMAGED("1f 1f 2t", 1, "policy=since_final", ".?k");
    DAMAGED("1f 1f 2f 2t", 1, "policy=since_final", "...k");
    DAMAGED("1f 1f", 1, "policy=since_final", ".?");
    DAMAGED("1t 1f 2f", 0, "policy=tool_turns", "?k.");
    DAMAGED("1f 2f 2f 3f", 1, "policy=tool_turns", "k?k.");
    DAMAGED("1f 2f 3f", 2, "policy=tool_turns", ".k?");
    DAMAGED("1f 2f 3f", 1, "policy=last_turns turns=1", ".?k");
    DAMAGED("1f 2f 3f", 2, "policy=last_turns turns=1", ".k?");
    DAMAGED("1f 2f 3f", 0, "policy=last_turns turns=2", "?kk");
    DAMAGED("1f 2f 3f", 0, "policy=last_turns turns=1", "..k");
    DAMAGED("1f 2f", 1, "policy=none", "..");
}
END_TEST

int main(void)
{
    return SUITE_RUN("policy", setup, teardown, 0, each_row_as_it_is, each_row_in_a_fork,
                     each_row_after_a_rewind, each_row_ended_by_a_key, each_row_from_the_disk,
                     all_is_for_ever, each_profile_is_its_policy, models_by_their_names,
                     auto_goes_by_the_newest_model, lost_steps_in_front, damaged_steps);
}
