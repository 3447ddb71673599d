"""Weaving: the hidden reasoning of a replay back into the visible conversation, and out of it.

Pure: JSON values in (as ``json.loads`` returns them), JSON values out. No input is changed; what
needs no change is shared with the result. Three formats: ``chat`` (OpenAI chat messages),
``anthropic`` (Messages) and ``responses`` (OpenAI Responses input items). A transcript is the
array of messages or items, or the request object that holds it in ``messages`` or ``input``.

One model call is one step of a thread and one assistant message; in ``responses`` one run of
consecutive items that the model produced. Calls and steps are matched by tool-call id, by the hash
of the visible message, and by position where that leaves no doubt; what cannot be matched is
reported, never guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Iterable, Iterator, Mapping, Sequence, TypedDict

from .formats import (
    CHAT_VISIBLE, FIELD_BYTES_MAX, FORMATS, Call, Format, WeaveError, utf8,
)
from .profiles import PROFILES, Profile
from .types import ID, Replay, Step


class AppendStep(TypedDict, total=False):
    """The options of ``append`` for one model call; all but the thread."""

    segments: list[tuple[str, bytes]]
    turn: int
    final: bool
    visible: bytes
    tool_calls: list[str]
    model: ID


@dataclass(frozen=True)
class WovenStep:
    """What became of one step of the replay.

    ``call``: the model call it was matched to, counted from 0; ``by``: ``tool_call``, ``visible``
    or ``position``. ``outcome``: ``woven``, ``bare`` (nothing to weave), ``already`` (the message
    has hidden blocks of its own), ``missing`` (``reason`` says why), ``unmatched``, or why nothing
    of it has a place in this format: ``unsigned``, ``opaque``, ``tokens``, ``foreign``,
    ``malformed``, ``moved``. ``left_out``: segments of which not everything had a place.
    """

    step: int
    call: int | None = None
    by: str | None = None
    outcome: str = "unmatched"
    reason: str | None = None
    left_out: int = 0

    def as_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "step": self.step, "call": self.call, "by": self.by, "outcome": self.outcome,
        }
        if self.reason is not None:
            entry["reason"] = self.reason
        if self.left_out:
            entry["left_out"] = self.left_out
        return entry


@dataclass(frozen=True)
class WeaveReport:
    """What weaving did.

    ``steps``: an entry for each step of the replay. ``unmatched``: the model calls without a step,
    those whose steps a policy left out among them. ``whole``: every call has the reasoning that
    the replay's policy grants it.
    """

    steps: tuple[WovenStep, ...]
    unmatched: tuple[int, ...]
    whole: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "whole": self.whole,
            "steps": [step.as_json() for step in self.steps],
            "unmatched": list(self.unmatched),
        }


def find_profile(model: ID | None, profiles: Iterable[Profile] = ()) -> Profile:
    """The profile of a model: the first row that fits, of ``profiles`` and then of the table."""
    raw = model.encode("utf-8", "surrogateescape") if isinstance(model, str) else model or b""
    name = raw.rpartition(b"/")[2].lower()
    rows = (*profiles, *PROFILES)
    return next((row for row in rows if name and _fits(row.pattern, name)), rows[-1])


def _fits(pattern: str, name: bytes) -> bool:
    return _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[bytes]:
    parts = (re.escape(part.encode("utf-8")) for part in pattern.split("*"))
    return re.compile(b".*".join(parts), re.DOTALL)


def unweave(
    transcript: Any, as_: str, model: ID | None = None, field: str | None = None, *,
    profiles: Iterable[Profile] = (),
) -> tuple[Any, list[AppendStep]]:
    """Take a full transcript apart: (the visible conversation, the steps to append, in order).

    ``as_``: the format. ``model``: who produced it; its profile names the chat field, unless
    ``field`` does. Each step is ready for ``client.append(**step, thread=...)``. Raises WeaveError.
    """
    format_, items = _open(transcript, as_)
    name = _field(model, field, profiles)
    visible: list[Any] = []
    steps: list[AppendStep] = []
    end = 0
    for call in format_.calls(items, name):
        own = items[call.first:call.first + call.count]
        visible += items[end:call.first]
        visible += format_.take_out(own, name) if call.hidden else own
        end = call.first + call.count
        step: AppendStep = {
            "segments": format_.write(call, name), "turn": call.turn, "final": call.final,
            "visible": call.visible,
        }
        if call.tool_calls:
            step["tool_calls"] = list(call.tool_calls)
        if model:
            step["model"] = model
        steps.append(step)
    return _close(transcript, format_, visible + list(items[end:])), steps


def weave(
    visible: Any, replay: Replay, as_: str, model: ID | None = None, field: str | None = None, *,
    profiles: Iterable[Profile] = (),
) -> tuple[Any, WeaveReport]:
    """Put the reasoning of a replay into the visible conversation: (transcript, report).

    ``as_``, ``model``, ``field``: as for unweave; the model is the one that will read it. A message
    that has hidden blocks keeps them as they are. Raises WeaveError.
    """
    format_, items = _open(visible, as_)
    name = _field(model, field, profiles)
    calls = format_.calls(items, name)
    matches = _Matcher(calls, replay).matches
    woven = {number: items[c.first:c.first + c.count] for number, c in enumerate(calls)}
    names = format_.names(items)
    told = []
    for n, step in enumerate(replay.steps):
        number, by = matches.get(n, (None, None))
        outcome, left_out = "unmatched", 0
        if step.missing is not None:
            outcome = "missing"
        elif number is not None:
            outcome, left_out, woven[number] = _put(
                format_, calls[number], woven[number], step, name, names)
        told.append(WovenStep(step.step, number, by, outcome, step.missing, left_out))
    result: list[Any] = []
    end = 0
    for number, call in enumerate(calls):
        result += items[end:call.first] + woven[number]
        end = call.first + call.count
    given = {number for number, _ in matches.values()}
    unmatched = tuple(number for number in range(len(calls)) if number not in given)
    whole = (replay.complete and len(unmatched) <= (replay.dropped or 0)
             and all(step.outcome in ("woven", "bare", "already") for step in told))
    report = WeaveReport(tuple(told), unmatched, whole)
    return _close(visible, format_, result + items[end:]), report


def _put(format_: Format, call: Call, items: list[Any], step: Step, field: str,
         names: frozenset[str]) -> tuple[str, int, list[Any]]:
    """(outcome, segments left out, the call's items as they are now)"""
    if not step.segments:
        return "bare", 0, items
    if call.is_woven or call.thinks and step.visible != call.visible:
        return "already", 0, items
    reading = format_.read(step.segments, field, call.parts)
    if names and any(placed.block.get("id") in names for placed in reading.placed
                     if isinstance(placed.block.get("id"), str)):
        return "already", 0, items
    if reading.placed:
        items = format_.put_in(items, reading.placed)
    return reading.outcome, len(reading.left_out), items


def _open(transcript: Any, as_: str) -> tuple[Format, list[Any]]:
    format_ = FORMATS.get(as_)
    if format_ is None:
        raise WeaveError(f"no format {as_!r}: it is one of {', '.join(FORMATS)}")
    items = transcript.get(format_.member) if isinstance(transcript, dict) else transcript
    if format_.name == "responses" and isinstance(items, str) and isinstance(transcript, dict):
        return format_, []
    if not isinstance(items, list):
        raise WeaveError(f"not an array, nor an object with an array {format_.member!r}")
    return format_, items


def _close(source: Any, format_: Format, items: list[Any]) -> Any:
    if not isinstance(source, dict):
        return items
    if isinstance(source[format_.member], str):
        return source
    return {**source, format_.member: items}


def _field(model: ID | None, field: str | None, profiles: Iterable[Profile]) -> str:
    name = find_profile(model, profiles).field if field is None else field
    if not 1 <= len(utf8(name)) <= FIELD_BYTES_MAX or name in CHAT_VISIBLE:
        raise WeaveError(f"field {name!r}: 1 to {FIELD_BYTES_MAX} bytes, and no visible member")
    return name


# ---- Matching ------------------------------------------------------------------------------------

Matches = dict[int, tuple[int, str]]
"""Place of a step in the replay -> number of its call, and what matched them."""

Pair = tuple[int, int]
"""Place of a step in the replay, number of a call."""


class _Matcher:
    """Pairs calls and steps, each at most once: by tool-call ids, by visible hash, by position."""

    def __init__(self, calls: Sequence[Call], replay: Replay) -> None:
        self._calls = calls
        self._steps = replay.steps
        self._held = [n for n, step in enumerate(replay.steps) if step.missing is None]
        self._call_ids = [frozenset(map(utf8, call.tool_calls)) for call in calls]
        self._step_ids = [frozenset(step.tool_calls) for step in replay.steps]
        self._all_held = (replay.head is not None and len(replay.steps) == replay.head + 1
                          and all(step.missing is None and step.step == n
                                  for n, step in enumerate(replay.steps)))
        self._as_many = replay.head is not None and len(calls) == replay.head + 1
        self._ids_repeat = self._is_changed = False
        self.matches: Matches = {}
        self._by_tool_calls()
        self._by_visible()
        self._by_position()

    def _open_calls(self) -> list[int]:
        given = {number for number, _ in self.matches.values()}
        return [number for number in range(len(self._calls)) if number not in given]

    def _open_steps(self) -> list[int]:
        return [n for n in self._held if n not in self.matches]

    def _looks_the_same(self, pair: Pair) -> bool | None:
        """Whether the recorded hash is that of the call; None without one."""
        visible = self._steps[pair[0]].visible
        return None if visible is None else visible == self._calls[pair[1]].visible

    def _is_there(self, pair: Pair) -> bool:
        """The step cannot be one of those that look alike and that the replay does not have."""
        return self._all_held or self._steps[pair[0]].step == pair[1]

    def _is_likely(self, pair: Pair) -> bool:
        """Of several with the same id: the step is the call's."""
        same = self._looks_the_same(pair)
        return self._steps[pair[0]].step == pair[1] if same is None else \
            same and self._is_there(pair)

    def _is_the_one(self, pair: Pair) -> bool:
        """Of an id that one call and one step have: the step is the call's."""
        n, number = pair
        same = self._looks_the_same(pair)
        if self._ids_repeat:
            return bool(same and self._calls[number].has_text) or self._is_likely(pair)
        # Such an id outweighs a text that was edited.
        return same is not False or (
            (self._all_held or self._as_many and self._steps[n].step == number)
            and self._steps[n].turn == self._calls[number].turn and self._step_ids[n] == self._call_ids[number])

    def _called_others(self, pair: Pair) -> bool:
        """Both called tools, and none in common."""
        ids, others = self._step_ids[pair[0]], self._call_ids[pair[1]]
        return bool(ids and others) and ids.isdisjoint(others)

    def _ended_otherwise(self, pair: Pair) -> bool:
        """One called tools, and the other is known to have called none."""
        n, number = pair
        step, call = self._steps[n], self._calls[number]
        return bool(step.final and not call.final) or \
            bool(self._step_ids[n]) and not self._call_ids[number]

    def _by_tool_calls(self) -> None:
        in_calls = _holders(dict(enumerate(self._call_ids)))
        in_steps = _holders({n: self._step_ids[n] for n in self._held})
        self._ids_repeat = any(len(holders) > 1 for ids in (in_calls, in_steps)
                               for holders in ids.values())
        links = set()
        for pairs in _even(in_steps, in_calls):
            if all(map(self._is_the_one if len(pairs) == 1 else self._is_likely, pairs)):
                links.update(pairs)
        # Where ids of one call lead to two steps, or the other way round, they say nothing.
        by_step, by_call = Counter(n for n, _ in links), Counter(number for _, number in links)
        for n, number in links:
            if by_step[n] == by_call[number] == 1:
                self.matches[n] = (number, "tool_call")
            else:
                self._is_changed = True

    def _by_visible(self) -> None:
        in_calls = _holders({number: [self._calls[number].visible]
                             for number in self._open_calls()})
        in_steps = _holders({n: [visible] for n in self._open_steps()
                             if (visible := self._steps[n].visible) is not None})
        for pairs in _even(in_steps, in_calls):
            # One text is known again anywhere; several, or none, where no other can be meant.
            sure = len(pairs) == 1 and self._calls[pairs[0][1]].has_text
            if not any(map(self._called_others, pairs)) and (
                    sure or all(map(self._is_there, pairs))):
                self.matches.update({n: (number, "visible") for n, number in pairs})

    def _by_position(self) -> None:
        if not self._as_many:
            return
        if any(self._steps[n].step != number for n, (number, _) in self.matches.items()):
            return
        free = set(self._open_calls())
        pairs = [(n, step.step) for n, step in enumerate(self._steps)
                 if n not in self.matches and step.step in free]
        held = [pair for pair in pairs if self._steps[pair[0]].missing is None]
        if any(map(self._called_others, held)) or any(map(self._ended_otherwise, held)):
            return
        changed = (self._is_changed or self._is_out_of_turn()
                   or any(self._looks_the_same(pair) is False for pair in held))
        for n, number in pairs:
            if number in free and (self._looks_the_same((n, number)) or not changed):
                free.remove(number)
                self.matches[n] = (number, "position")

    def _is_out_of_turn(self) -> bool:
        """The user spoke elsewhere than when the steps were recorded."""
        turns = [(self._steps[n].turn or 0, self._calls[self._steps[n].step].turn)
                 for n in self._held if self._steps[n].step < len(self._calls)]
        return len({turn for turn, _ in turns}) > 1 and len({a - b for a, b in turns}) > 1


def _holders(keyed: Mapping[int, Iterable[bytes]]) -> dict[bytes, list[int]]:
    """Key -> those that have it, in order."""
    holders: dict[bytes, list[int]] = {}
    for n, keys in keyed.items():
        for key in keys:
            holders.setdefault(key, []).append(n)
    return holders


def _even(in_steps: Mapping[bytes, list[int]],
          in_calls: Mapping[bytes, list[int]]) -> Iterator[list[Pair]]:
    """The pairs in order of each key that as many calls as steps have."""
    for key, steps in in_steps.items():
        if len(steps) == len(in_calls.get(key, ())):
            yield list(zip(steps, in_calls[key]))
