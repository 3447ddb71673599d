/*
 * Reviewed: files that shrink under a running store, and what is left in them of what was erased.
 */
#include "tests/store/test_store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

/* A transaction that faults while LMDB begins it leaves its handle, some 600 bytes, out of reach.
 * AddressSanitizer's leak check asks this of a program; nobody else does. */
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:mdb_txn_begin\n";
}

static void path_in(char path[128], const char *name)
{
    snprintf(path, 128, "%s/%s", directory, name);
}

/* Every look-up faults from now on, on the way in as well: none of them may take the process, a
 * lock or all of LMDB's places for readers with it. */
START_TEST(tree_that_is_cut_off_while_it_is_read)
{
    char path[128];
    static uint8_t bytes[100000];
    trial_fill(bytes, sizeof bytes, 3);
    settings.compression = STORE_COMPRESSION_NONE;
    close_store();
    open_store();
    for (unsigned i = 0; i < 20; i++) {
        char id[16];
        snprintf(id, sizeof id, "t-%u", i);
        done(make_put(id, 2, bytes_of(bytes, sizeof bytes)), STATUS_OK);
    }
    path_in(path, "tree.mdb");
    ck_assert_int_eq(truncate(path, 0), 0);
    for (unsigned i = 0; i < 500; i++) {
        enum tier_found was = found("t-1");
        ck_assert_msg(was == TIER_CORRUPT || was == TIER_FAILED, "load %u: %d", i, was);
    }
    AWAIT(tier->calls->is_read_only(tier));
    struct put *put = make_put("new", 1, bytes_text("x"));
    ck_assert_int_eq(tier->calls->submit(tier, &put->change), STATUS_READ_ONLY);
    unpin_put(put);
    free_put(put);
    store_settle(store);
    close_store();
    /* Nor is it taken for a new one. */
    struct store_refusal refusal;
    store = store_open(&settings, &refusal);
    ck_assert_ptr_null(store);
    ck_assert_msg(strstr(refusal.text, "tree.mdb") != NULL, "%s", refusal.text);
}
END_TEST

/* How often the word stands in files whose names begin so. */
static unsigned count_word(const char *start, const char *word)
{
    DIR *open_directory = opendir(directory);
    unsigned count = 0;
    for (struct dirent *entry; (entry = readdir(open_directory));) {
        if (strncmp(entry->d_name, start, strlen(start)) != 0) {
            continue;
        }
        char path[512];
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        int fd = open(path, O_RDONLY);
        if (fd < 0) {
            ck_assert_int_eq(errno, ENOENT);
            rewinddir(open_directory); /* a segment got another name: all are looked at again */
            count = 0;
            continue;
        }
        struct stat stat_of;
        ck_assert_int_eq(fstat(fd, &stat_of), 0);
        char *data = malloc((size_t)stat_of.st_size + 1);
        ck_assert_int_eq(read(fd, data, (size_t)stat_of.st_size), stat_of.st_size);
        const char *end = data + stat_of.st_size;
        for (const char *at = data; (at = memmem(at, (size_t)(end - at), word, strlen(word)));
             at++) {
            count++;
        }
        free(data);
        close(fd);
    }
    closedir(open_directory);
    return count;
}

/* Nothing comes after it that would push it on. */
START_TEST(erased_bytes_leave_the_log_of_an_idle_store)
{
    static const char word[] = "the-canary-that-sings-no-more";
    struct put *put = make_put("a", 1, bytes_text(word));
    submit(put);
    AWAIT(put->applied_at);
    ck_assert_uint_eq(count_word("log-", word), 1);
    done(make_erase(put, REASON_EXPIRED), STATUS_OK);
    free_put(put);
    unsigned waited_s = 0;
    while (count_word("log-", word) > 0) {
        ck_assert_uint_lt(waited_s++, 100);
        sleep_ms(1000);
    }
}
END_TEST

int main(void)
{
    return SUITE_RUN("review_store_files", setup, teardown, 120,
                     tree_that_is_cut_off_while_it_is_read,
                     erased_bytes_leave_the_log_of_an_idle_store);
}
