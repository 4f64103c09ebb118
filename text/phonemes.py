"""Phoneme tokens: espeak-ng's IPA transcription of text, in a fixed inventory of symbols.

`SYMBOLS` has one token per Unicode character, in these groups:

- `<pad>`, `<end>`, `<unknown>`: IDs 0 to 2, as for characters
- `PUNCTUATION`: the space between words, and the punctuation of the text
- `STRESS`: primary and secondary stress, long, half-long
- `LATIN` and `IPA`: letters of the IPA that are also ASCII letters, and the others
- `MODIFIERS`: modifier letters such as aspirated, nasal release, ejective, rhotic
- `DIACRITICS`: combining marks such as nasal, syllabic, voiceless, tie bar
- `TONES`: global rise and fall, tone letters, and tone numbers as espeak-ng writes them

Checkpoints of models that read phonemes depend on the order: only append symbols.
"""

import re
import unicodedata
from collections.abc import Mapping
from ctypes import CDLL
from pathlib import Path

from common.errors import UserError, one_line
from text.characters import TYPOGRAPHY
from text.espeak import espeak, transcribe
from text.normalization import clean
from text.respelling import respell
from text.tokens import UNKNOWN_ID, to_ids

PUNCTUATION = " !'\"(),-.:;?…—¡¿"
STRESS = "ˈˌːˑ"
LATIN = "abcdefghijklmnopqrstuvwxyz"
IPA = "ɑɐɒæɓʙβɔɕçɗɖðʤəɘɚɛɜɝɞɟʄɡɠɢʛɦɧħɥʜɨɪʝɭɬɫɮʟɱɯɰŋɳɲɴøɵɸθœɶʘɹɺɾɻʀʁɽʂʃʈʧʉʊʋⱱʌɣɤʍχʎʏʑʐʒʔʡʕʢǀǁǂǃᵻᵊ"
MODIFIERS = "ʲʰʷˠˤⁿˡʼ˞"
DIACRITICS = (
    "\u0303\u0329\u032f\u0325\u030a\u032a\u031a\u0361\u035c"
    "\u031e\u031d\u031f\u0320\u0308\u033d\u0324\u0330\u0306"
)
TONES = "↓↑→↗↘˥˦˧˨˩123456789"
SYMBOLS: tuple[str, ...] = (
    "<pad>", "<end>", "<unknown>",
    *PUNCTUATION, *STRESS, *LATIN, *IPA, *MODIFIERS, *DIACRITICS, *TONES,
)  # fmt: skip
ID_OF_SYMBOL = {symbol: index for index, symbol in enumerate(SYMBOLS) if index > UNKNOWN_ID}
PHONES = LATIN + IPA

# Square brackets with a stress mark or a letter that only the IPA has; "[sic]" and "[Applause]" are text.
BRACKETED_IPA = re.compile(rf"\[(?=[^][]*[{STRESS}{IPA}{MODIFIERS}{DIACRITICS}])[^][A-Z]+\]")
WORD = re.compile(r"""[^\s!"(),.:;?…—¡¿\[\]]+""")
PART_OF_WORD = re.compile("[^-'’]+")
# Text between these is transcribed separately. In languages other than English, numbers and abbreviations
# may contain marks: "3,5", "z.B.".
PAUSE = r"(\s*(?:--+|[!\"();?…—¡¿]|[,.:]{})[!\"(),.:;?…—¡¿\s]*)"
ENGLISH_PAUSE, OTHER_PAUSE = re.compile(PAUSE.format("")), re.compile(PAUSE.format(r"(?!\w)"))
MARKS = str.maketrans(
    {mark: ascii for mark, ascii in TYPOGRAPHY.items() if mark not in "…·•●₤"}
    | dict(zip("[]{}،؛؟।", "()(),;?.", strict=True))
    | {mark: f"{ascii} " for mark, ascii in zip("。、，．！？；：", ".,,.!?;:", strict=True)}
)


def phonemize(
    texts: list[str], language: str = "en-us", lexicon: Mapping[str, str] | None = None
) -> list[str]:
    """Return espeak-ng's IPA of each text, with the text's punctuation.

    English passes through `clean`; in other languages espeak-ng reads numbers and abbreviations itself. Words
    of `lexicon` (see `read_lexicon`) are replaced by their IPA, and IPA in square brackets is kept as
    written: "[nəˈvɑːdə] is a state." Raises UserError for a language that espeak-ng does not have.
    """
    english = language.split("-")[0] == "en"
    results = []
    with espeak(language) as library:
        for text in texts:
            stand_in = "mimimi"
            while stand_in in text.lower():
                stand_in += "mi"
            text, written = _set_aside(text, lexicon or {}, stand_in)
            text = respell(clean(text, phonemes=True)) if english else _tidy(text)
            ipa = _text_to_ipa(library, text, ENGLISH_PAUSE if english else OTHER_PAUSE, stand_in, written)
            results.append(" ".join(ipa.split()))
    return results


def encode_phonemes(ipa: str) -> list[int]:
    """Return the token IDs of a transcription and `END_ID`; unknown symbols are reported once."""
    return to_ids(ipa, ID_OF_SYMBOL)


def read_lexicon(path: Path | str) -> dict[str, str]:
    """Read a pronunciation lexicon: UTF-8 lines of a word, white space and its IPA; "#" begins a comment.

    Raises UserError, which names the line, for a line without IPA, an unknown symbol or a repeated word.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"can't read the lexicon {path}: {one_line(error)}; name a UTF-8 text file"
        ) from error
    lexicon = {}
    for number, line in enumerate(lines, start=1):
        if not (entry := line.partition("#")[0].split(maxsplit=1)):
            continue
        word, ipa = _key(entry[0]), _as_written(entry[1].strip(" []/")) if len(entry) == 2 else ""
        unknown = [symbol for symbol in ipa if symbol not in ID_OF_SYMBOL]
        if unknown:
            problem = f"{unknown[0]!r} is not an IPA symbol of text/phonemes.py; replace it"
        elif not set(ipa) & set(PHONES):
            problem = f"there is no IPA after {entry[0]!r}; write the word, a tab and its IPA"
        elif not WORD.fullmatch(word):
            problem = f"{entry[0]!r} is not one word; remove its punctuation"
        elif word in lexicon:
            problem = f"{entry[0]!r} is already in the lexicon; remove one of its lines"
        else:
            lexicon[word] = ipa
            continue
        raise UserError(f"{path}, line {number}: {problem}")
    return lexicon


def _as_written(ipa: str) -> str:
    """Return hand-written IPA with single spaces and symbols of the inventory, such as ɡ for g."""
    return " ".join(_composed(ipa.replace("g", "ɡ")).split())


def _composed(ipa: str) -> str:
    """Return IPA with letters and diacritics composed only where the inventory has the composed letter."""
    letters = unicodedata.normalize("NFC", ipa)
    return "".join(c if c in ID_OF_SYMBOL else unicodedata.normalize("NFD", c) for c in letters)


def _key(word: str) -> str:
    return unicodedata.normalize("NFC", word).replace("’", "'").casefold()


def _set_aside(text: str, lexicon: Mapping[str, str], stand_in: str) -> tuple[str, list[str]]:
    """Replace bracketed IPA and words of the lexicon by a capitalized stand-in; return text and IPA.

    The stand-in is a word, so that its neighbors sound as they do in a sentence: "a" is [ɐ], not [eɪ].
    """
    written: list[str] = []

    def replace(match: re.Match) -> str:
        found = match[0]
        ipa = found[1:-1] if found[0] == "[" else lexicon.get(_key(found))
        if ipa is not None:
            written.append(_as_written(ipa))
            return stand_in.capitalize()
        return found if PART_OF_WORD.fullmatch(found) else PART_OF_WORD.sub(replace, found)

    pattern = re.compile(f"{BRACKETED_IPA.pattern}|{WORD.pattern}") if lexicon else BRACKETED_IPA
    return pattern.sub(replace, text), written


def _tidy(text: str) -> str:
    """Return text of any language with ASCII quotes, dashes as "--", and spaces as in English."""
    text = re.sub(r"[\x00-\x1f\x7f]", " ", unicodedata.normalize("NFC", text))
    text = re.sub(r"(?<!\s)–|–(?!\s)", "-", text).replace("–", "--")
    return re.sub(" (?=[,;:.!?)])", "", " ".join(text.translate(MARKS).split()))


def _text_to_ipa(library: CDLL, text: str, pause: re.Pattern, stand_in: str, written: list[str]) -> str:
    """Return the IPA and punctuation of `text`, in which `written` replaces the stand-ins."""
    in_ipa = None
    if written:  # stress varies with the place in the sentence
        symbols = re.sub(f"[{STRESS[:2]}]", "", _clause_to_ipa(library, stand_in))
        in_ipa = re.compile(f"[{STRESS[:2]}]*".join(["", *map(re.escape, symbols)]))
    remaining, pieces = iter(written), []
    for index, piece in enumerate(pause.split(text)):
        if index % 2:
            pieces.append(piece.replace("--", "—"))
            continue
        around = re.split(stand_in, piece, flags=re.IGNORECASE)
        ipa = [_clause_to_ipa(library, piece)]
        if len(around) > 1:
            ipa = in_ipa.split(ipa[0])
            if len(ipa) != len(around):  # the context changes the stand-in's sounds
                ipa = [f" {_clause_to_ipa(library, part)} " for part in around]
        pieces.append((ipa[0] + "".join(next(remaining) + part for part in ipa[1:])).strip())
    return "".join(pieces)


def _clause_to_ipa(library: CDLL, text: str) -> str:
    """Return espeak-ng's IPA without flags of a change of language, "(en)", and without joiners."""
    ipa = re.sub(r"\([a-z0-9-]+\)|[\u200d_]", "", transcribe(library, text))
    return " ".join(_composed(ipa).split())
