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
    to one who holds nothing. ``lists_bare``: whether it counts steps without any reasoning among
    those whose reasoning it holds; it may do either."""

    def __init__(self, case, client, thread, lists_bare=True):
        self.case, self.client, self.thread = case, client, thread
        self.lists_bare = lists_bare
        self.version, self.step, self.held = 0, -1, {}

    def listed(self):
        return [n for n, (_, data) in sorted(self.held.items()) if data or self.lists_bare]

    def differences(self, now):
        """The steps up to the last it knows of whose reasoning is another now; of one without any
        that nothing else is there now."""
        listed, found = self.listed(), []
        for n in range(self.step + 1):
            mine, data = self.held.get(n, (None, b""))
            its, told = now.get(n, (None, b""))
            if data != told or (n in listed and mine != its and its is not None):
                found.append(n)
        return found

    def ask(self, **options):
        """Asks, judges the answer, holds what is kept now; the answer."""
        case = self.case
        have = {"version": self.version, "step": self.step, "kept": self.listed()}
        got = self.client.replay(self.thread, have=have, **options)
        whole = self.client.replay(self.thread, touch=False, **options)
        case.assertEqual((got.version, got.head, got.kept_from, got.dropped),
                         (whole.version, whole.head, whole.kept_from, whole.dropped))
        now = {n: (whole.meta[n]["response_id"], data) for n, data in whole.data.items()}
        differ = self.differences(now)
        if not got.extends and got.first_changed not in now and got.first_changed in self.listed() \
                and self.held[got.first_changed][1] == b"":
            # A step without reasoning that it listed is gone: it may be told of that.
            differ = sorted({*differ, got.first_changed})
        case.assertEqual(got.first_changed, differ[0] if differ else None,
                         f"held {self.listed()} of {self.step + 1}, kept {sorted(now)}")
        case.assertEqual(got.extends, not differ)
        # What is new or was replaced is in the answer, byte for byte.
        for n, told in now.items():
            if n in got.data:
                case.assertEqual((got.meta[n]["response_id"], got.data[n]), told)
            elif told[1] or n in self.held:
                case.assertEqual(self.held.get(n), told, f"step {n} is not told, and not held")
        self.version = whole.version
        self.step = -1 if whole.head is None else whole.head
        self.held = now
        return got
