"""Two writers on one thread: who wins is open, that exactly one wins is not.

A race is one version of one thread that both writers want. They send their appends for many
threads at the same instant over two connections, which the server gives to different loops.
RACES: how many (default 100,000; fewer under a sanitizer).
"""

import os
import random
import threading
import unittest

import msgpack

import raw
from harness import SANITIZED, ServerCase

RACES = int(os.environ.get("RACES", "10000" if SANITIZED else "100000"))
THREADS = 250


class Writer:
    """One connection. ``batch`` sends whole requests at once and collects the answers.

    A writer that leads has the answers to its first tenth before the other may send: whatever the
    machine lets run first, both win where they lead in turns. The rest of the batch is a race.
    """

    def __init__(self, server, name, barrier):
        self.name = name
        self.socket = raw.connect(server)
        self.responses = raw.Responses(self.socket)
        self.barrier = barrier
        self.won = 0

    def batch(self, requests, leads=False):
        """{msgid: response} for the requests' bytes, sent when the other is ready too."""
        answers, lead = {}, len(requests) // 10 if leads else 0
        self._exchange(requests[:lead], answers)
        self.barrier.wait(60)
        self._exchange(requests[lead:], answers)
        return answers

    def leads(self, turn):
        return turn % 2 == (self.name == b"A")

    def _exchange(self, requests, answers):
        wanted = len(answers) + len(requests)
        self.socket.sendall(b"".join(requests))
        while len(answers) < wanted:
            got = self.responses.receive()
            assert got is not None, "the server closed the connection"
            for response in got:
                assert response[1] not in answers, "answered twice"
                answers[response[1]] = response


class Races(ServerCase):
    def two_writers(self, work):
        barrier, failures = threading.Barrier(2), []
        writers = [Writer(self.server, name, barrier) for name in (b"A", b"B")]

        def run(writer):
            try:
                work(writer)
            except BaseException as failure:  # told to the test's own thread
                failures.append(failure)
                barrier.abort()
        threads = [threading.Thread(target=run, args=(w,)) for w in writers]
        [t.start() for t in threads]
        [t.join() for t in threads]
        [w.socket.close() for w in writers]
        if failures:
            raise next((f for f in failures if not isinstance(f, threading.BrokenBarrierError)),
                       failures[0])
        return writers

    def test_with_expect_exactly_one_wins(self):
        rounds = RACES // THREADS
        ids = [self.new() for _ in range(THREADS)]
        packed = [msgpack.packb({"thread": t, "expect": 1})[:-1] for t in ids]
        won = [[None] * THREADS for _ in range(rounds)]
        lock = threading.Lock()
        twice, odd = [], []

        def work(writer):
            # Both go through the threads in the same order; now and then one starts elsewhere,
            # so that each comes first at times.
            rng = random.Random(writer.name)
            for version in range(rounds):
                start = rng.choice((0, 0, 0, 1, 5, 20))
                expect = msgpack.packb(version)
                payload = msgpack.packb(b"%s %d" % (writer.name, version))
                requests = []
                for n in range(THREADS):
                    n = (n + start) % THREADS
                    body = (b"\x94\x00\xcd" + n.to_bytes(2, "big") + b"\xa6append\x92"
                            + packed[n] + expect + payload)
                    requests.append(raw.frame(body))
                for n, response in writer.batch(requests, writer.leads(version)).items():
                    code = raw.check(response)
                    if code is None:
                        if response[3][0][b"version"] != version + 1:
                            odd.append(response)
                        with lock:
                            if won[version][n] is not None:
                                twice.append((n, version))
                            won[version][n] = writer.name
                        writer.won += 1
                    elif code != b"conflict":
                        odd.append(response)
        writers = self.two_writers(work)
        self.assertEqual(odd[:3], [], "neither a win nor a conflict")
        self.assertEqual(twice, [], "both won")
        self.assertEqual([w for r in won for w in r].count(None), 0, "neither won")
        self.assertEqual(sum(w.won for w in writers), rounds * THREADS)
        self.assertGreater(min(w.won for w in writers), rounds * THREADS // 25)
        for n, t in enumerate(ids):
            replay = self.client.replay(t)
            self.assertEqual((replay.status, replay.version, replay.head),
                             ("complete", rounds, rounds - 1))
            self.assertEqual([s.segments[0].data for s in replay.steps],
                             [b"%s %d" % (won[v][n], v) for v in range(rounds)])

    def test_without_expect_none_is_lost(self):
        each, ids = max(RACES // 20 // 50, 10), [self.new() for _ in range(10)]
        kept = {b"A": [], b"B": []}

        def work(writer):
            for first in range(0, each * 50, 50):
                requests = [
                    raw.request(i * 50 + n, "append", {"thread": t},
                                [b"%s %d" % (writer.name, first + n)])
                    for i, t in enumerate(ids) for n in range(50)]
                for msgid, response in writer.batch(requests).items():
                    code = raw.check(response)
                    if code is None:
                        i, n = divmod(msgid, 50)
                        kept[writer.name].append(
                            (i, response[3][0][b"step"], b"%s %d" % (writer.name, first + n)))
                    else:
                        assert code == b"busy", f"refused with {code}"
        self.two_writers(work)
        for i, t in enumerate(ids):
            replay = self.client.replay(t)
            self.assertTrue(replay.complete)
            stored = {(s.step, s.segments[0].data) for s in replay.steps}
            told = [(step, data) for name in kept for j, step, data in kept[name] if j == i]
            self.assertEqual(len(told), len(set(told)), "nothing doubled")
            self.assertEqual(stored, set(told), "what was answered is what is stored")
            for name in (b"A", b"B"):
                mine = [int(s.segments[0].data.split()[1]) for s in replay.steps
                        if s.segments[0].data.startswith(name)]
                self.assertEqual(mine, sorted(mine), "one connection's order is kept")

    def test_one_claim_at_a_time(self):
        """Both begin on every thread at once; then the one streams while the other appends."""
        rounds = max(RACES // 10 // THREADS, 3)
        ids = [self.new() for _ in range(THREADS)]
        claims = {b"A": [{} for _ in range(rounds)], b"B": [{} for _ in range(rounds)]}
        told, odd = {n: {} for n in range(THREADS)}, []

        def begin(writer, turn):
            requests = [raw.request(n, "begin", {"thread": t}) for n, t in enumerate(ids)]
            for n, response in writer.batch(requests, writer.leads(turn)).items():
                if raw.check(response) is None:
                    claims[writer.name][turn][n] = response[3][0][b"claim"]
                    writer.won += 1
                elif response[2].get(b"cause") != b"claimed":
                    odd.append(response)

        def finish(writer, turn):
            mine, requests, sent = claims[writer.name][turn], [], {}
            for n, t in enumerate(ids):
                name = b"%s %d" % (writer.name, turn)
                if n in mine:
                    options = {"thread": t, "claim": mine[n]}
                    requests.append(raw.request(THREADS + n, "chunk", options, [name[:2], name[2:]]))
                    requests.append(raw.request(n, "commit", options, [b"."]))
                    sent[n] = name + b"."
                else:
                    requests.append(raw.request(n, "append", {"thread": t}, [name]))
                    sent[n] = name
            for msgid, response in writer.batch(requests).items():
                code = raw.check(response)
                if code is None and msgid < THREADS:
                    step = response[3][0][b"step"]
                    assert step not in told[msgid], "a step given twice"
                    told[msgid][step] = sent[msgid]
                elif code is not None and (msgid >= THREADS or msgid in mine or
                                           response[2].get(b"cause") != b"claimed"):
                    odd.append(response)

        def work(writer):
            for turn in range(rounds):
                begin(writer, turn)
                finish(writer, turn)
        writers = self.two_writers(work)
        self.assertEqual(odd[:3], [], "neither a win nor a conflict")
        for turn in range(rounds):
            a, b = claims[b"A"][turn], claims[b"B"][turn]
            self.assertEqual(set(a) & set(b), set(), "both have it")
            self.assertEqual(len(a) + len(b), THREADS, "neither has it")
        self.assertGreater(min(w.won for w in writers), rounds * THREADS // 25)
        for n, t in enumerate(ids):
            replay = self.client.replay(t)
            self.assertTrue(replay.complete)
            self.assertEqual({s.step: b"".join(x.data for x in s.segments) for s in replay.steps},
                             told[n], "what was answered is what is stored")
            self.assertGreaterEqual(len(told[n]), rounds)

    def test_key_commits_once(self):
        ids = [self.new() for _ in range(200)]
        results = {b"A": {}, b"B": {}}

        def work(writer):
            for turn in range(20):
                requests = [raw.request(n, "append", {"thread": t, "key": b"%d" % turn},
                                        [b"same %d" % turn]) for n, t in enumerate(ids)]
                for n, response in writer.batch(requests).items():
                    assert raw.check(response) in (None, b"busy")
                    if response[2] is None:
                        results[writer.name][turn, n] = response[3][0]
        self.two_writers(work)
        for (turn, n), a in results[b"A"].items():
            if b := results[b"B"].get((turn, n)):
                self.assertEqual((a[b"step"], a[b"version"]), (b[b"step"], b[b"version"]))
                self.assertEqual(a[b"duplicate"] + b[b"duplicate"], 1)
        for n, t in enumerate(ids):
            answered = [turn for turn in range(20)
                        if (turn, n) in results[b"A"] or (turn, n) in results[b"B"]]
            self.assertEqual([s.segments[0].data for s in self.client.replay(t).steps],
                             [b"same %d" % turn for turn in answered])


if __name__ == "__main__":
    unittest.main()
