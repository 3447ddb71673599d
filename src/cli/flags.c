/* Flags from the contract and of the program, and their parsing by getopt_long; see flags.h. */
#include "cli/flags.h"

#include "cli/segments.h"
#include "cli/values.h"

#include <assert.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRANSCRIPTS "chat|responses|anthropic"

/* The program's own flags: of one command, or of all when the command is NULL. */
static const struct {
    enum own_flag flag;
    const char *command;
    const char *name;
    const char *value;
    const char *summary;
} own_flags[] = {
    {FLAG_TEXT, "append", "text", "STRING", "A text segment: these bytes, as they are."},
    {FLAG_BARE, "append", "bare", NULL, "A bare step: the call produced no reasoning."},
    {FLAG_TEXT, "commit", "text", "STRING", "A text segment: these bytes, as they are."},
    {FLAG_BARE, "commit", "bare", NULL, "A bare step: the call produced no reasoning."},
    {FLAG_TEXT, "chunk", "text", "STRING", "A payload: these bytes, as they are."},
    {FLAG_FILE, "chunk", "file", "FILE", "A payload: all of the file; - is the standard input."},
    {FLAG_KIND, "stream", "kind", "text|tokens|opaque",
     "The kind of what is streamed (default: text)."},
    {FLAG_CHUNK_BYTES, "stream", "chunk-bytes", "SIZE",
     "Send at most this much at once (default: 64K); less is sent as it comes."},
    {FLAG_BARE, "stream", "bare", NULL, "Commit a bare step if the standard input is empty."},
    {FLAG_STRICT, "replay", "strict", NULL, "Exit with 1 when the replay is partial."},
    {FLAG_STRICT, "stat", "strict", NULL, "Exit with 1 when the thread is partial."},
    {FLAG_AS, "weave", "as", TRANSCRIPTS, "The form of the transcript. Required."},
    {FLAG_FIELD, "weave", "field", "NAME",
     "The member of a chat message for reasoning (default: what the model's profile says)."},
    {FLAG_PROFILES, "weave", "profiles", "FILE",
     "Profiles that come before the built-in ones, as the server's setting takes them."},
    {FLAG_STRICT, "weave", "strict", NULL, "Exit with 1 unless every call has its reasoning."},
    {FLAG_AS, "unweave", "as", TRANSCRIPTS, "The form of the transcript. Required."},
    {FLAG_THREAD, "unweave", "thread", "ID", "The thread to append the steps to."},
    {FLAG_FIELD, "unweave", "field", "NAME",
     "The member of a chat message for reasoning (default: what the model's profile says)."},
    {FLAG_PROFILES, "unweave", "profiles", "FILE",
     "Profiles that come before the built-in ones, as the server's setting takes them."},
    {FLAG_ALL, "list", "all", NULL, "Follow the cursor to the last page."},
    {FLAG_SKIP_BAD, "import", "skip-bad", NULL, "Count bad lines instead of stopping."},
    {FLAG_THREAD, "import", "thread", "ID", "The thread of the lines that name none."},
    {FLAG_IN_FLIGHT, "import", "in-flight", "N",
     "Steps sent ahead of their answers (default: 64)."},
    {FLAG_THREAD, "export", "thread", "ID", "A thread to export; may be repeated."},
    {FLAG_STARTS_WITH, "export", "starts-with", "ID",
     "Only threads whose id starts with these bytes."},
    {FLAG_OUTPUT, "export", "output", "FILE", "Where to write (default: standard output)."},
    {FLAG_SERVER, NULL, "server", "ADDR",
     "host:port, [IPv6]:port or unix:/path (default: RETHREAD_ADDRESS, else 127.0.0.1:7411)."},
    {FLAG_TIMEOUT, NULL, "timeout", "TIME",
     "How long to wait, to connect and for each answer (default: 5s and 30s)."},
    {FLAG_FRAME_MAX, NULL, "frame-max", "SIZE", "Largest frame, as at the server (default: 64M)."},
    {FLAG_JSON, NULL, "json", NULL, "Print JSON: an object for each result, lines for lists."},
    {FLAG_REVEAL, NULL, "reveal", NULL, "Show payloads, which else are only described."},
    {FLAG_HELP, NULL, "help", NULL, "Explain, and do nothing."},
};

static void dashed(char name[FLAG_NAME_BYTES], const char *text)
{
    int length = snprintf(name, FLAG_NAME_BYTES, "%s", text);
    assert(length > 0 && length < FLAG_NAME_BYTES);
    for (char *c = name; *c != '\0'; c++)
        if (*c == '_')
            *c = '-';
}

static const char *choices(enum option_type type)
{
    static const char policies[] =
#define POLICY(NAME, text, says) text "|"
#include "schema/policies.def"
#undef POLICY
        "auto";
    switch (type) {
    case OPTION_ACK:
        return "memory|disk";
    case OPTION_MISMATCH:
        return "drop|fail";
    case OPTION_KIND:
        return "text|tokens|opaque";
    case OPTION_POLICY:
        return policies;
    default:
        return NULL;
    }
}

static bool is_list(enum option_type type)
{
    return type == OPTION_IDS || type == OPTION_KINDS || type == OPTION_PREFIX ||
           type == OPTION_PREFIXES;
}

static const char *value_name(const struct contract_option *option)
{
    switch (option->type) {
    case OPTION_ID:
    case OPTION_IDS:
        return "ID";
    case OPTION_TEXT:
        return "TEXT";
    case OPTION_U64:
    case OPTION_I64:
        return value_number_name(option->name);
    case OPTION_BOOL:
        return "true|false";
    case OPTION_ACK:
    case OPTION_MISMATCH:
    case OPTION_KIND:
        return choices(option->type);
    case OPTION_POLICY:
        return "POLICY";
    case OPTION_PREFIX:
        return "PREFIX";
    case OPTION_PREFIXES:
        return "STEP:PREFIX";
    case OPTION_KINDS:
        return "KIND=FILE";
    case OPTION_HAVE:
        return "VERSION:STEP[:KEPT]";
    }
    return NULL;
}

static struct flag flag_of_option(const struct contract_option *option)
{
    struct flag flag = {.option = option,
                        .value = value_name(option),
                        .choices = choices(option->type),
                        .repeats = is_list(option->type),
                        .summary = option->summary};
    dashed(flag.name, option->name);
    if (option->type == OPTION_BOOL) {
        flag.value_optional = true;
        snprintf(flag.alias, sizeof flag.alias, "no-%.*s", FLAG_NAME_BYTES - 4, flag.name);
    } else if (option->type == OPTION_PREFIXES) {
        snprintf(flag.alias, sizeof flag.alias, "step-prefix");
    } else if (option->type == OPTION_IDS || option->type == OPTION_KINDS) {
        size_t length = strlen(flag.name);
        assert(flag.name[length - 1] == 's');
        memcpy(flag.alias, flag.name, length - 1);
    }
    return flag;
}

/*
 * Whether the command takes the option. A stream takes those of the commit at its end, weave those
 * of the replay that it makes, unweave some of the appends.
 */
static bool takes(const struct command *command, const struct contract_option *option)
{
    const char *name = option->name;
    if (option->method != command->method)
        return false;
    switch (command->id) {
    case COMMAND_STREAM:
        return strcmp(name, "claim") != 0;
    case COMMAND_WEAVE:
        return strcmp(name, "have") != 0;
    case COMMAND_UNWEAVE:
        return strcmp(name, "model") == 0 || strcmp(name, "ttl_ms") == 0 ||
               strcmp(name, "retention_ms") == 0 || strcmp(name, "ack") == 0;
    default:
        return true;
    }
}

/* Where an option of the contract means something else on the command line. */
static const struct {
    const char *name;
    const char *command; /* NULL: any */
    const char *summary;
} retold[] = {
    {"segments", NULL, "The kind of each payload (default: all text)."},
    {"policy", "weave", "Which steps to put in (default: auto, what the model's profile says)."},
    {"turn", "weave",
     "The turn about to be generated, for the policy (default: the number of user messages)."},
};

static const char *summary_of(const struct command *command, const struct contract_option *option)
{
    for (size_t i = 0; i < sizeof retold / sizeof *retold; i++)
        if (strcmp(option->name, retold[i].name) == 0 &&
            (retold[i].command == NULL || strcmp(command->name, retold[i].command) == 0))
            return retold[i].summary;
    return option->summary;
}

/* What the value of an own flag is one of; NULL: no such list. */
static const char *own_choices(enum own_flag flag)
{
    return flag == FLAG_KIND ? choices(OPTION_KIND) : flag == FLAG_AS ? TRANSCRIPTS : NULL;
}

size_t flags_of(const struct command *command, struct flag flags[FLAGS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; command != NULL && i < contract_option_count; i++)
        if (takes(command, &contract_options[i])) {
            assert(count < FLAGS_MAX);
            flags[count] = flag_of_option(&contract_options[i]);
            flags[count++].summary = summary_of(command, &contract_options[i]);
        }
    for (size_t i = 0; i < sizeof own_flags / sizeof *own_flags; i++) {
        bool global = own_flags[i].command == NULL;
        if (!global && (command == NULL || strcmp(command->name, own_flags[i].command) != 0))
            continue;
        assert(count < FLAGS_MAX);
        flags[count] = (struct flag){.own = own_flags[i].flag,
                                     .value = own_flags[i].value,
                                     .choices = own_choices(own_flags[i].flag),
                                     .global = global,
                                     .summary = own_flags[i].summary};
        dashed(flags[count++].name, own_flags[i].name);
    }
    return count;
}

static const char *set_limit(struct invocation *invocation, enum own_flag flag, const char *text)
{
    struct keep *keep = &invocation->keep;
    int64_t number = 0;
    const char *error = NULL;
    if (flag == FLAG_TIMEOUT) {
        error = value_number(keep, "timeout_ms", text, 1, 86400000, &number);
        if (error == NULL)
            invocation->timeout_ms = (uint64_t)number;
    } else if (flag == FLAG_FRAME_MAX) {
        error = value_number(keep, "bytes", text, 65536, 1073741824, &number);
        if (error == NULL)
            invocation->frame_max_bytes = (uint64_t)number;
    } else if (flag == FLAG_CHUNK_BYTES) {
        error = value_number(keep, "bytes", text, 1, 1 << 26, &number);
        if (error == NULL)
            invocation->chunk_bytes = (size_t)number;
    } else {
        error = value_number(keep, "count", text, 1, 4096, &number);
        if (error == NULL)
            invocation->in_flight = (uint64_t)number;
    }
    return error;
}

static const char *set_transcript(struct invocation *invocation, const char *text)
{
    struct rethread_weave_options *weave = &invocation->weave;
    weave->as = RETHREAD_CHAT;
    while (weave->as <= RETHREAD_ANTHROPIC &&
           strcmp(text, rethread_transcript_name(weave->as)) != 0)
        weave->as++;
    invocation->weave_as_given = weave->as <= RETHREAD_ANTHROPIC;
    return invocation->weave_as_given ? NULL : "takes chat, responses or anthropic";
}

static const char *set_own(struct invocation *invocation, enum own_flag flag, const char *text)
{
    struct keep *keep = &invocation->keep;
    switch (flag) {
    case FLAG_SERVER:
        invocation->server = text;
        return NULL;
    case FLAG_TIMEOUT:
    case FLAG_FRAME_MAX:
    case FLAG_IN_FLIGHT:
    case FLAG_CHUNK_BYTES:
        return set_limit(invocation, flag, text);
    case FLAG_JSON:
        invocation->json = true;
        return NULL;
    case FLAG_REVEAL:
        invocation->reveal = true;
        return NULL;
    case FLAG_HELP:
        invocation->help = true;
        return NULL;
    case FLAG_STRICT:
        invocation->strict = true;
        return NULL;
    case FLAG_TEXT:
        return segments_add_text(invocation, text);
    case FLAG_FILE:
        return segments_add_file(invocation, text);
    case FLAG_BARE:
        invocation->bare = true;
        return NULL;
    case FLAG_ALL:
        invocation->all = true;
        return NULL;
    case FLAG_SKIP_BAD:
        invocation->skip_bad = true;
        return NULL;
    case FLAG_THREAD:
        return value_add_id(keep, text, 65536, &invocation->threads);
    case FLAG_STARTS_WITH:
        return value_id(keep, text, 0, 255, &invocation->start_with);
    case FLAG_OUTPUT:
        invocation->output = text;
        return NULL;
    case FLAG_AS:
        return set_transcript(invocation, text);
    case FLAG_FIELD:
        invocation->weave.field = text;
        return NULL;
    case FLAG_PROFILES:
        invocation->profiles = text;
        return NULL;
    case FLAG_KIND:
        invocation->kind = text;
        return value_is_one_of(text, choices(OPTION_KIND)) ? NULL : "takes text, tokens or opaque";
    }
    return "cannot be given";
}

static int refuse(const struct invocation *invocation, const char *flag, const char *error)
{
    report_line("%s %s", flag, error);
    if (invocation->command != NULL)
        fprintf(stderr, "See rethread-cli help %s\n", invocation->command->name);
    else
        fputs("See rethread-cli help\n", stderr);
    return EXIT_USAGE;
}

enum { VALUE_BASE = 256 }; /* getopt_long's values: flag * 2 + 1 for its alias, from here */

static void describe(const struct flag *flags, size_t count, struct option *options)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        int takes = flags[i].value == NULL    ? no_argument
                    : flags[i].value_optional ? optional_argument
                                              : required_argument;
        int value = VALUE_BASE + (int)i * 2;
        options[used++] = (struct option){flags[i].name, takes, NULL, value};
        if (flags[i].alias[0] != '\0')
            options[used++] = (struct option){
                flags[i].alias, flags[i].value_optional ? no_argument : takes, NULL, value + 1};
    }
    options[used] = (struct option){0};
}

int flags_parse(struct invocation *invocation, int argc, char **argv, int *used)
{
    struct flag flags[FLAGS_MAX] = {0};
    struct option options[2 * FLAGS_MAX + 1];
    describe(flags, flags_of(invocation->command, flags), options);
    const char *shorts = invocation->command != NULL ? ":h" : "+:h";
    opterr = 0;
    optind = 0; /* GNU: start afresh, for the second time around */
    int got;
    while ((got = getopt_long(argc, argv, shorts, options, NULL)) != -1) {
        if (got == 'h') {
            invocation->help = true;
            continue;
        }
        if (got == '?' || got == ':') {
            /* Without what was given as its value: that may be a payload. */
            const char *at = argv[optind - 1];
            char *name = cli_format("%.*s", (int)strcspn(at, "="), at);
            return refuse(invocation, keep_take(&invocation->keep, name),
                          got == ':'             ? "needs a value"
                          : optopt >= VALUE_BASE ? "takes no value"
                                                 : "is no option here, or stands for several");
        }
        const struct flag *flag = &flags[(got - VALUE_BASE) / 2];
        bool alias = (got - VALUE_BASE) % 2 != 0;
        const char *text = alias && flag->value_optional ? "false" : optarg;
        const char *error = flag->option != NULL ? value_option(invocation, flag->option, text)
                                                 : set_own(invocation, flag->own, text);
        if (error != NULL) {
            const char *given = alias && !flag->value_optional ? flag->alias : flag->name;
            char *name = keep_take(&invocation->keep, cli_format("--%s", given));
            return refuse(invocation, name, error);
        }
    }
    *used = optind;
    return EXIT_DONE;
}

/* Where the operands of a method go: its `thread`, or its `threads`. */
static int take_operands(struct invocation *invocation)
{
    enum rethread_method method = invocation->command->method;
    const struct contract_option *thread = contract_find(method, "thread");
    if (thread == NULL)
        thread = contract_find(method, "threads");
    for (size_t i = 0; i < invocation->operand_count; i++) {
        if (thread == NULL)
            return refuse(invocation, invocation->operands[i],
                          "is not understood: this command takes options only");
        if (thread->type == OPTION_ID && contract_is_set(thread, &invocation->arguments))
            return refuse(invocation, invocation->operands[i],
                          "is not understood: the thread was given already");
        const char *error = value_option(invocation, thread, invocation->operands[i]);
        if (error != NULL)
            return refuse(invocation, "the thread", error);
    }
    return EXIT_DONE;
}

static int take_exported(struct invocation *invocation)
{
    for (size_t i = 0; i < invocation->operand_count; i++) {
        const char *error = set_own(invocation, FLAG_THREAD, invocation->operands[i]);
        if (error != NULL)
            return refuse(invocation, "the thread", error);
    }
    if (invocation->threads.count != 0 && invocation->start_with.data != NULL)
        return refuse(invocation, "--starts-with", "is for all threads, but some were named");
    return EXIT_DONE;
}

int flags_finish(struct invocation *invocation)
{
    if (invocation->command->id == COMMAND_EXPORT || invocation->command->id == COMMAND_UNWEAVE)
        return take_exported(invocation);
    if (invocation->command->method == RETHREAD_METHOD_OTHER)
        return EXIT_DONE;
    int code = take_operands(invocation);
    for (size_t i = 0; code == EXIT_DONE && i < contract_option_count; i++) {
        const struct contract_option *option = &contract_options[i];
        if (!takes(invocation->command, option) || !option->required ||
            contract_is_set(option, &invocation->arguments))
            continue;
        char name[FLAG_NAME_BYTES];
        dashed(name, option->name);
        char *flag = keep_take(&invocation->keep, cli_format("--%s", name));
        code = refuse(invocation, flag, "is required");
    }
    return code;
}
