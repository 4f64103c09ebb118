"""Files that failed in other projects, in ../shared/cases: the right result, or a line and exit status 2."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import RATE
from runs import as_own_process, error_line, manifest_row, metrics, refused, train_here, write_manifest

import inference
import prep_splits
import tacotron2.train
from corpus.audio import read_audio

CLIP = "LJ001-0002"  # what the clips of antiphase, applefile, gsm and silence are made from


@pytest.fixture(scope="module")
def cases(shared) -> Path:
    if not (shared / "cases").is_dir():
        pytest.skip("needs ../shared/cases")
    return shared / "cases"


@pytest.fixture(scope="module")
def original(shared) -> np.ndarray:
    return read_audio(shared / "data" / "ljspeech-mini" / "wavs" / f"{CLIP}.wav")[0]


@pytest.fixture(scope="module")
def v2(shared) -> Path:
    return shared / "pretrained" / "LJ_V2" / "generator_v2"


def infer(output: Path, checkpoint: Path, *flags: str | Path) -> dict[str, Path]:
    """Run `inference.py` and return its audio files by name."""
    inference.main([str(flag) for flag in ["--checkpoint_file", checkpoint, "--output_dir", output, *flags]])
    return {path.name: path for path in output.iterdir()}


def prepare(corpus: Path, splits: Path, *flags: str) -> tuple[dict[str, dict], dict[str, str]]:
    """Run `prep_splits.py`. Return the manifests' rows by clip, and the reasons for the rejected clips."""
    prep_splits.main(["--path_to_ljspeech", str(corpus), "--path_to_save", str(splits), *flags])
    return rows_of(splits / "train_metadata.csv", splits / "test_metadata.csv"), rejected(splits)


def rejected(splits: Path) -> dict[str, str]:
    return {name: row["reason"] for name, row in rows_of(splits / "rejected.csv").items()}


def rows_of(*files: Path) -> dict[str, dict]:
    rows = [row for file in files for row in csv.DictReader(file.open(encoding="utf-8"))]
    return {row.get("id") or Path(row["file_path"]).stem: row for row in rows}


def error_of(capsys, main: Callable, *arguments: str | Path) -> str:
    """Return the only line of an error with exit status 2."""
    capsys.readouterr()
    with as_own_process(), pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    assert leaving.value.code == 2
    return error_line(capsys.readouterr().err)


def likeness(audio: np.ndarray, original: np.ndarray) -> float:
    """Return the largest correlation of two recordings over all shifts."""
    size = len(audio) + len(original)
    spectrum = np.fft.rfft(audio, size) * np.conj(np.fft.rfft(original, size))
    return np.abs(np.fft.irfft(spectrum)).max() / np.linalg.norm(audio) / np.linalg.norm(original)


def test_an_mp3_of_a_wrong_stated_length_is_vocoded_to_its_end(cases, v2, tmp_path):
    made = infer(tmp_path, v2, "--input_wavs_dir", cases / "mp3_lost")
    seconds = {name.removesuffix("_generated.wav"): soundfile.info(made[name]).duration for name in made}
    # the second part of the joined file begins with the silence that an encoder adds
    assert seconds == {
        "vbr_xing": pytest.approx(10.61, abs=0.02),
        "vbr_noxing": pytest.approx(10.68, abs=0.02),
        "cat_hi_lo": pytest.approx(11.91, abs=0.02),
    }


def test_mp3_audio_in_wav_files_is_accepted_and_trained_on(cases, tmp_path):
    accepted, rejections = prepare(cases / "mp3_as_wav", tmp_path)
    assert len(accepted) == 3 and not rejections
    run = train_here(
        tmp_path, tmp_path / "run", path_to_train_manifest=tmp_path / "train_metadata.csv",
        path_to_val_manifest=tmp_path / "test_metadata.csv", training_epochs=1, segment_size=8192,
    )  # fmt: skip
    (train,), (val,) = metrics(run, "train"), metrics(run, "val")
    assert np.isfinite([train["gen_loss"], val["val_mel_loss"]]).all()


def test_speech_codecs_are_converted_and_without_it_the_line_says_so(cases, original, tmp_path, capsys):
    accepted, rejections = prepare(cases / "gsm", tmp_path / "with", "--convert")
    assert len(accepted) == 2 and not rejections
    for name in accepted:
        audio, rate, _ = read_audio(tmp_path / "with" / "wavs" / f"{name}.wav")
        assert rate == RATE and likeness(audio, original) > 0.9, name
    corpus = ["--path_to_ljspeech", cases / "gsm", "--path_to_save", tmp_path / "without"]
    line = error_of(capsys, prep_splits.main, *corpus)
    reasons = rejected(tmp_path / "without")
    assert "--convert" in line and "GSM610" in reasons["za_gsm"] and "G721_32" in reasons["zd_G721_32"]
    assert all("--convert" in reason for reason in reasons.values())


def test_channels_that_cancel_keep_one_and_a_silent_clip_is_rejected(cases, original, tmp_path):
    corpus = tmp_path / "corpus"  # with a third clip, since a split needs two
    (corpus / "wavs").mkdir(parents=True)
    wavs = [*(cases / "antiphase" / "wavs").iterdir(), cases / "applefile" / "a_pcm16.wav"]
    for wav in wavs:
        (corpus / "wavs" / wav.name).symlink_to(wav)
    metadata = (cases / "antiphase" / "metadata.csv").read_text(encoding="utf-8")
    (corpus / "metadata.csv").write_text(metadata.strip() + "\na_pcm16|in being comparatively modern.\n")
    accepted, rejections = prepare(corpus, tmp_path / "splits", "--convert")
    assert accepted.keys() == {"zh_antiphase", "a_pcm16"}
    audio, _, channels = read_audio(tmp_path / "splits" / "wavs" / "zh_antiphase.wav")
    assert channels == 1 and np.abs(audio).max() > 0.45 and likeness(audio, original) > 0.99
    assert rejections.keys() == {"q_silent"} and "silent" in rejections["q_silent"]
    _, rejections = prepare(corpus, tmp_path / "unconverted", "--test_split_pct", "0")
    assert "silent" in rejections["q_silent"] and "channel" in rejections["zh_antiphase"]


def test_silence_is_trimmed_despite_noise_and_an_offset(cases, original, tmp_path):
    accepted, rejections = prepare(cases / "silence", tmp_path, "--convert")
    assert len(accepted) == 3 and not rejections
    changes = {name: row["changes"] for name, row in rows_of(tmp_path / "converted.csv").items()}
    for name in accepted:
        audio, _, _ = read_audio(tmp_path / "wavs" / f"{name}.wav")
        assert len(original) / RATE - 0.15 < len(audio) / RATE < len(original) / RATE + 0.15, name
        assert likeness(audio, original) > 0.99 and abs(audio.mean()) < 1e-4, name
        assert "silence trimmed" in changes[name]
    assert "offset removed: 0.001" in changes["dc0.001"]


def test_hidden_files_of_macos_are_skipped(cases, v2, original, tmp_path):
    made = infer(tmp_path, v2, "--input_wavs_dir", cases / "applefile")
    assert made.keys() == {"a_pcm16_generated.wav"}
    assert soundfile.info(made["a_pcm16_generated.wav"]).frames == len(original) // 256 * 256


def test_a_list_of_paths_is_no_manifest_of_texts(cases, shared, tmp_path, capsys):
    filelist = cases / "filelist" / "onlypaths.txt"
    required = ["--experiment_name", "run", "--working_directory", tmp_path, "--run_name", "run"]
    manifests = ["--path_to_train_manifest", filelist, "--path_to_val_manifest", filelist]
    wavs = ["--input_wavs_dir", shared / "data" / "ljspeech-mini" / "wavs"]
    line = error_of(capsys, tacotron2.train.main, *required, *manifests, *wavs)
    assert "onlypaths.txt" in line and "LJ001-0008" in line
    assert "text" in line or "transcript" in line


def test_saved_mels_in_log10_are_refused_by_name(cases, shared, v2, tmp_path, capsys):
    names = sorted(path.stem for path in (cases / "mels_log10").glob("*.npy"))
    rows = [manifest_row(shared / "data" / "ljspeech-mini" / "wavs" / f"{name}.wav") for name in names]
    write_manifest(tmp_path / "train.csv", rows)
    write_manifest(tmp_path / "test.csv", rows[:2])
    line = refused(
        capsys, tmp_path, tmp_path / "run", finetune=True, path_to_saved_mels=cases / "mels_log10",
        path_to_pretrained_weights=v2, upsample_initial_channel=128, resblock_kernel_sizes=[3, 7, 11],
        resblock_dilation_sizes="((1,3,5),(1,3,5),(1,3,5))", max_train_steps=1,
    )  # fmt: skip
    assert "log10" in line and "LJ001-0002" in line and "2.30" in line


def test_a_mel_saved_as_a_numpy_array_by_torch_is_refused_in_one_line(cases, v2, tmp_path, capsys):
    flags = ["--checkpoint_file", v2, "--output_dir", tmp_path, "--input_mels_dir", cases / "mel_numpy_pt"]
    line = error_of(capsys, inference.main, *flags)
    assert "x.pt is refused" in line and "NumPy array" in line and "save only its tensors" in line
    assert not list(tmp_path.iterdir())


def test_a_configuration_with_a_byte_order_mark_is_read(cases, v2, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "generator_v2").symlink_to(v2)
    config = (cases / "config_bom" / "config.json").read_bytes()
    assert config.startswith(b"\xef\xbb\xbf")
    (tmp_path / "model" / "config.json").write_bytes(config)
    clips = ["--input_wavs_dir", cases / "applefile"]
    made = infer(tmp_path / "out", tmp_path / "model" / "generator_v2", *clips)
    usual = infer(tmp_path / "usual", v2, *clips)
    assert made["a_pcm16_generated.wav"].read_bytes() == usual["a_pcm16_generated.wav"].read_bytes()
