/* The filter: "no" is certain, "maybe" is rarely wrong, adding and asking at once are safe. */
#include "store/filter.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <pthread.h>
#include <stdatomic.h>

static struct index_hash name_of(uint64_t number)
{
    uint64_t state = number * 2654435761u + 17;
    struct index_hash name;
    name.low = trial_random(&state);
    name.high = trial_random(&state);
    return name;
}

START_TEST(finds_all_and_little_else)
{
    static const uint64_t sizes[] = {1, 10, 1000, 50000, 1000000};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t names = sizes[i];
        struct filter *filter = filter_create(names);
        ck_assert_ptr_nonnull(filter);
        ck_assert_uint_eq(filter_capacity(filter), names);
        ck_assert_uint_le(filter_bytes(filter), names * 3 / 2 + 256);
        ck_assert(!filter_may_have(filter, name_of(0)));
        for (uint64_t number = 0; number < names; number++) {
            filter_add(filter, name_of(number));
        }
        ck_assert_uint_eq(filter_count(filter), names);
        for (uint64_t number = 0; number < names; number++) {
            ck_assert(filter_may_have(filter, name_of(number)));
        }
        enum { ASKED = 100000 };
        unsigned wrong = 0;
        for (uint64_t number = names; number < names + ASKED; number++) {
            wrong += filter_may_have(filter, name_of(number));
        }
        ck_assert_msg(names < 1000 || wrong < ASKED / 100, "%u of %u for %lu", wrong, ASKED,
                      (unsigned long)names);
        filter_destroy(filter);
    }
}
END_TEST

/* Names that share a half must not look alike: either half alone is not enough. */
START_TEST(both_halves_count)
{
    enum { NAMES = 20000 };
    struct filter *filter = filter_create(NAMES);
    for (uint64_t number = 0; number < NAMES; number++) {
        filter_add(filter, name_of(number));
    }
    unsigned same_low = 0, same_high = 0;
    for (uint64_t number = 0; number < NAMES; number++) {
        struct index_hash known = name_of(number), other = name_of(number + NAMES);
        same_low += filter_may_have(filter, (struct index_hash){known.low, other.high});
        same_high += filter_may_have(filter, (struct index_hash){other.low, known.high});
    }
    ck_assert_uint_lt(same_low, NAMES / 50);
    ck_assert_uint_lt(same_high, NAMES / 50);
    filter_destroy(filter);
}
END_TEST

START_TEST(limits)
{
    ck_assert_ptr_null(filter_create(UINT64_MAX));
    ck_assert_ptr_null(filter_create((UINT64_C(1) << 32) + 1));
    struct filter *filter = filter_create(0);
    ck_assert(!filter_may_have(filter, name_of(1)));
    filter_add(filter, name_of(1));
    ck_assert(filter_may_have(filter, name_of(1)));
    filter_destroy(filter);
    filter_destroy(NULL);
}
END_TEST

struct adder {
    struct filter *filter;
    uint64_t first;
    uint64_t count;
    _Atomic uint64_t added; /* tells the asker, as an event would */
    pthread_t thread;
};

static void *adder_main(void *argument)
{
    struct adder *adder = argument;
    for (uint64_t i = 0; i < adder->count; i++) {
        filter_add(adder->filter, name_of(adder->first + i));
        atomic_store_explicit(&adder->added, i + 1, memory_order_release);
    }
    return NULL;
}

START_TEST(adding_beside_asking)
{
    enum { ADDERS = 3 };
    uint64_t count = trial_count(100000);
    /* Few lines, so that adders meet in them all the time. */
    struct filter *filter = filter_create(512);
    struct adder adders[ADDERS];
    for (unsigned i = 0; i < ADDERS; i++) {
        adders[i] = (struct adder){.filter = filter, .first = i * count, .count = count};
        ck_assert_int_eq(pthread_create(&adders[i].thread, NULL, adder_main, &adders[i]), 0);
    }
    for (bool ended = false; !ended;) {
        ended = true;
        for (unsigned i = 0; i < ADDERS; i++) {
            uint64_t added = atomic_load_explicit(&adders[i].added, memory_order_acquire);
            ended &= added == count;
            ck_assert(added == 0 || filter_may_have(filter, name_of(i * count + added - 1)));
        }
    }
    for (unsigned i = 0; i < ADDERS; i++) {
        pthread_join(adders[i].thread, NULL);
    }
    ck_assert_uint_eq(filter_count(filter), ADDERS * count);
    filter_destroy(filter);

    /* And once more with room, so that each bit that is lost is noticed. */
    filter = filter_create(ADDERS * count);
    for (unsigned i = 0; i < ADDERS; i++) {
        adders[i] = (struct adder){.filter = filter, .first = i * count, .count = count};
        ck_assert_int_eq(pthread_create(&adders[i].thread, NULL, adder_main, &adders[i]), 0);
    }
    for (unsigned i = 0; i < ADDERS; i++) {
        pthread_join(adders[i].thread, NULL);
    }
    for (uint64_t number = 0; number < ADDERS * count; number++) {
        ck_assert(filter_may_have(filter, name_of(number)));
    }
    filter_destroy(filter);
}
END_TEST

int main(void)
{
    return SUITE_RUN("store/filter", NULL, NULL, 60, finds_all_and_little_else, both_halves_count,
                     limits, adding_beside_asking);
}
