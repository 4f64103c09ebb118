"""Table of the parameters and operations of each configuration: `python benchmarks/model_sizes.py`."""

import sys
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from checkpoint import read_config
from generators.build import build_generator

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def main() -> None:
    print("| configuration | sampling rate | parameters | GFLOP per second of audio |")
    print("|---|---|---|---|")
    for path in sorted(CONFIGS.glob("*.json")):
        config = read_config(path)
        generator = build_generator(config).eval().fold_weight_norm()
        parameters = sum(weight.numel() for weight in generator.parameters())
        frames = 100
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            generator(torch.zeros(1, config.num_mels, frames))
        seconds = frames * config.hop_size / config.sampling_rate
        flops = counter.get_total_flops() / seconds
        print(f"| `{path.stem}` | {config.sampling_rate} Hz | {parameters / 1e6:.2f} M | {flops / 1e9:.1f} |")


if __name__ == "__main__":
    main()
