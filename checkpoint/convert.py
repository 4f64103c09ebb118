"""Write a model in another format: `python -m checkpoint convert`."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from checkpoint.download import local_folder
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
from checkpoint.pretrained import load_discriminators, load_plain_generator
from checkpoint.voices import VOICE_FILE, Voice, read_voice
from common.errors import UserError
from common.files import atomic_write, is_occupied
from common.options import Options, option
from generators.build import build_generator
from mel import MelConfig


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(Options):
    """Write a vocoder or a Tacotron 2 in another format, or a voice for the Hugging Face Hub."""

    source: Path = option(
        help="Folder of a model in any format, a file in it, or a folder with voice.json", positional=True
    )
    target: Path = option(help="Folder to write, which must be new or empty", positional=True)
    to: str = option(
        help="project: write this project's format. official: write files for jik876/hifi-gan or MISRNet. "
        "hub: write this project's format with a model card for the Hugging Face Hub",
        choices=("project", "official", "hub"),
    )  # fmt: skip
    fold_weight_norm: bool = option(
        False, "Write only the generator, with weight norm folded, for inference", group="--to project"
    )
    half_precision: bool = option(False, "Write 16-bit weights, for inference; also with --to hub")
    speaker: str | None = option(None, "Keep only this speaker of a Tacotron 2 with several")
    discriminators: bool = option(
        False, "Include the discriminators, from which others can continue training", group="--to hub"
    )
    push_to_hub: str | None = option(
        None, "Upload the result to this repository, user/name, which is created if there is none",
        metavar="NAME",
    )  # fmt: skip
    license: str | None = option(None, "License identifier of the Hub, such as mit or cc0-1.0")
    training_data: str | None = option(None, "Describe the training data, in one sentence", metavar="TEXT")
    metrics: str | None = option(
        None, "Describe the quality of the model; default: the last validation of its run", metavar="TEXT"
    )

    def __post_init__(self):
        super().__post_init__()
        for_hub = ("discriminators", "push_to_hub", "license", "training_data", "metrics")
        if self.to != "hub" and (given := self.given(*for_hub)):
            raise UserError(f"{given[0]} applies to --to hub, not to --to {self.to}; omit it")
        if self.to == "official" and (given := self.given("half_precision", "fold_weight_norm")):
            raise UserError(f"{given[0]} does not apply to --to official; omit it")
        if self.discriminators and self.fold_weight_norm:
            raise UserError("--fold_weight_norm writes the generator only; omit it or --discriminators")


def convert(options: ConvertOptions) -> list[str]:
    """Write the model at `source` into the folder `target`; return remarks for the user.

    Raises UserError if `target` is not empty, or if `source` does not have what the options ask for.
    """
    source, target = local_folder(options.source, discriminators=True), options.target
    if is_occupied(target):
        raise UserError(f"{target} is there already; name a new or empty folder")
    check_kind(options, source)
    with atomic_write(target) as temporary:
        temporary.mkdir()
        if options.to == "official":
            return write_official(temporary, source)
        if options.to == "hub":
            return write_hub(temporary, source, options)
        return write_project(
            temporary, source, options.fold_weight_norm, options.half_precision, options.speaker
        )


def check_kind(options: ConvertOptions, source: Path) -> None:
    """Raise UserError for options that do not apply to a voice, a Tacotron 2 or a vocoder."""
    if is_voice(source):
        if options.to != "hub" or options.speaker:
            raise UserError(f"{source} is a voice; use --to hub without --speaker")
    elif is_tacotron2(source):
        if options.to != "project" or options.fold_weight_norm:
            raise UserError(
                f"{source} is a Tacotron 2, which has no weight norm and no other format; use --to project "
                "without --fold_weight_norm"
            )
    elif options.speaker is not None:
        raise UserError(f"{source} is a vocoder, which has no speakers; omit --speaker")


def is_voice(source: Path) -> bool:
    return (source / VOICE_FILE).is_file()


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
        check_range(models, source)
    write_model(folder, config, {name: model.state_dict() for name, model in models.items()})
    return [f"{', '.join(models)} from {file if file.is_dir() else file.parent}"]


def check_range(models: dict[str, nn.Module], source: Path) -> None:
    """Raise UserError if a weight has become infinite, because 16 bits can't store it."""
    for model in models.values():
        for name, weight in model.state_dict().items():
            if not weight.isfinite().all():
                raise UserError(f"{name} of {source} exceeds 65,504; omit --half_precision")


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


def write_hub(folder: Path, source: Path, options: ConvertOptions) -> list[str]:
    """Write a vocoder or a voice with a model card; return remarks for the user."""
    try:
        from checkpoint.hub import vocoder_card, voice_card  # huggingface_hub is slow to import
    except ModuleNotFoundError as error:
        raise UserError(f"--to hub needs the package {error.name}: pip install huggingface_hub") from error

    fold, half, license = not options.discriminators, options.half_precision, options.license
    if is_voice(source):
        voice = read_voice(source)
        lines = write_voice(folder, voice, fold, half)
        vocoder, card, facts = voice.vocoder, voice_card(voice, license), {"license": license}
    else:
        vocoder, facts = source, {"license": license, "training_data": options.training_data}
        lines = write_project(folder, source, fold, half, None)
        card = vocoder_card(source, metrics=options.metrics, **facts)
    if options.discriminators and not any(folder.rglob("m?d.safetensors")):
        raise UserError(f"{vocoder} holds no discriminators; omit --discriminators")
    card.save(folder / "README.md")
    missing = ", ".join(name for name, value in facts.items() if not value)
    return [*lines, f"the model card does not state: {missing}"] if missing else lines


def write_voice(folder: Path, voice: Voice, fold: bool, half: bool) -> list[str]:
    """Write a voice into a folder that needs no other; return remarks for the user."""
    lines = []
    for name, source, speaker in (("tacotron2", voice.taco, voice.speaker), ("vocoder", voice.vocoder, None)):
        (folder / name).mkdir()
        lines += write_project(folder / name, source, fold, half, speaker)
    values = {name: getattr(voice, name) for name in ("title", "language", "license", "provenance")}
    values |= {"taco": "tacotron2", "vocoder": "vocoder"}
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    (folder / VOICE_FILE).write_text(text, encoding="utf-8")
    if (voice.folder / "LICENSE").is_file():
        shutil.copyfile(voice.folder / "LICENSE", folder / "LICENSE")
    return lines


def run_convert(options: ConvertOptions) -> None:
    try:
        lines = convert(options)
    except OSError as error:
        raise UserError(f"can't write {options.target}: {error}; name another folder") from error
    names = ", ".join(sorted(path.name for path in options.target.iterdir()))
    print("\n".join([*lines, f"{options.target} holds {names}"]))
    if options.push_to_hub:
        from checkpoint.hub import upload

        print(upload(options.target, options.push_to_hub))
