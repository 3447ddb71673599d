/* Names of statuses and reasons, straight from the schema. */
#include "base/status.h"

#include <assert.h>

const char *status_code(enum status status)
{
    static const char *const codes[STATUS_COUNT] = {
        [STATUS_OK] = "",
        [STATUS_AGAIN] = "",
#define ERROR(name, code, state, text) [STATUS_##name] = code,
#include "schema/errors.def"
#undef ERROR
    };
    assert((unsigned)status < STATUS_COUNT);
    return codes[status];
}

const char *reason_name(enum reason reason)
{
    static const char *const names[REASON_COUNT] = {
        [REASON_NONE] = "",
#define REASON(name, text, state, summary) [REASON_##name] = text,
#include "schema/reasons.def"
#undef REASON
    };
    assert((unsigned)reason < REASON_COUNT);
    return names[reason];
}
