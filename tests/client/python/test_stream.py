"""Streamed appends of both Python clients, against a scripted server that keeps drafts."""

import asyncio
import functools
import time
import unittest

import rethread
from fake_server import FakeServer, echo, error, ok
from rethread import requests, results
from rethread.errors import ProtocolError

CLAIM = (1 << 63) - 1


def stubborn(test):
    """A claim is lost, too, where the machine stands still for most of its time: then once more.
    A client that does not keep it loses it every time."""
    @functools.wraps(test)
    async def tried(self):
        for last in (False, False, False, True):
            try:
                return await test(self)
            except rethread.Conflict as lost:
                if last or lost.cause != "claimed":
                    raise
    return tried


class Drafts:
    """As much of a server as a stream needs: one thread, one claim, and what became of it."""

    def __init__(self, claim_ms=60000, lasts_ms=None):
        self.claim_ms = claim_ms  # what it says
        self.lasts_ms = claim_ms if lasts_ms is None else lasts_ms
        self.claimed = False
        self.deadline = 0.0
        self.streamed = b""
        self.chunks = []
        self.ended = []  # ("commit", bytes, options, payloads) or ("abort",)
        self.refuse = None  # a method that is answered busy

    def __call__(self, server, connection, request):
        msgid, method, options, payloads = request
        if self.claimed and time.monotonic() > self.deadline:
            self.claimed = False
        stale = method != "begin" and (not self.claimed or options.get("claim") != CLAIM)
        if method not in ("begin", "chunk", "commit", "abort"):
            echo(server, connection, request)
        elif method == self.refuse:
            connection.sendall(error(msgid, "busy"))
        elif stale or (method == "begin" and self.claimed):
            connection.sendall(error(msgid, "conflict", version=4, cause="claimed"))
        else:
            connection.sendall(ok(msgid, getattr(self, method)(options, payloads)))

    def renew(self):
        self.deadline = time.monotonic() + self.lasts_ms / 1000

    def begin(self, options, _payloads):
        self.claimed, self.streamed = True, b""
        self.renew()
        return {"thread": b"t", "step": 4, "version": 4, "claim": CLAIM,
                "claim_expires_in_ms": self.claim_ms}

    def chunk(self, _options, payloads):
        self.renew()
        self.streamed += b"".join(payloads)
        self.chunks.append(b"".join(payloads))
        return {"bytes": len(self.streamed), "claim_expires_in_ms": self.claim_ms}

    def commit(self, options, payloads):
        self.claimed = False
        self.ended.append(("commit", self.streamed, options, payloads))
        return {"thread": b"t", "step": 4, "version": 5, "created": False, "duplicate": False,
                "lost": 0, "expires_in_ms": 300000}

    def abort(self, _options, _payloads):
        self.claimed = False
        self.ended.append(("abort",))
        return {"aborted": True}


class Requests(unittest.TestCase):
    def test_streaming(self):
        self.assertEqual(requests.begin("t").options, {"thread": "t"})
        self.assertEqual(requests.begin("t", segment="tokens").options,
                         {"thread": "t", "segment": "tokens"})
        chunk = requests.chunk("t", CLAIM, b"one")
        self.assertEqual((chunk.options, chunk.payloads),
                         ({"thread": "t", "claim": CLAIM}, (b"one",)))
        self.assertEqual(requests.chunk("t", 1, [b"a", b"b"]).payloads, (b"a", b"b"))
        self.assertEqual(requests.chunk("t", 1).payloads, ())
        self.assertEqual(requests.abort("t", 1).options, {"thread": "t", "claim": 1})
        everything = dict(expect=0, key="k", response_id="r", tool_calls=["c"], model="m", turn=0,
                          final=False, tokens=3, prefix=bytes(16), visible=bytes(16), ttl_ms=1,
                          retention_ms=0, ack="disk")
        commit = requests.commit("t", 7, [("opaque", b"sig")], **everything)
        self.assertEqual(commit.options,
                         {"thread": "t", "claim": 7, "segments": ["opaque"], **everything})
        self.assertEqual(commit.payloads, [b"sig"])
        self.assertEqual(requests.commit("t", 7, b"more").options, {"thread": "t", "claim": 7})
        self.assertEqual(requests.commit("t", 7).options, {"thread": "t", "claim": 7})
        self.assertEqual(requests.commit("t", 7, bare=True).options["segments"], [])
        self.assertRaises(ValueError, requests.commit, "t", 7, b"x", bare=True)

    def test_replay(self):
        got = requests.replay(
            "t", prefix=(bytes(16), b"\1" * 16), policy="last_turns", turn=0, turns=2,
            prefixes={3: b"\3" * 16, 1: b"\1" * 16}, on_mismatch="fail", have=(4, 3, range(2, 4)),
            max_bytes=0, max_tokens=0, model="m", pin=False, touch=False).options
        self.assertEqual(got, {
            "thread": "t", "prefix": [bytes(16), b"\1" * 16], "policy": "last_turns", "turn": 0,
            "turns": 2, "prefixes": [[1, b"\1" * 16], [3, b"\3" * 16]], "on_mismatch": "fail",
            "have": {"version": 4, "step": 3, "kept": [2, 3]}, "max_bytes": 0, "max_tokens": 0,
            "model": "m", "pin": False, "touch": False})
        self.assertEqual(requests.replay(prefix=bytes(16)).options, {"prefix": bytes(16)})
        self.assertEqual(requests.replay("t", have=(4, -1)).options["have"],
                         {"version": 4, "step": -1})
        self.assertEqual(requests.replay("t", have=(4, -1, [])).options["have"]["kept"], [])
        self.assertEqual(requests.replay("t", prefixes=[(2, b"p")]).options["prefixes"],
                         [[2, b"p"]])


class Results(unittest.TestCase):
    def test_streaming(self):
        begin = {"thread": b"t", "step": 4, "version": 6, "claim": CLAIM,
                 "claim_expires_in_ms": 5, "later": 1}
        got = results.begin(begin, [])
        self.assertEqual((got.step, got.version, got.claim, got.extra), (4, 6, CLAIM, {"later": 1}))
        got = results.chunk({"bytes": 3, "claim_expires_in_ms": 5}, [])
        self.assertEqual((got.bytes, got.claim_expires_in_ms), (3, 5))
        self.assertTrue(results.abort({"aborted": True}, []).aborted)
        for decode, broken in ((results.begin, {**begin, "claim": "1"}), (results.chunk, {}),
                               (results.commit, {"step": 1}), (results.abort, {"aborted": 1})):
            self.assertRaises(ProtocolError, decode, broken, [])

    def test_replay_and_stat(self):
        replay = {"status": "complete", "steps": [
            {"step": 2, "segments": [], "visible": b"hash"}, {"step": 3, "segments": []}]}
        got = results.replay(replay, [])
        self.assertEqual((got.found, got.in_flight, got.kept_from, got.dropped, got.extends),
                         (None, False, None, None, None))
        self.assertEqual([step.visible for step in got.steps], [b"hash", None])
        got = results.replay({**replay, "found": 1, "in_flight": True, "kept_from": 2,
                              "dropped": 0, "extends": False}, [])
        self.assertEqual((got.found, got.in_flight, got.kept_from, got.dropped, got.extends),
                         (1, True, 2, 0, False))
        self.assertRaises(ProtocolError, results.replay, {**replay, "extends": 1}, [])
        stat = results.stat({"status": "complete"}, [])
        self.assertEqual((stat.in_flight, stat.floor), (False, None))
        stat = results.stat({"status": "complete", "in_flight": True, "floor": 3}, [])
        self.assertEqual((stat.in_flight, stat.floor), (True, 3))


class Streams(unittest.TestCase):
    def test_methods(self):
        drafts = Drafts()
        with FakeServer(drafts) as server, rethread.Client(server.address) as c:
            claim = c.begin("t", segment="opaque").claim
            self.assertEqual(c.chunk("t", claim, [b"a", b"b"]).bytes, 2)
            with c.pipeline() as pipe:
                more, done = pipe.chunk("t", claim, b"c"), pipe.commit("t", claim, turn=3)
            self.assertEqual((more.result().bytes, done.result().version), (3, 5))
            self.assertEqual(drafts.ended, [
                ("commit", b"abc", {"thread": "t", "claim": claim, "turn": 3}, [])])
            with self.assertRaises(rethread.Conflict) as caught:
                c.abort("t", claim)
            self.assertEqual(caught.exception.cause, "claimed")

    def test_with_block(self):
        drafts = Drafts()
        with FakeServer(drafts) as server, rethread.Client(server.address) as c:
            with c.stream("t", segment="text", chunk_bytes=4) as stream:
                self.assertEqual((stream.step, stream.claim), (4, CLAIM))
                for piece in (b"ab", bytearray(b"cde"), memoryview(b"f")):
                    stream.write(piece)
                self.assertEqual(drafts.chunks, [b"abcde"])
                stream.flush()
                done = stream.commit([("opaque", b"sig")], model="m", tool_calls=["c"])
            self.assertEqual(done.version, 5)
            self.assertEqual(drafts.chunks, [b"abcde", b"f"])
            self.assertEqual(drafts.ended, [("commit", b"abcdef", {
                "thread": "t", "claim": CLAIM, "model": "m", "tool_calls": ["c"],
                "segments": ["opaque"]}, [b"sig"])])
            self.assertEqual(server.requests[0][2], {"thread": "t", "segment": "text"})
            for call in (lambda: stream.write(b"x"), stream.flush, stream.commit, stream.abort):
                self.assertRaises(ValueError, call)
            self.assertRaises(ValueError, stream.__enter__)
            self.assertRaises(ValueError, c.stream("t").write, b"x")

    def test_what_is_not_committed_is_aborted(self):
        drafts = Drafts()
        with FakeServer(drafts) as server, rethread.Client(server.address) as c:
            with self.assertRaises(ZeroDivisionError):
                with c.stream("t") as stream:
                    stream.write(b"x")
                    1 / 0
            with c.stream("t") as stream:
                stream.write(b"x")
            with c.stream("t") as stream:
                stream.abort()
            self.assertEqual(drafts.ended, [("abort",)] * 3)

    def test_a_failed_commit_is_aborted(self):
        drafts = Drafts()
        with FakeServer(drafts) as server, rethread.Client(server.address) as c:
            drafts.refuse = "commit"
            with self.assertRaises(rethread.Busy):
                with c.stream("t") as stream:
                    stream.write(b"x")
                    stream.commit()
            self.assertEqual(drafts.ended, [("abort",)])

    def test_a_lost_claim(self):
        drafts = Drafts(claim_ms=30)
        with FakeServer(drafts) as server, rethread.Client(server.address) as c:
            with self.assertRaises(rethread.Conflict):
                with c.stream("t", chunk_bytes=1) as stream:
                    time.sleep(0.1)
                    stream.write(b"too late")
            with self.assertRaises(KeyError):  # not what the abort meets
                with c.stream("t") as stream:
                    time.sleep(0.1)
                    raise KeyError
            self.assertEqual(drafts.ended, [])

    def test_writing_keeps_the_claim(self):
        drafts = Drafts(claim_ms=3000, lasts_ms=60000)
        with FakeServer(drafts) as server, rethread.Client(server.address) as c:
            start = time.monotonic()
            with c.stream("t") as stream:
                for _ in range(42):
                    time.sleep(0.1)
                    stream.write(b".")
                # Once a second, a third of the claim, and no more often.
                self.assertTrue(3 <= len(drafts.chunks) <= time.monotonic() - start, drafts.chunks)
                stream.commit()
            self.assertEqual(drafts.ended[0][1], b"." * 42)


class AsyncStreams(unittest.IsolatedAsyncioTestCase):
    async def test_with_block(self):
        drafts = Drafts()
        with FakeServer(drafts) as server:
            async with rethread.AsyncClient(server.address) as c:
                async with c.stream("t", chunk_bytes=4) as stream:
                    for piece in (b"ab", b"cde", b"f"):
                        await stream.write(piece)
                    self.assertEqual(drafts.chunks, [b"abcde"])
                    done = await stream.commit(b"more", turn=2)
                self.assertEqual((done.version, stream.step), (5, 4))
                self.assertEqual(drafts.ended, [("commit", b"abcdef", {
                    "thread": "t", "claim": CLAIM, "turn": 2}, [b"more"])])
                for call in (stream.write(b"x"), stream.flush(), stream.commit(), stream.abort()):
                    with self.assertRaises(ValueError):
                        await call

    async def test_what_is_not_committed_is_aborted(self):
        drafts = Drafts()
        with FakeServer(drafts) as server:
            async with rethread.AsyncClient(server.address) as c:
                with self.assertRaises(ZeroDivisionError):
                    async with c.stream("t") as stream:
                        1 / 0
                async with c.stream("t") as stream:
                    await stream.write(b"x")

                async def waits():
                    async with c.stream("t"):
                        await asyncio.sleep(60)
                task = asyncio.create_task(waits())
                while not drafts.claimed:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.05)  # the answer to begin has come
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.assertEqual(drafts.ended, [("abort",)] * 3)

    @stubborn
    async def test_silence_keeps_the_claim(self):
        drafts = Drafts(claim_ms=3000)
        with FakeServer(drafts) as server:
            async with rethread.AsyncClient(server.address) as c:
                async with c.stream("t") as stream:
                    await stream.write(b"a")
                    await asyncio.sleep(4)
                    await stream.write(b"b")
                    await stream.commit()
                self.assertEqual(drafts.ended[0][1], b"ab")
                self.assertEqual(drafts.chunks[0], b"a")  # not held back for more

    async def test_a_lost_claim(self):
        drafts = Drafts(claim_ms=90)
        with FakeServer(drafts) as server:
            async with rethread.AsyncClient(server.address) as c:
                with self.assertRaises(rethread.Conflict):
                    async with c.stream("t") as stream:
                        drafts.claimed = False
                        await asyncio.sleep(0.2)
                        await stream.write(b"x")
                        await stream.commit()
                self.assertEqual(drafts.ended, [])


if __name__ == "__main__":
    unittest.main()
