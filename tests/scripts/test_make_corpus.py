import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import ROOT, load_script

from common.errors import UserError
from text.espeak import SAMPLING_RATE, Espeak

pytest.importorskip("espeakng_loader")
script = load_script("scripts/make_corpus.py")
make_corpus, sentences, read_texts = script.make_corpus, script.sentences, script.read_texts


def run(output_dir: Path, *flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "scripts/make_corpus.py", "--output_dir", str(output_dir), *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def wav_bytes(corpus: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (corpus / "wavs").iterdir()}


def assert_one_line_error(done: subprocess.CompletedProcess, *words: str) -> None:
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr


def test_the_corpus_has_ljspeechs_layout(espeak_corpus):
    lines = (espeak_corpus / "metadata.csv").read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    assert [line.split("|")[1] for line in lines] == sentences(12)
    for line in lines:
        clip_id, text, normalized_text = line.split("|")
        assert text == normalized_text
        info = soundfile.info(espeak_corpus / "wavs" / f"{clip_id}.wav")
        assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "PCM_16", 22050, 1)
    assert len(list((espeak_corpus / "wavs").iterdir())) == 12


def test_another_process_and_another_count_give_the_same_bytes(espeak_corpus, tmp_path):
    assert run(tmp_path, "--num_clips", "5").returncode == 0
    few, many = wav_bytes(tmp_path), wav_bytes(espeak_corpus)
    assert len(few) == 5
    assert few == {name: many[name] for name in few}
    few_lines = (tmp_path / "metadata.csv").read_bytes()
    assert (espeak_corpus / "metadata.csv").read_bytes().startswith(few_lines)


def test_the_audio_of_a_sentence_does_not_depend_on_earlier_ones():
    texts = sentences(10)
    forwards = [Espeak().say(text) for text in texts]
    engine = Espeak()
    backwards = [engine.say(text) for text in reversed(texts)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards, strict=True))


def test_threads_get_the_same_audio():
    engine, texts = Espeak(), sentences(8)
    alone = [engine.say(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: Espeak().say(text), texts))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_library_that_stays_loaded_is_refused():
    code = """
import ctypes, espeakng_loader
held = ctypes.CDLL(espeakng_loader.get_library_path())
from text.espeak import Espeak
Espeak()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "UserError" in done.stderr
    assert "can't be unloaded" in done.stderr


def test_existing_clips_are_kept(tmp_path):
    make_corpus(tmp_path, num_clips=3)
    kept, lost, _ = sorted((tmp_path / "wavs").iterdir())
    kept.write_bytes(b"kept")
    whole = lost.read_bytes()
    lost.unlink()
    (tmp_path / "metadata.csv").unlink()
    make_corpus(tmp_path, num_clips=4)
    assert kept.read_bytes() == b"kept"
    assert lost.read_bytes() == whole
    assert len(list((tmp_path / "wavs").iterdir())) == 4
    assert (tmp_path / "metadata.csv").read_text().count("\n") == 4


def test_pace_level_and_pauses_match_ljspeech():
    engine = Espeak()
    texts = sentences(40)
    clips = [engine.say(text) for text in texts]
    words_per_minute = sum(len(text.split()) for text in texts) / sum(map(len, clips)) * SAMPLING_RATE * 60
    assert 140 < words_per_minute < 175
    for clip in clips:
        assert clip.dtype == np.float32
        assert 0.3 < np.abs(clip).max() < 1
        spoken = np.flatnonzero(clip)
        assert spoken[0] == round(0.015 * SAMPLING_RATE)
        assert len(clip) - 1 - spoken[-1] == round(0.125 * SAMPLING_RATE)


def test_a_silent_text_is_refused():
    with pytest.raises(UserError, match="no sound"):
        Espeak().say(" ")


def test_twelve_thousand_sentences_are_distinct_speakable_and_start_with_the_written_ones():
    texts = sentences(12_000)
    assert len(set(texts)) == 12_000
    assert sentences(700) == texts[:700]
    for text in texts:
        assert 4 <= len(text.split()) <= 30
        assert re.fullmatch(r"[A-Z][A-Za-z !'(),\-.:;?]*[.!?]", text), text
    lines = (ROOT / "scripts" / "sentences.txt").read_text(encoding="ascii").splitlines()
    written = [line for line in lines if not line.startswith("#")]
    assert len(written) >= 450
    assert texts[: len(written)] == written


def test_a_foreign_corpus_is_not_overwritten(tmp_path):
    (tmp_path / "metadata.csv").write_text("LJ001-0001|a|a\n")
    assert_one_line_error(run(tmp_path), "metadata.csv", "--output_dir")
    assert (tmp_path / "metadata.csv").read_text() == "LJ001-0001|a|a\n"


def test_clips_of_other_settings_are_refused(tmp_path):
    make_corpus(tmp_path, num_clips=1)
    record = json.loads((tmp_path / "corpus.json").read_text())
    (tmp_path / "corpus.json").write_text(json.dumps(record | {"words_per_minute": 300}))
    with pytest.raises(UserError, match="other settings"):
        make_corpus(tmp_path, num_clips=2)


def test_texts_are_the_last_fields_with_text(tmp_path):
    path = tmp_path / "metadata.csv"
    path.write_bytes("\ufeffa|Raw.|\r\nb|Raw.|Normal.\nc||\n\nAll\u2028one line.\n".encode())
    assert read_texts(path) == ["Raw.", "Normal.", "All\u2028one line."]


def test_mistakes_are_reported_in_one_line(tmp_path):
    assert_one_line_error(run(tmp_path / "a", "--num_clips", "0"), "at least 1")
    assert_one_line_error(run(tmp_path / "a", "--num_clips", "9999999"), "ask for fewer")
    (tmp_path / "file").write_text("")
    assert_one_line_error(run(tmp_path / "file"), "is a file")
    assert not (tmp_path / "a").exists()
