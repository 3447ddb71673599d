/*
 * A line of text, as tests/lib/domain.h has them, made into a request. For domain.c.
 */
#ifndef RETHREAD_TESTS_LIB_DOMAIN_LINE_H
#define RETHREAD_TESTS_LIB_DOMAIN_LINE_H

#include "tests/lib/ask.h"

enum { DOMAIN_WORDS_MAX = 300, DOMAIN_LINE_MAX = 1 << 16 };

/* A line being read: its words, and payloads that were made from them. */
struct domain_line {
    char text[DOMAIN_LINE_MAX];
    char *words[DOMAIN_WORDS_MAX];
    unsigned count;
    char *made[DOMAIN_WORDS_MAX];
    unsigned made_count;
    char claim; /* its letter */
    struct ask ask;
};

/* The request points into the line until that is freed. Ends the process on what nobody knows. */
void domain_line_read(struct domain_line *reading, const char *line);
void domain_line_free(struct domain_line *reading);

/* What the letter stands for from now on. */
void domain_line_claim(char letter, uint64_t claim);

_Noreturn void domain_give_up(const char *what);

#endif
