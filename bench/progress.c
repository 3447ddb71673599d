/* Shows and takes back the progress line; see progress.h. */
#include "bench/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

void progress_show(const char *form, ...)
{
    if (isatty(STDERR_FILENO) == 0) {
        return;
    }
    fputs("\r\033[K", stderr);
    va_list values;
    va_start(values, form);
    vfprintf(stderr, form, values);
    va_end(values);
    fflush(stderr);
}

void progress_clear(void)
{
    if (isatty(STDERR_FILENO) != 0) {
        fputs("\r\033[K", stderr);
    }
}
