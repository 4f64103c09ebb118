"""The documentation: links, command lines, length, and plain English in the whole repository."""

import ast
import io
import json
import re
import runpy
import shlex
import subprocess
import sys
import tokenize
from contextlib import redirect_stdout
from functools import lru_cache
from pathlib import Path

import pytest
from helpers import ROOT

README_WORDS = 2200
# Options of other programs that the documentation mentions.
FOREIGN_FLAGS = {"cpu", "multi_gpu", "num_processes", "signal"}

# Mannered phrases, and ordinary uses of the same words that are allowed.
UNITS = (
    r"(?:step|clip|frame|line|process|batch|epoch|rate|layer|sentence|stage|worker|core|token|character|run)"
)
NOUN = r"(?!(?:of|in|on|to|for|per|with|from|by|at|as|and|or|than|over|like|after|before|if) )[a-z-]+(?<!s)"
MANNERED = {
    r"\bgives\b|^Give\b": r"gives up\b",
    rf"\b(?:one|an?|each|\d[\d.,]*)(?: {NOUN}){{1,2}} an? {UNITS}\b": None,
    rf"\b(?:steps|clips|frames|segments|samples|tokens|seconds|bytes|rows|lines|files) an? {UNITS}\b": None,
    r"(?<!there )\b(?:is|are|was|were) no [a-z]+": r"[a-z]+ no (?:longer|more|less|larger|smaller)\b",
    r"\bwith its reason\b": None,
    r"\b(?:replaced|made|written|read|taken) as one\b": None,
    r"\bit finds\b": None,
    r"\bfor both sides\b": None,
    r"\bcom(?:es?|ing) along\b": None,
    r"\bmend(?:s|ed|ing)?\b": None,
    r"\b(?:anew|likewise|beside|told|said)\b": None,
    r"\b(?:stands?|stood) (?:in|beside|there|by)\b": None,
    r"\b(?:lies?|lay) (?:in|on|beside|there|by|at|behind)\b": None,
    r"\bgo(?:es|ing)? on\b": None,
    r"\bso (?:many|much)\b": r"so (?:many|much) that\b",
    r"\bwhich the [a-z]+'s is\b": None,
}


def tracked(*patterns: str) -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("needs a git checkout")
    return [ROOT / name for name in sorted(set(listed.stdout.split())) if (ROOT / name).is_file()]


def documents() -> list[Path]:
    return tracked("*.md")


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= README_WORDS


def test_the_table_of_presets_is_complete():
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \| \d+ Hz", text, re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "configs").glob("*.json"))


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub creates for the headings of a Markdown file."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_relative_links_and_anchors_resolve():
    broken = []
    for document in documents():
        for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            path = document.parent / name if name else document
            if not path.exists() or (anchor and anchor not in anchors(path)):
                broken.append(f"{document.relative_to(ROOT)}: {target}")
    assert broken == []


def commands(text: str) -> list[list[str]]:
    """Return the words of each command line in the bash blocks of a Markdown file."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        if re.match(r"(?:python|accelerate launch|torchrun|srun torchrun)\b", line):
            found.append(shlex.split(line.replace("$(", "("), comments=True))
    return found


def program(words: list[str]) -> str | None:
    """Return the script or module that a command line runs, with its subcommand: "checkpoint convert"."""
    for index, word in enumerate(words):
        if word == "-m":
            subcommand = words[index + 2] if words[index + 1] == "checkpoint" else ""
            return f"{words[index + 1]} {subcommand}".strip()
        if word.endswith(".py"):
            return word
    return None


@lru_cache
def flags_of(name: str) -> frozenset[str]:
    """Return the flags in the --help of a script or module, which runs in this process."""
    module, *subcommand = name.split()
    text = io.StringIO()
    arguments, sys.argv = sys.argv, [module, *subcommand, "--help"]
    try:
        with redirect_stdout(text), pytest.raises(SystemExit):
            if module.endswith(".py"):
                runpy.run_path(str(ROOT / module), run_name="__main__")
            else:
                runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        sys.argv = arguments
    return frozenset(re.findall(r"(?<![\w-])--\w+", text.getvalue()))


def flags_after(name: str, words: list[str]) -> list[str]:
    """Return the flags in `words` that belong to the program, not to its launcher."""
    start = words.index(name.split()[0])
    return [word.partition("=")[0] for word in words[start:] if re.match(r"--\w", word)]


def is_ours(name: str) -> bool:
    path = ROOT / name.split()[0].replace(".", "/")
    return name.endswith(".py") or path.is_dir() or path.with_suffix(".py").is_file()


def missing_flags(text: str) -> list[str]:
    """Return "program --flag" for each flag in the commands of a Markdown file that does not exist."""
    missing = []
    for words in commands(text):
        name = program(words)
        if name and is_ours(name):
            missing += [f"{name} {flag}" for flag in flags_after(name, words) if flag not in flags_of(name)]
    return missing


@pytest.mark.parametrize(
    "document", ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_flag_of_a_documented_command_exists(document):
    assert missing_flags((ROOT / document).read_text(encoding="utf-8")) == []


def test_every_flag_of_the_agreed_commands_exists(shared):
    assert missing_flags((shared / "commands.md").read_text(encoding="utf-8")) == []


def test_every_flag_named_in_prose_exists():
    scripts = [
        "train.py",
        "tacotron2.train",
        "inference.py",
        "evaluate.py",
        "save_taco_mels.py",
        "prep_splits.py",
        "app.py",
    ]
    scripts += ["scripts/make_corpus.py", "checkpoint convert", "checkpoint export"]
    known = {flag for script in scripts for flag in flags_of(script)} | {
        f"--{name}" for name in FOREIGN_FLAGS
    }
    missing = []
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        missing += [f"{path.name}: {flag}" for flag in re.findall(r"`(--\w+)", prose) if flag not in known]
    assert missing == []


def prose_of(path: Path) -> list[str]:
    """Return the texts of a file that people read: paragraphs of Markdown; comments and strings of Python.

    Of tests, only comments and docstrings: their strings are also text to speak and messages of others.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return re.split(r"\n\s*\n", text)
    if path.suffix == ".ipynb":
        return ["".join(cell["source"]) for cell in json.loads(text)["cells"]]
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    comments = [
        (token.start[0], token.string.lstrip("# ")) for token in tokens if token.type == tokenize.COMMENT
    ]
    paragraphs, last = [], -1
    for line, comment in comments:  # consecutive lines are one paragraph
        paragraphs = (
            [*paragraphs[:-1], f"{paragraphs[-1]} {comment}"] if line == last + 1 else [*paragraphs, comment]
        )
        last = line
    tree = ast.parse(text)
    if path.is_relative_to(ROOT / "tests"):
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
        docstrings = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
        return paragraphs + [docstring for docstring in docstrings if docstring]
    parts = (ast.Constant, ast.JoinedStr)
    strings = []
    for node in ast.walk(tree):
        if isinstance(node, parts):
            pieces = node.values if isinstance(node, ast.JoinedStr) else [node]
            values = [piece.value if isinstance(piece, ast.Constant) else "{}" for piece in pieces]
            strings.append("".join(value for value in values if isinstance(value, str)))
    return paragraphs + [string for string in strings if " " in string]


def mannered_phrases(text: str) -> list[str]:
    """Return the mannered phrases outside quotation marks and backticks, with their surroundings."""
    text = re.sub(r"\s+", " ", re.sub(r"\"[^\"\n]*\"|`[^`\n]*`", "…", text)).strip()
    found = []
    for pattern, allowed in MANNERED.items():
        for match in re.finditer(pattern, text, re.IGNORECASE):
            if not (allowed and re.match(allowed, text[match.start() :], re.IGNORECASE)):
                found.append(text[max(0, match.start() - 30) : match.end() + 30])
    return found


@pytest.mark.parametrize(
    ("text", "is_mannered"),
    [
        ("Gives the mean of both.", True),
        ("one JSON object a step", True),
        ("2,000 clips a second, or 3 steps a clip", True),
        ("it is no checkpoint", True),
        ("there is no checkpoint; it is no longer there", False),
        ("The voice that comes along goes on anew.", True),
        ("one JSON object per step", False),
        ("continues with the next step of a batch", False),
    ],
)
def test_mannered_phrases_are_recognized(text, is_mannered):
    assert bool(mannered_phrases(text)) == is_mannered


def test_prose_is_plain_english():
    here = Path(__file__)
    found = [
        f"{path.relative_to(ROOT)}: {phrase}"
        for path in tracked("*.md", "*.py", "*.ipynb")
        if path != here
        for text in prose_of(path)
        for phrase in mannered_phrases(text)
    ]
    assert found == []


def test_no_file_contains_a_path_of_one_machine():
    found = [
        f"{path.relative_to(ROOT)}: {match}"
        for path in tracked("*.md", "*.py", "*.ipynb", "*.json", "*.sh", "*.toml", "*.txt", "*.cff")
        for match in re.findall(
            r"(?<![\w.])/(?:root|home|work|tmp)/[a-z]\S*", path.read_text(encoding="utf-8")
        )
    ]
    assert found == []
