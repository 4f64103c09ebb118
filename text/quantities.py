"""Spell out amounts of money and numbers with units."""

import re

from text.abbreviations import MONTH, word_set
from text.boundaries import expand
from text.numbers import FRACTION, NUMBER, SCALE, SCALES, ordinal, say, say_whole, with_commas

# Major unit, its plural, minor unit, its plural.
CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"), "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"), "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"), "₽": ("ruble", "rubles", "kopeck", "kopecks"),
    "₩": ("won", "won", "jeon", "jeon"), "₿": ("bitcoin", "bitcoins", "cent", "cents"),
    "₺": ("lira", "lira", "kurus", "kurus"), "₴": ("hryvnia", "hryvnias", "kopeck", "kopecks"),
    "₪": ("shekel", "shekels", "agora", "agorot"), "₫": ("dong", "dong", "hao", "hao"),
    "₦": ("naira", "naira", "kobo", "kobo"), "₱": ("peso", "pesos", "centavo", "centavos"),
    "฿": ("baht", "baht", "satang", "satang"),
}  # fmt: skip
DOLLARS = {
    "US": "U S", "A": "Australian", "AU": "Australian", "C": "Canadian", "CA": "Canadian",
    "NZ": "New Zealand", "HK": "Hong Kong", "NT": "New Taiwan", "S": "Singapore",
}  # fmt: skip
# As signs, and as codes before or after the number: "CHF 20", "20 CHF".
CODES = {
    **{code: tuple(f"{country} {name}" if name.startswith("dollar") else name for name in CURRENCIES["$"])
       for code, country in {"USD": "U S", "AUD": "Australian", "CAD": "Canadian", "NZD": "New Zealand",
                             "HKD": "Hong Kong", "TWD": "New Taiwan", "SGD": "Singapore"}.items()},
    "EUR": CURRENCIES["€"], "GBP": CURRENCIES["£"], "JPY": CURRENCIES["¥"], "INR": CURRENCIES["₹"],
    "RUB": CURRENCIES["₽"], "KRW": CURRENCIES["₩"], "TRY": CURRENCIES["₺"], "ILS": CURRENCIES["₪"],
    "BTC": CURRENCIES["₿"], "CHF": ("Swiss franc", "Swiss francs", "centime", "centimes"),
    "CNY": ("yuan", "yuan", "fen", "fen"), "RMB": ("yuan", "yuan", "fen", "fen"),
    "BRL": ("real", "reais", "centavo", "centavos"),
    "MXN": ("Mexican peso", "Mexican pesos", "cent", "cents"),
    "SEK": ("Swedish krona", "Swedish kronor", "ore", "ore"), "ZAR": ("rand", "rand", "cent", "cents"),
    "NOK": ("Norwegian krone", "Norwegian kroner", "ore", "ore"),
    "DKK": ("Danish krone", "Danish kroner", "ore", "ore"),
    "PLN": ("zloty", "zlotys", "grosz", "groszy"), "THB": CURRENCIES["฿"], "NGN": CURRENCIES["₦"],
    "PHP": ("Philippine peso", "Philippine pesos", "centavo", "centavos"), "VND": CURRENCIES["₫"],
    "UAH": CURRENCIES["₴"], "CZK": ("koruna", "koruny", "haler", "halers"),
    "MYR": ("ringgit", "ringgit", "sen", "sen"),
    "HUF": ("forint", "forints", "filler", "fillers"), "IDR": ("rupiah", "rupiah", "sen", "sen"),
    "AED": ("dirham", "dirhams", "fils", "fils"), "SAR": ("riyal", "riyals", "halala", "halalas"),
    "EGP": ("Egyptian pound", "Egyptian pounds", "piaster", "piasters"),
    "KES": ("shilling", "shillings", "cent", "cents"),
    "PKR": ("Pakistani rupee", "Pakistani rupees", "paisa", "paise"),
    "ETH": ("ether", "ether", "g wei", "g wei"),
    "ARS": ("Argentine peso", "Argentine pesos", "centavo", "centavos"),
    "CLP": ("Chilean peso", "Chilean pesos", "centavo", "centavos"),
    "COP": ("Colombian peso", "Colombian pesos", "centavo", "centavos"),
}  # fmt: skip
SIGNS = (
    CURRENCIES
    | CODES
    | {
        "R$": CODES["BRL"],
        "MX$": CODES["MXN"],
        "Fr.": CODES["CHF"],
        "RM": CODES["MYR"],
        "kr": ("krona", "kronor", "ore", "ore"),
        "zl": CODES["PLN"],
        "Kc": CODES["CZK"],
    }
)
SIGNS |= {
    f"{prefix}$": tuple(
        f"{country} {name}" if name.startswith("dollar") else name for name in CURRENCIES["$"]
    )
    for prefix, country in DOLLARS.items()
}
SIGN = "|".join(sorted(map(re.escape, SIGNS), key=len, reverse=True))
PREFIXES = {"p": "pico", "n": "nano", "μ": "micro", "m": "milli", "c": "centi", "d": "deci", "h": "hecto",
            "k": "kilo", "M": "mega", "G": "giga", "T": "tera", "P": "peta"}  # fmt: skip
# Each with the prefixes in use; "-" stands for the unit without a prefix.
SI = {
    "m": ("meter", "-nμmcdk"), "g": ("gram", "-nμmk"), "s": ("second", "-pnμm"), "l": ("liter", "-μmcdh"),
    "L": ("liter", "-μmcdh"), "Hz": ("hertz", "-kMGT"), "W": ("watt", "-μmkMGT"),
    "Wh": ("watt hour", "-kMGT"),
    "V": ("volt", "-μmkM"), "A": ("amp", "nμmk"), "Ah": ("amp hour", "-mk"), "VA": ("volt amp", "kM"),
    "J": ("joule", "-mkMG"), "N": ("newton", "-mkM"), "Pa": ("pascal", "-hkMG"), 
    "mol": ("mole", "-nμmk"), "M": ("molar", "nμm"), "T": ("tesla", "mμn"), "F": ("farad", "pnμm"),
    "H": ("henry", "nμm"), "Bq": ("becquerel", "-kMG"), "Sv": ("sievert", "-mμ"), "Gy": ("gray", "-m"),
    "B": ("byte", "kMGTP"), "b": ("bit", "MG"), "bit": ("bit", "kMG"), "bps": ("bit per second", "kMGT"),
    "cal": ("calorie", "-k"), "Da": ("dalton", "-kM"), "pc": ("parsec", "kMG"), "bar": ("bar", "-m"),
    "lm": ("lumen", "-"), "lx": ("lux", "-"), "cd": ("candela", "-"), "sr": ("steradian", "-"),
    "t": ("tonne", "-MG"), "Wp": ("watt peak", "-kMG"), "U": ("unit", "-m"), "bp": ("base pair", "k"),
    "Pa·s": ("pascal second", "-m"),
}  # fmt: skip
UNITS = {
    ("" if prefix == "-" else prefix) + sign: PREFIXES.get(prefix, "") + name
    for sign, (name, prefixes) in SI.items()
    for prefix in prefixes
} | {
    **{f"{prefix}eV": f"{PREFIXES[prefix]} electron volt" for prefix in "mkMGT"}, "eV": "electron volt",
    "kms": "kilometer", "mi": "mile", "nmi": "nautical mile", "yd": "yard", "yds": "yard", "ft": "foot",
    "kgs": "kilogram", "mcg": "microgram", "lb": "pound", "lbs": "pound", "Mt": "megaton",
    "oz": "ounce", "fl oz": "fluid ounce", "fl. oz": "fluid ounce", "tsp": "teaspoon", "tbsp": "tablespoon",
    "gal": "gallon", "qt": "quart", "pt": "pint", "cc": "c c", "ct": "carat",
    "cwt": "hundredweight", "mCi": "millicurie", "mS": "millisiemens", "μS": "microsiemens",
    "lbf": "pound of force",
    **{f"{sign}s": name for sign, name in {"pt": "pint", "qt": "quart", "gal": "gallon", "tsp": "teaspoon",
       "tbsp": "tablespoon", "bbl": "barrel", "ct": "carat", "oz": "ounce"}.items()},
    "bbl": "barrel", "ac": "acre",
    "sec": "second", "secs": "second", "min": "minute", "mins": "minute", "h": "hour", "hr": "hour",
    "hrs": "hour", "wk": "week", "wks": "week", "mo": "month", "mos": "month", "yr": "year", "yrs": "year",
    "Myr": "million year", "Gyr": "billion year", "ly": "light year", "AU": "astronomical unit",
    "psi": "pound per square inch", "mmHg": "millimeter of mercury", "mm Hg": "millimeter of mercury",
    "inHg": "inch of mercury", "atm": "atmosphere", "Torr": "torr", "cals": "calorie", "dB": "decibel",
    "dBA": "decibel", "dBm": "d B m", "BTU": "B T U", "KB": "kilobyte", "KiB": "kibibyte", "MiB": "mebibyte",
    "GiB": "gibibyte", "TiB": "tebibyte", "mph": "mile per hour", "kph": "kilometer per hour",
    "kmh": "kilometer per hour", "kmph": "kilometer per hour", "mpg": "mile per gallon",
    "gpm": "gallon per minute", "cfm": "cubic foot per minute", "fps": "frame per second",
    "rpm": "revolution per minute", "bpm": "beat per minute", "ppm": "part per million",
    "ppb": "part per billion", "dpi": "dot per inch", "ppi": "pixel per inch", "px": "pixel",
    "MP": "megapixel",
    "kn": "knot", "kt": "knot", "kts": "knot", "Nm": "newton meter", "N m": "newton meter",
    "ft-lb": "foot pound", "ft-lbs": "foot pound", "lb-ft": "pound foot", "ft lb": "foot pound",
    "hp": "horsepower",
    "ha": "hectare", "IU": "international unit", "pcs": "piece", "doz": "dozen", "rev": "revolution",
    "c.": "cup",
    "°C": "degree Celsius", "° C": "degree Celsius", "°F": "degree Fahrenheit", "° F": "degree Fahrenheit",
    "°": "degree", "°K": "kelvin",
    **{f"{power}{dot} {sign}": f"{words} {name}" for power, words in {"sq": "square", "cu": "cubic"}.items()
       for dot in ("", ".") for sign, name in {"ft": "foot", "in": "inch", "mi": "mile", "yd": "yard",
                                                "m": "meter", "km": "kilometer", "cm": "centimeter"}.items()},
    "sqft": "square foot", "sqm": "square meter",
}  # fmt: skip
# Single capitals, only after a number and a space: "300 K"; but not "a 10 K run" or "5 A Street".
CAPITAL_UNITS = {"A": "amp", "K": "kelvin", "T": "tesla", "F": "degree Fahrenheit", "C": "degree Celsius"}
# Also understood in capitals: "180 LBS"; the others are rarely written so, or have another meaning.
ANY_CASE = word_set(
    "km kms cm mm kg kgs mg lb lbs oz tsp tbsp ml gal ft yd yds sec secs mins hr hrs yrs mph kph mpg rpm "
    "psi dpi kwh mah khz mhz ghz hz sqft db bpm kb mb gb tb kbps mbps gbps"
)
FOLDED = {sign.lower(): name for sign, name in UNITS.items()} | {
    f"{prefix.lower()}b": f"{PREFIXES[prefix]}byte" for prefix in "kMGT"
}
UNITS = {form: FOLDED[sign] for sign in ANY_CASE for form in (sign, sign.upper(), sign.capitalize())} | UNITS
UNITS |= {"SQ FT": "square foot", "FL OZ": "fluid ounce", "Sq Ft": "square foot", "sq feet": "square foot"}
UNIT = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))
# Understood without a number, as in "dose (μg)"; the other units are also words or names.
ALONE = (
    "μg|μm|μs|μL|μl|kg|km|cm|mm|mg|mL|ml|kWh|mAh|mmHg|kHz|MHz|GHz|Hz|dB|mph|psi|lbs|oz|kPa|rpm|mcg|sq ft|km/h"
)
PERIODS = (
    "second|minute|hour|day|night|week|month|quarter|year|person|people|serving|capita|share|barrel|gallon|"
    "pound|ounce|ton|tonne|mile|foot|user|seat|student|unit|item|page|game|piece|call|head|acre|square foot"
)
POWERS = {"2": "square ", "3": "cubic "}
# Before "9A" or "50c" these make it a name.
NAMED_NOUNS = (
    "room|apartment|suite|unit|seat|section|sections|gate|page|figure|table|class|platform|row|route|highway|"
    "bus|article|rule|item|exhibit|building|number|flight|terminal|chapter|appendix|model|grade|step|question|"
    "hall|pier|dock|door|block|lot|bay|stand|zone|line|paragraph|level|type|group|part|form|schedule|size|"
    "title|version"
)
NAMED = re.compile(rf"\b(?:(?i:{NAMED_NOUNS})|[a-z]+[A-Z]\w*|[A-Z][a-z]+[A-Z]\w*) ?$")
COUNTED_IN_MILLIONS = (  # "1m" before one of these is a million, not a meter
    "people|users|views|viewers|followers|subscribers|downloads|copies|visitors|customers|readers|voters|"
    "jobs|homes|households|tons|tonnes|barrels|years|dollars|pounds|euros|steps|words|likes|fans|employees"
)
PLURALS = {"foot": "feet", "inch": "inches", "henry": "henries"} | {
    noun: noun
    for noun in word_set(
        "hertz kilohertz megahertz gigahertz terahertz horsepower c U m lux molar kelvin "
        "hundredweight millisiemens microsiemens nanomolar micromolar millimolar dozen tesla bar millibar"
    )
}
# Before "12 500 €" these have a number of their own.
COUNTS = re.compile(
    rf"\b(?:{MONTH}|(?i:{NAMED_NOUNS}|day|week|month|year|age|aged|ages|at|round|season|episode|place)) $"
)
CURRENCY_NOUN = "euros|dollars|rupees|rubles|francs|kronor|kroner|zlotys|pesos|yen|yuan"
NO_NOUN = r"(?:is|was|has|as|plus|across|always)\b"
DURATION = {"d": "day", "h": "hour", "hr": "hour", "hrs": "hour", "m": "minute", "min": "minute",
            "mins": "minute", "s": "second", "sec": "second"}  # fmt: skip


def thousands(text: str) -> str:
    """Write numbers with spaces between the thousands with commas: "12 500 €", "1 234,56 €".

    They could be several numbers, as in "take 1 500 mg tablet" and "RGB 10 200 255", so that they need a
    currency, a percent sign or people.
    """
    if not re.search(r"\d \d{3}\b", text):
        return text
    start, groups, decimals = r"(?<![\w.,])(?<!\d )", r"(?: \d{3})", r"(?:[.,](\d+))?"
    for number, after in (
        # not "50 100 150 €" nor "12 500 € notes"; a single digit often counts: "day 1 200 €"
        (
            rf"(?!\d*0(?: [1-9]\d0){{2,}}\b)"
            rf"([1-9]\d{{1,2}}{groups}+|[1-9]{groups}+(?=,\d\d\b)|[1-9]{groups}{{2,}})",
            rf"(?=\s?(?:{SIGN}|{CURRENCY_NOUN})(?!\w))(?! ?\S+ (?!{NO_NOUN})[a-z]+s\b)",
        ),
        (rf"(?!\d+ 100\b)([1-9]\d{{0,2}}{groups})", r"(?=\s?(?:%|percent\b))"),
        (rf"([1-9]\d?{groups}{{2,}})", r"(?= (?:people|inhabitants|residents|voters|users|views)\b)"),
    ):
        text = re.sub(
            rf"{start}{number}{decimals}{after}",
            lambda m: m[0] if COUNTS.search(m.string[max(0, m.start() - 24) : m.start()]) else with_commas(m),
            text,
        )
    sign = "".join(map(re.escape, CURRENCIES))
    return re.sub(
        rf"(?:(?<=[{sign}])|(?<=[{sign}] ))([1-9]\d{{0,2}}{groups}{{2,}}){decimals}"
        rf"(?![\w-]|[.,]\d| \d|\s?(?:{UNIT})(?!\w)| [a-z]+s\b| people\b)",
        with_commas,
        text,
    )


def money(text: str) -> str:
    text = re.sub(r"\$\s?([\d.,]*\d)\s?(USD|CAD|AUD|NZD|HKD|SGD|TWD)\b", r"\2 \1", text)  # $25 CAD
    european = r"\d{1,3}(?:\.\d{3})+,\d\d"
    text = re.sub(
        rf"(?<![\w.,]){european}(?!\d)|(?<=€)\d{{1,3}},\d\d(?!\d)|(?<![\w.,])\d{{1,3}},\d\d(?=\s?(?:€|EUR\b))",
        lambda m: m[0].replace(".", "").replace(",", "."),
        text,
    )
    text = re.sub(r"\bRs\.?\s?(?=\.?\d)", "₹", text)
    # groups of two digits, as in India
    indian = r"\d{1,2}(?:,\d\d)+,\d{3}(?![\d,])"
    indian = rf"(?<=₹){indian}|(?<=₹ ){indian}|(?<=\bINR ){indian}|(?<![\d,]){indian}(?= rupees\b)"
    text = re.sub(indian, lambda m: m[0].replace(",", ""), text)
    text = re.sub(
        r"(?<=€)\s?\d{1,3}(?:\.\d{3})+(?![\d.])|\b\d{1,3}(?:\.\d{3})+(?=\s?(?:€|EUR\b))",
        lambda m: m[0].replace(".", ","),
        text,
    )  # €1.200
    text = re.sub(rf"(?<!\w)({SIGN})\s?({NUMBER})( to )(?:{SIGN})?\s?({NUMBER}){SCALE}", money_range, text)
    text = re.sub(
        rf"(?<![\d.,])({NUMBER})( to )({NUMBER})\s?([€£₹₽$]|{'|'.join(CODES)})(?![\w$])", r"\1\2\4\3", text
    )
    adjective = r"(?= ((?:bills?|notes?|coins?|deal|loan|fine|prize|bonus|budget|lawsuit|project)\b)?)"
    text = expand(rf"(?<![A-Za-z])({SIGN})\s?({NUMBER})(?:{SCALE})(?:{adjective}|)", amount, text, re.I)
    text = expand(
        rf"(?<=\w)([{''.join(map(re.escape, CURRENCIES))}])({NUMBER})(?:{SCALE})()", amount, text, re.I
    )
    # "5€", "5¢", "50p"; not 1080p
    after = f"[{''.join(CURRENCIES)}]|{'|'.join(filter(str.isalpha, SIGNS))}"
    text = expand(
        rf"(?<![\w.,])({NUMBER}){SCALE}\s?({after})(?![\w])(?!\s?\d)()",
        lambda m: say_amount(SIGNS[m[3]], m[1], m[2], ""),
        text,
    )
    names = {"¢": ("cent", "cents"), "p": ("penny", "pence"), "c": ("cent", "cents")}
    pattern = rf"(?<![\w.,])(?!\d{{4}}p)({NUMBER})(?:\s?(¢)|(p)\b|(?<=\b\d\d)(c)\b(?!-))"
    return expand(
        pattern,
        lambda m: m[0] if is_name(m) else f"{say(m[1])} {names[m[2] or m[3] or m[4]][m[1] != '1']}",
        text,
    )


def is_name(match: re.Match) -> bool:
    """Return whether the number belongs to the word before it: "room 9A", "iPhone 5c"."""
    return NAMED.search(match.string[max(0, match.start() - 24) : match.start()]) is not None


def money_range(match: re.Match) -> str:
    """Name the unit of "$5-$10" once, unless there are cents."""
    sign, low, to, high, scale = match.groups()
    if "." in low + high and not scale:
        return f"{sign}{low}{to}{sign}{high}"
    return f"{low}{to}{sign}{match.string[match.start(4) : match.end()]}"


def amount(match: re.Match) -> str:
    sign, number, scale, adjective = match.groups()
    names, after = SIGNS.get(sign), match.string[match.end() : match.end() + 2]
    if re.match("-[a-z]", after):  # a $20-per-month plan
        adjective = "plan"
    return say_amount(names, number, scale, adjective) if names else match[0]  # "a$5" is no Australian dollar


def say_amount(names: tuple[str, ...], number: str, scale: str | None, adjective: str | None) -> str:
    major, majors, minor, minors = names
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
    """Spell out numbers with units: "5 km", "20°C", "3 m²", "5ft 6in", "100 km/h", "6.5-mm", "2h 15m"."""
    text = re.sub(r"(?<![\w.])(\d+)'\s?(\d+)(?:\"|''|(?=\W|$))(?!\w)", r"\1 ft \2 inches", text)  # 5'6"
    text = re.sub(
        r"(\d)\"? ?x ?(\d+)\"(?! ?x)", r"\1 by \2 inches", re.sub(r"(\d)\" ?x ?(?=\d+\" ?x)", r"\1 by ", text)
    )
    text = re.sub(r"(\d\s?ft\.? \d+)\s?in\b\.?", r"\1 inches", text)
    text = re.sub(r"(\d)ft(?=\d)", r"\1 ft ", re.sub(r"(?<![\w.,])(\d+)h([0-5]\d)\b", r"\1 h \2", text))
    text = re.sub(r"(\d) ?[lL]/100 ?km\b", r"\1 liters per hundred kilometers", text)
    text = re.sub(r"(?<=\d)-in\b\.?", "-inch", text)
    text = re.sub(r"(?<= by )(\d[\d.]*)\"", r"\1 inches", text)
    if text.count('"') == 1:  # no quotation
        text = re.sub(r"(\d)\"(?=[,;)])", r"\1 inches", text)
    # a 27" monitor; the pattern skips whole quotations, whose end is not an inch sign
    text = re.sub(
        r"(?<!\w)(['\"])(?:(?!\1).)*\1?|(\b(?:[Aa]n?|[Tt]he) )?(?<![\d.])(\d[\d.]*)(['\"])"
        r"(?=[ -](?:[a-z]|[A-Z]{2}))",
        length,
        text,
    )
    counted = rf"(?= (?:{COUNTED_IN_MILLIONS})\b)"
    text = re.sub(rf"(?<=\d)[bB]{counted}", " billion", text)
    text = re.sub(rf"(?<=\d)[mM]{counted}", " million", re.sub(rf"(?<=\d)[kK]{counted}", " thousand", text))
    # with a space and without a dot it is a preposition: "5 in the morning"
    text = re.sub(r"(?<!\d )\b([1-9]\d?/\d+) in\b(?! the| a )", r"\1 of an inch", text)
    sized = r"(?:thick|wide|long|deep|tall|high|across|apart|diameter|of (?:rain|snow|water)|by|x|×)\b"
    text = re.sub(rf"(\d)(?: ?in\.(?= [a-z])|in\b| in(?= {sized}|[,;)]))", r"\1 inches", text)
    text = re.sub(r"(\d [1-9]\d?/\d+) in\b(?! the| a )", r"\1 inches", text)
    text = re.sub(r"(?<![\d.,/])1 inches", "1 inch", text)
    sign = "|".join(sorted(DURATION, key=len, reverse=True))
    text = expand(rf"(?<![\w.,])(?:\d+ ?(?:{sign})(?: ?(?=\d)|\b)){{2,4}}(?!\w)", duration, text)
    # number, space or hyphen, unit, power, per another unit; a dot within the sentence belongs to the unit
    number, unit = (
        rf"(?<![\w.,])({FRACTION}|{NUMBER})",
        rf"({UNIT})(?:\^?([23]))?(?:/({UNIT}|H|S)(?:\^?([23]))?)?",
    )
    text = expand(rf"{number}([ -]?){unit}(?:\.(?= [a-z0-9]|[,;:)]))?(?![\w'&])", measure, text)
    text = expand(
        rf"{number}(?<=\d)( |(?<=\.\d))([{''.join(CAPITAL_UNITS)}])\b(?!['&/-]| [A-Z\d]|\.\w)",
        capital_unit,
        text,
    )
    text = expand(r"(?<=degrees )([CF])\b", lambda m: {"C": "Celsius", "F": "Fahrenheit"}[m[1]], text)
    text = re.sub(r"/ea(?:ch)?\b\.?", " each", text)
    names = "|".join(
        {name.split()[-1] for names in SIGNS.values() for name in names} | {"million", "billion"}
    )
    per = rf"(?:{UNIT})|{PERIODS}"
    text = re.sub(
        rf"\b({names})/({per})\b(?:\^([23])\b)?",
        lambda m: f"{m[1]} per {powered(UNITS.get(m[2], m[2]), m[3])}",
        text,
    )
    # words/min, steps/s
    return expand(
        r"(?<=[a-z]{3})/(min|sec|hr|yr|wk|mL|dL|kg|km|lb|[hsL])\b\.?(?! [A-Z])(?<!\.)",
        lambda m: f" per {UNITS[m[1]]}",
        text,
    )


def capital_unit(match: re.Match) -> str:
    """Read "300 K" and "20 C", but not "a 10 K run" and "salaries of 80 K"."""
    number, _, sign = match.groups()
    before, after = match.string[: match.start()], match.string[match.end() :]
    if (
        is_name(match)
        or "/" in number
        or len(number) > 5
        or re.match(r" (?:run|race|walk|league|grade)", after)
    ):
        return match[0]
    if sign == "K" and re.search(r"(?i:salar|pay|paid|earn|cost|worth|price|follow|step)|[$£€]\s?$", before):
        return match[0]
    unit = CAPITAL_UNITS[sign]
    return f"{say(number)} {unit if number == '1' or is_adjective(match) else plural(unit)}"


def units_alone(text: str) -> str:
    """Spell out units without a number: "dose (μg)"."""
    return expand(rf"(?<![\w/.-])({ALONE})(?=[),;:.?!]*(?:\s|$))(?!\.\w)", unit_alone, text)


def length(match: re.Match) -> str:
    quotation, article, number, mark = match.groups()
    if quotation:
        return match[0]
    one, many = ("foot", "feet") if mark == "'" else ("inch", "inches")
    return f"{article or ''}{number} {one if article or number == '1' else many}"


def duration(match: re.Match) -> str:
    parts = re.findall(r"(\d+) ?([a-z]+)", match[0])
    return " ".join(f"{say(number)} {DURATION[sign]}{'s' * (number != '1')}" for number, sign in parts)


def powers(text: str) -> str:
    """Read "m^-1" as "per meter", "10^-3" as "ten to the minus three", "10^6" as "ten to the sixth"."""
    if "^" not in text:  # these patterns take the most time
        return text
    text = expand(
        rf"(?:(?<=\d)|(?<![\w.]))\s?\b({UNIT})\^-([123])(?!\d)",
        lambda m: f" per {powered(UNITS[m[1]], m[2])}",
        text,
    )
    text = expand(r"(?<=\d)\^-(\d+)", lambda m: f" to the minus {say(m[1])}", text)
    text = expand(r"(?<=\d)\^(\d+)\b(?<!\^[23])", lambda m: f" to the {ordinal(m[1])}", text)
    return expand(
        rf"(to the (?:minus )?[a-z-]+) ({UNIT})(?:/({UNIT})(?:\^?([23]))?)?(?![\w'&/])",
        lambda m: f"{m[1]} {plural(UNITS[m[2]])}" + (f" per {powered(UNITS[m[3]], m[4])}" if m[3] else ""),
        text,
    )


def powered(unit: str, power: str | None) -> str:
    """Return "square meter" and "cubic meter", but "second squared"."""
    if power in ("2", "3") and unit == "second":
        return f"{unit} {'squared' if power == '2' else 'cubed'}"
    return POWERS.get(power, "") + unit


def plural(unit: str) -> str:
    """Return the plural of a unit, whose noun stands before "per", "of" and the names of scales."""
    noun, *rest = re.split(r" (?=per |of |Celsius|Fahrenheit)", unit, maxsplit=1)
    *adjectives, noun = noun.split(" ")
    noun = PLURALS.get(noun, noun if noun.endswith("hertz") else noun + "s")
    return " ".join([*adjectives, noun, *rest])


def measure(match: re.Match) -> str:
    number, gap, sign, power, per, per_power = match.groups()
    if sign == "s" and not gap and number.isdigit():  # 90s
        return match[0]
    if len(sign) == 1 and not gap and is_name(match):  # bus 9W
        return match[0]
    unit = UNITS[sign]
    top, slash, bottom = number.rpartition(" ")[2].partition("/")
    proper = slash and " " not in number and int(top) < int(bottom)  # "one half kilometer"
    adjective = is_adjective(match)
    if number != "1" and gap != "-" and not proper and not adjective:
        unit = plural(unit)
    if proper and gap != "-" and not adjective:
        whole = "half" if number == "1/2" else f"{say(number)} of"
        number, unit = "", f"{whole} {'an' if re.match('[aeio](?!ne)|hour', unit) else 'a'} {unit}"
    over = f" per {powered(UNITS.get(per) or UNITS[per.lower()], per_power)}" if per else ""
    return f"{say(number) if number else ''}{'-' if gap == '-' else ' '}{powered(unit, power)}{over}".strip()


def is_adjective(match: re.Match) -> bool:
    """Return whether the unit is singular because it describes a noun: "a 10 lb bag"."""
    return (
        re.search(r"\b[Aa]n? $", match.string[max(0, match.start() - 3) : match.start()]) is not None
        and re.match(
            r" (?!(?:of|per|and|or|to|in|at|is|was|from|for|a|an|the)\b)[A-Za-z]",
            match.string[match.end() : match.end() + 6],
        )
        is not None
    )


def unit_alone(match: re.Match) -> str:
    unit = UNITS.get(match[1]) or "kilometer per hour"
    return unit if re.search(r"(?:\bper|\bone|\ban?) $", match.string[: match.start()][-8:]) else plural(unit)
