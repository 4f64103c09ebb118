"""Training runs of a tiny Tacotron 2 for tests, and ways to start them."""

import functools
import os
import subprocess
from pathlib import Path

import runs
import torch
from helpers import ROOT
from runs import SMALL_MODEL, as_own_process, command_line, finish

from tacotron2 import train
from tacotron2.train import main

MODULE = ["-m", "tacotron2.train"]
TINY = {
    "character_embed_dim": 16, "encoder_embed_dim": 16, "encoder_n_convolutions": 1, "attention_rnn_dim": 24,
    "attention_dim": 8, "attention_location_n_filters": 4, "attention_location_kernel_size": 7,
    "decoder_rnn_dim": 20, "decoder_prenet_dim": 8, "decoder_postnet_num_convs": 2,
    "decoder_postnet_n_filters": 12,
}  # fmt: skip
VOCODER_FLAGS = dict.fromkeys([*SMALL_MODEL, "segment_size"])  # `command_line` omits options without a value


def flags(corpus: Path, folder: Path, **settings) -> list[str]:
    return command_line(corpus, folder, **VOCODER_FLAGS | TINY | settings)


def train_here(corpus: Path, folder: Path, **settings) -> Path:
    with as_own_process():
        main(flags(corpus, folder, **settings))
    return folder


def keep_state(arguments: list[str]) -> None:
    """Train, then write the state of this process's model to `<first argument>/<rank>.pt`."""
    kept, make = [], train.Tacotron2Trainer

    def make_and_keep(*args):
        kept.append(make(*args))
        return kept[0]

    train.Tacotron2Trainer = make_and_keep
    main(arguments[1:])
    torch.save(kept[0].model.state_dict(), f"{arguments[0]}/{os.environ['RANK']}.pt")


refused = functools.partial(runs.refused, train_here=train_here)


def start(launcher: list[str], arguments: list[str], **environment: str | None) -> subprocess.Popen:
    """Start a run in a new process group. None removes an environment variable."""
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(
        [*launcher, *arguments],
        cwd=ROOT,
        env={name: value for name, value in variables.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def complete(launcher: list[str], arguments: list[str], **environment: str | None) -> str:
    status, out, err = finish(start(launcher, arguments, **environment), timeout=400)
    assert status == 0, out + err
    return out + err
