/* Counts values in buckets that widen with them; see hist.h. Touches nothing else. */
#include "bench/hist.h"

#include <assert.h>
#include <string.h>

static unsigned bucket_of(uint64_t value)
{
    if (value < (uint64_t)2 << HIST_STEP_BITS) {
        return (unsigned)value;
    }
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - HIST_STEP_BITS;
    return (shift << HIST_STEP_BITS) + (unsigned)(value >> shift);
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_top(unsigned bucket)
{
    if (bucket < 2u << HIST_STEP_BITS) {
        return bucket;
    }
    unsigned shift = (bucket >> HIST_STEP_BITS) - 1;
    uint64_t step = bucket - ((uint64_t)shift << HIST_STEP_BITS);
    return (step << shift) + (((uint64_t)1 << shift) - 1);
}

void hist_clear(struct hist *hist)
{
    memset(hist, 0, sizeof *hist);
}

void hist_record(struct hist *hist, uint64_t value)
{
    unsigned bucket = bucket_of(value);
    assert(bucket < HIST_BUCKETS);
    hist->bucket[bucket]++;
    hist->count++;
    if (value > hist->max) {
        hist->max = value;
    }
}

void hist_add(struct hist *into, const struct hist *from)
{
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        into->bucket[i] += from->bucket[i];
    }
    into->count += from->count;
    into->max = from->max > into->max ? from->max : into->max;
}

uint64_t hist_percentile(const struct hist *hist, double share)
{
    assert(share >= 0 && share <= 1);
    double wanted = share * (double)hist->count;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        seen += hist->bucket[i];
        if (seen != 0 && (double)seen >= wanted) {
            uint64_t top = bucket_top(i);
            return top < hist->max ? top : hist->max;
        }
    }
    return hist->max;
}
