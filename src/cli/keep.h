/*
 * Memory of a program that runs for one command.
 *
 * Out of memory ends the program with a message: there is nobody to hand the error to. Blocks got
 * through a struct keep live until keep_free(), so that options can point into them freely.
 */
#ifndef RETHREAD_CLI_KEEP_H
#define RETHREAD_CLI_KEEP_H

#include <stddef.h>

struct keep {
    void **blocks;
    size_t count;
    size_t room;
};

_Noreturn void cli_no_memory(void);

/* Never NULL; free() them. cli_grow() doubles *room until it holds `needed` items. */
void *cli_alloc(size_t size_bytes);
void *cli_grow(void *items, size_t *room, size_t needed, size_t item_bytes);
char *cli_text(const char *text);
char *cli_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

void *keep_get(struct keep *keep, size_t size_bytes);
void *keep_take(struct keep *keep, void *block); /* owns it from now on, and returns it */
void keep_free(struct keep *keep);

#endif
