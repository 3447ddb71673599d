/*
 * schema/disk.md and the code say the same: its lists of numbers, its places, its examples. A
 * change here is a change of the format.
 */
#include "tests/store/test_record.h"

#include "store/wal.h"
#include "thread/records.h"

#include <stdio.h>

enum { LINES_MAX = 600, LINE_MAX = 1024 };

static char lines[LINES_MAX][LINE_MAX];
static unsigned line_count;

static void read_page(void)
{
    FILE *in = fopen("schema/disk.md", "r");
    ck_assert_ptr_nonnull(in);
    while (line_count < LINES_MAX && fgets(lines[line_count], LINE_MAX, in)) {
        line_count++;
    }
    fclose(in);
    ck_assert_uint_gt(line_count, 100);
    ck_assert_uint_lt(line_count, LINES_MAX);
}

static void set_up(void)
{
    setup();
    line_count = 0;
    read_page();
}

/* The line that is exactly `text`. */
static unsigned find_line(const char *text)
{
    for (unsigned i = 0; i < line_count; i++) {
        if (strncmp(lines[i], text, strlen(text)) == 0 && lines[i][strlen(text)] == '\n') {
            return i;
        }
    }
    ck_abort_msg("disk.md lacks the line %s", text);
}

/* Each place of a table of places is where the one before ends; what the sizes come to. */
static unsigned check_places(unsigned line)
{
    unsigned place = 0, bytes = 0, next = 0;
    while (strncmp(lines[line], "| at | bytes |", 14) != 0) {
        line++;
    }
    for (line += 2; lines[line][0] == '|'; line++) {
        int taken = sscanf(lines[line], "| %u | %u |", &place, &bytes);
        ck_assert_int_ge(taken, 1);
        ck_assert_msg(place == next, "disk.md:%u: %u is not %u", line + 1, place, next);
        next = place + (taken == 2 ? bytes : 0);
    }
    return next;
}

START_TEST(places_add_up)
{
    ck_assert_uint_eq(check_places(find_line("Header of a segment:")), WAL_HEADER_BYTES);
    ck_assert_uint_eq(check_places(find_line("Header of a group:")), WAL_GROUP_HEADER_BYTES);
    const struct tier_head head = {0};
    ck_assert_uint_eq(check_places(find_line("## Heads")), record_head_bytes(&head));
    ck_assert_uint_eq(check_places(find_line("## Recalls")), RECORD_RECALL_BYTES);
    ck_assert_uint_eq(check_places(find_line("## Blobs: steps")), BLOB_KEY);
    ck_assert_uint_eq(check_places(find_line("## The tree")), RECORD_SEAL_BYTES);
    ck_assert_uint_eq(check_places(find_line("## Groups")), 16);
}
END_TEST

/* The rows of the table under a heading are exactly these, numbered by `numbers` or from 1. */
static void check_rows(const char *heading, const unsigned *numbers, const char *const *texts,
                       unsigned count)
{
    unsigned line = find_line(heading) + 2;
    for (unsigned i = 0; i < count; i++, line++) {
        char meant[LINE_MAX];
        snprintf(meant, sizeof meant, "| %u | %s", numbers ? numbers[i] : i + 1, texts[i]);
        ck_assert_msg(strncmp(lines[line], meant, strlen(meant)) == 0, "disk.md:%u: not %s",
                      line + 1, meant);
    }
    ck_assert_int_eq(lines[line][0], '\n');
}

START_TEST(numbers_are_what_they_were)
{
    static const unsigned flags[] = {FLAG_FINAL,       FLAG_HAS_TOKENS, FLAG_HAS_PREFIX,
                                     FLAG_INHERITED,   FLAG_CORRUPT,    FLAG_ZSTD,
                                     FLAG_HAS_VISIBLE, FLAG_PACKED};
    static const char *const flag_texts[] = {
        "final",   "tokens",         "there is a prefix",    "inherited",
        "corrupt", "the payload is", "there is the hash of", "the payload's token ids"};
    check_rows("| flag | meaning |", flags, flag_texts, 8);
    static const unsigned values[] = {RECORD_HEAD, RECORD_RECALL, RECORD_CHUNK, RECORD_NAME,
                                      RECORD_KEY,  RECORD_TOMB,   RECORD_META};
    static const char *const value_texts[] = {"a head",   "a recall",    "a chunk",  "a name",
                                              "a step k", "a tombstone", "something"};
    check_rows("| value | kind |", values, value_texts, 7);
    static const unsigned kinds[] = {RECORD_THREAD, RECORD_RESPONSE_ID, RECORD_TOOL_CALL,
                                     RECORD_PREFIX};
    static const char *const kind_texts[] = {"a thread", "a response id", "a tool call",
                                             "a prefix"};
    check_rows("| kind | of |", kinds, kind_texts, 4);
    char names[REASON_COUNT][64];
    const char *texts[REASON_COUNT];
    for (unsigned i = 1; i < REASON_COUNT; i++) {
        snprintf(names[i], sizeof names[i], "`%s` |\n", reason_name((enum reason)i));
        texts[i - 1] = names[i];
    }
    check_rows("| reason | name |", NULL, texts, REASON_COUNT - 1);
}
END_TEST

/* The bytes of the nth block of hex under the heading. */
static size_t read_hex(const char *heading, unsigned nth, uint8_t *into, size_t most)
{
    unsigned line = find_line(heading);
    for (unsigned seen = 0; seen <= nth; line++) {
        ck_assert_uint_lt(line, line_count);
        seen += strcmp(lines[line], "```hex\n") == 0;
    }
    size_t size = 0;
    for (; lines[line][0] != '`'; line++) {
        unsigned byte;
        int used;
        for (const char *at = lines[line]; sscanf(at, " %2x%n", &byte, &used) == 1; at += used) {
            ck_assert_uint_lt(size, most);
            into[size++] = (uint8_t)byte;
        }
    }
    return size;
}

static void check_hex(unsigned nth, struct bytes is)
{
    uint8_t meant[1024];
    size_t size = read_hex("## An example", nth, meant, sizeof meant);
    if (!bytes_equal(is, bytes_of(meant, size))) {
        for (size_t i = 0; i < is.size; i++) {
            fprintf(stderr, "%02X%s", is.data[i], i % 32 == 31 || i + 1 == is.size ? "\n" : " ");
        }
    }
    ck_assert(bytes_equal(is, bytes_of(meant, size)));
}

static const uint8_t recall_key[16] = {[7] = 1, [15] = 2};

START_TEST(the_example_is_what_is_written)
{
    static struct ask ask;
    static const uint8_t token_ids[] = {1, 0, 0, 0, 0xFF, 0xFF, 1, 0};
    for (size_t i = 0; i < sizeof secret; i++) {
        secret[i] = (uint8_t)i;
    }
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
    ask_set(&ask, response_id, bytes_text("r"));
    ask_set(&ask, visible, bytes_text("0123456789abcdef"));
    ask_set(&ask, model, bytes_text("m"));
    ask_set(&ask, tokens, 7);
    ask_set(&ask, final, true);
    ask_call(&ask, bytes_text("c"));
    ask_kind(&ask, WIRE_KIND_TEXT);
    ask_payload(&ask, bytes_text("abc"));
    ask_kind(&ask, WIRE_KIND_TOKENS);
    ask_payload(&ask, bytes_of(token_ids, sizeof token_ids));
    struct step *step = step_of(&ask, 0, 1);
    const struct step *steps[] = {step};
    const struct recall_entry recall = {
        .key = {4, 5}, .digest = {6, 7}, .ordinal = 1, .version = 1, .created = true};
    const struct tier_change change = {.kind = TIER_PUT,
                                       .head = {.uid = 1,
                                                .name = {2, 3},
                                                .id = bytes_text("t"),
                                                .length = 1,
                                                .version = 1,
                                                .appends = 2,
                                                .floor = 1,
                                                .created_ms = 5000,
                                                .used_ms = 5000,
                                                .ttl_ms = 60000,
                                                .retention_ms = 120000,
                                                .payload_bytes = 11,
                                                .tokens = 7},
                                       .recall_count = 1,
                                       .recalls = &recall,
                                       .step_count = 1,
                                       .steps = steps};
    struct record_buffer buffer = {0};
    ck_assert(record_put_group(&buffer, &change, secret, RECORD_ZSTD));
    check_hex(0, bytes_of(buffer.data, buffer.size));
    uint8_t value[RECORD_SEAL_BYTES + RECORD_RECALL_BYTES];
    record_put_recall(value + RECORD_SEAL_BYTES, &recall);
    record_seal(value, sizeof value, bytes_of(recall_key, sizeof recall_key), RECORD_RECALL);
    check_hex(1, bytes_of(value, sizeof value));
    record_buffer_free(&buffer);
    step_discard(domain.lane, step);
}
END_TEST

/* What lies on disks since format 1 is read as it was meant. */
START_TEST(the_example_of_format_1_is_read)
{
    uint8_t bytes[1024];
    size_t size = read_hex("## An example of format 1", 0, bytes, sizeof bytes);
    struct record_group group;
    struct recall_entry recall;
    struct record_step step;
    ck_assert_uint_eq(bytes[0], 1);
    ck_assert(record_open_group(bytes_of(bytes, size), &group));
    ck_assert_uint_eq(group.head.uid, 1);
    ck_assert(bytes_equal(group.head.id, bytes_text("t")));
    ck_assert_uint_eq(group.head.appends, 2);
    ck_assert_uint_eq(group.head.floor, 0);
    ck_assert_uint_eq(group.head.retention_ms, 120000);
    ck_assert_uint_eq(group.head.tokens, 7);
    ck_assert(record_next_recall(&group, &recall));
    ck_assert_uint_eq(recall.digest[1], 7);
    ck_assert(record_next_step(&group, &step));
    const uint32_t segment = 3;
    const struct step_parts meant = {.version = 1,
                                     .tokens = 7,
                                     .final = true,
                                     .has_tokens = true,
                                     .segment_count = 1,
                                     .tool_call_count = 1,
                                     .segments = bytes_of(&segment, sizeof segment),
                                     .response_id = bytes_text("r"),
                                     .model = bytes_text("m"),
                                     .tool_calls = bytes_text("\xC4\x01"
                                                              "c"),
                                     .payload = bytes_text("abc")};
    ck_assert(read_step(step.blob, &meant));
    size = read_hex("## An example of format 1", 1, bytes, sizeof bytes);
    struct bytes body =
        record_check(bytes_of(bytes, size), bytes_of(recall_key, sizeof recall_key), RECORD_RECALL);
    ck_assert(body.data && record_body_format(body) == 1);
    ck_assert(record_open_recall(body, &recall));
    ck_assert_uint_eq(recall.key.high, 5);
}
END_TEST

int main(void)
{
    return SUITE_RUN("record_format", set_up, teardown, 0, places_add_up,
                     numbers_are_what_they_were, the_example_is_what_is_written,
                     the_example_of_format_1_is_read);
}
