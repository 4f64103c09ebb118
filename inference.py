"""Hear a vocoder: `python inference.py` turns text, wavs or saved mels into audio."""

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from audio import AUDIO_SUFFIXES, to_pcm, write_wav
from checkpoint import load_on_device, load_tacotron2, read_mel_config, read_tacotron2_config
from synthesis.denoiser import Denoiser
from synthesis.inputs import MEL_SUFFIXES, load_audio, load_mel
from synthesis.vocoder import GriffinLim, load_vocoder, vocode
from tacotron2.mel import MEL_SCALES, MelConfig, MelSpectrogram, check_same_mel, convert_mel_scale
from tacotron2.speak import Utterance, speak
from tacotron2.text import split_sentences
from utils import ArgumentParser, UserError, atomic_write, check_seed, report_user_errors

if TYPE_CHECKING:
    pass

# The voice that comes with the project: a Tacotron 2, and a vocoder that knows its mels.
VOICE = Path(__file__).with_name("voices") / "espeak"
# Frames of a chunk when streaming: half a second, and the generator's context of a few frames beside it.
STREAM_FRAMES = 43


# What there is to hear: (name of the file, audio in chunks, what draws it) each.
Output = tuple[str, Iterable[np.ndarray], Callable[[Path], None]]


def resynthesis(args, vocoder) -> Iterator[Output]:
    """Each input's mel, a wav's or one that was saved, made audio again."""
    config = vocoder.config
    finish = Finish(args, vocoder)
    for name, mel in tqdm(input_mels(args, config), unit="file", disable=None):
        chunks = finish(vocode(vocoder, mel, args.device, STREAM_FRAMES if args.stream else 256))
        yield name, chunks, partial(save_mel_plot, mel=mel, chunks=chunks, config=config)


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


def speech(args, vocoder) -> Iterator[Output]:
    """The text, spoken: sentence by sentence, with pauses between them."""
    path = args.taco_weights or VOICE / "tacotron2"
    tacotron2 = load_on_device(load_tacotron2, path, args.device)
    text = args.text if args.text_file is None else read_text(args.text_file)
    config = vocoder.config
    vocoder_path = args.checkpoint_file or VOICE / "hifigan"
    check_same_mel(
        tacotron2.config,
        config,
        str(path),
        str(vocoder_path),
        scale_matters=False,
    )
    finish = Finish(args, vocoder)
    # whoever listens while it is made waits for a sentence, not for all of them
    parts = split_sentences(text) if args.stream else [text]
    utterances: list[Utterance] = []

    def chunks() -> Iterator[np.ndarray]:
        for part in parts:
            for utterance in speak(tacotron2, part, args.seed):
                if utterance.problem:
                    tqdm.write(
                        f"{utterance.text!r} did not come out well, even in {utterance.attempts} attempts: "
                        f"{utterance.problem}",
                        file=sys.stderr,
                    )
                mel = convert_mel_scale(utterance.mel, tacotron2.config, config)
                if utterances:
                    yield np.zeros(round(utterances[-1].pause * config.sampling_rate), dtype=np.float32)
                utterances.append(utterance)
                yield from finish(vocode(vocoder, mel, args.device, STREAM_FRAMES if args.stream else 256))

    def plot(picture: Path) -> None:
        from plots import plot_attention  # matplotlib is slow to import

        for number, utterance in enumerate(utterances, 1):
            numbered = picture if len(utterances) == 1 else picture.with_stem(f"{picture.stem}_{number}")
            save_figure(
                numbered,
                plot_attention({utterance.text: utterance.mel}, utterance.attention, tacotron2.config),
            )

    yield f"{args.text_file.stem if args.text_file else 'speech'}.wav", chunks(), plot


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read the text {path}: {error}; name a text file in UTF-8") from error


class Finish:
    """What is done to audio that was made: with `--denoising_strength`, the vocoder's hum is taken out."""

    def __init__(self, args, vocoder):
        self.strength, self.is_streaming = args.denoising_strength, args.stream
        self.denoiser = Denoiser(vocoder, args.device) if self.strength else None

    def __call__(self, chunks: Iterator[np.ndarray]) -> Iterable[np.ndarray]:
        if self.is_streaming:
            return chunks
        audio = np.concatenate(list(chunks))
        return [self.denoiser(torch.from_numpy(audio), self.strength).numpy() if self.denoiser else audio]


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
        help="the vocoder: a model's folder or file, an official g_… beside its config.json, or an .onnx; "
        "for text by default the one in voices/espeak/",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--text", help="English to speak, of any length")
    source.add_argument("--text_file", type=Path, help="a file of such text")
    source.add_argument(
        "--input_wavs_dir", type=Path, default=Path("test_files"), help="wavs to resynthesise"
    )
    source.add_argument(
        "--input_mels_dir", type=Path, help="mels to turn into audio: .npy, .npz, .pt, .safetensors"
    )
    parser.add_argument(
        "--taco_weights",
        type=Path,
        help="the Tacotron 2 that speaks the text; by default the one in voices/espeak/",
    )
    parser.add_argument(
        "--vocoder", choices=("hifigan", "griffin_lim"), default="hifigan",
        help="griffin_lim, the baseline, needs no --checkpoint_file",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="another one says the text a little differently")
    parser.add_argument("--mel_scale", choices=MEL_SCALES, help="of these mels; by default the vocoder's own")
    parser.add_argument("--transposed", action="store_true", help="these mels are (frames, num_mels)")
    parser.add_argument(
        "--output_dir",
        type=Path,
        help="default: generated_files, generated_files_from_mel or generated_speech; with --stream - is "
        "standard output",
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
        "--plot", action="store_true",
        help="also draw each input's mel beside the output's, or each sentence's mel and attention, as PNG",
    )  # fmt: skip
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda, cuda:1, …"
    )
    return parser


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    speaks = args.text is not None or args.text_file is not None
    check_arguments(args, speaks)
    to_stdout = str(args.output_dir) == "-"
    files = "generated_files_from_mel" if args.input_mels_dir else "generated_files"
    output_dir = args.output_dir or Path("generated_speech" if speaks else files)
    vocoder = make_vocoder(args, speaks)
    if not to_stdout:
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"can't write to {output_dir}: {error}; name another --output_dir") from error

    config = vocoder.config
    count = 0
    for name, chunks, plot in speech(args, vocoder) if speaks else resynthesis(args, vocoder):
        if to_stdout:
            for chunk in chunks:
                sys.stdout.buffer.write(to_pcm(chunk).astype("<i2").tobytes())
                sys.stdout.buffer.flush()
        else:
            write_wav(output_dir / name, chunks, config.sampling_rate)
        if args.plot:
            plot(output_dir / Path(name).with_suffix(".png"))
        count += 1
    if to_stdout:
        print(f"{count} files spoken", file=sys.stderr)
    elif speaks:
        print(output_dir / name)
    else:
        print(f"{count} files in {output_dir}")


def check_arguments(args, speaks: bool) -> None:
    if args.checkpoint_file is None and not speaks and args.vocoder == "hifigan":
        raise UserError("--checkpoint_file is missing: name the vocoder, or take --vocoder griffin_lim")
    if args.taco_weights and not speaks:
        raise UserError("--taco_weights speaks text; give it with --text or --text_file")
    if not speaks and args.seed:
        raise UserError("--seed varies speech; give it with --text or --text_file")
    if speaks and (args.mel_scale or args.transposed):
        raise UserError("--mel_scale and --transposed describe saved mels; leave them out with text")
    check_seed(args.seed)
    if args.denoising_strength < 0:
        raise UserError(f"--denoising_strength is {args.denoising_strength}; it can't be negative")
    if args.denoising_strength and args.vocoder == "griffin_lim":
        raise UserError("--denoising_strength takes out a vocoder's hum; Griffin-Lim has none")
    if args.stream and (args.denoising_strength or args.plot):
        raise UserError("--stream goes without --denoising_strength and --plot, which need the whole audio")
    if str(args.output_dir) == "-" and not args.stream:
        raise UserError("--output_dir - is for --stream; name a folder")


def make_vocoder(args, speaks: bool):
    """The generator that the flags name, or Griffin-Lim for the mels that there will be."""
    if args.vocoder == "hifigan":
        return load_vocoder(args.checkpoint_file or VOICE / "hifigan", args.device)
    if args.checkpoint_file:
        return GriffinLim(read_mel_config(args.checkpoint_file))
    if speaks:
        return GriffinLim(read_tacotron2_config(args.taco_weights or VOICE / "tacotron2"))
    return GriffinLim(MelConfig())


def save_mel_plot(path: Path, mel: Tensor, chunks: list[np.ndarray], config: MelConfig) -> None:
    """Draw a mel beside the mel of the audio that was made of it."""
    from plots import plot_mels  # matplotlib is slow to import

    audio = np.concatenate(chunks)
    padded = np.pad(audio, (0, max(0, config.min_samples - len(audio))))
    mels = {"input": mel, "generated": MelSpectrogram(config)(torch.from_numpy(padded))}
    save_figure(path, plot_mels(mels, config))


def save_figure(path: Path, figure) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


if __name__ == "__main__":
    main()
