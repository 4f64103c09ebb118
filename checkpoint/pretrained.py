"""Start training from a model: load a generator, its discriminators or a Tacotron 2 in any format."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from checkpoint.download import local_folder
from checkpoint.files import read_weights
from checkpoint.load import load_generator_weights, read_config, read_tacotron2, weights_path
from checkpoint.weights import load_weights
from common.errors import UserError
from config import HiFiGANConfig
from generators.build import Discriminators
from generators.vocos import Vocos
from mel import MelConfig, check_same_mel
from model import Generator
from tacotron2.model import Tacotron2

OFFICIAL_DISCRIMINATORS = ("mpd", "msd")  # in the official `do_…` files


def load_pretrained(path: Path | str, generator: Generator | Vocos, discriminators: Discriminators) -> str:
    """Load a model to continue training from; return a sentence that names the files.

    Discriminators are loaded if they are next to the generator: in its folder, or in the `do_…` file with the
    number of an official `g_…`. The generator's input is converted if it was trained with another mel scale.
    """
    path = local_folder(path, discriminators=True)
    message = load_plain_generator(path, generator)
    for name, discriminator in discriminators.named_children():
        source = discriminator_path(weights_path(path), name)
        if source is None:
            message += f"; {name} from scratch, since its weights are not next to the generator"
        else:
            load_weights(discriminator, read_weights(source, name), source)
            message += f"; {name} from {source}"
    return message


def load_pretrained_tacotron2(path: Path | str, model: Tacotron2) -> str:
    """Load a Tacotron 2 to continue training from; return a phrase that names its file.

    A model of one speaker becomes one of several: all of them start with its voice. A post-filter is left
    out, because it would not fit the mels of the trained model. Raises UserError for a model with other mel
    settings, that reads other symbols, or with several speakers that are not those of `model`.
    """
    config, state, file = read_tacotron2(Path(path))
    check_same_mel(config, model.config, str(path), "this run")
    if config.text_input != model.config.text_input:  # the rows of its embedding belong to other symbols
        raise UserError(
            f"{path} reads {config.text_input}, and this run {model.config.text_input}; leave out "
            "--text_input, or start without --path_to_pretrained_weights"
        )
    if model.config.speakers and not config.speakers:
        state = state | {"speaker_embedding.weight": torch.zeros_like(model.speaker_embedding.weight)}
    elif config.speakers != model.config.speakers:
        saved, wanted = (", ".join(names) or "none" for names in (config.speakers, model.config.speakers))
        raise UserError(
            f"the speakers of {path} are {saved}, and those of this run {wanted}; leave out --speakers, or "
            "reduce the model to one speaker with `python -m checkpoint convert --to project --speaker`"
        )
    state = {name: tensor for name, tensor in state.items() if not name.startswith("postfilter.")}
    load_weights(model, state, file)
    left_out = "; its post-filter left out: fit it again after training" if config.postfilter_taps else ""
    return f"Tacotron 2 from {file}{left_out}"


def load_plain_generator(path: Path, generator: Generator | Vocos) -> str:
    """Load a generator and convert it to the mel scale of `generator.config`, without `InputNorm`.

    Returns a phrase that names its file and what was converted.
    """
    config, wanted = read_config(path), generator.config
    check_same_mel(config, wanted, str(path), "this run", scale_matters=False)
    load_generator_weights(generator, path)
    changes = []
    if isinstance(input_layer(generator), nn.Sequential):
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
    """Return the file of a discriminator next to its generator's file, or None."""
    own = generator_file.with_name(f"{name}.safetensors")
    official = generator_file.with_name(generator_file.name.replace("g_", "do_", 1))
    if own.is_file():
        return own
    is_official = name in OFFICIAL_DISCRIMINATORS and generator_file.name.startswith("g_")
    return official if is_official and official.is_file() else None


def load_discriminators(
    config: HiFiGANConfig, generator_file: Path
) -> tuple[Discriminators, dict[str, Path]]:
    """Return the discriminators of `config`, and the files of those that are next to the generator."""
    discriminators, found = Discriminators(config), {}
    for name, discriminator in discriminators.named_children():
        if path := discriminator_path(generator_file, name):
            load_weights(discriminator, read_weights(path, name), path)
            found[name] = path
    return discriminators, found


def input_layer(generator: Generator | Vocos) -> nn.Module:
    return generator.embed if isinstance(generator, Vocos) else generator.conv_pre


@torch.no_grad()
def change_mel_scale(generator: Generator | Vocos, trained_with: MelConfig) -> None:
    """Convert the input of a generator from the mel scale of its training to that of its `config`."""
    config = generator.config
    offset = trained_with.from_ln(config.to_ln(0.0))
    slope = trained_with.from_ln(config.to_ln(1.0)) - offset
    fold_input_map(input_layer(generator), slope, offset)


@torch.no_grad()
def fold_input_map(conv: nn.Conv1d, slope: Tensor | float, offset: Tensor | float) -> None:
    """Make a convolution compute for x its previous output for slope * x + offset.

    `slope` and `offset` are numbers or (in_channels, 1) tensors. The slope is multiplied into the weights,
    and the offset times their sum is added to the bias. The result is exact except where the kernel overlaps
    the zero padding, since a zero in x corresponds to `offset` in the previous input. For a kernel of 7,
    these are three frames at either end. Later layers spread the difference over the generator's
    `context_frames`.
    """
    weight = conv.weight  # (out_channels, in_channels, kernel_size)
    conv.bias += (weight * offset).sum(dim=(1, 2))
    if parametrize.is_parametrized(conv):
        conv.weight = weight * slope
    else:
        conv.weight.copy_(weight * slope)
