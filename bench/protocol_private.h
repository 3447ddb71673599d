/*
 * What the protocols share: writing numbers and steps into requests, and judging replies piece by
 * piece. Nothing here allocates.
 */
#ifndef RETHREAD_BENCH_PROTOCOL_PRIVATE_H
#define RETHREAD_BENCH_PROTOCOL_PRIVATE_H

#include "bench/protocol.h"

#include <string.h>

enum { PROTOCOL_DECIMAL_BYTES_MAX = 20, PROTOCOL_LINE_BYTES_MAX = 512 };

/*
 * Compares a reply with what it must be, one piece after the other in order. Only the bytes
 * from..to of it are looked at: those before are known, those behind have not come yet.
 */
struct protocol_judge {
    const uint8_t *reply;
    size_t from;
    size_t to;
    size_t at;    /* where the next piece begins; where the whole ends, when all are told */
    bool partial; /* more is to come behind `to` */
    bool wrong;
};

void protocol_judge_bytes(struct protocol_judge *judge, const void *data, size_t size);
void protocol_judge_step(struct protocol_judge *judge, const struct protocol_values *values,
                         uint32_t thread, uint32_t step);

#define PROTOCOL_JUDGE(judge, literal) protocol_judge_bytes((judge), (literal), sizeof(literal) - 1)

/* Both return how much they wrote. */
size_t protocol_put_decimal(uint8_t *out, uint64_t number);
size_t protocol_put_hex(uint8_t *out, uint64_t number, unsigned digits);

static inline uint8_t *protocol_put(uint8_t *out, const void *data, size_t size)
{
    memcpy(out, data, size);
    return out + size;
}

/* String literals, whose last 0 is left out; moves `at` on. */
#define PROTOCOL_PUT(at, literal) ((at) = protocol_put((at), (literal), sizeof(literal) - 1))

/* The length of the line that `in` begins with, its end included; 0: unknown; PROTOCOL_BROKEN. */
size_t protocol_line_bytes(const uint8_t *in, size_t size);
/* The decimal number at the start of a line, up to what is no digit; PROTOCOL_BROKEN: none. */
size_t protocol_read_decimal(const uint8_t *line, size_t size);

/* Replies that come in the order of the requests. */
unsigned protocol_in_order(const uint8_t *reply, unsigned next);

/* RESP: the pieces of a request and of a reply. */
uint8_t *protocol_put_bulk_head(uint8_t *out, char mark, uint64_t number); /* "$12\r\n" */
uint8_t *protocol_put_name(uint8_t *out, const struct protocol_values *values, uint32_t thread);
uint8_t *protocol_put_ttl(uint8_t *out, const struct protocol_values *values);
uint8_t *protocol_put_step(uint8_t *out, const struct protocol_values *values, uint32_t thread,
                           uint32_t step);
/*
 * The length of `count` replies one behind the other, whatever they hold; an error ends them, so
 * that it is seen. 0: not all are here; PROTOCOL_BROKEN.
 */
size_t protocol_resp_bytes(const uint8_t *in, size_t size, unsigned count);

#endif
