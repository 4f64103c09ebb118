"""Texts to token IDs for a Tacotron 2 that reads characters or phonemes."""

import re
import sys
import unicodedata
from collections.abc import Mapping
from typing import Protocol

from common.errors import UserError
from text import phonemes, tokens
from text.foreign import warn_of_other_language
from text.markup import Piece, split_pieces

# The inventory of each `text_input`.
INVENTORIES = {"characters": tokens.SYMBOLS, "phonemes": phonemes.SYMBOLS}
# Scripts that English voices can't read, as Unicode names their letters, and the language code of each.
SCRIPTS = {
    "ARABIC": "ar", "ARMENIAN": "hy", "BENGALI": "bn", "CJK": "cmn", "CYRILLIC": "ru", "DEVANAGARI": "hi",
    "ETHIOPIC": "am", "GEORGIAN": "ka", "GREEK": "el", "GUJARATI": "gu", "GURMUKHI": "pa", "HANGUL": "ko",
    "HEBREW": "he", "HIRAGANA": "ja", "KANNADA": "kn", "KATAKANA": "ja", "MALAYALAM": "ml", "MYANMAR": "my",
    "SINHALA": "si", "TAMIL": "ta", "TELUGU": "te", "THAI": "th",
}  # fmt: skip


class TextConfig(Protocol):
    """The fields of a Tacotron 2 configuration that determine its tokens."""

    text_input: str  # a key of INVENTORIES
    language: str
    end_symbol: bool


def encode_texts(
    texts: list[str], config: TextConfig, lexicon: Mapping[str, str] | None = None
) -> list[list[int]]:
    """Return the token IDs of each text, ending with `END_ID` if `config.end_symbol` is set.

    `config.text_input` selects characters or phonemes, `config.language` the language of phonemes, and
    `lexicon` (see `read_lexicon`) the IPA of words. Raises UserError for a lexicon without phonemes or an
    unknown language.
    """
    if config.text_input == "phonemes":
        ids = [phonemes.encode_phonemes(ipa) for ipa in phonemes.phonemize(texts, config.language, lexicon)]
    elif lexicon:
        raise UserError("a lexicon needs a Tacotron 2 with text_input phonemes; this one reads characters")
    else:
        ids = [tokens.encode(text) for text in texts]
    return ids if config.end_symbol else [text[:-1] for text in ids]


def split_text(text: str, config: TextConfig) -> list[Piece]:
    """Return the sentences of a text for a voice, with a warning about a language that it can't read.

    Raises UserError for a text without words.
    """
    pieces = split_pieces(text)
    if not pieces:
        raise UserError(f"there is nothing to say in the text {text.strip()[:50]!r}; it needs words")
    written = phonemes.BRACKETED_IPA.sub(" ", " ".join(piece.text for piece in pieces))
    warn_of_foreign_scripts(written, config)
    warn_of_other_language(written, config.language)
    return pieces


def spoken_ids(text_input: str) -> frozenset[int]:
    """Return the IDs of the tokens that make a sound: letters or phones."""
    spoken = "abcdefghijklmnopqrstuvwxyz" if text_input == "characters" else phonemes.PHONES
    return frozenset(INVENTORIES[text_input].index(symbol) for symbol in spoken)


def warn_of_foreign_scripts(text: str, config: TextConfig) -> None:
    """Print a warning for words in scripts that an English voice can't read, such as Arabic."""
    if text.isascii() or not config.language.startswith("en"):
        return
    found = {}
    for word in re.findall(r"[^\W\d_a-zA-Z]+", text):
        script = unicodedata.name(word[0], "").partition(" ")[0]
        if script in SCRIPTS and (script != "GREEK" or len(word) > 1):  # π and Ω have English names
            found.setdefault(script, word)
    for script, word in found.items():
        name = "Chinese" if script == "CJK" else script.title()
        print(
            f"text: the voice reads English and mispronounces {name} letters such as {word!r}; speak them "
            f"with a voice that was trained with --text_input phonemes --language {SCRIPTS[script]}",
            file=sys.stderr,
        )
