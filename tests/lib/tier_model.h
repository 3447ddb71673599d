/*
 * A disk tier without a disk: the reference that a real one is judged by, and a stage for races.
 *
 * Everything is in memory, under one mutex, and outlives the domains that use it. The model is
 * *driven*: a change or load that was handed in goes on only when the test says so, one stage at a
 * time, so that any schedule can be played. It may be driven from any operating-system thread.
 *
 * What lanes may not do ends the process: a put on top of steps that are not there, a put of an
 * erased or unknown uid that is not whole, two lives under one uid.
 */
#ifndef RETHREAD_TESTS_LIB_TIER_MODEL_H
#define RETHREAD_TESTS_LIB_TIER_MODEL_H

#include "thread/tier.h"

struct tier_model;

struct tier_model_settings {
    struct clock *wall;
    uint64_t max_age_ms;    /* 0: no limit */
    uint64_t lag_max_bytes; /* of changes under way; beyond it submit says AGAIN; 0: no limit */
    uint32_t loads_max;     /* likewise for loads */
    uint32_t tombstones;    /* 0: 4096 */
    bool at_once;           /* all stages run within submit and load */
    bool false_positives;   /* may_have always says yes */
};

struct tier_model *tier_model_create(const struct tier_model_settings *settings);
void tier_model_destroy(struct tier_model *model); /* its ports are closed */

struct tier *tier_model_tier(struct tier_model *model);
const uint8_t *tier_model_secret(const struct tier_model *model);

/* ---- Driving ---- */

enum tier_model_stage {
    TIER_MODEL_LOG,    /* a change becomes durable; its steps are copied and unpinned */
    TIER_MODEL_TREE,   /* a durable change is applied */
    TIER_MODEL_READ,   /* a load looks; what comes later it does not see */
    TIER_MODEL_ANSWER, /* its event is delivered */
};

/* Moves up to `count` of those that wait for this stage, oldest first; how many moved. */
unsigned tier_model_advance(struct tier_model *model, enum tier_model_stage stage, unsigned count);
/* Moves the oldest of all one stage on; false: nothing is under way. */
bool tier_model_step(struct tier_model *model);
void tier_model_run(struct tier_model *model);
unsigned tier_model_waiting(struct tier_model *model, enum tier_model_stage stage);

/* From now on: everything at once, or driven again. */
void tier_model_set_at_once(struct tier_model *model, bool at_once);
void tier_model_set_false_positives(struct tier_model *model, bool false_positives);

/* TIER_DUE to open ports, in turn, for what is due by the wall clock; how many. */
unsigned tier_model_due(struct tier_model *model);
/* The same, as EVICTED, for the `count` threads that were idle longest. */
unsigned tier_model_evict(struct tier_model *model, unsigned count);

/* ---- Trouble ---- */

/* Read-only, a new generation; changes that are not durable yet fail, durable ones stay. */
void tier_model_fail(struct tier_model *model);
void tier_model_heal(struct tier_model *model); /* writable, a new generation */
/* The next `count` loads come to TIER_FAILED. */
void tier_model_fail_loads(struct tier_model *model, unsigned count);
/* Step `step` of the thread fails its checksum from now on, its head with step -1; false: it is not
 * there. A later put writes the head anew. */
bool tier_model_damage(struct tier_model *model, struct bytes id, int64_t step);
bool tier_model_damage_key(struct tier_model *model, uint8_t record_kind, struct bytes id);

/* ---- Looking ---- */

uint64_t tier_model_loads(struct tier_model *model); /* asked for since the start, pages aside */
uint64_t tier_model_threads(struct tier_model *model);
/* The head as applied; false: the thread is not there. id.data is NULL in it. */
bool tier_model_head(struct tier_model *model, struct bytes id, struct tier_head *head);

#endif
