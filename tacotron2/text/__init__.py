"""Text as Tacotron 2 reads it: `clean` spells out what a voice would say, `encode` numbers its characters.

The readings are those of LJSpeech's narrator where she shows one ("January five", "one hundred twenty",
"thirteen dollars, eighty-seven cents"), so that what is trained on and what is asked for look the same.
"""

import html
import re
import sys
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache

from anyascii import anyascii


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


SYMBOLS: tuple[str, ...] = ("<pad>", "<end>", "<unknown>", *"abcdefghijklmnopqrstuvwxyz", *"!'\"(),-.:;? ")
PAD_ID, END_ID, UNKNOWN_ID = 0, 1, 2
ID_OF_SYMBOL = {symbol: index for index, symbol in enumerate(SYMBOLS) if len(symbol) == 1}

# Characters.

# Before Unicode's compatibility forms are taken, which would make 2½ "21⁄2" and lose the dashes' lengths.
TYPOGRAPHY = {
    **dict.fromkeys("‘’‚‛‹›ʼ", "'"), **dict.fromkeys("“”„‟«»《》「」『』", '"'),
    **dict.fromkeys("‐‑‒−", "-"), **dict.fromkeys("—―⸺⸻", " -- "), **dict.fromkeys("【〔", "("),
    **dict.fromkeys("】〕", ")"), "⁄": "/", "\u00ad": "", "…": "... ", "•": ", ", "·": ", ", "●": ", ",
    "₤": "£",
}  # fmt: skip
# A reader passes over these: marks of trade and footnotes, the upside-down marks, accents with no letter.
SILENT = frozenset("™®¿¡†‡´¨¸`\ufeff")
SPOKEN_SYMBOLS = {
    "×": "times", "÷": "divided by", "±": "plus or minus", "≈": "about", "≠": "is not equal to",
    "∞": "infinity", "≤": "is at most", "≥": "is at least", "√": "the square root of", "→": "to", "⇒": "to",
    "←": "from", "↑": "up", "↓": "down", "§": "section", "¶": "paragraph", "©": "copyright",
    "‰": "per thousand", "№": "No. ", "✓": "check", "✔": "check", "★": "star", "☆": "star", "∑": "sum",
    "∫": "integral", "∂": "partial",
}  # fmt: skip
# One major unit, several, one minor unit, several.
CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"), "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"), "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"), "₽": ("ruble", "rubles", "kopeck", "kopecks"),
    "₩": ("won", "won", "jeon", "jeon"), "₿": ("bitcoin", "bitcoins", "cent", "cents"),
}  # fmt: skip
KEPT = frozenset("°¢μ") | CURRENCIES.keys()  # rules further down read these

# Words.

# The next word is a sentence's first if it is one of these, even after an abbreviation.
STARTERS = word_set(
    """The He She It They We You I In On At But And So Then There This That These Those His Her Its Their
    Our My Your If When While After Before As Although Though However Meanwhile What Who Why How Where
    Yes No Not Now Later For From With By Some Many Most All Both Each Another Only Even Still Yet Or
    Nor A An To Of Because Since Until Once Here Nobody Everyone Everything Nothing Soon Suddenly
    Perhaps Maybe Thus Therefore Also Is Are Was Were Do Does Did Can Could Would Will Let Please"""
)
NEW_SENTENCE = re.compile(r"[\"')]*(?:$|\s+[\"'(]*(?:" + "|".join(sorted(STARTERS)) + r")\b(?![.'’-]))")

TITLES = {
    "mr": "mister", "mrs": "misses", "ms": "miz", "messrs": "messers", "dr": "doctor", "prof": "professor",
    "gen": "general", "col": "colonel", "capt": "captain", "lt": "lieutenant", "sgt": "sergeant",
    "maj": "major", "cpl": "corporal", "adm": "admiral", "cmdr": "commander", "rev": "reverend",
    "hon": "honorable", "sen": "senator", "rep": "representative", "gov": "governor", "pres": "president",
    "supt": "superintendent", "fr": "father", "st": "saint", "mt": "mount", "ft": "fort", "mme": "madame",
    "mlle": "mademoiselle",
}  # fmt: skip
AFTER_NAMES = {
    "jr": "junior", "sr": "senior", "esq": "esquire", "co": "company", "ltd": "limited",
    "inc": "incorporated", "corp": "corporation", "bros": "brothers", "ave": "avenue", "blvd": "boulevard",
    "rd": "road", "sq": "square", "dept": "department", "univ": "university", "st": "street", "dr": "drive",
}  # fmt: skip
ANYWHERE = {
    "vs": "versus", "etc": "etcetera", "approx": "approximately", "cf": "compare", "viz": "namely",
    "misc": "miscellaneous", "dept": "department", "govt": "government", "intl": "international",
}  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip
MONTH_ABBREVIATIONS = {month[:3].lower(): month for month in MONTHS if month != "May"} | {"sept": "September"}
MONTH = "|".join(MONTHS)
DAYS = {
    "mon": "Monday", "tue": "Tuesday", "tues": "Tuesday", "wed": "Wednesday", "thu": "Thursday",
    "thur": "Thursday", "thurs": "Thursday", "fri": "Friday", "sat": "Saturday", "sun": "Sunday",
}  # fmt: skip
BEFORE_NUMBERS = {
    "no": "number", "nos": "numbers", "p": "page", "pp": "pages", "vol": "volume", "vols": "volumes",
    "fig": "figure", "figs": "figures", "ch": "chapter", "chap": "chapter", "sec": "section",
    "art": "article", "c": "circa", "ca": "circa", "est": "established", "ext": "extension",
    "eq": "equation", "ver": "version", **MONTH_ABBREVIATIONS,
}  # fmt: skip
ALWAYS_MONTHS = word_set("jan feb apr aug sept oct nov dec")  # the others are words as well
DOTLESS = word_set("mr mrs ms messrs dr prof st mt jr sr ltd vs")  # as in British "Mr Smith"
DOTTED = {"e.g.": "for example", "i.e.": "that is", "a.k.a.": "also known as", "p.s.": "p s"}

# Letters said one by one, and not.

# Short words that are in capitals for emphasis. US is not among them: it is the country more often.
COMMON_WORDS = word_set(
    """A I AM AN AND ALL ANY ARE AS AT BAD BE BIG BUT BY CAN DAY DID DO END FOR FUN GET GO GOD GOT HAD HAS
    HE HER HEY HIM HIS HOT HOW IF IN IS IT'S ITS JOY LET LOT LOW MAN MAY ME MEN MY NEW NO NOT NOW OF OFF
    OH OLD ON ONE OR OUR OUT OWN PUT RED RUN SAW SAY SEE SHE SO SIR SIX TEN THE TOO TOP TRY TWO UP USE
    WAR WAS WAY WE WHO WHY YES YET YOU"""
)
ACRONYMS = word_set("NATO NASA UNESCO UNICEF OPEC AIDS SARS LASER RADAR NAFTA PIN SIM RAM ROM SWAT FIFA UEFA")
# Of four letters or more, or known even in a text all in capitals.
INITIALISMS = word_set(
    """FBI CIA USA UK US EU UN TV DVD CD PC BBC CNN NBC CBS ABC IBM USSR USAF UCLA IEEE NCAA NAACP ASAP
    HTML HTTP CEO CFO CTO UFO IRA NYPD LAPD DNA RNA ATM FAQ DIY GPS CPU GPU USB URL IOU MIA NBA NFL NHL
    KGB PRS LED AI API IQ USS AOL AFL CIO USPS YMCA YWCA ACLU HIV ESPN OECD"""
)

# Numbers.

# Digits with thousands commas or without, perhaps decimals; or decimals alone.
NUMBER = r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
FRACTION = r"(?:(?:\d+ )?\d+/\d+)"
SCALES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "tn": "trillion"}
SCALE = r"(?:\s?(hundred|thousand|million|billion|trillion|bn|mn|tn|[kmb])\b)?"
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
PER = "second|minute|hour|day|night|week|month|year|person"
MILLIONS_OF = (  # there are too many of these for "1m" to be a meter
    "people|users|views|viewers|followers|subscribers|downloads|copies|visitors|customers|readers|voters|"
    "jobs|homes|households|tons|tonnes|barrels|years|dollars|pounds|euros"
)
PLURALS = {"foot": "feet", "inch": "inches", "hertz": "hertz"}
# What may stand before a number that looks like a year and is one, whatever follows.
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
ROMAN = r"(?=[IVXLC])(?:X[CL]|L?X{0,3})(?:I[XV]|V?I{0,3})(?<=[IVXLC])\b"
ROMAN_DIGITS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}


@cache
def inflector():
    import inflect  # takes two seconds, and most sentences have no numbers

    return inflect.engine()


def clean(text: str) -> str:
    """English text as it is read aloud: letters and punctuation of `SYMBOLS`, numbers in words.

    A character that nobody could say (a private one, half of a surrogate pair) stays as it is. Cleaning what
    is clean changes nothing.
    """
    text = to_ascii(text)
    shouted = len(re.findall("[A-Z]{2,}", text)) > 1 and not re.search("[a-z]{2}", text)
    text = addresses(text)
    text = abbreviations(text)
    text = roman_numerals(text)
    if any(map(str.isdigit, text)):  # most sentences have none, and these rules are most of the work
        text = numbers(text)
    text = capitals(text, shouted)
    return tidy(symbols(text).lower())


def encode(text: str) -> list[int]:
    """The ids of the cleaned text and `END_ID`. What can't be said is `UNKNOWN_ID`, and is warned of once."""
    ids = []
    for character in clean(text):
        if character not in ID_OF_SYMBOL:
            warn_once(character)
        ids.append(ID_OF_SYMBOL.get(character, UNKNOWN_ID))
    return [*ids, END_ID]


def decode(ids: Iterable[int]) -> str:
    """The text that `encode` numbered; an unknown is shown as "\ufffd"."""
    return "".join("\ufffd" if i == UNKNOWN_ID else SYMBOLS[i] for i in map(int, ids) if i > END_ID)


@cache
def warn_once(character: str) -> None:
    # not `warnings`, which would show whoever runs the command a path and a line of code
    name = unicodedata.name(character, "no name")
    message = f"text: can't say {character!r} ({name}), it is left to the voice's unknown symbol"
    print(message, file=sys.stderr)


# Unicode to ASCII.


def to_ascii(text: str) -> str:
    """ASCII and the symbols in `KEPT`, each run of spaces one space. Unspeakable characters are left in."""
    text = re.sub(r"&(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|[A-Za-z]{2,8});", lambda m: html.unescape(m[0]), text)
    if not text.isascii():
        text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹]+", r"^\g<0>", text)
        text = re.sub(r"[¼-¾⅐-⅞↉]", lambda m: f" {unicodedata.normalize('NFKC', m[0])} ", text)
        text = re.sub(r"(°\s?\d+)\s?[′']", r"\1 minutes ", text)  # coordinates, not feet
        text = re.sub(r"(minutes\s+\d+)\s?[″\"”]", r"\1 seconds ", text)
        text = re.sub(r"(\d)\s?[″]", r"\1 inches", re.sub(r"(\d)\s?′(?!′)", r"\1 ft ", text))
        text = re.sub(r"(\d)\s?([kM]?)[Ω\u2126](?!\w)", ohms, text)
        text = re.sub(
            r"(?<!\w)[Α-ΡΣ-Ωα-λν-ω](?!\w)", lambda m: unicodedata.name(m[0]).split()[3].lower(), text
        )
        # an en dash joins numbers and words, or with spaces around it is a pause
        text = re.sub(r"(?<=\d)\s?[–—―]\s?(?=[\d$£€])|(?<=[^\W\d])–(?=\w)|(?<=\d)–(?=\w)", "-", text)
        text = text.replace("–", " -- ").translate(str.maketrans(TYPOGRAPHY))
        text = "".join(map(character_to_ascii, text))
        text = re.sub(r"(?<![\d ])μ|μ(?![mslgFA]\b)", "m", text)  # of a Greek word, not of a unit
    return " ".join("".join(c if c >= " " and c != "\x7f" else " " for c in text).split())


def ohms(match: re.Match) -> str:
    number, prefix = match.groups()
    is_one = re.search(r"(?<![\d.,])1$", match.string[max(0, match.start() - 1) : match.end(1)])
    unit = {"": "ohm", "k": "kilohm", "M": "megohm"}[prefix]
    return f"{number} {unit}" if is_one else f"{number} {unit}s"


@lru_cache(maxsize=65536)
def character_to_ascii(character: str) -> str:
    if character.isascii() or character in KEPT:
        return character
    if character in SILENT:
        return ""
    if character in SPOKEN_SYMBOLS:
        return f" {SPOKEN_SYMBOLS[character]} "
    plain = unicodedata.normalize("NFKC", character)
    if plain != character:  # full-width, ligatures, circled, subscripts, units in one character, most spaces
        return "".join(map(character_to_ascii, plain))
    ascii, category = anyascii(character), unicodedata.category(character)
    if category in ("Mn", "Cf"):  # accents left over, joiners and marks of direction
        return ascii if category == "Mn" else ""
    if category in ("Cc", "Zl", "Zp", "Zs"):
        return " "
    if "\u2500" <= character <= "\u259f" or "\U0001f3fb" <= character <= "\U0001f3ff":
        return " "  # lines of tables, skin colours
    if ascii.startswith(":") and len(ascii) > 2:
        return f" {ascii.strip(':').replace('_', ' ')} "
    if category[0] == "S" and not ascii.isalpha():
        return f" {unicodedata.name(character, character).lower()} "
    if category == "Lo" and ascii[:1].isupper():  # Chinese, Japanese, Korean: a syllable or more a character
        return f" {ascii.lower()} "
    return ascii or character


# Addresses, abbreviations, Roman numerals.


def addresses(text: str) -> str:
    """E-mail and web addresses, and names of files, as one dictates them."""
    if "." not in text and "/" not in text:
        return text
    text = re.sub(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+", spell_address, text)
    text = re.sub(r"(?:\bhttps?://|\bwww\.)[^\s\"'()<>]+", spell_address, text)
    text = re.sub(
        r"(?<![\w.-])[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,3}"
        r"\.(?:com|org|net|edu|gov|io|uk|de|info)\b(?:/[^\s\"'()<>]*)?(?!\w)",
        spell_address,
        text,
    )
    return re.sub(
        r"(?<=\w)\.(?=(?:py|js|txt|pdf|html?|jpe?g|png|csv|json|docx?|mp3|wav|zip)\b)", " dot ", text
    )


def spell_address(match: re.Match) -> str:
    address = match[0].rstrip(".,;:!?")
    rest = match[0][len(address) :]
    address = re.sub(r"^https?://", "", address)
    address = re.sub(r"^www\.", "w w w.", address)
    address = re.sub(r"\.uk\b", " dot u k", address.rstrip("/"))
    for mark, word in {".": "dot", "-": "dash", ":": "colon", "?": "question mark"}.items():
        address = address.replace(mark, f" {word} ")  # the other signs are read as anywhere
    return address + rest


def abbreviations(text: str) -> str:
    """Dotted abbreviations in full or in letters; a dot that also ends the sentence stays."""
    text = re.sub(r"(?<![\w.])(?:LL\.|[A-Za-z]\.){2,}(?!\w)", dotted, text)
    text = re.sub(r"\bw/(?=\s?\w)", "with ", re.sub(r"\bw/o\b", "without", text))
    text = re.sub(r"\b([Pp])h\.?D\b\.?", r"\1 h d", text)
    # initials: a letter and its dot before a name, "J. K. Rowling"
    text = re.sub(r"(?<![\w.'])([A-Z])\.(?=\s[A-Z])", initial, text)
    return re.sub(
        r"(?<![\w.'-])([A-Za-z]{1,6})(?:\.(?![A-Za-z_])|(?=\s[A-Z])(?<=[A-Za-z]{2}))", abbreviation, text
    )


def dotted(match: re.Match) -> str:
    words = DOTTED.get(match[0].lower(), " ".join(match[0].split(".")).strip())
    return words + ("." if NEW_SENTENCE.match(match.string, match.end()) else "")


def initial(match: re.Match) -> str:
    return match[0] if match[1] == "I" or NEW_SENTENCE.match(match.string, match.end()) else match[1]


def abbreviation(match: re.Match) -> str:
    written, word, text = match[0], match[1].lower(), match.string
    has_dot = written.endswith(".")
    if not has_dot and word not in DOTLESS:
        return written
    before, after = text[max(0, match.start() - 30) : match.start()], text[match.end() : match.end() + 30]
    new_sentence = NEW_SENTENCE.match(text, match.end()) is not None  # then the dot is its end, too
    name = re.search(r"\b([A-Z0-9][\w']*),? $", before)
    after_name = name is not None and name[1] not in STARTERS
    if word in ("dr", "st") and not after_name:  # "Dr. Who"
        new_sentence = new_sentence and not after.strip(" \"')")
    dot = "." if has_dot and new_sentence else ""
    capital = match[1][0].isupper()
    before_name = re.match(r"\s[\"']?[A-Z]", after) is not None and not new_sentence
    if word == "st" and re.search(r"\d+ [A-Z]\w+ $", before):  # 10 Downing St. London
        before_name = False
    number_follows = re.match(r"\s?(?:\d|[A-Z]{1,2}\d)", after) is not None
    days = "|".join(DAYS)
    beside_date = re.match(rf",? (?:\d|(?:{MONTH}|{'|'.join(MONTH_ABBREVIATIONS)})\b)", after, re.I)
    beside_date = beside_date or re.match(rf",? (?:(?:and|or|to) )?(?:{days})\b\.", after, re.I)
    beside_date = beside_date or re.search(rf"\b(?:{days})\.,? (?:(?:and|or|to) )?$", before, re.I)
    if word in TITLES and before_name and (capital or word in DOTLESS):
        return TITLES[word]
    if word in ("mr", "mrs", "ms", "messrs", "prof"):
        return TITLES[word] + dot
    if word == "est" and has_dot and number_follows:
        return "established" if re.match(r"\s?[12]\d{3}\b", after) else "estimated"
    if word in ("c", "ca") and not re.match(r"\s?\d{3,4}\b", after):
        return written  # "c." is a chapter, too
    if word in BEFORE_NUMBERS and has_dot and number_follows:
        return BEFORE_NUMBERS[word] + ("" if after[:1] == " " else " ")
    if word in ALWAYS_MONTHS and has_dot and capital:
        return MONTH_ABBREVIATIONS[word] + dot
    if word in DAYS and has_dot and capital and beside_date:
        return DAYS[word] + dot
    if word in AFTER_NAMES and capital and (has_dot or word != "st"):
        return AFTER_NAMES[word] + dot if after_name or word not in ("st", "dr", "sq") else written
    if word in ANYWHERE:
        return ANYWHERE[word] + dot
    return written


def roman_numerals(text: str) -> str:
    """Henry VIII is "the eighth", World War II "two"; a single letter counts where it must be a numeral."""
    if not re.search(r"[IVXLC]\b", text):
        return text
    text = re.sub(r"\bWW(II?)\b", r"World War \1", text)
    # a lone I may be the next word: "I told George I was leaving"
    text = re.sub(
        rf"\b({REGNAL}) (?!I\b(?!['’]s\b|[.,;:)]|$| of\b| and\b))({ROMAN})\b(?:\.(?=[,;:]| [a-z]))?",
        lambda m: f"{m[1]} the {ordinal(roman(m[2]))}",
        text,
    )
    text = re.sub(rf"\b({PARTS}) ({ROMAN})\b", numbered, text, flags=re.I)
    text = re.sub(rf"^(?=[IVX]{{2}}){ROMAN}(?=\. [\"']?[A-Z])", lambda m: say(roman(m[0])), text)  # a heading
    # "I, II and III"; neither the pronoun in "II, IV and I" nor sizes, L and XL
    one = rf"(?![ILC]\b){ROMAN}"
    text = re.sub(rf"(?<![\w.'])(?:I, )?{one}(?:(?:,|,? and|,? or) {one})+", numerals, text)
    text = re.sub(rf"(?<!\w)(?=[IVX]{{3}}){ROMAN}", lambda m: say(roman(m[0])), text)
    return re.sub(rf"\b([A-Z][a-z]+) (?!XX|XL|L)(?=[IVXLC]{{2}})({ROMAN})\b", numbered, text)


def numbered(match: re.Match) -> str:
    return f"{match[1]} {say(roman(match[2]))}"


def numerals(match: re.Match) -> str:
    """A list of them, if two or more are not lone letters."""
    if len(re.findall("[IVXLC]{2,}", match[0])) < 2:
        return match[0]
    return re.sub("[IVXLC]+", lambda m: say(roman(m[0])), match[0])


def roman(numeral: str) -> str:
    values = [ROMAN_DIGITS[letter] for letter in numeral.upper()]
    following = [*values[1:], 0]
    return str(sum(-one if one < two else one for one, two in zip(values, following, strict=True)))


# Numbers.


def say(number: str) -> str:
    """A number as it is written ("1,234.5", ".5", "007", "3/4", "2 1/2") in words."""
    if "/" in number:
        return say_fraction(number)
    whole, point, decimals = number.replace(",", "").partition(".")
    words = [say_whole(whole)] if whole else []
    return " ".join([*words, "point", digit_by_digit(decimals)] if point else words)


@lru_cache(maxsize=65536)
def say_whole(digits: str) -> str:
    """Of more digits than a person would group, or with a zero before, digit by digit."""
    if len(digits) > 15 or (len(digits) > 1 and digits[0] == "0"):
        return digit_by_digit(digits)
    return inflector().number_to_words(digits, andword="")


def digit_by_digit(digits: str) -> str:
    return " ".join(map(say_whole, digits))


def in_pairs(digits: str) -> str:
    """1984 is "nineteen eighty-four", 380 "three eighty", 2009 "two thousand nine"."""
    head, tail = digits[:-2], digits[-2:]
    if len(digits) not in (3, 4) or digits[0] == "0" or (len(digits) == 4 and digits[1:3] == "00"):
        return say_whole(digits)
    return f"{say_whole(head)} {'hundred' if tail == '00' else two_digits(tail)}"


def two_digits(digits: str) -> str:
    """Of a year, or the minutes of an hour: "05" is "oh five"."""
    return f"oh {say_whole(digits[1])}" if digits[0] == "0" else say_whole(digits)


@lru_cache(maxsize=4096)
def ordinal(digits: str) -> str:
    """ "21" to "twenty-first"; beyond what is counted so, the plain number."""
    digits = digits.replace(",", "")
    if len(digits) > 15:
        return digit_by_digit(digits)
    return inflector().number_to_words(inflector().ordinal(int(digits)), andword="")


def say_fraction(written: str) -> str:
    if written in PAIRED:
        return PAIRED[written]
    whole, _, fraction = written.rpartition(" ")
    top, bottom = fraction.split("/")
    if top == bottom:  # "50/50"
        return f"{say(whole)} {say(top)} {say(bottom)}".strip()
    if not top.strip("0") or bottom not in NAMED_FRACTIONS:
        return f"{say(whole)} {say(top)} over {say(bottom)}".strip()
    name = {"2": "half", "4": "quarter"}.get(bottom, ordinal(bottom))
    if top == "1":
        return f"{say(whole)} and a {name}" if whole else f"one {name}"
    part = f"{say(top)} {'halve' if name == 'half' else name}s"
    return f"{say(whole)} and {part}" if whole else part


def numbers(text: str) -> str:
    """All digits to words, the forms of most context first: telephone numbers, dates, times, money, units."""
    text = re.sub(r"(?<![\w.,-])(?:\+\d{1,3}[ -]?)?\(?\d{3}\)?[ -]\d{3}-\d{4}(?![\w-])", telephone, text)
    text = re.sub(r"(?<![\w.,-])\+\d{1,3}(?:[ -]\d{2,})+(?![\w-])", telephone, text)
    text = re.sub(r"(?<![\w.,-])\d{3}-\d{4}(?![\w-])", telephone, text)
    text = re.sub(r"(?<=\d) (?=000\b)", "", text)  # 10 000
    text = re.sub(r"(?<![\w'])\d{1,3}(?:'\d{3})+(?![\d'\"])", lambda m: m[0].replace("'", ","), text)  # 1'000
    # Psalm 23:1-6; with two digits it reads as a time does
    text = re.sub(r"(?<![\w:.])(\d{1,3}):(?=(?:\d|[6-9]\d|\d{3})-\d+(?![\d:]))", r"\1 ", text)
    text = re.sub(rf"(\d ?[A-Za-z]{{0,8}})/({PER})\b", r"\1 per \2", text)  # $20/hour
    text = dates(text)
    text = re.sub(r"(?<![\w.,-])\d+(?:-\d+){2,}(?![\w-])", telephone, text)
    # 5-10, $5-$10, 5%-10%, 3 - 1, 9am-5pm; an equals sign makes it a sum
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
    return re.sub(r"(\d):(?=\d)", r"\1 to ", text)  # what is left is a ratio, 3:1


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
    # "5€", "5¢", "50p"; 1080p is no money
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
    """Numbers with a unit's sign: "5 km", "20°C", "3 m²", "5ft 6in", "100 km/h", "6.5-mm"."""
    text = re.sub(r"(?<!\w)(\d+)'\s?(\d+)(?:\"|''|(?=\W|$))(?!\w)", r"\1 ft \2 inches", text)  # 5'6"
    text = re.sub(r"(\d\s?ft\.? \d+)\s?in\b\.?", r"\1 inches", text)
    # a 27" monitor; a quotation is passed over whole, so that its end is no inch
    text = re.sub(
        r"(?<!\w)(['\"])(?:(?!\1).)*\1?|(\b(?:[Aa]n?|[Tt]he) )?(?<![\d.])(\d[\d.]*)(['\"])(?=[ -][a-z])",
        length,
        text,
    )
    text = re.sub(rf"(\d)m(?= (?:{MILLIONS_OF})\b)", r"\1 million", text)
    # with a space and no dot it is the word: "5 in the morning"
    text = re.sub(r"(\d)(?: ?in\.(?= [a-z])|in\b)", r"\1 inches", text)
    text = re.sub(r"\b1 inches", "1 inch", text)
    # number, space or hyphen, unit, its power, per another unit; a dot in mid sentence belongs to the unit
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


def decade(match: re.Match) -> str:
    century, tens = match.groups()
    if not century and tens == "0":  # "the 00s" has no reading that is agreed upon
        return match[0]
    if century and tens == "0":
        return in_pairs(f"{century}00") + "s"
    word = "tens" if tens == "1" else say(tens + "0")[:-1] + "ies"
    return f"{say(century)} {word}" if century else word


def model_name(match: re.Match) -> str:
    """Letters and numbers by turns. Four digits or more behind letters are a serial number."""
    parts = []
    for part in re.findall(r"[A-Za-z]+|\d+", match[0]):
        if part.isdigit():
            serial = len(part) > (3 if len("".join(parts)) < 2 else 2) and (parts or len(part) > 4)
            parts.append(digit_by_digit(part) if serial else in_pairs(part))
        else:  # letters without a vowel are spelled: mp3, but not Catch-22 or ten-year
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


# Capitals and symbols.


def capitals(text: str, shouted: bool) -> str:
    """FBI is said in letters; NASA, and what is in capitals for emphasis, as a word."""
    text = re.sub(r"\b([A-Z]{1,2})&([A-Z])\b", lambda m: f"{' '.join(m[1])} and {m[2]}", text)  # AT&T, R&B
    return re.sub(r"(?<![A-Za-z'])[A-Z]{2,}(?:s\b|(?![a-z]))", lambda m: capital_word(m, shouted), text)


def capital_word(match: re.Match, shouted: bool) -> str:
    word = match[0].removesuffix("s")
    plural = "'s" if match[0].endswith("s") else ""
    before, after = (
        match.string[max(0, match.start() - 12) : match.start()],
        match.string[match.end() : match.end() + 12],
    )
    neighbours = before.split()[-1:] + after.split()[:1]
    emphasised = shouted or any(one.strip(".,!?;:\"'()") in COMMON_WORDS - {"A", "I"} for one in neighbours)
    if word in ACRONYMS or word in COMMON_WORDS:
        return match[0]
    is_spelled = word in INITIALISMS or not re.search("[AEIOUY]", word) or (len(word) <= 3 and not emphasised)
    return " ".join(word) + plural if is_spelled else match[0]


def symbols(text: str) -> str:
    """What is left of ASCII, in words."""
    text = text.translate(str.maketrans("[]{}", "()()"))
    text = re.sub(r"(?:[=*_~#] ?){3,}", " ", text)  # a line across the page
    text = re.sub(r"(?<!\w)([*_`~]{1,3})(\w[^*_`~]*)\1(?!\w)", r"\2", text)  # emphasis, as Markdown has it
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
    """One form for each pause: " - ", "..." and single marks, with a space after and none before."""
    text = re.sub(r"-{2,}", " - ", text)
    text = re.sub(r"(?<=[a-z]):(?=[a-z])", " ", text)  # "twelve:thirty" in LJSpeech
    text = re.sub(r"\s+(?=[,;:!?.])|(?<=\()\s+|\s+(?=\))", "", " ".join(text.split()))
    text = re.sub(r"[,;:]+(?=[,;:.!?])", "", re.sub(r"([!?])\1+", r"\1", text))
    text = re.sub(r"\.{2,}", "...", text)
    text = re.sub(r"([,;:!?])(?=[a-z])|(?<=[a-z])\.(?=[a-z])", r"\g<0> ", text)
    return re.sub(r"^(?:-(?: |$)|[,;:] ?)+", "", text).strip()


# Sentences.

# Ten seconds of LJSpeech are about 150 characters; beyond its longest clips Tacotron 2 loses its place.
MAX_CHARACTERS = 150
NO_END = frozenset(TITLES.keys() - {"st", "dr"}) | word_set(
    "e.g i.e vs viz cf approx rs no nos p pp vol vols fig figs ch sec ca"
)
PERHAPS_END = frozenset({*AFTER_NAMES, *ANYWHERE, *MONTH_ABBREVIATIONS, *DAYS, "est", "ph.d", "al", "ext"})
CONJUNCTIONS = word_set("and but or nor so yet because although though while when where which who that if")
INSIDE_A_NUMBER = 10.0
OPENING, CLOSING = "\"'“‘«([{¿¡", "\"'”’»)]}*_"
ENDS = ".!?…。！？"


def split_sentences(text: str, max_characters: int = MAX_CHARACTERS) -> list[str]:
    """Raw text to pieces that can be spoken one by one: sentences, or clauses of those too long.

    Lines of a text file are sentences of their own, unless they were wrapped to a common width. The length of
    a piece is about that of its cleaned text; only a word or number longer than `max_characters` exceeds it.
    No word is lost: the pieces, joined by spaces, have the words of the text in its order, save the pieces
    of which `clean` leaves no letter.
    """
    if max_characters < 1:
        raise ValueError(f"max_characters is {max_characters}; it must be positive")
    pieces = []
    for paragraph in paragraphs(text):
        # a dash between words is a place to pause, and CJK ends its sentences without a space
        spaced = re.sub(r"(?<=\w)(—|--+)(?=[^\W\d])|([。！？、，；]+[」』）]?)", r"\1\2 ", paragraph)
        sentence: list[str] = []
        words = spaced.split()
        for word, following in zip(words, [*words[1:], ""], strict=True):
            sentence.append(word)
            if not following or ends_sentence(sentence, following) or is_next_item(sentence[0], following):
                pieces.extend(clauses(sentence, max_characters))
                sentence = []
    return [piece for piece in pieces if re.search("[a-z]", clean(piece))]


def paragraphs(text: str) -> Iterable[str]:
    """Blocks between blank lines, and in them lines, joined where a full line ends in mid sentence."""
    for block in re.split(r"\n\s*\n|\f|\u2029", re.sub(r"\r\n?|[\u2028\x85]", "\n", text)):
        lines = [line.strip() for line in block.split("\n") if line.strip()]
        width = max(map(len, lines), default=0)
        joined = last = ""
        for line in lines:
            was_full = len(last) + 1 + len(line.split(maxsplit=1)[0]) > width if joined else False
            wrapped = was_full and 40 <= width <= 100 and last.rstrip(CLOSING)[-1:] not in tuple(ENDS)
            if joined and not wrapped and not line[0].islower():
                yield joined
                joined = ""
            joined, last = f"{joined} {line}".strip(), line
        if joined:
            yield joined


def ends_sentence(sentence: list[str], following: str) -> bool:
    """Whether the last word of `sentence` ends it, `following` being the word after it."""
    word = sentence[-1].rstrip(CLOSING)
    following = following.lstrip(OPENING)
    if not word or word[-1] not in ENDS or not any(map(str.isalnum, following)):
        return False
    if following[0].islower() or (not following[0].isalnum() and following[0] not in "$£€#@"):
        return False
    if word[-1] != "." or word.endswith(".."):
        return True
    stem = word.lstrip(OPENING)[:-1]
    starts = re.match(r"\w*", following)[0] in STARTERS and not re.match(r"\w+\.", following)
    if stem.lower() in NO_END and (following[0].isdigit() or stem.lower() != "no"):
        return False
    if stem.lower() in ("dr", "st"):  # "Dr. Who", but "on Elm St. She"
        before = sentence[-2] if len(sentence) > 1 else ""
        after_name = re.fullmatch(r"[A-Z0-9]\S*\w", before.lstrip(OPENING)) is not None
        return starts and after_name and before not in STARTERS
    if stem.lower() in PERHAPS_END or re.fullmatch(r"(?:[^\W\d]\.)*[^\W\d]", stem):
        return starts and not (stem == "I" and following == "I")
    return not (len(sentence) == 1 and re.fullmatch(r"\d+|[IVX]{2,}", stem))  # "1. First", "II. Second"


def is_next_item(first: str, following: str) -> bool:
    """Whether a list goes on in the same line: "1. First 2. Second"."""
    return re.fullmatch(r"\d{1,3}\.", first) is not None and following == f"{int(first[:-1]) + 1}."


def clauses(words: list[str], max_characters: int) -> list[str]:
    """The sentence in pieces of about equal length, cut where the pause is best."""
    lengths = [spoken_length(word) + 1 for word in words]
    pieces, remaining = [], sum(lengths)
    start = 0
    while start < len(words):
        if remaining - 1 <= max_characters:
            pieces.append(" ".join(words[start:]))
            break
        ideal = remaining / -(-remaining // max_characters)
        best, best_cost, length = None, float("inf"), 0
        for end in range(start + 1, len(words)):
            length += lengths[end - 1]
            if length - 1 > max_characters and best_cost < INSIDE_A_NUMBER:
                break
            cost = cut_cost(words[end - 1], words[end]) + 2 * abs(length - ideal) / max_characters
            if cost < best_cost:
                best, best_cost = end, cost
        end = best or len(words)
        pieces.append(" ".join(words[start:end]))
        remaining -= sum(lengths[start:end])
        start = end
    return pieces


def spoken_length(word: str) -> int:
    """About how many characters `clean` makes of the word: digits and signs become words."""
    return len(word) + 5 * sum(c.isdigit() or c in "$£€¥%&@+=°½¼¾" for c in word)


def cut_cost(before: str, after: str) -> float:
    """How bad a cut between two words is: 0 at the best of pauses, `INSIDE_A_NUMBER` at the worst."""
    core = before.rstrip(CLOSING)
    stem = core.lstrip(OPENING).rstrip(".").lower()
    number_ends, number_begins = core.rstrip(",")[-1:].isdigit(), after.lstrip("$£€(")[:1].isdigit()
    if core.endswith(".") and (stem in NO_END or stem in PERHAPS_END or len(stem) == 1):
        return INSIDE_A_NUMBER
    # "January 5", "January 5, 1994", "1 000", "(555) 123-4567", "2 1/2"
    in_date = before in MONTHS or before.lower() in MONTH_ABBREVIATIONS
    in_date = in_date or (re.search(r"^\d\d?,$", before) and re.match(r"[12]\d{3}\b", after))
    if number_begins and (in_date or (core[-1:].isdigit() and re.match(r"\d{3}\b|\d+/\d", after))):
        return INSIDE_A_NUMBER
    if core[-1:] in (*";:", *"—–；…!?。！？") or core.endswith(("--", "...")):
        return 0.0
    if core[-1:] in (*",、，",) or before[-1] in ")]" or after[0] in "—–([" or after in ("-", "--"):
        return 0.5
    if after.lower() in CONJUNCTIONS:
        return 2.0
    return 6.0 if number_ends or number_begins else 4.0
