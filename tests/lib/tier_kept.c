/* The reference tier's state, as plainly as it can be said. */
#include "tests/lib/tier_kept.h"

#include "thread/records.h"
#include "wire/parse.h"

#include <assert.h>

/* What a name leads to: a thread, a step, or a tombstone. */
enum entry_kind { ENTRY_THREAD, ENTRY_KEY, ENTRY_TOMBSTONE };

struct kept_entry {
    struct kept_entry *next;
    struct index_hash name;
    enum entry_kind kind;
    bool damaged;
    bool leaving; /* of a key: its step is being removed by the change at work */
    uint64_t uid; /* of thread and key, the rest of the key only */
    uint32_t number;
    uint32_t version;
    bool shared;
    struct index_hash owner;
    uint64_t place; /* of a tombstone in the ring */
    struct tier_tombstone tombstone;
};

struct kept_place {
    struct index_hash name;
    uint64_t at_ms;
};

/* ---- names ---- */

static struct kept_entry **entry_slot(struct tier_kept *kept, struct index_hash name)
{
    struct kept_entry **slot = &kept->entries[name.low % KEPT_BUCKETS];
    while (*slot && !tier_kept_same_name((*slot)->name, name)) {
        slot = &(*slot)->next;
    }
    return slot;
}

static struct kept_entry *entry_find(struct tier_kept *kept, struct index_hash name)
{
    return *entry_slot(kept, name);
}

static void entry_remove(struct tier_kept *kept, struct index_hash name)
{
    struct kept_entry **slot = entry_slot(kept, name);
    struct kept_entry *gone = *slot;
    kept->tombstones -= gone && gone->kind == ENTRY_TOMBSTONE;
    *slot = gone ? gone->next : NULL;
    free(gone);
}

/* Whatever the name led to, it leads to this now. */
static void entry_put(struct tier_kept *kept, const struct kept_entry *as)
{
    entry_remove(kept, as->name);
    struct kept_entry **slot = entry_slot(kept, as->name);
    *slot = tier_kept_have(malloc(sizeof **slot));
    **slot = *as;
    (*slot)->next = NULL;
    kept->tombstones += as->kind == ENTRY_TOMBSTONE;
}

static void bury(struct tier_kept *kept, struct index_hash name, struct tier_tombstone tombstone)
{
    uint64_t place = kept->ring_next++;
    struct kept_place *slot = &kept->ring[place % kept->tombstones_max];
    if (place >= kept->tombstones_max) {
        struct kept_entry *oldest = entry_find(kept, slot->name);
        if (oldest && oldest->kind == ENTRY_TOMBSTONE &&
            oldest->place + kept->tombstones_max == place) {
            entry_remove(kept, slot->name);
        }
        kept->vouch_since_ms = slot->at_ms;
    }
    *slot = (struct kept_place){name, clock_read_ms(kept->wall)};
    entry_put(kept,
              &(struct kept_entry){
                  .name = name, .kind = ENTRY_TOMBSTONE, .place = place, .tombstone = tombstone});
}

/* ---- threads ---- */

/* Where the uid is, or belongs. */
static size_t thread_place(const struct tier_kept *kept, uint64_t uid)
{
    size_t at = kept->thread_count;
    while (at > 0 && kept->threads[at - 1]->head.uid >= uid) {
        at--;
    }
    return at;
}

static struct kept_thread *thread_find(const struct tier_kept *kept, uint64_t uid)
{
    size_t at = thread_place(kept, uid);
    bool there = at < kept->thread_count && kept->threads[at]->head.uid == uid;
    return there ? kept->threads[at] : NULL;
}

static struct kept_thread *thread_add(struct tier_kept *kept, uint64_t uid)
{
    assert(uid > 0 && uid < kept->next_uid);
    if (kept->thread_count == kept->thread_capacity) {
        kept->thread_capacity = kept->thread_capacity * 2 + 64;
        kept->threads =
            tier_kept_have(realloc(kept->threads, kept->thread_capacity * sizeof *kept->threads));
    }
    size_t at = thread_place(kept, uid);
    memmove(kept->threads + at + 1, kept->threads + at,
            (kept->thread_count - at) * sizeof *kept->threads);
    kept->thread_count++;
    kept->threads[at] = tier_kept_have(calloc(1, sizeof **kept->threads));
    kept->threads[at]->head.uid = uid;
    return kept->threads[at];
}

static void thread_cut(struct kept_thread *thread, uint32_t length)
{
    while (thread->step_count > length) {
        free(thread->steps[--thread->step_count].bytes);
    }
}

static void thread_remove(struct tier_kept *kept, struct kept_thread *thread)
{
    size_t at = thread_place(kept, thread->head.uid);
    memmove(kept->threads + at, kept->threads + at + 1,
            (--kept->thread_count - at) * sizeof *kept->threads);
    thread_cut(thread, 0);
    free(thread->steps);
    free(thread);
}

struct kept_thread *tier_kept_named(struct tier_kept *kept, struct bytes id)
{
    struct kept_entry *entry =
        entry_find(kept, index_hash_with(kept->secret, 0, RECORD_THREAD, id));
    return entry && entry->kind == ENTRY_THREAD ? thread_find(kept, entry->uid) : NULL;
}

/* ---- steps and their keys ---- */

static struct bytes copy_part(uint8_t **at, struct bytes part)
{
    struct bytes copy = bytes_of(*at, part.size);
    if (part.size > 0) {
        memcpy(*at, part.data, part.size);
        *at += part.size;
    }
    return copy;
}

static size_t parts_bytes(const struct step_parts *parts)
{
    return parts->segments.size + parts->response_id.size + parts->prefix.size +
           parts->visible.size + parts->model.size + parts->tool_calls.size + parts->payload.size;
}

/* Copies what the parts refer to and makes them refer to the copy; returns its end. */
static uint8_t *parts_move(struct step_parts *parts, uint8_t *at)
{
    struct bytes *all[] = {&parts->segments, &parts->response_id, &parts->prefix, &parts->visible,
                           &parts->model,    &parts->tool_calls,  &parts->payload};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        *all[i] = copy_part(&at, *all[i]);
    }
    return at;
}

static uint32_t first_position(const struct tier_change *change)
{
    assert(change->step_count <= change->head.length);
    return change->head.length - change->step_count;
}

static struct kept_step copy_step(const struct tier_change *change, uint32_t i)
{
    uint32_t number = first_position(change) + i;
    struct kept_step step = {.parts = {.number = number, .corrupt = true}};
    if (!change->steps[i]) {
        return step;
    }
    step_parts(change->steps[i], &step.parts);
    assert(step.parts.number == number);
    step.parts.inherited = number < change->inherited;
    if (step.parts.inherited) {
        step.parts.version = change->head.shared;
    }
    assert(step.parts.version <= change->head.version);
    step.bytes = tier_kept_have(malloc(parts_bytes(&step.parts) + 1));
    parts_move(&step.parts, step.bytes);
    return step;
}

struct kept_step *tier_kept_copy(const struct tier_change *change)
{
    struct kept_step *steps = tier_kept_have(calloc(change->step_count + 1, sizeof *steps));
    for (uint32_t i = 0; i < change->step_count; i++) {
        steps[i] = copy_step(change, i);
    }
    return steps;
}

typedef void key_fn(struct tier_kept *kept, const struct kept_thread *thread,
                    const struct step_parts *parts, struct index_hash name);

static void each_key(struct tier_kept *kept, const struct kept_thread *thread,
                     const struct step_parts *parts, key_fn *call)
{
    const uint8_t *secret = kept->secret;
    uint16_t tenant = thread->head.tenant;
    if (parts->corrupt || parts->inherited) {
        return;
    }
    if (parts->response_id.size > 0) {
        call(kept, thread, parts,
             index_hash_with(secret, tenant, RECORD_RESPONSE_ID, parts->response_id));
    }
    if (parts->prefix.size > 0) {
        call(kept, thread, parts, index_hash_with(secret, tenant, RECORD_PREFIX, parts->prefix));
    }
    struct wire_list list = {.encoded = parts->tool_calls, .count = parts->tool_call_count};
    struct bytes id;
    while (wire_list_next(&list, &id)) {
        call(kept, thread, parts, index_hash_with(secret, tenant, RECORD_TOOL_CALL, id));
    }
}

/* The key leaves with its step, unless a newer step has taken it over. */
static void key_leaves(struct tier_kept *kept, const struct kept_thread *thread,
                       const struct step_parts *parts, struct index_hash name)
{
    struct kept_entry *entry = entry_find(kept, name);
    if (!entry || entry->kind != ENTRY_KEY || entry->leaving || entry->uid != thread->head.uid ||
        entry->number != parts->number) {
        return;
    }
    if (kept->leaving_count == kept->leaving_capacity) {
        kept->leaving_capacity = kept->leaving_capacity * 2 + 64;
        kept->leaving =
            tier_kept_have(realloc(kept->leaving, kept->leaving_capacity * sizeof *kept->leaving));
    }
    entry->leaving = true;
    kept->leaving[kept->leaving_count++] = name;
}

/* The newest step has the key; once two threads have written it, it stays shared. */
static void key_enters(struct tier_kept *kept, const struct kept_thread *thread,
                       const struct step_parts *parts, struct index_hash name)
{
    const struct kept_entry *before = entry_find(kept, name);
    struct index_hash self = thread->head.name;
    bool shared = false;
    if (before && before->kind == ENTRY_TOMBSTONE) {
        shared = before->tombstone.shared || before->tombstone.version != (uint32_t)self.high;
    } else if (before) {
        shared = before->shared || !tier_kept_same_name(before->owner, self);
    }
    entry_put(kept, &(struct kept_entry){.name = name,
                                         .kind = ENTRY_KEY,
                                         .uid = thread->head.uid,
                                         .number = parts->number,
                                         .version = parts->version,
                                         .shared = shared,
                                         .owner = self});
}

static void keys_left(struct tier_kept *kept, enum reason reason)
{
    for (size_t i = 0; i < kept->leaving_count; i++) {
        struct kept_entry *entry = entry_find(kept, kept->leaving[i]);
        if (entry->kind != ENTRY_KEY || !entry->leaving) {
            continue; /* a new step carries it */
        }
        if (reason == REASON_NONE) {
            entry_remove(kept, kept->leaving[i]);
        } else {
            bury(kept, kept->leaving[i],
                 (struct tier_tombstone){.reason = reason,
                                         .shared = entry->shared,
                                         .version = (uint32_t)entry->owner.high});
        }
    }
    kept->leaving_count = 0;
}

/* Keys of those that the change (NULL: none) puts again as they were stay where they are by now.
 * Returns below which number there are such. */
static uint32_t steps_leave(struct tier_kept *kept, struct kept_thread *thread, uint32_t from,
                            const struct tier_change *change, const struct kept_step *steps)
{
    uint32_t known = 0, first = change ? first_position(change) : UINT32_MAX;
    for (uint32_t at = from; at < thread->step_count; at++) {
        const struct step_parts *parts = &thread->steps[at].parts;
        if (at >= first && at < change->head.length &&
            steps[at - first].parts.version == parts->version) {
            known = at + 1;
        } else {
            each_key(kept, thread, parts, key_leaves);
        }
    }
    thread_cut(thread, from);
    return known;
}

/* ---- changes ---- */

static void put_recalls(struct kept_thread *thread, const struct tier_change *change)
{
    if (change->drop_from == 0) { /* a whole put comes with all of them */
        memset(thread->recalls, 0, sizeof thread->recalls);
    }
    for (uint32_t i = 0; i < change->recall_count; i++) {
        const struct recall_entry *entry = &change->recalls[i];
        assert(entry->ordinal > 0 && entry->ordinal <= change->head.appends);
        thread->recalls[entry->ordinal % TIER_RECALL_MAX] = *entry;
    }
}

static void put_steps(struct tier_kept *kept, struct kept_thread *thread,
                      const struct tier_change *change, const struct kept_step *steps,
                      uint32_t known)
{
    uint32_t first = first_position(change);
    /* No step below may be missing that the tier was never given. */
    assert(first <= thread->step_count || first == change->head.lost);
    thread->steps =
        tier_kept_have(realloc(thread->steps, (change->head.length + 1) * sizeof *thread->steps));
    while (thread->step_count < first) {
        uint32_t number = thread->step_count++;
        thread->steps[number] = (struct kept_step){.parts = {.number = number, .corrupt = true}};
    }
    for (uint32_t i = 0; i < change->step_count; i++) {
        struct kept_step *step = &thread->steps[thread->step_count++];
        *step = steps[i];
        if (step->parts.number >= known) {
            each_key(kept, thread, &step->parts, key_enters);
        }
    }
    assert(thread->step_count == change->head.length);
}

static void apply_put(struct tier_kept *kept, const struct tier_change *change,
                      const struct kept_step *steps)
{
    const struct tier_head *head = &change->head;
    assert(head->retention_ms > 0 && head->id.size <= TIER_ID_BYTES_MAX);
    struct kept_thread *thread = thread_find(kept, head->uid);
    if (!thread) {
        assert(change->drop_from == 0 && first_position(change) == head->lost);
        thread = thread_add(kept, head->uid);
    } else {
        assert(tier_kept_same_name(thread->head.name, head->name));
    }
    uint32_t first = first_position(change);
    first = change->drop_from < first ? change->drop_from : first;
    uint32_t known = steps_leave(kept, thread, first, change, steps);
    thread->head = *head;
    thread->damaged = false;
    memcpy(thread->id, head->id.data, head->id.size);
    thread->head.id.data = thread->id;
    struct kept_entry *entry = entry_find(kept, head->name);
    if (!entry || entry->kind != ENTRY_THREAD || entry->uid < head->uid) {
        entry_put(kept,
                  &(struct kept_entry){.name = head->name, .kind = ENTRY_THREAD, .uid = head->uid});
    }
    put_steps(kept, thread, change, steps, known);
    keys_left(kept, change->reason);
    put_recalls(thread, change);
}

static void apply_erase(struct tier_kept *kept, const struct tier_change *change)
{
    const struct tier_head *head = &change->head;
    struct kept_thread *thread = thread_find(kept, head->uid);
    bool asked = change->asked_used_ms > 0;
    if (asked && thread && change->asked_used_ms != thread->head.used_ms) {
        return;
    }
    const struct kept_entry *entry = entry_find(kept, head->name);
    bool leads = entry && entry->kind == ENTRY_THREAD;
    bool to_younger = leads && entry->uid > head->uid;
    /* A younger thread has the name, or had it: that one, or its tombstone, stays. */
    bool taken_over = to_younger || (thread && !leads);
    struct tier_head last = asked && thread ? thread->head : *head;
    if (thread) {
        steps_leave(kept, thread, 0, NULL, NULL);
        keys_left(kept, change->reason);
        thread_remove(kept, thread);
        kept->erasures++;
    }
    if (change->reason != REASON_NONE && !taken_over && (thread || !asked)) {
        bury(kept, head->name,
             (struct tier_tombstone){
                 .reason = change->reason, .version = last.version, .steps = last.length});
    } else if (leads && !to_younger) {
        entry_remove(kept, head->name);
    }
}

/* ---- loads ---- */

/* Ordinals are unique and grow by one with each append. */
static void image_recalls(struct tier_image *image, const struct kept_thread *thread)
{
    uint32_t appends = thread->head.appends;
    uint32_t oldest = appends > TIER_RECALL_MAX ? appends - TIER_RECALL_MAX + 1 : 1;
    for (uint32_t ordinal = oldest; ordinal <= appends; ordinal++) {
        const struct recall_entry *entry = &thread->recalls[ordinal % TIER_RECALL_MAX];
        if (entry->ordinal == ordinal) {
            image->recalls[image->recall_count++] = *entry;
        }
    }
}

static struct tier_image *image_of(struct tier_kept *kept, const struct kept_thread *thread)
{
    const struct tier_head *head = &thread->head;
    uint32_t count = head->length - head->lost;
    const struct kept_step *steps = thread->steps + head->lost;
    size_t bytes = head->id.size;
    for (uint32_t i = 0; i < count; i++) {
        bytes += steps[i].damaged ? 0 : parts_bytes(&steps[i].parts);
    }
    struct tier_image *image =
        tier_kept_have(malloc(sizeof *image + count * sizeof *image->steps + bytes));
    *image = (struct tier_image){.head = *head, .step_count = count};
    image->steps = (struct step_parts *)(image + 1);
    uint8_t *at = (uint8_t *)(image->steps + count);
    image->head.id = copy_part(&at, head->id);
    for (uint32_t i = 0; i < count; i++) {
        if (steps[i].damaged || steps[i].parts.corrupt) {
            image->steps[i] = (struct step_parts){.number = head->lost + i, .corrupt = true};
            kept->damaged++;
        } else {
            image->steps[i] = steps[i].parts;
            at = parts_move(&image->steps[i], at);
        }
    }
    image_recalls(image, thread);
    return image;
}

static void load_thread(struct tier_kept *kept, struct tier_load *load,
                        const struct kept_entry *entry)
{
    const struct kept_thread *thread = thread_find(kept, entry->uid);
    assert(thread);
    if (thread->damaged) {
        load->found = TIER_CORRUPT;
        load->uid = entry->uid;
        kept->damaged++;
    } else if (thread->head.tenant == load->tenant &&
               bytes_equal(thread->head.id, bytes_of(load->id, load->id_size))) {
        load->found = TIER_FOUND;
        load->image = image_of(kept, thread);
    }
}

static void load_key(struct tier_kept *kept, struct tier_load *load, const struct kept_entry *entry)
{
    const struct kept_thread *thread = thread_find(kept, entry->uid);
    assert(thread);
    if (entry->damaged || thread->damaged) {
        load->found = TIER_CORRUPT;
        kept->damaged++;
        return;
    }
    load->found = TIER_FOUND;
    load->key = (struct tier_key){.owner = entry->owner,
                                  .id_size = (uint8_t)thread->head.id.size,
                                  .uid = entry->uid,
                                  .number = entry->number,
                                  .version = entry->version,
                                  .shared = entry->shared};
    memcpy(load->key.id, thread->head.id.data, thread->head.id.size);
}

/* Whether the thread is the one its name leads to. */
static bool is_current(struct tier_kept *kept, const struct kept_thread *thread)
{
    const struct kept_entry *entry = entry_find(kept, thread->head.name);
    return entry && entry->kind == ENTRY_THREAD && entry->uid == thread->head.uid;
}

static void load_page(struct tier_kept *kept, struct tier_load *load)
{
    struct bytes start = bytes_of(load->id, load->id_size);
    struct tier_page *page =
        tier_kept_have(malloc(sizeof *page + load->limit * sizeof page->listed[0]));
    *page = (struct tier_page){.last_uid = load->after_uid};
    for (size_t i = 0; i < kept->thread_count; i++) {
        const struct kept_thread *thread = kept->threads[i];
        const struct tier_head *head = &thread->head;
        if (head->uid <= load->after_uid) {
            continue;
        }
        if (page->count == load->limit) {
            page->more = true;
            break;
        }
        page->last_uid = head->uid;
        if (thread->damaged || head->tenant != load->tenant || !bytes_start_with(head->id, start) ||
            !is_current(kept, thread)) {
            continue;
        }
        struct tier_listed *listed = &page->listed[page->count++];
        *listed = (struct tier_listed){.uid = head->uid,
                                       .name = head->name,
                                       .payload_bytes = head->payload_bytes,
                                       .used_ms = head->used_ms,
                                       .version = head->version,
                                       .id_size = (uint8_t)head->id.size};
        memcpy(listed->id, head->id.data, head->id.size);
    }
    load->found = TIER_FOUND;
    load->page = page;
}

void tier_kept_read(struct tier_kept *kept, struct tier_load *load)
{
    load->found = TIER_ABSENT;
    load->image = NULL;
    load->page = NULL;
    if (load->kind == TIER_LOAD_PAGE) {
        load_page(kept, load);
        return;
    }
    const struct kept_entry *entry = entry_find(kept, load->name);
    if (!entry) {
        load->found = TIER_ABSENT;
    } else if (entry->kind == ENTRY_TOMBSTONE) {
        load->found = TIER_TOMBSTONE;
        load->tombstone = entry->tombstone;
    } else if (load->kind == TIER_LOAD_THREAD) {
        assert(entry->kind == ENTRY_THREAD);
        load_thread(kept, load, entry);
    } else {
        assert(entry->kind == ENTRY_KEY);
        load_key(kept, load, entry);
    }
}

/* ---- all of it ---- */

void tier_kept_init(struct tier_kept *kept, struct clock *wall, uint32_t tombstones)
{
    *kept = (struct tier_kept){.wall = wall, .tombstones_max = tombstones, .next_uid = 1};
    for (unsigned i = 0; i < sizeof kept->secret; i++) {
        kept->secret[i] = (uint8_t)(i * 151 + 7);
    }
    kept->ring = tier_kept_have(calloc(tombstones, sizeof *kept->ring));
    kept->vouch_since_ms = clock_read_ms(wall);
}

void tier_kept_free(struct tier_kept *kept)
{
    while (kept->thread_count > 0) {
        thread_remove(kept, kept->threads[0]);
    }
    for (unsigned i = 0; i < KEPT_BUCKETS; i++) {
        while (kept->entries[i]) {
            entry_remove(kept, kept->entries[i]->name);
        }
    }
    free(kept->threads);
    free(kept->leaving);
    free(kept->ring);
}

void tier_kept_apply(struct tier_kept *kept, const struct tier_change *change,
                     const struct kept_step *steps)
{
    if (change->kind == TIER_PUT) {
        apply_put(kept, change, steps);
    } else {
        apply_erase(kept, change);
    }
}

bool tier_kept_has(struct tier_kept *kept, struct index_hash name)
{
    return entry_find(kept, name) != NULL;
}

bool tier_kept_damage_key(struct tier_kept *kept, struct index_hash name)
{
    struct kept_entry *entry = entry_find(kept, name);
    bool is_key = entry && entry->kind == ENTRY_KEY;
    if (is_key) {
        entry->damaged = true;
    }
    return is_key;
}
