/* Tree values: their seal, heads and recalls. Owns nothing; schema/disk.md has the layouts. */
#include "store/record_private.h"

#include <assert.h>
#include <xxhash.h>

/* LMDB's limit on keys. */
enum { KEY_BYTES_MAX = 511 };

/* Places in a seal. */
enum { SEAL_FORMAT, SEAL_KIND, SEAL_ZERO, SEAL_BODY_BYTES = 4, SEAL_SUM = 8 };

/* Key, first half of the seal, body: copied together, since that costs less than a stream does. */
static uint64_t sum_of(const uint8_t *value, size_t value_bytes, struct bytes key)
{
    uint8_t whole[KEY_BYTES_MAX + RECORD_VALUE_MAX];
    size_t at = key.size;
    if (key.size > 0) {
        memcpy(whole, key.data, key.size);
    }
    memcpy(whole + at, value, SEAL_SUM);
    at += SEAL_SUM;
    memcpy(whole + at, value + RECORD_SEAL_BYTES, value_bytes - RECORD_SEAL_BYTES);
    return XXH3_64bits(whole, at + value_bytes - RECORD_SEAL_BYTES);
}

void record_seal(uint8_t *value, size_t value_bytes, struct bytes key, enum record_value kind)
{
    assert(value_bytes >= RECORD_SEAL_BYTES && value_bytes <= RECORD_VALUE_MAX);
    assert(key.size <= KEY_BYTES_MAX);
    value[SEAL_FORMAT] = RECORD_FORMAT;
    value[SEAL_KIND] = (uint8_t)kind;
    bytes_store_be16(value + SEAL_ZERO, 0);
    bytes_store_be32(value + SEAL_BODY_BYTES, (uint32_t)(value_bytes - RECORD_SEAL_BYTES));
    bytes_store_be64(value + SEAL_SUM, sum_of(value, value_bytes, key));
}

static bool is_known(uint8_t format)
{
    return format >= RECORD_FORMAT_OLDEST && format <= RECORD_FORMAT;
}

struct bytes record_check(struct bytes value, struct bytes key, enum record_value kind)
{
    const struct bytes none = {0};
    if (value.size < RECORD_SEAL_BYTES || value.size > RECORD_VALUE_MAX ||
        key.size > KEY_BYTES_MAX) {
        return none;
    }
    struct bytes body = bytes_of(value.data + RECORD_SEAL_BYTES, value.size - RECORD_SEAL_BYTES);
    if (!is_known(value.data[SEAL_FORMAT]) || value.data[SEAL_KIND] != (uint8_t)kind ||
        bytes_load_be16(value.data + SEAL_ZERO) != 0 ||
        bytes_load_be32(value.data + SEAL_BODY_BYTES) != body.size ||
        bytes_load_be64(value.data + SEAL_SUM) != sum_of(value.data, value.size, key)) {
        return none;
    }
    return body;
}

bool record_is_newer(struct bytes value)
{
    return value.size >= RECORD_SEAL_BYTES && value.data[SEAL_FORMAT] > RECORD_FORMAT;
}

unsigned record_body_format(struct bytes body)
{
    unsigned format = body.data[SEAL_FORMAT - RECORD_SEAL_BYTES];
    assert(is_known((uint8_t)format));
    return format;
}

/* Places in a head. */
enum {
    HEAD_UID = 0,
    HEAD_NAME_LOW = 8,
    HEAD_NAME_HIGH = 16,
    HEAD_TENANT = 24,
    HEAD_LOST_REASON = 26,
    HEAD_ID_BYTES = 27,
    HEAD_LENGTH = 28,
    HEAD_VERSION = 32,
    HEAD_LOST = 36,
    HEAD_LOST_BASE = 40,
    HEAD_SHARED = 44,
    HEAD_APPENDS = 48,
    HEAD_CREATED = 52,
    HEAD_USED = 60,
    HEAD_TTL = 68,
    HEAD_RETENTION = 76,
    HEAD_PAYLOAD_BYTES = 84,
    HEAD_TOKENS = 92,
    HEAD_FLOOR = 100,
    HEAD_ID = 104,
    HEAD_ID_WITHOUT_FLOOR = 100, /* in format 1 */
};

size_t record_head_bytes(const struct tier_head *head)
{
    assert(head->id.size <= TIER_ID_BYTES_MAX);
    return HEAD_ID + head->id.size;
}

void record_put_head(uint8_t *at, const struct tier_head *head)
{
    assert(head->lost <= head->length && head->lost_reason < REASON_COUNT);
    bytes_store_be64(at + HEAD_UID, head->uid);
    bytes_store_be64(at + HEAD_NAME_LOW, head->name.low);
    bytes_store_be64(at + HEAD_NAME_HIGH, head->name.high);
    bytes_store_be16(at + HEAD_TENANT, head->tenant);
    at[HEAD_LOST_REASON] = head->lost_reason;
    at[HEAD_ID_BYTES] = (uint8_t)head->id.size;
    bytes_store_be32(at + HEAD_LENGTH, head->length);
    bytes_store_be32(at + HEAD_VERSION, head->version);
    bytes_store_be32(at + HEAD_LOST, head->lost);
    bytes_store_be32(at + HEAD_LOST_BASE, head->lost_base);
    bytes_store_be32(at + HEAD_SHARED, head->shared);
    bytes_store_be32(at + HEAD_APPENDS, head->appends);
    bytes_store_be64(at + HEAD_CREATED, head->created_ms);
    bytes_store_be64(at + HEAD_USED, head->used_ms);
    bytes_store_be64(at + HEAD_TTL, head->ttl_ms);
    bytes_store_be64(at + HEAD_RETENTION, head->retention_ms);
    bytes_store_be64(at + HEAD_PAYLOAD_BYTES, head->payload_bytes);
    bytes_store_be64(at + HEAD_TOKENS, head->tokens);
    bytes_store_be32(at + HEAD_FLOOR, head->floor);
    record_put_bytes(at + HEAD_ID, head->id);
}

bool record_open_head(struct bytes body, unsigned format, struct tier_head *head)
{
    const uint8_t *at = body.data;
    bool has_floor = format > 1;
    size_t id_at = has_floor ? HEAD_ID : HEAD_ID_WITHOUT_FLOOR;
    if (body.size < id_at || body.size != id_at + at[HEAD_ID_BYTES]) {
        return false;
    }
    *head = (struct tier_head){
        .uid = bytes_load_be64(at + HEAD_UID),
        .name = {.low = bytes_load_be64(at + HEAD_NAME_LOW),
                 .high = bytes_load_be64(at + HEAD_NAME_HIGH)},
        .id = bytes_of(at + id_at, at[HEAD_ID_BYTES]),
        .tenant = bytes_load_be16(at + HEAD_TENANT),
        .lost_reason = at[HEAD_LOST_REASON],
        .length = bytes_load_be32(at + HEAD_LENGTH),
        .version = bytes_load_be32(at + HEAD_VERSION),
        .lost = bytes_load_be32(at + HEAD_LOST),
        .lost_base = bytes_load_be32(at + HEAD_LOST_BASE),
        .shared = bytes_load_be32(at + HEAD_SHARED),
        .appends = bytes_load_be32(at + HEAD_APPENDS),
        .floor = has_floor ? bytes_load_be32(at + HEAD_FLOOR) : 0,
        .created_ms = bytes_load_be64(at + HEAD_CREATED),
        .used_ms = bytes_load_be64(at + HEAD_USED),
        .ttl_ms = bytes_load_be64(at + HEAD_TTL),
        .retention_ms = bytes_load_be64(at + HEAD_RETENTION),
        .payload_bytes = bytes_load_be64(at + HEAD_PAYLOAD_BYTES),
        .tokens = bytes_load_be64(at + HEAD_TOKENS),
    };
    return head->lost <= head->length && head->lost_reason < REASON_COUNT;
}

/* Places in a recall. */
enum {
    RECALL_KEY_LOW = 0,
    RECALL_KEY_HIGH = 8,
    RECALL_DIGEST = 16, /* twice 8 bytes */
    RECALL_ORDINAL = 32,
    RECALL_STEP = 36,
    RECALL_VERSION = 40,
    RECALL_LOST = 44,
    RECALL_CREATED = 48,
};

void record_put_recall(uint8_t *at, const struct recall_entry *entry)
{
    bytes_store_be64(at + RECALL_KEY_LOW, entry->key.low);
    bytes_store_be64(at + RECALL_KEY_HIGH, entry->key.high);
    bytes_store_be64(at + RECALL_DIGEST, entry->digest[0]);
    bytes_store_be64(at + RECALL_DIGEST + 8, entry->digest[1]);
    bytes_store_be32(at + RECALL_ORDINAL, entry->ordinal);
    bytes_store_be32(at + RECALL_STEP, entry->step);
    bytes_store_be32(at + RECALL_VERSION, entry->version);
    bytes_store_be32(at + RECALL_LOST, entry->lost);
    at[RECALL_CREATED] = entry->created;
}

bool record_open_recall(struct bytes body, struct recall_entry *entry)
{
    const uint8_t *at = body.data;
    if (body.size != RECORD_RECALL_BYTES || at[RECALL_CREATED] > 1) {
        return false;
    }
    *entry = (struct recall_entry){
        .key = {.low = bytes_load_be64(at + RECALL_KEY_LOW),
                .high = bytes_load_be64(at + RECALL_KEY_HIGH)},
        .digest = {bytes_load_be64(at + RECALL_DIGEST), bytes_load_be64(at + RECALL_DIGEST + 8)},
        .ordinal = bytes_load_be32(at + RECALL_ORDINAL),
        .step = bytes_load_be32(at + RECALL_STEP),
        .version = bytes_load_be32(at + RECALL_VERSION),
        .lost = bytes_load_be32(at + RECALL_LOST),
        .created = at[RECALL_CREATED] == 1,
    };
    return true;
}
