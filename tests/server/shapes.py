"""Conversations in shorthand, played into a server: "1t 1T 1f 2f" are four steps.

The number is the turn, how many user messages came before; then t: one tool call follows, T: three
at once, f: final, i: not final and no call (interrupted). A b behind it makes the step bare. Every
step's bytes name it, so that none can stand in for another.
"""

import hashlib
import itertools

_serial = itertools.count()


def prefix_of(*what):
    """A hash of a visible context: 16 bytes."""
    return hashlib.sha256(repr(what).encode()).digest()[:16]


def play(client, thread, shape, each=None):
    """Appends the steps of a shape; {step: the bytes of its segments}. ``each(n)`` gives further
    options of the n-th of them."""
    stored = {}
    for n, word in enumerate(shape.split()):
        bare = word.endswith("b")
        kind, turn = word.rstrip("b")[-1], int(word.rstrip("b")[:-1])
        serial = next(_serial)
        options = {"turn": turn, "response_id": b"resp %d" % serial}
        if kind in "tT":
            calls = 1 if kind == "t" else 3
            options["tool_calls"] = [b"call %d.%d" % (serial, c) for c in range(calls)]
        elif kind == "i":
            options["final"] = False
        options.update(each(n) if each else {})
        segments = [] if bare else [b"%s is thinking (%d)" % (thread, serial), b"and on"]
        result = client.append(thread, *segments, **options)
        stored[result["step"]] = b"".join(segments)
    return stored


class Holder:
    """A worker with a KV cache: it holds a thread's reasoning as it was kept when it last asked, and
    says so when it asks again. Each answer is held against what a replay of the same policy gives
    to one who holds nothing."""

    def __init__(self, case, client, thread):
        self.case, self.client, self.thread = case, client, thread
        self.version, self.step, self.held = 0, -1, {}

    def ask(self, **options):
        """Asks, judges the answer, holds what is kept now; the answer."""
        case = self.case
        have = {"version": self.version, "step": self.step, "kept": sorted(self.held)}
        got = self.client.replay(self.thread, have=have, **options)
        whole = self.client.replay(self.thread, touch=False, **options)
        case.assertEqual((got.version, got.head, got.kept_from, got.dropped),
                         (whole.version, whole.head, whole.kept_from, whole.dropped))
        # A bare step has no reasoning that could differ.
        now = {n: data for n, data in whole.data.items() if data}
        held = {n: data for n, data in self.held.items() if data}
        differ = [n for n in sorted({*now, *held})
                  if n <= self.step and now.get(n) != held.get(n)]
        case.assertEqual(got.extends, not differ, f"held {sorted(held)}, kept {sorted(now)}")
        case.assertEqual(got.first_changed, differ[0] if differ else None)
        # What is new or was replaced is in the answer, byte for byte.
        for n, data in whole.data.items():
            if n not in got.data:
                case.assertEqual(self.held.get(n), data, f"step {n} is not told, and not held")
            else:
                case.assertEqual(got.data[n], data)
        self.version = whole.version
        self.step = -1 if whole.head is None else whole.head
        self.held = whole.data
        return got
