import csv
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile

from common.errors import UserError
from corpus.audio import write_wav
from corpus.hub_datasets import read_dataset
from corpus.manifest import read_manifest
from corpus.metadata import CorpusClip, read_metadata
from dataset import UtteranceDataset
from mel import MelConfig
from prep_splits import MIN_SAMPLES, main, split_clips

ROOT = Path(__file__).resolve().parent.parent
RATE = 22050


def make_corpus(folder: Path, lines: list[str], ending: str = "\n") -> Path:
    """Write metadata with these lines, and a clip of 0.1 s for every line whose id is a file name."""
    (folder / "wavs").mkdir(parents=True)
    (folder / "metadata.csv").write_bytes("".join(line + ending for line in lines).encode())
    for number, line in enumerate(lines):
        clip_id = line.split("|")[0].strip()
        if clip_id and "/" not in clip_id:
            write_wav(folder / "wavs" / f"{clip_id}.wav", tone(0.1 + number / 1000), RATE)
    return folder


def tone(amplitude: float) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * 17 * np.arange(RATE // 10) / (RATE // 10))  # no offset


def numbered_lines(count: int) -> list[str]:
    return [f"C{number:03d}|raw {number}|text {number}" for number in range(count)]


def run(*flags: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "prep_splits.py"), *map(str, flags)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | environment)


def split(corpus: Path, out: Path, *flags: str) -> Path:
    main(["--path_to_ljspeech", str(corpus), "--path_to_save", str(out), *flags])
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def reasons(out: Path) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in rows(out / "rejected.csv")}


def transcripts(out: Path) -> list[str]:
    found = rows(out / "train_metadata.csv") + rows(out / "test_metadata.csv")
    return sorted(row["normalized_transcript"] for row in found)


def assert_one_line_error(done: subprocess.CompletedProcess, *words: str) -> None:
    assert done.returncode == 2, done.stderr
    printed = done.stderr.strip().split("\n")[-1]
    assert "Traceback" not in done.stderr
    assert "prep_splits.py: error: " in printed
    assert all(word in printed for word in words), printed


def test_all_clips_of_a_real_corpus_are_split(shared, tmp_path):
    corpus = shared / "data" / "ljspeech-mini"
    done = run("--path_to_ljspeech", corpus, "--path_to_save", tmp_path, "--test_split_pct", "0.1")
    assert done.returncode == 0, done.stderr
    train, test = rows(tmp_path / "train_metadata.csv"), rows(tmp_path / "test_metadata.csv")
    assert (len(train), len(test)) == (37, 4)
    assert not {row["file_path"] for row in train} & {row["file_path"] for row in test}
    assert reasons(tmp_path) == {}
    assert "37 clips" in done.stdout and "4 clips" in done.stdout and "0.07 h" in done.stdout
    texts = {}
    for line in (corpus / "metadata.csv").read_text(encoding="utf-8").split("\n")[:-1]:
        texts[line.split("|")[0]] = line.split("|")[2]
    for row in train + test:
        path = tmp_path / row["file_path"]
        audio, rate = soundfile.read(path, dtype="float32")
        assert row["normalized_transcript"] == texts.pop(path.stem)
        assert int(row["samples"]) == len(audio)
        assert float(row["duration"]) == pytest.approx(len(audio) / rate, abs=1e-6)
        assert np.float32(row["peak"]) == np.abs(audio).max()
    assert texts == {}


def test_all_clips_of_the_generated_corpus_are_accepted(espeak_corpus, tmp_path):
    out = split(espeak_corpus, tmp_path)
    assert len(rows(out / "train_metadata.csv")) == 11
    assert len(rows(out / "test_metadata.csv")) == 1


def test_every_transcript_of_ljspeech_is_kept_unchanged(shared, tmp_path):
    shutil.copyfile(shared / "data" / "ljspeech-metadata.csv", tmp_path / "metadata.csv")
    (tmp_path / "wavs").mkdir()
    clips, rejections = read_metadata(tmp_path)
    assert rejections == []
    assert len(clips) == 13_100
    assert sum(clip.transcript.count('"') for clip in clips) > 1000
    lines = (tmp_path / "metadata.csv").read_bytes().decode().split("\n")[:-1]
    assert [clip.transcript for clip in clips] == [line.split("|")[2].strip() for line in lines]


def test_a_quoted_transcript_keeps_its_text(tmp_path):
    lines = [
        'A1|"raw|"No, said he, the quotation mark is never closed.',
        'A2|"Yes," said she.|"Yes," said she.',
        'A3|He "nodded".|He "nodded", twice.',
    ]
    out = split(make_corpus(tmp_path / "corpus", lines), tmp_path / "out", "--test_split_pct", "0.4")
    assert transcripts(out) == sorted(line.split("|")[2] for line in lines)
    assert reasons(out) == {}


def test_a_blank_normalized_text_falls_back_to_the_raw_text(tmp_path):
    lines = ["A1|raw one|", "A2|raw two|  ", "A3|raw three", "A4||normalized four"]
    out = split(make_corpus(tmp_path / "corpus", lines), tmp_path / "out")
    assert transcripts(out) == ["normalized four", "raw one", "raw three", "raw two"]


def test_byte_order_mark_windows_line_ends_and_blank_lines_are_accepted(tmp_path):
    lines = ["\ufeffA1|x|één\u2028zin", "A2|x|two", "", "   ", "A3|x|three", "", ""]
    corpus = make_corpus(tmp_path / "corpus", lines, ending="\r\n")
    (corpus / "wavs" / "\ufeffA1.wav").rename(corpus / "wavs" / "A1.wav")
    out = split(corpus, tmp_path / "out")
    assert transcripts(out) == ["three", "two", "één\u2028zin"]
    assert reasons(out) == {}


def test_bad_clips_are_rejected_with_a_reason_and_good_clips_are_kept(tmp_path, capsys):
    ids = ("good", "missing", "empty", "text", "no_samples", "cut", "slow", "stereo", "infinite", "good2")
    lines = [
        *(f"{clip_id}|some text|some text" for clip_id in ids),
        "good|a second line|of the same clip",
        "silent||  ",
        "|no|id",
        "../good|climbs|out",
        "..|climbs|out",
        "one_field",
        "many|fields|in|a line",
    ]
    corpus = make_corpus(tmp_path / "corpus", lines)
    with open(corpus / "metadata.csv", "ab") as file:
        file.write(b"latin|caf\xe9|caf\xe9\n")
    wavs = corpus / "wavs"
    (wavs / "missing.wav").unlink()
    (wavs / "empty.wav").write_bytes(b"")
    (wavs / "text.wav").write_text("not audio at all")
    write_wav(wavs / "no_samples.wav", np.zeros(0), RATE)
    (wavs / "cut.wav").write_bytes((wavs / "good.wav").read_bytes()[:30])
    write_wav(wavs / "slow.wav", tone(0.5), 16000)
    soundfile.write(wavs / "stereo.wav", np.zeros((100, 2)), RATE)
    soundfile.write(wavs / "infinite.wav", np.array([0, np.inf, 0, np.nan]), RATE, subtype="FLOAT")
    write_wav(tmp_path / "corpus" / "good.wav", tone(0.5), RATE)

    out = split(corpus, tmp_path / "out", "--test_split_pct", "0.5")
    assert transcripts(out) == ["some text", "some text"]
    kept = rows(out / "train_metadata.csv") + rows(out / "test_metadata.csv")
    assert {Path(row["file_path"]).stem for row in kept} == {"good", "good2"}
    found = reasons(out)
    assert len(rows(out / "rejected.csv")) == 16
    for clip_id, words in {
        "missing": "missing",
        "empty": "empty",
        "text": "can't be decoded",
        "no_samples": "0 samples",
        "cut": "can't be decoded",
        "slow": "16000 Hz",
        "stereo": "more than one channel: 2",
        "infinite": "not finite",
        "good": "duplicate id: line 11",
        "silent": "no transcript",
        "": "blank id",
        "../good": "not a file name",
        "..": "not a file name",
        "one_field": "malformed line: 1 field",
        "many": "malformed line: 4 field",
        "latin": "not UTF-8",
    }.items():
        assert words in found.pop(clip_id), clip_id
    assert found == {}
    printed = capsys.readouterr().out
    assert "rejected 3: malformed line" in printed
    assert "rejected 2: can't be decoded" in printed
    assert "rejected: 16 clips" in printed


def test_rejections_of_an_earlier_run_are_removed(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", numbered_lines(4))
    (corpus / "wavs" / "C002.wav").rename(tmp_path / "elsewhere.wav")
    out = split(corpus, tmp_path / "out")
    assert list(reasons(out)) == ["C002"]
    (tmp_path / "elsewhere.wav").rename(corpus / "wavs" / "C002.wav")
    split(corpus, out)
    assert (out / "rejected.csv").read_text() == "id,file_path,reason\n"
    assert sorted(path.name for path in out.iterdir()) == [
        "rejected.csv",
        "test_metadata.csv",
        "train_metadata.csv",
    ]


def test_the_same_seed_writes_the_same_bytes_in_any_order_of_the_corpus(tmp_path):
    lines = numbered_lines(30)
    one = make_corpus(tmp_path / "one" / "corpus", lines)
    other = tmp_path / "other" / "corpus"
    (other / "wavs").mkdir(parents=True)
    for path in sorted((one / "wavs").iterdir(), reverse=True):
        shutil.copyfile(path, other / "wavs" / path.name)
    (other / "metadata.csv").write_text("\n".join(reversed(lines)))
    a = split(one, tmp_path / "one" / "out", "--test_split_pct", "0.2")
    done = run(
        "--path_to_ljspeech", other, "--path_to_save", tmp_path / "other" / "out", "--test_split_pct", "0.2"
    )
    assert done.returncode == 0, done.stderr
    b = tmp_path / "other" / "out"
    for name in ("train_metadata.csv", "test_metadata.csv"):
        assert (a / name).read_bytes() == (b / name).read_bytes()
    c = split(one, tmp_path / "one" / "out2", "--test_split_pct", "0.2", "--seed", "7")
    assert (a / "test_metadata.csv").read_bytes() != (c / "test_metadata.csv").read_bytes()


def test_an_added_clip_moves_few_others_between_the_splits():
    clips = [CorpusClip(f"C{number}", Path(f"C{number}.wav"), "text") for number in range(1000)]
    _, before = split_clips(clips[1:], 0.1, seed=42)
    _, after = split_clips(clips, 0.1, seed=42)
    assert len(before) == len(after) == 100
    assert len({clip.clip_id for clip in before} & {clip.clip_id for clip in after}) >= 99


@pytest.mark.parametrize(
    ("count", "share", "expected"), [(2, 0.01, 1), (10, 0.25, 2), (150, 0.01, 2), (5, 0, 0)]
)
def test_the_test_split_has_its_share_and_at_least_one_clip(count, share, expected):
    clips = [CorpusClip(f"C{number}", Path(f"C{number}.wav"), "text") for number in range(count)]
    train, test = split_clips(clips, share, seed=42)
    assert (len(train), len(test)) == (count - expected, expected)


@pytest.mark.parametrize(("count", "share"), [(0, 0.1), (1, 0.01), (2, 0.9), (0, 0)])
def test_an_empty_split_is_an_error(count, share):
    clips = [CorpusClip(f"C{number}", Path(f"C{number}.wav"), "text") for number in range(count)]
    with pytest.raises(UserError):
        split_clips(clips, share, seed=42)


def test_file_paths_work_from_any_folder_and_after_moving_the_tree(tmp_path):
    make_corpus(tmp_path / "data" / "corpus", numbered_lines(3))
    cwd = tmp_path / "data"
    for out in ("splits", "corpus", "corpus/splits/a", "."):
        done = run("--path_to_ljspech", "corpus", "--path_to_save", out, cwd=cwd)
        assert done.returncode == 0, done.stderr
        for row in rows(cwd / out / "train_metadata.csv"):
            assert not Path(row["file_path"]).is_absolute()
            assert (cwd / out / row["file_path"]).is_file()
    moved = (tmp_path / "data").rename(tmp_path / "moved")
    for row in rows(moved / "splits" / "train_metadata.csv"):
        assert (moved / "splits" / row["file_path"]).is_file()


def test_file_paths_to_a_corpus_elsewhere_are_absolute(tmp_path):
    make_corpus(tmp_path / "data" / "corpus", numbered_lines(3))
    done = run("--path_to_ljspeech", "data/corpus", "--path_to_save", "work/a/splits", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for row in rows(tmp_path / "work" / "a" / "splits" / "train_metadata.csv"):
        assert Path(row["file_path"]).is_absolute()
        assert Path(row["file_path"]).is_file()


def test_file_paths_survive_symbolic_links(tmp_path):
    make_corpus(tmp_path / "disk" / "deep" / "corpus", numbered_lines(3))
    make_corpus(tmp_path / "disk" / "other", numbered_lines(3))
    (tmp_path / "elsewhere" / "splits").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "corpus").symlink_to(tmp_path / "disk" / "deep" / "corpus")
    (tmp_path / "home" / "splits").symlink_to(tmp_path / "elsewhere" / "splits")
    (tmp_path / "home" / "deep").symlink_to(tmp_path / "disk" / "deep")
    for corpus, save in (("corpus", "splits"), ("corpus", "here"), ("deep/../other", "here")):
        out = split(tmp_path / "home" / corpus, tmp_path / "home" / save)
        for row in rows(out / "train_metadata.csv"):
            assert (out / row["file_path"]).is_file()


@pytest.mark.parametrize("name", ["metadata.csv", "wavs"])
def test_a_corpus_with_a_file_in_place_of_a_folder_or_vice_versa_is_refused(tmp_path, name):
    corpus = make_corpus(tmp_path / "corpus", numbered_lines(1))
    (corpus / name).rename(tmp_path / name)
    (corpus / name).write_text("") if name == "wavs" else (corpus / name).mkdir()
    with pytest.raises(UserError, match=f"has no {name}"):
        read_metadata(corpus)


def test_user_errors_are_one_line(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", numbered_lines(1))
    bare = tmp_path / "bare"
    bare.mkdir()
    save = ("--path_to_save", tmp_path / "out")
    assert_one_line_error(run("--path_to_ljspeech", tmp_path / "nowhere", *save), "nowhere", "metadata.csv")
    assert_one_line_error(run("--path_to_ljspeech", bare, *save), "no metadata.csv")
    (bare / "metadata.csv").write_text("\n\n")
    assert_one_line_error(run("--path_to_ljspeech", bare, *save), "wavs")
    (bare / "wavs").mkdir()
    assert_one_line_error(run("--path_to_ljspeech", bare, *save), "blank")
    assert_one_line_error(run(*save), "--path_to_ljspeech", "--download")
    assert not (tmp_path / "out").exists()
    for share in ("1", "-0.1", "nan", "1.5"):
        done = run("--path_to_ljspeech", corpus, *save, "--test_split_pct", share)
        assert_one_line_error(done, "--test_split_pct", share)
    assert_one_line_error(run("--path_to_ljspeech", corpus, *save), "1 good clips")
    assert_one_line_error(
        run("--path_to_ljspeech", corpus, *save, "--sampling_rate", "16000"), "rejected.csv"
    )
    assert reasons(tmp_path / "out") == {"C000": "sampling rate is not 16000 Hz: 22050 Hz"}


STAND_IN_TORCHAUDIO = """
import shutil
from pathlib import Path

class datasets:
    class LJSPEECH:
        def __init__(self, root, download):
            assert download
            if not (Path(root) / "LJSpeech-1.1").exists():
                shutil.copytree({source!r}, Path(root) / "LJSpeech-1.1")
"""


def test_download_splits_the_corpus_that_torchaudio_unpacks(tmp_path):
    source = make_corpus(tmp_path / "source", numbered_lines(4))
    (tmp_path / "torchaudio.py").write_text(STAND_IN_TORCHAUDIO.format(source=str(source)))
    flags = ("--download", tmp_path / "data", "--path_to_save", tmp_path / "data" / "splits")
    done = run(*flags, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    train = rows(tmp_path / "data" / "splits" / "train_metadata.csv")
    assert [row["file_path"].startswith("../LJSpeech-1.1/wavs/") for row in train] == [True] * 3
    (tmp_path / "data" / "LJSpeech-1.1" / "wavs" / "C001.wav").unlink()
    assert_one_line_error(run(*flags, PYTHONPATH=str(tmp_path)), "lacks 1 of its 4 clips", "delete it")


def test_a_failed_download_and_a_missing_torchaudio_are_user_errors(tmp_path):
    (tmp_path / "torchaudio.py").write_text(STAND_IN_TORCHAUDIO.format(source=str(tmp_path / "offline")))
    flags = ("--download", tmp_path / "data", "--path_to_save", tmp_path / "splits")
    assert_one_line_error(run(*flags, PYTHONPATH=str(tmp_path)), "can't be downloaded", "offline")
    (tmp_path / "torchaudio.py").write_text("raise OSError('wrong CUDA')")
    assert_one_line_error(run(*flags, PYTHONPATH=str(tmp_path)), "wrong CUDA", "--path_to_ljspeech")


def test_torchaudio_is_not_imported_without_download(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", numbered_lines(2))
    (tmp_path / "torchaudio.py").write_text("raise OSError('wrong CUDA')")
    flags = ("--path_to_ljspeech", corpus, "--path_to_save", tmp_path / "out")
    assert run(*flags, PYTHONPATH=str(tmp_path)).returncode == 0


def test_a_limit_on_duration_does_not_change_the_split_of_the_other_clips(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", numbered_lines(20))
    for number in (3, 8, 11):
        write_wav(corpus / "wavs" / f"C{number:03d}.wav", np.tile(tone(0.5), 3), RATE)
    whole = split(corpus, tmp_path / "whole", "--test_split_pct", "0.4")
    short = split(corpus, tmp_path / "short", "--test_split_pct", "0.4", "--max_duration", "0.2")
    too_long = {"C003", "C008", "C011"}
    for name in ("train_metadata.csv", "test_metadata.csv"):
        kept = [row for row in rows(whole / name) if Path(row["file_path"]).stem not in too_long]
        assert rows(short / name) == kept
    assert reasons(short) == dict.fromkeys(sorted(too_long), "longer than 0.2 s: 0.30 s")


def encoded(samples: np.ndarray, rate: int, kind: str) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, samples, rate, format=kind)
    return data.getvalue()


def write_dataset(folder: Path, **columns: list) -> Path:
    """Write a dataset of the `datasets` library as Parquet."""
    folder.mkdir(parents=True)
    pandas.DataFrame(columns).to_parquet(folder / "train-00000-of-00001.parquet")
    return folder


def test_a_dataset_in_parquet_files_becomes_a_manifest(tmp_path):
    spoken = [
        {"bytes": encoded(tone(0.1 * number), RATE, kind), "path": None}
        for number, kind in ((1, "WAV"), (2, "FLAC"), (3, "OGG"))
    ]
    audio = [None, *spoken, {"bytes": b"no audio", "path": "x.wav"}, spoken[0]]
    dataset = write_dataset(
        tmp_path / "dataset", id=["none", "ann/1", "ann/2", "bob/3", "bob/4", "ann/1"], audio=audio,
        speaker_id=[7, 7, 7, 8, 8, 7], text=["raw"] * 6,
        normalized_text=["zero", "one", "two", "three", "four", "  "],
    )  # fmt: skip
    out = tmp_path / "out"
    done = run("--dataset", dataset, "--path_to_save", out, "--test_split_pct", "0.4", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert transcripts(out) == ["one", "three", "two"]
    found = {
        row["file_path"]: row for row in rows(out / "train_metadata.csv") + rows(out / "test_metadata.csv")
    }
    assert {name: row["speaker"] for name, row in found.items()} == {
        "wavs/ann/1.wav": "7", "wavs/ann/2.flac": "7", "wavs/bob/3.wav": "8"
    }  # fmt: skip
    assert (out / "wavs" / "ann" / "1.wav").read_bytes() == spoken[0]["bytes"]
    assert all(int(row["samples"]) == RATE // 10 for row in found.values())
    assert "can't be decoded" in reasons(out)["bob/4"]
    assert reasons(out)["00000005"] == "no transcript"  # its id was used before
    assert "no audio" in reasons(out)["none"]


def test_columns_that_a_dataset_states_are_checked_before_a_row_is_read(tmp_path, monkeypatch):
    def rows():
        raise AssertionError("a row was read")
        yield

    columns = {"audio": {"bytes": None}, "words": ""}
    monkeypatch.setattr("corpus.hub_datasets.open_dataset", lambda *_: (rows(), columns))
    with pytest.raises(UserError, match="no column with text"):
        next(read_dataset("name", tmp_path))


def test_errors_of_a_dataset_are_one_line(tmp_path):
    dataset = write_dataset(tmp_path / "dataset", audio=[{"bytes": b"", "path": None}], words=["x"])
    save = ("--path_to_save", tmp_path / "out")
    offline = {"HF_HUB_OFFLINE": "1"}
    assert_one_line_error(
        run("--dataset", dataset, *save, **offline), "no column with text", "words", "--text_column"
    )
    assert_one_line_error(
        run("--dataset", dataset, *save, "--dataset_split", "dev", **offline), "dev", "train"
    )
    assert_one_line_error(run("--dataset", "nobody/nothing", *save, **offline), "nobody/nothing")


def test_a_dataset_in_a_folder_of_audio_is_read_without_a_decoder(tmp_path):
    for number, name in enumerate(("a.wav", "b.wav"), start=1):
        write_wav(tmp_path / "audio" / name, tone(0.3 * number), RATE)
    (tmp_path / "audio" / "metadata.csv").write_text("file_name,transcription\na.wav,Hello.\nb.wav,Bye.\n")
    (tmp_path / "torchcodec.py").write_text("raise ImportError('not installed')")
    out, flags = tmp_path / "out", ("--dataset", tmp_path / "audio", "--test_split_pct", "0")
    done = run(*flags, "--path_to_save", out, HF_HUB_OFFLINE="1", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert transcripts(out) == ["Bye.", "Hello."]
    assert (out / "wavs" / "a.wav").read_bytes() == (tmp_path / "audio" / "a.wav").read_bytes()


def test_conversion_makes_every_clip_usable_and_reports_what_it_changed(tmp_path, capsys):
    corpus = make_corpus(tmp_path / "corpus", numbered_lines(6))
    wavs, speech, silence = corpus / "wavs", tone(0.5), np.zeros(RATE // 2)
    before = (wavs / "C000.wav").read_bytes()
    soundfile.write(wavs / "C001.wav", np.stack([tone(0.4), tone(0.2)], axis=1), RATE)
    write_wav(wavs / "C002.wav", tone(0.5), 44100)
    write_wav(wavs / "C003.wav", np.concatenate([silence, speech, silence]), RATE)
    (wavs / "C004.wav").write_bytes(b"not audio")
    soundfile.write(wavs / "C005.wav", 2 * tone(1.0), RATE, subtype="FLOAT")
    out = split(corpus, tmp_path / "out", "--convert", "--test_split_pct", "0.4")
    changes = {row["id"]: row["changes"] for row in rows(out / "converted.csv")}
    trimmed = re.fullmatch(r"silence trimmed: (.*) s", changes.pop("C003"))
    assert 0.75 < float(trimmed[1]) <= 0.9  # of 1 s; a margin stays at both ends
    assert changes == {
        "C001": "mixed down from 2 channels",
        "C002": "resampled from 44100 Hz",
        "C005": "scaled down: from a peak of 2.00",
    }
    assert "can't be decoded" in reasons(out)["C004"]
    assert "converted 1: resampled from 44100 Hz" in capsys.readouterr().out
    kept = rows(out / "train_metadata.csv") + rows(out / "test_metadata.csv")
    lengths = {Path(row["file_path"]).stem: int(row["samples"]) for row in kept}
    assert sorted(lengths) == ["C000", "C001", "C002", "C003", "C005"]
    assert lengths["C000"] == len(speech) and abs(lengths["C002"] - len(speech) / 2) < 1
    assert lengths["C003"] == pytest.approx(len(speech) + RATE * (1 - float(trimmed[1])), abs=0.01 * RATE)
    mixed, _ = soundfile.read(out / "wavs" / "C001.wav")
    np.testing.assert_allclose(mixed, tone(0.3), atol=1e-4)
    assert (out / "wavs" / "C000.wav").is_file() and (wavs / "C000.wav").read_bytes() == before


def test_conversion_does_not_overwrite_the_corpus(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", numbered_lines(2))
    done = run("--path_to_ljspeech", corpus, "--path_to_save", tmp_path / "out", "--convert", corpus / "wavs")
    assert_one_line_error(done, "prep_splits.py would overwrite")


def test_conversion_writes_again_only_what_it_has_written(tmp_path):
    corpus, folder = make_corpus(tmp_path / "corpus", numbered_lines(3)), tmp_path / "converted"
    flags = ("--path_to_ljspeech", corpus, "--path_to_save", tmp_path / "out", "--convert", folder)
    for _ in range(2):
        done = run(*flags)
        assert done.returncode == 0, done.stderr
    (corpus / "metadata.csv").write_text("C000|x|one\nC001|x|two\nsub/C003|x|three\n")
    (corpus / "wavs" / "sub").mkdir()
    write_wav(corpus / "wavs" / "sub" / "C003.wav", tone(0.1), RATE)
    (folder / "sub").mkdir()
    recording = folder / "sub" / "C003.wav"
    write_wav(recording, tone(0.9), RATE)
    before = {path: path.read_bytes() for path in (recording, folder / "C000.wav")}
    write_wav(corpus / "wavs" / "C000.wav", tone(0.5), RATE)
    assert_one_line_error(run(*flags), "prep_splits.py would overwrite", "sub/C003.wav")
    assert {path: path.read_bytes() for path in before} == before
    recording.unlink()
    assert run(*flags).returncode == 0 and recording.is_file()

    for kept in ("clips.txt", "sub/C003.wav"):  # the list of another program, and a folder behind a link
        own = tmp_path / f"recordings_{len(kept)}"
        (own / "sub").mkdir(parents=True)
        write_wav(own / kept if kept.endswith("wav") else own / "C000.wav", tone(0.9), RATE)
        (own / "clips.txt").write_text("C000.wav\n")
        target = own
        if kept.endswith("wav") and os.name == "posix":
            target = tmp_path / "linked"
            target.mkdir()
            (target / "sub").symlink_to(own / "sub")
        before = {path: path.read_bytes() for path in own.rglob("*.wav")}
        assert_one_line_error(run(*flags[:-1], target), "prep_splits.py would overwrite")
        assert {path: path.read_bytes() for path in before} == before


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_conversion_does_not_overwrite_what_the_corpus_links_to(tmp_path):
    # written by --convert, so that only the links tell that they are the source
    out = split(make_corpus(tmp_path / "first", numbered_lines(2)), tmp_path / "one", "--convert")
    originals = out / "wavs"
    corpus = make_corpus(tmp_path / "corpus", numbered_lines(2))
    for path in (corpus / "wavs").iterdir():
        path.unlink()
        path.symlink_to(originals / path.name)
    before = {path: path.read_bytes() for path in originals.iterdir()}
    flags = ("--path_to_save", tmp_path / "out", "--convert", originals, "--sampling_rate", "16000")
    assert_one_line_error(run("--path_to_ljspeech", corpus, *flags), "prep_splits.py would overwrite")
    assert {path: path.read_bytes() for path in originals.iterdir()} == before


@pytest.mark.parametrize("kind", ["vctk", "dataset"])
def test_conversion_does_not_overwrite_recordings_of_other_corpora(tmp_path, kind):
    recording = tmp_path / "wav48" / "p225" / "p225_001.wav"
    recording.parent.mkdir(parents=True)
    soundfile.write(recording, tone(0.3), 48000)
    before = recording.read_bytes()
    if kind == "vctk":
        text = tmp_path / "txt" / "p225" / "p225_001.txt"
        text.parent.mkdir(parents=True)
        text.write_text("Please call Stella.\n")
        flags = ("--corpus", "vctk", "--path_to_corpus", tmp_path, "--convert", tmp_path / "wav48")
    else:
        audio = [{"bytes": None, "path": str(recording)}]
        dataset = write_dataset(tmp_path / "dataset", id=["p225_002"], audio=audio, text=["Ask her."])
        flags = ("--dataset", dataset, "--convert", recording.parent)
    done = run(*flags, "--path_to_save", tmp_path / "out", HF_HUB_OFFLINE="1")
    assert_one_line_error(done, "prep_splits.py would overwrite")
    assert recording.read_bytes() == before and len(list(recording.parent.iterdir())) == 1


@pytest.mark.skipif(os.name != "posix", reason="needs ulimit")
@pytest.mark.parametrize("flags", [["--convert"], ["--dataset"]])
def test_a_full_disk_stops_the_conversion_and_rejects_no_clip(tmp_path, flags):
    corpus = make_corpus(tmp_path / "corpus", numbered_lines(3))
    command = ["--path_to_ljspeech", str(corpus), *flags]
    if flags == ["--dataset"]:
        audio = [{"bytes": encoded(tone(0.1 * number), RATE, "WAV"), "path": None} for number in (1, 2, 3)]
        command = [*flags, str(write_dataset(tmp_path / "dataset", audio=audio, text=["one"] * 3))]
    command = [sys.executable, str(ROOT / "prep_splits.py"), *command]
    # a limit of 2 KB on the size of a file, which a clip of 4.4 KB exceeds
    limited = [
        "bash",
        "-c",
        'ulimit -f 2; trap "" XFSZ; exec "$@"',
        "bash",
        *command,
        "--path_to_save",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(limited, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    assert_one_line_error(done, "File too large", "free space")
    assert not list((tmp_path / "out").glob("*.csv"))


def test_a_number_in_place_of_the_normalized_text_is_rejected(tmp_path):
    lines = ["A|Hello there.|0", "B|Hello there.|Hello there.", "C|1984|1984", "D|Hello there.|"]
    out = split(make_corpus(tmp_path / "corpus", lines), tmp_path / "out", "--test_split_pct", "0")
    assert transcripts(out) == ["1984", "Hello there.", "Hello there."]
    assert reasons(out).keys() == {"A"} and "a number" in reasons(out)["A"]


def speakers(count: int) -> list[tuple[str, str]]:
    return [(f"Sentence {number} of a reader.", f"Speaker {'ab'[number % 2]}") for number in range(count)]


@pytest.mark.parametrize(
    ("pairs", "are_texts"),
    [
        (speakers(12), False),
        ([(f"第{number}句话和别的句子一样长。", "SSB0005") for number in range(12)], False),
        ([(f"No. {number}", f"number {'one ' * number}") for number in range(8)], True),
        ([(f"{number} apples", "some apples") for number in range(2, 10)], True),  # as long as the text
        ([(f"はい{mark}", "hai") for mark in "。!?…" for _ in range(3)], True),
        ([("Yes, " * number, "yes") for number in range(1, 9)], True),
        ([(f"Yes {'!' * number}", "yes") for number in range(8)], True),
        ([(str(number), "some number") for number in range(8)], True),
        ([(f"Sentence {number}.", "") for number in range(8)], True),
    ],
)
def test_speakers_in_place_of_normalized_texts_are_refused(tmp_path, pairs, are_texts):
    lines = [f"C{number}|{text}|{last}" for number, (text, last) in enumerate(pairs)]
    corpus = make_corpus(tmp_path / "corpus", lines)
    (tmp_path / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    for read in (
        lambda: read_metadata(corpus)[0],
        lambda: read_manifest(tmp_path / "list.txt", RATE, corpus / "wavs"),
    ):
        if are_texts:
            assert len(read()) == len(pairs)
        else:
            with pytest.raises(UserError, match=f"lines end with {min(last for _, last in pairs)!r}.*remove"):
                read()


def test_names_of_files_are_read_as_ids_and_other_lines_say_what_to_do(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", numbered_lines(4))
    lines = ["wavs/C000.wav|one", "C001.WAV|two", "C002,three", "C003\tfour"]
    (corpus / "metadata.csv").write_text("\n".join(lines))
    clips, rejected = read_metadata(corpus)
    assert [(clip.clip_id, clip.path.is_file()) for clip in clips] == [("C000", True), ("C001", True)]
    assert len(rejected) == 2 and all("separate them by |" in each.reason for each in rejected)
    write_wav(corpus / "wavs" / "C003.mp3.wav", tone(0.5), RATE)  # converted from C003.mp3
    (corpus / "metadata.csv").write_text("C003.mp3|three\n")
    assert [clip.clip_id for clip in read_metadata(corpus)[0]] == ["C003.mp3"]
    (corpus / "metadata.csv").write_text("C000|ein Satz\n", encoding="utf-16")
    assert "save the file as UTF-8" in read_metadata(corpus)[1][0].reason


def test_a_clip_without_a_mel_is_rejected(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", numbered_lines(3))
    for number, samples in ((0, MIN_SAMPLES - 1), (1, MIN_SAMPLES)):
        write_wav(corpus / "wavs" / f"C00{number}.wav", tone(0.5)[:samples], RATE)
    out = split(corpus, tmp_path / "out", "--test_split_pct", "0")
    assert reasons(out) == {"C000": "too short for a mel: 511 samples, at least 512 are needed"}
    clips = read_manifest(out / "train_metadata.csv", RATE)
    assert len(UtteranceDataset(clips, MelConfig())) == 2
    with pytest.raises(UserError, match="too short"):
        UtteranceDataset([clips[0]._replace(samples=MIN_SAMPLES - 1)], MelConfig())


def test_ids_may_contain_folders(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", numbered_lines(2))
    for number, speaker in enumerate(("ann", "bob")):
        (corpus / "wavs" / speaker).mkdir()
        (corpus / "wavs" / f"C00{number}.wav").rename(corpus / "wavs" / speaker / "0001.wav")
    (corpus / "metadata.csv").write_text("ann/0001|x|one\nbob/0001|x|two\n/abs|x|y\nann//0001|x|y\n")
    out = split(corpus, tmp_path / "out", "--test_split_pct", "0")
    assert [row["file_path"] for row in rows(out / "train_metadata.csv")] == [
        "../corpus/wavs/ann/0001.wav", "../corpus/wavs/bob/0001.wav"
    ]  # fmt: skip
    assert reasons(out).keys() == {"/abs", "ann//0001"}


@pytest.mark.parametrize("audio", ["wav48_silence_trimmed/{}/{}_mic1.flac", "wav48/{}/{}.wav"])
def test_vctk_is_read_with_its_speakers_and_one_microphone(tmp_path, audio):
    corpus, texts = (
        tmp_path / "VCTK",
        {"p225_001": "Please call Stella.", "p226_001": "Ask her.", "p226_002": ""},
    )
    for name, text in texts.items():
        speaker = name.partition("_")[0]
        path = corpus / audio.format(speaker, name)
        for file in {path, path.with_name(path.name.replace("mic1", "mic2"))}:
            file.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(file, tone(0.3), RATE)
        (corpus / "txt" / speaker).mkdir(parents=True, exist_ok=True)
        if text:
            (corpus / "txt" / speaker / f"{name}.txt").write_text(text + "\n")
    main(["--corpus", "vctk", "--path_to_corpus", str(corpus), "--path_to_save", str(tmp_path / "splits")])
    rows = []
    for split in ("train", "test"):
        path = tmp_path / "splits" / f"{split}_metadata.csv"
        rows += [(row, path) for row in csv.DictReader(path.open(encoding="utf-8"))]
    found = {(row["speaker"], row["normalized_transcript"]) for row, _ in rows}
    assert found == {("p225", "Please call Stella."), ("p226", "Ask her.")}
    assert all((path.parent / row["file_path"]).is_file() for row, path in rows)
    assert "no transcript" in (tmp_path / "splits" / "rejected.csv").read_text()
