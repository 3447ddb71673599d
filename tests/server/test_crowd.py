"""Many connections and rude ones: memory within the limits, the others served meanwhile."""

import select
import socket
import struct
import time
import unittest

import raw
import rethread
from harness import PATIENCE_S, SANITIZED, ServerCase, Witness, raise_file_limit

MIB = 1 << 20


class CrowdCase(ServerCase):
    def setUp(self):
        super().setUp()
        self.sockets = []
        self.addCleanup(lambda: [s.close() for s in self.sockets])

    def crowd(self, count):
        for _ in range(count):
            self.sockets.append(raw.connect(self.server))

    def settle(self, connections):
        """Waits until the server has as many connections, its other clients' aside."""
        deadline = time.monotonic() + PATIENCE_S
        while self.client.info()["server"]["connections"] > connections:
            self.assertLess(time.monotonic(), deadline, "connections are not given back")
            time.sleep(0.02)

    def served_meanwhile(self, witness):
        deadline, calls = time.monotonic() + PATIENCE_S, witness.calls
        while witness.calls == calls:
            self.assertLess(time.monotonic(), deadline, "nobody else is served")
            time.sleep(0.02)


class Crowd(CrowdCase):
    FLAGS = ("--loops", "2")

    def growth(self, before):
        return 0 if SANITIZED else self.server.rss_bytes() - before

    def test_ten_thousand_idle_connections(self):
        count = 10000
        if raise_file_limit() < count + 500:
            self.skipTest("the limit of open files is too low here")
        before = self.server.rss_bytes()
        with Witness(self.server) as witness:
            self.crowd(count)
            for s in self.sockets[::500] + self.sockets[-1:]:
                s.sendall(raw.request(1, "ping"))
                self.assertIsNone(raw.check(raw.Responses(s).receive()[0]))
            self.assertGreaterEqual(self.client.info()["server"]["connections"], count)
            self.assertLess(self.growth(before), 64 * MIB)
        for s in self.sockets:
            s.close()
        self.settle(10)

    def test_a_thousand_declare_64_mib_and_send_1_kib(self):
        before = self.server.rss_bytes()
        head = b"\x94\x00\x01\xa6append\x92\x81\xa6thread\xa1t\xc6\x03\xff\xff\x00"
        said = (b"\xce" + struct.pack(">I", 64 * MIB) + head).ljust(1024, b"x")
        with Witness(self.server) as witness:
            self.crowd(1000)
            for s in self.sockets:
                try:
                    s.sendall(said)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # refused: closed, which is an answer too
            time.sleep(0.5)
            self.assertLess(self.growth(before), 64 * MIB)
            self.served_meanwhile(witness)
        for s in self.sockets:
            s.close()
        self.settle(10)
        self.assertEqual(self.client.replay("t").reason, "never_seen")

    def flood(self, requests, seconds=2.0):
        """Connections that send all the time and never read."""
        ends = time.monotonic() + seconds
        left = {s: b"" for s in self.sockets}
        for s in self.sockets:
            s.setblocking(False)
        while left and time.monotonic() < ends:
            _, writable, _ = select.select([], list(left), [], 0.1)
            for s in writable:
                data = left[s] or requests
                try:
                    left[s] = data[s.send(data):]
                except BlockingIOError:
                    pass
                except OSError:
                    del left[s]  # closed: an answer too

    def test_clients_that_never_read(self):
        t = self.new()
        for n in range(10):
            self.client.append(t, bytes([n]) * MIB)
        before = self.server.rss_bytes()
        with Witness(self.server) as witness:
            for _ in range(20):
                s = socket.socket()
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                s.connect(("127.0.0.1", self.server.port))
                self.sockets.append(s)
            self.flood(raw.request(1, "replay", {"thread": t}) * 20)
            self.assertLess(self.growth(before), 192 * MIB)
            self.served_meanwhile(witness)
        for s in self.sockets:
            s.close()
        self.settle(10)

    def test_pings_that_are_never_read(self):
        before = self.server.rss_bytes()
        with Witness(self.server):
            self.crowd(8)
            self.flood(raw.request(1, "ping") * 2000)
            self.assertLess(self.growth(before), 160 * MIB)

    def test_steps_forgotten_while_a_slow_reader_is_served(self):
        # The reply's bytes must stay what they were while they wait for the reader.
        t = self.new()
        for n in range(30):
            self.client.append(t, bytes([n]) * MIB)
        s = socket.socket()
        self.sockets.append(s)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", self.server.port))
        s.sendall(raw.request(1, "replay", {"thread": t}))
        self.assertTrue(select.select([s], [], [], 20)[0])
        self.client.forget(t)
        other = self.new()
        for n in range(30):
            self.client.append(other, bytes([100 + n]) * MIB)
        answer = raw.Responses(s).receive()[0]
        self.assertIsNone(raw.check(answer))
        self.assertTrue(answer[3][1:] == [bytes([n]) * MIB for n in range(30)],
                        "a reply that had begun was overwritten")


class SmallMemory(CrowdCase):
    """A crowd where an eighth of the memory is little; larger requests are served meanwhile."""

    FLAGS = ("--loops", "2", "--memory", "64M")

    def say(self, data, count):
        if raise_file_limit() < count + 500:
            self.skipTest("the limit of open files is too low here")
        received = self.client.info()["server"]["bytes_received"] + count * len(data)
        self.crowd(count)
        for s in self.sockets:
            s.sendall(data)
        deadline = time.monotonic() + PATIENCE_S
        while self.client.info()["server"]["bytes_received"] < received:
            self.assertLess(time.monotonic(), deadline, "not all was received")
            time.sleep(0.02)

    def exchange(self):
        t = self.new()
        for n in range(5):
            self.client.append(t, bytes([n]) * 100000)
            self.assertEqual(self.client.replay(t).steps[n].segments[0].data, bytes([n]) * 100000)

    def leave(self):
        for s in self.sockets:
            s.close()
        self.settle(10)

    def test_idle(self):
        self.say(b"", 10000)
        self.exchange()
        self.leave()

    def test_one_byte_each(self):
        self.say(b"\xce", 2100)
        self.exchange()
        self.leave()

    def test_one_byte_each_of_ten_thousand(self):
        self.say(b"\xce", 10000)
        self.exchange()
        self.leave()

    def test_half_senders(self):
        head = b"\x94\x00\x01\xa6append\x92\x81\xa6thread\xa1t\xc6\x00\x0f\xff\x00"
        self.say((b"\xce" + struct.pack(">I", MIB) + head).ljust(1024, b"x"), 1000)
        self.exchange()
        self.leave()

    def test_many_half_senders_lose_to_others(self):
        # All of the cap is theirs at first; who is slow with it gives way.
        head = b"\x94\x00\x01\xa6append\x92\x81\xa6thread\xa1t\xc6\x00\x0f\xff\x00"
        self.say((b"\xce" + struct.pack(">I", MIB) + head).ljust(4000, b"x"), 2600)
        time.sleep(5)
        self.exchange()
        self.leave()


class MaxConnections(ServerCase):
    FLAGS = ("--max-connections", "20")

    def test_max_connections(self):
        held = [raw.connect(self.server) for _ in range(40)]
        self.addCleanup(lambda: [s.close() for s in held])
        served = 0
        for s in held:
            try:
                s.sendall(raw.request(1, "ping"))
                got = raw.Responses(s).receive()
                served += got is not None and raw.check(got[0]) is None
            except OSError:
                pass
        self.assertTrue(19 <= served <= 20, served)
        for s in held:
            s.close()
        deadline = time.monotonic() + PATIENCE_S
        while True:  # the places are given back
            try:
                with rethread.Client(self.server.address) as client:
                    client.ping()
                    return
            except rethread.TransportError:
                self.assertLess(time.monotonic(), deadline)


class IdleTimeout(ServerCase):
    FLAGS = ("--idle-timeout", "1s")

    def test_idle_timeout(self):
        idle, half, busy = (raw.connect(self.server) for _ in range(3))
        self.addCleanup(lambda: [s.close() for s in (idle, half, busy)])
        half.sendall(raw.golden()["append"][:20])
        start = last = time.monotonic()
        while time.monotonic() < start + 2.5:
            sent = time.monotonic()
            try:
                busy.sendall(raw.request(1, "ping"))
                served = raw.Responses(busy).receive() is not None
            except OSError:
                served = False
            if not served:  # only where this test itself was kept from running
                self.assertGreater(time.monotonic(), last + 0.99, "it was not idle")
                busy.close()
                busy = raw.connect(self.server)
                sent = time.monotonic()
            last = sent
            time.sleep(0.2)
        for s in (idle, half):
            for answer in raw.Responses(s).all():
                raw.check(answer)


if __name__ == "__main__":
    unittest.main()
