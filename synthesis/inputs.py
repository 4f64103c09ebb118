"""Readers of what inference.py turns into audio: audio files and saved mels."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from audio import read_audio, resample
from tacotron2.mel import MEL_SCALES, MelConfig, convert_mel_scale, unlikely_mel_values
from utils import UserError

MEL_SUFFIXES = (".npy", ".npz", ".pt", ".safetensors")


def load_audio(path: Path, sampling_rate: int) -> np.ndarray:
    """(samples,) of a file at the given rate in Hz; says so where it mixes channels down or resamples."""
    audio, file_rate, channels = read_audio(path)
    if not np.isfinite(audio).all():
        raise UserError(f"{path} holds values that are not finite; mend or remove the file")
    changes = []
    if channels > 1:
        changes.append(f"its {channels} channels are mixed down to one")
    if file_rate != sampling_rate:
        audio = resample(audio, file_rate, sampling_rate)
        changes.append(f"it is resampled from {file_rate} Hz to {sampling_rate} Hz")
    if changes:
        tqdm.write(f"{path.name}: {' and '.join(changes)}", file=sys.stderr)
    return audio


def read_array(path: Path) -> Tensor:
    """The one array of a file, or the one called `mel`. Raises UserError where that is not clear."""
    try:
        if path.suffix == ".npy":
            return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                contents = {name: torch.from_numpy(file[name].astype(np.float32)) for name in file.files}
        elif path.suffix == ".safetensors":
            from safetensors.torch import load_file

            contents = load_file(path)
        else:
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file makes these libraries raise is not for us to foresee
        raise UserError(
            f"can't read the mel {path}: {' '.join(str(error).split())}; save it again"
        ) from error
    if isinstance(contents, Tensor):
        return contents.float()
    tensors = {name: value for name, value in dict(contents).items() if isinstance(value, Tensor)}
    if "mel" not in tensors and len(tensors) != 1:
        raise UserError(f"{path} holds {sorted(tensors) or 'no arrays'}; name the one with the mel `mel`")
    return (tensors.get("mel") if "mel" in tensors else next(iter(tensors.values()))).float()


def load_mel(path: Path, config: MelConfig, mel_scale: str | None = None, transposed: bool = False) -> Tensor:
    """(num_mels, frames) in `config`'s scale, from a file in `mel_scale` (default: the same).

    The file holds (num_mels, frames) or (1, num_mels, frames), `transposed` with the last two swapped. Raises
    UserError, with the numbers, for what can't be a mel of this kind.
    """
    mel = read_array(path)
    shape = tuple(mel.shape)
    if mel.ndim == 3 and mel.shape[0] == 1:
        mel = mel[0]
    if mel.ndim == 2 and transposed:
        mel = mel.T
    if mel.ndim != 2 or mel.shape[0] != config.num_mels or mel.shape[1] == 0:
        layout = f"(frames, {config.num_mels})" if transposed else f"({config.num_mels}, frames)"
        hint = ""
        if mel.ndim == 2 and mel.shape[1] == config.num_mels:
            hint = "; leave out --transposed" if transposed else "; if frames come first, add --transposed"
        raise UserError(
            f"{path} holds an array of shape {shape}; the vocoder needs {layout}, its mels having "
            f"{config.num_mels} bands{hint}"
        )
    source = replace(config, mel_scale=mel_scale or config.mel_scale)
    if not torch.isfinite(mel).all():
        raise UserError(f"{path} holds values that are not finite; save the mel again")
    if doubt := unlikely_mel_values(mel, source):
        raise UserError(
            f"{path} {doubt}: say with --mel_scale which scale it is in ({', '.join(MEL_SCALES)})"
        )
    return convert_mel_scale(mel, source, config).contiguous()
