"""Hear a vocoder: `python inference.py --checkpoint_file X` turns wavs, or saved mels, into audio."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from audio import AUDIO_SUFFIXES, read_audio, resample, to_pcm, write_wav
from checkpoint import load_generator
from common import ArgumentParser, UserError, atomic_write, report_user_errors
from denoiser import Denoiser
from model import Generator
from tacotron2.mel import MEL_SCALES, MelConfig, MelSpectrogram, convert_mel_scale

MEL_SUFFIXES = (".npy", ".npz", ".pt", ".safetensors")
# Frames of a chunk when streaming: half a second, beside the generator's context of a few frames on either side.
STREAM_FRAMES = 43


def load_audio(path: Path, sampling_rate: int) -> np.ndarray:
    """(samples,) of a file at the given rate in Hz; says so where it mixes channels down or resamples."""
    audio, file_rate, channels = read_audio(path)
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
        raise UserError(f"can't read the mel {path}: {' '.join(str(error).split())}; save it again") from error
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
    if not torch.isfinite(mel).all():
        raise UserError(f"{path} holds values that are not finite; save the mel again")
    source = replace(config, mel_scale=mel_scale or config.mel_scale)
    # 22 dB below the floor and 26 dB above full scale: no speech comes there, and mels of other scales do
    low, high = source.from_ln(source.to_ln(source.silence) - 2.5), source.from_ln(3.0)
    if mel.min() < low or mel.max() > high:
        raise UserError(
            f"{path} holds values from {mel.min():.2f} to {mel.max():.2f}; mels in the scale {source.mel_scale} lie "
            f"between {low:.2f} and {high:.2f}: say with --mel_scale which scale it is in ({' or '.join(MEL_SCALES)})"
        )
    return convert_mel_scale(mel, source, config).contiguous()


@torch.inference_mode()
def vocode(generator: Generator, mel: Tensor, chunk_frames: int = 512) -> Iterator[np.ndarray]:
    """Audio of one mel (num_mels, frames) in the generator's scale: (n,) float32 chunks, in bounded memory."""
    for chunk in generator.stream([mel.unsqueeze(0)], chunk_frames):
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
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    if not found:
        raise UserError(f"{folder} holds no {' or '.join(suffixes)} files")
    return found


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="inference.py", description=__doc__)
    parser.add_argument(
        "--checkpoint_file",
        type=Path,
        required=True,
        help="the vocoder: a model's folder, a file in it, an official g_… file beside its config.json, or an .onnx",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--input_wavs_dir", type=Path, default=Path("test_files"), help="wavs to resynthesise")
    source.add_argument("--input_mels_dir", type=Path, help="mels to turn into audio: .npy, .npz, .pt, .safetensors")
    parser.add_argument("--mel_scale", choices=MEL_SCALES, help="of these mels; by default the vocoder's own")
    parser.add_argument("--transposed", action="store_true", help="these mels are (frames, num_mels)")
    parser.add_argument(
        "--output_dir",
        type=Path,
        help="by default generated_files, or generated_files_from_mel for mels; with --stream, - is standard output",
    )
    parser.add_argument(
        "--denoising_strength",
        type=float,
        default=0.0,
        help="subtract so much of the vocoder's own hum from its spectrum: 0.005 is little, 0.1 is much",
    )
    parser.add_argument(
        "--stream", action="store_true", help="give audio as it is made; to - as raw 16-bit PCM at the vocoder's rate"
    )
    parser.add_argument("--plot", action="store_true", help="also draw each input's mel beside the output's, as PNG")
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
    default_dir = "generated_files_from_mel" if args.input_mels_dir else "generated_files"
    output_dir = args.output_dir or Path(default_dir)
    try:
        generator = load_generator(args.checkpoint_file, args.device)
    except (RuntimeError, AssertionError) as error:  # what torch raises for a device it does not know or have
        raise UserError(f"can't use --device {args.device}: {error}") from error

    config = generator.config
    frontend = MelSpectrogram(config)
    denoiser = Denoiser(generator) if args.denoising_strength else None
    count = 0
    for name, mel in tqdm(input_mels(args, config), unit="file"):
        if to_stdout:
            for chunk in vocode(generator, mel, STREAM_FRAMES):
                sys.stdout.buffer.write(to_pcm(chunk).astype("<i2").tobytes())
                sys.stdout.buffer.flush()
        elif args.plot or denoiser:
            audio = np.concatenate(list(vocode(generator, mel)))
            if denoiser:
                on_device = torch.from_numpy(audio).to(denoiser.window.device)
                audio = denoiser(on_device.unsqueeze(0), args.denoising_strength)[0].cpu().numpy()
            write_wav(output_dir / name, audio, config.sampling_rate)
            if args.plot:
                from plots import plot_mels  # matplotlib is slow to import

                figure = plot_mels({"input": mel, "generated": frontend(torch.from_numpy(audio))}, config)
                with atomic_write(output_dir / Path(name).with_suffix(".png")) as temporary:
                    figure.savefig(temporary, format="png", dpi=100)
        else:
            write_wav(output_dir / name, vocode(generator, mel), config.sampling_rate)
        count += 1
    print(f"{count} files {'spoken' if to_stdout else f'in {output_dir}'}", file=sys.stderr if to_stdout else sys.stdout)


if __name__ == "__main__":
    main()
