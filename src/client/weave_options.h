/* What the options of weaving come to. */
#ifndef RETHREAD_CLIENT_WEAVE_OPTIONS_H
#define RETHREAD_CLIENT_WEAVE_OPTIONS_H

#include "client/weave_transcript.h"

/* False: `error` says which option is wrong. *field is borrowed from the options or their profile.
 */
bool weave_options_read(const struct rethread_weave_options *options, const char **field,
                        struct weave_error *error);

/*
 * The transcript that the options and the text give, with `json` for all that is to be mixed with
 * it. INVALID_ARGUMENT, TOO_LARGE, NO_MEMORY. Both are to be freed in any case.
 */
enum rethread_status weave_options_transcript(const struct rethread_weave_options *options,
                                              struct rethread_bytes text, struct weave_json *json,
                                              struct weave_transcript *transcript,
                                              struct weave_error *error);

#endif
