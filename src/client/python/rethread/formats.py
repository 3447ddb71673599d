"""The three formats of a conversation, and how each holds hidden reasoning.

What :mod:`rethread.weave` asks of a format: where the model calls are, what is hidden in them, and
how hidden blocks become segments of a step and segments become hidden blocks. Pure.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Iterable, Iterator, NamedTuple, Sequence

from .types import Segment

ENVELOPE_START = b'{"rethread":'
SEGMENTS_MAX = 64
TOOL_CALLS_MAX = 128
ID_BYTES_MAX = 255
AT_MAX = 10**18 - 1

CHAT_HIDDEN = ("reasoning", "reasoning_content", "thinking", "reasoning_details")
CHAT_VISIBLE = ("role", "content", "tool_calls", "name", "refusal", "audio", "function_call",
                "annotations")
FIELD_BYTES_MAX = 64
THINK = "<think>"
ANTHROPIC_HIDDEN = ("thinking", "redacted_thinking")
RESPONSES_HIDDEN = ("reasoning",)
APPROVAL = "mcp_approval_request"
PLAIN_MEMBERS = {"thinking": ("thinking", "signature"), "redacted_thinking": ("data",)}


class WeaveError(ValueError):
    """The transcript cannot be read in this format; the message names the place."""


class Placed(NamedTuple):
    """A hidden block and the number of visible parts of its call before it."""

    at: int
    block: dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One model call of a transcript: its ``items[first : first + count]``.

    ``has_text``: it shows more than what tools it calls. ``parts``: those of it that are visible.
    ``thinks``: its text begins with reasoning that nobody parted from it.
    """

    first: int
    count: int
    turn: int
    final: bool
    tool_calls: tuple[str, ...]
    visible: bytes
    has_text: bool
    hidden: tuple[Placed, ...]
    parts: int
    thinks: bool = False

    @property
    def is_woven(self) -> bool:
        """It has hidden blocks of its own. A chat member that says nothing is none: clients echo
        it."""
        return any("value" not in b.block or b.block["value"] not in (None, "", [])
                   for b in self.hidden)


@dataclass
class Reading:
    """What a step's segments are in one format.

    ``left_out``: number of a segment of which something has no place -> the outcome that says why.
    """

    placed: list[Placed] = field(default_factory=list)
    left_out: dict[int, str] = field(default_factory=dict)

    def leave_out(self, segments: Iterable[int], outcome: str) -> None:
        for n in segments:
            self.left_out.setdefault(n, outcome)

    @property
    def outcome(self) -> str:
        if self.placed:
            return "woven"
        return self.left_out[min(self.left_out)] if self.left_out else "bare"


# ---- Segments ------------------------------------------------------------------------------------


class Text(NamedTuple):
    """Plain reasoning."""

    data: bytes


class Raw(NamedTuple):
    """A vendor's opaque string: a signature, or redacted data."""

    data: bytes


class Blocks(NamedTuple):
    """Whole hidden blocks of some format."""

    blocks: tuple[Placed, ...]
    of: int | None = None
    """The visible parts that their places were counted among."""


class NoPlace(NamedTuple):
    """What has a place in no format, and the outcome that says so."""

    outcome: str


def understand(segment: Segment, hidden_types: Sequence[str] = ()) -> Text | Raw | Blocks | NoPlace:
    """What a segment holds for a format whose hidden blocks are of these types."""
    if segment.kind == "text":
        return Text(segment.data)
    if segment.kind != "opaque":
        return NoPlace("tokens" if segment.kind == "tokens" else "foreign")
    if segment.data.startswith(ENVELOPE_START):
        return _envelope(_object(segment.data))
    block = _object(segment.data) if hidden_types else None
    return Blocks((Placed(0, block),)) if _is_of(block, hidden_types) else Raw(segment.data)


def _object(data: bytes) -> Any:
    """The JSON object that the bytes are, or None."""
    if not data.startswith(b"{"):
        return None
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse,
                           object_pairs_hook=_members)
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses what two readers would understand in two ways."""
    members = dict(pairs)
    if len(members) < len(pairs) or any("\0" in name for name in members):
        raise ValueError("the same member twice, or a NUL in the name of one")
    return members


def _envelope(value: Any) -> Blocks | NoPlace:
    entries = value.get("blocks") if isinstance(value, dict) else None
    if not isinstance(entries, list) or value.get("rethread") != "blocks":
        return NoPlace("malformed")
    of = value.get("of")
    if "of" in value and (type(of) is not int or not 0 <= of <= AT_MAX):
        return NoPlace("malformed")
    blocks = []
    for entry in entries:
        at = entry.get("at") if isinstance(entry, dict) else None
        if type(at) is not int or not 0 <= at <= AT_MAX or not isinstance(entry.get("block"), dict):
            return NoPlace("malformed")
        blocks.append(Placed(at, entry["block"]))
    return Blocks(tuple(blocks), of)


def envelope(blocks: Sequence[Placed], parts: int) -> bytes:
    """The one opaque segment that holds blocks as they are, among so many visible parts."""
    value: dict[str, Any] = {
        "rethread": "blocks", "blocks": [{"at": at, "block": block} for at, block in blocks],
    }
    if any(at > 0 for at, _ in blocks):
        value["of"] = parts
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise WeaveError(f"a hidden block is no JSON: {error}") from None
    data = utf8(text)
    if "\\u0000" in text and _object(data) is None:
        raise WeaveError("a hidden block has a NUL in the name of a member")
    return data


def _plain_text(block: dict[str, Any]) -> str:
    """What a block of another format than chat says in plain words."""
    if block.get("type") == "thinking":
        return _string(block.get("thinking"))
    if block.get("type") == "reasoning":
        return "".join(_string(part.get("text")) for part in _objects(block.get("content")))
    return ""


# ---- What the formats share ----------------------------------------------------------------------


class Format(ABC):
    """How one format holds model calls and what is hidden in them.

    ``field``: the chat member that the model's server expects reasoning in.
    """

    name: str
    member: str
    """Where a request object holds the transcript."""

    @abstractmethod
    def calls(self, items: Sequence[Any], field: str) -> list[Call]:
        """The model calls of a transcript, in order. Raises WeaveError."""

    @abstractmethod
    def take_out(self, items: Sequence[Any], field: str) -> list[Any]:
        """The items of a call without what is hidden."""

    @abstractmethod
    def put_in(self, items: Sequence[Any], blocks: Sequence[Placed]) -> list[Any]:
        """The items of a call that is not woven yet, with these blocks of the format."""

    @abstractmethod
    def read(self, segments: Sequence[Segment], field: str, parts: int) -> Reading:
        """A step's segments as blocks of the format, for a call of so many visible parts."""

    def names(self, _items: Sequence[Any]) -> frozenset[str]:
        """The ids of hidden blocks that a transcript has or refers to."""
        return frozenset()

    def write(self, call: Call, field: str) -> list[tuple[str, bytes]]:
        """The segments of a step that brings what is hidden in a call back."""
        if not call.hidden:
            return []
        return self._plain(call.hidden, field) or [("opaque", envelope(call.hidden, call.parts))]

    def _plain(self, _blocks: Sequence[Placed], _field: str) -> list[tuple[str, bytes]]:
        """Segments that any format can read; none where they would lose something."""
        return []


def utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise WeaveError("half a surrogate pair is no Unicode text") from None


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _objects(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _is_of(part: Any, types: Sequence[str]) -> bool:
    return isinstance(part, dict) and part.get("type") in types


def _expect(good: bool, place: str, problem: str) -> None:
    if not good:
        raise WeaveError(f"{place}: {problem}")


def _checked(items: Sequence[Any], member: str, with_role: bool) -> None:
    for n, item in enumerate(items):
        place = f"{member}[{n}]"
        _expect(isinstance(item, dict), place, "is no object")
        if with_role:
            _expect(isinstance(item.get("role"), str), f"{place}.role", "is no string")
        else:
            _expect(isinstance(item.get("type", ""), str), f"{place}.type", "is no string")


def _checked_content(content: Any, place: str, type_if_absent: Any = "") -> None:
    """A string, an array of objects with a type, or nothing."""
    if content is None or isinstance(content, str):
        return
    _expect(isinstance(content, list), place, "is neither a string nor an array")
    for n, part in enumerate(content):
        _expect(isinstance(part, dict), f"{place}[{n}]", "is no object")
        kind = part.get("type", type_if_absent)
        _expect(isinstance(kind, str), f"{place}[{n}].type", "is no string")


def _texts(content: Any, kind: str) -> list[str]:
    """The text of a content string, or of its parts of one type."""
    if isinstance(content, str):
        return [content]
    return [_string(part.get("text")) for part in _objects(content) if part.get("type") == kind]


def _visible_hash(texts: Iterable[str], tool_names: Iterable[Any]) -> bytes:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(utf8(text))
    for name in tool_names:
        digest.update(b"\0" + utf8(_string(name)))
    return digest.digest()[:16]


def _recordable(ids: Iterable[Any]) -> tuple[str, ...]:
    """Those ids that append takes."""
    fit = [i for i in ids if isinstance(i, str) and 1 <= len(utf8(i)) <= ID_BYTES_MAX]
    return tuple(fit[:TOOL_CALLS_MAX])


def _hidden_in(parts: Iterable[Any], types: Sequence[str]) -> Iterator[Placed]:
    at = 0
    for part in parts:
        if _is_of(part, types):
            yield Placed(at, part)
        else:
            at += 1


def _placed_in(parts: Sequence[Any], blocks: Iterable[Placed]) -> list[Any]:
    woven: list[Any] = []
    taken = 0
    # What is meant to stand beyond the end stands at the end, in order with what is meant for it.
    for at, block in sorted(((min(at, len(parts)), block) for at, block in blocks), key=_first):
        woven += parts[taken:at]
        woven.append(block)
        taken = at
    return woven + list(parts[taken:])


def _first(placed: tuple[int, Any]) -> int:
    return placed[0]


def _take_own(reading: Reading, n: int, found: Blocks, types: Sequence[str], parts: int) -> None:
    own = [placed for placed in found.blocks if _is_of(placed.block, types)]
    if found.of not in (None, parts) and any(placed.at > 0 for placed in own):
        # Parts were merged, parted or left out since: between which of them cannot be told.
        reading.leave_out([n], "moved")
        return
    reading.placed += own
    if len(own) < len(found.blocks):
        reading.leave_out([n], "foreign")


# ---- The formats ---------------------------------------------------------------------------------


class Chat(Format):
    """OpenAI chat messages: reasoning in members of the assistant message."""

    name = "chat"
    member = "messages"

    def calls(self, items: Sequence[Any], field: str) -> list[Call]:
        _checked(items, self.member, with_role=True)
        calls: list[Call] = []
        turn = 0
        for n, message in enumerate(items):
            turn += message["role"] == "user"
            if message["role"] != "assistant":
                continue
            place = f"{self.member}[{n}]"
            content, tools = message.get("content"), message.get("tool_calls")
            _checked_content(content, f"{place}.content")
            tools = [] if tools is None else tools
            _expect(isinstance(tools, list) and len(tools) == len(_objects(tools)),
                    f"{place}.tool_calls", "is no array of objects")
            if isinstance(message.get("function_call"), dict):
                tools = [*tools, {"function": message["function_call"]}]
            texts = _texts(content, "text")
            calls.append(Call(
                n, 1, turn, not tools, _recordable(tool.get("id") for tool in tools),
                _visible_hash(texts, map(self._tool_name, tools)), any(texts),
                tuple(Placed(0, {"field": name, "value": value})
                      for name, value in message.items() if _is_hidden(name, field)), 1,
                next(filter(None, texts), "").lstrip(" \t\r\n").startswith(THINK),
            ))
        return calls

    @staticmethod
    def _tool_name(tool: dict[str, Any]) -> Any:
        for kind in ("function", "custom"):
            named = tool.get(kind)
            if isinstance(named, dict) and isinstance(named.get("name"), str):
                return named["name"]
        return None

    def take_out(self, items: Sequence[Any], field: str) -> list[Any]:
        return [{name: v for name, v in items[0].items() if not _is_hidden(name, field)}]

    def put_in(self, items: Sequence[Any], blocks: Sequence[Placed]) -> list[Any]:
        return [{**items[0], **{b.block["field"]: b.block["value"] for b in blocks}}]

    def _plain(self, blocks: Sequence[Placed], field: str) -> list[tuple[str, bytes]]:
        if len(blocks) != 1 or blocks[0].block["field"] != field:
            return []
        value = blocks[0].block["value"]
        return [("text", utf8(value))] if isinstance(value, str) and value else []

    def read(self, segments: Sequence[Segment], field: str, parts: int) -> Reading:
        reading = Reading()
        members: set[str] = set()
        texts: dict[int, bytes] = {}
        for n, segment in enumerate(segments):
            found = understand(segment)
            if isinstance(found, Text):
                texts[n] = found.data
            elif isinstance(found, Blocks):
                texts[n] = self._read_blocks(reading, n, found.blocks, members, field)
            else:
                reading.leave_out([n], found.outcome if isinstance(found, NoPlace) else "opaque")
        texts = {n: text for n, text in texts.items() if text}
        try:
            text = b"".join(texts.values()).decode("utf-8")
        except UnicodeDecodeError:
            reading.leave_out(texts, "malformed")
        else:
            if text and field in members:
                reading.leave_out(texts, "foreign")
            elif text:
                reading.placed.append(Placed(0, {"field": field, "value": text}))
        return reading

    @staticmethod
    def _read_blocks(reading: Reading, n: int, blocks: Iterable[Placed], members: set[str],
                     field: str) -> bytes:
        """Takes the members of chat in; the plain text of other blocks."""
        texts: list[bytes] = []
        for placed in blocks:
            name = placed.block.get("field")
            if isinstance(name, str) and "value" in placed.block:
                plain = b""
                taken = _is_hidden(name, field) and name not in members
                if taken:
                    members.add(name)
                    reading.placed.append(placed)
            else:
                plain = utf8(_plain_text(placed.block))
                taken = bool(plain)
            texts.append(plain)
            if not taken:
                reading.leave_out([n], "foreign")
        return b"".join(texts)


def _is_hidden(name: str, field: str) -> bool:
    return name == field or name in CHAT_HIDDEN


class Anthropic(Format):
    """Anthropic messages: signed thinking blocks between the other blocks of the content."""

    name = "anthropic"
    member = "messages"

    def calls(self, items: Sequence[Any], field: str) -> list[Call]:
        _checked(items, self.member, with_role=True)
        calls: list[Call] = []
        turn = 0
        for n, message in enumerate(items):
            role, content = message["role"], message.get("content")
            if role not in ("user", "assistant"):
                continue
            place = f"{self.member}[{n}].content"
            if role == "user":
                turn += self._asks(content, place)
                continue
            _checked_content(content, place, type_if_absent=None)
            tools = [part for part in _objects(content) if part["type"] == "tool_use"]
            texts = _texts(content, "text")
            hidden = tuple(_hidden_in(_objects(content), ANTHROPIC_HIDDEN))
            calls.append(Call(
                n, 1, turn, not tools, _recordable(tool.get("id") for tool in tools),
                _visible_hash(texts, (tool.get("name") for tool in tools)), any(texts), hidden,
                len(self._parts(content)) - len(hidden),
            ))
        return calls

    @staticmethod
    def _asks(content: Any, place: str) -> bool:
        """Whether a user message holds anything but results of tools."""
        if content is None or isinstance(content, str):
            return content is not None
        _expect(isinstance(content, list), place, "is neither a string nor an array")
        for n, part in enumerate(content):
            _expect(isinstance(part, dict), f"{place}[{n}]", "is no object")
        return any(not _is_of(part, ("tool_result",)) for part in content)

    def take_out(self, items: Sequence[Any], field: str) -> list[Any]:
        parts = [p for p in items[0]["content"] if not _is_of(p, ANTHROPIC_HIDDEN)]
        return [{**items[0], "content": parts}]

    def put_in(self, items: Sequence[Any], blocks: Sequence[Placed]) -> list[Any]:
        return [{**items[0], "content": _placed_in(self._parts(items[0].get("content")), blocks)}]

    @staticmethod
    def _parts(content: Any) -> list[Any]:
        if isinstance(content, list):
            return content
        # The vendor refuses a text block without text.
        return [{"type": "text", "text": content}] if content else []

    def _plain(self, blocks: Sequence[Placed], _field: str) -> list[tuple[str, bytes]]:
        segments: list[tuple[str, bytes]] = []
        for at, block in blocks:
            names = PLAIN_MEMBERS[block["type"]]
            texts = [_string(block.get(name)) for name in names]
            if at or not all(texts) or set(block) != {"type", *names} or texts[-1][0] == "{":
                return []
            kinds = ("text", "opaque") if len(names) == 2 else ("opaque",)
            segments += zip(kinds, map(utf8, texts))
        return segments if len(segments) <= SEGMENTS_MAX else []

    def read(self, segments: Sequence[Segment], field: str, parts: int) -> Reading:
        reading = Reading()
        found = [understand(segment, ANTHROPIC_HIDDEN) for segment in segments]
        n = 0
        while n < len(found):
            this = found[n]
            if isinstance(this, Blocks):
                _take_own(reading, n, this, ANTHROPIC_HIDDEN, parts)
            elif isinstance(this, NoPlace):
                reading.leave_out([n], this.outcome)
            elif isinstance(this, Raw):
                self._put(reading, [n], "redacted_thinking", [this.data])
            elif n + 1 < len(found) and isinstance(found[n + 1], Raw):
                self._put(reading, [n, n + 1], "thinking", [this.data, segments[n + 1].data])
                n += 1
            else:
                reading.leave_out([n], "unsigned")
            n += 1
        return reading

    @staticmethod
    def _put(reading: Reading, numbers: list[int], kind: str, data: list[bytes]) -> None:
        try:
            texts = [d.decode("utf-8") for d in data]
        except UnicodeDecodeError:
            reading.leave_out(numbers, "malformed")
        else:
            block = {"type": kind, **dict(zip(PLAIN_MEMBERS[kind], texts))}
            reading.placed.append(Placed(0, block))


class Responses(Format):
    """OpenAI Responses items: reasoning items among what one model call produced."""

    name = "responses"
    member = "input"

    def calls(self, items: Sequence[Any], field: str) -> list[Call]:
        _checked(items, self.member, with_role=False)
        calls: list[Call] = []
        turn = first = 0
        for n in range(len(items) + 1):
            if n < len(items) and self._is_produced(items[n]):
                continue
            if first < n:
                calls.append(self._call(items, first, n, turn))
            turn += n < len(items) and items[n].get("role") == "user"
            first = n + 1
        return calls

    @staticmethod
    def _is_produced(item: dict[str, Any]) -> bool:
        kind: str = item.get("type", "message")
        if kind == "message":
            return item.get("role") == "assistant"
        return kind in RESPONSES_HIDDEN or Responses._is_tool(item)

    @staticmethod
    def _is_tool(item: dict[str, Any]) -> bool:
        kind: str = item.get("type", "")
        return kind.endswith("_call") or kind == APPROVAL

    @staticmethod
    def _waits(tool: dict[str, Any]) -> bool:
        """For a result or an approval; other tools were called and answered within the call."""
        return isinstance(tool.get("call_id"), str) or tool["type"] == APPROVAL

    def _call(self, items: Sequence[Any], first: int, end: int, turn: int) -> Call:
        texts: list[str] = []
        for n in range(first, end):
            if items[n].get("type", "message") == "message":
                _checked_content(items[n].get("content"), f"{self.member}[{n}].content")
                texts += _texts(items[n].get("content"), "output_text")
        run = items[first:end]
        tools = [item for item in run if self._is_tool(item)]
        names = (tool["name"] if isinstance(tool.get("name"), str) else tool["type"]
                 for tool in tools)
        hidden = tuple(_hidden_in(run, RESPONSES_HIDDEN))
        return Call(
            first, len(run), turn, not any(map(self._waits, tools)),
            _recordable(tool.get("call_id") for tool in tools), _visible_hash(texts, names),
            any(texts), hidden, len(run) - len(hidden),
        )

    def names(self, items: Sequence[Any]) -> frozenset[str]:
        return frozenset(item["id"] for item in items
                         if isinstance(item.get("id"), str) and self._names_reasoning(item))

    @staticmethod
    def _names_reasoning(item: dict[str, Any]) -> bool:
        if "type" not in item:
            return "role" not in item
        return item["type"] in ("item_reference", *RESPONSES_HIDDEN)

    def take_out(self, items: Sequence[Any], field: str) -> list[Any]:
        return [item for item in items if not _is_of(item, RESPONSES_HIDDEN)]

    def put_in(self, items: Sequence[Any], blocks: Sequence[Placed]) -> list[Any]:
        return _placed_in(items, blocks)

    def read(self, segments: Sequence[Segment], field: str, parts: int) -> Reading:
        reading = Reading()
        for n, segment in enumerate(segments):
            found = understand(segment, RESPONSES_HIDDEN)
            if isinstance(found, Text):
                self._put(reading, n, found.data)
            elif isinstance(found, Blocks):
                _take_own(reading, n, found, RESPONSES_HIDDEN, parts)
            else:
                reading.leave_out([n], found.outcome if isinstance(found, NoPlace) else "opaque")
        return reading

    @staticmethod
    def _put(reading: Reading, n: int, data: bytes) -> None:
        try:
            content = [{"type": "reasoning_text", "text": data.decode("utf-8")}]
        except UnicodeDecodeError:
            reading.leave_out([n], "malformed")
            return
        reading.placed.append(Placed(0, {
            "type": "reasoning", "id": "rs_" + hashlib.sha256(data).hexdigest()[:32],
            "summary": [], "content": content,
        }))


FORMATS: dict[str, Format] = {f.name: f for f in (Chat(), Anthropic(), Responses())}
