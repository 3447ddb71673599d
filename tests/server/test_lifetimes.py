"""Sliding ttl on the real clock: never served past a deadline, never gone before it."""

import threading
import time
import unittest

import rethread
from harness import PATIENCE_S, ServerCase

# The server's clock and this one tick apart: what happened within this is not judged.
SLACK_S = 0.003


class Refresh(ServerCase):
    FLAGS = ("--ttl", "2s")

    def test_what_refreshes_and_what_does_not(self):
        for _ in range(10):
            if self.tell_apart():
                return
        self.skipTest("the machine is too busy to tell")

    def tell_apart(self):
        """False: it took so long that it says nothing."""
        uses = {
            "append": (True, lambda t: self.client.append(t, b"more")),
            "replay": (True, lambda t: self.client.replay(t)),
            "replay have": (True, lambda t: self.client.replay(t, have=(1, 0))),
            "replay key": (True, lambda t: self.client.replay(response_id=t)),
            "touch": (True, lambda t: self.client.touch([t])),
            "stat": (False, lambda t: self.client.stat(t)),
            "touch: false": (False, lambda t: self.client.replay(t, touch=False)),
            "list": (False, lambda t: list(self.client.iter_threads(starts_with=t))),
            "fork from": (None, lambda t: self.client.fork(t + b"f", t)),
            "conflict": (False, lambda t: self.raises(
                rethread.Conflict, self.client.append, t, b"x", expect=7)),
            "nothing": (False, lambda t: None),
        }
        threads = {name: self.new(name) for name in uses}
        start = time.monotonic()
        for t in threads.values():
            self.client.append(t, b"x", response_id=t)
        appended = time.monotonic()
        time.sleep(max(0, start + 1.2 - time.monotonic()))
        used = time.monotonic()
        try:
            for name, (_, use) in uses.items():
                use(threads[name])
        except (rethread.RethreadError, AssertionError):
            if time.monotonic() > start + 2 - 0.1:
                return False
            raise
        done = time.monotonic()
        if done > start + 2 - 0.1:
            return False
        time.sleep(max(0, appended + 2 + 0.1 - time.monotonic()))
        alive, left, looked = {}, {}, time.monotonic()
        for name, t in threads.items():
            got = self.client.replay(t, touch=False)
            alive[name], left[name] = got.complete, got.expires_in_ms
        if time.monotonic() > used + 2:
            return False
        for name, (refreshes, _) in uses.items():
            if refreshes is not None:
                self.assertEqual(alive[name], refreshes, name)
                if refreshes:
                    most = 2000 - (looked - done - SLACK_S) * 1000
                    self.assertTrue(0 < left[name] <= most, (name, left[name], most))
        time.sleep(max(0, done + 2 + 0.1 - time.monotonic()))
        for name, t in threads.items():
            self.assertEqual(self.client.replay(t).reason, "expired", name)
        return True

    def test_expires_in_counts_down_and_up(self):
        t, start = self.new(), time.monotonic()
        self.assertTrue(59900 < self.client.append(t, b"x", ttl_ms=60000).expires_in_ms <= 60000)
        time.sleep(0.5)
        left = self.client.stat(t).expires_in_ms
        at_least = 60000 - (time.monotonic() - start + SLACK_S) * 1000
        self.assertTrue(at_least <= left <= 59500 + SLACK_S * 1000, (at_least, left))
        left = self.client.replay(t, touch=False).expires_in_ms
        self.assertLessEqual(left, 59500 + SLACK_S * 1000)
        self.assertTrue(59900 < self.client.replay(t).expires_in_ms <= 60000)

    def test_the_latest_ttl_wins(self):
        t = self.new()
        self.client.append(t, b"x", ttl_ms=60000)
        self.assertTrue(59000 < self.client.append(t, b"x").expires_in_ms <= 60000, "its own")
        self.assertLessEqual(self.client.append(t, b"x", ttl_ms=300).expires_in_ms, 300)
        time.sleep(0.4)
        self.assertEqual(self.client.replay(t).reason, "expired")

    def test_retention_zero(self):
        t, start = self.new(), time.monotonic()
        got = self.client.append(t, b"x", retention_ms=0)
        self.assertLessEqual(got.expires_in_ms, 2000, "without a disk tier the ttl counts")
        if not self.client.replay(t).complete:
            self.assertGreater(time.monotonic(), start + 2 - SLACK_S, "it is gone too early")


class Deadline(ServerCase):
    FLAGS = ("--ttl", "400ms")

    def test_neither_late_nor_early(self):
        """Several readers ask all the time around many deadlines; every answer is judged."""
        wrong, judged = [], {"complete": 0, "miss": 0}
        start = time.monotonic()

        def enough():
            now = time.monotonic()
            return now > start + PATIENCE_S or (
                now > start + 4 and judged["miss"] > 20 and judged["complete"] > 100)

        def reader(number):
            with rethread.Client(self.server.address) as client:
                n = 0
                while not enough():
                    t = b"deadline-%d-%d" % (number, n)
                    n += 1
                    early = time.monotonic()
                    client.append(t, b"x")
                    late = time.monotonic()
                    while True:
                        asked = time.monotonic()
                        status = client.replay(t, touch=False).status
                        answered = time.monotonic()
                        if status == "complete" and asked > late + 0.4 + SLACK_S:
                            wrong.append(f"served {asked - late - 0.4:.4f} s too late")
                        if status == "miss" and answered < early + 0.4 - SLACK_S:
                            wrong.append(f"gone {early + 0.4 - answered:.4f} s too early")
                        judged[status] += 1
                        if status == "miss" or asked > late + 1:
                            break
                        # Ask rarely at first, and all the time around the deadline.
                        left = early + 0.4 - time.monotonic()
                        time.sleep(left / 2 if left > 0.02 else 0)
        threads = [threading.Thread(target=reader, args=(n,)) for n in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        self.assertEqual(wrong, [])
        self.assertGreater(judged["miss"], 20)
        self.assertGreater(judged["complete"], 100)

    def test_kept_alive_by_touch(self):
        t, last = self.new(), time.monotonic()
        self.client.append(t, b"x")
        end = time.monotonic() + 2
        while time.monotonic() < end:
            time.sleep(0.1)
            sent = time.monotonic()
            got = self.client.touch([t])
            if time.monotonic() - last > 0.4 - SLACK_S:
                self.skipTest("the machine is too busy to tell")
            self.assertEqual((got.touched, got.missing), (1, ()))
            last = sent
        time.sleep(0.5)
        self.assertEqual(self.client.touch([t]).missing, ((t, "expired"),))

    def test_swept_without_being_asked(self):
        before = self.client.info()
        with self.client.pipeline() as pipe:
            for _ in range(2000):
                pipe.append(self.new(), bytes(4096))
        deadline = time.monotonic() + PATIENCE_S
        while True:
            memory, threads = (self.client.info()[s] for s in ("memory", "threads"))
            if (threads["expired"] - before["threads"]["expired"] >= 2000
                    and memory["payload_bytes"] <= before["memory"]["payload_bytes"]):
                return
            self.assertLess(time.monotonic(), deadline, (threads, memory))
            time.sleep(0.05)


if __name__ == "__main__":
    unittest.main()
