"""Bad requests that are sound frames: a typed error that names the option, nothing stored."""

import time
import unittest

import msgpack

import raw
import rethread
from harness import SANITIZED, ServerCase


class BadRequests(ServerCase):
    def test_unknown_options(self):
        needed = {"append": {"thread": "t"}, "replay": {"thread": "t"}, "stat": {"thread": "t"},
                  "touch": {"threads": []}, "fork": {"thread": "t", "from": "u"},
                  "rewind": {"thread": "t", "to": 0}, "forget": {"thread": "t"}}
        for method in ("hello", "ping", "append", "replay", "stat", "touch", "fork", "rewind",
                       "forget", "list", "info"):
            payloads = [b"x"] if method == "append" else []
            options = {**needed.get(method, {}), "surprise": 1}
            self.bad("surprise", method, options, payloads)
        self.assertEqual(self.client.replay("t").reason, "never_seen", "nothing was stored")

    def test_missing_options(self):
        for method, options, name in (
            ("append", {}, "thread"), ("stat", {}, "thread"), ("touch", {}, "threads"),
            ("fork", {"from": "u"}, "thread"), ("fork", {"thread": "t"}, "from"),
            ("rewind", {"thread": "t"}, "to"), ("rewind", {"to": 0}, "thread"),
            ("forget", {}, "thread"), ("replay", {}, "thread"),
        ):
            self.bad(name, method, options, [b"x"] if method == "append" else [])

    def test_ids(self):
        for name, method, options in (
            ("thread", "append", {}), ("thread", "replay", {}), ("thread", "stat", {}),
            ("thread", "forget", {}), ("from", "fork", {"thread": "t"}),
            ("thread", "fork", {"from": "t"}), ("thread", "rewind", {"to": 0}),
            ("response_id", "append", {"thread": "t"}), ("response_id", "replay", {}),
            ("tool_call", "replay", {}),
        ):
            for wrong in (b"", b"x" * 256, 7, 1.5, True, [], {}, ["x"]):
                payloads = [b"x"] if method == "append" else []
                self.bad(name, method, {**options, name: wrong}, payloads)
        for wrong in (b"", b"x" * 256, 7, None):
            self.bad("threads", "touch", {"threads": ["ok", wrong]})
            self.bad("tool_calls", "append", {"thread": "t", "tool_calls": ["ok", wrong]}, [b"x"])

    def test_values(self):
        t = self.new()
        for name, values in {
            "expect": (-1, 1 << 64 - 1, "1", 1.0, True, []), "key": (b"", b"k" * 65, 1),
            "turn": (-1, "0", False), "final": (0, 1, "true"), "tokens": (-1, "5"),
            "prefix": (b"", bytes(15), bytes(17), 5), "ttl_ms": (0, -1, "5m", 1 << 62),
            "retention_ms": (-1, "1d"), "tool_calls": ("id", b"id", {"a": 1}, 5),
            "segments": ("text", ["text", "text"], [], ["video"], [1], [None], {}),
            "ack": ("never", 1, True, b""), "model": (5, []),
        }.items():
            for value in values:
                self.bad(name, "append", {"thread": t, name: value}, [b"x"])
        for name, values in {
            "policy": ("some", 1), "last": (0, -1, "2"), "max_bytes": (-1, "1K", None),
            "touch": (0, "yes"), "model": (5,),
            "have": (1, [], {"version": 1}, {"step": 0}, {"version": -1, "step": 0},
                     {"version": 1, "step": -2}, {"version": "1", "step": 0}),
        }.items():
            for value in values:
                if value is not None:
                    self.bad(name, "replay", {"thread": t, name: value})
        for value in (-2, "0", 1.0, True):
            self.bad("to", "rewind", {"thread": t, "to": value})
        for value in (0, -1, "9", 1 << 40):
            self.bad("limit", "list", {"limit": value})
        self.bad("cursor", "list", {"cursor": 5})
        self.bad("protocol", "hello", {"protocol": 2})
        self.bad("protocol", "hello", {"protocol": "1"})
        self.bad("ttl_ms", "touch", {"threads": [], "ttl_ms": 0})
        self.assertEqual(self.client.replay(t).reason, "never_seen", "nothing was stored")

    def test_payloads(self):
        t = self.new()
        for options, payloads in (
            ({}, []), ({}, [b""]), ({}, [b"x", b""]), ({}, [b"x"] * 65),
            ({"segments": ["text"]}, []), ({"segments": ["text"] * 65}, [b"x"] * 65),
            ({"segments": ["text"]}, [b"x", b"y"]),
        ):
            self.bad((), "append", {"thread": t, **options}, payloads)
        with self.connect() as client:
            for method in ("ping", "stat", "replay", "forget"):
                options = {} if method == "ping" else {"thread": t}
                self.raises(rethread.BadRequest, client.call, method, options, [b"unasked"])
        self.assertEqual(self.client.replay(t).reason, "never_seen", "nothing was stored")

    def test_payload_of_another_type(self):
        sock = raw.connect(self.server)
        self.addCleanup(sock.close)
        responses = raw.Responses(sock)
        for wrong in ("text", 5, None, [], {}, True):
            sock.sendall(raw.request(9, "append", {"thread": "t"}, [wrong]))
            answer = responses.receive()[0]
            self.assertEqual((raw.check(answer), answer[1]), (b"bad_request", 9))
        sock.sendall(raw.request(10, "ping"))
        self.assertIsNone(raw.check(responses.receive()[0]))

    def test_combinations(self):
        t = self.new()
        self.client.append(t, b"0", turn=4)
        self.bad("turn", "append", {"thread": t, "turn": 3}, [b"x"])
        self.bad("at", "fork", {"thread": self.new(), "from": t, "at": 1})
        self.bad("to", "rewind", {"thread": t, "to": 1})
        self.bad((), "replay", {"response_id": "a", "tool_call": "b"})
        self.bad((), "replay", {"response_id": "a", "prefix": bytes(16)})
        self.assertEqual(self.client.replay(t).version, 1)

    def test_no_disk_tier_yet(self):
        t = self.new()
        self.bad("ack", "append", {"thread": t, "ack": "disk"}, [b"x"])
        self.bad("ack", "append", {"thread": t, "ack": "disk", "retention_ms": 0}, [b"x"])
        self.assertEqual(self.client.replay(t).reason, "never_seen")
        self.client.append(t, b"x", ack="memory")

    def test_non_utf8(self):
        # A str that is no UTF-8 is still an id: ids are compared as bytes.
        sock = raw.connect(self.server)
        self.addCleanup(sock.close)
        responses = raw.Responses(sock)
        body = b"\x94\x00\x07\xa6append\x92\x81\xa6thread\xa3\xff\xfe\x80\xc4\x01x"
        sock.sendall(raw.frame(body))
        self.assertIsNone(raw.check(responses.receive()[0]))
        self.assertTrue(self.client.replay(b"\xff\xfe\x80").complete)
        # A method or an option's name that is none: a typed error, quoted in no harmful way.
        for body, code in (
            (b"\x94\x00\x07\xa3\xff\xfe\x80\x91\x80", b"unknown_method"),
            (b"\x94\x00\x07\xa4ping\x91\x81\xa3\xff\xfe\x80\x01", b"bad_request"),
        ):
            sock.sendall(raw.frame(body))
            answer = responses.receive()[0]
            self.assertEqual(raw.check(answer), code)
            answer[2][b"message"].decode("utf-8")


class OtherCodes(ServerCase):
    def test_unknown_method(self):
        for method in ("frobnicate", "", "APPEND", "append ", "x" * 5000):
            self.bad((), method, {}, code="unknown_method")

    def test_not_found(self):
        error = self.raises(rethread.NotFound, self.client.fork, self.new(), self.new())
        self.assertEqual(error.reason, "never_seen")
        error = self.raises(rethread.NotFound, self.client.rewind, self.new(), 0)
        self.assertEqual(error.reason, "never_seen")
        t = self.new()
        self.client.append(t, b"x")
        self.client.forget(t)
        self.assertEqual(self.raises(rethread.NotFound, self.client.rewind, t, 0).reason,
                         "forgotten")

    def test_conflict_exists(self):
        a, b = self.new(), self.new()
        for t in (a, b):
            self.client.append(t, t)
        for source in (a, b):
            error = self.raises(rethread.Conflict, self.client.fork, b, source)
            self.assertEqual((error.cause, error.version), ("exists", 1))
        self.assertEqual(self.client.replay(b).steps[0].segments[0].data, b)

    def test_conflict_version_and_key(self):
        t = self.new()
        self.client.append(t, b"x", key="k")
        error = self.raises(rethread.Conflict, self.client.append, t, b"y", expect=2)
        self.assertEqual((error.cause, error.version), ("version", 1))
        error = self.raises(rethread.Conflict, self.client.append, t, b"y", key="k")
        self.assertEqual((error.cause, error.version), ("key", 1))

    def test_too_large(self):
        sock = raw.connect(self.server)
        self.addCleanup(sock.close)
        sock.sendall(b"\xce\x04\x00\x00\x01")
        answers = raw.Responses(sock).all()
        self.assertEqual([(raw.check(a), a[1]) for a in answers], [(b"too_large", None)])


class SmallMemory(ServerCase):
    """With 16 MiB of memory most of what frame_max allows can never be received whole."""

    FLAGS = ("--memory", "16M")

    def test_over_budget(self):
        kept = self.new()
        self.client.append(kept, b"kept", ttl_ms=60000)
        for size in (3 << 20, 17 << 20, 40 << 20):
            t, start = self.new(), time.monotonic()
            self.raises(rethread.OverBudget, self.client.append, t, bytes(size))
            self.assertLess(time.monotonic() - start, 10)
            # On the same connection, which goes on.
            self.assertEqual(self.client.replay(t).reason, "never_seen", "nothing was stored")
        self.assertTrue(self.client.replay(kept).complete, "others were not evicted for it")
        self.assertLess(self.client.info()["memory"]["used_bytes"], 16 << 20)


@unittest.skipIf(SANITIZED, "a million steps take a sanitized server too long")
class OverBudget(ServerCase):
    """Another limit with the same code: the number of steps that one thread may have."""

    STEPS = 1 << 20
    BATCH = 1 << 14

    def test_over_budget(self):
        t, sock = self.new(), raw.connect(self.server)
        self.addCleanup(sock.close)
        blob = raw.request(1, "append", {"thread": t, "segments": []}) * self.BATCH
        unpacker = msgpack.Unpacker()
        for _ in range(self.STEPS // self.BATCH):
            sock.sendall(blob)
            items = 0  # a length and a response for each request
            while items < 2 * self.BATCH:
                unpacker.feed(sock.recv(1 << 20))
                try:
                    while True:
                        unpacker.skip()
                        items += 1
                except msgpack.OutOfData:
                    pass
        self.assertEqual(self.client.stat(t).step_count, self.STEPS)
        self.raises(rethread.OverBudget, self.client.append, t, b"one more")
        self.assertEqual(self.client.stat(t).step_count, self.STEPS)
        self.client.rewind(t, 9)
        self.assertEqual(self.client.append(t, b"again").step, 10)


if __name__ == "__main__":
    unittest.main()
