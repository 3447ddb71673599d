/* The writer, judged by msgpack-c: the same bytes as its packer, and what its unpacker reads. */
#include "tests/lib/notation.h"
#include "tests/lib/trial.h"
#include "wire/compose.h"
#include "wire/cursor.h"

#include <check.h>
#include <msgpack.h>
#include <stdlib.h>

static msgpack_sbuffer expected;
static msgpack_packer packer;
static uint8_t buffer[1 << 18];
static struct wire_writer writer;

static void begin(void)
{
    msgpack_sbuffer_init(&expected);
    msgpack_packer_init(&packer, &expected, msgpack_sbuffer_write);
    writer = wire_writer_on(buffer, sizeof buffer);
}

static void end(void)
{
    msgpack_sbuffer_destroy(&expected);
}

static void compare(void)
{
    size_t size = (size_t)(writer.at - buffer);
    ck_assert(!writer.overflow);
    ck_assert_uint_eq(size, expected.size);
    ck_assert_mem_eq(buffer, expected.data, size);
    writer = wire_writer_on(buffer, sizeof buffer);
    expected.size = 0;
}

START_TEST(integers_at_every_boundary)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        for (int off = -2; off <= 2; off++) {
            uint64_t value = ((uint64_t)1 << bit) + (uint64_t)(int64_t)off;
            wire_put_u64(&writer, value);
            msgpack_pack_uint64(&packer, value);
            wire_put_i64(&writer, (int64_t)value);
            msgpack_pack_int64(&packer, (int64_t)value);
            wire_put_i64(&writer, (int64_t)(0 - value));
            msgpack_pack_int64(&packer, (int64_t)(0 - value));
            compare();
        }
    }
}
END_TEST

START_TEST(random_integers)
{
    uint64_t seed = 2;
    for (uint64_t i = 0; i < trial_count(100000); i++) {
        uint64_t value = trial_random(&seed) >> trial_below(&seed, 64);
        wire_put_u64(&writer, value);
        msgpack_pack_uint64(&packer, value);
        wire_put_i64(&writer, (int64_t)(0 - value));
        msgpack_pack_int64(&packer, (int64_t)(0 - value));
        compare();
    }
}
END_TEST

static const uint32_t sizes[] = {0, 1, 15, 16, 31, 32, 33, 255, 256, 257, 65535, 65536, 70000};

START_TEST(strings_and_containers_of_every_width)
{
    static char text[70001];
    uint32_t size = sizes[_i];
    memset(text, 'x', size);
    text[size] = '\0';
    if (size <= UINT16_MAX) {
        wire_put_text(&writer, text);
        msgpack_pack_str(&packer, size);
        msgpack_pack_str_body(&packer, text, size);
        compare();
    }
    wire_put_bin(&writer, bytes_of(text, size));
    msgpack_pack_bin(&packer, size);
    msgpack_pack_bin_body(&packer, text, size);
    compare();
    wire_put_array(&writer, size);
    msgpack_pack_array(&packer, size);
    wire_put_map(&writer, size);
    msgpack_pack_map(&packer, size);
    wire_put_nil(&writer);
    msgpack_pack_nil(&packer);
    wire_put_bool(&writer, true);
    msgpack_pack_true(&packer);
    wire_put_bool(&writer, false);
    msgpack_pack_false(&packer);
    compare();
}
END_TEST

/* A buffer of every size below the need: overflow is told, the byte behind stays. */
START_TEST(no_write_past_the_end)
{
    struct wire_error error;
    wire_fail(&error, STATUS_CONFLICT, "expect", "%s", "the thread has another version");
    error.version = 12;
    error.cause = "version";
    error.reason = REASON_EXPIRED;
    wire_put_error(&writer, true, 7, &error);
    size_t need = (size_t)(writer.at - buffer);
    for (size_t size = 0; size <= need; size++) {
        uint8_t *exact = malloc(size + 1); /* AddressSanitizer watches the end, and so do we */
        exact[size] = 0x5A;
        struct wire_writer small = wire_writer_on(exact, size);
        wire_put_error(&small, true, 7, &error);
        ck_assert(small.overflow == (size < need));
        ck_assert_uint_eq(exact[size], 0x5A);
        free(exact);
    }
}
END_TEST

static void check_frame(const char *text)
{
    size_t size = (size_t)(writer.at - buffer);
    ck_assert(!writer.overflow);
    ck_assert_uint_ge(size, WIRE_HEADER_BYTES);
    ck_assert_uint_eq(buffer[0], WIRE_HEADER_MARK);
    ck_assert_uint_eq(bytes_load_be32(buffer + 1), size - WIRE_HEADER_BYTES);
    struct bytes body = bytes_of(buffer + WIRE_HEADER_BYTES, size - WIRE_HEADER_BYTES);
    ck_assert(wire_walk(body));
    char *decoded = notation_decode(body);
    ck_assert_ptr_nonnull(decoded);
    ck_assert_str_eq(decoded, text);
    free(decoded);
    writer = wire_writer_on(buffer, sizeof buffer);
}

START_TEST(errors)
{
    struct wire_error error;
    wire_fail(&error, STATUS_BAD_REQUEST, "", "no %d", 7);
    wire_put_error(&writer, false, 0, &error);
    check_frame("[1, nil, {\"code\": \"bad_request\", \"message\": \"no 7\"}, nil]");
    wire_fail(&error, STATUS_CONFLICT, "", "other");
    error.version = 0;
    error.cause = "exists";
    wire_put_error(&writer, true, UINT32_MAX, &error);
    check_frame("[1, 4294967295, {\"code\": \"conflict\", \"message\": \"other\", "
                "\"version\": 0, \"cause\": \"exists\"}, nil]");
    wire_fail(&error, STATUS_NOT_FOUND, "from", "gone");
    error.reason = REASON_EVICTED;
    wire_put_error(&writer, true, 0, &error);
    check_frame("[1, 0, {\"code\": \"not_found\", \"message\": \"gone\", "
                "\"option\": \"from\", \"reason\": \"evicted\"}, nil]");
}
END_TEST

START_TEST(the_longest_error_fits)
{
    static char option[200];
    memset(option, 'o', sizeof option - 1);
    struct wire_error error;
    wire_fail(&error, STATUS_UNKNOWN_METHOD, option, "%0500d", 1);
    error.version = INT64_MAX;
    error.cause = "claimed";
    error.reason = REASON_PREFIX_MISMATCH;
    ck_assert_uint_eq(strlen(error.option), sizeof error.option - 1);
    ck_assert_uint_eq(strlen(error.message), sizeof error.message - 1);
    wire_put_error(&writer, true, UINT32_MAX, &error);
    ck_assert(!writer.overflow);
    ck_assert_uint_le((size_t)(writer.at - buffer), WIRE_ERROR_FRAME_BYTES_MAX);
}
END_TEST

START_TEST(responses)
{
    uint8_t *frame = wire_begin_response(&writer, 300, 2);
    wire_put_map(&writer, 1);
    wire_put_text(&writer, "n");
    wire_put_i64(&writer, -5);
    wire_put_bin_header(&writer, 3);
    wire_put_raw(&writer, bytes_text("abc"));
    wire_put_bin_header(&writer, 1);
    wire_end_frame(&writer, frame, 1); /* the last byte goes out by itself */
    *writer.at++ = 'z';
    check_frame("[1, 300, nil, [{\"n\": -5}, b\"abc\", b\"z\"]]");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("compose");
    TCase *tcase = tcase_create("compose");
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, integers_at_every_boundary);
    tcase_add_test(tcase, random_integers);
    tcase_add_loop_test(tcase, strings_and_containers_of_every_width, 0,
                        sizeof sizes / sizeof sizes[0]);
    tcase_add_test(tcase, no_write_past_the_end);
    tcase_add_test(tcase, errors);
    tcase_add_test(tcase, the_longest_error_fits);
    tcase_add_test(tcase, responses);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
