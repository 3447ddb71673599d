"""rethread-cli begin, chunk, commit, abort and stream against a real server.

RETHREAD_SERVER and RETHREAD_CLI name the programs (default: those in build/).
"""

import fcntl
import os
import pty
import signal
import subprocess
import tempfile
import termios
import time
import unittest

from test_cli import CANARY, CLI, DONE, FAILED, MISS, PATIENCE_S, USAGE, Server, WithServer, run


class TestStreaming(WithServer):
    def begin(self, *arguments):
        return self.json("begin", self.thread, *arguments)["claim"]

    def segments(self):
        step = self.json("replay", self.thread, "--reveal")["steps"][-1]
        return [(s["kind"], s.get("text", s.get("base64"))) for s in step["segments"]]

    def test_step_by_step(self):
        self.cli("append", self.thread, "--text", "one")
        begun = self.json("begin", self.thread)
        self.assertEqual((begun["thread"], begun["step"], begun["version"]), (self.thread, 1, 1))
        self.assertRegex(begun["claim"], r"^[1-9]\d{0,18}$")
        self.assertTrue(0 < begun["claim_expires_in_ms"] <= 60000)
        claim = ["--claim", begun["claim"]]
        with tempfile.NamedTemporaryFile() as f:
            f.write(b"two and ")
            f.flush()
            chunk = self.json("chunk", self.thread, *claim, "--text", "a ", "--file", f.name, "--file", "-",
                              stdin=b"three")
        self.assertEqual(chunk["bytes"], 15)
        self.assertTrue(0 < chunk["claim_expires_in_ms"] <= 60000)
        self.assertEqual(self.json("chunk", self.thread, *claim)["bytes"], 15)
        self.assertRegex(self.cli("chunk", self.thread, *claim), r"^15 B so far, the claim ends in (59|1m )")
        held = self.json("replay", self.thread)
        self.assertEqual((held["status"], held["in_flight"], len(held["steps"])), ("complete", True, 1))
        self.assertIn(", a step is in flight", self.cli("replay", self.thread))
        self.assertTrue(self.json("stat", self.thread)["in_flight"])
        self.assertRegex(self.cli("stat", self.thread), r"(?m)^in flight +yes$")
        done = self.json("commit", self.thread, *claim, "--segment", "opaque=-", "--turn", "2", "--tool-call", "c",
                         "--visible", "ab" * 16, "--key", "k", "--response-id", "r", stdin=b"sig")
        self.assertEqual((done["step"], done["version"], done["created"], done["duplicate"]), (1, 2, False, False))
        self.assertEqual(self.segments(), [("text", "a two and three"), ("opaque", "sig")])
        step = self.json("replay", self.thread)["steps"][1]
        self.assertEqual((step["turn"], step["final"], step["visible"], step["response_id"]),
                         (2, False, "ab" * 16, "r"))
        self.assertNotIn("in_flight", self.json("replay", self.thread))

    def test_for_people(self):
        text = self.cli("begin", self.thread)
        self.assertRegex(text, r"^%s: step 0 is taken, version 0, claim \d+, which ends in (1m 00s|59\.\d s|60\.0 s) without a chunk\n$"
                         % self.thread)
        claim = text.split("claim ")[1].split(",")[0]
        self.cli("chunk", self.thread, "--claim", claim, "--text", "x")
        self.assertRegex(self.cli("commit", self.thread, "--claim", claim),
                         r"^%s: step 0, version 1, a new thread, expires in " % self.thread)

    def test_abort(self):
        claim = self.begin()
        self.cli("chunk", self.thread, "--claim", claim, "--text", CANARY)
        self.assertEqual(self.json("replay", self.thread, code=MISS)["in_flight"], True)
        self.assertEqual(self.cli("abort", self.thread, "--claim", claim), "aborted: nothing of it was kept\n")
        self.assertEqual(self.json("replay", self.thread, code=MISS)["reason"], "never_seen")
        claim = self.begin("--segment", "tokens")
        self.assertEqual(self.json("abort", self.thread, "--claim", claim), {"aborted": True})

    def test_kinds_and_bare_steps(self):
        claim = self.begin("--segment", "opaque")
        self.cli("chunk", self.thread, "--claim", claim, "--text", "sealed")
        self.cli("commit", self.thread, "--claim", claim, "--text", "open")
        self.assertEqual(self.segments(), [("opaque", "sealed"), ("text", "open")])
        self.cli("commit", self.thread, "--claim", self.begin(), "--bare")
        self.assertEqual(self.segments(), [])
        self.cli("begin", self.thread, "--segment", "image", code=USAGE)
        self.assertIn("option segment", self.err)

    def test_a_claimed_thread(self):
        self.cli("append", self.thread, "--text", "one")
        claim = self.begin()
        for command in (["append", self.thread, "--text", "two"], ["begin", self.thread],
                        ["rewind", self.thread, "--to", "-1"], ["chunk", self.thread, "--claim", "7"],
                        ["commit", self.thread, "--claim", "7"], ["abort", self.thread, "--claim", "7"],
                        ["stream", self.thread]):
            error = self.json(*command, code=FAILED, stdin=b"two")["error"]
            self.assertEqual((error["code"], error["cause"], error["version"]), ("conflict", "claimed", 1), command)
            self.assertIn("; cause claimed", self.err)
            # A claim that was given is over, whoever streams now; there is nothing to wait for.
            says = "the claim is over" if "--claim" in command else "a step is being streamed into the thread: wait"
            self.assertIn(says, self.err)
        self.cli("abort", self.thread, "--claim", claim)
        self.cli("append", self.thread, "--text", "two")


class StreamCase(WithServer):
    def start(self, *arguments, stdin=subprocess.PIPE, address=None):
        process = subprocess.Popen([CLI, "stream", self.thread, *arguments, "--server", address or self.server.address],
                                   stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        if process.stdin:
            self.addCleanup(process.stdin.close)
        return process

    def started(self, *arguments, **kwargs):
        """A stream that has begun."""
        process = self.start(*arguments, **kwargs)
        self.wait_for(lambda: self.stat().get("in_flight"))
        return process

    def stat(self):
        return self.json("stat", self.thread, code=MISS)  # there is no thread before a commit

    def wait_for(self, condition, seconds=PATIENCE_S):
        deadline = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def text(self):
        return "".join(s["text"] for s in self.json("replay", self.thread, "--reveal")["steps"][-1]["segments"])


class TestShortClaims(StreamCase):
    # The worker gives a sign of life each second: it may be kept from running for nearly two.
    flags = ("--claim-timeout", "3s")

    def test_silence_keeps_the_claim(self):
        for _ in range(4):
            process = self.started()
            process.stdin.write(b"a")
            process.stdin.flush()
            time.sleep(4)
            _, err = process.communicate(b"b", timeout=PATIENCE_S)
            if b"cause claimed" not in err:  # which it is, too, where the machine stands still
                break
        self.assertEqual((process.returncode, err), (DONE, b""))
        self.assertEqual(self.text(), "ab")

    def test_a_worker_that_dies_leaves_nothing(self):
        process = self.started()
        process.stdin.write(CANARY.encode())
        process.stdin.flush()
        process.kill()
        process.wait()
        process.stdin.close()
        self.wait_for(lambda: "in_flight" not in self.stat())
        self.assertEqual(self.stat()["reason"], "never_seen")

    def test_a_claim_that_ran_out(self):
        process = self.started()
        process.send_signal(signal.SIGSTOP)
        self.wait_for(lambda: "in_flight" not in self.stat())
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(b"too late", timeout=PATIENCE_S)
        self.assertEqual((process.returncode, out), (FAILED, b""))
        self.assertIn(b"cause claimed", err)
        self.assertEqual(self.stat()["reason"], "never_seen")


class TestStream(StreamCase):
    # What ends a claim here is not its time.
    flags = ("--claim-timeout", "1h")

    def test_a_pipe(self):
        with tempfile.NamedTemporaryFile() as f:
            f.write(b"sig")
            f.flush()
            done = self.json("stream", self.thread, "--chunk-bytes", "1K", "--segment", "opaque=" + f.name, "--turn", "3",
                             "--tool-call", "c" + self.thread, "--model", "m", stdin=b"thought " * 1000)
        self.assertEqual((done["thread"], done["step"], done["version"], done["created"]), (self.thread, 0, 1, True))
        step = self.json("replay", self.thread, "--reveal")["steps"][0]
        self.assertEqual([(s["kind"], s["text"]) for s in step["segments"]],
                         [("text", "thought " * 1000), ("opaque", "sig")])
        self.assertEqual((step["turn"], step["final"], step["model"]), (3, False, "m"))

    def test_kinds(self):
        self.cli("stream", self.thread, "--kind", "tokens", stdin=b"\1\0\0\0\2\0\0\0")
        self.assertEqual(self.json("replay", self.thread)["steps"][0]["segments"], [{"kind": "tokens", "bytes": 8}])

    def test_sends_what_comes_when_it_comes(self):
        process = self.started()
        process.stdin.write(b"first" * 10000)
        process.stdin.flush()
        self.wait_for(lambda: self.json("info")["memory"]["streaming_bytes"] >= 50000)
        out, err = process.communicate(b"second", timeout=PATIENCE_S)
        self.assertEqual((process.returncode, err), (DONE, b""))
        self.assertRegex(out.decode(), r"^%s: step 0, version 1, a new thread" % self.thread)
        self.assertEqual(self.text(), "first" * 10000 + "second")

    def test_an_interrupt_aborts(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process = self.started()
            process.stdin.write(CANARY.encode())
            process.stdin.flush()
            process.send_signal(number)
            self.assertEqual(process.wait(timeout=PATIENCE_S), -number)
            self.assertEqual(process.stderr.read(),
                             b"rethread-cli stream: interrupted: nothing of the step was kept\n")
            process.stdin.close()
            # Not when the claim runs out. The answer it has waited a second for, and no longer.
            self.wait_for(lambda: "in_flight" not in self.stat())

    def test_ctrl_c_at_a_terminal(self):
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
            for fd in range(3):
                os.dup2(theirs, fd)
            os.execv(CLI, [CLI, "stream", self.thread, "--server", self.server.address])
        os.close(theirs)
        self.wait_for(lambda: self.stat().get("in_flight"))
        os.write(ours, b"\x03")
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), -signal.SIGINT)
        self.wait_for(lambda: "in_flight" not in self.stat())

    def test_an_input_that_fails_aborts(self):
        folder = os.open("/", os.O_RDONLY)
        process = self.start(stdin=folder)
        os.close(folder)
        self.assertEqual(process.wait(timeout=PATIENCE_S), FAILED)
        self.assertIn(b"cannot read the standard input: Is a directory; nothing was kept", process.stderr.read())
        self.assertNotIn("in_flight", self.stat())

    def test_what_is_wrong_at_the_end_aborts(self):
        self.cli("stream", self.thread, stdin=b"", code=USAGE)
        self.assertIn("nothing came at the standard input", self.err)
        self.cli("stream", self.thread, "--segment", "text=/nowhere/at/all", stdin=CANARY, code=USAGE)
        self.assertIn("--segments cannot open /nowhere/at/all", self.err)
        self.json("stream", self.thread, "--expect", "7", stdin=CANARY, code=FAILED)
        self.assertIn("cause version", self.err)
        self.assertNotIn("in_flight", self.stat())
        self.assertNotIn(CANARY, self.err)

    def test_an_empty_input(self):
        self.cli("stream", self.thread, "--bare")
        self.assertEqual(self.json("replay", self.thread)["steps"][0]["segments"], [])
        self.cli("stream", self.thread, "--bare", stdin="not bare")
        self.assertEqual(self.text(), "not bare")
        with tempfile.NamedTemporaryFile() as f:
            f.write(b"sig")
            f.flush()
            self.cli("stream", self.thread, "--segment", "opaque=" + f.name)
        self.assertEqual(self.text(), "sig")

    def test_a_server_that_ends(self):
        other = Server()
        process = self.start(address=other.address)
        self.wait_for(lambda: run("stat", self.thread, "--json", address=other.address).stdout.count(b"in_flight"))
        other.process.kill()
        out, err = process.communicate(b"x", timeout=PATIENCE_S)
        self.assertEqual((process.returncode, out), (FAILED, b""))
        self.assertIn(b"the server closed the connection", err)
        other.stop()


if __name__ == "__main__":
    unittest.main()
