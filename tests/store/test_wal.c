/* The log at work: batches, segments, failing calls, revival, the filler beside the writer. */
#include "store/wal.h"
#include "base/clock.h"
#include "tests/lib/suite.h"
#include "tests/store/wal_files.h"

#include <pthread.h>

enum { MIB = 1 << 20 };

static void must_hold(uint64_t applied, uint64_t first, unsigned count)
{
    wal_close(reopen(applied, false));
    must_have_played(first, count);
}

START_TEST(one_write_and_one_flush_per_batch)
{
    struct wal *wal = reopen(0, false);
    ck_assert_uint_eq(wal_next_sequence(wal), 1);
    must_sync(wal); /* empty: nothing happens */
    ck_assert_uint_eq(wal_numbers(wal).bytes, 0);
    must_trim(wal, 0, 60000);
    ck_assert_uint_eq(wal_numbers(wal).bytes, 2 * WAL_SEGMENT_BYTES);
    uint64_t number = 0;
    for (unsigned batch = 0; batch < 5; batch++) {
        for (unsigned i = 0; i < 3; i++) {
            number++;
            ck_assert_uint_eq(add(wal, number), number);
        }
        unsigned writes = faults[CALL_WRITE].calls, flushes = faults[CALL_FLUSH].calls;
        must_sync(wal);
        must_sync(wal);
        ck_assert_uint_eq(faults[CALL_WRITE].calls, writes + 1);
        ck_assert_uint_eq(faults[CALL_FLUSH].calls, flushes + 1);
    }
    struct wal_numbers numbers = wal_numbers(wal);
    ck_assert_uint_eq(numbers.batches, 5);
    ck_assert_uint_eq(numbers.groups, 15);
    ck_assert_uint_eq(numbers.bytes, 2 * WAL_SEGMENT_BYTES);
    add(wal, 99); /* never written */
    wal_close(wal);
    must_hold(0, 1, 15);
}
END_TEST

/* Groups of 3 MiB, five to a segment; a batch that does not fit goes to the next segment whole. */
START_TEST(segments_fill_and_are_used_anew)
{
    struct wal *wal = reopen(0, false);
    char names[64][64];
    uint64_t applied = 0;
    for (uint64_t number = 1; number <= 30; number++) {
        ck_assert_uint_eq(add_sized(wal, number, 3 * MIB), number);
        must_sync(wal);
        if (number % 7 == 0) {
            applied = number - 1;
            must_trim(wal, applied, 60000);
            ck_assert_uint_le(wal_numbers(wal).bytes, 5 * (uint64_t)WAL_SEGMENT_BYTES);
        }
    }
    ck_assert_uint_eq(list_names(names, 64), wal_numbers(wal).bytes / WAL_SEGMENT_BYTES);
    wal_close(wal);
    must_hold(applied, applied + 1, (unsigned)(30 - applied));

    /* When all is in the tree, no byte of it is left. */
    wal = reopen(30, false);
    must_trim(wal, 30, 0);
    unsigned count = list_names(names, 64);
    ck_assert_uint_eq(count, WAL_SPARE_SEGMENTS);
    for (unsigned i = 0; i < count; i++) {
        struct image image = read_file(names[i]);
        ck_assert_uint_eq(image.size, WAL_SEGMENT_BYTES);
        ck_assert_uint_eq(used_of(image), 0);
        free(image.data);
    }
    ck_assert_uint_eq(add(wal, 31), 31);
    must_sync(wal);
    ck_assert_uint_eq(list_names(names, 64), count);
    wal_close(wal);
    must_hold(30, 31, 1);
}
END_TEST

START_TEST(old_segments_are_left_behind)
{
    struct wal *wal = reopen(0, false);
    add(wal, 1);
    must_sync(wal);
    must_trim(wal, 0, 60000);
    must_trim(wal, 1, 60000); /* in the tree, and too young */
    char names[64][64];
    ck_assert_uint_eq(list_names(names, 64), 3);
    struct image image = read_file("log-0000000000000001");
    ck_assert_uint_gt(used_of(image), 0);
    free(image.data);
    must_trim(wal, 1, 0); /* and nobody has to write first */
    ck_assert_uint_eq(list_names(names, 64), 2);
    ck_assert_uint_eq(count_names("1"), 0);
    for (unsigned i = 0; i < 2; i++) {
        image = read_file(names[i]);
        ck_assert_uint_eq(used_of(image), 0);
        free(image.data);
    }
    add(wal, 2);
    must_sync(wal);
    must_trim(wal, 1, 0); /* not in the tree: left at the next sync */
    add(wal, 3);
    must_sync(wal);
    ck_assert_uint_eq(wal_numbers(wal).bytes, 3 * (uint64_t)WAL_SEGMENT_BYTES);
    must_trim(wal, 2, 60000);
    wal_close(wal);
    must_hold(2, 3, 1);
}
END_TEST

/* So the writer makes none itself while somebody waits. */
START_TEST(as_many_are_kept_as_came_back_at_once)
{
    enum { SEGMENTS = 5 };
    struct wal *wal = reopen(0, false);
    for (uint64_t number = 1; number <= SEGMENTS; number++) {
        ck_assert_uint_eq(add_sized(wal, number, 15 * MIB), number);
        must_sync(wal);
    }
    must_trim(wal, SEGMENTS, 60000);
    ck_assert_uint_eq(wal_numbers(wal).bytes, SEGMENTS * (uint64_t)WAL_SEGMENT_BYTES);
    for (uint64_t number = SEGMENTS + 1; number < 2 * SEGMENTS; number++) {
        ck_assert_uint_eq(add_sized(wal, number, 15 * MIB), number);
        must_sync(wal);
    }
    ck_assert_uint_eq(wal_numbers(wal).bytes, SEGMENTS * (uint64_t)WAL_SEGMENT_BYTES);
    wal_close(wal);
    must_hold(SEGMENTS, SEGMENTS + 1, SEGMENTS - 1);
    wal = reopen(2 * SEGMENTS, false);
    must_trim(wal, 2 * SEGMENTS, 0);
    must_trim(wal, 2 * SEGMENTS, 0);
    ck_assert_uint_le(wal_numbers(wal).bytes, SEGMENTS * (uint64_t)WAL_SEGMENT_BYTES);
    wal_close(wal);
}
END_TEST

START_TEST(oversize_groups)
{
    struct wal *wal = reopen(0, false);
    add(wal, 1);
    must_sync(wal);
    ck_assert_uint_eq(add_sized(wal, 2, 20 * MIB + 3), 2);
    ck_assert_uint_eq(add(wal, 3), 3);
    must_sync(wal);
    add(wal, 4);
    must_sync(wal);
    ck_assert_uint_gt(wal_numbers(wal).bytes, 50 * (uint64_t)MIB);
    wal_close(wal);
    must_hold(0, 1, 4);
    wal = reopen(0, false);
    must_trim(wal, 4, 0);
    ck_assert_uint_eq(wal_numbers(wal).bytes, WAL_SPARE_SEGMENTS * (uint64_t)WAL_SEGMENT_BYTES);
    ck_assert_uint_eq(add_sized(wal, 5, WAL_GROUP_BYTES_MAX / 1024), 5);
    static const uint8_t byte;
    ck_assert_uint_eq(wal_add(wal, bytes_of(&byte, (size_t)WAL_GROUP_BYTES_MAX + 1)), 0);
    must_sync(wal);
    wal_close(wal);
    must_hold(4, 5, 1);
}
END_TEST

START_TEST(short_and_interrupted_writes_go_on)
{
    struct wal *wal = reopen(0, false);
    add(wal, 1);
    must_sync(wal);
    write_most = 7;
    for (uint64_t number = 2; number <= 6; number++) {
        fault_set(CALL_WRITE, (int)number, EINTR, false);
        fault_set(CALL_FLUSH, 0, EINTR, false);
        add(wal, number);
        must_sync(wal);
    }
    write_most = 0;
    wal_close(wal);
    must_hold(0, 1, 6);
}
END_TEST

/* What was acknowledged is there, in order; of what failed, anything may be. */
static void must_hold_at_least(const bool *acknowledged, unsigned count)
{
    wal_close(reopen(0, false));
    unsigned at = 0;
    for (unsigned number = 1; number <= count; number++) {
        bool there = at < played.count && played.numbers[at] == number;
        ck_assert_uint_eq(there ? played.sequences[at] : number, number);
        ck_assert_msg(there || !acknowledged[number], "%u is missing", number);
        at += there;
    }
    ck_assert_uint_eq(at, played.count);
}

/* A scripted run in which one call fails; revived, it goes on with sequences of its own. */
static bool run_with_fault(unsigned call, int left, int error)
{
    enum { COUNT = 24 };
    bool acknowledged[COUNT + 4] = {false};
    struct wal *wal = reopen(0, false);
    fault_set(call, left, error, false);
    bool hit = false;
    for (uint64_t number = 1; number <= COUNT; number += 2) {
        ck_assert_uint_eq(add(wal, number), number);
        ck_assert_uint_eq(add(wal, number + 1), number + 1);
        trouble = (struct wal_trouble){0};
        bool good = wal_sync(wal, &trouble) == STATUS_OK;
        acknowledged[number] = acknowledged[number + 1] = good;
        if (!good) {
            hit = true;
            ck_assert_int_eq(trouble.error, error);
            ck_assert_uint_gt(strlen(trouble.text), 10);
            /* Dead: takes nothing until revived. */
            ck_assert_uint_eq(add(wal, number + 2), number + 2);
            ck_assert_int_eq(wal_sync(wal, &trouble), STATUS_INTERNAL);
            ck_assert_int_eq(wal_revive(wal, &trouble), STATUS_OK);
            number++;
        }
        if (number % 8 > 5) {
            hit |= wal_trim(wal, 0, 0, &trouble) != STATUS_OK;
        }
    }
    fault_set(call, -1, 0, false);
    wal_close(wal);
    must_hold_at_least(acknowledged, COUNT + 3);
    remove_files();
    return hit;
}

START_TEST(every_flush_fails_once)
{
    static const int errors[] = {EIO, ENOSPC};
    static const unsigned calls[] = {CALL_FLUSH, CALL_FLUSH_DIRECTORY};
    for (unsigned i = 0; i < 2; i++) {
        int left = 0;
        while (run_with_fault(calls[i], left, errors[i])) {
            left++;
        }
        ck_assert_int_gt(left, i == 0 ? 12 : 2);
    }
}
END_TEST

START_TEST(some_writes_fail_once)
{
    static const int lefts[] = {0, 1, 40, 63, 64, 65, 66, 80, 200};
    for (unsigned i = 0; i < sizeof lefts / sizeof *lefts; i++) {
        run_with_fault(CALL_WRITE, lefts[i], i % 2 ? EIO : ENOSPC);
    }
}
END_TEST

START_TEST(a_full_disk_is_survived)
{
    struct wal *wal = reopen(0, false);
    add(wal, 1);
    must_sync(wal);
    fault_set(CALL_WRITE, 0, ENOSPC, true);
    add(wal, 2);
    add(wal, 3);
    ck_assert_int_eq(wal_sync(wal, &trouble), STATUS_INTERNAL);
    ck_assert_int_eq(trouble.error, ENOSPC);
    ck_assert_str_eq(trouble.call, "write");
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(wal_revive(wal, &trouble), STATUS_INTERNAL);
        ck_assert_int_eq(trouble.error, ENOSPC);
        ck_assert_int_eq(wal_trim(wal, 0, 60000, &trouble), i == 0 ? STATUS_INTERNAL : STATUS_OK);
    }
    ck_assert_uint_eq(count_names(""), 1); /* no attempt leaves anything */
    fault_set(CALL_WRITE, -1, 0, false);
    ck_assert_int_eq(wal_revive(wal, &trouble), STATUS_OK);
    ck_assert_uint_eq(wal_next_sequence(wal), 4);
    wal_close(wal);
    wal = reopen(0, false); /* a crash before anything is written: no sequence twice */
    must_have_played(1, 1);
    ck_assert_uint_eq(add(wal, 4), 4);
    must_sync(wal);
    wal_close(wal);
    wal_close(reopen(0, false));
    ck_assert_uint_eq(played.count, 2);
    ck_assert_uint_eq(played.sequences[1], 4);
    ck_assert_uint_eq(played.numbers[1], 4);
}
END_TEST

struct race {
    struct wal *wal;
    _Atomic uint64_t written;
    _Atomic uint64_t trimmed;
    _Atomic bool ended;
};

static void *trim_main(void *argument)
{
    struct race *race = argument;
    struct wal_trouble own;
    while (!atomic_load(&race->ended)) {
        uint64_t written = atomic_load(&race->written);
        uint64_t sequence = written > 3 ? written - 3 : 0;
        if (wal_trim(race->wal, sequence, sequence % 3 == 0 ? 0 : 50, &own) != STATUS_OK) {
            return race;
        }
        atomic_store(&race->trimmed, sequence);
        (void)wal_numbers(race->wal);
    }
    return NULL;
}

START_TEST(trim_beside_sync)
{
    struct race race = {.wal = reopen(0, false)};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, trim_main, &race), 0);
    struct clock *clock = clock_monotonic();
    uint64_t end_ms = clock_read_ms(clock) + trial_count(3000);
    uint64_t number = 0;
    /* Until time is up, and never so that more than the test can hold is untrimmed. */
    while (clock_read_ms(clock) < end_ms || number < 7) {
        number++;
        ck_assert_uint_eq(add_sized(race.wal, number, 8 + number % 5 * 300000), number);
        if (number % 3 == 0) {
            must_sync(race.wal);
            atomic_store(&race.written, number);
        }
        while (number > atomic_load(&race.trimmed) + 1000 && !atomic_load(&race.ended)) {
            usleep(1000);
        }
    }
    must_sync(race.wal);
    /* However slow the machine: some of it is to be trimmed. */
    ck_assert_uint_ge(number, 7);
    atomic_store(&race.written, number);
    while (atomic_load(&race.trimmed) <= 3) {
        usleep(1000);
    }
    atomic_store(&race.ended, true);
    void *failed;
    pthread_join(thread, &failed);
    ck_assert_ptr_null(failed);
    wal_close(race.wal);
    uint64_t trimmed = atomic_load(&race.trimmed);
    ck_assert_uint_gt(trimmed, 3);
    must_hold(trimmed, trimmed + 1, (unsigned)(number - trimmed));
}
END_TEST

int main(void)
{
    return SUITE_RUN("store/wal", files_setup, files_teardown, 120,
                     one_write_and_one_flush_per_batch, segments_fill_and_are_used_anew,
                     old_segments_are_left_behind, as_many_are_kept_as_came_back_at_once,
                     oversize_groups, short_and_interrupted_writes_go_on, every_flush_fails_once,
                     some_writes_fail_once, a_full_disk_is_survived, trim_beside_sync);
}
