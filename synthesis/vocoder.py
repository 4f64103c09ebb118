"""A vocoder in any form, a generator, an `.onnx` file or Griffin-Lim, and the audio that it makes of mels."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from checkpoint import load_generator, load_on_device
from model import Generator
from tacotron2.mel import MelConfig, griffin_lim


class OnnxGenerator:
    """An `.onnx` of this program, to be used like the `Generator` it was; ONNX Runtime runs it on the CPU.

    As many threads work as torch would use. Raises UserError for a file that is missing, damaged, or another
    program's, and if ONNX Runtime is not installed.
    """

    def __init__(self, path: Path | str):
        from checkpoint.export import onnx_config, open_onnx, run_onnx  # torch.export is slow to import

        self.session, self.run = open_onnx(path), run_onnx
        self.config = onnx_config(self.session)

    def __call__(self, mel: Tensor) -> Tensor:
        """Mel (B, num_mels, T) on any device to audio (B, 1, T * hop_size) on the same."""
        return self.run(self.session, mel)

    # these need no more of a generator than its configuration and a call
    context_frames = Generator.context_frames
    stream = Generator.stream


class GriffinLim:
    """The baseline without weights, called like a vocoder whose mels have `config`'s settings."""

    def __init__(self, config: MelConfig):
        self.config = config

    def stream(self, mels: Iterable[Tensor], chunk_frames: int) -> Iterator[Tensor]:
        """One mel in chunks (1, num_mels, n) to its audio (1, 1, samples): phases need the whole of it."""
        mel = torch.cat(list(mels), dim=2)
        yield torch.from_numpy(griffin_lim(mel[0], self.config))[None, None]


def load_vocoder(path: Path, device: str) -> Generator | OnnxGenerator:
    """What `checkpoint.load_generator` gives, or an `.onnx` file of `checkpoint/export.py`, called alike."""
    if path.suffix == ".onnx":
        return OnnxGenerator(path)
    return load_on_device(load_generator, path, device)


@torch.inference_mode()
def vocode(generator, mel: Tensor, device: str = "cpu", chunk_frames: int = 256) -> Iterator[np.ndarray]:
    """Audio of one mel (num_mels, frames) in the generator's scale, as (n,) float32 chunks."""
    for chunk in generator.stream(
        (part.unsqueeze(0).to(device) for part in mel.split(chunk_frames, 1)), chunk_frames
    ):
        yield chunk[0, 0].cpu().numpy()
