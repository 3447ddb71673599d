"""Each rule of the lint must catch a bad sample, and must let the good one next to it pass."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lint  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def needs(*tools):
    lacking = [name for name in tools if not shutil.which(name)]
    return unittest.skipIf(lacking, "not installed: " + " ".join(lacking))


class Sample(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name).resolve()

    def write(self, name, content, mode=0o644):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        path.chmod(mode)
        return path

    def caught(self, rule, name, content, word, where=None):
        """The sample is caught at its place, with a message that holds the word."""
        path = self.write(name, content)
        found = rule(self.root)
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith(where or name + ":"), found)
        self.assertIn(word, found[0])
        path.unlink()

    def passes(self, rule, name, content):
        path = self.write(name, content)
        self.assertEqual(rule(self.root), [])
        path.unlink()


class Layout(Sample):
    @needs("clang-format")
    def test_layout(self):
        self.write(".clang-format", (ROOT / ".clang-format").read_text(encoding="utf-8"))
        self.passes(lint.layout, "src/base/x.c", "int x_one(void)\n{\n    return 1;\n}\n")
        self.write("src/base/x.c", "int x_one(void) {\n  return 1; }\n")
        self.assertIn("src/base/x.c", "".join(lint.layout(self.root)))


class Layers(Sample):
    def include(self, room, header):
        return "src/%s/x.c" % room, "/* x */\n#include %s\n" % header

    def test_upwards(self):
        for room, header in (("base", "wire/parse.h"), ("index", "wire/parse.h"),
                             ("wire", "thread/step.h"), ("wire", "index/index.h"),
                             ("thread", "store/tree.h"), ("store", "net/loop.h"),
                             ("net", "store/tree.h"), ("net", "server/main.h"),
                             ("client", "thread/step.h"), ("cli", "wire/parse.h"),
                             ("cli", "client/buffer.h"), ("cli", "store/store.h"),
                             ("server", "cli/verify.h"), ("client", "store/verify.h")):
            with self.subTest(room=room, header=header):
                self.caught(lint.layers, *self.include(room, '"%s"' % header), header.split("/")[0],
                            "src/%s/x.c:2:" % room)

    def test_bench(self):
        self.caught(lint.layers, "bench/x.c", '#include "net/net.h"\n', "net/")
        self.caught(lint.layers, "bench/x.c", "#include <event2/event.h>\n", "event2")
        self.passes(lint.layers, "bench/x.c",
                    '#include "bench/y.h"\n#include "index/index.h"\n#include "rethread.h"\n')

    def test_downwards(self):
        for room, header in (("index", "base/bytes.h"), ("thread", "wire/parse.h"),
                             ("server", "net/loop.h"), ("client", "wire/parse.h"),
                             ("cli", "base/bytes.h"), ("wire", "schema/errors.def"),
                             ("cli", "store/verify.h"),
                             ("client", "rethread.h"), ("cli", "rethread.h")):
            with self.subTest(room=room, header=header):
                self.passes(lint.layers, *self.include(room, '"%s"' % header))

    def test_libraries(self):
        for room, header in (("server", "event2/event.h"), ("thread", "lmdb.h"),
                             ("wire", "msgpack.h"), ("wire", "msgpack/pack.h"),
                             ("server", "jansson.h"), ("thread", "sys/socket.h"),
                             ("wire", "netinet/tcp.h"),
                             ("cli", "sodium.h")):
            with self.subTest(room=room, header=header):
                self.caught(lint.layers, *self.include(room, "<%s>" % header), header)
        for room, header in (("net", "event2/event.h"), ("store", "lmdb.h"),
                             ("client", "msgpack.h"), ("cli", "jansson.h"),
                             ("client", "jansson.h"), ("client", "sodium.h"),
                             ("client", "sys/socket.h"), ("wire", "string.h")):
            with self.subTest(room=room, header=header):
                self.passes(lint.layers, *self.include(room, "<%s>" % header))

    def test_path_from_the_root_of_src(self):
        self.caught(lint.layers, *self.include("base", '"bytes.h"'), "path from src/")
        self.caught(lint.layers, *self.include("server", '"rethread.h"'), "rethread.h")

    def test_no_other_rooms(self):
        self.caught(lint.layers, "src/attic/x.c", "/* x */\n", "rooms")
        self.caught(lint.layers, "src/x.c", "/* x */\n", "rooms")

    def test_public_header(self):
        self.caught(lint.layers, "include/rethread.h", '#include "base/bytes.h"\n', "public header")


HEADER = """/* A comment that says bad_name(x); */
#ifndef NET_CONN_H
#define NET_CONN_H
#define MACRO(x) \\
    other_name(x);
#ifdef __cplusplus
extern "C" {
#endif
typedef void (*done_fn)(int code);
struct owner {
    void (*call)(int code);
};
int conn_open(int fd) __attribute__((warn_unused_result));
__attribute__((format(printf, 1, 2))) void net_say(const char *form, ...);
static inline int owner_call(struct owner *owner)
{
    owner->call(1);
    return helper(2);
}
extern const char *const conn_names[];
_Static_assert(sizeof(int) == 4, "int");
%s
#ifdef __cplusplus
}
#endif
#endif
"""


class Naming(Sample):
    def test_good_names(self):
        self.passes(lint.naming, "src/net/conn.h", HEADER % "")
        self.passes(lint.naming, "src/thread/records.h", "int record_one(void);\nint thread_a(void);\n")

    def test_bad_names(self):
        for bad in ("int open_it(int fd);", "struct owner *get_owner(void);",
                    "static inline int twice(int x)\n{\n    return conn_open(x);\n}",
                    "extern int count;", "extern const char *const names[4];",
                    "void\nlost_it(int fd,\n        int other);"):
            with self.subTest(bad=bad):
                self.caught(lint.naming, "src/net/conn.h", HEADER % bad, "does not start with")

    def test_public_header(self):
        self.passes(lint.naming, "include/rethread.h", "int rethread_open(void);\n")
        self.caught(lint.naming, "include/rethread.h", "struct reth;\nint reth_open(void);\n", "reth_open")


class Banned(Sample):
    def test_each(self):
        for name in lint.BANNED:
            with self.subTest(name=name):
                self.caught(lint.banned, "src/base/x.c", "int x;\n    %s(a);\n" % name, name,
                            "src/base/x.c:2:")

    def test_ndebug(self):
        self.caught(lint.banned, "src/base/x.c", "# define NDEBUG\n", "assertions")

    def test_others(self):
        self.passes(lint.banned, "src/base/x.c", '/* strcpy( */ my_strcpy(a);\nputs("rand()"); // gets()\n')

    def test_locks(self):
        for call in ("pthread_mutex_lock(&m);", "pthread_rwlock_rdlock(&l);", "sem_wait(&s);",
                     "mtx_lock(&m);", "pthread_spin_lock(&s);"):
            with self.subTest(call=call):
                self.caught(lint.locks, "src/thread/x.c", "/* x */\n" + call + "\n", "without locks",
                            "src/thread/x.c:2:")
                self.passes(lint.locks, "src/server/x.c", call + "\n")


class Size(Sample):
    def test_file(self):
        self.passes(lint.length, "src/base/x.c", "int x;\n" * lint.FILE_LINES)
        self.caught(lint.length, "src/base/x.c", "int x;\n" * (lint.FILE_LINES + 1), "lines")
        self.caught(lint.length, "include/rethread.h", "int x;\n" * (lint.FILE_LINES + 1), "lines")

    def test_function(self):
        body = "static int x_long(int a,\n                  int b)\n{\n%s}\n"
        self.write("src/base/x.c", body % ("    a++;\n" * lint.FUNCTION_LINES))
        self.assertEqual(list(lint.long_functions(self.root)), [])
        self.write("src/base/x.c", body % ("    a++;\n" * (lint.FUNCTION_LINES + 1)))
        advice = list(lint.long_functions(self.root))
        self.assertEqual(len(advice), 1)
        self.assertIn("src/base/x.c:3: x_long", advice[0])


class Text(Sample):
    def test_unfinished(self):
        for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X"):
            with self.subTest(word=word):
                self.caught(lint.text, "src/base/x.c", "int x;\n/* %s: later */\n" % word, word,
                            "src/base/x.c:2:")
                self.caught(lint.text, "README.md", "%s\n" % word, word)

    def test_blanks(self):
        self.caught(lint.text, "schema/errors.def", "a\nb \n", "blanks", "schema/errors.def:2:")
        self.caught(lint.text, "Makefile", "all:\t\n", "blanks")
        self.caught(lint.text, "src/base/x.c", "int x;", "newline")

    def test_good(self):
        self.passes(lint.text, "src/base/x.c", "int x; /* all of it */\n")


class Mirror(Sample):
    def test_missing_test(self):
        self.caught(lint.mirror, "src/base/x.c", "int x;\n", "tests/base/test_x.c")

    def test_present_test(self):
        self.write("tests/base/test_x.c", "")
        self.passes(lint.mirror, "src/base/x.c", "int x;\n")

    def test_register(self):
        register = "tests/lint/untested.txt"
        self.write("src/base/x.c", "int x;\n")
        self.passes(lint.mirror, register, "# why\n\nsrc/base/x.c: tests/base/test_y.c drives it\n")
        self.caught(lint.mirror, register, "src/base/x.c:\n", "reason")
        self.write("tests/base/test_x.c", "")
        self.caught(lint.mirror, register, "src/base/x.c: tests/base/test_y.c drives it\n", "by now")
        self.caught(lint.mirror, register, "src/base/z.c: tests/base/test_y.c drives it\n", "does not exist")


class Tools(Sample):
    @needs("cppcheck")
    def test_static_analysis(self):
        self.passes(lint.static_analysis, "src/base/x.c", "int x_one(void)\n{\n    return 1;\n}\n")
        self.caught(lint.static_analysis, "src/base/x.c",
                    "int x_one(int n)\n{\n    int a[2] = {n, n};\n    return a[2];\n}\n", "arrayIndex")

    @needs("/usr/bin/mypy")
    def test_types(self):
        self.passes(lint.types, "src/client/python/a/__init__.py", "def one() -> int:\n    return 1\n")
        self.caught(lint.types, "src/client/python/a/__init__.py", "def one():\n    return 1\n", "no-untyped-def")

    def test_python(self):
        self.passes(lint.python, "tests/base/test_x.py", "x = 1\n")
        self.caught(lint.python, "tests/base/test_x.py", "x = 1\nx =\n", "syntax", "tests/base/test_x.py:2:")

    def test_a_tool_that_is_not_there(self):
        self.assertEqual(lint.tool("no-such-tool", root=self.root)[0], 1)

    def test_reference(self):
        self.passes(lint.reference, "schema/reference.md", "anything, while there is no server\n")
        self.write("build/rethread-server", "#!/bin/sh\nprintf 'one\\ntwo\\n'\n", 0o755)
        self.passes(lint.reference, "schema/reference.md", "one\ntwo\n")
        self.caught(lint.reference, "schema/reference.md", "one\n2\n", "differs", "schema/reference.md:2:")
        self.caught(lint.reference, "schema/reference.md", "one\n", "differs", "schema/reference.md:2:")
        self.caught(lint.reference, "schema/reference.md", "one\ntwo\n3\n", "differs", "schema/reference.md:3:")
        self.write("build/rethread-server", "#!/bin/sh\necho unknown option; exit 2\n", 0o755)
        self.caught(lint.reference, "schema/reference.md", "one\ntwo\n", "unknown option")

    @needs("gcc", "nm")
    def test_exports(self):
        def build(text):
            source = self.write("x.c", text)
            (self.root / "build").mkdir(exist_ok=True)
            subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(self.root / "build/librethread.so"),
                            str(source)], check=True)
        build("int rethread_open(void) { return 1; }\n")
        self.assertEqual(lint.exports(self.root), [])
        build("int rethread_open(void) { return 1; }\nint bytes_add(void) { return 1; }\n")
        self.assertEqual(lint.exports(self.root), ["build/librethread.so:1: exports bytes_add"])


class Warnings(Sample):
    """What the Makefile compiles for lint."""

    def compiles(self, compiler, text):
        shutil.copy(ROOT / "Makefile", self.root / "Makefile")
        self.write("src/base/x.c", text)
        done = subprocess.run(["make", "-s", "-C", str(self.root), "build/lint/%s/src/base/x.o" % compiler],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env={**os.environ, "MAKEFLAGS": "", "LC_ALL": "C"})
        return done.returncode == 0, done.stdout

    def both(self, text, warning):
        for compiler in ("gcc", "clang"):
            with self.subTest(compiler=compiler):
                if not shutil.which(compiler):
                    self.skipTest("not installed: " + compiler)
                fine, output = self.compiles(compiler, text)
                self.assertEqual(fine, warning is None, output)
                self.assertIn(warning or "", output)

    def test_good(self):
        self.both("int x_one(void);\nint x_one(void)\n{\n    return 1;\n}\n", None)

    def test_function_that_no_header_declares(self):
        self.both("int x_one(void)\n{\n    return 1;\n}\n", "missing-prototypes")

    def test_conversion(self):
        self.both("short x_one(int a);\nshort x_one(int a)\n{\n    return a;\n}\n", "conversion")

    def test_shadow(self):
        self.both("int x_one(int a);\nint x_one(int a)\n{\n    {\n        int a = 2;\n        (void)a;\n"
                  "    }\n    return a;\n}\n", "shadow")


if __name__ == "__main__":
    unittest.main()
