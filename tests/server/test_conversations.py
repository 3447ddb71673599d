"""The main job: whole conversations through 8 pipelined connections and back, byte for byte."""

import threading
import unittest

import rethread
from conversations import available, generated, load
from harness import ServerCase

CONNECTIONS = 8


class Conversations(ServerCase):
    def each_connection(self, work):
        """Runs ``work(number, client)`` on 8 connections at the same time."""
        failures = []

        def run(number):
            try:
                with rethread.Client(self.server.address) as client:
                    work(number, client)
            except BaseException as failure:  # told to the test's own thread
                failures.append(failure)
        workers = [threading.Thread(target=run, args=(n,)) for n in range(CONNECTIONS)]
        [w.start() for w in workers]
        [w.join() for w in workers]
        if failures:
            raise failures[0]

    def play(self, conversations):
        ids = list(conversations)
        steps = sum(len(rows) for rows in conversations.values())

        def append(number, client):
            with client.pipeline() as pipe:
                sent = []
                for thread in ids[number::CONNECTIONS]:
                    for n, (options, segments) in enumerate(conversations[thread]):
                        sent.append((n, pipe.append(thread, segments, expect=n, **options)))
            for n, pending in sent:
                result = pending.result()
                self.assertEqual((result.step, result.version, result.lost), (n, n + 1, 0))
        self.each_connection(append)
        counted = []

        def replay(number, client):
            # Each by another connection than the one that appended it.
            mine = ids[(number + 3) % CONNECTIONS::CONNECTIONS]
            pipe = client.pipeline()
            sent = [(t, pipe.replay(t)) for t in mine]
            for thread, pending in sent:
                counted.append(self.same(conversations[thread], pending.result(), thread))
            # And as a worker may ask for them: by the response id that it was given.
            sent = [(t, pipe.replay(response_id=conversations[t][-1][0]["response_id"]))
                    for t in mine if "response_id" in conversations[t][-1][0]]
            for thread, pending in sent:
                self.same(conversations[thread], pending.result(), thread)
        self.each_connection(replay)
        self.assertEqual(sum(counted), steps)

    def same(self, rows, replay, thread):
        self.assertEqual((replay.status, replay.thread), ("complete", thread))
        self.assertEqual((replay.version, replay.head), (len(rows), len(rows) - 1))
        self.assertEqual(len(replay.steps), len(rows))
        for n, (step, (options, segments)) in enumerate(zip(replay.steps, rows)):
            self.assertEqual(step.step, n)
            # Not assertEqual: a failure must not print megabytes.
            self.assertTrue([(s.kind, s.data) for s in step.segments] == segments,
                            f"step {n} of a thread differs")
            self.assertEqual((step.turn, step.response_id, step.model),
                             (options["turn"], options.get("response_id"), options.get("model")))
            self.assertEqual(step.tool_calls, tuple(options.get("tool_calls", ())))
            self.assertEqual(step.final, "tool_calls" not in options)
        return len(rows)

    def real(self, name):
        if not available(name):
            self.skipTest("the data folder is not here; the generated set stands in")
        self.play(load(name))

    def test_multiturn(self):
        self.real("reasoning-multiturn-dev.jsonl.gz")

    def test_wire(self):
        self.real("reasoning-wire-dev.jsonl.gz")

    def test_generated(self):
        self.play(generated())


if __name__ == "__main__":
    unittest.main()
