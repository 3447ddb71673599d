/* Messages on stderr, and the exit codes that go with them; see report.h. */
#include "cli/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char CLAIMED[] =
    "a step is being streamed into the thread: wait for its commit or abort, or until its claim "
    "runs out";

static const char *context;

void report_context(const char *command)
{
    context = command;
}

void report_line(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fflush(stdout);
    fprintf(stderr, "rethread-cli%s%s: ", context != NULL ? " " : "",
            context != NULL ? context : "");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

const char *report_reason(enum rethread_reason reason)
{
    switch (reason) {
#define REASON(NAME, text, state, summary)                                                         \
    case RETHREAD_REASON_##NAME:                                                                   \
        return summary;
#include "schema/reasons.def"
#undef REASON
    case RETHREAD_REASON_NONE:
    case RETHREAD_REASON_OTHER:
        break;
    }
    return "";
}

int report_unconnected(enum rethread_status status, const char *address, int error_number)
{
    switch (status) {
    case RETHREAD_UNREACHABLE:
        report_line("no server at %s (%s): start one with `rethread-server`, or name another with "
                    "--server or RETHREAD_ADDRESS",
                    address, strerror(error_number));
        return EXIT_SERVER;
    case RETHREAD_UNRESOLVED:
        report_line("the host of %s has no address: check --server or RETHREAD_ADDRESS", address);
        return EXIT_SERVER;
    case RETHREAD_TIMEOUT:
        report_line("no answer from %s in time: check --server, or allow more with --timeout",
                    address);
        return EXIT_SERVER;
    case RETHREAD_INVALID_ARGUMENT:
        report_line("'%s' is no address: give host:port, [IPv6]:port or unix:/path", address);
        return EXIT_USAGE;
    default:
        report_line("cannot connect to %s: %s", address, rethread_strerror(status));
        return EXIT_SERVER;
    }
}

static void report_error(const struct rethread_error *error)
{
    char detail[192] = "";
    size_t used = 0;
    if (error->option != NULL)
        used += (size_t)snprintf(detail, sizeof detail, "; option %.64s", error->option);
    if (error->cause != NULL)
        used +=
            (size_t)snprintf(detail + used, sizeof detail - used, "; cause %.32s", error->cause);
    if (error->version.set)
        used +=
            (size_t)snprintf(detail + used, sizeof detail - used, "; the thread is at version %llu",
                             (unsigned long long)error->version.value);
    if (error->reason != RETHREAD_REASON_NONE)
        snprintf(detail + used, sizeof detail - used, "; reason %s",
                 rethread_reason_name(error->reason));
    report_line("%s: %s%s", error->code != NULL ? error->code : rethread_status_name(error->status),
                error->message != NULL ? error->message : rethread_strerror(error->status), detail);
}

/* Whether somebody else's claim is in the way. Where a claim was given it is that one's end. */
static bool is_claimed(const struct rethread_error *error, const struct rethread_result *result)
{
    if (error == NULL || result == NULL || error->status != RETHREAD_CONFLICT ||
        error->cause == NULL || strcmp(error->cause, "claimed") != 0)
        return false;
    switch (rethread_result_method(result)) {
    case RETHREAD_METHOD_CHUNK:
    case RETHREAD_METHOD_COMMIT:
    case RETHREAD_METHOD_ABORT:
        return false;
    default:
        return true;
    }
}

int report_failure(enum rethread_status status, const struct rethread_result *result,
                   const struct rethread *connection)
{
    const struct rethread_error *error = result != NULL ? rethread_result_error(result) : NULL;
    if (error == NULL && connection != NULL)
        error = rethread_connection_error(connection);
    if (error != NULL) {
        report_error(error);
        status = error->status;
    }
    if (is_claimed(error, result))
        report_line("%s", CLAIMED);
    switch (status) {
    case RETHREAD_BAD_REQUEST:
        return EXIT_USAGE;
    case RETHREAD_NOT_FOUND:
        return EXIT_MISS;
    case RETHREAD_TIMEOUT:
        report_line(
            "no answer in time; the request may still take effect. Allow more with --timeout");
        return EXIT_SERVER;
    case RETHREAD_CLOSED:
        report_line("the server closed the connection before it answered");
        return EXIT_SERVER;
    case RETHREAD_PROTOCOL_VIOLATION:
        report_line("what answers there is no rethread server: check --server");
        return EXIT_SERVER;
    case RETHREAD_TOO_LARGE:
        if (error == NULL)
            report_line(
                "the request is larger than a frame may be: raise --frame-max here and at the "
                "server");
        return EXIT_SERVER;
    default:
        if (error == NULL)
            report_line("%s", rethread_strerror(status));
        return EXIT_SERVER;
    }
}
