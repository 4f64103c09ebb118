"""Speed and quality of every vocoder variant on the CPU: `python benchmarks/inference.py`.

Speed is in multiples of real time, the best of several rounds in which the variants take turns, because
other programs can only slow a run down. Ratios are relative to V1 in float32 in the same run.

Quality (PESQ and DistillMOS of copy synthesis) needs trained weights and recordings:

    python benchmarks/inference.py --checkpoint_file generator_v2 --input_wavs_dir wavs

The table has one row per variant or checkpoint and precision, and one row per exported model (`.onnx`). Rows
in int8 run in ONNX Runtime, with ranges from the first recordings. The quality of variants with random
weights is shown as a dash.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from checkpoint import load_generator, read_config
from checkpoint.export.int8 import calibration_mels, quantize_vocoder
from checkpoint.export.vocoder import export_onnx
from checkpoint.formats.onnx import OnnxGenerator
from common.errors import UserError, report_user_errors
from config import HiFiGANConfig
from corpus.audio import AUDIO_SUFFIXES
from evaluation.inputs import Unavailable
from evaluation.metrics import METRICS, metric_value
from generators.build import build_generator
from generators.vocos import Vocos
from model import Generator
from synthesis.inputs import files_in, load_audio
from synthesis.vocoder import Vocoder, copy_synthesis, load_vocoder, use_mixed_precision

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
VARIANTS = {
    "V1": "v1",
    "V2": "v2",
    "V3": "v3",
    "iSTFT V2": "istft_v2",
    "Vocos": "vocos",
    "Vocos small": "vocos_small",
}
BASELINE = ("V1", "float32")
PRECISIONS = {"float32": "no", "bf16": "bf16", "int8": None}  # int8 runs in ONNX Runtime
QUALITY = ("pesq", "distillmos")


@dataclass
class Row:
    """A vocoder in one precision, its speed in multiples of real time, and its metrics by name."""

    name: str
    precision: str
    vocoder: Vocoder
    config: HiFiGANConfig
    is_trained: bool
    speed: float = 0.0
    quality: dict[str, float] | None = None


def random_rows() -> list[Row]:
    """Return one row per variant and precision, with random weights."""
    rows = []
    for name, file in tqdm(VARIANTS.items(), desc="variants", unit="variant", disable=None):
        config = read_config(CONFIGS / f"{file}.json")
        mels = [torch.randn(config.num_mels, 100, generator=torch.Generator().manual_seed(0))]
        for precision in PRECISIONS:
            torch.manual_seed(0)
            generator = build_generator(config).fold_weight_norm().eval().requires_grad_(False)
            rows.append(Row(name, precision, in_precision(generator, precision, mels), config, False))
    return rows


def in_precision(generator: Generator | Vocos, precision: str, mels: list[Tensor]) -> Vocoder:
    """Return a generator in one of `PRECISIONS`; `mels` (num_mels, T) determine the 8-bit ranges."""
    if precision != "int8":
        return use_mixed_precision(generator, PRECISIONS[precision])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(generator, path)
        quantize_vocoder(generator, path, mels)
        return OnnxGenerator(path)


def trained_rows(paths: list[Path], wavs: Path) -> list[Row]:
    """Return one row per checkpoint and precision; exported models have the precision of their export."""
    rows = []
    for path in paths:
        name = path.stem if path.is_file() else path.name
        if path.suffix == ".onnx":
            vocoder = load_vocoder(path)
            rows.append(Row(name, "ONNX Runtime", vocoder, vocoder.config, True))
            continue
        for precision in PRECISIONS:
            generator = load_generator(path)
            mels = calibration_mels(wavs, generator.config)
            vocoder = in_precision(generator, precision, mels)
            rows.append(Row(name, precision, vocoder, generator.config, True))
    return rows


@torch.inference_mode()
def measure_speed(rows: list[Row], seconds: float, rounds: int) -> None:
    """Set the speed of each row: the best of `rounds` runs on a mel of `seconds` seconds."""
    mels = {}
    for row in rows:
        frames = round(seconds * row.config.sampling_rate / row.config.hop_size)
        mels[id(row)] = torch.randn(
            1, row.config.num_mels, frames, generator=torch.Generator().manual_seed(0)
        )
        row.vocoder(mels[id(row)])  # the first call allocates and chooses algorithms
    for _ in tqdm(range(rounds), desc="speed", unit="round", disable=None):
        for row in rows:
            start = time.perf_counter()
            row.vocoder(mels[id(row)])
            row.speed = max(row.speed, seconds / (time.perf_counter() - start))


def measure_quality(rows: list[Row], folder: Path, max_clips: int) -> None:
    """Set the mean metrics of the trained rows over the last clips of a folder.

    The first clips determine the 8-bit ranges.
    """
    for row in tqdm([row for row in rows if row.is_trained], desc="quality", unit="row", disable=None):
        values = {name: [] for name in QUALITY}
        for path in files_in(folder, AUDIO_SUFFIXES)[-max_clips:]:
            recording = load_audio(path, row.config.sampling_rate)
            audio = copy_synthesis(row.vocoder, recording)
            for name in QUALITY:
                values[name].append(value_or_nan(name, audio, recording, row.config.sampling_rate))
        row.quality = {name: statistics.fmean(clips) for name, clips in values.items()}


def value_or_nan(name: str, audio: np.ndarray, recording: np.ndarray, sampling_rate: int) -> float:
    try:
        return metric_value(METRICS[name], audio, sampling_rate, recording[: len(audio)])
    except Unavailable:
        return float("nan")


def to_markdown(rows: list[Row]) -> str:
    baseline = next(row for row in rows if (row.name, row.precision) == BASELINE)
    titles = [METRICS[name].title for name in QUALITY]
    lines = ["| vocoder | precision | speed | relative to V1 | " + " | ".join(titles) + " |"]
    lines.append("|" + "---|" * (4 + len(titles)))
    for row in rows:
        values = [(row.quality or {}).get(name, float("nan")) for name in QUALITY]
        shown = ["–" if value != value else f"{value:.3f}" for value in values]
        cells = [row.name, row.precision, f"{row.speed:.1f}", f"{row.speed / baseline.speed:.2f}", *shown]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@report_user_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkpoint_file",
        type=Path,
        action="append",
        default=[],
        help="trained vocoder or .onnx; repeatable",
    )
    parser.add_argument("--input_wavs_dir", type=Path, help="folder of recordings for PESQ and DistillMOS")
    parser.add_argument("--max_clips", type=int, default=10, help="number of recordings")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the mel for the speed")
    parser.add_argument("--rounds", type=int, default=5, help="number of runs of each vocoder")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    args = parser.parse_args()
    if args.checkpoint_file and not args.input_wavs_dir:
        raise UserError("the quality of --checkpoint_file needs recordings; add --input_wavs_dir")
    torch.set_num_threads(args.threads)
    rows = random_rows() + trained_rows(args.checkpoint_file, args.input_wavs_dir)
    measure_speed(rows, args.seconds, args.rounds)
    if args.input_wavs_dir:
        measure_quality(rows, args.input_wavs_dir, args.max_clips)
    print(f"{args.threads} CPU threads, {args.seconds:g} s of audio, best of {args.rounds} rounds\n")
    print(to_markdown(rows))


if __name__ == "__main__":
    main()
