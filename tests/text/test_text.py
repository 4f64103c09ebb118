import random
import re
import sys
import time
from itertools import pairwise

import pytest

from text import (
    END_ID,
    PAD_ID,
    SYMBOLS,
    UNKNOWN_ID,
    clean,
    decode,
    encode,
    sentences,
    split_sentences,
    tokens,
)

READINGS = {
    "plain text": {
        "Hello, world!": "hello, world!",
        "  many \t spaces\n and lines ": "many spaces and lines",
        "It's a well-known fact; isn't it?": "it's a well-known fact; isn't it?",
        "He said: (quietly) [no] {never}.": "he said: (quietly) (no) (never).",
        "": "",
        " \n ": "",
        "no space,after.The comma": "no space, after. the comma",
        "Wait!!! What???": "wait! what?",
    },
    "typography": {
        "“Don’t,” she said.": '"don\'t," she said.',
        "‘So’": "'so'",
        "«Oui» „ja“": '"oui" "ja"',
        "Wait—what?": "wait - what?",
        "Wait -- what?": "wait - what?",
        "Wait--what?": "wait - what?",
        "Wait – what?": "wait - what?",
        "the Paris–London train": "the paris-london train",
        "Well… perhaps": "well... perhaps",
        "Well . . . perhaps": "well... perhaps",
        "a\u00a0hard\u00a0space": "a hard space",
        "zero\u200bwidth and soft\u00adhyphen": "zerowidth and softhyphen",
        "\ufeffA mark first": "a mark first",
        "Café naïve Zürich Łódź": "cafe naive zurich lodz",
        "cafe\u0301": "cafe",
        "ﬁnd the ﬂoor, Æsop, straße": "find the floor, aesop, strasse",
        "Ｆｕｌｌ １２": "full twelve",
        "¿Qué? ¡Sí!": "que? si!",
        "你好": "ni hao",
        "Привет": "privet",
        "Apple™ and Coke®": "apple and coke",
        "- an item": "an item",
        "• an item": "an item",
    },
    "symbols": {
        "salt & pepper": "salt and pepper",
        "AT&T and R&B": "a t and t and r and b",
        "C++ and C#": "c plus plus and c sharp",
        "2 + 2 = 4": "two plus two equals four",
        "5 - 3 = 2": "five minus three equals two",
        "3 × 4": "three times four",
        "12 ÷ 4": "twelve divided by four",
        "5 ± 1": "five plus or minus one",
        "and/or": "and or",
        "he/she": "he slash she",
        "me @ home": "me at home",
        "#1 fan": "number one fan",
        "#winning": "hashtag winning",
        "~50 people": "about fifty people",
        "x < y > z": "x less than y greater than z",
        "a_b": "a underscore b",
        r"C:\temp": "c: backslash temp",
        "a*b": "a asterisk b",
        "**bold** and *soft* and `code`": "bold and soft and code",
        "**Note:** *this* is important.": "note: this is important.",
        "**Warning:** _do not_ touch.": "warning: do not touch.",
        "_**Note**_: it is _~~gone~~_": "note: it is gone",
        "__init__ of snake_case": "init of snake underscore case",
        "*Romeo* **and** Juliet": "romeo and juliet",
        "the file **`my_file.py`** is": "the file my underscore file dot py is",
        '**Bold *inner* "text"** and *(so)*': 'bold inner "text" and (so)',
        "*.py, (*) and a * b": "asterisk. py, (asterisk) and a asterisk b",
        "* * *": "",
        "=====": "",
        "Fish &amp; chips &lt; 5": "fish and chips less than five",
        "I ❤ you 😀": "i heart you grinning",
        "👍🏽": "thumbsup",
        "A → B": "a to b",
        "≈ 5": "about five",
        "α and π": "alpha and pi",
        "x²": "x squared",
        "© 2024": "copyright twenty twenty-four",
        "§ 5": "section five",
        "w/o sugar, w/ milk": "without sugar, with milk",
        "€ and £ and $": "euros and pounds and dollars",
    },
    "cardinals": {
        "0": "zero",
        "7 men": "seven men",
        "44": "forty-four",
        "105": "one hundred five",
        "1,234 things": "one thousand, two hundred thirty-four things",
        "1,000,000": "one million",
        "10000": "ten thousand",
        "-5": "minus five",
        "−5 and -2.5": "minus five and minus two point five",
        "007": "zero zero seven",
        "12345678901234567890": "one two three four five six seven eight nine zero " * 2,
        "114,300": "one hundred fourteen thousand, three hundred",
        "3985.": "three thousand, nine hundred eighty-five.",
        "1 000": "one thousand",
        "(2)": "(two)",
        "It is 5.": "it is five.",
        "10-year-old": "ten-year-old",
        "15-minute walk": "fifteen-minute walk",
        "24/7": "twenty-four seven",
        "5x6": "five by six",
        "1'000 and 1'000'000": "one thousand and one million",
        "1m people": "one million people",
        "30/month": "thirty per month",
        "555-1234": "five five five, one two three four",
        "(555) 123-4567": "five five five, one two three, four five six seven",
        "+44 20 7946 0958": "plus four four, two zero, seven nine four six, zero nine five eight",
        "+4915112345678": "plus four nine one five one one two three four five six seven eight",
        "Sales rose +12%.": "sales rose plus twelve percent.",
        "+10 °C and +100 likes": "plus ten degrees celsius and plus one hundred likes",
        "GMT +12, UTC+10, +12.5": "g m t plus twelve, u t c plus ten, plus twelve point five",
        "+1500 m and +$20": "plus one thousand, five hundred meters and plus twenty dollars",
        "10 000 people": "ten thousand people",
        "No.5": "number five",
        "3rd–5th": "third to fifth",
        "2.0.1": "two point zero point one",
        "No. 5": "number five",
        "Nos. 5 and 6": "numbers five and six",
        "No. 162": "number one sixty-two",
        "P.O. Box 2915": "p o box two nine one five",
        "1026 North Beckley": "ten twenty-six north beckley",
        "two #2 pencils": "two number two pencils",
    },
    "ordinals": {
        "1st 2nd 3rd 4th": "first second third fourth",
        "the 21st century": "the twenty-first century",
        "101st": "one hundred first",
        "the 1,000th": "the one thousandth",
        "12TH": "twelfth",
    },
    "years": {
        "in 1984": "in nineteen eighty-four",
        "1984 was cold": "nineteen eighty-four was cold",
        "in 1984 things changed": "in nineteen eighty-four things changed",
        "1984 people": "one thousand, nine hundred eighty-four people",
        "1,984 people": "one thousand, nine hundred eighty-four people",
        "1500 soldiers": "one thousand, five hundred soldiers",
        "1900": "nineteen hundred",
        "1906": "nineteen oh six",
        "2000": "two thousand",
        "2009": "two thousand nine",
        "2024": "twenty twenty-four",
        "1066 and 1492": "one thousand sixty-six and fourteen ninety-two",
        "the 1980s": "the nineteen eighties",
        "the '90s": "the nineties",
        "the 90s": "the nineties",
        "the 1900s": "the nineteen hundreds",
        "the 2000s": "the two thousands",
        "in '64.": "in sixty-four.",
        "1914-18": "nineteen fourteen to eighteen",
        "1990–1995": "nineteen ninety to nineteen ninety-five",
        "pre-1914": "pre nineteen fourteen",
        "mid-1980s": "mid-nineteen eighties",
        "2019/20": "twenty nineteen twenty",
        "300 BC": "three hundred b c",
        "in 2250 B.C., when": "in twenty-two fifty b c, when",
        "AD 70": "a d seventy",
        "in 586, he": "in five eighty-six, he",
        "c. 1850": "circa eighteen fifty",
        "est. 1984": "established nineteen eighty-four",
        "$1984": "one thousand, nine hundred eighty-four dollars",
    },
    "decimals and fractions": {
        "3.14": "three point one four",
        ".5": "point five",
        "0.5": "zero point five",
        "1,234.5": "one thousand, two hundred thirty-four point five",
        "a .22 rifle": "a twenty-two rifle",
        "1/2": "one half",
        "3/4": "three quarters",
        "2/3": "two thirds",
        "2 1/2": "two and a half",
        "2½ cups": "two and a half cups",
        "¾ of it": "three quarters of it",
        "½": "one half",
        "5/16": "five sixteenths",
        "120/80": "one hundred twenty over eighty",
        "1/0": "one over zero",
        "50/50 or 20/20": "fifty fifty or twenty twenty",
    },
    "ranges and ratios": {
        "5-10": "five to ten",
        "5 - 10": "five to ten",
        "5–10 people": "five to ten people",
        "pp. 12–15": "pages twelve to fifteen",
        "p. 5": "page five",
        "3:1": "three to one",
        "a 16:9 screen": "a sixteen to nine screen",
        "won 3-1": "won three to one",
        "5-10%": "five to ten percent",
        "5%-10%": "five percent to ten percent",
        "$5-10": "five to ten dollars",
        "$5-$10": "five to ten dollars",
        "9am-5pm": "nine a m to five p m",
        "Psalm 23:1-6": "psalm twenty-three one to six",
    },
    "dates": {
        "January 5, 1994": "january five, nineteen ninety-four",
        "Jan. 5th": "january fifth",
        "Jan. 5, 1994": "january five, nineteen ninety-four",
        "on Nov. 22, 1963.": "on november twenty-two, nineteen sixty-three.",
        "on 5 January 1994": "on the fifth of january, nineteen ninety-four",
        "the 5 January": "the fifth of january",
        "the 5th of May": "the fifth of may",
        "12/25/1999": "december twenty-five, nineteen ninety-nine",
        "25/12/1999": "december twenty-five, nineteen ninety-nine",
        "1999-12-25": "december twenty-five, nineteen ninety-nine",
        "May 2009": "may two thousand nine",
        "Mon., Jan. 5": "monday, january five",
        "in the Sun. It": "in the sun. it",
        "in Dec. He": "in december. he",
        "Nov 5, 2020": "november five, twenty twenty",
        "31 Oct 2020": "the thirty-first of october, twenty twenty",
        "2023-01-05T10:30": "january five, twenty twenty-three, ten thirty",
        "Mon., Tue. and Wed.": "monday, tuesday and wednesday.",
        "Sat. and Sun. We": "saturday and sunday. we",
        "in the Sun. Maybe": "in the sun. maybe",
    },
    "times": {
        "10:30": "ten thirty",
        "10:05": "ten oh five",
        "10:00": "ten o'clock",
        "after 2:00:30": "after two zero zero thirty",
        "1:00:00 a.m.": "one a m.",
        "if x != 0": "if x is not equal to zero",
        "a !== b": "a is not equal to b",
        "a == b, a===b": "a equals b, a equals b",
        "Chapter One === The Start": "chapter one the start",
        "on 3/4 of the days": "on three quarters of the days",
        "<a href=https://example.com>link</a>": "link",
        '<p hidden>x</p> <a href="x" download>file</a>': "x file",
        "1,00,000 rupees or INR 2,00,000": "one hundred thousand rupees or two hundred thousand rupees",
        "if a<b then c>d": "if a less than b then c greater than d",
        'a <b>bold</b> <a href="x.y">move</a><br/>': "a bold move",
        "He paid ₹1,00,000.": "he paid one hundred thousand rupees.",
        "10:00 a.m.": "ten a m.",
        "10:00 a.m. on Sunday": "ten a m on sunday",
        "at 5 p.m. The train": "at five p m. the train",
        "5pm": "five p m",
        "5 PM": "five p m",
        "23:59": "twenty-three fifty-nine",
        "13:00": "thirteen hundred",
        "7:15 A.M.": "seven fifteen a m.",
        "10:30-11:45": "ten thirty to eleven forty-five",
        "twelve:thirty": "twelve thirty",
        "1:02:03": "one oh two oh three",
    },
    "money": {
        "$5": "five dollars",
        "$1": "one dollar",
        "$5.00": "five dollars",
        "$13.87": "thirteen dollars, eighty-seven cents",
        "$1,234.56": "one thousand, two hundred thirty-four dollars, fifty-six cents",
        "£3.50": "three pounds, fifty pence",
        "€2m": "two million euros",
        "$1.5 million": "one point five million dollars",
        "$5 bn": "five billion dollars",
        "$5k": "five thousand dollars",
        "5¢": "five cents",
        "50p": "fifty pence",
        "US$20": "twenty u s dollars",
        "$0.99": "ninety-nine cents",
        "$0.01": "one cent",
        "¥500": "five hundred yen",
        "₹100": "one hundred rupees",
        "£10,000.": "ten thousand pounds.",
        "5€": "five euros",
        "-$5": "minus five dollars",
        "a $20 bill": "a twenty dollar bill",
        "$100 bills": "one hundred dollar bills",
        "$20/hour": "twenty dollars per hour",
        "Rs. 500": "five hundred rupees",
        "₤5": "five pounds",
        "$1m": "one million dollars",
    },
    "thousands as in other languages": {
        "12 500 €": "twelve thousand, five hundred euros",
        "from 10 000-12 500 EUR": "from ten thousand to twelve thousand, five hundred euros",
        "8 336 817 people": "eight million, three hundred thirty-six thousand, eight hundred seventeen "
        "people",
        "1 234,56 €": "one thousand, two hundred thirty-four euros, fifty-six cents",
        "1.000.000,00 €": "one million euros",
        "1.000.000.000, 192.168.100.100": "one billion, one hundred ninety-two dot one hundred sixty-eight "
        "dot one hundred dot one hundred",
        "1.000.000,5 tons": "one million point five tons",
        "12 500 euros, $1 234 567": "twelve thousand, five hundred euros, one million, two hundred "
        "thirty-four thousand, five hundred sixty-seven dollars",
        "1 200 % more": "one thousand, two hundred percent more",
        "Take 1 500 mg tablet twice.": "take one five hundred milligrams tablet twice.",
        "Milk $2 500 ml": "milk two dollars five hundred milliliters",
        "RGB 10 200 255": "r g b ten two hundred two hundred fifty-five",
        "day 1 200 €, 50 100 150 €": "day one two hundred euros, fifty one hundred one hundred fifty euros",
        "12\u202f500 and 1\u00a0984 people": "twelve thousand, five hundred and one thousand, nine hundred "
        "eighty-four people",
        "1\u202f234,5 kg": "one thousand, two hundred thirty-four point five kilograms",
        "+33\u00a0142\u00a0685\u00a0300": "plus three three, one four two, six eight five, three zero zero",
        "in 1914 250 men": "in nineteen fourteen two hundred fifty men",
        "in room 12 500 people": "in room twelve five hundred people",
        "gate 12 500 km away": "gate twelve five hundred kilometers away",
        "May 5 200 km": "may five two hundred kilometers",
        "on level 5 100 %": "on level five one hundred percent",
        "take 2 500 mg tablets": "take two five hundred milligrams tablets",
        "a Pixel 8 128 GB": "a pixel eight one hundred twenty-eight gigabytes",
        "$5 100 times": "five dollars one hundred times",
        "100 200 300": "one hundred two hundred three hundred",
        "Suite 12 020 7946 0958": "suite twelve zero two zero, seven nine four six, zero nine five eight",
        "unit 5 (020) 7946 0958": "unit five zero two zero, seven nine four six, zero nine five eight",
        "Tel. 12\u00a0345\u00a0678": "telephone one two, three four five, six seven eight",
        "Call 123\u00a0456\u00a0789": "call one two three, four five six, seven eight nine",
        "+420 123 456 789": "plus four two zero, one two three, four five six, seven eight nine",
    },
    "percentages and units": {
        "5%": "five percent",
        "0.5 %": "zero point five percent",
        "1500%": "one thousand, five hundred percent",
        "1 km": "one kilometer",
        "5 km": "five kilometers",
        "10kg": "ten kilograms",
        "70 mph": "seventy miles per hour",
        "1 mph": "one mile per hour",
        "20°C": "twenty degrees celsius",
        "-5 °F": "minus five degrees fahrenheit",
        "20 ℃": "twenty degrees celsius",
        "90°": "ninety degrees",
        "5ft 6in": "five feet six inches",
        "5'6\"": "five feet six inches",
        "5′ 6″": "five feet six inches",
        "5 ft. 6 in. tall": "five feet six inches tall",
        "3 m²": "three square meters",
        "3 m^3": "three cubic meters",
        "44.1 kHz": "forty-four point one kilohertz",
        "16 GB": "sixteen gigabytes",
        "16GB": "sixteen gigabytes",
        "60 Hz": "sixty hertz",
        "100 km/h": "one hundred kilometers per hour",
        "5 m/s": "five meters per second",
        "1500 m": "one thousand, five hundred meters",
        "a 5-km run": "a five-kilometer run",
        "a 10 lb. bag": "a ten pound bag",
        "It weighs 5 kg. The": "it weighs five kilograms. the",
        "1/2 km and 2 1/2 km": "half a kilometer and two and a half kilometers",
        "5 in the morning": "five in the morning",
        "5-10 km": "five to ten kilometers",
        "$3.99/lb": "three dollars, ninety-nine cents per pound",
        "9.58s": "nine point five eight seconds",
        "5 μm": "five micrometers",
        "40° 26′ 46″": "forty degrees twenty-six minutes forty-six seconds",
        '28"': 'twenty-eight"',
        "A 27\" monitor and a 5' ladder": "a twenty-seven inch monitor and a five foot ladder",
        "It's 27\" wide": "it's twenty-seven inches wide",
        'He said "it is 28" and left': 'he said "it is twenty-eight" and left',
        "It's 5 in. long": "it's five inches long",
        "5Ω and 1 kΩ": "five ohms and one kilohm",
    },
    "abbreviations": {
        "Mr. and Mrs. Smith": "mister and misses smith",
        "Ms. Lee": "miz lee",
        "Mr Jones": "mister jones",
        "Dr. Smith": "doctor smith",
        "Dr Smith": "doctor smith",
        "12 Elm Dr. is": "twelve elm drive is",
        "St. Louis": "saint louis",
        "Dr. Who? Yes.": "doctor who? yes.",
        "St. Paul St.": "saint paul street.",
        "Main St. and": "main street and",
        "on Wall St. The": "on wall street. the",
        "Mount St. Helens": "mount saint helens",
        "Prof. Gen. Col. Capt. Lt. Kim": "professor general colonel captain lieutenant kim",
        "Sgt. Pepper": "sergeant pepper",
        "Rev. and Hon. Jones": "reverend and honorable jones",
        "King Jr. was": "king junior was",
        "Smith & Co.": "smith and company.",
        "Foo Inc., Bar Ltd.": "foo incorporated, bar limited.",
        "cats vs. dogs": "cats versus dogs",
        "cats, etc.": "cats, etcetera.",
        "etc., and": "etcetera, and",
        "e.g. this, i.e. that": "for example this, that is that",
        "approx. 5": "approximately five",
        "the Dept. of": "the department of",
        "fig. 3, vol. 2": "figure three, volume two",
        "Mt. Everest, Ft. Worth": "mount everest, fort worth",
        "Fifth Ave. and Sunset Blvd.": "fifth avenue and sunset boulevard.",
        "No. He won't": "no. he won't",
        "Ph.D.": "p h d",
        "J. K. Rowling": "j k rowling",
        "J.K. Rowling": "j k rowling",
        "It was I. He left": "it was i. he left",
        "vitamin C. It": "vitamin c. it",
        "the gen. public": "the gen. public",
    },
    "capitals": {
        "the FBI's men": "the f b i's men",
        "FBI": "f b i",
        "U.S.A.": "u s a.",
        "The FBI, CIA and NSA met.": "the f b i, c i a and n s a met.",
        "the U.S. Army": "the u s army",
        "in the U.S. She": "in the u s. she",
        "NASA and NATO": "nasa and nato",
        "CEOs and TVs": "c e o's and t v's",
        "the USSR": "the u s s r",
        "an HTML page": "an h t m l page",
        "I said NO": "i said no",
        "DO NOT TOUCH": "do not touch",
        "STOP THE FBI NOW": "stop the f b i now",
        "He shouted DO IT NOW at me": "he shouted do it now at me",
        "the US and the UK": "the u s and the u k",
        "iPhone and McDonald": "iphone and mcdonald",
    },
    "Roman numerals": {
        "Henry VIII": "henry the eighth",
        "Henry IV.": "henry the fourth.",
        "George III., who": "george the third, who",
        "Louis XIV and XVI": "louis the fourteenth and sixteen",
        "Elizabeth II's": "elizabeth the second's",
        "Charles I, king": "charles the first, king",
        "I told George I was": "i told george i was",
        "World War II": "world war two",
        "World War I was": "world war one was",
        "Chapter IV": "chapter four",
        "CHAPTER IX": "chapter nine",
        "Part I": "part one",
        "WWII": "world war two",
        "Malcolm X": "malcolm x",
        "I, II, III, IV.": "one, two, three, four.",
        "II, III and I think": "two, three and i think",
        "II. Second section": "two. second section",
        "Rocky III": "rocky three",
        "mix of civic": "mix of civic",
    },
    "names with numbers": {
        "F-16": "f sixteen",
        "Catch-22": "catch twenty-two",
        "B2B": "b two b",
        "mp3": "m p three",
        "4K": "four k",
        "COVID-19": "covid nineteen",
        "A380": "a three eighty",
        "C2766": "c two seven six six",
        "No. C2766": "number c two seven six six",
        "No. 133-A": "number one thirty-three a",
        "H₂O": "h two o",
        "1080p": "ten eighty p",
        "R2-D2": "r two-d two",
        "5G": "five g",
        "H2SO4 and CO2": "h two s o four and c o two",
    },
    "addresses": {
        "example.com": "example dot com",
        "Visit https://www.example.com/a-b.": "visit w w w dot example dot com slash a dash b.",
        "joe.b@mail.co.uk": "joe dot b at mail dot co dot u k",
        "model.py": "model dot py",
        "(see example.org)": "(see example dot org)",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("written", "reading"), [case for group in READINGS.values() for case in group.items()]
)
def test_text_is_cleaned_to_the_words_that_are_read_aloud(written, reading):
    assert clean(written) == reading.strip()
    assert clean(clean(written)) == clean(written)


def test_the_symbols_are_numbered_as_checkpoints_expect():
    assert (PAD_ID, END_ID, UNKNOWN_ID) == (0, 1, 2)
    assert SYMBOLS[:4] == ("<pad>", "<end>", "<unknown>", "a")
    assert "".join(SYMBOLS[3:]) == "abcdefghijklmnopqrstuvwxyz!'\"(),-.:;? "
    assert len(set(SYMBOLS)) == len(SYMBOLS) == 41


def test_encoding_appends_the_end_symbol_and_decoding_returns_the_cleaned_text():
    ids = encode("Dr. Smith has $5.")
    assert ids[-1] == END_ID
    assert PAD_ID not in ids
    assert ids.count(END_ID) == 1
    assert decode(ids) == decode([*ids, PAD_ID, PAD_ID]) == "doctor smith has five dollars."
    assert encode("") == [END_ID]


def test_unspeakable_characters_are_unknown_and_reported_once(capsys):
    tokens.report_unknown.cache_clear()
    ids = encode("a \ue123 b \ue123")
    assert encode("a \ue123 b \ue123") == ids
    said = capsys.readouterr().err
    assert said == "text: no token for '\\ue123' (no name); the unknown token replaces it\n"
    assert ids.count(UNKNOWN_ID) == 2
    assert decode(ids) == "a \ufffd b \ufffd"


@pytest.fixture(scope="module")
def transcripts(shared) -> list[tuple[str, str]]:
    """Return pairs of LJSpeech's printed and normalized transcripts."""
    metadata = shared / "data" / "ljspeech-metadata.csv"
    if not metadata.is_file():
        pytest.skip("needs ../shared/data/ljspeech-metadata.csv")
    return [tuple(line.split("|")[1:3]) for line in metadata.read_text(encoding="utf-8").splitlines()]


def letters(text: str) -> str:
    return " ".join(re.sub("[^a-z ]", " ", text).split())


def test_cleaned_transcripts_have_known_symbols_and_stay_unchanged(transcripts):
    speakable = set(SYMBOLS[3:])
    for printed, _ in transcripts[::3]:
        cleaned = clean(printed)
        assert speakable.issuperset(cleaned), cleaned
        assert clean(cleaned) == cleaned


def test_numbers_are_read_as_by_ljspeechs_narrator(transcripts):
    rows = [(printed, spoken) for printed, spoken in transcripts if printed != spoken]
    others = [printed for printed, spoken in rows if letters(clean(printed)) != letters(clean(spoken))]
    assert len(rows) > 1000
    assert len(others) / len(rows) < 0.02, others


def test_transcripts_are_split_only_at_the_ends_of_sentences(transcripts):
    for printed, _ in transcripts[::5]:
        pieces = split_sentences(printed, 1000)
        assert " ".join(pieces).split() == printed.split()
        assert all(re.search(r"[.!?]\W*$", piece) for piece in pieces[:-1])


ALPHABETS = (
    "".join(map(chr, range(128))),
    "0123456789.,:/-$%'° kmst",
    "abcABC.IVX '\"()&",
    "".join(map(chr, range(0x80, 0x2800))),
    "".join(map(chr, random.Random(1).sample(range(sys.maxunicode + 1), 5000))),
    "½²€£‰…—–′″\u200b\u200d\ufe0f\ud800\udfff😀🇬🇧1a",
)


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_any_text_is_cleaned_encoded_and_split(alphabet):
    chance = random.Random(0)
    for _ in range(400):
        written = "".join(chance.choices(alphabet, k=chance.randrange(40)))
        cleaned = clean(written)
        ascii_left = re.sub(r"[a-z!'\"(),\-.:;? ]|[^\x00-\x7f]", "", cleaned)
        assert not ascii_left, (written, cleaned)
        assert cleaned == " ".join(cleaned.split())
        assert clean(cleaned) == cleaned
        assert decode(encode(written)) == re.sub(r"[^a-z!'\"(),\-.:;? ]", "\ufffd", cleaned)
        for piece in split_sentences(written, 20):
            assert re.search("[a-z]", clean(piece))


REPEATED = [
    *(
        "a",
        "1",
        "A.",
        "1.",
        "1,",
        "1-",
        "-",
        ".",
        "'",
        "*a",
        "I",
        "1:",
        "a@",
        "a.b",
        "1/",
        "&",
        "(5",
        "½",
        "你",
    ),
    *(
        "1a",
        "_",
        "http://",
        "\u0301",
        "(",
        '"',
        "$1 ",
        " ",
        "St. ",
        "A ",
        "1 1",
        "\n",
        "Dr. ",
        "W. ",
        "1 to ",
    ),
    *("5 ft ", "and ", "a, ", "😀"),
]


@pytest.mark.parametrize("unit", REPEATED)
def test_time_is_linear_in_the_length(unit):
    started = time.process_time()
    for end in ("", "_"):
        clean(unit * (10000 // len(unit)) + end)
    split_sentences(unit * (10000 // len(unit)))
    assert time.process_time() - started < 4.0


SPLITS = [
    "Hello there. | How are you? | Fine!",
    "Pi is 3.14 and not 3. | It costs 1,000 at 10:30.",
    "Dr. Smith met Mrs. Jones. | They talked.",
    "The U.S. Army came. | He lives in the U.S. | She doesn't.",
    "It left at 5 p.m. | The train was late.",
    "It left at 5 p.m. on Monday.",
    "St. Louis is big. | He lives on Main St. | It is long.",
    "See No. 5 and Fig. 2. | Then go.",
    "Some fruit, e.g. Apples, is good.",
    "On Jan. 5 he left. | On Feb. 6 he came.",
    "J. K. Rowling wrote it. | J.R.R. Tolkien did not.",
    "Well… perhaps. | Well... perhaps not.",
    "I wonder… | He left.",
    '"Stop!" he said. | "Why?" | She ran.',
    '"I am here." | "So am I."',
    "(It was late.) | He slept.",
    "“Go now.” | ‘No.’ | She went.",
    "What?! | Really?",
    "He worked for Foo Inc. | He left.",
    "Foo Inc. Chairman Lee left.",
    "Was it in 1984? | Yes, in 1984. | 5 men came.",
    "1. Open the door. | 2. Close it.",
    "Cats, dogs, etc. | They ran.",
    "Take vitamin C. | It helps.",
    "John F. Kennedy and Gov. Connally rode.",
    "Version 2.0.1 is out. | Visit example.com. | Do it now.",
    "Say yes. | No. | Maybe.",
    "He owed £5. | £10 was due.",
    "Tom vs. Jerry. | The end.",
    "She is a Ph.D. | He isn't.",
    "Hi Mr. T. | He left.",
    "Dr. Who? | Yes.",
    "The Dr. Who show. | No.",
    "He lives on Elm St. | She left.",
    "He lives on 5th St. | She left.",
    "1. First | 2. Second",
    "II. Second section",
    "It cost Rs. 500 then.",
]


@pytest.mark.parametrize("marked", SPLITS)
def test_sentences_are_split_at_the_bars(marked):
    assert split_sentences(marked.replace("| ", ""), 1000) == marked.split(" | ")


def test_a_line_of_a_closing_mark_goes_on_and_names_that_begin_with_a_mark_do_not():
    assert split_sentences("Wait\n!\nHe came (so\n) and left") == ["Wait !", "He came (so ) and left"]
    for text in (".gitignore\n.env\n.bashrc", "Languages:\n.NET\n.com", "Title\n:) smile"):
        assert split_sentences(text) == text.split("\n")


def test_paragraphs_end_sentences_and_wrapped_lines_do_not():
    assert split_sentences("A Title\n\nThe text\n\n\nMore") == ["A Title", "The text", "More"]
    assert split_sentences("milk\r\nEggs\r\nBread") == ["milk", "Eggs", "Bread"]
    wrapped = "It is a truth universally acknowledged, that a man of\nFortune must be in want of a\nwife."
    assert split_sentences(wrapped, 1000) == [" ".join(wrapped.split())]


def test_marks_of_markdown_at_the_start_of_a_line_begin_a_sentence():
    text = "## Fruit\n\n* apples\n* **ripe** pears\n> she said\n```python\nx = 1\n```\n* * *\n#1 in sales"
    assert split_sentences(text) == ["Fruit", "apples", "**ripe** pears", "she said", "x = 1", "#1 in sales"]
    mail = "Bob wrote:\n> I think that we should meet on Monday and talk about the\n> plan for the next year."
    plan = "I think that we should meet on Monday and talk about the plan for the next year."
    assert split_sentences(mail) == ["Bob wrote:", plan]
    wrapped = (
        "The first line of this text has about sixty characters\n* and the next one begins an item of a list."
    )
    assert len(split_sentences(wrapped)) == 2


@pytest.mark.parametrize(
    "word", ["https://a.org/" + "abc/def?x=1&y=2/" * 20, "a" * 400, "7" * 300, "&" * 80 + "a"]
)
def test_a_word_that_is_too_long_to_speak_is_cut(word):
    pieces = split_sentences(f"Go to {word} now.")
    assert len(pieces) > 1 and max(len(clean(piece)) for piece in pieces) <= 1.1 * sentences.MAX_CHARACTERS
    words = clean(f"Go to {word} now.").split()
    assert "".join(clean(piece) for piece in pieces).replace(" ", "") == "".join(words)


def test_text_without_a_spoken_letter_is_not_a_sentence():
    assert split_sentences("") == split_sentences(" \n ") == split_sentences("... — !? \n * * *") == []
    assert split_sentences("One.\n\n* * *\n\nTwo.") == ["One.", "Two."]
    assert split_sentences("∞\n\n$\n\n😀🎉\n\n♥\n\nˉ\n\nʔ") == ["∞", "$", "😀🎉", "♥"]


LONG = (
    "In the year 1,984.5 of our reckoning, when the sum of $1,234,567.89 was paid to Dr. J. K. Smith of St. "
    "Louis; and when, on January 5, 1994, at 10:30 p.m., the ships which had sailed for 3.14 days came home "
    "— all of them, it was said: nobody believed it because nobody had seen No. 5 Main Street and the 2 1/2 "
    "houses beside it before"
)


@pytest.mark.parametrize("max_characters", [30, 60, 100, 150, 250])
def test_a_long_sentence_is_cut_at_pauses_but_never_in_a_number(max_characters):
    pieces = split_sentences(LONG, max_characters)
    assert " ".join(pieces).split() == LONG.split()
    for piece in pieces:
        assert not re.search(r"(Dr|J|K|St|No)\.$|January( 5,)?$|[^/]\b2$", piece), pieces
        assert len(clean(piece)) <= 1.35 * max_characters or max_characters < 100
    if max_characters >= 150:
        for piece, following in pairwise(pieces):
            assert piece[-1] in ";:,—" or following.split()[0] in ("because", "and", "which", "—"), pieces


def test_a_long_sentence_is_cut_at_the_better_pause():
    sentence = "The first clause goes on for a while, it has a comma; the second clause, too, is rather long"
    assert split_sentences(sentence, 70) == [
        "The first clause goes on for a while, it has a comma;",
        "the second clause, too, is rather long",
    ]


def test_a_number_with_no_break_spaces_stays_whole():
    text = "It costs 12\u202f500 or 1\u00a0000\u00a0000 coins."
    assert split_sentences(text) == [text]
    assert "12\u202f500" in split_sentences(text, 12)


def test_a_list_of_numbers_is_split_between_numbers():
    for text in (" ".join(map(str, range(1000, 1100))), ", ".join(map(str, range(100)))):
        pieces = split_sentences(text, 60)
        assert len(pieces) > 10
        assert " ".join(pieces) == text


def test_a_word_longer_than_the_limit_is_not_cut_and_the_limit_must_be_positive():
    assert split_sentences("pneumonoultramicroscopic ends", 10) == ["pneumonoultramicroscopic", "ends"]
    with pytest.raises(ValueError, match="max_characters is 0"):
        split_sentences("a", 0)


@pytest.mark.parametrize("max_characters", [10, 40, 150])
def test_no_word_is_lost_whatever_the_limit(max_characters):
    text = "\n\n".join(written for group in READINGS.values() for written in group) + LONG + " ".join(SPLITS)
    spoken = re.findall(r"[^\W_]+", text)
    assert re.findall(r"[^\W_]+", " ".join(split_sentences(text, max_characters))) == spoken
