/*
 * Transcripts and envelopes with bytes changed, lost and put elsewhere: each is refused with a
 * sentence or taken, nothing crashes, and what was taken apart comes back together.
 */
#include "tests/client/weave_cases.h"

#include "tests/lib/trial.h"

enum { TRANSCRIPT_BYTES_MAX = 1 << 17 };

static const char *const NAMES[] = {"chat", "anthropic", "responses", "numbers"};

/* Pieces that JSON and transcripts are made of. */
static const char *const PIECES[] = {"{",
                                     "}",
                                     "[",
                                     "]",
                                     ",",
                                     ":",
                                     "\"",
                                     "\\",
                                     "\\u0000",
                                     "\\ud800",
                                     "null",
                                     "true",
                                     "-0",
                                     "1e999",
                                     "\"role\"",
                                     "\"user\"",
                                     "\"type\"",
                                     "\"content\"",
                                     "\"thinking\"",
                                     "\"reasoning\"",
                                     "\"assistant\"",
                                     "\"function_call\"",
                                     "{\"type\":\"reasoning\"},",
                                     "\xff",
                                     "\xed\xa0\x80",
                                     "{\"role\":\"assistant\",\"content\":[]},",
                                     "\"rethread\":\"blocks\"",
                                     "\"at\":1.5"};

static size_t put(char *text, size_t size, size_t at, size_t cut, const char *piece, size_t length)
{
    cut = cut < size - at ? cut : size - at;
    if (size - cut + length > TRANSCRIPT_BYTES_MAX)
        return size;
    memmove(text + at + length, text + at + cut, size - at - cut);
    memcpy(text + at, piece, length);
    return size - cut + length;
}

static size_t mutate(uint64_t *random, char *text, size_t size)
{
    for (uint64_t changes = trial_random(random) % 4; changes > 0; changes--) {
        size_t at = size > 0 ? trial_random(random) % size : 0;
        char other[64];
        const char *piece = PIECES[trial_random(random) % (sizeof PIECES / sizeof *PIECES)];
        size_t length = trial_random(random) % sizeof other;
        switch (trial_random(random) % 6) {
        case 0:
            if (size > 0)
                text[at] = (char)trial_random(random);
            break;
        case 1:
            size = put(text, size, at, trial_random(random) % 20, "", 0);
            break;
        case 2:
            size = put(text, size, at, 0, piece, strlen(piece));
            break;
        case 3:
            size = put(text, size, at, strlen(piece), piece, strlen(piece));
            break;
        case 4:
            length = length < size - at ? length : size - at;
            memcpy(other, text + at, length);
            size = put(text, size, size > 0 ? trial_random(random) % size : 0, 0, other, length);
            break;
        default:
            if (trial_random(random) % 10 == 0)
                size = at;
            break;
        }
    }
    return size;
}

/* A replay of what was taken apart; now and then an envelope of it is changed too. */
static bool weave_back(uint64_t *random, const struct rethread_weave_options *options,
                       const struct rethread_unwoven *unwoven, struct rethread_bytes whole)
{
    size_t count;
    const struct rethread_append_options *from = rethread_unwoven_steps(unwoven, &count);
    struct rethread_step *steps = calloc(count + 1, sizeof *steps);
    struct rethread_replay_result replay = {.steps = steps, .step_count = count};
    struct rethread_woven *woven;
    struct rethread_segment changed = {RETHREAD_KIND_OPAQUE, {NULL, 0}};
    static char envelope[TRANSCRIPT_BYTES_MAX];
    for (size_t i = 0; i < count; i++)
        steps[i] = (struct rethread_step){.step = i,
                                          .tool_calls = from[i].tool_calls,
                                          .visible = from[i].visible,
                                          .segments = from[i].segments};
    bool untouched = true;
    size_t chosen = count > 0 ? trial_random(random) % (2 * count) : 0;
    if (chosen < count && steps[chosen].segments.count > 0) {
        struct rethread_bytes bytes = steps[chosen].segments.items[0].bytes;
        size_t size = bytes.size < sizeof envelope ? bytes.size : sizeof envelope;
        memcpy(envelope, bytes.data, size);
        changed.bytes = (struct rethread_bytes){envelope, mutate(random, envelope, size)};
        steps[chosen].segments = (struct rethread_segments){&changed, 1};
        untouched = false;
    }
    if (count > 0)
        replay.head = rethread_u64(count - 1);
    ck_assert_int_eq(rethread_weave(options, rethread_unwoven_json(unwoven), &replay, &woven),
                     RETHREAD_OK);
    const struct rethread_woven_step *entries = rethread_woven_steps(woven, &count);
    for (size_t i = 0; i < count; i++)
        untouched = untouched && (entries[i].outcome == RETHREAD_WOVEN ||
                                  entries[i].outcome == RETHREAD_WOVEN_BARE);
    /* A run of reasoning alone does not come back, and says so. */
    if (untouched) {
        char *expected = case_canonical(whole);
        char *got = case_canonical(rethread_woven_json(woven));
        ck_assert_msg(strcmp(expected, got) == 0, "%s\nand not\n%s", got, expected);
        free(expected);
        free(got);
    }
    rethread_woven_free(woven);
    free(steps);
    return untouched;
}

START_TEST(test_changed_transcripts)
{
    static char text[TRANSCRIPT_BYTES_MAX];
    struct case_file file = case_read_file(NAMES[_i]);
    uint64_t random = 17 + (uint64_t)_i;
    uint64_t taken = 0;
    uint64_t returned = 0;
    uint64_t refused = 0;
    for (uint64_t round = trial_count(4000); round > 0; round--) {
        const json_t *one =
            json_array_get(file.cases, trial_random(&random) % json_array_size(file.cases));
        struct rethread_weave_options options = case_options(one);
        char *printed = case_print(&file, json_object_get(one, "transcript"), 0);
        size_t size = strlen(printed);
        ck_assert(size < sizeof text);
        memcpy(text, printed, size);
        free(printed);
        struct rethread_bytes whole = {text, mutate(&random, text, size)};
        if (trial_random(&random) % 8 == 0)
            options.as = (enum rethread_transcript)(trial_random(&random) % 3);
        struct rethread_unwoven *unwoven;
        enum rethread_status status = rethread_unweave(&options, whole, &unwoven);
        if (status == RETHREAD_OK) {
            taken++;
            returned += weave_back(&random, &options, unwoven, whole);
        } else {
            ck_assert_int_eq(status, RETHREAD_INVALID_ARGUMENT);
            ck_assert_uint_gt(strlen(rethread_unwoven_error(unwoven)), 0);
            refused++;
        }
        rethread_unwoven_free(unwoven);
    }
    /* Neither too tame nor too wild. */
    ck_assert_uint_gt(taken, 20);
    ck_assert_uint_gt(returned, 10);
    ck_assert_uint_gt(refused, 20);
    case_free_file(&file);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("weave_hostile");
    TCase *all = tcase_create("weave_hostile");
    tcase_add_loop_test(all, test_changed_transcripts, 0, sizeof NAMES / sizeof *NAMES);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
