"""Conversations to play: real ones where the data folder is there, made ones otherwise.

A conversation is a list of rows; a row is (options, segments) of one append.
"""

import gzip
import hashlib
import json
import os
import random

from harness import ROOT

DATA = os.path.join(ROOT, "..", "shared", "data")


def available(name):
    return os.path.exists(os.path.join(DATA, name))


def _bytes(text):
    return text.encode("utf-8", "surrogatepass")


def _short(text):
    raw = _bytes(text)
    return raw if len(raw) <= 255 else hashlib.sha256(raw).hexdigest().encode()


def _row(row):
    segments = []
    if "blocks" in row:
        for block in row["blocks"]:
            segments += [(kind, _bytes(block[field]))
                         for kind, field in (("text", "text"), ("opaque", "opaque"))
                         if block.get(field)]
    else:
        segments += [(kind, _bytes(row[field]))
                     for kind, field in (("text", "reasoning"), ("opaque", "opaque"))
                     if row.get(field)]
    where = f"{row['thread']}#{row['turn']}"
    options = {"turn": row["turn"], "response_id": _short(f"resp:{where}")}
    if row["tool_calls"]:
        options["tool_calls"] = [_short(f"call:{where}/{n}") for n in range(len(row["tool_calls"]))]
    if row.get("model"):
        options["model"] = row["model"]
    return options, segments


def load(name):
    """{thread id: rows} of a file of the data folder."""
    threads = {}
    with gzip.open(os.path.join(DATA, name), "rt", encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            threads.setdefault(_short(row["thread"]), []).append(_row(row))
    return threads


def generated(seed=1):
    """{thread id: rows}: as skewed as real ones, with bytes that are no text and large blocks."""
    rng = random.Random(seed)
    threads = {}
    for n in range(150):
        thread = rng.randbytes(rng.choice((1, 8, 36, 255)) - 1) + bytes([n])
        rows = []
        for turn in range(min(int(rng.expovariate(1 / 8)) + 1, 60)):
            segments = []
            for _ in range(rng.choice((0, 0, 1, 1, 1, 2, 5))):
                size = min(int(rng.lognormvariate(6.5, 1.5)) + 1, 40000)
                kind = rng.choice(("text", "text", "opaque", "tokens"))
                segments.append((kind, rng.randbytes(size * 4 if kind == "tokens" else size)))
            options = {"turn": turn, "response_id": b"resp%d/%d" % (n, turn)}
            if rng.random() < 0.4:
                options["tool_calls"] = [b"call%d/%d/%d" % (n, turn, c)
                                         for c in range(rng.randint(1, 3))]
            rows.append((options, segments))
        threads[thread] = rows
    big = next(iter(threads.values()))
    for size in (1_100_000, 1_500_000, 2_900_000):
        big.append(({"turn": 99}, [("opaque", rng.randbytes(size)), ("text", b"after")]))
    return threads
