/* Threads as a lane would change them, and the changes on their way. */
#include "tests/crash/script.h"

#include "store/store_private.h"
#include "tests/crash/judge.h"
#include "tests/lib/domain.h"
#include "tests/lib/trial.h"
#include "thread/steps.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FLIGHTS_MAX = 48, RECOVER_MS = 15000, DRAIN_MS = 30000, SCRIPT_ID_BITS = 20 };

/* A change with all that it refers to, until its last event. */
struct flight {
    struct tier_change change;
    struct flight *next;
    uint32_t index;
    unsigned thread;
    char id[LEDGER_ID_BYTES];
    struct step *steps[LEDGER_STEPS_MAX];
    struct recall_entry recalls[LEDGER_APPENDS_MAX];
};

struct actor {
    const struct script *script;
    struct judge judge; /* has the store */
    struct domain domain;
    struct ledger ledger;
    struct note threads[LEDGER_THREADS];
    uint32_t generations[LEDGER_THREADS]; /* of the last put */
    bool unsure[LEDGER_THREADS];          /* it may not have come to be */
    unsigned flights[LEDGER_THREADS];     /* changes under way */
    uint64_t random;
    uint64_t contents;
    uint32_t count; /* changes submitted */
    unsigned under_way;
    unsigned refused;
    unsigned failed;
    trace_mark_fn *mark;
    trace_fault_fn *fault;
    trace_count_fn *matched;
    trace_die_fn *die;
};

static uint64_t below(struct actor *actor, uint64_t limit)
{
    return trial_below(&actor->random, limit);
}

static bool is_alive(const struct note *note)
{
    return note->index > 0 && !note->erased;
}

/* ---- What a change is ---------------------------------------------------------------------- */

/* From which position on the steps go, and are given. */
struct plan {
    enum tier_change_kind kind;
    enum reason reason;
    uint32_t drop_from;
    uint32_t from;
    uint32_t recall_from;
};

static void add_step(struct actor *actor, struct note *note)
{
    uint64_t content = (actor->script->seed << SCRIPT_ID_BITS | ++actor->contents) + 1;
    note->version++;
    note->steps[note->length] = (struct note_step){.content = content, .version = note->version};
    note->recalls[note->appends] =
        (struct note_recall){.content = content, .step = note->length, .version = note->version};
    note->appends++;
    note->length++;
    note->payload_bytes += ledger_content_bytes(content);
    note->added = content;
}

static void rewind_to(struct note *note, uint32_t keep)
{
    note->version++;
    if (note->length > keep && keep >= note->inherited) {
        note->dropped = note->steps[keep].content;
    }
    while (note->length > keep) {
        note->payload_bytes -= ledger_content_bytes(note->steps[--note->length].content);
    }
    note->inherited = note->inherited < keep ? note->inherited : keep;
}

static void begin_life(struct actor *actor, struct note *note)
{
    const struct note *origin = &actor->threads[below(actor, LEDGER_THREADS)];
    bool forks = below(actor, 4) == 0 && is_alive(origin) && origin->length > 0 &&
                 origin->length < LEDGER_STEPS_MAX && origin != note;
    *note = (struct note){.thread = note->thread,
                          .uid = actor->judge.tier->calls->take_uid(actor->judge.tier),
                          .version = 4 * actor->count, /* no two lives end in the same way */
                          .created_ms = LEDGER_START_MS + actor->count};
    if (!forks) {
        return;
    }
    note->inherited = 1 + (uint32_t)below(actor, origin->length);
    note->length = note->inherited;
    note->shared = origin->version;
    note->version = note->version > note->shared ? note->version : note->shared;
    for (uint32_t i = 0; i < note->length; i++) {
        note->steps[i] = origin->steps[i];
        note->steps[i].version = note->shared;
        note->payload_bytes += ledger_content_bytes(note->steps[i].content);
    }
}

static struct plan erase(struct actor *actor, struct note *note)
{
    static const enum reason reasons[] = {REASON_FORGOTTEN, REASON_EXPIRED, REASON_EVICTED};
    note->erased = true;
    note->reason = (uint8_t)reasons[below(actor, 3)];
    return (struct plan){.kind = TIER_ERASE, .reason = (enum reason)note->reason};
}

/* Changes the thread and says what of it is new. */
static struct plan change_thread(struct actor *actor, struct note *note, bool whole)
{
    note->added = note->dropped = 0;
    uint64_t dice = below(actor, 100);
    if (!is_alive(note)) {
        begin_life(actor, note);
        add_step(actor, note);
        return (struct plan){.kind = TIER_PUT};
    }
    if (dice < 8 || note->appends == LEDGER_APPENDS_MAX) {
        return erase(actor, note);
    }
    struct plan plan = {.kind = TIER_PUT, .recall_from = note->appends};
    if (note->length == LEDGER_STEPS_MAX || (dice < 28 && note->length > 0)) {
        uint32_t keep = (uint32_t)below(actor, note->length);
        rewind_to(note, keep);
        plan.reason = REASON_REWOUND;
        if (dice % 2 == 0) {
            add_step(actor, note);
        }
        plan.drop_from = plan.from = keep;
    } else if (dice < 34) {
        plan.drop_from = plan.from = note->length; /* only a touch */
    } else {
        plan.drop_from = plan.from = note->length;
        add_step(actor, note);
    }
    if (whole || dice % 16 == 0) {
        plan = (struct plan){.kind = TIER_PUT, .reason = REASON_REWOUND};
    } else if (plan.drop_from == 0) {
        plan.recall_from = 0; /* all recalls go with such a change */
    }
    return plan;
}

/* ---- Submitting ---------------------------------------------------------------------------- */

static struct step *make_step(struct actor *actor, const struct note *note, uint32_t number)
{
    static struct ask ask;
    const struct note_step *meant = &note->steps[number];
    char key[LEDGER_ID_BYTES];
    ledger_content_key(meant->content, key);
    ledger_content_fill(meant->content, actor->judge.content);
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
    ask_kind(&ask, ledger_content_is_tokens(meant->content) ? WIRE_KIND_TOKENS : WIRE_KIND_TEXT);
    ask_payload(&ask, bytes_of(actor->judge.content, ledger_content_bytes(meant->content)));
    ask_call(&ask, bytes_text(key));
    ask_set(&ask, tokens, meant->content & 0xffff);
    ask_set(&ask, turn, number);
    uint8_t visible[16];
    if (ledger_content_visible(meant->content, visible).size > 0) {
        ask_set(&ask, visible, bytes_of(visible, sizeof visible));
    }
    struct step *step = step_create(actor->domain.lane, &ask.request);
    assert(step);
    step_rest(step)->number = number;
    step_rest(step)->version = meant->version;
    step_pin(step);
    return step;
}

static struct tier_head head_of(const struct note *note, struct index_hash name, const char *id)
{
    return (struct tier_head){.uid = note->uid,
                              .name = name,
                              .id = bytes_text(id),
                              .length = note->length,
                              .version = note->version,
                              .shared = note->shared,
                              .appends = note->appends,
                              .floor = ledger_floor(note),
                              .created_ms = note->created_ms,
                              .used_ms = note->used_ms,
                              .ttl_ms = 1000,
                              .retention_ms = LEDGER_RETENTION_MS,
                              .payload_bytes = note->payload_bytes};
}

static struct flight *make_flight(struct actor *actor, const struct note *note,
                                  const struct plan *plan)
{
    struct flight *flight = calloc(1, sizeof *flight);
    assert(flight);
    ledger_thread_id(note->thread, flight->id);
    flight->index = note->index;
    flight->thread = note->thread;
    struct tier_change *change = &flight->change;
    struct index_hash name =
        index_hash_with(store_secret(actor->judge.store), 0, RECORD_THREAD, bytes_text(flight->id));
    *change =
        (struct tier_change){.port = actor->judge.port,
                             .kind = plan->kind,
                             .wants_durable = below(actor, 3) == 0,
                             .generation = actor->judge.tier->calls->generation(actor->judge.tier),
                             .head = head_of(note, name, flight->id),
                             .reason = plan->reason,
                             .drop_from = plan->drop_from,
                             .inherited = note->inherited,
                             .recalls = flight->recalls,
                             .steps = (const struct step *const *)flight->steps,
                             .size_bytes = sizeof *flight};
    for (uint32_t i = plan->from; plan->kind == TIER_PUT && i < note->length; i++) {
        flight->steps[change->step_count++] = make_step(actor, note, i);
        change->size_bytes += ledger_content_bytes(note->steps[i].content);
    }
    for (uint32_t i = plan->recall_from; plan->kind == TIER_PUT && i < note->appends; i++) {
        flight->recalls[change->recall_count++] = ledger_recall(&note->recalls[i], i + 1);
    }
    return flight;
}

static void free_flight(struct actor *actor, struct flight *flight)
{
    for (uint32_t i = 0; i < flight->change.step_count; i++) {
        step_discard(actor->domain.lane, flight->steps[i]);
    }
    free(flight);
}

static void mark_number(struct actor *actor, enum ledger_mark mark, uint32_t number)
{
    actor->mark(mark, &number, sizeof number);
}

static void change_failed(struct actor *actor, const struct flight *flight)
{
    mark_number(actor, MARK_FAILED, flight->index);
    actor->unsure[flight->thread] = true;
    actor->failed++;
}

/* Notes what the events say. */
static unsigned collect(struct actor *actor)
{
    struct tier_event *event =
        actor->judge.tier->calls->collect(actor->judge.tier, actor->judge.port);
    unsigned seen = 0;
    while (event) {
        struct tier_event *next = event->next;
        struct flight *flight;
        seen++;
        switch (event->kind) {
        case TIER_DURABLE:
            flight = STORE_HOLDER(event, struct flight, change.durable);
            if (flight->change.status == STATUS_OK) {
                mark_number(actor, MARK_KEPT, flight->index);
            }
            break;
        case TIER_APPLIED:
            flight = STORE_HOLDER(event, struct flight, change.applied);
            if (flight->change.status == STATUS_OK) {
                mark_number(actor, MARK_KEPT, flight->index);
            } else {
                change_failed(actor, flight);
            }
            actor->under_way--;
            actor->flights[flight->thread]--;
            free_flight(actor, flight);
            break;
        case TIER_DUE:
            free(event);
            break;
        case TIER_LOADED:
            break;
        }
        event = next;
    }
    return seen;
}

static void sleep_us(unsigned us)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)us * 1000}, NULL);
}

static bool is_read_only(const struct actor *actor)
{
    return actor->judge.tier->calls->is_read_only(actor->judge.tier);
}

/* Until all changes have ended. One that waits for room in the tree may not, while there is none.
 */
static bool drain(struct actor *actor, bool patient)
{
    uint64_t end_ms = script_now_ms() + DRAIN_MS;
    while (actor->under_way > 0) {
        if (!patient && is_read_only(actor)) {
            break;
        }
        if (collect(actor) == 0) {
            sleep_us(1000);
        }
        if (script_now_ms() > end_ms) {
            fprintf(stderr, "%u changes without an end\n", actor->under_way);
            return false;
        }
    }
    return true;
}

/* One more change. False: it was refused, and the thread is as before. */
static bool submit(struct actor *actor)
{
    unsigned thread = (unsigned)below(actor, LEDGER_THREADS);
    uint32_t generation = actor->judge.tier->calls->generation(actor->judge.tier);
    struct note note = actor->threads[thread];
    if (note.erased && actor->flights[thread] > 0 && actor->script->fault.calls) {
        return false; /* a new life begins when the old one is known to be over */
    }
    bool whole = actor->unsure[thread] || actor->generations[thread] != generation;
    bool again = note.erased && actor->unsure[thread];
    struct plan plan = again ? (struct plan){.kind = TIER_ERASE, .reason = (enum reason)note.reason}
                             : change_thread(actor, &note, whole);
    note.index = ++actor->count;
    note.used_ms = LEDGER_START_MS + note.index;
    struct flight *flight = make_flight(actor, &note, &plan);
    actor->mark(MARK_SUBMIT, &note, sizeof note);
    if (actor->judge.tier->calls->submit(actor->judge.tier, &flight->change) != STATUS_OK) {
        actor->mark(MARK_REFUSED, NULL, 0);
        actor->count--;
        actor->refused++;
        for (uint32_t i = 0; i < flight->change.step_count; i++) {
            step_unpin(flight->steps[i]);
        }
        free_flight(actor, flight);
        return false;
    }
    actor->threads[thread] = note;
    actor->generations[thread] = generation;
    actor->unsure[thread] = false;
    actor->under_way++;
    actor->flights[thread]++;
    return true;
}

/* ---- Lives --------------------------------------------------------------------------------- */

static bool find_recorder(struct actor *actor)
{
    /* A void * to a function: as POSIX has it. */
    *(void **)&actor->mark = dlsym(RTLD_DEFAULT, "trace_mark");
    *(void **)&actor->fault = dlsym(RTLD_DEFAULT, "trace_fault");
    *(void **)&actor->matched = dlsym(RTLD_DEFAULT, "trace_count");
    *(void **)&actor->die = dlsym(RTLD_DEFAULT, "trace_die");
    return actor->mark && actor->fault && actor->matched && actor->die;
}

static bool read_ledger(struct actor *actor)
{
    const char *path = getenv(TRACE_FILE);
    FILE *file = path ? fopen(path, "re") : NULL;
    if (!file) {
        return false;
    }
    struct trace_event event;
    struct {
        struct trace_event event;
        uint8_t data[sizeof(struct note)];
    } mark;
    while (fread(&event, sizeof event, 1, file) == 1) {
        if (event.kind != TRACE_MARK || event.data_bytes > sizeof mark.data) {
            if (fseek(file, (long)event.data_bytes, SEEK_CUR) != 0) {
                break;
            }
            continue;
        }
        mark.event = event;
        if (fread(mark.data, 1, event.data_bytes, file) != event.data_bytes) {
            break;
        }
        ledger_step(&actor->ledger, &mark.event);
    }
    fclose(file);
    return true;
}

static bool open_life(struct actor *actor)
{
    if (!judge_open(&actor->judge)) {
        return false;
    }
    unsigned flags = actor->ledger.failed > 0 ? JUDGE_LOOSE : 0;
    if (!judge_look(&actor->judge, &actor->ledger, flags)) {
        return false;
    }
    actor->count = actor->judge.known;
    for (unsigned i = 0; i < LEDGER_THREADS; i++) {
        actor->threads[i] = ledger_thread(&actor->ledger, actor->count, i);
        actor->threads[i].thread = (uint16_t)i;
        actor->generations[i] = actor->judge.tier->calls->generation(actor->judge.tier);
    }
    mark_number(actor, MARK_OPENED, actor->count);
    return true;
}

static bool work(struct actor *actor, unsigned changes)
{
    for (unsigned i = 0; i < changes; i++) {
        if (!submit(actor)) {
            sleep_us(500);
        }
        uint64_t dice = below(actor, 64);
        if (dice == 0 && actor->script->fault.calls == 0) {
            store_settle(actor->judge.store);
        } else if (dice < 8 && !drain(actor, false)) {
            return false;
        } else if (dice < 24) {
            sleep_us((unsigned)below(actor, 2000));
        }
        collect(actor);
        if (actor->under_way >= FLIGHTS_MAX && !drain(actor, false)) {
            return false;
        }
    }
    return true;
}

static bool say(const char *text)
{
    fprintf(stderr, "%s\n", text);
    return false;
}

static bool serves(struct actor *actor)
{
    return judge_is_served(&actor->judge) || say(actor->judge.text);
}

/* The fault is gone: a lack of space must be over soon, anything else must stay. */
static bool check_state(struct actor *actor)
{
    const struct trace_fault *fault = &actor->script->fault;
    /* LMDB says EIO of a write that is cut short, and the disk is not full here. */
    bool full = fault->error == ENOSPC && !(fault->cut && (fault->places & TRACE_TREE));
    uint64_t end_ms = script_now_ms() + RECOVER_MS;
    collect(actor);
    if (!is_read_only(actor)) {
        return actor->failed == 0 || full || say("a failure was forgotten");
    }
    if (!full) {
        sleep_us(300000); /* a probe comes every STORE_TICK_MS, which is 100 ms here */
        return is_read_only(actor) || say("writable again after a failure of the disk");
    }
    while (is_read_only(actor) && !actor->judge.unreadable && script_now_ms() < end_ms) {
        collect(actor);
        sleep_us(1000);
    }
    return !is_read_only(actor) || (serves(actor) && actor->judge.unreadable) ||
           say("read-only although there is space again");
}

/* The end of the fault, and what comes after it. */
static bool recover(struct actor *actor)
{
    const struct script *script = actor->script;
    uint64_t failures;
    bool served = serves(actor);
    actor->matched(&failures);
    mark_number(actor, MARK_FAULTS, (uint32_t)failures);
    if (served && script->end == SCRIPT_DIE) {
        actor->die();
    }
    actor->fault(NULL);
    return served && check_state(actor) && work(actor, script->changes);
}

static bool live(struct actor *actor)
{
    const struct script *script = actor->script;
    if (script->fault.calls && !script->fault_at_open) {
        actor->fault(&script->fault);
    }
    if (!work(actor, script->changes)) {
        return false;
    }
    if (script->fault.calls && !recover(actor)) {
        return false;
    }
    if (script->end == SCRIPT_DIE) {
        actor->die();
    }
    return drain(actor, true);
}

int script_run(const struct script *script)
{
    struct actor *actor = calloc(1, sizeof *actor);
    actor->script = script;
    actor->random = script->seed;
    if (!find_recorder(actor) || !read_ledger(actor)) {
        fprintf(stderr, "not under the recorder\n");
        return SCRIPT_WRONG;
    }
    judge_init(&actor->judge, script->directory);
    if (script->fault.calls) {
        actor->judge.tail_at_once_bytes = 0;
    }
    domain_open(&actor->domain, domain_settings());
    int result = SCRIPT_WRONG;
    if (script->fault_at_open) {
        actor->fault(&script->fault);
    }
    if (!open_life(actor)) {
        bool refused = !actor->judge.store && script->fault_at_open;
        fprintf(stderr, "%s\n", actor->judge.text);
        result = refused ? SCRIPT_REFUSED : SCRIPT_WRONG;
        goto closed;
    }
    if (live(actor)) {
        result = SCRIPT_DONE;
    }
    if (result == SCRIPT_WRONG) {
        fflush(stderr);
        _exit(SCRIPT_WRONG);
    }
    judge_close(&actor->judge);
closed:
    domain_close(&actor->domain);
    judge_free(&actor->judge);
    ledger_free(&actor->ledger);
    free(actor);
    return result;
}
