/* Pages of a real tree: sound as they are, and not when one of the numbers that lead on is wrong.
 */
#include "tests/store/test_image.h"

#include "store/tree_page.h"

#include <errno.h>
#include <fcntl.h>

enum { PAGE = 4096 };

static uint8_t *file;
static size_t pages;

/* Many threads in many commits: branches, leaves, a free list, values on pages of their own. */
static void load_file(void)
{
    for (unsigned i = 0; i < 120; i++) {
        static struct sample sample;
        char id[16];
        snprintf(id, sizeof id, "thread %u", i);
        sample_begin(&sample, id, 1 + i);
        sample_say(&sample, id, NULL, bytes_of(noise, 100 + i * 40));
        sample_put(&sample);
    }
    ck_assert_uint_eq(tree_numbers(image.tree).threads, 120);
    char path[96];
    snprintf(path, sizeof path, "%s/tree.mdb", image.directory);
    int fd = open(path, O_RDONLY);
    off_t size = lseek(fd, 0, SEEK_END);
    ck_assert_int_gt(size, 100 * PAGE);
    pages = (size_t)size / PAGE;
    file = malloc((size_t)size);
    ck_assert_int_eq(pread(fd, file, (size_t)size, 0), size);
    close(fd);
}

static uint16_t load16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* A page of that kind with several nodes, from anywhere in the file. */
static uint8_t *some_page(enum tree_page_kind kind, size_t after)
{
    for (size_t i = after; i < pages; i++) {
        uint8_t *page = file + i * PAGE;
        if (load16(page + 10) == kind && load16(page + 12) > 16 + 2 * 3 &&
            tree_page_is_sound(page, PAGE, kind)) {
            return page;
        }
    }
    return NULL;
}

static enum status check_bytes(void)
{
    char path[96];
    snprintf(path, sizeof path, "%s/other.mdb", image.directory);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_eq(pwrite(fd, file, pages * PAGE, 0), (ssize_t)(pages * PAGE));
    struct wal_trouble trouble;
    enum status status = tree_page_check_all(fd, PAGE, &trouble);
    ck_assert(status == STATUS_OK || trouble.error == EINVAL);
    close(fd);
    return status;
}

START_TEST(every_page_in_use_is_sound)
{
    load_file();
    unsigned sound = 0;
    for (size_t i = 2; i < pages; i++) {
        const uint8_t *page = file + i * PAGE;
        uint16_t flags = load16(page + 10);
        if (flags == TREE_PAGE_BRANCH || flags == TREE_PAGE_LEAF) {
            ck_assert(tree_page_is_sound(page, PAGE, (enum tree_page_kind)flags));
            ck_assert(!tree_page_is_sound(page, PAGE, (enum tree_page_kind)(3 - flags)));
            sound++;
        }
    }
    ck_assert_uint_gt(sound, 20);
    ck_assert_int_eq(check_bytes(), STATUS_OK);
    free(file);
}
END_TEST

/* Counts, places of nodes, sizes of keys and values. */
START_TEST(a_page_with_a_wrong_number)
{
    static const enum tree_page_kind kinds[] = {TREE_PAGE_BRANCH, TREE_PAGE_LEAF};
    load_file();
    for (unsigned k = 0; k < 2; k++) {
        uint8_t *page = some_page(kinds[k], 2);
        ck_assert_ptr_nonnull(page);
        size_t lower = load16(page + 12);
        for (unsigned mask = 1; mask < 256; mask++) {
            for (size_t at = 10; at < lower; at++) {
                page[at] ^= (uint8_t)mask;
                ck_assert_msg(!tree_page_is_sound(page, PAGE, kinds[k]), "byte %zu", at);
                page[at] ^= (uint8_t)mask;
            }
            uint8_t *node = page + load16(page + 16 + 2);
            unsigned was = load16(node + 6);
            for (size_t at = 6; at < 8; at++) {
                node[at] ^= (uint8_t)mask;
                /* Nodes are filled up to an even size. */
                bool same = (load16(node + 6) + 1U) / 2 == (was + 1) / 2;
                ck_assert_int_eq(tree_page_is_sound(page, PAGE, kinds[k]), same);
                node[at] ^= (uint8_t)mask;
            }
        }
        ck_assert(tree_page_is_sound(page, PAGE, kinds[k]));
    }
    free(file);
}
END_TEST

/* The number of any child. */
START_TEST(a_branch_that_leads_elsewhere)
{
    unsigned tried = 0, noticed = 0;
    load_file();
    for (size_t i = 2; i < pages; i++) {
        uint8_t *page = some_page(TREE_PAGE_BRANCH, i);
        if (!page) {
            break;
        }
        i = (size_t)(page - file) / PAGE;
        for (unsigned n = 0; n < (load16(page + 12) - 16U) / 2; n++) {
            uint8_t *node = page + load16(page + 16 + 2 * n);
            for (unsigned bit = 0; bit < 8; bit++) {
                node[0] ^= (uint8_t)(1u << bit);
                tried++;
                noticed += check_bytes() != STATUS_OK;
                node[0] ^= (uint8_t)(1u << bit);
            }
        }
    }
    /* Branches that are free themselves matter to nobody: 2 of the tables have one, or more. */
    ck_assert_uint_gt(tried, 100);
    ck_assert_uint_gt(noticed, 16);
    ck_assert_int_eq(check_bytes(), STATUS_OK);
    free(file);
}
END_TEST

/* One value is as good as the true one: that of the neighbour on the other side. */
START_TEST(the_transactions_of_the_meta_pages)
{
    load_file();
    for (unsigned meta = 0; meta < 2; meta++) {
        unsigned unnoticed = 0;
        for (unsigned at = 144; at < 152; at++) {
            for (unsigned mask = 1; mask < 256; mask++) {
                file[meta * PAGE + at] ^= (uint8_t)mask;
                unnoticed += check_bytes() == STATUS_OK;
                file[meta * PAGE + at] ^= (uint8_t)mask;
            }
        }
        ck_assert_uint_le(unnoticed, 1);
    }
    free(file);
}
END_TEST

START_TEST(a_file_that_ends_too_early)
{
    load_file();
    size_t whole = pages;
    for (pages = 0; pages < 4; pages++) {
        char path[96];
        snprintf(path, sizeof path, "%s/other.mdb", image.directory);
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        ck_assert_int_eq(pwrite(fd, file, pages * PAGE, 0), (ssize_t)(pages * PAGE));
        struct wal_trouble trouble;
        ck_assert_int_eq(tree_page_check_all(fd, PAGE, &trouble), STATUS_INTERNAL);
        close(fd);
    }
    pages = whole;
    ck_assert_int_eq(check_bytes(), STATUS_OK);
    free(file);
}
END_TEST

int main(void)
{
    return SUITE_RUN("tree_page", image_open, image_close, 120, every_page_in_use_is_sound,
                     a_page_with_a_wrong_number, a_branch_that_leads_elsewhere,
                     the_transactions_of_the_meta_pages, a_file_that_ends_too_early);
}
