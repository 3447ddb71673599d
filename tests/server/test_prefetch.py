"""What the code asks to have brought into the cache is asked for in the program.

A compiler may take a function that only prefetches for one that does nothing, and leave out its
calls: nothing fails then, and replays of long threads take longer than they need.
"""

import glob
import os
import platform
import re
import shutil
import subprocess
import unittest

from harness import ROOT, SERVER

CALL = re.compile(r"__builtin_prefetch\(")
INSTRUCTION = re.compile(r"\tprefetch")


class Prefetch(unittest.TestCase):
    @unittest.skipUnless(platform.machine() == "x86_64", "names of instructions")
    @unittest.skipUnless(shutil.which("objdump"), "no objdump")
    def test_all_that_is_asked_for_is_in_the_object(self):
        """At least as many instructions as there are calls in the source."""
        seen = 0
        for source in sorted(glob.glob(os.path.join(ROOT, "src", "*", "*.c"))):
            with open(source, encoding="utf-8") as file:
                calls = len(CALL.findall(file.read()))
            name = os.path.relpath(source, ROOT)[: -len(".c")] + ".o"
            built = os.path.join(os.path.dirname(SERVER), "obj", name)
            if calls == 0 or not os.path.exists(built):
                continue
            listing = subprocess.run(
                ["objdump", "-d", "--no-show-raw-insn", built],
                capture_output=True,
                check=True,
                text=True,
            ).stdout
            with self.subTest(source=name):
                self.assertGreaterEqual(len(INSTRUCTION.findall(listing)), calls)
            seen += 1
        if seen == 0:
            self.skipTest("a server without its objects")


if __name__ == "__main__":
    unittest.main()
