/* Progress of an import; see progress.h. */
#include "cli/progress.h"

#include "cli/json.h"
#include "cli/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void progress_start(struct progress *progress)
{
    progress->on_terminal = isatty(STDERR_FILENO) != 0;
    progress->started_ms = now_ms();
    progress->shown_ms = progress->started_ms;
}

void progress_show(struct progress *progress, bool now)
{
    if (!progress->on_terminal)
        return;
    uint64_t time_ms = now_ms();
    if (!now && time_ms - progress->shown_ms < 100)
        return;
    uint64_t took_ms = time_ms - progress->started_ms;
    uint64_t steps = progress->added + progress->known;
    char count[TABLE_HUMAN_BYTES];
    char size[TABLE_HUMAN_BYTES];
    char rate[TABLE_HUMAN_BYTES];
    fprintf(stderr, "\r\033[K%s steps, %s, %s steps/s", table_count(steps, count),
            table_size(progress->payload_bytes, size),
            table_count(took_ms != 0 ? steps * 1000 / took_ms : 0, rate));
    fflush(stderr);
    progress->shown_ms = time_ms;
    progress->shown = true;
}

void progress_clear(struct progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
    progress->shown = false;
}

static void summary_json(const struct progress *progress, uint64_t took_ms)
{
    json_t *object = json_object();
    json_set_u64(object, "added", progress->added);
    json_set_u64(object, "already_there", progress->known);
    json_set_u64(object, "refused", progress->refused);
    json_set_u64(object, "bad_lines", progress->bad);
    json_set_u64(object, "threads", progress->threads);
    json_set_u64(object, "bytes", progress->payload_bytes);
    json_set_u64(object, "took_ms", took_ms);
    json_print(object, stdout);
}

void progress_summary(struct progress *progress, bool json)
{
    uint64_t took_ms = now_ms() - progress->started_ms;
    progress_clear(progress);
    if (json) {
        summary_json(progress, took_ms);
        return;
    }
    char text[TABLE_HUMAN_BYTES];
    printf("added %s steps", table_count(progress->added, text));
    printf(" (%s)", table_size(progress->payload_bytes, text));
    printf(" of %s threads", table_count(progress->threads, text));
    printf(" in %s", table_duration(took_ms, text));
    if (progress->known != 0)
        printf("; %s were there already", table_count(progress->known, text));
    if (progress->refused != 0)
        printf("; %s refused", table_count(progress->refused, text));
    if (progress->bad != 0)
        printf("; %s bad lines", table_count(progress->bad, text));
    fputc('\n', stdout);
}
