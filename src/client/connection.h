/*
 * A connection: a socket, what waits to be sent, what has arrived, and who waits for what.
 *
 * connection.c moves the bytes and never blocks but in client_wait; calls.c is the public face.
 */
#ifndef RETHREAD_CLIENT_CONNECTION_H
#define RETHREAD_CLIENT_CONNECTION_H

#include "client/outgoing.h"
#include "client/pending.h"

struct rethread {
    int fd;
    int call_timeout_ms; /* below 0: none */
    size_t frame_max_bytes;
    size_t outstanding_max;
    size_t unsent_max_bytes;
    enum rethread_status broken; /* OK while the connection lives, then why it does not */
    bool send_failed; /* the peer takes no more; what it said before is still to be read */
    bool starved;     /* memory ran out for a response that may have arrived whole */
    struct client_buffer incoming;
    struct client_outgoing outgoing;
    struct client_table table;
    struct rethread_result *farewell; /* the last error without a msgid, or NULL */
};

/* Ends the connection for good; what has arrived stays. The first reason stands. */
void client_break(struct rethread *connection, enum rethread_status why);

/* Sends what the socket takes. */
void client_send(struct rethread *connection);

/* Receives and decodes a bounded amount. OK, NO_MEMORY, or why the connection is broken. */
enum rethread_status client_receive(struct rethread *connection);

/*
 * Sends, waits until something can be sent or received or the deadline has come, and does it.
 * OK: look again. TIMEOUT, NO_MEMORY, or why the connection is broken.
 */
enum rethread_status client_wait(struct rethread *connection, uint64_t deadline_ms);

/* A deadline on the monotonic clock, in so many ms; UINT64_MAX for a timeout below 0. */
uint64_t client_deadline_ms(int timeout_ms);

#endif
