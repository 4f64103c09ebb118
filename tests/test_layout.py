"""The layers of the packages: imports only from the own layer or lower ones, without cycles."""

import ast
import subprocess
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from helpers import ROOT

# Packages and top-level modules, from the lowest layer to the scripts.
LAYERS = (
    {"common"},
    {"config", "mel", "text"},
    {"losses", "generators", "model"},
    {"corpus", "dataset"},
    {"tacotron2"},
    {"checkpoint"},
    {"training", "synthesis"},
    {"evaluation", "listening", "webpage"},
    {"train", "save_taco_mels", "prep_splits", "inference", "evaluate", "app", "hubconf", "inference_e2e"},
)
SCRIPTS = LAYERS[-1]
MAINTENANCE = {"scripts", "benchmarks", "dev"}  # may import everything, and nothing imports them
# The command line `accelerate launch -m tacotron2.train` is fixed, so this script is inside a package.
SCRIPT_IN_PACKAGE = "tacotron2.train"


def tracked_modules() -> dict[str, Path]:
    """Return every module of the repository except the tests, by name."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("needs a git checkout")
    paths = [Path(path) for path in listed.stdout.split() if (ROOT / path).is_file()]
    return {
        ".".join(path.with_suffix("").parts).removesuffix(".__init__"): ROOT / path
        for path in paths
        if path.parts[0] != "tests"
    }


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
    package = module.partition(".")[0]
    if module == SCRIPT_IN_PACKAGE or package in MAINTENANCE:
        return len(LAYERS) - 1
    found = [number for number, packages in enumerate(LAYERS) if package in packages]
    assert found, f"{module} has no layer: add {package} to LAYERS"
    return found[0]


def is_script(module: str) -> bool:
    package = module.partition(".")[0]
    return package in SCRIPTS | MAINTENANCE or module == SCRIPT_IN_PACKAGE


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """Return the imports of each module."""
    modules = tracked_modules()
    return {name: imports_of(path, set(modules)) for name, path in modules.items()}


def test_modules_import_only_from_their_layer_and_lower_ones(graph):
    wrong = [
        f"{module} (layer {layer(module) + 1}) imports {imported} (layer {layer(imported) + 1})"
        for module, imports in graph.items()
        for imported in imports
        if layer(imported) > layer(module)
    ]
    assert wrong == []


def test_only_maintenance_programs_import_scripts(graph):
    wrong = [
        f"{module} imports {imported}"
        for module, imports in graph.items()
        for imported in imports
        if is_script(imported) and module.partition(".")[0] not in MAINTENANCE | {"inference_e2e"}
    ]
    assert wrong == []  # inference_e2e is another name of inference


def test_there_are_no_import_cycles(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")
