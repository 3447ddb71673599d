"""Random histories of threads, streams, forks and floors over a disk, with kills of the server between
them: after every answer the server and a plain model of it agree."""

import random
import time
import unittest

import raw
from harness import SANITIZED, DiskCase

SECONDS = 8
THREADS = [b"thread %d" % n for n in range(6)]


class Model:
    """A thread as it must be: its steps' bytes (None: not there), what is streamed, its floor."""

    def __init__(self):
        self.steps, self.claim, self.draft, self.floor = None, None, b"", 0

    def add(self, data):
        self.steps = (self.steps or []) + [data]

    def cut(self, keep):
        self.steps = self.steps[:keep]
        self.floor = min(self.floor, keep)

    def let_go(self):
        self.claim, self.draft = None, b""


class Histories(DiskCase):
    FLAGS = ("--ttl", "150ms", "--memory", "16M")

    def begin_life(self):
        self.server, _ = self.start(*self.FLAGS)
        self.raw = raw.Client(self.server)
        self.addCleanup(self.raw.close)

    def ask(self, call, *args, **options):
        """The answer, or the cause of a conflict, or what else was the code of an error."""
        while True:
            try:
                return call(*args, **options)
            except raw.Refused as error:
                if error.code != "busy":
                    return error.cause or error.code

    def made_durable(self):
        """What was done before an acknowledged append is on disk with it."""
        self.raw.append(b"the last", b"x", ack="disk")

    def do_begin(self, name, thread):
        got = self.ask(self.raw.begin, name)
        if thread.claim:
            self.assertEqual(got, "claimed")
            return
        self.assertEqual(got["step"], len(thread.steps or []))
        thread.claim = got["claim"]

    def do_chunk(self, name, thread):
        data = self.chance.randbytes(self.chance.choice((1, 300, 5000)))
        if thread.claim:
            got = self.ask(self.raw.chunk, name, thread.claim, data)
            thread.draft += data
            self.assertEqual(got["bytes"], len(thread.draft))
        else:
            self.assertEqual(self.ask(self.raw.chunk, name, 1, data), "claimed")

    def do_commit(self, name, thread):
        data = self.chance.randbytes(5)
        if thread.claim:
            got = self.ask(self.raw.commit, name, thread.claim, data, ack="disk")
            thread.add(thread.draft + data)
            thread.let_go()
            self.assertEqual(got["step"], len(thread.steps) - 1)

    def do_abort(self, name, thread):
        if thread.claim:
            self.assertEqual(self.ask(self.raw.abort, name, thread.claim), {"aborted": True})
            thread.let_go()

    def do_append(self, name, thread):
        data = self.chance.randbytes(self.chance.choice((3, 2000)))
        got = self.ask(self.raw.append, name, data, ack="disk")
        if thread.claim:
            self.assertEqual(got, "claimed")
            return
        thread.add(data)
        self.assertEqual(got["step"], len(thread.steps) - 1)

    def do_rewind(self, name, thread):
        if not thread.steps:
            return
        to = self.chance.randrange(-1, len(thread.steps))
        got = self.ask(self.raw.rewind, name, to)
        if thread.claim:
            self.assertEqual(got, "claimed")
            return
        self.assertEqual(got["dropped"], len(thread.steps) - to - 1)
        thread.cut(to + 1)
        self.made_durable()

    def do_fork(self, name, thread):
        other = self.chance.choice(THREADS)
        copy = self.threads[other]
        got = self.ask(self.raw.fork, other, name)
        if thread.steps is None:
            self.assertIn(got, ("not_found", "exists", "claimed"))
        elif copy.steps is not None or copy.claim:
            self.assertIn(got, ("exists", "claimed"))
        else:
            self.assertEqual(got["version"], len(thread.steps))
            copy.steps, copy.floor = list(thread.steps), thread.floor
            self.made_durable()

    def do_forget(self, name, thread):
        if self.chance.random() < 0.3:
            self.assertEqual(self.ask(self.raw.forget, name), thread.steps is not None)
            self.threads[name] = Model()

    def do_pin(self, name, thread):
        if thread.steps:
            got = self.ask(self.raw.replay, name, pin=True, policy=self.chance.choice(
                ("none", "current_turn", "all")), turn=self.chance.randrange(2))
            self.assertEqual(sorted(got.kept), list(range(got.kept_from, len(thread.steps))))
            self.assertGreaterEqual(got.kept_from, thread.floor)
            thread.floor = got.kept_from

    def do_replay(self, name, thread):
        got = self.ask(self.raw.replay, name, touch=self.chance.random() < 0.5)
        self.assertEqual(bool(got.in_flight), thread.claim is not None)
        if thread.steps is None:
            self.assertEqual(got.status, "miss")
            return
        self.assertEqual((got.status, got.head),
                         ("complete", len(thread.steps) - 1 if thread.steps else None))
        self.assertTrue([got.data[n] for n in sorted(got.data)] == thread.steps, "other bytes")
        self.assertEqual(self.raw.stat(name).get("floor", 0), thread.floor)

    def do_wait(self, *_):
        """Some leave memory meanwhile."""
        if self.chance.random() < 0.1:
            time.sleep(self.chance.random() * 1.5)

    def do_kill(self, *_):
        if self.chance.random() > 0.03:
            return
        self.made_durable()
        self.server.kill()
        self.begin_life()
        for name, thread in self.threads.items():
            thread.let_go()
            self.do_replay(name, thread)

    ACTS = (["begin", "append", "commit"] * 2 + ["chunk"] * 3 + ["replay"] * 3
            + ["abort", "rewind", "fork", "forget", "pin", "wait", "kill"])

    def test_histories(self):
        seed = random.randrange(1 << 32)
        self.chance = random.Random(seed)
        self.threads = {name: Model() for name in THREADS}
        self.begin_life()
        until, acts, last = time.monotonic() + SECONDS * (2 if SANITIZED else 1), 0, []
        while time.monotonic() < until:
            act, name = self.chance.choice(self.ACTS), self.chance.choice(THREADS)
            last = [*last[-15:], (act, name)]
            acts += 1
            try:
                getattr(self, "do_" + act)(name, self.threads[name])
            except (AssertionError, TypeError) as failure:
                raise AssertionError(f"seed {seed}, act {acts}, the last {last}") from failure
        self.server.stop()


if __name__ == "__main__":
    unittest.main()
