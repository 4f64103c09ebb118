"""Pauses and SSML in a text."""

import tracemalloc

import pytest

from common.errors import UserError
from text import Piece, clean, phonemize, split_pieces
from text.markup import read_markup, walk


def said(text: str) -> list[tuple[str, float, float]]:
    return [(clean(piece.text), piece.speed, piece.before) for piece in split_pieces(text)]


def test_a_text_without_marks_has_the_usual_pauses():
    assert split_pieces("Hello. How are you, Ann?") == [
        Piece("Hello."),
        Piece("How are you, Ann?", before=0.3),
    ]
    assert split_pieces("...") == []


@pytest.mark.parametrize(
    "mark", ["[pause 1.5]", "[Pause 1.5 s]", '<break time="1.5s"/>', '<break time="1500ms"/>']
)
def test_a_pause_divides_a_sentence(mark):
    assert said(f"Wait {mark} for it.") == [("wait", 1, 0), ("for it.", 1, 1.5)]
    assert said(f"One. {mark}{mark} Two.")[1] == ("two.", 1, 3)
    assert said(f"{mark} Hello. Bye.") == [("hello.", 1, 1.5), ("bye.", 1, 0.3)]


def test_a_pause_at_the_end_follows_the_last_sentence():
    assert split_pieces("One. Two. [pause 1.5]")[-1] == Piece("Two.", before=0.3, after=1.5)
    assert split_pieces('<speak>One.<break time="2s"/></speak>') == [Piece("One.", after=2)]
    assert split_pieces("[pause 2]") == []


def test_pauses_are_bounded():
    assert said("A [pause 99999999] b.")[1][2] == said("A [pause 9][pause 9] b.")[1][2] == 10


def test_a_pause_needs_no_number():
    assert said("One [pause] two")[1] == ("two", 1, 0.5)
    assert said("One. <break strength='none'/> Two.")[1] == ("two.", 1, 0)


@pytest.mark.parametrize(
    ("rate", "speed"), [("slow", 0.75), ("120%", 1.2), ("-20%", 0.8), ("1.5", 1.5), ("99", 4), ("odd", 1)]
)
def test_prosody_changes_the_speed_of_its_content(rate, speed):
    text = f"<speak>Fine. <prosody rate='{rate}'>Very <emphasis>well.</emphasis></prosody> Bye.</speak>"
    assert [piece[:2] for piece in said(text)][::2] == [("fine.", 1), ("bye.", 1)] or speed == 1
    assert ("very well.", pytest.approx(speed), 0.3) in said(text)
    nested = said(f"<prosody rate='50%'><prosody rate='{rate}'>Slow.</prosody></prosody>")
    assert nested[0][1] == pytest.approx(min(speed / 2, 4) if rate != "99" else 4)


def test_phonemes_are_spoken_as_written():
    texts = [
        "A <phoneme alphabet='ipa' ph='təˈmɑːtoʊ'>tomato</phoneme>.",
        "A <phoneme ph='hat'>cap</phoneme>.",
    ]
    ipa = phonemize([split_pieces(text)[0].text for text in texts])
    assert "təˈmɑːtoʊ" in ipa[0] and "hat" in ipa[1] and "kæp" not in ipa[1]
    assert said("A <phoneme alphabet='x-sampa' ph='{'>cap</phoneme>.") == [("a cap.", 1, 0)]


def test_say_as_spells_digits_and_letters():
    text = "Room <say-as interpret-as='digits'>1984</say-as>, <say-as interpret-as='spell-out'>cat</say-as>."
    assert said(text) == [("room one nine eight four, c a t.", 1, 0)]
    assert said("<speak><say-as interpret-as='cardinal'>1984</say-as> it is.</speak>")[0][0] != text


def test_other_tags_are_ignored_and_not_read_aloud():
    text = """<?xml version="1.0"?><speak xmlns="http://www.w3.org/2001/10/synthesis" version="1.1">
    <metadata>by me</metadata><p><s>Tom & <voice name="x">Ann</voice></s><s>sing</s></p><mark name="a"/>
    <sub alias="World Wide Web">WWW</sub></speak>"""
    assert [piece[0] for piece in said(text)] == ["tom and ann", "sing", "world wide web"]
    assert said("A <b>bold</b> claim<br/>.") == [("a bold claim.", 1, 0)]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello<br/>there", ["hello there"]),
        ("Roses are red<br>Violets are blue", ["roses are red", "violets are blue"]),
        ("<ul><li>Eggs</li><li>milk</li></ul>", ["eggs", "milk"]),
        ("<div>One</div><div>two</div>", ["one", "two"]),
        ("<h1>One</h1>two<hr>three", ["one", "two", "three"]),
        ("<table><tr><td>One</td><td>two</td></tr></table>", ["one", "two"]),
        ("<ul><li>Eggs<li>milk</ul>", ["eggs milk"]),
        ('<speak>Hello<mark name="x"/>there</speak>', ["hello there"]),
        ('<speak><voice name="a">Hello</voice><voice name="b">there</voice></speak>', ["hello there"]),
        ('<P>One</P><BR>two<link rel="x">', ["one", "two"]),
        ("\ufeff<speak>x<br>y</br></speak>", ["x y"]),
        ("un<b>believ</b>able, super<wbr>cali", ["unbelievable, supercali"]),
    ],
)
def test_tags_separate_words_except_those_within_words(text, pieces):
    assert [piece[0] for piece in said(text)] == pieces


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("<p>H<sub>2</sub>O<br>is water</p>", "h two o is water"),
        ("The tag <voice> is old.", "the tag less than voice greater than is old."),
        ("<!DOCTYPE html><html><body>Hi</body></html>", "hi"),
        ("Hello <speak>there</speak>", "hello there"),
        ("x<sub>i and <emphasis>", "x i and less than emphasis greater than"),
    ],
)
def test_a_text_is_ssml_only_with_a_root_or_an_attribute_of_ssml(text, reading):
    assert said(text) == [(reading, 1, 0)]


def test_characters_named_as_in_html_are_read():
    assert said("<speak>Tom&nbsp;&amp; AT&T, caf&eacute; &what;</speak>") == said("Tom & AT&T, café &what;")


def test_text_that_only_looks_like_markup_is_spoken():
    assert said("3 < 4 is true.") == [("three less than four is true.", 1, 0)]
    assert "[sic]" in split_pieces("He wrote teh [sic] and <name>.")[0].text


@pytest.mark.parametrize(
    "text",
    [
        "Hi <break time='1s'>.",
        "<speak>Hi",
        '<!DOCTYPE x [<!ENTITY a "b">]><speak>&a;</speak>',
        "<speak>" + "<s>" * 3000 + "Hi." + "</s>" * 3000 + "</speak>",
        "<speak>Hi \ud800.</speak>",
    ],
    ids=["open", "no-end", "entity", "deep", "surrogate"],
)
def test_damaged_ssml_is_refused_in_one_line(text):
    with pytest.raises(UserError, match="SSML of the text") as refused:
        split_pieces(text)
    assert "\n" not in str(refused.value)


def test_nested_tags_do_not_multiply_the_memory_of_their_text():
    text = "<speak>" + "<a>y" * 100 + "x" * 100_000 + "</a>" * 100 + "</speak>"
    root = read_markup(text)
    tracemalloc.start()
    try:
        assert len(list(walk(root, 1.0))) > 100
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
