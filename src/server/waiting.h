/*
 * Answers that wait for the disk: composed at once, kept in a later reply of the connection, sent
 * when the disk has taken the change, or replaced by an error when it has not.
 *
 * A struct waiting is its loop's, like the lane that it counts in; its memory is the connection's.
 */
#ifndef RETHREAD_SERVER_WAITING_H
#define RETHREAD_SERVER_WAITING_H

#include "base/bytes.h"
#include "net/handler.h"
#include "thread/threads.h"

struct waiting;

enum { WAITING_FRAME_BYTES_MAX = 512 };

/* Before the operation is run. NULL: no room for it now, the request is to be offered again. */
struct waiting *waiting_reserve(struct net_reply *reply);
void waiting_cancel(struct waiting *waiting); /* NULL is fine */

/*
 * After the operation: `frame` answers request `msgid` once `pending` is on disk. `advice` is the
 * message of the error otherwise: what is the case then, and what to do. A static text.
 */
void waiting_begin(struct waiting *waiting, struct lane *lane, struct tier_change *pending,
                   uint32_t msgid, struct bytes frame, const char *advice);

#endif
