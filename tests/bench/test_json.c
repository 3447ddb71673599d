/* Every line is one object that another JSON parser reads back. */
#include "bench/json.h"

#include "tests/lib/suite.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

static char *text;
static size_t size;
static FILE *out;
static struct json json;

static void setup(void)
{
    out = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(out);
    json_start(&json, out);
}

static void teardown(void)
{
    free(text);
}

static json_t *parsed(void)
{
    fclose(out);
    json_t *object = json_loads(text, 0, NULL);
    ck_assert_msg(object != NULL, "not JSON: %s", text);
    return object;
}

START_TEST(test_members)
{
    json_object_begin(&json, NULL);
    json_text(&json, "a", "x");
    json_object_begin(&json, "b");
    json_object_end(&json);
    json_object_begin(&json, "c");
    json_count(&json, "d", 12345678901);
    json_number(&json, "e", 0.25);
    json_object_end(&json);
    json_number(&json, "f", (double)NAN);
    json_object_end(&json);
    json_t *object = parsed();
    ck_assert_str_eq(text, "{\"a\": \"x\", \"b\": {}, \"c\": {\"d\": 12345678901, \"e\": 0.25}, "
                           "\"f\": null}\n");
    json_decref(object);
}
END_TEST

START_TEST(test_escapes)
{
    json_object_begin(&json, NULL);
    json_text(&json, "a\"b", "\\ \" \n \x01 \xc3\xa4");
    json_text(&json, "none", NULL);
    json_object_end(&json);
    json_t *object = parsed();
    ck_assert_str_eq(json_string_value(json_object_get(object, "a\"b")), "\\ \" \n \x01 \xc3\xa4");
    ck_assert(json_is_null(json_object_get(object, "none")));
    json_decref(object);
}
END_TEST

START_TEST(test_no_number)
{
    json_object_begin(&json, NULL);
    json_number(&json, "nan", (double)NAN);
    json_number(&json, "inf", (double)INFINITY);
    json_object_end(&json);
    json_t *object = parsed();
    ck_assert(json_is_null(json_object_get(object, "nan")));
    ck_assert(json_is_null(json_object_get(object, "inf")));
    json_decref(object);
}
END_TEST

START_TEST(test_lines)
{
    for (unsigned i = 0; i < 2; i++) {
        json_object_begin(&json, NULL);
        json_count(&json, "i", i);
        json_object_end(&json);
    }
    fclose(out);
    ck_assert_str_eq(text, "{\"i\": 0}\n{\"i\": 1}\n");
}
END_TEST

int main(void)
{
    return SUITE_RUN("json", setup, teardown, 0, test_members, test_escapes, test_no_number,
                     test_lines);
}
