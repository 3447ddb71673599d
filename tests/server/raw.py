"""Bytes on a socket, for what a well-behaved client would never send."""

import socket
import struct

import msgpack


def frame(body):
    return struct.pack(">BI", 0xCE, len(body)) + body


def request(msgid, method, options=None, payloads=()):
    body = [0, msgid, method, [options or {}, *payloads]]
    return frame(msgpack.packb(body, use_bin_type=True))


def connect(server, timeout=20):
    s = socket.create_connection(("127.0.0.1", server.port), timeout)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


class Responses:
    """Reads responses the way any MessagePack library would: integer, array, integer, array."""

    def __init__(self, sock):
        self._socket = sock
        # Keys and values stay bytes: corrupted requests may be quoted back in any form.
        self._unpacker = msgpack.Unpacker(
            raw=True, strict_map_key=False, max_buffer_size=1 << 30)
        self._want_length = True

    def ready(self):
        """Responses among the bytes received so far."""
        out = []
        for item in self._unpacker:
            if self._want_length:
                assert isinstance(item, int), f"not a frame length: {type(item)}"
            else:
                assert isinstance(item, list) and len(item) == 4 and item[0] == 1, "not a response"
                out.append(item)
            self._want_length = not self._want_length
        return out

    def receive(self):
        """At least one response, or None where the server has closed."""
        while True:
            try:
                data = self._socket.recv(1 << 18)
            except (ConnectionResetError, BrokenPipeError):
                data = b""
            if not data:
                return None
            self._unpacker.feed(data)
            if got := self.ready():
                return got

    def all(self):
        """Everything until the server closes."""
        out = []
        while (got := self.receive()) is not None:
            out += got
        return out


CODES = {b"bad_request", b"unknown_method", b"too_large", b"not_found", b"conflict",
         b"over_budget", b"busy", b"shutting_down"}


def check(response):
    """A response is a result or an error with a code of the contract; returns the code or None."""
    _, _, error, result = response
    if error is None:
        assert isinstance(result, list) and isinstance(result[0], dict), "no result map"
        return None
    assert isinstance(error, dict) and result is None, "error and result"
    assert error[b"code"] in CODES, f"unknown code {error[b'code']!r}"
    assert isinstance(error[b"message"], bytes) and error[b"message"], "no message"
    return error[b"code"]


def golden():
    """One sound request per method, with every option that it has somewhere."""
    t, p = "golden", bytes(range(16))
    return {
        "hello": request(1, "hello", {"protocol": 1, "client": "c", "token": b"s"}),
        "ping": request(2, "ping"),
        "append": request(3, "append", {
            "thread": t, "response_id": "r", "tool_calls": ["c1", b"c2"], "model": "m",
            "turn": 0, "final": False, "tokens": 9, "prefix": p, "ttl_ms": 60000,
            "segments": ["text", "opaque"], "ack": "memory"}, [b"think", b"\xff\x00"]),
        "append-expect": request(4, "append", {"thread": "golden2", "key": "k"}, [b"once"]),
        "append-bare": request(5, "append", {"thread": "golden3", "segments": []}),
        "replay": request(6, "replay", {
            "thread": t, "policy": "all", "have": {"version": 1, "step": 0}, "last": 3,
            "max_bytes": 1000, "model": "m", "touch": False}),
        "replay-key": request(7, "replay", {"tool_call": "c1", "thread": t}),
        "stat": request(8, "stat", {"thread": t}),
        "touch": request(9, "touch", {"threads": [t, b"\xff"], "ttl_ms": 60000}),
        "fork": request(10, "fork", {"thread": "golden4", "from": t, "at": 0}),
        "rewind": request(11, "rewind", {"thread": "golden2", "to": -1}),
        "forget": request(12, "forget", {"thread": "golden4"}),
        "list": request(13, "list", {"starts_with": "go", "limit": 5}),
        "info": request(14, "info"),
    }
