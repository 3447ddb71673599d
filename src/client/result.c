/* Results: their memory, and the public accessors. */
#include "client/result.h"

#include <assert.h>
#include <stdlib.h>

enum {
    BLOCK_BYTES = 2048, /* small arrays share one */
};

struct client_block {
    struct client_block *next;
    size_t used;
    size_t size;
    _Alignas(max_align_t) unsigned char bytes[];
};

struct rethread_result *client_result_new(struct rethread_bytes raw)
{
    struct rethread_result *result = calloc(1, sizeof *result);
    if (result != NULL)
        result->raw = raw;
    return result;
}

void rethread_result_free(struct rethread_result *result)
{
    if (result == NULL)
        return;
    while (result->blocks != NULL) {
        struct client_block *next = result->blocks->next;
        free(result->blocks);
        result->blocks = next;
    }
    free(result->memory);
    free(result);
}

void *client_result_alloc(struct rethread_result *result, size_t count, size_t size)
{
    size_t alignment = _Alignof(max_align_t);
    assert(size > 0 && size < SIZE_MAX / 4);
    if (count > SIZE_MAX / 4 / size)
        return NULL;
    size_t needed = (count * size + alignment - 1) / alignment * alignment;
    struct client_block *block = result->blocks;
    if (block == NULL || block->size - block->used < needed) {
        size_t block_size = needed > BLOCK_BYTES ? needed : BLOCK_BYTES;
        block = calloc(1, sizeof *block + block_size);
        if (block == NULL)
            return NULL;
        block->size = block_size;
        block->next = result->blocks;
        result->blocks = block;
    }
    void *memory = block->bytes + block->used;
    block->used += needed;
    return memory;
}

enum rethread_status rethread_result_status(const struct rethread_result *result)
{
    return result->error.status;
}

enum rethread_method rethread_result_method(const struct rethread_result *result)
{
    return result->method;
}

const struct rethread_error *rethread_result_error(const struct rethread_result *result)
{
    return result->error.status != RETHREAD_OK ? &result->error : NULL;
}

struct rethread_bytes rethread_result_raw(const struct rethread_result *result)
{
    return result->raw;
}

struct rethread_bytes rethread_result_map(const struct rethread_result *result)
{
    return result->map;
}

size_t rethread_result_payload_count(const struct rethread_result *result)
{
    return result->payload_count;
}

struct rethread_bytes rethread_result_payload(const struct rethread_result *result, size_t index)
{
    struct rethread_bytes absent = {NULL, 0};
    return index < result->payload_count ? result->payloads[index] : absent;
}

#define ACCESSOR(METHOD, which, name)                                                              \
    const struct rethread_##name##_result *rethread_result_##which(                                \
        const struct rethread_result *result)                                                      \
    {                                                                                              \
        bool holds = result != NULL && result->method == RETHREAD_METHOD_##METHOD &&               \
                     result->error.status == RETHREAD_OK;                                          \
        return holds ? &result->of.name : NULL;                                                    \
    }

ACCESSOR(HELLO, hello, hello)
ACCESSOR(APPEND, append, append)
ACCESSOR(REPLAY, replay, replay)
ACCESSOR(STAT, stat, stat)
ACCESSOR(TOUCH, touch, touch)
ACCESSOR(FORK, fork, fork)
ACCESSOR(REWIND, rewind, rewind)
ACCESSOR(FORGET, forget, forget)
ACCESSOR(LIST, list, list)
ACCESSOR(INFO, info, info)
ACCESSOR(BEGIN, begin, begin)
ACCESSOR(CHUNK, chunk, chunk)
ACCESSOR(COMMIT, commit, append)
ACCESSOR(ABORT, abort, abort)
