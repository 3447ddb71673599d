/*
 * Time behind one pointer, so that a test can drive it.
 *
 * Milliseconds that never go backwards, but for the wall's. Safe from any number of
 * operating-system threads.
 */
#ifndef RETHREAD_BASE_CLOCK_H
#define RETHREAD_BASE_CLOCK_H

#include <stdatomic.h>
#include <stdint.h>

struct clock {
    uint64_t (*read_ms)(struct clock *clock);
};

/* The machine's monotonic clock; starts at 1 or later. Static storage. */
struct clock *clock_monotonic(void);

/* The time of day, since 1970: it may be set, back as well as forth. Static storage. */
struct clock *clock_wall(void);

/* A clock that stands still until it is told to move. */
struct clock_driven {
    struct clock clock; /* pass &driven.clock on */
    _Atomic uint64_t now_ms;
};

void clock_driven_init(struct clock_driven *driven, uint64_t now_ms);
void clock_driven_advance(struct clock_driven *driven, uint64_t by_ms);

static inline uint64_t clock_read_ms(struct clock *clock)
{
    return clock->read_ms(clock);
}

#endif
