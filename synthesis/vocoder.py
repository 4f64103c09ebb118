"""Load a vocoder in any form (PyTorch generator, ONNX file, Griffin-Lim) and convert mels with it."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from checkpoint import load_generator
from checkpoint.onnx_generator import OnnxGenerator
from model import Generator
from tacotron2.mel import MelConfig, MelSpectrogram, griffin_lim
from utils import UserError
from vocos import Vocos

MIXED_PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CHUNK_FRAMES = 256  # frames per call of the generator


class GriffinLim:
    """The baseline without weights, with the interface of a vocoder for mels with the settings `config`."""

    def __init__(self, config: MelConfig):
        self.config = config

    def stream(self, mels: Iterable[Tensor], max_frames: int = 512) -> Iterator[Tensor]:
        """Convert a mel in chunks (1, num_mels, n) to audio (1, 1, samples) in one chunk.

        Griffin-Lim estimates the phases of the whole mel together.
        """
        mel = torch.cat(list(mels), dim=2)
        yield torch.from_numpy(griffin_lim(mel[0], self.config))[None, None]


Vocoder = Generator | Vocos | OnnxGenerator | GriffinLim


def load_vocoder(
    path: Path, device: torch.device | str = "cpu", mixed_precision: str = "no"
) -> Generator | Vocos | OnnxGenerator:
    """Load a vocoder in any form that `checkpoint.load_generator` reads, or an exported `.onnx` file.

    Raises UserError if it can't be loaded, or can't run with this precision.
    """
    if path.suffix == ".onnx":
        if mixed_precision != "no":
            raise UserError(f"--mixed_precision applies to PyTorch models, not to {path}; omit it")
        return OnnxGenerator(path)
    generator = load_generator(path, device)
    return use_mixed_precision(generator, mixed_precision, device)


def check_mixed_precision(mixed_precision: str, device: torch.device | str) -> None:
    """Raise UserError for a precision that the device does not support."""
    if mixed_precision == "fp16" and torch.device(device).type == "cpu":
        raise UserError("--mixed_precision fp16 needs a GPU; use bf16 or no on a CPU")


def use_mixed_precision(
    generator: Generator | Vocos, mixed_precision: str, device: torch.device | str = "cpu"
) -> Generator | Vocos:
    """Modify a generator for inference under autocast, and return it.

    The head and the last fusion of a HiFi-GAN generator stay in float32, because rounding noise there is
    audible: it lowers PESQ by 0.07 for V2 on LJSpeech, and by 0.01 with this exception. The weights of the
    other convolutions and linear layers are converted here, since autocast would convert them in every call.
    """
    check_mixed_precision(mixed_precision, device)
    if mixed_precision == "no":
        return generator
    dtype, device_type = MIXED_PRECISIONS[mixed_precision], torch.device(device).type
    plain_forward, kept = generator.forward, ["head"]
    if isinstance(generator, Generator) and not generator.config.gen_istft_n_fft:
        last = len(generator.fusions) - 1
        kept.append(f"fusions.{last}.")
        run_in_float32(generator.fusions[last])
    for name, module in generator.named_modules():
        is_kept = name.startswith(tuple(kept))
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d | nn.Linear) and not is_kept:
            module.to(dtype)

    def forward(mel: Tensor) -> Tensor:
        with torch.autocast(device_type, dtype=dtype):
            return plain_forward(mel).float()

    generator.forward = forward
    return generator


def run_in_float32(module: nn.Module) -> None:
    """Disable autocast within a module."""
    plain_forward = module.forward

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return plain_forward(x.float())

    module.forward = forward


def vocode(
    generator: Vocoder, mel: Tensor, device: torch.device | str = "cpu", chunk_frames: int = CHUNK_FRAMES
) -> Iterator[np.ndarray]:
    """Convert a mel (num_mels, frames) in the vocoder's scale to audio in chunks (n,) of float32."""
    yield from vocode_chunks(generator, mel.split(chunk_frames, 1), device, chunk_frames)


@torch.inference_mode()
def vocode_chunks(
    generator: Vocoder,
    mels: Iterable[Tensor],
    device: torch.device | str = "cpu",
    chunk_frames: int = CHUNK_FRAMES,
) -> Iterator[np.ndarray]:
    """Convert consecutive parts (num_mels, n) of a mel to audio in chunks (n,), as soon as possible."""
    for chunk in generator.stream((mel.unsqueeze(0).to(device) for mel in mels), chunk_frames):
        yield chunk[0, 0].cpu().numpy()


def copy_synthesis(vocoder: Vocoder, audio: np.ndarray, device: torch.device | str = "cpu") -> np.ndarray:
    """Convert audio (samples,) at the vocoder's rate to a mel and back to audio (frames * hop_size,)."""
    mel = MelSpectrogram(vocoder.config)(torch.from_numpy(audio))
    return np.concatenate(list(vocode(vocoder, mel, device)))
