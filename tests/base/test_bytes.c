/* Borrowed bytes: comparing them, and big-endian numbers at any address. */
#include "base/bytes.h"

#include <check.h>

START_TEST(compares_contents_and_sizes)
{
    struct bytes none = bytes_of(NULL, 0), empty = bytes_of("x", 0);
    ck_assert(bytes_equal(none, empty));
    ck_assert(bytes_equal(bytes_text("abc"), bytes_of("abcd", 3)));
    ck_assert(!bytes_equal(bytes_text("abc"), bytes_text("abd")));
    ck_assert(!bytes_equal(bytes_text("abc"), bytes_text("ab")));
    ck_assert(!bytes_equal(bytes_text("a"), none));
    ck_assert(bytes_equal(bytes_of("a\0b", 3), bytes_of("a\0b", 3)));
    ck_assert(!bytes_equal(bytes_of("a\0b", 3), bytes_of("a\0c", 3)));
    ck_assert_uint_eq(bytes_text("").size, 0);
}
END_TEST

START_TEST(finds_starts)
{
    ck_assert(bytes_start_with(bytes_text("abc"), bytes_text("ab")));
    ck_assert(bytes_start_with(bytes_text("abc"), bytes_text("abc")));
    ck_assert(bytes_start_with(bytes_text("abc"), bytes_of(NULL, 0)));
    ck_assert(bytes_start_with(bytes_of(NULL, 0), bytes_of(NULL, 0)));
    ck_assert(!bytes_start_with(bytes_text("ab"), bytes_text("abc")));
    ck_assert(!bytes_start_with(bytes_text("abc"), bytes_text("b")));
    ck_assert(bytes_start_with(bytes_of("\0\xff", 2), bytes_of("\0", 1)));
}
END_TEST

START_TEST(numbers_are_big_endian_at_any_address)
{
    uint8_t buffer[24];
    for (size_t at = 0; at < 9; at++) {
        memset(buffer, 0xcc, sizeof buffer);
        bytes_store_be64(buffer + at, UINT64_C(0x80f1020304050607));
        ck_assert_mem_eq(buffer + at, "\x80\xf1\x02\x03\x04\x05\x06\x07", 8);
        ck_assert_uint_eq(bytes_load_be64(buffer + at), UINT64_C(0x80f1020304050607));
        ck_assert_uint_eq(bytes_load_be32(buffer + at), 0x80f10203);
        ck_assert_uint_eq(bytes_load_be16(buffer + at), 0x80f1);
        ck_assert_uint_eq(buffer[at + 8], 0xcc);
        bytes_store_be32(buffer + at, 0xfedcba98);
        ck_assert_mem_eq(buffer + at, "\xfe\xdc\xba\x98\x04", 5);
        bytes_store_be16(buffer + at, 0xff01);
        ck_assert_mem_eq(buffer + at, "\xff\x01\xba", 3);
        ck_assert(at == 0 || buffer[at - 1] == 0xcc);
    }
    bytes_store_be64(buffer, UINT64_MAX);
    ck_assert_uint_eq(bytes_load_be64(buffer), UINT64_MAX);
    ck_assert_uint_eq(bytes_load_be32(buffer), UINT32_MAX);
    ck_assert_uint_eq(bytes_load_be16(buffer), UINT16_MAX);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/bytes");
    TCase *bytes = tcase_create("bytes");
    tcase_add_test(bytes, compares_contents_and_sizes);
    tcase_add_test(bytes, finds_starts);
    tcase_add_test(bytes, numbers_are_big_endian_at_any_address);
    suite_add_tcase(suite, bytes);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
