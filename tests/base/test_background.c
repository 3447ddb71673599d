/* Operating-system threads in the background: their name, and the signals that they leave alone. */
#include "base/background.h"

#include "tests/lib/suite.h"

#include <check.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

struct seen {
    _Atomic int looked;
    sigset_t blocked;
    char name[16];
};

static void *look(void *context)
{
    struct seen *seen = context;
    pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
    while (atomic_load(&seen->looked) == 0) {
        usleep(100);
    }
    pthread_getname_np(pthread_self(), seen->name, sizeof seen->name);
    return seen;
}

START_TEST(only_faults_come_through)
{
    struct seen seen = {0};
    sigset_t before, after;
    pthread_t thread;
    void *result;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    ck_assert(background_start(&thread, "fifteen-bytes-1", look, &seen));
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    atomic_store(&seen.looked, 1);
    ck_assert_int_eq(pthread_join(thread, &result), 0);
    ck_assert_ptr_eq(result, &seen);
    ck_assert_str_eq(seen.name, "fifteen-bytes-1");
    for (int number = 1; number < 32; number++) {
        bool fault = number == SIGSEGV || number == SIGBUS || number == SIGFPE ||
                     number == SIGILL || number == SIGABRT || number == SIGTRAP;
        bool never = number == SIGKILL || number == SIGSTOP;
        ck_assert_int_eq(sigismember(&seen.blocked, number), !fault && !never);
        ck_assert_int_eq(sigismember(&after, number), sigismember(&before, number));
    }
}
END_TEST

static void *yield_to_others(void *context)
{
    (void)context;
    background_be_nice();
    return (void *)(intptr_t)getpriority(PRIO_PROCESS, 0);
}

START_TEST(nice_is_who_says_so_alone)
{
    int before = getpriority(PRIO_PROCESS, 0);
    pthread_t thread;
    void *after;
    ck_assert(background_start(&thread, "nice", yield_to_others, NULL));
    ck_assert_int_eq(pthread_join(thread, &after), 0);
    ck_assert_int_eq((intptr_t)after, before + 5 < 19 ? before + 5 : 19);
    ck_assert_int_eq(getpriority(PRIO_PROCESS, 0), before);
}
END_TEST

int main(void)
{
    return SUITE_RUN("base/background", NULL, NULL, 10, only_faults_come_through,
                     nice_is_who_says_so_alone);
}
