/* What the rounds of one measurement come to: median, least and greatest. */
#ifndef RETHREAD_BENCH_SUMMARY_H
#define RETHREAD_BENCH_SUMMARY_H

enum { SAMPLES_MAX = 64 };

struct samples {
    unsigned count;
    double value[SAMPLES_MAX]; /* in order of the rounds */
};

struct summary {
    unsigned count; /* 0: nothing was measured, and the rest is 0 */
    double median;  /* of an even count: the mean of the middle two */
    double min;
    double max;
};

void samples_add(struct samples *samples, double value); /* at most SAMPLES_MAX */

struct summary summary_of(const struct samples *samples);

#endif
