"""The rules that two readers of the contract would otherwise build differently."""

import unittest

import rethread
from harness import ServerCase


class Expect(ServerCase):
    def test_expect(self):
        t = self.new()
        error = self.raises(rethread.Conflict, self.client.append, t, b"x", expect=3)
        self.assertEqual((error.cause, error.version), ("version", 0))
        self.assertEqual(self.client.replay(t).reason, "never_seen", "nothing was stored")
        self.client.append(t, b"0", expect=0)
        error = self.raises(rethread.Conflict, self.client.append, t, b"x", expect=0)
        self.assertIn(error.cause, ("exists", "version"))
        self.assertEqual(error.version, 1)
        self.client.append(t, b"1", expect=1)
        for stale in (1, 3):
            error = self.raises(rethread.Conflict, self.client.append, t, b"x", expect=stale)
            self.assertEqual((error.cause, error.version), ("version", 2))
        self.client.rewind(t, 0)
        self.raises(rethread.Conflict, self.client.append, t, b"x", expect=2)
        self.client.append(t, b"2", expect=3)
        self.assertEqual([s.segments[0].data for s in self.client.replay(t).steps], [b"0", b"2"])


class Idempotency(ServerCase):
    def test_same_key_same_bytes(self):
        t = self.new()
        first = self.client.append(t, [b"a", ("opaque", b"b")], key="k")
        self.client.append(t, b"between")
        again = self.client.append(t, [b"a", ("opaque", b"b")], key="k")
        self.assertTrue(again.duplicate)
        self.assertEqual((again.step, again.version), (first.step, first.version))
        self.assertEqual(self.client.replay(t).head, 1)

    def test_key_comes_before_expect(self):
        t = self.new()
        self.client.append(t, b"a", key="k", expect=0)
        self.assertTrue(self.client.append(t, b"a", key="k", expect=0).duplicate)
        self.assertTrue(self.client.append(t, b"a", key="k", expect=99).duplicate)

    def test_other_bytes_or_kinds(self):
        t = self.new()
        self.client.append(t, [b"ab", b"c"], key="k")
        for other in ([b"a", b"bc"], [b"abc"], [b"ab", b"d"], [b"ab", ("opaque", b"c")], []):
            error = self.raises(rethread.Conflict, self.client.append, t, other, key="k")
            self.assertEqual((error.cause, error.version), ("key", 1))
        self.assertEqual(self.client.replay(t).head, 0)

    def test_rewound_step(self):
        t = self.new()
        self.client.append(t, b"0")
        self.client.append(t, b"1", key="k")
        self.client.rewind(t, 0)
        error = self.raises(rethread.Conflict, self.client.append, t, b"1", key="k")
        self.assertEqual((error.cause, error.version), ("key", 3))

    def test_remembered_for_64_appends(self):
        t = self.new()
        for n in range(65):
            self.client.append(t, b"%d" % n, key=b"k%d" % n)
        # The last 64 appends are steps 1 to 64.
        for n in (1, 30, 64):
            got = self.client.append(t, b"%d" % n, key=b"k%d" % n)
            self.assertTrue(got.duplicate, n)
            self.assertEqual(got.step, n)
        self.assertFalse(self.client.append(t, b"0", key="k0").duplicate)

    def test_not_inherited_by_forks(self):
        t, f = self.new(), self.new("f")
        self.client.append(t, b"a", key="k")
        self.client.fork(f, t)
        got = self.client.append(f, b"a", key="k")
        self.assertEqual((got.duplicate, got.step), (False, 1))

    def test_keys_belong_to_their_thread(self):
        for t in (self.new(), self.new()):
            self.assertFalse(self.client.append(t, b"a", key="k").duplicate)


class Incremental(ServerCase):
    def setUp(self):
        super().setUp()
        self.t = self.new()
        for n in range(4):
            self.client.append(self.t, b"%d" % n)

    def have(self, version, step):
        got = self.client.replay(self.t, have=(version, step))
        self.assertTrue(got.complete)
        return [(s.step, s.segments[0].data) for s in got.steps], got

    def test_nothing_new(self):
        steps, got = self.have(4, 3)
        self.assertEqual((steps, got.first_changed, got.version, got.head), ([], None, 4, 3))

    def test_new_steps(self):
        steps, got = self.have(2, 1)
        self.assertEqual((steps, got.first_changed), ([(2, b"2"), (3, b"3")], None))
        self.assertEqual(len(self.have(0, -1)[0]), 4, "the caller holds nothing")

    def test_replaced_steps(self):
        self.client.rewind(self.t, 1)
        self.client.append(self.t, b"2'")
        self.client.append(self.t, b"3'")
        self.client.append(self.t, b"4'")
        new = [(2, b"2'"), (3, b"3'"), (4, b"4'")]
        steps, got = self.have(4, 3)
        self.assertEqual((steps, got.first_changed), (new, 2))
        steps, got = self.have(2, 1)
        self.assertEqual((steps, got.first_changed), (new, None))
        # Held after the rewind: step 2 was new then, 3 and 4 are since.
        steps, got = self.have(6, 2)
        self.assertEqual((steps, got.first_changed), (new[1:], None))

    def test_rewound_and_not_replaced(self):
        self.client.rewind(self.t, 1)
        steps, got = self.have(4, 3)
        self.assertEqual((steps, got.head, got.version), ([], 1, 5))

    def test_another_life_of_the_id(self):
        # The holder's version lies ahead of the thread's: it belongs to a thread that is gone.
        self.client.forget(self.t)
        self.client.append(self.t, b"new")
        try:
            steps, _ = self.have(4, 3)
        except rethread.BadRequest:
            return
        self.assertEqual(steps, [(0, b"new")], "a stale holder must not be told that all is well")


class StepKeys(ServerCase):
    def data(self, replay):
        self.assertTrue(replay.complete, f"{replay.status} {replay.reason}")
        return [s.segments[0].data for s in replay.steps]

    def test_ends_at_the_newest_step_that_carried_it(self):
        t, r, c, p = self.new(), self.new("r"), self.new("c"), self.new()[-16:]
        self.client.append(t, b"0", response_id=r, tool_calls=[c, c + b"2"], prefix=p)
        self.client.append(t, b"1", response_id=r + b"1", tool_calls=[c], prefix=p)
        self.client.append(t, b"2")
        for key, expected in (
            ({"response_id": r}, [b"0"]), ({"response_id": r + b"1"}, [b"0", b"1"]),
            ({"tool_call": c}, [b"0", b"1"]), ({"tool_call": c + b"2"}, [b"0"]),
            ({"prefix": p}, [b"0", b"1"]),
        ):
            for scope in ({}, {"thread": t}):
                got = self.client.replay(**key, **scope)
                self.assertEqual(self.data(got), expected, key)
                self.assertEqual((got.thread, got.head, got.version), (t, 2, 3))
                self.assertFalse(got.ambiguous)

    def test_never_seen(self):
        for key in ("response_id", "tool_call", "prefix"):
            value = self.new()[-16:]
            got = self.client.replay(**{key: value})
            self.assertEqual((got.status, got.reason, got.steps), ("miss", "never_seen", ()))
            self.assertIsInstance(got.vouch_ms, int)

    def test_kinds_do_not_mix(self):
        t, key = self.new(), self.new()[-16:]
        self.client.append(t, b"0", response_id=key)
        self.assertEqual(self.client.replay(tool_call=key).reason, "never_seen")
        self.assertEqual(self.client.replay(prefix=key).reason, "never_seen")
        self.assertEqual(self.client.replay(key).reason, "never_seen")

    def test_shared(self):
        a, b, key, p = self.new("a"), self.new("b"), self.new("k"), self.new()[-16:]
        for t in (a, b):
            self.client.append(t, t, response_id=key, tool_calls=[key], prefix=p)
        for kind in ("response_id", "tool_call"):
            got = self.client.replay(**{kind: key})
            self.assertEqual((got.status, got.reason, got.steps), ("miss", "ambiguous", ()))
            for t in (a, b):
                self.assertEqual(self.data(self.client.replay(t, **{kind: key})), [t])
        got = self.client.replay(prefix=p)
        self.assertEqual((self.data(got), got.ambiguous, got.thread), ([b], True, b))

    def test_the_newest_is_gone(self):
        t, r = self.new(), self.new("r")
        self.client.append(t, b"0", response_id=r)
        self.client.append(t, b"1", response_id=r)
        self.client.rewind(t, 0)
        got = self.client.replay(response_id=r)
        self.assertEqual((got.status, got.reason, got.steps), ("miss", "rewound", ()),
                         "never an older step")
        self.client.append(t, b"1'", response_id=r)
        self.assertEqual(self.data(self.client.replay(response_id=r)), [b"0", b"1'"])
        self.client.forget(t)
        self.assertEqual(self.client.replay(response_id=r).reason, "forgotten")

    def test_recipe_continue_or_fork(self):
        t, f = self.new(), self.new("f")
        for n in range(3):
            self.client.append(t, b"%d" % n, response_id=t + b"%d" % n)
        got = self.client.replay(response_id=t + b"2")
        self.assertEqual(got.steps[-1].step, got.head)
        self.client.append(got.thread, b"3", expect=got.version)
        got = self.client.replay(response_id=t + b"1")
        self.assertLess(got.steps[-1].step, got.head)
        forked = self.client.fork(f, got.thread, at=got.steps[-1].step)
        self.client.append(f, b"2'", expect=forked.version)
        self.assertEqual(self.data(self.client.replay(f)), [b"0", b"1", b"2'"])
        self.assertEqual(self.data(self.client.replay(t)), [b"0", b"1", b"2", b"3"])


class Budget(ServerCase):
    def test_max_bytes(self):
        t = self.new()
        for n in range(10):
            self.client.append(t, bytes([n]) * 100)
        self.assertTrue(self.client.replay(t, max_bytes=1000).complete)
        for limit, kept in ((999, 9), (350, 3), (100, 1), (99, 0), (0, 0)):
            got = self.client.replay(t, max_bytes=limit)
            self.assertEqual(got.status, "partial")
            self.assertEqual(got.missing, {n: "budget" for n in range(10 - kept)}, limit)
            self.assertEqual([s.step for s in got.steps], list(range(10)))
            self.assertEqual([s.segments[0].data[0] for s in got.steps[10 - kept:]],
                             list(range(10 - kept, 10)))


class FrameBudget(ServerCase):
    FLAGS = ("--frame-max", "1M")

    def test_a_reply_never_exceeds_frame_max(self):
        t, client = self.new(), self.connect(frame_max=1 << 20)
        for n in range(40):
            client.append(t, bytes([n]) * 100000)
        got = client.replay(t)
        self.assertEqual(got.status, "partial")
        self.assertEqual(set(got.missing.values()), {"budget"})
        kept = [s for s in got.steps if s.missing is None]
        self.assertGreaterEqual(len(kept), 9)
        self.assertTrue(all(s.segments[0].data == bytes([s.step]) * 100000 for s in kept))
        self.assertEqual(client.hello().frame_max, 1 << 20)
        self.assertTrue(client.replay(t, last=5).complete)

    def test_a_request_over_frame_max(self):
        client = self.connect()
        self.raises(rethread.TooLarge, client.append, self.new(), bytes(1 << 20))
        client.append(self.new(), bytes((1 << 20) - 1000))


if __name__ == "__main__":
    unittest.main()
