"""Spell out numbers: cardinals, ordinals, decimals, fractions, years and Roman numerals."""

import re
from functools import lru_cache

from num2words import num2words

# Digits with or without thousands commas and decimals; or decimals alone.
NUMBER = r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
FRACTION = r"(?:(?:\d+ )?\d+/\d+)"
SCALES = {
    "k": "thousand",
    "m": "million",
    "mn": "million",
    "mil": "million",
    "b": "billion",
    "bn": "billion",
    "tn": "trillion",
    "tr": "trillion",
    "t": "trillion",
}
SCALE = r"(?:\s?(hundred|thousand|million|billion|trillion|crore|lakh|mil|bn|mn|tn|tr|[kmb]|(?<=\d)[tT])\b)?"
ROMAN = r"(?=[IVXLC])(?:X[CL]|L?X{0,3})(?:I[XV]|V?I{0,3})(?<=[IVXLC])\b"
ROMAN_DIGITS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
NAMED_FRACTIONS = frozenset(map(str, [*range(2, 21), 32, 64, 100, 1000]))
PAIRED = {"24/7": "twenty-four seven", "9/11": "nine eleven"}
REGNAL = (
    "Henry|Louis|Charles|George|Edward|William|James|John|Paul|Pius|Elizabeth|Philip|Richard|Napoleon|Leo|"
    "Nicholas|Peter|Alexander|Frederick|Catherine|Benedict|Gregory|Innocent|Urban|Clement|Ferdinand|"
    "Francis|Otto|Ramesses|Mary|Robert|Ptolemy|Darius|Xerxes|Artaxerxes|Nebuchadnezzar|Boniface|Sixtus|"
    "Julius|Wilhelm|Joseph|Leopold|Alfonso|Haakon"
)
PARTS = (
    "Chapter|Part|Volume|Book|Act|Scene|Section|Article|Title|Class|Appendix|Figure|Table|Type|Phase|Mark|"
    "War|Bowl|Level|Stage|Episode|Lesson|Psalm|Canto|Plate|Grade|Unit"
)


def say(number: str) -> str:
    """Return a written number ("1,234.5", ".5", "007", "3/4", "2 1/2") in words."""
    if "/" in number:
        return say_fraction(number)
    whole, point, decimals = number.replace(",", "").partition(".")
    words = [say_whole(whole)] if whole else []
    return " ".join([*words, "point", digit_by_digit(decimals)] if point else words)


@lru_cache(maxsize=65536)
def say_whole(digits: str) -> str:
    """Return an integer in words; one with a leading zero or above 15 digits is read digit by digit."""
    if len(digits) > 15 or (len(digits) > 1 and digits[0] == "0"):
        return digit_by_digit(digits)
    return num2words(int(digits)).replace(" and ", " ")


def digit_by_digit(digits: str) -> str:
    return " ".join(map(say_whole, digits))


def in_pairs(digits: str) -> str:
    """Read digits in pairs: 1984 "nineteen eighty-four", 380 "three eighty", 2009 "two thousand nine"."""
    head, tail = digits[:-2], digits[-2:]
    if len(digits) not in (3, 4) or digits[0] == "0" or (len(digits) == 4 and digits[1:3] == "00"):
        return say_whole(digits)
    return f"{say_whole(head)} {'hundred' if tail == '00' else two_digits(tail)}"


def two_digits(digits: str) -> str:
    """Read two digits of a year or a time: "05" as "oh five"."""
    return f"oh {say_whole(digits[1])}" if digits[0] == "0" else say_whole(digits)


@lru_cache(maxsize=4096)
def ordinal(digits: str) -> str:
    """Read "21" as "twenty-first"; digit by digit above 15 digits."""
    digits = digits.replace(",", "")
    if len(digits) > 15:
        return digit_by_digit(digits)
    return num2words(int(digits), to="ordinal").replace(" and ", " ")


def say_fraction(written: str) -> str:
    if written in PAIRED:
        return PAIRED[written]
    whole, _, fraction = written.rpartition(" ")
    top, bottom = fraction.split("/")
    if top == bottom == "10":
        return f"{say(whole)} ten out of ten".strip()
    if top == bottom or (not whole and int(top) + int(bottom) == 100 and int(top) >= 50):  # "50/50", "80/20"
        return f"{say(whole)} {say(top)} {say(bottom)}".strip()
    if not whole and 1 <= int(top) <= 12 and 21 <= int(bottom) <= 31:  # a date or an expiry: 12/25
        return f"{say(top)} {say(bottom)}"
    if bottom == "100" and not whole and len(top.lstrip("0")) > 1:  # a score
        return f"{say(top)} out of {say(bottom)}"
    if not top.strip("0") or not (bottom in NAMED_FRACTIONS or (top == "1" and len(bottom) > 1)):
        return f"{say(whole)} {say(top)} over {say(bottom)}".strip()
    name = {"2": "half", "4": "quarter"}.get(bottom, ordinal(bottom))
    if top == "1":
        return f"{say(whole)} and a {name}" if whole else f"one {name}"
    part = f"{say(top)} {'halve' if name == 'half' else name}s"
    return f"{say(whole)} and {part}" if whole else part


def with_commas(match: re.Match) -> str:
    """Write "12 500" and "1.234.567,8", numbers of other languages, as "12,500" and "1,234,567.8"."""
    whole, decimals = match.groups()
    return re.sub(r"\D", ",", whole) + (f".{decimals}" if decimals else "")


def roman_numerals(text: str) -> str:
    """Spell out Roman numerals: Henry VIII "the eighth", World War II "two".

    A single letter is a numeral only after a word that requires one.
    """
    if not re.search(r"[IVXLC]\b", text):
        return text
    text = re.sub(r"\bWW(II?)\b", r"World War \1", text)
    # a single I may be the next word, "I told George I was leaving"; other letters an initial, "Paul L. Ames"
    text = re.sub(r"\b((?:King|Queen|Pope|Emperor|Tsar|Kaiser) [A-Z][a-z]+) I\b", r"\1 the first", text)
    text = re.sub(
        rf"\b({REGNAL}) (?![LC]\b|[VX]\b [A-Z][a-z])"
        rf"(?!I\b(?!['’]s\b|[.,;:)]|$| of\b| and\b))({ROMAN})\b(?:\.(?=[,;:]| [a-z]))?",
        lambda m: f"{m[1]} the {ordinal(roman(m[2]))}",
        text,
    )
    # "Part I", "part II", but "the part I like" and "Appendix C"
    parts = rf"(?<!question )\b((?i:{PARTS}))"
    text = re.sub(rf"{parts} ((?i:(?=[IVXLC]{{2}}){ROMAN})|[VX]\b|I\b(?=[.,;:)]|$| of\b))", numbered, text)
    text = re.sub(
        rf"\b({PARTS}) (I)\b(?! (?:am|have|had|will|would|can|think|like|want|saw)\b)", numbered, text
    )
    text = re.sub(rf"^(?=[IVX]{{2}}){ROMAN}(?=\. [\"']?[A-Z])", lambda m: say(roman(m[0])), text)  # a heading
    # "I, II and III"; not the pronoun in "II, IV and I" or the sizes L and XL
    one = rf"(?![ILC]\b){ROMAN}"
    text = re.sub(rf"(?<![\w.'])(?:I, )?{one}(?:(?:,|,? and|,? or) {one})+", numerals, text)
    text = re.sub(rf"(?<!\w)(?=[IVX]{{3}}){ROMAN}", lambda m: say(roman(m[0])), text)
    return re.sub(rf"\b([A-Z][a-z]+) (?!XX|XL|L)(?=[IVXLC]{{2}})({ROMAN})\b", numbered, text)


def numbered(match: re.Match) -> str:
    return f"{match[1]} {say(roman(match[2]))}"


def numerals(match: re.Match) -> str:
    """Spell out a list of Roman numerals in which at least two have several letters."""
    if len(re.findall("[IVXLC]{2,}", match[0])) < 2:
        return match[0]
    return re.sub("[IVXLC]+", lambda m: say(roman(m[0])), match[0])


def roman(numeral: str) -> str:
    values = [ROMAN_DIGITS[letter] for letter in numeral.upper()]
    following = [*values[1:], 0]
    return str(sum(-one if one < two else one for one, two in zip(values, following, strict=True)))
