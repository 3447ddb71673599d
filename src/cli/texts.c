/* What `help` says beyond the schema; see texts.h. */
#include "cli/texts.h"

const char text_about[] =
    "Thread IDs and other ids are bytes. A byte that is no printable text is shown, and can be\n"
    "given, as \\xNN; a backslash is \\\\. With --json an id that is no UTF-8 is a field of its\n"
    "own, thread_base64 instead of thread, and likewise for the others.\n"
    "Times take ms, s, m, h or d (bare: ms); sizes take K, M or G (powers of 1024).\n"
    "\n"
    "With --json an error that the server answered is an object as well, {\"error\": {...}}; what\n"
    "else goes wrong is said on standard error and by the exit code alone.\n"
    "\n"
    "Exit codes:\n"
    "  0  done (a partial replay too, unless --strict)\n"
    "  1  miss: the thread or step is not there, and the reason was said\n"
    "  2  usage: the command line, the input or the request is wrong (bad_request)\n"
    "  3  server or network: another error of the server, a conflict too; no connection\n";

const char text_append[] =
    "The trace comes from --text and --segment, in the order given. --segment KIND=FILE reads\n"
    "a file, KIND=- the standard input; kinds are text, tokens and opaque. A model call that\n"
    "produced no reasoning leaves a bare step: say --bare.\n"
    "\n"
    "  rethread-cli append conv-1 --text 'The user wants ...' --tool-call call_7\n"
    "  rethread-cli append conv-1 --segment text=reasoning.txt --segment opaque=signature\n";

const char text_replay[] =
    "Payloads are shown only with --reveal; with --json as \"text\", or as \"base64\" where\n"
    "they are no UTF-8. A partial replay exits with 0, with --strict with 1; a miss with 1.\n"
    "Prefixes are 16 bytes, or 32 hexadecimal digits; several --prefix stand newest first.\n"
    "--have 7:6:2-4,6 says that steps 0 to 6 are held as of version 7, and that the model has the\n"
    "reasoning of steps 2, 3, 4 and 6 in its context.\n"
    "\n"
    "Policies:\n"
#define POLICY(NAME, text, says) "  " text ": " says "\n"
#include "schema/policies.def"
#undef POLICY
    "  auto: what the profile of --model says, or of the thread's newest model.\n"
    "\n"
    "  rethread-cli replay conv-1 --policy auto --model qwen3-8b --turn 4 --reveal\n"
    "  rethread-cli replay conv-1 --step-prefix 3:00112233445566778899aabbccddeeff\n";

const char text_begin[] =
    "For a generation that takes long: begin, chunks while it goes on, then commit or abort. "
    "Until\n"
    "then replays answer with the steps before and say that one is in flight, and what would add\n"
    "or drop steps is a conflict, cause claimed. Whoever knows the claim may go on with it; "
    "without\n"
    "a chunk it ends, and leaves nothing behind. With --json the claim is a string, so that no\n"
    "reader rounds it. `rethread-cli stream` does all of this for one pipe.\n"
    "\n"
    "  claim=$(rethread-cli begin conv-1 --json | jq -r .claim)\n"
    "  rethread-cli chunk conv-1 --claim $claim --text 'The user '\n"
    "  rethread-cli chunk conv-1 --claim $claim --file -\n"
    "  rethread-cli commit conv-1 --claim $claim --tool-call call_7\n";

const char text_chunk[] =
    "What chunks bring is joined to one segment, in order; a chunk without any bytes keeps the\n"
    "claim for longer. --file - reads the standard input, to its end.\n";

const char text_commit[] =
    "--text and --segment add segments behind what was streamed, a signature say. When there was\n"
    "no chunk and there are none of these, say --bare: the call produced no reasoning.\n";

const char text_stream[] =
    "Begins a step, sends what comes at the standard input while it comes, and commits it at its\n"
    "end, with the options of append. While the input is silent the claim is kept. --segment "
    "files\n"
    "are read at the end, and come behind what was streamed. When the input cannot be read, or on\n"
    "an interrupt (ctrl-C), it aborts, and nothing of the step is kept; a second interrupt ends "
    "the\n"
    "program at once, and the server lets go of the step when the claim runs out. An empty input\n"
    "is a mistake, unless --bare or --segment says what the step is then. A writer that failed\n"
    "cannot be told from one that is done: who needs that uses begin, chunk and commit.\n"
    "\n"
    "  model-client --reasoning-only | rethread-cli stream conv-1 --model m --tool-call call_7\n";

const char text_touch[] = "Exits with 1 when any of the threads is not there.\n";

const char text_forget[] = "Exits with 0 as well when there was nothing to forget.\n";

const char text_list[] =
    "Pages end with the cursor of the next one; --all follows it to the end. With --json each\n"
    "thread is a line, and so is the cursor, written as --cursor takes it.\n";

const char text_weave[] =
    "Reads JSON: an array of messages (chat, anthropic) or items (responses), or the request\n"
    "object that holds it as `messages` or `input`. Replays the thread and prints the same JSON\n"
    "with the reasoning in place. Calls of the model are found by the ids of their tool calls,\n"
    "by the hash of what they showed, or by position where that is certain; what cannot be\n"
    "matched, or has no place in this form, is left out. A report goes to standard error, step\n"
    "by step, with --json as one object.\n"
    "Exit codes: 0 also when something was left out, 1 with --strict; 1 when nothing is there to\n"
    "weave in (a miss), the transcript is then printed as it came; 2 it is no such transcript.\n"
    "\n"
    "  rethread-cli weave conv-1 --as chat --model qwen3-32b < visible.json > request.json\n"
    "  rethread-cli weave conv-1 --as anthropic --strict < visible.json || echo 'not whole'\n";

const char text_unweave[] =
    "Reads JSON as weave does, with the reasoning in it. Without --thread it prints\n"
    "  {\"visible\": the transcript without its reasoning, \"steps\": [one for each call]}\n"
    "and speaks to no server; the steps are as import takes them. With --thread it appends to\n"
    "the thread those steps that it does not have yet, and prints the visible transcript alone.\n"
    "Each is sent with the version that it expects and a key made of that and its content, so\n"
    "that doing it again changes nothing. If a step of the thread is another than that of the\n"
    "transcript, nothing is appended and the exit code is 3; a call without reasoning differs\n"
    "from no step that showed the same.\n"
    "--field names the member that holds reasoning in chat messages, besides the usual ones.\n"
    "\n"
    "  rethread-cli unweave --as responses < whole.json | jq .visible\n"
    "  rethread-cli unweave conv-1 --as chat --model qwen3-32b < whole.json > visible.json\n"
    "  rethread-cli unweave --as chat < whole.json | jq -c '.steps[]' |\n"
    "      rethread-cli import --thread conv-2 -\n";

const char text_import[] =
    "Each line is one step, as a JSON object, in one of two forms. Fields not named are "
    "ignored.\n"
    "\n"
    "What `export` writes:\n"
    "  {\"thread\": \"conv-1\", \"step\": 0, \"turn\": 1, \"final\": false, \"model\": \"m\",\n"
    "   \"response_id\": \"r\", \"tool_calls\": [\"call_7\"], \"tokens\": 12,\n"
    "   \"visible\": \"00112233445566778899aabbccddeeff\",\n"
    "   \"segments\": [{\"kind\": \"text\", \"text\": \"The user ...\"},\n"
    "                {\"kind\": \"opaque\", \"base64\": \"AAEC\"}]}\n"
    "\n"
    "Rows of a conversation log (no \"segments\"):\n"
    "  thread            the thread\n"
    "  turn              the row's number among the thread's rows, from 0: the step\n"
    "  after             \"user\": a user message came before. The contract's `turn` is the\n"
    "                    number of such rows so far, this one included; it is not sent for a\n"
    "                    row without `after`\n"
    "  reasoning         a text segment, and after it\n"
    "  opaque            an opaque segment (a vendor's signature, say)\n"
    "  blocks            in place of the two above, when there are any: for each, its `text`\n"
    "                    and then its `opaque`, in order\n"
    "  tool_calls        the `id` of each that has one; `final` is whether there are none\n"
    "  model, response_id, tokens\n"
    "A row without any of reasoning, opaque and blocks is a bare step.\n"
    "\n"
    "A line without a thread belongs to that of --thread, if it is given.\n"
    "Steps of a thread must follow each other from 0; threads may be mixed. Every step is sent\n"
    "with the version that it `expect`s, so that it goes to its position or nowhere. Of a "
    "thread\n"
    "that the server has already, steps that are the same (kinds and bytes of the trace) are\n"
    "counted as there already and the rest is added: a second import of a file changes nothing,\n"
    "and one that was cut off goes on where it stopped. A thread that differs is refused from\n"
    "there on and named, and the exit code is 3.\n"
    "A bad line stops the import with its number and exit code 2; --skip-bad counts it instead,\n"
    "and then the later lines of its thread, which would not be whole.\n"
    "\n"
    "  zcat log.jsonl.gz | rethread-cli import -\n";

const char text_export[] =
    "All threads, sorted by id, unless some are named. This is the command that reveals: it\n"
    "writes payloads by nature, and needs --reveal only when they would go to a terminal. A "
    "file\n"
    "made by --output is readable by its owner alone. Deadlines are not refreshed.\n"
    "`help import` shows the format. Not exported: prefixes, ttls, idempotency keys. A step "
    "that\n"
    "is missing is a line with its reason as \"missing\", which import refuses; the exit code "
    "is\n"
    "then 1. Missing for `budget`: the thread is larger than a frame, raise --frame-max here "
    "and\n"
    "at the server.\n"
    "\n"
    "  rethread-cli export conv-1 --output conv-1.jsonl\n";

const char text_verify[] =
    "Speaks to no server: stop the one that uses DIR first. Each damage is a line on stderr, in\n"
    "the store's own numbers; ids and payloads are not shown. No record is changed. What is said\n"
    "to be in the log is not in the tree yet, the server brings it there when it starts.\n"
    "Exit codes: 0 all is well, 1 damage was found, 3 DIR cannot be read or is in use.\n"
    "\n"
    "  rethread-cli verify ./rethread-data\n";

const char text_completion[] =
    "  rethread-cli completion bash > ~/.local/share/bash-completion/completions/rethread-cli\n";
