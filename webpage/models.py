"""The models of the web page and the API."""

import functools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from checkpoint.voices import VOICES, find_voice, list_voices, load_voice_tacotron2
from common.errors import UserError
from mel import MelConfig
from synthesis.speech import TextToSpeech
from synthesis.vocoder import GriffinLim, Vocoder, load_vocoder

KEPT_MODELS = 4
OWN_VOCODER, GRIFFIN_LIM = "vocoder of the voice", "Griffin-Lim"

Step = TypeVar("Step")


class Models:
    """The voices and vocoders of the page and the API, loaded when they are first used.

    Args:
        checkpoints: the user's own vocoders.
        any_path: whether names of other voice folders and vocoders are accepted.
    """

    def __init__(self, checkpoints: list[Path], device: str, any_path: bool):
        self.device, self.any_path = device, any_path
        self.voices = {voice.name: voice for voice in list_voices(VOICES)}
        self.checkpoints = {str(path): path for path in checkpoints}
        self.bundled = {f"vocoder of {name}": voice.vocoder for name, voice in self.voices.items()}
        self.in_use = threading.Lock()
        self.load_vocoder = functools.lru_cache(KEPT_MODELS)(lambda path: load_vocoder(path, device))
        self.load_tacotron2 = functools.lru_cache(KEPT_MODELS)(
            lambda voice: load_voice_tacotron2(voice, device)
        )

    def vocoder(self, name: str, config: MelConfig) -> Vocoder:
        """Return a vocoder by its name or path, or Griffin-Lim for the mels of `config`."""
        if name == GRIFFIN_LIM:
            return GriffinLim(config)
        path = (self.checkpoints | self.bundled).get(name)
        if path is None and not (self.any_path and name):
            raise UserError(f"there is no vocoder {name!r}; choose one from the list")
        return self.load_vocoder(path or Path(name))

    def text_to_speech(
        self, voice_name: str, vocoder_name: str = OWN_VOCODER, speed: float = 1.0
    ) -> TextToSpeech:
        """Return a voice with its own or another vocoder."""
        if voice_name not in self.voices and not self.any_path:
            raise UserError(f"there is no voice {voice_name!r}; choose one from the list")
        voice = find_voice(voice_name)
        tacotron2 = self.load_tacotron2(voice)
        if vocoder_name == OWN_VOCODER:
            vocoder = self.load_vocoder(voice.vocoder)
        else:
            vocoder = self.vocoder(vocoder_name, tacotron2.config)
        names = (f"the voice {voice.name}", vocoder_name)
        return TextToSpeech(tacotron2, vocoder, self.device, names=names, speed=speed)

    def next_step(self, steps: Iterator[Step]) -> Step | None:
        """Return the next item of an iterator that uses the models, or None at its end.

        One step at a time is computed; the steps of several requests alternate.
        """
        with self.in_use:
            return next(steps, None)
