/*
 * Transcripts: where the messages or items are, which of them a model's call made, and what is
 * hidden in them. schema/weave.md has the rules.
 */
#ifndef RETHREAD_CLIENT_WEAVE_TRANSCRIPT_H
#define RETHREAD_CLIENT_WEAVE_TRANSCRIPT_H

#include "client/weave_json.h"

enum { WEAVE_IDS_MAX = 128, WEAVE_ID_BYTES_MAX = 255 };

/* One call of a model. */
struct weave_call {
    size_t first; /* its items in the list: one message, or the items of a run */
    size_t count;
    uint64_t turn;
    bool final;
    bool hidden;   /* something in it is */
    bool occupied; /* and is more than an empty place: nothing may be woven in */
    size_t first_id;
    size_t id_count;
    size_t parts;  /* of it that are visible: blocks of the content, items of the run */
    bool thinks;   /* chat: its text begins with reasoning that nobody parted from it */
    bool has_text; /* it shows more than what tools it calls */
    unsigned char visible[RETHREAD_VISIBLE_BYTES];
};

struct weave_transcript {
    enum rethread_transcript as;
    const char *field;     /* borrowed: where a chat message has its reasoning */
    json_t *root;          /* its own */
    json_t *list;          /* the messages or items; NULL for an input that is a string */
    const char *list_name; /* "messages" or "input", "" when the root is the list */
    struct weave_call *calls;
    size_t call_count;
    size_t call_room;
    struct rethread_bytes *ids; /* of all calls; the bytes lie in the tree */
    size_t id_count;
    size_t id_room;
    uint64_t users; /* user messages */
};

/*
 * Finds the calls in a tree, which is the transcript's from now on, whatever the outcome.
 * INVALID_ARGUMENT: a shape is wrong. NO_MEMORY. To be freed in any case.
 */
enum rethread_status weave_transcript_read(struct weave_transcript *transcript,
                                           enum rethread_transcript as, const char *field,
                                           json_t *root, struct weave_error *error);
void weave_transcript_free(struct weave_transcript *transcript);

/* The root with another list in the place of its own; takes the list over. NULL: no memory. */
json_t *weave_transcript_with(const struct weave_transcript *transcript, json_t *list);

static inline const struct rethread_bytes *
weave_transcript_ids(const struct weave_transcript *transcript, const struct weave_call *call)
{
    return transcript->ids != NULL ? transcript->ids + call->first_id : NULL;
}

/* Whether a member of a chat message of that name is hidden. */
bool weave_transcript_hides(const char *name, const char *field);

/* Whether a block (anthropic) or an item (responses) is hidden. */
bool weave_transcript_is_hidden(enum rethread_transcript as, const json_t *block);

/* Whether an item is there with an id by which it is, or refers to, hidden reasoning. */
bool weave_transcript_names(const struct weave_transcript *transcript, const json_t *item);

#endif
