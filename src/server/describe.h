/* Prints the contract's and the server's tables, from schema/: the same as schema/reference.md. */
#ifndef RETHREAD_SERVER_DESCRIBE_H
#define RETHREAD_SERVER_DESCRIBE_H

#include <stdio.h>

/* Markdown. */
void describe_print(FILE *out);

#endif
