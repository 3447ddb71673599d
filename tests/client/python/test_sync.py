"""The synchronous client against a scripted server."""

import socket
import threading
import unittest

import rethread
from fake_server import FakeServer, echo, error, frame, ok
from rethread.address import Address
from rethread.connection import Connection


class Calls(unittest.TestCase):
    def test_every_method_and_transport(self):
        servers = [{}, {"unix": True}, {"family": socket.AF_INET6, "host": "::1"}]
        for options in servers:
            with FakeServer(echo, **options) as server, rethread.Client(server.address) as c:
                self.assertEqual(c.hello(client="me", token="s").server, "fake")
                self.assertIsNone(c.ping())
                done = c.append(b"\xfe", [b"x", ("opaque", b"y")], expect=0, key="k",
                                response_id="r", tool_calls=["c"], model="m", turn=0, final=True,
                                tokens=3, prefix=bytes(16), ttl_ms=1, retention_ms=2, ack="memory")
                self.assertEqual((done.thread, done.extra), (b"\xfe", {"brand_new": [1]}))
                self.assertEqual(c.stat("t").tier, "memory")
                self.assertEqual(c.touch(["t", b"\xff"], ttl_ms=9).missing, ((b"\xff", "expired"),))
                self.assertEqual(c.fork("new", "old", at=1).version, 2)
                self.assertEqual(c.rewind("t", -1).dropped, 2)
                self.assertFalse(c.forget("t").forgotten)
                self.assertEqual(c.list(starts_with="a", limit=1).threads[0].thread, b"a\xff")
                self.assertEqual([t.bytes for t in c.iter_threads()], [2])
                self.assertEqual(c.info(), {"memory": {"used": 1}})
                self.assertEqual(c.call("any", {"o": 1}, [b"p"]), ({"method": "any"}, [b"p"]))
                sent = {method: opts for _, method, opts, _ in server.requests}
                self.assertEqual(sent["append"]["key"], "k")
                self.assertEqual(len(sent["append"]), 14)  # thread and 13 options
                self.assertEqual(sent["fork"], {"thread": "new", "from": "old", "at": 1})
                self.assertEqual(sent["touch"], {"threads": ["t", b"\xff"], "ttl_ms": 9})

    def test_hello_on_connect(self):
        with FakeServer(echo) as server:
            with rethread.Client(server.address, name="w", token=b"s") as c:
                c.ping()
            self.assertEqual([r[1] for r in server.requests], ["hello", "ping"])
            self.assertEqual(server.requests[0][2],
                             {"protocol": 1, "client": "w", "token": b"s"})

    def test_large_both_ways(self):
        blob = bytes(range(256)) * 40000
        with FakeServer(echo) as server, rethread.Client(server.address) as c:
            self.assertEqual(c.call("x", {}, [blob, b"1"])[1], [blob, b"1"])

    def test_pump_returns_once_all_is_sent(self):
        """An answer may have come before the request was sent whole: there may be no other."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        connection = Connection(Address(*listener.getsockname()), 5, 1 << 20)
        self.addCleanup(connection.close)
        connection.queue([b"the last piece"])
        pump = threading.Thread(target=connection.pump, args=(None,), daemon=True)
        pump.start()
        pump.join(20)
        self.assertFalse(pump.is_alive(), "waits for an answer that nobody asked it to wait for")
        self.assertEqual(connection.backlog_bytes, 0)

    def test_shared_between_threads(self):
        with FakeServer(echo) as server, rethread.Client(server.address) as c:
            wrong = []

            def work(n):
                for i in range(50):
                    text = b"%d/%d" % (n, i)
                    if c.call("x", {}, [text])[1] != [text]:
                        wrong.append(text)
            threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
            [t.start() for t in threads]
            [t.join() for t in threads]
            self.assertEqual(wrong, [])


class Failures(unittest.TestCase):
    def test_server_error_keeps_connection(self):
        def script(server, connection, request):
            if request[1] == "append":
                connection.sendall(error(request[0], "conflict", version=3, cause="version"))
            else:
                echo(server, connection, request)
        with FakeServer(script) as server, rethread.Client(server.address) as c:
            with self.assertRaises(rethread.Conflict) as caught:
                c.append("t", b"x")
            self.assertEqual((caught.exception.version, caught.exception.cause), (3, "version"))
            c.ping()
            self.assertEqual(server.connections, 1)

    def test_no_server(self):
        s = socket.socket()
        s.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % s.getsockname()[1]
        s.close()
        self.assertRaises(rethread.ConnectError, rethread.Client(address).ping)
        self.assertRaises(rethread.ConnectError, rethread.Client("unix:/nowhere/s").ping)

    def test_lost_and_found(self):
        def script(server, connection, request):
            if request[1] == "forget":
                connection.shutdown(socket.SHUT_RDWR)
            else:
                echo(server, connection, request)
        with FakeServer(script) as server, rethread.Client(server.address) as c:
            self.assertRaises(rethread.ConnectionLost, c.forget, "t")
            c.ping()
            self.assertEqual(server.connections, 2)
            self.assertEqual([r[1] for r in server.requests], ["forget", "ping"])

    def test_timeout_drops_the_late_answer(self):
        late = threading.Event()

        def script(server, connection, request):
            if request[1] == "stat":
                late.wait(60)
            echo(server, connection, request)
        with FakeServer(script) as server:
            with rethread.Client(server.address, request_timeout=0.2) as c:
                self.assertRaises(rethread.RequestTimeout, c.stat, "t")
                late.set()  # only now: it was not waited for
                c.request_timeout = 60
                self.assertEqual(c.call("x", {}, [b"mine"])[1], [b"mine"])
                self.assertEqual(server.connections, 1)

    def test_unsound_peers(self):
        too_large = error(None, "too_large", "frame")
        cases = [(b"GET / HTTP/1.1\r\n", rethread.ProtocolError), (too_large, rethread.TooLarge),
                 (ok(999, {}), rethread.ProtocolError), (frame(b"\xc1"), rethread.ProtocolError),
                 (b"\xce\xff\xff\xff\xff", rethread.ProtocolError)]
        for said, expected in cases:
            with FakeServer(lambda s, conn, r: conn.sendall(said)) as server:
                with rethread.Client(server.address, request_timeout=60) as c:
                    self.assertRaises(expected, c.ping)

    def test_refused_large_request_still_says_why(self):
        # The reset that follows the reply may well be met while the request is being sent.
        with socket.create_server(("127.0.0.1", 0)) as listener:
            def refuse():
                for _ in range(20):
                    connection, _ = listener.accept()
                    connection.recv(5)
                    connection.sendall(error(None, "too_large", "no"))
                    connection.close()
            thread = threading.Thread(target=refuse)
            thread.start()
            for _ in range(20):
                with rethread.Client("127.0.0.1:%d" % listener.getsockname()[1]) as c:
                    self.assertRaises(rethread.TooLarge, c.append, "t", bytes(16 << 20))
            thread.join()


class Pipelines(unittest.TestCase):
    def test_out_of_order(self):
        held = []

        def script(server, connection, request):
            held.append(request)
            if len(held) == 100:
                for r in reversed(held):
                    echo(server, connection, r)
        with FakeServer(script) as server, rethread.Client(server.address) as c:
            pipe = c.pipeline()
            sent = [pipe.call("x", {}, [b"%d" % i]) for i in range(100)]
            order = [p.result()[1][0] for p in pipe.as_completed()]
            self.assertEqual(order, [b"%d" % i for i in reversed(range(100))])
            self.assertEqual([p.result()[1][0] for p in sent], [b"%d" % i for i in range(100)])

    def test_errors_stay_with_their_request(self):
        def script(server, connection, request):
            if request[1] == "stat":
                connection.sendall(error(request[0], "busy"))
            else:
                echo(server, connection, request)
        with FakeServer(script) as server, rethread.Client(server.address) as c:
            with c.pipeline() as pipe:
                one, bad, two = pipe.ping(), pipe.stat("t"), pipe.append("t", b"x")
            self.assertTrue(one.done and bad.done and two.done)
            self.assertRaises(rethread.Busy, bad.result)
            self.assertIsInstance(bad.error(), rethread.Busy)
            self.assertEqual(two.result().version, 1)

    def test_back_pressure_does_not_lock_up(self):
        # Each answer is as large as its request and the server reads nothing while it sends.
        blob = bytes(400000)
        with FakeServer(echo) as server, rethread.Client(server.address) as c:
            with c.pipeline() as pipe:
                sent = [pipe.call("x", {}, [blob]) for _ in range(200)]
            self.assertTrue(all(p.result()[1] == [blob] for p in sent))

    def test_lost_connection_fails_what_follows(self):
        def script(server, connection, request):
            connection.shutdown(socket.SHUT_RDWR)
        with FakeServer(script) as server, rethread.Client(server.address) as c:
            pipe = c.pipeline()
            first = pipe.append("t", b"1")
            self.assertIsInstance(first.error(), rethread.ConnectionLost)
            second = pipe.append("t", b"2")
            self.assertIsInstance(second.error(), rethread.ConnectionLost)
            self.assertEqual([p.done for p in pipe.collect()], [True, True])
            self.assertEqual(len(server.requests), 1)


if __name__ == "__main__":
    unittest.main()
