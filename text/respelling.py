"""Spell English so that espeak-ng says what a reader would say."""

import re

MUSIC = "player|guitar|guitarist|line|drum|clef|solo|singer|notes?|part|voice|speakers?|amp|section|riff|tone"
FISH = "fish|fishing|fished|lake|river|pond|caught|catch|grilled|fried|baked|sea|trout|fillet|bait|swim|swam"
NOT_PAST = "".join(
    rf"(?<!{word} )"
    for word in re.findall(
        r"\S+", "did does do to can will would could should may must let please n't 'll not"
    )
)
PAST = (
    r"yesterday|ago|last (?:night|week|month|year|summer|winter|spring|fall|time)|"
    r"when (?:he|she|I|they|we) (?:was|were)|as a (?:child|boy|girl|kid|student)"
)
# Verbs that espeak-ng reads as nouns at the start of a clause or after "I", spelled as the verbs sound.
VERBS = {
    "close": "cloze", "use": "yuze", "tear": "tare", "wind": "wined", "record": "rekord",
    "present": "prezent",
    "project": "projectt", "conduct": "conduckt", "permit": "permitt", "perfect": "perfecct",
    "excuse": "excuze",
    "abuse": "abyuze", "house": "howz", "increase": "inkrease", "console": "consoal", "separate": "separait",
    "estimate": "estimayt", "duplicate": "duplicait", "moderate": "moderait", "export": "exportt",
    "insult": "insultt", "suspect": "suspecct", "transport": "transportt", "desert": "dessert",
    "alternate": "alternait", "attribute": "attribbute",
}  # fmt: skip
BEFORE_VERB = (
    r"(^|[.!?;:,][\"')]* |\b(?:please|don't|let's|i|not|never|always|and|or|then|just|also|can't|won't|"
    r"didn't|"
    r"doesn't|couldn't|we|you|they|to|will|would|can|could|should|must|may|might) )"
)
OBJECT = (
    r"the|an?|it|them|him|her|me|us|this|that|these|those|my|your|his|their|our|its|all|every|each|some|"
    r"any|no"
)
SHOPS = (
    r"stores?|shops?|doors?|schools?|banks?|markets?|offices|gates?|bars?|polls|restaurants?|museums?|eyes"
)
LEADEN = (
    "pipes?|pencils?|paints?|poisoning|acid|bullets?|weights?|crystal|glass|shot|batter(?:y|ies)|content|levels?|"
    "ore|mines?|dust|exposure|free|oxide|sheets?|lining|aprons?|balls?|solder|roof|coffin"
)
SMALL_THINGS = (
    "amounts?|details?|particles?|quantit(?:y|ies)|differences?|changes?|fractions?|traces?|scale|size|fragments?|"
    "adjustments?|inspection|examination|creatures?|organisms?|holes?|cracks?|doses?|portions?|grains?|droplets?|"
    "crystals?|bubbles?|variations?"
)
WINDABLE = (
    "clocks?|watch|watches|toys?|bobbin|wool|yarn|thread|string|rope|coil|bandages?|scarf|wires?|cord|tape|cable|"
    "chain|spring|handle|crank|music box"
)
ON_AIR = (
    "shows|broadcasts|airs|streams|plays|performs|sings|concerts|is|was|has|goes|games|events|matches|yes"
)
SHIP = r"ship|boat|ferry|vessel|canoe|yacht"
METALS = r"zinc|copper|tin|silver|iron|mercury|arsenic|cadmium|asbestos"
# Words with two pronunciations, spelled as they sound where espeak-ng chooses the wrong one.
HETERONYMS = {
    re.compile(pattern, re.I): spelling
    for pattern, spelling in {
        rf"\bbass\b(?! (?:{MUSIC})\b)(?=[^.!?]*\b(?:{FISH})\b)|(?<=mouth )bass\b|(?<=striped )bass\b": "bas",
        rf"(\b(?:{FISH})\b[^.!?]*) bass\b(?! (?:{MUSIC})\b)": r"\1 bas",
        rf"{NOT_PAST}\b(he|she) read\b": r"\1 red",
        r"\b((?:I|we|they|you)(?:'ve|'d| have| had)? (?:just|already|once|recently|"
        r"finally)) read\b": r"\1 red",
        rf"{NOT_PAST}\bread\b(?=[^.!?]*\b(?:{PAST})\b)": "red",
        r"\b(\w+s) wind (?=(?:through|down|around|along|across|between|past|up) )": r"\1 wined ",
        r"(?<!\bin)(?<!\binto)(?<!\bof)(?<!\bwith)(?<=\w) tears "
        r"(?=(?:easily|apart|open|up|off|out|down the|into the)\b)": " tares ",
        rf"{BEFORE_VERB}({'|'.join(VERBS)})(?= (?:{OBJECT})\b)": lambda m: m[1] + VERBS[m[2].lower()],
        r"\b(I|we|you|they|people|please|not|don't) use\b(?! of)": r"\1 yuze",
        rf"\b({SHOPS}) close\b": r"\1 cloze",
        rf"{BEFORE_VERB}object(?= to\b|[.!?])": r"\1objekt",
        r"\blong live\b": "long liv",
        rf"\b(?!(?:{ON_AIR})\b)([a-z]+s|people|who|men|women|children) live "
        r"(?=(?:for|in|with|near|by|together|alone|happily|under|off|among|abroad)\b)": r"\1 liv ",
        rf"\blead(?= (?:{LEADEN})\b| (?:and|or) (?:{METALS})\b)|(?<=\bof )lead(?=[.,;:!?)]|$)": "led",
        rf"\b((?:{METALS}),? (?:and|or)|molten|heavy as|contains?|containing) lead\b": r"\1 led",
        rf"(?<!-)(?<!one )\bminute (?=(?:{SMALL_THINGS})\b)": "my newt ",
        rf"(?<!\ba )(?<!\bthe )(?<!one )(?<!single )\btear (?=(?:{OBJECT}|up|down|apart|off|open|out|"
        rf"into)\b)": "tare ",
        r"\btear (?=in (?:the|his|her|my|your|their|its|a)\b(?! (?:\w+ )?eyes?\b))": "tare ",
        r"\b(wear and|ligament|muscle|tendon|cuff|A C L) tear\b": r"\1 tare",
        r"\b(I|we|you|they|to|can|could|will|would|must|and) wind (?=(?:up|down|the|it|a)\b)": r"\1 wined ",
        rf"\bwind (?=(?:the|a|an|your|his|her|my) (?:{WINDABLE})\b)": "wined ",
        r"\bwound (?=(?:up|down|around|through|along|past|round|its way)\b)": "wownd ",
        r"\b(he|she|they|I|we) wound (?=the|it\b)": r"\1 wownd ",
        rf"\bwound (?=(?:the|a|an|his|her|their|its) (?:{WINDABLE})\b)": "wownd ",
        r"\b((?:take|takes|took|taking) (?:a|his|her|their|my)(?: \w+)?|(?:deep|low|polite|"
        r"slight)) bow\b": r"\1 bough",
        rf"\b((?:{SHIP})'s) bow\b|\bbow (?=of the (?:{SHIP})\b)": lambda m: (
            f"{m[1]} bough" if m[1] else "bough "
        ),
        r"\bbow (?=(?:down|before|out|your|his head|her head|their heads|my head)\b)": "bough ",
        r"\b(he|she|they|we|I|it|who|then|and) dove (?=(?:in|into|under|off|down|for|from|deep|head|straight|"
        r"right|through|to|behind|after)\b)": r"\1 dohve ",
        r"\b(fresh|local|organic|farm|raw|seasonal|buy|sells?|sold|selling) produce\b(?! (?:a|the|an|"
        r"more)\b)|"
        r"\bproduce (?=(?:aisle|section|stand|market|department)\b)": lambda m: (
            f"{m[1]} prodoose" if m[1] else "prodoose "
        ),
        r"\b(is|am|are|was|were|be|been|feels?|felt|seem|seems|seemed|quite|perfectly|"
        r"not) content\b": r"\1 contentt",
        r"\bcontent (?=with (?:life|his|her|their|my|what|it|our)\b)": "contentt ",
        r"\brefuse (?=(?:collect|bin|dump|disposal|truck|bag|heap|site))": "reffuce ",
        r"\bbuffet\b(?! (?:the|a|against|him|her|it)\b)": "buffay",
        r"\bBook of Job\b": "book of Jobe",
    }.items()
}
# Names of places that are spelled like other words.
PLACES = {
    re.compile(r"\b(in|to|from|near|at) Reading\b(?=[,.;!?]| (?:and|is|was|for|by|on)\b)"
               r"|\bReading(?=, (?:Penn|Eng|Berk))"): "Redding",
    re.compile(r"\b(in|to|from|near) Nice\b(?=[,.;!?]| (?:and|is|was|for|by|on)\b)|\bNice(?=, (?:Fr|"
    r"is a city))"): "Neece",
}  # fmt: skip


def for_espeak(text: str) -> str:
    """Return text with the capitals that help espeak-ng, and the letter A as it sounds.

    A capital distinguishes Polish from polish, except at the start of a sentence. In lower case and in
    capitals, "a" alone is an article to espeak-ng.
    """
    text = re.sub(r"(?<=[\w,;] )A(?=[.,;:!?)'-]| (?![A-Z][a-z])|$)|\bA(?= [A-Z]\b)", "eigh", text)
    # at the start of a sentence: "Polish people", but "Polish the silver"
    adjective = rf"Polish(?= (?!(?:{OBJECT}|with|until|up|off)\b)[a-z])"
    return re.sub(
        rf"({adjective}|(?<=\w )|(?<=, ))?\b[^\W\d_]*",
        lambda m: m[0] if m[1] is not None and m[0].istitle() else m[0].lower(),
        text,
    )


def respell(text: str) -> str:
    """Return cleaned text with the words spelled as they sound that espeak-ng would mistake for others."""
    for pattern, spelling in HETERONYMS.items():
        text = pattern.sub(spelling, text)
    for pattern, spelling in PLACES.items():
        text = pattern.sub(lambda m, spelling=spelling: f"{m[1]} {spelling}" if m[1] else spelling, text)
    return text
