"""Words in capitals: initialisms are spelled, acronyms and emphasized words are read."""

import re

from text.abbreviations import word_set
from text.boundaries import expand
from text.quantities import NAMED_NOUNS

# Words of up to three letters that may be in capitals for emphasis; other short words are spelled. US is
# excluded: it is usually the country.
SHORT_WORDS = word_set(
    """A I AM AN AS AT BE BY DO GO HE HI IF IN IS IT ME MY NO OF OH OK ON OR SO TO UP WE IT'S ACE ACT ADD AGE
    AGO AID AIM AIR ALL AND ANT ANY APE ARE ARM ART ASH ASK ATE AWE AXE BAD BAG BAN BAR BAT BAY BED BEE
    BEG BET BID BIG BIN BIT BOO BOW BOX BOY BUD BUG BUN BUS BUT BUY BYE CAB CAN CAP CAR CAT COP COW CRY
    CUP CUT DAD DAY DEN DID DIE DIG DIM DIP DOE DOG DOT DRY DUE DUG DYE EAR EAT EEL EGG EGO ELF ELK END
    ERA EVE EVIL EYE FAN FAR FAT FED FEE FEW FIG FIN FIT FIX FLU FLY FOE FOG FOR FOX FRY FUN FUR GAP GAS
    GEL GEM GET GOD GOT GUM GUN GUT GUY GYM HAD HAM HAS HAT HAY HEN HER HEY HID HIM HIP HIS HIT HOG HOP
    HOT HOW HUG HUT ICE ICY ILL INK INN ITS IVY JAB JAM JAR JAW JAY JET JOB JOG JOY JUG KEY KID KIN KIT
    LAB LAP LAW LAY LEG LET LID LIE LIP LOG LOT LOW MAD MAN MAP MAT MAY MEN MET MIX MOB MOM MUD MUG NET
    NEW NOD NOR NOT NOW NUT OAK ODD OFF OIL OLD ONE OUR OUT OWL OWN PAN PAW PAY PEA PEN PET PIE PIG PIT
    POP POT PUB PUT RAG RAN RAT RAW RAY RED RIB RID RIM RIP ROB ROD ROW RUB RUG RUN RYE SAD SAT SAW SAY
    SEA SEE SET SEW SEX SHE SHY SIN SIP SIR SIT SIX SKI SKY SLY SON SUM SUN TAB TAG TAN TAX TEA TEN THE
    TIE TIN TIP TOE TOO TOP TOY TRY TUB TWO UGH UGLY URN USE VAN VET VOW WAR WAS WAX WAY WEB WET WHO WHY
    WIG WIN WIT WOE WON WOW YES YET YOU ZIP ZOO DR MR MRS MS ST VS MAX HA"""
)
# Short words in capitals that make it likely that their neighbors are shouted, too.
COMMON_WORDS = word_set(
    """AM AN AND ALL ANY ARE AS AT BAD BE BIG BUT BY CAN DAY DID DO END FOR FUN GET GO GOD GOT HAD HAS HE HER
    HEY HIM HIS HOT HOW IF IN IS IT'S ITS JOY LET LOT LOW MAN MAY ME MEN MY NEW NO NOT NOW OF OFF OH OLD
    ON ONE OR OUR OUT OWN PUT RED RUN SAW SAY SEE SHE SO SIR SIX TEN THE TOO TOP TRY TWO UP USE WAR WAS
    WAY WE WHO WHY YES YET YOU IT TO"""
)
ACRONYMS = word_set(
    "AIDS SARS PIN SIM RAM ROM SWAT GIF COVID MERS LOL NASDAQ JSON BIOS REM SAM CAM TED LAN WAN YAML MRSA "
    "HUD ROFL JAG"
)
PARTLY_SPELLED = {
    "HVAC": "H vac", "CPAP": "C pap", "JPEG": "J peg", "MPEG": "M peg", "VRAM": "V ram", "DRAM": "D ram",
    "SRAM": "S ram", "LSAT": "L sat", "MCAT": "M cat", "GMAT": "G mat", "CMOS": "C moss", "CPAC": "C pack",
    "USAID": "U S aid", "TOEFL": "toe full", "SAAS": "sass",
}  # fmt: skip
# Always read letter by letter, although they could be words.
INITIALISMS = word_set(
    """FBI CIA USA UK US EU UN TV DVD CD PC BBC CNN NBC CBS ABC IBM USSR USAF UCLA IEEE NCAA NAACP ASAP HTML
    HTTP CEO CFO CTO UFO IRA NYPD LAPD DNA RNA ATM FAQ DIY GPS CPU GPU USB URL IOU MIA NBA NFL NHL KGB
    PRS LED AI API IQ USS AOL AFL CIO USPS YMCA YWCA ACLU HIV ESPN OECD UCSB UAE IPO AKA FYI ETA SEC MIT
    IRS SUV VIP ADHD UNC IUD EPA AWOL ISBN ASL EMT EKG ECG UTC IMF LGBT UCSF UPS IPA APA ICU ERA EULA CIO
    AARP OCD ADA
    NYSE ETF ATV OS ASPCA RIAA USDA USGA UTEP EEOC USPTO AFAIK ICYMI USOC USTA SEIU ELCA AAPI AAAI IAEA
    OBGYN IMO
    QA DOB TBA TBD TBH IDK BTW"""
) - {"AWOL", "ERA"}
ONSET = (
    "(?:[BCDFGHJKLMNPQRSTVWXZ]|[BCFGKPS]L|[BCDFGKPTW]R|[CGPSTW]H|S[CKMNPQTW]|SC[HR]|S[PT]R|SPL|SHR|THR|TW|DW|"
    "KN|WR|GN|PS|QU|SQU|Y|)"
)
VOWELS = "(?:[AEIOU]|AI|AU|AW|AY|EA|EE|EI|EU|EW|EY|IE|IO|IA|OA|OE|OI|OO|OU|OW|OY|UE|UI|UA|EO|Y|EAU|IOU|YE)"
CODA = (
    "(?:|[BCDFGHKLMNPRSTVWXZ]|BB|CK|CT|DD|FF|FT|GG|GH|GHT|LB|LD|LF|LK|LL|LM|LN|LP|LT|LV|MB|MM|MN|MP|MPT|NC|NCH|ND|"
    "NG|NK|NN|NT|NX|PP|PT|RB|RC|RCH|RD|RF|RG|RK|RL|RM|RN|RP|RR|RS|RST|RSH|RT|RTH|RV|SH|SK|SM|SP|SS|ST|TCH|TH|TT|ZZ|"
    "CH|PH|WN|WK|WL|WD|LTH|NTH|FTH|PTH|GN|[BCDFGKLMNPRTVW]S|CKS|CTS|FFS|FTS|LDS|LLS|LTS|MPS|NDS|NGS|NKS|NTS|PTS|"
    "RDS|RKS|RMS|RNS|RTS|SKS|SPS|STS|THS|GHTS|SHED|NDY)"
)
PRONOUNCEABLE = re.compile(f"{ONSET}{VOWELS}(?:{CODA}{ONSET}{VOWELS})*{CODA}E?")

# Around these, a single A in capitals is the letter.
BEFORE_LETTER = (
    "VITAMIN|PLAN|TEAM|HEPATITIS|OPTION|POINT|LETTER|THE|AN|SERIES|COLUMN|CATEGORY|INFLUENZA|COMPANY|PERSON|USB|"
    f"PATIENT|STUDENT|SAMPLE|SIDE|STREPTOCOCCUS|STREP|TRACK|CASE|PRODUCT|SCENARIO|{NAMED_NOUNS.upper()}"
)
AFTER_LETTER = "IS|WAS|ARE|HAS|WILL|CAN|AND|OR|TO|OF|IN|ON|AT|FOR|FROM|WITH|BY"
NAMES = re.compile(
    r"(?<=\b[Tt]he )WHO\b(?! [A-Z]{2})|\bIT(?= (?:department|team|support|staff|manager|guy|company|"
    r"services?|"
    r"industry|security|specialist|workers?|jobs?|systems?|help|infrastructure|professional|sector)\b)"
    r"|\b(?:SAT|ACT)(?=s\b| (?:scores?|exams?|tests?|prep)\b)|(?<=\b[Tt]he )SAT\b|"
    r"(?<=SAT and the )ACT\b|(?<=SAT or )ACT\b|(?<=on the )ACT\b"
    r"|\bAM(?= (?:radio|station|band)|/FM| and FM| or FM)"
)


def spell(letters: str) -> str:
    """Return letters apart and in capitals, in which `tidy` recognizes them: "A A R P"."""
    return " ".join(letters.upper())


def is_word(word: str, shouted: bool = False) -> bool:
    """Return whether a word in capitals is read as a word, not letter by letter.

    Words are those that are listed and those of four letters or more that can be pronounced; in a text that
    is `shouted`, also short ones.
    """
    if word in INITIALISMS:
        return False
    if word in ACRONYMS or word in SHORT_WORDS:
        return True
    if len(word) > 5 and not re.search("[^AEIOUY]{4}|^[AEIOU]{2}", word):  # NVIDIA
        return True
    return (len(word) > 3 or shouted) and PRONOUNCEABLE.fullmatch(word) is not None


def articles(text: str, shouted: bool) -> str:
    """Write the article A between words in capitals in lower case: "THIS IS a TEST OF VITAMIN A"."""
    before, after = ("", r"[\w\"'$£€.]") if shouted else ("(?<=[A-Z]{2} )", "[A-Z]{2}")
    return re.sub(
        rf"\b((?:{BEFORE_LETTER}) )?{before}A(?= (?!(?:{AFTER_LETTER}|[A-Z])\b(?!\.)){after})",
        lambda m: m[0] if m[1] else "a",
        text,
    )


def capitals(text: str, shouted: bool) -> str:
    """Spell initialisms such as FBI; acronyms such as NASA and emphasized words stay words."""
    text = expand(r"\b([A-Z]{1,2})&([A-Z])\b", lambda m: f"{spell(m[1])} and {m[2]}", text)  # AT&T, R&B
    if not shouted:  # the WHO and IT are also words
        text = expand(NAMES, lambda m: spell(m[0]), text)
    text = expand(r"\b(?:[BM]Sc|pH|iOS|IoT)\b", lambda m: spell(m[0]), text.replace("SaaS", "SAAS"))
    text = expand(r"\b([a-z]|mac)(?=[A-Z]{2,}s?\b)", r"\1 ", text)  # mRNA
    return expand(r"(?<![A-Za-z'])[A-Z]{2,}(?:s\b|(?![a-z]))", lambda m: capital_word(m, shouted), text)


def capital_word(match: re.Match, shouted: bool) -> str:
    word = match[0].removesuffix("s")
    if word not in INITIALISMS and re.match("['’](?:T|S|D|M|RE|VE|LL)\\b", match.string[match.end() :][:4]):
        return match[0]  # DON'T
    if word in PARTLY_SPELLED and not shouted:
        return PARTLY_SPELLED[word] + match[0][len(word) :]
    plural = "'s" if match[0].endswith("s") else ""
    before = match.string[max(0, match.start() - 12) : match.start()]
    after = match.string[match.end() : match.end() + 12]
    neighbors = before.split()[-1:] + after.split()[:1]
    is_shouted = shouted or any(one.strip(".,!?;:\"'()") in COMMON_WORDS for one in neighbors)
    return match[0] if is_word(word, is_shouted) else spell(word) + plural
