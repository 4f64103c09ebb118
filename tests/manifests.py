"""Manifests for tests: clips with their rows, and files of rows."""

import csv
from pathlib import Path

import numpy as np
import soundfile
from helpers import RATE, voice

from corpus.audio import write_wav

COLUMNS = ("file_path", "normalized_transcript", "duration", "samples", "peak")


def write_manifest(path: Path, rows: list[dict], columns=COLUMNS, encoding="utf-8") -> Path:
    with open(path, "w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def make_clips(folder: Path, seconds: list[float], rate: int = RATE) -> list[dict]:
    """Write `clip0.wav`, … with these lengths, and return their manifest rows."""
    rows = []
    for number, length in enumerate(seconds):
        samples = voice(length, rate, seed=number) * (0.2 + 0.1 * number)
        write_wav(folder / f"clip{number}.wav", samples, rate)
        stored, _ = soundfile.read(folder / f"clip{number}.wav", dtype="float32")
        rows.append(
            {
                "file_path": f"clip{number}.wav",
                "normalized_transcript": f"text {number}",
                "duration": len(stored) / rate,
                "samples": len(stored),
                "peak": np.abs(stored).max(),
            }
        )
    return rows
