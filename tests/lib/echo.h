/*
 * A small server on real sockets for the tests of net/: every loop has an echo as its handler, and
 * blocking clients talk to it. The first byte of a request's body says what is wanted:
 *
 *   'E' bytes   the reply's body is the bytes
 *   'H' bytes   the reply's body is their count and a hash: 4 and 8 bytes
 *   'R' u32     a reply of so many pattern bytes, by reference
 *   'M' u32     the same, copied through the reply's room
 *   'P' u32     a reply of so many 8-byte pieces, by turns copied and by reference
 *   'D' u32 b…  deferred so many times, then the reply's body is the bytes
 *   'L'         deferred for what takes long, until the echo has it or is told of a drain; then
 *               how often it was: 4 bytes
 *   'W' u32     deferred for so many ms, then the reply's body is how often it was: 4 bytes
 *   'N'         the reply's body is how many requests the loop has served before: 4 bytes
 *   'G'         holds its loop up at the gate until that is opened, then an empty reply
 *   'Q' u32     the reply's body is how much waits in that socket of the test's, to be received:
 *               4 bytes
 *
 * A refused request is answered with 'X', the status and the first 8 bytes of its body. Pattern
 * byte i of a reply is (uint8_t)(i * 31 + i / 251).
 *
 * Nothing here may depend on how fast the machine is: tests wait for what they have caused, not for
 * a time, and only the driven clock tells when a limit of the server's has passed.
 */
#ifndef RETHREAD_TESTS_LIB_ECHO_H
#define RETHREAD_TESTS_LIB_ECHO_H

#include "net/net.h"

#include <pthread.h>
#include <stdatomic.h>

enum { ECHO_LOOPS_MAX = 4, ECHO_PATTERN_BYTES = 16 * 1024 * 1024 };

struct echo {
    bool online;
    unsigned tend_calls_wanted; /* tend returns true so often */
    _Atomic bool has_it;        /* what 'L' waits for */
    _Atomic uint64_t served;
    _Atomic uint64_t refused;
    _Atomic uint64_t batches;
    _Atomic uint64_t batch_max;
    const struct bytes *prepared; /* as announced, and not yet served */
    const struct bytes *prepared_end;
    _Atomic uint64_t groups;
    _Atomic uint64_t group_max; /* bodies of one */
    _Atomic uint64_t tends;
    _Atomic int64_t charged_bytes;
    _Atomic uint64_t counts[METRIC_COUNT];
    _Atomic uint64_t moved_max; /* bytes sent and received in one iteration */
    uint64_t moved;
};

struct echo_server {
    struct clock_driven clock;
    struct net_settings settings;
    struct net_address address;
    struct echo echoes[ECHO_LOOPS_MAX];
    struct net_handler handlers[ECHO_LOOPS_MAX];
    struct net *net;
    pthread_t front;
};

/* Settings of a small server on a free loopback port; change them before echo_start. */
void echo_prepare(struct echo_server *server);
void echo_start(struct echo_server *server);
/* Drains, and checks that nothing is left: no pin, no charge, no buffered byte. */
void echo_stop(struct echo_server *server);
/* The second half of echo_stop: the drain must have been begun. Moves the clock until it ends. */
void echo_join(struct echo_server *server);
/* The same with the clock standing still: the drain ends by what was done, or by no more time. */
void echo_join_now(struct echo_server *server);

/* Every loop has seen all that was done before: the clock, what arrived, what was asked of it. */
void echo_come_round(struct echo_server *server);

/* Moves the clock in small steps while the loops look at it. */
void echo_pass(struct echo_server *server, uint64_t time_ms);

uint64_t echo_served(struct echo_server *server);
uint64_t echo_count(struct echo_server *server, enum metric metric);
int64_t echo_pins(void);

/* Waits until a 'G' holds its loop up. One at a time. */
void echo_wait_at_gate(void);
void echo_open_gate(void);

/* How long to wait for what must come: seconds, and more of them where code runs slower. */
unsigned echo_patience_s(void);

/* ---- Clients: blocking, for as long as there is patience ---------------------------------- */

int echo_connect(const struct echo_server *server);
/* With small buffers on the client's side, so that the server's socket fills early. */
int echo_connect_narrow(const struct echo_server *server);
void echo_send(int fd, const void *data, size_t size);
/* As much as the socket takes at once; returns how much. */
size_t echo_try_send(int fd, const void *data, size_t size);
/* recv, which a socket with a time limit breaks off when its process was stopped for a while. */
ssize_t echo_recv(int fd, void *at, size_t size);
/* Waits until the server's kernel has all that was sent over TCP. */
void echo_wait_arrived(int fd);
/* Throws away what was sent to this TCP socket, while the loop is held up; returns how much. */
size_t echo_drain(int fd);
void echo_send_frame(int fd, char command, const void *data, size_t size);
void echo_send_number(int fd, char command, uint32_t number);
/* Writes a frame at `at`; returns its size. */
size_t echo_put_frame(uint8_t *at, char command, const void *data, size_t size);

/* Receives a frame's body into memory of the caller's to free; *size is SIZE_MAX at the end. */
uint8_t *echo_receive(int fd, size_t *size);
void echo_expect(int fd, const void *data, size_t size);
void echo_expect_pattern(int fd, size_t size);
void echo_expect_refusal(int fd, enum status status);
void echo_expect_end(int fd);
/* There is something to receive, if only the end. */
bool echo_has_answered(int fd);
/* Moves the clock until then, for as long as a test may take in its time. */
void echo_pass_until_answered(struct echo_server *server, int fd);
/* Sends requests until one is refused since the server drains; returns how many were not. */
unsigned echo_until_drained(int fd);
/* The answer to an 'H' of these bytes. */
void echo_expect_hash(int fd, const uint8_t *data, size_t size);
/* To be freed by the caller; the same for the same seed. */
uint8_t *echo_random_bytes(size_t size, uint64_t seed);

/* Waits until a condition holds. */
#define ECHO_WAIT(condition)                                                                       \
    do {                                                                                           \
        unsigned echo_rounds_left = echo_patience_s() * 2000;                                      \
        while (!(condition)) {                                                                     \
            ck_assert_msg(echo_rounds_left-- > 0, "waited in vain: " #condition);                  \
            usleep(500);                                                                           \
        }                                                                                          \
    } while (0)

#endif
