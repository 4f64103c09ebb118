"""Export a vocoder or a voice for another runtime: `python -m checkpoint export`."""

import os
from dataclasses import dataclass
from pathlib import Path

from checkpoint.export.int8 import calibration_mels, quantize_vocoder
from checkpoint.formats.onnx import OnnxGenerator, require_packages
from checkpoint.load import load_generator, load_tacotron2
from checkpoint.voices import find_voice, load_voice_tacotron2
from common.errors import UserError
from common.files import atomic_write, is_occupied
from common.options import Options, option


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Options):
    """Write a vocoder, or with --voice or --taco_weights a voice, for another runtime.

    Before the exported files replace --output, their results are compared with those of PyTorch.
    """

    checkpoint_file: Path | None = option(
        None, "Export this vocoder: folder of a model, a file in it, or an official g_… file next to its "
        "config.json", group="model (one of)",
    )  # fmt: skip
    voice: str | None = option(None, "Export this voice: name of a bundled one, or a folder with voice.json")
    taco_weights: Path | None = option(
        None, "Export this Tacotron 2 as a voice together with --checkpoint_file: folder of a model, or a "
        "file of NVIDIA or torchaudio", group="export",
    )  # fmt: skip
    output: Path = option(
        help="Write a vocoder to this file, whose name ends in .onnx (ONNX) or .pt2 (torch.export), or "
        "a voice or a SavedModel into this folder, which must be new or empty"
    )
    to: str | None = option(
        None, "Write a vocoder as a SavedModel, which TensorFlow runs", choices=("tensorflow",)
    )
    int8: bool = option(False, "Write 8-bit ONNX files: a vocoder's inner layers, and Tacotron 2's decoder")
    input_wavs_dir: Path | None = option(
        None, "Choose the 8-bit ranges of a vocoder by the recordings in this folder; a voice uses mels of "
        "its Tacotron 2",
    )  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        self.require_one("checkpoint_file", "voice")
        if self.voice is not None and self.taco_weights is not None:
            raise UserError(
                "--voice includes a Tacotron 2; omit --taco_weights, or replace --voice by --checkpoint_file"
            )
        if self.int8 and (self.to or self.output.suffix == ".pt2"):
            raise UserError(
                f"--int8 applies to ONNX files, not to {self.output}; omit it or name an .onnx file"
            )
        if self.to and self.is_voice:
            raise UserError("--to tensorflow exports vocoders; name one with --checkpoint_file alone")
        if self.input_wavs_dir and not self.int8:
            raise UserError("--input_wavs_dir determines 8-bit ranges; add --int8 or omit it")
        if self.input_wavs_dir and self.is_voice:
            raise UserError("a voice is quantized with mels of its Tacotron 2; omit --input_wavs_dir")

    @property
    def is_voice(self) -> bool:
        return self.voice is not None or self.taco_weights is not None


def run_export(options: ExportOptions) -> None:
    run = run_tensorflow_export if options.to else run_vocoder_export
    try:
        print((run_voice_export if options.is_voice else run)(options))
    except OSError as error:
        raise UserError(f"can't write {options.output}: {error}; name another --output") from error


def require_empty(folder: Path) -> None:
    if is_occupied(folder):
        raise UserError(f"--output {folder} is there already; name a new or empty folder")


def size_in_mb(path: Path) -> str:
    files = path.rglob("*") if path.is_dir() else [path]
    return f"{sum(file.stat().st_size for file in files if file.is_file()) / 1e6:.1f} MB"


def run_voice_export(options: ExportOptions) -> str:
    require_empty(options.output)
    if options.voice is None:
        tacotron2, vocoder = load_tacotron2(options.taco_weights), load_generator(options.checkpoint_file)
    else:
        voice = find_voice(options.voice)
        tacotron2, vocoder = load_voice_tacotron2(voice), load_generator(voice.vocoder)
    if tacotron2.config.speakers:
        speakers = ", ".join(tacotron2.config.speakers)
        raise UserError(
            f"{options.taco_weights} has several speakers ({speakers}); choose one with `python -m "
            "checkpoint convert --to project --speaker` first"
        )
    from checkpoint.export.voice import export_voice, quantize_voice  # torch.export is slow to import

    with atomic_write(options.output) as temporary:
        temporary.mkdir()
        difference = export_voice(tacotron2, vocoder, temporary)
        quality = f"its parts differ from PyTorch by at most {difference:.1e}"
        if options.int8:
            snr = quantize_voice(tacotron2, vocoder, temporary)
            quality = f"8 bits, SNR of its vocoder {snr:.1f} dB relative to PyTorch"
    return f"{options.output}: {size_in_mb(options.output)}, {quality}"


def run_tensorflow_export(options: ExportOptions) -> str:
    require_empty(options.output)
    require_packages("tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # it would list the instructions that it doesn't use
    from checkpoint.export import vocoder as export
    from checkpoint.export.tensorflow import export_tensorflow, load_tensorflow

    generator = load_generator(options.checkpoint_file)
    with atomic_write(options.output) as temporary:
        export_tensorflow(generator, temporary)
        difference = export.largest_difference(generator, load_tensorflow(temporary))
    return f"{options.output}: {size_in_mb(options.output)}, differs from PyTorch by at most {difference:.1e}"


def run_vocoder_export(options: ExportOptions) -> str:
    suffix = options.output.suffix
    if suffix not in (".onnx", ".pt2"):
        raise UserError(f"--output {options.output} must end in .onnx or .pt2")
    if options.output.is_dir():
        raise UserError(f"--output {options.output} is a folder; name a file")
    from checkpoint.export import vocoder as export  # torch.export is slow to import

    write, load = {
        ".onnx": (export.export_onnx, OnnxGenerator),
        ".pt2": (export.export_program, export.load_program),
    }[suffix]
    generator = load_generator(options.checkpoint_file)
    if options.int8 and not options.input_wavs_dir:
        raise UserError("--int8 needs recordings of speech; add --input_wavs_dir")
    mels = calibration_mels(options.input_wavs_dir, generator.config) if options.int8 else []
    with atomic_write(options.output) as temporary:
        write(generator, temporary)
        difference = export.largest_difference(generator, load(temporary))
        quality = f"differs from PyTorch by at most {difference:.1e}"
        if options.int8:
            quality = f"8 bits, SNR {quantize_vocoder(generator, temporary, mels):.1f} dB relative to PyTorch"
    return f"{options.output}: {size_in_mb(options.output)}, {quality}"
