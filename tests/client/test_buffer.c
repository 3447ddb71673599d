/* A growing run of bytes keeps them in order, and keeps no more memory than it needs. */
#include "client/buffer.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(bytes_leave_in_the_order_they_came)
{
    struct client_buffer buffer = {.data = NULL};
    unsigned in = 0;
    unsigned out = 0;
    for (unsigned round = 0; round < 3000; round++) {
        for (unsigned i = 0; i < round % 97; i++, in++) {
            uint8_t byte = (uint8_t)(in * 7);
            ck_assert(client_buffer_append(&buffer, &byte, 1));
        }
        for (unsigned i = 0; i < round % 89 && out < in; i++, out++) {
            ck_assert_uint_eq(buffer.data[buffer.begin], (uint8_t)(out * 7));
            client_buffer_consume(&buffer, 1);
        }
        ck_assert_uint_eq(client_buffer_size(&buffer), in - out);
        ck_assert_uint_le(buffer.capacity, 4 * client_buffer_size(&buffer) + 1024);
    }
    client_buffer_clear(&buffer);
    ck_assert_ptr_null(buffer.data);
}
END_TEST

START_TEST(an_impossible_size_changes_nothing)
{
    struct client_buffer buffer = {.data = NULL};
    ck_assert(client_buffer_append(&buffer, "abc", 3));
    ck_assert(!client_buffer_reserve(&buffer, SIZE_MAX));
    ck_assert(!client_buffer_reserve(&buffer, SIZE_MAX / 2));
    ck_assert_uint_eq(client_buffer_size(&buffer), 3);
    ck_assert_mem_eq(buffer.data + buffer.begin, "abc", 3);
    client_buffer_clear(&buffer);
}
END_TEST

START_TEST(much_memory_goes_back_when_empty)
{
    struct client_buffer buffer = {.data = NULL};
    ck_assert(client_buffer_reserve(&buffer, 1 << 20));
    memset(buffer.data, 1, 1 << 20);
    buffer.end = 1 << 20;
    client_buffer_consume(&buffer, 1 << 19);
    ck_assert_ptr_nonnull(buffer.data);
    client_buffer_consume(&buffer, 1 << 19);
    ck_assert_uint_eq(buffer.capacity, 0);
    ck_assert(client_buffer_append(&buffer, "abc", 3));
    client_buffer_consume(&buffer, 3);
    ck_assert_uint_gt(buffer.capacity, 0);
    client_buffer_clear(&buffer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/buffer");
    TCase *bytes = tcase_create("bytes");
    tcase_add_test(bytes, bytes_leave_in_the_order_they_came);
    tcase_add_test(bytes, an_impossible_size_changes_nothing);
    tcase_add_test(bytes, much_memory_goes_back_when_empty);
    suite_add_tcase(suite, bytes);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
