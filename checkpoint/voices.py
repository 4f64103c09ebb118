"""Voices: folders with a `voice.json` that names a Tacotron 2, a vocoder, their license and provenance."""

from dataclasses import dataclass
from pathlib import Path

import torch

from checkpoint.download import local_folder
from checkpoint.load import load_tacotron2
from common.errors import UserError
from common.files import read_json
from tacotron2.model import Tacotron2

VOICES = Path(__file__).resolve().parent.parent / "voices"
VOICE_FILE = "voice.json"
TEXT_FIELDS = ("title", "language", "license", "provenance", "taco", "vocoder")


@dataclass(frozen=True)
class Voice:
    """A Tacotron 2 and a matching vocoder.

    `speaker` selects one speaker of a multi-speaker Tacotron 2, which several voices can share.
    """

    folder: Path
    title: str
    language: str
    license: str
    provenance: str
    taco: Path
    vocoder: Path
    speaker: str | None = None
    default: bool = False

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def describe(self) -> str:
        """Return the name, language, license and provenance, one per line."""
        name = f"{self.name} (default)" if self.default else self.name
        fields = {"title": self.title, "language": self.language, "license": self.license}
        fields["provenance"] = self.provenance
        return "\n".join([name, *(f"    {field:<12}{value}" for field, value in fields.items())])


def read_voice(folder: Path) -> Voice:
    """Read `voice.json` in `folder`. Raises UserError if it is missing or incomplete."""
    path = folder / VOICE_FILE
    values = read_json(path)
    values.setdefault("license", values.get("licence"))  # as it was called at first
    if missing := [name for name in TEXT_FIELDS if not isinstance(values.get(name), str)]:
        raise UserError(f"{path} lacks {' and '.join(missing)}; add a string for each")
    speaker, default = values.get("speaker"), values.get("default", False)
    if not isinstance(default, bool) or not isinstance(speaker, str | None):
        raise UserError(f"{path}: default must be true or false, and speaker a string")
    texts = {name: values[name] for name in TEXT_FIELDS}
    texts |= {"taco": folder / values["taco"], "vocoder": folder / values["vocoder"]}
    return Voice(folder=folder, speaker=speaker, default=default, **texts)


def list_voices(folder: Path = VOICES) -> list[Voice]:
    """Return the voices in `folder`, the default first. Raises UserError if there are none."""
    voices = [read_voice(path.parent) for path in sorted(folder.glob(f"*/{VOICE_FILE}"))]
    if not voices:
        raise UserError(f"{folder} contains no voices; restore it from the repository")
    return sorted(voices, key=lambda voice: not voice.default)


def find_voice(name: str | None = None, folder: Path = VOICES) -> Voice:
    """Return the voice with a name in `folder`, in the folder `name`, or in a repository of the Hub.

    Without `name`, it is the default voice.

    Raises UserError if there is no such voice.
    """
    place = local_folder(name) if name else None
    if place and (place / VOICE_FILE).is_file():
        return read_voice(place)
    voices = list_voices(folder)
    found = next((voice for voice in voices if name in (None, voice.name)), None)
    if found is None:
        names = ", ".join(voice.name for voice in voices)
        raise UserError(
            f"there is no voice {name!r}; choose one of {names}, or name a folder with {VOICE_FILE}"
        )
    return found


def load_voice_tacotron2(voice: Voice, device: torch.device | str = "cpu") -> Tacotron2:
    """Load the Tacotron 2 of a voice in eval mode, reduced to the voice's speaker.

    Raises UserError if the model lacks the speaker, or has several and the voice names none.
    """
    tacotron2 = load_tacotron2(voice.taco, device)
    if voice.speaker:
        return tacotron2.for_speaker(voice.speaker)
    if speakers := tacotron2.config.speakers:
        raise UserError(
            f"{voice.taco} has several speakers; choose one in {VOICE_FILE}, or with inference.py --speaker: "
            + ", ".join(speakers)
        )
    return tacotron2
