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
    "mlle": "mademoiselle", "atty": "attorney", "dist": "district", "insp": "inspector", "det": "detective",
    "pvt": "private", "pfc": "private first class", "spc": "specialist", "brig": "brigadier",
    "cdr": "commander", "bp": "bishop", "abp": "archbishop", "msgr": "monsignor", "amb": "ambassador",
    "sec": "secretary", "secy": "secretary", "treas": "treasurer", "dep": "deputy", "dir": "director",
    "ens": "ensign", "lieut": "lieutenant", "sts": "saints", "pt": "point", "co": "county",
}  # fmt: skip
PLURALS = {  # "Drs. Lee and Ray"
    f"{short}s": f"{TITLES[short]}s"
    for short in sorted(word_set("dr prof sen rep gov gen col capt lt sgt maj atty insp det mt"))
}
TITLES |= PLURALS
GIVEN_NAMES = {
    "Wm": "William", "Chas": "Charles", "Geo": "George", "Jas": "James", "Jos": "Joseph", "Thos": "Thomas",
    "Robt": "Robert", "Edw": "Edward", "Benj": "Benjamin", "Saml": "Samuel", "Danl": "Daniel", "Jno": "John",
}  # fmt: skip
STREETS = {
    "st": "street", "dr": "drive", "ave": "avenue", "av": "avenue", "blvd": "boulevard", "rd": "road",
    "sq": "square", "ln": "lane", "ct": "court", "pl": "place", "pkwy": "parkway", "hwy": "highway",
    "cir": "circle", "ter": "terrace", "expy": "expressway", "fwy": "freeway", "tpke": "turnpike",
    "cres": "crescent", "trl": "trail", "hts": "heights", "jct": "junction", "mtn": "mountain",
    "mts": "mountains",
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
    "excl": "excluding", "std": "standard", "esp": "especially", "orig": "original", "pct": "percent",
    "abbr": "abbreviated", "eds": "editors", "wt": "weight", "ht": "height", "diam": "diameter",
    "amt": "amount",
    "acct": "account", "appt": "appointment", "mtg": "meeting", "doz": "dozen", "hq": "headquarters",
    "freq": "frequency", "prob": "probably", "usu": "usually", "prev": "previous", "elev": "elevation",
    "hr": "hour", "yr": "year", "wk": "week", "wkly": "weekly", "div": "division", "conf": "conference",
    "refs": "references", "suppl": "supplement",
    "mgmt": "management",
    "svc": "service", "svcs": "services", "rcvd": "received", "sched": "scheduled",
    "ctr": "center", "hosp": "hospital", "transp": "transportation", "ea": "each",
    "fed": "federal", "dir": "director", "eng": "engineering", "engr": "engineer", "sci": "science",
    "econ": "economics", "phys": "physics", "chem": "chemistry", "biol": "biology", "educ": "education",
    "mktg": "marketing", "exec": "executive", "cert": "certified", "lic": "license", "comm": "committee",
    "co": "company", "inst": "institute", "lang": "language", "lit": "literally",
    "cont": "continued", "attn": "attention", "tbsp": "tablespoon", "tsp": "teaspoon", "chap": "chapter",
    "hrs": "hours",
    "yrs": "years", "lbs": "pounds", "mins": "minutes", "secs": "seconds",
}  # fmt: skip
NOUNS = word_set("asst mgr dept bldg apt pkg acct appt mtg assoc ctr hosp inst conf div hwy blvd ave")
ANYWHERE |= {f"{short}s": f"{ANYWHERE[short]}s" for short in sorted(NOUNS)}
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip
MONTH_ABBREVIATIONS = {month[:3].lower(): month for month in MONTHS if month != "May"} | {"sept": "September"}
MONTH = "|".join(MONTHS)
DAYS = {
    "mon": "Monday", "tue": "Tuesday", "tues": "Tuesday", "wed": "Wednesday", "thu": "Thursday",
    "thur": "Thursday", "thurs": "Thursday", "weds": "Wednesday", "fri": "Friday", "sat": "Saturday",
    "sun": "Sunday",
}  # fmt: skip
BEFORE_NUMBERS = {
    "no": "number", "nos": "numbers", "p": "page", "pp": "pages", "pg": "page", "pgs": "pages",
    "vol": "volume", "vols": "volumes", "fig": "figure", "figs": "figures", "ch": "chapter",
    "chs": "chapters", "chap": "chapter", "chaps": "chapters", "sec": "section", "sect": "section",
    "art": "article", "arts": "articles", "c": "circa", "ca": "circa", "est": "established",
    "mk": "mark", "tbl": "table", "tbls": "tables", "thm": "theorem", "lem": "lemma",
    "prop": "proposition", "cl": "clause",
    "sch": "schedule", "ser": "series", "iss": "issue", "pop": "population", "prob": "problem",
    "fwy": "freeway",
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
    "m.p.h.": "miles per hour",
    "k.p.h.": "kilometers per hour",
    "r.p.m.": "revolutions per minute",
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
SENTENCE_GOES_ON = frozenset(TITLES.keys() - {"st", "dr", "ft", "mt", "co", "pt"}) | word_set(
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
# After the name of a city: "Boston, Mass."
SHORT_STATES = dict(
    entry.replace("_", " ").split(":")
    for entry in word_set(
        """Ala:Alabama Ariz:Arizona Ark:Arkansas Calif:California Cal:California Colo:Colorado
        Conn:Connecticut
        Del:Delaware Fla:Florida Ga:Georgia Ill:Illinois Ind:Indiana Kan:Kansas Kans:Kansas Ky:Kentucky
        La:Louisiana Md:Maryland Mass:Massachusetts Mich:Michigan Minn:Minnesota Miss:Mississippi Mo:Missouri
        Mont:Montana Neb:Nebraska Nebr:Nebraska Nev:Nevada Okla:Oklahoma Ore:Oregon Pa:Pennsylvania
        Penn:Pennsylvania Tenn:Tennessee Tex:Texas Va:Virginia Vt:Vermont Wash:Washington Wis:Wisconsin
        Wyo:Wyoming N.Y:New_York N.J:New_Jersey N.H:New_Hampshire N.M:New_Mexico N.C:North_Carolina
        N.D:North_Dakota S.C:South_Carolina S.D:South_Dakota R.I:Rhode_Island W.Va:West_Virginia D.C:D_C
        Ont:Ontario Que:Quebec Alta:Alberta
        Sask:Saskatchewan Man:Manitoba Eng:England"""
    )
)
# Before a year or a word, with a slash, or with an apostrophe.
LIFE = {"b": "born", "d": "died", "m": "married", "fl": "flourished", "r": "reigned"}
SLASHED = {"w/o": "without", "w/in": "within", "n/a": "not applicable", "c/o": "care of", "b/c": "because",
           "a/c": "A C", "ac/dc": "A C D C", "s/he": "she or he"}  # fmt: skip
CONTRACTED = {"gov't": "government", "govn't": "government", "int'l": "international", "nat'l": "national",
              "dep't": "department", "ass'n": "association", "sec'y": "secretary", "cont'd": "continued",
              "req'd": "required", "rec'd": "received", "ass't": "assistant",
    "sup't": "superintendent"}  # fmt: skip
UNITS_WITH_DOT = word_set("c ch ft h hr hrs l lb lbs m min mins mo ms pt s sec secs tbsp tsp wk yr yrs")
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
    months = "|".join(MONTH_ABBREVIATIONS).title()
    text = re.sub(rf"(?<=\d)(st|nd|rd|th)? ?-(?=(?:{months})\.)", r"\1 to ", text)  # Mar. 3-Apr. 5
    text = expand(r"(?<![\w.])(?:LL\.|[A-Za-z]\.){2,}(?!\w)", dotted, text)
    forms = "|".join(sorted({**SLASHED, **CONTRACTED}, key=len, reverse=True))
    text = expand(
        rf"(?<![\w/])({forms})(?:\.(?= [a-z]|[,;:]))?(?![\w/])",
        lambda m: (SLASHED | CONTRACTED)[m[1].lower()],
        text,
        re.I,
    )
    text = expand(r"\bw/(?=\s?\w)(?!\w\b)", "with ", text)
    text = expand(r"(?<=\w) ?'n'? ?(?=[Rr]oll\b)|(?<=\bR)'n'(?=B\b)|(?<=\w) 'n'? (?=\w)", " and ", text)
    text = re.sub(
        r"\b(Mr|Mrs|Ms|Dr|St|Prof|Gen|Mt|Ft|Rev|Capt|Lt|[ei]\.[ge])\.(?=[A-Z]?[a-z])", r"\1. ", text
    )
    text = expand(r"\b([Pp])h\.?D\b\.?", r"\1 h d", text)
    text = expand(r"\b([BM])\.\s?Sc\b\.?", r"\1 S c", text)
    text = expand(
        rf"(?<![\w.])(?!(?<!\()fl)({'|'.join(LIFE)})\. ?(?=(?:c\. ?)?1?\d{{3}}\b|20\d\d\b)",
        lambda m: f"{LIFE[m[1]]} ",
        text,
    )
    text = expand(r"\b(N)o\. of\b", r"\1umber of", text)
    text = expand(r"\b([Ss])td\.? [Dd]ev\b\.?", r"\1tandard deviation", text)
    text = expand(r"(?<=, )ed\.(?= [A-Z])", "edited by", text)
    text = expand(r"(?<=\d(?:st|nd|rd|th) )ed\.(?=[,;:)]| [a-z(])", "edition", text)
    # Roe v. Wade, U.S. v. Nixon; not "in chapter v. The next"
    text = expand(
        r"(?<![\w.])(?!(?:Act|Book|Canto|Chapter|Part|Scene|Section)\b)([A-Z][\w.']*|al\.) v\. (?=[A-Z])",
        r"\1 versus ",
        text,
    )
    text = states_and_streets(text)
    text = expand(rf"\b({'|'.join(GIVEN_NAMES)})\.(?= [A-Z])", lambda m: GIVEN_NAMES[m[1]], text)
    text = expand(r"\bRt\. (?=Hon\b)", "Right ", text)
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
    if not re.search(r"\b[A-Z]{1,2}\b|, [A-Z]\w*\.", text):
        return text
    short = "|".join(map(re.escape, sorted(SHORT_STATES, key=len, reverse=True)))
    text = expand(
        rf"(?<=[a-z]), ({short})\.(?!\w)",
        lambda m: f", {SHORT_STATES[m[1]]}{'.' if NEW_SENTENCE.match(m.string, m.end()) else ''}",
        text,
    )
    states = "|".join(STATES)
    text = expand(  # Sen. Muskie (D-Maine), Rep. Smith (R-TX)
        rf"(?<=\b[RDI]-)(?:({short})\.|({states})\b)",
        lambda m: SHORT_STATES[m[1]] if m[1] else STATES[m[2]],
        text,
    )
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
    # I-95 N, US-1 South, 40.7128° N
    text = expand(
        r"(\b(?:I|US|SR|Hwy\.?|Highway|Route|Rte\.?)[- ]\d+|°) ?([NSEW])\b(?!['-])",
        lambda m: f"{m[1]} {COMPASS[m[2]]}",
        text,
    )
    after = rf"(?<=\b)((?:{'|'.join(STREETS).title()})\.?) ([NSEW])\b\.?(?=[,;)]|$| [a-z])"
    text = expand(after, lambda m: f"{m[1]} {COMPASS[m[2]]}", text)
    text = expand(r"\b(NE|NW|SE|SW)(?= (?:[A-Z][a-z]|\d+(?:st|nd|rd|th)))", lambda m: COMPASS[m[1]], text)
    streets = "|".join(f"{short}|{name}" for short, name in STREETS.items()).title()
    return expand(rf"(?<=\b)((?:{streets})\.?) (NE|NW|SE|SW)\b", lambda m: f"{m[1]} {COMPASS[m[2]]}", text)


def state(match: re.Match) -> str:
    code, before = match[1] or match[2], match.string[: match.start()].split()
    is_word = code in ("OK", "OH", "HI", "ME", "IN", "OR", "PA", "MA", "LA")
    if not before or not before[-1][0].isupper() or (is_word and match[2] and len(before) == 1):
        return match[0]  # "Well, OK."
    if code == "MD" and match[2] and re.search(r"[A-Z][\w.]* [A-Z]\w+$", match.string[: match.start()]):
        return match[0]  # "Jane Roe, MD"
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
    if (
        place.word in UNITS_WITH_DOT
        and not place.written.istitle()
        and re.search(r"[\d½¼¾] ?$|/$", place.before)
    ):
        return match[0]
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
        # "Dr. Lee", "Dr. and Mrs. Lee"
        name = r"\s(?:(?:and|or|&)\s(?=[A-Z][a-z]*\.))?[\"']?[A-Z]"
        self.before_name = re.match(name, self.after) is not None and not new_sentence
        # "10 Downing St. London", "5th St. Northeast"
        if self.word in STREETS and re.search(r"\d+ (?:[A-Z]\w+ )+$|\d(?:st|nd|rd|th) $", self.before):
            self.before_name = False
        self.number_follows = (
            re.match(r"\s?#?(?:'?\d|[A-Z]{1,2}-?\d|[IVXLC]+\b|[A-Z]\b(?!\.(?!$| [A-Z])))", self.after)
            is not None
        )


def number_mark(place: Place) -> str | None:
    word, after = place.word, place.after
    if word == "c" and not re.match(r"\s?\d{3,4}\b", after):
        return place.written  # "c." can also mean chapter
    if word == "ca" and place.is_capital and re.match(r"\s?\d{5}\b", after):
        return place.written  # "Fresno, Ca. 93701"
    if word not in BEFORE_NUMBERS or not place.number_follows:
        return None
    if not re.match(r"\s?#?'?\w*-?\d|\s[IVXLC]{2,}\b", after) and word not in (
        "apt",
        "ste",
        "rm",
        "bldg",
        "app",
        "rte",
        "rt",
    ):
        return None
    if word == "est" and place.has_dot:
        return "established" if re.match(r"\s?[12]\d{3}\b", after) else "estimated"
    if not place.has_dot and (
        place.written not in DOTLESS_BEFORE_NUMBERS or re.match(r" \d+ [a-z]+s\b", after)
    ):
        return None  # "No 5 people"
    return BEFORE_NUMBERS[word] + ("" if after[:1] == " " else " ")


def title(place: Place) -> str | None:
    if place.word == "gen" and re.match(r" (?:[XYZ]\b|Alpha)", place.after):
        return place.written.rstrip(".")
    is_company = place.word == "co" and re.search(r"(?:^|[a-z],?) $", place.before) is None  # "in Co. Cork"
    if place.word in TITLES and place.before_name and place.is_capital and not is_company:
        return TITLES[place.word]
    if place.word == "gen" and re.search(
        r"(?:Sec|Atty|Secretary|Attorney|Surgeon|Maj|Major|Brig)\.? $", place.before
    ):
        return "general" + place.dot
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
        re.match(rf",? (?:\d|(?:{months})\b)|\s?(?:-|–|to|thru|through) ?(?:{days})\b", place.after, re.I)
        or re.match(rf",? (?:(?:and|or|to|&) )?(?:{days})\b\.", place.after, re.I)
        or re.match(r" (?:night|morning|afternoon|evening)s?\b", place.after)
        or re.search(r"(?:\b(?:on|every|next|last|by|until|since)|\d(?:st|nd|rd|th)) $", place.before)
        or re.search(rf"\b(?:{days})(?:\.,?|day) ?(?:-|–)? ?(?:(?:and|or|to|&) )?$", place.before, re.I)
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
    if place.word == "co" and (place.is_capital or place.before.endswith("& ")):
        return None
    if place.word in ("max", "min", "temp") and place.has_dot:
        # "I met Max. John left", also after a first reading in lower case
        described = re.search(
            r"(?:^|[,;:(/]|\b(?:the|an?|at|of|with|for|and|or|to|its|their|is|was)) ?$", place.before, re.I
        )
        described = described or place.word == "temp" or re.match(r"[,)]? ?\d", place.after)
        if not described or re.match(r" [A-Z]", place.after):
            return None
    return ANYWHERE[place.word] + place.dot
