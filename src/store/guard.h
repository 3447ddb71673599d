/*
 * The guard: a fault inside code that trusts damaged data becomes a return value.
 *
 * LMDB follows what it reads. On a damaged page that ends in SIGSEGV or SIGFPE, in a file that
 * became shorter in SIGBUS, or in an assertion of its own. guard_run runs a body under which each
 * of these unwinds to the caller, who then knows only that the body did not come to its end.
 *
 * What a body may do. It is left in the middle: locks that it holds stay held, memory that it owns
 * must be found through its context. So it calls LMDB, copies bytes and checks them, and frees
 * nothing that it could not do without. A fault of a bug of ours in a body looks the same, which is
 * why bodies are small.
 *
 * Guards are a matter of one operating-system thread and may be nested: the innermost takes the
 * fault. Outside of a guard a fault does what it did before guard_install (by default it ends the
 * process), and so does a signal that somebody sent.
 */
#ifndef RETHREAD_STORE_GUARD_H
#define RETHREAD_STORE_GUARD_H

#include <stdbool.h>

typedef void guard_body_fn(void *context);

/* False: a fault, or guard_fail; the body was left where it stood. */
bool guard_run(guard_body_fn *body, void *context);

/* Ends the innermost guard's body as a fault would; without a guard it ends the process. For
 * LMDB's assertions. */
_Noreturn void guard_fail(void);

/* Takes over SIGSEGV, SIGBUS and SIGFPE. Once per process, any operating-system thread, again is
 * nothing; guard_run does it too. */
void guard_install(void);

/*
 * Around the life of an operating-system thread that runs guards: gives it a stack for signals, so
 * that running out of its own (a damaged tree without end, entered recursively) is caught too.
 * False: no memory; guards work all the same, but for that.
 */
bool guard_thread_begin(void);
void guard_thread_end(void);

#endif
