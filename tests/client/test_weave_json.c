/* JSON for weaving: numbers as they were written, limits, sentences without bytes, UTF-8. */
#include "client/weave_json.h"

#include "tests/lib/suite.h"

#include <stdio.h>
#include <stdlib.h>

static struct weave_json fresh(void)
{
    struct weave_json json = {0};
    weave_json_limit(&json, WEAVE_TRANSCRIPT_DEPTH_MAX, WEAVE_TRANSCRIPT_VALUES_MAX);
    return json;
}

static void passes(const char *text, const char *expected)
{
    struct weave_json json = fresh();
    struct weave_error error = {0};
    struct weave_text out = {0};
    json_t *root;
    ck_assert_msg(weave_json_read(&json, rethread_text(text), &root, &error) == RETHREAD_OK,
                  "%s: %s", text, error.text);
    ck_assert(weave_json_print(&json, root, 0, &out));
    ck_assert_str_eq(out.data, expected);
    free(out.data);
    json_decref(root);
    weave_json_free(&json);
}

START_TEST(test_numbers_as_written)
{
    static const char *const numbers[] = {
        "0",
        "-1",
        "999999999999999999",
        "-999999999999999999",
        "9223372036854775807",
        "-9223372036854775808",
        "12345678901234567890",
        "123456789012345678901234567890123456789012345678901234567890",
        "0.1",
        "-0",
        "-0.0",
        "1.0",
        "1.00",
        "1e400",
        "-1E-400",
        "1e+5",
        "0.30000000000000004",
        "0.1234567890123456789012345678901234567890",
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char text[400];
        snprintf(text, sizeof text, "{\"a\":[%s,\"%s\",0.5,%s],\"%s\":%s}", numbers[i], numbers[i],
                 numbers[i], numbers[i], numbers[i]);
        passes(numbers[i], numbers[i]);
        passes(text, text);
    }
    passes(" [ 1.50 ,\n 2 ] ", "[1.50,2]");
    passes("[\"\\\\\\\"1.5\",1.5]", "[\"\\\\\\\"1.5\",1.5]");
}
END_TEST

START_TEST(test_numbers_of_several_texts)
{
    struct weave_json json = fresh();
    struct weave_error error = {0};
    struct weave_text out = {0};
    json_t *one, *two;
    ck_assert_int_eq(weave_json_read(&json, rethread_text("[1.5,{\"x\":2.5}]"), &one, &error),
                     RETHREAD_OK);
    ck_assert_int_eq(weave_json_read(&json, rethread_text("[3.5]"), &two, &error), RETHREAD_OK);
    json_array_append_new(two, json_incref(json_array_get(one, 1)));
    json_array_append_new(one, json_incref(json_array_get(two, 0)));
    ck_assert(weave_json_print(&json, one, 0, &out) && weave_json_print(&json, two, 0, &out));
    ck_assert_str_eq(out.data, "[1.5,{\"x\":2.5},3.5][3.5,{\"x\":2.5}]");
    free(out.data);
    json_decref(one);
    json_decref(two);
    weave_json_free(&json);
}
END_TEST

static enum rethread_status refused(struct weave_json *json, const char *text,
                                    struct weave_error *error)
{
    json_t *root;
    enum rethread_status status = weave_json_read(json, rethread_text(text), &root, error);
    ck_assert_ptr_null(root);
    ck_assert_uint_gt(strlen(error->text), 0);
    weave_json_free(json);
    return status;
}

START_TEST(test_malformed_numbers)
{
    static const char *const texts[] = {"[01]",    "[1.]",  "[.5]",  "[1e]",    "[1e+]",  "[--1]",
                                        "[+1]",    "[1-2]", "[-]",   "[1.5.5]", "[00.5]", "[-01]",
                                        "[1e5e5]", "[0x1]", "[1,.]", "[NaN]"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct weave_json json = fresh();
        struct weave_error error = {0};
        ck_assert_msg(refused(&json, texts[i], &error) == RETHREAD_INVALID_ARGUMENT, "%s",
                      texts[i]);
    }
}
END_TEST

/* What stands in for a number is of another length; the sentence speaks of the text as given. */
START_TEST(test_where_it_is_malformed)
{
    static const struct {
        const char *text;
        int least;
        int most;
    } rows[] = {
        {"[1,?]", 3, 5},
        {"[0.123456789012345678901234567890123456789012345678901234567890,?]", 62, 67},
        {"[-0,-0,-0,-0,-0,-0,-0,-0,-0,-0,?]", 30, 33},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct weave_json json = fresh();
        struct weave_error error = {0};
        int position = -1;
        ck_assert_int_eq(refused(&json, rows[i].text, &error), RETHREAD_INVALID_ARGUMENT);
        const char *byte = strstr(error.text, "byte ");
        ck_assert_msg(byte != NULL && sscanf(byte, "byte %d", &position) == 1, "%s", error.text);
        ck_assert_msg(position >= rows[i].least && position <= rows[i].most, "%s", error.text);
    }
}
END_TEST

START_TEST(test_limits)
{
    struct weave_json json = {0};
    struct weave_error error = {0};
    json_t *root;
    weave_json_limit(&json, 3, 6);
    ck_assert_int_eq(weave_json_read(&json, rethread_text("[[[]],[]]"), &root, &error),
                     RETHREAD_OK);
    json_decref(root);
    weave_json_limit(&json, 3, 100);
    ck_assert_int_eq(refused(&json, "[[[[]]]]", &error), RETHREAD_TOO_LARGE);
    ck_assert_msg(strstr(error.text, "levels, at most 3") != NULL, "%s", error.text);
    weave_json_limit(&json, 3, 100);
    ck_assert_int_eq(refused(&json, "[{\"a\":[{", &error), RETHREAD_TOO_LARGE);
    weave_json_limit(&json, 3, 3);
    ck_assert_int_eq(refused(&json, "[1,2,3,4]", &error), RETHREAD_TOO_LARGE);
    ck_assert_msg(strstr(error.text, "at most 3") != NULL, "%s", error.text);
    /* Of several texts together; brackets within strings are no levels. */
    weave_json_limit(&json, 1, 3);
    ck_assert_int_eq(weave_json_read(&json, rethread_text("[\"[[[[,,,,\\\"[\"]"), &root, &error),
                     RETHREAD_OK);
    json_decref(root);
    ck_assert_int_eq(refused(&json, "[1,2,3]", &error), RETHREAD_TOO_LARGE);
}
END_TEST

START_TEST(test_numbers_without_end)
{
    enum { NUMBERS = 6 << 20 };
    struct weave_json json = fresh();
    struct weave_error error = {0};
    char *text = malloc(4 * (size_t)NUMBERS + 1);
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < NUMBERS; i++)
        memcpy(text + 4 * i, "0.5 ", 4);
    text[4 * (size_t)NUMBERS] = '\0';
    ck_assert_int_eq(refused(&json, text, &error), RETHREAD_TOO_LARGE);
    free(text);
}
END_TEST

START_TEST(test_utf8)
{
    static const struct {
        const char *text;
        bool is;
    } rows[] = {
        {"", true},
        {"plain", true},
        {"\xc2\x80 \xdf\xbf", true},
        {"\xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf", true},
        {"\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf", true},
        {"\x80", false},
        {"\xc1\xbf", false},
        {"\xe0\x9f\xbf", false},
        {"\xed\xa0\x80", false},
        {"\xf0\x8f\xbf\xbf", false},
        {"\xf4\x90\x80\x80", false},
        {"\xf5\x80\x80\x80", false},
        {"\xc2", false},
        {"\xe2\x82", false},
        {"\xf0\x9f\xa7", false},
        {"\xe2\x28\xa1", false},
        {"x\xff", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *string = json_string(rows[i].text);
        ck_assert_msg(weave_json_is_utf8(rethread_text(rows[i].text)) == rows[i].is, "row %zu", i);
        ck_assert_msg((string != NULL) == rows[i].is, "row %zu, by jansson", i);
        json_decref(string);
    }
}
END_TEST

int main(void)
{
    return SUITE_RUN("weave_json", NULL, NULL, 0, test_numbers_as_written,
                     test_numbers_of_several_texts, test_malformed_numbers,
                     test_where_it_is_malformed, test_limits, test_numbers_without_end, test_utf8);
}
