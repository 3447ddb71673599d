#!/usr/bin/python3
"""Puts the chief tables of a report into the README, so that nobody types figures.

    bench/readme.py REPORT README

What stands between the two marks in the README is replaced: by the day, the command and the machine,
and by the sections of the report that SECTIONS names.
"""

import re
import sys

SECTIONS = ("Targets", "kv", "agent")
BEGIN, END = "<!-- measured: begin (make measured) -->", "<!-- measured: end -->"


def block(report):
    """What goes between the marks; raises ValueError when the report has no tables."""
    day = re.match(r"# rethread-bench, (\S+)\n\n    (.+)\n\n(Machine: .+)\n", report)
    parts = dict(re.findall(r"^### ([^\n]+)\n\n(.*?)(?=^### |\Z)", report, re.M | re.S))
    if not day or "Targets" not in parts:
        raise ValueError("not a report of rethread-bench")
    text = "On %s, by `%s`. %s\n\n" % day.groups()
    for name in SECTIONS:
        if name in parts:
            # Widths are for reading the report as it stands; here they would only be noise.
            body = re.sub(r" {2,}\|", " |", parts[name])
            text += "### %s\n\n%s\n\n" % (name, re.sub(r"\|-+(?=\|)", "|---", body).strip())
    return text


def replace(readme, text):
    begin, end = readme.find(BEGIN), readme.find(END)
    if begin < 0 or end < begin:
        raise ValueError("no marks in the README")
    return readme[:begin + len(BEGIN)] + "\n" + text + readme[end:]


def main():
    report, readme = sys.argv[1:]
    with open(report, encoding="utf-8") as f:
        text = block(f.read())
    with open(readme, encoding="utf-8") as f:
        whole = replace(f.read(), text)
    with open(readme, "w", encoding="utf-8") as f:
        f.write(whole)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit("readme.py: %s" % error)
