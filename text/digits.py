"""Spell out digits that are names: telephone numbers, zip codes, PINs, order and flight numbers."""

import re

from text.abbreviations import STATES
from text.boundaries import expand
from text.capitals import is_word, spell
from text.numbers import digit_by_digit, in_pairs, say_whole

# What names digits that are read one by one, and digits that are read in pairs if there are few.
CODES = (
    r"(?i:zip|postal code|postcode|pin|passcode|password|codes?|otp|extension|account|serial|routing|"
    r"case(?= n)|docket|ssn|social|vin|ein|area code|last four|swift|upc|sku|pnr|claim|"
    r"tracking|badge|reference|confirmation|card|imei|isbn|passport|social security|license|license plate|id)"
)
NUMBERED = (
    r"(?i:flight|order|invoice|ticket|case|train|bus|tram|gate|room|channel|suite|apartment|locker|unit|bill|"
    r"docket|form|highway|route|interstate|model|item|part|frame|exhibit|policy|claim|batch|lot|booking|"
    r"receipt|transaction|job|request|bug|issue|version)"
)
COUNTED = (
    "people|percent|dollars|euros|pounds|cents|points|times|years|days|hours|minutes|months|weeks|miles|users|items|"
    "words|lines|letters|characters|digits|votes|tests|samples|customers|friends|members"
)
LINK = (
    r"(?:(?: (?i:number|numbers|no\.?|num\.?|code|id|is|are|was|has been|reads|ends in|ending in|"
    r"ending with|ends with|digits|changed to)"
    r"|:| ?#| -|'s) ?){0,3}"
)
MARK = r"(?: (?i:number|no\.?|num\.?|id|code))?(?:: ?| ?#)?"
# "call 911", "text 741741": a number of any length
CALL = (
    r"(?i:call|calls|called|calling|dial|dials|dialed|dialing|phone|ring|fax|whatsapp|hotline|text|tel\.?"
    r"|telephone|mobile)(?: [A-Z]{2,} to)?(?: (?:me|us|them|him|her))?(?: (?:at|on|to|is|number))?:? "
)
TOLL_FREE = {"800": "eight hundred", "900": "nine hundred"}
TELEPHONE = (
    r"(?:\+?\d{1,3}[ .-]?)?\(\d{3}\)[ .-]?\d{3}[ .-]\d{4}",  # (555) 123-4567
    r"(?:\+?1[ .-])?\d{3}[ .-]\d{3}[ .-]\d{4}",  # 555-123-4567, 1 800 555 1234
    # +44 (0)20 7946 0958, +33 1 42 68 53 00; "+12" is a change
    r"\+(?=(?:[ .()-]{0,2}\d){8})\d{1,3}(?:[ .-]?\(?\d{1,9}\)?){1,6}",
    r"00\d{1,3}(?: \d{1,9}){2,6}",
    # 020 7946 0958, 030 1234567; not the end of "10 000-12 500"
    r"(?!(?<=\d )(?:000\b|0\d\d-\d{1,3} \d{3}\b(?! \d)))\(?0\d{1,4}\)?(?:[ /-]\d{2,8}){2,5}",
    r"\(?0\d{2,4}\)?[ /-]\d{5,8}",
    r"0\d(?:\.\d\d){4}",  # 01.42.68.53.00
    r"1\d\d[ -]\d{4}[ -]\d{4}|1[38]00 \d{3} \d{3}|13 \d\d \d\d",  # China, Australia
    r"\d{4}(?:[ -]\d{4}){3}",  # a card
    r"\d{3}-\d{4}",
)


def telephones(text: str) -> str:
    """Spell out telephone numbers and cards, group by group."""
    vanity = r"(?<![\w.,-])((?:1-)?[89]\d\d(?:-\d+)*)"
    vanity += r"((?:-(?=[A-Z\d-]*[A-Z]{2})[A-Z\d]+|-[A-Z\d]+(?=-[A-Z]{2}))+)(?!\w)"
    text = expand(vanity, lambda m: f"{in_groups(m[1])}, {vanity_words(m[2])}", text)
    text = expand(r"(?<=-\d{4}),? ?x(?=\d{2,5}\b)", " extension ", text)
    text = expand(
        r"\b((?i:dial|press|call|hit) )\*(\d*)", lambda m: f"{m[1]}star {digit_by_digit(m[2])}", text
    )
    text = expand(
        rf"(?<![\w.,+-])(?:{'|'.join(TELEPHONE)})(?!\w|-\w|[.,]\d)", lambda m: in_groups(m[0]), text
    )
    return expand(
        rf"\b({CALL})(\d[\d -]{{1,14}}\d)(?: or (\d{{3}}))?(?!\w|[,.:-]\d| (?!(?:is|was|as|has|always|"
        rf"unless)\b)[a-z]+s\b| [ap]\.?m)",
        lambda m: m[1] + in_groups(m[2]) + (f" or {digit_by_digit(m[3])}" if m[3] else ""),
        text,
    )


def in_groups(number: str) -> str:
    """Read the digits of each group: "two one two, five five five"; 800 as "eight hundred"."""
    groups = re.findall(r"\d+", number)
    words = [
        TOLL_FREE[group] if group in TOLL_FREE and place < 2 and len(number) > 3 else digit_by_digit(group)
        for place, group in enumerate(groups)
    ]
    return ("plus " if number.startswith("+") else "") + ", ".join(words)


def vanity_words(written: str) -> str:
    parts = re.findall(r"[A-Z]+|\d+", written)
    return " ".join(
        digit_by_digit(part) if part.isdigit() else part.lower() if is_word(part) else spell(part)
        for part in parts
    )


def named_digits(text: str) -> str:
    """Spell out digits after the word that says what they name."""
    states = "|".join({*STATES, *STATES.values()})
    text = expand(
        rf"(?<=\b)((?:{states}),? )(\d{{5}})(?:-(\d{{4}}))?(?![\w,]|\.\d)",
        lambda m: m[1] + ", ".join(map(digit_by_digit, filter(None, m.group(2, 3)))),
        text,
    )
    text = expand(
        r"(\b(?:code|pin|password|number|combination)\b[^.!?\d]* from )(\d{3,8})( to )(\d{3,8})(?![\w,%])",
        lambda m: f"{m[1]}{digit_by_digit(m[2])}{m[3]}{digit_by_digit(m[4])}",
        text,
        re.I,
    )
    # zip codes 10001 and 10002
    text = expand(
        r"(?<=codes )\d{4,}(?:(?:,? and | or |, )\d{4,})+\b(?![,.]\d)",
        lambda m: re.sub(r"\d+", lambda one: digit_by_digit(one[0]), m[0]),
        text,
    )
    text = expand(
        rf"\b({CODES}{LINK} ?)(\d[\d-]*\d)(?![\w%]|[,.:]\d| (?:{COUNTED})\b)",
        lambda m: re.sub(r" ?# ?", " number ", m[1]) + in_groups(m[2]),
        text,
    )
    # No. 22-451, case 20-1234
    text = expand(
        r"\b((?:[Nn]umber|[Cc]ase|[Dd]ocket|EIN|[Oo]rder|[Ii]nvoice|[Pp]olicy|[Ff]ile|"
        r"[Pp]art)(?: [Nn]umber)? #?)(\d+-\d{3,})(?![\w-])",
        lambda m: m[1].replace("#", "number ") + in_groups(m[2]),
        text,
    )
    text = expand(r"\b(\d{3})\(([a-z])\)(?:\((\d)\))?", lambda m: section(m), text)  # 401(k)
    text = expand(  # Beverly Hills 90210
        r"(?<=[a-z,.] )((?:[A-Z][a-z]+|[A-Z]{2,3}) )(\d{5})(?=[.,;:!?)]|$)(?!,\d)",
        lambda m: m[1] + digit_by_digit(m[2]),
        text,
    )
    text = expand(
        rf"\b({NUMBERED}{MARK} ?)((?:[A-Z]{{1,3}}[ -]?)?)(\d{{3,}})(?!\w|[,.:-]\d|-[A-Z]\b)", numbered, text
    )
    text = expand(
        r"(?<![\w.,$-])(\d{4,8})(?= (?:is|as|was) (?:your|my|the|his|her|our) \w*\s?(?:code|pin|password))",
        lambda m: digit_by_digit(m[1]),
        text,
        re.I,
    )
    # airliners: the 747, a Boeing 737-800
    text = expand(
        r"\b((?:Boeing|[Tt]he|[Aa]) )(7[0-9]7)(?:-(\d{1,3}))?\b(?![.,]\d|-| (?!has\b|is\b|"
        r"was\b)[a-z]+s\b| p)",
        lambda m: m[1] + " ".join(map(in_pairs, filter(None, m.group(2, 3)))),
        text,
    )
    return expand(
        r"(?<![\w.,$/-])(?<!Porsche )(911|988|999)"
        r"(?= (?:lifeline|hotline|call|operator|dispatcher|emergency|number)|(?<=911)(?:[.,;:!?]|$))"
        r"|(?<=\bto )911\b|(?<=\ba )911\b|(?<=\bthe )911\b",
        lambda m: digit_by_digit(m[0]),
        text,
    )


def section(match: re.Match) -> str:
    """Read 401(k) and 501(c)(3) as "four oh one k" and "five oh one c three"."""
    number, letter, part = match.groups()
    return f"{in_pairs(number)} {letter.upper()}" + (f" {say_whole(part)}" if part else "")


def numbered(match: re.Match) -> str:
    name, letters, digits = match.groups()
    name = re.sub(r" ?# ?", " number ", name)
    spelled = f"{spell(letters.strip(' -'))} " if letters else ""
    return name + spelled + (in_pairs(digits) if len(digits) < 5 else digit_by_digit(digits))
