/* Blocks of a step that is being streamed. */
#include "thread/draft.h"

enum {
    BLOCK_BYTES_MIN = 256,
    BLOCK_BYTES_MAX = 64 << 10, /* but for a chunk that is larger */
};

struct draft_block {
    uint32_t next; /* arena ref; 0: the last */
    uint32_t size_bytes;
    uint32_t room_bytes;
    uint8_t bytes[];
};

/* Takes them of what all drafts may have. False: there is not so much left. */
static bool charge(struct threads *threads, uint64_t bytes)
{
    /* Relaxed, here and below: a sum by itself; who takes too much gives it back. */
    uint64_t before =
        atomic_fetch_add_explicit(&threads->streaming_bytes, bytes, memory_order_relaxed);
    if (before + bytes <= draft_limit_bytes(threads)) {
        return true;
    }
    atomic_fetch_sub_explicit(&threads->streaming_bytes, bytes, memory_order_relaxed);
    return false;
}

static void give_back(struct threads *threads, uint64_t bytes)
{
    uint64_t before =
        atomic_fetch_sub_explicit(&threads->streaming_bytes, bytes, memory_order_relaxed);
    assert(before >= bytes);
}

/* Charges an object, with what comes beside it, and allocates it. */
static enum status take(struct lane *lane, size_t size_bytes, uint64_t beside_bytes,
                        uint64_t *charged_bytes, void **object, struct wire_error *error)
{
    /* Before the memory: what may not be had is not evicted for either. */
    if (!charge(lane->threads, size_bytes + beside_bytes)) {
        return wire_fail(error, STATUS_OVER_BUDGET, "",
                         "the steps being streamed take a quarter of the memory budget, which is "
                         "all they may; commit or abort some, or give --memory more");
    }
    *object = lane_alloc(lane, size_bytes);
    if (!*object) {
        give_back(lane->threads, size_bytes + beside_bytes);
        return lane_put_back(lane, WANT_MEMORY);
    }
    *charged_bytes += size_bytes + beside_bytes;
    return STATUS_OK;
}

enum status draft_create(struct lane *lane, uint64_t claim, enum wire_kind kind,
                         uint64_t beside_bytes, struct draft **draft, struct wire_error *error)
{
    assert(claim > 0);
    void *object = NULL;
    uint64_t charged_bytes = 0;
    enum status status = take(lane, sizeof **draft, beside_bytes, &charged_bytes, &object, error);
    if (status == STATUS_OK) {
        *draft = object;
        **draft = (struct draft){.claim = claim, .kind = kind, .charged_bytes = charged_bytes};
    }
    return status;
}

void draft_free(struct lane *lane, struct draft *draft)
{
    if (!draft) {
        return;
    }
    for (uint32_t at = draft->first; at;) {
        struct draft_block *block = lane_at(lane, at);
        at = block->next;
        arena_free(lane->cache, block);
    }
    give_back(lane->threads, draft->charged_bytes);
    arena_free(lane->cache, draft);
}

/* A chain grows by half of what it has, so that it is short and little of it empty. */
static uint64_t next_room_bytes(const struct draft *draft, uint64_t needed_bytes)
{
    uint64_t room_bytes = draft->payload_bytes / 2;
    room_bytes = room_bytes > BLOCK_BYTES_MAX ? BLOCK_BYTES_MAX : room_bytes;
    room_bytes = room_bytes < BLOCK_BYTES_MIN ? BLOCK_BYTES_MIN : room_bytes;
    return room_bytes > needed_bytes ? room_bytes : needed_bytes;
}

static struct draft_block *last_block(const struct lane *lane, const struct draft *draft)
{
    return draft->last ? lane_at(lane, draft->last) : NULL;
}

static uint64_t sum_bytes(const struct bytes *payloads, unsigned count)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count; i++) {
        bytes += payloads[i].size;
    }
    return bytes;
}

static enum status add_block(struct lane *lane, struct draft *draft, uint64_t needed_bytes,
                             struct wire_error *error)
{
    uint64_t room_bytes = next_room_bytes(draft, needed_bytes);
    struct draft_block *last = last_block(lane, draft);
    void *object = NULL;
    assert(room_bytes <= UINT32_MAX);
    enum status status =
        take(lane, sizeof *last + room_bytes, 0, &draft->charged_bytes, &object, error);
    if (status) {
        return status;
    }
    struct draft_block *block = object;
    *block = (struct draft_block){.room_bytes = (uint32_t)room_bytes};
    uint32_t ref = lane_ref(lane, block);
    if (last) {
        last->next = ref;
    } else {
        draft->first = ref;
    }
    draft->last = ref;
    return STATUS_OK;
}

enum status draft_add(struct lane *lane, struct draft *draft, const struct bytes *payloads,
                      unsigned count, struct wire_error *error)
{
    struct draft_block *block = last_block(lane, draft);
    uint64_t bytes = sum_bytes(payloads, count);
    uint64_t room_bytes = block ? block->room_bytes - block->size_bytes : 0;
    if (bytes > room_bytes) {
        enum status status = add_block(lane, draft, bytes - room_bytes, error);
        if (status) {
            return status;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        for (struct bytes rest = payloads[i]; rest.size > 0;) {
            if (!block || block->size_bytes == block->room_bytes) {
                block = lane_at(lane, block ? block->next : draft->first);
            }
            size_t room = block->room_bytes - block->size_bytes;
            size_t part = rest.size < room ? rest.size : room;
            memcpy(block->bytes + block->size_bytes, rest.data, part);
            block->size_bytes += (uint32_t)part;
            rest = bytes_of(rest.data + part, rest.size - part);
        }
    }
    draft->payload_bytes += bytes;
    return STATUS_OK;
}

void draft_read(const struct lane *lane, const struct draft *draft, uint8_t *to)
{
    uint64_t left_bytes = draft->payload_bytes;
    for (uint32_t at = draft->first; at;) {
        const struct draft_block *block = lane_at(lane, at);
        assert(block->size_bytes <= left_bytes);
        memcpy(to, block->bytes, block->size_bytes);
        to += block->size_bytes;
        left_bytes -= block->size_bytes;
        at = block->next;
    }
    assert(left_bytes == 0);
}
