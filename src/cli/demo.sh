#!/bin/sh
# The main job of rethread, shown: a worker's hidden reasoning is kept, given back exactly, also long
# after it has left memory and after a crash, and when it is gone the reason is told.
#
#   sh src/cli/demo.sh SERVER CLI      (make demo does it)
#
# Starts a server of its own on a free loopback port, with a data directory of its own, and stops it
# again; nothing is left behind. Exits with 0 only if everything was as promised. The conversation is demo-conversation.jsonl beside this file, one
# message per line; its strings hold no quotes and no backslashes, so that sed can read them.

set -eu

server=${1:?usage: demo.sh SERVER CLI}
cli=${2:?usage: demo.sh SERVER CLI}
conversation=$(cd "$(dirname "$0")" && pwd)/demo-conversation.jsonl
server=$(cd "$(dirname "$server")" && pwd)/$(basename "$server")
cli=$(cd "$(dirname "$cli")" && pwd)/$(basename "$cli")
thread=rebooking-QX7P2M
work=$(mktemp -d)
server_pid=

bold='' dim='' plain=''
if [ -t 1 ] && [ -n "${TERM:-}" ] && [ "$TERM" != dumb ]; then
    bold=$(printf '\033[1m') dim=$(printf '\033[2m') plain=$(printf '\033[0m')
fi

clean_up() {
    trap - EXIT INT TERM
    if [ -n "$server_pid" ]; then
        kill "$server_pid" 2>/dev/null || :
        wait "$server_pid" 2>/dev/null || :
    fi
    cd /
    rm -rf "$work"
}
cd "$work"
trap clean_up EXIT
trap 'clean_up; exit 130' INT
trap 'clean_up; exit 143' TERM

fail() {
    echo "demo: not as promised: $*" >&2
    exit 1
}

title() {
    printf '\n%s%s%s\n' "$bold" "$*" "$plain"
}

# The string field $1 of the line $2; nothing when it is not there.
field() {
    printf '%s\n' "$2" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"
}

# Runs the client, showing the command and what it prints. Its exit code must be $1.
show() {
    want=$1
    shift
    printf '  %s$ rethread-cli %s%s\n' "$dim" "$*" "$plain"
    code=0
    "$cli" "$@" >"shown" 2>&1 || code=$?
    sed 's/^/    /' "shown"
    [ "$code" = "$want" ] || fail "exit code $code, not $want: $*"
}

wrap() {
    fold -s -w $((78 - $1)) | sed "s/ *\$//; s/^/$(printf '%*s' "$1" '')/"
}

start_server() {
    : >"log" # of the server before
    "$server" --listen 127.0.0.1:0 --data data 2>"log" &
    server_pid=$!
    tries=0
    until grep -q '^rethread-server: ready on ' "log"; do
        if ! kill -0 "$server_pid" 2>/dev/null; then
            cat "log" >&2
            fail "the server ended"
        fi
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || fail "the server is not ready after 10 s"
        sleep 0.1
    done
    RETHREAD_ADDRESS=$(sed -n 's/^rethread-server: ready on //p' "log" | head -n 1)
    export RETHREAD_ADDRESS
}

# Until the disk alone has the thread.
await_demotion() {
    tries=0
    until "$cli" stat "$thread" | grep -q disk; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || fail "the thread is in memory 10 s past its ttl"
        sleep 0.1
    done
}

# The replay shown last came from disk, all of it, and its bytes are those of the first.
all_from_disk() {
    grep -q ": complete, $steps steps" "shown" || fail "the replay is not complete"
    [ "$(grep -c ' disk$' "shown")" = "$steps" ] || fail "the steps did not come from disk"
    "$cli" export "$thread" >"again"
    cmp -s "back" "again" || fail "the steps are not what they were"
}

# One hidden step, as a worker hands it over after a model call: the reasoning and the vendor's
# signature of it, to the position where it belongs; answered when it would survive a crash.
append() {
    printf '%s' "$(field reasoning "$line")" >"text-$step"
    printf '%s' "$(field opaque "$line")" >"opaque-$step"
    call=$(field tool_call "$line")
    set -- "$thread" --expect "$step" --key "request-$step" --turn "$turn" --model demo-model \
        --ack disk --segment "text=text-$step" --segment "opaque=opaque-$step"
    [ -z "$call" ] || set -- "$@" --tool-call "$call"
    "$cli" append "$@" >/dev/null || fail "step $step was not taken"
}

play() {
    step=0 turn=0
    while IFS= read -r line; do
        case $(field role "$line") in
        user) turn=$((turn + 1)) ;;
        assistant)
            append
            step=$((step + 1))
            ;;
        esac
    done <"$conversation"
    steps=$step
}

# The recovered payload of kind $1 of the step, from the line that export wrote for it.
recovered() {
    printf '%s\n' "$back" |
        sed -n "s/.*{\"kind\":\"$1\",\"bytes\":[0-9]*,\"text\":\"\([^\"]*\)\"}.*/\1/p"
}

hidden_step() {
    back=$(sed -n "$((step + 1))p" "back")
    for kind in text opaque; do
        printf '%s' "$(recovered $kind)" >"recovered"
        [ -s "recovered" ] && cmp -s "recovered" "$kind-$step" ||
            fail "the $kind of step $step is not what was appended"
    done
    printf '%s            <hidden step %d: %d bytes of reasoning, %d of signature; exact>\n' \
        "$dim" "$step" "$(wc -c <"text-$step")" "$(wc -c <"opaque-$step")"
    recovered text | wrap 14
    printf '%s' "$plain"
    step=$((step + 1))
}

say() {
    printf '%-10s  ' "$1"
    printf '%s\n' "$2" | wrap 12 | sed '1s/^ *//'
}

transcript() {
    step=0
    while IFS= read -r line; do
        role=$(field role "$line") content=$(field content "$line")
        [ "$role" != assistant ] || hidden_step
        [ -z "$content" ] || say "$role" "$content"
        call=$(field tool_call "$line")
        [ -z "$call" ] || say "assistant" "calls $(field call "$line") as $call"
    done <"$conversation"
    [ "$step" = "$steps" ] || fail "$step steps came back, not $steps"
}

# The conversation as a client has it, in Anthropic's form: nothing hidden is in it.
visible() {
    separator='['
    while IFS= read -r line; do
        content=$(field content "$line") call=$(field tool_call "$line")
        printf '%s' "$separator"
        separator=','
        case $(field role "$line") in
        user) printf '{"role":"user","content":"%s"}' "$content" ;;
        tool)
            printf '{"role":"user","content":[{"type":"tool_result","tool_use_id":"%s",' "$asked"
            printf '"content":"%s"}]}' "$content"
            ;;
        assistant)
            asked=$call
            printf '{"role":"assistant","content":['
            [ -z "$content" ] || printf '{"type":"text","text":"%s"}' "$content"
            [ -z "$content" ] || [ -z "$call" ] || printf ','
            [ -z "$call" ] || printf '{"type":"tool_use","id":"%s","name":"%s","input":{}}' \
                "$call" "$(field call "$line" | sed 's/(.*//')"
            printf ']}'
            ;;
        esac
    done <"$conversation"
    printf ']\n'
}

# The hidden blocks are in place again: each thinking block before what it led to.
weave() {
    visible >"visible.json"
    printf '  %s$ rethread-cli weave %s --as anthropic --policy all < visible.json%s\n' \
        "$dim" "$thread" "$plain"
    "$cli" weave "$thread" --as anthropic --policy all \
        <"visible.json" >"woven.json" 2>"shown" || fail "weaving"
    sed 's/^/    /' "shown"
    blocks=$(grep -o '"type": *"thinking"' "woven.json" | wc -l)
    [ "$blocks" = "$steps" ] || fail "$blocks thinking blocks are in place, not $steps"
}

start_server
echo "A server of its own listens on $RETHREAD_ADDRESS."

title "1. A worker plays a conversation and appends what the model thought, step by step"
play
echo "  $steps hidden steps appended. The user never sees them; the next model call needs them."

title "2. The next worker has only the visible conversation: it takes the hidden steps back"
show 0 replay "$thread"
"$cli" export "$thread" >"back"

title "3. and puts each where it belongs"
transcript

title "4. or has all of it put into the request that the vendor wants"
weave
echo "  $blocks thinking blocks with their signatures are in place. A model that is to have only the"
echo "  reasoning of the current turn is given less, and told how much was left out:"
show 0 replay "$thread" --policy current_turn
grep -q 'left out' "shown" || fail "it does not say what was left out"

title "5. Nothing is doubled, nothing overwritten"
last=$((steps - 1))
echo "  The answer to the last append was lost? Sent again with its key, it is recognised:"
show 0 append "$thread" --key "request-$last" --segment "text=text-$last" \
    --segment "opaque=opaque-$last"
grep -q duplicate "shown" || fail "the retry was not recognised"
echo "  Another worker, which knows only $last steps, is told so:"
show 3 append "$thread" --expect "$last" --text "stale thoughts"
grep -q conflict "shown" || fail "the stale append was not a conflict"

title "6. The user comes back late: past the ttl the steps are on disk, all of them"
show 0 touch "$thread" --ttl-ms 500ms
echo "  ... half a second without a use later:"
await_demotion
show 0 replay "$thread"
all_from_disk

title "7. A crash: the server is killed (kill -9) and started again"
kill -KILL "$server_pid"
wait "$server_pid" 2>/dev/null || :
start_server
show 0 replay "$thread"
all_from_disk

title "8. What is gone is a typed miss, never a silent gap"
show 0 forget "$thread"
show 1 replay "$thread"
grep -q 'miss: forgotten' "shown" || fail "the miss did not say why"

title "9. The server drains and stops"
kill -TERM "$server_pid"
code=0
wait "$server_pid" || code=$?
server_pid=
[ "$code" = 0 ] || fail "the server ended with exit code $code"
echo "  exit code 0. Everything was as promised."

cat <<'END'

Now try it yourself:
  make run                                        a server on 127.0.0.1:7411, data in rethread-data
  build/rethread-cli append t --text 'Hm, ...'    in another terminal: leave a hidden step
  build/rethread-cli replay t --reveal            and take it back
  build/rethread-cli help                         everything else
END
