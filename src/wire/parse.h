/*
 * Bytes to requests. No sockets, no allocation, no state: pointers into the caller's buffer.
 *
 * Bytes from a socket are hostile: every length is checked against what is there, nesting and the
 * number of elements are bounded, and nothing is ever allocated from a declared size.
 */
#ifndef RETHREAD_WIRE_PARSE_H
#define RETHREAD_WIRE_PARSE_H

#include "wire/request.h"

enum wire_frame { WIRE_FRAME_WHOLE, WIRE_FRAME_PARTIAL, WIRE_FRAME_BROKEN, WIRE_FRAME_TOO_LARGE };

/*
 * Looks at the start of a connection's input. WHOLE: *body is the frame's body, which is followed
 * by the next frame at body->data + body->size. PARTIAL: more bytes are needed; *need is the whole
 * frame's size, header included, once five bytes are there, and 0 before. BROKEN: the first byte is
 * not a frame's. TOO_LARGE: its declared size is beyond frame_max.
 */
enum wire_frame wire_frame_next(struct bytes input, uint64_t frame_max, struct bytes *body,
                                uint64_t *need);

/*
 * Parses a frame's body. STATUS_OK: *request is complete and every option is in range. Otherwise
 * *error says what is wrong, the status is error->status (bad_request or unknown_method), and
 * *has_msgid tells whether request->msgid could be read.
 */
enum status wire_parse(struct bytes body, struct wire_request *request, bool *has_msgid,
                       struct wire_error *error);

/* Takes the next id off a validated list (IDS); false at its end. */
bool wire_list_next(struct wire_list *list, struct bytes *id);

/* Takes the next kind off a validated list (KINDS); false at its end. */
bool wire_kind_next(struct wire_list *list, enum wire_kind *kind);

/* Takes the next step's number off the list of wire_have.kept; false at its end. */
bool wire_step_next(struct wire_list *list, uint64_t *step);

/* Takes the next pair off a validated list (PREFIXES); false at its end. */
bool wire_pair_next(struct wire_list *list, uint64_t *step, struct bytes *prefix);

const char *wire_method_name(enum wire_method method);
const char *wire_kind_name(enum wire_kind kind);
const char *wire_policy_name(enum wire_policy policy);

#endif
