"""rethread-cli where it is used in odd ways: closed standard files, servers that go, stale claims."""

import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from test_cli import CANARY, CLI, DONE, FAILED, MISS, PATIENCE_S, Server, WithServer, run


class Closed(WithServer):
    def shell(self, redirection, *arguments):
        """The command with a standard file closed, as a careless daemon would start it."""
        return subprocess.run(["sh", "-c", f'exec "$@" {redirection}', "sh", CLI, *arguments, "--server",
                               self.server.address], capture_output=True, timeout=PATIENCE_S)

    def test_no_standard_input(self):
        done = self.shell("<&-", "stream", self.thread)
        self.assertEqual((done.returncode, done.stdout), (FAILED, b""))
        self.assertIn(b"cannot read the standard input: Bad file descriptor; nothing was kept", done.stderr)
        self.assertNotIn("in_flight", self.json("stat", self.thread, code=MISS))
        done = self.shell("<&-", "append", self.thread, "--segment", "text=-")
        self.assertIn(b"cannot be read: Bad file descriptor", done.stderr)

    def listen(self):
        """A listener, and what the first to connect sends it."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        got = []

        def take():
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(1 << 16):
                    got.append(data)
                    connection.sendall(b"no server")
        thread = threading.Thread(target=take)
        thread.start()
        return listener.getsockname()[1], thread, got

    def test_no_standard_error(self):
        port, thread, got = self.listen()
        done = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", CLI, "ping", "--server", f"127.0.0.1:{port}"],
                              capture_output=True, timeout=PATIENCE_S)
        thread.join(PATIENCE_S)
        self.assertEqual(done.returncode, FAILED)
        self.assertNotIn(b"rethread-cli", b"".join(got))  # a message meant for people

    def test_no_standard_output(self):
        text = CANARY * 4000
        self.cli("append", self.thread, "--segment", "text=-", stdin=text)
        before = self.json("info")["server"]["bytes_received"]
        done = self.shell(">&-", "replay", self.thread, "--reveal")
        self.assertEqual(done.returncode, FAILED)
        self.assertIn(b"cannot write the output", done.stderr)
        # The payload went nowhere, least of all back over the connection.
        self.assertLess(self.json("info")["server"]["bytes_received"] - before, len(text) // 2)


class Streams(WithServer):
    def test_a_server_that_dies_is_noticed_in_silence(self):
        other = Server("--claim-timeout", "1h")
        process = subprocess.Popen([CLI, "stream", self.thread, "--server", other.address], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while b"in_flight" not in run("stat", self.thread, "--json", address=other.address).stdout:
                self.assertLess(time.monotonic(), deadline)
            other.process.kill()
            # It has nothing to say before a third of the claim is over.
            self.assertEqual(process.wait(timeout=PATIENCE_S), FAILED)
            self.assertEqual(process.stderr.read(),
                             b"rethread-cli stream: the server closed the connection before it answered\n")
        finally:
            process.kill()
            process.communicate()
            other.stop()

    def test_a_stale_claim_is_not_said_to_be_another_stream(self):
        self.cli("append", self.thread, "--bare")
        for command in ("chunk", "commit", "abort"):
            self.cli(command, self.thread, "--claim", "5", code=FAILED)
            self.assertIn("the claim is over", self.err)
            self.assertNotIn("is being streamed", self.err)
        self.cli("begin", self.thread)
        self.cli("begin", self.thread, code=FAILED)
        self.assertIn("a step is being streamed into the thread", self.err)


    def test_an_interrupted_pipe_is_not_a_whole_step(self):
        """Ctrl-C ends the writer of the pipe as well: the end of the input must not win."""
        cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cpus)})  # so that the stream sees both at once
        self.addCleanup(os.sched_setaffinity, 0, cpus)
        for n in range(20):
            thread = f"{self.thread}-{n}"
            process = subprocess.Popen([CLI, "stream", thread, "--server", self.server.address],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            process.stdin.write(b"cut in the mid")
            process.stdin.flush()
            # The bytes alone could be those of the round before.
            while "in_flight" not in self.json("stat", thread, code=MISS) or \
                    not self.json("info")["memory"]["streaming_bytes"]:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE_S)
            self.assertEqual((process.returncode, out, err), (
                -signal.SIGINT, b"", b"rethread-cli stream: interrupted: nothing of the step was kept\n"))

    def wait_until_it_catches(self, process):
        """Before that an interrupt ends it without a word."""
        caught = 0
        while not caught >> signal.SIGINT - 1 & 1:
            self.assertIsNone(process.poll())
            with open(f"/proc/{process.pid}/status", encoding="ascii") as f:
                caught = int(f.read().split("SigCgt:")[1].split()[0], 16)
            time.sleep(0.01)

    def test_an_interrupt_does_not_wait_for_a_server_that_hangs(self):
        """In each phase before the commit; what a commit came to is waited for."""
        for flags, sent in ((["--bare"], False), ([], True)):
            other = Server()
            self.addCleanup(other.stop)
            self.addCleanup(other.process.send_signal, signal.SIGCONT)
            if not sent:
                other.process.send_signal(signal.SIGSTOP)
            process = subprocess.Popen([CLI, "stream", self.thread, *flags, "--server", other.address],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.addCleanup(process.kill)
            if sent:
                while b"in_flight" not in run("stat", self.thread, "--json", address=other.address).stdout:
                    time.sleep(0.01)
                other.process.send_signal(signal.SIGSTOP)
                process.stdin.write(b"never answered")
                process.stdin.flush()
            self.wait_until_it_catches(process)
            time.sleep(0.5)
            started = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE_S)
            self.assertLess(time.monotonic() - started, 10)
            self.assertEqual((process.returncode, err), (
                -signal.SIGINT, b"rethread-cli stream: interrupted: nothing of the step was kept\n"))

    def test_an_interrupt_while_it_begins_gives_the_claim_back(self):
        """To a server that answers within a second; on a machine that stands still longer, that one
        may be over before the server goes on, and then it is tried again."""
        for _ in range(20):
            if self.gives_back_while_it_begins():
                return
        self.fail("the claim is not given back")

    def gives_back_while_it_begins(self):
        other = Server()
        try:
            other.process.send_signal(signal.SIGSTOP)
            process = subprocess.Popen([CLI, "stream", self.thread, "--server", other.address],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.wait_until_it_catches(process)
            time.sleep(0.5)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
            other.process.send_signal(signal.SIGCONT)
            process.communicate(timeout=PATIENCE_S)
            took_s = time.monotonic() - sent
            self.assertEqual(process.returncode, -signal.SIGINT)
            given_back = b"in_flight" not in run("stat", self.thread, "--json", address=other.address).stdout
            self.assertTrue(given_back or took_s > 0.9, "it did not wait for its claim")
            return given_back
        finally:
            other.process.send_signal(signal.SIGCONT)
            other.stop()

    def test_chunks_fit_into_frames(self):
        text = b"x" * 200000
        with tempfile.TemporaryFile() as f:
            f.write(text)
            f.seek(0)
            done = subprocess.run([CLI, "stream", self.thread, "--frame-max", "64K", "--chunk-bytes", "128K", "--server",
                                   self.server.address], stdin=f, capture_output=True, timeout=PATIENCE_S)
        self.assertEqual((done.returncode, done.stderr), (DONE, b""))
        self.assertEqual(self.json("stat", self.thread)["bytes"], len(text))

    def test_begin_tells_the_version(self):
        self.cli("append", self.thread, "--bare")
        self.assertRegex(self.cli("begin", self.thread), r"^%s: step 1 is taken, version 1, claim \d+, which" % self.thread)


class Partial(WithServer):
    def test_what_is_not_listed_is_not_hidden(self):
        # A claude's step, which no other model may read, is not listed again to who holds the other.
        self.cli("append", self.thread, "--text", "mine", "--model", "claude-opus-4-1")
        self.cli("append", self.thread, "--text", "yours", "--model", "qwen3-8b")
        asked = ["replay", self.thread, "--model", "qwen3-8b", "--have", "2:1:1"]
        result = self.json(*asked)
        self.assertEqual((result["status"], result["extends"], result["steps"]), ("partial", True, []))
        self.assertIn(": partial, 0 steps, missing steps are before these and not in what you have, version 2",
                      self.cli(*asked))


class Ids(WithServer):
    def test_a_prefix_that_only_begins_like_digits(self):
        # 32 characters, but 16 bytes, of which the first ten are themselves.
        written = r"abcdefabcd\x00\x00\x00\x00\x00" + "\\\\"
        digits = b"abcdefabcd\0\0\0\0\0\\".hex()
        self.assertEqual((len(written), len(digits)), (32, 32))
        self.cli("append", self.thread, "--bare", "--prefix", written)
        self.assertEqual(self.json("replay", self.thread, "--prefix", digits)["status"], "complete")


if __name__ == "__main__":
    unittest.main()
