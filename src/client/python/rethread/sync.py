"""The synchronous client: one connection, blocking calls, and pipelining.

Thread-safety: a Client may be shared between operating-system threads; each call holds the
client until its answer is there, so give each worker its own Client where they should not wait
for each other. A Pipeline and its Pending answers belong to one thread.

A connection is made by the first call and, after it was lost, by the next one. A lost connection
fails what was in flight with ConnectionLost; nothing is ever sent twice by itself.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from types import TracebackType
from typing import (
    Any, Callable, Concatenate, Deque, Dict, Generic, Iterator, ParamSpec, Set, TypeVar,
)

from . import requests
from .address import parse
from .connection import Connection
from .errors import ConnectionLost, ProtocolError, RequestTimeout, RethreadError
from .requests import Request
from .stream import CHUNK_BYTES, Stream
from .types import ID, ThreadEntry
from .wire import FRAME_MAX_DEFAULT, MSGID_MAX, Response, encode_request

P = ParamSpec("P")
T = TypeVar("T")

BACKLOG_BYTES_MAX = 256 << 10
"""Requests wait in the client up to here; beyond it, submitting sends (and receives) first."""


class Pending(Generic[T]):
    """A request that was submitted and may not be answered yet."""

    def __init__(self, client: Client, msgid: int, request: Request[T],
                 arrived: Deque[Pending[Any]]) -> None:
        self.msgid = msgid
        self._client = client
        self._request = request
        self._arrived = arrived
        self._value: T | None = None
        self._error: RethreadError | None = None
        self._done = False

    @property
    def done(self) -> bool:
        """The answer, or the certainty that none will come, is there."""
        return self._done

    def result(self) -> T:
        """Wait for the answer and return it, or raise what came instead."""
        if not self._done:
            self._client._wait(self)
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def error(self) -> RethreadError | None:
        """Wait for the answer; the exception that ``result`` would raise, or None."""
        try:
            self.result()
        except RethreadError as error:
            return error
        return None

    def _answer(self, response: Response) -> None:
        if response.error is not None:
            self._error = response.error
        else:
            assert response.result is not None
            self._value = self._request.decode(response.result, response.payloads)
        self._done = True
        self._arrived.append(self)

    def _fail(self, error: RethreadError) -> None:
        if not self._done:
            self._error = error
            self._done = True
            self._arrived.append(self)


def _call(build: Callable[P, Request[T]]) -> Callable[Concatenate[Client, P], T]:
    @functools.wraps(build)
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(build(*args, **kwargs))

    return method


def _queue(build: Callable[P, Request[T]]) -> Callable[Concatenate[Pipeline, P], Pending[T]]:
    @functools.wraps(build)
    def method(self: Pipeline, /, *args: P.args, **kwargs: P.kwargs) -> Pending[T]:
        return self.submit(build(*args, **kwargs))

    return method


class Client:
    """A connection to a server. Use it in a ``with`` block, or close it.

    ``address``: ``host:port``, ``[ipv6]:port`` or ``unix:/path``. ``connect_timeout`` and
    ``request_timeout`` are seconds, None waits for ever; ``frame_max`` is the largest response
    that is accepted, in bytes. With ``name`` or ``token`` each new connection says hello.
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
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._connections_made = 0
        self._msgid = 0
        self._pending: Dict[int, Pending[Any]] = {}
        self._abandoned: Set[int] = set()

    def __enter__(self) -> Client:
        self.connect()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def connect(self) -> None:
        """Connect now rather than at the first call. Raises ConnectError."""
        with self._lock:
            if self._connection is not None:
                return
            self._connection = Connection(self._address, self._connect_timeout, self._frame_max)
            self._connections_made += 1
            if self._name is not None or self._token is not None:
                try:
                    self.run(requests.hello(client=self._name, token=self._token))
                except RethreadError:
                    self.close()
                    raise

    def close(self) -> None:
        """Close the connection; what is in flight fails with ConnectionLost."""
        with self._lock:
            self._drop(ConnectionLost("closed by the client"))

    def run(self, request: Request[T]) -> T:
        """Send a request and wait for its result."""
        with self._lock:
            return self.submit(request).result()

    def submit(self, request: Request[T], arrived: Deque[Pending[Any]] | None = None) -> Pending[T]:
        """Queue a request without waiting for its answer."""
        with self._lock:
            self.connect()
            assert self._connection is not None
            msgid = self._next_msgid()
            buffers = encode_request(msgid, request.method, request.options, request.payloads)
            pending = Pending(self, msgid, request, deque() if arrived is None else arrived)
            self._pending[msgid] = pending
            self._connection.queue(buffers)
            if self._connection.backlog_bytes > BACKLOG_BYTES_MAX:
                self.flush()
            return pending

    def _submit_in_order(self, request: Request[T], pipeline: Pipeline) -> Pending[T]:
        with self._lock:
            if not pipeline._submitted:
                self.connect()
                pipeline._on_connection = self._connections_made
            elif self._connection is None or pipeline._on_connection != self._connections_made:
                pending = Pending(self, 0, request, pipeline._arrived)
                pending._fail(ConnectionLost("the pipeline's connection was lost"))
                return pending
            return self.submit(request, pipeline._arrived)

    def flush(self) -> None:
        """Send everything queued; answers that come meanwhile are taken in."""
        with self._lock:
            def sent() -> bool:
                return self._connection is None or self._connection.backlog_bytes == 0
            if not self._pump(sent):
                self._drop(RequestTimeout("the server does not take requests"))

    def pipeline(self) -> Pipeline:
        """A pipeline on this connection."""
        return Pipeline(self)

    def stream(
        self, thread: ID, *, expect: int | None = None, segment: str | None = None,
        chunk_bytes: int = CHUNK_BYTES
    ) -> Stream:
        """One step, written while it is produced; ``segment`` is its kind, ``text`` by default.
        ``expect``: the version that the thread must have, before anything is generated.

        Use it in a ``with`` block, and end with its ``commit``, which takes what append takes::

            with client.stream("conversation-42") as step:
                for piece in generate():
                    step.write(piece)
                step.commit(model="m", tool_calls=["call_7"])
        """
        return Stream(self, thread, expect, segment, chunk_bytes)

    def iter_threads(self, *, starts_with: str | bytes | None = None,
                     limit: int | None = None) -> Iterator[ThreadEntry]:
        """All threads of a listing, page by page (``limit`` per page)."""
        cursor: Any = None
        while True:
            page = self.list(starts_with=starts_with, cursor=cursor, limit=limit)
            yield from page.threads
            cursor = page.cursor
            if not cursor:
                return

    def _next_msgid(self) -> int:
        while True:
            self._msgid = (self._msgid + 1) & MSGID_MAX
            if self._msgid not in self._pending and self._msgid not in self._abandoned:
                return self._msgid

    def _wait(self, pending: Pending[Any]) -> None:
        with self._lock:
            if not self._pump(lambda: pending.done):
                self._pending.pop(pending.msgid, None)
                self._abandoned.add(pending.msgid)
                pending._fail(RequestTimeout(f"no answer within {self.request_timeout} s"))

    def _pump(self, ready: Callable[[], bool]) -> bool:
        """Send and receive until ``ready``; False once request_timeout has passed."""
        start = time.monotonic()
        while not ready():
            if self._connection is None:
                return True
            left = None
            if self.request_timeout is not None:
                left = start + self.request_timeout - time.monotonic()
                if left <= 0:
                    return False
            try:
                for response in self._connection.pump(left):
                    self._dispatch(response)
            except RethreadError as error:
                self._drop(error)
        return True

    def _dispatch(self, response: Response) -> None:
        if response.msgid is None:
            self._drop(response.error or ProtocolError("response without a msgid"))
            return
        pending = self._pending.pop(response.msgid, None)
        if pending is not None:
            try:
                pending._answer(response)
            except ProtocolError as error:
                pending._fail(error)
                raise
        elif response.msgid in self._abandoned:
            self._abandoned.discard(response.msgid)
        else:
            raise ProtocolError("response to a request that was never sent")

    def _drop(self, error: RethreadError) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        pending, self._pending = self._pending, {}
        self._abandoned.clear()
        for p in pending.values():
            p._fail(error)

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


class Pipeline:
    """Many requests in flight at once; each method returns a Pending at once.

    Leaving the ``with`` block waits for all answers. Errors are raised by ``Pending.result``
    only, so that one failed request does not hide the others.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._submitted: Deque[Pending[Any]] = deque()
        self._arrived: Deque[Pending[Any]] = deque()
        self._on_connection = 0

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is None:
            self.collect()

    def submit(self, request: Request[T]) -> Pending[T]:
        """Queue any request.

        Where the connection was lost since the last collect, requests fail unsent: what follows
        a step that may not have arrived must not be appended by a new connection.
        """
        pending = self._client._submit_in_order(request, self)
        self._submitted.append(pending)
        return pending

    def flush(self) -> None:
        """Send everything queued without waiting for the answers."""
        self._client.flush()

    def collect(self) -> Deque[Pending[Any]]:
        """Wait for all answers; the Pendings since the last collect, in the order submitted."""
        batch, self._submitted = self._submitted, deque()
        for pending in batch:
            pending.error()
        self._arrived.clear()
        return batch

    def as_completed(self) -> Iterator[Pending[Any]]:
        """The Pendings since the last collect, in the order in which answers arrive."""
        batch, self._submitted = self._submitted, deque()
        for _ in range(len(batch)):
            while not self._arrived:
                next(p for p in batch if not p.done).error()
            yield self._arrived.popleft()

    hello = _queue(requests.hello)
    ping = _queue(requests.ping)
    append = _queue(requests.append)
    begin = _queue(requests.begin)
    chunk = _queue(requests.chunk)
    commit = _queue(requests.commit)
    abort = _queue(requests.abort)
    replay = _queue(requests.replay)
    stat = _queue(requests.stat)
    touch = _queue(requests.touch)
    fork = _queue(requests.fork)
    rewind = _queue(requests.rewind)
    forget = _queue(requests.forget)
    list = _queue(requests.list_threads)
    info = _queue(requests.info)
    call = _queue(requests.call)
