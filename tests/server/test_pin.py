"""pin: what is dropped once stays dropped, in memory, on disk, over a kill, and only for who asks."""

import threading
import unittest

import raw
from harness import SANITIZED, DiskCase, ServerCase
from shapes import Holder, play, prefix_of


def floor_of(client, thread):
    return client.stat(thread).get("floor", 0)


class Pin(ServerCase):
    def setUp(self):
        super().setUp()
        self.raw = self.raw_client()

    def raw_client(self):
        client = raw.Client(self.server)
        self.addCleanup(client.close)
        return client

    def pinned(self, thread, kept, **options):
        got = self.raw.replay(thread, pin=True, **options)
        self.assertEqual((got.status, sorted(got.kept)), ("complete", list(kept)), options)
        head = -1 if got.head is None else got.head
        self.assertEqual((got.kept_from, got.dropped),
                         (min(kept, default=head + 1), head + 1 - len(kept)), options)
        return got

    def test_dropped_once_and_for_good(self):
        """A session that was idle drops its old thinking once, then goes on as it is."""
        t = self.new()
        play(self.raw, t, "1t 1f 2t 2f")
        holder = Holder(self, self.raw, t)
        holder.ask()
        got = holder.ask(policy="last_turns", turns=1, pin=True)
        self.assertEqual((got.extends, got.first_changed, got.kept_from), (False, 0, 2))
        for turn in range(3, 12):
            play(self.raw, t, f"{turn}t {turn}f")
            # It keeps all from there on; what was dropped never comes back, nothing more goes.
            got = holder.ask(pin=True)
            self.assertEqual((got.extends, got.kept_from, got.dropped), (True, 2, 2))
            self.assertEqual(floor_of(self.raw, t), 2)
        self.assertEqual(sorted(self.raw.replay(t).kept), list(range(22)), "without pin: all")

    def test_the_floor_only_rises(self):
        t = self.new()
        play(self.raw, t, "1f 2f 3t 3f 4f")
        self.pinned(t, range(5))
        self.assertEqual(floor_of(self.raw, t), 0)
        self.pinned(t, [2, 3, 4], policy="last_turns", turns=2)
        self.assertEqual(floor_of(self.raw, t), 2)
        self.pinned(t, [2, 3, 4], policy="last_turns", turns=4)
        self.pinned(t, [4], policy="current_turn")
        self.pinned(t, [4])
        self.pinned(t, [], policy="none")
        self.assertEqual(floor_of(self.raw, t), 5)
        self.pinned(t, [])
        play(self.raw, t, "5t")
        self.pinned(t, [5])
        self.pinned(t, [5], policy="tool_turns")

    def test_policies_above_the_floor(self):
        t = self.new()
        play(self.raw, t, "1t 1f 2f 3t 3f 4f")
        # The first that tool_turns keeps is 0: what it leaves out in between is no floor.
        self.pinned(t, [0, 1, 3, 4], policy="tool_turns")
        self.assertEqual(floor_of(self.raw, t), 0)
        self.pinned(t, [3, 4, 5], policy="last_turns", turns=2)
        self.pinned(t, [3, 4], policy="tool_turns")
        self.assertEqual(floor_of(self.raw, t), 3)

    def test_without_pin_neither_read_nor_moved(self):
        t = self.new()
        play(self.raw, t, "1f 2f 3f")
        for options in ({"policy": "none"}, {"policy": "current_turn", "pin": False}):
            self.raw.replay(t, **options)
            self.assertNotIn("floor", self.raw.stat(t))
        self.pinned(t, [1, 2], policy="last_turns", turns=2)
        for options in ({}, {"pin": False}, {"policy": "all"}):
            got = self.raw.replay(t, **options)
            self.assertEqual((sorted(got.kept), got.kept_from), ([0, 1, 2], None))
        got = self.raw.replay(t, policy="current_turn")
        self.assertEqual((sorted(got.kept), got.kept_from), ([2], 2))
        self.assertEqual(floor_of(self.raw, t), 1)

    def test_a_rewind_below_lowers_it(self):
        t = self.new()
        play(self.raw, t, "1f 2f 3f 4f")
        self.pinned(t, [3], policy="current_turn")
        self.raw.rewind(t, 2)
        self.assertEqual(floor_of(self.raw, t), 3)
        play(self.raw, t, "4f")
        self.pinned(t, [3])
        self.raw.rewind(t, 0)
        self.assertEqual(floor_of(self.raw, t), 1)
        play(self.raw, t, "2f 3f")
        self.pinned(t, [1, 2])
        self.raw.rewind(t, -1)
        self.assertEqual(floor_of(self.raw, t), 0)
        play(self.raw, t, "1f")
        self.pinned(t, [0])

    def test_forks_take_it_along(self):
        t, low, high = self.new(), self.new("l"), self.new("h")
        play(self.raw, t, "1f 2f 3f 4f")
        self.pinned(t, [2, 3], policy="last_turns", turns=2)
        self.raw.fork(high, t, at=3)
        self.raw.fork(low, t, at=0)
        self.pinned(high, [2, 3])
        self.pinned(low, [])
        play(self.raw, low, "2f")
        self.pinned(low, [1])
        self.pinned(high, [3], policy="current_turn")
        self.assertEqual([floor_of(self.raw, x) for x in (t, low, high)], [2, 1, 3])

    def test_by_a_key_of_a_step(self):
        t = self.new()
        play(self.raw, t, "1f 2f 3f 4f", lambda n: {"prefix": prefix_of(t, n)})
        got = self.raw.replay(prefix=[prefix_of("?"), prefix_of(t, 2)], policy="current_turn", pin=True)
        self.assertEqual((sorted(got.kept), got.kept_from, floor_of(self.raw, t)), ([2], 2, 2))
        # A replay that ends below the floor has nothing to give.
        got = self.raw.replay(prefix=prefix_of(t, 0), pin=True)
        self.assertEqual((got.status, sorted(got.kept), got.kept_from), ("complete", [], 1))
        self.assertEqual(floor_of(self.raw, t), 2)

    def test_a_miss_pins_nothing(self):
        t = self.new()
        play(self.raw, t, "1f 2f", lambda n: {"model": "claude-opus-4-1"})
        got = self.raw.replay(t, policy="current_turn", model="Qwen/Qwen3-8B", on_mismatch="fail",
                              pin=True)
        self.assertEqual((got.status, got.reason), ("miss", "model_mismatch"))
        self.assertEqual(floor_of(self.raw, t), 0)
        got = self.raw.replay(self.new(), policy="none", pin=True)
        self.assertEqual((got.status, got.reason), ("miss", "never_seen"))

    def test_pin_and_budget(self):
        """A budget is the caller's matter of the moment: it moves no floor."""
        t = self.new()
        play(self.raw, t, "1f 2f 3f", lambda n: {"tokens": 5})
        got = self.raw.replay(t, pin=True, max_tokens=5)
        self.assertEqual((got.missing, got.kept_from), ({0: "budget", 1: "budget"}, 0))
        self.assertEqual(floor_of(self.raw, t), 0)

    def test_many_at_once(self):
        """Pins and appends of several connections: the floor is what the furthest pin dropped, and
        no pin's answer goes back behind one that was answered before."""
        t, failures = self.new(), []
        turns = 20 if SANITIZED else 60
        play(self.raw, t, "1f")
        seen = [[] for _ in range(5)]

        def work(number):
            try:
                client = raw.Client(self.server)
                for turn in range(1, turns):
                    if number == 0:
                        client.append(t, b"%d" % turn, turn=turn)
                        continue
                    got = client.replay(t, pin=True, policy="last_turns", turns=2 + number)
                    assert got.status == "complete"
                    assert sorted(got.kept) == list(range(got.kept_from, got.head + 1))
                    seen[number].append((got.version, got.kept_from))
                client.close()
            except BaseException as failure:  # told to the test's own thread
                failures.append(failure)
        workers = [threading.Thread(target=work, args=(n,)) for n in range(5)]
        [w.start() for w in workers]
        [w.join() for w in workers]
        self.assertEqual(failures, [])
        for mine in seen[1:]:
            self.assertEqual(mine, sorted(mine), "a floor went back")
        floor = floor_of(self.raw, t)
        self.assertEqual(floor, max(low for mine in seen for _, low in mine))
        self.pinned(t, range(floor, turns))


class PinOnDisk(DiskCase):
    def start_raw(self, *flags):
        server, client = self.start(*flags)
        mine = raw.Client(server)
        self.addCleanup(mine.close)
        return server, client, mine

    def settled(self, client):
        """All that was done is on disk."""
        self.wait(lambda: client.info()["disk"]["lag_ms"] == 0
                  and client.info()["disk"]["lag_bytes"] == 0, "the disk has it all")

    def test_over_demotion(self):
        server, client, mine = self.start_raw("--ttl", "200ms")
        play(mine, b"t", "1f 2f 3t 3f")
        got = mine.replay(b"t", policy="current_turn", pin=True)
        self.assertEqual(sorted(got.kept), [2, 3])
        for _ in range(3):
            self.wait_demoted(client, b"t")
            self.assertEqual(floor_of(mine, b"t"), 2)
            got = mine.replay(b"t", pin=True)
            self.assertEqual((sorted(got.kept), got.kept_from, got.dropped), ([2, 3], 2, 2))
            self.wait_demoted(client, b"t")
            self.assertEqual(sorted(mine.replay(b"t").kept), [0, 1, 2, 3])
        # Pinned while it lies on disk alone, and gone back there.
        self.wait_demoted(client, b"t")
        self.assertEqual(sorted(mine.replay(b"t", policy="none", pin=True).kept), [])
        self.wait_demoted(client, b"t")
        self.assertEqual(floor_of(mine, b"t"), 4)
        play(mine, b"t", "4f")
        self.assertEqual(sorted(mine.replay(b"t", pin=True).kept), [4])
        self.wait_demoted(client, b"t")
        mine.rewind(b"t", 1)
        self.wait_demoted(client, b"t")
        self.assertEqual(floor_of(mine, b"t"), 2)
        server.stop()

    def test_over_restart_and_kill(self):
        server, client, mine = self.start_raw()
        stored = play(mine, b"t", "1f 2f 3f 4f", lambda n: {"ack": "disk"})
        play(mine, b"u", "1f 2f", lambda n: {"ack": "disk"})
        self.assertEqual(mine.replay(b"t", policy="last_turns", turns=2, pin=True).kept_from, 2)
        server.stop()
        server, client, mine = self.start_raw()
        self.assertEqual(floor_of(mine, b"t"), 2)
        got = mine.replay(b"t", pin=True)
        self.assertEqual((got.data, got.kept_from), ({n: stored[n] for n in (2, 3)}, 2))
        self.assertEqual(mine.replay(b"t", policy="current_turn", pin=True).kept_from, 3)
        mine.replay(b"u", policy="current_turn", pin=True)
        self.settled(client)
        server.kill()
        server, client, mine = self.start_raw()
        self.assertEqual((floor_of(mine, b"t"), floor_of(mine, b"u")), (3, 1))
        self.assertEqual(sorted(mine.replay(b"t", pin=True).kept), [3])
        # What an acknowledged append follows is there with it, whole head or not.
        mine.replay(b"t", policy="none", pin=True)
        play(mine, b"t", "5t", lambda n: {"ack": "disk"})
        mine.rewind(b"u", -1)
        play(mine, b"u", "1f 2f", lambda n: {"ack": "disk"})
        server.kill()
        server, client, mine = self.start_raw()
        self.assertEqual((floor_of(mine, b"t"), floor_of(mine, b"u")), (4, 0))
        self.assertEqual(sorted(mine.replay(b"t", pin=True).kept), [4])
        self.assertEqual(sorted(mine.replay(b"t").kept), [0, 1, 2, 3, 4])
        server.stop()

    def test_a_fork_on_disk(self):
        server, client, mine = self.start_raw()
        play(mine, b"t", "1f 2f 3f", lambda n: {"ack": "disk"})
        mine.replay(b"t", policy="current_turn", pin=True)
        mine.fork(b"low", b"t", at=0)
        mine.fork(b"high", b"t")
        play(mine, b"low", "9f", lambda n: {"ack": "disk"})
        play(mine, b"high", "9f", lambda n: {"ack": "disk"})
        server.kill()
        server, client, mine = self.start_raw()
        self.assertEqual([floor_of(mine, t) for t in (b"t", b"low", b"high")], [2, 1, 2])
        self.assertEqual(sorted(mine.replay(b"high", pin=True).kept), [2, 3])
        server.stop()


if __name__ == "__main__":
    unittest.main()
