/* The table of requests: found by msgid, kept in order, every result freed or handed out. */
#include "client/pending.h"

#include <check.h>
#include <stdlib.h>

static struct client_table table;

static void setup(void)
{
    client_table_init(&table);
}

static void teardown(void)
{
    client_table_clear(&table);
}

static struct client_pending *add(void)
{
    struct client_pending *pending = client_table_add(&table, RETHREAD_METHOD_PING);
    ck_assert_ptr_nonnull(pending);
    return pending;
}

static struct rethread_result *make_result(void)
{
    struct rethread_result *result = client_result_new((struct rethread_bytes){NULL, 0});
    ck_assert_ptr_nonnull(result);
    return result;
}

START_TEST(everything_added_is_found_until_taken)
{
    enum { COUNT = 1000 };
    uint32_t msgids[COUNT];
    for (int i = 0; i < COUNT; i++)
        msgids[i] = add()->msgid;
    ck_assert_uint_eq(table.count, COUNT);
    for (int i = 0; i < COUNT; i += 2) {
        struct client_pending *pending = client_table_find(&table, msgids[i]);
        ck_assert_ptr_nonnull(pending);
        ck_assert_ptr_null(client_table_take(&table, pending));
    }
    for (int i = 0; i < COUNT; i++)
        ck_assert_int_eq(client_table_find(&table, msgids[i]) != NULL, i % 2 == 1);
    ck_assert_uint_eq(table.count, COUNT / 2);
    ck_assert_ptr_null(client_table_find(&table, 0));
}
END_TEST

START_TEST(nothing_is_found_in_an_empty_table)
{
    ck_assert_ptr_null(client_table_find(&table, 1));
    ck_assert_ptr_null(TAILQ_FIRST(&table.ready));
    ck_assert_ptr_null(TAILQ_FIRST(&table.waiting));
}
END_TEST

START_TEST(lists_keep_the_order_of_adding_and_of_arrival)
{
    struct client_pending *a = add();
    struct client_pending *b = add();
    struct client_pending *c = add();
    ck_assert_ptr_eq(TAILQ_FIRST(&table.waiting), a);
    struct rethread_result *of_c = make_result();
    client_table_ready(&table, c, of_c);
    client_table_ready(&table, a, make_result());
    ck_assert_ptr_eq(TAILQ_FIRST(&table.waiting), b);
    ck_assert_ptr_eq(TAILQ_FIRST(&table.ready), c);
    ck_assert_ptr_eq(client_table_take(&table, c), of_c);
    rethread_result_free(of_c);
    ck_assert_ptr_eq(TAILQ_FIRST(&table.ready), a);
}
END_TEST

START_TEST(abandoned_requests_stay_until_their_response)
{
    struct client_pending *a = add();
    struct client_pending *b = add();
    uint32_t msgid = a->msgid;
    client_table_abandon(&table, a);
    client_table_abandon(&table, a);
    ck_assert_ptr_eq(TAILQ_FIRST(&table.waiting), b);
    ck_assert_uint_eq(table.abandoned, 1);
    ck_assert_ptr_eq(client_table_find(&table, msgid), a);
    ck_assert_ptr_null(client_table_take(&table, a));
    ck_assert_uint_eq(table.abandoned, 0);
    client_table_ready(&table, b, make_result());
    client_table_abandon(&table, b);
    ck_assert_uint_eq(table.count, 0);
}
END_TEST

START_TEST(a_msgid_in_use_is_not_given_again)
{
    table.next_msgid = UINT32_MAX;
    struct client_pending *last = add();
    ck_assert_uint_eq(last->msgid, UINT32_MAX);
    struct client_pending *first = add();
    ck_assert_uint_eq(first->msgid, 0);
    table.next_msgid = UINT32_MAX;
    ck_assert_uint_eq(add()->msgid, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/pending");
    TCase *entries = tcase_create("entries");
    tcase_add_checked_fixture(entries, setup, teardown);
    tcase_add_test(entries, everything_added_is_found_until_taken);
    tcase_add_test(entries, nothing_is_found_in_an_empty_table);
    tcase_add_test(entries, lists_keep_the_order_of_adding_and_of_arrival);
    tcase_add_test(entries, abandoned_requests_stay_until_their_response);
    tcase_add_test(entries, a_msgid_in_use_is_not_given_again);
    suite_add_tcase(suite, entries);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
