"""What a voice reads: phonemes or normalized text, which users can edit."""

from collections.abc import Iterable, Mapping

from text import clean, phonemize
from text.encoding import TextConfig


def pronounce(
    sentences: list[str], config: TextConfig, lexicon: Mapping[str, str] | None = None
) -> list[str]:
    """Return what the Tacotron 2 of a configuration reads for each sentence.

    That is the IPA for one that reads phonemes, and the normalized text for one that reads characters.
    """
    if config.text_input == "phonemes":
        return phonemize(sentences, config.language, lexicon)
    return [clean(sentence) for sentence in sentences]


def as_sentences(lines: Iterable[str], config: TextConfig) -> list[str]:
    """Return the sentences to speak for lines of `pronounce`, which may be edited.

    IPA is put in square brackets, so that Tacotron 2 reads it as written.
    """
    if config.text_input != "phonemes":
        return list(lines)
    # brackets or capital letters in a line would make it ordinary text
    return [f"[{line.strip().translate(PARENTHESES).lower()}]" for line in lines]


PARENTHESES = str.maketrans("[]", "()")
