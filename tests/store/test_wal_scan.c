/* The log at start: torn ends, damage, holes, foreign and newer files. Nothing wrong is played. */
#include "store/wal_private.h"
#include "tests/lib/suite.h"
#include "tests/store/wal_files.h"

/* Batches of the given numbers of groups, numbered from 1, in one segment; then closed. */
static void write_log(const unsigned *batches, unsigned count)
{
    struct wal *wal = reopen(0, false);
    for (unsigned i = 0; i < count; i++) {
        for (unsigned j = 0; j < batches[i]; j++) {
            add(wal, wal_next_sequence(wal));
        }
        must_sync(wal);
    }
    wal_close(wal);
}

static const char *const first_name = "log-0000000000000001";

START_TEST(plays_what_is_beyond_applied)
{
    write_log((const unsigned[]){3, 1, 4}, 3);
    for (uint64_t applied = 0; applied <= 10; applied++) {
        struct wal *wal = reopen(applied, false);
        must_have_played(applied + 1, applied < 8 ? (unsigned)(8 - applied) : 0);
        ck_assert_uint_eq(wal_next_sequence(wal), applied < 8 ? 9 : applied + 1);
        wal_close(wal);
    }
    played.refuse = true;
    struct wal *wal;
    bool damaged;
    ck_assert_int_eq(wal_open(directory_fd, 0, play_group, &played, &wal, &damaged, &trouble),
                     STATUS_INTERNAL);
    ck_assert_ptr_null(wal);
    ck_assert_str_eq(trouble.call, "play");
    played.refuse = false;
}
END_TEST

/* The first batch counts as flushed, the second is cut at every byte, the rest reads as zeros. */
START_TEST(torn_tail_at_every_byte)
{
    write_log((const unsigned[]){2}, 1);
    struct image first = only_file();
    size_t flushed = first.size;
    free(first.data);
    remove_files();
    write_log((const unsigned[]){2, 4}, 2);
    struct image whole = only_file();
    uint8_t *torn = malloc(whole.size);
    unsigned before = 0;
    for (size_t cut = flushed; cut <= whole.size; cut++) {
        memset(torn, 0, whole.size);
        memcpy(torn, whole.data, cut);
        for (unsigned shorter = 0; shorter < 2; shorter++) {
            remove_files();
            write_file(first_name, torn, shorter ? cut : whole.size);
            struct wal *wal = reopen(0, false);
            ck_assert_uint_ge(played.count, 2);
            ck_assert_uint_ge(played.count, before);
            must_have_played(1, played.count);
            /* And it goes on from there. */
            uint64_t next = wal_next_sequence(wal);
            ck_assert_uint_gt(next, played.count);
            before = played.count;
            if (cut % 16 == 0 && !shorter) {
                ck_assert_uint_eq(add(wal, next), next);
                must_sync(wal);
                wal_close(wal);
                wal = reopen(before, false);
                must_have_played(next, 1);
            }
            wal_close(wal);
        }
    }
    ck_assert_uint_eq(before, 6);
    free(torn);
    free(whole.data);
}
END_TEST

/* Any part of the last batch may be missing, in the middle too. */
START_TEST(torn_tail_with_later_groups)
{
    write_log((const unsigned[]){2, 5}, 2);
    struct image whole = only_file();
    size_t third = WAL_HEADER_BYTES;
    for (unsigned i = 0; i < 2; i++) {
        third += WAL_GROUP_HEADER_BYTES + wal_align(bytes_load_be32(whole.data + third));
    }
    for (size_t at = third; at < whole.size; at++) {
        whole.data[at] ^= 0x40;
        remove_files();
        write_file(first_name, whole.data, whole.size);
        whole.data[at] ^= 0x40;
        struct wal *wal = reopen(0, false);
        ck_assert_uint_ge(played.count, 2);
        must_have_played(1, played.count);
        ck_assert_uint_ge(wal_next_sequence(wal), at == whole.size - 1 ? 8 : 7);
        wal_close(wal);
    }
    free(whole.data);
}
END_TEST

START_TEST(every_byte_flipped)
{
    write_log((const unsigned[]){2, 1, 3}, 3);
    struct image whole = only_file();
    unsigned found = 0, torn = 0, unharmed = 0;
    for (size_t at = 0; at < whole.size; at++) {
        for (unsigned applied = 0; applied < 5; applied += 4) {
            whole.data[at] ^= (uint8_t)(1u << at % 8);
            remove_files();
            write_file(first_name, whole.data, whole.size);
            whole.data[at] ^= (uint8_t)(1u << at % 8);
            struct wal *wal;
            bool damaged;
            played.count = 0;
            enum status status =
                wal_open(directory_fd, applied, play_group, &played, &wal, &damaged, &trouble);
            ck_assert_int_eq(status, STATUS_OK);
            must_have_played(applied + 1, played.count);
            if (applied == 0) {
                found += damaged;
                torn += !damaged && played.count < 6;
                unharmed += !damaged && played.count == 6;
                ck_assert(damaged || played.count >= 3); /* no batch vouches for the last one */
            }
            /* Set aside at once, or when the tree has what was played. */
            ck_assert(!damaged || played.count > 0 || count_names(".damaged") == 1);
            ck_assert(wal_set_aside(wal, applied + played.count, &trouble));
            ck_assert_uint_eq(count_names(".damaged"), damaged);
            wal_close(wal);
        }
    }
    ck_assert_uint_ge(found, 64 + 3 * WAL_GROUP_HEADER_BYTES);
    ck_assert_uint_ge(torn, 3 * WAL_GROUP_HEADER_BYTES);
    ck_assert_uint_le(unharmed, 6 * (WAL_ALIGN - 1)); /* between groups */
    free(whole.data);
}
END_TEST

static void new_segment(struct wal *wal)
{
    must_trim(wal, 0, 0); /* left behind at the next sync */
}

START_TEST(hole_across_segments)
{
    struct wal *wal = reopen(0, false);
    char names[64][64];
    for (uint64_t i = 1; i <= 3; i++) {
        add(wal, 2 * i - 1);
        add(wal, 2 * i);
        must_sync(wal);
        new_segment(wal);
    }
    wal_close(wal);
    wal = reopen(0, false);
    must_have_played(1, 6);
    wal_close(wal);

    /* The second segment lost its end. */
    unsigned count = list_names(names, 64);
    unsigned second = count;
    for (unsigned i = 0; i < count; i++) {
        struct image image = read_file(names[i]);
        if (used_of(image) > 0 && bytes_load_be64(image.data + 24) == 3) {
            second = i;
            memset(image.data + used_of(image) - 20, 0, 20);
            write_file(names[i], image.data, image.size);
        }
        free(image.data);
    }
    ck_assert_uint_lt(second, count);
    wal = reopen(4, false); /* the tree has what is missing */
    must_have_played(5, 2);
    wal_close(wal);
    wal = reopen(0, true);
    ck_assert_ptr_nonnull(strstr(trouble.text, names[second]));
    must_have_played(1, 3);
    ck_assert_uint_eq(count_names(".damaged"), 0);
    ck_assert_uint_eq(wal_next_sequence(wal), 7);
    ck_assert_uint_eq(add(wal, 7), 7);
    must_sync(wal);
    /* A crash now: again all but what is behind the hole, and what came since. */
    wal_close(wal);
    wal = reopen(0, true);
    ck_assert_uint_eq(played.count, 4);
    ck_assert_uint_eq(played.sequences[2], 3);
    ck_assert_uint_eq(played.sequences[3], 7);
    must_trim(wal, 2, 60000);
    ck_assert_uint_eq(count_names(".damaged"), 0);
    must_trim(wal, 3, 60000);
    ck_assert_uint_eq(count_names(".damaged"), 2);
    wal_close(wal);
    wal = reopen(3, false);
    must_have_played(7, 1);
    wal_close(wal);
}
END_TEST

static enum status try_open(void)
{
    struct wal *wal;
    bool damaged;
    enum status status = wal_open(directory_fd, 0, play_group, &played, &wal, &damaged, &trouble);
    wal_close(wal);
    return status;
}

START_TEST(foreign_and_newer_files)
{
    write_log((const unsigned[]){2, 1}, 2);
    struct image whole = only_file();

    /* A newer format: refused, and nothing touched. */
    bytes_store_be32(whole.data + 8, WAL_FORMAT + 1);
    bytes_store_be64(whole.data + 56, wal_hash(whole.data, 56));
    write_file(first_name, whole.data, whole.size);
    ck_assert_int_eq(try_open(), STATUS_INTERNAL);
    ck_assert_ptr_nonnull(strstr(trouble.text, "newer version"));
    ck_assert_ptr_nonnull(strstr(trouble.text, first_name));
    struct image after = only_file();
    ck_assert_uint_eq(after.size, whole.size);
    ck_assert_mem_eq(after.data, whole.data, whole.size);
    free(after.data);
    bytes_store_be32(whole.data + 8, WAL_FORMAT);
    bytes_store_be64(whole.data + 56, wal_hash(whole.data, 56));

    /* Under another number. */
    remove_files();
    write_file("log-0000000000000007", whole.data, whole.size);
    struct wal *wal = reopen(0, true);
    ck_assert_uint_eq(played.count, 0);
    ck_assert_uint_eq(count_names("7.damaged"), 1);
    must_trim(wal, 0, 0);
    wal_close(wal);
    char names[64][64];
    ck_assert_uint_eq(list_names(names, 64), 3);
    ck_assert_str_eq(names[1], "log-0000000000000008"); /* no number is used again */

    /* Not ours at all; short; a name that means nothing here; a folder. */
    remove_files();
    write_file(first_name,
               (const uint8_t *)"some words that somebody put here, more than a "
                                "header takes; they are no log at all",
               80);
    write_file("log-0000000000000002", (const uint8_t *)"abc", 3);
    write_file("log-0000000000000003", (const uint8_t *)"reth\0\0", 6);
    write_file("log-4", (const uint8_t *)"abc", 3);
    wal = reopen(0, true);
    ck_assert_uint_eq(count_names(".damaged"), 2);
    must_trim(wal, 0, 0);
    ck_assert_uint_eq(count_names("log-4"), 1);
    ck_assert_uint_eq(count_names("3"), 0);
    wal_close(wal);
    remove_files();
    ck_assert_int_eq(mkdirat(directory_fd, first_name, 0700), 0);
    ck_assert_int_eq(try_open(), STATUS_INTERNAL);
    unlinkat(directory_fd, first_name, AT_REMOVEDIR);
    free(whole.data);
}
END_TEST

/* Groups of an earlier use of a segment, at places where groups may be, whole and valid then. */
START_TEST(stale_groups_are_never_played)
{
    write_log((const unsigned[]){1, 1, 1, 1}, 4);
    struct image old = only_file();
    remove_files();
    write_log((const unsigned[]){1}, 1);
    struct image fresh = only_file();
    ck_assert_uint_lt(fresh.size, old.size);
    ck_assert_mem_eq(old.data + 16, fresh.data + 16, 24); /* only the salt tells them apart */
    memcpy(old.data, fresh.data, fresh.size);
    write_file(first_name, old.data, old.size);
    struct wal *wal = reopen(0, false);
    must_have_played(1, 1);
    ck_assert_uint_eq(wal_next_sequence(wal), 2);
    wal_close(wal);
    free(old.data);
    free(fresh.data);
}
END_TEST

int main(void)
{
    return SUITE_RUN("store/wal_scan", files_setup, files_teardown, 60,
                     plays_what_is_beyond_applied, torn_tail_at_every_byte,
                     torn_tail_with_later_groups, every_byte_flipped, hole_across_segments,
                     foreign_and_newer_files, stale_groups_are_never_played);
}
