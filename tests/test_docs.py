"""The documentation agrees with the code: links, commands, flags and presets exist, and it stays short."""

import io
import json
import re
import runpy
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from functools import lru_cache
from pathlib import Path

import pytest
from helpers import ROOT, repository_address

from training import official

README_WORDS = 1600
ALL_WORDS = 9000  # README, CONTRIBUTING and docs/, without the generated configuration.md
AUDIO_BYTES = 600_000
SAMPLES_BYTES = 1_500_000
# Options of other programs that the documentation mentions.
FOREIGN_FLAGS = {"cpu", "multi_gpu", "num_processes", "signal"}
OFFICIAL_FLAGS = {*official.FLAGS, *official.OTHERS}  # which train.py understands, and --help does not list


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


def test_the_documentation_is_short():
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    paths.remove(ROOT / "docs" / "configuration.md")
    tokens = [token for path in paths for token in path.read_text(encoding="utf-8").split()]
    assert sum(any(map(str.isalnum, token)) for token in tokens) <= ALL_WORDS  # bars of tables are no words


def test_the_samples_are_small_and_each_is_linked_from_the_readme():
    samples = sorted((ROOT / "docs" / "audio").iterdir())
    assert sum(path.stat().st_size for path in samples) <= AUDIO_BYTES
    links = re.findall(r"\]\((docs/audio/[^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert sorted(links) == [str(path.relative_to(ROOT)) for path in samples]


def test_the_changelog_begins_with_the_version_of_pyproject():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == version


def test_the_badge_and_the_notebook_have_the_address_in_pyproject():
    badge = repository_address().replace("https://github.com", "https://colab.research.google.com/github")
    assert f"]({badge}/blob/main/inference.ipynb)" in (ROOT / "README.md").read_text(encoding="utf-8")
    cells = json.loads((ROOT / "inference.ipynb").read_text(encoding="utf-8"))["cells"]
    assert f'REPOSITORY = "{repository_address()}"' in "".join(cells[1]["source"])


def test_the_samples_page_is_small_and_loads_nothing():
    page = ROOT / "docs" / "samples.html"
    assert page.stat().st_size <= SAMPLES_BYTES
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"<audio\b[^>]* src=\"data:audio/mpeg;base64,", text)) >= 12
    assert re.search(r"""(?:src|href)=["'](?!data:|#)""", text) is None


def test_the_hosted_tests_cover_every_python_from_the_oldest_supported_one():
    oldest = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())[1]
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    versions = [int(minor) for minor in re.findall(r'"3\.(\d+)"', workflow)]
    assert versions == list(range(int(oldest), 15))


def test_every_figure_is_shown():
    text = "".join(path.read_text(encoding="utf-8") for path in documents())
    assert [path.name for path in (ROOT / "docs").glob("*.png") if path.name not in text] == []


def test_the_readme_maps_every_file_and_folder_of_the_top_level():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Map of the files")[2].partition("\n## ")[0]
    mapped = re.findall(r"`([\w./]+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE)))
    names = {path.relative_to(ROOT).parts[0] for path in tracked("*/*.py", "*/*.json", "*.ipynb")}
    scripts = {path.name for path in ROOT.glob("*.py") if path in tracked("*.py")}
    expected = scripts | {f"{name}/" if (ROOT / name).is_dir() else name for name in names}
    assert sorted(expected - set(mapped)) == []
    assert [name for name in mapped if not (ROOT / name).exists()] == []


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
    own = set(re.findall(r"(?<![\w-])--\w+", text.getvalue()))
    return frozenset(own | OFFICIAL_FLAGS) if module == "train.py" else frozenset(own)


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


def without_values(text: str) -> list[str]:
    """Return the words of the tutorial's commands, without the paths that users choose."""
    long = [
        " ".join(words)
        for words in commands(text)
        if "--path_to_save" in words or "--training_epochs" in words
    ]
    chosen = r"<\w+>|splits/\w+\.csv|mels\b(?!_)|work_dir/\w+/final_checkpoint"
    return [re.sub(rf"(?<= )(?:{chosen})(?= |$)", "…", line) for line in long]


def test_the_tutorial_has_the_agreed_commands_verbatim(shared):
    agreed = without_values((shared / "commands.md").read_text(encoding="utf-8"))
    tutorial = without_values((ROOT / "README.md").read_text(encoding="utf-8"))
    names = ("hifigan", "hifigan_finetune_taco", "tacotron2")
    wanted = [line for line in agreed if any(f"--experiment_name {name} " in line for name in names)]
    wanted += [line for line in agreed if line.startswith("python save_taco_mels.py --path_to_manifest … … ")]
    assert len(wanted) == 4
    assert [line for line in wanted if line not in tutorial] == []


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
        if path.name == "coming_from.md":  # the first column has other projects' commands
            prose = re.sub(r"^\| .*? \| ", "| ", prose, flags=re.MULTILINE)
        missing += [f"{path.name}: {flag}" for flag in re.findall(r"`(--\w+)", prose) if flag not in known]
    assert missing == []


def test_no_file_contains_a_path_of_one_machine():
    found = [
        f"{path.relative_to(ROOT)}: {match}"
        for path in tracked("*.md", "*.py", "*.ipynb", "*.json", "*.sh", "*.toml", "*.txt", "*.cff")
        for match in re.findall(
            r"(?<![\w.])/(?:root|home|work|tmp)/[a-z]\S*", path.read_text(encoding="utf-8")
        )
    ]
    assert found == []
