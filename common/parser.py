"""Command-line flags generated from the option dataclasses, and the values given by flags and files."""

import argparse
import ast
import contextlib
import dataclasses
import difflib
import itertools
import operator
import re
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.files import read_json
from common.options import constraint, option_problem, option_types, without_none

# Sections of --help, in the order in which users need them.
GROUPS = (
    "options", "run and data", "optimization", "fine-tuning", "checkpoints", "logging", "hardware",
    "generator", "discriminators", "Tacotron 2", "mel spectrogram",
)  # fmt: skip
METAVARS = {int: "N", float: "X", str: "NAME", Path: "PATH", tuple: "TUPLE"}
OFFICIAL_NAMES = {"adam_b1": "beta1", "adam_b2": "beta2"}  # keys of the official JSON files
# Flags of other projects, and ours for the same, of which a script has some.
FOREIGN_FLAGS = {
    "-c": ("--config",),
    "-f": ("--output",),
    "-i": ("--text_file",),
    "-m": ("--voice",),
    "-o": ("--output_dir",),
    "--amp": ("--mixed_precision",),
    "--cuda": ("--device",),
    "--data_dir": ("--voice",),
    "--dataset_dir": ("--path_to_train_manifest",),
    "--dataset_format": ("--corpus",),
    "--dataset_path": ("--input_wavs_dir",),
    "--dev_dir": ("--path_to_val_manifest",),
    "--dev_dumpdir": ("--path_to_val_manifest",),
    "--dumpdir": ("--input_mels_dir",),
    "--fastpitch": ("--taco_weights",),
    "--hifigan": ("--checkpoint_file",),
    "--input_dir": ("--path_to_ljspeech",),
    "--length_scale": ("--speed",),
    "--model": ("--voice",),
    "--output_dir": ("--path_to_save",),
    "--outdir": ("--output_dir", "--path_to_save", "--working_directory"),
    "--output_file": ("--output",),
    "--output_raw": ("--stream",),
    "--resume": ("--resume_from_checkpoint",),
    "--rootdir": ("--path_to_ljspeech", "--input_wavs_dir"),
    "--sample_rate": ("--sampling_rate",),
    "--tacotron2": ("--taco_weights",),
    "--train_dir": ("--path_to_train_manifest",),
    "--train_dumpdir": ("--path_to_train_manifest",),
    "--training_files": ("--path_to_train_manifest",),
    "--validation_files": ("--path_to_val_manifest",),
    "--waveglow": ("--checkpoint_file",),
}


class ArgumentParser(argparse.ArgumentParser):
    """argparse with one-line errors, no abbreviated flags, and the nearest flag for an unknown one."""

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else list(args)
        if not self._subparsers:  # which parse their own flags
            names = (word.partition("=")[0] for word in itertools.takewhile(lambda word: word != "--", args))
            flags = dict.fromkeys(name for name in names if re.fullmatch(r"--\S+|-[A-Za-z]\S*", name))
            if unknown := [name for name in flags if name not in self._option_string_actions]:
                self.error(f"unknown option {', '.join(map(self.with_nearest, unknown))}")
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):
        parsed, extra = self.parse_known_args(args, namespace)
        if words := [word for word in extra if word != "--"]:
            example = ", such as --text" if "--text" in self._option_string_actions else ""
            self.error(f"{words[0]!r} belongs to no option; put a flag before it{example}")
        return parsed

    def with_nearest(self, name: str) -> str:
        return name + "".join(f" (did you mean {flag}?)" for flag in self.nearest(name)[:1])

    def nearest(self, name: str) -> list[str]:
        """Return the flags of the same meaning for one of another project, or else those of similar names."""
        known = self._option_string_actions
        name = "--" + name.lstrip("-").replace("-", "_") if name[2:] else name
        same = [flag for flag in FOREIGN_FLAGS.get(name, ()) if flag in known]
        return same or difflib.get_close_matches(name, known, n=1)

    def error(self, message: str):
        name = self.prog.removeprefix("python -m ")
        self.exit(2, f"{name}: error: {message} (see {self.prog} --help)\n")


def parse_options(
    options_class: type, prog: str, description: str, arguments: list[str] | None = None
) -> Any:
    """Return the options in the arguments of the command line. Raises UserError for values not allowed."""
    flags = vars(build_parser(prog, description, options_class).parse_args(arguments))
    return options_class(**select(options_class, flags))


def parse_command(
    commands: dict[str, type], prog: str, description: str, arguments: list[str] | None = None
) -> tuple[str, Any]:
    """Return the subcommand in the arguments of the command line, and its options."""
    parser = ArgumentParser(prog=prog, description=description)
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name, options_class in commands.items():
        text = options_class.__doc__
        add_options(
            subparsers.add_parser(name, help=text.splitlines()[0].rstrip("."), description=text),
            options_class,
        )
    flags = vars(parser.parse_args(arguments))
    options_class = commands[flags["command"]]
    return flags["command"], options_class(**select(options_class, flags))


def build_parser(prog: str, description: str, *classes: type) -> ArgumentParser:
    """Return a parser with a flag for each field of the dataclasses; it returns only the flags given."""
    parser = ArgumentParser(prog=prog, description=description.splitlines()[0])
    add_options(parser, *classes)
    return parser


def add_options(parser: ArgumentParser, *classes: type) -> None:
    """Add a flag, or a positional argument, for each field of the dataclasses."""
    required = []
    for group, flags in flag_groups(*classes).items():
        section = parser if group == GROUPS[0] else parser.add_argument_group(group)
        for field, kind in flags:
            rules = field.metadata
            settings = flag_settings(field, kind)
            names = [field.name] if rules["positional"] else [f"--{field.name}", *rules["aliases"]]
            if rules["positional"]:
                required.append(settings["metavar"])
            elif is_required(field):
                required.append(f"{names[0]} …")
                settings["required"] = True
            help = help_text(field).replace("%", "%%")
            section.add_argument(*names, default=argparse.SUPPRESS, help=help, **settings)
    parser.usage = " ".join([parser.prog, *required, "[options]"])


def is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def flag_groups(*classes: type) -> dict[str, list[tuple[dataclasses.Field, Any]]]:
    """Return the fields that are flags, with their types, by group: those of GROUPS, then others.

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
                groups.setdefault(group, []).append((field, hints[field.name]))
    return {group: flags for group, flags in groups.items() if flags}


def help_text(field: dataclasses.Field) -> str:
    """Return a field's help with its default, unless the default is stated in words or off."""
    text = field.metadata["help"]
    default = default_text(field)
    return (
        text if default in ("", "off", "required") or "default:" in text else f"{text} (default: {default})"
    )


def default_text(field: dataclasses.Field) -> str:
    """Return the default of a field as the user would type it, or why there is nothing to type."""
    value = field.default
    if value is dataclasses.MISSING:
        return "required" if is_required(field) else ""
    if value is None or value is False:
        return "" if value is None else "off"
    if isinstance(value, tuple) and not any(isinstance(item, tuple) for item in value):
        return " ".join(map(str, value))
    return str(value).replace(" ", "")


def flag_settings(field: dataclasses.Field, kind: Any) -> dict:
    """Return the arguments of `add_argument` for a field of type `kind`."""
    rules = field.metadata
    kind, is_optional = without_none(kind), isinstance(kind, types.UnionType)
    if kind is bool:
        return {"action": "store_true"}
    settings: dict[str, Any] = {}
    if typing.get_origin(kind) is tuple:
        kind = typing.get_args(kind)[0]
        settings = (
            {"action": "append"} if rules["repeat"] else {"nargs": "*" if rules["may_be_empty"] else "+"}
        )
    if rules["bare"] is not None:
        settings = {"nargs": "?", "const": rules["bare"]}
    if rules["choices"]:
        settings["choices"] = rules["choices"]
    if rules["metavar"] or not rules["choices"]:
        default = field.name if rules["positional"] else METAVARS[kind]
        settings["metavar"] = rules["metavar"] or default
    return settings | {"type": converter(kind, is_optional and kind in (int, float))}


def converter(kind: Any, may_be_none: bool = False) -> Callable[[str], Any]:
    """Return a function from a command-line string to `kind`; with `may_be_none`, "none" becomes None."""

    def from_text(text: str) -> Any:
        if may_be_none and text.lower() in ("none", "null", ""):
            return None
        if kind is tuple:
            return nested_tuple(text)
        try:
            if kind is Path and not text:
                raise ValueError
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not valid; {option_problem(text, kind, {})}"
            ) from None

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
            cells = [f"`{field.name}`", default_text(field)]
            cells += [constraint(field.metadata), field.metadata["help"]]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)
