"""rethread-bench from outside, with tiny counts: what it writes, and that wrong answers end it.

Nothing here looks at how fast anything is.
"""

import contextlib
import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SERVER = os.environ.get("RETHREAD_SERVER", os.path.join(ROOT, "build", "rethread-server"))
BENCH = os.path.join(os.path.dirname(SERVER), "rethread-bench")
SAN = os.environ.get("RETHREAD_SAN")
PATIENCE = 6000  # looks, 10 ms apart
MEMBERS = {"bench", "peer", "params", "metric", "ours", "theirs", "ratio", "unit"}


def bench(*words):
    return subprocess.run([BENCH, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=300)


class Bench(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.json = os.path.join(folder.name, "rows.jsonl")
        self.page = os.path.join(folder.name, "page.md")

    def rows(self, *words, rounds=3):
        done = bench(*words, "--json", self.json, "--report", self.page)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "", "a progress line, though there is no terminal")
        with open(self.json, encoding="utf-8") as f:
            rows = [json.loads(line) for line in f]
        with open(self.page, encoding="utf-8") as f:
            page = f.read()
        for row in rows:
            self.assertLessEqual(MEMBERS, row.keys())
            self.assertGreater(row["ours"], 0)
            self.assertLessEqual(row["ours_min"], row["ours"])
            self.assertLessEqual(row["ours"], row["ours_max"])
            if rounds is not None:
                self.assertEqual(row["rounds"], rounds)
            if row["theirs"] is None:
                self.assertIsNone(row["ratio"])
            else:
                better = row["ours"] / row["theirs"]
                more_is_better = row["metric"] in ("throughput", "complete")
                better = better if more_is_better else 1 / better
                self.assertAlmostEqual(row["ratio"] / better, 1, places=3)
            self.assertIn(row["metric"], page)
        self.assertIn("--report " + self.page, page)
        self.assertIn("Machine: ", page)
        return rows

    def kv(self, *words):
        rows = self.rows("kv", "--quick", "--rounds", "3", "--count", "300", *words)
        closed = [r for r in rows if "in_flight" in r["params"]]
        cases = {(r["params"]["op"], r["params"]["size_bytes"], r["params"]["in_flight"])
                 for r in closed}
        self.assertEqual(cases, {(op, size, n) for op in ("append", "replay")
                                 for size, n in ((1024, 1), (1024, 16), (1024, 64), (16384, 16))})
        self.assertEqual({r["metric"] for r in closed}, {"server_cpu_per_op", "throughput"})
        latencies = [r for r in rows if "rate_percent" in r["params"]]
        self.assertEqual({r["params"]["rate_percent"] for r in latencies}, {50})
        self.assertEqual({r["metric"] for r in latencies}, {"p50", "p99", "p99.9", "p99.99"})
        self.assertEqual(len(closed) + len(latencies), len(rows))
        return rows

    def test_kv_alone(self):
        rows = self.kv("--program", SERVER, "--peer", "none")
        self.assertEqual({r["peer"] for r in rows}, {None})

    def test_kv_beside_peers(self):
        peers = [p for p in ("redis", "memcached") if shutil.which(p + "-server") or shutil.which(p)]
        if not peers:
            self.skipTest("neither redis-server nor memcached is installed")
        rows = self.kv("--peer", ",".join(peers))
        self.assertEqual({r["peer"] for r in rows}, set(peers))
        self.assertTrue(all(r["ratio"] > 0 for r in rows))

    def test_kv_on_disk(self):
        folder = os.path.dirname(self.json)
        rows = self.kv("--peer", "none", "--data", folder)
        self.assertEqual({r["params"]["data"] for r in rows}, {"disk"})
        self.assertEqual(sorted(os.listdir(folder)), ["page.md", "rows.jsonl"])

    def test_kv_with_two_loops(self):
        rows = self.kv("--peer", "none", "--loops", "2")
        self.assertEqual({r["params"]["loops"] for r in rows}, {2})

    @unittest.skipUnless(shutil.which("memcached"), "memcached is not installed")
    def test_kv_beside_servers_that_run(self):
        """Both are attached to; CPU time is there where the process was named."""
        with contextlib.ExitStack() as stack:
            ports = [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
                     for _ in range(2)]
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        servers = [subprocess.Popen(words, stderr=subprocess.DEVNULL) for words in (
            [SERVER, "--listen", "127.0.0.1:%d" % ports[0], "--data", "none", "--ttl", "300s"],
            ["memcached", "-l", "127.0.0.1", "-p", str(ports[1]), *user])]
        try:
            for port in ports:
                self.wait_for(port)
            rows = self.kv("--server", "127.0.0.1:%d" % ports[0],
                           "--peer", "memcached:127.0.0.1:%d" % ports[1],
                           "--server-pid", str(servers[0].pid), "--peer-pid", str(servers[1].pid))
            self.assertEqual({r["peer"] for r in rows}, {"memcached"})
            self.assertTrue(all(r["ratio"] > 0 for r in rows))
            self.assertEqual([s.poll() for s in servers], [None, None], "not ours to end")
        finally:
            for server in servers:
                server.terminate()
                server.wait()

    def wait_for(self, port):
        for _ in range(PATIENCE):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.01)
        self.fail("no server on port %d" % port)

    def test_servers_end_with_it(self):
        """Whatever way the program ends: its servers go, and what they wrote."""
        folder = os.path.dirname(self.json)
        peers = [peer for peer, program in (("redis", "redis-server"), ("memcached", "memcached"))
                 if shutil.which(program)]
        for how in (signal.SIGINT, signal.SIGKILL):
            with self.subTest(how=how):
                program = subprocess.Popen([BENCH, "kv", "--data", folder,
                                            "--peer", ",".join(peers) or "none"],
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                children = []  # the folder's guard and the servers
                for _ in range(PATIENCE):
                    with open("/proc/%d/task/%d/children" % (program.pid, program.pid),
                              encoding="ascii") as f:
                        children = f.read().split()
                    if len(children) >= 2 + len(peers) and os.listdir(folder):
                        break
                    time.sleep(0.01)
                else:
                    self.fail("no server was started")
                program.send_signal(how)
                program.wait()
                for _ in range(PATIENCE):
                    left = [c for c in children if self.runs(c)]
                    if not left and not os.listdir(folder):
                        break
                    time.sleep(0.01)
                self.assertEqual(left, [])
                self.assertEqual(os.listdir(folder), [])

    @staticmethod
    def runs(pid):
        try:
            with open("/proc/%s/stat" % pid, encoding="utf-8") as f:
                return f.read().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def test_index(self):
        rows = self.rows("index", "--rounds", "3", "--count", "5000")
        self.assertEqual({r["metric"] for r in rows},
                         {"insert", "find", "find_batched", "mixed", "remove", "longest_insert",
                          "longest_insert_of_a_load"})
        # The least of each insert over all loads is at most what any load had.
        longest = {r["peer"]: r["ours"] for r in rows if r["metric"] == "longest_insert"}
        single = {r["peer"]: r["ours"] for r in rows
                  if r["metric"] == "longest_insert_of_a_load"}
        for peer, us in longest.items():
            self.assertLessEqual(us, single[peer])
        self.assertLessEqual({r["peer"] for r in rows}, {None, "cds_lfht", "ck_ht"})
        self.assertEqual({r["params"]["keys"] for r in rows}, {5000})

    def continuity(self, *words):
        """Two threads, four follow-ups; the pause past the ttl costs memory alone that turn and
        the one after it, though that one comes at once."""
        turns = (("a", True, None), ("b", False, None), ("a", True, 10.5), ("b", True, 100),
                 ("a", True, 400), ("b", False, 299), ("a", False, 1))
        workload = os.path.join(os.path.dirname(self.json), "tiny.jsonl.gz")
        with gzip.open(workload, "wt", encoding="utf-8") as f:
            for thread, thinking, idle in turns:
                f.write(json.dumps({"thread": thread, "thinking": thinking, "idle_before": idle,
                                    "out_tokens": 200}) + "\n")
        rows = self.rows("continuity", "--quick", "--rounds", "3", "--count", "20", "--workload",
                         workload, *words, rounds=None)
        by_ttl = {r["params"]["ttl_s"]: r for r in rows if r["params"].get("by") == "ttl"}
        self.assertEqual({(r["peer"], r["ours"]) for r in by_ttl.values()}, {("memory-only", 1.0)})
        self.assertEqual({r["params"]["follow_ups"] for r in by_ttl.values()}, {4})
        self.assertEqual(by_ttl[300]["theirs"], 0.5)
        self.assertEqual(by_ttl[300]["params"]["replays_from_disk"], 1)
        self.assertEqual(by_ttl[3600]["theirs"], 1.0)
        self.assertEqual(by_ttl[3600]["params"]["replays_from_disk"], 0)
        by_memory = {r["params"]["memory_bytes"]: r for r in rows
                     if r["params"].get("by") == "memory"}
        self.assertIn(64 << 20, by_memory)
        self.assertEqual({r["ours"] for r in by_memory.values()}, {1.0})
        cold = [r for r in rows if r["metric"] == "cold_p99"]
        self.assertEqual([r["params"]["page_cache"] for r in cold], ["dropped", "kept"])
        self.assertEqual({r["rounds"] for r in cold}, {3})
        return by_memory

    def test_continuity_alone(self):
        by_memory = self.continuity("--peer", "none", "--memory", "64M")
        self.assertEqual({r["peer"] for r in by_memory.values()}, {None})

    @unittest.skipUnless(shutil.which("redis-server"), "redis-server is not installed")
    def test_continuity_beside_redis(self):
        by_memory = self.continuity("--peer", "redis")
        self.assertEqual({(r["peer"], r["theirs"]) for r in by_memory.values()}, {("redis", 1.0)})

    def test_churn(self):
        rows = self.rows("churn", "--quick", "--count", "4", rounds=1)
        metrics = {r["metric"]: r["ours"] for r in rows}
        self.assertEqual(list(metrics), ["batch_median", "batch_max", "batch_max_over_median",
                                         "batch_cpu_max_over_median", "tree_over_live_peak",
                                         "file_over_live_peak"])
        self.assertAlmostEqual(metrics["batch_max"] / metrics["batch_median"],
                               metrics["batch_max_over_median"], places=3)
        self.assertGreater(rows[0]["params"]["appends"], 0)

    def restart(self, *words):
        rows = self.rows("restart", "--quick", "--rounds", "3", "--count", "500", *words)
        for first, full in zip(rows[::2], rows[1::2]):
            self.assertEqual((first["metric"], full["metric"]), ("first_answer", "full_speed"))
            self.assertEqual(first["params"]["steps"], 500)
            self.assertLessEqual(first["ours"], full["ours"])
        return rows

    def test_restart_alone(self):
        rows = self.restart("--peer", "none")
        self.assertEqual([r["peer"] for r in rows], [None, None])

    @unittest.skipUnless(shutil.which("redis-server"), "redis-server is not installed")
    def test_restart_beside_redis(self):
        rows = self.restart("--peer", "redis")
        self.assertEqual([r["params"]["redis_by"] for r in rows], ["rdb", "rdb", "aof", "aof"])
        self.assertEqual({r["peer"] for r in rows}, {"redis"})

    def small(self, name, *metrics):
        """Those that measure for fixed times; the tools, not the server, are what is tested."""
        rows = self.rows(name, "--quick", "--rounds", "3", "--count", "20", "--peer", "none",
                         rounds=None)
        self.assertEqual({r["bench"] for r in rows}, {name})
        self.assertLessEqual(set(metrics), {r["metric"] for r in rows})

    @unittest.skipIf(SAN, "takes too long with sanitizers")
    def test_agent(self):
        self.small("agent", "server_cpu_per_op", "throughput")

    @unittest.skipIf(SAN, "takes too long with sanitizers")
    def test_durable(self):
        self.small("durable", "throughput", "read_p99.9")

    @unittest.skipIf(SAN, "takes too long with sanitizers")
    def test_scale(self):
        self.small("scale", "server_cpu_per_op", "growth")

    def test_all_peers_absent(self):
        """What is not installed is an error only when it was asked for by name."""
        env = dict(os.environ, PATH="/nonexistent")
        done = subprocess.run([BENCH, "index", "--quick", "--rounds", "3", "--count", "1000",
                               "--plot", os.path.dirname(self.json), "--json", self.json],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=300, env=env)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("gnuplot is not installed", done.stdout)

    def test_targets_and_plots(self):
        folder = os.path.dirname(self.json)
        done = bench("kv", "--quick", "--rounds", "3", "--count", "300", "--peer", "none",
                     "--plot", os.path.join(folder, "plots"), "--report", self.page)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(self.page, encoding="utf-8") as f:
            page = f.read()
        self.assertLess(page.index("### Targets"), page.index("### kv"))
        self.assertIn("not measured", page)
        if shutil.which("gnuplot"):
            self.assertIn("plots/kv-cpu.svg", page)
            with open(os.path.join(folder, "plots", "kv-cpu.svg"), encoding="utf-8") as f:
                self.assertIn("rethread", f.read())

    def test_wrong_reply_ends_it(self):
        """A server that answers everything with one wrong frame."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            def serve():
                held = []
                while True:
                    try:
                        connection, _ = listener.accept()
                    except OSError:
                        break
                    held.append(connection)
                    connection.sendall(b"\xce\0\0\0\x06\x94\x01\x00\xc0\x91\x80")
                for connection in held:
                    connection.close()
            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            done = bench("kv", "--quick", "--count", "100", "--peer", "none",
                         "--server", "127.0.0.1:%d" % listener.getsockname()[1])
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        self.assertEqual(done.returncode, 1)
        self.assertIn("wrong reply of 11 bytes", done.stderr)
        self.assertEqual(done.stdout, "")

    def test_refusals(self):
        for words, message in (((), "Usage"), (("nothing",), "no workload"),
                               (("kv", "index"), "one workload"), (("kv", "--fast"), "no option"),
                               (("kv", "--rounds", "2"), "3 to 64"),
                               (("kv", "--rounds", "x"), "number"), (("kv", "--json"), "FILE"),
                               (("kv", "--peer", "other"), "no peer"),
                               (("kv", "--peer", "redis:1"), "redis:ADDR:PORT"),
                               (("kv", "--loops", "3"), "1 or 2"),
                               (("kv", "--server", "here"), "ADDR:PORT")):
            with self.subTest(words=words):
                done = bench(*words)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(message, done.stderr)

    def test_help(self):
        done = bench("--help")
        self.assertEqual(done.returncode, 0)
        for word in ("kv", "index", "--quick", "--json FILE"):
            self.assertIn(word, done.stdout)


if __name__ == "__main__":
    unittest.main()
