"""Write a model in another format: `python -m checkpoint convert`."""

from dataclasses import dataclass, replace
from pathlib import Path

from checkpoint.files import read_weights
from checkpoint.formats import official
from checkpoint.formats.project import write_model
from checkpoint.load import (
    is_tacotron2,
    load_generator_weights,
    load_tacotron2,
    read_config,
    read_settings,
    weights_path,
)
from checkpoint.pretrained import discriminator_path, load_plain_generator
from checkpoint.weights import load_weights
from common.errors import UserError
from common.files import atomic_write, visible
from common.options import Options, option
from config import HiFiGANConfig
from generators.build import Discriminators, build_generator
from mel import MelConfig


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(Options):
    """Write a vocoder or a Tacotron 2 in another format."""

    source: Path = option(help="Folder of a model in any format, or a file in it", positional=True)
    target: Path = option(help="Folder to write, which must be new or empty", positional=True)
    to: str = option(
        help="project: write this project's format. official: write files for jik876/hifi-gan or MISRNet. "
        "hub: write this project's format with a model card for the Hugging Face Hub",
        choices=("project", "official", "hub"),
    )  # fmt: skip
    fold_weight_norm: bool = option(
        False, "Write only the generator, with weight norm folded, for inference", group="--to project"
    )
    half_precision: bool = option(False, "Write 16-bit weights, for inference")
    speaker: str | None = option(None, "Keep only this speaker of a Tacotron 2 with several")
    license: str | None = option(
        None, "License identifier of the Hub, such as mit or cc0-1.0", group="model card of --to hub"
    )
    training_data: str | None = option(None, "Describe the training data, in one sentence", metavar="TEXT")
    metrics: str | None = option(
        None, "Describe the quality of the model; default: the last validation of its run", metavar="TEXT"
    )


def convert(
    source: Path,
    target: Path,
    to: str,
    fold: bool = False,
    half: bool = False,
    speaker: str | None = None,
    **card: str | None,
) -> list[str]:
    """Write the model at `source` into the folder `target`; return remarks for the user.

    `to` is "project", "official" or "hub". `fold`, `half` and `speaker` apply to "project" (see
    `write_project`), `card` contains arguments of `hub.model_card`. Raises UserError if `target` is not
    empty.
    """
    if target.exists() and (not target.is_dir() or any(visible(target.iterdir()))):
        raise UserError(f"{target} is there already; name a new or empty folder")
    if is_tacotron2(source):
        if to != "project" or fold:
            raise UserError(
                f"{source} is a Tacotron 2, which has no weight norm and no other format; use --to project "
                "without --fold_weight_norm"
            )
    elif speaker is not None:
        raise UserError(f"{source} is a vocoder, which has no speakers; omit --speaker")
    with atomic_write(target) as temporary:
        temporary.mkdir()
        if to == "official":
            return write_official(temporary, source)
        if to == "hub":
            from checkpoint.hub import write_hub_folder  # huggingface_hub is slow to import

            return write_hub_folder(temporary, source, **card)
        return write_project(temporary, source, fold, half, speaker)


def write_project(folder: Path, source: Path, fold: bool, half: bool, speaker: str | None) -> list[str]:
    """Write the model at `source` in this project's format; return remarks for the user.

    With `fold`, a vocoder is written without discriminators and with its weight norm folded. A Tacotron 2
    with several speakers is reduced to `speaker` if it is not None. With `half`, weights are 16-bit floats.
    """
    if is_tacotron2(source):
        model = load_tacotron2(source)
        model = model if speaker is None else model.for_speaker(speaker)
        config, file, models = model.config, source, {"tacotron2": model}
    else:
        config, file = read_config(source), weights_path(source)
        generator = build_generator(config)
        load_generator_weights(generator, source)
        models = {"generator": generator.fold_weight_norm() if fold else generator}
        if not fold:
            discriminators, found = load_discriminators(config, file)
            models |= {name: discriminators.get_submodule(name) for name in found}
    if half:
        models = {name: model.half() for name, model in models.items()}
    write_model(folder, config, {name: model.state_dict() for name, model in models.items()})
    return [f"{', '.join(models)} from {file if file.is_dir() else file.parent}"]


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


def write_official(folder: Path, source: Path) -> list[str]:
    """Write the model at `source` for the official code; return remarks for the user.

    A `do_…` file is written if both discriminators are next to the generator and have the official sizes.
    """
    config, file = read_config(source), weights_path(source)
    official.check_generator(config)
    generator = build_generator(replace(config, mel_scale="ln"))
    lines = [load_plain_generator(source, generator)]
    if config.min_db != MelConfig.min_db:
        lines.append(
            f"it was trained on mels clipped at {config.min_db:g} dB; the official code clips at -100 dB"
        )
    discriminators, found = load_discriminators(config, file)
    if obstacle := official.discriminators_obstacle(config, found.keys()):
        discriminators = None
        lines.append(obstacle)
    else:
        lines += [f"{name} from {found[name]}" for name in ("mpd", "msd")]
    return lines + official.write(folder, generator, discriminators, file, read_settings(source))


def run_convert(options: ConvertOptions) -> None:
    card = {name: getattr(options, name) for name in ("license", "training_data", "metrics")}
    settings = (options.fold_weight_norm, options.half_precision, options.speaker)
    try:
        lines = convert(options.source, options.target, options.to, *settings, **card)
    except OSError as error:
        raise UserError(f"can't write {options.target}: {error}; name another folder") from error
    names = ", ".join(sorted(path.name for path in options.target.iterdir()))
    print("\n".join([*lines, f"{options.target} holds {names}"]))
