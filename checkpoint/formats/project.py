"""This project's format: a folder with `config.json` and `generator.safetensors`.

A training checkpoint is such a folder with the discriminators, in `<name>.safetensors`, and the files needed
for resuming.
"""

import json
from functools import partial
from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn

from checkpoint import files
from checkpoint.files import CONFIG_NAME, read_model_config
from common.files import atomic_write, read_json
from mel import MelConfig

GENERATOR_FILE = "generator.safetensors"
PATTERNS = (GENERATOR_FILE,)
read_weights = partial(files.read_weights, name="generator")


def matches(path: Path) -> bool:
    """Return whether `path` is a folder with `generator.safetensors`, or a file that only this format has."""
    if path.is_dir():
        return (path / GENERATOR_FILE).is_file()
    return path.suffix in (".json", ".safetensors") and path.name != "model.safetensors"


def read_settings(path: Path) -> dict:
    return read_json(path) if path.suffix == ".json" else read_model_config(path)


def save_model(folder: Path | str, config: MelConfig, **models: nn.Module) -> None:
    """Write `config.json` and `<name>.safetensors` for each model, for example `generator=…`.

    Replaces the folder atomically, deleting its contents.
    """
    with atomic_write(Path(folder)) as temporary:
        temporary.mkdir()
        write_model(temporary, config, {name: model.state_dict() for name, model in models.items()})


def write_model(folder: Path, config: MelConfig, weights: dict[str, dict[str, Tensor]]) -> None:
    """Write `config.json` and `<name>.safetensors` for each state dict into an existing folder."""
    (folder / CONFIG_NAME).write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")
    for name, state in weights.items():
        save_tensors(state, folder / f"{name}.safetensors")


def save_tensors(state: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file with the mode of the umask; `save_file` leaves it to its owner alone."""
    path.write_bytes(save({key: tensor.contiguous().cpu() for key, tensor in state.items()}))
