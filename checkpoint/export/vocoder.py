"""Export a vocoder for another runtime: `python -m checkpoint export` writes .onnx and .pt2 files.

An exported file is loaded and compared with PyTorch before it replaces `--output`.
"""

import io
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from checkpoint.formats.onnx import METADATA, require_packages
from common.errors import UserError
from config import HiFiGANConfig
from generators.vocos import Vocos
from model import Generator

TOLERANCE = 1e-4  # maximum difference from PyTorch's audio, relative to its peak
CHECKED_SHAPES = ((1, 1), (3, 7), (2, 50), (1, 100))  # (B, T)
DYNAMIC_AXES = {"mel": {0: Dim("batch"), 2: Dim("frames")}}


def metadata(config: HiFiGANConfig) -> dict[str, str]:
    """Return the metadata of an exported file: the configuration as JSON and the most important settings."""
    values = config.to_dict()
    return {"config": json.dumps(values)} | {name: str(values[name]) for name in METADATA}


def example_mel(config: HiFiGANConfig) -> Tensor:
    """Return an input to trace with. PyTorch specializes axes of length 1, so all are longer."""
    return torch.full((2, config.num_mels, 8), config.silence)


def to_onnx(module: nn.Module, inputs: dict[str, Tensor], dynamic_shapes, outputs: list[str]):
    """Return a module as an ONNX program with named inputs and outputs; see `torch.onnx.export`."""
    require_packages("onnxscript", "onnxruntime")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is missing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations within torch
        return torch.onnx.export(
            module, tuple(inputs.values()), dynamo=True, dynamic_shapes=dynamic_shapes,
            input_names=list(inputs), output_names=outputs, verbose=False,
        )  # fmt: skip


def export_onnx(generator: Generator | Vocos, path: Path) -> None:
    """Write ONNX with input `mel` (batch, num_mels, frames) and output `audio` (batch, 1, samples)."""
    program = to_onnx(generator, {"mel": example_mel(generator.config)}, DYNAMIC_AXES, ["audio"])
    program.model.metadata_props.update(metadata(generator.config))
    program.save(path, external_data=False)


def export_program(generator: Generator | Vocos, path: Path) -> None:
    """Write a `torch.export` program, which PyTorch runs and compiles without this repository's code."""
    program = torch.export.export(
        generator, (example_mel(generator.config),), dynamic_shapes=DYNAMIC_AXES, strict=False
    )
    buffer = io.BytesIO()  # on a full disk, PyTorch's own writer aborts the process
    torch.export.save(program, buffer, extra_files=metadata(generator.config))
    path.write_bytes(buffer.getbuffer())


def load_program(path: Path) -> Callable[[Tensor], Tensor]:
    with open(path, "rb") as file:
        return torch.export.load(file).module()


def relative_difference(expected: Tensor, actual: Tensor) -> float:
    """Return the largest absolute difference, relative to the peak of `expected`."""
    return ((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-5)).item()


@torch.inference_mode()
def largest_difference(
    generator: Generator | Vocos,
    exported: Callable[[Tensor], Tensor],
    shapes: Iterable[tuple[int, int]] = CHECKED_SHAPES,
) -> float:
    """Return the largest difference of the exported file's audio, relative to the peak of PyTorch's audio.

    The mels (B, T) have random amplitudes from silence to full scale. Raises UserError if the difference
    exceeds `TOLERANCE`.
    """
    config = generator.config
    random = torch.Generator().manual_seed(0)
    largest = 0.0
    for batch, frames in shapes:
        if not config.num_samples(frames):
            continue
        quietness = torch.rand(batch, config.num_mels, frames, generator=random)
        mel = config.from_ln(quietness * math.log(config.min_amplitude))
        expected, audio = generator(mel), exported(mel)
        if not expected.isfinite().all():
            raise UserError("the checkpoint produces audio that is not finite; export another one")
        difference = relative_difference(expected, audio)
        if not difference <= TOLERANCE:  # also if it is not a number
            raise UserError(
                f"for {batch} mels of {frames} frames the export's audio differs from PyTorch's by "
                f"{difference:.1e} of the peak, more than {TOLERANCE:.0e}: nothing is written; try other "
                "versions of torch and of the runtime"
            )
        largest = max(largest, difference)
    return largest
