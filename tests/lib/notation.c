/* Text to MessagePack and back, through msgpack-c alone. */
#include "tests/lib/notation.h"

#include <ctype.h>
#include <inttypes.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>

static _Noreturn void give_up(const char *why, const char *at)
{
    fprintf(stderr, "bad notation: %s at \"%.40s\"\n", why, at);
    abort();
}

static const char *skip_blanks(const char *p)
{
    while (isspace((unsigned char)*p)) {
        p++;
    }
    return p;
}

static bool take_word(const char **at, const char *word)
{
    size_t size = strlen(word);
    if (strncmp(*at, word, size) != 0) {
        return false;
    }
    *at += size;
    return true;
}

static void put_string(msgpack_packer *packer, bool bin, const char *data, size_t size)
{
    if (bin) {
        msgpack_pack_bin(packer, size);
        msgpack_pack_bin_body(packer, data, size);
    } else {
        msgpack_pack_str(packer, size);
        msgpack_pack_str_body(packer, data, size);
    }
}

static unsigned hex_digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *found = c == '\0' ? NULL : strchr(digits, tolower((unsigned char)c));
    if (found == NULL) {
        give_up("not a hex digit", &c);
    }
    return (unsigned)(found - digits);
}

static void put_quoted(msgpack_packer *packer, bool bin, const char **at)
{
    char quote = *(*at)++;
    char *data = malloc(strlen(*at) + 1);
    size_t size = 0;
    const char *p = *at;
    for (; *p != quote; p++) {
        if (*p == '\0') {
            give_up("no end of a string", *at);
        }
        if (*p == '\\' && p[1] == 'x') {
            data[size++] = (char)(hex_digit(p[2]) << 4 | hex_digit(p[3]));
            p += 3;
        } else {
            p += *p == '\\';
            data[size++] = *p;
        }
    }
    *at = p + 1;
    put_string(packer, bin, data, size);
    free(data);
}

static void put_filled(msgpack_packer *packer, bool bin, const char **at)
{
    char *end;
    size_t size = strtoull(*at + 1, &end, 10);
    char *data = malloc(size + 1);
    memset(data, 'x', size);
    put_string(packer, bin, data, size);
    free(data);
    *at = end + 1;
}

static void put_number(msgpack_packer *packer, const char **at)
{
    size_t size = strspn(*at, "-+.0123456789");
    char *end;
    if (size == 0) {
        give_up("unknown word", *at);
    }
    if (memchr(*at, '.', size) != NULL) {
        msgpack_pack_double(packer, strtod(*at, &end));
    } else if (**at == '-') {
        msgpack_pack_int64(packer, strtoll(*at, &end, 10));
    } else {
        msgpack_pack_uint64(packer, strtoull(*at, &end, 10));
    }
    *at = end;
}

static void put_value(msgpack_packer *packer, const char **at);

/* The count comes first in MessagePack, so the items go to a buffer of their own. */
static void put_container(msgpack_packer *packer, const char **at)
{
    bool map = *(*at)++ == '{';
    char close = map ? '}' : ']';
    size_t count = 0;
    msgpack_sbuffer items;
    msgpack_sbuffer_init(&items);
    msgpack_packer inner;
    msgpack_packer_init(&inner, &items, msgpack_sbuffer_write);
    while (*(*at = skip_blanks(*at)) != close) {
        if (count > 0 && *(*at)++ != ',') {
            give_up("no comma", *at - 1);
        }
        put_value(&inner, at);
        if (map) {
            *at = skip_blanks(*at);
            if (*(*at)++ != ':') {
                give_up("no colon", *at - 1);
            }
            put_value(&inner, at);
        }
        count++;
    }
    (*at)++;
    if (map) {
        msgpack_pack_map(packer, count);
    } else {
        msgpack_pack_array(packer, count);
    }
    if (items.size > 0) {
        packer->callback(packer->data, items.data, items.size);
    }
    msgpack_sbuffer_destroy(&items);
}

static void put_value(msgpack_packer *packer, const char **at)
{
    *at = skip_blanks(*at);
    if (**at == '[' || **at == '{') {
        put_container(packer, at);
    } else if (**at == '"' || **at == '\'') {
        put_quoted(packer, false, at);
    } else if (**at == 'b' && ((*at)[1] == '"' || (*at)[1] == '\'')) {
        (*at)++;
        put_quoted(packer, true, at);
    } else if ((**at == 'b' || **at == 's') && (*at)[1] == '(') {
        bool bin = **at == 'b';
        (*at)++;
        put_filled(packer, bin, at);
    } else if (take_word(at, "nil")) {
        msgpack_pack_nil(packer);
    } else if (take_word(at, "true")) {
        msgpack_pack_true(packer);
    } else if (take_word(at, "false")) {
        msgpack_pack_false(packer);
    } else {
        put_number(packer, at);
    }
}

struct bytes notation_encode(const char *text)
{
    msgpack_sbuffer buffer;
    msgpack_packer packer;
    msgpack_sbuffer_init(&buffer);
    msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
    put_value(&packer, &text);
    if (*skip_blanks(text) != '\0') {
        give_up("more than one value", text);
    }
    size_t size = buffer.size;
    return bytes_of(msgpack_sbuffer_release(&buffer), size);
}

static void print_string(FILE *out, const char *data, size_t size)
{
    fputc('"', out);
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)data[i];
        if (c == '"' || c == '\\') {
            fprintf(out, "\\%c", c);
        } else if (c >= 0x20 && c <= 0x7E) {
            fputc(c, out);
        } else {
            fprintf(out, "\\x%02x", c);
        }
    }
    fputc('"', out);
}

static void print_value(FILE *out, const msgpack_object *value)
{
    switch (value->type) {
    case MSGPACK_OBJECT_NIL:
        fputs("nil", out);
        break;
    case MSGPACK_OBJECT_BOOLEAN:
        fputs(value->via.boolean ? "true" : "false", out);
        break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        fprintf(out, "%" PRIu64, value->via.u64);
        break;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        fprintf(out, "%" PRId64, value->via.i64);
        break;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        fprintf(out, "%f", value->via.f64);
        break;
    case MSGPACK_OBJECT_STR:
        print_string(out, value->via.str.ptr, value->via.str.size);
        break;
    case MSGPACK_OBJECT_BIN:
        fputc('b', out);
        print_string(out, value->via.bin.ptr, value->via.bin.size);
        break;
    case MSGPACK_OBJECT_ARRAY:
        fputc('[', out);
        for (uint32_t i = 0; i < value->via.array.size; i++) {
            fputs(i > 0 ? ", " : "", out);
            print_value(out, &value->via.array.ptr[i]);
        }
        fputc(']', out);
        break;
    case MSGPACK_OBJECT_MAP:
        fputc('{', out);
        for (uint32_t i = 0; i < value->via.map.size; i++) {
            fputs(i > 0 ? ", " : "", out);
            print_value(out, &value->via.map.ptr[i].key);
            fputs(": ", out);
            print_value(out, &value->via.map.ptr[i].val);
        }
        fputc('}', out);
        break;
    default:
        fputs("ext", out);
        break;
    }
}

char *notation_decode(struct bytes encoded)
{
    msgpack_unpacked unpacked;
    size_t offset = 0;
    char *text = NULL;
    size_t size = 0;
    msgpack_unpacked_init(&unpacked);
    if (msgpack_unpack_next(&unpacked, (const char *)encoded.data, encoded.size, &offset) ==
            MSGPACK_UNPACK_SUCCESS &&
        offset == encoded.size) {
        FILE *out = open_memstream(&text, &size);
        print_value(out, &unpacked.data);
        fclose(out);
    }
    msgpack_unpacked_destroy(&unpacked);
    return text;
}
