/* Exact below 64, at most 1/32 too high above, and never beyond the largest value. */
#include "bench/hist.h"

#include "tests/lib/suite.h"

static struct hist hist;

static void setup(void)
{
    hist_clear(&hist);
}

START_TEST(test_empty)
{
    ck_assert_uint_eq(hist_percentile(&hist, 0.5), 0);
    ck_assert_uint_eq(hist.max, 0);
}
END_TEST

START_TEST(test_exact_when_small)
{
    for (uint64_t value = 0; value < 64; value++) {
        hist_record(&hist, value);
    }
    ck_assert_uint_eq(hist_percentile(&hist, 0), 0);
    ck_assert_uint_eq(hist_percentile(&hist, 0.5), 31);
    ck_assert_uint_eq(hist_percentile(&hist, 1), 63);
}
END_TEST

START_TEST(test_error_is_bounded)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        for (unsigned step = 0; step < 100; step++) {
            uint64_t value = ((uint64_t)1 << bit) + (((uint64_t)1 << bit) / 100) * step;
            hist_clear(&hist);
            hist_record(&hist, value);
            hist_record(&hist, UINT64_MAX);
            uint64_t told = hist_percentile(&hist, 0.5);
            ck_assert_uint_ge(told, value);
            ck_assert_uint_le(told - value, value / 32);
        }
    }
}
END_TEST

START_TEST(test_max_is_exact)
{
    hist_record(&hist, 1000001);
    hist_record(&hist, 3);
    ck_assert_uint_eq(hist.max, 1000001);
    ck_assert_uint_eq(hist_percentile(&hist, 1), 1000001);
    ck_assert_uint_eq(hist_percentile(&hist, 0.5), 3);
}
END_TEST

START_TEST(test_shares)
{
    for (uint64_t value = 1; value <= 100000; value++) {
        hist_record(&hist, value);
    }
    ck_assert_uint_eq(hist.count, 100000);
    const double shares[] = {0.5, 0.99, 0.999, 0.9999};
    for (unsigned i = 0; i < sizeof shares / sizeof *shares; i++) {
        double right = shares[i] * 100000;
        double told = (double)hist_percentile(&hist, shares[i]);
        ck_assert(told >= right && told <= right * 33 / 32);
    }
}
END_TEST

START_TEST(test_add)
{
    static struct hist other;
    hist_clear(&other);
    hist_record(&hist, 5);
    hist_record(&other, 7);
    hist_record(&other, 9);
    hist_add(&hist, &other);
    ck_assert_uint_eq(hist.count, 3);
    ck_assert_uint_eq(hist.max, 9);
    ck_assert_uint_eq(hist_percentile(&hist, 0.5), 7);
    hist_add(&other, &hist);
    ck_assert_uint_eq(other.count, 5);
}
END_TEST

int main(void)
{
    return SUITE_RUN("hist", setup, NULL, 0, test_empty, test_exact_when_small,
                     test_error_is_bounded, test_max_is_exact, test_shares, test_add);
}
