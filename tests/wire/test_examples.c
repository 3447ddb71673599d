/*
 * The hex of schema/wire.md: it is what its notation says, by msgpack-c's judgement, its requests
 * parse, and its answers are what the writer makes of them. What a server really answers to them is
 * tested in tests/server/test_dispatch_contract.c.
 */
#include "tests/lib/examples.h"
#include "tests/lib/notation.h"
#include "wire/compose.h"
#include "wire/cursor.h"
#include "wire/parse.h"

#include <check.h>
#include <stdlib.h>

static const struct example *examples;
static unsigned count;

static struct bytes body_of(const struct example *example)
{
    struct bytes body = {0};
    uint64_t need;
    enum wire_frame frame =
        wire_frame_next(bytes_of(example->frame, example->frame_bytes), 1 << 20, &body, &need);
    ck_assert_msg(frame == WIRE_FRAME_WHOLE && need == example->frame_bytes,
                  "wire.md:%u: not exactly one frame", example->line);
    ck_assert_msg(wire_walk(body), "wire.md:%u: not one sound object", example->line);
    return body;
}

START_TEST(hex_says_what_the_notation_says)
{
    for (unsigned i = 0; i < count; i++) {
        struct bytes body = body_of(&examples[i]);
        struct bytes meant = notation_encode(examples[i].notation);
        char *said = notation_decode(body);
        ck_assert_msg(said != NULL, "wire.md:%u: msgpack-c does not take it", examples[i].line);
        ck_assert_msg(bytes_equal(body, meant), "wire.md:%u: the hex says %s", examples[i].line,
                      said);
        free(said);
        free((void *)meant.data);
    }
}
END_TEST

static bool is_request(const struct example *example)
{
    return body_of(example).data[1] == 0;
}

START_TEST(requests_parse)
{
    static struct wire_request request;
    unsigned seen[WIRE_METHOD_COUNT] = {0};
    for (unsigned i = 0; i < count; i++) {
        struct wire_error error = {0};
        bool has_msgid;
        if (!is_request(&examples[i])) {
            continue;
        }
        enum status status = wire_parse(body_of(&examples[i]), &request, &has_msgid, &error);
        ck_assert(has_msgid);
        if (i + 1 < count && strstr(examples[i + 1].notation, "bad_request") != NULL) {
            ck_assert_uint_eq(status, STATUS_BAD_REQUEST);
            continue;
        }
        ck_assert_msg(status == STATUS_OK, "wire.md:%u: %s", examples[i].line, error.message);
        seen[request.method]++;
    }
    for (unsigned m = 0; m < WIRE_METHOD_COUNT; m++) {
        ck_assert_msg(seen[m] > 0, "wire.md shows no %s", wire_method_name((enum wire_method)m));
    }
}
END_TEST

/* Each answer stands behind its request, and no example is left without one, but info. */
START_TEST(answers_follow_their_requests)
{
    for (unsigned i = 0; i < count; i++) {
        struct wire_cursor cursor = wire_cursor_on(body_of(&examples[i]));
        struct wire_item item;
        ck_assert(wire_take(&cursor, &item) && item.type == WIRE_ITEM_ARRAY && item.count == 4);
        ck_assert(wire_take(&cursor, &item) && wire_take(&cursor, &item));
        static uint64_t msgid;
        if (is_request(&examples[i])) {
            ck_assert_msg(item.number > msgid, "wire.md:%u: msgids grow", examples[i].line);
            msgid = item.number;
            ck_assert(i + 1 == count || !is_request(&examples[i + 1]));
        } else {
            ck_assert_msg(item.number == msgid, "wire.md:%u: another msgid", examples[i].line);
        }
    }
}
END_TEST

/* Writes an item as our writer would. Of ids, models and payloads only the first form is used. */
static void rewrite(struct wire_cursor *cursor, struct wire_writer *writer)
{
    struct wire_item item;
    char text[256];
    ck_assert(wire_take(cursor, &item));
    switch (item.type) {
    case WIRE_ITEM_NIL:
        wire_put_nil(writer);
        break;
    case WIRE_ITEM_BOOL:
        wire_put_bool(writer, item.number != 0);
        break;
    case WIRE_ITEM_UINT:
        wire_put_u64(writer, item.number);
        break;
    case WIRE_ITEM_STR:
        ck_assert_uint_lt(item.bytes.size, sizeof text);
        memcpy(text, item.bytes.data, item.bytes.size);
        text[item.bytes.size] = '\0';
        wire_put_text(writer, text);
        break;
    case WIRE_ITEM_BIN:
        wire_put_bin(writer, item.bytes);
        break;
    case WIRE_ITEM_ARRAY:
        wire_put_array(writer, item.count);
        for (uint32_t i = 0; i < item.count; i++) {
            rewrite(cursor, writer);
        }
        break;
    case WIRE_ITEM_MAP:
        wire_put_map(writer, item.count);
        for (uint32_t i = 0; i < 2 * item.count; i++) {
            rewrite(cursor, writer);
        }
        break;
    default:
        ck_abort_msg("an item that answers do not have");
    }
}

START_TEST(answers_are_in_the_writers_form)
{
    unsigned answers = 0;
    for (unsigned i = 0; i < count; i++) {
        uint8_t buffer[EXAMPLE_BYTES_MAX];
        if (is_request(&examples[i])) {
            continue;
        }
        struct bytes body = body_of(&examples[i]);
        struct wire_cursor cursor = wire_cursor_on(body);
        struct wire_writer writer = wire_writer_on(buffer, sizeof buffer);
        rewrite(&cursor, &writer);
        ck_assert(!writer.overflow);
        struct bytes written = bytes_of(buffer, (size_t)(writer.at - buffer));
        ck_assert_msg(bytes_equal(written, body), "wire.md:%u", examples[i].line);
        answers++;
    }
    ck_assert_uint_ge(answers, 20);
}
END_TEST

int main(void)
{
    count = examples_read("schema/wire.md", &examples);
    Suite *suite = suite_create("examples");
    TCase *tcase = tcase_create("wire.md");
    tcase_add_test(tcase, hex_says_what_the_notation_says);
    tcase_add_test(tcase, requests_parse);
    tcase_add_test(tcase, answers_follow_their_requests);
    tcase_add_test(tcase, answers_are_in_the_writers_form);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
