/* Tables of methods and options from schema/, and calls by method; see contract.h. */
#include "cli/contract.h"

#include "schema/c_types.h"

#include <assert.h>
#include <string.h>

#define NEED_REQUIRED true
#define NEED_OPTIONAL false

const struct contract_method contract_methods[] = {
#define METHOD(NAME, text, says) {RETHREAD_METHOD_##NAME, text, says},
#include "schema/methods.def"
#undef METHOD
};
const size_t contract_method_count = sizeof contract_methods / sizeof *contract_methods;

const struct contract_option contract_options[] = {
#define OPTION(METHOD, field, TYPE, NEED, least, most, says)                                       \
    {.method = RETHREAD_METHOD_##METHOD,                                                           \
     .name = #field,                                                                               \
     .type = _Generic(((STRUCT_##METHOD *)0)->field, FIELD_##TYPE                                  \
                      : OPTION_##TYPE),                                                            \
     .required = NEED_##NEED,                                                                      \
     .min = least,                                                                                 \
     .max = most,                                                                                  \
     .summary = says,                                                                              \
     .offset = offsetof(STRUCT_##METHOD, field)},
#include "schema/options.def"
#undef OPTION
};
const size_t contract_option_count = sizeof contract_options / sizeof *contract_options;

const struct contract_option *contract_find(enum rethread_method method, const char *name)
{
    for (size_t i = 0; i < contract_option_count; i++)
        if (contract_options[i].method == method && strcmp(contract_options[i].name, name) == 0)
            return &contract_options[i];
    return NULL;
}

bool contract_is_set(const struct contract_option *option,
                     const union contract_arguments *arguments)
{
    const void *field = (const char *)arguments + option->offset;
    switch (option->type) {
    case OPTION_ID:
    case OPTION_TEXT:
        return ((const struct rethread_bytes *)field)->data != NULL;
    case OPTION_U64:
        return ((const struct rethread_u64 *)field)->set;
    case OPTION_I64:
        return ((const struct rethread_i64 *)field)->set;
    case OPTION_BOOL:
        return ((const struct rethread_bool *)field)->set;
    case OPTION_ACK:
        return *(const enum rethread_ack *)field != RETHREAD_ACK_DEFAULT;
    case OPTION_POLICY:
    case OPTION_MISMATCH:
    case OPTION_KIND:
        return *(const char *const *)field != NULL;
    case OPTION_PREFIXES:
        return ((const struct rethread_prefixes *)field)->items != NULL;
    case OPTION_IDS:
    case OPTION_PREFIX:
        return ((const struct rethread_ids *)field)->items != NULL;
    case OPTION_KINDS:
        return ((const struct rethread_segments *)field)->items != NULL;
    case OPTION_HAVE:
        return ((const struct rethread_have *)field)->set;
    }
    return false;
}

enum rethread_status contract_call(struct rethread *connection, enum rethread_method method,
                                   const union contract_arguments *arguments,
                                   struct rethread_result **result)
{
    switch (method) {
    case RETHREAD_METHOD_HELLO:
        return rethread_hello(connection, &arguments->hello, result);
    case RETHREAD_METHOD_PING:
        return rethread_ping(connection, result);
    case RETHREAD_METHOD_APPEND:
        return rethread_append(connection, &arguments->append, result);
    case RETHREAD_METHOD_REPLAY:
        return rethread_replay(connection, &arguments->replay, result);
    case RETHREAD_METHOD_STAT:
        return rethread_stat(connection, &arguments->stat, result);
    case RETHREAD_METHOD_TOUCH:
        return rethread_touch(connection, &arguments->touch, result);
    case RETHREAD_METHOD_FORK:
        return rethread_fork(connection, &arguments->fork, result);
    case RETHREAD_METHOD_REWIND:
        return rethread_rewind(connection, &arguments->rewind, result);
    case RETHREAD_METHOD_FORGET:
        return rethread_forget(connection, &arguments->forget, result);
    case RETHREAD_METHOD_LIST:
        return rethread_list(connection, &arguments->list, result);
    case RETHREAD_METHOD_INFO:
        return rethread_info(connection, result);
    case RETHREAD_METHOD_BEGIN:
        return rethread_begin(connection, &arguments->begin, result);
    case RETHREAD_METHOD_CHUNK:
        return rethread_chunk(connection, &arguments->chunk, result);
    case RETHREAD_METHOD_COMMIT:
        return rethread_commit(connection, &arguments->commit, result);
    case RETHREAD_METHOD_ABORT:
        return rethread_abort(connection, &arguments->abort, result);
    case RETHREAD_METHOD_OTHER:
        break;
    }
    assert(method != RETHREAD_METHOD_OTHER);
    *result = NULL;
    return RETHREAD_INVALID_ARGUMENT;
}
