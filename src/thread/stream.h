/*
 * Streamed steps, seen from the rest of the room. Private to src/thread/.
 *
 * Who begins a step gets a *claim*, and the thread a draft. The claim is not that of the life word:
 * it lasts for a minute and more, the word's for a moment, and whatever is done to a draft is done
 * under the word's. A claim whose time is over (rest_of(thread)->streams_until_ms) is over for
 * everybody at once, by their own clocks; who comes next, be it the sweep, drops the draft. Outside
 * the claim of the word a thread has a draft if and only if streams_until_ms is not 0.
 *
 * A step that is begun on a thread that is not there makes an *unborn* one: a record with a draft
 * and a spine that says what was there before. It is never told to the disk. Its commit makes a
 * thread as an append does, and puts that in its place; when it ends otherwise, what was there
 * before is there again.
 */
#ifndef RETHREAD_THREAD_STREAM_H
#define RETHREAD_THREAD_STREAM_H

#include "thread/draft.h"
#include "thread/lookup.h"

/* Whether somebody's claim on the thread's next step lives. Without the life word's claim it may
 * be over, or begun, as soon as this is answered. */
static inline bool stream_lives(const struct lane *lane, const struct thread *thread)
{
    return life_streams_until_ms(thread) > lane->now_ms;
}

/* Under the life word's claim, all of these. */

/* The thread's draft, if its claim lives; one whose time is over is dropped. NULL: none. */
struct draft *stream_draft(struct lane *lane, struct thread *thread);

/*
 * The step that commits the draft: what was streamed, and behind it what the request brings.
 * STATUS_AGAIN: no memory.
 */
enum status stream_build(struct lane *lane, const struct wire_request *request,
                         const struct draft *draft, struct step **step, struct wire_error *error);

/* The step was committed or given up: the draft goes. The use that it was is entered already. */
void stream_end(struct lane *lane, struct thread *thread);

/* Of a thread that was killed, or was never published: the draft goes with it. */
void stream_bury(struct lane *lane, struct thread *thread);

#endif
