/* Tables of schema/ as Markdown. Every word comes from the .def files, but the headings. */
#include "server/describe.h"

#include "wire/parse.h"

#include <inttypes.h>

#define ID       "id"
#define TEXT     "str"
#define U64      "integer"
#define I64      "integer"
#define BOOL     "bool"
#define ACK      "str: memory, disk"
#define MISMATCH "str: drop, fail"
#define KIND     "str: text, tokens, opaque"
#define PREFIX   "id of 16 bytes, or array of such"
#define PREFIXES "array of [step, id of 16 bytes]"
#define POLICY   "str: a policy, or auto"
#define IDS      "array of ids"
#define KINDS    "array of str: text, tokens, opaque"
#define HAVE     "map"

static const struct option_row {
    enum wire_method method;
    const char *name;
    const char *type;
    const char *need;
    int64_t min;
    int64_t max;
    const char *summary;
} option_rows[] = {
#define OPTION(M, NAME, TYPE, NEED, MIN, MAX, SUMMARY)                                             \
    {WIRE_METHOD_##M, #NAME, TYPE, #NEED, MIN, MAX, SUMMARY},
#include "schema/options.def"
#undef OPTION
};
#undef POLICY

static const struct result_row {
    enum wire_method method;
    const char *name;
    const char *type;
    const char *presence;
    const char *summary;
} result_rows[] = {
#define RESULT(M, NAME, TYPE, PRESENCE, SUMMARY) {WIRE_METHOD_##M, #NAME, TYPE, #PRESENCE, SUMMARY},
#include "schema/results.def"
#undef RESULT
};

#define ROWS(table) (sizeof(table) / sizeof(table)[0])

/* A cell: a bar would end it. */
static void put_cell(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '|') {
            fputc('\\', out);
        }
        fputc(*text, out);
    }
}

/* "id" of "1..255" bytes; the unit says what min and max count. */
static void put_range(FILE *out, const struct option_row *row)
{
    if (row->min == 0 && row->max == 0) {
        return;
    }
    const char *unit = strcmp(row->type, ID) == 0 || strcmp(row->type, TEXT) == 0 ? " bytes"
                       : strstr(row->type, "array ") != NULL                      ? " items"
                                                                                  : "";
    if (row->min == row->max) {
        fprintf(out, "%" PRId64 "%s", row->min, unit);
    } else {
        fprintf(out, "%" PRId64 " to %" PRId64 "%s", row->min, row->max, unit);
    }
}

static void describe_options(FILE *out, enum wire_method method)
{
    bool first = true;
    for (size_t i = 0; i < ROWS(option_rows); i++) {
        const struct option_row *row = &option_rows[i];
        if (row->method != method) {
            continue;
        }
        if (first) {
            fputs("\n| option | type | range | needed | what it says |\n|---|---|---|---|---|\n",
                  out);
            first = false;
        }
        fprintf(out, "| `%s` | %s | ", row->name, row->type);
        put_range(out, row);
        fprintf(out, " | %s | ", strcmp(row->need, "REQUIRED") == 0 ? "yes" : "");
        put_cell(out, row->summary);
        fputs(" |\n", out);
    }
    if (first) {
        fputs("\nNo options.\n", out);
    }
}

static void describe_results(FILE *out, enum wire_method method)
{
    bool first = true;
    for (size_t i = 0; i < ROWS(result_rows); i++) {
        const struct result_row *row = &result_rows[i];
        if (row->method != method) {
            continue;
        }
        if (first) {
            fputs("\n| result | type | present | what it says |\n|---|---|---|---|\n", out);
            first = false;
        }
        fprintf(out, "| `%s` | %s | %s | ", row->name, row->type,
                strcmp(row->presence, "ALWAYS") == 0 ? "always" : "when it applies");
        put_cell(out, row->summary);
        fputs(" |\n", out);
    }
    if (first) {
        fputs("\nThe result is an empty map.\n", out);
    }
}

static void describe_methods(FILE *out)
{
    static const char *const summaries[WIRE_METHOD_COUNT] = {
#define METHOD(name, text, summary) [WIRE_METHOD_##name] = summary,
#include "schema/methods.def"
#undef METHOD
    };
    fputs("## Methods\n\nAn id is str or bin, compared as bytes and returned as bin. Times are in "
          "milliseconds.\n",
          out);
    for (unsigned m = 0; m < WIRE_METHOD_COUNT; m++) {
        fprintf(out, "\n### %s\n\n%s\n", wire_method_name((enum wire_method)m), summaries[m]);
        describe_options(out, (enum wire_method)m);
        describe_results(out, (enum wire_method)m);
    }
}

/* A code or reason with its meaning. */
static void put_word(FILE *out, const char *word, const char *state, const char *summary)
{
    fprintf(out, "| `%s` | ", word);
    put_cell(out, summary);
    fprintf(out, " | %s |\n", strcmp(state, "LIVE") == 0 ? "yes" : "reserved");
}

static void describe_words(FILE *out)
{
    fputs("\n## Errors\n\n| code | what it means | answered |\n|---|---|---|\n", out);
#define ERROR(name, code, state, text) put_word(out, code, #state, text);
#include "schema/errors.def"
#undef ERROR
    fputs("\n## Reasons\n\n| reason | what it means | answered |\n|---|---|---|\n", out);
#define REASON(name, text, state, summary) put_word(out, text, #state, summary);
#include "schema/reasons.def"
#undef REASON
}

static void put_profile(FILE *out, const char *pattern, const char *policy, unsigned turns,
                        const char *field, const char *readable, const char *source)
{
    fprintf(out, "| `%s` | `%s`", pattern, policy);
    if (turns > 0) {
        fprintf(out, " %u", turns);
    }
    fprintf(out, " | `%s` | %s | ", field, readable);
    put_cell(out, source);
    fputs(" |\n", out);
}

static void describe_policies(FILE *out)
{
    fputs(
        "\n## Policies\n\nWhich steps a replay returns, by the `turn` and `final` of each; `auto` "
        "takes the policy of the model's profile.\n\n| policy | what it keeps |\n|---|---|\n",
        out);
#define POLICY(name, text, summary)                                                                \
    fputs("| `" text "` | ", out);                                                                 \
    put_cell(out, summary);                                                                        \
    fputs(" |\n", out);
#include "schema/policies.def"
#undef POLICY
    fputs("\n## Profiles\n\nWhat a model's next call is given of its earlier reasoning, in which "
          "field of a chat message its server expects it, and whether other models may be given it "
          "too. Patterns are compared, whatever the case, with what stands behind the last `/` of "
          "the model's name; `*` stands for any characters, and the first row that fits counts. "
          "The file that `--profiles` names puts rows before these.\n"
          "\n| pattern | policy | field | read by | source |\n|---|---|---|---|---|\n",
          out);
#define ANYONE "anyone"
#define ITSELF "itself"
#define PROFILE(pattern, policy, turns, field, readable, source)                                   \
    put_profile(out, pattern, wire_policy_name(WIRE_POLICY_##policy), turns, field, readable,      \
                source);
#include "schema/profiles.def"
#undef PROFILE
#undef ANYONE
#undef ITSELF
}

static void put_setting(FILE *out, const char *name, const char *value, const char *preset,
                        const char *summary)
{
    fprintf(out, "| `--%s %s` | %s | ", name, value, preset);
    put_cell(out, summary);
    fputs(" |\n", out);
}

static void put_metric(FILE *out, const char *section, const char *name, const char *type,
                       const char *unit, const char *summary)
{
    fprintf(out, "| %s | `%s` | %s | %s | ", section, name,
            strcmp(type, "COUNTER") == 0 ? "counter" : "gauge", unit);
    put_cell(out, summary);
    fputs(" |\n", out);
}

static void describe_server(FILE *out)
{
    fputs("\n## Settings\n\nEach is a flag, `RETHREAD_NAME` in the environment (dashes become "
          "underscores), and `name VALUE` in a `--config` file; flags override the environment, "
          "which overrides the file.\n"
          "\n| flag | default | what it sets |\n|---|---|---|\n",
          out);
#define SETTING(field, name, type, preset, min, max, value, summary)                               \
    put_setting(out, name, value, preset, summary);
#include "schema/settings.def"
#undef SETTING
    fputs("\n## Metrics\n\nWhat `info` reports.\n"
          "\n| section | name | type | unit | what it counts |\n|---|---|---|---|---|\n",
          out);
#define METRIC(section, name, section_text, name_text, type, unit, summary)                        \
    put_metric(out, section_text, name_text, #type, unit, summary);
#include "schema/metrics.def"
#undef METRIC
}

void describe_print(FILE *out)
{
    fputs("# Reference of protocol 1\n\nMade by `rethread-server --describe`; do not edit. "
          "`schema/wire.md` explains it.\n\n",
          out);
    describe_methods(out);
    describe_words(out);
    describe_policies(out);
    describe_server(out);
}
