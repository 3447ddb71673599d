"""Bytes <-> requests and responses of protocol 1. No sockets here.

A frame is ``CE``, a 32-bit big-endian length N, and N bytes holding one MessagePack array:
request ``[0, msgid, method, [options, payload...]]``, response
``[1, msgid, nil, [result, payload...]]`` or ``[1, msgid, {code, message, ...}, nil]``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Union

import msgpack  # type: ignore[import]

from .errors import ProtocolError, ServerError, server_error

FRAME_MARK = 0xCE
FRAME_HEADER_BYTES = 5
FRAME_MAX_DEFAULT = 64 << 20
MSGID_MAX = 0xFFFFFFFF

Buffer = Union[bytes, bytearray, memoryview]
"""What may be sent as a payload."""

_HEADER = struct.Struct(">BI")


@dataclass(frozen=True)
class Response:
    """One decoded response. Exactly one of ``error`` and ``result`` is set.

    ``msgid`` is None where the server could not read one; such a response speaks of the whole
    connection. ``payloads`` are the bytes that follow the result, in order.
    """

    msgid: int | None
    error: ServerError | None
    result: dict[str, Any] | None
    payloads: list[bytes]


def encode_request(
    msgid: int, method: str, options: Mapping[str, Any], payloads: Iterable[Buffer] = ()
) -> list[Buffer]:
    """The frame of a request, as buffers to be sent one after the other.

    Large payloads are passed on as they are, not copied. Raises ValueError where a frame
    cannot hold the request, TypeError for options that MessagePack cannot express.
    """
    bodies = [memoryview(p).cast("B") for p in payloads]
    packer = msgpack.Packer(use_bin_type=True, autoreset=False)
    packer.pack_array_header(4)
    packer.pack(0)
    packer.pack(msgid)
    packer.pack(method)
    packer.pack_array_header(1 + len(bodies))
    packer.pack(dict(options))
    head: bytes = packer.bytes()

    length = len(head) + sum(len(_bin_header(b.nbytes)) + b.nbytes for b in bodies)
    if length > 0xFFFFFFFF:
        raise ValueError("request does not fit a frame")
    out: list[Buffer] = []
    pending = bytearray(_HEADER.pack(FRAME_MARK, length))
    pending += head
    for body in bodies:
        pending += _bin_header(body.nbytes)
        if body.nbytes < 4096:
            pending += body
        else:
            out += [pending, body]
            pending = bytearray()
    if pending:
        out.append(pending)
    return out


def _bin_header(size: int) -> bytes:
    if size < 1 << 8:
        return struct.pack(">BB", 0xC4, size)
    if size < 1 << 16:
        return struct.pack(">BH", 0xC5, size)
    if size < 1 << 32:
        return struct.pack(">BI", 0xC6, size)
    raise ValueError("payload does not fit a frame")


def frame_length(header: bytes, frame_max: int) -> int:
    """The number of bytes that follow a 5-byte frame header; ProtocolError if it is unsound."""
    mark, length = _HEADER.unpack(header)
    if mark != FRAME_MARK:
        raise ProtocolError("framing lost: the peer does not speak this protocol")
    if length > frame_max:
        raise ProtocolError(f"frame of {length} bytes is over frame_max {frame_max}")
    return int(length)


class FrameReader:
    """Cuts received bytes into frames. Holds what was received and not a byte more."""

    def __init__(self, frame_max: int = FRAME_MAX_DEFAULT) -> None:
        self.frame_max = frame_max
        self._buffer = bytearray()
        self._start = 0

    def feed(self, data: Buffer) -> None:
        self._buffer += data

    def next(self) -> bytes | None:
        """The body of the next whole frame, or None until more has come."""
        have = len(self._buffer) - self._start
        if have >= FRAME_HEADER_BYTES:
            first = self._start + FRAME_HEADER_BYTES
            length = frame_length(self._buffer[self._start:first], self.frame_max)
            if have - FRAME_HEADER_BYTES >= length:
                with memoryview(self._buffer) as view:
                    body = bytes(view[first:first + length])
                self._start = first + length
                return body
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        return None


def decode_response(body: bytes) -> Response:
    """The response that a frame holds. ProtocolError if it is not one.

    A first walk builds nothing: once it has passed, every declared count is backed by bytes, so
    that what the second one allocates is bounded by the frame's size.
    """
    try:
        walker = msgpack.Unpacker(max_buffer_size=max(len(body), 1))
        walker.feed(body)
        walker.skip()
        if walker.tell() != len(body):
            raise ProtocolError("bytes after the response")
        message = msgpack.unpackb(body, raw=False)
    except ProtocolError:
        raise
    except Exception as error:  # the library raises half a dozen unrelated types
        # Its text may quote bytes of the frame, so only the type is passed on.
        raise ProtocolError(f"response is not sound MessagePack ({type(error).__name__})") from None
    return _response(message)


def _response(message: object) -> Response:
    if not isinstance(message, list) or len(message) != 4 or message[0] != 1:
        raise ProtocolError("not a response")
    _, msgid, error, result = message
    if msgid is not None and (
        not isinstance(msgid, int) or isinstance(msgid, bool) or not 0 <= msgid <= MSGID_MAX
    ):
        raise ProtocolError("response with an unsound msgid")
    if error is not None:
        if not isinstance(error, dict):
            raise ProtocolError("error is not a map")
        return Response(msgid, server_error(error), None, [])
    if not isinstance(result, list) or not result or not isinstance(result[0], dict):
        raise ProtocolError("result is not a map with payloads")
    payloads = result[1:]
    if not all(isinstance(p, bytes) for p in payloads):
        raise ProtocolError("payload is not bin")
    return Response(msgid, None, result[0], payloads)
