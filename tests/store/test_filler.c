/*
 * When the filler works, and what it and the writer do with a tree without room and a log that
 * cannot be written. The linker puts __wrap_tree_apply and __wrap_wal_write in the place of the
 * real ones; nanosleep is this program's own.
 */
#include "store/wal_private.h"

#include "tests/store/test_store.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

/* How many of the next calls fail, and with what. */
static _Atomic unsigned apply_failures;
static _Atomic unsigned write_failures;
static _Atomic int failure;
static _Atomic bool held;       /* groups wait before the tree */
static _Atomic bool tree_gated; /* once no failure is left: groups wait, until a test has looked */
static _Atomic bool log_gated;  /* the same of what is to be written */
static _Atomic unsigned pauses; /* of the filler */

int nanosleep(const struct timespec *time, struct timespec *left)
{
    char name[16] = "";
    (void)pthread_getname_np(pthread_self(), name, sizeof name);
    if (strcmp(name, "filler") == 0) {
        atomic_fetch_add(&pauses, 1);
    }
    int error = clock_nanosleep(CLOCK_MONOTONIC, 0, time, left);
    errno = error;
    return error ? -1 : 0;
}

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

static void wait_while(_Atomic bool *closed)
{
    while (atomic_load(closed)) {
        sleep_ms(1);
    }
}

enum status __wrap_tree_apply(struct tree *tree, const struct tree_group *groups, size_t count,
                              size_t *taken, tree_name_fn *name, void *context,
                              struct wal_trouble *trouble)
{
    wait_while(&held);
    if (fails(&apply_failures)) {
        *trouble = (struct wal_trouble){.error = atomic_load(&failure), .call = "commit"};
        *taken = 0;
        return STATUS_INTERNAL;
    }
    wait_while(&tree_gated);
    return __real_tree_apply(tree, groups, count, taken, name, context, trouble);
}

bool __wrap_wal_write(int fd, const uint8_t *data, size_t size, uint64_t offset,
                      struct wal_trouble *trouble)
{
    if (fails(&write_failures)) {
        errno = atomic_load(&failure);
        return wal_failed(trouble, "write");
    }
    wait_while(&log_gated);
    return __real_wal_write(fd, data, size, offset, trouble);
}

/* ---- When it works ---- */

enum { PUTS = 3000, TRIES = 20 };

static struct put *puts_made[PUTS];

static void submit_many(unsigned count, size_t payload_bytes)
{
    static const uint8_t payload[4096];
    ck_assert_uint_le(payload_bytes, sizeof payload);
    for (unsigned i = 0; i < count; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%u", i);
        puts_made[i] = make_put(id, 1, bytes_of(payload, payload_bytes));
        submit(puts_made[i]);
    }
}

static void await_many(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        AWAIT(puts_made[i]->applied_at);
        ck_assert_int_eq(puts_made[i]->change.status, STATUS_OK);
        free_put(puts_made[i]);
    }
}

/* It is in the log, so only who waits for the tree itself can be in a hurry. */
START_TEST(much_is_collected_until_somebody_waits)
{
    unsigned tries = 0;
    bool hurried;
    do { /* a disk or a machine that stood still says nothing of the filler */
        ck_assert_uint_lt(tries++, TRIES);
        uint64_t begun = store_now_ms();
        submit_many(64, 4096);
        AWAIT(puts_made[63]->durable_at);
        sleep_ms(5 * STORE_FILL_MS);
        collect();
        ck_assert(puts_made[0]->applied_at == 0 || store_now_ms() > begun + STORE_FILL_MOST_MS);
        struct put *erase = make_erase(puts_made[63], REASON_FORGOTTEN);
        begun = store_now_ms();
        submit(erase);
        AWAIT(erase->applied_at);
        hurried = store_now_ms() < begun + 10 * STORE_FILL_MS;
        free_put(erase);
        await_many(64);
    } while (!hurried);
}
END_TEST

START_TEST(the_filler_pauses_unless_somebody_waits)
{
    atomic_store(&pauses, 0);
    submit_many(PUTS, 100);
    await_many(PUTS);
    ck_assert_uint_gt(atomic_load(&pauses), 4);
    /* Whoever is kept from running in between comes when it is at work already. */
    unsigned tries = 0, paused;
    do {
        ck_assert_uint_lt(tries++, TRIES);
        atomic_store(&pauses, 0);
        submit_many(PUTS, 100);
        store_settle(store);
        paused = atomic_load(&pauses);
        await_many(PUTS);
    } while (paused > 0);
}
END_TEST

/* ---- No room ---- */

/* What is in the log stays acknowledged, and comes into the tree when there is room. */
START_TEST(full_tree_keeps_what_is_in_the_log)
{
    struct put *put = make_put("a", 1, bytes_text("payload"));
    atomic_store(&failure, ENOSPC);
    atomic_store(&apply_failures, 1);
    atomic_store(&tree_gated, true);
    submit(put);
    AWAIT(tier->calls->is_read_only(tier));
    ck_assert_int_eq(put->durable_status, STATUS_OK);
    ck_assert_uint_eq(put->applied_at, 0);
    ck_assert_int_eq(found("a"), TIER_ABSENT);
    atomic_store(&tree_gated, false);
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
    atomic_store(&log_gated, true);
    submit(put);
    AWAIT(put->applied_at);
    ck_assert_int_eq(put->durable_status, STATUS_READ_ONLY);
    ck_assert_uint_lt(put->durable_at, put->applied_at);
    ck_assert_int_eq(put->change.status, STATUS_READ_ONLY);
    ck_assert_uint_gt(tier->calls->generation(tier), generation);
    ck_assert(tier->calls->is_read_only(tier));
    ck_assert_int_eq(found("a"), TIER_ABSENT);
    free_put(put);
    atomic_store(&log_gated, false);
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

/* ---- The log's tail, brought in while the store serves ----------------------------------------
 */

/* The tree has `old` and `still`; only the log knows of `fresh`, and that `old` is gone. */
static void leave_tail(void)
{
    struct put *old = make_put("old", 1, bytes_text("payload"));
    struct put *erase = make_erase(old, REASON_FORGOTTEN);
    struct put *fresh = make_put("fresh", 2, bytes_text("payload"));
    done(make_put("still", 1, bytes_text("payload")), STATUS_OK);
    submit(old);
    AWAIT(old->applied_at);
    atomic_store(&failure, ENOSPC);
    atomic_store(&apply_failures, 1000);
    submit(erase);
    submit(fresh);
    AWAIT(erase->applied_at && fresh->applied_at);
    ck_assert_int_eq(fresh->durable_status, STATUS_OK);
    free_put(old);
    free_put(erase);
    free_put(fresh);
    close_store();
    atomic_store(&apply_failures, 0);
    settings.tail_at_once_bytes = 1;
}

enum { ASKED_MAX = 6 };
static struct tier_load asked[ASKED_MAX];
static unsigned asked_count;

/* Without waiting for it. */
static struct tier_load *ask_for(const char *id, enum tier_load_kind kind, enum record_kind record)
{
    ck_assert_uint_lt(asked_count, ASKED_MAX);
    struct tier_load *load = &asked[asked_count++];
    *load = load_of(id, kind, record);
    load->limit = 10;
    ck_assert_int_eq(tier->calls->load(tier, load), STATUS_OK);
    return load;
}

static void forget_asked(void)
{
    for (unsigned i = 0; i < asked_count; i++) {
        free(asked[i].image);
        free(asked[i].page);
    }
    asked_count = 0;
}

START_TEST(what_the_tail_bears_upon_waits_for_it)
{
    leave_tail();
    atomic_store(&held, true);
    open_store();
    ck_assert_uint_eq(metric(METRIC_DISK_RECOVERED), 2);
    ck_assert_uint_gt(metric(METRIC_DISK_LAG_BYTES), 0);
    /* What it does not touch is answered at once. */
    ck_assert_int_eq(found("still"), TIER_FOUND);
    ck_assert_int_eq(found("never"), TIER_ABSENT);
    struct tier_load key = load("call-still-0", TIER_LOAD_KEY, RECORD_TOOL_CALL);
    ck_assert_int_eq(key.found, TIER_FOUND);
    unsigned before = loaded_count;
    struct tier_load *old = ask_for("old", TIER_LOAD_THREAD, RECORD_THREAD);
    struct tier_load *old_key = ask_for("call-old-0", TIER_LOAD_KEY, RECORD_TOOL_CALL);
    struct tier_load *fresh = ask_for("fresh", TIER_LOAD_THREAD, RECORD_THREAD);
    struct tier_load *fresh_key = ask_for("call-fresh-1", TIER_LOAD_KEY, RECORD_TOOL_CALL);
    struct tier_load *no_key = ask_for("call-never-0", TIER_LOAD_KEY, RECORD_TOOL_CALL);
    struct tier_load *page = ask_for("", TIER_LOAD_PAGE, RECORD_THREAD);
    /* A key that is in neither is none that the tail's threads had. */
    AWAIT(loaded_count > before);
    ck_assert_int_eq(no_key->found, TIER_ABSENT);
    sleep_ms(300);
    collect();
    ck_assert_uint_eq(loaded_count, before + 1);
    ck_assert(tier->calls->may_have(tier, name_of("fresh")));
    atomic_store(&held, false);
    AWAIT(loaded_count == before + 6);
    ck_assert_int_eq(old->found, TIER_TOMBSTONE);
    ck_assert_int_eq(old_key->found, TIER_TOMBSTONE);
    ck_assert_int_eq(fresh->found, TIER_FOUND);
    ck_assert_uint_eq(fresh->image->step_count, 2);
    ck_assert_int_eq(fresh_key->found, TIER_FOUND);
    ck_assert_int_eq(page->found, TIER_FOUND);
    ck_assert_uint_eq(page->page->count, 2);
    forget_asked();
    AWAIT(metric(METRIC_DISK_LAG_BYTES) == 0);
    done(make_put("later", 1, bytes_text("payload")), STATUS_OK);
    ck_assert_int_eq(found("later"), TIER_FOUND);
}
END_TEST

/* Puts of now follow upon the tail, and are durable while it waits. */
START_TEST(changes_follow_upon_the_tail)
{
    leave_tail();
    atomic_store(&held, true);
    open_store();
    struct put *put = make_put("later", 1, bytes_text("payload"));
    submit(put);
    AWAIT(put->durable_at);
    ck_assert_int_eq(put->durable_status, STATUS_OK);
    ck_assert_uint_eq(put->applied_at, 0);
    atomic_store(&held, false);
    AWAIT(put->applied_at);
    ck_assert_int_eq(put->change.status, STATUS_OK);
    free_put(put);
    ck_assert_int_eq(found("fresh"), TIER_FOUND);
    ck_assert_int_eq(found("later"), TIER_FOUND);
    close_store();
    open_store();
    ck_assert_uint_eq(metric(METRIC_DISK_RECOVERED), 0);
    ck_assert_int_eq(found("fresh"), TIER_FOUND);
    ck_assert_int_eq(found("later"), TIER_FOUND);
}
END_TEST

START_TEST(a_tail_that_finds_no_room_waits_for_it)
{
    leave_tail();
    atomic_store(&apply_failures, 1000);
    open_store();
    AWAIT(tier->calls->is_read_only(tier));
    ck_assert_int_eq(found("still"), TIER_FOUND);
    ck_assert_int_eq(found("fresh"), TIER_FAILED); /* after a while */
    atomic_store(&apply_failures, 0);
    AWAIT(!tier->calls->is_read_only(tier));
    ck_assert_int_eq(found("fresh"), TIER_FOUND);
    ck_assert_int_eq(found("old"), TIER_TOMBSTONE);
}
END_TEST

START_TEST(a_tail_that_the_tree_refuses_stays_in_the_log)
{
    leave_tail();
    atomic_store(&failure, EIO);
    atomic_store(&apply_failures, 1);
    open_store();
    AWAIT(tier->calls->is_read_only(tier));
    ck_assert_int_eq(found("still"), TIER_FOUND);
    ck_assert_int_eq(found("fresh"), TIER_FAILED);
    ck_assert_int_eq(found("old"), TIER_FAILED);
    struct tier_load key = load("call-old-0", TIER_LOAD_KEY, RECORD_TOOL_CALL);
    ck_assert_int_eq(key.found, TIER_FAILED);
    close_store();
    open_store();
    ck_assert_int_eq(found("fresh"), TIER_FOUND);
    ck_assert_int_eq(found("old"), TIER_TOMBSTONE);
}
END_TEST

/* The tree is walked for a filter before the tail fails: that filter lacks the tail's names, and
 * who believed it would say of what was acknowledged that it never was. */
START_TEST(no_filter_without_the_tails_names)
{
    leave_tail();
    atomic_store(&failure, EIO);
    atomic_store(&apply_failures, 1);
    atomic_store(&held, true);
    open_store();
    sleep_ms(200); /* the walk is over */
    atomic_store(&held, false);
    AWAIT(tier->calls->is_read_only(tier));
    store_settle(store);
    sleep_ms(2 * STORE_TICK_MS);
    ck_assert(tier->calls->may_have(tier, name_of("fresh")));
    ck_assert_int_eq(found("fresh"), TIER_FAILED);
}
END_TEST

int main(void)
{
    return SUITE_RUN(
        "filler", setup, teardown, 60, full_tree_keeps_what_is_in_the_log,
        who_waits_long_for_a_full_tree_is_told, closing_with_a_full_tree_leaves_it_to_the_log,
        failed_tree_stays_failed, full_log_fails_the_batch, failed_log_stays_failed,
        what_the_tail_bears_upon_waits_for_it, changes_follow_upon_the_tail,
        much_is_collected_until_somebody_waits, the_filler_pauses_unless_somebody_waits,
        a_tail_that_finds_no_room_waits_for_it, a_tail_that_the_tree_refuses_stays_in_the_log,
        no_filter_without_the_tails_names);
}
