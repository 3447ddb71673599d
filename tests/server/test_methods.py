"""Every method, option and result field, as the contract's table has them."""

import asyncio
import time
import unittest

import rethread
from harness import SANITIZED, ServerCase


class Methods(ServerCase):
    def test_hello(self):
        for options in ({}, {"protocol": 1}, {"client": "worker/1"}, {"token": b"secret"}):
            result, payloads = self.client.call("hello", options)
            self.assertEqual(payloads, [])
            self.assertEqual(result["protocol"], 1)
        hello = self.client.hello(client="x")
        self.assertEqual((hello.tenant, hello.frame_max), ("default", 64 << 20))
        self.assertTrue(hello.server and hello.version)

    def test_ping(self):
        self.assertEqual(self.client.call("ping"), ({}, []))

    def test_append_result(self):
        t = self.new()
        for n in range(3):
            got = self.client.append(t, b"step %d" % n)
            self.assertEqual((got.thread, got.step, got.version), (t, n, n + 1))
            self.assertEqual((got.created, got.duplicate, got.lost), (n == 0, False, 0))
            self.assertTrue(295000 < got.expires_in_ms <= 300000, got.expires_in_ms)

    def test_append_every_option_comes_back(self):
        t = self.new()
        prefix = bytes(range(16))
        self.client.append(
            t, [b"\xff not text", ("opaque", b"\x00"), ("tokens", b"\x01\x00\x00\x00")],
            expect=0, key=b"k" * 64, response_id=t + b"r", tool_calls=[t + b"c1", t + b"c2"],
            model="model-x", turn=3, final=True, tokens=77, prefix=prefix, ttl_ms=60000,
            retention_ms=90000, ack="memory")
        self.client.append(t, [])
        got = self.client.replay(t)
        self.assertTrue(got.complete)
        self.assertEqual((got.thread, got.version, got.head), (t, 2, 1))
        self.assertTrue(55000 < got.expires_in_ms <= 60000)
        first, bare = got.steps
        self.assertEqual([(s.kind, s.data) for s in first.segments], [
            ("text", b"\xff not text"), ("opaque", b"\x00"), ("tokens", b"\x01\x00\x00\x00")])
        self.assertEqual(
            (first.step, first.turn, first.final, first.model, first.response_id,
             first.tool_calls, first.tokens, first.source),
            (0, 3, True, "model-x", t + b"r", (t + b"c1", t + b"c2"), 77, "memory"))
        # A bare step, and the defaults: the previous step's turn; final without tool calls.
        self.assertEqual((bare.step, bare.segments, bare.turn, bare.final), (1, (), 3, True))
        self.assertEqual((bare.response_id, bare.tool_calls), (None, ()))

    def test_append_defaults(self):
        t = self.new()
        self.client.append(t, b"x", tool_calls=[t])
        self.client.append(t, b"x", tool_calls=[t + b"2"], final=True)
        self.client.append(t, b"x", turn=5)
        self.client.append(t, b"x", final=False)
        steps = self.client.replay(t).steps
        self.assertEqual([(s.turn, s.final) for s in steps],
                         [(0, False), (0, True), (5, True), (5, False)])

    def test_ids_are_bytes(self):
        for t in (b"\x00", b"\xff\xfe", "täxt", b"x" * 255):
            raw = t.encode() if isinstance(t, str) else t
            self.client.forget(t)
            self.client.append(t, b"1")
            self.assertEqual(self.client.append(raw, b"2").step, 1, "str and bin are one id")
            self.assertEqual(self.client.replay(t).thread, raw)
            self.client.forget(t)

    def test_sixty_four_segments_of_every_size(self):
        t = self.new()
        sizes = [1, 2, 15, 16, 17, 255, 256, 4095, 4096, 4097, 32768, 65535, 65536, 1 << 20]
        segments = [(("text", "opaque")[i % 2], bytes([i]) * sizes[i % len(sizes)])
                    for i in range(60)]
        segments += [("tokens", bytes([i]) * size) for i, size in enumerate((4, 256, 4096, 65536))]
        self.client.append(t, segments)
        got = self.client.replay(t)
        self.assertEqual([(s.kind, s.data) for s in got.steps[0].segments], segments)

    def test_replay_policy_none(self):
        t = self.new()
        self.client.append(t, b"x")
        got = self.client.replay(t, policy="none")
        self.assertEqual((got.status, got.steps, got.version, got.head), ("complete", (), 1, 0))
        self.assertEqual(len(self.client.replay(t, policy="all").steps), 1)

    def test_replay_last(self):
        t = self.new()
        for n in range(5):
            self.client.append(t, b"%d" % n)
        for last in (1, 2, 5, 99):
            got = self.client.replay(t, last=last)
            self.assertTrue(got.complete)
            self.assertEqual([s.step for s in got.steps], list(range(max(0, 5 - last), 5)))
            self.assertEqual(got.head, 4)

    def test_replay_model(self):
        t = self.new()
        self.client.append(t, b"a", model="one")
        self.client.append(t, b"b", model="two")
        got = self.client.replay(t, model="two")
        self.assertEqual((got.status, got.missing), ("partial", {0: "model_mismatch"}))
        self.assertEqual(got.steps[1].segments[0].data, b"b")

    def test_stat(self):
        t = self.new()
        self.client.append(t, [b"abc", b"de"], tokens=4)
        self.client.append(t, b"fghi", tokens=5, ttl_ms=50000)
        stat = self.client.stat(t)
        self.assertEqual(stat.status, "complete")
        self.assertEqual((stat.version, stat.step_count, stat.bytes, stat.tokens, stat.tier),
                         (2, 2, 9, 9, "memory"))
        self.assertTrue(0 <= stat.idle_ms <= stat.age_ms < 10000)
        self.assertTrue(45000 < stat.expires_in_ms <= 50000)
        gone = self.client.stat(self.new())
        self.assertEqual((gone.status, gone.reason), ("miss", "never_seen"))

    def test_touch(self):
        a, b, never = self.new("a"), self.new("b"), self.new("n")
        self.client.append(a, b"x")
        self.client.append(b, b"x", ttl_ms=60000)
        got = self.client.touch([a, never, b])
        self.assertEqual((got.touched, got.missing), (2, ((never, "never_seen"),)))
        self.assertTrue(55000 < self.client.stat(b).expires_in_ms <= 60000, "its own ttl")
        self.client.touch([b], ttl_ms=120000)
        self.assertTrue(115000 < self.client.stat(b).expires_in_ms <= 120000)
        self.client.touch([b])
        self.assertTrue(115000 < self.client.stat(b).expires_in_ms <= 120000, "the latest ttl")
        self.assertEqual(self.client.touch([]).touched, 0)

    def test_fork(self):
        t, f, g = self.new(), self.new("f"), self.new("g")
        for n in range(4):
            self.client.append(t, b"%d" % n, ttl_ms=60000)
        got = self.client.fork(f, t)
        self.assertEqual((got.thread, got.version), (f, 4))
        self.assertEqual(self.client.fork(g, t, at=1).version, 2)
        self.client.append(g, b"own")
        self.client.append(t, b"4")
        self.client.forget(t)

        def data(thread):
            replay = self.client.replay(thread)
            self.assertTrue(replay.complete)
            return [s.segments[0].data for s in replay.steps]
        self.assertEqual(data(f), [b"0", b"1", b"2", b"3"])
        self.assertEqual(data(g), [b"0", b"1", b"own"])
        self.assertEqual(self.client.append(f, b"x").version, 5)

    def test_rewind(self):
        t = self.new()
        for n in range(4):
            self.client.append(t, b"%d" % n, turn=n)
        got = self.client.rewind(t, 1)
        self.assertEqual((got.version, got.dropped), (5, 2))
        self.assertEqual(self.client.append(t, b"again", turn=1).step, 2)
        replay = self.client.replay(t)
        self.assertEqual([s.segments[0].data for s in replay.steps], [b"0", b"1", b"again"])
        self.assertEqual((replay.version, replay.head), (6, 2))
        self.assertEqual(self.client.rewind(t, -1).dropped, 3)
        empty = self.client.replay(t)
        self.assertEqual((empty.status, empty.steps, empty.version), ("complete", (), 7))
        self.assertEqual(self.client.append(t, b"fresh", turn=0).step, 0)

    def test_forget(self):
        t = self.new()
        self.client.append(t, b"x")
        self.assertTrue(self.client.forget(t).forgotten)
        self.assertFalse(self.client.forget(t).forgotten)
        self.assertFalse(self.client.forget(self.new()).forgotten)

    def test_list(self):
        prefix = self.new()
        made = {prefix + b"%d\xff" % n: n + 1 for n in range(25)}
        for t, size in made.items():
            self.client.append(t, bytes(size))
        for limit in (None, 1, 7, 25, 1000):
            seen = list(self.client.iter_threads(starts_with=prefix, limit=limit))
            self.assertEqual({e.thread: e.bytes for e in seen}, made)
            self.assertEqual(len(seen), len(made), "each exactly once")
        for entry in seen:
            self.assertEqual((entry.version, entry.tier), (1, "memory"))
            self.assertTrue(0 <= entry.idle_ms < 20000)
        self.assertEqual(len(self.client.list(starts_with=prefix, limit=7).threads), 7)
        self.assertEqual(self.client.list(starts_with=prefix + b"zzz").threads, ())

    def test_pipelined_requests_see_each_other(self):
        t = self.new()
        with self.client.pipeline() as pipe:
            sent = [pipe.append(t, b"%d" % n, expect=n) for n in range(500)]
            after = pipe.replay(t)
            back = pipe.rewind(t, 9)
            short = pipe.replay(t)
            gone = pipe.forget(t)
            miss = pipe.replay(t)
        self.assertEqual([p.result().step for p in sent], list(range(500)))
        self.assertEqual([s.segments[0].data for s in after.result().steps],
                         [b"%d" % n for n in range(500)])
        self.assertEqual(back.result().dropped, 490)
        self.assertEqual(len(short.result().steps), 10)
        self.assertTrue(gone.result().forgotten)
        self.assertEqual(miss.result().reason, "forgotten")

    def test_asyncio(self):
        async def work():
            async with rethread.AsyncClient(self.server.address, name="aio") as client:
                ids = [self.new() for _ in range(50)]
                await asyncio.gather(*(client.append(t, t) for t in ids for _ in range(3)))
                got = await asyncio.gather(*(client.replay(t) for t in ids))
                for t, replay in zip(ids, got):
                    self.assertEqual([s.segments[0].data for s in replay.steps], [t] * 3)
        asyncio.run(work())


class Info(ServerCase):
    FLAGS = ("--memory", "512M")

    def test_accounting_follows_the_process(self):
        memory = self.client.info()["memory"]
        self.assertEqual(memory["budget_bytes"], 512 << 20)
        self.assertEqual(memory["used_bytes"], memory["payload_bytes"] + memory["overhead_bytes"])
        rss, threads = self.server.rss_bytes(), [self.new() for _ in range(400)]
        blob = bytes(range(256)) * 600
        with self.client.pipeline() as pipe:
            for t in threads:
                pipe.append(t, blob)
        grown = self.server.rss_bytes() - rss
        after = self.client.info()
        self.assertEqual(after["memory"]["payload_bytes"] - memory["payload_bytes"],
                         400 * len(blob))
        used = after["memory"]["used_bytes"] - memory["used_bytes"]
        if not SANITIZED:
            self.assertLess(abs(grown - used), 0.15 * used + (8 << 20), "sum follows real growth")
        self.assertGreaterEqual(after["requests"]["appends"], 400)
        with self.client.pipeline() as pipe:
            for t in threads:
                pipe.forget(t)
        deadline = time.monotonic() + 10  # what readers may still hold is given back later
        while (end := self.client.info()["memory"])["payload_bytes"] > memory["payload_bytes"]:
            self.assertLess(time.monotonic(), deadline, "forgotten payloads are still held")
            time.sleep(0.05)
        self.assertEqual(end["payload_bytes"], memory["payload_bytes"])
        self.assertEqual(end["used_bytes"], end["payload_bytes"] + end["overhead_bytes"])


if __name__ == "__main__":
    unittest.main()
