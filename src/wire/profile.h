/*
 * Profiles: what a model's next call is given of its earlier reasoning, and who may read it.
 *
 * The built-in rows are schema/profiles.def; a file may put rows before them, one a line:
 *
 *     PATTERN POLICY FIELD READABLE       qwen3.9* current_turn reasoning_content anyone
 *
 * POLICY as schema/policies.def spells it, last_turns with its number: last_turns:2; READABLE is
 * anyone or itself; # starts a comment. Pure but for profiles_load, which reads the file. A struct
 * profiles never changes, so that any number of loops may read it.
 */
#ifndef RETHREAD_WIRE_PROFILE_H
#define RETHREAD_WIRE_PROFILE_H

#include "wire/request.h"

enum { PROFILE_PATTERN_BYTES = 64, PROFILE_FIELD_BYTES = 24, PROFILE_ERROR_BYTES = 256 };

struct profile {
    char pattern[PROFILE_PATTERN_BYTES];
    enum wire_policy policy; /* never AUTO */
    uint32_t turns;          /* with LAST_TURNS */
    char field[PROFILE_FIELD_BYTES];
    bool anyone; /* other models may read its reasoning */
};

struct profiles;

/*
 * Reads a file of profiles. STATUS_OK: *profiles is the caller's, to be given to profiles_free.
 * Otherwise NULL, and `error` says in one sentence which line is wrong and what is expected.
 */
enum status profiles_load(const char *path, struct profiles **profiles,
                          char error[PROFILE_ERROR_BYTES]);
void profiles_free(struct profiles *profiles);

/*
 * The profile of a model; of its name 255 bytes behind the last / are looked at, and * alone fits
 * an empty one. `profiles` NULL: the built-in ones.
 */
const struct profile *profiles_find(const struct profiles *profiles, struct bytes model);

/*
 * Whether `reader` may be given what `writer` thought: it is the same name, one of them is not
 * known (empty), or the writer's profile says anyone.
 */
bool profiles_may_read(const struct profiles *profiles, struct bytes writer, struct bytes reader);

#endif
