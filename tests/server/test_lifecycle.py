"""SIGTERM drains: what was received is answered, nothing new is taken, exit 0."""

import select
import signal
import socket
import threading
import time
import unittest

import raw
import rethread
from harness import ServerCase


class Lifecycle(ServerCase):
    def until_raised(self, errors, call):
        """The server has to learn of the signal first."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                call()
            except errors:
                return
            time.sleep(0.01)
        self.fail("a draining server took a request")

    def test_idle_server_stops_at_once(self):
        server = self.started()
        with rethread.Client(server.address) as client:
            client.append("t", b"x")
            server.stop()
            self.assertNotIn("drain_incomplete", server.log())
            self.raises(rethread.TransportError, client.ping)
        self.raises(rethread.ConnectError, rethread.Client(server.address).ping)

    def test_what_was_received_is_answered(self):
        server = self.started()
        count = 5000
        sock = raw.connect(server)
        self.addCleanup(sock.close)
        requests = [raw.request(n, "append", {"thread": b"t%d" % (n % 7)}, [bytes(500)])
                    for n in range(count)]
        sock.sendall(b"".join(requests))
        # The loop has everything once the socket's queue is empty; the answers say so.
        responses = raw.Responses(sock)
        got = responses.receive()
        server.terminate()
        got += responses.all()
        answered = [r[1] for r in got]
        self.assertEqual(len(answered), len(set(answered)), "answered twice")
        codes = {raw.check(r) for r in got}
        self.assertLessEqual(codes, {None, b"shutting_down"})
        self.assertEqual(sorted(answered), list(range(len(answered))), "a gap in the answers")
        server.stop()

    def test_everything_that_had_arrived(self):
        # The requests have certainly arrived, as the server is stopped while they are sent.
        server = self.started()
        sock = raw.connect(server)
        self.addCleanup(sock.close)
        responses = raw.Responses(sock)
        sock.sendall(raw.request(0, "ping"))
        responses.receive()
        server.process.send_signal(signal.SIGSTOP)
        sock.sendall(b"".join(raw.request(n, "append", {"thread": "t"}, [b"x"])
                              for n in range(100)))
        server.terminate()
        server.process.send_signal(signal.SIGCONT)
        got = responses.all()
        self.assertEqual(sorted(r[1] for r in got), list(range(100)))
        self.assertLessEqual({raw.check(r) for r in got}, {None, b"shutting_down"})
        server.stop()

    def test_a_large_reply_is_finished(self):
        server = self.started("--drain-timeout", "2m")
        with rethread.Client(server.address) as client:
            for n in range(40):
                client.append("big", bytes([n]) * (1 << 20))
            sock = socket.socket()
            self.addCleanup(sock.close)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", server.port))
            sock.sendall(raw.request(1, "replay", {"thread": "big"}))
            self.assertTrue(select.select([sock], [], [], 20)[0], "the reply has begun")
            server.terminate()
            # Meanwhile nobody new is let in, and the draining server says that it is.
            self.until_raised((rethread.ConnectError, rethread.ConnectionLost),
                              lambda: rethread.Client(server.address).ping())
            self.until_raised((rethread.ShuttingDown, rethread.ConnectionLost,
                               rethread.ConnectError), lambda: client.append("late", b"x"))
            answers = raw.Responses(sock).all()
            self.assertEqual([raw.check(a) for a in answers], [None])
            self.assertTrue(answers[0][3][1:] == [bytes([n]) * (1 << 20) for n in range(40)])
        server.stop()
        self.assertNotIn("drain_incomplete", server.log())

    def test_a_client_that_never_reads_does_not_hold_it(self):
        for allowed in ("0", "300ms"):
            with self.subTest(allowed):
                self.is_not_held(self.started("--drain-timeout", allowed))

    def is_not_held(self, server):
        with rethread.Client(server.address) as client:
            for n in range(40):
                client.append("big", bytes(1 << 20))
        sock = socket.socket()
        self.addCleanup(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(raw.request(1, "replay", {"thread": "big"}))
        self.assertTrue(select.select([sock], [], [], 20)[0], "the reply has begun")
        server.stop(timeout=30)
        self.assertIn("drain_incomplete", server.log())

    def test_sigint_and_repeated_signals(self):
        server = self.started()
        server.process.send_signal(signal.SIGINT)
        self.assertIn(server.wait(20), (0, 130, -signal.SIGINT))
        server = self.started()
        for _ in range(3):
            server.terminate()
        self.assertEqual(server.wait(20), 0)

    def test_stops_under_load(self):
        for _ in range(3):
            server = self.started()
            stop = threading.Event()
            odd = []

            def load(number):
                kept = 0
                try:
                    with rethread.Client(server.address) as client:
                        while not stop.is_set():
                            with client.pipeline() as pipe:
                                for n in range(50):
                                    pipe.append(b"%d" % number, b"x" * 200)
                            for p in pipe.collect():
                                p.result()
                            kept += 50
                except (rethread.TransportError, rethread.ShuttingDown):
                    return
                except BaseException as failure:  # told to the test's own thread
                    odd.append(failure)
            threads = [threading.Thread(target=load, args=(n,)) for n in range(4)]
            [t.start() for t in threads]
            time.sleep(0.3)
            server.stop()
            stop.set()
            [t.join(40) for t in threads]
            self.assertEqual(odd, [])


if __name__ == "__main__":
    unittest.main()
