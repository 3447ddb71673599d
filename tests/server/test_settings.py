"""Settings: flag over environment over file, and a refusal that names what is wrong."""

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import unittest

import raw
import rethread
from harness import SERVER, ServerCase, clean_environment, refused

NAMES = ("listen", "unix", "loops", "memory", "ttl", "data", "retention", "max-age", "disk",
         "compression", "claim-timeout", "profiles", "frame-max", "max-connections", "idle-timeout",
         "drain-timeout", "tombstones", "log-level", "config")


def run(*args):
    return subprocess.run([SERVER, *args], env=clean_environment(), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=20)


class Settings(ServerCase):
    def file(self, text):
        f = tempfile.NamedTemporaryFile("w", suffix=".conf")
        self.addCleanup(f.close)
        f.write(text)
        f.flush()
        return f.name

    def ttl(self, *flags, **options):
        """The ttl with which such a server starts, in ms."""
        with self.started(*flags, **options) as server:
            with rethread.Client(server.address) as client:
                left = client.append("t", b"x").expires_in_ms
        return round(left / 1000) * 1000

    def test_precedence(self):
        path = self.file("# a comment\n\nttl 10s\nmemory = 64M   # another\n")
        self.assertEqual(self.ttl(), 300000)
        self.assertEqual(self.ttl("--config", path), 10000)
        self.assertEqual(self.ttl("--config", path, env={"RETHREAD_TTL": "20s"}), 20000)
        self.assertEqual(self.ttl("--config", path, "--ttl", "30s", env={"RETHREAD_TTL": "20s"}),
                         30000)
        self.assertEqual(self.ttl("--ttl", "30s", "--config", path), 30000, "whatever the order")
        self.assertEqual(self.ttl(env={"RETHREAD_TTL": "20s"}), 20000)
        self.assertEqual(self.ttl(env={"RETHREAD_CONFIG": path}), 10000)

    def test_each_source_reaches_each_setting(self):
        path = self.file("memory 64M\nframe-max 1M\nloops 1\ntombstones 2048\n")
        for flags, env, memory in (
            (("--config", path), {}, 64 << 20),
            (("--config", path), {"RETHREAD_MEMORY": "32M"}, 32 << 20),
            (("--config", path, "--memory", "17M"), {"RETHREAD_MEMORY": "32M"}, 17 << 20),
        ):
            with self.started(*flags, env=env) as server, rethread.Client(server.address) as c:
                info = c.info()
                self.assertEqual(info["memory"]["budget_bytes"], memory)
                self.assertEqual(info["server"]["loops"], 1)
                self.assertEqual(c.hello().frame_max, 1 << 20)

    def test_units(self):
        for text, expected in (("1500000", 1500000), ("90s", 90000), ("2m", 120000),
                               ("1h", 3600000), ("1d", 86400000), ("61000ms", 61000)):
            self.assertEqual(self.ttl("--ttl", text), expected, text)
        for text, expected in (("16777216", 16 << 20), ("20480K", 20 << 20), ("1G", 1 << 30)):
            with self.started("--memory", text) as server, rethread.Client(server.address) as c:
                self.assertEqual(c.info()["memory"]["budget_bytes"], expected)

    def test_equals_sign_form(self):
        try:
            self.assertEqual(self.ttl("--ttl=40s"), 40000)
        except AssertionError as error:
            # Refusing it clearly is fine; reading it as something else is not.
            self.assertIn("ttl", str(error))

    def test_refused(self):
        for flags, named in (
            (("--ttl", "soon"), "ttl"), (("--ttl", "0"), "ttl"), (("--ttl", "-5s"), "ttl"),
            (("--ttl", "5 parsecs"), "ttl"), (("--ttl", ""), "ttl"), (("--ttl",), "ttl"),
            (("--ttl", "99999999999999999999"), "ttl"), (("--memory", "1M"), "memory"),
            (("--memory", "lots"), "memory"), (("--memory", "9999999999G"), "memory"),
            (("--loops", "1000"), "loops"), (("--loops", "x"), "loops"),
            (("--loops", "1.5"), "loops"), (("--frame-max", "1"), "frame-max"),
            (("--max-connections", "0"), "max-connections"), (("--tombstones", "-1"), "tombstones"),
            (("--idle-timeout", "x"), "idle-timeout"), (("--drain-timeout", "2h"), "drain-timeout"),
            (("--log-level", "loud"), "log-level"),
            (("--surprise", "1"), "surprise"), (("stray",), "stray"),
            (("--listen", "nowhere"), "listen"), (("--listen", "127.0.0.1:99999"), "listen"),
            (("--retention", "400d"), "retention"), (("--max-age", "x"), "max-age"),
            (("--claim-timeout", "0"), "claim-timeout"), (("--profiles", "x" * 1024), "profiles"),
            (("--disk", "1M"), "disk"), (("--compression", "gzip"), "compression"),
            (("--unix", "x" * 200), "unix"), (("--config", "/nowhere/at/all"), "/nowhere/at/all"),
        ):
            code, said = refused(*flags)
            self.assertNotEqual(code, 0, flags)
            self.assertGreater(code, 0, f"{flags}: ended by a signal")
            self.assertIn(named, said, flags)
            self.assertNotIn("ready on", said)

    def test_refused_from_environment_and_file(self):
        code, said = refused(env={"RETHREAD_TTL": "soon"})
        self.assertGreater(code, 0)
        self.assertRegex(said, "RETHREAD_TTL|ttl")
        code, said = refused(env={"RETHREAD_SURPRISE": "1"})
        self.assertGreater(code, 0)
        self.assertIn("RETHREAD_SURPRISE", said)
        for text, named in (("ttl soon\n", "ttl"), ("surprise 1\n", "surprise"),
                            ("ttl\n", "ttl"), ("memory 64M\nloops many\n", "loops")):
            code, said = refused("--config", self.file(text))
            self.assertGreater(code, 0, text)
            self.assertIn(named, said, text)

    def kept(self, server, thread, model=None):
        """How many steps a replay by the model's profile leaves of turns 0, 1, 1 and 2."""
        with contextlib.closing(raw.Client(server)) as client:
            for turn in (0, 1, 1, 2):
                client.append(thread, b"x", turn=turn, segments=["text"], model="our-model-7b")
            replay = client.replay(thread, policy="auto", **({"model": model} if model else {}))
            self.assertEqual(replay.status, "complete")
            return len(replay.kept)

    def test_a_file_of_profiles(self):
        path = self.file("# ours\nour-model-* last_turns:2 reasoning anyone\n"
                         "qwen3-8b none reasoning itself\n")
        self.assertEqual(self.kept(self.server, self.id()), 4, "nobody knows it")
        for flags, env in ((("--profiles", path), {}), ((), {"RETHREAD_PROFILES": path})):
            with self.started(*flags, env=env) as server:
                self.assertEqual(self.kept(server, "a"), 3, "the newest step's model")
                self.assertEqual(self.kept(server, "b", "Lab/OUR-model-70B"), 3)
                self.assertEqual(self.kept(server, "c", "qwen3-8b"), 0, "before the built-in rows")
                self.assertEqual(self.kept(server, "d", "qwen3-9b"), 1, "which are still there")
        with self.started("--profiles", "", env={"RETHREAD_PROFILES": path}) as server:
            self.assertEqual(self.kept(server, "a"), 4, "turned off")

    def test_profiles_that_are_refused(self):
        for content, named in (
            (b"a all f anyone\nb sometimes f anyone\n", "line 2.*sometimes.*current_turn"),
            (b"a all f\n", "line 1.*PATTERN POLICY FIELD READABLE"),
            (b"a all f no\xffbody\n", r"line 1.*no\?body.*anyone or itself"),
            (b"\0" * 5000, "line 1"), (b"#" * ((1 << 20) + 1), "1048576"),
            (b"a all f anyone\n" * 1025, "line 1025.*1024"),
        ):
            with tempfile.NamedTemporaryFile() as f:
                f.write(content)
                f.flush()
                code, said = refused("--profiles", f.name)
                self.assertEqual(code, 2, said)
                self.assertRegex(said, f"^rethread-server: profiles: \"{f.name}\": .*{named}")
                self.assertEqual(said.count("\n"), 1, said)
                out = run("--check-config", "--profiles", f.name)
                self.assertEqual((out.returncode, out.stdout, out.stderr), (2, "", said))
        for path in ("/nowhere/at/all", "/tmp", "/dev/zero", "new\nline"):
            code, said = refused("--profiles", path)
            self.assertEqual(code, 2, said)
            self.assertIn("profiles", said)
            self.assertEqual(said.count("\n"), 1, said)
        good = self.file("a all f anyone\n")
        out = run("--check-config", "--profiles", good)
        self.assertEqual((out.returncode, out.stderr), (0, ""))
        self.assertIn(f"profiles = {good}\n", out.stdout)

    def test_a_data_directory_that_cannot_be_had(self):
        for value in ("", "/nowhere/at/all", "/dev/null"):
            code, said = refused("--data", value, data=None)
            self.assertGreater(code, 0, value)
            self.assertIn("data", said)
            self.assertNotIn("ready on", said)

    def test_help(self):
        out = run("--help")
        self.assertEqual((out.returncode, out.stderr), (0, ""))
        for name in NAMES:
            self.assertIn("--" + name, out.stdout)
        for unit in ("5m", "1G", "64M"):
            self.assertIn(unit, out.stdout, "defaults are told")

    def test_describe(self):
        out = run("--describe")
        self.assertEqual((out.returncode, out.stderr), (0, ""))
        words = set(NAMES) - {"config"} | {
            "hello", "ping", "append", "replay", "stat", "touch", "fork", "rewind", "forget",
            "list", "info", "expect", "retention_ms", "max_bytes", "starts_with", "never_seen",
            "ambiguous", "prefix_mismatch", "bad_request", "over_budget", "internal"}
        for word in words:
            self.assertIn(word, out.stdout)
        if out.stdout.lstrip().startswith("{"):
            json.loads(out.stdout)

    def test_listen_repeated_and_unix(self):
        with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
            ports = [s.getsockname()[1] for s in (a, b)]
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "s")
            flags = [f for p in ports for f in ("--listen", f"127.0.0.1:{p}")]
            with self.started(*flags, "--unix", path, listen=None):
                addresses = [f"127.0.0.1:{p}" for p in ports] + ["unix:" + path]
                for n, address in enumerate(addresses):
                    with rethread.Client(address) as client:
                        self.assertEqual(client.append("shared", b"%d" % n).step, n)
                        self.assertEqual(len(client.replay("shared").steps), n + 1)
            self.assertFalse(os.path.exists(path), "its socket is removed")
            # A socket that a killed server left behind does not stop the next one.
            server = self.started("--unix", path)
            server.kill()
            with self.started("--unix", path), rethread.Client("unix:" + path) as client:
                client.ping()

    def test_unix_alone(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "s")
            with self.started("--unix", path, listen="none") as server:
                self.assertEqual(server.ready_on, "unix:" + path)
                with rethread.Client("unix:" + path) as client:
                    client.append("t", b"x")
                    self.assertTrue(client.replay("t").complete)
                self.assertNotIn("address=127", server.log())
        code, said = refused(listen="none")
        self.assertGreater(code, 0)
        self.assertIn("listen", said)
        self.assertIn("--unix", said)

    def test_ipv6(self):
        with socket.socket(socket.AF_INET6) as s:
            try:
                s.bind(("::1", 0))
            except OSError:
                self.skipTest("no IPv6 here")
            port = s.getsockname()[1]
        with self.started("--listen", f"[::1]:{port}", listen=None):
            with rethread.Client(f"[::1]:{port}") as client:
                client.ping()

    def test_a_port_in_use_is_refused(self):
        code, said = refused("--listen", self.server.address, listen=None)
        self.assertGreater(code, 0)
        self.assertIn(str(self.server.port), said)


if __name__ == "__main__":
    unittest.main()
