"""Expand abbreviations, and spell out e-mail and web addresses."""

import re


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
ALWAYS_MONTHS = word_set("jan feb apr aug sept oct nov dec")  # the others are also words
DOTLESS = word_set("mr mrs ms messrs dr prof st mt jr sr ltd vs")  # as in British "Mr Smith"
DOTTED = {"e.g.": "for example", "i.e.": "that is", "a.k.a.": "also known as", "p.s.": "p s"}


def addresses(text: str) -> str:
    """Spell out e-mail addresses, web addresses and file names."""
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
        address = address.replace(mark, f" {word} ")  # `symbols` reads the other signs
    return address + rest


def abbreviations(text: str) -> str:
    """Expand abbreviations; a dot that also ends the sentence is kept."""
    text = re.sub(r"(?<![\w.])(?:LL\.|[A-Za-z]\.){2,}(?!\w)", dotted, text)
    text = re.sub(r"\bw/(?=\s?\w)", "with ", re.sub(r"\bw/o\b", "without", text))
    text = re.sub(r"\b([Pp])h\.?D\b\.?", r"\1 h d", text)
    # initials before a name: "J. K. Rowling"
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
    new_sentence = NEW_SENTENCE.match(text, match.end()) is not None  # its dot also ends the sentence
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
        return written  # "c." can also mean chapter
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
