/* What every disk tier does with threads: keeps changes in order and gives them back. */
#include "tests/store/test_tier.h"

/* ---- Giving back ---- */

START_TEST(what_was_never_put_is_absent)
{
    THREAD("t", "absent");
    RESPONSE("r", "absent");
    CALL("c", "absent");
    ck_assert_uint_eq(caller_page(caller, 0, "", 10)->page->count, 0);
    ck_assert(!caller->load.page->more);
    ck_assert(!caller->tier->calls->is_read_only(caller->tier));
    ck_assert(!caller->tier->calls->is_full(caller->tier));
}
END_TEST

START_TEST(a_thread_comes_back_as_it_was)
{
    struct told_thread t = thread_named("t");
    say(&t, "append t turn=3 tokens=7 final=1 model=m1 response_id=r1 prefix=0123456789abcdef "
            "visible=fedcba9876543210 call=c1 call=c2 kind=opaque kind=text kind=tokens : one two "
            "four");
    say(&t, "append t turn=4 final=0 tokens=0 : x*300000");
    say(&t, "append t turn=4");
    t.used_ms += 5;
    t.floor = 2;
    struct caller_change *change = caller_put(caller, &source, &t, 0, REASON_NONE);
    change->tier.head.lost_base = 9;
    caller_recall(change, 2, 1);
    caller_submit(change);
    caller_wait(caller);
    const char *whole =
        "v3 t tenant 0 reason 0 length 3 lost_base 9 shared 0 appends 3 floor 2 created 1000000000 "
        "used "
        "1000000005 ttl 1000 retention 3600000 bytes 300010 tokens 7 [2: 6,10 14,18 1 v2 2 1]: "
        "0=opaque'one|two|tokens'four{v1 turn 3 final tokens 7 r=r1 p=0123456789abcdef "
        "v=fedcba9876543210 m=m1 c=c1 c=c2} 1=x*300000#129f31d18fb4c8a5{v2 turn 4 tokens 0 r= p= "
        "v= "
        "m=} 2={v3 turn 4 final r= p= v= m=}";
    ck_assert_str_eq(caller_show_whole(caller, RECORD_THREAD, "t"), whole);
    ck_assert_uint_eq(caller->load.image->head.uid, t.uid);
    RESPONSE("r1", "t 0 v1");
    ck_assert_uint_eq(caller->load.key.uid, t.uid);
    CALL("c1", "t 0 v1");
    CALL("c2", "t 0 v1");
    PREFIX("0123456789abcdef", "t 0 v1");
    subject_reopen(&subject);
    ck_assert_str_eq(caller_show_whole(caller, RECORD_THREAD, "t"), whole);
    CALL("c2", "t 0 v1");
    PREFIX("0123456789abcdef", "t 0 v1");
}
END_TEST

START_TEST(ids_are_compared_in_full)
{
    struct told_thread t = thread_named("t");
    append(&t, "append t : one");
    struct tier_load wanted = {.kind = TIER_LOAD_THREAD,
                               .record_kind = RECORD_THREAD,
                               .name = caller_name(caller, RECORD_THREAD, bytes_text("t")),
                               .id_size = 1,
                               .id = {'u'},
                               .port = caller->port};
    caller_load(caller, RECORD_THREAD, bytes_text("t"));
    free(caller->load.image);
    caller->load = wanted; /* another id of the same hash */
    ck_assert_int_eq(caller->tier->calls->load(caller->tier, &caller->load), STATUS_OK);
    caller->loading = true;
    while (caller->loading) {
        subject_settle(&subject);
        caller_collect(caller);
    }
    ck_assert_int_eq(caller->load.found, TIER_ABSENT);
}
END_TEST

START_TEST(payloads_of_all_sizes)
{
    char line[100];
    struct told_thread t = thread_named("t");
    static const size_t sizes[] = {1, 63, 64, 4000, 4063, 4064, 4065, 8128, 70000, 1000000};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        snprintf(line, sizeof line, "append t : %c*%zu", 'a' + (int)i, sizes[i]);
        append(&t, line);
    }
    subject_reopen(&subject);
    caller_load(caller, RECORD_THREAD, bytes_text("t"));
    ck_assert_int_eq(caller->load.found, TIER_FOUND);
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct bytes payload = caller->load.image->steps[i].payload;
        ck_assert_uint_eq(payload.size, sizes[i]);
        for (size_t at = 0; at < payload.size; at++) {
            ck_assert_int_eq(payload.data[at], 'a' + (int)i);
        }
    }
}
END_TEST

START_TEST(payloads_that_do_not_compress)
{
    enum { BYTES = 30000 };
    uint64_t random = 7;
    uint8_t payload[BYTES];
    for (unsigned i = 0; i < BYTES; i++) {
        payload[i] = (uint8_t)trial_random(&random);
    }
    struct told_thread t = thread_named("t");
    struct ask ask;
    struct thread_append_result result;
    struct wire_error error;
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
    ask_payload(&ask, bytes_of(payload, BYTES));
    ck_assert_int_eq(domain_append(source.lane, &ask, &result, &error), STATUS_OK);
    append(&t, "append t : two");
    put_from(&t, 0, REASON_NONE);
    const struct tier_load *load = caller_load(caller, RECORD_THREAD, bytes_text("t"));
    ck_assert_int_eq(load->found, TIER_FOUND);
    ck_assert(bytes_equal(load->image->steps[0].payload, bytes_of(payload, BYTES)));
}
END_TEST

START_TEST(many_steps)
{
    enum { STEPS = 2000 };
    struct told_thread t = thread_named("t");
    char line[100];
    for (unsigned i = 0; i < STEPS; i++) {
        snprintf(line, sizeof line, "append t call=c%u : p%u", i, i);
        say(&t, line);
    }
    put_from(&t, 0, REASON_NONE);
    subject_reopen(&subject);
    const struct tier_load *load = caller_load(caller, RECORD_THREAD, bytes_text("t"));
    ck_assert_int_eq(load->found, TIER_FOUND);
    ck_assert_uint_eq(load->image->step_count, STEPS);
    for (unsigned i = 0; i < STEPS; i++) {
        snprintf(line, sizeof line, "p%u", i);
        ck_assert(bytes_equal(load->image->steps[i].payload, bytes_text(line)));
    }
    CALL("c1999", "t 1999 v2000");
    erase(&t, REASON_EXPIRED);
    THREAD("t", "gone expired v2000 steps 2000");
    CALL("c1999", "gone expired");
}
END_TEST

START_TEST(a_corrupt_step_stays_one)
{
    struct told_thread t = thread_named("t");
    say(&t, "append t : one");
    say(&t, "append t call=c1 : two");
    say(&t, "append t call=c2 : three");
    struct caller_change *change = caller_put(caller, &source, &t, 0, REASON_NONE);
    step_unpin(change->steps[1]);
    change->steps[1] = NULL;
    caller_submit(change);
    caller_wait(caller);
    THREAD("t", "v3: 0=one 1? 2=three");
    CALL("c1", "absent");
    CALL("c2", "t 2 v3");
    erase(&t, REASON_FORGOTTEN);
    THREAD("t", "gone forgotten v3 steps 3");
}
END_TEST

START_TEST(lost_steps_are_not_there)
{
    struct told_thread t = thread_named("t");
    say(&t, "append t : one");
    say(&t, "append t : two");
    say(&t, "append t call=c : three");
    t.lost = 2;
    put_from(&t, 0, REASON_NONE);
    THREAD("t", "v3 lost 2: 2=three");
    ck_assert_int_eq(caller->load.image->head.lost_reason, REASON_EVICTED);
    append(&t, "append t : four");
    THREAD("t", "v4 lost 2: 2=three 3=four");
    CALL("c", "t 2 v3");
    say(&t, "rewind t to=0"); /* into what is lost */
    t.lost = 1;
    put_from(&t, 1, REASON_REWOUND);
    THREAD("t", "v5 lost 1:");
    CALL("c", "gone rewound");
}
END_TEST

/* ---- Changes ---- */

START_TEST(appends_add_to_what_is_there)
{
    struct told_thread t = thread_named("t");
    append(&t, "append t : one");
    THREAD("t", "v1: 0=one");
    append(&t, "append t : two");
    append(&t, "append t response_id=r : three");
    THREAD("t", "v3: 0=one 1=two 2=three");
    RESPONSE("r", "t 2 v3");
    t.used_ms += 77;
    put_from(&t, t.length, REASON_NONE); /* only the head */
    THREAD("t", "v3: 0=one 1=two 2=three");
    ck_assert_uint_eq(caller->load.image->head.used_ms, CALLER_CREATED_MS + 77);
    RESPONSE("r", "t 2 v3");
}
END_TEST

static void check_floor(uint32_t floor)
{
    THREAD("t", "v2: 0=one 1=two");
    ck_assert_uint_eq(caller->load.image->head.floor, floor);
    CALL("c", "t 1 v2");
}

START_TEST(a_put_may_change_nothing_but_the_floor)
{
    struct told_thread t = thread_named("t");
    append(&t, "append t : one");
    append(&t, "append t call=c : two");
    check_floor(0);
    t.floor = 1;
    put_from(&t, t.length, REASON_NONE);
    check_floor(1);
    subject_reopen(&subject);
    check_floor(1);
    t.floor = UINT32_MAX;
    put_from(&t, t.length, REASON_NONE);
    t.floor = 0; /* it may also fall */
    put_from(&t, t.length, REASON_NONE);
    subject_reopen(&subject);
    check_floor(0);
}
END_TEST

START_TEST(a_rewind_drops_steps_and_keys)
{
    struct told_thread t = thread_named("t");
    append(&t, "append t response_id=r0 : one");
    append(&t, "append t response_id=r1 call=c prefix=pppppppppppppppp : two");
    append(&t, "append t response_id=r2 : x*20000");
    say(&t, "rewind t to=0");
    put_from(&t, 1, REASON_REWOUND);
    THREAD("t", "v4: 0=one");
    RESPONSE("r0", "t 0 v1");
    RESPONSE("r1", "gone rewound");
    RESPONSE("r2", "gone rewound");
    CALL("c", "gone rewound");
    PREFIX("pppppppppppppppp", "gone rewound");
    append(&t, "append t response_id=r2 : new");
    THREAD("t", "v5: 0=one 1=new");
    RESPONSE("r1", "gone rewound");
    RESPONSE("r2", "t 1 v5"); /* its own tombstone: not shared */
    say(&t, "rewind t to=-1");
    put_from(&t, 0, REASON_REWOUND);
    THREAD("t", "v6:");
    RESPONSE("r0", "gone rewound");
    subject_reopen(&subject);
    THREAD("t", "v6:");
    RESPONSE("r2", "gone rewound");
}
END_TEST

START_TEST(a_put_may_drop_and_add_at_once)
{
    struct told_thread t = thread_named("t");
    append(&t, "append t : one");
    append(&t, "append t response_id=r1 call=c : two");
    say(&t, "rewind t to=0");
    say(&t, "append t call=c : three");
    put_from(&t, 1, REASON_REWOUND);
    THREAD("t", "v4: 0=one 1=three");
    RESPONSE("r1", "gone rewound");
    CALL("c", "t 1 v4");
}
END_TEST

START_TEST(a_whole_put_replaces_everything)
{
    struct told_thread t = thread_named("t");
    struct told_thread u = thread_named("u");
    append(&t, "append t response_id=r0 call=c : one");
    append(&t, "append t response_id=r1 : two");
    append(&u, "append u call=c : other");
    append(&t, "append t call=c : three");
    CALL("c", "t 2 v3 shared");
    say(&t, "rewind t to=0"); /* which the tier is not told by itself */
    say(&t, "append t call=c : four");
    put_from(&t, 0, REASON_REWOUND);
    THREAD("t", "v5: 0=one 1=four");
    RESPONSE("r0", "t 0 v1");
    RESPONSE("r1", "gone rewound");
    CALL("c", "t 1 v5 shared"); /* that sticks */
    put_from(&t, 0, REASON_REWOUND);
    THREAD("t", "v5: 0=one 1=four");
    RESPONSE("r0", "t 0 v1");
    CALL("c", "t 1 v5 shared");
    say(&t, "append t response_id=r2 : five");
    put_from(&t, 0, REASON_NONE);
    say(&t, "rewind t to=1");
    put_from(&t, 0, REASON_NONE);
    THREAD("t", "v7: 0=one 1=four");
    RESPONSE("r2", "absent"); /* without a reason no tombstone */
}
END_TEST

START_TEST(an_erased_thread_leaves_tombstones)
{
    struct told_thread t = thread_named("t");
    say(&t, "append t response_id=r call=c : one");
    say(&t, "append t prefix=pppppppppppppppp : x*9000");
    put_from(&t, 0, REASON_NONE);
    erase(&t, REASON_MAX_AGE);
    THREAD("t", "gone max_age v2 steps 2");
    RESPONSE("r", "gone max_age");
    CALL("c", "gone max_age");
    PREFIX("pppppppppppppppp", "gone max_age");
    ck_assert_uint_eq(caller->load.tombstone.version,
                      (uint32_t)caller_name(caller, RECORD_THREAD, bytes_text("t")).high);
    subject_reopen(&subject);
    THREAD("t", "gone max_age v2 steps 2");
    CALL("c", "gone max_age");
    /* The name comes back to life. */
    struct told_thread again = thread_named("t");
    domain_say(&source, "forget t");
    append(&again, "append t call=c : new");
    THREAD("t", "v1: 0=new");
    CALL("c", "t 0 v1"); /* the same name wrote it: not shared */
    RESPONSE("r", "gone max_age");
    erase(&again, REASON_FORGOTTEN);
    THREAD("t", "gone forgotten v1 steps 1");
}
END_TEST

START_TEST(an_erasure_without_a_reason_leaves_nothing)
{
    struct told_thread t = thread_named("t");
    append(&t, "append t response_id=r call=c prefix=pppppppppppppppp : one");
    erase(&t, REASON_NONE);
    THREAD("t", "absent");
    RESPONSE("r", "absent");
    CALL("c", "absent");
    PREFIX("pppppppppppppppp", "absent");
    ck_assert_uint_eq(caller_page(caller, 0, "", 10)->page->count, 0);
}
END_TEST

START_TEST(what_is_not_there_can_be_erased)
{
    struct told_thread t = thread_named("t");
    t.length = t.version = 4;
    erase(&t, REASON_EXPIRED);
    THREAD("t", "gone expired v4 steps 4");
    erase(&t, REASON_NONE);
    struct told_thread u = thread_named("u");
    erase(&u, REASON_NONE);
    THREAD("u", "absent");
}
END_TEST

START_TEST(a_younger_uid_takes_the_name)
{
    struct told_thread old = thread_named("t");
    append(&old, "append t response_id=r call=c : old");
    struct told_thread young = thread_named("t");
    ck_assert_uint_gt(young.uid, old.uid);
    domain_say(&source, "forget t");
    append(&young, "append t call=c : young");
    THREAD("t", "v1: 0=young");
    CALL("c", "t 0 v1");
    ck_assert_uint_eq(caller->load.key.uid, young.uid);
    RESPONSE("r", "t 0 v1");
    ck_assert_uint_eq(caller->load.key.uid, old.uid);
    erase(&old, REASON_EXPIRED);
    THREAD("t", "v1: 0=young");
    CALL("c", "t 0 v1");
    RESPONSE("r", "gone expired");
    subject_reopen(&subject);
    THREAD("t", "v1: 0=young");
    const struct tier_load *load = caller_page(caller, 0, "", 10);
    ck_assert_uint_eq(load->page->count, 1);
    ck_assert_uint_eq(load->page->listed[0].uid, young.uid);
    erase(&young, REASON_NONE);
    THREAD("t", "absent"); /* and no tombstone of the old one's below */
}
END_TEST

START_TEST(an_older_life_leaves_the_tombstone_of_a_younger_one)
{
    struct told_thread old = thread_named("t");
    append(&old, "append t response_id=r : old");
    struct told_thread young = thread_named("t");
    domain_say(&source, "forget t");
    append(&young, "append t : young");
    append(&young, "append t : younger");
    erase(&young, REASON_FORGOTTEN);
    THREAD("t", "gone forgotten v2 steps 2");
    erase(&old, REASON_EXPIRED);
    THREAD("t", "gone forgotten v2 steps 2");
    RESPONSE("r", "gone expired");
    /* The youngest counts, even if it never came to the disk; what is left of others has no name.
     */
    struct told_thread left = thread_named("t");
    domain_say(&source, "forget t");
    append(&left, "append t : left");
    struct told_thread unknown = thread_named("t");
    unknown.length = unknown.version = 7;
    erase(&unknown, REASON_EXPIRED);
    THREAD("t", "gone expired v7 steps 7");
    erase(&left, REASON_FORGOTTEN);
    THREAD("t", "gone expired v7 steps 7");
}
END_TEST

START_TEST(uids_are_never_used_again)
{
    uint64_t last = 0;
    for (unsigned i = 0; i < 50; i++) {
        struct told_thread t = thread_named("t");
        ck_assert_uint_gt(t.uid, last);
        last = t.uid;
        if (i % 5 == 0) {
            domain_say(&source, "forget t");
            say(&t, "append t : one");
            caller_keep(caller, &source, &t);
            caller_wait(caller);
        }
        if (i % 10 == 0) {
            erase(&t, REASON_EXPIRED);
            subject_reopen(&subject);
        }
    }
}
END_TEST

TIER_RUN(what_was_never_put_is_absent, a_thread_comes_back_as_it_was, ids_are_compared_in_full,
         payloads_of_all_sizes, payloads_that_do_not_compress, many_steps, a_corrupt_step_stays_one,
         lost_steps_are_not_there, appends_add_to_what_is_there,
         a_put_may_change_nothing_but_the_floor, a_rewind_drops_steps_and_keys,
         a_put_may_drop_and_add_at_once, a_whole_put_replaces_everything,
         an_erased_thread_leaves_tombstones, an_erasure_without_a_reason_leaves_nothing,
         what_is_not_there_can_be_erased, a_younger_uid_takes_the_name,
         an_older_life_leaves_the_tombstone_of_a_younger_one, uids_are_never_used_again)
