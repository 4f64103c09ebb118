"""Spell out amounts of money and numbers with units."""

import re

from text.numbers import FRACTION, NUMBER, SCALE, SCALES, say, say_whole

# Major unit, its plural, minor unit, its plural.
CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"), "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"), "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"), "₽": ("ruble", "rubles", "kopeck", "kopecks"),
    "₩": ("won", "won", "jeon", "jeon"), "₿": ("bitcoin", "bitcoins", "cent", "cents"),
}  # fmt: skip
UNITS = {
    "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter", "μm": "micrometer",
    "nm": "nanometer", "mi": "mile", "yd": "yard", "ft": "foot", "kg": "kilogram", "g": "gram",
    "mg": "milligram", "lb": "pound", "lbs": "pound", "oz": "ounce", "tsp": "teaspoon",
    "tbsp": "tablespoon", "l": "liter", "L": "liter", "ml": "milliliter", "mL": "milliliter", "s": "second",
    "sec": "second", "secs": "second", "ms": "millisecond", "μs": "microsecond", "min": "minute",
    "mins": "minute", "h": "hour", "hr": "hour", "hrs": "hour", "Hz": "hertz", "kHz": "kilohertz",
    "MHz": "megahertz", "GHz": "gigahertz", "W": "watt", "kW": "kilowatt", "MW": "megawatt",
    "GW": "gigawatt", "kWh": "kilowatt hour", "V": "volt", "kV": "kilovolt", "mA": "milliamp",
    "kJ": "kilojoule", "kPa": "kilopascal", "kcal": "kilocalorie", "dB": "decibel", "kB": "kilobyte",
    "KB": "kilobyte", "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte", "kbps": "kilobit per second",
    "Mbps": "megabit per second", "Gbps": "gigabit per second", "mph": "mile per hour",
    "kph": "kilometer per hour", "rpm": "revolution per minute", "ha": "hectare", "°C": "degree Celsius",
    "°F": "degree Fahrenheit", "°": "degree", "px": "pixel",
}  # fmt: skip
UNIT = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))
MILLIONS_OF = (  # "1m" before one of these is a million, not a meter
    "people|users|views|viewers|followers|subscribers|downloads|copies|visitors|customers|readers|voters|"
    "jobs|homes|households|tons|tonnes|barrels|years|dollars|pounds|euros"
)
PLURALS = {"foot": "feet", "inch": "inches", "hertz": "hertz"}


def money(text: str) -> str:
    signs = "".join(map(re.escape, CURRENCIES))
    text = re.sub(r"\bRs\.?\s?(?=\.?\d)", "₹", text)
    text = re.sub(rf"\b(US|A|C|NZ|HK)([$])\s?({NUMBER}){SCALE}", spell_foreign_dollars, text)
    text = re.sub(rf"([{signs}])\s?({NUMBER})( to )[{signs}]?({NUMBER}){SCALE}", r"\2\3\1\4\5", text)
    text = re.sub(
        rf"([{signs}])\s?({NUMBER})(?:{SCALE})(?=( (?:bills?|notes?|coins?|deal|loan|fine|prize|bonus)\b)?)",
        lambda m: amount(m) + (" " if m.string[m.end() : m.end() + 1].isalpha() else ""),
        text,
        flags=re.I,
    )
    names = CURRENCIES | {"¢": ("cent", "cents"), "p": ("penny", "pence")}
    # "5€", "5¢", "50p"; not 1080p
    pattern = rf"(?<![\w.,])(?!\d{{4}}p)({NUMBER})(?:\s?([€£₹₽¢])|(p)\b)"
    return re.sub(pattern, lambda m: f"{say(m[1])} {names[m[2] or m[3]][m[1] != '1']}", text)


def spell_foreign_dollars(match: re.Match) -> str:
    scale = f" {SCALES.get(match[4].lower(), match[4])}" if match[4] else ""
    return f"{say(match[3])}{scale} {' '.join(match[1])} dollars"


def amount(match: re.Match) -> str:
    sign, number, scale, adjective = match.groups()
    major, majors, minor, minors = CURRENCIES[sign]
    if scale:
        return f"{say(number)} {SCALES.get(scale.lower(), scale)} {major if adjective else majors}"
    whole, _, decimals = number.partition(".")
    if len(decimals) != 2:
        return f"{say(number)} {major if number == '1' or adjective else majors}"
    parts = []
    if whole.strip("0") or decimals == "00":
        parts.append(f"{say(whole)} {major if whole == '1' else majors}")
    if decimals != "00":
        parts.append(f"{say_whole(str(int(decimals)))} {minor if decimals == '01' else minors}")
    return ", ".join(parts)


def units(text: str) -> str:
    """Spell out numbers with units: "5 km", "20°C", "3 m²", "5ft 6in", "100 km/h", "6.5-mm"."""
    text = re.sub(r"(?<!\w)(\d+)'\s?(\d+)(?:\"|''|(?=\W|$))(?!\w)", r"\1 ft \2 inches", text)  # 5'6"
    text = re.sub(r"(\d\s?ft\.? \d+)\s?in\b\.?", r"\1 inches", text)
    # a 27" monitor; the pattern skips whole quotations, whose end is not an inch sign
    text = re.sub(
        r"(?<!\w)(['\"])(?:(?!\1).)*\1?|(\b(?:[Aa]n?|[Tt]he) )?(?<![\d.])(\d[\d.]*)(['\"])(?=[ -][a-z])",
        length,
        text,
    )
    text = re.sub(rf"(\d)m(?= (?:{MILLIONS_OF})\b)", r"\1 million", text)
    # with a space and without a dot it is a preposition: "5 in the morning"
    text = re.sub(r"(\d)(?: ?in\.(?= [a-z])|in\b)", r"\1 inches", text)
    text = re.sub(r"\b1 inches", "1 inch", text)
    # number, space or hyphen, unit, power, per another unit; a dot within the sentence belongs to the unit
    number, unit = rf"(?<![\w.,])({FRACTION}|{NUMBER})", rf"({UNIT})(?:\^?([23]))?(?:/({UNIT}))?"
    text = re.sub(rf"{number}([ -]?){unit}(?:\.(?= [a-z0-9]))?(?![\w'&])", measure, text)
    money = r"\b(dollars?|cents?|pounds?|pence|euros?)"
    return re.sub(rf"{money}/({UNIT})\b", lambda m: f"{m[1]} per {UNITS[m[2]]}", text)


def length(match: re.Match) -> str:
    quotation, article, number, mark = match.groups()
    if quotation:
        return match[0]
    one, many = ("foot", "feet") if mark == "'" else ("inch", "inches")
    return f"{article or ''}{number} {one if article or number == '1' else many}"


def measure(match: re.Match) -> str:
    number, gap, sign, power, per = match.groups()
    if sign == "s" and not gap and number.isdigit():  # 90s
        return match[0]
    first, space, rest = UNITS[sign].partition(" ")
    if number != "1" and gap != "-" and (" " in number or "/" not in number):
        if sign == "kWh":
            rest += "s"
        else:
            first = PLURALS.get(first, first if first.endswith("hertz") else first + "s")
    square = {"2": "square ", "3": "cubic "}.get(power, "")
    over = f" per {UNITS[per]}" if per else ""
    return f"{say(number)}{'-' if gap == '-' else ' '}{square}{first}{space}{rest}{over}"
