/* Stat and list: looking at threads without using them. */
#include "thread/cold.h"
#include "thread/compact.h"
#include "thread/cursor.h"
#include "thread/graveyard.h"
#include "thread/lookup.h"
#include "thread/inspect.h"
#include "thread/journal.h"
#include "thread/operations.h"
#include "thread/stream.h"
#include "thread/thread.h"

#include <stdlib.h>

enum { LIST_DEFAULT = 100, LIST_RECORDS_AT_ONCE = 16384 };

static uint64_t idle_ms(const struct lane *lane, const struct thread *thread, uint64_t word)
{
    uint64_t used_ms = life_used_ms(thread, word);
    if (word & LIFE_DEAD) {
        return 0; /* it ended while we looked, and its last use is no longer known */
    }
    return lane->now_ms > used_ms ? lane->now_ms - used_ms : 0;
}

static uint64_t age_ms(const struct lane *lane, const struct thread *thread)
{
    /* Another lane may have created it by a later reading of the clock than ours. */
    uint64_t created_ms = thread_created_ms(lane, thread);
    return lane->now_ms > created_ms ? lane->now_ms - created_ms : 0;
}

enum status thread_stat(struct lane *lane, const struct wire_request *request,
                        struct thread_stat_result *result, struct wire_error *error)
{
    (void)error;
    struct lookup found = lookup_request(lane, request);
    if (found.loading) {
        return lane_put_back(lane, WANT_DISK);
    }
    if (!found.thread) {
        *result = (struct thread_stat_result){.state = THREAD_MISS,
                                              .reason = found.reason,
                                              .version = lookup_snapshot(lane, &found).version,
                                              .in_flight =
                                                  found.unborn && stream_lives(lane, found.unborn)};
        if (found.reason == REASON_NEVER_SEEN) {
            result->vouch_ms = graveyard_vouch_ms(lane);
        }
        return STATUS_OK;
    }
    const struct thread *thread = found.thread;
    uint64_t word = lookup_life(lane, &thread);
    struct alone alone;
    struct snapshot now = compact_snapshot(lane, thread, &alone);
    *result = (struct thread_stat_result){
        .state = now.spine->lost > 0 ? THREAD_PARTIAL : THREAD_COMPLETE,
        .version = now.version,
        .step_count = now.length,
        /* Relaxed: totals beside the snapshot, exact when nobody appends. */
        .payload_bytes = atomic_load_explicit(&now.spine->payload_bytes, memory_order_relaxed),
        .tokens = atomic_load_explicit(&now.spine->tokens, memory_order_relaxed),
        .age_ms = age_ms(lane, thread),
        .idle_ms = idle_ms(lane, thread, word),
        .expires_in_ms = life_remaining_ms(thread, word, lane->now_ms),
        .on_disk = thread_is_from_disk(thread),
        .in_flight = stream_lives(lane, thread),
        .floor = thread_is_compact(thread) ? 0 : rest_of(thread)->floor,
    };
    return STATUS_OK;
}

/* ---- list ---- */

/*
 * Memory comes first: the threads of which the disk has nothing. Then the disk's, by age, shown as
 * memory has them where it does. So none is left out that was there all the time, wherever it moved
 * meanwhile; one that reaches the disk while it is listed may be listed twice.
 */
struct listing {
    struct lane *lane;
    struct bytes starts_with;
    unsigned limit;
    bool goes_on;
    uint64_t seam_hash; /* of the record that the page before ended with */
    struct thread_list_result *result;
};

/* A scan of the disk's threads: `position` is the last uid. No arena reference is as high. */
enum { AFTER_DISK = -1 };

static bool scans_disk(const struct index_scan *scan)
{
    return scan->after == (uint32_t)AFTER_DISK;
}

static void list_thread(struct listing *listing, const struct thread *thread, uint64_t word)
{
    struct thread_list_result *result = listing->result;
    struct alone alone;
    struct snapshot now = compact_snapshot(listing->lane, thread, &alone);
    result->listed[result->count++] = (struct thread_listed){
        .id = thread_id(thread),
        .version = now.version,
        /* Relaxed: as in stat. */
        .payload_bytes = atomic_load_explicit(&now.spine->payload_bytes, memory_order_relaxed),
        .idle_ms = idle_ms(listing->lane, thread, word),
        .on_disk = thread_is_from_disk(thread),
    };
}

/*
 * Listed as the compact thread that it was (see compact.h), on this page or as the last one of the
 * page before, after which it may stand anew. That page left no id but a hash: 64 of its bits would
 * have to agree for another to be taken for it.
 */
static bool was_listed(const struct listing *listing, const struct thread *thread)
{
    const struct thread_list_result *result = listing->result;
    return (thread->record.flags & THREAD_UNFOLDED) &&
           (result->count > 0 ? bytes_equal(result->listed[result->count - 1].id, thread_id(thread))
                              : listing->goes_on && listing->seam_hash == thread->record.hash_low);
}

static bool visit_listed(void *context, struct index_record *record)
{
    struct listing *listing = context;
    struct lane *lane = listing->lane;
    if (record->kind != RECORD_THREAD) {
        return true;
    }
    const struct thread *thread = (struct thread *)record;
    uint64_t word = lookup_life(lane, &thread);
    if (life_judge(thread, word, lane->now_ms) != LIFE_ALIVE ||
        thread->record.small != LOOKUP_TENANT || thread_is_unborn(thread) ||
        !bytes_start_with(thread_id(thread), listing->starts_with) ||
        /* Relaxed: when it has just come to be there, both phases list it. */
        (journal_keeps(lane, thread) &&
         atomic_load_explicit(&rest_of(thread)->on_disk, memory_order_relaxed))) {
        return true;
    }
    if (was_listed(listing, thread)) {
        return true;
    }
    list_thread(listing, thread, word);
    return listing->result->count < listing->limit;
}

static void list_from_disk(struct listing *listing, const struct tier_listed *listed)
{
    struct lane *lane = listing->lane;
    struct lookup_key key = {.lane = lane,
                             .hash = listed->name,
                             .id = bytes_of(listed->id, listed->id_size),
                             .kind = RECORD_THREAD,
                             .tenant = LOOKUP_TENANT};
    struct index_record *record = index_find(lane->threads->index, key.hash, lookup_match, &key);
    if (record && record->kind == RECORD_THREAD) {
        if (thread_is_unborn((struct thread *)record)) {
            return; /* what the disk has is an earlier life of it, that has ended */
        }
        uint64_t word = life_load((struct thread *)record);
        if (life_judge((struct thread *)record, word, lane->now_ms) == LIFE_ALIVE) {
            list_thread(listing, (struct thread *)record, word);
            return;
        }
        if (!life_is_demoted(word)) {
            return; /* at its end */
        }
    } else if (record && record_is_tombstone(record)) {
        return; /* its erasure is under way */
    }
    uint64_t used_ms = lane_from_wall(lane, listed->used_ms);
    listing->result->listed[listing->result->count++] = (struct thread_listed){
        .id = key.id,
        .version = listed->version,
        .payload_bytes = listed->payload_bytes,
        .idle_ms = lane->now_ms > used_ms ? lane->now_ms - used_ms : 0,
        .on_disk = true,
    };
}

static bool page_answers(const struct lane *lane, const struct listing *listing, uint64_t after_uid)
{
    const struct tier_load *load = lane->page_load;
    return load && load->after_uid == after_uid && load->limit == listing->limit &&
           bytes_equal(bytes_of(load->id, load->id_size), listing->starts_with);
}

static void page_drop(struct lane *lane)
{
    free(lane->page);
    free(lane->page_load);
    lane->page = NULL;
    lane->page_load = NULL;
}

static enum status page_ask(struct lane *lane, const struct listing *listing, uint64_t after_uid)
{
    struct tier_load *load = calloc(1, sizeof *load);
    if (load) {
        load->port = lane->port;
        load->kind = TIER_LOAD_PAGE;
        load->tenant = LOOKUP_TENANT;
        load->after_uid = after_uid;
        load->limit = listing->limit;
        load->id_size = (uint8_t)listing->starts_with.size;
        if (load->id_size > 0) {
            memcpy(load->id, listing->starts_with.data, load->id_size);
        }
        if (lane->tier->calls->load(lane->tier, load) == STATUS_OK) {
            lane->waits++;
            lane->page_load = load;
        } else {
            free(load);
        }
    }
    return lane_put_back(lane, WANT_DISK);
}

/* One page at a time for each lane; it stays until the next one is asked for, since the result
 * leads into it. */
static enum status list_disk(struct listing *listing, struct index_scan *scan)
{
    struct lane *lane = listing->lane;
    if (lane->page_load && !lane->page) {
        return lane_put_back(lane, WANT_DISK);
    }
    if (!page_answers(lane, listing, scan->position)) {
        page_drop(lane);
        return page_ask(lane, listing, scan->position);
    }
    const struct tier_page *page = lane->page;
    assert(page->count <= listing->limit);
    for (uint32_t i = 0; i < page->count; i++) {
        list_from_disk(listing, &page->listed[i]);
    }
    scan->position = page->last_uid;
    listing->result->more = page->more;
    /* Asked anew the next time, or a poller would see an old page. */
    lane->page_load->after_uid = UINT64_MAX;
    return STATUS_OK;
}

void inspect_close(struct lane *lane)
{
    page_drop(lane);
}

static unsigned page_limit(const struct wire_request *request)
{
    if (!wire_given(request, WIRE_FIELD_limit)) {
        return LIST_DEFAULT;
    }
    return request->limit < THREAD_LIST_MAX ? (unsigned)request->limit : THREAD_LIST_MAX;
}

enum status thread_list(struct lane *lane, const struct wire_request *request,
                        struct thread_list_result *result, struct wire_error *error)
{
    struct index_scan scan = {0};
    struct listing listing = {
        .lane = lane,
        .starts_with = request->starts_with,
        .limit = page_limit(request),
        .result = result,
    };
    assert(listing.limit > 0 && listing.limit <= THREAD_LIST_MAX);
    result->count = 0;
    if (request->cursor.size > 0 && !cursor_open(lane->threads, request->cursor, &scan)) {
        return wire_fail(error, STATUS_BAD_REQUEST, "cursor",
                         "cursor is not one that list returned; start without it");
    }
    listing.goes_on = request->cursor.size > 0;
    listing.seam_hash = index_scan_position(scan.position);
    if (!scans_disk(&scan) || !lane->tier) {
        result->more =
            !index_scan(lane->threads->index, &scan, LIST_RECORDS_AT_ONCE, visit_listed, &listing);
        if (!result->more && lane->tier) {
            result->more = true;
            scan = (struct index_scan){.position = 0, .after = (uint32_t)AFTER_DISK};
        }
    }
    /* A page that memory has nothing for is the disk's. */
    if (scans_disk(&scan) && lane->tier && result->count == 0) {
        enum status status = list_disk(&listing, &scan);
        if (status) {
            return status;
        }
    }
    cursor_seal(lane->threads, &scan, result->cursor);
    return STATUS_OK;
}
