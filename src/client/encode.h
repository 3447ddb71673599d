/*
 * Requests to bytes.
 *
 * Every option of schema/options.def is a field of the same name in a public options struct; the
 * table in encode.c ties them together, so that neither can be without the other.
 */
#ifndef RETHREAD_CLIENT_ENCODE_H
#define RETHREAD_CLIENT_ENCODE_H

#include "client/outgoing.h"

struct client_request {
    enum rethread_method method;
    const char *name;
    const void *options;               /* the method's struct; NULL: it has none, or raw is used */
    struct rethread_bytes raw_options; /* METHOD_OTHER, and others sent raw: a checked map */
    const struct rethread_bytes *payloads;
    size_t payload_stride; /* bytes from one to the next: they may sit in segments */
    size_t payload_count;
};

/*
 * Appends the request's frame. With `borrow`, large payloads stay where they are. On an error
 * nothing is appended: INVALID_ARGUMENT, NO_MEMORY, or TOO_LARGE when the frame's body would be
 * larger than frame_max_bytes.
 */
enum rethread_status client_encode(struct client_outgoing *outgoing,
                                   const struct client_request *request, uint32_t msgid,
                                   size_t frame_max_bytes, bool borrow);

#endif
