"""Bytes on a socket, for what a well-behaved client would never send."""

import socket
import struct

import msgpack


def frame(body):
    return struct.pack(">BI", 0xCE, len(body)) + body


def request(msgid, method, options=None, payloads=()):
    body = [0, msgid, method, [options or {}, *payloads]]
    return frame(msgpack.packb(body, use_bin_type=True))


def connect(server, timeout=120):
    s = socket.create_connection(("127.0.0.1", server.port), timeout)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


class Responses:
    """Reads responses the way any MessagePack library would: integer, array, integer, array."""

    def __init__(self, sock, text=False):
        self._socket = sock
        # Keys and values stay bytes: corrupted requests may be quoted back in any form. With
        # `text` what was sent as str becomes str.
        self._unpacker = msgpack.Unpacker(
            raw=not text, strict_map_key=False, max_buffer_size=1 << 30)
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
         b"over_budget", b"read_only", b"busy", b"shutting_down"}


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


class Refused(Exception):
    """An error answer: its code, and what else its map says."""

    def __init__(self, error):
        super().__init__(error)
        self.code, self.details = error["code"], error
        self.cause, self.version = error.get("cause"), error.get("version")


class Replay:
    """A replay's result, and the payloads put to their steps; what the contract says of any is
    checked here.

    ``kept`` {step: [(kind, data)...]}, ``missing`` {step: reason}, ``meta`` {step: its map}; fields
    of the result are attributes, None where they are absent.
    """

    def __init__(self, result, payloads):
        self.result, self.kept, self.missing, self.meta = result, {}, {}, {}
        left = list(payloads)
        for step in result["steps"]:
            number = step["step"]
            assert not self.numbers or number > self.numbers[-1], "steps out of order"
            if "missing" in step:
                assert set(step) == {"step", "missing"}, step
                self.missing[number] = step["missing"]
                continue
            segments = []
            for kind, size in step["segments"]:
                assert left and len(left[0]) == size, "a payload is not as long as its segment says"
                segments.append((kind, left.pop(0)))
            self.kept[number], self.meta[number] = segments, step
        assert not left, "payloads that belong to no segment"
        states = {"complete": not self.missing, "partial": bool(self.missing),
                  "miss": not self.numbers and "reason" in result}
        assert states[result["status"]], f"{result['status']} in spite of {self.missing}"
        assert result["status"] == "miss" or "reason" not in result
        assert result.get("extends") is None or result["extends"] != ("first_changed" in result)

    @property
    def numbers(self):
        return sorted([*self.kept, *self.missing])

    @property
    def data(self):
        """{step: the bytes of its segments}."""
        return {n: b"".join(data for _, data in segments) for n, segments in self.kept.items()}

    def __getattr__(self, name):
        return self.result.get(name)


class Client:
    """One connection: a request at a time by `call`, or several by `send` and `answer`."""

    def __init__(self, server, timeout=120):
        self.socket = connect(server, timeout)
        self._responses = Responses(self.socket, text=True)
        self._answers, self._last = {}, 0

    def close(self):
        self.socket.close()

    def send(self, method, options=None, payloads=()):
        self._last += 1
        self.socket.sendall(request(self._last, method, options, payloads))
        return self._last

    def answer(self, msgid):
        """(result, payloads) of a request that was sent, or Refused."""
        while msgid not in self._answers:
            got = self._responses.receive()
            if got is None:
                raise ConnectionError("the server closed the connection")
            for response in got:
                assert response[1] not in self._answers, "answered twice"
                self._answers[response[1]] = response
        _, _, error, result = self._answers.pop(msgid)
        if error is not None:
            raise Refused(error)
        return result[0], result[1:]

    def call(self, method, options=None, payloads=()):
        return self.answer(self.send(method, options, payloads))[0]

    def append(self, thread, *payloads, **options):
        return self.call("append", {"thread": thread, **({} if payloads else {"segments": []}),
                                    **options}, payloads)

    def replay(self, thread=None, **options):
        if thread is not None:
            options["thread"] = thread
        return Replay(*self.answer(self.send("replay", options)))

    def stat(self, thread):
        return self.call("stat", {"thread": thread})

    def fork(self, thread, origin, **options):
        return self.call("fork", {"thread": thread, "from": origin, **options})

    def rewind(self, thread, to):
        return self.call("rewind", {"thread": thread, "to": to})

    def forget(self, thread):
        return self.call("forget", {"thread": thread})["forgotten"]

    def info(self):
        return self.call("info")

    def begin(self, thread, **options):
        return self.call("begin", {"thread": thread, **options})

    def chunk(self, thread, claim, *payloads):
        return self.call("chunk", {"thread": thread, "claim": claim}, payloads)

    def commit(self, thread, claim, *payloads, **options):
        return self.call("commit", {"thread": thread, "claim": claim, **options}, payloads)

    def abort(self, thread, claim):
        return self.call("abort", {"thread": thread, "claim": claim})


def golden():
    """One sound request per method, with every option that it has somewhere."""
    t, p = "golden", bytes(range(16))
    return {
        "hello": request(1, "hello", {"protocol": 1, "client": "c", "token": b"s"}),
        "ping": request(2, "ping"),
        "append": request(3, "append", {
            "thread": t, "response_id": "r", "tool_calls": ["c1", b"c2"], "model": "m",
            "turn": 0, "final": False, "tokens": 9, "prefix": p, "visible": p, "ttl_ms": 60000,
            "segments": ["text", "opaque"], "ack": "memory"}, [b"think", b"\xff\x00"]),
        "append-expect": request(4, "append", {"thread": "golden2", "key": "k"}, [b"once"]),
        "append-bare": request(5, "append", {"thread": "golden3", "segments": []}),
        "replay": request(6, "replay", {
            "thread": t, "policy": "all", "have": {"version": 1, "step": 0}, "last": 3,
            "max_bytes": 1000, "model": "m", "touch": False}),
        "replay-key": request(7, "replay", {"tool_call": "c1", "thread": t}),
        "replay-bound": request(15, "replay", {
            "prefix": [p, b"q" * 16], "prefixes": [[0, p]], "on_mismatch": "drop", "turn": 1,
            "policy": "last_turns", "turns": 2, "max_tokens": 99, "pin": True,
            "have": {"version": 1, "step": 0, "kept": [0]}}),
        "stat": request(8, "stat", {"thread": t}),
        "touch": request(9, "touch", {"threads": [t, b"\xff"], "ttl_ms": 60000}),
        "fork": request(10, "fork", {"thread": "golden4", "from": t, "at": 0}),
        "rewind": request(11, "rewind", {"thread": "golden2", "to": -1}),
        "forget": request(12, "forget", {"thread": "golden4"}),
        "list": request(13, "list", {"starts_with": "go", "limit": 5}),
        "info": request(14, "info"),
        "begin": request(16, "begin", {"thread": "golden5", "segment": "opaque"}),
        "chunk": request(17, "chunk", {"thread": "golden5", "claim": 1}, [b"a", b"b"]),
        "commit": request(18, "commit", {
            "thread": "golden5", "claim": 1, "key": "k", "turn": 1, "segments": ["text"],
            "visible": p}, [b"end"]),
        "abort": request(19, "abort", {"thread": "golden5", "claim": 1}),
    }
