"""What a run does when its data, its disk or its machine fail: nothing is lost, and one line says why."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from forked import Forked
from helpers import ROOT
from runs import (
    as_own_process,
    command_line,
    different_weights,
    finish,
    has_done,
    manifest_row,
    metrics,
    refused,
    repeatable,
    train_here,
    wait_until,
    write_manifest,
)

from common.parallel import available_cores
from train import VocoderTrainer, main, parse_arguments
from training.checkpoints import Checkpoints, Progress, lock_folder
from training.processes import Processes, make_accelerator

SETTINGS = {"training_epochs": 3, "checkpoint_epochs": 100}
LATEST = {"resume_from_checkpoint": "latest"}


@pytest.fixture(scope="module")
def undisturbed(small_corpus, tmp_path_factory) -> Path:
    return train_here(small_corpus, tmp_path_factory.mktemp("undisturbed") / "run", **SETTINGS)


@pytest.fixture
def corpus(small_corpus, tmp_path) -> Path:
    """A copy of the small corpus whose clips a test may damage."""
    shutil.copytree(small_corpus / "wavs", tmp_path / "corpus" / "wavs")
    rows = [manifest_row(tmp_path / "corpus" / "wavs" / f"clip{number}.wav") for number in range(10)]
    write_manifest(tmp_path / "corpus" / "train.csv", rows[:8])
    write_manifest(tmp_path / "corpus" / "test.csv", rows[8:])
    return tmp_path / "corpus"


def shorten(wav: Path) -> bytes:
    """Leave a clip with a tenth of its audio; return its former content."""
    content = wav.read_bytes()
    audio, rate = soundfile.read(wav, dtype="float32")
    soundfile.write(wav, audio[: len(audio) // 10], rate)
    return content


def assert_equal(run: Path, undisturbed: Path) -> None:
    assert repeatable(metrics(run)) == repeatable(metrics(undisturbed))
    assert different_weights(run / "final_checkpoint", undisturbed / "final_checkpoint") == []


@pytest.mark.parametrize(("clip", "steps"), [("clip3", None), ("clip9", 4)])
def test_a_damaged_clip_costs_no_step(corpus, undisturbed, tmp_path, capsys, clip, steps):
    """Of training: the steps before it are saved. Of validation: the checkpoint is written before it."""
    wav, folder = corpus / "wavs" / f"{clip}.wav", tmp_path / "run"
    content = shorten(wav)
    assert f"{clip}.wav" in refused(capsys, corpus, folder, **SETTINGS)
    done = Progress.of(folder / "last_checkpoint").step
    assert done == (steps or len(metrics(folder, "train")))
    wav.write_bytes(content)
    train_here(corpus, folder, **SETTINGS, **LATEST)
    assert_equal(folder, undisturbed)


def test_validation_steps_replace_the_validation_of_each_epoch(small_corpus, tmp_path):
    settings = SETTINGS | {"validation_steps": 3, "training_epochs": 2}
    whole = train_here(small_corpus, tmp_path / "whole", **settings)
    assert [record["step"] for record in metrics(whole, "val")] == [2, 5, 7]  # and at the end
    parts = train_here(small_corpus, tmp_path / "parts", **settings, max_train_steps=4)
    train_here(small_corpus, parts, **settings, **LATEST)
    assert_equal(parts, whole)


def test_a_folder_in_use_is_refused_until_its_run_is_killed(small_corpus, tmp_path, capsys):
    folder = tmp_path / "run"
    process = Forked(main, command_line(small_corpus, folder, training_epochs=1000, num_workers=1))
    wait_until(has_done(folder, 1), process)
    line = refused(capsys, small_corpus, folder, **SETTINGS, **LATEST)
    assert f"is in use by process {process.pid} on " in line
    process.send_signal(signal.SIGKILL)  # its worker survives it for a few seconds
    finish(process)
    train_here(small_corpus, folder, **SETTINGS | {"max_train_steps": 1}, **LATEST)


def test_a_folder_can_be_used_where_the_file_system_has_no_locks(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    lock_folder(tmp_path).release()
    with pytest.raises(FileNotFoundError):
        lock_folder(tmp_path / "missing")


@pytest.mark.parametrize("name", ["DEEPSPEED", "FSDP", "MEGATRON_LM"])
def test_configurations_that_split_a_model_are_refused(small_corpus, tmp_path, capsys, monkeypatch, name):
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    assert "is not supported; use CUDA GPUs or CPUs" in refused(capsys, small_corpus, tmp_path / "run")


def test_a_launcher_that_starts_only_one_process_is_reported(small_corpus, tmp_path, capsys, monkeypatch):
    """The variables are those that `accelerate launch --cpu --num_processes 2` sets."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    with as_own_process():
        make_accelerator(parse_arguments(command_line(small_corpus, tmp_path / "run"))[0])
    assert "started only one of several processes" in capsys.readouterr().err


def test_fp16_continues_a_checkpoint_without_a_loss_scaler(small_corpus, undisturbed):
    options, config = parse_arguments(command_line(small_corpus, undisturbed))
    with as_own_process():
        accelerator = make_accelerator(options)
        trainer = VocoderTrainer(accelerator, options, config)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        checkpoints = Checkpoints(accelerator, Processes(), options.folder, config, trainer.models)
        assert checkpoints.load(undisturbed / "final_checkpoint").step == 12
        assert accelerator.step == 0  # the next batch is the first of an update
        assert accelerator.scaler.get_scale() == 1024.0


def test_a_run_prints_its_plan_and_another_batch_size_than_its_configuration(small_corpus, tmp_path, capsys):
    settings = {"config": ROOT / "configs" / "v1.json", "max_train_steps": 1}
    settings |= {"batch_size": 2, "gradient_accumulation_steps": 2}
    train_here(small_corpus, tmp_path / "run", **settings)
    printed = capsys.readouterr()
    assert (
        "4 clips per update, from 1 process(es) with --batch_size 2 and --gradient_accumulation_steps 2"
        in printed.out
    )
    assert "2 steps per epoch, 1 updates in total" in printed.out
    assert "v1.json has batch_size 16" in printed.err and "use --batch_size 8" in printed.err


def test_a_resumed_run_with_other_batches_counts_its_updates_from_where_it_is(small_corpus, tmp_path, capsys):
    train_here(small_corpus, tmp_path / "run", training_epochs=1, batch_size=4)
    settings = {"training_epochs": 2, "batch_size": 1, "resume_from_checkpoint": "latest"}
    train_here(small_corpus, tmp_path / "run", **settings)
    assert "8 steps per epoch, 10 updates in total" in capsys.readouterr().out
    assert Progress.of(tmp_path / "run" / "final_checkpoint").step == 10
    train_here(small_corpus, tmp_path / "run", **settings | {"training_epochs": 1})
    assert "10 updates in total" in capsys.readouterr().out


def test_a_log_that_cannot_be_written_for_a_while_is_complete_in_the_end(tmp_path, capsys):
    from training.metrics_log import MetricsLog

    log = MetricsLog(tmp_path / "folder" / "metrics.jsonl")
    log.append({"step": 0})  # the folder does not exist
    log.append({"step": 1})
    assert capsys.readouterr().err.count("can't write") == 1
    (tmp_path / "folder").mkdir()
    log.append({"step": 2})
    assert metrics_of(log.path) == [0, 1, 2]


def test_a_line_of_the_log_that_was_written_in_part_is_removed_and_written_again(tmp_path, capsys):
    from training.metrics_log import MetricsLog

    resource = pytest.importorskip("resource")  # capsys: the limit below also holds for a file with stderr
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 0})
    size, (soft, hard) = log.path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, hard))
    try:
        log.append({"step": 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert log.path.stat().st_size == size
    log.append({"step": 2})
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [0, 1, 2]


def test_a_failure_to_write_the_progress_never_leaves_a_checkpoint_without_models(
    small_corpus, tmp_path, monkeypatch
):
    """The disk is full once, when last_checkpoint has just been renamed to that of an epoch."""
    from training import checkpoints

    write, failed = checkpoints.write_progress, []

    def write_or_fail(checkpoint, *args):
        if checkpoint.name == "checkpoint_1" and not failed:
            failed.append(checkpoint)
            raise OSError(errno.ENOSPC, "No space left on device", str(checkpoint))
        write(checkpoint, *args)

    monkeypatch.setattr(checkpoints, "write_progress", write_or_fail)
    settings = {"training_epochs": 2, "checkpoint_epochs": 1}
    folder = train_here(small_corpus, tmp_path / "run", **settings)
    assert failed
    for name in ("checkpoint_1", "checkpoint_2", "final_checkpoint"):
        models = {path.name for path in (folder / name).iterdir()}
        assert not models or {"generator.safetensors", "progress.json"} <= models, (name, models)
    assert (folder / "final_checkpoint" / "generator.safetensors").is_file()
    undisturbed = train_here(small_corpus, tmp_path / "other", training_epochs=2)
    assert different_weights(folder / "final_checkpoint", undisturbed / "final_checkpoint") == []


THREADS = """
import torch
from training.processes import use_all_cores
use_all_cores()
print(torch.get_num_threads())
"""
LAUNCHER = f"""
import os, subprocess, sys
environment = {{**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no"}}
subprocess.run([sys.executable, "-c", {THREADS!r}], env=environment, check=True)
"""


@pytest.mark.skipif(sys.platform != "linux" or available_cores() < 2, reason="needs /proc and two cores")
@pytest.mark.parametrize(("set_by_user", "threads"), [(True, 1), (False, available_cores())])
def test_a_number_of_threads_set_by_the_user_stays_under_a_launcher(set_by_user, threads):
    """Launchers set one thread per process themselves, which would leave the other cores idle."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": "1"} if set_by_user else {}
    command = [sys.executable, "-c", LAUNCHER]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert int(done.stdout) == threads, done.stderr


def metrics_of(path: Path) -> list[int]:
    from training.metrics_log import read_records

    return [record["step"] for record in read_records(path)]
