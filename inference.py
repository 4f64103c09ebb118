"""Convert text, audio files or saved mels to audio with a vocoder."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from common.parser import build_parser, parse_options
from synthesis.options import InferenceOptions

if __name__ == "__main__":  # answer --help and mistakes before the imports that take seconds
    build_parser("inference.py", __doc__, InferenceOptions).parse_args()

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from checkpoint import read_mel_config, read_tacotron2_config
from checkpoint.voices import Voice, find_voice, list_voices, load_voice_tacotron2
from common.errors import UserError, report_user_errors, standard_output
from common.files import atomic_write
from corpus.audio import AUDIO_SUFFIXES, to_pcm, write_wav
from mel import MelConfig, MelSpectrogram
from synthesis.denoiser import make_denoiser
from synthesis.inputs import MEL_SUFFIXES, files_in, input_mels, read_text
from synthesis.pronunciation import pronounce
from synthesis.speech import MAX_BATCH, STREAM_FRAMES, Sentence, TextToSpeech, join_sentences
from synthesis.timestamps import word_times, write_timestamps
from synthesis.vocoder import (
    CHUNK_FRAMES,
    GriffinLim,
    Vocoder,
    compile_generator,
    load_vocoder,
    vocode,
)
from tacotron2.config import Tacotron2Config
from text import read_lexicon


def choose_voice(options: InferenceOptions) -> Voice:
    """Return the requested voice with the models and speaker of the flags, if given."""
    voice = find_voice(options.voice)
    if options.taco_weights:
        voice = replace(voice, taco=options.taco_weights, speaker=None)
    return replace(
        voice, speaker=options.speaker or voice.speaker, vocoder=options.checkpoint_file or voice.vocoder
    )


def make_vocoder(options: InferenceOptions) -> Vocoder:
    """Load the requested vocoder, or return a Griffin-Lim one for the requested mels."""
    if options.vocoder == "griffin_lim" and options.checkpoint_file:
        return GriffinLim(read_mel_config(options.checkpoint_file))
    if options.vocoder == "griffin_lim":
        return GriffinLim(
            read_tacotron2_config(choose_voice(options).taco) if options.speaks else MelConfig()
        )
    path = options.checkpoint_file or choose_voice(options).vocoder
    vocoder = load_vocoder(path, options.device, options.mixed_precision)
    if options.compile:
        compile_generator(vocoder)
    return vocoder


def speak_texts(options: InferenceOptions, vocoder: Vocoder) -> str:
    """Speak the text and return the message for the user."""
    voice = choose_voice(options)
    tacotron2 = load_voice_tacotron2(voice, options.device)
    names = (str(voice.taco), str(voice.vocoder))
    lexicon = read_lexicon(options.lexicon) if options.lexicon else None
    tts = TextToSpeech(
        tacotron2,
        vocoder,
        options.device,
        options.denoising_strength,
        names,
        options.mixed_precision,
        lexicon,
        options.speed,
    )
    text = read_text(options.text_file) if options.text_file else options.text
    path = options.speech_path
    inputs = [options.text_file, options.lexicon, options.taco_weights, options.checkpoint_file]
    for output in filter(None, (path, options.timestamps)):
        refuse_inputs(output, {file.resolve() for file in filter(None, inputs)})
    if options.stream:
        write_output(path, tts.stream(text, options.seed), tts.sampling_rate)
    else:
        kept = []  # long texts take much memory, so only if needed

        def audio_of_sentences() -> Iterator[np.ndarray]:
            for sentence in tts.sentences(text, options.seed, first_batch=MAX_BATCH):
                if options.timestamps or options.plot:
                    kept.append(sentence)
                yield join_sentences([sentence], tts.silence)

        write_output(path, audio_of_sentences(), tts.sampling_rate)
        if options.timestamps:
            write_timestamps(options.timestamps, word_times(tts, kept))
        if options.plot:
            plot_sentences(path.with_suffix(".png"), kept, tacotron2.config, lexicon)
    return "1 file written" if is_stdout(path.parent) else str(path)


def resynthesize(options: InferenceOptions, vocoder: Vocoder) -> str:
    """Vocode the mels of audio files, or saved mels, and return the message for the user."""
    config, output_dir, written, replaced = vocoder.config, options.output_folder, 0, 0
    denoise = make_denoiser(vocoder, options.denoising_strength, options.device)
    wavs_dir = options.input_wavs_dir or Path("test_files")
    inputs = (options.input_mels_dir, MEL_SUFFIXES) if options.input_mels_dir else (wavs_dir, AUDIO_SUFFIXES)
    originals = {path.resolve() for path in files_in(*inputs)}
    if options.output and len(originals) > 1:
        raise UserError(f"--output names one file, but there are {len(originals)} inputs; use --output_dir")
    mels = input_mels(config, wavs_dir, options.input_mels_dir, options.mel_scale, options.transposed)
    for name, mel in tqdm(mels, unit="file", disable=None):
        chunks = vocode(vocoder, mel, options.device, STREAM_FRAMES if options.stream else CHUNK_FRAMES)
        if not options.stream:
            chunks = [denoise(np.concatenate(list(chunks)))]
        path = options.output or output_dir / name
        refuse_inputs(path, originals)
        replaced += path.exists()
        write_output(path, chunks, config.sampling_rate)
        if options.plot:
            plot_resynthesis(path.with_suffix(".png"), mel, chunks[0], config)
        written += 1
    if is_stdout(output_dir):
        return f"{written} files written"
    if options.output:
        return str(options.output)
    earlier = f", {replaced} of them in place of earlier ones" if replaced else ""
    return f"{written} files in {output_dir}{earlier}"


def refuse_inputs(output: Path, inputs: set[Path]) -> None:
    """Raise UserError if an output file is one of the inputs."""
    if output.resolve() in inputs:
        raise UserError(f"{output} is an input, which would be lost; write to another place")


def is_stdout(output_dir: Path) -> bool:
    return str(output_dir) == "-"


def write_output(path: Path, chunks: Iterable[np.ndarray], sampling_rate: int) -> None:
    """Write a WAV or FLAC file, or raw 16-bit PCM to standard output if the folder of `path` is `-`."""
    if not is_stdout(path.parent):
        write_wav(path, chunks, sampling_rate)
        return
    for chunk in chunks:
        with standard_output():
            sys.stdout.buffer.write(to_pcm(chunk).astype("<i2").tobytes())


def plot_sentences(
    path: Path, sentences: list[Sentence], config: Tacotron2Config, lexicon: Mapping[str, str] | None
) -> None:
    """Save one PNG of the mel and attention per sentence, numbered if there are several."""
    from common.plots import plot_attention  # matplotlib is slow to import

    for index, sentence in enumerate(sentences, 1):
        numbered = path if len(sentences) == 1 else path.with_stem(f"{path.stem}_{index}")
        utterance = sentence.utterance
        mels, [symbols] = {utterance.text: utterance.mel}, pronounce([utterance.text], config, lexicon)
        save_figure(numbered, plot_attention(mels, utterance.attention, config, symbols))


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
    options = parse_options(InferenceOptions, "inference.py", __doc__, arguments)
    if options.list_voices:
        print("\n".join(voice.describe() for voice in list_voices()))
        return
    output_dir = options.output_folder
    if is_stdout(output_dir) and sys.stdout is None:
        raise UserError("standard output is closed; open it, or name a folder with --output_dir")
    vocoder = make_vocoder(options)
    if not is_stdout(output_dir):
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            flag = "--output" if options.output else "--output_dir"
            raise UserError(f"can't write to {output_dir}: {error}; name another {flag}") from error
    message = (speak_texts if options.speaks else resynthesize)(options, vocoder)
    print(message, file=sys.stderr if is_stdout(output_dir) else sys.stdout)


if __name__ == "__main__":
    main()
