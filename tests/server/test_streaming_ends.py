"""How streams end when not all goes well: workers that die, stall and come late, short lives, little
memory, kills of the server."""

import contextlib
import random
import threading
import time
import unittest

import raw
from harness import PATIENCE_S, SANITIZED, DiskCase, most_used, noise
from shapes import play
from streams import StreamCase

MIB = 1 << 20


class Workers(StreamCase):
    """Workers that die, stall and come late. The claim's time is short here."""

    FLAGS = ("--claim-timeout", "300ms", "--ttl", "60s")

    def test_a_worker_dies_between_any_two_messages(self):
        messages = [[b"one "], [b"two ", b"three "], [noise(30000, 5)], [b"four"]]
        for old in (True, False):
            for said in range(len(messages) + 1):
                for half in (False, True):
                    t, steps = self.new(), []
                    if old:
                        self.raw.append(t, b"0")
                        steps = [[("text", b"0")]]
                    dying = self.worker()
                    with self.may_be_late():
                        claim = dying.begin(t)["claim"]
                        for parts in messages[:said]:
                            dying.chunk(t, claim, *parts)
                    if half:
                        # Death in the middle of the next message.
                        last = raw.request(99, "commit", {"thread": t, "claim": claim}, [b"x" * 999])
                        dying.socket.sendall(last[:-10])
                    dying.close()
                    with self.subTest(old=old, said=said, half=half):
                        self.next_worker_gets_on(t, steps, claim)

    def next_worker_gets_on(self, t, steps, stale):
        def visible():
            got = self.raw.replay(t)
            self.assertEqual([got.kept[n] for n in sorted(got.kept)], steps, "half is visible")
            self.assertEqual(got.status, "complete" if steps else "miss")
        visible()
        begun = None
        deadline = time.monotonic() + PATIENCE_S
        while begun is None:
            try:
                begun = self.raw.begin(t)
            except raw.Refused as error:
                self.assertEqual((error.code, error.cause), ("conflict", "claimed"))
                self.assertLess(time.monotonic(), deadline, "the claim does not end")
            visible()
        self.assertEqual((begun["step"], begun["version"]), (len(steps), len(steps)))
        self.claimed(self.raw.commit, t, stale)
        # Its own claim may end, too, when this machine stands still; then it takes another.
        try:
            self.raw.chunk(t, begun["claim"], b"the next ")
            self.raw.commit(t, begun["claim"], b"worker's")
        except raw.Refused as error:
            self.assertEqual(error.cause, "claimed")
            self.next_worker_gets_on(t, steps, begun["claim"])
            return
        self.holds(t, steps + [[("text", b"the next "), ("text", b"worker's")]])

    @contextlib.contextmanager
    def may_be_late(self):
        """A claim is begun within; where this machine stands still, it is over too soon."""
        start = time.monotonic()
        try:
            yield
        except raw.Refused as error:
            self.assertEqual(error.cause, "claimed")
            self.assertGreater(time.monotonic(), start + 0.29, "it ended early")

    def timed_out(self, t):
        self.wait(lambda: self.raw.replay(t).in_flight is None, "the claim ends")

    def test_a_claim_times_out_while_its_owner_still_sends(self):
        for steps in ([], [[("text", b"0")]]):
            t = self.new()
            if steps:
                self.raw.append(t, b"0")
            owner = self.worker()
            with self.may_be_late():
                claim = owner.begin(t)["claim"]
                owner.chunk(t, claim, b"too ")
            self.timed_out(t)
            for _ in range(3):
                self.claimed(owner.chunk, t, claim, b"late")
                self.claimed(owner.commit, t, claim, b"late", key="k")
                self.claimed(owner.commit, t, claim)
                self.claimed(owner.abort, t, claim)
            got = self.raw.replay(t)
            self.assertEqual([*got.kept.values()], steps)
            self.assertEqual(got.status, "complete" if steps else "miss")
            self.raw.append(t, b"another's", expect=len(steps))
            self.claimed(owner.commit, t, claim)
            self.holds(t, steps + [[("text", b"another's")]])

    def test_a_stale_claim_after_another_begin(self):
        t = self.new()
        first, second = self.worker(), self.worker()
        stale = first.begin(t)["claim"]
        with self.may_be_late():
            first.chunk(t, stale, b"stale")
        self.timed_out(t)
        for _ in range(20):  # until both fall into one claim's time
            claim = second.begin(t)["claim"]
            try:
                second.chunk(t, claim, b"fre")
                self.assertNotEqual(claim, stale)
                self.claimed(first.chunk, t, stale, b"stale")
                self.claimed(first.commit, t, stale)
                self.claimed(first.abort, t, stale)
                second.chunk(t, claim, b"sh")
                second.commit(t, claim)
                break
            except raw.Refused as error:
                self.assertEqual(error.cause, "claimed")
                self.timed_out(t)
        self.holds(t, [[("text", b"fresh")]])

    def test_chunks_keep_it(self):
        server = self.started("--claim-timeout", "3s", "--ttl", "100ms")
        for _ in range(10):
            client = self.worker(server)
            claim = client.begin(b"t")["claim"]
            start = last = time.monotonic()
            sent, stalled = b"", False
            while time.monotonic() < start + 5 and not stalled:
                try:
                    client.chunk(b"t", claim, b"%d " % len(sent))
                    sent += b"%d " % len(sent)
                except raw.Refused:
                    stalled = True
                stalled = stalled or time.monotonic() > last + 2
                if stalled:
                    self.assertGreater(time.monotonic(), last + 1, "it ended early")
                last = time.monotonic()
                time.sleep(0.05)
            if not stalled:
                self.assertEqual(client.commit(b"t", claim, ttl_ms=60000)["step"], 0)
                self.holds(b"t", [[("text", sent)]], client=client)
                server.stop()
                return
            self.wait(lambda c=client: c.replay(b"t").in_flight is None, "the claim ends")
        self.skipTest("this machine stands still for seconds at a time")

    def test_what_it_held_is_given_back(self):
        # On a server of its own: what other tests have left behind expires at its own time.
        server = self.started("--claim-timeout", "300ms", "--ttl", "10m")
        client = self.worker(server)
        before = client.info()
        kept = [self.new() for _ in range(10)]
        for t in kept:
            client.append(t, b"0")
        held = 0
        for t in kept + [self.new() for _ in range(10)]:
            with self.may_be_late():
                client.chunk(t, client.begin(t)["claim"], bytes(100000))
            held = max(held, self.streaming_bytes(client))
        self.assertGreaterEqual(held, 100000)
        self.wait(lambda: self.streaming_bytes(client) == 0, "the sweep frees what the dead had")
        after = client.info()
        self.assertEqual(after["memory"]["payload_bytes"],
                         before["memory"]["payload_bytes"] + len(kept))
        for t in kept:
            self.holds(t, [[("text", b"0")]], client=client)
        self.assertGreaterEqual(after["requests"]["streams"], before["requests"]["streams"] + 20)
        self.assertGreaterEqual(after["requests"]["streams_timed_out"],
                                before["requests"]["streams_timed_out"] + 20)
        server.stop()

    def test_thousands_begin_and_never_end(self):
        server = self.started("--claim-timeout", "2s", "--memory", "32M", "--ttl", "1s",
                              "--tombstones", "1024")
        client = self.worker(server)
        before = client.info()["memory"]
        codes = {}
        for first in range(0, 20000, 500):
            sent = [client.send("begin", {"thread": b"t%d" % n})
                    for n in range(first, first + 500)]
            for msgid in sent:
                try:
                    result, _ = client.answer(msgid)
                    code = None
                    client.send("chunk", {"thread": result["thread"], "claim": result["claim"]},
                                [bytes(300)])
                except raw.Refused as error:
                    code = error.code
                codes[code] = codes.get(code, 0) + 1
            memory = client.info()["memory"]
            self.assertLessEqual(memory["used_bytes"], most_used(32 * MIB))
            self.assertLessEqual(memory["streaming_bytes"], 8 * MIB)
        self.assertLessEqual(set(codes), {None, "over_budget"})
        self.assertGreater(codes[None], 1000)
        self.wait(lambda: client.info()["memory"]["streaming_bytes"] == 0, "all claims end")
        self.wait(lambda: client.info()["threads"]["live"] == 0, "nobody's threads go")
        # The index and the like keep the size of their fullest moment, up to 2 MiB here; what was
        # streamed and the threads' own records would be more than 10.
        self.wait(lambda: client.info()["memory"]["used_bytes"] < before["used_bytes"] + 4 * MIB,
                  "their memory comes back")
        self.assertEqual(client.append(b"t1", b"x", expect=0)["step"], 0)
        server.stop()


class Lifetimes(StreamCase):
    FLAGS = ("--ttl", "200ms")

    def others_have_gone(self):
        """A thread that was not streamed to has been used up, and swept, in the meantime."""
        expired = self.raw.info()["threads"]["expired"]
        t = self.new("other")
        self.raw.append(t, b"x")
        self.wait(lambda: self.raw.replay(t, touch=False).status == "miss", "another expires")
        self.wait(lambda: self.raw.info()["threads"]["expired"] > expired, "another is swept")
        self.assertEqual(self.raw.replay(t).reason, "expired")

    def test_a_claim_keeps_the_thread(self):
        old, new = self.new("old"), self.new("new")
        self.raw.append(old, b"0", ttl_ms=60000)
        claims = {t: self.raw.begin(t)["claim"] for t in (old, new)}
        self.raw.call("touch", {"threads": [old], "ttl_ms": 200})
        for _ in range(2):
            self.others_have_gone()
            self.holds(old, [[("text", b"0")]], in_flight=True)
            self.assertEqual(self.raw.stat(old)["status"], "complete")
            # The streamer may end it at any time, and that is a use.
            self.assertTrue(0 < self.raw.stat(old)["expires_in_ms"] <= 200)
            self.assertTrue(self.raw.replay(new).in_flight)
            for t, claim in claims.items():
                self.raw.chunk(t, claim, b"x")
        got = self.raw.commit(old, claims[old], ttl_ms=60000)
        self.assertEqual((got["step"], got["version"], got["lost"]), (1, 2, 0))
        got = self.raw.commit(new, claims[new])
        self.assertEqual((got["step"], got["created"]), (0, True))
        self.assertLessEqual(got["expires_in_ms"], 200)
        self.holds(old, [[("text", b"0")], [("text", b"xx")]])
        self.wait(lambda: self.raw.replay(new, touch=False).status == "miss", "its ttl is 200 ms")
        self.assertEqual(self.raw.replay(new).reason, "expired")

    def test_after_an_abort_its_own_time_counts(self):
        t = self.new()
        self.raw.append(t, b"0")
        claim = self.raw.begin(t)["claim"]
        self.others_have_gone()
        self.raw.abort(t, claim)
        self.wait(lambda: self.raw.replay(t, touch=False).status == "miss", "it expires")
        self.assertEqual(self.raw.replay(t).reason, "expired")

    def test_begin_on_something_expired(self):
        t = self.new()
        self.raw.append(t, b"0")
        self.raw.append(t, b"1")
        self.wait(lambda: self.raw.replay(t, touch=False).status == "miss", "it expires")
        begun = self.raw.begin(t)
        self.assertEqual((begun["step"], begun["version"]), (2, 2))
        got = self.raw.replay(t)
        self.assertEqual((got.status, got.reason, got.in_flight), ("miss", "expired", True))
        self.raw.chunk(t, begun["claim"], b"2")
        got = self.raw.commit(t, begun["claim"], ttl_ms=60000, expect=2)
        self.assertEqual((got["step"], got["version"], got["lost"]), (2, 3, 2))
        got = self.raw.replay(t)
        self.assertEqual((got.status, got.missing, got.data),
                         ("partial", {0: "expired", 1: "expired"}, {2: b"2"}))
        # Aborted, it is what it was.
        t = self.new()
        self.raw.append(t, b"0")
        self.wait(lambda: self.raw.replay(t, touch=False).status == "miss", "it expires")
        self.raw.abort(t, self.raw.begin(t)["claim"])
        got = self.raw.replay(t)
        self.assertEqual((got.status, got.reason, got.in_flight), ("miss", "expired", None))
        self.assertEqual(self.raw.append(t, b"1", expect=1, ttl_ms=60000)["lost"], 1)

    def test_max_age_wins(self):
        server = self.started("--max-age", "1500ms", "--ttl", "60s")
        client = self.worker(server)
        for n in range(20):
            t = b"t%d" % n
            client.append(t, b"0")
            claim = client.begin(t)["claim"]
            if client.replay(t).status == "complete":
                break  # or it was too old before it was claimed: this machine stood still
        self.wait(lambda: client.replay(t).status == "miss", "it is too old")
        self.assertEqual(client.replay(t).reason, "max_age")
        self.claimed(client.chunk, t, claim, b"x")
        self.claimed(client.commit, t, claim, b"x")
        self.wait(lambda: client.info()["memory"]["streaming_bytes"] == 0, "its memory comes back")
        server.stop()


class Pressure(StreamCase):
    FLAGS = ("--memory", "16M")

    def test_a_claim_survives_it(self):
        t, whole = self.new(), noise(MIB, 3)
        self.raw.append(t, b"0")
        claim = self.raw.begin(t)["claim"]
        quiet = {self.new("q"): None for _ in range(10)}
        for n, q in enumerate(quiet):
            if n % 2:
                self.raw.append(q, b"0")
            quiet[q] = self.raw.begin(q)["claim"]
            self.raw.chunk(q, quiet[q], whole[:20000])
        for at in range(0, len(whole), 16384):
            self.raw.chunk(t, claim, whole[at:at + 16384])
            # Others fill the memory several times over.
            for _ in range(8):
                try:
                    self.raw.append(self.new("x"), bytes(65536))
                except raw.Refused as error:
                    self.assertEqual(error.code, "over_budget")
            if at % 131072 == 0:
                self.holds(t, [[("text", b"0")]], in_flight=True)
        self.assertGreater(self.raw.info()["threads"]["evicted"], 100)
        self.assertEqual(self.raw.commit(t, claim)["step"], 1)
        self.holds(t, [[("text", b"0")], [("text", whole)]])
        for n, q in enumerate(quiet):
            self.assertEqual(self.raw.commit(q, quiet[q])["step"], n % 2, "nobody heard of it since")
            self.holds(q, [[("text", b"0")]] * (n % 2) + [[("text", whole[:20000])]])
        self.assertLessEqual(self.raw.info()["memory"]["used_bytes"], most_used(16 * MIB))

    def test_streams_have_their_share(self):
        """What is streamed cannot be evicted, so that it has a limit; who meets it keeps his claim."""
        threads = [self.new(str(n)) for n in range(12)]
        claims = {t: self.raw.begin(t)["claim"] for t in threads}
        sent, refused, part = dict.fromkeys(threads, 0), 0, noise(40000, 1)
        for _ in range(20):
            for t in threads:
                try:
                    self.assertEqual(self.raw.chunk(t, claims[t], part)["bytes"],
                                     (sent[t] + 1) * len(part))
                    sent[t] += 1
                except raw.Refused as error:
                    self.assertEqual(error.code, "over_budget")
                    refused += 1
            self.assertLessEqual(self.streaming_bytes(), 4 * MIB)
        self.assertGreater(refused, 0, "there was room for all")
        self.assertGreater(sum(sent.values()) * len(part), 2 * MIB)
        # Appends go on, and each stream comes to its end, with all that was taken of it.
        self.raw.append(self.new("x"), bytes(65536))
        for t in threads:
            self.raw.commit(t, claims[t], b"end")
            got = self.raw.replay(t)
            self.assertEqual(got.status, "complete")
            self.assertTrue(got.data[0] == part * sent[t] + b"end", "not the bytes that were taken")
        self.wait(lambda: self.streaming_bytes() == 0, "all is given back")
        self.assertLessEqual(self.raw.info()["memory"]["used_bytes"], most_used(16 * MIB))


class StreamingOnDisk(DiskCase):
    def start_raw(self, *flags):
        server, client = self.start("--compression", "none", *flags)
        mine = raw.Client(server)
        self.addCleanup(mine.close)
        return server, client, mine

    def test_killed_in_the_middle(self):
        server, client, mine = self.start_raw()
        secret, done = noise(30000, 1), noise(30000, 2)
        stored = play(mine, b"t", "1f 2f", lambda n: {"ack": "disk"})
        claims = {}
        for t in (b"t", b"new"):
            claims[t] = mine.begin(t)["claim"]
            mine.chunk(t, claims[t], secret)
        mine.append(b"u", done, ack="disk")
        self.wait(lambda: self.on_disk(done[:500]), "or this test sees nothing")
        self.assertEqual(self.on_disk(secret[:500]), [], "a draft is nobody's to keep")
        server.kill()
        server, client, mine = self.start_raw()
        got = mine.replay(b"t")
        self.assertEqual((got.status, got.data, got.in_flight, got.version),
                         ("complete", stored, None, 2))
        self.assertEqual(mine.replay(b"new").status, "miss")
        for t in claims:
            with self.assertRaises(raw.Refused) as caught:
                mine.commit(t, claims[t])
            self.assertEqual(caught.exception.cause, "claimed")
        self.assertEqual(mine.begin(b"t")["step"], 2)
        server.stop()

    def test_acknowledged_on_disk(self):
        server, client, mine = self.start_raw()
        whole = noise(300000, 4)
        mine.append(b"old", b"0")
        for t in (b"old", b"new"):
            claim = mine.begin(t)["claim"]
            for at in range(0, len(whole), 10000):
                mine.chunk(t, claim, whole[at:at + 10000])
            got = mine.commit(t, claim, b"sig", segments=["opaque"], key="k", ack="disk",
                              visible=b"v" * 16, response_id=b"r" + t)
            self.assertEqual(got["step"], 1 if t == b"old" else 0)
        server.kill()
        server, client, mine = self.start_raw()
        for t in (b"old", b"new"):
            got = mine.replay(t)
            self.assertEqual((got.status, got.kept[got.head]),
                             ("complete", [("text", whole), ("opaque", b"sig")]))
            self.assertEqual(got.meta[got.head]["visible"], b"v" * 16)
            self.assertEqual(mine.replay(response_id=b"r" + t).thread, t)
            again = mine.append(t, b"x", key="other")
            self.assertEqual(again["step"], got.head + 1)
        server.stop()

    def test_sent_again_after_a_kill(self):
        """The answer was lost with the server; whether the step was kept the key tells."""
        server, client, mine = self.start_raw()
        claim = mine.begin(b"t")["claim"]
        mine.chunk(b"t", claim, b"thought")
        first = mine.commit(b"t", claim, b"sig", key="k", ack="disk")
        server.kill()
        server, client, mine = self.start_raw()
        again = mine.commit(b"t", claim, b"sig", key="k", ack="disk")
        self.assertEqual((again["duplicate"], again["step"], again["version"]),
                         (True, first["step"], first["version"]))
        server.stop()

    def test_killed_under_streams(self):
        """Workers stream and the server is killed: what was acknowledged is there, each step whole."""
        for life in range(2 if SANITIZED else 4):
            server, client, mine = self.start_raw("--ttl", "100ms")
            acknowledged, sent = {}, {}

            def work(number, server=server, life=life, acknowledged=acknowledged, sent=sent):
                thread = b"%d.%d" % (life, number)
                chance = random.Random(thread)
                try:
                    me = raw.Client(server)
                    for n in range(100000):
                        parts = [chance.randbytes(chance.choice((10, 500, 9000)))
                                 for _ in range(chance.randrange(1, 6))]
                        claim = me.begin(thread)["claim"]
                        for part in parts:
                            me.chunk(thread, claim, part)
                        sent.setdefault(thread, []).append(b"".join(parts))
                        me.commit(thread, claim, ack="disk")
                        acknowledged[thread] = n + 1
                except OSError:
                    pass
            workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
            [w.start() for w in workers]
            self.wait(lambda a=acknowledged: sum(a.values()) > 40, "some are acknowledged")
            server.kill()
            [w.join() for w in workers]
            server, client, mine = self.start_raw("--ttl", "100ms")
            for thread, steps in sent.items():
                got = mine.replay(thread)
                self.assertIsNone(got.in_flight)
                self.assertGreaterEqual(len(got.kept), acknowledged.get(thread, 0))
                self.assertEqual(got.status, "complete" if got.kept else "miss")
                self.assertTrue([got.data[n] for n in sorted(got.data)] == steps[:len(got.data)],
                                "not the bytes that were sent")
            server.stop()

    def test_it_stays_in_memory(self):
        server, client, mine = self.start_raw("--ttl", "200ms")
        play(mine, b"t", "1f 2f")
        claim = mine.begin(b"t")["claim"]
        for n in range(3):
            other = b"other%d" % n
            mine.append(other, b"x")
            self.wait_demoted(client, other)
            self.assertEqual((mine.stat(b"t")["tier"], mine.stat(b"t")["in_flight"]),
                             ("memory", True))
            mine.chunk(b"t", claim, b"x")
        mine.commit(b"t", claim)
        self.wait_demoted(client, b"t")
        got = mine.replay(b"t", touch=False)
        self.assertEqual((got.data[2], got.meta[2]["source"]), (b"xxx", "disk"))
        server.stop()

    def test_begin_on_what_lies_on_disk(self):
        server, client, mine = self.start_raw("--ttl", "200ms")
        stored = play(mine, b"t", "1f 2f")
        self.wait_demoted(client, b"t")
        begun = mine.begin(b"t")
        self.assertEqual((begun["step"], begun["version"]), (2, 2))
        mine.chunk(b"t", begun["claim"], b"2")
        got = mine.replay(b"t")
        self.assertEqual((got.status, got.data, got.in_flight), ("complete", stored, True))
        mine.commit(b"t", begun["claim"])
        self.wait_demoted(client, b"t")
        self.assertEqual(mine.replay(b"t").data, {**stored, 2: b"2"})
        server.stop()

    def test_memory_only(self):
        """retention 0 at commit: what is on disk of the thread goes, and the step never gets there."""
        server, client, mine = self.start_raw()
        secret = noise(20000, 9)
        mine.append(b"t", b"0", ack="disk")
        claim = mine.begin(b"t")["claim"]
        mine.chunk(b"t", claim, secret)
        mine.commit(b"t", claim, retention_ms=0)
        self.assertEqual(mine.replay(b"t").data, {0: b"0", 1: secret})
        server.kill()
        self.assertEqual(self.on_disk(secret[:500]), [])
        server, client, mine = self.start_raw()
        self.assertEqual(mine.replay(b"t").status, "miss")
        server.stop()


if __name__ == "__main__":
    unittest.main()
