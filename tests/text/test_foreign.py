"""A text in another language than the voice's gets a warning, and English text none."""

from types import SimpleNamespace

import pytest
from helpers import ROOT

from text import split_text
from text.foreign import guess_language

FOREIGN = {
    "German": "Ich habe das Buch gestern gelesen und es ist nicht gut.",
    "French": "Bonjour, je ne sais pas ce que vous voulez dire.",
    "Spanish": "No sé lo que quiere decir, pero hay que esperar.",
    "Italian": "Non so che cosa vuole dire, ma questo è il mio libro.",
    "Dutch": "Ik weet niet wat je bedoelt, maar het is goed.",
    "Portuguese": "Não sei o que você quer dizer, mas é o meu livro.",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_text_in_another_language_gets_one_line(capsys, name):
    english = SimpleNamespace(text_input="phonemes", language="en-us", end_symbol=True)
    assert split_text(FOREIGN[name], english)
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1 and f"looks like {name}, but the voice reads English" in warning
    split_text(f"{FOREIGN[name]} That is what he said, and it was not in my language.", english)
    assert capsys.readouterr().err == ""  # mixed


def test_a_voice_of_another_language_is_warned_of_english(capsys):
    german = SimpleNamespace(text_input="phonemes", language="de", end_symbol=True)
    split_text(FOREIGN["German"], german)
    assert capsys.readouterr().err == ""
    split_text("This is what the man said to you.", german)
    assert "looks like English, but the voice reads German" in capsys.readouterr().err


def test_english_sentences_get_no_warning(shared):
    transcripts = (shared / "data" / "ljspeech-metadata.csv").read_text(encoding="utf-8").splitlines()
    sentences = [line.split("|")[1] for line in transcripts]
    sentences += (ROOT / "benchmarks" / "everyday_sentences.txt").read_text(encoding="utf-8").splitlines()
    assert [sentence for sentence in sentences if guess_language(sentence, "en")] == []
