"""Streams that do not go as planned: what was refused, what nobody knows the end of, cancellation.

A step that was streamed is committed whole or not at all; see stream.py.
"""

import asyncio
import threading
import time
import unittest
import unittest.mock

import rethread
from fake_server import FakeServer
from rethread.errors import TransportError
from test_stream import CLAIM, Drafts, stubborn


class Faulty(Drafts):
    """Drafts, where one request meets with something else: `faults` are taken in order."""

    def __init__(self, *faults, **kwargs):
        super().__init__(**kwargs)
        self.faults = list(faults)  # (method, "silence" | "hang up")
        self.seen = []

    def __call__(self, server, connection, request):
        self.seen.append(request[1])
        if self.faults and self.faults[0][0] == request[1]:
            if self.faults.pop(0)[1] == "hang up":
                connection.shutdown(2)
        else:
            super().__call__(server, connection, request)

    def committed(self):
        return [ended[1] for ended in self.ended if ended[0] == "commit"]


class Streams(unittest.TestCase):
    def test_a_refused_chunk_is_sent_again(self):
        drafts = Drafts()
        with FakeServer(drafts) as server, rethread.Client(server.address) as c:
            with c.stream("t", chunk_bytes=3) as stream:
                drafts.refuse = "chunk"
                with self.assertRaises(rethread.Busy):
                    stream.write(b"one")
                drafts.refuse = None
                stream.write(b"two")
                stream.commit()
            self.assertEqual(drafts.ended[0][1], b"onetwo")

    def test_a_commit_is_not_sent_without_what_was_written(self):
        drafts = Drafts()
        with FakeServer(drafts) as server, rethread.Client(server.address) as c:
            with c.stream("t") as stream:
                stream.write(b"one")
                drafts.refuse = "chunk"
                with self.assertRaises(rethread.Busy):
                    stream.commit()
                drafts.refuse = None
                stream.commit()
            self.assertEqual(drafts.ended, [("commit", b"one", {"thread": "t", "claim": CLAIM}, [])])

    def test_a_chunk_that_nobody_knows_of_ends_the_stream(self):
        for fault, expected in (("silence", rethread.RequestTimeout), ("hang up", rethread.ConnectionLost)):
            with self.subTest(fault):
                drafts = Faulty(("chunk", fault))
                with FakeServer(drafts) as server, rethread.Client(server.address) as c:
                    with c.stream("t") as stream:
                        stream.write(b"lost?")
                        patience = c.request_timeout
                        if fault == "silence":
                            c.request_timeout = 0.3
                        self.assertRaises(expected, stream.flush)
                        c.request_timeout = patience
                        for call in (lambda: stream.write(b"x"), stream.flush, stream.commit):
                            self.assertRaises(TransportError, call)
                    self.assertEqual((drafts.ended, drafts.chunks), ([("abort",)], []))

    def test_a_sign_of_life_that_is_lost_loses_nothing(self):
        drafts = Faulty(("chunk", "hang up"))
        with FakeServer(drafts) as server, rethread.Client(server.address) as c:
            with c.stream("t") as stream:
                self.assertRaises(rethread.ConnectionLost, stream.flush)
                stream.write(b"x")
                stream.commit()
            self.assertEqual(drafts.committed(), [b"x"])

    def test_a_commit_may_be_said_again(self):
        drafts = Faulty(("commit", "hang up"))
        with FakeServer(drafts) as server, rethread.Client(server.address) as c:
            with c.stream("t") as stream:
                stream.write(b"x")
                with self.assertRaises(rethread.ConnectionLost):
                    stream.commit(key="k")
                stream.commit(key="k")
            self.assertEqual(drafts.committed(), [b"x"])


    def test_the_version_that_was_begun_on(self):
        with FakeServer(Drafts()) as server, rethread.Client(server.address) as c:
            with c.stream("t") as stream:
                self.assertEqual(stream.version, 4)
            self.assertRaises(ValueError, lambda: c.stream("t").version)


class AsyncStreams(unittest.IsolatedAsyncioTestCase):
    async def test_a_refused_chunk_is_sent_again(self):
        drafts = Drafts()
        with FakeServer(drafts) as server:
            async with rethread.AsyncClient(server.address) as c:
                async with c.stream("t", chunk_bytes=3) as stream:
                    drafts.refuse = "chunk"
                    with self.assertRaises(rethread.Busy):
                        await stream.write(b"one")
                    drafts.refuse = None
                    await stream.write(b"two")
                    await stream.commit()
            self.assertEqual(drafts.ended[0][1], b"onetwo")

    @stubborn
    async def test_the_keeper_outlives_a_busy_server_and_loses_nothing(self):
        drafts = Faulty(claim_ms=4500)
        with FakeServer(drafts) as server:
            async with rethread.AsyncClient(server.address) as c:
                async with c.stream("t") as stream:
                    await stream.write(b"one")
                    drafts.refuse = "chunk"
                    await asyncio.sleep(2.0)  # one sign of life is refused
                    drafts.refuse = None
                    await asyncio.sleep(5.0)  # longer than the claim lasts
                    await stream.write(b"two")
                    await stream.commit()
            self.assertEqual(drafts.committed(), [b"onetwo"])

    async def test_what_the_keeper_lost_is_no_secret(self):
        drafts = Faulty(("chunk", "hang up"), claim_ms=6000, lasts_ms=60000)
        with FakeServer(drafts) as server:
            async with rethread.AsyncClient(server.address) as c:
                async with c.stream("t") as stream:
                    await stream.write(b"one")
                    while drafts.faults:
                        await asyncio.sleep(0.02)
                    await asyncio.sleep(0.1)
                    with self.assertRaises(TransportError):
                        await stream.write(b"two")
                    with self.assertRaises(TransportError):
                        await stream.commit()
            self.assertEqual(drafts.ended, [("abort",)])

    @unittest.mock.patch("rethread.stream.GIVE_BACK_S", 60)  # however late the answer is
    async def test_a_cancelled_begin_gives_the_claim_back(self):
        drafts, answer = Drafts(), threading.Event()

        def late(server, connection, request):
            if request[1] == "begin":
                answer.wait(60)
            drafts(server, connection, request)

        with FakeServer(late) as server:
            async with rethread.AsyncClient(server.address) as c:
                async def begins():
                    async with c.stream("t"):
                        self.fail("the block was entered")
                task = asyncio.create_task(begins())
                while not any(r[1] == "begin" for r in server.requests):
                    await asyncio.sleep(0.01)
                task.cancel()
                await asyncio.sleep(0.05)
                answer.set()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.assertEqual((drafts.ended, drafts.claimed), ([("abort",)], False))
                await c.ping()
                self.assertEqual(server.connections, 1)

    async def test_a_cancelled_begin_does_not_wait_for_ever(self):
        with FakeServer(lambda *_: None) as server:
            async with rethread.AsyncClient(server.address) as c:
                async def begins():
                    async with c.stream("t"):
                        pass
                task = asyncio.create_task(begins())
                while not server.requests:
                    await asyncio.sleep(0.01)
                start = time.monotonic()
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.assertLess(time.monotonic() - start, 25)  # an answer is waited for 30 s

    async def test_a_cancelled_write_aborts_and_leaves_the_connection(self):
        drafts = Faulty(("chunk", "silence"))
        with FakeServer(drafts) as server:
            async with rethread.AsyncClient(server.address) as c:
                async def writes():
                    async with c.stream("t", chunk_bytes=1) as stream:
                        await stream.write(b"x")
                task = asyncio.create_task(writes())
                while "chunk" not in drafts.seen:
                    await asyncio.sleep(0.01)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.assertEqual(drafts.ended, [("abort",)])
                await c.ping()
                self.assertEqual(server.connections, 1)

    async def test_a_cancelled_write_cannot_be_committed(self):
        drafts = Faulty(("chunk", "silence"))
        with FakeServer(drafts) as server:
            async with rethread.AsyncClient(server.address) as c:
                async with c.stream("t", chunk_bytes=1) as stream:
                    with self.assertRaises(TimeoutError):
                        await asyncio.wait_for(stream.write(b"x"), 0.1)
                    with self.assertRaises(TransportError):
                        await stream.commit()
                self.assertEqual(drafts.ended, [("abort",)])


class Tokens(unittest.TestCase):
    def test_ids_to_bytes_and_back(self):
        ids = [0, 1, 151643, (1 << 32) - 1]
        segment = rethread.Segment.of_tokens(iter(ids))
        self.assertEqual((segment.kind, segment.data[4:8]), ("tokens", b"\1\0\0\0"))
        self.assertEqual(segment.token_ids, ids)
        self.assertEqual(rethread.Segment.of_tokens([]).token_ids, [])

    def test_what_is_none(self):
        for ids in ([-1], [1 << 32]):
            self.assertRaises(ValueError, rethread.Segment.of_tokens, ids)
        for kind, data in (("text", b"abcd"), ("tokens", b"abc")):
            with self.assertRaises(ValueError):
                rethread.Segment(kind, data).token_ids


if __name__ == "__main__":
    unittest.main()
