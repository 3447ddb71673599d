/* Log lines: their form, what is escaped and cut, levels, and limits. */
#include "base/log.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int ends[2];
static char text[1 << 16];

static void setup(void)
{
    ck_assert_int_eq(pipe2(ends, O_NONBLOCK), 0);
    log_open(ends[1], LOG_INFO);
}

static void teardown(void)
{
    log_open(STDERR_FILENO, LOG_INFO);
    close(ends[0]);
    close(ends[1]);
}

/* What was logged since the last call. */
static const char *logged(void)
{
    ssize_t got = read(ends[0], text, sizeof text - 1);
    text[got > 0 ? got : 0] = '\0';
    return text;
}

/* The line without its time, which is checked for form and nearness. */
static const char *without_time(const char *line)
{
    struct tm utc = {0};
    const char *end = strptime(line, "time=%Y-%m-%dT%H:%M:%S", &utc);
    ck_assert_msg(end, "%s", line);
    ck_assert_int_eq(end[0], '.');
    ck_assert_uint_eq(strspn(end + 1, "0123456789"), 3);
    ck_assert_int_eq(strncmp(end + 4, "Z ", 2), 0);
    double off = difftime(time(NULL), timegm(&utc));
    ck_assert(off >= -1 && off <= 5);
    return end + 6;
}

START_TEST(a_line_in_full)
{
    log_write(LOG_INFO, "listening", LOG_TEXT("address", "127.0.0.1:7411"),
              LOG_U64("size_bytes", UINT64_MAX), LOG_I64("delta", INT64_MIN),
              LOG_ERRNO("error", EMFILE), LOG_END);
    ck_assert_str_eq(without_time(logged()),
                     "level=info event=listening address=127.0.0.1:7411 "
                     "size_bytes=18446744073709551615 delta=-9223372036854775808 error=EMFILE\n");
    log_write(LOG_ERROR, "bare", LOG_END);
    ck_assert_str_eq(without_time(logged()), "level=error event=bare\n");
    log_write(LOG_WARN, "odd", LOG_ERRNO("error", 99999), LOG_END);
    ck_assert_str_eq(without_time(logged()), "level=warn event=odd error=unknown\n");
}
END_TEST

START_TEST(text_is_escaped)
{
    static const struct {
        const char *text;
        const char *printed;
    } cases[] = {
        {"plain-/:.[]", "plain-/:.[]"},
        {"", "\"\""},
        {"two words", "\"two words\""},
        {"a=b", "\"a=b\""},
        {"say \"hi\"", "\"say \\\"hi\\\"\""},
        {"back\\slash", "\"back\\\\slash\""},
        {"line\nbreak", "\"line\\x0abreak\""},
        {"\x1b[31m\x7f", "\"\\x1b[31m\\x7f\""},
        {"gr\xc3\xbc\xc3\x9f", "\"gr\\xc3\\xbc\\xc3\\x9f\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[256];
        log_write(LOG_INFO, "x", LOG_TEXT("text", cases[i].text), LOG_U64("next", 1), LOG_END);
        snprintf(line, sizeof line, "level=info event=x text=%s next=1\n", cases[i].printed);
        ck_assert_str_eq(without_time(logged()), line);
    }
    log_write(LOG_INFO, "x", LOG_TEXT("text", NULL), LOG_END);
    ck_assert_str_eq(without_time(logged()), "level=info event=x text=\"\"\n");
}
END_TEST

/* Whatever the length of a field, the line ends in one line break and keeps its size. */
START_TEST(a_long_line_is_cut_at_a_field)
{
    char words[2 * LOG_LINE_BYTES_MAX];
    bool cut_seen = false, whole_seen = false;
    for (size_t size = LOG_LINE_BYTES_MAX - 150; size < sizeof words; size++) {
        memset(words, size % 2 ? 'w' : '"', size);
        words[size] = '\0';
        log_write(LOG_INFO, "long", LOG_U64("first", 7), LOG_TEXT("words", words),
                  LOG_U64("last", 8), LOG_END);
        const char *line = logged();
        ck_assert_uint_le(strlen(line), LOG_LINE_BYTES_MAX);
        ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
        const char *rest = without_time(line);
        bool cut = strcmp(rest, "level=info event=long first=7 cut=true\n") == 0;
        bool last_cut = strstr(rest, "w cut=true\n") != NULL;
        ck_assert(cut || last_cut || strstr(rest, " last=8\n"));
        cut_seen |= cut;
        whole_seen |= !cut && !last_cut;
    }
    ck_assert(cut_seen && whole_seen);
}
END_TEST

START_TEST(levels_filter)
{
    for (enum log_level level = 0; level < LOG_LEVEL_COUNT; level++) {
        log_open(ends[1], level);
        for (enum log_level line = 0; line < LOG_LEVEL_COUNT; line++) {
            log_write(line, "x", LOG_END);
            ck_assert_int_eq(logged()[0] != '\0', line <= level);
            ck_assert_int_eq(log_enabled(line), line <= level);
        }
    }
    ck_assert_str_eq(log_level_name(LOG_ERROR), "error");
    ck_assert_str_eq(log_level_name(LOG_DEBUG), "debug");
}
END_TEST

START_TEST(a_closed_output_harms_nobody)
{
    log_open(-1, LOG_INFO);
    errno = ENOTTY;
    log_write(LOG_ERROR, "lost", LOG_END);
    ck_assert_int_eq(errno, ENOTTY);
}
END_TEST

enum { WRITERS = 4, LINES = 200 };

static void *write_lines(void *context)
{
    uint64_t number = (uintptr_t)context;
    for (uint64_t i = 0; i < LINES; i++) {
        log_write(LOG_INFO, "line", LOG_U64("writer", number), LOG_U64("count", i), LOG_END);
    }
    return NULL;
}

START_TEST(lines_of_many_writers_stay_whole)
{
    pthread_t writers[WRITERS];
    uint64_t next[WRITERS] = {0};
    for (uint64_t i = 0; i < WRITERS; i++) {
        ck_assert_int_eq(pthread_create(&writers[i], NULL, write_lines, (void *)(uintptr_t)i), 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writers[i], NULL);
    }
    char *line = text;
    logged();
    for (int i = 0; i < WRITERS * LINES; i++) {
        unsigned long long writer, count;
        char *end = strchr(line, '\n');
        ck_assert_ptr_nonnull(end);
        *end = '\0';
        ck_assert_int_eq(sscanf(without_time(line), "level=info event=line writer=%llu count=%llu",
                                &writer, &count),
                         2);
        ck_assert_uint_lt(writer, WRITERS);
        ck_assert_uint_eq(count, next[writer]++);
        line = end + 1;
    }
    ck_assert_int_eq(*line, '\0');
}
END_TEST

START_TEST(limits_let_a_few_through)
{
    static struct log_limit limit;
    uint64_t suppressed;
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(log_allowed(&limit, 3, 5000 + (uint64_t)i * 99, &suppressed), i < 3);
        ck_assert_uint_eq(suppressed, 0);
    }
    ck_assert(log_allowed(&limit, 3, 6000, &suppressed));
    ck_assert_uint_eq(suppressed, 7);
    ck_assert(log_allowed(&limit, 3, 6001, &suppressed));
    ck_assert_uint_eq(suppressed, 0);
    ck_assert(log_allowed(&limit, 3, 90000, &suppressed));
    ck_assert_uint_eq(suppressed, 0);
}
END_TEST

struct asker {
    pthread_t thread;
    struct log_limit *limit;
    uint64_t let_through;
};

static void *ask(void *context)
{
    struct asker *asker = context;
    for (int i = 0; i < 20000; i++) {
        uint64_t suppressed;
        asker->let_through += log_allowed(asker->limit, 10, 7000, &suppressed);
    }
    return NULL;
}

START_TEST(a_shared_limit_is_exact)
{
    static struct log_limit limit;
    struct asker askers[WRITERS];
    uint64_t sum = 0;
    for (int i = 0; i < WRITERS; i++) {
        askers[i] = (struct asker){.limit = &limit};
        ck_assert_int_eq(pthread_create(&askers[i].thread, NULL, ask, &askers[i]), 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(askers[i].thread, NULL);
        sum += askers[i].let_through;
    }
    ck_assert_uint_eq(sum, 10);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("log");
    TCase *c = tcase_create("log");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, a_line_in_full);
    tcase_add_test(c, text_is_escaped);
    tcase_add_test(c, a_long_line_is_cut_at_a_field);
    tcase_add_test(c, levels_filter);
    tcase_add_test(c, a_closed_output_harms_nobody);
    tcase_add_test(c, lines_of_many_writers_stay_whole);
    tcase_add_test(c, limits_let_a_few_through);
    tcase_add_test(c, a_shared_limit_is_exact);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
