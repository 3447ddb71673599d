/*
 * The measured loops, the same for every table: each implementation includes this once, after it
 * has defined
 *
 *   struct member                      what an operating-system thread needs to use the table
 *   join, leave                        first and last
 *   pause_at(table, member, done)      after each operation
 *   insert_one(table, member, number, record)   the key `number`, with the record of that number
 *   find_one(table, member, key)       whether the key is there, compared in full
 *   remove_one(table, member, key)     find, then remove; whether it was there
 *
 * and defines create and destroy, as struct table_kind has them, after it. TABLE_KIND then makes
 * the kind of all of them.
 */
#ifndef RETHREAD_BENCH_TABLE_LOOPS_H
#define RETHREAD_BENCH_TABLE_LOOPS_H

#include "bench/table.h"

static bool loop_insert(struct table *table, const struct table_job *job)
{
    struct member member;
    bool good = join(table, &member, TABLE_INSERT);
    for (uint32_t i = 0; good && i < job->count; i++) {
        good = insert_one(table, &member, job->keys[i], job->keys[i]);
        pause_at(table, &member, i + 1);
    }
    leave(table, &member);
    return good;
}

static inline void least(const struct table_job *job, uint32_t key, uint64_t ns)
{
    if (job->least_ns[key] > ns) {
        job->least_ns[key] = (uint32_t)ns;
    }
}

/* What took long in no load before is not timed again. */
static bool loop_insert_again(struct table *table, const struct table_job *job)
{
    struct member member;
    bool good = join(table, &member, TABLE_INSERT_TIMED);
    for (uint32_t i = 0; good && i < job->count; i++) {
        uint32_t key = job->keys[i];
        bool timed = job->least_ns[key] > TABLE_SUSPECT_NS;
        uint64_t before_ns = timed ? table_cpu_ns(CLOCK_THREAD_CPUTIME_ID) : 0;
        good = insert_one(table, &member, key, key);
        if (timed) {
            least(job, key, table_cpu_ns(CLOCK_THREAD_CPUTIME_ID) - before_ns);
        }
        pause_at(table, &member, i + 1);
    }
    leave(table, &member);
    return good;
}

/* The clock is read once for each insert: what lies between two readings is one insert and the
 * recording of the one before. */
static bool loop_insert_timed(struct table *table, const struct table_job *job)
{
    if (job->again) {
        return loop_insert_again(table, job);
    }
    struct member member;
    bool good = join(table, &member, TABLE_INSERT);
    uint64_t before_ns = table_cpu_ns(CLOCK_THREAD_CPUTIME_ID);
    for (uint32_t i = 0; good && i < job->count; i++) {
        good = insert_one(table, &member, job->keys[i], job->keys[i]);
        uint64_t after_ns = table_cpu_ns(CLOCK_THREAD_CPUTIME_ID);
        hist_record(job->hist_ns, after_ns - before_ns);
        least(job, job->keys[i], after_ns - before_ns);
        before_ns = after_ns;
        if ((i + 1) % TABLE_PAUSE == 0) {
            pause_at(table, &member, i + 1);
            before_ns = table_cpu_ns(CLOCK_THREAD_CPUTIME_ID);
        }
    }
    leave(table, &member);
    return good;
}

static bool loop_find(struct table *table, const struct table_job *job)
{
    struct member member;
    bool good = join(table, &member, TABLE_FIND);
    for (uint32_t i = 0; good && i < job->count; i++) {
        struct table_key key = table_key_of(job->keys[i]);
        good = find_one(table, &member, &key);
        pause_at(table, &member, i + 1);
    }
    leave(table, &member);
    return good;
}

/* Nine in ten find, one in twenty removes its key, one in twenty puts the last removed back. */
static bool loop_mixed(struct table *table, const struct table_job *job)
{
    enum { REMOVES_AT = TABLE_MIX / 2 - 1, INSERTS_AT = TABLE_MIX - 1 };
    struct member member;
    uint32_t record = job->spare;
    uint32_t removed = 0;
    bool good = join(table, &member, TABLE_MIXED);
    for (uint32_t i = 0; good && i < job->count; i++) {
        struct table_key key = table_key_of(job->keys[i]);
        if (i % TABLE_MIX == REMOVES_AT) {
            removed = job->keys[i];
            good = remove_one(table, &member, &key);
        } else if (i % TABLE_MIX == INSERTS_AT) {
            good = insert_one(table, &member, removed, record++);
        } else {
            good = find_one(table, &member, &key);
        }
        pause_at(table, &member, i + 1);
    }
    leave(table, &member);
    return good;
}

static bool loop_remove(struct table *table, const struct table_job *job)
{
    struct member member;
    bool good = join(table, &member, TABLE_REMOVE);
    for (uint32_t i = 0; good && i < job->count; i++) {
        struct table_key key = table_key_of(job->keys[i]);
        good = remove_one(table, &member, &key);
        pause_at(table, &member, i + 1);
    }
    leave(table, &member);
    return good;
}

static struct table *create(uint32_t count, uint32_t spares);
static void destroy(struct table *table);

/* `find_batched`: NULL where the table has no such thing. */
#define TABLE_KIND(table_name, find_batched)                                                       \
    {                                                                                              \
        .name = (table_name), .create = create, .destroy = destroy,                                \
        .run = {                                                                                   \
            [TABLE_INSERT] = loop_insert, [TABLE_INSERT_TIMED] = loop_insert_timed,                \
            [TABLE_FIND] = loop_find,     [TABLE_FIND_BATCHED] = (find_batched),                   \
            [TABLE_MIXED] = loop_mixed,   [TABLE_REMOVE] = loop_remove,                            \
        },                                                                                         \
    }

#endif
