/* Memory that ends the program when there is none; see keep.h. */
#include "cli/keep.h"

#include "cli/report.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cli_no_memory(void)
{
    report_line("out of memory");
    exit(EXIT_SERVER);
}

static void *have(void *block)
{
    if (block == NULL)
        cli_no_memory();
    return block;
}

void *cli_alloc(size_t size_bytes)
{
    return have(calloc(1, size_bytes != 0 ? size_bytes : 1));
}

void *cli_grow(void *items, size_t *room, size_t needed, size_t item_bytes)
{
    assert(item_bytes != 0);
    if (needed <= *room)
        return items;
    size_t wanted = *room != 0 ? *room : 16;
    while (wanted < needed)
        wanted = wanted > SIZE_MAX / 2 ? SIZE_MAX : wanted * 2;
    *room = wanted;
    return have(reallocarray(items, wanted, item_bytes));
}

char *cli_text(const char *text)
{
    return have(strdup(text));
}

char *cli_format(const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    return have(length >= 0 ? text : NULL);
}

void *keep_take(struct keep *keep, void *block)
{
    keep->blocks = cli_grow(keep->blocks, &keep->room, keep->count + 1, sizeof(void *));
    keep->blocks[keep->count++] = block;
    return block;
}

void *keep_get(struct keep *keep, size_t size_bytes)
{
    return keep_take(keep, cli_alloc(size_bytes));
}

void keep_free(struct keep *keep)
{
    for (size_t i = 0; i < keep->count; i++)
        free(keep->blocks[i]);
    free(keep->blocks);
    *keep = (struct keep){0};
}
