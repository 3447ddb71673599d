/* Guards: whatever goes wrong in a body ends the body, and nothing else. */
#include "store/guard.h"

#include "tests/lib/suite.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };

static _Thread_local volatile unsigned reached; /* the bodies' way of saying how far they came */

static void harmless(void *context)
{
    reached += *(unsigned *)context;
}

static void read_nowhere(void *context)
{
    volatile const uint8_t *page = context;
    reached++;
    reached += page[17];
    reached += 1000;
}

static void give_up(void *context)
{
    (void)context;
    reached++;
    guard_fail();
}

__attribute__((no_sanitize("undefined"))) static void divide(void *context)
{
    volatile int *zero = context;
    reached++;
    *zero = 1000 / *zero;
    reached += 1000;
}

static void *forbidden_page(void)
{
    void *page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(page, MAP_FAILED);
    return page;
}

START_TEST(a_body_that_ends)
{
    unsigned by = 5;
    reached = 0;
    ck_assert(guard_run(harmless, &by));
    ck_assert_uint_eq(reached, 5);
}
END_TEST

/* Again and again: nothing is used up, no signal stays blocked. */
START_TEST(a_fault_in_memory)
{
    void *page = forbidden_page();
    for (unsigned i = 0; i < 1000; i++) {
        reached = 0;
        ck_assert(!guard_run(read_nowhere, page));
        ck_assert_uint_eq(reached, 1);
    }
    sigset_t blocked;
    ck_assert_int_eq(sigprocmask(SIG_BLOCK, NULL, &blocked), 0);
    ck_assert_int_eq(sigismember(&blocked, SIGSEGV), 0);
    ck_assert_int_eq(munmap(page, PAGE), 0);
}
END_TEST

START_TEST(a_file_that_became_shorter)
{
    FILE *file = tmpfile();
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(ftruncate(fileno(file), PAGE), 0);
    void *page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fileno(file), 0);
    ck_assert_ptr_ne(page, MAP_FAILED);
    reached = 0;
    ck_assert(guard_run(read_nowhere, page));
    ck_assert_uint_eq(reached, 1001);
    ck_assert_int_eq(ftruncate(fileno(file), 0), 0);
    reached = 0;
    ck_assert(!guard_run(read_nowhere, page));
    ck_assert_uint_eq(reached, 1);
    ck_assert_int_eq(munmap(page, PAGE), 0);
    ck_assert_int_eq(fclose(file), 0);
}
END_TEST

START_TEST(a_division)
{
    int zero = 0;
    reached = 0;
    ck_assert(!guard_run(divide, &zero));
    ck_assert_uint_eq(reached, 1);
}
END_TEST

START_TEST(an_assertion_of_lmdb)
{
    reached = 0;
    ck_assert(!guard_run(give_up, NULL));
    ck_assert_uint_eq(reached, 1);
}
END_TEST

static void nest(void *context)
{
    ck_assert(!guard_run(read_nowhere, context));
    ck_assert(!guard_run(give_up, NULL));
    reached += 10;
    read_nowhere(context);
}

START_TEST(the_innermost_takes_the_fault)
{
    void *page = forbidden_page();
    reached = 0;
    ck_assert(!guard_run(nest, page));
    ck_assert_uint_eq(reached, 13);
    ck_assert_int_eq(munmap(page, PAGE), 0);
}
END_TEST

/* ---- Running out of stack ---------------------------------------------------------------------
 */

static unsigned sink(volatile uint8_t *frame);

__attribute__((noinline)) static unsigned deeper(unsigned depth)
{
    volatile uint8_t frame[8192];
    frame[0] = (uint8_t)depth;
    unsigned below = depth == UINT32_MAX ? 0 : deeper(depth + 1);
    return below + sink(frame);
}

__attribute__((noinline)) static unsigned sink(volatile uint8_t *frame)
{
    return frame[0];
}

static void without_end(void *context)
{
    (void)context;
    reached++;
    reached += deeper(0);
    reached += 1000;
}

static void *overflow_twice(void *context)
{
    unsigned *caught = context;
    ck_assert(guard_thread_begin());
    for (unsigned i = 0; i < 2; i++) {
        *caught += !guard_run(without_end, NULL);
    }
    guard_thread_end();
    return NULL;
}

START_TEST(a_stack_that_runs_out)
{
    pthread_t other;
    unsigned caught = 0;
    ck_assert_int_eq(pthread_create(&other, NULL, overflow_twice, &caught), 0);
    ck_assert_int_eq(pthread_join(other, NULL), 0);
    ck_assert_uint_eq(caught, 2);
}
END_TEST

START_TEST(a_stack_for_signals_comes_and_goes)
{
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(guard_thread_begin());
        stack_t now;
        ck_assert_int_eq(sigaltstack(NULL, &now), 0);
        ck_assert_int_eq(now.ss_flags & SS_DISABLE, 0);
        guard_thread_end();
    }
}
END_TEST

/* ---- Several operating-system threads ---------------------------------------------------------
 */

static void count(void *context)
{
    ++*(volatile unsigned *)context;
}

static void *fault_and_go_on(void *context)
{
    void *page = context;
    static _Thread_local unsigned fine;
    ck_assert(guard_thread_begin());
    for (unsigned i = 0; i < 500; i++) {
        ck_assert(guard_run(count, &fine));
        ck_assert(!guard_run(read_nowhere, page));
        ck_assert(!guard_run(give_up, NULL));
    }
    guard_thread_end();
    return fine == 500 ? context : NULL;
}

static void *just_count(void *context)
{
    static _Thread_local unsigned fine;
    for (unsigned i = 0; i < 2000; i++) {
        ck_assert(guard_run(count, &fine));
    }
    return fine == 2000 ? context : NULL;
}

START_TEST(one_faults_and_the_others_go_on)
{
    enum { CREW = 4 };
    void *page = forbidden_page();
    pthread_t crew[CREW];
    for (unsigned i = 0; i < CREW; i++) {
        void *(*run)(void *) = i % 2 ? just_count : fault_and_go_on;
        ck_assert_int_eq(pthread_create(&crew[i], NULL, run, page), 0);
    }
    for (unsigned i = 0; i < CREW; i++) {
        void *result = NULL;
        ck_assert_int_eq(pthread_join(crew[i], &result), 0);
        ck_assert_ptr_eq(result, page);
    }
    ck_assert_int_eq(munmap(page, PAGE), 0);
}
END_TEST

/* ---- What a guard leaves alone ----------------------------------------------------------------
 */

/* How a process ends that does this. */
static int end_of(guard_body_fn *does, void *context)
{
    (void)fflush(NULL);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct rlimit none = {0};
        (void)setrlimit(RLIMIT_CORE, &none);
        if (!freopen("/dev/null", "w", stderr)) { /* a sanitizer's report is expected */
            _exit(3);
        }
        does(context);
        _exit(0);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

static void fault_outside(void *context)
{
    guard_install();
    (void)guard_run(give_up, NULL);
    read_nowhere(context);
}

static void sent_inside(void *context)
{
    (void)context;
    (void)raise(SIGBUS);
}

static void guarded_sent(void *context)
{
    (void)guard_run(sent_inside, context);
}

static void ended_by(int status, int number)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    (void)number; /* their reporters exit instead, with a code */
    ck_assert(WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) != 0));
#else
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), number);
#endif
}

START_TEST(outside_of_a_guard_a_fault_is_fatal)
{
    ended_by(end_of(fault_outside, forbidden_page()), SIGSEGV);
    ended_by(end_of(give_up, NULL), SIGABRT);
}
END_TEST

START_TEST(a_signal_that_was_sent_is_fatal)
{
    ended_by(end_of(guarded_sent, NULL), SIGBUS);
}
END_TEST

int main(void)
{
    return SUITE_RUN("guard", NULL, NULL, 60, a_body_that_ends, a_fault_in_memory,
                     a_file_that_became_shorter, a_division, an_assertion_of_lmdb,
                     the_innermost_takes_the_fault, a_stack_that_runs_out,
                     a_stack_for_signals_comes_and_goes, one_faults_and_the_others_go_on,
                     outside_of_a_guard_a_fault_is_fatal, a_signal_that_was_sent_is_fatal);
}
