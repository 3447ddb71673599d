/* Median, least and greatest of a few numbers. Touches nothing else. */
#include "bench/summary.h"

#include <assert.h>
#include <stdlib.h>

void samples_add(struct samples *samples, double value)
{
    assert(samples->count < SAMPLES_MAX);
    samples->value[samples->count++] = value;
}

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

struct summary summary_of(const struct samples *samples)
{
    if (samples->count == 0) {
        return (struct summary){.count = 0};
    }
    struct samples sorted = *samples;
    unsigned count = sorted.count;
    qsort(sorted.value, count, sizeof sorted.value[0], by_value);
    return (struct summary){
        .count = count,
        .median = (sorted.value[(count - 1) / 2] + sorted.value[count / 2]) / 2,
        .min = sorted.value[0],
        .max = sorted.value[count - 1],
    };
}
