"""One non-blocking socket that sends and receives at the same time.

A pipelining client that only sends, then only receives, can lock up with a server that applies
back-pressure: so every wait here is for both directions. Used by one thread at a time.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from typing import Deque, List, Sequence

from .address import Address
from .errors import ConnectError, ConnectionLost
from .wire import Buffer, FrameReader, Response, decode_response

_RECEIVE_BYTES = 256 << 10
_SEND_BUFFERS_MAX = 64


class Connection:
    """Connects at once. ``timeout``: seconds, None waits for ever. Raises ConnectError."""

    def __init__(self, address: Address, timeout: float | None, frame_max: int) -> None:
        try:
            if address.path:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._socket.settimeout(timeout)
                self._socket.connect(address.path)
            else:
                self._socket = socket.create_connection((address.host, address.port), timeout)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            if address.path and hasattr(self, "_socket"):
                self._socket.close()
            raise ConnectError(f"cannot connect: {error.strerror or error}") from error
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._reader = FrameReader(frame_max)
        self._out: Deque[memoryview] = deque()
        self._received = bytearray(_RECEIVE_BYTES)
        self.backlog_bytes = 0

    def close(self) -> None:
        self._socket.close()

    def queue(self, buffers: Sequence[Buffer]) -> None:
        """Buffers to send; they must not change until they are sent."""
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            self.backlog_bytes += view.nbytes
            self._out.append(view)

    def pump(self, timeout: float | None) -> List[Response]:
        """Send and receive what is possible now, waiting up to ``timeout`` for something to be.

        Returns the responses that were completed, maybe none. Raises ConnectionLost and
        ProtocolError, after either of which the connection is of no further use.
        """
        try:
            wait_ms = None if timeout is None else max(1, int(timeout * 1000))
            if self._out:
                self._send()
                if not self._out:
                    # That may be all the caller wants: the answer may have come meanwhile.
                    wait_ms = 0
            events = select.POLLIN | (select.POLLOUT if self._out else 0)
            self._poll.register(self._socket, events)
            ready = self._poll.poll(wait_ms)
            if not ready:
                return []
            if ready[0][1] & select.POLLOUT:
                self._send()
            if ready[0][1] & ~select.POLLOUT:
                return self._receive()
        except OSError as error:
            raise ConnectionLost(f"connection lost: {error.strerror or error}") from error
        return []

    def _send(self) -> None:
        while self._out:
            first = [self._out[i] for i in range(min(len(self._out), _SEND_BUFFERS_MAX))]
            try:
                sent = self._socket.sendmsg(first)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                # What the server said before it closed is still to be read.
                self._out.clear()
                self.backlog_bytes = 0
                return
            self.backlog_bytes -= sent
            while sent:
                head = self._out.popleft()
                if sent < head.nbytes:
                    self._out.appendleft(head[sent:])
                    break
                sent -= head.nbytes

    def _receive(self) -> List[Response]:
        try:
            count = self._socket.recv_into(self._received)
        except BlockingIOError:
            return []
        if count == 0:
            raise ConnectionLost("connection closed by the server")
        self._reader.feed(memoryview(self._received)[:count])
        responses = []
        while (body := self._reader.next()) is not None:
            responses.append(decode_response(body))
        return responses
