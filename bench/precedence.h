/*
 * Whose turn it is on this machine while something is measured: cores, niceness, real time. All of
 * it without effect where it is not allowed, and alike for all that are measured.
 */
#ifndef RETHREAD_BENCH_PRECEDENCE_H
#define RETHREAD_BENCH_PRECEDENCE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Instead of a core's number: any of them. */
#define PRECEDENCE_ANY_CORE UINT32_MAX

/* Keeps this process on one core; without effect where there is none of that number. */
void precedence_keep_to(unsigned core);

/* This process, and those it starts from now on, run before other work of the machine, or not. */
void precedence_hurry(bool hurry);

/*
 * Everything that runs in the process by now (0: this operating-system thread alone) runs whenever
 * it can, before all that is not in real time; or as usual again. False: not allowed.
 */
bool precedence_real_time(pid_t process, bool real_time);

#endif
