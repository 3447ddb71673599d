/* Keeps the ledger; makes contents out of their numbers. */
#include "tests/crash/ledger.h"

#include "tests/lib/trial.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void ledger_free(struct ledger *ledger)
{
    free(ledger->notes);
    *ledger = (struct ledger){0};
}

static void add(struct ledger *ledger, const uint8_t *data)
{
    if (ledger->count == ledger->capacity) {
        ledger->capacity = ledger->capacity * 2 + 64;
        ledger->notes = realloc(ledger->notes, ledger->capacity * sizeof *ledger->notes);
        assert(ledger->notes);
    }
    memcpy(&ledger->notes[ledger->count], data, sizeof *ledger->notes);
    ledger->count++;
    assert(ledger->notes[ledger->count - 1].index == ledger->count);
}

static void keep(struct ledger *ledger, uint32_t index)
{
    assert(index > 0 && index <= ledger->count);
    uint32_t *of = &ledger->kept_of[ledger->notes[index - 1].thread];
    *of = index > *of ? index : *of;
    ledger->kept = index > ledger->kept ? index : ledger->kept;
}

/* What came to be there at a start is there from then on; the rest never was. */
static void open_at(struct ledger *ledger, uint32_t known)
{
    assert(known >= ledger->kept && known <= ledger->count);
    ledger->count = known;
    for (uint32_t i = 1; i <= known; i++) {
        keep(ledger, i);
    }
}

void ledger_step(struct ledger *ledger, const struct trace_event *event)
{
    if (event->kind != TRACE_MARK) {
        return;
    }
    const uint8_t *data = (const uint8_t *)(event + 1);
    uint32_t number = 0;
    if (event->data_bytes == sizeof number) {
        memcpy(&number, data, sizeof number);
    }
    switch ((enum ledger_mark)event->handle) {
    case MARK_SUBMIT:
        assert(event->data_bytes == sizeof(struct note));
        add(ledger, data);
        break;
    case MARK_REFUSED:
        assert(ledger->count > 0);
        ledger->count--;
        break;
    case MARK_KEPT:
        keep(ledger, number);
        break;
    case MARK_FAILED:
        ledger->failed++;
        break;
    case MARK_BASE:
    case MARK_FAULTS:
        break;
    case MARK_OPENED:
        open_at(ledger, number);
        break;
    }
}

struct note ledger_thread(const struct ledger *ledger, uint32_t changes, unsigned thread)
{
    for (uint32_t i = changes; i > 0; i--) {
        if (ledger->notes[i - 1].thread == thread) {
            return ledger->notes[i - 1];
        }
    }
    return (struct note){.thread = (uint16_t)thread};
}

/* ---- Contents ------------------------------------------------------------------------------ */

size_t ledger_content_bytes(uint64_t content)
{
    uint64_t random = content;
    uint64_t dice = trial_below(&random, 100);
    uint64_t most = dice < 70 ? 600 : dice < 92 ? 8000 : dice < 98 ? 40000 : 200000;
    return 1 + (size_t)trial_below(&random, most);
}

bool ledger_content_is_tokens(uint64_t content)
{
    return ledger_content_bytes(content) % 4 == 0;
}

struct bytes ledger_content_visible(uint64_t content, uint8_t to[16])
{
    bytes_store_be64(to, content);
    bytes_store_be64(to + 8, ~content);
    return bytes_of(to, content % 2 ? 16 : 0);
}

uint32_t ledger_floor(const struct note *note)
{
    return note->index * 7;
}

void ledger_content_fill(uint64_t content, uint8_t *to)
{
    size_t size = ledger_content_bytes(content);
    uint64_t random = content ^ 0x5a5a;
    bool prose = content % 3 == 0;
    bool narrow = content % 3 == 1 && ledger_content_is_tokens(content);
    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = trial_random(&random);
        word = prose ? (word & UINT64_C(0x0303030303030303)) + UINT64_C(0x6161616161616161) : word;
        word = narrow ? word & UINT64_C(0x0003ffff0003ffff) : word;
        memcpy(to + at, &word, size - at < 8 ? size - at : 8);
    }
}

void ledger_content_key(uint64_t content, char key[LEDGER_ID_BYTES])
{
    snprintf(key, LEDGER_ID_BYTES, "call-%016" PRIx64, content);
}

struct recall_entry ledger_recall(const struct note_recall *recall, uint32_t ordinal)
{
    return (struct recall_entry){.key = {.low = recall->content, .high = ~recall->content},
                                 .digest = {recall->content * 3, recall->content * 5},
                                 .ordinal = ordinal,
                                 .step = recall->step,
                                 .version = recall->version,
                                 .created = ordinal == 1};
}

void ledger_thread_id(unsigned thread, char id[LEDGER_ID_BYTES])
{
    snprintf(id, LEDGER_ID_BYTES, "thread-%u", thread);
}
