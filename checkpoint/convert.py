"""Write a model in another form: `python -m checkpoint convert`."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from checkpoint.foreign import (
    OFFICIAL_DISCRIMINATORS,
    check_official,
    official_settings,
    official_training_state,
    official_weights,
)
from checkpoint.project import (
    CONFIG_NAME,
    PROGRESS_NAME,
    discriminator_path,
    is_tacotron2,
    load_generator_weights,
    load_plain_generator,
    load_tacotron2,
    load_weights,
    number_in,
    read_config,
    read_pickle,
    read_settings,
    read_weights,
    weights_path,
    write_model,
)
from model import Discriminators, Generator
from tacotron2.mel import MelConfig
from utils import UserError, atomic_write, read_json


def convert(
    source: Path, target: Path, to: str, fold: bool = False, half: bool = False, **card: str | None
) -> list[str]:
    """Write the model at `source` into the folder `target`; gives, in lines, what there is to be said.

    `to` is "project", "official" or "hub"; `fold` and `half` are for `write_project`, `card` for
    `hub.model_card`.
    Raises UserError if `target` holds anything.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is there already; name a new folder, or an empty one")
    if is_tacotron2(source) and (to != "project" or fold):
        raise UserError(
            f"{source} is a Tacotron 2: it has no weight norm and no form but our own; use --to project, "
            "alone or with --half_precision"
        )
    with atomic_write(target) as temporary:
        temporary.mkdir()
        if to == "official":
            return write_official(temporary, source)
        if to == "hub":
            from checkpoint.hub import write_hub_folder  # what it imports is slow to

            return write_hub_folder(temporary, source, **card)
        return write_project(temporary, source, fold, half)


def write_project(folder: Path, source: Path, fold: bool, half: bool) -> list[str]:
    """Our own form: a model to train on from, or with `fold` the generator alone, weight norm folded.

    A Tacotron 2 is written as one. With `half` the weights take half the room, as 16-bit numbers.
    """
    if is_tacotron2(source):
        model = load_tacotron2(source)
        config, file, models = model.config, source, {"tacotron2": model}
    else:
        config, file = read_config(source), weights_path(source)
        generator = Generator(config)
        load_generator_weights(generator, source)
        models = {"generator": generator.fold_weight_norm() if fold else generator}
        for name, discriminator in () if fold else Discriminators(config).named_children():
            if path := discriminator_path(file, name):
                load_weights(discriminator, read_weights(path, name), path)
                models[name] = discriminator
    if half:
        models = {name: model.half() for name, model in models.items()}
    write_model(folder, config, {name: model.state_dict() for name, model in models.items()})
    return [f"{', '.join(models)} from {file if file.is_dir() else file.parent}"]


def write_official(folder: Path, source: Path) -> list[str]:
    """Write the model at `source` for the official code; gives, in lines, what there is to be said.

    `config.json`, `g_<steps>`, and `do_<steps>` if the discriminators are there and of the official sizes.
    From a training checkpoint the official `train.py` goes on where it stood; else with new optimizers.
    """
    config, file = read_config(source), weights_path(source)
    check_official(config)
    settings = official_settings(config, read_settings(source) | training_arguments(file))
    (folder / CONFIG_NAME).write_text(json.dumps(settings, indent=4) + "\n", encoding="utf-8")
    generator = Generator(replace(config, mel_scale="ln"))
    lines = [load_plain_generator(source, generator)]
    if config.min_db != MelConfig.min_db:
        lines.append(f"it knows mels clipped at {config.min_db:g} dB, and the official code clips at -100 dB")
    steps, epoch = training_progress(file)
    save_pickle({"generator": official_weights(generator)}, folder / f"g_{steps:08d}")

    present = {name: discriminator_path(file, name) for name in config.discriminators}
    sources = {name: present.get(name) for name in ("mpd", "msd")}
    sizes = {name: getattr(config, name) for name in OFFICIAL_DISCRIMINATORS}
    if None in sources.values():
        return [*lines, "no do_… file: there are not both of mpd and msd beside the generator"]
    if sizes != OFFICIAL_DISCRIMINATORS:
        return [*lines, f"no do_… file: official discriminators have {OFFICIAL_DISCRIMINATORS}, not {sizes}"]
    discriminators = Discriminators(config)
    for name, path in sources.items():
        load_weights(discriminators.get_submodule(name), read_weights(path, name), path)
        lines.append(f"{name} from {path}")
    optimizers = tuple(file.with_name(name) for name in ("optimizer.bin", "optimizer_1.bin"))
    if all(path.is_file() for path in optimizers):
        optimizers = tuple(read_pickle(path) for path in optimizers)
    else:
        optimizers = None
        lines.append("the optimizers start anew, their state not being beside the generator")
    contents = official_training_state(generator, discriminators, optimizers)
    save_pickle(contents | {"steps": steps, "epoch": epoch}, folder / f"do_{steps:08d}")
    return lines


def training_progress(generator_file: Path) -> tuple[int, int]:
    """(steps, completed epochs) of a training checkpoint; an official file has the steps in its name."""
    progress = generator_file.with_name(PROGRESS_NAME)
    if progress.is_file():
        values = read_json(progress)
        return values["step"], values["epoch"]
    return number_in(generator_file) if generator_file.name.startswith("g_") else 0, 0


def training_arguments(generator_file: Path) -> dict:
    """The flags of the run that a training checkpoint is of, under their official names; {} of other
    models."""
    progress = generator_file.with_name(PROGRESS_NAME)
    arguments = read_json(progress).get("arguments", {}) if progress.is_file() else {}
    official = {"beta1": "adam_b1", "beta2": "adam_b2"}
    return {official.get(name, name): value for name, value in arguments.items()}


def save_pickle(contents: dict, path: Path) -> None:
    # the official code asks for PyTorch 1.4, which can't read the zip files that came with 1.6
    torch.save(contents, path, _use_new_zipfile_serialization=False)


def add_convert_command(commands) -> None:
    """Add `convert` to the subparsers of `python -m checkpoint`."""
    command = commands.add_parser("convert", help="write a model in another form")
    command.add_argument("source", type=Path, help="a model's folder or a file in it, in any form")
    command.add_argument("target", type=Path, help="the folder to write")
    command.add_argument(
        "--to", required=True, choices=("project", "official", "hub"),
        help="our own form; jik876/hifi-gan's (or MISRNet's) files; our own form with a model card",
    )  # fmt: skip
    command.add_argument(
        "--fold_weight_norm", action="store_true", help="project: the generator alone, smaller, for inference"
    )
    command.add_argument(
        "--half_precision", action="store_true", help="project: 16-bit weights, half as large; for inference"
    )
    group = command.add_argument_group("the model card of --to hub")
    group.add_argument("--license", help="its identifier on the hub: mit, cc0-1.0, …")
    group.add_argument("--training_data", help="what the model was trained on, in a sentence")
    group.add_argument("--metrics", help="how well it does; by default the last validation of its run")
    command.set_defaults(run=run_convert)


def run_convert(args: argparse.Namespace) -> None:
    card = {"license": args.license, "training_data": args.training_data, "metrics": args.metrics}
    try:
        lines = convert(args.source, args.target, args.to, args.fold_weight_norm, args.half_precision, **card)
    except OSError as error:
        raise UserError(f"can't write {args.target}: {error}; name another folder") from error
    files = ", ".join(sorted(path.name for path in args.target.iterdir()))
    print("\n".join([*lines, f"{args.target} holds {files}"]))
