"""The cases of tests/weave/cases, which every implementation runs, by the Python one."""

import base64
import glob
import json
import os
import unittest

from support import ROOT, as_json, canonical, held, replay_of

from rethread.types import Replay, Step
from rethread.weave import unweave, weave

CASES = os.path.join(ROOT, "tests", "weave", "cases", "*.json")


def cases():
    for path in sorted(glob.glob(CASES)):
        with open(path, encoding="utf-8") as f:
            for case in json.load(f):
                yield os.path.basename(path), case


def _bytes(segment):
    if "json" in segment:
        text = json.dumps(segment["json"], ensure_ascii=False, separators=(",", ":"))
        return text.encode()
    if "base64" in segment:
        return base64.b64decode(segment["base64"])
    return segment["text"].encode()


def _step(written):
    """A step of a case as the options of append."""
    step = {name: value for name, value in written.items() if name != "step"}
    step["segments"] = [(s["kind"], _bytes(s)) for s in written["segments"]]
    if "visible" in step:
        step["visible"] = bytes.fromhex(step["visible"])
    return step


def _replay(case):
    steps = tuple(
        Step(step=s["step"], missing=s["missing"]) if "missing" in s else held(s["step"], _step(s))
        for s in case["steps"])
    head = case.get("head", max((s.step for s in steps), default=-1))
    partial = any(s.missing is not None for s in steps)
    return Replay(status="partial" if partial else "complete", steps=steps,
                  head=None if head < 0 else head)


def _report(entries):
    return [{**entry, "left_out": entry.get("left_out", 0)} for entry in entries]


class Cases(unittest.TestCase):
    maxDiff = 4000

    def test_there_are_cases(self):
        self.assertGreater(len(list(cases())), 100)

    def test_unweave_and_back(self):
        for path, case in cases():
            if "transcript" not in case:
                continue
            with self.subTest(path=path, name=case["name"]):
                how = case["as"], case.get("model"), case.get("field")
                visible, steps = unweave(case["transcript"], *how)
                self.assertEqual(canonical(visible), canonical(case["visible"]))
                self.assertEqual([as_json(s) for s in steps],
                                 [as_json(_step(s)) for s in case["steps"]])
                woven, report = weave(visible, replay_of(steps), *how)
                self.assertEqual(canonical(woven),
                                 canonical(case.get("woven", case["transcript"])))
                self.judge(case, report)

    def test_weave(self):
        for path, case in cases():
            if "transcript" in case or "text" in case:
                continue
            with self.subTest(path=path, name=case["name"]):
                before = canonical(case["visible"])
                woven, report = weave(case["visible"], _replay(case), case["as"],
                                      case.get("model"), case.get("field"))
                self.assertEqual(canonical(woven), canonical(case["woven"]))
                self.assertEqual(canonical(case["visible"]), before, "the input was changed")
                self.judge(case, report)

    def judge(self, case, report):
        told = report.as_json()
        if "report" in case:
            self.assertEqual(_report(told["steps"]), _report(case["report"]))
            self.assertEqual(told["unmatched"], case.get("unmatched", []))

    def test_errors(self):
        """Of text that json.loads takes, what is wrong in the shape; it reports the rest itself."""
        judged = 0
        for path, case in cases():
            if "text" not in case or case["name"] in OF_THE_READER:
                continue
            with self.subTest(path=path, name=case["name"]):
                how = case["as"], case.get("model"), case.get("field")
                if not case.get("weave_only"):
                    with self.assertRaises(ValueError) as caught:
                        unweave(json.loads(case["text"]), *how)
                    self.judge_error(case, caught.exception)
                if not case.get("unweave_only"):
                    with self.assertRaises(ValueError) as caught:
                        weave(json.loads(case["text"]), replay_of([]), *how)
                    self.judge_error(case, caught.exception)
                judged += 1
        self.assertGreater(judged, 20)

    def judge_error(self, case, error):
        if not isinstance(error, json.JSONDecodeError) and "canary" in case:
            self.assertNotIn(case["canary"], str(error))


# What json.loads lets pass, or has an error of its own for; weaving itself is handed objects.
OF_THE_READER = ("a duplicate member", "a lone surrogate", "a lone low surrogate",
                 "NUL in a member's name", "nesting without end")

if __name__ == "__main__":
    unittest.main()
