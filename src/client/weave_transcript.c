/* Calls of a transcript; see weave_transcript.h. */
#include "client/weave_transcript.h"

#include "client/weave_visible.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct reader {
    struct weave_transcript *transcript;
    struct weave_error *error;
};

/* "messages[3].content[0]: is no object"; `format` goes on behind the item. */
static enum rethread_status wrong(const struct reader *reader, size_t item, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum rethread_status wrong(const struct reader *reader, size_t item, const char *format, ...)
{
    char rest[WEAVE_ERROR_BYTES / 2];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(rest, sizeof rest, format, arguments);
    va_end(arguments);
    weave_error_set(reader->error, "%s[%zu]%s", reader->transcript->list_name, item, rest);
    return RETHREAD_INVALID_ARGUMENT;
}

static bool is_absent(const json_t *value)
{
    return value == NULL || json_is_null(value);
}

/* A string may hold NULs: "assistant\0x" is not "assistant". */
static bool is_text(const json_t *string, const char *text)
{
    size_t length = strlen(text);
    return json_is_string(string) && json_string_length(string) == length &&
           memcmp(json_string_value(string), text, length) == 0;
}

bool weave_transcript_hides(const char *name, const char *field)
{
    static const char *const names[] = {"reasoning", "reasoning_content", "thinking",
                                        "reasoning_details"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return strcmp(name, field) == 0;
}

bool weave_transcript_is_hidden(enum rethread_transcript as, const json_t *block)
{
    const json_t *type = json_object_get(block, "type");
    if (as == RETHREAD_ANTHROPIC)
        return is_text(type, "thinking") || is_text(type, "redacted_thinking");
    return as == RETHREAD_RESPONSES && is_text(type, "reasoning");
}

bool weave_transcript_names(const struct weave_transcript *transcript, const json_t *item)
{
    const json_t *type = json_object_get(item, "type");
    if (transcript->as != RETHREAD_RESPONSES || !json_is_string(json_object_get(item, "id")))
        return false;
    if (type == NULL)
        return json_object_get(item, "role") == NULL;
    return is_text(type, "item_reference") || weave_transcript_is_hidden(RETHREAD_RESPONSES, item);
}

/* ---- Calls ------------------------------------------------------------------------------------
 */

static struct weave_call *add_call(const struct reader *reader, size_t first)
{
    struct weave_transcript *transcript = reader->transcript;
    if (!weave_json_grow((void **)&transcript->calls, &transcript->call_room,
                         transcript->call_count, sizeof *transcript->calls))
        return NULL;
    struct weave_call *call = &transcript->calls[transcript->call_count++];
    *call = (struct weave_call){.first = first,
                                .count = 1,
                                .turn = transcript->users,
                                .final = true,
                                .first_id = transcript->id_count};
    return call;
}

/* The id of a tool call, if it is one that the server takes; further ones of a call are passed
 * over. */
static enum rethread_status add_id(const struct reader *reader, struct weave_call *call,
                                   const json_t *id)
{
    struct weave_transcript *transcript = reader->transcript;
    size_t length = json_string_length(id);
    if (length == 0 || length > WEAVE_ID_BYTES_MAX || call->id_count == WEAVE_IDS_MAX)
        return RETHREAD_OK;
    if (!weave_json_grow((void **)&transcript->ids, &transcript->id_room, transcript->id_count,
                         sizeof *transcript->ids))
        return RETHREAD_NO_MEMORY;
    transcript->ids[transcript->id_count++] = weave_json_bytes(id);
    call->id_count++;
    return RETHREAD_OK;
}

/* Parts of a content that have the type add their text. */
static enum rethread_status read_content(const struct reader *reader, size_t item,
                                         const json_t *content, const char *type, bool typed,
                                         struct weave_visible *visible, bool *has_text)
{
    if (is_absent(content))
        return RETHREAD_OK;
    if (json_is_string(content)) {
        weave_visible_text(visible, weave_json_bytes(content));
        *has_text |= json_string_length(content) > 0;
        return RETHREAD_OK;
    }
    if (!json_is_array(content))
        return wrong(reader, item, ".content: is neither a string nor an array");
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *part = json_array_get(content, i);
        const json_t *given = json_object_get(part, "type");
        if (!json_is_object(part))
            return wrong(reader, item, ".content[%zu]: is no object", i);
        if (given == NULL ? typed : !json_is_string(given))
            return wrong(reader, item, ".content[%zu].type: is no string", i);
        const json_t *text = json_object_get(part, "text");
        if (!is_text(given, type) || !json_is_string(text))
            continue;
        weave_visible_text(visible, weave_json_bytes(text));
        *has_text |= json_string_length(text) > 0;
    }
    return RETHREAD_OK;
}

/* ---- Chat -------------------------------------------------------------------------------------
 */

static const json_t *chat_tool_name(const json_t *tool)
{
    const json_t *name = json_object_get(json_object_get(tool, "function"), "name");
    return json_is_string(name) ? name : json_object_get(json_object_get(tool, "custom"), "name");
}

static bool begins_with_think(const json_t *text)
{
    static const char tag[] = "<think>";
    const char *at = json_string_value(text);
    at += strspn(at, " \t\r\n");
    return strncmp(at, tag, sizeof tag - 1) == 0;
}

/* Whether the first text that there is begins with reasoning. */
static bool is_thinking(const json_t *content)
{
    if (json_is_string(content))
        return begins_with_think(content);
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *part = json_array_get(content, i);
        const json_t *text = json_object_get(part, "text");
        if (is_text(json_object_get(part, "type"), "text") && json_string_length(text) > 0)
            return begins_with_think(text);
    }
    return false;
}

static bool is_empty(const json_t *value)
{
    return json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

static enum rethread_status read_chat_call(const struct reader *reader, size_t item,
                                           json_t *message)
{
    struct weave_visible visible;
    struct weave_call *call = add_call(reader, item);
    if (call == NULL)
        return RETHREAD_NO_MEMORY;
    weave_visible_begin(&visible);
    call->parts = 1;
    enum rethread_status status = read_content(reader, item, json_object_get(message, "content"),
                                               "text", false, &visible, &call->has_text);
    call->thinks = status == RETHREAD_OK && is_thinking(json_object_get(message, "content"));
    const json_t *tools = json_object_get(message, "tool_calls");
    if (status == RETHREAD_OK && !is_absent(tools) && !json_is_array(tools))
        status = wrong(reader, item, ".tool_calls: is no array");
    for (size_t i = 0; status == RETHREAD_OK && i < json_array_size(tools); i++) {
        const json_t *tool = json_array_get(tools, i);
        if (!json_is_object(tool))
            return wrong(reader, item, ".tool_calls[%zu]: is no object", i);
        call->final = false;
        weave_visible_tool(&visible, weave_json_bytes(chat_tool_name(tool)));
        status = add_id(reader, call, json_object_get(tool, "id"));
    }
    /* What tool_calls were before there could be several. */
    const json_t *function = json_object_get(message, "function_call");
    if (json_is_object(function)) {
        call->final = false;
        weave_visible_tool(&visible, weave_json_bytes(json_object_get(function, "name")));
    }
    weave_visible_end(&visible, call->visible);
    const char *name;
    json_t *value;
    json_object_foreach(message, name, value)
    {
        if (!weave_transcript_hides(name, reader->transcript->field))
            continue;
        call->hidden = true;
        call->occupied |= !is_empty(value);
    }
    return status;
}

static enum rethread_status read_chat_message(const struct reader *reader, size_t item,
                                              json_t *message)
{
    const json_t *role = json_object_get(message, "role");
    if (!json_is_string(role))
        return wrong(reader, item, ".role: is no string");
    reader->transcript->users += is_text(role, "user");
    return is_text(role, "assistant") ? read_chat_call(reader, item, message) : RETHREAD_OK;
}

/* ---- Anthropic --------------------------------------------------------------------------------
 */

static enum rethread_status read_anthropic_call(const struct reader *reader, size_t item,
                                                const json_t *content)
{
    struct weave_visible visible;
    struct weave_call *call = add_call(reader, item);
    if (call == NULL)
        return RETHREAD_NO_MEMORY;
    weave_visible_begin(&visible);
    enum rethread_status status =
        read_content(reader, item, content, "text", true, &visible, &call->has_text);
    size_t count = json_is_array(content) ? json_array_size(content) : 0;
    call->parts = json_string_length(content) > 0;
    for (size_t i = 0; status == RETHREAD_OK && i < count; i++) {
        const json_t *block = json_array_get(content, i);
        bool hidden = weave_transcript_is_hidden(RETHREAD_ANTHROPIC, block);
        call->hidden |= hidden;
        call->parts += !hidden;
        if (!is_text(json_object_get(block, "type"), "tool_use"))
            continue;
        call->final = false;
        weave_visible_tool(&visible, weave_json_bytes(json_object_get(block, "name")));
        status = add_id(reader, call, json_object_get(block, "id"));
    }
    call->occupied = call->hidden;
    weave_visible_end(&visible, call->visible);
    return status;
}

/* Whether it says more than results of tools. */
static enum rethread_status read_anthropic_user(const struct reader *reader, size_t item,
                                                const json_t *content)
{
    bool counts = json_is_string(content);
    if (!counts && !is_absent(content) && !json_is_array(content))
        return wrong(reader, item, ".content: is neither a string nor an array");
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *block = json_array_get(content, i);
        if (!json_is_object(block))
            return wrong(reader, item, ".content[%zu]: is no object", i);
        counts |= !is_text(json_object_get(block, "type"), "tool_result");
    }
    reader->transcript->users += counts;
    return RETHREAD_OK;
}

static enum rethread_status read_anthropic_message(const struct reader *reader, size_t item,
                                                   json_t *message)
{
    const json_t *role = json_object_get(message, "role");
    const json_t *content = json_object_get(message, "content");
    if (!json_is_string(role))
        return wrong(reader, item, ".role: is no string");
    if (is_text(role, "user"))
        return read_anthropic_user(reader, item, content);
    return is_text(role, "assistant") ? read_anthropic_call(reader, item, content) : RETHREAD_OK;
}

/* ---- Responses --------------------------------------------------------------------------------
 */

/* It asks for leave to call a tool, and has no call_id. */
static bool is_approval_request(const json_t *item)
{
    return is_text(json_object_get(item, "type"), "mcp_approval_request");
}

static bool is_tool_call(const json_t *item)
{
    const json_t *type = json_object_get(item, "type");
    size_t length = json_string_length(type);
    if (is_approval_request(item))
        return true;
    return length >= 5 && memcmp(json_string_value(type) + length - 5, "_call", 5) == 0;
}

static bool is_message_of(const json_t *item, const char *role)
{
    const json_t *type = json_object_get(item, "type");
    return (type == NULL || is_text(type, "message")) &&
           is_text(json_object_get(item, "role"), role);
}

static bool is_of_model(const json_t *item)
{
    return weave_transcript_is_hidden(RETHREAD_RESPONSES, item) || is_tool_call(item) ||
           is_message_of(item, "assistant");
}

/* The run that `call` has so far is whole: its text, then its tools. */
static enum rethread_status read_run(const struct reader *reader, struct weave_call *call)
{
    struct weave_visible visible;
    const json_t *list = reader->transcript->list;
    enum rethread_status status = RETHREAD_OK;
    weave_visible_begin(&visible);
    for (size_t i = 0; status == RETHREAD_OK && i < call->count; i++) {
        const json_t *item = json_array_get(list, call->first + i);
        if (is_message_of(item, "assistant"))
            status = read_content(reader, call->first + i, json_object_get(item, "content"),
                                  "output_text", false, &visible, &call->has_text);
        bool hidden = weave_transcript_is_hidden(RETHREAD_RESPONSES, item);
        call->hidden |= hidden;
        call->parts += !hidden;
    }
    for (size_t i = 0; status == RETHREAD_OK && i < call->count; i++) {
        const json_t *item = json_array_get(list, call->first + i);
        const json_t *name = json_object_get(item, "name");
        const json_t *id = json_object_get(item, "call_id");
        if (!is_tool_call(item))
            continue;
        if (!json_is_string(name))
            name = json_object_get(item, "type");
        call->final &= !json_is_string(id) && !is_approval_request(item);
        weave_visible_tool(&visible, weave_json_bytes(name));
        status = add_id(reader, call, id);
    }
    call->occupied = call->hidden;
    weave_visible_end(&visible, call->visible);
    return status;
}

static enum rethread_status read_items(const struct reader *reader)
{
    struct weave_transcript *transcript = reader->transcript;
    enum rethread_status status = RETHREAD_OK;
    struct weave_call *run = NULL;
    for (size_t i = 0; status == RETHREAD_OK && i < json_array_size(transcript->list); i++) {
        const json_t *item = json_array_get(transcript->list, i);
        const json_t *type = json_object_get(item, "type");
        if (!json_is_object(item))
            return wrong(reader, i, ": is no object");
        if (type != NULL && !json_is_string(type))
            return wrong(reader, i, ".type: is no string");
        if (is_of_model(item) && run != NULL) {
            run->count++;
        } else if (is_of_model(item)) {
            run = add_call(reader, i);
            if (run == NULL)
                return RETHREAD_NO_MEMORY;
        } else {
            if (run != NULL)
                status = read_run(reader, run);
            run = NULL;
            transcript->users += is_text(json_object_get(item, "role"), "user");
        }
    }
    return status == RETHREAD_OK && run != NULL ? read_run(reader, run) : status;
}

/* ---- The whole --------------------------------------------------------------------------------
 */

static enum rethread_status read_messages(const struct reader *reader)
{
    const struct weave_transcript *transcript = reader->transcript;
    for (size_t i = 0; i < json_array_size(transcript->list); i++) {
        json_t *message = json_array_get(transcript->list, i);
        if (!json_is_object(message))
            return wrong(reader, i, ": is no object");
        enum rethread_status status = transcript->as == RETHREAD_CHAT
                                          ? read_chat_message(reader, i, message)
                                          : read_anthropic_message(reader, i, message);
        if (status != RETHREAD_OK)
            return status;
    }
    return RETHREAD_OK;
}

enum rethread_status weave_transcript_read(struct weave_transcript *transcript,
                                           enum rethread_transcript as, const char *field,
                                           json_t *root, struct weave_error *error)
{
    struct reader reader = {transcript, error};
    const char *name = as == RETHREAD_RESPONSES ? "input" : "messages";
    assert(root != NULL);
    *transcript = (struct weave_transcript){
        .as = as, .field = field, .root = root, .list = root, .list_name = ""};
    if (json_is_object(root)) {
        transcript->list = json_object_get(root, name);
        transcript->list_name = name;
    }
    if (as == RETHREAD_RESPONSES && json_is_object(root) && json_is_string(transcript->list)) {
        transcript->list = NULL;
        transcript->users = 1;
        return RETHREAD_OK;
    }
    if (!json_is_array(transcript->list)) {
        weave_error_set(error,
                        json_is_object(root) ? "`%s` of the object is no array"
                                             : "is neither an array nor an object with `%s`",
                        name);
        return RETHREAD_INVALID_ARGUMENT;
    }
    return as == RETHREAD_RESPONSES ? read_items(&reader) : read_messages(&reader);
}

void weave_transcript_free(struct weave_transcript *transcript)
{
    json_decref(transcript->root);
    free(transcript->calls);
    free(transcript->ids);
    *transcript = (struct weave_transcript){0};
}

json_t *weave_transcript_with(const struct weave_transcript *transcript, json_t *list)
{
    if (transcript->root == transcript->list || list == NULL)
        return list;
    json_t *root = weave_json_copy(transcript->root);
    if (root == NULL) {
        json_decref(list);
        return NULL;
    }
    if (json_object_set_new(root, transcript->list_name, list) == 0)
        return root;
    json_decref(root);
    return NULL;
}
