/*
 * Weaving: hidden reasoning put into a conversation, and taken out of it.
 *
 * A client holds the *visible* part of a conversation as JSON; a rethread server holds the
 * reasoning of its steps. rethread_weave() makes of the two what a model's next call needs.
 * rethread_unweave() goes the other way: it parts a whole transcript into what the client may see
 * and the steps to append. schema/weave.md has the rules; this is how to call them.
 *
 *     struct rethread_bytes model = rethread_text("qwen3-32b");
 *     struct rethread_weave_options how = {.as = RETHREAD_CHAT, .model = model};
 *     struct rethread_replay_options ask = {
 *         .thread = rethread_text("conversation-17"),
 *         .model = model,
 *         .policy = "auto",
 *     };
 *     struct rethread_result *result;
 *     struct rethread_woven *woven = NULL;
 *     if (rethread_replay(connection, &ask, &result) == RETHREAD_OK) {
 *         if (rethread_weave(&how, visible, rethread_result_replay(result), &woven) == RETHREAD_OK)
 *             call_the_model(rethread_woven_json(woven));
 *         else if (woven != NULL)
 *             complain(rethread_woven_error(woven));
 *     }
 *     rethread_woven_free(woven);
 *     rethread_result_free(result);
 *
 * SHAPES. JSON is UTF-8 text: an array of messages or items, or the request object that holds it
 * (`messages`; for RETHREAD_RESPONSES `input`, which may be a string as well). What is around the
 * array, and all that weaving has no business with, passes through: numbers as they were written,
 * members in their order. White space is not kept. One *call* of a model is an assistant message,
 * or in RETHREAD_RESPONSES a run of items that the model produced; calls are numbered from 0.
 *
 * OWNERSHIP. What is given is borrowed for the duration of the call, but for what
 * rethread_unweave() says. A result is owned by who received it, owns all that its accessors point
 * to, and is freed by its one free function.
 *
 * ERRORS. INVALID_ARGUMENT: an option or the JSON is wrong. TOO_LARGE: beyond 256 MiB, 256 levels
 * or 1,048,576 values. In both cases there is a result, which holds one sentence on what is wrong
 * and where (`messages[3].content[0]: is no object`) and nothing else; the sentence holds no bytes
 * of the JSON. NO_MEMORY: no result. Memory stays within a multiple of the text and the replay.
 *
 * CONCURRENCY. As in rethread.h: no global state; a result never changes, so that any number of
 * operating-system threads may read it at once. Nothing here speaks to a server.
 */
#ifndef RETHREAD_WEAVE_H
#define RETHREAD_WEAVE_H

#include "rethread.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The form of a transcript. */
enum rethread_transcript {
    RETHREAD_CHAT = 0,      /* messages of OpenAI's chat completions and all who speak it */
    RETHREAD_RESPONSES = 1, /* items of OpenAI's responses */
    RETHREAD_ANTHROPIC = 2, /* messages of Anthropic */
};

/* "chat", "responses", "anthropic"; "other" for a value that is none. Static. */
RETHREAD_API const char *rethread_transcript_name(enum rethread_transcript transcript);

/* ---- Profiles ------------------------------------------------------------------------------ */

/*
 * Profiles of models beyond the built-in ones, from a file as the server's setting `profiles` takes
 * it: here they decide in which field of a chat message a model's reasoning belongs. Never changes
 * once it is loaded; to be freed after the last call that was given it.
 */
struct rethread_profiles;

enum { RETHREAD_PROFILES_ERROR_BYTES = 256 };

/*
 * Sets *profiles, or NULL on failure. INVALID_ARGUMENT: the file cannot be read or a line of it is
 * wrong, and `error` (which may be NULL) says what in one sentence. Else NO_MEMORY.
 */
RETHREAD_API enum rethread_status rethread_profiles_load(const char *path,
                                                         struct rethread_profiles **profiles,
                                                         char error[RETHREAD_PROFILES_ERROR_BYTES]);

/* NULL is fine. */
RETHREAD_API void rethread_profiles_free(struct rethread_profiles *profiles);

/* ---- Weaving ------------------------------------------------------------------------------- */

struct rethread_weave_options {
    enum rethread_transcript as;

    /* Whose transcript it is. Weaving chat: the field is its profile's. Unweaving: the steps'
     * model. */
    struct rethread_bytes model;

    /*
     * The member of a chat message that holds reasoning, in place of the profile's; NULL: the
     * profile's. 1 to 64 bytes, and none of the members that a message has anyway.
     */
    const char *field;

    const struct rethread_profiles *profiles; /* NULL: the built-in ones */
};

/* How a step and its call found each other. */
enum rethread_woven_by {
    RETHREAD_BY_NOTHING = 0,
    RETHREAD_BY_TOOL_CALL = 1, /* the id of a tool call */
    RETHREAD_BY_VISIBLE = 2,   /* the hash of the visible message that append recorded */
    RETHREAD_BY_POSITION = 3,  /* as many calls as the thread has steps, and nothing against it */
};

/* "", "tool_call", "visible", "position". Static. */
RETHREAD_API const char *rethread_woven_by_name(enum rethread_woven_by by);

/* What became of a step. All but WOVEN leave its call as it was. */
enum rethread_woven_outcome {
    RETHREAD_WOVEN = 0,
    RETHREAD_WOVEN_BARE = 1,      /* there was no reasoning */
    RETHREAD_WOVEN_ALREADY = 2,   /* the call has reasoning, which it keeps, or refers to it */
    RETHREAD_WOVEN_MISSING = 3,   /* the replay does not have it: `reason` */
    RETHREAD_WOVEN_UNMATCHED = 4, /* which call it belongs to cannot be told */

    /* Nothing of it has a place in this form of transcript: */
    RETHREAD_WOVEN_UNSIGNED = 5,  /* text that no signature follows, which Anthropic refuses */
    RETHREAD_WOVEN_OPAQUE = 6,    /* a signature or sealed bytes of another vendor */
    RETHREAD_WOVEN_TOKENS = 7,    /* token ids */
    RETHREAD_WOVEN_FOREIGN = 8,   /* blocks of another form, without text to take over */
    RETHREAD_WOVEN_MALFORMED = 9, /* bytes that JSON cannot carry, or a broken envelope of blocks */
    RETHREAD_WOVEN_MOVED = 10,    /* blocks that stood between parts which are others by now */
};

/* "woven", "bare", "already", "missing", "unmatched", "unsigned", ... Static. */
RETHREAD_API const char *rethread_woven_outcome_name(enum rethread_woven_outcome outcome);

struct rethread_woven_step {
    uint64_t step;
    struct rethread_u64 call; /* its number; unset when none was found */
    enum rethread_woven_by by;
    enum rethread_woven_outcome outcome;
    enum rethread_reason reason; /* of MISSING */
    size_t left_out;             /* segments of which not everything had a place, WOVEN or not */
};

/* A transcript with its reasoning, and what became of each step. */
struct rethread_woven;

/*
 * Puts the reasoning of a replay into the visible transcript. Whatever cannot be matched, or has no
 * place, is left out and reported; a replay that is a miss leaves the transcript as it was.
 */
RETHREAD_API enum rethread_status rethread_weave(const struct rethread_weave_options *options,
                                                 struct rethread_bytes visible,
                                                 const struct rethread_replay_result *replay,
                                                 struct rethread_woven **woven);

/* NULL is fine. */
RETHREAD_API void rethread_woven_free(struct rethread_woven *woven);

/* NULL when the status was OK. Otherwise the accessors below say nothing. */
RETHREAD_API const char *rethread_woven_error(const struct rethread_woven *woven);

/* The whole transcript, compact JSON in the shape that was given; a NUL follows. */
RETHREAD_API struct rethread_bytes rethread_woven_json(const struct rethread_woven *woven);

/* One entry for each step of the replay, in its order. */
RETHREAD_API const struct rethread_woven_step *
rethread_woven_steps(const struct rethread_woven *woven, size_t *count);

/* The calls that no step was found for, ascending; those whose steps a policy left out among them.
 */
RETHREAD_API const size_t *rethread_woven_unmatched(const struct rethread_woven *woven,
                                                    size_t *count);

/* How many calls the transcript has. */
RETHREAD_API size_t rethread_woven_call_count(const struct rethread_woven *woven);

/* ---- Unweaving ----------------------------------------------------------------------------- */

/* A transcript's visible part, and its steps. */
struct rethread_unwoven;

/*
 * Parts a transcript. Each call becomes a step, bare if it has no reasoning. What comes back from
 * rethread_weave() with these steps is the transcript again.
 */
RETHREAD_API enum rethread_status rethread_unweave(const struct rethread_weave_options *options,
                                                   struct rethread_bytes transcript,
                                                   struct rethread_unwoven **unwoven);

/* NULL is fine. */
RETHREAD_API void rethread_unwoven_free(struct rethread_unwoven *unwoven);

/* NULL when the status was OK. Otherwise the accessors below say nothing. */
RETHREAD_API const char *rethread_unwoven_error(const struct rethread_unwoven *unwoven);

/* The transcript without its reasoning, compact JSON in the shape that was given; a NUL follows. */
RETHREAD_API struct rethread_bytes rethread_unwoven_json(const struct rethread_unwoven *unwoven);

/*
 * The steps, one for each call, as rethread_append() takes them; to be copied, and `thread` filled
 * in. Set are model (when the options have one; its bytes are the caller's), turn, final, visible,
 * tool_calls, and segments or bare.
 */
RETHREAD_API const struct rethread_append_options *
rethread_unwoven_steps(const struct rethread_unwoven *unwoven, size_t *count);

/* The user messages of the whole transcript: what a replay for the next call wants as `turn`. */
RETHREAD_API uint64_t rethread_unwoven_turn(const struct rethread_unwoven *unwoven);

/* ---- For those who append by hand ---------------------------------------------------------- */

enum { RETHREAD_VISIBLE_BYTES = 16 };

/*
 * What `visible` of append should be, for weaving to find the call again: a hash over the text that
 * the model showed and the names of the tools that it called, in order. It is the same for all
 * forms of transcript. `tools` may be absent.
 */
RETHREAD_API void rethread_weave_visible_hash(struct rethread_bytes text, struct rethread_ids tools,
                                              unsigned char hash[RETHREAD_VISIBLE_BYTES]);

#ifdef __cplusplus
}
#endif

#endif
