"""Find and read the files that a model consists of, whatever their format."""

import pickle
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from common.errors import UserError, one_line
from common.files import read_json, visible

CONFIG_NAME = "config.json"
PROGRESS_NAME = "progress.json"  # step, epoch and flags of a training checkpoint


def config_path(path: Path) -> Path:
    """Return the `config.json` of a model's folder or of a file in it; a `.json` path is returned as it is.

    Raises UserError if the folder contains no `config.json`.
    """
    if path.suffix == ".json":
        return path
    folder = folder_of(path)
    if not (folder / CONFIG_NAME).is_file():
        raise UserError(f"{folder} holds no {CONFIG_NAME}; put the model's configuration there")
    return folder / CONFIG_NAME


def folder_of(path: Path) -> Path:
    """Return `path` if it is a folder, else the folder that contains it."""
    return path if path.is_dir() else path.parent


def read_model_config(path: Path) -> dict:
    """Return a model's `config.json`. Raises UserError if it lacks a setting of the mels.

    Without `mel_scale` it is an official one, which calls the window `win_size`.
    """
    values = read_json(config_path(path))
    window = "window_size" if "mel_scale" in values else "win_size"
    names = ("sampling_rate", "n_fft", window, "hop_size", "num_mels", "fmin", "fmax")
    if missing := [name for name in names if name not in values]:
        raise UserError(
            f"{config_path(path)} lacks {', '.join(missing)}, on which the audio depends; use the file that "
            "belongs to the model, or add the values that it was trained with"
        )
    return values


def newest_file(folder: Path, patterns: Iterable[str]) -> Path | None:
    """Return the file with the highest number in its name, or None if no file matches.

    If several patterns match, the last of them is used.
    """
    found = [file for pattern in patterns for file in sorted(visible(folder.glob(pattern)), key=number_in)]
    return found[-1] if found else None


def weights_file(path: Path, patterns: Iterable[str]) -> Path:
    """Return `path`, or its newest file if it is a folder. Raises UserError if none matches."""
    file = newest_file(path, patterns) if path.is_dir() else path
    if file is None:
        raise UserError(f"{path} holds no {' or '.join(patterns)}; name a folder with a complete model")
    return file


def number_in(path: Path) -> int:
    """Return the first number in a file's name, such as the steps of a checkpoint, or 0."""
    match = re.search(r"\d+", path.name)
    return int(match[0]) if match else 0


def read_weights(path: Path, name: str | None = None) -> dict[str, Tensor]:
    """Return the state dict in a `.safetensors` file, or in a pickle under the key `name`.

    Without `name`, the pickle itself is the state dict. Raises UserError for a damaged file and for a
    pickle that contains anything but tensors.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except Exception as error:
            raise UserError(
                f"{path} can't be read as a checkpoint: {one_line(error)}; is the file complete?"
            ) from error
    contents = read_pickle(path)
    if name is not None:
        contents = contents.get(name) if isinstance(contents, dict) else None
    is_named = isinstance(contents, dict) and all(isinstance(key, str) for key in contents)
    if not is_named or not all(map(is_plain_tensor, contents.values())):
        raise UserError(f"{path} holds no {name or 'model'!r} state dict; is it the right file?")
    return contents


def is_plain_tensor(value) -> bool:
    """Return whether a value is a tensor of real numbers, and not a sparse or quantized one."""
    is_dense = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    return is_dense and not (value.is_quantized or value.is_complex())


def read_pickle(path: Path):
    """Return the contents of a file of `torch.save`: tensors, numbers, strings and containers of them.

    Raises UserError if the file is damaged or contains anything else. Never runs code in the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickle formats, which users can't change
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # PyTorch's message advises to run the code
        raise UserError(
            f"{path} is refused: it is not a file of torch.save, or contains more than tensors, such as a "
            "NumPy array, which could run code on loading; save only its tensors, as .safetensors or .pt"
        ) from error
    except Exception as error:  # damaged pickles raise many types, from IndexError to struct.error
        raise UserError(
            f"{path} can't be read as a checkpoint: {one_line(error)}; is the file complete?"
        ) from error
