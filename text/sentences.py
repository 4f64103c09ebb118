"""Split text into sentences, and long sentences into clauses, that Tacotron 2 can speak."""

import itertools
import re
from collections.abc import Iterable

from text.abbreviations import (
    ABBREVIATIONS,
    BEFORE_NUMBERS,
    MONTH_ABBREVIATIONS,
    MONTHS,
    SENTENCE_GOES_ON,
    STARTERS,
    word_set,
)
from text.characters import NO_BREAK
from text.normalization import clean
from text.phonemes import BRACKETED_IPA

# About the length of LJSpeech's longest clips (10 s); on longer texts Tacotron 2's attention fails.
MAX_CHARACTERS = 150
LETTERS_AT_A_TIME = 50  # of a word that is longer than a sentence may be
PERHAPS_END = frozenset(ABBREVIATIONS) - SENTENCE_GOES_ON - {"no", "c", "v"} | {"ph.d", "al"}
CONJUNCTIONS = word_set("and but or nor so yet because although though while when where which who that if")
INSIDE_A_NUMBER = 10.0
# bracketed IPA may have spaces, and numbers no-break spaces
WORD = re.compile(rf"(?:{BRACKETED_IPA.pattern}|\S|(?<=\d)[{NO_BREAK}](?=\d))+")
OPENING, CLOSING = "\"'“‘«([{¿¡", "\"'”’»)]}*_"
# Markdown's lists, quotations, headings and fences around code
MARKUP = re.compile(
    r"^(?:[*•]\s+(?=[*_`\"'“(]*\w)|>\s+(?=[*_\"'“]*[^\W\d])|#\s+(?=[A-Z])|#{2,6}\s+(?=\w))+"
    r"|^(?:```|~~~) ?[\w+#.-]*$"
)
ENDS = ".!?…。！？"
LONE_MARK = re.compile(r"(?:\)?(?:[.!?]+|[,;:])|\))(?!\S)")  # at the start of a line; not ".NET" nor ":)"


def split_sentences(text: str, max_characters: int = MAX_CHARACTERS) -> list[str]:
    """Split raw text into sentences, and sentences that are too long into clauses.

    A line break ends a sentence unless the lines are wrapped to a common width. Lengths are estimated as
    those of the cleaned text; only a single word, number or bracketed IPA can exceed `max_characters`. A word
    that would itself be longer than MAX_CHARACTERS, such as a web address, is cleaned and cut. The pieces
    contain the words of the text in order. Pieces without a letter after `clean` are omitted. Raises
    ValueError for a limit below 1.
    """
    if max_characters < 1:
        raise ValueError(f"max_characters is {max_characters}; it must be positive")
    pieces = []
    for paragraph in paragraphs(text):
        # a dash between words is a pause, and Chinese and Japanese sentences end without a space
        spaced = re.sub(r"(?<=\w)(—|--+)(?=[^\W\d])|([。！？、，；]+[」』）]?)", r"\1\2 ", paragraph)
        sentence: list[str] = []
        words = [part for word in WORD.findall(spaced) for part in speakable(word)]
        for word, following in zip(words, [*words[1:], ""], strict=True):
            sentence.append(word)
            if not following or ends_sentence(sentence, following) or is_next_item(sentence[0], following):
                pieces.extend(clauses(sentence, max_characters))
                sentence = []
    return [piece for piece in pieces if BRACKETED_IPA.search(piece) or re.search("[a-z]", clean(piece))]


def paragraphs(text: str) -> Iterable[str]:
    """Yield the lines of a text, with lines joined that are wrapped within a sentence."""
    for block in re.split(r"\n\s*\n|\f|\u2029", re.sub(r"\r\n?|[\u2028\x85]", "\n", text)):
        lines = [line.strip() for line in block.split("\n") if line.strip()]
        width = max(map(len, lines), default=0)
        joined = last = ""
        for line in lines:
            was_full = len(last) + 1 + len(line.split(maxsplit=1)[0]) > width if joined else False
            wrapped = was_full and 40 <= width <= 100 and last.rstrip(CLOSING)[-1:] not in tuple(ENDS)
            content = MARKUP.sub("", line)
            is_item = content != line and not (line[0] == last[:1] == ">")  # a quotation goes on
            goes_on = wrapped or content[:1].islower() or LONE_MARK.match(content)
            if joined and (is_item or not goes_on):
                yield joined
                joined = ""
            joined, last = f"{joined} {content}".strip(), line
        if joined:
            yield joined


def speakable(word: str) -> list[str]:
    """Return the parts of a word that Tacotron 2 can speak at once: usually the word itself."""
    # the longest reading of a single sign has about twelve characters
    if 12 * len(word) <= MAX_CHARACTERS or BRACKETED_IPA.search(word):
        return [word]
    cleaned = clean(word)
    if len(cleaned) <= MAX_CHARACTERS:
        return [word]
    return [
        part[first : first + LETTERS_AT_A_TIME]
        for part in cleaned.split()
        for first in range(0, len(part), LETTERS_AT_A_TIME)
    ]


def ends_sentence(sentence: list[str], following: str) -> bool:
    """Return whether `sentence` ends before the word `following`."""
    word = sentence[-1].rstrip(CLOSING)
    following = following.lstrip(OPENING)
    if not word or word[-1] not in ENDS or not any(map(str.isalnum, following)):
        return False
    if following[0].islower() or (not following[0].isalnum() and following[0] not in "$£€#@"):
        return False
    if word[-1] != "." or word.endswith(".."):
        return True
    stem = word.lstrip(OPENING)[:-1]
    starts = re.match(r"\w*", following)[0] in STARTERS and not re.match(r"\w+\.", following)
    if stem.lower() in SENTENCE_GOES_ON:
        return False
    if stem.lower() in BEFORE_NUMBERS and re.match(r"#?[A-Z]{0,2}-?\d", following):
        return False
    if stem.lower() in ("dr", "st"):  # "Dr. Who", but "on Elm St. She"
        before = sentence[-2] if len(sentence) > 1 else ""
        after_name = re.fullmatch(r"[A-Z0-9]\S*\w", before.lstrip(OPENING)) is not None
        return starts and after_name and before not in STARTERS
    if stem.lower() in PERHAPS_END or re.fullmatch(r"(?:[^\W\d]\.)*[^\W\d]", stem):
        return starts and not (stem == "I" and following == "I")
    return not (len(sentence) == 1 and re.fullmatch(r"\d+|[IVX]{2,}", stem))  # "1. First", "II. Second"


def is_next_item(first: str, following: str) -> bool:
    """Return whether a list continues in the same line: "1. First 2. Second"."""
    return re.fullmatch(r"\d{1,3}\.", first) is not None and following == f"{int(first[:-1]) + 1}."


def clauses(words: list[str], max_characters: int) -> list[str]:
    """Cut a sentence at its best pauses into pieces of about equal length."""
    lengths = [spoken_length(word) + 1 for word in words]
    costs = [cut_cost(*pair) for pair in itertools.pairwise(words)]
    pieces, remaining = [], sum(lengths)
    start = 0
    while start < len(words):
        if remaining - 1 <= max_characters:
            pieces.append(" ".join(words[start:]))
            break
        ideal = remaining / -(-remaining // max_characters)
        best, best_cost, length = None, float("inf"), 0
        for end in range(start + 1, len(words)):
            length += lengths[end - 1]
            if length - 1 > max_characters and best_cost < INSIDE_A_NUMBER:
                break
            cost = costs[end - 1] + 2 * abs(length - ideal) / max_characters
            if cost < best_cost:
                best, best_cost = end, cost
        end = best or len(words)
        pieces.append(" ".join(words[start:end]))
        remaining -= sum(lengths[start:end])
        start = end
    return pieces


def spoken_length(word: str) -> int:
    """Estimate the length of the cleaned word, in which digits and signs become words."""
    return len(word) + 5 * sum(c.isdigit() or c in "$£€¥%&@+=°½¼¾" for c in word)


def cut_cost(before: str, after: str) -> float:
    """Return the cost of a cut between two words, from 0 (a full pause) to `INSIDE_A_NUMBER`."""
    core = before.rstrip(CLOSING)
    stem = core.lstrip(OPENING).rstrip(".").lower()
    number_ends, number_begins = core.rstrip(",")[-1:].isdigit(), after.lstrip("$£€(")[:1].isdigit()
    if core.endswith(".") and (
        stem in SENTENCE_GOES_ON or stem in BEFORE_NUMBERS or stem in PERHAPS_END or len(stem) == 1
    ):
        return INSIDE_A_NUMBER
    # "January 5", "January 5, 1994", "1 000", "(555) 123-4567", "2 1/2"
    in_date = before in MONTHS or before.lower() in MONTH_ABBREVIATIONS
    in_date = in_date or (re.search(r"^\d\d?,$", before) and re.match(r"[12]\d{3}\b", after))
    if number_begins and (in_date or (core[-1:].isdigit() and re.match(r"\d{3}\b|\d+/\d", after))):
        return INSIDE_A_NUMBER
    if core[-1:] in (*";:", *"—–；…!?。！？") or core.endswith(("--", "...")):
        return 0.0
    if core[-1:] in (*",、，",) or before[-1] in ")]" or after[0] in "—–([" or after in ("-", "--"):
        return 0.5
    if after.lower() in CONJUNCTIONS:
        return 2.0
    return 6.0 if number_ends or number_begins else 4.0
