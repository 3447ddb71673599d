"""Conversations to weave: rebuilt from real replies where the data folder is there, and made up.

Each is whole: user messages, tool results, the visible replies and the hidden blocks, in the words
of one of the three formats. The real ones have the texts, signatures and sealed blobs of real
replies; what stood between them (the data has none of it) is put in.
"""

import functools
import gzip
import json
import os
import random
from dataclasses import dataclass
from typing import Any

from support import ROOT

from rethread.weave import find_profile

DATA = os.path.join(ROOT, "..", "shared", "data")
FILES = ("reasoning-multiturn-dev.jsonl.gz", "reasoning-wire-dev.jsonl.gz")
FORMATS = ("chat", "anthropic", "responses")


@dataclass(frozen=True)
class Transcript:
    name: str
    as_: str
    value: Any
    model: str | None = None
    field: str | None = None

    @property
    def items(self):
        if isinstance(self.value, list):
            return self.value
        return self.value["input" if self.as_ == "responses" else "messages"]


def available():
    return all(os.path.exists(os.path.join(DATA, name)) for name in FILES)


# ---- Real ones -----------------------------------------------------------------------------------

QUESTIONS = (
    "Could you look into this for me?", "And then?", "That is not what I meant: the second one.",
    "你能再检查一遍吗？", "Merci ! Et avec des accents : é, ñ, ü ?", "👍🏽 go on",
)


@functools.cache
def _rows():
    """(file, thread) -> its rows in order."""
    threads = {}
    for name in FILES:
        with gzip.open(os.path.join(DATA, name), "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                threads.setdefault((name, row["thread"]), []).append(row)
    return threads


def _blocks(row):
    """[(kind, text, opaque, id)] of a reply, whichever file it is from."""
    if "blocks" in row:
        return [(b["kind"], b.get("text") or "", b.get("opaque") or "", b.get("id"))
                for b in row["blocks"]]
    if row.get("reasoning") or row.get("opaque"):
        return [("thinking" if row.get("opaque") else "reasoning_content",
                 row.get("reasoning") or "", row.get("opaque") or "", None)]
    return []


def _tools(row, prefix):
    """[(id, name, arguments)] of a reply."""
    tools = []
    for n, tool in enumerate(row["tool_calls"]):
        name, arguments = (tool, {}) if isinstance(tool, str) else (
            tool["name"], tool.get("arguments") or {})
        if not isinstance(arguments, (dict, list)):
            arguments = {"arguments": arguments}
        tools.append((f"{prefix}_{row['turn']}_{n}", name, arguments))
    return tools


def _chat_reply(row, number):
    message = {"role": "assistant", "content": row.get("visible") or None}
    blocks = _blocks(row)
    text = "".join(b[1] for b in blocks)
    if text:
        fields = ("reasoning_content", "reasoning", "thinking")
        field = fields[number % 3] if number % 4 == 0 else find_profile(row.get("model")).field
        message[field] = text
    details = []
    for kind, text, opaque, name in blocks:
        if kind == "reasoning_content" and opaque.startswith("["):
            details += json.loads(opaque)
        elif opaque:
            details.append({"type": "reasoning.encrypted", "data": opaque, "id": name,
                            "format": kind, "index": len(details)})
    if details:
        message["reasoning_details"] = details
    tools = _tools(row, "call")
    if tools:
        message["tool_calls"] = [
            {"id": i, "type": "function",
             "function": {"name": name, "arguments": json.dumps(arguments)}}
            for i, name, arguments in tools]
    return [message], [{"role": "tool", "tool_call_id": t[0], "content": f"result of {t[1]}"}
                       for t in tools]


def _anthropic_reply(row, _number):
    content = []
    for kind, text, opaque, name in _blocks(row):
        if kind == "redacted_thinking" or (not text and kind != "thinking"):
            if opaque:
                content.append({"type": "redacted_thinking", "data": opaque})
        elif opaque:
            content.append({"type": "thinking", "thinking": text, "signature": opaque})
        else:
            content.append({"type": "thinking", "thinking": text})
    later = content[2:] if len(content) > 2 else []
    del content[2:]
    if row.get("visible"):
        content.append({"type": "text", "text": row["visible"]})
    tools = _tools(row, "toolu")
    content += later[:1]
    content += [{"type": "tool_use", "id": i, "name": name, "input": arguments}
                for i, name, arguments in tools]
    content += later[1:]
    results = [{"type": "tool_result", "tool_use_id": t[0], "content": f"result of {t[1]}"}
               for t in tools]
    return [{"role": "assistant", "content": content}], (
        [{"role": "user", "content": results}] if results else [])


def _responses_reply(row, number):
    hidden = []
    for n, (kind, text, opaque, name) in enumerate(_blocks(row)):
        item = {"type": "reasoning", "id": name or f"rs_{number:04x}{row['turn']:04x}{n:04x}",
                "summary": []}
        if text and kind == "reasoning_item":
            item["summary"] = [{"type": "summary_text", "text": text}]
        elif text:
            item["content"] = [{"type": "reasoning_text", "text": text}]
        if opaque:
            item["encrypted_content"] = opaque
        hidden.append(item)
    shown = []
    if row.get("visible"):
        shown.append({"type": "message", "role": "assistant", "id": f"msg_{row['turn']}",
                      "status": "completed", "content": [
                          {"type": "output_text", "text": row["visible"], "annotations": []}]})
    tools = _tools(row, "call")
    shown += [{"type": "function_call", "call_id": i, "id": "fc_" + i, "name": name,
               "arguments": json.dumps(arguments)} for i, name, arguments in tools]
    if not shown:
        shown = [{"type": "message", "role": "assistant", "content": []}]
    # Each reasoning item before what followed from it, as far as there is something left.
    items = []
    while hidden or shown:
        items += hidden[:1] + (shown[:1] if len(hidden) <= len(shown) or len(shown) > 1 else [])
        if len(hidden) <= len(shown) or len(shown) > 1:
            shown = shown[1:]
        hidden = hidden[1:]
    return items, [{"type": "function_call_output", "call_id": t[0], "output": f"result of {t[1]}"}
                   for t in tools]


REPLIES = {"chat": _chat_reply, "anthropic": _anthropic_reply, "responses": _responses_reply}


def real():
    """Every conversation of the data, in each format."""
    for number, ((name, thread), rows) in enumerate(sorted(_rows().items())):
        model = next((row["model"] for row in rows if row.get("model")), None)
        for as_ in FORMATS:
            items = [{"role": "system", "content": "You are a careful assistant."}]
            if as_ == "anthropic":
                items = []
            results = []
            for n, row in enumerate(rows):
                items += results or [
                    {"role": "user", "content": QUESTIONS[(number + n) % len(QUESTIONS)]}]
                reply, results = REPLIES[as_](row, number)
                items += reply
            if number % 2:
                member = "input" if as_ == "responses" else "messages"
                yield Transcript(f"{thread}/{as_}", as_, {
                    "model": model, "temperature": 0.7, member: items, "stream": True}, model)
            else:
                yield Transcript(f"{thread}/{as_}", as_, items, model)


# ---- Made up, to be hard -------------------------------------------------------------------------

TEXTS = (
    "", "OK", "OK", "Done.", " ", "\n", "\0", "a\0b", "\x1f\x7f\x80", '"quoted" \\ / \b\f\n\r\t',
    "é ñ ü ß", "日本語のテキスト", "😀👩‍👩‍👧‍👦", "\U00010000\U0010ffff\uffff\ufffd\ufeff\u2028",
    "e\u0301 is not \u00e9", "x" * 3000, '{"rethread":"blocks","blocks":[]}', '{"rethread":',
    '{"type":"thinking","thinking":"no","signature":"no"}', '{"type":"reasoning","id":"rs_no"}',
    ' {"type":"redacted_thinking","data":"no"}', "[]", "null", "<think>\n</think>", "&lt;", "'",
    "%s%n",
)
IDS = ("call_1", "call_1", "call_2", "call_3", "0", "é\0", "x" * 255, "y" * 256, "")
NUMBERS = (0, -0.0, 1.0, 1, -1, 1e300, 5e-324, 0.1, 2**53 + 1, 2**63 - 1, -2**63, 2**64, 10**40,
           -10**40, 1.7976931348623157e308, 123456789012345678, True, False, None)


class Hard:
    """One conversation with what real clients seldom and attackers gladly send."""

    def __init__(self, seed, as_):
        self.rng = random.Random(f"{seed}/{as_}")
        self.as_ = as_
        self.seed = seed

    def text(self):
        return self.rng.choice(TEXTS)

    def chance(self, part):
        return self.rng.random() < part

    def value(self, depth=3):
        kind = self.rng.randrange(4 if depth else 2)
        if kind == 0:
            return self.rng.choice(NUMBERS)
        if kind == 1:
            return self.text()
        values = [self.value(depth - 1) for _ in range(self.rng.randrange(4))]
        # No NUL in a member name: not every JSON library can hold it.
        return values if kind == 2 else {f"{n}{self.text()}".replace("\0", ""): v
                                         for n, v in enumerate(values)}

    def name(self):
        return self.rng.choice(("get_weather", "get_weather", "read", "ø", ""))

    def id(self):
        return self.rng.choice(IDS)

    def extra(self, item):
        if self.chance(0.2):
            item["x_" + self.rng.choice(("a", "b", "é"))] = self.value()
        return item

    def content(self, kind):
        """As a string, parts, null or not there."""
        choice = self.rng.randrange(5)
        if choice == 0:
            return {}
        if choice == 1:
            return {"content": None}
        if choice == 2:
            kinds = (kind, kind, "image", "refusal")
            return {"content": [self.extra({"type": self.rng.choice(kinds), "text": self.text()})
                                for _ in range(self.rng.randrange(3))]}
        return {"content": self.text()}

    # chat

    def chat_call(self):
        message = {"role": "assistant", **self.content("text")}
        for name in ("reasoning", "reasoning_content", "thinking", "reasoning_details"):
            if self.chance(0.25):
                message[name] = self.rng.choice((None, "", [], 0, False)) \
                    if self.chance(0.3) else self.value() if self.chance(0.3) else self.text()
        if self.chance(0.3):
            message["tool_calls"] = self.rng.choice((None, []))
        elif self.chance(0.5):
            message["tool_calls"] = [self.chat_tool() for _ in range(self.rng.choice((1, 1, 2, 3)))]
        return [self.extra(message)]

    def chat_tool(self):
        tool = {"id": self.id(), "type": "function",
                "function": {"name": self.name(), "arguments": json.dumps(self.value())}}
        if self.chance(0.15):
            tool = {"id": self.id(), "type": "custom",
                    "custom": {"name": self.name(), "input": self.text()}}
        if self.chance(0.1):
            del tool["id"]
        return self.extra(tool)

    def chat_other(self):
        role = self.rng.choice(("user", "user", "tool", "system", "developer", "assistant\0", ""))
        return [self.extra({"role": role, **self.content("text")})]

    # anthropic

    def anthropic_call(self):
        if self.chance(0.15):
            return [{"role": "assistant", **self.content("text")}]
        content = [self.anthropic_block() for _ in range(self.rng.choice((0, 1, 2, 3, 4, 6, 9)))]
        if self.chance(0.5):
            content.sort(key=lambda block: "thinking" not in block["type"])
        if self.chance(0.05):
            content = [{"type": "redacted_thinking", "data": f"{n}"} for n in range(70)] + content
        return [self.extra({"role": "assistant", "content": content})]

    def anthropic_block(self):
        kind = self.rng.choice(("thinking", "thinking", "redacted_thinking", "text", "text",
                                "tool_use", "server_tool_use", "thinking\0x"))
        if kind == "thinking":
            block = {"type": kind, "thinking": self.text(), "signature": self.text()}
            if self.chance(0.1):
                block["signature"] = self.value()
            if self.chance(0.1):
                del block["signature"]
            return self.extra(block)
        if kind == "redacted_thinking":
            return self.extra({"type": kind, "data": self.text()})
        if kind == "text":
            return self.extra({"type": kind, "text": self.text()})
        return {"type": kind, "id": self.id(), "name": self.name(), "input": self.value()}

    def anthropic_other(self):
        choice = self.rng.randrange(4)
        if choice == 0:
            return [{"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": self.id(), "content": self.text()}]}]
        if choice == 1:
            return [{"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": self.id()},
                {"type": "text", "text": self.text()}]}]
        return [{"role": self.rng.choice(("user", "system")), **self.content("text")}]

    # responses

    def responses_call(self):
        run = [self.responses_item() for _ in range(self.rng.choice((1, 2, 3, 3, 5, 8)))]
        if all(item.get("type") == "reasoning" for item in run):
            run.append({"type": "message", "role": "assistant", **self.content("output_text")})
        return run

    def responses_item(self):
        kind = self.rng.choice(("reasoning", "reasoning", "message", "function_call",
                                "custom_tool_call", "web_search_call", "computer_call", None))
        if kind == "reasoning":
            item = {"type": kind, "id": f"rs_{self.rng.randrange(5)}", "summary": [
                {"type": "summary_text", "text": self.text()}
                for _ in range(self.rng.randrange(2))]}
            if self.chance(0.6):
                item["encrypted_content"] = self.text()
            if self.chance(0.3):
                item["content"] = self.value()
            return self.extra(item)
        if kind == "message":
            return self.extra({"type": kind, "role": "assistant", **self.content("output_text")})
        if kind is None:
            return {"role": "assistant", "content": self.text()}
        item = {"type": kind, "id": self.text(), "status": "completed"}
        if kind.endswith(("function_call", "tool_call", "computer_call")):
            item.update(call_id=self.id(), name=self.name(), arguments=self.text())
        if self.chance(0.1):
            item.pop("call_id", None)
        return self.extra(item)

    def responses_other(self):
        kind = self.rng.choice(("message", "message", None, "function_call_output", "compaction",
                                "item_reference", "reasoning\0", "x_call\0"))
        if kind not in ("message", None):
            return [self.extra({"type": kind, "call_id": self.id(), "output": self.value()})]
        item = {"role": self.rng.choice(("user", "user", "system", "developer")),
                **self.content("input_text")}
        return [{"type": kind, **item} if kind else item]

    def transcript(self):
        call, other = (getattr(self, f"{self.as_}_{what}") for what in ("call", "other"))
        items = []
        for _ in range(self.rng.choice((0, 1, 3, 6, 10, 20))):
            for _ in range(self.rng.choice((0, 1, 1, 1, 2))):
                items += other()
            # Two runs with nothing between them would be one call.
            if self.as_ == "responses":
                items += other()
            items += call()
            if self.chance(0.15) and items:
                items += other() + json.loads(json.dumps(call()))
        value = items
        if self.chance(0.4):
            member = "input" if self.as_ == "responses" else "messages"
            value = {"before": self.value(), member: items, "model": self.value()}
        model, field = self.rng.choice((
            (None, None), ("qwen3-32b", None), ("openai/gpt-oss-120b", None), ("Claude", None),
            ("some-model", "reasoning"), (None, "thinking"), (None, "thoughts")))
        return Transcript(f"hard {self.as_} {self.seed}", self.as_, value, model, field)


def hard(count, first=0):
    """``count`` made-up conversations in each format."""
    for seed in range(first, first + count):
        for as_ in FORMATS:
            yield Hard(seed, as_).transcript()
