/* Settings: every source, their order, every way to get one wrong. */
#include "server/settings.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct settings settings;
static struct settings_refusal refusal;
static char path[] = "/tmp/rethread-settings-XXXXXX";
static char config_flag[64];

static void setup(void)
{
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    snprintf(config_flag, sizeof config_flag, "--config=%s", path);
}

static void teardown(void)
{
    unlink(path);
}

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

enum { WORDS_MAX = 40 };

/* Words are parted by '|'; those before "--" without more are the environment. */
static enum settings_action load(const char *words)
{
    static char copy[8192];
    char *environment[WORDS_MAX] = {NULL};
    char *argv[WORDS_MAX] = {(char *)"rethread-server"};
    int argc = 1, variables = 0;
    snprintf(copy, sizeof copy, "%s", words);
    char *rest = copy;
    for (char *word; *words && (word = strsep(&rest, "|")) != NULL;) {
        if (argc == 1 && strncmp(word, "--", 2) != 0 && strchr(word, '=')) {
            environment[variables++] = word;
        } else {
            argv[argc++] = word;
        }
    }
    return settings_load(&settings, argc, argv, environment, &refusal);
}

static void accepts(const char *words)
{
    enum settings_action action = load(words);
    ck_assert_msg(action == SETTINGS_RUN, "%s: %s", words, refusal.text);
    ck_assert_str_eq(refusal.text, "");
}

/* `named`: what the refusal must name, parted by '|'. */
static void refuses(const char *words, const char *named)
{
    char copy[512];
    ck_assert_msg(load(words) == SETTINGS_REFUSED, "%s", words);
    snprintf(copy, sizeof copy, "%s", named);
    char *rest = copy;
    for (char *word; (word = strsep(&rest, "|")) != NULL;) {
        ck_assert_msg(strstr(refusal.text, word), "%s: \"%s\" lacks %s", words, refusal.text, word);
    }
    ck_assert_ptr_null(strchr(refusal.text, '\n'));
}

static void listens_on(const char *expected)
{
    char joined[512] = "";
    for (unsigned i = 0; i < settings.listen.count; i++) {
        char text[NET_ADDRESS_TEXT_BYTES];
        net_address_format(&settings.listen.list[i], text);
        snprintf(joined + strlen(joined), sizeof joined - strlen(joined), "%s%s", i ? " " : "",
                 text);
    }
    ck_assert_str_eq(joined, expected);
}

START_TEST(defaults)
{
    accepts("");
    listens_on("127.0.0.1:7411");
    ck_assert_str_eq(settings.unix_path.text, "");
    ck_assert_uint_eq(settings.loops, 0);
    ck_assert_uint_eq(settings.memory_bytes, UINT64_C(1) << 30);
    ck_assert_uint_eq(settings.ttl_ms, 300000);
    ck_assert_str_eq(settings.data.directory, "./rethread-data");
    ck_assert_uint_eq(settings.retention_ms, 86400000);
    ck_assert_uint_eq(settings.max_age_ms, UINT64_C(30) * 86400000);
    ck_assert_uint_eq(settings.disk_bytes, UINT64_C(10) << 30);
    ck_assert_int_eq(settings.compression, STORE_COMPRESSION_ZSTD);
    ck_assert_uint_eq(settings.frame_max_bytes, 64 << 20);
    ck_assert_uint_eq(settings.connections_max, 16384);
    ck_assert_uint_eq(settings.idle_timeout_ms, 3600000);
    ck_assert_uint_eq(settings.tombstones, (UINT64_C(1) << 30) / 48 / 32);
    ck_assert_int_eq(settings.log_level, LOG_INFO);
    ck_assert_uint_eq(settings.claim_timeout_ms, 60000);
    ck_assert_uint_eq(settings.drain_timeout_ms, 5000);
    ck_assert_str_eq(settings.profiles_file.path, "");
}
END_TEST

START_TEST(flags_in_both_forms)
{
    accepts("--ttl|90s|--memory=2G|--loops|3|--unix=/run/s|--data|none|--frame-max|1M|"
            "--max-connections=7|--idle-timeout|0|--tombstones|4096|--log-level=debug");
    ck_assert_uint_eq(settings.ttl_ms, 90000);
    ck_assert_uint_eq(settings.memory_bytes, UINT64_C(2) << 30);
    ck_assert_uint_eq(settings.loops, 3);
    ck_assert_str_eq(settings.unix_path.text, "/run/s");
    ck_assert_uint_eq(settings.frame_max_bytes, 1 << 20);
    ck_assert_uint_eq(settings.connections_max, 7);
    ck_assert_uint_eq(settings.idle_timeout_ms, 0);
    ck_assert_uint_eq(settings.tombstones, 4096);
    ck_assert_int_eq(settings.log_level, LOG_DEBUG);
    ck_assert_str_eq(settings.data.directory, "");
    accepts("--data=/var/lib/rethread|--retention|0|--max-age|0|--disk|64M|--compression|none");
    ck_assert_str_eq(settings.data.directory, "/var/lib/rethread");
    ck_assert_uint_eq(settings.retention_ms, 0);
    ck_assert_uint_eq(settings.max_age_ms, 0);
    ck_assert_uint_eq(settings.disk_bytes, 64 << 20);
    ck_assert_int_eq(settings.compression, STORE_COMPRESSION_NONE);
    accepts("--profiles|/etc/profiles|--claim-timeout|5s|--drain-timeout|1h");
    ck_assert_str_eq(settings.profiles_file.path, "/etc/profiles");
    ck_assert_uint_eq(settings.claim_timeout_ms, 5000);
    ck_assert_uint_eq(settings.drain_timeout_ms, 3600000);
    accepts("RETHREAD_PROFILES=/etc/profiles|--profiles|"); /* turned off again */
    ck_assert_str_eq(settings.profiles_file.path, "");
    accepts("--ttl|1s|--ttl|2s"); /* the last one holds */
    ck_assert_uint_eq(settings.ttl_ms, 2000);
}
END_TEST

START_TEST(each_source_overrides_the_one_before)
{
    char words[256];
    write_file("ttl 10s\nmemory = 32M\nloops=2\n");
    snprintf(words, sizeof words, "--config|%s", path);
    accepts(words);
    ck_assert_uint_eq(settings.ttl_ms, 10000);
    ck_assert_uint_eq(settings.memory_bytes, 32 << 20);
    ck_assert_uint_eq(settings.loops, 2);
    snprintf(words, sizeof words, "RETHREAD_TTL=20s|RETHREAD_LOOPS=3|%s", config_flag);
    accepts(words);
    ck_assert_uint_eq(settings.ttl_ms, 20000);
    ck_assert_uint_eq(settings.memory_bytes, 32 << 20);
    ck_assert_uint_eq(settings.loops, 3);
    snprintf(words, sizeof words, "RETHREAD_TTL=20s|RETHREAD_LOOPS=3|--ttl|30s|%s", config_flag);
    accepts(words);
    ck_assert_uint_eq(settings.ttl_ms, 30000);
    ck_assert_uint_eq(settings.memory_bytes, 32 << 20);
    ck_assert_uint_eq(settings.loops, 3);
    snprintf(words, sizeof words, "RETHREAD_CONFIG=%s", path);
    accepts(words);
    ck_assert_uint_eq(settings.ttl_ms, 10000);
    snprintf(words, sizeof words, "RETHREAD_CONFIG=/nowhere|%s", config_flag);
    accepts(words); /* the flag's file, not the environment's */
}
END_TEST

START_TEST(lists_add_up_within_a_source)
{
    char words[256];
    accepts("--listen|127.0.0.1:1|--listen=[::1]:2|--listen|127.0.0.1:3,127.0.0.1:4");
    listens_on("127.0.0.1:1 [::1]:2 127.0.0.1:3 127.0.0.1:4");
    write_file("listen 10.0.0.1:1\nlisten 10.0.0.1:2\n");
    accepts(config_flag);
    listens_on("10.0.0.1:1 10.0.0.1:2");
    snprintf(words, sizeof words, "RETHREAD_LISTEN=10.0.0.2:1, 10.0.0.2:2|%s", config_flag);
    accepts(words);
    listens_on("10.0.0.2:1 10.0.0.2:2");
    snprintf(words, sizeof words, "RETHREAD_LISTEN=10.0.0.2:1|%s|--listen|10.0.0.3:1", config_flag);
    accepts(words);
    listens_on("10.0.0.3:1");
}
END_TEST

START_TEST(a_file_with_everything)
{
    write_file("# the server's settings\n"
               "\n"
               "  ttl   7m   # sliding\n"
               "\tmemory=64M\r\n"
               "unix = /run/with#hash\n"
               "log-level\twarn");
    accepts(config_flag);
    ck_assert_uint_eq(settings.ttl_ms, 420000);
    ck_assert_uint_eq(settings.memory_bytes, 64 << 20);
    ck_assert_str_eq(settings.unix_path.text, "/run/with#hash");
    ck_assert_int_eq(settings.log_level, LOG_WARN);
}
END_TEST

START_TEST(wrong_values_are_named)
{
    refuses("--ttl|soon", "--ttl|soon|ms, s, m, h or d|1ms to 365d");
    refuses("--ttl|0", "--ttl");
    refuses("--ttl|366d", "--ttl|366d");
    refuses("--ttl|99999999999999999999", "--ttl");
    refuses("--ttl|5M", "--ttl");
    refuses("--ttl|", "--ttl");
    refuses("--memory|1M", "--memory|16M to 48G");
    refuses("--memory|49G", "--memory");
    refuses("--loops|65", "--loops|0 to 64");
    refuses("--loops|2K", "--loops");
    refuses("--loops|-1", "--loops");
    refuses("--frame-max|1K", "--frame-max|64K to 1G");
    refuses("--max-connections|0", "--max-connections");
    refuses("--tombstones|0x10", "--tombstones");
    refuses("--log-level|loud", "--log-level|error, warn, info or debug");
    refuses("--log-level|INFO", "--log-level");
    refuses("--data|", "--data|a directory|or none");
    refuses("--retention|366d", "--retention|0 to 365d");
    refuses("--max-age|3651d", "--max-age|3650d");
    refuses("--disk|63M", "--disk|64M to 16384G");
    refuses("--claim-timeout|0", "--claim-timeout|1ms to 365d");
    refuses("--compression|lz4", "--compression|zstd or none");
    refuses("--compression|", "--compression");
    refuses("--listen|nowhere", "--listen|ADDR:PORT");
    refuses("--listen|", "--listen");
    refuses("--listen|127.0.0.1:1,oops", "--listen");
    refuses("RETHREAD_TTL=soon", "RETHREAD_TTL|soon|ttl");
    refuses("RETHREAD_MAX_CONNECTIONS=none", "RETHREAD_MAX_CONNECTIONS");
    char words[256] = "--unix|";
    memset(words + 7, 'p', 108);
    refuses(words, "--unix|107");
    words[7 + 107] = '\0';
    accepts(words);
    char directory[1200] = "--data|";
    memset(directory + 7, 'd', 1024);
    refuses(directory, "--data|1023");
    directory[7 + 1023] = '\0';
    accepts(directory);
    char file[1200] = "--profiles|";
    memset(file + 11, 'f', 1024);
    refuses(file, "--profiles|a file|1023");
    file[11 + 1023] = '\0';
    accepts(file);
    /* A refused value cannot break the line. */
    refuses("--ttl|5\n\x1b[31m", "--ttl|5??[31m");
}
END_TEST

START_TEST(tombstones_leave_room)
{
    /* 16M / 48 / 4: each value alone is in range, together they are not. */
    accepts("--memory|16M|--tombstones|87381");
    refuses("--memory|16M|--tombstones|87382", "tombstones|87381");
    accepts("--memory|16M");
    ck_assert_uint_eq(settings.tombstones, (16 << 20) / 48 / 32);
}
END_TEST

START_TEST(at_most_sixteen_addresses)
{
    char words[1024] = "";
    for (int i = 1; i <= 16; i++) {
        snprintf(words + strlen(words), sizeof words - strlen(words), "%s--listen|127.0.0.1:%d",
                 i > 1 ? "|" : "", i);
    }
    accepts(words);
    ck_assert_uint_eq(settings.listen.count, 16);
    snprintf(words + strlen(words), sizeof words - strlen(words), "|--listen|127.0.0.1:17");
    refuses(words, "--listen|16");
}
END_TEST

START_TEST(tcp_can_be_left_out)
{
    char words[256];
    accepts("--listen|none|--unix|/run/s");
    listens_on("");
    ck_assert_str_eq(settings.unix_path.text, "/run/s");
    accepts("RETHREAD_LISTEN=none|--unix|/run/s");
    listens_on("");
    write_file("listen none\nunix /run/s\n");
    accepts(config_flag);
    listens_on("");
    snprintf(words, sizeof words, "%s|--listen|127.0.0.1:5", config_flag);
    accepts(words); /* a later source replaces it, as it does addresses */
    listens_on("127.0.0.1:5");
    snprintf(words, sizeof words, "RETHREAD_LISTEN=127.0.0.1:5|--listen=none|--unix|/run/s");
    accepts(words);
    listens_on("");
    refuses("--listen|none", "listen|none|--unix");
    refuses("--listen|none|--unix|", "listen|none|--unix");
    refuses("--unix|/run/s|--listen|none|--listen|127.0.0.1:5", "--listen|127.0.0.1:5|none");
    refuses("--unix|/run/s|--listen|127.0.0.1:5|--listen|none", "--listen|none");
    refuses("--unix|/run/s|--listen|127.0.0.1:5,none", "--listen|none");
    refuses("--listen|", "--listen");
}
END_TEST

START_TEST(unknown_settings_are_named)
{
    refuses("--surprise|1", "--surprise|--help");
    refuses("--surprise=1", "--surprise");
    refuses("--TTL|1s", "--TTL");
    refuses("stray", "stray");
    refuses("--", "--");
    refuses("-x", "-x");
    refuses("--ttl", "--ttl|missing");
    refuses("--config", "--config|missing");
    refuses("--check-config=yes", "--check-config");
    refuses("RETHREAD_SURPRISE=1", "RETHREAD_SURPRISE");
    refuses("RETHREAD_MAX-CONNECTIONS=1", "RETHREAD_MAX-CONNECTIONS");
    refuses("RETHREAD_=1", "RETHREAD_");
    refuses("RETHREAD_A_NAME_SO_LONG_THAT_IT_COULD_NOT_BE_ANY_SETTING_OF_THIS_SERVER_AT_ALL=1",
            "RETHREAD_A_NAME");
}
END_TEST

START_TEST(other_variables_are_left_alone)
{
    accepts("PATH=/bin|RETHREAD=1|RETHREADTTL=1|RETHREAD_SERVER=/x|RETHREAD_CLI=/x|"
            "RETHREAD_TEST_SCALE=10|RETHREAD_SAN=thread|RETHREAD_BENCH_SECONDS=1|"
            "RETHREAD_CLIENT_TIMEOUT=1|RETHREAD_DEMO=1|RETHREAD_ADDRESS=h:1|RETHREAD_CONFIG=");
    accepts("RETHREAD_PORT=tcp://10.0.0.1:7411|RETHREAD_SERVICE_HOST=10.0.0.1|"
            "RETHREAD_SERVICE_PORT=7411|RETHREAD_PORT_7411_TCP_ADDR=10.0.0.1|"
            "RETHREAD_BLUE_SERVICE_HOST=10.0.0.1|RETHREAD_BLUE_PORT_7411_TCP=x");
}
END_TEST

START_TEST(wrong_files_are_named)
{
    char words[256];
    refuses("--config|/nowhere/at/all", "--config|/nowhere/at/all|No such file");
    refuses("RETHREAD_CONFIG=/nowhere/at/all", "RETHREAD_CONFIG|/nowhere/at/all");
    refuses("--config|/tmp", "--config|/tmp");
    static const struct {
        const char *text;
        const char *named;
    } cases[] = {
        {"ttl 5m\nttl soon\n", "line 2|ttl|soon"},
        {"\n\nsurprise 1\n", "line 3|surprise"},
        {"ttl\n", "line 1|ttl|TIME"},
        {"ttl =\n", "line 1|ttl"},
        {"= 5\n", "line 1"},
        {"ttl 5 m\n", "line 1|5 m"},
        {"config other\n", "line 1|config"},
        {"--ttl 5m\n", "line 1|--ttl"},
        {"data\n", "line 1|data|DIR"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file(cases[i].text);
        refuses(config_flag, cases[i].named);
        ck_assert_msg(strstr(refusal.text, path), "%s", refusal.text);
    }
    FILE *file = fopen(path, "w");
    for (int i = 0; i < 5000; i++) {
        fputc('x', file);
    }
    fclose(file);
    refuses(config_flag, "line 1|too long");
    snprintf(words, sizeof words, "--ttl|5m|%s|--ttl|x", config_flag);
    write_file("ttl 1m");
    refuses(words, "flag --ttl");
}
END_TEST

START_TEST(questions_need_no_sound_settings)
{
    ck_assert_int_eq(load("--ttl|soon|--help"), SETTINGS_HELP);
    ck_assert_int_eq(load("-h"), SETTINGS_HELP);
    ck_assert_int_eq(load("RETHREAD_TTL=x|--version"), SETTINGS_VERSION);
    ck_assert_int_eq(load("--describe"), SETTINGS_DESCRIBE);
    ck_assert_int_eq(load("--check-config|--ttl|1s"), SETTINGS_CHECK);
    ck_assert_int_eq(load("--check-config|--ttl|x"), SETTINGS_REFUSED);
}
END_TEST

/* What is printed is a file that means the same. */
START_TEST(printed_settings_read_back)
{
    accepts("--listen|127.0.0.1:1|--listen|[::1]:2|--unix|/run/s|--ttl|90s|--memory|1536M|"
            "--idle-timeout|0|--log-level|error|--loops|5|--data|/d|--retention|0|--disk|3G|"
            "--compression|none|--profiles|/p q|--claim-timeout|7s|--drain-timeout|0");
    struct settings before = settings;
    FILE *file = fopen(path, "w");
    settings_print(file, &settings);
    fclose(file);
    accepts(config_flag);
    ck_assert_int_eq(memcmp(&before, &settings, sizeof settings), 0);
    accepts("--listen|none|--unix|/run/s|--data|none");
    before = settings;
    file = fopen(path, "w");
    settings_print(file, &settings);
    fclose(file);
    accepts(config_flag);
    ck_assert_int_eq(memcmp(&before, &settings, sizeof settings), 0);
    /* The defaults too: "unix" is off. */
    accepts("");
    before = settings;
    file = fopen(path, "w");
    settings_print(file, &settings);
    fclose(file);
    accepts(config_flag);
    ck_assert_int_eq(memcmp(&before, &settings, sizeof settings), 0);
}
END_TEST

START_TEST(help_has_every_setting)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    settings_print_help(out);
    fclose(out);
#define SETTING(field, name, type, value, min, max, shape, summary)                                \
    ck_assert_msg(strstr(text, "  --" name " " shape "\n"), name);                                 \
    ck_assert_msg(strstr(text, summary), name);                                                    \
    ck_assert_msg(!value[0] || strstr(text, "Default: " value ". Allowed: "), name);
#include "schema/settings.def"
#undef SETTING
    ck_assert_ptr_nonnull(strstr(text, "--check-config"));
    ck_assert_ptr_nonnull(strstr(text, "16M to 48G"));
    free(text);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("settings");
    TCase *c = tcase_create("settings");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, defaults);
    tcase_add_test(c, flags_in_both_forms);
    tcase_add_test(c, each_source_overrides_the_one_before);
    tcase_add_test(c, lists_add_up_within_a_source);
    tcase_add_test(c, a_file_with_everything);
    tcase_add_test(c, wrong_values_are_named);
    tcase_add_test(c, tombstones_leave_room);
    tcase_add_test(c, at_most_sixteen_addresses);
    tcase_add_test(c, tcp_can_be_left_out);
    tcase_add_test(c, unknown_settings_are_named);
    tcase_add_test(c, other_variables_are_left_alone);
    tcase_add_test(c, wrong_files_are_named);
    tcase_add_test(c, questions_need_no_sound_settings);
    tcase_add_test(c, printed_settings_read_back);
    tcase_add_test(c, help_has_every_setting);
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
