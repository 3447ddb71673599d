"""A scripted server inside the test process: it says what a test tells it to say.

It reads the connection as any MessagePack library would (integer, array, integer, array ...) and
so judges the frames that the client builds by another road than the client's own.
"""

import os
import socket
import struct
import tempfile
import threading

import msgpack


def frame(body):
    return struct.pack(">BI", 0xCE, len(body)) + body


def ok(msgid, result, *payloads):
    return frame(msgpack.packb([1, msgid, None, [result, *payloads]], use_bin_type=True))


def error(msgid, code, message="", **details):
    fields = {"code": code, "message": message, **details}
    return frame(msgpack.packb([1, msgid, fields, None], use_bin_type=True))


class FakeServer:
    """``script(server, connection, request)`` is called for each request, on the server's thread.

    ``connection`` is the socket; ``request`` is (msgid, method, options, payloads).
    """

    def __init__(self, script, unix=False, family=socket.AF_INET, host="127.0.0.1"):
        self.script = script
        self.requests = []
        self.connections = 0
        self._sockets = []
        if unix:
            self._dir = tempfile.TemporaryDirectory()
            path = os.path.join(self._dir.name, "s")
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(path)
            self.address = "unix:" + path
        else:
            self._dir = None
            self._listener = socket.socket(family, socket.SOCK_STREAM)
            self._listener.bind((host, 0))
            port = self._listener.getsockname()[1]
            self.address = f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
        self._listener.listen(16)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for s in self._sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for t in self._threads:
            t.join(5)
        for s in self._sockets:
            s.close()
        if self._dir:
            self._dir.cleanup()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        unpacker = msgpack.Unpacker(raw=False, max_buffer_size=1 << 30)
        length = None
        try:
            while data := connection.recv(1 << 16):
                unpacker.feed(data)
                for item in unpacker:
                    if length is None:
                        length = item
                        start = unpacker.tell()
                        continue
                    assert unpacker.tell() - start == length, "declared length is wrong"
                    length = None
                    zero, msgid, method, (options, *payloads) = item
                    assert zero == 0
                    request = (msgid, method, options, payloads)
                    self.requests.append(request)
                    self.script(self, connection, request)
        except OSError:
            pass


def echo(_server, connection, request):
    """Answers every request with what a healthy server might."""
    msgid, method, options, payloads = request
    thread = options.get("thread", b"")
    thread = thread.encode() if isinstance(thread, str) else thread
    results = {
        "hello": {"protocol": 1, "server": "fake", "version": "0", "tenant": "default",
                  "frame_max": 1 << 26},
        "append": {"thread": thread, "step": 0, "version": 1, "created": True, "duplicate": False,
                   "lost": 0, "expires_in_ms": 300000, "brand_new": [1]},
        "stat": {"status": "complete", "version": 1, "step_count": 1, "bytes": 3, "tokens": 0,
                 "age_ms": 5, "idle_ms": 5, "expires_in_ms": 9, "tier": "memory"},
        "touch": {"touched": 1, "missing": [[b"\xff", "expired"]]},
        "fork": {"thread": thread, "version": 2},
        "rewind": {"version": 5, "dropped": 2},
        "forget": {"forgotten": False},
        "list": {"threads": [{"thread": b"a\xff", "version": 1, "bytes": 2, "idle_ms": 3,
                              "tier": "memory"}], "cursor": None},
        "info": {"memory": {"used": 1}},
    }
    connection.sendall(ok(msgid, results.get(method, {"method": method}), *payloads)
                       if method not in ("append",) else ok(msgid, results[method]))
