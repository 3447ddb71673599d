"""What the tests of streamed appends share."""

import time

import raw
from harness import PATIENCE_S, ServerCase


class StreamCase(ServerCase):
    """Workers, and what they may be told."""

    def setUp(self):
        super().setUp()
        self.raw = self.worker()

    def worker(self, server=None):
        client = raw.Client(server or self.server)
        self.addCleanup(client.close)
        return client

    def wait(self, condition, what):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"waited in vain: {what}")
            time.sleep(0.02)

    def refused(self, code, call, *args, **kwargs):
        error = self.raises(raw.Refused, call, *args, **kwargs)
        self.assertEqual(error.code, code, error)
        return error

    def claimed(self, call, *args, **kwargs):
        error = self.refused("conflict", call, *args, **kwargs)
        self.assertEqual(error.cause, "claimed", error)
        return error

    def holds(self, thread, steps, in_flight=None, client=None):
        """The thread has just these steps, each a list of (kind, bytes)."""
        got = (client or self.raw).replay(thread, touch=False)
        self.assertEqual((got.status, got.reason), ("complete", None))
        self.assertTrue(list(got.kept.values()) == steps, "not the bytes that were sent")
        self.assertEqual((got.head, got.in_flight), (len(steps) - 1, in_flight))
        return got

    def streaming_bytes(self, client=None):
        return (client or self.raw).info()["memory"]["streaming_bytes"]
