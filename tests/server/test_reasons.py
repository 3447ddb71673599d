"""Why a thread or a step is not there: each reason that the server can give, and no other."""

import contextlib
import time
import unittest

import raw
import rethread
from harness import PATIENCE_S, ServerCase, most_used


class Reasons(ServerCase):
    FLAGS = ("--ttl", "300ms")

    def miss(self, thread, reason):
        for touch in (False, True):
            got = self.client.replay(thread, touch=touch)
            self.assertEqual((got.status, got.reason, got.steps), ("miss", reason, ()))
        self.assertEqual((self.client.stat(thread).status, self.client.stat(thread).reason),
                         ("miss", reason))
        self.assertEqual(self.client.touch([thread]).missing, ((thread, reason),))
        error = self.raises(rethread.NotFound, self.client.fork, self.new(), thread)
        self.assertEqual(error.reason, reason)
        error = self.raises(rethread.NotFound, self.client.rewind, thread, -1)
        self.assertEqual(error.reason, reason)
        return got

    def test_never_seen(self):
        before = self.miss(self.new(), "never_seen").vouch_ms
        time.sleep(0.05)
        self.assertGreaterEqual(self.miss(self.new(), "never_seen").vouch_ms, before + 50)

    def test_expired(self):
        t, r = self.new(), self.new("r")
        self.client.append(t, b"x", response_id=r)
        time.sleep(0.5)
        self.miss(t, "expired")
        got = self.client.replay(response_id=r)
        self.assertEqual((got.status, got.reason), ("miss", "expired"))
        self.assertFalse(self.client.forget(t).forgotten)

    def test_key_of_an_earlier_life(self):
        """The same whether its steps have been buried yet or the thread came back at once."""
        t, c = self.new(), self.new("c")
        lookup = ("replay", {"thread": t, "tool_call": c})
        requests = [("append", {"thread": t, "tool_calls": [c], "ttl_ms": 60000}, b"x"),
                    ("forget", {"thread": t}),
                    ("append", {"thread": t, "expect": 0, "ttl_ms": 60000}, b"y"), lookup]
        sock = raw.connect(self.server)
        self.addCleanup(sock.close)
        responses = raw.Responses(sock, text=True)

        def ask(several):
            sock.sendall(b"".join(raw.request(i, name, options, payloads)
                                  for i, (name, options, *payloads) in enumerate(several)))
            got = []
            while len(got) < len(several):
                got += responses.receive()
            return got[-1][3][0]["status"], got[-1][3][0]["reason"]

        self.assertEqual(ask(requests), ("miss", "forgotten"))
        time.sleep(0.1)
        self.assertEqual(ask([lookup]), ("miss", "forgotten"))

    def test_forgotten(self):
        t = self.new()
        self.client.append(t, b"x", ttl_ms=60000)
        self.client.forget(t)
        self.miss(t, "forgotten")
        got = self.client.append(t, b"y", ttl_ms=60000)
        self.assertEqual((got.step, got.lost, got.created), (0, 0, True), "not continued")
        self.assertTrue(self.client.replay(t).complete)

    def test_what_a_miss_tells_to_expect(self):
        """A worker's loop: whatever became of the thread, it goes on from what it was told."""
        t = self.new()
        for end in (None, None, self.client.forget, self.expire, self.client.forget, self.expire):
            if end:
                end(t)
            past = self.client.replay(t)
            self.assertEqual(past.version, self.client.stat(t).version)
            got = self.client.append(t, b"x", expect=past.version or 0, ttl_ms=60000)
            self.assertEqual(got.version, (past.version or 0) + 1)

    def expire(self, *threads):
        """Only once all is done with them that needs them alive, however long it took."""
        self.assertEqual(self.client.touch(threads, ttl_ms=300).missing, ())
        time.sleep(0.5)

    def test_append_to_something_expired(self):
        t = self.new()
        self.client.append(t, b"0", ttl_ms=60000)
        self.client.append(t, b"1")
        self.expire(t)
        error = self.raises(rethread.Conflict, self.client.append, t, b"x", expect=1)
        self.assertEqual((error.cause, error.version), ("version", 2))
        got = self.client.append(t, b"2", expect=2, ttl_ms=60000)
        self.assertEqual((got.step, got.version, got.lost), (2, 3, 2))
        replay = self.client.replay(t)
        self.assertEqual((replay.status, replay.missing, replay.version, replay.head),
                         ("partial", {0: "expired", 1: "expired"}, 3, 2))
        self.assertEqual(replay.steps[2].segments[0].data, b"2")
        # The same again without expect: what was lost stays lost, and told.
        self.expire(t)
        got = self.client.append(t, b"3", ttl_ms=60000)
        self.assertEqual((got.step, got.version, got.lost), (3, 4, 3))
        replay = self.client.replay(t)
        self.assertEqual(replay.missing, {n: "expired" for n in range(3)})
        self.assertEqual([s.step for s in replay.steps], [0, 1, 2, 3])
        got = self.client.append(t, b"4")
        self.assertEqual((got.step, got.version, got.lost), (4, 5, 3))
        # A tail is never the whole, however it is asked for.
        self.assertEqual(self.client.replay(t, have=(2, 1)).steps[0].step, 2)
        f = self.new("f")
        self.client.fork(f, t)
        self.assertEqual(self.client.replay(f).missing, {n: "expired" for n in range(3)})

    def test_afresh(self):
        t = self.new()
        self.client.append(t, b"0")
        time.sleep(0.5)
        got = self.client.append(t, b"new", expect=0, ttl_ms=60000)
        self.assertEqual((got.step, got.lost, got.created), (0, 0, True))
        replay = self.client.replay(t)
        self.assertEqual((replay.status, len(replay.steps)), ("complete", 1))

    def test_rewound_key(self):
        t, key = self.new(), self.new()[-16:]
        self.client.append(t, b"0", ttl_ms=60000)
        self.client.append(t, b"1", response_id=key, tool_calls=[key], prefix=key)
        self.client.rewind(t, 0)
        for kind in ("response_id", "tool_call", "prefix"):
            for scope in ({}, {"thread": t}):
                got = self.client.replay(**{kind: key}, **scope)
                self.assertEqual((got.status, got.reason), ("miss", "rewound"), kind)
        self.client.append(t, b"1'")
        self.assertEqual(self.client.replay(response_id=key).reason, "rewound")


class MaxAge(ServerCase):
    FLAGS = ("--max-age", "1s", "--ttl", "60s")

    def test_max_age(self):
        deadline = time.monotonic() + PATIENCE_S
        forked = False
        while not forked:  # in the second that it has
            self.assertLess(time.monotonic(), deadline, "it is never there to be forked")
            t, f, r = self.new(), self.new("f"), self.new("r")
            appended = self.client.append(t, b"x", response_id=r)
            self.assertLessEqual(appended.expires_in_ms, 1000)
            with contextlib.suppress(rethread.NotFound):
                forked = self.client.fork(f, t)
        while self.client.replay(t).complete:
            self.assertLess(time.monotonic(), deadline, "however much it is used")
            time.sleep(0.02)
        for got in (self.client.replay(t), self.client.replay(f), self.client.replay(response_id=r)):
            self.assertEqual((got.status, got.reason), ("miss", "max_age"))
        got = self.client.append(t, b"y")
        self.assertEqual((got.step, got.lost), (1, 1))
        self.assertEqual(self.client.replay(t).missing, {0: "max_age"})


class Evicted(ServerCase):
    FLAGS = ("--memory", "16M")

    def test_evicted_and_continued(self):
        ids = [self.new() for _ in range(800)]
        blob = bytes(range(256)) * 256
        for first in range(0, len(ids), 20):
            with self.client.pipeline() as pipe:
                sent = [pipe.append(t, blob, response_id=t) for t in ids[first:first + 20]]
            for p in sent:
                p.result()
            used = self.client.info()["memory"]["used_bytes"]
            self.assertLessEqual(used, most_used(16 << 20))
        live, gone = [], []
        for t in ids:
            got = self.client.replay(t, touch=False)
            if got.complete:
                self.assertEqual(got.steps[0].segments[0].data, blob)
                live.append(t)
            else:
                self.assertEqual((got.status, got.reason), ("miss", "evicted"))
                gone.append(t)
        # 800 x 64 KiB are 50 MiB: most must have gone, and a good part of the budget is used.
        self.assertGreater(len(live), 60)
        self.assertGreater(len(gone), 500)
        self.assertEqual(self.client.replay(response_id=gone[0]).reason, "evicted")
        self.assertEqual(self.client.stat(gone[0]).reason, "evicted")
        got = self.client.append(gone[0], b"on", expect=1)
        self.assertEqual((got.step, got.version, got.lost), (1, 2, 1))
        replay = self.client.replay(gone[0])
        self.assertEqual((replay.status, replay.missing), ("partial", {0: "evicted"}))
        self.assertGreaterEqual(self.client.info()["threads"]["evicted"], len(gone))

    def test_replayed_threads_outlive_others(self):
        used, unused = [self.new("u") for _ in range(40)], [self.new("n") for _ in range(40)]
        blob = bytes(65536)
        for u, n in zip(used, unused):
            self.client.append(u, blob)
            self.client.append(n, blob)
            self.client.replay(u)

        def alive(ids):
            return sum(self.client.replay(t, touch=False).complete for t in ids)

        # Which ones go first is the hash's secret: on, until some of them have gone.
        for _ in range(60):
            for _ in range(15):
                self.client.append(self.new("x"), blob)
            for u in used:
                self.client.replay(u)
            if alive(unused) <= 20:
                break
        self.assertLessEqual(alive(unused), 20, "memory was never short")
        self.assertGreater(alive(used), alive(unused))

    def test_one_thread_larger_than_memory(self):
        t, blob, stored = self.new(), bytes(500000), 0
        for _ in range(80):
            try:
                self.client.append(t, blob)
                stored += 1
            except rethread.OverBudget:
                pass
        replay = self.client.replay(t)
        whole = [s for s in replay.steps if s.missing is None]
        self.assertTrue(all(s.segments[0].data == blob for s in whole))
        if len(whole) < stored:
            self.assertFalse(replay.complete)
        self.assertGreater(stored, 0)


class Tombstones(ServerCase):
    FLAGS = ("--tombstones", "1024")

    def test_bounded_and_honest(self):
        first = self.new()
        self.client.append(first, b"x")
        sent = time.monotonic()
        self.client.forget(first)
        self.assertEqual(self.client.replay(first).reason, "forgotten")
        time.sleep(0.3)
        with self.client.pipeline() as pipe:
            for _ in range(6000):
                t = self.new()
                pipe.append(t, b"x")
                pipe.forget(t)
        got = self.client.replay(first)
        self.assertEqual(got.reason, "never_seen")
        # It no longer knows of that thread, so it must not vouch for the time when it was there.
        self.assertLess(got.vouch_ms, (time.monotonic() - sent) * 1000)
        self.assertEqual(self.client.replay(t).reason, "forgotten")
        self.assertLessEqual(self.client.info()["threads"]["tombstones"], 1024)


if __name__ == "__main__":
    unittest.main()
