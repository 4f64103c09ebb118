"""Files that are written completely or not at all, and JSON."""

import errno
import functools
import json
import os
import shutil
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import UserError, one_line


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path for a file or folder, which is renamed to `path` if the block succeeds.

    Readers see either the old or the new content, which is flushed to disk before it is renamed. If the block
    fails, the temporary file or folder is deleted. A file never replaces a folder. A replaced folder is
    called `<name>.replaced` between two renames; `recover_replaced` restores it if the process is
    killed in between. A link is replaced, not what it leads to. A device such as /dev/null is written to.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        for file in temporary.rglob("*") if temporary.is_dir() else [temporary]:
            if file.is_file():
                flush_to_disk(file)
        if path.is_dir() and temporary.is_file():
            raise IsADirectoryError(errno.EISDIR, "is a folder; name a file", str(path))
        if path.is_dir():
            replace_folder(temporary, path)
        else:
            temporary.replace(path)
        if os.name == "posix":  # flushing the directory makes the rename durable
            flush_to_disk(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # of a write, for example to a full disk
            error.filename = str(path)
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def replace_folder(source: Path, path: Path) -> None:
    """Rename a folder to `path`, deleting the folder that is there. `recover_replaced` completes it."""
    replaced = path.with_name(path.name + ".replaced")
    if path.is_symlink():
        path.unlink()
    if path.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        path.rename(replaced)
    source.rename(path)
    shutil.rmtree(replaced, ignore_errors=True)


def find_file(path: Path | str, suffixes: tuple[str, ...] = ()) -> Path | None:
    """Return the file at `path`, or the one in its folder that has the same name in another form, or None.

    Such a name differs in its Unicode form, since macOS decomposes accents and other systems do not, in the
    case of its suffix, or by one of `suffixes`.
    """
    path = Path(path)
    if os.path.isfile(path):
        return path
    try:
        names = _names_in(path.parent, path.parent.stat().st_mtime_ns)
    except (OSError, ValueError):  # no folder, or a name that no file can have
        return None
    endings = (path.suffix.lower(), *suffixes)
    keys = (unicodedata.normalize("NFC", path.stem) + ending for ending in endings)
    name = next((names[key] for key in keys if key in names), None)
    return path.with_name(name) if name and path.with_name(name).is_file() else None


@functools.lru_cache(maxsize=64)
def _names_in(folder: Path, changed: int) -> dict[str, str]:
    """Return the names of the files in a folder, by their composed form with a suffix in lower case."""
    parts = ((os.path.splitext(name), name) for name in sorted(os.listdir(folder)))
    return {unicodedata.normalize("NFC", stem) + suffix.lower(): name for (stem, suffix), name in parts}


def is_occupied(folder: Path) -> bool:
    """Return whether writing a new folder here would destroy something, if only a `.git`."""
    return folder.exists() and (not folder.is_dir() or any(set(os.listdir(folder)) - {".DS_Store"}))


def visible(paths: Iterable[Path]) -> list[Path]:
    """Return the paths without hidden files, such as `.DS_Store` and the `._a.wav` that macOS adds."""
    return [path for path in paths if not path.name.startswith(".")]


def read_json(path: Path) -> dict:
    """Return the object in a JSON file. Raises UserError if the file can't be read."""
    try:
        return parse_object(path.read_text(encoding="utf-8-sig"), path)
    except (OSError, ValueError) as error:
        raise UserError(f"can't read the configuration {path}: {one_line(error)}") from error


def parse_object(text: str, source: Path | str) -> dict:
    """Return the object in JSON text of `source`. Raises UserError for other text."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"can't read the configuration {source}: {one_line(error)}") from error
    if not isinstance(values, dict):
        raise UserError(f"{source} is not a configuration: it does not contain a JSON object")
    return values


def recover_replaced(parent: Path) -> None:
    """Restore each folder in `parent` that `atomic_write` had renamed when its process was killed."""
    for replaced in parent.glob("*.replaced"):
        original = replaced.with_suffix("")
        if original.exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(original)


def flush_to_disk(path: Path) -> None:
    # Windows flushes only what may be written; elsewhere, folders and read-only files are flushed as well
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
