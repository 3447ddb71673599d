#!/usr/bin/python3
"""Writes rethread/profiles.py from schema/profiles.def, so that the table is kept once.

    generate_profiles.py            write it
    generate_profiles.py --check    say by the exit code whether it is up to date
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Iterator

HERE = Path(__file__).resolve().parent
SCHEMA = HERE.parents[2] / "schema"
TARGET = HERE / "rethread" / "profiles.py"

HEAD = '''"""What a model's next call is to be given of its earlier reasoning, and in which field.

Written by generate_profiles.py from schema/profiles.def; change that, then run `make profiles`.
"""

from __future__ import annotations

from typing import NamedTuple


class Profile(NamedTuple):
    """One row of the table; the first row whose pattern fits the model's name counts.

    ``pattern``: of the name behind its last ``/``, in lower case; ``*`` stands for any characters.
    ``turns``: with the policy ``last_turns``. ``field``: of a chat message, where the model's
    server expects the reasoning. ``anyone``: other models may read it.
    """

    pattern: str
    policy: str
    turns: int
    field: str
    anyone: bool


PROFILES: tuple[Profile, ...] = (
'''

TOKEN = re.compile(r'/\*.*?\*/|\s+|"((?:\\.|[^"\\])*)"|(\w+)|([(),])', re.S)


def tokens(text: str) -> Iterator[str]:
    """Names, numbers, punctuation; a string with a quote before it."""
    at = 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            raise SystemExit(f"cannot read the table at {text[at:at + 40]!r}")
        at = found.end()
        if found[1] is not None:
            yield '"' + found[1]
        elif found[2] or found[3]:
            yield found[2] or found[3]


def rows(path: Path, macro: str) -> Iterator[list[str]]:
    """The arguments of each row, adjacent strings joined."""
    row: list[str] | None = None
    for token in tokens(path.read_text(encoding="utf-8")):
        if row is None:
            if token not in (macro, "("):
                raise SystemExit(f"{path.name}: {token} is no {macro} row")
            row = [""] if token == "(" else None
        elif token == ")":
            yield row
            row = None
        elif token == ",":
            row.append("")
        elif row[-1].startswith('"') and token.startswith('"'):
            row[-1] += token[1:]
        else:
            row[-1] += token


def generated() -> str:
    policies = {name: spelled[1:] for name, spelled, *_ in rows(SCHEMA / "policies.def", "POLICY")}
    lines = []
    table = rows(SCHEMA / "profiles.def", "PROFILE")
    for pattern, policy, turns, field, readable, _source in table:
        anyone = {"ANYONE": True, "ITSELF": False}[readable]
        row = (pattern[1:], policies[policy], int(turns), field[1:], anyone)
        lines.append(f"    Profile{row!r},\n")
    return HEAD + "".join(lines) + ")\n"


def main() -> int:
    wanted = generated()
    if "--check" in sys.argv[1:]:
        return 0 if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == wanted else 1
    TARGET.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
