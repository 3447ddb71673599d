/* The store through its face: changes and loads, order, limits, refusals, starting again. */
#include "tests/store/test_store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static uint8_t noise[256 << 10];

static void setup_noise(void)
{
    uint64_t state = 7;
    for (size_t i = 0; i < sizeof noise; i++) {
        noise[i] = (uint8_t)trial_random(&state);
    }
    setup();
}

START_TEST(put_and_load)
{
    struct bytes payload = bytes_of(noise, 10000);
    struct put *put = make_put("a", 3, payload);
    done(put, STATUS_OK);
    struct tier_load loaded = load("a", TIER_LOAD_THREAD, RECORD_THREAD);
    ck_assert_int_eq(loaded.found, TIER_FOUND);
    ck_assert_uint_eq(loaded.image->head.length, 3);
    ck_assert_uint_eq(loaded.image->step_count, 3);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(loaded.image->steps[i].number, i);
        ck_assert(!loaded.image->steps[i].corrupt);
        ck_assert(bytes_equal(loaded.image->steps[i].payload, payload));
    }
    free(loaded.image);
    loaded = load("call-a-1", TIER_LOAD_KEY, RECORD_TOOL_CALL);
    ck_assert_int_eq(loaded.found, TIER_FOUND);
    ck_assert_uint_eq(loaded.key.number, 1);
    ck_assert_int_eq(found("b"), TIER_ABSENT);
    ck_assert_uint_ge(atomic_load(&wakes), 2);
}
END_TEST

START_TEST(erase_leaves_a_tombstone)
{
    struct put *put = make_put("a", 1, bytes_text("payload"));
    struct put *erase = make_erase(put, REASON_FORGOTTEN);
    submit(put);
    submit(erase);
    AWAIT(put->applied_at && erase->applied_at);
    ck_assert_uint_lt(put->applied_at, erase->applied_at);
    struct tier_load loaded = load("a", TIER_LOAD_THREAD, RECORD_THREAD);
    ck_assert_int_eq(loaded.found, TIER_TOMBSTONE);
    ck_assert_int_eq(loaded.tombstone.reason, REASON_FORGOTTEN);
    ck_assert_uint_eq(metric(METRIC_DISK_ERASURES), 1);
    free_put(put);
    free_put(erase);
}
END_TEST

START_TEST(durable_before_applied)
{
    enum { COUNT = 200 };
    struct put *puts[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%u", i);
        puts[i] = make_put(id, 1, bytes_of(noise, 1000));
        puts[i]->change.wants_durable = i % 3 != 0;
        submit(puts[i]);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        AWAIT(puts[i]->applied_at);
        ck_assert_int_eq(puts[i]->durable_at != 0, i % 3 != 0);
        ck_assert_uint_lt(puts[i]->durable_at, puts[i]->applied_at);
        ck_assert_int_eq(puts[i]->change.status, STATUS_OK);
        free_put(puts[i]);
    }
    ck_assert_uint_eq(metric(METRIC_DISK_CHANGES), COUNT);
    ck_assert_uint_le(metric(METRIC_DISK_BATCHES), COUNT);
    ck_assert_uint_eq(metric(METRIC_DISK_THREADS), COUNT);
    ck_assert_uint_eq(metric(METRIC_DISK_LAG_BYTES), 0);
    ck_assert_uint_eq(metric(METRIC_DISK_LAG_MS), 0);
    ck_assert_uint_gt(metric(METRIC_DISK_FLUSH_MAX_US), 0);
}
END_TEST

START_TEST(reopen_gives_the_same)
{
    uint8_t secret[INDEX_SECRET_BYTES];
    struct bytes payload = bytes_of(noise, 5000);
    memcpy(secret, store_secret(store), sizeof secret);
    struct put *put = make_put("a", 2, payload);
    uint64_t uid = put->change.head.uid;
    done(put, STATUS_OK);
    close_store();
    open_store();
    ck_assert_mem_eq(secret, store_secret(store), sizeof secret);
    ck_assert_uint_gt(tier->calls->take_uid(tier), uid);
    struct tier_load loaded = load("a", TIER_LOAD_THREAD, RECORD_THREAD);
    ck_assert_int_eq(loaded.found, TIER_FOUND);
    ck_assert_uint_eq(loaded.image->head.uid, uid);
    ck_assert(bytes_equal(loaded.image->steps[1].payload, payload));
    free(loaded.image);
}
END_TEST

START_TEST(close_finishes_what_was_submitted)
{
    struct put *put = make_put("a", 1, bytes_of(noise, 100));
    submit(put);
    AWAIT(put->applied_at);
    free_put(put);
    close_store();
    open_store();
    ck_assert_uint_eq(metric(METRIC_DISK_RECOVERED), 0);
    ck_assert_int_eq(found("a"), TIER_FOUND);
}
END_TEST

/* A process that ends right after it heard of durability; its filler had no time. */
START_TEST(recovery_after_a_sudden_end)
{
    enum { COUNT = 20 };
    close_store();
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct put *puts[COUNT];
        open_store();
        for (unsigned i = 0; i < COUNT; i++) {
            char id[16];
            snprintf(id, sizeof id, "t%u", i);
            puts[i] = make_put(id, 1, bytes_of(noise + i, 3000));
        }
        for (unsigned i = 0; i < COUNT; i++) {
            submit(puts[i]);
        }
        AWAIT(puts[COUNT - 1]->durable_at);
        kill(getpid(), puts[COUNT - 1]->durable_status == STATUS_OK ? SIGKILL : SIGTERM);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    open_store();
    ck_assert_uint_gt(metric(METRIC_DISK_RECOVERED), 0);
    ck_assert_uint_gt(tier->calls->take_uid(tier), COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%u", i);
        struct tier_load loaded = load(id, TIER_LOAD_THREAD, RECORD_THREAD);
        ck_assert_int_eq(loaded.found, TIER_FOUND);
        ck_assert(bytes_equal(loaded.image->steps[0].payload, bytes_of(noise + i, 3000)));
        free(loaded.image);
    }
}
END_TEST

START_TEST(lag_is_bounded)
{
    close_store();
    settings.lag_max_bytes = 100000;
    open_store();
    struct put *large = make_put("large", 1, bytes_of(noise, 200000));
    done(large, STATUS_OK); /* alone it is taken */
    struct put *puts[64];
    unsigned count = 0;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && count < 64) {
        char id[16];
        snprintf(id, sizeof id, "t%u", count);
        puts[count] = make_put(id, 1, bytes_of(noise, 10000));
        status = tier->calls->submit(tier, &puts[count]->change);
        count += status == STATUS_OK;
    }
    ck_assert_int_eq(status, STATUS_AGAIN);
    ck_assert_uint_ge(count, 9);
    ck_assert_uint_ge(metric(METRIC_DISK_LAG_BYTES), 9 * 10000);
    ck_assert(!tier->calls->is_full(tier));
    puts[count]->change.must = true;
    submit(puts[count]);
    ck_assert(tier->calls->is_full(tier));
    for (unsigned i = 0; i <= count; i++) {
        AWAIT(puts[i]->applied_at);
        free_put(puts[i]);
    }
    ck_assert_uint_eq(metric(METRIC_DISK_LAG_BYTES), 0);
    ck_assert(!tier->calls->is_full(tier));
}
END_TEST

START_TEST(past_generation_is_refused)
{
    struct put *put = make_put("a", 1, bytes_text("payload"));
    put->change.generation--;
    ck_assert_int_eq(tier->calls->submit(tier, &put->change), STATUS_READ_ONLY);
    put->change.generation += 2;
    ck_assert_int_eq(tier->calls->submit(tier, &put->change), STATUS_READ_ONLY);
    put->change.generation--;
    done(put, STATUS_OK);
}
END_TEST

/* What is queued when a generation ends is written before that, or failed: never written after. */
START_TEST(queued_changes_of_a_past_generation_fail)
{
    enum { COUNT = 2000 };
    static struct put *puts[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%u", i);
        puts[i] = make_put(id, 1, bytes_of(noise, 2000));
    }
    for (unsigned i = 0; i < COUNT; i++) {
        submit(puts[i]);
    }
    store_change_state(store, 0, 0, true);
    unsigned failed = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        AWAIT(puts[i]->applied_at);
        bool ok = puts[i]->change.status == STATUS_OK;
        ck_assert(ok || puts[i]->change.status == STATUS_READ_ONLY);
        ck_assert_uint_gt(puts[i]->durable_at, 0);
        ck_assert_uint_lt(puts[i]->durable_at, puts[i]->applied_at);
        ck_assert_int_eq(puts[i]->durable_status, puts[i]->change.status);
        ck_assert(ok || i + 1 == COUNT || puts[i + 1]->applied_at == 0 ||
                  puts[i + 1]->change.status == STATUS_READ_ONLY);
        failed += !ok;
    }
    ck_assert_uint_gt(failed, 0);
    for (unsigned i = 0; i < COUNT; i += 37) {
        bool ok = puts[i]->change.status == STATUS_OK;
        ck_assert_int_eq(found(puts[i]->id), ok ? TIER_FOUND : TIER_ABSENT);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        free_put(puts[i]);
    }
    ck_assert_uint_eq(metric(METRIC_DISK_LAG_BYTES), 0);
    done(make_put("after", 1, bytes_text("x")), STATUS_OK);
}
END_TEST

/* The log says that there is no space: read-only, then a probe finds that there is. */
START_TEST(full_and_open_again)
{
    struct wal_trouble trouble = {.error = ENOSPC, .call = "write"};
    uint32_t generation = tier->calls->generation(tier);
    /* Made before: of an older generation, it is refused even if the probe has been there already.
     */
    struct put *put = make_put("a", 1, bytes_text("payload"));
    store_trouble(store, false, &trouble);
    bool shown = metric(METRIC_DISK_READ_ONLY) == 1 && tier->calls->is_read_only(tier);
    uint32_t troubles = tier->calls->generation(tier) - generation;
    ck_assert(shown || troubles == 2); /* the probe may have been there already */
    ck_assert_uint_gt(troubles, 0);
    ck_assert_int_eq(tier->calls->submit(tier, &put->change), STATUS_READ_ONLY);
    AWAIT(!tier->calls->is_read_only(tier));
    ck_assert_int_eq(tier->calls->submit(tier, &put->change), STATUS_READ_ONLY);
    put->change.generation = tier->calls->generation(tier);
    done(put, STATUS_OK);
    trouble.error = EIO;
    store_trouble(store, false, &trouble);
    sleep_ms(2500);
    ck_assert(tier->calls->is_read_only(tier));
    ck_assert_int_eq(found("a"), TIER_FOUND);
}
END_TEST

START_TEST(failed_tree_fails_what_waits)
{
    struct wal_trouble trouble = {.error = EIO, .call = "msync"};
    struct put *put = make_put("a", 1, bytes_text("payload"));
    submit(put);
    AWAIT(put->durable_at);
    store_trouble(store, true, &trouble);
    AWAIT(put->applied_at);
    bool in_time = put->change.status == STATUS_OK; /* the filler may have been quicker */
    ck_assert(in_time || put->change.status == STATUS_READ_ONLY);
    free_put(put);
    close_store();
    open_store(); /* the log still had it */
    ck_assert_int_eq(found("a"), TIER_FOUND);
    ck_assert_uint_eq(metric(METRIC_DISK_RECOVERED), in_time ? 0 : 1);
}
END_TEST

static void check_refused(const char *path, const char *words)
{
    struct store_settings other = settings;
    struct store_refusal refusal;
    other.directory = path;
    ck_assert_ptr_null(store_open(&other, &refusal));
    ck_assert_msg(strstr(refusal.text, words) != NULL, "\"%s\" does not say \"%s\"", refusal.text,
                  words);
}

START_TEST(refusals)
{
    char path[128];
    struct stat before;
    struct stat after;
    check_refused(directory, "another server holds");
    done(make_put("a", 1, bytes_text("payload")), STATUS_OK); /* and the first one goes on */
    snprintf(path, sizeof path, "%s/none/none", directory);
    check_refused(path, "parent");
    snprintf(path, sizeof path, "%s/lock", directory);
    check_refused(path, "not a directory");
    close_store();
    snprintf(path, sizeof path, "%s/tree.mdb", directory);
    int file = open(path, O_WRONLY | O_TRUNC);
    ck_assert_int_eq(write(file, noise, 8192), 8192);
    close(file);
    ck_assert_int_eq(stat(path, &before), 0);
    check_refused(directory, "tree.mdb");
    ck_assert_int_eq(stat(path, &after), 0);
    ck_assert_int_eq(before.st_size, after.st_size);
    ck_assert_int_eq(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
}
END_TEST

START_TEST(loads_are_bounded)
{
    static struct tier_load loads[STORE_LOADS_MAX + 1];
    done(make_put("a", 1, bytes_of(noise, 100000)), STATUS_OK);
    unsigned before = loaded_count;
    unsigned taken = 0;
    bool refused = false;
    pthread_mutex_lock(&store->pool.lock); /* the pool stands still, and so would load */
    atomic_fetch_add(&store->pool.under_way, STORE_LOADS_MAX);
    loads[0] = load_of("a", TIER_LOAD_THREAD, RECORD_THREAD);
    refused = tier->calls->load(tier, &loads[0]) == STATUS_AGAIN;
    atomic_fetch_sub(&store->pool.under_way, STORE_LOADS_MAX);
    pthread_mutex_unlock(&store->pool.lock);
    ck_assert(refused);
    for (unsigned i = 0; i < 100; i++) {
        loads[i] = load_of("a", TIER_LOAD_THREAD, RECORD_THREAD);
        taken += tier->calls->load(tier, &loads[i]) == STATUS_OK;
    }
    ck_assert_uint_eq(taken, 100);
    AWAIT(loaded_count == before + taken);
    for (unsigned i = 0; i < taken; i++) {
        ck_assert_int_eq(loads[i].found, TIER_FOUND);
        free(loads[i].image);
    }
    ck_assert_uint_eq(metric(METRIC_DISK_LOADS), taken);
}
END_TEST

START_TEST(settle_is_the_end_of_all_submitted)
{
    struct put *puts[50];
    for (unsigned i = 0; i < 50; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%u", i);
        puts[i] = make_put(id, 1, bytes_of(noise, 20000));
        submit(puts[i]);
    }
    store_settle(store);
    collect();
    for (unsigned i = 0; i < 50; i++) {
        ck_assert_uint_ne(puts[i]->applied_at, 0);
        free_put(puts[i]);
    }
    store_settle(store);
}
END_TEST

/* ---- Several lanes at once --------------------------------------------------------------------
 */

enum { CREW = 3, ROUNDS = 300 };

struct hand {
    unsigned number;
    struct tier_port *port;
    unsigned applied, loaded;
    bool wrong;
};

static void hand_collect(struct hand *hand)
{
    struct tier_event *event = tier->calls->collect(tier, hand->port);
    while (event) {
        struct tier_event *next = event->next;
        if (event->kind == TIER_APPLIED) {
            struct tier_change *change = STORE_HOLDER(event, struct tier_change, applied);
            hand->wrong |= change->status != STATUS_OK;
            hand->applied++;
            free(change);
        } else if (event->kind == TIER_LOADED) {
            struct tier_load *asked = STORE_HOLDER(event, struct tier_load, event);
            hand->wrong |= asked->found != TIER_FOUND && asked->found != TIER_ABSENT;
            hand->loaded++;
            free(asked->image);
            free(asked);
        }
        event = next;
    }
}

/* Threads of the hand's own without steps, each put often; loads of everybody's. */
static void *hand_run(void *context)
{
    static const char *const ids[] = {"h0", "h1", "h2"};
    struct hand *hand = context;
    hand->port = tier->calls->port_open(tier, count_wake, NULL);
    for (unsigned i = 0; i < ROUNDS; i++) {
        const char *id = ids[hand->number];
        struct tier_change *change = calloc(1, sizeof *change);
        *change = (struct tier_change){.port = hand->port,
                                       .wants_durable = i % 2,
                                       .generation = tier->calls->generation(tier),
                                       .head = {.uid = hand->number + 1000,
                                                .name = name_of(id),
                                                .id = bytes_text(id),
                                                .version = i,
                                                .retention_ms = RETENTION_MS,
                                                .used_ms = START_MS,
                                                .created_ms = START_MS}};
        while (tier->calls->submit(tier, change) != STATUS_OK) {
            hand_collect(hand);
        }
        struct tier_load *asked = malloc(sizeof *asked);
        *asked = load_of(ids[i % CREW], TIER_LOAD_THREAD, RECORD_THREAD);
        asked->port = hand->port;
        tier->calls->may_have(tier, asked->name);
        while (tier->calls->load(tier, asked) != STATUS_OK) {
            hand_collect(hand);
        }
        hand_collect(hand);
    }
    while (hand->applied < ROUNDS || hand->loaded < ROUNDS) {
        hand_collect(hand);
        sleep_ms(1);
    }
    tier->calls->port_close(tier, hand->port);
    return NULL;
}

START_TEST(several_lanes)
{
    struct hand hands[CREW] = {{0}};
    pthread_t crew[CREW];
    for (unsigned i = 0; i < CREW; i++) {
        hands[i].number = i;
        ck_assert_int_eq(pthread_create(&crew[i], NULL, hand_run, &hands[i]), 0);
    }
    for (unsigned i = 0; i < CREW; i++) {
        pthread_join(crew[i], NULL);
        ck_assert(!hands[i].wrong);
    }
    struct tier_load loaded = load("h1", TIER_LOAD_THREAD, RECORD_THREAD);
    ck_assert_int_eq(loaded.found, TIER_FOUND);
    ck_assert_uint_eq(loaded.image->head.version, ROUNDS - 1);
    free(loaded.image);
}
END_TEST

int main(void)
{
    return SUITE_RUN("store", setup_noise, teardown, 60, put_and_load, erase_leaves_a_tombstone,
                     durable_before_applied, reopen_gives_the_same,
                     close_finishes_what_was_submitted, recovery_after_a_sudden_end, lag_is_bounded,
                     past_generation_is_refused, queued_changes_of_a_past_generation_fail,
                     full_and_open_again, failed_tree_fails_what_waits, refusals, loads_are_bounded,
                     settle_is_the_end_of_all_submitted, several_lanes);
}
