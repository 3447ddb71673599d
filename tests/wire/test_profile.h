/* The README, for the tests of what it says of profiles. Header only. */
#ifndef RETHREAD_TESTS_WIRE_TEST_PROFILE_H
#define RETHREAD_TESTS_WIRE_TEST_PROFILE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* The caller frees it. */
static inline char *read_readme(void)
{
    FILE *file = fopen("README.md", "r");
    ck_assert_ptr_nonnull(file);
    char *text = calloc(1, 1 << 20);
    ck_assert_uint_lt(fread(text, 1, (1 << 20) - 1, file), (1 << 20) - 1);
    fclose(file);
    return text;
}

#endif
