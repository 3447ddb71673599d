/* Escapes, hexadecimal digits and base64; see encode.h. */
#include "cli/encode.h"

#include "cli/keep.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

/* The code point of a sequence of `length` bytes, its lead byte stripped of the length bits. */
static uint32_t utf8_decode(const unsigned char *text, size_t length)
{
    static const unsigned char lead_mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t point = text[0] & lead_mask[length];
    for (size_t i = 1; i < length; i++)
        point = point << 6 | (text[i] & 0x3fu);
    return point;
}

size_t encode_utf8_length(const unsigned char *text, size_t size)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (size == 0)
        return 0;
    size_t length = text[0] < 0x80             ? 1
                    : (text[0] & 0xe0) == 0xc0 ? 2
                    : (text[0] & 0xf0) == 0xe0 ? 3
                    : (text[0] & 0xf8) == 0xf0 ? 4
                                               : 0;
    if (length == 0 || length > size)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    uint32_t point = utf8_decode(text, length);
    if (point < least[length] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
        return 0;
    return length;
}

/* Controls, and marks that change the direction or the place of other characters. */
static bool drives_a_terminal(uint32_t point)
{
    return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x61c ||
           (point >= 0x200b && point <= 0x200f) || (point >= 0x2028 && point <= 0x202e) ||
           (point >= 0x2060 && point <= 0x206f) || point == 0xfeff ||
           (point >= 0xfff0 && point <= 0xfffb) || point >= 0xe0000;
}

static const char hex_digits[] = "0123456789abcdef";

char *encode_escape(struct rethread_bytes bytes, bool keep_lines)
{
    const unsigned char *from = bytes.data;
    char *text = cli_alloc(bytes.size * 4 + 1);
    char *to = text;
    for (size_t i = 0; i < bytes.size;) {
        size_t length = encode_utf8_length(from + i, bytes.size - i);
        bool as_it_is = length != 0 && !drives_a_terminal(utf8_decode(from + i, length));
        if (keep_lines && (from[i] == '\n' || from[i] == '\t'))
            as_it_is = true;
        if (from[i] == '\\' && !keep_lines) {
            *to++ = '\\';
            *to++ = '\\';
            i++;
        } else if (as_it_is) {
            memcpy(to, from + i, length);
            to += length;
            i += length;
        } else {
            *to++ = '\\';
            *to++ = 'x';
            *to++ = hex_digits[from[i] >> 4];
            *to++ = hex_digits[from[i] & 15];
            i++;
        }
    }
    *to = '\0';
    return text;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool encode_from_hex(const char *text, unsigned char *out, size_t size)
{
    for (size_t i = 0; i < 2 * size; i++)
        if (hex_digit(text[i]) < 0)
            return false;
    for (size_t i = 0; i < size; i++)
        out[i] = (unsigned char)(hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]));
    return true;
}

char *encode_hex(struct rethread_bytes bytes)
{
    const unsigned char *from = bytes.data;
    char *text = cli_alloc(bytes.size * 2 + 1);
    for (size_t i = 0; i < bytes.size; i++) {
        text[2 * i] = hex_digits[from[i] >> 4];
        text[2 * i + 1] = hex_digits[from[i] & 15];
    }
    text[2 * bytes.size] = '\0';
    return text;
}

ptrdiff_t encode_unescape(const char *text, unsigned char *out)
{
    unsigned char *to = out;
    while (*text != '\0') {
        if (*text != '\\') {
            *to++ = (unsigned char)*text++;
        } else if (text[1] == '\\') {
            *to++ = '\\';
            text += 2;
        } else if (text[1] == 'x' && encode_from_hex(text + 2, to, 1)) {
            to++;
            text += 4;
        } else {
            return -1;
        }
    }
    return to - out;
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *encode_base64(struct rethread_bytes bytes)
{
    const unsigned char *from = bytes.data;
    char *text = cli_alloc((bytes.size + 2) / 3 * 4 + 1);
    char *to = text;
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t left = bytes.size - i;
        uint32_t bits = (uint32_t)from[i] << 16 | (left > 1 ? (uint32_t)from[i + 1] << 8 : 0) |
                        (left > 2 ? from[i + 2] : 0u);
        *to++ = base64_digits[bits >> 18];
        *to++ = base64_digits[bits >> 12 & 63];
        *to++ = left > 1 ? base64_digits[bits >> 6 & 63] : '=';
        *to++ = left > 2 ? base64_digits[bits & 63] : '=';
    }
    *to = '\0';
    return text;
}

static int base64_digit(char c)
{
    const char *at = c != '\0' ? strchr(base64_digits, c) : NULL;
    return at != NULL ? (int)(at - base64_digits) : -1;
}

ptrdiff_t encode_from_base64(const char *text, size_t size, unsigned char *out)
{
    if (size % 4 != 0)
        return -1;
    unsigned char *to = out;
    for (size_t i = 0; i < size; i += 4) {
        bool last = i + 4 == size;
        size_t padding = last && text[i + 3] == '=' ? (text[i + 2] == '=' ? 2 : 1) : 0;
        uint32_t bits = 0;
        for (size_t j = 0; j < 4; j++) {
            int digit = j >= 4 - padding ? 0 : base64_digit(text[i + j]);
            if (digit < 0)
                return -1;
            bits = bits << 6 | (uint32_t)digit;
        }
        /* Bits that no byte takes must be 0, or two texts would mean the same bytes. */
        if (padding != 0 && (bits & (padding == 1 ? 0xffu : 0xffffu)) != 0)
            return -1;
        *to++ = (unsigned char)(bits >> 16);
        if (padding < 2)
            *to++ = (unsigned char)(bits >> 8);
        if (padding < 1)
            *to++ = (unsigned char)bits;
    }
    return to - out;
}
