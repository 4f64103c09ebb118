"""The tutorial's Tacotron 2: a pickle of its state dict, or the `model.safetensors` of its training."""

import string
from pathlib import Path

from checkpoint.formats.tacotron2 import Vocabulary

SYMBOLS = ("<pad>", "<end>", "<unknown>", *string.ascii_uppercase, *string.ascii_lowercase, *"!'\"(),-.:;? ")
NUM_SYMBOLS = len(SYMBOLS)


def settings(path: Path) -> dict:
    return {"inner_mel_scale": None, "end_symbol": True}


TACOTRON2 = Vocabulary(SYMBOLS, settings)
