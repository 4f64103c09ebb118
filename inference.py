"""Convert text, audio files or saved mels to audio with a vocoder."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from checkpoint import DEVICE, read_mel_config, read_tacotron2_config
from checkpoint.voices import Voice, find_voice, list_voices, load_voice_tacotron2
from common.errors import UserError, report_user_errors
from common.files import atomic_write
from common.options import SEED, ArgumentParser, checked
from corpus.audio import to_pcm, write_wav
from mel import MEL_SCALES, MelConfig, MelSpectrogram
from synthesis.denoiser import make_denoiser
from synthesis.inputs import input_mels, read_text
from synthesis.speech import MAX_BATCH, STREAM_FRAMES, Sentence, Speaker, join_sentences, report_problem
from synthesis.vocoder import (
    CHUNK_FRAMES,
    MIXED_PRECISIONS,
    GriffinLim,
    Vocoder,
    check_mixed_precision,
    compile_generator,
    load_vocoder,
    vocode,
)
from text import read_lexicon


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="inference.py", description=__doc__)
    group = parser.add_argument_group("input")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--text", help="English text of any length")
    source.add_argument("--text_file", type=Path, help="text file in UTF-8")
    source.add_argument(
        "--input_wavs_dir",
        type=Path,
        default=Path("test_files"),
        help="folder of audio files to resynthesize",
    )
    source.add_argument(
        "--input_mels_dir", type=Path, help="folder of saved mels: .npy, .npz, .pt or .safetensors"
    )
    source.add_argument("--list_voices", action="store_true", help="print the bundled voices and exit")
    group.add_argument(
        "--lexicon", type=Path, help="file with the IPA of words, one per line, for voices that read phonemes"
    )
    group.add_argument(
        "--mel_scale", choices=MEL_SCALES, help="scale of the saved mels; default: the vocoder's scale"
    )
    group.add_argument(
        "--transposed", action="store_true", help="saved mels have the shape (frames, num_mels)"
    )

    group = parser.add_argument_group("models")
    group.add_argument(
        "--voice", help="name or folder of a voice; default: the default voice of --list_voices"
    )
    group.add_argument("--taco_weights", type=Path, help="Tacotron 2 checkpoint; default: the voice's")
    group.add_argument("--speaker", help="speaker of a Tacotron 2 with several; default: the voice's")
    group.add_argument(
        "--checkpoint_file",
        type=Path,
        help="vocoder checkpoint: a model folder or file, an official g_… file next to its config.json, or "
        "an .onnx file; default with text or --voice: the voice's",
    )
    group.add_argument(
        "--vocoder", choices=("hifigan", "griffin_lim"), default="hifigan",
        help="neural vocoder, or the Griffin-Lim baseline, which needs no checkpoint",
    )  # fmt: skip
    group.add_argument(
        "--mixed_precision", choices=list(MIXED_PRECISIONS), default="no",
        help="precision of the models' layers; on a CPU, bf16 includes Tacotron 2's decoder",
    )  # fmt: skip
    group.add_argument(
        "--compile", action="store_true",
        help="vocoder compiled by torch.compile, which takes minutes and needs a C++ compiler on a CPU",
    )  # fmt: skip
    group.add_argument(
        "--device", type=checked(str, **DEVICE), default="cuda" if torch.cuda.is_available() else "cpu",
        help="cpu, cuda, cuda:1, …",
    )  # fmt: skip

    group = parser.add_argument_group("output")
    group.add_argument(
        "--output_dir",
        type=Path,
        help="output folder; default: generated_files, generated_files_from_mel or generated_speech; "
        "- with --stream: standard output",
    )
    group.add_argument(
        "--seed", type=checked(int, **SEED), default=0, help="seed of Tacotron 2's prenet dropout"
    )
    group.add_argument(
        "--denoising_strength",
        type=checked(float, minimum=0),
        default=0.0,
        help="factor of the vocoder's bias spectrum to subtract; typical values are 0.005 to 0.1",
    )
    group.add_argument(
        "--stream", action="store_true",
        help="output of audio while it is being generated; raw 16-bit PCM on standard output",
    )  # fmt: skip
    group.add_argument(
        "--plot", action="store_true",
        help="PNG of the mels of each input and output, or of each sentence's mel and attention",
    )  # fmt: skip
    return parser


def check_arguments(args, speaks: bool) -> None:
    """Raise UserError for flags that contradict each other."""
    if not (speaks or args.checkpoint_file or args.voice) and args.vocoder == "hifigan":
        raise UserError("--checkpoint_file is missing: name a vocoder, or use --vocoder griffin_lim")
    for name in ("taco_weights", "speaker", "seed", "lexicon"):
        if getattr(args, name) and not speaks:
            raise UserError(f"--{name} requires text; add --text or --text_file")
    if speaks and (args.mel_scale or args.transposed):
        raise UserError("--mel_scale and --transposed describe saved mels; omit them with text")
    for name in ("denoising_strength", "mixed_precision", "compile"):
        if args.vocoder == "griffin_lim" and getattr(args, name) not in (0, "no"):
            raise UserError(f"--{name} applies to neural vocoders; omit it with --vocoder griffin_lim")
    if args.stream and (args.denoising_strength or args.plot):
        raise UserError("--denoising_strength and --plot need the whole audio; omit them or --stream")
    if str(args.output_dir) == "-" and not args.stream:
        raise UserError("--output_dir - requires --stream; add it or name a folder")


def choose_voice(args) -> Voice:
    """Return the requested voice with the models and speaker of the flags, if given."""
    voice = find_voice(args.voice)
    if args.taco_weights:
        voice = replace(voice, taco=args.taco_weights, speaker=None)
    return replace(
        voice, speaker=args.speaker or voice.speaker, vocoder=args.checkpoint_file or voice.vocoder
    )


def make_vocoder(args, speaks: bool) -> Vocoder:
    """Load the requested vocoder, or return a Griffin-Lim one for the requested mels."""
    check_mixed_precision(args.mixed_precision, args.device)
    if args.vocoder == "griffin_lim" and args.checkpoint_file:
        return GriffinLim(read_mel_config(args.checkpoint_file))
    if args.vocoder == "griffin_lim":
        return GriffinLim(read_tacotron2_config(choose_voice(args).taco) if speaks else MelConfig())
    path = args.checkpoint_file or choose_voice(args).vocoder
    vocoder = load_vocoder(path, args.device, args.mixed_precision)
    if args.compile:
        compile_generator(vocoder)
    return vocoder


def speak(args, vocoder: Vocoder, output_dir: Path) -> str:
    """Speak the text and return the message for the user."""
    voice = choose_voice(args)
    tacotron2 = load_voice_tacotron2(voice, args.device)
    names = (str(voice.taco), str(voice.vocoder))
    lexicon = read_lexicon(args.lexicon) if args.lexicon else None
    speaker = Speaker(
        tacotron2, vocoder, args.device, args.denoising_strength, names, args.mixed_precision, lexicon
    )
    text = read_text(args.text_file) if args.text_file else args.text
    path = output_dir / f"{args.text_file.stem if args.text_file else 'speech'}.wav"
    if args.stream:
        write(path, speaker.stream(text, args.seed, report_problem), speaker.sampling_rate)
    else:
        sentences = list(speaker.sentences(text, args.seed, first_batch=MAX_BATCH))
        for sentence in sentences:
            report_problem(sentence.utterance)
        write(path, [join_sentences(sentences, speaker.silence)], speaker.sampling_rate)
        if args.plot:
            plot_sentences(path.with_suffix(".png"), sentences, tacotron2.config)
    return "1 file written" if is_stdout(output_dir) else str(path)


def resynthesize(args, vocoder: Vocoder, output_dir: Path) -> str:
    """Vocode the mels of audio files, or saved mels, and return the message for the user."""
    config, count = vocoder.config, 0
    denoise = make_denoiser(vocoder, args.denoising_strength, args.device)
    inputs = input_mels(config, args.input_wavs_dir, args.input_mels_dir, args.mel_scale, args.transposed)
    for name, mel in tqdm(inputs, unit="file", disable=None):
        chunks = vocode(vocoder, mel, args.device, STREAM_FRAMES if args.stream else CHUNK_FRAMES)
        if not args.stream:
            chunks = [denoise(np.concatenate(list(chunks)))]
        write(output_dir / name, chunks, config.sampling_rate)
        if args.plot:
            plot_resynthesis(output_dir / Path(name).with_suffix(".png"), mel, chunks[0], config)
        count += 1
    return f"{count} files written" if is_stdout(output_dir) else f"{count} files in {output_dir}"


def is_stdout(output_dir: Path) -> bool:
    return str(output_dir) == "-"


def write(path: Path, chunks: Iterable[np.ndarray], sampling_rate: int) -> None:
    """Write a WAV file, or raw 16-bit PCM to standard output if the folder of `path` is `-`."""
    if not is_stdout(path.parent):
        write_wav(path, chunks, sampling_rate)
        return
    for chunk in chunks:
        sys.stdout.buffer.write(to_pcm(chunk).astype("<i2").tobytes())
        sys.stdout.buffer.flush()


def plot_sentences(path: Path, sentences: list[Sentence], config: MelConfig) -> None:
    """Save one PNG of the mel and attention per sentence, numbered if there are several."""
    from common.plots import plot_attention  # matplotlib is slow to import

    for index, sentence in enumerate(sentences, 1):
        numbered = path if len(sentences) == 1 else path.with_stem(f"{path.stem}_{index}")
        utterance = sentence.utterance
        save_figure(numbered, plot_attention({utterance.text: utterance.mel}, utterance.attention, config))


def plot_resynthesis(path: Path, mel: Tensor, audio: np.ndarray, config: MelConfig) -> None:
    """Save a PNG of a vocoder's input mel (num_mels, T) and the mel of its output audio (samples,)."""
    from common.plots import plot_mels  # matplotlib is slow to import

    padded = np.pad(audio, (0, max(0, config.min_samples - len(audio))))
    mels = {"input": mel, "generated": MelSpectrogram(config)(torch.from_numpy(padded))}
    save_figure(path, plot_mels(mels, config))


def save_figure(path: Path, figure) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    if args.list_voices:
        print("\n".join(voice.describe() for voice in list_voices()))
        return
    speaks = args.text is not None or args.text_file is not None
    check_arguments(args, speaks)
    vocoder = make_vocoder(args, speaks)
    from_files = "generated_files_from_mel" if args.input_mels_dir else "generated_files"
    output_dir = args.output_dir or Path("generated_speech" if speaks else from_files)
    if not is_stdout(output_dir):
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"can't write to {output_dir}: {error}; name another --output_dir") from error
    message = (speak if speaks else resynthesize)(args, vocoder, output_dir)
    print(message, file=sys.stderr if is_stdout(output_dir) else sys.stdout)


if __name__ == "__main__":
    main()
