/* One line on stderr, while that is a terminal, that says what is being measured. */
#ifndef RETHREAD_BENCH_PROGRESS_H
#define RETHREAD_BENCH_PROGRESS_H

__attribute__((format(printf, 1, 2))) void progress_show(const char *form, ...);
void progress_clear(void); /* before anything else is written to the terminal */

#endif
