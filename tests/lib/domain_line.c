/* Lines of text to requests. */
#include "tests/lib/domain_line.h"

#include <stdio.h>
#include <stdlib.h>

/* What begin returned, by letter; the domains of a test share them. */
static uint64_t claims['Z' + 1];

void domain_line_claim(char letter, uint64_t claim)
{
    claims[(unsigned)letter] = claim;
}

_Noreturn void domain_give_up(const char *what)
{
    fprintf(stderr, "a test says what nobody understands: %s\n", what);
    abort();
}

static struct bytes payload_of(struct domain_line *reading, const char *word)
{
    const char *star = strchr(word, '*');
    if (!star) {
        return bytes_text(word);
    }
    size_t size = (size_t)(star - word);
    size_t times = strtoull(star + 1, NULL, 10);
    char *made = malloc(size * times);
    for (size_t i = 0; i < times; i++) {
        memcpy(made + i * size, word, size);
    }
    reading->made[reading->made_count++] = made;
    return bytes_of(made, size * times);
}

/* Filled up with dots to the 16 bytes of a prefix. */
static struct bytes prefix_of(struct domain_line *reading, const char *word)
{
    size_t size = strlen(word);
    char *made = malloc(WIRE_PREFIX_BYTES);
    if (!made || size > WIRE_PREFIX_BYTES || reading->made_count == DOMAIN_WORDS_MAX) {
        domain_give_up(word);
    }
    memset(made, '.', WIRE_PREFIX_BYTES);
    memcpy(made, word, size);
    reading->made[reading->made_count++] = made;
    return bytes_of(made, WIRE_PREFIX_BYTES);
}

/* "2,1" or, with what is kept, "2,3,0,1". */
static void read_have(struct ask *ask, char *value)
{
    char *rest;
    struct wire_have have = {.version = strtoull(value, &rest, 10)};
    have.step = strtoll(rest + 1, &rest, 10);
    have.has_kept = *rest == ',';
    ask_set(ask, have, have);
    while (*rest == ',' && rest[1]) {
        ask_kept(ask, (uint32_t)strtoul(rest + 1, &rest, 10));
    }
}

/* "0:p,2:q" */
static void read_bindings(struct domain_line *reading, char *value)
{
    char *rest = NULL;
    for (char *pair = strtok_r(value, ",", &rest); pair; pair = strtok_r(NULL, ",", &rest)) {
        char *prefix;
        uint32_t step = (uint32_t)strtoul(pair, &prefix, 10);
        ask_binding(&reading->ask, step, prefix_of(reading, prefix + 1));
    }
}

static void read_prefixes(struct domain_line *reading, char *value)
{
    char *rest = NULL;
    for (char *word = strtok_r(value, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        ask_prefix(&reading->ask, prefix_of(reading, word));
    }
}

static enum wire_policy policy_of(const char *name)
{
    for (int policy = 0; policy < WIRE_POLICY_COUNT; policy++) {
        if (strcmp(name, wire_policy_name((enum wire_policy)policy)) == 0) {
            return (enum wire_policy)policy;
        }
    }
    domain_give_up(name);
}

static bool read_bytes_option(struct ask *ask, const char *name, struct bytes value)
{
#define OPTION(text)                                                                               \
    if (strcmp(name, #text) == 0) {                                                                \
        ask_set(ask, text, value);                                                                 \
        return true;                                                                               \
    }
    OPTION(key)
    OPTION(response_id)
    OPTION(tool_call)
    OPTION(model)
    OPTION(from)
#undef OPTION
    return false;
}

static bool read_number_option(struct ask *ask, const char *name, const char *value)
{
    uint64_t number = strtoull(value, NULL, 10);
#define OPTION(text, type)                                                                         \
    if (strcmp(name, #text) == 0) {                                                                \
        ask_set(ask, text, (type)number);                                                          \
        return true;                                                                               \
    }
    OPTION(expect, uint64_t)
    OPTION(turn, uint64_t)
    OPTION(tokens, uint64_t)
    OPTION(ttl_ms, uint64_t)
    OPTION(retention_ms, uint64_t)
    OPTION(last, uint64_t)
    OPTION(max_bytes, uint64_t)
    OPTION(at, uint64_t)
    OPTION(final, bool)
    OPTION(touch, bool)
    OPTION(turns, uint64_t)
    OPTION(max_tokens, uint64_t)
    OPTION(pin, bool)
    OPTION(on_mismatch, enum wire_mismatch)
    OPTION(ack, enum wire_ack)
#undef OPTION
    return false;
}

static enum wire_kind kind_of(const char *name)
{
    return name[1] == 'e' ? WIRE_KIND_TEXT : *name == 't' ? WIRE_KIND_TOKENS : WIRE_KIND_OPAQUE;
}

static void read_option(struct domain_line *reading, char *word)
{
    struct ask *ask = &reading->ask;
    char *value = strchr(word, '=');
    if (!value) {
        domain_give_up(word);
    }
    *value++ = '\0';
    if (strcmp(word, "claim") == 0) {
        reading->claim = *value;
    } else if (strcmp(word, "segment") == 0) {
        ask_set(ask, segment, kind_of(value));
    } else if (strcmp(word, "bare") == 0) {
        ask_set(ask, segments, (struct wire_list){0});
    } else if (strcmp(word, "call") == 0) {
        ask_call(ask, bytes_text(value));
    } else if (strcmp(word, "kind") == 0) {
        ask_kind(ask, kind_of(value));
    } else if (strcmp(word, "have") == 0) {
        read_have(ask, value);
    } else if (strcmp(word, "policy") == 0) {
        ask_set(ask, policy, policy_of(value));
    } else if (strcmp(word, "prefix") == 0) {
        ask_set(ask, prefix, prefix_of(reading, value));
    } else if (strcmp(word, "visible") == 0) {
        ask_set(ask, visible, prefix_of(reading, value));
    } else if (strcmp(word, "prefixes") == 0) {
        read_bindings(reading, value);
    } else if (strcmp(word, "prefix_list") == 0) {
        read_prefixes(reading, value);
    } else if (strcmp(word, "to") == 0) {
        ask_set(ask, to, strtoll(value, NULL, 10));
    } else if (!read_bytes_option(ask, word, bytes_text(value)) &&
               !read_number_option(ask, word, value)) {
        domain_give_up(word);
    }
}

static enum wire_method method_of(const char *name)
{
    for (int method = 0; method < WIRE_METHOD_COUNT; method++) {
        if (strcmp(name, wire_method_name((enum wire_method)method)) == 0) {
            return (enum wire_method)method;
        }
    }
    domain_give_up(name);
}

void domain_line_read(struct domain_line *reading, const char *line)
{
    if (strlen(line) >= DOMAIN_LINE_MAX) {
        domain_give_up("a long line");
    }
    memcpy(reading->text, line, strlen(line) + 1);
    reading->made_count = reading->count = 0;
    reading->claim = 'A';
    char *rest = NULL;
    for (char *word = strtok_r(reading->text, " ", &rest); word;
         word = strtok_r(NULL, " ", &rest)) {
        if (reading->count == DOMAIN_WORDS_MAX) {
            domain_give_up("many words");
        }
        reading->words[reading->count++] = word;
    }
    if (reading->count < 2) {
        domain_give_up(line);
    }
    struct bytes thread = bytes_text(reading->words[1]);
    ask_begin(&reading->ask, method_of(reading->words[0]),
              strcmp(reading->words[1], "-") == 0 ? (struct bytes){0} : thread);
    bool payloads = false;
    for (unsigned i = 2; i < reading->count; i++) {
        if (strcmp(reading->words[i], ":") == 0) {
            payloads = true;
        } else if (payloads) {
            ask_payload(&reading->ask, payload_of(reading, reading->words[i]));
        } else {
            read_option(reading, reading->words[i]);
        }
    }
    enum wire_method method = reading->ask.request.method;
    if (method == WIRE_METHOD_APPEND && !reading->ask.request.payload_count) {
        ask_set(&reading->ask, segments, (struct wire_list){0});
    }
    if (reading->claim < 'A' || reading->claim > 'Z') {
        domain_give_up("a claim that is not a letter");
    }
    if (method == WIRE_METHOD_CHUNK || method == WIRE_METHOD_COMMIT ||
        method == WIRE_METHOD_ABORT) {
        ask_set(&reading->ask, claim, claims[(unsigned)reading->claim]);
    }
}

void domain_line_free(struct domain_line *reading)
{
    for (unsigned i = 0; i < reading->made_count; i++) {
        free(reading->made[i]);
    }
    reading->made_count = 0;
}
