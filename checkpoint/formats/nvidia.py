"""NVIDIA's files: HiFi-GAN from DeepLearningExamples, and Tacotron 2 from there and its own repository.

`hifigan_gen_checkpoint_10000.pt` contains its configuration. Its averaged weights, `gen_ema`, are not read;
NVIDIA's `inference.py` does not use them either.
"""

import string
from functools import partial
from pathlib import Path

from checkpoint import files
from checkpoint.files import CONFIG_NAME, newest_file, read_pickle, weights_file
from checkpoint.formats.tacotron2 import Vocabulary
from common.files import read_json
from mel import MelConfig

PATTERNS = ("hifigan_gen_checkpoint_*.pt",)
read_weights = partial(files.read_weights, name="generator")
SETTING_NAMES = {
    "filter_length": "n_fft",
    "hop_length": "hop_size",
    "win_length": "window_size",
    "mel_fmin": "fmin",
    "mel_fmax": "fmax",
    "mel_fmax_loss": "fmax_loss",
}
NUM_SYMBOLS = 148
# 84 phonemes follow these. Training texts are in lower case: the rows of upper case letters are untrained.
TACOTRON2 = Vocabulary("_-!'(),.:;? " + string.ascii_uppercase + string.ascii_lowercase)


def matches(path: Path) -> bool:
    """Return whether `path` is a `.pt` file, or a folder with a vocoder of DeepLearningExamples."""
    return newest_file(path, PATTERNS) is not None if path.is_dir() else path.suffix == ".pt"


def read_settings(path: Path) -> dict:
    """Return the settings in the checkpoint, or those of a `config.json` next to it.

    `config` in the checkpoint has the generator's sizes and `train_setup` the mel settings; missing values
    are the defaults of NVIDIA's `train.py`.
    """
    if path.is_dir() and (path / CONFIG_NAME).is_file():
        return read_json(path / CONFIG_NAME)
    file = weights_file(path, PATTERNS)
    contents = read_pickle(file)
    if not isinstance(contents, dict) or not contents.get("config"):
        return read_json(files.config_path(file))
    values = {"resblock_kernel_sizes": (11, 7, 3)} | (contents.get("train_setup") or {}) | contents["config"]
    return {SETTING_NAMES.get(name, name): value for name, value in values.items()}


def train_setup(config: MelConfig) -> dict:
    """Return NVIDIA's dictionary of mel settings, the inverse of `SETTING_NAMES`; its mels are in "ln"."""
    names = {ours: theirs for theirs, ours in SETTING_NAMES.items()}
    shared = ("sampling_rate", "n_fft", "window_size", "hop_size", "num_mels", "fmin", "fmax")
    setup = {names.get(name, name): getattr(config, name) for name in shared}
    return setup | {"max_wav_value": 32768.0}  # full scale of 16-bit samples
