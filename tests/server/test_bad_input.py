"""Hostile bytes: a typed error and an open connection, or a closed one; never anything worse.

Another client is served all the while, and nothing of a refused request is stored.
"""

import random
import socket
import struct
import unittest

import msgpack

import raw
from harness import SANITIZED, ServerCase, Witness

BATCH = 200


class BadInput(ServerCase):
    FLAGS = ("--frame-max", "8M", "--memory", "256M")

    def setUp(self):
        super().setUp()
        self.rss = self.server.rss_bytes()
        witness = Witness(self.server)
        witness.__enter__()
        self.addCleanup(witness.__exit__, None)

    def grown(self):
        return self.server.rss_bytes() - self.rss

    def ask(self, bodies):
        """Sends each body in a sound frame, many per connection; yields (body, response).

        Where the server closes instead of answering, the rest goes over a new connection and
        the body that was met so is yielded with None.
        """
        bodies = list(bodies)
        at = 0
        while at < len(bodies):
            sock = raw.connect(self.server)
            responses = raw.Responses(sock)
            batch, got = bodies[at:at + BATCH], []
            try:
                sock.sendall(b"".join(raw.frame(b) for b in batch))
                while len(got) < len(batch):
                    more = responses.receive()
                    if more is None:
                        break
                    got += more
            except (BrokenPipeError, ConnectionResetError):
                pass
            finally:
                sock.close()
            for body, response in zip(batch, got):
                yield body, response
            at += len(got)
            if len(got) < len(batch):
                yield bodies[at], None
                at += 1

    def typed(self, bodies):
        """All are answered by a typed error or a result; how many of each."""
        counts = {}
        for body, response in self.ask(bodies):
            self.assertIsNotNone(response, f"closed on a sound frame: {body[:64].hex()}")
            code = raw.check(response)
            counts[code] = counts.get(code, 0) + 1
        return counts

    def test_every_truncation_in_a_sound_frame(self):
        bodies = [g[5:n] for g in raw.golden().values() for n in range(5, len(g))]
        self.assertGreater(len(bodies), 500)
        self.assertEqual(set(self.typed(bodies)), {b"bad_request"})

    def test_every_truncation_of_the_stream(self):
        for name, g in raw.golden().items():
            for n in range(len(g)):
                with raw.connect(self.server) as sock:
                    sock.sendall(g[:n])
                    sock.shutdown(socket.SHUT_WR)
                    for response in raw.Responses(sock).all():
                        self.assertIsNotNone(raw.check(response), f"{name}: half was enough")

    def test_every_corruption_of_a_body(self):
        count, wins = 0, 0
        step = 7 if SANITIZED else 1
        for name, g in raw.golden().items():
            for t in ("golden", "golden2", "golden4"):
                self.client.forget(t)
            self.typed(raw.golden()[n][5:] for n in ("append", "append-expect", "fork"))
            bodies = (g[5:at] + bytes([value]) + g[at + 1:]
                      for at in range(5, len(g)) for value in range(at % step, 256, step)
                      if value != g[at])
            for code, times in self.typed(bodies).items():
                count += times
                wins += times if code is None and name.startswith("append") else 0
        self.assertGreater(count, 150000 // step)
        self.assertGreater(wins, 0)

    def test_every_corruption_of_a_header(self):
        for name in ("append", "ping"):
            g = raw.golden()[name]
            for at in range(5):
                for value in range(256):
                    if value == g[at]:
                        continue
                    with raw.connect(self.server) as sock:
                        sock.sendall(g[:at] + bytes([value]) + g[at + 1:])
                        sock.shutdown(socket.SHUT_WR)
                        for response in raw.Responses(sock).all():
                            self.assertIn(raw.check(response), (b"bad_request", b"too_large"))

    def test_nothing_is_stored_half(self):
        g = raw.request(1, "append", {"thread": "half", "segments": ["text", "opaque"]},
                        [b"0123456789", b"abcdefghij"])
        self.typed(g[5:n] for n in range(5, len(g)))
        self.assertEqual(self.client.replay("half").reason, "never_seen")
        # Corrupted ones that were taken are whole: what was answered is what is there.
        rng, bodies, taken = random.Random(5), {}, {}
        rest = g[5 + 3:]
        for msgid in range(20000):
            at = rng.randrange(len(rest))
            bodies[msgid] = (b"\x94\x00\xce" + struct.pack(">I", msgid)
                             + rest[:at] + rng.randbytes(1) + rest[at + 1:])
        appends = self.appends()
        for _, response in self.ask(bodies.values()):
            if response is not None and raw.check(response) is None:
                result = response[3][0]
                sent = msgpack.unpackb(bodies[response[1]], raw=True)[3][1:]
                taken.setdefault(result[b"thread"], {})[result[b"step"]] = sent
        self.assertGreater(len(taken), 100)
        for thread, steps in taken.items():
            got = self.client.replay(thread)
            self.assertEqual({s.step: [x.data for x in s.segments] for s in got.steps}, steps)
        self.assertGreaterEqual(self.appends() - appends, sum(map(len, taken.values())))

    def appends(self):
        return self.client.info()["requests"]["appends"]

    def test_bombs(self):
        u32 = struct.pack(">I", 0xFFFFFFFF)
        start = b"\x94\x00\x01\xa4ping"
        declared = [bytes([m]) + u32 for m in (0xDD, 0xDF, 0xC6, 0xDB, 0xC9)]
        bodies = [b"", b"\xc0", b"\x00", b"\xc1", b"\xcb" + bytes(8), b"\xd9\xff", b"\x90", b"\x80"]
        bodies += declared
        bodies += [b"\x94\x00\x01" + d for d in declared]
        bodies += [start + d for d in declared] + [start + b"\x91" + d for d in declared]
        bodies += [start + b"\x91\x81\xa6thread" + d for d in declared]
        bodies += [start + b"\x92\x80" + d for d in declared]
        bodies += [b"\x94\x00\x01\xa5touch\x91\x81\xa7threads" + d for d in declared]
        bodies += [b"\x94\x00\x01\xa5chunk" + d for d in declared]
        for option in (b"\xa6prefix", b"\xa8prefixes", b"\xa8prefixes\x91",
                       b"\xa8prefixes\x91\x92\x00", b"\xa4have", b"\xa4have\x83\xa4kept"):
            bodies += [b"\x94\x00\x01\xa6replay\x91\x81" + option + d for d in declared]
        for unit in (b"\x91", b"\x81", b"\x81\xa1a", b"\xdd\x00\x00\x00\x01",
                     b"\xdd\x7f\xff\xff\xff", b"\xdc\xff\xff", b"\xdf\x00\x00\x00\x01\xc0"):
            for depth in (8, 9, 33, 1000, 100000):
                bodies += [unit * depth, start + unit * depth, start + b"\x91" + unit * depth,
                           start + b"\x91\x81\xa6thread" + unit * depth + b"\xc0"]
        # Nested well-formed maps and arrays that no option has.
        for depth in (2, 7, 8, 9, 50):
            bodies.append(start + b"\x91\x81\xa1x" + b"\x91" * depth + b"\xc0")
        # Counts that are true but many: four million nils, a map of a hundred thousand options.
        bodies.append(start + b"\x91\x81\xa1x\xdd" + struct.pack(">I", 4 << 20) + b"\xc0" * (4 << 20))
        bodies.append(start + b"\x91\xdf" + struct.pack(">I", 100000) + b"\xa1x\xc0" * 100000)
        bodies += [msgpack.packb([0, 1, "replay", [{"thread": "t", **options}]]) for options in (
            {"prefix": [bytes(16)] * 400000}, {"prefixes": [[0, bytes(16)]] * 350000},
            {"have": {"version": 1, "step": 1 << 40, "kept": list(range(1 << 20))}})]
        self.assertEqual(set(self.typed(bodies)), {b"bad_request"})
        if not SANITIZED:
            self.assertLess(self.grown(), 64 << 20)

    def test_wrong_messages(self):
        wrong = [[1, 1, None, [{}]], [2, "ping", [{}]], [0, 1, "ping"], [0, 1, "ping", [{}], 1],
                 [0, -1, "ping", [{}]], [0, 1 << 32, "ping", [{}]], [0, "1", "ping", [{}]],
                 [0, None, "ping", [{}]], [0, 1, b"ping", [{}]], [0, 1, 7, [{}]],
                 [0, 1, "ping", {}], [0, 1, "ping", []], [0, 1, "ping", None],
                 [0, 1, "ping", [[]]], [0, 1, "ping", [{1: 2}]], [0, 1, "ping", [{None: 2}]],
                 [3, 1, "ping", [{}]], {"a": 1}, "ping", 7, None, []]
        bodies = [msgpack.packb(m) for m in wrong]
        bodies.append(msgpack.packb([0, 1, "ping", [{}]]) + b"\xc0")
        counts = self.typed(bodies)
        self.assertEqual(set(counts), {b"bad_request"}, counts)
        # The msgid is told wherever one could be read.
        for _, response in self.ask([msgpack.packb([0, 77, "stat", [{"thread": 1}]]),
                                     msgpack.packb([0, 77, "ping", 5])]):
            self.assertEqual(response[1], 77)

    def test_an_option_given_twice(self):
        body = b"\x94\x00\x01\xa4stat\x91\x82\xa6thread\xa1a\xa6thread\xa1b"
        self.assertEqual(set(self.typed([body])), {b"bad_request"})

    def test_declared_lengths(self):
        for length in (0xFFFFFFFF, 0x80000000, (8 << 20) + 1):
            with raw.connect(self.server) as sock:
                sock.sendall(b"\xce" + struct.pack(">I", length) + b"\x94\x00\x01")
                answers = raw.Responses(sock).all()
                self.assertEqual([(raw.check(a), a[1]) for a in answers], [(b"too_large", None)])
        self.assertLess(self.grown(), 32 << 20)

    def test_lost_framing(self):
        for said in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
                     b"*1\r\n$4\r\nPING\r\n", b"\x94\x00\x01\xa4ping\x91\x80", b"\x00" * 100,
                     b"\xff" * 100, raw.golden()["ping"] + b"junk!"):
            with raw.connect(self.server) as sock:
                sock.sendall(said)
                for answer in raw.Responses(sock).all():  # that it ends is the point
                    raw.check(answer)

    def test_half_closed(self):
        # What was received whole is answered; then the server closes too.
        g = raw.golden()
        with raw.connect(self.server) as sock:
            sock.sendall(g["ping"] * 50 + g["append"] + g["replay"] + g["info"] + g["ping"][:9])
            sock.shutdown(socket.SHUT_WR)
            answers = raw.Responses(sock).all()
            self.assertEqual([raw.check(a) for a in answers if a[1] is not None], [None] * 53)
        with raw.connect(self.server) as sock:
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(raw.Responses(sock).all(), [])
        for n in (0, 3, 5, 12):
            sock = raw.connect(self.server)
            sock.sendall(g["append"][:n])
            # A reset instead of a close.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

    def test_noise(self):
        rng = random.Random(11)
        bodies = [rng.randbytes(rng.randrange(1, 200)) for _ in range(20000)]
        bodies += [b"\x94\x00\x01\xa6append\x92" + rng.randbytes(rng.randrange(1, 60))
                   for _ in range(20000)]
        self.assertLessEqual(set(self.typed(bodies)), {b"bad_request", b"unknown_method", None})

    def test_any_split(self):
        stream = b"".join(raw.golden()[n] for n in ("append", "replay", "stat", "ping"))
        for cut in range(1, len(stream)):
            with raw.connect(self.server) as sock:
                responses, got = raw.Responses(sock), []
                sock.sendall(stream[:cut])
                if cut % 7 == 0:
                    self.client.ping()
                sock.sendall(stream[cut:])
                while len(got) < 4:
                    got += responses.receive()
                self.assertEqual([raw.check(r) for r in got], [None] * 4)


if __name__ == "__main__":
    unittest.main()
