"""What a voice reads can be shown, edited and spoken."""

import pytest

from synthesis.pronunciation import as_sentences, pronounce
from tacotron2.config import Tacotron2Config
from text import encode_texts

SENTENCES = ["Dr. Smith paid $5.50, didn't he?", "The harbour was quiet!", "Nobody knew (or said) why."]


@pytest.mark.parametrize("text_input", ["characters", "phonemes"])
def test_an_unedited_pronunciation_is_read_like_the_text(text_input):
    config = Tacotron2Config(text_input=text_input)
    lines = pronounce(SENTENCES, config)
    assert encode_texts(as_sentences(lines, config), config) == encode_texts(SENTENCES, config)


def test_edited_phonemes_are_read_as_written():
    config = Tacotron2Config(text_input="phonemes")
    edited = ["nəˈvɑːdə ɪz ɐ stˈeɪt."]
    assert pronounce(as_sentences(edited, config), config) == edited


def test_brackets_and_capitals_in_phonemes_do_no_harm():
    config = Tacotron2Config(text_input="phonemes")
    assert pronounce(as_sentences(["Nəˈvɑːdə [stˈeɪt]"], config), config) == ["nəˈvɑːdə (stˈeɪt)"]
