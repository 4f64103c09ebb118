"""Pauses, speeds and pronunciations within a text: `[pause 0.5]` and SSML."""

import re
from collections.abc import Iterator
from html import unescape
from typing import NamedTuple
from xml.etree import ElementTree

from common.errors import UserError
from text.abbreviations import word_set
from text.phonemes import BRACKETED_IPA, STRESS
from text.sentences import split_sentences

# Silence after a sentence or clause in seconds, by its last character. The ends of the mels add 0.15 s.
PAUSES = {".": 0.3, "!": 0.3, "?": 0.3, ";": 0.2, ":": 0.2, ",": 0.1}
LONGEST_PAUSE = 10.0
PAUSE = re.compile(r"\[pause(?:\s+(\d+(?:\.\d*)?|\.\d+)\s*s?)?\]", re.IGNORECASE)
DEFAULT_PAUSE = "0.5"
BREAKS = {"none": 0.0, "x-weak": 0.1, "weak": 0.2, "medium": 0.4, "strong": 0.7, "x-strong": 1.0}
RATES = {"x-slow": 0.5, "slow": 0.75, "medium": 1.0, "default": 1.0, "fast": 1.25, "x-fast": 1.5}
SLOWEST, FASTEST = 0.25, 4.0
ROOT = re.compile(r"\s*<(?:[?!][\s\S]*<)?speak\b")
# A root, or tags of SSML that are more than a name: "the tag <voice>" speaks of one.
SSML = re.compile(
    rf"\A{ROOT.pattern}|<break\s*/>|<sub\s+alias\s*="
    r"|<(?:break|phoneme|prosody|say-as|emphasis|voice)\s+[\w:-]+\s*="
)
OTHER_TAG = re.compile(r"</[A-Za-z][\w:-]*\s*>|<[A-Za-z][^<>]*/>|<(?i:[bh]r)\b[^<>]*>")
# HTML does not close these.
VOID_TAG = re.compile(
    r"<((br|hr|img|input|wbr|col|(?:meta|link|source|area|embed)(?=\s))(?=[\s/>])[^<>]*?)/?>", re.IGNORECASE
)
SILENT_TAGS = ("metadata", "meta", "lexicon", "desc", "script", "style")
BLOCKS = word_set(
    """p s h1 h2 h3 h4 h5 h6 div section article header footer main nav aside title ul ol li dl dt dd table
    caption tr th td blockquote pre figure figcaption hr"""
)
SPELLED = ("digits", "telephone", "characters", "spell-out", "verbatim")


class Piece(NamedTuple):
    """A sentence or clause to speak."""

    text: str
    speed: float = 1.0  # relative to the rest of the speech
    before: float = 0.0  # silence in seconds
    after: float = 0.0  # at the end of the text


def pause_after(text: str) -> float:
    """Return the duration in seconds of the silence after a sentence or clause."""
    return PAUSES.get(text.rstrip("\"')]”’»").strip()[-1:], 0.05)


def split_pieces(text: str) -> list[Piece]:
    """Return the sentences of a text with `[pause 0.5]` or SSML, without the marks.

    A pause within a sentence divides it. Pauses have at most `LONGEST_PAUSE` seconds. Raises UserError for
    SSML that is not well formed.
    """
    pieces: list[Piece] = []
    pause = None  # before the next piece, unless it is that of the previous one's last character
    for part in parse(text):
        if isinstance(part, float):
            pause = min((pause or 0.0) + part, LONGEST_PAUSE)
            continue
        for sentence in split_sentences(part.text):
            usual = pause_after(pieces[-1].text) if pieces else 0.0
            pieces.append(Piece(sentence, part.speed, usual if pause is None else pause))
            pause = None
    if pieces and pause:
        pieces[-1] = pieces[-1]._replace(after=pause)
    return pieces


def with_pauses(sentences: list[str]) -> list[Piece]:
    """Return sentences with the usual pauses between them."""
    pauses = [0.0, *map(pause_after, sentences)]
    return [Piece(sentence, before=pause) for sentence, pause in zip(sentences, pauses, strict=False)]


def parse(text: str) -> Iterator[Piece | float]:
    """Yield the pauses of a text in seconds, and what is between them; texts of one speed are joined."""
    root, joined = read_markup(text), Piece("")
    try:
        parts = [*(plain(text, 1.0) if root is None else walk(root, 1.0)), 0.0]
    except RecursionError as error:
        raise UserError("the SSML of the text has too many tags within tags; write it flatter") from error
    for part in parts:
        if isinstance(part, Piece) and (part.speed == joined.speed or not joined.text.strip()):
            joined = Piece(joined.text + part.text, part.speed)
            continue
        yield joined
        joined = part if isinstance(part, Piece) else Piece("")
        if isinstance(part, float):
            yield part


def plain(text: str, speed: float) -> Iterator[Piece | float]:
    """Yield a text without tags, divided at `[pause 0.5]`."""
    position = 0
    for match in PAUSE.finditer(text):
        yield Piece(text[position : match.start()], speed)
        yield float(match[1] or DEFAULT_PAUSE)
        position = match.end()
    yield Piece(text[position:], speed)


def read_markup(text: str) -> ElementTree.Element | None:
    """Return the root of a text with tags, or None for another one. Raises UserError for damaged SSML."""
    is_ssml = SSML.search(text) is not None
    if not is_ssml and not OTHER_TAG.search(text):
        return None
    if is_ssml and ("<!DOCTYPE" in text or "<!ENTITY" in text):  # entities can grow without bounds
        raise UserError("the SSML of the text has a document type; remove <!DOCTYPE …>")
    text = re.sub(
        r"&(?!(?:amp|lt|gt|quot|apos|#\w+);)(?:\w+;)?", named_character, text.strip("\ufeff").strip()
    )
    closed = set(re.findall(r"</([\w:-]+)", text.lower()))
    text = re.sub(r"\A<!DOCTYPE html[^<>[]*>", "", text, flags=re.I)
    text = VOID_TAG.sub(lambda m: m[0] if m[2].lower() in closed else f"<{m[1]}/>", text)
    try:
        return ElementTree.fromstring(text if ROOT.match(text) else f"<speak>{text}</speak>")
    except (ElementTree.ParseError, UnicodeEncodeError) as error:  # the latter for lone surrogates
        if not is_ssml:  # a program or a formula, for example
            return None
        raise UserError(
            f'the SSML of the text can\'t be read: {error}; close each tag, as in <break time="0.5s"/>'
        ) from error


def named_character(match: re.Match) -> str:
    """Return the character that HTML names, as in "&nbsp;", or the text as it is: XML knows five names."""
    character = unescape(match[0]) if match[0].endswith(";") else match[0]
    return character if character != match[0] else f"&amp;{match[0][1:]}"


def walk(element: ElementTree.Element, speed: float) -> Iterator[Piece | float]:
    """Yield the content of an SSML element. Unknown elements are replaced by their content."""
    tag = element.tag.rpartition("}")[2].lower()
    if tag == "break":
        yield break_seconds(element)
    elif tag == "phoneme" and element.get("ph") and element.get("alphabet", "ipa").lower() == "ipa":
        yield Piece(bracketed(element.get("ph")), speed)
    elif tag == "say-as" and element.get("interpret-as", "").lower() in SPELLED:
        yield Piece(spelled("".join(element.itertext())), speed)
    elif tag == "sub" and element.get("alias"):
        yield Piece(element.get("alias"), speed)
    elif tag in SILENT_TAGS:
        yield Piece(" ", speed)
    else:
        if tag == "prosody":
            speed = min(max(speed * rate_of(element.get("rate", "")), SLOWEST), FASTEST)
        edge = boundary(element, tag)
        yield from plain(("\n" if tag == "br" else edge) + (element.text or ""), speed)
        for child in element:
            yield from walk(child, speed)
            yield from plain(child.tail or "", speed)
        yield Piece(edge, speed)


def boundary(element: ElementTree.Element, tag: str) -> str:
    """Return what separates an element from the text around it: only tags within words have nothing."""
    if tag in BLOCKS:
        return "\n\n"
    is_empty = len(element) == 0 and not element.text and tag != "wbr"
    return " " if is_empty or tag in ("voice", "audio") else ""


def break_seconds(element: ElementTree.Element) -> float:
    match = re.fullmatch(r"\s*\+?(\d*\.?\d+)\s*(ms|s)\s*", element.get("time", ""))
    if match:
        return float(match[1]) / (1000 if match[2] == "ms" else 1)
    return BREAKS.get(element.get("strength", "medium"), BREAKS["medium"])


def rate_of(written: str) -> float:
    """Return the speed that a `rate` of SSML stands for: a name, "120%", "+20%" or "1.2"."""
    match = re.fullmatch(r"([+-]?)(\d*\.?\d+)(%?)", written.strip())
    if not match:
        return RATES.get(written.strip(), 1.0)
    value = float(match[2]) / (100 if match[3] else 1)
    return 1 + float(f"{match[1]}{value}") if match[1] and match[3] else value


def bracketed(ipa: str) -> str:
    """Return IPA in brackets, with a stress mark if it could be a word in brackets otherwise."""
    ipa = ipa.strip("/[] ")
    return f"[{ipa}]" if BRACKETED_IPA.fullmatch(f"[{ipa}]") else f"[{STRESS[0]}{ipa}]"


def spelled(written: str) -> str:
    """Return letters and digits one by one, with commas at other characters: "5 5 5, 0 1 2 3"."""
    return ", ".join(" ".join(group.upper()) for group in re.findall(r"[^\W_]+", written))
