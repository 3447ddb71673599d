/* What every disk tier tells its lanes, and when: events, pages, what is due, tombstones. */
#include "tests/store/test_tier.h"

/* ---- Events ---- */

START_TEST(durable_comes_before_applied_and_only_when_asked)
{
    enum { CHANGES = 60 };
    struct caller_change *changes[CHANGES];
    struct told_thread t = thread_named("t");
    for (unsigned i = 0; i < CHANGES; i++) {
        uint32_t from = t.length;
        say(&t, "append t : p");
        changes[i] = caller_put(caller, &source, &t, from, REASON_NONE);
        changes[i]->tier.wants_durable = i % 3 == 0;
        ck_assert_int_eq(caller_submit(changes[i]), STATUS_OK);
    }
    caller_wait(caller); /* order and number are checked as they come */
    for (unsigned i = 0; i < CHANGES; i++) {
        ck_assert(changes[i]->applied && changes[i]->durable == (i % 3 == 0));
        ck_assert_int_eq(changes[i]->tier.status, STATUS_OK);
    }
    ck_assert_uint_gt(caller->wakes, 0);
    ck_assert_uint_eq(caller_load(caller, RECORD_THREAD, bytes_text("t"))->image->step_count,
                      CHANGES);
    ck_assert_uint_eq(caller_collect(caller), 0);
}
END_TEST

START_TEST(events_come_to_the_port_of_the_change)
{
    struct tier_caller other;
    subject_attach(&subject, &other);
    struct told_thread t = caller_thread(caller, "t");
    struct told_thread u = caller_thread(&other, "u");
    for (unsigned i = 0; i < 20; i++) {
        say(&t, "append t : one");
        say(&u, "append u : two");
        struct caller_change *change = caller_put(&other, &source, &u, i, REASON_NONE);
        change->tier.wants_durable = true;
        ck_assert_int_eq(caller_submit(change), STATUS_OK);
        ck_assert_int_eq(caller_submit(caller_put(caller, &source, &t, i, REASON_NONE)), STATUS_OK);
    }
    caller_wait(caller); /* an event of the other's would not get past take_event */
    caller_wait(&other);
    ck_assert_uint_gt(other.wakes, 0);
    ck_assert_uint_eq(caller_load(&other, RECORD_THREAD, bytes_text("t"))->image->step_count, 20);
    ck_assert_uint_eq(caller_load(caller, RECORD_THREAD, bytes_text("u"))->image->step_count, 20);
    caller_close(&other);
}
END_TEST

START_TEST(steps_are_unpinned)
{
    struct told_thread t = thread_named("t");
    say(&t, "append t : x*1000000");
    put_from(&t, 0, REASON_NONE);
    domain_say(&source, "forget t");
    lane_offline(source.lane);
    lane_online(source.lane);
    lane_tend_fully(source.lane);
    ck_assert_uint_eq(domain_metric(&source, METRIC_PAYLOAD_BYTES), 0);
}
END_TEST

START_TEST(a_load_sees_what_was_applied_before)
{
    struct told_thread t = thread_named("t");
    for (unsigned i = 0; i < 50; i++) {
        append(&t, "append t : p");
        const struct tier_load *load = caller_load(caller, RECORD_THREAD, bytes_text("t"));
        ck_assert_int_eq(load->found, TIER_FOUND);
        ck_assert_uint_eq(load->image->step_count, i + 1);
    }
}
END_TEST

START_TEST(a_change_of_another_generation_is_refused)
{
    struct told_thread t = thread_named("t");
    say(&t, "append t : one");
    for (int off = -1; off <= 1; off += 2) {
        struct caller_change *change = caller_put(caller, &source, &t, 0, REASON_NONE);
        change->tier.generation += (uint32_t)off;
        ck_assert_int_eq(caller_submit(change), STATUS_READ_ONLY);
    }
    caller_wait(caller);
    THREAD("t", "absent");
    put_from(&t, 0, REASON_NONE);
    THREAD("t", "v1: 0=one");
}
END_TEST

START_TEST(may_have_knows_every_name)
{
    const struct tier_calls *calls = caller->tier->calls;
    struct told_thread t = thread_named("t");
    struct told_thread u = thread_named("u");
    append(&t, "append t call=c response_id=r : one");
    append(&u, "append u call=d : two");
    erase(&u, REASON_EXPIRED);
    for (int pass = 0; pass < 2; pass++) {
        ck_assert(
            calls->may_have(caller->tier, caller_name(caller, RECORD_THREAD, bytes_text("t"))));
        ck_assert(
            calls->may_have(caller->tier, caller_name(caller, RECORD_THREAD, bytes_text("u"))));
        ck_assert(
            calls->may_have(caller->tier, caller_name(caller, RECORD_TOOL_CALL, bytes_text("c"))));
        ck_assert(
            calls->may_have(caller->tier, caller_name(caller, RECORD_TOOL_CALL, bytes_text("d"))));
        ck_assert(calls->may_have(caller->tier,
                                  caller_name(caller, RECORD_RESPONSE_ID, bytes_text("r"))));
        subject_reopen(&subject);
    }
    /* Most other names it does not, once it has looked at its names. */
    unsigned strangers = 1000;
    for (unsigned tries = 0; tries < 5000 && strangers > 100; tries++) {
        strangers = 0;
        for (unsigned i = 0; i < 1000; i++) {
            struct index_hash name = {.low = i * UINT64_C(0x9e3779b97f4a7c15), .high = i * 77777};
            strangers += calls->may_have(caller->tier, name);
        }
        usleep(1000);
    }
    ck_assert_uint_le(strangers, 100);
}
END_TEST

/* ---- Pages ---- */

START_TEST(pages_list_threads_by_uid)
{
    char line[100];
    struct told_thread threads[25];
    for (unsigned i = 0; i < 25; i++) {
        char id[20];
        snprintf(id, sizeof id, i % 2 ? "odd-%u" : "even-%u", i);
        threads[i] = thread_named(id);
        threads[i].used_ms += i;
        snprintf(line, sizeof line, "append %s : abc", id);
        append(&threads[i], line);
    }
    erase(&threads[3], REASON_EXPIRED);
    subject_reopen(&subject);
    unsigned seen = 0;
    uint64_t after = 0;
    for (bool more = true; more;) {
        const struct tier_load *load = caller_page(caller, after, "", 7);
        ck_assert_int_eq(load->found, TIER_FOUND);
        ck_assert_uint_le(load->page->count, 7);
        for (uint32_t i = 0; i < load->page->count; i++) {
            const struct tier_listed *listed = &load->page->listed[i];
            seen += seen == 3;
            ck_assert_uint_eq(listed->uid, threads[seen].uid);
            ck_assert(
                bytes_equal(bytes_of(listed->id, listed->id_size), bytes_text(threads[seen].id)));
            struct index_hash name =
                caller_name(caller, RECORD_THREAD, bytes_text(threads[seen].id));
            ck_assert_uint_eq(listed->name.low, name.low);
            ck_assert_uint_eq(listed->name.high, name.high);
            ck_assert_uint_eq(listed->version, 1);
            ck_assert_uint_eq(listed->payload_bytes, 3);
            ck_assert_uint_eq(listed->used_ms, CALLER_CREATED_MS + seen);
            seen++;
        }
        more = load->page->more;
        ck_assert(!more || load->page->last_uid > after);
        after = load->page->last_uid;
    }
    ck_assert_uint_eq(seen, 25);
    seen = 0;
    after = 0;
    for (bool more = true; more;) {
        const struct tier_load *load = caller_page(caller, after, "odd-1", 100);
        seen += load->page->count; /* 1, 11, 13, 15, 17, 19 */
        more = load->page->more;
        after = load->page->last_uid;
    }
    ck_assert_uint_eq(seen, 6);
}
END_TEST

/* ---- Time ---- */

START_TEST(due_after_the_retention)
{
    struct told_thread t = thread_named("t");
    struct told_thread u = thread_named("u");
    u.used_ms += 1000000;
    append(&t, "append t : one");
    append(&u, "append u : two");
    ck_assert_str_eq(subject_due(&subject), "");
    uint64_t idle_ms = CALLER_RETENTION_MS + tier_slack_ms(CALLER_RETENTION_MS);
    clock_driven_advance(&wall, idle_ms - 2000);
    ck_assert_str_eq(subject_due(&subject), "");
    clock_driven_advance(&wall, 4000);
    ck_assert_str_eq(subject_due(&subject), "t expired v1 steps 1");
    erase(&t, REASON_EXPIRED);
    THREAD("t", "gone expired v1 steps 1");
    u.used_ms += 500000; /* a later use moves the deadline */
    put_from(&u, u.length, REASON_NONE);
    clock_driven_advance(&wall, 1400000);
    ck_assert_str_eq(subject_due(&subject), "");
    clock_driven_advance(&wall, 200000);
    ck_assert_str_eq(subject_due(&subject), "u expired v1 steps 1");
    THREAD("u", "v1: 0=two"); /* until a lane says so */
}
END_TEST

START_TEST(due_at_the_max_age)
{
    struct told_thread t = thread_named("t");
    t.retention_ms = (uint64_t)MAX_AGE_MS * 10;
    append(&t, "append t : one");
    clock_driven_advance(&wall, MAX_AGE_MS - 2000);
    ck_assert_str_eq(subject_due(&subject), "");
    subject_reopen(&subject);
    clock_driven_advance(&wall, 4000);
    t.used_ms += MAX_AGE_MS; /* use does not help */
    put_from(&t, t.length, REASON_NONE);
    ck_assert_str_eq(subject_due(&subject), "t max_age v1 steps 1");
    erase(&t, REASON_MAX_AGE);
    THREAD("t", "gone max_age v1 steps 1");
}
END_TEST

START_TEST(due_after_a_restart)
{
    struct told_thread t = thread_named("t");
    append(&t, "append t : one");
    subject_reopen(&subject);
    clock_driven_advance(&wall, 2 * CALLER_RETENTION_MS);
    ck_assert_str_eq(subject_due(&subject), "t expired v1 steps 1");
    erase(&t, REASON_EXPIRED);
    subject_reopen(&subject);
    clock_driven_advance(&wall, 2 * CALLER_RETENTION_MS);
    ck_assert_str_eq(subject_due(&subject), "");
}
END_TEST

START_TEST(a_shorter_retention_counts_at_once)
{
    struct told_thread t = thread_named("t");
    append(&t, "append t : one");
    t.retention_ms = 64000;
    put_from(&t, t.length, REASON_NONE);
    clock_driven_advance(&wall, 70000);
    ck_assert_str_eq(subject_due(&subject), "t expired v1 steps 1");
}
END_TEST

START_TEST(tombstones_are_bounded)
{
    const struct tier_calls *calls = caller->tier->calls;
    uint64_t since_ms = calls->vouch_since_ms(caller->tier);
    ck_assert_uint_le(since_ms, CALLER_CREATED_MS);
    char id[20];
    for (unsigned i = 0; i < 3 * TOMBSTONES; i++) {
        snprintf(id, sizeof id, "t%u", i);
        struct told_thread t = thread_named(id);
        t.length = t.version = 1;
        ck_assert_int_eq(caller_submit(caller_erase(caller, &t, REASON_EXPIRED)), STATUS_OK);
        clock_driven_advance(&wall, 10);
        if (i % 100 == 0) {
            caller_wait(caller);
        }
    }
    caller_wait(caller);
    THREAD(id, "gone expired v1 steps 1");
    snprintf(id, sizeof id, "t%u", 3 * TOMBSTONES - TOMBSTONES / 2);
    THREAD(id, "gone expired v1 steps 1");
    THREAD("t0", "absent");
    snprintf(id, sizeof id, "t%u", TOMBSTONES);
    THREAD(id, "absent");
    /* It vouches for no time of which it has forgotten something, and for some. */
    uint64_t values[METRIC_COUNT] = {0};
    calls->metrics(caller->tier, values);
    ck_assert_uint_le(values[METRIC_DISK_TOMBSTONES], TOMBSTONES);
    ck_assert_uint_ge(values[METRIC_DISK_TOMBSTONES], TOMBSTONES / 2);
    since_ms = calls->vouch_since_ms(caller->tier);
    ck_assert_uint_ge(since_ms, CALLER_CREATED_MS + 10 * (2 * TOMBSTONES - 1));
    ck_assert_uint_lt(since_ms, clock_read_ms(&wall.clock));
    subject_reopen(&subject);
    ck_assert_uint_ge(calls->vouch_since_ms(caller->tier), since_ms);
    THREAD("t0", "absent");
}
END_TEST

TIER_RUN(durable_comes_before_applied_and_only_when_asked, events_come_to_the_port_of_the_change,
         steps_are_unpinned, a_load_sees_what_was_applied_before,
         a_change_of_another_generation_is_refused, may_have_knows_every_name,
         pages_list_threads_by_uid, due_after_the_retention, due_at_the_max_age,
         due_after_a_restart, a_shorter_retention_counts_at_once, tombstones_are_bounded)
