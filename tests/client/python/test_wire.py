"""rethread.wire, address and results: bytes in, objects out, nothing unbounded."""

import struct
import tracemalloc
import unittest

import msgpack

from rethread import errors, results, wire
from rethread.address import Address, parse
from rethread.requests import append, replay


def response(result, *payloads, msgid=1):
    return msgpack.packb([1, msgid, None, [result, *payloads]], use_bin_type=True)


class Encoding(unittest.TestCase):
    def test_golden_request(self):
        frame = b"".join(wire.encode_request(7, "append", {"thread": "t"}, [b"xy"]))
        self.assertEqual(
            frame.hex(),
            "ce00000019" "94" "00" "07" "a6617070656e64" "92" "81a6746872656164a174" "c4027879",
        )

    def test_every_bin_size(self):
        for size in (1, 255, 256, 4095, 4096, 65535, 65536, 200000):
            data = bytes(size)
            frame = b"".join(wire.encode_request(1, "m", {}, [data, b"e"]))
            mark, length = struct.unpack(">BI", frame[:5])
            self.assertEqual((mark, length), (0xCE, len(frame) - 5))
            self.assertEqual(msgpack.unpackb(frame[5:]), [0, 1, "m", [{}, data, b"e"]])

    def test_large_payload_is_not_copied(self):
        data = bytes(1 << 20)
        buffers = wire.encode_request(1, "m", {}, [data])
        self.assertTrue(any(isinstance(b, memoryview) and b.obj is data for b in buffers))

    def test_only_given_options_are_sent(self):
        self.assertEqual(append("t", b"x").options, {"thread": "t"})
        self.assertEqual(append("t").options, {"thread": "t", "segments": []})
        request = append("t", [b"x", ("opaque", b"y")], expect=0, final=False, tool_calls=[])
        self.assertEqual(request.options, {
            "thread": "t", "segments": ["text", "opaque"], "expect": 0, "final": False,
            "tool_calls": []})
        self.assertEqual(replay("t", have=(3, 2), touch=False).options,
                         {"thread": "t", "have": {"version": 3, "step": 2}, "touch": False})


class Frames(unittest.TestCase):
    def test_any_split(self):
        stream = b"".join(struct.pack(">BI", 0xCE, len(b)) + b for b in (b"one", b"", b"three"))
        for cut in range(len(stream) + 1):
            reader, got = wire.FrameReader(), []
            for part in (stream[:cut], stream[cut:]):
                reader.feed(part)
                while (body := reader.next()) is not None:
                    got.append(body)
            self.assertEqual(got, [b"one", b"", b"three"])

    def test_refuses_before_buffering(self):
        reader = wire.FrameReader(frame_max=100)
        reader.feed(struct.pack(">BI", 0xCE, 101))
        self.assertRaises(errors.ProtocolError, reader.next)
        reader = wire.FrameReader()
        reader.feed(b"HTTP/1.1 ")
        self.assertRaises(errors.ProtocolError, reader.next)


class Decoding(unittest.TestCase):
    def test_unsound_responses(self):
        good = response({"a": 1}, b"xyz")
        wire.decode_response(good)
        bad = [good[:n] for n in range(len(good))]
        bad += [good + b"\xc0", b"\xdd\xff\xff\xff\xff", b"\x91" * 3000, b"\xc1"]
        bad += [msgpack.packb(m) for m in (
            1, [], [0, 1, None, [{}]], [1, -1, None, [{}]], [1, 2 ** 32, None, [{}]],
            [1, True, None, [{}]], [1, 1, None, []], [1, 1, None, {}], [1, 1, None, None],
            [1, 1, None, [[]]], [1, 1, None, [{}, "text"]], [1, 1, "error", None])]
        bad.append(b"\x94\x01\x01\xc0\x91\x81\xa1a\xa1\xff")
        for body in bad:
            with self.assertRaises(errors.ProtocolError, msg=body.hex()[:80]):
                wire.decode_response(body)

    def test_declared_counts_allocate_nothing(self):
        # 200 nested arrays, each declaring as many elements as a careless check would let pass.
        size = 1 << 20
        level = b"\xdd" + struct.pack(">I", size - 1)
        body = (b"\x94\x01\x01\xc0" + level * 200).ljust(size, b"\xc0")
        tracemalloc.start()
        self.assertRaises(errors.ProtocolError, wire.decode_response, body)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self.assertLess(peak, 8 * size)

    def test_errors_by_code(self):
        def decode(fields):
            body = msgpack.packb([1, None, fields, None])
            return wire.decode_response(body).error
        conflict = decode({"code": "conflict", "message": "m", "version": 4, "cause": "key"})
        self.assertIsInstance(conflict, errors.Conflict)
        self.assertEqual((conflict.version, conflict.cause, conflict.message), (4, "key", "m"))
        self.assertEqual(decode({"code": "not_found", "reason": "expired"}).reason, "expired")
        for code, cls in errors.BY_CODE.items():
            self.assertIs(type(decode({"code": code, "message": ""})), cls)
        self.assertEqual(len(errors.BY_CODE), 11)
        unknown = decode({"code": "made_up", "message": "m", "x": 1})
        self.assertIs(type(unknown), errors.ServerError)
        self.assertEqual((unknown.code, unknown.details), ("made_up", {"x": 1}))


class Results(unittest.TestCase):
    RESULT = {
        "status": "partial", "thread": b"t\xff", "version": 9, "head": 3, "expires_in_ms": 5,
        "later": 1,
        "steps": [
            {"step": 1, "turn": 0, "final": True, "model": "m", "response_id": b"r",
             "tool_calls": [b"c"], "tokens": 7, "source": "memory", "new": 2,
             "segments": [["text", 2], ["opaque", 1]]},
            {"step": 2, "missing": "budget"},
            {"step": 3, "turn": 1, "final": False, "segments": [], "source": "memory"},
        ],
    }

    def test_replay(self):
        got = results.replay(self.RESULT, [b"\xffa", b"z"])
        self.assertFalse(got.complete or got.miss)
        self.assertEqual(got.missing, {2: "budget"})
        self.assertEqual([s.step for s in got.steps], [1, 2, 3])
        first = got.steps[0]
        self.assertEqual([(s.kind, s.data) for s in first.segments],
                         [("text", b"\xffa"), ("opaque", b"z")])
        self.assertEqual((first.tool_calls, first.model, first.tokens), ((b"c",), "m", 7))
        self.assertEqual((got.extra, first.extra), ({"later": 1}, {"new": 2}))
        self.assertEqual(got.steps[2].segments, ())
        self.assertNotIn("z'", repr(got))

    def test_payloads_must_match(self):
        for payloads in ([], [b"aa"], [b"aa", b"zz"], [b"aa", b"z", b"more"]):
            with self.assertRaises(errors.ProtocolError):
                results.replay(self.RESULT, payloads)

    def test_broken_results(self):
        for change in ({"status": None}, {"status": "fine"}, {"steps": None}, {"steps": [1]},
                       {"version": "9"}, {"status": "complete"}, {"thread": "text"}):
            with self.assertRaises(errors.ProtocolError, msg=str(change)):
                results.replay({**self.RESULT, **change}, [b"aa", b"z"])
        with self.assertRaises(errors.ProtocolError):
            results.append({"thread": b"t"}, [])


class Addresses(unittest.TestCase):
    def test_parse(self):
        self.assertEqual(parse("h:1"), Address("h", 1))
        self.assertEqual(parse("h"), Address("h", 7411))
        self.assertEqual(parse("[::1]:2"), Address("::1", 2))
        self.assertEqual(parse("unix:/a:b"), Address(path="/a:b"))
        for bad in ("", ":1", "h:x", "h:0", "h:70000", "::1", "[::1", "[::1]x", "unix:"):
            self.assertRaises(ValueError, parse, bad)


if __name__ == "__main__":
    unittest.main()
