"""The asyncio client against a scripted server."""

import asyncio
import socket
import threading
import unittest

import rethread
from fake_server import FakeServer, echo, error, ok


class Aio(unittest.IsolatedAsyncioTestCase):
    async def test_multiplexed_out_of_order(self):
        held = []

        def script(server, connection, request):
            held.append(request)
            if len(held) == 50:
                for r in reversed(held):
                    echo(server, connection, r)
        with FakeServer(script) as server:
            async with rethread.AsyncClient(server.address) as c:
                got = await asyncio.gather(*(c.call("x", {}, [b"%d" % i]) for i in range(50)))
            self.assertEqual([p for _, p in got], [[b"%d" % i] for i in range(50)])
            self.assertEqual(server.connections, 1)
            self.assertEqual([r[3][0] for r in server.requests], [b"%d" % i for i in range(50)])

    async def test_methods_and_unix(self):
        with FakeServer(echo, unix=True) as server:
            async with rethread.AsyncClient(server.address, name="w") as c:
                self.assertEqual((await c.append("t", b"x")).version, 1)
                self.assertEqual((await c.touch(["t"])).touched, 1)
                self.assertEqual((await c.stat("t")).bytes, 3)
                self.assertEqual([t.thread async for t in c.iter_threads()], [b"a\xff"])
                blob = bytes(range(256)) * 40000
                self.assertEqual((await c.call("x", {}, [blob]))[1], [blob])

    async def test_first_calls_connect_once(self):
        with FakeServer(echo) as server:
            c = rethread.AsyncClient(server.address)
            await asyncio.gather(*(c.ping() for _ in range(10)))
            await c.close()
            self.assertEqual(server.connections, 1)

    async def test_errors_and_loss(self):
        def script(server, connection, request):
            if request[1] == "stat":
                connection.sendall(error(request[0], "not_found", reason="expired"))
            elif request[1] == "forget":
                connection.shutdown(socket.SHUT_RDWR)
            elif request[1] == "list":
                connection.sendall(error(None, "too_large"))
            elif request[1] == "info":
                connection.sendall(ok(999, {}))
            else:
                echo(server, connection, request)
        with FakeServer(script) as server:
            c = rethread.AsyncClient(server.address, request_timeout=60)
            with self.assertRaises(rethread.NotFound) as caught:
                await c.stat("t")
            self.assertEqual(caught.exception.reason, "expired")
            for call, expected in ((c.forget("t"), rethread.ConnectionLost),
                                   (c.list(), rethread.TooLarge),
                                   (c.info(), rethread.ProtocolError)):
                with self.assertRaises(expected):
                    await call
                await c.ping()
            self.assertEqual(server.connections, 4)
            await c.close()
            with self.assertRaises(rethread.ConnectError):
                await rethread.AsyncClient("unix:/nowhere/s").ping()

    async def test_timeout_and_cancel(self):
        go = threading.Event()

        def script(server, connection, request):
            if request[1] == "stat":
                go.wait(60)
            echo(server, connection, request)
        with FakeServer(script) as server:
            async with rethread.AsyncClient(server.address, request_timeout=0.2) as c:
                with self.assertRaises(rethread.RequestTimeout):
                    await c.stat("t")
                c.request_timeout = 60
                task = asyncio.create_task(c.stat("t"))
                await asyncio.sleep(0.05)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                go.set()
                self.assertEqual((await c.call("x", {}, [b"mine"]))[1], [b"mine"])
                self.assertEqual(server.connections, 1)

    async def test_refused_large_request_still_says_why(self):
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
                c = rethread.AsyncClient("127.0.0.1:%d" % listener.getsockname()[1])
                # asyncio gives up reading once a write failed, so the reason may be lost.
                with self.assertRaises((rethread.TooLarge, rethread.ConnectionLost)):
                    await c.append("t", bytes(16 << 20))
                await c.close()
            thread.join()

    async def test_close_fails_what_is_in_flight(self):
        with FakeServer(lambda *_: None) as server:
            c = rethread.AsyncClient(server.address)
            task = asyncio.create_task(c.ping())
            while not server.requests:
                await asyncio.sleep(0.01)
            await c.close()
            with self.assertRaises(rethread.ConnectionLost):
                await task


if __name__ == "__main__":
    unittest.main()
