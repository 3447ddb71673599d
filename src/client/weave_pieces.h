/*
 * What a step's segments come to in a form of transcript: blocks and where they go, members of a
 * chat message, and what has no place there. schema/weave.md has the rules.
 */
#ifndef RETHREAD_CLIENT_WEAVE_PIECES_H
#define RETHREAD_CLIENT_WEAVE_PIECES_H

#include "client/weave_transcript.h"

/* What an envelope begins with: nothing else that weaving writes does. */
#define WEAVE_ENVELOPE_START "{\"rethread\":"

struct weave_piece {
    size_t at;         /* the visible parts of the call that come before it */
    size_t order;      /* among those of equal `at` */
    const char *field; /* of chat: the member; lies in `holder` or is the target's own field */
    json_t *value;     /* its own reference */
    json_t *holder;
};

struct weave_pieces {
    struct weave_piece *items; /* in the order found until settled */
    size_t count;
    size_t room;
    size_t left_out;                 /* segments of which not everything had a place */
    enum rethread_woven_outcome why; /* the first of them was; BARE: there was nothing at all */
};

/*
 * `parts`: the visible parts of the call that they are for.
 * Envelopes are read with `json`, whose table of literals then knows their numbers; the segments
 * must live as long. NO_MEMORY; TOO_LARGE: the envelopes are. To be freed in any case.
 */
enum rethread_status weave_pieces_read(struct weave_pieces *pieces, enum rethread_transcript as,
                                       const char *field, size_t parts,
                                       struct rethread_segments segments, struct weave_json *json,
                                       struct weave_error *error);
/* Sorts them by `at`, which is at most `count` from then on, and by `order`. */
void weave_pieces_settle(struct weave_pieces *pieces, size_t count);

void weave_pieces_free(struct weave_pieces *pieces);

#endif
