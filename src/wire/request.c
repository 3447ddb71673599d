/* Names of the contract's words, and the one way in which a request fails. */
#include "wire/request.h"
#include "wire/parse.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

const char *wire_method_name(enum wire_method method)
{
    static const char *const names[WIRE_METHOD_COUNT] = {
#define METHOD(name, text, summary) [WIRE_METHOD_##name] = text,
#include "schema/methods.def"
#undef METHOD
    };
    assert((unsigned)method < WIRE_METHOD_COUNT);
    return names[method];
}

const char *wire_kind_name(enum wire_kind kind)
{
    static const char *const names[WIRE_KIND_COUNT] = {
        [WIRE_KIND_TEXT] = "text",
        [WIRE_KIND_TOKENS] = "tokens",
        [WIRE_KIND_OPAQUE] = "opaque",
    };
    assert((unsigned)kind < WIRE_KIND_COUNT);
    return names[kind];
}

const char *wire_policy_name(enum wire_policy policy)
{
    static const char *const names[WIRE_POLICY_COUNT] = {
#define POLICY(name, text, summary) [WIRE_POLICY_##name] = text,
#include "schema/policies.def"
#undef POLICY
        [WIRE_POLICY_AUTO] = "auto",
    };
    assert((unsigned)policy < WIRE_POLICY_COUNT);
    return names[policy];
}

enum status wire_fail(struct wire_error *error, enum status status, const char *option,
                      const char *format, ...)
{
    va_list arguments;
    *error = (struct wire_error){.status = status, .version = -1, .cause = ""};
    (void)snprintf(error->option, sizeof error->option, "%s", option);
    va_start(arguments, format);
    (void)vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    return status;
}
