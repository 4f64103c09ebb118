"""A generator for other runtimes: `python -m checkpoint export` writes .onnx, .pt2 and .tflite files.

What was written is loaded again and compared with torch; only then does it get its name.
"""

import argparse
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

from checkpoint.load import load_generator
from config import HiFiGANConfig
from model import Generator
from utils import UserError, atomic_write

TOLERANCE = 1e-4  # of full scale, or of the audio's peak where that is lower
CHECKED_SHAPES = ((1, 1), (3, 7), (2, 50), (1, 100))  # (B, T)
METADATA = ("sampling_rate", "hop_size", "num_mels", "mel_scale")  # beside the whole configuration
DYNAMIC_AXES = {"mel": {0: Dim("batch"), 2: Dim("frames")}}


def metadata(config: HiFiGANConfig) -> dict[str, str]:
    """What a file carries for whoever meets it without its `config.json`."""
    values = config.to_dict()
    return {"config": json.dumps(values)} | {name: str(values[name]) for name in METADATA}


def example_mel(config: HiFiGANConfig) -> Tensor:
    """An input to trace with: torch takes an axis of length 1 for one that can have no other."""
    return torch.full((2, config.num_mels, 8), config.silence)


# ONNX.


def export_onnx(generator: Generator, path: Path) -> None:
    """ONNX with input `mel` (batch, num_mels, frames) and output `audio` (batch, 1, frames * hop_size)."""
    require_packages("onnxscript", "onnxruntime")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells at length that torchvision is not here
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


def open_onnx(path: Path | str):
    """The ONNX Runtime session of an `.onnx` of this program; it runs on the CPU.

    As many threads work as torch would use. Raises UserError for a file that is missing, damaged, or another
    program's, and if ONNX Runtime is not installed.
    """
    require_packages("onnxruntime")
    import onnxruntime

    if not Path(path).is_file():
        raise UserError(f"there is no {path}; make it with `python -m checkpoint export`")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of ONNX Runtime's own, which share no other base
        raise UserError(f"{path} can't be read as ONNX: {error}; is the file whole?") from error
    embedded = session.get_modelmeta().custom_metadata_map
    if not embedded.keys() >= {"config", *METADATA}:
        raise UserError(
            f"{path} holds no configuration, so `python -m checkpoint export` didn't make it; export it again"
        )
    return session


def run_onnx(session, mel: Tensor) -> Tensor:
    """Mel (B, num_mels, T) on any device to audio (B, 1, T * hop_size) on the same."""
    (audio,) = session.run(["audio"], {"mel": mel.detach().float().cpu().numpy()})
    return torch.from_numpy(audio).to(mel.device)


def load_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    return partial(run_onnx, open_onnx(path))


def onnx_config(session) -> HiFiGANConfig:
    """The configuration of the generator that an `.onnx` holds."""
    return HiFiGANConfig.from_dict(json.loads(session.get_modelmeta().custom_metadata_map["config"]))


# Torch.export.


def export_program(generator: Generator, path: Path) -> None:
    """A `torch.export` program, which torch runs, compiles and lowers without this repository's code."""
    program = torch.export.export(
        generator, (example_mel(generator.config),), dynamic_shapes=DYNAMIC_AXES, strict=False
    )
    with open(path, "wb") as file:  # torch objects to a path that does not end in .pt2
        torch.export.save(program, file, extra_files=metadata(generator.config))


def load_program(path: Path) -> Callable[[Tensor], Tensor]:
    with open(path, "rb") as file:
        return torch.export.load(file).module()


# LiteRT, formerly TensorFlow Lite.


def export_litert(generator: Generator, path: Path, frames: int) -> None:
    """LiteRT of one mel (1, num_mels, frames): its converter has no axes that vary."""
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


# The command.


def require_packages(*names: str) -> None:
    missing = [name.replace("_", "-") for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} not installed; pip install {' '.join(missing)}")


@torch.inference_mode()
def largest_difference(
    generator: Generator, exported: Callable[[Tensor], Tensor], shapes: Iterable[tuple[int, int]]
) -> float:
    """Between the two's audio, as a part of full scale or of the peak where that is lower.

    The mels (B, T) hold random amplitudes from silence to full scale. Raises UserError if it exceeds
    `TOLERANCE`.
    """
    config = generator.config
    random = torch.Generator().manual_seed(0)
    largest = 0.0
    for batch, frames in shapes:
        quietness = torch.rand(batch, config.num_mels, frames, generator=random)
        mel = config.from_ln(quietness * math.log(config.min_amplitude))
        expected, audio = generator(mel), exported(mel)
        if not expected.isfinite().all():
            raise UserError("the checkpoint itself makes audio that is not finite; export another one")
        difference = (audio - expected).abs().max() / expected.abs().max().clamp(1e-5, 1.0)
        if not difference <= TOLERANCE:  # nor if it is not a number
            raise UserError(
                f"for {batch} mels of {frames} frames the export's audio differs from torch's by "
                f"{difference:.1e}, and {TOLERANCE:.0e} is allowed: nothing is written; other versions of "
                "torch and of the runtime may agree"
            )
        largest = max(largest, difference.item())
    return largest


def add_export_command(commands) -> None:
    """Add `export` to the subparsers of `python -m checkpoint`."""
    command = commands.add_parser("export", help="write a generator for another runtime", description=__doc__)
    command.add_argument(
        "--checkpoint_file",
        type=Path,
        required=True,
        help="the vocoder: a model's folder, a file in it, or an official g_… file beside its config.json",
    )
    command.add_argument(
        "--output",
        type=Path,
        required=True,
        help="a name that ends in .onnx (ONNX), .pt2 (torch.export) or .tflite (LiteRT)",
    )
    command.add_argument(
        "--frames", type=int, default=128, help="length of the mels that a .tflite takes; others take any"
    )
    command.set_defaults(run=run_export)


def run_export(args: argparse.Namespace) -> None:
    shapes: Iterable[tuple[int, int]] = CHECKED_SHAPES
    if args.output.suffix == ".onnx":
        export, load = export_onnx, load_onnx
    elif args.output.suffix == ".pt2":
        export, load = export_program, load_program
    elif args.output.suffix == ".tflite":
        if args.frames < 1:
            raise UserError(f"--frames is {args.frames}; it must be positive")
        export, load = partial(export_litert, frames=args.frames), load_litert
        shapes = [(1, args.frames)]
    else:
        raise UserError(f"--output {args.output} must end in .onnx, .pt2 or .tflite")
    if args.output.is_dir():
        raise UserError(f"--output {args.output} is a folder; name a file")

    generator = load_generator(args.checkpoint_file)
    try:
        with atomic_write(args.output) as temporary:
            export(generator, temporary)
            difference = largest_difference(generator, load(temporary), shapes)
    except OSError as error:
        raise UserError(f"can't write {args.output}: {error}; name another --output") from error
    megabytes = args.output.stat().st_size / 1e6
    print(f"{args.output}: {megabytes:.1f} MB, differs from torch by at most {difference:.1e}")
