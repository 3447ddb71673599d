/* The table of commands; see command.h. */
#include "cli/command.h"

#include "cli/texts.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* A method of the schema that is named in none of these does not compile. */
#define RUN_HELLO  command_run_method
#define RUN_PING   command_run_method
#define RUN_APPEND command_run_append
#define RUN_REPLAY command_run_method
#define RUN_STAT   command_run_method
#define RUN_TOUCH  command_run_method
#define RUN_FORK   command_run_method
#define RUN_REWIND command_run_method
#define RUN_FORGET command_run_method
#define RUN_LIST   command_run_list
#define RUN_INFO   command_run_method
#define RUN_BEGIN  command_run_method
#define RUN_CHUNK  command_run_chunk
#define RUN_COMMIT command_run_append
#define RUN_ABORT  command_run_method

#define OPERANDS_HELLO  ""
#define OPERANDS_PING   ""
#define OPERANDS_APPEND "[THREAD]"
#define OPERANDS_REPLAY "[THREAD]"
#define OPERANDS_STAT   "[THREAD]"
#define OPERANDS_TOUCH  "[THREAD...]"
#define OPERANDS_FORK   "[THREAD]"
#define OPERANDS_REWIND "[THREAD]"
#define OPERANDS_FORGET "[THREAD]"
#define OPERANDS_LIST   ""
#define OPERANDS_INFO   ""
#define OPERANDS_BEGIN  "[THREAD]"
#define OPERANDS_CHUNK  "[THREAD]"
#define OPERANDS_COMMIT "[THREAD]"
#define OPERANDS_ABORT  "[THREAD]"

#define NOTES_HELLO  ""
#define NOTES_PING   ""
#define NOTES_APPEND text_append
#define NOTES_REPLAY text_replay
#define NOTES_STAT   ""
#define NOTES_TOUCH  text_touch
#define NOTES_FORK   ""
#define NOTES_REWIND ""
#define NOTES_FORGET text_forget
#define NOTES_LIST   text_list
#define NOTES_INFO   ""
#define NOTES_BEGIN  text_begin
#define NOTES_CHUNK  text_chunk
#define NOTES_COMMIT text_commit
#define NOTES_ABORT  ""

const struct command command_rows[] = {
#define METHOD(NAME, text, says)                                                                   \
    {COMMAND_METHOD, RETHREAD_METHOD_##NAME, text, says, OPERANDS_##NAME, NOTES_##NAME, RUN_##NAME},
#include "schema/methods.def"
#undef METHOD
    {COMMAND_STREAM, RETHREAD_METHOD_COMMIT, "stream",
     "Appends one step from the standard input, stored as it comes.", "[THREAD]", text_stream,
     command_run_stream},
    {COMMAND_WEAVE, RETHREAD_METHOD_REPLAY, "weave",
     "Puts a thread's reasoning into the visible transcript on the standard input.", "[THREAD]",
     text_weave, command_run_weave},
    {COMMAND_UNWEAVE, RETHREAD_METHOD_APPEND, "unweave",
     "Parts the transcript on the standard input into what is visible and steps.", "[THREAD]",
     text_unweave, command_run_unweave},
    {COMMAND_IMPORT, RETHREAD_METHOD_OTHER, "import",
     "Appends the steps of a JSON-lines file, one step per line.", "FILE|-", text_import,
     command_run_import},
    {COMMAND_EXPORT, RETHREAD_METHOD_OTHER, "export",
     "Writes whole threads as JSON lines, payloads included.", "[THREAD...]", text_export,
     command_run_export},
    {COMMAND_VERIFY, RETHREAD_METHOD_OTHER, "verify",
     "Checks every record of a data directory that no server uses.", "DIR", text_verify,
     command_run_verify},
    {COMMAND_HELP, RETHREAD_METHOD_OTHER, "help", "Explains the program, or one command.",
     "[COMMAND]", "", command_run_help},
    {COMMAND_COMPLETION, RETHREAD_METHOD_OTHER, "completion",
     "Prints a script that completes commands and options.", "bash", text_completion,
     command_run_completion},
};
const size_t command_count = sizeof command_rows / sizeof *command_rows;

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < command_count; i++)
        if (strcmp(command_rows[i].name, name) == 0)
            return &command_rows[i];
    return NULL;
}

int command_connect(const struct invocation *invocation, struct rethread **connection)
{
    int timeout_ms = invocation->timeout_ms > INT_MAX ? INT_MAX : (int)invocation->timeout_ms;
    struct rethread_connect_options options = {
        .address = invocation->server,
        .connect_timeout_ms = timeout_ms,
        .call_timeout_ms = timeout_ms,
        .frame_max_bytes = (size_t)invocation->frame_max_bytes,
    };
    errno = 0;
    enum rethread_status status = rethread_connect(&options, connection);
    if (status == RETHREAD_OK)
        return EXIT_DONE;
    return report_unconnected(status, invocation->server, errno);
}
