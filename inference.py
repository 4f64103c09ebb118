"""Hear a vocoder: `python inference.py --checkpoint_file X` turns wavs, or saved mels, into audio."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from audio import AUDIO_SUFFIXES, read_audio, resample, write_wav
from checkpoint import load_generator
from common import ArgumentParser, UserError, atomic_write, report_user_errors
from model import Generator
from tacotron2.mel import MelConfig, MelSpectrogram


def load_audio(path: Path, sampling_rate: int) -> np.ndarray:
    """(samples,) of a file at the given rate in Hz; says so where it mixes channels down or resamples."""
    audio, file_rate, channels = read_audio(path)
    if not np.isfinite(audio).all():
        raise UserError(f"{path} holds values that are not finite; mend or remove the file")
    changes = []
    if channels > 1:
        changes.append(f"its {channels} channels are mixed down to one")
    if file_rate != sampling_rate:
        audio = resample(audio, file_rate, sampling_rate)
        changes.append(f"it is resampled from {file_rate} Hz to {sampling_rate} Hz")
    if changes:
        tqdm.write(f"{path.name}: {' and '.join(changes)}")
    return audio


def load_mel(path: Path, config: MelConfig) -> torch.Tensor:
    """(num_mels, frames) from a `.npy`, (1, num_mels, frames) too. Raises UserError for any other shape."""
    try:
        mel = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"can't read the mel {path}: {error}") from error
    if mel.ndim == 3 and mel.shape[0] == 1:
        mel = mel[0]
    if mel.ndim != 2 or mel.shape[0] != config.num_mels or mel.shape[1] == 0:
        raise UserError(
            f"{path} holds an array of shape {mel.shape}; the vocoder needs ({config.num_mels}, frames), "
            f"its mels having {config.num_mels} bands"
        )
    if not np.isfinite(mel).all():
        raise UserError(f"{path} holds values that are not finite; save the mel again")
    return torch.from_numpy(mel.astype(np.float32))


@torch.inference_mode()
def vocode(generator: Generator, mel: torch.Tensor) -> np.ndarray:
    """Audio (frames * hop_size,) float32 from one mel (num_mels, frames) in the generator's scale."""
    device = next(generator.parameters()).device
    return generator(mel.unsqueeze(0).to(device))[0, 0].cpu().numpy()


def input_mels(args, config: MelConfig) -> Iterator[tuple[str, torch.Tensor]]:
    """(name of the output, mel) for each input: a wav's mel, or a mel that was saved."""
    if args.input_mels_dir:
        for path in files_in(args.input_mels_dir, (".npy",)):
            yield f"{path.stem}_generated_e2e.wav", load_mel(path, config)
    else:
        frontend = MelSpectrogram(config)
        for path in files_in(args.input_wavs_dir, AUDIO_SUFFIXES):
            audio = load_audio(path, config.sampling_rate)
            if len(audio) < config.min_samples:
                raise UserError(
                    f"{path} has {len(audio)} samples, and a mel needs {config.min_samples}; remove the file"
                )
            yield f"{path.stem}_generated.wav", frontend(torch.from_numpy(audio))


def files_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name one with --input_wavs_dir or --input_mels_dir")
    found = [path for path in folder.iterdir() if path.suffix.lower() in suffixes]
    found.sort(key=lambda path: (path.stem, path.suffix))
    if not found:
        raise UserError(f"{folder} holds no {' or '.join(suffixes)} files")
    for first, second in pairwise(found):
        if first.stem == second.stem:
            raise UserError(f"{first} and {second} would give one output of the same name; rename one")
    return found


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="inference.py", description=__doc__)
    parser.add_argument(
        "--checkpoint_file", type=Path, required=True,
        help="the vocoder: a model's folder, a file in it, or an official g_… file beside its config.json",
    )  # fmt: skip
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--input_wavs_dir", type=Path, default=Path("test_files"), help="wavs to resynthesise"
    )
    source.add_argument(
        "--input_mels_dir", type=Path, help=".npy mels, in the vocoder's scale, to turn into audio"
    )
    parser.add_argument(
        "--output_dir", type=Path, help="by default generated_files, or generated_files_from_mel for mels"
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda, cuda:1, …"
    )
    parser.add_argument(
        "--plot", action="store_true", help="draw the mels of input and output into a .png beside each output"
    )
    return parser


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    output_dir = args.output_dir or Path(
        "generated_files_from_mel" if args.input_mels_dir else "generated_files"
    )
    try:
        generator = load_generator(args.checkpoint_file, args.device)
    except (RuntimeError, AssertionError) as error:  # what torch raises for a device it does not know or have
        raise UserError(f"can't use --device {args.device}: {error}") from error
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"can't write to {output_dir}: {error}; name another --output_dir") from error
    config = generator.config
    frontend = MelSpectrogram(config)
    count = 0
    for name, mel in tqdm(input_mels(args, config), unit="file", disable=None):
        audio = vocode(generator, mel)
        write_wav(output_dir / name, audio, config.sampling_rate)
        if args.plot:
            from plots import plot_mels  # matplotlib is slow to import

            figure = plot_mels({"input": mel, "generated": frontend(torch.from_numpy(audio))}, config)
            with atomic_write(output_dir / Path(name).with_suffix(".png")) as temporary:
                figure.savefig(temporary, format="png", dpi=100)
        count += 1
    print(f"{count} files in {output_dir}")


if __name__ == "__main__":
    main()
