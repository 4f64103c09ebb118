"""Cached files and values, each with a fingerprint of everything that it was made from."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError, one_line
from common.files import atomic_write, read_json

# Part of every fingerprint. Increase it when the code of this package changes the audio that it makes.
VERSION = 1


def digest(*parts) -> str:
    """Return a fingerprint of numbers, strings and containers of them."""
    return hashlib.sha256(json.dumps([VERSION, *parts], sort_keys=True).encode()).hexdigest()


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
    is_same = about.get("made_with") == fingerprint and path.is_file() and about["sha256"] == sha256(path)
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
