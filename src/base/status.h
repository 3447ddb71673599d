/*
 * Outcomes: what an operation came to, and why a thread or step is not there.
 *
 * Both lists come from schema/; a status other than STATUS_OK and STATUS_AGAIN is an error code of
 * the wire contract. No function in the project reports failure in any other way.
 */
#ifndef RETHREAD_BASE_STATUS_H
#define RETHREAD_BASE_STATUS_H

enum status {
    STATUS_OK,
    /* Nothing was done; ask again on a later turn of the loop. Never leaves the server. */
    STATUS_AGAIN,
#define ERROR(name, code, state, text) STATUS_##name,
#include "schema/errors.def"
#undef ERROR
    STATUS_COUNT
};

enum reason {
    REASON_NONE,
#define REASON(name, text, state, summary) REASON_##name,
#include "schema/reasons.def"
#undef REASON
    REASON_COUNT
};

/* The contract's name of a status or reason: static storage; "" where it has none. */
const char *status_code(enum status status);
const char *reason_name(enum reason reason);

#endif
