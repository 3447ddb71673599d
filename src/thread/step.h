/*
 * A step: what one model call left in a thread. Immutable once committed.
 *
 * One object of the arena: this header, its key records, a table of segments, the metadata bytes
 * and the payloads, back to back. Shared by the threads that hold it (a fork shares steps).
 */
#ifndef RETHREAD_THREAD_STEP_H
#define RETHREAD_THREAD_STEP_H

#include "base/bytes.h"
#include "wire/request.h"

#include <stdbool.h>
#include <stdint.h>

struct step;
struct lane;

enum { THREAD_STEPS_MAX = 1 << 20 }; /* positions of a thread */

/* What a replay shows of a step. All bytes lead into the step. */
struct step_view {
    uint32_t number; /* its position */
    uint32_t turn;
    bool final;
    bool has_tokens;
    uint32_t tokens;
    struct bytes model;       /* empty: unknown */
    struct bytes response_id; /* empty: none */
    struct bytes prefix;      /* 16 bytes, or empty, as is the next */
    struct bytes visible;     /* hash of the visible message it produced */
    struct wire_list tool_calls;
    unsigned segment_count;
    uint32_t payload_bytes;
    struct bytes payload; /* all segments, back to back */
};

void step_view(const struct step *step, struct step_view *view);

/* A step taken apart, to be stored, or to be built from what was stored. All bytes are borrowed. */
struct step_parts {
    uint32_t number; /* its position */
    uint32_t version;
    uint32_t turn;
    uint32_t tokens;
    bool final;
    bool has_tokens;
    bool corrupt;   /* only number counts: there was such a step, and it cannot be read */
    bool inherited; /* committed by the thread that this one was forked from: its keys lead there */
    uint8_t segment_count;
    uint8_t tool_call_count;
    uint32_t only;            /* where segments leads for a step that is a single text */
    struct bytes segments;    /* u32 each, native order, maybe unaligned: kind << 30 | bytes */
    struct bytes response_id; /* empty: none */
    struct bytes prefix;      /* 16 bytes, or empty, as is the next */
    struct bytes visible;
    struct bytes model;
    struct bytes tool_calls; /* MessagePack items, as in struct wire_list */
    struct bytes payload;    /* all segments, back to back */
};

void step_parts(const struct step *step, struct step_parts *parts);
enum wire_kind step_segment_kind(const struct step *step, unsigned segment);
uint32_t step_segment_bytes(const struct step *step, unsigned segment);

/*
 * Keeps the step's bytes beyond lane_offline, for a reply the socket did not take whole. Pin while
 * online, with a pointer from this online period; unpin later from any loop, online or not.
 */
void step_pin(const struct step *step);
void step_unpin(const struct step *step);

#endif
