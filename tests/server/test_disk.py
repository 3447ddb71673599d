"""The disk tier as clients see it: what is kept, for how long, and what is said when it cannot be."""

import os
import random
import resource
import threading
import time
import unittest

import rethread
from harness import PATIENCE_S, DiskCase, most_used, noise, refused

class Kept(DiskCase):
    STEPS = [
        [("text", b"x")],
        [("text", noise(5000, 1)), ("opaque", noise(300, 2)), ("tokens", b"\1\0\0\0" * 50)],
        [("text", "denken ü ".encode() * 2000)],
        [],
        [("opaque", noise(400000, 3))],
    ]

    def test_ack_disk_survives_a_kill(self):
        server, client = self.start()
        for n, step in enumerate(self.STEPS):
            self.assertEqual(client.append("t", step, ack="disk").step, n)
        server.kill()
        server, client = self.start()
        got = self.exact(client, "t", self.STEPS)
        self.assertEqual({s.source for s in got.steps}, {"disk"})
        self.assertEqual((got.version, got.head), (5, 4))
        self.assertEqual(client.append("t", b"more", expect=5, ack="disk").step, 5)
        server.stop()
        server, client = self.start()
        self.exact(client, "t", self.STEPS + [[("text", b"more")]])
        server.stop()

    def test_killed_under_load(self):
        """Every acknowledged step is there, in order, and nothing that was not sent."""
        for life in range(6):
            server, client = self.start("--ttl", "50ms")
            acknowledged = {}

            def write(worker, server=server, life=life, acknowledged=acknowledged):
                thread = f"{life}.{worker}"
                with rethread.Client(server.address) as mine:
                    try:
                        for n in range(100000):
                            mine.append(thread, noise(200 + n, thread + str(n)), ack="disk")
                            acknowledged[thread] = n + 1
                    except rethread.TransportError:
                        pass

            workers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
            for worker in workers:
                worker.start()
            self.wait(lambda: sum(acknowledged.values()) > 50, "some are acknowledged")
            time.sleep(random.random() / 5)
            server.kill()
            for worker in workers:
                worker.join()
            server, client = self.start("--ttl", "50ms")
            for thread, count in acknowledged.items():
                got = client.replay(thread)
                self.assertEqual(got.status, "complete")
                self.assertGreaterEqual(len(got.steps), count)
                self.assertLessEqual(len(got.steps), count + 1)
                for n, step in enumerate(got.steps):
                    self.assertEqual(step.segments[0].data, noise(200 + n, thread + str(n)))
            server.stop()

    def test_a_drain_answers_what_waits(self):
        server, client = self.start("--drain-timeout", "10m")
        pipeline = client.pipeline()
        waiting = [pipeline.append(f"t{n}", b"x" * 100, ack="disk") for n in range(500)]
        client.flush()
        server.terminate()
        answered = [p.error() is None for p in waiting]
        self.assertTrue(all(isinstance(p.error(), (type(None), rethread.ShuttingDown))
                            for p in waiting))
        self.assertEqual(server.wait(), 0)
        server, client = self.start()
        for n, was in enumerate(answered):
            if was:
                self.exact(client, f"t{n}", [[("text", b"x" * 100)]])
            else:
                self.assertEqual(client.replay(f"t{n}").status, "miss")
        server.stop()

    def test_a_drain_writes_out_what_was_acknowledged_by_memory(self):
        server, client = self.start()
        for n in range(200):
            client.append(f"t{n % 20}", b"%d" % n)
        server.stop()
        server, client = self.start()
        for n in range(20):
            self.exact(client, f"t{n}", [[("text", b"%d" % (n + 20 * i))] for i in range(10)])
        server.stop()

    def test_acks_of_one_connection_share_batches(self):
        server, client = self.start()
        batches = []
        # Some ten where the loop is quick; more where the disk is quicker than the loop, and then
        # not each time.
        while not batches or batches[-1] >= 500:
            self.assertLess(len(batches), 20, f"of 1000 changes: {batches}")
            before = client.info()["disk"]
            pipeline = client.pipeline()
            waiting = [pipeline.append(f"t{n}", b"x" * 100, ack="disk") for n in range(1000)]
            pinged = pipeline.ping()
            for pending in waiting:
                pending.result()
            pinged.result()
            disk = client.info()["disk"]
            self.assertEqual(disk["changes"] - before["changes"], 1000)
            batches.append(disk["batches"] - before["batches"])
        server.stop()

    def test_a_disk_that_is_behind_is_waited_for(self):
        """Though those who wait fill all the room that there is for requests and answers."""
        server, client = self.start("--memory", "16M")
        payload = noise(32768, 1)
        clients = [rethread.Client(server.address) for _ in range(32)]
        waiting = []
        for n, each in enumerate(clients):
            self.addCleanup(each.close)
            pipeline = each.pipeline()
            waiting += [(each, f"t{n}.{i}", pipeline.append(f"t{n}.{i}", payload, ack="disk"))
                        for i in range(16)]
        for each, thread, pending in waiting:
            try:
                pending.result()
            except rethread.Busy:  # a slow disk; whoever is told so has not lost his connection
                self.wait(lambda c=each, t=thread: self.is_taken(c, t, payload),
                          "the disk catches up")
        server.stop()

    @staticmethod
    def is_taken(client, thread, payload):
        try:
            return client.append(thread, payload, ack="disk").step == 0
        except rethread.Busy:
            return False

    def test_everything_about_a_thread_comes_back(self):
        server, client = self.start()
        client.append("a", b"0", response_id="r0", tool_calls=["c0", "c1"], model="m", turn=2,
                      tokens=7, prefix=b"p" * 16, key="k0", ack="disk")
        client.append("a", b"1", response_id="r1", turn=3, key="k1")
        client.append("a", b"2", response_id="r2")
        client.fork("b", "a", at=1)
        client.append("b", b"other", response_id="rb")
        self.assertEqual(client.rewind("a", 1).dropped, 1)
        client.append("a", b"new 2", ack="disk")
        client.append("b", b"last", ack="disk")
        before = client.replay("a"), client.replay("b"), client.stat("a")
        server.kill()
        server, client = self.start()
        after = client.replay("a"), client.replay("b"), client.stat("a")
        for was, now in zip(before[:2], after[:2]):
            self.assertEqual((now.status, now.version, now.head), ("complete", was.version, was.head))
            self.assertEqual([(s.step, s.turn, s.final, s.model, s.response_id, s.tool_calls, s.tokens,
                               s.segments) for s in now.steps],
                             [(s.step, s.turn, s.final, s.model, s.response_id, s.tool_calls, s.tokens,
                               s.segments) for s in was.steps])
        self.assertEqual((after[2].bytes, after[2].tokens, after[2].step_count),
                         (before[2].bytes, before[2].tokens, before[2].step_count))
        self.assertGreaterEqual(after[2].age_ms, before[2].age_ms)
        # Keys lead where they led.
        for options in ({"response_id": "r0"}, {"tool_call": "c1"}, {"prefix": b"p" * 16}):
            got = client.replay(**options)
            self.assertEqual((got.status, got.thread, len(got.steps)), ("complete", b"a", 1), options)
        self.assertEqual(client.replay(response_id="rb").thread, b"b")
        self.assertEqual(client.replay(response_id="r2").reason, "rewound")
        # Known appends are known; others under their keys are not taken.
        again = client.append("a", b"1", key="k1")
        self.assertEqual((again.duplicate, again.step, again.version), (True, 1, 2))
        with self.assertRaises(rethread.Conflict) as caught:
            client.append("a", b"not 1", key="k1")
        self.assertEqual(caught.exception.cause, "key")
        server.stop()

    def test_forgotten_is_gone_for_good(self):
        server, client = self.start("--ttl", "200ms")
        client.append("in memory", noise(3000, 5), response_id="r", ack="disk")
        client.append("demoted", b"x", ack="disk")
        client.append("fork", b"mine")
        self.wait_demoted(client, "demoted")
        client.append("in memory", b"y")
        self.assertTrue(client.forget("in memory").forgotten)
        self.assertTrue(client.forget("demoted").forgotten)
        self.assertFalse(client.forget("demoted").forgotten)
        server.kill()
        server, client = self.start("--ttl", "200ms")
        for thread in ("in memory", "demoted"):
            got = client.replay(thread)
            self.assertEqual((got.status, got.reason), ("miss", "forgotten"), thread)
        self.assertEqual(client.replay(response_id="r").status, "miss")
        self.assertEqual(client.append("demoted", b"new").step, 0)
        server.stop()


class Tiers(DiskCase):
    def test_past_the_ttl_it_comes_back_from_disk(self):
        server, client = self.start("--ttl", "300ms")
        steps = [[("text", noise(6000, n))] for n in range(3)]
        start = time.monotonic()
        for n, step in enumerate(steps):
            client.append("t", step, response_id=f"r{n}")
        got = self.exact(client, "t", steps)
        if time.monotonic() < start + 0.29:
            self.assertEqual({s.source for s in got.steps}, {"memory"})
        self.stays_in_memory(client, "t", steps, 0.3)
        self.wait_demoted(client, "t")
        self.assertEqual({e.thread: e.tier for e in client.iter_threads()}, {b"t": "disk"})
        got = self.exact(client, "t", steps)
        self.assertEqual({s.source for s in got.steps}, {"disk"})
        self.assertGreater(got.expires_in_ms, 23 * 3600 * 1000)
        self.stays_in_memory(client, "t", steps, 0.3)
        self.wait_demoted(client, "t")
        self.assertEqual(client.replay(response_id="r1").steps[-1].source, "disk")
        self.wait_demoted(client, "t")
        self.assertEqual(client.append("t", b"more", expect=3).step, 3)
        self.exact(client, "t", steps + [[("text", b"more")]])
        info = client.info()
        self.assertGreaterEqual(info["disk"]["demotions"], 3)
        self.assertGreaterEqual(info["disk"]["promotions"], 3)
        self.assertEqual(info["threads"]["expired"], 0)
        server.stop()

    def stays_in_memory(self, client, thread, steps, ttl_s):
        """Where it is looked for again within its ttl, which a slow machine may take some tries for."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            start = time.monotonic()
            self.exact(client, thread, steps)
            where = {s.source for s in self.exact(client, thread, steps).steps}
            where |= {client.stat(thread).tier, *(e.tier for e in client.iter_threads())}
            if where == {"memory"}:
                return
            self.assertGreater(time.monotonic(), start + ttl_s - 0.01, "it left memory early")
            self.assertLess(time.monotonic(), deadline, "it is never found in memory")

    def test_a_look_without_touch_does_not_promote(self):
        server, client = self.start("--ttl", "200ms")
        client.append("t", b"x")
        self.wait_demoted(client, "t")
        for _ in range(3):
            got = client.replay("t", touch=False)
            self.assertEqual((got.status, got.steps[0].source), ("complete", "disk"))
            self.assertEqual(client.stat("t").tier, "disk")
            time.sleep(0.05)
        self.assertEqual(client.touch(["t"]).touched, 1)
        server.stop()

    def test_many_wait_for_the_disk_at_once(self):
        server, client = self.start("--ttl", "200ms")
        names = [f"t{n}" for n in range(200)]
        pipeline = client.pipeline()
        for pending in [pipeline.append(t, noise(3000, t)) for t in names]:
            pending.result()
        self.wait_demoted(client, *names)

        def read(part, failures):
            with rethread.Client(server.address) as mine:
                pipeline = mine.pipeline()
                for t, pending in [(t, pipeline.replay(t)) for t in part]:
                    got = pending.result()
                    if got.status != "complete" or got.steps[0].segments[0].data != noise(3000, t):
                        failures.append((t, got.status, got.reason))

        failures = []
        parts = [names, names[::-1], names[::3], names[100:] + names[:100]]
        readers = [threading.Thread(target=read, args=(part, failures)) for part in parts]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        self.assertEqual(failures, [])
        server.stop()

    def test_pressure_demotes_instead_of_dropping(self):
        server, client = self.start("--memory", "16M")
        for n in range(120):
            client.append(f"t{n}", noise(300000, n))
        for n in range(120):
            self.exact(client, f"t{n}", [[("text", noise(300000, n))]])
        info = client.info()
        self.assertGreater(info["disk"]["demotions"], 60)
        self.assertEqual(info["threads"]["evicted"], 0)
        self.assertLessEqual(info["memory"]["used_bytes"], most_used(16 << 20))
        server.stop()

    def test_info_tells_of_the_disk(self):
        server, client = self.start("--ttl", "200ms", "--disk", "1G")
        client.append("t", noise(10000, 1), ack="disk")
        self.wait_demoted(client, "t")
        disk = client.info()["disk"]
        for name in ("bytes", "live_bytes", "records", "threads", "batches", "changes", "batch_bytes",
                     "flush_us", "flush_max_us", "demotions", "filter_bytes", "recovery_ms"):
            self.assertGreater(disk[name], 0, name)
        self.assertEqual(disk["budget_bytes"], 1 << 30)
        for name in ("read_only", "lag_bytes", "lag_ms", "damaged", "erasures"):
            self.assertEqual(disk[name], 0, name)
        server.stop()


class Lifetimes(DiskCase):
    def test_retention_ends_it(self):
        server, client = self.start("--ttl", "200ms", "--retention", "1s")
        client.append("t", b"x", ack="disk")
        client.append("kept", b"x", retention_ms=3600000, ack="disk")
        self.wait_demoted(client, "kept")
        self.wait(lambda: client.replay("t", touch=False).status == "miss", "t expires")
        self.assertEqual(client.replay("t").reason, "expired")
        self.wait(lambda: client.info()["disk"]["erasures"] > 0, "t is erased")
        server.kill()
        server, client = self.start()
        self.assertEqual((client.replay("t").reason, client.replay("kept").status),
                         ("expired", "complete"))
        server.stop()

    def test_max_age_ends_it_in_spite_of_use(self):
        server, client = self.start("--max-age", "1500ms")
        start = time.monotonic()
        client.append("t", b"x", ack="disk")
        while time.monotonic() < start + 1.2:
            lives = client.replay("t").status == "complete"
            try:
                client.fork(f"f{time.monotonic()}", "t")
            except rethread.NotFound:
                lives = False
            if not lives:
                self.assertGreater(time.monotonic(), start + 1.49, "it is gone too early")
            time.sleep(0.1)
        self.wait(lambda: client.replay("t").status == "miss", "t is too old")
        self.assertEqual(client.replay("t").reason, "max_age")
        self.wait(lambda: client.info()["threads"]["live"] == 0, "so are its forks")
        server.stop()

    def test_retention_0_leaves_no_byte(self):
        for flags, options in ((("--retention", "0"), {}), ((), {"retention_ms": 0})):
            server, client = self.start("--ttl", "300ms", "--compression", "none", *flags)
            secret, id_, key = noise(5000, 11), b"id-" + noise(20, 12), b"key-" + noise(20, 13)
            for _ in range(3):
                got = client.append(id_, secret, response_id=key, **options)
                self.assertLessEqual(got.expires_in_ms, 300)
            if flags:
                control = client.append("c", noise(5000, 14), retention_ms=3600000, ack="disk")
            else:
                control = client.append("c", noise(5000, 14), ack="disk")
            self.wait(lambda: self.on_disk(noise(5000, 14)[:500]), "or this test sees nothing")
            self.assertGreater(control.expires_in_ms, 300)
            self.wait(lambda: client.replay(id_, touch=False).status == "miss", "its ttl ends")
            self.assertEqual(client.replay(id_).reason, "expired")
            later = noise(5000, 15)
            got = client.append(id_, later)  # it goes on, and as it was
            self.assertEqual((got.step, got.lost), (3, 3))
            self.assertLessEqual(got.expires_in_ms, 300)
            server.stop()
            for needle in (secret[:500], later[:500], id_, key):
                self.assertEqual(self.on_disk(needle), [])

    def test_retention_0_takes_back_what_was_kept(self):
        server, client = self.start("--ttl", "1h")
        client.append("t", b"0", ack="disk")
        client.append("t", b"1", retention_ms=0)
        self.exact(client, "t", [[("text", b"0")], [("text", b"1")]])
        with self.assertRaises(rethread.BadRequest):
            client.append("t", b"2", ack="disk")
        server.kill()  # the answer came after the erasure
        server, client = self.start()
        self.assertEqual(client.replay("t").status, "miss")
        server.stop()

    def test_ack_disk_needs_a_disk(self):
        server, client = self.start(data="none")
        for options in ({"ack": "disk"}, {"ack": "disk", "retention_ms": 0}):
            with self.assertRaises(rethread.BadRequest) as caught:
                client.append("t", b"x", **options)
            self.assertIn("ack", str(caught.exception) + str(caught.exception.details))
        self.assertEqual(client.append("t", b"x", ack="memory", retention_ms=1000).step, 0)
        self.assertEqual(client.info()["disk"]["budget_bytes"], 0)
        server.stop()
        server, client = self.start()
        with self.assertRaises(rethread.BadRequest):
            client.append("t", b"x", ack="disk", retention_ms=0)
        self.assertEqual(client.replay("t").status, "miss")
        server.stop()


class Trouble(DiskCase):
    def test_a_second_server_is_refused(self):
        server, client = self.start()
        client.append("t", b"x", ack="disk")
        code, said = refused(data=self.data)
        self.assertEqual(code, 1, said)
        self.assertIn("another server holds the data directory", said)
        self.assertIn(self.data, said)
        client.append("t", b"y", ack="disk")
        server.stop()
        server, client = self.start()
        self.exact(client, "t", [[("text", b"x")], [("text", b"y")]])
        server.stop()

    def test_a_directory_that_cannot_be_written_is_refused(self):
        os.mkdir(self.data)
        os.chmod(self.data, 0o555)
        for directory in ("/proc",) if os.access(self.data, os.W_OK) else ("/proc", self.data):
            code, said = refused(data=directory)
            self.assertEqual(code, 1, said)
            self.assertIn("data directory " + directory, said)
            self.assertNotIn("ready on", said)

    def test_foreign_files_are_refused_and_left_alone(self):
        os.mkdir(self.data)
        path = os.path.join(self.data, "tree.mdb")
        with open(path, "wb") as f:
            f.write(b"something else" * 1000)
        code, said = refused(data=self.data)
        self.assertEqual(code, 1, said)
        self.assertIn("rethread-server: ", said)
        with open(path, "rb") as f:
            self.assertEqual(f.read(), b"something else" * 1000)

    def test_when_writes_fail_it_says_so_and_serves_memory(self):
        server, client = self.start("--ttl", "1h")
        client.append("before", b"x", ack="disk")
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        with self.assertRaises(rethread.ReadOnly) as caught:
            for n in range(3):
                client.append("t", noise(1 << 20, n), ack="disk", key=f"k{n}")
        self.assertIn("in memory", caught.exception.message)
        self.assertIn("key", caught.exception.message)
        self.wait(lambda: client.info()["disk"]["read_only"] == 1, "info says so")
        self.assertIn("level=error", server.log())
        held = client.replay("t")
        self.assertEqual(held.status, "complete")
        with self.assertRaises(rethread.ReadOnly):
            client.append("t2", b"x", ack="disk")
        with self.assertRaises(rethread.ReadOnly) as caught:
            client.append("before", b"y", retention_ms=0)
        self.assertIn("not erased", caught.exception.message)
        client.append("u", b"memory alone")
        self.exact(client, "u", [[("text", b"memory alone")]])
        self.exact(client, "before", [[("text", b"x")], [("text", b"y")]])
        server.kill()
        server, client = self.start()
        self.assertEqual(client.replay("before").steps[0].segments[0].data, b"x")
        self.assertEqual(client.info()["disk"]["read_only"], 0)
        client.append("t2", b"x", ack="disk")
        server.stop()


if __name__ == "__main__":
    unittest.main()
