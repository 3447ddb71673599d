/*
 * The load generator against a server that answers wrongly, late, in pieces or in another order:
 * nothing wrong passes, and in an open loop a stall is charged to all whom it kept waiting.
 */
#include "bench/load.h"

#include "tests/bench/fake.h"
#include "tests/lib/suite.h"

enum { POOL = 4096, VALUE = 100, MS = 1000000 };

static uint8_t pool[POOL + FAKE_VALUE_MAX];
static struct protocol_values values = {
    .pool = pool, .pool_bytes = POOL, .value_bytes = VALUE, .ttl_s = 300, .series = 77};
static struct fake fake;
static struct load *load;
static struct load_result result;
static struct hist hist;
static char error[LOAD_ERROR_BYTES];

static void setup(void)
{
    for (size_t i = 0; i < sizeof pool; i++) {
        pool[i] = (uint8_t)protocol_mix(i + 1);
    }
    fake = (struct fake){.values = &values};
    hist_clear(&hist);
}

static void teardown(void)
{
    load_close(load);
    fake_stop(&fake);
}

static struct load *open_more(unsigned connections, unsigned in_flight)
{
    const struct load_shape shape = {.connections = connections,
                                     .in_flight = in_flight,
                                     .request_bytes_max = values.value_bytes,
                                     .reply_bytes_max = values.value_bytes,
                                     .steps_max = 1};
    struct load *more = load_open(&fake_protocol, &fake.server, &shape, error);
    ck_assert_msg(more != NULL, "%s", error);
    return more;
}

static void open_with(unsigned connections, unsigned in_flight)
{
    fake_start(&fake);
    load = open_more(connections, in_flight);
}

/* The tests' own clock: how slow the machine is just now decides nothing. */
static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 * MS + (uint64_t)now.tv_nsec;
}

static struct load_any any = {.threads = 1000};
static struct load_each each;

static struct load_job job_each(uint32_t threads)
{
    each = (struct load_each){.op = PROTOCOL_APPEND, .end = threads};
    return (struct load_job){.values = &values, .next = load_each, .context = &each};
}

static struct load_job job_any(uint64_t count, double rate)
{
    return (struct load_job){.values = &values,
                             .next = load_any,
                             .context = &any,
                             .count = count,
                             .rate = rate,
                             .hist_ns = &hist};
}

static void run(const struct load_job *job)
{
    bool good = load_run(load, job, &result);
    ck_assert_msg(good, "%s", result.error);
}

static void expect_each_once(uint32_t threads)
{
    ck_assert_uint_eq(fake.requests, threads);
    for (uint32_t i = 0; i < threads; i++) {
        ck_assert_msg(fake.asked[i] == 1, "%u was asked for %u times", i, fake.asked[i]);
    }
}

START_TEST(test_each_once)
{
    open_with(3, 7);
    struct load_job job = job_each(1000);
    run(&job);
    ck_assert_uint_eq(result.count, 1000);
    ck_assert(result.seconds > 0 && result.requests_per_second > 0);
    ck_assert(result.server_cpu_ns == 0);
    expect_each_once(1000);
    /* The same connections serve the next job. */
    each = (struct load_each){.op = PROTOCOL_APPEND, .thread = 1000, .end = 1500};
    run(&job);
    ck_assert_uint_eq(result.count, 500);
    expect_each_once(1500);
}
END_TEST

START_TEST(test_each_once_in_open_loop)
{
    open_with(3, 2);
    struct load_job job = job_each(500);
    job.rate = 5000;
    run(&job);
    ck_assert_uint_eq(result.count, 500);
    ck_assert(result.seconds >= 0.099);
    expect_each_once(500);
}
END_TEST

START_TEST(test_count)
{
    open_with(4, 8);
    struct load_job job = job_any(333, 0);
    run(&job);
    ck_assert_uint_eq(result.count, 333);
    ck_assert_uint_eq(hist.count, 333);
    ck_assert(hist.max > 0);
    job.rate = 10000;
    run(&job);
    ck_assert_uint_eq(result.count, 333);
    ck_assert_uint_eq(hist.count, 666);
}
END_TEST

START_TEST(test_seconds)
{
    open_with(2, 4);
    struct load_job job = job_any(0, 0);
    job.seconds = 0.1;
    /* Kept from running for all of that time it sends only what all start with: then once more. */
    for (unsigned i = 0; result.count <= 8 && i < 100; i++) {
        run(&job);
        ck_assert(result.seconds >= 0.1);
    }
    ck_assert_uint_gt(result.count, 8);
    job.rate = 1000;
    run(&job);
    ck_assert_uint_eq(result.count, 100);
}
END_TEST

START_TEST(test_all_of_it_is_different)
{
    open_with(1, 1);
    any = (struct load_any){.threads = 100, .state = 1};
    struct load_job job = job_any(2000, 0);
    run(&job);
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_uint_gt(fake.asked[i], 0);
    }
    ck_assert_uint_eq(fake.asked[100], 0);
}
END_TEST

START_TEST(test_pieces)
{
    fake.piece = 33;
    open_with(2, 5);
    struct load_job job = job_each(100);
    run(&job);
    expect_each_once(100);
}
END_TEST

static bool next_long(void *context, unsigned connection, struct protocol_item *item)
{
    bool more = load_each(context, connection, item);
    item->step = 60000;
    return more;
}

/* One connection whose batch is more than what the generator, and what the socket, take at once. */
START_TEST(test_long_requests)
{
    fake.is_long = true;
    fake_start(&fake);
    const struct load_shape shape = {.connections = 1,
                                     .in_flight = PROTOCOL_IN_FLIGHT_MAX,
                                     .request_bytes_max = 60000,
                                     .reply_bytes_max = VALUE,
                                     .steps_max = 1};
    load = load_open(&fake_protocol, &fake.server, &shape, error);
    ck_assert_ptr_nonnull(load);
    struct load_job job = job_each(1000);
    job.next = next_long;
    run(&job);
    expect_each_once(1000);
}
END_TEST

START_TEST(test_other_order)
{
    fake.reversed = true;
    open_with(2, 50);
    struct load_job job = job_each(1000);
    job.hist_ns = &hist;
    run(&job);
    expect_each_once(1000);
    ck_assert_uint_eq(hist.count, 1000);
}
END_TEST

/* ---- Stalls ---- */

/* 1000 requests, of which the server sleeps before one for 300 ms. */
static void run_with_stall(struct load_job job)
{
    fake.fault = FAKE_STALL;
    fake.fault_at = 300;
    fake.stall_ms = 300;
    open_with(2, 1);
    run(&job);
    ck_assert_uint_eq(result.count, 1000);
    ck_assert_uint_ge(hist.max, (uint64_t)300 * MS);
}

START_TEST(test_stall_is_charged)
{
    run_with_stall(job_any(1000, 1000));
    /* Of 1000, those of 200 ms had to wait 100 ms or more, though two at most were ever sent. */
    ck_assert_uint_ge(hist_percentile(&hist, 0.81), (uint64_t)100 * MS);
}
END_TEST

static uint64_t latencies_ns;

static void add_latency(void *context, unsigned connection, const struct protocol_item *item,
                        uint64_t latency_ns)
{
    (void)context;
    (void)connection;
    (void)item;
    latencies_ns += latency_ns;
}

START_TEST(test_closed_loop_does_not_charge_it)
{
    struct load_job job = job_any(1000, 0);
    job.done = add_latency;
    run_with_stall(job);
    /* Only those wait that were sent: one on each connection at a time. */
    ck_assert_uint_le(latencies_ns, (uint64_t)(2 * result.seconds * 1e9));
}
END_TEST

enum { CROWD = 500 };

static struct crowd {
    struct load_each each;
    uint64_t asked_ns[CROWD];
    uint64_t latency_ns[CROWD];
} crowd;

static bool next_of_crowd(void *context, unsigned connection, struct protocol_item *item)
{
    bool more = load_each(context, connection, item);
    if (more) {
        crowd.asked_ns[item->thread] = clock_ns();
    }
    return more;
}

static void one_of_crowd(void *context, unsigned connection, const struct protocol_item *item,
                         uint64_t latency_ns)
{
    (void)context;
    (void)connection;
    crowd.latency_ns[item->thread] = latency_ns;
}

START_TEST(test_slow_generator_is_charged)
{
    /* Far more than can be sent: all are due at once, and each waited until it was its turn. */
    open_with(2, 1);
    crowd.each = (struct load_each){.op = PROTOCOL_APPEND, .end = CROWD};
    struct load_job job = {.values = &values,
                           .next = next_of_crowd,
                           .done = one_of_crowd,
                           .context = &crowd.each,
                           .count = CROWD,
                           .rate = 1e9};
    run(&job);
    ck_assert_uint_eq(result.count, CROWD);
    for (unsigned i = 0; i < CROWD; i++) {
        uint64_t waited_ns = crowd.asked_ns[i] - crowd.asked_ns[0];
        ck_assert_uint_ge(crowd.latency_ns[i] + CROWD, waited_ns);
    }
    ck_assert_uint_gt(crowd.asked_ns[CROWD - 1], crowd.asked_ns[0] + 10 * CROWD);
}
END_TEST

/* ---- Wrong answers ---- */

static const struct {
    enum fake_fault fault;
    const char *message;
} faults[] = {
    {FAKE_WRONG, "wrong reply of 104 bytes"},
    {FAKE_SHORT, "wrong reply of 103 bytes"},
    {FAKE_OTHER, "wrong reply of 104 bytes"},
    {FAKE_TWICE, "wrong reply of 104 bytes"},
    {FAKE_MARK, "wrong reply of"},
    {FAKE_CLOSED, "closed a connection"},
};

enum { FAULTS = sizeof faults / sizeof *faults };

START_TEST(test_fault)
{
    bool is_open = _i >= FAULTS;
    fake.fault = faults[_i % FAULTS].fault;
    fake.fault_at = 123;
    open_with(1, 1);
    struct load_job job = job_any(1000, is_open ? 20000 : 0);
    ck_assert(!load_run(load, &job, &result));
    const char *message = faults[_i % FAULTS].message;
    ck_assert_msg(strstr(result.error, message) != NULL, "%s", result.error);
    ck_assert_ptr_nonnull(strstr(result.error, "fake: "));
    ck_assert_uint_ge(result.count, 123);
    ck_assert_uint_le(result.count, 124);
}
END_TEST

static unsigned slot_in_order(const uint8_t *reply, unsigned next)
{
    (void)reply;
    return next;
}

/* Of a protocol whose replies name nothing, another order is a wrong reply. */
START_TEST(test_order_that_is_not_allowed)
{
    fake.reversed = true;
    fake_start(&fake);
    struct protocol in_order = fake_protocol;
    in_order.reply_slot = slot_in_order;
    const struct load_shape shape = {
        .connections = 1, .in_flight = 8, .request_bytes_max = VALUE, .reply_bytes_max = VALUE};
    load = load_open(&in_order, &fake.server, &shape, error);
    ck_assert_ptr_nonnull(load);
    struct load_job job = job_each(100);
    ck_assert(!load_run(load, &job, &result));
    ck_assert_ptr_nonnull(strstr(result.error, "wrong reply of 104 bytes"));
}
END_TEST

START_TEST(test_no_server)
{
    fake_start(&fake);
    struct server nobody = fake.server;
    nobody.address.sin_port = htons(1);
    const struct load_shape shape = {.connections = 1, .in_flight = 1};
    ck_assert_ptr_null(load_open(&fake_protocol, &nobody, &shape, error));
    ck_assert_ptr_nonnull(strstr(error, "cannot connect"));
}
END_TEST

/* ---- Beside ---- */

enum { WATCH_MS = 20 };

static struct watched {
    struct load_any any;
    unsigned calls;
    double last_seconds;
    unsigned asked;
    uint64_t first_ns;     /* of what was asked */
    uint64_t before_ns[2]; /* the last, and the one before it */
} watched;

static void note_watch(void *context, double seconds)
{
    ck_assert_ptr_eq(context, &watched);
    ck_assert(watched.calls == 0 || seconds > watched.last_seconds + (WATCH_MS - 1e-3) / 1e3);
    watched.last_seconds = seconds;
    watched.calls++;
}

/* One request, one turn: in the turn of the one before the last the watch was due at the latest. */
static bool next_watched(void *context, unsigned connection, struct protocol_item *item)
{
    uint64_t now_ns = clock_ns();
    watched.first_ns = watched.asked == 0 ? now_ns : watched.first_ns;
    if (watched.asked++ >= 2) {
        double due = (double)(watched.before_ns[1] - watched.first_ns) / 1e9 - WATCH_MS / 1e3;
        ck_assert(watched.calls > 0 && watched.last_seconds >= due);
    }
    watched.before_ns[1] = watched.before_ns[0];
    watched.before_ns[0] = now_ns;
    return load_any(context, connection, item);
}

START_TEST(test_watch)
{
    open_with(1, 1);
    watched = (struct watched){.any.threads = 1000};
    struct load_job job = {.values = &values,
                           .next = next_watched,
                           .context = &watched.any,
                           .seconds = 0.3,
                           .rate = _i == 0 ? 0 : 100,
                           .watch = note_watch,
                           .watch_context = &watched,
                           .watch_ms = WATCH_MS};
    run(&job);
    /* The last request is due at 290 ms or later, and with its answer comes a turn. */
    ck_assert(watched.last_seconds >= 0.29 - WATCH_MS / 1e3);
    ck_assert(watched.last_seconds <= result.seconds);
    ck_assert_uint_gt(watched.calls, 1);
}
END_TEST

START_TEST(test_beside)
{
    open_with(2, 4);
    struct load *other = open_more(1, 2);
    struct load_result other_result;
    struct load_job job = job_any(0, 2000);
    job.seconds = 0.1;
    struct load_any other_any = {.threads = 1000};
    struct load_job other_job = {.values = &values, .next = load_any, .context = &other_any};
    ck_assert(load_run_beside(load, &job, &result, other, &other_job, &other_result));
    ck_assert_uint_eq(result.count, 200);
    ck_assert_uint_eq(hist.count, 200);
    ck_assert_uint_gt(other_result.count, 0);
    load_close(other);
    fake_stop(&fake);
    ck_assert_uint_eq(fake.requests, result.count + other_result.count);
    fake_start(&fake);
}
END_TEST

START_TEST(test_beside_fails_with_the_other)
{
    open_with(2, 4);
    struct load *other = open_more(1, 2);
    struct load_result other_result;
    struct load_job job = job_any(0, 100);
    job.seconds = 5;
    struct protocol_values wrong = values;
    wrong.series++;
    struct load_any other_any = {.threads = 1000};
    struct load_job other_job = {.values = &wrong, .next = load_any, .context = &other_any};
    ck_assert(!load_run_beside(load, &job, &result, other, &other_job, &other_result));
    ck_assert_ptr_nonnull(strstr(other_result.error, "wrong reply"));
    ck_assert_str_eq(result.error, "");
    ck_assert(result.seconds < 4);
    load_close(other);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("load");
    TCase *all = tcase_create("load");
    tcase_add_checked_fixture(all, setup, teardown);
    tcase_set_timeout(all, suite_limit(30));
    tcase_add_test(all, test_each_once);
    tcase_add_test(all, test_each_once_in_open_loop);
    tcase_add_test(all, test_count);
    tcase_add_test(all, test_seconds);
    tcase_add_test(all, test_all_of_it_is_different);
    tcase_add_test(all, test_pieces);
    tcase_add_test(all, test_long_requests);
    tcase_add_test(all, test_other_order);
    tcase_add_test(all, test_stall_is_charged);
    tcase_add_test(all, test_closed_loop_does_not_charge_it);
    tcase_add_test(all, test_slow_generator_is_charged);
    tcase_add_loop_test(all, test_fault, 0, 2 * FAULTS);
    tcase_add_test(all, test_order_that_is_not_allowed);
    tcase_add_test(all, test_no_server);
    tcase_add_loop_test(all, test_watch, 0, 2);
    tcase_add_test(all, test_beside);
    tcase_add_test(all, test_beside_fails_with_the_other);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
