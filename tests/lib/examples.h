/*
 * The worked examples of schema/wire.md: each a block of notation (tests/lib/notation.h) and the
 * block of hex that follows it, in the order of the page.
 */
#ifndef RETHREAD_TESTS_LIB_EXAMPLES_H
#define RETHREAD_TESTS_LIB_EXAMPLES_H

#include "base/bytes.h"

enum { EXAMPLES_MAX = 128, EXAMPLE_BYTES_MAX = 4096 };

struct example {
    unsigned line;    /* where its hex begins */
    uint64_t pass_ms; /* time that passes before it: <!-- 300000 ms pass --> */
    char notation[EXAMPLE_BYTES_MAX];
    uint8_t frame[EXAMPLE_BYTES_MAX];
    size_t frame_bytes;
};

/* Reads them into static storage and says how many there are; ends the process on a bad page. */
unsigned examples_read(const char *path, const struct example **examples);

#endif
