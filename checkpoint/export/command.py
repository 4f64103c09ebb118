"""Export a vocoder or a voice for another runtime: `python -m checkpoint export`."""

import argparse
from pathlib import Path

from checkpoint.export.int8 import calibration_mels, quantize_vocoder
from checkpoint.formats.onnx import OnnxGenerator
from checkpoint.load import load_generator, load_tacotron2
from checkpoint.voices import find_voice, load_voice_tacotron2
from common.errors import UserError
from common.files import atomic_write, visible

DESCRIPTION = """Write a vocoder, or with --voice or --taco_weights a voice, for another runtime. Before the
exported files replace --output, their results are compared with those of PyTorch."""


def add_export_command(commands) -> None:
    """Add `export` to the subparsers of `python -m checkpoint`."""
    command = commands.add_parser(
        "export", help="write a vocoder or a voice for another runtime", description=DESCRIPTION
    )
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--checkpoint_file",
        type=Path,
        help="vocoder: folder of a model, a file in it, or an official g_… file next to its config.json",
    )
    source.add_argument("--voice", help="voice: name of a bundled voice, or a folder with voice.json")
    command.add_argument(
        "--taco_weights",
        type=Path,
        help="Tacotron 2 to export as a voice together with --checkpoint_file: folder of a model, or a file "
        "of NVIDIA or torchaudio",
    )
    command.add_argument(
        "--output",
        type=Path,
        required=True,
        help="vocoder: file to write, whose name ends in .onnx (ONNX) or .pt2 (torch.export). Voice: folder "
        "to write, which must be new or empty",
    )
    command.add_argument(
        "--int8", action="store_true",
        help="8-bit ONNX files: a vocoder's inner layers, and Tacotron 2's decoder",
    )  # fmt: skip
    command.add_argument(
        "--input_wavs_dir",
        type=Path,
        help="recordings that determine the 8-bit ranges of a vocoder; a voice uses mels of its Tacotron 2",
    )
    command.set_defaults(run=run_export)


def run_export(args: argparse.Namespace) -> None:
    if args.voice is not None and args.taco_weights is not None:
        raise UserError(
            "--voice includes a Tacotron 2; omit --taco_weights, or replace --voice by --checkpoint_file"
        )
    if args.int8 and args.output.suffix == ".pt2":
        raise UserError(f"--int8 applies to ONNX files, not to {args.output}; omit it or name an .onnx file")
    if args.input_wavs_dir and not args.int8:
        raise UserError("--input_wavs_dir determines 8-bit ranges; add --int8 or omit it")
    run = run_vocoder_export if args.voice is None and args.taco_weights is None else run_voice_export
    try:
        print(run(args))
    except OSError as error:
        raise UserError(f"can't write {args.output}: {error}; name another --output") from error


def run_voice_export(args: argparse.Namespace) -> str:
    if args.output.exists() and (not args.output.is_dir() or any(visible(args.output.iterdir()))):
        raise UserError(f"--output {args.output} is there already; name a new or empty folder")
    if args.voice is None:
        tacotron2, vocoder = load_tacotron2(args.taco_weights), load_generator(args.checkpoint_file)
    else:
        voice = find_voice(args.voice)
        tacotron2, vocoder = load_voice_tacotron2(voice), load_generator(voice.vocoder)
    if tacotron2.config.speakers:
        speakers = ", ".join(tacotron2.config.speakers)
        raise UserError(
            f"{args.taco_weights} has several speakers ({speakers}); choose one with `python -m checkpoint "
            "convert --to project --speaker` first"
        )
    if args.input_wavs_dir:
        raise UserError("a voice is quantised with mels of its Tacotron 2; omit --input_wavs_dir")
    from checkpoint.export.voice import export_voice, quantize_voice  # torch.export is slow to import

    with atomic_write(args.output) as temporary:
        temporary.mkdir()
        difference = export_voice(tacotron2, vocoder, temporary)
        quality = f"its parts differ from PyTorch by at most {difference:.1e}"
        if args.int8:
            snr = quantize_voice(tacotron2, vocoder, temporary)
            quality = f"8 bits, SNR of its vocoder {snr:.1f} dB relative to PyTorch"
    megabytes = sum(file.stat().st_size for file in args.output.iterdir()) / 1e6
    return f"{args.output}: {megabytes:.1f} MB, {quality}"


def run_vocoder_export(args: argparse.Namespace) -> str:
    suffix = args.output.suffix
    if suffix not in (".onnx", ".pt2"):
        raise UserError(f"--output {args.output} must end in .onnx or .pt2")
    if args.output.is_dir():
        raise UserError(f"--output {args.output} is a folder; name a file")
    from checkpoint.export import vocoder as export  # torch.export is slow to import

    write, load = {
        ".onnx": (export.export_onnx, OnnxGenerator),
        ".pt2": (export.export_program, export.load_program),
    }[suffix]
    generator = load_generator(args.checkpoint_file)
    if args.int8 and not args.input_wavs_dir:
        raise UserError("--int8 needs recordings of speech; add --input_wavs_dir")
    mels = calibration_mels(args.input_wavs_dir, generator.config) if args.int8 else []
    shapes = [shape for shape in export.CHECKED_SHAPES if generator.config.num_samples(shape[1])]
    with atomic_write(args.output) as temporary:
        write(generator, temporary)
        difference = export.largest_difference(generator, load(temporary), shapes)
        quality = f"differs from PyTorch by at most {difference:.1e}"
        if args.int8:
            quality = f"8 bits, SNR {quantize_vocoder(generator, temporary, mels):.1f} dB relative to PyTorch"
    megabytes = args.output.stat().st_size / 1e6
    return f"{args.output}: {megabytes:.1f} MB, {quality}"
