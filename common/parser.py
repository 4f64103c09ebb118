"""Command-line flags generated from the option dataclasses, and the values given by flags and files."""

import argparse
import ast
import contextlib
import dataclasses
import operator
import types
import typing
from pathlib import Path
from typing import Any

from common.files import read_json
from common.options import ArgumentParser, checked, constraint, option_types, without_none

# Sections of --help, in the order in which users need them.
GROUPS = (
    "run and data", "optimization", "fine-tuning", "checkpoints", "logging", "hardware", "generator",
    "discriminators", "Tacotron 2", "mel spectrogram",
)  # fmt: skip
METAVARS = {int: "N", float: "X", str: "NAME", Path: "PATH", tuple: "TUPLE"}
OFFICIAL_NAMES = {"adam_b1": "beta1", "adam_b2": "beta2"}  # keys of the official JSON files


def build_parser(prog: str, description: str, *classes: type) -> ArgumentParser:
    """Return a parser with a flag for each field of the dataclasses; it returns only the flags given."""
    groups = flag_groups(*classes)
    required = [f.name for flags in groups.values() for f, _ in flags if f.default is dataclasses.MISSING]
    parser = ArgumentParser(
        prog=prog,
        usage=" ".join([prog, *(f"--{name} …" for name in required), "[options]"]),
        description=description,
        formatter_class=argparse.HelpFormatter,
    )
    for group, flags in groups.items():
        section = parser.add_argument_group(group)
        for field, kind in flags:
            section.add_argument(
                f"--{field.name}",
                default=argparse.SUPPRESS,
                required=field.default is dataclasses.MISSING,
                help=help_text(field).replace("%", "%%"),
                **flag_settings(field, kind),
            )
    return parser


def flag_groups(*classes: type) -> dict[str, list[tuple[dataclasses.Field, Any]]]:
    """Return the fields that are flags, with their types, by group in the order of GROUPS.

    A field without a group belongs to that of the field before it.
    """
    groups: dict[str, list] = {group: [] for group in GROUPS}
    seen = set()
    for options_class in classes:
        hints, group = typing.get_type_hints(options_class), GROUPS[0]
        for field in dataclasses.fields(options_class):
            group = field.metadata["group"] or group
            if field.metadata["flag"] and field.name not in seen:
                seen.add(field.name)
                groups[group].append((field, hints[field.name]))
    return {group: flags for group, flags in groups.items() if flags}


def help_text(field: dataclasses.Field) -> str:
    """Return a field's help with its default, unless the default is stated in words or off."""
    text = field.metadata["help"]
    default = default_text(field.default)
    return (
        text if default in ("", "off", "required") or "default:" in text else f"{text} (default: {default})"
    )


def default_text(value: Any) -> str:
    """Return a default as the user would type it, or why there is nothing to type."""
    if value is dataclasses.MISSING:
        return "required"
    if value is None or value is False:
        return "" if value is None else "off"
    if isinstance(value, tuple) and not any(isinstance(item, tuple) for item in value):
        return " ".join(map(str, value))
    return str(value).replace(" ", "")


def flag_settings(field: dataclasses.Field, kind: Any) -> dict:
    """Return the arguments of `add_argument` for a field of type `kind`."""
    kind, is_optional = without_none(kind), isinstance(kind, types.UnionType)
    if kind is bool:
        return {"action": "store_true"}
    settings: dict[str, Any] = {}
    if typing.get_origin(kind) is tuple:
        kind = typing.get_args(kind)[0]
        settings["nargs"] = "*" if field.metadata["may_be_empty"] else "+"
    if field.metadata["choices"]:
        settings["choices"] = field.metadata["choices"]
    else:
        settings["metavar"] = field.metadata["metavar"] or METAVARS[kind]
    return settings | {"type": converter(kind, is_optional)}


def converter(kind: Any, optional: bool = False) -> Any:
    """Return a function from a command-line string to `kind`; with `optional`, "none" becomes None."""
    convert = nested_tuple if kind is tuple else checked(Path) if kind is Path else kind

    def from_text(text: str) -> Any:
        return None if optional and text.lower() in ("none", "null", "") else convert(text)

    from_text.__name__ = kind.__name__  # argparse puts it into its messages
    return from_text


def nested_tuple(text: str) -> tuple:
    """Parse `((1,3,5),(1,3,5))` or `(1,3,5)` as a literal; code in the text does not run."""

    def checked(value):
        is_list = isinstance(value, list | tuple)
        return tuple(checked(item) for item in value) if is_list else operator.index(value)

    try:
        value = checked(ast.literal_eval(text))
        return value if isinstance(value, tuple) else (value,)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form ((1,3,5),(1,3,5))") from error


def select(options_class: type, values: dict) -> dict:
    """Return the values that are fields of the dataclass; lists become tuples."""
    names = {field.name for field in dataclasses.fields(options_class)}
    found = {name: value for name, value in values.items() if name in names}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def read_run_settings(path: Path, options_class: type) -> dict:
    """Return the run options in a JSON file, by our names; other keys and nulls are ignored.

    Strings are converted as flags are. One that can't be converted remains a string, which the dataclass
    refuses.
    """
    settings = {OFFICIAL_NAMES.get(name, name): value for name, value in read_json(path).items()}
    kinds = option_types(options_class)
    found = {}
    for name, value in settings.items():
        if name in kinds and value is not None:
            found[name] = value
            if isinstance(value, str) and kinds[name] is not bool:
                with contextlib.suppress(ValueError, argparse.ArgumentTypeError):
                    found[name] = converter(kinds[name])(value)
    return found


def options_table(*classes: type) -> str:
    """Return a Markdown description of all fields of the dataclasses, one table per group."""
    lines = []
    for group, flags in flag_groups(*classes).items():
        lines += [f"### {group[0].upper()}{group[1:]}", ""]
        lines += ["| option | default | values | description |", "|---|---|---|---|"]
        for field, _ in flags:
            cells = [f"`{field.name}`", default_text(field.default)]
            cells += [constraint(field.metadata), field.metadata["help"]]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)
