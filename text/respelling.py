"""Spell English so that espeak-ng says what a reader would say."""

import re

FISH = "fish|fishing|fished|lake|river|pond|caught|catch|grilled|fried|baked|sea|trout|fillet|bait|swim|swam"
NOT_PAST = "".join(
    rf"(?<!{word} )"
    for word in re.findall(
        r"\S+", "did does do to can will would could should may must let please n't 'll not"
    )
)
PAST = (
    r"yesterday|ago|last (?:night|week|month|year|summer|winter|spring|fall|time)|"
    r"when (?:he|she|I|they|we) (?:was|were)"
)
# Words with two pronunciations, spelled as they sound where espeak-ng chooses the wrong one.
HETERONYMS = {
    re.compile(pattern, re.I): spelling
    for pattern, spelling in {
        rf"\bbass\b(?=[^.!?]*\b(?:{FISH})\b)|(?<=mouth )bass\b|(?<=striped )bass\b": "bas",
        rf"(\b(?:{FISH})\b[^.!?]*) bass\b": r"\1 bas",
        rf"{NOT_PAST}\b(he|she) read\b": r"\1 red",
        rf"{NOT_PAST}\bread\b(?=[^.!?]*\b(?:{PAST})\b)": "red",
        r"\b(\w+s) wind (?=(?:through|down|around|along|across|between|past|up) )": r"\1 wined ",
        r"(?<!\bin)(?<!\binto)(?<!\bof)(?<!\bwith)(?<=\w) tears "
        r"(?=(?:easily|apart|open|up|off|out|down the|into the)\b)": " tares ",
    }.items()
}


def for_espeak(text: str) -> str:
    """Return text with the capitals that help espeak-ng, and the letter A as it sounds.

    A capital distinguishes Polish from polish, except at the start of a sentence. In lower case and in
    capitals, "a" alone is an article to espeak-ng.
    """
    for pattern, spelling in HETERONYMS.items():
        text = pattern.sub(spelling, text)
    text = re.sub(r"(?<=[\w,;] )A(?=[.,;:!?)'-]| (?![A-Z][a-z])|$)|\bA(?= [A-Z]\b)", "eigh", text)
    return re.sub(
        r"((?<=\w )|(?<=, ))?\b[^\W\d_]+",
        lambda m: m[0] if m[1] is not None and m[0].istitle() else m[0].lower(),
        text,
    )
