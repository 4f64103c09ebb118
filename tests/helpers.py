"""Helpers for several test files: small models, files in the official format, and synthetic audio."""

import contextlib
import importlib.util
import inspect
import io
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from config import HiFiGANConfig
from generators.build import build_generator
from model import Generator

ROOT = Path(__file__).resolve().parent.parent
RATE = 22050

OFFICIAL_LEAVES = {
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
}


def load_script(path: str) -> ModuleType:
    """Load a script as a module by its path from the repository's root."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(main: Callable, *arguments, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """Run a script's `main` in this process, which saves its imports, and return what a process would."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    status, here = 0, os.getcwd()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(sys, "argv", [inspect.getfile(inspect.unwrap(main))])
        # pytest would keep warnings from stderr
        patch.setattr(warnings, "showwarning", lambda *one: print(warnings.formatwarning(*one[:4]), file=err))
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        for name, value in environment.items():
            patch.setenv(name, value)
        os.chdir(cwd)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main(list(map(str, arguments)))
        except SystemExit as stop:
            status = stop.code
        finally:
            os.chdir(here)
    said = (stream.buffer.getvalue().decode() for stream in (out, err))
    return subprocess.CompletedProcess(arguments, status, *said)


def small_config(**settings) -> HiFiGANConfig:
    """Return all parts of HiFi-GAN with the default mel and 1 % of V1's parameters."""
    small = {
        "upsample_initial_channel": 16,
        "resblock_kernel_sizes": (3, 5),
        "resblock_dilation_sizes": ((1, 3), (1, 3)),
        "mpd_periods": (2, 3),
        "msd_num_downsamples": 1,
        "discriminator_channels": 32,
    }
    return HiFiGANConfig(**small | settings)


def small_generator(seed: int = 0, **settings) -> Generator:
    torch.manual_seed(seed)
    return build_generator(small_config(**settings)).eval()


def official_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename our state dict as the official code does with PyTorch's old weight norm.

    Independent of `checkpoint/formats/official.py`, which is tested against it. The official code numbers
    residual blocks consecutively over all stages; MISRNet has one per stage, between two convolutions.
    """
    places = [re.match(r"fusions\.\d+\.blocks\.(\d+)\.", key) for key in state]
    blocks_per_stage = 1 + max((int(place[1]) for place in places if place), default=0)
    renamed = {}
    for key, tensor in state.items():
        match key.split("."):
            case ["fusions", stage, "blocks", block, *rest]:
                key = ".".join(["resblocks", str(int(stage) * blocks_per_stage + int(block)), *rest])
            case ["fusions", stage, "block", *rest]:
                key = ".".join(["resblocks", stage, *rest])
            case ["fusions", stage, ("expand" | "reduce") as part, *rest]:
                key = ".".join([f"{part}_convs", stage, *rest])
            case ["head", *rest]:
                key = ".".join(rest)
        for ours, official in OFFICIAL_LEAVES.items():
            if key.endswith(f".{ours}"):
                key = key.removesuffix(ours) + official
                break
        renamed[key] = tensor
    return renamed


def save_official(folder: Path, config: HiFiGANConfig, steps: int = 2_500_000, **models: nn.Module) -> Path:
    """Write `config.json`, `g_02500000` and, given mpd and msd, `do_02500000`.

    Returns the path of `g_02500000`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = config.to_dict()
    for ours, official in (("window_size", "win_size"), ("fmax_loss", "fmax_for_loss")):
        settings[official] = settings.pop(ours)
    for unknown in ("mel_scale", "min_db", "max_scaled_abs"):
        del settings[unknown]
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    states = {name: official_names(model.state_dict()) for name, model in models.items()}
    generator = folder / f"g_{steps:08d}"
    torch.save({"generator": states.pop("generator")}, generator)
    if states:
        torch.save(states | {"steps": steps, "epoch": 100}, folder / f"do_{steps:08d}")
    return generator


def speech_mel(frames: int, num_mels: int = 80, batch: int = 1, seed: int = 0) -> Tensor:
    """Return random natural-log mels (batch, num_mels, frames) in the range of speech, -11 to 1."""
    noise = torch.randn(batch, num_mels, frames, generator=torch.Generator().manual_seed(seed))
    return (2 * noise - 5).clamp(-11, 1)


def repository_address() -> str:
    return re.search(r'^Repository = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]


def voice(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Return (samples,) float32 like a vowel: harmonics of a gliding pitch with a varying level."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(130 + 30 * np.sin(2 * np.pi * 1.5 * time + seed)) / rate
    tone = sum(np.sin(k * phase) / k for k in range(1, 25))
    level = 0.1 + 0.25 * np.sin(2 * np.pi * 2.0 * time + seed) ** 2
    noise = 0.003 * np.random.default_rng(seed).standard_normal(len(time))
    return (level * tone + noise).clip(-1, 1).astype(np.float32)


def harmonics(pitch: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """Return (samples,) of a steady voiced sound with a peak of about 0.3."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.15 * sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 12))).astype(np.float32)


def noise(seconds: float = 1.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Return (samples,) of white noise with a standard deviation of 0.1."""
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)
