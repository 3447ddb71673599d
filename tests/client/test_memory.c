/*
 * Every allocation of the library fails once, in turn: the call says so, nothing is lost, and the
 * same call made again does what it should have done.
 *
 * The linker hands malloc and calloc of everything in this program to the two functions below.
 */
#include "tests/client/fake.h"

#include <stdlib.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);

static bool armed;
static int until_failure; /* allocations that pass before one fails; below 0: it has failed */

static bool fails(void)
{
    return armed && until_failure-- == 0;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

/* Makes the call with one allocation to fail, and again if it did. */
#define TRY(expected, call)                                                                        \
    do {                                                                                           \
        armed = true;                                                                              \
        int status = (int)(call);                                                                  \
        armed = false;                                                                             \
        if (until_failure < 0 && status == (int)RETHREAD_NO_MEMORY)                                \
            status = (int)(call);                                                                  \
        ck_assert_int_eq(status, (int)(expected));                                                 \
    } while (false)

static uint8_t trace[70000];
static uint8_t *large_response; /* a replay of trace */
static size_t large_size;
enum {
    LARGE_MSGID_AT = 7, /* behind the header, the array's head and the 1 of a response */
};

static void make_large_response(void)
{
    char text[200];
    snprintf(text, sizeof text,
             "[1, 2, nil, [{'status': 'complete', 'steps': [{'step': 0, 'segments': "
             "[['text', %zu]], 'tool_calls': [b'a']}]}, b(%zu)]]",
             sizeof trace, sizeof trace);
    memset(trace, 'x', sizeof trace);
    large_response = fake_text_frame(text, &large_size);
}

static void check_responses(struct rethread *connection, const uint32_t msgids[4])
{
    struct rethread_result *result;
    TRY(RETHREAD_OK, rethread_collect(connection, msgids[0], 0, &result));
    ck_assert_uint_eq(rethread_result_append(result)->step, 4);
    rethread_result_free(result);
    TRY(RETHREAD_OK, rethread_collect(connection, msgids[1], 0, &result));
    const struct rethread_step *step = rethread_result_replay(result)->steps;
    ck_assert_uint_eq(step->segments.items[0].bytes.size, sizeof trace);
    ck_assert_mem_eq(step->segments.items[0].bytes.data, trace, sizeof trace);
    ck_assert(fake_same(step->tool_calls.items[0], "a"));
    rethread_result_free(result);
    TRY(RETHREAD_OK, rethread_collect(connection, msgids[2], 0, &result));
    ck_assert_str_eq(rethread_result_info(result)->metrics[1].name, "c");
    rethread_result_free(result);
    TRY(RETHREAD_CONFLICT, rethread_collect(connection, msgids[3], 0, &result));
    ck_assert_str_eq(rethread_result_error(result)->cause, "key");
    rethread_result_free(result);
}

/* The server's part: four requests read, four answers written, the large one in two parts. */
static void answer(struct rethread *connection, int server, const uint32_t msgids[4])
{
    struct fake_request request;
    while ((rethread_wants(connection) & RETHREAD_WRITE) != 0) {
        TRY(RETHREAD_OK, rethread_pump(connection, RETHREAD_WRITE));
        for (struct pollfd ready = {.fd = server, .events = POLLIN}; poll(&ready, 1, 0) > 0;) {
            ck_assert(fake_next(server, &request));
            fake_done(&request);
        }
    }
    fake_send(server, "[1, %u, {'code': 'conflict', 'cause': 'key'}, nil]", msgids[3]);
    fake_send(server, "[1, %u, nil, [{'step': 4, 'version': 5, 'thread': b't'}]]", msgids[0]);
    large_response[LARGE_MSGID_AT] = (uint8_t)msgids[1];
    fake_write(server, large_response, large_size / 2);
    TRY(RETHREAD_OK, rethread_pump(connection, RETHREAD_READ));
    fake_write(server, large_response + large_size / 2, large_size - large_size / 2);
    TRY(RETHREAD_OK, rethread_pump(connection, RETHREAD_READ));
    fake_send(server, "[1, %u, nil, [{'a': {'b': 1, 'c': 2}}]]", msgids[2]);
    TRY(RETHREAD_OK, rethread_pump(connection, RETHREAD_READ));
}

/* Returns whether an allocation failed: when none is left to fail, all have. */
static bool survive(int passing)
{
    struct rethread *connection;
    struct rethread_segment segment = {.bytes = {trace, 9000}};
    struct rethread_append_options append = {.thread = rethread_text("t"),
                                             .segments = {&segment, 1}};
    struct rethread_replay_options replay = {.thread = rethread_text("t")};
    uint32_t msgids[4];
    uint32_t msgid;
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    until_failure = passing;
    TRY(RETHREAD_OK, rethread_attach(ends[0], NULL, &connection));
    TRY(RETHREAD_OK, rethread_submit_append(connection, &append, &msgids[0]));
    TRY(RETHREAD_OK, rethread_submit_replay(connection, &replay, &msgids[1]));
    TRY(RETHREAD_OK, rethread_submit_info(connection, &msgids[2]));
    TRY(RETHREAD_OK, rethread_submit_append(connection, &append, &msgids[3]));
    answer(connection, ends[1], msgids);
    check_responses(connection, msgids);
    ck_assert_int_eq(rethread_next(connection, 0, &msgid, NULL), RETHREAD_IDLE);
    rethread_close(connection);
    close(ends[1]);
    return until_failure < 0;
}

START_TEST(each_allocation_may_fail)
{
    int passing = 0;
    make_large_response();
    while (survive(passing))
        passing++;
    ck_assert_int_ge(passing, 15);
    free(large_response);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/memory");
    TCase *failing = tcase_create("failing");
    tcase_add_test(failing, each_allocation_may_fail);
    suite_add_tcase(suite, failing);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
