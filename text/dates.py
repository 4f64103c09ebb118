"""Spell out dates, times of day, decades and telephone numbers."""

import re

from text.abbreviations import MONTH, MONTH_ABBREVIATIONS, MONTHS
from text.numbers import digit_by_digit, in_pairs, ordinal, say, say_whole, two_digits


def telephone(match: re.Match) -> str:
    plus = "plus " if match[0].startswith("+") else ""
    return plus + ", ".join(digit_by_digit(group) for group in re.findall(r"\d+", match[0])) + " "


def dates(text: str) -> str:
    text = re.sub(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d(?::\d\d)?)Z?\b", r"\1, \2", text)
    text = re.sub(r"\b([12]\d{3})-(0[1-9]|1[0-2])-([0-2]\d|3[01])\b", lambda m: date(*m.groups()), text)
    text = re.sub(r"\b((?:19|20)\d\d)/(?=\d\d\b)", r"\1 ", text)  # the winter of 2019/20
    text = re.sub(r"(?<![\w/])(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})(?![\w/])", slashed_date, text)
    # "Nov 5", "Nov 2020", "31 Oct"; not the name in "2 Jan Steens"
    short = "|".join(MONTH_ABBREVIATIONS).title()
    text = re.sub(
        rf"\b({short})(?= \d{{1,2}}(?:st|nd|rd|th)?\b| [12]\d{{3}}\b)|(?<=\d )({short})\b(?! [A-Z])",
        lambda m: MONTH_ABBREVIATIONS[m[0].lower()],
        text,
    )
    return re.sub(rf"\b(?:the )?([12]?\d|3[01]) ({MONTH})\b,?(?= (\d{{4}})\b)?", day_first, text)


def slashed_date(match: re.Match) -> str:
    first, second, year = match.groups()
    month, day = (second, first) if int(first) > 12 else (first, second)
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return " ".join(map(say, match.groups()))
    return date(year, month, day)


def date(year: str, month: str, day: str) -> str:
    year = in_pairs(year) if len(year) == 4 else two_digits(year)
    return f"{MONTHS[int(month) - 1]} {say_whole(str(int(day)))}, {year}"


def day_first(match: re.Match) -> str:
    return f"the {ordinal(match[1])} of {match[2]}" + ("," if match[3] or match[0].endswith(",") else "")


def times(text: str) -> str:
    text = re.sub(
        r"(?<![\w:.])(\d{1,2}):([0-5]\d)(?::([0-5]\d))?(?![\w:]*\d)(\s?[AaPp]\.?\s?[Mm]\b)?", clock, text
    )
    text = re.sub(r"(\d)\s?([ap])\.?m\b(?!-)", r"\1 \2 m", text, flags=re.I)
    return re.sub(r"(\d):(?=\d)", r"\1 to ", text)  # the rest are ratios: 3:1


def clock(match: re.Match) -> str:
    hours, minutes, seconds, half = match.groups()
    words = [say_whole(str(int(hours)))]
    if minutes != "00":
        words.append(two_digits(minutes))
    elif not half and not seconds:
        words.append("o'clock" if 0 < int(hours) <= 12 else "hundred")
    if seconds:
        words.append(two_digits(seconds))
    if half:
        words.append(f"{half.strip()[0].lower()} m")
    return " ".join(words)


def decade(match: re.Match) -> str:
    century, tens = match.groups()
    if not century and tens == "0":  # "the 00s" has no agreed reading
        return match[0]
    if century and tens == "0":
        return in_pairs(f"{century}00") + "s"
    word = "tens" if tens == "1" else say(tens + "0")[:-1] + "ies"
    return f"{say(century)} {word}" if century else word
