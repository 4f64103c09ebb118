"""Cached files and values, each with a fingerprint of everything that it was made from."""

import ast
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from common.errors import UserError, one_line
from common.files import atomic_write, read_json

ROOT = Path(__file__).resolve().parent.parent


def digest(*parts) -> str:
    """Return a fingerprint of numbers, strings and containers of them."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def code_of(module: str, root: Path = ROOT) -> str:
    """Return a fingerprint of a module and of everything that it imports, directly or not, also in functions.

    Of the project's modules that is the source, of packages the version, and those of the packages that they
    require.
    """
    sources, packages, waiting = {}, set(), [module]
    while waiting:
        name = waiting.pop()
        path = source_file(name, root)
        if path is None:
            packages.add(name.partition(".")[0])
        elif name not in sources:
            sources[name] = path.read_text(encoding="utf-8")
            waiting += imported(ast.parse(sources[name]), root)
    return digest(sources, {name: versions_of(name) for name in packages})


def source_file(module: str, root: Path) -> Path | None:
    """Return the file of a module of the project, or None for one of another package."""
    path = root.joinpath(*module.split("."))
    return next(filter(Path.is_file, (path.with_suffix(".py"), path / "__init__.py")), None)


def imported(tree: ast.Module, root: Path) -> Iterator[str]:
    """Yield the names of the modules that a module imports, by statements or by `optional_package`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            submodules = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name for name in submodules if source_file(name, root))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "optional_package":
            yield ast.literal_eval(node.args[0])


def versions_of(package: str) -> list[str]:
    """Return names and versions of what provides an imported package, and of what that requires.

    Python's own modules have none.
    """
    found = set(distributions().get(package, []))
    for name in tuple(found):
        requirements = importlib.metadata.requires(name) or []
        found |= {re.match(r"[\w.-]+", text)[0] for text in requirements if "extra ==" not in text}
    installed = {name.lower().replace("_", "-") for names in distributions().values() for name in names}
    return sorted(
        f"{name} {importlib.metadata.version(name)}"
        for name in found
        if name.lower().replace("_", "-") in installed
    )


@cache
def distributions() -> dict[str, list[str]]:
    return importlib.metadata.packages_distributions()


def sha256(path: Path) -> str:
    """Return the SHA-256 hash of a file. Raises UserError if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"can't read {path}: {one_line(error)}; check the file, or leave it out") from error


def keep(path: Path, fingerprint: str, write: Callable[[Path], None], about: dict) -> dict:
    """Write a file and a JSON record of its fingerprint next to it, and return the record."""
    record = path.with_suffix(".json")
    record.unlink(missing_ok=True)  # first, so that an interrupt leaves no record of another file
    write(path)
    about = about | {"made_with": fingerprint, "sha256": sha256(path)}
    write_json(record, about)
    return about


def kept(path: Path, fingerprint: str) -> dict | None:
    """Return the record of an unchanged file with this fingerprint, or None."""
    about = read_json_or_nothing(path.with_suffix(".json"))
    is_same = about.get("made_with") == fingerprint and path.is_file() and about.get("sha256") == sha256(path)
    return about if is_same else None


def read_json_or_nothing(path: Path) -> dict:
    """Return the object in a JSON file, or an empty one if the file is missing or damaged."""
    try:
        return read_json(path)
    except UserError:
        return {}


def write_json(path: Path, values: dict) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
