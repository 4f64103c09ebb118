"""Text to audio: a Tacotron 2 and a vocoder that speak whole texts, sentence by sentence, or as a stream."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from checkpoint.voices import Voice, load_voice_tacotron2
from synthesis.denoiser import make_denoiser
from synthesis.vocoder import MIXED_PRECISIONS, Vocoder, load_vocoder, vocode, vocode_chunks
from tacotron2.mel import check_same_mel, convert_mel_scale
from tacotron2.model import Tacotron2
from tacotron2.speak import Utterance, speak_sentences, split_text

# Frames of audio per chunk of a stream: the first is short, for an early start, the others are 0.5 s long.
FIRST_FRAMES, STREAM_FRAMES = 12, 43
MAX_BATCH = 16  # sentences that Tacotron 2 speaks at a time


@dataclass(frozen=True)
class Sentence:
    """A spoken sentence: its text, mel and attention in `utterance`, and its audio (samples,)."""

    utterance: Utterance
    audio: np.ndarray


class Speaker:
    """A Tacotron 2 and a vocoder that speak text together.

    Raises UserError if the two disagree on the mel.

    Args:
        tacotron2: the model from text to mel, in eval mode.
        vocoder: a vocoder as `synthesis.vocoder.load_vocoder` returns it, or `GriffinLim`.
        device: the device of both.
        denoising_strength: see `synthesis.denoiser.Denoiser`; streams are not denoised.
        names: what error messages call the two models.
        mixed_precision: the precision of Tacotron 2 on a GPU; on a CPU it runs in float32.
    """

    def __init__(
        self,
        tacotron2: Tacotron2,
        vocoder: Vocoder,
        device: torch.device | str = "cpu",
        denoising_strength: float = 0.0,
        names: tuple[str, str] = ("Tacotron 2", "the vocoder"),
        mixed_precision: str = "no",
    ):
        check_same_mel(tacotron2.config, vocoder.config, *names, scale_matters=False)
        self.tacotron2, self.vocoder, self.device = tacotron2, vocoder, device
        self.sampling_rate = vocoder.config.sampling_rate
        self.denoise = make_denoiser(vocoder, denoising_strength, device)
        self.precision = mixed_precision

    def audio_of(self, mel: Tensor) -> np.ndarray:
        """Convert a mel (num_mels, T) in Tacotron 2's scale to audio (samples,)."""
        mel = convert_mel_scale(mel, self.tacotron2.config, self.vocoder.config)
        return self.denoise(np.concatenate(list(vocode(self.vocoder, mel, self.device))))

    def autocast(self) -> torch.autocast:
        device_type, dtype = torch.device(self.device).type, MIXED_PRECISIONS[self.precision]
        return torch.autocast(device_type, dtype, enabled=self.precision != "no" and device_type != "cpu")

    def silence(self, seconds: float) -> np.ndarray:
        return np.zeros(round(seconds * self.sampling_rate), dtype=np.float32)

    def utterances(self, text: str, seed: int = 0, first_batch: int = 1) -> Iterator[Utterance]:
        """Yield the spoken sentences of a text in order, in batches that double from `first_batch`."""
        sentences, size = split_text(text), first_batch
        while sentences:
            batch, sentences = sentences[:size], sentences[size:]
            with self.autocast():
                spoken = speak_sentences(self.tacotron2, batch, seed)
            yield from spoken
            size = min(2 * size, max(MAX_BATCH, first_batch))

    def sentences(self, text: str, seed: int = 0, first_batch: int = 1) -> Iterator[Sentence]:
        """Yield each sentence of a text as soon as its audio is complete, the first before the others."""
        for utterance in self.utterances(text, seed, first_batch):
            yield Sentence(utterance, self.audio_of(utterance.mel))

    def speak(self, text: str, seed: int = 0) -> np.ndarray:
        """Return the audio (samples,) of a text, with pauses between its sentences."""
        return join_sentences(list(self.sentences(text, seed, first_batch=MAX_BATCH)), self.silence)

    def stream(
        self, text: str, seed: int = 0, on_utterance: Callable[[Utterance], None] = lambda utterance: None
    ) -> Iterator[np.ndarray]:
        """Yield the audio of a text in chunks (n,) as soon as possible.

        Calls `on_utterance` with each sentence when its mel is complete.
        """
        pause, first_frames = 0.0, self.vocoder.context_frames + FIRST_FRAMES
        for utterance in self.utterances(text, seed):
            on_utterance(utterance)
            if pause:
                yield self.silence(pause)
            mel = convert_mel_scale(utterance.mel, self.tacotron2.config, self.vocoder.config)
            yield from vocode_chunks(self.vocoder, split_mel(mel, first_frames), self.device)
            first_frames = STREAM_FRAMES
            pause = utterance.pause


def split_mel(mel: Tensor, first_frames: int) -> Iterable[Tensor]:
    """Split a mel (num_mels, T) into parts of `STREAM_FRAMES` frames after a first one of another length."""
    return mel[:, :first_frames], *mel[:, first_frames:].split(STREAM_FRAMES, dim=1)


def join_sentences(sentences: list[Sentence], silence: Callable[[float], np.ndarray]) -> np.ndarray:
    """Return the audio (samples,) of sentences with their pauses between them."""
    parts = []
    for sentence in sentences:
        parts += [sentence.audio, silence(sentence.utterance.pause)]
    return np.concatenate(parts[:-1])


def load_speaker(
    voice: Voice,
    device: torch.device | str = "cpu",
    mixed_precision: str = "no",
    denoising_strength: float = 0.0,
) -> Speaker:
    """Load the models of a voice. Raises UserError if they are missing or do not fit together."""
    vocoder = load_vocoder(voice.vocoder, device, mixed_precision)
    tacotron2 = load_voice_tacotron2(voice, device)
    names = (str(voice.taco), str(voice.vocoder))
    return Speaker(tacotron2, vocoder, device, denoising_strength, names, mixed_precision)


def report_problem(utterance: Utterance) -> None:
    """Report on stderr a sentence whose attention failed in every attempt."""
    if utterance.problem:
        tqdm.write(
            f"{utterance.text!r} did not come out well, even in {utterance.attempts} attempts: "
            f"{utterance.problem}",
            file=sys.stderr,
        )
