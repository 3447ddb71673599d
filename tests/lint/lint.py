#!/usr/bin/python3
"""The rules of the house, as far as a program can check them. `make lint` runs all of them.

    tests/lint/lint.py [--root DIR] [RULE...]

A rule is a function that takes the root of the tree and returns its problems, one string each,
starting with path:line. tests/lint/test_lint.py shows each rule a bad sample that it must catch.
Warnings of both compilers, the undeclared function among them, are the Makefile's part of lint.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

# What each room may include besides itself. The Makefile's LINK_ lists say the same to the linker.
BELOW = {
    "base": set(),
    "index": {"base"},
    "wire": {"base"},
    "thread": {"base", "index", "wire"},
    "store": {"base", "index", "wire", "thread"},
    "net": {"base", "index", "wire", "thread"},
    "server": {"base", "index", "wire", "thread", "store", "net"},
    "client": {"base", "wire"},
    "cli": {"base"},
    "bench": {"base", "index", "wire", "thread", "store"},
}
# Single headers beyond that: the command line tool checks a data directory without a server.
FACADES = {("cli", "store/verify.h")}
PUBLIC_HEADERS = {"rethread.h", "rethread_options.h", "rethread_results.h", "rethread_values.h",
                  "rethread_weave.h"}
USES_PUBLIC_HEADER = {"client", "cli", "bench"}

SOCKETS = r"sys/(socket|un|epoll)\.h|netinet/.*|arpa/.*|netdb\.h"
# (headers, the rooms that may include them, or None and the rooms that may not)
SYSTEM_HEADERS = [
    (re.compile(r"event2/.*|event\.h|evhttp\.h"), {"net"}, None),
    (re.compile(r"lmdb\.h"), {"store"}, None),
    (re.compile(r"msgpack(\.h|/.*)"), {"client", "cli"}, None),
    (re.compile(r"jansson\.h"), {"client", "cli", "bench"}, None),
    (re.compile(r"sodium(\.h|/.*)"), {"client"}, None),
    (re.compile(SOCKETS), None, {"index", "wire", "thread"}),
]

BANNED = {
    "strcpy": "use a length", "strcat": "use a length", "gets": "use fgets",
    "sprintf": "use snprintf", "vsprintf": "use vsnprintf", "strtok": "use strtok_r or a cursor",
    "atoi": "use strtol and look at errno", "atol": "use strtol and look at errno",
    "rand": "use base/random.h", "srand": "use base/random.h",
    "atomic_thread_fence": "order the operations themselves; ThreadSanitizer cannot see fences",
}
BANNED_CALL = re.compile(r"\b(%s)\s*\(" % "|".join(sorted(BANNED)))
# The rooms of the append, replay and touch path wait for nobody.
LOCK_FREE = ("index", "wire", "thread")
LOCK = re.compile(r"\b(pthread_(mutex|spin|rwlock|cond|barrier)_\w+|(mtx|cnd)_\w+|sem_\w+)\s*\(")

FILE_LINES = 600
FUNCTION_LINES = 80
UNFINISHED = re.compile(r"\b(%s)\b" % "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")))
TEXT_FOLDERS = ("src", "include", "schema", "tests", "bench", "docs", ".ci")
TEXT_SUFFIXES = (".c", ".h", ".def", ".py", ".pyi", ".sh", ".md", ".txt", ".in", ".toml", ".ini")


def files(root, folders, suffixes):
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.name.endswith(suffixes) and "__pycache__" not in path.parts:
                yield path


def c_files(root, *folders):
    return files(root, folders or ("src", "include", "tests", "bench"), (".c", ".h"))


def text_files(root):
    yield from (p for p in sorted(root.iterdir())
                if p.is_file() and (p.name in ("Makefile", ".clang-format", ".gitignore")
                                    or p.name.endswith(TEXT_SUFFIXES)))
    yield from files(root, TEXT_FOLDERS, TEXT_SUFFIXES)
    yield from (p for p in (root / ".ci/run", root / "tests/run") if p.is_file())


def read(path):
    return path.read_text(encoding="utf-8", errors="replace")


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def code(text):
    """The text with comments and the inside of literals blanked, every line where it was."""
    token = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(token, lambda m: blank(m) if m.group(0)[0] == "/" else
                  m.group(0)[0] + " " * (len(m.group(0)) - 2) + m.group(0)[0], text, flags=re.S)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def at(root, path, line, message):
    return "%s:%d: %s" % (path.relative_to(root), line, message)


def tool(*command, root):
    """(exit code, lines) of a tool; a tool that is not there is a problem, not a pass."""
    if not shutil.which(command[0]):
        return 1, ["%s is not installed: run make deps" % command[0]]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace")
    return done.returncode, done.stdout.splitlines()


def problems_of(result):
    exit_code, lines = result
    return (lines or ["failed without a message"]) if exit_code else []


# ---- Rules ---------------------------------------------------------------------------------------


def layout(root):
    """Laid out by .clang-format (make format)."""
    paths = [str(p.relative_to(root)) for p in c_files(root)]
    if not paths:
        return []
    return problems_of(tool("clang-format", "--dry-run", "-Werror", *paths, root=root))


def include_problem(room, bracket, header):
    if bracket == "<":
        for pattern, only, never in SYSTEM_HEADERS:
            if pattern.fullmatch(header) and ((only and room not in only)
                                              or (never and room in never)):
                return "%s/ may not include <%s>" % (room, header)
        return None
    if header in PUBLIC_HEADERS:
        return None if room in USES_PUBLIC_HEADER else "%s/ may not include %s" % (room, header)
    folder = header.split("/")[0]
    if folder == "schema" or folder == room and "/" in header or (room, header) in FACADES:
        return None
    if folder not in BELOW or "/" not in header:
        return '"%s" is not a path from src/' % header
    return None if folder in BELOW[room] else "%s/ may not include %s/" % (room, folder)


def layers(root):
    """A room includes only rooms below it, and the libraries that are its own."""
    found = []
    for path in c_files(root, "src", "bench"):
        parts = path.relative_to(root).parts
        parts = parts[1:] if parts[0] == "src" else parts
        if len(parts) != 2 or parts[0] not in BELOW:
            found.append(at(root, path, 1, "not in one of the rooms " + " ".join(BELOW)))
            continue
        for number, line in enumerate(read(path).splitlines(), 1):
            include = re.match(r'\s*#\s*include\s*(["<])([^">]+)', line)
            problem = include and include_problem(parts[0], *include.groups())
            if problem:
                found.append(at(root, path, number, problem))
    for path in c_files(root, "include"):
        for number, line in enumerate(read(path).splitlines(), 1):
            include = re.match(r'\s*#\s*include\s*"([^"]*)', line)
            if include and include.group(1) not in PUBLIC_HEADERS:
                found.append(at(root, path, number, "a public header includes public headers only"))
    return found


def declarations(text):
    """(offset, name) of each function and extern variable that a header declares."""
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, text, flags=re.M)
    text = re.sub(r'extern\s*"[^"]*"\s*\{', blank, code(text))
    level, flat = 0, []
    for char in text:
        level = max(0, level - 1) if char == "}" else level
        flat.append(";" if char in "{}" and level == 0 else
                    char if level == 0 or char == "\n" else " ")
        level += char == "{"
    flat = "".join(flat)
    start = 0
    for end in (m.start() for m in re.finditer(";", flat)):
        statement, offset = flat[start:end], start
        start = end + 1
        if re.match(r"\s*(typedef|_Static_assert|static_assert)\b", statement):
            continue
        plain = re.sub(r"__attribute__\s*\(\(.*?\)\)(?=[^)]|$)", blank, statement, flags=re.S)
        name = re.search(r"\b([a-z_]\w*)\s*\(", plain)
        if name is None and re.match(r"\s*extern\b", plain):
            name = re.search(r"\b(\w+)\s*(\[[^\]]*\]\s*)*$", plain)
        if name:
            yield offset + name.start(1), name.group(1)


def naming(root):
    """What a header declares carries the prefix of its module, its room or a type it declares."""
    found = []
    for path in files(root, ("src", "include"), (".h",)):
        text = read(path)
        if path.parent == root / "include":
            prefixes = ("rethread_",)
        else:
            own_types = re.findall(r"\b(?:struct|enum|union)\s+(\w+)\s*[{;]", code(text))
            prefixes = tuple(word + "_" for word in
                             [path.stem, path.stem.rstrip("s"), path.stem.removesuffix("_private"),
                              path.parent.name] + own_types)
        for offset, name in declarations(text):
            if not name.startswith(prefixes):
                found.append(at(root, path, line_of(text, offset), "%s does not start with %s"
                                % (name, ", ".join(dict.fromkeys(prefixes)))))
    return found


def banned(root):
    """No function that cannot be used safely; no fence; NDEBUG never."""
    found = []
    for path in c_files(root):
        text = code(read(path))
        for call in BANNED_CALL.finditer(text):
            name = call.group(1)
            found.append(at(root, path, line_of(text, call.start()), "%s: %s" % (name, BANNED[name])))
        for define in re.finditer(r"#\s*define\s+NDEBUG", text):
            found.append(at(root, path, line_of(text, define.start()), "assertions stay on"))
    return found


def locks(root):
    """No lock in the rooms of the hot path."""
    found = []
    for path in c_files(root, *("src/" + room for room in LOCK_FREE)):
        text = code(read(path))
        for call in LOCK.finditer(text):
            found.append(at(root, path, line_of(text, call.start()), call.group(1) + " in a room without locks"))
    return found


def length(root):
    """No file above 600 lines."""
    found = []
    for path in c_files(root):
        lines = len(read(path).splitlines())
        if lines > FILE_LINES:
            found.append(at(root, path, lines, "%d lines, at most %d" % (lines, FILE_LINES)))
    return found


def long_functions(root):
    """Advice, not a rule: (path:line: name, lines) of functions that fill more than a screen."""
    for path in c_files(root):
        lines = read(path).splitlines()
        opened = None
        for number, line in enumerate(lines, 1):
            if line == "{":
                opened = number
            elif line == "}" and opened is not None:
                if number - opened - 1 > FUNCTION_LINES:
                    head = " ".join(lines[max(0, opened - 4):opened - 1])
                    names = re.findall(r"(\w+)\(", head)
                    yield at(root, path, opened, "%s has %d lines"
                             % (names[-1] if names else "a function", number - opened - 1))
                opened = None


def text(root):
    """No trailing blanks, no missing last newline, nothing left unfinished."""
    found = []
    for path in text_files(root):
        content = read(path)
        if content and not content.endswith("\n"):
            found.append(at(root, path, content.count("\n") + 1, "no newline at the end"))
        for number, line in enumerate(content.splitlines(), 1):
            if line != line.rstrip():
                found.append(at(root, path, number, "blanks at the end of the line"))
            if UNFINISHED.search(line):
                found.append(at(root, path, number, "left unfinished: " + line.strip()))
    return found


def mirror(root):
    """Each src/<room>/<file>.c has its test, or its reason in tests/lint/untested.txt."""
    found = []
    register = root / "tests/lint/untested.txt"
    excused = {}
    for number, line in enumerate(read(register).splitlines() if register.is_file() else [], 1):
        if line.startswith("#") or not line.strip():
            continue
        name, _, reason = line.partition(":")
        excused[name.strip()] = number
        if len(reason.split()) < 3:
            found.append(at(root, register, number, "no reason given"))
        if not (root / name.strip()).is_file():
            found.append(at(root, register, number, name.strip() + " does not exist"))
    for path in files(root, ("src",), (".c",)):
        name = str(path.relative_to(root))
        test = "tests/%s/test_%s" % (path.parent.name, path.name)
        if (root / test).is_file():
            if name in excused:
                found.append(at(root, register, excused[name], "%s has a test by now" % name))
        elif name not in excused:
            found.append("%s:1: no %s, and no reason in tests/lint/untested.txt" % (name, test))
    return found


def static_analysis(root):
    """cppcheck finds nothing."""
    if not any(c_files(root, "src", "bench")):
        return []
    cache = root / "build/lint/cppcheck"
    cache.mkdir(parents=True, exist_ok=True)
    folders = [f for f in ("src", "bench") if (root / f).is_dir()]
    return problems_of(tool(
        "cppcheck", "--quiet", "--enable=warning,performance,portability", "--std=c11",
        "--inline-suppr", "--error-exitcode=1", "--template={file}:{line}: {id}: {message}",
        "--suppress=missingInclude", "--suppress=missingIncludeSystem", "--max-configs=4",
        "--cppcheck-build-dir=" + str(cache), "-j", str(os.cpu_count() or 1),
        "-D__GNUC__=12", "-D__x86_64__=1", "-Isrc", "-Iinclude", "-I.", *folders, root=root))


def types(root):
    """mypy --strict accepts the Python client."""
    client = root / "src/client/python"
    if not any(client.rglob("*.py")):
        return []
    config = next((c for c in (client / "mypy.ini", client / "pyproject.toml") if c.is_file()), "")
    return problems_of(tool("/usr/bin/mypy", "--strict", "--config-file=" + str(config),
                            "--cache-dir=" + str(root / "build/lint/mypy"), "--no-error-summary",
                            "src/client/python", root=root))


def python(root):
    """Every Python file compiles."""
    found = []
    paths = list(files(root, ("src", "tests", "bench"), (".py",)))
    paths += [p for p in [root / "tests/run"] if p.is_file()]
    for path in paths:
        try:
            compile(read(path), str(path), "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            found.append(at(root, path, getattr(error, "lineno", None) or 1, str(error)))
    return found


def reference(root):
    """schema/reference.md is what the server describes."""
    server, page = root / "build/rethread-server", root / "schema/reference.md"
    if not server.exists():
        return []
    done = subprocess.run([str(server), "--describe"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        return ["schema/reference.md:1: rethread-server --describe failed: " + done.stdout.strip()]
    described, written = done.stdout.splitlines(), read(page).splitlines() if page.is_file() else []
    for number in range(max(len(described), len(written))):
        if described[number:number + 1] != written[number:number + 1]:
            return ["schema/reference.md:%d: differs; write it again with "
                    "build/rethread-server --describe" % (number + 1)]
    return []


def exports(root):
    """The library shows its callers nothing but rethread_ names."""
    library = root / "build/librethread.so"
    if not library.exists():
        return []
    code_, lines = tool("nm", "-D", "--defined-only", str(library), root=root)
    if code_:
        return lines
    return ["build/librethread.so:1: exports " + line.split()[-1] for line in lines
            if line.split() and not line.split()[-1].startswith("rethread_")]


RULES = [layout, layers, naming, banned, locks, length, text, mirror, static_analysis, types, python,
         reference, exports]


def main():
    parser = argparse.ArgumentParser(description="Checks the rules of the house.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("rules", nargs="*", metavar="RULE",
                        help=", ".join(rule.__name__ for rule in RULES))
    args = parser.parse_args()
    unknown = set(args.rules) - {rule.__name__ for rule in RULES}
    if unknown:
        parser.error("no rule " + " ".join(sorted(unknown)))
    root = args.root.resolve()
    broken = 0
    for rule in RULES:
        if args.rules and rule.__name__ not in args.rules:
            continue
        found = rule(root)
        broken += bool(found)
        print("%-16s %-6s %s" % (rule.__name__, "FAILED" if found else "ok", rule.__doc__))
        for problem in found:
            print("    " + problem)
        sys.stdout.flush()
    for advice in long_functions(root):
        print("long function: " + advice)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
