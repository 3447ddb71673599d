/*
 * Idempotency keys: what the last appends of a thread with a key came to. Private to src/thread/.
 * Only under the thread's claim.
 */
#ifndef RETHREAD_THREAD_RECALL_H
#define RETHREAD_THREAD_RECALL_H

#include "thread/lane.h"

/* The entry a request would leave: key and digest filled in. */
struct recall_entry recall_prepare(const struct lane *lane, const struct wire_request *request);

/* The remembered entry of the same key, or NULL. */
const struct recall_entry *recall_find(const struct lane *lane, const struct thread *thread,
                                       const struct recall_entry *wanted);

bool recall_same_bytes(const struct recall_entry *a, const struct recall_entry *b);

/* Makes sure that recall_add finds room. False: no memory. */
bool recall_reserve(struct lane *lane, struct thread *thread);
void recall_add(struct lane *lane, struct thread *thread, const struct recall_entry *entry);

/* All that is remembered, in no order, for the tier. */
const struct recall_entry *recall_entries(const struct lane *lane, const struct thread *thread,
                                          uint32_t *count);

#endif
