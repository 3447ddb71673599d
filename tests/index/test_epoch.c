/* Epochs: when retired objects are reclaimed, in what order, and never under a reader. */
#include "index/epoch.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { MIB = 1 << 20, KIND_PLAIN = 0, KIND_PINNED = 3, KIND_NESTED = 7 };

/* What was reclaimed, in order, by the tests of one operating-system thread. */
struct record {
    uint64_t before;
    uint32_t link;
    uint32_t number;
    _Atomic uint32_t pins;
};

static struct {
    unsigned count;
    uint32_t numbers[10000];
    unsigned asked;
} reclaimed;

static bool plain_reclaim(void *context, struct epoch_member *member, void *object)
{
    struct record *record = object;
    ck_assert_ptr_eq(context, &reclaimed);
    ck_assert(epoch_is_online(member));
    ck_assert_uint_lt(reclaimed.count, 10000);
    reclaimed.numbers[reclaimed.count++] = record->number;
    arena_free(epoch_member_cache(member), object);
    return true;
}

static bool pinned_reclaim(void *context, struct epoch_member *member, void *object)
{
    struct record *record = object;
    reclaimed.asked++;
    if (atomic_load(&record->pins) > 0) {
        return false;
    }
    return plain_reclaim(context, member, object);
}

/* Retires another object, as a thread record goes with its last step. */
static bool nested_reclaim(void *context, struct epoch_member *member, void *object)
{
    struct record *record = object;
    if (record->number > 0) {
        struct record *next =
            arena_alloc(epoch_member_cache(member), sizeof *next, ARENA_STRUCTURAL);
        memset(next, 0, sizeof *next);
        next->number = record->number - 1;
        epoch_retire(member, KIND_NESTED, next);
    }
    return plain_reclaim(context, member, object);
}

static struct arena *arena;

static struct epoch *fresh_epoch(void)
{
    arena = arena_create(16 * MIB, EPOCH_MEMBERS_MAX);
    struct epoch *epoch = epoch_create(arena);
    size_t link = offsetof(struct record, link);
    epoch_define(epoch, KIND_PLAIN, (struct epoch_kind){link, plain_reclaim, &reclaimed});
    epoch_define(epoch, KIND_PINNED, (struct epoch_kind){link, pinned_reclaim, &reclaimed});
    epoch_define(epoch, KIND_NESTED, (struct epoch_kind){link, nested_reclaim, &reclaimed});
    memset(&reclaimed, 0, sizeof reclaimed);
    return epoch;
}

static void finish(struct epoch *epoch)
{
    ck_assert_uint_eq(epoch_pending(epoch), 0);
    ck_assert_uint_eq(arena_committed_bytes(arena), 0);
    epoch_destroy(epoch);
    arena_destroy(arena);
}

static struct record *retire(struct epoch_member *member, unsigned kind, uint32_t number)
{
    struct record *record = arena_alloc(epoch_member_cache(member), sizeof *record, ARENA_ORDINARY);
    ck_assert_ptr_nonnull(record);
    memset(record, 0, sizeof *record);
    record->number = number;
    epoch_retire(member, kind, record);
    return record;
}

static size_t turn(struct epoch_member *member, size_t objects_max)
{
    epoch_online(member);
    return epoch_reclaim(member, objects_max);
}

START_TEST(retired_objects_wait_three_epochs)
{
    struct epoch *epoch = fresh_epoch();
    struct epoch_member *member = epoch_join(epoch);
    ck_assert(!epoch_is_online(member));
    epoch_online(member);
    ck_assert(epoch_is_online(member));
    retire(member, KIND_PLAIN, 1);
    ck_assert_uint_eq(epoch_pending(epoch), 1);
    /* Each announcement allows one advance, however often it is tried. */
    for (unsigned i = 0; i < 10; i++) {
        ck_assert_uint_eq(epoch_reclaim(member, SIZE_MAX), 1);
    }
    ck_assert_uint_eq(turn(member, SIZE_MAX), 1);
    ck_assert_uint_eq(turn(member, 0), 1);
    ck_assert_uint_eq(reclaimed.count, 0);
    ck_assert_uint_eq(turn(member, SIZE_MAX), 0);
    ck_assert_uint_eq(reclaimed.count, 1);
    ck_assert_uint_eq(epoch_pending(epoch), 0);
    epoch_offline(member);
    epoch_offline(member);
    epoch_leave(member);
    finish(epoch);
}
END_TEST

START_TEST(reclaims_in_order_and_in_portions)
{
    struct epoch *epoch = fresh_epoch();
    struct epoch_member *member = epoch_join(epoch);
    uint32_t number = 0;
    for (unsigned round = 0; round < 20; round++) {
        epoch_online(member);
        for (unsigned i = 0; i < 10; i++) {
            retire(member, KIND_PLAIN, number++);
        }
        epoch_reclaim(member, 3);
        epoch_offline(member);
        ck_assert_uint_le(reclaimed.count, 3 * (round + 1));
    }
    ck_assert_uint_eq(epoch_pending(epoch) + reclaimed.count, 200);
    for (unsigned before = reclaimed.count; reclaimed.count < 200; before = reclaimed.count) {
        size_t waiting = turn(member, 7);
        ck_assert_uint_eq(waiting, 200 - reclaimed.count);
        ck_assert_uint_le(reclaimed.count - before, 7);
    }
    for (uint32_t i = 0; i < 200; i++) {
        ck_assert_uint_eq(reclaimed.numbers[i], i);
    }
    epoch_leave(member);
    finish(epoch);
}
END_TEST

START_TEST(an_online_reader_holds_everything_back)
{
    struct epoch *epoch = fresh_epoch();
    struct epoch_member *writer = epoch_join(epoch), *reader = epoch_join(epoch);
    epoch_online(reader);
    epoch_online(writer);
    retire(writer, KIND_PLAIN, 1);
    for (unsigned i = 0; i < 20; i++) {
        ck_assert_uint_eq(turn(writer, SIZE_MAX), 1);
    }
    /* One advance was allowed; each new announcement allows another. */
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_uint_eq(reclaimed.count, 0);
        epoch_online(reader);
        turn(writer, SIZE_MAX);
    }
    ck_assert_uint_eq(reclaimed.count, 1);

    retire(writer, KIND_PLAIN, 2);
    for (unsigned i = 0; i < 20; i++) {
        ck_assert_uint_eq(turn(writer, SIZE_MAX), 1);
    }
    epoch_offline(reader);
    for (unsigned i = 0; i < 3; i++) {
        turn(writer, SIZE_MAX);
    }
    ck_assert_uint_eq(reclaimed.count, 2);

    /* And a reader that comes late holds back what is retired after it came. */
    turn(writer, SIZE_MAX);
    epoch_online(reader);
    retire(writer, KIND_PLAIN, 3);
    epoch_offline(writer);
    epoch_leave(writer);
    ck_assert_uint_eq(reclaimed.count, 2);
    ck_assert_uint_eq(epoch_pending(epoch), 1);
    epoch_leave(reader);
    ck_assert_uint_eq(reclaimed.count, 3);
    finish(epoch);
}
END_TEST

START_TEST(pinned_objects_are_asked_again)
{
    struct epoch *epoch = fresh_epoch();
    struct epoch_member *member = epoch_join(epoch);
    epoch_online(member);
    struct record *pinned = retire(member, KIND_PINNED, 1);
    atomic_store(&pinned->pins, 1);
    retire(member, KIND_PINNED, 2);
    for (unsigned i = 0; i < 30; i++) {
        turn(member, SIZE_MAX);
    }
    ck_assert_uint_eq(reclaimed.count, 1);
    ck_assert_uint_eq(reclaimed.numbers[0], 2);
    ck_assert(reclaimed.asked > 5 && reclaimed.asked < 15); /* once in three epochs */
    ck_assert_uint_eq(epoch_pending(epoch), 1);
    /* It outlives even the last member's leaving, and is found by the next one. */
    epoch_leave(member);
    ck_assert_uint_eq(epoch_pending(epoch), 1);
    atomic_store(&pinned->pins, 0);
    member = epoch_join(epoch);
    for (unsigned i = 0; i < 4; i++) {
        turn(member, SIZE_MAX);
    }
    ck_assert_uint_eq(reclaimed.count, 2);
    epoch_leave(member);
    finish(epoch);
}
END_TEST

START_TEST(reclaiming_may_retire)
{
    struct epoch *epoch = fresh_epoch();
    struct epoch_member *member = epoch_join(epoch);
    epoch_online(member);
    retire(member, KIND_NESTED, 3);
    unsigned turns = 0;
    while (turn(member, SIZE_MAX) > 0) {
        ck_assert_uint_lt(++turns, 20);
    }
    ck_assert_uint_eq(reclaimed.count, 4);
    ck_assert_uint_ge(turns, 4 * 3 - 1);
    retire(member, KIND_NESTED, 3);
    epoch_leave(member);
    ck_assert_uint_eq(reclaimed.count, 8);
    finish(epoch);
}
END_TEST

START_TEST(leaving_hands_over)
{
    struct epoch *epoch = fresh_epoch();
    struct epoch_member *stays = epoch_join(epoch), *members[EPOCH_MEMBERS_MAX];
    epoch_online(stays); /* holds the epoch, so that the others leave something */
    unsigned count = 0;
    while ((members[count] = epoch_join(epoch)) != NULL) {
        count++;
    }
    ck_assert_uint_eq(count, EPOCH_MEMBERS_MAX - 1);
    for (unsigned i = 0; i < count; i++) {
        epoch_online(members[i]);
        retire(members[i], KIND_PLAIN, i);
        retire(members[i], KIND_NESTED, 1);
        if (i % 2) {
            epoch_reclaim(members[i], SIZE_MAX);
        }
        epoch_leave(members[i]);
    }
    ck_assert_uint_eq(epoch_pending(epoch), 2 * count);
    /* A slot left behind can be joined again, with all that is in it. */
    struct epoch_member *heir = epoch_join(epoch);
    ck_assert_ptr_nonnull(heir);
    ck_assert_uint_eq(epoch_pending(epoch), 2 * count);
    epoch_leave(heir);
    for (unsigned i = 0; i < 10; i++) {
        turn(stays, SIZE_MAX);
    }
    ck_assert_uint_eq(reclaimed.count, 3 * count);
    epoch_leave(stays);
    finish(epoch);
}
END_TEST

/*
 * Readers against a writer that swaps a shared object for a fresh one, retires the old one and
 * destroys it when told. Whoever finds a destroyed object under a reader has found the bug.
 */
enum { ALIVE = 0x600d600d, DEAD = 0x0badbad0, COLD_LINES = 65536 };

struct target {
    _Atomic uint32_t state;
    uint32_t link;
    _Atomic uint32_t check;
    uint32_t plain; /* ThreadSanitizer sees by it whether the order is proven, not just lucky */
};

struct litmus {
    struct epoch *epoch;
    struct arena *arena;
    _Alignas(128) _Atomic uint32_t current; /* reference of the target; swapped acq_rel */
    _Alignas(128) _Atomic unsigned done;
    _Atomic unsigned broken;
    uint64_t reads;
    unsigned readers;
    bool come_and_go;
    _Atomic unsigned named;
    struct {
        _Alignas(64) _Atomic uint32_t line;
    } cold[COLD_LINES];
};

static bool target_reclaim(void *context, struct epoch_member *member, void *object)
{
    struct target *target = object;
    (void)context;
    atomic_store_explicit(&target->state, DEAD, memory_order_relaxed);
    atomic_store_explicit(&target->check, DEAD, memory_order_relaxed);
    target->plain = DEAD;
    arena_free(epoch_member_cache(member), object);
    return true;
}

static uint32_t target_create(struct litmus *litmus, struct epoch_member *member)
{
    struct target *target = arena_alloc(epoch_member_cache(member), sizeof *target, ARENA_ORDINARY);
    if (target == NULL) {
        return 0;
    }
    atomic_store_explicit(&target->state, ALIVE, memory_order_relaxed);
    atomic_store_explicit(&target->check, ALIVE, memory_order_relaxed);
    target->plain = ALIVE;
    return arena_ref(arena_base(litmus->arena), target);
}

static void *litmus_read(void *context)
{
    struct litmus *litmus = context;
    struct epoch_member *member = epoch_join(litmus->epoch);
    uint64_t seed = atomic_fetch_add(&litmus->named, 1);
    for (uint64_t i = 1; i <= litmus->reads; i++) {
        /* Fills the store buffer with misses: a plain store of the announcement would wait behind
         * them while the loads after it run ahead. */
        for (unsigned cold = 0; cold < 16; cold++) {
            atomic_store_explicit(&litmus->cold[trial_below(&seed, COLD_LINES)].line, (uint32_t)i,
                                  memory_order_relaxed);
        }
        epoch_online(member);
        uint32_t ref = atomic_load_explicit(&litmus->current, memory_order_acquire);
        struct target *target = arena_at(arena_base(litmus->arena), ref);
        for (unsigned look = 0; look < 20; look++) {
            if (atomic_load_explicit(&target->state, memory_order_relaxed) != ALIVE ||
                atomic_load_explicit(&target->check, memory_order_relaxed) != ALIVE) {
                atomic_fetch_add(&litmus->broken, 1);
                break;
            }
        }
        if (target->plain != ALIVE) {
            atomic_fetch_add(&litmus->broken, 1);
        }
        epoch_offline(member);
        if (litmus->come_and_go && i % 50 == 0) {
            epoch_leave(member);
            member = epoch_join(litmus->epoch);
        }
    }
    epoch_leave(member);
    atomic_fetch_add(&litmus->done, 1);
    return NULL;
}

static void *litmus_write(void *context)
{
    struct litmus *litmus = context;
    struct epoch_member *member = epoch_join(litmus->epoch);
    uint64_t seed = 77;
    for (uint64_t i = 1; atomic_load(&litmus->done) < litmus->readers; i++) {
        for (unsigned cold = 0; cold < 16; cold++) {
            atomic_store_explicit(&litmus->cold[trial_below(&seed, COLD_LINES)].line, (uint32_t)i,
                                  memory_order_relaxed);
        }
        epoch_online(member);
        uint32_t fresh = target_create(litmus, member);
        if (fresh != 0) {
            uint32_t old = atomic_exchange_explicit(&litmus->current, fresh, memory_order_acq_rel);
            epoch_retire(member, KIND_PLAIN, arena_at(arena_base(litmus->arena), old));
        }
        /* As fast as the epoch goes: the shorter the grace, the easier it is to miss a reader. */
        for (unsigned round = 0; round < 4; round++) {
            epoch_reclaim(member, 1000);
            epoch_online(member);
        }
        epoch_offline(member);
        if (litmus->come_and_go && i % 50 == 0) {
            epoch_leave(member);
            member = epoch_join(litmus->epoch);
        }
    }
    epoch_leave(member);
    return NULL;
}

static void litmus_run(bool come_and_go, unsigned readers, unsigned writers, uint64_t reads)
{
    static struct litmus litmus;
    memset(&litmus, 0, sizeof litmus);
    litmus.arena = arena_create(64 * MIB, 8);
    litmus.epoch = epoch_create(litmus.arena);
    litmus.reads = reads;
    litmus.readers = readers;
    litmus.come_and_go = come_and_go;
    epoch_define(litmus.epoch, KIND_PLAIN,
                 (struct epoch_kind){offsetof(struct target, link), target_reclaim, NULL});
    struct epoch_member *member = epoch_join(litmus.epoch);
    atomic_store(&litmus.current, target_create(&litmus, member));
    pthread_t threads[4];
    for (unsigned i = 0; i < readers + writers; i++) {
        ck_assert_int_eq(
            pthread_create(&threads[i], NULL, i < readers ? litmus_read : litmus_write, &litmus),
            0);
    }
    for (unsigned i = 0; i < readers + writers; i++) {
        pthread_join(threads[i], NULL);
    }
    epoch_online(member);
    epoch_retire(member, KIND_PLAIN,
                 arena_at(arena_base(litmus.arena), atomic_load(&litmus.current)));
    epoch_leave(member);
    ck_assert_uint_eq(litmus.broken, 0);
    ck_assert_uint_eq(epoch_pending(litmus.epoch), 0);
    ck_assert_uint_eq(arena_committed_bytes(litmus.arena), 0);
    epoch_destroy(litmus.epoch);
    arena_destroy(litmus.arena);
}

START_TEST(no_reader_sees_a_reclaimed_object)
{
    litmus_run(false, 1, 1, trial_count(8000000));
}
END_TEST

START_TEST(nor_while_members_come_and_go)
{
    litmus_run(true, 2, 2, trial_count(600000));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("index/epoch");
    TCase *rules = tcase_create("rules");
    tcase_add_test(rules, retired_objects_wait_three_epochs);
    tcase_add_test(rules, reclaims_in_order_and_in_portions);
    tcase_add_test(rules, an_online_reader_holds_everything_back);
    tcase_add_test(rules, pinned_objects_are_asked_again);
    tcase_add_test(rules, reclaiming_may_retire);
    tcase_add_test(rules, leaving_hands_over);
    suite_add_tcase(suite, rules);
    TCase *races = tcase_create("races");
    tcase_set_timeout(races, suite_limit(60));
    tcase_add_test(races, no_reader_sees_a_reclaimed_object);
    tcase_add_test(races, nor_while_members_come_and_go);
    suite_add_tcase(suite, races);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
