/*
 * Guards: one chain of frames per operating-system thread, and the handler that jumps to its head.
 *
 * Owns the process's actions for SIGSEGV, SIGBUS and SIGFPE from the first use on. The handler
 * touches nothing but the chain of the thread it runs on.
 */
#include "store/guard.h"

#include <assert.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>

enum { SIGNAL_STACK_BYTES = 64 << 10 };

struct guard_frame {
    struct guard_frame *outer;
    sigjmp_buf back;
};

/* Volatile: the handler reads it at any moment, as far as the compiler can tell. */
static _Thread_local struct guard_frame *volatile innermost;
static _Thread_local void *signal_stack; /* NULL: none, or somebody else's */

static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE};
enum { FAULTS = sizeof faults / sizeof faults[0] };
static struct sigaction before[FAULTS];

/* As without us. A fault comes again when the handler returns; what was sent must be sent again. */
static void pass_on(int number, bool sent)
{
    for (size_t i = 0; i < FAULTS; i++) {
        if (faults[i] == number) {
            (void)sigaction(number, &before[i], NULL);
        }
    }
    if (sent) {
        (void)raise(number);
    }
}

static void on_fault(int number, siginfo_t *info, void *machine)
{
    (void)machine;
    struct guard_frame *frame = innermost;
    bool sent = info->si_code <= 0; /* by kill and its kin, not by the processor */
    if (frame && !sent) {
        siglongjmp(frame->back, 1);
    }
    pass_on(number, sent);
}

static void install(void)
{
    struct sigaction action = {.sa_sigaction = on_fault,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < FAULTS; i++) {
        int failed = sigaction(faults[i], &action, &before[i]);
        assert(!failed);
    }
}

void guard_install(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int failed = pthread_once(&once, install);
    assert(!failed);
}

bool guard_run(guard_body_fn *body, void *context)
{
    assert(body);
    guard_install();
    struct guard_frame frame = {.outer = innermost};
    /* With the mask: a jump out of a handler must not leave signals blocked. */
    if (sigsetjmp(frame.back, 1)) {
        innermost = frame.outer;
        return false;
    }
    innermost = &frame;
    body(context);
    assert(innermost == &frame);
    innermost = frame.outer;
    return true;
}

_Noreturn void guard_fail(void)
{
    struct guard_frame *frame = innermost;
    if (!frame) {
        abort();
    }
    siglongjmp(frame->back, 1);
}

bool guard_thread_begin(void)
{
    stack_t old;
    assert(!signal_stack);
    if (!sigaltstack(NULL, &old) && !(old.ss_flags & SS_DISABLE)) {
        return true; /* a sanitizer has given it one */
    }
    stack_t fresh = {.ss_sp = malloc(SIGNAL_STACK_BYTES), .ss_size = SIGNAL_STACK_BYTES};
    if (!fresh.ss_sp || sigaltstack(&fresh, NULL)) {
        free(fresh.ss_sp);
        return false;
    }
    signal_stack = fresh.ss_sp;
    return true;
}

void guard_thread_end(void)
{
    if (signal_stack) {
        stack_t none = {.ss_flags = SS_DISABLE};
        int failed = sigaltstack(&none, NULL);
        assert(!failed);
        free(signal_stack);
        signal_stack = NULL;
    }
}
