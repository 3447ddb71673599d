/*
 * Memory that runs out in the store's own operating-system threads, one allocation at a time: what
 * was being done fails and says so, and when there is memory again the store goes on by itself.
 */
#include "tests/store/test_store.h"

#include <errno.h>

/* A sanitizer has an allocator of its own, which is not to be replaced. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define HAS_FAILURES 0
#elif defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_FAILURES 0
#else
#define HAS_FAILURES 1
#endif
#else
#define HAS_FAILURES 1
#endif

static _Thread_local bool is_test; /* whose allocations never fail */
static _Atomic int left = -1;      /* allocations until one fails; -1: none does */

#if HAS_FAILURES
static bool fails(void)
{
    if (is_test || atomic_load(&left) < 0) {
        return false;
    }
    if (atomic_fetch_sub(&left, 1) != 0) {
        return false;
    }
    errno = ENOMEM;
    return true;
}

/* In place of the C library's, which it exports under these names as well. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *at, size_t size);

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *at, size_t size)
{
    return fails() ? NULL : __libc_realloc(at, size);
}
#endif

static void begin(void)
{
    is_test = true;
    setup();
    AWAIT(metric(METRIC_DISK_FILTER_BYTES) > 0);
    sleep_ms(50);
}

static void end(void)
{
    atomic_store(&left, -1);
    teardown();
}

/* The put is whole, so it may be made again after a failure, whatever became of the first. */
static void put_until_kept(const char *id, struct bytes payload)
{
    for (unsigned tries = 0;; tries++) {
        ck_assert_uint_lt(tries, 5);
        AWAIT(!tier->calls->is_read_only(tier));
        struct put *put = make_put(id, 3, payload);
        submit(put);
        AWAIT(put->applied_at);
        bool kept = put->change.status == STATUS_OK;
        free_put(put);
        if (kept) {
            return;
        }
    }
}

static void load_until_found(const char *id)
{
    for (unsigned tries = 0;; tries++) {
        ck_assert_uint_lt(tries, 5);
        enum tier_found was = found(id);
        if (was == TIER_FOUND) {
            return;
        }
        ck_assert_int_eq(was, TIER_FAILED);
    }
}

START_TEST(any_allocation_may_fail)
{
    static uint8_t bytes[20000];
    trial_fill(bytes, sizeof bytes, 7);
    char id[16];
    for (int nth = 0; HAS_FAILURES && nth < 40; nth++) {
        snprintf(id, sizeof id, "t-%d", nth);
        atomic_store(&left, nth);
        put_until_kept(id, bytes_of(bytes, sizeof bytes));
        load_until_found(id);
        atomic_store(&left, -1);
        ck_assert_msg(!tier->calls->is_read_only(tier), "allocation %d", nth);
    }
    ck_assert_uint_eq(metric(METRIC_DISK_LAG_BYTES), 0);
}
END_TEST

/* What is due is found again. */
START_TEST(any_allocation_may_fail_while_due)
{
    for (int nth = 0; HAS_FAILURES && nth < 12; nth++) {
        char id[16];
        snprintf(id, sizeof id, "t-%d", nth);
        done(make_put(id, 1, bytes_text("payload")), STATUS_OK);
        unsigned before = due_count;
        atomic_store(&left, nth);
        clock_driven_advance(&wall, RETENTION_MS + tier_slack_ms(RETENTION_MS) + 2000);
        store_settle(store);
        atomic_store(&left, -1);
        clock_driven_advance(&wall, 20000); /* who was asked for lately is not asked again */
        store_settle(store);
        AWAIT(due_count > before);
        ck_assert_msg(!tier->calls->is_read_only(tier), "allocation %d", nth);
        struct put *put = make_put(id, 0, bytes_text("x"));
        put->change.kind = TIER_ERASE;
        put->change.head.uid = dues[due_count - 1]->uid;
        done(put, STATUS_OK);
    }
}
END_TEST

int main(void)
{
    return SUITE_RUN("review_store_memory", begin, end, 120, any_allocation_may_fail,
                     any_allocation_may_fail_while_due);
}
