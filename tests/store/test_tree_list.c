/* All names of a tree, in pieces of any size; with damage it is not all. */
#include "tests/store/test_hands.h"

static struct index_hash all_names[4096];
static unsigned all_count;

/* True: all was read. */
static bool read_names(unsigned limit)
{
    uint8_t after[24] = {0};
    bool more = true;
    all_count = 0;
    for (unsigned pieces = 0; more; pieces++) {
        unsigned count;
        ck_assert_uint_lt(pieces, 4096);
        ck_assert_uint_le(all_count + limit, 4096);
        more = tree_names(image.tree, all_names + all_count, limit, &count, after);
        ck_assert_uint_le(count, limit);
        all_count += count;
    }
    return after[0] == TREE_NAMES_END;
}

static unsigned times_named(struct index_hash name)
{
    unsigned times = 0;
    for (unsigned i = 0; i < all_count; i++) {
        times += tree_same_name(all_names[i], name);
    }
    return times;
}

START_TEST(names_in_pieces_of_any_size)
{
    static struct sample sample, gone;
    ck_assert(read_names(7));
    ck_assert_uint_eq(all_count, 0);
    put_row(20);
    sample_four(&sample, "t", 1);
    sample_begin(&gone, "gone", 2);
    sample_say(&gone, "g", NULL, bytes_text("x"));
    sample_put(&gone);
    sample_erase(&gone, REASON_FORGOTTEN);
    for (unsigned limit = 1; limit < 50; limit++) {
        ck_assert(read_names(limit));
        ck_assert_uint_eq(all_count, 20 + 1 + 6 + 2);
        ck_assert_uint_eq(times_named(sample.head.name), 1);
        ck_assert_uint_eq(times_named(gone.head.name), 1);
        ck_assert_uint_eq(times_named(image_name(RECORD_RESPONSE_ID, bytes_text("r3"))), 1);
        ck_assert_uint_eq(times_named(image_name(RECORD_RESPONSE_ID, bytes_text("g"))), 1);
        ck_assert_uint_eq(times_named(image_name(RECORD_TOOL_CALL, bytes_text("c2"))), 1);
    }
    ck_assert_uint_eq(tree_numbers(image.tree).names, 20 + 1 + 6 + 2);
}
END_TEST

static void check_names_with_damage(bool home)
{
    static struct sample sample;
    put_row(20);
    sample_four(&sample, "t", 1);
    if (home) {
        bring_home(image.tree);
    }
    meddle_name(TREE_NAMES, sample.head.name, spoil);
    for (unsigned limit = 1; limit < 50; limit++) {
        uint64_t before = tree_numbers(image.tree).damaged;
        ck_assert(!read_names(limit));
        ck_assert_uint_gt(tree_numbers(image.tree).damaged, before);
        ck_assert_uint_eq(times_named(image_name(RECORD_THREAD, bytes_text("odd7"))), 1);
        ck_assert_uint_eq(times_named(image_name(RECORD_TOOL_CALL, bytes_text("c2"))), 1);
        ck_assert(limit == 1 || times_named(sample.head.name) >= 1);
    }
}

START_TEST(names_with_damage_are_not_all)
{
    check_names_with_damage(false);
}
END_TEST

START_TEST(names_with_damage_at_home_are_not_all)
{
    check_names_with_damage(true);
}
END_TEST

int main(void)
{
    return SUITE_RUN("tree_list", image_open, image_close, 60, names_in_pieces_of_any_size,
                     names_with_damage_are_not_all, names_with_damage_at_home_are_not_all);
}
