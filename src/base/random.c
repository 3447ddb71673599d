/* getrandom, in as many pieces as the kernel likes. */
#include "base/random.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>

void random_fill(void *data, size_t size_bytes)
{
    uint8_t *at = data;
    while (size_bytes > 0) {
        ssize_t got = getrandom(at, size_bytes, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            abort();
        }
        at += got;
        size_bytes -= (size_t)got;
    }
}
