/* Escapes, hexadecimal digits and base64: both ways, and what is refused. */
#include "cli/encode.c"
#include "cli/keep.c"
#include "cli/report.c"

#include <check.h>
#include <stdlib.h>

static struct rethread_bytes literal(const char *text, size_t size)
{
    return (struct rethread_bytes){text, size};
}

#define LITERAL(text) literal(text, sizeof(text) - 1)

static void expect_escaped(struct rethread_bytes bytes, const char *expected)
{
    char *text = encode_escape(bytes, false);
    ck_assert_str_eq(text, expected);
    unsigned char *back = malloc(strlen(text) + 1);
    ptrdiff_t size = encode_unescape(text, back);
    ck_assert_int_eq(size, (ptrdiff_t)bytes.size);
    ck_assert_mem_eq(back, bytes.data, bytes.size);
    free(back);
    free(text);
}

START_TEST(escapes_and_back)
{
    expect_escaped(LITERAL("conv-1"), "conv-1");
    expect_escaped(LITERAL(""), "");
    expect_escaped(LITERAL("a\\b"), "a\\\\b");
    expect_escaped(LITERAL("a\0b\n\t\x7f"), "a\\x00b\\x0a\\x09\\x7f");
    expect_escaped(LITERAL("gr\xc3\xbc\xc3\x9f \xf0\x9f\x99\x82"), "grüß 🙂");
    expect_escaped(LITERAL("\xff\xc3"), "\\xff\\xc3");
    expect_escaped(LITERAL("\\x41"), "\\\\x41");
    /* Escape sequences, C1 controls, direction marks, a byte order mark. */
    expect_escaped(LITERAL("\x1b[2J"), "\\x1b[2J");
    expect_escaped(LITERAL("\xc2\x9b"), "\\xc2\\x9b");
    expect_escaped(LITERAL("\xe2\x80\xae"), "\\xe2\\x80\\xae");
    expect_escaped(LITERAL("\xef\xbb\xbf"), "\\xef\\xbb\\xbf");
}
END_TEST

START_TEST(every_byte_survives)
{
    unsigned char all[256];
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (unsigned char)i;
    struct rethread_bytes bytes = {all, sizeof all};
    char *text = encode_escape(bytes, false);
    for (const char *c = text; *c != '\0'; c++)
        ck_assert(*c >= 0x20 && *c < 0x7f);
    unsigned char *back = malloc(strlen(text) + 1);
    ck_assert_int_eq(encode_unescape(text, back), 256);
    ck_assert_mem_eq(back, all, sizeof all);
    free(back);
    free(text);
}
END_TEST

START_TEST(keeps_lines_when_asked)
{
    char *text = encode_escape(LITERAL("one\n\ttwo\\\x1b"), true);
    ck_assert_str_eq(text, "one\n\ttwo\\\\x1b");
    free(text);
}
END_TEST

START_TEST(refuses_other_backslashes)
{
    static const char *const bad[] = {"\\", "\\n", "\\x", "\\x4", "\\xg0", "\\x0g", "a\\"};
    unsigned char out[16];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(encode_unescape(bad[i], out) == -1, "%s was taken", bad[i]);
    ck_assert_int_eq(encode_unescape("\\xC3\\xbc", out), 2);
    ck_assert_mem_eq(out, "\xc3\xbc", 2);
}
END_TEST

START_TEST(judges_utf8)
{
    static const struct {
        const char *text;
        size_t length;
    } cases[] = {
        {"a", 1},
        {"\xc3\xbc", 2},
        {"\xe2\x82\xac", 3},
        {"\xf4\x8f\xbf\xbf", 4},
        {"\xf4\x90\x80\x80", 0}, /* above the last code point */
        {"\xc0\x80", 0},         /* too long for what it says */
        {"\xe0\x80\xaf", 0},
        {"\xed\xa0\x80", 0}, /* half a surrogate pair */
        {"\x80", 0},
        {"\xc3", 0},
        {"\xe2\x82", 0},
        {"\xf8\x88\x80\x80\x80", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_uint_eq(
            encode_utf8_length((const unsigned char *)cases[i].text, strlen(cases[i].text)),
            cases[i].length);
    ck_assert_uint_eq(encode_utf8_length((const unsigned char *)"", 0), 0);
}
END_TEST

static void expect_base64(struct rethread_bytes bytes, const char *expected)
{
    char *text = encode_base64(bytes);
    unsigned char out[64];
    ck_assert_str_eq(text, expected);
    ck_assert_int_eq(encode_from_base64(text, strlen(text), out), (ptrdiff_t)bytes.size);
    ck_assert_mem_eq(out, bytes.data, bytes.size);
    free(text);
}

START_TEST(base64_both_ways)
{
    /* The examples of RFC 4648, section 10. */
    expect_base64(LITERAL(""), "");
    expect_base64(LITERAL("f"), "Zg==");
    expect_base64(LITERAL("fo"), "Zm8=");
    expect_base64(LITERAL("foo"), "Zm9v");
    expect_base64(LITERAL("foobar"), "Zm9vYmFy");
    expect_base64(LITERAL("\xff\xfe\x00\x3e"), "//4APg==");
}
END_TEST

START_TEST(base64_refuses)
{
    static const char *const bad[] = {"Z",    "Zg",   "Zg=",  "Zh==",   "Zm9=",     "Z===",
                                      "====", "Zg=a", "Z g=", "Zm9v\n", "Zg==Zg==", "Zm_v"};
    unsigned char out[16];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(encode_from_base64(bad[i], strlen(bad[i]), out) == -1, "%s was taken",
                      bad[i]);
}
END_TEST

START_TEST(hexadecimal_digits)
{
    unsigned char out[4] = {0};
    ck_assert(encode_from_hex("00fFa9", out, 3));
    ck_assert_mem_eq(out, "\x00\xff\xa9", 3);
    ck_assert(!encode_from_hex("0", out, 1));
    ck_assert(!encode_from_hex("0x", out, 1));
    char *digits = encode_hex(LITERAL("\0\xff\xa9"));
    ck_assert_str_eq(digits, "00ffa9");
    free(digits);
    digits = encode_hex((struct rethread_bytes){NULL, 0});
    ck_assert_str_eq(digits, "");
    free(digits);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli/encode");
    TCase *tests = tcase_create("encode");
    tcase_add_test(tests, escapes_and_back);
    tcase_add_test(tests, every_byte_survives);
    tcase_add_test(tests, keeps_lines_when_asked);
    tcase_add_test(tests, refuses_other_backslashes);
    tcase_add_test(tests, judges_utf8);
    tcase_add_test(tests, base64_both_ways);
    tcase_add_test(tests, base64_refuses);
    tcase_add_test(tests, hexadecimal_digits);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
