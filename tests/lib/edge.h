/*
 * Memory whose end is the end of the world: a read one byte past it is a fault.
 *
 * One page run, followed by a page that may not be touched. Header only; each user has its own.
 */
#ifndef RETHREAD_TESTS_LIB_EDGE_H
#define RETHREAD_TESTS_LIB_EDGE_H

#include "base/bytes.h"

#include <assert.h>
#include <sys/mman.h>
#include <unistd.h>

struct edge {
    uint8_t *start;
    size_t size; /* usable, in front of the forbidden page */
};

static inline struct edge edge_map(size_t size_bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size = (size_bytes + page - 1) / page * page;
    uint8_t *start =
        mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert(start != MAP_FAILED);
    int refused = mprotect(start + size, page, PROT_NONE);
    assert(refused == 0);
    (void)refused;
    return (struct edge){start, size};
}

static inline void edge_unmap(struct edge *edge)
{
    munmap(edge->start, edge->size + (size_t)sysconf(_SC_PAGESIZE));
}

/* A copy of the bytes that ends where the forbidden page begins. */
static inline struct bytes edge_put(struct edge *edge, struct bytes bytes)
{
    assert(bytes.size <= edge->size);
    uint8_t *at = edge->start + edge->size - bytes.size;
    if (bytes.size > 0) {
        memmove(at, bytes.data, bytes.size);
    }
    return bytes_of(at, bytes.size);
}

#endif
