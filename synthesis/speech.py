"""Text to audio with a Tacotron 2 and a vocoder: whole texts, sentence by sentence, or as a stream."""

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from checkpoint.voices import Voice, load_voice_tacotron2
from mel import check_same_mel, convert_mel_scale
from synthesis.denoiser import make_denoiser
from synthesis.speed import change_speed
from synthesis.vocoder import MIXED_PRECISIONS, Vocoder, load_vocoder, vocode, vocode_chunks
from tacotron2.model import Tacotron2
from tacotron2.speak import Utterance, speak_sentences, stream_sentence
from text import Piece, split_text

STREAM_FRAMES = 43  # frames per chunk of a stream: 0.5 s at 22.05 kHz
MAX_BATCH = 16  # sentences that Tacotron 2 speaks at a time


@dataclass(frozen=True)
class Sentence:
    """A spoken sentence: its text, mel and attention in `utterance`, and its audio (samples,).

    `speed`, `before` and `after`, the seconds of silence around it, are those of its `text.Piece`.
    """

    utterance: Utterance
    audio: np.ndarray
    speed: float = 1.0
    before: float = 0.0
    after: float = 0.0


class TextToSpeech:
    """Text to speech with a Tacotron 2 and a vocoder. Sentences whose attention fails are named on stderr.

    Raises UserError if the two models have different mel settings, the scale excepted.

    Args:
        tacotron2: the text-to-mel model, in eval mode.
        vocoder: a result of `synthesis.vocoder.load_vocoder`, or a `GriffinLim`.
        device: the device of both models.
        denoising_strength: see `synthesis.denoiser.Denoiser`; streams are not denoised.
        names: the names of the two models in error messages.
        mixed_precision: the precision of Tacotron 2. On a CPU, bf16 applies to its decoder's LSTMs, whose
            weights take most of the time to read.
        lexicon: the IPA of words, from `text.read_lexicon`.
        speed: how many times as fast as the voice; the pitch stays as it is.
    """

    def __init__(
        self,
        tacotron2: Tacotron2,
        vocoder: Vocoder,
        device: torch.device | str = "cpu",
        denoising_strength: float = 0.0,
        names: tuple[str, str] = ("Tacotron 2", "the vocoder"),
        mixed_precision: str = "no",
        lexicon: Mapping[str, str] | None = None,
        speed: float = 1.0,
    ):
        check_same_mel(tacotron2.config, vocoder.config, *names, scale_matters=False)
        self.vocoder, self.device, self.speed = vocoder, device, speed
        self.sampling_rate = vocoder.config.sampling_rate
        self.denoise = make_denoiser(vocoder, denoising_strength, device)
        self.precision, self.lexicon = mixed_precision, lexicon
        decoder_dtype = MIXED_PRECISIONS[mixed_precision] if mixed_precision == "bf16" else torch.float32
        # another model with the same weights, since others may use the given one with another precision
        self.tacotron2 = tacotron2.with_packed_decoder(decoder_dtype)

    def audio_of(self, mel: Tensor, speed: float = 1.0) -> np.ndarray:
        """Convert a mel (num_mels, T) in Tacotron 2's scale to audio (samples,), faster by `speed`."""
        mel = convert_mel_scale(mel, self.tacotron2.config, self.vocoder.config)
        mel = torch.cat(list(change_speed([mel], speed * self.speed)), dim=1)
        return self.denoise(np.concatenate(list(vocode(self.vocoder, mel, self.device))))

    def autocast(self) -> torch.autocast:
        device_type, dtype = torch.device(self.device).type, MIXED_PRECISIONS[self.precision]
        return torch.autocast(device_type, dtype, enabled=self.precision != "no" and device_type != "cpu")

    def under_autocast(self, parts: Generator[Tensor, None, Utterance]) -> Generator[Tensor, None, Utterance]:
        """Run a generator under autocast, which ends whenever it yields."""
        while True:
            with self.autocast():
                try:
                    part = next(parts)
                except StopIteration as stop:
                    return stop.value
            yield part

    def silence(self, seconds: float) -> np.ndarray:
        """Return a pause (samples,), which is shorter in faster speech."""
        return np.zeros(round(seconds / self.speed * self.sampling_rate), dtype=np.float32)

    def speak_batches(self, sentences: list[str], seed: int, first_batch: int = 1) -> Iterator[Utterance]:
        """Yield the mels of sentences in order, in batches whose size doubles from `first_batch`."""
        size = first_batch
        while sentences:
            batch, sentences = sentences[:size], sentences[size:]
            with self.autocast():
                spoken = speak_sentences(self.tacotron2, batch, seed, lexicon=self.lexicon)
            for utterance in spoken:
                report_problem(utterance)
                yield utterance
            size = min(2 * size, max(MAX_BATCH, first_batch))

    def sentences(self, text: str, seed: int = 0, first_batch: int = 1) -> Iterator[Sentence]:
        """Yield each sentence of a text as soon as its audio is complete, the first before the others."""
        yield from self.speak_pieces(split_text(text, self.tacotron2.config), seed, first_batch)

    def speak_pieces(self, pieces: list[Piece], seed: int = 0, first_batch: int = 1) -> Iterator[Sentence]:
        """Yield each piece of a text as soon as its audio is complete."""
        spoken = self.speak_batches([piece.text for piece in pieces], seed, first_batch)
        for piece, utterance in zip(pieces, spoken, strict=True):
            audio = self.audio_of(utterance.mel, piece.speed)
            yield Sentence(utterance, audio, *piece[1:])

    def synthesize(self, text: str, seed: int = 0) -> np.ndarray:
        """Return the audio (samples,) of a text, with pauses between its sentences."""
        return join_sentences(list(self.sentences(text, seed, first_batch=MAX_BATCH)), self.silence)

    def stream(self, text: str, seed: int = 0) -> Iterator[np.ndarray]:
        """Yield the audio of a text in chunks (n,) as soon as possible.

        The first sentence is vocoded while Tacotron 2 decodes it, so it gets a single attempt. The others are
        spoken again if their attention fails.
        """
        first, *others = split_text(text, self.tacotron2.config)

        def first_mels() -> Iterator[Tensor]:
            parts = stream_sentence(self.tacotron2, first.text, seed, self.lexicon)
            report_problem((yield from self.under_autocast(parts)))

        if first.before:
            yield self.silence(first.before)
        yield from self.vocode(first_mels(), first.speed)
        spoken = self.speak_batches([piece.text for piece in others], seed)
        for piece, utterance in zip(others, spoken, strict=True):
            yield self.silence(piece.before)
            yield from self.vocode(utterance.mel.split(STREAM_FRAMES, dim=1), piece.speed)
        if after := [first, *others][-1].after:
            yield self.silence(after)

    def vocode(self, mels: Iterable[Tensor], speed: float = 1.0) -> Iterator[np.ndarray]:
        """Convert consecutive parts (num_mels, n) of a mel in Tacotron 2's scale to audio in chunks (n,)."""
        source, target = self.tacotron2.config, self.vocoder.config
        converted = (convert_mel_scale(mel, source, target) for mel in mels)
        yield from vocode_chunks(self.vocoder, change_speed(converted, speed * self.speed), self.device)


def join_sentences(sentences: list[Sentence], silence: Callable[[float], np.ndarray]) -> np.ndarray:
    """Return the audio (samples,) of sentences with the pauses around them."""
    parts = []
    for sentence in sentences:
        parts += [silence(sentence.before), sentence.audio, silence(sentence.after)]
    return np.concatenate(parts)


def load_text_to_speech(
    voice: Voice,
    device: torch.device | str = "cpu",
    mixed_precision: str = "no",
    denoising_strength: float = 0.0,
) -> TextToSpeech:
    """Load the models of a voice. Raises UserError if they are missing or do not fit together."""
    vocoder = load_vocoder(voice.vocoder, device, mixed_precision)
    tacotron2 = load_voice_tacotron2(voice, device)
    names = (str(voice.taco), str(voice.vocoder))
    return TextToSpeech(tacotron2, vocoder, device, denoising_strength, names, mixed_precision)


def report_problem(utterance: Utterance) -> None:
    """Print to stderr that the attention failed in every attempt at a sentence, if it did."""
    if utterance.problem:
        tqdm.write(
            f"{utterance.text!r} did not come out well in {utterance.attempts} attempts: {utterance.problem}",
            file=sys.stderr,
        )
