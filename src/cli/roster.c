/* Threads met by an import; see roster.h. */
#include "cli/roster.h"

#include "cli/keep.h"

#include <assert.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

static void *needed(void *block)
{
    if (block == NULL)
        cli_no_memory();
    return block;
}

static int compare(const void *a, const void *b)
{
    const struct rethread_bytes *x = &((const struct known_thread *)a)->id;
    const struct rethread_bytes *y = &((const struct known_thread *)b)->id;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    return memcmp(x->data, y->data, x->size);
}

struct known_thread *roster_find(struct roster *roster, struct rethread_bytes id)
{
    struct known_thread wanted = {.id = id};
    void *found = tfind(&wanted, &roster->tree, compare);
    if (found != NULL)
        return *(struct known_thread **)found;
    struct known_thread *thread = cli_alloc(sizeof *thread);
    void *copy = cli_alloc(id.size);
    memcpy(copy, id.data, id.size);
    thread->id = (struct rethread_bytes){copy, id.size};
    needed(tsearch(thread, &roster->tree, compare));
    roster->count++;
    return thread;
}

static void free_thread(void *item)
{
    struct known_thread *thread = item;
    free((void *)thread->id.data);
    free(thread->known);
    free(thread);
}

void roster_free(struct roster *roster)
{
    tdestroy(roster->tree, free_thread);
    *roster = (struct roster){0};
}

XXH128_hash_t roster_digest(struct rethread_segments segments)
{
    XXH3_state_t *state = needed(XXH3_createState());
    XXH3_128bits_reset(state);
    for (size_t i = 0; i < segments.count; i++) {
        const struct rethread_segment *segment = &segments.items[i];
        uint64_t shape[2] = {(uint64_t)segment->kind, segment->bytes.size};
        XXH3_128bits_update(state, shape, sizeof shape);
        XXH3_128bits_update(state, segment->bytes.data, segment->bytes.size);
    }
    XXH128_hash_t digest = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    return digest;
}

const char *roster_learn(struct known_thread *thread, const struct rethread_replay_result *replay)
{
    assert(thread->known == NULL);
    if (replay->status == RETHREAD_MISS)
        return "went away while it was looked at; import again";
    if (!replay->version.set)
        return "is at a version that the server does not tell";
    thread->known = cli_alloc(replay->step_count * sizeof *thread->known);
    for (size_t i = 0; i < replay->step_count; i++) {
        const struct rethread_step *step = &replay->steps[i];
        if (step->missing != RETHREAD_REASON_NONE)
            return "is there but lacks steps, so that it cannot be compared";
        if (step->step != i)
            return "was answered out of order";
        thread->known[i] = roster_digest(step->segments);
    }
    thread->known_count = replay->step_count;
    thread->version = replay->version.value;
    return NULL;
}
