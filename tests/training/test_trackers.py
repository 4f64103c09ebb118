"""TensorBoard's event files and Weights & Biases' offline files, read again after runs of both models."""

import errno
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tacotron2_runs
from accelerate.tracking import TensorBoardTracker, WandBTracker
from forked import Forked, complete
from helpers import RATE
from PIL import Image
from runs import command_line, metrics, train_here

import train

TRACKERS = {"tensorboard": TensorBoardTracker, "wandb": WandBTracker}
SETTINGS = {"training_epochs": 1, "log_wandb": True, "log_tensorboard": True, "wandb_log_iters": 2}
SETTINGS |= {"console_out_iters": 1}
COMMON = {"learning_rate", "frames_per_second", "skipped_steps", "mel_loss"}


def tensorboard_events(folder: Path) -> dict[str, list]:
    """Return the events of all tags. Pictures and sounds are decoded to arrays."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = {}
    for path in folder.rglob("events.out.tfevents.*"):
        accumulator = EventAccumulator(str(path), size_guidance={"images": 0, "audio": 0}).Reload()
        for kind in ("scalars", "images", "audio"):
            for tag in accumulator.Tags()[kind]:
                events[tag] = getattr(accumulator, kind.title())(tag)
    return events


def wandb_records(path: Path) -> Iterator:
    """Yield the records of an offline file: a header of 7 bytes, then LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := -place % 32768) < 7 and left:  # no header at the end of a block
            place += left
        _, size, kind = struct.unpack_from("<IHB", data, place)
        parts += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(parts)
            parts = b""


def wandb_history(folder: Path) -> tuple[dict[int, dict], Path]:
    """Return the values of each step of the offline run, and the folder of its files."""
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    history = {}
    for record in wandb_records(path):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            values = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
            history.setdefault(record.history.step.num, {}).update(values)
    return history, path.parent / "files"


@pytest.mark.parametrize("model", ["vocoder", "tacotron2"])
def test_both_trackers_receive_values_sounds_and_pictures(model, small_corpus, tmp_path):
    pytest.importorskip("tensorboard")
    folder, offline = tmp_path / "run", {"WANDB_MODE": "offline", "HOME": str(tmp_path)}
    if model == "vocoder":
        complete([Forked(train.main, command_line(small_corpus, folder, **SETTINGS), **offline)])
        values, shown = COMMON | {"gen_grad_norm", "disc_grad_norm", "gen_loss", "disc_loss"}, "mel"
        clips = ["clip8", "clip9"]
    else:
        command = tacotron2_runs.flags(small_corpus, folder, **SETTINGS)
        complete([Forked(tacotron2_runs.main, command, **offline)])
        values, shown = (COMMON - {"mel_loss"}) | {"grad_norm", "loss"}, "mel_and_attention"
        clips = ["clip8"]
    logged = {record["step"]: record for record in metrics(folder, "train") if record["step"] % 2 == 0}
    (validation,) = metrics(folder, "val")
    assert list(logged) == [0, 2]

    events = tensorboard_events(folder)
    history, files = wandb_history(folder)
    for step, record in logged.items():
        for name in values:
            (event,) = [event for event in events[f"train/{name}"] if event.step == step]
            assert event.value == pytest.approx(record[name], rel=1e-6) and np.isfinite(event.value), name
            assert history[step][f"train/{name}"] == pytest.approx(record[name], rel=1e-6), name
    last = validation["step"]
    (event,) = events["val/val_mel_loss"]
    assert (event.step, event.value) == (last, pytest.approx(validation["val_mel_loss"], rel=1e-6))
    assert history[last]["val/val_mel_loss"] == pytest.approx(validation["val_mel_loss"], rel=1e-6)
    for clip in clips:
        (sound,), (picture,) = events[f"audio/{clip}"], events[f"{shown}/{clip}"]
        assert sound.sample_rate == RATE and sound.length_frames > 1000 and sound.step == last
        assert picture.width > picture.height > 100
        sound, picture = (files / history[last][f"{kind}/{clip}/path"] for kind in ("audio", shown))
        assert soundfile.info(sound).samplerate == RATE
        assert np.asarray(Image.open(picture).convert("L")).std() > 20


@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.parametrize("failing", ["log", "writer", "finish"])
def test_a_tracker_that_fails_does_not_end_the_run(
    name, failing, small_corpus, tmp_path, monkeypatch, capsys
):
    """In the values of a step, the sounds of a validation (of TensorBoard's writer), or at the end."""
    pytest.importorskip(name)
    calls = []

    def fail(*args, **options):
        calls.append(args)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("WANDB_MODE", "offline")
    if failing == "writer":
        monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_audio", fail)
        monkeypatch.setattr("wandb.Audio", fail)
    else:
        monkeypatch.setattr(TRACKERS[name], failing, fail)
    settings = SETTINGS | {
        "log_wandb": name == "wandb" or None,
        "log_tensorboard": name == "tensorboard" or None,
    }
    folder = train_here(small_corpus, tmp_path / "run", **settings)
    assert (folder / "final_checkpoint" / "generator.safetensors").is_file() and len(calls) == 1
    assert capsys.readouterr().err.count(f"{name} failed ([Errno 28] No space left on device)") == 1
    assert [record["step"] for record in metrics(folder, "train")] == [0, 1, 2, 3]
