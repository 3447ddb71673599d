"""Replays of what lies on disk: the same answers after a demotion, a restart and a kill."""

import os
import random
import struct
import unittest

import raw
from harness import DiskCase, noise
from shapes import Holder, play, prefix_of
from test_replay import POLICIES


class ReplayOnDisk(DiskCase):
    def start_raw(self, *flags):
        server, client = self.start(*flags)
        mine = raw.Client(server)
        self.addCleanup(mine.close)
        return server, client, mine

    def over_tiers(self, threads, judge, *flags):
        """Calls ``judge(client, again)`` while the threads are in memory, demoted, after a restart
        and after a kill; ``again()`` waits until those it has brought back are demoted once more."""
        server, client, mine = self.start_raw("--ttl", "200ms", *flags)
        made = threads(mine)

        def nothing():
            pass

        def again():
            self.wait_demoted(client, *made)
        judge(mine, nothing)
        again()
        judge(mine, again)
        server.stop()
        server, client, mine = self.start_raw("--ttl", "200ms", *flags)
        judge(mine, nothing)
        again()
        server.kill()
        server, client, mine = self.start_raw("--ttl", "200ms", *flags)
        judge(mine, nothing)
        server.stop()

    def test_every_policy(self):
        stored = {}

        def threads(mine):
            for n, (shape, _, _, _) in enumerate(POLICIES):
                stored[b"t%d" % n] = play(mine, b"t%d" % n, shape)
            return list(stored)

        def judge(mine, again):
            for n, (shape, policy, options, kept) in enumerate(POLICIES):
                t = b"t%d" % n
                got = mine.replay(t, policy=policy, **options)
                with self.subTest(shape=shape, policy=policy, **options):
                    self.assertEqual((got.status, got.data),
                                     ("complete", {k: stored[t][k] for k in kept}))
                    self.assertEqual((got.kept_from, got.dropped),
                                     (min(kept, default=len(stored[t])), len(stored[t]) - len(kept)))
        self.over_tiers(threads, judge)

    def test_bindings_budgets_and_models(self):
        models = ["claude-opus-4-1", "Qwen/Qwen3-32B", "Qwen/Qwen3-32B", "Qwen/Qwen3-32B"]
        stored = {}

        def threads(mine):
            stored.update(play(mine, b"t", "1t 1f 2t 2t", lambda n: {
                "prefix": prefix_of(n), "model": models[n], "tokens": 10 * n}))
            return [b"t"]

        def judge(mine, again):
            same = [[n, prefix_of(n)] for n in range(4)]
            got = mine.replay(b"t", prefixes=same, on_mismatch="fail")
            self.assertEqual((got.status, got.data), ("complete", stored))
            again()
            got = mine.replay(b"t", prefixes=[[2, prefix_of("x")]])
            self.assertEqual((got.status, got.missing),
                             ("partial", {2: "prefix_mismatch", 3: "prefix_mismatch"}))
            got = mine.replay(b"t", prefixes=[[2, prefix_of("x")]], on_mismatch="fail")
            self.assertEqual((got.status, got.reason), ("miss", "prefix_mismatch"))
            again()
            got = mine.replay(b"t", model="Qwen/Qwen3-8B", max_tokens=50)
            self.assertEqual(got.missing, {0: "model_mismatch", 1: "budget"})
            got = mine.replay(b"t", policy="auto")
            self.assertEqual((got.status, got.data), ("complete", {n: stored[n] for n in (2, 3)}))
            again()
            got = mine.replay(b"t", have={"version": 4, "step": 3, "kept": [1, 2, 3]},
                              policy="auto", turn=3)
            self.assertEqual((got.extends, got.first_changed), (False, 1))
        self.over_tiers(threads, judge)

    def test_finding_it(self):
        p = [prefix_of("p", n) for n in range(4)]
        shared, call = prefix_of("shared"), b"call_1"
        stored = {}

        def threads(mine):
            stored[b"a"] = play(mine, b"a", "1f 2f 3f 4f", lambda n: {"prefix": p[n]})
            for t in (b"b", b"c"):
                stored[t] = play(mine, t, "1t 1t 1f", lambda n: {
                    "tool_calls": [call], **({"prefix": shared} if n == 1 else {})})
            return list(stored)

        def judge(mine, again):
            unknown = [prefix_of("unknown", n) for n in range(100)]
            for prefixes, found, last in ((unknown + [p[2], p[3]], 100, 2), ([p[3]], 0, 3),
                                          ([unknown[0], p[0]], 1, 0)):
                for scope in ({}, {"thread": b"a"}):
                    got = mine.replay(prefix=prefixes, **scope)
                    self.assertEqual((got.status, got.found, got.thread), ("complete", found, b"a"))
                    self.assertEqual(got.data, {n: stored[b"a"][n] for n in range(last + 1)})
                again()
            for scope in ({}, {"thread": b"a"}):
                got = mine.replay(prefix=unknown, **scope)
                self.assertEqual((got.status, got.reason, got.found), ("miss", "never_seen", None))
            got = mine.replay(prefix=[unknown[3], shared, p[0]])
            self.assertEqual((got.status, got.found, got.ambiguous), ("complete", 1, True))
            self.assertEqual((got.thread, len(got.kept)), (b"c", 2))
            again()
            self.assertEqual(mine.replay(tool_call=call).reason, "ambiguous")
            for t in (b"b", b"c"):
                got = mine.replay(t, tool_call=call)
                self.assertEqual((got.status, got.data), ("complete", stored[t]))
            again()
            for t in (b"b", b"c"):
                got = mine.replay(t, prefix=[p[0], shared])
                self.assertEqual((got.found, len(got.kept), got.thread), (1, 2, t))
        self.over_tiers(threads, judge)

    def test_token_segments_and_visible(self):
        def ids(*numbers):
            return struct.pack(f"<{len(numbers)}I", *numbers)
        segments = [
            ids(0), ids(0xFFFFFFFF), ids(*range(300)), ids(*[151643] * 999), noise(4096, 1),
            ids(1, 0x80000000, 2, 0x7FFFFFFF, 0), ids(*[n * 7919 % 152064 for n in range(50000)]),
            ids(127, 128, 16383, 16384, 2097151, 2097152, 268435455, 268435456),
        ]
        visible = [noise(16, n) for n in range(len(segments))]

        def threads(mine):
            for n, tokens in enumerate(segments):
                mine.append(b"t", tokens, b"text", tokens[:4], segments=["tokens", "text", "tokens"],
                            **({"visible": visible[n]} if n % 3 else {}))
            mine.fork(b"f", b"t")
            return [b"t", b"f"]

        def judge(mine, again):
            for t in (b"t", b"f"):
                got = mine.replay(t)
                self.assertEqual(got.status, "complete")
                for n, tokens in enumerate(segments):
                    self.assertTrue(got.kept[n] == [("tokens", tokens), ("text", b"text"),
                                                    ("tokens", tokens[:4])], f"step {n}")
                    self.assertEqual(got.meta[n].get("visible"), visible[n] if n % 3 else None)
                    self.assertEqual("visible" in got.meta[n], n % 3 != 0, "only when it was given")
        for compression in ("zstd", "none"):
            with self.subTest(compression=compression):
                self.data = f"{self.data}-{compression}"
                self.over_tiers(threads, judge, "--compression", compression)

    def test_tokens_take_little_room(self):
        chance, count = random.Random(1), 200000
        tokens = struct.pack(f"<{count}I", *(int(chance.paretovariate(0.3)) % 150000
                                             for _ in range(count)))
        server, client, mine = self.start_raw("--ttl", "200ms")
        before = client.info()["disk"]["live_bytes"]
        for n in range(4):
            mine.append(b"t%d" % n, tokens, segments=["tokens"], ack="disk")
            self.wait_demoted(client, b"t%d" % n)
        taken = client.info()["disk"]["live_bytes"] - before
        self.assertGreater(taken, 4 * count // 2, "or this test sees nothing")
        self.assertLess(taken, 4 * count * 3, "bytes of an id")
        self.assertEqual(mine.replay(b"t3").data, {0: tokens})
        server.stop()

    def test_corrupt(self):
        """A byte of a step flips on the disk: that step is missing, the rest is as it was."""
        server, client, mine = self.start_raw("--compression", "none")
        parts = [noise(3000, n) for n in range(3)]
        for n, part in enumerate(parts):
            mine.append(b"t", part, turn=n, ack="disk", response_id=b"r%d" % n)
        server.stop()
        flipped = 0
        for name in os.listdir(self.data):
            path = os.path.join(self.data, name)
            with open(path, "rb") as file:
                at = file.read().find(parts[1][1000:1100])
            if at >= 0 and name.endswith(".mdb"):
                with open(path, "r+b") as file:
                    file.seek(at)
                    file.write(bytes([parts[1][1000] ^ 1]))
                flipped += 1
        self.assertEqual(flipped, 1, "the step is not in the tree")
        server, client, mine = self.start_raw("--compression", "none")
        got = mine.replay(b"t")
        self.assertEqual((got.status, got.missing), ("partial", {1: "corrupt"}))
        self.assertEqual(got.data, {0: parts[0], 2: parts[2]})
        # Nobody knows whether it is the first of the current turn: then the turn is not whole.
        got = mine.replay(b"t", policy="current_turn")
        self.assertEqual((got.status, got.missing, got.kept_from), ("partial", {1: "corrupt"}, 1))
        got = mine.replay(b"t", policy="current_turn", turn=3)
        self.assertEqual((got.status, got.kept_from, got.dropped), ("complete", 3, 3))
        got = mine.replay(b"t", policy="last_turns", turns=3)
        self.assertEqual((got.status, got.missing), ("partial", {1: "corrupt"}))
        self.assertEqual(mine.append(b"t", b"on", expect=3)["step"], 3)
        server.stop()

    def test_a_holder_over_restarts(self):
        server, client, mine = self.start_raw("--ttl", "200ms")
        holder = Holder(self, mine, b"t")
        for turn in range(1, 6):
            play(mine, b"t", f"{turn}t {turn}f", lambda n: {"ack": "disk"})
            self.assertTrue(holder.ask(policy="tool_turns").extends)
            self.wait_demoted(client, b"t")
            self.assertTrue(holder.ask(policy="tool_turns", turn=turn + 1).extends)
            server.kill()
            server, client, mine = self.start_raw("--ttl", "200ms")
            holder.client = mine
            self.assertTrue(holder.ask(policy="tool_turns").extends)
        mine.rewind(b"t", 4)
        self.wait_demoted(client, b"t")
        got = holder.ask(policy="tool_turns")
        self.assertEqual((got.extends, got.first_changed), (False, 5))
        play(mine, b"t", "4t")
        self.wait_demoted(client, b"t")
        self.assertTrue(holder.ask(policy="tool_turns").extends)
        server.stop()


if __name__ == "__main__":
    unittest.main()
