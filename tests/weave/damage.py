"""Visible transcripts that were changed after their steps were recorded, and the judge of weaving.

Every reply carries the number of the call that produced it in a member of its own, ``x_call``. It
goes wherever the reply goes, so that the judge needs none of weaving's own reckoning.
"""

import itertools
import json
from dataclasses import replace

from support import ANTHROPIC_HIDDEN, CHAT_HIDDEN, canonical, held

from rethread.types import Replay, Step
from rethread.weave import unweave

TAG = "x_call"


class Recorded:
    """A conversation whose steps were recorded, each reply with its tag."""

    def __init__(self, transcript, unique_ids=False):
        self.as_, self.how = transcript.as_, (transcript.as_, transcript.model, transcript.field)
        self.field = transcript.field
        items, number, inside = [], -1, False
        numbers = itertools.count()
        for item in transcript.items:
            if unique_ids and self.is_of_model(item):
                item = with_ids(item, lambda _: f"id {next(numbers)}")
            mine = self.is_of_model(item)
            number += mine and not (inside and self.as_ == "responses")
            inside = mine
            items.append({**item, TAG: number} if mine and item.get("type") != "reasoning" else item)
        self.items = items
        self.visible, self.steps = unweave(items, *self.how)
        self.wanted = self._wanted()

    def is_of_model(self, item):
        kind = item.get("type", "message") if self.as_ == "responses" else "message"
        if kind == "message":
            return item.get("role") == "assistant"
        return kind == "reasoning" or kind.endswith("_call")

    def hidden(self, items):
        """What is hidden in the items of one call: (whether anything, in one text)."""
        if self.as_ == "chat":
            names = (*CHAT_HIDDEN, self.field)
            found = {name: v for name, v in items[0].items() if name in names}
        elif self.as_ == "anthropic":
            content = items[0].get("content")
            found = [part for part in content if part["type"] in ANTHROPIC_HIDDEN] \
                if isinstance(content, list) else []
        else:
            found = [item for item in items if item.get("type") == "reasoning"]
        return bool(found), canonical(found)

    def calls(self, items):
        """The calls of a transcript, each as its items."""
        run = []
        for item in [*items, {"type": "end"}]:
            if self.is_of_model(item):
                run.append(item)
                if self.as_ == "responses":
                    continue
            if run:
                yield run
            run = []

    def _wanted(self):
        """Tag -> all that may be hidden beside it: replies that look the same are the same."""
        looks, wanted = {}, {}
        for n, (call, step) in enumerate(zip(self.calls(self.items), self.steps)):
            wanted[n] = looks.setdefault(step["visible"], set())
            wanted[n].add(self.hidden(call)[1])
        return wanted

    def misplaced(self, woven):
        """The calls with hidden blocks that they were not produced with."""
        wrong = []
        for n, call in enumerate(self.calls(woven)):
            there, hidden = self.hidden(call)
            tags = {item[TAG] for item in call if TAG in item}
            if there and not any(hidden in self.wanted.get(tag, ()) for tag in tags):
                wrong.append((n, tags))
        return wrong


class Damage:
    """What may have become of a visible transcript; ``items`` is what it is now."""

    KINDS = ("edit", "remove", "insert", "rename", "cut", "repeat", "substitute", "swap")

    def __init__(self, recorded, rng):
        self.recorded = recorded
        self.rng = rng
        self.items = list(recorded.visible)

    def _call(self):
        """The places of one call's items."""
        tags = sorted({item[TAG] for item in self.items if TAG in item})
        if not tags:
            return []
        tag = self.rng.choice(tags)
        return [n for n, item in enumerate(self.items) if item.get(TAG) == tag]

    def _fresh(self):
        return f"fresh {self.rng.random()}"

    def edit(self):
        """Other words in one reply; it stays the reply that it was."""
        for n in self._call():
            self.items[n] = {**self.items[n], "content": self._fresh()}

    def remove(self):
        gone = self._call()
        self.items = [item for n, item in enumerate(self.items) if n not in gone]

    def substitute(self):
        """Another model's reply, with a tool call of its own, in the place of one."""
        gone = self._call()
        if gone:
            self.items = [item for n, item in enumerate(self.items) if n not in gone]
            self.insert(gone[0])

    def insert(self, at=None):
        at = self.rng.randrange(len(self.items) + 1) if at is None else at
        self.items[at:at] = [self._reply()]

    def _reply(self):
        fresh = self._fresh()
        if self.recorded.as_ == "chat":
            return {"role": "assistant", "content": fresh, "tool_calls": [
                {"id": fresh, "type": "function", "function": {"name": "f"}}]}
        if self.recorded.as_ == "anthropic":
            return {"role": "assistant", "content": [
                {"type": "tool_use", "id": fresh, "name": "f", "input": {}}]}
        return {"type": "function_call", "call_id": fresh, "name": "f"}

    def rename(self):
        """Other ids of tool calls, as a gateway gives them."""
        suffix = self._fresh()
        self.items = with_ids(self.items, lambda name: name + suffix)

    def cut(self):
        """The beginning or the end is gone; a call is whole or not there."""
        at = (self._call() or [len(self.items) // 2])[0]
        self.items = self.items[at:] if self.rng.random() < 0.5 else self.items[:at]

    def swap(self):
        """Two replies in each other's place."""
        a, b = sorted((self._call(), self._call()))
        if a and a != b:
            one, other = self.items[a[0]:a[-1] + 1], self.items[b[0]:b[-1] + 1]
            self.items = [*self.items[:a[0]], *other, *self.items[a[-1] + 1:b[0]], *one,
                          *self.items[b[-1] + 1:]]

    def repeat(self):
        for n in self._call()[:1]:
            self.items.append(json.loads(canonical(self.items[n])))


def with_ids(value, new):
    """The value with other ids of tool calls."""
    if isinstance(value, list):
        return [with_ids(v, new) for v in value]
    if not isinstance(value, dict):
        return value
    return {name: new(v) if name in ID_MEMBERS and isinstance(v, str) else with_ids(v, new)
            for name, v in value.items()}


ID_MEMBERS = ("id", "call_id", "tool_call_id", "tool_use_id")


NO_HASHES = 4
"""Which of the replays is without the hashes of the visible replies."""


def replays(recorded, rng):
    """The whole replay, and what a policy, a budget or a loss may leave of it."""
    steps = [held(n, step) for n, step in enumerate(recorded.steps)]
    head = len(steps) - 1 if steps else None

    def replay(some):
        status = "partial" if any(s.missing for s in some) else "complete"
        return Replay(status=status, version=len(steps), head=head, steps=tuple(some))
    yield replay(steps)
    cut = rng.randrange(len(steps) + 1)
    yield replay(steps[cut:])
    yield replay([Step(step=s.step, missing="budget") for s in steps[:cut]] + steps[cut:])
    yield replay([s if rng.random() < 0.7 else Step(step=s.step, missing="corrupt")
                  for s in steps])
    yield replay([replace(s, visible=None) for s in steps])
