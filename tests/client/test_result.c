/* A result's memory: aligned, zeroed, apart from each other, and freed with it. */
#include "client/result.h"

#include <check.h>
#include <stdlib.h>

START_TEST(memory_is_zeroed_aligned_and_apart)
{
    enum { COUNT = 2000 };
    static unsigned char *memory[COUNT];
    struct rethread_result *result = client_result_new((struct rethread_bytes){NULL, 0});
    ck_assert_ptr_nonnull(result);
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = i % 50 == 0 ? 5000 : i % 37;
        memory[i] = client_result_alloc(result, size, 1);
        ck_assert_ptr_nonnull(memory[i]);
        ck_assert_uint_eq((uintptr_t)memory[i] % _Alignof(max_align_t), 0);
        for (size_t at = 0; at < size; at++)
            ck_assert_uint_eq(memory[i][at], 0);
        memset(memory[i], (int)(i % 251 + 1), size);
    }
    for (size_t i = 0; i < COUNT; i++)
        for (size_t at = 0; at < (i % 50 == 0 ? 5000 : i % 37); at++)
            ck_assert_uint_eq(memory[i][at], i % 251 + 1);
    rethread_result_free(result);
    rethread_result_free(NULL);
}
END_TEST

START_TEST(an_impossible_count_is_refused)
{
    struct rethread_result *result = client_result_new((struct rethread_bytes){NULL, 0});
    ck_assert_ptr_nonnull(result);
    ck_assert_ptr_null(client_result_alloc(result, SIZE_MAX, 2));
    ck_assert_ptr_null(client_result_alloc(result, SIZE_MAX / 16, 16));
    ck_assert_ptr_nonnull(client_result_alloc(result, 0, 16));
    rethread_result_free(result);
}
END_TEST

START_TEST(accessors_answer_for_their_own_method_only)
{
    struct rethread_result *result = client_result_new((struct rethread_bytes){NULL, 0});
    ck_assert_ptr_nonnull(result);
    result->method = RETHREAD_METHOD_STAT;
    ck_assert_ptr_nonnull(rethread_result_stat(result));
    ck_assert_ptr_null(rethread_result_hello(result));
    ck_assert_ptr_null(rethread_result_append(result));
    ck_assert_ptr_null(rethread_result_replay(result));
    ck_assert_ptr_null(rethread_result_touch(result));
    ck_assert_ptr_null(rethread_result_fork(result));
    ck_assert_ptr_null(rethread_result_rewind(result));
    ck_assert_ptr_null(rethread_result_forget(result));
    ck_assert_ptr_null(rethread_result_list(result));
    ck_assert_ptr_null(rethread_result_info(result));
    ck_assert_ptr_null(rethread_result_begin(result));
    ck_assert_ptr_null(rethread_result_chunk(result));
    ck_assert_ptr_null(rethread_result_commit(result));
    ck_assert_ptr_null(rethread_result_abort(result));
    ck_assert_ptr_null(rethread_result_error(result));
    ck_assert_int_eq(rethread_result_method(result), RETHREAD_METHOD_STAT);
    result->method = RETHREAD_METHOD_COMMIT;
    ck_assert_ptr_nonnull(rethread_result_commit(result));
    ck_assert_ptr_null(rethread_result_append(result));
    result->method = RETHREAD_METHOD_STAT;
    result->error.status = RETHREAD_BUSY;
    ck_assert_ptr_null(rethread_result_stat(result));
    ck_assert_int_eq(rethread_result_error(result)->status, RETHREAD_BUSY);
    ck_assert_ptr_null(rethread_result_stat(NULL));
    rethread_result_free(result);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/result");
    TCase *memory = tcase_create("memory");
    tcase_add_test(memory, memory_is_zeroed_aligned_and_apart);
    tcase_add_test(memory, an_impossible_count_is_refused);
    tcase_add_test(memory, accessors_answer_for_their_own_method_only);
    suite_add_tcase(suite, memory);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
