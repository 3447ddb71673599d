/* Random bytes from the kernel: for secrets and ids, never on the hot path. Any thread may call. */
#ifndef RETHREAD_BASE_RANDOM_H
#define RETHREAD_BASE_RANDOM_H

#include <stddef.h>

/* Fills `size` bytes; ends the process if the kernel gives none, since no secret is no service. */
void random_fill(void *data, size_t size_bytes);

#endif
