/*
 * The store against the reference model: the same random changes to both, and after each few of
 * them both must say the same of every thread, key, page and tombstone. The store is closed and
 * opened in between.
 */
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"
#include "tests/store/tier_subject.h"

#include <inttypes.h>

enum {
    OPERATIONS = 3000,
    THREADS = 16,
    KEYS = 24, /* of each kind: few, so that they meet */
    LINE_BYTES = 1000,
    LENGTH_MAX = 40,
};

struct actor {
    struct told_thread told; /* uid: the model's */
    uint64_t uids[SUBJECT_KINDS];
    bool alive;
    /* An older life under the name, still to be erased. */
    struct told_thread past;
    uint64_t past_uids[SUBJECT_KINDS];
    bool has_past;
};

static struct clock_driven wall;
static struct domain source;
static struct subject subjects[SUBJECT_KINDS];
static struct actor actors[THREADS];
static uint64_t random_state;
static unsigned operation;

static uint64_t below(uint64_t limit)
{
    return trial_below(&random_state, limit);
}

static void setup(void)
{
    struct threads_settings settings = domain_settings();
    settings.memory_bytes = 512 << 20;
    settings.frame_max_bytes = 64 << 20;
    domain_open(&source, settings);
    clock_driven_init(&wall, CALLER_CREATED_MS);
    for (int i = 0; i < SUBJECT_KINDS; i++) {
        subjects[i] =
            (struct subject){.kind = (enum subject_kind)i, .wall = &wall, .tombstones = 1 << 16};
        subject_open(&subjects[i]);
    }
}

static void teardown(void)
{
    for (int i = 0; i < SUBJECT_KINDS; i++) {
        subject_close(&subjects[i]);
    }
    domain_close(&source);
}

/* ---- The same to both ---- */

static void put_both(struct actor *actor, uint32_t from, enum reason reason, int64_t corrupt)
{
    bool recall = from < actor->told.length && actor->told.appends > 0 && below(2) == 0;
    for (int i = 0; i < SUBJECT_KINDS; i++) {
        struct told_thread told = actor->told;
        told.uid = actor->uids[i];
        struct caller_change *change =
            caller_put(&subjects[i].caller, &source, &told, from, reason);
        change->tier.wants_durable = operation % 3 == 0;
        uint32_t first = told.length - change->tier.step_count;
        if (corrupt >= (int64_t)first) {
            step_unpin(change->steps[corrupt - first]);
            change->steps[corrupt - first] = NULL;
        }
        if (recall) {
            caller_recall(change, told.appends, told.length - 1);
        }
        ck_assert_int_eq(caller_submit(change), STATUS_OK);
    }
}

static void erase_both(const struct told_thread *told, const uint64_t *uids, enum reason reason)
{
    for (int i = 0; i < SUBJECT_KINDS; i++) {
        struct told_thread mine = *told;
        mine.uid = uids[i];
        struct caller_change *change = caller_erase(&subjects[i].caller, &mine, reason);
        change->tier.wants_durable = operation % 2 == 0;
        ck_assert_int_eq(caller_submit(change), STATUS_OK);
    }
}

static void begin_life(struct actor *actor, unsigned number)
{
    char id[20];
    snprintf(id, sizeof id, "thread-%u", number);
    for (int i = 0; i < SUBJECT_KINDS; i++) {
        actor->told = caller_thread(&subjects[i].caller, id);
        actor->uids[i] = actor->told.uid;
    }
    actor->told.used_ms += below(1000000);
    actor->alive = true;
}

/* ---- Operations ---- */

static void key_text(char *text, const char *kind, uint64_t number)
{
    /* A prefix has 16 bytes; the others may as well. */
    snprintf(text, LINE_BYTES, "%s-%014" PRIu64, kind, number);
}

static void add_key(char *line, const char *option, const char *kind)
{
    char text[LINE_BYTES];
    key_text(text, kind, below(KEYS));
    snprintf(line + strlen(line), LINE_BYTES - strlen(line), " %s=%.16s", option, text);
}

static void append_one(struct actor *actor)
{
    char line[LINE_BYTES];
    snprintf(line, sizeof line, "append %s tokens=%u", actor->told.id, (unsigned)below(100));
    if (below(3) == 0) {
        add_key(line, "response_id", "r");
    }
    if (below(4) == 0) {
        add_key(line, "prefix", "p");
    }
    if (below(4) == 0) {
        add_key(line, "visible", "v");
    }
    for (uint64_t calls = below(4); calls > 0; calls--) {
        add_key(line, "call", "c");
    }
    size_t at = strlen(line);
    unsigned size = (unsigned)(below(20) == 0 ? below(30000) + 1 : below(200) + 1);
    if (below(15) > 0) {
        const char *kinds = below(4) == 0 ? " kind=tokens kind=opaque" : "";
        snprintf(line + at, sizeof line - at, "%s : ab%u*%u second", kinds, operation, size);
    }
    caller_say(&source, &actor->told, line);
}

static void do_append(struct actor *actor, unsigned number)
{
    bool fresh = !actor->alive;
    if (fresh) {
        begin_life(actor, number);
    }
    if (actor->told.length >= LENGTH_MAX) {
        return;
    }
    uint32_t from = actor->told.length;
    for (uint64_t steps = below(4) == 0 ? below(5) + 1 : 1; steps > 0; steps--) {
        append_one(actor);
    }
    if (fresh && below(4) == 0) {
        actor->told.lost = (uint32_t)below(actor->told.length + 1);
    }
    put_both(actor, from, REASON_NONE, -1);
}

static void rewind_source(struct actor *actor)
{
    char line[LINE_BYTES];
    int64_t to = (int64_t)below(actor->told.length) - 1;
    snprintf(line, sizeof line, "rewind %s to=%" PRId64, actor->told.id, to);
    caller_say(&source, &actor->told, line);
    if (actor->told.lost > actor->told.length) {
        actor->told.lost = actor->told.length;
    }
}

static void do_rewind(struct actor *actor)
{
    if (!actor->alive || actor->told.length == 0) {
        return;
    }
    rewind_source(actor);
    uint32_t from = actor->told.length;
    if (below(2) == 0) {
        append_one(actor);
    }
    put_both(actor, from, REASON_REWOUND, -1);
}

static void do_whole(struct actor *actor)
{
    if (!actor->alive) {
        return;
    }
    if (below(2) == 0 && actor->told.length > 0) { /* as after trouble: the tier was not told */
        rewind_source(actor);
        append_one(actor);
    }
    int64_t corrupt = -1;
    if (below(3) == 0 && actor->told.length > actor->told.lost) {
        corrupt = actor->told.lost + (int64_t)below(actor->told.length - actor->told.lost);
    }
    put_both(actor, 0, REASON_REWOUND, corrupt);
}

static void do_use(struct actor *actor)
{
    if (actor->alive) {
        actor->told.used_ms += below(100000);
        actor->told.floor = (uint32_t)below(LENGTH_MAX);
        put_both(actor, actor->told.length, REASON_NONE, -1);
    }
}

static void forget_source(struct actor *actor)
{
    char line[LINE_BYTES];
    snprintf(line, sizeof line, "forget %s", actor->told.id);
    ck_assert_str_eq(domain_say(&source, line), "forgotten");
    actor->alive = false;
}

static enum reason any_reason(void)
{
    static const enum reason reasons[] = {REASON_EXPIRED, REASON_MAX_AGE, REASON_EVICTED,
                                          REASON_FORGOTTEN, REASON_NONE};
    return reasons[below(sizeof reasons / sizeof reasons[0])];
}

static void do_erase(struct actor *actor)
{
    if (actor->has_past && below(2) == 0) {
        erase_both(&actor->past, actor->past_uids, any_reason());
        actor->has_past = false;
    } else if (actor->alive) {
        erase_both(&actor->told, actor->uids, any_reason());
        forget_source(actor);
    }
}

/* The next append begins another life under the name; the old one is erased after that. */
static void do_abandon(struct actor *actor, unsigned number)
{
    if (actor->alive && !actor->has_past) {
        actor->past = actor->told;
        memcpy(actor->past_uids, actor->uids, sizeof actor->uids);
        actor->has_past = true;
        forget_source(actor);
        do_append(actor, number);
    }
}

static void do_fork(struct actor *actor, unsigned number)
{
    const struct actor *from = &actors[below(THREADS)];
    char line[LINE_BYTES];
    if (actor->alive || !from->alive || from->told.length <= from->told.lost) {
        return;
    }
    begin_life(actor, number);
    uint64_t at = below(from->told.length);
    snprintf(line, sizeof line, "fork %s from=%s at=%" PRIu64, actor->told.id, from->told.id, at);
    caller_say(&source, &actor->told, line);
    actor->told.lost = from->told.lost < actor->told.length ? from->told.lost : actor->told.length;
    put_both(actor, 0, REASON_NONE, -1);
}

static void operate(void)
{
    unsigned number = (unsigned)below(THREADS);
    struct actor *actor = &actors[number];
    uint64_t dice = below(100);
    if (dice < 55) {
        do_append(actor, number);
    } else if (dice < 65) {
        do_rewind(actor);
    } else if (dice < 75) {
        do_whole(actor);
    } else if (dice < 80) {
        do_use(actor);
    } else if (dice < 90) {
        do_erase(actor);
    } else if (dice < 94) {
        do_abandon(actor, number);
    } else {
        do_fork(actor, number);
    }
}

/* ---- The same from both ---- */

static void same_text(enum record_kind kind, const char *id)
{
    static char said[1 << 20];
    snprintf(said, sizeof said, "%s", caller_show_whole(&subjects[SUBJECT_MODEL].caller, kind, id));
    const char *other = caller_show_whole(&subjects[SUBJECT_STORE].caller, kind, id);
    ck_assert_msg(strcmp(said, other) == 0, "operation %u, %s:\nmodel: %s\nstore: %s", operation,
                  id, said, other);
}

static void same_key(enum record_kind kind, const char *name, uint64_t number)
{
    char text[LINE_BYTES];
    key_text(text, name, number);
    text[16] = '\0';
    same_text(kind, text);
    const struct tier_load *model = &subjects[SUBJECT_MODEL].caller.load;
    const struct tier_load *store = &subjects[SUBJECT_STORE].caller.load;
    for (unsigned i = 0; model->found == TIER_FOUND && i < THREADS; i++) {
        /* Of two lives the same one, if it is the one under way. */
        ck_assert_int_eq(model->key.uid == actors[i].uids[SUBJECT_MODEL],
                         store->key.uid == actors[i].uids[SUBJECT_STORE]);
    }
}

/* Whether it is a life under way; a page may show one that another has taken the name from. */
static bool is_current(enum subject_kind kind, uint64_t uid)
{
    for (unsigned i = 0; i < THREADS; i++) {
        if (actors[i].alive && actors[i].uids[kind] == uid) {
            return true;
        }
    }
    return false;
}

static void list(enum subject_kind kind, char *text, size_t room)
{
    struct tier_caller *caller = &subjects[kind].caller;
    uint64_t after = 0;
    size_t size = 0;
    text[0] = '\0';
    for (bool more = true; more;) {
        const struct tier_load *load = caller_page(caller, after, "thread-1", 3);
        ck_assert_int_eq(load->found, TIER_FOUND);
        for (uint32_t i = 0; i < load->page->count; i++) {
            const struct tier_listed *listed = &load->page->listed[i];
            if (!is_current(kind, listed->uid)) {
                continue;
            }
            size += (size_t)snprintf(text + size, room - size, "%.*s v%u %" PRIu64 " %" PRIu64 ", ",
                                     listed->id_size, (const char *)listed->id, listed->version,
                                     listed->payload_bytes, listed->used_ms);
        }
        more = load->page->more;
        after = load->page->last_uid;
    }
}

static void same_pages(void)
{
    char texts[SUBJECT_KINDS][THREADS * 100];
    for (int i = 0; i < SUBJECT_KINDS; i++) {
        list((enum subject_kind)i, texts[i], sizeof texts[i]);
    }
    ck_assert_str_eq(texts[SUBJECT_MODEL], texts[SUBJECT_STORE]);
}

static void compare(bool all)
{
    char id[20];
    for (int i = 0; i < SUBJECT_KINDS; i++) {
        caller_wait(&subjects[i].caller);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        if (all || below(8) == 0) {
            snprintf(id, sizeof id, "thread-%u", i);
            same_text(RECORD_THREAD, id);
        }
    }
    for (uint64_t i = 0; i < KEYS; i++) {
        if (all || below(8) == 0) {
            same_key(RECORD_RESPONSE_ID, "r", i);
            same_key(RECORD_TOOL_CALL, "c", i);
            same_key(RECORD_PREFIX, "p", i);
        }
    }
    same_pages();
}

static void run(uint64_t seed)
{
    random_state = seed;
    memset(actors, 0, sizeof actors);
    uint64_t count = trial_count(OPERATIONS);
    for (operation = 1; operation <= count; operation++) {
        operate();
        clock_driven_advance(&wall, 1);
        if (operation % 300 == 0) {
            subject_reopen(&subjects[SUBJECT_STORE]);
        }
        if (operation % 20 == 0) {
            compare(operation % 100 == 0);
        }
    }
    compare(true);
}

START_TEST(one_history)
{
    run(1);
}
END_TEST

START_TEST(another_history)
{
    run(20261121);
}
END_TEST

int main(void)
{
    return SUITE_RUN("tier: random", setup, teardown, 120, one_history, another_history);
}
