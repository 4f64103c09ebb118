"""The layers of the modules: imports only from lower layers, never from scripts, and without cycles."""

import ast
import subprocess
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from helpers import ROOT

# A module belongs to the layer of its longest prefix in this list.
LAYERS = {
    "utils": 1,
    "audio": 2,
    "plots": 2,
    "tacotron2.mel": 2,
    "streaming": 3,
    "vocos": 3,
    "config": 3,
    "model": 3,
    "losses": 3,
    "tacotron2": 3,
    "tacotron2.config": 3,
    "tacotron2.model": 3,
    "tacotron2.losses": 3,
    "tacotron2.text": 3,
    "corpus": 4,
    "manifest": 4,
    "dataset": 4,
    "tacotron2.dataset": 4,
    "tacotron2.speak": 4,
    "checkpoint": 4,
    "training": 5,
    "synthesis": 5,
    "evaluation": 6,
    "prep_splits": 7,
    "save_taco_mels": 7,
    "train": 7,
    "inference": 7,
    "evaluate": 7,
    "tacotron2.train": 7,
    "tacotron2.fit_postfilter": 7,
    "app": 7,
    "scripts": 7,
    "benchmarks": 7,
}
SCRIPTS = 7
# Parts of one layer that do not import each other.
STRANGERS = [("dataset", "checkpoint"), ("tacotron2.dataset", "checkpoint"), ("training", "synthesis")]
# Benchmarks may import the script that they measure.
EXCEPTIONS = {
    ("benchmarks.train_step", "train"),
    ("benchmarks.gpu", "benchmarks.train_step"),
    ("benchmarks.gpu", "tacotron2.train"),
}


def module_name(path: str) -> str:
    return ".".join(Path(path).with_suffix("").parts).removesuffix(".__init__")


def tracked_modules() -> dict[str, Path]:
    """Return every module of the repository except the tests, by name."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("needs a git checkout")
    paths = [path for path in listed.stdout.split() if (ROOT / path).is_file()]
    return {module_name(path): ROOT / path for path in paths if not path.startswith("tests/")}


def imports_of(path: Path, modules: set[str]) -> set[str]:
    """Return the repository's modules that a file imports, including in functions and under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is a relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in modules else node.module)
    return found & modules


def layer(module: str) -> int:
    name = module
    while name not in LAYERS:
        assert "." in name, f"{module} has no layer: add it to LAYERS"
        name = name.rpartition(".")[0]
    return LAYERS[name]


def belongs_to(module: str, part: str) -> bool:
    return module == part or module.startswith(f"{part}.")


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """Return the imports of each module."""
    modules = tracked_modules()
    return {name: imports_of(path, set(modules)) for name, path in modules.items()}


def test_modules_import_only_lower_layers_and_no_scripts(graph):
    wrong = [
        f"{module} (layer {layer(module)}) imports {imported} (layer {layer(imported)})"
        for module, imports in graph.items()
        for imported in imports
        if layer(imported) > layer(module)
        or (layer(imported) == SCRIPTS and (module, imported) not in EXCEPTIONS)
    ]
    assert wrong == []


def test_independent_parts_of_a_layer_do_not_import_each_other(graph):
    wrong = [
        f"{module} imports {imported}"
        for module, imports in graph.items()
        for imported in imports
        for one, other in STRANGERS
        if (belongs_to(module, one) and belongs_to(imported, other))
        or (belongs_to(module, other) and belongs_to(imported, one))
    ]
    assert wrong == []


def test_there_are_no_import_cycles(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")
