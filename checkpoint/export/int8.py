"""8-bit versions of exported ONNX files: `python -m checkpoint export --int8`."""

import contextlib
import io
import logging
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from checkpoint.formats.onnx import OnnxGenerator
from common.errors import UserError
from common.files import visible
from corpus.audio import AUDIO_SUFFIXES, read_audio, resample
from generators.build import sensitive_layers
from generators.vocos import Vocos
from mel import MelConfig, MelSpectrogram
from model import Generator

CALIBRATION_CLIPS = 8
CALIBRATION_SECONDS = 1.5
SEGMENT_FRAMES = 200  # ONNX Runtime measures ranges on inputs of one length
# Share of the activations that the 8-bit range covers, in percent. The full range is set by rare peaks, which
# leave few steps for all other values: for V2, PESQ is lower by 0.3 or more.
PERCENTILE = 99.9
FIRST_LAYERS = ("conv_pre", "embed")  # 8-bit mels alone lower DistillMOS of V2 by 0.13


def calibration_mels(folder: Path, config: MelConfig) -> list[Tensor]:
    """Return mels (num_mels, T) of the first clips in a folder. Raises UserError if there are none."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name one with --input_wavs_dir")
    paths = sorted(path for path in visible(folder.iterdir()) if path.suffix.lower() in AUDIO_SUFFIXES)
    mels = list(islice(mels_of(paths, config), CALIBRATION_CLIPS))
    if not mels:
        raise UserError(
            f"{folder} contains no audio of at least {config.min_samples} samples; add recordings of speech"
        )
    return mels


def mels_of(paths: list[Path], config: MelConfig) -> Iterator[Tensor]:
    for path in paths:
        audio, rate, _ = read_audio(path)
        if rate != config.sampling_rate:
            audio = resample(audio, rate, config.sampling_rate)
        audio = audio[: round(CALIBRATION_SECONDS * config.sampling_rate)]
        if len(audio) >= config.min_samples:
            yield MelSpectrogram(config)(torch.from_numpy(audio))


@torch.inference_mode()
def quantize_vocoder(generator: Generator | Vocos, path: Path, mels: list[Tensor]) -> float:
    """Replace the exported vocoder at `path` by its 8-bit version (static quantization).

    Convolutions and matrix products get 8-bit weights, with one scale per output channel, and 8-bit inputs,
    whose ranges are measured on mels (num_mels, T). The `sensitive_layers`, the first layer and `MelMatch`
    remain in float32. Returns the signal-to-noise ratio in dB, relative to the audio of PyTorch for the same
    mels.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    kept = (*sensitive_layers(generator.config), *FIRST_LAYERS, "match")
    model = onnx.load(path)
    joined = torch.cat(mels, dim=1).unsqueeze(0)  # (1, num_mels, T)
    length = min(SEGMENT_FRAMES, joined.shape[2])
    segments = [part for part in joined.split(length, dim=2) if part.shape[2] == length]
    inputs = iter([{"mel": segment.numpy()} for segment in segments])
    with quiet():
        quantize_static(
            model,
            path,
            Calibration(inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QUInt8,  # faster than signed activations with VNNI instructions
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[node.name for node in model.graph.node if layer_of(node).startswith(kept)],
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": PERCENTILE},
        )
    exported, signal, noise = OnnxGenerator(path), 0.0, 0.0
    for segment in segments:
        expected = generator(segment)
        signal += expected.square().sum().item()
        noise += (exported(segment) - expected).square().sum().item()
    return 10 * math.log10(signal / max(noise, 1e-12 * signal))


def quantize_weights(path: Path) -> None:
    """Replace the matrix products of an ONNX file by 8-bit ones.

    The scales of their inputs are computed in each call (dynamic quantization).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(
            path, path, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"]
        )


class Calibration:
    """Inputs in the form that ONNX Runtime's `CalibrationDataReader` has."""

    def __init__(self, inputs: Iterator[dict]):
        self.inputs = inputs

    def get_next(self) -> dict | None:
        return next(self.inputs, None)


def layer_of(node) -> str:
    """Return the name of the PyTorch module that a node of an exported graph belongs to."""
    scopes = {item.key: item.value for item in node.metadata_props}.get("pkg.torch.onnx.name_scopes", "[]")
    names = [name.strip("' ") for name in scopes.strip("[]").split(",")]
    return names[-2] if len(names) > 1 else ""  # the last is the operation


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress ONNX Runtime's progress messages and its advice to simplify the graph first."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
