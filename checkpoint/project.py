"""Every way a model is written to disk or read from it.

A model on disk is a folder with `config.json` and `generator.safetensors`; a training checkpoint is such a
folder with the discriminators and what resuming needs beside them. Other people's are read too:
- the official files: `g_02500000` or `generator_v1`, a pickle of {"generator": …} beside its `config.json`,
  and `do_02500000` with the discriminators; MISRNet's are alike;
- NVIDIA's DeepLearningExamples: `hifigan_gen_checkpoint_10000.pt`, with its configuration inside;
- transformers' SpeechT5HifiGan and FastSpeech2ConformerHifiGan: a folder with `config.json` and
  `model.safetensors` or `pytorch_model.bin`.
A Tacotron 2 is a folder with `config.json` and `tacotron2.safetensors`; read are also NVIDIA's
`tacotron2_statedict.pt`, checkpoints of its DeepLearningExamples, and torchaudio's files for characters.
What their parts are called is in `checkpoint/foreign.py`.
"""

import hashlib
import json
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from checkpoint.foreign import (
    InputNorm,
    is_transformers,
    nvidia_settings,
    official_name,
    other_tacotron2,
    transformers_settings,
    transformers_weights,
)
from config import HiFiGANConfig
from model import Discriminators, Generator
from tacotron2.config import Tacotron2Config
from tacotron2.mel import MelConfig, check_same_mel
from tacotron2.model import Tacotron2
from utils import UserError, atomic_write, read_json

CONFIG_NAME = "config.json"
TACOTRON2_FILE = "tacotron2.safetensors"
PROGRESS_NAME = "progress.json"  # where a training checkpoint stands
TRANSFORMERS_FILES = ("pytorch_model.bin", "model.safetensors")
# What a generator's file may be called; of several in a folder the one that comes last counts.
GENERATOR_FILES = (
    "hifigan_gen_checkpoint_*.pt",
    *TRANSFORMERS_FILES,
    "g_*",
    "generator_v*",
    "generator.safetensors",
)


def read_config(path: Path | str) -> HiFiGANConfig:
    """The configuration of a model, by its folder, a file of weights in it, or the JSON itself."""
    return HiFiGANConfig.from_dict(read_settings(Path(path)))


def read_mel_config(path: Path) -> MelConfig:
    """The mel settings alone, from the `config.json` of any model or of a folder of saved mels."""
    return MelConfig.from_dict(read_settings(path))


def read_settings(path: Path) -> dict:
    """What `from_dict` of a configuration reads, of a model in any of the forms above."""
    if not path.exists():
        raise UserError(f"there is no {path}; name a model's folder, a file in it, or an official g_… file")
    if path.is_dir() and not (path / CONFIG_NAME).is_file() and any(path.glob("*.pt")):
        path = weights_path(path)
    if path.suffix == ".pt" and isinstance(contents := read_pickle(path), dict) and contents.get("config"):
        return nvidia_settings(contents)
    values = read_json(config_path(path))
    return transformers_settings(values, path) if is_transformers(values) else values


def config_path(path: Path) -> Path:
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
    found = [file for pattern in GENERATOR_FILES for file in sorted(path.glob(pattern), key=number_in)]
    if not found:
        raise UserError(
            f"{path} holds no generator.safetensors and no official g_… file; name a model's folder"
        )
    return found[-1]


def number_in(path: Path) -> int:
    """The first number in the name of a file, of a checkpoint its steps or epochs."""
    match = re.search(r"\d+", path.name)
    return int(match[0]) if match else 0


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


def load_on_device(load: Callable, path: Path | str, device: str):
    """`load(path, device)`. Raises UserError for a device that PyTorch does not know or have."""
    try:
        return load(path, device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"can't use --device {device}: {error}") from error


def load_generator(
    path: Path | str, device: torch.device | str = "cpu", generator_class: type[Generator] = Generator
) -> Generator:
    """A generator in eval mode, weight norm folded, from any of the forms named at the top of this file.

    Raises UserError for what is missing, damaged, or not a generator of its configuration.
    """
    path = Path(path)
    generator = generator_class(read_config(path))
    load_generator_weights(generator, path)
    return generator.fold_weight_norm().eval().requires_grad_(False).to(device)


def load_generator_weights(generator: Generator, path: Path) -> None:
    """Load the generator at `path`; one of transformers' gets an `InputNorm` before its first layer."""
    file = weights_path(path)
    state = read_weights(file, "generator")
    if file.name in TRANSFORMERS_FILES:
        state = transformers_weights(state, read_json(config_path(file)))
    if "conv_pre.0.mean" in state:
        generator.conv_pre = nn.Sequential(InputNorm(generator.config.num_mels), generator.conv_pre)
    load_weights(generator, state, file)


def load_tacotron2(path: Path | str, device: torch.device | str = "cpu") -> Tacotron2:
    """A Tacotron 2 in eval mode: a folder with `config.json` and `tacotron2.safetensors`, or another's file.

    NVIDIA's and torchaudio's files are known by what is in them, whatever they are called. Their mels come
    out in our default scale. Raises UserError for what is missing, damaged, or not a Tacotron 2 of its
    configuration.
    """
    config, state, file = read_tacotron2(Path(path))
    model = Tacotron2(config)
    load_weights(model, state, file)
    return model.eval().requires_grad_(False).to(device)


def read_tacotron2_config(path: Path | str) -> Tacotron2Config:
    """The configuration of a Tacotron 2, by its folder or a file in it, or by another's file."""
    file = tacotron2_path(Path(path))
    return own_tacotron2_config(file) if is_own_tacotron2(file) else read_tacotron2(file)[0]


def load_pretrained_tacotron2(path: Path | str, model: Tacotron2) -> str:
    """Load a Tacotron 2 to train on from; says in words what was found."""
    config, state, file = read_tacotron2(Path(path))
    check_same_mel(config, model.config, str(path), "this run")
    load_weights(model, state, file)
    return f"Tacotron 2 from {file}"


def read_tacotron2(path: Path) -> tuple[Tacotron2Config, dict[str, Tensor], Path]:
    """A Tacotron 2's configuration, its weights under our names, and the file that these are in."""
    file = tacotron2_path(path)
    if is_own_tacotron2(file):
        return own_tacotron2_config(file), read_weights(file, "tacotron2"), file
    settings, state = other_tacotron2(read_pickle(file), file)
    return Tacotron2Config(**settings), state, file


def tacotron2_path(path: Path) -> Path:
    """The file of weights: `path` itself, or the one in that folder or beside that `config.json`."""
    file = path / TACOTRON2_FILE if path.is_dir() else path
    file = path.with_name(TACOTRON2_FILE) if path.name == CONFIG_NAME else file
    if not file.is_file():
        found = f"{file.parent} holds no {file.name}" if path.exists() else f"there is no {path}"
        raise UserError(f"{found}; name a Tacotron 2's folder, or a file of NVIDIA's or torchaudio's")
    return file


def is_own_tacotron2(file: Path) -> bool:
    return file.suffix == ".safetensors"


def is_tacotron2(path: Path) -> bool:
    """Whether a Tacotron 2, in any of these forms, is there and not a vocoder."""
    beside = path.with_name(TACOTRON2_FILE) if path.name == CONFIG_NAME else path
    if beside.name == TACOTRON2_FILE or (path / TACOTRON2_FILE).is_file():
        return beside.exists()
    try:  # another's file is known by what is in it
        return bool(read_tacotron2_config(path))
    except UserError:
        return False


def own_tacotron2_config(file: Path) -> Tacotron2Config:
    path = config_path(file)
    values = read_json(path)
    if "decoder_rnn_dim" not in values:
        raise UserError(f"{file} is no Tacotron 2: {path} is another model's; name a Tacotron 2's folder")
    return Tacotron2Config.from_dict(values)


def load_pretrained(path: Path | str, generator: Generator, discriminators: Discriminators) -> str:
    """Load a model to train on from; says in words what was found.

    The discriminators come along if they lie beside the generator: in its folder, or in the `do_…` file that
    has the number of an official `g_…`. The generator's input is converted if its training used the other mel
    scale.
    """
    path = Path(path)
    message = load_plain_generator(path, generator)
    for name, discriminator in discriminators.named_children():
        source = discriminator_path(weights_path(path), name)
        if source is None:
            message += f"; {name} from scratch, there being none beside it"
        else:
            load_weights(discriminator, read_weights(source, name), source)
            message += f"; {name} from {source}"
    return message


def load_plain_generator(path: Path, generator: Generator) -> str:
    """Load a generator such that it reads the mel scale of `generator.config`, and has no `InputNorm`."""
    config, wanted = read_config(path), generator.config
    check_same_mel(config, wanted, str(path), "this run", scale_matters=False)
    load_generator_weights(generator, path)
    changes = []
    if isinstance(generator.conv_pre, nn.Sequential):
        norm, generator.conv_pre = generator.conv_pre
        fold_input_map(generator.conv_pre, 1 / norm.scale, -norm.mean / norm.scale)
        changes.append("its normalization of the mel folded into its first layer")
    if [config.from_ln(x) for x in (0.0, 1.0)] != [wanted.from_ln(x) for x in (0.0, 1.0)]:
        change_mel_scale(generator, config)
        changes.append(f"its input converted from {config.mel_scale} to {wanted.mel_scale} mels")
    if changes:
        changes.append(f"which is inexact within {generator.context_frames} frames of an utterance's ends")
    return ", ".join([f"generator from {weights_path(path)}", *changes])


def discriminator_path(generator_file: Path, name: str) -> Path | None:
    """The file of a discriminator beside its generator's, if there is one."""
    own = generator_file.with_name(f"{name}.safetensors")
    official = generator_file.with_name(generator_file.name.replace("g_", "do_", 1))
    if own.is_file():
        return own
    return official if generator_file.name.startswith("g_") and official.is_file() else None


def read_weights(path: Path, name: str) -> dict[str, Tensor]:
    """The state dict in a `.safetensors` file, or in a pickle under the key `name` (not so transformers')."""
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except Exception as error:
            raise UserError(f"{path} can't be read as a checkpoint: {error}; is the file whole?") from error
    contents = read_pickle(path)
    if isinstance(contents, dict) and path.name not in TRANSFORMERS_FILES:
        contents = contents.get(name)
    if not isinstance(contents, dict) or not all(isinstance(value, Tensor) for value in contents.values()):
        raise UserError(f"{path} holds no {name!r} state dict; is it the right file?")
    return contents


def read_pickle(path: Path):
    """What `torch.save` wrote, if it is tensors, numbers, strings and containers of them alone."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the age of the pickle: no trouble of the user's
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is refused: it is no checkpoint, or holds more than tensors, which could run code on "
            "loading; use a .safetensors file, or a checkpoint of tensors alone"
        ) from error
    except Exception as error:  # a damaged pickle raises anything, from IndexError to struct.error
        raise UserError(f"{path} can't be read as a checkpoint: {error}; is the file whole?") from error


def weights_fingerprint(model: nn.Module) -> str:
    """SHA-256 of the weights, the same for one model in whatever file it lies."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_weights(model: nn.Module, state: dict[str, Tensor], source: Path) -> None:
    """Load a state dict in whatever form it comes, ours or another's; `source` is for the error message.

    Normed weights have three forms: the parametrizations of `model`; the old hooks' names of official
    checkpoints (weight norm's weight_g and weight_v, spectral norm's weight_orig, weight_u and weight_v); a
    plain weight with the norm folded in.
    """
    wanted = model.state_dict()
    ours = {official_name(key, model): key for key in wanted}
    renamed = {}
    for key, tensor in state.items():
        official = official_name(key, model)
        is_folded = official.endswith(".weight") and f"{official}_g" in ours
        name = ours.get(f"{official}_v" if is_folded else official, official)
        if name in wanted and tensor.shape == (*wanted[name].shape, 1):
            tensor = tensor.squeeze(-1)  # some of NVIDIA's 1D convolutions were 2D ones, for speed
        if is_folded:
            # weight = g v / |v|, the norm taken over all but the first dimension: any weight is a direction
            # of its own
            length = tensor.float().flatten(1).norm(dim=1).view(-1, *[1] * (tensor.dim() - 1))
            renamed[ours[f"{official}_g"]] = length
        renamed[name] = tensor

    missing, extra = sorted(wanted.keys() - renamed.keys()), sorted(renamed.keys() - wanted.keys())
    if missing or extra:
        found = f"{missing[0]} is missing" if missing else f"{extra[0]} has no place"
        raise UserError(
            f"{source} does not fit its configuration ({len(missing)} tensors missing, {len(extra)} left "
            f"over; {found}); check the config.json"
        )
    for key, tensor in renamed.items():
        if tensor.shape != wanted[key].shape:
            raise UserError(
                f"{source} does not fit its configuration: {key} is {tuple(tensor.shape)} in the file and "
                f"{tuple(wanted[key].shape)} in the model; check the config.json and the flags for the "
                "sizes"
            )
    model.load_state_dict(renamed)


@torch.no_grad()
def change_mel_scale(generator: Generator, trained_with: MelConfig) -> None:
    """Make a generator that was trained with one mel scale read the scale of its own `config`."""
    config = generator.config
    offset = trained_with.from_ln(config.to_ln(0.0))
    slope = trained_with.from_ln(config.to_ln(1.0)) - offset
    fold_input_map(generator.conv_pre, slope, offset)


@torch.no_grad()
def fold_input_map(conv: nn.Conv1d, slope: Tensor | float, offset: Tensor | float) -> None:
    """Make a convolution of slope * x + offset, numbers or (in_channels, 1) tensors, one of x.

    Its weights take up the slope, its bias the offset times their sum. Only the three frames at either end
    differ, where the convolution sees its padding: zeros of x now, which are other mels than zeros of
    slope * x + offset. Later layers spread that over `Generator.context_frames`.
    """
    weight = conv.weight  # (out_channels, in_channels, kernel_size)
    conv.bias += (weight * offset).sum(dim=(1, 2))
    conv.weight = weight * slope
