/* Hashes of what was shown; see weave_visible.h. */
#include "client/weave_visible.h"

#include <string.h>

void weave_visible_begin(struct weave_visible *visible)
{
    crypto_hash_sha256_init(&visible->state);
}

void weave_visible_text(struct weave_visible *visible, struct rethread_bytes text)
{
    if (text.size > 0)
        crypto_hash_sha256_update(&visible->state, text.data, text.size);
}

void weave_visible_tool(struct weave_visible *visible, struct rethread_bytes name)
{
    crypto_hash_sha256_update(&visible->state, (const unsigned char *)"", 1);
    weave_visible_text(visible, name);
}

void weave_visible_end(struct weave_visible *visible, unsigned char hash[RETHREAD_VISIBLE_BYTES])
{
    unsigned char whole[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_final(&visible->state, whole);
    memcpy(hash, whole, RETHREAD_VISIBLE_BYTES);
}

void rethread_weave_visible_hash(struct rethread_bytes text, struct rethread_ids tools,
                                 unsigned char hash[RETHREAD_VISIBLE_BYTES])
{
    struct weave_visible visible;
    weave_visible_begin(&visible);
    weave_visible_text(&visible, text);
    for (size_t i = 0; tools.items != NULL && i < tools.count; i++)
        weave_visible_tool(&visible, tools.items[i]);
    weave_visible_end(&visible, hash);
}
