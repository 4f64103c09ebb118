"""Dataset of transcripts as tokens and clips as mels, and its batches."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from common.errors import UserError
from corpus.manifest import Clip, Clips
from dataset import read_segment
from mel import MelSpectrogram
from tacotron2.config import Tacotron2Config
from text import PAD_ID, encode_texts, spoken_ids


class TextMelDataset(Dataset):
    """Whole clips with their transcripts, indexed by index or (epoch, index).

    An item is a dict of `tokens` (L,), `mel` (num_mels, T), `speaker` and `name`. `speaker` is the index of
    the clip's speaker in `config.speakers`, or 0 for a model with a single voice. The audio is not scaled.

    Raises UserError, with the first clip's name, for clips that have no words, that are too short for a mel,
    or whose speaker the model lacks.
    """

    def __init__(self, clips: Sequence[Clip], config: Tacotron2Config):
        self.clips, self.config, self.mel = clips, config, MelSpectrogram(config)
        self.spoken = spoken_ids(config.text_input)
        self.encode(clips[0])  # refuses an unknown language before anything is trained
        unsuitable: dict[tuple[str, str], list[str]] = {}
        for clip in clips:
            if problem := self.problem_with(clip):
                unsuitable.setdefault(problem, []).append(clip.path.stem)
        source = f" of {clips.source}" if isinstance(clips, Clips) else ""
        for (problem, remedy), names in unsuitable.items():
            raise UserError(f"{len(names)} clips{source} {problem}, the first {names[0]}; {remedy}")

    def problem_with(self, clip: Clip) -> tuple[str, str] | None:
        """Return why a clip can't be used, and the remedy, or None."""
        speakers = self.config.speakers
        has_letters = any(map(str.isalnum, clip.transcript))  # encoding a million texts takes minutes
        if not has_letters and self.spoken.isdisjoint(self.encode(clip)):
            return "have no words in their normalized_transcript", "add them to the manifest"
        if clip.samples < self.config.min_samples:
            return f"have fewer than {self.config.min_samples} samples and no mel", "remove them"
        if speakers and clip.speaker not in speakers:
            problem = (
                "a speaker that the model lacks"
                if clip.speaker
                else "no speaker in the manifest's column speaker"
            )
            names = ", ".join(speakers)
            return f"have {problem}", f"the model's speakers: {names} (save_taco_mels.py --speaker names one)"
        return None

    def encode(self, clip: Clip) -> list[int]:
        return encode_texts([clip.transcript], self.config)[0]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int] | int) -> dict:
        index = (key if isinstance(key, int) else key[1]) % len(self.clips)
        clip = self.clips[index]
        audio = read_segment(clip, 0, clip.samples, self.config.sampling_rate)
        return {
            "tokens": torch.tensor(self.encode(clip)),
            "mel": self.mel(torch.from_numpy(audio)),
            "speaker": self.config.speakers.index(clip.speaker) if self.config.speakers else 0,
            "name": clip.path.stem,
        }

    @property
    def frames(self) -> np.ndarray:
        """Number of mel frames of each clip (clips,)."""
        return np.fromiter((self.config.num_frames(clip.samples) for clip in self.clips), np.int64)

    def collate(self, items: list[dict]) -> dict[str, Tensor | list[str]]:
        """Return a batch: `tokens` (B, L), `token_lengths` (B,), `mel` (B, num_mels, T), `mel_lengths` (B,),
        `speakers` (B,) and `name`, a list. Tokens are padded with PAD_ID, mels with silence.
        """
        tokens = [item["tokens"] for item in items]
        mels = [item["mel"].T for item in items]
        return {
            "tokens": pad(tokens, PAD_ID),
            "token_lengths": torch.tensor([len(text) for text in tokens]),
            "mel": pad(mels, self.config.silence).transpose(1, 2),
            "mel_lengths": torch.tensor([len(mel) for mel in mels]),
            "speakers": torch.tensor([item["speaker"] for item in items]),
            "name": [item["name"] for item in items],
        }


def pad(values: list[Tensor], fill: float) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=fill)
