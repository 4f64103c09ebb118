"""Normalization of English text: numbers, abbreviations and symbols as they are read aloud.

The readings are those of LJSpeech's narrator where her recordings contain an example ("January five", "one
hundred twenty", "thirteen dollars, eighty-seven cents"), so that training texts and spoken texts agree.
"""

import re

from text.abbreviations import MONTH, abbreviations, addresses
from text.boundaries import expand
from text.capitals import articles, capitals, spell
from text.characters import to_ascii
from text.dates import dates, decade, named_dates, times
from text.digits import in_groups, named_digits, telephones
from text.numbers import (
    FRACTION,
    NUMBER,
    SCALES,
    digit_by_digit,
    in_pairs,
    ordinal,
    roman_numerals,
    say,
    two_digits,
    with_commas,
)
from text.quantities import PERIODS, SIGN, UNIT, money, powers, thousands, units, units_alone
from text.respelling import for_espeak


def clean(text: str, phonemes: bool = False) -> str:
    """Return English text as it is read aloud: lower-case letters and punctuation, numbers in words.

    For a reader of `phonemes`, accents, capitals and the letter A stay recognizable where espeak-ng then
    reads the word better. Characters without a reading (private use, unpaired surrogates) stay unchanged.
    Cleaned text does not change again.
    """
    text = spell_out(to_ascii(text, keep_accents=phonemes))
    if phonemes:
        return tidy(for_espeak(text))
    cleaned = tidy(text.lower())
    for _ in range(3):  # "100apt." became "one hundred apt."
        again = tidy(spell_out(cleaned).lower())
        if again == cleaned:
            break
        cleaned = again
    return cleaned


def spell_out(text: str) -> str:
    """Return text with words for its numbers, abbreviations and symbols."""
    shouted = len(re.findall("[A-Z]{2,}", text)) > 1 and not re.search("[a-z]{2}", text)
    text = addresses(articles(text, shouted))
    text = abbreviations(text)
    text = roman_numerals(text)
    text = named_dates(text)
    if any(map(str.isdigit, text)):  # these rules take the most time
        text = numbers(text)
    return symbols(capitals(units_alone(text), shouted))


SCORED = r"\b(?:scored?|scores|rated?|rating|gave it|give it|got|grade)(?: (?:a|an|of|it|is|was|at))?"
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
    r"\b(?:numbers?|pages?|frame|exhibit|room|flight|route|highway|suite|apartment|error|port|xbox|fahrenheit|"
    r"levi's|area|psalm|locker|agent) $",
    re.I,
)
SERIAL = re.compile(r"\b(?:box \d{5}|number (?:is |was )?\d{5,}|number [\d,]{10}|box \d{4})", re.I)
BEFORE_EARLY_YEARS = re.compile(r"(?<!\bone )(?<!\b1 )\b(?:in|year) $")
STREET = re.compile(
    r" (?:(?:North|South|East|West|[NSEW])\.? (?:[A-Z]|[a-z]+(?:st|nd|rd|th) )"
    r"|(?:[A-Z][a-z]+ )+(?i:street|avenue|road|drive|lane|boulevard|place|court|square|terrace|parkway|"
    r"way)\b)"
)


def numbers(text: str) -> str:
    """Spell out all digits, the most specific forms first: dates, telephone numbers, times, money, units."""
    text = re.sub(r"\b([FCA]Y)(?=\d{4}\b)", r"\1 ", text)  # fiscal years
    text = re.sub(r"\+/-\s?(?=[\d.])", "plus or minus ", text)
    text = dates(text)
    text = telephones(text)
    text = named_digits(text)
    text = re.sub(r"(?<=\d) (?=000\b)", "", thousands(text))  # 10 000
    # 1.000.000,00; not the address 192.168.100.100
    text = re.sub(
        r"(?<![\w.,])(?!(?:[12]?\d?\d\.){3}[12]?\d?\d(?![\w.,]\d|\w))"
        r"(\d{1,3}(?:\.\d{3}){2,})(?:,(\d+)(?!\w|[.,]\d))?(?![\w.]\d)",
        with_commas,
        text,
    )
    # IP addresses
    text = expand(
        r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})(?![\w]|\.\d)",
        lambda m: " dot ".join(map(say, m[1].split("."))),
        text,
    )
    text = re.sub(r"(?<![\w'])\d{1,3}(?:'\d{3})+(?![\d'\"])", lambda m: m[0].replace("'", ","), text)  # 1'000
    text = expand(
        r"(?<![\w.,])1(?:(0)(0)?)?((?:,?000)*)s\b(?= of\b|(?<=000s)$|(?<=000s)[,.;])", round_plural, text
    )
    text = expand(rf"({SCORED} )(\d+)/(\d+)\b", lambda m: f"{m[1]}{say(m[2])} out of {say(m[3])}", text, re.I)
    text = re.sub(r"(?<![\w:.,])(\d+):(?=\d{1,3}(?:,\d{3})+(?![\d:]))", r"\1 to ", text)  # 1:25,000
    # Psalm 23:1-6; two digits are read as a time
    text = re.sub(r"(?<![\w:.])(\d{1,3}):(?=(?:\d|[6-9]\d|\d{3})-\d+(?![\d:]))", r"\1 ", text)
    text = re.sub(r"\b((?!Ratio)[A-Z][a-z]+ \d{1,3}):(?=\d(?![\d:]))", r"\1 ", text)  # Psalm 23:4
    text = re.sub(rf"(\d ?[A-Za-z]{{0,8}})/({PERIODS})\b", r"\1 per \2", text)  # $20/hour
    text = expand(r"(?<![\w.,-])\d+(?:-\d+){2,}(?![\w-])", lambda m: in_groups(m[0]), text)
    text = expand(
        r"(?<![\w.])(\d(?:\.\d+)?)[eE]([+-]?)(\d{1,3})\b(?![.-]\d)",
        lambda m: ("" if m[1] == "1" else f"{m[1]} times ") + f"10^{m[2].strip('+')}{m[3]}",
        text,
    )  # 1.5e-3
    text = powers(versions(text))
    text = re.sub(r"(?<![\w.,])(\d\d)-\1(?![\w-])", r"\1 \1", text)  # 50-50
    # 1920x1080, 3x400m, 2 x 4; an equals sign makes it a product
    text = expand(
        r"\b(\d+)/(\d+)(?= ?= ?\d+(?![\d/]))", lambda m: f"{say(m[1])} divided by {say(m[2])}", text
    )
    text = re.sub(r"\bBP (?:is |was |of )?(?=\d{2,3}/\d{2,3}\b)", lambda m: m[0].replace("BP", "B P"), text)
    text = re.sub(r"(?<=\d\.\d)(\d?)([KMB])\b(?!-)", lambda m: f"{m[1]} {SCALES[m[2].lower()]}", text)  # 8.4M
    text = re.sub(r"(?<![\w/])(\d+\.\d+)/(?=\d+(?![\w/.]\d))", r"\1 out of ", text)  # 9.5/10
    text = re.sub(r"\b24x7\b", "24/7", text)
    text = re.sub(r"(?<=\d)\s?(bn|mn|tn|tr)\b", lambda m: f" {SCALES[m[1]]}", text) if "n" in text else text
    text = re.sub(r"(?<![\w.,])(\d+)(?=[a-z]{4,}\b)", r"\1 ", text)  # 365days
    text = re.sub(r"\b0x(?=[\dA-Fa-f])", "0 X ", text)
    text = expand(
        r"\b802\.11([a-z]{0,2})\b", lambda m: f"eight oh two dot eleven {spell(m[1])}".strip(), text
    )
    text = re.sub(r"\bIPv(?=[46]\b)", "I P v ", text)
    text = expand(r"\b(\d)/(\d)(?= time\b)", lambda m: f"{say(m[1])} {say(m[2])}", text)
    text = re.sub(r"(?<=\d) ?x ?(?=[\d.]+ ?=)", " times ", text)
    text = expand(r"\b(\d{3,4})(?:x| x )(\d{3,4})\b", lambda m: f"{in_pairs(m[1])} by {in_pairs(m[2])}", text)
    text = re.sub(r"(?<=\d)(?<!\b0)x(?=\d)|(?<=\d) x (?=\d+\b(?! x [^\d]))", " by ", text)
    text = ranges(text)
    text = times(text)
    text = money(text)
    text = re.sub(r"\s?%", " percent", re.sub(r"%(?=\w)", "% ", text))
    text = re.sub(r"(?<![\w.])\.(\d\d)(?=[ -](?i:calib|special|magnum|rifle|pistol|revolver))", r"\1", text)
    text = units(text)
    text = expand(rf"\b({NUMBER})(?i:st|nd|rd|th)\b", lambda m: ordinal(m[1].replace(".", "")), text)
    text = expand(r"(?:'|\b)(?:(\d\d)?(\d)0)'?s\b", decade, text)
    text = expand(r"(?<!\w)'(\d\d)\b", lambda m: "two thousand" if m[1] == "00" else two_digits(m[1]), text)
    text = expand(r"#\s?(?=\d)", "number ", text)
    text = expand(r"(?<=\d)\s?\*\s?(?=\d)", " times ", text)
    text = expand(
        r"(?<=\d)x(?= (?:as|more|faster|slower|larger|bigger|higher|less|better|the|zoom)\b)", " times", text
    )
    text = expand(
        r"(?<![\w.])\d+(?:\.\d+){2,}\b", lambda m: " point ".join(map(say, m[0].split("."))), text
    )  # 2.0.1
    text = re.sub(r"\b([A-Za-z]?[a-z]+)-(?=\d)", r"\1 ", text)  # pre-1914, Catch-22
    # "A380", "F-16", "B2B", "mp3", "4K", "133-A"
    text = expand(r"(?<![\w.])(?:[A-Za-z]+-?\d|\d+-?[A-Z]\b|\d+[A-Za-z])[A-Za-z\d]*\b", model_name, text)
    # HTTP 404, GTX 1080, BA 2490
    text = expand(
        rf"\b((?!(?:AD|BC|BCE|CE|IN|OF|BY|TO|AT|ON|{SIGN})\b)[A-Z]{{2,5}} )(\d{{3,4}})(?![\w,./-]\d|\w|%)",
        named_number,
        text,
    )
    return expand(rf"{FRACTION}|{NUMBER}", plain_number, text)


def ranges(text: str) -> str:
    """Read a hyphen between numbers as "to", before a number or an equals sign as "minus"."""
    if "-" not in text:
        return text
    # 5-10, $5-$10, 5%-10%, 3 - 1, 9am-5pm; before an equals sign it is a subtraction
    text = re.sub(r"(\d)\s?-\s?(?=[\d.]+\s?=)", r"\1 minus ", text)
    text = re.sub(
        rf"(?<![A-Za-z\d])(\d+(?:,\d{{3}})*(?:\.\d+)?)(%|°[CF]?|\s?[ap]\.?m\.?|\s?[AP] M|st|nd|rd|th|"
        rf"[kKMB]n?|\s?(?:{UNIT}))?"
        r"(?: - ?| -- |-)(?=[$£€¥]?\.?\d)",
        r"\1\2 to ",
        text,
    )
    text = re.sub(r"(?<=\d)-(to|by|for)-(?=\d)", r" \1 ", text)  # a 9-to-5 job
    text = re.sub(r"(?<=\d)-(?=(?:present|now|today|date)\b)|\b(noon|midnight)-(?=\d)", r"\1 to ", text)
    text = re.sub(
        r"(?:(?<=[ap]m)|(?<=[AP] M))-(?=noon|midnight)|(?<=\d)-(?=(?:noon|midnight)\b)", " to ", text
    )
    text = expand(r"(?<![\w).-])-(?=[$£€¥]?\.?\d)", "minus ", text)
    return text


def versions(text: str) -> str:
    """Read "v2.0.1", "version 3.11" and "Python 3.11": each part is a number."""
    text = re.sub(r"\b([Vv]ersion )v\.?(?=\d)", r"\1", text)
    text = expand(r"(?<![\w.-])(?:v\.?(?=\d{1,3}(?:\.\d+)*\b)|V\.?(?=\d{1,3}(?:\.\d+)+\b))", "version ", text)
    return expand(
        r"\b((?i:version|release|python|ios|android|macos|java|php|ubuntu|kernel|django|node|chrome)) ?"
        r"(\d+(?:\.\d+)+)([a-z]?)(?![\w,])",
        lambda m: (
            f"{m[1]} {' point '.join(version_part(part) for part in m[2].split('.'))} {m[3].upper()}".strip()
        ),
        text,
    )


def version_part(digits: str) -> str:
    return two_digits(digits) if len(digits) == 2 else say(digits)


def round_plural(match: re.Match) -> str:
    """Read "100s of" and "1,000s of" as "hundreds of" and "thousands of"."""
    ten, hundred, zeros = match.groups()
    first = "hundred" if hundred else "ten" if ten else ""
    scale = {0: "", 1: "thousand", 2: "million"}.get(zeros.count("000"))
    if scale is None or not (first or scale):
        return match[0]
    return f"{first} {scale}".strip() + "s"


def model_name(match: re.Match) -> str:
    """Read letters and numbers in turn; four or more digits after letters are a serial number."""
    parts = []
    for part in re.findall(r"[A-Za-z]+|\d+", match[0]):
        if part.isdigit():
            # "RTX 40 90", but "C 2 7 6 6", as in LJSpeech
            few = (
                3
                if len("".join(parts)) == 1
                else 2
                if match.string[: match.start()].endswith("number ")
                else 4
            )
            serial = (parts or len(part) > 4) and (
                (len(part) > few and not (few == 3 and part.endswith("00")))
                or (len(part) > 2 and part[0] == "0")
            )
            parts.append(digit_by_digit(part) if serial else in_pairs(part))
        else:  # letters without a vowel are spelled: mp3, but not Catch-22
            is_word = re.search(r"[aeiouy]", part.lower()) and not (part.isupper() and len(part) < 4)
            parts.append(part if is_word else spell(part))
    return " ".join(parts)


def named_number(match: re.Match) -> str:
    counted = COUNTED.match(match.string[match.end() : match.end() + 60])
    return match[0] if counted or len(set(match[1])) < 2 else match[1] + in_pairs(match[2])


def plain_number(match: re.Match) -> str:
    written, text = match[0], match.string
    before, after = text[max(0, match.start() - 20) : match.start()], text[match.end() : match.end() + 60]
    space = " " if before[-1:].isalpha() else ""
    end = " " if after[:1].isalpha() else ""
    if written.isdigit() and len(written) > 8 and not written.endswith("000"):  # a telephone or an account
        return space + digit_by_digit(written) + end
    if "." not in written and SERIAL.search(before[-12:] + written):
        return digit_by_digit(written.replace(",", "")) + end
    if written.isdigit() and len(written) in (3, 4):
        is_year = (
            len(written) == 4 and ("1100" if not BEFORE_YEARS.search(before) else "1001") <= written <= "2099"
        )
        is_year = is_year and (BEFORE_YEARS.search(before) or not COUNTED.match(after))
        is_old = BEFORE_EARLY_YEARS.search(before) and re.match(r"[,.;:)]", after) and len(written) == 3
        is_old = is_old or re.match(r" (?:B C|BC)\b", after)
        if is_year or is_old or NAMED_BY_NUMBER.search(before) or STREET.match(after):
            return space + in_pairs(written) + end
    return space + say(written) + end


def symbols(text: str) -> str:
    """Spell out the remaining ASCII symbols."""
    text = text.translate(str.maketrans("[]{}", "()()"))
    # attributes, whose values may be several words by now, set tags apart from comparisons: "a<b then c>d"
    attributes = r"(?: +(?:[\w:-]+ *=[^<>]{0,200}|hidden|data-[\w-]+))?"
    names = "b|i|u|em|strong|br|hr|p|a|span|div|sub|sup|code|ul|ol|li|table|tr|td|th"
    text = re.sub(rf"</?(?:{names}){attributes} */?>", " ", text)
    text = re.sub(r" ?!==? ?(?=[\w\"'(-])", " is not equal to ", text)
    text = re.sub(r"(?<=[\w\"')]) ?== ?(?=[\w\"'(-])|(?<=[\w\"')])===(?=[\w\"'(-])", " equals ", text)
    text = re.sub(r"(?<!\S)\.(?=NET\b)", "dot ", text)
    text = emphasized(text)
    text = re.sub(r"(?:[=*_~#] ?){3,}", " ", text)  # a line across the page
    text = re.sub(r"(?<=\b[Aa] )([A-F])-(?!\w)", r"\1 minus", text)  # a grade
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


def emphasized(text: str) -> str:
    """Remove Markdown's marks of emphasis and code, first the inner ones: "**`a`**", "**one** *two*"."""
    for _ in range(3):
        inner = r"(?=[\"'($£€#@&+-]{0,2}[^\W_])(?:[^*_`~]|(?<=[^\W_])_(?=[^\W_]))*(?<![\s(])"
        again = re.sub(rf"(?<!\w)([*_`~]{{1,3}})({inner})\1(?!\w)", r"\2", text)
        # _**very**_: an underscore beside the inner marks is a letter for \w
        again = re.sub(rf"(?<=(?<!\w)_)([*`~]{{1,3}})({inner})\1(?=_(?!\w))", r"\2", again)
        if again == text:
            break
        text = again
    return text


def tidy(text: str) -> str:
    """Normalize punctuation: " - ", "..." and single marks with a space after them and none before."""
    text = re.sub(r"-{2,}", " - ", text)
    text = re.sub(r"(?<=[a-z]):(?=[a-z])", " ", text)  # "twelve:thirty" in LJSpeech
    text = re.sub(r"\s+(?=[,;:!?.])|(?<=\()\s+|\s+(?=\))", "", " ".join(text.split()))
    text = re.sub(r"[,;:]+(?=[,;:.!?])", "", re.sub(r"([!?])\1+", r"\1", text))
    text = re.sub(r"\.{2,}", "...", text)
    text = re.sub(r"(?<=[a-z])\.(?=[,;:])", "", text)  # "eight ounces., or"
    text = re.sub(r"([,;:!?])(?=[a-z])|(?<=[a-z])\.(?=[a-z])", r"\g<0> ", text)
    return re.sub(r"^(?:-(?: |$)|[,;:] ?)+", "", text).strip()
