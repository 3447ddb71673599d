"""The methods: how each is asked, and how its result is read.

Every function returns a :class:`Request`, which the clients send: ``Client.append`` is
:func:`append` sent and awaited, ``Pipeline.append`` is it sent, and so on, so that options and
results are described once, here. An option left at None is not sent, so that the server's
default holds. The server judges the values; nothing is clipped or corrected here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Generic, Iterable, Mapping, Sequence, TypeVar

from . import results
from .types import (
    ID, AbortResult, AppendResult, BeginResult, ChunkResult, ForgetResult, ForkResult, HaveLike,
    HelloResult, ListPage, Replay, RewindResult, Segment, SegmentLike, Stat, TouchResult,
)
from .wire import Buffer

T = TypeVar("T")


@dataclass(frozen=True)
class Request(Generic[T]):
    """A method call, ready to be sent, and the function that reads its result."""

    method: str
    options: Mapping[str, Any]
    payloads: Sequence[Buffer]
    decode: Callable[[dict[str, Any], list[bytes]], T]


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def hello(
    *, protocol: int = 1, client: str | None = None, token: ID | None = None
) -> Request[HelloResult]:
    """Introduce the client. Optional unless the server asks for a credential.

    ``client``: a name for the server's logs. Raises Unauthorized, BadRequest.
    """
    options = _given(protocol=protocol, client=client, token=token)
    return Request("hello", options, (), results.hello)


def ping() -> Request[None]:
    """Ask for a sign of life."""
    return Request("ping", {}, (), results.ping)


def append(
    thread: ID,
    segments: Iterable[SegmentLike] | Buffer = (),
    *,
    expect: int | None = None,
    key: ID | None = None,
    response_id: ID | None = None,
    tool_calls: Iterable[ID] | None = None,
    model: ID | None = None,
    turn: int | None = None,
    final: bool | None = None,
    tokens: int | None = None,
    prefix: bytes | None = None,
    visible: bytes | None = None,
    ttl_ms: int | None = None,
    retention_ms: int | None = None,
    ack: str | None = None,
) -> Request[AppendResult]:
    """Append one step to a thread.

    ``segments``: up to 64 of bytes (kind ``text``), ``(kind, bytes)`` or Segment, each at least
    1 byte; bytes alone are one text segment; none makes a bare step.
    ``expect``: the version the thread must have, 0 = it must not exist.
    ``key``: idempotency key, up to 64 bytes: the same key with the same bytes repeats the first
    result with ``duplicate`` set. ``tool_calls``: ids. ``turn``: user messages before this step.
    ``final``: no tool call follows. ``prefix``: 16-byte hash of the visible context, ``visible``:
    of the visible message that the step produced; a replay returns it.
    ``ttl_ms``, ``retention_ms``: the thread's lifetimes from now on. ``ack``: ``memory``, ``disk``.

    Raises Conflict (see ``version``, ``cause``), OverBudget, BadRequest, Busy, TooLarge.
    """
    options = _given(
        thread=thread, expect=expect, key=key, response_id=response_id, model=model, turn=turn,
        tool_calls=None if tool_calls is None else list(tool_calls), final=final, tokens=tokens,
        prefix=prefix, visible=visible, ttl_ms=ttl_ms, retention_ms=retention_ms, ack=ack,
    )
    kinds, payloads = _split(segments)
    if not kinds or any(kind != "text" for kind in kinds):
        options["segments"] = kinds
    return Request("append", options, payloads, results.append)


def _split(segments: Iterable[SegmentLike] | Buffer) -> tuple[list[str], list[Buffer]]:
    if isinstance(segments, (bytes, bytearray, memoryview)):
        segments = (segments,)
    kinds: list[str] = []
    payloads: list[Buffer] = []
    for segment in segments:
        if isinstance(segment, (bytes, bytearray, memoryview)):
            kind, data = "text", segment
        elif isinstance(segment, Segment):
            kind, data = segment.kind, segment.data
        else:
            kind, data = segment
        kinds.append(kind)
        payloads.append(data)
    return kinds, payloads


def begin(
    thread: ID, *, expect: int | None = None, segment: str | None = None
) -> Request[BeginResult]:
    """Take a thread's next step for a long generation, to be stored as it is produced.

    ``expect``: as in append, and judged at once.
    ``segment``: the kind of what the chunks bring, ``text`` (default), ``tokens``, ``opaque``.
    Until commit or abort, other appends are conflicts with cause ``claimed``. See Client.stream.

    Raises Conflict, OverBudget, Busy, BadRequest.
    """
    return Request("begin", _given(thread=thread, expect=expect, segment=segment), (),
                   results.begin)


def chunk(
    thread: ID, claim: int, payloads: Iterable[Buffer] | Buffer = ()
) -> Request[ChunkResult]:
    """Add bytes to the step that was begun, and keep its claim; without any, only keep it.

    Raises Conflict with cause ``claimed`` once the claim has ended, OverBudget, Busy.
    """
    if isinstance(payloads, (bytes, bytearray, memoryview)):
        payloads = (payloads,)
    return Request("chunk", {"thread": thread, "claim": claim}, tuple(payloads), results.chunk)


def commit(
    thread: ID,
    claim: int,
    segments: Iterable[SegmentLike] | Buffer = (),
    *,
    bare: bool = False,
    expect: int | None = None,
    key: ID | None = None,
    response_id: ID | None = None,
    tool_calls: Iterable[ID] | None = None,
    model: ID | None = None,
    turn: int | None = None,
    final: bool | None = None,
    tokens: int | None = None,
    prefix: bytes | None = None,
    visible: bytes | None = None,
    ttl_ms: int | None = None,
    retention_ms: int | None = None,
    ack: str | None = None,
) -> Request[AppendResult]:
    """Commit the step that was begun. Options and result are those of append.

    ``segments``: more of them, behind what was streamed. ``bare``: nothing was streamed, and
    there are none: a bare step. Sent again with its ``key``, it is answered as the first time.

    Raises Conflict (see ``version``, ``cause``), OverBudget, BadRequest, Busy, TooLarge.
    """
    options = _given(
        thread=thread, claim=claim, expect=expect, key=key, response_id=response_id, model=model,
        turn=turn, tool_calls=None if tool_calls is None else list(tool_calls), final=final,
        tokens=tokens, prefix=prefix, visible=visible, ttl_ms=ttl_ms, retention_ms=retention_ms,
        ack=ack,
    )
    kinds, payloads = _split(segments)
    if bare and kinds:
        raise ValueError("a bare step has no segments")
    if bare or any(kind != "text" for kind in kinds):
        options["segments"] = kinds
    return Request("commit", options, payloads, results.commit)


def abort(thread: ID, claim: int) -> Request[AbortResult]:
    """Give the claim back; nothing of the step is kept. Raises Conflict for a stale claim."""
    return Request("abort", {"thread": thread, "claim": claim}, (), results.abort)


def _have(have: HaveLike | None) -> dict[str, Any] | None:
    if have is None:
        return None
    version, step, *kept = have
    options: dict[str, Any] = {"version": version, "step": step}
    if kept and kept[0] is not None:
        options["kept"] = list(kept[0])
    return options


def _pairs(
    prefixes: Mapping[int, bytes] | Iterable[tuple[int, bytes]] | None
) -> list[list[Any]] | None:
    if prefixes is None:
        return None
    items = sorted(prefixes.items()) if isinstance(prefixes, Mapping) else prefixes
    return [[step, prefix] for step, prefix in items]


def replay(
    thread: ID | None = None,
    *,
    response_id: ID | None = None,
    tool_call: ID | None = None,
    prefix: bytes | Sequence[bytes] | None = None,
    policy: str | None = None,
    turn: int | None = None,
    turns: int | None = None,
    prefixes: Mapping[int, bytes] | Iterable[tuple[int, bytes]] | None = None,
    on_mismatch: str | None = None,
    have: HaveLike | None = None,
    last: int | None = None,
    max_bytes: int | None = None,
    max_tokens: int | None = None,
    model: ID | None = None,
    pin: bool | None = None,
    touch: bool | None = None,
) -> Request[Replay]:
    """Take a thread's steps back, in order and with their bytes.

    Name a thread, or one of ``response_id``, ``tool_call``, ``prefix``, which end the replay at
    the newest step that carried it; with a thread as well, only that thread is searched. Of
    several prefixes, newest first, the first that is known counts: see Replay.found.

    ``policy``: ``all`` (default), ``none``, ``current_turn``, ``since_final``, ``tool_turns``,
    ``last_turns`` with ``turns``, or ``auto``, what the profile of ``model`` says. ``turn``: the
    one about to be generated. ``pin``: what is dropped now stays dropped.
    ``prefixes``: step -> hash of the visible context before it as it is now; ``model``: who will
    read it. ``on_mismatch``: steps of another context or model are missing (``drop``, default),
    or the whole replay is a miss (``fail``).
    ``have``: (version, step): the caller holds steps 0 to step as of that version and wants what
    is newer; (version, step, kept): those whose reasoning is in its context, see Replay.extends.
    ``last``: only that many steps. ``max_bytes``, ``max_tokens``: only the newest steps that fit;
    what falls out is missing with reason ``budget``. ``touch=False``: leave the thread's ttl.

    A miss is a result, not an error: see Replay.status and Replay.reason. Raises BadRequest.
    """
    if prefix is not None and not isinstance(prefix, (str, bytes, bytearray, memoryview)):
        prefix = list(prefix)
    options = _given(
        thread=thread, response_id=response_id, tool_call=tool_call, prefix=prefix, policy=policy,
        turn=turn, turns=turns, prefixes=_pairs(prefixes), on_mismatch=on_mismatch,
        have=_have(have), last=last, max_bytes=max_bytes, max_tokens=max_tokens, model=model,
        pin=pin, touch=touch,
    )
    return Request("replay", options, (), results.replay)


def stat(thread: ID) -> Request[Stat]:
    """A thread's figures; does not refresh its ttl."""
    return Request("stat", {"thread": thread}, (), results.stat)


def touch(threads: Iterable[ID], *, ttl_ms: int | None = None) -> Request[TouchResult]:
    """Refresh the ttl of several threads, each with its own or with ``ttl_ms``."""
    options = _given(threads=list(threads), ttl_ms=ttl_ms)
    return Request("touch", options, (), results.touch)


def fork(thread: ID, from_: ID, *, at: int | None = None) -> Request[ForkResult]:
    """Make ``thread`` share the steps 0 to ``at`` (default: all) of ``from_``.

    Raises NotFound (see ``reason``), Conflict with cause ``exists``, BadRequest.
    """
    return Request("fork", _given(thread=thread, **{"from": from_}, at=at), (), results.fork)


def rewind(thread: ID, to: int) -> Request[RewindResult]:
    """Drop the steps after ``to``; -1 drops all. Raises NotFound, Busy, BadRequest."""
    return Request("rewind", {"thread": thread, "to": to}, (), results.rewind)


def forget(thread: ID) -> Request[ForgetResult]:
    """Erase a thread. Steps that live forks share live on there."""
    return Request("forget", {"thread": thread}, (), results.forget)


def list_threads(
    *, starts_with: ID | None = None, cursor: Any = None, limit: int | None = None
) -> Request[ListPage]:
    """One page of threads. Pass a page's ``cursor`` to get the next; None means the end."""
    options = _given(starts_with=starts_with, cursor=cursor, limit=limit)
    return Request("list", options, (), results.list_page)


def info() -> Request[dict[str, Any]]:
    """The server's counters and gauges: section -> name -> value."""
    return Request("info", {}, (), results.info)


def call(
    method: str, options: Mapping[str, Any] | None = None, payloads: Iterable[Buffer] = ()
) -> Request[tuple[dict[str, Any], list[bytes]]]:
    """Any method with any options, unchecked: returns (result map, payloads) as they came."""
    return Request(method, dict(options or {}), tuple(payloads), results.raw)
