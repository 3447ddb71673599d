"""rethread-cli weave and unweave against a real server.

RETHREAD_SERVER and RETHREAD_CLI name the programs (default: those in build/).
"""

import glob
import json
import os
import pty
import subprocess
import tempfile
import time
import unittest

from test_cli import CANARY, CLI, DONE, FAILED, MISS, ROOT, USAGE, WithServer, run

CASES = os.path.join(ROOT, "tests", "weave", "cases", "*.json")


def user(text):
    return {"role": "user", "content": text}


def tool_call(name):
    return {"id": name, "type": "function", "function": {"name": "look", "arguments": "{}"}}


def loop(thread):
    """Two turns, a tool loop in the first: (whole, visible)."""
    call = "call-" + thread
    rows = [user("a?"),
            {"role": "assistant", "content": None, "tool_calls": [tool_call(call)], "reasoning_content": CANARY + " 1"},
            {"role": "tool", "tool_call_id": call, "content": "ok"},
            {"role": "assistant", "content": "It is a.", "reasoning_content": CANARY + " 2"},
            user("b?"),
            {"role": "assistant", "content": "It is b.", "reasoning_content": CANARY + " 3"}]
    whole = {"model": "qwen3-32b", "temperature": 0.7, "seed": 12345678901234567890, "messages": rows}
    shown = [{k: v for k, v in row.items() if k != "reasoning_content"} for row in rows]
    return whole, {**whole, "messages": shown}


def cases(*names):
    for path in sorted(glob.glob(CASES)):
        with open(path, encoding="utf-8") as f:
            for case in json.load(f):
                if all(name in case for name in names):
                    yield case


class TestThereAndBack(WithServer):
    def unweave(self, *arguments, stdin, code=DONE):
        out = self.cli("unweave", *arguments, stdin=json.dumps(stdin), code=code)
        return json.loads(out) if code == DONE else out

    def weave(self, *arguments, stdin, code=DONE):
        """(what was woven, the report)"""
        out = self.cli("weave", *arguments, "--json", stdin=json.dumps(stdin), code=code)
        self.assertEqual(self.err.count("\n"), 1, self.err)
        return json.loads(out), json.loads(self.err)

    def options(self, case):
        flags = ["--as", case["as"]]
        for name in ("model", "field"):
            flags += ["--" + name, case[name]] if name in case else []
        return flags

    def test_every_case_through_a_server(self):
        ran = 0
        for i, case in enumerate(cases("transcript")):
            with self.subTest(case["name"]):
                thread = "%s-%d" % (self.thread, i)
                flags = self.options(case)
                if not case["steps"]:
                    continue
                self.assertEqual(self.unweave(thread, *flags, stdin=case["transcript"]), case["visible"])
                woven, report = self.weave(thread, *flags, "--policy", "all", stdin=case["visible"])
                self.assertEqual(woven, case.get("woven", case["transcript"]))
                if "report" in case:
                    expected = [{k: v for k, v in entry.items() if v is not None} for entry in case["report"]]
                    self.assertEqual(report["steps"], expected)
                ran += 1
        self.assertGreater(ran, 20)

    def test_steps_that_import_takes(self):
        whole, visible = loop(self.thread)
        parts = self.unweave("--as", "chat", "--model", "qwen3-32b", stdin=whole)
        self.assertEqual(parts["visible"], visible)
        self.assertEqual([(s["step"], s["turn"], s["final"], s["tool_calls"], s["segments"][0]["text"])
                          for s in parts["steps"]],
                         [(0, 1, False, ["call-" + self.thread], CANARY + " 1"), (1, 1, True, [], CANARY + " 2"),
                          (2, 2, True, [], CANARY + " 3")])
        lines = "".join(json.dumps(s) + "\n" for s in parts["steps"])
        self.cli("import", "-", stdin=lines, code=USAGE)
        self.assertIn("`thread` is lacking", self.err)
        self.cli("import", "--thread", "x", "--thread", "y", "-", stdin=lines, code=USAGE)
        self.cli("import", "--thread", self.thread, "-", stdin=lines)
        woven, report = self.weave(self.thread, "--as", "chat", "--policy", "all", stdin=visible)
        self.assertEqual(woven, whole)
        self.assertEqual([s["by"] for s in report["steps"]], ["tool_call", "visible", "visible"])
        exported = self.lines("export", self.thread)
        self.assertEqual([s["visible"] for s in exported], [s["visible"] for s in parts["steps"]])

    def test_numbers_come_back_as_they_were(self):
        text = '[{"role":"user","n":[1e400,-0,0.10,12345678901234567890]},{"role":"assistant","content":"x","thinking":{"p":1.50}}]'
        visible = self.cli("unweave", self.thread, "--as", "chat", stdin=text)
        self.assertEqual(visible, text.replace(',"thinking":{"p":1.50}', "") + "\n")
        woven = self.cli("weave", self.thread, "--as", "chat", stdin=visible)
        self.assertEqual(woven, text + "\n")
        self.assertIn('"n":[1e400,-0,0.10,', self.cli("unweave", "--as", "chat", stdin=text))

    def test_only_what_is_new_is_appended(self):
        whole, visible = loop(self.thread)
        flags = [self.thread, "--as", "chat", "--model", "qwen3-32b"]
        first = {**whole, "messages": whole["messages"][:2]}
        self.unweave(*flags, "--json", stdin=first)
        self.assertEqual(json.loads(self.err),
                         {"thread": self.thread, "steps": 1, "had": 0, "appended": 1, "version": 1})
        self.assertEqual(self.unweave(*flags, "--json", stdin=whole), visible)
        self.assertEqual(json.loads(self.err),
                         {"thread": self.thread, "steps": 3, "had": 1, "appended": 2, "version": 3})
        self.unweave(*flags, "--json", stdin=whole)
        self.assertEqual(json.loads(self.err),
                         {"thread": self.thread, "steps": 3, "had": 3, "appended": 0, "version": 3})
        self.unweave(*flags, stdin=first)
        self.assertEqual(self.err, "1 steps, 0 of them appended; the thread had 3\n")
        # What the client sent back without its reasoning differs from nothing; new calls are added.
        longer = visible["messages"] + [user("c?"), {"role": "assistant", "content": "c", "reasoning_content": "new"}]
        self.unweave(*flags, "--json", stdin=longer)
        self.assertEqual(json.loads(self.err)["appended"], 1)
        woven, _ = self.weave(*flags, "--policy", "all", stdin=visible["messages"] + longer[-2:-1] + [
            {"role": "assistant", "content": "c"}])
        self.assertEqual(woven, whole["messages"] + longer[-2:])

    def test_a_thread_that_differs_is_left_alone(self):
        whole, visible = loop(self.thread)
        flags = [self.thread, "--as", "chat"]
        self.unweave(*flags, stdin=whole)
        for change in ({"reasoning_content": "other"}, {"content": "It is not."}):
            other = json.loads(json.dumps(whole))
            other["messages"][3].update(change)
            other["messages"] += [user("c?"), {"role": "assistant", "content": "c"}]
            self.assertEqual(self.unweave(*flags, stdin=other, code=FAILED), "")
            self.assertIn("step 1 of the thread is another", self.err)
            self.assertNotIn(CANARY, self.err)
        self.assertEqual(self.json("stat", self.thread)["version"], 3)

    def test_options_of_the_append(self):
        whole, _ = loop(self.thread)
        self.unweave(self.thread, "--as", "chat", "--model", "m-1", "--ttl-ms", "90s", "--retention-ms", "0", stdin=whole)
        self.assertLessEqual(self.json("stat", self.thread)["expires_in_ms"], 90000)
        steps = self.json("replay", self.thread)["steps"]
        self.assertEqual({s["model"] for s in steps}, {"m-1"})

    def test_gone_threads_start_afresh(self):
        whole, visible = loop(self.thread)
        flags = [self.thread, "--as", "chat"]
        self.unweave(*flags, stdin=whole)
        self.cli("forget", self.thread)
        self.unweave(*flags, "--json", stdin=whole)
        self.assertEqual(json.loads(self.err)["appended"], 3)
        self.cli("rewind", self.thread, "--to", "-1")
        self.unweave(*flags, "--json", stdin=whole)
        self.assertEqual(json.loads(self.err)["appended"], 3)
        self.assertEqual(self.weave(*flags, stdin=visible)[0], whole)


class TestWeave(WithServer):
    def setUp(self):
        super().setUp()
        self.whole, self.visible = loop(self.thread)
        self.cli("unweave", self.thread, "--as", "chat", "--model", "qwen3-32b", stdin=json.dumps(self.whole))

    def weave(self, *arguments, code=DONE, stdin=None):
        out = self.cli("weave", *arguments, code=code, stdin=json.dumps(stdin or self.visible))
        return json.loads(out)

    def reasoning(self, woven):
        return [m.get("reasoning_content") for m in woven["messages"] if m["role"] == "assistant"]

    def test_the_policy_is_the_models(self):
        # qwen3: the current turn; the transcript's last user message opens turn 2.
        woven = self.weave(self.thread, "--as", "chat", "--model", "qwen3-32b")
        self.assertEqual(self.reasoning(woven), [None, None, CANARY + " 3"])
        self.assertIn("2 steps left out by the policy", self.err)
        self.weave(self.thread, "--as", "chat", "--model", "qwen3-32b", "--strict")
        more = {**self.visible, "messages": self.visible["messages"] + [user("c?")]}
        woven = self.weave(self.thread, "--as", "chat", "--model", "qwen3-32b", "--strict", stdin=more)
        self.assertEqual(self.reasoning(woven), [None, None, None])
        woven = self.weave(self.thread, "--as", "chat", "--model", "qwen3-32b", "--turn", "1")
        self.assertEqual(self.reasoning(woven), [CANARY + " 1", CANARY + " 2", CANARY + " 3"])
        woven = self.weave(self.thread, "--as", "chat", "--policy", "last_turns", "--turns", "1")
        self.assertEqual(self.reasoning(woven), [None, None, CANARY + " 3"])
        woven = self.weave("--tool-call", "call-" + self.thread, "--as", "chat", "--policy", "all")
        self.assertEqual(self.reasoning(woven), [CANARY + " 1", None, None])

    def test_the_table(self):
        self.weave(self.thread, "--as", "chat", "--policy", "all")
        self.assertEqual(self.err.splitlines(), [
            "step  call  found by   became",
            "   0     0  tool_call  woven",
            "   1     1  visible    woven",
            "   2     2  visible    woven",
            "complete: 3 of 3 calls have their step"])

    def test_the_field(self):
        woven = self.weave(self.thread, "--as", "chat", "--policy", "all", "--field", "reasoning")
        self.assertEqual(woven["messages"][1]["reasoning"], CANARY + " 1")
        woven = self.weave(self.thread, "--as", "chat", "--policy", "all", "--model", "gpt-oss-20b")
        self.assertEqual(woven["messages"][1]["thinking"], CANARY + " 1")
        with tempfile.NamedTemporaryFile("w") as f:
            f.write("mine* all reasoning anyone\n")
            f.flush()
            woven = self.weave(self.thread, "--as", "chat", "--policy", "all", "--model", "mine-7b", "--profiles", f.name)
            self.assertEqual(woven["messages"][1]["reasoning"], CANARY + " 1")
            f.write("nonsense\n")
            f.flush()
            self.cli("weave", self.thread, "--as", "chat", "--profiles", f.name, stdin="[]", code=USAGE)
            self.assertIn("2", self.err)
        self.cli("weave", self.thread, "--as", "chat", "--field", "content", stdin="[]", code=USAGE)
        self.assertIn("field", self.err)

    def test_what_has_no_place_is_reported(self):
        as_blocks = [user("a?"), {"role": "assistant", "content": [{"type": "text", "text": "It is b."}]}]
        woven = json.loads(self.cli("weave", self.thread, "--as", "anthropic", "--policy", "all", "--json",
                                    stdin=json.dumps(as_blocks)))
        report = json.loads(self.err)
        self.assertEqual(woven, as_blocks)
        self.assertEqual([(s.get("call"), s["outcome"]) for s in report["steps"]],
                         [(None, "unmatched"), (None, "unmatched"), (0, "unsigned")])
        self.assertFalse(report["whole"])
        self.cli("weave", self.thread, "--as", "anthropic", "--policy", "all", "--strict",
                 stdin=json.dumps(as_blocks), code=MISS)

    def test_missing_steps(self):
        woven = self.weave(self.thread, "--as", "chat", "--policy", "all", "--max-bytes", str(len(CANARY) + 2))
        self.assertEqual(self.reasoning(woven), [None, None, CANARY + " 3"])
        self.assertIn("   0     0  position  missing: budget", self.err)
        self.assertIn("partial: 3 of 3 calls have their step", self.err)
        self.weave(self.thread, "--as", "chat", "--policy", "all", "--max-bytes", "1", "--strict", code=MISS)

    def test_a_miss_prints_the_transcript_as_it_came(self):
        self.assertEqual(self.weave("nobody", "--as", "chat", code=MISS), self.visible)
        self.assertEqual(self.err, "miss, never_seen: 0 of 3 calls have their step\n")
        self.weave("nobody", "--as", "chat", "--json", code=MISS)
        report = json.loads(self.err)
        self.assertEqual((report["status"], report["reason"], report["unmatched"]), ("miss", "never_seen", [0, 1, 2]))
        self.cli("append", self.thread + "-2", "--ttl-ms", "1", "--text", "x")
        deadline = time.monotonic() + 20
        while self.json("stat", self.thread + "-2", code=None)["status"] != "miss" and time.monotonic() < deadline:
            time.sleep(0.02)
        self.weave(self.thread + "-2", "--as", "chat", code=MISS)
        self.assertIn("miss, expired", self.err)

    def cli(self, *arguments, code=DONE, stdin=b""):
        if code is not None:
            return super().cli(*arguments, code=code, stdin=stdin)
        self.out = run(*arguments, address=self.server.address, stdin=stdin).stdout
        return self.out.decode()

    def test_calls_that_nobody_recorded(self):
        more = {**self.visible, "messages": self.visible["messages"] + [user("c?"), {"role": "assistant", "content": "c"}]}
        self.weave(self.thread, "--as", "chat", "--policy", "all", stdin=more)
        self.assertIn("complete: 3 of 4 calls have their step", self.err)
        self.weave(self.thread, "--as", "chat", "--policy", "all", "--strict", stdin=more, code=MISS)

    def test_never_twice(self):
        woven = self.weave(self.thread, "--as", "chat", "--policy", "all", "--strict", stdin=self.whole)
        self.assertEqual(woven, self.whole)
        self.assertEqual(self.err.count("already"), 3)


class TestRefusals(WithServer):
    def test_command_line(self):
        for command in ("weave", "unweave"):
            self.cli(command, "t", stdin="[]", code=USAGE)
            self.assertIn("--as chat, responses or anthropic", self.err)
            self.cli(command, "t", "--as", "gemini", stdin="[]", code=USAGE)
            self.assertIn("--as takes chat, responses or anthropic", self.err)
            self.cli(command, "t", "--as", "chat", "--profiles", "/nonexistent/file", stdin="[]", code=USAGE)
            self.assertIn("/nonexistent/file", self.err)
        self.cli("weave", "--as", "chat", stdin="[]", code=USAGE)
        self.assertIn("bad_request", self.err)
        self.cli("weave", "t", "--as", "chat", "--have", "1:0", stdin="[]", code=USAGE)
        self.cli("unweave", "t", "u", "--as", "chat", stdin="[]", code=USAGE)
        self.cli("unweave", "--as", "chat", "--final", stdin="[]", code=USAGE)

    def test_transcripts(self):
        for case in cases("text"):
            for command in (["unweave"], ["unweave", "t"], ["weave", "t"]):
                with self.subTest(case["name"], command=command):
                    out = self.cli(*command, "--as", case["as"], stdin=case["text"], code=USAGE)
                    self.assertEqual(out, "")
                    self.assertIn(case["error"], self.err)
                    self.assertNotIn(case["canary"], self.err)
        self.assertEqual(self.json("stat", "t", code=MISS)["reason"], "never_seen")

    def test_no_server(self):
        for command in (["unweave", "t"], ["weave", "t"]):
            done = run(*command, "--as", "chat", address="127.0.0.1:1", stdin="[]")
            self.assertEqual((done.returncode, done.stdout), (FAILED, b""))
        self.assertEqual(run("unweave", "--as", "chat", address="127.0.0.1:1", stdin="[]").stdout,
                         b'{"visible":[],"steps":[]}\n')

    def test_terminals(self):
        for flags, code in (([], USAGE), (["--reveal"], DONE)):
            ours, theirs = pty.openpty()
            done = subprocess.run([CLI, "unweave", "--as", "chat", *flags], input=b"[]", stdout=theirs,
                                  stderr=subprocess.PIPE, timeout=60, check=False)
            os.close(theirs)
            os.close(ours)
            self.assertEqual(done.returncode, code, done.stderr)

    def test_help(self):
        for command in ("weave", "unweave"):
            text = run("help", command).stdout.decode()
            self.assertIn("--as chat|responses|anthropic", text)
            self.assertIn("rethread-cli %s " % command, text)
            self.assertNotIn("--have", text)
        self.assertNotIn("--tokens", text)
        self.assertEqual(run("weave", "--as", address="127.0.0.1:1").returncode, USAGE)


if __name__ == "__main__":
    unittest.main()
