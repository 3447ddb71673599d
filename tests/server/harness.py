"""Starts build/rethread-server for a test and sees to it that it ends, and ends well.

Every server that a test starts is killed when the test is over, whatever happened: by its
clean-up, at the latest with this process (parent-death signal). A server that is stopped must
exit with 0 and leave no sanitizer report in its log.

RETHREAD_SERVER: the program (default build/rethread-server).
"""

import ctypes
import glob
import itertools
import os
import random
import re
import resource
import signal
import subprocess
import tempfile
import threading
import time
import unittest

import rethread

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SERVER = os.environ.get("RETHREAD_SERVER", os.path.join(ROOT, "build", "rethread-server"))
REPORTS = re.compile(
    r"Sanitizer|runtime error:|[Aa]ssertion|stack smashing|core dumped|double free|munmap_chunk"
)

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def raise_file_limit():
    """The largest number of descriptors allowed here; soft limits need not be the end of it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def sanitized():
    """Whether the server carries a sanitizer: slower, and its memory is not what it would be."""
    with open(SERVER, "rb") as f:
        program = f.read()
    return b"__asan_init" in program or b"__tsan_init" in program


SANITIZED = os.path.exists(SERVER) and sanitized()
PATIENCE_S = 120  # for what must come: only a server that hangs takes so long


def noise(size, seed):
    """Bytes that nothing compresses and nobody else has."""
    return random.Random(seed).randbytes(size)


def clean_environment(**extra):
    env = {k: v for k, v in os.environ.items() if not k.startswith("RETHREAD_")}
    env.update(extra)
    return env


def _child_setup():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    raise_file_limit()


class Server:
    """A running server. ``listen=None`` starts it with exactly the flags given."""

    def __init__(self, *flags, listen="127.0.0.1:0", data="none", env=None, ready=True):
        command = [SERVER]
        if listen:
            command += ["--listen", listen]
        if data:
            command += ["--data", data]
        command += flags
        self._log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._log,
            env=clean_environment(**(env or {})), preexec_fn=_child_setup)
        self.port = None
        self.ready_on = None
        if ready:
            try:
                self.ready_on = self._wait_ready()
            except BaseException:
                self.kill()
                raise
            if not self.ready_on.startswith("unix:"):
                self.port = int(self.ready_on.rpartition(":")[2])

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def _wait_ready(self):
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = re.search(r"^rethread-server: ready on (unix:.+|\S*:\d+)$", self.log(), re.M)
            if found:
                return found.group(1)
            if self.process.poll() is not None:
                raise AssertionError(
                    f"server ended with {self.process.returncode} before it was ready:\n{self.log()}")
            time.sleep(0.005)
        raise AssertionError(f"server not ready within {PATIENCE_S} s:\n{self.log()}")

    def log(self):
        """What it has said on stderr."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode("utf-8", "replace")

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as f:
            return int(f.read().split()[1]) * resource.getpagesize()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout=PATIENCE_S):
        return self.process.wait(timeout)

    def stop(self, timeout=PATIENCE_S):
        """End it as an operator would, and judge how it ended."""
        if self.process.poll() is None:
            self.terminate()
        try:
            code = self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"server ignored SIGTERM for {timeout} s:\n{self.tail()}") from None
        found = REPORTS.search(self.log())
        assert not found, f"server said {found.group(0)!r}:\n{self.tail()}"
        assert code == 0, f"server ended with {code}:\n{self.tail()}"

    def tail(self):
        return self.log()[-6000:]

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.stop()
        finally:
            self.kill()
            self._log.close()


def refused(*flags, env=None, listen="127.0.0.1:0", data="none", timeout=PATIENCE_S):
    """Start a server that must refuse to start; (exit code, what it said)."""
    server = Server(*flags, listen=listen, data=data, env=env, ready=False)
    try:
        code = server.wait(timeout)
        return code, server.log()
    except subprocess.TimeoutExpired:
        raise AssertionError(f"server started in spite of {flags} {env}:\n{server.tail()}") from None
    finally:
        server.kill()


class Witness:
    """Another client, served meanwhile: appends and replays all the time, and notes the waits."""

    def __init__(self, server):
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failure = None
        self.calls = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._stop.set()
        self._thread.join(PATIENCE_S)
        if kind is None:
            assert self.failure is None, f"the other client failed: {self.failure!r}"
            assert self.calls > 0, "the other client was never served"

    def _run(self):
        try:
            with rethread.Client(self._server.address) as client:
                for n in itertools.count():
                    thread = b"witness-%d" % (n // 50)
                    client.append(thread, b"seen %d" % n)
                    got = client.replay(thread)
                    assert got.complete and got.steps[-1].segments[0].data == b"seen %d" % n
                    self.calls += 1
                    if self._stop.wait(0.005):
                        return
        except BaseException as failure:  # told to the test's own thread
            self.failure = failure


def most_used(budget_bytes):
    """What a server may use of memory at any moment.

    Payloads keep to the budget. What structures need (tombstones, the index's tables) and what has
    just been received may pass it by a little until something has been evicted for it.
    """
    return budget_bytes + budget_bytes // 32


class ServerCase(unittest.TestCase):
    """One server for the tests of a class, started with FLAGS."""

    FLAGS: tuple = ()
    server: Server
    _ids = itertools.count()

    @classmethod
    def setUpClass(cls):
        if not os.path.exists(SERVER):
            raise AssertionError(f"{SERVER} has not been built")
        raise_file_limit()
        cls.server = Server(*cls.FLAGS)
        cls.addClassCleanup(cls.server.kill)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        if self.server.process.poll() is not None:
            self.fail(f"the server has died:\n{self.server.tail()}")
        self.client = self.connect()

    def connect(self, **options):
        options.setdefault("request_timeout", PATIENCE_S)
        client = rethread.Client(self.server.address, **options)
        self.addCleanup(client.close)
        return client

    def new(self, suffix=""):
        """A thread id that no other test uses."""
        return f"{self.id()}/{next(self._ids)}{suffix}"[-255:].encode()

    def started(self, *flags, **options):
        """A server of the test's own; the test stops it, or it is killed after the test."""
        server = Server(*flags, **options)
        self.addCleanup(server.kill)
        return server

    def bad(self, names, method, options, payloads=(), code="bad_request"):
        """The request is refused with an error that names the option; the connection stays."""
        with self.assertRaises(rethread.ServerError, msg=f"{method} {options}") as caught:
            self.client.call(method, options, payloads)
        error = caught.exception
        self.assertEqual(error.code, code, f"{method} {options}: {error}")
        self.assertTrue(error.message, f"{method} {options}: no message")
        told = error.message + " " + " ".join(map(str, error.details.values()))
        for name in [names] if isinstance(names, str) else names:
            self.assertIn(name, told, f"{method}: the error does not name the option")
        self.client.ping()
        return error

    def raises(self, cls, call, *args, **kwargs):
        with self.assertRaises(cls) as caught:
            call(*args, **kwargs)
        return caught.exception


class DiskCase(unittest.TestCase):
    """Servers of the tests' own, one after another over one data directory."""

    def setUp(self):
        if not os.path.exists(SERVER):
            raise AssertionError(f"{SERVER} has not been built")
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.data = os.path.join(directory.name, "data")

    def start(self, *flags, **options):
        """A server on this test's directory, and a client of it."""
        options.setdefault("data", self.data)
        server = Server(*flags, **options)
        self.addCleanup(server.kill)
        client = rethread.Client(server.address, request_timeout=PATIENCE_S)
        self.addCleanup(client.close)
        return server, client

    def wait(self, condition, what):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"waited in vain: {what}")
            time.sleep(0.02)

    def wait_demoted(self, client, *threads):
        for thread in threads:
            self.wait(lambda t=thread: client.stat(t).tier == "disk", f"{thread} leaves memory")

    def on_disk(self, needle):
        """The files of the directory that hold these bytes."""
        found = []
        for path in glob.glob(os.path.join(self.data, "*")):
            try:
                with open(path, "rb") as f:
                    if needle in f.read():
                        found.append(os.path.basename(path))
            except FileNotFoundError:  # what a server that runs has just done with
                pass
        return found

    def exact(self, client, thread, steps, **options):
        got = client.replay(thread, **options)
        self.assertEqual((got.status, got.reason), ("complete", None), thread)
        self.assertEqual([[(s.kind, bytes(s.data)) for s in step.segments] for step in got.steps],
                         steps)
        return got
