/* Items one by one: each of its own type only, and none beyond the end. */
#include "client/items.h"
#include "tests/lib/notation.h"

#include <check.h>
#include <stdlib.h>

static struct bytes encoded;

/* A cursor on the items of a text; the bytes live until the next call. */
static struct wire_cursor on(const char *text)
{
    free((void *)(uintptr_t)encoded.data);
    encoded = notation_encode(text);
    return client_cursor_on((struct rethread_bytes){encoded.data, encoded.size});
}

START_TEST(each_type_is_taken_as_itself)
{
    uint32_t count = 0;
    uint64_t number = 0;
    bool flag = false;
    struct rethread_bytes bytes;
    struct wire_cursor cursor = on("[{'one': 18446744073709551615}, b'two', true, nil]");
    ck_assert(client_take_array(&cursor, &count));
    ck_assert_uint_eq(count, 4);
    ck_assert(client_take_map(&cursor, &count));
    ck_assert_uint_eq(count, 1);
    ck_assert(client_take_bytes(&cursor, &bytes));
    ck_assert_mem_eq(bytes.data, "one", bytes.size);
    ck_assert(client_take_u64(&cursor, &number));
    ck_assert_uint_eq(number, UINT64_MAX);
    ck_assert(client_take_bytes(&cursor, &bytes));
    ck_assert_mem_eq(bytes.data, "two", bytes.size);
    ck_assert(client_take_bool(&cursor, &flag) && flag);
    ck_assert(client_take_nil(&cursor));
    ck_assert(!client_take_nil(&cursor));
    ck_assert(!client_take_u64(&cursor, &number));
    free((void *)(uintptr_t)encoded.data);
}
END_TEST

START_TEST(no_type_passes_for_another)
{
    static const char *const items[] = {"[]", "{}", "'text'", "b'bytes'", "7", "-7", "true", "nil"};
    static const int taken_by[] = {0, 1, 2, 2, 3, 9, 4, 5};
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        uint32_t count = 7;
        uint64_t number = 7;
        bool flag = true;
        struct rethread_bytes bytes;
        struct wire_cursor start = on(items[i]);
        struct wire_cursor cursor = start;
        ck_assert_int_eq(client_take_array(&cursor, &count), taken_by[i] == 0);
        ck_assert_uint_eq(count, 0);
        cursor = start;
        ck_assert_int_eq(client_take_map(&cursor, &count), taken_by[i] == 1);
        cursor = start;
        ck_assert_int_eq(client_take_bytes(&cursor, &bytes), taken_by[i] == 2);
        cursor = start;
        ck_assert_int_eq(client_take_u64(&cursor, &number), taken_by[i] == 3);
        ck_assert_uint_eq(number, taken_by[i] == 3 ? 7 : 0);
        cursor = start;
        ck_assert_int_eq(client_take_bool(&cursor, &flag), taken_by[i] == 4);
        ck_assert_int_eq(flag, taken_by[i] == 4);
        cursor = start;
        ck_assert_int_eq(client_take_nil(&cursor), taken_by[i] == 5);
        if (taken_by[i] != 5)
            ck_assert_ptr_eq(cursor.at, start.at);
    }
    free((void *)(uintptr_t)encoded.data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/items");
    TCase *items = tcase_create("items");
    tcase_add_test(items, each_type_is_taken_as_itself);
    tcase_add_test(items, no_type_passes_for_another);
    suite_add_tcase(suite, items);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
