"""The Python client's table of profiles is that of schema/profiles.def, and is read the same way."""

import os
import subprocess
import sys
import unittest

from support import ROOT

from rethread.profiles import PROFILES, Profile
from rethread.weave import find_profile, unweave

GENERATOR = os.path.join(ROOT, "src", "client", "python", "generate_profiles.py")


class Profiles(unittest.TestCase):
    def test_up_to_date(self):
        done = subprocess.run([sys.executable, GENERATOR, "--check"])
        self.assertEqual(done.returncode, 0, "run `make profiles`")

    def test_all_rows_are_there(self):
        with open(os.path.join(ROOT, "schema", "profiles.def"), encoding="utf-8") as f:
            rows = [line for line in f if line.startswith("PROFILE(")]
        self.assertEqual(len(PROFILES), len(rows))
        self.assertGreater(len(rows), 10)
        self.assertEqual(PROFILES[-1].pattern, "*")

    def test_the_first_row_that_fits(self):
        mine = (Profile("a*c", "all", 0, "thinking", True), Profile("abc", "none", 0, "other", True),
                Profile("a.c", "none", 0, "dotted", True), Profile("*x*y*", "all", 0, "xy", False),
                Profile("[a]?", "all", 0, "literal", False))
        for model, field in (("abc", "thinking"), ("ABC", "thinking"), ("vendor/abc", "thinking"),
                             ("ac", "thinking"), ("a\nc", "thinking"), (b"A\xffC", "thinking"),
                             ("axyz", "xy"), ("yx", PROFILES[-1].field), ("[a]?", "literal"),
                             ("a1", PROFILES[-1].field), ("", PROFILES[-1].field),
                             (None, PROFILES[-1].field), ("abc/", PROFILES[-1].field),
                             ("abc/zz", PROFILES[-1].field)):
            with self.subTest(model=model):
                self.assertEqual(find_profile(model, mine).field, field)

    def test_the_table(self):
        for model, policy, field in (
                ("Qwen/Qwen3-32B", "current_turn", "reasoning_content"),
                ("openai/gpt-oss-120b", "since_final", "thinking"),
                ("moonshotai/Kimi-K2-Thinking", "since_final", "reasoning_content"),
                ("deepseek-v4", "tool_turns", "reasoning_content"),
                ("claude-sonnet-4-5-20250929", "last_turns", "thinking"),
                ("claude-opus-4-5", "all", "thinking"), ("never heard of", "all", None)):
            with self.subTest(model=model):
                found = find_profile(model)
                self.assertEqual((found.policy, found.field),
                                 (policy, field or PROFILES[-1].field))

    def test_a_field_of_ones_own(self):
        profiles = [Profile("mine*", "all", 0, "thoughts", True)]
        message = {"role": "assistant", "content": "b", "thoughts": "a"}
        visible, steps = unweave([message], "chat", "mine-1", profiles=profiles)
        self.assertEqual(visible, [{"role": "assistant", "content": "b"}])
        self.assertEqual(steps[0]["segments"], [("text", b"a")])
        self.assertEqual(unweave([message], "chat", "mine-1")[0], [message])


if __name__ == "__main__":
    unittest.main()
