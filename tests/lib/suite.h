/*
 * The main of a Check program with one suite. Header only; a time limit of 0 means the default.
 * Limits end what hangs: a longer default, as the runner has it for busy machines, counts instead.
 */
#ifndef RETHREAD_TESTS_LIB_SUITE_H
#define RETHREAD_TESTS_LIB_SUITE_H

#include <check.h>
#include <stdlib.h>

static inline double suite_limit(double seconds)
{
    const char *text = getenv("CK_DEFAULT_TIMEOUT");
    double usual = text ? strtod(text, NULL) : 0;
    return usual > seconds ? usual : seconds;
}

/* Runs and frees the suite; returns the program's exit code. */
static inline int suite_main(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}

static inline int suite_run(const char *name, SFun setup, SFun teardown, double limit_seconds,
                            const TTest *const *tests, size_t count)
{
    Suite *suite = suite_create(name);
    TCase *all = tcase_create(name);
    if (setup) {
        tcase_add_checked_fixture(all, setup, teardown);
    }
    if (limit_seconds > 0) {
        tcase_set_timeout(all, suite_limit(limit_seconds));
    }
    for (size_t i = 0; i < count; i++) {
        tcase_add_test(all, tests[i]);
    }
    suite_add_tcase(suite, all);
    return suite_main(suite);
}

/* SUITE_RUN("append", setup, teardown, 0, test, another) */
#define SUITE_RUN(name, setup, teardown, limit_seconds, ...)                                       \
    suite_run((name), (setup), (teardown), (limit_seconds), (const TTest *const[]){__VA_ARGS__},   \
              sizeof((const TTest *const[]){__VA_ARGS__}) / sizeof(TTest *))

#endif
