/* Fields of result maps, shared by the answer*.c. Private to them. */
#ifndef RETHREAD_SERVER_ANSWER_PRIVATE_H
#define RETHREAD_SERVER_ANSWER_PRIVATE_H

#include "server/answer.h"

static inline void answer_put_text(struct wire_writer *writer, const char *name, const char *value)
{
    wire_put_text(writer, name);
    wire_put_text(writer, value);
}

static inline void answer_put_text_or_nil(struct wire_writer *writer, const char *name,
                                          const char *value)
{
    wire_put_text(writer, name);
    if (value != NULL) {
        wire_put_text(writer, value);
    } else {
        wire_put_nil(writer);
    }
}

static inline void answer_put_u64(struct wire_writer *writer, const char *name, uint64_t value)
{
    wire_put_text(writer, name);
    wire_put_u64(writer, value);
}

static inline void answer_put_bool(struct wire_writer *writer, const char *name, bool value)
{
    wire_put_text(writer, name);
    wire_put_bool(writer, value);
}

/* nil when there is nothing to say. */
static inline void answer_put_u64_or_nil(struct wire_writer *writer, const char *name, bool known,
                                         uint64_t value)
{
    wire_put_text(writer, name);
    if (known) {
        wire_put_u64(writer, value);
    } else {
        wire_put_nil(writer);
    }
}

static inline void answer_put_bin_or_nil(struct wire_writer *writer, const char *name,
                                         struct bytes value)
{
    wire_put_text(writer, name);
    if (value.size > 0) {
        wire_put_bin(writer, value);
    } else {
        wire_put_nil(writer);
    }
}

/* status, reason? and vouch_ms?, with which replay and stat begin: so many fields. */
unsigned answer_state_fields(enum thread_state state, enum reason reason);
void answer_put_state(struct wire_writer *writer, enum thread_state state, enum reason reason,
                      uint64_t vouch_ms);

const char *answer_tier_name(bool on_disk);

#endif
