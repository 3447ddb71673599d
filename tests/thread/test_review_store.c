/*
 * Reviewed: an erasure that a full tree could not take, of which the lane was told that it failed,
 * takes effect all the same while the thread is on its way back into memory.
 */
#include "tests/thread/disk.h"

#include "thread/records.h"

static void no_wake(void *context)
{
    (void)context;
}

/* Durable, and stuck before the tree; its port is the caller's, who knows of it no more. */
static void get_stuck(struct tier_change *change, struct tier_port *port)
{
    struct tier *tier = settings.tier;
    struct tier_head head;
    ck_assert(tier_model_head(model, bytes_text("t"), &head));
    head.id = bytes_text("t");
    *change = (struct tier_change){.kind = TIER_ERASE,
                                   .port = port,
                                   .must = true,
                                   .head = head,
                                   .reason = REASON_EVICTED,
                                   .generation = tier->calls->generation(tier)};
    ck_assert_int_eq(tier->calls->submit(tier, change), STATUS_OK);
    ck_assert_uint_eq(tier_model_advance(model, TIER_MODEL_LOG, 1), 1);
}

START_TEST(load_that_an_erasure_overtook)
{
    struct tier *tier = settings.tier;
    NOW("append t : one", "step 0 v1 created");
    demote_all();
    struct tier_port *port = tier->calls->port_open(tier, no_wake, NULL);
    struct tier_change change;
    get_stuck(&change, port);
    tier_model_fail(model);
    NOW("replay t", "again");
    ck_assert_uint_eq(tier_model_advance(model, TIER_MODEL_READ, 1), 1);
    ck_assert_uint_eq(tier_model_advance(model, TIER_MODEL_TREE, 1), 1);
    tier_model_heal(model);
    ck_assert_uint_eq(tier_model_threads(model), 0);
    run();
    IS("replay t", "complete t v1 head 0 disk: 0=one");
    /* What the disk gets now must be whole: it has nothing any more. */
    IS("append t : two", "step 1 v2");
    demote_all();
    IS("replay t", "complete t v2 head 1 disk: 0=one 1=two");
    (void)tier->calls->collect(tier, port);
    tier->calls->port_close(tier, port);
}
END_TEST

int main(void)
{
    return SUITE_RUN("review_store", setup, teardown, 60, load_that_an_erasure_overtook);
}
