"""The runner of the tests must not miss a failure, in whatever way a program fails."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "run")


class Runner(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def program(self, name, text):
        path = os.path.join(self.folder.name, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(path, 0o755)
        return path

    def run_it(self, name, text, *options):
        done = subprocess.run([sys.executable, RUN, *options, self.program(name, text)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout.splitlines()

    def check_script(self, text, code, last, *options):
        got, lines = self.run_it("test_it", "#!/bin/sh\n" + text + "\n", *options)
        self.assertEqual((got, lines[-1]), (code, last), "\n".join(lines))
        return "\n".join(lines)

    def check_python(self, text, code, last):
        got, lines = self.run_it("test_it.py", text)
        self.assertEqual((got, lines[-1]), (code, last), "\n".join(lines))
        return "\n".join(lines)

    def test_counts_what_check_prints(self):
        self.check_script("echo '100%: Checks: 7, Failures: 0, Errors: 0'", 0, "7 passed, 0 failed")

    def test_adds_several_suites(self):
        self.check_script("echo '100%: Checks: 2, Failures: 0, Errors: 0'\n"
                          "echo '66%: Checks: 3, Failures: 0, Errors: 1'; exit 1",
                          1, "4 passed, 1 failed")

    def test_failures_fail_even_when_the_exit_code_forgets_them(self):
        self.check_script("echo '50%: Checks: 2, Failures: 1, Errors: 0'", 1, "1 passed, 1 failed")

    def test_exit_code_fails_when_every_test_passed(self):
        self.check_script("echo '100%: Checks: 2, Failures: 0, Errors: 0'; exit 23",
                          1, "2 passed, 1 failed")

    def test_running_nothing_is_a_failure(self):
        self.check_script("echo '100%: Checks: 0, Failures: 0, Errors: 0'", 1, "0 passed, 1 failed")
        self.check_python("import unittest\n", 1, "0 passed, 1 failed")

    def test_plain_program_counts_once(self):
        self.check_script("exit 0", 0, "1 passed, 0 failed")
        self.check_script("exit 1", 1, "0 passed, 1 failed")

    def test_crash_is_named(self):
        text = self.check_script("kill -SEGV $$", 1, "0 passed, 1 failed")
        self.assertIn("killed by SIGSEGV", text)

    def test_ignored_signals_are_not_passed_on(self):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        text = self.check_script("kill -INT $$; exit 0", 1, "0 passed, 1 failed")
        self.assertIn("killed by SIGINT", text)

    def test_output_of_a_failing_program_is_shown(self):
        self.assertIn("    what went wrong",
                      self.check_script("echo what went wrong; exit 1", 1, "0 passed, 1 failed"))

    def test_time_out_ends_the_program(self):
        started = time.monotonic()
        text = self.check_script("sleep 60", 1, "0 passed, 1 failed", "--timeout", "1")
        self.assertIn("timed out", text)
        self.assertLess(time.monotonic() - started, 30)

    def test_what_a_program_leaves_behind_is_ended(self):
        pid_file = os.path.join(self.folder.name, "pid")
        self.check_script("sleep 60 & echo $! >%s" % pid_file, 0, "1 passed, 0 failed")
        with open(pid_file, encoding="utf-8") as pid:
            stat = "/proc/%s/stat" % pid.read().strip()
        deadline = time.monotonic() + 10
        while os.path.exists(stat) and time.monotonic() < deadline:
            with open(stat, encoding="utf-8") as state:
                if state.read().rpartition(")")[2].split()[0] == "Z":
                    break
            time.sleep(0.01)
        self.assertLess(time.monotonic(), deadline)

    def test_python_failures_and_skips(self):
        self.check_python("import unittest\nclass T(unittest.TestCase):\n"
                          "    def test_a(self): pass\n"
                          "    def test_b(self): self.fail()\n"
                          "    def test_c(self): self.skipTest('no')\n", 1, "1 passed, 1 failed")

    def test_python_file_that_does_not_load(self):
        self.check_python("import no_such_module\n", 1, "0 passed, 1 failed")

    def test_no_programs_is_a_failure(self):
        done = subprocess.run([sys.executable, RUN], stdout=subprocess.PIPE, text=True)
        self.assertEqual((done.returncode, done.stdout.splitlines()[-1]), (1, "0 passed, 1 failed"))


if __name__ == "__main__":
    unittest.main()
