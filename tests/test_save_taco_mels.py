"""save_taco_mels.py: mels aligned with their audio frame by frame, and written atomically."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import fork_two
from helpers import ROOT, voice
from runs import TORCHRUN, manifest_row, wait_until, write_manifest
from tacotron2_runs import train_here as train_tacotron2_here

import save_taco_mels
from checkpoint import load_tacotron2, save_model
from common.parallel import available_cores
from corpus.audio import read_audio, write_wav
from corpus.manifest import read_manifest
from corpus.saved_mels import SavedMels
from mel import MelConfig, MelSpectrogram
from tacotron2.config import Tacotron2Config
from tacotron2.model import Tacotron2

SMALL = {
    "character_embed_dim": 16, "encoder_embed_dim": 16, "attention_rnn_dim": 16, "attention_dim": 8,
    "attention_location_n_filters": 4, "decoder_rnn_dim": 16, "decoder_prenet_dim": 8,
    "decoder_postnet_n_filters": 8,
}  # fmt: skip
TEXTS = ["One.", "Two fishes swim.", "A third, of many words."]


@pytest.fixture(scope="module")
def taco(tmp_path_factory) -> Path:
    return save_taco(tmp_path_factory.mktemp("taco"), frames_per_step=2)


def save_taco(folder: Path, seed: int = 0, gate_bias: float = 0.0, **settings) -> Path:
    """Save an untrained model. With a low bias its gate never opens, and it speaks until the limit."""
    torch.manual_seed(seed)
    config = Tacotron2Config(**SMALL | settings)
    model = Tacotron2(config)
    model.decoder.gate_layer.bias.data.fill_(gate_bias)
    save_model(folder / "model", config, tacotron2=model)
    return folder / "model"


@pytest.fixture
def corpus(tmp_path) -> Path:
    """Clips whose lengths are not whole frames, in train.csv and test.csv."""
    rows = []
    for number, text in enumerate(TEXTS):
        wav = tmp_path / "wavs" / f"clip{number}.wav"
        write_wav(wav, voice(0.31 + 0.17 * number, seed=number), 22050)
        rows.append(manifest_row(wav) | {"normalized_transcript": text})
    write_manifest(tmp_path / "train.csv", rows[:2])
    write_manifest(tmp_path / "test.csv", rows[1:])  # one clip is in both
    return tmp_path


def run(*flags) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "save_taco_mels.py"), "--num_workers", "0", *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def save(corpus: Path, taco: Path, folder: Path, *flags) -> None:
    manifests = ["--path_to_manifest", str(corpus / "train.csv"), str(corpus / "test.csv")]
    save_taco_mels.main(
        [*manifests, "--path_to_save", str(folder), "--taco_weights", str(taco), "--num_workers", "0"]
        + [str(flag) for flag in flags]
    )


def test_each_clip_of_all_manifests_has_a_mel_with_exactly_its_frames(corpus, taco, tmp_path):
    done = run(
        "--path_to_manifest", corpus / "train.csv", corpus / "test.csv", "--path_to_save", tmp_path / "mels",
        "--taco_weights", taco, "--batch_size", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "3 clips saved" in done.stdout and "mel error (L1, db)" in done.stdout
    clips = [*read_manifest(corpus / "train.csv", 22050), *read_manifest(corpus / "test.csv", 22050)]
    for clip in clips:
        mel = np.load(tmp_path / "mels" / f"{clip.path.stem}.npy")
        assert mel.dtype == np.float32 and mel.shape == (80, clip.samples // 256)
    SavedMels(tmp_path / "mels", MelConfig(), clips)  # train.py reads them
    assert len(list((tmp_path / "mels").iterdir())) == 5  # and config.json and mels.txt


def test_mels_of_real_clips_have_exactly_their_frames(shared, taco, tmp_path):
    corpus = shared / "data" / "ljspeech-mini"
    lines = (corpus / "metadata.csv").read_text(encoding="utf-8").splitlines()
    rows = []
    for line in lines:
        name, _, text = line.split("|")
        rows.append(manifest_row(corpus / "wavs" / f"{name}.wav") | {"normalized_transcript": text})
    write_manifest(tmp_path / "all.csv", rows)
    flags = ["--path_to_manifest", tmp_path / "all.csv", "--path_to_save", tmp_path / "mels"]
    save_taco_mels.main([str(flag) for flag in [*flags, "--taco_weights", taco, "--num_workers", 0]])
    for row in rows:
        mel = np.load(tmp_path / "mels" / f"{row['file_path'].stem}.npy", mmap_mode="r")
        assert mel.shape == (80, row["samples"] // 256)


def test_the_saved_mel_is_the_teacher_forced_mel_of_the_unscaled_audio(corpus, tmp_path):
    taco = save_taco(tmp_path / "plain", decoder_prenet_dropout_p=0.0)
    save(corpus, taco, tmp_path / "mels")
    model = load_tacotron2(taco)
    clip = read_manifest(corpus / "test.csv", 22050)[1]
    from tacotron2.dataset import TextMelDataset

    dataset = TextMelDataset([clip], model.config)
    batch = dataset.collate([dataset[0]])
    with torch.inference_mode():
        expected = model(batch["tokens"], batch["token_lengths"], batch["mel"], batch["mel_lengths"]).mel[0]
    saved = np.load(tmp_path / "mels" / f"{clip.path.stem}.npy")
    np.testing.assert_allclose(saved, expected[:, : saved.shape[1]], atol=1e-5)


def test_the_error_is_the_mean_over_all_bins_of_all_clips(corpus, taco, tmp_path):
    model, clips = load_tacotron2(taco), list(read_manifest(corpus / "test.csv", 22050))
    written, error = save_taco_mels.save_mels(model, clips, tmp_path / "mels", MelConfig())
    true = [MelSpectrogram(MelConfig())(torch.from_numpy(read_audio(clip.file)[0])) for clip in clips]
    saved = [torch.from_numpy(np.load(tmp_path / "mels" / f"{clip.path.stem}.npy")) for clip in clips]
    expected = (torch.cat(saved, dim=1) - torch.cat(true, dim=1)).abs().mean()
    assert written == 2 and error == pytest.approx(expected.item(), rel=1e-4)


def test_a_mel_does_not_depend_on_the_batch(corpus, taco, tmp_path):
    """The prenet's dropout is drawn per clip, from the seed and the clip's name."""
    save(corpus, taco, tmp_path / "alone", "--batch_size", 1)
    save(corpus, taco, tmp_path / "together", "--batch_size", 16)
    save(corpus, taco, tmp_path / "other", "--batch_size", 16, "--seed", 5)
    for number in range(3):
        alone, together, other = (
            np.load(tmp_path / folder / f"clip{number}.npy") for folder in ("alone", "together", "other")
        )
        np.testing.assert_allclose(alone, together, atol=1e-5)
        assert np.abs(alone - other).max() > 1e-3


def test_a_second_run_writes_only_missing_mels(corpus, taco, tmp_path, capsys):
    folder = tmp_path / "mels"
    save(corpus, taco, folder)
    (folder / "clip1.npy").unlink()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.npy")}
    save(corpus, taco, folder)
    assert "1 clips saved" in capsys.readouterr().out.splitlines()[-2]
    assert (folder / "clip1.npy").is_file()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    save(corpus, taco, folder)
    assert "0 clips saved" in capsys.readouterr().out
    save(corpus, taco, folder, "--overwrite")
    assert all(path.stat().st_mtime_ns > time for path, time in kept.items())


def change_text(manifest: Path, old: str, new: str) -> None:
    text = manifest.read_text(encoding="utf-8")
    assert old in text
    manifest.write_text(text.replace(old, new), encoding="utf-8")


def test_a_mel_of_another_transcript_is_made_again(corpus, taco, tmp_path, capsys):
    folder = tmp_path / "mels"
    save(corpus, taco, folder)
    before = {path.stem: path.read_bytes() for path in folder.glob("*.npy")}
    change_text(corpus / "test.csv", TEXTS[2], "Quite another text.")
    save(corpus, taco, folder)
    assert "1 clips saved" in capsys.readouterr().out.splitlines()[-2]
    changed = {path.stem for path in folder.glob("*.npy") if path.read_bytes() != before[path.stem]}
    assert changed == {"clip2"}
    save(corpus, taco, folder)
    assert "0 clips saved" in capsys.readouterr().out


def test_a_speaker_matters_only_to_a_model_of_several(corpus, tmp_path, capsys):
    several = save_taco(tmp_path / "several", speakers=("ann", "bob"))
    for model, again in ((several, "2 clips saved"), (save_taco(tmp_path / "one"), "0 clips saved")):
        for names in (("ann", "bob"), ("bob", "ann")):
            spoken = with_speakers(corpus / "train.csv", corpus / "spoken.csv", *names)
            flags = ["--path_to_save", model.parent / "mels", "--taco_weights", model, "--num_workers", 0]
            save_taco_mels.main([str(flag) for flag in ["--path_to_manifest", spoken, *flags]])
        assert f"\n{again}" in capsys.readouterr().out  # not the first line, that of the first run


def test_mels_of_two_seeds_never_share_a_folder(corpus, taco, tmp_path, capsys):
    folder = tmp_path / "mels"
    save(corpus, taco, folder, "--seed", 5)
    before = (folder / "clip0.npy").read_bytes()
    with pytest.raises(SystemExit) as leaving:
        save(corpus, taco, folder)
    error = capsys.readouterr().err
    assert leaving.value.code == 2 and error.count("\n") == 1 and "contains mels of --seed 5" in error
    save(corpus, taco, folder, "--overwrite")
    assert (folder / "clip0.npy").read_bytes() != before


@pytest.mark.parametrize("has_list", [True, False])
def test_a_folder_of_an_older_version_is_continued(corpus, taco, tmp_path, capsys, has_list):
    """Such a folder has no checksums and no seed, and even older ones have no list."""
    folder = tmp_path / "mels"
    save(corpus, taco, folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in settings.items() if k != "seed"}))
    (folder / "mels.txt").unlink()
    if has_list:
        (folder / "mels.txt").write_text("clip0.npy\nclip1.npy\nclip2.npy\n")
    (folder / "clip1.npy").unlink()
    capsys.readouterr()
    for saved in (1, 0):
        save(corpus, taco, folder)
        assert f"{saved} clips saved" in capsys.readouterr().out
    change_text(corpus / "train.csv", TEXTS[0], "Unknown before.")  # of an old mel, which is kept
    change_text(corpus / "train.csv", TEXTS[1], "Another one.")
    change_text(corpus / "test.csv", TEXTS[1], "Another one.")
    save(corpus, taco, folder)
    assert "1 clips saved" in capsys.readouterr().out


def test_a_full_disk_is_named(corpus, taco, tmp_path, capsys):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))  # more than the settings, less than a mel
    try:
        with pytest.raises(SystemExit):
            save(corpus, taco, tmp_path / "mels")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = capsys.readouterr().err
    assert os.strerror(errno.EFBIG) in error and "choose another folder" in error


def test_mels_of_two_models_never_share_a_folder(corpus, taco, tmp_path, capsys):
    save(corpus, taco, tmp_path / "mels")
    other = save_taco(tmp_path / "other", seed=1, frames_per_step=2)
    with pytest.raises(SystemExit) as leaving:
        save(corpus, other, tmp_path / "mels")
    assert leaving.value.code == 2
    assert "another Tacotron 2" in capsys.readouterr().err
    save(corpus, other, tmp_path / "mels", "--overwrite")


def test_overwriting_deletes_the_mels_of_another_model(corpus, taco, tmp_path):
    folder = tmp_path / "mels"
    save(corpus, taco, folder)
    other = save_taco(tmp_path / "other", seed=1, frames_per_step=2)
    flags = ["--path_to_save", folder, "--taco_weights", other, "--num_workers", 0, "--overwrite"]
    save_taco_mels.main([str(flag) for flag in ["--path_to_manifest", corpus / "test.csv", *flags]])
    assert {path.stem for path in folder.glob("*.npy")} == {"clip1", "clip2"}
    kept = {path: path.read_bytes() for path in folder.glob("*.npy")}
    save_taco_mels.main([str(flag) for flag in ["--path_to_manifest", corpus / "train.csv", *flags]])
    assert (folder / "clip2.npy").read_bytes() == kept[folder / "clip2.npy"]  # of the same model: it is kept


def with_speakers(manifest: Path, target: Path, *names: str) -> Path:
    """Write the rows of a manifest with these names in the column speaker."""
    rows = list(csv.DictReader(manifest.read_text().splitlines()))
    return write_manifest(target, [row | {"speaker": name} for row, name in zip(rows, names, strict=True)])


def test_a_model_of_several_speakers_predicts_each_clip_with_its_own(corpus, tmp_path):
    taco = save_taco(tmp_path / "several", speakers=("ann", "bob"), decoder_prenet_dropout_p=0.0)
    manifest = with_speakers(corpus / "train.csv", corpus / "spoken.csv", "bob", "ann")
    arguments = ["--path_to_manifest", manifest, "--path_to_save", tmp_path / "mels", "--num_workers", 0]
    save_taco_mels.main([str(value) for value in [*arguments, "--taco_weights", taco]])
    model = load_tacotron2(taco)
    for clip in read_manifest(manifest, 22050):
        found = np.load(tmp_path / "mels" / f"{clip.path.stem}.npy")
        errors = {}
        for name in ("ann", "bob"):
            ((_, predicted, _),) = save_taco_mels.teacher_forced_mels(
                model.for_speaker(name), [clip], 1, 0, 0
            )
            errors[name] = np.abs(found - predicted.numpy()).max()
        assert errors[clip.speaker] < 1e-4 < max(errors.values()), (clip.path.stem, errors)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (None, "2 clips have no speaker in the manifest's column speaker"),
        (("ann", ""), "1 clips have no speaker in the manifest's column speaker, the first clip1"),
        (("eve", "ann"), "1 clips have a speaker that the model lacks, the first clip0"),
    ],
)
def test_a_clip_of_no_known_speaker_is_refused_before_any_work(corpus, tmp_path, capsys, names, words):
    taco = save_taco(tmp_path / "several", speakers=("ann", "bob"))
    manifest = corpus / "train.csv"
    if names:
        manifest = with_speakers(manifest, corpus / "spoken.csv", *names)
    arguments = ["--path_to_manifest", manifest, "--path_to_save", tmp_path / "mels", "--taco_weights", taco]
    with pytest.raises(SystemExit) as leaving:
        save_taco_mels.main([str(value) for value in arguments])
    error = capsys.readouterr().err
    assert leaving.value.code == 2 and error.count("\n") == 1
    assert words in error and "the model's speakers: ann, bob" in error
    assert not (tmp_path / "mels").exists()


def test_mels_of_clips_that_share_a_name_are_in_folders(corpus, taco, tmp_path):
    twin = tmp_path / "elsewhere" / "clip0.wav"
    write_wav(twin, voice(0.4), 22050)
    write_manifest(tmp_path / "twins.csv", [manifest_row(twin) | {"normalized_transcript": "Twin."}])
    flags = ["--path_to_save", tmp_path / "mels", "--taco_weights", taco, "--num_workers", 0]
    manifests = ["--path_to_manifest", corpus / "train.csv", tmp_path / "twins.csv"]
    save_taco_mels.main([str(flag) for flag in [*manifests, *flags]])
    save(corpus, taco, tmp_path / "mels")  # its clips have different names, but the folder keeps its layout
    names = {str(path.relative_to(tmp_path / "mels")) for path in (tmp_path / "mels").rglob("*.npy")}
    assert names == {"elsewhere/clip0.npy", "wavs/clip0.npy", "wavs/clip1.npy", "wavs/clip2.npy"}
    for name in ("train.csv", "twins.csv"):
        clips = read_manifest(tmp_path / name, 22050)
        mels = SavedMels(tmp_path / "mels", MelConfig(), clips)
        assert [mels.open(clip).shape[1] for clip in clips] == [clip.samples // 256 for clip in clips]


def test_clips_that_share_a_name_are_refused_in_a_folder_without_folders(corpus, taco, tmp_path, capsys):
    save(corpus, taco, tmp_path / "mels")
    twin = tmp_path / "elsewhere" / "clip0.wav"
    write_wav(twin, voice(0.4), 22050)
    write_manifest(tmp_path / "train.csv", [manifest_row(twin) | {"normalized_transcript": "Twin."}])
    write_manifest(tmp_path / "test.csv", [manifest_row(tmp_path / "wavs" / "clip0.wav")])
    with pytest.raises(SystemExit) as leaving:
        save(corpus, taco, tmp_path / "mels")
    error = capsys.readouterr().err
    assert leaving.value.code == 2 and error.count("\n") == 1 and "clip0.npy" in error


def test_a_mel_of_another_clip_with_the_same_name_is_refused(corpus, taco, tmp_path, capsys):
    save(corpus, taco, tmp_path / "mels")
    before = (tmp_path / "mels" / "clip0.npy").read_bytes()
    twin = tmp_path / "elsewhere" / "clip0.wav"
    write_wav(twin, voice(0.4), 22050)
    for name in ("train.csv", "test.csv"):
        write_manifest(tmp_path / name, [manifest_row(twin) | {"normalized_transcript": "Twin."}])
    with pytest.raises(SystemExit) as leaving:
        save(corpus, taco, tmp_path / "mels")
    error = capsys.readouterr().err
    assert leaving.value.code == 2 and error.count("\n") == 1 and "another clip" in error
    assert (tmp_path / "mels" / "clip0.npy").read_bytes() == before
    save(corpus, taco, tmp_path / "mels", "--overwrite")
    assert np.load(tmp_path / "mels" / "clip0.npy").shape == (80, int(0.4 * 22050) // 256)


def test_another_scale_is_converted_and_other_mel_settings_are_refused(corpus, taco, tmp_path, capsys):
    save(corpus, taco, tmp_path / "db")
    save(corpus, taco, tmp_path / "ln", "--mel_scale", "ln")
    db, ln = (np.load(tmp_path / scale / "clip2.npy") for scale in ("db", "ln"))
    np.testing.assert_allclose(MelConfig().to_ln(db), ln, atol=1e-4)
    assert json.loads((tmp_path / "ln" / "config.json").read_text())["mel_scale"] == "ln"
    with pytest.raises(SystemExit) as leaving:
        save(corpus, taco, tmp_path / "other", "--fmax", "7600")
    assert leaving.value.code == 2
    assert "fmax is 8000.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--taco_weights", "nowhere"], "nowhere"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--batch_size", "0"], "--batch_size is 0"),
    ],
)
def test_user_errors_are_one_line(corpus, taco, tmp_path, capsys, flags, words):
    with pytest.raises(SystemExit) as leaving:
        save(corpus, taco, tmp_path / "mels", *flags)
    error = capsys.readouterr().err
    assert leaving.value.code == 2 and words in error and error.count("\n") == 1


@pytest.mark.skipif(available_cores() < 2, reason="needs two cores")
def test_two_processes_share_the_clips_continue_after_a_kill_and_save_what_one_does(taco, tmp_path):
    rows = []
    for number in range(30):
        wav = tmp_path / "many" / f"many{number}.wav"
        write_wav(wav, voice(0.4 + 0.01 * number, seed=number), 22050)
        rows.append(manifest_row(wav) | {"normalized_transcript": "Many words are said here."})
    write_manifest(tmp_path / "many.csv", rows)
    folder = tmp_path / "mels"
    flags = ["--path_to_manifest", tmp_path / "many.csv", "--taco_weights", taco, "--num_workers", 0]
    flags = [*map(str, flags), "--path_to_save"]
    processes = fork_two(save_taco_mels.main, [*flags, folder, "--batch_size", 1])
    wait_until(lambda: len(list(folder.glob("many*.npy"))) >= 3, processes[0], seconds=120)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        process.communicate()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("many*.npy")}
    assert len(before) < 30, "the machine is too busy for this test"
    command = [*TORCHRUN, "save_taco_mels.py", *flags, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"{30 - len(before)} clips saved" in done.stdout and done.stdout.count("mel error") == 1
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    clips = read_manifest(tmp_path / "many.csv", 22050)
    SavedMels(folder, MelConfig(), clips)  # each has a mel of its length

    save_taco_mels.main([*flags, str(tmp_path / "alone"), "--batch_size", "1"])
    for path in folder.glob("many*.npy"):
        np.testing.assert_allclose(np.load(path), np.load(tmp_path / "alone" / path.name), atol=1e-5)


def test_a_corpus_without_speakers_is_read_as_one_speaker_of_a_model(corpus, tmp_path, capsys):
    model = save_taco(tmp_path, speakers=("ann", "bob"))
    arguments = [
        "--path_to_manifest",
        str(corpus / "train.csv"),
        "--taco_weights",
        str(model),
        "--num_workers",
        "0",
    ]
    for speaker in ("ann", "bob"):
        save_taco_mels.main([*arguments, "--path_to_save", str(tmp_path / speaker), "--speaker", speaker])
    ann, bob = (np.load(tmp_path / speaker / "clip0.npy") for speaker in ("ann", "bob"))
    assert ann.shape == bob.shape and not np.allclose(ann, bob)
    with pytest.raises(SystemExit):
        save_taco_mels.main([*arguments, "--path_to_save", str(tmp_path / "none")])
    assert "--speaker" in capsys.readouterr().err


def test_overwriting_leaves_other_npy_files_alone(corpus, taco, tmp_path):
    folder = tmp_path / "mels"
    save(corpus, taco, folder)
    others = [folder / "embeddings.npy", folder / "notes" / "clip0.npy"]
    others[1].parent.mkdir()
    for path in others:
        np.save(path, np.arange(5))
    before = {path: path.read_bytes() for path in (*others, folder / "clip0.npy")}
    save(corpus, save_taco(tmp_path / "other", seed=1, frames_per_step=2), folder, "--overwrite")
    assert all(path.read_bytes() == before[path] for path in others)
    assert (folder / "clip0.npy").read_bytes() != before[folder / "clip0.npy"]


def test_mels_of_a_tacotron_2_after_one_step_fit_their_audio(shared, tmp_path):
    wavs = shared / "data" / "ljspeech-mini" / "wavs"
    names = ["LJ001-0002", "LJ001-0008", "LJ001-0013", "LJ011-0202"]
    texts = dict(line.split("|")[::2] for line in (wavs.parent / "metadata.csv").read_text().splitlines())
    rows = [manifest_row(wavs / f"{name}.wav") | {"normalized_transcript": texts[name]} for name in names]
    for split in ("train", "test"):
        write_manifest(tmp_path / f"{split}.csv", rows)
    run = train_tacotron2_here(tmp_path, tmp_path / "run", training_epochs=1, batch_size=4)
    save(tmp_path, run / "final_checkpoint", tmp_path / "mels")
    clips = read_manifest(tmp_path / "train.csv", 22050)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SavedMels(tmp_path / "mels", MelConfig(), clips)


def test_mels_of_louder_audio_are_accepted_with_a_warning(shared, tmp_path):
    wav = shared / "data" / "ljspeech-mini" / "wavs" / "LJ001-0002.wav"
    write_manifest(tmp_path / "train.csv", [manifest_row(wav)])
    clips = read_manifest(tmp_path / "train.csv", 22050)
    mel = MelSpectrogram(MelConfig())(torch.from_numpy(read_audio(wav)[0])).numpy()
    np.save(tmp_path / "LJ001-0002.npy", mel + 2)
    with pytest.warns(UserWarning, match="LJ001-0002 .*louder or quieter"):
        SavedMels(tmp_path, MelConfig(), clips)
