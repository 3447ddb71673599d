/* Options that are lists of things, or maps: their items, their limits, and the walks over them. */
#include "tests/wire/test_options.h"

static void check_prefix(const struct row *row)
{
    takes(row, "b(16)");
    takes(row, "s(16)");
    takes(row,
          "b'\\x00\\xff\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00'");
    takes(row, "[b(16)]");
    takes(row, "[b(16), s(16), b(16)]"); /* the same one again is nobody's harm */
    takes(row, items_of(1024, "b(16)"));
    ck_assert_uint_eq(request.prefix_list.count, 1024);
    refuses(row, items_of(1025, "b(16)"));
    refuses(row, "[]");
    static const char *const wrong[] = {
        "b(15)",
        "b(17)",
        "b(0)",
        "s(15)",
        "s(17)",
        "''",
        "[b(15)]",
        "[s(17)]",
        "['']",
        "[b(16), b(17)]",
        "[1]",
        "[nil]",
        "[[b(16)]]",
        "{}",
        "1",
        "{b(16): b(16)}",
        "[false]",
        "1.5",
        "[b(16), b(16), 16]",
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        refuses(row, wrong[i]);
    }
}

static void check_prefixes(const struct row *row)
{
    takes(row, "[]");
    takes(row, "[[0, b(16)]]");
    takes(row, "[[9223372036854775807, s(16)], [3, b(16)], [3, b(16)]]"); /* in any order */
    takes(row, items_of(row->max, "[0, b(16)]"));
    ck_assert_int_eq(request.prefixes.count, row->max);
    refuses(row, items_of(row->max + 1, "[0, b(16)]"));
    static const char *const wrong[] = {
        "[[-1, b(16)]]",
        "[[9223372036854775808, b(16)]]",
        "[[18446744073709551615, b(16)]]",
        "[['0', b(16)]]",
        "[[1.5, b(16)]]",
        "[[nil, b(16)]]",
        "[[true, b(16)]]",
        "[[0, b(15)]]",
        "[[0, s(17)]]",
        "[[0, '']]",
        "[[0, nil]]",
        "[[0, 0]]",
        "[[0, [b(16)]]]",
        "[[[0], b(16)]]",
        "[[0]]",
        "[[]]",
        "[[0, b(16), 0]]",
        "[[0, b(16)], [1]]",
        "[[0, b(16)], 1, b(16)]",
        "[0, b(16)]",
        "[b(16)]",
        "[{0: b(16)}]",
        "{0: b(16)}",
        "b(16)",
        "0",
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        refuses(row, wrong[i]);
    }
}

static void check_kept_limit(const struct row *row)
{
    for (unsigned count = 65535; count <= 65537; count++) {
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        fprintf(out, "{'version': 1, 'step': %u, 'kept': [0", count);
        for (unsigned i = 1; i < count; i++) {
            fprintf(out, ", %u", i);
        }
        fputs("]}", out);
        fclose(out);
        if (count <= 65536) {
            takes(row, text);
            ck_assert_uint_eq(request.have.kept.count, count);
        } else {
            ck_assert_uint_eq(parse(row, text), STATUS_BAD_REQUEST);
            ck_assert_str_eq(error.option, row->name);
        }
        free(text);
    }
}

static void check_have(const struct row *row)
{
    takes(row, "{'version': 0, 'step': -1}");
    takes(row, "{'step': 9223372036854775807, 'version': 9223372036854775807}");
    ck_assert(!request.have.has_kept);
    takes(row, "{'version': 0, 'step': -1, 'kept': []}");
    ck_assert(request.have.has_kept && request.have.kept.count == 0);
    takes(row, "{'kept': [0], 'version': 1, 'step': 0}"); /* in any order */
    takes(row, "{'version': 1, 'kept': [0, 1, 5, 9], 'step': 9}");
    takes(row, "{'version': 1, 'step': 9223372036854775807, 'kept': [9223372036854775807]}");
    takes(row, "{'version': 1, 'step': 9223372036854775807, "
               "'kept': [9223372036854775806, 9223372036854775807]}");
    check_kept_limit(row);
    static const char *const wrong[] = {
        "{}",
        "{'version': 1}",
        "{'step': 1}",
        "{'kept': [1]}",
        "{'version': 1, 'kept': []}",
        "{'step': 1, 'kept': []}",
        "{'version': 1, 'version': 1}",
        "{'version': 1, 'version': 1, 'step': 1}",
        "{'version': 1, 'step': 1, 'step': 1}",
        "{'version': 1, 'step': 1, 'kept': [], 'kept': []}",
        "{'version': 1, 'step': 1, 'kept': [1], 'kept': [1]}",
        "{'version': 1, 'step': 1, 'other': 1}",
        "{'version': 1, 'other': 1}",
        "{b'version': 1, 'step': 1}",
        "{'version': -1, 'step': 1}",
        "{'version': 9223372036854775808, 'step': 1}",
        "{'version': 1, 'step': 9223372036854775808}",
        "{'version': 1, 'step': -2}",
        "{'version': 'a', 'step': 1}",
        "{'version': [1], 'step': 1}",
        "{'version': 1, 'step': nil}",
        /* kept: below 0, beyond step, not ascending, not steps, not an array */
        "{'version': 1, 'step': 5, 'kept': [-1]}",
        "{'version': 1, 'step': -1, 'kept': [0]}",
        "{'version': 1, 'step': 5, 'kept': [6]}",
        "{'kept': [0, 6], 'version': 1, 'step': 5}",
        "{'version': 1, 'step': 5, 'kept': [0, 0]}",
        "{'version': 1, 'step': 5, 'kept': [1, 0]}",
        "{'version': 1, 'step': 5, 'kept': [0, 2, 1]}",
        ("{'version': 1, 'step': 9223372036854775807, "
         "'kept': [9223372036854775807, 9223372036854775807]}"),
        "{'version': 1, 'step': 9223372036854775807, 'kept': [9223372036854775807, 0]}",
        "{'version': 1, 'step': 9223372036854775807, 'kept': [9223372036854775808]}",
        "{'version': 1, 'step': 9223372036854775807, 'kept': [18446744073709551615]}",
        "{'version': 1, 'step': 5, 'kept': [1.0]}",
        "{'version': 1, 'step': 5, 'kept': ['1']}",
        "{'version': 1, 'step': 5, 'kept': [nil]}",
        "{'version': 1, 'step': 5, 'kept': [[1]]}",
        "{'version': 1, 'step': 5, 'kept': [[[[[[1]]]]]]}",
        "{'version': 1, 'step': 5, 'kept': 1}",
        "{'version': 1, 'step': 5, 'kept': nil}",
        "{'version': 1, 'step': 5, 'kept': {0: 1}}",
        "[1, 1]",
        "1",
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        refuses(row, wrong[i]);
    }
}

START_TEST(each_option_with_structure)
{
    const struct row *row = &rows[_i];
    if (row->type == PREFIX) {
        check_prefix(row);
    } else if (row->type == PREFIXES) {
        check_prefixes(row);
    } else if (row->type == HAVE) {
        check_have(row);
    }
}
END_TEST

START_TEST(lists_have_limits)
{
    char more[70100];
    snprintf(more, sizeof more, "'tool_calls': %s", items_of(128, "'c'"));
    ck_assert_uint_eq(parse_all(WIRE_METHOD_APPEND, "", more), STATUS_OK);
    snprintf(more, sizeof more, "'tool_calls': %s", items_of(129, "'c'"));
    ck_assert_uint_eq(parse_all(WIRE_METHOD_APPEND, "", more), STATUS_BAD_REQUEST);
    ck_assert_str_eq(error.option, "tool_calls");
    snprintf(more, sizeof more, "'threads': %s", items_of(4096, "'c'"));
    ck_assert_uint_eq(parse_all(WIRE_METHOD_TOUCH, "threads", more), STATUS_OK);
    ck_assert_uint_eq(request.threads.count, 4096);
    snprintf(more, sizeof more, "'threads': %s", items_of(4097, "'c'"));
    ck_assert_uint_eq(parse_all(WIRE_METHOD_TOUCH, "threads", more), STATUS_BAD_REQUEST);
    ck_assert_str_eq(error.option, "threads");
}
END_TEST

START_TEST(lists_are_walked_in_order)
{
    ck_assert_uint_eq(parse_all(WIRE_METHOD_TOUCH, "threads", "'threads': ['a', b'\\xff', s(255)]"),
                      STATUS_OK);
    struct wire_list list = request.threads;
    struct bytes id;
    ck_assert(wire_list_next(&list, &id) && bytes_equal(id, bytes_text("a")));
    ck_assert(wire_list_next(&list, &id) && bytes_equal(id, bytes_text("\xff")));
    ck_assert(wire_list_next(&list, &id) && id.size == 255 && id.data[254] == 'x');
    ck_assert(!wire_list_next(&list, &id));
    ck_assert(!wire_list_next(&list, &id));
    struct wire_list none = {.count = 0};
    enum wire_kind kind;
    ck_assert(!wire_list_next(&none, &id) && !wire_kind_next(&none, &kind));
}
END_TEST

START_TEST(prefixes_are_walked_in_order)
{
    struct bytes prefix;
    ck_assert_uint_eq(parse_all(WIRE_METHOD_REPLAY, "thread", "'prefix': b'abcdefghijklmnop'"),
                      STATUS_OK);
    ck_assert(!request.prefix_is_list);
    struct wire_list list = request.prefix_list;
    ck_assert_uint_eq(list.count, 1);
    ck_assert(wire_list_next(&list, &prefix) && bytes_equal(prefix, request.prefix));
    ck_assert(bytes_equal(prefix, bytes_text("abcdefghijklmnop")));
    ck_assert(!wire_list_next(&list, &prefix));

    ck_assert_uint_eq(parse_all(WIRE_METHOD_REPLAY, "thread",
                                "'touch': false, 'prefix': ['0123456789abcdef', b(16)], "
                                "'last': 2"),
                      STATUS_OK);
    ck_assert(request.prefix_is_list);
    ck_assert(bytes_equal(request.prefix, bytes_text("0123456789abcdef")));
    list = request.prefix_list;
    ck_assert(wire_list_next(&list, &prefix) && bytes_equal(prefix, request.prefix));
    ck_assert(wire_list_next(&list, &prefix));
    ck_assert(bytes_equal(prefix, bytes_text("xxxxxxxxxxxxxxxx")));
    ck_assert(!wire_list_next(&list, &prefix) && list.encoded.size == 0);
}
END_TEST

START_TEST(pairs_are_walked_in_order)
{
    uint64_t step;
    struct bytes prefix;
    ck_assert_uint_eq(parse_all(WIRE_METHOD_REPLAY, "",
                                "'prefixes': [[7, '0123456789abcdef'], [300, b(16)], "
                                "[9223372036854775807, b(16)], [0, s(16)]]"),
                      STATUS_OK);
    struct wire_list pairs = request.prefixes;
    ck_assert(wire_pair_next(&pairs, &step, &prefix) && step == 7);
    ck_assert(bytes_equal(prefix, bytes_text("0123456789abcdef")));
    ck_assert(wire_pair_next(&pairs, &step, &prefix) && step == 300);
    ck_assert(bytes_equal(prefix, bytes_text("xxxxxxxxxxxxxxxx")));
    ck_assert(wire_pair_next(&pairs, &step, &prefix) && step == INT64_MAX);
    ck_assert(wire_pair_next(&pairs, &step, &prefix) && step == 0);
    ck_assert(!wire_pair_next(&pairs, &step, &prefix) && pairs.encoded.size == 0);
    ck_assert(!wire_pair_next(&pairs, &step, &prefix));
    struct wire_list none = {.count = 0};
    ck_assert(!wire_pair_next(&none, &step, &prefix));
}
END_TEST

START_TEST(kept_steps_are_walked_in_order)
{
    uint64_t step;
    ck_assert_uint_eq(parse_all(WIRE_METHOD_REPLAY, "",
                                "'have': {'kept': [0, 1, 127, 128, 70000, 9223372036854775807], "
                                "'version': 4, 'step': 9223372036854775807}"),
                      STATUS_OK);
    ck_assert_uint_eq(request.have.version, 4);
    ck_assert_int_eq(request.have.step, INT64_MAX);
    struct wire_list kept = request.have.kept;
    static const uint64_t steps[] = {0, 1, 127, 128, 70000, INT64_MAX};
    for (size_t i = 0; i < COUNT(steps); i++) {
        ck_assert(wire_step_next(&kept, &step) && step == steps[i]);
    }
    ck_assert(!wire_step_next(&kept, &step) && kept.encoded.size == 0);
    ck_assert(!wire_step_next(&kept, &step));
    struct wire_list none = {.count = 0};
    ck_assert(!wire_step_next(&none, &step));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("option lists");
    TCase *tcase = tcase_create("table");
    tcase_add_loop_test(tcase, each_option_with_structure, 0, ROWS);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("lists");
    tcase_add_test(tcase, lists_have_limits);
    tcase_add_test(tcase, lists_are_walked_in_order);
    tcase_add_test(tcase, prefixes_are_walked_in_order);
    tcase_add_test(tcase, pairs_are_walked_in_order);
    tcase_add_test(tcase, kept_steps_are_walked_in_order);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
