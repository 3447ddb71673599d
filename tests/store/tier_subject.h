/*
 * The tiers that the conformance suite runs over: the reference model and the real store, behind
 * one handle. Header only.
 */
#ifndef RETHREAD_TESTS_STORE_TIER_SUBJECT_H
#define RETHREAD_TESTS_STORE_TIER_SUBJECT_H

#include "store/store.h"
#include "tests/lib/tier_caller.h"
#include "tests/lib/tier_model.h"

#include <ftw.h>
#include <stdio.h>
#include <unistd.h>

enum subject_kind { SUBJECT_MODEL, SUBJECT_STORE, SUBJECT_KINDS };

static const char *const subject_names[] = {"tier: model", "tier: store"};

struct subject {
    enum subject_kind kind;
    struct clock_driven *wall;
    uint64_t max_age_ms;
    uint32_t tombstones;
    struct tier_model *model;
    struct store *store;
    char directory[64];
    struct tier_caller caller; /* its first port */
};

static inline void subject_settle(void *context)
{
    struct subject *subject = context;
    if (subject->kind == SUBJECT_MODEL) {
        tier_model_run(subject->model);
    } else {
        store_settle(subject->store);
    }
}

static inline void subject_attach(struct subject *subject, struct tier_caller *caller)
{
    bool model = subject->kind == SUBJECT_MODEL;
    *caller = (struct tier_caller){
        .tier = model ? tier_model_tier(subject->model) : store_tier(subject->store),
        .secret = model ? tier_model_secret(subject->model) : store_secret(subject->store),
        .settle = subject_settle,
        .context = subject,
    };
    caller_open(caller);
}

static inline void subject_store_open(struct subject *subject)
{
    struct store_settings settings = {.directory = subject->directory,
                                      .disk_bytes = (uint64_t)1 << 30,
                                      .max_age_ms = subject->max_age_ms,
                                      .lag_max_bytes = 64 << 20,
                                      .tombstones = subject->tombstones,
                                      .pool = 2,
                                      .compression = STORE_COMPRESSION_ZSTD,
                                      .wall = &subject->wall->clock};
    struct store_refusal refusal = {{0}};
    subject->store = store_open(&settings, &refusal);
    if (!subject->store) {
        fprintf(stderr, "the store refused: %s\n", refusal.text);
        abort();
    }
}

/* kind, wall, max_age_ms and tombstones are set. */
static inline void subject_open(struct subject *subject)
{
    if (subject->kind == SUBJECT_MODEL) {
        struct tier_model_settings settings = {.wall = &subject->wall->clock,
                                               .max_age_ms = subject->max_age_ms,
                                               .tombstones = subject->tombstones};
        subject->model = tier_model_create(&settings);
    } else {
        snprintf(subject->directory, sizeof subject->directory, "/tmp/rethread-tier-XXXXXX");
        if (!mkdtemp(subject->directory)) {
            abort();
        }
        subject_store_open(subject);
    }
    subject_attach(subject, &subject->caller);
}

static inline int subject_remove(const char *path, const struct stat *status, int flag,
                                 struct FTW *place)
{
    (void)status;
    (void)flag;
    (void)place;
    return remove(path);
}

static inline void subject_close(struct subject *subject)
{
    caller_wait(&subject->caller);
    caller_close(&subject->caller);
    if (subject->kind == SUBJECT_MODEL) {
        tier_model_destroy(subject->model);
    } else {
        store_close(subject->store);
        nftw(subject->directory, subject_remove, 16, FTW_DEPTH | FTW_PHYS);
    }
}

/* As after a restart of the server; the model just has its port opened anew. */
static inline void subject_reopen(struct subject *subject)
{
    caller_wait(&subject->caller);
    caller_close(&subject->caller);
    if (subject->kind == SUBJECT_STORE) {
        store_close(subject->store);
        subject_store_open(subject);
    }
    subject_attach(subject, &subject->caller);
}

/* What is due by the wall clock has been asked for. */
static inline const char *subject_due(struct subject *subject)
{
    if (subject->kind == SUBJECT_MODEL) {
        tier_model_due(subject->model);
    } else {
        store_settle(subject->store);
    }
    return caller_show_due(&subject->caller);
}

#endif
