/*
 * The domain on a driven clock, and requests and answers as short lines of text.
 *
 *   "append t expect=1 key=k response_id=r call=c1 call=c2 kind=opaque : one two"
 *   "replay t have=2,1 last=3 max_bytes=9 model=m touch=0"    "replay - tool_call=c1"
 *   "replay t policy=last_turns turns=2 turn=5 pin=1 max_tokens=9 on_mismatch=1 prefixes=0:p,2:q
 *           have=2,3,0,1" (version, step, and the kept ones)    "replay - prefix_list=q,p"
 *   "touch t ttl_ms=5"  "fork new from=t at=1"  "rewind t to=-1"  "stat t"  "forget t"
 *
 *   "begin t segment=opaque claim=B"  "chunk t claim=B : one"  "commit t claim=B bare=1"  "abort t"
 *
 * A claim has a letter, A if it is not given; begin sets what it stands for, in all domains.
 * The words after ` : ` are payloads; word*N is the word N times. A thread named - is not given.
 * Prefixes and visible hashes are filled up with dots.
 * Answers:
 *   append  step 2 v3 [created] [duplicate] [lost 2]
 *   replay  complete t v3 head 2 [kept_from 2 dropped 2] [found 0] [extends | breaks]
 *           [first_changed 1] [ambiguous] [in_flight]: 0=one|two 1?expired 2=
 *           miss expired v3 [in_flight]
 *   stat    complete v3 steps 3 bytes 9 tokens 0
 *   touch   touched | missing expired           fork   v2
 *   rewind  v4 dropped 2                        forget forgotten | nothing
 *   begin   begun 2 v3    chunk  bytes 9    abort  aborted    commit  as append
 *   errors  conflict version v3 | bad_request turn | not_found from expired | again
 * With a tier (settings.tier, .hash_secret and .wall, which is then a struct clock_driven that the
 * tier has too, so that both outlive the domain): "disk" after a replay's or stat's first part when
 * it came from there, "pending" after what waits for the disk; domain.told is what it came to.
 */
#ifndef RETHREAD_TESTS_LIB_DOMAIN_H
#define RETHREAD_TESTS_LIB_DOMAIN_H

#include "tests/lib/ask.h"
#include "thread/operations.h"

enum { DOMAIN_START_MS = 1000000, DOMAIN_TTL_MS = 1000 };

struct domain {
    struct clock_driven clock;
    struct clock_driven *wall;        /* the caller's; NULL: no tier */
    struct threads_settings settings; /* as given */
    struct threads *threads;
    struct lane *lane; /* online */
    /* Of the last answer. */
    uint64_t expires_in_ms;
    uint64_t vouch_ms;
    struct thread_stat_result stat;
    struct wire_error error;
    unsigned waiting; /* answers that are pending */
    enum status told; /* what the last of them that came said */
};

/* 64 MiB, DOMAIN_TTL_MS, 1 MiB frames, 4096 tombstones, 8 lanes; .clock is set by domain_open. */
struct threads_settings domain_settings(void);

/* Ends the process when there is no memory. The struct must stay where it is. */
void domain_open(struct domain *domain, struct threads_settings settings);
void domain_close(struct domain *domain);

/* Moves the clocks and reads them. Nothing is swept. */
void domain_wait(struct domain *domain, uint64_t by_ms);

/* Does what the line says; the answer is valid until the next call. */
const char *domain_say(struct domain *domain, const char *line);

uint64_t domain_metric(struct domain *domain, enum metric metric);

/* The same on a lane, again while it says STATUS_AGAIN (tending in between, a bounded number of
 * times). */
enum status domain_append(struct lane *lane, const struct ask *ask,
                          struct thread_append_result *result, struct wire_error *error);
enum status domain_replay(struct lane *lane, const struct ask *ask,
                          struct thread_replay_result *result, struct wire_error *error);

#define SAY(line, answer) ck_assert_str_eq(domain_say(&domain, line), answer)

#endif
