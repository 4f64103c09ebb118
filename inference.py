"""Hear a vocoder: `python inference.py --checkpoint_file X` turns wavs, or saved mels, into audio."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from audio import AUDIO_SUFFIXES, read_audio, resample, to_pcm, write_wav
from checkpoint import load_generator, load_on_device
from common import ArgumentParser, UserError, atomic_write, report_user_errors
from denoiser import Denoiser
from model import Generator
from tacotron2.mel import MEL_SCALES, MelConfig, MelSpectrogram, convert_mel_scale, unlikely_mel_values

if TYPE_CHECKING:
    from export import OnnxGenerator

MEL_SUFFIXES = (".npy", ".npz", ".pt", ".safetensors")
# Frames of a chunk when streaming: half a second, and the generator's context of a few frames beside it.
STREAM_FRAMES = 43


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
        tqdm.write(f"{path.name}: {' and '.join(changes)}", file=sys.stderr)
    return audio


def read_array(path: Path) -> Tensor:
    """The one array of a file, or the one called `mel`. Raises UserError where that is not clear."""
    try:
        if path.suffix == ".npy":
            return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                contents = {name: torch.from_numpy(file[name].astype(np.float32)) for name in file.files}
        elif path.suffix == ".safetensors":
            from safetensors.torch import load_file

            contents = load_file(path)
        else:
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file makes these libraries raise is not for us to foresee
        raise UserError(
            f"can't read the mel {path}: {' '.join(str(error).split())}; save it again"
        ) from error
    if isinstance(contents, Tensor):
        return contents.float()
    tensors = {name: value for name, value in dict(contents).items() if isinstance(value, Tensor)}
    if "mel" not in tensors and len(tensors) != 1:
        raise UserError(f"{path} holds {sorted(tensors) or 'no arrays'}; name the one with the mel `mel`")
    return (tensors.get("mel") if "mel" in tensors else next(iter(tensors.values()))).float()


def load_mel(path: Path, config: MelConfig, mel_scale: str | None = None, transposed: bool = False) -> Tensor:
    """(num_mels, frames) in `config`'s scale, from a file in `mel_scale` (default: the same).

    The file holds (num_mels, frames) or (1, num_mels, frames), `transposed` with the last two swapped. Raises
    UserError, with the numbers, for what can't be a mel of this kind.
    """
    mel = read_array(path)
    shape = tuple(mel.shape)
    if mel.ndim == 3 and mel.shape[0] == 1:
        mel = mel[0]
    if mel.ndim == 2 and transposed:
        mel = mel.T
    if mel.ndim != 2 or mel.shape[0] != config.num_mels or mel.shape[1] == 0:
        layout = f"(frames, {config.num_mels})" if transposed else f"({config.num_mels}, frames)"
        hint = ""
        if mel.ndim == 2 and mel.shape[1] == config.num_mels:
            hint = "; leave out --transposed" if transposed else "; if frames come first, add --transposed"
        raise UserError(
            f"{path} holds an array of shape {shape}; the vocoder needs {layout}, its mels having "
            f"{config.num_mels} bands{hint}"
        )
    source = replace(config, mel_scale=mel_scale or config.mel_scale)
    if not torch.isfinite(mel).all():
        raise UserError(f"{path} holds values that are not finite; save the mel again")
    if doubt := unlikely_mel_values(mel, source):
        raise UserError(
            f"{path} {doubt}: say with --mel_scale which scale it is in ({', '.join(MEL_SCALES)})"
        )
    return convert_mel_scale(mel, source, config).contiguous()


def load_vocoder(path: Path, device: str) -> "Generator | OnnxGenerator":
    """What `checkpoint.load_generator` gives, or an `.onnx` file of export.py, which is called alike."""
    if path.suffix == ".onnx":
        from export import OnnxGenerator

        return OnnxGenerator(path)
    return load_on_device(load_generator, path, device)


@torch.inference_mode()
def vocode(generator, mel: Tensor, device: str = "cpu", chunk_frames: int = 256) -> Iterator[np.ndarray]:
    """Audio of one mel (num_mels, frames) in the generator's scale, as (n,) float32 chunks."""
    for chunk in generator.stream(
        (part.unsqueeze(0).to(device) for part in mel.split(chunk_frames, 1)), chunk_frames
    ):
        yield chunk[0, 0].cpu().numpy()


def input_mels(args, config: MelConfig) -> Iterator[tuple[str, Tensor]]:
    """(name of the output, mel) for each input: a wav's mel, or a mel that was saved."""
    if args.input_mels_dir:
        for path in files_in(args.input_mels_dir, MEL_SUFFIXES):
            yield f"{path.stem}_generated_e2e.wav", load_mel(path, config, args.mel_scale, args.transposed)
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
        "--checkpoint_file",
        type=Path,
        required=True,
        help="the vocoder: a model's folder or file, an official g_… beside its config.json, or an .onnx",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--input_wavs_dir", type=Path, default=Path("test_files"), help="wavs to resynthesise"
    )
    source.add_argument(
        "--input_mels_dir", type=Path, help="mels to turn into audio: .npy, .npz, .pt, .safetensors"
    )
    parser.add_argument("--mel_scale", choices=MEL_SCALES, help="of these mels; by default the vocoder's own")
    parser.add_argument("--transposed", action="store_true", help="these mels are (frames, num_mels)")
    parser.add_argument(
        "--output_dir",
        type=Path,
        help="default: generated_files, or generated_files_from_mel; with --stream - is standard output",
    )
    parser.add_argument(
        "--denoising_strength",
        type=float,
        default=0.0,
        help="subtract so much of the vocoder's own hum from its spectrum: 0.005 is little, 0.1 is much",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="give audio as it is made; to - as raw 16-bit PCM at the vocoder's rate",
    )
    parser.add_argument(
        "--plot", action="store_true", help="also draw each input's mel beside the output's, as PNG"
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda, cuda:1, …"
    )
    return parser


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    if args.denoising_strength < 0:
        raise UserError(f"--denoising_strength is {args.denoising_strength}; it can't be negative")
    if args.stream and (args.denoising_strength or args.plot):
        raise UserError("--stream goes without --denoising_strength and --plot, which need the whole audio")
    to_stdout = str(args.output_dir) == "-"
    if to_stdout and not args.stream:
        raise UserError("--output_dir - is for --stream; name a folder")
    output_dir = args.output_dir or Path(
        "generated_files_from_mel" if args.input_mels_dir else "generated_files"
    )
    generator = load_vocoder(args.checkpoint_file, args.device)
    if not to_stdout:
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"can't write to {output_dir}: {error}; name another --output_dir") from error

    config = generator.config
    denoiser = Denoiser(generator, args.device) if args.denoising_strength else None
    count = 0
    for name, mel in tqdm(input_mels(args, config), unit="file", disable=None):
        chunks = vocode(generator, mel, args.device, STREAM_FRAMES if args.stream else 256)
        if denoiser or args.plot:
            audio = np.concatenate(list(chunks))
            chunks = [
                denoiser(torch.from_numpy(audio), args.denoising_strength).numpy() if denoiser else audio
            ]
        if to_stdout:
            for chunk in chunks:
                sys.stdout.buffer.write(to_pcm(chunk).astype("<i2").tobytes())
                sys.stdout.buffer.flush()
        else:
            write_wav(output_dir / name, chunks, config.sampling_rate)
        if args.plot:
            save_plot(output_dir / Path(name).with_suffix(".png"), mel, chunks[0], config)
        count += 1
    if to_stdout:
        print(f"{count} files spoken", file=sys.stderr)
    else:
        print(f"{count} files in {output_dir}")


def save_plot(path: Path, mel: Tensor, audio: np.ndarray, config: MelConfig) -> None:
    """Draw a mel beside the mel of the audio that was made of it."""
    from plots import plot_mels  # matplotlib is slow to import

    padded = np.pad(audio, (0, max(0, config.min_samples - len(audio))))
    figure = plot_mels({"input": mel, "generated": MelSpectrogram(config)(torch.from_numpy(padded))}, config)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


if __name__ == "__main__":
    main()
