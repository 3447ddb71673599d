"""Weaving with a real server between: unweave, append, replay, weave; with and without damage."""

import itertools
import os
import random
import re
import unittest

from damage import Damage, Recorded
from support import ROOT, canonical
from transcripts import Transcript, available, hard, real

from harness import ServerCase
from rethread.weave import unweave, weave

SCALE = int(os.environ.get("RETHREAD_TEST_SCALE", "100"))
HARD = max(5, 40 * SCALE // 100)
EVERY_REAL = 7
RESPONSE_BYTES_MAX = 8 << 20


class Served(ServerCase):
    def append(self, steps):
        """A thread with these steps."""
        thread = self.new()
        with self.client.pipeline() as pipe:
            sent = [pipe.append(thread=thread, expect=n, **step) for n, step in enumerate(steps)]
        for n, pending in enumerate(sent):
            self.assertEqual(pending.result().step, n)
        return thread

    def round_trip(self, t):
        how = t.as_, t.model, t.field
        visible, steps = unweave(t.value, *how)
        replay = self.client.replay(self.append(steps))
        if not steps:
            self.assertEqual((replay.status, replay.reason), ("miss", "never_seen"))
        else:
            self.assertEqual(replay.status, "complete", t.name)
        woven, report = weave(visible, replay, *how)
        self.assertTrue(canonical(woven) == canonical(t.value), f"{t.name}: not what it was")
        self.assertEqual(report.whole, replay.complete, f"{t.name}: {report}")
        self.assertEqual(report.unmatched, (), t.name)
        return len(steps)

    @unittest.skipUnless(available(), "needs ../shared/data")
    def test_real(self):
        steps = sum(self.round_trip(t) for t in itertools.islice(real(), 0, None, EVERY_REAL)
                    if len(str(t.value)) < RESPONSE_BYTES_MAX)
        self.assertGreater(steps, 200)

    def test_hard(self):
        for t in hard(HARD, first=5000):
            self.round_trip(t)

    def test_what_the_replay_leaves_out(self):
        """What a policy drops is no loss; what a budget drops is reported. The rest is in place."""
        t = Transcript("tool loop", "chat", [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": None, "reasoning_content": "x" * 1000, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "ok"},
            {"role": "assistant", "content": "b", "reasoning_content": "y" * 1000},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": None, "reasoning_content": "z" * 1000, "tool_calls": [
                {"id": "call_2", "type": "function", "function": {"name": "f"}}]},
            {"role": "tool", "tool_call_id": "call_2", "content": "ok"}], model="qwen3-32b")
        visible, steps = unweave(t.value, t.as_, t.model)
        thread = self.append(steps)
        woven, report = weave(visible, self.client.replay(thread, policy="current_turn"), "chat",
                              "qwen3-32b")
        self.assertEqual([m.get("reasoning_content", "")[:1] for m in woven],
                         ["", "", "", "", "", "z", ""])
        self.assertTrue(report.whole)
        self.assertEqual(report.unmatched, (0, 1))
        woven, report = weave(visible, self.client.replay(thread, max_bytes=2500), "chat",
                              "qwen3-32b")
        self.assertEqual([m.get("reasoning_content", "")[:1] for m in woven],
                         ["", "", "", "y", "", "z", ""])
        self.assertFalse(report.whole)
        self.assertEqual([(s.outcome, s.reason) for s in report.steps],
                         [("missing", "budget"), ("woven", None), ("woven", None)])

    def test_the_example_in_the_manual(self):
        """Runs as it stands there, and does what it says."""
        with open(os.path.join(ROOT, "src", "client", "python", "README.md"), encoding="utf-8") as f:
            blocks = re.findall(r"```python\n(.*?)```", f.read(), re.S)
        example, = (block for block in blocks if "unweave" in block)
        thread = self.new().decode()
        transcript = [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", "reasoning_content": "of old"},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d", "reasoning_content": "of now"}]
        names = {"client": self.client, "transcript": transcript}
        exec(compile(example.replace("conversation-42", thread), "README.md", "exec"), names)
        self.assertEqual([m.get("reasoning_content") for m in names["messages"]],
                         [None, None, None, "of now"])
        self.assertTrue(names["report"].whole)

    def test_damaged(self):
        """The visible part was changed after it was recorded: nothing lands where it was not."""
        sources = list(hard(max(3, HARD // 4), first=6000))
        if available():
            sources += [t for t in itertools.islice(real(), 1, None, 101)
                        if len(str(t.value)) < RESPONSE_BYTES_MAX]
        unmatched = woven_at_all = 0
        for t in sources:
            recorded = Recorded(t)
            replay = self.client.replay(self.append(recorded.steps))
            for kind in Damage.KINDS:
                damage = Damage(recorded, random.Random(f"{t.name} {kind}"))
                getattr(damage, kind)()
                woven, report = weave(damage.items, replay, *recorded.how)
                self.assertEqual(recorded.misplaced(woven), [], f"{t.name}, {kind}: {report}")
                self.assertEqual([s.step for s in report.steps], [s.step for s in replay.steps])
                unmatched += sum(s.outcome == "unmatched" for s in report.steps)
                woven_at_all += sum(s.outcome == "woven" for s in report.steps)
        self.assertGreater(unmatched, 50)
        self.assertGreater(woven_at_all, 10 * len(sources))


if __name__ == "__main__":
    unittest.main()
