/* The server's counters and gauges as tables; see show.h. Units and summaries are the schema's. */
#include "cli/show.h"

#include "cli/keep.h"
#include "cli/table.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *section;
    const char *name;
    const char *unit;
    const char *summary;
} known[] = {
#define METRIC(SECTION, NAME, section, name, type, unit, says) {section, name, unit, says},
#include "schema/metrics.def"
#undef METRIC
};

static void add_metric(struct table *table, const struct rethread_metric *metric)
{
    const char *unit = "";
    const char *summary = "";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].section, metric->section) == 0 &&
            strcmp(known[i].name, metric->name) == 0) {
            unit = known[i].unit;
            summary = known[i].summary;
        }
    char text[TABLE_HUMAN_BYTES];
    const char *value = strcmp(unit, "bytes") == 0 ? table_size(metric->value, text)
                        : strcmp(unit, "ms") == 0  ? table_duration(metric->value, text)
                                                   : table_count(metric->value, text);
    table_add(table, cli_format("  %s", metric->name));
    table_add(table, cli_text(value));
    table_add(table, cli_text(summary));
}

void show_info(const struct rethread_info_result *info)
{
    struct table *table = NULL;
    for (size_t i = 0; i < info->metric_count; i++) {
        const char *section = info->metrics[i].section;
        if (i == 0 || strcmp(section, info->metrics[i - 1].section) != 0) {
            printf("%s%s\n", i != 0 ? "\n" : "", section);
            table = table_create("lrl", NULL);
        }
        add_metric(table, &info->metrics[i]);
        bool last =
            i + 1 == info->metric_count || strcmp(section, info->metrics[i + 1].section) != 0;
        if (last) {
            table_print(table, stdout);
            table_destroy(table);
        }
    }
}
