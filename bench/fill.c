/* The child that fills a directory; see fill.h. */
#include "bench/fill.h"

#include "bench/local.h"
#include "bench/progress.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RETENTION_MS = 24 * 3600 * 1000, STEP_BYTES_MAX = 1 << 20 };

static bool append_thread(struct local *local, const struct fill *fill, uint32_t thread,
                          uint8_t *step)
{
    uint8_t name[PROTOCOL_NAME_BYTES];
    protocol_write_name(fill->values, thread, name);
    uint32_t steps =
        fill->steps_of != NULL ? fill->steps_of(fill->values->shape, thread) : fill->steps;
    for (uint32_t i = 0; i < steps; i++) {
        struct thread_append_result result;
        protocol_write_step(fill->values, thread, i, step);
        if (local_append(local, bytes_of(name, sizeof name),
                         bytes_of(step, protocol_step_bytes(fill->values, thread, i)),
                         &result) != STATUS_OK) {
            return false;
        }
        local_tend(local);
    }
    return true;
}

static bool append_all(struct local *local, const struct fill *fill)
{
    uint8_t *step = malloc(STEP_BYTES_MAX);
    bool good = step != NULL;
    for (uint32_t thread = fill->begin; good && thread < fill->end; thread++) {
        if ((thread - fill->begin) % 1024 == 0) {
            progress_show("%s: filling, thread %" PRIu32 " of %" PRIu32, fill->bench,
                          thread - fill->begin, fill->end - fill->begin);
        }
        if (fill->tail != 0 && thread == fill->end - fill->tail) {
            local_settle(local);
        }
        good = append_thread(local, fill, thread, step);
    }
    free(step);
    return good;
}

/* Exits with 1, or 0, or dies by its own hand. */
static _Noreturn void fill_and_end(const struct fill *fill)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct local local;
    struct local_settings settings = {
        .directory = fill->directory,
        .memory_bytes = fill->memory_bytes,
        .disk_bytes = UINT64_C(64) << 30,
        .ttl_ms = fill->values->ttl_s * UINT64_C(1000),
        .retention_ms = RETENTION_MS,
        .tombstones = LOCAL_TOMBSTONES,
        .clock = clock_monotonic(),
        .wall = clock_wall(),
    };
    bool good = local_open(&local, &settings) && append_all(&local, fill);
    if (good && fill->tail != 0) {
        (void)raise(SIGKILL);
    }
    local_close(&local);
    _exit(good ? 0 : 1);
}

bool fill_directory(const struct fill *fill)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        fill_and_end(fill);
    }
    int status;
    bool good = child > 0 && waitpid(child, &status, 0) == child &&
                (fill->tail != 0 ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                                 : WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (!good) {
        progress_clear();
        fprintf(stderr, "rethread-bench: %s: the directory could not be filled\n", fill->bench);
    }
    return good;
}
