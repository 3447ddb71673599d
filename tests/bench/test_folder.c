/* A folder goes with all in it, and whatever way the process that made it ends. */
#include "bench/folder.h"

#include "tests/lib/suite.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WAITS = 3000, WAIT_NS = 10000000 };

static void fill(const char *folder)
{
    char name[PATH_MAX + 16];
    snprintf(name, sizeof name, "%s/below", folder);
    ck_assert_int_eq(mkdir(name, 0700), 0);
    snprintf(name, sizeof name, "%s/below/file", folder);
    int fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "12345", 5), 5);
    close(fd);
    snprintf(name, sizeof name, "%s/file-a", folder);
    fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_eq(write(fd, "123", 3), 3);
    close(fd);
}

START_TEST(test_end_removes_all)
{
    struct folder folder;
    ck_assert(folder_make(&folder, "temp"));
    fill(folder.name);
    ck_assert_uint_eq(folder_bytes(folder.name, "file"), 3);
    char name[PATH_MAX];
    memcpy(name, folder.name, sizeof name);
    folder_end(&folder);
    ck_assert_int_ne(access(name, F_OK), 0);
    folder_end(&folder);
}
END_TEST

START_TEST(test_two_at_once)
{
    struct folder first;
    struct folder second;
    ck_assert(folder_make(&first, NULL));
    ck_assert(folder_make(&second, first.name));
    ck_assert_int_eq(strncmp(second.name, first.name, strlen(first.name)), 0);
    folder_end(&second);
    ck_assert_int_eq(access(first.name, F_OK), 0);
    folder_end(&first);
}
END_TEST

static const int ends[] = {0, SIGTERM, SIGKILL};

START_TEST(test_the_process_ends)
{
    int told[2];
    ck_assert_int_eq(pipe(told), 0);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGTERM, SIG_DFL); /* not what the framework does */
        struct folder folder;
        bool made = folder_make(&folder, NULL);
        fill(folder.name);
        made = made && write(told[1], folder.name, sizeof folder.name) == sizeof folder.name;
        while (made && ends[_i] != 0) {
            pause();
        }
        _exit(0);
    }
    close(told[1]);
    static char name[PATH_MAX];
    ck_assert_int_eq(read(told[0], name, sizeof name), sizeof name);
    close(told[0]);
    if (ends[_i] != 0) {
        kill(pid, ends[_i]);
    }
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    unsigned waits = 0;
    while (access(name, F_OK) == 0 && waits++ < WAITS) {
        nanosleep(&(struct timespec){.tv_nsec = WAIT_NS}, NULL);
    }
    ck_assert_msg(access(name, F_OK) != 0, "%s stays", name);
}
END_TEST

START_TEST(test_no_place)
{
    struct folder folder;
    ck_assert(freopen("/dev/null", "w", stderr) != NULL);
    ck_assert(!folder_make(&folder, "/nowhere/at/all"));
    folder_end(&folder);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("folder");
    TCase *all = tcase_create("folder");
    tcase_add_test(all, test_end_removes_all);
    tcase_add_test(all, test_two_at_once);
    tcase_add_loop_test(all, test_the_process_ends, 0, sizeof ends / sizeof *ends);
    tcase_add_test(all, test_no_place);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
