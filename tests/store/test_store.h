/*
 * What the tests of the whole store share: a data directory, a store on a driven wall clock, a
 * port, and changes and loads made of a few words. Header only.
 */
#ifndef RETHREAD_TESTS_STORE_TEST_STORE_H
#define RETHREAD_TESTS_STORE_TEST_STORE_H

#include "store/store_private.h"
#include "thread/steps.h"

#include "tests/lib/domain.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { START_MS = 1700000000, STEPS_MAX = 4, PATIENCE_MS = 60000, RETENTION_MS = 60 * 60 * 1000 };

static struct domain domain; /* only to make steps */
static struct clock_driven wall;
static char directory[64];
static struct store_settings settings;
static struct store *store;
static struct tier *tier;
static struct tier_port *port;
static _Atomic unsigned wakes;

/* A change with what it refers to. */
struct put {
    struct tier_change change;
    struct step *steps[STEPS_MAX];
    char id[32];
    unsigned durable_at; /* place among all events that were collected, from 1 */
    unsigned applied_at;
    enum status durable_status;
};

/* What collect brought, in order. */
static unsigned collected;
static unsigned loaded_count;
static unsigned due_count;
static struct tier_due *dues[4096];

static inline void count_wake(void *context)
{
    (void)context;
    atomic_fetch_add_explicit(&wakes, 1, memory_order_relaxed); /* read by nobody in a hurry */
}

static inline void sleep_ms(unsigned ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

static inline void open_store(void)
{
    struct store_refusal refusal;
    store = store_open(&settings, &refusal);
    ck_assert_msg(store != NULL, "%s", refusal.text);
    tier = store_tier(store);
    port = tier->calls->port_open(tier, count_wake, NULL);
    ck_assert_ptr_nonnull(port);
}

static inline void close_store(void)
{
    tier->calls->port_close(tier, port);
    store_close(store);
    store = NULL;
}

static inline void setup(void)
{
    struct threads_settings lanes = domain_settings();
    log_open(STDERR_FILENO, LOG_ERROR);
    domain_open(&domain, lanes);
    clock_driven_init(&wall, START_MS);
    snprintf(directory, sizeof directory, "/tmp/rethread-store-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    settings = (struct store_settings){.directory = directory,
                                       .disk_bytes = 256 << 20,
                                       .max_age_ms = 0,
                                       .lag_max_bytes = 64 << 20,
                                       .tombstones = 1024,
                                       .pool = 2,
                                       .compression = STORE_COMPRESSION_ZSTD,
                                       .wall = &wall.clock};
    collected = loaded_count = due_count = 0;
    open_store();
}

static inline void remove_directory(const char *path)
{
    DIR *open = opendir(path);
    struct dirent *entry;
    char name[512];
    while (open && (entry = readdir(open))) {
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        unlink(name);
    }
    if (open) {
        closedir(open);
    }
    rmdir(path);
}

static inline void teardown(void)
{
    for (unsigned i = 0; i < due_count; i++) {
        free(dues[i]);
    }
    if (store) {
        close_store();
    }
    domain_close(&domain);
    remove_directory(directory);
}

static inline struct index_hash name_of(const char *id)
{
    return index_hash_with(store_secret(store), 0, RECORD_THREAD, bytes_text(id));
}

static inline struct step *make_step(uint32_t number, struct bytes payload, const char *call)
{
    static struct ask ask;
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
    ask_payload(&ask, payload);
    if (call) {
        ask_call(&ask, bytes_text(call));
    }
    ask_set(&ask, turn, number);
    struct step *step = step_create(domain.lane, &ask.request);
    ck_assert_ptr_nonnull(step);
    step_rest(step)->number = number;
    step_rest(step)->version = number + 1;
    return step;
}

/* A thread of `count` steps with that payload each; whole. */
static inline struct put *make_put(const char *id, unsigned count, struct bytes payload)
{
    struct put *put = calloc(1, sizeof *put);
    ck_assert_ptr_nonnull(put);
    ck_assert_uint_le(count, STEPS_MAX);
    snprintf(put->id, sizeof put->id, "%s", id);
    for (unsigned i = 0; i < count; i++) {
        char call[48];
        snprintf(call, sizeof call, "call-%s-%u", id, i);
        put->steps[i] = make_step(i, payload, call);
        step_pin(put->steps[i]);
    }
    put->change = (struct tier_change){
        .port = port,
        .kind = TIER_PUT,
        .wants_durable = true,
        .generation = tier->calls->generation(tier),
        .head = {.uid = tier->calls->take_uid(tier),
                 .name = name_of(id),
                 .id = bytes_text(put->id),
                 .length = count,
                 .version = count,
                 .created_ms = clock_read_ms(&wall.clock),
                 .used_ms = clock_read_ms(&wall.clock),
                 .ttl_ms = 1000,
                 .retention_ms = RETENTION_MS,
                 .payload_bytes = count * payload.size},
        .step_count = count,
        .steps = (const struct step *const *)put->steps,
        .size_bytes = 256 + count * payload.size,
    };
    return put;
}

static inline struct put *make_erase(const struct put *of, enum reason reason)
{
    struct put *put = make_put(of->id, 0, bytes_text("x"));
    put->change.kind = TIER_ERASE;
    put->change.reason = reason;
    put->change.head = of->change.head;
    put->change.head.id = bytes_text(put->id);
    return put;
}

static inline void submit(struct put *put)
{
    ck_assert_int_eq(tier->calls->submit(tier, &put->change), STATUS_OK);
}

static inline void free_put(struct put *put)
{
    for (unsigned i = 0; i < STEPS_MAX; i++) {
        if (put->steps[i]) {
            ck_assert_uint_eq(atomic_load(&put->steps[i]->pins), 0);
            step_discard(domain.lane, put->steps[i]);
        }
    }
    free(put);
}

/* Before it was submitted, or when it was refused. */
static inline void unpin_put(struct put *put)
{
    for (unsigned i = 0; i < STEPS_MAX; i++) {
        if (put->steps[i]) {
            step_unpin(put->steps[i]);
        }
    }
}

static inline void collect(void)
{
    struct tier_event *event = tier->calls->collect(tier, port);
    while (event) {
        struct tier_event *next = event->next;
        struct put *put;
        collected++;
        switch (event->kind) {
        case TIER_DURABLE:
            put = STORE_HOLDER(event, struct put, change.durable);
            ck_assert_uint_eq(put->durable_at, 0);
            put->durable_at = collected;
            put->durable_status = put->change.status;
            break;
        case TIER_APPLIED:
            put = STORE_HOLDER(event, struct put, change.applied);
            ck_assert_uint_eq(put->applied_at, 0);
            put->applied_at = collected;
            break;
        case TIER_LOADED:
            loaded_count++;
            break;
        case TIER_DUE:
            ck_assert_uint_lt(due_count, sizeof dues / sizeof *dues);
            dues[due_count++] = STORE_HOLDER(event, struct tier_due, event);
            break;
        }
        event = next;
    }
}

/* Collects until it holds, or fails after a while. */
#define AWAIT(condition)                                                                           \
    do {                                                                                           \
        collect();                                                                                 \
        for (unsigned waited_ms = 0; !(condition); waited_ms++) {                                  \
            ck_assert_msg(waited_ms < PATIENCE_MS, "waited in vain for %s", #condition);           \
            sleep_ms(1);                                                                           \
            collect();                                                                             \
        }                                                                                          \
    } while (0)

/* Submits and waits for its end, which must be as said. */
static inline void done(struct put *put, enum status status)
{
    submit(put);
    AWAIT(put->applied_at);
    ck_assert_int_eq(put->change.status, status);
    free_put(put);
}

static inline struct tier_load load_of(const char *id, enum tier_load_kind kind,
                                       enum record_kind record)
{
    struct tier_load load = {
        .port = port, .kind = kind, .record_kind = (uint8_t)record, .id_size = (uint8_t)strlen(id)};
    load.name = index_hash_with(store_secret(store), 0, (uint8_t)record, bytes_text(id));
    memcpy(load.id, id, strlen(id));
    return load;
}

/* The image is the caller's to free. */
static inline struct tier_load load(const char *id, enum tier_load_kind kind,
                                    enum record_kind record)
{
    static struct tier_load asked; /* stays where it is while the tier has it */
    asked = load_of(id, kind, record);
    unsigned before = loaded_count;
    ck_assert_int_eq(tier->calls->load(tier, &asked), STATUS_OK);
    AWAIT(loaded_count == before + 1);
    return asked;
}

static inline enum tier_found found(const char *id)
{
    struct tier_load loaded = load(id, TIER_LOAD_THREAD, RECORD_THREAD);
    free(loaded.image);
    return loaded.found;
}

static inline uint64_t metric(enum metric which)
{
    uint64_t values[METRIC_COUNT] = {0};
    tier->calls->metrics(tier, values);
    return values[which];
}

#endif
