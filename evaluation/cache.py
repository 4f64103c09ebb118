"""What is kept, and with what it was made."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from utils import UserError, atomic_write

# Part of every fingerprint: a new number when the code here comes to make other audio of the same inputs.
VERSION = 1


def digest(*parts) -> str:
    """A fingerprint of numbers, strings and containers of them."""
    return hashlib.sha256(json.dumps([VERSION, *parts], sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"can't read {path}: {error}; check the file, or leave it out") from error


def keep(path: Path, fingerprint: str, write: Callable[[Path], None], about: dict) -> dict:
    """Write a file, and beside it the record of what it was made with; gives the record."""
    record = path.with_suffix(".json")
    record.unlink(missing_ok=True)  # first: a record never stands beside a file that is not its own
    write(path)
    about = about | {"made_with": fingerprint, "sha256": sha256(path)}
    write_json(record, about)
    return about


def kept(path: Path, fingerprint: str) -> dict | None:
    """The record of a file that was made with `fingerprint` and is as it was; else None."""
    about = read_json_or_nothing(path.with_suffix(".json"))
    is_same = about.get("made_with") == fingerprint and path.is_file() and about["sha256"] == sha256(path)
    return about if is_same else None


def read_json_or_nothing(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def write_json(path: Path, values: dict) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
