"""Character tokens: the inventory, encoding and decoding."""

import sys
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache

from text.normalization import clean

SYMBOLS: tuple[str, ...] = ("<pad>", "<end>", "<unknown>", *"abcdefghijklmnopqrstuvwxyz", *"!'\"(),-.:;? ")
PAD_ID, END_ID, UNKNOWN_ID = 0, 1, 2
ID_OF_SYMBOL = {symbol: index for index, symbol in enumerate(SYMBOLS) if index > UNKNOWN_ID}


def encode(text: str) -> list[int]:
    """Return the IDs of the cleaned text's characters and `END_ID`."""
    return to_ids(clean(text), ID_OF_SYMBOL)


def decode(ids: Iterable[int], symbols: tuple[str, ...] = SYMBOLS) -> str:
    """Return the text of `ids` without padding and end, with "\ufffd" for each `UNKNOWN_ID`."""
    return "".join("\ufffd" if i == UNKNOWN_ID else symbols[i] for i in map(int, ids) if i > END_ID)


def to_ids(text: str, id_of_symbol: Mapping[str, int]) -> list[int]:
    """Return the ID of each symbol and `END_ID`. Unknown symbols are `UNKNOWN_ID` and reported once."""
    for symbol in sorted(set(text) - id_of_symbol.keys()):
        report_unknown(symbol)
    return [*(id_of_symbol.get(symbol, UNKNOWN_ID) for symbol in text), END_ID]


@cache
def report_unknown(symbol: str) -> None:
    # `warnings` would also print a path and a line of code
    name = unicodedata.name(symbol, "no name")
    print(f"text: no token for {symbol!r} ({name}); the unknown token replaces it", file=sys.stderr)
