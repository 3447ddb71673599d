/* Transcripts on the standard input; see transcript.h. */
#include "cli/transcript.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INPUT_BYTES_MAX = 1 << 28 };

static int read_input(struct rethread_bytes *text)
{
    size_t room = 0;
    size_t used = 0;
    char *bytes = NULL;
    size_t got = 0;
    do {
        bytes = cli_grow(bytes, &room, used + 65536, 1);
        got = fread(bytes + used, 1, room - used, stdin);
        used += got;
    } while (got > 0 && used <= INPUT_BYTES_MAX);
    *text = (struct rethread_bytes){bytes, used};
    if (ferror(stdin)) {
        report_line("cannot read the standard input: %s", strerror(errno));
        return EXIT_SERVER;
    }
    return EXIT_DONE;
}

static int load_profiles(struct transcript *transcript, const char *path)
{
    char error[RETHREAD_PROFILES_ERROR_BYTES];
    if (path == NULL)
        return EXIT_DONE;
    enum rethread_status status = rethread_profiles_load(path, &transcript->profiles, error);
    if (status == RETHREAD_NO_MEMORY)
        cli_no_memory();
    if (status != RETHREAD_OK)
        report_line("--profiles %s: %s", path, error);
    transcript->options.profiles = transcript->profiles;
    return status == RETHREAD_OK ? EXIT_DONE : EXIT_USAGE;
}

int transcript_refuse(enum rethread_status status, const char *error)
{
    if (status == RETHREAD_NO_MEMORY)
        cli_no_memory();
    report_line("the transcript: %s", error != NULL ? error : rethread_strerror(status));
    return EXIT_USAGE;
}

int transcript_begin(struct transcript *transcript, const struct invocation *invocation,
                     struct rethread_bytes model)
{
    *transcript = (struct transcript){.options = invocation->weave};
    transcript->options.model = model;
    if (!invocation->weave_as_given) {
        report_line("say what form the transcript has: --as chat, responses or anthropic");
        return EXIT_USAGE;
    }
    if (isatty(STDOUT_FILENO) && !invocation->reveal) {
        report_line("reasoning would be shown on this terminal: say --reveal, or redirect");
        return EXIT_USAGE;
    }
    int code = load_profiles(transcript, invocation->profiles);
    if (code == EXIT_DONE)
        code = read_input(&transcript->text);
    if (code != EXIT_DONE)
        return code;
    enum rethread_status status =
        rethread_unweave(&transcript->options, transcript->text, &transcript->unwoven);
    if (status == RETHREAD_OK)
        return EXIT_DONE;
    return transcript_refuse(
        status, transcript->unwoven != NULL ? rethread_unwoven_error(transcript->unwoven) : NULL);
}

void transcript_end(struct transcript *transcript)
{
    rethread_unwoven_free(transcript->unwoven);
    rethread_profiles_free(transcript->profiles);
    free((void *)transcript->text.data);
    *transcript = (struct transcript){0};
}

void transcript_print(struct rethread_bytes json)
{
    fwrite(json.data, 1, json.size, stdout);
    putchar('\n');
}
