"""Both Python clients against a real server: what the scripted one cannot judge.

RETHREAD_SERVER: the program (default build/rethread-server).
"""

import asyncio
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "server"))

import rethread
from harness import Server
from test_stream import stubborn

HASH = [bytes([i]) * 16 for i in range(8)]


class Live(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server("--claim-timeout", "3s"))

    def test_a_stream(self):
        # A server of its own: this one's claims end with the stream.
        address = self.enterContext(Server()).address
        with rethread.Client(address) as c, rethread.Client(address) as other:
            with c.stream("sync", chunk_bytes=8) as stream:
                for _ in range(100):
                    stream.write(b"thought ")
                self.assertTrue(other.replay("sync").in_flight)
                self.assertTrue(other.stat("sync").in_flight)
                with self.assertRaises(rethread.Conflict) as caught:
                    other.append("sync", b"x")
                self.assertEqual(caught.exception.cause, "claimed")
                done = stream.commit([("opaque", b"sig")], visible=HASH[1], tool_calls=["live"])
            self.assertEqual((done.step, done.version, done.created), (0, 1, True))
            step, = other.replay("sync").steps
            self.assertEqual([(s.kind, s.data) for s in step.segments],
                             [("text", b"thought " * 100), ("opaque", b"sig")])
            self.assertEqual((step.visible, step.final), (HASH[1], False))
            with self.assertRaises(KeyError):
                with c.stream("sync", segment="tokens") as stream:
                    stream.write(b"\1\0\0\0")
                    stream.flush()
                    raise KeyError
            self.assertFalse(other.stat("sync").in_flight)
            with c.stream("sync") as stream:
                stream.commit(bare=True)
            self.assertEqual(other.replay("sync").steps[1].segments, ())

    @stubborn
    async def test_an_async_stream(self):
        t = os.urandom(8)  # each time another
        async with rethread.AsyncClient(self.server.address) as c:
            async with c.stream(t, segment="opaque") as stream:
                await stream.write(b"one ")
                await asyncio.sleep(4)  # longer than the claim lasts
                await stream.write(b"two")
                await stream.commit(b"text")
            step, = (await c.replay(t)).steps
            self.assertEqual([(s.kind, s.data) for s in step.segments],
                             [("opaque", b"one two"), ("text", b"text")])
            with self.assertRaises(KeyError):
                async with c.stream(t) as stream:
                    await stream.write(b"x")
                    raise KeyError
            self.assertEqual((await c.append(t, b"next")).step, 1)

    def test_replay(self):
        with rethread.Client(self.server.address) as c:
            for i in range(4):
                c.append("t", b"%d" % i, turn=i // 2, model="qwen3-8b", tokens=10, prefix=HASH[i])
            kept = lambda **options: [s.step for s in c.replay("t", **options).steps if not s.missing]
            self.assertEqual(kept(policy="current_turn"), [2, 3])
            self.assertEqual(kept(policy="current_turn", turn=2), [])
            self.assertEqual(kept(policy="last_turns", turns=2), [0, 1, 2, 3])
            self.assertEqual(kept(policy="auto", model="qwen3-8b"), [2, 3])
            self.assertEqual(kept(max_tokens=10), [3])
            self.assertEqual(kept(prefixes={1: HASH[1], 2: HASH[7]}), [0, 1])
            miss = c.replay("t", prefixes=[(0, HASH[7])], on_mismatch="fail")
            self.assertEqual((miss.status, miss.reason), ("miss", "prefix_mismatch"))
            found = c.replay("t", prefix=[HASH[7], HASH[1]])
            self.assertEqual((found.found, len(found.steps)), (1, 2))
            self.assertTrue(c.replay("t", have=(4, 3, range(4))).extends)
            got = c.replay("t", have=(4, 3, range(4)), policy="current_turn", pin=True)
            self.assertEqual((got.extends, got.first_changed, got.kept_from, got.dropped),
                             (False, 0, 2, 2))
            self.assertEqual(c.stat("t").floor, 2)


if __name__ == "__main__":
    unittest.main()
