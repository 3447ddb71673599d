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
from functools import partial
from typing import Any, Callable, Iterable, Mapping, Sequence, TypedDict

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
    ``malformed``. ``left_out``: segments of which not everything had a place.
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
    """One entry for each step of the replay, and the model calls that were given none."""

    steps: tuple[WovenStep, ...]
    calls_without_step: tuple[int, ...]

    @property
    def complete(self) -> bool:
        """All reasoning of the replay is in the transcript."""
        return all(s.outcome in ("woven", "bare", "already") and not s.left_out
                   for s in self.steps)

    def as_json(self) -> dict[str, Any]:
        return {
            "steps": [step.as_json() for step in self.steps],
            "calls_without_step": list(self.calls_without_step),
        }


def find_profile(model: ID | None, profiles: Iterable[Profile] = ()) -> Profile:
    """The profile of a model: the first row that fits, of ``profiles`` and then of the table."""
    raw = model.encode("utf-8", "surrogateescape") if isinstance(model, str) else model or b""
    name = raw.rpartition(b"/")[2].lower()
    rows = (*profiles, *PROFILES)
    return next((row for row in rows if name and _fits(row.pattern, name)), rows[-1])


def _fits(pattern: str, name: bytes) -> bool:
    parts = (re.escape(part.encode("utf-8")) for part in pattern.split("*"))
    return re.fullmatch(b".*".join(parts), name, re.DOTALL) is not None


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
            "segments": format_.write(call.hidden, name), "turn": call.turn, "final": call.final,
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
    matches = _match(calls, replay)
    woven = {number: items[c.first:c.first + c.count] for number, c in enumerate(calls)}
    told = []
    for n, step in enumerate(replay.steps):
        number, by = matches.get(n, (None, None))
        outcome, left_out = "unmatched", 0
        if step.missing is not None:
            outcome = "missing"
        elif number is not None:
            outcome, left_out, woven[number] = _put(
                format_, calls[number], woven[number], step, name)
        told.append(WovenStep(step.step, number, by, outcome, step.missing, left_out))
    result: list[Any] = []
    end = 0
    for number, call in enumerate(calls):
        result += items[end:call.first] + woven[number]
        end = call.first + call.count
    given = {number for number, _ in matches.values()}
    report = WeaveReport(tuple(told), tuple(n for n in range(len(calls)) if n not in given))
    return _close(visible, format_, result + items[end:]), report


def _put(format_: Format, call: Call, items: list[Any], step: Step,
         field: str) -> tuple[str, int, list[Any]]:
    """(outcome, segments left out, the call's items as they are now)"""
    if not step.segments:
        return "bare", 0, items
    if call.is_woven:
        return "already", 0, items
    reading = format_.read(step.segments, field)
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


def _match(calls: Sequence[Call], replay: Replay) -> Matches:
    """Matches calls and steps, each at most once: by tool-call ids, visible hash, position."""
    steps = replay.steps
    ids = [frozenset(i.encode("utf-8") for i in call.tool_calls) for call in calls]
    step_ids = [frozenset(step.tool_calls) for step in steps]
    held = [n for n, step in enumerate(steps) if step.missing is None]
    strange = partial(_are_strange, ids, step_ids)

    def same_message(n: int, number: int) -> bool:
        if steps[n].visible is None:
            return steps[n].step == number
        return steps[n].visible == calls[number].visible

    matches: Matches = {}
    links = _links({number: ids[number] for number in range(len(calls))},
                   {n: step_ids[n] for n in held}, same_message)
    by_step, by_call = Counter(n for n, _ in links), Counter(number for _, number in links)
    for n, number in links:
        if by_step[n] == by_call[number] == 1:
            matches[n] = (number, "tool_call")

    given = {number for number, _ in matches.values()}
    links = _links({number: [call.visible] for number, call in enumerate(calls)
                    if number not in given},
                   {n: [v] for n in held if n not in matches and (v := steps[n].visible) is not None},
                   lambda n, number: not strange(n, number), one_is_certain=False)
    matches.update({n: (number, "visible") for n, number in links})

    if replay.head is None or len(calls) != replay.head + 1:
        return matches
    if any(steps[n].step != number for n, (number, _) in matches.items()):
        return matches
    given = {number for number, _ in matches.values()}
    rest = {n: step.step for n, step in enumerate(steps)
            if n not in matches and step.step not in given and 0 <= step.step < len(calls)}
    if not any(strange(n, number) for n, number in rest.items()):
        matches.update({n: (number, "position") for n, number in rest.items()})
    return matches


def _are_strange(ids: Sequence[frozenset[bytes]], step_ids: Sequence[frozenset[bytes]],
                 n: int, number: int) -> bool:
    """Both called tools, and none in common."""
    return bool(ids[number] and step_ids[n]) and ids[number].isdisjoint(step_ids[n])


def _links(
    calls: Mapping[int, Iterable[bytes]], steps: Mapping[int, Iterable[bytes]],
    agree: Callable[[int, int], bool], one_is_certain: bool = True,
) -> set[tuple[int, int]]:
    """(step, call) in order, by each key that as many calls as steps have, where all pairs agree.

    ``one_is_certain``: a key of one call and one step links them whether they agree or not.
    """
    in_calls, in_steps = _holders(calls), _holders(steps)
    links: set[tuple[int, int]] = set()
    for key, numbers in in_calls.items():
        pairs = list(zip(in_steps.get(key, ()), numbers))
        if len(in_steps.get(key, ())) != len(numbers):
            continue
        if (one_is_certain and len(pairs) == 1) or all(agree(*pair) for pair in pairs):
            links.update(pairs)
    return links


def _holders(keyed: Mapping[int, Iterable[bytes]]) -> dict[bytes, list[int]]:
    """Key -> those that have it, in order."""
    holders: dict[bytes, list[int]] = {}
    for n, keys in keyed.items():
        for key in keys:
            holders.setdefault(key, []).append(n)
    return holders
