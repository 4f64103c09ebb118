"""Unicode text to ASCII."""

import html
import re
import unicodedata
from functools import lru_cache

from anyascii import anyascii

from text.boundaries import expand
from text.digits import CALL, CODES, LINK
from text.numbers import with_commas
from text.quantities import CURRENCIES

# Replaced before NFKC, which would turn 2½ into "21⁄2" and lose the lengths of dashes.
TYPOGRAPHY = {
    **dict.fromkeys("‘’‚‛‹›ʼ", "'"), **dict.fromkeys("“”„‟«»《》「」『』", '"'),
    **dict.fromkeys("‐‑‒−", "-"), **dict.fromkeys("—―⸺⸻", " -- "), **dict.fromkeys("【〔", "("),
    **dict.fromkeys("】〕", ")"), "⁄": "/", "\u00ad": "", "…": "... ", "•": ", ", "·": ", ", "●": ", ",
    "₤": "£",
}  # fmt: skip
NO_BREAK = "\u00a0\u202f\u2009"  # spaces within numbers
# Before the digits of a telephone number or of a code: "Tel. ", "my cell is ", "ABN "
NUMBERED = re.compile(
    rf"\b(?:{CALL}|(?:{CODES}|(?i:cell|contact|number|tel\.?|phone|mobile|fax)){LINK} ?"
    r"|(?:ABN|ACN|TFN|SIREN|SIRET):? )$".replace(" ", r"\s")
)
# Not read aloud: trade and footnote marks, inverted punctuation, accents without a letter.
SILENT = frozenset("™®¿¡†‡´¨¸`♪♫\ufeff")
SPOKEN_SYMBOLS = {
    "×": "times", "÷": "divided by", "±": "plus or minus", "≈": "about", "≠": "is not equal to",
    "∞": "infinity", "≤": "is at most", "≥": "is at least", "√": "the square root of", "→": "to", "⇒": "to",
    "←": "from", "↑": "up", "↓": "down", "§": "section", "¶": "paragraph", "©": "copyright",
    "‰": "per thousand", "№": "No. ", "✓": "check", "✔": "check", "♥": "heart", "❤": "heart",
    "♡": "heart", "★": "star", "☆": "star", "∑": "sum",
    "∫": "integral", "∂": "partial", "♭": "flat", "♯": "sharp", "♀": "female", "♂": "male", "∈": "in",
    "∉": "not in",
    "∪": "union", "∀": "for all", "∃": "there exists", "∧": "and", "∨": "or", "¬": "not",
    "⊥": "perpendicular to",
}  # fmt: skip
KEPT = frozenset("°¢μ") | CURRENCIES.keys()  # later rules read these

# Letters whose accents espeak-ng reads rightly in English, such as the last of "rosé"; without them, it would
# say "rose". Other accents make its English worse: "château", "Häagen", and so in a few words do these.
ACCENTED = frozenset("éèñçöüë")
WORD = re.compile(r"[^\W\d_]*[^\W\d_a-zA-Z][^\W\d_]*")
WITHOUT_ACCENTS = re.compile(
    "jalapeño|zürich|décor|entrée|pokémon|motörhead|smörgåsbord|coöp|déjà|naïveté|attaché|malmö|björk|führer|"
    "élan|chloë|château|münchen|.*ë."
)


def to_ascii(text: str, keep_accents: bool = False) -> str:
    """Return `text` in ASCII and the symbols in `KEPT`. Characters without a reading stay unchanged.

    With `keep_accents`, accents stay that change how espeak-ng reads the word, for the better.
    """
    text = re.sub(r"&(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|[A-Za-z]{2,8});", lambda m: html.unescape(m[0]), text)
    if not text.isascii():
        # a no-break space joins the thousands, but also the groups of a telephone number
        text = re.sub(
            rf"(?<![\w.,+(-])(?<!\d\s)([1-9]\d{{0,2}}(?:[{NO_BREAK}]\d{{3}})+)(?:[.,](\d+))?(?![\w-]|\s\d|[.,]\d)",
            lambda m: (
                m[0] if NUMBERED.search(m.string[max(0, m.start() - 40) : m.start()]) else with_commas(m)
            ),
            text,
        )
        text = re.sub(r"[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+", r"^\g<0>", text).replace("^⁻", "^-").replace("^⁺", "^")
        text = re.sub(r"(?<=[A-Za-zµμ])[·⋅](?=[A-Za-zµμ])", " ", text)  # kg·m
        text = re.sub(r"(?<=\d) ?[Å\u212b](?!\w)", " angstroms", text)
        text = re.sub(r"(?<=[a-z\"]) ?× ?(?=\d)", " by ", text)  # 20 cm × 30 cm
        text = re.sub(r"(?<=\d) ?[·⋅×] ?(?=10\^)", " times ", text)
        # a 4×4 matrix, 1920×1080; "2 × 3 is 6" is a product
        verbs = "is|are|equals|makes|gives|and|or|plus|minus|in|on|at|for|to|if|as|of|by"
        text = re.sub(
            rf"(?<=\d) ?× ?(?=\d+(?:[- ](?!(?:{verbs})\b)[a-z]| ?×|[a-z]))|(?<=\d{{3}}) ?× ?(?=\d{{3}})",
            " by ",
            text,
        )
        text = text.replace("ⁿ", "^n")
        text = re.sub("[ⅰ-ⅻ]", lambda m: f" {int(unicodedata.numeric(m[0]))} ", text)
        text = re.sub(r"\b([12]\d{3})–(?=\d\d\b(?!-))", r"\1 to ", text)  # years; 2020-12 may be a month
        text = re.sub(r"[¼-¾⅐-⅞↉]", lambda m: f" {unicodedata.normalize('NFKC', m[0])} ", text)
        text = re.sub(r"(°\s?\d+)\s?[′']", r"\1 minutes ", text)  # coordinates, not feet
        text = re.sub(r"(minutes\s+\d+)\s?[″\"”]", r"\1 seconds ", text)
        text = re.sub(r"(\b(?:[Aa]n?|[Tt]he) [\d.]+)\s?″(?=[ -]\w)(?! (?:in|is|of|was)\b)", r"\1-inch", text)
        text = re.sub(r"(\d)\s?[″]", r"\1 inches", re.sub(r"(\d)\s?′(?!′)", r"\1 ft ", text))
        text = re.sub(r"(\d)\s?([kM]?)[Ω\u2126](?!\w)", ohms, text)
        # a letter that stands alone or in a formula: "2πr", "Δt"
        text = expand(
            r"(?<![Ͱ-Ͽἀ-῿])(?:[Α-ΡΣ-Ωα-λν-ω]|[μµ](?![A-Za-z]))(?![Ͱ-Ͽἀ-῿])",
            lambda m: (
                "micro"
                if m[0] == "µ"
                else unicodedata.name(m[0]).split()[3].lower().replace("lamda", "lambda")
            ),
            text,
        )
        # an en dash joins numbers and words; with spaces around it, it is a pause
        text = re.sub(r"(?<=\d)\s?[–—―]\s?(?=[\d$£€])|(?<=[^\W\d])–(?=\w)|(?<=\d)–(?=\w)", "-", text)
        text = text.replace("–", " -- ").translate(str.maketrans(TYPOGRAPHY))
        text = text.replace("µ", "μ").replace("º", "°")
        text = re.sub(r"μ(?=[Ͱ-Ͽἀ-῿])|(?<=[Ͱ-Ͽἀ-῿])μ", "m", text)  # in a Greek word, not a unit
        if keep_accents:
            text = WORD.sub(without_useless_accents, unicodedata.normalize("NFC", text))
            text = "".join(c if c.lower() in ACCENTED else character_to_ascii(c) for c in text)
        else:
            text = "".join(map(character_to_ascii, text))
    return " ".join("".join(c if c >= " " and c != "\x7f" else " " for c in text).split())


def without_useless_accents(match: re.Match) -> str:
    """Keep the accents of a word where they help espeak-ng."""
    word = match[0]
    plain = {c for c in word.lower() if not c.isascii()} - ACCENTED
    known = all("\u00df" <= c <= "\u00ff" for c in plain) and not WITHOUT_ACCENTS.match(word.lower())
    return word if known or not plain.isdisjoint(KEPT) else "".join(map(character_to_ascii, word))


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
    if plain != character:  # full-width, ligatures, circled, subscripts, unit symbols, most spaces
        return "".join(map(character_to_ascii, plain))
    ascii, category = anyascii(character), unicodedata.category(character)
    if category in ("Mn", "Cf"):  # combining accents, joiners, direction marks
        return ascii if category == "Mn" else ""
    if category in ("Cc", "Zl", "Zp", "Zs"):
        return " "
    if "\u2500" <= character <= "\u259f" or "\U0001f3fb" <= character <= "\U0001f3ff":
        return " "  # box drawing, skin tones
    if ascii.startswith(":") and len(ascii) > 2:
        return f" {ascii.strip(':').replace('_', ' ')} "
    if category[0] == "S" and not ascii.isalpha():
        return f" {unicodedata.name(character, character).lower()} "
    if category == "Lo" and ascii[:1].isupper():  # Chinese, Japanese, Korean: whole syllables
        return f" {ascii.lower()} "
    return ascii or character
