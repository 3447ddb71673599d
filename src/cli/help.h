/* What the program says of itself, on stdout. */
#ifndef RETHREAD_CLI_HELP_H
#define RETHREAD_CLI_HELP_H

#include "cli/command.h"

void help_program(void);
void help_command(const struct command *command);

#endif
