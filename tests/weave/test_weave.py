"""Weaving in Python: what is taken apart comes together again, and nothing lands where it was not."""

import itertools
import os
import random
import unittest
from collections import Counter

from damage import NO_HASHES, Damage, Recorded, replays
from support import ENVELOPE, canonical, replay_of
from transcripts import available, hard, real

from rethread.weave import WeaveError, unweave, weave

SCALE = int(os.environ.get("RETHREAD_TEST_SCALE", "100"))
HARD = max(20, 200 * SCALE // 100)


def how(t):
    return t.as_, t.model, t.field


class RoundTrip(unittest.TestCase):
    def round_trip(self, t):
        """Taken apart and put together; (before, visible, steps)"""
        before = canonical(t.value)
        visible, steps = unweave(t.value, *how(t))
        self.assertTrue(all(self.can_be_appended(step) for step in steps), t.name)
        woven, report = weave(visible, replay_of(steps), *how(t))
        self.assertTrue(canonical(woven) == before, f"{t.name}: not what it was")
        self.assertTrue(report.whole, f"{t.name}: {report}")
        self.assertEqual(report.unmatched, (), t.name)
        self.assertEqual([s.outcome for s in report.steps],
                         ["woven" if step["segments"] else "bare" for step in steps], t.name)
        return before, visible, steps

    @staticmethod
    def can_be_appended(step):
        ids = step.get("tool_calls", ())
        return (len(step["segments"]) <= 64 and all(data for _, data in step["segments"])
                and len(ids) <= 128 and all(1 <= len(i.encode()) <= 255 for i in ids)
                and len(step["visible"]) == 16)

    @unittest.skipUnless(available(), "needs ../shared/data")
    def test_real(self):
        plain, blocks = dict.fromkeys(("chat", "anthropic"), 0), dict.fromkeys(
            ("chat", "anthropic", "responses"), 0)
        for t in real():
            for step in self.round_trip(t)[2]:
                for _, data in step["segments"]:
                    counted = blocks if data.startswith(ENVELOPE) else plain
                    counted[t.as_] += 1
        self.assertGreater(min(plain.values()), 500, "few plain steps: no test of real traffic")
        self.assertGreater(min(blocks.values()), 10, "few envelopes")

    def test_hard(self):
        for t in hard(HARD):
            before, visible, steps = self.round_trip(t)
            self.assertEqual(canonical(t.value), before, f"{t.name}: the input was changed")
            again, bare = unweave(visible, *how(t))
            self.assertEqual(canonical(again), canonical(visible), f"{t.name}: hidden left in")
            self.assertFalse(any(step["segments"] for step in bare), t.name)
            twice, report = weave(t.value, replay_of(steps), *how(t))
            self.assertEqual(canonical(twice), before, f"{t.name}: woven twice")

    def test_plain_where_it_can_be(self):
        message = {"role": "assistant", "content": "b", "reasoning_content": "a"}
        _, steps = unweave([message], "chat", "qwen3-32b")
        self.assertEqual(steps[0]["segments"], [("text", b"a")])
        content = [{"type": "thinking", "thinking": "a", "signature": "s"},
                   {"type": "redacted_thinking", "data": "d"}, {"type": "text", "text": "b"}]
        _, steps = unweave([{"role": "assistant", "content": content}], "anthropic")
        self.assertEqual(steps[0]["segments"],
                         [("text", b"a"), ("opaque", b"s"), ("opaque", b"d")])

    def test_reasoning_alone_is_the_exception(self):
        items = [{"role": "user", "content": "a"}, {"type": "reasoning", "id": "rs_1"},
                 {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]
        visible, steps = unweave(items, "responses")
        woven, report = weave(visible, replay_of(steps), "responses")
        self.assertEqual(woven, visible)
        self.assertEqual([s.outcome for s in report.steps], ["unmatched", "bare"])
        self.assertFalse(report.whole)

    def test_what_is_no_transcript(self):
        for as_, value in (("chat", {}), ("chat", "a"), ("responses", "a"), ("chat", None),
                           ("anthropic", {"input": []}), ("letters", []), ("chat", [[]]),
                           ("chat", [{"role": "assistant", "content": 1}]),
                           ("chat", [{"role": "assistant", "reasoning": "\ud800"}]),
                           ("chat", [{"role": "assistant", "content": "\ud800"}]),
                           ("chat", [{"role": "assistant", "reasoning": {"a\0": 1}}]),
                           ("chat", [{"role": "assistant", "reasoning_details": float("nan")}]),
                           ("chat", [{"role": "assistant", "reasoning_details": object()}])):
            with self.subTest(as_=as_, value=value), self.assertRaises(WeaveError):
                unweave(value, as_)
        for field in ("", "role", "content", "tool_calls", "x" * 65):
            with self.subTest(field=field), self.assertRaises(WeaveError):
                unweave([], "chat", field=field)


class Damaged(unittest.TestCase):
    """No reasoning lands beside a reply that it was not produced with."""

    def judge(self, t, unique_ids):
        """All damage, woven with the whole replay and with parts of it."""
        recorded = Recorded(t, unique_ids)
        outcomes = Counter()
        for kind in Damage.KINDS:
            rng = random.Random(f"{t.name} {kind}")
            damage = Damage(recorded, rng)
            getattr(damage, kind)()
            for n, replay in enumerate(replays(recorded, rng)):
                # Without hashes the position is all there is, and says nothing of what is there now.
                if n == NO_HASHES and kind in ("substitute", "swap"):
                    continue
                woven, report = weave(damage.items, replay, *recorded.how)
                self.assertEqual(recorded.misplaced(woven), [],
                                 f"{t.name}, {kind}, replay {n}: {report.as_json()}")
                outcomes.update((kind, n, step.outcome) for step in report.steps)
        return outcomes

    def test_repeated_ids(self):
        for t in hard(HARD // 5, first=3000):
            self.judge(t, unique_ids=False)

    def test_unique_ids(self):
        for t in hard(HARD // 10, first=4000):
            self.judge(t, unique_ids=True)

    @unittest.skipUnless(available(), "needs ../shared/data")
    def test_real(self):
        outcomes = Counter()
        for t in itertools.islice(real(), 0, None, 41):
            if len(str(t.value)) < 300_000:
                outcomes += self.judge(t, unique_ids=True)
        for kind in Damage.KINDS:
            self.assertGreater(outcomes[kind, 0, "woven"], 20, f"after {kind} little is woven")
        # One reply is gone from each conversation; all others find their reasoning.
        self.assertLess(outcomes["remove", 0, "unmatched"], outcomes["remove", 0, "woven"])
        self.assertGreater(outcomes["remove", 0, "unmatched"], 5)


if __name__ == "__main__":
    unittest.main()
