"""The C and the Python implementation of weaving give the same, down to the report."""

import itertools
import json
import os
import random
import unittest

from damage import Damage, Recorded, replays
from support import BATCH, Batch, as_json, canonical, held, replay_of
from transcripts import Hard, available, hard, real

from rethread.types import Replay, Segment, Step
from rethread.weave import unweave, weave

SCALE = int(os.environ.get("RETHREAD_TEST_SCALE", "100"))
HARD = max(10, 60 * SCALE // 100)
REAL_BYTES_MAX = 200_000

NO_UTF8 = (b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80")
BLOCKS = (
    {"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "thinking"},
    {"type": "redacted_thinking", "data": "d"}, {"type": "reasoning", "id": "rs_1", "summary": []},
    {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "x"}, {"text": "y"}]},
    {"type": "reasoning", "content": [1, {"text": 2}, {"text": ""}]}, {"type": "text"}, {},
    {"field": "reasoning", "value": "r"}, {"field": "reasoning_content", "value": None},
    {"field": "content", "value": "c"}, {"field": "thinking"}, {"field": 1, "value": 1},
    {"field": "thinking", "value": "v", "type": "thinking", "thinking": "w"},
    {"type": 1}, {"type": "thinking", "thinking": 5, "signature": []},
    {"type": "thinking\0", "thinking": "n"}, {"field": "reasoning\0", "value": "n"},
)


class Strange:
    """Segments as nobody unweaves them: by hand, by other programs, or broken."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def block(self):
        return self.rng.choice(BLOCKS)

    def envelope(self):
        entries = [{"at": self.rng.choice((0, 0, 0, 1, 2, 7, 10**6)), "block": self.block()}
                   for _ in range(self.rng.randrange(4))]
        value = {"rethread": "blocks", "blocks": entries}
        if self.rng.random() < 0.2:
            value = self.rng.choice((
                {"rethread": "blocks"}, {"rethread": "blocks\0", "blocks": entries},
                {"rethread": "blocks", "blocks": {}}, {"rethread": 1, "blocks": []},
                {"rethread": "blocks", "blocks": [*entries, {"at": 0}]},
                {"rethread": "blocks", "blocks": [{"at": -1, "block": {}}]},
                {"rethread": "blocks", "blocks": [{"at": 1.0, "block": {}}]},
                {"rethread": "blocks", "blocks": [{"at": True, "block": {}}]},
                {"rethread": "blocks", "blocks": [{"at": 10**30, "block": self.block()}]},
                {"rethread": "blocks", "blocks": [entries]}))
        data = json.dumps(value, separators=(",", ":")).encode()
        cut = self.rng.random()
        return data[:-1] if cut < 0.05 else data + b"\n" if cut < 0.1 else data

    def segment(self):
        choice = self.rng.randrange(9)
        if choice < 2:
            return Segment("text", self.rng.choice((b"a", "é😀".encode(), b"\0", b"{}", b"b")))
        if choice == 2:
            return Segment(self.rng.choice(("text", "opaque")), self.rng.choice(NO_UTF8))
        if choice == 3:
            return Segment("tokens", b"\1\0\0\0")
        if choice == 4:
            return Segment("opaque", self.rng.choice((b"sig", b"{", b"{}", b"[]", b'"', b" ")))
        if choice == 5:
            space = self.rng.choice((b"", b"", b" \n\t\r", b"\xef\xbb\xbf", b"\f"))
            return Segment("opaque", space + json.dumps(self.block()).encode())
        return Segment("opaque", self.envelope())

    def replay(self, steps):
        """The steps, some of them strange, missing, left out, or with less to know them by."""
        changed = []
        for number, step in enumerate(steps):
            step = held(number, step)
            change = self.rng.random()
            segments = tuple(self.segment() for _ in range(self.rng.choice((0, 1, 1, 2, 3, 5))))
            visible = None if self.rng.random() < 0.3 else step.visible
            ids = step.tool_calls if self.rng.random() < 0.8 else tuple(
                self.rng.choice((b"call_1", b"call_2", b"other")) for _ in range(2))
            if change < 0.1:
                changed.append(Step(step=number, missing="evicted"))
            elif change < 0.9:
                changed.append(Step(step=number, segments=segments, visible=visible, turn=step.turn,
                                    final=step.final, tool_calls=ids))
        head = self.rng.choice((len(steps) - 1, len(steps) - 1, len(steps) - 1, len(steps), 0))
        return Replay(status="partial", steps=tuple(changed), head=None if head < 0 else head)


@unittest.skipUnless(os.path.exists(BATCH), f"{BATCH} has not been built")
class Both(unittest.TestCase):
    maxDiff = 3000

    def setUp(self):
        self.batch = Batch()
        self.addCleanup(self.batch.close)
        self.wanted = []

    def unweave(self, t):
        """Asks both; the visible transcript and the steps."""
        how = t.as_, t.model, t.field
        visible, steps = unweave(t.value, *how)
        self.batch.unweave(t.value, *how)
        told = [{name: v for name, v in as_json(s).items() if name != "model"} for s in steps]
        self.wanted.append((t.name, canonical(visible), told))
        return visible, steps

    def weave(self, name, value, replay, how):
        woven, report = weave(value, replay, *how)
        self.batch.weave(value, replay, *how)
        told = report.as_json()
        del told["whole"]
        self.wanted.append((name, canonical(woven), told))

    def compare(self):
        for (name, value, told), answer in zip(self.wanted, self.batch.answers(), strict=True):
            if isinstance(answer, str):
                self.fail(f"{name}: C refuses: {answer}")
            got, got_told = answer
            if isinstance(got_told, list):
                got_told = [as_json(step) for step in got_told]
            self.assertEqual(got_told, told, name)
            self.assertTrue(canonical(got) == value, f"{name}: another transcript")
        return len(self.wanted)

    @unittest.skipUnless(available(), "needs ../shared/data")
    def test_real(self):
        for t in itertools.islice(real(), 0, None, 2):
            if len(str(t.value)) <= REAL_BYTES_MAX:
                visible, steps = self.unweave(t)
                self.weave(t.name, visible, replay_of(steps), (t.as_, t.model, t.field))
        self.assertGreater(self.compare(), 500)

    def test_hard(self):
        for t in hard(HARD, first=1000):
            visible, steps = self.unweave(t)
            how = t.as_, t.model, t.field
            self.weave(t.name, visible, replay_of(steps), how)
            self.weave(f"{t.name}, already", t.value, replay_of(steps), how)
            for seed in range(2):
                replay = Strange(f"{t.name} {seed}").replay(steps)
                self.weave(f"{t.name}, strange {seed}", visible, replay, how)
        self.compare()

    def test_from_one_format_to_another(self):
        for seed in range(HARD):
            for source, target in (("chat", "anthropic"), ("anthropic", "responses"),
                                   ("responses", "chat"), ("anthropic", "chat")):
                a, b = (Hard(seed, as_).transcript() for as_ in (source, target))
                visible, _ = unweave(b.value, b.as_, b.model, b.field)
                _, steps = unweave(a.value, a.as_, a.model, a.field)
                self.weave(f"{a.name} as {b.name}", visible, replay_of(steps),
                           (b.as_, b.model, b.field))
        self.compare()

    def test_damaged(self):
        for t in hard(max(5, HARD // 4), first=2000):
            recorded = Recorded(t)
            for kind in Damage.KINDS:
                rng = random.Random(f"{t.name} {kind}")
                damage = Damage(recorded, rng)
                getattr(damage, kind)()
                for n, replay in enumerate(replays(recorded, rng)):
                    self.weave(f"{t.name}, {kind}, {n}", damage.items, replay, recorded.how)
        self.compare()


if __name__ == "__main__":
    unittest.main()
