"""Expand abbreviations, and spell out e-mail and web addresses."""

import re

from text.boundaries import expand


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that begin a sentence when they follow an abbreviation.
STARTERS = word_set(
    """The He She It They We You I In On At But And So Then There This That These Those His Her Its Their
    Our My Your If When While After Before As Although Though However Meanwhile What Who Why How Where
    Yes No Not Now Later For From With By Some Many Most All Both Each Another Only Even Still Yet Or
    Nor A An To Of Because Since Until Once Here Nobody Everyone Everything Nothing Soon Suddenly
    Perhaps Maybe Thus Therefore Also Is Are Was Were Do Does Did Can Could Would Will Let Please"""
)
NEW_SENTENCE = re.compile(r"[\"')]*(?:$|\s+[\"'(]*(?:" + "|".join(sorted(STARTERS)) + r")\b(?![.'’-]))")
# One table for expanding and for splitting sentences: what each abbreviation stands for, by its place.
# Before a name: "Dr. Smith".
TITLES = {
    "mr": "mister", "mrs": "misses", "ms": "miz", "messrs": "messers", "dr": "doctor", "prof": "professor",
    "gen": "general", "col": "colonel", "capt": "captain", "lt": "lieutenant", "sgt": "sergeant",
    "maj": "major", "cpl": "corporal", "adm": "admiral", "cmdr": "commander", "rev": "reverend",
    "hon": "honorable", "sen": "senator", "rep": "representative", "gov": "governor", "pres": "president",
    "supt": "superintendent", "fr": "father", "st": "saint", "mt": "mount", "ft": "fort", "mme": "madame",
    "mlle": "mademoiselle",
}  # fmt: skip
STREETS = {
    "st": "street", "dr": "drive", "ave": "avenue", "av": "avenue", "blvd": "boulevard", "rd": "road",
    "sq": "square", "ln": "lane", "ct": "court", "pl": "place", "pkwy": "parkway", "hwy": "highway",
    "cir": "circle", "ter": "terrace", "expy": "expressway",
}  # fmt: skip
AFTER_NAMES = {
    "jr": "junior", "sr": "senior", "esq": "esquire", "co": "company", "ltd": "limited",
    "inc": "incorporated", "corp": "corporation", "bros": "brothers", "univ": "university", **STREETS,
}  # fmt: skip
ANYWHERE = {
    "vs": "versus", "etc": "etcetera", "approx": "approximately", "cf": "compare", "viz": "namely",
    "misc": "miscellaneous", "dept": "department", "govt": "government", "intl": "international",
    "max": "maximum", "min": "minimum", "avg": "average", "assn": "association", "mfg": "manufacturing",
    "natl": "national", "asst": "assistant", "assoc": "associate", "bldg": "building", "apt": "apartment",
    "hwy": "highway", "tel": "telephone", "pkg": "package", "qty": "quantity", "mgr": "manager",
    "blvd": "boulevard", "ave": "avenue", "temp": "temperature", "est": "estimated", "incl": "including",
    "excl": "excluding",
    "cont": "continued", "attn": "attention", "tbsp": "tablespoon", "tsp": "teaspoon", "chap": "chapter",
    "hrs": "hours",
    "yrs": "years", "lbs": "pounds", "mins": "minutes", "secs": "seconds",
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
    "no": "number", "nos": "numbers", "p": "page", "pp": "pages", "pg": "page", "pgs": "pages",
    "vol": "volume", "vols": "volumes", "fig": "figure", "figs": "figures", "ch": "chapter",
    "chs": "chapters", "chap": "chapter", "chaps": "chapters", "sec": "section", "sect": "section",
    "art": "article", "arts": "articles", "c": "circa", "ca": "circa", "est": "established",
    "ext": "extension", "eq": "equation", "eqs": "equations", "eqn": "equation", "ver": "version",
    "rev": "revision",
    "v": "version", "apt": "apartment", "ste": "suite", "hwy": "highway", "rt": "route", "rte": "route",
    "tel": "telephone", "ph": "phone", "rm": "room", "par": "paragraph", "para": "paragraph", "ed": "edition",
    "op": "opus", "ref": "reference", "tab": "table", "bldg": "building", "fl": "floor",
    "ll": "lines", "ln": "line", "app": "appendix", "ex": "example", "pt": "part", "bk": "book",
    **MONTH_ABBREVIATIONS,
}  # fmt: skip
DOTTED = {
    "e.g.": "for example",
    "i.e.": "that is",
    "a.k.a.": "also known as",
    "p.s.": "p s",
    "p.a.": "per annum",
}
ALWAYS_MONTHS = word_set("jan feb apr aug sept oct nov dec")  # the others are also words
# Understood without a dot if they have a capital ("Mr Smith", "Sunset Blvd") or are no words ("vs").
DOTLESS = word_set(
    "Mr Mrs Ms Messrs Dr Prof St Mt Ft Jr Sr Ltd Inc Corp Co Bros Ave Blvd Rd Sq Ln Ct Pl Pkwy Hwy vs Vs etc "
    "approx dept Dept govt Govt Sgt Capt Lt Gov Sen Rep Gen Col Rev Univ Bldg Assn Intl"
)
# Understood without a dot before a number: "No 1", "Apt 4B", "pp 5-6".
DOTLESS_BEFORE_NUMBERS = word_set(
    "No Nos pp Pp pg Vol vol Fig fig Figs figs Ch Chap chap Sec Art Eq eq Ext ext Ver ver Apt apt Ste Hwy "
    "hwy Rt Rte rte Tel tel Rm Bldg approx max Max avg"
)
# After these, a sentence goes on, and before a number after those of `BEFORE_NUMBERS`. After the others,
# it ends only before one of `STARTERS`.
SENTENCE_GOES_ON = frozenset(TITLES.keys() - {"st", "dr", "ft", "mt"}) | word_set(
    "e.g i.e vs viz cf approx rs p pp vols figs sec ca max avg incl excl ft mt"
)
ABBREVIATIONS = {**BEFORE_NUMBERS, **ANYWHERE, **AFTER_NAMES, **DAYS, **TITLES}
STATES = dict(
    entry.replace("_", " ").split(":")
    for entry in sorted(
        word_set(
            """AL:Alabama AK:Alaska AZ:Arizona AR:Arkansas CA:California CO:Colorado CT:Connecticut
            DE:Delaware FL:Florida GA:Georgia HI:Hawaii ID:Idaho IL:Illinois IN:Indiana IA:Iowa KS:Kansas
            KY:Kentucky LA:Louisiana ME:Maine MD:Maryland MA:Massachusetts MI:Michigan MN:Minnesota
            MS:Mississippi MO:Missouri MT:Montana NE:Nebraska NV:Nevada NH:New_Hampshire NJ:New_Jersey
            NM:New_Mexico NY:New_York NC:North_Carolina ND:North_Dakota OH:Ohio OK:Oklahoma OR:Oregon
            PA:Pennsylvania RI:Rhode_Island SC:South_Carolina SD:South_Dakota TN:Tennessee TX:Texas UT:Utah
            VT:Vermont VA:Virginia WA:Washington WV:West_Virginia WI:Wisconsin WY:Wyoming DC:D_C"""
        )
    )
)
CAPITALS = word_set(
    "EST PST CST MST ED EX OP ART SEC APP PAR PT PL CT FIG MAX SUN SAT MAR"
)  # no abbreviations
COMPASS = {"N": "North", "S": "South", "E": "East", "W": "West", "NE": "Northeast", "NW": "Northwest",
           "SE": "Southeast", "SW": "Southwest"}  # fmt: skip


def addresses(text: str) -> str:
    """Spell out e-mail addresses, web addresses and file names."""
    if "." not in text and "/" not in text:
        return text
    text = expand(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+", spell_address, text)
    text = expand(r"(?:\bhttps?://|\bwww\.)[^\s\"'()<>]+", spell_address, text)
    text = expand(
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
        address = address.replace(mark, f" {word} ")  # `symbols` reads the other signs
    return address + rest


def abbreviations(text: str) -> str:
    """Expand abbreviations; a dot that also ends the sentence is kept."""
    text = expand(r"(?<![\w.])(?:LL\.|[A-Za-z]\.){2,}(?!\w)", dotted, text)
    text = expand(r"\bw/(?=\s?\w)", "with ", expand(r"\bw/o\b", "without", text))
    text = expand(r"\bn/a\b", "not applicable", expand(r"\bc/o\b", "care of", text), re.I)
    text = expand(r"\b([Pp])h\.?D\b\.?", r"\1 h d", text)
    text = states_and_streets(text)
    # initials before a name: "J. K. Rowling"
    text = re.sub(r"(?<![\w.'])([A-Z])\.(?=\s[A-Z])", initial, text)
    dotless, numbered = "|".join(DOTLESS), "|".join(DOTLESS_BEFORE_NUMBERS)
    return expand(
        rf"(?<![\w.'&-])(?:([A-Za-z]{{1,6}})\.(?![A-Za-z_])|({dotless})(?![\w.'’&/-])"
        rf"|({numbered})(?=\s#?\d|\s[A-Z]{{1,2}}-?\d|\s[A-Z]\b))",
        abbreviation,
        text,
    )


def states_and_streets(text: str) -> str:
    """Expand the states and the points of the compass of postal addresses."""
    if not re.search(r"\b[A-Z]{1,2}\b", text):
        return text
    states = "|".join(STATES)
    text = expand(
        rf"(?<=[a-z]),? ({states})(?= \d{{5}}\b)|(?<=[a-z]), ({states})(?=[,.;:)?!]|$| [a-z])(?!\.\w)",
        state,
        text,
    )
    points = "|".join(COMPASS)
    text = expand(
        rf"(?<=\d )({points})\.?(?= (?:[A-Z][a-z]|\d+(?:st|nd|rd|th)))", lambda m: COMPASS[m[1]], text
    )
    text = expand(
        r"\b([NSEW])\.?(?= (?:[A-Z][a-z]+ ){1,2}(?:St|Ave|Rd|Dr|Blvd|Street|Avenue|Road|Drive|Boulevard)\b)",
        lambda m: COMPASS[m[1]],
        text,
    )
    text = expand(r"\b(NE|NW|SE|SW)(?= (?:[A-Z][a-z]|\d+(?:st|nd|rd|th)))", lambda m: COMPASS[m[1]], text)
    streets = "|".join(f"{short}|{name}" for short, name in STREETS.items()).title()
    return expand(rf"(?<=\b)((?:{streets})\.?) (NE|NW|SE|SW)\b", lambda m: f"{m[1]} {COMPASS[m[2]]}", text)


def state(match: re.Match) -> str:
    code, before = match[1] or match[2], match.string[: match.start()].split()
    is_word = code in ("OK", "OH", "HI", "ME", "IN", "OR", "PA", "MA", "LA")
    if not before or not before[-1][0].isupper() or (is_word and match[2] and len(before) == 1):
        return match[0]  # "Well, OK."
    return match[0].replace(code, STATES[code])


def dotted(match: re.Match) -> str:
    spelled = " ".join(match[0].split(".")).strip().upper()
    words = spelled if match[0].isupper() else DOTTED.get(match[0].lower(), spelled)
    return words + ("." if NEW_SENTENCE.match(match.string, match.end()) else "")


def initial(match: re.Match) -> str:
    return match[0] if match[1] == "I" or NEW_SENTENCE.match(match.string, match.end()) else match[1]


def abbreviation(match: re.Match) -> str:
    if match[0].rstrip(".") in CAPITALS:
        return match[0]
    place = Place(match)
    for rule in (number_mark, title, calendar, after_name, anywhere):
        words = rule(place)
        if words is not None:
            return words
    return match[0]


class Place:
    """An abbreviation and what stands around it."""

    def __init__(self, match: re.Match):
        text, self.written = match.string, match[0]
        self.word = self.written.rstrip(".").lower()
        self.has_dot = self.written.endswith(".")
        self.is_capital = self.written[0].isupper()
        self.before = text[max(0, match.start() - 30) : match.start()]
        self.after = text[match.end() : match.end() + 30]
        new_sentence = NEW_SENTENCE.match(text, match.end()) is not None  # its dot also ends the sentence
        name = re.search(r"\b([A-Z0-9][\w']*),? $", self.before)
        self.after_name = name is not None and name[1] not in STARTERS
        if self.word in ("mr", "mrs", "ms") or (
            self.word in ("dr", "st") and not self.after_name
        ):  # "Dr. Who"
            new_sentence = new_sentence and not self.after.strip(" \"')")
        self.dot = "." if self.has_dot and new_sentence else ""
        self.before_name = re.match(r"\s[\"']?[A-Z]", self.after) is not None and not new_sentence
        if self.word in STREETS and re.search(r"\d+ (?:[A-Z]\w+ )+$", self.before):  # 10 Downing St. London
            self.before_name = False
        self.number_follows = re.match(r"\s?#?(?:\d|[A-Z]{1,2}-?\d|[A-Z]\b(?!\.))", self.after) is not None


def number_mark(place: Place) -> str | None:
    word, after = place.word, place.after
    if word in ("c", "ca") and not re.match(r"\s?\d{3,4}\b", after):
        return place.written  # "c." can also mean chapter
    if word not in BEFORE_NUMBERS or not place.number_follows or not re.match(r"\s?#?\w*\d|\s[A-Z]\b", after):
        return None
    if not re.match(r"\s?#?\w*-?\d", after) and word not in ("apt", "ste", "rm", "bldg", "app", "rte", "rt"):
        return None
    if word == "est" and place.has_dot:
        return "established" if re.match(r"\s?[12]\d{3}\b", after) else "estimated"
    if not place.has_dot and (
        place.written not in DOTLESS_BEFORE_NUMBERS or re.match(r" \d+ [a-z]+s\b", after)
    ):
        return None  # "No 5 people"
    return BEFORE_NUMBERS[word] + ("" if after[:1] == " " else " ")


def title(place: Place) -> str | None:
    if place.word in TITLES and place.before_name and place.is_capital:
        return TITLES[place.word]
    if place.word in ("mr", "mrs", "ms", "messrs", "prof"):
        return TITLES[place.word] + place.dot
    return None


def calendar(place: Place) -> str | None:
    if not place.has_dot or not place.is_capital:
        return None
    months = f"{MONTH}|{'|'.join(MONTH_ABBREVIATIONS)}"
    after_month = re.search(rf"\b(?:{months})\.?(?:,| to| thru| through| and| or|-|–) ?$", place.before, re.I)
    if place.word in ALWAYS_MONTHS or (place.word in MONTH_ABBREVIATIONS and after_month):
        of = "of " if re.search(r"\d(?:st|nd|rd|th) $", place.before) else ""  # 1st Jan.
        return of + MONTH_ABBREVIATIONS[place.word] + place.dot
    days = "|".join(DAYS)
    beside_date = (
        re.match(rf",? (?:\d|(?:{months})\b)|\s?(?:-|–|to) ?(?:{days})\b", place.after, re.I)
        or re.match(rf",? (?:(?:and|or|to) )?(?:{days})\b\.", place.after, re.I)
        or re.search(rf"\b(?:{days})(?:\.,?|day) ?(?:-|–)? ?(?:(?:and|or|to) )?$", place.before, re.I)
    )
    is_day = place.word in DAYS and (beside_date or place.word not in ("mon", "sat", "sun", "wed"))
    return DAYS[place.word] + place.dot if is_day else None


def after_name(place: Place) -> str | None:
    if place.word not in AFTER_NAMES or not place.is_capital:
        return None
    if not place.after_name and (place.word in STREETS or not place.has_dot):
        return None
    if not place.has_dot and place.word in TITLES and place.before_name:
        return None
    return AFTER_NAMES[place.word] + place.dot


def anywhere(place: Place) -> str | None:
    if place.word not in ANYWHERE or (place.written in ("Min", "min") and not place.has_dot):
        return None
    if place.written in ("Max.", "Min.", "Temp.") and not re.match(r" [a-z\d]", place.after):
        return None  # a name
    if place.word in ("min", "hrs", "yrs", "lbs", "mins", "secs", "tsp", "tbsp") and re.search(
        r"[\d½¼¾] ?$", place.before
    ):
        return None  # units
    return ANYWHERE[place.word] + place.dot
