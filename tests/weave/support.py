"""What the tests of weaving share: replays without a server, and equality that JSON knows."""

import base64
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
for folder in ("src/client/python", "tests/server"):
    sys.path.insert(0, os.path.join(ROOT, folder))

from rethread.types import Replay, Segment, Step  # noqa: E402

ENVELOPE = b'{"rethread":'


def canonical(value):
    """Text that is the same for values that are the same as JSON: 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def held(number, step):
    """A step that was unwoven, as a replay returns it."""
    return Step(
        step=number, segments=tuple(Segment(kind, data) for kind, data in step["segments"]),
        turn=step["turn"], final=step["final"], model=step.get("model"),
        tool_calls=tuple(i.encode() for i in step.get("tool_calls", ())),
        visible=step.get("visible"))


def replay_of(steps):
    """The replay of a thread to which these steps were appended."""
    return Replay(
        status="complete", version=len(steps), head=len(steps) - 1 if steps else None,
        steps=tuple(held(n, step) for n, step in enumerate(steps)))


def as_json(step):
    """A step for comparing: envelopes by value, since their spelling is each implementation's."""
    def segment(kind, data):
        if kind == "opaque" and data.startswith(ENVELOPE):
            return [kind, json.loads(data)]
        return [kind, base64.b64encode(data).decode()]
    plain = {name: value for name, value in step.items() if name not in ("segments", "visible")}
    return {**plain, "visible": step["visible"].hex(),
            "segments": [segment(kind, data) for kind, data in step["segments"]]}


def hidden_of(as_, item):
    """What is hidden in an item of a transcript, for comparing."""
    if as_ == "chat":
        hidden = {name: value for name, value in item.items() if name in CHAT_HIDDEN}
    elif as_ == "anthropic":
        content = item.get("content")
        hidden = [part for part in content if part["type"] in ANTHROPIC_HIDDEN] \
            if isinstance(content, list) and item["role"] == "assistant" else []
    else:
        hidden = [item] if item.get("type") == "reasoning" else []
    return canonical(hidden)


CHAT_HIDDEN = ("reasoning", "reasoning_content", "thinking", "reasoning_details")
ANTHROPIC_HIDDEN = ("thinking", "redacted_thinking")


# ---- The C implementation ------------------------------------------------------------------------

BATCH = os.path.join(os.path.dirname(os.environ.get(
    "RETHREAD_CLI", os.path.join(ROOT, "build", "rethread-cli"))), "tests", "weave", "batch")
AS = ("chat", "responses", "anthropic")
KINDS = ("text", "tokens", "opaque")
REASONS = ("", "never_seen", "expired", "max_age", "evicted", "forgotten", "rewound", "corrupt",
           "budget", "ambiguous", "prefix_mismatch", "model_mismatch")


class Batch:
    """Many requests for tests/weave/batch.c, in one process. Its head says how they are written."""

    def __init__(self):
        self._request = tempfile.TemporaryFile()
        self._operations = []

    def _number(self, number):
        self._request.write(number.to_bytes(8, sys.byteorder))

    def _blob(self, blob):
        self._number(len(blob))
        self._request.write(blob)

    def _begin(self, operation, value, as_, model, field):
        self._operations.append(operation)
        self._number(ord(operation))
        self._number(AS.index(as_))
        self._blob((model or "").encode())
        self._blob((field or "").encode())
        self._blob(json.dumps(value, ensure_ascii=False).encode())

    def unweave(self, value, as_, model=None, field=None):
        self._begin("u", value, as_, model, field)

    def weave(self, value, replay, as_, model=None, field=None):
        self._begin("w", value, as_, model, field)
        self._number(0 if replay.head is None else replay.head + 1)
        self._number(len(replay.steps))
        for step in replay.steps:
            self._number(step.step)
            self._number(REASONS.index(step.missing or ""))
            self._number(step.turn or 0)
            self._number(bool(step.final))
            self._blob(step.visible or b"")
            self._number(len(step.tool_calls))
            for i in step.tool_calls:
                self._blob(i)
            self._number(len(step.segments))
            for segment in step.segments:
                self._number(KINDS.index(segment.kind))
                self._blob(segment.data)

    def answers(self):
        """For each request in order: (JSON value, steps or report), or an error's sentence."""
        with tempfile.TemporaryFile() as answer:
            self._request.seek(0)
            subprocess.run([BATCH], stdin=self._request, stdout=answer, check=True)
            answer.seek(0)
            for operation in self._operations:
                yield _answer(operation, answer)
            assert not answer.read(1)

    def close(self):
        self._request.close()


def _answer(operation, answer):
    def number():
        return int.from_bytes(answer.read(8), sys.byteorder)

    def blob():
        return answer.read(number())

    def step():
        number(), number()
        step = {"turn": number(), "final": bool(number()), "visible": blob()}
        step["tool_calls"] = [blob().decode() for _ in range(number())]
        if not step["tool_calls"]:
            del step["tool_calls"]
        step["segments"] = [(KINDS[number()], blob()) for _ in range(number())]
        return step

    def entry():
        entry = {"step": number(), "call": number() - 1, "by": blob().decode() or None,
                 "outcome": blob().decode()}
        reason, left_out = REASONS[number()], number()
        entry["call"] = entry["call"] if entry["call"] >= 0 else None
        return {**entry, **({"reason": reason} if reason else {}),
                **({"left_out": left_out} if left_out else {})}

    failed, text = number(), blob().decode()
    told = [step() if operation == "u" else entry() for _ in range(number())]
    if operation == "w":
        told = {"steps": told, "unmatched": [number() for _ in range(number())]}
    return text if failed else (json.loads(text), told)
