/* Writes JSON; see json.h. Touches the stream it was given. */
#include "bench/json.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>

void json_start(struct json *json, FILE *out)
{
    *json = (struct json){.out = out};
}

static void quote(FILE *out, const char *text)
{
    fputc('"', out);
    for (const char *at = text; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte == '"' || byte == '\\') {
            fprintf(out, "\\%c", byte);
        } else if (byte < 0x20) {
            fprintf(out, "\\u%04x", byte);
        } else {
            fputc(byte, out);
        }
    }
    fputc('"', out);
}

static void member(struct json *json, const char *name)
{
    assert((json->depth == 0) == (name == NULL));
    if (json->needs_comma) {
        fputs(", ", json->out);
    }
    json->needs_comma = true;
    if (name != NULL) {
        quote(json->out, name);
        fputs(": ", json->out);
    }
}

void json_object_begin(struct json *json, const char *name)
{
    member(json, name);
    fputc('{', json->out);
    json->depth++;
    json->needs_comma = false;
}

void json_object_end(struct json *json)
{
    assert(json->depth > 0);
    fputc('}', json->out);
    json->needs_comma = true;
    if (--json->depth == 0) {
        fputc('\n', json->out);
        json->needs_comma = false;
    }
}

void json_text(struct json *json, const char *name, const char *text)
{
    if (text == NULL) {
        json_none(json, name);
        return;
    }
    member(json, name);
    quote(json->out, text);
}

void json_count(struct json *json, const char *name, uint64_t count)
{
    member(json, name);
    fprintf(json->out, "%" PRIu64, count);
}

void json_number(struct json *json, const char *name, double number)
{
    if (!isfinite(number)) {
        json_none(json, name);
        return;
    }
    member(json, name);
    fprintf(json->out, "%.6g", number);
}

void json_none(struct json *json, const char *name)
{
    member(json, name);
    fputs("null", json->out);
}
