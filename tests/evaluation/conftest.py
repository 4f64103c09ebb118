import csv

import numpy as np
import pytest

from corpus.audio import read_audio


@pytest.fixture(scope="session")
def speech(shared) -> list[tuple[np.ndarray, str]]:
    """(audio, transcript) of eight clips of LJSpeech at 22,050 Hz."""
    folder = shared / "data" / "ljspeech-mini"
    with open(folder / "metadata.csv", encoding="utf-8", newline="") as file:
        rows = sorted(csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE))
    return [(read_audio(folder / "wavs" / f"{name}.wav")[0], text) for name, _, text in rows[:8]]
