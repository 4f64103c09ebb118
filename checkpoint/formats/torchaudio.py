"""torchaudio's Tacotron 2 files: `tacotron2_english_characters_1500_epochs_ljspeech.pth` and others."""

import string
from pathlib import Path

from checkpoint.formats.tacotron2 import Vocabulary

NUM_SYMBOLS = 38
# The mel of TACOTRON2_WAVERNN_CHAR_LJSPEECH, whose files differ from the others only in their names.
WAVERNN_MEL = {"n_fft": 2048, "window_size": 1100, "hop_size": 275, "fmin": 40.0, "fmax": 11025.0}


def settings(path: Path) -> dict:
    return WAVERNN_MEL if "wavernn" in path.name else {}


TACOTRON2 = Vocabulary("_-!'(),.:;? " + string.ascii_lowercase, settings)
