"""`train.py`: flags, files and user errors, tested with complete runs of a small model."""

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from forked import Forked, complete, fork_two
from helpers import RATE, ROOT, save_official, small_config, voice
from runs import (
    PYTHON,
    command_line,
    different_weights,
    finish,
    manifest_row,
    metrics,
    refused,
    start,
    train_here,
    weights,
    write_manifest,
)
from safetensors.torch import load_file

from checkpoint import load_generator, save_model
from common.parallel import available_cores
from config import HiFiGANConfig
from generators.build import Discriminators
from mel import MelConfig, MelSpectrogram, convert_mel_scale
from model import Generator
from train import build_parser, main, parse_arguments
from training.run import MAX_NON_FINITE_IN_A_ROW

TRAIN_KEYS = {"gen_loss", "disc_loss", "mel_loss", "learning_rate", "frames_per_second"}
CONFIG = {"resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1, 3),)}  # of `runs.SMALL_MODEL`


def parsed(corpus: Path, folder: Path, **settings):
    return parse_arguments(command_line(corpus, folder, **settings))


@pytest.fixture(scope="module")
def short_run(small_corpus, tmp_path_factory) -> Path:
    """A run of two epochs with four steps each."""
    return train_here(small_corpus, tmp_path_factory.mktemp("short_run") / "run", training_epochs=2)


def test_the_log_has_a_line_for_each_step_and_each_validation(short_run):
    records = metrics(short_run)
    kinds = [(record["split"], record["step"], record["epoch"]) for record in records]
    first = [("train", step, 0) for step in range(4)] + [("val", 3, 0)]
    assert kinds == first + [("train", step, 1) for step in range(4, 8)] + [("val", 7, 1)]
    for record in records:
        wanted = TRAIN_KEYS if record["split"] == "train" else {"val_mel_loss"}
        assert wanted <= record.keys()
        assert all(np.isfinite(record[name]) for name in wanted)
    assert records[-2]["mel_loss"] < 0.9 * records[0]["mel_loss"]  # and the loss decreases


def test_the_logged_losses_add_up_to_the_total_loss(short_run):
    for record in metrics(short_run, "train"):
        parts = record["adversarial_loss"] + 2 * record["feature_matching_loss"] + 45 * record["mel_loss"]
        assert record["gen_loss"] == pytest.approx(parts, rel=1e-6)


def test_checkpoints_can_be_loaded_for_inference(short_run):
    names = {path.name for path in short_run.iterdir()}
    assert names == {"checkpoint_1", "checkpoint_2", "final_checkpoint", "metrics.jsonl", ".lock"}
    for name in ("checkpoint_1", "final_checkpoint"):
        generator = load_generator(short_run / name)
        assert generator.config == small_config(**CONFIG, mpd_periods=(2, 3), msd_num_downsamples=1)
        audio = generator(torch.zeros(1, 80, 10))
        assert audio.shape == (1, 1, 2560)
    assert different_weights(short_run / "checkpoint_2", short_run / "final_checkpoint") == []


def test_validation_is_the_mean_over_all_mel_bins_of_the_clips(short_run, small_corpus):
    """The mean of the clips' means would differ, because these clips have different lengths."""
    generator = load_generator(short_run / "final_checkpoint")
    to_mel, for_loss = MelSpectrogram(MelConfig()), MelSpectrogram(MelConfig(fmax=None))
    difference = bins = 0
    for row in (small_corpus / "test.csv").read_text().splitlines()[1:]:
        audio = torch.from_numpy(soundfile.read(row.split(",")[0], dtype="float32")[0])
        audio = (audio * 0.95 / audio.abs().max())[: len(audio) // 256 * 256]
        with torch.no_grad():
            generated = for_loss(generator(to_mel(audio[None]))[0])
        difference += (for_loss(audio[None]) - generated).abs().sum().item()
        bins += generated.numel()
    assert metrics(short_run, "val")[-1]["val_mel_loss"] == pytest.approx(difference / bins, rel=1e-5)


def test_intervals_and_limits_follow_their_flags(small_corpus, tmp_path):
    settings = {"batch_size": 4, "console_out_iters": 3, "checkpoint_epochs": 2, "keep_checkpoints": 2}
    folder = train_here(small_corpus, tmp_path / "run", **settings, max_train_steps=15, training_epochs=50)
    assert [record["step"] for record in metrics(folder, "train")] == [0, 3, 6, 9, 12]
    assert [record["step"] for record in metrics(folder, "val")] == [1, 3, 5, 7, 9, 11, 13, 14]
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    assert names == {"checkpoint_4", "checkpoint_6", "final_checkpoint"}
    progress = json.loads((folder / "final_checkpoint" / "progress.json").read_text())
    assert (progress["step"], progress["epoch"], progress["clips_in_epoch"]) == (15, 7, 4)


def test_a_corpus_smaller_than_a_batch_is_repeated(small_corpus, tmp_path, capsys):
    folder = train_here(small_corpus, tmp_path / "run", batch_size=20, training_epochs=1)
    assert len(metrics(folder, "train")) == 1
    assert "8 clips are fewer than the 20 of one step" in capsys.readouterr().out


def test_too_many_workers_are_reported_once_and_do_not_change_training(
    small_corpus, short_run, tmp_path, capsys
):
    folder = train_here(small_corpus, tmp_path / "run", training_epochs=2, num_workers=10_000)
    cores = available_cores()
    said = capsys.readouterr().out
    assert said.count(f"--num_workers 10000 is more than the {cores} cores here: using {cores}") == 1
    assert different_weights(folder / "final_checkpoint", short_run / "final_checkpoint") == []


def test_training_depends_only_on_the_seed(small_corpus, short_run, tmp_path):
    again = train_here(small_corpus, tmp_path / "again", training_epochs=2, seed=1234)
    other = train_here(small_corpus, tmp_path / "other", training_epochs=2, seed=1)
    assert different_weights(again / "final_checkpoint", short_run / "final_checkpoint") == []
    assert len(different_weights(other / "final_checkpoint", short_run / "final_checkpoint")) > 50


@pytest.mark.parametrize(
    "name, value",
    [
        ("learning_rate", 0.001), ("beta1", 0.5), ("beta2", 0.9), ("lr_decay", 0.5), ("lambda_mel", 1.0),
        ("lambda_feature_mapping", 20.0), ("fmax_loss", 4000), ("segment_size", 2304), ("fmin", 50),
        ("mel_scale", "ln"), ("min_db", -80), ("max_scaled_abs", 1),
    ],
)  # fmt: skip
def test_every_numeric_option_changes_training(small_corpus, short_run, tmp_path, name, value):
    """The tutorial code parses several flags that it does not use."""
    settings = {"training_epochs": 2, "max_train_steps": 5, name: value}
    folder = train_here(small_corpus, tmp_path / "run", **settings)
    mine, usual = metrics(folder, "train"), metrics(short_run, "train")
    assert any(mine[4][loss] != usual[4][loss] for loss in ("gen_loss", "disc_loss", "mel_loss"))


def test_mixed_precision_trains_to_nearly_the_same_losses(small_corpus, short_run, tmp_path):
    folder = train_here(
        small_corpus, tmp_path / "run", training_epochs=2, max_train_steps=3, mixed_precision="bf16"
    )
    for mine, usual in zip(metrics(folder, "train"), metrics(short_run, "train"), strict=False):
        for name in ("disc_loss", "adversarial_loss"):  # the mel of an untrained model is mostly rounding
            assert mine[name] == pytest.approx(usual[name], rel=0.01)
        assert mine["disc_loss"] != usual["disc_loss"]
        assert np.isfinite(mine["mel_loss"]) and mine["skipped_steps"] == 0
    assert all(tensor.dtype == torch.float32 for tensor in weights(folder / "final_checkpoint").values())


@pytest.fixture(scope="module")
def corpus_with_a_broken_clip(small_corpus, tmp_path_factory) -> Path:
    """One of eight clips contains NaN.

    The manifest states length and peak, so the clip is not read before.
    """
    return break_clips(small_corpus, tmp_path_factory.mktemp("broken"), number=1)


def break_clips(corpus: Path, folder: Path, number: int) -> Path:
    shutil.copy(corpus / "test.csv", folder)
    rows = [manifest_row(wav) for wav in sorted((corpus / "wavs").iterdir())[:8]]
    soundfile.write(folder / "nan.wav", np.full(9000, np.nan, np.float32), RATE, subtype="FLOAT")
    broken = {**manifest_row(folder / "nan.wav"), "peak": 0.5}
    write_manifest(folder / "train.csv", [broken] * number + rows[number:])
    return folder


def test_a_step_with_non_finite_losses_is_skipped_and_counted(corpus_with_a_broken_clip, tmp_path):
    folder = train_here(corpus_with_a_broken_clip, tmp_path / "run", training_epochs=3)
    records = metrics(folder, "train")
    for epoch in range(3):  # each clip once per epoch
        skipped = [r["step"] for r in records if r["epoch"] == epoch and r["disc_loss"] is None]
        assert len(skipped) == 1
    assert records[-1]["skipped_steps"] == 3
    assert all(tensor.isfinite().all() for tensor in weights(folder / "final_checkpoint").values())
    assert all(np.isfinite(record["val_mel_loss"]) for record in metrics(folder, "val"))


def test_too_many_skipped_steps_end_the_run_and_name_the_last_good_checkpoint(
    small_corpus, short_run, tmp_path, capsys
):
    folder = tmp_path / "run"
    shutil.copytree(short_run, folder)
    shutil.rmtree(folder / "final_checkpoint")
    (tmp_path / "broken").mkdir()
    broken = break_clips(small_corpus, tmp_path / "broken", number=8)
    settings = {"training_epochs": 100, "resume_from_checkpoint": "latest", "checkpoint_epochs": 5}
    line = refused(capsys, broken, folder, **settings, keep_checkpoints=1)
    assert f"{MAX_NON_FINITE_IN_A_ROW + 1} steps in a row" in line
    assert (folder / "checkpoint_10").is_dir()  # saved later, while steps were being skipped
    assert str(folder / "checkpoint_2") in line and (folder / "checkpoint_2").is_dir()


def wandb_files(folder: Path, pattern: str) -> list[Path]:
    return list((folder / "wandb").glob(f"offline-run-*/{pattern}"))


@pytest.mark.parametrize("key", [None, "too-short-to-be-a-key"])
def test_a_run_without_a_wandb_login_logs_offline(small_corpus, tmp_path, key):
    folder = tmp_path / "run"
    arguments = command_line(small_corpus, folder, training_epochs=1, max_train_steps=1, log_wandb=True)
    nothing = {name: None for name in os.environ if name.startswith(("WANDB_", "XDG_"))}
    nothing |= {"HOME": str(tmp_path), "WANDB_API_KEY": key}
    said = complete([Forked(main, arguments, **nothing)], timeout=90)
    assert "No Weights & Biases login: logging offline" in said
    assert len(wandb_files(folder, "run-*.wandb")) == 1


def test_a_run_without_a_network_logs_offline(small_corpus, tmp_path, monkeypatch, capsys):
    """With a login. Weights & Biases retries for 30 s, so the test replaces its `init`."""
    import wandb
    from wandb.errors import CommError

    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("WANDB_MODE", "online")
    modes, real_init = [], wandb.init

    def init(**options):
        modes.append(options.get("mode"))
        if options.get("mode") != "offline":
            raise CommError("no such host")
        return real_init(**options)

    monkeypatch.setattr(wandb, "init", init)
    train_here(small_corpus, tmp_path / "run", training_epochs=1, max_train_steps=1, log_wandb=True)
    assert modes == [None, "offline"]
    assert "can't be reached (no such host): logging offline" in capsys.readouterr().out
    assert len(wandb_files(tmp_path / "run", "run-*.wandb")) == 1


@pytest.fixture(scope="module")
def saved_mels(small_corpus, tmp_path_factory) -> Path:
    """Mels of the unscaled audio, half of them with a batch dimension, with their settings."""
    return save_mels(small_corpus, tmp_path_factory.mktemp("mels"), MelConfig())


def save_mels(corpus: Path, folder: Path, config: MelConfig) -> Path:
    to_mel = MelSpectrogram(config)
    for number, wav in enumerate(sorted((corpus / "wavs").iterdir())):
        mel = to_mel(torch.from_numpy(soundfile.read(wav, dtype="float32")[0])).numpy()
        np.save(folder / f"{wav.stem}.npy", mel if number % 2 else mel[None])
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    return folder


def test_fine_tuning_starts_from_the_model_and_lowers_the_loss(small_corpus, saved_mels, short_run, tmp_path):
    start_from = short_run / "final_checkpoint"
    folder = train_here(
        small_corpus, tmp_path / "run", training_epochs=3, learning_rate=0.001, finetune=True,
        path_to_saved_mels=saved_mels, path_to_pretrained_weights=start_from,
    )  # fmt: skip
    first, *_, last = [record["val_mel_loss"] for record in metrics(folder, "val")]
    assert metrics(folder)[0]["mel_loss"] < 0.9 * metrics(short_run)[0]["mel_loss"]  # not from random weights
    assert last < 0.95 * first


def test_fine_tuning_compares_audio_generated_from_saved_mels_with_unscaled_audio(
    small_corpus, saved_mels, short_run, tmp_path
):
    """With mels that are not those of the audio, and audio that is not scaled to a peak."""
    mels, model = tmp_path / "mels", short_run / "final_checkpoint"
    shutil.copytree(saved_mels, mels)
    for path in mels.glob("*.npy"):
        mel = np.load(path)  # a poor prediction: noise, in a fixed order
        np.save(path, mel + np.random.default_rng(0).normal(size=mel.shape).astype(np.float32))
    settings = {"path_to_saved_mels": mels, "path_to_pretrained_weights": model, "learning_rate": 1e-12}
    folder = train_here(
        small_corpus, tmp_path / "run", **settings, finetune=True, training_epochs=1, max_train_steps=1
    )
    generator, for_loss = load_generator(model), MelSpectrogram(MelConfig(fmax=None))
    difference = bins = 0
    for clip in ("clip8", "clip9"):
        mel = torch.from_numpy(np.load(mels / f"{clip}.npy")).view(1, 80, -1)
        audio = torch.from_numpy(soundfile.read(small_corpus / "wavs" / f"{clip}.wav", dtype="float32")[0])
        audio = audio[None, : mel.shape[-1] * 256]
        with torch.no_grad():
            errors = for_loss(generator(mel)[:, 0]) - for_loss(audio)
        difference, bins = difference + errors.abs().sum().item(), bins + errors.numel()
    (validation,) = metrics(folder, "val")
    assert validation["val_mel_loss"] == pytest.approx(difference / bins, rel=1e-4)


def test_a_missing_or_wrong_mel_is_reported_before_training(small_corpus, saved_mels, tmp_path, capsys):
    mels = tmp_path / "mels"
    shutil.copytree(saved_mels, mels)
    (mels / "clip3.npy").unlink()
    mel = np.load(mels / "clip9.npy")
    np.save(mels / "clip9.npy", mel[..., :-1])
    line = refused(capsys, small_corpus, tmp_path / "run", finetune=True, path_to_saved_mels=mels)
    assert "2 of 10 clips" in line and "clip3 (no file" in line and "clip9 (its mel is" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(available_cores() < 2, reason="two processes")
def test_only_the_main_process_checks_files_and_ends_the_others(small_corpus, saved_mels, tmp_path):
    mels = tmp_path / "mels"
    shutil.copytree(saved_mels, mels)
    (mels / "clip3.npy").unlink()
    flags = command_line(small_corpus, tmp_path / "run", finetune=True, path_to_saved_mels=mels)
    ends = [finish(process) for process in fork_two(main, flags)]
    assert [status for status, _, _ in ends] == [2, 2]
    assert "clip3 (no file" in ends[0][2] and ends[1][2] == ""


def test_mels_made_with_other_settings_are_refused_with_both_values(small_corpus, tmp_path, capsys):
    (tmp_path / "mels").mkdir()
    mels = save_mels(small_corpus, tmp_path / "mels", MelConfig(mel_scale="ln", fmin=30.0))
    line = refused(capsys, small_corpus, tmp_path / "run", finetune=True, path_to_saved_mels=mels)
    assert re.search(r"fmin is 30.0 in .* but 0.0 in .*; mel_scale is ln in .* but db in ", line)


def test_finetune_and_path_to_saved_mels_require_each_other(small_corpus, saved_mels, tmp_path, capsys):
    for settings in ({"finetune": True}, {"path_to_saved_mels": saved_mels}):
        line = refused(capsys, small_corpus, tmp_path / "run", **settings)
        assert "--finetune and --path_to_saved_mels need each other" in line


# Unset here, so that the pretrained model or the configuration file determines them.
DISCRIMINATOR_SIZES = {"mpd_periods": None, "msd_num_downsamples": None, "discriminator_channels": None}
GENERATOR_SIZES = {"upsample_initial_channel": None, "resblock_kernel_sizes": None}
GENERATOR_SIZES |= {"resblock_dilation_sizes": None}


def test_a_pretrained_folder_provides_its_three_models_and_their_sizes(
    small_corpus, short_run, tmp_path, capsys
):
    folder = train_here(
        small_corpus, tmp_path / "run", training_epochs=1, max_train_steps=1, learning_rate=1e-12,
        path_to_pretrained_weights=short_run / "final_checkpoint", **GENERATOR_SIZES, **DISCRIMINATOR_SIZES,
    )  # fmt: skip
    assert "from scratch" not in capsys.readouterr().out
    ours, theirs = weights(folder / "final_checkpoint"), weights(short_run / "final_checkpoint")
    for name in ours:
        if not name.endswith(("._u", "._v")):
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-6, atol=1e-7, msg=name)


def test_official_files_provide_generator_and_discriminators(small_corpus, tmp_path, capsys):
    """`g_00000010` and `do_00000010`: pickles with the names of PyTorch's old weight norm."""
    torch.manual_seed(6)
    config = small_config(mel_scale="ln")
    generator, discriminators = Generator(config), Discriminators(config)
    models = {"generator": generator, "mpd": discriminators.mpd, "msd": discriminators.msd}
    official = save_official(tmp_path / "official", config, steps=10, **models)
    assert official.name == "g_00000010"
    # official files do not state the discriminators' width, so the flags must
    folder = train_here(
        small_corpus, tmp_path / "run", training_epochs=1, max_train_steps=1, learning_rate=1e-12,
        path_to_pretrained_weights=official, **GENERATOR_SIZES,
    )  # fmt: skip
    said = capsys.readouterr().out
    assert f"mpd from {official.with_name('do_00000010')}" in said and "from scratch" not in said
    assert json.loads((folder / "final_checkpoint" / "config.json").read_text())["mel_scale"] == "ln"
    for name, model in models.items():
        trained = load_file(folder / "final_checkpoint" / f"{name}.safetensors")
        for key, tensor in model.state_dict().items():
            if not key.endswith(("._u", "._v")):
                torch.testing.assert_close(trained[key], tensor, rtol=1e-6, atol=1e-7, msg=key)


def test_a_pretrained_model_of_another_mel_scale_is_converted_and_sounds_the_same(
    small_corpus, tmp_path, capsys
):
    torch.manual_seed(7)
    config = small_config(mel_scale="ln")
    generator = Generator(config)
    official = save_official(tmp_path / "official", config, generator=generator)
    folder = train_here(
        small_corpus, tmp_path / "run", training_epochs=1, max_train_steps=1, learning_rate=1e-12,
        path_to_pretrained_weights=official, mel_scale="db", **GENERATOR_SIZES,
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "converted from ln to db" in said and "mpd from scratch" in said
    converted = load_generator(folder / "final_checkpoint")
    assert converted.config.mel_scale == "db"
    mel = MelSpectrogram(config)(torch.from_numpy(voice(1.0))[None])
    with torch.no_grad():
        before, after = generator(mel), converted(convert_mel_scale(mel, config, converted.config))
    inside = slice(2048, -2048)  # except for frames affected by the padding at the ends
    torch.testing.assert_close(after[..., inside], before[..., inside], rtol=1e-3, atol=1e-5)


class Payload:
    def __reduce__(self):
        return os.mkdir, (str(Path(os.environ["PAYLOAD"])),)


def test_a_pickle_with_other_objects_than_tensors_is_refused_and_not_executed(
    small_corpus, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("PAYLOAD", str(tmp_path / "it_ran"))
    official = save_official(tmp_path / "official", small_config(), generator=Generator(small_config()))
    torch.save({"generator": Payload()}, official)
    line = refused(
        capsys, small_corpus, tmp_path / "run", path_to_pretrained_weights=official, **GENERATOR_SIZES
    )
    assert "is refused" in line and "could run code" in line
    assert not (tmp_path / "it_ran").exists()


def test_an_incompatible_pretrained_model_is_refused(small_corpus, tmp_path, capsys):
    small = small_config(upsample_initial_channel=32, **CONFIG)
    save_model(tmp_path / "model", small, generator=Generator(small))
    settings = {"path_to_pretrained_weights": tmp_path / "model"}
    line = refused(capsys, small_corpus, tmp_path / "run", **settings, upsample_initial_channel=16)
    assert "does not fit" in line
    line = refused(capsys, small_corpus, tmp_path / "run2", **settings, fmin=50, upsample_initial_channel=32)
    assert "fmin is 0.0 in" in line and "but 50.0 in" in line
    line = refused(capsys, small_corpus, tmp_path / "run3", path_to_pretrained_weights=tmp_path / "nothing")
    assert "there is no" in line


def save_json(path: Path, **values) -> Path:
    path.write_text(json.dumps(values))
    return path


def test_flags_override_a_config_file(small_corpus, tmp_path):
    official = save_json(
        tmp_path / "config.json", resblock="2", learning_rate=0.5, adam_b1=0.6, adam_b2=0.7, lr_decay=0.8,
        batch_size=3, seed=9, segment_size=4096, win_size=800, fmax_for_loss=None, fmax=7000, num_gpus=0,
        upsample_rates=[16, 16], upsample_kernel_sizes=[32, 32], dist_config={"world_size": 1},
        resblock_kernel_sizes=[3, 5], resblock_dilation_sizes=[[1, 2], [2, 6]],
    )  # fmt: skip
    left_out = {"segment_size": None, **GENERATOR_SIZES}
    args, config = parsed(small_corpus, tmp_path / "run", config=official, **left_out, beta2=0.99)
    assert (args.learning_rate, args.beta1, args.lr_decay, args.seed) == (0.5, 0.6, 0.8, 9)
    assert (args.segment_size, config.window_size, config.fmax, config.fmax_loss) == (4096, 800, 7000, None)
    assert (config.resblock, config.upsample_rates) == ("2", (16, 16))
    assert config.resblock_dilation_sizes == ((1, 2), (2, 6))
    assert (args.batch_size, args.beta2) == (2, 0.99)  # flags on the command line
    assert config.mel_scale == "ln"  # the official code's mel scale, which its files do not state
    _, config = parsed(small_corpus, tmp_path / "run", config=official, **left_out, mel_scale="db")
    assert config.mel_scale == "db"


@pytest.mark.parametrize("name", ["v1", "v2", "v3"])
def test_all_values_of_the_presets_are_read(small_corpus, tmp_path, name):
    path = ROOT / "configs" / f"{name}.json"
    nothing = {**GENERATOR_SIZES, **DISCRIMINATOR_SIZES, "segment_size": None, "batch_size": None}
    args, config = parsed(small_corpus, tmp_path / "run", config=path, **nothing)
    renamed = {"adam_b1": "beta1", "adam_b2": "beta2"}
    renamed |= {"win_size": "window_size", "fmax_for_loss": "fmax_loss"}
    both = {**vars(args), **config.to_dict()}
    for key, value in json.loads(path.read_text()).items():
        assert json.loads(json.dumps(both[renamed.get(key, key)])) == value, key


def test_a_run_from_a_config_file_trains(small_corpus, tmp_path):
    """V3's blocks with few channels, on an official filelist."""
    config = json.loads((ROOT / "configs" / "v3.json").read_text()) | {"upsample_initial_channel": 16}
    path = save_json(tmp_path / "config.json", **config)
    for split, numbers in (("train", range(4, 8)), ("val", range(8, 10))):
        lines = [f"clip{number}|a text|a text\n" for number in numbers]
        (tmp_path / f"{split}.txt").write_text("".join(lines))
    folder = train_here(
        small_corpus, tmp_path / "run", config=path, training_epochs=1, **GENERATOR_SIZES,
        path_to_train_manifest=tmp_path / "train.txt", path_to_val_manifest=tmp_path / "val.txt",
        input_wavs_dir=small_corpus / "wavs",
    )  # fmt: skip
    assert load_generator(folder / "final_checkpoint").config.mel_scale == "ln"
    assert len(metrics(folder, "train")) == 2


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "can't read the configuration"),
        ("[1]", "does not contain a JSON object"),
        ('{"upsample_rates": 8}', "wrong type"),
        ('{"upsample_rates": [8, 8, 2, 4]}', "8 x 8 x 2 x 4 = 512, but hop_size is 256"),
        ('{"n_fft": "many"}', "wrong type"),
        ('{"learning_rate": "fast"}', "learning_rate"),
        ('{"batch_size": [16]}', "batch_size"),
        ('{"batch_size": 1.5}', "batch_size"),
        ('{"n_fft": null}', "wrong type"),
        ('{"learning_rate": null, "num_workers": null}', None),
        ('{"segment_size": "8192"}', None),
        ('{"resblock": 1}', None),
    ],
)
def test_mistakes_in_a_config_file_are_user_errors(small_corpus, tmp_path, capsys, text, words):
    (tmp_path / "config.json").write_text(text)
    left_out = {"batch_size": None, "segment_size": None, "num_workers": None}
    if words is None:
        parsed(small_corpus, tmp_path / "run", config=tmp_path / "config.json", **left_out)
    else:
        line = refused(capsys, small_corpus, tmp_path / "run", config=tmp_path / "config.json", **left_out)
        assert words in line


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"path_to_train_manifest": "nowhere.csv"}, ["nowhere.csv", "prep_splits.py"]),
        ({"segment_size": 8000}, ["segment_size is 8000", "multiple of hop_size 256"]),
        ({"segment_size": 256}, ["segment_size is 256", "at least"]),
        ({"upsample_rates": [8, 8, 2, 4]}, ["8 x 8 x 2 x 4 = 512", "hop_size is 256"]),
        ({"upsample_kernel_sizes": [16, 16, 4]}, ["3 entries", "4"]),
        ({"upsample_kernel_sizes": [16, 15, 4, 4]}, ["kernel - rate = 7", "even"]),
        ({"resblock_dilation_sizes": "__import__('os')"}, ["resblock_dilation_sizes", "((1,3,5)"]),
        ({"sampling_rate": 16000}, ["8 of 8 clips", "22050 Hz, not 16000 Hz"]),
        ({"batch_size": 0}, ["--batch_size is 0"]),
        ({"batch_size": "many"}, ["--batch_size", "many"]),
        ({"num_workers": -1}, ["--num_workers"]),
        ({"config": "nowhere.json"}, ["nowhere.json"]),
        ({"fmax": 12000}, ["fmax", "11025"]),
        ({"mixed_precision": "fp8"}, ["--mixed_precision", "fp8"]),
        ({"trainning_epochs": 5}, ["--trainning_epochs"]),
    ],
)
def test_a_user_error_is_one_line(small_corpus, tmp_path, capsys, settings, words):
    line = refused(capsys, small_corpus, tmp_path / "run", **settings)
    missing = [word for word in words if word not in line]
    assert not missing, line
    assert not (tmp_path / "run").exists()


def test_nothing_but_the_user_error_is_printed(small_corpus, tmp_path):
    broken = tmp_path / "train.csv"
    text = (small_corpus / "train.csv").read_text()
    broken.write_text(text.replace("clip3.wav", "clip33.wav"))
    arguments = command_line(small_corpus, tmp_path / "run", path_to_train_manifest=broken)
    status, out, err = finish(start(PYTHON, arguments))
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("train.py: error: 1 of 8 clips") and "clip33.wav: file is missing" in err


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_clip_shorter_than_in_the_manifest_is_named(small_corpus, tmp_path, capsys, num_workers):
    """Detected in the main process or in a worker, whose errors arrive wrapped in a traceback."""
    rows = [manifest_row(wav) for wav in sorted((small_corpus / "wavs").iterdir())[:8]]
    rows[5] |= {"samples": 90_000, "duration": 90_000 / RATE}
    manifest = write_manifest(tmp_path / "train.csv", rows)
    line = refused(
        capsys, small_corpus, tmp_path / "run", path_to_train_manifest=manifest, num_workers=num_workers
    )
    assert re.search(r"error: \S*clip5.wav is shorter than its manifest states", line)


def test_help_describes_every_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_arguments(["--help"])
    assert stop.value.code == 0
    flags = re.findall(r"^  (--\w+)", capsys.readouterr().out, re.MULTILINE)
    assert len(flags) == len(set(flags)) > 50
    assert [action.dest for action in build_parser()._actions if not action.help] == []


PRETRAINING = {
    "training_epochs": 3100, "console_out_iters": 5, "wandb_log_iters": 5, "checkpoint_epochs": 50,
    "batch_size": 16, "learning_rate": 0.0002, "beta1": 0.8, "beta2": 0.99, "lr_decay": 0.999,
    "upsample_rates": [8, 8, 2, 2], "upsample_kernel_sizes": [16, 16, 4, 4], "mpd_periods": [2, 3, 5, 7, 11],
    "resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": ((1, 3, 5), (1, 3, 5), (1, 3, 5)),
    "sampling_rate": 22050, "segment_size": 8192, "num_mels": 80, "n_fft": 1024, "window_size": 1024,
    "hop_size": 256, "fmin": 0.0, "fmax": 8000.0, "num_workers": 16, "log_wandb": True,
}  # fmt: skip
OTHER_DEFAULTS = {
    "lambda_mel": 45, "lambda_feature_mapping": 2, "finetune": False, "upsample_initial_channel": 512,
    "msd_num_downsamples": 2, "fmax_loss": None, "min_db": -100, "max_scaled_abs": 4, "mel_scale": "db",
    "resume_from_checkpoint": None, "path_to_saved_mels": None, "path_to_pretrained_weights": None,
    "gradient_accumulation_steps": 1, "mixed_precision": None, "max_train_steps": None,
    "checkpoint_steps": 5000, "validation_steps": None,
}  # fmt: skip


def launched(text: str, name: str) -> list[str]:
    """Return the arguments of the `accelerate launch train.py` for this experiment in a Markdown text."""
    commands = re.findall(r"^accelerate launch train\.py ((?:.*\\\n)*.*)", text, re.MULTILINE)
    (command,) = [command for command in commands if f"--experiment_name {name} " in command]
    return shlex.split(re.sub(r"\\\n|#.*", "", command))


def assert_is_pretraining(args, config) -> None:
    for name, value in (PRETRAINING | OTHER_DEFAULTS).items():
        got = {**vars(args), **vars(config)}[name]
        assert (list(got) if isinstance(value, list) else got) == value, name
    assert config == HiFiGANConfig()


def test_the_command_in_the_readme_has_the_documented_values():
    assert_is_pretraining(*parse_arguments(launched((ROOT / "README.md").read_text(), "hifigan")))


def test_the_agreed_commands_have_the_documented_values(shared, short_run, tmp_path):
    text = (shared / "commands.md").read_text()
    assert_is_pretraining(*parse_arguments(launched(text, "hifigan")))

    arguments = launched(text, "hifigan_finetune_taco")
    small, full = tmp_path / "model", HiFiGANConfig(upsample_initial_channel=32)
    save_model(small, full, generator=Generator(full))
    args, config = parse_arguments([str(small) if word == "<HIFIGAN>" else word for word in arguments])
    assert (args.finetune, args.learning_rate, args.training_epochs) == (True, 0.00005, 500)
    assert config == full  # the size without a flag is the pretrained model's

    path = str(ROOT / "configs" / "v1.json")
    arguments = [path if word == "configs/v1.json" else word for word in launched(text, "v1")]
    args, config = parse_arguments(arguments)
    assert (args.input_wavs_dir, config.mel_scale, config.window_size) == (Path("<WAVS>"), "ln", 1024)


def test_defaults_equal_the_values_of_the_full_command(small_corpus, tmp_path):
    required = command_line(small_corpus, tmp_path / "run")[:8]
    args, config = parse_arguments(required)
    assert config == HiFiGANConfig()
    for name, value in (PRETRAINING | {"log_wandb": False} | OTHER_DEFAULTS).items():
        got = {**vars(args), **vars(config)}[name]
        assert (list(got) if isinstance(value, list) else got) == value, name
