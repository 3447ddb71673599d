/* Token ids come back exactly, take no more than their width, and no byte beside them is touched.
 */
#include "store/tokens.h"

#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

enum { COUNT_MAX = 5000 };

static uint8_t ids[COUNT_MAX * TOKENS_ID_BYTES];

/* Ids of up to `bits` bits, one of them of just so many. */
static struct bytes make_ids(size_t count, unsigned bits, uint64_t *state)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t id = trial_random(state) & ((UINT64_C(1) << bits) - 1);
        for (unsigned b = 0; b < TOKENS_ID_BYTES; b++) {
            ids[i * TOKENS_ID_BYTES + b] = (uint8_t)(id >> 8 * b);
        }
    }
    if (count > 0 && bits > 0) {
        size_t at = trial_below(state, count) * TOKENS_ID_BYTES;
        ids[at + (bits - 1) / 8] |= (uint8_t)(1U << (bits - 1) % 8);
    }
    return bytes_of(ids, count * TOKENS_ID_BYTES);
}

/* In allocations that end where they end. */
static void round_trip(struct bytes run, unsigned width)
{
    size_t count = run.size / TOKENS_ID_BYTES, size = tokens_packed_bytes(count, width);
    uint8_t *packed = malloc(size + 1), *back = malloc(run.size + 1);
    ck_assert(packed && back);
    packed[size] = back[run.size] = 0xA5;
    ck_assert_uint_eq(size, 2 * count + (count * (width - 16) + 7) / 8);
    ck_assert_uint_le(size, run.size);
    ck_assert_ptr_eq(tokens_pack(packed, run, width), packed + size);
    ck_assert_uint_eq(packed[size], 0xA5);
    tokens_unpack(back, count, packed, width);
    ck_assert_uint_eq(back[run.size], 0xA5);
    ck_assert(bytes_equal(bytes_of(back, run.size), run));
    /* From the end of where it goes to. */
    memmove(back + run.size - size, packed, size);
    tokens_unpack(back, count, back + run.size - size, width);
    ck_assert(bytes_equal(bytes_of(back, run.size), run));
    free(packed);
    free(back);
}

START_TEST(every_width_and_length)
{
    static const size_t counts[] = {0,    1,    2,    3,    5,    7,    8,    9,    63,       1022,
                                    1023, 1024, 1025, 1031, 2047, 2048, 2049, 3333, COUNT_MAX};
    uint64_t state = 1;
    for (unsigned bits = 1; bits <= 32; bits++) {
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            struct bytes run = make_ids(counts[i], bits, &state);
            unsigned width = tokens_width(run);
            ck_assert_uint_eq(width, counts[i] == 0 || bits < 16 ? 16 : bits);
            for (; width <= TOKENS_WIDTH_MAX; width++) {
                round_trip(run, width);
            }
        }
    }
}
END_TEST

START_TEST(the_largest_id_is_exact)
{
    memset(ids, 0xFF, sizeof ids);
    struct bytes run = bytes_of(ids, sizeof ids);
    ck_assert_uint_eq(tokens_width(run), 32);
    round_trip(run, 32);
    ck_assert_uint_eq(tokens_packed_bytes(COUNT_MAX, 32), sizeof ids);
    memset(ids, 0, sizeof ids);
    ids[400] = ids[401] = ids[402] = ids[403] = 0xFF;
    ck_assert_uint_eq(tokens_width(run), 32);
    round_trip(run, 32);
}
END_TEST

/* These bytes are on disk: 1, 0x1FFFF, 0x2ABCD and 0x10000 at 18 bits. */
START_TEST(the_layout_is_what_it_was)
{
    static const uint8_t run[] = {1, 0, 0, 0, 0xFF, 0xFF, 1, 0, 0xCD, 0xAB, 2, 0, 0, 0, 1, 0};
    static const uint8_t meant[] = {0, 1, 0xFF, 0xFF, 0xAB, 0xCD, 0, 0, 0x19};
    uint8_t packed[sizeof meant];
    ck_assert_uint_eq(tokens_width(bytes_of(run, sizeof run)), 18);
    ck_assert_uint_eq(tokens_packed_bytes(4, 18), sizeof meant);
    tokens_pack(packed, bytes_of(run, sizeof run), 18);
    ck_assert_mem_eq(packed, meant, sizeof meant);
}
END_TEST

/* The second block begins anew: what is in it does not depend on the first. */
START_TEST(blocks_stand_alone)
{
    uint64_t state = 2;
    size_t first = TOKENS_BLOCK * TOKENS_ID_BYTES, size = tokens_packed_bytes(TOKENS_BLOCK, 18);
    struct bytes run = make_ids(TOKENS_BLOCK + 10, 18, &state);
    struct bytes rest = bytes_of(run.data + first, run.size - first);
    uint8_t whole[8192], alone[64];
    uint8_t *end = tokens_pack(whole, run, 18);
    uint8_t *alone_end = tokens_pack(alone, rest, 18);
    ck_assert_int_eq(end - (whole + size), alone_end - alone);
    ck_assert_mem_eq(whole + size, alone, (size_t)(alone_end - alone));
}
END_TEST

/* Whatever the bytes are, they are ids of that width. */
START_TEST(any_bytes_give_ids)
{
    uint64_t state = 3;
    for (uint64_t i = 0; i < trial_count(3000); i++) {
        unsigned width = 16 + (unsigned)trial_below(&state, 17);
        size_t count = (size_t)trial_below(&state, 1500);
        size_t size = tokens_packed_bytes(count, width);
        uint8_t *packed = malloc(size > 0 ? size : 1), *back = malloc(count * 4 + 1);
        ck_assert(packed && back);
        for (size_t at = 0; at < size; at++) {
            packed[at] = (uint8_t)trial_random(&state);
        }
        tokens_unpack(back, count, packed, width);
        ck_assert_uint_le(tokens_width(bytes_of(back, count * 4)), width);
        free(packed);
        free(back);
    }
}
END_TEST

int main(void)
{
    return SUITE_RUN("tokens", NULL, NULL, 60, every_width_and_length, the_largest_id_is_exact,
                     the_layout_is_what_it_was, blocks_stand_alone, any_bytes_give_ids);
}
