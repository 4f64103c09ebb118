"""Normalization of English text: numbers, abbreviations and symbols as they are read aloud.

The readings are those of LJSpeech's narrator where her recordings contain an example ("January five", "one
hundred twenty", "thirteen dollars, eighty-seven cents"), so that training texts and spoken texts agree.
"""

import re

from text.abbreviations import MONTH, abbreviations, addresses, word_set
from text.characters import to_ascii
from text.dates import dates, decade, telephone, times
from text.numbers import (
    FRACTION,
    NUMBER,
    digit_by_digit,
    in_pairs,
    ordinal,
    roman_numerals,
    say,
    two_digits,
)
from text.quantities import money, units

# Short words that may be in capitals for emphasis. US is excluded: it is usually the country.
COMMON_WORDS = word_set(
    """A I AM AN AND ALL ANY ARE AS AT BAD BE BIG BUT BY CAN DAY DID DO END FOR FUN GET GO GOD GOT HAD HAS
    HE HER HEY HIM HIS HOT HOW IF IN IS IT'S ITS JOY LET LOT LOW MAN MAY ME MEN MY NEW NO NOT NOW OF OFF
    OH OLD ON ONE OR OUR OUT OWN PUT RED RUN SAW SAY SEE SHE SO SIR SIX TEN THE TOO TOP TRY TWO UP USE
    WAR WAS WAY WE WHO WHY YES YET YOU"""
)
ACRONYMS = word_set("NATO NASA UNESCO UNICEF OPEC AIDS SARS LASER RADAR NAFTA PIN SIM RAM ROM SWAT FIFA UEFA")
# Always read letter by letter, even with a vowel or in a text that is all in capitals.
INITIALISMS = word_set(
    """FBI CIA USA UK US EU UN TV DVD CD PC BBC CNN NBC CBS ABC IBM USSR USAF UCLA IEEE NCAA NAACP ASAP
    HTML HTTP CEO CFO CTO UFO IRA NYPD LAPD DNA RNA ATM FAQ DIY GPS CPU GPU USB URL IOU MIA NBA NFL NHL
    KGB PRS LED AI API IQ USS AOL AFL CIO USPS YMCA YWCA ACLU HIV ESPN OECD"""
)


def clean(text: str) -> str:
    """Return English text as it is read aloud: lower-case letters and punctuation, numbers in words.

    Characters without a reading (private use, unpaired surrogates) stay unchanged. The function is
    idempotent.
    """
    text = to_ascii(text)
    shouted = len(re.findall("[A-Z]{2,}", text)) > 1 and not re.search("[a-z]{2}", text)
    text = addresses(text)
    text = abbreviations(text)
    text = roman_numerals(text)
    if any(map(str.isdigit, text)):  # these rules take the most time
        text = numbers(text)
    text = capitals(text, shouted)
    return tidy(symbols(text).lower())


PER = "second|minute|hour|day|night|week|month|year|person"
# After these words, any number that looks like a year is read as a year.
BEFORE_YEARS = re.compile(
    rf"\b(?:in|since|until|till|by|during|circa|year|of|from|before|after|{MONTH})[ ,]+(?:\d{{1,2}},? )?$",
    re.I,
)
COUNTED = re.compile(
    r" (?:(?!(?:was|is|has|as|its|his|this|us|versus|plus|times|across|perhaps|always|thus|yes|does)\b)"
    r"[a-z]{2,}s|people|men|women|children|percent|feet|hertz)\b"
)
NAMED_BY_NUMBER = re.compile(
    r"\b(?:numbers?|pages?|frame|exhibit|room|flight|route|highway|suite|apartment) $", re.I
)
SERIAL = re.compile(r"\b(?:(?:box|number) \d{5}|number [\d,]{10}|box \d{4})", re.I)
BEFORE_EARLY_YEARS = re.compile(r"(?<!\bone )(?<!\b1 )\b(?:in|year) $")
STREET = re.compile(
    r" (?:(?:North|South|East|West|[NSEW])\.? [A-Z]"
    r"|(?:[A-Z][a-z]+ )+(?:Street|Avenue|Road|Drive|Lane|Boulevard)\b)"
)


def numbers(text: str) -> str:
    """Spell out all digits, the most specific forms first: telephone numbers, dates, times, money, units."""
    text = re.sub(r"(?<![\w.,-])(?:\+\d{1,3}[ -]?)?\(?\d{3}\)?[ -]\d{3}-\d{4}(?![\w-])", telephone, text)
    text = re.sub(r"(?<![\w.,-])\+\d{1,3}(?:[ -]\d{2,})+(?![\w-])", telephone, text)
    text = re.sub(r"(?<![\w.,-])\d{3}-\d{4}(?![\w-])", telephone, text)
    text = re.sub(r"(?<=\d) (?=000\b)", "", text)  # 10 000
    text = re.sub(r"(?<![\w'])\d{1,3}(?:'\d{3})+(?![\d'\"])", lambda m: m[0].replace("'", ","), text)  # 1'000
    # Psalm 23:1-6; two digits are read as a time
    text = re.sub(r"(?<![\w:.])(\d{1,3}):(?=(?:\d|[6-9]\d|\d{3})-\d+(?![\d:]))", r"\1 ", text)
    text = re.sub(rf"(\d ?[A-Za-z]{{0,8}})/({PER})\b", r"\1 per \2", text)  # $20/hour
    text = dates(text)
    text = re.sub(r"(?<![\w.,-])\d+(?:-\d+){2,}(?![\w-])", telephone, text)
    # 5-10, $5-$10, 5%-10%, 3 - 1, 9am-5pm; before an equals sign it is a subtraction
    text = re.sub(r"(\d)\s?-\s?(?=[\d.]+\s?=)", r"\1 minus ", text)
    text = re.sub(
        r"(?<=\d)(%|°[CF]?|\s?[ap]\.?m\.?|st|nd|rd|th)?(?: - ?| -- |-)(?=[$£€¥]?\.?\d)", r"\1 to ", text
    )
    text = re.sub(r"(?<![\w).-])-(?=[$£€¥]?\.?\d)", "minus ", text)
    text = times(text)
    text = money(text)
    text = re.sub(r"\s?%", " percent", re.sub(r"%(?=\w)", "% ", text))
    text = re.sub(r"(?<![\w.])\.(\d\d)(?=[ -](?i:calib|special|magnum|rifle|pistol|revolver))", r"\1", text)
    text = units(text)
    text = re.sub(rf"\b({NUMBER})(?i:st|nd|rd|th)\b", lambda m: ordinal(m[1].replace(".", "")), text)
    text = re.sub(r"(?:'|\b)(?:(\d\d)?(\d)0)'?s\b", decade, text)
    text = re.sub(r"(?<!\w)'(\d\d)\b", lambda m: two_digits(m[1]), text)
    text = re.sub(r"#\s?(?=\d)", "number ", text)
    text = re.sub(r"(\d)\s?\*\s?(?=\d)", r"\1 times ", re.sub(r"(\d)x(?=\d)", r"\1 by ", text))
    text = re.sub(
        r"(?<![\w.])\d+(?:\.\d+){2,}\b", lambda m: " point ".join(map(say, m[0].split("."))), text
    )  # 2.0.1
    text = re.sub(r"\b([A-Za-z]?[a-z]+)-(?=\d)", r"\1 ", text)  # pre-1914, Catch-22
    # "A380", "F-16", "B2B", "mp3", "4K", "133-A"
    text = re.sub(r"(?<![\w.])(?:[A-Za-z]+-?\d|\d+-?[A-Z]\b|\d+[A-Za-z])[A-Za-z\d]*\b", model_name, text)
    return re.sub(rf"{FRACTION}|{NUMBER}", plain_number, text)


def model_name(match: re.Match) -> str:
    """Read letters and numbers in turn; four or more digits after letters are a serial number."""
    parts = []
    for part in re.findall(r"[A-Za-z]+|\d+", match[0]):
        if part.isdigit():
            serial = len(part) > (3 if len("".join(parts)) < 2 else 2) and (parts or len(part) > 4)
            parts.append(digit_by_digit(part) if serial else in_pairs(part))
        else:  # letters without a vowel are spelled: mp3, but not Catch-22
            is_word = re.search(r"[aeiouy]", part.lower()) and not (part.isupper() and len(part) < 4)
            parts.append(part if is_word else " ".join(part))
    return " ".join(parts)


def plain_number(match: re.Match) -> str:
    written, text = match[0], match.string
    before, after = text[max(0, match.start() - 20) : match.start()], text[match.end() : match.end() + 60]
    space = " " if before[-1:].isalpha() else ""
    end = " " if after[:1].isalpha() else ""
    if SERIAL.search(before[-8:] + written):
        return digit_by_digit(written.replace(",", "")) + end
    if written.isdigit() and len(written) in (3, 4):
        is_year = len(written) == 4 and "1100" <= written <= "2099"
        is_year = is_year and (BEFORE_YEARS.search(before) or not COUNTED.match(after))
        is_old = BEFORE_EARLY_YEARS.search(before) and re.match(r"[,.;:)]", after) and len(written) == 3
        is_old = is_old or re.match(r" (?:B C|BC)\b", after)
        if is_year or is_old or NAMED_BY_NUMBER.search(before) or STREET.match(after):
            return space + in_pairs(written) + end
    return space + say(written) + end


def capitals(text: str, shouted: bool) -> str:
    """Spell initialisms such as FBI; acronyms such as NASA and emphasized words stay words."""
    text = re.sub(r"\b([A-Z]{1,2})&([A-Z])\b", lambda m: f"{' '.join(m[1])} and {m[2]}", text)  # AT&T, R&B
    return re.sub(r"(?<![A-Za-z'])[A-Z]{2,}(?:s\b|(?![a-z]))", lambda m: capital_word(m, shouted), text)


def capital_word(match: re.Match, shouted: bool) -> str:
    word = match[0].removesuffix("s")
    plural = "'s" if match[0].endswith("s") else ""
    before = match.string[max(0, match.start() - 12) : match.start()]
    after = match.string[match.end() : match.end() + 12]
    neighbours = before.split()[-1:] + after.split()[:1]
    is_shouted = shouted or any(one.strip(".,!?;:\"'()") in COMMON_WORDS - {"A", "I"} for one in neighbours)
    if word in ACRONYMS or word in COMMON_WORDS:
        return match[0]
    is_spelled = word in INITIALISMS or not re.search("[AEIOUY]", word) or (len(word) <= 3 and not is_shouted)
    return " ".join(word) + plural if is_spelled else match[0]


def symbols(text: str) -> str:
    """Spell out the remaining ASCII symbols."""
    text = text.translate(str.maketrans("[]{}", "()()"))
    text = re.sub(r"(?:[=*_~#] ?){3,}", " ", text)  # a line across the page
    text = re.sub(r"(?<!\w)([*_`~]{1,3})(\w[^*_`~]*)\1(?!\w)", r"\2", text)  # Markdown emphasis
    text = re.sub(r"\b([CFc])#", r"\1 sharp", text)
    text = re.sub(r"#(?=\w)", " hashtag ", text)
    text = re.sub(r"~(?= ?\w)", " about ", re.sub(r"[-=]>", " to ", text))
    text = re.sub(r"\^(two|three)\b", lambda m: {"two": " squared", "three": " cubed"}[m[1]], text)
    text = re.sub(r"\band/or\b", "and or", text, flags=re.I)
    for mark, word in {
        "&": "and", "@": "at", "#": "number", "+": "plus", "=": "equals", "/": "slash", "\\": "backslash",
        "_": "underscore", "*": "asterisk", "~": "tilde", "^": "to the power of", "<": "less than",
        ">": "greater than", "%": "percent", "$": "dollars", "£": "pounds", "€": "euros", "¥": "yen",
        "₹": "rupees", "₽": "rubles", "₩": "won", "₿": "bitcoin", "¢": "cents", "°": "degrees", "μ": "micro",
    }.items():  # fmt: skip
        text = text.replace(mark, f" {word} ")
    return text.replace("|", ", ").replace("`", "'")


def tidy(text: str) -> str:
    """Normalize punctuation: " - ", "..." and single marks with a space after them and none before."""
    text = re.sub(r"-{2,}", " - ", text)
    text = re.sub(r"(?<=[a-z]):(?=[a-z])", " ", text)  # "twelve:thirty" in LJSpeech
    text = re.sub(r"\s+(?=[,;:!?.])|(?<=\()\s+|\s+(?=\))", "", " ".join(text.split()))
    text = re.sub(r"[,;:]+(?=[,;:.!?])", "", re.sub(r"([!?])\1+", r"\1", text))
    text = re.sub(r"\.{2,}", "...", text)
    text = re.sub(r"([,;:!?])(?=[a-z])|(?<=[a-z])\.(?=[a-z])", r"\g<0> ", text)
    return re.sub(r"^(?:-(?: |$)|[,;:] ?)+", "", text).strip()
