"""Streamed appends: one step, written while it is produced.

Nothing of it is seen by others before the commit, but that a step is in flight. What is written
is gathered into chunks; nothing is retried by itself.

A step is committed as it was written or not at all. A chunk that the server refused stays with
the stream, in its place: it is not to be written again, the next chunk brings it. After a chunk
of which nobody knows whether it arrived (a TransportError, a cancelled call) the stream can only
be aborted.
"""

from __future__ import annotations

import asyncio
import functools
import time
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Concatenate, Coroutine, Iterator, ParamSpec

from . import requests
from .errors import (
    Conflict, ConnectError, Internal, RethreadError, ServerError, TransportError,
)
from .requests import Request
from .types import ID, AppendResult, BeginResult, ChunkResult
from .wire import Buffer

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .sync import Client

P = ParamSpec("P")

CHUNK_BYTES = 8 << 10
"""What is written is sent once there is this much of it, or when the claim needs it."""

KEEP_ALIVES = 3
"""How often a claim is renewed in the time that it lasts."""

GIVE_BACK_S = 1.0
"""How long a cancelled begin waits for the claim, to give it back."""


class _Draft:
    """What both kinds of stream know: the claim, and what was written and not yet sent."""

    def __init__(
        self, thread: ID, expect: int | None, segment: str | None, chunk_bytes: int
    ) -> None:
        self._thread = thread
        self._expect = expect
        self._segment = segment
        self._chunk_bytes = chunk_bytes
        self._begun: BeginResult | None = None
        self._ended = False
        self._torn = False  # whether a chunk arrived is unknown
        self._unsent = bytearray()
        self._renewed = 0.0
        self._lasts_ms = 0

    @property
    def step(self) -> int:
        """The number of the step that was taken."""
        return self._open().step

    @property
    def version(self) -> int:
        """The thread's version, which stays until the commit makes the next."""
        return self._open().version

    @property
    def claim(self) -> int:
        """The claim that ``begin`` returned."""
        return self._open().claim

    def _open(self) -> BeginResult:
        if self._begun is None:
            raise ValueError("the stream has not begun: use it in a with block")
        return self._begun

    def _unended(self) -> None:
        self._open()
        if self._ended:
            raise ValueError("the stream has ended")

    def _writable(self) -> None:
        self._unended()
        if self._torn:
            raise TransportError("whether all of the step arrived is unknown: it can be aborted only")

    def _take_begun(self, begun: BeginResult) -> None:
        self._begun = begun
        self._renew(begun.claim_expires_in_ms)

    def _renew(self, lasts_ms: int) -> None:
        self._renewed = time.monotonic()
        self._lasts_ms = lasts_ms

    def _is_due(self) -> bool:
        waited_ms = (time.monotonic() - self._renewed) * 1000
        return len(self._unsent) >= self._chunk_bytes or waited_ms * KEEP_ALIVES >= self._lasts_ms

    def _begin_request(self) -> Request[BeginResult]:
        if self._begun is not None:
            raise ValueError("the stream has begun already")
        return requests.begin(self._thread, expect=self._expect, segment=self._segment)

    @contextmanager
    def _chunk(self) -> Iterator[Request[ChunkResult]]:
        """What is unsent, for the block to send."""
        data, self._unsent = bytes(self._unsent), bytearray()
        try:
            yield requests.chunk(self._thread, self.claim, [data] if data else [])
        except BaseException as error:
            refused = isinstance(error, ServerError) and not isinstance(error, Internal)
            if refused or isinstance(error, ConnectError):
                self._unsent[:0] = data
            elif data:
                self._torn = True
            raise


def _commit(
    build: Callable[Concatenate[ID, int, P], Request[AppendResult]]
) -> Callable[Concatenate[Stream, P], AppendResult]:
    @functools.wraps(build)
    def method(self: Stream, /, *args: P.args, **kwargs: P.kwargs) -> AppendResult:
        self._writable()
        request = build(self._thread, self.claim, *args, **kwargs)
        if self._unsent:
            self.flush()
        result = self._client.run(request)
        self._ended = True
        return result

    return method


class Stream(_Draft):
    """A step that is being written; made by :meth:`Client.stream`, for a ``with`` block.

    Leaving the block without ``commit``, be it by an exception, aborts: nothing is kept. A claim
    lasts for a time after the last chunk (the server's ``--claim-timeout``): ``write`` sees to it,
    and whoever waits for long without writing calls ``flush`` now and then. A stream belongs to
    one operating-system thread.
    """

    def __init__(self, client: Client, thread: ID, expect: int | None, segment: str | None,
                 chunk_bytes: int) -> None:
        super().__init__(thread, expect, segment, chunk_bytes)
        self._client = client

    def __enter__(self) -> Stream:
        self._take_begun(self._client.run(self._begin_request()))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._ended:
            return
        try:
            self.abort()
        except RethreadError:
            pass  # the claim has ended, or will by itself; what matters is what ended the block

    def write(self, data: Buffer) -> None:
        """Add bytes to the step.

        Raises Conflict once the claim has ended, and Busy, OverBudget, TooLarge: what was written
        is not lost then and not to be written again; the next write, flush or commit brings it.
        """
        self._writable()
        self._unsent += data
        if self._is_due():
            self.flush()

    def flush(self) -> None:
        """Send what was written so far, and keep the claim, also with nothing to send."""
        self._writable()
        with self._chunk() as request:
            self._renew(self._client.run(request).claim_expires_in_ms)

    commit = _commit(requests.commit)

    def abort(self) -> None:
        """Give the step up; nothing of it is kept."""
        self._unended()
        self._ended = True
        self._client.run(requests.abort(self._thread, self.claim))


def _commit_async(
    build: Callable[Concatenate[ID, int, P], Request[AppendResult]]
) -> Callable[Concatenate[AsyncStream, P], Coroutine[Any, Any, AppendResult]]:
    @functools.wraps(build)
    async def method(self: AsyncStream, /, *args: P.args, **kwargs: P.kwargs) -> AppendResult:
        self._writable()
        request = build(self._thread, self.claim, *args, **kwargs)
        async with self._sending:
            self._writable()
            if self._unsent:
                await self._send()
            result = await self._client.run(request)
            self._ended = True
        return result

    return method


class AsyncStream(_Draft):
    """As :class:`Stream`, for an ``async with`` block; each method is a coroutine.

    The claim is kept by itself while the block lasts, however long nothing is written.
    """

    def __init__(self, client: AsyncClient, thread: ID, expect: int | None, segment: str | None,
                 chunk_bytes: int) -> None:
        super().__init__(thread, expect, segment, chunk_bytes)
        self._client = client
        self._sending = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> AsyncStream:
        begun = asyncio.ensure_future(self._client.run(self._begin_request()))
        try:
            self._take_begun(await asyncio.shield(begun))
        except asyncio.CancelledError:
            await self._give_back(begun)
            raise
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._ended:
            return
        try:
            await self.abort()
        except RethreadError:
            pass  # the claim has ended, or will by itself; what matters is what ended the block

    async def _give_back(self, begun: asyncio.Future[BeginResult]) -> None:
        """Nobody is left to use the claim: abort, but let nobody wait for long either."""
        async def abort() -> None:
            try:
                await self._client.run(requests.abort(self._thread, (await begun).claim))
            except RethreadError:
                pass

        task = asyncio.create_task(abort())
        try:
            await asyncio.wait({task}, timeout=GIVE_BACK_S)
        finally:
            task.cancel()

    async def _keep(self) -> None:
        """Renew the claim in good time. What fails for good fails at the next write as well."""
        while not self._ended and not self._torn:
            await asyncio.sleep(max(self._lasts_ms / 1000 / KEEP_ALIVES, 0.001))
            try:
                async with self._sending:
                    if not self._ended and not self._torn and self._is_due():
                        await self._send()
            except Conflict:
                return  # the claim has ended
            except RethreadError:
                pass

    async def _send(self) -> None:
        with self._chunk() as request:
            self._renew((await self._client.run(request)).claim_expires_in_ms)

    async def write(self, data: Buffer) -> None:
        """Add bytes to the step.

        Raises Conflict once the claim has ended, and Busy, OverBudget, TooLarge: what was written
        is not lost then and not to be written again; the next write, flush or commit brings it.
        """
        self._writable()
        self._unsent += data
        if self._is_due():
            await self.flush()

    async def flush(self) -> None:
        """Send what was written so far, and keep the claim, also with nothing to send."""
        async with self._sending:
            self._writable()
            await self._send()

    commit = _commit_async(requests.commit)

    async def abort(self) -> None:
        """Give the step up; nothing of it is kept."""
        async with self._sending:
            self._unended()
            self._ended = True
            await self._client.run(requests.abort(self._thread, self.claim))
