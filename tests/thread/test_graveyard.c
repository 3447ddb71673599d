/* Tombstones: a bounded ring, overwritten from its oldest end, and what can be vouched for. */
#include "thread/graveyard.h"

#include "thread/lane.h"

#include "tests/lib/crew.h"
#include "tests/lib/suite.h"

enum { RING = 1024 };

static struct domain domain;

static void setup(void)
{
    struct threads_settings settings = domain_settings();
    settings.tombstones = RING;
    domain_open(&domain, settings);
}

static void teardown(void)
{
    domain_close(&domain);
}

static void bury(unsigned from, unsigned to)
{
    char line[64];
    for (unsigned i = from; i < to; i++) {
        snprintf(line, sizeof line, "append gone%u : x", i);
        domain_say(&domain, line);
        snprintf(line, sizeof line, "forget gone%u", i);
        ck_assert_str_eq(domain_say(&domain, line), "forgotten");
    }
}

START_TEST(the_oldest_is_overwritten_first)
{
    bury(0, RING);
    SAY("replay gone0", "miss forgotten v0");
    ck_assert_uint_eq(domain_metric(&domain, METRIC_TOMBSTONES), RING);
    bury(RING, RING + 1);
    SAY("replay gone0", "miss never_seen v0");
    SAY("replay gone1", "miss forgotten v0");
    bury(RING + 1, RING + 500);
    SAY("replay gone499", "miss never_seen v0");
    SAY("replay gone500", "miss forgotten v0");
    ck_assert_uint_eq(domain_metric(&domain, METRIC_TOMBSTONES), RING);
    for (int tends = 0; tends < 4; tends++) {
        lane_tend_fully(domain.lane);
    }
    ck_assert_uint_eq(domain_metric(&domain, METRIC_RECORDS), RING);
}
END_TEST

START_TEST(what_is_overwritten_starts_afresh)
{
    SAY("append t ttl_ms=1 : x", "step 0 v1 created");
    domain_wait(&domain, 1);
    SAY("replay t", "miss expired v1");
    bury(0, RING);
    SAY("append t expect=1 : y", "conflict version v0");
    SAY("append t : y", "step 0 v1 created");
    /* Its old tombstone is long out of the index; the ring's turn takes nothing living away. */
    bury(RING, 3 * RING);
    SAY("replay t", "complete t v1 head 0: 0=y");
}
END_TEST

START_TEST(one_that_came_back_is_not_removed_by_its_old_tombstone)
{
    SAY("append t ttl_ms=1 : x", "step 0 v1 created");
    domain_wait(&domain, 1);
    SAY("append t ttl_ms=100000 : y", "step 1 v2 lost 1");
    bury(0, 3 * RING);
    SAY("replay t", "partial t v2 head 1: 0?expired 1=y");
}
END_TEST

/* never_seen is vouched for only as far back as every tombstone is still there. */
START_TEST(vouching_never_reaches_beyond_the_ring)
{
    static uint64_t buried_ms[8 * RING];
    uint64_t state = 7;
    for (unsigned i = 0; i < 8 * RING; i++) {
        domain_wait(&domain, trial_below(&state, 5));
        buried_ms[i] = clock_read_ms(&domain.clock.clock);
        bury(i, i + 1);
        SAY("replay never", "miss never_seen v0");
        uint64_t since_ms = clock_read_ms(&domain.clock.clock) - domain.vouch_ms;
        if (i + 1 <= RING) {
            ck_assert_uint_eq(since_ms, DOMAIN_START_MS);
        } else {
            unsigned overwritten = i - RING; /* the last one */
            ck_assert_uint_ge(since_ms, buried_ms[overwritten]);
            /* And it reaches back over most of the ring. */
            ck_assert_uint_le(since_ms, buried_ms[overwritten + RING / 32 + 1]);
        }
    }
}
END_TEST

START_TEST(keys_have_tombstones_too)
{
    SAY("append t response_id=r call=c1 call=c2 : x", "step 0 v1 created");
    SAY("forget t", "forgotten");
    lane_tend_fully(domain.lane);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_TOMBSTONES), 4);
    bury(0, RING);
    SAY("replay - tool_call=c1", "miss never_seen v0");
}
END_TEST

static uint64_t burials(const struct mate *mate)
{
    return atomic_load(&mate->lane->threads->graveyard.next);
}

static void bury_on(struct mate *mate)
{
    for (uint64_t i = 0; i < trial_count(30000); i++) {
        struct ask ask;
        struct thread_append_result appended;
        struct thread_replay_result replayed;
        struct wire_error error;
        struct thread_forget_result forgotten = {0};
        char id[16];
        /* A few names that come back, from both mates, and many that do not. */
        snprintf(id, sizeof id, "g%u", (unsigned)trial_below(&mate->random, i % 2 ? 3 : 100000));
        ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text(id));
        ask_set(&ask, response_id, bytes_text(id));
        ask_payload(&ask, bytes_text(id));
        CREW_HOLDS(domain_append(mate->lane, &ask, &appended, &error) == STATUS_OK);
        uint64_t before = burials(mate);
        ask_begin(&ask, WIRE_METHOD_FORGET, bytes_text(id));
        enum status status = thread_forget(mate->lane, &ask.request, &forgotten, &error);
        CREW_HOLDS(status == STATUS_OK || status == STATUS_AGAIN);
        ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text(id));
        CREW_HOLDS(domain_replay(mate->lane, &ask, &replayed, &error) == STATUS_OK);
        /* Whoever is kept from running meanwhile may find that the ring went round. */
        if (replayed.state == THREAD_MISS && replayed.reason != REASON_FORGOTTEN) {
            CREW_HOLDS(replayed.reason == REASON_NEVER_SEEN && burials(mate) - before > RING);
        }
        crew_turn(mate);
    }
    crew_done(mate);
}

START_TEST(lanes_bury_at_once)
{
    crew_run(&domain, 3, 3, (void (*const[])(struct mate *)){bury_on, bury_on, bury_on});
    for (int tends = 0; tends < 4; tends++) {
        lane_tend_fully(domain.lane);
    }
    uint64_t live = domain_metric(&domain, METRIC_THREADS_LIVE);
    ck_assert_uint_le(live, 3);
    ck_assert_uint_le(domain_metric(&domain, METRIC_RECORDS), RING + 2 * live);
}
END_TEST

int main(void)
{
    return SUITE_RUN(
        "graveyard", setup, teardown, 0, the_oldest_is_overwritten_first,
        what_is_overwritten_starts_afresh, one_that_came_back_is_not_removed_by_its_old_tombstone,
        vouching_never_reaches_beyond_the_ring, keys_have_tombstones_too, lanes_bury_at_once);
}
