/* Opens, loads everything the ledger speaks of, compares. */
#include "tests/crash/judge.h"

#include "store/store_private.h"
#include "thread/records.h"
#include "wire/parse.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { QUICK = 1000 }; /* 20 s, after which a segment is left, are 20 ms */
enum { DROPPED_MAX = 8, ADDED_MAX = 4, LOADS_MAX = 2 * LEDGER_THREADS + DROPPED_MAX + ADDED_MAX };

__attribute__((format(printf, 2, 3))) static bool wrong(struct judge *judge, const char *format,
                                                        ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(judge->text, sizeof judge->text, format, list);
    va_end(list);
    return false;
}

static uint64_t read_quick_ms(struct clock *clock)
{
    (void)clock;
    return clock_read_ms(clock_monotonic()) * QUICK;
}

struct clock *small_clock(void)
{
    static struct clock quick = {.read_ms = read_quick_ms};
    return &quick;
}

struct store_settings judge_settings(const char *directory, struct clock_driven *wall)
{
    return (struct store_settings){.directory = directory,
                                   .disk_bytes = 256 << 20,
                                   .lag_max_bytes = 64 << 20,
                                   .tombstones = 4096,
                                   .pool = 1,
                                   .compression = STORE_COMPRESSION_ZSTD,
                                   .wall = &wall->clock,
                                   .clock = &wall->clock};
}

void judge_init(struct judge *judge, const char *directory)
{
    *judge = (struct judge){.directory = directory,
                            .tail_at_once_bytes = 1,
                            .content = malloc(LEDGER_CONTENT_BYTES_MAX)};
    clock_driven_init(&judge->wall, LEDGER_START_MS);
    sem_init(&judge->woken, 0, 0);
}

void judge_free(struct judge *judge)
{
    sem_destroy(&judge->woken);
    free(judge->content);
}

static void wake(void *context)
{
    struct judge *judge = context;
    sem_post(&judge->woken);
}

bool judge_open(struct judge *judge)
{
    struct store_settings settings = judge_settings(judge->directory, &judge->wall);
    settings.tail_at_once_bytes = judge->tail_at_once_bytes;
    struct store_refusal refusal;
    judge->store = store_open(&settings, &refusal);
    if (!judge->store) {
        return wrong(judge, "refused: %s", refusal.text);
    }
    judge->tier = store_tier(judge->store);
    judge->port = judge->tier->calls->port_open(judge->tier, wake, judge);
    if (!judge->port) {
        store_close(judge->store);
        return wrong(judge, "no port");
    }
    return true;
}

void judge_close(struct judge *judge)
{
    judge->tier->calls->port_close(judge->tier, judge->port);
    store_close(judge->store);
    judge->store = NULL;
}

/* ---- Loading ------------------------------------------------------------------------------- */

struct looking {
    struct tier_load loads[LOADS_MAX];
    unsigned count;
};

static struct tier_load *ask(struct judge *judge, struct looking *looking, enum record_kind kind,
                             const char *id)
{
    struct tier_load *load = &looking->loads[looking->count++];
    size_t size = strlen(id);
    *load = (struct tier_load){.port = judge->port,
                               .kind = kind == RECORD_THREAD ? TIER_LOAD_THREAD : TIER_LOAD_KEY,
                               .record_kind = (uint8_t)kind,
                               .id_size = (uint8_t)size};
    load->name = index_hash_with(store_secret(judge->store), 0, (uint8_t)kind, bytes_of(id, size));
    memcpy(load->id, id, size);
    return load;
}

static struct tier_load *ask_key(struct judge *judge, struct looking *looking, uint64_t content)
{
    char key[LEDGER_ID_BYTES];
    ledger_content_key(content, key);
    return ask(judge, looking, RECORD_TOOL_CALL, key);
}

/* Waits for `count` loads; whatever else comes is nobody's. */
static bool await(struct judge *judge, unsigned count)
{
    while (count > 0) {
        struct tier_event *event = judge->tier->calls->collect(judge->tier, judge->port);
        if (!event) {
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_sec += 30;
            if (sem_timedwait(&judge->woken, &until) != 0 && errno == ETIMEDOUT) {
                return wrong(judge, "no answer to a load within 30 s");
            }
        }
        while (event) {
            struct tier_event *next = event->next;
            if (event->kind == TIER_LOADED) {
                count--;
            } else if (event->kind == TIER_DUE) {
                free(event);
            }
            event = next;
        }
    }
    return true;
}

static bool load_all(struct judge *judge, struct looking *looking, unsigned from)
{
    for (unsigned i = from; i < looking->count; i++) {
        if (judge->tier->calls->load(judge->tier, &looking->loads[i]) != STATUS_OK) {
            abort(); /* far fewer than the limit */
        }
    }
    return await(judge, looking->count - from);
}

static void let_go(struct looking *looking)
{
    for (unsigned i = 0; i < looking->count; i++) {
        free(looking->loads[i].image);
        free(looking->loads[i].page);
    }
}

/* ---- Threads ------------------------------------------------------------------------------- */

static const char *found_text(enum tier_found found)
{
    static const char *const texts[] = {"absent", "found", "a tombstone", "corrupt", "failed"};
    return texts[found];
}

/* Whether the load shows this note, by its numbers. */
static bool shows(const struct tier_load *load, const struct note *note)
{
    if (note->index == 0) {
        return load->found == TIER_ABSENT;
    }
    if (note->erased) {
        const struct tier_tombstone *tombstone = &load->tombstone;
        return load->found == TIER_TOMBSTONE && tombstone->reason == (enum reason)note->reason &&
               tombstone->version == note->version && tombstone->steps == note->length;
    }
    if (load->found != TIER_FOUND) {
        return false;
    }
    const struct tier_head *head = &load->image->head;
    return head->uid == note->uid && head->version == note->version &&
           head->length == note->length && head->lost == 0 && head->shared == note->shared &&
           head->appends == note->appends && head->floor == ledger_floor(note) &&
           head->created_ms == note->created_ms && head->used_ms == note->used_ms &&
           head->payload_bytes == note->payload_bytes && head->retention_ms == LEDGER_RETENTION_MS;
}

static bool check_step(struct judge *judge, const struct note *note, uint32_t number,
                       const struct step_parts *parts)
{
    const struct note_step *meant = &note->steps[number];
    size_t size = ledger_content_bytes(meant->content);
    if (parts->corrupt || parts->number != number || parts->version != meant->version ||
        parts->inherited != (number < note->inherited) || parts->payload.size != size ||
        parts->tokens != (uint32_t)(meant->content & 0xffff) || parts->tool_call_count != 1) {
        return wrong(judge,
                     "change %u, thread %u: step %u of %u is %s: number %u version %u (meant %u) "
                     "%zu bytes (meant %zu) inherited %d",
                     note->index, note->thread, number, note->length,
                     parts->corrupt ? "corrupt" : "another", parts->number, parts->version,
                     meant->version, parts->payload.size, size, parts->inherited);
    }
    ledger_content_fill(meant->content, judge->content);
    struct bytes id = {0};
    struct wire_list calls = {.encoded = parts->tool_calls, .count = parts->tool_call_count};
    char key[LEDGER_ID_BYTES];
    ledger_content_key(meant->content, key);
    uint8_t visible[16];
    uint32_t segment = 0;
    if (parts->segments.size == sizeof segment) {
        memcpy(&segment, parts->segments.data, sizeof segment);
    }
    bool tokens = segment >> 30 == WIRE_KIND_TOKENS;
    if (memcmp(judge->content, parts->payload.data, size) != 0 || !wire_list_next(&calls, &id) ||
        !bytes_equal(id, bytes_text(key)) || tokens != ledger_content_is_tokens(meant->content) ||
        !bytes_equal(parts->visible, ledger_content_visible(meant->content, visible))) {
        return wrong(judge, "change %u, thread %u: step %u has other bytes", note->index,
                     note->thread, number);
    }
    return true;
}

static bool check_thread(struct judge *judge, const struct tier_load *load, const struct note *note)
{
    if (note->index == 0 || note->erased) {
        return true;
    }
    const struct tier_image *image = load->image;
    char id[LEDGER_ID_BYTES];
    ledger_thread_id(note->thread, id);
    if (!bytes_equal(image->head.id, bytes_text(id)) || image->step_count != note->length ||
        image->recall_count != note->appends) {
        return wrong(judge, "change %u, thread %u: %u of %u steps, %u of %u recalls", note->index,
                     note->thread, image->step_count, note->length, image->recall_count,
                     note->appends);
    }
    for (uint32_t i = 0; i < note->length; i++) {
        if (!check_step(judge, note, i, &image->steps[i])) {
            return false;
        }
    }
    for (uint32_t i = 0; i < note->appends; i++) {
        struct recall_entry meant = ledger_recall(&note->recalls[i], i + 1);
        const struct recall_entry *is = &image->recalls[i];
        if (is->key.low != meant.key.low || is->key.high != meant.key.high ||
            is->digest[0] != meant.digest[0] || is->digest[1] != meant.digest[1] ||
            is->ordinal != meant.ordinal || is->step != meant.step ||
            is->version != meant.version || is->created != meant.created || is->lost != 0) {
            return wrong(judge, "change %u, thread %u: recall %u is another", note->index,
                         note->thread, i);
        }
    }
    return true;
}

static bool unexplained(struct judge *judge, const struct ledger *ledger, unsigned thread,
                        const struct tier_load *load)
{
    uint32_t kept = ledger->kept_of[thread];
    char is[160] = "";
    if (load->found == TIER_FOUND) {
        const struct tier_head *head = &load->image->head;
        snprintf(is, sizeof is, " uid %" PRIu64 " v%u length %u appends %u used +%" PRIu64,
                 head->uid, head->version, head->length, head->appends,
                 head->used_ms - LEDGER_START_MS);
    } else if (load->found == TIER_TOMBSTONE) {
        snprintf(is, sizeof is, " reason %d v%u steps %u", load->tombstone.reason,
                 load->tombstone.version, load->tombstone.steps);
    }
    struct note last = ledger_thread(ledger, ledger->count, thread);
    return wrong(judge,
                 "thread %u is %s%s, as after none of its changes from %u (durable) to %u (uid "
                 "%" PRIu64 " v%u length %u erased %d)",
                 thread, found_text(load->found), is, kept, last.index, last.uid, last.version,
                 last.length, last.erased);
}

/* The span of changes after which the thread is as loaded: low to high. */
static bool place_thread(struct judge *judge, const struct ledger *ledger, unsigned thread,
                         const struct tier_load *load, bool loose, uint32_t *low, uint32_t *high)
{
    uint32_t least = loose ? ledger->kept_of[thread] : ledger->kept;
    struct note start = ledger_thread(ledger, least, thread);
    const struct note *here = &start;
    *low = least;
    for (uint32_t i = least; i <= ledger->count; i++) {
        const struct note *next = i < ledger->count ? &ledger->notes[i] : NULL;
        if (next && next->thread != thread) {
            continue;
        }
        *high = i;
        if (shows(load, here)) {
            return check_thread(judge, load, here);
        }
        here = next;
        *low = i + 1;
    }
    return unexplained(judge, ledger, thread, load);
}

static bool place_all(struct judge *judge, const struct ledger *ledger, bool loose,
                      const struct looking *looking)
{
    uint32_t least = ledger->kept;
    uint32_t most = ledger->count;
    unsigned who_least = 0;
    unsigned who_most = 0;
    for (unsigned i = 0; i < LEDGER_THREADS; i++) {
        uint32_t low = 0;
        uint32_t high = 0;
        if (!place_thread(judge, ledger, i, &looking->loads[i], loose, &low, &high)) {
            return false;
        }
        if (low > least) {
            least = low;
            who_least = i;
        }
        if (high < most) {
            most = high;
            who_most = i;
        }
    }
    if (!loose && least > most) {
        return wrong(judge, "thread %u is as after change %u or later, thread %u before change %u",
                     who_least, least, who_most, most + 1);
    }
    judge->known = loose ? 0 : least;
    return true;
}

/* ---- What leads to the threads --------------------------------------------------------------- */

static bool check_key(struct judge *judge, const struct tier_load *load, const struct note *note)
{
    uint32_t last = note->length - 1;
    if (load->found != TIER_FOUND || load->key.uid != note->uid || load->key.number != last ||
        load->key.version != note->steps[last].version) {
        return wrong(judge, "change %u, thread %u: the key of step %u is %s, number %u version %u",
                     note->index, note->thread, last, found_text(load->found), load->key.number,
                     load->key.version);
    }
    return true;
}

/* Keys of the newest steps, of steps that went, of steps that never were. */
static bool check_keys(struct judge *judge, const struct ledger *ledger, struct looking *looking)
{
    struct note newest[LEDGER_THREADS];
    struct tier_load *of[LEDGER_THREADS] = {NULL};
    struct tier_load *gone[DROPPED_MAX];
    struct tier_load *never[ADDED_MAX];
    unsigned gone_count = 0;
    unsigned never_count = 0;
    unsigned from = looking->count;
    for (unsigned i = 0; i < LEDGER_THREADS; i++) {
        newest[i] = ledger_thread(ledger, judge->known, i);
        const struct note *note = &newest[i];
        if (note->index > 0 && !note->erased && note->length > note->inherited) {
            of[i] = ask_key(judge, looking, note->steps[note->length - 1].content);
        }
    }
    for (uint32_t i = judge->known; i > 0 && gone_count < DROPPED_MAX; i--) {
        if (ledger->notes[i - 1].dropped) {
            gone[gone_count++] = ask_key(judge, looking, ledger->notes[i - 1].dropped);
        }
    }
    for (uint32_t i = judge->known; i < ledger->count && never_count < ADDED_MAX; i++) {
        if (ledger->notes[i].added) {
            never[never_count++] = ask_key(judge, looking, ledger->notes[i].added);
        }
    }
    if (!load_all(judge, looking, from)) {
        return false;
    }
    for (unsigned i = 0; i < LEDGER_THREADS; i++) {
        if (of[i] && !check_key(judge, of[i], &newest[i])) {
            return false;
        }
    }
    for (unsigned i = 0; i < gone_count; i++) {
        if (gone[i]->found != TIER_TOMBSTONE || gone[i]->tombstone.reason != REASON_REWOUND) {
            return wrong(judge, "after change %u: the key of a step that was rewound is %s",
                         judge->known, found_text(gone[i]->found));
        }
    }
    for (unsigned i = 0; i < never_count; i++) {
        if (never[i]->found != TIER_ABSENT) {
            return wrong(judge, "after change %u: the key of a later step is %s", judge->known,
                         found_text(never[i]->found));
        }
    }
    return true;
}

static bool check_list(struct judge *judge, const struct ledger *ledger)
{
    struct tier_load load = {.port = judge->port, .kind = TIER_LOAD_PAGE, .limit = 100};
    if (judge->tier->calls->load(judge->tier, &load) != STATUS_OK || !await(judge, 1)) {
        return wrong(judge, "the list cannot be asked for");
    }
    unsigned count = 0;
    unsigned found = 0;
    for (unsigned i = 0; i < LEDGER_THREADS && load.page; i++) {
        struct note note = ledger_thread(ledger, judge->known, i);
        bool there = note.index > 0 && !note.erased;
        count += there;
        for (uint32_t at = 0; there && at < load.page->count; at++) {
            const struct tier_listed *listed = &load.page->listed[at];
            found += listed->uid == note.uid && listed->version == note.version;
        }
    }
    bool good = load.page && load.page->count == count && found == count && !load.page->more;
    if (!good) {
        wrong(judge, "after change %u: the list has %u threads (%u of them known), not %u",
              judge->known, load.page ? load.page->count : 0, found, count);
    }
    free(load.page);
    return good;
}

/* ---- The rest ------------------------------------------------------------------------------ */

static bool nothing_aside(struct judge *judge)
{
    DIR *all = opendir(judge->directory);
    bool good = all != NULL;
    for (struct dirent *one; good && (one = readdir(all));) {
        if (strstr(one->d_name, ".damaged")) {
            good = wrong(judge, "a piece of the log was set aside: %s", one->d_name);
        }
    }
    if (all) {
        closedir(all);
    }
    return good;
}

static void note_damage(void *context, const char *text)
{
    struct judge *judge = context;
    wrong(judge, "audit: %s", text);
}

static bool check_whole(struct judge *judge, unsigned flags)
{
    uint64_t values[METRIC_COUNT] = {0};
    judge->tier->calls->metrics(judge->tier, values);
    if (values[METRIC_DISK_DAMAGED] > 0 || values[METRIC_DISK_READ_ONLY] > 0) {
        return wrong(judge, "%" PRIu64 " damaged records, read-only %" PRIu64,
                     values[METRIC_DISK_DAMAGED], values[METRIC_DISK_READ_ONLY]);
    }
    if (!(flags & JUDGE_AUDIT)) {
        return true;
    }
    struct tree_audit audit;
    struct wal_trouble trouble = {0};
    judge->text[0] = '\0';
    if (tree_verify(judge->store->tree, note_damage, judge, &audit, &trouble) != STATUS_OK) {
        return wrong(judge, "audit: %s", trouble.text);
    }
    return audit.damaged == 0;
}

static void ask_threads(struct judge *judge, struct looking *looking)
{
    for (unsigned i = 0; i < LEDGER_THREADS; i++) {
        char id[LEDGER_ID_BYTES];
        ledger_thread_id(i, id);
        ask(judge, looking, RECORD_THREAD, id);
    }
}

bool judge_is_served(struct judge *judge)
{
    struct looking *looking = calloc(1, sizeof *looking);
    ask_threads(judge, looking);
    /* Without await: other events are the caller's. */
    bool good = true;
    for (unsigned i = 0; i < looking->count && good; i++) {
        unsigned damaged = 0;
        tree_load(judge->store->tree, &looking->loads[i], &damaged);
        judge->unreadable |= looking->loads[i].found == TIER_FAILED;
        if (damaged > 0 || looking->loads[i].found == TIER_CORRUPT) {
            good = wrong(judge, "thread %u is %s while the disk fails", i,
                         found_text(looking->loads[i].found));
        }
    }
    let_go(looking);
    free(looking);
    return good;
}

bool judge_look(struct judge *judge, const struct ledger *ledger, unsigned flags)
{
    bool loose = (flags & JUDGE_LOOSE) != 0;
    struct looking *looking = calloc(1, sizeof *looking);
    judge->text[0] = '\0';
    ask_threads(judge, looking);
    bool good = load_all(judge, looking, 0) && place_all(judge, ledger, loose, looking) &&
                (loose || (check_keys(judge, ledger, looking) && check_list(judge, ledger))) &&
                check_whole(judge, flags) && ((flags & JUDGE_DAMAGE_IS_OK) || nothing_aside(judge));
    let_go(looking);
    free(looking);
    return good;
}
