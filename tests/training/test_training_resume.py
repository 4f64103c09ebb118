"""Interrupted and resumed runs, and runs of two processes, from the command line."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from forked import Forked, fork_two
from forked import complete as complete_forked
from helpers import small_config
from runs import (
    LAUNCH_ONE,
    LAUNCH_TWO,
    children,
    command_line,
    complete,
    different_weights,
    error_line,
    finish,
    has_done,
    kill_group,
    metrics,
    repeatable,
    start,
    train_here,
    wait_until,
    weights,
)

from checkpoint import save_model
from common.parallel import available_cores
from dataset import SegmentDataset
from generators.build import Discriminators
from model import Generator
from train import main

EPOCHS, STEPS_PER_EPOCH = 5, 4  # 8 clips in batches of 2
SETTINGS = {"training_epochs": EPOCHS, "lr_decay": 0.9}
needs_two_cores = pytest.mark.skipif(available_cores() < 2, reason="as many workers as cores are used")


@pytest.fixture(scope="module")
def uninterrupted(small_corpus, tmp_path_factory) -> Path:
    return train_here(small_corpus, tmp_path_factory.mktemp("uninterrupted") / "run", **SETTINGS)


def assert_ended_alike(run: Path, uninterrupted: Path) -> None:
    assert repeatable(metrics(run)) == repeatable(metrics(uninterrupted))
    assert different_weights(run / "final_checkpoint", uninterrupted / "final_checkpoint") == []
    assert not list(run.glob(".*.tmp")) and not list(run.glob("*.replaced"))


def test_an_uninterrupted_run_changes_every_weight_and_logs_every_step_once(uninterrupted):
    first, last = weights(uninterrupted / "checkpoint_1"), weights(uninterrupted / "final_checkpoint")
    unchanged = [name for name in first if torch.equal(first[name], last[name])]
    # the left singular vector of a layer with one output is 1 or -1
    assert [name for name in unchanged if not name.endswith("conv_post.parametrizations.weight.0._u")] == []
    steps = [record["step"] for record in metrics(uninterrupted, "train")]
    assert steps == list(range(EPOCHS * STEPS_PER_EPOCH))


def test_a_run_killed_at_any_moment_ends_as_if_never_interrupted(small_corpus, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    again = {**SETTINGS, "resume_from_checkpoint": "latest", "checkpoint_steps": 3}

    # "latest" starts a run without a checkpoint; it is killed between two steps or during one
    process = Forked(main, command_line(small_corpus, folder, num_workers=2, **again))
    wait_until(has_done(folder, 6), process)
    kill_group(process)
    done = metrics(folder)[-1]["step"]
    assert 6 <= done < EPOCHS * STEPS_PER_EPOCH - 1
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 7, "epo')  # an incomplete line

    # killed while writing a checkpoint
    process = Forked(main, command_line(small_corpus, folder, **{**again, "checkpoint_steps": 1}))
    wait_until(lambda: any(folder.glob(".*checkpoint*.tmp/*")) and has_done(folder, 9)(), process)
    kill_group(process)
    leftover = folder / ".checkpoint_99.parts.tmp"
    shutil.copytree(folder / "checkpoint_1", leftover)
    (leftover / "progress.json").write_text('{"step": 99')
    (leftover / ".progress.json.99.tmp").write_text('{"step": 99')

    # killed between the two renames that replace a checkpoint
    (folder / "last_checkpoint").rename(folder / "last_checkpoint.replaced")

    said = complete(LAUNCH_ONE, command_line(small_corpus, folder, num_workers=2, **again))
    assert f"Resumed from {folder / 'last_checkpoint'}: " in said
    assert_ended_alike(folder, uninterrupted)


@needs_two_cores
def test_a_stopped_run_saves_within_the_epoch_and_resumes_there(small_corpus, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    endless = {**SETTINGS, "training_epochs": 1000}
    process = Forked(main, command_line(small_corpus, folder, num_workers=2, **endless))
    wait_until(has_done(folder, 5), process)
    workers = children(process.pid)
    os.killpg(process.pid, signal.SIGTERM)  # like `timeout` and torchrun
    status, _, err = finish(process)
    assert status == 128 + signal.SIGTERM
    assert "Traceback" not in err and "--resume_from_checkpoint latest" in err
    assert len(workers) == 2  # as many as --num_workers
    assert (folder / "last_checkpoint" / "progress.json").is_file()
    assert len(metrics(folder, "train")) < EPOCHS * STEPS_PER_EPOCH, "the machine is too busy for this test"

    path = folder / "last_checkpoint"  # no workers now, and the checkpoint named by its path
    train_here(small_corpus, folder, **SETTINGS, resume_from_checkpoint=path)
    assert_ended_alike(folder, uninterrupted)


def test_a_run_resumed_in_epoch_3_reads_the_rest_of_its_clips_in_order(small_corpus, tmp_path, monkeypatch):
    keys, read = [], SegmentDataset.__getitem__
    monkeypatch.setattr(SegmentDataset, "__getitem__", lambda *item: keys.append(item[1]) or read(*item))

    def clips_read(folder: Path, **settings) -> list[tuple[int, int]]:
        keys.clear()
        train_here(small_corpus, tmp_path / folder, **settings)
        return list(keys)

    whole = clips_read("whole", training_epochs=4)
    assert [epoch for epoch, _ in whole] == [0] * 8 + [1] * 8 + [2] * 8 + [3] * 8
    clips_read("resumed", max_train_steps=3 * STEPS_PER_EPOCH + 1)
    resumed = clips_read("resumed", training_epochs=4, resume_from_checkpoint="latest")
    assert resumed == whole[-6:]  # all but the first batch of epoch 3


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux tells a process that its parent has died")
def test_a_launched_run_does_not_outlive_its_launcher(small_corpus, tmp_path):
    folder = tmp_path / "run"
    endless = {"training_epochs": 1000, "checkpoint_epochs": 500}
    process = start(LAUNCH_ONE, command_line(small_corpus, folder, **endless))
    wait_until(has_done(folder, 1), process)
    process.send_signal(signal.SIGTERM)  # only to the launcher, like `kill %1`
    finish(process, timeout=30)  # until the run has also closed its output
    assert (folder / "last_checkpoint" / "progress.json").is_file()
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)


def test_a_run_resumes_from_a_checkpoint_by_its_name(small_corpus, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    shutil.rmtree(folder / "final_checkpoint")
    train_here(small_corpus, folder, **SETTINGS, resume_from_checkpoint="checkpoint_2")
    assert_ended_alike(folder, uninterrupted)


def test_a_run_killed_after_validation_validates_once(small_corpus, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    settings = {**SETTINGS, "checkpoint_epochs": 3, "checkpoint_steps": STEPS_PER_EPOCH}
    train_here(small_corpus, folder, **{**settings, "training_epochs": 2})
    # the state of a run that was killed between its second validation and its second checkpoint
    shutil.rmtree(folder / "final_checkpoint")
    assert len(metrics(folder, "val")) == 2
    train_here(small_corpus, folder, **settings, resume_from_checkpoint="latest")
    assert_ended_alike(folder, uninterrupted)


def test_a_run_ended_by_max_train_steps_can_be_resumed(small_corpus, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    train_here(small_corpus, folder, **SETTINGS, max_train_steps=6)
    assert metrics(folder)[-1]["split"] == "val"  # a model saved in the middle of an epoch
    train_here(small_corpus, folder, **SETTINGS, resume_from_checkpoint="latest")
    assert_ended_alike(folder, uninterrupted)


def test_the_learning_rate_decays_every_epoch_and_continues_after_a_resume(small_corpus, tmp_path):
    folder = tmp_path / "run"
    settings = {"lr_decay": 0.5, "learning_rate": 0.0008}
    train_here(small_corpus, folder, **settings, training_epochs=2)
    train_here(small_corpus, folder, **settings, training_epochs=3, resume_from_checkpoint="latest")
    settings["learning_rate"] = 0.0004  # recommended after a divergence, so it must have an effect
    train_here(small_corpus, folder, **settings, training_epochs=4, resume_from_checkpoint="latest")
    for record in metrics(folder, "train"):
        begun_with = 0.0008 if record["epoch"] < 3 else 0.0004
        assert record["learning_rate"] == pytest.approx(begun_with * 0.5 ** record["epoch"], rel=1e-12)
    assert len(metrics(folder, "train")) == 4 * STEPS_PER_EPOCH


def test_a_missing_checkpoint_is_a_user_error(small_corpus, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        train_here(small_corpus, tmp_path / "run", resume_from_checkpoint="checkpoint_7")
    assert stop.value.code == 2
    line = error_line(capsys.readouterr().err)
    assert "checkpoint_7" in line and "--path_to_pretrained_weights" in line


def test_a_checkpoint_of_another_model_is_refused_with_both_values(
    small_corpus, uninterrupted, tmp_path, capsys
):
    checkpoint = uninterrupted / "checkpoint_1"
    with pytest.raises(SystemExit) as stop:
        train_here(
            small_corpus, tmp_path / "run", resume_from_checkpoint=checkpoint, upsample_initial_channel=32
        )
    assert stop.value.code == 2
    assert "upsample_initial_channel was 16 and is now 32" in error_line(capsys.readouterr().err)


def test_a_run_does_not_overwrite_another(small_corpus, uninterrupted, capsys):
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*")}
    with pytest.raises(SystemExit) as stop:
        train_here(small_corpus, uninterrupted, **SETTINGS)
    assert stop.value.code == 2
    line = error_line(capsys.readouterr().err)
    assert "--resume_from_checkpoint latest" in line and "--experiment_name" in line
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*")} == before


@pytest.fixture(scope="module")
def audible(tmp_path_factory) -> Path:
    """A model whose audio is loud enough that rounding hardly affects the gradient of its log mel.

    New models are nearly silent, where the slope of the logarithm is large, and AdamW's first steps have the
    size of the learning rate whatever the gradient's size.
    """
    torch.manual_seed(0)
    config = small_config(resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1, 3),))
    generator, discriminators = Generator(config), Discriminators(config)
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith("original0"):
                parameter *= 3.0 if name.startswith("head.conv_post") else 1.6
    folder = tmp_path_factory.mktemp("audible") / "model"
    save_model(folder, config, generator=generator, mpd=discriminators.mpd, msd=discriminators.msd)
    return folder


@pytest.fixture(scope="module")
def alone(small_corpus, audible, tmp_path_factory) -> Path:
    """A run of one process with batches of 4."""
    settings = {"training_epochs": 3, "lr_decay": 0.5, "batch_size": 4, "path_to_pretrained_weights": audible}
    return train_here(small_corpus, tmp_path_factory.mktemp("alone") / "run", **settings)


def assert_trained_alike(run: Path, alone: Path, tolerance: float, buffers: bool = True) -> None:
    """Compare logs and weights. Gradient norms count too: AdamW alone would hide a factor of two."""
    ours, theirs = repeatable(metrics(run)), repeatable(metrics(alone))
    assert [record.keys() for record in ours] == [record.keys() for record in theirs]
    for our, their in zip(ours, theirs, strict=True):
        assert our.pop("split") == their.pop("split")
        assert our == pytest.approx(their, rel=tolerance), our["step"]
    ours, theirs = weights(run / "final_checkpoint"), weights(alone / "final_checkpoint")
    for name in ours:
        if buffers or not name.endswith(("._u", "._v")):
            distance = (ours[name] - theirs[name]).norm() / theirs[name].norm()
            assert distance < tolerance, f"{name} is {distance:.1e} away"


@needs_two_cores
def test_two_processes_train_like_one_with_twice_the_batch_size(small_corpus, audible, alone, tmp_path):
    """Both validate one of the two clips, so `val_mel_loss` shows that both have the same weights."""
    folder = tmp_path / "run"
    settings = {"training_epochs": 3, "lr_decay": 0.5, "batch_size": 2, "path_to_pretrained_weights": audible}
    said = complete(LAUNCH_TWO, command_line(small_corpus, folder, **settings, max_train_steps=3))
    assert said.count("2 steps per epoch") == 1, said  # printed by one process, so both belong to one run
    for ours, theirs in zip(metrics(folder, "train"), metrics(alone, "train")[:3], strict=True):
        names = [name for name in ours if name.endswith(("loss", "norm"))]
        assert [ours[name] for name in names] == pytest.approx([theirs[name] for name in names], rel=1e-4)
    # in the middle of an epoch, now with the same clips in two batches
    settings |= {"resume_from_checkpoint": "latest", "batch_size": 1, "gradient_accumulation_steps": 2}
    complete_forked(fork_two(main, command_line(small_corpus, folder, **settings, num_workers=1)))
    assert_trained_alike(folder, alone, tolerance=2e-3, buffers=False)  # spectral norm: see below
    rates = [record["learning_rate"] for record in metrics(folder, "train")]
    assert rates == pytest.approx([2e-4, 2e-4, 1e-4, 1e-4, 0.5e-4, 0.5e-4])


def test_two_accumulated_batches_train_like_one_of_twice_the_size(small_corpus, audible, alone, tmp_path):
    """Except for spectral norm, whose estimate is refined in every forward pass."""
    settings = {"training_epochs": 3, "lr_decay": 0.5, "path_to_pretrained_weights": audible}
    settings |= {"batch_size": 2, "gradient_accumulation_steps": 2}
    folder = train_here(small_corpus, tmp_path / "run", **settings)
    assert_trained_alike(folder, alone, tolerance=2e-3, buffers=False)


def test_a_run_resumed_with_a_larger_batch_size_completes_its_epochs(small_corpus, tmp_path):
    folder = tmp_path / "run"
    train_here(small_corpus, folder, batch_size=1, max_train_steps=5)  # of 8 in this epoch
    train_here(
        small_corpus, folder, batch_size=1, resume_from_checkpoint="latest",
        gradient_accumulation_steps=4, training_epochs=2,
    )  # fmt: skip
    # the 3 remaining clips are fewer than a step: the next epoch follows, with two steps of four
    assert [record["step"] for record in metrics(folder, "train")] == list(range(5 + 2))


def test_resuming_from_an_older_checkpoint_sets_later_ones_aside(small_corpus, tmp_path):
    folder = tmp_path / "run"
    train_here(small_corpus, folder, training_epochs=3)
    train_here(
        small_corpus, folder, training_epochs=2, resume_from_checkpoint="checkpoint_1", keep_checkpoints=2
    )
    assert (folder / "checkpoint_1").is_dir() and (folder / "checkpoint_2").is_dir()
    assert not (folder / "checkpoint_3").exists()
    set_aside = {path.name for path in (folder / "set_aside").iterdir()}
    assert set_aside == {"checkpoint_2_step_8", "checkpoint_3_step_12", "final_checkpoint_step_12"}
    assert [record["step"] for record in metrics(folder, "train")] == list(range(8))


def test_a_checkpoint_of_another_run_sets_the_run_in_the_folder_aside(small_corpus, tmp_path, capsys):
    run = {"training_epochs": 2, "checkpoint_epochs": 1, "best_metric": "val_mel_loss"}
    other = train_here(small_corpus, tmp_path / "other", **run)
    folder = train_here(small_corpus, tmp_path / "run", **{**run, "training_epochs": 1, "seed": 3})
    records = metrics(folder)
    settings = {**run, "training_epochs": 3, "resume_from_checkpoint": str(other / "checkpoint_1")}
    train_here(small_corpus, folder, **settings)
    names = {path.name for path in (folder / "set_aside").iterdir()}
    steps = json.loads((other / "checkpoint_1" / "progress.json").read_text())["step"]
    assert {"metrics.jsonl", f"checkpoint_1_step_{steps}", f"best_checkpoint_step_{steps}"} <= names
    assert "of another course" in capsys.readouterr().out
    assert metrics(folder / "set_aside") == records
    assert min(record["step"] for record in metrics(folder)) >= steps
    assert (folder / "best_checkpoint").is_dir()


def test_a_log_without_checkpoints_is_set_aside(small_corpus, tmp_path):
    folder = train_here(small_corpus, tmp_path / "run", training_epochs=1)
    records = metrics(folder)
    for checkpoint in folder.glob("*checkpoint*"):
        shutil.rmtree(checkpoint)
    train_here(small_corpus, folder, training_epochs=1)
    assert metrics(folder / "set_aside") == records and len(metrics(folder)) == len(records)


@pytest.mark.parametrize(
    "name", ["config.json", "generator.safetensors", "mpd.safetensors", "optimizer_1.bin", "missing"]
)
def test_a_damaged_checkpoint_is_one_line(small_corpus, uninterrupted, tmp_path, capsys, name):
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    file = folder / "final_checkpoint" / ("generator.safetensors" if name == "missing" else name)
    content = file.read_bytes()
    file.unlink() if name == "missing" else file.write_bytes(content[:100])
    with pytest.raises(SystemExit) as stop:
        train_here(small_corpus, folder, training_epochs=9, resume_from_checkpoint="final_checkpoint")
    assert stop.value.code == 2 and "final_checkpoint" in error_line(capsys.readouterr().err)


def test_a_checkpoint_with_damaged_progress_is_left_out(small_corpus, uninterrupted, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    (folder / "final_checkpoint" / "progress.json").write_text("")
    with (folder / "metrics.jsonl").open("ab") as log:
        log.write(b"12\n\xff\n")
    done = train_here(small_corpus, folder, training_epochs=1, resume_from_checkpoint="latest")
    assert "final_checkpoint is left out" in capsys.readouterr().err
    assert json.loads((done / "final_checkpoint" / "progress.json").read_text())["step"] > 0
