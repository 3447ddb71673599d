/*
 * Names of what the contract lists, and the proof that rethread.h lists the same.
 *
 * The public header stands alone once installed, so its enumerations are written out; here each is
 * pinned to its row in schema/. A row added there does not compile until the header has it.
 */
#include "client/names.h"

enum {
#define ERROR(NAME, code, state, text) ERROR_ROW_##NAME,
#include "schema/errors.def"
#undef ERROR
    ERROR_ROWS
};

enum {
#define REASON(NAME, text, state, summary) REASON_ROW_##NAME,
#include "schema/reasons.def"
#undef REASON
    REASON_ROWS
};

enum {
#define METHOD(NAME, text, summary) METHOD_ROW_##NAME,
#include "schema/methods.def"
#undef METHOD
    METHOD_ROWS
};

/* The public enumerations start at 1 where the rows start at 0. */
#define ERROR(NAME, code, state, text)                                                             \
    _Static_assert((int)RETHREAD_##NAME == (int)ERROR_ROW_##NAME + 1, "error " code);
#include "schema/errors.def"
#undef ERROR
#define REASON(NAME, text, state, summary)                                                         \
    _Static_assert((int)RETHREAD_REASON_##NAME == (int)REASON_ROW_##NAME + 1, "reason " text);
#include "schema/reasons.def"
#undef REASON
#define METHOD(NAME, text, summary)                                                                \
    _Static_assert((int)RETHREAD_METHOD_##NAME == (int)METHOD_ROW_##NAME + 1, "method " text);
#include "schema/methods.def"
#undef METHOD

static const struct {
    const char *code;
    const char *text;
} ERRORS[] = {
#define ERROR(NAME, code, state, text) {code, text},
#include "schema/errors.def"
#undef ERROR
};

static const char *const REASONS[] = {
#define REASON(NAME, text, state, summary) text,
#include "schema/reasons.def"
#undef REASON
};

static const char *const METHODS[] = {
#define METHOD(NAME, text, summary) text,
#include "schema/methods.def"
#undef METHOD
};

static const char *const KINDS[] = {"text", "tokens", "opaque"};
static const char *const TIERS[] = {"memory", "disk"};
static const char *const COMPLETENESSES[] = {"complete", "partial", "miss"};

/* What the library itself reports; the order is that of rethread.h from INVALID_ARGUMENT on. */
static const struct {
    const char *name;
    const char *text;
} LOCAL[] = {
    {"invalid_argument", "An argument makes no sense: a NULL pointer, or an address that is none."},
    {"no_memory", "Memory ran out."},
    {"unresolved", "The host name has no address."},
    {"unreachable", "Connecting failed."},
    {"timeout", "Time is up. The request may still take effect."},
    {"closed", "The connection ended before the response."},
    {"protocol_violation", "The peer sent what no rethread server sends."},
    {"full", "Too many requests are outstanding, or too many bytes unsent. Collect some first."},
    {"idle", "No such request is outstanding."},
};

enum {
    KIND_COUNT = sizeof KINDS / sizeof KINDS[0],
    TIER_COUNT = sizeof TIERS / sizeof TIERS[0],
    COMPLETENESS_COUNT = sizeof COMPLETENESSES / sizeof COMPLETENESSES[0],
    LOCAL_COUNT = sizeof LOCAL / sizeof LOCAL[0],
};
_Static_assert(RETHREAD_IDLE - RETHREAD_INVALID_ARGUMENT + 1 == LOCAL_COUNT,
               "a status has no text");

const char *rethread_strerror(enum rethread_status status)
{
    unsigned number = (unsigned)status;
    if (status == RETHREAD_OK)
        return "Done.";
    if (number - 1 < ERROR_ROWS)
        return ERRORS[number - 1].text;
    if (number - RETHREAD_INVALID_ARGUMENT < LOCAL_COUNT)
        return LOCAL[number - RETHREAD_INVALID_ARGUMENT].text;
    return "The server answered with an error that this library does not know.";
}

const char *rethread_status_name(enum rethread_status status)
{
    unsigned number = (unsigned)status;
    if (status == RETHREAD_OK)
        return "ok";
    if (number - 1 < ERROR_ROWS)
        return ERRORS[number - 1].code;
    if (number - RETHREAD_INVALID_ARGUMENT < LOCAL_COUNT)
        return LOCAL[number - RETHREAD_INVALID_ARGUMENT].name;
    return "server_error";
}

const char *rethread_reason_name(enum rethread_reason reason)
{
    unsigned number = (unsigned)reason;
    if (reason == RETHREAD_REASON_NONE)
        return "";
    return number - 1 < REASON_ROWS ? REASONS[number - 1] : "other";
}

const char *rethread_method_name(enum rethread_method method)
{
    unsigned number = (unsigned)method;
    return number - 1 < METHOD_ROWS ? METHODS[number - 1] : "other";
}

const char *rethread_kind_name(enum rethread_kind kind)
{
    return (unsigned)kind < KIND_COUNT ? KINDS[kind] : "other";
}

const char *rethread_tier_name(enum rethread_tier tier)
{
    return (unsigned)tier < TIER_COUNT ? TIERS[tier] : "other";
}

const char *rethread_completeness_name(enum rethread_completeness completeness)
{
    return (unsigned)completeness < COMPLETENESS_COUNT ? COMPLETENESSES[completeness] : "other";
}

static bool is(struct rethread_bytes text, const char *name)
{
    return text.size == strlen(name) && memcmp(text.data, name, text.size) == 0;
}

static bool find(struct rethread_bytes text, const char *const *names, size_t count, size_t *found)
{
    for (*found = 0; *found < count; ++*found)
        if (is(text, names[*found]))
            return true;
    return false;
}

enum rethread_status client_status_named(struct rethread_bytes code)
{
    for (unsigned i = 0; i < ERROR_ROWS; i++)
        if (is(code, ERRORS[i].code))
            return (enum rethread_status)(i + 1);
    return RETHREAD_SERVER_ERROR;
}

enum rethread_reason client_reason_named(struct rethread_bytes name)
{
    size_t i;
    return find(name, REASONS, REASON_ROWS, &i) ? (enum rethread_reason)(i + 1)
                                                : RETHREAD_REASON_OTHER;
}

enum rethread_method client_method_named(struct rethread_bytes name)
{
    size_t i;
    return find(name, METHODS, METHOD_ROWS, &i) ? (enum rethread_method)(i + 1)
                                                : RETHREAD_METHOD_OTHER;
}

enum rethread_kind client_kind_named(struct rethread_bytes name)
{
    size_t i;
    return find(name, KINDS, KIND_COUNT, &i) ? (enum rethread_kind)i : RETHREAD_KIND_OTHER;
}

enum rethread_tier client_tier_named(struct rethread_bytes name)
{
    size_t i;
    return find(name, TIERS, TIER_COUNT, &i) ? (enum rethread_tier)i : RETHREAD_TIER_OTHER;
}

bool client_completeness_named(struct rethread_bytes name, enum rethread_completeness *completeness)
{
    size_t i;
    bool found = find(name, COMPLETENESSES, COMPLETENESS_COUNT, &i);
    if (found)
        *completeness = (enum rethread_completeness)i;
    return found;
}
