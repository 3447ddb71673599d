/*
 * What the tests of a tree's readers share: a tree in a directory of its own, threads put into it
 * as changes, and their loads compared with what was put. Header only.
 */
#ifndef RETHREAD_TESTS_STORE_TEST_IMAGE_H
#define RETHREAD_TESTS_STORE_TEST_IMAGE_H

#include "store/tree_private.h"
#include "thread/records.h"

#include "tests/store/test_record.h"

#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

enum { SAMPLE_STEPS_MAX = 64, IMAGE_WALL_MS = 1000000000 };

struct image {
    char directory[64];
    struct clock_driven wall;
    struct tree *tree;
    uint64_t sequence;
    struct record_buffer buffer;
};

/* A thread as it was put. */
struct sample {
    struct tier_head head;
    char id[64];
    struct step *steps[SAMPLE_STEPS_MAX]; /* by position; NULL: lost, or corrupt */
    struct recall_entry recalls[TIER_RECALL_MAX];
    uint32_t recall_count;
};

static struct image image;

static inline struct tree_settings image_settings(void)
{
    return (struct tree_settings){.disk_bytes = 64 << 20,
                                  .max_age_ms = UINT64_C(1) << 32,
                                  .tombstones = 1000,
                                  .readers = 8,
                                  .wall = &image.wall.clock};
}

static inline void image_reopen(void)
{
    struct tree_settings settings = image_settings();
    struct wal_trouble trouble;
    ck_assert_msg(tree_open(image.directory, &settings, &image.tree, &trouble) == STATUS_OK, "%s",
                  trouble.text);
}

static inline void image_open(void)
{
    const char *folder = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(image.directory, sizeof image.directory, "%s/rethread-image-XXXXXX", folder);
    ck_assert_ptr_nonnull(mkdtemp(image.directory));
    clock_driven_init(&image.wall, IMAGE_WALL_MS);
    image.sequence = 0;
    setup();
    image_reopen();
}

static inline void image_remove(const char *directory)
{
    DIR *all = opendir(directory);
    ck_assert_ptr_nonnull(all);
    for (struct dirent *one; (one = readdir(all));) {
        if (one->d_name[0] != '.') {
            ck_assert_int_eq(unlinkat(dirfd(all), one->d_name, 0), 0);
        }
    }
    closedir(all);
    ck_assert_int_eq(rmdir(directory), 0);
}

static inline void image_close(void)
{
    tree_close(image.tree);
    image.tree = NULL;
    record_buffer_free(&image.buffer);
    image_remove(image.directory);
    teardown();
}

static inline struct index_hash image_name(enum record_kind kind, struct bytes id)
{
    return index_hash_with(tree_secret(image.tree), 0, (uint8_t)kind, id);
}

/* The group that `change` is, through the tree. */
static inline struct bytes image_encode(const struct tier_change *change)
{
    image.buffer.size = 0;
    ck_assert(record_put_group(&image.buffer, change, tree_secret(image.tree), RECORD_ZSTD));
    return bytes_of(image.buffer.data, image.buffer.size);
}

static inline void image_apply(const struct tier_change *change)
{
    struct tree_group group = {.bytes = image_encode(change), .sequence = ++image.sequence};
    struct wal_trouble trouble;
    size_t taken = 0;
    enum status status = tree_apply(image.tree, &group, 1, &taken, NULL, NULL, &trouble);
    ck_assert_msg(status == STATUS_OK, "%s", trouble.text);
    ck_assert_uint_eq(taken, 1);
}

static inline void sample_begin(struct sample *sample, const char *id, uint64_t uid)
{
    *sample = (struct sample){.head = {.uid = uid,
                                       .created_ms = IMAGE_WALL_MS,
                                       .used_ms = IMAGE_WALL_MS + uid,
                                       .ttl_ms = 300000,
                                       .retention_ms = 86400000}};
    snprintf(sample->id, sizeof sample->id, "%s", id);
    sample->head.id = bytes_text(sample->id);
    sample->head.name = image_name(RECORD_THREAD, sample->head.id);
}

static inline void sample_add(struct sample *sample, const struct ask *ask)
{
    struct tier_head *head = &sample->head;
    ck_assert_uint_lt(head->length, SAMPLE_STEPS_MAX);
    head->version++;
    head->appends++;
    sample->steps[head->length] = step_of(ask, head->length, head->version);
    head->payload_bytes += ask->request.payload_bytes;
    head->length++;
}

/* A step with one payload; the keys may be NULL. */
static inline void sample_say(struct sample *sample, const char *response_id, const char *call,
                              struct bytes payload)
{
    static struct ask ask;
    ask_begin(&ask, WIRE_METHOD_APPEND, sample->head.id);
    ask_payload(&ask, payload);
    if (response_id) {
        ask_set(&ask, response_id, bytes_text(response_id));
    }
    if (call) {
        ask_call(&ask, bytes_text(call));
    }
    sample_add(sample, &ask);
}

static inline void sample_rewind(struct sample *sample, uint32_t keep)
{
    sample->head.version++;
    sample->head.length = keep;
}

/* Positions below drop_from stay as the tree has them; those from `from` on are put. */
static inline struct tier_change sample_change(const struct sample *sample, uint32_t drop_from,
                                               uint32_t from)
{
    return (struct tier_change){
        .kind = TIER_PUT,
        .head = sample->head,
        .reason = REASON_REWOUND,
        .drop_from = drop_from,
        .recalls = sample->recalls,
        .recall_count = sample->recall_count,
        .step_count = sample->head.length - from,
        .steps = (const struct step *const *)(sample->steps + from),
    };
}

static inline void sample_put(const struct sample *sample)
{
    struct tier_change change = sample_change(sample, 0, sample->head.lost);
    image_apply(&change);
}

/* As an append would: only the last step is new. */
static inline void sample_put_last(const struct sample *sample)
{
    uint32_t from = sample->head.length - 1;
    struct tier_change change = sample_change(sample, UINT32_MAX, from);
    image_apply(&change);
}

static inline void sample_put_rewound(const struct sample *sample)
{
    struct tier_change change = sample_change(sample, sample->head.length, sample->head.length);
    image_apply(&change);
}

static inline void sample_erase(const struct sample *sample, enum reason reason)
{
    struct tier_change change = {.kind = TIER_ERASE, .head = sample->head, .reason = reason};
    image_apply(&change);
}

/* ---- Loads --------------------------------------------------------------------------------- */

static inline void load_begin(struct tier_load *load, enum tier_load_kind kind,
                              enum record_kind record_kind, struct bytes id)
{
    ck_assert_uint_le(id.size, TIER_ID_BYTES_MAX);
    *load = (struct tier_load){.kind = kind, .record_kind = (uint8_t)record_kind};
    load->name = image_name(record_kind, id);
    load->id_size = (uint8_t)id.size;
    if (id.size) {
        memcpy(load->id, id.data, id.size);
    }
}

static inline enum tier_found load_thread_of(struct tier_load *load, const char *id,
                                             unsigned *damaged)
{
    load_begin(load, TIER_LOAD_THREAD, RECORD_THREAD, bytes_text(id));
    *damaged = 0;
    tree_load(image.tree, load, damaged);
    return load->found;
}

static inline enum tier_found load_key_of(struct tier_load *load, enum record_kind kind,
                                          const char *id, unsigned *damaged)
{
    load_begin(load, TIER_LOAD_KEY, kind, bytes_text(id));
    *damaged = 0;
    tree_load(image.tree, load, damaged);
    return load->found;
}

static inline void check_head(const struct tier_head *is, const struct tier_head *meant)
{
    ck_assert_uint_eq(is->uid, meant->uid);
    ck_assert(is->name.low == meant->name.low && is->name.high == meant->name.high);
    ck_assert(bytes_equal(is->id, meant->id));
    ck_assert_uint_eq(is->tenant, meant->tenant);
    ck_assert_uint_eq(is->lost_reason, meant->lost_reason);
    ck_assert_uint_eq(is->length, meant->length);
    ck_assert_uint_eq(is->version, meant->version);
    ck_assert_uint_eq(is->lost, meant->lost);
    ck_assert_uint_eq(is->lost_base, meant->lost_base);
    ck_assert_uint_eq(is->shared, meant->shared);
    ck_assert_uint_eq(is->appends, meant->appends);
    ck_assert_uint_eq(is->floor, meant->floor);
    ck_assert_uint_eq(is->created_ms, meant->created_ms);
    ck_assert_uint_eq(is->used_ms, meant->used_ms);
    ck_assert_uint_eq(is->ttl_ms, meant->ttl_ms);
    ck_assert_uint_eq(is->retention_ms, meant->retention_ms);
    ck_assert_uint_eq(is->payload_bytes, meant->payload_bytes);
    ck_assert_uint_eq(is->tokens, meant->tokens);
}

/* The image is the sample; a step that may be corrupt is so or exact. Steps that are corrupt. */
static inline unsigned check_image(const struct tier_image *is, const struct sample *sample)
{
    unsigned corrupt = 0;
    check_head(&is->head, &sample->head);
    ck_assert_uint_eq(is->step_count, sample->head.length - sample->head.lost);
    for (uint32_t i = 0; i < is->step_count; i++) {
        const struct step *step = sample->steps[sample->head.lost + i];
        ck_assert_uint_eq(is->steps[i].number, sample->head.lost + i);
        if (is->steps[i].corrupt || !step) {
            ck_assert(is->steps[i].corrupt);
            corrupt += step != NULL;
            continue;
        }
        struct step_parts meant;
        step_parts(step, &meant);
        check_parts(&is->steps[i], &meant);
    }
    return corrupt;
}

static inline bool is_same_recall(const struct recall_entry *a, const struct recall_entry *b)
{
    return a->key.low == b->key.low && a->key.high == b->key.high && a->digest[0] == b->digest[0] &&
           a->digest[1] == b->digest[1] && a->ordinal == b->ordinal && a->step == b->step &&
           a->version == b->version && a->lost == b->lost && a->created == b->created;
}

#endif
