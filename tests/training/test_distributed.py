"""Runs of two processes with folders of their own, as on two machines without a shared disk, and signals."""

import shutil
import signal
import time
from pathlib import Path

import pytest
from forked import Forked, complete, execute, fork_two
from runs import command_line, finish, manifest_row, metrics, train_here, wait_until, write_manifest

from common.parallel import available_cores
from train import main
from training.checkpoints import Progress

pytestmark = pytest.mark.skipif(available_cores() < 2, reason="needs two cores")
SETTINGS = {"training_epochs": 2, "resume_from_checkpoint": "latest"}


def start_apart(corpus: Path, folder: Path, **settings) -> list[Forked]:
    """Start two processes that write to `<folder>/0/run` and `<folder>/1/run`."""
    return fork_two(main, *(command_line(corpus, folder / rank / "run", **settings) for rank in "01"))


def test_process_0_decides_what_is_resumed_and_a_process_without_it_stops(small_corpus, tmp_path):
    train_here(small_corpus, tmp_path / "0" / "run", training_epochs=1)
    ends = [finish(process) for process in start_apart(small_corpus, tmp_path, **SETTINGS)]
    assert [status for status, _, _ in ends] == [2, 2]
    [line] = [line for _, _, err in ends for line in err.splitlines() if line.startswith("train.py: error")]
    assert "process 0 resumes from step 4" in line and "(in process 1)" in line
    assert str(tmp_path / "1" / "run") in line and "all machines share" in line
    assert not list((tmp_path / "1").rglob("*.safetensors"))

    shutil.copytree(tmp_path / "0" / "run", tmp_path / "1" / "run")  # as the message advises
    complete(start_apart(small_corpus, tmp_path, **SETTINGS))
    assert Progress.of(tmp_path / "0" / "run" / "final_checkpoint").epoch == 2
    assert metrics(tmp_path / "0" / "run", "train")[-1]["step"] == 5  # 2 steps with twice the batch size
    assert Progress.of(tmp_path / "1" / "run" / "final_checkpoint").epoch == 1  # only process 0 writes


def test_a_signal_during_the_validation_of_two_processes_is_honored_within_seconds(small_corpus, tmp_path):
    rows = [manifest_row(small_corpus / "wavs" / "clip9.wav")] * 2001  # an odd number: unequal shares
    corpus, folder = tmp_path / "corpus", tmp_path / "run"
    corpus.mkdir()
    shutil.copy(small_corpus / "train.csv", corpus)
    write_manifest(corpus / "test.csv", rows)
    processes = fork_two(main, command_line(corpus, folder))
    wait_until((folder / "last_checkpoint").is_dir, processes[0], seconds=120)
    time.sleep(0.5)
    begin = time.monotonic()
    for process in processes:  # like torchrun
        process.send_signal(signal.SIGTERM)
    ends = [finish(process) for process in processes]
    assert [status for status, _, _ in ends] == [128 + signal.SIGTERM] * 2
    assert "Stopped after step 1" in ends[0][2]
    assert time.monotonic() - begin < 20  # torchrun kills its processes after 30
    assert metrics(folder, "val") == []
    progress = Progress.of(folder / "last_checkpoint")
    assert (progress.step, progress.epoch, progress.is_validated) == (2, 0, False)


AFTER_CLOSING = """
import pathlib
from training.processes import Processes

def threads_of_the_group():
    names = [path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]

processes = Processes()
assert processes.gather(processes.index) == [0, 1]
assert threads_of_the_group()
import torch.distributed.nn  # as torch does when it is first needed

processes.close()
assert not threads_of_the_group(), threads_of_the_group()
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="lists threads in /proc")
def test_no_thread_of_a_process_group_is_left_when_python_shuts_down():
    """Such a thread aborts the process if it frees a tensor then, about once in ten runs."""
    complete(fork_two(execute, [AFTER_CLOSING]))


READING = """
from types import SimpleNamespace
import corpus.manifest
from training.loaders import read_manifests
from training.processes import Processes

decoded, inspect_clip = [], corpus.manifest.inspect_clip

def counted(path):
    decoded.append(path)
    return inspect_clip(path)

corpus.manifest.inspect_clip = counted
processes = Processes()
manifests = dict.fromkeys(("path_to_train_manifest", "path_to_val_manifest"), "{list}")
options = SimpleNamespace(**manifests, input_wavs_dir="{wavs}")
train, _ = read_manifests(processes, options, SimpleNamespace(sampling_rate=22050))
first, second = processes.gather(list(train))
assert first == second and [clip.transcript for clip in first] == ["one", "two"]
assert processes.gather(len(decoded)) == [4, 0]
processes.close()
"""


def test_only_process_0_decodes_the_clips_of_a_filelist(small_corpus, tmp_path):
    filelist = tmp_path / "list.txt"
    filelist.write_text("clip0|one|one\nclip1|two|two\n")
    complete(
        fork_two(
            execute, [READING.replace("{list}", str(filelist)).replace("{wavs}", str(small_corpus / "wavs"))]
        )
    )
