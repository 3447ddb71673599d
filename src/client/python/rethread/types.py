"""What the methods return.

All are immutable. Times are integer milliseconds, sizes are bytes, ids are ``bytes``. Result
fields that this client does not know are kept in ``extra``. Payload bytes never show in a repr.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Tuple, Union

from .wire import Buffer

ID = Union[str, bytes]
"""A thread id, response id, tool-call id ...: 1 to 255 bytes. A str goes out as UTF-8."""


@dataclass(frozen=True)
class Segment:
    """One piece of a step's trace.

    ``kind``: ``text`` (UTF-8 as it came, never validated), ``tokens`` (little-endian u32 token
    ids) or ``opaque`` (a vendor's block). ``data``: its bytes, exactly as appended.
    """

    kind: str
    data: bytes = field(repr=False)

    @classmethod
    def of_tokens(cls, ids: Iterable[int]) -> Segment:
        """A segment of kind ``tokens`` from token ids, as they were sampled."""
        numbers = tuple(ids)
        try:
            return cls("tokens", struct.pack(f"<{len(numbers)}I", *numbers))
        except struct.error:
            raise ValueError("a token id is an integer of 32 bits, not negative") from None

    @property
    def token_ids(self) -> list[int]:
        """The ids of a segment of kind ``tokens``; ValueError for any other."""
        if self.kind != "tokens" or len(self.data) % 4 != 0:
            raise ValueError(f"the segment holds no token ids, but {len(self.data)} bytes of "
                             f"kind {self.kind}")
        return list(struct.unpack(f"<{len(self.data) // 4}I", self.data))


SegmentLike = Union[Buffer, Tuple[str, Buffer], Segment]
"""What append takes as a segment: bytes (kind ``text``), ``(kind, bytes)`` or a Segment."""


HaveLike = Union[Tuple[int, int], Tuple[int, int, Union[Iterable[int], None]]]
"""What a caller of replay holds: (version, step), or (version, step, steps kept in its context)."""


@dataclass(frozen=True)
class Step:
    """One step of a replay.

    ``step`` is its position in the thread. Where ``missing`` is set (a reason of the contract)
    the step is not here and nothing else is known of it. A bare step has no segments.
    ``visible`` is the hash of the visible message that append recorded.
    """

    step: int
    missing: str | None = None
    segments: tuple[Segment, ...] = ()
    turn: int | None = None
    final: bool | None = None
    model: str | None = None
    response_id: bytes | None = field(default=None, repr=False)
    tool_calls: tuple[bytes, ...] = field(default=(), repr=False)
    tokens: int | None = None
    source: str | None = None
    visible: bytes | None = field(default=None, repr=False)
    extra: Dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def size_bytes(self) -> int:
        """Bytes of all its segments."""
        return sum(len(s.data) for s in self.segments)


@dataclass(frozen=True)
class Replay:
    """An ordered selection of a thread's steps, with their bytes.

    ``status``: ``complete``, ``partial`` (some steps are missing, each with its reason; with
    ``have`` they may be older ones, not listed again) or ``miss`` (``reason`` says why; with
    ``never_seen``, ``vouch_ms`` is how far back the server can tell). A miss is a normal result.
    ``head`` is the number of the thread's last step, ``first_changed`` the first step that was
    replaced since ``have``, or, where it said what is kept, the first whose reasoning differs;
    ``extends`` is whether none does.
    ``kept_from`` and ``dropped`` say what a policy or ``pin`` left out, which is not missing:
    the first step that was kept, and how many were not. ``found`` is the place, in the list of
    prefixes, of the one that was known. ``in_flight``: a step is being streamed into the thread.
    """

    status: str
    reason: str | None = None
    thread: bytes | None = field(default=None, repr=False)
    version: int | None = None
    head: int | None = None
    steps: tuple[Step, ...] = ()
    expires_in_ms: int | None = None
    vouch_ms: int | None = None
    first_changed: int | None = None
    ambiguous: bool = False
    found: int | None = None
    in_flight: bool = False
    kept_from: int | None = None
    dropped: int | None = None
    extends: bool | None = None
    extra: Dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def complete(self) -> bool:
        """Every step of the selection is here."""
        return self.status == "complete"

    @property
    def miss(self) -> bool:
        """There is nothing of it."""
        return self.status == "miss"

    @property
    def missing(self) -> dict[int, str]:
        """Step number -> reason, of the steps that are not here."""
        return {s.step: s.missing for s in self.steps if s.missing is not None}


@dataclass(frozen=True)
class HelloResult:
    """Who answers: ``frame_max`` is the largest frame it takes, in bytes."""

    protocol: int
    server: str
    version: str
    tenant: str
    frame_max: int
    extra: Dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class AppendResult:
    """``step`` and ``version`` that the append committed.

    ``created``: it made the thread. ``duplicate``: the key was known and nothing was appended;
    the first result is repeated. ``lost``: steps lost while the thread was gone.
    """

    thread: bytes = field(repr=False)
    step: int
    version: int
    created: bool
    duplicate: bool
    lost: int
    expires_in_ms: int
    extra: Dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class BeginResult:
    """The step that was taken, of a thread at ``version``, and the ``claim`` on it."""

    thread: bytes = field(repr=False)
    step: int
    version: int
    claim: int
    claim_expires_in_ms: int
    extra: Dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ChunkResult:
    """``bytes`` that the step has so far, and when its claim ends without another chunk."""

    bytes: int
    claim_expires_in_ms: int
    extra: Dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class AbortResult:
    """``aborted``: the claim was given back."""

    aborted: bool
    extra: Dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Stat:
    """A thread's figures; only ``status`` and ``reason`` (``vouch_ms``) where it is missing.

    ``in_flight``: a step is being streamed into it. ``floor``: replays with ``pin`` leave out the
    steps below it.
    """

    status: str
    reason: str | None = None
    vouch_ms: int | None = None
    version: int | None = None
    step_count: int | None = None
    bytes: int | None = None
    tokens: int | None = None
    age_ms: int | None = None
    idle_ms: int | None = None
    expires_in_ms: int | None = None
    tier: str | None = None
    in_flight: bool = False
    floor: int | None = None
    extra: Dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class TouchResult:
    """``touched``: how many threads were refreshed. ``missing``: (id, reason) of the others."""

    touched: int
    missing: tuple[tuple[bytes, str], ...] = field(default=(), repr=False)
    extra: Dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ForkResult:
    """The new thread and its version: the number of steps that it shares."""

    thread: bytes = field(repr=False)
    version: int
    extra: Dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class RewindResult:
    """The thread's version after the rewind and how many steps were dropped."""

    version: int
    dropped: int
    extra: Dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ForgetResult:
    """``forgotten`` is False where there was nothing to forget."""

    forgotten: bool
    extra: Dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ThreadEntry:
    """One line of a listing."""

    thread: bytes = field(repr=False)
    version: int
    bytes: int
    idle_ms: int
    tier: str
    extra: Dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ListPage:
    """One page of a listing. ``cursor`` leads to the next page; None on the last."""

    threads: tuple[ThreadEntry, ...]
    cursor: Any = field(default=None, repr=False)
    extra: Dict[str, Any] = field(default_factory=dict, repr=False)
