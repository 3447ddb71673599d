/* The bounded cursor: against msgpack-c on what is well-formed, and at the edge on what is not. */
#include "tests/lib/edge.h"
#include "tests/lib/notation.h"
#include "tests/lib/trial.h"
#include "tests/wire/golden.h"
#include "wire/cursor.h"

#include <check.h>
#include <stdio.h>

static struct edge edge;

static void map_edge(void)
{
    edge = edge_map(1 << 16);
}

static void unmap_edge(void)
{
    edge_unmap(&edge);
}

/* Reads hex text ("dd ff") to the edge. */
static struct bytes hex(const char *text)
{
    uint8_t bytes[256];
    size_t size = 0;
    unsigned byte;
    int used;
    while (sscanf(text, " %2x%n", &byte, &used) == 1) {
        bytes[size++] = (uint8_t)byte;
        text += used;
    }
    return edge_put(&edge, bytes_of(bytes, size));
}

static const struct {
    const char *hex;
    enum wire_item_type type;
    uint64_t number;
} integers[] = {
    {"00", WIRE_ITEM_UINT, 0},
    {"7f", WIRE_ITEM_UINT, 127},
    {"e0", WIRE_ITEM_NEGATIVE, (uint64_t)-32},
    {"ff", WIRE_ITEM_NEGATIVE, (uint64_t)-1},
    {"cc 00", WIRE_ITEM_UINT, 0},
    {"cc ff", WIRE_ITEM_UINT, 255},
    {"cd 00 05", WIRE_ITEM_UINT, 5},
    {"cd ff ff", WIRE_ITEM_UINT, 65535},
    {"ce 00 00 00 05", WIRE_ITEM_UINT, 5},
    {"ce ff ff ff ff", WIRE_ITEM_UINT, UINT32_MAX},
    {"cf 00 00 00 00 00 00 00 05", WIRE_ITEM_UINT, 5},
    {"cf ff ff ff ff ff ff ff ff", WIRE_ITEM_UINT, UINT64_MAX},
    {"d0 05", WIRE_ITEM_UINT, 5},
    {"d0 80", WIRE_ITEM_NEGATIVE, (uint64_t)-128},
    {"d1 00 05", WIRE_ITEM_UINT, 5},
    {"d1 ff ff", WIRE_ITEM_NEGATIVE, (uint64_t)-1},
    {"d2 00 00 00 05", WIRE_ITEM_UINT, 5},
    {"d2 80 00 00 00", WIRE_ITEM_NEGATIVE, (uint64_t)INT32_MIN},
    {"d3 00 00 00 00 00 00 00 05", WIRE_ITEM_UINT, 5},
    {"d3 7f ff ff ff ff ff ff ff", WIRE_ITEM_UINT, INT64_MAX},
    {"d3 80 00 00 00 00 00 00 00", WIRE_ITEM_NEGATIVE, (uint64_t)INT64_MIN},
};

START_TEST(every_encoding_of_an_integer)
{
    struct bytes bytes = hex(integers[_i].hex);
    struct wire_cursor cursor = wire_cursor_on(bytes);
    struct wire_item item;
    ck_assert(wire_take(&cursor, &item));
    ck_assert_uint_eq(item.type, integers[_i].type);
    ck_assert_uint_eq(item.number, integers[_i].number);
    ck_assert_uint_eq(wire_left(&cursor), 0);
    for (size_t size = 0; size < bytes.size; size++) { /* cut short: refused, nothing moves */
        struct bytes cut = edge_put(&edge, hex(integers[_i].hex));
        cut = edge_put(&edge, bytes_of(cut.data, size));
        cursor = wire_cursor_on(cut);
        ck_assert(!wire_take(&cursor, &item));
        ck_assert_uint_eq(wire_left(&cursor), size);
    }
}
END_TEST

static const struct {
    const char *hex;
    enum wire_item_type type;
    size_t size;
} contents[] = {
    {"a0", WIRE_ITEM_STR, 0},
    {"a3 61 62 63", WIRE_ITEM_STR, 3},
    {"d9 01 61", WIRE_ITEM_STR, 1},
    {"da 00 02 61 62", WIRE_ITEM_STR, 2},
    {"db 00 00 00 01 61", WIRE_ITEM_STR, 1},
    {"c4 00", WIRE_ITEM_BIN, 0},
    {"c4 01 61", WIRE_ITEM_BIN, 1},
    {"c5 00 01 61", WIRE_ITEM_BIN, 1},
    {"c6 00 00 00 01 61", WIRE_ITEM_BIN, 1},
    {"c7 02 05 61 62", WIRE_ITEM_EXT, 2},
    {"c8 00 01 05 61", WIRE_ITEM_EXT, 1},
    {"c9 00 00 00 01 05 61", WIRE_ITEM_EXT, 1},
    {"d4 05 61", WIRE_ITEM_EXT, 1},
    {"d5 05 61 62", WIRE_ITEM_EXT, 2},
    {"d6 05 61 62 63 64", WIRE_ITEM_EXT, 4},
    {"d7 05 61 62 63 64 65 66 67 68", WIRE_ITEM_EXT, 8},
    {"d8 05 61 62 63 64 65 66 67 68 61 62 63 64 65 66 67 68", WIRE_ITEM_EXT, 16},
    {"ca 3f 80 00 00", WIRE_ITEM_FLOAT, 4},
    {"cb 3f f0 00 00 00 00 00 00", WIRE_ITEM_FLOAT, 8},
};

START_TEST(every_form_with_content)
{
    struct bytes bytes = hex(contents[_i].hex);
    struct wire_cursor cursor = wire_cursor_on(bytes);
    struct wire_item item;
    ck_assert(wire_take(&cursor, &item));
    ck_assert_uint_eq(item.type, contents[_i].type);
    ck_assert_uint_eq(item.bytes.size, contents[_i].size);
    ck_assert_ptr_eq(item.bytes.data + item.bytes.size, bytes.data + bytes.size);
    for (size_t size = 0; size < bytes.size; size++) {
        struct bytes cut = edge_put(&edge, bytes_of(hex(contents[_i].hex).data, size));
        cursor = wire_cursor_on(cut);
        ck_assert(!wire_take(&cursor, &item));
        ck_assert_uint_eq(wire_left(&cursor), size);
    }
}
END_TEST

START_TEST(nil_and_booleans)
{
    struct wire_cursor cursor = wire_cursor_on(hex("c0 c2 c3"));
    struct wire_item item;
    ck_assert(wire_take(&cursor, &item) && item.type == WIRE_ITEM_NIL);
    ck_assert(wire_take(&cursor, &item) && item.type == WIRE_ITEM_BOOL && item.number == 0);
    ck_assert(wire_take(&cursor, &item) && item.type == WIRE_ITEM_BOOL && item.number == 1);
    ck_assert(!wire_take(&cursor, &item));
}
END_TEST

static const struct {
    const char *hex;
    bool sound;
} objects[] = {
    {"", false},
    {"c1", false},
    {"c0", true},
    {"c0 c0", false},
    {"90", true},
    {"91", false},
    {"91 90", true},
    {"82 a1 61 01 a1 62", false},
    {"82 a1 61 01 a1 62 02", true},
    /* Arrays and maps that declare what is not there. */
    {"dc ff ff", false},
    {"dd ff ff ff ff", false},
    {"dd 04 00 00 00 c0", false},
    {"df ff ff ff ff", false},
    {"df 80 00 00 00 c0 c0", false},
    {"dd 00 00 00 01 c0", true},
    /* Strings beyond the end, 4 GiB included. */
    {"db ff ff ff ff", false},
    {"c6 ff ff ff ff 00", false},
    {"c9 ff ff ff ff 00", false},
    /* Eight levels are allowed, nine are not, even if the last is empty. */
    {"91 91 91 91 91 91 91 91 c0", true},
    {"91 91 91 91 91 91 91 90", true},
    {"91 91 91 91 91 91 91 91 90", false},
    {"91 91 91 91 91 91 91 91 91 c0", false},
    {"81 c0 81 c0 81 c0 81 c0 81 c0 81 c0 81 c0 81 c0 c0", true},
    {"81 c0 81 c0 81 c0 81 c0 81 c0 81 c0 81 c0 81 c0 80", false},
    /* Each count is below the bytes behind it, but not all of them together. */
    {"94 93 93 93 c0 c0 c0 c0", false},
};

START_TEST(whole_objects)
{
    ck_assert_msg(wire_walk(hex(objects[_i].hex)) == objects[_i].sound, "%s", objects[_i].hex);
}
END_TEST

/* 64 KiB of array headers that each declare 64 Ki items: refused at once. */
START_TEST(nesting_bombs)
{
    static uint8_t bomb[1 << 16];
    memset(bomb, 0x91, sizeof bomb);
    ck_assert(!wire_walk(edge_put(&edge, bytes_of(bomb, sizeof bomb))));
    for (size_t i = 0; i + 3 <= sizeof bomb; i += 3) {
        memcpy(bomb + i, "\xdc\xff\xff", 3);
    }
    ck_assert(!wire_walk(edge_put(&edge, bytes_of(bomb, sizeof bomb))));
}
END_TEST

START_TEST(golden_requests_are_whole_objects)
{
    struct bytes bytes = notation_encode(golden[_i]);
    ck_assert(wire_walk(edge_put(&edge, bytes)));
    for (size_t size = 0; size < bytes.size; size++) {
        ck_assert(!wire_walk(edge_put(&edge, bytes_of(bytes.data, size))));
    }
    free((void *)bytes.data);
}
END_TEST

/* What the walk lets through, msgpack-c takes too, and allocates no more than it can bear. */
START_TEST(random_bytes_that_pass_are_sound)
{
    uint64_t seed = 1;
    uint64_t passed = 0;
    for (uint64_t round = 0; round < trial_count(200000); round++) {
        uint8_t bytes[24];
        size_t size = trial_below(&seed, sizeof bytes + 1);
        for (size_t i = 0; i < size; i++) {
            /* Mostly containers and short scalars: what random bytes rarely make. */
            static const uint8_t marks[] = {0x91, 0x92, 0x81, 0xC0, 0x01, 0xA1, 0xC4, 0xDC, 0xDE};
            uint64_t pick = trial_random(&seed);
            bytes[i] = pick % 3 == 0 ? (uint8_t)(pick >> 8) : marks[(pick >> 8) % sizeof marks];
        }
        if (wire_walk(edge_put(&edge, bytes_of(bytes, size)))) {
            char *text = notation_decode(bytes_of(bytes, size));
            ck_assert_ptr_nonnull(text);
            free(text);
            passed++;
        }
    }
    ck_assert_uint_gt(passed, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cursor");
    TCase *tcase = tcase_create("items");
    tcase_add_checked_fixture(tcase, map_edge, unmap_edge);
    tcase_add_loop_test(tcase, every_encoding_of_an_integer, 0,
                        sizeof integers / sizeof integers[0]);
    tcase_add_loop_test(tcase, every_form_with_content, 0, sizeof contents / sizeof contents[0]);
    tcase_add_test(tcase, nil_and_booleans);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("walk");
    tcase_add_checked_fixture(tcase, map_edge, unmap_edge);
    tcase_add_loop_test(tcase, whole_objects, 0, sizeof objects / sizeof objects[0]);
    tcase_add_test(tcase, nesting_bombs);
    tcase_add_loop_test(tcase, golden_requests_are_whole_objects, 0, GOLDEN_COUNT);
    tcase_add_test(tcase, random_bytes_that_pass_are_sound);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
