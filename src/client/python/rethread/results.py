"""Result maps -> the classes of :mod:`rethread.types`.

A result that lacks a field which the contract promises, or has it in another type, is a
ProtocolError: a worker must never mistake a broken answer for an empty history.
"""

from __future__ import annotations

from typing import Any, Iterator

from .errors import ProtocolError
from .types import (
    AbortResult, AppendResult, BeginResult, ChunkResult, ForgetResult, ForkResult, HelloResult,
    ListPage, Replay, RewindResult, Segment, Stat, Step, ThreadEntry, TouchResult,
)


class Fields:
    """Takes the known fields out of a map; what stays is ``extra``."""

    def __init__(self, source: object, where: str) -> None:
        if not isinstance(source, dict):
            raise ProtocolError(f"{where} is not a map")
        self.extra: dict[str, Any] = dict(source)
        self._where = where

    def _take(self, name: str, kind: type, required: bool) -> Any:
        value = self.extra.pop(name, None)
        if value is None and not required:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ProtocolError(f"{self._where}: field {name} is missing or of a wrong type")
        return value

    def integer(self, name: str) -> int:
        return int(self._take(name, int, True))

    def integer_or_none(self, name: str) -> int | None:
        value = self._take(name, int, False)
        return None if value is None else int(value)

    def boolean(self, name: str) -> bool:
        return bool(self._take(name, bool, True))

    def boolean_or_none(self, name: str) -> bool | None:
        value = self._take(name, bool, False)
        return None if value is None else bool(value)

    def string(self, name: str) -> str:
        return str(self._take(name, str, True))

    def string_or_none(self, name: str) -> str | None:
        value = self._take(name, str, False)
        return None if value is None else str(value)

    def name_or_none(self, name: str) -> str | None:
        """A name for people that was given as str or bytes."""
        value = self.extra.get(name)
        if isinstance(value, bytes):
            self.extra[name] = value.decode("utf-8", "surrogateescape")
        return self.string_or_none(name)

    def id(self, name: str) -> bytes:
        return bytes(self._take(name, bytes, True))

    def id_or_none(self, name: str) -> bytes | None:
        value = self._take(name, bytes, False)
        return None if value is None else bytes(value)

    def array(self, name: str) -> list[Any]:
        return list(self._take(name, list, True))

    def array_or_none(self, name: str) -> list[Any] | None:
        value = self._take(name, list, False)
        return None if value is None else list(value)


def raw(result: dict[str, Any], payloads: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    return result, payloads


def info(result: dict[str, Any], _payloads: list[bytes]) -> dict[str, Any]:
    return result


def ping(_result: dict[str, Any], _payloads: list[bytes]) -> None:
    return None


def hello(result: dict[str, Any], _payloads: list[bytes]) -> HelloResult:
    f = Fields(result, "hello")
    return HelloResult(
        protocol=f.integer("protocol"), server=f.string("server"), version=f.string("version"),
        tenant=f.name_or_none("tenant") or "", frame_max=f.integer("frame_max"), extra=f.extra,
    )


def append(result: dict[str, Any], _payloads: list[bytes]) -> AppendResult:
    return _appended(result, "append")


def commit(result: dict[str, Any], _payloads: list[bytes]) -> AppendResult:
    return _appended(result, "commit")


def _appended(result: dict[str, Any], where: str) -> AppendResult:
    f = Fields(result, where)
    return AppendResult(
        thread=f.id("thread"), step=f.integer("step"), version=f.integer("version"),
        created=f.boolean("created"), duplicate=f.boolean("duplicate"), lost=f.integer("lost"),
        expires_in_ms=f.integer("expires_in_ms"), extra=f.extra,
    )


def begin(result: dict[str, Any], _payloads: list[bytes]) -> BeginResult:
    f = Fields(result, "begin")
    return BeginResult(
        thread=f.id("thread"), step=f.integer("step"), version=f.integer("version"),
        claim=f.integer("claim"), claim_expires_in_ms=f.integer("claim_expires_in_ms"),
        extra=f.extra,
    )


def chunk(result: dict[str, Any], _payloads: list[bytes]) -> ChunkResult:
    f = Fields(result, "chunk")
    return ChunkResult(
        bytes=f.integer("bytes"), claim_expires_in_ms=f.integer("claim_expires_in_ms"),
        extra=f.extra,
    )


def abort(result: dict[str, Any], _payloads: list[bytes]) -> AbortResult:
    f = Fields(result, "abort")
    return AbortResult(aborted=f.boolean("aborted"), extra=f.extra)


def replay(result: dict[str, Any], payloads: list[bytes]) -> Replay:
    f = Fields(result, "replay")
    rest = iter(payloads)
    steps = tuple(_step(step, rest) for step in f.array("steps"))
    if next(rest, None) is not None:
        raise ProtocolError("replay: more payloads than segments")
    status = f.string("status")
    if status not in ("complete", "partial", "miss"):
        raise ProtocolError("replay: unknown status")
    if status == "complete" and any(step.missing is not None for step in steps):
        raise ProtocolError("replay: called complete, but steps are missing")
    return Replay(
        status=status, reason=f.string_or_none("reason"), thread=f.id_or_none("thread"),
        version=f.integer_or_none("version"), head=f.integer_or_none("head"), steps=steps,
        expires_in_ms=f.integer_or_none("expires_in_ms"), vouch_ms=f.integer_or_none("vouch_ms"),
        first_changed=f.integer_or_none("first_changed"),
        ambiguous=bool(f.boolean_or_none("ambiguous")), found=f.integer_or_none("found"),
        in_flight=bool(f.boolean_or_none("in_flight")), kept_from=f.integer_or_none("kept_from"),
        dropped=f.integer_or_none("dropped"), extends=f.boolean_or_none("extends"), extra=f.extra,
    )


def _step(source: object, payloads: Iterator[bytes]) -> Step:
    f = Fields(source, "replay: step")
    number = f.integer("step")
    missing = f.string_or_none("missing")
    if missing is not None:
        return Step(step=number, missing=missing, extra=f.extra)
    tool_calls = f.array_or_none("tool_calls") or []
    if not all(isinstance(call, bytes) for call in tool_calls):
        raise ProtocolError("replay: tool call id is not bin")
    return Step(
        step=number, segments=tuple(_segment(s, payloads) for s in f.array("segments")),
        turn=f.integer_or_none("turn"), final=f.boolean_or_none("final"),
        model=f.name_or_none("model"), response_id=f.id_or_none("response_id"),
        tool_calls=tuple(tool_calls), tokens=f.integer_or_none("tokens"),
        source=f.string_or_none("source"), visible=f.id_or_none("visible"), extra=f.extra,
    )


def _segment(source: object, payloads: Iterator[bytes]) -> Segment:
    if (
        not isinstance(source, list) or len(source) < 2
        or not isinstance(source[0], str) or not isinstance(source[1], int)
    ):
        raise ProtocolError("replay: segment is not [kind, bytes]")
    data = next(payloads, None)
    if data is None or len(data) != source[1]:
        raise ProtocolError("replay: payloads do not match the segments")
    return Segment(source[0], data)


def stat(result: dict[str, Any], _payloads: list[bytes]) -> Stat:
    f = Fields(result, "stat")
    return Stat(
        status=f.string("status"), reason=f.string_or_none("reason"),
        vouch_ms=f.integer_or_none("vouch_ms"), version=f.integer_or_none("version"),
        step_count=f.integer_or_none("step_count"), bytes=f.integer_or_none("bytes"),
        tokens=f.integer_or_none("tokens"), age_ms=f.integer_or_none("age_ms"),
        idle_ms=f.integer_or_none("idle_ms"), expires_in_ms=f.integer_or_none("expires_in_ms"),
        tier=f.string_or_none("tier"), in_flight=bool(f.boolean_or_none("in_flight")),
        floor=f.integer_or_none("floor"), extra=f.extra,
    )


def touch(result: dict[str, Any], _payloads: list[bytes]) -> TouchResult:
    f = Fields(result, "touch")
    missing = f.array("missing")
    if not all(
        isinstance(m, list) and len(m) >= 2 and isinstance(m[0], bytes) and isinstance(m[1], str)
        for m in missing
    ):
        raise ProtocolError("touch: missing is not [[id, reason]...]")
    return TouchResult(
        touched=f.integer("touched"), missing=tuple((m[0], m[1]) for m in missing), extra=f.extra
    )


def fork(result: dict[str, Any], _payloads: list[bytes]) -> ForkResult:
    f = Fields(result, "fork")
    return ForkResult(thread=f.id("thread"), version=f.integer("version"), extra=f.extra)


def rewind(result: dict[str, Any], _payloads: list[bytes]) -> RewindResult:
    f = Fields(result, "rewind")
    return RewindResult(
        version=f.integer("version"), dropped=f.integer("dropped"), extra=f.extra
    )


def forget(result: dict[str, Any], _payloads: list[bytes]) -> ForgetResult:
    f = Fields(result, "forget")
    return ForgetResult(forgotten=f.boolean("forgotten"), extra=f.extra)


def list_page(result: dict[str, Any], _payloads: list[bytes]) -> ListPage:
    f = Fields(result, "list")
    threads = tuple(_entry(entry) for entry in f.array("threads"))
    return ListPage(threads=threads, cursor=f.extra.pop("cursor", None), extra=f.extra)


def _entry(source: object) -> ThreadEntry:
    f = Fields(source, "list: thread")
    return ThreadEntry(
        thread=f.id("thread"), version=f.integer("version"), bytes=f.integer("bytes"),
        idle_ms=f.integer("idle_ms"), tier=f.string("tier"), extra=f.extra,
    )
