"""Export a vocoder for another runtime: `python -m checkpoint export` writes .onnx, .pt2 and .tflite files.

An exported file is loaded and compared with PyTorch before it replaces `--output`.
"""

import importlib.util
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim

from config import HiFiGANConfig
from model import Generator
from utils import UserError
from vocos import Vocos

TOLERANCE = 1e-4  # maximum difference from PyTorch's audio, relative to its peak
CHECKED_SHAPES = ((1, 1), (3, 7), (2, 50), (1, 100))  # (B, T)
METADATA = ("sampling_rate", "hop_size", "num_mels", "mel_scale")  # in addition to the whole configuration
DYNAMIC_AXES = {"mel": {0: Dim("batch"), 2: Dim("frames")}}


def metadata(config: HiFiGANConfig) -> dict[str, str]:
    """Return the metadata of an exported file: the configuration as JSON and the most important settings."""
    values = config.to_dict()
    return {"config": json.dumps(values)} | {name: str(values[name]) for name in METADATA}


def example_mel(config: HiFiGANConfig) -> Tensor:
    """Return an input to trace with. PyTorch specializes axes of length 1, so all are longer."""
    return torch.full((2, config.num_mels, 8), config.silence)


def export_onnx(generator: Generator | Vocos, path: Path) -> None:
    """Write ONNX with input `mel` (batch, num_mels, frames) and output `audio` (batch, 1, samples)."""
    require_packages("onnxscript", "onnxruntime")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is missing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations within torch
        program = torch.onnx.export(
            generator,
            (example_mel(generator.config),),
            dynamo=True,
            dynamic_shapes=DYNAMIC_AXES,
            input_names=["mel"],
            output_names=["audio"],
            verbose=False,
        )
    program.model.metadata_props.update(metadata(generator.config))
    program.save(path, external_data=False)


def onnx_session(path: Path | str):
    """Return the ONNX Runtime session of a file, on the CPU with PyTorch's number of threads.

    Raises UserError if the file is damaged or ONNX Runtime is not installed.
    """
    require_packages("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise UserError(f"{path} can't be read as ONNX: {error}; is the file complete?") from error


def open_onnx(path: Path | str):
    """Return the ONNX Runtime session of an exported vocoder.

    Raises UserError if the file is missing, damaged, or not an export of this project, or if ONNX Runtime is
    not installed.
    """
    require_packages("onnxruntime")
    if not Path(path).is_file():
        raise UserError(f"there is no {path}; make it with `python -m checkpoint export`")
    session = onnx_session(path)
    embedded = session.get_modelmeta().custom_metadata_map
    if not embedded.keys() >= {"config", *METADATA}:
        raise UserError(
            f"{path} holds no configuration: `python -m checkpoint export` did not write it; export it again"
        )
    return session


def run_onnx(session, mel: Tensor) -> Tensor:
    """Convert a mel (B, num_mels, T) to audio (B, 1, samples) on the same device."""
    (audio,) = session.run(["audio"], {"mel": mel.detach().float().cpu().numpy()})
    return torch.from_numpy(audio).to(mel.device)


def load_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    return partial(run_onnx, open_onnx(path))


def onnx_config(session) -> HiFiGANConfig:
    """Return the configuration in an exported `.onnx` file."""
    return HiFiGANConfig.from_dict(json.loads(session.get_modelmeta().custom_metadata_map["config"]))


def export_program(generator: Generator | Vocos, path: Path) -> None:
    """Write a `torch.export` program, which PyTorch runs and compiles without this repository's code."""
    program = torch.export.export(
        generator, (example_mel(generator.config),), dynamic_shapes=DYNAMIC_AXES, strict=False
    )
    with open(path, "wb") as file:  # torch rejects paths that do not end in .pt2
        torch.export.save(program, file, extra_files=metadata(generator.config))


def load_program(path: Path) -> Callable[[Tensor], Tensor]:
    with open(path, "rb") as file:
        return torch.export.load(file).module()


def export_litert(generator: Generator | Vocos, path: Path, frames: int) -> None:
    """Write LiteRT for one mel (1, num_mels, frames); its converter does not support dynamic axes."""
    require_packages("litert_torch")
    import litert_torch

    mel = torch.full((1, generator.config.num_mels, frames), generator.config.silence)
    litert_torch.convert(generator, (mel,)).export(str(path))


def load_litert(path: Path) -> Callable[[Tensor], Tensor]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (mel_details,), (audio_details,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(mel: Tensor) -> Tensor:
        interpreter.set_tensor(mel_details["index"], mel.numpy())
        interpreter.invoke()
        return torch.from_numpy(interpreter.get_tensor(audio_details["index"]))

    return run


def require_packages(*names: str) -> None:
    missing = [name.replace("_", "-") for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} not installed; pip install {' '.join(missing)}")


@torch.inference_mode()
def largest_difference(
    generator: Generator | Vocos, exported: Callable[[Tensor], Tensor], shapes: Iterable[tuple[int, int]]
) -> float:
    """Return the largest difference of the exported file's audio, relative to the peak of PyTorch's audio.

    The mels (B, T) have random amplitudes from silence to full scale. Raises UserError if the difference
    exceeds `TOLERANCE`.
    """
    config = generator.config
    random = torch.Generator().manual_seed(0)
    largest = 0.0
    for batch, frames in shapes:
        quietness = torch.rand(batch, config.num_mels, frames, generator=random)
        mel = config.from_ln(quietness * math.log(config.min_amplitude))
        expected, audio = generator(mel), exported(mel)
        if not expected.isfinite().all():
            raise UserError("the checkpoint produces audio that is not finite; export another one")
        difference = (audio - expected).abs().max() / expected.abs().max().clamp(min=1e-5)
        if not difference <= TOLERANCE:  # also if it is not a number
            raise UserError(
                f"for {batch} mels of {frames} frames the export's audio differs from PyTorch's by "
                f"{difference:.1e} of the peak, more than {TOLERANCE:.0e}: nothing is written; try other "
                "versions of torch and of the runtime"
            )
        largest = max(largest, difference.item())
    return largest
