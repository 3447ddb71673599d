/* Median, least and greatest, whatever the order. */
#include "bench/summary.h"

#include "tests/lib/suite.h"

static struct summary of(const double *values, unsigned count)
{
    struct samples samples = {.count = 0};
    for (unsigned i = 0; i < count; i++) {
        samples_add(&samples, values[i]);
    }
    return summary_of(&samples);
}

START_TEST(test_none)
{
    ck_assert_uint_eq(of(NULL, 0).count, 0);
}
END_TEST

START_TEST(test_odd)
{
    struct summary summary = of((const double[]){9, 1, 5}, 3);
    ck_assert(summary.median == 5 && summary.min == 1 && summary.max == 9 && summary.count == 3);
}
END_TEST

START_TEST(test_even)
{
    struct summary summary = of((const double[]){10, 40, 20, 2}, 4);
    ck_assert(summary.median == 15 && summary.min == 2 && summary.max == 40);
}
END_TEST

START_TEST(test_order_stays)
{
    struct samples samples = {.count = 0};
    samples_add(&samples, 3);
    samples_add(&samples, 1);
    (void)summary_of(&samples);
    ck_assert(samples.value[0] == 3 && samples.value[1] == 1);
}
END_TEST

int main(void)
{
    return SUITE_RUN("summary", NULL, NULL, 0, test_none, test_odd, test_even, test_order_stays);
}
