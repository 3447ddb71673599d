/*
 * Cursors of list, sealed. Private to src/thread/.
 *
 * A scan's position is made of the index's keyed hashes. Given away as they are, enough of them
 * could tell the key, and with it which names crowd one bucket. So a cursor is scrambled under a
 * secret of its own, and carries zeros by which a made-up one is recognised.
 */
#ifndef RETHREAD_THREAD_CURSOR_H
#define RETHREAD_THREAD_CURSOR_H

#include "thread/lane.h"
#include "thread/operations.h"

void cursor_seal(const struct threads *threads, const struct index_scan *scan,
                 uint8_t cursor[THREAD_CURSOR_BYTES]);

/* False: this server did not make it. */
bool cursor_open(const struct threads *threads, struct bytes cursor, struct index_scan *scan);

#endif
