"""Options as fields of dataclasses: default, help text and constraints in one place.

A script has one dataclass of options, which `common.parser` turns into its command line.
"""

import dataclasses
import functools
import operator
import os
import re
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.errors import UserError

SEED = {"minimum": 0, "maximum": 2**32 - 1}  # NumPy's limits


def option(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    group: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple = (),
    check: Callable[[Any], str | None] | None = None,
    may_be_empty: bool = False,
    metavar: str | None = None,
    flag: bool = True,
    positional: bool = False,
    aliases: tuple[str, ...] = (),
    repeat: bool = False,
    bare: Any = None,
) -> Any:
    """Return a dataclass field with a help text and the constraints that `check_options` applies.

    `minimum` and `maximum` are inclusive bounds, `above` and `below` exclusive ones. `check` returns None for
    a valid value, or else a phrase such as "odd" for the message. The constraints of a tuple apply to each
    item. `default` is a value, or a function that returns it.

    The other arguments are about the command line. `group` starts a section of `--help` that includes the
    following fields. A field with `flag=False` has no flag, a `positional` one a place, and one with `repeat`
    a flag for each item of its tuple. `aliases` are other flags. `bare` is the value of a flag without one.
    """
    rules = {name: value for name, value in locals().items() if name != "default"}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=rules)
    return dataclasses.field(default=default, metadata=rules)


def seed_option(default: int, purpose: str) -> Any:
    """Return the field of `--seed`."""
    return option(default, f"Seed of {purpose}", **SEED)


def mixed_precision_option(default: str | None, help: str, group: str | None = None) -> Any:
    """Return the field of `--mixed_precision`."""
    return option(default, help, choices=("no", "bf16", "fp16"), group=group)


def check_mixed_precision(mixed_precision: str, device: Any) -> None:
    """Raise UserError for a precision that a device, or the device of this name, does not support."""
    if mixed_precision == "fp16" and str(device).startswith("cpu"):
        raise UserError("--mixed_precision fp16 needs a GPU; use bf16 or no on a CPU")


def device_option(group: str | None = None) -> Any:
    """Return the field of `--device`."""
    text = "Compute on this device: cpu, cuda, cuda:1, …; default: a GPU if there is one"
    return option(default_device, text, check=missing_device, group=group)


def default_device() -> str:
    """Return the name of this process's GPU, one for each process of a launcher, or "cpu" without GPUs."""
    import torch  # slow, and not every script needs it

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % gpus}" if gpus else "cpu"


def missing_device(name: str) -> str | None:
    """Return what `--device` must be if PyTorch can't compute on the device `name`, or None."""
    import torch

    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError):
        return "a device of this computer, such as cpu or cuda"
    return None


def not_empty(text: str) -> str | None:
    return None if text.strip() else "text that is not empty"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Base of a script's options. Raises UserError for values that their fields don't allow."""

    def __post_init__(self):
        check_options(self, "--")

    def given(self, *names: str) -> list[str]:
        """Return the flags of those of the fields whose values are not the defaults."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return [f"--{name}" for name in names if getattr(self, name) != defaults[name]]

    def require_one(self, *names: str, optional: bool = False) -> None:
        """Raise UserError if several of the fields are given or, unless this is `optional`, none is."""
        given = self.given(*names)
        if len(given) > 1:
            raise UserError(f"{given[1]} is not allowed with {given[0]}; use one of them")
        if not given and not optional:
            raise UserError(f"one of the arguments {', '.join(f'--{name}' for name in names)} is required")


@functools.cache
def option_types(options_class: type) -> dict[str, Any]:
    """Return the type of each field of a dataclass, with `X | None` reduced to X."""
    hints = typing.get_type_hints(options_class)
    return {field.name: without_none(hints[field.name]) for field in dataclasses.fields(options_class)}


def without_none(kind: Any) -> Any:
    if isinstance(kind, types.UnionType):
        return next(part for part in typing.get_args(kind) if part is not types.NoneType)
    return kind


def check_options(options: Any, prefix: str = "") -> None:
    """Raise UserError for the first field of a dataclass whose value has the wrong type or breaks a rule.

    Fields are compared with their types and with the constraints of `option`. Floats must be finite.
    `prefix` precedes the field's name in the message, for example "--".
    """
    hints = typing.get_type_hints(type(options))
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if problem := option_problem(value, hints[field.name], field.metadata):
            prefix = "" if field.metadata.get("positional") else prefix
            raise UserError(f"{prefix}{field.name} is {shown(value)}; {problem}")


def option_problem(value: Any, kind: Any, rules: typing.Mapping) -> str | None:
    """Return why `value` is not a valid `kind` under `rules` of `option`, or None if it is valid."""
    if isinstance(kind, types.UnionType):
        return None if value is None else option_problem(value, without_none(kind), rules)
    if tuple in (kind, typing.get_origin(kind)):
        return list_problem(value, (*typing.get_args(kind), None)[0], rules)
    noun, accepted = TYPES[kind]
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        return f"this is the wrong type, it must be {noun}"
    wanted = demand_of_kind(value, kind, rules) or (rules["check"](value) if rules.get("check") else None)
    if wanted or not satisfies(value, rules):
        return f"it must be {wanted or constraint(rules)}"
    return None


def list_problem(value: Any, kind: Any, rules: typing.Mapping) -> str | None:
    """Return why `value` is not a list of `kind`, or with None of integers and lists of them, or None."""
    if not isinstance(value, tuple | list):
        return "this is the wrong type, it must be a list"
    if not value and not rules.get("may_be_empty"):
        return "it needs at least one value"
    if kind in (int, None) and len(value) > MAX_NUMBERS:
        return f"it must be a list of at most {MAX_NUMBERS} values"
    for item in value:
        item_kind = kind or (tuple if isinstance(item, tuple | list) else int)
        if problem := option_problem(item, item_kind, rules if kind else {"may_be_empty": True}):
            return f"each value must be {problem.partition('must be ')[2]}"
    return None


def demand_of_kind(value: Any, kind: type, rules: typing.Mapping) -> str | None:
    """Return what every value of a kind must be if `value` is not, for example "a finite number"."""
    if kind is float and not abs(value) <= sys.float_info.max:
        return "a finite number"
    if kind is int and rules.get("maximum") is None and abs(value) > MAX_INT:
        return f"at most {MAX_INT}"
    if kind is Path and not str(value):
        return "a path, which is not empty"
    if kind in (str, Path) and re.search("[\0\ud800-\udfff]", str(value)):
        return "text in UTF-8 without zero bytes"
    return None


MAX_INT = 2**31 - 1  # the limit of libraries written in C
MAX_NUMBERS = 16  # in a list, such as kernel sizes; larger networks are mistakes and would exhaust the memory
TYPES: dict[Any, tuple[str, Any]] = {
    bool: ("true or false", bool),
    int: ("an integer", int),
    float: ("a number", (int, float)),
    str: ("text", str),
    Path: ("a path", (str, Path)),
}
BOUNDS = {
    "minimum": ("at least", operator.ge),
    "above": ("greater than", operator.gt),
    "maximum": ("at most", operator.le),
    "below": ("less than", operator.lt),
}


def satisfies(value: Any, rules: typing.Mapping) -> bool:
    bounds = ((holds, rules.get(name)) for name, (_, holds) in BOUNDS.items())
    within = all(holds(value, bound) for holds, bound in bounds if bound is not None)
    return within and (not rules.get("choices") or value in rules["choices"])


def constraint(rules: typing.Mapping) -> str:
    """Return the constraints of `option` in words, for example "at least 1 and at most 5"."""
    parts = [f"{word} {rules[name]}" for name, (word, _) in BOUNDS.items() if rules.get(name) is not None]
    signs = {"greater than 0": "positive", "less than 0": "negative"}
    parts = [signs.get(part, part) for part in parts]
    if rules.get("choices"):
        parts.append(f"one of {', '.join(map(str, rules['choices']))}")
    return " and ".join(parts)


def shown(value: Any) -> str:
    """Return a value as text of limited length for a message; strings are quoted."""
    if isinstance(value, tuple | list):
        text = f"[{', '.join(map(repr, value))}]" if value else "empty"
    else:
        text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 200 else f"{text[:200]} …"
