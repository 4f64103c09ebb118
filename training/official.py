"""The command line of the official HiFi-GAN's `train.py`, in this project's flags."""

import difflib
import os
from pathlib import Path

from common.errors import UserError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
CORPUS = Path("LJSpeech-1.1")
FLAGS = {
    "--input_training_file": "--path_to_train_manifest",
    "--input_validation_file": "--path_to_val_manifest",
    "--input_mels_dir": "--path_to_saved_mels",
    "--stdout_interval": "--console_out_iters",
    "--summary_interval": "--wandb_log_iters",
    "--checkpoint_interval": "--checkpoint_steps",
    "--validation_interval": "--validation_steps",
}
OTHERS = {"--checkpoint_path": "cp_hifigan", "--fine_tuning": "False", "--group_name": ""}  # their defaults
DEFAULTS = {
    "--path_to_train_manifest": CORPUS / "training.txt",
    "--path_to_val_manifest": CORPUS / "validation.txt",
    "--input_wavs_dir": CORPUS / "wavs",
}
REQUIRED = frozenset(
    ("--experiment_name", "--working_directory", "--path_to_train_manifest", "--path_to_val_manifest")
)


def from_official(arguments: list[str]) -> list[str]:
    """Return arguments with official flags, defaults and names of configurations replaced by ours.

    The official defaults apply if an official flag is used, or if none of our required flags is and there is
    a folder LJSpeech-1.1. Other command lines are returned as they are, except that `config_v1.json` is
    `configs/v1.json` where there is no such file. A run continues from the checkpoint in its folder, as the
    official one does: from ours exactly, from `g_…` and `do_…` with new optimizers.
    """
    words = []
    for word in arguments:
        name, equals, value = word.partition("=")
        is_pair = equals and name.startswith("--") and not value.startswith("-")
        words += [name, value] if is_pair else [word]
    is_official = not {*FLAGS, *OTHERS}.isdisjoint(words)
    words = [FLAGS.get(word, word) for word in words]
    if "--config" in words[:-1]:
        place = words.index("--config") + 1
        words[place] = bundled_config(words[place])
        is_official = is_official or (CORPUS.is_dir() and REQUIRED.isdisjoint(words))
    return with_defaults(words) if is_official else words


def with_defaults(words: list[str]) -> list[str]:
    """Return the arguments of an official command line with our flags and the official defaults."""
    found = {name: take(words, name, default) for name, default in OTHERS.items()}
    if {"--experiment_name", "--working_directory"}.isdisjoint(words):
        words += run_folder(Path(found["--checkpoint_path"]), words)
    if found["--fine_tuning"].lower() not in ("", "0", "false"):
        words += ["--finetune"]
        words += [] if "--path_to_saved_mels" in words else ["--path_to_saved_mels", "ft_dataset"]
    return words + [
        part for name, path in DEFAULTS.items() if name not in words for part in (name, str(path))
    ]


def take(words: list[str], name: str, default: str) -> str:
    """Remove a flag and its value, and return the value, or the default if the flag is absent."""
    if name not in words[:-1]:
        return default
    place = words.index(name)
    value = words[place + 1]
    del words[place : place + 2]
    return value


def bundled_config(path: str) -> str:
    """Return the path of `configs/v1.json` for an absent `config_v1.json`, and other paths as they are.

    Raises UserError, with the nearest of ours, for a file that is neither, and for YAML of other projects.
    """
    if path.startswith("-"):  # a flag: the value is missing, which the parser reports
        return path
    given, bundled = Path(path), CONFIGS / Path(path).name.removeprefix("config_")
    if given.exists() and given.suffix not in (".yaml", ".yml"):
        return path
    if bundled.is_file():
        return str(bundled)
    stem = given.stem.rpartition(".")[2]  # v1 of hifigan.v1.yaml
    [nearest] = difflib.get_close_matches(stem, [each.stem for each in CONFIGS.glob("*.json")], n=1, cutoff=0)
    raise UserError(f"there is no configuration {path} in JSON; did you mean configs/{nearest}.json?")


def run_folder(folder: Path, words: list[str]) -> list[str]:
    """Return the flags of a run in a folder, which continues from a checkpoint there."""
    parent, name = os.path.split(os.path.normpath(folder))
    flags = ["--working_directory", parent or ".", "--experiment_name", name]
    if any(folder.glob("*checkpoint*")) and "--resume_from_checkpoint" not in words:
        flags += ["--resume_from_checkpoint", "latest"]
    elif any(folder.glob("g_*")) and "--path_to_pretrained_weights" not in words:
        flags += ["--path_to_pretrained_weights", str(folder)]
    return flags
