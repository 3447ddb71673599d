"""kill -9 of a server under load, again and again over one data directory.

A ledger notes every append before it is sent and when `ack: disk` has answered; some steps are
streamed. After each restart everything acknowledged must be there, byte for byte, an append that was
on its way may be, and nothing else; an append, or a commit, that is sent again with its key is not
done twice.

RETHREAD_KILLS: how many times (default 8). With 100 and more, restarts over 1 GiB are judged, too.
"""

import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
import unittest

import rethread

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                                "server"))
from harness import SANITIZED, SERVER, Server  # noqa: E402

KILLS = int(os.environ.get("RETHREAD_KILLS", "3" if SANITIZED else "8"))
WRITERS = 4
STEPS = 40  # of a thread; then its writer begins another
LARGE_BYTES = 1 << 30
RESTART_S = 1.0


def payload(thread, step):
    """The bytes of a step, which nobody else has: small, some large, some that compress."""
    chance = random.Random(b"%s %d" % (thread, step))
    size = chance.choice((20, 300, 2000, 2000, 9000, 70000))
    body = chance.randbytes(size) if step % 3 else b"%s %d " % (thread, step) * (size // 16 + 1)
    return b"%s %d " % (thread, step) + body


BUSY = []  # answers that put a request off: the disk is slow, nothing was done


def patiently(call):
    """What the call answers when it is not put off."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return call()
        except rethread.Busy as busy:
            BUSY.append(busy)
            if time.monotonic() > deadline:
                raise


class Thread:
    """What a thread must hold: `kept` steps acknowledged, `sent` steps sent."""

    def __init__(self, name):
        self.name = name
        self.kept = 0
        self.sent = 0
        self.claims = {}  # of the steps that were streamed

    def append(self, client, step, ack):
        """The step, sent in one piece, or committed if it was streamed; (step, duplicate)."""
        options = {"key": b"key %d" % step, "ack": ack,
                   "tool_calls": [b"%s call %d" % (self.name, step)]}
        if claim := self.claims.get(step):
            result = patiently(lambda: client.call(
                "commit", {"thread": self.name, "claim": claim, **options}))[0]
            return result["step"], result["duplicate"]
        result = patiently(lambda: client.append(self.name, payload(self.name, step), **options))
        return result.step, result.duplicate

    def stream(self, client, step, ack, parts):
        """The step's bytes in so many parts, then its commit."""
        begun = patiently(lambda: client.call("begin", {"thread": self.name}))[0]
        named = {"thread": self.name, "claim": begun["claim"]}
        whole = payload(self.name, step)
        size = -(-len(whole) // parts)
        for at in range(0, len(whole), size):
            patiently(lambda part=whole[at:at + size]: client.call("chunk", named, [part]))
        self.claims[step] = begun["claim"]
        return self.append(client, step, ack)


class Writer(threading.Thread):
    """Appends until the server is gone."""

    def __init__(self, address, number, threads, seed):
        super().__init__(daemon=True)
        self.address = address
        self.number = number
        self.threads = threads
        self.chance = random.Random(seed)
        self.failure = None
        self.acknowledged = 0

    def run(self):
        try:
            with rethread.Client(self.address) as client:
                while True:
                    self.one(client)
        except rethread.TransportError:
            pass
        except BaseException as failure:  # told to the test
            self.failure = failure

    def one(self, client):
        thread = self.threads[-1]
        if thread.sent == STEPS:
            thread = Thread(b"thread %d.%d" % (self.number, len(self.threads)))
            self.threads.append(thread)
        step = thread.sent
        durable = self.chance.random() < 0.7
        thread.sent += 1
        ack = "disk" if durable else "memory"
        thread.claims.pop(step, None)
        result = (thread.stream(client, step, ack, self.chance.randrange(1, 6))
                  if self.chance.random() < 0.3 else thread.append(client, step, ack))
        assert result == (step, False), (thread.name, step, result)
        if durable:
            thread.kept = step + 1
            self.acknowledged += 1


@unittest.skipUnless(os.path.exists(SERVER), "the server has not been built")
class Kill(unittest.TestCase):
    FLAGS = ("--memory", "64M", "--disk", "8G", "--retention", "1d")

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.data = os.path.join(directory.name, "data")
        self.chance = random.Random(7)
        self.threads = [[Thread(b"thread %d.0" % i)] for i in range(WRITERS)]
        self.restarts = []
        self.acknowledged = 0

    def start(self):
        begun = time.monotonic()
        server = Server(*self.FLAGS, data=self.data)
        self.addCleanup(server._log.close)
        self.addCleanup(server.kill)
        return server, begun

    def check_thread(self, client, thread):
        if thread.sent == 0:
            return
        got = patiently(lambda: client.replay(thread.name, max_bytes=15 << 20))
        if got.status == "miss":
            self.assertEqual((thread.kept, got.reason), (0, "never_seen"), thread.name)
            thread.sent = 0
            return
        self.assertEqual(got.status, "complete", (thread.name, thread.kept, thread.sent))
        self.assertGreaterEqual(len(got.steps), thread.kept, thread.name)
        self.assertLessEqual(len(got.steps), thread.sent, thread.name)
        for number, step in enumerate(got.steps):
            self.assertEqual(step.step, number)
            data = b"".join(segment.data for segment in step.segments)
            self.assertTrue(data == payload(thread.name, number),
                            f"{thread.name} step {number} has other bytes")
        thread.kept = thread.sent = len(got.steps)

    def check_keys(self, client, thread):
        if thread.kept == 0:
            return
        last = thread.kept - 1
        self.assertEqual(thread.append(client, last, "disk"), (last, True), thread.name)
        found = patiently(lambda: client.replay(
            tool_call=b"%s call %d" % (thread.name, last), last=1))
        self.assertEqual((found.status, found.thread), ("complete", thread.name))

    def check(self, server, begun):
        with rethread.Client(server.address) as client:
            newest = [threads[-1] for threads in self.threads]
            self.check_thread(client, newest[0])  # the first correct answer
            self.restarts.append(time.monotonic() - begun)
            for threads in self.threads:
                older = threads[:-2]
                for thread in threads[-2:] + self.chance.sample(older, min(len(older), 6)):
                    self.check_thread(client, thread)
                self.check_keys(client, threads[-1])

    def kill(self, server, seed):
        writers = [Writer(server.address, i, self.threads[i], seed * WRITERS + i)
                   for i in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(self.chance.uniform(0.02, 0.4))
        server.process.send_signal(signal.SIGKILL)
        server.wait()
        for writer in writers:
            writer.join(40)
            self.assertFalse(writer.is_alive())
            self.assertIsNone(writer.failure)
            self.acknowledged += writer.acknowledged

    def rounds(self, kills):
        for number in range(kills):
            server, begun = self.start()
            self.check(server, begun)
            self.kill(server, number)
        server, begun = self.start()
        self.check(server, begun)
        for threads in self.threads:
            with rethread.Client(server.address) as client:
                for thread in threads:
                    self.check_thread(client, thread)
        server.stop()
        times = sorted(self.restarts)
        print(f"{kills} kills, {self.acknowledged} appends acknowledged, {len(BUSY)} times busy, "
              f"restart to first answer: "
              f"median {statistics.median(times) * 1000:.0f} ms, "
              f"most {times[-1] * 1000:.0f} ms", file=sys.stderr)

    def test_nothing_acknowledged_is_lost(self):
        self.rounds(KILLS)
        self.assertGreater(self.acknowledged, KILLS)

    @unittest.skipIf(KILLS < 100 or SANITIZED, "a long run only: RETHREAD_KILLS=200")
    def test_a_gibibyte_is_served_within_a_second(self):
        server, _ = self.start()
        block = random.Random(1).randbytes(1 << 20)
        with rethread.Client(server.address) as client:
            for number in range(LARGE_BYTES >> 20):
                client.append(b"large %d" % (number // 16), [b"%d " % number + block], ack="disk")
        server.process.send_signal(signal.SIGKILL)
        server.wait()
        self.rounds(20)
        self.assertLess(max(self.restarts), RESTART_S)


if __name__ == "__main__":
    unittest.main()
