"""Which steps a model's next call is given, and why the others are not: policies, bindings, budgets,
and what a worker with a KV cache is told."""

import os
import random
import tempfile
import unittest

import raw
from harness import ServerCase, refused
from shapes import Holder, play, prefix_of


class ReplayCase(ServerCase):
    def setUp(self):
        super().setUp()
        self.raw = self.raw_client()

    def raw_client(self):
        client = raw.Client(self.server)
        self.addCleanup(client.close)
        return client

    def keeps(self, thread, stored, kept, **options):
        """A complete replay that keeps just these steps and says which it left out."""
        what = options.pop("what", options)
        got = self.raw.replay(thread, **options)
        self.assertEqual((got.status, got.reason), ("complete", None), what)
        self.assertEqual(got.data, {n: stored[n] for n in kept}, what)
        return got

    def drops(self, thread, stored, kept, **options):
        """The same, with kept_from and dropped."""
        got = self.keeps(thread, stored, kept, **options)
        self.assertEqual((got.kept_from, got.dropped),
                         (min(kept, default=len(stored)), len(stored) - len(kept)), options)
        return got

    def lacks(self, got, missing, status="partial"):
        self.assertEqual((got.status, got.missing), (status, missing))
        return got

    def raises_refused(self, code, call, *args, **kwargs):
        error = self.raises(raw.Refused, call, *args, **kwargs)
        self.assertEqual(error.code, code, error)
        return error


QWEN = "1f 2t 2T 2f 3t 3t"  # two turns done, in the middle of a tool loop
CHAT = "1f 2f 3f"
MIXED = "1f 2t 2f 3f 4t 4f 5f"
BROKEN_OFF = "1t 1t 2t 2f 4t"  # the user cut in on the first turn; two messages in a row later

# shape, policy and its options, the steps that it keeps
POLICIES = [
    (QWEN, "current_turn", {}, [4, 5]),
    (QWEN, "current_turn", {"turn": 3}, [4, 5]),
    (QWEN, "current_turn", {"turn": 4}, []),
    (QWEN, "current_turn", {"turn": 2}, [1, 2, 3, 4, 5]),
    (QWEN, "since_final", {}, [4, 5]),
    (QWEN, "tool_turns", {}, [1, 2, 3, 4, 5]),
    (QWEN, "last_turns", {"turns": 1}, [4, 5]),
    (QWEN, "last_turns", {"turns": 2}, [1, 2, 3, 4, 5]),
    (QWEN, "last_turns", {"turns": 3}, [0, 1, 2, 3, 4, 5]),
    (QWEN, "last_turns", {"turns": 4294967295}, [0, 1, 2, 3, 4, 5]),
    (QWEN, "none", {}, []),
    (CHAT, "current_turn", {}, [2]),
    (CHAT, "current_turn", {"turn": 4}, []),
    (CHAT, "since_final", {}, []),
    (CHAT, "tool_turns", {}, []),
    (CHAT, "last_turns", {"turns": 1}, [2]),
    # DeepSeek-V4: a turn's reasoning is kept for good when a tool was called in it.
    (MIXED, "tool_turns", {}, [1, 2, 4, 5]),
    (MIXED, "tool_turns", {"turn": 6}, [1, 2, 4, 5]),
    (MIXED, "current_turn", {}, [6]),
    (MIXED, "since_final", {}, []),
    # Kimi: the boundary is the last answer, not the last question.
    (BROKEN_OFF, "since_final", {}, [4]),
    (BROKEN_OFF, "current_turn", {}, [4]),
    (BROKEN_OFF, "current_turn", {"turn": 3}, [4]),
    (BROKEN_OFF, "tool_turns", {}, [0, 1, 2, 3, 4]),
    (BROKEN_OFF, "last_turns", {"turns": 2}, [2, 3, 4]),
    ("1t 1t 2t", "since_final", {}, [0, 1, 2]),
    ("1t 1t 2t", "current_turn", {}, [2]),
    ("1i 2f", "tool_turns", {}, [0]),
    ("1i 2i", "since_final", {}, [0, 1]),
    # No user message yet; bare steps count for turns and finals.
    ("0t 0f", "current_turn", {}, [0, 1]),
    ("0t 0t", "since_final", {}, [0, 1]),
    ("1t 1fb 2t", "since_final", {}, [2]),
    ("1tb 1f 2fb", "tool_turns", {}, [0, 1]),
    ("1f 2fb", "last_turns", {"turns": 1}, [1]),
    ("1tb", "current_turn", {}, [0]),
    # A turn with a final step in its middle: a tool was called all the same.
    ("1f 1t 1f 2f", "tool_turns", {}, [0, 1, 2]),
    ("1f 1t 1t", "since_final", {}, [1, 2]),
]


class Policies(ReplayCase):
    def test_every_policy(self):
        for shape, policy, options, kept in POLICIES:
            t = self.new()
            stored = play(self.raw, t, shape)
            with self.subTest(shape=shape, policy=policy, **options):
                got = self.drops(t, stored, kept, policy=policy, **options)
                self.assertEqual(got.head, len(stored) - 1)
                again = self.drops(t, stored, kept, policy=policy, touch=False, **options)
                self.assertEqual(again.version, len(stored))

    def test_all_is_the_default_and_says_nothing(self):
        t = self.new()
        stored = play(self.raw, t, MIXED)
        for options in ({}, {"policy": "all"}, {"policy": "all", "turn": 9}):
            got = self.keeps(t, stored, range(7), **options)
            self.assertEqual((got.kept_from, got.dropped), (None, None))

    def test_without_steps(self):
        t = self.new()
        play(self.raw, t, "1f")
        self.raw.rewind(t, -1)
        for policy in ("none", "current_turn", "since_final", "tool_turns"):
            self.drops(t, {}, [], policy=policy)
        self.drops(t, {}, [], policy="last_turns", turns=1)
        got = self.raw.replay(self.new(), policy="current_turn")
        self.assertEqual((got.status, got.reason, got.kept_from), ("miss", "never_seen", None))

    def test_forks_and_rewinds(self):
        t, f = self.new(), self.new("f")
        stored = play(self.raw, t, "1t 1f 2t 2f 3t")
        self.raw.fork(f, t, at=2)
        forked = {n: stored[n] for n in range(3)}
        self.drops(f, forked, [2], policy="since_final")
        self.drops(f, forked, [2], policy="current_turn")
        forked.update(play(self.raw, f, "2t 2t"))
        self.drops(f, forked, [2, 3, 4], policy="since_final")
        self.drops(f, forked, [0, 1, 2, 3, 4], policy="tool_turns")
        # The rewind takes the tool call of turn 2 back, and the answer behind it.
        self.raw.rewind(t, 1)
        del stored[2], stored[3], stored[4]
        self.drops(t, stored, [], policy="since_final")
        stored.update(play(self.raw, t, "2f"))
        self.drops(t, stored, [0, 1], policy="tool_turns")
        self.drops(t, stored, [2], policy="last_turns", turns=1)

    def test_up_to_a_step(self):
        t = self.new()
        serial = {}

        def each(n):
            serial[n] = t + b"r%d" % n
            return {"response_id": serial[n]}
        stored = play(self.raw, t, QWEN, each)
        for n, policy, kept in ((3, "current_turn", [1, 2, 3]), (2, "since_final", [1, 2]),
                                (0, "current_turn", [0]), (2, "tool_turns", [1, 2])):
            got = self.raw.replay(response_id=serial[n], policy=policy)
            self.assertEqual((got.status, got.data), ("complete", {k: stored[k] for k in kept}), n)
            self.assertEqual((got.kept_from, got.dropped, got.head), (kept[0], n + 1 - len(kept), 5))

    def test_over_what_was_lost(self):
        t = self.new()
        self.raw.append(t, b"gone", turn=1, ttl_ms=1)
        while self.raw.replay(t, touch=False).status != "miss":
            pass
        stored = {0: b""} | play(self.raw, t, "2t 2f 3f", lambda n: {"ttl_ms": 60000})
        # Turn 2 is whole and kept: what came before it is left out, lost or not.
        self.drops(t, stored, [3], policy="current_turn")
        self.drops(t, stored, [3], policy="last_turns", turns=1)
        # Whether the lost one belongs to turn 2 nobody knows: it is told as missing.
        got = self.lacks(self.raw.replay(t, policy="last_turns", turns=2), {0: "expired"})
        self.assertEqual(sorted(got.kept), [1, 2, 3])
        self.lacks(self.raw.replay(t, policy="current_turn", turn=2), {0: "expired"})

    def test_last_and_policy_together(self):
        t = self.new()
        stored = play(self.raw, t, QWEN)
        self.keeps(t, stored, [5], policy="current_turn", last=1)
        self.keeps(t, stored, [4, 5], policy="current_turn", last=4)
        self.keeps(t, stored, [], policy="none", last=3)

    def test_bad_requests(self):
        for names, options in (
            ("policy", {"policy": "some"}), ("policy", {"policy": 1}), ("turns", {"turns": 1}),
            ("turns", {"policy": "last_turns"}), ("turns", {"policy": "last_turns", "turns": 0}),
            ("turns", {"policy": "all", "turns": 2}), ("turn", {"turn": -1}),
            ("on_mismatch", {"on_mismatch": "ignore"}), ("prefixes", {"prefixes": [[0, b"short"]]}),
            ("prefixes", {"prefixes": [[-1, bytes(16)]]}), ("prefixes", {"prefixes": [bytes(16)]}),
            ("prefixes", {"prefixes": 3}), ("max_tokens", {"max_tokens": -1}), ("pin", {"pin": 1}),
            ("have", {"have": {"version": 1, "step": 1, "kept": [1, 0]}}),
            ("have", {"have": {"version": 1, "step": 1, "kept": [2]}}),
            ("have", {"have": {"version": 1, "step": 1, "kept": [0, 0]}}),
            ("have", {"have": {"version": 1, "step": 1, "kept": 0}}),
            ("have", {"have": {"version": 1, "step": 1, "kept": [-1]}}),
            ("prefix", {"prefix": []}), ("prefix", {"prefix": [b"short"]}),
        ):
            self.bad(names, "replay", {"thread": "t", **options})


class Bindings(ReplayCase):
    """A step that was produced under another context, or by a model whose trace is no use here."""

    def bound(self, count, skip=()):
        t = self.new()
        stored = play(self.raw, t, "1f " * count,
                      lambda n: {} if n in skip else {"prefix": prefix_of(t, n)})
        return t, stored, [[n, prefix_of(t, n)] for n in range(count)]

    def test_prefix_mismatch(self):
        t, stored, same = self.bound(5)
        for prefixes in (same, same[::-1], same[2:3], [], same + [[5, prefix_of("more")]],
                         same + [[4000000000, prefix_of("far")]]):
            self.keeps(t, stored, range(5), prefixes=prefixes)
        for changed in range(5):
            now = same[:changed] + [[n, prefix_of("edited", n)] for n in range(changed, 5)]
            for prefixes in (now, now[::-1], [now[changed]], same[:changed] + [now[changed]],
                             now[:changed + 1] + same[changed + 1:]):
                got = self.raw.replay(t, prefixes=prefixes)
                self.lacks(got, {n: "prefix_mismatch" for n in range(changed, 5)})
                self.assertEqual(got.data, {n: stored[n] for n in range(changed)})
                self.lacks(self.raw.replay(t, prefixes=prefixes, on_mismatch="drop"), got.missing)
                got = self.raw.replay(t, prefixes=prefixes, on_mismatch="fail")
                self.assertEqual((got.status, got.reason), ("miss", "prefix_mismatch"))
                self.assertEqual((got.numbers, got.thread), ([], t))
        self.keeps(t, stored, range(5), prefixes=same, on_mismatch="fail")

    def test_without_a_stored_prefix_nothing_differs(self):
        t, stored, same = self.bound(4, skip=(0, 2))
        self.keeps(t, stored, range(4), prefixes=same, on_mismatch="fail")
        self.keeps(t, stored, range(4), prefixes=[[0, prefix_of("x")], [2, prefix_of("y")]])
        # What lies behind a step that differs was produced under it, bound or not.
        self.lacks(self.raw.replay(t, prefixes=[[1, prefix_of("x")]]),
                   {n: "prefix_mismatch" for n in (1, 2, 3)})

    def test_prefixes_and_policy(self):
        t = self.new()
        stored = play(self.raw, t, QWEN, lambda n: {"prefix": prefix_of(t, n)})
        # An edit below the boundary changed the context of all that follows.
        got = self.raw.replay(t, policy="current_turn", prefixes=[[1, prefix_of("edited")]])
        self.lacks(got, {4: "prefix_mismatch", 5: "prefix_mismatch"})
        self.assertEqual((got.kept_from, got.dropped), (4, 4))
        got = self.raw.replay(t, policy="current_turn", prefixes=[[5, prefix_of("edited")]])
        self.lacks(got, {5: "prefix_mismatch"})
        self.assertEqual(got.data, {4: stored[4]})

    def test_prefixes_in_a_fork(self):
        t, stored, same = self.bound(4)
        f = self.new("f")
        self.raw.fork(f, t, at=1)
        forked = {0: stored[0], 1: stored[1]} | play(
            self.raw, f, "1f 1f", lambda n: {"prefix": prefix_of(f, n + 2)})
        mine = same[:2] + [[2, prefix_of(f, 2)], [3, prefix_of(f, 3)]]
        self.keeps(f, forked, range(4), prefixes=mine, on_mismatch="fail")
        self.lacks(self.raw.replay(f, prefixes=same), {2: "prefix_mismatch", 3: "prefix_mismatch"})
        self.lacks(self.raw.replay(t, prefixes=mine), {2: "prefix_mismatch", 3: "prefix_mismatch"})

    def test_model_mismatch(self):
        t = self.new()
        models = ["claude-opus-4-1", "claude-opus-4-1", "Qwen/Qwen3-32B", None, "claude-opus-4-1"]
        stored = play(self.raw, t, "1t 1t 1t 1t 1f",
                      lambda n: {"model": models[n]} if models[n] else {})
        self.keeps(t, stored, range(5))
        self.keeps(t, stored, range(5), on_mismatch="fail")
        # Signed blocks are of use to the very model that made them; nobody's are anybody's.
        got = self.raw.replay(t, model="Qwen/Qwen3-32B")
        self.lacks(got, {n: "model_mismatch" for n in (0, 1, 4)})
        self.assertEqual(got.data, {n: stored[n] for n in (2, 3)})
        got = self.raw.replay(t, model="Qwen/Qwen3-32B", on_mismatch="fail")
        self.assertEqual((got.status, got.reason, got.numbers), ("miss", "model_mismatch", []))
        got = self.raw.replay(t, model="Qwen/Qwen3-32B", on_mismatch="fail", last=1)
        self.assertEqual((got.status, got.reason), ("miss", "model_mismatch"))
        # What the policy leaves out is no mismatch.
        self.keeps(t, stored, [], model="Qwen/Qwen3-32B", on_mismatch="fail", policy="none")
        self.raw.rewind(t, 3)
        self.raw.append(t, b"on", turn=2, model="Qwen/Qwen3-4B")
        self.keeps(t, {4: b"on"}, [4], model="Qwen/Qwen3-32B", on_mismatch="fail",
                   policy="current_turn")

    def test_both_mismatches(self):
        t = self.new()
        models = ["claude-opus-4-1", "Qwen/Qwen3-8B", "claude-opus-4-1"]
        play(self.raw, t, "1t 1t 1f",
             lambda n: {"model": models[n], "prefix": prefix_of(t, n)})
        got = self.raw.replay(t, model="Qwen/Qwen3-8B", prefixes=[[1, prefix_of("edited")]])
        self.assertEqual((got.status, got.missing[0], got.missing[1]),
                         ("partial", "model_mismatch", "prefix_mismatch"))
        self.assertIn(got.missing[2], ("model_mismatch", "prefix_mismatch"))
        # A mismatch is no matter of size: it does not count against a budget.
        got = self.raw.replay(t, model="Qwen/Qwen3-8B", max_bytes=len(t) + 40)
        self.assertEqual(got.missing, {0: "model_mismatch", 2: "model_mismatch"})


class Budgets(ReplayCase):
    def test_max_tokens(self):
        t = self.new()
        sizes = [(400, 7), (10, None), (1, None), (9, 0), (4000, 5), (8, None)]
        for size, tokens in sizes:
            self.raw.append(t, bytes(size), **({} if tokens is None else {"tokens": tokens}))
        # Tokens as they were given, else one for each 4 bytes, begun ones whole: 7 3 1 0 5 2.
        for limit, kept in ((100, 6), (18, 6), (17, 5), (11, 5), (10, 4), (8, 4), (7, 3), (6, 1),
                            (2, 1), (1, 0), (0, 0)):
            got = self.raw.replay(t, max_tokens=limit)
            self.assertEqual(sorted(got.kept), list(range(6 - kept, 6)), limit)
            self.assertEqual(got.missing, {n: "budget" for n in range(6 - kept)}, limit)
            self.assertEqual(got.status, "partial" if kept < 6 else "complete")
        # Whichever is nearer; and never an older step past one that did not fit.
        self.assertEqual(sorted(self.raw.replay(t, max_tokens=7, max_bytes=4008).kept), [4, 5])
        self.assertEqual(sorted(self.raw.replay(t, max_tokens=2, max_bytes=1 << 40).kept), [5])
        self.assertEqual(sorted(self.raw.replay(t, max_tokens=6, max_bytes=100).kept), [5])

    def test_of_what_the_policy_keeps(self):
        t = self.new()
        stored = play(self.raw, t, QWEN, lambda n: {"tokens": 10})
        got = self.raw.replay(t, policy="current_turn", max_tokens=10)
        self.lacks(got, {4: "budget"})
        self.assertEqual((got.data, got.kept_from, got.dropped), ({5: stored[5]}, 4, 4))
        self.drops(t, stored, [4, 5], policy="current_turn", max_tokens=20)
        self.drops(t, stored, [1, 2, 3, 4, 5], policy="tool_turns", max_tokens=50)
        self.lacks(self.raw.replay(t, policy="tool_turns", max_tokens=49), {1: "budget"})
        # A bare step costs nothing.
        self.raw.append(t, turn=3, tokens=0)
        self.assertEqual(sorted(self.raw.replay(t, max_tokens=0).kept), [6])


PROFILES = """
# who serves what
private-*      last_turns:2  thinking           itself   # ours
open-*         none          reasoning          anyone
qwen3*         all           reasoning_content  anyone
"""


class Profiles(ReplayCase):
    BUILT_IN = {
        "Qwen/Qwen3-32B": {"policy": "current_turn"},
        "deepseek-ai/DeepSeek-V3.2": {"policy": "current_turn"},
        "zai-org/GLM-4.6": {"policy": "current_turn"},
        "MiniMaxAI/MiniMax-M2": {"policy": "current_turn"},
        "moonshotai/Kimi-K2-Thinking": {"policy": "since_final"},
        "openai/gpt-oss-120b": {"policy": "since_final"},
        "deepseek-ai/DeepSeek-V4": {"policy": "tool_turns"},
        "claude-opus-4-1": {"policy": "last_turns", "turns": 1},
        "claude-opus-4-5": {"policy": "all"},
    }

    def same(self, thread, as_asked, **options):
        """auto answers what the policy itself would."""
        got = self.raw.replay(thread, policy="auto", **options)
        want = self.raw.replay(thread, **as_asked, **options)
        self.assertEqual((got.status, got.data), (want.status, want.data), options)
        if as_asked["policy"] != "all":
            self.assertEqual((got.kept_from, got.dropped), (want.kept_from, want.dropped))
        return got

    def test_auto(self):
        for shape in (QWEN, CHAT, MIXED, BROKEN_OFF):
            for model, policy in self.BUILT_IN.items():
                t = self.new()
                stored = play(self.raw, t, shape, lambda n, m=model: {"model": m})
                with self.subTest(shape=shape, model=model):
                    got = self.same(t, policy)
                    self.same(t, policy, model=model)
                    self.assertEqual(got.status, "complete")
                    self.same(t, policy, turn=9)
                    for n, data in got.data.items():
                        self.assertEqual(data, stored[n])

    def test_auto_by_the_newest_step_that_says(self):
        t = self.new()
        models = ["openai/gpt-oss-120b", "Qwen/Qwen3-32B", None]
        play(self.raw, t, "1f 2t 3t", lambda n: {"model": models[n]} if models[n] else {})
        self.assertEqual(sorted(self.raw.replay(t, policy="auto").kept), [2])
        self.assertEqual(self.raw.replay(t, policy="auto", model="moonshotai/Kimi-K2-Thinking").kept
                         .keys(), {1, 2})
        nobody = self.new()
        stored = play(self.raw, nobody, QWEN)
        got = self.raw.replay(nobody, policy="auto")
        self.assertEqual(got.status, "complete")
        self.assertLessEqual(set(got.data), set(stored))

    def test_a_users_file(self):
        with tempfile.NamedTemporaryFile("w", suffix=".profiles") as file:
            file.write(PROFILES)
            file.flush()
            server = self.started("--profiles", file.name)
            self.raw = raw.Client(server)
            self.addCleanup(self.raw.close)
            for model, policy in (("private-7b", {"policy": "last_turns", "turns": 2}),
                                  ("us/Private-7B", {"policy": "last_turns", "turns": 2}),
                                  ("open-1", {"policy": "none"}),
                                  ("Qwen/Qwen3-32B", {"policy": "all"}),
                                  ("openai/gpt-oss-120b", {"policy": "since_final"})):
                t = self.new()
                play(self.raw, t, MIXED + " 5t", lambda n, m=model: {"model": m})
                with self.subTest(model=model):
                    self.same(t, policy)
            t = self.new()
            models = ["private-7b", "open-1", "private-70b"]
            play(self.raw, t, "1t 1t 1f", lambda n: {"model": models[n]})
            got = self.raw.replay(t, model="private-7b")
            self.lacks(got, {2: "model_mismatch"})
            self.lacks(self.raw.replay(t, model="open-1"),
                       {0: "model_mismatch", 2: "model_mismatch"})
            server.stop()

    def test_a_bad_file_is_refused(self):
        for text, said in (("a* none reasoning anyone\nb* sometimes reasoning anyone\n", "2"),
                           ("a* none reasoning\n", "1"), ("\n\na* last_turns reasoning anyone", "3"),
                           ("a* none reasoning everybody", "1")):
            with tempfile.NamedTemporaryFile("w", suffix=".profiles") as file:
                file.write(text)
                file.flush()
                code, log = refused("--profiles", file.name)
                self.assertEqual(code, refused("--loops", "x")[0], log)
                self.assertIn(said, log.replace(file.name, ""), text)
        missing = os.path.join(tempfile.gettempdir(), "no such file of profiles")
        self.assertIn("profiles", refused("--profiles", missing)[1])


class KvCache(ReplayCase):
    """have with kept: what a worker that keeps a rendered prompt is told, turn after turn."""

    def test_a_tool_loop(self):
        t = self.new()
        holder = Holder(self, self.raw, t)
        for n, turn in enumerate((1, 1, 1)):
            play(self.raw, t, f"{turn}t")
            got = holder.ask(policy="current_turn")
            self.assertEqual((got.extends, sorted(got.kept)), (True, [n]))
        play(self.raw, t, "1f")
        self.assertTrue(holder.ask(policy="current_turn").extends)
        # The next user message drops the whole loop: from its first step on all is different.
        got = holder.ask(policy="current_turn", turn=2)
        self.assertEqual((got.extends, got.first_changed, got.kept_from, got.dropped),
                         (False, 0, 4, 4))
        self.assertTrue(holder.ask(policy="current_turn", turn=2).extends, "told once")
        play(self.raw, t, "2t")
        got = holder.ask(policy="current_turn")
        self.assertEqual((got.extends, sorted(got.kept)), (True, [4]))

    def test_what_is_held_without_its_reasoning(self):
        t = self.new()
        play(self.raw, t, "1f 2t 2f")
        got = self.raw.replay(t, have={"version": 3, "step": 2, "kept": [1, 2]})
        self.assertEqual((got.extends, got.first_changed), (False, 0), "0 has reasoning to be read")
        got = self.raw.replay(t, policy="tool_turns", have={"version": 3, "step": 2, "kept": [1, 2]})
        self.assertEqual((got.extends, got.first_changed), (True, None))
        got = self.raw.replay(t, policy="none", have={"version": 3, "step": 2, "kept": [2]})
        self.assertEqual((got.extends, got.first_changed), (False, 2))
        got = self.raw.replay(t, policy="none", have={"version": 3, "step": 2, "kept": []})
        self.assertEqual((got.extends, got.first_changed), (True, None))
        # Without kept nothing is said of it.
        got = self.raw.replay(t, policy="none", have={"version": 3, "step": 2})
        self.assertEqual(got.extends, None)

    def test_steps_without_reasoning(self):
        t = self.new()
        play(self.raw, t, "1tb 1f 2fb")
        for kept in ([0, 1, 2], [1], [0, 1]):
            got = self.raw.replay(t, have={"version": 3, "step": 2, "kept": kept})
            self.assertEqual((got.extends, got.numbers), (True, []), kept)
        got = self.raw.replay(t, policy="none", have={"version": 3, "step": 2, "kept": [0, 2]})
        self.assertEqual((got.extends, got.first_changed), (True, None), "there was none to drop")
        # Replaced by one with reasoning, and by another without: that one is told, no more.
        self.raw.rewind(t, 1)
        stored = play(self.raw, t, "2fb")
        got = self.raw.replay(t, have={"version": 3, "step": 2, "kept": [1]})
        self.assertEqual((got.extends, got.data), (True, stored))
        self.raw.rewind(t, 1)
        stored = play(self.raw, t, "2f")
        got = self.raw.replay(t, have={"version": 3, "step": 2, "kept": [1]})
        self.assertEqual((got.extends, got.first_changed, got.data), (False, 2, stored))

    def test_random_turns(self):
        chance = random.Random(4)
        for policy in ({}, {"policy": "current_turn"}, {"policy": "since_final"},
                       {"policy": "tool_turns"}, {"policy": "last_turns", "turns": 2},
                       {"policy": "none"}):
            for _ in range(4):
                t, turn, holders = self.new(), 1, []
                play(self.raw, t, "1t")
                holders = [Holder(self, self.raw, t, lists_bare) for lists_bare in (True, False)]
                for _ in range(25):
                    for holder in chance.sample(holders, chance.randrange(3)):
                        holder.ask(**policy)
                    act = chance.randrange(8)
                    if act == 0 and (head := self.raw.replay(t, touch=False).head) is not None:
                        to = chance.randrange(-1, head + 1)
                        self.raw.rewind(t, to)
                        steps = self.raw.replay(t, touch=False).meta
                        turn = max((s["turn"] for s in steps.values()), default=0)
                    else:
                        turn += chance.choice((0, 0, 1, 2))
                        play(self.raw, t, f"{turn}{chance.choice('ttTff')}{chance.choice('  b')}")
                for holder in holders:
                    holder.ask(**policy)


class StepKeys(ReplayCase):
    """Finding a thread without its id, and a step within one thread."""

    def test_a_list_of_prefixes(self):
        t = self.new()
        p = [prefix_of(t, n) for n in range(4)]
        stored = play(self.raw, t, "1f 1f 1f 1f", lambda n: {"prefix": p[n]})
        unknown = [prefix_of("nobody's", t, n) for n in range(50)]
        for asked, found, last in (
            ([p[3], p[2], p[1]], 0, 3), ([unknown[0], p[2], p[1]], 1, 2), ([p[0]], 0, 0),
            (unknown + [p[1]], 50, 1), (unknown[:1] * 3 + [p[0], p[3]], 3, 0),
        ):
            for scope in ({}, {"thread": t}):
                got = self.raw.replay(prefix=asked, **scope)
                self.assertEqual((got.status, got.found, got.thread), ("complete", found, t))
                self.assertEqual(got.data, {n: stored[n] for n in range(last + 1)})
                self.assertEqual((got.head, got.ambiguous), (3, None))
        for scope in ({}, {"thread": t}):
            got = self.raw.replay(prefix=unknown, **scope)
            self.assertEqual((got.status, got.found), ("miss", None), scope)
            self.assertEqual(got.reason, "never_seen")
        self.assertEqual(self.raw.replay(prefix=p[2]).found, None, "no list, no place in it")
        self.assertEqual(self.raw.replay(prefix=[prefix_of(n) for n in range(1000)] + [p[1]]).found,
                         1000)

    def test_a_list_over_a_rewind(self):
        t = self.new()
        p = [prefix_of(t, n) for n in range(4)]
        stored = play(self.raw, t, "1f 1f 1f 1f", lambda n: {"prefix": p[n]})
        self.raw.rewind(t, 1)
        for scope in ({}, {"thread": t}):
            got = self.raw.replay(prefix=p[::-1], **scope)
            self.assertEqual((got.found, got.data), (2, {n: stored[n] for n in range(2)}))
            got = self.raw.replay(prefix=[prefix_of("?", t), p[3], p[2]], **scope)
            self.assertEqual((got.status, got.reason, got.found), ("miss", "rewound", None))

    def test_a_list_with_shared_ones(self):
        a, b = self.new("a"), self.new("b")
        shared, own = prefix_of(a, "shared"), prefix_of(a, "own")
        in_a = play(self.raw, a, "1f 1f", lambda n: {"prefix": (shared, own)[n]})
        in_b = play(self.raw, b, "1f", lambda n: {"prefix": shared})
        got = self.raw.replay(prefix=[prefix_of("?", a), shared, own])
        self.assertEqual((got.found, got.ambiguous, got.thread, got.data), (1, True, b, in_b))
        got = self.raw.replay(prefix=[own, shared])
        self.assertEqual((got.found, got.ambiguous, got.thread, got.data), (0, None, a, in_a))
        # A thread's own spine is searched, whoever was the last to write the key elsewhere.
        got = self.raw.replay(a, prefix=[prefix_of("?", a), shared, own])
        self.assertEqual((got.found, got.thread, got.data), (1, a, {0: in_a[0]}))
        got = self.raw.replay(b, prefix=[own])
        self.assertEqual((got.status, got.found), ("miss", None))
        got = self.raw.replay(b, prefix=[own, shared])
        self.assertEqual((got.found, got.data), (1, in_b))

    def test_tool_calls_of_a_thread(self):
        """call_1 is what half the world calls its first tool call."""
        threads = [self.new(str(n)) for n in range(5)]
        call = self.new("call_1")
        stored = [play(self.raw, t, "1t 1t 1f",
                       lambda n, t=t: {"tool_calls": [call, call + b"%d" % n, t + b"%d" % n]})
                  for t in threads]
        got = self.raw.replay(tool_call=call)
        self.assertEqual((got.status, got.reason), ("miss", "ambiguous"))
        for t, mine in zip(threads, stored):
            got = self.raw.replay(t, tool_call=call)
            self.assertEqual((got.status, got.data, got.ambiguous), ("complete", mine, None))
            got = self.raw.replay(t, tool_call=call + b"0")
            self.assertEqual(got.data, {0: mine[0]})
            self.raw.rewind(t, 1)
            got = self.raw.replay(t, tool_call=call)
            self.assertEqual(got.data, {0: mine[0], 1: mine[1]}, "the newest that is there")
            got = self.raw.replay(t, tool_call=t + b"2")
            self.assertEqual((got.status, got.reason), ("miss", "rewound"))
            self.assertEqual(self.raw.replay(t, tool_call=call + b"2").status, "miss")
        fork = self.new("f")
        self.raw.fork(fork, threads[0], at=0)
        got = self.raw.replay(fork, tool_call=call + b"0")
        self.assertEqual((got.thread, got.data), (fork, {0: stored[0][0]}))
        got = self.raw.replay(fork, tool_call=call + b"1")
        self.assertEqual(got.status, "miss")

    def test_a_list_and_a_policy(self):
        t = self.new()
        p = [prefix_of(t, n) for n in range(6)]
        stored = play(self.raw, t, QWEN, lambda n: {"prefix": p[n]})
        got = self.raw.replay(prefix=[prefix_of("?"), p[3], p[0]], policy="current_turn")
        self.assertEqual((got.found, got.kept_from, got.dropped), (1, 1, 1))
        self.assertEqual(got.data, {n: stored[n] for n in (1, 2, 3)})


if __name__ == "__main__":
    unittest.main()
