/*
 * Bytes to results. No sockets; touches nothing but the bytes it is given and the result it makes.
 *
 * In two steps, because only the msgid tells which method a response answers.
 */
#ifndef RETHREAD_CLIENT_DECODE_H
#define RETHREAD_CLIENT_DECODE_H

#include "client/result.h"

struct client_envelope {
    bool has_msgid; /* false: the response is about the connection, not about one request */
    uint32_t msgid;
};

/*
 * Walks the whole body, and reads who it is for. False: it is no response of the contract, and
 * nothing else may look at it.
 */
bool client_decode_envelope(struct rethread_bytes body, struct client_envelope *envelope);

/*
 * Decodes a body whose envelope was read. The result points into `body` and does not own it yet.
 * OK (an error response included), NO_MEMORY, or PROTOCOL_VIOLATION when a field of the method's
 * result is missing, of another type or contradicts another.
 */
enum rethread_status client_decode(struct rethread_bytes body, enum rethread_method method,
                                   struct rethread_result **result);

#endif
