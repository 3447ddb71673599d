"""Everything at once, in little memory and with short lives: no wrong byte, and nothing left over."""

import random
import threading
import time
import unittest

import rethread
from harness import PATIENCE_S, SANITIZED, ServerCase, most_used

SECONDS = 6
THREADS = 300


def payload(thread, size):
    return (b"%s|%d|" % (thread, size)).ljust(size, b".")


class Soak(ServerCase):
    FLAGS = ("--memory", "32M", "--ttl", "700ms", "--loops", "2", "--claim-timeout", "400ms")

    def stream(self, client, chance, thread):
        """A streamed step, brought to its end, given up, or left as it is."""
        body, at = payload(thread, chance.choice([20, 1000, 40000, 200000])), 0
        claim = client.call("begin", {"thread": thread})[0]["claim"]
        named = {"thread": thread, "claim": claim}
        while at < len(body):
            size = chance.choice([1, 100, 5000, 60000]) if len(body) < 50000 else 60000
            client.call("chunk", named, [body[at:at + size]])
            at += size
            if chance.randrange(20) == 0:
                return
        if chance.randrange(10) == 0:
            client.call("abort", named)
        else:
            key = {"key": b"s%d" % chance.randrange(50)} if chance.randrange(3) == 0 else {}
            client.call("commit", {**named, **key})

    def policies(self, chance):
        """Options of a replay that chooses."""
        pick = chance.randrange
        options = {"policy": chance.choice(["all", "none", "current_turn", "since_final",
                                            "tool_turns", "last_turns", "auto"])}
        if options["policy"] == "last_turns":
            options["turns"] = pick(3) + 1
        for name, value in (("pin", pick(2) == 0), ("turn", pick(4)), ("max_tokens", pick(20000)),
                            ("model", chance.choice([b"claude-opus-4-1", b"qwen3"])),
                            ("prefixes", [[n, b"%016d" % pick(1000)] for n in range(pick(4))]),
                            ("on_mismatch", chance.choice(["drop", "fail"])),
                            ("have", {"version": pick(10), "step": 5,
                                      "kept": sorted(chance.sample(range(6), pick(6)))})):
            if pick(3) == 0:
                options[name] = value
        return options

    def one(self, client, chance):
        """One random request; a replay's bytes say whose they are."""
        pick, thread = chance.randrange, b"t%d" % chance.randrange(THREADS)
        what = chance.choice(["append"] * 5 + ["replay"] * 5 + ["key", "fork", "rewind", "forget",
                                                               "touch", "stat", "list", "scoped",
                                                               "stream", "stream", "stream",
                                                               "chosen", "chosen", "prefixes"])
        if what == "append":
            size = chance.choice([20, 100, 1000, 5000, 40000, 200000])
            client.append(
                thread, payload(thread, size), response_id=b"r%d" % pick(2000),
                tool_calls=[b"c%d" % pick(500) for _ in range(pick(4))], prefix=b"%016d" % pick(1000),
                key=b"k%d" % pick(50) if pick(5) == 0 else None,
                expect=pick(5) if pick(5) == 0 else None, final=pick(2) == 0, turn=0,
                model=chance.choice([None, b"claude-opus-4-1", b"qwen3"]),
                ttl_ms=chance.choice([50, 500, 2000]) if pick(10) == 0 else None)
        elif what == "replay":
            replay = client.replay(thread, touch=pick(3) > 0, last=pick(5) + 1 if pick(3) == 0 else None,
                                   max_bytes=pick(50000) if pick(3) == 0 else None,
                                   have=(pick(10), pick(10)) if pick(3) == 0 else None)
            for segment in (s for step in replay.steps if not step.missing for s in step.segments):
                origin, size, _ = segment.data.split(b"|", 2)
                if int(size) != len(segment.data) or not origin.startswith(b"t"):
                    raise AssertionError(f"wrong bytes: {segment.data[:40]!r}, {len(segment.data)}")
        elif what == "stream":
            self.stream(client, chance, thread)
        elif what == "chosen":
            client.call("replay", {"thread": thread, **self.policies(chance)})
        elif what == "prefixes":
            client.call("replay", {"prefix": [b"%016d" % pick(1500) for _ in range(pick(20) + 1)]})
        elif what == "key":
            client.replay(response_id=b"r%d" % pick(2000))
        elif what == "scoped":
            client.replay(thread, tool_call=b"c%d" % pick(500))
        elif what == "fork":
            client.fork(b"t%d" % pick(THREADS), thread, at=pick(4) if pick(2) else None)
        elif what == "rewind":
            client.rewind(thread, pick(5) - 1)
        elif what == "touch":
            client.touch([b"t%d" % pick(THREADS) for _ in range(10)])
        elif what == "list":
            client.call("list", {"limit": 50})
        else:
            getattr(client, what)(thread)

    def worker(self, seed, until, failures):
        chance = random.Random(seed)
        client = rethread.Client(self.server.address, request_timeout=PATIENCE_S)
        expected = (rethread.Conflict, rethread.NotFound, rethread.BadRequest)
        try:
            while time.monotonic() < until and not failures:
                try:
                    self.one(client, chance)
                except expected:
                    pass
        except Exception as error:  # whatever it was, the test tells it
            failures.append(f"seed {seed}: {error!r}")
        finally:
            client.close()

    def test_random_requests(self):
        seed, failures = random.randrange(1 << 32), []
        until = time.monotonic() + SECONDS
        workers = [threading.Thread(target=self.worker, args=(seed + n, until, failures))
                   for n in range(6)]
        for worker in workers:
            worker.start()
        # Memory is short in the meantime, however few requests this machine makes of the workers.
        filling = [b"f%d" % n for n in range(300)]
        with self.client.pipeline() as pipe:
            for thread in filling:
                pipe.append(thread, payload(thread, 200000), ttl_ms=60000)
        with self.client.pipeline() as pipe:
            for thread in filling:
                pipe.forget(thread)
        for worker in workers:
            worker.join()
        self.assertEqual(failures, [], f"seeds from {seed}")
        info = self.client.info()
        self.assertLessEqual(info["memory"]["used_bytes"], most_used(32 << 20))
        if not SANITIZED:
            self.assertGreater(info["threads"]["evicted"], 0, "memory was never short")
        # Longer than any ttl, and the sweep: every byte that came must have been let go of.
        def left():
            memory, threads = (self.client.info()[part] for part in ("memory", "threads"))
            left = {"live": threads["live"], **{name: memory[name] for name in
                                                ("payload_bytes", "streaming_bytes", "used_bytes")}}
            return {name: n for name, n in left.items() if n > (6 << 20 if name == "used_bytes" else 0)}
        deadline = time.monotonic() + PATIENCE_S
        while left():
            self.assertLess(time.monotonic(), deadline, left())
            time.sleep(0.2)
        self.assertGreater(info["requests"]["streams"], info["requests"]["streams_timed_out"])


if __name__ == "__main__":
    unittest.main()
