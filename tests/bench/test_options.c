/* Each kind of option, what is refused, and that each one is explained. */
#include "bench/options.h"

#include "tests/lib/suite.h"

#include <stdlib.h>
#include <string.h>

static struct options options;

static void setup(void)
{
    ck_assert(freopen("/dev/null", "w", stderr) != NULL); /* messages for the operator */
}

static bool parse(char *const *words)
{
    char *line[8] = {(char[]){"bench"}};
    int count = 1;
    for (; *words != NULL; words++) {
        line[count++] = *words;
    }
    return options_parse(&options, count, line);
}

#define PARSE(...) parse((char *const[]){__VA_ARGS__, NULL})
#define W(text)    ((char[]){text})

START_TEST(test_nothing)
{
    char *line[] = {W("bench"), NULL};
    ck_assert(options_parse(&options, 1, line));
    ck_assert(options.workload == NULL && !options.quick && options.rounds == 0 &&
              options.peer == NULL);
}
END_TEST

START_TEST(test_kinds)
{
    ck_assert(PARSE(W("--quick"), W("kv"), W("--memory"), W("64M"), W("--rounds"), W("7")));
    ck_assert(options.quick && !options.large);
    ck_assert_str_eq(options.workload, "kv");
    ck_assert_uint_eq(options.memory_bytes, 64 << 20);
    ck_assert_uint_eq(options.rounds, 7);
    ck_assert(PARSE(W("--peer"), W("none"), W("--loops"), W("2")));
    ck_assert_str_eq(options.peer, "none");
    ck_assert_uint_eq(options.loops, 2);
}
END_TEST

START_TEST(test_short_pass)
{
    ck_assert(PARSE(W("all"), W("--quick")));
    ck_assert(options_is_all(&options) && options_is_pass(&options));
    ck_assert(PARSE(W("all")));
    ck_assert(options_is_all(&options) && !options_is_pass(&options));
    ck_assert(PARSE(W("kv"), W("--quick")));
    ck_assert(!options_is_all(&options) && !options_is_pass(&options));
}
END_TEST

START_TEST(test_refused)
{
    ck_assert(!PARSE(W("--fast")));
    ck_assert(!PARSE(W("kv"), W("index")));
    ck_assert(!PARSE(W("--count"), W("0")));
    ck_assert(!PARSE(W("--count"), W("x")));
    ck_assert(!PARSE(W("--count")));
    ck_assert(!PARSE(W("--rounds"), W("2")));
    ck_assert(!PARSE(W("--rounds"), W("65")));
    ck_assert(!PARSE(W("--loops"), W("3")));
}
END_TEST

START_TEST(test_explained)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    options_explain(out);
    fclose(out);
#define OPTION(member, kind, name, value, help)                                                    \
    ck_assert_ptr_nonnull(strstr(text, "  --" name value));                                        \
    ck_assert_ptr_nonnull(strstr(text, help));
#include "bench/options.def"
#undef OPTION
    free(text);
}
END_TEST

int main(void)
{
    return SUITE_RUN("options", setup, NULL, 0, test_nothing, test_kinds, test_short_pass,
                     test_refused, test_explained);
}
