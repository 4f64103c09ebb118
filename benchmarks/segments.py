"""Clips per second of one loader worker: `python benchmarks/segments.py --manifest train_metadata.csv`.

The baseline does what the official dataset does for each item: it reads the whole file, scales it by its
peak, cuts a segment, and computes two mels (input and loss) of it. This project reads only the segment and
computes mels in batches on the training device; the last row includes their time on the CPU.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from config import HiFiGANConfig
from corpus.audio import read_audio
from corpus.manifest import Clip, read_manifest
from dataset import SegmentDataset
from mel import MelSpectrogram

BASELINE = "whole files, one mel at a time"


def loading_programs(clips: list[Clip], num_clips: int, batch_size: int) -> dict[str, Callable[[], None]]:
    """Return the three programs to compare. Each loads `num_clips` items."""
    config, segment_size = HiFiGANConfig(), 8192
    segments = SegmentDataset(clips, config, segment_size, seed=0)
    mels = [MelSpectrogram(config), MelSpectrogram(replace(config, fmax=None))]
    random = np.random.default_rng(0)

    def whole_files() -> None:
        for index in range(num_clips):
            audio, _, _ = read_audio(clips[index % len(clips)].path)
            audio = audio / np.abs(audio).max() * 0.95
            start = random.integers(0, max(1, len(audio) - segment_size))
            segment = torch.from_numpy(audio[start : start + segment_size].astype(np.float32))
            for mel in mels:
                mel(torch.nn.functional.pad(segment, (0, segment_size - len(segment))))

    def read_only() -> None:
        for index in range(num_clips):
            segments[0, index]

    def read_and_batch_mels() -> None:
        for first in range(0, num_clips, batch_size):
            batch = torch.stack([segments[0, first + index]["audio"] for index in range(batch_size)])
            for mel in mels:
                mel(batch)

    return {
        BASELINE: whole_files,
        "segments (what a worker does)": read_only,
        "segments and batched mels": read_and_batch_mels,
    }


def median_seconds(programs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Run the programs in alternation; return the median time of each, without the first round."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds + 1):
        for name, program in programs.items():
            started = time.perf_counter()
            program()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--input_wavs_dir", type=Path, help="folder of the clips in an official filelist")
    parser.add_argument("--clips", type=int, default=256, help="items per program and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=16)
    args = parser.parse_args()
    torch.set_num_threads(1)  # as in a DataLoader's workers

    clips = read_manifest(args.manifest, HiFiGANConfig().sampling_rate, args.input_wavs_dir)
    medians = median_seconds(loading_programs(clips, args.clips, args.batch_size), args.rounds)
    for name, median in medians.items():
        ratio = medians[BASELINE] / median
        print(f"{name:>30}: {args.clips / median:6.0f} clips/s, {ratio:.1f} times the baseline")


if __name__ == "__main__":
    main()
