/*
 * What every disk tier does, said once and tried on the reference model and on the store.
 *
 * Each test hands changes of real steps to the tier, lets them take effect, and asks; "reopen"
 * means that the answer must be the same after a restart.
 */
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"
#include "tests/store/tier_subject.h"

static enum subject_kind kind;
static struct clock_driven wall;
static struct domain source;
static struct subject subject;
static struct tier_caller *const caller = &subject.caller;

enum { TOMBSTONES = 2500, MAX_AGE_MS = 100 * CALLER_RETENTION_MS };

#define THREAD(id, answer)   ck_assert_str_eq(caller_show(caller, RECORD_THREAD, id), answer)
#define RESPONSE(id, answer) ck_assert_str_eq(caller_show(caller, RECORD_RESPONSE_ID, id), answer)
#define CALL(id, answer)     ck_assert_str_eq(caller_show(caller, RECORD_TOOL_CALL, id), answer)
#define PREFIX(id, answer)   ck_assert_str_eq(caller_show(caller, RECORD_PREFIX, id), answer)

static void setup(void)
{
    struct threads_settings settings = domain_settings();
    settings.memory_bytes = 256 << 20;
    settings.frame_max_bytes = 64 << 20;
    domain_open(&source, settings);
    clock_driven_init(&wall, CALLER_CREATED_MS);
    subject = (struct subject){
        .kind = kind, .wall = &wall, .max_age_ms = MAX_AGE_MS, .tombstones = TOMBSTONES};
    subject_open(&subject);
}

static void teardown(void)
{
    subject_close(&subject);
    domain_close(&source); /* no step is pinned any more */
}

static void say(struct told_thread *thread, const char *line)
{
    caller_say(&source, thread, line);
}

/* Hands in what is new since position `from` and lets it take effect. */
static void put_from(const struct told_thread *thread, uint32_t from, enum reason reason)
{
    ck_assert_int_eq(caller_submit(caller_put(caller, &source, thread, from, reason)), STATUS_OK);
    caller_wait(caller);
}

static void append(struct told_thread *thread, const char *line)
{
    uint32_t from = thread->length;
    say(thread, line);
    put_from(thread, from, REASON_NONE);
}

static void erase(const struct told_thread *thread, enum reason reason)
{
    ck_assert_int_eq(caller_submit(caller_erase(caller, thread, reason)), STATUS_OK);
    caller_wait(caller);
}

static struct told_thread thread_named(const char *id)
{
    return caller_thread(caller, id);
}

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
            "call=c1 call=c2 kind=opaque kind=text kind=tokens : one two four");
    say(&t, "append t turn=4 final=0 tokens=0 : x*300000");
    say(&t, "append t turn=4");
    t.used_ms += 5;
    struct caller_change *change = caller_put(caller, &source, &t, 0, REASON_NONE);
    change->tier.head.lost_base = 9;
    caller_recall(change, 2, 1);
    caller_submit(change);
    caller_wait(caller);
    const char *whole =
        "v3 t tenant 0 reason 0 length 3 lost_base 9 shared 0 appends 3 created 1000000000 used "
        "1000000005 ttl 1000 retention 3600000 bytes 300010 tokens 7 [2: 6,10 14,18 1 v2 2 1]: "
        "0=opaque'one|two|tokens'four{v1 turn 3 final tokens 7 r=r1 p=0123456789abcdef m=m1 c=c1 "
        "c=c2} 1=x*300000#129f31d18fb4c8a5{v2 turn 4 tokens 0 r= p= m=} 2={v3 turn 4 final r= p= "
        "m=}";
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
    uint64_t idle_ms = CALLER_RETENTION_MS + CALLER_RETENTION_MS / 64;
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

int main(void)
{
    int failed = 0;
    for (int i = 0; i < SUBJECT_KINDS; i++) {
        kind = (enum subject_kind)i;
        failed |= SUITE_RUN(
            subject_names[i], setup, teardown, 60, what_was_never_put_is_absent,
            a_thread_comes_back_as_it_was, ids_are_compared_in_full, payloads_of_all_sizes,
            payloads_that_do_not_compress, many_steps, a_corrupt_step_stays_one,
            lost_steps_are_not_there, appends_add_to_what_is_there, a_rewind_drops_steps_and_keys,
            a_put_may_drop_and_add_at_once, a_whole_put_replaces_everything,
            an_erased_thread_leaves_tombstones, an_erasure_without_a_reason_leaves_nothing,
            what_is_not_there_can_be_erased, a_younger_uid_takes_the_name,
            an_older_life_leaves_the_tombstone_of_a_younger_one, uids_are_never_used_again,
            the_newest_step_has_the_key, a_key_of_two_threads_is_shared_for_good,
            a_key_is_shared_through_its_tombstone, kinds_of_keys_are_apart,
            a_fork_inherits_steps_but_no_keys, the_last_64_recalls_are_kept,
            recalls_go_with_their_thread, durable_comes_before_applied_and_only_when_asked,
            events_come_to_the_port_of_the_change, steps_are_unpinned,
            a_load_sees_what_was_applied_before, a_change_of_another_generation_is_refused,
            may_have_knows_every_name, pages_list_threads_by_uid, due_after_the_retention,
            due_at_the_max_age, due_after_a_restart, a_shorter_retention_counts_at_once,
            tombstones_are_bounded);
    }
    return failed;
}
