/* rethread-cli: every method of the contract as a command; see command.h for the parts. */
#include "base/version.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/help.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The program's result is what it printed: a full disk must not look like success. */
static int finish_output(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    report_line("cannot write the output: %s", strerror(errno));
    return EXIT_SERVER;
}

static int run_command(struct invocation *invocation, int argc, char **argv)
{
    int used = 0;
    report_context(invocation->command->name);
    int code = flags_parse(invocation, argc, argv, &used);
    if (code != EXIT_DONE)
        return code;
    if (invocation->help) {
        help_command(invocation->command);
        return EXIT_DONE;
    }
    invocation->operands = argv + used;
    invocation->operand_count = (size_t)(argc - used);
    code = flags_finish(invocation);
    return code != EXIT_DONE ? code : invocation->command->run(invocation);
}

static int run(struct invocation *invocation, int argc, char **argv)
{
    int used = 0;
    int code = flags_parse(invocation, argc, argv, &used);
    if (code != EXIT_DONE)
        return code;
    if (used == argc || invocation->help) {
        if (used == argc && !invocation->help) {
            report_line("say what to do: rethread-cli COMMAND; see rethread-cli help");
            return EXIT_USAGE;
        }
        help_program();
        return EXIT_DONE;
    }
    invocation->command = command_find(argv[used]);
    if (invocation->command == NULL) {
        report_line("there is no command '%s'; see rethread-cli help", argv[used]);
        return EXIT_USAGE;
    }
    return run_command(invocation, argc - used, argv + used);
}

/*
 * A connection must not get the number of a standard file that was closed: what is printed would go
 * to the server. What stands in fails in use, so that neither looks like an empty input or success.
 */
static bool hold_standard_files(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            return false;
    return true;
}

int main(int argc, char **argv)
{
    if (!hold_standard_files())
        return EXIT_SERVER;
    const char *address = getenv("RETHREAD_ADDRESS");
    struct invocation invocation = {
        .server = address != NULL && address[0] != '\0' ? address : "127.0.0.1:7411",
        .in_flight = 64,
        .chunk_bytes = 65536,
    };
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("rethread-cli " VERSION_TEXT);
        return finish_output(EXIT_DONE);
    }
    int code = finish_output(run(&invocation, argc, argv));
    keep_free(&invocation.keep);
    return code;
}
