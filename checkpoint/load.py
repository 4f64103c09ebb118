"""Load vocoders and Tacotron 2 models of every format.

`FORMATS` are the modules that read vocoders, in the order in which they are tried. Each offers

- `matches(path)`: whether a folder, or a file in it, has this format;
- `PATTERNS`: the possible names of the file with the generator's weights;
- `read_settings(path)`: the values that `HiFiGANConfig.from_dict` reads;
- `read_weights(file)`: a state dict with the names of this project's generators or the official ones.
"""

from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from checkpoint.download import local_folder
from checkpoint.files import (
    CONFIG_NAME,
    config_path,
    read_model_config,
    read_pickle,
    read_weights,
    weights_file,
)
from checkpoint.formats import nvidia, official, project, torchaudio, transformers, tutorial, vocos
from checkpoint.formats.tacotron2 import read_foreign_tacotron2
from checkpoint.formats.transformers import add_input_norm
from checkpoint.weights import load_weights
from common.errors import UserError
from common.files import read_json
from config import HiFiGANConfig
from generators.build import build_generator
from generators.vocos import Vocos
from mel import MelConfig
from model import Generator
from tacotron2.config import Tacotron2Config
from tacotron2.model import Tacotron2

FORMATS = (project, vocos, transformers, official, nvidia)
TACOTRON2_FILE = "tacotron2.safetensors"
VOCABULARIES = {  # by the number of symbols, which is the number of rows of the embedding
    module.NUM_SYMBOLS: module.TACOTRON2 for module in (torchaudio, nvidia, tutorial)
}


def format_of(path: Path) -> tuple[ModuleType, Path]:
    """Return the format's module and the path to pass to it: for a configuration file, its folder."""
    path = local_folder(path)
    path = path.parent if path.name in (CONFIG_NAME, vocos.CONFIG_NAME) else path
    return next((module for module in FORMATS if module.matches(path)), project), path


def weights_path(path: Path) -> Path:
    """Return the file with a generator's weights: `path` itself, or the newest in that folder."""
    module, path = format_of(path)
    return weights_file(path, module.PATTERNS)


def read_settings(path: Path) -> dict:
    """Return the values that `from_dict` of a configuration reads, for a model in any format."""
    path = local_folder(path)
    if not path.exists():
        raise UserError(f"there is no {path}; name a model's folder, a file in it, or an official g_… file")
    if path.suffix in (".onnx", ".pt2"):
        raise UserError(f"{path} is an export, only for inference; name the model that it was exported from")
    module, place = format_of(path)
    try:
        return module.read_settings(place)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:  # values of a wrong kind
        raise UserError(f"can't read the configuration of {path}: {error!r}; correct it") from error


def read_config(path: Path | str) -> HiFiGANConfig:
    """Return the configuration of a vocoder, from its folder, a file in it, or a JSON file."""
    return HiFiGANConfig.from_dict(read_settings(Path(path)))


def read_mel_config(path: Path) -> MelConfig:
    """Return only the mel settings, from any model or from the `config.json` of a folder of saved mels."""
    return MelConfig.from_dict(read_settings(path))


def load_generator(path: Path | str, device: torch.device | str = "cpu") -> Generator | Vocos:
    """Return a generator in eval mode, with weight norm folded, from a model in any format.

    Raises UserError for a file that is missing, damaged, or does not fit its configuration.
    """
    path = Path(path)
    config = read_config(path)
    with torch.device("meta"):  # no initialization, and no memory before the sizes are known to fit the file
        generator = build_generator(config)
    load_generator_weights(generator, path)
    return generator.fold_weight_norm().eval().requires_grad_(False).to(device)


def load_generator_weights(generator: Generator | Vocos, path: Path) -> None:
    """Load the weights at `path`; those of transformers may add an `InputNorm` before the first layer."""
    file = weights_path(path)
    state = format_of(path)[0].read_weights(file)
    add_input_norm(generator, state)
    load_weights(generator, state, file)


def load_tacotron2(path: Path | str, device: torch.device | str = "cpu") -> Tacotron2:
    """Return a Tacotron 2 in eval mode: a folder with `tacotron2.safetensors`, or a file of another project.

    NVIDIA's, torchaudio's and the tutorial's files are recognized by their contents; their mels are converted
    to the default scale. Raises UserError for a file that is missing, damaged, or does not fit its
    configuration.
    """
    config, state, file = read_tacotron2(Path(path))
    with torch.device("meta"):  # as in load_generator
        model = Tacotron2(config)
    load_weights(model, state, file)
    return model.eval().requires_grad_(False).to(device)


def read_tacotron2_config(path: Path | str) -> Tacotron2Config:
    """Return the configuration of a Tacotron 2, from its folder, a file in it, or another project's file."""
    file = tacotron2_path(Path(path))
    return own_tacotron2_config(file) if is_own_tacotron2(file) else read_tacotron2(file)[0]


def read_tacotron2(path: Path) -> tuple[Tacotron2Config, dict[str, Tensor], Path]:
    """Return a Tacotron 2's configuration, its weights under our names, and the file that contains them."""
    file = tacotron2_path(path)
    if is_own_tacotron2(file):
        return own_tacotron2_config(file), read_weights(file), file
    contents = read_weights(file) if file.suffix == ".safetensors" else read_pickle(file)
    settings, state = read_foreign_tacotron2(contents, file, VOCABULARIES)
    return Tacotron2Config.from_dict(settings), state, file


def tacotron2_path(path: Path) -> Path:
    """Return the file of weights: `path` itself, or the one in that folder or next to that `config.json`."""
    path = local_folder(path)
    file = path / TACOTRON2_FILE if path.is_dir() else path
    file = path.with_name(TACOTRON2_FILE) if path.name == CONFIG_NAME else file
    if not file.is_file():
        found = f"{file.parent} holds no {file.name}" if path.exists() else f"there is no {path}"
        raise UserError(
            f"{found}; name a Tacotron 2's folder, or a file of the tutorial, NVIDIA or torchaudio"
        )
    return file


def is_own_tacotron2(file: Path) -> bool:
    return file.suffix == ".safetensors" and file.name != "model.safetensors"


def own_tacotron2_config(file: Path) -> Tacotron2Config:
    path = config_path(file)
    values = read_json(path)
    if "decoder_rnn_dim" not in values:
        raise UserError(
            f"{file} is not a Tacotron 2 checkpoint: {path} describes another model; name a Tacotron 2's "
            "folder"
        )
    return Tacotron2Config.from_dict(read_model_config(file))


def is_tacotron2(path: Path) -> bool:
    """Return whether `path` is a Tacotron 2 in any format, and not a vocoder."""
    file = path.with_name(TACOTRON2_FILE) if path.name == CONFIG_NAME else path
    if file.name == TACOTRON2_FILE or (path / TACOTRON2_FILE).is_file():
        return file.exists()
    try:  # files of other projects are recognized by their contents
        return bool(read_tacotron2_config(path))
    except UserError:
        return False
