"""Steps that neither log nor save never wait for the device, which would stop the queueing of work for a GPU.

A CPU shows this too: reading a value from a tensor is a call that can be counted on any device.
"""

import pytest
import tacotron2_runs
import torch
from runs import train_here
from torch.utils._python_dispatch import TorchDispatchMode

import tacotron2.train
import train
from model import Generator
from training.run import TrainingRun

aten = torch.ops.aten
# Operators whose result, or its shape, depends on the values of a tensor. `lift_fresh` is `torch.tensor(…)`,
# which copies from the host's memory.
READING = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten._unique2}
READING |= {aten.lift_fresh}
READING_METHODS = ("cpu", "numpy", "tolist", "__array__")


class Waits(TorchDispatchMode):
    """Records the calls that would wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        is_mask = func.overloadpacket == aten.index and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if is_mask or func.overloadpacket in READING:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def waits_per_step(patch: pytest.MonkeyPatch, trainer: type) -> dict[int, list[str]]:
    """Record the calls that wait for the device in each step of a run, including its bookkeeping."""
    found: dict[int, list[str]] = {}
    step, finish_step = trainer.step, TrainingRun.finish_step

    def recorded(number, function, *args):
        with Waits() as waits, pytest.MonkeyPatch.context() as inner:
            for name in READING_METHODS:
                method = getattr(torch.Tensor, name)

                def reading(tensor, *args, name=name, method=method, **kwargs):
                    waits.found.append(name)
                    return method(tensor, *args, **kwargs)

                inner.setattr(torch.Tensor, name, reading)
            result = function(*args)
        found.setdefault(number, []).extend(waits.found)
        return result

    patch.setattr(
        trainer, "step", lambda self, batches, number: recorded(number, step, self, batches, number)
    )
    patch.setattr(
        TrainingRun,
        "finish_step",
        lambda self, *args: recorded(self.progress.step, finish_step, self, *args),
    )
    return found


LOGGING = {"console_out_iters": 3, "wandb_log_iters": 3, "training_epochs": 1, "batch_size": 1}


def assert_only_logging_and_saving_steps_wait(found: dict[int, list[str]]) -> None:
    assert len(found) == 8
    assert [step for step, calls in found.items() if calls] == [0, 3, 6, 7], found  # the last one saves


@pytest.mark.parametrize(
    "settings",
    [
        {"ema_decay": 0.9},
        {"adversarial_start_steps": 4, "mixed_precision": "bf16"},
        {"generator": "vocos", "vocos_dim": 16, "vocos_intermediate_dim": 16, "vocos_num_layers": 1,
         "discriminators": ["mpd", "mrd"]},
    ],
    ids=["hifigan", "spectral start, bf16", "vocos"],
)  # fmt: skip
def test_only_steps_that_log_or_save_wait_for_the_device(small_corpus, tmp_path, monkeypatch, settings):
    found = waits_per_step(monkeypatch, train.VocoderTrainer)
    train_here(small_corpus, tmp_path / "run", **LOGGING, **settings)
    assert_only_logging_and_saving_steps_wait(found)


@pytest.mark.parametrize("settings", [{"guided_attention_weight": 5.0}, {"mixed_precision": "bf16"}])
def test_steps_of_tacotron2_wait_only_to_log_and_save(small_corpus, tmp_path, monkeypatch, settings):
    found = waits_per_step(monkeypatch, tacotron2.train.Tacotron2Trainer)
    tacotron2_runs.train_here(small_corpus, tmp_path / "run", **LOGGING, **settings)
    assert_only_logging_and_saving_steps_wait(found)


def test_cudnn_measures_its_algorithms_in_training_only(small_corpus, tmp_path, monkeypatch):
    """That takes time for each length; segments have one length, whole utterances have many."""
    is_measuring, forward = {True: set(), False: set()}, Generator.forward

    def recorded(generator, mel):
        is_measuring[generator.training].add(torch.backends.cudnn.benchmark)
        return forward(generator, mel)

    monkeypatch.setattr(Generator, "forward", recorded)
    train_here(small_corpus, tmp_path / "run", training_epochs=2)
    assert is_measuring == {True: {True}, False: {False}}
