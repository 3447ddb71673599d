/* The monotonic clock, the wall's, and the driven one. */
#include "base/clock.h"

#include <assert.h>
#include <time.h>

static uint64_t monotonic_read_ms(struct clock *clock)
{
    struct timespec now;
    (void)clock;
    int failed = clock_gettime(CLOCK_MONOTONIC, &now);
    assert(!failed);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 + 1;
}

struct clock *clock_monotonic(void)
{
    static struct clock monotonic = {.read_ms = monotonic_read_ms};
    return &monotonic;
}

static uint64_t wall_read_ms(struct clock *clock)
{
    struct timespec now;
    (void)clock;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    assert(!failed && now.tv_sec >= 0);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct clock *clock_wall(void)
{
    static struct clock wall = {.read_ms = wall_read_ms};
    return &wall;
}

static uint64_t driven_read_ms(struct clock *clock)
{
    struct clock_driven *driven = (struct clock_driven *)clock;
    /* Pairs with the release in clock_driven_advance: who sees the time sees what came before. */
    return atomic_load_explicit(&driven->now_ms, memory_order_acquire);
}

void clock_driven_init(struct clock_driven *driven, uint64_t now_ms)
{
    driven->clock.read_ms = driven_read_ms;
    atomic_init(&driven->now_ms, now_ms);
}

void clock_driven_advance(struct clock_driven *driven, uint64_t by_ms)
{
    /* Pairs with the acquire in driven_read_ms. */
    atomic_fetch_add_explicit(&driven->now_ms, by_ms, memory_order_acq_rel);
}
