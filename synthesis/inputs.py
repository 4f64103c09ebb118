"""Read the inputs of inference: audio files, saved mels and text files."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from checkpoint.files import is_plain_tensor, read_pickle
from common.errors import UserError, one_line
from common.files import visible
from config import MEL_SCALES, MelConfig
from corpus.audio import AUDIO_SUFFIXES, read_audio, resample
from corpus.mel_comparison import unlikely_mel_values
from mel import MelSpectrogram, convert_mel_scale

LOUDEST = 100.0  # a peak that is accepted; samples are in [-1, 1], or somewhat beyond in files of floats
MEL_SUFFIXES = (".npy", ".npz", ".pt", ".safetensors")


def files_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files with these suffixes, sorted by stem.

    Raises UserError if there are none, or if two have the same stem.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name one with --input_wavs_dir or --input_mels_dir")
    found = [path for path in visible(folder.iterdir()) if path.suffix.lower() in suffixes]
    found.sort(key=lambda path: (path.stem, path.suffix))
    if not found:
        raise UserError(
            f"{folder} contains no {' or '.join(suffixes)} files; add some or name another folder"
        )
    for first, second in pairwise(found):
        if first.stem == second.stem:
            raise UserError(f"{first} and {second} have the same name and would share an output; rename one")
    return found


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or standard input for `-`. Raises UserError if that fails."""
    try:
        is_stdin = str(path) == "-"
        with open(0 if is_stdin else path, encoding="utf-8-sig", closefd=not is_stdin) as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"can't read the text {path}: {one_line(error)}; name a text file in UTF-8"
        ) from error


def load_audio(path: Path, sampling_rate: int) -> np.ndarray:
    """Load mono audio (samples,) at a sampling rate in Hz. Prints to stderr what it averages or resamples.

    Raises UserError for files that can't be decoded and for values that are not finite.
    """
    audio, file_rate, channels = read_audio(path)
    if not np.isfinite(audio).all():
        raise UserError(f"{path} contains values that are not finite; repair or remove the file")
    if (peak := np.abs(audio).max(initial=0)) > LOUDEST:
        raise UserError(
            f"{path} has samples up to {peak:.3g}, but audio is between -1 and 1; to store "
            "16-bit integers as floats, divide them by 32768"
        )
    changes = []
    if channels > 1:
        changes.append(f"its {channels} channels are reduced to one")
    if file_rate != sampling_rate:
        audio = resample(audio, file_rate, sampling_rate)
        changes.append(f"it is resampled from {file_rate} Hz to {sampling_rate} Hz")
    if changes:
        tqdm.write(f"{path.name}: {' and '.join(changes)}", file=sys.stderr)
    return audio


def load_audio_mel(path: Path, config: MelConfig) -> Tensor:
    """Load an audio file and compute its mel (num_mels, frames). Raises UserError if it is too short."""
    audio = load_audio(path, config.sampling_rate)
    if len(audio) < config.min_samples:
        raise UserError(f"{path} has {len(audio)} samples; a mel needs {config.min_samples}; remove the file")
    return MelSpectrogram(config)(torch.from_numpy(audio))


def input_mels(
    config: MelConfig,
    wavs: Path | None = None,
    mels: Path | None = None,
    mel_scale: str | None = None,
    transposed: bool = False,
) -> Iterator[tuple[str, Tensor]]:
    """Yield (output file name, mel (num_mels, frames)) for each file in a folder of wavs or of mels."""
    if mels:
        for path in files_in(mels, MEL_SUFFIXES):
            yield f"{path.stem}_generated_e2e.wav", load_mel(path, config, mel_scale, transposed)
    else:
        for path in files_in(wavs, AUDIO_SUFFIXES):
            yield f"{path.stem}_generated.wav", load_audio_mel(path, config)


def read_array(path: Path) -> Tensor:
    """Read the only array in a file, or the one named `mel`. Raises UserError if neither exists."""
    try:
        arrays = load_arrays(path)
    except UserError:
        raise
    except Exception as error:  # damaged files make these libraries raise many types of exception
        raise UserError(f"can't read the mel {path}: {one_line(error)}; save it again") from error
    if "mel" not in arrays and len(arrays) != 1:
        raise UserError(f"{path} contains {sorted(arrays) or 'no arrays'}; name the array of the mel `mel`")
    return arrays.get("mel", next(iter(arrays.values())))


def load_arrays(path: Path) -> dict[str, Tensor]:
    """Return the arrays of real numbers in a file, in float32, by name; "mel" for an array without a name."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        contents = as_tensor(np.load(path, allow_pickle=False))
    elif suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            contents = {name: as_tensor(file[name]) for name in file.files}
    elif suffix == ".safetensors":
        from safetensors.torch import load_file

        contents = load_file(path)
    else:
        contents = read_pickle(path)
    arrays = {"mel": contents} if isinstance(contents, Tensor) else dict(contents)
    return {str(name): value.float() for name, value in arrays.items() if is_plain_tensor(value)}


def as_tensor(array: np.ndarray) -> Tensor:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"its values are of the type {array.dtype}, not numbers")
    return torch.from_numpy(array.astype(np.float32))


def load_mel(path: Path, config: MelConfig, mel_scale: str | None = None, transposed: bool = False) -> Tensor:
    """Load a mel (num_mels, frames) and convert it to the scale of `config`.

    The file contains (num_mels, frames) or (1, num_mels, frames), with the last two axes swapped if
    `transposed`, in the scale `mel_scale` (default: the scale of `config`). Raises UserError for an
    array that can't be such a mel.
    """
    mel = as_mel(read_array(path), path, config.num_mels, transposed)
    source = replace(config, mel_scale=mel_scale or config.mel_scale)
    if not torch.isfinite(mel).all():
        raise UserError(f"{path} contains values that are not finite; save the mel again")
    if doubt := unlikely_mel_values(mel, source):
        raise UserError(f"{path} {doubt}: specify its scale with --mel_scale ({', '.join(MEL_SCALES)})")
    return convert_mel_scale(mel, source, config).contiguous()


def as_mel(array: Tensor, path: Path, num_mels: int, transposed: bool) -> Tensor:
    """Return the array as (num_mels, frames). Raises UserError if it has another shape."""
    mel = array[0] if array.ndim == 3 and array.shape[0] == 1 else array
    if mel.ndim == 2 and transposed:
        mel = mel.T
    if mel.ndim == 2 and mel.shape[0] == num_mels and mel.shape[1] > 0:
        return mel
    layout = f"(frames, {num_mels})" if transposed else f"({num_mels}, frames)"
    hint = ""
    if mel.ndim == 2 and mel.shape[1] == num_mels:
        hint = "; omit --transposed" if transposed else "; if frames are the first axis, add --transposed"
    raise UserError(
        f"{path} contains an array of shape {tuple(array.shape)}; the vocoder needs {layout}, since its mels "
        f"have {num_mels} bands{hint}"
    )
