/* What every disk tier knows of step keys, and of the appends that had an idempotency key. */
#include "tests/store/test_tier.h"

/* ---- Keys ---- */

START_TEST(the_newest_step_has_the_key)
{
    struct told_thread t = thread_named("t");
    append(&t, "append t call=c : one");
    append(&t, "append t call=c call=c : two");
    CALL("c", "t 1 v2");
    say(&t, "rewind t to=0");
    put_from(&t, 1, REASON_REWOUND);
    CALL("c", "gone rewound"); /* never an older step */
    put_from(&t, t.length, REASON_NONE);
    CALL("c", "gone rewound");
    erase(&t, REASON_EXPIRED); /* step 0 does not have the key any more */
    CALL("c", "gone rewound");
}
END_TEST

START_TEST(a_key_of_two_threads_is_shared_for_good)
{
    struct told_thread t = thread_named("t");
    struct told_thread u = thread_named("u");
    append(&t, "append t call=c : one");
    append(&u, "append u call=c : two");
    CALL("c", "u 0 v1 shared");
    erase(&t, REASON_EXPIRED);
    CALL("c", "u 0 v1 shared");
    append(&u, "append u call=c : three");
    CALL("c", "u 1 v2 shared");
    erase(&u, REASON_FORGOTTEN);
    CALL("c", "gone forgotten shared");
    subject_reopen(&subject);
    CALL("c", "gone forgotten shared");
    struct told_thread again = thread_named("u");
    domain_say(&source, "forget u");
    append(&again, "append u call=c : four");
    CALL("c", "u 0 v1 shared");
}
END_TEST

START_TEST(a_key_is_shared_through_its_tombstone)
{
    struct told_thread t = thread_named("t");
    struct told_thread u = thread_named("u");
    append(&t, "append t call=c response_id=r : one");
    erase(&t, REASON_EXPIRED);
    CALL("c", "gone expired");
    append(&u, "append u call=c : two");
    CALL("c", "u 0 v1 shared");
    RESPONSE("r", "gone expired");
}
END_TEST

START_TEST(kinds_of_keys_are_apart)
{
    struct told_thread t = thread_named("t");
    append(&t, "append t response_id=0123456789abcdef : one");
    append(&t, "append t call=0123456789abcdef : two");
    append(&t, "append t prefix=0123456789abcdef : three");
    RESPONSE("0123456789abcdef", "t 0 v1");
    CALL("0123456789abcdef", "t 1 v2");
    PREFIX("0123456789abcdef", "t 2 v3");
    THREAD("0123456789abcdef", "absent");
}
END_TEST

START_TEST(a_fork_inherits_steps_but_no_keys)
{
    struct told_thread t = thread_named("t");
    struct told_thread f = thread_named("f");
    append(&t, "append t call=c0 : one");
    append(&t, "append t call=c1 : two");
    append(&t, "append t call=c2 : three");
    say(&f, "fork f from=t at=1");
    put_from(&f, 0, REASON_NONE);
    THREAD("f", "v2: 0~one 1~two");
    ck_assert_uint_eq(caller->load.image->steps[0].version, 2); /* head.shared */
    ck_assert_uint_eq(caller->load.image->steps[1].version, 2);
    CALL("c1", "t 1 v2");
    append(&f, "append f call=c3 call=c2 : own");
    THREAD("f", "v3: 0~one 1~two 2=own");
    CALL("c3", "f 2 v3");
    CALL("c2", "f 2 v3 shared");
    /* Its own step in a place where it had inherited one. */
    say(&f, "rewind f to=0");
    put_from(&f, 1, REASON_REWOUND);
    CALL("c1", "t 1 v2");
    append(&f, "append f call=c4 : again");
    THREAD("f", "v5: 0~one 1=again");
    ck_assert_uint_eq(caller->load.image->steps[1].version, 5);
    CALL("c4", "f 1 v5");
    /* The fork owns copies. */
    erase(&t, REASON_FORGOTTEN);
    THREAD("f", "v5: 0~one 1=again");
    CALL("c1", "gone forgotten");
    CALL("c0", "gone forgotten");
    subject_reopen(&subject);
    THREAD("f", "v5: 0~one 1=again");
    erase(&f, REASON_EXPIRED);
    CALL("c0", "gone forgotten");
    CALL("c4", "gone expired");
    CALL("c2", "gone rewound shared");
}
END_TEST

/* ---- Recalls ---- */

static unsigned live_recalls(void)
{
    const struct tier_load *load = caller_load(caller, RECORD_THREAD, bytes_text("t"));
    ck_assert_int_eq(load->found, TIER_FOUND);
    const struct tier_image *image = load->image;
    unsigned live = 0;
    for (uint32_t i = 0; i < image->recall_count; i++) {
        const struct recall_entry *entry = &image->recalls[i];
        if (image->head.appends - entry->ordinal < TIER_RECALL_MAX) {
            ck_assert_uint_eq(entry->key.low, entry->ordinal * 3);
            ck_assert_uint_eq(entry->digest[1], entry->ordinal * 9);
            ck_assert_uint_eq(entry->lost, entry->ordinal % 3);
            ck_assert_int_eq(entry->created, entry->ordinal % 2 == 0);
            live++;
        }
    }
    return live;
}

START_TEST(the_last_64_recalls_are_kept)
{
    struct told_thread t = thread_named("t");
    for (unsigned i = 1; i <= 100; i++) {
        uint32_t from = t.length;
        say(&t, "append t : p");
        struct caller_change *change = caller_put(caller, &source, &t, from, REASON_NONE);
        if (i % 4 != 0) { /* every fourth without a key */
            caller_recall(change, i, from);
        }
        caller_submit(change);
    }
    caller_wait(caller);
    ck_assert_uint_eq(live_recalls(), 48);
    say(&t, "rewind t to=0"); /* forgets none of them */
    put_from(&t, 1, REASON_REWOUND);
    ck_assert_uint_eq(live_recalls(), 48);
    subject_reopen(&subject);
    ck_assert_uint_eq(live_recalls(), 48);
    t.appends += 60;
    put_from(&t, t.length, REASON_NONE);
    ck_assert_uint_eq(live_recalls(), 3);
    struct caller_change *change = caller_put(caller, &source, &t, 0, REASON_NONE);
    caller_recall(change, 159, 0);
    caller_submit(change); /* a whole put says which there are */
    caller_wait(caller);
    ck_assert_uint_eq(live_recalls(), 1);
}
END_TEST

START_TEST(recalls_go_with_their_thread)
{
    struct told_thread t = thread_named("t");
    say(&t, "append t : one");
    struct caller_change *change = caller_put(caller, &source, &t, 0, REASON_NONE);
    caller_recall(change, 1, 0);
    caller_submit(change);
    caller_wait(caller);
    ck_assert_uint_eq(live_recalls(), 1);
    erase(&t, REASON_EXPIRED);
    struct told_thread again = thread_named("t");
    domain_say(&source, "forget t");
    append(&again, "append t : two");
    ck_assert_uint_eq(live_recalls(), 0);
}
END_TEST

TIER_RUN(the_newest_step_has_the_key, a_key_of_two_threads_is_shared_for_good,
         a_key_is_shared_through_its_tombstone, kinds_of_keys_are_apart,
         a_fork_inherits_steps_but_no_keys, the_last_64_recalls_are_kept,
         recalls_go_with_their_thread)
