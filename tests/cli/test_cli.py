"""rethread-cli against a real server: every command, its JSON, its exit codes and its messages.

RETHREAD_SERVER and RETHREAD_CLI name the programs (default: those in build/).
"""

import base64
import gzip
import json
import os
import pty
import re
import select
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SERVER = os.environ.get("RETHREAD_SERVER", os.path.join(ROOT, "build", "rethread-server"))
CLI = os.environ.get("RETHREAD_CLI", os.path.join(ROOT, "build", "rethread-cli"))
DATA = os.path.join(ROOT, "..", "shared", "data")
METHODS = ["hello", "ping", "append", "replay", "stat", "touch", "fork", "rewind", "forget", "list", "info",
           "begin", "chunk", "commit", "abort"]
CANARY = "canary-5f0c1d-thoughts"

DONE, MISS, USAGE, FAILED = 0, 1, 2, 3


PATIENCE_S = 120  # for what must come: only what hangs takes so long


class Server:
    """A server of its own on a free port."""

    def __init__(self, *flags):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [SERVER, "--listen", "127.0.0.1:0", "--data", "none", *flags],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log)
        self.address = None
        deadline = time.monotonic() + PATIENCE_S
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

    def stop(self):
        """Ends it; returns its exit code and all it logged."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=PATIENCE_S)
        log = os.pread(self.log.fileno(), 1 << 24, 0).decode()
        self.log.close()
        return code, log


def run(*arguments, address=None, stdin=b"", env=None):
    environment = {k: v for k, v in os.environ.items() if k != "RETHREAD_ADDRESS"}
    if address:
        environment["RETHREAD_ADDRESS"] = address
    environment.update(env or {})
    if isinstance(stdin, str):
        stdin = stdin.encode()
    return subprocess.run([CLI, *arguments], input=stdin, capture_output=True, env=environment,
                          timeout=PATIENCE_S)


def contract_options():
    """Options by method, read from the schema."""
    with open(os.path.join(ROOT, "schema", "options.def"), encoding="utf-8") as f:
        rows = re.findall(r"^OPTION\((\w+), (\w+), (\w+), (\w+),", f.read(), re.M)
    options = {}
    for method, name, kind, need in rows:
        options.setdefault(method.lower(), []).append((name, kind, need))
    return options


class WithServer(unittest.TestCase):
    flags = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.flags)

    @classmethod
    def tearDownClass(cls):
        code, log = cls.server.stop()
        assert code == 0, "the server ended with %d:\n%s" % (code, log)
        assert CANARY not in log

    def setUp(self):
        self.thread = self.id().rsplit(".", 1)[-1]

    def cli(self, *arguments, code=DONE, stdin=b""):
        done = run(*arguments, address=self.server.address, stdin=stdin)
        self.assertEqual(done.returncode, code, (arguments, done.stdout, done.stderr))
        self.out, self.err = done.stdout, done.stderr.decode()
        return done.stdout.decode()

    def json(self, *arguments, code=DONE, stdin=b""):
        lines = self.cli(*arguments, "--json", code=code, stdin=stdin).splitlines()
        self.assertEqual(len(lines), 1, lines)
        return json.loads(lines[0])

    def lines(self, *arguments, code=DONE, stdin=b""):
        self.cli(*arguments, code=code, stdin=stdin)
        return [json.loads(line) for line in self.out.splitlines()]


class TestMethods(WithServer):
    def test_hello(self):
        hello = self.json("hello")
        self.assertEqual(set(hello), {"protocol", "server", "version", "tenant", "frame_max"})
        self.assertEqual((hello["protocol"], hello["tenant"]), (1, "default"))
        self.assertIn("protocol 1, tenant default, frames up to 64.0 MiB", self.cli("hello", "--client", "test"))

    def test_ping(self):
        self.assertGreater(self.json("ping")["round_trip_ms"], 0)
        self.assertRegex(self.cli("ping"), r"^127\.0\.0\.1:\d+ answers, in \d+\.\d\d ms\n$")

    def test_append_and_replay_with_everything(self):
        opaque = bytes(range(256))
        with tempfile.NamedTemporaryFile() as f:
            f.write(opaque)
            f.flush()
            append = self.json(
                "append", "--thread", self.thread, "--expect", "0", "--key", "k", "--response-id", "r-1" + self.thread,
                "--tool-call", "c-1" + self.thread, "--tool-calls", "c-2" + self.thread, "--model", "m", "--turn", "3",
                "--no-final", "--tokens", "17", "--prefix", "00112233445566778899aabbccddeeff", "--ttl-ms", "90s",
                "--visible", "FF" * 16,
                "--text", CANARY, "--segment", "opaque=" + f.name, "--segments", "tokens=-", stdin=b"\1\0\0\0")
        expires = append.pop("expires_in_ms")
        self.assertTrue(0 < expires <= 90000, expires)
        self.assertEqual(append, {"thread": self.thread, "step": 0, "version": 1, "created": True,
                                  "duplicate": False, "lost": 0})
        for key in (["--thread", self.thread], ["--response-id", "r-1" + self.thread],
                    ["--tool-call", "c-2" + self.thread], ["--prefix", "00112233445566778899aabbccddeeff"],
                    ["--prefix", r"\x00\x11\x22\x33DUfw\x88\x99\xaa\xbb\xcc\xdd\xee\xff"]):
            replay = self.json("replay", *key, "--reveal")
            self.assertEqual(replay["status"], "complete")
            self.assertEqual((replay["thread"], replay["version"], replay["head"]), (self.thread, 1, 0))
            self.assertEqual(replay["steps"], [{
                "step": 0, "turn": 3, "final": False, "model": "m", "response_id": "r-1" + self.thread,
                "tool_calls": ["c-1" + self.thread, "c-2" + self.thread], "tokens": 17, "visible": "ff" * 16,
                "segments": [
                    {"kind": "text", "bytes": len(CANARY), "text": CANARY},
                    {"kind": "opaque", "bytes": 256, "base64": base64.b64encode(opaque).decode()},
                    {"kind": "tokens", "bytes": 4, "text": "\1\0\0\0"}], "source": "memory"}])
        described = self.json("replay", self.thread)["steps"][0]["segments"]
        self.assertEqual(described, [{"kind": "text", "bytes": len(CANARY)}, {"kind": "opaque", "bytes": 256},
                                     {"kind": "tokens", "bytes": 4}])

    def test_replay_for_people(self):
        self.cli("append", self.thread, "--text", "x" * 1229, "--tool-call", "call_7", "--model", "m")
        self.cli("append", self.thread, "--bare")
        table = self.cli("replay", self.thread)
        self.assertRegex(table, r"\A%s: complete, 2 steps, version 2, expires in (5m 00s|4m 59s)\n" % self.thread)
        rows = table.splitlines()
        self.assertEqual(rows[1].split(), ["STEP", "TURN", "FINAL", "TRACE", "MODEL", "TOOL", "CALLS", "FROM"])
        self.assertEqual(rows[2].split(), ["0", "0", "no", "<1.2", "KiB", "text>", "m", "call_7", "memory"])
        self.assertEqual(rows[3].split(), ["1", "0", "yes", "bare", "memory"])
        self.assertEqual(rows[1].index("FROM"), rows[3].index("memory"))
        self.assertNotIn("xxx", table)
        self.assertIn("--- step 0, text, 1.2 KiB ---\n" + "x" * 1229 + "\n", self.cli("replay", self.thread, "--reveal"))

    def test_revealed_bytes_cannot_drive_a_terminal(self):
        self.cli("append", self.thread, "--text", "a\x1b[2Jb\nc\x9b")
        self.cli("replay", self.thread, "--reveal")
        self.assertNotIn(b"\x1b", self.out)
        self.assertIn(b"a\\x1b[2Jb\nc", self.out)

    def test_replay_selects(self):
        for i in range(4):
            self.cli("append", self.thread, "--text", "thought %d" % i, "--model", "a" if i else "b")
        numbers = lambda *a: [s["step"] for s in self.json("replay", self.thread, *a)["steps"] if "missing" not in s]
        self.assertEqual(numbers(), [0, 1, 2, 3])
        self.assertEqual(numbers("--last", "2"), [2, 3])
        self.assertEqual(numbers("--have", "2:1"), [2, 3])
        self.assertEqual(numbers("--have", "4:3"), [])
        self.assertEqual(numbers("--policy", "none"), [])
        self.assertEqual(numbers("--max-bytes", "20"), [2, 3])
        partial = self.json("replay", self.thread, "--model", "a")
        self.assertEqual(partial["status"], "partial")
        self.assertEqual(partial["steps"][0], {"step": 0, "missing": "model_mismatch"})
        self.cli("replay", self.thread, "--model", "a", "--strict", code=MISS)
        self.assertIn("partial, 1 of 4 steps missing", self.out.decode())
        self.assertIn("missing: model_mismatch", self.out.decode())

    def test_touch_false_leaves_the_deadline(self):
        self.cli("append", self.thread, "--text", "x", "--ttl-ms", "60s")
        time.sleep(0.3)
        left = self.json("replay", self.thread, "--touch=false")["expires_in_ms"]
        self.assertLess(left, 59800)
        self.assertLess(self.json("replay", self.thread, "--no-touch")["expires_in_ms"], 59800)
        self.assertGreater(self.json("replay", self.thread)["expires_in_ms"], 59800)

    def test_stat(self):
        self.cli("append", self.thread, "--text", "four", "--tokens", "2")
        stat = self.json("stat", self.thread)
        for name in ("age_ms", "idle_ms", "expires_in_ms"):
            self.assertGreaterEqual(stat.pop(name), 0)
        self.assertEqual(stat, {"status": "complete", "version": 1, "step_count": 1, "bytes": 4, "tokens": 2,
                                "tier": "memory"})
        self.assertRegex(self.cli("stat", self.thread), r"(?m)^payloads +4 B$")

    def test_misses(self):
        self.assertEqual(self.json("stat", "nobody", code=MISS)["reason"], "never_seen")
        miss = self.json("replay", "nobody", code=MISS)
        self.assertEqual((miss["status"], miss["reason"], miss["steps"]), ("miss", "never_seen", []))
        self.assertIn("vouch_ms", miss)
        self.assertIn("miss: never_seen. No such thread", self.cli("replay", "--response-id", "nobody", code=MISS))

    def test_expired(self):
        self.cli("append", self.thread, "--text", "x", "--ttl-ms", "1ms")
        time.sleep(0.05)
        self.assertEqual(self.json("replay", self.thread, code=MISS)["reason"], "expired")
        lost = self.json("append", self.thread, "--text", "y")
        self.assertEqual((lost["step"], lost["lost"]), (1, 1))
        partial = self.json("replay", self.thread)
        self.assertEqual(partial["steps"][0], {"step": 0, "missing": "expired"})

    def test_touch(self):
        self.cli("append", self.thread, "--text", "x")
        touched = self.json("touch", self.thread, "--thread", "nobody", "--ttl-ms", "7m", code=MISS)
        self.assertEqual(touched, {"touched": 1, "missing": [{"thread": "nobody", "reason": "never_seen"}]})
        self.assertGreater(self.json("stat", self.thread)["expires_in_ms"], 300000)
        self.assertEqual(self.cli("touch", "--threads", self.thread), "touched 1\n")
        self.assertIn("nobody: miss: never_seen", self.cli("touch", "nobody", code=MISS))

    def test_fork_rewind_forget(self):
        for i in range(3):
            self.cli("append", self.thread, "--text", "thought %d" % i)
        fork = self.thread + "-fork"
        self.assertEqual(self.json("fork", fork, "--from", self.thread, "--at", "1"), {"thread": fork, "version": 2})
        self.assertEqual(len(self.json("replay", fork)["steps"]), 2)
        self.assertEqual(self.json("rewind", self.thread, "--to", "0"), {"version": 4, "dropped": 2})
        self.assertEqual(self.cli("rewind", self.thread, "--to", "-1"), "dropped 1, version 5\n")
        self.assertEqual(self.json("forget", self.thread), {"forgotten": True})
        self.assertEqual(self.cli("forget", self.thread), "there was nothing to forget\n")
        self.assertEqual(self.json("replay", self.thread, code=MISS)["reason"], "forgotten")
        self.cli("fork", fork + "2", "--from", "nobody", code=MISS)
        self.assertIn("not_found", self.err)
        self.assertIn("reason never_seen", self.err)
        self.assertEqual(self.json("rewind", "nobody", "--to", "0", code=MISS)["error"]["reason"], "never_seen")

    def test_conflicts_and_duplicates(self):
        self.cli("append", self.thread, "--text", "x", "--key", "k")
        self.assertTrue(self.json("append", self.thread, "--text", "x", "--key", "k")["duplicate"])
        self.cli("append", self.thread, "--text", "y", "--key", "k", code=FAILED)
        self.assertIn("cause key", self.err)
        error = self.json("append", self.thread, "--text", "y", "--expect", "7", code=FAILED)["error"]
        self.assertEqual((error["code"], error["cause"], error["version"]), ("conflict", "version", 1))
        self.cli("append", self.thread, "--text", "y", "--expect", "0", code=FAILED)
        self.assertRegex(self.err, r"^rethread-cli append: conflict: .*; the thread is at version 1\n$")

    def test_the_servers_judgement(self):
        self.cli("append", self.thread, "--text", "x", "--turn", "3")
        self.cli("append", self.thread, "--text", "x", "--turn", "2", code=USAGE)
        self.assertRegex(self.err, "bad_request: .*option turn")
        self.cli("append", self.thread, "--text", "x", "--ack", "disk", code=USAGE)
        self.assertIn("option ack", self.err)
        self.cli("replay", "--policy", "some", self.thread, code=USAGE)
        self.assertIn("option policy", self.err)
        self.cli("replay", code=USAGE)
        self.assertIn("bad_request", self.err)

    def test_list(self):
        names = ["%s-%02d" % (self.thread, i) for i in range(25)]
        for name in names:
            self.cli("append", name, "--text", "four")
        listed = self.lines("list", "--starts-with", self.thread, "--all", "--limit", "7", "--json")
        self.assertEqual(sorted(row["thread"] for row in listed), names)
        self.assertEqual({k: v for k, v in listed[0].items() if k not in ("thread", "idle_ms")},
                         {"version": 1, "bytes": 4, "tier": "memory"})
        seen, cursor = [], []
        for _ in range(1000):
            page = self.lines("list", "--json", "--limit", "3", *cursor)
            seen += [row["thread"] for row in page if "thread" in row]
            if not page or "cursor" not in page[-1]:
                break
            cursor = ["--cursor", page[-1]["cursor"]]
        self.assertEqual(sorted(n for n in seen if n in names), names)
        table = self.cli("list", "--starts-with", self.thread, "--all").splitlines()
        self.assertEqual(table[0].split(), ["THREAD", "VERSION", "PAYLOADS", "IDLE", "TIER"])
        self.assertEqual(len(table), 26)
        self.assertEqual(self.cli("list", "--all", "--starts-with", "nobody"), "no threads\n")

    def test_info(self):
        with open(os.path.join(ROOT, "schema", "metrics.def"), encoding="utf-8") as f:
            rows = re.findall(r'^METRIC\(\w+, \w+, "(\w+)", "(\w+)"', f.read(), re.M)
        info = self.json("info")
        self.assertTrue(rows)
        for section, name in rows:
            self.assertIsInstance(info[section][name], int)
        text = self.cli("info")
        self.assertRegex(text, r"(?m)^  budget_bytes +1\.0 GiB  The budget\.$")
        self.assertRegex(text, r"(?m)^memory$")

    def test_ids_of_any_bytes(self):
        shown = r"%s\x00\xff\\ü\x1b" % self.thread
        self.cli("append", shown, "--text", "x")
        raw = self.thread.encode() + b"\0\xff\\\xc3\xbc\x1b"
        encoded = base64.b64encode(raw).decode()
        self.assertEqual(self.json("replay", "--thread", shown)["thread_base64"], encoded)
        self.assertTrue(self.cli("replay", shown).startswith(shown + ": complete"))
        row, = self.lines("list", "--all", "--starts-with", self.thread, "--json")
        self.assertEqual(row["thread_base64"], encoded)
        self.assertIn(shown + " ", self.cli("list", "--all", "--starts-with", self.thread))
        self.assertEqual(self.lines("export", shown)[0]["thread_base64"], encoded)

    def test_payloads_stay_hidden(self):
        """No command but replay --reveal and export shows a byte of a trace, whatever goes wrong."""
        commands = [
            ["append", self.thread, "--text", CANARY, "--key", "k"],
            ["append", self.thread, "--text", CANARY, "--key", "k"],
            ["append", self.thread, "--text", CANARY + "2", "--key", "k"],
            ["append", self.thread, "--text", CANARY, "--expect", "9"],
            ["append", self.thread, "--text", CANARY, "--turn", "4294967296"],
            ["append", self.thread, "--text=" + CANARY, "--bare"],
            ["append", self.thread, "--txt=" + CANARY],
            ["append", self.thread, "--text", CANARY, "--ack", "disk"],
            ["replay", self.thread], ["stat", self.thread], ["touch", self.thread],
            ["fork", self.thread + "-fork", "--from", self.thread], ["list", "--all"], ["info"],
            ["rewind", self.thread, "--to", "0"], ["forget", self.thread]]
        for command in commands:
            for form in ([], ["--json"], ["--reveal"], ["--json", "--reveal"]):
                if command[0] == "replay" and "--reveal" in form:
                    continue
                done = run(*command, *form, address=self.server.address)
                self.assertNotIn(CANARY.encode(), done.stdout + done.stderr, (command, form))
        bad = '{"thread":"t","segments":[{"kind":"text","text":"%s"}}' % CANARY
        self.cli("import", "-", stdin=bad, code=USAGE)
        self.assertNotIn(CANARY, self.err + self.out.decode())


class TestCommandLine(unittest.TestCase):
    def usage(self, *arguments, says):
        done = run(*arguments)
        self.assertEqual(done.returncode, USAGE, (arguments, done.stderr))
        self.assertEqual(done.stdout, b"")
        self.assertIn(says, done.stderr.decode())
        return done.stderr.decode()

    def test_usage(self):
        self.usage(says="say what to do")
        self.usage("frobnicate", says="there is no command 'frobnicate'")
        self.usage("stat", says="--thread is required")
        self.usage("rewind", "t", says="--to is required")
        self.usage("stat", "a", "b", says="the thread was given already")
        self.usage("ping", "x", says="takes options only")
        self.usage("stat", "t", "--frob", says="--frob is no option here")
        self.usage("stat", "--thread", says="--thread needs a value")
        self.usage("ping", "--json=yes", says="--json takes no value")
        self.usage("stat", "a\\b", says="a backslash itself is written \\\\")
        self.usage("stat", "", says="takes 1 to 255 bytes; this is 0")
        self.usage("stat", "x" * 256, says="takes 1 to 255 bytes; this is 256")
        self.usage("append", "t", says="give --text or --segment, or --bare")
        self.usage("append", "t", "--bare", "--text", "x", says="give no segments with it")
        self.usage("append", "t", "--text", "", says="a step without a trace is --bare")
        self.usage("append", "t", "--segment", "text", says="takes KIND=FILE")
        self.usage("append", "t", "--segment", "image=-", says="KIND is text, tokens or opaque")
        self.usage("append", "t", "--segment", "text=/nowhere/at/all", says="cannot open /nowhere/at/all")
        self.usage("append", "t", "--segment", "text=-", "--segment", "text=-", says="is empty")
        self.usage("append", "t", "--ttl-ms", "1.5s", "--bare", says="takes a time")
        self.usage("append", "t", "--ttl-ms", "0", "--bare", says="takes 1 to 31536000000 ms")
        self.usage("append", "t", "--key", "k" * 65, "--bare", says="takes 1 to 64 bytes; this is 65")
        self.usage("append", "t", "--turn", "-1", "--bare", says="takes a whole number")
        self.usage("append", "t", "--final=maybe", "--bare", says="takes true or false")
        self.usage("append", "t", "--ack", "paper", "--bare", says="takes memory or disk")
        self.usage("append", "t", "--prefix", "00", "--bare", says="takes 16 bytes, or 32 hexadecimal digits")
        self.usage("rewind", "t", "--to", "-2", says="takes -1 to")
        self.usage("replay", "t", "--have", "3", says="takes VERSION:STEP")
        for have in ("x:1", "3:1:x", "3:1:2-1", "3:1:1,", "3:1:,1", "3:1:0-4294967295", "3:1:1 2", "3:1:-1", "3:-2"):
            self.usage("replay", "t", "--have", have, says="takes VERSION:STEP")
        self.usage("replay", "t", "--prefix", "00", says="--prefix takes 16 bytes, or 32 hexadecimal digits")
        for pair in ("3", "x:" + "00" * 16, ":" + "00" * 16, "-1:" + "00" * 16, "4294967296:" + "00" * 16):
            self.usage("replay", "t", "--step-prefix", pair, says="--step-prefix takes STEP:PREFIX")
        self.usage("replay", "t", "--step-prefix", "3:00", says="--step-prefix takes 16 bytes")
        self.usage("chunk", "t", says="--claim is required")
        self.usage("chunk", "t", "--claim", "0", says="--claim takes 1 to 9223372036854775807")
        self.usage("chunk", "t", "--claim", "1", "--text", "", says="--text is empty\n")
        self.usage("chunk", "t", "--claim", "1", "--file", "/nowhere/at/all", says="cannot open /nowhere/at/all")
        self.usage("commit", "t", "--claim", "1", "--bare", "--text", "x", says="give no segments with it")
        self.usage("stream", says="--thread is required")
        self.usage("stream", "t", "--claim", "1", says="--claim is no option here")
        self.usage("stream", "t", "--kind", "image", says="--kind takes text, tokens or opaque")
        self.usage("stream", "t", "--chunk-bytes", "0", says="takes 1 to")
        self.usage("stream", "t", "--segment", "opaque=-", says="that is what is streamed")
        self.usage("stream", "t", "--segment", "image=x", says="KIND is text, tokens or opaque")
        self.usage("list", "--limit", "0", says="takes 1 to 4294967295")
        self.usage("export", "t", "--starts-with", "x", says="some were named")
        self.usage("import", says="name one file")
        self.usage("import", "/nowhere/at/all", says="cannot open")
        self.usage("help", "frobnicate", says="there is no command")
        self.usage("completion", "fish", says="only bash")
        self.usage("--timeout", "soon", "ping", says="takes a time")
        self.usage("ping", "--server", "nonsense", says="is no address")
        segments = [a for _ in range(65) for a in ("--text", "x")]
        self.usage("append", "t", *segments, says="more than 64 segments")

    def test_no_server(self):
        done = run("ping", "--server", "127.0.0.1:1")
        self.assertEqual((done.returncode, done.stdout), (FAILED, b""))
        self.assertIn("no server at 127.0.0.1:1 (Connection refused): start one with `rethread-server`",
                      done.stderr.decode())
        self.assertIn("127.0.0.1:2", run("ping", env={"RETHREAD_ADDRESS": "127.0.0.1:2"}).stderr.decode())
        for command in (["export"], ["import", "/dev/null"], ["list"]):
            self.assertEqual(run(*command, "--server", "127.0.0.1:1").returncode, FAILED)

    def test_timeout(self):
        import socket
        with socket.create_server(("127.0.0.1", 0)) as silent:
            started = time.monotonic()
            done = run("ping", "--timeout", "200ms", "--server", "127.0.0.1:%d" % silent.getsockname()[1])
            self.assertEqual(done.returncode, FAILED)
            self.assertIn("no answer in time", done.stderr.decode())
            self.assertLess(time.monotonic() - started, 25)  # 30 s unless told otherwise

    def test_no_rethread_server(self):
        import socket
        import threading
        with socket.create_server(("127.0.0.1", 0)) as other:
            def answer():
                connection, _ = other.accept()
                with connection:
                    connection.recv(100)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            thread = threading.Thread(target=answer)
            thread.start()
            done = run("ping", "--server", "127.0.0.1:%d" % other.getsockname()[1])
            thread.join()
        self.assertEqual(done.returncode, FAILED)
        self.assertIn("no rethread server", done.stderr.decode())

    def test_help(self):
        general = run("help")
        self.assertEqual(general.returncode, DONE)
        self.assertEqual(general.stdout, run("--help").stdout)
        with open(os.path.join(ROOT, "schema", "methods.def"), encoding="utf-8") as f:
            methods = re.findall(r'^METHOD\(\w+, "(\w+)"', f.read(), re.M)
        self.assertEqual(methods, METHODS)
        for command in methods + ["stream", "weave", "unweave", "import", "export", "verify", "help", "completion"]:
            self.assertRegex(general.stdout.decode(), r"(?m)^  %s +[A-Z].*\.$" % command)
            text = run("help", command).stdout.decode()
            self.assertEqual(run(command, "--help").stdout.decode(), text)
            for wrong in {"weave": ("default: all)", "default: the highest"), "append": ("[]",), "commit": ("[]",),
                          "stream": ("[]",)}.get(command, ()):
                self.assertNotIn(wrong, text, "what the command line has otherwise")
            self.assertEqual(run(command, "-h").returncode, DONE)
            for flag in ("--server", "--timeout", "--json", "--reveal"):
                self.assertIn("  %s" % flag, text)
        for code in range(4):
            self.assertRegex(general.stdout.decode(), r"(?m)^  %d  \w" % code)

    def test_every_option_of_the_schema_is_a_flag(self):
        options = contract_options()
        self.assertEqual(len(options["append"]), 15)
        for method in METHODS:
            text = run("help", method).stdout.decode()
            words = run("completion", "bash").stdout.decode()
            for name, kind, need in options.get(method, []):
                flag = "--" + name.replace("_", "-")
                line, = re.findall(r"(?m)^  %s\b(?!-).*$" % flag, text)
                self.assertEqual(need == "REQUIRED", "Required." in line, line)
                self.assertEqual(kind in ("IDS", "KINDS", "PREFIX", "PREFIXES"), "May be repeated." in line, line)
                self.assertRegex(words, r"(?m)^    %s\) words='.* %s " % (method, flag))
                if kind not in ("BOOL",):
                    self.usage(method, flag, says=flag + " needs a value")

    def test_completion(self):
        script = run("completion", "bash").stdout.decode() + """
complete_it() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _rethread_cli; echo "${COMPREPLY[*]}"; }
complete_it rethread-cli re
complete_it rethread-cli --json append --to
complete_it rethread-cli help imp
complete_it rethread-cli replay conv-1 --policy
complete_it rethread-cli replay --policy ""
complete_it rethread-cli replay --policy = la
complete_it rethread-cli replay --on-mismatch =
complete_it rethread-cli begin --segment t
complete_it rethread-cli stream --ch
"""
        done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
        self.assertEqual(done.stdout.decode().splitlines(),
                         ["replay rewind", "--tool-calls --tool-call --tokens", "import",
                          "--policy", "all none current_turn since_final tool_turns last_turns auto", "last_turns",
                          "drop fail", "text tokens", "--chunk-bytes"])
        self.assertEqual(done.stderr, b"")

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([CLI, "help"], stdout=full, stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, FAILED)
        self.assertIn(b"cannot write the output", done.stderr)


class TestImportExport(WithServer):
    def row(self, step, **fields):
        return dict({"thread": self.thread, "step": step,
                     "segments": [{"kind": "text", "text": "thought %d" % step}]}, **fields)

    def feed(self, *rows, code=DONE, flags=()):
        text = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
        return self.json("import", "-", *flags, stdin=text, code=code)

    def summary(self, **fields):
        return dict({"added": 0, "already_there": 0, "refused": 0, "bad_lines": 0, "threads": 1}, **fields)

    def check(self, summary, **fields):
        self.assertEqual({k: v for k, v in summary.items() if k not in ("bytes", "took_ms")},
                         self.summary(**fields))

    def numbers(self):
        return [step["step"] for step in self.json("replay", self.thread)["steps"]]

    def test_round_trip(self):
        odd = [self.row(0, turn=1, final=False, model="m", response_id="r" + self.thread,
                        tool_calls=["c" + self.thread], tokens=5, visible="00112233445566778899aabbccddeeff",
                        segments=[
                            {"kind": "text", "text": "a\0b\u2028\U0001f642\"\\"},
                            {"kind": "tokens", "base64": "//79/A=="},
                            {"kind": "opaque", "base64": base64.b64encode(os.urandom(1000)).decode()}]),
               self.row(1, turn=1, final=True, segments=[])]
        self.check(self.feed(*odd), added=2)
        calls = {"tool_calls_base64": [base64.b64encode(call).decode() for call in (b"plain", b"\xff\0")]}
        self.check(self.feed(*odd, self.row(2, **calls)), added=1, already_there=2)
        self.assertEqual(self.lines("export", self.thread)[2]["tool_calls_base64"], calls["tool_calls_base64"])
        odd.append(self.row(2, **calls))
        exported = self.cli("export", self.thread)
        rows = [json.loads(line) for line in self.out.splitlines()]
        for row, line in zip(odd, rows):
            for name in row:
                if name != "segments":
                    self.assertEqual(line[name], row[name])
            self.assertEqual([{k: v for k, v in s.items() if k != "bytes"} for s in line["segments"]], row["segments"])
        self.assertEqual(len(rows), 3)
        other = Server()
        try:
            done = run("import", "-", address=other.address, stdin=exported)
            self.assertEqual(done.returncode, DONE, done.stderr)
            self.assertEqual(run("export", address=other.address).stdout, self.out)
        finally:
            self.assertEqual(other.stop()[0], 0)

    def test_twice_changes_nothing(self):
        rows = [self.row(i) for i in range(150)]
        self.check(self.feed(*rows), added=150)
        self.check(self.feed(*rows), already_there=150)
        self.assertEqual(self.numbers(), list(range(150)))
        self.assertEqual(self.json("stat", self.thread)["version"], 150)

    def test_goes_on_where_it_stopped(self):
        rows = [self.row(i) for i in range(100)]
        self.check(self.feed(*rows[:70]), added=70)
        self.check(self.feed(*rows), added=30, already_there=70)
        self.assertEqual(self.numbers(), list(range(100)))

    def test_goes_on_at_a_rewound_thread(self):
        rows = [self.row(i) for i in range(10)]
        self.feed(*rows)
        self.cli("rewind", self.thread, "--to", "3")
        self.check(self.feed(*rows), added=6, already_there=4)
        self.assertEqual(self.numbers(), list(range(10)))

    def test_what_differs_is_refused(self):
        rows = [self.row(i) for i in range(5)]
        self.feed(*rows)
        rows[2] = self.row(2, segments=[{"kind": "text", "text": CANARY}])
        other = dict(self.row(0), thread=self.thread + "-other")
        self.check(self.feed(*rows, self.row(5), other, code=FAILED), added=1, already_there=2, refused=4, threads=2)
        self.assertIn("line 3: thread %s has another step at this position" % self.thread, self.err)
        self.assertEqual(self.err.count("\n"), 1)
        self.assertNotIn(CANARY, self.err)
        self.assertEqual(len(self.numbers()), 5)
        # The kind counts, and so do the bounds of segments.
        kinds = [self.row(0, segments=[{"kind": "opaque", "text": "thought 0"}])]
        self.check(self.feed(*kinds, code=FAILED), refused=1)
        one = [{"kind": "text", "text": "a" + 16 * "\0" + "b"}]
        two = [{"kind": "text", "text": "a"}, {"kind": "text", "text": "b"}]
        self.check(self.feed(dict(self.row(0, segments=one), thread=self.thread + "-parts")), added=1)
        self.check(self.feed(dict(self.row(0, segments=two), thread=self.thread + "-parts"), code=FAILED), refused=1)

    def test_expired_starts_afresh(self):
        self.feed(self.row(0), self.row(1))
        self.cli("touch", self.thread, "--ttl-ms", "1ms")
        time.sleep(0.05)
        self.check(self.feed(self.row(0), self.row(1)), added=2)
        self.assertEqual(self.json("replay", self.thread)["status"], "complete")

    def test_a_thread_that_lost_steps_is_refused(self):
        self.feed(self.row(0), self.row(1))
        self.cli("touch", self.thread, "--ttl-ms", "1ms")
        time.sleep(0.05)
        self.cli("append", self.thread, "--text", "tail")
        self.check(self.feed(self.row(0), self.row(1), code=FAILED), refused=2)
        self.assertIn("lacks steps", self.err)

    def test_bad_lines(self):
        for line, says in [('{"thread"', "line 2: is no JSON object"), ("[]", "line 2: is no JSON object"),
                           (json.dumps(self.row(7)), "line 2: step 7 of its thread where 1 was due"),
                           (json.dumps(self.row(1, tokens=-1)), "line 2: `tokens`"),
                           (json.dumps(self.row(1, turn=1 << 40)), "line 2: bad_request"),
                           (json.dumps(self.row(1, missing="expired")), "line 2: `missing`"),
                           (json.dumps(dict(self.row(0), thread="x" * 256)), "line 2: bad_request")]:
            self.cli("forget", self.thread)
            result = self.feed(self.row(0), line + "\n", code=USAGE)
            self.assertEqual((result["added"], result["bad_lines"]), (1, 1), line)
            self.assertIn(says, self.err)
            self.assertEqual(self.numbers(), [0])

    def test_skip_bad_never_leaves_a_gap(self):
        rows = [self.row(0), self.row(1, tokens="many"), self.row(2), self.row(3), "no json\n",
                dict(self.row(0), thread=self.thread + "-2")]
        self.check(self.feed(*rows, flags=["--skip-bad"]), added=2, bad_lines=4, threads=2)
        self.assertEqual(self.numbers(), [0])
        self.check(self.feed(*rows, flags=["--skip-bad"]), already_there=2, bad_lines=4, threads=2)

    def test_skip_bad_without_numbers(self):
        rows = [{"thread": self.thread, "segments": [{"kind": "text", "text": text}]} for text in "abc"]
        rows[1]["final"] = "perhaps"
        self.check(self.feed(*rows, flags=["--skip-bad"]), added=1, bad_lines=2)
        self.assertEqual(self.numbers(), [0])
        rows[1].update(final=True, turn=1 << 40)  # the server's judgement, while the next is under way
        self.cli("forget", self.thread)
        self.check(self.feed(*rows, flags=["--skip-bad"]), added=1, bad_lines=2)
        self.assertEqual(self.numbers(), [0])

    def test_rows_of_a_log(self):
        rows = [{"turn": 0, "after": "user", "reasoning": "one", "opaque": "sig", "tool_calls": [{"name": "f", "id": "i1"}]},
                {"turn": 1, "parent": 0, "after": "tool", "reasoning": "", "tool_calls": [], "visible": CANARY},
                {"turn": 2, "after": "user", "blocks": [{"kind": "x", "text": "a", "opaque": "b"}, {"opaque": "c"}],
                 "reasoning": "a", "tool_calls": ["f"], "model": "m", "tools": []}]
        self.check(self.feed(*[dict(row, thread=self.thread) for row in rows]), added=3)
        steps = self.json("replay", self.thread, "--reveal")["steps"]
        self.assertNotIn(CANARY, self.out.decode())
        self.assertEqual([(s["turn"], s["final"], s["tool_calls"]) for s in steps],
                         [(1, False, ["i1"]), (1, True, []), (2, False, [])])
        self.assertEqual([[(g["kind"], g["text"]) for g in s["segments"]] for s in steps],
                         [[("text", "one"), ("opaque", "sig")], [], [("text", "a"), ("opaque", "b"), ("opaque", "c")]])
        self.assertEqual(steps[2]["model"], "m")

    def test_mixed_threads_and_a_small_window(self):
        rows = [dict(self.row(i), thread="%s-%d" % (self.thread, t)) for i in range(20) for t in range(5)]
        for window in ("1", "3", "64"):
            self.check(self.feed(*rows, flags=["--in-flight", window]), threads=5,
                       **({"added": 100} if window == "1" else {"already_there": 100}))
        exported = self.lines("export", "--starts-with", self.thread + "-")
        self.assertEqual([(r["thread"], r["step"]) for r in exported],
                         [("%s-%d" % (self.thread, t), i) for t in range(5) for i in range(20)])

    def test_export(self):
        self.feed(*[self.row(i) for i in range(3)])
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "out.jsonl")
            self.assertEqual(self.cli("export", "--thread", self.thread, "--output", path), "")
            with open(path, "rb") as f:
                written = f.read()
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
            self.cli("export", self.thread)
            self.assertEqual(written, self.out)
            self.assertEqual(written.count(b"\n"), 3)
            self.cli("export", self.thread, "--output", folder, code=FAILED)
        self.cli("export", self.thread, "nobody", code=MISS)
        self.assertIn("nobody: miss: never_seen", self.err)
        self.cli("touch", self.thread, "--ttl-ms", "1ms")
        time.sleep(0.05)
        self.cli("append", self.thread, "--text", "tail")
        rows = self.lines("export", self.thread, code=MISS)
        self.assertEqual([row.get("missing") for row in rows], ["expired"] * 3 + [None])

    def test_export_leaves_deadlines(self):
        self.cli("append", self.thread, "--text", "x", "--ttl-ms", "60s")
        time.sleep(0.3)
        self.cli("export", self.thread)
        self.assertLess(self.json("stat", self.thread)["expires_in_ms"], 59800)

    def on_terminal(self, *arguments, stdin=subprocess.DEVNULL, stderr_only=False, look=lambda shown: None):
        """Exit code and what a terminal would show; `look` is told what it shows so far."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen([CLI, *arguments, "--server", self.server.address], stdin=stdin, stderr=theirs,
                                   stdout=subprocess.DEVNULL if stderr_only else theirs)
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], PATIENCE_S)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:
                break
            look(shown)
        os.close(ours)
        return process.wait(timeout=PATIENCE_S), shown.decode()

    def test_export_to_a_terminal_needs_reveal(self):
        self.cli("append", self.thread, "--text", CANARY)
        code, shown = self.on_terminal("export", self.thread)
        self.assertEqual(code, USAGE)
        self.assertIn("say --reveal, or --output FILE", shown)
        self.assertNotIn(CANARY, shown)
        code, shown = self.on_terminal("export", self.thread, "--reveal")
        self.assertEqual(code, DONE)
        self.assertIn(CANARY, shown)

    def slow_rows(self, most=6):
        """A pipe that a child fills slowly enough for progress to be shown; and whom to tell when it is enough."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            for i in range(most):
                os.write(write, (json.dumps(self.row(i)) + "\n").encode())
                time.sleep(0.06)
            os._exit(0)
        os.close(write)
        self.addCleanup(os.waitpid, child, 0)
        self.addCleanup(os.close, read)
        return read, child

    def test_progress_on_a_terminal(self):
        """The rows end when it was shown: a slow program may have missed the first of them."""
        rows, child = self.slow_rows(most=400)
        progress = re.compile(rb"\r\x1b\[K\d+ steps, \d+ B, \d+ steps/s")
        seen = []

        def look(shown):
            if progress.search(shown) and not seen:
                seen.append(shown)
                os.kill(child, signal.SIGTERM)
        code, _ = self.on_terminal("import", "-", stdin=rows, stderr_only=True, look=look)
        self.assertEqual((code, len(seen)), (DONE, 1))

    def test_no_progress_elsewhere(self):
        done = subprocess.run([CLI, "import", "-", "--server", self.server.address], stdin=self.slow_rows()[0],
                              capture_output=True, timeout=PATIENCE_S)
        self.assertEqual((done.returncode, done.stderr), (DONE, b""))


@unittest.skipUnless(os.path.isdir(DATA), "the shared data is not there")
class TestSharedData(WithServer):
    FILES = ["reasoning-multiturn-dev", "reasoning-wire-dev", "reasoning-single-dev"]

    @staticmethod
    def expected(row):
        parts = row.get("blocks") or [{"text": row.get("reasoning"), "opaque": row.get("opaque")}]
        return [(kind, part[kind]) for part in parts for kind in ("text", "opaque") if part.get(kind)]

    def test_import_and_export(self):
        rows = []
        for name in self.FILES:
            with gzip.open(os.path.join(DATA, name + ".jsonl.gz")) as f:
                text = f.read()
            read = [json.loads(line) for line in text.splitlines()]
            summary = self.json("import", "-", stdin=text)
            self.assertEqual(summary["added"], len(read))
            self.assertEqual(summary["bytes"], sum(len(t.encode()) for r in read for _, t in self.expected(r)))
            self.assertEqual(self.json("import", "-", stdin=text)["already_there"], len(read))
            rows += read
        self.cli("export")
        exported = self.out
        steps = {(r["thread"], r["step"]): r for r in map(json.loads, exported.splitlines())}
        self.assertEqual(len(steps), len(rows))
        users = {}
        for row in rows:
            step = steps[row["thread"], row["turn"]]
            self.assertEqual([(s["kind"], s["text"]) for s in step["segments"]], self.expected(row))
            self.assertEqual(step.get("model"), row.get("model") or None)
            self.assertEqual(step["final"], not row.get("tool_calls"))
            users[row["thread"]] = users.get(row["thread"], 0) + (row.get("after") == "user")
            if "after" in row:
                self.assertEqual(step["turn"], users[row["thread"]])
        other = Server()
        try:
            self.assertEqual(run("import", "-", address=other.address, stdin=exported).returncode, DONE)
            self.assertEqual(run("export", address=other.address).stdout, exported)
        finally:
            self.assertEqual(other.stop()[0], 0)


class TestDemo(unittest.TestCase):
    def demo(self, server):
        return subprocess.run(["sh", os.path.join(ROOT, "src", "cli", "demo.sh"), server, CLI],
                              capture_output=True, timeout=PATIENCE_S)

    def test_demo(self):
        done = self.demo(SERVER)
        self.assertEqual(done.returncode, DONE, done.stderr)
        text = done.stdout.decode()
        for step in range(5):
            self.assertRegex(text, r"<hidden step %d: \d+ bytes of reasoning, \d+ of signature; exact>" % step)
        for promise in ("a duplicate", "conflict", "  disk\n", "killed (kill -9)",
                        "miss: forgotten", "Everything was as promised"):
            self.assertIn(promise, text)

    def test_demo_fails_without_a_server(self):
        self.assertNotEqual(self.demo("/bin/false").returncode, DONE)


if __name__ == "__main__":
    unittest.main()
