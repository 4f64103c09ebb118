"""Guess the language of a text by its commonest words, to warn of voices that don't speak it."""

import re
import sys

NAMES = {
    "de": "German", "en": "English", "es": "Spanish", "fr": "French", "it": "Italian", "nl": "Dutch",
    "pt": "Portuguese",
}  # fmt: skip
COMMON_WORDS = {
    "de": "der die das und ist nicht ich ein eine zu mit auf den von wir sie für wie geht ihnen dem",
    "en": "the and of to in is that it was for you with are this have be at on not my he she we",
    "es": "el los que es en una no por con para las del está como hay mi se su más pero",
    "fr": "le les et est un une que pas je vous dans pour des du qui il nous sur au ce",
    "it": "il che di non una per sono è con gli della del ho questo alla nel come più anche mi",
    "nl": "de het een en van ik niet dat op je te zijn met voor er maar hij wij naar ook",
    "pt": "que não um uma para com os do da em por é está como mais ao na no foi meu",
}
WORDS = {language: frozenset(words.split()) for language, words in COMMON_WORDS.items()}
MIN_FOUND, MIN_SHARE = 3, 0.25  # different common words in the text, and their share of all its words


def guess_language(text: str, expected: str) -> str | None:
    """Return the code of the language of a text if it is clearly another than the expected one."""
    words = set(re.findall(r"[^\W\d_]+", text.lower()))
    found = {language: len(words & common) for language, common in WORDS.items()}
    likely = max(found, key=found.get)
    enough = found[likely] >= MIN_FOUND and found[likely] >= MIN_SHARE * len(words)
    return likely if enough and found[likely] > 2 * found.get(expected, 0) else None


def warn_of_other_language(text: str, language: str) -> None:
    """Print a warning for a text that is clearly not in the language of a voice, such as "en-us"."""
    expected = language.partition("-")[0]
    if (found := guess_language(text, expected)) and found != expected:
        spoken = NAMES.get(expected, f"the language {language!r}")
        print(
            f"text: it looks like {NAMES[found]}, but the voice reads {spoken}; speak it with a voice "
            f"that was trained with --text_input phonemes --language {found}",
            file=sys.stderr,
        )
