"""SIGTERM in the middle of everything: each connection is answered or closed, and the server ends.

RETHREAD_TEST_DRAINS: how many servers are stopped (default 12).
"""

import os
import random
import selectors
import socket
import struct
import time
import unittest

import raw
from harness import ServerCase

DRAINS = int(os.environ.get("RETHREAD_TEST_DRAINS", "12"))
SECONDS = 180  # for what would otherwise go on for ever


class Peer:
    """One connection with a habit. `sent` counts whole requests; answers come in their order."""

    def __init__(self, server, rng, number):
        self.rng = rng
        self.number = number
        self.habit = rng.choice(("pipe", "pipe", "pipe", "slow", "half", "part", "idle", "churn"))
        self.socket = socket.socket()
        if self.habit == "slow":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", server.port))
        self.socket.setblocking(False)
        self.responses = raw.Responses(self.socket)
        self.unsent = b""
        self.sent = 0
        self.answered = 0
        self.codes = set()
        self.given_up = False  # busy, without a msgid: its unfinished request held what others need
        self.ended = False
        self.half_closed = False
        self.reads = self.habit not in ("slow", "churn")

    def request(self):
        n = self.sent
        self.sent += 1
        kind = self.rng.random()
        thread = b"t%d" % self.rng.randrange(4)
        if self.habit == "slow" or kind < 0.0005:
            return raw.request(n, "replay", {"thread": "large"})
        if kind < 0.2:  # fills the memory: some wait until others are evicted
            payload = bytes(self.rng.randrange(20000, 120000))
            return raw.request(n, "append", {"thread": b"%d/%d" % (self.number, n)}, [payload])
        if kind < 0.5:
            return raw.request(n, "append", {"thread": thread}, [bytes(self.rng.randrange(1, 3000))])
        if kind < 0.6:
            return raw.request(n, "forget", {"thread": thread})
        if kind < 0.7:
            return raw.request(n, "replay", {"thread": thread, "last": 3})
        if kind < 0.8:
            return raw.request(n, "touch", {"threads": [b"t%d" % i for i in range(4)]})
        return raw.request(n, "ping")

    def act(self):
        """More to send, or a change of what it does."""
        if self.ended or self.half_closed:
            return
        if not self.unsent:
            if self.habit in ("pipe", "half"):
                self.unsent = b"".join(self.request() for _ in range(self.rng.randrange(1, 150)))
            elif self.habit == "slow" and self.sent < 3:
                self.unsent = self.request()
            elif self.habit == "churn":
                self.unsent = self.request()
            elif self.habit == "part" and self.sent == 0:
                whole = self.request()
                self.sent = 0  # it is never finished
                self.unsent = whole[: self.rng.randrange(1, len(whole))]
                self.sent = -1
        self.flush()

    def flush(self):
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent):]
        except BlockingIOError:
            return
        except OSError:
            self.unsent = b""
            return
        if self.habit == "half" and self.rng.random() < 0.1:
            self.half_closed = True
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        if self.habit == "churn" and self.rng.random() < 0.5:
            if self.rng.random() < 0.5:  # with a reset
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()

    def read(self):
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self.responses._unpacker.feed(data)
        for answer in self.responses.ready():
            code = raw.check(answer)
            assert not self.given_up, "an answer after the last one"
            self.given_up = answer[1] is None and code == b"busy"
            assert self.given_up or answer[1] == self.answered, \
                f"answer {answer[1]} instead of {self.answered}"
            self.answered += not self.given_up
            self.codes.add(code)

    def close(self):
        self.ended = True
        self.socket.close()


class Drain(ServerCase):
    def crowd(self, server, rng, peers, seconds):
        """Everybody does what it does for a while."""
        ends = time.monotonic() + seconds
        number = len(peers)
        while time.monotonic() < ends:
            for p in list(peers):
                if p.ended:
                    peers.remove(p)
                    peers.append(Peer(server, rng, number := number + 1))
            for p in rng.sample(peers, len(peers) // 3):
                p.act()
            for p in peers:
                if p.reads and not p.ended:
                    p.read()

    def finish(self, server, peers, what):
        """Reads until the end of every connection; some go on sending meanwhile."""
        ends = time.monotonic() + SECONDS
        left = [p for p in peers if not p.ended]
        selector = selectors.DefaultSelector()
        for p in left:
            # From now on the slow are quick: what is late now is the server's doing.
            p.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            selector.register(p.socket, selectors.EVENT_READ, p)
        while left:
            for key, _ in selector.select(0.05):
                p = key.data
                descriptor = p.socket.fileno()
                p.read()
                if p.ended:
                    selector.unregister(descriptor)
            for p in left:
                if not p.ended and p.habit == "pipe" and p.number % 2:
                    p.flush() if p.unsent else p.act()
            left = [p for p in left if not p.ended]
            if time.monotonic() > ends:
                told = [(p.habit, p.sent, p.answered, len(p.unsent)) for p in left]
                self.fail(f"{what}: neither answer nor end: {told}\n{server.tail()}")
        selector.close()

    def test_many(self):
        for turn in range(DRAINS):
            seed = int(os.environ.get("RETHREAD_TEST_SEED", turn)) + 1000 * os.getpid()
            rng = random.Random(seed)
            what = f"drain {turn}, seed {seed}"
            memory = rng.choice(("16M", "64M"))
            server = self.started("--memory", memory, "--loops", str(rng.randrange(1, 4)),
                                  "--drain-timeout", f"{SECONDS}s")
            filler = raw.connect(server)
            filler.sendall(b"".join(raw.request(n, "append", {"thread": "large"}, [bytes(700000)])
                                    for n in range(2)))
            answers = raw.Responses(filler)
            answers.receive()
            filler.close()
            peers = [Peer(server, rng, n) for n in range(rng.randrange(5, 60))]
            self.crowd(server, rng, peers, rng.random() * 0.3)
            server.terminate()
            start = time.monotonic()
            self.finish(server, peers, what)
            server.stop(timeout=SECONDS)
            self.assertLess(time.monotonic() - start, SECONDS, what)
            habits = [(p.habit, p.sent, p.answered, p.codes) for p in peers]
            self.assertNotIn("drain_incomplete", server.log(), f"{what}: {habits}")
            server.kill()
            server._log.close()


if __name__ == "__main__":
    unittest.main()
