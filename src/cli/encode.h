/*
 * Bytes as people and JSON can carry them.
 *
 * Escaped text: printable ASCII and UTF-8 stand for themselves; any other byte is \xNN, and a
 * backslash is \\. It never holds what could drive a terminal (controls, direction marks).
 */
#ifndef RETHREAD_CLI_ENCODE_H
#define RETHREAD_CLI_ENCODE_H

#include "rethread.h"

#include <stdbool.h>
#include <stddef.h>

/* To be freed. With keep_lines, newlines and tabs and backslashes stay as they are. */
char *encode_escape(struct rethread_bytes bytes, bool keep_lines);

/*
 * The bytes that escaped text stands for, into `out` (at least strlen(text) bytes); -1 when a
 * backslash is followed by anything but a backslash or x and two hexadecimal digits.
 */
ptrdiff_t encode_unescape(const char *text, unsigned char *out);

/* Two hexadecimal digits a byte, `size` bytes exactly. */
bool encode_from_hex(const char *text, unsigned char *out, size_t size);

/* To be freed, NUL-terminated, in lower case. */
char *encode_hex(struct rethread_bytes bytes);

/* To be freed, NUL-terminated. */
char *encode_base64(struct rethread_bytes bytes);

/* With padding, no white space. `out` has room for size / 4 * 3 bytes. -1: it is no base64. */
ptrdiff_t encode_from_base64(const char *text, size_t size, unsigned char *out);

/* Bytes of the valid UTF-8 character at the start of text; 0 if there is none. */
size_t encode_utf8_length(const unsigned char *text, size_t size);

#endif
