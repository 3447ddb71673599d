/* The hash of what a call showed: its text, then the names of the tools it called. */
#ifndef RETHREAD_CLIENT_WEAVE_VISIBLE_H
#define RETHREAD_CLIENT_WEAVE_VISIBLE_H

#include "rethread_weave.h"

#include <sodium.h>

struct weave_visible {
    crypto_hash_sha256_state state;
};

void weave_visible_begin(struct weave_visible *visible);
void weave_visible_text(struct weave_visible *visible, struct rethread_bytes text);
void weave_visible_tool(struct weave_visible *visible, struct rethread_bytes name);
void weave_visible_end(struct weave_visible *visible, unsigned char hash[RETHREAD_VISIBLE_BYTES]);

#endif
