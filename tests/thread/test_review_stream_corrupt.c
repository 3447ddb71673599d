/* Steps streamed into a new thread in the place of one that is damaged on disk. */
#include "tests/thread/disk.h"

enum { CLAIM_MS = 1000 };

static void setup_damaged(void)
{
    setup();
    settings.claim_timeout_ms = CLAIM_MS;
    start_over();
    NOW("append t : one", "step 0 v1 created");
    demote_all();
    ck_assert(tier_model_damage(model, bytes_text("t"), -1));
    IS("replay t", "miss corrupt v0");
    ck_assert_uint_eq(tier_model_threads(model), 1);
    NOW("begin t", "conflict version v0");
    NOW("begin t expect=0", "begun 0 v0");
    NOW("chunk t : two", "bytes 3");
    NOW("replay t", "miss corrupt v0 in_flight");
}

START_TEST(its_commit_has_the_damaged_one_erased)
{
    NOW("commit t expect=1", "conflict version v0");
    NOW("commit t expect=0", "step 0 v1 created");
    run();
    ck_assert_uint_eq(tier_model_threads(model), 1);
    demote_all();
    IS("replay t", "complete t v1 head 0 disk: 0=two");
    IS("forget t", "forgotten pending");
    run();
    ck_assert_uint_eq(tier_model_threads(model), 0);
}
END_TEST

START_TEST(an_abort_leaves_it_as_it_was)
{
    NOW("abort t", "aborted");
    IS("replay t", "miss corrupt v0");
    IS("append t : x", "conflict version v0");
    IS("append t expect=0 : three", "step 0 v1 created");
    run();
    ck_assert_uint_eq(tier_model_threads(model), 1);
}
END_TEST

START_TEST(so_does_a_claim_that_ends)
{
    wait_ms(CLAIM_MS);
    IS("replay t", "miss corrupt v0");
    ck_assert_uint_eq(tier_model_threads(model), 1);
    IS("begin t expect=0", "begun 0 v0");
    wait_ms(CLAIM_MS);
    sweep();
    ck_assert_uint_eq(tier_model_threads(model), 1);
    IS("forget t", "forgotten pending");
    run();
    ck_assert_uint_eq(tier_model_threads(model), 0);
}
END_TEST

START_TEST(what_is_forgotten_is_erased)
{
    IS("forget t", "forgotten pending");
    run();
    ck_assert_uint_eq(tier_model_threads(model), 0);
    IS("chunk t : two", "conflict claimed v0");
}
END_TEST

START_TEST(its_retention_ends_meanwhile)
{
    for (int i = 0; i < 2 * RETENTION_MS / CLAIM_MS; i++) {
        wait_ms(CLAIM_MS - 1);
        NOW("chunk t", "bytes 3");
        due();
    }
    ck_assert_uint_eq(tier_model_threads(model), 0);
    NOW("commit t expect=0", "step 0 v1 created");
    run();
    ck_assert_uint_eq(tier_model_threads(model), 1);
}
END_TEST

int main(void)
{
    return SUITE_RUN("review: stream, corrupt", setup_damaged, teardown, 0,
                     its_commit_has_the_damaged_one_erased, an_abort_leaves_it_as_it_was,
                     so_does_a_claim_that_ends, what_is_forgotten_is_erased,
                     its_retention_ends_meanwhile);
}
