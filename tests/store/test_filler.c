/*
 * A tree without room and a log that cannot be written: what the filler and the writer do then. The
 * linker puts __wrap_tree_apply and __wrap_wal_write in the place of the real ones.
 */
#include "store/wal_private.h"

#include "tests/store/test_store.h"

#include <errno.h>

/* How many of the next calls fail, and with what. */
static _Atomic unsigned apply_failures;
static _Atomic unsigned write_failures;
static _Atomic int failure;

enum status __real_tree_apply(struct tree *tree, const struct tree_group *groups, size_t count,
                              size_t *taken, tree_name_fn *name, void *context,
                              struct wal_trouble *trouble);
enum status __wrap_tree_apply(struct tree *tree, const struct tree_group *groups, size_t count,
                              size_t *taken, tree_name_fn *name, void *context,
                              struct wal_trouble *trouble);
bool __real_wal_write(int fd, const uint8_t *data, size_t size, uint64_t offset,
                      struct wal_trouble *trouble);
bool __wrap_wal_write(int fd, const uint8_t *data, size_t size, uint64_t offset,
                      struct wal_trouble *trouble);

static bool fails(_Atomic unsigned *failures)
{
    if (atomic_load(failures) == 0) {
        return false;
    }
    atomic_fetch_sub(failures, 1);
    return true;
}

enum status __wrap_tree_apply(struct tree *tree, const struct tree_group *groups, size_t count,
                              size_t *taken, tree_name_fn *name, void *context,
                              struct wal_trouble *trouble)
{
    if (fails(&apply_failures)) {
        *trouble = (struct wal_trouble){.error = atomic_load(&failure), .call = "commit"};
        *taken = 0;
        return STATUS_INTERNAL;
    }
    return __real_tree_apply(tree, groups, count, taken, name, context, trouble);
}

bool __wrap_wal_write(int fd, const uint8_t *data, size_t size, uint64_t offset,
                      struct wal_trouble *trouble)
{
    if (fails(&write_failures)) {
        errno = atomic_load(&failure);
        return wal_failed(trouble, "write");
    }
    return __real_wal_write(fd, data, size, offset, trouble);
}

/* What is in the log stays acknowledged, and comes into the tree when there is room. */
START_TEST(full_tree_keeps_what_is_in_the_log)
{
    struct put *put = make_put("a", 1, bytes_text("payload"));
    atomic_store(&failure, ENOSPC);
    atomic_store(&apply_failures, 2);
    submit(put);
    AWAIT(tier->calls->is_read_only(tier));
    ck_assert_int_eq(put->durable_status, STATUS_OK);
    ck_assert_uint_eq(put->applied_at, 0);
    ck_assert_int_eq(found("a"), TIER_ABSENT);
    AWAIT(put->applied_at);
    ck_assert_int_eq(put->change.status, STATUS_OK);
    AWAIT(!tier->calls->is_read_only(tier));
    ck_assert_int_eq(found("a"), TIER_FOUND);
    free_put(put);
    done(make_put("b", 1, bytes_text("payload")), STATUS_OK);
}
END_TEST

START_TEST(who_waits_long_for_a_full_tree_is_told)
{
    struct put *put = make_put("a", 1, bytes_text("payload"));
    atomic_store(&failure, EDQUOT);
    atomic_store(&apply_failures, 1000);
    submit(put);
    AWAIT(put->applied_at);
    ck_assert_int_eq(put->durable_status, STATUS_OK);
    ck_assert_int_eq(put->change.status, STATUS_READ_ONLY);
    ck_assert(tier->calls->is_read_only(tier));
    ck_assert_uint_gt(metric(METRIC_DISK_LAG_BYTES), 0);
    atomic_store(&apply_failures, 0);
    AWAIT(!tier->calls->is_read_only(tier));
    ck_assert_int_eq(found("a"), TIER_FOUND);
    ck_assert_uint_eq(metric(METRIC_DISK_LAG_BYTES), 0);
    free_put(put);
}
END_TEST

START_TEST(closing_with_a_full_tree_leaves_it_to_the_log)
{
    struct put *put = make_put("a", 1, bytes_text("payload"));
    atomic_store(&failure, ENOSPC);
    atomic_store(&apply_failures, 1000);
    submit(put);
    AWAIT(put->applied_at);
    free_put(put);
    close_store();
    atomic_store(&apply_failures, 0);
    open_store();
    ck_assert_uint_eq(metric(METRIC_DISK_RECOVERED), 1);
    ck_assert_int_eq(found("a"), TIER_FOUND);
}
END_TEST

START_TEST(failed_tree_stays_failed)
{
    struct put *put = make_put("a", 1, bytes_text("payload"));
    atomic_store(&failure, EIO);
    atomic_store(&apply_failures, 1);
    submit(put);
    AWAIT(put->applied_at);
    ck_assert_int_eq(put->durable_status, STATUS_OK);
    ck_assert_int_eq(put->change.status, STATUS_READ_ONLY);
    sleep_ms(1500);
    ck_assert(tier->calls->is_read_only(tier));
    free_put(put);
    close_store();
    open_store();
    ck_assert_int_eq(found("a"), TIER_FOUND);
}
END_TEST

/* Nothing of the batch counts as written; two probes fail before there is space again. */
START_TEST(full_log_fails_the_batch)
{
    struct put *put = make_put("a", 1, bytes_text("payload"));
    uint32_t generation = tier->calls->generation(tier);
    atomic_store(&failure, ENOSPC);
    atomic_store(&write_failures, 3);
    submit(put);
    AWAIT(put->applied_at);
    ck_assert_int_eq(put->durable_status, STATUS_READ_ONLY);
    ck_assert_uint_lt(put->durable_at, put->applied_at);
    ck_assert_int_eq(put->change.status, STATUS_READ_ONLY);
    ck_assert_uint_gt(tier->calls->generation(tier), generation);
    ck_assert(tier->calls->is_read_only(tier));
    ck_assert_int_eq(found("a"), TIER_ABSENT);
    free_put(put);
    AWAIT(!tier->calls->is_read_only(tier));
    ck_assert_uint_eq(atomic_load(&write_failures), 0);
    done(make_put("b", 1, bytes_text("payload")), STATUS_OK);
    ck_assert_int_eq(found("b"), TIER_FOUND);
    ck_assert_uint_eq(metric(METRIC_DISK_LAG_BYTES), 0);
}
END_TEST

START_TEST(failed_log_stays_failed)
{
    struct put *put = make_put("a", 1, bytes_text("payload"));
    atomic_store(&failure, EIO);
    atomic_store(&write_failures, 1);
    submit(put);
    AWAIT(put->applied_at);
    ck_assert_int_eq(put->change.status, STATUS_READ_ONLY);
    sleep_ms(2500);
    ck_assert(tier->calls->is_read_only(tier));
    free_put(put);
    close_store();
    open_store();
    ck_assert(!tier->calls->is_read_only(tier));
    done(make_put("b", 1, bytes_text("payload")), STATUS_OK);
}
END_TEST

int main(void)
{
    return SUITE_RUN("filler", setup, teardown, 60, full_tree_keeps_what_is_in_the_log,
                     who_waits_long_for_a_full_tree_is_told,
                     closing_with_a_full_tree_leaves_it_to_the_log, failed_tree_stays_failed,
                     full_log_fails_the_batch, failed_log_stays_failed);
}
