"""The official HiFi-GAN's files, and MISRNet's: `config.json`, `g_…` or `generator_v…`, `do_…`.

`g_02500000` is a pickle of `{"generator": state_dict}`; `do_02500000` contains the discriminators, both
optimizers and counters.
"""

import json
from collections.abc import Collection
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from checkpoint import files
from checkpoint.files import CONFIG_NAME, PROGRESS_NAME, newest_file, number_in, read_pickle
from checkpoint.weights import official_name
from common.errors import UserError
from common.files import read_json
from config import HiFiGANConfig
from generators.build import Discriminators
from model import Generator

PATTERNS = ("g_*", "generator_v*")
read_weights = partial(files.read_weights, name="generator")

# The order of the layers in the official generators, which is the order of the parameters in the optimizer.
OFFICIAL_ORDER = ("conv_pre", "ups", "expand_convs", "reduce_convs", "resblocks", "conv_post")
OFFICIAL_BANDS = 80  # a constant in the official generator
OFFICIAL_DISCRIMINATORS = {
    "mpd_periods": (2, 3, 5, 7, 11),
    "msd_num_downsamples": 2,
    "discriminator_channels": 1024,
}
# Published training options of the official config.json, for models that do not record their own.
OFFICIAL_TRAINING = {
    "num_gpus": 0,
    "batch_size": 16,
    "learning_rate": 0.0002,
    "adam_b1": 0.8,
    "adam_b2": 0.99,
    "lr_decay": 0.999,
    "seed": 1234,
    "segment_size": 8192,
    "num_workers": 4,
    "dist_config": {"dist_backend": "nccl", "dist_url": "tcp://localhost:54321", "world_size": 1},
}


def matches(path: Path) -> bool:
    """Return whether `path` is an official generator file or a folder with one."""
    if path.is_dir():
        return newest_file(path, PATTERNS) is not None
    return path.suffix not in (".json", ".pt", ".safetensors")


def read_settings(path: Path) -> dict:
    return files.read_model_config(path)


def write(
    folder: Path, generator: Generator, discriminators: Discriminators | None, source: Path, settings: dict
) -> list[str]:
    """Write `config.json`, `g_<steps>` and, with `discriminators`, `do_<steps>` for the official code.

    `source` is the generator's file in this project's format; the step count and the optimizers next to it
    are carried over, so that the official `train.py` continues from the same point. `settings` are the values
    of its `config.json`. Returns remarks for the user.
    """
    settings = official_settings(generator.config, settings | training_arguments(source))
    (folder / CONFIG_NAME).write_text(json.dumps(settings, indent=4) + "\n", encoding="utf-8")
    steps, epoch = training_progress(source)
    save_pickle({"generator": official_weights(generator)}, folder / f"g_{steps:08d}")
    if discriminators is None:
        return []
    remarks, optimizers = [], None
    paths = [source.with_name(name) for name in ("optimizer.bin", "optimizer_1.bin")]
    if all(path.is_file() for path in paths):
        optimizers = tuple(read_pickle(path) for path in paths)
    else:
        remarks.append("the optimizers start from scratch: their state is not next to the generator")
    contents = official_training_state(generator, discriminators, optimizers)
    save_pickle(contents | {"steps": steps, "epoch": epoch}, folder / f"do_{steps:08d}")
    return remarks


def check_generator(config: HiFiGANConfig) -> None:
    """Raise UserError for a generator that the official code can't represent."""
    num_dilations = {"1": 3, "2": 2}[config.resblock]
    lists = [config.resblock_dilation_sizes] if config.fusion == "misr" else config.resblock_dilation_sizes
    obstacles = {
        f"it is a {config.generator} generator": config.generator != "hifigan",
        f"upsampling is {config.upsampling!r}": config.upsampling != "transpose",
        "it ends in an inverse Fourier transform": config.gen_istft_n_fft is not None,
        "match_mel is on": config.match_mel,
        f"its mel filters are {config.mel_filters}": config.mel_filters != "slaney",
        f"num_mels is {config.num_mels}, not {OFFICIAL_BANDS}": config.num_mels != OFFICIAL_BANDS,
        f"resblock {config.resblock} has {num_dilations} dilations there, and here "
        f"{' and '.join(str(len(one)) for one in lists)}": any(len(one) != num_dilations for one in lists),
    }
    for obstacle, is_present in obstacles.items():
        if is_present:
            raise UserError(f"the official code can't represent this generator: {obstacle}; use --to hub")


def discriminators_obstacle(config: HiFiGANConfig, present: Collection[str]) -> str:
    """Return why no `do_…` file can be written for the discriminators that are `present`, or ""."""
    if not {"mpd", "msd"} <= set(present):
        return "no do_… file: mpd and msd are not both next to the generator"
    sizes = {name: getattr(config, name) for name in OFFICIAL_DISCRIMINATORS}
    if sizes != OFFICIAL_DISCRIMINATORS:
        return f"no do_… file: official discriminators have {OFFICIAL_DISCRIMINATORS}, not {sizes}"
    return ""


def official_settings(config: HiFiGANConfig, training: dict) -> dict:
    """Return the official config.json, with training options from `training` or else the published ones."""
    misr, mrf = ("resblock_num", "resblock_kernel_size"), ("resblock_kernel_sizes",)
    names = (
        "upsample_rates", "upsample_kernel_sizes", "upsample_initial_channel",
        *(misr if config.fusion == "misr" else mrf), "resblock_dilation_sizes",
        "num_mels", "n_fft", "hop_size", "sampling_rate", "fmin", "fmax",
    )  # fmt: skip
    return {
        "resblock": config.resblock,
        **{name: training.get(name, value) for name, value in OFFICIAL_TRAINING.items()},
        **{name: getattr(config, name) for name in names},
        "num_freq": config.n_fft + 1,
        "win_size": config.window_size,
        "fmax_for_loss": config.fmax_loss,
    }


def official_place(name: str) -> int:
    part = name.partition(".")[0]
    return OFFICIAL_ORDER.index(part) if part in OFFICIAL_ORDER else 0


def official_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a model under its official names, in the official order."""
    state = {official_name(key, model): tensor.cpu() for key, tensor in model.state_dict().items()}
    return {name: state[name] for name in sorted(state, key=official_place)}


def official_training_state(
    generator: Generator, discriminators: Discriminators, optimizers: tuple[dict, dict] | None
) -> dict:
    """Return the contents of `do_…` without its counters.

    `optimizers` are the state dicts of this project's two optimizers; None writes new ones.
    """
    ours_g = [official_name(key, generator) for key, _ in generator.named_parameters()]
    ours_d = [
        f"{name}.{official_name(key, model)}"
        for name, model in discriminators.named_children()
        for key, _ in model.named_parameters()
    ]
    official_g = sorted(ours_g, key=official_place)
    official_d = [name for part in ("msd.", "mpd.") for name in ours_d if name.startswith(part)]
    saved_g, saved_d = optimizers or (None, None)
    return {
        "mpd": official_weights(discriminators.mpd),
        "msd": official_weights(discriminators.msd),
        "optim_g": official_optimizer(saved_g, ours_g, official_g),
        "optim_d": official_optimizer(saved_d, ours_d, official_d),
    }


def official_optimizer(saved: dict | None, ours: list[str], official: list[str]) -> dict:
    """Return the state of AdamW with parameters renumbered from the order `ours` to `official`."""
    if saved is None:
        learning_rate = OFFICIAL_TRAINING["learning_rate"]
        betas = (OFFICIAL_TRAINING["adam_b1"], OFFICIAL_TRAINING["adam_b2"])
        saved = torch.optim.AdamW([torch.zeros(1)], learning_rate, betas).state_dict()
    numbers = [ours.index(name) for name in official]
    state, group = saved["state"], saved["param_groups"][0]
    return {
        "state": {new: state[old] for new, old in enumerate(numbers) if old in state},
        "param_groups": [
            # the official scheduler requires an initial_lr
            {"initial_lr": group["lr"]} | group | {"fused": None, "params": list(range(len(numbers)))}
        ],
    }


def training_progress(generator_file: Path) -> tuple[int, int]:
    """Return (steps, completed epochs) of a checkpoint; an official file has its steps in its name."""
    progress = generator_file.with_name(PROGRESS_NAME)
    if progress.is_file():
        values = read_json(progress)
        return values.get("step", 0), values.get("epoch", 0)
    return number_in(generator_file) if generator_file.name.startswith("g_") else 0, 0


def training_arguments(generator_file: Path) -> dict:
    """Return the flags of a checkpoint's training run under their official names, or {} for other models."""
    progress = generator_file.with_name(PROGRESS_NAME)
    arguments = read_json(progress).get("arguments", {}) if progress.is_file() else {}
    official = {"beta1": "adam_b1", "beta2": "adam_b2"}
    return {official.get(name, name): value for name, value in arguments.items()}


def save_pickle(contents: dict, path: Path) -> None:
    # the official code requires PyTorch 1.4, which can't read the zip format of PyTorch 1.6
    torch.save(contents, path, _use_new_zipfile_serialization=False)
