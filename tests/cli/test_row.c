/* Lines of an import: both forms, and what is wrong with bad ones. */
#include "cli/row.c"
#include "cli/encode.c"
#include "cli/keep.c"
#include "cli/report.c"

#include <check.h>
#include <stdlib.h>

static struct row row;
static char error[ROW_ERROR_BYTES];

static bool read_line(const char *line)
{
    error[0] = '\0';
    return row_read(&row, line, strlen(line), error);
}

static void expect_bytes(struct rethread_bytes bytes, const char *text)
{
    ck_assert_uint_eq(bytes.size, strlen(text));
    ck_assert_mem_eq(bytes.data, text, bytes.size);
}

static void expect_segment(size_t index, enum rethread_kind kind, const char *text)
{
    ck_assert_uint_lt(index, row.append.segments.count);
    ck_assert_int_eq(row.append.segments.items[index].kind, kind);
    expect_bytes(row.append.segments.items[index].bytes, text);
}

START_TEST(reads_what_export_writes)
{
    ck_assert(read_line("{\"thread\":\"t\",\"step\":3,\"turn\":2,\"final\":true,\"model\":\"m\","
                        "\"response_id\":\"r\",\"tool_calls\":[\"a\",\"b\"],\"tokens\":7,"
                        "\"visible\":\"6162636465666768696A6b6c6d6e6f70\","
                        "\"segments\":[{\"kind\":\"text\",\"text\":\"hm\"},"
                        "{\"kind\":\"tokens\",\"bytes\":4,\"base64\":\"YWJjZA==\"},"
                        "{\"kind\":\"opaque\",\"text\":\"sig\"}]}"));
    ck_assert(!row.is_log);
    expect_bytes(row.append.thread, "t");
    ck_assert(row.position.set && row.position.value == 3);
    ck_assert(row.append.turn.set && row.append.turn.value == 2);
    ck_assert(row.append.final.set && row.append.final.value);
    expect_bytes(row.append.model, "m");
    expect_bytes(row.append.response_id, "r");
    ck_assert_uint_eq(row.append.tool_calls.count, 2);
    expect_bytes(row.append.tool_calls.items[1], "b");
    ck_assert(row.append.tokens.set && row.append.tokens.value == 7);
    expect_bytes(row.append.visible, "abcdefghijklmnop");
    ck_assert_uint_eq(row.append.segments.count, 3);
    expect_segment(0, RETHREAD_KIND_TEXT, "hm");
    expect_segment(1, RETHREAD_KIND_TOKENS, "abcd");
    expect_segment(2, RETHREAD_KIND_OPAQUE, "sig");
    ck_assert(!row.append.bare);
    row_free(&row);
}
END_TEST

START_TEST(reads_base64_ids_and_nuls)
{
    ck_assert(read_line("{\"thread_base64\":\"/wA=\",\"tool_calls_base64\":[\"/w==\"],"
                        "\"segments\":[{\"kind\":\"text\",\"text\":\"a\\u0000b\"}]}"));
    ck_assert_uint_eq(row.append.thread.size, 2);
    ck_assert_mem_eq(row.append.thread.data, "\xff\x00", 2);
    ck_assert_uint_eq(row.append.tool_calls.items[0].size, 1);
    ck_assert_uint_eq(row.append.segments.items[0].bytes.size, 3);
    ck_assert_mem_eq(row.append.segments.items[0].bytes.data, "a\0b", 3);
    row_free(&row);
}
END_TEST

START_TEST(reads_a_row_of_a_log)
{
    ck_assert(read_line("{\"thread\":\"t\",\"turn\":1,\"after\":\"user\",\"reasoning\":\"hm\","
                        "\"opaque\":\"sig\",\"visible\":\"x\",\"tool_calls\":[{\"name\":\"f\"},"
                        "{\"name\":\"g\",\"id\":\"call_1\"}],\"model\":\"m\",\"tools\":[1]}"));
    ck_assert(row.is_log && row.after_known && row.after_user);
    ck_assert(row.position.set && row.position.value == 1);
    ck_assert(!row.append.turn.set);
    ck_assert(row.append.final.set && !row.append.final.value);
    ck_assert_uint_eq(row.append.tool_calls.count, 1);
    expect_bytes(row.append.tool_calls.items[0], "call_1");
    ck_assert_uint_eq(row.append.segments.count, 2);
    expect_segment(0, RETHREAD_KIND_TEXT, "hm");
    expect_segment(1, RETHREAD_KIND_OPAQUE, "sig");
    row_free(&row);
}
END_TEST

START_TEST(reads_blocks_in_order)
{
    ck_assert(read_line("{\"thread\":\"t\",\"turn\":0,\"reasoning\":\"one two\",\"blocks\":["
                        "{\"kind\":\"thinking\",\"text\":\"one\",\"opaque\":\"s1\"},"
                        "{\"kind\":\"reasoning_item\",\"id\":\"rs\"},"
                        "{\"kind\":\"redacted\",\"opaque\":\"s2\"},"
                        "{\"kind\":\"thinking\",\"text\":\"two\"}],\"tool_calls\":[]}"));
    ck_assert_uint_eq(row.append.segments.count, 4);
    expect_segment(0, RETHREAD_KIND_TEXT, "one");
    expect_segment(1, RETHREAD_KIND_OPAQUE, "s1");
    expect_segment(2, RETHREAD_KIND_OPAQUE, "s2");
    expect_segment(3, RETHREAD_KIND_TEXT, "two");
    ck_assert(row.append.final.value && !row.after_known);
    row_free(&row);
}
END_TEST

START_TEST(no_reasoning_is_a_bare_step)
{
    ck_assert(read_line("{\"thread\":\"t\",\"turn\":0,\"reasoning\":\"\",\"blocks\":[]}"));
    ck_assert(row.append.bare);
    ck_assert_uint_eq(row.append.segments.count, 0);
    row_free(&row);
    ck_assert(read_line("{\"thread\":\"t\",\"step\":0,\"segments\":[]}"));
    ck_assert(row.append.bare);
    row_free(&row);
}
END_TEST

START_TEST(says_what_is_wrong)
{
    static const struct {
        const char *line;
        const char *says;
    } cases[] = {
        {"{\"thread\":\"t\", secret", "no JSON object"},
        {"[1]", "no JSON object"},
        {"{\"turn\":0,\"reasoning\":\"secret\"}", "`thread` is lacking"},
        {"{\"thread\":7,\"turn\":0}", "`thread` is no string"},
        {"{\"thread\":\"\",\"turn\":0}", "`thread` is lacking"},
        {"{\"thread\":\"t\"}", "`segments` is lacking"},
        {"{\"thread\":\"t\",\"turn\":-1}", "`turn` is no whole number"},
        {"{\"thread\":\"t\",\"turn\":0,\"reasoning\":[\"secret\"]}", "`reasoning` is no string"},
        {"{\"thread\":\"t\",\"turn\":0,\"blocks\":\"secret\"}", "`blocks` is no array"},
        {"{\"thread\":\"t\",\"segments\":{}}", "`segments` is no array"},
        {"{\"thread\":\"t\",\"segments\":[{\"kind\":\"text\",\"bytes\":6}]}", "not revealed"},
        {"{\"thread\":\"t\",\"segments\":[{\"kind\":\"text\",\"text\":\"\"}]}", "an empty one"},
        {"{\"thread\":\"t\",\"segments\":[{\"kind\":\"x\",\"text\":\"secret\"}]}", "`kind`"},
        {"{\"thread\":\"t\",\"segments\":[{\"text\":\"secret\"}]}", "`kind`"},
        {"{\"thread\":\"t\",\"segments\":[{\"kind\":\"text\",\"base64\":\"secret\"}]}",
         "`base64` is no base64"},
        {"{\"thread\":\"t\",\"step\":0,\"missing\":\"expired\"}", "not whole"},
        {"{\"thread\":\"t\",\"segments\":[],\"final\":1}", "`final`"},
        {"{\"thread\":\"t\",\"segments\":[],\"tool_calls\":[1]}", "`tool_calls`"},
        {"{\"thread\":\"t\",\"segments\":[],\"tokens\":1.5}", "`tokens`"},
        {"{\"thread\":\"t\",\"segments\":[],\"visible\":\"secret\"}", "`visible` is no hash"},
        {"{\"thread\":\"t\",\"segments\":[],\"visible\":7}", "`visible`"},
        {"{\"thread\":\"t\",\"segments\":[],\"visible\":\"secret6465666768696a6b6c6d6e6f70\"}",
         "`visible` is no hash"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_msg(!read_line(cases[i].line), "%s was taken", cases[i].line);
        ck_assert_msg(strstr(error, cases[i].says) != NULL, "%s: %s", cases[i].line, error);
        ck_assert_msg(strstr(error, "secret") == NULL, "%s", error);
        row_free(&row);
    }
}
END_TEST

START_TEST(counts_segments_and_ids)
{
    static const struct {
        const char *before;
        const char *each;
        const char *after;
        int most;
    } cases[] = {
        {"{\"thread\":\"t\",\"segments\":[", "{\"kind\":\"text\",\"text\":\"x\"}", "]}", 64},
        {"{\"thread\":\"t\",\"turn\":0,\"blocks\":[", "{\"text\":\"x\"}", "]}", 64},
        {"{\"thread\":\"t\",\"segments\":[],\"tool_calls\":[", "\"x\"", "]}", 128},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int count = cases[i].most; count <= cases[i].most + 1; count++) {
            char *line = NULL;
            size_t size = 0;
            FILE *out = open_memstream(&line, &size);
            fputs(cases[i].before, out);
            for (int j = 0; j < count; j++)
                fprintf(out, "%s%s", j != 0 ? "," : "", cases[i].each);
            fputs(cases[i].after, out);
            fclose(out);
            ck_assert_int_eq(read_line(line), count == cases[i].most);
            row_free(&row);
            free(line);
        }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli/row");
    TCase *tests = tcase_create("row");
    tcase_add_test(tests, reads_what_export_writes);
    tcase_add_test(tests, reads_base64_ids_and_nuls);
    tcase_add_test(tests, reads_a_row_of_a_log);
    tcase_add_test(tests, reads_blocks_in_order);
    tcase_add_test(tests, no_reasoning_is_a_bare_step);
    tcase_add_test(tests, says_what_is_wrong);
    tcase_add_test(tests, counts_segments_and_ids);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
