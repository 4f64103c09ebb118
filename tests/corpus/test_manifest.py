"""Manifests in CSV and Parquet, and filelists."""

import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile
from helpers import RATE, ROOT
from manifests import COLUMNS, make_clips, write_manifest

from common.errors import UserError
from corpus.manifest import BLOCK, read_manifest
from dataset import SegmentDataset
from mel import MelConfig
from prep_splits import main as prep_splits
from tacotron2.config import Tacotron2Config
from tacotron2.dataset import TextMelDataset


def test_all_rows_of_a_prep_splits_manifest_are_read(tmp_path):
    make_clips(tmp_path / "corpus" / "wavs", [0.3, 0.4, 0.5])
    texts = ["a, b and \u2028c", '“d” "e"', "f"]
    lines = "".join(f"clip{number}|raw|{text}\n" for number, text in enumerate(texts))
    (tmp_path / "corpus" / "metadata.csv").write_text(lines, encoding="utf-8")
    prep_splits(["--path_to_ljspeech", str(tmp_path / "corpus"), "--path_to_save", str(tmp_path / "out")])
    clips = [
        *read_manifest(tmp_path / "out" / "train_metadata.csv", RATE),
        *read_manifest(tmp_path / "out" / "test_metadata.csv", RATE),
    ]
    assert sorted(clip.transcript for clip in clips) == sorted(texts)
    for clip in clips:
        stored, _ = soundfile.read(clip.path, dtype="float32")
        assert (clip.samples, np.float32(clip.peak)) == (len(stored), np.abs(stored).max())


def test_relative_paths_are_resolved_from_the_manifest_and_absolute_paths_are_kept(tmp_path, monkeypatch):
    rows = make_clips(tmp_path / "corpus" / "wavs", [0.1, 0.1])
    rows[0]["file_path"] = "../corpus/wavs/clip0.wav"
    rows[1]["file_path"] = str(tmp_path / "corpus" / "wavs" / "clip1.wav")
    (tmp_path / "lists").mkdir()
    manifest = write_manifest(tmp_path / "lists" / "train.csv", rows)
    monkeypatch.chdir("/")
    clips = read_manifest(manifest, RATE)
    assert [clip.path.resolve().name for clip in clips] == ["clip0.wav", "clip1.wav"]
    assert all(clip.path.is_file() for clip in clips)


def test_byte_order_mark_extra_columns_quotes_and_commas_are_accepted(tmp_path):
    rows = make_clips(tmp_path, [0.1, 0.1])
    rows[0]["normalized_transcript"] = 'He said, "No, never"'
    rows[1]["normalized_transcript"] = "two\nlines | and a bar"
    for row in rows:
        row["speaker"] = "Linda, reader"
    columns = (*COLUMNS, "speaker")
    clips = read_manifest(write_manifest(tmp_path / "a.csv", rows, columns, "utf-8-sig"), RATE)
    assert clips[0].transcript == 'He said, "No, never"'
    assert clips[1].transcript.startswith("two") and clips[1].transcript.endswith("lines | and a bar")
    assert [clip.samples for clip in clips] == [row["samples"] for row in rows]


@pytest.mark.parametrize("lacking", ["samples", "peak", "duration"])
def test_values_missing_from_a_manifest_are_read_from_the_clips(tmp_path, lacking):
    rows = make_clips(tmp_path, [0.1, 0.2])
    columns = [column for column in COLUMNS if column != lacking]
    clips = read_manifest(write_manifest(tmp_path / "a.csv", rows, columns), RATE)
    assert [clip.samples for clip in clips] == [row["samples"] for row in rows]
    assert [clip.peak for clip in clips] == pytest.approx([float(row["peak"]) for row in rows])
    rows[1][lacking] = ""
    assert list(read_manifest(write_manifest(tmp_path / "b.csv", rows), RATE)) == list(clips)


def test_an_official_filelist_is_read_with_input_wavs_dir(tmp_path):
    rows = make_clips(tmp_path / "wavs", [0.1, 0.2])
    filelist = tmp_path / "training.txt"
    filelist.write_text('clip0|Dr. "X|Doctor X\n\nclip1.wav|one text\n', encoding="utf-8")
    clips = read_manifest(filelist, RATE, tmp_path / "wavs")
    assert [clip.transcript for clip in clips] == ["Doctor X", "one text"]
    assert [clip.samples for clip in clips] == [row["samples"] for row in rows]
    with pytest.raises(UserError, match="--input_wavs_dir"):
        read_manifest(filelist, RATE)


@pytest.mark.parametrize("scanned", [False, True], ids=["manifest", "scan"])
def test_a_clip_with_another_sampling_rate_is_named_in_the_error(tmp_path, scanned):
    rows = make_clips(tmp_path, [0.1, 0.1], rate=16000)
    columns = COLUMNS[:3] if scanned else COLUMNS
    manifest = write_manifest(tmp_path / "a.csv", rows, columns)
    with pytest.raises(UserError, match=r"2 of 2 clips.*clip0\.wav: .* 16000 Hz, not 22050 Hz"):
        read_manifest(manifest, RATE)


def test_durations_that_were_rounded_are_compared_with_the_files(tmp_path):
    rows = [row | {"duration": round(row["duration"], 2)} for row in make_clips(tmp_path, [0.503, 0.607])]
    manifest = write_manifest(tmp_path / "a.csv", rows)
    assert [clip.samples for clip in read_manifest(manifest, RATE)] == [row["samples"] for row in rows]
    rows[1]["samples"] += 900
    with pytest.raises(UserError, match=f"clip1.wav: it has {rows[1]['samples'] - 900} samples"):
        read_manifest(write_manifest(tmp_path / "a.csv", rows), RATE)


def test_unusable_clips_are_reported_with_name_and_reason(tmp_path):
    rows = make_clips(tmp_path, [0.1, 0.1])
    for name, reason, make in (
        ("gone.wav", "missing", lambda path: None),
        ("empty.wav", "empty", lambda path: path.touch()),
        ("text.wav", "can't be decoded", lambda path: path.write_text("no audio at all")),
        ("stereo.wav", "2 channels", lambda path: soundfile.write(path, np.zeros((500, 2)), RATE)),
    ):
        make(tmp_path / name)
        bad = {"file_path": name, "normalized_transcript": "x"}
        with pytest.raises(UserError) as error:
            read_manifest(write_manifest(tmp_path / "a.csv", [*rows, bad]), RATE)
        assert f"{name}: " in str(error.value) and reason in str(error.value)
        assert "1 of 3 clips" in str(error.value)


def test_a_file_that_is_not_a_manifest_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"can't read the manifest .*nowhere\.csv"):
        read_manifest(tmp_path / "nowhere.csv", RATE)
    with pytest.raises(UserError, match="lists no clips"):
        read_manifest(write_manifest(tmp_path / "a.csv", []), RATE)
    make_clips(tmp_path, [0.1])
    with pytest.raises(UserError, match="can't read the manifest"):
        read_manifest(tmp_path / "clip0.wav", RATE)


@pytest.mark.parametrize(
    "header", ["file_path, normalized_transcript", "file_path ,speaker", "file_path,speaker,speaker"]
)
def test_a_column_with_spaces_or_twice_is_refused(tmp_path, header):
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(f"{header}\na.wav,one,two\n", encoding="utf-8")
    with pytest.raises(UserError, match="write each column once, without spaces"):
        read_manifest(manifest, RATE)


def test_a_parquet_manifest_has_the_same_clips_as_csv(tmp_path):
    rows = make_clips(tmp_path / "wavs", [0.1, 0.2])
    for row in rows:
        row["file_path"] = f"wavs/{row['file_path']}"
    clips = list(read_manifest(write_manifest(tmp_path / "a.csv", rows), RATE))
    table = pandas.DataFrame(rows)
    table.to_parquet(tmp_path / "a.parquet")
    assert list(read_manifest(tmp_path / "a.parquet", RATE)) == clips
    categories = table[["file_path", "normalized_transcript"]].astype("category")
    categories.to_parquet(tmp_path / "b.parquet")
    assert list(read_manifest(tmp_path / "b.parquet", RATE)) == clips  # their files are decoded
    (tmp_path / "c.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-100])
    with pytest.raises(UserError, match=r"can't read the manifest .*c\.parquet"):
        read_manifest(tmp_path / "c.parquet", RATE)
    table.rename(columns={"file_path": "path"}).to_parquet(tmp_path / "d.parquet")
    with pytest.raises(UserError, match=r"row 1 of .* has no file_path"):
        read_manifest(tmp_path / "d.parquet", RATE)


def test_names_in_filelists_may_contain_folders(tmp_path):
    make_clips(tmp_path / "wavs" / "ann", [0.1])
    make_clips(tmp_path / "wavs" / "bob", [0.2])
    (tmp_path / "list.txt").write_text("ann/clip0|one|one\nbob/clip0.wav|two|two\n")
    clips = read_manifest(tmp_path / "list.txt", RATE, tmp_path / "wavs")
    wavs = [clip.path.relative_to(tmp_path / "wavs").as_posix() for clip in clips]
    assert wavs == ["ann/clip0.wav", "bob/clip0.wav"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (",text,0.1,2205,0.5", "row 2 of .* has no file_path"),
        ("clip0.wav,text", "can't read the manifest"),
        ("nowhere.wav,text,0.1,2205,0.5", r"1 of 2 clips .*nowhere\.wav: file is missing"),
    ],
)
def test_a_row_that_is_not_a_clip_is_named_in_the_error(tmp_path, line, words):
    manifest = write_manifest(tmp_path / "a.csv", make_clips(tmp_path, [0.1]))
    with manifest.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match=words):
        read_manifest(manifest, RATE)


def test_a_program_that_refuses_a_row_is_not_aborted(tmp_path):
    manifest = write_manifest(tmp_path / "a.csv", make_clips(tmp_path, [0.1]))
    with manifest.open("a") as file:
        file.write("clip0.wav,hello, there,0.1,2205,0.5\n")
    code = f"from corpus.manifest import read_manifest\nread_manifest({str(manifest)!r}, {RATE})"
    for _ in range(5):  # Arrow's threads aborted one in three
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1 and "UserError" in done.stderr, done.stderr


@pytest.mark.parametrize("value", ["nan", "many"])
def test_lengths_that_are_not_numbers_are_replaced_by_those_of_the_files(tmp_path, value):
    rows = make_clips(tmp_path, [0.1, 0.2])
    clips = list(read_manifest(write_manifest(tmp_path / "a.csv", rows), RATE))
    rows[1]["samples"] = value
    assert list(read_manifest(write_manifest(tmp_path / "b.csv", rows), RATE)) == clips


@pytest.mark.parametrize("value", ["-5", "0", "inf", "2.5", "1e300"])
def test_lengths_that_no_clip_can_have_are_refused(tmp_path, value):
    rows = make_clips(tmp_path, [0.1, 0.2])
    rows[1]["samples"] = value
    with pytest.raises(UserError, match=r"row 2 of .* which no clip can have"):
        read_manifest(write_manifest(tmp_path / "b.csv", rows), RATE)


def test_the_extremes_of_lengths_and_peaks_are_allowed(tmp_path):
    rows = make_clips(tmp_path, [0.1, 0.1])
    rows[0] |= {"samples": 1, "duration": 1 / RATE, "peak": 0.0}
    rows[1] |= {"peak": 3.0}  # of a file in floating point
    clips = read_manifest(write_manifest(tmp_path / "a.csv", rows), RATE)
    assert [(clip.samples, clip.peak) for clip in clips] == [(1, 0.0), (2205, 3.0)]


def test_clips_are_a_sequence(tmp_path):
    clips = read_manifest(write_manifest(tmp_path / "a.csv", make_clips(tmp_path, [0.1, 0.2, 0.3])), RATE)
    every = list(clips)
    assert len(every) == len(clips) == 3
    assert [clips[0], clips[1], clips[-1]] == every and clips[::2] == every[::2] and clips[:None] == every
    with pytest.raises(IndexError):
        clips[3]


MEMORY = """
import sys
from corpus.manifest import read_manifest

def memory(name: str) -> int:
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name))) * 1024

few = read_manifest(sys.argv[1], 22050)
before = memory("VmRSS")
many = read_manifest(sys.argv[2], 22050)
print((memory("VmRSS") - before) / len(many), (memory("VmHWM") - before) / len(many))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads /proc")
def test_a_clip_takes_at_most_250_bytes_and_500_while_it_is_read(tmp_path):
    (row,) = make_clips(tmp_path, [0.1])
    row["normalized_transcript"] = "This sentence has as many letters as the average of LJSpeech. ".ljust(
        101, "x"
    )
    for name, count in (("few.csv", 100_000), ("many.csv", 400_000)):
        write_manifest(tmp_path / name, [row] * count)
    command = [sys.executable, "-c", MEMORY, tmp_path / "few.csv", tmp_path / "many.csv"]
    sizes = []
    for _ in range(3):  # the allocator keeps a varying number of freed blocks
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        sizes.append([float(word) for word in done.stdout.split()])
    kept, most = np.min(sizes, axis=0)
    assert 50 < kept < 250 and most < 500, sizes


def test_a_manifest_of_several_blocks_has_all_rows_in_order(tmp_path):
    """In CSV, Parquet and a filelist. A row at the end of a block is completed by the next one."""
    (row,) = make_clips(tmp_path, [0.1])
    texts = [f"“{number}”" * (number % 40) for number in range(35_000)]
    rows = [row | {"normalized_transcript": text, "speaker": text[:3]} for text in texts]
    manifest = write_manifest(tmp_path / "a.csv", rows, (*COLUMNS, "speaker"))
    assert manifest.stat().st_size > 3 * BLOCK
    pandas.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.txt").write_text("".join(f"clip0|{text}\n" for text in texts), encoding="utf-8")
    for name in ("a.csv", "a.parquet", "a.txt"):
        clips = read_manifest(tmp_path / name, RATE, tmp_path)
        assert [clip.transcript for clip in clips] == texts
        assert {clip.samples for clip in clips} == {2205}
        if name != "a.txt":
            assert [clip.speaker for clip in clips] == [text[:3] for text in texts]


@pytest.mark.parametrize("make", [
    lambda clips: SegmentDataset(clips, MelConfig(), 2048, seed=0),
    lambda clips: TextMelDataset(clips, Tacotron2Config()),
], ids=["SegmentDataset", "TextMelDataset"])  # fmt: skip
def test_workers_that_are_not_forked_share_the_memory_of_clips(tmp_path, make):
    """On macOS, and everywhere from Python 3.14 on."""
    rows = make_clips(tmp_path, [0.3, 0.3]) * 1000
    dataset = make(read_manifest(write_manifest(tmp_path / "a.csv", rows), RATE))
    pickled = ForkingPickler.dumps(dataset)
    assert len(pickled) < 20_000  # file descriptors instead of 2000 clips
    assert all(part.is_shared() for part in (dataset.clips.samples, dataset.clips.transcripts.data))
