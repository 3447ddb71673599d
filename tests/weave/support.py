"""What the tests of weaving share: replays without a server, and equality that JSON knows."""

import base64
import json
import os
import sys

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
        extra={"visible": step["visible"]} if "visible" in step else {})


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
