/*
 * From an image of the disk back to records in memory. Private to src/thread/.
 */
#ifndef RETHREAD_THREAD_PROMOTE_H
#define RETHREAD_THREAD_PROMOTE_H

#include "thread/lane.h"

/* Why the thread is gone by now, though the disk has it still; REASON_NONE: it is not. */
enum reason promote_end_reason(const struct lane *lane, const struct tier_head *head);

/*
 * Makes the thread and its steps and puts them into the index in the place of `marker`. Its keys
 * stay with the disk. `generation`: of the tier when the image was asked for; a change that was
 * said to have failed may take effect until there is another. False: no memory (want is noted);
 * nothing was done.
 */
bool promote_thread(struct lane *lane, struct tier_image *image, uint32_t generation,
                    struct index_record *marker);

#endif
