"""Spell out dates, times of day and decades."""

import re

from text.abbreviations import DAYS, MONTH, MONTH_ABBREVIATIONS, MONTHS
from text.boundaries import expand
from text.numbers import in_pairs, ordinal, say, say_whole, two_digits

SHORT_MONTH = "|".join(MONTH_ABBREVIATIONS).title()
SHORT_DAY = "|".join(DAYS).title()
DAY_LETTERS = {"M": "Monday", "Tu": "Tuesday", "W": "Wednesday", "Th": "Thursday", "F": "Friday",
               "Sa": "Saturday", "Su": "Sunday"}  # fmt: skip
DAY, MONTH_NUMBER = r"(0?[1-9]|[12]\d|3[01])", r"(0?[1-9]|1[0-2])"
CALENDAR = {name.title(): full for name, full in (DAYS | MONTH_ABBREVIATIONS).items()}


def dates(text: str) -> str:
    text = re.sub(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d(?::\d\d)?)Z?\b", r"\1, \2", text)
    year = r"(?<![\w/.-])([12]\d{3})"
    text = expand(
        rf"{year}([-/.]){MONTH_NUMBER}\2{DAY}(?![\w/-]|\.\d)", lambda m: date(*m.group(1, 3, 4)), text
    )
    text = expand(r"(?<![\w/.-])((?:19|20)(\d\d))-(0[1-9]|1[0-2])(?![\w/-]|\.\d)", month_of_year, text)
    # the winter of 2019/20, 1999/2000
    text = re.sub(r"(?<![\w/])(?:(?<=FY)|(?<=AY))?((?:19|20)\d\d)/(?=(?:20|19)?\d\d(?![\w/]))", r"\1 ", text)
    text = expand(
        rf"(?<![\w/.-]){MONTH_NUMBER}[/-]((?:19|20)\d\d)(?![\w/-]|\.\d)",
        lambda m: f"{MONTHS[int(m[1]) - 1]} {in_pairs(m[2])}",
        text,
    )  # 03/2020
    text = expand(r"(?<![\w/])(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})(?![\w/])", numeric_date, text)
    text = expand(
        r"\b((?:on|by|until|since|due|before|dated) )(\d{1,2})/(\d{1,2})(?![\w/]|\.\d| of\b)",
        short_date,
        text,
        re.I,
    )
    text = expand(r"(?<![\w-])(\d{1,2})-(\d{1,2})-((?:19|20)\d\d)(?![\w-])", numeric_date, text)
    return expand(
        rf"(?<![\w.]){DAY}\.{MONTH_NUMBER}\.((?:1[5-9]|20)\d\d)(?![\w-]|\.\d)",
        lambda m: date(m[3], m[2], m[1]),
        text,
    )


def named_dates(text: str) -> str:
    """Expand "Nov 5", "31-Dec-2020", "1st Jan", "Mon-Fri", "Jan-Mar" and "Tue 9am"."""
    if not re.search(rf"(?:{SHORT_DAY}|{SHORT_MONTH}|May|M ?-)", text, re.I):
        return text
    text = re.sub(
        rf"(?i)\b(mid|early|late)-({SHORT_MONTH})\b\.?", lambda m: f"{m[1]}-{CALENDAR[m[2].title()]}", text
    )
    text = expand(  # May/June
        rf"\b({SHORT_MONTH}|{MONTH})\.?/({SHORT_MONTH}|{MONTH})\b",
        lambda m: " and ".join(CALENDAR.get(one, one) for one in m.groups()),
        text,
    )
    name = f"{SHORT_DAY}|{SHORT_MONTH}|May|{MONTH}|(?:{'|'.join(set(DAYS.values()))})"
    text = expand(
        rf"(?<![\w-]){DAY}-({SHORT_MONTH}|{MONTH})-(\d{{4}}|\d\d)(?![\w-])",
        lambda m: f"{m[1]} {CALENDAR.get(m[2].title(), m[2])} {m[3] if len(m[3]) == 4 else '20' + m[3]}",
        text,
        re.I,
    )
    text = expand(
        rf"(?<![\w-])({name})\.? ?- ?({name})(?:\.(?= ?[\da-z,;:]))?(?![\w-])",
        lambda m: " to ".join(CALENDAR.get(one, one) for one in m.groups()),
        text,
    )
    text = expand(rf"(?<=\d)(st|nd|rd|th)? ?- ?(?=(?:{name})\b)", r"\1 to ", text)  # May 5-June 7
    text = expand(
        r"\b(M|Tu|W|Th|F|Sa) ?- ?(W|Th|F|Sa|Su)\b",
        lambda m: " to ".join(DAY_LETTERS[day] for day in m.groups()),
        text,
    )
    # a list of days: "Mon, Wed and Fri", "Tue/Thu", "Sat & Sun"
    beside = r"(?:/|,? ?(?:and|or|&) |, )"
    text = expand(
        rf"\b({SHORT_DAY})(?={beside}(?:{SHORT_DAY}|[A-Z]\w+day)\b)", lambda m: CALENDAR[m[1]], text
    )
    text = expand(
        rf"(?<=day)({beside})({SHORT_DAY})\b", lambda m: m[1].replace("/", " and ") + CALENDAR[m[2]], text
    )
    text = expand(rf"(?<=day)/(?=(?:{SHORT_DAY})\b|\w+day\b)", " and ", text)
    clock = r" \d{1,2}(?::\d\d)?(?:-\d{1,2}(?::\d\d)?)?\s?[ap]\.?m|,? (?:the )?\d{1,2}(?:st|nd|rd|th)?\s"
    text = expand(
        rf"\b({SHORT_DAY})(?={clock}(?:(?:of )?(?:{SHORT_MONTH}|{MONTH}))?|,? (?:{SHORT_MONTH}|{MONTH})\b)"
        rf"|\b(Mon|Tue|Tues|Wed|Thu|Thur|Thurs|Fri)(?= \d)",
        lambda m: CALENDAR[m[0]],
        text,
    )
    # 3-5 May, 2nd-3rd Aug.
    text = expand(
        rf"(?<![\w.,/-])(?:[Tt]he )?{DAY}(?:st|nd|rd|th)? ?(?:-|–|to|and|&) ?{DAY}(?:st|nd|rd|th)? (?:of )?"
        rf"({SHORT_MONTH}|{MONTH})\b(?! [A-Z][a-z]+s\b)\.?",
        day_range,
        text,
    )
    text = expand(
        rf"\b(?:[Tt]he )?(\d\d?(?:st|nd|rd|th)) ({SHORT_MONTH})\b(?! [A-Z])",
        lambda m: f"the {m[1]} of {CALENDAR[m[2]]}",
        text,
    )
    text = expand(rf"(?<!\b[Tt]he )\b(?=\d\d?(?:st|nd|rd|th) of (?:{MONTH})\b)", "the ", text)
    # "Nov 5", "Nov 2020", "31 Oct", "1st of Jan"; not the name in "2 Jan Steens"
    text = expand(
        rf"\b({SHORT_MONTH})(?=,? \d{{1,2}}(?:st|nd|rd|th)?\b|,? [12]\d{{3}}\b| '\d\d\b)"
        rf"|(?:(?<=\d )|(?<=(?:st|nd|rd|th) )|(?<=(?:st|nd|rd|th) of ))"
        rf"({SHORT_MONTH})\b\.?(?! [A-Z][a-z]+s\b)",
        lambda m: CALENDAR[m[1] or m[2]],
        text,
    )
    return expand(
        rf"(?<![\w.,/-])(?:the )?([12]?\d|3[01]) ({MONTH})\b,?(?= (\d{{4}})\b)?",
        day_first,
        text,
    )


def day_range(match: re.Match) -> str:
    first, last, month = match.groups()
    link = "and" if re.search("and|&", match[0]) else "to"
    after = match.string[match.end() : match.end() + 6]
    dot = "." if match[0].endswith(".") and re.match(r"$| [A-Z\d](?!\d{3})", after) else ""
    dot = "," if re.match(r" \d{4}", after) else dot
    return f"the {ordinal(first)} {link} {ordinal(last)} of {CALENDAR.get(month, month)}{dot}"


def month_of_year(match: re.Match) -> str:
    """Read 2020-12 as a month, but 2006-08 as two years."""
    year, short_year, month = match.groups()
    return match[0] if int(month) > int(short_year) else f"{MONTHS[int(month) - 1]} {in_pairs(year)}"


def numeric_date(match: re.Match) -> str:
    first, second, year = match.groups()
    month, day = (second, first) if int(first) > 12 else (first, second)
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return " ".join(map(say, match.groups()))
    return date(year, month, day)


def short_date(match: re.Match) -> str:
    """Read "on 4/5", but not "on 9/11", as a date."""
    first, second = int(match[2]), int(match[3])
    month, day = (second, first) if first > 12 else (first, second)
    if not (1 <= month <= 12 and 1 <= day <= 31) or match[0].endswith(" 9/11"):
        return match[0]
    return f"{match[1]}{MONTHS[month - 1]} {say_whole(str(day))}"


def date(year: str, month: str, day: str) -> str:
    year = in_pairs(year) if len(year) == 4 else two_digits(year)
    return f"{MONTHS[int(month) - 1]} {say_whole(str(int(day)))}, {year}"


def day_first(match: re.Match) -> str:
    return f"the {ordinal(match[1])} of {match[2]}" + ("," if match[3] or match[0].endswith(",") else "")


def times(text: str) -> str:
    text = expand(
        r"\b([01]\d|2[0-4])([0-5]\d)(?= (?:hours|hrs)\b)",
        military,
        re.sub(r"(?<=\d{4} )hrs\b", "hours", text),
    )
    text = expand(
        r"(?<=\b)((?:at|to|until|by|from|around) )(0\d)([0-5]\d)\b(?![,.-]\d)",
        lambda m: f"{m[1]}{two_digits(m[2])} {'hundred' if m[3] == '00' else two_digits(m[3])}",
        text,
    )
    text = re.sub(r"(?<=\b[12]\d\d\d to )0(?=\d\b)", "oh ", text)  # 1801-09
    text = re.sub(r"(?<![\w.:])(\d{1,2})\.([0-5]\d)(?=\s?[ap]\.?m\b)", r"\1:\2", text)  # 7.30pm
    text = expand(
        r"(?<![\w:.])(\d{1,2}):([0-5]\d)(?::([0-5]\d))?(?![\w:]*\d)(\s?[AaPp]\.?\s?[Mm]\b)?", clock, text
    )
    text = expand(r"(?<=\d)\s?([ap])\.?m\b(?!-)", lambda m: f" {m[1].upper()} M", text, re.I)
    return expand(r"(?<=\d):(?=\d)", " to ", text)  # the rest are ratios: 3:1


def military(match: re.Match) -> str:
    """Read "at 1400 hours" as a time; "1400 hours" alone is a number unless it begins with a zero."""
    if match[1][0] != "0" and not re.search(
        r"\b(?:at|by|until|from|since|around|to) $", match.string[: match.start()]
    ):
        return match[0]
    return f"{two_digits(match[1])} {'hundred' if match[2] == '00' else two_digits(match[2])}"


def clock(match: re.Match) -> str:
    hours, minutes, seconds, half = match.groups()
    seconds = None if seconds == "00" else seconds
    words = [say_whole(str(int(hours)))]
    if minutes != "00":
        words.append(two_digits(minutes))
    elif seconds:
        words.append("zero zero")
    elif not half:
        words.append("o'clock" if 0 < int(hours) <= 12 else "hundred")
    if seconds:
        words.append(two_digits(seconds))
    if half:
        words.append(f"{half.strip()[0].upper()} M")
    return " ".join(words)


def decade(match: re.Match) -> str:
    century, tens = match.groups()
    if not century and tens == "0":
        return "two thousands"
    if century and tens == "0":
        return in_pairs(f"{century}00") + "s"
    word = "tens" if tens == "1" else say(tens + "0")[:-1] + "ies"
    return f"{say(century)} {word}" if century else word
