/* Options of weaving: the form, the field, the profiles; see weave_options.h. */
#include "client/weave_options.h"

#include "wire/profile.h"

#include <stdlib.h>

enum { FIELD_BYTES_MAX = 64 };

struct rethread_profiles {
    struct profiles *profiles;
};

_Static_assert((int)RETHREAD_PROFILES_ERROR_BYTES == (int)PROFILE_ERROR_BYTES,
               "the public header's buffer is the one that profiles_load fills");

enum rethread_status rethread_profiles_load(const char *path, struct rethread_profiles **profiles,
                                            char error[RETHREAD_PROFILES_ERROR_BYTES])
{
    char unwanted[PROFILE_ERROR_BYTES];
    if (profiles == NULL)
        return RETHREAD_INVALID_ARGUMENT;
    *profiles = NULL;
    if (error == NULL)
        error = unwanted;
    error[0] = '\0';
    if (path == NULL)
        return RETHREAD_INVALID_ARGUMENT;
    struct rethread_profiles *loaded = calloc(1, sizeof *loaded);
    if (loaded == NULL)
        return RETHREAD_NO_MEMORY;
    enum status status = profiles_load(path, &loaded->profiles, error);
    if (status == STATUS_OK) {
        *profiles = loaded;
        return RETHREAD_OK;
    }
    free(loaded);
    return status == STATUS_BAD_REQUEST ? RETHREAD_INVALID_ARGUMENT : RETHREAD_NO_MEMORY;
}

void rethread_profiles_free(struct rethread_profiles *profiles)
{
    if (profiles != NULL)
        profiles_free(profiles->profiles);
    free(profiles);
}

const char *rethread_transcript_name(enum rethread_transcript transcript)
{
    switch (transcript) {
    case RETHREAD_CHAT:
        return "chat";
    case RETHREAD_RESPONSES:
        return "responses";
    case RETHREAD_ANTHROPIC:
        return "anthropic";
    }
    return "other";
}

/* What a message of an assistant has besides its reasoning. */
static bool is_taken(const char *field)
{
    static const char *const names[] = {"role",    "content", "tool_calls",    "name",
                                        "refusal", "audio",   "function_call", "annotations"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(field, names[i]) == 0)
            return true;
    return false;
}

bool weave_options_read(const struct rethread_weave_options *options, const char **field,
                        struct weave_error *error)
{
    if ((unsigned)options->as > RETHREAD_ANTHROPIC) {
        weave_error_set(error, "the form of the transcript (`as`) is none that is known");
        return false;
    }
    if (options->field == NULL) {
        const struct profiles *profiles =
            options->profiles != NULL ? options->profiles->profiles : NULL;
        struct bytes model = bytes_of(options->model.data, options->model.size);
        *field = profiles_find(profiles, model)->field;
        return true;
    }
    *field = options->field;
    struct rethread_bytes bytes = rethread_text(options->field);
    if (bytes.size == 0 || bytes.size > FIELD_BYTES_MAX || !weave_json_is_utf8(bytes)) {
        weave_error_set(error, "the field is not 1 to %d bytes of UTF-8", FIELD_BYTES_MAX);
        return false;
    }
    if (is_taken(options->field)) {
        weave_error_set(error, "the field is one that a message has for something else");
        return false;
    }
    return true;
}

enum rethread_status weave_options_transcript(const struct rethread_weave_options *options,
                                              struct rethread_bytes text, struct weave_json *json,
                                              struct weave_transcript *transcript,
                                              struct weave_error *error)
{
    const char *field = NULL;
    json_t *root = NULL;
    if (!weave_options_read(options, &field, error))
        return RETHREAD_INVALID_ARGUMENT;
    if (text.size > WEAVE_TRANSCRIPT_BYTES_MAX) {
        weave_error_set(error, "has too many bytes, at most %d", WEAVE_TRANSCRIPT_BYTES_MAX);
        return RETHREAD_TOO_LARGE;
    }
    weave_json_limit(json, WEAVE_TRANSCRIPT_DEPTH_MAX, WEAVE_TRANSCRIPT_VALUES_MAX);
    enum rethread_status status = weave_json_read(json, text, &root, error);
    if (status != RETHREAD_OK)
        return status;
    return weave_transcript_read(transcript, options->as, field, root, error);
}
