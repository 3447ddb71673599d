/*
 * What the load generator must know of a protocol: how to write a request and how to judge a reply.
 * Requests are written by hand, so that the generator costs little.
 *
 * Every thread's name is 24 bytes. A step's bytes begin with a stamp of its thread and number, and
 * the rest is a piece of one random pool at a place that follows from both: so a reply for another
 * thread, or with steps in another order, never passes.
 */
#ifndef RETHREAD_BENCH_PROTOCOL_H
#define RETHREAD_BENCH_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PROTOCOL_NAME_BYTES = 24,
    PROTOCOL_STAMP_BYTES = 8, /* smallest step */
    PROTOCOL_SLACK_BYTES =
        1024, /* what a request, and each step of a reply, takes beyond its bytes */
    PROTOCOL_IN_FLIGHT_MAX = 128,
};

enum protocol_op {
    PROTOCOL_APPEND, /* step `step` of the thread; 0 creates it */
    PROTOCOL_REPLAY, /* the whole thread, which has `steps` steps; slides its lifetime */
    PROTOCOL_FORGET,
};

/* One request. */
struct protocol_item {
    enum protocol_op op;
    uint32_t thread;
    uint32_t step;  /* append */
    uint32_t steps; /* replay; forget, of a keyed series: Redis must be told what the keys are */
};

/* What the steps of one series of threads are. */
struct protocol_values {
    const uint8_t *pool;  /* pool_bytes + the largest step long */
    size_t pool_bytes;    /* a power of two */
    uint64_t series;      /* tells the threads of one round, and of one run, from all others */
    uint32_t ttl_s;       /* of every key on every side */
    bool ttl_sent;        /* rethread: in each append; else its own setting is to be the same */
    bool keyed;           /* steps carry a response id, one tool call and a prefix */
    bool durable;         /* appends are acknowledged from disk (rethread: ack: disk) */
    bool retained;        /* rethread has a disk tier: it may promise more than the ttl */
    uint32_t value_bytes; /* of each step, where size_of is NULL */
    /* PROTOCOL_STAMP_BYTES at least; or 0: a bare step, which did not think. */
    uint32_t (*size_of)(const void *shape, uint32_t thread, uint32_t step);
    const void *shape;
};

#define PROTOCOL_BROKEN SIZE_MAX

struct protocol_judge;

struct protocol {
    const char *name; /* of the peer, as rows call it */
    /* Writes the request, which the reply will name `slot`; returns its length. */
    size_t (*request)(const struct protocol_values *values, const struct protocol_item *item,
                      unsigned slot, uint8_t *out);
    /*
     * The length of the whole reply that `in` begins with (all of it, where one request has several
     * replies); 0 while that is unknown; PROTOCOL_BROKEN. `item` is the oldest that is not
     * answered.
     */
    size_t (*reply_bytes)(const struct protocol_values *values, const struct protocol_item *item,
                          const uint8_t *in, size_t size);
    /* Which request the whole reply answers; `next` is the oldest one that is not answered. */
    unsigned (*reply_slot)(const uint8_t *reply, unsigned next);
    /* Tells the judge, piece by piece and in order, what the reply must be. */
    void (*judge)(struct protocol_judge *judge, const struct protocol_values *values,
                  const struct protocol_item *item, unsigned slot);
};

/*
 * Whether from..to of a reply of which `to` bytes have come are the right ones: for long replies,
 * which are judged as they come. Those before `from` must have been judged.
 */
bool protocol_part_is_right(const struct protocol *protocol, const struct protocol_values *values,
                            const struct protocol_item *item, unsigned slot, const uint8_t *reply,
                            size_t from, size_t to);
/*
 * Whether each byte of the whole reply is the right one, and none is missing. Those before `from`
 * must have been judged.
 */
bool protocol_reply_is_right(const struct protocol *protocol, const struct protocol_values *values,
                             const struct protocol_item *item, unsigned slot, const uint8_t *reply,
                             size_t from, size_t size);

extern const struct protocol protocol_rethread;
extern const struct protocol protocol_redis;       /* one-step threads: SET EX, GETEX */
extern const struct protocol protocol_redis_lists; /* threads of many steps, with their keys */
extern const struct protocol protocol_memcached;   /* one-step threads: set, gat (meta or text) */

/* Spreads the bits of a number over all 64; no two numbers give the same. */
static inline uint64_t protocol_mix(uint64_t number)
{
    number = (number ^ number >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    number = (number ^ number >> 27) * UINT64_C(0x94d049bb133111eb);
    return number ^ number >> 31;
}

uint32_t protocol_step_bytes(const struct protocol_values *values, uint32_t thread, uint32_t step);
void protocol_write_name(const struct protocol_values *values, uint32_t thread,
                         uint8_t out[PROTOCOL_NAME_BYTES]);
/* The step's bytes; and whether these are. */
void protocol_write_step(const struct protocol_values *values, uint32_t thread, uint32_t step,
                         uint8_t *out);
bool protocol_step_is_right(const struct protocol_values *values, uint32_t thread, uint32_t step,
                            const uint8_t *bytes);
/* The three keys of a step of a keyed series: two letters and 24 digits, twice; 16 raw bytes. */
enum protocol_key { PROTOCOL_RESPONSE_ID, PROTOCOL_TOOL_CALL, PROTOCOL_PREFIX };
enum { PROTOCOL_KEY_BYTES_MAX = 40 };
size_t protocol_write_key(const struct protocol_values *values, uint32_t thread, uint32_t step,
                          enum protocol_key key, uint8_t out[PROTOCOL_KEY_BYTES_MAX]);

#endif
