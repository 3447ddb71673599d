/* The filter of names: a maybe until it is built, built anew when stale, let go when unseen. */
#include "tests/store/test_store.h"

enum { CALLS = 100, NAMES_MAX = 1000000 };

static bool may_have(const char *id)
{
    return tier->calls->may_have(tier, name_of(id));
}

static struct filter *filter_now(void)
{
    return atomic_load(&store->filter);
}

START_TEST(says_no_once_it_is_built)
{
    AWAIT(filter_now());
    ck_assert(!may_have("a"));
    done(make_put("a", 2, bytes_text("payload")), STATUS_OK);
    ck_assert(may_have("a"));
    ck_assert(tier->calls->may_have(
        tier, index_hash_with(store_secret(store), 0, RECORD_TOOL_CALL, bytes_text("call-a-1"))));
    ck_assert(!may_have("b"));
    ck_assert_uint_gt(metric(METRIC_DISK_FILTER_BYTES), 0);
    close_store();
    open_store();
    ck_assert(may_have("a"));
    AWAIT(filter_now());
    ck_assert(may_have("a"));
    ck_assert(!may_have("b"));
}
END_TEST

/* A thread of one step with many keys, which are as many names. */
static struct put *put_with_keys(const char *id)
{
    static struct ask ask;
    struct put *put = make_put(id, 1, bytes_text("payload"));
    step_unpin(put->steps[0]);
    step_discard(domain.lane, put->steps[0]);
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
    ask_payload(&ask, bytes_text("payload"));
    for (unsigned i = 0; i < CALLS; i++) {
        char call[48];
        snprintf(call, sizeof call, "call-%s-%u", id, i);
        ask_call(&ask, bytes_text(call));
    }
    put->steps[0] = step_create(domain.lane, &ask.request);
    ck_assert_ptr_nonnull(put->steps[0]);
    step_rest(put->steps[0])->number = 0;
    step_rest(put->steps[0])->version = 1;
    step_pin(put->steps[0]);
    return put;
}

START_TEST(is_built_anew_when_stale)
{
    AWAIT(filter_now());
    const struct filter *before = filter_now();
    done(make_put("stays", 1, bytes_text("payload")), STATUS_OK);
    unsigned churned = 0;
    struct tier_port *idle = tier->calls->port_open(tier, count_wake, NULL);
    ck_assert_ptr_null(tier->calls->collect(tier, idle));
    while (filter_now() == before) {
        char id[16];
        struct put *puts[50];
        struct put *erasures[50];
        ck_assert_uint_lt(churned * CALLS, NAMES_MAX);
        /* Kept for `idle`. Never so full that it says maybe to everything. */
        ck_assert_uint_le(filter_count(before), filter_capacity(before));
        for (unsigned i = 0; i < 50; i++) {
            snprintf(id, sizeof id, "t%u", churned++);
            puts[i] = put_with_keys(id);
            erasures[i] = make_erase(puts[i], REASON_NONE);
            submit(puts[i]);
            submit(erasures[i]);
        }
        for (unsigned i = 0; i < 50; i++) {
            AWAIT(puts[i]->applied_at && erasures[i]->applied_at);
            free_put(puts[i]);
            free_put(erasures[i]);
        }
        ck_assert(may_have("stays"));
    }
    ck_assert_uint_gt(churned * CALLS, 50000);
    ck_assert(may_have("stays"));
    unsigned maybes = 0;
    for (unsigned i = 0; i < 500; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%u", i);
        maybes += may_have(id);
    }
    ck_assert_uint_lt(maybes, 50); /* they are gone from the tree, and now from the filter */
    /* The old one is kept while a lane may be looking at it: one that has not collected since. */
    uint64_t alone = filter_bytes(filter_now());
    for (unsigned i = 0; i < 150; i++) {
        collect();
        sleep_ms(10);
    }
    ck_assert_uint_gt(metric(METRIC_DISK_FILTER_BYTES), alone);
    ck_assert_ptr_null(tier->calls->collect(tier, idle));
    AWAIT(metric(METRIC_DISK_FILTER_BYTES) == alone);
    tier->calls->port_close(tier, idle);
    ck_assert(may_have("stays"));
}
END_TEST

/* What comes into the tree while a filter is being built is in both. */
START_TEST(names_go_into_the_one_being_built)
{
    static struct store still;
    struct index_hash name = {.low = 1234567, .high = 7654321};
    ck_assert(store_may_have(&still.tier, name));
    struct filter *first = filter_create(1000);
    struct filter *second = filter_create(1000);
    atomic_init(&still.filter, first);
    still.refill.building = second;
    ck_assert(!store_may_have(&still.tier, name));
    store_add_name(&still, name);
    ck_assert(store_may_have(&still.tier, name));
    ck_assert(filter_may_have(second, name));
    filter_destroy(first);
    filter_destroy(second);
}
END_TEST

int main(void)
{
    return SUITE_RUN("refill", setup, teardown, 60, says_no_once_it_is_built,
                     is_built_anew_when_stale, names_go_into_the_one_being_built);
}
