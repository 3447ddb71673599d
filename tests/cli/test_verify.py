"""rethread-cli verify on the data directory of a real server: sound, in use, damaged, not one.

RETHREAD_SERVER and RETHREAD_CLI name the programs (default: those in build/).
"""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SERVER = os.environ.get("RETHREAD_SERVER", os.path.join(ROOT, "build", "rethread-server"))
CLI = os.environ.get("RETHREAD_CLI", os.path.join(ROOT, "build", "rethread-cli"))
CANARY = "canary-77c1e0-thoughts"

SOUND, DAMAGED, USAGE, FAILED = 0, 1, 2, 3


def cli(*arguments):
    return subprocess.run([CLI, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=120, check=False)


class Server:
    def __init__(self, data):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([SERVER, "--listen", "127.0.0.1:0", "--data", data],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log)
        deadline = time.monotonic() + 120
        self.address = None
        while self.address is None:
            text = os.pread(self.log.fileno(), 1 << 16, 0).decode()
            found = re.search(r"^rethread-server: ready on (\S+)$", text, re.M)
            if found:
                self.address = found.group(1)
            elif self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise RuntimeError("the server did not start:\n" + text)
            else:
                time.sleep(0.01)

    def append(self, thread, text):
        done = cli("append", thread, "--text", text, "--ack", "disk", "--server", self.address)
        assert done.returncode == 0, done.stderr

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(timeout=120)
        self.log.close()


class TestVerify(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.data = os.path.join(self.folder.name, "data")

    def fill(self, how=signal.SIGTERM):
        server = Server(self.data)
        try:
            for step in range(6):
                server.append("secret-a", CANARY + " %d " % step * (50 if step == 5 else 1))
            server.append("secret-b", CANARY)
        finally:
            server.end(how)

    def verify(self, code):
        done = cli("verify", self.data, "--json")
        self.assertEqual(done.returncode, code, (done.stdout, done.stderr))
        self.assertNotIn("secret", done.stderr)
        self.assertNotIn("canary", done.stderr)
        return (json.loads(done.stdout) if done.stdout else None), done.stderr

    def files(self):
        result = {}
        for name in sorted(os.listdir(self.data)):
            if not name.endswith("-lock"):
                with open(os.path.join(self.data, name), "rb") as file:
                    result[name] = file.read()
        return result

    def test_sound(self):
        self.fill()
        before = self.files()
        report, said = self.verify(SOUND)
        self.assertEqual(said, "")
        self.assertEqual((report["threads"], report["steps"], report["damaged"]), (2, 7, 0))
        self.assertEqual(report["log_groups"], 0)
        self.assertGreater(report["records"], 9)
        self.assertGreater(report["bytes"], 1000)
        self.assertEqual(self.files(), before)
        table = cli("verify", self.data)
        self.assertEqual(table.returncode, SOUND)
        self.assertRegex(table.stdout, r"(?m)^threads +2$")
        self.assertRegex(table.stdout, r"(?m)^steps +7$")
        self.assertRegex(table.stdout, r"(?m)^bytes +[\d.]+ [KM]?i?B$")
        self.assertRegex(table.stdout, r"(?m)^damaged +0$")

    def test_after_kill(self):
        """What an acknowledgement promised is in the tree or in the log."""
        self.fill(signal.SIGKILL)
        before = self.files()
        report, _ = self.verify(SOUND)
        self.assertGreaterEqual(report["steps"] + report["log_groups"], 7)
        self.assertEqual(self.files(), before)

    def test_in_use(self):
        server = Server(self.data)
        try:
            report, said = self.verify(FAILED)
            self.assertIsNone(report)
            self.assertIn("a server is using", said)
        finally:
            server.end()
        self.verify(SOUND)

    def test_damaged_value(self):
        self.fill()
        path = os.path.join(self.data, "tree.mdb")
        with open(path, "r+b") as file:
            whole = file.read()
            spots = [found.start() for found in re.finditer((CANARY + " 2").encode(), whole)]
            self.assertTrue(spots)
            for spot in spots:  # older versions of pages have it too
                file.seek(spot + 3)
                file.write(b"X")
        report, said = self.verify(DAMAGED)
        self.assertEqual(report["damaged"], 1)
        self.assertRegex(said, r"^rethread-cli verify: data: thread \d+: 1 records damaged or missing; "
                               r"steps that cannot be read: 2\n$")

    def test_damaged_structure(self):
        self.fill()
        with open(os.path.join(self.data, "tree.mdb"), "r+b") as file:
            file.truncate(3 * 4096)
        report, said = self.verify(DAMAGED)
        self.assertEqual(report["damaged"], 1)
        self.assertIn("tree.mdb", said)

    def test_damaged_log(self):
        self.fill(signal.SIGKILL)
        report, _ = self.verify(SOUND)
        logs = [name for name in os.listdir(self.data) if name.startswith("log-")]
        for name in logs:
            with open(os.path.join(self.data, name), "r+b") as file:
                file.seek(20)
                file.write(b"damage")
        report, said = self.verify(DAMAGED)
        self.assertGreater(report["damaged"], 0)
        self.assertIn("log-", said)

    def test_not_a_data_directory(self):
        self.assertIn("no such directory", self.verify(FAILED)[1])
        os.mkdir(self.data)
        self.assertIn("no tree.mdb", self.verify(FAILED)[1])
        self.assertEqual(os.listdir(self.data), [])
        with open(os.path.join(self.data, "tree.mdb"), "wb") as file:
            file.write(b"something else entirely" * 1000)
        self.assertIn("no tree of rethread", self.verify(DAMAGED)[1])

    def test_usage(self):
        for arguments in (["verify"], ["verify", "a", "b"]):
            done = cli(*arguments)
            self.assertEqual(done.returncode, USAGE)
            self.assertIn("which data directory", done.stderr)


if __name__ == "__main__":
    unittest.main()
