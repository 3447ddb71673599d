/* Seals refuse every change; heads and recalls come back as they were, and never from too little.
 */
#include "tests/store/test_record.h"

enum { BODY_MAX = RECORD_VALUE_MAX - RECORD_SEAL_BYTES };

/* A sealed value with a body of `size` bytes of noise. */
static size_t sealed(uint8_t *value, size_t size, struct bytes key)
{
    record_put_bytes(value + RECORD_SEAL_BYTES, bytes_of(noise, size));
    record_seal(value, RECORD_SEAL_BYTES + size, key, RECORD_CHUNK);
    return RECORD_SEAL_BYTES + size;
}

START_TEST(sealed_values_come_back)
{
    static const size_t sizes[] = {0, 1, 8, 33, 240, 241, 1000, BODY_MAX};
    static const size_t key_sizes[] = {0, 1, 8, 14, 16, 511};
    uint8_t value[RECORD_VALUE_MAX];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t k = 0; k < sizeof key_sizes / sizeof *key_sizes; k++) {
            struct bytes key = bytes_of(noise + 5000, key_sizes[k]);
            struct bytes whole = snug(bytes_of(value, sealed(value, sizes[i], key)));
            struct bytes body = record_check(whole, key, RECORD_CHUNK);
            ck_assert_ptr_eq(body.data, whole.data + RECORD_SEAL_BYTES);
            ck_assert(bytes_equal(body, bytes_of(noise, sizes[i])));
            let_go(whole);
        }
    }
}
END_TEST

/* Every bit of value and key, every shorter value and key, every other kind. */
static void refuse_all(size_t body_bytes)
{
    uint8_t value[RECORD_VALUE_MAX], key[14];
    memcpy(key, noise + 9000, sizeof key);
    struct bytes whole_key = bytes_of(key, sizeof key);
    size_t size = sealed(value, body_bytes, whole_key);
    for (size_t bit = 0; bit < (size + sizeof key) * 8; bit++) {
        uint8_t *at = bit / 8 < size ? value + bit / 8 : key + (bit / 8 - size);
        *at ^= (uint8_t)(1U << bit % 8);
        ck_assert_ptr_null(record_check(bytes_of(value, size), whole_key, RECORD_CHUNK).data);
        *at ^= (uint8_t)(1U << bit % 8);
    }
    for (size_t cut = 0; cut < size; cut++) {
        struct bytes less = snug(bytes_of(value, cut));
        ck_assert_ptr_null(record_check(less, whole_key, RECORD_CHUNK).data);
        let_go(less);
    }
    for (size_t cut = 0; cut < sizeof key; cut++) {
        struct bytes less = bytes_of(key, cut);
        ck_assert_ptr_null(record_check(bytes_of(value, size), less, RECORD_CHUNK).data);
    }
    ck_assert_ptr_null(record_check(bytes_of(value, size), whole_key, RECORD_HEAD).data);
    ck_assert_ptr_nonnull(record_check(bytes_of(value, size), whole_key, RECORD_CHUNK).data);
}

START_TEST(every_flip_is_refused)
{
    refuse_all(0);
    refuse_all(3);
    refuse_all(18);
    refuse_all(200);
    refuse_all(1000);
}
END_TEST

START_TEST(every_byte_in_every_value_is_refused)
{
    uint8_t value[RECORD_SEAL_BYTES + 40];
    struct bytes key = bytes_text("0123456789abcdef");
    size_t size = sealed(value, 40, key);
    for (size_t at = 0; at < size; at++) {
        for (unsigned change = 1; change < 256; change++) {
            value[at] ^= (uint8_t)change;
            ck_assert_ptr_null(record_check(bytes_of(value, size), key, RECORD_CHUNK).data);
            value[at] ^= (uint8_t)change;
        }
    }
}
END_TEST

START_TEST(oversize_is_refused)
{
    static uint8_t value[RECORD_VALUE_MAX + 1];
    sealed(value, BODY_MAX, bytes_of(NULL, 0));
    struct bytes longer = bytes_of(value, sizeof value), long_key = bytes_of(noise, 512);
    ck_assert_ptr_null(record_check(longer, bytes_of(NULL, 0), RECORD_CHUNK).data);
    ck_assert_ptr_null(record_check(bytes_of(value, 100), long_key, RECORD_CHUNK).data);
}
END_TEST

START_TEST(newer_formats_are_known)
{
    uint8_t value[32];
    size_t size = sealed(value, 16, bytes_text("k"));
    ck_assert(!record_is_newer(bytes_of(value, size)));
    value[0] = RECORD_FORMAT + 1;
    ck_assert(record_is_newer(bytes_of(value, size)));
    ck_assert_ptr_null(record_check(bytes_of(value, size), bytes_text("k"), RECORD_CHUNK).data);
    ck_assert(!record_is_newer(bytes_of(value, RECORD_SEAL_BYTES - 1)));
}
END_TEST

/* Sealed as by whoever writes that format. */
static void seal_as(uint8_t *value, size_t size, struct bytes key, unsigned format)
{
    uint8_t whole[600];
    record_seal(value, size, key, RECORD_CHUNK);
    value[0] = (uint8_t)format;
    ck_assert_uint_le(key.size + size, sizeof whole);
    memcpy(whole, key.data, key.size);
    memcpy(whole + key.size, value, 8);
    memcpy(whole + key.size + 8, value + RECORD_SEAL_BYTES, size - RECORD_SEAL_BYTES);
    bytes_store_be64(value + 8, XXH3_64bits(whole, key.size + size - 8));
}

START_TEST(the_older_format_is_read)
{
    uint8_t value[64];
    struct bytes key = bytes_text("k");
    size_t size = sealed(value, 30, key);
    for (unsigned format = 0; format < 256; format++) {
        seal_as(value, size, key, format);
        struct bytes body = record_check(bytes_of(value, size), key, RECORD_CHUNK);
        ck_assert_int_eq(body.data != NULL, format == 1 || format == 2);
        ck_assert(!body.data || record_body_format(body) == format);
        ck_assert_int_eq(record_is_newer(bytes_of(value, size)), format > 2);
    }
}
END_TEST

/* Every field another value, or every field at its largest. */
static struct tier_head some_head(size_t id_bytes, bool largest)
{
    struct tier_head head = {.uid = 0x0102030405060708,
                             .name = {.low = 0x1112131415161718, .high = 0x2122232425262728},
                             .id = bytes_of(noise, id_bytes),
                             .tenant = 0x3132,
                             .lost_reason = REASON_EVICTED,
                             .length = 0x41424344,
                             .version = 0x51525354,
                             .lost = 0x31626364,
                             .lost_base = 0x71727374,
                             .shared = 0x81828384,
                             .appends = 0x91929394,
                             .floor = 0x95969798,
                             .created_ms = 0xA1A2A3A4A5A6A7A8,
                             .used_ms = 0xB1B2B3B4B5B6B7B8,
                             .ttl_ms = 0xC1C2C3C4C5C6C7C8,
                             .retention_ms = 0xD1D2D3D4D5D6D7D8,
                             .payload_bytes = 0xE1E2E3E4E5E6E7E8,
                             .tokens = 0xF1F2F3F4F5F6F7F8};
    if (largest) {
        head.uid = head.name.low = head.name.high = UINT64_MAX;
        head.tenant = UINT16_MAX;
        head.length = head.version = head.lost = head.lost_base = UINT32_MAX;
        head.shared = head.appends = head.floor = UINT32_MAX;
        head.lost_reason = REASON_COUNT - 1;
        head.created_ms = head.used_ms = head.ttl_ms = head.retention_ms = UINT64_MAX;
        head.payload_bytes = head.tokens = UINT64_MAX;
    }
    return head;
}

static void check_head(const struct tier_head *is, const struct tier_head *meant)
{
    ck_assert_uint_eq(is->uid, meant->uid);
    ck_assert_uint_eq(is->name.low, meant->name.low);
    ck_assert_uint_eq(is->name.high, meant->name.high);
    ck_assert(bytes_equal(is->id, meant->id));
    ck_assert_uint_eq(is->tenant, meant->tenant);
    ck_assert_uint_eq(is->lost_reason, meant->lost_reason);
    ck_assert_uint_eq(is->length, meant->length);
    ck_assert_uint_eq(is->version, meant->version);
    ck_assert_uint_eq(is->lost, meant->lost);
    ck_assert_uint_eq(is->lost_base, meant->lost_base);
    ck_assert_uint_eq(is->shared, meant->shared);
    ck_assert_uint_eq(is->appends, meant->appends);
    ck_assert_uint_eq(is->floor, meant->floor);
    ck_assert_uint_eq(is->created_ms, meant->created_ms);
    ck_assert_uint_eq(is->used_ms, meant->used_ms);
    ck_assert_uint_eq(is->ttl_ms, meant->ttl_ms);
    ck_assert_uint_eq(is->retention_ms, meant->retention_ms);
    ck_assert_uint_eq(is->payload_bytes, meant->payload_bytes);
    ck_assert_uint_eq(is->tokens, meant->tokens);
}

START_TEST(heads_come_back)
{
    static const size_t id_sizes[] = {0, 1, 36, 255};
    for (size_t i = 0; i < 8; i++) {
        struct tier_head head = some_head(id_sizes[i % 4], i >= 4), back;
        uint8_t body[512];
        size_t size = record_head_bytes(&head);
        memset(body, 0xEE, sizeof body);
        record_put_head(body, &head);
        ck_assert_uint_eq(body[size], 0xEE);
        struct bytes whole = snug(bytes_of(body, size));
        ck_assert(record_open_head(whole, RECORD_FORMAT, &back));
        check_head(&back, &head);
        let_go(whole);
        for (size_t cut = 0; cut < size; cut++) {
            whole = snug(bytes_of(body, cut));
            ck_assert(!record_open_head(whole, RECORD_FORMAT, &back));
            let_go(whole);
        }
        ck_assert(!record_open_head(bytes_of(body, size + 1), RECORD_FORMAT, &back));
    }
}
END_TEST

/* The same without its floor. */
START_TEST(heads_of_format_1_come_back)
{
    static const size_t id_sizes[] = {0, 1, 36, 255};
    for (size_t i = 0; i < 8; i++) {
        struct tier_head head = some_head(id_sizes[i % 4], i >= 4), back;
        uint8_t body[512];
        size_t size = record_head_bytes(&head) - 4;
        record_put_head(body, &head);
        memmove(body + 100, body + 104, head.id.size);
        head.floor = 0;
        struct bytes whole = snug(bytes_of(body, size));
        ck_assert(record_open_head(whole, 1, &back));
        check_head(&back, &head);
        ck_assert(!record_open_head(whole, 2, &back));
        let_go(whole);
        for (size_t cut = 0; cut < size; cut++) {
            whole = snug(bytes_of(body, cut));
            ck_assert(!record_open_head(whole, 1, &back));
            let_go(whole);
        }
        ck_assert(!record_open_head(bytes_of(body, size + 1), 1, &back));
        ck_assert(!record_open_head(bytes_of(body, size + 4), 1, &back));
    }
}
END_TEST

START_TEST(senseless_heads_are_refused)
{
    struct tier_head head = some_head(3, false), back;
    uint8_t body[128];
    record_put_head(body, &head);
    size_t size = record_head_bytes(&head);
    ck_assert(record_open_head(bytes_of(body, size), RECORD_FORMAT, &back));
    body[26] = REASON_COUNT;
    ck_assert(!record_open_head(bytes_of(body, size), RECORD_FORMAT, &back));
    record_put_head(body, &head);
    bytes_store_be32(body + 28, head.lost - 1); /* fewer positions than were lost */
    ck_assert(!record_open_head(bytes_of(body, size), RECORD_FORMAT, &back));
}
END_TEST

START_TEST(recalls_come_back)
{
    struct recall_entry entry = {.key = {.low = 0x0102030405060708, .high = UINT64_MAX},
                                 .digest = {0x1112131415161718, 0x2122232425262728},
                                 .ordinal = 0x31323334,
                                 .step = 0x41424344,
                                 .version = 0x51525354,
                                 .lost = UINT32_MAX};
    for (unsigned created = 0; created < 2; created++) {
        uint8_t body[RECORD_RECALL_BYTES];
        struct recall_entry back;
        entry.created = created;
        record_put_recall(body, &entry);
        ck_assert(record_open_recall(bytes_of(body, sizeof body), &back));
        ck_assert_uint_eq(back.key.low, entry.key.low);
        ck_assert_uint_eq(back.key.high, entry.key.high);
        ck_assert_uint_eq(back.digest[0], entry.digest[0]);
        ck_assert_uint_eq(back.digest[1], entry.digest[1]);
        ck_assert_uint_eq(back.ordinal, entry.ordinal);
        ck_assert_uint_eq(back.step, entry.step);
        ck_assert_uint_eq(back.version, entry.version);
        ck_assert_uint_eq(back.lost, entry.lost);
        ck_assert_int_eq(back.created, entry.created);
        for (size_t cut = 0; cut < sizeof body; cut++) {
            struct bytes less = snug(bytes_of(body, cut));
            ck_assert(!record_open_recall(less, &back));
            let_go(less);
        }
        body[48] = 2;
        ck_assert(!record_open_recall(bytes_of(body, sizeof body), &back));
    }
}
END_TEST

START_TEST(random_bytes_are_survived)
{
    uint64_t state = 5;
    for (uint64_t i = 0; i < trial_count(100000); i++) {
        struct bytes bytes = snug(some_of(noise, &state, 0, 400));
        struct tier_head head;
        struct recall_entry entry;
        if (bytes.size >= 28 && trial_below(&state, 2)) {
            ((uint8_t *)(uintptr_t)bytes.data)[27] = (uint8_t)(bytes.size - 104);
        }
        for (unsigned format = 1; format <= RECORD_FORMAT; format++) {
            if (record_open_head(bytes, format, &head)) {
                ck_assert_uint_eq(head.id.size + (format == 1 ? 100 : 104), bytes.size);
                read_bytes(head.id);
            }
        }
        record_open_recall(bytes, &entry);
        ck_assert_ptr_null(record_check(bytes, bytes_text("key"), RECORD_CHUNK).data);
        let_go(bytes);
    }
}
END_TEST

int main(void)
{
    return SUITE_RUN("record", setup, teardown, 60, sealed_values_come_back, every_flip_is_refused,
                     every_byte_in_every_value_is_refused, oversize_is_refused,
                     newer_formats_are_known, the_older_format_is_read, heads_come_back,
                     heads_of_format_1_come_back, senseless_heads_are_refused, recalls_come_back,
                     random_bytes_are_survived);
}
