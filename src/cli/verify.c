/* verify: checks a data directory offline. The one command that needs no server. */
#include "cli/command.h"

#include "cli/json.h"
#include "cli/table.h"

#include "store/verify.h"

#include <time.h>
#include <unistd.h>

enum { SHOW_EVERY_MS = 100 };

struct verify_show {
    bool on_terminal;
    bool shown;
    uint64_t shown_ms;
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void clear(struct verify_show *show)
{
    if (show->shown)
        fputs("\r\033[K", stderr);
    show->shown = false;
}

static void show_damage(void *context, const char *text)
{
    clear(context);
    report_line("%s", text);
}

static void show_progress(void *context, uint64_t records)
{
    struct verify_show *show = context;
    if (!show->on_terminal || records % 256 != 0 || now_ms() - show->shown_ms < SHOW_EVERY_MS)
        return;
    char count[TABLE_HUMAN_BYTES];
    fprintf(stderr, "\r\033[K%s records", table_count(records, count));
    fflush(stderr);
    show->shown = true;
    show->shown_ms = now_ms();
}

static void print_json(const struct verify_report *report)
{
    json_t *object = json_object();
    json_set_u64(object, "threads", report->threads);
    json_set_u64(object, "steps", report->steps);
    json_set_u64(object, "records", report->records);
    json_set_u64(object, "bytes", report->bytes);
    json_set_u64(object, "log_groups", report->log_groups);
    json_set_u64(object, "log_bytes", report->log_bytes);
    json_set_u64(object, "damaged", report->damaged);
    json_print(object, stdout);
}

static void print_table(const struct verify_report *report)
{
    const struct {
        const char *name;
        uint64_t value;
        bool is_bytes;
    } rows[] = {{"threads", report->threads, false},       {"steps", report->steps, false},
                {"records", report->records, false},       {"bytes", report->bytes, true},
                {"log groups", report->log_groups, false}, {"log bytes", report->log_bytes, true},
                {"damaged", report->damaged, false}};
    struct table *table = table_create("lr", NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[TABLE_HUMAN_BYTES];
        table_add(table, cli_format("%s", rows[i].name));
        table_add(table, cli_format("%s", rows[i].is_bytes ? table_size(rows[i].value, text)
                                                           : table_count(rows[i].value, text)));
    }
    table_print(table, stdout);
    table_destroy(table);
}

int command_run_verify(struct invocation *invocation)
{
    if (invocation->operand_count != 1) {
        report_line("say which data directory: rethread-cli verify DIR");
        return EXIT_USAGE;
    }
    struct verify_show show = {.on_terminal = isatty(STDERR_FILENO) != 0, .shown_ms = now_ms()};
    struct verify_settings settings = {.directory = invocation->operands[0],
                                       .found = show_damage,
                                       .progress = show_progress,
                                       .context = &show};
    struct verify_report report;
    enum verify_result result = verify_run(&settings, &report);
    clear(&show);
    if (result == VERIFY_UNREADABLE) {
        report_line("%s: %s", invocation->operands[0], report.text);
        return EXIT_SERVER;
    }
    if (invocation->json)
        print_json(&report);
    else
        print_table(&report);
    return result == VERIFY_SOUND ? EXIT_DONE : EXIT_MISS;
}
