#!/usr/bin/env python3
"""House rules that no compiler checks.

    lint.py ROOT          check the tree under ROOT
    lint.py --self-test   check that every rule fires on a bad file and
                          stays silent on a good one

Prints "file:line: rule: message" for every violation and a closing line
"N passed, N failed", counted in files.  Rules: includes (see includes.txt),
header, length, words, version, library, prefix, ereport.
"""
import fnmatch
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MAX_FILE, MAX_TEST_FILE, MAX_FUNCTION, MAX_HEADER = 700, 1000, 120, 25
SOURCE = (".c", ".h", ".cu", ".cuh")
PRODUCT = ("src/", "bgworker/", "kernels/")

WORDS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
PATHS = re.compile(r"(?<![\w.])/(?:work|root|home)/\w")
VERSION = re.compile(r"\bPG_VERSION_NUM\b|\bPG_MAJORVERSION_NUM\b")
FORBIDDEN_CALL = re.compile(
    r"(?<![\w.>])(exit|_exit|abort|printf|puts|perror|alloca|gets|strcpy|strcat|sprintf|strtok"
    r"|atoi|atol|atof|system|popen)\s*\(")
FORBIDDEN_PRINT = re.compile(r"\bf?printf\s*\(\s*(stderr|stdout)|\bfputs\s*\([^;]*\b(stderr|stdout)\s*\)")
FORBIDDEN_ALLOC = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|strdup)\s*\(")
# A definition in BSD layout: the name starts a line, the line above is the type.
DEFINITION = re.compile(r"^([A-Za-z_]\w*)\(")
PUBLIC_NAME = re.compile(
    r"^(dsocr_|Dsocr|main$|_PG_init$|PG_FUNCTION_INFO_V1$|LLVMFuzzer|DSOCR_)")


def strip(text):
    """Blank out comments and literals, keeping every line where it is."""
    pattern = re.compile(
        r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def read_include_rules():
    rules = []
    for line in open(os.path.join(HERE, "includes.txt")):
        line = line.split("#")[0].strip()
        if line:
            files, allowed = line.split(":")
            rules.append((files.strip(), allowed.split()))
    return rules


def own_headers(tracked):
    return {os.path.basename(f)[:-2] for f in tracked if f.endswith(".h")}


class File:
    def __init__(self, root, path):
        self.path = path
        with open(os.path.join(root, path), encoding="utf-8") as f:
            self.text = f.read()
        self.code = strip(self.text)
        self.lines = self.code.split("\n")
        self.found = []

    def report(self, line, rule, message):
        self.found.append((line, rule, f"{self.path}:{line}: {rule}: {message}"))

    def is_library(self):
        """Linked into the engine or the module, not a program of its own."""
        name = os.path.basename(self.path)
        return self.path.startswith(("src/engine/", "kernels/")) and not re.match(
            r"main\.|cli_|check[_.]|fault\.h", name)


def rule_includes(f, rules, headers):
    stem = os.path.splitext(f.path)[0]
    engine = f.path.startswith(("src/engine/", "kernels/"))
    for number, line in enumerate(f.text.split("\n"), 1):
        m = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
        if not m:
            continue
        quoted, name = m.group(1) == '"', m.group(2)
        if engine and re.match(r"(postgres|c\.h|libpq/|utils/|storage/|access/|nodes/|fmgr)", name):
            f.report(number, "includes", f"the engine must not include PostgreSQL's {name}")
        if not quoted or not name.endswith(".h"):
            continue
        target = name[:-2]
        # PostgreSQL's own are written with quotes as well; some have the name of one of ours.
        if os.path.basename(target) not in headers or re.match(r"(storage|utils|access|nodes)/", target):
            continue
        if os.path.basename(target) == os.path.basename(stem):
            continue
        for pattern, allowed in rules:
            if fnmatch.fnmatch(stem, pattern):
                if not any(fnmatch.fnmatch(target, a) for a in allowed):
                    f.report(number, "includes", f"{f.path} must not include {name}")
                break
        else:
            f.report(number, "includes", "no line in includes.txt is about this file")


def rule_header(f):
    """The comment on top names the file and says what it is for."""
    m = re.match(r"/\*-{20,}\n \*\n \* ([\w.-]+)\n(.*?)\*/", f.text, re.S)
    if not m:
        f.report(1, "header", "no header comment /*---- with the file's name and purpose")
    elif m.group(1) != os.path.basename(f.path):
        f.report(3, "header", f"header comment names {m.group(1)}")
    elif m.group(0).count("\n") + 1 > MAX_HEADER:
        f.report(1, "header", f"header comment has more than {MAX_HEADER} lines")
    elif not re.search(r"\w{3}", m.group(2)):
        f.report(4, "header", "header comment does not say what the file is for")


def rule_length(f):
    count = f.text.count("\n")
    limit = MAX_FILE if f.path.startswith(PRODUCT) else MAX_TEST_FILE
    if count > limit:
        f.report(count, "length", f"{count} lines, at most {limit}")
    start = None
    for number, line in enumerate(f.lines, 1):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start is not None:
            if number - start - 1 > MAX_FUNCTION and not line.rstrip().endswith(";"):
                f.report(start, "length",
                         f"function of {number - start - 1} lines, at most {MAX_FUNCTION}")
            start = None


def rule_words(f):
    for number, line in enumerate(f.text.split("\n"), 1):
        m = WORDS.search(line)
        if m:
            f.report(number, "words", f"unfinished: {m.group()}")
        if PATHS.search(line):
            f.report(number, "words", "a path of one machine")


def rule_version(f):
    if f.path == "src/compat.h":
        return
    for number, line in enumerate(f.lines, 1):
        if VERSION.search(line):
            f.report(number, "version", "server versions are told apart in src/compat.h only")


def rule_library(f):
    """Library code neither ends the process nor prints nor allocates by itself."""
    if not f.is_library():
        return
    for number, line in enumerate(f.lines, 1):
        m = FORBIDDEN_CALL.search(line)
        if m and not re.match(r"\s*(extern|static)", line):
            f.report(number, "library", f"{m.group(1)}() in library code")
        if FORBIDDEN_PRINT.search(line):
            f.report(number, "library", "printing in library code")
        m = FORBIDDEN_ALLOC.search(line)
        if m and os.path.basename(f.path) != "base.c":
            f.report(number, "library", f"{m.group(1)}(): use dsocr_alloc and dsocr_free")


def rule_prefix(f):
    """Functions seen by other files carry the prefix; all others are static."""
    if not f.path.endswith(".c"):
        return
    for number, line in enumerate(f.lines, 1):
        m = DEFINITION.match(line)
        if not m or line.rstrip().endswith(";") or number < 2:
            continue
        above = f.lines[number - 2].strip()
        if re.search(r"\b(static|[A-Z_]*INLINE)\b", above) or above == "" or above.endswith((";", ")", ",")):
            continue
        if above.startswith("#") or not re.match(r"[A-Za-z_]", above):
            continue
        if not PUBLIC_NAME.match(m.group(1)):
            f.report(number, "prefix", f"{m.group(1)} is neither static nor dsocr_...")


def rule_ereport(f):
    """An error for users has an SQLSTATE."""
    for m in re.finditer(r"\bereport\s*\(\s*(ERROR|FATAL)\b", f.code):
        end = f.code.find(";", m.start())
        if "errcode" not in f.code[m.start():end]:
            f.report(f.code.count("\n", 0, m.start()) + 1, "ereport", "no errcode")


def check(root, path, rules, headers):
    f = File(root, path)
    product = path.startswith(PRODUCT)
    rule_words(f)
    if path.endswith(SOURCE):
        rule_includes(f, rules, headers)
        rule_header(f)
        rule_length(f)
        rule_version(f)
        if product:
            rule_library(f)
            rule_prefix(f)
            rule_ereport(f)
    return f.found


def tracked_files(root):
    """What git knows, or in an unpacked archive everything but build output."""
    try:
        out = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard"],
                             capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        out = []
        for folder, dirs, names in os.walk(root):
            dirs[:] = [d for d in dirs if d not in ("build", ".git", "results", "tmp_check")]
            out += [os.path.relpath(os.path.join(folder, n), root) for n in names]
    return sorted(f for f in out if f and os.path.isfile(os.path.join(root, f)))


VERSIONS = {
    "Makefile": r"^DSOCR_VERSION = (\S+)",
    "dsocr.control": r"^default_version = '(.+)'",
    "src/dsocr.h": r'#define DSOCR_VERSION "(.+)"',
    "src/engine/cli.h": r'#define DSOCR_VERSION "(.+)"',
    "META.json": r'"version": "([^"]+)"',
    "CHANGELOG.md": r"^## (\S+)",
}


def versions_agree(root):
    """The release is named alike wherever it is named."""
    found = {}
    for path, pattern in VERSIONS.items():
        m = re.search(pattern, open(os.path.join(root, path), encoding="utf-8").read(), re.M)
        found[path] = m.group(1) if m else "none"
    if len(set(found.values())) == 1:
        return True
    print("version: " + ", ".join(f"{path} says {version}" for path, version in found.items()))
    return False


def lint(root):
    tracked = tracked_files(root)
    rules, headers = read_include_rules(), own_headers(tracked)
    passed = int(versions_agree(root))
    failed = 1 - passed
    for path in tracked:
        if not path.endswith(SOURCE + (".sql", ".mk", ".pl", ".pm", ".py")):
            continue
        if path.startswith(("test/lint/", "build/")):
            continue
        found = check(root, path, rules, headers)
        for _, _, message in sorted(found):
            print(message)
        passed, failed = passed + (not found), failed + bool(found)
    print(f"{passed} passed, {failed} failed")
    return failed == 0 and passed > 0


def self_test():
    """Files in bad/ say what must be found: "expect: RULE" on the very line,
    "expect-file: RULE" for a rule about the whole file."""
    rules = read_include_rules()
    headers = {"base", "request", "backend", "encoder", "queue", "dsocr", "engine"}
    root = os.path.join(HERE, "bad")
    passed = failed = 0
    for path in sorted(os.path.relpath(os.path.join(d, n), root)
                       for d, _, names in os.walk(root) for n in names):
        text = open(os.path.join(root, path)).read()
        expected = {(n, m.group(1)) for n, line in enumerate(text.split("\n"), 1)
                    for m in re.finditer(r"expect: (\w+)", line)}
        anywhere = set(re.findall(r"expect-file: (\w+)", text))
        found = check(root, path, rules, headers)
        lines = {(n, rule) for n, rule, _ in found}
        wrong = [f"{path}:{n}: {r} did not fire" for n, r in expected - lines]
        wrong += [f"{path}:{n}: {r} fired" for n, r in lines - expected if r not in anywhere]
        wrong += [f"{path}: {r} did not fire" for r in anywhere - {r for _, r in lines}]
        print("\n".join(wrong), end="\n" if wrong else "")
        passed, failed = passed + (not wrong), failed + bool(wrong)
    print(f"{passed} passed, {failed} failed")
    return failed == 0 and passed >= 8


if __name__ == "__main__":
    ok = self_test() if sys.argv[1:] == ["--self-test"] else lint(sys.argv[1])
    sys.exit(0 if ok else 1)
