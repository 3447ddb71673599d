/*
 * MessagePack as text, for tests and worked examples, by way of msgpack-c: what our own reader and
 * writer do is judged against it.
 *
 *   nil true false 12 -3 1.5 "text" 'text' b"bytes" [a, b] {"key": value}
 *
 * In quotes, \xHH is a byte, and \\ \" \' stand for themselves. s(300) and b(300) are 300 times
 * the letter x as str and bin. Keys may be anything and may repeat.
 */
#ifndef RETHREAD_TESTS_LIB_NOTATION_H
#define RETHREAD_TESTS_LIB_NOTATION_H

#include "base/bytes.h"

/* The bytes that a text stands for; the caller frees .data. Ends the process on bad notation. */
struct bytes notation_encode(const char *text);

/*
 * The text that one whole object stands for, in the form above with double quotes; the caller
 * frees it. NULL when msgpack-c does not take the bytes as exactly one object.
 */
char *notation_decode(struct bytes encoded);

#endif
