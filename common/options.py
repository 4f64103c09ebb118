"""Options as fields of dataclasses: default, help text and constraints in one place."""

import argparse
import contextlib
import dataclasses
import functools
import operator
import re
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.errors import UserError


class ArgumentParser(argparse.ArgumentParser):
    """argparse with one-line errors, defaults in `--help`, no abbreviated flags, and values checked by kind.

    `type=float` refuses nan and inf, `type=Path` an empty path; see `option_problem`.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("formatter_class", argparse.ArgumentDefaultsHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)
        for kind in (int, float, Path):
            self.register("type", kind, checked(kind))
        self.register("type", None, checked(str))

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def checked(kind: type, **rules) -> Callable[[str], Any]:
    """Return an argparse type for values of this kind under rules of `option`, such as `minimum=1`."""

    def parse(text: str) -> Any:
        value = text
        with contextlib.suppress(ValueError):  # reported as the wrong type
            value = kind(text) if kind in (int, float) else text
        if problem := option_problem(value, kind, rules):
            raise argparse.ArgumentTypeError(f"{text!r} is not valid; {problem}")
        return kind(value)

    return parse


SEED = {"minimum": 0, "maximum": 2**32 - 1}  # NumPy's limits


def check_seed(seed: int) -> None:
    """Raise UserError for a seed that PyTorch or NumPy rejects."""
    if problem := option_problem(seed, int, SEED):
        raise UserError(f"--seed is {seed}; {problem}")


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
) -> Any:
    """Return a dataclass field with a help text and the constraints that `check_options` applies.

    `minimum` and `maximum` are inclusive bounds, `above` and `below` exclusive ones. `check` returns None for
    a valid value, or else a phrase such as "odd" for the message. The constraints of a tuple apply to each
    item. `group` starts a section of `--help` that includes the following fields. A field with `flag=False`
    is not on the command line.
    """
    rules = {name: value for name, value in locals().items() if name != "default"}
    return dataclasses.field(default=default, metadata=rules)


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
