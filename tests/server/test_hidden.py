"""Traces and thread ids never reach the log, error messages or info."""

import base64
import time
import unittest

import raw
import rethread
from harness import Server, ServerCase

PAYLOAD = b"CANARY-PAYLOAD-9d1f7c"
THREAD = b"CANARY-THREAD-5b20aa"
KEY = b"CANARY-KEY-77e3"
MARKS = (b"CANARY", PAYLOAD[7:], THREAD[7:], KEY[7:])


def shapes(mark):
    """The ways in which bytes might be printed."""
    return {mark, mark.hex().encode(), mark.hex().upper().encode(), base64.b64encode(mark)[:-4],
            " ".join(f"{b:02x}" for b in mark).encode(), "".join(f"\\x{b:02x}" for b in mark).encode()}


class Hidden(ServerCase):
    FLAGS = ("--log-level", "debug", "--memory", "16M", "--ttl", "300ms", "--frame-max", "1M",
             "--max-connections", "30")

    @classmethod
    def tearDownClass(cls):
        """The server is stopped here first, so that what it says at its end is searched too."""
        super().tearDownClass()
        cls.search(cls.server.log().encode())

    @classmethod
    def search(cls, said):
        for mark in MARKS:
            for shape in shapes(mark):
                assert shape not in said, f"{mark!r} was told as {shape!r}"

    def refused(self, code, call, *args, **kwargs):
        error = self.raises(rethread.ServerError, call, *args, **kwargs)
        self.assertEqual(error.code, code)
        self.search((error.message + repr(error.details)).encode())

    def test_errors(self):
        c = self.client
        c.append(THREAD, PAYLOAD, key=KEY, response_id=KEY, tool_calls=[KEY], turn=3,
                 ttl_ms=60000)
        self.refused("conflict", c.append, THREAD, PAYLOAD, expect=9)
        self.refused("conflict", c.append, THREAD, PAYLOAD + b"x", key=KEY)
        self.refused("bad_request", c.append, THREAD, PAYLOAD, turn=1)
        self.refused("bad_request", c.append, THREAD * 20, PAYLOAD)
        self.refused("bad_request", c.append, THREAD, [(PAYLOAD.decode(), PAYLOAD)])
        self.refused("bad_request", c.append, THREAD, PAYLOAD, key=KEY * 9)
        self.refused("bad_request", c.call, "append", {"thread": THREAD, "turn": PAYLOAD}, [b"x"])
        self.refused("bad_request", c.call, "append", {"thread": THREAD, "ack": THREAD.decode()},
                     [PAYLOAD])
        self.refused("bad_request", c.replay, THREAD, policy=THREAD.decode())
        self.refused("bad_request", c.list, cursor=THREAD)
        self.refused("not_found", c.fork, b"new", THREAD + b"?")
        self.refused("not_found", c.rewind, THREAD + b"?", 0)
        self.refused("conflict", c.fork, THREAD, THREAD)
        self.refused("unknown_method", c.call, THREAD.decode(), {})
        self.refused("too_large", self.connect().append, THREAD, PAYLOAD * 60000)
        self.assertEqual(c.touch([THREAD], ttl_ms=300).touched, 1)
        time.sleep(0.4)
        self.assertEqual(c.replay(THREAD).reason, "expired")
        for n in range(30):
            c.append(THREAD + b"%d" % n, PAYLOAD * 40000)
        c.forget(THREAD + b"1")

    def test_rude_connections(self):
        request = raw.request(1, "append", {"thread": THREAD}, [PAYLOAD])
        for said in (PAYLOAD * 9, THREAD, request[:-4], request[5:], request + PAYLOAD,
                     raw.frame(THREAD), raw.frame(request[5:-4]),
                     raw.request(1, THREAD.decode()), raw.request(1, "stat", {THREAD.decode(): 1}),
                     b"\xce\xff\xff\xff\xff" + PAYLOAD):
            with raw.connect(self.server) as sock:
                sock.sendall(said)
                sock.shutdown(1)
                for answer in raw.Responses(sock).all():
                    raw.check(answer)
                    # An option's or method's name may be quoted: it is no id and no payload.
                    if THREAD not in said or b"stat" not in said:
                        self.search(repr(answer[2]).encode() if answer[2] and
                                    answer[2][b"code"] != b"unknown_method" else b"")

    def test_streams_and_bindings(self):
        c = self.client
        t = THREAD + b"s"
        begun = c.call("begin", {"thread": t})[0]
        named = {"thread": t, "claim": begun["claim"]}
        c.call("chunk", named, [PAYLOAD, PAYLOAD])
        self.search(repr(c.info()).encode())
        self.search(repr(c.call("stat", {"thread": t})[0]).encode())
        stale = {"thread": t, "claim": begun["claim"] ^ 1}
        self.refused("conflict", c.call, "begin", {"thread": t})
        self.refused("conflict", c.call, "append", {"thread": t}, [PAYLOAD])
        self.refused("conflict", c.call, "chunk", stale, [PAYLOAD])
        self.refused("conflict", c.call, "commit", {**stale, "key": KEY}, [PAYLOAD])
        self.refused("conflict", c.call, "abort", stale)
        self.refused("conflict", c.call, "commit", {**named, "expect": 9}, [PAYLOAD])
        self.refused("bad_request", c.call, "commit", {**named, "visible": KEY}, [PAYLOAD])
        self.refused("bad_request", c.call, "commit", {**named, "segments": [PAYLOAD.decode()]},
                     [PAYLOAD])
        self.refused("bad_request", c.call, "chunk", {"thread": t, "claim": PAYLOAD}, [PAYLOAD])
        self.refused("bad_request", c.call, "begin", {"thread": t, "segment": PAYLOAD.decode()})
        self.refused("bad_request", c.call, "replay", {"thread": t, "policy": PAYLOAD.decode()})
        self.refused("bad_request", c.call, "replay", {"thread": t, "prefixes": [[0, PAYLOAD]]})
        self.refused("bad_request", c.call, "replay", {"prefix": [PAYLOAD]})
        self.refused("bad_request", c.call, "replay", {"thread": t, "have": {PAYLOAD: 1}})
        self.refused("bad_request", c.call, "replay", {"thread": t, "on_mismatch": THREAD.decode()})
        c.call("commit", {**named, "key": KEY, "model": KEY, "prefix": (KEY * 2)[:16]}, [PAYLOAD])
        self.refused("conflict", c.call, "commit", {**named, "key": KEY}, [PAYLOAD + b"x"])
        c.call("replay", {"thread": t, "policy": "auto", "model": THREAD, "pin": True})
        # Streams that are given up, that their thread ends under, and that find no room.
        for n in range(3):
            other = t + b"%d" % n
            named = {"thread": other, "claim": c.call("begin", {"thread": other})[0]["claim"]}
            c.call("chunk", named, [PAYLOAD * 1000])
            if n == 0:
                c.call("abort", named)
            elif n == 1:
                c.forget(other)
                self.refused("conflict", c.call, "commit", named)
        with self.assertRaises(rethread.ServerError) as caught:
            for _ in range(100):
                c.call("chunk", named, [PAYLOAD * 10000])
        self.search((caught.exception.message + repr(caught.exception.details)).encode())

    def test_info(self):
        self.client.append(THREAD + b"i", PAYLOAD, response_id=KEY + b"i", ttl_ms=5000)
        self.search(repr(self.client.info()).encode())

    def test_token_is_hidden_too(self):
        self.client.hello(client="c", token=KEY)
        self.refused("bad_request", self.client.call, "hello", {"token": KEY.decode() * 50})

    def test_log_is_logfmt(self):
        with Server("--log-level", "debug") as server:
            with rethread.Client(server.address) as client:
                client.ping()
            with raw.connect(server) as sock:
                sock.sendall(b"junk junk")
                raw.Responses(sock).all()
            server.stop()
            lines = server.log().splitlines()
        self.assertEqual(sum("ready on" in line for line in lines), 1)
        logged = [line for line in lines if not line.startswith("rethread-server: ready on ")]
        self.assertTrue(logged, "a lost framing is logged with its reason")
        for line in logged:
            self.assertRegex(line, r'^([a-z_]+=("([^"\\]|\\.)*"|[^ "=]*)( |$))+$')


if __name__ == "__main__":
    unittest.main()
