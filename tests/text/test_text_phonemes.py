import hashlib
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from helpers import ROOT

from common.errors import UserError
from text import (
    END_ID,
    INVENTORIES,
    PAD_ID,
    UNKNOWN_ID,
    decode,
    encode,
    encode_phonemes,
    encode_texts,
    languages,
    phonemize,
    read_lexicon,
    split_sentences,
    spoken_ids,
    tokens,
)
from text.espeak import Espeak
from text.phonemes import PHONES, SYMBOLS

pytest.importorskip("espeakng_loader")

# espeak-ng 1.52 as espeakng-loader 0.2.4 ships it.
TRANSCRIPTIONS = {
    "en-us": {
        "Hello, world!": "həlˈoʊ, wˈɜːld!",
        "Dr. Smith paid $5.50 on Jan. 3rd.": (
            "dˈɑːktɚ smˈɪθ pˈeɪd fˈaɪv dˈɑːlɚz, fˈɪfti sˈɛnts ˌɔn dʒˈænjuːˌɛɹi θˈɜːd."
        ),
        '"Wait -- what?" (he asked): yes; no.': '"wˈeɪt wˈʌt?" (hiː ˈæskt): jˈɛs; nˈoʊ.',
        "The button's bottom [sic].": "ðə bˈʌʔn̩z bˈɑːɾəm (sˈɪk).",
        "": "",
    },
    "de": {
        "Guten Morgen, liebe Leute!": "ɡˈuːtən mˈɔɾɡən, lˈiːbə lˈɔøtə!",
        "„Ja“ – sagte er.": '"jˈɑː" — zˈɑːɡtə ɛɾ.',
    },
    "es": {"¿Qué tal? ¡Muy bien!": "¿kˈe tˈal? ¡mˈuj βjˈen!"},
    "fr": {"L’eau… et “moi” !": 'lˈo… ˈe "mwˈa"!'},
    "gn": {"peteĩ porã": "pˌeteˈi\u0303 poɾˈa\u0303"},
    "cmn": {"你好。谢谢！": "ni2χˈɑu2. ɕiɛ5ɕˈiɛ1!"},
}
# The C library without this project's code, in a separate process because it stays loaded.
DIRECT = """
import ctypes, json, sys, espeakng_loader
from pathlib import Path
library = ctypes.CDLL(espeakng_loader.get_library_path())
library.espeak_Initialize(2, 0, str(Path(espeakng_loader.get_data_path()).parent).encode(), 0x8000)
library.espeak_TextToPhonemes.restype = ctypes.c_char_p
results = []
for language, text in json.loads(sys.argv[1]):
    assert library.espeak_SetVoiceByName(language.encode()) == 0
    pointer = ctypes.c_char_p(text.encode())
    results.append(library.espeak_TextToPhonemes(ctypes.byref(pointer), 1, 2).decode())
print(json.dumps(results))
"""


def config(text_input="phonemes", language="en-us", end_symbol=True):
    return SimpleNamespace(text_input=text_input, language=language, end_symbol=end_symbol)


def test_the_inventory_keeps_its_first_184_symbols():
    assert SYMBOLS[:3] == ("<pad>", "<end>", "<unknown>")
    assert (PAD_ID, END_ID, UNKNOWN_ID) == (0, 1, 2)
    assert len(set(SYMBOLS)) == len(SYMBOLS) >= 184
    digest = hashlib.sha256("".join(SYMBOLS[:184]).encode()).hexdigest()
    assert digest == "7e01052501d712725f36997388c0c95cd84ccf3d2b51bbf5425ace8760fb5dd4"


@pytest.mark.parametrize("language", TRANSCRIPTIONS)
def test_phoneme_transcriptions_stay_unchanged(language):
    texts, expected = zip(*TRANSCRIPTIONS[language].items(), strict=True)
    assert phonemize(list(texts), language) == list(expected)
    assert all(UNKNOWN_ID not in encode_phonemes(ipa) for ipa in expected)


def test_english_token_ids_equal_those_of_the_first_checkpoints():
    assert encode_texts(["Hello, world!"], config()) == [
        [30, 63, 34, 19, 37, 115, 9, 3, 45, 19, 67, 21, 34, 26, 4, 1]
    ]


def test_german_and_spanish_sentences_have_the_phonemes_of_the_library():
    sentences = [
        ("de", "Guten Morgen"),
        ("de", "Im Jahr 1984 kostete es 3,5 Millionen Mark"),
        ("es", "El veloz murciélago comía 25 kiwis"),
        ("es", "Buenos días"),
    ]
    command = [sys.executable, "-c", DIRECT, json.dumps(sentences)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    direct = [" ".join(ipa.split()) for ipa in json.loads(done.stdout)]
    assert [phonemize([text], language)[0] for language, text in sentences] == direct
    assert "ɡˈuːtən" in direct[0]


def test_a_text_sounds_the_same_alone_and_in_a_batch():
    texts = ["The first one.", "Is this the second?", "A [nəˈvɑːdə] town.", "The first one."]
    assert phonemize(texts) == [phonemize([text])[0] for text in texts]


@pytest.mark.parametrize(
    ("text", "ipa"),
    [
        ("THIS IS A TEST OF A SYSTEM.", "ðɪs ɪz ɐ tˈɛst əvə sˈɪstəm."),
        ("A 10% RAISE FOR A U.S. COMPANY", "ɐ tˈɛn pɚsˈɛnt ɹˈeɪz fɚɹə jˈuː ˈɛs kˈʌmpəni"),
        ("He shouted THIS IS A TEST at me.", "hiː ʃˈaʊɾᵻd ðɪs ɪz ɐ tˈɛst æt mˌiː."),
        ("VITAMIN A DEFICIENCY", "vˈaɪɾəmɪn ˈeɪ dᵻfˈɪʃənsi"),
        ("SERIES A FUNDING", "sˈɪɹiz ˈeɪ fˈʌndɪŋ"),
        ("INFLUENZA A VIRUS", "ˌɪnfluːˈɛnzə ˈeɪ vˈaɪɹəs"),
        ("TABLE A LISTS", "tˈeɪbəl ˈeɪ lˈɪsts"),
        ("PLAN A IS GOOD.", "plˈæn ˈeɪ ɪz ɡˈʊd."),
    ],
)
def test_in_capitals_a_is_the_article_except_after_words_that_a_letter_follows(text, ipa):
    assert phonemize([text]) == [ipa]


@pytest.mark.parametrize("text", ["The code is B B B B B B.", "Card BBBB BB 2.", "BBBBBB", "b-b-b-b-b-b"])
def test_a_letter_is_spoken_as_often_as_it_is_written(text):
    assert phonemize([text])[0].count("bˈiː") == 6
    assert phonemize([text], "fr-fr")[0].count("bˈe") == 6 or "BB" in text


def test_espeak_ng_speaks_a_repeated_letter_as_long_as_different_ones():
    repeated, different = (len(Espeak().say(text)) for text in ("B B B B B B.", "B D B D B D."))
    assert repeated == pytest.approx(different, rel=0.1)


def test_flags_of_a_change_of_language_are_removed():
    ipa = phonemize(["Das ist ein Computer von Microsoft."], "de")[0]
    assert "(" not in ipa
    assert "en" not in phonemize(["Привет computer"], "ru")[0]


def test_an_unknown_language_is_a_user_error():
    assert {"en-us", "en-gb", "de", "es", "fr-fr", "cmn"} <= set(languages())
    assert phonemize(["water"], "en-gb") == ["wˈɔːtə"]
    with pytest.raises(UserError, match=r"no language 'klingon'.*languages\(\)"):
        phonemize(["a"], "klingon")
    assert phonemize(["water"]) == ["wˈɔːɾɚ"]  # the library is usable after the error


@pytest.mark.parametrize(
    ("text", "ipa"),
    [
        ("[nəˈvɑːdə] is a state.", "nəˈvɑːdə ɪz ɐ stˈeɪt."),
        ("A [nəˈvɑːdə] town's [ˈmeɪə], in [nəˈvɑːdə].", "ɐ nəˈvɑːdə tˈaʊnz ˈmeɪə, ɪn nəˈvɑːdə."),
        ("[ hɛˈloʊ,  ˈwɝld! ]", "hɛˈloʊ, ˈwɝld!"),
        ("Dr. [ˈnɪər]'s", "dˈɑːktɚ ˈnɪərz"),
        ("[gɔ̃ \u1ebd c\u0327a]", "ɡɔ̃ e\u0303 \u00e7a"),  # composed as the inventory has it
        ("un[ˈtɛst]ed [ˈtɛst][ə]", "ˈʌn ˈtɛst ˈɛd ˈtɛst ə"),
        ("mimimi [ˈtɛst] mimimi", "mˈɪmɪmi ˈtɛst mˈɪmɪmi"),
    ],
)
def test_ipa_in_brackets_is_spoken_as_written(text, ipa):
    assert phonemize([text]) == [ipa]


def test_brackets_without_a_sign_of_ipa_are_text():
    assert phonemize(["[sic] [Applause] [1] []"]) == phonemize(["(sic) (applause) (1) ()"])


def test_bracketed_ipa_stays_whole_when_text_is_split():
    ipa = "[hɛˈloʊ. ˈwɝld, ɪts ə ˈteɪst əv ˈsʌmθɪŋ]"
    assert split_sentences(f"He said {ipa}. She left.", 20) == ["He said", f"{ipa}.", "She left."]
    assert split_sentences("[ʔə ʔ]\n\n...") == ["[ʔə ʔ]"]


def test_a_lexicon_changes_whole_words_only(tmp_path):
    path = tmp_path / "lexicon.txt"
    path.write_text(
        "# names\nNevada\tnəˈvɑːdə\nReykjavík   [ˈreɪkjaˌviːk]  # in brackets\n\nO'Brien /əˈbɹaɪən/\n",
        encoding="utf-8",
    )
    lexicon = read_lexicon(path)
    assert lexicon == {"nevada": "nəˈvɑːdə", "reykjavík": "ˈreɪkjaˌviːk", "o'brien": "əˈbɹaɪən"}
    texts = ["NEVADA's town, 'Nevada'.", "Mr. O’Brien in Reykjavi\u0301k.", "The Nevadan [ˈa] sierra-Nevada"]
    assert phonemize(texts, lexicon=lexicon) == [
        "nəˈvɑːdəz tˈaʊn, nəˈvɑːdə.",
        "mˈɪstɚ əˈbɹaɪən ɪn ˈreɪkjaˌviːk.",
        phonemize(["The Nevadan [ˈa] sierra-[nəˈvɑːdə]"])[0],
    ]
    assert encode_texts(["Nevada"], config(), lexicon) != encode_texts(["Nevada"], config())
    with pytest.raises(UserError, match="reads characters"):
        encode_texts(["Nevada"], config("characters"), lexicon)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nevada", "no IPA after 'nevada'"),
        ("nevada ˈ", "no IPA after 'nevada'"),
        ("nevada N AH0 V", "'N' is not an IPA symbol"),
        ("Ok. ˈoʊ", "'Ok.' is not one word"),
        ("FIRST ˈf", "'FIRST' is already in the lexicon"),
    ],
)
def test_mistakes_in_a_lexicon_are_reported_with_file_and_line(tmp_path, line, problem):
    path = tmp_path / "lexicon.txt"
    path.write_text(f"# comment\nfirst fˈɜːst\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"lexicon\.txt, line 3: .*{problem}"):
        read_lexicon(path)


def test_an_unreadable_lexicon_is_a_user_error(tmp_path):
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9 ka")
    for name in ("missing.txt", "latin1.txt"):
        with pytest.raises(UserError, match=f"can't read the lexicon .*{name}"):
            read_lexicon(tmp_path / name)


def test_unknown_symbols_are_reported_once(capsys):
    tokens.report_unknown.cache_clear()
    ids = encode_phonemes("a☃b☃")
    assert encode_phonemes("a☃b☃") == ids
    assert capsys.readouterr().err == "text: no token for '☃' (SNOWMAN); the unknown token replaces it\n"
    assert (ids.count(UNKNOWN_ID), ids[-1]) == (2, END_ID)
    assert decode(ids, SYMBOLS) == "a\ufffdb\ufffd"


def test_the_configuration_selects_characters_or_phonemes_and_the_end():
    text = "Dr. Smith met 5 men."
    ipa = phonemize([text])[0]
    assert encode_texts([text], config("characters")) == [encode(text)]
    assert encode_texts([text], config("characters", end_symbol=False)) == [encode(text)[:-1]]
    assert encode_texts([text, text], config()) == [encode_phonemes(ipa)] * 2
    assert encode_texts([text], config(end_symbol=False)) == [encode_phonemes(ipa)[:-1]]
    assert decode(encode_texts(["Guten Tag"], config(language="de"))[0], SYMBOLS) == "ɡˈuːtən tˈɑːk"


def test_spoken_tokens_are_letters_or_phones():
    assert {SYMBOLS[i] for i in spoken_ids("phonemes")} == set(PHONES)
    assert spoken_ids("characters") == set(encode("abcdefghijklmnopqrstuvwxyz")[:-1])
    for text_input, symbols in INVENTORIES.items():
        silent = encode_texts(["... -- !?"], config(text_input))[0]
        assert spoken_ids(text_input).isdisjoint(silent)
        assert len(symbols) > max(spoken_ids(text_input))
