/* Compact threads: what they take, that they are like others, and unfolding while others look. */
#include "thread/compact.h"

#include "thread/select.h"

#include "tests/lib/crew.h"
#include "tests/lib/suite.h"

static struct domain domain;

static void setup(void)
{
    domain_open(&domain, domain_settings());
}

static void teardown(void)
{
    domain_close(&domain);
}

static struct bytes name_of(char *at, unsigned n)
{
    return bytes_of((uint8_t *)at, (size_t)snprintf(at, 24, "thread-%09u", n));
}

static bool is_compact(const char *id)
{
    struct lookup found = lookup_thread(domain.lane, bytes_text(id));
    ck_assert_ptr_nonnull(found.thread);
    return thread_is_compact(found.thread);
}

/* ---- what they take ---- */

START_TEST(a_short_thread_takes_little)
{
    enum { COUNT = 8192, BYTES = 1024, BESIDE_MAX = 120 };
    static uint8_t payload[BYTES];
    static const uint8_t secret[INDEX_SECRET_BYTES] = {1}; /* or chance has a say in the index */
    domain_close(&domain);
    struct threads_settings settings = domain_settings();
    settings.memory_bytes = UINT64_C(4) << 30; /* with little, the classes are coarser */
    settings.hash_secret = secret;
    domain_open(&domain, settings);
    uint64_t before = domain_metric(&domain, METRIC_USED_BYTES);
    for (unsigned n = 0; n < COUNT; n++) {
        struct ask ask;
        struct thread_append_result result;
        char id[24];
        ask_begin(&ask, WIRE_METHOD_APPEND, name_of(id, n));
        ask_payload(&ask, bytes_of(payload, sizeof payload));
        ck_assert_int_eq(thread_append(domain.lane, &ask.request, &result, &domain.error),
                         STATUS_OK);
    }
    uint64_t each = (domain_metric(&domain, METRIC_USED_BYTES) - before) / COUNT;
    ck_assert_uint_le(each - BYTES - 16, BESIDE_MAX);
}
END_TEST

/* ---- which ones are, and that nobody can tell ---- */

START_TEST(a_plain_step_alone_is_compact)
{
    static const char *const others[] = {"key=k",   "response_id=r", "call=c",     "prefix=p",
                                         "model=m", "tokens=3",      "kind=opaque"};
    char line[64], id[8];
    SAY("append t : one", "step 0 v1 created");
    SAY("append u turn=3 final=0 ttl_ms=77 kind=text : one", "step 0 v1 created");
    ck_assert(is_compact("t") && is_compact("u"));
    for (unsigned i = 0; i < sizeof others / sizeof *others; i++) {
        snprintf(id, sizeof id, "o%u", i);
        snprintf(line, sizeof line, "append %s %s : one", id, others[i]);
        ck_assert_str_eq(domain_say(&domain, line), "step 0 v1 created");
        ck_assert(!is_compact(id));
    }
    SAY("append two : one two", "step 0 v1 created");
    SAY("append long : x*4097", "step 0 v1 created");
    SAY("append most : x*4096", "step 0 v1 created");
    ck_assert(!is_compact("two") && !is_compact("long") && is_compact("most"));
}
END_TEST

START_TEST(what_changes_one_unfolds_it)
{
    static const char *const changes[] = {"append %s turn=4 : two", "fork f%s from=%s",
                                          "rewind %s to=0", "begin %s", "replay %s pin=1"};
    char line[64], id[8];
    for (unsigned i = 0; i < sizeof changes / sizeof *changes; i++) {
        snprintf(id, sizeof id, "t%u", i);
        snprintf(line, sizeof line, "append %s turn=4 final=0 : one", id);
        ck_assert_str_eq(domain_say(&domain, line), "step 0 v1 created");
        domain_wait(&domain, 100);
        snprintf(line, sizeof line, "stat %s", id);
        ck_assert_str_eq(domain_say(&domain, line), "complete v1 steps 1 bytes 3 tokens 0");
        struct thread_stat_result before = domain.stat;
        ck_assert(is_compact(id));
        snprintf(line, sizeof line, changes[i], id, id);
        domain_say(&domain, line);
        ck_assert(!is_compact(id));
        snprintf(line, sizeof line, "stat %s", id);
        domain_say(&domain, line);
        ck_assert_uint_eq(domain.stat.age_ms, before.age_ms);
        snprintf(line, sizeof line, "replay %s policy=last_turns turns=1", id);
        const char *answer = domain_say(&domain, line);
        ck_assert_msg(strstr(answer, "0=one"), "%s", answer);
    }
    lane_tend_fully(domain.lane);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES),
                      3 * sizeof changes / sizeof *changes + 3);
}
END_TEST

/* Who is refused leaves it as it is: it must not cost more memory to be wrong. */
START_TEST(a_stale_append_does_not_unfold_it)
{
    SAY("append t : one", "step 0 v1 created");
    SAY("append t expect=0 : two", "conflict exists v1");
    SAY("append t expect=7 : two", "conflict version v1");
    ck_assert(is_compact("t"));
    SAY("append t expect=1 : two", "step 1 v2");
    ck_assert(!is_compact("t"));
}
END_TEST

/* Between finding it and reading its life word it may be unfolded by another lane. */
START_TEST(its_life_is_read_where_it_went)
{
    SAY("append t ttl_ms=7000 : one", "step 0 v1 created");
    struct lookup found = lookup_thread(domain.lane, bytes_text("t"));
    struct ask ask;
    struct thread_replay_result result = {.head = -1};
    struct wire_error error;
    ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text("t"));
    struct replay replay = {
        .lane = domain.lane, .request = &ask.request, .result = &result, .error = &error};
    struct snapshot now = compact_snapshot(domain.lane, found.thread, &result.alone);
    SAY("append t : two", "step 1 v2");
    ck_assert(life_load(found.thread) & LIFE_DEAD);
    const struct thread *lives = found.thread;
    uint64_t word = lookup_life(domain.lane, &lives);
    ck_assert_ptr_ne(lives, found.thread);
    ck_assert_uint_eq(life_remaining_ms(lives, word, domain.lane->now_ms), 7000);
    ck_assert_int_eq(select_steps(&replay, found.thread, &now, UINT32_MAX), STATUS_OK);
    ck_assert_uint_eq(result.expires_in_ms, 7000);
    ck_assert_uint_eq(result.version, 1);
}
END_TEST

START_TEST(an_aged_one_dies_by_its_age_as_before)
{
    domain_close(&domain);
    struct threads_settings settings = domain_settings();
    settings.max_age_ms = 1500;
    domain_open(&domain, settings);
    SAY("append a : one", "step 0 v1 created");
    SAY("append b : one", "step 0 v1 created");
    domain_wait(&domain, 900);
    SAY("append b : two", "step 1 v2");
    SAY("touch a", "touched");
    ck_assert(is_compact("a") && !is_compact("b"));
    domain_wait(&domain, 599);
    SAY("touch a", "touched");
    SAY("touch b", "touched");
    domain_wait(&domain, 1);
    SAY("stat a", "miss max_age v1");
    SAY("stat b", "miss max_age v2");
}
END_TEST

START_TEST(a_pinned_one_stays)
{
    struct ask ask;
    struct thread_replay_result result;
    enum reason missing;
    for (unsigned unfold = 0; unfold < 2; unfold++) {
        SAY("append t : word*100", "step 0 v1 created");
        ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text("t"));
        ck_assert_int_eq(thread_replay(domain.lane, &ask.request, &result, &domain.error),
                         STATUS_OK);
        const struct step *step = thread_replay_step(domain.lane, &result, 0, &missing);
        struct step_view view;
        step_view(step, &view);
        step_pin(step);
        if (unfold) {
            SAY("append t : two", "step 1 v2");
        }
        SAY("forget t", "forgotten");
        lane_tend_fully(domain.lane);
        SAY("append u : what else would take its place", "step 0 v1 created");
        ck_assert_int_eq(memcmp(view.payload.data + 396, "word", 4), 0);
        step_unpin(step);
        SAY("forget u", "forgotten");
        lane_tend_fully(domain.lane);
        ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 0);
    }
}
END_TEST

/* Not even when it is the last of a page, and stands behind that place from then on. */
START_TEST(an_unfolded_one_is_listed_once)
{
    enum { COUNT = 64 };
    static struct thread_list_result page;
    char line[64];
    uint8_t cursor[THREAD_CURSOR_BYTES];
    struct ask ask;
    unsigned listed = 0;
    for (unsigned n = 0; n < COUNT; n++) {
        snprintf(line, sizeof line, "append t%02u : one", n);
        SAY(line, "step 0 v1 created");
    }
    ask_begin(&ask, WIRE_METHOD_LIST, bytes_of(NULL, 0));
    ask_set(&ask, limit, 1);
    do {
        ck_assert_int_eq(thread_list(domain.lane, &ask.request, &page, &domain.error), STATUS_OK);
        listed += page.count;
        if (page.count > 0) {
            snprintf(line, sizeof line, "append %.3s : two", page.listed[0].id.data);
            SAY(line, "step 1 v2");
        }
        memcpy(cursor, page.cursor, sizeof cursor);
        ask_set(&ask, cursor, bytes_of(cursor, sizeof cursor));
    } while (page.more);
    ck_assert_uint_eq(listed, COUNT);
}
END_TEST

/* ---- unfolding while others look ---- */

/*
 * Each round, threads are unfolded by one, touched with a ttl of their own by another, listed and
 * replayed by a third. Whatever the order, each has its step, its second one, and that very ttl;
 * every third round, one that moves no deadline.
 */
enum { THREADS = 512, LONG_MS = 100000, LESS_MS = 10 };
static uint64_t rounds;
static pthread_barrier_t barrier;
static struct {
    _Atomic bool over;
} state;

static void meet(struct mate *mate)
{
    lane_offline(mate->lane);
    pthread_barrier_wait(&barrier);
    lane_online(mate->lane);
    lane_read_clock(mate->lane);
}

static uint64_t ttl_of(uint64_t round, unsigned n)
{
    return round % 3 == 0 ? LONG_MS + n : round % 3 == 1 ? 1 + n : DOMAIN_TTL_MS - LESS_MS;
}

static void unfold(struct mate *mate)
{
    struct wire_error error;
    struct thread_append_result appended;
    struct thread_stat_result stat;
    struct thread_forget_result forgotten;
    struct ask ask;
    char id[24];
    for (uint64_t round = 0; round < rounds; round++) {
        for (unsigned n = 0; n < THREADS; n++) {
            ask_begin(&ask, WIRE_METHOD_APPEND, name_of(id, n));
            ask_payload(&ask, bytes_text("one"));
            CREW_HOLDS(domain_append(mate->lane, &ask, &appended, &error) == STATUS_OK);
        }
        atomic_store(&state.over, false);
        if (round % 3 == 2) {
            clock_driven_advance(&domain.clock, LESS_MS);
        }
        meet(mate);
        for (unsigned n = 0; n < THREADS; n++) {
            ask_begin(&ask, WIRE_METHOD_APPEND, name_of(id, n));
            ask_payload(&ask, bytes_text("two"));
            CREW_HOLDS(domain_append(mate->lane, &ask, &appended, &error) == STATUS_OK);
            CREW_HOLDS(appended.version == 2 && !appended.created);
        }
        atomic_store(&state.over, true);
        meet(mate);
        for (unsigned n = 0; n < THREADS; n++) {
            ask_begin(&ask, WIRE_METHOD_STAT, name_of(id, n));
            CREW_HOLDS(thread_stat(mate->lane, &ask.request, &stat, &error) == STATUS_OK);
            CREW_HOLDS(stat.state == THREAD_COMPLETE && stat.step_count == 2);
            CREW_HOLDS(stat.expires_in_ms == ttl_of(round, n));
            enum reason missing;
            CREW_HOLDS(thread_touch(mate->lane, name_of(id, n), false, 0, &missing) == STATUS_OK);
            CREW_HOLDS(thread_stat(mate->lane, &ask.request, &stat, &error) == STATUS_OK);
            CREW_HOLDS(stat.expires_in_ms == ttl_of(round, n));
            ask_begin(&ask, WIRE_METHOD_FORGET, name_of(id, n));
            CREW_HOLDS(thread_forget(mate->lane, &ask.request, &forgotten, &error) == STATUS_OK);
        }
        crew_turn(mate);
    }
    crew_done(mate);
}

static void touch(struct mate *mate)
{
    char id[24];
    enum reason missing;
    for (uint64_t round = 0; round < rounds; round++) {
        meet(mate);
        for (unsigned n = 0; n < THREADS; n++) {
            enum status status;
            do {
                status = thread_touch(mate->lane, name_of(id, n), true, ttl_of(round, n), &missing);
            } while (status == STATUS_AGAIN);
            CREW_HOLDS(status == STATUS_OK && missing == REASON_NONE);
        }
        meet(mate);
        crew_turn(mate);
    }
}

/* All of them are listed all the time. */
static void check_list(struct mate *mate)
{
    static struct thread_list_result page;
    struct wire_error error;
    struct ask ask;
    uint8_t cursor[THREAD_CURSOR_BYTES];
    bool seen[THREADS] = {false};
    unsigned distinct = 0;
    ask_begin(&ask, WIRE_METHOD_LIST, bytes_of(NULL, 0));
    do {
        CREW_HOLDS(thread_list(mate->lane, &ask.request, &page, &error) == STATUS_OK);
        for (unsigned i = 0; i < page.count; i++) {
            char digits[10] = {0};
            memcpy(digits, page.listed[i].id.data + 7, 9);
            unsigned n = (unsigned)strtoul(digits, NULL, 10);
            distinct += seen[n] ? 0 : 1;
            CREW_HOLDS(!seen[n]);
            seen[n] = true;
        }
        memcpy(cursor, page.cursor, sizeof cursor);
        ask.request.cursor = bytes_of(cursor, sizeof cursor);
    } while (page.more);
    CREW_HOLDS(distinct == THREADS);
}

static void look(struct mate *mate)
{
    struct wire_error error;
    struct ask ask;
    char id[24];
    for (uint64_t round = 0; round < rounds; round++) {
        meet(mate);
        for (unsigned n = 0; !atomic_load(&state.over); n++) {
            struct thread_replay_result result;
            enum reason missing;
            struct step_view view;
            if (n % 64 == 0) {
                check_list(mate);
            }
            ask_begin(&ask, WIRE_METHOD_REPLAY, name_of(id, n % THREADS));
            ask_set(&ask, touch, false);
            if (n % 2) { /* as a loop with several requests at once */
                struct thread_hint hint;
                thread_prefetch_directory(mate->lane, &ask.request, &hint);
                thread_prefetch_record(mate->lane, &ask.request, &hint);
                thread_prefetch_steps(mate->lane, &ask.request, &hint);
            }
            enum status status = thread_replay(mate->lane, &ask.request, &result, &error);
            CREW_HOLDS(status == STATUS_OK && result.state == THREAD_COMPLETE);
            CREW_HOLDS(result.expires_in_ms > 0);
            CREW_HOLDS(result.end == result.version && result.end >= 1 && result.end <= 2);
            struct thread_stat_result stat;
            CREW_HOLDS(thread_stat(mate->lane, &ask.request, &stat, &error) == STATUS_OK);
            CREW_HOLDS(stat.state == THREAD_COMPLETE && stat.expires_in_ms > 0);
            step_view(thread_replay_step(mate->lane, &result, 0, &missing), &view);
            CREW_HOLDS(bytes_equal(view.payload, bytes_text("one")));
            lane_offline(mate->lane);
            lane_online(mate->lane);
        }
        meet(mate);
        crew_turn(mate);
    }
}

START_TEST(unfolding_disturbs_nobody)
{
    static void (*const works[])(struct mate *) = {unfold, touch, look};
    rounds = trial_count(200);
    pthread_barrier_init(&barrier, NULL, 3);
    crew_run(&domain, 1, 3, works);
    pthread_barrier_destroy(&barrier);
    lane_tend_fully(domain.lane);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 0);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_THREADS_LIVE), 0);
}
END_TEST

int main(void)
{
    return SUITE_RUN("compact", setup, teardown, 60, a_short_thread_takes_little,
                     a_plain_step_alone_is_compact, what_changes_one_unfolds_it,
                     a_stale_append_does_not_unfold_it, its_life_is_read_where_it_went,
                     an_aged_one_dies_by_its_age_as_before, a_pinned_one_stays,
                     an_unfolded_one_is_listed_once, unfolding_disturbs_nobody);
}
