"""Streamed appends: a step that is stored as it is produced, whole or not at all."""

import random
import unittest

import raw
from harness import SANITIZED, noise
from shapes import play
from streams import StreamCase

MIB = 1 << 20


class Streaming(StreamCase):
    def test_end_to_end(self):
        t = self.new()
        self.raw.append(t, b"before", turn=1)
        begun = self.raw.begin(t)
        self.assertEqual((begun["thread"], begun["step"], begun["version"]), (t, 1, 1))
        self.assertTrue(0 < begun["claim"] < 1 << 63)
        self.assertTrue(55000 < begun["claim_expires_in_ms"] <= 60000)
        claim, sent = begun["claim"], b""
        for parts in ((b"I think",), (b" that", b" this"), (noise(5000, 1), b".")):
            got = self.raw.chunk(t, claim, *parts)
            sent += b"".join(parts)
            self.assertEqual(got["bytes"], len(sent))
            self.assertTrue(55000 < got["claim_expires_in_ms"] <= 60000)
            self.holds(t, [[("text", b"before")]], in_flight=True)
        visible = bytes(range(16))
        got = self.raw.commit(
            t, claim, b"signed", segments=["opaque"], turn=2, tokens=42, model="m", final=False,
            response_id=t + b"r", tool_calls=[t + b"c"], prefix=visible[::-1], visible=visible,
            expect=1, key="k", ttl_ms=70000)
        self.assertEqual([got[n] for n in ("thread", "step", "version", "created", "duplicate",
                                           "lost")], [t, 1, 2, False, False, 0])
        self.assertTrue(65000 < got["expires_in_ms"] <= 70000)
        got = self.holds(t, [[("text", b"before")], [("text", sent), ("opaque", b"signed")]])
        step = got.meta[1]
        self.assertEqual(
            [step[n] for n in ("turn", "tokens", "model", "final", "response_id", "tool_calls",
                               "visible")],
            [2, 42, b"m", False, t + b"r", [t + b"c"], visible])
        for key in ({"response_id": t + b"r"}, {"tool_call": t + b"c"}, {"prefix": visible[::-1]}):
            self.assertEqual(self.raw.replay(**key).head, 1)
        self.assertEqual(self.raw.append(t, b"after", expect=2)["step"], 2)
        self.assertEqual(self.raw.stat(t)["bytes"], 6 + len(sent) + 6 + 5)

    def test_a_sign_of_life(self):
        t = self.new()
        claim = self.raw.begin(t)["claim"]
        self.assertEqual(self.raw.chunk(t, claim)["bytes"], 0)
        self.raw.chunk(t, claim, b"abc")
        got = self.raw.chunk(t, claim)
        self.assertEqual(got["bytes"], 3)
        self.assertTrue(55000 < got["claim_expires_in_ms"] <= 60000)
        self.raw.commit(t, claim)
        self.holds(t, [[("text", b"abc")]])

    def test_a_new_thread(self):
        t = self.new()
        claim = self.raw.begin(t)["claim"]
        for _ in range(2):
            for got in (self.raw.replay(t), self.raw.replay(t, touch=False)):
                self.assertEqual((got.status, got.reason, got.in_flight),
                                 ("miss", "never_seen", True))
                self.assertEqual((got.version, got.head, got.kept), (None, None, {}))
            stat = self.raw.stat(t)
            self.assertEqual((stat["status"], stat["reason"], stat["in_flight"]),
                             ("miss", "never_seen", True))
            self.raw.chunk(t, claim, b"x")
        self.assertEqual(self.client.list(starts_with=t).threads, ())
        self.assertEqual(self.client.touch([t]).missing, ((t, "never_seen"),))
        self.assertIn(self.raises(raw.Refused, self.raw.rewind, t, -1).code,
                      ("conflict", "not_found"))
        error = self.refused("not_found", self.raw.fork, self.new(), t)
        self.assertEqual(error.details["reason"], "never_seen")
        got = self.raw.commit(t, claim)
        self.assertEqual((got["step"], got["version"], got["created"]), (0, 1, True))
        self.holds(t, [[("text", b"xx")]])

    def test_bare_and_tokens_and_nothing_streamed(self):
        t = self.new()
        self.raw.commit(t, self.raw.begin(t)["claim"], segments=[])
        self.raw.commit(t, self.raw.begin(t)["claim"], b"all at the end", b"sig",
                        segments=["text", "opaque"])
        claim = self.raw.begin(t, segment="tokens")["claim"]
        ids = noise(40000, 3)
        for at in range(0, len(ids), 4000):
            self.raw.chunk(t, claim, ids[at:at + 4000])
        self.raw.commit(t, claim)
        claim = self.raw.begin(t, segment="opaque")["claim"]
        self.raw.chunk(t, claim, b"sealed")
        self.raw.commit(t, claim, b"and said")
        self.holds(t, [[], [("text", b"all at the end"), ("opaque", b"sig")], [("tokens", ids)],
                       [("opaque", b"sealed"), ("text", b"and said")]])

    def test_tokens_are_whole(self):
        t = self.new()
        claim = self.raw.begin(t, segment="tokens")["claim"]
        try:
            self.raw.chunk(t, claim, b"123456")
            self.refused("bad_request", self.raw.commit, t, claim)
            self.raw.chunk(t, claim, b"78")
        except raw.Refused as error:
            self.assertEqual(error.code, "bad_request")
            self.raw.chunk(t, claim, b"12345678")
        self.raw.commit(t, claim)
        self.holds(t, [[("tokens", b"12345678")]])

    def test_any_cut_and_order(self):
        """Chunks sent without waiting, of every size, come together in the order they were sent."""
        chance = random.Random(9)
        for _ in range(5):
            t, whole = self.new(), chance.randbytes(chance.choice((1, 300, 70000, MIB)))
            claim, at, sent = self.raw.begin(t)["claim"], 0, []
            while at < len(whole):
                parts = []
                for _ in range(chance.randrange(1, 65)):
                    size = min(chance.choice((1, 2, 255, 256, 257, 4096, 20000)), len(whole) - at)
                    if size:
                        parts.append(whole[at:at + size])
                    at += size
                sent.append((at, self.raw.send("chunk", {"thread": t, "claim": claim}, parts)))
            last = self.raw.send("commit", {"thread": t, "claim": claim})
            for bytes_, msgid in sent:
                self.assertEqual(self.raw.answer(msgid)[0]["bytes"], bytes_)
            self.assertEqual(self.raw.answer(last)[0]["step"], 0)
            self.holds(t, [[("text", whole)]])

    def test_abort(self):
        t, other = self.new(), self.new("o")
        self.raw.append(t, b"0")
        live = self.raw.info()["threads"]["live"]
        before = self.streaming_bytes()
        for thread in (t, other):
            claim = self.raw.begin(thread)["claim"]
            self.raw.chunk(thread, claim, bytes(100000))
            self.assertGreaterEqual(self.streaming_bytes(), before + 100000)
            self.assertEqual(self.raw.info()["threads"]["live"], live, "nobody else's thread yet")
            self.assertEqual(self.raw.abort(thread, claim), {"aborted": True})
            self.assertEqual(self.streaming_bytes(), before)
            for stale in (self.raw.abort, self.raw.chunk, self.raw.commit):
                self.claimed(stale, thread, claim, *([b"x"] if stale == self.raw.chunk else []))
        self.holds(t, [[("text", b"0")]])
        got = self.raw.replay(other)
        self.assertEqual((got.status, got.reason, got.in_flight), ("miss", "never_seen", None))
        self.assertEqual(self.raw.append(other, b"x", expect=0)["step"], 0)
        self.assertEqual(self.raw.append(t, b"1", expect=1)["version"], 2)

    def test_two_workers(self):
        for t in (self.new("new"), self.new("old")):
            steps = []
            if t.endswith(b"old"):
                self.raw.append(t, b"0")
                steps.append([("text", b"0")])
            one, two = self.worker(), self.worker()
            claim = one.begin(t)["claim"]
            one.chunk(t, claim, b"mine")
            for _ in range(2):
                self.claimed(two.begin, t)
                self.claimed(two.append, t, b"theirs")
                self.claimed(two.append, t, b"theirs", expect=len(steps))
                self.claimed(two.append, t, b"theirs", key="k")
                if steps:
                    self.assertEqual(self.claimed(two.begin, t).version, 1)
                    self.claimed(two.rewind, t, -1)
                for wrong in (1, claim - 1, claim ^ 1, (1 << 63) - 1):
                    self.claimed(two.chunk, t, wrong, b"theirs")
                    self.claimed(two.commit, t, wrong, b"theirs")
                    self.claimed(two.abort, t, wrong)
                one.chunk(t, claim, b", mine")
            # The claim is what counts, not the connection: another may go on with it.
            two.chunk(t, claim, b", ours")
            one.commit(t, claim)
            steps.append([("text", b"mine, mine, mine, ours")])
            self.holds(t, steps)
            self.claimed(two.commit, t, claim)
            two.commit(t, two.begin(t)["claim"], b"then theirs")
            self.holds(t, steps + [[("text", b"then theirs")]])

    def test_a_claim_fits_its_own_thread(self):
        a, b = self.new("a"), self.new("b")
        in_a, in_b = self.raw.begin(a)["claim"], self.raw.begin(b)["claim"]
        self.assertNotEqual(in_a, in_b)
        self.claimed(self.raw.chunk, a, in_b, b"x")
        self.claimed(self.raw.commit, b, in_a, b"x")
        for never in (self.new(), self.new()):
            self.claimed(self.raw.chunk, never, in_a, b"x")
            self.claimed(self.raw.commit, never, in_a, b"x")
            self.claimed(self.raw.abort, never, in_a)
            self.assertEqual(self.raw.replay(never).reason, "never_seen")
        self.raw.abort(a, in_a)
        self.raw.abort(b, in_b)

    def test_a_refused_commit_can_be_corrected(self):
        t = self.new()
        self.raw.append(t, b"0", turn=5)
        claim = self.raw.begin(t)["claim"]
        self.raw.chunk(t, claim, b"thought")
        error = self.refused("conflict", self.raw.commit, t, claim, expect=9)
        self.assertEqual((error.cause, error.version), ("version", 1))
        self.refused("bad_request", self.raw.commit, t, claim, turn=4)
        self.refused("bad_request", self.raw.commit, t, claim, b"x", segments=["text", "text"])
        self.refused("bad_request", self.raw.commit, t, claim, ack="disk")
        self.holds(t, [[("text", b"0")]], in_flight=True)
        self.assertEqual(self.raw.commit(t, claim, expect=1, turn=5)["step"], 1)
        self.holds(t, [[("text", b"0")], [("text", b"thought")]])

    def test_bad_requests(self):
        t = self.new()
        claim = self.raw.begin(t)["claim"]
        for names, method, options, payloads in (
            ("thread", "begin", {}, []), ("segment", "begin", {"thread": t, "segment": "video"}, []),
            ("claim", "chunk", {"thread": t}, [b"x"]), ("claim", "commit", {"thread": t}, []),
            ("claim", "chunk", {"thread": t, "claim": 0}, [b"x"]),
            ("claim", "abort", {"thread": t, "claim": -1}, []),
            ("claim", "abort", {"thread": t, "claim": "1"}, []),
            ("claim", "chunk", {"thread": t, "claim": 1 << 63}, [b"x"]),
            ("segments", "commit", {"thread": t, "claim": claim, "segments": ["x"]}, [b"x"]),
            ("begin", "begin", {"thread": t}, [b"x"]),
            ("final", "begin", {"thread": t, "final": True}, []),
            ("visible", "commit", {"thread": t, "claim": claim, "visible": b"short"}, []),
        ):
            self.bad(names, method, options, payloads)
        self.raw.commit(t, claim, b"fine")

    def test_commit_again_when_the_answer_was_lost(self):
        t = self.new()
        claim = self.raw.begin(t)["claim"]
        self.raw.chunk(t, claim, b"thought")
        lost = self.worker()
        lost.send("commit", {"thread": t, "claim": claim, "key": "k", "segments": ["opaque"]},
                  [b"sig"])
        lost.close()
        again = self.raw.commit(t, claim, b"sig", segments=["opaque"], key="k")
        self.assertEqual((again["step"], again["version"]), (0, 1))
        for _ in range(2):
            again = self.raw.commit(t, claim, b"sig", segments=["opaque"], key="k")
            self.assertEqual((again["step"], again["version"], again["duplicate"]), (0, 1, True))
            self.raw.append(t, b"later")
        for payload, kind in ((b"sig", "text"), (b"Sig", "opaque")):
            error = self.refused("conflict", self.raw.commit, t, claim, payload, segments=[kind],
                                 key="k")
            self.assertEqual(error.cause, "key")
        self.refused("conflict", self.raw.commit, t, claim ^ 1, b"sig", segments=["opaque"], key="k")
        self.refused("conflict", self.raw.append, t, b"thoughtsig", key="k")
        self.claimed(self.raw.commit, t, claim, b"sig", segments=["opaque"], key="other")
        # Also while the next is being streamed.
        claim2 = self.raw.begin(t)["claim"]
        self.assertTrue(self.raw.commit(t, claim, b"sig", segments=["opaque"], key="k")["duplicate"])
        self.raw.commit(t, claim2, b"next")
        self.assertEqual(self.raw.replay(t).head, 3)

    def test_forget_meanwhile(self):
        t = self.new()
        self.raw.append(t, b"0")
        before = self.streaming_bytes()
        claim = self.raw.begin(t)["claim"]
        self.raw.chunk(t, claim, bytes(50000))
        self.assertTrue(self.raw.forget(t))
        self.assertEqual(self.raw.replay(t).reason, "forgotten")
        self.assertEqual(self.raw.replay(t).in_flight, None)
        self.claimed(self.raw.chunk, t, claim, b"x")
        self.claimed(self.raw.commit, t, claim)
        self.wait(lambda: self.streaming_bytes() == before, "its memory is given back")
        self.assertEqual(self.raw.replay(t).reason, "forgotten", "nothing came back to life")
        claim = self.raw.begin(t)
        self.assertEqual((claim["step"], claim["version"]), (0, 0))
        self.raw.commit(t, claim["claim"], b"afresh")
        self.holds(t, [[("text", b"afresh")]])
        # One that nobody has committed to.
        t = self.new()
        claim = self.raw.begin(t)["claim"]
        self.raw.chunk(t, claim, bytes(50000))
        self.raw.forget(t)
        self.claimed(self.raw.commit, t, claim, b"x")
        self.assertEqual(self.raw.replay(t).in_flight, None)
        self.assertEqual(self.raw.replay(t).status, "miss")
        self.wait(lambda: self.streaming_bytes() == before, "its memory is given back")

    def test_fork_meanwhile(self):
        t, f, g = self.new(), self.new("f"), self.new("g")
        self.raw.append(t, b"0")
        claim = self.raw.begin(t)["claim"]
        self.raw.chunk(t, claim, b"1")
        self.assertEqual(self.raw.fork(f, t)["version"], 1)
        self.holds(f, [[("text", b"0")]])
        self.raw.append(f, b"f1")
        self.claimed(self.raw.chunk, f, claim, b"x")
        self.raw.commit(t, claim)
        self.raw.fork(g, t)
        self.holds(g, [[("text", b"0")], [("text", b"1")]])
        self.holds(f, [[("text", b"0")], [("text", b"f1")]])
        self.refused("conflict", self.raw.fork, f, t)
        # A name whose first step is being streamed is taken.
        taken = self.new("t")
        claim = self.raw.begin(taken)["claim"]
        self.refused("conflict", self.raw.fork, taken, t)
        self.raw.commit(taken, claim, b"mine")
        self.holds(taken, [[("text", b"mine")]])

    def test_in_flight_in_replays_by_keys_and_policies(self):
        t = self.new()
        play(self.raw, t, "1f 2f", lambda n: {"response_id": t + b"%d" % n})
        claim = self.raw.begin(t)["claim"]
        for got in (self.raw.replay(response_id=t + b"0"), self.raw.replay(t, policy="none"),
                    self.raw.replay(t, pin=True, policy="current_turn"),
                    self.raw.replay(t, have={"version": 2, "step": 1, "kept": [0, 1]})):
            self.assertEqual((got.status, got.in_flight), ("complete", True))
        self.assertTrue(self.raw.stat(t)["in_flight"])
        self.assertEqual(self.raw.stat(t)["floor"], 1)
        self.raw.abort(t, claim)
        self.assertNotIn("in_flight", self.raw.stat(t))
        self.assertIsNone(self.raw.replay(t).in_flight)

    def test_twenty_megabytes(self):
        t, whole = self.new(), noise(20 * MIB if not SANITIZED else 4 * MIB, 7)
        claim, sent = self.raw.begin(t)["claim"], []
        for at in range(0, len(whole), 3000):
            sent.append(self.raw.send("chunk", {"thread": t, "claim": claim}, [whole[at:at + 3000]]))
            if len(sent) == 200:
                for msgid in sent:
                    self.raw.answer(msgid)
                sent = []
        for msgid in sent:
            self.assertLessEqual(self.raw.answer(msgid)[0]["bytes"], len(whole))
        self.raw.commit(t, claim, key="k")
        self.holds(t, [[("text", whole)]])
        self.assertTrue(self.raw.commit(t, claim, key="k")["duplicate"])
        self.raw.forget(t)

    def test_a_step_beyond_a_frame(self):
        """No step may be committed that no replay could give back."""
        with_small = self.started("--frame-max", "256K")
        client = self.worker(with_small)
        client.append(b"t", b"0")
        claim, sent = client.begin(b"t")["claim"], 0
        error = None
        for _ in range(10):
            try:
                client.chunk(b"t", claim, bytes([65]) * 50000)
                sent += 50000
            except raw.Refused as refused:
                error = refused
                break
        if error is None:
            error = self.raises(raw.Refused, client.commit, b"t", claim)
            client.abort(b"t", claim)
        else:
            client.commit(b"t", claim)
            got = client.replay(b"t")
            self.assertEqual((got.status, len(got.data[1])), ("complete", sent))
        self.assertEqual(error.code, "too_large")
        with_small.stop()

    def test_a_server_that_is_stopped_in_the_middle(self):
        server = self.started()
        client = self.worker(server)
        for n in range(20):
            client.chunk(b"t%d" % n, client.begin(b"t%d" % n)["claim"], bytes(10000))
        server.stop()

if __name__ == "__main__":
    unittest.main()
