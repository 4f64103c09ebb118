"""The vocoders of transformers, SpeechT5HifiGan and FastSpeech2ConformerHifiGan.

A folder contains `config.json` and `model.safetensors` or `pytorch_model.bin`.
"""

import json
import math
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from checkpoint import files
from checkpoint.files import CONFIG_NAME, folder_of
from common.errors import UserError
from common.files import read_json
from model import LEAKY_SLOPE, Generator

PATTERNS = ("pytorch_model.bin", "model.safetensors")

# Their config.json has no mel settings. These are SpeechT5's and those of ESPnet's recipe for FastSpeech 2;
# their frames start half a hop earlier than ours, and ESPnet also normalizes its mels. For other mels, add
# the settings to config.json under the names of `MelConfig`.
MEL_SETTINGS = {
    "n_fft": 1024,
    "window_size": 1024,
    "fmin": 80.0,
    "fmax": 7600.0,
    "mel_scale": "log10",
    "min_db": -200.0,
}


def matches(path: Path) -> bool:
    """Return whether `path` is a folder with a configuration of transformers, or a file of weights in one."""
    if not path.is_dir() and path.name not in PATTERNS:
        return False
    config = folder_of(path) / CONFIG_NAME
    return config.is_file() and "model_in_dim" in read_json(config)


def read_settings(path: Path) -> dict:
    path = folder_of(path) / CONFIG_NAME
    values = read_json(path)
    slope = values.get("leaky_relu_slope", LEAKY_SLOPE)
    if slope != LEAKY_SLOPE:
        raise UserError(f"{path} has a leaky_relu_slope of {slope}; generators here have {LEAKY_SLOPE}")
    kind = json.dumps([values.get("architectures"), values.get("model_type")]).lower()
    rates = [rate for rate in values.get("upsample_rates", ()) if isinstance(rate, int)]  # others are refused
    sizes = {
        "sampling_rate": 22050 if "fastspeech2" in kind else 16000,
        "num_mels": values["model_in_dim"],
        "hop_size": math.prod(rates),
    }
    return MEL_SETTINGS | sizes | values


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the state dict with the mel's normalization as `conv_pre.0`, which `add_input_norm` creates."""
    state = {re.sub(r"^upsampler\.", "ups.", key): tensor for key, tensor in files.read_weights(file).items()}
    norm = {f"conv_pre.0.{key}": state.pop(key).reshape(-1, 1) for key in ("mean", "scale") if key in state}
    if not norm or not read_json(file.with_name(CONFIG_NAME)).get("normalize_before", True):
        return state
    return norm | {re.sub(r"^conv_pre\.", "conv_pre.1.", key): value for key, value in state.items()}


class InputNorm(nn.Module):
    """Normalization of a mel (B, num_mels, T) per band, (mel - mean) / scale, before the first layer.

    It is a layer of its own because the convolution after it pads the normalized mel: folding it into the
    convolution would change the ends.
    """

    def __init__(self, num_mels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_mels, 1))
        self.register_buffer("scale", torch.ones(num_mels, 1))

    def forward(self, mel: Tensor) -> Tensor:
        return (mel - self.mean) / self.scale


def add_input_norm(generator: Generator, state: dict[str, Tensor]) -> None:
    """Put an `InputNorm` before the generator's first layer if `state` contains one."""
    if "conv_pre.0.mean" in state:
        padding = generator.conv_pre.padding
        generator.conv_pre = nn.Sequential(InputNorm(generator.config.num_mels), generator.conv_pre)
        generator.conv_pre.padding = padding  # part of the receptive field
