/* The reference tier: its face, and what is under way. */
#include "tests/lib/tier_model.h"

#include "tests/lib/tier_kept.h"

#include <assert.h>
#include <pthread.h>

/* A change or load under way. */
struct task {
    struct task *next;
    uint64_t order;
    struct tier_change *change; /* or */
    struct tier_load *load;
    struct kept_step *steps; /* of a durable change: change->step_count */
};

struct queue {
    struct task *first;
    struct task **end;
    unsigned count;
};

struct tier_port {
    struct tier_port *next;
    struct tier_event *first;
    struct tier_event **end;
    void (*wake)(void *context);
    void *context;
};

struct tier_model {
    struct tier tier;
    pthread_mutex_t mutex;
    struct tier_model_settings settings;
    struct tier_kept kept;
    struct tier_port *ports; /* the next to be asked comes first */
    struct queue queues[TIER_MODEL_ANSWER + 1];
    uint64_t next_order;
    uint32_t generation;
    bool read_only;
    unsigned loads_to_fail;
    uint64_t waiting_bytes;
    uint64_t waiting_loads;
    uint64_t loads;
    uint64_t changes;
};

static struct tier_model *model_of(const struct tier *tier)
{
    return (struct tier_model *)(uintptr_t)tier;
}

/* ---- what is under way ---- */

static void queue_put(struct tier_model *model, enum tier_model_stage stage, struct task *task)
{
    struct queue *queue = &model->queues[stage];
    task->next = NULL;
    *queue->end = task;
    queue->end = &task->next;
    queue->count++;
}

static struct task *queue_take(struct tier_model *model, enum tier_model_stage stage)
{
    struct queue *queue = &model->queues[stage];
    struct task *task = queue->first;
    if (task) {
        queue->first = task->next;
        queue->end = queue->first ? queue->end : &queue->first;
        queue->count--;
    }
    return task;
}

static void deliver(struct tier_port *port, struct tier_event *event, enum tier_event_kind kind)
{
    event->kind = kind;
    event->next = NULL;
    *port->end = event;
    port->end = &event->next;
    if (port->wake) {
        port->wake(port->context);
    }
}

static void change_done(struct tier_model *model, struct task *task)
{
    model->waiting_bytes -= task->change->size_bytes;
    deliver(task->change->port, &task->change->applied, TIER_APPLIED);
    free(task->steps);
    free(task);
}

static void unpin_steps(const struct tier_change *change)
{
    for (uint32_t i = 0; i < change->step_count; i++) {
        if (change->steps[i]) {
            step_unpin(change->steps[i]);
        }
    }
}

static void change_durable(struct tier_change *change)
{
    if (change->wants_durable) {
        deliver(change->port, &change->durable, TIER_DURABLE);
    }
}

static void write_log(struct tier_model *model, struct task *task)
{
    struct tier_change *change = task->change;
    assert(!model->read_only && change->generation == model->generation);
    task->steps = tier_kept_copy(change);
    unpin_steps(change);
    change->status = STATUS_OK;
    change_durable(change);
    queue_put(model, TIER_MODEL_TREE, task);
}

static void fill_tree(struct tier_model *model, struct task *task)
{
    model->changes++;
    tier_kept_apply(&model->kept, task->change, task->steps);
    change_done(model, task);
}

static void read_load(struct tier_model *model, struct tier_load *load)
{
    if (model->loads_to_fail > 0) {
        model->loads_to_fail--;
        load->found = TIER_FAILED;
    } else {
        tier_kept_read(&model->kept, load);
    }
}

static void advance_one(struct tier_model *model, enum tier_model_stage stage)
{
    struct task *task = queue_take(model, stage);
    assert(task);
    switch (stage) {
    case TIER_MODEL_LOG:
        write_log(model, task);
        break;
    case TIER_MODEL_TREE:
        fill_tree(model, task);
        break;
    case TIER_MODEL_READ:
        read_load(model, task->load);
        queue_put(model, TIER_MODEL_ANSWER, task);
        break;
    case TIER_MODEL_ANSWER:
        model->waiting_loads--;
        deliver(task->load->port, &task->load->event, TIER_LOADED);
        free(task);
        break;
    }
}

static bool step_oldest(struct tier_model *model)
{
    int oldest = -1;
    for (int stage = TIER_MODEL_LOG; stage <= TIER_MODEL_ANSWER; stage++) {
        const struct task *task = model->queues[stage].first;
        if (task && (oldest < 0 || task->order < model->queues[oldest].first->order)) {
            oldest = stage;
        }
    }
    if (oldest >= 0) {
        advance_one(model, (enum tier_model_stage)oldest);
    }
    return oldest >= 0;
}

static void hand_in(struct tier_model *model, enum tier_model_stage stage, struct task as)
{
    struct task *task = tier_kept_have(malloc(sizeof *task));
    *task = as;
    task->order = model->next_order++;
    queue_put(model, stage, task);
    while (model->settings.at_once && step_oldest(model)) {
    }
}

/* ---- the calls ---- */

static struct tier_port *call_port_open(struct tier *tier, void (*wake)(void *context),
                                        void *context)
{
    struct tier_model *model = model_of(tier);
    struct tier_port *port = tier_kept_have(malloc(sizeof *port));
    *port = (struct tier_port){.wake = wake, .context = context};
    port->end = &port->first;
    pthread_mutex_lock(&model->mutex);
    port->next = model->ports;
    model->ports = port;
    pthread_mutex_unlock(&model->mutex);
    return port;
}

static void call_port_close(struct tier *tier, struct tier_port *port)
{
    struct tier_model *model = model_of(tier);
    pthread_mutex_lock(&model->mutex);
    for (int stage = TIER_MODEL_LOG; stage <= TIER_MODEL_ANSWER; stage++) {
        for (const struct task *task = model->queues[stage].first; task; task = task->next) {
            assert((task->change ? task->change->port : task->load->port) != port);
        }
    }
    while (port->first) { /* what nobody asked for; the rest was to be collected */
        struct tier_event *event = port->first;
        assert(event->kind == TIER_DUE);
        port->first = event->next;
        free(event);
    }
    struct tier_port **link = &model->ports;
    while (*link != port) {
        link = &(*link)->next;
    }
    *link = port->next;
    pthread_mutex_unlock(&model->mutex);
    free(port);
}

static uint64_t call_take_uid(struct tier *tier)
{
    struct tier_model *model = model_of(tier);
    pthread_mutex_lock(&model->mutex);
    uint64_t uid = model->kept.next_uid++;
    pthread_mutex_unlock(&model->mutex);
    return uid;
}

static uint32_t call_generation(const struct tier *tier)
{
    struct tier_model *model = model_of(tier);
    pthread_mutex_lock(&model->mutex);
    uint32_t generation = model->generation;
    pthread_mutex_unlock(&model->mutex);
    return generation;
}

static bool call_is_read_only(const struct tier *tier)
{
    struct tier_model *model = model_of(tier);
    pthread_mutex_lock(&model->mutex);
    bool read_only = model->read_only;
    pthread_mutex_unlock(&model->mutex);
    return read_only;
}

static bool is_full(const struct tier_model *model)
{
    uint64_t limit = model->settings.lag_max_bytes;
    return limit > 0 && model->waiting_bytes >= limit;
}

static bool call_is_full(const struct tier *tier)
{
    struct tier_model *model = model_of(tier);
    pthread_mutex_lock(&model->mutex);
    bool full = is_full(model);
    pthread_mutex_unlock(&model->mutex);
    return full;
}

static bool call_may_have(const struct tier *tier, struct index_hash name)
{
    struct tier_model *model = model_of(tier);
    pthread_mutex_lock(&model->mutex);
    bool may_have = model->settings.false_positives || tier_kept_has(&model->kept, name);
    pthread_mutex_unlock(&model->mutex);
    return may_have;
}

static enum status call_submit(struct tier *tier, struct tier_change *change)
{
    struct tier_model *model = model_of(tier);
    enum status status = STATUS_OK;
    pthread_mutex_lock(&model->mutex);
    if (model->read_only || change->generation != model->generation) {
        status = STATUS_READ_ONLY;
    } else if (!change->must && is_full(model)) {
        status = STATUS_AGAIN;
    } else {
        model->waiting_bytes += change->size_bytes;
        hand_in(model, TIER_MODEL_LOG, (struct task){.change = change});
    }
    pthread_mutex_unlock(&model->mutex);
    return status;
}

static enum status call_load(struct tier *tier, struct tier_load *load)
{
    struct tier_model *model = model_of(tier);
    enum status status = STATUS_AGAIN;
    assert(load->id_size > 0 || load->kind == TIER_LOAD_PAGE);
    assert(load->limit > 0 || load->kind != TIER_LOAD_PAGE);
    pthread_mutex_lock(&model->mutex);
    if (!model->settings.loads_max || model->waiting_loads < model->settings.loads_max) {
        model->loads += load->kind != TIER_LOAD_PAGE;
        model->waiting_loads++;
        hand_in(model, TIER_MODEL_READ, (struct task){.load = load});
        status = STATUS_OK;
    }
    pthread_mutex_unlock(&model->mutex);
    return status;
}

static struct tier_event *call_collect(struct tier *tier, struct tier_port *port)
{
    struct tier_model *model = model_of(tier);
    pthread_mutex_lock(&model->mutex);
    struct tier_event *events = port->first;
    port->first = NULL;
    port->end = &port->first;
    pthread_mutex_unlock(&model->mutex);
    return events;
}

static void call_metrics(const struct tier *tier, uint64_t values[METRIC_COUNT])
{
    struct tier_model *model = model_of(tier);
    pthread_mutex_lock(&model->mutex);
    values[METRIC_DISK_READ_ONLY] = model->read_only;
    values[METRIC_DISK_THREADS] = model->kept.thread_count;
    values[METRIC_DISK_CHANGES] = model->changes;
    values[METRIC_DISK_ERASURES] = model->kept.erasures;
    values[METRIC_DISK_LOADS] = model->loads;
    values[METRIC_DISK_LAG_BYTES] = model->waiting_bytes;
    values[METRIC_DISK_TOMBSTONES] = model->kept.tombstones;
    values[METRIC_DISK_DAMAGED] = model->kept.damaged;
    pthread_mutex_unlock(&model->mutex);
}

static uint64_t call_vouch_since_ms(const struct tier *tier)
{
    struct tier_model *model = model_of(tier);
    pthread_mutex_lock(&model->mutex);
    uint64_t since_ms = model->kept.vouch_since_ms;
    pthread_mutex_unlock(&model->mutex);
    return since_ms;
}

static const struct tier_calls calls = {
    .port_open = call_port_open,
    .port_close = call_port_close,
    .take_uid = call_take_uid,
    .generation = call_generation,
    .is_read_only = call_is_read_only,
    .is_full = call_is_full,
    .may_have = call_may_have,
    .submit = call_submit,
    .load = call_load,
    .collect = call_collect,
    .metrics = call_metrics,
    .vouch_since_ms = call_vouch_since_ms,
};

/* ---- the test's side ---- */

struct tier_model *tier_model_create(const struct tier_model_settings *settings)
{
    struct tier_model *model = tier_kept_have(calloc(1, sizeof *model));
    model->tier.calls = &calls;
    model->settings = *settings;
    pthread_mutex_init(&model->mutex, NULL);
    for (int stage = TIER_MODEL_LOG; stage <= TIER_MODEL_ANSWER; stage++) {
        model->queues[stage].end = &model->queues[stage].first;
    }
    tier_kept_init(&model->kept, settings->wall,
                   settings->tombstones ? settings->tombstones : 4096);
    model->generation = 1;
    return model;
}

void tier_model_destroy(struct tier_model *model)
{
    assert(!model->ports);
    tier_kept_free(&model->kept);
    pthread_mutex_destroy(&model->mutex);
    free(model);
}

struct tier *tier_model_tier(struct tier_model *model)
{
    return &model->tier;
}

const uint8_t *tier_model_secret(const struct tier_model *model)
{
    return model->kept.secret;
}

unsigned tier_model_advance(struct tier_model *model, enum tier_model_stage stage, unsigned count)
{
    unsigned moved = 0;
    pthread_mutex_lock(&model->mutex);
    for (; moved < count && model->queues[stage].first; moved++) {
        advance_one(model, stage);
    }
    pthread_mutex_unlock(&model->mutex);
    return moved;
}

bool tier_model_step(struct tier_model *model)
{
    pthread_mutex_lock(&model->mutex);
    bool moved = step_oldest(model);
    pthread_mutex_unlock(&model->mutex);
    return moved;
}

void tier_model_run(struct tier_model *model)
{
    while (tier_model_step(model)) {
    }
}

unsigned tier_model_waiting(struct tier_model *model, enum tier_model_stage stage)
{
    pthread_mutex_lock(&model->mutex);
    unsigned count = model->queues[stage].count;
    pthread_mutex_unlock(&model->mutex);
    return count;
}

void tier_model_set_at_once(struct tier_model *model, bool at_once)
{
    pthread_mutex_lock(&model->mutex);
    model->settings.at_once = at_once;
    while (at_once && step_oldest(model)) {
    }
    pthread_mutex_unlock(&model->mutex);
}

void tier_model_set_false_positives(struct tier_model *model, bool false_positives)
{
    pthread_mutex_lock(&model->mutex);
    model->settings.false_positives = false_positives;
    pthread_mutex_unlock(&model->mutex);
}

static void ask(struct tier_model *model, const struct tier_head *head, enum reason reason)
{
    struct tier_port *port = model->ports;
    if (!port) {
        return;
    }
    struct tier_due *due = tier_kept_have(malloc(sizeof *due));
    *due = (struct tier_due){.reason = reason,
                             .uid = head->uid,
                             .tenant = head->tenant,
                             .name = head->name,
                             .version = head->version,
                             .length = head->length,
                             .used_ms = head->used_ms,
                             .id_size = (uint8_t)head->id.size};
    memcpy(due->id, head->id.data, head->id.size);
    deliver(port, &due->event, TIER_DUE);
    struct tier_port **last = &model->ports; /* the next one is another's */
    *last = port->next;
    while (*last) {
        last = &(*last)->next;
    }
    *last = port;
    port->next = NULL;
}

unsigned tier_model_due(struct tier_model *model)
{
    unsigned count = 0;
    pthread_mutex_lock(&model->mutex);
    uint64_t now_ms = clock_read_ms(model->settings.wall);
    uint64_t max_age_ms = model->settings.max_age_ms;
    for (size_t i = 0; i < model->kept.thread_count && !model->read_only; i++) {
        const struct tier_head *head = &model->kept.threads[i]->head;
        uint64_t idle_ms = head->retention_ms + tier_slack_ms(head->retention_ms);
        if (max_age_ms > 0 && head->created_ms + max_age_ms <= now_ms) {
            ask(model, head, REASON_MAX_AGE);
            count++;
        } else if (head->used_ms + idle_ms <= now_ms) {
            ask(model, head, REASON_EXPIRED);
            count++;
        }
    }
    pthread_mutex_unlock(&model->mutex);
    return count;
}

unsigned tier_model_evict(struct tier_model *model, unsigned count)
{
    unsigned asked = 0;
    uint64_t after_ms = 0;
    pthread_mutex_lock(&model->mutex);
    while (asked < count && asked < model->kept.thread_count) {
        uint64_t oldest_ms = UINT64_MAX;
        for (size_t i = 0; i < model->kept.thread_count; i++) {
            uint64_t used_ms = model->kept.threads[i]->head.used_ms;
            oldest_ms = used_ms >= after_ms && used_ms < oldest_ms ? used_ms : oldest_ms;
        }
        for (size_t i = 0; i < model->kept.thread_count && asked < count; i++) {
            if (model->kept.threads[i]->head.used_ms == oldest_ms) {
                ask(model, &model->kept.threads[i]->head, REASON_EVICTED);
                asked++;
            }
        }
        after_ms = oldest_ms + 1;
    }
    pthread_mutex_unlock(&model->mutex);
    return asked;
}

void tier_model_fail(struct tier_model *model)
{
    pthread_mutex_lock(&model->mutex);
    model->read_only = true;
    model->generation++;
    struct task *task;
    while ((task = queue_take(model, TIER_MODEL_LOG))) {
        unpin_steps(task->change);
        task->change->status = STATUS_READ_ONLY;
        change_durable(task->change);
        change_done(model, task);
    }
    pthread_mutex_unlock(&model->mutex);
}

void tier_model_heal(struct tier_model *model)
{
    pthread_mutex_lock(&model->mutex);
    assert(model->read_only);
    model->read_only = false;
    model->generation++;
    pthread_mutex_unlock(&model->mutex);
}

void tier_model_fail_loads(struct tier_model *model, unsigned count)
{
    pthread_mutex_lock(&model->mutex);
    model->loads_to_fail = count;
    pthread_mutex_unlock(&model->mutex);
}

bool tier_model_damage(struct tier_model *model, struct bytes id, int64_t step)
{
    pthread_mutex_lock(&model->mutex);
    struct kept_thread *thread = tier_kept_named(&model->kept, id);
    bool there = thread && step < (int64_t)thread->step_count;
    if (there && step < 0) {
        thread->damaged = true;
    } else if (there) {
        thread->steps[step].damaged = true;
    }
    pthread_mutex_unlock(&model->mutex);
    return there;
}

bool tier_model_damage_key(struct tier_model *model, uint8_t record_kind, struct bytes id)
{
    pthread_mutex_lock(&model->mutex);
    bool there =
        tier_kept_damage_key(&model->kept, index_hash_with(model->kept.secret, 0, record_kind, id));
    pthread_mutex_unlock(&model->mutex);
    return there;
}

uint64_t tier_model_loads(struct tier_model *model)
{
    pthread_mutex_lock(&model->mutex);
    uint64_t loads = model->loads;
    pthread_mutex_unlock(&model->mutex);
    return loads;
}

uint64_t tier_model_threads(struct tier_model *model)
{
    pthread_mutex_lock(&model->mutex);
    uint64_t count = model->kept.thread_count;
    pthread_mutex_unlock(&model->mutex);
    return count;
}

bool tier_model_head(struct tier_model *model, struct bytes id, struct tier_head *head)
{
    pthread_mutex_lock(&model->mutex);
    const struct kept_thread *thread = tier_kept_named(&model->kept, id);
    if (thread) {
        *head = thread->head;
        head->id.data = NULL;
    }
    pthread_mutex_unlock(&model->mutex);
    return thread != NULL;
}
