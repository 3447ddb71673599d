"""rethread-cli replay with policies, prefixes, budgets, what is held, and pins, against a real server.

RETHREAD_SERVER and RETHREAD_CLI name the programs (default: those in build/).
"""

import unittest

from test_cli import MISS, USAGE, WithServer


def prefix(number):
    return "%032x" % (0xabcdef00 + number)


class TestReplay(WithServer):
    def fill(self, steps=4):
        """Steps of two a turn, of which the second is final; 8 bytes and 2 tokens each."""
        for i in range(steps):
            call = [] if i % 2 else ["--tool-call", "%s-%d" % (self.thread, i)]
            self.cli("append", self.thread, "--text", "thought%d" % i, "--turn", str(i // 2), "--model", "qwen3-8b",
                     "--prefix", prefix(i), "--visible", "%032x" % i, *call)

    def replay(self, *arguments, code=0):
        return self.json("replay", self.thread, *arguments, code=code)

    def steps(self, *arguments):
        """Numbers of the steps that are here, and the reasons of those that are not."""
        steps = self.replay(*arguments)["steps"]
        return [step["step"] for step in steps if "missing" not in step], [s["missing"] for s in steps if "missing" in s]

    def test_policies(self):
        self.fill()
        for arguments, kept in (
                (["all"], [0, 1, 2, 3]), (["none"], []), (["current_turn"], [2, 3]),
                (["current_turn", "--turn", "2"], []), (["since_final"], []), (["tool_turns"], [0, 1, 2, 3]),
                (["last_turns", "--turns", "1"], [2, 3]), (["last_turns", "--turns", "7"], [0, 1, 2, 3]),
                (["auto"], [2, 3]), (["auto", "--model", "qwen3-8b", "--turn", "2"], [])):
            self.assertEqual(self.steps("--policy", *arguments), (kept, []), arguments)
            answer = self.replay("--policy", *arguments)
            self.assertEqual(answer["status"], "complete")
            if arguments != ["all"]:
                self.assertEqual((answer["dropped"], answer["kept_from"]), (4 - len(kept), kept[0] if kept else 4))
        self.assertNotIn("dropped", self.replay())
        self.assertIn(", 2 steps, version 4, 2 left out, kept from step 2, expires in",
                      self.cli("replay", self.thread, "--policy", "current_turn"))
        self.cli("replay", self.thread, "--policy", "last_turns", code=USAGE)
        self.assertIn("option turns", self.err)
        self.assertEqual([step["visible"] for step in self.replay()["steps"]], ["%032x" % i for i in range(4)])

    def test_the_longest_known_prefix(self):
        self.fill()
        found = self.json("replay", "--prefix", prefix(77), "--prefix", prefix(2), "--prefix", prefix(1))
        self.assertEqual((found["thread"], found["found"], [s["step"] for s in found["steps"]]),
                         (self.thread, 1, [0, 1, 2]))
        self.assertIn("found by prefix 2 of those given",
                      self.cli("replay", "--prefix", prefix(77), "--prefix", prefix(2)))
        self.assertEqual(self.json("replay", "--prefix", prefix(77), "--prefix", prefix(78), code=MISS)["reason"],
                         "never_seen")

    def test_mismatches(self):
        self.fill()
        now = [a for i in range(4) for a in ("--step-prefix", "%d:%s" % (i, prefix(i + 100 * (i == 2))))]
        self.assertEqual(self.steps(*now), ([0, 1], ["prefix_mismatch"] * 2))
        self.assertEqual(self.steps("--prefixes", "3:" + prefix(3)), ([0, 1, 2, 3], []))
        miss = self.replay(*now, "--on-mismatch", "fail", code=MISS)
        self.assertEqual((miss["reason"], miss["steps"]), ("prefix_mismatch", []))
        self.assertIn("miss: prefix_mismatch, version 4. The step was produced under another visible context.",
                      self.cli("replay", self.thread, *now, "--on-mismatch", "fail", code=MISS))
        self.cli("replay", self.thread, "--on-mismatch", "shrug", code=USAGE)
        self.assertIn("option on_mismatch", self.err)

    def test_budgets(self):
        self.fill()
        self.assertEqual(self.steps("--max-tokens", "5"), ([2, 3], ["budget"] * 2))
        self.assertEqual(self.steps("--max-bytes", "15"), ([3], ["budget"] * 3))
        self.assertEqual(self.steps("--max-tokens", "0"), ([], ["budget"] * 4))

    def test_what_is_held(self):
        self.fill()
        held = self.replay("--have", "4:3:0-3")
        self.assertEqual((held["extends"], held["steps"]), (True, []))
        self.assertNotIn("first_changed", held)
        self.assertIn(", extends what you have", self.cli("replay", self.thread, "--have", "4:3:0,1,2-3"))
        held = self.replay("--have", "4:3:1-3", "--policy", "current_turn")
        self.assertEqual((held["extends"], held["first_changed"]), (False, 1))
        self.assertEqual(self.replay("--have", "4:3:", "--policy", "none")["extends"], True)
        self.assertNotIn("extends", self.replay("--have", "4:3"))

    def test_a_pin_stays(self):
        self.fill()
        self.assertNotIn("floor", self.json("stat", self.thread))
        self.assertEqual(self.replay("--policy", "current_turn", "--pin")["kept_from"], 2)
        self.assertEqual(self.json("stat", self.thread)["floor"], 2)
        self.assertRegex(self.cli("stat", self.thread), r"(?m)^floor +2$")
        self.assertEqual(self.steps("--pin"), ([2, 3], []))
        self.assertEqual(self.steps("--no-pin"), ([0, 1, 2, 3], []))


if __name__ == "__main__":
    unittest.main()
