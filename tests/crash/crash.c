/* Runs lives, walks traces, forks workers. */
#include "tests/crash/crash.h"

#include "base/log.h"
#include "tests/crash/disk.h"
#include "tests/crash/judge.h"
#include "tests/lib/trial.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LIFE_LIMIT_MS = 60000, STATE_LIMIT_MS = 60000, AUDIT_EVERY = 16, WORDS = 12 };

static void sleep_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000},
              NULL);
}

static void quieten(bool quiet)
{
    log_open(quiet ? open("/dev/null", O_WRONLY | O_CLOEXEC) : STDERR_FILENO, LOG_ERROR);
}

/* ---- Folders ------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static const char *path_of(char path[CRASH_PATH_BYTES],
                                                                 const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int size = vsnprintf(path, CRASH_PATH_BYTES, format, list);
    va_end(list);
    assert(size > 0 && size < CRASH_PATH_BYTES);
    return path;
}

void crash_clear(const char *directory)
{
    DIR *all = opendir(directory);
    for (struct dirent *one; all && (one = readdir(all));) {
        unlinkat(dirfd(all), one->d_name, 0);
    }
    if (all) {
        closedir(all);
    }
}

bool crash_begin(struct crash_run *run)
{
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    path_of(run->folder, "%s/rethread-crash-XXXXXX", base);
    if (!mkdtemp(run->folder)) {
        return false;
    }
    snprintf(run->data, sizeof run->data, "%.200s/data", run->folder);
    snprintf(run->trace, sizeof run->trace, "%.200s/trace", run->folder);
    return mkdir(run->data, 0700) == 0;
}

void crash_end(struct crash_run *run)
{
    DIR *all = opendir(run->folder);
    for (struct dirent *one; all && (one = readdir(all));) {
        char path[CRASH_PATH_BYTES + 256];
        if (one->d_name[0] != '.' && unlinkat(dirfd(all), one->d_name, 0) != 0) {
            snprintf(path, sizeof path, "%s/%s", run->folder, one->d_name);
            crash_clear(path);
            rmdir(path);
        }
    }
    if (all) {
        closedir(all);
    }
    rmdir(run->folder);
}

/* ---- Lives --------------------------------------------------------------------------------- */

int crash_script(int count, char **words)
{
    if (count != WORDS || strcmp(words[1], "script") != 0) {
        return -1;
    }
    uint64_t numbers[WORDS];
    for (int i = 3; i < WORDS; i++) {
        numbers[i] = strtoull(words[i], NULL, 10);
    }
    struct script script = {.directory = words[2],
                            .seed = numbers[3],
                            .changes = (unsigned)numbers[4],
                            .end = (enum script_end)numbers[5],
                            .fault = {.calls = (unsigned)numbers[6],
                                      .places = (unsigned)numbers[7],
                                      .skip = numbers[8],
                                      .error = (int)numbers[9],
                                      .lasting = numbers[10] & 1,
                                      .cut = numbers[10] & 2},
                            .fault_at_open = numbers[10] & 4};
    quieten(numbers[11] != 0);
    return script_run(&script);
}

/* The recorder lies beside the program. */
static void recorder_path(char path[CRASH_PATH_BYTES])
{
    ssize_t size = readlink("/proc/self/exe", path, CRASH_PATH_BYTES - 1);
    assert(size > 0);
    path[size] = '\0';
    char *end = strrchr(path, '/');
    snprintf(end, (size_t)(path + CRASH_PATH_BYTES - end), "/recorder.so");
}

static void set_number(const char *name, uint64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, value);
    setenv(name, text, 1);
}

_Noreturn static void become_life(const struct crash_run *run, const struct script *script,
                                  unsigned unsynced, uint64_t die_at, bool quiet)
{
    char recorder[CRASH_PATH_BYTES];
    char numbers[WORDS][24];
    char *words[WORDS + 1] = {(char *)(uintptr_t) "test", (char *)(uintptr_t) "script",
                              (char *)(uintptr_t)run->data};
    const struct trace_fault *fault = &script->fault;
    unsigned bits =
        (fault->lasting ? 1 : 0) | (fault->cut ? 2 : 0) | (script->fault_at_open ? 4 : 0);
    uint64_t values[WORDS] = {0,
                              0,
                              0,
                              script->seed,
                              script->changes,
                              script->end,
                              fault->calls,
                              fault->places,
                              fault->skip,
                              (uint64_t)fault->error,
                              bits,
                              quiet};
    for (int i = 3; i < WORDS; i++) {
        snprintf(numbers[i], sizeof numbers[i], "%" PRIu64, values[i]);
        words[i] = numbers[i];
    }
    recorder_path(recorder);
    setenv("LD_PRELOAD", recorder, 1);
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0:detect_leaks=0", 1);
    setenv(TRACE_DIRECTORY, run->data, 1);
    setenv(TRACE_FILE, run->trace, 1);
    set_number(TRACE_UNSYNCED, unsynced);
    set_number(TRACE_DIE_AT, die_at);
    execv("/proc/self/exe", words);
    _exit(127);
}

static int await_child(pid_t child, uint64_t limit_ms)
{
    uint64_t end = script_now_ms() + limit_ms;
    int status;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (script_now_ms() > end) {
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            return 255;
        }
        sleep_ms(1);
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int crash_life(const struct crash_run *run, const struct script *script, unsigned unsynced,
               uint64_t die_at, bool quiet)
{
    pid_t child = fork();
    if (child == 0) {
        become_life(run, script, unsynced, die_at, quiet);
    }
    return child < 0 ? 255 : await_child(child, LIFE_LIMIT_MS);
}

/* ---- A state as the beginning of a trace ---------------------------------------------------- */

static void put(FILE *file, struct trace_event event, const void *data)
{
    fwrite(&event, sizeof event, 1, file);
    if (data && event.data_bytes > 0) {
        fwrite(data, event.data_bytes, 1, file);
    }
}

static void put_file(FILE *file, const char *directory, const char *name, uint32_t handle)
{
    char path[CRASH_PATH_BYTES + 256];
    char text[DISK_NAME_BYTES];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    snprintf(text, sizeof text, "%.40s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat stat;
    if (fd < 0 || fstat(fd, &stat) != 0) {
        abort();
    }
    size_t size = (size_t)stat.st_size;
    uint8_t *data = malloc(size + 1);
    if (!data || read(fd, data, size) != (ssize_t)size) {
        abort();
    }
    close(fd);
    put(file,
        (struct trace_event){.kind = TRACE_OPEN,
                             .handle = handle,
                             .flags = TRACE_CREATED,
                             .data_bytes = (uint32_t)strlen(text) + 1},
        text);
    put(file,
        (struct trace_event){
            .kind = TRACE_WRITE, .handle = handle, .size = size, .data_bytes = (uint32_t)size},
        data);
    put(file, (struct trace_event){.kind = TRACE_SYNC, .handle = handle}, NULL);
    free(data);
}

static void put_ledger(FILE *file, const struct ledger *ledger)
{
    for (uint32_t i = 0; i < ledger->count; i++) {
        put(file,
            (struct trace_event){
                .kind = TRACE_MARK, .handle = MARK_SUBMIT, .data_bytes = sizeof(struct note)},
            &ledger->notes[i]);
    }
    for (unsigned i = 0; i < LEDGER_THREADS; i++) {
        if (ledger->kept_of[i] > 0) {
            put(file,
                (struct trace_event){
                    .kind = TRACE_MARK, .handle = MARK_KEPT, .data_bytes = sizeof(uint32_t)},
                &ledger->kept_of[i]);
        }
    }
}

static bool put_state(struct crash_run *run, const struct ledger *ledger)
{
    FILE *file = fopen(run->trace, "we");
    DIR *all = opendir(run->data);
    uint32_t handle = 0;
    if (!file || !all) {
        return false;
    }
    put(file, (struct trace_event){.kind = TRACE_START}, NULL);
    for (struct dirent *one; (one = readdir(all));) {
        if (one->d_name[0] != '.') {
            put_file(file, run->data, one->d_name, ++handle);
        }
    }
    put(file, (struct trace_event){.kind = TRACE_SYNC_DIRECTORY}, NULL);
    put_ledger(file, ledger);
    put(file, (struct trace_event){.kind = TRACE_MARK, .handle = MARK_BASE}, NULL);
    closedir(all);
    return fclose(file) == 0;
}

/* The first moment of its history. */
static size_t beginning(const struct trace *trace)
{
    for (size_t i = 0; i < trace->count; i++) {
        if (trace->events[i]->kind == TRACE_MARK && trace->events[i]->handle == MARK_BASE) {
            return i + 1;
        }
    }
    return 0;
}

bool crash_inherit(struct crash_run *run, const struct crash_run *from, uint64_t *random)
{
    struct trace trace;
    struct disk disk;
    struct ledger ledger = {0};
    disk_init(&disk);
    bool good = trace_load(&trace, from->trace);
    size_t first = good ? beginning(&trace) : 0;
    size_t cut = good ? first + (size_t)trial_below(random, trace.count - first) : 0;
    for (size_t i = 0; i < cut; i++) {
        disk_step(&disk, trace.events[i]);
        ledger_step(&ledger, trace.events[i]);
    }
    good =
        good && disk_make(&disk, trace.events[cut], random, run->data) && put_state(run, &ledger);
    ledger_free(&ledger);
    disk_free(&disk);
    trace_free(&trace);
    return good;
}

/* ---- Judging ------------------------------------------------------------------------------- */

/* What a worker is at; the parent reads it. */
struct desk {
    uint64_t states;
    uint64_t bad;
    uint64_t cut;
    uint64_t random; /* that makes the state under way */
    char text[800];  /* of the first that was wrong */
};

struct work {
    const struct trace *trace;
    const struct crash_run *run;
    struct desk *desk;
    uint64_t states, seed;
    unsigned worker, workers, from_percent;
    bool stop;
};

static bool judge_state(struct judge *judge, const struct ledger *ledger, uint64_t number)
{
    unsigned flags =
        (number % AUDIT_EVERY == 0 ? JUDGE_AUDIT : 0) | (ledger->failed > 0 ? JUDGE_LOOSE : 0);
    if (!judge_open(judge)) {
        return false;
    }
    bool good = judge_look(judge, ledger, flags);
    judge_close(judge);
    if (good && number % AUDIT_EVERY == 1) { /* what was brought back is there again */
        uint32_t known = judge->known;
        good = judge_open(judge);
        if (good) {
            good = judge_look(judge, ledger, flags | JUDGE_AUDIT);
            judge_close(judge);
        }
        if (good && judge->known != known) {
            snprintf(judge->text, sizeof judge->text, "as after change %u, then as after %u", known,
                     judge->known);
            good = false;
        }
    }
    return good;
}

static void note_bad(const struct work *work, const struct judge *judge,
                     const struct ledger *ledger)
{
    struct desk *desk = work->desk;
    if (desk->bad++ == 0) {
        snprintf(desk->text, sizeof desk->text,
                 "%s: event %" PRIu64 " of %zu, state %" PRIu64 ", durable %u of %u: %s",
                 work->run->trace, desk->cut, work->trace->count, desk->random, ledger->kept,
                 ledger->count, judge->text);
    }
}

static void walk(const struct work *work, const char *directory)
{
    struct disk disk;
    struct ledger ledger = {0};
    struct judge judge;
    const struct trace *trace = work->trace;
    uint64_t random = work->seed;
    size_t first = beginning(trace);
    first += (trace->count - first) * work->from_percent / 100;
    size_t moments = trace->count - first + 1;
    disk_init(&disk);
    judge_init(&judge, directory);
    for (size_t i = 0; i <= trace->count; i++) {
        const struct trace_event *next = i < trace->count ? trace->events[i] : NULL;
        uint64_t until = i < first ? 0 : work->states * (i - first + 1) / moments;
        uint64_t from = i <= first ? 0 : work->states * (i - first) / moments;
        for (uint64_t state = from; state < until; state++) {
            uint64_t way = trial_random(&random) | 1;
            if (state % work->workers != work->worker) {
                continue;
            }
            work->desk->cut = i;
            work->desk->random = way;
            if (!disk_make(&disk, next, &way, directory)) {
                abort();
            }
            if (!judge_state(&judge, &ledger, state / work->workers)) {
                note_bad(work, &judge, &ledger);
            }
            work->desk->states++;
            if (work->stop && work->desk->bad > 0) {
                goto done;
            }
        }
        if (next) {
            disk_step(&disk, next);
            ledger_step(&ledger, next);
        }
    }
done:
    judge_free(&judge);
    ledger_free(&ledger);
    disk_free(&disk);
}

/* Waits for the worker; one that stands still is ended. */
static bool await_worker(pid_t worker, const struct desk *desk)
{
    uint64_t seen = 0;
    uint64_t end = script_now_ms() + STATE_LIMIT_MS;
    int status;
    while (waitpid(worker, &status, WNOHANG) == 0) {
        uint64_t states = *(const volatile uint64_t *)&desk->states;
        if (states != seen) {
            seen = states;
            end = script_now_ms() + STATE_LIMIT_MS;
        } else if (script_now_ms() > end) {
            kill(worker, SIGKILL);
        }
        sleep_ms(5);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void add_up(struct crash_findings *findings, const struct desk *desk, bool ended,
                   const struct crash_run *run)
{
    findings->states += desk->states;
    findings->bad += desk->bad;
    if (!findings->text[0] && desk->bad > 0) {
        snprintf(findings->text, sizeof findings->text, "%s", desk->text);
    }
    if (!ended) {
        findings->died++;
        snprintf(findings->text, sizeof findings->text,
                 "%s: event %" PRIu64 ", state %" PRIu64 ": the process died or stood still",
                 run->trace, desk->cut, desk->random);
    }
}

struct crash_findings crash_explore(const struct crash_run *run, uint64_t states, uint64_t seed,
                                    unsigned workers, unsigned from_percent, bool stop, bool quiet)
{
    struct crash_findings findings = {0};
    struct trace trace;
    pid_t pids[CRASH_WORKERS_MAX];
    assert(workers > 0 && workers <= CRASH_WORKERS_MAX);
    if (!trace_load(&trace, run->trace)) {
        findings.died = 1;
        snprintf(findings.text, sizeof findings.text, "%s is no trace", run->trace);
        return findings;
    }
    struct desk *desks = mmap(NULL, workers * sizeof *desks, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(desks != MAP_FAILED);
    fflush(NULL);
    for (unsigned i = 0; i < workers; i++) {
        struct work work = {.trace = &trace,
                            .run = run,
                            .desk = &desks[i],
                            .states = states,
                            .seed = seed,
                            .worker = i,
                            .workers = workers,
                            .from_percent = from_percent,
                            .stop = stop};
        pids[i] = fork();
        if (pids[i] == 0) {
            char directory[CRASH_PATH_BYTES + 32];
            snprintf(directory, sizeof directory, "%s/states-%u", run->folder, i);
            mkdir(directory, 0700);
            quieten(quiet);
            walk(&work, directory);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < workers; i++) {
        add_up(&findings, &desks[i], await_worker(pids[i], &desks[i]), run);
    }
    munmap(desks, workers * sizeof *desks);
    trace_free(&trace);
    return findings;
}

bool crash_judge(const struct crash_run *run, unsigned flags, uint64_t *faults, char text[400])
{
    struct trace trace;
    struct ledger ledger = {0};
    struct judge judge;
    text[0] = '\0';
    *faults = 0;
    if (!trace_load(&trace, run->trace)) {
        snprintf(text, 400, "no trace");
        return false;
    }
    for (size_t i = 0; i < trace.count; i++) {
        const struct trace_event *event = trace.events[i];
        uint32_t number;
        ledger_step(&ledger, event);
        if (event->kind == TRACE_MARK && event->handle == MARK_FAULTS) {
            memcpy(&number, trace_data(event), sizeof number);
            *faults += number;
        }
    }
    judge_init(&judge, run->data);
    flags |= ledger.failed > 0 ? JUDGE_LOOSE : 0;
    bool good = judge_open(&judge);
    if (good) {
        good = judge_look(&judge, &ledger, flags);
        judge_close(&judge);
    }
    snprintf(text, 400, "%s", judge.text);
    judge_free(&judge);
    ledger_free(&ledger);
    trace_free(&trace);
    return good;
}
