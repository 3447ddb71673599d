"""The asyncio client: concurrent calls share one connection, told apart by msgid.

Belongs to one event loop; not safe to share between operating-system threads. Calls started
in some order are sent in that order, and those on one thread take effect in it.

A connection is made by ``connect`` (or ``async with``, or the first call) and, after it was lost,
by the next call. A lost connection fails what was in flight; nothing is sent twice by itself.
Cancelling a call forgets its answer; the server may still carry it out.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from types import TracebackType
from typing import (
    Any, AsyncIterator, Callable, Concatenate, Coroutine, Dict, ParamSpec, Set, TypeVar,
)

from . import requests
from .address import parse
from .errors import ConnectError, ConnectionLost, ProtocolError, RequestTimeout, RethreadError
from .requests import Request
from .stream import CHUNK_BYTES, AsyncStream
from .types import ID, ThreadEntry
from .wire import (
    FRAME_MAX_DEFAULT, MSGID_MAX, FrameReader, Response, decode_response, encode_request,
)

P = ParamSpec("P")
T = TypeVar("T")

_RECEIVE_BYTES = 256 << 10


def _call(
    build: Callable[P, Request[T]]
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    @functools.wraps(build)
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.run(build(*args, **kwargs))

    return method


class AsyncClient:
    """A connection to a server. Use it in an ``async with`` block, or close it.

    Arguments and methods are those of :class:`rethread.Client`; each method is a coroutine.
    """

    def __init__(
        self, address: str = "127.0.0.1:7411", *, connect_timeout: float | None = 5.0,
        request_timeout: float | None = 30.0, frame_max: int = FRAME_MAX_DEFAULT,
        name: str | None = None, token: str | bytes | None = None,
    ) -> None:
        self.request_timeout = request_timeout
        self._address = parse(address)
        self._connect_timeout = connect_timeout
        self._frame_max = frame_max
        self._name = name
        self._token = token
        self._connecting = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._msgid = 0
        self._pending: Dict[int, asyncio.Future[Response]] = {}
        self._abandoned: Set[int] = set()

    async def __aenter__(self) -> AsyncClient:
        await self.connect()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect now rather than at the first call. Raises ConnectError."""
        async with self._connecting:
            if self._writer is not None:
                return
            reader, writer = await self._open()
            self._writer = writer
            self._receiver = asyncio.create_task(self._receive(reader, writer))
            if self._name is not None or self._token is not None:
                try:
                    await self._send(requests.hello(client=self._name, token=self._token), writer)
                except BaseException:
                    self._drop(writer, ConnectionLost("hello failed"))
                    raise

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(self._connect_timeout):
                if self._address.path:
                    return await asyncio.open_unix_connection(self._address.path, limit=1 << 20)
                reader, writer = await asyncio.open_connection(
                    self._address.host, self._address.port, limit=1 << 20
                )
        except OSError as error:  # TimeoutError is one
            raise ConnectError(f"cannot connect: {error.strerror or 'timed out'}") from error
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return reader, writer

    async def close(self) -> None:
        """Close the connection; what is in flight fails with ConnectionLost."""
        writer, receiver = self._writer, self._receiver
        if writer is not None:
            self._drop(writer, ConnectionLost("closed by the client"))
        if receiver is not None:
            receiver.cancel()
            await asyncio.gather(receiver, return_exceptions=True)
        if writer is not None:
            try:
                await writer.wait_closed()
            except OSError:
                pass  # it is closed, which is all that was wanted

    async def run(self, request: Request[T]) -> T:
        """Send a request and wait for its result."""
        if self._writer is None:
            await self.connect()
        writer = self._writer
        if writer is None:
            raise ConnectionLost("closed while connecting")
        return await self._send(request, writer)

    async def _send(self, request: Request[T], writer: asyncio.StreamWriter) -> T:
        msgid = self._next_msgid()
        buffers = encode_request(msgid, request.method, request.options, request.payloads)
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._pending[msgid] = future
        try:
            async with asyncio.timeout(self.request_timeout):
                for buffer in buffers:
                    writer.write(buffer)
                try:
                    await writer.drain()
                except OSError:
                    pass  # the receiver finds out, after it has read what the server said last
                response = await future
        except TimeoutError:
            raise RequestTimeout(f"no answer within {self.request_timeout} s") from None
        finally:
            if self._pending.get(msgid) is future:
                del self._pending[msgid]
                self._abandoned.add(msgid)
        if response.error is not None:
            raise response.error
        assert response.result is not None
        try:
            return request.decode(response.result, response.payloads)
        except ProtocolError as error:
            self._drop(writer, error)
            raise

    def _next_msgid(self) -> int:
        while True:
            self._msgid = (self._msgid + 1) & MSGID_MAX
            if self._msgid not in self._pending and self._msgid not in self._abandoned:
                return self._msgid

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = FrameReader(self._frame_max)
        error: RethreadError = ConnectionLost("connection closed by the server")
        try:
            while data := await reader.read(_RECEIVE_BYTES):
                frames.feed(data)
                while (body := frames.next()) is not None:
                    self._dispatch(decode_response(body))
        except OSError as failure:
            error = ConnectionLost(f"connection lost: {failure.strerror or failure}")
        except RethreadError as failure:
            error = failure
        self._drop(writer, error)

    def _dispatch(self, response: Response) -> None:
        if response.msgid is None:
            raise response.error or ProtocolError("response without a msgid")
        future = self._pending.pop(response.msgid, None)
        if future is not None:
            if not future.done():
                future.set_result(response)
        elif response.msgid in self._abandoned:
            self._abandoned.discard(response.msgid)
        else:
            raise ProtocolError("response to a request that was never sent")

    def _drop(self, writer: asyncio.StreamWriter, error: RethreadError) -> None:
        if self._writer is not writer:
            return  # another connection took its place
        self._writer = self._receiver = None
        writer.close()
        pending, self._pending = self._pending, {}
        self._abandoned.clear()
        for future in pending.values():
            if not future.done():
                future.set_exception(error)

    def stream(
        self, thread: ID, *, expect: int | None = None, segment: str | None = None,
        chunk_bytes: int = CHUNK_BYTES
    ) -> AsyncStream:
        """As :meth:`rethread.Client.stream`, for an ``async with`` block."""
        return AsyncStream(self, thread, expect, segment, chunk_bytes)

    async def iter_threads(
        self, *, starts_with: str | bytes | None = None, limit: int | None = None
    ) -> AsyncIterator[ThreadEntry]:
        """All threads of a listing, page by page (``limit`` per page)."""
        cursor: Any = None
        while True:
            page = await self.list(starts_with=starts_with, cursor=cursor, limit=limit)
            for entry in page.threads:
                yield entry
            cursor = page.cursor
            if not cursor:
                return

    hello = _call(requests.hello)
    ping = _call(requests.ping)
    append = _call(requests.append)
    begin = _call(requests.begin)
    chunk = _call(requests.chunk)
    commit = _call(requests.commit)
    abort = _call(requests.abort)
    replay = _call(requests.replay)
    stat = _call(requests.stat)
    touch = _call(requests.touch)
    fork = _call(requests.fork)
    rewind = _call(requests.rewind)
    forget = _call(requests.forget)
    list = _call(requests.list_threads)
    info = _call(requests.info)
    call = _call(requests.call)
