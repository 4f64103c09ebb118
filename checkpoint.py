"""Every way a model is written to disk or read from it.

A model on disk is a folder with `config.json` and `generator.safetensors`; a training checkpoint is such a
folder with the discriminators and what resuming needs beside them. The official files are read too:
`g_02500000` or `generator_v1`, a pickle of {"generator": …} beside its `config.json`, and `do_02500000` with
the discriminators.
"""

import json
import pickle
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common import UserError, atomic_write
from model import Discriminators, Generator, HiFiGANConfig
from tacotron2.mel import MelConfig, check_same_mel

CONFIG_NAME = "config.json"


def read_json(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"can't read the configuration {path}: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a configuration: it holds no JSON object")
    return values


def read_config(path: Path | str) -> HiFiGANConfig:
    """The configuration of a model, by its folder, a file of weights in it, or the JSON itself."""
    return HiFiGANConfig.from_dict(read_json(config_path(Path(path))))


def read_mel_config(path: Path) -> MelConfig:
    """The mel settings alone, from the `config.json` of any model or of a folder of saved mels."""
    return MelConfig.from_dict(read_json(path))


def config_path(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"there is no {path}; name a model's folder, a file in it, or an official g_… file")
    if path.suffix == ".json":
        return path
    folder = path if path.is_dir() else path.parent
    if not (folder / CONFIG_NAME).is_file():
        raise UserError(f"{folder} holds no {CONFIG_NAME}; put the model's configuration beside it")
    return folder / CONFIG_NAME


def weights_path(path: Path) -> Path:
    """The generator's file: `path` itself, or the one in that folder (an official one's newest `g_…`)."""
    path = path.parent if path.name == CONFIG_NAME else path
    if not path.is_dir():
        return path
    own = path / "generator.safetensors"
    official = sorted(path.glob("generator_v*")) + sorted(path.glob("g_*"))
    if not own.is_file() and not official:
        raise UserError(
            f"{path} holds no generator.safetensors and no official g_… file; name a model's folder"
        )
    return own if own.is_file() else official[-1]


def save_model(folder: Path | str, config: HiFiGANConfig, **models: nn.Module) -> None:
    """Write `config.json` and `<name>.safetensors` for each model, e.g. generator=…, whole or not at all.

    The folder is replaced as one: what else it held is gone.
    """
    with atomic_write(Path(folder)) as temporary:
        temporary.mkdir()
        write_model(temporary, config, {name: model.state_dict() for name, model in models.items()})


def write_model(folder: Path, config: HiFiGANConfig, weights: dict[str, dict[str, Tensor]]) -> None:
    (folder / CONFIG_NAME).write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")
    for name, state in weights.items():
        save_file(
            {key: tensor.contiguous().cpu() for key, tensor in state.items()}, folder / f"{name}.safetensors"
        )


def load_generator(path: Path | str, device: torch.device | str = "cpu") -> Generator:
    """A generator in eval mode, weight norm folded, from any of the forms named at the top of this file.

    Raises UserError for what is missing, damaged, or not a generator of its configuration.
    """
    path = Path(path)
    generator = Generator(read_config(path))
    load_weights(generator, read_weights(weights_path(path), "generator"), weights_path(path))
    return generator.fold_weight_norm().eval().requires_grad_(False).to(device)


def load_pretrained(path: Path | str, generator: Generator, discriminators: Discriminators) -> str:
    """Load a model to train on from; says in words what was found.

    The discriminators come along if they lie beside the generator: in its folder, or in the `do_…` file that
    has the number of an official `g_…`. The generator's input is converted if its training used the other mel
    scale.
    """
    path = Path(path)
    file, config, wanted = weights_path(path), read_config(path), generator.config
    check_same_mel(config, wanted, str(path), "this run", scale_matters=False)
    load_weights(generator, read_weights(file, "generator"), file)
    message = f"generator from {file}"
    if config.mel_scale != wanted.mel_scale:
        change_mel_scale(generator, config)
        message += f", its input converted from {config.mel_scale} to {wanted.mel_scale} mels"

    official = file.with_name(file.name.replace("g_", "do_", 1))
    for name, discriminator in discriminators.named_children():
        own = file.with_name(f"{name}.safetensors")
        source = (
            own if own.is_file() else official if file.name.startswith("g_") and official.is_file() else None
        )
        if source is None:
            message += f"; {name} from scratch, there being none beside it"
        else:
            load_weights(discriminator, read_weights(source, name), source)
            message += f"; {name} from {source}"
    return message


def read_weights(path: Path, name: str) -> dict[str, Tensor]:
    """The state dict in a `.safetensors` file, or under the key `name` in an official pickle."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the age of the pickle: no trouble of the user's
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is refused: it is no checkpoint, or holds more than tensors, which could run code on "
            "loading; use a .safetensors file, or a checkpoint of tensors alone"
        ) from error
    except Exception as error:  # a damaged pickle raises anything, from IndexError to struct.error
        raise UserError(f"{path} can't be read as a checkpoint: {error}; is the file whole?") from error
    state = contents.get(name) if isinstance(contents, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} holds no {name!r} state dict; is it the right file?")
    return state


def load_weights(model: nn.Module, state: dict[str, Tensor], source: Path) -> None:
    """Load a state dict in whatever form its normed weights come; `source` is for the error message.

    Three forms: the parametrizations of `model`; the old hooks' names of official checkpoints (weight norm's
    weight_g and weight_v, spectral norm's weight_orig, weight_u and weight_v); a plain weight with the norm
    folded in.
    """
    wanted = model.state_dict()
    state = {key.removeprefix("module."): value for key, value in state.items()}
    renamed = {}
    for key, tensor in state.items():
        layer, _, leaf = key.rpartition(".")
        spectral = f"{layer}.weight_orig" in state
        new_leaf = {
            "weight_g": "parametrizations.weight.original0",
            "weight_v": "parametrizations.weight.0._v" if spectral else "parametrizations.weight.original1",
            "weight_u": "parametrizations.weight.0._u",
            "weight_orig": "parametrizations.weight.original",
        }.get(leaf, leaf)
        if leaf == "weight" and f"{layer}.parametrizations.weight.original1" in wanted:
            # weight = g v / |v|, the norm taken over all but the first dimension: any weight is its own
            # direction
            length = tensor.flatten(1).norm(dim=1).view(-1, *[1] * (tensor.dim() - 1))
            renamed[f"{layer}.parametrizations.weight.original0"] = length
            new_leaf = "parametrizations.weight.original1"
        renamed[f"{layer}.{new_leaf}"] = tensor

    missing, extra = sorted(wanted.keys() - renamed.keys()), sorted(renamed.keys() - wanted.keys())
    if missing or extra:
        found = f"{missing[0]} is missing" if missing else f"{extra[0]} has no place"
        raise UserError(
            f"{source} does not fit its configuration ({len(missing)} tensors missing, {len(extra)} left "
            "over; "
            f"{found}); check the config.json"
        )
    for key, tensor in renamed.items():
        if tensor.shape != wanted[key].shape:
            raise UserError(
                f"{source} does not fit its configuration: {key} is {tuple(tensor.shape)} in the file and "
                f"{tuple(wanted[key].shape)} in the model; check the config.json and the flags for the "
                "model's sizes"
            )
    model.load_state_dict(renamed)


@torch.no_grad()
def change_mel_scale(generator: Generator, trained_with: MelConfig) -> None:
    """Make a generator that was trained with one mel scale read the scale of its own `config`.

    The scales differ by a map a x + b, which the first convolution takes up: its weights times a, its bias
    plus b times their sum. At either end of an utterance a few frames differ: that convolution pads with
    zeros, which are another level in the other scale.
    """
    config = generator.config
    offset = trained_with._from_ln(config._to_ln(0.0))
    slope = trained_with._from_ln(config._to_ln(1.0)) - offset
    layer = generator.conv_pre
    layer.bias += offset * layer.weight.sum(dim=(1, 2))
    layer.weight = layer.weight * slope
